//! An Agent's turns: which of them move now, decided from what there is.
//!
//! | a turn is | and | then |
//! |---|---|---|
//! | queued | somebody cancelled it; the Agent is suspended or deleted | `Cancelled` |
//! | queued | it waited while the sprite could not be started, three times in a row | `Failed` |
//! | queued | it is the first, no turn is open, the sprite takes turns, money is left | `Sent` |
//! | sent | its run is gone and drained | `Queued` again |
//! | running | its run is gone and drained | `Interrupted` |
//! | sent or running | the same, and it was to be cancelled | `Cancelled` |
//! | sent or running | somebody cancelled it, and its run lives | the run is told so, once |
//!
//! What the agent itself says of a turn (that it runs, how it ended) is ingest's to write. A run
//! is only taken for gone once nothing that it said is missing, so that an end that is still on
//! its way wins over everything that could be concluded here.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sprite_reporter::wire::Order;

use super::{
    super::attempt::{is_asleep, is_over, is_stopping, over_since, takes_turns},
    budget::Purse,
};
use crate::{
    resource::{Agent, AgentCli, DEFAULT_TURN_TIMEOUT, ExitReason, Sprite},
    store::{Op, Turn, TurnState},
};

/// So many sprites in a row that could not be started, and whoever waits is told.
pub(super) const GIVE_UP_AFTER: usize = 3;

/// The turns that have not ended, by number, and what they are decided from.
pub(super) struct Queue<'a> {
    pub(super) agent: &'a Agent,
    /// Those that may still work at a turn.
    pub(super) sprites: &'a [&'a Sprite],
    pub(super) open: &'a [Turn],
    pub(super) now: Timestamp,
}

impl Queue<'_> {
    /// Whether a turn was handed out and has not ended.
    pub(super) fn is_busy(&self) -> bool {
        self.open.iter().any(is_out)
    }

    /// The turn that is next, if one waits.
    pub(super) fn head(&self) -> Option<&Turn> {
        self.open.iter().find(|turn| turn.state == TurnState::Queued)
    }

    /// The moves that follow from what has happened. `hopeless` says why the sprite cannot be
    /// started, and when that was seen last.
    pub(super) fn moves(&self, hopeless: Option<&(Timestamp, String)>) -> Vec<Op> {
        self.open.iter().filter_map(|turn| self.moved(turn, hopeless)).collect()
    }

    fn moved(&self, turn: &Turn, hopeless: Option<&(Timestamp, String)>) -> Option<Op> {
        let called_off = self.called_off(turn);
        let (state, message) = match turn.state {
            TurnState::Queued => match (called_off, hopeless) {
                (Some(why), _) => (TurnState::Cancelled, why),
                (None, Some((seen, why))) if turn.created <= *seen => {
                    (TurnState::Failed, format!("the agent cannot be started: {why}"))
                }
                _ => return None,
            },
            TurnState::Sent | TurnState::Running if self.carrier(turn).is_some() => return None,
            TurnState::Sent | TurnState::Running => match (called_off, turn.state) {
                (Some(why), _) => (TurnState::Cancelled, why),
                (None, TurnState::Sent) => return Some(requeue(turn)),
                (None, _) => {
                    let message = "its sprite went away in the middle of it; /od-retry asks again";
                    (TurnState::Interrupted, message.to_owned())
                }
            },
            _ => return None,
        };
        let ended = Turn { state, message, ended: Some(self.now), ..turn.clone() };
        Some(Op::MoveTurn { turn: ended, from: vec![turn.state] })
    }

    /// Why it is to end without an answer, if it is.
    fn called_off(&self, turn: &Turn) -> Option<String> {
        let name = &self.agent.metadata.name;
        if let Some(who) = &turn.cancelled_by {
            Some(format!("cancelled by {who}"))
        } else if self.agent.metadata.is_deleting() {
            Some(format!("the agent {name} was deleted"))
        } else if self.agent.spec.suspend {
            Some(format!("the agent {name} was stopped; /od-start {name} goes on with it"))
        } else {
            None
        }
    }

    /// The sprite whose run works at it, while something of that run is left.
    fn carrier(&self, turn: &Turn) -> Option<&Sprite> {
        let uid = turn.sprite_uid.as_deref()?;
        let found = self.sprites.iter().find(|sprite| sprite.metadata.uid == uid);
        found
            .copied()
            .filter(|sprite| !is_over(sprite) && sprite.spec.run == turn.run && !is_asleep(sprite))
    }

    /// Those that were handed out and are to be cancelled.
    pub(super) fn to_cancel(&self) -> impl Iterator<Item = &Turn> {
        self.open.iter().filter(|turn| is_out(turn) && turn.cancelled_by.is_some())
    }

    /// The orders that bring a wish to cancel to the runs, save those in `told`.
    pub(super) fn cancels(&self, told: &BTreeSet<String>) -> Vec<Op> {
        self.to_cancel()
            .filter(|turn| !told.contains(&turn.id))
            .filter_map(|turn| {
                let carrier = self.carrier(turn).filter(|sprite| !is_stopping(sprite))?;
                let (turn_id, reason) = (Some(turn.id.clone()), ExitReason::Cancelled);
                Some(Op::Order {
                    sprite_uid: carrier.metadata.uid.clone(),
                    run: turn.run,
                    key: format!("cancel/{}", turn.id),
                    order: Order::Cancel { turn: turn_id, reason },
                })
            })
            .collect()
    }

    /// Hands the next turn to a sprite, if one waits and the sprite may have it.
    pub(super) fn send(&self, sprite: &Sprite, purse: &Purse) -> Option<Vec<Op>> {
        if self.is_busy() || !takes_turns(sprite) {
            return None;
        }
        let left = match purse {
            Purse::Spent(_) => return None,
            Purse::Left(left) => Some(*left),
            Purse::Open => None,
        };
        let turn = self.head()?;
        let (sprite_uid, run) = (sprite.metadata.uid.clone(), sprite.spec.run);
        let state = TurnState::Sent;
        let sent = Turn { state, sprite_uid: Some(sprite_uid.clone()), run, ..turn.clone() };
        let limit = self.agent.spec.turn_timeout.unwrap_or(DEFAULT_TURN_TIMEOUT);
        let order = Order::Turn {
            turn: turn.id.clone(),
            text: given(&self.agent.spec.agent, turn),
            attachments: turn.attachments.clone(),
            timeout_ms: Some(limit.as_millis()),
            budget_micro_usd: left,
        };
        let key = format!("turn/{}/{run}", turn.id);
        let from = vec![TurnState::Queued];
        Some(vec![Op::MoveTurn { turn: sent, from }, Op::Order { sprite_uid, run, key, order }])
    }
}

