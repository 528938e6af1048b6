//! A chat platform as the conformance suite sees it: people who say things, and what stands
//! where they can see it.

use async_trait::async_trait;

/// A fake of a platform, on which a test acts as a person.
#[async_trait]
pub trait Stage: Send + Sync {
    /// The platform's name.
    fn name(&self) -> &'static str;
    /// The server's environment that makes it talk to the fake.
    fn env(&self) -> Vec<(String, String)>;
    /// A person says a line to us (slash command or mention or DM as the platform has it) in a channel; the platform's id of what was said.
    async fn say(&self, who: &str, channel: &str, text: &str) -> String;
    /// A person says a line to us, with a file.
    async fn say_with_file(&self, who: &str, channel: &str, text: &str, name: &str, bytes: &[u8]);
    /// What stands in a channel now, in order: text of each message of ours, its buttons (label, line), its files.
    async fn shown(&self, channel: &str) -> Vec<Shown>;
    /// A person presses the button with a label below a message.
    async fn press(&self, who: &str, channel: &str, message: &str, label: &str);
}

/// A message of ours.
pub struct Shown {
    /// The platform's id of it.
    pub id: String,
    /// Its text.
    pub text: String,
    /// The labels of its buttons.
    pub buttons: Vec<String>,
    /// Its files, with what is in them.
    pub files: Vec<(String, Vec<u8>)>,
    /// Who alone sees it.
    pub only_for: Option<String>,
}
