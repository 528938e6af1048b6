//! The words of the command line. What each means stands beside it and in `docs/cli.md`,
//! which a test holds equal to these texts.

use std::path::PathBuf;

pub use super::access_args::{
    AccessCommand, ApprovePairingArgs, AuditArgs, GrantRoleArgs, ListAccessArgs, RevokeRoleArgs,
};
pub use super::agent_args::{
    AgentName, AgentsArgs, DownArgs, OverrideArgs, ReleaseArgs, RetryArgs, SecretArgs,
    SecretCommand, SecretListArgs, SendArgs, SetArgs, StartArgs, StopArgs, TeamsCommand,
    TeamsPackageArgs, TurnsArgs, TurnsFormat, WorkArgs,
};
pub use super::token_args::{
    CreateTokenArgs, KubeconfigArgs, ListTokensArgs, RevokeTokenArgs, TokenCommand,
};

pub use super::{
    dev_fly::DevFlyArgs,
    fly::FlyCommand,
    read_args::{
        ApiResourcesArgs, AuthCommand, CanIArgs, CompletionArgs, DescribeArgs, DiffArgs, EventType,
        EventsArgs, ExplainArgs, ExportArgs, GetArgs, JobsArgs, JsonOnly, ListArgs, NoNamespaces,
        ObjectFormat, ResourcesFormat, SchemaArgs, WaitArgs, WhoAmIArgs,
    },
    write_args::{
        AnnotateArgs, ApplyArgs, Cascade, CreateArgs, DeleteArgs, DryRun, DryRunArgs, EditArgs,
        FileArgs, LabelArgs, MarkArgs, PatchArgs, PatchType, ReplaceArgs, RolloutArgs,
        RolloutCommand, RolloutStatusArgs, ScaleArgs, SetOfObjects, Subresource, Validate,
    },
};

