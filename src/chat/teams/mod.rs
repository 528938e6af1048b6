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
//! activity) makes it nothing new. The answer is a delivery like any other: posted as a
//! placeholder, then filled by edits (`PUT`) as [`card`] writes them.
//!
//! **What Teams cannot do.** It looks no message up, so a post that may have happened is done again
//! and the worst is an empty placeholder. It shows nothing to one person alone (in preview only),
//! and takes files from bots in personal chats alone, after a consent; so long output is split.

mod activity;
mod bearer;
mod card;
mod connector;
mod door;
mod files;
mod hear;
mod http;
mod keys;
mod places;
mod settings;
mod signature;
mod token;
mod words;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bearer::Bearer;
use connector::Connector;
use keys::Keys;
use places::{Places, Reference};
use serde_json::{Value, json};
pub use settings::{Error as SettingsError, Hosts, Settings};
use tokio_util::sync::CancellationToken;

use super::{
    Commands,
    ear::{Ear, Hearing},
    platform::{Capabilities, Content, Dialect, Error, Markup, Nonce, Platform, Post},
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

/// Microsoft Teams: ear and mouth.
pub struct Teams {
    settings: Settings,
    http: reqwest::Client,
    keys: Keys,
    bearer: Arc<Bearer>,
    connector: Connector,
    places: Places,
    store: Arc<dyn Store>,
    files: Arc<Files>,
    ambient: Ambient,
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
            door: Mutex::new(Hearing::NotNow("Teams is not listened to yet".to_owned())),
            refused: Mutex::default(),
            settings,
            http,
            bearer,
            store,
            files,
            ambient,
        }))
    }

    fn door_is(&self, hearing: Hearing) {
        *self.door.lock().unwrap_or_else(PoisonError::into_inner) = hearing;
    }

    fn refused_because(&self, why: Option<String>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
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

/// A conversation as the connector names it.
fn place(conversation: &Conversation) -> String {
    match &conversation.thread {
        Some(thread) => format!("{};messageid={thread}", conversation.channel),
        None => conversation.channel.clone(),
    }
}

/// Adds who says it, and where.
fn addressed(mut activity: Value, reference: &Reference, conversation: &str) -> Value {
    activity["from"] = json!({"id": reference.bot});
    activity["conversation"] = json!({"id": conversation});
    activity
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

    async fn post(&self, post: &Post<'_>) -> Result<String, Error> {
        let reference = self.reference(post.conversation).await?;
        let conversation = place(post.conversation);
        let message = card::message(&Content::from(post.text));
        let mut activity = addressed(message, &reference, &conversation);
        if let Some(message) = post.reply_to {
            activity["replyToId"] = message.into();
        }
        self.connector.post(&reference.service_url, &conversation, &activity).await
    }

    async fn edit(
        &self,
        conversation: &Conversation,
        message: &str,
        content: &Content,
        _last: bool,
    ) -> Result<(), Error> {
        let reference = self.reference(conversation).await?;
        let conversation = place(conversation);
        let mut activity = addressed(card::message(content), &reference, &conversation);
        activity["id"] = message.into();
        self.connector.put(&reference.service_url, &conversation, message, &activity).await
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
        tokio::join!(
            door::open(Arc::clone(&self), commands, stop.clone()),
            door::look_for_token(self, stop)
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
