//! The controller of Sources: reads, compares, and commits a revision whole or not at all.
//!
//! Its keys are the Sources' names. A reconcile reads everything anew: the Source, its files, what it
//! owns, and what stands in the store of that. What has to be written, the status, the lines of its
//! history and the notices to chat go in one transaction, on top of what was read; whoever writes
//! meanwhile makes it begin again. Where nothing has to be written, nothing is: files are all that is
//! touched.
//!
//! What it remembers between two looks costs time when it is lost, and never truth: what the files
//! meant that were read last, what was seen but not twice yet, and which objects concern which
//! Source.
//!
//! **Seen twice.** A directory's new content is taken once two looks, [`SETTLE`] apart, have found the
//! same: so a directory in the middle of being written is not taken for what it is to be.
//!
//! **Many at once.** What takes the time of others, such as a fetch, many Sources may do at once, if not
//! all of them of one host ([`super::lanes`]). What takes our memory, from the first file that is read to
//! the commit, only a few do.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::{
    Snapshot, SourceFile, directory,
    git::{Git, GitError, Reading},
    heir,
    lanes::{Bounds, Lane, Lanes},
    many::{self, Decision, Part, Stop},
    plan::{Plan, Refusal, World, release},
    read,
    set::{Key, Limits, Rejected, Rules, Set},
    stand::{self, Outcome, Reason, conversation, line},
    watch::Watches,
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{
        AnyObject, CONFIRM_DELETIONS, DEFAULT_SOURCE_INTERVAL, Defaults, FINALIZER_OWNED, Faults,
        Kind, Source, SourceFrom,
    },
    store::{self, Change, ChangeKind, Delivery, Expect, Op, Store, Subject, Transaction},
};

/// How far apart two looks are that must find the same.
pub const SETTLE: Duration = Duration::from_millis(100);
/// How many Sources are looked at at once.
const WORKERS: usize = 16;
/// How many of them may ask hosts for repositories; the others are for directories.
const LANES: Bounds = Bounds { all: 12, host: 3 };
/// Of how many the files are in memory at once: each may have 64 MiB.
const IN_HAND: usize = 4;
/// How soon it is looked again whether a host is free to be asked.
const NEXT_TURN: Duration = Duration::from_secs(1);
/// How soon it is looked again for a directory that is not there, or for what waits for others.
const SOON: Duration = Duration::from_secs(5);
/// How long one look may take: a fetch of one repository ends after five minutes at the latest.
const DEADLINE: Duration = Duration::from_secs(15 * 60);
/// The shortest interval.
const SHORTEST: Duration = Duration::from_secs(1);
/// How many objects are read from the store at once.
const PAGE: usize = 1_000;
/// From so many objects on, a kind is read whole and not object by object.
const READ_SINGLY: usize = 20;

/// Keeps the store as files say. Its keys are the Sources' names.
pub struct SourceController {
    store: Arc<dyn Store>,
    ambient: Ambient,
    defaults: Arc<Defaults>,
    /// Where relative directories lie.
    base: PathBuf,
    git: Option<Git>,
    watches: Option<Arc<Watches>>,
    hints: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
    lanes: Lanes,
    hands: Semaphore,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// What was seen of a Source, and not twice yet, by uid.
    seen: HashMap<String, String>,
    /// What files meant, by the Source's uid and the repository, where there are several.
    meant: HashMap<String, BTreeMap<Option<String>, Meant>>,
    /// At which generation a Source's former repositories were forgotten, by uid.
    swept: HashMap<String, u64>,
    /// Which Source an object concerns, by name.
    concerns: HashMap<Key, String>,
}

/// What the files of a revision mean.
#[derive(Clone)]
struct Meant {
    revision: String,
    generation: u64,
    result: Arc<Result<Set, Rejected>>,
}

