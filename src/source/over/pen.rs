//! The hand that changes files of Sources: a trait, and the directory's.
//!
//! A pen changes one document of one file, and nothing else in it ([`super::surgery`]). It may be
//! called again at any time with the same end: a file that says the change already is left alone.

use std::{
    io::Write as _,
    path::{Component, Path, PathBuf},
};

use async_trait::async_trait;
use serde_json::Value;

use super::surgery::{self, Refused};
use crate::{
    ambient::Fault,
    resource::{GitSource, Kind, Source, SourceFrom},
    source::git::{self, Author, Git, GitError},
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
    /// Who asked for it, for people: whom a commit is by; nothing for the server itself.
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

impl From<Refused> for PenError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused.to_string())
    }
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
        let (root, edit) = (self.root.join(&directory.path), edit.clone());
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
            return Err(PenError::Refused(format!("{} is not there any more", edit.file)));
        };
        let changed = surgery::patch(&text, edit.kind, &edit.name, &edit.patch)?;
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
        let short: String = commit.chars().take(12).collect();
        Ok(format!("{} at {short}", edit.file))
    }
}

#[async_trait]
impl Pen for SourcePen {
    async fn write(&self, source: &Source, edit: &Edit) -> Result<String, PenError> {
        match &source.spec.from {
            SourceFrom::Git(spec) => self.commit(source, spec, edit).await,
            SourceFrom::Directory(_) => self.directories.write(source, edit).await,
        }
    }
}

/// Who a commit is by: whoever asked for it, by the name that they go by here.
fn author(edit: &Edit) -> Author {
    let server = Author::server();
    match &edit.by {
        Some(name) => Author { name: name.clone(), ..server },
        None => server,
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

/// Changes a document of a file below a directory.
pub(super) fn write(root: &Path, edit: &Edit) -> Result<String, PenError> {
    let relative = Path::new(&edit.file);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(PenError::Refused(format!("{} does not lie in the source", edit.file)));
    }
    let failed = |what: &Path, error: &std::io::Error| {
        PenError::Failed(format!("{}: {error}", what.display()))
    };
    let shown = root.join(relative);
    // A link is followed and stays one, and leads nowhere else.
    let root = root.canonicalize().map_err(|error| failed(root, &error))?;
    let file = shown.canonicalize().map_err(|error| failed(&shown, &error))?;
    if !file.starts_with(&root) {
        return Err(PenError::Refused(format!("{} leads out of the source", edit.file)));
    }
    let text = std::fs::read_to_string(&file).map_err(|error| failed(&file, &error))?;
    let changed = surgery::patch(&text, edit.kind, &edit.name, &edit.patch)?;
    if changed != text {
        replace(&file, &changed).map_err(|error| failed(&file, &error))?;
    }
    Ok(edit.file.clone())
}

/// Puts a file with this text in place of another one, with its mode. Whoever reads sees the one or
/// the other, and after a crash as well.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    let mode = file.metadata()?.permissions();
    // Hidden, and without the ending of a document: no reader takes it for one.
    let mut fresh =
        tempfile::Builder::new().prefix(".open-dispatch-").suffix(".tmp").tempfile_in(directory)?;
    fresh.write_all(text.as_bytes())?;
    fresh.as_file().set_permissions(mode)?;
    fresh.as_file().sync_all()?;
    fresh.persist(file).map_err(|error| error.error)?;
    std::fs::File::open(directory)?.sync_all()
}
