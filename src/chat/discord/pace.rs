//! When the next call may be made. Pure: time is handed in.
//!
//! Discord counts calls in buckets. Which routes share one, and how many calls are left, stands
//! in the headers of each answer; the same route in another channel is another bucket. Beside
//! them there are 50 calls in a second for all of a bot, from which answers to interactions are
//! exempt, and a ban for an address that makes 10,000 calls within 10 minutes which are refused
//! with 401, 403 or 429. The figures are Discord's, as of its page on rate limits.

use std::{collections::HashMap, time::Duration};

/// Calls in a second, of the 50 that there are.
const PER_SECOND: u32 = 45;
/// Refused calls in a window, of the 10,000 that there are.
const REFUSED: u32 = 5_000;
/// The window in which they are counted.
const REFUSED_WITHIN: Duration = Duration::from_secs(600);
/// How many buckets are kept before old ones go.
const BUCKETS: usize = 4_096;

/// What calls share a bucket: the route without its ids, and the id that tells buckets apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Route {
    /// Such as `PATCH channels/messages`.
    pub(super) name: &'static str,
    /// The channel, the guild, or the interaction's token.
    pub(super) major: String,
}

/// What an answer says of its bucket.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// The bucket's name.
    pub(super) bucket: String,
    /// How many calls are left.
    pub(super) remaining: u32,
    /// When there are all of them again.
    pub(super) reset_after: Duration,
}

/// Whose limit a call was beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The route's own.
    Bucket,
    /// The bot's, for all routes but answers to interactions.
    Bot,
    /// That of the address which we come from: told by what stands in front of Discord.
    Address,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    remaining: u32,
    reset: Duration,
}

/// All that is known of the limits.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// The bucket's name of each route.
    names: HashMap<&'static str, String>,
    /// Each bucket, by its name and what tells it apart.
    buckets: HashMap<(String, String), Bucket>,
    /// Until when the bot may ask nothing.
    shut: Duration,
    /// Until when nobody at our address may ask anything.
    closed: Duration,
    /// The second that is counted, and the calls in it.
    second: (Duration, u32),
    /// The window in which refused calls are counted, and how many.
    refused: (Duration, u32),
}

impl Limits {
    /// Takes a place for a call; or says how long to wait before asking again.
    pub(super) fn take(
        &mut self,
        route: &Route,
        exempt: bool,
        now: Duration,
    ) -> Result<(), Duration> {
        if let Some(wait) = self.refused_for(now) {
            return Err(wait);
        }
        let until = if exempt { self.closed } else { self.closed.max(self.shut) };
        if until > now {
            return Err(until - now);
        }
        if now >= self.second.0 + Duration::from_secs(1) {
            self.second = (now, 0);
        }
        if !exempt && self.second.1 >= PER_SECOND {
            return Err(self.second.0 + Duration::from_secs(1) - now);
        }
        let key = self.key(route);
        if let Some(bucket) = self.buckets.get_mut(&key) {
            if bucket.reset <= now {
                self.buckets.remove(&key);
            } else if bucket.remaining == 0 {
                return Err(bucket.reset - now);
            } else {
                bucket.remaining -= 1;
            }
        }
        if !exempt {
            self.second.1 += 1;
        }
        Ok(())
    }

    /// Takes over what an answer says.
    pub(super) fn told(&mut self, route: &Route, told: Told, now: Duration) {
        if self.buckets.len() >= BUCKETS {
            self.buckets.retain(|_, bucket| bucket.reset > now);
        }
        let reset = now + told.reset_after;
        let known = self.names.insert(route.name, told.bucket.clone());
        let is_same = known.as_ref() == Some(&told.bucket);
        let key = (told.bucket, route.major.clone());
        // Answers overtake each other: what is left only falls until the bucket is full again.
        let bucket = match self.buckets.get(&key) {
            // And one that came before a refusal does not end the wait that the refusal named.
            Some(bucket) if is_same && bucket.reset > now => Bucket {
                remaining: bucket.remaining.min(told.remaining),
                reset: bucket.reset.max(reset),
            },
            _ => Bucket { remaining: told.remaining, reset },
        };
        self.buckets.insert(key, bucket);
    }

    /// Takes over that a call was too much.
    pub(super) fn too_many(&mut self, route: &Route, wait: Duration, whose: Whose, now: Duration) {
        match whose {
            Whose::Bucket => {
                let key = self.key(route);
                self.buckets.insert(key, Bucket { remaining: 0, reset: now + wait });
            }
            Whose::Bot => self.shut = self.shut.max(now + wait),
            Whose::Address => self.closed = self.closed.max(now + wait),
        }
    }

