//! Agents: one live Sprite at most, remade when its making has changed. Turns come to it through
//! its inbox.

mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use plan::{Action, plan};

use super::{
    hands::{Hands, next_at, write},
    history::{event, told},
    job::{delete, owners},
    words,
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{Agent, AnyObject, FINALIZER_SPRITES, Kind},
    store::{Change, Op, Part, Store},
};

/// Makes Sprites of Agents. Its keys are the Agents' uids.
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
                let agent = Agent { status: *status, ..agent.clone() };
                let ops =
                    vec![Op::Create(AnyObject::Sprite(sprite)), write(agent, Part::Status), told];
                hands.commit("agent.create-sprite", ops).await
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
                ops.push(write(Agent { status: *status, ..agent.clone() }, Part::Status));
                hands.commit("agent.write-status", ops).await
            }
            Action::DropFinalizer => {
                let mut agent = agent.clone();
                agent.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER_SPRITES);
                hands.commit("agent.drop-finalizer", vec![write(agent, Part::Finalizers)]).await
            }
        }
    }
}

#[async_trait]
impl Controller for AgentController {
    fn name(&self) -> &'static str {
        "agent"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        owners(Kind::Agent, change)
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
        let sprites = self.hands.sprites_of(key).await?;
        let now = self.hands.now();
        let plan = plan(&agent, &sprites, now);
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
