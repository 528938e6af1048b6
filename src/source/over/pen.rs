//! The hand that changes files of Sources: a trait, and the directory's.
//!
//! A pen changes one document of one file, and nothing else in it ([`super::surgery`]). It may be
//! called again at any time with the same end: a file that says the change already is left alone.

use std::{
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use async_trait::async_trait;
use serde_json::Value;

use super::surgery::{self, Refused};
use crate::{
    ambient::Fault,
    resource::{DirectorySource, GitSource, Kind, Source, SourceFrom},
    source::{
        beneath::{Root, is_gone},
        git::{self, Author, Git, GitError},
    },
};

/// A change of one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The file, as the row of what is owned names it.
    pub file: String,
    /// The object's kind.
    pub kind: Kind,
    /// The object's name.
    pub name: String,
    /// A merge patch on its spec.
    pub patch: Value,
    /// Why, for people; goes into a commit.
    pub why: Option<String>,
    /// Who asked for it: whom a commit is by. Nobody but the server, where it is not known.
    pub by: Option<String>,
}

/// Why a file was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PenError {
    /// It will not be, as things are: the line says why, and the mend.
    #[error("{0}")]
    Refused(String),
    /// It may work later.
    #[error("{0}")]
    Failed(String),
    /// A scripted fault; only in tests.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The text with a change of one document.
fn patched(text: &str, edit: &Edit) -> Result<String, PenError> {
    surgery::patch(text, edit.kind, &edit.name, &edit.patch).map_err(|refused| match refused {
        Refused::NotThere(_) => moved(edit, &format!("{}: {refused}", edit.file)),
        refused => PenError::Refused(refused.to_string()),
    })
}

/// What a document says that is not where it was read. It may stand in another file by now: the source
/// reads that, and then its row names it.
fn moved(edit: &Edit, why: &str) -> PenError {
    PenError::Failed(format!(
        "{why}; if it was moved, it is written where the source reads it next, and if not, take {}/{} \
         back into that file, or delete the override",
        edit.kind.singular(),
        edit.name
    ))
}

/// Changes files of Sources.
#[async_trait]
pub trait Pen: Send + Sync {
    /// Changes one document, and answers where it stands: a file, or a commit.
    ///
    /// # Errors
    /// Why it does not.
    async fn write(&self, source: &Source, edit: &Edit) -> Result<String, PenError>;
}

/// Writes into directories: whole files, put in place of the old ones at once, with their mode.
#[derive(Debug, Clone)]
pub struct DirectoryPen {
    /// Where relative directories lie.
    root: PathBuf,
}

impl DirectoryPen {
    /// A pen for directories that lie in `root` where they are relative.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

#[async_trait]
impl Pen for DirectoryPen {
    async fn write(&self, source: &Source, edit: &Edit) -> Result<String, PenError> {
        let SourceFrom::Directory(directory) = &source.spec.from else {
            return Err(PenError::Refused(format!(
                "source {} is no directory, and this server writes no commits",
                source.metadata.name
            )));
        };
        self.put(directory, edit).await.map(|_| edit.file.clone())
    }
}

impl DirectoryPen {
    fn place(&self, directory: &DirectorySource) -> PathBuf {
        self.root.join(&directory.path)
    }

    /// Changes a file, and answers where it lies.
    async fn put(&self, directory: &DirectorySource, edit: &Edit) -> Result<PathBuf, PenError> {
        let (root, edit) = (self.place(directory), edit.clone());
        let written = tokio::task::spawn_blocking(move || write(&root, &edit)).await;
        written.unwrap_or_else(|error| Err(PenError::Failed(error.to_string())))
    }
}

/// Writes into directories, and into repositories as commits that are pushed.
pub struct SourcePen {
    directories: DirectoryPen,
    git: Git,
}

impl SourcePen {
    /// A pen for directories that lie in `root` where they are relative, and for these repositories.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, git: Git) -> Self {
        Self { directories: DirectoryPen::new(root), git }
    }

