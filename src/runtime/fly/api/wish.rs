//! What we ask for. Strict: nothing is sent that the published schema does not name, and what was
//! not asked for is left out rather than sent as `null`.

use std::{collections::BTreeMap, fmt, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, Serializer};

use super::machine::Guest;

/// A machine to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CreateMachine {
    /// Its name: the handle of creating it only once. A second create with the same name is
    /// refused with [`super::ApiError::NameTaken`] while the first one lives.
    pub name: String,
    /// A region, or several with commas between, tried in this order by Fly itself.
    pub region: String,
    /// Leaves it `created`, without starting it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_launch: bool,
    /// What it is.
    pub config: WishedConfig,
}

/// A machine's config, as we ask for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct WishedConfig {
    /// The image.
    pub image: String,
    /// The size.
    pub guest: Guest,
    /// The environment, secrets among it.
    pub env: Env,
    /// What it runs in place of what the image says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Destroys it when its program ends, however it ends.
    pub auto_destroy: bool,
    /// What Fly does when its program ends.
    pub restart: Restart,
    /// The tags.
    pub metadata: BTreeMap<String, String>,
    /// Volumes; Fly takes one at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// How it is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_config: Option<StopMachine>,
}

/// What a machine runs in place of what its image says. An empty list leaves that part to the image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Init {
    /// In place of entry point and command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// In place of the entry point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// In place of the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Swap, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_size_mb: Option<u32>,
}

/// What Fly does when a machine's program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Restart {
    /// The policy.
    pub policy: RestartPolicy,
    /// How often, with [`RestartPolicy::OnFailure`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

/// When Fly starts a machine's program again. Fly's own default is `on-failure`; ours is not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Always.
    Always,
    /// When it failed.
    OnFailure,
}

/// A volume in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The volume's id.
    pub volume: String,
    /// Where it is mounted.
    pub path: String,
}

/// How a machine is stopped: both for a stop now and as what its config says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct StopMachine {
    /// The signal that its program gets; `SIGINT` where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// How long it has until it is killed; 5 s where nothing is said, 300 s at most. Travels as
    /// text (`30s`): Fly's page shows nanoseconds, its schema and its own client have text.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub timeout: Option<Duration>,
}

/// A signal that a machine can be stopped with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// The terminal is gone.
    SigHup,
    /// Ctrl-C.
    SigInt,
    /// Ctrl-\.
    SigQuit,
    /// Ends at once.
    SigKill,
    /// The program's own.
    SigUsr1,
    /// The program's own.
    SigUsr2,
    /// Please end.
    SigTerm,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CreateVolume {
    /// Its name: letters, digits and underscores, at most 30. Not unique: look before you make one.
    pub name: String,
    /// Where.
    pub region: String,
    /// Its size, in GB; 3 where nothing is said.
    pub size_gb: u32,
    /// The size of the machine that will mount it, so that it lies where that one fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute: Option<Guest>,
    /// The image of the machine that will mount it, so that it lies where that one can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_image: Option<String>,
    /// For how many days snapshots are kept: 1 to 60, 5 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<u32>,
    /// Whether snapshots are taken daily.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_backup_enabled: Option<bool>,
    /// The volume that this one is a copy of, on a host with room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_volume_id: Option<String>,
    /// The snapshot that it begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
}

/// A machine's environment: names that may be shown, and values that may not.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, SecretString>);

impl Env {
    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<SecretString>) {
        self.0.insert(name.into(), value.into());
    }

    /// A variable's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SecretString> {
        self.0.get(name)
    }

    /// The values, in the order of their names.
    pub fn values(&self) -> impl Iterator<Item = &SecretString> {
        self.0.values()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<N: Into<String>, V: Into<SecretString>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl PartialEq for Env {
    fn eq(&self, other: &Self) -> bool {
        let pairs = |env: &Self| -> Vec<(String, String)> {
            let pair = |(name, value): (&String, &SecretString)| {
                (name.clone(), value.expose_secret().to_owned())
            };
            env.0.iter().map(pair).collect()
        };
        pairs(self) == pairs(other)
    }
}

impl Serialize for Env {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value.expose_secret())))
    }
}

/// One tag to be set.
#[derive(Debug, Serialize)]
pub(super) struct SetMetadata<'a> {
    /// Its value; an empty one removes it.
    pub(super) value: &'a str,
}

/// A length of time as Go's `time.ParseDuration` reads it.
fn as_text<S: Serializer>(length: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match length {
        None => serializer.serialize_none(),
        Some(length) if length.subsec_nanos() == 0 => {
            serializer.collect_str(&format_args!("{}s", length.as_secs()))
        }
        Some(length) => serializer.collect_str(&format_args!("{}ms", length.as_millis())),
    }
}

#[cfg(test)]
mod tests;