use std::{str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::resource::Span;

/// Declare coding agents; drive them from chat; let one loop keep the world as declared.
#[derive(Debug, Parser)]
#[command(
    name = "open-dispatch",
    version,
    disable_help_subcommand = true,
    after_help = "First step: open-dispatch serve\n  \
                  brings up the server with a chat in this terminal. Type /od-help there, or\n  \
                  /od-run echo hello"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server; in a terminal, with a chat console
    #[command(after_help = "Examples:
  open-dispatch serve                        the server and a chat in this terminal
  open-dispatch serve --chat none            the server alone, such as under systemd
  open-dispatch serve --data ./d --listen 0  everything in ./d, on any free port

Ctrl-C or SIGTERM stops the server. Agents that run keep running; the next server takes
them over, with everything that they printed meanwhile.

All settings, with their environment variables: docs/configuration.md")]
    Serve(ServeArgs),

    /// Chat in this terminal: with the running server, or with one brought up for it
    #[command(after_help = "Examples:
  open-dispatch chat                         the channel `main` of the running server
  open-dispatch chat --channel ops           another channel
  open-dispatch chat < lines                 says each line, and waits for what comes of it

In a terminal, @NAME in front sends a line to that agent, and /use NAME all that
follow. What an agent asks for is answered at the line: y, n, n and why, a for
always, a number or words to a question. Ctrl-C ends the turn that runs, and once
more leaves.

A line that is typed holds 16 KiB, and 64 lines wait. What a terminal pastes beyond that
without marking it (bracketed paste) is left out, and told: pipe such a text in.")]
    Chat(ChatArgs),

    /// Run one task as a Job
    #[command(after_help = "Examples:
  open-dispatch run 'cargo test' -f
  open-dispatch run --agent claude -f 'Fix the failing test and say why it failed.'
  open-dispatch run --agent claude --repo owner/project --branch main 'Bump it.'
  open-dispatch run --name nightly --timeout 1h --workdir ~/project './nightly.sh'

Without -f it prints the job's name and returns. With -f it prints what the agent prints
(standard output to standard output, standard error to standard error) and exits with
  N     the agent's exit code
  128+N the agent was ended by signal N
  124   its time was over
  125   the server refused it, it could not be started, or its end is not known
  130   it was cancelled, or Ctrl-C left it running in the background")]
    Run(RunArgs),

    /// List jobs, newest last
    Jobs(JobsArgs),

    /// Show objects as a table, JSON or YAML
    Get(GetArgs),

    /// Show one object with its conditions and events, for people
    Describe(DescribeArgs),

    /// Create or change objects as files say
    Apply(ApplyArgs),

    /// Show what apply would change
    Diff(DiffArgs),

    /// Create the objects that stand in files
    Create(CreateArgs),

    /// Put the objects that stand in files in the place of those that are there
    Replace(ReplaceArgs),

    /// Change an object in an editor
    Edit(EditArgs),

    /// Change fields of objects by a patch
    Patch(PatchArgs),

    /// Set and take away labels
    Label(LabelArgs),

    /// Set and take away annotations
    Annotate(AnnotateArgs),

    /// Say how many objects a fleet shall have
    Scale(ScaleArgs),

    /// Make sprites anew, and see how far that is
    #[command(subcommand)]
    Rollout(RolloutCommand),

    /// Delete objects, and wait until they are gone
    Delete(DeleteArgs),

    /// Wait for a condition, for an end, or for a value
    Wait(WaitArgs),

    /// List what happened to objects
    Events(EventsArgs),

    /// Tell what a kind's fields mean
    Explain(ExplainArgs),

    /// List the kinds
    ApiResources(ApiResourcesArgs),

    /// Write the JSON Schemas of the kinds, for editors
    Schema(SchemaArgs),

    /// Write what is declared as YAML, ready to be committed
    Export(ExportArgs),

    /// Ask what this token may do
    #[command(subcommand)]
    Auth(AuthCommand),

    /// Print what a job printed, or the conversation with an agent
    #[command(after_help = "Examples:
  open-dispatch logs job/nightly
  open-dispatch logs nightly -f              and go on until it ends
  open-dispatch logs nightly --tail 20 --since 10m --timestamps
  open-dispatch logs nightly --previous      the attempt before the last one
  open-dispatch logs agent/api-bot           who said what, the answers, and how they ended
  open-dispatch logs api-bot --turn 12
  open-dispatch logs api-bot --raw           byte for byte, as of a job

What a job printed comes byte for byte: standard output and standard error together, in the
order in which they came; run -f keeps them apart. A terminal is shown control characters
instead of obeying them, unless --raw is given. Lines of Open Dispatch itself, such as the
progress of a clone, go to standard error.")]
    Logs(LogsArgs),

    /// Answer what an agent asks for
    #[command(after_help = "Examples:
  open-dispatch approve api-bot              yes, to the oldest request that waits
  open-dispatch approve api-bot always       and to all that are like it
  open-dispatch approve nightly no --message \"not on a Friday\"
  open-dispatch approve api-bot --answer 2 --answer \"the blue one\"
  open-dispatch approve api-bot --list
  open-dispatch approve api-bot --revoke ID

An agent that may not do everything (--permissions ask or acceptEdits) waits for this. The first
answer counts; after an hour without one it is no.")]
    Approve(ApproveArgs),

    /// Cancel jobs, or a turn of an agent
    #[command(after_help = "Examples:
  open-dispatch cancel nightly
  open-dispatch cancel api-bot               the turn that runs, else the first that waits
  open-dispatch cancel api-bot 12")]
    Cancel(CancelArgs),

    /// Start an agent, or let one that was stopped go on
    #[command(after_help = "Examples:
  open-dispatch start api-bot ~/projects/api
  open-dispatch start --agent claude --permissions acceptEdits reviewer .
  open-dispatch start api-bot                one that was stopped goes on where it was

Then: open-dispatch send api-bot -f 'What does this project do?'")]
    Start(StartArgs),

    /// Say something to an agent
    #[command(after_help = "Examples:
  open-dispatch send -f api-bot Run the tests and fix what fails.
  open-dispatch send api-bot - < message.md
  open-dispatch send --file shot.png api-bot 'Why does it look like this?'

Flags stand in front of the message. Messages are answered in order, one at a time.
Without -f it prints the turn's number and returns. With -f it prints the answer and exits with
  0     the agent answered
  1     it failed
  125   its sprite went away, and open-dispatch retry says it again; or its budget is spent
  130   it was cancelled, or Ctrl-C left it going on in the background")]
    Send(SendArgs),

    /// Stop agents; they go on where they were when they are started again
    #[command(after_help = "Examples:
  open-dispatch stop api-bot
  open-dispatch stop --all

What such an agent was still to do is cancelled.")]
    Stop(StopArgs),

    /// List agents
    #[command(after_help = "Examples:
  open-dispatch list
  open-dispatch list -o wide
  open-dispatch list -w                      and go on with what changes")]
    List(AgentsArgs),

    /// List what was said to an agent, and what became of it
    #[command(after_help = "Examples:
  open-dispatch turns api-bot
  open-dispatch turns api-bot -n 100 -o json")]
    Turns(TurnsArgs),

    /// Say again what an agent did not answer, or run a job again
    #[command(after_help = "Examples:
  open-dispatch retry api-bot                the last turn that failed or was cut off
  open-dispatch retry --force agent/api-bot  in a new session
  open-dispatch retry nightly                the job's task, as a new job")]
    Retry(RetryArgs),

    /// Change fields of an agent or a job
    #[command(after_help = "Examples:
  open-dispatch set api-bot model=claude-sonnet-4-5 idleTimeout=1h
  open-dispatch set api-bot permissions.mode=acceptEdits budget.usd=5
  open-dispatch set api-bot instructions=    takes it away

Fields are named as in the spec, with dots; model, mode and branch are known alone. What is
no JSON is text.")]
    Set(SetArgs),

    /// Turn agents, fleets, schedules or sources off; what they have stays
    #[command(after_help = "Examples:
  open-dispatch suspend source/specs
  open-dispatch suspend agent/api-bot schedule/nightly")]
    Suspend(PowerArgs),

    /// Turn on again what was suspended
    #[command(after_help = "Examples:
  open-dispatch resume source/specs")]
    Resume(PowerArgs),

    /// Let a source be read now, and confirm what it would delete
    #[command(after_help = "Examples:
  open-dispatch reconcile source/specs
  open-dispatch reconcile source/specs --confirm-deletions

A revision that would delete more objects than the source's spec.prune.maxDeletions waits. With
--confirm-deletions that very revision may delete them; a later one waits again.")]
    Reconcile(ReconcileArgs),
    /// Change, for a time, what a source declares
    #[command(after_help = "Examples:
  open-dispatch override agent/api-bot budget.usd=20 --for 2h --reason \"the migration\"
  open-dispatch override api-bot -p '{agent: {claude: {model: opus}}}'
  open-dispatch override api-bot idleTimeout=1h --write   in its file as well

It ends by itself, or when its Override is deleted; then the object says what its file says again.
What no source declares is changed with set.")]
    Override(OverrideArgs),

    /// Take an object out of its source's hands; it stays as it is
    #[command(after_help = "Examples:
  open-dispatch release agent/api-bot

Its source does not take it again, and names it as a conflict until its files drop it,
or until it is handed over again:
  open-dispatch annotate agent/api-bot opendispatch.dev/adopt=SOURCE")]
    Release(ReleaseArgs),

    /// Set, list and remove secrets, which specs name and never hold
    #[command(subcommand)]
    Secret(SecretCommand),

    /// Say who may do what from chat, and see who asked for what
    #[command(subcommand)]
    Access(AccessCommand),
    /// Make, list and revoke tokens of the API, each with a role
    #[command(subcommand)]
    Token(TokenCommand),

    /// Write what kubectl and client libraries need to talk to this server
    #[command(after_help = "Examples:
  open-dispatch kubeconfig > ~/.kube/dispatch
  kubectl --kubeconfig ~/.kube/dispatch get agents
  open-dispatch kubeconfig --name ci --role viewer --expires 90d --file ci.kubeconfig
  open-dispatch kubeconfig --merge           into the file that kubectl reads (KUBECONFIG)
  open-dispatch kubeconfig --address https://dispatch.example.org:8080 --name laptop

Each call makes a token of its own, which open-dispatch token revoke NAME ends. A name that is
taken is refused; --replace ends the token that has it.")]
    Kubeconfig(KubeconfigArgs),

    /// What belongs to Microsoft Teams
    #[command(subcommand)]
    Teams(TeamsCommand),

    /// Stop every agent and job, and check that nothing is left
    #[command(after_help = "Examples:
  open-dispatch down
  open-dispatch down --timeout 10m

Schedules are suspended, agents are stopped, jobs are cancelled, and then it waits until the last
process is gone. open-dispatch start and resume turn them on again. The server itself runs on;
Ctrl-C or SIGTERM ends it. It exits with 1 where something is left, or could not be turned off.")]
    Down(DownArgs),

    /// Check this machine and the chat platforms, and say the mend for each fault
    #[command(after_help = "Examples:
  open-dispatch doctor
  open-dispatch doctor --data ./d
  open-dispatch doctor -o json

Looks at the data directory, the port, the server, git, the sandbox and the agent CLIs, and asks
each chat platform that CHAT_PROVIDER names one thing that changes nothing, to see whether its
tokens work. No server needs to run. It exits with 1 if anything FAILS.")]
    Doctor(DoctorArgs),

    /// Show what the server is told, and from where
    #[command(subcommand)]
    Config(ConfigCommand),

    /// Show what a Slack app is made from
    #[command(subcommand)]
    Slack(SlackCommand),

    /// Let the system start the server, and keep it up
    #[command(subcommand)]
    Service(ServiceCommand),

    /// See what Fly holds that belongs to nothing here, and agree that it may go
    #[command(subcommand)]
    Fly(FlyCommand),

    /// Play Fly's Machines API on this computer, for who has no account
    #[command(after_help = "Examples:
  open-dispatch dev-fly                             with what Fly does on a good day
  open-dispatch dev-fly --boot-time 20s --list-lag 5s --ambiguous 5
  open-dispatch dev-fly --fault full-region=iad --fault machine-limit=10

It prints the settings with which `open-dispatch serve` uses it, and then a line for each
thing that happens to a machine. Each machine is a process tree of this computer, and is
isolated by nothing: what runs in it can do what you can. Volumes stay in DIR until the
next time; machines end with it, even where it is killed.

Faults: full-region=REGION, full-host=HOST, silent-region=REGION, machine-limit=N,
no-rate-limits, retry-after=SECONDS, suspend-stops, resume-cold, wait-lag=SECONDS,
token-refused, foreign-app=APP, errors=SHAPE (error, message, html, empty),
lost-action=ACTION (beside Create: Start, Stop, Destroy, ...)")]
    DevFly(DevFlyArgs),

    /// Write the store, the keys and the secrets into one file
    #[command(after_help = "Examples:
  open-dispatch backup today.tar.gz          while the server runs, or not
  open-dispatch backup - | ssh host 'cat > today.tar.gz'

The file opens every door that the server has: it holds the keys of its tokens and the secrets'
values, and is written with mode 0600. Clones, worktrees and what agents keep in their homes are not
in it: push what you want to keep.")]
    Backup(BackupArgs),

    /// Make a data directory from such a file
    #[command(after_help = "Examples:
  open-dispatch restore today.tar.gz --data ./d
  open-dispatch restore today.tar.gz --force    over the data directory that is there

The server must not run. With --force, what stands there of the same name moves to a directory
beside it, and is not deleted.")]
    Restore(RestoreArgs),

    /// Print a completion script for a shell
    Completion(CompletionArgs),

    /// Print the version of this program
    #[command(after_help = "Examples:
  open-dispatch version")]
    Version,
}

