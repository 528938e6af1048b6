//! The wire between a sprite and the server: the types that both sides speak.
//!
//! Up go [`EventBatch`]es to `POST /webhooks/events`, answered by [`EventAck`] once they
//! are durable. Down come [`InboxRow`]s as NDJSON from `GET /webhooks/inbox?after=N`.
//! What a sprite is to do stands in a [`RunSpec`], written once and never changed.
//!
//! Unknown members are ignored on both sides, so that an old reporter can speak with a
//! new server; a new *meaning* needs a new [`WIRE_VERSION`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version this build speaks. A server takes this one and the one before it.
pub const WIRE_VERSION: u32 = 2;
/// The oldest version a server of this build still takes.
pub const OLDEST_WIRE_VERSION: u32 = 1;
/// The most bytes that one event may take as JSON; longer text continues in parts
/// ([`Chunk::more`]).
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// The most bytes of raw text a reporter puts into one event, so that the worst escaping
/// of JSON (six bytes for one) still stays below [`MAX_EVENT_BYTES`] together with the rest.
pub const MAX_CHUNK_BYTES: usize = 10 * 1024;
/// The most bytes a batch may take as JSON.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Where the server tells local reporters its address: a file in its data directory with
/// one line, a URL. Read anew at each reconnect.
pub const ENDPOINT_FILE: &str = "endpoint";
/// The environment variable that marks every process of a sprite's tree. Its value is the
/// sprite's uid.
pub const JOB_ID_VARIABLE: &str = "JOB_ID";
/// The environment variable that tells a reporter in a machine of its own to claim its run
/// ([`ClaimRequest`]) instead of doing what the original's variables say. Its value is `1`.
pub const CLAIM_VARIABLE: &str = "OPEN_DISPATCH_CLAIM";
/// The environment variable that names the directory below which a machine's paths lie; `/`
/// where it is not set. Machines that are played by processes of one computer have one each.
pub const ROOT_VARIABLE: &str = "SPRITE_ROOT";

/// What a reporter in a machine of its own asks first: `POST /webhooks/claim`. The first boot that
/// asks for a run has it, for ever: the same boot hears the same answer again, any other one 410.
/// So a machine that boots twice, or exists twice, never runs an agent twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRequest {
    /// The sprite's uid: `JOB_ID`.
    pub job_id: String,
    /// Drawn anew by each reporter process.
    pub boot: String,
    /// [`WIRE_VERSION`] of the reporter.
    pub wire: u32,
    /// The machine that it runs in, as the machine knows it: `FLY_MACHINE_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
}

/// The answer to a [`ClaimRequest`] that has the run: 200, once that is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    /// What to do. Its paths lie below [`ROOT_VARIABLE`]; the agent inherits the machine's own
    /// environment below [`RunSpec::env`].
    pub spec: RunSpec,
    /// The agent's home, below [`ROOT_VARIABLE`], where it is not the image's own: on a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
}

/// A batch of events of one run, in order and without holes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventBatch {
    /// The sprite's uid: `JOB_ID`.
    pub job_id: String,
    /// Which run of the sprite speaks; the first is 1. A sprite that slept and woke runs anew.
    pub run: u32,
    /// The events. Sequence numbers rise by one, save across a [`EventBody::Gap`].
    pub events: Vec<Event>,
    /// The highest inbox row that the reporter has taken over, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox_ack: Option<u64>,
}

/// The answer to a batch that is durable: 200. A batch that does not follow what the server
/// holds is answered with 409 and the same body, whose `expected` says where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventAck {
    /// The highest sequence number that the server holds of this run; 0 for none.
    pub held: u64,
    /// The sequence number that the server waits for: `held + 1`.
    pub expected: u64,
    /// Whether the server held the run's exit event: nothing more is asked of the reporter.
    #[serde(default)]
    pub finished: bool,
}

/// One numbered thing that happened in a sprite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one within a run; the first is 1.
    pub seq: u64,
    /// When it happened, by the sprite's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

impl Event {
    /// The number that the next event must carry: after a gap, the one behind its end.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        match self.body {
            EventBody::Gap { through, .. } => through.max(self.seq) + 1,
            _ => self.seq + 1,
        }
    }
}

