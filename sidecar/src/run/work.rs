//! The agent's side of a run: its workspace, then its driver, until that ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::mpsc;

use super::workspace;
use crate::{
    driver::{self, Seat},
    report::{self, Desk, Verdict},
    wire::{Exit, ExitReason, InboxRow},
};

/// How far the work has come, and whether it may go on.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// The driver has begun.
    pub(super) driving: AtomicBool,
    /// The run is to end: an agent that has not begun must not.
    pub(super) leaving: AtomicBool,
}

/// Prepares the workspace, then drives the agent.
pub(super) async fn work(seat: Seat, stage: Arc<Stage>) -> Exit {
    // A clone may take minutes, and is for nothing without an agent.
    if seat.spec.repo.is_some()
        && let Some(exit) = driver::absent(&seat.spec)
    {
        return exit;
    }
    if let Err(why) = workspace::prepare(&seat.spec, &seat.voice).await {
        return Exit {
            code: None,
            signal: None,
            reason: ExitReason::WorkspaceFailed,
            message: why,
        };
    }
    if stage.leaving.load(Ordering::Relaxed) {
        return Exit {
            code: None,
            signal: None,
            reason: ExitReason::Cancelled,
            message: "it was ended before its agent began".into(),
        };
    }
    stage.driving.store(true, Ordering::Relaxed);
    driver::drive(seat).await
}

/// Listens once the server knows the run: it holds the hello.
pub(super) async fn listen_once_known(
    desk: Arc<Desk>,
    address: report::Address,
    rows: mpsc::Sender<InboxRow>,
) -> Option<Verdict> {
    let known = desk.held().wait_for(|held| *held > 0).await.is_ok();
    if known { report::listen(desk, address, rows).await } else { None }
}

/// How a run ends whose driver does not.
pub(super) fn no_answer() -> Exit {
    Exit {
        code: None,
        signal: None,
        reason: ExitReason::Failed,
        message: "the driver did not end although its agent was killed".into(),
    }
}
