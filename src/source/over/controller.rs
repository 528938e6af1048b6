//! Overrides, laid over their objects and taken away again.
//!
//! Its keys are the objects that Overrides are of, as `agent/NAME`: all Overrides of one object are
//! decided together, and one transaction leaves object, row and Overrides as the plan says. Nothing
//! here touches a file ([`super::file`] does), so an edit never waits for a disk or a network.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    plan::{EXPIRED, Patience, Seen, WRITTEN, plan},
    targets::{Awaited, Targets, key, of, overrides, target},
};
use crate::{
    ambient::{Ambient, between},
    reconcile::{Controller, Error, Next, Wake},
    resource::{AnyObject, DEFAULT_SOURCE_INTERVAL, Defaults, Kind, Override},
    source::stand::READY,
    store::{Change, Op, Owned, Store, Transaction},
};

/// What a Source may take beyond two of its intervals to read what was written into its files.
const SLACK: Duration = Duration::from_secs(60);

/// Whose what it lays over an object is, in the account of fields.
const MANAGER: &str = "override";

/// Lays Overrides over what Sources own.
pub struct OverrideController {
    store: Arc<dyn Store>,
    ambient: Ambient,
    defaults: Defaults,
    /// A Source is waited for where an Override ends once it has read its files.
    targets: Targets,
    /// Since when Sources are known to look.
    since: Timestamp,
}

impl OverrideController {
    /// A controller over a store; `defaults` say where agents may work.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, defaults: Defaults) -> Self {
        let (targets, since) = (Targets::default(), ambient.clock.now());
        Self { store, ambient, defaults, targets, since }
    }

    /// How long the Source of an object takes to read what is written into its files; nothing while
    /// it does not read, because it is suspended or what it read cannot be applied.
    async fn patience(&self, row: &Owned) -> Result<Option<Patience>, Error> {
        let source = self.store.get_by_uid(Kind::Source, &row.source_uid).await?;
        let source = source.and_then(AnyObject::into_source);
        let well = source.filter(|source| source.status.conditions.is_true(READY));
        Ok(well.map(|source| {
            let interval = source.spec.interval.unwrap_or(DEFAULT_SOURCE_INTERVAL).as_duration();
            Patience { since: self.since, span: interval * 2 + SLACK }
        }))
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

/// Whether an Override ends once its file says it.
fn awaits_its_file(over: &Override) -> bool {
    over.spec.write_to_file && !over.status.conditions.is_true(EXPIRED)
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
            // A revision that says what the object says already changes the Source alone.
            AnyObject::Source(source) => self.targets.waiting_for(&source.metadata.name, None),
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
        // Noted before the row is read that counts, so that a revision that comes behind it wakes.
        let row = self.store.owned(kind, name).await?;
        let awaited = row.as_ref().filter(|_| overrides.iter().any(awaits_its_file));
        let source = |row: &Owned| Awaited { source: row.source.clone(), generation: None };
        self.targets.waits(key, awaited.map(source));
        let patience = match awaited {
            Some(row) => self.patience(row).await?,
            None => None,
        };
        let seen = Seen {
            target: self.store.get(kind, name).await?,
            row: self.store.owned(kind, name).await?,
            overrides,
            patience,
        };
        let now = self.ambient.clock.now();
        let plan = plan(&seen, &self.defaults, now);
        if !plan.ops.is_empty() {
            self.commit("override.apply", plan.ops).await?;
            // What was written is read again before anything follows from it.
            return Ok(Next::After(Duration::ZERO));
        }
        if seen.overrides.is_empty() {
            self.targets.forget(key);
        }
        let next = plan.again.map(|at| between(now, at).max(Duration::from_millis(1)));
        Ok(next.map_or(Next::Done, Next::After))
    }
}
