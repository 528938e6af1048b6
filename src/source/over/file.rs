//! Overrides that are to stand in the file as well, written there.
//!
//! An Override with `writeToFile` is laid over its object first ([`super::controller`]). Then its
//! change goes into the file, or into a commit that is pushed, by the pen; what that has written the
//! Source reads like anybody's change, and once the file says it the Override ends by itself. A crash
//! in between leaves a file that says it already, and a second look writes nothing.
//!
//! Disks and networks are slow, so these are workers of their own, with a deadline of their own: no
//! edit waits for a push. Of one Source one change is written at a time, because two would write the
//! same file over each other.
//!
//! **What is not written.** Nothing for a Source that is suspended or goes. Nothing that the Source's
//! policy forbids: its next revision would be refused as a whole, and every later one. And nothing
//! that the server fills in again where the file does not say it: the file would never say what was
//! meant.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{
    pen::{Edit, Pen, PenError},
    plan::{APPLIED, EXPIRED, WRITTEN, event},
    targets::{Awaited, Targets, of, overrides, target},
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{
        API_VERSION, ASKED_BY, AnyObject, ConditionStatus, Defaults, FILLED, Kind, Override,
        Source, SourceFrom, decode, merge::merge_patch, whole_worker, worker,
    },
    source::{
        policy,
        set::{Limits, Rules},
    },
    store::{Change, Expect, Op, Owned, Part, Store, Transaction},
};

/// How soon a file is tried again that could not be written.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// How soon it is looked again whether another change of the same Source is written.
const NEXT_TURN: Duration = Duration::from_secs(1);
/// How long one look may take: longer than a fetch and a push of a large repository.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Writes Overrides into files. Its keys are the objects that Overrides are of, as `agent/NAME`.
pub struct FileController {
    store: Arc<dyn Store>,
    ambient: Ambient,
    defaults: Defaults,
    pen: Arc<dyn Pen>,
    targets: Targets,
    /// The Sources of which a change is being written, by uid.
    busy: Mutex<HashSet<String>>,
}

/// The turn of one Source; it ends when this goes, however that comes about.
struct Turn<'a>(&'a FileController, String);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl FileController {
    /// A controller over a store that writes with this pen; `defaults` say what the server fills in.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        ambient: Ambient,
        defaults: Defaults,
        pen: Arc<dyn Pen>,
    ) -> Self {
        Self { store, ambient, defaults, pen, targets: Targets::default(), busy: Mutex::default() }
    }

    fn turn(&self, source: &str) -> Option<Turn<'_>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.insert(source.to_owned()).then(|| Turn(self, source.to_owned()))
    }

    /// Writes an Override's change into the file, and notes what came of it. Answers whether it is to
    /// be tried again.
    async fn write(
        &self,
        over: &Override,
        row: &Owned,
        source: Option<&Source>,
        spec: &Value,
    ) -> Result<bool, Error> {
        // What a file asks for, nobody asked for by name.
        let is_declared = self.store.owned(Kind::Override, &over.metadata.name).await?.is_some();
        let by = over.metadata.annotations.get(ASKED_BY).filter(|_| !is_declared);
        let written = match source {
            None => Err(PenError::Refused("the source is gone".to_owned())),
            Some(source) => match self.may_stand(source, row, spec) {
                Err(why) => Err(PenError::Refused(why)),
                Ok(()) => {
                    let edit = Edit {
                        file: row.file.clone(),
                        kind: row.kind,
                        name: row.name.clone(),
                        patch: Value::Object(over.spec.patch.clone()),
                        why: over.spec.reason.clone(),
                        by: by.cloned(),
                    };
                    self.ambient.step("override.write-file", self.pen.write(source, &edit)).await
                }
            },
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
            let transaction = Transaction { ops: vec![told, write], now };
            self.ambient.step("override.note-file", self.store.apply(transaction)).await?;
        }
        Ok(again)
    }

    /// Whether a Source's file may come to say this spec, or why not.
    fn may_stand(&self, source: &Source, row: &Owned, spec: &Value) -> Result<(), String> {
        let name = source.metadata.name.as_str();
        if source.metadata.is_deleting() {
            return Err(format!("source {name} is being deleted"));
        }
        if source.spec.suspend {
            return Err(format!(
                "source {name} is suspended, and nothing is written for it; resume it: open-dispatch \
                 resume source/{name}"
            ));
        }
        if let Some(field) = filled_in(source, row.kind, spec, &self.defaults) {
            return Err(format!(
                "the server fills {field} in where a file of source {name} does not say it, so the \
                 file cannot take it away; write another value"
            ));
        }
        let said = decode(json!({
            "apiVersion": API_VERSION, "kind": row.kind.name(), "metadata": {"name": row.name},
            "spec": spec,
        }));
        let said = said.map_err(|faults| format!("the file would be refused: {}", faults.0[0]))?;
        let policy = source.spec.policy.as_ref();
        let rules = Rules { defaults: &self.defaults, policy, source: name, limits: Limits::WHOLE };
        match policy::faults(&said, rules).first() {
            Some(fault) => Err(format!("the policy of source {name} forbids it: {fault}")),
            None => Ok(()),
        }
    }
}

