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
//! **Many repositories.** A Source with `repos` reads each by itself. One that cannot be read stands as
//! it was when it was applied last (the ref `good` in its mirror), and says so; the others go on. One of
//! which nothing good is known is left out if nobody is there from it, and keeps everything as it is if
//! somebody is: to leave it out would delete them.
//!
//! **How it is written.** [`write`] makes a commit on top of what was just fetched, in the mirror, and
//! pushes it if the branch still stands where it stood. One that was overtaken fetches and tries again,
//! as long as nobody else has changed the same file.

mod command;
mod error;
mod here;
mod mirror;
mod tree;
mod write;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use self::{command::Runner, mirror::Mirror};
pub use self::{
    error::{GitError, ROOTS_VARIABLE},
    here::{commit_here, work_tree},
    tree::{MAX_FILE, MAX_FILES, MAX_TOTAL, is_document},
    write::{Author, Committed, Edit, FileNow},
};
use super::{Snapshot, SourceFile};
use crate::{
    ambient::Ambient,
    resource::{GitSource, MAX_REPOS, Remote, Repo, Way, validate::is_branch},
    secrets::Secrets,
};

/// Where files lie in a repository that declares its own agents.
pub const DEFAULT_REPOS_PATH: &str = ".open-dispatch";
/// How many repositories are read at once, of all Sources.
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
    /// The largest pack, in bytes: one commit with all its files.
    pub pack: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(300),
            ask: Duration::from_secs(60),
            stalled: Duration::from_secs(30),
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
        let roots = roots.filter(|root| root.starts_with('/')).map(PathBuf::from).collect();
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
    /// The repositories that are not as they say now, with the reason.
    pub fn troubles(&self) -> impl Iterator<Item = (&str, &str)> {
        self.repos.iter().filter_map(|it| Some((it.name.as_str(), it.trouble.as_deref()?)))
    }

    /// Which repository a file belongs to, of several.
    #[must_use]
    pub fn repo_of(&self, file: &str) -> Option<&str> {
        let behind = |it: &&RepoReading| {
            file.strip_prefix(it.name.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        self.repos.iter().filter(|it| it.several).find(behind).map(|it| it.name.as_str())
    }
}

/// What one repository said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoReading {
    /// Its name, behind which its files lie where there are several.
    pub name: String,
    /// Whether it is one of several.
    pub several: bool,
    /// The commit that its files are of; nothing where it is left out.
    pub commit: Option<String>,
    /// Why its files are not those of its newest commit.
    pub trouble: Option<String>,
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
    slots: Arc<Semaphore>,
}

/// One of a Source's repositories.
struct Target {
    remote: Remote,
    several: bool,
    path: String,
}

/// Files of one repository, and what else is to say of them.
type Files = (Vec<SourceFile>, Vec<String>);

impl Git {
    /// Repositories, with mirrors where the settings say. Nothing is asked yet.
    #[must_use]
    pub fn new(settings: Settings, secrets: Secrets, ambient: Ambient) -> Self {
        let (clock, limits) = (Arc::clone(&ambient.clock), &settings.limits);
        let runner = Runner::new(&settings.environment, clock, limits.pack, limits.stalled);
        let (locks, slots) = (StdMutex::default(), Arc::new(Semaphore::new(AT_ONCE)));
        Self(Arc::new(Shared { settings, runner, secrets, ambient, locks, slots }))
    }

    /// Reads what a Source's repositories say now. `source` is its uid; `owns` says whether it owns
    /// objects of files whose path begins with a text, which is asked only for a repository that can be
    /// read neither now nor as it was.
    ///
    /// # Errors
    /// A repository that cannot be read, if it is the only one, or if leaving it out would delete what
    /// it declared.
    pub async fn read(
        &self,
        source: &str,
        spec: &GitSource,
        owns: &(dyn Fn(&str) -> bool + Send + Sync),
    ) -> Result<Reading, GitError> {
        let (targets, token) = (targets(spec)?, self.token(spec)?);
        let token = token.as_ref();
        let read = |target: Target| async move {
            let read = self.read_one(source, spec, &target, token).await;
            (target, read)
        };
        // Each is asked, also after a fault: what can be had is had.
        let answers: Vec<_> = stream::iter(targets).map(read).buffered(AT_ONCE).collect().await;
        let (mut reading, mut files) = (Vec::new(), Vec::new());
        for (target, answer) in answers {
            let (commit, trouble, got) = match answer {
                Ok((commit, got)) => (Some(commit), None, got),
                Err(fault @ GitError::Fault(_)) => return Err(fault),
                Err(fault) if !target.several => return Err(fault),
                Err(fault) => match self.as_it_was(source, &target).await? {
                    Some((commit, got)) => (Some(commit), Some(fault.to_string()), got),
                    None if owns(&format!("{}/", target.remote.name)) => return Err(fault),
                    None => (None, Some(fault.to_string()), Files::default()),
                },
            };
            files.extend(got.0);
            let Target { remote: Remote { name, .. }, several, .. } = target;
            reading.push(RepoReading { name, several, commit, trouble, notes: got.1 });
        }
        Ok(gathered(reading, files))
    }

