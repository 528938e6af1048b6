//! How a run ends whose CLI is a process of its own: what is waited for, and what its end means.

use std::{process::ExitStatus, time::Duration};

use tokio::time::timeout;

use crate::{
    ambient,
    wire::{Exit, ExitReason, TurnOutcome},
};

/// How long what is left of a CLI that is gone is read in all.
const REST: Duration = Duration::from_secs(10);

/// What is still heard of a CLI that is gone. Something of its tree may hold its pipes, and be
/// silent, or never fall silent: neither is waited for.
pub(in crate::driver) struct Rest {
    silence: Duration,
    until: Duration,
}

impl Rest {
    /// Begins to listen: until nothing was heard for so long, and not much longer in all.
    pub(in crate::driver) fn new(silence: Duration) -> Self {
        Self { silence, until: ambient::elapsed() + REST }
    }

    /// What is heard next; none at the end, or once it is not waited for any more.
    pub(in crate::driver) async fn hear<T>(
        &self,
        next: impl Future<Output = Option<T>>,
    ) -> Option<T> {
        let left = self.until.checked_sub(ambient::elapsed())?;
        timeout(self.silence.min(left), next).await.ok().flatten()
    }
}

/// Whether the task has no end of its own.
pub(in crate::driver) fn is_broken_off((outcome, _): &(TurnOutcome, String)) -> bool {
    *outcome == TurnOutcome::Interrupted
}

/// Waits for so long, or for ever.
pub(in crate::driver) async fn silence(patience: Option<Duration>) {
    match patience {
        Some(patience) => {
            let _ = timeout(patience, std::future::pending::<()>()).await;
        }
        None => std::future::pending().await,
    }
}

/// How a process ended, for people.
pub(in crate::driver) fn describe(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => match (status.code(), signal(status)) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit code".to_owned(),
        },
        None => "still running".to_owned(),
    }
}

fn signal(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal()
}

/// How the run ended. A job ends as its task's turn did; the CLI's exit code, which tells of its
/// last turn only, counts where the task has no end of its own.
pub(in crate::driver) fn verdict(
    task_end: Option<&(TurnOutcome, String)>,
    is_job: bool,
    is_stopped: bool,
    status: Option<ExitStatus>,
    message: String,
) -> Exit {
    let code = status.and_then(|status| status.code());
    let signal = status.and_then(signal);
    match task_end {
        Some((TurnOutcome::Succeeded, _)) => Exit {
            code: Some(0),
            signal: None,
            reason: ExitReason::Completed,
            message: String::new(),
        },
        Some((TurnOutcome::Failed, message)) => Exit {
            code: Some(1),
            signal: None,
            reason: ExitReason::Failed,
            message: message.clone(),
        },
        Some((TurnOutcome::Cancelled, _)) => {
            Exit { code, signal, reason: ExitReason::Cancelled, message: String::new() }
        }
        Some((TurnOutcome::Interrupted, _)) | None if !is_stopped => {
            // A CLI that ends with 0 in the middle has not done what it was asked.
            let code = code.map(|code| if code == 0 { 1 } else { code });
            Exit { code, signal, reason: ExitReason::Failed, message }
        }
        Some((TurnOutcome::Interrupted, _)) | None => {
            let reason = if is_job { ExitReason::Cancelled } else { ExitReason::Completed };
            Exit { code, signal, reason, message: String::new() }
        }
    }
}
