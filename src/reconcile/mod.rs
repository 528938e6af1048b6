//! The engine: keys in, one run per key at a time, the world out.
//!
//! Work items carry no payload. Whatever woke a key, its controller reads everything again
//! and compares. Why a key was woken decides only *when* it runs (see [`Wake`]).

pub mod controllers;
mod engine;
mod leaps;
pub mod queue;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{ambient::Fault, runtime, store};

pub use engine::{Engine, EngineHandle, Options, Stats, Waker};

/// Why a key is woken; decides when it runs, never what is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wake {
    /// Resync, poll: lowest priority.
    Timer,
    /// Somebody observed something: coalesced; does not shorten a backoff.
    Observation,
    /// A person wants something: runs now, and past failures are forgiven.
    User,
}

/// What a controller asks for after a reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something changes.
    Done,
    /// Again after this time at the latest.
    After(Duration),
}

/// A controller: keys of one kind, and what is done for one of them.
#[async_trait]
pub trait Controller: Send + Sync {
    /// The controller's name: `job`, `agent`, `sprite`, `delivery`, ...
    fn name(&self) -> &'static str;

    /// How many of its keys may run at once.
    fn workers(&self) -> usize {
        8
    }

    /// How long one of its runs may take; as long as the engine allows each where it says nothing.
    fn deadline(&self) -> Option<std::time::Duration> {
        None
    }

    /// Which of its keys a change of an object concerns, and why.
    fn concerns(&self, change: &store::Change) -> Vec<(String, Wake)>;

    /// Which of its keys a bell concerns that is not about objects.
    fn hears(&self, _bell: &store::Bell) -> Vec<(String, Wake)> {
        Vec::new()
    }

    /// A source of keys of its own that are to be looked at again, such as a runtime's. Taken
    /// once, when the engine starts.
    fn wakes(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        None
    }

    /// All its keys in the order in which they matter (deleting, changed since they were last
    /// looked at, not finished, the rest), for the start and after a missed bell.
    ///
    /// # Errors
    /// The store's.
    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error>;

    /// Reads everything about a key, compares, and acts.
    ///
    /// # Errors
    /// Why it could not; the engine tries again accordingly.
    async fn reconcile(&self, key: &str) -> Result<Next, Error>;
}

/// Why a reconcile ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It may work later: with backoff.
    #[error("{0}")]
    Transient(String),
    /// It will not work until the spec changes; the condition says so.
    #[error("{0}")]
    Terminal(String),
    /// Try again after this time; not the key's fault.
    #[error("asked to wait")]
    RateLimited(Duration),
    /// Somebody else wrote first: at once again, not counted.
    #[error("the object changed meanwhile")]
    Conflict,
    /// A scripted fault; only in tests.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            // Gone, changed or there by now: whatever was decided rests on what was read before.
            store::Error::Conflict { .. }
            | store::Error::Stale { .. }
            | store::Error::NotFound { .. }
            | store::Error::AlreadyExists { .. } => Self::Conflict,
            store::Error::Fault(fault) => Self::Fault(fault),
            other => Self::Transient(other.to_string()),
        }
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        match error {
            runtime::Error::Terminal(message) => Self::Terminal(message),
            runtime::Error::Waiting { message, .. }
            | runtime::Error::Transient(message)
            | runtime::Error::SecretMissing(message)
            | runtime::Error::Ambiguous(message) => Self::Transient(message),
            runtime::Error::Fault(fault) => Self::Fault(fault),
        }
    }
}
