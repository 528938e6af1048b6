//! What ingest knows of a sprite between two batches, so that a batch costs no read.

use jiff::Timestamp;

use crate::resource::{Artifact, Cost, ExitStatus};

/// What was seen of a sprite so far: its output's end, and those members of its status that
/// ingest alone writes. True as long as this server is the only one that takes its events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The newest run that was heard; 0 for none.
    pub run: u32,
    /// The highest sequence number held of that run.
    pub held: u64,
    /// Whether the run's exit event is held.
    pub finished: bool,
    /// When the exit event happened.
    pub ended: Option<Timestamp>,
    /// Whether an original sidecar speaks, whose events this server numbers.
    pub legacy: bool,
    /// Whether the status bears the time of a hello.
    pub greeted: bool,
    /// Whether the agent takes turns.
    pub ready: bool,
    /// The CLI's session.
    pub session: Option<String>,
    /// The last run that ended in order to sleep; 0 for none.
    pub slept: u32,
    /// How it ended, save to sleep.
    pub exit: Option<ExitStatus>,
    /// How many bytes of output gaps have told as missing.
    pub missing: u64,
    /// What it made.
    pub artifacts: Vec<Artifact>,
    /// What it has used.
    pub cost: Cost,
    /// The highest inbox row that was acknowledged.
    pub acked: u64,
}
