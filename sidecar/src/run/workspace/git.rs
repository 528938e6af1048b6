//! Git, run as the sprite's: what it says are lines of the run, and its last word is the error.
//!
//! Credentials reach git through its environment alone: they stand neither on a command line nor
//! in a clone's configuration.
//!
//! Around an agent in a sandbox git is careful. What that one wrote could make git run programs:
//! the settings of its home are not read, no hook is run, and in a repository that lies in nobody's
//! hands but the agents' git works inside of a sandbox of its own, without the run's secrets, be it
//! only asked something. Where it is only asked, it fetches nothing either: a repository can say
//! that what is missing in it comes from a remote, and how that is reached.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use base64::Engine as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};

use crate::{
    driver::{Said, Voice},
    process::{self, Enclosure, Launch, Sandbox},
    wire::{RepoSpec, RunSpec, Stream},
};

/// What git is told where an agent in a sandbox could have planted something for it.
const CAREFUL: [&str; 4] = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"];

/// That nobody is there to be asked for a password.
const UNATTENDED: [&str; 2] = ["GIT_TERMINAL_PROMPT", "0"];

/// Git for one sprite.
pub(super) struct Git<'a> {
    env: Vec<(OsString, OsString)>,
    /// The same without what is secret, and without what opens a remote.
    plain_env: Vec<(OsString, OsString)>,
    /// Whether the agent is in a sandbox.
    is_careful: bool,
    voice: &'a Voice,
    /// What is hidden from hooks and filters of a clone that is there already: an agent may have
    /// written them.
    hide: Vec<PathBuf>,
}

impl<'a> Git<'a> {
    pub(super) fn of(spec: &RunSpec, voice: &'a Voice) -> Self {
        let is_careful = spec.sandbox.is_some();
        let plain = spec.env.iter().filter(|it| !it.secret);
        let mut plain_env: Vec<_> =
            plain.map(|it| (it.name.clone().into(), it.value.clone().into())).collect();
        plain_env.push(UNATTENDED.map(OsString::from).into());
        let mut env = environment(spec);
        if is_careful {
            for env in [&mut env, &mut plain_env] {
                env.push(("GIT_CONFIG_GLOBAL".into(), "/dev/null".into()));
            }
        }
        let hide = spec.hide.iter().map(PathBuf::from).collect();
        Self { env, plain_env, is_careful, voice, hide }
    }

