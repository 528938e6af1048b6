//! Microsoft Teams: an HTTP listener that the Bot Framework calls, and its connector.
//!
//! **What it is for.** What people say to the bot comes as *activities* to `POST /api/messages`, on
//! a socket of its own ([`door`]): what stands on the internet serves nothing but this. What we
//! say goes to the connector's REST API ([`connector`]), at the service URL that the activities
//! name.
//!
//! **Who is let in.** Anybody can call the door, so nothing is believed before it is judged: the
//! token is signed by the channel ([`keys`], [`signature`]), for us and at this time, and covers
//! just this activity ([`token`]), which comes from the one tenant that is served.
//!
//! **The life of one message.** The door judges it, keeps how its conversation is reached
//! ([`places`]; so we can speak there after a restart), asks [`hear`] what it means, fetches its
//! files, and hands the line to [`Commands`]. Once that is durable the channel gets its 200, and
//! not before: what was not answered within 15 s comes again, and the receipt under (conversation,
//! activity) makes it nothing new. The lines of one conversation are taken in the order in which they
//! came ([`turns`]). The answer is a delivery like any other: posted as a
//! placeholder, then filled by edits (`PUT`) as [`card`] writes them.
//!
//! No call is made before its time: each takes its turn of the conversation's [`pace`].
//!
//! In a chat with one person an answer grows as a [`stream`], which Teams draws by itself, and becomes
//! a message like any other when it ends.
//!
//! **What Teams cannot do.** It looks no message up, so a post that may have happened is done again
//! and the worst is an empty placeholder. It shows nothing to one person alone (in preview only).
//! It takes files from bots in personal chats alone, and asks there whether they are wanted
//! ([`consent`]); elsewhere long output fills as many messages as it takes.

mod activity;
mod bearer;
mod card;
mod connector;
mod consent;
mod door;
mod files;
mod hear;
mod http;
mod keys;
mod pace;
mod places;
mod quotes;
mod settings;
mod signature;
mod stream;
mod tally;
mod token;
mod turns;
mod words;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bearer::Bearer;
use connector::{Connector, Streamed};
use keys::Keys;
use pace::Turn;
use places::{Places, Reference};
use serde_json::{Value, json};
pub use settings::{Error as SettingsError, Hosts, Settings};
use stream::{Step, Streams, marked, name, named};
use tokio_util::sync::CancellationToken;
use turns::Turns;

use super::{
    Commands,
    ear::{Ear, Hearing},
    platform::{Capabilities, Content, Dialect, Error, Markup, Nonce, Platform, Post, Upload},
    split::Unit,
};
use crate::{
    ambient::Ambient,
    store::{Conversation, Store, files::Files},
};

/// The platform's name in conversations.
pub const NAME: &str = "teams";
/// The most UTF-16 units of one message: 24 KiB, which each generation of the documents allows.
const MAX_MESSAGE: usize = 12 * 1024;
/// The shortest time between two edits of one message: a thread takes 1,800 calls an hour.
const PACE: Duration = Duration::from_secs(2);
/// The most buttons below a message: what Teams shows of a card without hiding some.
const BUTTONS: usize = 6;
/// The largest file that is offered, in bytes.
const MAX_FILE: u64 = 8 * 1024 * 1024;
/// How many messages an answer fills before the rest becomes a file, where there are files.
const MESSAGES: usize = 3;

/// Microsoft Teams: ear and mouth.
pub struct Teams {
    settings: Settings,
    http: reqwest::Client,
    keys: Keys,
    bearer: Arc<Bearer>,
    connector: Connector,
    places: Places,
    /// Whose line is taken next, in each conversation.
    turns: Turns,
    store: Arc<dyn Store>,
    files: Arc<Files>,
    ambient: Ambient,
    /// Which messages still grow.
    streams: Mutex<Streams>,
    /// The files that are on their way, by the message that offered them.
    sending: Mutex<HashSet<String>>,
    /// What else stands on the same listener.
    beside: OnceLock<axum::Router>,
    /// Whether the door is open.
    door: Mutex<Hearing>,
    /// Why Microsoft gives us no access token, until somebody mends it.
    refused: Mutex<Option<String>>,
}

impl Teams {
    /// The platform, as it was set up. Nothing is asked yet.
    ///
    /// # Errors
    /// There is no TLS on this machine.
    pub fn new(
        settings: Settings,
        store: Arc<dyn Store>,
        files: Arc<Files>,
        ambient: Ambient,
    ) -> Result<Arc<Self>, String> {
        let http = http::client()?;
        let clock = || Arc::clone(&ambient.clock);
        let bearer = Arc::new(Bearer::new(http.clone(), &settings, clock()));
        let hosts = settings.hosts.clone();
        Ok(Arc::new(Self {
            keys: Keys::new(http.clone(), settings.openid.clone(), clock()),
            connector: Connector::new(http.clone(), Arc::clone(&bearer), hosts, clock()),
            places: Places::new(Arc::clone(&store), ambient.clone()),
            turns: Turns::default(),
            door: Mutex::new(Hearing::NotNow("Teams is not listened to yet".to_owned())),
            refused: Mutex::default(),
            beside: OnceLock::new(),
            settings,
            http,
            bearer,
            store,
            files,
            ambient,
            streams: Mutex::default(),
            sending: Mutex::default(),
        }))
    }

