//! Of which objects there are Overrides.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    reconcile::{Error, Wake},
    resource::{AnyObject, Kind, Override, overlay::is_ownable},
    store::{Change, ChangeKind, Store},
};

/// How many Overrides are read at once.
const PAGE: usize = 1_000;

/// The objects of which there are Overrides, by key, each with the Source that somebody waits for. It only
/// spares looks at all others: an Override that comes wakes its object by itself. Who looks forgets those
/// of which there are none any more; one that comes meanwhile has woken its object again, and is noted then.
#[derive(Debug, Default)]
pub(super) struct Targets(Mutex<HashMap<String, Option<Awaited>>>);

/// A Source that has to do something, or to be otherwise, before more follows for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Awaited {
    /// Its name.
    pub source: String,
    /// The generation at which it was not so; nothing where that is not known yet.
    pub generation: Option<u64>,
}

impl Targets {
    fn held(&self) -> MutexGuard<'_, HashMap<String, Option<Awaited>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that there are Overrides of an object.
    pub(super) fn remember(&self, key: &str) {
        let mut held = self.held();
        if !held.contains_key(key) {
            held.insert(key.to_owned(), None);
        }
    }

    /// Notes that there are, and who is waited for.
    pub(super) fn waits(&self, key: &str, awaited: Option<Awaited>) {
        self.held().insert(key.to_owned(), awaited);
    }

    /// Notes that there are none.
    pub(super) fn forget(&self, key: &str) {
        self.held().remove(key);
    }

    /// The objects for which a Source is waited for, if what is known of it is not this generation.
    pub(super) fn waiting_for(&self, source: &str, but: Option<u64>) -> Vec<(String, Wake)> {
        let waits = |awaited: &Awaited| {
            awaited.source == source && (but.is_none() || awaited.generation != but)
        };
        let held = self.held();
        let keys = held.iter().filter(|(_, awaited)| awaited.as_ref().is_some_and(waits));
        keys.map(|(key, _)| (key.clone(), Wake::Observation)).collect()
    }

    /// The key that a change of an object concerns, where there are Overrides of it.
    pub(super) fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        let (object, gone) = (&change.object, change.kind == ChangeKind::Deleted);
        if !is_ownable(object.kind()) || !(change.desired || gone) {
            return Vec::new();
        }
        let key = key(object.kind(), &object.metadata().name);
        let known = self.held().contains_key(&key);
        known.then_some((key, Wake::Observation)).into_iter().collect()
    }
}

/// The key of an object: `agent/NAME`.
pub(super) fn key(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.singular())
}

/// The key of what an Override is of.
pub(super) fn of(over: &Override) -> String {
    key(over.spec.target.kind, &over.spec.target.name)
}

/// The object of a key.
pub(super) fn target(key: &str) -> Option<(Kind, &str)> {
    let (kind, name) = key.split_once('/')?;
    Some((Kind::find(kind)?, name))
}

/// All Overrides that there are.
pub(super) async fn overrides(store: &Arc<dyn Store>) -> Result<Vec<Override>, Error> {
    let mut all: Vec<Override> = Vec::new();
    loop {
        let after = all.last().map(|over| over.metadata.name.clone());
        let page = store.list(Kind::Override, after.as_deref(), PAGE).await?;
        all.extend(page.items.into_iter().filter_map(AnyObject::into_override));
        if !page.more {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_for_a_source_hears_of_it_and_only_what_it_does_not_know() {
        let targets = Targets::default();
        let awaited = |source: &str, generation| Awaited { source: source.to_owned(), generation };
        targets.remember("agent/any");
        targets.waits("agent/ours", Some(awaited("ours", Some(3))));
        targets.waits("agent/theirs", Some(awaited("theirs", Some(3))));
        targets.waits("agent/soon", Some(awaited("ours", None)));
        let heard = |source: &str, generation| {
            let mut keys: Vec<String> =
                targets.waiting_for(source, generation).into_iter().map(|(key, _)| key).collect();
            keys.sort();
            keys
        };
        // A push changes an annotation, and no generation.
        assert_eq!(heard("ours", Some(3)), ["agent/soon"]);
        assert_eq!(heard("ours", Some(4)), ["agent/ours", "agent/soon"]);
        assert_eq!(heard("ours", None), ["agent/ours", "agent/soon"]);
        assert_eq!(heard("nobody", Some(4)), Vec::<String>::new());
        targets.remember("agent/ours");
        assert_eq!(heard("ours", Some(4)).len(), 2, "to remember is not to forget");
        for key in ["agent/any", "agent/ours", "agent/theirs", "agent/soon"] {
            targets.forget(key);
        }
        assert!(targets.held().is_empty());
    }
}
