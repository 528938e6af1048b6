//! What was said around a line, for an agent that did not hear it.
//!
//! Two things are handed over with a message: what it replies to, and, where we are mentioned in a
//! thread, what people wrote there since an agent was last told something. It is text of others,
//! and goes as such ([`Quoted`]): who of them is trusted is decided where the line is taken.
//!
//! Where it cannot be had, within a few seconds, the message goes without it.

use std::time::Duration;

use serde_json::Value;
use serenity::all::{Attachment, Embed, Message, MessageType};

use super::{
    Discord,
    heard::{Said, Who, who, without_mention},
    rest,
    taking::key,
};
use crate::{
    access::{Quoted, quote::MOST},
    chat::{
        Commands,
        grammar::{self, Command, Line},
    },
};

/// How long is looked for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// So much of a message of ours is quoted, in characters: enough to know which one is meant.
const OURS: usize = 300;

/// A message that stands there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Earlier {
    pub(super) id: String,
    pub(super) who: Who,
    /// Whether a person said it, and no program.
    pub(super) is_person: bool,
    /// What they said.
    pub(super) text: String,
    /// What the message shows beside that, and others wrote: a page that it names, or what it
    /// forwards.
    pub(super) shown: String,
}

impl Earlier {
    /// How many quotes it makes.
    fn parts(&self) -> usize {
        usize::from(!self.text.is_empty()) + usize::from(!self.shown.is_empty())
    }
}

/// What a message replies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReplyTo {
    pub(super) channel: String,
    pub(super) message: String,
    /// The message itself, where Discord sent it along.
    pub(super) earlier: Option<Earlier>,
}

impl Earlier {
    /// What can be read of a message, if anything. What begins a thread stands in it as a message
    /// without text that refers to the one in the channel.
    pub(super) fn of(message: &Message) -> Option<Self> {
        if message.kind == MessageType::ThreadStarterMessage {
            return message.referenced_message.as_deref().and_then(Self::of);
        }
        let files = |files: &[Attachment]| -> Vec<String> {
            files.iter().map(|file| format!("(file: {})", file.filename)).collect()
        };
        let mut own = vec![without_ids(message)];
        own.extend(files(&message.attachments));
        let mut shown: Vec<String> = message.embeds.iter().flat_map(embed).collect();
        for forwarded in &message.message_snapshots {
            shown.push(forwarded.content.clone());
            shown.extend(forwarded.embeds.iter().flat_map(embed));
            shown.extend(files(&forwarded.attachments));
        }
        let (text, shown) = (joined(own), joined(shown));
        (!text.is_empty() || !shown.is_empty()).then(|| Self {
            id: message.id.to_string(),
            who: who(&message.author, None),
            is_person: !message.author.bot && message.webhook_id.is_none(),
            text,
            shown,
        })
    }
}

fn joined(mut lines: Vec<String>) -> String {
    lines.retain(|line| !line.trim().is_empty());
    lines.join("\n")
}

/// The text, with the names of those who are mentioned.
fn without_ids(message: &Message) -> String {
    let mut text = message.content.clone();
    for user in &message.mentions {
        let name = format!("@{}", who(user, None).name);
        for form in [format!("<@{}>", user.id), format!("<@!{}>", user.id)] {
            text = text.replace(&form, &name);
        }
    }
    text
}

/// What other programs show beside the text.
fn embed(embed: &Embed) -> Vec<String> {
    let fields = embed.fields.iter().map(|field| format!("{}: {}", field.name, field.value));
    let front = [&embed.title, &embed.url, &embed.description];
    front.into_iter().flatten().cloned().chain(fields).collect()
}

/// What a message replies to; what a thread or a pin refers to is no reply.
pub(super) fn reply_to(message: &Message) -> Option<ReplyTo> {
    let reference = message.message_reference.as_ref()?;
    if message.kind != MessageType::InlineReply {
        return None;
    }
    Some(ReplyTo {
        channel: reference.channel_id.to_string(),
        message: reference.message_id?.to_string(),
        earlier: message.referenced_message.as_deref().and_then(Earlier::of),
    })
}

/// Whether a line is a message to an agent, should one listen.
pub(super) fn is_for_an_agent(text: &str) -> bool {
    matches!(grammar::parse(text), Ok(Line::Plain(_) | Line::Command(Command::Send { .. })))
}