/// What can happen in a sprite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EventBody {
    /// The first event of a run.
    Hello {
        /// The wire version that the reporter speaks.
        wire: u32,
        /// The reporter's package version.
        version: String,
        /// Which process speaks.
        process: ProcessIdentity,
        /// How well the agent is contained here.
        containment: Containment,
    },
    /// Bytes that the agent, or the reporter on its behalf, printed.
    Log {
        /// Where they came from.
        stream: Stream,
        /// The bytes.
        #[serde(flatten)]
        chunk: Chunk,
    },
    /// Text that the agent says to its person (Markdown), as a delta.
    Text {
        /// The turn it belongs to.
        turn: String,
        /// The text.
        #[serde(flatten)]
        chunk: Chunk,
    },
    /// Thinking that the agent shows, as a delta.
    Thought {
        /// The turn it belongs to.
        turn: String,
        /// The text.
        #[serde(flatten)]
        chunk: Chunk,
    },
    /// The agent uses a tool.
    Tool {
        /// The turn it belongs to.
        turn: String,
        /// The CLI's id of this use.
        id: String,
        /// The tool's name, as the CLI has it.
        name: String,
        /// One line that says what it does, for people.
        title: String,
    },
    /// A tool has ended.
    ToolEnded {
        /// The turn it belongs to.
        turn: String,
        /// The CLI's id of this use.
        id: String,
        /// Whether it failed or was refused.
        failed: bool,
    },
    /// The agent can take a turn.
    Ready {},
    /// The agent's session, as its CLI names it; sent whenever it changes.
    Session {
        /// The CLI's session id, with which another run can resume.
        id: String,
    },
    /// The reporter has taken a turn over; it prompts the CLI once this event is held.
    TurnAccepted {
        /// The turn.
        turn: String,
        /// `agent` where the CLI began the turn by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<String>,
    },
    /// A turn has ended; the first such event that the server holds wins.
    TurnEnded {
        /// The turn.
        turn: String,
        /// How.
        outcome: TurnOutcome,
        /// One line on a failure, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// What the turn used.
        #[serde(default)]
        usage: Usage,
    },
    /// The agent asks before it acts, and waits.
    Approval {
        /// The turn it belongs to.
        turn: String,
        /// The CLI's id of the request.
        request: String,
        /// The tool's name.
        tool: String,
        /// One line that says what it would do.
        title: String,
        /// The tool's whole input, cut to what one event holds.
        input: Value,
        /// What kind of answer is waited for.
        #[serde(default)]
        kind: ApprovalKind,
        /// What stands for all requests like this one, in the CLI's own rule language, such as
        /// `Bash(cargo test:*)`: what an answer of "always" would allow. None where only
        /// this one request can be allowed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// For [`ApprovalKind::Question`]: what is asked.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        questions: Vec<Question>,
    },
    /// What the turn that runs has used so far, as far as its CLI tells before the end.
    Usage {
        /// The turn.
        turn: String,
        /// Since its beginning.
        usage: Usage,
    },
    /// An approval is not waited for any more.
    ApprovalWithdrawn {
        /// The CLI's id of the request.
        request: String,
    },
    /// The CLI tries its model API again.
    Retry {
        /// Which try comes next.
        attempt: u32,
        /// The most tries; 0 where there is no bound.
        of: u32,
        /// The cause, for people.
        message: String,
        /// Milliseconds until the next try.
        delay_ms: u64,
    },
    /// Something worth keeping that the run made.
    Artifact {
        /// Its name.
        name: String,
        /// Where it is.
        url: String,
        /// `pr`, `file`, `log`, ...
        kind: String,
    },
    /// Text was dropped because the spool was full; it stands for `seq..=through`.
    Gap {
        /// The last sequence number that is missing.
        through: u64,
        /// How many bytes of text are missing.
        bytes: u64,
    },
    /// The agent's process tree is gone. Always the last event of a run.
    Exit(Exit),
}

impl EventBody {
    /// Whether the spool may drop this event when it is full: text only, never a turn, an
    /// approval, an exit, or anything else on which a decision rests.
    #[must_use]
    pub fn may_be_dropped(&self) -> bool {
        matches!(
            self,
            Self::Log { .. } | Self::Text { .. } | Self::Thought { .. } | Self::Gap { .. }
        )
    }
}

/// How an agent ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why, in one word.
    pub reason: ExitReason,
    /// Why, in one line for people; empty for a plain end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl Exit {
    /// The code with which a machine's process ends, so that the platform's events tell the same
    /// as we do: 0 for an end that was meant or asked for by sleep, the agent's own code, 128 and
    /// the signal's number, or 1.
    #[must_use]
    pub fn process_code(&self) -> u8 {
        match (self.reason, self.code, self.signal) {
            (ExitReason::Completed | ExitReason::Asleep | ExitReason::Superseded, ..) => 0,
            (_, Some(code), _) => u8::try_from(code).ok().filter(|code| *code > 0).unwrap_or(1),
            (_, None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(1),
            (_, None, None) => 1,
        }
    }
}

