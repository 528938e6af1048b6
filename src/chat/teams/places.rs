//! Where a conversation is reached: kept in the store, so that we can speak there after a restart
//! without being spoken to first.
//!
//! Each activity says at which service URL its conversation is answered; that may change, and the
//! newest one holds. Where a conversation was never heard of (an agent is to report to a channel
//! in which nobody spoke yet), the newest service URL of all is taken: it is the tenant's region's.
//!
//! What strangers send is kept in memory alone, so that they leave nothing in the store: they are
//! answered while this process lives.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{NAME, activity::Activity};
use crate::{
    ambient::Ambient,
    store::{self, Op, Place, Store, Transaction},
};

/// The row that holds the newest of all.
const NEWEST: &str = "";

/// How a conversation is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Where the conversation is answered.
    pub service_url: String,
    /// Our own id there.
    pub bot: String,
    /// Whether it is with one person alone.
    #[serde(default)]
    pub personal: bool,
}

/// How many conversations are remembered of which only strangers spoke.
const STRANGERS: usize = 4096;

/// How conversations are reached.
pub struct Places {
    store: Arc<dyn Store>,
    ambient: Ambient,
    /// What the store holds, as far as it was asked for.
    known: Mutex<HashMap<String, Reference>>,
    /// What strangers said, where it is something else.
    strangers: Mutex<HashMap<String, Reference>>,
}

/// What an activity says of its conversation, and of the newest of all.
fn rows(activity: &Activity) -> [(&str, Reference); 2] {
    let (channel, _) = activity.channel_and_thread();
    let reference = Reference {
        service_url: activity.service_url.clone(),
        bot: activity.recipient.id.clone(),
        personal: activity.is_personal(),
    };
    let newest = Reference { personal: false, ..reference.clone() };
    [(channel, reference), (NEWEST, newest)]
}

impl Places {
    /// What a store holds.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient) -> Self {
        Self { store, ambient, known: Mutex::default(), strangers: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Reference>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strangers(&self) -> MutexGuard<'_, HashMap<String, Reference>> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an activity says something of its conversation that is not known to be durable.
    #[must_use]
    pub fn is_news(&self, activity: &Activity) -> bool {
        let known = self.known();
        rows(activity).iter().any(|(key, row)| known.get(*key) != Some(row))
    }

    /// Remembers how a stranger's conversation is reached, for as long as this process lives.
    pub fn remember(&self, activity: &Activity) {
        let mut strangers = self.strangers();
        if strangers.len() >= STRANGERS {
            strangers.clear();
        }
        strangers.extend(rows(activity).map(|(key, row)| (key.to_owned(), row)));
    }

    /// Keeps how an activity's conversation is reached; answers once it is durable.
    ///
    /// # Errors
    /// The store's.
    pub async fn learn(&self, activity: &Activity) -> Result<(), store::Error> {
        let new: Vec<_> = {
            let known = self.known();
            rows(activity).into_iter().filter(|(key, row)| known.get(*key) != Some(row)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let mut transaction = Transaction::at(self.ambient.clock.now());
        for (key, row) in &new {
            let facts = serde_json::to_value(row).unwrap_or_default();
            let channel = (*key).to_owned();
            transaction =
                transaction.with(Op::Place(Place { platform: NAME.to_owned(), channel, facts }));
        }
        self.ambient.step("teams.place", self.store.apply(transaction)).await?;
        let mut strangers = self.strangers();
        for (key, _) in &new {
            strangers.remove(*key);
        }
        drop(strangers);
        self.known().extend(new.into_iter().map(|(key, row)| (key.to_owned(), row)));
        Ok(())
    }

    /// How a channel is reached; none where nobody has spoken to us at all.
    ///
    /// # Errors
    /// The store's.
    pub async fn find(&self, channel: &str) -> Result<Option<Reference>, store::Error> {
        for key in [channel, NEWEST] {
            // What a stranger said is newer, or it would not stand here.
            let known =
                self.strangers().get(key).cloned().or_else(|| self.known().get(key).cloned());
            if known.is_some() {
                return Ok(known);
            }
            let Some(place) = self.store.place(NAME, key).await? else { continue };
            if let Ok(reference) = serde_json::from_value::<Reference>(place.facts) {
                // What was learnt meanwhile is newer.
                let mut known = self.known();
                return Ok(Some(known.entry(key.to_owned()).or_insert(reference).clone()));
            }
        }
        Ok(None)
    }
}
