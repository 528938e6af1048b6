//! Why a Source could not be read, wherever it is read from.

use super::git::GitError;
use crate::{
    ambient,
    resource::{Fault, Faults},
};

/// Why a Source could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing at the place that the Source names.
    #[error("{0}")]
    Missing(String),
    /// Something there cannot be desired state, such as a file that nobody may read.
    #[error("{0}")]
    Unfit(Faults),
    /// It cannot be reached now, and may be later.
    #[error("{0}")]
    Unreachable(String),
    /// It cannot be read as the Source says, until the Source says something else.
    #[error("{0}")]
    Never(String),
    /// A scripted fault; only in tests.
    #[error(transparent)]
    Fault(#[from] ambient::Fault),
}

impl From<GitError> for Error {
    fn from(error: GitError) -> Self {
        match error {
            GitError::Fault(fault) => Self::Fault(fault),
            GitError::File { file, why } => {
                Self::Unfit(Fault { file: Some(file), ..Fault::new("", why) }.into())
            }
            error if error.is_terminal() => Self::Never(error.to_string()),
            error => Self::Unreachable(error.to_string()),
        }
    }
}
