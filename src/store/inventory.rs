//! What Sources own: one row for each object that a Source has declared.
//!
//! Ownership is by object, and the row is all that it consists of: who owns it, what the file says
//! (the *base*), and the Overrides that live on top. Whoever writes the object writes the row in the
//! same transaction, on top of the version that was read: so the object's spec is at any revision the
//! base with its live Overrides merged in. The row stays while the object may still exist, also when
//! the files do not name it any more: what is to be deleted is not forgotten before it is gone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Expect, Op, Part};
use crate::resource::{AnyObject, Kind, RELEASED_FROM, overlay};

/// An object that a Source owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// The object's kind.
    pub kind: Kind,
    /// The object's name.
    pub name: String,
    /// The object's uid; a stranger of the same name is not the Source's.
    pub uid: String,
    /// The Source, by uid.
    pub source_uid: String,
    /// The Source, by name, for people.
    pub source: String,
    /// What the file says.
    pub base: Base,
    /// The file, relative to the Source's directory (for several repositories, behind the
    /// repository's name).
    pub file: String,
    /// The line on which its document begins, counted from 1.
    pub line: u32,
    /// The live Overrides, in the order in which they are merged.
    pub overrides: Vec<LiveOverride>,
    /// Set once the files do not name the object any more: it is to be deleted, and the row goes when
    /// it is gone.
    pub leaving: bool,
    /// The row's version: 0 for a new one, raised by one with each write that changes something.
    pub version: u64,
}

impl Owned {
    /// The Overrides that live at a time, in order.
    pub fn live(&self, now: Timestamp) -> impl Iterator<Item = &LiveOverride> {
        self.overrides.iter().filter(move |over| over.expires > now)
    }

    /// What the object's spec is to be at a time: what the file says, with the live Overrides merged
    /// in, and the power fields of what stands there now (those of the file where nothing does).
    #[must_use]
    pub fn spec(&self, now: Timestamp, standing: Option<&Value>) -> Value {
        let patches = self.live(now).map(|over| &over.patch);
        let spec = overlay::overlay(self.kind, &self.base.spec, patches);
        match standing {
            Some(standing) => overlay::with_power_of(self.kind, spec, standing),
            None => spec,
        }
    }

    /// Lets the object go: it stays as it is (or as it is given here), belongs to nobody, and bears a
    /// note from which Source it was taken, so that this one does not take it again.
    #[must_use]
    pub fn let_go(&self, mut object: AnyObject) -> [Op; 2] {
        let annotations = &mut object.metadata_mut().annotations;
        annotations.insert(RELEASED_FROM.to_owned(), self.source.clone());
        [
            Op::Disown { kind: self.kind, name: self.name.clone(), version: self.version },
            Op::Write { object, part: Part::Desired, expect: Expect::SameVersion },
        ]
    }
}

/// What a file says of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The spec, with what the server fills in.
    pub spec: Value,
    /// A digest of what the document itself says of the spec, without what the server fills in; empty
    /// in rows of a server that did not note it. While it stays the same, so does what was filled in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
}

/// An Override that is merged into the spec of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveOverride {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The merge patch on the spec.
    pub patch: Value,
    /// When it ends.
    pub expires: Timestamp,
}
