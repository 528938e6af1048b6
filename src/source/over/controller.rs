//! Overrides, laid over their objects and taken away again.
//!
//! Its keys are the objects that Overrides are of, as `agent/NAME`: all Overrides of one object are
//! decided together, and one transaction leaves object, row and Overrides as the plan says. Where a
//! change is to stand in the file as well, the pen follows: what it has written the Source reads like
//! anybody's change, and once the file says it the Override ends by itself. A crash between the two
//! leaves a file that says it already, and a second look writes nothing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::{
    pen::{Edit, Pen, PenError},
    plan::{EXPIRED, Patience, Seen, WRITTEN, event, plan},
};
use crate::{
    ambient::{Ambient, between},
    reconcile::{Controller, Error, Next, Wake},
    resource::{
        ASKED_BY, AnyObject, ConditionStatus, DEFAULT_SOURCE_INTERVAL, Defaults, Kind, Override,
        overlay::is_ownable,
    },
    source::stand::READY,
    store::{Change, ChangeKind, Expect, Op, Owned, Part, Store, Transaction},
};

/// How soon a file is tried again that could not be written.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// Lays Overrides over what Sources own.
pub struct OverrideController {
    store: Arc<dyn Store>,
    ambient: Ambient,
    defaults: Defaults,
    pen: Option<Arc<dyn Pen>>,
    /// Of which objects there ever were Overrides, each with the Source whose next revision may end
    /// one. It only spares looks at all others: an Override that comes wakes its object by itself.
    targets: Mutex<HashMap<String, Option<String>>>,
    /// Since when Sources are known to look.
    since: Timestamp,
}

impl OverrideController {
    /// A controller over a store; `defaults` say where agents may work.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, defaults: Defaults) -> Self {
        let since = ambient.clock.now();
        Self { store, ambient, defaults, pen: None, targets: Mutex::default(), since }
    }

    /// Writes into files with this pen, where an Override asks for that.
    #[must_use]
    pub fn with_pen(self, pen: Arc<dyn Pen>) -> Self {
        Self { pen: Some(pen), ..self }
    }

    fn remember(&self, key: &str) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        if !targets.contains_key(key) {
            targets.insert(key.to_owned(), None);
        }
    }

    fn knows(&self, key: &str) -> bool {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Notes which Source has to read a file before Overrides of an object end.
    fn awaits(&self, key: &str, source: Option<String>) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.insert(key.to_owned(), source);
    }

    /// The objects with Overrides that end once this Source has read its files.
    fn awaiting(&self, source: &str) -> Vec<(String, Wake)> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = targets.iter().filter(|(_, waits)| waits.as_deref() == Some(source));
        waits.map(|(key, _)| (key.clone(), Wake::Observation)).collect()
    }

    /// How long the Source of an object takes to read what is written into its files; nothing while
    /// it does not read, because it is suspended or what it read cannot be applied.
    async fn patience(&self, row: &Owned) -> Result<Option<Patience>, Error> {
        let source = self.store.get_by_uid(Kind::Source, &row.source_uid).await?;
        let source = source.and_then(AnyObject::into_source);
        let well = source.filter(|source| source.status.conditions.is_true(READY));
        Ok(well.map(|source| {
            let interval = source.spec.interval.unwrap_or(DEFAULT_SOURCE_INTERVAL).as_duration();
            Patience { since: self.since, span: interval * 2 + TRY_AGAIN }
        }))
    }

    async fn overrides(&self) -> Result<Vec<Override>, Error> {
        let mut all: Vec<Override> = Vec::new();
        loop {
            let after = all.last().map(|over| over.metadata.name.clone());
            let page = self.store.list(Kind::Override, after.as_deref(), 1_000).await?;
            all.extend(page.items.into_iter().filter_map(AnyObject::into_override));
            if !page.more {
                return Ok(all);
            }
        }
    }

    async fn commit(&self, step: &'static str, ops: Vec<Op>) -> Result<(), Error> {
        let transaction = Transaction { ops, now: self.ambient.clock.now() };
        self.ambient.step(step, self.store.apply(transaction)).await?;
        Ok(())
    }

    /// Writes an Override's change into the file, and notes what came of it. Answers whether it is to
    /// be tried again.
    async fn write(&self, over: &Override, row: &Owned) -> Result<bool, Error> {
        let refused = |message: &str| Err(PenError::Refused(message.to_owned()));
        let source = self.store.get_by_uid(Kind::Source, &row.source_uid).await?;
        let source = source.and_then(AnyObject::into_source);
        let written = match (&self.pen, &source) {
            (Some(pen), Some(source)) => {
                let edit = Edit {
                    file: row.file.clone(),
                    kind: row.kind,
                    name: row.name.clone(),
                    patch: Value::Object(over.spec.patch.clone()),
                    why: over.spec.reason.clone(),
                    by: over.metadata.annotations.get(ASKED_BY).cloned(),
                };
                self.ambient.step("override.write-file", pen.write(source, &edit)).await
            }
            (Some(_), None) => refused("the source is gone"),
            (None, _) => refused("this server writes no files"),
        };
        let (reason, message) = match written {
            Ok(place) => ("InFile", place),
            Err(PenError::Refused(why)) => ("Refused", why),
            Err(PenError::Failed(why)) => ("Failed", why),
            Err(PenError::Fault(fault)) => return Err(fault.into()),
        };
        let again = reason == "Failed";
        let holds = if reason == "InFile" { ConditionStatus::True } else { ConditionStatus::False };
        let mut noted = over.clone();
        let (generation, now) = (over.metadata.generation, self.ambient.clock.now());
        noted.status.conditions.set(WRITTEN, holds, reason, message.clone(), generation, now);
        if noted != *over {
            let warning = holds != ConditionStatus::True;
            let told = event(Kind::Override, &over.metadata, warning, reason, message);
            let write =
                Op::Write { object: noted.into(), part: Part::Status, expect: Expect::SameVersion };
            self.commit("override.note-file", vec![told, write]).await?;
        }
        Ok(again)
    }
}

