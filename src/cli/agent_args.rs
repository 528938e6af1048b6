//! The words of the commands that speak of agents.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::args::{ListArgs, ObjectFormat, PermissionName, ServerArgs};
use crate::resource::Span;

/// The agent CLIs by the names that people use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AgentName {
    /// A shell that runs each message as a command line; needs no account
    Command,
    /// Claude Code
    Claude,
    /// OpenCode
    Opencode,
    /// Codex
    Codex,
    /// Gemini
    Gemini,
}

impl AgentName {
    /// The name, as it stands in specs and in the environment.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Claude => "claude",
            Self::Opencode => "opencode",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
        }
    }
}

/// Where it runs, by the names that specs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RuntimeName {
    /// On the server's machine
    Local,
    /// As a Fly Machine of its own
    Fly,
}

/// Who works, and on what: the same words for a job and for an agent.
#[derive(Debug, Clone, Default, Args)]
pub struct WorkArgs {
    /// Which agent CLI works; where none is named, what the server is configured to take, else
    /// the first that it finds, else a shell
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<AgentName>,
    /// The model, for agents that have one
    #[arg(long, value_name = "MODEL", requires = "agent")]
    pub model: Option<String>,
    /// What it clones and works in: owner/project on GitHub, a URL, or a path that begins with
    /// /, ~/ or ./
    #[arg(long, value_name = "REPO")]
    pub repo: Option<String>,
    /// The repo's branch; the remote's default where none is given
    #[arg(long, value_name = "BRANCH", requires = "repo")]
    pub branch: Option<String>,
    /// How its permission requests are answered
    #[arg(long, value_name = "MODE")]
    pub permissions: Option<PermissionName>,
    /// Where it runs; where neither it, an image nor a directory is named, as the server is
    /// configured
    #[arg(long, value_name = "RUNTIME")]
    pub runtime: Option<RuntimeName>,
    /// The image of its Fly Machine, or an alias of one; means --runtime fly
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Its Fly Machine keeps home and clone while it sleeps, which is the default of an agent;
    /// =false begins afresh each time
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub persistent: Option<bool>,
}

impl WorkArgs {
    /// Whether a machine is meant: nothing but a machine has an image, or can begin afresh.
    #[must_use]
    pub fn is_machine(&self) -> bool {
        match self.runtime {
            Some(runtime) => runtime == RuntimeName::Fly,
            None => self.image.is_some() || self.persistent == Some(false),
        }
    }
}

/// `start`.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// The agent's name, and where it works; one that holds a / or begins with ~ or . is a path.
    /// A name is made up where none is given; the path is this directory where neither it nor a
    /// repo is given
    #[arg(value_name = "NAME] [PATH", num_args = 0..=2)]
    pub what: Vec<String>,
    /// Who works, and on what.
    #[command(flatten)]
    pub work: WorkArgs,
    /// What it shall know besides every message
    #[arg(long, value_name = "TEXT")]
    pub instructions: Option<String>,
    /// The wall time of one turn; 30m where none is given
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<crate::resource::Span>,
    /// How long it stays awake without a message; 15m where none is given
    #[arg(long, value_name = "DURATION")]
    pub idle_timeout: Option<crate::resource::Span>,
    /// Print the object in this format
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<ObjectFormat>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `send`.
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    /// The agent
    #[arg(value_name = "AGENT")]
    pub name: String,
    /// The message; its words are joined by spaces. - or nothing reads standard input
    #[arg(value_name = "MESSAGE", trailing_var_arg = true, allow_hyphen_values = true)]
    pub message: Vec<String>,
    /// Print the answer as it comes, and exit as the turn ends
    #[arg(short, long)]
    pub follow: bool,
    /// A file that comes with the message; may be given more than once
    #[arg(long = "file", visible_alias = "attach", value_name = "PATH")]
    pub attach: Vec<PathBuf>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `stop`.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// The agents
    #[arg(value_name = "AGENT", required_unless_present = "all", conflicts_with = "all")]
    pub names: Vec<String>,
    /// All agents
    #[arg(long)]
    pub all: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `list`.
