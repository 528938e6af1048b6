//! What a test may look at: the truth, without lag, and what was done to it.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde_json::Value;

use super::call::Action;

/// A machine as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineTruth {
    /// 14 hexadecimal digits.
    pub id: String,
    /// Its name, unique among the live ones of its app.
    pub name: String,
    /// Its app.
    pub app: String,
    /// Its true state, whatever it shows.
    pub state: String,
    /// Where it is.
    pub region: String,
    /// On which host.
    pub host: String,
    /// The ULID of its version.
    pub instance: String,
    /// Its config, as it was asked for.
    pub config: Value,
    /// Its metadata (tags).
    pub metadata: BTreeMap<String, String>,
    /// How often it booted.
    pub boots: u32,
    /// Whether its first process runs.
    pub is_running: bool,
    /// When it was created.
    pub created: Timestamp,
}

impl MachineTruth {
    /// A variable of its config.
    #[must_use]
    pub fn env(&self, name: &str) -> Option<&str> {
        self.config["env"][name].as_str()
    }
}

/// A volume as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeTruth {
    /// `vol_…`.
    pub id: String,
    /// Its name, which is not unique.
    pub name: String,
    /// Its app.
    pub app: String,
    /// Where it is.
    pub region: String,
    /// On which host.
    pub host: String,
    /// Who has claimed it.
    pub machine: Option<String>,
    /// Its state.
    pub state: String,
}

/// One boot of one machine: whether anything ran twice at an instant can be read off these.
#[derive(Debug, Clone, PartialEq)]
pub struct BootRecord {
    /// The machine.
    pub machine: String,
    /// Its name.
    pub name: String,
    /// Which boot of it, from 1.
    pub boot: u32,
    /// When its first process was started.
    pub started: Timestamp,
    /// When it was known to have ended.
    pub ended: Option<Timestamp>,
    /// How.
    pub exit: Option<super::config::Exit>,
}

/// One call, as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// When it came.
    pub at: Timestamp,
    /// What it wanted.
    pub action: Action,
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
    /// The status of the answer; nothing where the connection was dropped.
    pub status: Option<u16>,
}

/// What a request said that the published schema does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which action.
    pub action: Action,
    /// Where in the body or the query: `config.guest.cpuKind`.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.action, self.place, self.what)
    }
}

/// A line for who watches: what happened to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// The machine's or volume's id; empty where it is about the fake.
    pub id: String,
    /// What.
    pub text: String,
}

/// What lay in the directory from a fake before this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Processes of its machines that still ran, and were killed.
    pub processes: usize,
    /// Its machines, whose roots were removed.
    pub machines: Vec<String>,
    /// Its volumes, which are there again.
    pub volumes: Vec<String>,
}
