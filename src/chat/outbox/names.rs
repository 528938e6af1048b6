//! How deliveries and conversations are named.

use sha2::{Digest, Sha256};

use crate::{
    resource::{Channel, Place},
    store::{Conversation, Delivery},
};

/// The id of the delivery that shows a Job or a turn in a conversation: always the same, and
/// sorted by the time at which the Job or turn was made.
#[must_use]
pub fn delivery_id(uid: &str, conversation: &Conversation) -> String {
    named(uid, uid, conversation)
}

/// The id of a delivery that comes of another one: always the same for the same thing, and of the
/// other one's time.
pub(super) fn id_behind(delivery: &Delivery, what: &str) -> String {
    named(&format!("{}\0{what}", delivery.id), &delivery.id, &delivery.conversation)
}

/// An id out of what it names, of the time at which a UUID was made.
fn named(what: &str, time_of: &str, conversation: &Conversation) -> String {
    let digest = Sha256::new()
        .chain_update(what)
        .chain_update([0])
        .chain_update(&conversation.platform)
        .chain_update([0])
        .chain_update(&conversation.channel)
        .chain_update([0])
        .chain_update(conversation.thread.as_deref().unwrap_or_default())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    if let Ok(own) = uuid::Uuid::parse_str(time_of) {
        bytes[..6].copy_from_slice(&own.as_bytes()[..6]);
    }
    uuid::Builder::from_bytes(bytes)
        .with_version(uuid::Version::SortRand)
        .with_variant(uuid::Variant::RFC4122)
        .into_uuid()
        .to_string()
}

/// The conversation that a spec's channel names.
#[must_use]
pub fn conversation_of(channel: &Channel) -> Conversation {
    let place = channel.place();
    Conversation {
        platform: channel.platform().to_owned(),
        channel: place.channel.clone(),
        thread: place.thread.clone(),
    }
}

/// How a spec names a conversation; none for a platform that specs do not know.
#[must_use]
pub fn channel_of(conversation: &Conversation) -> Option<Channel> {
    let place =
        Place { channel: conversation.channel.clone(), thread: conversation.thread.clone() };
    Some(match conversation.platform.as_str() {
        "console" => Channel::Console(place),
        "slack" => Channel::Slack(place),
        "discord" => Channel::Discord(place),
        "teams" => Channel::Teams(place),
        _ => return None,
    })
}
/// The key of the receipt that an agent of this name listened in a place and was deleted. Like all
/// receipts it is kept for a day.
#[must_use]
pub fn gone_key(place: &Conversation, name: &str) -> String {
    let thread = place.thread.as_deref().unwrap_or_default();
    format!("gone/{}/{}/{thread}/{name}", place.platform, place.channel)
}