    /// Makes a clone, whole or not at all.
    pub(super) async fn clone(
        &self,
        workdir: &Path,
        repo: &RepoSpec,
        job_id: &str,
    ) -> Result<(), String> {
        let failed = |why: String| format!("{} could not be cloned: {why}", repo.url);
        let parent = workdir.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent)
            .map_err(|error| failed(format!("{}: {error}", parent.display())))?;
        let mut beside = parent.join(format!(".clone-{job_id}"));
        let _ = std::fs::remove_dir_all(&beside);
        let is_barred = workdir.is_dir()
            && std::fs::create_dir(&beside)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
        if is_barred {
            // Where the work directory alone is ours, as in an image with a user of its own, the
            // clone grows in its place. It is empty.
            beside = workdir.to_owned();
        } else {
            let _ = std::fs::remove_dir(&beside);
        }
        let mut arguments: Vec<OsString> = vec!["clone".into()];
        if let Some(branch) = &repo.branch {
            arguments.extend(["--branch".into(), branch.into()]);
        }
        arguments.extend(["--".into(), repo.url.clone().into(), beside.clone().into()]);
        // Nothing of an agent's is in a new clone, and it may lie right beside what is hidden.
        let as_told = (beside.display().to_string(), workdir.display().to_string());
        let done =
            self.git(parent, arguments, Place::new_clone(), Some(&as_told)).await.and_then(|()| {
                if is_barred {
                    return Ok(());
                }
                // The place may be an empty directory, and renaming replaces only that.
                std::fs::rename(&beside, workdir)
                    .map_err(|error| format!("{}: {error}", workdir.display()))
            });
        done.map_err(|why| {
            // Git itself takes back what it put into a directory that was there.
            if !is_barred {
                let _ = std::fs::remove_dir_all(&beside);
            }
            failed(why)
        })
    }

    /// A clone is there: only its branch may have to change.
    pub(super) async fn reuse(&self, workdir: &Path, repo: &RepoSpec) -> Result<(), String> {
        let Some(branch) = &repo.branch else { return Ok(()) };
        let head = std::fs::read_to_string(workdir.join(".git/HEAD")).unwrap_or_default();
        if head.trim() == format!("ref: refs/heads/{branch}") {
            return Ok(());
        }
        let failed =
            |why| format!("{} could not be put on branch {branch}: {why}", workdir.display());
        let switch = |extra: &[&str]| -> Vec<OsString> {
            ["switch"].iter().chain(extra).map(OsString::from).collect()
        };
        let Err(why) = self.run(workdir, switch(&[branch]), &[]).await else { return Ok(()) };
        let local = format!("refs/heads/{branch}");
        let known =
            ["show-ref", "--verify", "--quiet", &local].iter().map(OsString::from).collect();
        if self.run(workdir, known, &[]).await.is_ok() {
            // It is here and may hold work that stands nowhere else: it stays as it is.
            return Err(failed(why));
        }
        let fetch = ["fetch", "origin", branch].iter().map(OsString::from).collect();
        self.run(workdir, fetch, &[]).await.map_err(failed)?;
        self.run(workdir, switch(&["-c", branch, "FETCH_HEAD"]), &[]).await.map_err(failed)
    }

    /// Runs git in a place that an agent may have written to: it sees no more than that one, and
    /// what is to be kept.
    pub(super) async fn run(
        &self,
        workdir: &Path,
        args: Vec<OsString>,
        keep: &[PathBuf],
    ) -> Result<(), String> {
        self.git(workdir, args, self.place(keep, None), None).await
    }

    /// As [`Git::run`], and inside of a sandbox where there is one. With the run's secrets only
    /// where a remote is asked, and never where there is a sandbox: what runs there may have been
    /// chosen by another agent.
    pub(super) async fn run_within(
        &self,
        workdir: &Path,
        args: Vec<OsString>,
        keep: &[PathBuf],
        sandbox: Option<&Sandbox>,
        asks_remote: bool,
    ) -> Result<(), String> {
        let is_told_secrets = asks_remote && sandbox.is_none();
        let place = Place { is_told_secrets, ..self.place(keep, sandbox) };
        self.git(workdir, args, place, None).await
    }

    /// Around what git is run in a place that an agent may have written to.
    fn place(&self, keep: &[PathBuf], sandbox: Option<&Sandbox>) -> Place {
        let enclosure = Enclosure { keep: keep.to_vec(), sandbox: sandbox.cloned() };
        let is_told_secrets = sandbox.is_none();
        Place { hide: self.hide.clone(), enclosure, is_told_secrets, fetches: true }
    }

    /// Asks git there, inside of a sandbox where there is one: its first line; none where it
    /// answers no.
    pub(super) async fn ask(
        &self,
        workdir: &Path,
        args: &[&str],
        sandbox: Option<&Sandbox>,
    ) -> Result<Option<String>, String> {
        let args = args.iter().map(OsString::from).collect();
        let (line, _) = self.quietly(workdir, args, &[], sandbox).await?;
        Ok(line)
    }

    /// Runs git there without a line of the run, without secrets, and without a way to a remote;
    /// answers its first line, if it did what it was to do, and its last word if not.
    pub(super) async fn quietly(
        &self,
        workdir: &Path,
        args: Vec<OsString>,
        keep: &[PathBuf],
        sandbox: Option<&Sandbox>,
    ) -> Result<(Option<String>, Option<String>), String> {
        let place = self.place(keep, sandbox);
        let place = Place { is_told_secrets: false, fetches: false, ..place };
        let mut child = self.start(workdir, args, place)?;
        drop(child.stdin.take());
        let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
        let line = String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned);
        if output.status.success() {
            return Ok((line.filter(|line| !line.is_empty()), None));
        }
        let said: Vec<String> =
            String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
        Ok((None, Some(last_word(&said, output.status))))
    }

    fn start(&self, workdir: &Path, args: Vec<OsString>, place: Place) -> Result<Child, String> {
        let careful = CAREFUL.iter().filter(|_| self.is_careful).map(OsString::from);
        let mut env = if place.is_told_secrets { &self.env } else { &self.plain_env }.clone();
        if !place.fetches {
            env.push(("GIT_NO_LAZY_FETCH".into(), "1".into()));
        }
        let launch = Launch {
            program: "git".into(),
            args: careful.chain(args).collect(),
            env,
            workdir: PathBuf::from(workdir),
            hide: place.hide,
        };
        process::start_in(&launch, &place.enclosure).map_err(|error| error.to_string())
    }

    /// Runs git; what it says are system lines of the run, and its last word is the error. A place
    /// that nobody is to look at is told as another one.
    async fn git(
        &self,
        workdir: &Path,
        args: Vec<OsString>,
        place: Place,
        as_told: Option<&(String, String)>,
    ) -> Result<(), String> {
        let mut child = self.start(workdir, args, place)?;
        drop(child.stdin.take());
        let mut said = Vec::new();
        // Both are read to their end: git dies of a pipe that nobody reads.
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let words = async {
            let Some(err) = err else { return };
            let mut lines = BufReader::new(err).split(b'\n');
            while let Ok(Some(mut line)) = lines.next_segment().await {
                if let (Some((place, told)), Ok(text)) = (as_told, str::from_utf8(&line)) {
                    line = text.replace(place.as_str(), told).into_bytes();
                }
                said.push(String::from_utf8_lossy(&line).trim().to_owned());
                line.push(b'\n');
                self.voice.say(Said::Log(Stream::System, line)).await;
            }
        };
        let rest = async {
            if let Some(mut out) = out {
                let _ = tokio::io::copy(&mut out, &mut tokio::io::sink()).await;
            }
        };
        tokio::join!(words, rest);
        let status = child.wait().await.map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(last_word(&said, status)) }
    }
}

