//! Finding the reporter, and starting it.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use sprite_reporter::{cli, process::helper, wire::JOB_ID_VARIABLE};
use tokio::{io::AsyncWriteExt as _, process::Command, sync::OnceCell, time::timeout};

use super::super::Error;

/// How long a reporter may take to say its first line.
const FIRST_LINE_WITHIN: Duration = Duration::from_secs(30);
/// How long a program may take to say which version it is.
const VERSION_WITHIN: Duration = Duration::from_secs(10);

/// The reporter of this server's own version.
#[derive(Debug)]
pub(super) struct Reporter {
    configured: Option<PathBuf>,
    found: OnceCell<PathBuf>,
}

/// How something runs as a sprite's agent would: in a session of its own, where the server's data is
/// hidden if the kernel lets us.
pub(super) struct Contained<'a> {
    /// The sprite, or its owner.
    pub(super) uid: &'a str,
    /// What is hidden.
    pub(super) hide: &'a Path,
    /// Where it runs.
    pub(super) workdir: &'a Path,
    /// What stays visible inside of what is hidden.
    pub(super) keep: &'a [PathBuf],
    /// Where it can write, if it can write nowhere else, and read no more than all of this: what an
    /// agent in a sandbox planted shall get no further than that one did.
    pub(super) writes: Option<&'a [PathBuf]>,
}

impl Reporter {
    pub(super) fn new(configured: Option<PathBuf>) -> Self {
        Self { configured, found: OnceCell::new() }
    }

    /// Launches a reporter for a run directory, and waits until it looks after it.
    pub(super) async fn launch(&self, directory: &Path, token: &str) -> Result<(), Error> {
        let program = self.program().await?;
        let mut child = command(program, "launch")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::Transient(format!("{}: {error}", program.display())))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended already says why in its line.
            let _ = stdin.write_all(token.as_bytes()).await;
        }
        let output = timeout(FIRST_LINE_WITHIN, child.wait_with_output())
            .await
            .map_err(|_| Error::Ambiguous("the reporter does not say whether it started".into()))?
            .map_err(|error| Error::Ambiguous(format!("the reporter was lost: {error}")))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.trim() {
            cli::OK => Ok(()),
            "" => Err(Error::Transient(format!(
                "the reporter ended without a word: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
            line => Err(Error::Transient(line.strip_prefix("error: ").unwrap_or(line).to_owned())),
        }
    }

    /// A command that runs as the sprite's agent would. What it starts carries the sprite's mark.
    pub(super) async fn contained(&self, how: &Contained<'_>) -> Result<Command, Error> {
        let mut command = command(self.program().await?, helper::SUBCOMMAND);
        let argument = |name: &str, path: &Path| {
            let mut argument = OsString::from(name);
            argument.push(path);
            argument
        };
        command
            // What the helper has to say goes where the program's own complaints go.
            .arg("--pipe=2")
            .arg(argument("--hide=", how.hide))
            .arg(argument("--workdir=", how.workdir))
            .args(how.keep.iter().map(|path| argument("--keep=", path)));
        if let Some(writes) = how.writes {
            command
                .arg(argument("--read=", how.workdir))
                .args(how.keep.iter().map(|path| argument("--read=", path)))
                .args(writes.iter().map(|path| argument("--write=", path)))
                .arg("--sandbox");
        }
        command.arg("--").env(JOB_ID_VARIABLE, how.uid).current_dir(how.workdir);
        Ok(command)
    }

    async fn program(&self) -> Result<&PathBuf, Error> {
        self.found.get_or_try_init(|| self.find()).await
    }

    /// Beside this program, else this program itself, as long as the version is the same.
    async fn find(&self) -> Result<PathBuf, Error> {
        let candidates = match &self.configured {
            Some(program) => vec![program.clone()],
            None => candidates(std::env::current_exe()),
        };
        let mut refused = Vec::new();
        for program in candidates {
            match version_of(&program).await {
                Ok(version) if version == cli::version() => return Ok(program),
                Ok(version) => refused.push(format!("{} is {version:?}", program.display())),
                Err(error) => refused.push(format!("{}: {error}", program.display())),
            }
        }
        Err(Error::Terminal(format!(
            "no {} was found ({}); install it beside this program",
            cli::version(),
            refused.join("; ")
        )))
    }
}

fn candidates(own: io::Result<PathBuf>) -> Vec<PathBuf> {
    let Ok(own) = own else { return Vec::new() };
    let beside = own.with_file_name(cli::PROGRAM);
    // On Linux this name is this very program, even after an upgrade put another in its place.
    let itself = if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { own };
    vec![beside, itself]
}

fn command(program: &Path, subcommand: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.arg0(cli::PROGRAM).arg(subcommand).env_clear().current_dir("/");
    command
}

async fn version_of(program: &Path) -> io::Result<String> {
    let output = command(program, "--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(VERSION_WITHIN, output).await.map_err(io::Error::from)??;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}
