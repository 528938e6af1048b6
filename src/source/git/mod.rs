//! Git repositories: desired state that is read from commits, and written back as commits.
//!
//! **How it is read.** In two steps: what takes the time of others ([`Git::fetched`]) and what takes our
//! memory ([`Git::texts`]). Whatever announces a change (a push, a timer, a person), the same happens: the
//! branch is fetched into a [`mirror`], resolved to a commit, and the files are read from that commit's
//! own tree ([`tree`]). Nothing is ever checked out, so that nobody reads half of a change, no hook and
//! no filter runs, and a link leads nowhere. A branch that was rewritten is a commit like any other.
//!
//! **What git may do.** [`command`] runs it: one protocol, the one of the repository's
//! [address](crate::resource::Remote); no settings of its user; the credential in its environment
//! alone, for the repository's own host alone; bounds of time, of size, of what it prints.
//!
//! **Many repositories.** A Source with `repos` reads each by itself, within its part of the bounds: of
//! the time ([`budget`]), and of what there may be together. One that cannot be read has a trouble in
//! place of files, and the others go on; what becomes of its objects is not decided here
//! ([`super::many`]).
//!
//! **How it is written.** [`write`] makes a commit on top of what was just fetched, in the mirror, and
//! pushes it if the branch still stands where it stood. One that was overtaken fetches and tries again,
//! as long as nobody else has changed the same file.

mod budget;
mod command;
mod error;
mod here;
mod mirror;
mod reading;
mod settings;
mod target;
mod tree;
mod write;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use futures::{StreamExt as _, stream};
use secrecy::SecretString;
use tokio::sync::{Mutex, OwnedMutexGuard};

use self::{
    budget::Budget,
    command::Runner,
    mirror::Mirror,
    reading::gathered,
    target::{Target, only, targets},
};
pub use self::{
    error::{GitError, ROOTS_VARIABLE},
    reading::{Reading, RepoReading},
    settings::{Limits, Settings},
    target::DEFAULT_REPOS_PATH,
    tree::{MAX_FILE, MAX_TOTAL},
    write::{Author, Committed, Edit, FileNow},
};
use super::SourceFile;
use crate::{
    ambient::Ambient,
    resource::{GitSource, Remote, Repo, Way},
    secrets::Secrets,
};

/// How many repositories of one Source are asked at once.
const AT_ONCE: usize = 4;

/// Git repositories, as Sources read and write them; cheap to clone.
#[derive(Clone)]
pub struct Git(Arc<Shared>);

struct Shared {
    settings: Settings,
    runner: Runner,
    secrets: Secrets,
    ambient: Ambient,
    /// Who uses which mirror.
    locks: StdMutex<HashMap<PathBuf, Arc<Mutex<()>>>>,
}

/// What was fetched for a Source: where each of its repositories stands, or why that is not known.
pub struct Fetched {
    commits: Vec<(Target, Result<String, GitError>)>,
}

/// Files of one repository, and what else is to say of them.
type Files = (Vec<SourceFile>, Vec<String>);

impl Git {
    /// Repositories, with mirrors where the settings say. Nothing is asked yet.
    #[must_use]
    pub fn new(settings: Settings, secrets: Secrets, ambient: Ambient) -> Self {
        let (clock, limits) = (Arc::clone(&ambient.clock), &settings.limits);
        let runner = Runner::new(&settings.environment, clock, limits.pack, limits.stalled);
        let locks = StdMutex::default();
        Self(Arc::new(Shared { settings, runner, secrets, ambient, locks }))
    }

    /// Reads what a Source's repositories say now. `source` is its uid.
    ///
    /// # Errors
    /// What is wrong with the spec, or with its one repository. One of several that cannot be read has
    /// a trouble in the answer.
    pub async fn read(&self, source: &str, spec: &GitSource) -> Result<Reading, GitError> {
        let fetched = self.fetched(source, spec).await?;
        self.texts(source, spec, fetched).await
    }

    /// The hosts that are asked for a Source's repositories.
    #[must_use]
    pub fn hosts(spec: &GitSource) -> Vec<String> {
        target::hosts(spec)
    }

