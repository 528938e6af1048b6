//! `command`: a shell, as an honest agent that needs no account.

use super::Seat;
use crate::wire::{Exit, ExitReason};

/// Runs each prompt as `SHELL -c PROMPT`.
pub async fn drive(seat: Seat, _shell: Option<String>) -> Exit {
    drop(seat);
    Exit {
        code: None,
        signal: None,
        reason: ExitReason::StartFailed,
        message: "not written".into(),
    }
}
