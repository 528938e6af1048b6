//! The parts of specs that more than one kind uses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use sprite_reporter::wire::{ExitReason, PermissionMode, ProcessIdentity};

use super::Span;

/// Which agent CLI works: exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AgentCli {
    /// Claude Code.
    Claude(ClaudeCli),
    /// OpenCode.
    Opencode(OpencodeCli),
    /// Codex.
    Codex(CodexCli),
    /// Any agent that speaks the Agent Client Protocol on its standard streams.
    Acp(AcpCli),
    /// A shell that runs the task as a command line: an honest agent that needs no account.
    Command(CommandCli),
}

impl AgentCli {
    /// The member's name, as it stands in YAML.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claude(_) => "claude",
            Self::Opencode(_) => "opencode",
            Self::Codex(_) => "codex",
            Self::Acp(_) => "acp",
            Self::Command(_) => "command",
        }
    }
}

/// Claude Code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaudeCli {
    /// The model; the CLI's own default where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The binary; `claude` on the `PATH` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// OpenCode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpencodeCli {
    /// The model as `provider/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The binary; `opencode` on the `PATH` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Codex.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodexCli {
    /// The model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The agent's ACP binary; `codex-acp` on the `PATH` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// An agent that speaks the Agent Client Protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcpCli {
    /// The command line, as a list.
    pub command: Vec<String>,
    /// The model, where the agent lets it be chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// A shell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandCli {
    /// The shell, called with `-c TASK`; `sh` where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
}

/// Where sprites live: exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RuntimeSpec {
    /// As processes on the server's machine.
    Local(LocalRuntime),
    /// As Fly Machines.
    Fly(FlyRuntime),
}

impl Default for RuntimeSpec {
    fn default() -> Self {
        Self::Local(LocalRuntime::default())
    }
}

impl RuntimeSpec {
    /// The member's name, as it stands in YAML.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Fly(_) => "fly",
        }
    }
}

/// Processes on the server's machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalRuntime {
    /// Where to work; `~` is the home of the user who runs the server, and the default.
    /// With a `repo`, the clone's place; a directory of the sprite's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// How far the agent is kept apart from the rest of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

/// How far a local agent is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    /// Not at all: it works in the directory itself.
    None,
    /// A git worktree of its own.
    Worktree,
    /// A worktree and a home of its own, and a sandbox around both.
    Sandbox,
}

/// Fly Machines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlyRuntime {
    /// The image, or an alias of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Whether a volume keeps home and clone across sleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// The machine's size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<FlyGuest>,
}

/// A Fly Machine's size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlyGuest {
    /// `shared` or `performance`.
    pub cpu_kind: String,
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory in mebibytes.
    pub memory_mb: u32,
}

/// A Git repository: `github` or `url`, exactly one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Repo {
    /// `owner/project` on GitHub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub github: Option<String>,
    /// Anything that `git clone` takes, without credentials in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The branch; the remote's default where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// What the agent may do unasked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Permissions {
    /// How permission requests are answered; `ask` by default for an Agent, `bypass` for a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PermissionMode>,
    /// What may be done unasked, in the CLI's own rule language, such as `Bash(cargo test:*)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

impl Permissions {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A variable of the agent's environment: `value` or `fromSecret`, exactly one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvEntry {
    /// The variable's name.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The name of the secret that holds its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_secret: Option<String>,
}

/// A place in a chat: exactly one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Channel {
    /// A terminal.
    Console(Place),
    /// Slack.
    Slack(Place),
    /// Discord.
    Discord(Place),
    /// Microsoft Teams.
    Teams(Place),
}

impl Channel {
    /// The platform's name, as it stands in YAML.
    #[must_use]
    pub fn platform(&self) -> &'static str {
        match self {
            Self::Console(_) => "console",
            Self::Slack(_) => "slack",
            Self::Discord(_) => "discord",
            Self::Teams(_) => "teams",
        }
    }

    /// Where on the platform.
    #[must_use]
    pub fn place(&self) -> &Place {
        match self {
            Self::Console(place)
            | Self::Slack(place)
            | Self::Discord(place)
            | Self::Teams(place) => place,
        }
    }
}

/// A channel of a platform and, where it has them, a thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Place {
    /// The platform's id of the channel.
    pub channel: String,
    /// The platform's id of the thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
}

/// What an Agent may spend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Budget {
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd: Option<serde_json::Number>,
    /// Turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
}

/// Where a Job reports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// The conversations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Channel>,
    /// How much.
    #[serde(default)]
    pub detail: Detail,
}

/// How much a Job reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Detail {
    /// Everything, as it comes.
    #[default]
    Stream,
    /// The end.
    Final,
}

/// How an attempt ended, as the objects show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExitStatus {
    /// The exit code, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why, in one word.
    pub reason: ExitReason,
    /// Why, in one line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What a run has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cost {
    /// Millionths of a US dollar.
    pub micro_usd: u64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

/// The wall time of a Job's attempt where its spec names none.
pub const DEFAULT_JOB_TIMEOUT: Span = Span::from_secs(600);
/// After so long without a turn an Agent's sprite sleeps where its spec names no time.
pub const DEFAULT_IDLE_TIMEOUT: Span = Span::from_secs(15 * 60);
/// The wall time of an Agent's turn where its spec names none.
pub const DEFAULT_TURN_TIMEOUT: Span = Span::from_secs(30 * 60);
/// How long a finished Job is kept where its spec says nothing.
pub const DEFAULT_JOB_TTL: Span = Span::from_secs(24 * 3600);
