//! Files that we send: offered in a chat with one person, and sent once they say yes.
//!
//! A bot cannot put a file into a chat. It posts a card that asks whether the file is wanted; whoever
//! says yes makes room for it in their own drive, and the channel tells us where, in an invoke. The
//! bytes go there, and the card becomes one that opens the file.
//!
//! **What is kept.** The bytes lie among the installation's files, named by their hash, which is what
//! the card carries. Nobody names them, so they go after a day; a yes that comes later is told so.
//!
//! **Where we send them.** To Microsoft's drives alone, by https and without following a redirect: an
//! address that comes in an activity must not make us speak to a machine of our own network.

use std::{sync::PoisonError, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{Teams, activity::Activity, http::causes, pace::Turn, place};
use crate::{
    chat::platform::{Error, Post, Upload},
    store::{Conversation, files::MAX_FILE_BYTES},
};

/// What stands in a card's context for the file's id.
const FILE: &str = "odFile";
/// How long a file may take on its way.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long what became of a file waits for its turn to be shown.
const LATE: Duration = Duration::from_mins(10);
/// How long until it is tried again, where the drive does not take it at once.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// What somebody says of a file that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The conversation.
    pub conversation: Conversation,
    /// The message that offered it.
    pub message: String,
    /// The file's id.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Where it goes; none where it is not wanted.
    pub room: Option<Room>,
}

/// Room for a file in somebody's drive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// What people open.
    pub content_url: String,
    /// Where the bytes go. Whoever knows it can write there.
    pub upload_url: Url,
    /// The drive's id of it.
    #[serde(default)]
    pub unique_id: String,
    /// What kind of file it is.
    #[serde(default)]
    pub file_type: String,
    /// Its name, which the drive may have changed.
    #[serde(default)]
    pub name: String,
}

/// What an invoke says of a file; none where it is not about one of ours.
#[must_use]
pub fn consent(activity: &Activity) -> Option<Consent> {
    let value = &activity.value;
    let file = value["context"][FILE].as_str()?.to_owned();
    let name = value["context"]["name"].as_str().unwrap_or("file").to_owned();
    let room = match value["action"].as_str()? {
        "accept" => Some(serde_json::from_value(value["uploadInfo"].clone()).ok()?),
        "decline" => None,
        _ => return None,
    };
    let (channel, thread) = activity.channel_and_thread();
    let conversation = Conversation {
        platform: super::NAME.to_owned(),
        channel: channel.to_owned(),
        thread: thread.map(str::to_owned),
    };
    let message = activity.reply_to_id.clone().filter(|id| !id.is_empty())?;
    Some(Consent { conversation, message, file, name, room })
}

/// The card that asks.
fn question(name: &str, size: usize, file: &str) -> Value {
    let context = json!({FILE: file, "name": name});
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.teams.card.file.consent",
            "name": name,
            "content": {
                "description": "From an agent",
                "sizeInBytes": size,
                "acceptContext": context,
                "declineContext": context,
            },
        }],
    })
}

/// The card that opens a file.
fn info(name: &str, room: &Room) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.teams.card.file.info",
            "name": name,
            "contentUrl": room.content_url,
            "content": {"uniqueId": room.unique_id, "fileType": room.file_type},
        }],
    })
}

fn words(text: &str) -> Value {
    json!({"type": "message", "textFormat": "markdown", "text": text, "attachments": []})
}

impl Teams {
    /// Offers a file.
    pub(super) async fn offer(&self, post: &Post<'_>, file: &Upload) -> Result<String, Error> {
        let kept = self.files.put_bytes(file.bytes.clone(), MAX_FILE_BYTES).await;
        let kept = kept.map_err(|error| Error::Rejected(error.to_string()))?;
        let to = self.recipient(post.conversation).await?;
        let card = to.answers(question(&file.name, file.bytes.len(), &kept.id), post.reply_to);
        self.connector.post(&to.service_url, &to.conversation, &card).await
    }

