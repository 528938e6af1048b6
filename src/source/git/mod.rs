//! Git repositories: desired state that is read from commits, and written back as commits.
//!
//! **How it is read.** Whatever announces a change (a push, a timer, a person), the same happens: the
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
mod tree;
mod write;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard};

use self::{budget::Budget, command::Runner, mirror::Mirror};
pub use self::{
    error::{GitError, ROOTS_VARIABLE},
    tree::{MAX_FILE, MAX_TOTAL},
    write::{Author, Committed, Edit, FileNow},
};
use super::{Snapshot, SourceFile, set};
use crate::{
    ambient::Ambient,
    resource::{GitSource, MAX_REPOS, Remote, Repo, Way, validate::is_branch},
    secrets::Secrets,
};

/// Where files lie in a repository that declares its own agents.
pub const DEFAULT_REPOS_PATH: &str = ".open-dispatch";
/// How many repositories of one Source are read at once. Others do not wait for them: as many Sources
/// are read at once as the controller has workers.
const AT_ONCE: usize = 4;

/// How long git may take, and how large what it fetches may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For one fetch or push.
    pub fetch: Duration,
    /// For one question to a server.
    pub ask: Duration,
    /// A transfer over the web ends after so long without a byte.
    pub stalled: Duration,
    /// For all repositories of one Source together.
    pub whole: Duration,
    /// The largest pack, in bytes: one commit with all its files.
    pub pack: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(300),
            ask: Duration::from_secs(60),
            stalled: Duration::from_secs(30),
            whole: Duration::from_secs(720),
            pack: 1024 * 1024 * 1024,
        }
    }
}

/// What reading repositories needs to know of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where mirrors lie.
    pub dir: PathBuf,
    /// The server's environment, of which git gets how programs, keys and the network are found.
    pub environment: Vec<(String, String)>,
    /// Below which directories repositories of this machine may be read; none by default.
    pub roots: Vec<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

impl Settings {
    /// From the server's environment, with mirrors in this directory.
    #[must_use]
    pub fn from_environment(dir: PathBuf, environment: &[(String, String)]) -> Self {
        let roots = environment.iter().rev().find(|(name, _)| name == ROOTS_VARIABLE);
        let roots = roots.map(|(_, value)| value.split(':')).into_iter().flatten();
        let is_whole = |root: &&str| {
            let whole = root.starts_with('/');
            if !whole && !root.is_empty() {
                tracing::warn!(
                    "{ROOTS_VARIABLE} names `{root}`, which is no absolute path and counts for \
                     nothing; write the whole path"
                );
            }
            whole
        };
        let roots = roots.filter(is_whole).map(PathBuf::from).collect();
        Self { dir, environment: environment.to_vec(), roots, limits: Limits::default() }
    }
}

/// What a Source's repositories said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The files, and the revision.
    pub snapshot: Snapshot,
    /// The repositories that were read, in the order of the spec.
    pub repos: Vec<RepoReading>,
}

