//! A worktree of the agent's own: its files and its branch, and a repository that it shares.
//!
//! It grows beside its place (`.tree-NAME`), is moved there when git is done, and then git's own
//! note of where it lies is mended. A crash leaves it beside, where the next run removes it,
//! or at its place with the note unmended, where the next run mends it.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::git::Git;
use crate::{
    process::Sandbox,
    steps::step,
    wire::{RepoSpec, RunSpec, WorktreeSpec},
    worktrees::{self, notes},
};

/// The repository behind a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// What all its worktrees share.
    pub(super) common: PathBuf,
    /// What git keeps for this worktree alone.
    pub(super) own: PathBuf,
}

/// Makes the worktree, or takes the one that is there as it is.
pub(super) async fn prepare(
    git: &Git<'_>,
    spec: &RunSpec,
    tree: &WorktreeSpec,
) -> Result<Repository, String> {
    let (of, place) = (Path::new(&tree.of), Path::new(&spec.workdir));
    if place.join(".git").exists() {
        return repository(git, spec, of, place).await;
    }
    if let Some(repo) = &spec.repo {
        source(git, spec, of, repo).await?;
    }
    if !of.is_dir() {
        let of = of.display();
        return Err(format!("the work directory {of} is missing; make it, or name another"));
    }
    if ask(git, spec, of, &["rev-parse", "--git-common-dir"]).await?.is_none() {
        let of = of.display();
        return Err(format!(
            "{of} is in no git repository, and a worktree needs one; run `git init` and commit \
             there, name another work directory, or choose another isolation"
        ));
    }
    add(git, spec, tree, of, place).await?;
    repository(git, spec, of, place).await
}

/// What keeps git while it works in a repository for an agent in a sandbox. One that was named may
/// be another such agent's work, whose settings could make git run anything. Clones that the
/// server made are not theirs to configure.
fn around(spec: &RunSpec, of: &Path, write: &[PathBuf]) -> Option<Sandbox> {
    let sandbox = spec.sandbox.as_ref()?;
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let place = real(of);
    if spec.hide.iter().any(|data| place.starts_with(real(Path::new(data)))) {
        return None;
    }
    let mut read: Vec<PathBuf> = sandbox.read.iter().map(PathBuf::from).collect();
    read.extend(worktrees::repository(&place));
    read.push(place);
    Some(Sandbox { write: write.to_vec(), read })
}

/// Asks git there, kept in as where it works.
async fn ask(
    git: &Git<'_>,
    spec: &RunSpec,
    of: &Path,
    question: &[&str],
) -> Result<Option<String>, String> {
    git.ask(of, question, around(spec, of, &[]).as_ref()).await
}

/// Where the repository is that a directory is in.
async fn common(git: &Git<'_>, spec: &RunSpec, of: &Path) -> Result<Option<PathBuf>, String> {
    let common = ask(git, spec, of, &["rev-parse", "--git-common-dir"]).await?;
    Ok(common.and_then(|common| fs::canonicalize(of.join(common)).ok()))
}

/// The clone that worktrees are made of, as fresh as its remote.
async fn source(git: &Git<'_>, spec: &RunSpec, of: &Path, repo: &RepoSpec) -> Result<(), String> {
    if !of.join(".git").exists() {
        let whole = RepoSpec { branch: None, ..repo.clone() };
        match git.clone(of, &whole, &spec.job_id).await {
            // Another agent's run was faster.
            Err(_) if of.join(".git").exists() => {}
            done => return done,
        }
    }
    let fetch = ["fetch", "--prune", "origin"].iter().map(OsString::from).collect();
    let write: Vec<PathBuf> = common(git, spec, of).await?.into_iter().collect();
    let sandbox = around(spec, of, &write);
    let mend = match &sandbox {
        Some(_) => {
            "; for isolation sandbox git fetches without your keys: leave out repo or workdir"
        }
        None => "",
    };
    git.run_within(of, fetch, &[], sandbox.as_ref(), true)
        .await
        .map_err(|why| format!("{} could not be fetched: {why}{mend}", repo.url))
}

