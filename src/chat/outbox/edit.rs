//! Edits, and what becomes of a text that a platform will not take where it is to stand.
//!
//! Somebody took the message away, the time in which it could be edited is over, or the platform
//! dislikes something about the text or the buttons. What was never shown shall be shown all the
//! same: without buttons where these may be what is wrong; in a new message that takes the old one's
//! place; and where that does not help, a line says that something is missing. Each of these is
//! tried once for a message, and a text counts as shown only where an edit with it went through.

use sha2::{Digest, Sha256};

use super::{Outbox, post::next_nonce};
use crate::{
    chat::platform::{self, Content, Platform},
    reconcile::Error,
    store::{Delivery, DeliveryState, Subject},
};

/// An edit that is to be made.
pub(super) struct Edit<'a> {
    /// The number of the message.
    pub(super) at: usize,
    /// What it is to show.
    pub(super) content: &'a Content,
    /// Whether nothing more comes for the delivery's messages.
    pub(super) is_final: bool,
    /// How many bytes of the text stay, where more is to come for this message.
    pub(super) grows: Option<usize>,
    /// Whether the text stands nowhere yet.
    pub(super) is_new: bool,
}

/// What became of an edit.
pub(super) enum Put {
    /// It is shown; or this in its place.
    Shown(Option<Content>),
    /// It is shown nowhere; the delivery's note says why.
    Not,
    /// The place cannot be reached.
    Parked(String),
}

impl Outbox {
    /// Makes a message show something, or another one in its place.
    pub(super) async fn put(
        &self,
        mut delivery: Delivery,
        platform: &dyn Platform,
        edit: Edit<'_>,
    ) -> Result<(Delivery, Put), Error> {
        let mut content = edit.content.clone();
        let mut instead = None;
        let mut is_refused = false;
        loop {
            let (place, message) = (&delivery.conversation, &delivery.messages[edit.at]);
            let call = match edit.grows {
                None => platform.edit(place, message, &content, edit.is_final),
                Some(steady) => platform.grow(place, message, &content, steady),
            };
            let error = match self.ambient.step("chat.edit", call).await {
                Ok(()) => {
                    if !is_refused {
                        delivery.note.clear();
                    }
                    return Ok((delivery, Put::Shown(instead)));
                }
                Err(platform::Error::Unreachable(why)) => return Ok((delivery, Put::Parked(why))),
                Err(error @ (platform::Error::Gone(_) | platform::Error::Rejected(_))) => error,
                Err(error) => return Err(error.into()),
            };
            tracing::warn!(delivery = delivery.id, "not edited: {error}");
            delivery.note = error.to_string();
            is_refused = true;
            let is_rejected = matches!(error, platform::Error::Rejected(_));
            if is_rejected && !content.actions.is_empty() {
                content.actions.clear();
                continue;
            }
            // The next frame of a text that grows may be taken.
            if !edit.is_new || (is_rejected && edit.grows.is_some()) {
                return Ok((delivery, Put::Not));
            }
            if !delivery.renewed.contains(&edit.at) {
                let (renewed, parked) = self.renew(delivery, platform, edit.at).await?;
                delivery = renewed;
                if let Some(why) = parked {
                    return Ok((delivery, Put::Parked(why)));
                }
                continue;
            }
            if is_rejected && instead.is_none() {
                content.text = left_out(&delivery.subject);
                instead = Some(content.clone());
                continue;
            }
            return Ok((delivery, Put::Not));
        }
    }

    /// Posts a message that takes the place of one that cannot be edited, and commits its id; says
    /// why not where the place cannot be reached. Where the platform takes no message either, it is
    /// not tried again.
    async fn renew(
        &self,
        mut delivery: Delivery,
        platform: &dyn Platform,
        at: usize,
    ) -> Result<(Delivery, Option<String>), Error> {
        let nonce = next_nonce(&delivery);
        match self.place(&delivery, platform, &nonce, None).await {
            Ok(message) => {
                delivery.messages[at] = message;
                delivery.hash.clear();
                delivery.state = DeliveryState::Open;
            }
            Err(platform::Error::Unreachable(why)) => return Ok((delivery, Some(why))),
            Err(error @ (platform::Error::Gone(_) | platform::Error::Rejected(_))) => {
                delivery.note = error.to_string();
            }
            Err(error) => return Err(error.into()),
        }
        delivery.renewed.push(at);
        let delivery = self.commit_message(delivery, &nonce, Vec::new()).await?;
        Ok((delivery, None))
    }
}

/// What stands where a text cannot.
fn left_out(subject: &Subject) -> String {
    const LINE: &str = "! what belongs here was refused by the platform";
    match subject {
        Subject::Job { .. } | Subject::Turn { .. } => {
            format!("{LINE}; open-dispatch logs has it")
        }
        Subject::Notice { .. }
        | Subject::Choice { .. }
        | Subject::Offer { .. }
        | Subject::File { .. } => LINE.to_owned(),
    }
}

/// A hash of what a message shows: of its text, and behind a dot of all else.
pub(super) fn content_hash(content: &Content, is_final: bool) -> String {
    let mut rest = Sha256::new().chain_update([u8::from(is_final)]);
    for action in &content.actions {
        rest.update(format!("\0{}\0{}", action.label, action.line));
    }
    format!("{}.{}", text_hash(content), hex(rest))
}

/// Whether the last message shows this text, whatever stands below it.
pub(super) fn stands(delivery: &Delivery, content: &Content) -> bool {
    let text = delivery.hash.split_once('.').map(|(text, _)| text);
    text.is_some_and(|text| text == text_hash(content))
}

fn text_hash(content: &Content) -> String {
    hex(Sha256::new().chain_update(&content.text))
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::platform::{Action, Tone},
        store::Conversation,
    };

    #[test]
    fn a_text_stands_whatever_its_buttons_are() {
        let place = Conversation { platform: "p".into(), channel: "c".into(), thread: None };
        let subject = Subject::Notice { text: "hi".into() };
        let mut delivery = Delivery::open("d", place, subject, jiff::Timestamp::UNIX_EPOCH);
        let content = Content::from("hi");
        assert!(!stands(&delivery, &content), "a bare placeholder");
        let action = Action { label: "Stop".into(), line: "stop".into(), tone: Tone::Bad };
        let pressed = Content { actions: vec![action], ..content.clone() };
        delivery.hash = content_hash(&pressed, false);
        assert!(stands(&delivery, &content) && !stands(&delivery, &Content::from("ho")));
        let hashes = [
            content_hash(&pressed, false),
            content_hash(&content, false),
            content_hash(&content, true),
        ];
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    }
}
