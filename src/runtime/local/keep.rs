//! What outlives a sprite, and when it goes.
//!
//! A worktree, a clone or a directory of an agent's own goes once its owner is gone and nothing in
//! it stands there alone: no change that is not committed, no file that git does not know and was
//! not told to ignore, no commit that no other branch and no remote has. Doubt counts as work.
//! With the directory goes all that stands beside it, and the branch that was made for it. A clone
//! that only its worktree was of goes in the same look, or in a later one.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use sprite_reporter::worktrees;

use super::{
    super::{Cleaned, Error},
    DEFAULT_PATH, LocalRuntime,
    places::{self, BESIDE, Note, Owner, REPOS},
    removal,
    reporter::Contained,
    safe, workspace,
};
use crate::resource::Sprite;

/// What git keeps while somebody is in the middle of something.
const UNDER_WAY: [&str; 6] =
    ["rebase-merge", "rebase-apply", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "BISECT_LOG"];

fn transient(error: io::Error) -> Error {
    Error::Transient(error.to_string())
}

impl LocalRuntime {
    /// Removes what a sprite had for itself alone.
    pub(super) async fn clean_places(&self, sprite: &Sprite) -> Result<Cleaned, Error> {
        let owner = Owner::of(sprite)?;
        let uid = &sprite.metadata.uid;
        if owner.uid == uid {
            return self.discard_places(uid).await;
        }
        if owner.stays {
            return Ok(Cleaned::All);
        }
        let own = places::own(&self.config, sprite)?;
        // A sandbox never has a clone that is the attempt's alone.
        self.clone_of(uid, &own, false).remove().await
    }

    pub(super) fn clone_of<'a>(
        &'a self,
        uid: &'a str,
        path: &'a Path,
        sandboxed: bool,
    ) -> workspace::Clone<'a> {
        workspace::Clone {
            uid,
            path,
            search_path: self.search_path(),
            data: &self.config.data,
            sandboxed,
            reporter: &self.reporter,
        }
    }

    fn search_path(&self) -> &str {
        let path = self.config.environment.iter().find(|(name, _)| name == "PATH");
        path.map_or(DEFAULT_PATH, |(_, value)| value)
    }

    /// Removes what is kept of an owner, if nothing in it stands there alone.
    pub(super) async fn discard_places(&self, uid: &str) -> Result<Cleaned, Error> {
        let uid = safe(uid)?;
        let work = &self.config.work;
        let path = work.join(uid);
        let beside = |ending: &str| work.join(format!("{uid}.{ending}"));
        let note: Option<Note> = match fs::read(beside("tree")) {
            Ok(json) => serde_json::from_slice(&json).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(transient(error)),
        };
        let sandboxed = beside("home").exists();
        let tree =
            note.as_ref().map(|note| Tree { runtime: self, uid, path: &path, note, sandboxed });
        let kept = Cleaned::KeptWork {
            path: path.display().to_string(),
            branch: note.as_ref().map(|note| note.branch.clone()),
        };
        if path.exists() {
            match &tree {
                Some(tree) if path.join(".git").is_file() => {
                    if tree.holds_work().await? {
                        return Ok(kept);
                    }
                }
                _ => {
                    if self.clone_of(uid, &path, sandboxed).remove().await? != Cleaned::All {
                        return Ok(kept);
                    }
                }
            }
        }
        // Also what a removal left that did not finish.
        removal::remove(&path).await.map_err(transient)?;
        removal::remove_hidden(&work.join(format!(".tree-{uid}"))).await.map_err(transient)?;
        if let Some(tree) = &tree {
            tree.forget().await?;
        }
        // The note goes last: it leads here again after a crash.
        for ending in BESIDE.iter().rev() {
            let place = beside(ending);
            if place.is_file() {
                fs::remove_file(&place).map_err(transient)?;
            } else {
                removal::remove(&place).await.map_err(transient)?;
            }
        }
        Ok(Cleaned::All)
    }
}

/// Of whom something is kept in a directory.
pub(super) fn kept(work: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(work) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut uids = BTreeSet::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let uid = match name.rsplit_once('.') {
            Some((uid, ending)) if BESIDE.contains(&ending) => uid,
            Some(_) => continue,
            None => name,
        };
        // What we could not have made is not ours to remove.
        if uid != REPOS && safe(uid).is_ok() {
            uids.insert(uid.to_owned());
        }
    }
    Ok(uids.into_iter().collect())
}

