//! Clones that worktrees share, and when they go.
//!
//! One goes with the last owner whose note names it, once git knows of no worktree of it any more
//! and nothing in it stands there alone: no branch with a commit that its remote does not have, no
//! stash, no change. Doubt counts as work. An owner's note is written before its reporter looks for
//! the clone, and a clone leaves its place only while no note can be written: whoever comes later
//! finds it whole, or makes it anew.

use std::{
    collections::HashSet,
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

impl LocalRuntime {
    /// Removes the clones that nobody shares any more, whenever their last owner went.
    pub(super) async fn sweep_shared(&self) -> Result<(), Error> {
        let work = self.config.work.clone();
        for path in apart(move || unused(&work)).await? {
            if !self.clone_of(REPOS, &path, false).holds_work().await? {
                self.remove_shared(path).await?;
            }
        }
        Ok(())
    }

    async fn remove_shared(&self, path: PathBuf) -> Result<(), Error> {
        let (work, settling) = (self.config.work.clone(), self.settling.clone());
        apart(move || {
            let held = settling.lock().unwrap_or_else(PoisonError::into_inner);
            if Named::by_notes_in(&work)?.has(&path) {
                return Ok(());
            }
            removal::displace(&path)?;
            drop(held);
            removal::discard_displaced(&path)
        })
        .await
    }
}

/// Waits for the disk, which is not for the server's workers.
pub(super) async fn apart<T: Send + 'static>(
    look: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let looked = tokio::task::spawn_blocking(look).await;
    looked
        .map_err(io::Error::other)
        .and_then(|looked| looked)
        .map_err(|error| Error::Transient(error.to_string()))
}

/// The clones of which neither a note nor git says that somebody uses them.
fn unused(work: &Path) -> io::Result<Vec<PathBuf>> {
    let mut clones = clones(&work.join(REPOS))?;
    if !clones.is_empty() {
        let named = Named::by_notes_in(work)?;
        clones.retain(|clone| !named.has(clone) && !has_worktrees(clone));
    }
    Ok(clones)
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

/// What the owners' notes name.
#[derive(Debug, Default)]
struct Named {
    clones: HashSet<PathBuf>,
    /// Whether there is a note that cannot be read: it may name any clone.
    is_unclear: bool,
}

impl Named {
    fn by_notes_in(work: &Path) -> io::Result<Self> {
        let mut named = Self::default();
        for entry in fs::read_dir(work)? {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "tree") {
                continue;
            }
            match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                json => match serde_json::from_slice::<Note>(&json?) {
                    Ok(note) => drop(named.clones.insert(note.of)),
                    Err(_) => named.is_unclear = true,
                },
            }
        }
        Ok(named)
    }

    fn has(&self, clone: &Path) -> bool {
        self.is_unclear || self.clones.contains(clone)
    }
}

/// Whether git knows of a worktree of it.
fn has_worktrees(clone: &Path) -> bool {
    match fs::read_dir(clone.join(".git/worktrees")) {
        Err(error) => error.kind() != io::ErrorKind::NotFound,
        Ok(mut entries) => entries.next().is_some(),
    }
}
