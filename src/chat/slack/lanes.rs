//! Lines on their way to the store, apart from the sockets that brought them.
//!
//! A socket is read by one task, which answers each frame before it reads the next one, pongs as
//! well. So what takes long, files above all, happens here, and the reader waits only for so long
//! as its neighbours can bear ([`Hold`]). What is not durable by then stays without an answer: a
//! message Slack brings again, and finds it taken; who typed a command or pressed a button is told
//! by Slack that it took too long, and it is done all the same, for those Slack brings once.
//!
//! The messages of a channel go one after the other, as they came, whichever socket brought them.
//! Commands and presses of a channel, too, but beside the messages: nobody waits for a file to say
//! stop.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    task::JoinSet,
};

use super::{Slack, envelope::Heard, lock};
use crate::chat::Commands;

/// How many lines may be on their way; what comes beyond is left to come again.
const MOST: usize = 1024;

/// Past this many lanes those that are empty are forgotten.
const MANY: usize = 1024;

/// A channel, and whether these are its messages.
type Lane = (String, bool);

/// The lanes. Dropping them stops whatever is in them.
pub(super) struct Lanes {
    slack: Arc<Slack>,
    commands: Arc<Commands>,
    /// What closes when the last line of a lane is done.
    ends: Mutex<HashMap<Lane, oneshot::Receiver<()>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Lanes {
    /// Lanes that lead to the commands.
    pub(super) fn new(slack: &Arc<Slack>, commands: &Arc<Commands>) -> Arc<Self> {
        Arc::new(Self {
            slack: Arc::clone(slack),
            commands: Arc::clone(commands),
            ends: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// Puts a line behind all that came before it in its lane. What comes of it: whether it is
    /// durable.
    pub(super) fn put(&self, heard: Heard) -> oneshot::Receiver<bool> {
        let (taken, is_taken) = oneshot::channel();
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= MOST {
            tracing::warn!(key = heard.key, "too many lines of Slack's are on their way");
            let _ = taken.send(false);
            return is_taken;
        }
        let (end, before) = self.behind((heard.channel.clone(), heard.is_message()));
        let (slack, commands) = (Arc::clone(&self.slack), Arc::clone(&self.commands));
        tasks.spawn(async move {
            let _end = end;
            if let Some(before) = before {
                let _ = before.await;
            }
            let _ = taken.send(slack.take(heard, &commands).await);
        });
        is_taken
    }

    /// The end of a lane: what to drop when done, and what to wait for.
    fn behind(&self, lane: Lane) -> (oneshot::Sender<()>, Option<oneshot::Receiver<()>>) {
        let (end, ended) = oneshot::channel();
        let mut ends = lock(&self.ends);
        if ends.len() >= MANY {
            ends.retain(|_, ended| matches!(ended.try_recv(), Err(TryRecvError::Empty)));
        }
        (end, ends.insert(lane, ended))
    }
}

/// How long the reader of a socket may be held up. Whatever held it up lately counts, and is
/// forgiven as time goes by, so that many slow lines in a row do not add up.
#[derive(Debug, Default)]
pub(super) struct Hold {
    spent: Duration,
    since: Duration,
}

impl Hold {
    /// The longest that messages hold up a reader.
    pub(super) const MESSAGES: Duration = Duration::from_secs(1);
    /// Each line has so much, for what the store alone takes.
    const LEAST: Duration = Duration::from_millis(100);
    /// How long a command or a press may take. Slack gives them 3 s, and some are gone when a
    /// message stood in front.
    pub(super) const COMMAND: Duration = Duration::from_millis(1900);

    /// How long a message may hold up the reader now.
    pub(super) fn left(&self, now: Duration) -> Duration {
        let spent = self.spent.saturating_sub(now.saturating_sub(self.since));
        Self::MESSAGES.saturating_sub(spent).max(Self::LEAST)
    }

    /// A line held it up, from then until then.
    pub(super) fn spend(&mut self, from: Duration, until: Duration) {
        let spent = self.spent.saturating_sub(from.saturating_sub(self.since));
        self.spent = spent + until.saturating_sub(from);
        self.since = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn many_slow_lines_in_a_row_hold_up_a_socket_little_longer_than_one() {
        let mut hold = Hold::default();
        let mut now = 10 * SECOND;
        for _ in 0..10 {
            let until = now + hold.left(now);
            hold.spend(now, until);
            now = until;
        }
        assert_eq!(now - 10 * SECOND, Hold::MESSAGES + 9 * Hold::LEAST);
        assert!(Hold::COMMAND + Hold::MESSAGES < 3 * SECOND, "what Slack gives a command");
        assert_eq!(hold.left(now + 2 * SECOND), Hold::MESSAGES, "it is forgiven");
    }
}
