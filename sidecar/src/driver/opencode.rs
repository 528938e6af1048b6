//! OpenCode, by its server: not built yet.

use super::Seat;
use crate::wire::{Exit, ExitReason, RunSpec};

/// Why the CLI cannot be started here, if it cannot.
#[must_use]
pub fn absent(_spec: &RunSpec, _path: Option<&str>) -> Option<String> {
    None
}

/// Drives the CLI until it ends.
pub async fn drive(
    seat: Seat,
    _path: Option<String>,
    _model: Option<String>,
    _instructions: Option<String>,
) -> Exit {
    drop(seat);
    Exit {
        code: None,
        signal: None,
        reason: ExitReason::StartFailed,
        message: "opencode is not supported yet".into(),
    }
}