/// Why an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum ExitReason {
    /// It ended with code 0.
    Completed,
    /// It ended with another code, by a signal of its own, or its turn failed.
    Failed,
    /// We ended it because somebody asked.
    Cancelled,
    /// Its time was over.
    TimedOut,
    /// It was silent for too long.
    IdleTimedOut,
    /// Its repo could not be cloned, or its work directory is missing.
    WorkspaceFailed,
    /// Its binary is missing or could not be started.
    StartFailed,
    /// The reporter died; what the agent did last is not known.
    ReporterLost,
    /// The server gave the sprite to another run.
    Superseded,
    /// The reporter saw no server for an hour and had nothing to do.
    Abandoned,
    /// It was told to sleep; another run will wake it.
    Asleep,
    /// Its machine ran out of memory.
    OutOfMemory,
}

/// What kind of answer an approval waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ApprovalKind {
    /// Whether a tool may be used.
    #[default]
    Tool,
    /// An answer to each question.
    Question,
    /// Whether a plan is good and work may begin.
    Plan,
}

/// One question of an agent to its person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The question; an answer names it by this text.
    pub text: String,
    /// The answers that are offered; others may be given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Whether more than one may be chosen; the answer joins them with a comma.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub many: bool,
}

/// A file that comes with a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The file's id: the SHA-256 of its bytes, in lower-case hex. The reporter fetches it from
    /// `GET /webhooks/files/ID`.
    pub id: String,
    /// The name that the person gave it.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TurnOutcome {
    /// The agent answered.
    Succeeded,
    /// The agent or its model API failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// The agent went away in the middle.
    Interrupted,
}

/// What a turn used. Cumulative figures of a CLI are turned into one turn's share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Cost in millionths of a US dollar.
    #[serde(default)]
    pub cost_micro_usd: u64,
    /// Tokens read.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens written.
    #[serde(default)]
    pub output_tokens: u64,
}

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stream {
    /// The agent's standard output.
    Stdout,
    /// The agent's standard error.
    Stderr,
    /// The reporter: progress of a clone, warnings. No part of what the agent printed.
    System,
}

/// A piece of text: UTF-8 as it is, anything else as base64. Exactly one of the two is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The text, where the bytes are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes in standard base64, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b64: Option<String>,
    /// Whether the next event of the same kind continues this one without a break.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Chunk {
    /// Packs bytes: as text if they are UTF-8, else as base64.
    #[must_use]
    pub fn pack(bytes: &[u8], more: bool) -> Self {
        use base64::Engine as _;
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { text: Some(text.to_owned()), b64: None, more },
            Err(_) => Self {
                text: None,
                b64: Some(base64::engine::general_purpose::STANDARD.encode(bytes)),
                more,
            },
        }
    }

    /// The bytes that were packed; broken base64 yields none.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        use base64::Engine as _;
        match (&self.text, &self.b64) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(b64)) => {
                base64::engine::general_purpose::STANDARD.decode(b64).unwrap_or_default()
            }
            (None, None) => Vec::new(),
        }
    }
}

/// Who a process is, so that a reused pid is never taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessIdentity {
    /// The kernel's boot id; another one means that the machine was restarted and nothing
    /// of before lives.
    pub boot_id: String,
    /// The process id.
    pub pid: u32,
    /// The start time in the kernel's clock ticks since boot.
    pub start_time: u64,
}

/// How well an agent is contained on its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Containment {
    /// Whether orphans of the agent come to the reporter (a subreaper) instead of to init.
    pub subreaper: bool,
    /// Whether the whole tree can be killed at once (cgroup v2).
    pub cgroup: bool,
    /// Whether the server's data directory is hidden from the agent.
    pub data_hidden: bool,
    /// What is missing, and why, in one line for people; empty when nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// One row of a sprite's inbox, as the server sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboxRow {
    /// Rises within a sprite, and by one within a run; the first of a sprite is 1. 0 marks a
    /// heartbeat.
    pub n: u64,
    /// The run that it is meant for; no other run sees it.
    #[serde(default = "first_run", skip_serializing_if = "is_first_run")]
    pub run: u32,
    /// What to do.
    #[serde(flatten)]
    pub order: Order,
}

fn first_run() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_first_run(run: &u32) -> bool {
    *run == 1
}

/// What the server can ask of a reporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Order {
    /// Nothing; the connection lives. Sent each 15 s, never acknowledged.
    Heartbeat {},
    /// Take this turn.
    Turn {
        /// The turn.
        turn: String,
        /// What the person said.
        text: String,
        /// Files that came with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        attachments: Vec<Attachment>,
        /// The wall time of this turn in milliseconds; the clock stops while an approval waits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
        /// What this turn may cost, in millionths of a US dollar; past that it is interrupted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget_micro_usd: Option<u64>,
    },
    /// End the turn that runs (or, in a job, the job), politely at first.
    Cancel {
        /// The turn, or none for whatever runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn: Option<String>,
        /// Why, as it will stand in the exit record: `Cancelled` or `TimedOut`.
        reason: ExitReason,
    },
    /// The answer to an approval.
    Answer {
        /// The CLI's id of the request.
        request: String,
        /// Whether it may.
        allow: bool,
        /// What to tell the agent when it may not.
        #[serde(default)]
        message: String,
        /// For a question: the answers by the questions' texts.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        answers: BTreeMap<String, String>,
    },
    /// Drain, end the agent politely and exit; another run will wake it.
    Sleep {},
    /// End the agent and exit.
    Stop {
        /// As it will stand in the exit record.
        reason: ExitReason,
    },
}

