//! `claude`: Claude Code over its stream-json control protocol.

use super::Seat;
use crate::wire::{Exit, ExitReason};

/// Keeps one Claude Code process warm and speaks its control protocol.
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
        message: "not written".into(),
    }
}