    /// Lets routes of other rooms stand on the same public listener. Once, before it listens; later
    /// calls change nothing.
    pub fn serve_beside(&self, routes: axum::Router) {
        let _ = self.beside.set(routes);
    }

    fn door_is(&self, hearing: Hearing) {
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = hearing;
    }

    fn refused_because(&self, why: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_streams(&self, conversation: &Conversation) -> bool {
        self.settings.streaming && is_personal(conversation)
    }

    /// Begins a stream in place of a placeholder; none where Teams will not have one.
    async fn begin_stream(&self, post: &Post<'_>, to: &Recipient) -> Result<Option<String>, Error> {
        let now = self.ambient.clock.elapsed();
        if !self.streams().may_begin(&to.conversation, now) {
            return Ok(None);
        }
        let typing = json!({"type": "typing", "text": post.text});
        let typing = marked(typing, "informative", None, Some(1));
        let typing = to.answers(typing, post.reply_to);
        let begun = self.connector.stream(&to.service_url, &to.conversation, Turn::Post, &typing);
        match begun.await? {
            Streamed::Done(Some(id)) => {
                self.streams().begun(&id, &to.conversation, now);
                Ok(Some(id))
            }
            Streamed::Done(None) => {
                Err(Error::Ambiguous("Teams' answer names no message".to_owned()))
            }
            Streamed::Refused(why) => {
                tracing::debug!("no stream: {why}");
                Ok(None)
            }
        }
    }

    /// Does what shows a content.
    async fn step(
        &self,
        to: &Recipient,
        message: &str,
        content: &Content,
        turn: Turn,
        step: Step,
    ) -> Result<(), Error> {
        let (activity, then) = match step {
            Step::Nothing => return Ok(()),
            Step::Edit => return self.put(to, message, content, turn).await,
            Step::Inform { text, sequence } => {
                let typing = json!({"type": "typing", "text": text});
                (marked(typing, "informative", Some(message), Some(sequence)), None)
            }
            Step::Chunk { text, sequence } => {
                let typing = json!({"type": "typing", "text": text});
                (marked(typing, "streaming", Some(message), Some(sequence)), Some(text))
            }
            Step::End { first, perhaps } => {
                return self.end_stream(to, message, content, (first, perhaps)).await;
            }
        };
        let activity = to.answers(activity, None);
        match self.connector.stream(&to.service_url, &to.conversation, turn, &activity).await? {
            Streamed::Done(_) => {
                if let Some(text) = then {
                    self.streams().shown(message, &text);
                }
                Ok(())
            }
            Streamed::Refused(why) => {
                tracing::debug!("a stream of Teams' ended early: {why}");
                self.streams().settled(message);
                self.put(to, message, content, turn).await
            }
        }
    }

    /// Ends a stream with a message; from there on it is edited.
    async fn end_stream(
        &self,
        to: &Recipient,
        message: &str,
        content: &Content,
        (first, perhaps): (Option<String>, bool),
    ) -> Result<(), Error> {
        let shows_all = first.is_none();
        let end = match first {
            Some(text) => card::message(&Content::from(text.as_str())),
            None => card::message(content),
        };
        let end = to.answers(marked(end, "final", Some(message), None), None);
        let turn = Turn::Last;
        let ended = self.connector.stream(&to.service_url, &to.conversation, turn, &end).await?;
        if let Streamed::Refused(why) = &ended
            && !perhaps
        {
            tracing::debug!("a stream of Teams' was over: {why}");
        }
        // Should the edit have to wait, no second end is sent.
        self.streams().settled(message);
        match !shows_all || matches!(ended, Streamed::Refused(_)) {
            true => self.put(to, message, content, turn).await,
            false => Ok(()),
        }
    }

    async fn put(
        &self,
        to: &Recipient,
        message: &str,
        content: &Content,
        turn: Turn,
    ) -> Result<(), Error> {
        let mut activity = to.answers(card::message(content), None);
        activity["id"] = message.into();
        self.connector.put(&to.service_url, &to.conversation, message, turn, &activity).await
    }

    async fn recipient(&self, conversation: &Conversation) -> Result<Recipient, Error> {
        let reference = self.reference(conversation).await?;
        let Reference { service_url, bot, .. } = reference;
        Ok(Recipient { service_url, bot, conversation: place(conversation) })
    }

    async fn reference(&self, conversation: &Conversation) -> Result<Reference, Error> {
        let found = self.places.find(&conversation.channel).await;
        let found = found.map_err(|error| Error::Unreachable(error.to_string()))?;
        found.ok_or_else(|| {
            let why = "nobody has spoken to the bot in Teams yet, so it does not know where to \
                       answer; add the app and say something to it";
            Error::Unreachable(why.to_owned())
        })
    }
}

/// Whether a conversation is with one person alone: what Teams names `a:...`.
fn is_personal(conversation: &Conversation) -> bool {
    conversation.channel.starts_with("a:")
}

/// A conversation as the connector names it.
fn place(conversation: &Conversation) -> String {
    match &conversation.thread {
        Some(thread) => format!("{};messageid={thread}", conversation.channel),
        None => conversation.channel.clone(),
    }
}

/// Where something goes.
struct Recipient {
    service_url: String,
    /// Our own id there.
    bot: String,
    /// The conversation as the connector names it.
    conversation: String,
}

impl Recipient {
    /// Adds who says it, where, and what it answers.
    fn answers(&self, mut activity: Value, reply_to: Option<&str>) -> Value {
        activity["from"] = json!({"id": self.bot});
        activity["conversation"] = json!({"id": self.conversation});
        if let Some(message) = reply_to {
            activity["replyToId"] = message.into();
        }
        activity
    }
}

#[async_trait]
impl Platform for Teams {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_message: MAX_MESSAGE,
            unit: Unit::Utf16,
            markup: Markup::Markdown,
            dialect: Dialect::Teams,
            pace: PACE,
            lookup: false,
            placeholder: "…",
            buttons: BUTTONS,
            whispers: false,
            max_file: 0,
            max_messages: 0,
        }
    }

    fn capabilities_in(&self, conversation: &Conversation) -> Capabilities {
        let everywhere = self.capabilities();
        match is_personal(conversation) {
            true => Capabilities { max_file: MAX_FILE, max_messages: MESSAGES, ..everywhere },
            false => everywhere,
        }
    }

    async fn post(&self, post: &Post<'_>) -> Result<String, Error> {
        let to = self.recipient(post.conversation).await?;
        if self.has_streams(post.conversation)
            && let Some(message) = self.begin_stream(post, &to).await?
        {
            return Ok(name(&message));
        }
        let message = to.answers(card::message(&Content::from(post.text)), post.reply_to);
        self.connector.post(&to.service_url, &to.conversation, &message).await
    }

    async fn edit(
        &self,
        conversation: &Conversation,
        message: &str,
        content: &Content,
        last: bool,
    ) -> Result<(), Error> {
        let to = self.recipient(conversation).await?;
        let turn = if last || !content.actions.is_empty() { Turn::Last } else { Turn::Frame };
        let (id, is_stream) = named(message);
        let step = match is_stream {
            true => self.streams().show(id, content),
            false => Step::Edit,
        };
        self.step(&to, id, content, turn, step).await
    }

    async fn grow(
        &self,
        conversation: &Conversation,
        message: &str,
        content: &Content,
        steady: usize,
    ) -> Result<(), Error> {
        let to = self.recipient(conversation).await?;
        let turn = if content.actions.is_empty() { Turn::Frame } else { Turn::Last };
        // A number of a stream is not used up by what is too early.
        self.connector.may(&to.conversation, turn)?;
        let now = self.ambient.clock.elapsed();
        let (id, is_stream) = named(message);
        let step = match is_stream {
            true => self.streams().grow(id, content, steady, now),
            false => Step::Edit,
        };
        self.step(&to, id, content, turn, step).await
    }

    async fn upload(&self, post: &Post<'_>, file: &Upload) -> Result<String, Error> {
        if !is_personal(post.conversation) {
            return Err(Error::Rejected("Teams takes files in personal chats alone".to_owned()));
        }
        self.offer(post, file).await
    }

    async fn find(&self, _: &Conversation, _: &Nonce) -> Result<Option<String>, Error> {
        Err(Error::Rejected("Teams looks no message up".to_owned()))
    }
}

#[async_trait]
impl Ear for Teams {
    fn platform(self: Arc<Self>) -> Arc<dyn Platform> {
        self
    }

    fn hearing(&self) -> Hearing {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let door = || self.door.lock().unwrap_or_else(PoisonError::into_inner).clone();
        refused.map_or_else(door, Hearing::Never)
    }

    async fn listen(self: Arc<Self>, commands: Arc<Commands>, stop: CancellationToken) {
        let keeping_keys = async {
            tokio::select! {
                () = self.keys.keep_fresh() => {}
                () = stop.cancelled() => {}
            }
        };
        tokio::join!(
            door::open(Arc::clone(&self), commands, stop.clone()),
            door::look_for_token(Arc::clone(&self), stop.clone()),
            keeping_keys
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_part_of_the_conversations_name() {
        let conversation = |thread: Option<&str>| Conversation {
            platform: NAME.to_owned(),
            channel: "19:x@thread.tacv2".to_owned(),
            thread: thread.map(str::to_owned),
        };
        assert_eq!(place(&conversation(None)), "19:x@thread.tacv2");
        assert_eq!(place(&conversation(Some("9"))), "19:x@thread.tacv2;messageid=9");
    }
}