impl SourceController {
    /// A controller over a store. Relative directories lie in `base`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        ambient: Ambient,
        defaults: Arc<Defaults>,
        base: PathBuf,
    ) -> Self {
        Self {
            store,
            ambient,
            defaults,
            base,
            git: None,
            watches: None,
            hints: Mutex::default(),
            lanes: Lanes::new(LANES),
            hands: Semaphore::new(IN_HAND),
            memory: Mutex::default(),
        }
    }

    /// Lets directories tell when they change. Without, they are read at intervals alone.
    #[must_use]
    pub fn with_watches(mut self) -> Self {
        let (watches, hints) = Watches::new();
        self.watches = Some(Arc::new(watches));
        self.hints = Mutex::new(Some(hints));
        self
    }

    /// Reads Git repositories by this.
    #[must_use]
    pub fn with_git(mut self, git: Git) -> Self {
        self.git = Some(git);
        self
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a Source that is gone.
    fn forget(&self, name: &str) {
        if let Some(watches) = &self.watches {
            watches.forget(name);
        }
        self.memory().concerns.retain(|_, source| source != name);
    }

    /// Forgets what was read for a Source that is gone.
    fn forget_files(&self, uid: &str) {
        let mut memory = self.memory();
        memory.seen.remove(uid);
        memory.meant.remove(uid);
        memory.swept.remove(uid);
    }

    /// A lane to each host that a Source is read from; none while they are taken.
    fn lane(&self, source: &Source) -> Option<Lane<'_>> {
        let hosts = match &source.spec.from {
            SourceFrom::Directory(_) => Vec::new(),
            SourceFrom::Git(spec) => Git::hosts(spec),
        };
        self.lanes.enter(hosts)
    }

    /// Waits until there is memory for what files say.
    async fn hand(&self) -> Result<SemaphorePermit<'_>, read::Error> {
        let closed = |error| read::Error::Unreachable(format!("reading failed: {error}"));
        self.hands.acquire().await.map_err(closed)
    }

    /// Reads a Source. What it says is in memory for as long as the second is there.
    async fn read(
        &self,
        source: &Source,
        lane: Lane<'_>,
    ) -> Result<(Reading, SemaphorePermit<'_>), read::Error> {
        match &source.spec.from {
            SourceFrom::Directory(directory) => {
                let hand = self.hand().await?;
                let path = self.base.join(&directory.path);
                let (watches, name) = (self.watches.clone(), source.metadata.name.clone());
                let reading = tokio::task::spawn_blocking(move || {
                    if let Some(watches) = watches {
                        watches.follow(&name, &path);
                    }
                    directory::read(&path)
                });
                let failed = |error| read::Error::Unreachable(format!("reading failed: {error}"));
                let snapshot = reading.await.map_err(failed)??;
                Ok((Reading { snapshot, repos: Vec::new() }, hand))
            }
            SourceFrom::Git(spec) => {
                let Some(git) = &self.git else {
                    let message = "this server reads no Git repositories".to_owned();
                    return Err(read::Error::Never(message));
                };
                let uid = &source.metadata.uid;
                let fetched = git.fetched(uid, spec).await?;
                drop(lane);
                let hand = self.hand().await?;
                Ok((git.texts(uid, spec, fetched).await?, hand))
            }
        }
    }

    /// Whether what was read has been seen twice, or was looked at already.
    fn is_settled(&self, source: &Source, read: &Result<Reading, read::Error>) -> bool {
        let uid = &source.metadata.uid;
        let status = &source.status;
        let (seen, is_known) = match read {
            Ok(Reading { snapshot, .. }) => {
                let known = status.last_attempted_revision.as_deref();
                (snapshot.revision.clone(), known == Some(&snapshot.revision))
            }
            Err(error) => {
                let said = status.conditions.get(stand::READY).map(|ready| ready.message.clone());
                let shown = reject_read(error).map(|(_, faults)| stand::shown(&faults));
                (error.to_string(), shown.is_some() && said == shown)
            }
        };
        let mut memory = self.memory();
        let is_git = matches!(source.spec.from, SourceFrom::Git(_));
        if is_known || is_git || memory.seen.get(uid) == Some(&seen) {
            memory.seen.remove(uid);
            return true;
        }
        memory.seen.insert(uid.clone(), seen);
        false
    }

    /// What a reading means, each repository by itself.
    async fn parts(&self, source: &Source, reading: &Reading) -> Result<Vec<Part>, Error> {
        let (uid, several) = (&source.metadata.uid, reading.repos.iter().any(|it| it.several));
        let mut meant = BTreeMap::new();
        if several {
            let limits = Limits::share(reading.repos.len());
            for repo in &reading.repos {
                let Some(commit) = &repo.commit else { continue };
                let files = || reading.files_of(&repo.name).cloned().collect();
                let place = Some(repo.name.clone());
                let meaning = self.meaning(source, &place, commit, files, limits).await?;
                meant.insert(place, meaning);
            }
        } else {
            let Snapshot { revision, files } = &reading.snapshot;
            let files = || files.clone();
            let meaning = self.meaning(source, &None, revision, files, Limits::WHOLE).await?;
            meant.insert(None, meaning);
        }
        let unread = |why: &str| Err(Rejected { denied: false, faults: line(why) });
        let mut parts: Vec<Part> = meant
            .iter()
            .map(|(repo, it)| Part { repo: repo.clone(), meaning: Arc::clone(&it.result) })
            .collect();
        parts.extend(reading.troubles().filter(|_| several).map(|(name, why)| Part {
            repo: Some(name.to_owned()),
            meaning: Arc::new(unread(why)),
        }));
        // What is read no more is not kept either.
        self.memory().meant.insert(uid.clone(), meant);
        Ok(parts)
    }

    /// What files mean; known still, where they are the same. They are asked for where it is not.
    async fn meaning(
        &self,
        source: &Source,
        repo: &Option<String>,
        revision: &str,
        files: impl FnOnce() -> Vec<SourceFile>,
        limits: Limits,
    ) -> Result<Meant, Error> {
        let (uid, generation) = (&source.metadata.uid, source.metadata.generation);
        if let Some(meant) = self.memory().meant.get(uid).and_then(|of_it| of_it.get(repo))
            && meant.revision == revision
            && meant.generation == generation
        {
            return Ok(meant.clone());
        }
        let revision = revision.to_owned();
        let snapshot = Snapshot { revision: revision.clone(), files: files() };
        let (defaults, policy) = (Arc::clone(&self.defaults), source.spec.policy.clone());
        let name = source.metadata.name.clone();
        // There may be a lot of it.
        let read = tokio::task::spawn_blocking(move || {
            let (policy, source) = (policy.as_ref(), name.as_str());
            let rules = Rules { defaults: &defaults, policy, source, limits };
            Set::read(&snapshot, rules)
        });
        let failed = |error| Error::Transient(format!("reading failed: {error}"));
        let result = Arc::new(read.await.map_err(failed)?);
        Ok(Meant { revision, generation, result })
    }

    /// The rows and the objects that a plan needs: of all that the Source owns or a part declares.
    async fn found(&self, source: &Source, parts: &[Part]) -> Result<Found, Error> {
        let sets = || parts.iter().filter_map(|part| part.meaning.as_ref().as_ref().ok());
        let declared: BTreeSet<&Key> = sets().flat_map(|set| set.objects.keys()).collect();
        let own = self.store.inventory(&source.metadata.uid).await?;
        let mut rows: BTreeMap<Key, _> =
            own.into_iter().map(|row| ((row.kind, row.name.clone()), row)).collect();
        let fresh: Vec<&Key> =
            declared.iter().copied().filter(|key| !rows.contains_key(*key)).collect();
        for key in fresh {
            if let Some(row) = self.store.owned(key.0, &key.1).await? {
                rows.insert(key.clone(), row);
            }
        }
        let keys: BTreeSet<Key> = rows.keys().chain(declared).cloned().collect();
        let live = self.objects(&keys).await?;
        let name = &source.metadata.name;
        let is_ours =
            |key: &Key| rows.get(key).is_none_or(|row| row.source_uid == source.metadata.uid);
        let mut memory = self.memory();
        memory.concerns.retain(|_, of| of != name);
        for key in keys.into_iter().filter(is_ours) {
            memory.concerns.insert(key, name.clone());
        }
        drop(memory);
        Ok(Found { rows, live })
    }

    async fn objects(&self, keys: &BTreeSet<Key>) -> Result<BTreeMap<Key, AnyObject>, Error> {
        let mut found = BTreeMap::new();
        for kind in Kind::ALL {
            let of_kind: Vec<&Key> = keys.iter().filter(|key| key.0 == kind).collect();
            if of_kind.len() <= READ_SINGLY {
                for key in of_kind {
                    if let Some(object) = self.store.get(kind, &key.1).await? {
                        found.insert(key.clone(), object);
                    }
                }
                continue;
            }
            let mut after: Option<String> = None;
            loop {
                let page = self.store.list(kind, after.as_deref(), PAGE).await?;
                after = page.items.last().map(|object| object.metadata().name.clone());
                for object in page.items {
                    let key = (kind, object.metadata().name.clone());
                    if keys.contains(&key) {
                        found.insert(key, object);
                    }
                }
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Commits what a look came to: operations, status, history and notices together. Nothing where
    /// there is nothing new.
    async fn commit(
        &self,
        step: &'static str,
        source: &Source,
        mut ops: Vec<Op>,
        outcome: &Outcome<'_>,
    ) -> Result<(), Error> {
        let now = self.ambient.clock.now();
        let status = stand::status(source, outcome, now);
        if ops.is_empty() && status == source.status {
            return Ok(());
        }
        ops.insert(0, Op::WrittenBy(format!("source/{}", source.metadata.name)));
        ops.extend(stand::events(source, outcome, &status));
        if let Some(text) = stand::notice(source, outcome, &status) {
            tracing::info!(source = source.metadata.name, "{text}");
            for channel in &source.spec.channels {
                let (id, subject) =
                    (self.ambient.ids.uid(), Subject::Notice { text: text.clone() });
                ops.push(Op::Delivery(Delivery::open(id, conversation(channel), subject, now)));
            }
        }
        let object = Source { status, ..source.clone() }.into();
        ops.push(Op::Write { object, part: store::Part::Status, expect: Expect::SameVersion });
        if let Outcome::Applied { plan: Plan { confirmed: true, .. }, .. } = outcome {
            // The same revision may be read again, after another one; it must be asked for again then.
            let mut used = source.clone();
            used.metadata.annotations.remove(CONFIRM_DELETIONS);
            let (part, expect) = (store::Part::Desired, Expect::Any);
            ops.push(Op::Write { object: used.into(), part, expect });
        }
        self.apply(step, ops, now).await
    }

    async fn apply(&self, step: &'static str, ops: Vec<Op>, now: Timestamp) -> Result<(), Error> {
        self.ambient.step(step, self.store.apply(Transaction { ops, now })).await?;
        Ok(())
    }

    async fn look(&self, source: &Source) -> Result<Next, Error> {
        // Waiting is no success: a backoff that it would end grows on.
        let lane = self.lane(source).ok_or(Error::RateLimited(NEXT_TURN))?;
        let read = self.ambient.step("source.read", self.read(source, lane)).await;
        let (read, hand) = match read {
            Ok((reading, hand)) => (Ok(reading), Some(hand)),
            Err(read::Error::Fault(fault)) => return Err(fault.into()),
            Err(error) => (Err(error), None),
        };
        if !self.is_settled(source, &read) {
            return Ok(Next::After(SETTLE));
        }
        let mut reading = match read {
            Ok(reading) => reading,
            Err(error) => return self.unread(source, &error).await,
        };
        let parts = self.parts(source, &reading).await?;
        reading.snapshot.files = Vec::new();
        let mut found = self.found(source, &parts).await?;
        let left = heir::inherit(&*self.store, source, &found.rows).await?;
        if !left.is_empty() {
            self.apply("source.inherit", left, self.ambient.clock.now()).await?;
            found = self.found(source, &parts).await?;
        }
        let kept = BTreeSet::new();
        let world = found.world(source, &kept, &self.defaults, self.ambient.clock.now());
        let revision = |out: &BTreeSet<&str>| reading.revision_without(out);
        let decision = many::decide(world, &parts, &revision, &mut || self.ambient.ids.uid());
        let Decision { plan, revision, objects, troubles } = decision;
        let plan = match plan {
            Ok(plan) => plan,
            Err(stop) => {
                let revision = Some(revision.as_str());
                let (reason, faults, held) = stopped(source, stop);
                let outcome = Outcome::Rejected { revision, reason, faults, held };
                self.commit("source.write-status", source, Vec::new(), &outcome).await?;
                return Ok(interval(source));
            }
        };
        let (away, troubles): (BTreeMap<_, _>, BTreeMap<_, _>) =
            troubles.into_iter().partition(|(name, _)| reading.is_away(name));
        let (troubles, away, notes) = (many::lines(&troubles), many::lines(&away), reading.notes());
        let (revision, troubles, away, notes) = (&*revision, &*troubles, &*away, &*notes);
        let outcome = Outcome::Applied { revision, objects, plan: &plan, troubles, away, notes };
        let step = if plan.ops.is_empty() { "source.write-status" } else { "source.apply" };
        self.commit(step, source, plan.ops.clone(), &outcome).await?;
        // A mirror may have to be waited for.
        drop(hand);
        self.settle(source, &reading).await?;
        let waits = !plan.waiting.is_empty() || plan.leaving > 0;
        Ok(if waits { Next::After(SOON) } else { interval(source) })
    }

    /// Notes with the repositories what is applied, and forgets those that the Source does not name
    /// any more. What fails of that costs room, or a later look, and never truth.
    async fn settle(&self, source: &Source, reading: &Reading) -> Result<(), Error> {
        let (Some(git), Source { metadata, spec, .. }) = (&self.git, source) else {
            return Ok(());
        };
        let from = match &spec.from {
            SourceFrom::Git(from) => Some(from),
            SourceFrom::Directory(_) => None,
        };
        if let Some(from) = from {
            match git.accept(&metadata.uid, from, reading).await {
                Err(GitError::Fault(fault)) => return Err(fault.into()),
                Err(error) => {
                    tracing::warn!(source = metadata.name, %error, "could not be noted as applied");
                }
                Ok(()) => {}
            }
        }
        if self.memory().swept.get(&metadata.uid) == Some(&metadata.generation) {
            return Ok(());
        }
        match git.sweep(&metadata.uid, from).await {
            Err(GitError::Fault(fault)) => Err(fault.into()),
            Err(error) => {
                tracing::warn!(source = metadata.name, %error, "a former mirror stays");
                Ok(())
            }
            Ok(()) => {
                self.memory().swept.insert(metadata.uid.clone(), metadata.generation);
                Ok(())
            }
        }
    }

    /// Says why nothing could be read.
    async fn unread(&self, source: &Source, error: &read::Error) -> Result<Next, Error> {
        let Some((reason, faults)) = reject_read(error) else { return Ok(interval(source)) };
        let outcome = Outcome::Rejected { revision: None, reason, faults, held: 0 };
        self.commit("source.write-status", source, Vec::new(), &outcome).await?;
        match error {
            read::Error::Missing(_) => Ok(Next::After(SOON)),
            read::Error::Unreachable(message) => Err(Error::Transient(message.clone())),
            _ => Ok(interval(source)),
        }
    }

    /// Lets a deleted Source go, once nothing of what it owned is left to see to.
    async fn finish(&self, source: &Source) -> Result<Next, Error> {
        if !source.metadata.finalizers.iter().any(|held| held == FINALIZER_OWNED) {
            return Ok(Next::Done);
        }
        let (found, kept) = (self.found(source, &[]).await?, BTreeSet::new());
        let world = found.world(source, &kept, &self.defaults, self.ambient.clock.now());
        match release(world) {
            Ok(Plan { ops, leaving: 0, .. }) => {
                // Before the Source is gone, since nobody would come back for it.
                if let Some(git) = &self.git {
                    match git.sweep(&source.metadata.uid, None).await {
                        Err(GitError::Fault(fault)) => return Err(fault.into()),
                        Err(error) => {
                            tracing::warn!(source = source.metadata.name, %error, "its mirror stays");
                        }
                        Ok(()) => {}
                    }
                }
                let mut free = source.clone();
                free.metadata.finalizers.retain(|held| held != FINALIZER_OWNED);
                let (part, expect) = (store::Part::Finalizers, Expect::SameVersion);
                let mut ops = ops;
                ops.push(Op::Write { object: free.into(), part, expect });
                self.apply("source.drop-finalizer", ops, self.ambient.clock.now()).await?;
                self.forget_files(&source.metadata.uid);
                Ok(Next::Done)
            }
            Ok(plan) => {
                let outcome = Outcome::Leaving(plan.leaving);
                self.commit("source.release", source, plan.ops, &outcome).await?;
                Ok(Next::After(SOON))
            }
            Err(refusal) => {
                let (reason, faults, held) = refused(source, refusal);
                let outcome = Outcome::Rejected { revision: None, reason, faults, held };
                self.commit("source.write-status", source, Vec::new(), &outcome).await?;
                Ok(Next::Done)
            }
        }
    }
}

struct Found {
    rows: BTreeMap<Key, store::Owned>,
    live: BTreeMap<Key, AnyObject>,
}

impl Found {
    fn world<'a>(
        &'a self,
        source: &'a Source,
        kept: &'a BTreeSet<Key>,
        defaults: &'a Defaults,
        now: Timestamp,
    ) -> World<'a> {
        World { source, rows: &self.rows, live: &self.live, kept, defaults, now }
    }
}