#[derive(Debug, Clone, Args)]
pub struct AgentsArgs {
    /// How the list is shown.
    #[command(flatten)]
    pub list: ListArgs,
}

/// `turns`.
#[derive(Debug, Clone, Args)]
pub struct TurnsArgs {
    /// The agent
    #[arg(value_name = "AGENT")]
    pub name: String,
    /// How many of the newest to show
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..),
    )]
    pub last: u32,
    /// Print JSON instead of a table
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<TurnsFormat>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// How turns are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TurnsFormat {
    /// As JSON
    Json,
}

/// `retry`.
#[derive(Debug, Clone, Args)]
pub struct RetryArgs {
    /// An agent, a job, or KIND/NAME
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Begin a new session, and do not wait for a sprite that nobody can find
    #[arg(long)]
    pub force: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `set`.
#[derive(Debug, Clone, Args)]
pub struct SetArgs {
    /// An agent, a job, or KIND/NAME
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What to set; nothing behind the = takes a field away
    #[arg(value_name = "FIELD=VALUE", required = true)]
    pub fields: Vec<String>,
    /// Of what a source declares: change it for so long, such as 2h
    #[arg(long = "override", value_name = "TIME")]
    pub over: Option<Span>,
    /// Of what a source declares: change it, and write it to the file
    #[arg(long)]
    pub write: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `override`.
#[derive(Debug, Clone, Args)]
pub struct OverrideArgs {
    /// An agent, a job, or KIND/NAME
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What to change; nothing behind the = takes a field away
    #[arg(value_name = "FIELD=VALUE", required_unless_present = "patch")]
    pub fields: Vec<String>,
    /// The change as a merge patch on the spec, in YAML or JSON
    #[arg(short, long, value_name = "PATCH")]
    pub patch: Option<String>,
    /// How long it holds; 1h where nothing is said
    #[arg(long = "for", value_name = "TIME")]
    pub length: Option<Span>,
    /// Also write it to the file; it then ends as soon as the file says it, a day at most
    #[arg(long)]
    pub write: bool,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `release`.
#[derive(Debug, Clone, Args)]
pub struct ReleaseArgs {
    /// What to let go
    #[arg(value_name = "KIND/NAME")]
    pub name: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `secret`.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch secret set github < token.txt
  open-dispatch secret set github            asks for it, and shows nothing
  open-dispatch secret list
  open-dispatch secret rm github

A spec names it: env: [{name: GH_TOKEN, fromSecret: github}]. A value is never an argument, for
everybody on the machine can read those, and it is never shown.")]
pub enum SecretCommand {
    /// Set a secret, from standard input or by asking
    Set(SecretArgs),
    /// List the names of secrets, and where their values come from
    List(SecretListArgs),
    /// Remove a secret
    Rm(SecretArgs),
}

/// `teams` and what it does.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch teams package --app-id 00000000-0000-0000-0000-000000000000
  open-dispatch teams package --out ~/open-dispatch.zip      with MICROSOFT_APP_ID set

How to set up Teams, step by step: docs/teams.md")]
pub enum TeamsCommand {
    /// Make the app package that is uploaded to Teams
    Package(TeamsPackageArgs),
}

/// `teams package`.
#[derive(Debug, Clone, Args)]
pub struct TeamsPackageArgs {
    /// The Azure Bot's Microsoft App ID
    #[arg(long, value_name = "ID", env = "MICROSOFT_APP_ID", hide_env_values = true)]
    pub app_id: Option<String>,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "open-dispatch-teams.zip")]
    pub out: std::path::PathBuf,
}

/// `secret set` and `secret rm`.
#[derive(Debug, Clone, Args)]
pub struct SecretArgs {
    /// The secret's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `secret list`.
#[derive(Debug, Clone, Args)]
pub struct SecretListArgs {
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `down`.
#[derive(Debug, Clone, Args)]
pub struct DownArgs {
    /// How long to wait for the last of them
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    pub timeout: crate::resource::Span,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}
