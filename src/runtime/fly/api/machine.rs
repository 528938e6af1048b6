//! A machine as Fly tells it.
//!
//! Only what we use is kept. A machine's environment is not: it holds tokens, and nothing here
//! needs them back.

use std::{collections::BTreeMap, convert::Infallible, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::{event::MachineEvent, lenient};

/// A machine, as an answer to a create, a get or a list has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Machine {
    /// Fourteen hexadecimal digits; stays through every start, update and migration.
    pub id: String,
    /// Unique among the app's machines that are not destroyed.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub name: String,
    /// What it does.
    #[serde(default)]
    pub state: State,
    /// Where it is.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub region: String,
    /// A ULID; a new one with each version of the config.
    #[serde(default, deserialize_with = "lenient::text")]
    pub instance_id: Option<String>,
    /// Its address on the private network; another one after a migration.
    #[serde(default, deserialize_with = "lenient::text")]
    pub private_ip: Option<String>,
    /// What it was made with. `None` while its host cannot be asked.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub config: Option<MachineConfig>,
    /// What is known of its config while its host cannot be asked. Never to be written back.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub incomplete_config: Option<MachineConfig>,
    /// Whether the host answers. Where it does not, `state` is the last that was heard.
    #[serde(default)]
    pub host_status: HostStatus,
    /// What the image's name was found to mean.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub image_ref: Option<ImageRef>,
    /// What happened to it, newest first; lists may leave some out.
    #[serde(default, deserialize_with = "lenient::list")]
    pub events: Vec<MachineEvent>,
    /// When it was made.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
    /// When it changed last.
    #[serde(default, deserialize_with = "lenient::time")]
    pub updated_at: Option<Timestamp>,
}

impl Machine {
    /// Its tags (Fly calls them metadata), also where only an incomplete config is known.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        let configs = [&self.config, &self.incomplete_config];
        configs
            .into_iter()
            .flatten()
            .find_map(|config| config.metadata.get(key))
            .map(String::as_str)
    }

    /// Its size, where that is known.
    #[must_use]
    pub fn guest(&self) -> Option<&Guest> {
        let configs = [&self.config, &self.incomplete_config];
        configs.into_iter().flatten().find_map(|config| config.guest.as_ref())
    }

    /// Whether what is told of it can be relied on: its host answers.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.host_status == HostStatus::Ok
    }
}

/// What a machine does. The words are those of Fly's page on machine states; an unknown one is
/// kept as it came.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Made, and its image is being fetched (seconds to minutes); or made without being started.
    Created,
    /// On the way to `Created`.
    Creating,
    /// On the way to `Started`.
    Starting,
    /// The VM has booted; the program in it may not be ready.
    Started,
    /// On the way to `Stopped`.
    Stopping,
    /// Stopped; only its root file system is billed.
    Stopped,
    /// On the way to `Suspended`.
    Suspending,
    /// Its memory was written to disk.
    Suspended,
    /// Stopping, to be started again.
    Restarting,
    /// Its config is being replaced.
    Updating,
    /// The same, told of the old version.
    Replacing,
    /// A version that was replaced.
    Replaced,
    /// It went to another host; the same id lives there.
    Migrated,
    /// It could not be started.
    Failed,
    /// It could not be started the first time, and is on the way to `Destroyed`.
    LaunchFailed,
    /// On the way to `Destroyed`.
    Destroying,
    /// Gone. Fly answers so for a while; then with 404.
    Destroyed,
    /// No state was told.
    #[default]
    Untold,
    /// A state that this program does not know.
    Other(String),
}

impl State {
    const WORDS: [(&'static str, Self); 17] = [
        ("created", Self::Created),
        ("creating", Self::Creating),
        ("starting", Self::Starting),
        ("started", Self::Started),
        ("stopping", Self::Stopping),
        ("stopped", Self::Stopped),
        ("suspending", Self::Suspending),
        ("suspended", Self::Suspended),
        ("restarting", Self::Restarting),
        ("updating", Self::Updating),
        ("replacing", Self::Replacing),
        ("replaced", Self::Replaced),
        ("migrated", Self::Migrated),
        ("failed", Self::Failed),
        ("launch_failed", Self::LaunchFailed),
        ("destroying", Self::Destroying),
        ("destroyed", Self::Destroyed),
    ];

    /// The state's word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Untold => "",
            Self::Other(word) => word,
            known => Self::WORDS.iter().find(|(_, it)| it == known).map_or("", |(word, _)| word),
        }
    }

    /// Whether it is on the way to being destroyed, or destroyed: its name is (about to be) free,
    /// and it never runs again.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(self, Self::LaunchFailed | Self::Destroying | Self::Destroyed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        let known = Self::WORDS.into_iter().find(|(it, _)| *it == word).map(|(_, state)| state);
        Ok(known.unwrap_or_else(|| match word {
            "" => Self::Untold,
            word => Self::Other(word.to_owned()),
        }))
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word: String = lenient::or_default(deserializer)?;
        Ok(word.parse().unwrap_or_else(|never: Infallible| match never {}))
    }
}

/// Whether the computer that a machine or volume is on answers Fly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostStatus {
    /// It does (also where nothing is said).
    #[default]
    Ok,
    /// Fly does not know, or says it with a word that this program does not know.
    Unknown,
    /// It does not.
    Unreachable,
}

impl<'de> Deserialize<'de> for HostStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word: Option<String> = lenient::text(deserializer)?;
        Ok(match word.as_deref() {
            None | Some("ok") => Self::Ok,
            Some("unreachable") => Self::Unreachable,
            Some(_) => Self::Unknown,
        })
    }
}

/// What of a machine's config we read back. Fly fills in defaults and puts values into other
/// forms, so it is never compared with what was asked for: the hash among the tags is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct MachineConfig {
    /// The image, as it was named.
    #[serde(default, deserialize_with = "lenient::text")]
    pub image: Option<String>,
    /// The size.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub guest: Option<Guest>,
    /// The tags.
    #[serde(default, deserialize_with = "lenient::texts")]
    pub metadata: BTreeMap<String, String>,
    /// The volumes that are mounted; at most one.
    #[serde(default, deserialize_with = "lenient::list")]
    pub mounts: Vec<SeenMount>,
    /// Whether it is destroyed when its program ends.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub auto_destroy: bool,
}

/// A volume in a machine, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct SeenMount {
    /// The volume's id; another one after a migration.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub volume: String,
    /// Where it is mounted.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub path: String,
}

/// What an image's name was found to mean.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ImageRef {
    /// Where it was fetched from; Docker Hub stands there as Fly's mirror of it.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub registry: String,
    /// The repository.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub repository: String,
    /// The tag.
    #[serde(default, deserialize_with = "lenient::text")]
    pub tag: Option<String>,
    /// The digest.
    #[serde(default, deserialize_with = "lenient::text")]
    pub digest: Option<String>,
}

/// A machine's size.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Guest {
    /// `shared` or `performance`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub cpu_kind: String,
    /// How many CPUs.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub cpus: u32,
    /// Memory in MiB: shared 256 to 2048 a CPU in steps of 256, performance 2048 to 8192 a CPU in
    /// steps of 2048 (Fly's page on machine sizing).
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub memory_mb: u32,
    /// `a10`, `l40s`, `a100-40gb` or `a100-80gb`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::text")]
    pub gpu_kind: Option<String>,
    /// How many GPUs.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::or_default"
    )]
    pub gpus: Option<u32>,
}

#[cfg(test)]
mod tests;
