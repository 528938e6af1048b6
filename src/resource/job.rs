//! `Job`: one task, run once.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AgentCli, Conditions, Cost, EnvEntry, Object, Permissions, Repo, Report, RuntimeSpec, Span,
};

/// One task, run once, with timeout, retries and time to live.
pub type Job = Object<JobSpec, JobStatus>;

/// What a person declares of a Job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSpec {
    /// The task, byte for byte: a prompt, or for the `command` agent a command line.
    pub task: String,
    /// Which CLI works.
    pub agent: AgentCli,
    /// Where it runs; on the server's machine by default.
    #[serde(default)]
    pub runtime: RuntimeSpec,
    /// The repository that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<Repo>,
    /// Appended to the CLI's system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What it may do unasked; `mode: bypass` by default.
    #[serde(default, skip_serializing_if = "Permissions::is_empty")]
    pub permissions: Permissions,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvEntry>,
    /// The wall time of one attempt; 10m by default. The clock stops while an approval waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// The longest silence of the agent; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// The wall time of all attempts together; unlimited by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// How often a failed attempt is tried again. An attempt counts once its reporter said hello.
    #[serde(default)]
    pub retries: u32,
    /// True ends the Job; it cannot become false again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// How long the Job is kept after its end; 24h by default, and a minute at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_after_finished: Option<Span>,
    /// Where it reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

impl JobSpec {
    /// A task for a CLI, with everything else as it is by default.
    #[must_use]
    pub fn new(task: impl Into<String>, agent: AgentCli) -> Self {
        Self {
            task: task.into(),
            agent,
            runtime: RuntimeSpec::default(),
            repo: None,
            instructions: None,
            permissions: Permissions::default(),
            env: Vec::new(),
            timeout: None,
            idle_timeout: None,
            deadline: None,
            retries: 0,
            cancel: false,
            ttl_after_finished: None,
            report: None,
        }
    }
}

/// What is observed of a Job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JobStatus {
    /// Observations: `Complete` and `Failed` are the ends.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// The generation that the conditions speak of.
    pub observed_generation: u64,
    /// A word for people, computed from the conditions: `Pending`, `Starting`, `Running`,
    /// `Succeeded`, `Failed`, `TimedOut` or `Cancelled`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The name of the last attempt's Sprite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sprite: Option<String>,
    /// How many Sprites were made for it; the number in the next one's name is one more.
    pub incarnation: u32,
    /// How many attempts count: those whose reporter said hello.
    pub attempts: u32,
    /// When the first attempt began to work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub completion_time: Option<Timestamp>,
    /// The last attempt's exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended as it did, in one line for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What it made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// What it has used.
    pub cost: Cost,
}

/// Something worth keeping that a Job made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// `pr`, `file`, `log`, ...
    #[serde(rename = "type", default)]
    pub kind: String,
}