    /// Counts a call that was refused with 401, 403, or 429 in the bot's own right.
    pub(super) fn refused(&mut self, now: Duration) {
        if now >= self.refused.0 + REFUSED_WITHIN {
            self.refused = (now, 0);
        }
        self.refused.1 += 1;
    }

    fn refused_for(&self, now: Duration) -> Option<Duration> {
        let end = self.refused.0 + REFUSED_WITHIN;
        (self.refused.1 >= REFUSED && now < end).then(|| end - now)
    }

    fn key(&self, route: &Route) -> (String, String) {
        let name = self.names.get(route.name).map_or(route.name, String::as_str);
        (name.to_owned(), route.major.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(name: &'static str, major: &str) -> Route {
        Route { name, major: major.into() }
    }

    fn told(remaining: u32, ms: u64) -> Told {
        Told { bucket: "b".into(), remaining, reset_after: Duration::from_millis(ms) }
    }

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn an_empty_bucket_holds_its_own_channel_and_no_other() {
        let mut limits = Limits::default();
        let (here, there) = (route("POST", "1"), route("POST", "2"));
        limits.take(&here, false, NOW).unwrap();
        limits.told(&here, told(0, 700), NOW);
        assert_eq!(limits.take(&here, false, NOW), Err(Duration::from_millis(700)));
        assert_eq!(limits.take(&there, false, NOW), Ok(()));
        assert_eq!(limits.take(&here, false, NOW + Duration::from_millis(700)), Ok(()));
    }

    #[test]
    fn an_answer_from_before_a_refusal_does_not_end_the_wait_that_it_named() {
        let mut limits = Limits::default();
        let route = route("A", "1");
        limits.told(&route, told(4, 500), NOW);
        limits.too_many(&route, Duration::from_secs(7), Whose::Bucket, NOW);
        limits.told(&route, told(3, 500), NOW);
        assert_eq!(limits.take(&route, false, NOW), Err(Duration::from_secs(7)));
    }

    #[test]
    fn routes_that_share_a_bucket_wait_together() {
        let mut limits = Limits::default();
        limits.told(&route("A", "1"), told(5, 100), NOW);
        limits.told(&route("B", "1"), told(0, 900), NOW);
        assert_eq!(limits.take(&route("A", "1"), false, NOW), Err(Duration::from_millis(900)));
    }

    #[test]
    fn a_global_stop_holds_all_but_answers_to_interactions() {
        let mut limits = Limits::default();
        let route = route("A", "1");
        limits.too_many(&route, Duration::from_secs(3), Whose::Bot, NOW);
        assert_eq!(limits.take(&route, false, NOW), Err(Duration::from_secs(3)));
        assert_eq!(limits.take(&route, true, NOW), Ok(()));
        // A stop of the whole address holds those, too.
        limits.too_many(&route, Duration::from_secs(2), Whose::Address, NOW);
        assert_eq!(limits.take(&route, true, NOW), Err(Duration::from_secs(2)));
        assert_eq!(limits.take(&route, false, NOW), Err(Duration::from_secs(3)));
    }

    #[test]
    fn an_address_that_would_be_banned_falls_silent_in_time() {
        let mut limits = Limits::default();
        for _ in 0..REFUSED {
            assert_eq!(limits.take(&route("A", "1"), true, NOW), Ok(()));
            limits.refused(NOW);
        }
        assert_eq!(limits.take(&route("A", "1"), true, NOW), Err(REFUSED_WITHIN));
        assert_eq!(limits.take(&route("A", "1"), true, NOW + REFUSED_WITHIN), Ok(()));
    }

    proptest! {
        /// Whoever waits as told never makes more than 50 calls in any second.
        #[test]
        fn fifty_calls_in_a_second_are_never_exceeded(steps in prop::collection::vec(0_u64..40, 1..400)) {
            let mut limits = Limits::default();
            let (mut now, mut made) = (NOW, Vec::<Duration>::new());
            for step in steps {
                now += Duration::from_millis(step);
                while let Err(wait) = limits.take(&route("A", "1"), false, now) {
                    prop_assert!(wait > Duration::ZERO);
                    now += wait;
                }
                made.push(now);
            }
            // In windows as Discord counts them: from the first call on.
            let mut start = made[0];
            let mut count = 0;
            for at in made {
                if at >= start + Duration::from_secs(1) {
                    (start, count) = (at, 0);
                }
                count += 1;
                prop_assert!(count <= 50);
            }
        }
    }
}