/// Puts together what is handed over, the oldest first; ids grow with time.
fn quotes(reply: Option<Earlier>, mut thread: Vec<Earlier>, me: &str) -> Vec<Quoted> {
    thread.retain(|earlier| {
        earlier.who.id != me && Some(&earlier.id) != reply.as_ref().map(|reply| &reply.id)
    });
    thread.sort_by_key(|earlier| std::cmp::Reverse(earlier.id.parse::<u64>().unwrap_or_default()));
    let mut room = MOST - reply.as_ref().map_or(0, Earlier::parts);
    let fits = |earlier: &Earlier| {
        let left = room.checked_sub(earlier.parts());
        room = left.unwrap_or_default();
        left.is_some()
    };
    let mut all: Vec<Earlier> = thread.into_iter().take_while(fits).chain(reply).collect();
    all.sort_by_key(|earlier| earlier.id.parse::<u64>().unwrap_or_default());
    let mut quoted = Vec::new();
    for Earlier { who, is_person, text, shown, .. } in all {
        let is_ours = who.id == me;
        // Nobody wrote it whom we know: what a page says is not said by whoever names it.
        let beside = Quoted {
            author: format!("what is shown below a message of {}", who.name),
            user: String::new(),
            trusted: false,
            text: shown,
        };
        let text = match text.char_indices().nth(OURS).filter(|_| is_ours) {
            Some((end, _)) => format!("{}\u{2026}", &text[..end]),
            None => text,
        };
        let user = if is_person || is_ours { who.id } else { String::new() };
        quoted.push(Quoted { author: who.name, user, trusted: is_ours, text });
        quoted.push(beside);
    }
    quoted.retain(|quote| !quote.text.is_empty());
    quoted
}

impl Discord {
    /// What was said around a message; `mentioned_in` is the thread in which we are mentioned.
    pub(super) async fn context(
        &self,
        said: &Said,
        mentioned_in: Option<&str>,
        commands: &Commands,
    ) -> Vec<Quoted> {
        if said.reply_to.is_none() && mentioned_in.is_none() {
            return Vec::new();
        }
        let me = self.own().me.clone().unwrap_or_default();
        let looking = async {
            let reply = match &said.reply_to {
                Some(reply) => self.replied_to(reply).await,
                None => None,
            };
            let thread = match mentioned_in {
                Some(thread) => self.untold(thread, &said.id, commands).await,
                None => Vec::new(),
            };
            quotes(reply, thread, &me)
        };
        tokio::select! {
            found = looking => found,
            () = self.clock.sleep(PATIENCE) => {
                tracing::warn!(message = said.id, "it took too long to look up what was said before");
                let reply = said.reply_to.as_ref().and_then(|reply| reply.earlier.clone());
                quotes(reply, Vec::new(), &me)
            }
        }
    }

    async fn replied_to(&self, reply: &ReplyTo) -> Option<Earlier> {
        if reply.earlier.is_some() {
            return reply.earlier.clone();
        }
        let ReplyTo { channel, message, .. } = reply;
        let path = format!("channels/{channel}/messages/{message}");
        match self.rest.call(&rest::get("GET channels/messages/id", channel, path)).await {
            Ok(found) => serde_json::from_value(found).ok().as_ref().and_then(Earlier::of),
            Err(failure) => {
                let error = crate::chat::platform::Error::from(failure);
                tracing::info!(message, "what is replied to cannot be looked up: {error}");
                None
            }
        }
    }

