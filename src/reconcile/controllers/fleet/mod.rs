//! Fleets: Agents or Jobs from a template, made, changed and removed until they are as it says.
//!
//! [`crate::resource::expand`] says which members there shall be, and all of what each of them is;
//! [`member`] compares one with what there is; [`plan`] decides what is done now, [`stand`] how that
//! reads. What is done is a commit that fails if the Fleet has changed since it was read.

mod cap;
mod member;
mod plan;
mod runs;
mod stand;
#[cfg(test)]
mod tests;
mod usual;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use plan::{Action, Trouble, View, plan};

use super::{
    hands::{Hands, next_at, write},
    history::told,
    job::{delete, owners},
    made::{Note, held, is_held, release},
    words,
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{
        AnyObject, Defaults, Fleet, FleetStatus, Kind, OwnerReference, Usual,
        expand::{Member, NoDirectories, members},
        fleet::Generator,
    },
    store::{Change, ChangeKind, Op, Part, Store},
};

/// Who knows the directories of what Sources have read.
#[async_trait]
pub trait Directories: Send + Sync {
    /// The directories under a pattern (`*` stands for any text without a slash) at the revision of a
    /// Source that was applied last, from the repository's root on.
    ///
    /// # Errors
    /// Why nobody can tell, in one line for people.
    async fn matching(&self, source: &str, pattern: &str) -> Result<Vec<String>, String>;
}

/// A server without Git sources.
pub struct NoSources;

#[async_trait]
impl Directories for NoSources {
    async fn matching(&self, source: &str, _: &str) -> Result<Vec<String>, String> {
        Err(format!("source {source} cannot be asked: this server reads no Git sources"))
    }
}

/// Makes the members of Fleets. Its keys are the Fleets' uids.
pub struct FleetController {
    hands: Hands,
    defaults: Defaults,
    directories: Arc<dyn Directories>,
    /// Which Fleets are to be looked at when a Source has changed. A hint: after a start all are.
    readers: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// Which names each Fleet waits for, by its uid: it is to be looked at once one of them is free. A
    /// hint as well.
    waits: Mutex<BTreeMap<String, BTreeSet<(Kind, String)>>>,
}

