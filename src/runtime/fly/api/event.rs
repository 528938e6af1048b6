//! What happened to a machine, and how its program ended.
//!
//! Fly keeps the last few events of a machine and forgets them with it, so they are the second
//! source after what the reporter itself said.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::lenient;

/// One event, as it stands among a machine's events.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Raw")]
pub struct MachineEvent {
    /// The event's id.
    pub id: String,
    /// `launch`, `start`, `exit`, `stop`, `update`, `destroy`, `cordon`, `uncordon`, or a word that
    /// is not known yet.
    pub kind: String,
    /// The machine's state with it.
    pub status: String,
    /// `flyd`, `user`, `proxy`, or a word that is not known yet.
    pub source: String,
    /// When.
    pub at: Option<Timestamp>,
    /// How the program ended, where this says so.
    pub exit: Option<ExitEvent>,
    /// How often Fly has started it again.
    pub restart_count: Option<u32>,
}

/// How a machine's program ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ExitEvent {
    /// The exit code. Fly leaves it out where it is 0.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub exit_code: i64,
    /// The exit code of the program inside the VM, where it differs.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub guest_exit_code: Option<i64>,
    /// The signal that ended the VM.
    #[serde(default, deserialize_with = "signal")]
    pub signal: Option<u32>,
    /// The signal that ended the program inside the VM.
    #[serde(default, deserialize_with = "signal")]
    pub guest_signal: Option<u32>,
    /// Whether the kernel killed for want of memory.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub oom_killed: bool,
    /// Whether somebody asked for the stop: then it is no crash.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub requested_stop: bool,
    /// Whether Fly starts it again by itself.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub restarting: bool,
    /// What else was said.
    #[serde(default, deserialize_with = "lenient::text")]
    pub error: Option<String>,
    /// When it ended.
    #[serde(default, deserialize_with = "lenient::time")]
    pub exited_at: Option<Timestamp>,
}

/// A signal's number; none where Fly says 0 or -1.
fn signal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let number: Option<i64> = lenient::or_default(deserializer)?;
    Ok(number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0))
}

#[derive(Default, Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "lenient::or_default")]
    id: String,
    #[serde(default, rename = "type", deserialize_with = "lenient::or_default")]
    kind: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    status: String,
    #[serde(default, deserialize_with = "lenient::or_default")]
    source: String,
    #[serde(default, deserialize_with = "lenient::time")]
    timestamp: Option<Timestamp>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    request: Option<Request>,
}

#[derive(Default, Deserialize)]
struct Request {
    #[serde(default, deserialize_with = "lenient::or_default")]
    exit_event: Option<ExitEvent>,
    #[serde(default, rename = "MonitorEvent", deserialize_with = "lenient::or_default")]
    monitor: Option<Monitor>,
    #[serde(default, deserialize_with = "lenient::or_default")]
    restart_count: Option<u32>,
}

#[derive(Default, Deserialize)]
struct Monitor {
    #[serde(default, deserialize_with = "lenient::or_default")]
    exit_event: Option<ExitEvent>,
}

impl From<Raw> for MachineEvent {
    fn from(raw: Raw) -> Self {
        let request = raw.request.unwrap_or_default();
        let monitored = request.monitor.and_then(|monitor| monitor.exit_event);
        Self {
            id: raw.id,
            kind: raw.kind,
            status: raw.status,
            source: raw.source,
            at: raw.timestamp,
            // Where both are there, the monitor's is the fuller one.
            exit: monitored.or(request.exit_event),
            restart_count: request.restart_count,
        }
    }
}