    async fn commit(
        &self,
        source: &Source,
        spec: &GitSource,
        edit: &Edit,
    ) -> Result<String, PenError> {
        let uid = &source.metadata.uid;
        let now = self.git.file(uid, spec, &edit.file).await?;
        let Some(text) = now.text else {
            return Err(moved(edit, &format!("{} is not there any more", edit.file)));
        };
        let changed = patched(&text, edit)?;
        let commit = if changed == text {
            now.commit
        } else {
            let change = git::Edit {
                path: edit.file.clone(),
                old: Some(text),
                new: changed,
                message: message(edit),
                author: author(edit),
            };
            self.git.commit(uid, spec, &change).await?.commit
        };
        Ok(at(edit, &commit))
    }

    /// Changes a file of a directory, and commits it in the work tree that this lies in. Where it says
    /// the change already and no commit does, the last call came no further.
    async fn commit_here(
        &self,
        source: &Source,
        directory: &DirectorySource,
        edit: &Edit,
    ) -> Result<String, PenError> {
        let place = self.directories.place(directory);
        if self.git.work_tree(&place.join("any")).await?.is_none() {
            return Err(PenError::Refused(format!(
                "{} lies in no work tree of git, and source {} says that changes are committed; run \
                 git init there, or take spec.from.directory.commit away",
                place.display(),
                source.metadata.name
            )));
        }
        let file = self.directories.put(directory, edit).await?;
        let commit = self.git.commit_here(&file, &message(edit), &author(edit)).await?;
        Ok(at(edit, &commit))
    }
}

/// Where a change stands, once a commit has it.
fn at(edit: &Edit, commit: &str) -> String {
    let short: String = commit.chars().take(12).collect();
    format!("{} at {short}", edit.file)
}

fn author(edit: &Edit) -> Author {
    let server = Author::server();
    Author { name: edit.by.clone().unwrap_or(server.name), email: server.email }
}

#[async_trait]
impl Pen for SourcePen {
    async fn write(&self, source: &Source, edit: &Edit) -> Result<String, PenError> {
        match &source.spec.from {
            SourceFrom::Git(spec) => self.commit(source, spec, edit).await,
            SourceFrom::Directory(directory) if directory.commit => {
                self.commit_here(source, directory, edit).await
            }
            SourceFrom::Directory(_) => self.directories.write(source, edit).await,
        }
    }
}

/// A commit's message: what is changed, and why.
fn message(edit: &Edit) -> String {
    let fields: Vec<&str> =
        edit.patch.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let subject = format!("Set {} of {} {}", fields.join(", "), edit.kind.singular(), edit.name);
    match &edit.why {
        Some(why) => format!("{subject}\n\n{why}\n"),
        None => format!("{subject}\n"),
    }
}

impl From<GitError> for PenError {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Fault(fault) => Self::Fault(fault),
            error if error.is_terminal() => Self::Refused(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// Changes a document of a file below a directory, and answers where that lies.
fn write(root: &Path, edit: &Edit) -> Result<PathBuf, PenError> {
    let relative = Path::new(&edit.file);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(PenError::Refused(format!("{} does not lie in the source", edit.file)));
    }
    let failed = |what: &Path, error: &std::io::Error| match is_gone(error) {
        true => moved(edit, &format!("{} is not there", what.display())),
        false => PenError::Failed(format!("{}: {error}", what.display())),
    };
    let shown = root.join(relative);
    let root = Root::open(root).map_err(|error| failed(root, &error))?;
    // A link is followed and stays one, and leads nowhere else.
    let Some(real) = root.leads_to(&shown).map_err(|error| failed(&shown, &error))? else {
        return Err(PenError::Refused(format!("{} leads out of the source", edit.file)));
    };
    let read = || {
        let (mut file, mut text) = (root.file(&real)?, String::new());
        if !file.metadata()?.is_file() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        file.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| failed(&shown, &error))?;
    let changed = patched(&text, edit)?;
    if changed != text {
        root.replace(&real, &changed).map_err(|error| failed(&shown, &error))?;
    }
    Ok(root.path().join(real))
}
