//! What goes wrong with a repository, in one line each, with the mend.

use crate::{ambient::Fault, secrets};

/// Why a repository could not be read or written. No message holds a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// The spec names what cannot be one.
    #[error("{place} {why}")]
    Spec {
        /// The member, such as `spec.from.git.url`.
        place: String,
        /// What is wrong, and the mend.
        why: String,
    },
    /// A repository on this machine that the operator has not allowed.
    #[error(
        "{path} is on the server's machine, where a Source may read only what lies below \
         {ROOTS_VARIABLE}; set that for the server, or name an https or ssh address"
    )]
    NotAllowed {
        /// The directory.
        path: String,
    },
    /// A secret that cannot be had.
    #[error("{place}: {why}")]
    Secret {
        /// The member that names it.
        place: &'static str,
        /// Why.
        why: String,
    },
    /// There is no git.
    #[error("git cannot be run: {0}; install git on the server's machine")]
    NoGit(String),
    /// Whoever holds the repository does not let us.
    #[error("{name} does not let us {verb}: {why}; {mend}")]
    Denied {
        /// The repository.
        name: String,
        /// `read it` or `push`.
        verb: &'static str,
        /// What was said.
        why: String,
        /// What would help.
        mend: String,
    },
    /// There is no such repository, or none that is shown to us.
    #[error(
        "{name} is not there, or is not shown to us: {why}; check the address, and for a private \
         one tokenFromSecret"
    )]
    NotFound {
        /// The repository.
        name: String,
        /// What was said.
        why: String,
    },
    /// The repository has no such branch.
    #[error("{name} has no branch {branch}; create it, or name another in `branch`")]
    NoBranch {
        /// The repository.
        name: String,
        /// The branch.
        branch: String,
    },
    /// The repository has no commit at all.
    #[error("{name} is empty; push a first commit")]
    Empty {
        /// The repository.
        name: String,
    },
    /// The commit has no such directory.
    #[error("{name} has no directory {path} at {commit}; create it, or name another in `path`")]
    NoPath {
        /// The repository.
        name: String,
        /// The directory.
        path: String,
        /// The commit, short.
        commit: String,
    },
    /// A file that cannot hold desired state.
    #[error("{file} {why}")]
    File {
        /// The file, with the repository's name before it where there are several.
        file: String,
        /// What is wrong, and the mend.
        why: String,
    },
    /// More than may be.
    #[error("{name} {what}")]
    TooMuch {
        /// The repository.
        name: String,
        /// What is too much, with the limit.
        what: String,
    },
    /// It took too long.
    #[error("{name}: git {verb} took longer than {seconds} s and was ended")]
    TimedOut {
        /// The repository.
        name: String,
        /// What git was asked.
        verb: String,
        /// How long it had, in seconds.
        seconds: u64,
    },
    /// Others had to be asked as well.
    #[error("{name}: gave no answer in its part of the time")]
    Late {
        /// The repository.
        name: String,
    },
    /// Anything else that git said.
    #[error("{name}: git {verb} failed: {why}")]
    Failed {
        /// The repository.
        name: String,
        /// What git was asked.
        verb: String,
        /// Git's last word.
        why: String,
    },
    /// The mirror on this machine.
    #[error("cannot {action} {path}: {why}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: String,
        /// Why it failed.
        why: String,
    },
    /// A commit that is not in the mirror (any more).
    #[error("{name} has no commit {commit} here yet; it is fetched the next time it is read")]
    NoCommit {
        /// The repository.
        name: String,
        /// The commit.
        commit: String,
    },
    /// The file has changed since it was read.
    #[error(
        "{file} has changed in {name} since it was read: commit {commit} says something else; read \
         it again and make the change on top of that"
    )]
    Conflict {
        /// The repository.
        name: String,
        /// The file.
        file: String,
        /// The commit that has the other text, short.
        commit: String,
    },
    /// The Source is only read.
    #[error(
        "{name} is only read: this Source does not push; set spec.from.git.push: true, or change \
         the file in the repository"
    )]
    ReadOnly {
        /// The repository.
        name: String,
    },
    /// A scripted fault; only in tests.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The variable that names the directories below which repositories of this machine may be read.
pub const ROOTS_VARIABLE: &str = "OPEN_DISPATCH_GIT_ROOTS";

impl GitError {
    /// Whether it stays so until somebody changes the spec, a secret or a setting.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Spec { .. } | Self::NotAllowed { .. } | Self::ReadOnly { .. })
    }

    /// Whether it may be otherwise at the next look without anybody having done anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Late { .. } | Self::Failed { .. })
    }

    pub(super) fn secret(place: &'static str, error: &secrets::Error) -> Self {
        Self::Secret { place, why: error.to_string() }
    }

    pub(super) fn disk(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl Fn(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::Disk { action, path: path.clone(), why: error.to_string() }
    }
}
