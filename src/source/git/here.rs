//! A directory of this machine that lies in somebody's work tree: a change is committed there, if that
//! is asked for.
//!
//! It is the operator's own repository, so it is used as they would: with their settings, by their
//! name where a person's is not known, and without their hooks, which could be anybody's programs. Only
//! the one file is committed; what else they have staged stays staged.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::process::Command;

use super::{Author, GitError};
use crate::ambient::Ambient;

/// How long git may take.
const TIME: Duration = Duration::from_secs(60);
/// What of the environment git is given.
const PASSED: [&str; 4] = ["PATH", "HOME", "USER", "XDG_CONFIG_HOME"];

/// The root of the work tree that a file lies in; nothing where it lies in none.
///
/// # Errors
/// Git cannot be run.
pub(super) async fn work_tree(
    environment: &[(String, String)],
    ambient: &Ambient,
    file: &Path,
) -> Result<Option<PathBuf>, GitError> {
    let (dir, _) = split(file)?;
    let (ok, out) = run(environment, ambient, dir, &["rev-parse", "--show-toplevel"], &[]).await?;
    Ok(ok.then(|| PathBuf::from(out.trim_end_matches('\n'))))
}

/// Commits a file of a work tree as it stands there, and nothing else. Answers the commit; where the
/// file says what its last commit says, that of the branch.
///
/// # Errors
/// The file lies in no work tree, or git does not commit it.
pub(super) async fn commit_here(
    environment: &[(String, String)],
    ambient: &Ambient,
    file: &Path,
    message: &str,
    author: &Author,
) -> Result<String, GitError> {
    let (dir, name) = split(file)?;
    let env = author.environment(ambient.clock.now());
    let git = async |args: &[&str]| -> Result<String, GitError> {
        match run(environment, ambient, dir, args, &env).await? {
            (true, out) => Ok(out.trim().to_owned()),
            (false, said) => Err(GitError::Failed {
                name: file.display().to_string(),
                verb: args[0].to_owned(),
                why: said.lines().last().unwrap_or_default().trim().to_owned(),
            }),
        }
    };
    // A file that is not known yet must be, before it can be committed alone.
    git(&["add", "--", name]).await?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", name]).await?;
    if !changed.is_empty() {
        let message = message.trim();
        let args = ["commit", "--quiet", "--no-verify", "--only", "-m", message, "--", name];
        ambient.step("source.commit_here", git(&args)).await?;
    }
    git(&["rev-parse", "--verify", "HEAD"]).await
}

fn split(file: &Path) -> Result<(&Path, &str), GitError> {
    let name = file.file_name().and_then(|name| name.to_str());
    match (file.parent(), name) {
        (Some(dir), Some(name)) if file.is_absolute() => Ok((dir, name)),
        _ => Err(GitError::File {
            file: file.display().to_string(),
            why: "is no absolute path of a file".to_owned(),
        }),
    }
}

/// Runs git in a directory: whether it did it, and what it printed, or complained about.
async fn run(
    environment: &[(String, String)],
    ambient: &Ambient,
    dir: &Path,
    args: &[&str],
    env: &[(&'static str, String)],
) -> Result<(bool, String), GitError> {
    let passed = environment.iter().filter(|(name, _)| PASSED.contains(&name.as_str()));
    let mut command = Command::new("git");
    command.args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]);
    command.args(["-c", "commit.gpgSign=false"]).args(args).current_dir(dir).env_clear();
    command.envs(passed.map(|(a, b)| (a, b))).envs(env.iter().map(|(a, b)| (a, b)));
    command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_LITERAL_PATHSPECS", "1");
    command.env("GIT_ALLOW_PROTOCOL", "none").env("GIT_NO_LAZY_FETCH", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn();
    let child = child.map_err(|error| GitError::NoGit(error.to_string()))?;
    let clock = Arc::clone(&ambient.clock);
    let output = tokio::select! {
        output = child.wait_with_output() => output,
        () = clock.sleep(TIME) => {
            let (name, verb) = (dir.display().to_string(), args[0].to_owned());
            return Err(GitError::TimedOut { name, verb, seconds: TIME.as_secs() });
        }
    };
    let output = output.map_err(|error| GitError::NoGit(error.to_string()))?;
    let said = if output.status.success() { output.stdout } else { output.stderr };
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}