/// Whether an Override ends once its file says it.
fn awaits_its_file(over: &Override) -> bool {
    over.spec.write_to_file && !over.status.conditions.is_true(EXPIRED)
}

/// The key of an object.
fn key(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.singular())
}

#[async_trait]
impl Controller for OverrideController {
    fn name(&self) -> &'static str {
        "override"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        let gone = change.kind == ChangeKind::Deleted;
        match &change.object {
            AnyObject::Override(over) if change.desired => {
                let key = key(over.spec.target.kind, &over.spec.target.name);
                self.remember(&key);
                vec![(key, Wake::User)]
            }
            // A revision that says what the object says already changes the Source alone.
            AnyObject::Source(source) => self.awaiting(&source.metadata.name),
            object if is_ownable(object.kind()) && (change.desired || gone) => {
                let key = key(object.kind(), &object.metadata().name);
                let known = self.knows(&key);
                known.then_some((key, Wake::Observation)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let all = self.overrides().await?;
        let mut keys: Vec<String> =
            all.iter().map(|over| key(over.spec.target.kind, &over.spec.target.name)).collect();
        keys.sort();
        keys.dedup();
        for key in &keys {
            self.remember(key);
        }
        Ok(keys.into_iter().map(|key| (key, Wake::Observation)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some((kind, name)) = key.split_once('/') else { return Ok(Next::Done) };
        let Some(kind) = Kind::find(kind) else { return Ok(Next::Done) };
        let mut overrides = self.overrides().await?;
        overrides.retain(|over| over.spec.target.kind == kind && over.spec.target.name == name);
        // Noted before the row is read, so that a revision that comes behind it wakes.
        let row = self.store.owned(kind, name).await?;
        let awaits = row.as_ref().filter(|_| overrides.iter().any(awaits_its_file));
        self.awaits(key, awaits.map(|row| row.source.clone()));
        let patience = match awaits {
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
        let mut again = false;
        if let Some(row) = &seen.row {
            for over in &plan.write {
                again |= self.write(over, row).await?;
            }
        }
        let next = plan.again.map(|at| between(now, at).max(Duration::from_millis(1)));
        let next = match (next, again) {
            (Some(next), true) => Some(next.min(TRY_AGAIN)),
            (next, _) => next,
        };
        Ok(next.map_or(Next::Done, Next::After))
    }
}