/// What an agent is given of a turn. A shell does what it is given: for it, there is nothing but
/// what the person said.
pub(super) fn given(agent: &AgentCli, turn: &Turn) -> String {
    match agent {
        AgentCli::Command(_) => turn.text.clone(),
        _ => turn.prompt(),
    }
}

/// Whether it was handed out and has not ended.
pub(super) fn is_out(turn: &Turn) -> bool {
    matches!(turn.state, TurnState::Sent | TurnState::Running)
}

/// Nobody has begun with it: it takes its place again.
fn requeue(turn: &Turn) -> Op {
    let waiting = Turn {
        state: TurnState::Queued,
        sprite_uid: None,
        run: 0,
        began: None,
        started: None,
        ..turn.clone()
    };
    Op::MoveTurn { turn: waiting, from: vec![turn.state] }
}

/// Since when and why an Agent's sprites cannot be started, once that has happened often enough.
pub(super) fn hopeless(
    sprites: &[Sprite],
    is_current: impl Fn(&Sprite) -> bool,
) -> Option<(Timestamp, String)> {
    let cannot = |sprite: &&Sprite| {
        let reason = sprite.status.exit.as_ref().map(|exit| exit.reason);
        let start = matches!(reason, Some(ExitReason::StartFailed | ExitReason::WorkspaceFailed));
        start && is_over(sprite) && !is_stopping(sprite) && is_current(sprite)
    };
    let last = sprites.iter().rfind(|sprite| is_over(sprite))?;
    let in_a_row = sprites.iter().rev().filter(|it| is_over(it)).take_while(cannot).count();
    if in_a_row < GIVE_UP_AFTER {
        return None;
    }
    let message = last.status.exit.as_ref().map(|exit| exit.message.clone()).unwrap_or_default();
    Some((over_since(last)?, message))
}
