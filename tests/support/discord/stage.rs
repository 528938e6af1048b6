//! Discord as a stage of the conformance suite.

use async_trait::async_trait;
use serde_json::Value;

use super::{APP, Discord, GUILD, ME, TOKEN, buttons};
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

    /// A command without options is used as one; all else is said with a mention.
    async fn say(&self, who: &str, channel: &str, text: &str) -> String {
        let bare = text.strip_prefix('/').filter(|rest| !rest.contains(char::is_whitespace));
        let known = bare.filter(|name| {
            let commands = self.commands().unwrap_or_default();
            commands.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == *name))
        });
        if let Some(name) = known {
            let event = self.command(who, channel, 2, name, &[], &[]);
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
        self.ours(channel).into_iter().map(shown).collect()
    }

    async fn press(&self, who: &str, channel: &str, message: &str, label: &str) {
        Discord::press(self, who, channel, message, label).await;
    }
}

/// What somebody filled in, as text.
pub fn text<'a>(name: &'a str, value: &str) -> (&'a str, Value) {
    (name, value.into())
}
