//! What Discord's events mean to us. Pure.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;
use serenity::all::{
    Attachment, ChannelType, CommandDataOptionValue, CommandInteraction, ComponentInteraction,
    Event, GuildChannel, Interaction, Message, MessageType, Nonce, PartialChannel, User,
};

use super::{
    context::{ReplyTo, reply_to},
    options::Filled,
};
use crate::{chat::grammar::Verb, store::Conversation};

/// What happened.
#[derive(Debug, Clone)]
pub(super) enum Heard {
    /// A session began; this is our user.
    Ready(String),
    /// Somebody said something.
    Said(Said),
    /// Somebody used a command.
    Used(Used),
    /// Somebody pressed a button of ours.
    Pressed(Pressed),
    /// Somebody is filling in a name.
    Filling(Filling),
    /// Which channels there are, and of those that are threads the channel above.
    Places(Vec<(String, Option<String>)>),
    /// A message of a bot stands there; it may be ours.
    Ours {
        /// Who posted it.
        author: String,
        /// The nonce that it was posted with.
        nonce: String,
        /// Its id.
        message: String,
    },
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) id: String,
    pub(super) at: Timestamp,
    pub(super) channel: String,
    /// Whether it is a direct message.
    pub(super) direct: bool,
    pub(super) who: Who,
    pub(super) text: String,
    pub(super) files: Vec<FileAt>,
    /// Who it mentions.
    pub(super) mentions: Vec<String>,
    pub(super) reply_to: Option<ReplyTo>,
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) id: String,
    /// What people call them.
    pub(super) name: String,
}

/// A file, and where Discord keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileAt {
    pub(super) name: String,
    pub(super) url: String,
    /// Its size in bytes.
    pub(super) size: u64,
}

/// A command with what was filled in.
#[derive(Debug, Clone)]
pub(super) struct Used {
    pub(super) id: String,
    pub(super) token: SecretString,
    pub(super) verb: Option<Verb>,
    pub(super) filled: Vec<(String, Filled)>,
    pub(super) place: Conversation,
    pub(super) who: Who,
    pub(super) files: Vec<FileAt>,
}

/// A button.
#[derive(Debug, Clone)]
pub(super) struct Pressed {
    pub(super) id: String,
    pub(super) token: SecretString,
    /// The line that the button says.
    pub(super) line: String,
    pub(super) place: Conversation,
    pub(super) who: Who,
}

/// An option that is being filled in.
#[derive(Debug, Clone)]
pub(super) struct Filling {
    pub(super) id: String,
    pub(super) token: SecretString,
    /// What stands there by now.
    pub(super) begun: String,
    pub(super) place: Conversation,
    pub(super) who: Who,
}