/// Where the server is.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerArgs {
    /// The data directory of the server to talk to [env: OPEN_DISPATCH_DATA]
    #[arg(long, value_name = "DIR", help_heading = "Server", conflicts_with = "server")]
    pub data: Option<PathBuf>,
    /// The server's address; its token is taken from OPEN_DISPATCH_TOKEN
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub server: Option<String>,
}

/// How long something may take: a duration such as 90s or 1h30m, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within(pub Duration);

impl FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let span: Span = text.parse().map_err(|error| format!("{error}"))?;
                Duration::from_millis(span.as_millis())
            }
        };
        Ok(Self(span))
    }
}

impl std::fmt::Display for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        Span::from_millis(millis).fmt(f)
    }
}

/// `serve`.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// The data directory [env: OPEN_DISPATCH_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The configuration file [env: OPEN_DISPATCH_CONFIG] [default: config.yaml in the data directory]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen: an address, a port, or both
    /// [env: OPEN_DISPATCH_LISTEN, WEBHOOK_PORT] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Further names and addresses by which clients reach the server over TLS, with commas between
    /// [env: OPEN_DISPATCH_TLS_NAMES]
    #[arg(long, value_name = "NAMES")]
    pub tls_names: Option<String>,
    /// The chat platforms, with commas between: console, slack, discord, teams; or none
    /// [env: CHAT_PROVIDER] [default: console]
    #[arg(long, value_name = "PLATFORM")]
    pub chat: Option<String>,
    /// How many sprites may live here at once; the others wait in order
    /// [env: OPEN_DISPATCH_MAX_SPRITES] [default: twice the CPUs, at least 4]
    #[arg(long, value_name = "N")]
    pub max_sprites: Option<String>,
    /// A directory whose YAML files the server keeps up; may stand several times; or none
    /// [env: OPEN_DISPATCH_SPECS] [default: specs, if it is there]
    #[arg(long, value_name = "DIR")]
    pub specs: Vec<String>,
    /// How the log is written: text or json [env: OPEN_DISPATCH_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// `suspend` and `resume`.
