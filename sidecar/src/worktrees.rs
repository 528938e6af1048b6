//! Git's notes of worktrees: where in a repository it stands that a worktree lies at a place.
//!
//! `git worktree prune` would forget all whose place cannot be seen, and the places of other agents
//! are hidden from ours; so each looks for its own notes, and leaves the others alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A repository's notes that say that their worktree lies at a place, whether or not it is there.
#[must_use]
pub fn notes(common: &Path, place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten();
    let here = |note: &PathBuf| {
        let back = fs::read_to_string(note.join("gitdir")).unwrap_or_default();
        let back = PathBuf::from(back.trim());
        // The directory may be gone, or be reached in another way.
        let parent = |path: &Path| path.parent().and_then(|it| fs::canonicalize(it).ok());
        back.parent().is_some_and(|tree| {
            tree.file_name() == place.file_name() && parent(tree) == parent(place)
        })
    };
    entries.map(|entry| entry.path()).filter(here).collect()
}

/// Removes the notes of a worktree that is gone. Others stay, wherever their worktrees are.
///
/// # Errors
/// A note that cannot be removed.
pub fn forget(common: &Path, place: &Path) -> io::Result<()> {
    for note in notes(common, place) {
        fs::remove_dir_all(&note).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot remove {}: {error}", note.display()))
        })?;
    }
    Ok(())
}