fn interval(source: &Source) -> Next {
    let interval = source.spec.interval.unwrap_or(DEFAULT_SOURCE_INTERVAL).as_duration();
    Next::After(interval.max(SHORTEST))
}

/// Why nothing could be read, in a word and in lines; nothing for a scripted fault.
fn reject_read(error: &read::Error) -> Option<(Reason, Faults)> {
    Some(match error {
        read::Error::Missing(message) => (Reason::Missing, line(message)),
        read::Error::Unfit(faults) => (Reason::InvalidFiles, faults.clone()),
        read::Error::Unreachable(message) => (Reason::Unreachable, line(message)),
        read::Error::Never(message) => (Reason::Unreadable, line(message)),
        read::Error::Fault(_) => return None,
    })
}

/// Why nothing is applied, in a word and in lines, and how many deletions wait.
fn stopped(source: &Source, stop: Stop) -> (Reason, Faults, u32) {
    match stop {
        Stop::Rejected(Rejected { denied: true, faults }) => (Reason::PolicyDenied, faults, 0),
        Stop::Rejected(Rejected { faults, .. }) => (Reason::InvalidFiles, faults, 0),
        Stop::Refused(refusal) => refused(source, refusal),
    }
}

/// Why a plan was not made, in a word and in lines, and how many deletions wait.
fn refused(source: &Source, refusal: Refusal) -> (Reason, Faults, u32) {
    let name = &source.metadata.name;
    let things = |n: u32| if n == 1 { "1 object".to_owned() } else { format!("{n} objects") };
    match refusal {
        Refusal::Invalid(faults) => (Reason::InvalidFiles, faults, 0),
        Refusal::Denied(faults) => (Reason::PolicyDenied, faults, 0),
        Refusal::Conflict(faults) => (Reason::Conflict, faults, 0),
        Refusal::Empty(gone) => {
            let message = format!(
                "it declares nothing, and {} would be deleted; if that is meant, set \
                 spec.prune.allowEmpty, or delete the source",
                things(gone)
            );
            (Reason::EmptySet, line(message), 0)
        }
        Refusal::Held { deletions, limit } => {
            let message = format!(
                "{} would be deleted, which is more than {limit} (spec.prune.maxDeletions); if that \
                 is meant: open-dispatch reconcile source/{name} --confirm-deletions",
                things(deletions)
            );
            (Reason::DeletionsHeld, line(message), deletions)
        }
    }
}

