//! What an event does not tell, looked up at Slack: what was said before a line in its thread, and
//! the files of a mention.
//!
//! An agent in a channel hears a thread from the line on that is meant for it. What was said
//! before, by people who may not talk to agents, by other apps, or before the agent was there,
//! goes with that line as quotes. Nothing is kept for that: the receipts of lines say up to which
//! message an agent was told, and as long as those are kept our own last word says the rest.
//!
//! Quotes are convenience: where they do not come, the line goes on without them, and the log says
//! so. Files are not: a mention that Slack tells without its files is left to the other event about
//! the same message, should they not be found.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::{
    Slack,
    api::Failure,
    envelope::{Heard, Me, Shared, files},
    lock,
    marks::{plain_text, without_mention},
};
use crate::{
    access::quote::{LONGEST, Quoted},
    chat::{
        Commands, Incoming, Via,
        grammar::{self, Line},
    },
};

/// How long a line waits for what was said before it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many messages Slack tells at once.
const PAGE: &str = "200";
/// How many pages of a thread are read.
const PAGES: usize = 10;
/// How many of a thread's messages are kept, the newest.
const KEPT: usize = 200;
/// For so many seconds it is known which lines an agent was told: a receipt's life.
const KNOWN: u64 = 24 * 3600;

/// A message of a thread.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// Ours.
    Ours {
        /// When, in seconds.
        at: u64,
    },
    /// Somebody else's.
    Theirs {
        /// Its name.
        ts: String,
        /// Who wrote it; empty for other apps, which anybody can make say anything.
        user: String,
        /// What its author is called, where that need not be asked.
        name: Option<String>,
        /// What they wrote.
        text: String,
    },
}

impl Slack {
    /// What was said in a thread before a line, for an agent that has not heard it, oldest first.
    pub(super) async fn said_before(
        &self,
        line: &Incoming,
        at: Option<&str>,
        commands: &Commands,
    ) -> Vec<Quoted> {
        let (Some(thread), Some(at)) = (&line.conversation.thread, at) else { return Vec::new() };
        // Should the store fail, it fails the line as well.
        if line.via == Via::Pressed
            || !commands.would_reach_an_agent(line).await.unwrap_or_default()
        {
            return Vec::new();
        }
        let why = tokio::select! {
            thread = self.thread(&line.conversation.channel, thread, at) => match thread {
                Ok(said) => return self.untold(line, said, at, commands).await,
                Err(failure) => failure.to_string(),
            },
            () = self.ambient.clock.sleep(PATIENCE) => {
                format!("Slack took longer than {} s", PATIENCE.as_secs())
            }
        };
        tracing::warn!(
            key = line.key,
            "what was said before it in its thread did not come, and the line goes on without: {why}"
        );
        Vec::new()
    }

    /// The messages of a thread in front of one of them, oldest first.
    async fn thread(&self, channel: &str, thread: &str, at: &str) -> Result<Vec<Said>, Failure> {
        let mut arguments = vec![
            ("channel", channel.to_owned()),
            ("ts", thread.to_owned()),
            ("latest", at.to_owned()),
            ("limit", PAGE.to_owned()),
        ];
        let (start, me) = (arguments.len(), self.me());
        let mut messages: Vec<Value> = Vec::new();
        for _ in 0..PAGES {
            let mut page = self.api.get("conversations.replies", &arguments).await?;
            if let Some(Value::Array(more)) = page.get_mut("messages").map(Value::take) {
                messages.extend(more.into_iter().filter(|message| time(message) < seconds(at)));
            }
            // The first one of a thread may stand on each page.
            messages.sort_by_key(time);
            messages.dedup_by_key(|message| time(message));
            messages.drain(..messages.len().saturating_sub(KEPT));
            let next = page.pointer("/response_metadata/next_cursor").and_then(Value::as_str);
            let Some(next) = next.filter(|next| !next.is_empty()) else { break };
            arguments.truncate(start);
            arguments.push(("cursor", next.to_owned()));
        }
        Ok(messages.iter().filter_map(|message| said(message, &me)).collect())
    }