#[derive(Debug, Clone, Args)]
pub struct PowerArgs {
    /// What, as KIND/NAME
    #[arg(value_name = "KIND/NAME", required = true)]
    pub what: Vec<String>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    /// The source, as source/NAME
    #[arg(value_name = "SOURCE")]
    pub what: String,
    /// Let the revision that was read last delete what it holds back
    #[arg(long)]
    pub confirm_deletions: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `config`.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch config view
  open-dispatch config view -o json
  open-dispatch config schema > config.schema.json")]
pub enum ConfigCommand {
    /// Every setting with its value and its source; secrets are masked
    View(ConfigViewArgs),
    /// The JSON Schema of the configuration file
    Schema,
}

/// `slack`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch slack manifest          the app's manifest, to paste into Slack's page
  open-dispatch slack manifest --link   the address that opens that page with it filled in

docs/slack.md goes on from there.")]
pub enum SlackCommand {
    /// The manifest of the app: its commands, its scopes and the events that it hears
    Manifest(SlackManifestArgs),
}

/// `slack manifest`.
#[derive(Debug, Clone, Args)]
pub struct SlackManifestArgs {
    /// What the app and its bot are called
    #[arg(long, value_name = "NAME", default_value = "open-dispatch", value_parser = app_name)]
    pub name: String,
    /// Print the address of Slack's page, with the manifest filled in
    #[arg(long)]
    pub link: bool,
}

/// A name that Slack takes for an app: 1 to 35 characters.
fn app_name(text: &str) -> Result<String, String> {
    const MOST: usize = 35;
    let name = text.trim();
    match name.chars().count() {
        0 => Err("is empty; write a name".to_owned()),
        count if count > MOST => {
            Err(format!("has {count} characters; Slack takes {MOST} for an app's name"))
        }
        _ if name.chars().any(char::is_control) => Err("has a control character".to_owned()),
        _ => Ok(name.to_owned()),
    }
}

/// `config view`.
#[derive(Debug, Clone, Args)]
pub struct ConfigViewArgs {
    /// The data directory, as for serve
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The configuration file, as for serve
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The form: text or json
    #[arg(short, long, value_enum, default_value_t = ConfigForm::Text)]
    pub output: ConfigForm,
}

/// `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// The data directory, as for serve
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The configuration file, as for serve
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The form: text or json
    #[arg(short, long, value_enum, default_value_t = ConfigForm::Text)]
    pub output: ConfigForm,
}