impl Order {
    /// A turn without files and limits.
    #[must_use]
    pub fn turn(turn: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Turn {
            turn: turn.into(),
            text: text.into(),
            attachments: Vec::new(),
            timeout_ms: None,
            budget_micro_usd: None,
        }
    }
}

/// What a run is to do: written by whoever starts the sprite, read once by the reporter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSpec {
    /// The sprite's uid: `JOB_ID`.
    pub job_id: String,
    /// Which run of the sprite this is; the first is 1.
    pub run: u32,
    /// The installation that the sprite belongs to.
    pub installation: String,
    /// The server's address, where [`RunSpec::endpoint_file`] names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The file that holds the server's address, on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_file: Option<String>,
    /// Which CLI to drive.
    pub agent: AgentSpec,
    /// A task to work at as the run's only turn; without one the run takes turns by inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Where to work. Must exist unless a repo is cloned into it.
    pub workdir: String,
    /// What to clone into the work directory first, if it is not there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepoSpec>,
    /// How to answer the CLI's permission requests.
    #[serde(default)]
    pub permissions: Permissions,
    /// The agent's whole environment; nothing else is inherited.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// Wall time of the run in milliseconds; the clock stops while an approval waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// The longest silence of the agent in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// The session to resume, as the CLI named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Directories to hide from the agent where the kernel lets us.
    #[serde(default)]
    pub hide: Vec<String>,
    /// Make the work directory a git worktree of this repository, if it is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<WorktreeSpec>,
    /// Keep the agent inside these directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSpec>,
    /// The directory into which files that come with a turn are put, in one of its own each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<String>,
    /// The directory from which files that the agent puts there are taken as artifacts; the
    /// agent knows it as `OPEN_DISPATCH_ARTIFACTS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<String>,
}

/// A git worktree to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorktreeSpec {
    /// The repository's work directory, or a directory below it.
    pub of: String,
    /// The branch that it gets; made where it is not there yet.
    pub branch: String,
}

/// A sandbox around the agent: all else of the file system is read-only or not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxSpec {
    /// The agent's own home.
    pub home: String,
    /// Where else it may write, beside its work directory and its home.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<String>,
    /// Where else it may read, beside the system's own directories: where its CLI is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<String>,
}

/// Which CLI to drive, with what each needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AgentSpec {
    /// A shell: the task is a command line.
    Command {
        /// The shell; `sh` where none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shell: Option<String>,
    },
    /// Claude Code.
    Claude {
        /// The binary; `claude` on the agent's `PATH` where none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// The model; the CLI's own default where none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Appended to the CLI's system prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
    },
    /// OpenCode, by its server.
    Opencode {
        /// The binary; `opencode` on the agent's `PATH` where none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// The model as `provider/model`; the CLI's own default where none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Appended to the CLI's system prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
    },
    /// Any agent that speaks the Agent Client Protocol on its standard streams.
    Acp {
        /// The command line.
        command: Vec<String>,
        /// The model, where the agent lets it be chosen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// Put in front of a session's first prompt.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instructions: Option<String>,
    },
}

/// What to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoSpec {
    /// Anything that `git clone` takes, without credentials in it.
    pub url: String,
    /// The branch; the remote's default where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
}

/// How to answer a CLI's permission requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// The mode.
    #[serde(default)]
    pub mode: PermissionMode,
    /// What may be done unasked, in the CLI's own rule language.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// A permission mode, in the words of Claude Code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum PermissionMode {
    /// A person is asked.
    Ask,
    /// Edits pass, the rest is asked.
    AcceptEdits,
    /// The agent only plans.
    Plan,
    /// Everything passes: we answer yes, so that no dangerous flag is needed and root works.
    #[default]
    Bypass,
}

/// One variable of the agent's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether the value must be masked wherever it shows up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// How the names of secrets end.
const SECRET_ENDINGS: &[&str] =
    &["_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_CREDENTIALS", "_AUTH", "_AUTH_JSON", "_KEY_ID"];

/// Whether a variable of this name holds something that must not be seen.
#[must_use]
pub fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    name == "DATABASE_URL"
        || name == "GOOGLE_API_KEY"
        || (SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
            // These name a file.
            && name != "GOOGLE_APPLICATION_CREDENTIALS")
}

/// The original's `POST /webhooks/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LegacyLogs {
    /// The sprite's uid.
    pub job_id: String,
    /// What the agent printed.
    pub text: String,
}