    /// Those messages of a thread that no agent was told.
    async fn untold(
        &self,
        line: &Incoming,
        said: Vec<Said>,
        at: &str,
        commands: &Commands,
    ) -> Vec<Quoted> {
        let (now, _) = seconds(at);
        // All messages of a thread have the same key, save for their names.
        let place = line.key.rsplit_once('/').map_or("", |(place, _)| place);
        let mut untold = Vec::new();
        for said in said.into_iter().rev() {
            match said {
                // With ours, all was told that stood in front.
                Said::Ours { at } if now.saturating_sub(at) > KNOWN => break,
                Said::Ours { .. } => {}
                Said::Theirs { ts, user, name, text } => {
                    let key = format!("{place}/{ts}");
                    if commands.reached_an_agent(&key).await.unwrap_or_default() {
                        break;
                    }
                    // What was a command was said to us.
                    if matches!(grammar::parse(&text), Ok(Line::Plain(_))) {
                        untold.push((user, name, text));
                    }
                }
            }
        }
        untold.reverse();
        join_all(untold.into_iter().map(|(user, name, text)| async move {
            let author = match name {
                Some(name) => name,
                None => self.name_of(&user).await,
            };
            Quoted { author, user, trusted: false, text }
        }))
        .await
    }

    /// The files of a message that Slack told without saying whether it has any. None where they
    /// are left to the other event about the same message.
    pub(super) async fn files_of(&self, heard: &Heard, key: &str) -> Option<Vec<Shared>> {
        let Some(at) = heard.at.as_deref().filter(|_| heard.files_untold) else {
            return Some(heard.files.clone());
        };
        let asked = tokio::select! {
            message = self.message(&heard.channel, heard.thread.as_deref(), at) => message,
            () = self.ambient.clock.sleep(PATIENCE) => {
                Err(Failure::Unclear(format!("it took longer than {} s", PATIENCE.as_secs())))
            }
        };
        let why = match asked {
            Ok(Some(message)) => return Some(files(&message)),
            Ok(None) => "the message is not there".to_owned(),
            Err(failure) => failure.to_string(),
        };
        let first = lock(&self.memory).doubt(key);
        if first {
            tracing::debug!(key, "the files of a mention are not known yet: {why}");
            return None;
        }
        tracing::warn!(key, "whether files came with a mention is not known: {why}");
        Some(Vec::new())
    }

    /// A message.
    async fn message(
        &self,
        channel: &str,
        thread: Option<&str>,
        at: &str,
    ) -> Result<Option<Value>, Failure> {
        let mut arguments = vec![
            ("channel", channel.to_owned()),
            ("oldest", at.to_owned()),
            ("latest", at.to_owned()),
            ("inclusive", "true".to_owned()),
            // The first of a thread comes with any of it.
            ("limit", "2".to_owned()),
        ];
        let method = match thread {
            Some(thread) => {
                arguments.push(("ts", thread.to_owned()));
                "conversations.replies"
            }
            None => "conversations.history",
        };
        let mut page = self.api.get(method, &arguments).await?;
        let Some(Value::Array(messages)) = page.get_mut("messages").map(Value::take) else {
            return Ok(None);
        };
        Ok(messages.into_iter().find(|message| message["ts"] == json!(at)))
    }

    /// Where a file is, of which Slack told no more than that it is there.
    pub(super) async fn place_of(&self, file: &Shared) -> Option<Shared> {
        let arguments = [("file", file.id.clone())];
        let info = tokio::select! {
            info = self.api.get("files.info", &arguments) => info,
            () = self.ambient.clock.sleep(PATIENCE) => return None,
        };
        let found = info.map(|info| files(&json!({ "files": [info["file"]] })));
        found.unwrap_or_default().into_iter().next().filter(|file| !file.url.is_empty())
    }
}

/// A message of a thread, if it says anything.
fn said(message: &Value, me: &Me) -> Option<Said> {
    let word = |path: &str| message.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let (user, bot) = (word("/user"), word("/bot_id"));
    let (at, _) = time(message);
    if (!me.user.is_empty() && user == me.user) || (!me.bot.is_empty() && bot == me.bot) {
        return Some(Said::Ours { at });
    }
    if !matches!(word("/subtype"), "" | "file_share" | "thread_broadcast" | "bot_message") {
        return None;
    }
    let mut text = plain_text(&without_mention(word("/text"), &me.user));
    let is_own = !text.trim().is_empty();
    let parts = message.get("attachments").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !is_own {
        // Apps say much in attachments alone, and what is forwarded stands there, too.
        let said: Vec<String> = parts
            .iter()
            .filter_map(|part| ["text", "fallback"].iter().find_map(|name| part[*name].as_str()))
            .map(plain_text)
            .collect();
        text = said.join("\n");
    }
    // What a person forwards or links to is not theirs, and nobody vouches for who wrote it.
    let is_others = !is_own && !text.trim().is_empty();
    for file in files(message) {
        text.push_str(if text.is_empty() { "" } else { "\n" });
        text.push_str(&format!("[with the file {}]", file.name));
    }
    if text.trim().is_empty() {
        return None;
    }
    let app = !bot.is_empty();
    let name = ["/username", "/bot_profile/name"].iter().map(|path| word(path));
    let name = name.filter(|name| app && !name.is_empty()).map(str::to_owned).next();
    let unnamed = if app || user.is_empty() { Some("an app") } else { None };
    let author = || parts.iter().find_map(|part| part["author_name"].as_str());
    let unnamed = unnamed.or_else(|| is_others.then(|| author().unwrap_or("somebody")));
    Some(Said::Theirs {
        ts: word("/ts").to_owned(),
        user: if app || is_others { String::new() } else { user.to_owned() },
        name: name.or_else(|| unnamed.map(str::to_owned)),
        // One more than is shown, so that it is seen to be cut.
        text: text.chars().take(LONGEST + 1).collect(),
    })
}

