//! What the console and a terminal say to each other, as JSON: one definition for both sides.

use serde::{Deserialize, Serialize};

use crate::store::attached::NamedFile;

/// The channel of a terminal that names none.
pub const DEFAULT_CHANNEL: &str = "main";

/// What a terminal hears, one per line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// What happens.
    #[serde(flatten)]
    pub op: FrameOp,
    /// The frame's number in its stream, to be acknowledged; 0 needs no acknowledgement.
    #[serde(default)]
    pub n: u64,
}

/// What happens in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub enum FrameOp {
    /// A new message.
    Post {
        /// The message's id: the delivery's id, a dot, and which of its messages it is.
        id: String,
        /// What it shows.
        text: String,
    },
    /// A message shows something else now.
    Edit {
        /// The message's id.
        id: String,
        /// All that it shows.
        text: String,
        /// Whether nothing more comes for this delivery.
        #[serde(rename = "final")]
        last: bool,
    },
    /// The connection lives.
    Heartbeat,
}

impl FrameOp {
    /// The id of the message that this is about.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Post { id, .. } | Self::Edit { id, .. } => Some(id),
            Self::Heartbeat => None,
        }
    }
}

/// A line that a terminal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// Drawn by the terminal, the same when it says the line again because no answer came.
    pub request_id: String,
    /// The channel.
    #[serde(default = "default_channel")]
    pub channel: String,
    /// The line.
    pub text: String,
    /// Files that come with it; each was uploaded before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<NamedFile>,
    /// Who says it, for the record.
    #[serde(default)]
    pub author: Option<String>,
}

/// The channel of a terminal that names none.
#[must_use]
pub fn default_channel() -> String {
    DEFAULT_CHANNEL.to_owned()
}

/// The answer to a line that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The deliveries that answer it.
    pub deliveries: Vec<String>,
    /// Whether it was taken before.
    pub again: bool,
}

/// What a terminal has printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Printed {
    /// The name that it attached with.
    pub client: String,
    /// The channel.
    #[serde(default = "default_channel")]
    pub channel: String,
    /// The number of the last frame that it printed.
    pub n: u64,
}
