//! What has to be written so that the store says what the files say: pure.
//!
//! The plan compares three things: what the files declare ([`Set`]), what the Source owns already
//! (the inventory), and what stands in the store. It answers with the operations of one transaction,
//! on top of the versions that were read, so that a revision is applied whole or not at all; or it
//! says why the revision cannot be applied. Once the operations are committed, the next plan is
//! empty.
//!
//! **Whose is it?** An object with an inventory row belongs to the Source that the row names. One
//! without belongs to nobody, and is taken only where nothing would change of it, or where its own
//! annotation hands it to this Source. What a controller made is never taken.
//!
//! **Deletions** go by the inventory and by uid. A row stays, marked as leaving, until its object is
//! gone. A revision without any object deletes nothing unless that is allowed, and one that would
//! delete more than the cap waits for somebody to confirm it, as a whole.
//!
//! **Jobs** run once, and Overrides hold once. One that is gone because it ended long ago is not made
//! anew while its file says the same. What the server filled in for a document stays while that says
//! the same ([`super::said`]), so that other settings of the server run nothing again. What will be
//! written is what the policy judges.
//!
//! **What is kept.** Objects of a repository that does not count as it says now stay as the inventory
//! says: they are put right, and neither changed nor deleted. What the policy does not allow by now is
//! left alone, because the inventory is no way around it, and so are Overrides. Nothing about them
//! holds up the others.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    over::{annotations, lay},
    policy, said,
    set::{Declared, Key, Limits, Rules, Set, called, in_order},
};
use crate::{
    resource::{
        ADOPT, AnyObject, CONFIRM_DELETIONS, DEFAULT_MAX_DELETIONS, Defaults, DeletionPolicy,
        Fault, Faults, Kind, RELEASED_FROM, Source, admit, decode,
        overlay::{overlay, powered, with_power_of},
    },
    store::{Expect, Op, Owned, Part},
};

/// How much of a revision is enough to confirm its deletions.
const SHORTEST_REVISION: usize = 12;
/// The word that confirms the deletions of a Source that is deleted itself.
pub const CONFIRM_ALL: &str = "all";

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// The Source.
    pub source: &'a Source,
    /// The inventory rows of the Source, and those of others for what the files declare.
    pub rows: &'a BTreeMap<Key, Owned>,
    /// What stands in the store, of all that the files declare or the Source owns.
    pub live: &'a BTreeMap<Key, AnyObject>,
    /// What the Source owns that stays as the inventory says.
    pub kept: &'a BTreeSet<Key>,
    /// What holds where a spec is silent.
    pub defaults: &'a Defaults,
    /// Now.
    pub now: Timestamp,
}

/// What is to be written, and what it comes to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The operations, for one transaction.
    pub ops: Vec<Op>,
    /// Objects that are made.
    pub created: Vec<Key>,
    /// Objects whose file changed.
    pub changed: Vec<Key>,
    /// Objects that somebody changed past their file.
    pub drifted: Vec<Key>,
    /// Objects that belonged to nobody.
    pub adopted: Vec<Key>,
    /// Objects that are deleted.
    pub deleted: Vec<Key>,
    /// Objects that are let go.
    pub released: Vec<Key>,
    /// Objects that can be made only once others of their name are gone.
    pub waiting: Vec<Key>,
    /// Deletions that are under way.
    pub leaving: u32,
    /// Objects that stand under an Override.
    pub overridden: u32,
    /// Whether somebody's confirmation was used: it counts once, so it goes with the deletions.
    pub confirmed: bool,
}

/// Why a revision cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The server does not know what to fill in, and filled in nothing before.
    Invalid(Faults),
    /// The policy forbids what would be written.
    Denied(Faults),
    /// It contradicts what stands there.
    Conflict(Faults),
    /// It declares nothing, and so many objects would go.
    Empty(u32),
    /// More objects would go than the cap allows.
    Held {
        /// How many.
        deletions: u32,
        /// The cap.
        limit: u32,
    },
}

