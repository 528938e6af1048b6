//! The mouth: what we say on Slack.
//!
//! A post carries its nonce as message metadata, so that one whose answer was lost is found
//! again in the channel's history. A message that shows a file can have no metadata; there a mark
//! made of the nonce stands in the file's name, which people see when they save it, and the title,
//! which they see in the channel, is the name alone. Where a slash command came from a channel that the bot is not
//! in, the address that came with the command still reaches who typed it: that is how they learn
//! to invite it.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    NAME, Slack,
    api::{Failure, With, refusal},
    blocks::{MAX_BUTTONS, fields, harmless},
    lock,
};
use crate::{
    chat::{
        platform::{Capabilities, Content, Dialect, Error, Markup, Nonce, Platform, Post, Upload},
        split::Unit,
    },
    store::{Conversation, files::MAX_FILE_BYTES},
};

/// What the metadata of our posts is called.
const EVENT: &str = "open_dispatch_delivery";
/// How far back beyond a delivery's birth its post is looked for: clocks differ.
const MARGIN: Duration = Duration::from_secs(300);
/// The most pages of history that are looked through.
const PAGES: usize = 10;
/// How often it is looked whether a file is shown, where Slack did not say so, and how long between.
const LOOKS: usize = 5;
const LOOK: Duration = Duration::from_secs(1);
/// How the ids of messages begin that show a file and whose own id Slack did not tell.
const FILE: &str = "file/";

/// The time that an edit costs. A workspace takes about 50 in a minute, from all conversations
/// together; with those that go at once, these are no more.
pub(super) const EDIT: Duration = Duration::from_millis(1400);
/// How many edits may go at once.
pub(super) const EDITS_AT_ONCE: u32 = 7;
/// How many of them are left to those that somebody waits for: what ends a message, or asks.
const LEFT_TO_LAST: u32 = 4;

/// What Slack can do.
pub(super) const CAPABILITIES: Capabilities = Capabilities {
    // An edit of more than 4,000 bytes is refused.
    max_message: 3900,
    unit: Unit::Bytes,
    markup: Markup::Markdown,
    dialect: Dialect::Slack,
    pace: EDIT,
    lookup: true,
    placeholder: "…",
    buttons: MAX_BUTTONS,
    whispers: true,
    max_file: MAX_FILE_BYTES,
    max_messages: 3,
};

/// The arguments of a call, with the thread where there is one.
fn in_thread(conversation: &Conversation, mut body: Value) -> Value {
    body["channel"] = json!(conversation.channel);
    if let Some(thread) = &conversation.thread {
        body["thread_ts"] = json!(thread);
    }
    body
}

/// When a delivery was born, as Slack writes times; its id holds that.
fn born(nonce: &Nonce) -> Option<String> {
    let (seconds, _) = uuid::Uuid::parse_str(&nonce.delivery).ok()?.get_timestamp()?.to_unix();
    Some(format!("{}.000000", seconds.saturating_sub(MARGIN.as_secs())))
}

