//! The ledgers: what is kept beside objects, row by row.

use std::collections::BTreeMap;

use super::Principal;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sprite_reporter::wire::{ApprovalKind, Attachment, Event, EventBody, Question, Usage};

use super::Op;
use crate::resource::Kind;

/// That a request was taken, and what it led to. Kept for 24 h.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The platform's key of the request, such as `console/REQUEST-ID`.
    pub key: String,
    /// What it led to, such as `jobs/run-x7k2p`.
    pub effect: String,
}

/// A place in a sprite's output: behind this event. The default is before the first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Cursor {
    /// The run.
    pub run: u32,
    /// The event's sequence number.
    pub seq: u64,
}

/// One event of a sprite's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputRow {
    /// The run that it belongs to.
    pub run: u32,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl OutputRow {
    /// The place behind this event.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { run: self.run, seq: self.event.next_seq() - 1 }
    }
}

/// What is held of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// The run; 0 if none was heard of.
    pub run: u32,
    /// The highest sequence number held; 0 for none.
    pub seq: u64,
    /// Whether its exit event is held.
    pub finished: bool,
}

impl Held {
    /// What is held when this is the last row of its run.
    pub(super) fn behind(row: &OutputRow) -> Self {
        let finished = matches!(row.event.body, EventBody::Exit(_));
        Self { run: row.run, seq: row.cursor().seq, finished }
    }
}

/// How many bytes an event counts for when output is read piece by piece: about its JSON.
pub(super) fn size_of_event(event: &Event) -> usize {
    let text = match &event.body {
        EventBody::Log { chunk, .. }
        | EventBody::Text { chunk, .. }
        | EventBody::Thought { chunk, .. } => {
            chunk.text.as_ref().or(chunk.b64.as_ref()).map_or(0, String::len)
        }
        _ => 0,
    };
    100 + text
}

/// A message to an agent, from `Queued` to exactly one visible outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// Its id (UUID).
    pub id: String,
    /// The agent's uid.
    pub agent_uid: String,
    /// Its place in the agent's queue; drawn by the store.
    pub n: u64,
    /// What the person said.
    pub text: String,
    /// What others had said around it, as an agent that reads is given it in front of the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
    /// Files that came with it.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// Who said it.
    pub author: String,
    /// Who said it, as their platform identifies them; none for the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Principal>,
    /// Where it was said, and where the answer goes.
    pub conversation: Option<Conversation>,
    /// `agent` where the CLI began the turn by itself.
    pub origin: Option<String>,
    /// Where it stands.
    pub state: TurnState,
    /// The sprite that it was sent to.
    pub sprite_uid: Option<String>,
    /// The sprite's run that it was sent to.
    #[serde(default)]
    pub run: u32,
    /// Where its output begins: the place in the sprite's output behind its acceptance.
    #[serde(default)]
    pub began: Option<Cursor>,
    /// Who asked to cancel it, if somebody did; the Agent's controller sees to it. The first
    /// name that stands here stays.
    #[serde(default)]
    pub cancelled_by: Option<String>,
    /// The same, as their platform identifies them; none for the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_by_user: Option<Principal>,
    /// One line on a failure, for people.
    pub message: String,
    /// What it used.
    pub usage: Usage,
    /// When it was queued.
    pub created: Timestamp,
    /// When the reporter took it.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl Turn {
    /// A turn that a person queues now; the store draws its number.
    #[must_use]
    pub fn queued(
        id: impl Into<String>,
        agent_uid: impl Into<String>,
        text: impl Into<String>,
        author: impl Into<String>,
        now: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            agent_uid: agent_uid.into(),
            n: 0,
            text: text.into(),
            context: String::new(),
            attachments: Vec::new(),
            author: author.into(),
            user: None,
            conversation: None,
            origin: None,
            state: TurnState::Queued,
            sprite_uid: None,
            run: 0,
            began: None,
            cancelled_by: None,
            cancelled_by_user: None,
            message: String::new(),
            usage: Usage::default(),
            created: now,
            started: None,
            ended: None,
        }
    }

    /// What an agent that reads is given: what the person said, behind what others had said.
    #[must_use]
    pub fn prompt(&self) -> String {
        format!("{}{}", self.context, self.text)
    }
}