impl Reading {
    /// The repositories that cannot be read, with the reason.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, &str)> {
        self.repos.iter().filter_map(|it| Some((it.name.as_str(), it.trouble.as_deref()?)))
    }

    /// Whether a repository cannot be read for a reason that goes away by itself.
    #[must_use]
    pub fn is_away(&self, name: &str) -> bool {
        self.repos.iter().any(|repo| repo.passing && repo.name == name)
    }

    /// What was passed over, in words, with the repository where there are several.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let note = |it: &RepoReading, note: &String| match it.several {
            true => format!("{}: {note}", it.name),
            false => note.clone(),
        };
        self.repos.iter().flat_map(|it| it.notes.iter().map(move |text| note(it, text))).collect()
    }

    /// The files of one of several repositories.
    pub fn files_of(&self, repo: &str) -> impl Iterator<Item = &SourceFile> {
        self.snapshot.files.iter().filter(move |file| {
            file.path.strip_prefix(repo).is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// The revision, where these repositories do not count as they say now.
    #[must_use]
    pub fn revision_without(&self, out: &BTreeSet<&str>) -> String {
        match self.repos.iter().any(|it| it.several) {
            true => revision(&self.repos, out),
            false => self.snapshot.revision.clone(),
        }
    }
}

/// What one repository said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoReading {
    /// Its name, behind which its files lie where there are several.
    pub name: String,
    /// Whether it is one of several.
    pub several: bool,
    /// The commit that its files are of; nothing where it cannot be read.
    pub commit: Option<String>,
    /// Why it cannot be read.
    pub trouble: Option<String>,
    /// Whether that goes away by itself, as a host that does not answer.
    pub passing: bool,
    /// What was passed over, in words.
    pub notes: Vec<String>,
}

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

/// One of a Source's repositories.
struct Target {
    remote: Remote,
    several: bool,
    path: String,
    /// How much its files may be.
    limits: set::Limits,
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
        let (targets, token) = (targets(spec)?, self.token(spec)?);
        let answers = self.ask(source, spec, &targets, token.as_ref()).await;
        let (mut repos, mut files) = (Vec::new(), Vec::new());
        for (target, answer) in targets.into_iter().zip(answers) {
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
    ) -> Vec<Result<(String, Files), GitError>> {
        if let [target] = targets {
            // It has all the time that one fetch may take.
            return vec![self.read_one(source, spec, target, token).await];
        }
        let (clock, limits) = (&*self.0.ambient.clock, &self.0.settings.limits);
        let budget = Budget::new(clock, limits.whole, limits.fetch);
        let asked = async |which: &[usize]| {
            budget.share_among(which.len());
            let ask = |n: usize| {
                let target = &targets[n];
                budget.within(target, self.read_one(source, spec, target, token))
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

    async fn read_one(
        &self,
        source: &str,
        spec: &GitSource,
        target: &Target,
        token: Option<&SecretString>,
    ) -> Result<(String, Files), GitError> {
        self.allowed(&target.remote)?;
        let (mirror, _lock) = self.mirror(source, &target.remote, token).await?;
        let mut again = true;
        loop {
            let commit = self.fetch(&mirror, spec.branch.as_deref()).await?;
            match self.files(&mirror, target, &commit, spec.branch.as_deref()).await {
                Ok(files) => return Ok((commit, files)),
                // The fetch went well and what it brought cannot be read: the mirror is damaged.
                Err(GitError::Failed { .. }) if again => {
                    tracing::warn!(repository = target.remote.name, "a mirror is made anew");
                    mirror.discard()?;
                    again = false;
                }
                Err(error) => return Err(error),
            }
        }
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

/// The repositories of a Source.
fn targets(spec: &GitSource) -> Result<Vec<Target>, GitError> {
    let member = "spec.from.git";
    let bad =
        |place: &str, why: &str| GitError::Spec { place: place.to_owned(), why: why.to_owned() };
    let several = spec.url.is_none();
    let named: Vec<(String, &String)> = match (&spec.url, spec.repos.as_slice()) {
        (Some(url), []) => vec![(format!("{member}.url"), url)],
        (None, repos @ [_, ..]) => {
            let place = |(n, repo)| (format!("{member}.repos[{n}]"), repo);
            repos.iter().enumerate().map(place).collect()
        }
        _ => return Err(bad(member, "names exactly one of url, repos")),
    };
    if named.len() > MAX_REPOS {
        let why = format!("names more than {MAX_REPOS} repositories; make several Sources");
        return Err(bad(&format!("{member}.repos"), &why));
    }
    if let Some(branch) = spec.branch.as_deref().filter(|branch| !is_branch(branch)) {
        let why = format!("is {branch:?}, which git takes for no branch");
        return Err(bad(&format!("{member}.branch"), &why));
    }
    let default = if several { DEFAULT_REPOS_PATH } else { "" };
    let path = spec.path.as_deref().unwrap_or(default).trim_matches('/');
    let path = if path == "." { "" } else { path };
    let upwards = |part: &str| matches!(part, "" | "." | "..");
    if path.contains(char::is_control) || (!path.is_empty() && path.split('/').any(upwards)) {
        let why = "is no path below the repository's root; write one such as deploy/agents";
        return Err(bad(&format!("{member}.path"), why));
    }
    let limits = if several { set::Limits::share(named.len()) } else { set::Limits::WHOLE };
    let mut targets: Vec<Target> = Vec::with_capacity(named.len());
    for (place, text) in named {
        let mut remote =
            Remote::parse(text).map_err(|why| GitError::Spec { place: place.clone(), why })?;
        remote.repo.branch.clone_from(&spec.branch);
        // The name of one may not lie within the other's: whose file would it be?
        let clash = |other: &Target| {
            let (a, b) = (format!("{}/", other.remote.name), format!("{}/", remote.name));
            a.starts_with(&b) || b.starts_with(&a)
        };
        if let Some(other) = targets.iter().find(|other| clash(other)) {
            let why = format!("names {} again; leave one of them out", other.remote.name);
            return Err(GitError::Spec { place, why });
        }
        targets.push(Target { remote, several, path: path.to_owned(), limits });
    }
    Ok(targets)
}

/// The one repository of a Source that has one.
fn only(spec: &GitSource) -> Result<Target, GitError> {
    let mut targets = targets(spec)?;
    match targets.pop() {
        Some(target) if !target.several => Ok(target),
        _ => Err(GitError::Spec {
            place: "spec.from.git.repos".to_owned(),
            why: "names several repositories, and directories are listed of one; name it as url"
                .to_owned(),
        }),
    }
}

/// Puts the answers of a Source's repositories together.
fn gathered(repos: Vec<RepoReading>, files: Vec<SourceFile>) -> Reading {
    let revision = match repos.as_slice() {
        [RepoReading { several: false, commit: Some(commit), .. }] => commit.clone(),
        _ => revision(&repos, &BTreeSet::new()),
    };
    Reading { snapshot: Snapshot { revision, files }, repos }
}

/// What several repositories come to together, without those that do not count.
fn revision(repos: &[RepoReading], out: &BTreeSet<&str>) -> String {
    let line = |it: &RepoReading| {
        let commit = it.commit.as_deref().filter(|_| !out.contains(it.name.as_str()));
        format!("{} {}\n", it.name, commit.unwrap_or("-"))
    };
    let mut lines: Vec<String> = repos.iter().map(line).collect();
    lines.sort();
    let digest = Sha256::digest(lines.concat().as_bytes());
    digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(name: &str, commit: Option<&str>) -> RepoReading {
        RepoReading {
            name: name.to_owned(),
            several: true,
            commit: commit.map(str::to_owned),
            trouble: None,
            passing: false,
            notes: Vec::new(),
        }
    }

    fn told(spec: &GitSource) -> String {
        match targets(spec) {
            Ok(targets) => {
                let told = |it: &Target| format!("{} {:?}", it.remote.name, it.path);
                targets.iter().map(told).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_revision_of_several_repositories_changes_with_each_and_not_with_their_order() {
        let of = |repos: &[(&str, Option<&str>)]| {
            let repos = repos.iter().map(|(name, commit)| repo(name, *commit)).collect();
            gathered(repos, Vec::new()).snapshot.revision
        };
        let both = of(&[("a/a", Some("1")), ("b/b", Some("2"))]);
        assert_eq!(both, of(&[("b/b", Some("2")), ("a/a", Some("1"))]));
        assert_ne!(both, of(&[("a/a", Some("1")), ("b/b", Some("3"))]));
        assert_ne!(both, of(&[("a/a", Some("1")), ("b/b", None)]));
        assert_eq!(both.len(), 40);
    }

    #[test]
    fn a_file_belongs_to_the_repository_that_its_path_begins_with() {
        let repos = vec![repo("acme/api", Some("1")), repo("acme/api-two", Some("1"))];
        let file =
            |path: &str| SourceFile { path: path.to_owned(), text: String::new(), repo: None };
        let files = vec![file("acme/api/a.yaml"), file("acme/api-two/a.yaml")];
        let reading = gathered(repos, files);
        let of = |repo: &str| -> Vec<String> {
            reading.files_of(repo).map(|file| file.path.clone()).collect()
        };
        assert_eq!(of("acme/api"), ["acme/api/a.yaml"]);
        assert_eq!(of("acme/api-two"), ["acme/api-two/a.yaml"]);
        assert_eq!(of("acme"), ["acme/api/a.yaml", "acme/api-two/a.yaml"]);
    }

    #[test]
    fn what_does_not_count_is_no_part_of_the_revision() {
        let of = |api: &str, out: &[&str]| {
            let repos = vec![repo("acme/api", Some(api)), repo("acme/web", Some("1"))];
            gathered(repos, Vec::new()).revision_without(&out.iter().copied().collect())
        };
        assert_ne!(of("1", &[]), of("2", &[]));
        assert_eq!(of("1", &["acme/api"]), of("2", &["acme/api"]));
        assert_ne!(of("1", &["acme/api"]), of("1", &["acme/web"]));
    }

    #[test]
    fn what_a_spec_cannot_mean_is_told_with_the_mend() {
        let url = |url: &str| GitSource { url: Some(url.to_owned()), ..GitSource::default() };
        let repos = |repos: &[&str]| GitSource {
            repos: repos.iter().map(|it| (*it).to_owned()).collect(),
            ..GitSource::default()
        };
        let path = |path: &str| GitSource { path: Some(path.to_owned()), ..url("acme/api") };
        let all = [
            url("acme/api"),
            path("deploy/agents/"),
            path("."),
            repos(&["acme/api", "git@example.com:acme/web.git"]),
            GitSource::default(),
            GitSource { repos: vec!["a/b".to_owned()], ..url("a/b") },
            repos(&["acme/api", "https://github.com/acme/api.git"]),
            url("http://example.com/a"),
            path("../etc"),
            path("a//b"),
        ];
        insta::assert_snapshot!(all.iter().map(told).collect::<Vec<_>>().join("\n"), @r#"
        acme/api ""
        acme/api "deploy/agents"
        acme/api ""
        acme/api ".open-dispatch", example.com/acme/web ".open-dispatch"
        spec.from.git names exactly one of url, repos
        spec.from.git names exactly one of url, repos
        spec.from.git.repos[1] names acme/api again; leave one of them out
        spec.from.git.url is http, which everybody on the way can read and change; write https
        spec.from.git.path is no path below the repository's root; write one such as deploy/agents
        spec.from.git.path is no path below the repository's root; write one such as deploy/agents
        "#);
    }

    #[test]
    fn only_absolute_directories_are_roots() {
        let roots = |value: &str| {
            let environment = [(ROOTS_VARIABLE.to_owned(), value.to_owned())];
            Settings::from_environment(PathBuf::from("/data"), &environment).roots
        };
        assert_eq!(roots("/srv/git::/home/git:x"), ["/srv/git", "/home/git"].map(PathBuf::from));
        assert!(roots("").is_empty());
    }
}