/// Which Sources come first after a start.
fn rank(source: &Source) -> (Wake, u8) {
    let metadata = &source.metadata;
    if metadata.is_deleting() {
        (Wake::User, 0)
    } else if metadata.generation != source.status.observed_generation {
        (Wake::User, 1)
    } else {
        (Wake::Observation, 2)
    }
}

#[async_trait]
impl Controller for SourceController {
    fn name(&self) -> &'static str {
        "source"
    }

    fn workers(&self) -> usize {
        WORKERS
    }

    /// Longer than the first fetch of a large repository may take.
    fn deadline(&self) -> Option<Duration> {
        Some(DEADLINE)
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        let metadata = change.object.metadata();
        let mut keys = Vec::new();
        // The controller's own status writes are no news to it.
        if change.object.kind() == Kind::Source && change.desired {
            let wake = match change.kind {
                ChangeKind::Deleted => Wake::Observation,
                _ => Wake::User,
            };
            keys.push((metadata.name.clone(), wake));
        }
        if change.desired {
            let key = (change.object.kind(), metadata.name.clone());
            let source = self.memory().concerns.get(&key).cloned();
            keys.extend(source.map(|name| (name, Wake::Observation)));
        }
        keys
    }

    fn wakes(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let sources = self.store.list(Kind::Source, None, usize::MAX).await?.items;
        let sources = sources.into_iter().filter_map(AnyObject::into_source);
        let mut keys: Vec<_> = sources.map(|it| (rank(&it), it.metadata.name)).collect();
        keys.sort_by_key(|((_, place), _)| *place);
        Ok(keys.into_iter().map(|((wake, _), name)| (name, wake)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let source = self.store.get(Kind::Source, key).await?;
        let Some(source) = source.and_then(AnyObject::into_source) else {
            self.forget(key);
            return Ok(Next::Done);
        };
        if source.metadata.is_deleting() {
            if let Some(watches) = &self.watches {
                watches.forget(key);
            }
            return self.finish(&source).await;
        }
        if source.spec.suspend {
            if let Some(watches) = &self.watches {
                watches.forget(key);
            }
            self.commit("source.write-status", &source, Vec::new(), &Outcome::Suspended).await?;
            return Ok(Next::Done);
        }
        self.look(&source).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn who_finds_no_lane_free_is_held_and_has_not_succeeded() {
        let air = Ambient::real();
        let sources =
            SourceController::new(MemoryStore::new(), air, Arc::default(), PathBuf::new());
        let spec = json!({"from": {"git": {"url": "acme/ops"}}});
        let source = Source::new("ops", serde_json::from_value(spec).unwrap());
        let mut lanes: Vec<_> = (0..LANES.host).map(|_| sources.lane(&source).unwrap()).collect();
        let ended = sources.look(&source).await;
        assert!(matches!(ended, Err(Error::RateLimited(NEXT_TURN))), "{ended:?}");
        lanes.pop();
        let ended = sources.look(&source).await;
        assert!(!matches!(ended, Err(Error::RateLimited(_))), "{ended:?}");
    }
}
