//! What a chat platform must be able to do, and what it may refuse.
//!
//! The trait is narrow on purpose: post, edit, and find what may have been posted. All else
//! (order, pace, splitting, repetition) is the outbox's, so that every platform keeps the same
//! promises.

use std::time::Duration;

use async_trait::async_trait;

use super::split::Unit;
use crate::{ambient::Fault, store::Conversation};

/// A chat platform.
#[async_trait]
pub trait Platform: Send + Sync {
    /// The platform's name, as it stands in conversations: `console`, `slack`, ...
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// What it can do in one conversation, where some take less than others.
    fn capabilities_in(&self, _conversation: &Conversation) -> Capabilities {
        self.capabilities()
    }

    /// Whether the conversation can be reached at this moment, as far as can be told without
    /// a call.
    fn reachable(&self, _conversation: &Conversation) -> bool {
        true
    }

    /// Posts a message and answers with its id. The nonce names this post for ever: a platform
    /// that can refuse a second post with the same one does.
    ///
    /// # Errors
    /// Why it could not; [`Error::Ambiguous`] if it may have.
    async fn post(&self, post: &Post<'_>) -> Result<String, Error>;

    /// Makes a message show this, and nothing else. `last` says that nothing more comes for this
    /// delivery.
    ///
    /// # Errors
    /// Why it could not.
    async fn edit(
        &self,
        conversation: &Conversation,
        message: &str,
        content: &Content,
        last: bool,
    ) -> Result<(), Error>;

    /// Makes a message show this while more is to come for it. The first `steady` bytes of the text
    /// stay for good, as far as is known; a platform that lets a text grow by itself shows these.
    ///
    /// # Errors
    /// Why it could not.
    async fn grow(
        &self,
        conversation: &Conversation,
        message: &str,
        content: &Content,
        _steady: usize,
    ) -> Result<(), Error> {
        self.edit(conversation, message, content, false).await
    }

    /// Finds the message that was posted with a nonce. Asked only where
    /// [`Capabilities::lookup`] says so.
    ///
    /// # Errors
    /// Why it could not look.
    async fn find(
        &self,
        conversation: &Conversation,
        nonce: &Nonce,
    ) -> Result<Option<String>, Error>;

    /// Shows something to one person alone, in one go. Asked only where
    /// [`Capabilities::whispers`] says so.
    ///
    /// # Errors
    /// Why it could not. After [`Error::Rejected`] it is posted for all to see.
    async fn whisper(&self, _post: &Post<'_>, _to: &str, _content: &Content) -> Result<(), Error> {
        Err(Error::Rejected(format!("{} cannot whisper", self.name())))
    }

    /// Posts a file and answers with the id of the message that shows it. Asked only where
    /// [`Capabilities::max_file`] says that one so large fits.
    ///
    /// # Errors
    /// Why it could not; [`Error::Ambiguous`] if it may have.
    async fn upload(&self, _post: &Post<'_>, file: &Upload) -> Result<String, Error> {
        Err(Error::Rejected(format!("{} takes no files, such as {}", self.name(), file.name)))
    }
}

/// A message that is to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post<'a> {
    /// Where.
    pub conversation: &'a Conversation,
    /// The line that it answers, as the platform named it in
    /// [`Incoming::handle`](super::Incoming::handle).
    pub reply_to: Option<&'a str>,
    /// What it shows at first.
    pub text: &'a str,
    /// What names this post for ever.
    pub nonce: &'a Nonce,
}

/// What a message shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The text, as [`Capabilities::dialect`] writes it.
    pub text: String,
    /// The buttons below it, at most [`Capabilities::buttons`]. What they do can be typed, too,
    /// and the text says how.
    pub actions: Vec<Action>,
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), actions: Vec::new() }
    }
}

/// A button. Pressing it says its line, in the name of whoever pressed it: who may, and whether
/// it still means something, is decided then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What stands on it: at most 40 characters.
    pub label: String,
    /// The line that it says: at most [`Action::MAX_LINE`] characters.
    pub line: String,
    /// How it looks.
    pub tone: Tone,
}

impl Action {
    /// The longest line, in characters: what Discord takes as a `custom_id`.
    pub const MAX_LINE: usize = 100;
}

/// How a button looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Like any other.
    Neutral,
    /// It allows something.
    Good,
    /// It refuses or ends something.
    Bad,
}

/// A file that is to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its name, with an ending that says what it is.
    pub name: String,
    /// What is in it.
    pub bytes: bytes::Bytes,
}

/// What a platform can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The most that one message holds, in [`Capabilities::unit`].
    pub max_message: usize,
    /// In what the platform counts.
    pub unit: Unit,
    /// How the platform shows text.
    pub markup: Markup,
    /// Which Markdown it means by that.
    pub dialect: Dialect,
    /// The shortest time between two edits of one message.
    pub pace: Duration,
    /// Whether a message can be found by its nonce.
    pub lookup: bool,
    /// What stands in a message before anything else does; platforms that refuse empty
    /// messages need some sign here.
    pub placeholder: &'static str,
    /// The most buttons below one message; 0 where there are none.
    pub buttons: usize,
    /// Whether something can be shown to one person alone.
    pub whispers: bool,
    /// The most bytes of a file that it takes; 0 where it takes none.
    pub max_file: u64,
    /// How many messages one answer may fill before the rest becomes a file; 0 for as many as it
    /// takes.
    pub max_messages: usize,
}

/// How a platform shows text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// As it is: what an agent printed must not be touched.
    Plain,
    /// As Markdown: what an agent printed goes into fences.
    Markdown,
}

/// What a platform makes of Markdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Nothing is translated.
    Plain,
    /// Slack's `mrkdwn`: `*bold*`, `<url|text>`, no headings and no tables; `&`, `<` and `>` are
    /// escaped.
    Slack,
    /// Discord's: headings to the third level, no tables.
    Discord,
    /// Teams': no headings, tables or images; a single line break is none.
    Teams,
}

/// Names one post: the delivery, and which of its messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Nonce {
    /// The delivery's id.
    pub delivery: String,
    /// Which of the delivery's messages; the first is 0.
    pub index: usize,
}

impl std::fmt::Display for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.delivery, self.index)
    }
}

/// Why a platform could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The place cannot be reached now; nothing happened.
    #[error("{0}")]
    Unreachable(String),
    /// Too many calls; nothing happened.
    #[error("the platform asks to wait {} ms", .0.as_millis())]
    RateLimited(Duration),
    /// It may have happened.
    #[error("no answer came: {0}")]
    Ambiguous(String),
    /// The message or the channel is there no more.
    #[error("{0} is gone")]
    Gone(String),
    /// The platform will not take it, however often it is tried.
    #[error("the platform refused: {0}")]
    Rejected(String),
    /// A scripted fault; only in tests.
    #[error(transparent)]
    Fault(#[from] Fault),
}
