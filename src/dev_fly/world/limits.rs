//! Fly's published rate limits: one call a second per action and identifier with a burst of three;
//! Get Machine five a second with a burst of ten; app deletions 100 a minute. [doc]

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

use crate::{
    ambient::{between, later},
    dev_fly::call::{Action, Call},
};

/// The buckets: for each the time at which it will be full again.
#[derive(Debug, Default)]
pub(super) struct Buckets(HashMap<(Action, String), Timestamp>);

/// How much time a call takes off a bucket, and how much time a full bucket holds.
const fn rate(action: Action) -> Option<(Duration, Duration)> {
    match action {
        Action::Get => Some((Duration::from_millis(200), Duration::from_secs(2))),
        Action::AppDestroy => Some((Duration::from_millis(600), Duration::from_secs(60))),
        Action::Regions | Action::Unknown => None,
        _ => Some((Duration::from_secs(1), Duration::from_secs(3))),
    }
}

impl Buckets {
    /// Takes a token; false where there is none.
    pub(super) fn take(&mut self, call: &Call, now: Timestamp) -> bool {
        let Some((step, depth)) = rate(call.action) else { return true };
        let name = if call.id.is_empty() { &call.app } else { &call.id };
        if self.0.len() > 50_000 {
            self.0.retain(|_, full| *full > now);
        }
        let full = self.0.entry((call.action, name.clone())).or_insert(now);
        let next = later((*full).max(now), step);
        if between(now, next) > depth {
            return false;
        }
        *full = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(path: &str, method: &str) -> Call {
        Call::read(method, path)
    }

    fn taken(buckets: &mut Buckets, call: &Call, now: Timestamp, tries: usize) -> usize {
        (0..tries).filter(|_| buckets.take(call, now)).count()
    }

    #[test]
    fn three_at_once_then_one_a_second() {
        let mut buckets = Buckets::default();
        let create = call("/v1/apps/a/machines", "POST");
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(taken(&mut buckets, &create, now, 9), 3);
        assert_eq!(taken(&mut buckets, &create, later(now, Duration::from_millis(900)), 9), 0);
        assert_eq!(taken(&mut buckets, &create, later(now, Duration::from_secs(1)), 9), 1);
        assert_eq!(taken(&mut buckets, &create, later(now, Duration::from_secs(60)), 9), 3);
    }

    #[test]
    fn actions_and_machines_have_buckets_of_their_own_and_reads_a_deeper_one() {
        let mut buckets = Buckets::default();
        let now = Timestamp::UNIX_EPOCH;
        let path = |id: &str, verb: &str| format!("/v1/apps/a/machines/{id}{verb}");
        assert_eq!(taken(&mut buckets, &call(&path("m1", "/start"), "POST"), now, 9), 3);
        assert_eq!(taken(&mut buckets, &call(&path("m2", "/start"), "POST"), now, 9), 3);
        assert_eq!(taken(&mut buckets, &call(&path("m1", "/stop"), "POST"), now, 9), 3);
        assert_eq!(taken(&mut buckets, &call(&path("m1", ""), "GET"), now, 99), 10);
        assert_eq!(taken(&mut buckets, &call("/v1/platform/regions", "GET"), now, 99), 99);
    }

    proptest! {
        /// Whoever calls whenever: within any span no more pass than burst and rate allow.
        #[test]
        fn no_pattern_of_calls_beats_the_rate(gaps in prop::collection::vec(0_u64..1500, 1..80)) {
            let mut buckets = Buckets::default();
            let create = call("/v1/apps/a/machines", "POST");
            let mut now = Timestamp::UNIX_EPOCH;
            let mut passed = Vec::new();
            for gap in gaps {
                now = later(now, Duration::from_millis(gap));
                if buckets.take(&create, now) {
                    passed.push(now);
                }
            }
            for (n, from) in passed.iter().enumerate() {
                for (more, to) in passed[n..].iter().enumerate() {
                    prop_assert!((more + 1) as u64 <= 3 + between(*from, *to).as_secs());
                }
            }
        }
    }
}