/// A field that the server fills in where a file is silent, and that a spec does not have.
fn filled_in(
    source: &Source,
    kind: Kind,
    spec: &Value,
    defaults: &Defaults,
) -> Option<&'static str> {
    let (_, within) = worker(kind)?.split_first()?;
    let is_whole = whole_worker(kind).is_some();
    let worker = within.iter().fold(spec, |value, key| &value[*key]);
    let of_repos = matches!(&source.spec.from, SourceFrom::Git(git) if !git.repos.is_empty());
    if of_repos && worker["repo"].is_null() {
        return Some("repo");
    }
    let mut filled = worker.clone();
    // What cannot be filled in is said where the file is read.
    if !is_whole || defaults.fill(&mut filled, false).is_err() || filled == *worker {
        return None;
    }
    Some(FILLED.into_iter().find(|field| worker[*field].is_null()).unwrap_or("the model"))
}

/// Whether an Override is to be written, and is not.
fn is_unwritten(over: &Override) -> bool {
    let conditions = &over.status.conditions;
    over.spec.write_to_file
        && !over.metadata.is_deleting()
        && !conditions.is_true(EXPIRED)
        && !conditions.is_true(WRITTEN)
}

/// Whether an Override is laid and waits for its file.
fn is_open(over: &Override) -> bool {
    is_unwritten(over) && over.status.conditions.is_true(APPLIED)
}

#[async_trait]
impl Controller for FileController {
    fn name(&self) -> &'static str {
        "override-file"
    }

    fn workers(&self) -> usize {
        4
    }

    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        match &change.object {
            AnyObject::Override(over) if over.spec.write_to_file => {
                let key = of(over);
                self.targets.remember(&key);
                // What was noted of it here is no news.
                let is_news = change.desired || over.status.conditions.get(WRITTEN).is_none();
                is_news.then_some((key, Wake::User)).into_iter().collect()
            }
            // It may be resumed, or allow more than before. That somebody asks it to look is no news.
            AnyObject::Source(source) if change.desired => {
                let metadata = &source.metadata;
                let known = (!metadata.is_deleting()).then_some(metadata.generation);
                self.targets.waiting_for(&metadata.name, known)
            }
            _ => self.targets.concerns(change),
        }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let all = overrides(&self.store).await?;
        let mut keys: Vec<String> =
            all.iter().filter(|over| over.spec.write_to_file).map(of).collect();
        keys.sort();
        keys.dedup();
        keys.iter().for_each(|key| self.targets.remember(key));
        Ok(keys.into_iter().map(|key| (key, Wake::Observation)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some((kind, name)) = target(key) else { return Ok(Next::Done) };
        let mut open = overrides(&self.store).await?;
        open.retain(|over| of(over) == key && is_unwritten(over));
        if open.is_empty() {
            self.targets.forget(key);
            return Ok(Next::Done);
        }
        let row = self.store.owned(kind, name).await?;
        // Noted before the Source is read, so that a change that comes behind that wakes.
        let awaited =
            row.as_ref().map(|row| Awaited { source: row.source.clone(), generation: None });
        self.targets.waits(key, awaited.clone());
        open.retain(is_open);
        let Some(row) = row else { return Ok(Next::Done) };
        if open.is_empty() || row.leaving {
            return Ok(Next::Done);
        }
        // Waiting is no success: a backoff that it would end grows on.
        let _turn = self.turn(&row.source_uid).ok_or(Error::RateLimited(NEXT_TURN))?;
        let read = async || {
            let source = self.store.get_by_uid(Kind::Source, &row.source_uid).await?;
            Ok::<_, Error>(source.and_then(AnyObject::into_source))
        };
        let generation = read().await?.map(|source| source.metadata.generation);
        self.targets.waits(key, awaited.map(|awaited| Awaited { generation, ..awaited }));
        let source = read().await?;
        let (mut again, mut spec) = (false, row.base.spec.clone());
        // In the order in which they are laid.
        for laid in &row.overrides {
            let Some(over) = open.iter().find(|over| over.metadata.uid == laid.uid) else {
                continue;
            };
            let mut next = spec.clone();
            merge_patch(&mut next, &laid.patch);
            again |= self.write(over, &row, source.as_ref(), &next).await?;
            spec = next;
        }
        Ok(if again { Next::After(TRY_AGAIN) } else { Next::Done })
    }
}
