//! What a channel is told once whose agent was deleted: that nobody listens there any more, and how
//! to begin with another.
//!
//! What people say to each other there gets no answer; so this is said when the agent goes. The
//! delivery's id follows from the agent and the place, so that it is said once. A terminal is
//! answered at each line, and need not be told.
//!
//! Where others listen, nothing is said; but a receipt keeps the name for a day, so that what somebody
//! says to the one that is gone is given to none of them.

use super::{Outbox, conversation_of, delivery_id, gone_key};
use crate::{
    chat::{commands::CONSOLE, replies, route::listens},
    reconcile::Error,
    resource::{Agent, AnyObject, Kind},
    store::{self, Conversation, Delivery, Op, Receipt, Subject, Transaction},
};

/// What stands in front of an agent's uid in the key that says that it is gone.
const GONE: &str = "gone/";

/// An agent that goes.
pub(super) struct Gone {
    name: String,
    places: Vec<Conversation>,
}

/// The agent's uid in such a key.
pub(super) fn uid_of_key(key: &str) -> Option<&str> {
    key.strip_prefix(GONE)
}

impl Outbox {
    /// Remembers an agent that goes; answers with the key that tells of it, if it listened anywhere.
    pub(super) fn leaves(&self, agent: &Agent) -> Option<String> {
        let places: Vec<Conversation> = agent.spec.channels.iter().map(conversation_of).collect();
        if places.is_empty() {
            return None;
        }
        let uid = &agent.metadata.uid;
        let gone = Gone { name: agent.metadata.name.clone(), places };
        self.memory().gone.insert(uid.clone(), gone);
        Some(format!("{GONE}{uid}"))
    }

    /// Keeps its name, and tells it where nobody else listens.
    pub(super) async fn tell_gone(&self, uid: &str) -> Result<(), Error> {
        let Some((name, places)) =
            self.memory().gone.get(uid).map(|gone| (gone.name.clone(), gone.places.clone()))
        else {
            return Ok(());
        };
        let agents = self.store.list(Kind::Agent, None, 10_000).await?.items;
        for place in places {
            let id = delivery_id(&format!("{GONE}{uid}"), &place);
            let is_heard = agents.iter().any(|agent| match agent {
                AnyObject::Agent(agent) => {
                    !agent.metadata.is_deleting() && listens(&agent.spec.channels, &place)
                }
                _ => false,
            });
            self.keep_name(&place, &name, uid).await?;
            let is_told =
                place.platform != CONSOLE && self.platforms.contains_key(place.platform.as_str());
            if is_told && !is_heard && self.store.delivery(&id).await?.is_none() {
                let subject = Subject::Notice { text: replies::nobody_left(&name) };
                let now = self.ambient.clock.now();
                let delivery = Delivery::open(id, place, subject, now);
                self.write("chat.create-delivery", delivery).await?;
            }
        }
        self.memory().gone.remove(uid);
        Ok(())
    }

    /// Keeps the name of one that is gone.
    async fn keep_name(&self, place: &Conversation, name: &str, uid: &str) -> Result<(), Error> {
        let receipt = Receipt { key: gone_key(place, name), effect: format!("gone/{uid}") };
        let op = Op::Receipt(receipt);
        let transaction = Transaction::at(self.ambient.clock.now()).with(op);
        match self.ambient.step("chat.keep-name", self.store.apply(transaction)).await {
            Ok(_) | Err(store::Error::Duplicate { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
