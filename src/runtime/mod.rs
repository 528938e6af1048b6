//! Where sprites live, behind one narrow trait. Only the Sprite controller calls it.
//!
//! A runtime is driven level by level: [`Runtime::observe`] says what is, and each of the
//! hands ([`Runtime::start`], [`Runtime::recover`], [`Runtime::kill`], [`Runtime::clean`]) may be
//! called again after a crash, at any point, with the same end. Nothing here knows the store.

use async_trait::async_trait;
use sprite_reporter::wire::Exit;
use tokio::sync::mpsc;

use crate::resource::{FlyMachine, ProcessIdentity, Sprite};

pub mod fly;
pub mod local;
mod spec;

/// A place where sprites live.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// The runtime's name, as it stands in specs.
    fn name(&self) -> &'static str;

    /// The most sprites that may live here at once.
    fn capacity(&self) -> usize;

    /// What is there of a sprite.
    ///
    /// # Errors
    /// What kept it from looking.
    async fn observe(&self, sprite: &Sprite) -> Result<Observed, Error>;

    /// Starts a sprite that is absent; adopts one that is there by now. Two calls never start
    /// two agents.
    ///
    /// # Errors
    /// Why it could not; [`Error::Ambiguous`] if it may have.
    async fn start(&self, sprite: &Sprite, token: &str) -> Result<(), Error>;

    /// Looks after a sprite whose reporter is gone: kills what is left of the agent, writes an
    /// exit record if there is none, and sends what is in the spool.
    ///
    /// # Errors
    /// Why it could not.
    async fn recover(&self, sprite: &Sprite, token: &str) -> Result<(), Error>;

    /// Kills the agent's whole process tree, at once. The reporter lives on, reports and ends.
    ///
    /// # Errors
    /// Why it could not.
    async fn kill(&self, sprite: &Sprite) -> Result<(), Error>;

    /// Removes what a sprite that is gone left behind. Work that nobody has taken stays, and
    /// the answer says where.
    ///
    /// # Errors
    /// Why it could not.
    async fn clean(&self, sprite: &Sprite) -> Result<Cleaned, Error>;

    /// The uids of owners (and of sprites without one) of which something is kept here that
    /// outlives a sprite.
    ///
    /// # Errors
    /// Why that cannot be told.
    async fn keeps(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    /// Removes what an owner that is gone left here. Work that nobody has taken stays, and the
    /// answer says where. Called only while no sprite of the owner is here, with what
    /// [`Runtime::keeps`] told.
    ///
    /// # Errors
    /// Why it could not.
    async fn discard(&self, _owner_uid: &str) -> Result<Cleaned, Error> {
        Ok(Cleaned::All)
    }

    /// Removes what several owners shared here, once nobody uses it any more. What holds work that
    /// stands nowhere else stays.
    ///
    /// # Errors
    /// Why it could not.
    async fn sweep(&self) -> Result<(), Error> {
        Ok(())
    }

    /// How many sprites may be seen to at once: as many as may wait for answers from elsewhere
    /// without others having to wait for them.
    fn hands(&self) -> usize {
        16
    }

    /// The address that its sprites are told to report to, where that is a setting of somebody's
    /// that may be wrong.
    fn address(&self) -> Option<String> {
        None
    }

    /// Hears the uids of sprites that are to be looked at again, such as one whose process
    /// has ended. Taken once, by the engine.
    fn wakes(&self) -> Option<mpsc::UnboundedReceiver<String>>;
}

/// What there is of a sprite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Nothing: it was never started, or it was cleaned.
    Absent,
    /// Its reporter lives.
    Running {
        /// Which process.
        process: Option<ProcessIdentity>,
    },
    /// It has a machine of its own.
    Machine {
        /// Which one, where that is known.
        machine: Option<FlyMachine>,
        /// How it stands.
        stand: MachineStand,
    },
    /// Its reporter is gone, and its spool may hold what the server does not have.
    Orphaned {
        /// The exit record, if there is one.
        exit: Option<Exit>,
    },
    /// No process is left, and the spool was taken whole.
    Gone {
        /// The exit record, if there is one.
        exit: Option<Exit>,
    },
    /// It cannot be told. Nothing may start in its place.
    Unknown {
        /// Why, for people.
        why: String,
    },
}

impl Observed {
    /// Whether its reporter lives, as far as can be told.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Machine { stand: MachineStand::Up, .. })
    }
}

/// How a sprite's machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineStand {
    /// It runs.
    Up,
    /// It is on its way there; nothing is to be done.
    Coming,
    /// It is there, does not run, and nobody has lived the run that is wanted: it may be started.
    Resting,
    /// It hangs on its way from one state to another, with a run that has begun: only when it is
    /// destroyed is it proven that nobody lives in it.
    Stuck,
}

/// What [`Runtime::clean`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleaned {
    /// Nothing is left.
    All,
    /// Work that nobody has taken stays there.
    KeptWork {
        /// Where.
        path: String,
        /// The branch that was made for it, where it is a worktree.
        branch: Option<String>,
    },
}

/// What a runtime does not have now, and somebody may have to see to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Room where it is to run.
    Room,
    /// Leave: what it is let in by is wrong, has expired, or is not for this.
    Access,
    /// What it is to run in, such as an app that nobody has made.
    Place,
    /// More than an account may have.
    Limit,
    /// An answer: whom it must ask cannot be reached, or fails.
    Answer,
}

/// Why a runtime could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It will not work however often it is tried; the message names the mend.
    #[error("{0}")]
    Terminal(String),
    /// A secret that the spec names is not there: it works once somebody sets it.
    #[error("{0}")]
    SecretMissing(String),
    /// It cannot be had now, and somebody may have to see to that: it is tried again, and the
    /// Sprite says it.
    #[error("{message}")]
    Waiting {
        /// What it waits for.
        lack: Lack,
        /// What is wrong, and the mend.
        message: String,
    },
    /// It may work later.
    #[error("{0}")]
    Transient(String),
    /// It may have happened. Look before trying again.
    #[error("{0}")]
    Ambiguous(String),
    /// A scripted fault; only in tests.
    #[error(transparent)]
    Fault(#[from] crate::ambient::Fault),
}
