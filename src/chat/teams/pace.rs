//! When the next call may be made. Pure: time is handed in.
//!
//! Teams takes so many calls of a bot in one conversation (a chat with one person, a group chat, or
//! a channel with all its threads), and so many of an app in a tenant; whoever makes more gets
//! HTTP 429. The figures are Microsoft's, as of its page on rate limits of bots; they have moved
//! before, so a 429 still shuts its conversation for as long as it says.
//!
//! **Who goes first.** Frames of an answer that is still being made are worth the least: the next one
//! says all that this one would have said. So they leave a part of each limit to what ends a
//! message or asks something, and that leaves a part to new messages. Nobody waits in a queue here:
//! whoever is told to wait makes what is newest by then.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// What a call is for, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A new message.
    Post,
    /// What ends a message, or has buttons that somebody waits for.
    Last,
    /// A frame of a message to which more comes.
    Frame,
}

/// So many calls within a time.
#[derive(Debug)]
struct Limit {
    most: usize,
    within: Duration,
    /// How many of them are left to new messages.
    posts: usize,
    /// How many of them frames leave to all else.
    others: usize,
}

/// The published limits of a bot in a conversation, the shortest first.
const CONVERSATION: [Limit; 4] = [
    Limit { most: 7, within: Duration::from_secs(1), posts: 1, others: 3 },
    Limit { most: 8, within: Duration::from_secs(2), posts: 1, others: 3 },
    Limit { most: 60, within: Duration::from_secs(30), posts: 5, others: 15 },
    Limit { most: 1800, within: Duration::from_secs(3600), posts: 60, others: 300 },
];
/// The published limit of an app in a tenant: the older of two figures, which are 30 and 50.
const TENANT: [Limit; 1] =
    [Limit { most: 30, within: Duration::from_secs(1), posts: 3, others: 8 }];
/// By how much calls may come closer together on their way to Teams than they were made.
const JITTER: Duration = Duration::from_millis(250);
/// Past this many conversations those that are at rest are forgotten.
const MANY: usize = 1024;

impl Limit {
    /// How many calls of a kind fit.
    fn most(&self, turn: Turn) -> usize {
        match turn {
            Turn::Post => self.most,
            Turn::Last => self.most - self.posts,
            Turn::Frame => self.most - self.others,
        }
    }
}

/// The calls that count yet, and until when none may be made.
#[derive(Debug, Default)]
struct Made {
    calls: VecDeque<Duration>,
    shut: Duration,
}

impl Made {
    /// How long until a call fits, as things stand.
    fn wait(&self, limits: &[Limit], turn: Turn, now: Duration) -> Duration {
        let shut = self.shut.saturating_sub(now);
        let waits = limits.iter().filter_map(|limit| {
            // The call that must be over before one more fits.
            let before = self.calls.len().checked_sub(limit.most(turn))?;
            let over = *self.calls.get(before)? + limit.within + JITTER;
            Some(over.saturating_sub(now))
        });
        waits.fold(shut, Duration::max)
    }

    fn note(&mut self, limits: &[Limit], now: Duration) {
        let longest = limits.iter().map(|limit| limit.within).max().unwrap_or_default() + JITTER;
        while self.calls.front().is_some_and(|first| *first + longest <= now) {
            self.calls.pop_front();
        }
        self.calls.push_back(now);
    }

    fn is_at_rest(&self, now: Duration) -> bool {
        let hour = Duration::from_secs(3600) + JITTER;
        self.shut <= now && self.calls.back().is_none_or(|last| *last + hour <= now)
    }
}

/// The calls of all conversations.
#[derive(Debug, Default)]
pub struct Pace {
    tenant: Made,
    conversations: HashMap<String, Made>,
}