    /// The same reading, with some repositories as they were when they were applied last: for who has
    /// found that what they say now cannot be applied. Asks nobody outside. Answers nothing where one
    /// of them was never applied.
    ///
    /// # Errors
    /// A mirror that cannot be read.
    pub async fn stand_in(
        &self,
        source: &str,
        spec: &GitSource,
        reading: &Reading,
        troubles: &BTreeMap<String, String>,
    ) -> Result<Option<Reading>, GitError> {
        let (mut repos, mut files) = (Vec::new(), Vec::new());
        for target in targets(spec)? {
            let name = &target.remote.name;
            let Some(now) = reading.repos.iter().find(|it| it.name == *name) else { continue };
            let Some(trouble) = troubles.get(name) else {
                let own = |file: &&SourceFile| reading.repo_of(&file.path) == Some(name);
                files.extend(reading.snapshot.files.iter().filter(own).cloned());
                repos.push(now.clone());
                continue;
            };
            // What is applied already stands in for nothing.
            let Some((commit, got)) = self.as_it_was(source, &target).await? else {
                return Ok(None);
            };
            if Some(&commit) == now.commit.as_ref() {
                return Ok(None);
            }
            files.extend(got.0);
            let (commit, trouble) = (Some(commit), Some(trouble.clone()));
            repos.push(RepoReading { commit, trouble, notes: got.1, ..now.clone() });
        }
        Ok(Some(gathered(repos, files)))
    }

    /// Notes that a reading stands applied: from here on its commits stand in where a repository cannot
    /// be read, and are kept. Does nothing for what is noted already.
    ///
    /// # Errors
    /// A mirror that cannot be written.
    pub async fn accept(
        &self,
        source: &str,
        spec: &GitSource,
        reading: &Reading,
    ) -> Result<(), GitError> {
        for target in targets(spec)? {
            let of_it = reading.repos.iter().find(|it| it.name == target.remote.name);
            let Some(commit) = of_it.and_then(|it| it.commit.as_deref()) else { continue };
            let (mirror, _lock) = self.mirror(source, &target.remote, None).await?;
            let accept = mirror.point("good", commit);
            self.0.ambient.step("source.accept", accept).await?;
        }
        Ok(())
    }

    /// Forgets what was fetched for a Source that is gone, and mirrors that nobody else uses.
    ///
    /// # Errors
    /// A mirror that cannot be written.
    pub async fn forget(&self, source: &str, spec: &GitSource) -> Result<(), GitError> {
        for target in targets(spec)? {
            let (mirror, _lock) = self.mirror(source, &target.remote, None).await?;
            if !mirror.path.exists() {
                continue;
            }
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

    async fn read_one(
        &self,
        source: &str,
        spec: &GitSource,
        target: &Target,
        token: Option<&SecretString>,
    ) -> Result<(String, Files), GitError> {
        self.allowed(&target.remote)?;
        let _slot = self.0.slots.acquire().await;
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

    /// A repository as it was when it was applied last.
    async fn as_it_was(
        &self,
        source: &str,
        target: &Target,
    ) -> Result<Option<(String, Files)>, GitError> {
        let (mirror, _lock) = self.mirror(source, &target.remote, None).await?;
        if !mirror.path.join("HEAD").is_file() {
            return Ok(None);
        }
        let Some(commit) = mirror.commit(&mirror.own("good")).await? else { return Ok(None) };
        match self.files(&mirror, target, &commit, target.remote.repo.branch.as_deref()).await {
            Ok(files) => Ok(Some((commit, files))),
            Err(fault @ GitError::Fault(_)) => Err(fault),
            // It was good by other rules, or is damaged.
            Err(error) => {
                tracing::warn!(repository = target.remote.name, %error, "what was good is not");
                Ok(None)
            }
        }
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
        let read = mirror.files(commit, &target.path, !target.several).await;
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
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if source.is_empty() || source.starts_with('-') || !source.bytes().all(plain) {
            let why = format!("is {source:?}, which is no uid");
            return Err(GitError::Spec { place: "metadata.uid".to_owned(), why });
        }
        let path = mirror::place(&self.0.settings.dir, remote);
        let lock = {
            let mut locks = self.0.locks.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds are made again when they are needed.
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(path.clone()).or_default())
        };
        let (runner, limits, has_token) =
            (&self.0.runner, &self.0.settings.limits, token.is_some());
        let mirror = Mirror { runner, limits, path, remote, source, token, has_token };
        Ok((mirror, lock.lock_owned().await))
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
        targets.push(Target { remote, several, path: path.to_owned() });
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
        _ => {
            let mut lines: Vec<String> = repos
                .iter()
                .map(|it| format!("{} {}\n", it.name, it.commit.as_deref().unwrap_or("-")))
                .collect();
            lines.sort();
            let digest = Sha256::digest(lines.concat().as_bytes());
            digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect()
        }
    };
    Reading { snapshot: Snapshot { revision, files }, repos }
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
        let reading = gathered(repos, Vec::new());
        assert_eq!(reading.repo_of("acme/api/a.yaml"), Some("acme/api"));
        assert_eq!(reading.repo_of("acme/api-two/a.yaml"), Some("acme/api-two"));
        assert_eq!(reading.repo_of("acme/other/a.yaml"), None);
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
