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
    reporter::{Contained, Reporter},
};

/// A sprite's own work directory, with all that is needed to look into it.
pub(super) struct Clone<'a> {
    /// The sprite.
    pub(super) uid: &'a str,
    /// Where it is.
    pub(super) path: &'a Path,
    /// Where git is searched.
    pub(super) search_path: &'a str,
    /// The server's data.
    pub(super) data: &'a Path,
    /// Whether an agent in a sandbox wrote to it.
    pub(super) sandboxed: bool,
    /// Starts what must not see that.
    pub(super) reporter: &'a Reporter,
}

impl Clone<'_> {
    /// Removes it, unless there is work in it that stands nowhere else.
    pub(super) async fn remove(&self) -> Result<Cleaned, Error> {
        if self.path.exists() && self.holds_work().await? {
            let path = self.path.display().to_string();
            return Ok(Cleaned::KeptWork { path, branch: None });
        }
        removal::remove(self.path).await.map_err(|error| Error::Transient(error.to_string()))?;
        Ok(Cleaned::All)
    }

    /// Whether something is uncommitted, unpushed or stashed. Doubt is a yes.
    pub(super) async fn holds_work(&self) -> Result<bool, Error> {
        if !self.path.join(".git").exists() {
            return Ok(self.path.read_dir().is_ok_and(|mut entries| entries.next().is_some()));
        }
        for question in [
            ["status", "--porcelain", "--ignore-submodules=none"].as_slice(),
            &["log", "--oneline", "-1", "HEAD", "--branches", "--not", "--remotes"],
            &["stash", "list"],
        ] {
            let contained = Contained {
                uid: self.uid,
                hide: self.data,
                workdir: self.path,
                keep: &[],
                writes: self.sandboxed.then_some(&[]),
            };
            let mut git = self.reporter.contained(&contained).await?;
            match ask(&mut git, self.search_path, question).await {
                Ok(answer) if answer.is_empty() => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// Asks git. What an agent wrote into the clone's configuration shall not run here, and what git
/// runs all the same, such as filters, sees no more than the agent did.
pub(super) async fn ask(
    contained: &mut Command,
    search_path: &str,
    question: &[&str],
) -> io::Result<Vec<u8>> {
    let output = contained
        .args(["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(question)
        .env("PATH", search_path)
        .env("GIT_OPTIONAL_LOCKS", "0")
        // Nor is a remote asked for what is missing: an agent may have said which, and how.
        .env("GIT_NO_LAZY_FETCH", "1")
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