async fn add(
    git: &Git<'_>,
    spec: &RunSpec,
    tree: &WorktreeSpec,
    of: &Path,
    place: &Path,
) -> Result<(), String> {
    let failed = |why: String| {
        let (of, branch) = (of.display(), &tree.branch);
        let mend = if why.contains("already") && (why.contains("used") || why.contains("checked")) {
            format!("; let go of {branch} there (git switch another branch), or delete it")
        } else {
            String::new()
        };
        format!("a worktree of {of} on {branch} could not be made: {why}{mend}")
    };
    let disk = |error: std::io::Error| failed(format!("{}: {error}", place.display()));
    if place.exists() {
        let occupied = place.read_dir().map_err(disk)?.next().is_some();
        if occupied {
            let place = place.display();
            return Err(format!("{place} holds something that is no worktree; move it away"));
        }
        fs::remove_dir(place).map_err(disk)?;
    }
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let beside = place.with_file_name(format!(".tree-{name}"));
    match fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(disk(error)),
        _ => {}
    }
    let arguments = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut write: Vec<PathBuf> = common(git, spec, of).await?.into_iter().collect();
    // What a crash left in git's notes of this very worktree.
    for common in &write {
        for gone in [place, &beside] {
            worktrees::forget(common, gone).map_err(|error| failed(error.to_string()))?;
        }
    }
    let mut words = arguments(&["worktree", "add", "--quiet"]);
    let branch = format!("refs/heads/{}", tree.branch);
    let question = ["rev-parse", "--verify", "--quiet", &branch];
    let known = ask(git, spec, of, &question).await?.is_some();
    if known {
        words.extend([beside.clone().into(), tree.branch.clone().into()]);
    } else {
        let base = base(git, spec, of).await.map_err(failed)?;
        words.extend(arguments(&["--no-track", "-b", &tree.branch]));
        words.extend([beside.clone().into(), base.into()]);
    }
    // Git takes an empty directory; a hidden place could not be made otherwise.
    fs::create_dir_all(&beside).map_err(disk)?;
    write.push(beside.clone());
    let sandbox = around(spec, of, &write);
    git.run_within(of, words, std::slice::from_ref(&beside), sandbox.as_ref(), false)
        .await
        .map_err(failed)?;
    step("place worktree", || fs::rename(&beside, place)).map_err(disk)
}

/// The commit that a new branch begins at.
async fn base(git: &Git<'_>, spec: &RunSpec, of: &Path) -> Result<String, String> {
    let repo = spec.repo.as_ref();
    let candidates = match repo {
        Some(RepoSpec { branch: Some(branch), .. }) => {
            vec![format!("refs/remotes/origin/{branch}"), format!("refs/heads/{branch}")]
        }
        Some(_) => vec!["refs/remotes/origin/HEAD".to_owned(), "HEAD".to_owned()],
        None => vec!["HEAD".to_owned()],
    };
    for candidate in &candidates {
        let commit = format!("{candidate}^{{commit}}");
        let question = ["rev-parse", "--verify", "--quiet", &commit];
        if ask(git, spec, of, &question).await?.is_some() {
            return Ok(candidate.clone());
        }
    }
    Err(match repo.and_then(|repo| repo.branch.as_ref()) {
        Some(branch) => format!("there is no branch {branch}"),
        None => "there is no commit yet; commit something first".to_owned(),
    })
}

/// The repository behind a worktree that is there, with git's note of where it lies mended.
///
/// What stands in the worktree is the agent's to write, so it is not believed: which of the
/// repository's notes is this worktree's is looked up among them.
async fn repository(
    git: &Git<'_>,
    spec: &RunSpec,
    of: &Path,
    place: &Path,
) -> Result<Repository, String> {
    let lost = |why: &str| {
        let place = place.display();
        format!("{place} is a worktree {why}; move it away, and it is made anew")
    };
    let common = common(git, spec, of).await?.ok_or_else(|| lost("whose repository is gone"))?;
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let beside = place.with_file_name(format!(".tree-{name}"));
    let own = match (notes(&common, place).as_slice(), notes(&common, &beside).as_slice()) {
        ([own], _) => own.clone(),
        ([], [own]) => {
            let mut words: Vec<OsString> =
                ["worktree", "repair"].iter().map(OsString::from).collect();
            words.push(place.into());
            let keep = [place.to_owned()];
            let sandbox = around(spec, of, &[common.clone(), place.to_owned()]);
            let mended = git.quietly(of, words, &keep, sandbox.as_ref()).await;
            let (_, failed) = mended.map_err(|why| lost(&why))?;
            if let Some(why) = failed {
                return Err(lost(&format!("that git could not mend ({why})")));
            }
            own.clone()
        }
        _ => return Err(lost("that its repository does not know")),
    };
    let link = fs::read_to_string(place.join(".git")).unwrap_or_default();
    let link = link.strip_prefix("gitdir:").map(|link| place.join(link.trim()));
    if link.and_then(|link| fs::canonicalize(link).ok()).as_ref() == Some(&own) {
        Ok(Repository { common, own })
    } else {
        Err(lost("that was turned to another repository"))
    }
}
