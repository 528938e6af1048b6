//! Where an Agent stands, in one word, and how that reads in its conditions.

use jiff::Timestamp;

use super::{super::words, budget::Purse};
use crate::resource::{
    Agent, AgentStatus,
    ConditionStatus::{False, True},
    Sprite,
};

/// What there is to say of a Sprite that works and is made of an earlier spec.
const AFTER_ITS_TURN: &str = "its sprite is of an earlier spec, and is replaced after its turn";

/// Where an Agent stands; its conditions and its phase follow.
#[derive(Debug)]
pub(super) enum Stand<'a> {
    /// Suspended, and nothing of it is left.
    Suspended,
    /// Suspended, and its Sprite is on its way out.
    Suspending,
    /// Its Sprite is on its way out, and another will come.
    Replacing,
    /// Its Sprite is on its way in, or works.
    Live {
        sprite: &'a Sprite,
        /// A turn was handed out, also the one that is handed out now.
        busy: bool,
        /// It is made of an earlier spec, and another takes its place once no turn is open.
        outdated: bool,
    },
    /// Its Sprite was told to sleep.
    FallingAsleep,
    /// Its Sprite sleeps.
    Asleep,
    /// It has no Sprite, and needs none until a turn comes.
    Resting,
    /// Its Sprite is woken.
    Waking,
    /// The next Sprite waits for a time, and this is why.
    BackingOff(String),
    /// The next Sprite is made now.
    Creating,
}

/// What a stand says: whether it takes turns, what it is on its way to, and a word for people.
struct Reading {
    ready: Result<&'static str, &'static str>,
    progress: Option<&'static str>,
    phase: &'static str,
}

fn reading(stand: &Stand<'_>) -> Reading {
    let (ready, progress, phase) = match stand {
        Stand::Suspended => (Err(words::SUSPENDED), None, "Suspended"),
        Stand::Suspending => (Err(words::SUSPENDED), Some(words::SUSPENDED), "Suspended"),
        Stand::Replacing => (Err(words::REPLACING), Some(words::REPLACING), "Starting"),
        Stand::BackingOff(_) => (Err(words::BACKING_OFF), Some(words::BACKING_OFF), "Failing"),
        Stand::Creating => (Err(words::STARTING), Some(words::STARTING), "Pending"),
        Stand::FallingAsleep => (Ok(words::ASLEEP), Some(words::SLEEP_ORDERED), "Asleep"),
        Stand::Asleep => (Ok(words::ASLEEP), None, "Asleep"),
        Stand::Resting => (Ok(words::ABANDONED), None, "Asleep"),
        Stand::Waking => (Err(words::WAKING), Some(words::WAKING), "Starting"),
        Stand::Live { sprite, busy, outdated } => {
            let shown = &sprite.status.conditions;
            match (shown.is_true(words::READY), shown.is_true(words::ADMITTED)) {
                // It works, and what it was told since is still to come: whoever waits for that, a
                // Fleet for one, must not take it for done.
                (true, _) if *outdated => (Ok(words::WORKING), Some(words::REPLACING), "Busy"),
                (false, _) if *outdated => (Err(words::STARTING), Some(words::REPLACING), "Busy"),
                (true, _) if *busy => (Ok(words::WORKING), None, "Busy"),
                (true, _) => (Ok(words::AGENT_READY), None, "Idle"),
                (false, _) if *busy => (Err(words::STARTING), Some(words::STARTING), "Busy"),
                (false, true) => (Err(words::STARTING), Some(words::STARTING), "Starting"),
                (false, false) => (Err(words::WAITING), Some(words::WAITING), "Pending"),
            }
        }
    };
    Reading { ready, progress, phase }
}

/// Writes conditions and phase.
pub(super) fn dress(
    status: &mut AgentStatus,
    stand: &Stand<'_>,
    purse: &Purse,
    agent: &Agent,
    now: Timestamp,
) {
    let generation = agent.metadata.generation;
    let Reading { ready, progress, phase } = reading(stand);
    let conditions = &mut status.conditions;
    match ready {
        Ok(reason) => conditions.set(words::READY, True, reason, "", generation, now),
        Err(reason) => conditions.set(words::READY, False, reason, "", generation, now),
    }
    match progress {
        Some(reason) => {
            let message = match stand {
                Stand::Live { outdated: true, .. } => AFTER_ITS_TURN,
                _ => "",
            };
            conditions.set(words::RECONCILING, True, reason, message, generation, now);
        }
        None => {
            conditions.set(words::RECONCILING, False, words::SETTLED, "", generation, now);
        }
    }
    match hindrance(stand) {
        Some((reason, message)) => {
            conditions.set(words::STALLED, True, &reason, message, generation, now);
        }
        None => conditions.remove(words::STALLED),
    }
    match purse {
        Purse::Spent(message) => {
            let (kind, reason) = (words::BUDGET_SPENT, words::BUDGET_SPENT);
            conditions.set(kind, True, reason, message.clone(), generation, now);
        }
        Purse::Open | Purse::Left(_) => conditions.remove(words::BUDGET_SPENT),
    }
    match asked(stand) {
        Some(message) => {
            let kind = words::WAITING_FOR_APPROVAL;
            conditions.set(kind, True, words::ASKED, message, generation, now);
        }
        None => conditions.remove(words::WAITING_FOR_APPROVAL),
    }
    phase.clone_into(&mut status.phase);
}

/// What keeps it, and needs somebody.
fn hindrance(stand: &Stand<'_>) -> Option<(String, String)> {
    match stand {
        Stand::BackingOff(why) => Some((words::BACKING_OFF.to_owned(), why.clone())),
        Stand::Live { sprite, .. } => {
            let stalled = sprite.status.conditions.get(words::STALLED)?;
            (stalled.status == True).then(|| (stalled.reason.clone(), stalled.message.clone()))
        }
        _ => None,
    }
}

/// What its Sprite asks for.
fn asked(stand: &Stand<'_>) -> Option<String> {
    let Stand::Live { sprite, .. } = stand else { return None };
    let asked = sprite.status.conditions.get(words::WAITING_FOR_APPROVAL)?;
    (asked.status == True).then(|| asked.message.clone())
}