/// The form of `config view`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConfigForm {
    /// A table.
    Text,
    /// JSON.
    Json,
}

/// `service`.
#[derive(Debug, Clone, Subcommand)]
#[command(after_help = "Examples:
  open-dispatch service install --print      look at it first
  open-dispatch service install
  open-dispatch service install --system     for the machine, as root
  open-dispatch service uninstall

Under systemd the unit has KillMode=process: a stop or a restart of the service touches the server
alone, and agents go on. To stop them too: open-dispatch down.")]
pub enum ServiceCommand {
    /// Write the service (systemd's unit, or launchd's property list) and start it
    Install(ServiceArgs),
    /// Stop the service and remove it; agents go on, and the data stays
    Uninstall(ServiceArgs),
}

/// `service install` and `service uninstall`.
#[derive(Debug, Clone, Args)]
pub struct ServiceArgs {
    /// For the machine instead of for you; needs root
    #[arg(long)]
    pub system: bool,
    /// Print what would be written and run, and do nothing
    #[arg(long)]
    pub print: bool,
    /// The data directory of the server [env: OPEN_DISPATCH_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// Where to write; - is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The data directory [env: OPEN_DISPATCH_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// What to read; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The data directory to make [env: OPEN_DISPATCH_DATA]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Put it over what is there
    #[arg(long)]
    pub force: bool,
}