impl Pace {
    /// How long to wait before a call, if at all; nothing is counted.
    ///
    /// # Errors
    /// The time to wait.
    pub fn may(&self, conversation: &str, turn: Turn, now: Duration) -> Result<(), Duration> {
        let there = self.conversations.get(whole(conversation));
        let there = there.map_or(Duration::ZERO, |made| made.wait(&CONVERSATION, turn, now));
        let wait = there.max(self.tenant.wait(&TENANT, turn, now));
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Takes a turn for a call now, or says how long to wait first.
    ///
    /// # Errors
    /// The time to wait; nothing is counted.
    pub fn take(&mut self, conversation: &str, turn: Turn, now: Duration) -> Result<(), Duration> {
        self.may(conversation, turn, now)?;
        self.note(conversation, now);
        Ok(())
    }

    /// Counts a call that is made whatever the pace.
    pub fn note(&mut self, conversation: &str, now: Duration) {
        self.tenant.note(&TENANT, now);
        self.made(conversation, now).note(&CONVERSATION, now);
    }

    /// Teams says that there were too many calls in a conversation, and how long to wait.
    pub fn too_many(&mut self, conversation: &str, wait: Duration, now: Duration) {
        let made = self.made(conversation, now);
        made.shut = made.shut.max(now + wait);
    }

    fn made(&mut self, conversation: &str, now: Duration) -> &mut Made {
        if self.conversations.len() >= MANY {
            self.conversations.retain(|_, made| !made.is_at_rest(now));
        }
        self.conversations.entry(whole(conversation).to_owned()).or_default()
    }
}

/// A conversation without its thread: Teams counts by the whole channel.
fn whole(conversation: &str) -> &str {
    conversation.split_once(";messageid=").map_or(conversation, |(channel, _)| channel)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(10_000);

    /// Calls of one kind at one instant, until one is to wait.
    fn at_once(pace: &mut Pace, turn: Turn, now: Duration) -> usize {
        (0..).take_while(|_| pace.take("a:1", turn, now).is_ok()).count()
    }

    #[test]
    fn frames_leave_room_for_ends_and_ends_for_new_messages() {
        let mut pace = Pace::default();
        assert_eq!(at_once(&mut pace, Turn::Frame, NOW), 4);
        assert_eq!(at_once(&mut pace, Turn::Last, NOW), 2);
        assert_eq!(at_once(&mut pace, Turn::Post, NOW), 1);
        let wait = pace.may("a:1", Turn::Post, NOW).unwrap_err();
        assert_eq!(wait, Duration::from_millis(1250));
        assert_eq!(pace.may("a:2", Turn::Frame, NOW), Ok(()), "another has a pace of its own");
        let later = NOW + wait;
        assert_eq!(at_once(&mut pace, Turn::Frame, later), 0);
        assert_eq!(at_once(&mut pace, Turn::Post, later), 1, "eight within two seconds");
    }

    #[test]
    fn the_threads_of_a_channel_share_its_pace() {
        let mut pace = Pace::default();
        for n in 0..7 {
            let thread = format!("19:c@thread.tacv2;messageid={n}");
            assert_eq!(pace.take(&thread, Turn::Post, NOW), Ok(()));
        }
        assert!(pace.take("19:c@thread.tacv2", Turn::Post, NOW).is_err());
        assert_eq!(pace.conversations.len(), 1);
    }

    #[test]
    fn a_refusal_shuts_its_conversation_and_no_other() {
        let mut pace = Pace::default();
        pace.too_many("a:1", Duration::from_secs(9), NOW);
        pace.too_many("a:1", Duration::from_secs(2), NOW);
        assert_eq!(pace.may("a:1", Turn::Post, NOW), Err(Duration::from_secs(9)));
        assert_eq!(pace.may("a:2", Turn::Post, NOW), Ok(()));
        assert_eq!(pace.may("a:1", Turn::Post, NOW + Duration::from_secs(9)), Ok(()));
    }

    #[test]
    fn an_app_makes_no_more_calls_in_a_tenant_than_either_figure_allows() {
        let mut pace = Pace::default();
        let made = |turn, pace: &mut Pace| {
            (0..100).filter(|n| pace.take(&format!("a:{n}"), turn, NOW).is_ok()).count()
        };
        assert_eq!(made(Turn::Frame, &mut pace), 22);
        assert_eq!(made(Turn::Post, &mut pace), 8);
        assert_eq!(pace.may("b", Turn::Post, NOW), Err(Duration::from_millis(1250)));
    }

    #[test]
    fn conversations_at_rest_are_forgotten() {
        let mut pace = Pace::default();
        for n in 0..MANY {
            pace.note(&format!("a:{n}"), NOW);
        }
        pace.note("b", NOW + Duration::from_secs(3602));
        assert_eq!(pace.conversations.len(), 1);
    }

    fn turn() -> impl Strategy<Value = Turn> {
        prop_oneof![Just(Turn::Post), Just(Turn::Last), Just(Turn::Frame)]
    }

    proptest! {
        /// Whoever waits as told comes through at last, and stays within each published limit,
        /// whichever instant it is counted from and however calls bunch up on their way.
        #[test]
        fn no_published_limit_is_ever_passed(
            calls in prop::collection::vec((turn(), 0_u64..900, 0_u64..250), 1..400),
        ) {
            let mut pace = Pace::default();
            let (mut now, mut arrived) = (NOW, Vec::new());
            for (turn, pause, way) in calls {
                now += Duration::from_millis(pause);
                let mut waits = 0;
                while let Err(wait) = pace.take("a:1", turn, now) {
                    prop_assert!(!wait.is_zero());
                    now += wait;
                    waits += 1;
                    prop_assert!(waits < 10, "whoever waits as told comes through");
                }
                arrived.push(now + Duration::from_millis(way));
            }
            arrived.sort_unstable();
            for limit in CONVERSATION.iter().chain(&TENANT) {
                for window in arrived.windows(limit.most + 1) {
                    prop_assert!(window[limit.most] - window[0] >= limit.within, "{limit:?}");
                }
            }
        }
    }
}