/// Plans a revision. `uid` draws ids for what is made.
///
/// # Errors
/// Why the revision cannot be applied; then nothing of it is.
pub fn plan(
    world: World<'_>,
    set: &Set,
    revision: &str,
    uid: &mut dyn FnMut() -> String,
) -> Result<Plan, Refusal> {
    let mut draft = Draft { world, plan: Plan::default(), faults: Vec::new() };
    let objects = draft.settled(set)?;
    for (key, declared) in objects.iter() {
        draft.declared(key, declared, uid);
    }
    if !draft.faults.is_empty() {
        return Err(Refusal::Conflict(in_order(draft.faults)));
    }
    let (kept, gone): (Vec<_>, Vec<_>) = draft
        .own_rows()
        .filter(|(key, _)| !objects.contains_key(*key))
        .partition(|(key, row)| !row.leaving && world.kept.contains(*key));
    for (key, row) in &kept {
        draft.keep(key, row, uid);
    }
    let prune = &world.source.spec.prune;
    let fresh = gone.iter().filter(|(_, row)| !row.leaving).count();
    if objects.is_empty() && kept.is_empty() && fresh > 0 && !prune.allow_empty {
        return Err(Refusal::Empty(count(fresh)));
    }
    draft.check_cap(&gone, |confirmed| {
        revision == confirmed
            || (confirmed.len() >= SHORTEST_REVISION && revision.starts_with(confirmed))
    })?;
    for (key, row) in gone {
        draft.remove(key, row, prune.policy == DeletionPolicy::Orphan);
    }
    Ok(draft.plan)
}

/// Plans the end of a Source that is deleted: what it owns goes by its policy, within its cap; what
/// a suspended one owns is let go. Once nothing is owned any more, [`Plan::leaving`] is 0.
///
/// # Errors
/// More objects would go than the cap allows, and nobody has confirmed it with `all`.
pub fn release(world: World<'_>) -> Result<Plan, Refusal> {
    let mut draft = Draft { world, plan: Plan::default(), faults: Vec::new() };
    let rows: Vec<(&Key, &Owned)> = draft.own_rows().collect();
    let spec = &world.source.spec;
    let orphan = spec.suspend || spec.prune.policy == DeletionPolicy::Orphan;
    if !orphan {
        draft.check_cap(&rows, |confirmed| confirmed == CONFIRM_ALL)?;
    }
    for (key, row) in rows {
        draft.remove(key, row, orphan);
    }
    Ok(draft.plan)
}

/// What the files declare.
type Objects = BTreeMap<Key, Arc<Declared>>;

/// What becomes of what the server fills in for a document.
enum Filled {
    /// It is filled in as it is today.
    Today,
    /// That is what was filled in before, and nobody judges it again.
    Same,
    /// It stays as it was filled in before.
    Before(Arc<Declared>),
    /// It would stay so, and the policy does not allow that any more.
    Denied(Vec<Fault>),
}

