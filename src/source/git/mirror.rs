//! A mirror: a bare repository on this machine, one for each address, which many Sources share.
//!
//! Each Source has refs of its own in it: `tip`, what it has fetched last, and `good`, what stands
//! applied. Whoever writes a mirror holds its lock. What a commit holds never changes, so it is read
//! without the lock, and again with it where it could not be read. Nobody is asked for what one Source
//! was shown and another was not. A mirror is worth nothing: one that is damaged is removed, and made
//! anew by the next fetch.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::{
    GitError, Limits,
    command::{Call, Done, Runner},
    tree::{self, Entry, Picked},
};
use crate::{
    resource::{Remote, Repo, Way},
    source::set,
};

/// The place of a repository's mirror.
pub(super) fn place(dir: &Path, remote: &Remote) -> PathBuf {
    let digest = Sha256::digest(remote.address.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    dir.join(format!("{hex}.git"))
}

/// All mirrors of a directory; none where that is not there.
pub(super) fn all(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "git") {
            all.push(path);
        }
    }
    Ok(all)
}

/// The Sources that have refs in a mirror, by uid, as far as its files can be read.
pub(super) fn owners(mirror: &Path) -> BTreeSet<String> {
    let mut owners = BTreeSet::new();
    for entry in fs::read_dir(mirror.join("refs/sources")).into_iter().flatten().flatten() {
        let refs = fs::read_dir(entry.path()).into_iter().flatten().count();
        if refs > 0 {
            owners.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let packed = fs::read_to_string(mirror.join("packed-refs")).unwrap_or_default();
    for line in packed.lines() {
        let rest = line.split_once(" refs/sources/").and_then(|(_, rest)| rest.split_once('/'));
        owners.extend(rest.map(|(uid, _)| uid.to_owned()));
    }
    owners
}

/// What a mirror is of that no Source names any more.
pub(super) fn former() -> Remote {
    let name = "a former repository".to_owned();
    Remote { address: String::new(), name, way: Way::File, repo: Repo::default() }
}

/// A mirror, for one Source. Whoever writes it holds its lock.
pub(super) struct Mirror<'a> {
    pub(super) runner: &'a Runner,
    pub(super) limits: &'a Limits,
    pub(super) path: PathBuf,
    pub(super) remote: &'a Remote,
    /// The Source, by uid.
    pub(super) source: &'a str,
    pub(super) token: Option<&'a SecretString>,
    /// The member that would name the token, for messages.
    pub(super) has_token: bool,
}

impl Mirror<'_> {
    fn name(&self) -> &str {
        &self.remote.name
    }

    /// The name of one of the Source's refs.
    pub(super) fn own(&self, which: &str) -> String {
        format!("refs/sources/{}/{which}", self.source)
    }

    fn here(&self, args: &[&str]) -> Call<'_> {
        Call::within(self.name(), &self.path, args)
    }

    fn out(&self, args: &[&str], time: Duration) -> Call<'_> {
        Call { time, way: Some((self.remote, self.token)), ..self.here(args) }
    }

    /// Makes it if it is not there, and clears away what a crash has left in it.
    pub(super) async fn ready(&self) -> Result<(), GitError> {
        if self.is_there() {
            return clear(&self.path).map_err(GitError::disk("clear", &self.path));
        }
        let half = self.path.with_extension("new");
        for old in [&half, &self.path] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(GitError::disk("remove", old)(error));
                }
                _ => {}
            }
        }
        fs::create_dir_all(&half).map_err(GitError::disk("make", &half))?;
        let shown = half.display().to_string();
        let init = ["init", "--quiet", "--bare", "--template=", "--", &shown];
        self.runner.must(Call { dir: None, ..self.here(&init) }).await?;
        // For people who look.
        let description = half.join("description");
        fs::write(&description, format!("{}\n", self.remote.address))
            .map_err(GitError::disk("write", &description))?;
        fs::rename(&half, &self.path).map_err(GitError::disk("make", &self.path))
    }

    /// Removes it, so that the next one to use it makes it anew.
    pub(super) fn discard(&self) -> Result<(), GitError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(GitError::disk("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Fetches a branch (the repository's own where none is named) and answers its commit.
    pub(super) async fn fetch(&self, branch: Option<&str>) -> Result<String, GitError> {
        let from = branch.map_or("HEAD".to_owned(), |branch| format!("refs/heads/{branch}"));
        let (tip, address) = (self.own("tip"), self.remote.address.as_str());
        let spec = format!("+{from}:{tip}");
        let args = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--depth=1",
            "--",
            address,
            &spec,
        ];
        let done = self.runner.run(self.out(&args, self.limits.fetch)).await?;
        if !done.ok {
            return Err(self.refusal(&done, "fetch", branch));
        }
        self.commit(&tip).await?.ok_or_else(|| GitError::Failed {
            name: self.name().to_owned(),
            verb: "fetch".to_owned(),
            why: format!("{from} is no commit"),
        })
    }

    /// What is behind a refusal.
    fn refusal(&self, done: &Done, verb: &str, branch: Option<&str>) -> GitError {
        let (name, why) = (self.name().to_owned(), done.last_word());
        let said = |words: &[&str]| words.iter().any(|word| done.stderr.contains(word));
        if done.overflowed || (verb == "fetch" && self.is_full()) {
            let most = self.limits.pack >> 20;
            return GitError::TooMuch {
                name,
                what: format!("is larger than the {most} MiB that are fetched of one commit"),
            };
        }
        if said(&["couldn't find remote ref"]) {
            return match branch {
                Some(branch) => GitError::NoBranch { name, branch: branch.to_owned() },
                None => GitError::Empty { name },
            };
        }
        let denied = [
            "Authentication failed",
            "unable to get password",
            "could not read Username",
            "could not read Password",
            "error: 401",
            "error: 403",
            "Permission denied",
            "Host key verification failed",
        ];
        if said(&denied) {
            let mend = match (self.has_token, self.remote.way) {
                (_, crate::resource::Way::Ssh) => {
                    "let `ssh` to that host work for the user who runs the server, without a question"
                }
                (true, _) => {
                    "check what the secret of tokenFromSecret may do, and whether it is over"
                }
                (false, _) => "name a secret with a token in tokenFromSecret",
            };
            let verb = if verb == "push" { "push" } else { "read it" };
            return GitError::Denied { name, verb, why, mend: mend.to_owned() };
        }
        let missing =
            ["not found", "does not appear to be a git repository", "does not exist", "error: 404"];
        if said(&missing) {
            return GitError::NotFound { name, why };
        }
        let why = match why.contains("redirect") || done.stderr.contains("returned error: 30") {
            true => format!("{why}; it has moved, so write its new address"),
            false => why,
        };
        GitError::Failed { name, verb: verb.to_owned(), why }
    }

    /// Whether a pack was begun that reached the bound of its size. Who writes packs is ended there,
    /// and who waits for them cannot say why.
    fn is_full(&self) -> bool {
        let Ok(packs) = fs::read_dir(self.path.join("objects/pack")) else { return false };
        packs.flatten().any(|entry| {
            let half = entry.file_name().to_string_lossy().starts_with("tmp_pack");
            half && entry.metadata().is_ok_and(|it| it.len() + 4096 >= self.limits.pack)
        })
    }

    /// The commit that something names here, if it is there.
    pub(super) async fn commit(&self, what: &str) -> Result<Option<String>, GitError> {
        let what = format!("{what}^{{commit}}");
        let args = ["rev-parse", "--quiet", "--verify", "--end-of-options", &what];
        let done = self.runner.run(self.here(&args)).await?;
        Ok(done.ok.then(|| done.text()))
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.path.join("HEAD").is_file()
    }

    /// What the Source's ref of what it has fetched last names, whether that is here or not.
    pub(super) async fn tip(&self) -> Result<Option<String>, GitError> {
        let name = self.own("tip");
        let args = ["rev-parse", "--quiet", "--verify", "--end-of-options", &name];
        let done = self.runner.run(self.here(&args)).await?;
        Ok(done.ok.then(|| done.text()))
    }

    /// That a commit which was fetched is not here any more, and no harm.
    pub(super) fn gone(&self) -> GitError {
        GitError::Failed {
            name: self.name().to_owned(),
            verb: "ls-tree".to_owned(),
            why: "the commit was replaced while it was read; it is fetched anew".to_owned(),
        }
    }

    /// Points one of the Source's refs to a commit.
    pub(super) async fn point(&self, which: &str, commit: &str) -> Result<(), GitError> {
        let name = self.own(which);
        if self.commit(&name).await?.as_deref() == Some(commit) {
            return Ok(());
        }
        self.runner.must(self.here(&["update-ref", &name, commit])).await.map(drop)
    }

    /// Removes the Source's refs; answers whether nobody's are left.
    pub(super) async fn leave(&self) -> Result<bool, GitError> {
        for which in ["tip", "good"] {
            let name = self.own(which);
            if self.commit(&name).await?.is_some() {
                self.runner.must(self.here(&["update-ref", "-d", &name])).await?;
            }
        }
        let left = self.runner.must(self.here(&["for-each-ref", "--count=1", "refs/"])).await?;
        Ok(left.text().is_empty())
    }

    /// What a commit holds below a path; nothing where that is not there.
    async fn list(&self, commit: &str, path: &str, flags: &[&str]) -> Result<Vec<Entry>, GitError> {
        let mut args = vec!["ls-tree", "-r", "-z", "-l", "--full-tree"];
        args.extend(flags);
        args.push(commit);
        let below = format!("{path}/");
        if !path.is_empty() {
            args.extend(["--", &below]);
        }
        let listing = self.runner.must(self.here(&args)).await?;
        Ok(tree::entries(&listing.stdout))
    }

    /// The files with desired state below a path of a commit, with their texts. Without `needed` the
    /// path may be missing; then there are none.
    pub(super) async fn files(
        &self,
        commit: &str,
        path: &str,
        needed: bool,
        limits: set::Limits,
    ) -> Result<(Picked, Vec<String>), GitError> {
        let entries = self.list(commit, path, &[]).await?;
        if entries.is_empty() && needed && !path.is_empty() {
            let (name, path) = (self.name().to_owned(), path.to_owned());
            return Err(GitError::NoPath { name, path, commit: short(commit) });
        }
        let picked = tree::pick(entries, path, self.name(), limits)?;
        if picked.files.is_empty() {
            return Ok((picked, Vec::new()));
        }
        let ids: String = picked.files.iter().map(|file| format!("{}\n", file.id)).collect();
        let call = Call { stdin: ids.into_bytes(), ..self.here(&["cat-file", "--batch"]) };
        let printed = self.runner.must(call).await?;
        let texts = tree::texts(&picked.files, &printed.stdout).map_err(|fault| {
            fault.unwrap_or_else(|| GitError::Failed {
                name: self.name().to_owned(),
                verb: "cat-file".to_owned(),
                why: "an object is missing".to_owned(),
            })
        })?;
        Ok((picked, texts))
    }

    /// The directories of a commit that fit a pattern.
    pub(super) async fn directories(
        &self,
        commit: &str,
        pattern: &str,
    ) -> Result<Vec<String>, GitError> {
        // What stands before the first star need not be searched in.
        let front = pattern.trim_matches('/').split('*').next().unwrap_or_default();
        let front = front.rsplit_once('/').map_or("", |(front, _)| front);
        let entries = self.list(commit, front, &["-d", "-t"]).await?;
        Ok(tree::fitting(&entries, pattern))
    }

    /// The branch that the repository calls its own.
    pub(super) async fn head(&self) -> Result<String, GitError> {
        let args = ["ls-remote", "--symref", "--", &self.remote.address, "HEAD"];
        let done = self.runner.run(self.out(&args, self.limits.ask)).await?;
        if !done.ok {
            return Err(self.refusal(&done, "ls-remote", None));
        }
        let text = done.text();
        let branch = text.lines().find_map(|line| {
            line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD").map(str::to_owned)
        });
        branch.ok_or_else(|| GitError::Empty { name: self.name().to_owned() })
    }

    /// Whether the repository can be reached and has the branch; answers its commit.
    pub(super) async fn reach(&self, branch: Option<&str>) -> Result<String, GitError> {
        let what = branch.map_or("HEAD".to_owned(), |branch| format!("refs/heads/{branch}"));
        let args = ["ls-remote", "--", &self.remote.address, &what];
        let call = Call { dir: None, ..self.out(&args, self.limits.ask) };
        let done = self.runner.run(call).await?;
        if !done.ok {
            return Err(self.refusal(&done, "ls-remote", branch));
        }
        let text = done.text();
        match (text.split_whitespace().next(), branch) {
            (Some(commit), _) => Ok(commit.to_owned()),
            (None, Some(branch)) => {
                let (name, branch) = (self.name().to_owned(), branch.to_owned());
                Err(GitError::NoBranch { name, branch })
            }
            (None, None) => Err(GitError::Empty { name: self.name().to_owned() }),
        }
    }

    /// Runs git here; it must do what it is to do.
    pub(super) async fn must(&self, call: Call<'_>) -> Result<Done, GitError> {
        self.runner.must(call).await
    }

    /// A run here that asks nobody outside.
    pub(super) fn call<'b>(&'b self, args: &[&str]) -> Call<'b> {
        self.here(args)
    }

    /// Pushes a commit to a branch that is still at another one.
    pub(super) async fn push(
        &self,
        commit: &str,
        branch: &str,
        from: &str,
    ) -> Result<Pushed, GitError> {
        let lease = format!("--force-with-lease=refs/heads/{branch}:{from}");
        let spec = format!("{commit}:refs/heads/{branch}");
        let address = self.remote.address.as_str();
        let args = ["push", "--porcelain", "--no-verify", &lease, "--", address, &spec];
        let done = self.runner.run(self.out(&args, self.limits.fetch)).await?;
        if done.ok {
            return Ok(Pushed::Done);
        }
        let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
        let raced = ["stale info", "fetch first", "non-fast-forward", "failed to update ref"];
        let raced = raced.iter().any(|word| stdout.contains(word) || done.stderr.contains(word));
        if raced {
            return Ok(Pushed::Overtaken);
        }
        if let Some(line) = stdout.lines().find(|line| line.starts_with('!')) {
            let why = line.rsplit('\t').next().unwrap_or_default();
            let remote = done.stderr.lines().filter_map(|line| line.strip_prefix("remote: "));
            let words: Vec<&str> = remote.map(str::trim).filter(|it| !it.is_empty()).collect();
            let why = format!("{why} {}", words.join(" ")).trim().to_owned();
            return Err(GitError::Denied {
                name: self.name().to_owned(),
                verb: "push",
                why,
                mend: format!("let the token push to {branch}, or change the file there yourself"),
            });
        }
        Err(self.refusal(&done, "push", Some(branch)))
    }
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It stands there.
    Done,
    /// Somebody else was faster.
    Overtaken,
}

/// A commit as people write it.
pub(super) fn short(commit: &str) -> String {
    commit.chars().take(10).collect()
}

/// Removes what a git that was killed left: its locks, and packs that are not whole. Nobody else
/// uses the mirror now.
fn clear(dir: &Path) -> io::Result<()> {
    fn walk(dir: &Path, depth: u8) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let sort = entry.file_type()?;
            if sort.is_dir() && depth > 0 {
                walk(&entry.path(), depth - 1)?;
            } else if sort.is_file() && (name.ends_with(".lock") || name.starts_with("tmp_")) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
    for part in ["refs", "objects/pack"] {
        match walk(&dir.join(part), 4) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    walk(dir, 0)
}