/// What an event means to us, if anything.
pub(super) fn heard(event: Event) -> Option<Heard> {
    match event {
        Event::Ready(ready) => Some(Heard::Ready(ready.ready.user.id.to_string())),
        Event::GuildCreate(event) => {
            let all = event.guild.channels.values().chain(&event.guild.threads);
            Some(Heard::Places(all.map(place_of).collect()))
        }
        Event::ThreadCreate(event) => Some(Heard::Places(vec![place_of(&event.thread)])),
        Event::MessageCreate(event) => message(event.message),
        Event::InteractionCreate(event) => match event.interaction {
            Interaction::Command(command) => Some(Heard::Used(used(command))),
            Interaction::Component(component) => Some(Heard::Pressed(pressed(component))),
            Interaction::Autocomplete(command) => {
                let begun = command.data.autocomplete().map(|option| option.value.to_owned());
                let begun = begun.unwrap_or_default();
                Some(Heard::Filling(Filling {
                    id: command.id.to_string(),
                    place: place(&command.channel_id.to_string(), command.channel.as_ref()),
                    who: who(&command.user, None),
                    token: SecretString::from(command.token),
                    begun,
                }))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A message that was looked up, where it is a person's.
pub(super) fn looked_up(looked_up: Value, direct: bool) -> Option<Said> {
    let looked_up: Message = serde_json::from_value(looked_up).ok()?;
    match message(looked_up)? {
        Heard::Said(said) => Some(Said { direct, ..said }),
        _ => None,
    }
}

fn message(message: Message) -> Option<Heard> {
    if message.author.bot || message.webhook_id.is_some() {
        let nonce = match message.nonce? {
            Nonce::String(nonce) => nonce,
            Nonce::Number(nonce) => nonce.to_string(),
        };
        let author = message.author.id.to_string();
        return Some(Heard::Ours { author, nonce, message: message.id.to_string() });
    }
    // That somebody joined, pinned something or began a thread is nothing that was said.
    if !matches!(message.kind, MessageType::Regular | MessageType::InlineReply) {
        return None;
    }
    Some(Heard::Said(Said {
        at: Timestamp::from_second(message.timestamp.unix_timestamp()).unwrap_or_default(),
        reply_to: reply_to(&message),
        id: message.id.to_string(),
        channel: message.channel_id.to_string(),
        direct: message.guild_id.is_none(),
        who: who(&message.author, None),
        mentions: message.mentions.iter().map(|user| user.id.to_string()).collect(),
        files: message.attachments.iter().map(file).collect(),
        text: message.content,
    }))
}

fn used(command: CommandInteraction) -> Used {
    let mut files = Vec::new();
    let mut filled = Vec::new();
    for option in command.data.options {
        let value = match option.value {
            CommandDataOptionValue::String(text) => Filled::Text(text),
            CommandDataOptionValue::Boolean(value) => Filled::Switch(value),
            CommandDataOptionValue::Attachment(id) => {
                files.extend(command.data.resolved.attachments.get(&id).map(file));
                continue;
            }
            _ => continue,
        };
        filled.push((option.name, value));
    }
    let nick = command.member.as_ref().and_then(|member| member.nick.clone());
    Used {
        id: command.id.to_string(),
        token: SecretString::from(command.token),
        verb: Verb::ALL.into_iter().find(|verb| verb.name() == command.data.name),
        filled,
        place: place(&command.channel_id.to_string(), command.channel.as_ref()),
        who: who(&command.user, nick),
        files,
    }
}

fn pressed(component: ComponentInteraction) -> Pressed {
    let nick = component.member.as_ref().and_then(|member| member.nick.clone());
    Pressed {
        id: component.id.to_string(),
        token: SecretString::from(component.token),
        line: component.data.custom_id,
        place: place(&component.channel_id.to_string(), component.channel.as_ref()),
        who: who(&component.user, nick),
    }
}

fn is_thread(kind: ChannelType) -> bool {
    use ChannelType::{NewsThread, PrivateThread, PublicThread};
    matches!(kind, NewsThread | PrivateThread | PublicThread)
}

/// A channel's id and, of a thread, the channel above; what stands above others is a category.
fn place_of(channel: &GuildChannel) -> (String, Option<String>) {
    let parent = channel.parent_id.filter(|_| is_thread(channel.kind));
    (channel.id.to_string(), parent.map(|parent| parent.to_string()))
}

/// A thread is a channel of its own to Discord, and a part of its parent to us.
fn place(id: &str, channel: Option<&PartialChannel>) -> Conversation {
    let parent = channel.filter(|channel| is_thread(channel.kind)).and_then(|it| it.parent_id);
    conversation(id, parent.map(|parent| parent.to_string()).as_deref())
}

/// The conversation in a channel, or in a thread of a parent.
pub(super) fn conversation(id: &str, parent: Option<&str>) -> Conversation {
    Conversation {
        platform: super::NAME.to_owned(),
        channel: parent.unwrap_or(id).to_owned(),
        thread: parent.map(|_| id.to_owned()),
    }
}

pub(super) fn who(user: &User, nick: Option<String>) -> Who {
    let name = nick.or_else(|| user.global_name.as_ref().map(ToString::to_string));
    Who { id: user.id.to_string(), name: name.unwrap_or_else(|| user.name.clone()) }
}

fn file(attachment: &Attachment) -> FileAt {
    FileAt {
        name: attachment.filename.clone(),
        url: attachment.url.clone(),
        size: attachment.size.into(),
    }
}

/// A text without the mention of us that it begins with; whether there was one in it at all.
pub(super) fn without_mention<'a>(text: &'a str, me: &str) -> (&'a str, bool) {
    let forms = [format!("<@{me}>"), format!("<@!{me}>")];
    for form in &forms {
        if let Some(rest) = text.trim_start().strip_prefix(form.as_str()) {
            return (rest.trim_start_matches([' ', '\u{a0}', ',', ':']).trim_start(), true);
        }
    }
    (text, forms.iter().any(|form| text.contains(form.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opens_an_interaction_is_never_shown() {
        let place = conversation("1", None);
        let who = Who { id: "7".to_owned(), name: "ann".to_owned() };
        let (id, token) = ("2".to_owned(), SecretString::from("the-token"));
        let filling = Filling { id, token, begun: String::new(), place, who };
        assert!(!format!("{:?}", Heard::Filling(filling)).contains("the-token"));
    }

    #[test]
    fn the_mention_in_front_goes_and_nothing_else_does() {
        for (text, rest, is_one) in [
            ("<@7> run  it\n", "run  it\n", true),
            ("  <@!7>, do", "do", true),
            ("hey <@7> do", "hey <@7> do", true),
            ("<@77> do", "<@77> do", false),
            (" do ", " do ", false),
            ("<@7>", "", true),
        ] {
            assert_eq!(without_mention(text, "7"), (rest, is_one), "{text}");
        }
    }
}