struct Draft<'a> {
    world: World<'a>,
    plan: Plan,
    faults: Vec<Fault>,
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl<'a> Draft<'a> {
    fn own_rows(&self) -> impl Iterator<Item = (&'a Key, &'a Owned)> + use<'a> {
        let uid = &self.world.source.metadata.uid;
        self.world.rows.iter().filter(move |(_, row)| row.source_uid == *uid)
    }

    /// The object of a row, if it is still that one.
    fn object_of(&self, key: &Key, row: &Owned) -> Option<&'a AnyObject> {
        self.world.live.get(key).filter(|object| object.metadata().uid == row.uid)
    }

    fn check_cap(
        &mut self,
        gone: &[(&Key, &Owned)],
        confirms: impl Fn(&str) -> bool,
    ) -> Result<(), Refusal> {
        let source = self.world.source;
        let prune = &source.spec.prune;
        if prune.policy == DeletionPolicy::Orphan {
            return Ok(());
        }
        let goes = |(key, row): &&(&Key, &Owned)| {
            !row.leaving
                && self.object_of(key, row).is_some_and(|object| !object.metadata().is_deleting())
        };
        let deletions = count(gone.iter().filter(goes).count());
        let limit = prune.max_deletions.unwrap_or(DEFAULT_MAX_DELETIONS);
        let confirmed = source.metadata.annotations.get(CONFIRM_DELETIONS);
        if deletions > limit {
            if !confirmed.is_some_and(|confirmed| confirms(confirmed)) {
                return Err(Refusal::Held { deletions, limit });
            }
            self.plan.confirmed = true;
        }
        Ok(())
    }

    /// What the files declare, as it would be written: with the names that it has, and with what was
    /// filled in for it when it was read first. That is what is judged.
    fn settled<'b>(&self, set: &'b Set) -> Result<Cow<'b, Objects>, Refusal> {
        let mut objects = self.named(set);
        let (mut missing, mut denied, mut before) = (Vec::new(), Vec::new(), Vec::new());
        for (key, declared) in objects.iter() {
            match self.filled(key, declared) {
                Filled::Today => {
                    missing.extend(declared.today.missing.clone());
                    denied.extend(declared.today.denied.iter().cloned());
                }
                Filled::Same => {}
                Filled::Before(declared) => before.push((key.clone(), declared)),
                Filled::Denied(faults) => denied.extend(faults),
            }
        }
        if !missing.is_empty() {
            return Err(Refusal::Invalid(in_order(missing)));
        }
        if !before.is_empty() {
            objects.to_mut().extend(before);
        }
        let judged_here = |target: &Declared| target.today.is_asked;
        denied.extend(policy::overrides(&objects, self.rules(self.world.defaults), judged_here));
        if denied.is_empty() { Ok(objects) } else { Err(Refusal::Denied(in_order(denied))) }
    }

    fn rules<'b>(&self, defaults: &'b Defaults) -> Rules<'b>
    where
        'a: 'b,
    {
        let source: &'b Source = self.world.source;
        let (policy, source) = (source.spec.policy.as_ref(), source.metadata.name.as_str());
        Rules { defaults, policy, source, limits: Limits::WHOLE }
    }

    /// What the policy does not allow of an object.
    fn denied(&self, object: &AnyObject) -> Vec<Fault> {
        policy::faults(object, self.rules(self.world.defaults))
    }

    /// What the files declare, by the names that it has: a Job whose name was drawn otherwise once
    /// keeps that.
    fn named<'b>(&self, set: &'b Set) -> Cow<'b, Objects> {
        let mut objects = Cow::Borrowed(&set.objects);
        let fresh = |(key, it): &(&Key, &Arc<Declared>)| {
            it.prefix.is_some() && !self.world.rows.contains_key(*key)
        };
        let drawn: Vec<&Key> = set.objects.iter().filter(fresh).map(|(key, _)| key).collect();
        if drawn.is_empty() {
            return objects;
        }
        let mut held = said::Drawn::of(self.own_rows());
        for key in drawn {
            let declared = &set.objects[key];
            let is_free =
                |held: &Key| !objects.contains_key(held) && !self.world.kept.contains(held);
            let Some(held) = held.take(declared, is_free) else { continue };
            let mut declared = Declared::clone(declared);
            declared.object.metadata_mut().name.clone_from(&held.1);
            objects.to_mut().remove(key);
            objects.to_mut().insert(held.clone(), Arc::new(declared));
        }
        objects
    }

    /// What was filled in for a document when it was read first, and whether that still counts.
    fn filled(&self, key: &Key, declared: &Arc<Declared>) -> Filled {
        let (source, today) = (self.world.source, &declared.today);
        if let Some(faults) = self.noted(key, declared) {
            return if faults.is_empty() { Filled::Same } else { Filled::Denied(faults) };
        }
        let is_good = today.missing.is_none() && today.denied.is_empty();
        let same = |row: &&Owned| {
            // What leaves and comes back is new.
            row.source_uid == source.metadata.uid && !row.leaving && said::is_same(row, declared)
        };
        let Some(row) = self.world.rows.get(key).filter(same) else { return Filled::Today };
        if row.base.spec == declared.base.spec {
            // What stands in the place of what is missing is what was filled in.
            return match today.denied.is_empty() {
                true => Filled::Same,
                false => Filled::Denied(today.denied.clone()),
            };
        }
        let mut json = declared.object.to_json();
        json["spec"] = row.base.spec.clone();
        let Ok(object) = decode(json) else { return Filled::Today };
        let denied = match (key.0, is_good) {
            // What has run or runs is past being judged, where it may be written as it is today.
            (Kind::Job, true) => Vec::new(),
            _ => self.denied(&object),
        };
        let refused = || denied.iter().cloned().map(|fault| declared.locate(fault)).collect();
        match (denied.is_empty(), key.0) {
            (true, _) => {
                let base =
                    crate::store::Base { spec: row.base.spec.clone(), ..declared.base.clone() };
                Filled::Before(Arc::new(Declared { object, base, ..Declared::clone(declared) }))
            }
            // It does not run again as something else.
            (false, Kind::Job) => Filled::Denied(refused()),
            // Nothing else takes its place.
            (false, _) if today.missing.is_some() => Filled::Denied(refused()),
            // What a Source may not write by now is filled in anew.
            (false, _) => Filled::Today,
        }
    }

    /// What the policy does not allow of a standing Fleet of ours and of what its members are filled in
    /// with, where other settings than today's count for them: only its own status says that. Nothing
    /// where those of today do.
    fn noted(&self, key: &Key, declared: &Declared) -> Option<Vec<Fault>> {
        let uid = &self.world.source.metadata.uid;
        self.world.rows.get(key).filter(|row| row.source_uid == *uid && !row.leaving)?;
        let (AnyObject::Fleet(fleet), Some(AnyObject::Fleet(live))) =
            (&declared.object, self.world.live.get(key))
        else {
            return None;
        };
        let found = policy::noted(fleet, &live.status, self.rules(self.world.defaults))?;
        Some(found.into_iter().map(|fault| declared.locate(fault)).collect())
    }

    /// Holds an object as the inventory says. Where that cannot be done, or is not allowed any more, it
    /// is left alone.
    fn keep(&mut self, key: &Key, row: &Owned, uid: &mut dyn FnMut() -> String) {
        let is_allowed = |it: &Declared| {
            self.noted(key, it).unwrap_or_else(|| self.denied(&it.object)).is_empty()
        };
        // An Override holds once, and what it would lay is judged only with what it is of.
        let may_hold = key.0 != Kind::Override;
        let declared = Declared::of(row).filter(|it| may_hold && is_allowed(it));
        let Some(declared) = declared else {
            return self.own(row.clone(), Some(row));
        };
        let told = self.faults.len();
        self.declared(key, &declared, uid);
        self.faults.truncate(told);
    }

    fn refuse(&mut self, declared: &Declared, path: &str, message: String) {
        self.faults.push(declared.locate(Fault::new(path, message)));
    }

    fn declared(&mut self, key: &Key, declared: &Declared, uid: &mut dyn FnMut() -> String) {
        let (row, live) = (self.world.rows.get(key), self.world.live.get(key));
        if let Some(row) = row.filter(|row| row.source_uid != self.world.source.metadata.uid) {
            if row.leaving {
                return self.plan.waiting.push(key.clone());
            }
            let message = format!(
                "{} is declared by source {} already ({}:{}); keep one of the two",
                called(key),
                row.source,
                row.file,
                row.line
            );
            return self.refuse(declared, "metadata.name", message);
        }
        match (live, row) {
            (None, Some(row)) if is_done(row, declared) => self.note(row, declared, false),
            (None, row) => self.create(key, declared, row, uid),
            (Some(live), row) if live.metadata().is_deleting() => {
                self.plan.waiting.push(key.clone());
                if let Some(row) = row {
                    // A Job that is to run again is made anew although one has run.
                    let is_other = key.0 == Kind::Job && row.base.spec != declared.base.spec;
                    self.note(row, declared, row.leaving || is_other);
                }
            }
            (Some(live), Some(row)) if row.uid == live.metadata().uid => {
                self.update(key, declared, row, live);
            }
            (Some(live), row) => self.adopt(key, declared, row, live),
        }
    }

    /// The row of an object that is not there, or not for long.
    fn note(&mut self, row: &Owned, declared: &Declared, leaving: bool) {
        let next = Owned {
            base: declared.base.clone(),
            file: declared.file.clone(),
            line: declared.line,
            leaving,
            ..row.clone()
        };
        self.own(next, Some(row));
    }

    /// Writes a row where it says something else than before.
    fn own(&mut self, row: Owned, before: Option<&Owned>) {
        if !row.overrides.is_empty() {
            self.plan.overridden += 1;
        }
        if before != Some(&row) {
            self.plan.ops.push(Op::Own(row));
        }
    }

    fn row(&self, declared: &Declared, uid: &str, before: Option<&Owned>) -> Owned {
        let source = &self.world.source.metadata;
        let (overrides, version) =
            before.map(|row| (row.overrides.clone(), row.version)).unwrap_or_default();
        Owned {
            kind: declared.object.kind(),
            name: declared.object.metadata().name.clone(),
            uid: uid.to_owned(),
            source_uid: source.uid.clone(),
            source: source.name.clone(),
            base: declared.base.clone(),
            file: declared.file.clone(),
            line: declared.line,
            overrides,
            leaving: false,
            version,
        }
    }

    fn create(
        &mut self,
        key: &Key,
        declared: &Declared,
        before: Option<&Owned>,
        uid: &mut dyn FnMut() -> String,
    ) {
        let mut object = match admit::create(declared.object.clone(), uid(), "") {
            Ok(object) => object,
            Err(Faults(faults)) => {
                return faults
                    .into_iter()
                    .for_each(|it| self.refuse(declared, &it.path, it.message));
            }
        };
        let mut row = self.row(declared, &object.metadata().uid, before);
        if !row.overrides.is_empty() {
            let (defaults, now) = (self.world.defaults, self.world.now);
            match lay(&object, &row.base, &row.overrides, defaults, now) {
                Ok(laid) => (object, row.overrides) = (laid.object, laid.kept),
                Err(_) => row.overrides.clear(),
            }
        }
        self.plan.ops.push(Op::Create(object));
        self.own(row, before);
        self.plan.created.push(key.clone());
    }

    /// Makes a standing object of ours as its file says.
    fn update(&mut self, key: &Key, declared: &Declared, row: &Owned, live: &AnyObject) {
        let spec = live.to_json()["spec"].take();
        let powered = powered(key.0, &spec, &row.base.spec, &declared.base.spec);
        let is_live = |over: &&crate::store::LiveOverride| over.expires > self.world.now;
        let patches = row.overrides.iter().filter(is_live).map(|over| &over.patch);
        let wanted = with_power_of(key.0, overlay(key.0, &declared.base.spec, patches), &powered);
        let metadata = live.metadata();
        let is_same = wanted == spec
            && metadata.labels == declared.base.labels
            && metadata.annotations == annotations(&declared.base, live);
        let mut next = self.row(declared, &row.uid, Some(row));
        next.overrides.retain(|over| is_live(&over));
        if is_same {
            return self.own(next, Some(row));
        }
        let standing = with_spec_of(live, powered);
        let laid =
            lay(&standing, &declared.base, &row.overrides, self.world.defaults, self.world.now);
        let laid = match laid {
            Ok(laid) => laid,
            Err(Faults(faults)) => {
                return faults
                    .into_iter()
                    .for_each(|it| self.refuse(declared, &it.path, it.message));
            }
        };
        if let Err(Faults(faults)) = admit::update(live, &laid.object) {
            return self.immutable(key, declared, faults);
        }
        next.overrides = laid.kept;
        let is_news = row.base != declared.base || row.overrides != next.overrides;
        if laid.object != *live {
            let list = if is_news { &mut self.plan.changed } else { &mut self.plan.drifted };
            list.push(key.clone());
            self.plan.ops.push(write(laid.object));
        }
        self.own(next, Some(row));
    }

    fn immutable(&mut self, key: &Key, declared: &Declared, faults: Vec<Fault>) {
        for fault in faults {
            let message = match key.0 {
                Kind::Job => format!(
                    "of {} cannot change, because its attempts are made from it; give the Job \
                     another name, or metadata.generateName in place of the name",
                    called(key)
                ),
                _ => format!("of {}: {}", called(key), fault.message),
            };
            self.refuse(declared, &fault.path, message);
        }
    }

    /// Takes an object that belongs to nobody, if it may be taken.
    fn adopt(&mut self, key: &Key, declared: &Declared, row: Option<&Owned>, live: &AnyObject) {
        let (metadata, name) = (live.metadata(), &self.world.source.metadata.name);
        if let Some(owner) = metadata.controller() {
            let owner = format!("{}/{}", owner.kind.singular(), owner.name);
            let message = format!("{} was made by {owner}; use another name", called(key));
            return self.refuse(declared, "metadata.name", message);
        }
        let is_handed = metadata.annotations.get(ADOPT) == Some(name);
        if metadata.annotations.get(RELEASED_FROM) == Some(name) && !is_handed {
            let message = format!(
                "{0} was let go, and belongs to nobody; take it out of the file, or give it back: \
                 annotate {0} with {ADOPT}={name}",
                called(key)
            );
            return self.refuse(declared, "metadata.name", message);
        }
        let base = &declared.base;
        let spec = live.to_json()["spec"].take();
        // Nothing was declared of it before: what the file turns on or off is news.
        let powered = powered(key.0, &spec, &Value::Null, &base.spec);
        let mut differs = differing(&spec, &with_power_of(key.0, base.spec.clone(), &powered));
        if metadata.labels != base.labels {
            differs.push("metadata.labels".to_owned());
        }
        // Whose it was, and who may have it, goes with being taken.
        let mut noted = metadata.annotations.clone();
        noted.retain(|key, _| key != ADOPT && key != RELEASED_FROM);
        if noted != annotations(base, live) {
            differs.push("metadata.annotations".to_owned());
        }
        if !differs.is_empty() && !is_handed {
            let message = format!(
                "{0} is there already and was declared by nobody, and differs in {1}; delete it, \
                 use another name, or hand it over: annotate {0} with {ADOPT}={name}",
                called(key),
                differs.join(", ")
            );
            return self.refuse(declared, "metadata.name", message);
        }
        let standing = with_spec_of(live, powered);
        let laid = match lay(&standing, base, &[], self.world.defaults, self.world.now) {
            Ok(laid) => laid,
            Err(Faults(faults)) => {
                return faults
                    .into_iter()
                    .for_each(|it| self.refuse(declared, &it.path, it.message));
            }
        };
        if let Err(Faults(faults)) = admit::update(live, &laid.object) {
            return self.immutable(key, declared, faults);
        }
        let next = Owned { overrides: Vec::new(), ..self.row(declared, &metadata.uid, row) };
        // Also where nothing of it changes: it must still be the one that was read.
        self.plan.ops.push(write(laid.object));
        self.own(next, row);
        self.plan.adopted.push(key.clone());
    }

    /// What the files do not name any more.
    fn remove(&mut self, key: &Key, row: &Owned, orphan: bool) {
        let disown = || Op::Disown { kind: key.0, name: key.1.clone(), version: row.version };
        match self.object_of(key, row) {
            None => self.plan.ops.push(disown()),
            // What is on its way out is seen to its end, whatever the policy is by now.
            Some(live) if orphan && !live.metadata().is_deleting() => {
                self.plan.ops.push(disown());
                self.plan.released.push(key.clone());
            }
            Some(live) => {
                self.plan.leaving += 1;
                self.own(Owned { leaving: true, ..row.clone() }, Some(row));
                if !live.metadata().is_deleting() {
                    self.plan.ops.push(Op::Delete {
                        kind: key.0,
                        name: key.1.clone(),
                        uid: Some(row.uid.clone()),
                        resource_version: None,
                    });
                    self.plan.deleted.push(key.clone());
                }
            }
        }
    }
}

/// Whether a Job that is not there has run, or an Override has ended, and its file still says the same.
fn is_done(row: &Owned, declared: &Declared) -> bool {
    matches!(row.kind, Kind::Job | Kind::Override)
        && !row.leaving
        && row.base.spec == declared.base.spec
}

/// The object with another spec of the same form.
fn with_spec_of(live: &AnyObject, spec: Value) -> AnyObject {
    let mut json = live.to_json();
    json["spec"] = spec;
    // It differs in a switch alone, so it can be read.
    AnyObject::from_json(live.kind(), json).unwrap_or_else(|_| live.clone())
}

fn write(object: AnyObject) -> Op {
    Op::Write { object, part: Part::Desired, expect: Expect::SameVersion }
}

/// The fields in which two specs differ.
fn differing(a: &Value, b: &Value) -> Vec<String> {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return Vec::new() };
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&&String| a.get(**name) != b.get(**name);
    names.iter().filter(differs).map(|name| format!("spec.{name}")).collect()
}
