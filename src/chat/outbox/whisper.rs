//! What is for one person alone: said aside where the platform can, else for all to see.
//!
//! A whisper can be neither edited nor looked up, so it is said in one go, and that it was said is
//! committed. What a crash between the two leaves is somebody who hears a refusal twice.

use super::{Outbox, rendering::fixed};
use crate::{
    chat::platform::{self, Capabilities, Content, Nonce, Platform, Post},
    reconcile::{Error, Next},
    store::{Delivery, DeliveryState, Subject},
};

/// What became of a whisper.
pub(super) enum Whispered {
    /// It was heard, or waits.
    Yes(Next),
    /// The platform will not: it is to be posted.
    No(Box<Delivery>),
}

impl Outbox {
    /// Says a notice aside, from where it stands.
    pub(super) async fn whisper(
        &self,
        mut delivery: Delivery,
        platform: &dyn Platform,
        capabilities: &Capabilities,
    ) -> Result<Whispered, Error> {
        let (Some(to), Subject::Notice { text }) = (delivery.only_for.clone(), &delivery.subject)
        else {
            return Ok(Whispered::No(Box::new(delivery)));
        };
        let texts = fixed(0, text, capabilities).texts;
        for (index, text) in texts.iter().enumerate().skip(delivery.messages.len()) {
            let nonce = Nonce { delivery: delivery.id.clone(), index };
            let post = Post {
                conversation: &delivery.conversation,
                reply_to: delivery.reply_to.as_deref(),
                text: capabilities.placeholder,
                nonce: &nonce,
            };
            let content = Content::from(text.as_str());
            let whisper = platform.whisper(&post, &to, &content);
            match self.ambient.step("chat.whisper", whisper).await {
                Ok(()) => {}
                Err(platform::Error::Unreachable(why)) => {
                    return self.refused(delivery, why).await.map(Whispered::Yes);
                }
                // Whoever asked shall have an answer.
                Err(platform::Error::Rejected(_) | platform::Error::Gone(_)) if index == 0 => {
                    delivery.only_for = None;
                    let delivery = self.write("chat.commit-aloud", delivery).await?;
                    return Ok(Whispered::No(Box::new(delivery)));
                }
                Err(error @ (platform::Error::Rejected(_) | platform::Error::Gone(_))) => {
                    return self.give_up(delivery, error.to_string()).await.map(Whispered::Yes);
                }
                Err(error) => return Err(error.into()),
            }
            delivery.messages.push(format!("whisper/{index}"));
            delivery.note.clear();
            delivery.parked = None;
            delivery.state = match index + 1 == texts.len() {
                true => DeliveryState::Done,
                false => DeliveryState::Open,
            };
            delivery = self.write("chat.commit-whisper", delivery).await?;
        }
        Ok(Whispered::Yes(Next::Done))
    }
}
