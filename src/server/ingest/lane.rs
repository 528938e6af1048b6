//! One sprite's way in: its requests are taken one after another, and those of an original
//! sidecar that come in while a commit is under way share the next one.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sprite_reporter::wire::{EventAck, EventBatch};
use tokio::sync::{oneshot, watch};

use super::{read::Legacy, seen::Seen};
use crate::{
    resource::{Kind, Metadata},
    server::directory::Standing,
};

/// What a sprite asks for.
#[derive(Debug)]
pub(in crate::server) enum Request {
    /// Take these events.
    Events(EventBatch),
    /// Take what an original sidecar says.
    Legacy(Legacy),
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) enum Reply {
    /// It is durable.
    Held(EventAck),
    /// Something is missing in front of it.
    Hole(EventAck),
    /// What an original sidecar said is durable.
    Taken,
    /// Another run speaks for the sprite.
    Superseded,
    /// It cannot be taken, ever.
    Refused(String),
    /// It comes after the end.
    TooLate(String),
    /// It cannot be taken now.
    Unavailable(String),
}

/// A request and who waits for its reply.
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Reply>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Whether a task takes from here; it goes on until nothing waits.
    busy: bool,
}

/// Which inbox stream may speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::server) struct InboxTurn {
    /// The number of the newest connection.
    pub connection: u64,
    /// The newest run that was heard.
    pub run: u32,
}

/// One sprite's way in.
pub(in crate::server) struct Lane {
    uid: String,
    token: String,
    agent_uid: Option<String>,
    standing: watch::Sender<Standing>,
    inbox: watch::Sender<InboxTurn>,
    queue: Mutex<Queue>,
    /// What was seen of the sprite; `None` where it must be read from the store.
    pub(super) seen: tokio::sync::Mutex<Option<Seen>>,
}

impl Lane {
    pub(in crate::server) fn new(metadata: &Metadata, token: String, standing: Standing) -> Self {
        let owner = metadata.controller().filter(|owner| owner.kind == Kind::Agent);
        Self {
            uid: metadata.uid.clone(),
            token,
            agent_uid: owner.map(|owner| owner.uid.clone()),
            standing: watch::Sender::new(standing),
            inbox: watch::Sender::default(),
            queue: Mutex::default(),
            seen: tokio::sync::Mutex::default(),
        }
    }

    /// The sprite's uid.
    pub(in crate::server) fn uid(&self) -> &str {
        &self.uid
    }

    /// The sprite's token.
    pub(in crate::server) fn token(&self) -> &str {
        &self.token
    }

    /// The uid of the Agent that it works for.
    pub(in crate::server) fn agent_uid(&self) -> Option<&str> {
        self.agent_uid.as_deref()
    }

    /// What the sprite may still say.
    pub(in crate::server) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Follows what the sprite may still say.
    pub(in crate::server) fn standings(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Changes what the sprite may still say.
    pub(in crate::server) fn stand(&self, standing: Standing) {
        self.standing.send_replace(standing);
    }

    /// Makes the caller the newest inbox connection; it ends when a newer one comes.
    pub(in crate::server) fn connect(&self) -> (u64, watch::Receiver<InboxTurn>) {
        let mut number = 0;
        self.inbox.send_modify(|turn| {
            turn.connection += 1;
            number = turn.connection;
        });
        (number, self.inbox.subscribe())
    }

    /// Notes which run speaks, so that streams of older ones end.
    pub(super) fn speaks(&self, run: u32) {
        self.inbox.send_if_modified(|turn| {
            let newer = run > turn.run;
            turn.run = turn.run.max(run);
            newer
        });
    }

    /// Puts a request in line. Whoever finds nobody at work must do it: then this is true.
    pub(super) fn enqueue(&self, request: Request) -> (oneshot::Receiver<Reply>, bool) {
        let (reply, answer) = oneshot::channel();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push(Waiting { request, reply });
        (answer, !std::mem::replace(&mut queue.busy, true))
    }

    /// Takes all that waits; nothing means that the work is over.
    pub(super) fn take(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.is_empty() {
            queue.busy = false;
            return None;
        }
        Some(std::mem::take(&mut queue.waiting))
    }

    /// Lets the next request begin anew after work that broke off; whoever waits hears so.
    fn abandon(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.busy = false;
        queue.waiting.clear();
    }
}

/// The right to work on a lane. Work that panics hands it back.
pub(super) struct Work {
    lane: Arc<Lane>,
    done: bool,
}

impl Work {
    pub(super) fn on(lane: Arc<Lane>) -> Self {
        Self { lane, done: false }
    }

    pub(super) fn next(&mut self) -> Option<Vec<Waiting>> {
        let waiting = self.lane.take();
        self.done = waiting.is_none();
        waiting
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.done {
            self.lane.abandon();
        }
    }
}

/// Whether an original sidecar's late words are still taken.
pub(super) fn in_grace(ended: Option<Timestamp>, now: Timestamp) -> bool {
    ended.is_some_and(|ended| crate::ambient::between(ended, now) <= super::LEGACY_GRACE)
}