/// A worktree whose owner is gone.
struct Tree<'a> {
    runtime: &'a LocalRuntime,
    uid: &'a str,
    path: &'a Path,
    note: &'a Note,
    sandboxed: bool,
}

impl Tree<'_> {
    /// Whether something in it stands there alone. Doubt is a yes.
    async fn holds_work(&self) -> Result<bool, Error> {
        let own = fs::read_to_string(self.path.join(".git")).unwrap_or_default();
        let Some(own) = own.strip_prefix("gitdir:").map(|own| self.path.join(own.trim())) else {
            return Ok(true);
        };
        if UNDER_WAY.iter().any(|name| own.join(name).exists()) {
            return Ok(true);
        }
        let status = ["status", "--porcelain", "--untracked-files=all", "--ignore-submodules=none"];
        match self.ask(self.path, &status).await {
            Ok(answer) if answer.is_empty() => {}
            _ => return Ok(true),
        }
        Ok(!self.is_elsewhere(self.path, "HEAD").await || !self.branch_is_elsewhere().await)
    }

    /// Whether another branch, a tag or a remote has all that a commit has.
    async fn is_elsewhere(&self, place: &Path, commit: &str) -> bool {
        let exclude = format!("--exclude={}", self.note.branch);
        let question = [
            "rev-list",
            "--max-count=1",
            commit,
            "--not",
            &exclude,
            "--branches",
            "--remotes",
            "--tags",
        ];
        self.ask(place, &question).await.is_ok_and(|answer| answer.is_empty())
    }

    async fn branch_is_elsewhere(&self) -> bool {
        match self.branch().await {
            None => true,
            Some(commit) => self.is_elsewhere(&self.note.of, &commit).await,
        }
    }

    /// The commit of the branch that was made for it, if that is there.
    async fn branch(&self) -> Option<String> {
        let name = format!("refs/heads/{}", self.note.branch);
        let question = ["rev-parse", "--verify", "--quiet", name.as_str()];
        let answer = self.ask(&self.note.of, &question).await.ok()?;
        let commit = String::from_utf8_lossy(&answer).trim().to_owned();
        (!commit.is_empty()).then_some(commit)
    }

    /// Lets the repository forget the worktree that is gone, and its branch.
    async fn forget(&self) -> Result<(), Error> {
        let of = &self.note.of;
        if !of.is_dir() {
            return Ok(());
        }
        if let Some(common) = self.common().await {
            let beside = self.path.with_file_name(format!(".tree-{}", self.uid));
            for gone in [self.path, &beside] {
                worktrees::forget(&common, gone).map_err(transient)?;
            }
        }
        if let Some(commit) = self.branch().await
            && self.is_elsewhere(of, &commit).await
        {
            // Checked out by somebody else by now, or moved: then it is theirs.
            let _ = self.ask(of, &["branch", "-D", "--", &self.note.branch]).await;
        }
        Ok(())
    }

    /// What the repository shares among its worktrees, if git says where that is.
    async fn common(&self) -> Option<PathBuf> {
        let of = &self.note.of;
        let answer = self.ask(of, &["rev-parse", "--git-common-dir"]).await.ok()?;
        let answer = String::from_utf8_lossy(&answer);
        // In a bare repository it is `.`, the place itself.
        let common = Some(answer.trim()).filter(|answer| !answer.is_empty())?;
        fs::canonicalize(of.join(common)).ok()
    }

    async fn ask(&self, place: &Path, question: &[&str]) -> io::Result<Vec<u8>> {
        // Where it lies among the server's data, the repository stays visible.
        let repository = worktrees::repository(&self.note.of);
        let mut keep = vec![self.path.to_owned()];
        keep.extend(repository.iter().filter(|it| it.is_dir()).cloned());
        let changes = question.first() == Some(&"branch");
        let writes: Vec<PathBuf> =
            repository.into_iter().filter(|it| changes && it.is_dir()).collect();
        let contained = Contained {
            uid: self.uid,
            hide: &self.runtime.config.data,
            workdir: place,
            keep: &keep,
            writes: self.sandboxed.then_some(&writes),
        };
        let mut git =
            self.runtime.reporter.contained(&contained).await.map_err(io::Error::other)?;
        workspace::ask(&mut git, self.runtime.search_path(), question).await
    }
}