/// The mark of a nonce in the name of a file.
fn mark(nonce: &str) -> String {
    let digest = Sha256::digest(nonce);
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a file with the mark of its nonce in front of its ending.
fn marked(name: &str, nonce: &str) -> String {
    let (front, ending) = match name.rsplit_once('.') {
        Some((front, ending)) if !front.is_empty() => (front, format!(".{ending}")),
        _ => (name, String::new()),
    };
    format!("{front}-{}{ending}", mark(nonce))
}

/// Whether the name of a file carries the mark of a nonce.
fn is_marked(name: &str, nonce: &str) -> bool {
    let front = name.rsplit_once('.').map_or(name, |(front, _)| front);
    let mark = format!("-{}", mark(nonce));
    front.ends_with(&mark) || name.ends_with(&mark)
}

/// The message of a page of history that carries a nonce.
fn with_nonce(page: &Value, nonce: &str) -> Option<String> {
    let messages = page.get("messages")?.as_array()?;
    let found = messages.iter().find(|message| {
        let files = message.get("files").and_then(Value::as_array);
        message.pointer("/metadata/event_payload/nonce").and_then(Value::as_str) == Some(nonce)
            || files.is_some_and(|files| {
                files.iter().filter_map(|file| file["name"].as_str()).any(|it| is_marked(it, nonce))
            })
    })?;
    found.get("ts")?.as_str().map(str::to_owned)
}

impl Slack {
    /// Tells who typed a command that the bot cannot answer in its channel, if Slack gave an
    /// address for that.
    async fn tell(&self, handle: Option<&str>, why: &str) {
        let content = Content::from(format!("I cannot answer here: {why}").as_str());
        if let Some(Err(error)) = self.answer(handle, &content).await {
            tracing::debug!("Slack's address for an answer was not reached: {error}");
        }
    }

    /// Answers at the address that came with a command or a press, if there is one. It is gone
    /// once it was used or Slack does not know it any more.
    async fn answer(&self, handle: Option<&str>, content: &Content) -> Option<Result<(), Error>> {
        let handle = handle?;
        let url = self.answers().get(handle)?;
        let answer = self.respond(&url, content).await;
        if matches!(answer, Ok(()) | Err(Error::Rejected(_))) {
            self.answers().remove(handle);
        }
        Some(answer)
    }

    /// Answers a command or a press at the address that came with it, seen by that person alone.
    async fn respond(&self, url: &str, content: &Content) -> Result<(), Error> {
        let mut body = fields(content);
        body["response_type"] = json!("ephemeral");
        body["replace_original"] = json!(false);
        let sent = self.http.post(url).json(&body).send().await;
        let response = sent.map_err(|error| {
            let connect = error.is_connect();
            let why = error.without_url().to_string();
            if connect { Error::Unreachable(why) } else { Error::Ambiguous(why) }
        })?;
        match response.status().as_u16() {
            200..300 => Ok(()),
            429 => Err(Error::RateLimited(Duration::from_secs(5))),
            // Slack's own trouble, which says nothing of what was done.
            code @ 500.. => Err(Error::Ambiguous(format!("Slack answers with HTTP status {code}"))),
            code => Err(Error::Rejected(format!("Slack answers with HTTP status {code}"))),
        }
    }

    /// Takes the channel's turn to post.
    fn turn(&self, channel: &str) -> Result<(), Error> {
        let now = self.ambient.clock.elapsed();
        self.posts().take(&channel.to_owned(), now).map_err(Error::RateLimited)
    }

    async fn share(&self, post: &Post<'_>, file: &Upload, id: &str) -> Result<Value, Failure> {
        let title = harmless(&file.name);
        let mut body =
            in_thread(post.conversation, json!({ "files": [{ "id": id, "title": title }] }));
        body["channel_id"] = json!(post.conversation.channel);
        let answer = self.api.post(With::Bot, "files.completeUploadExternal", &body).await;
        if let Err(Failure::Unclear(_)) = &answer {
            // What became of it stands with the file, some time later.
            for _ in 0..LOOKS {
                let info = self.api.get("files.info", &[("file", id.to_owned())]).await;
                if let Ok(info) = info
                    && shared_as(&info["file"], &post.conversation.channel).is_some()
                {
                    return Ok(json!({ "files": [info["file"]] }));
                }
                self.ambient.clock.sleep(LOOK).await;
            }
        }
        answer
    }
}

/// The message that shows a file in a channel, as far as Slack knows it yet.
fn shared_as(file: &Value, channel: &str) -> Option<String> {
    let shares = file.get("shares")?.as_object()?;
    shares.values().find_map(|kind| {
        let ts = kind.get(channel)?.get(0)?.get("ts")?.as_str()?;
        Some(ts.to_owned())
    })
}

#[async_trait]
impl Platform for Slack {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn post(&self, post: &Post<'_>) -> Result<String, Error> {
        let channel = &post.conversation.channel;
        self.turn(channel)?;
        let metadata =
            json!({ "event_type": EVENT, "event_payload": { "nonce": post.nonce.to_string() } });
        let body = json!({ "text": harmless(post.text), "metadata": metadata,
                           "unfurl_links": false, "unfurl_media": false });
        let body = in_thread(post.conversation, body);
        match self.api.post(With::Bot, "chat.postMessage", &body).await {
            Ok(answer) => match answer.get("ts").and_then(Value::as_str) {
                Some(ts) => Ok(ts.to_owned()),
                None => Err(Error::Ambiguous("Slack named no message".to_owned())),
            },
            Err(failure) => {
                // What is over in a moment is not worth a word.
                let shut = ["not_in_channel", "is_archived", "channel_not_found"];
                let is_shut_out =
                    matches!(&failure, Failure::Said(word) if shut.contains(&word.as_str()));
                let error = failure.of_post(channel);
                if let (true, Error::Unreachable(why) | Error::Gone(why)) = (is_shut_out, &error) {
                    self.tell(post.reply_to, why).await;
                }
                Err(error)
            }
        }
    }

    async fn edit(
        &self,
        conversation: &Conversation,
        message: &str,
        content: &Content,
        last: bool,
    ) -> Result<(), Error> {
        if message.starts_with(FILE) {
            return Err(Error::Rejected("a file's message cannot be edited".to_owned()));
        }
        let others = if last || !content.actions.is_empty() { 0 } else { LEFT_TO_LAST };
        let now = self.ambient.clock.elapsed();
        lock(&self.edits).take_leaving(others, &(), now).map_err(Error::RateLimited)?;
        let mut body = fields(content);
        body["channel"] = json!(conversation.channel);
        body["ts"] = json!(message);
        // An empty text is refused; what is to show nothing shows the sign of that.
        if content.text.is_empty() {
            body["text"] = json!(CAPABILITIES.placeholder);
        }
        match self.api.post(With::Bot, "chat.update", &body).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.of_post(&conversation.channel)),
        }
    }

    async fn find(
        &self,
        conversation: &Conversation,
        nonce: &Nonce,
    ) -> Result<Option<String>, Error> {
        let name = nonce.to_string();
        let mut arguments = vec![
            ("channel", conversation.channel.clone()),
            ("include_all_metadata", "true".to_owned()),
            ("limit", "200".to_owned()),
        ];
        let method = match &conversation.thread {
            Some(thread) => {
                arguments.push(("ts", thread.clone()));
                "conversations.replies"
            }
            None => "conversations.history",
        };
        if let Some(born) = born(nonce) {
            arguments.push(("oldest", born));
        }
        let start = arguments.len();
        for _ in 0..PAGES {
            let page = self.api.get(method, &arguments).await.map_err(|failure| match failure {
                // Where the thread is gone, so is what was posted to it.
                Failure::Said(word) => refusal(&word, &conversation.channel),
                failure => failure.of_post(&conversation.channel),
            })?;
            if let Some(found) = with_nonce(&page, &name) {
                return Ok(Some(found));
            }
            let next = page.pointer("/response_metadata/next_cursor").and_then(Value::as_str);
            let Some(next) = next.filter(|next| !next.is_empty()) else { return Ok(None) };
            arguments.truncate(start);
            arguments.push(("cursor", next.to_owned()));
        }
        // At worst an empty placeholder stays behind.
        tracing::warn!("a post was not found among {} messages of Slack's", PAGES * 200);
        Ok(None)
    }

    async fn whisper(&self, post: &Post<'_>, to: &str, content: &Content) -> Result<(), Error> {
        match self.answer(post.reply_to, content).await {
            // There is no address, or it is too old, or used up.
            None | Some(Err(Error::Rejected(_))) => {}
            Some(answer) => return answer,
        }
        self.turn(&post.conversation.channel)?;
        let mut body = in_thread(post.conversation, fields(content));
        body["user"] = json!(to);
        match self.api.post(With::Bot, "chat.postEphemeral", &body).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.of_post(&post.conversation.channel)),
        }
    }

    async fn upload(&self, post: &Post<'_>, file: &Upload) -> Result<String, Error> {
        let channel = &post.conversation.channel;
        if file.bytes.is_empty() {
            return Err(Error::Rejected(format!("{} is empty, which Slack refuses", file.name)));
        }
        self.turn(channel)?;
        // Nothing is seen of a file before it is shared, so until then all can be done again.
        let unseen = |failure: Failure| match failure {
            Failure::Unclear(why) => Error::Unreachable(format!("Slack gave no answer: {why}")),
            failure => failure.of_post(channel),
        };
        let name = marked(&file.name, &post.nonce.to_string());
        let arguments = [("filename", name), ("length", file.bytes.len().to_string())];
        let place = self.api.get("files.getUploadURLExternal", &arguments).await.map_err(unseen)?;
        let (Some(url), Some(id)) = (place["upload_url"].as_str(), place["file_id"].as_str())
        else {
            return Err(Error::Unreachable("Slack named no place for the file".to_owned()));
        };
        let sent = self.http.post(url).body(file.bytes.clone()).send().await;
        let sent = sent.and_then(reqwest::Response::error_for_status).map_err(|error| {
            Error::Unreachable(format!("the file did not go up: {}", error.without_url()))
        });
        sent?;
        let answer =
            self.share(post, file, id).await.map_err(|failure| failure.of_post(channel))?;
        // Sharing ends later than this answer; then the message has no name yet.
        let shared = shared_as(&answer["files"][0], channel);
        Ok(shared.unwrap_or_else(|| format!("{FILE}{id}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_is_looked_for_from_its_birth_on() {
        let nonce = |delivery: &str| Nonce { delivery: delivery.into(), index: 0 };
        let born = |delivery: &str| born(&nonce(delivery));
        // 2026-01-01T00:00:00Z in milliseconds is 019b76daa800.
        let at = born("019b76da-a800-7000-8000-000000000000").unwrap();
        assert_eq!(at, format!("{}.000000", 1_767_225_600 - 300));
        assert_eq!(born("no uuid"), None);
    }

    #[test]
    fn a_page_is_searched_by_metadata_and_names_of_files_and_by_nothing_else() {
        let page = json!({ "messages": [
            { "ts": "3.0", "text": "d.0" },
            { "ts": "2.0", "metadata": { "event_payload": { "nonce": "d.0" } } },
            { "ts": "1.0", "files": [{ "name": marked("bot.md", "d.1"), "title": "bot.md" }] },
            { "ts": "0.5", "files": [{ "name": "bot.md" }, { "id": "F1" }] },
        ]});
        assert_eq!(with_nonce(&page, "d.0").as_deref(), Some("2.0"));
        assert_eq!(with_nonce(&page, "d.1").as_deref(), Some("1.0"));
        assert_eq!(with_nonce(&page, "d.2"), None);
    }

    #[test]
    fn a_file_keeps_its_ending_behind_the_mark() {
        for name in ["bot.md", "bot", ".env", "a.b.txt", "n."] {
            let file = marked(name, "d.1");
            assert!(is_marked(&file, "d.1") && !is_marked(&file, "d.10"), "{file}");
            assert_eq!(file.replace(&format!("-{}", mark("d.1")), ""), name);
        }
        assert!(marked("bot.md", "d.1").ends_with(".md"));
    }

    #[test]
    fn a_shared_file_names_its_message() {
        let file = json!({ "shares": { "private": { "C1": [{ "ts": "4.0" }] } } });
        assert_eq!(shared_as(&file, "C1").as_deref(), Some("4.0"));
        assert_eq!(shared_as(&file, "C2"), None);
        assert_eq!(shared_as(&json!({}), "C1"), None);
    }
}
