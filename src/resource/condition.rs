//! Conditions: observations about an object, one per type.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known about one aspect of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Which aspect: `Ready`, `Complete`, ... One condition per type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// The generation that this was observed for.
    #[serde(default)]
    pub observed_generation: u64,
    /// When `status` last flipped; not touched by a new reason or message.
    #[schemars(with = "String")]
    pub last_transition_time: Timestamp,
    /// Why, in one CamelCase word that scripts may rely on.
    pub reason: String,
    /// Why, in one line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Whether a condition holds. Absent means unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

/// The conditions of an object: a list that is a map by type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
pub struct Conditions(pub Vec<Condition>);

impl Conditions {
    /// The condition of a type.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.kind == kind)
    }

    /// Whether the condition of a type is there and true.
    #[must_use]
    pub fn is_true(&self, kind: &str) -> bool {
        self.get(kind).is_some_and(|condition| condition.status == ConditionStatus::True)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes a condition. `lastTransitionTime` moves only when `status` flips; writing what
    /// stands there already changes nothing.
    pub fn set(
        &mut self,
        kind: &str,
        status: ConditionStatus,
        reason: &str,
        message: impl Into<String>,
        generation: u64,
        now: Timestamp,
    ) {
        let message = message.into();
        match self.0.iter_mut().find(|condition| condition.kind == kind) {
            Some(condition) => {
                if condition.status != status {
                    condition.status = status;
                    condition.last_transition_time = now;
                }
                condition.observed_generation = generation;
                reason.clone_into(&mut condition.reason);
                condition.message = message;
            }
            None => self.0.push(Condition {
                kind: kind.to_owned(),
                status,
                observed_generation: generation,
                last_transition_time: now,
                reason: reason.to_owned(),
                message,
            }),
        }
    }

    /// Takes what is said to have happened after `now` as having happened now: the clock was set
    /// back since.
    pub fn not_after(&mut self, now: Timestamp) {
        for condition in &mut self.0 {
            condition.last_transition_time = condition.last_transition_time.min(now);
        }
    }

    /// Takes all of them for true of a generation, too: what differs in it changes none of them.
    pub fn hold_for(&mut self, generation: u64) {
        for condition in &mut self.0 {
            condition.observed_generation = generation;
        }
    }

    /// Takes a condition away.
    pub fn remove(&mut self, kind: &str) {
        self.0.retain(|condition| condition.kind != kind);
    }
}
