//! What the world is made of.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The states of a machine. [doc]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Created,
    Starting,
    Started,
    Stopping,
    Stopped,
    Restarting,
    Suspending,
    Suspended,
    Replacing,
    Failed,
    LaunchFailed,
    Destroying,
    Destroyed,
}

impl State {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Restarting => "restarting",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Replacing => "replacing",
            Self::Failed => "failed",
            Self::LaunchFailed => "launch_failed",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether the name is free and the machine counts no more.
    pub(super) const fn is_gone(self) -> bool {
        matches!(self, Self::Destroyed)
    }

    /// Whether it takes room on its host: a stopped machine reserves nothing. [doc]
    pub(super) const fn takes_room(self) -> bool {
        !matches!(
            self,
            Self::Stopped | Self::Suspended | Self::Failed | Self::Destroying | Self::Destroyed
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a timer of a machine does when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The image is there.
    Pulled,
    /// The machine is up.
    Booted,
    /// The machine is down.
    Settled,
    /// The stop has taken too long.
    Kill,
    /// The new version stands.
    Replaced {
        /// Whether it starts.
        starts: bool,
    },
    /// The memory is saved.
    Suspended,
    /// Everything is gone.
    Destroyed,
    /// Nobody remembers it.
    Forgotten,
}

/// What follows when the first process of a machine has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// What `auto_destroy` and the restart policy say.
    Policy,
    /// It is stopped.
    Stop,
    /// It is destroyed.
    Destroy,
    /// A new version takes its place.
    Replace { starts: bool },
    /// It boots again.
    Boot,
}

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) status: String,
    pub(super) source: &'static str,
    pub(super) at: Timestamp,
    pub(super) request: Value,
}

#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) nonce: String,
    pub(super) expires: Timestamp,
    pub(super) description: String,
}

/// What lists showed of a machine, and from when; nothing: it was not there.
pub(super) type Shown = VecDeque<(Timestamp, Option<Arc<Value>>)>;

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) app: String,
    pub(super) region: String,
    pub(super) host: String,
    pub(super) state: State,
    pub(super) instance: String,
    /// Ids and configs of all versions, oldest first.
    pub(super) versions: Vec<(String, Value)>,
    /// As it was asked for.
    pub(super) config: Value,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) address: String,
    /// Newest first.
    pub(super) events: VecDeque<Event>,
    pub(super) lease: Option<Lease>,
    pub(super) is_cordoned: bool,
    pub(super) boots: u32,
    pub(super) is_running: bool,
    /// Its memory is saved on disk, its processes stand still.
    pub(super) is_frozen: bool,
    pub(super) then: Then,
    pub(super) timer: Option<(u64, Due)>,
    pub(super) restart_count: u32,
    pub(super) restarts: VecDeque<Timestamp>,
    /// Until then it refuses to start, though it shows `stopped`.
    pub(super) active_until: Timestamp,
    pub(super) is_reachable: bool,
    pub(super) is_wedged: bool,
    pub(super) dies_of_memory: bool,
}

impl Machine {
    pub(super) fn flag(&self, name: &str) -> bool {
        self.config[name].as_bool().unwrap_or_default()
    }

    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let members = self.config["metadata"].as_object().into_iter().flatten();
        members.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// The volume that is mounted, and where.
    pub(super) fn mount(&self) -> Option<(String, String)> {
        mount_of(&self.config)
    }
}

/// The volume that a config mounts, and where. One only. [spec]
pub(super) fn mount_of(config: &Value) -> Option<(String, String)> {
    let mount = config["mounts"].as_array()?.first()?;
    let path = mount["path"].as_str().unwrap_or("/data");
    Some((mount["volume"].as_str()?.to_owned(), path.to_owned()))
}

/// A volume. What is in it lies in a directory, and both outlive the fake.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::dev_fly) struct Volume {
    pub(in crate::dev_fly) id: String,
    pub(super) name: String,
    pub(super) app: String,
    pub(super) region: String,
    pub(super) host: String,
    pub(super) size_gb: u64,
    pub(super) is_encrypted: bool,
    pub(super) fstype: String,
    pub(super) retention: u64,
    pub(super) created: Timestamp,
    #[serde(skip)]
    pub(super) machine: Option<String>,
    /// When the claim of its machine, which is gone, ends. [obs]
    #[serde(skip)]
    pub(super) free_at: Option<Timestamp>,
    /// When it is gone itself.
    #[serde(skip)]
    pub(super) gone_at: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct App {
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) network: String,
    /// From then on it answers.
    pub(super) visible: Timestamp,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) secrets_version: u64,
}