impl FleetController {
    /// A controller over a store. `defaults` say what a template need not, and where members may work
    /// on this server.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        ambient: Ambient,
        defaults: Defaults,
        directories: Arc<dyn Directories>,
    ) -> Self {
        let hands = Hands { store, ambient };
        let (readers, waits) = (Mutex::default(), Mutex::default());
        Self { hands, defaults, directories, readers, waits }
    }

    /// The members that there shall be, or why nobody can tell; and what they are filled in with, where
    /// that has to be noted first.
    async fn wanted(&self, fleet: &Fleet) -> Result<(Vec<Member>, Option<Usual>), Trouble> {
        let paths = match &fleet.spec.generate {
            Generator::GitDirectories(from) => {
                self.watch(&from.source, &fleet.metadata.uid);
                let found = self.directories.matching(&from.source, &from.pattern).await;
                Some(found.map_err(|why| Trouble { reason: words::NO_DIRECTORIES, message: why })?)
            }
            _ => None,
        };
        let known = paths.as_deref().ok_or(NoDirectories);
        let noted = fleet.status.usual_of(&fleet.spec);
        let usual = noted.unwrap_or_else(|| self.defaults.usual(&fleet.spec));
        let (defaults, mut is_silent) = (self.defaults.with_usual(&usual), false);
        let made = members(&fleet.metadata.name, &fleet.spec, known, &mut |spec| {
            is_silent |= Usual::is_asked_by(spec);
            defaults.fill(spec, false)?;
            defaults.check_place(spec)
        });
        let is_news = is_silent && fleet.status.usual.as_ref() != Some(&usual);
        let made = made.map(|made| (made, is_news.then_some(usual)));
        made.map_err(|faults| Trouble {
            reason: words::BAD_TEMPLATE,
            message: faults.to_string().replace('\n', "; "),
        })
    }

    fn watch(&self, source: &str, uid: &str) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.entry(source.to_owned()).or_default().insert(uid.to_owned());
    }

    /// Which of the wanted names others hold.
    async fn taken(
        &self,
        fleet: &Fleet,
        wanted: &[Member],
        owned: &[AnyObject],
    ) -> Result<BTreeSet<String>, Error> {
        let ours: BTreeSet<(Kind, &str)> =
            owned.iter().map(|object| (object.kind(), object.metadata().name.as_str())).collect();
        let FleetStatus { runs, past_runs, .. } = &fleet.status;
        // A Job that was made is not made again, whoever has its name by now.
        let has_run = |name: &str| runs.contains_key(name) || past_runs.contains_key(name);
        let is_made = |kind: Kind, name: &str| {
            ours.contains(&(kind, name)) || (kind == Kind::Job && has_run(name))
        };
        let names = wanted.iter().map(|member| (member.object.kind(), &member.name));
        let missing: BTreeSet<(Kind, String)> = names
            .filter(|(kind, name)| !is_made(*kind, name))
            .map(|(kind, name)| (kind, name.clone()))
            .collect();
        if missing.is_empty() {
            self.wait_for(fleet, missing);
            return Ok(BTreeSet::new());
        }
        // It hears of all of them before it looks: one may become free just then.
        self.wait_for(fleet, missing.clone());
        let mut taken = BTreeSet::new();
        for (kind, name) in missing {
            if self.hands.store.get(kind, &name).await?.is_some() {
                taken.insert((kind, name));
            }
        }
        self.wait_for(fleet, taken.clone());
        Ok(taken.into_iter().map(|(_, name)| name).collect())
    }

    /// Forgets what it would be told of a Fleet that is gone.
    fn forget(&self, uid: &str) {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|_, fleets| {
            fleets.remove(uid);
            !fleets.is_empty()
        });
    }

    /// From now on the Fleet is looked at when one of these names becomes free.
    fn wait_for(&self, fleet: &Fleet, names: BTreeSet<(Kind, String)>) {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if names.is_empty() {
            waits.remove(&fleet.metadata.uid);
        } else {
            waits.insert(fleet.metadata.uid.clone(), names);
        }
    }

    /// The Fleets that wait for the name of what is gone.
    fn waiting_for(&self, gone: &AnyObject) -> Vec<(String, Wake)> {
        let name = (gone.kind(), gone.metadata().name.clone());
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let fleets = waits.iter().filter(|(_, names)| names.contains(&name));
        fleets.map(|(uid, _)| (uid.clone(), Wake::Observation)).collect()
    }

    /// Takes over the members of a Fleet of this name that is gone without having let go of them, which
    /// is so only where somebody took it out of the store by hand. They stay who they are.
    async fn inherit(&self, fleet: &Fleet, taken: &BTreeSet<String>) -> Result<bool, Error> {
        let (store, kind) = (&self.hands.store, fleet.spec.template.kind);
        let mut ops = Vec::new();
        let mut asked = BTreeSet::new();
        for name in taken {
            let Some(object) = store.get(kind, name).await? else { continue };
            let owner = object.metadata().controller().cloned();
            let like = |owner: &OwnerReference| {
                owner.kind == Kind::Fleet && owner.name == fleet.metadata.name
            };
            let Some(owner) = owner.filter(like) else { continue };
            if !asked.insert(owner.uid.clone())
                || store.get_by_uid(Kind::Fleet, &owner.uid).await?.is_some()
            {
                continue;
            }
            for mut member in store.list_owned(kind, &owner.uid).await? {
                for held in &mut member.metadata_mut().owner_references {
                    if held.uid == owner.uid {
                        held.uid.clone_from(&fleet.metadata.uid);
                    }
                }
                ops.push(write(member, Part::Finalizers));
            }
        }
        if ops.is_empty() {
            return Ok(false);
        }
        // Writes nothing, and fails where the Fleet has changed since.
        ops.push(write(fleet.clone(), Part::Status));
        self.hands.commit("fleet.inherit-members", ops).await?;
        Ok(true)
    }

    /// Which Agents that are not wanted owe somebody an answer. Their status says so, too, but later.
    async fn owing(
        &self,
        wanted: &[Member],
        owned: &[AnyObject],
    ) -> Result<BTreeSet<String>, Error> {
        let names: BTreeSet<&str> = wanted.iter().map(|member| member.name.as_str()).collect();
        let mut owing = BTreeSet::new();
        for object in owned.iter().filter(|object| object.kind() == Kind::Agent) {
            let metadata = object.metadata();
            if names.contains(metadata.name.as_str()) || metadata.is_deleting() {
                continue;
            }
            let sums = self.hands.store.turn_sums(&metadata.uid).await?;
            if sums.queued + sums.running > 0 {
                owing.insert(metadata.uid.clone());
            }
        }
        Ok(owing)
    }

    async fn act(&self, fleet: &Fleet, action: Action) -> Result<(), Error> {
        let hands = &self.hands;
        // Writes nothing, and fails where the Fleet has changed since.
        let unchanged = || write(fleet.clone(), Part::Status);
        match action {
            Action::AddFinalizer => {
                let metadata = held(fleet.metadata.clone(), true);
                let held = Fleet { metadata, ..fleet.clone() };
                hands.commit("fleet.add-finalizer", vec![write(held, Part::Finalizers)]).await
            }
            Action::Create { members, status, notes } => {
                let mut ops = with_status(fleet, *status, &notes);
                ops.push(Op::WrittenBy(manager(fleet)));
                ops.extend(members.into_iter().map(|mut member| {
                    member.metadata_mut().uid = hands.ambient.ids.uid();
                    Op::Create(member)
                }));
                hands.commit("fleet.create-members", ops).await
            }
            Action::Update { member, note } => {
                let note = note.op(Kind::Fleet, &fleet.metadata);
                let by = Op::WrittenBy(manager(fleet));
                let ops = vec![unchanged(), by, write(*member, Part::Desired), note];
                hands.commit("fleet.update-member", ops).await
            }
            Action::Prune { members, left, notes } => {
                let mut ops = match left {
                    // It fails like the other where the Fleet has changed since.
                    Some(left) => {
                        let used = write(cap::with_left(fleet, left), Part::Desired);
                        vec![Op::WrittenBy(manager(fleet)), used]
                    }
                    None => vec![unchanged()],
                };
                ops.extend(notes.iter().map(|note| note.op(Kind::Fleet, &fleet.metadata)));
                for member in members {
                    // One that has changed since is looked at again; and one that somebody speaks to
                    // at this moment, which changes nothing of it but its queue.
                    ops.push(write(member.clone(), Part::Status));
                    if member.kind() == Kind::Agent {
                        ops.push(Op::NoOpenTurns { agent_uid: member.metadata().uid.clone() });
                    }
                    ops.push(delete(member.kind(), member.metadata()));
                }
                hands.commit("fleet.prune-members", ops).await
            }
            Action::Delete(member) => {
                let op = delete(member.kind(), member.metadata());
                hands.commit("fleet.delete-member", vec![op]).await
            }
            Action::Release(member) => {
                let op = release(*member, &fleet.metadata.uid);
                hands.commit("fleet.release-member", vec![op]).await
            }
            Action::LowerConfirmation(left) => {
                let lowered = cap::with_left(fleet, left);
                let ops = vec![Op::WrittenBy(manager(fleet)), write(lowered, Part::Desired)];
                hands.commit("fleet.drop-confirmation", ops).await
            }
            Action::WriteStatus(status) => {
                hands.commit("fleet.write-status", with_status(fleet, *status, &[])).await
            }
            Action::DropFinalizer => {
                let metadata = held(fleet.metadata.clone(), false);
                let free = Fleet { metadata, ..fleet.clone() };
                hands.commit("fleet.drop-finalizer", vec![write(free, Part::Finalizers)]).await
            }
        }
    }
}

