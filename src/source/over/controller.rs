//! Overrides, laid over their objects and taken away again.
//!
//! Its keys are the objects that Overrides are of, as `agent/NAME`: all Overrides of one object are
//! decided together, and one transaction leaves object, row and Overrides as the plan says. Nothing
//! here touches a file ([`super::file`] does), so an edit never waits for a disk or a network.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    plan::{Seen, WRITTEN, plan},
    targets::{Targets, key, of, overrides, target},
};
use crate::{
    ambient::{Ambient, between},
    reconcile::{Controller, Error, Next, Wake},
    resource::{AnyObject, Defaults, Kind},
    store::{Change, Op, Store, Transaction},
};

/// Whose what it lays over an object is, in the account of fields.
const MANAGER: &str = "override";

/// Lays Overrides over what Sources own.
pub struct OverrideController {
    store: Arc<dyn Store>,
    ambient: Ambient,
    defaults: Defaults,
    targets: Targets,
}

impl OverrideController {
    /// A controller over a store; `defaults` say where agents may work.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, defaults: Defaults) -> Self {
        Self { store, ambient, defaults, targets: Targets::default() }
    }

    /// The objects over which something is laid. What an Override laid there that somebody took out of
    /// the store by hand would stay for as long as it was to hold.
    async fn left_over(&self) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        let sources = self.store.list(Kind::Source, None, usize::MAX).await?.items;
        for source in sources.into_iter().filter_map(AnyObject::into_source) {
            if source.status.overridden > 0 {
                let rows = self.store.inventory(&source.metadata.uid).await?;
                let laid = rows.into_iter().filter(|row| !row.overrides.is_empty());
                keys.extend(laid.map(|row| key(row.kind, &row.name)));
            }
        }
        Ok(keys)
    }

    async fn commit(&self, step: &'static str, ops: Vec<Op>) -> Result<(), Error> {
        let mut transaction =
            Transaction::at(self.ambient.clock.now()).with(Op::WrittenBy(MANAGER.to_owned()));
        transaction.ops.extend(ops);
        self.ambient.step(step, self.store.apply(transaction)).await?;
        Ok(())
    }
}

#[async_trait]
impl Controller for OverrideController {
    fn name(&self) -> &'static str {
        "override"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        match &change.object {
            // Once its file is written, that may end it.
            AnyObject::Override(over)
                if change.desired || over.status.conditions.get(WRITTEN).is_some() =>
            {
                let key = of(over);
                self.targets.remember(&key);
                vec![(key, Wake::User)]
            }
            // A file that has come to say what an Override says changes nothing of the object; that
            // another revision stands is said by its Source alone.
            AnyObject::Source(_) if !change.desired => {
                self.targets.all().into_iter().map(|key| (key, Wake::Observation)).collect()
            }
            _ => self.targets.concerns(change),
        }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let mut keys: Vec<String> = overrides(&self.store).await?.iter().map(of).collect();
        keys.extend(self.left_over().await?);
        keys.sort();
        keys.dedup();
        keys.iter().for_each(|key| self.targets.remember(key));
        Ok(keys.into_iter().map(|key| (key, Wake::Observation)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some((kind, name)) = target(key) else { return Ok(Next::Done) };
        let mut overrides = overrides(&self.store).await?;
        overrides.retain(|over| of(over) == key);
        let seen = Seen {
            target: self.store.get(kind, name).await?,
            row: self.store.owned(kind, name).await?,
            overrides,
        };
        let now = self.ambient.clock.now();
        let plan = plan(&seen, &self.defaults, now);
        if !plan.ops.is_empty() {
            self.commit("override.apply", plan.ops).await?;
            // What was written is read again before anything follows from it.
            return Ok(Next::After(Duration::ZERO));
        }
        let next = plan.again.map(|at| between(now, at).max(Duration::from_millis(1)));
        Ok(next.map_or(Next::Done, Next::After))
    }
}
