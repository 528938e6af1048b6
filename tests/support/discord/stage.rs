//! Discord as a stage of the conformance suite.

use async_trait::async_trait;
use serde_json::Value;

use super::{APP, Discord, GUILD, ME, TOKEN, WHISPERED, buttons};
use crate::stage_of_chat::{Shown, Stage};

#[async_trait]
impl Stage for Discord {
    fn name(&self) -> &'static str {
        "discord"
    }

    fn env(&self) -> Vec<(String, String)> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        [
            ("CHAT_PROVIDER", "discord"),
            ("DISCORD_BOT_TOKEN", TOKEN),
            ("DISCORD_CLIENT_ID", APP),
            ("DISCORD_GUILD_ID", GUILD),
            ("DISCORD_API_URL", &self.api()),
        ]
        .map(own)
        .to_vec()
    }

    fn user(&self, who: &str) -> String {
        Self::id(who)
    }

    fn place(&self, channel: &str) -> String {
        Self::id(channel)
    }

    fn calls(&self) -> usize {
        Discord::calls(self).len()
    }

    /// A command whose options are words is used as one; all else is said with a mention.
    async fn say(&self, who: &str, channel: &str, text: &str) -> String {
        self.until("commands are registered", Self::commands).await;
        if let Some((name, options)) = self.as_used(text) {
            let options: Vec<(&str, Value)> =
                options.iter().map(|(name, value)| (*name, value.as_str().into())).collect();
            let event = self.command(who, channel, 2, name, &options, &[]);
            self.sends(&event).await;
            return event["id"].as_str().unwrap().to_owned();
        }
        Discord::say(self, who, channel, &format!("<@{ME}> {text}")).await
    }

    async fn say_with_file(&self, who: &str, channel: &str, text: &str, name: &str, bytes: &[u8]) {
        self.say_with(who, channel, &format!("<@{ME}> {text}"), &[(name, bytes)]).await;
    }

    async fn shown(&self, channel: &str) -> Vec<Shown> {
        let shown = |message: super::Message| Shown {
            buttons: buttons(&message).into_iter().map(|(label, _)| label).collect(),
            id: message.id,
            text: message.text,
            files: message.files,
            only_for: message.only_for,
        };
        // What somebody is told in a direct message is for them alone, and in answer to this.
        let mut ours = self.ours(channel);
        for message in self.all().into_iter().filter(|it| it.author == ME) {
            if let Some(person) = message.channel.strip_prefix(WHISPERED) {
                let only_for = Some(person.to_owned());
                ours.push(super::Message { only_for, ..message });
            }
        }
        ours.sort_by_key(|message| message.id.parse::<u64>().unwrap());
        ours.into_iter().map(shown).collect()
    }

    async fn press(&self, who: &str, channel: &str, message: &str, label: &str) {
        Discord::press(self, who, channel, message, label).await;
    }
}

impl Discord {
    /// A line as somebody uses the command that is registered for it, where that is plain: names,
    /// and a message behind a name.
    fn as_used(&self, text: &str) -> Option<(&'static str, Vec<(&'static str, String)>)> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let name = COMMANDS.into_iter().find(|name| word.strip_prefix('/') == Some(name))?;
        let registered = self.commands().unwrap_or_default();
        assert!(registered.as_array().is_some_and(|all| all.iter().any(|it| it["name"] == name)));
        let is_word = !rest.is_empty() && !rest.contains([' ', '-', '\n']);
        match (name, rest.split_once(' ')) {
            (_, None) if rest.is_empty() => Some((name, Vec::new())),
            ("od-stop", None) if rest == "--all" => Some((name, vec![("all", "here".into())])),
            ("od-send", Some((to, message))) => {
                Some((name, vec![("name", to.to_owned()), ("message", message.to_owned())]))
            }
            (_, None) if is_word => Some((name, vec![("name", rest.to_owned())])),
            _ => None,
        }
    }
}

/// The commands that the suite uses as such.
const COMMANDS: [&str; 10] = [
    "od-list",
    "od-jobs",
    "od-whoami",
    "od-send",
    "od-stop",
    "od-status",
    "od-logs",
    "od-cancel",
    "od-retry",
    "od-delete",
];

/// What somebody filled in, as text.
pub fn text<'a>(name: &'a str, value: &str) -> (&'a str, Value) {
    (name, value.into())
}
