//! Of which objects there are Overrides.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    reconcile::{Error, Wake},
    resource::{AnyObject, Kind, Override, overlay::is_ownable},
    store::{Change, ChangeKind, Store},
};

/// How many Overrides are read at once.
const PAGE: usize = 1_000;

/// Of which objects there ever were Overrides, by key. It only spares looks at all others: an
/// Override that comes wakes its object by itself.
#[derive(Debug, Default)]
pub(super) struct Targets(Mutex<HashSet<String>>);

impl Targets {
    pub(super) fn remember(&self, key: &str) {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !targets.contains(key) {
            targets.insert(key.to_owned());
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The key that a change of an object concerns, where there ever was an Override of it.
    pub(super) fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        let (object, gone) = (&change.object, change.kind == ChangeKind::Deleted);
        if !is_ownable(object.kind()) || !(change.desired || gone) {
            return Vec::new();
        }
        let key = key(object.kind(), &object.metadata().name);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&key);
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
