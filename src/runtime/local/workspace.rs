//! Clones that a sprite had for itself, and whether anybody still needs what is in them.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::{
    super::{Cleaned, Error},
    removal,
};

/// Removes a sprite's own work directory, unless there is work in it that stands nowhere else.
pub(super) async fn remove(path: &Path, search_path: &str) -> Result<Cleaned, Error> {
    if path.exists() && holds_work(path, search_path).await {
        return Ok(Cleaned::KeptWork { path: path.display().to_string() });
    }
    removal::remove(path).await.map_err(|error| Error::Transient(error.to_string()))?;
    Ok(Cleaned::All)
}

/// Whether something is uncommitted, unpushed or stashed. Doubt is a yes.
async fn holds_work(path: &Path, search_path: &str) -> bool {
    if !path.join(".git").exists() {
        return path.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    }
    for question in [
        ["status", "--porcelain", "--ignore-submodules=none"].as_slice(),
        &["log", "--oneline", "-1", "HEAD", "--branches", "--not", "--remotes"],
        &["stash", "list"],
    ] {
        match git(path, search_path, question).await {
            Ok(answer) if answer.is_empty() => {}
            _ => return true,
        }
    }
    false
}

/// Asks git. What an agent wrote into the clone's configuration shall not run here.
async fn git(path: &Path, search_path: &str, question: &[&str]) -> io::Result<Vec<u8>> {
    let output = Command::new("git")
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(question)
        .current_dir(path)
        .env_clear()
        .env("PATH", search_path)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Where a sprite works: the place that the spec names, with `~` for the home; else a directory of
/// its own for a clone; else the home.
pub(super) fn place(
    named: Option<&str>,
    has_repo: bool,
    home: &Path,
    own: &Path,
) -> Result<PathBuf, Error> {
    let path = match named {
        None if has_repo => return Ok(own.to_owned()),
        None | Some("~") => return Ok(home.to_owned()),
        Some(named) => match named.strip_prefix("~/") {
            Some(below) => home.join(below),
            None => PathBuf::from(named),
        },
    };
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Error::Terminal(format!(
            "the work directory {:?} is not absolute; begin it with / or ~/",
            path.display().to_string()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_named_or_ones_own_or_home() {
        let (home, own) = (Path::new("/home/x"), Path::new("/data/work/u"));
        let place = |named, repo| place(named, repo, home, own);
        assert_eq!(place(None, false).unwrap(), home);
        assert_eq!(place(None, true).unwrap(), own);
        assert_eq!(place(Some("~/p"), true).unwrap(), Path::new("/home/x/p"));
        assert_eq!(place(Some("/p"), false).unwrap(), Path::new("/p"));
        let error = place(Some("p"), false).unwrap_err().to_string();
        assert!(error.contains("\"p\"") && error.contains("~/"), "{error}");
    }
}
