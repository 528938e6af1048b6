//! Agents that speak the Agent Client Protocol: not built yet.

use super::Seat;
use crate::wire::{Exit, ExitReason, RunSpec};

/// Why the agent cannot be started here, if it cannot.
#[must_use]
pub fn absent(_spec: &RunSpec, _command: &[String]) -> Option<String> {
    None
}

/// Drives the agent until it ends.
pub async fn drive(
    seat: Seat,
    _command: Vec<String>,
    _model: Option<String>,
    _instructions: Option<String>,
) -> Exit {
    drop(seat);
    Exit {
        code: None,
        signal: None,
        reason: ExitReason::StartFailed,
        message: "acp is not supported yet".into(),
    }
}
