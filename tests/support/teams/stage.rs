//! The fake as a stage for the conformance suite: each channel is a group chat of its own, or a
//! personal one where its id begins with `a:`.

use async_trait::async_trait;
use serde_json::json;

use super::{Fake, Message};
use crate::stage_of_chat::{Nature, Shown, Stage};

#[async_trait]
impl Stage for Fake {
    fn name(&self) -> &'static str {
        "teams"
    }

    fn env(&self) -> Vec<(String, String)> {
        self.environment()
    }

    fn user(&self, who: &str) -> String {
        format!("aad-{who}")
    }

    fn channel(&self) -> &'static str {
        "19:first@thread.v2"
    }

    fn elsewhere(&self) -> &'static str {
        "19:second@thread.v2"
    }

    /// A group chat shows messages to all that are in it, and takes no files from bots.
    fn nature(&self) -> Nature {
        Nature { whispers: false, sends_files: false, ..Nature::default() }
    }

    fn calls(&self) -> usize {
        let state = self.state();
        state.tokens + state.metadata + state.keys + state.posts + state.edits
    }

    async fn say(&self, who: &str, channel: &str, text: &str) -> String {
        Fake::say(self, who, channel, text).await
    }

    async fn say_with_file(&self, who: &str, channel: &str, text: &str, name: &str, bytes: &[u8]) {
        self.state().files.push((name.to_owned(), bytes.to_vec()));
        let mut activity = self.said(who, channel, text);
        let url = format!("http://{}/files/{name}", self.address);
        activity["attachments"] = json!([{
            "contentType": "application/vnd.microsoft.teams.file.download.info",
            "name": name,
            "contentUrl": "https://contoso.sharepoint.example/personal/file",
            "content": {"downloadUrl": url, "uniqueId": "1", "fileType": "txt"},
        }]);
        self.deliver_surely(&activity).await;
    }

    /// Whoever looks takes the files that are offered.
    async fn shown(&self, channel: &str) -> Vec<Shown> {
        for message in Fake::shown(self, channel) {
            let is_new = self.state().taken.insert(message.id.clone());
            if message.offer.is_some() && is_new {
                assert_eq!(self.consent("ada", &message, true).await.0, 200);
            }
        }
        let all = Fake::shown(self, channel);
        let drive = self.state().drive.clone();
        let shown = |message: Message| Shown {
            buttons: message.buttons().into_iter().map(|(label, _)| label).collect(),
            files: message.files(&drive),
            id: message.id,
            text: message.text,
            only_for: None,
        };
        all.into_iter().map(shown).collect()
    }

    async fn press(&self, who: &str, channel: &str, message: &str, label: &str) {
        let found = Fake::shown(self, channel).into_iter().find(|it| it.id == message);
        Fake::press(self, who, &found.unwrap(), label).await;
    }
}

/// The same fake, where people talk with the bot alone: answers are streams there, and files are
/// offered. (That a second person talks in such a chat is the suite's wish, and not Teams'.)
pub struct Alone(pub Fake);

#[async_trait]
impl Stage for Alone {
    fn name(&self) -> &'static str {
        Stage::name(&self.0)
    }

    fn env(&self) -> Vec<(String, String)> {
        self.0.env()
    }

    fn user(&self, who: &str) -> String {
        self.0.user(who)
    }

    fn channel(&self) -> &'static str {
        "a:first"
    }

    fn elsewhere(&self) -> &'static str {
        "a:second"
    }

    fn nature(&self) -> Nature {
        Nature { sends_files: true, ..self.0.nature() }
    }

    fn calls(&self) -> usize {
        self.0.calls()
    }

    async fn say(&self, who: &str, channel: &str, text: &str) -> String {
        Stage::say(&self.0, who, channel, text).await
    }

    async fn say_with_file(&self, who: &str, channel: &str, text: &str, name: &str, bytes: &[u8]) {
        Stage::say_with_file(&self.0, who, channel, text, name, bytes).await;
    }

    async fn shown(&self, channel: &str) -> Vec<Shown> {
        Stage::shown(&self.0, channel).await
    }

    async fn press(&self, who: &str, channel: &str, message: &str, label: &str) {
        Stage::press(&self.0, who, channel, message, label).await;
    }
}