    /// Asks a Source's repositories where they stand, and fetches that. It takes as long as they take, and
    /// no memory.
    ///
    /// # Errors
    /// As [`Git::read`].
    pub async fn fetched(&self, source: &str, spec: &GitSource) -> Result<Fetched, GitError> {
        let (targets, token) = (targets(spec)?, self.token(spec)?);
        let answers = self.ask(source, spec, &targets, token.as_ref()).await;
        let mut commits = Vec::with_capacity(targets.len());
        for (target, answer) in targets.into_iter().zip(answers) {
            match answer {
                Err(fault @ GitError::Fault(_)) => return Err(fault),
                Err(fault) if !target.several => return Err(fault),
                answer => commits.push((target, answer)),
            }
        }
        Ok(Fetched { commits })
    }

    /// Reads the files of what was fetched. That asks nobody outside, and takes as much memory as the
    /// files are large. What is not here any more, or not whole, has failed for now: it is fetched with
    /// the next look.
    ///
    /// # Errors
    /// As [`Git::read`].
    pub async fn texts(
        &self,
        source: &str,
        spec: &GitSource,
        Fetched { commits }: Fetched,
    ) -> Result<Reading, GitError> {
        let (mut repos, mut files) = (Vec::new(), Vec::new());
        for (target, answer) in commits {
            let answer = match answer {
                Ok(commit) => {
                    let read = self.read_one(source, &target, spec.branch.as_deref(), &commit);
                    read.await.map(|files| (commit, files))
                }
                Err(fault) => Err(fault),
            };
            let passing = answer.as_ref().is_err_and(GitError::is_passing);
            let (commit, trouble, got) = match answer {
                Ok((commit, got)) => (Some(commit), None, got),
                Err(fault @ GitError::Fault(_)) => return Err(fault),
                Err(fault) if !target.several => return Err(fault),
                Err(fault) => (None, Some(fault.to_string()), Files::default()),
            };
            files.extend(got.0);
            let Target { remote: Remote { name, .. }, several, .. } = target;
            repos.push(RepoReading { name, several, commit, trouble, passing, notes: got.1 });
        }
        Ok(gathered(repos, files))
    }

    /// Asks each of a Source's repositories, also after a fault: what can be had is had.
    async fn ask(
        &self,
        source: &str,
        spec: &GitSource,
        targets: &[Target],
        token: Option<&SecretString>,
    ) -> Vec<Result<String, GitError>> {
        if let [target] = targets {
            // It has all the time that one fetch may take.
            return vec![self.fetch_one(source, spec, target, token).await];
        }
        let (clock, limits) = (&*self.0.ambient.clock, &self.0.settings.limits);
        let budget = Budget::new(clock, limits.whole, limits.fetch);
        let asked = async |which: &[usize]| {
            budget.share_among(which.len());
            let ask = |n: usize| {
                let target = &targets[n];
                budget.within(target, self.fetch_one(source, spec, target, token))
            };
            let asked: Vec<_> = which.iter().copied().map(ask).collect();
            stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>().await
        };
        let all: Vec<usize> = (0..targets.len()).collect();
        let mut answers = asked(&all).await;
        // One that was not in time is asked once more, with the time that the others have left.
        let late = |answer: &Result<_, _>| matches!(answer, Err(GitError::Late { .. }));
        let late: Vec<usize> = all.into_iter().filter(|n| late(&answers[*n])).collect();
        if !late.is_empty() && budget.is_left() {
            let again = asked(&late).await;
            late.into_iter().zip(again).for_each(|(n, answer)| answers[n] = answer);
        }
        answers
    }

    /// Notes that a commit stands applied: from here on it is kept, and
    /// [its directories](Self::directories) can be asked for. Does nothing for what is noted already,
    /// and for several repositories, of which the inventory says all that is asked.
    ///
    /// # Errors
    /// A mirror that cannot be written.
    pub async fn accept(
        &self,
        source: &str,
        spec: &GitSource,
        reading: &Reading,
    ) -> Result<(), GitError> {
        let targets = targets(spec)?;
        let ([target], [repo]) = (&targets[..], &reading.repos[..]) else { return Ok(()) };
        let Some(commit) = repo.commit.as_deref().filter(|_| !target.several) else {
            return Ok(());
        };
        let (mirror, _lock) = self.mirror(source, &target.remote, None).await?;
        let accept = mirror.point("good", commit);
        self.0.ambient.step("source.accept", accept).await
    }

