//! What the store remembers of things that a cloud holds for nobody: since when that is so, and
//! whether any of it may go.
//!
//! It stands in the ledger of places, beside what platforms keep there, under [`PLACE`]. One writer,
//! the sweeper, keeps it; whoever shows it to people reads it. That an operator has looked and agrees
//! stands under [`CONFIRMED`], which the API writes.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The platform and the channel under which it is kept.
pub const PLACE: (&str, &str) = ("fly", "leaks");
/// Where it stands that an operator agrees that what the store does not know may go.
pub const CONFIRMED: (&str, &str) = ("fly", "leaks/confirmed");
/// The uid under which events about all this are kept.
pub const EVENTS: &str = "fly/leaks";

/// Something at the cloud that is billed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Thing {
    /// A machine, by its id.
    Machine(String),
    /// A volume, by its id.
    Volume(String),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(id) => write!(f, "machine {id}"),
            Self::Volume(id) => write!(f, "volume {id}"),
        }
    }
}

impl From<Thing> for String {
    fn from(thing: Thing) -> Self {
        thing.to_string()
    }
}

impl FromStr for Thing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            Some(("machine", id)) => Ok(Self::Machine(id.to_owned())),
            Some(("volume", id)) => Ok(Self::Volume(id.to_owned())),
            _ => Err(format!("`{text}` is neither a machine nor a volume")),
        }
    }
}

impl TryFrom<String> for Thing {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Since when things are unwanted.
pub type Tombstones = BTreeMap<Thing, Timestamp>;

/// What is remembered between two looks, and over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Leaks {
    /// Since when things are unwanted.
    pub tombstones: Tombstones,
    /// That the store was found to be restored, until an operator confirms.
    pub restored: Option<Restored>,
    /// Up to this revision tags prove nothing: an operator has seen them.
    pub accepted: u64,
    /// When the first of the processes began that have not had a whole look yet.
    pub first: Option<Beginning>,
    /// What was said last, for people.
    pub told: Option<String>,
}

/// How it was seen that the store was restored from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// When that was seen, or done.
    pub since: Timestamp,
    /// What bears a revision that the store does not have; none where it was told by the restore
    /// itself.
    pub ahead: Option<Ahead>,
}

/// Something that was made at a revision which the store did not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ahead {
    /// What.
    pub thing: Thing,
    /// Its revision.
    pub bears: u64,
    /// The store's.
    pub store: u64,
}

/// A process's beginning: what the store held before anything was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Beginning {
    /// The store's revision then.
    pub revision: u64,
    /// When.
    pub at: Timestamp,
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ahead {
            Some(Ahead { thing, bears, store }) => write!(
                f,
                "{thing} was made at revision {bears} and the store was at {store}: it was \
                 restored from a backup"
            )?,
            None => write!(f, "the store was restored from a backup at {}", self.since)?,
        }
        f.write_str(
            "; what it does not know is left alone until an operator looks (open-dispatch fly \
             leaks) and agrees that it may go (open-dispatch fly confirm)",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_as_it_was() {
        let leaks = Leaks {
            tombstones: [
                (Thing::Machine("148e21ea7d4ed8".into()), Timestamp::UNIX_EPOCH),
                (Thing::Volume("vol_1".into()), Timestamp::UNIX_EPOCH),
            ]
            .into(),
            restored: Some(Restored {
                since: Timestamp::UNIX_EPOCH,
                ahead: Some(Ahead { thing: Thing::Volume("v".into()), bears: 11, store: 10 }),
            }),
            accepted: 7,
            first: Some(Beginning { revision: 3, at: Timestamp::UNIX_EPOCH }),
            told: Some("1 machine".into()),
        };
        let text = serde_json::to_value(&leaks).unwrap();
        assert_eq!(serde_json::from_value::<Leaks>(text.clone()).unwrap(), leaks);
        assert_eq!(text["tombstones"]["machine 148e21ea7d4ed8"], "1970-01-01T00:00:00Z");
        // What an older version wrote, or nobody.
        assert_eq!(serde_json::from_str::<Leaks>("{}").unwrap(), Leaks::default());
    }
}
