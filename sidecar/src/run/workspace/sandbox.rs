//! What a sandboxed agent may read and write.
//!
//! Its work directory, its home and its files are its own. Of the repository behind its
//! worktree it may write what a commit needs: objects, refs and their logs, and git's notes of this
//! very worktree; not the hooks and the configuration, which others would run.

use std::{fs, path::PathBuf};

use super::tree::Repository;
use crate::{
    process::Sandbox,
    wire::{RunSpec, SandboxSpec},
};

/// What of a shared repository a commit writes.
const COMMITS: [&str; 3] = ["objects", "refs", "logs"];

/// The sandbox around an agent.
///
/// # Errors
/// A directory that cannot be made.
pub(super) fn around(
    spec: &RunSpec,
    sandbox: &SandboxSpec,
    repository: Option<&Repository>,
) -> Result<Sandbox, String> {
    let made = |place: &PathBuf| {
        fs::create_dir_all(place)
            .map_err(|error| format!("{} cannot be made: {error}", place.display()))
    };
    let home = PathBuf::from(&sandbox.home);
    let mut write = vec![PathBuf::from(&spec.workdir), home];
    write.extend(sandbox.write.iter().map(PathBuf::from));
    write.extend([&spec.attachments, &spec.artifacts].into_iter().flatten().map(PathBuf::from));
    let temporary = spec.env.iter().rev().find(|it| it.name == "TMPDIR");
    if let Some(place) = temporary.map(|it| PathBuf::from(&it.value))
        && write.iter().any(|it| place.starts_with(it))
    {
        made(&place)?;
    }
    let mut read: Vec<PathBuf> = sandbox.read.iter().map(PathBuf::from).collect();
    if let Some(Repository { common, own }) = repository {
        for part in COMMITS {
            let part = common.join(part);
            made(&part)?;
            write.push(part);
        }
        write.push(own.clone());
        read.push(common.clone());
    }
    Ok(Sandbox { write, read })
}
