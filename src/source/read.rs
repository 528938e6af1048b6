//! What every reader of a Source answers, wherever it reads.

use async_trait::async_trait;

use super::Snapshot;
use crate::{
    ambient,
    resource::{Faults, Source},
};

/// Reads what a Source says now. The controller reads directories by itself; Git repositories are
/// read by who is handed to it.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Reads everything anew.
    ///
    /// # Errors
    /// Why nothing, or not all, could be read.
    async fn read(&self, source: &Source) -> Result<Snapshot, Error>;
}

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
