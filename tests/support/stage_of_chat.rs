//! What a chat platform is to the conformance suite: a stage on which people say and press things,
//! and on which it can be looked at what stands there.

use async_trait::async_trait;

/// A chat platform, or a fake that speaks its wire, with people on it.
#[async_trait]
pub trait Stage: Send + Sync {
    /// The platform's name, as it stands in conversations.
    fn name(&self) -> &'static str;

    /// The server's environment that makes it talk to the fake.
    fn env(&self) -> Vec<(String, String)>;

    /// The platform's id of a person, as access knows them: what stands behind the colon in
    /// `OPEN_DISPATCH_ADMINS=slack:U…`.
    fn user(&self, who: &str) -> String {
        who.to_owned()
    }

    /// The platform's id of a channel, as specs name it.
    fn place(&self, channel: &str) -> String {
        channel.to_owned()
    }

    /// Where the suite's people talk.
    fn channel(&self) -> &'static str {
        "C1"
    }

    /// Another channel, of the same kind.
    fn elsewhere(&self) -> &'static str {
        "C2"
    }

    /// What is different here by the platform's nature.
    fn nature(&self) -> Nature {
        Nature::default()
    }

    /// How often the server called the platform until now: what says that it talked to this fake,
    /// and to nobody else.
    fn calls(&self) -> usize;

    /// A person says a line to us (slash command or mention or DM as the platform has it) in a
    /// channel; the platform's id of what was said.
    async fn say(&self, who: &str, channel: &str, text: &str) -> String;

    /// A person says a line to us, with a file.
    async fn say_with_file(&self, who: &str, channel: &str, text: &str, name: &str, bytes: &[u8]);

    /// What stands in a channel now, in order: text of each message of ours, its buttons (label,
    /// line), its files.
    async fn shown(&self, channel: &str) -> Vec<Shown>;

    /// A person presses a button below a message.
    async fn press(&self, who: &str, channel: &str, message: &str, label: &str);
}

/// What a platform is by nature. The suite asserts what is told instead of what it cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nature {
    /// Whether strangers can come here at all: a terminal's people hold the server's token.
    pub has_strangers: bool,
    /// Whether messages have buttons; where not, what they say is typed.
    pub has_buttons: bool,
    /// Whether something can be shown to one person alone.
    pub whispers: bool,
    /// Whether a long answer ends in a file; where not, it fills as many messages as it takes, or
    /// says where the rest is.
    pub sends_files: bool,
}

impl Default for Nature {
    fn default() -> Self {
        Self { has_strangers: true, has_buttons: true, whispers: true, sends_files: true }
    }
}

/// A message of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// The platform's id.
    pub id: String,
    /// Its text, as it stands there.
    pub text: String,
    /// The labels of its buttons.
    pub buttons: Vec<String>,
    /// Its files, with their names.
    pub files: Vec<(String, Vec<u8>)>,
    /// Who alone sees it.
    pub only_for: Option<String>,
}
