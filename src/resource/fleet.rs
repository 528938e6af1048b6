//! `Fleet`: a template and what it is made for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Conditions, Kind, Object, PastUsual, Usual};

/// The label that each member of a Fleet bears, with the Fleet's name.
pub const FLEET_LABEL: &str = "opendispatch.dev/fleet";
/// The annotation of each member that says which template it is made from: a hash of it, with its
/// parameters filled in, and which labels and annotations came from there.
pub const FLEET_TEMPLATE: &str = "opendispatch.dev/fleet-template";

/// The annotation by which a person lets the sprites of all members be made anew, as a change of the
/// template would: each value once.
pub const FLEET_RESTART: &str = "opendispatch.dev/restart-requested";

/// A template and what it is made for: Agents or Jobs, created, updated and pruned.
pub type Fleet = Object<FleetSpec, FleetStatus>;

/// What a person declares of a Fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetSpec {
    /// What the template is made for.
    pub generate: Generator,
    /// What each member is made from. `{{name}}` in any text stands for a parameter.
    pub template: FleetTemplate,
    /// How members are replaced by others.
    #[serde(default, skip_serializing_if = "FleetStrategy::is_default")]
    pub strategy: FleetStrategy,
    /// True: members are neither made, changed nor pruned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// What a Fleet's template is made for: exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Generator {
    /// Each entry is a set of parameters.
    List(Vec<BTreeMap<String, Value>>),
    /// Each combination of one value of every parameter.
    Matrix(BTreeMap<String, Vec<Value>>),
    /// As many members as this, with the parameter `index` from 1 on.
    Replicas(u32),
    /// Each directory that a Git source's revision has under a pattern, with the parameters `path` and
    /// `basename`.
    GitDirectories(GitDirectories),
}

/// What of a Fleet's `generate` says how many members there are, and what it makes one of; nothing
/// where that is `replicas`, or nothing known.
#[must_use]
pub fn counted_by(generate: &Value) -> Option<(&'static str, &'static str)> {
    [
        ("list", "spec.generate.list", "each entry"),
        ("matrix", "spec.generate.matrix", "each combination of its values"),
        ("gitDirectories", "spec.generate.gitDirectories.pattern", "each directory under it"),
    ]
    .into_iter()
    .find(|(name, ..)| generate.get(name).is_some())
    .map(|(_, field, of)| (field, of))
}

/// Directories of a repository that a Source reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitDirectories {
    /// The Source, of the sort `git`.
    pub source: String,
    /// A pattern of paths from the repository's root on, such as `services/*`; `*` stands for any text
    /// without a slash.
    pub pattern: String,
}

/// What each member of a Fleet is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetTemplate {
    /// `Agent` or `Job`.
    pub kind: Kind,
    /// The member's name, labels and annotations.
    #[serde(default)]
    pub metadata: TemplateMetadata,
    /// The member's spec; it is checked once its parameters are filled in.
    pub spec: Map<String, Value>,
}

/// Name, labels and annotations of what is made from a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TemplateMetadata {
    /// The name, with parameters; the Fleet's name and the parameters' values by default. A Job of a
    /// Fleet bears a hash of what it is made from behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How members of a Fleet are replaced by others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetStrategy {
    /// How many members may be out of service at once while a change rolls out; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
}

impl FleetStrategy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is observed of a Fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FleetStatus {
    /// Observations: `Ready`, `Progressing`, `Stalled`, `Suspended`.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// The generation that the conditions speak of.
    pub observed_generation: u64,
    /// A word for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// How many members there are.
    pub replicas: u32,
    /// How many of them are as the template says now.
    pub updated: u32,
    /// How many of them are ready; of Jobs, how many have succeeded.
    pub ready: u32,
    /// How many of them fail; of Jobs, how many have failed.
    pub failed: u32,
    /// The last request to make all members anew that was taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_restart: Option<String>,
    /// What members are filled in with where the template is silent, for as long as what decides whom it
    /// makes is the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual: Option<Usual>,
    /// What members were filled in with while the template said something else, by the note's `of`: so
    /// that a template that says again what it said once makes whom it made. For 31 days, and the last
    /// 1,000 of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub past_usual: BTreeMap<String, PastUsual>,
    /// Each Job that was made and is there or generated, by name, and how it ended: so that one which is
    /// gone, because its time to live is over or because somebody deleted it, is not run again.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub runs: BTreeMap<String, RunOutcome>,
    /// The Jobs that are neither there nor generated any more, so that one which is generated again is
    /// not run again: for 31 days, and the last 1,000 of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub past_runs: BTreeMap<String, PastRun>,
}

/// What became of a Job that a Fleet does not generate any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastRun {
    /// What became of it.
    pub outcome: RunOutcome,
    /// Until when that is known.
    #[schemars(with = "String")]
    pub until: Timestamp,
}

/// What became of a Job that a Fleet made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunOutcome {
    /// It was made; how it ended is not known, or not yet.
    Made,
    /// It ended well.
    Succeeded,
    /// It ended otherwise.
    Failed,
}