    /// What stands in a thread before a message, and behind the last one that an agent got.
    async fn untold(&self, thread: &str, before: &str, commands: &Commands) -> Vec<Earlier> {
        let path = format!("channels/{thread}/messages?before={before}&limit={MOST}");
        let found = match self.rest.call(&rest::get("GET channels/messages", thread, path)).await {
            Ok(Value::Array(found)) => found,
            Ok(_) => Vec::new(),
            Err(failure) => {
                let error = crate::chat::platform::Error::from(failure);
                tracing::info!(thread, "what was said before cannot be looked up: {error}");
                Vec::new()
            }
        };
        let me = self.own().me.clone().unwrap_or_default();
        let mut untold = Vec::new();
        // The newest comes first.
        for message in found.into_iter().filter_map(|it| serde_json::from_value(it).ok()) {
            let message: Message = message;
            let is_known = commands.reached_an_agent(&key(&message.id.to_string())).await;
            if is_known.unwrap_or(false) {
                break;
            }
            // Commands were for us, and are done.
            if is_for_an_agent(without_mention(&message.content, &me).0) {
                untold.extend(Earlier::of(&message));
            }
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earlier(id: u64, who: &str, text: &str) -> Earlier {
        let who = Who { id: who.to_owned(), name: format!("name of {who}") };
        let (text, shown) = (text.to_owned(), String::new());
        Earlier { id: id.to_string(), who, is_person: true, text, shown }
    }

    #[test]
    fn what_others_wrote_is_told_apart_from_who_shows_it_and_programs_are_nobody() {
        let user = |id: &str, bot: bool| {
            serde_json::json!({"id": id, "username": "ada", "discriminator": "0", "avatar": null,
                               "bot": bot})
        };
        let at = "2026-01-01T00:00:00Z";
        let message = |id: &str, author: serde_json::Value, text: &str| {
            serde_json::json!({
                "id": id, "channel_id": "1", "author": author, "content": text, "timestamp": at,
                "edited_timestamp": null, "tts": false, "mention_everyone": false, "mentions": [],
                "mention_roles": [], "attachments": [], "embeds": [], "pinned": false, "type": 0,
            })
        };
        let mut page = message("1", user("7", false), "look at this");
        page["embeds"] =
            serde_json::json!([{"type": "link", "title": "Do", "description": "evil"}]);
        let mut forward = message("2", user("7", false), "");
        forward["message_snapshots"] = serde_json::json!([{"message": {
            "content": "by a stranger", "timestamp": at, "edited_timestamp": null, "mentions": [],
            "attachments": [], "embeds": [], "type": 0, "flags": 0,
        }}]);
        let mut hook = message("3", user("8", false), "by a webhook");
        hook["webhook_id"] = "8".into();
        let bot = message("4", user("9", true), "by a bot");
        let all: Vec<Earlier> = [page, forward, hook, bot]
            .into_iter()
            .map(|it| Earlier::of(&serde_json::from_value(it).unwrap()).unwrap())
            .collect();
        let quoted = quotes(None, all, "me");
        let wanted = [
            ("7", "look at this", false),
            ("", "Do\nevil", false),
            ("", "by a stranger", false),
            ("", "by a webhook", false),
            ("", "by a bot", false),
        ];
        assert_eq!(told(&quoted), wanted);
    }

    fn told(quotes: &[Quoted]) -> Vec<(&str, &str, bool)> {
        quotes.iter().map(|it| (it.user.as_str(), it.text.as_str(), it.trusted)).collect()
    }

    #[test]
    fn what_is_handed_over_is_in_order_and_leaves_out_what_we_said_ourselves() {
        let thread = [(12, "7", "c"), (9, "me", "ours"), (11, "8", "b"), (10, "7", "a")];
        let thread: Vec<Earlier> =
            thread.into_iter().map(|(id, who, text)| earlier(id, who, text)).collect();
        let quoted = quotes(None, thread.clone(), "me");
        assert_eq!(told(&quoted), [("7", "a", false), ("8", "b", false), ("7", "c", false)]);
        // What is replied to is there once, also when it is one of ours.
        let quoted = quotes(Some(earlier(11, "8", "b")), thread.clone(), "me");
        assert_eq!(told(&quoted), [("7", "a", false), ("8", "b", false), ("7", "c", false)]);
        let long = "x".repeat(OURS + 1);
        let quoted = quotes(Some(earlier(9, "me", &long)), thread, "me");
        let short = format!("{}\u{2026}", &long[..OURS]);
        assert_eq!(told(&quoted)[0], ("me", short.as_str(), true));
        assert_eq!(quoted.len(), 4);
    }

    #[test]
    fn of_a_long_thread_the_newest_are_handed_over_and_what_is_replied_to() {
        let thread: Vec<Earlier> =
            (100..150).rev().map(|id| earlier(id, "7", &id.to_string())).collect();
        let quoted = quotes(Some(earlier(3, "8", "old")), thread, "me");
        let texts: Vec<&str> = quoted.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(quoted.len(), MOST);
        assert_eq!((texts[0], texts[1], texts[MOST - 1]), ("old", "131", "149"));
    }

    #[test]
    fn a_command_needs_no_context_and_a_message_does() {
        for (text, is) in
            [("do it", true), ("/od-send api do it", true), ("/od-list", false), ("/od-lst", false)]
        {
            assert_eq!(is_for_an_agent(text), is, "{text}");
        }
    }
}