/// What a Fleet is called in the account of its members' fields.
fn manager(fleet: &Fleet) -> String {
    format!("fleet/{}", fleet.metadata.name)
}

/// The status, with what came to hold, and what there is to tell.
fn with_status(fleet: &Fleet, status: FleetStatus, notes: &[Note]) -> Vec<Op> {
    let (before, after) = (&fleet.status.conditions, &status.conditions);
    let mut ops = told(Kind::Fleet, &fleet.metadata, before, after);
    ops.extend(notes.iter().map(|note| note.op(Kind::Fleet, &fleet.metadata)));
    ops.push(write(Fleet { status, ..fleet.clone() }, Part::Status));
    ops
}

#[async_trait]
impl Controller for FleetController {
    fn name(&self) -> &'static str {
        "fleet"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        if change.object.kind() != Kind::Source {
            let mut fleets = owners(Kind::Fleet, change);
            if change.kind == ChangeKind::Deleted {
                fleets.extend(self.waiting_for(&change.object));
            }
            return fleets;
        }
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let uids = readers.get(&change.object.metadata().name).into_iter().flatten();
        uids.map(|uid| (uid.clone(), Wake::Observation)).collect()
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let mut keys: Vec<_> = self
            .hands
            .all(Kind::Fleet)
            .await?
            .into_iter()
            .filter_map(AnyObject::into_fleet)
            .map(|fleet| (rank(&fleet), fleet.metadata.uid))
            .collect();
        keys.sort_by_key(|((_, place), _)| *place);
        Ok(keys.into_iter().map(|((wake, _), key)| (key, wake)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let store = &self.hands.store;
        let fleet = store.get_by_uid(Kind::Fleet, key).await?;
        let Some(fleet) = fleet.and_then(AnyObject::into_fleet) else {
            self.forget(key);
            return Ok(Next::Done);
        };
        let mut owned = store.list_owned(Kind::Agent, key).await?;
        owned.extend(store.list_owned(Kind::Job, key).await?);
        let wanted = if fleet.metadata.is_deleting() || fleet.spec.suspend {
            Ok(Vec::new())
        } else {
            match self.wanted(&fleet).await {
                Ok((_, Some(usual))) => {
                    let mut status = fleet.status.clone();
                    usual::note(&mut status, &fleet.spec, usual, self.hands.now());
                    let ops = with_status(&fleet, status, &[]);
                    self.hands.commit("fleet.note-usual", ops).await?;
                    return Ok(Next::After(Duration::ZERO));
                }
                wanted => wanted.map(|(members, _)| members),
            }
        };
        let taken = match &wanted {
            Ok(wanted) => self.taken(&fleet, wanted, &owned).await?,
            Err(_) => BTreeSet::new(),
        };
        // Whoever takes over members is held first, or it could go and leave them behind in its turn.
        if is_held(&fleet.metadata) && !taken.is_empty() && self.inherit(&fleet, &taken).await? {
            return Ok(Next::After(Duration::ZERO));
        }
        let owing = match &wanted {
            Ok(wanted) => self.owing(wanted, &owned).await?,
            Err(_) => BTreeSet::new(),
        };
        let now = self.hands.now();
        let wanted = wanted.as_deref().map_err(Clone::clone);
        let (taken, owing) = (&taken, &owing);
        let plan = plan(&View { fleet: &fleet, wanted, owned: &owned, taken, owing, now });
        let acted = !plan.actions.is_empty();
        for action in plan.actions {
            self.act(&fleet, action).await?;
        }
        Ok(if acted { Next::After(Duration::ZERO) } else { next_at(plan.again, now) })
    }
}

/// Which Fleets come first after a start.
fn rank(fleet: &Fleet) -> (Wake, u8) {
    if fleet.metadata.is_deleting() {
        (Wake::User, 0)
    } else if fleet.metadata.generation != fleet.status.observed_generation {
        (Wake::User, 1)
    } else if !fleet.status.conditions.is_true(words::READY) {
        (Wake::Observation, 2)
    } else {
        (Wake::Timer, 3)
    }
}
