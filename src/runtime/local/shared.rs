//! Clones that worktrees share, and when they go.
//!
//! One goes with the last owner whose note names it, once git knows of no worktree of it any more
//! and nothing in it stands there alone: no branch with a commit that its remote does not have, no
//! stash, no change. Doubt counts as work. An owner's note is written before its reporter looks for
//! the clone, and a clone leaves its place only while no note can be written: whoever comes later
//! finds it whole, or makes it anew.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use super::{
    super::Error,
    LocalRuntime,
    places::{Note, REPOS},
    removal,
};

fn transient(error: io::Error) -> Error {
    Error::Transient(error.to_string())
}

impl LocalRuntime {
    /// Removes the clones that nobody shares any more, whenever their last owner went.
    pub(super) async fn sweep_shared(&self) -> Result<(), Error> {
        for path in clones(&self.config.work.join(REPOS)).map_err(transient)? {
            let used = is_named(&self.config.work, &path).map_err(transient)?
                || has_worktrees(&path)
                || self.clone_of(REPOS, &path, false).holds_work().await?;
            if !used {
                self.remove_shared(path).await?;
            }
        }
        Ok(())
    }

    async fn remove_shared(&self, path: PathBuf) -> Result<(), Error> {
        let (work, settling) = (self.config.work.clone(), self.settling.clone());
        let removed = tokio::task::spawn_blocking(move || {
            let held = settling.lock().unwrap_or_else(PoisonError::into_inner);
            if is_named(&work, &path)? {
                return Ok(());
            }
            removal::displace(&path)?;
            drop(held);
            removal::discard_displaced(&path)
        })
        .await;
        removed.map_err(io::Error::other).and_then(|removed| removed).map_err(transient)
    }
}

/// The clones in a directory; what a crash left of the removal of one goes.
fn clones(repos: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(repos) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut clones = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if let Some(removed) = name.strip_prefix(".gone-") {
            removal::discard_displaced(&repos.join(removed))?;
        } else if !name.starts_with('.') {
            clones.push(entry.path());
        }
    }
    Ok(clones)
}

/// Whether an owner's note names a clone. One that cannot be read may.
fn is_named(work: &Path, clone: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "tree") {
            continue;
        }
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            json => {
                let note = serde_json::from_slice::<Note>(&json?).ok();
                if note.is_none_or(|note| note.of == clone) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Whether git knows of a worktree of it.
fn has_worktrees(clone: &Path) -> bool {
    match fs::read_dir(clone.join(".git/worktrees")) {
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(mut entries) => entries.next().is_some(),
    }
}