/// Where a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TurnState {
    /// Its receipt is committed.
    Queued,
    /// It stands in the sprite's inbox.
    Sent,
    /// The reporter took it, and the server knows.
    Running,
    /// The agent answered.
    Succeeded,
    /// The agent failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// Its sprite went away.
    Interrupted,
}

impl TurnState {
    /// Whether this is an outcome.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Sent | Self::Running)
    }
}

/// A request of an agent to be allowed something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The sprite.
    pub sprite_uid: String,
    /// Its run.
    pub run: u32,
    /// The CLI's id of the request.
    pub request: String,
    /// The turn.
    pub turn: String,
    /// The tool's name.
    pub tool: String,
    /// One line that says what it would do.
    pub title: String,
    /// The tool's input.
    pub input: Value,
    /// What kind of answer is waited for.
    #[serde(default)]
    pub kind: ApprovalKind,
    /// What an answer of "always" would allow, in the CLI's own rule language.
    #[serde(default)]
    pub rule: Option<String>,
    /// For a question: what is asked.
    #[serde(default)]
    pub questions: Vec<Question>,
    /// For a question: what was answered, by the questions' texts.
    #[serde(default)]
    pub answers: BTreeMap<String, String>,
    /// Where it stands.
    pub state: ApprovalState,
    /// Who resolved it, as people call them: a name that anybody may give themselves.
    pub by: String,
    /// Who resolved it, as their platform identifies them; none for the API and for us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Principal>,
    /// The id of the grant that allowed it, where nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// What the one who resolved it tells the agent.
    #[serde(default)]
    pub message: String,
    /// Up to where the sprite's output was held when it was resolved: who shows both puts what
    /// became of it there, always at the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Cursor>,
    /// When it was asked.
    pub created: Timestamp,
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApprovalState {
    /// Nobody has answered.
    Pending,
    /// Somebody said yes.
    Allowed,
    /// Somebody said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The agent does not wait any more.
    Withdrawn,
}

/// What somebody allowed an Agent once and for all: a row that can be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Its id (UUID).
    pub id: String,
    /// The Agent's uid.
    pub agent_uid: String,
    /// The tool's name.
    pub tool: String,
    /// Requests with this rule are allowed; see [`Approval::rule`].
    pub rule: String,
    /// Who said so, as people call them.
    pub by: String,
    /// Who said so, as their platform identifies them; none for the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Principal>,
    /// When.
    pub created: Timestamp,
}

impl Grant {
    /// Whether it allows what is asked for: the use of the same tool, by the same rule.
    #[must_use]
    pub fn covers(&self, asked: &Approval) -> bool {
        asked.kind == ApprovalKind::Tool
            && asked.tool == self.tool
            && asked.rule.as_ref() == Some(&self.rule)
    }

    /// The answer that it gives to a request that it covers.
    #[must_use]
    pub fn allow(&self, asked: &Approval) -> Op {
        Op::ResolveApproval {
            sprite_uid: asked.sprite_uid.clone(),
            run: asked.run,
            request: asked.request.clone(),
            state: ApprovalState::Allowed,
            by: format!("always ({})", self.by),
            user: self.user.clone(),
            grant: Some(self.id.clone()),
            message: String::new(),
            answers: BTreeMap::new(),
        }
    }
}

/// An Agent's turns, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnSums {
    /// How many wait.
    pub queued: u64,
    /// How many were sent or run.
    pub running: u64,
    /// How many have ended, however; of all times, also of those that are forgotten.
    pub done: u64,
    /// What the ended ones used.
    pub usage: Usage,
    /// When the last one was queued, was begun or ended.
    #[serde(default)]
    pub last: Option<Timestamp>,
}

/// A conversation: a place on a platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Conversation {
    /// The platform: `console`, `slack`, ...
    pub platform: String,
    /// The platform's id of the channel.
    pub channel: String,
    /// The platform's id of the thread.
    pub thread: Option<String>,
}

/// What a platform needs to know of a channel before it can say something there, kept over
/// restarts: the platform's own facts, which only it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The platform: `teams`, ...
    pub platform: String,
    /// The platform's id of the channel.
    pub channel: String,
    /// What it needs to know.
    pub facts: Value,
}

