//! What we say: messages, their edits, buttons and files.
//!
//! The first message of an answer to a command fills the place that Discord keeps for it, as long
//! as the interaction is good; every other one is an ordinary message with a nonce, by which
//! Discord itself refuses a second one for some minutes. Nobody is ever pinged.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
};

use async_trait::async_trait;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Discord, NAME,
    form::Form,
    interactions::{Live, Opened},
    rest::{self, Body, Failure},
};
use crate::{
    chat::{
        platform::{
            Action, Capabilities, Content, Dialect, Error, Markup, Nonce, Platform, Post, Tone,
            Upload,
        },
        split::Unit,
    },
    store::Conversation,
};

/// Discord's limit, in code points.
const MAX_MESSAGE: usize = 2_000;
/// What an application may upload anywhere, in bytes.
const MAX_FILE: u64 = 10 * 1024 * 1024;
/// How often a file is sent of which it is not known whether it came.
const UPLOADS: u32 = 3;
/// Buttons in a row, and rows.
const ROW: usize = 5;
/// How many messages are looked through for one of ours.
const RECENT: usize = 100;
/// The flag of a message that one person sees.
const EPHEMERAL: u64 = 1 << 6;
/// The place of a message that was posted for one line of a person.
const MESSAGE: &str = "message:";

/// The handle of a line that somebody typed, of which we answer the message.
pub(super) fn handle_of_message(id: &str) -> String {
    format!("{MESSAGE}{id}")
}

/// The channel that a conversation is, to Discord.
fn channel(place: &Conversation) -> &str {
    place.thread.as_deref().unwrap_or(&place.channel)
}

/// A nonce within Discord's 25 characters.
fn short(nonce: &Nonce) -> String {
    shorten(&nonce.to_string())
}

