//! `Sprite`: one sandbox that runs one reporter. Made by the loop, never by people.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AgentCli, Artifact, Conditions, Cost, EnvEntry, ExitStatus, Object, Permissions,
    ProcessIdentity, Repo, RuntimeSpec, Span,
};

/// One sandbox: a local process tree or a Fly Machine that runs `sprite-reporter`.
pub type Sprite = Object<SpriteSpec, SpriteStatus>;

/// What a Sprite is to be. It never changes, save for `running` and `stop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SpriteSpec {
    /// Which CLI works.
    pub agent: AgentCli,
    /// Where it lives.
    pub runtime: RuntimeSpec,
    /// A Job's task; without one the sprite takes turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The repository that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<Repo>,
    /// Appended to the CLI's system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What it may do unasked; the mode is always filled in.
    pub permissions: Permissions,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvEntry>,
    /// Wall time of a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The longest silence of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// The CLI's session to resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Which attempt or incarnation of its owner this is; the first is 1.
    pub attempt: u32,
    /// False lets it sleep.
    pub running: bool,
    /// Which run is to live: raised by one together with `running: true` to wake it.
    #[serde(default = "first_run")]
    pub run: u32,
    /// Set once by the owner: end the agent, with this reason in the exit record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<super::ExitReason>,
}

/// What is observed of a Sprite.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SpriteStatus {
    /// Observations, written by the Sprite controller: `Admitted`, `Provisioned`, `Isolated`,
    /// `Ready`, `Asleep`, `Gone`, `Drained`, `Stalled`.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// The generation that the conditions speak of.
    pub observed_generation: u64,
    /// A word for people: `Waiting`, `Pending`, `Starting`, `Running`, `Stopping`, `Asleep`,
    /// `Exited`, `Unknown`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Which process it is, on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<ProcessIdentity>,
    /// Which machine it is, on Fly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fly: Option<FlyMachine>,
    /// Which boot of its machine has the run, where machines claim theirs. Written by the server's
    /// claim endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// The run that speaks; 0 before the first hello. Written by ingest.
    pub run: u32,
    /// When the first hello was held. Written by ingest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub hello_time: Option<Timestamp>,
    /// Whether the agent said that it takes turns. Written by ingest.
    pub ready: bool,
    /// The CLI's session. Written by ingest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The last run that ended in order to sleep; 0 for none. Written by ingest.
    #[serde(skip_serializing_if = "is_never")]
    pub slept: u32,
    /// How it ended, save to sleep; the first that is held wins. Written by ingest, or by the controller for
    /// a sprite that can report no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitStatus>,
    /// How its process or machine ended, as its runtime saw it, while its own word may still come: Fly
    /// forgets soon what it knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<ExitStatus>,
    /// How many bytes of its output are missing, where gaps were told. Written by ingest.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing_bytes: u64,
    /// What it made. Written by ingest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// What it has used. Written by ingest.
    pub cost: Cost,
}

fn first_run() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_never(run: &u32) -> bool {
    *run == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Which boot of a machine has a run. No other one may live it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claim {
    /// The run.
    pub run: u32,
    /// Drawn by the reporter at each of its starts.
    pub boot: String,
}

/// A Fly Machine, as the Machines API names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlyMachine {
    /// The app.
    pub app: String,
    /// The machine's id.
    pub machine_id: String,
    /// The region.
    pub region: String,
    /// The machine's state.
    pub state: String,
}