/// `chat`.
#[derive(Debug, Clone, Args)]
pub struct ChatArgs {
    /// The channel; people in one channel see the same
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub channel: String,
    /// Show text as it is, without colours and the look of Markdown
    #[arg(long)]
    pub plain: bool,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The task: a prompt, or for the `command` agent a command line
    #[arg(value_name = "TASK")]
    pub task: String,
    /// Print what the agent prints, and exit with its exit code
    #[arg(short, long)]
    pub follow: bool,
    /// The job's name; one is made up where none is given
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where it works; this directory where neither it nor a repo is given
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Who works, and on what.
    #[command(flatten)]
    pub work: WorkArgs,
    /// Its wall time, such as 90s or 1h30m; 10m where none is given
    #[arg(long, value_name = "DURATION")]
    pub timeout: Option<crate::resource::Span>,
    /// Print the created object in this format
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "follow")]
    pub output: Option<ObjectFormat>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// How permission requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
pub enum PermissionName {
    /// A person is asked
    Ask,
    /// Edits pass, the rest is asked
    AcceptEdits,
    /// The agent only plans
    Plan,
    /// Everything passes; a job's default
    Bypass,
}

impl PermissionName {
    /// The mode, as it stands in specs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ask => "ask",
            Self::AcceptEdits => "acceptEdits",
            Self::Plan => "plan",
            Self::Bypass => "bypass",
        }
    }
}

/// `approve`.
#[derive(Debug, Clone, Args)]
pub struct ApproveArgs {
    /// An agent, a job, or KIND/NAME
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The answer; always says yes to all further requests of the same rule
    #[arg(value_name = "ANSWER", default_value = "yes")]
    pub answer: AnswerName,
    /// Say no
    #[arg(long, hide = true, conflicts_with_all = ["answers", "list", "revoke"])]
    pub deny: bool,
    /// Which request; the oldest that waits where none is given
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// The answer to a question, in the order of the questions; a number chooses what is offered
    #[arg(long = "answer", value_name = "TEXT")]
    pub answers: Vec<String>,
    /// What to tell the agent
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub message: String,
    /// Only show what waits for an answer, and what is allowed for good
    #[arg(long, conflicts_with_all = ["request", "answers", "message", "revoke"])]
    pub list: bool,
    /// Take back what was allowed for good
    #[arg(long, value_name = "ID", conflicts_with_all = ["request", "answers", "message"])]
    pub revoke: Option<String>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AnswerName {
    /// Yes, this once
    Yes,
    /// No
    No,
    /// Yes, and to all further requests of the same rule
    Always,
}

/// `logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// An agent, a job, or KIND/NAME
    #[arg(value_name = "NAME")]
    pub what: String,
    /// Go on until the agent has ended and everything is printed
    #[arg(short, long)]
    pub follow: bool,
    /// Of an agent, only this turn: its number or id
    #[arg(long, value_name = "TURN")]
    pub turn: Option<String>,
    /// Of an agent, what it printed and said, byte for byte, instead of the conversation
    #[arg(long, conflicts_with = "turn")]
    pub raw: bool,
    /// Only the last lines, so many; -1 is all
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    pub tail: Option<i64>,
    /// Only what was printed in this time, such as 5m
    #[arg(long, value_name = "DURATION", conflicts_with = "since_time")]
    pub since: Option<Within>,
    /// Only what was printed at this time or later, such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since_time: Option<jiff::Timestamp>,
    /// What the run before the last one printed, such as a job's last attempt but one
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// Each line with the time at which it was printed
    #[arg(long)]
    pub timestamps: bool,
    /// What kubectl's users type.
    #[command(flatten)]
    pub nowhere: NoNamespaces,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `cancel`.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// Jobs; or an agent, and which of its turns: its number or id, or the one that runs
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Where the server is.
    #[command(flatten)]
    pub server: ServerArgs,
}
