//! How often something may be done: now and then at once, and no more often than so in the long
//! run. Slack asks for about one message a second in a channel, with short bursts; and whoever
//! dials it too often is shut out.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// Past this many keys those that are at rest are forgotten.
const MANY: usize = 1024;

/// A pace for each key of its own.
#[derive(Debug)]
pub(super) struct Pace<K> {
    /// The time that each one costs.
    each: Duration,
    /// How many may be done at once by whoever did none for long.
    burst: u32,
    /// Until when each key has used up its time.
    used: HashMap<K, Duration>,
}

impl<K: Eq + Hash + Clone> Pace<K> {
    /// One `each` in the long run, and a burst before.
    pub(super) fn new(each: Duration, burst: u32) -> Self {
        Self { each, burst: burst.max(1), used: HashMap::new() }
    }

    /// Takes a turn now, or says how long to wait first.
    pub(super) fn take(&mut self, key: &K, now: Duration) -> Result<(), Duration> {
        self.take_leaving(0, key, now)
    }

    /// The same, and leaves so many of a burst to others.
    pub(super) fn take_leaving(
        &mut self,
        others: u32,
        key: &K,
        now: Duration,
    ) -> Result<(), Duration> {
        let used = self.used.get(key).copied().unwrap_or_default().max(now);
        let slack = self.each * (self.burst - 1).saturating_sub(others);
        if used > now + slack {
            return Err(used - now - slack);
        }
        if self.used.len() >= MANY {
            self.used.retain(|_, used| *used > now);
        }
        self.used.insert(key.clone(), used + self.each);
        Ok(())
    }

    /// Takes the next turn there is, and says how long it is until then.
    pub(super) fn reserve(&mut self, key: &K, now: Duration) -> Duration {
        match self.take(key, now) {
            Ok(()) => Duration::ZERO,
            Err(wait) => {
                let used = self.used.get(key).copied().unwrap_or_default();
                self.used.insert(key.clone(), used + self.each);
                wait
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_and_then_one_a_second() {
        let mut pace = Pace::new(SECOND, 3);
        let mut at = |key: &'static str, now: u64| pace.take(&key, Duration::from_millis(now));
        assert_eq!([at("a", 0), at("a", 0), at("a", 0)], [Ok(()); 3]);
        assert_eq!(at("a", 0), Err(SECOND));
        assert_eq!(at("b", 0), Ok(()), "another channel has its own pace");
        assert_eq!(at("a", 999), Err(Duration::from_millis(1)));
        assert_eq!(at("a", 1000), Ok(()));
        assert_eq!(at("a", 1000), Err(SECOND));
    }

    #[test]
    fn what_is_left_to_others_is_theirs_alone() {
        let mut pace = Pace::new(SECOND, 3);
        assert_eq!(pace.take_leaving(2, &(), Duration::ZERO), Ok(()));
        assert_eq!(pace.take_leaving(2, &(), Duration::ZERO), Err(SECOND));
        assert_eq!([pace.take(&(), Duration::ZERO), pace.take(&(), Duration::ZERO)], [Ok(()); 2]);
        assert_eq!(pace.take(&(), Duration::ZERO), Err(SECOND));
        assert_eq!(pace.take_leaving(2, &(), SECOND), Err(2 * SECOND), "others go first");
        assert_eq!(pace.take(&(), SECOND), Ok(()));
    }

    proptest! {
        #[test]
        fn in_any_time_no_more_pass_than_the_pace_allows(
            waits in prop::collection::vec(0_u64..2000, 1..60), burst in 1_u32..5,
        ) {
            let mut pace = Pace::new(SECOND, burst);
            let mut now = Duration::ZERO;
            let mut passed: Vec<Duration> = Vec::new();
            for wait in waits {
                now += Duration::from_millis(wait);
                match pace.take(&(), now) {
                    Ok(()) => passed.push(now),
                    Err(wait) => prop_assert!(!wait.is_zero()),
                }
            }
            for (first, at) in passed.iter().enumerate() {
                for (last, until) in passed.iter().enumerate().skip(first) {
                    let most = (*until - *at).as_secs() + u64::from(burst);
                    prop_assert!((last - first) as u64 <= most);
                }
            }
        }

        #[test]
        fn what_is_reserved_comes_one_by_one(count in 1_u32..20, burst in 1_u32..5) {
            let mut pace = Pace::new(SECOND, burst);
            for n in 0..count {
                let wait = SECOND * (n + 1).saturating_sub(burst);
                prop_assert_eq!(pace.reserve(&(), Duration::ZERO), wait);
            }
        }
    }
}
