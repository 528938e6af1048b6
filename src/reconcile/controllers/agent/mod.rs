//! Agents: one live Sprite at most, remade when its making has changed, asleep while nobody speaks
//! to it; and a queue of turns, which are handed to it one after another.

mod afresh;
mod budget;
mod plan;
mod stand;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turn_tests;
mod turns;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use sprite_reporter::wire::Order;

pub(super) use plan::sprite_of;
use plan::{Action, View, plan};
use turns::is_out;

use super::{
    hands::{Hands, next_at, write},
    history::{event, told},
    job::{delete, owners},
    words,
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{Agent, AgentStatus, AnyObject, FINALIZER_SPRITES, Kind, Sprite},
    store::{ApprovalState, Bell, Change, Op, Part, Store, Turn},
};

/// Makes Sprites of Agents, and hands them their turns. Its keys are the Agents' uids.
pub struct AgentController {
    hands: Hands,
}

impl AgentController {
    /// A controller over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient) -> Self {
        Self { hands: Hands { store, ambient } }
    }

    async fn act(&self, agent: &Agent, action: Action) -> Result<(), Error> {
        let hands = &self.hands;
        match action {
            Action::AddFinalizer => {
                let mut agent = agent.clone();
                agent.metadata.finalizers.push(FINALIZER_SPRITES.to_owned());
                hands.commit("agent.add-finalizer", vec![write(agent, Part::Finalizers)]).await
            }
            Action::CreateSprite(mut sprite, status) => {
                sprite.metadata.uid = hands.ambient.ids.uid();
                let note = format!("made sprite {}", sprite.metadata.name);
                let told = event(Kind::Agent, &agent.metadata, false, words::SPRITE_CREATED, note);
                let noted = status_of(agent, *status);
                let open = hands.store.open_turns(&agent.metadata.uid).await?;
                let notice = afresh::notice(agent, &sprite, &open, &hands.ambient);
                let mut ops = vec![Op::Create(AnyObject::Sprite(sprite)), noted, told];
                ops.extend(notice);
                hands.commit("agent.create-sprite", ops).await
            }
            Action::MoveTurns(moves) => hands.commit("agent.move-turns", moves).await,
            Action::CancelTurns(orders) => hands.commit("agent.cancel-turns", orders).await,
            Action::SendTurn(mut ops, status) => {
                // Whatever a person changes at this moment, only one of the two is done.
                ops.push(status_of(agent, *status));
                hands.commit("agent.send-turn", ops).await
            }
            Action::SleepSprite(sprite) => {
                let ops = vec![unchanged(agent), write(*sprite, Part::Desired)];
                hands.commit("agent.put-to-sleep", ops).await
            }
            Action::WakeSprite(sprite) => {
                let open = hands.store.open_turns(&agent.metadata.uid).await?;
                let notice = afresh::notice(agent, &sprite, &open, &hands.ambient);
                let mut ops = vec![unchanged(agent), write(*sprite, Part::Desired)];
                ops.extend(notice);
                hands.commit("agent.wake-sprite", ops).await
            }
            Action::StopSprite(sprite) => {
                hands.commit("agent.stop-sprite", vec![write(*sprite, Part::Desired)]).await
            }
            Action::DeleteSprite(sprite) => {
                let op = delete(Kind::Sprite, &sprite.metadata);
                hands.commit("agent.delete-sprite", vec![op]).await
            }
            Action::WriteStatus(status) => {
                let (before, after) = (&agent.status.conditions, &status.conditions);
                let mut ops = told(Kind::Agent, &agent.metadata, before, after);
                ops.push(status_of(agent, *status));
                hands.commit("agent.write-status", ops).await
            }
            Action::DropFinalizer => {
                let mut agent = agent.clone();
                agent.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER_SPRITES);
                hands.commit("agent.drop-finalizer", vec![write(agent, Part::Finalizers)]).await
            }
        }
    }

    /// The turns of which a run was told that they are cancelled.
    async fn told(&self, open: &[Turn]) -> Result<BTreeSet<String>, Error> {
        let mut told = BTreeSet::new();
        for turn in open.iter().filter(|turn| is_out(turn) && turn.cancelled_by.is_some()) {
            let Some(uid) = &turn.sprite_uid else { continue };
            let rows = self.hands.store.inbox(uid, 0).await?;
            told.extend(rows.into_iter().filter_map(|row| match row.order {
                Order::Cancel { turn, .. } => turn,
                _ => None,
            }));
        }
        Ok(told)
    }

    /// Whether a Sprite waits for an answer. Only asked where nothing else keeps it awake.
    async fn asks(&self, sprites: &[Sprite], open: &[Turn]) -> Result<bool, Error> {
        let Some(sprite) = sprites.last().filter(|_| open.is_empty()) else { return Ok(false) };
        let approvals = self.hands.store.approvals(&sprite.metadata.uid).await?;
        Ok(approvals.iter().any(|approval| approval.state == ApprovalState::Pending))
    }
}

fn status_of(agent: &Agent, status: AgentStatus) -> Op {
    write(Agent { status, ..agent.clone() }, Part::Status)
}

/// Writes nothing, and fails where somebody else has.
fn unchanged(agent: &Agent) -> Op {
    write(agent.clone(), Part::Status)
}

#[async_trait]
impl Controller for AgentController {
    fn name(&self) -> &'static str {
        "agent"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        owners(Kind::Agent, change)
    }

    fn hears(&self, bell: &Bell) -> Vec<(String, Wake)> {
        match bell {
            // A person has said something, or waits for what comes next.
            Bell::Turns(uid) => vec![(uid.clone(), Wake::User)],
            _ => Vec::new(),
        }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let agents = self.hands.all(Kind::Agent).await?;
        let mut keys: Vec<_> = agents
            .into_iter()
            .filter_map(AnyObject::into_agent)
            .map(|agent| (rank(&agent), agent.metadata.uid))
            .collect();
        keys.sort_by_key(|((_, place), _)| *place);
        Ok(keys.into_iter().map(|((wake, _), key)| (key, wake)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let agent = self.hands.store.get_by_uid(Kind::Agent, key).await?;
        let Some(agent) = agent.and_then(AnyObject::into_agent) else { return Ok(Next::Done) };
        // The turns after the Sprites: what a Sprite that is over said of its turns is held by then.
        let sprites = self.hands.sprites_of(key).await?;
        let open = self.hands.store.open_turns(key).await?;
        let sums = self.hands.store.turn_sums(key).await?;
        let told = self.told(&open).await?;
        let asks = self.asks(&sprites, &open).await?;
        let now = self.hands.now();
        let plan = plan(&View {
            agent: &agent,
            sprites: &sprites,
            open: &open,
            sums: &sums,
            told: &told,
            asks,
            now,
        });
        let acted = !plan.actions.is_empty();
        for action in plan.actions {
            self.act(&agent, action).await?;
        }
        Ok(if acted { Next::After(Duration::ZERO) } else { next_at(plan.again, now) })
    }
}

/// Which Agents come first after a start.
fn rank(agent: &Agent) -> (Wake, u8) {
    if agent.metadata.is_deleting() {
        (Wake::User, 0)
    } else if agent.metadata.generation != agent.status.observed_generation {
        (Wake::User, 1)
    } else if !agent.status.conditions.is_true(words::READY) {
        (Wake::Observation, 2)
    } else {
        (Wake::Timer, 3)
    }
}
