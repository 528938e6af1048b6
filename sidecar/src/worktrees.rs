//! Git's notes of worktrees: where in a repository it stands that a worktree lies at a place, and
//! where from a place git finds its repository.
//!
//! `git worktree prune` would forget all whose place cannot be seen, and the places of other agents
//! are hidden from ours; so each looks for its own notes, and leaves the others alone.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The most bytes of a file that leads to a repository.
const LINK_BYTES: u64 = 16 * 1024;

/// What git reads of the repository that a place is in: its own directory, and for a worktree the file
/// that leads there and what it shares with others. Nothing where it is in none. Looked up without
/// git, and without a word on whether what is written there is to be believed.
#[must_use]
pub fn repository(place: &Path) -> Vec<PathBuf> {
    for front in place.ancestors() {
        let entry = front.join(".git");
        if entry.is_dir() {
            return vec![entry];
        }
        if let Some(own) = line(&entry) {
            let Some(own) = own.strip_prefix("gitdir:") else { return vec![entry] };
            let own = front.join(own.trim());
            let common = line(&own.join("commondir")).map(|common| own.join(common));
            return [Some(entry), Some(own), common].into_iter().flatten().collect();
        }
        let is_bare = front.join("HEAD").is_file()
            && ["objects", "refs"].iter().all(|part| front.join(part).is_dir());
        if is_bare {
            return vec![front.to_owned()];
        }
    }
    Vec::new()
}

/// What stands in a small file, if it is one.
fn line(path: &Path) -> Option<String> {
    // What is no file may keep whoever opens it waiting.
    if !path.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(LINK_BYTES).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_found_from_wherever_git_would_find_it() {
        let root = tempfile::tempdir().unwrap();
        let at = |below: &str| root.path().join(below);
        for directory in [
            "plain/.git/worktrees/t",
            "plain/a/b",
            "bare/objects",
            "bare/refs",
            "tree/a",
            "odd",
            "none",
        ] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("bare/HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(at("plain/.git/worktrees/t/commondir"), "../..\n").unwrap();
        fs::write(at("tree/.git"), "gitdir: ../plain/.git/worktrees/t\n").unwrap();
        fs::write(at("odd/.git"), "what is this\n").unwrap();
        let own = at("tree").join("../plain/.git/worktrees/t");
        for (place, found) in [
            ("plain", vec![at("plain/.git")]),
            ("plain/a/b", vec![at("plain/.git")]),
            ("bare/refs", vec![at("bare")]),
            ("tree/a", vec![at("tree/.git"), own.clone(), own.join("../..")]),
            ("odd", vec![at("odd/.git")]),
            ("none", vec![]),
        ] {
            assert_eq!(repository(&at(place)), found, "{place}");
        }
    }
}
