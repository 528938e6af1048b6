//! What every object carries, whatever its kind.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Kind;

/// The group and version of every kind.
pub const API_VERSION: &str = "opendispatch.dev/v1alpha1";
/// The group alone.
pub const GROUP: &str = "opendispatch.dev";
/// Held by a Sprite while its process or machine may exist or its output is not drained.
pub const FINALIZER_RUNTIME: &str = "opendispatch.dev/runtime";
/// Held by an Agent or Job while a Sprite of its may exist.
pub const FINALIZER_SPRITES: &str = "opendispatch.dev/sprites";

/// Held by a Fleet, a Schedule, a Source or an Override while something that it made or changed may
/// stand.
pub const FINALIZER_OWNED: &str = "opendispatch.dev/owned";
/// An annotation in which the command line keeps what a file said of an object last.
pub const LAST_APPLIED: &str = "opendispatch.dev/last-applied-configuration";
/// The same of kubectl, which keeps an account of its own.
pub const KUBECTL_LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The annotation of an object that was applied as one of a set: the set's name, and the object's own.
pub const APPLYSET: &str = "opendispatch.dev/applyset";
/// An annotation of Sources: a value that was not there before asks for a look now.
pub const RECONCILE_REQUESTED: &str = "opendispatch.dev/reconcile-requested-at";
/// An annotation of Schedules: a value that was not there before asks for a run now.
pub const RUN_REQUESTED: &str = "opendispatch.dev/run-requested-at";

/// An annotation of what was let go: the name of the Source whose it was. That Source does not take
/// the object again, and names it as a conflict, until its files drop it or the annotation goes.
pub const RELEASED_FROM: &str = "opendispatch.dev/released-from";

/// An annotation of objects that nobody declares: the Source of this name may take it, although its
/// file says something else of it.
pub const ADOPT: &str = "opendispatch.dev/adopt";
/// An annotation of Sources: the revision whose deletions somebody has confirmed, however many they
/// are; `all` for a Source that is deleted itself.
pub const CONFIRM_DELETIONS: &str = "opendispatch.dev/confirm-deletions";
/// An annotation of Overrides, which the door sets by which one came: who asked for it. A commit that
/// is made for it is by them.
pub const ASKED_BY: &str = "opendispatch.dev/asked-by";
/// An annotation of Fleets and Schedules: with the value `true`, what they have made stays when they
/// are deleted, and belongs to nobody from then on.
pub const ORPHAN: &str = "opendispatch.dev/orphan";

/// Metadata, after the Kubernetes conventions, without namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metadata {
    /// A DNS label (RFC 1123), at most 63 characters, unique within the kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A prefix from which the server makes a name, where `name` is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    /// Set by the server; never reused.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The store's revision at the object's last change, as an opaque string. Sent back, it
    /// makes a write conditional.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Rises by one when the spec changes and when deletion is first asked for.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// When the object was created. Set by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub creation_timestamp: Option<Timestamp>,
    /// When deletion was asked for; the object goes once it has no finalizers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deletion_timestamp: Option<Timestamp>,
    /// For people and selectors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For tools; not for selectors.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who this object belongs to; it goes when its controller goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// Who still has to clean up before the object may go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Who wrote which fields, as the server keeps it for `apply`. Nobody need write it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub managed_fields: Vec<ManagedFields>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Metadata {
    /// The owner that controls this object, if it has one.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// Whether deletion was asked for.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// A link from an object to its owner; matched by uid, never by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OwnerReference {
    /// The owner's `apiVersion`.
    pub api_version: String,
    /// The owner's kind.
    pub kind: Kind,
    /// The owner's name, for people.
    pub name: String,
    /// The owner's uid.
    pub uid: String,
    /// Whether this owner controls the object; true for one owner at most.
    #[serde(default)]
    pub controller: bool,
}

/// What one writer has said of an object's fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ManagedFields {
    /// The writer: a program, or one of our own rooms.
    pub manager: String,
    /// How it writes.
    pub operation: Operation,
    /// The `apiVersion` of what it wrote.
    pub api_version: String,
    /// When its set of fields last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub time: Option<Timestamp>,
    /// The form of `fieldsV1`; always `FieldsV1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fields_type: String,
    /// The fields, as a tree: `f:` stands before a member, `k:` before the keys of an item.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schemars(with = "BTreeMap<String, Value>")]
    pub fields_v1: Value,
    /// The part of the object that was written, where it is not the whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// How a writer writes.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Operation {
    /// It says what its fields shall be, and what it leaves out is no longer its wish.
    Apply,
    /// It changes what it changes, and leaves the rest alone.
    #[default]
    Update,
}