/// When a message was written: seconds, and its place among those of that second.
fn time(message: &Value) -> (u64, u64) {
    seconds(message["ts"].as_str().unwrap_or_default())
}

fn seconds(ts: &str) -> (u64, u64) {
    let (seconds, place) = ts.split_once('.').unwrap_or((ts, ""));
    (seconds.parse().unwrap_or_default(), place.parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> Me {
        Me { team: "T1".into(), user: "UBOT".into(), bot: "BBOT".into() }
    }

    fn theirs(user: &str, name: Option<&str>, text: &str) -> Option<Said> {
        let name = name.map(str::to_owned);
        Some(Said::Theirs { ts: "5.1".into(), user: user.into(), name, text: text.into() })
    }

    #[test]
    fn a_thread_is_read_for_what_others_said() {
        for (message, read) in [
            (json!({"user": "U1", "text": "a &lt;b&gt;"}), theirs("U1", None, "a <b>")),
            (json!({"user": "U1", "text": "<@UBOT> do"}), theirs("U1", None, "do")),
            (json!({"user": "UBOT", "text": "done"}), Some(Said::Ours { at: 5 })),
            (json!({"bot_id": "BBOT", "text": "done"}), Some(Said::Ours { at: 5 })),
            (json!({"user": "U1", "subtype": "channel_join", "text": "joined"}), None),
            (json!({"user": "U1", "text": " "}), None),
            (
                json!({"user": "U1", "subtype": "file_share", "text": "see",
                       "files": [{"id": "F1", "name": "a.log"}]}),
                theirs("U1", None, "see\n[with the file a.log]"),
            ),
            // Whoever can make an app speak is not who its user is.
            (
                json!({"user": "U7", "bot_id": "B2", "bot_profile": {"name": "CI"},
                       "attachments": [{"text": "red"}, {"fallback": "build 7"}]}),
                theirs("", Some("CI"), "red\nbuild 7"),
            ),
            // Nor is a stranger's text that of whoever forwards it, or links to it.
            (
                json!({"user": "U1", "text": "", "attachments":
                       [{"is_share": true, "author_name": "Eve", "text": "do as I say"}]}),
                theirs("", Some("Eve"), "do as I say"),
            ),
            (
                json!({"user": "U1", "attachments": [{"fallback": "a page"}]}),
                theirs("", Some("somebody"), "a page"),
            ),
            (
                json!({"user": "U1", "text": "see", "attachments": [{"text": "a page"}]}),
                theirs("U1", None, "see"),
            ),
            (
                json!({"bot_id": "B2", "subtype": "bot_message", "text": "hi"}),
                theirs("", Some("an app"), "hi"),
            ),
        ] {
            let mut message = message;
            message["ts"] = json!("5.1");
            assert_eq!(said(&message, &me()), read, "{message}");
        }
    }

    #[test]
    fn what_is_too_long_is_seen_to_be_cut_and_no_more_is_kept() {
        let long = json!({"ts": "5.1", "user": "U1", "text": "ä".repeat(LONGEST * 3)});
        let Some(Said::Theirs { text, .. }) = said(&long, &me()) else { panic!("nothing") };
        assert_eq!(text.chars().count(), LONGEST + 1);
    }

    #[test]
    fn times_are_numbers_and_not_words() {
        assert!(seconds("999999999.900000") < seconds("1000000000.000001"));
        assert!(seconds("5.000002") < seconds("5.000010"));
        assert_eq!(seconds("nonsense"), (0, 0));
    }
}
