//! `Agent`: a conversation partner.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AgentCli, Budget, Channel, Conditions, Cost, EnvEntry, Object, Permissions, Repo, RuntimeSpec,
    Span,
};

/// The annotation by which a person gives an Agent's session up: sessions of its sprites up to
/// this number are not resumed, and one of them whose end cannot be proven is not waited for.
pub const FRESH_SESSION_AFTER: &str = "opendispatch.dev/fresh-session-after";

/// The annotation by which a person lets an Agent's sprite be made anew: those up to this number are
/// replaced once no turn is open, and the session goes on in the next.
pub const RESTARTED_UP_TO: &str = "opendispatch.dev/restarted-up-to";

/// The annotation that says where people were told that an Agent is stopped: the generation at
/// which it was, and the channels.
pub const TOLD_STOPPED: &str = "opendispatch.dev/told-stopped";

/// A conversation partner: which CLI, where it runs, which repo, which channels.
pub type Agent = Object<AgentSpec, AgentStatus>;

/// What a person declares of an Agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentSpec {
    /// Which CLI works.
    pub agent: AgentCli,
    /// Where it runs; on the server's machine by default.
    #[serde(default)]
    pub runtime: RuntimeSpec,
    /// The repository that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<Repo>,
    /// Where it listens and answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Channel>,
    /// Appended to the CLI's system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What it may do unasked; `mode: ask` by default.
    #[serde(default, skip_serializing_if = "Permissions::is_empty")]
    pub permissions: Permissions,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvEntry>,
    /// True stops the sprite and keeps the session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// After so long without a turn the sprite sleeps; the next message wakes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// The wall time of one turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_timeout: Option<Span>,
    /// What it may spend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// What is observed of an Agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentStatus {
    /// Observations.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// The generation that the conditions speak of.
    pub observed_generation: u64,
    /// A word for people, computed from the conditions: `Pending`, `Starting`, `Idle`,
    /// `Busy`, `Asleep`, `Suspended` or `Failing`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The name of the live Sprite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sprite: Option<String>,
    /// How many sprites it has had.
    pub incarnation: u32,
    /// The CLI's session, with which the next sprite resumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// How many turns wait, run and are done.
    pub turns: TurnCounts,
    /// What it has used.
    pub cost: Cost,
    /// When it last took or ended a turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_activity_time: Option<Timestamp>,
}

/// Turns by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TurnCounts {
    /// Waiting.
    pub queued: u64,
    /// Sent or running; one at most.
    pub running: u64,
    /// Ended, however.
    pub done: u64,
}