/// A name within Discord's 25 characters, the same for the same text.
pub(super) fn shorten(text: &str) -> String {
    let hash = Sha256::digest(text);
    hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// What a message shows, with nobody pinged.
fn body(content: &Content) -> Value {
    json!({
        "content": content.text,
        "components": rows(&content.actions),
        "allowed_mentions": {"parse": []},
    })
}

/// Buttons in rows. Discord takes no two that say the same.
fn rows(actions: &[Action]) -> Value {
    let mut buttons: Vec<Value> = Vec::new();
    for action in actions {
        if buttons.iter().any(|button| button["custom_id"] == action.line.as_str()) {
            continue;
        }
        let style = match action.tone {
            Tone::Neutral => 2,
            Tone::Good => 3,
            Tone::Bad => 4,
        };
        let label: String = action.label.chars().take(80).collect();
        buttons.push(json!({"type": 2, "style": style, "label": label, "custom_id": action.line}));
    }
    buttons.truncate(ROW * ROW);
    buttons.chunks(ROW).map(|row| json!({"type": 1, "components": row})).collect()
}

fn id_of(message: &Value) -> Result<String, Error> {
    let id = message["id"].as_str().map(ToOwned::to_owned);
    id.ok_or_else(|| Error::Ambiguous("Discord answered without the message's id".to_owned()))
}

impl Discord {
    fn unclear(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.unclear.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call to the webhook of an interaction.
    async fn by_token(
        &self,
        method: Method,
        live: &Live,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let token = live.token.expose_secret();
        let path = format!("webhooks/{}/{token}{path}", self.settings.application);
        // The token is what tells buckets apart; its hash does as well.
        let call =
            rest::send(method, "webhooks", &shorten(token), path, body.clone().unwrap_or_default());
        let body = body.map_or(Body::None, Body::Json);
        self.rest.call(&rest::Call { by_token: true, body, ..call }).await
    }

    /// Fills the place that Discord keeps for the answer to a command; nothing where there is none.
    async fn fill(&self, post: &Post<'_>, body: &Value) -> Result<Option<String>, Error> {
        let Some(id) = post.reply_to.filter(|_| post.nonce.index == 0) else { return Ok(None) };
        let Some(live) = self.interactions().get(id, self.clock.elapsed()) else { return Ok(None) };
        if live.opened == Opened::Pressed {
            return Ok(None);
        }
        let path = "/messages/@original";
        match self.by_token(Method::PATCH, &live, path, Some(body.clone())).await {
            Ok(message) => {
                let message = id_of(&message)?;
                self.interactions().answered(id, &message);
                Ok(Some(message))
            }
            Err(Failure::Expired | Failure::Other(Error::Gone(_))) => {
                self.interactions().forget(id);
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Posts an ordinary message.
    pub(super) async fn say(
        &self,
        place: &str,
        nonce: &str,
        mut body: Value,
    ) -> Result<String, Error> {
        body["nonce"] = nonce.into();
        body["enforce_nonce"] = true.into();
        let path = format!("channels/{place}/messages");
        let call = rest::send(Method::POST, "POST channels/messages", place, path, body);
        id_of(&self.rest.call(&call).await?)
    }
}

/// What a line that somebody typed is answered by: a reply to it.
fn replying(post: &Post<'_>, mut body: Value) -> Value {
    let message = post.reply_to.and_then(|handle| handle.strip_prefix(MESSAGE));
    if let Some(message) = message.filter(|_| post.nonce.index == 0) {
        body["message_reference"] = json!({"message_id": message, "fail_if_not_exists": false});
    }
    body
}

#[async_trait]
impl Platform for Discord {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_message: MAX_MESSAGE,
            unit: Unit::CodePoints,
            markup: Markup::Markdown,
            dialect: Dialect::Discord,
            // Five edits in five seconds is the channel's; others edit there as well.
            pace: std::time::Duration::from_millis(1_250),
            lookup: true,
            placeholder: "\u{2026}",
            buttons: ROW * ROW,
            whispers: true,
            max_file: MAX_FILE,
            max_messages: 3,
        }
    }

    async fn post(&self, post: &Post<'_>) -> Result<String, Error> {
        let body = body(&Content::from(post.text));
        if let Some(message) = self.fill(post, &body).await? {
            return Ok(message);
        }
        self.say(channel(post.conversation), &short(post.nonce), replying(post, body)).await
    }

    async fn edit(
        &self,
        conversation: &Conversation,
        message: &str,
        content: &Content,
        _last: bool,
    ) -> Result<(), Error> {
        let body = body(content);
        let of = self.interactions().of_message(message, self.clock.elapsed());
        if let Some((id, live)) = of {
            let path = "/messages/@original";
            match self.by_token(Method::PATCH, &live, path, Some(body.clone())).await {
                Ok(_) => return Ok(()),
                Err(Failure::Expired) => self.interactions().forget(&id),
                Err(failure) => return Err(failure.into()),
            }
        }
        let place = channel(conversation);
        let path = format!("channels/{place}/messages/{message}");
        let call = rest::send(Method::PATCH, "PATCH channels/messages", place, path, body);
        self.rest.call(&call).await?;
        Ok(())
    }

    /// What the gateway showed us of our own messages goes first. What Discord keeps of a nonce
    /// beyond that is not promised; where it keeps nothing, a second post with the same nonce is
    /// refused for some minutes, and answered with the first.
    async fn find(
        &self,
        conversation: &Conversation,
        nonce: &Nonce,
    ) -> Result<Option<String>, Error> {
        let nonce = short(nonce);
        if let Some(message) = self.own().nonces.get(&nonce) {
            return Ok(Some(message.clone()));
        }
        let place = channel(conversation);
        let path = format!("channels/{place}/messages?limit={RECENT}");
        let messages = self.rest.call(&rest::get("GET channels/messages", place, path)).await;
        let messages = match messages {
            Ok(messages) => messages,
            // One who may not read back may still post, and the nonce guards that.
            Err(Failure::Shut(_) | Failure::Other(Error::Gone(_) | Error::Rejected(_))) => {
                return Ok(None);
            }
            Err(failure) => return Err(failure.into()),
        };
        let all = messages.as_array().into_iter().flatten();
        let found = all.into_iter().find(|message| message["nonce"] == nonce.as_str());
        found.map(id_of).transpose()
    }

    async fn whisper(&self, post: &Post<'_>, to: &str, content: &Content) -> Result<(), Error> {
        let mut body = body(content);
        let now = self.clock.elapsed();
        let live = post.reply_to.and_then(|id| Some((id, self.interactions().get(id, now)?)));
        if let Some((id, live)) = live {
            let path = "/messages/@original";
            let is_first = post.nonce.index == 0;
            let said = match live.opened {
                Opened::ThinkingAlone if is_first => {
                    self.by_token(Method::PATCH, &live, path, Some(body.clone())).await
                }
                opened => {
                    // The place that all see goes first: what follows it would be seen by all.
                    if opened == Opened::Thinking && is_first {
                        match self.by_token(Method::DELETE, &live, path, None).await {
                            Ok(_) | Err(Failure::Expired | Failure::Other(Error::Gone(_))) => {}
                            Err(failure) => return Err(failure.into()),
                        }
                    }
                    body["flags"] = EPHEMERAL.into();
                    self.by_token(Method::POST, &live, "", Some(body.clone())).await
                }
            };
            match said {
                Ok(_) => return Ok(()),
                Err(Failure::Expired | Failure::Other(Error::Gone(_))) => {
                    self.interactions().forget(id);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        // There is no interaction to answer: a direct message is seen by this person alone, too.
        let call = rest::send(
            Method::POST,
            "POST users/channels",
            to,
            "users/@me/channels".to_owned(),
            json!({"recipient_id": to}),
        );
        let direct = id_of(&self.rest.call(&call).await?)?;
        if let Some(body) = body.as_object_mut() {
            body.remove("flags");
        }
        self.say(&direct, &short(post.nonce), body).await?;
        Ok(())
    }

    async fn upload(&self, post: &Post<'_>, file: &Upload) -> Result<String, Error> {
        let mut payload = body(&Content::from(post.text));
        payload["attachments"] = json!([{"id": 0, "filename": file.name}]);
        let nonce = short(post.nonce);
        if self.unclear().get(&nonce).is_some_and(|times| *times >= UPLOADS) {
            self.unclear().remove(&nonce);
            return Err(Error::Rejected(format!(
                "the file did not come to Discord, in {UPLOADS} tries of up to {} s",
                rest::UPLOAD.as_secs()
            )));
        }
        payload["nonce"] = nonce.clone().into();
        payload["enforce_nonce"] = true.into();
        let place = channel(post.conversation);
        let path = format!("channels/{place}/messages");
        let call = rest::send(Method::POST, "POST channels/messages", place, path, Value::Null);
        let form = Form::new(&payload, &file.name, file.bytes.clone());
        let sent = self.rest.call(&rest::Call { body: Body::Form(form), ..call }).await;
        let sent = sent.map_err(Error::from).and_then(|message| id_of(&message));
        match &sent {
            Err(Error::Ambiguous(_)) => *self.unclear().entry(nonce).or_default() += 1,
            _ => drop(self.unclear().remove(&nonce)),
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_stand_in_rows_of_five_and_none_says_what_another_does() {
        let action = |n: usize| Action {
            label: format!("b{n}"),
            line: format!("/od-help {}", n.min(6)),
            tone: Tone::Neutral,
        };
        let rows = rows(&(0..9).map(action).collect::<Vec<_>>());
        let counts: Vec<usize> = rows
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["components"].as_array().unwrap().len())
            .collect();
        assert_eq!(counts, [5, 2]);
    }

    #[test]
    fn a_nonce_fits_and_is_the_same_for_the_same_post() {
        let nonce = |index| short(&Nonce { delivery: "d".repeat(64), index });
        assert_eq!(nonce(0), nonce(0));
        assert_ne!(nonce(0), nonce(1));
        assert!(nonce(0).len() <= 25);
    }
}
