//! Activities: what the channel sends us, as far as it is read.
//!
//! The schema is the Bot Framework's; Teams' own additions stand in `channelData`. What is not
//! read here is ignored, so that a new member breaks nothing.

use serde::Deserialize;
use serde_json::Value;

/// One activity.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Activity {
    /// `message`, `invoke`, `conversationUpdate`, ...
    pub r#type: String,
    /// Its id, unique in its conversation.
    pub id: Option<String>,
    /// Where answers go.
    pub service_url: String,
    /// `msteams`.
    pub channel_id: String,
    /// Who sent it.
    pub from: Account,
    /// Whom it was sent to: us.
    pub recipient: Account,
    /// Where.
    pub conversation: Place,
    /// What was said.
    pub text: Option<String>,
    /// Who was mentioned, among others.
    pub entities: Vec<Entity>,
    /// What came with it.
    pub attachments: Vec<Attached>,
    /// What a button or a form sends.
    pub value: Value,
    /// The message that a button or a card stands in.
    pub reply_to_id: Option<String>,
    /// What an invoke is about.
    pub name: Option<String>,
    /// What an installation does: `add`, `remove`, ...
    pub action: Option<String>,
    /// What Teams adds.
    pub channel_data: ChannelData,
}

/// Somebody.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Account {
    /// The id in this channel: `29:...` for people, `28:...` for bots.
    pub id: String,
    /// The name as it is shown.
    pub name: Option<String>,
    /// The id in the tenant.
    pub aad_object_id: Option<String>,
}

/// A conversation.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Place {
    /// Its id; in a channel with `;messageid=` and the message that the thread began with.
    pub id: String,
    /// `personal`, `groupChat` or `channel`.
    pub conversation_type: Option<String>,
    /// Its tenant.
    pub tenant_id: Option<String>,
}

/// Something that a text refers to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entity {
    /// `mention`, or something else.
    pub r#type: String,
    /// Who is mentioned.
    pub mentioned: Option<Account>,
    /// The mention as it stands in the text.
    pub text: Option<String>,
    /// What is quoted, where this is a `quotedReply`.
    pub quoted_reply: Option<QuotedReply>,
}

/// A message that another replies to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct QuotedReply {
    /// Who is said to have written it.
    pub sender_name: Option<String>,
    /// How it begins.
    pub preview: Option<String>,
}

/// Something that came with a message.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attached {
    /// What it is.
    pub content_type: String,
    /// Where it is, for what is not a file of a drive.
    pub content_url: Option<String>,
    /// What it holds.
    pub content: Value,
    /// Its name.
    pub name: Option<String>,
}

/// What Teams adds to an activity.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChannelData {
    /// The tenant.
    pub tenant: Option<Tenant>,
}

/// A tenant.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Tenant {
    /// Its id.
    pub id: String,
}

impl Activity {
    /// The tenants that it names; all of them must be ours.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        let of_data = self.channel_data.tenant.as_ref().map(|tenant| tenant.id.as_str());
        self.conversation.tenant_id.as_deref().into_iter().chain(of_data)
    }

    /// The conversation's id without its thread, and the thread.
    #[must_use]
    pub fn channel_and_thread(&self) -> (&str, Option<&str>) {
        match self.conversation.id.split_once(";messageid=") {
            Some((channel, thread)) => (channel, Some(thread)),
            None => (&self.conversation.id, None),
        }
    }

    /// Whether it was said to the bot alone.
    #[must_use]
    pub fn is_personal(&self) -> bool {
        self.conversation.conversation_type.as_deref() == Some("personal")
    }
}