    /// Forgets what was fetched for a Source from repositories that it does not name (any more), or
    /// from all where it is gone, and mirrors that nobody uses.
    ///
    /// # Errors
    /// A mirror that cannot be written.
    pub async fn sweep(&self, source: &str, spec: Option<&GitSource>) -> Result<(), GitError> {
        let dir = &self.0.settings.dir;
        let named = spec.map(targets).transpose()?.unwrap_or_default();
        let named: BTreeSet<PathBuf> =
            named.iter().map(|target| mirror::place(dir, &target.remote)).collect();
        for path in mirror::all(dir).map_err(GitError::disk("read", dir))? {
            let of_others = || {
                let owners = mirror::owners(&path);
                !owners.is_empty() && !owners.contains(source)
            };
            if named.contains(&path) || of_others() {
                continue;
            }
            let (remote, _lock) = (mirror::former(), self.lock(&path).await);
            let mirror = self.mirror_at(path, source, &remote, None)?;
            let leave = async { if mirror.leave().await? { mirror.discard() } else { Ok(()) } };
            self.0.ambient.step("source.forget", leave).await?;
        }
        Ok(())
    }

    /// The directories of an applied revision that fit a pattern from the repository's root, such as
    /// `services/*`, in order. Asks nobody outside.
    ///
    /// # Errors
    /// A Source of several repositories, or a revision that is not here.
    pub async fn directories(
        &self,
        source: &str,
        spec: &GitSource,
        revision: &str,
        pattern: &str,
    ) -> Result<Vec<String>, GitError> {
        let target = only(spec)?;
        let (mirror, _lock) = self.mirror(source, &target.remote, None).await?;
        let hex = revision.len() >= 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        let here = hex && mirror.path.exists();
        let commit = if here { mirror.commit(revision).await? } else { None };
        let (name, shown) = (target.remote.name.clone(), mirror::short(revision));
        let commit = commit.ok_or(GitError::NoCommit { name, commit: shown })?;
        mirror.directories(&commit, pattern).await
    }

    /// Whether each repository of a Source can be reached and has the branch: its name and commit, or
    /// what is in the way. Nothing is fetched.
    pub async fn reach(&self, spec: &GitSource) -> Vec<(String, Result<String, GitError>)> {
        let (targets, token) = match (targets(spec), self.token(spec)) {
            (Ok(targets), Ok(token)) => (targets, token),
            (Err(error), _) | (_, Err(error)) => return vec![(String::new(), Err(error))],
        };
        let mut found = Vec::new();
        for target in targets {
            let asked = async {
                let (mirror, _) = self.mirror("none", &target.remote, token.as_ref()).await?;
                self.allowed(&target.remote)?;
                mirror.reach(spec.branch.as_deref()).await
            };
            found.push((target.remote.name.clone(), asked.await));
        }
        found
    }

    /// The root of the work tree that a file of this machine lies in; nothing where it lies in none.
    ///
    /// # Errors
    /// Git cannot be run.
    pub async fn work_tree(&self, file: &Path) -> Result<Option<PathBuf>, GitError> {
        here::work_tree(&self.0.settings.environment, &self.0.ambient, file).await
    }

    /// Commits a file of a work tree of this machine as it stands there, and nothing else. Answers the
    /// commit; where the file says what its last commit says, that of the branch.
    ///
    /// # Errors
    /// The file lies in no work tree, or git does not commit it.
    pub async fn commit_here(
        &self,
        file: &Path,
        message: &str,
        author: &Author,
    ) -> Result<String, GitError> {
        let (environment, ambient) = (&self.0.settings.environment, &self.0.ambient);
        here::commit_here(environment, ambient, file, message, author).await
    }

    async fn fetch_one(
        &self,
        source: &str,
        spec: &GitSource,
        target: &Target,
        token: Option<&SecretString>,
    ) -> Result<String, GitError> {
        self.allowed(&target.remote)?;
        let (mirror, _lock) = self.mirror(source, &target.remote, token).await?;
        self.fetch(&mirror, spec.branch.as_deref()).await
    }