/// Something that a chat must still be told, and how far that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Its id (UUID v7: sorts by the time it was made).
    pub id: String,
    /// Raised by each write; compared by the next.
    pub version: u64,
    /// Where it goes.
    pub conversation: Conversation,
    /// What it is about.
    pub subject: Subject,
    /// The platform's ids of the messages that stand there, oldest first. The last one is
    /// still edited; the others are final.
    pub messages: Vec<String>,
    /// The numbers of those among them that stand in for one that could not be edited any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub renewed: Vec<usize>,
    /// The output that the messages show, as of the last write: what is behind it is not shown, or
    /// is shown in part.
    pub shown: Cursor,
    /// The sprite whose output that is; none where nothing of it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_of: Option<String>,
    /// A hash of what stands in the last message; empty for a bare placeholder.
    pub hash: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Whether all that it is to show of a Job or turn was shown once: from then on what stands
    /// there is edited, and nothing is posted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// Why it is parked, for people.
    pub note: String,
    /// Since when its place cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Timestamp>,
    /// The line that it answers, as the platform names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Who alone is to see it, as the platform identifies them, where the platform can do that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_for: Option<String>,
    /// When it was made.
    pub created: Timestamp,
}

impl Delivery {
    /// A new delivery, of which nothing is shown yet.
    #[must_use]
    pub fn open(
        id: impl Into<String>,
        conversation: Conversation,
        subject: Subject,
        now: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            version: 0,
            conversation,
            subject,
            messages: Vec::new(),
            renewed: Vec::new(),
            shown: Cursor::default(),
            shown_of: None,
            hash: String::new(),
            state: DeliveryState::Open,
            complete: false,
            note: String::new(),
            parked: None,
            reply_to: None,
            only_for: None,
            created: now,
        }
    }
}

/// What a delivery is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Subject {
    /// A fixed text, such as the answer to a command.
    Notice {
        /// The text (Markdown).
        text: String,
    },
    /// A Job's transcript, from its start to its end.
    Job {
        /// The Job's uid.
        uid: String,
        /// The Job's name, for when the Job is gone.
        name: String,
    },
    /// A message that several agents could be meant by: asks for whom it is. The choice makes it
    /// the chosen agent's turn, and this delivery that turn's.
    Choice {
        /// The message.
        text: String,
        /// What others had said around it; see [`Turn::context`].
        #[serde(default, skip_serializing_if = "String::is_empty")]
        context: String,
        /// The agents, in the order in which they are offered.
        names: Vec<String>,
        /// Who said it, as people call them.
        author: String,
        /// Who said it, as the platform identifies them.
        user: String,
        /// Files that came with it.
        #[serde(default)]
        attachments: Vec<Attachment>,
    },
    /// A change that waits for somebody to say how, or whether, it is to be made. What comes of that
    /// takes its place.
    Offer {
        /// What is told above the buttons (Markdown).
        text: String,
        /// What stands on the buttons.
        labels: Vec<String>,
        /// The change, as chat keeps it.
        pending: serde_json::Value,
    },
    /// One turn's transcript.
    Turn {
        /// The turn's id.
        id: String,
    },
    /// A file that an agent made, as a file.
    File {
        /// The file's id.
        id: String,
        /// What it is called.
        name: String,
    },
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryState {
    /// There may be more to show.
    Open,
    /// The place cannot be reached; kept until it can.
    Parked,
    /// All is shown.
    Done,
}

/// One line of an object's history, counted up when it repeats. Kept for 1 h.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRow {
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// One line for people.
    pub note: String,
    /// How often.
    pub count: u64,
    /// The first time.
    pub first: Timestamp,
    /// The last time.
    pub last: Timestamp,
}

/// An event with what it is about, for whoever reads those of all objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// Its place in the order in which events were made first; never given twice.
    pub n: u64,
    /// The kind of the object that it is about, which may be gone by now.
    pub kind: Kind,
    /// The object's name.
    pub name: String,
    /// The object's uid.
    pub uid: String,
    /// The event.
    pub row: EventRow,
}

/// A key's backoff, kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackoffRow {
    /// The controller.
    pub controller: String,
    /// The object's name.
    pub name: String,
    /// How many failures in a row; 0 forgets the row.
    pub failures: u32,
    /// Not before this time.
    pub not_before: Timestamp,
    /// The error's class, for which the count holds.
    pub class: String,
}
