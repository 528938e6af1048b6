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
    async fn post(
        &self,
        conversation: &Conversation,
        text: &str,
        nonce: &Nonce,
    ) -> Result<String, Error>;

    /// Makes a message show this text. `last` says that nothing more comes for this delivery.
    ///
    /// # Errors
    /// Why it could not.
    async fn edit(
        &self,
        conversation: &Conversation,
        message: &str,
        text: &str,
        last: bool,
    ) -> Result<(), Error>;

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
    /// The shortest time between two edits of one message.
    pub pace: Duration,
    /// Whether a message can be found by its nonce.
    pub lookup: bool,
    /// What stands in a message before anything else does; platforms that refuse empty
    /// messages need some sign here.
    pub placeholder: &'static str,
}

/// How a platform shows text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// As it is: what an agent printed must not be touched.
    Plain,
    /// As Markdown: what an agent printed goes into fences.
    Markdown,
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
