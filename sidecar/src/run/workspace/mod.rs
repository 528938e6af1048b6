//! The workspace: the directory that the agent works in, as the spec promised it, and what stands
//! around it.
//!
//! | what | where it comes from |
//! |---|---|
//! | a directory | it is there; we only look |
//! | a clone | grows beside its place, and is moved there when it is whole ([`git`]) |
//! | a worktree of the agent's own | likewise; from a repository on this machine, or from a clone ([`tree`]) |
//! | a sandbox | what may be read and written is told to the kernel ([`sandbox`]) |
//!
//! What stands at a place is whole or nothing, at every instant. What is there already is taken as
//! it is: somebody's work may be in it.

mod git;
mod sandbox;
mod tree;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use self::git::Git;
use crate::{
    driver::Voice,
    process::{self, Enclosure},
    wire::RunSpec,
};

/// Makes the work directory what the spec says, and encloses whatever is started from here on.
///
/// # Errors
/// One line that names the place and the cause.
pub(super) async fn prepare(spec: &RunSpec, voice: &Voice) -> Result<(), String> {
    let mut keep = Vec::new();
    for place in [&spec.attachments, &spec.artifacts].into_iter().flatten().map(PathBuf::from) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&place)
            .map_err(|error| format!("{} cannot be made: {error}", place.display()))?;
        keep.push(place);
    }
    let unkept = |why| format!("isolation: sandbox cannot be kept here: {why}");
    if spec.sandbox.is_some() {
        // Git is kept in one as well.
        process::can_enclose().map_err(unkept)?;
    }
    let git = Git::of(spec, voice);
    let repository = match &spec.worktree {
        Some(tree) => Some(tree::prepare(&git, spec, tree).await?),
        None => {
            directory(&git, spec).await?;
            None
        }
    };
    keep.extend(repository.iter().map(|repository| repository.common.clone()));
    let sandbox = spec
        .sandbox
        .as_ref()
        .map(|sandbox| sandbox::around(spec, sandbox, repository.as_ref()))
        .transpose()?;
    keep.extend(spec.sandbox.iter().map(|sandbox| PathBuf::from(&sandbox.home)));
    process::enclose(Enclosure { keep, sandbox }).map_err(unkept)
}

/// A plain directory, or a clone.
async fn directory(git: &Git<'_>, spec: &RunSpec) -> Result<(), String> {
    let workdir = Path::new(&spec.workdir);
    let Some(repo) = &spec.repo else {
        return if workdir.is_dir() {
            Ok(())
        } else {
            Err(format!("the work directory {} is missing; make it, or name another", spec.workdir))
        };
    };
    if workdir.join(".git").exists() {
        return git.reuse(workdir, repo).await;
    }
    let occupied = workdir.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if occupied || workdir.is_file() {
        return Err(format!(
            "{} holds something that is no git clone; empty it, or name another",
            spec.workdir
        ));
    }
    git.clone(workdir, repo, &spec.job_id).await
}
