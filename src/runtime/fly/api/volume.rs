//! Volumes and the app, as Fly tells them.

use jiff::Timestamp;
use serde::Deserialize;

use super::{lenient, machine::HostStatus};

/// A volume. It lies on one host, and a machine that mounts it runs there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Volume {
    /// `vol_` and letters.
    pub id: String,
    /// Its name. **Not unique**: two volumes of one app may have the same.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub name: String,
    /// `created`, or one of the words for being on the way out; see [`Volume::is_leaving`].
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub state: String,
    /// Where it is.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub region: String,
    /// Its size, in GB.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub size_gb: u32,
    /// The machine that has it. It may be told for minutes after that machine was destroyed.
    #[serde(default, deserialize_with = "lenient::text")]
    pub attached_machine_id: Option<String>,
    /// Whether its host answers.
    #[serde(default)]
    pub host_status: HostStatus,
    /// When it was made.
    #[serde(default, deserialize_with = "lenient::time")]
    pub created_at: Option<Timestamp>,
}

impl Volume {
    /// Whether it is on the way out, or gone: it cannot be mounted any more.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        matches!(
            self.state.as_str(),
            "scheduling_destroy"
                | "fork_cleanup"
                | "waiting_for_detach"
                | "pending_destroy"
                | "destroying"
                | "destroyed"
        )
    }
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct App {
    /// Its name, unique among all of Fly's.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub name: String,
    /// Such as `deployed` or `pending`.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub status: String,
    /// Whose it is.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub organization: Organization,
}

/// Whose an app is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Organization {
    /// Its name in addresses.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub slug: String,
}