/// What stands around one run of git.
struct Place {
    hide: Vec<PathBuf>,
    enclosure: Enclosure,
    is_told_secrets: bool,
    /// Whether git may fetch what it finds missing.
    fetches: bool,
}

impl Place {
    /// Nothing: nobody's hand was there.
    fn new_clone() -> Self {
        let enclosure = Enclosure::default();
        Self { hide: Vec::new(), enclosure, is_told_secrets: true, fetches: true }
    }
}

/// The line that says what went wrong.
fn last_word(said: &[String], status: ExitStatus) -> String {
    let fatal = |line: &&String| line.starts_with("fatal:") || line.starts_with("error:");
    said.iter()
        .rev()
        .find(fatal)
        .or_else(|| said.iter().rev().find(|line| !line.is_empty()))
        .cloned()
        .unwrap_or_else(|| format!("git ended with {status}"))
}

/// Git's environment: the agent's, and the GitHub token as a header for GitHub alone.
fn environment(spec: &RunSpec) -> Vec<(OsString, OsString)> {
    let value =
        |name: &str| spec.env.iter().rev().find(|it| it.name == name).map(|it| it.value.as_str());
    let mut env: Vec<(OsString, OsString)> =
        spec.env.iter().map(|it| (it.name.clone().into(), it.value.clone().into())).collect();
    env.push(UNATTENDED.map(OsString::from).into());
    if let Some(token) =
        value("GH_TOKEN").or_else(|| value("GITHUB_TOKEN")).filter(|it| !it.is_empty())
    {
        let at: usize = value("GIT_CONFIG_COUNT").and_then(|it| it.parse().ok()).unwrap_or(0);
        let basic =
            base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{token}"));
        env.extend([
            ("GIT_CONFIG_COUNT".into(), (at + 1).to_string().into()),
            (format!("GIT_CONFIG_KEY_{at}").into(), "http.https://github.com/.extraHeader".into()),
            (
                format!("GIT_CONFIG_VALUE_{at}").into(),
                format!("Authorization: Basic {basic}").into(),
            ),
        ]);
    }
    env
}
