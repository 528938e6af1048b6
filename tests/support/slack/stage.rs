//! The workspace as the conformance suite sees it.

use async_trait::async_trait;

use super::{APP_TOKEN, BOT_TOKEN, FakeSlack, buttons, ours};
use crate::stage_of_chat::{Shown, Stage};

/// What Slack escapes, as a person reads it.
fn read(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// What Slack makes of what a person types.
fn typed(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[async_trait]
impl Stage for FakeSlack {
    fn name(&self) -> &'static str {
        "slack"
    }

    fn env(&self) -> Vec<(String, String)> {
        [
            ("CHAT_PROVIDER", "slack"),
            ("SLACK_BOT_TOKEN", BOT_TOKEN),
            ("SLACK_APP_TOKEN", APP_TOKEN),
            ("SLACK_API_URL", self.api()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn calls(&self) -> usize {
        self.world().calls.len()
    }

    async fn say(&self, who: &str, channel: &str, text: &str) -> String {
        let said = match text.strip_prefix('/') {
            Some(_) => self.commands(who, channel, &typed(text)),
            None => self.mentions(who, channel, &typed(text)),
        };
        self.until_taken(&said, 1).await;
        said
    }

    async fn say_with_file(&self, who: &str, channel: &str, text: &str, name: &str, bytes: &[u8]) {
        let said = self.mentions_with_file(who, channel, &typed(text), name, bytes);
        self.until_taken(&said, 1).await;
    }

    async fn shown(&self, channel: &str) -> Vec<Shown> {
        let world = self.world();
        ours(&world, channel)
            .into_iter()
            .map(|message| Shown {
                buttons: buttons(&message).into_iter().map(|(label, _)| label).collect(),
                files: message
                    .files
                    .iter()
                    .filter_map(|id| world.files.get(id))
                    .map(|file| (file.title.clone(), file.bytes.clone()))
                    .collect(),
                text: read(&message.text),
                only_for: message.only_for,
                id: message.ts,
            })
            .collect()
    }

    async fn press(&self, who: &str, channel: &str, message: &str, label: &str) {
        let pressed = self.presses(who, channel, message, label, 1);
        self.until_taken(&pressed, 1).await;
    }
}