    /// Does what somebody said of a file, and shows in place of the question what became of it. The
    /// question stays until then, so that what a restart cut off can be said again.
    pub(super) async fn consented(&self, consent: Consent) {
        let sending = || self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if !sending().insert(consent.message.clone()) {
            return;
        }
        let shows = match &consent.room {
            None => Ok(words(&format!(
                "{} was not sent; open-dispatch logs has all of it",
                consent.name
            ))),
            Some(room) => self.send_file(&consent.file, room).await.map(|()| {
                let name = if room.name.is_empty() { &consent.name } else { &room.name };
                info(name, room)
            }),
        };
        let shows = shows.unwrap_or_else(|why| {
            tracing::warn!("a file was not sent to Teams: {why}");
            let name = &consent.name;
            words(&format!("! {name} could not be sent: {why}; open-dispatch logs has all of it"))
        });
        if let Err(error) = self.replace(&consent, shows).await {
            tracing::warn!("what became of a file is not shown in Teams: {error}");
        }
        sending().remove(&consent.message);
    }

    async fn replace(&self, consent: &Consent, shows: Value) -> Result<(), Error> {
        let to = self.recipient(&consent.conversation).await?;
        let mut activity = to.answers(shows, None);
        activity["id"] = consent.message.as_str().into();
        let place = place(&consent.conversation);
        let mut waits = AGAIN.into_iter();
        let late = self.ambient.clock.elapsed() + LATE;
        loop {
            let put = self.connector.put(
                &to.service_url,
                &place,
                &consent.message,
                Turn::Last,
                &activity,
            );
            let wait = match put.await {
                // Whoever has to wait for their turn has not tried yet.
                Err(Error::RateLimited(wait)) if self.ambient.clock.elapsed() < late => wait,
                Err(error @ (Error::Ambiguous(_) | Error::Unreachable(_))) => {
                    waits.next().ok_or(error)?
                }
                done => return done,
            };
            self.ambient.clock.sleep(wait).await;
        }
    }

    /// Sends a file into the room that was made for it.
    async fn send_file(&self, file: &str, room: &Room) -> Result<(), String> {
        if !self.is_drive(&room.upload_url) {
            let host = room.upload_url.host_str().unwrap_or("?");
            return Err(format!("{host} is no drive of Microsoft's"));
        }
        let gone = "it is kept no longer";
        let path = self.files.open_file(file).await;
        let (mut opened, size) = path.map_err(|_| gone.to_owned())?;
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut opened, &mut bytes)
            .await
            .map_err(|error| format!("it cannot be read: {error}"))?;
        let bytes = Bytes::from(bytes);
        let mut waits = AGAIN.into_iter();
        loop {
            let sent = self
                .http
                .put(room.upload_url.clone())
                .timeout(PATIENCE)
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("bytes 0-{}/{size}", size.saturating_sub(1)))
                .body(bytes.clone())
                .send()
                .await;
            // The same bytes at the same place: again does no harm.
            let why = match sent {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("the drive answers with HTTP {}", answer.status().as_u16()),
                Err(error) => causes(&error.without_url()),
            };
            match waits.next() {
                Some(wait) => self.ambient.clock.sleep(wait).await,
                None => return Err(why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: Value) -> Option<Consent> {
        let activity = json!({
            "type": "invoke",
            "name": "fileConsent/invoke",
            "id": "f:1",
            "replyToId": "17",
            "conversation": {"id": "a:1", "conversationType": "personal"},
            "value": value,
        });
        consent(&serde_json::from_value(activity).expect("an activity"))
    }

    #[test]
    fn a_yes_says_where_the_file_goes_and_a_no_that_it_goes_nowhere() {
        let context = json!({FILE: "abc", "name": "bot.md"});
        let yes = json!({
            "type": "fileUpload",
            "action": "accept",
            "context": context,
            "uploadInfo": {
                "contentUrl": "https://contoso.sharepoint.com/bot.md",
                "uploadUrl": "https://contoso.sharepoint.com/up",
                "name": "bot 1.md",
                "uniqueId": "u",
                "fileType": "md",
            },
        });
        let yes = said(yes).expect("a consent");
        assert_eq!((yes.file.as_str(), yes.message.as_str()), ("abc", "17"));
        let room = yes.room.expect("a room");
        assert_eq!((room.name.as_str(), room.unique_id.as_str()), ("bot 1.md", "u"));
        let no = said(json!({"action": "decline", "context": context})).expect("a consent");
        assert_eq!(no.room, None);
        assert_eq!(said(json!({"action": "accept", "context": context})), None, "no room");
        assert_eq!(said(json!({"action": "decline", "context": {"file": "theirs"}})), None);
    }
}