    /// The files of a commit that was fetched. What a commit holds never changes, so the mirror is read
    /// without its lock: nobody waits for a Source that fetches slowly into it. But another fetch of the
    /// same Source may let go of the commit meanwhile, and one who finds the mirror damaged removes it. So
    /// what cannot be read is read once more behind the lock, and what is still not there is fetched by
    /// the next look, which has a lane and a time for that.
    async fn read_one(
        &self,
        source: &str,
        target: &Target,
        branch: Option<&str>,
        commit: &str,
    ) -> Result<Files, GitError> {
        let path = mirror::place(&self.0.settings.dir, &target.remote);
        let mirror = self.mirror_at(path.clone(), source, &target.remote, None)?;
        match self.files(&mirror, target, commit, branch).await {
            // There is no git as well where there is no directory to run it in.
            Err(GitError::Failed { .. } | GitError::NoGit(_)) => {}
            answer => return answer,
        }
        let _lock = self.lock(&path).await;
        if !mirror.is_there() {
            return Err(mirror.gone());
        }
        let fault = match self.files(&mirror, target, commit, branch).await {
            Err(fault @ GitError::Failed { .. }) => fault,
            answer => return answer,
        };
        // What a ref names nothing takes away: the mirror is damaged.
        if mirror.tip().await?.as_deref() != Some(commit) {
            return Err(mirror.gone());
        }
        tracing::warn!(repository = target.remote.name, %fault, "a damaged mirror is removed");
        mirror.discard()?;
        Err(fault)
    }

    /// Fetches, into a mirror that is made where there is none.
    async fn fetch(&self, mirror: &Mirror<'_>, branch: Option<&str>) -> Result<String, GitError> {
        let fetch = async {
            mirror.ready().await?;
            mirror.fetch(branch).await
        };
        self.0.ambient.step("source.fetch", fetch).await
    }

    async fn files(
        &self,
        mirror: &Mirror<'_>,
        target: &Target,
        commit: &str,
        branch: Option<&str>,
    ) -> Result<Files, GitError> {
        let name = &target.remote.name;
        let full = |path: &str| match target.several {
            true => format!("{name}/{path}"),
            false => path.to_owned(),
        };
        let read = mirror.files(commit, &target.path, !target.several, target.limits).await;
        let (picked, texts) = read.map_err(|error| match error {
            GitError::File { file, why } => GitError::File { file: full(&file), why },
            other => other,
        })?;
        let repo = Repo { branch: branch.map(str::to_owned), ..target.remote.repo.clone() };
        let repo = target.several.then_some(repo);
        let files = picked.files.iter().zip(texts).map(|(file, text)| SourceFile {
            path: full(&file.path),
            text,
            repo: repo.clone(),
        });
        Ok((files.collect(), picked.notes))
    }

    /// A repository's mirror for one Source, whose lock is held as long as the second is there.
    async fn mirror<'a>(
        &'a self,
        source: &'a str,
        remote: &'a Remote,
        token: Option<&'a SecretString>,
    ) -> Result<(Mirror<'a>, OwnedMutexGuard<()>), GitError> {
        let path = mirror::place(&self.0.settings.dir, remote);
        let mirror = self.mirror_at(path.clone(), source, remote, token)?;
        Ok((mirror, self.lock(&path).await))
    }

    fn mirror_at<'a>(
        &'a self,
        path: PathBuf,
        source: &'a str,
        remote: &'a Remote,
        token: Option<&'a SecretString>,
    ) -> Result<Mirror<'a>, GitError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if source.is_empty() || source.starts_with('-') || !source.bytes().all(plain) {
            let why = format!("is {source:?}, which is no uid");
            return Err(GitError::Spec { place: "metadata.uid".to_owned(), why });
        }
        let (runner, limits, has_token) =
            (&self.0.runner, &self.0.settings.limits, token.is_some());
        Ok(Mirror { runner, limits, path, remote, source, token, has_token })
    }

    /// Waits until nobody else uses a mirror.
    async fn lock(&self, path: &Path) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds are made again when they are needed.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(path.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    fn token(&self, spec: &GitSource) -> Result<Option<SecretString>, GitError> {
        let resolve = |name: &String| {
            let place = "spec.from.git.tokenFromSecret";
            self.0.secrets.resolve(name).map_err(|error| GitError::secret(place, &error))
        };
        spec.token_from_secret.as_ref().map(resolve).transpose()
    }

    /// Whether a repository of this machine may be read.
    fn allowed(&self, remote: &Remote) -> Result<(), GitError> {
        if remote.way != Way::File {
            return Ok(());
        }
        let path = Path::new(&remote.address);
        // Where links lead counts; what is not there yet may be named.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let below = |root: &PathBuf| {
            let root = root.canonicalize().unwrap_or_else(|_| root.clone());
            real.starts_with(root)
        };
        match self.0.settings.roots.iter().any(below) {
            true => Ok(()),
            false => Err(GitError::NotAllowed { path: remote.address.clone() }),
        }
    }
}
