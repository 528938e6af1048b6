//! What a delivery shows while nobody has said for which of several agents a message is.

use std::time::Duration;

use super::{
    Outbox,
    rendering::{Frames, fixed},
};
use crate::{
    ambient::{between, later},
    chat::{
        buttons::{of_choice, of_offer},
        platform::Capabilities,
        replies,
    },
    store::Delivery,
};

/// How long a message waits for somebody to say for whom it is.
pub const CHOICE_TIME: Duration = Duration::from_hours(1);

impl Outbox {
    pub(super) fn choice_frames(
        &self,
        delivery: &Delivery,
        names: &[String],
        capabilities: &Capabilities,
    ) -> Frames {
        let asks = in_one_message(names, capabilities, replies::which);
        if capabilities.buttons == 0 {
            return asks;
        }
        let left = between(self.ambient.clock.now(), later(delivery.created, CHOICE_TIME));
        if left.is_zero() {
            return in_one_message(names, capabilities, replies::not_chosen);
        }
        let asks = Frames { ended: false, again: Some(left), ..asks };
        asks.with(of_choice(&delivery.id, names))
    }

    /// A change that waits for somebody to say how it is to be made.
    pub(super) fn offer_frames(
        &self,
        delivery: &Delivery,
        text: &str,
        labels: &[String],
        capabilities: &Capabilities,
    ) -> Frames {
        let left = between(self.ambient.clock.now(), later(delivery.created, CHOICE_TIME));
        if left.is_zero() {
            return fixed(0, &replies::offer_over(text), capabilities);
        }
        let (told, offered) = match capabilities.buttons {
            0 => (replies::offer_in_words(text, labels, &delivery.id), Vec::new()),
            _ => (text.to_owned(), of_offer(&delivery.id, labels)),
        };
        let asks = fixed(0, &told, capabilities);
        Frames { ended: false, again: Some(left), ..asks }.with(offered)
    }
}

/// A text about names in one message, since what takes its place begins in that one: where there
/// are too many, only the first are named.
fn in_one_message(
    names: &[String],
    capabilities: &Capabilities,
    text: fn(&[String]) -> String,
) -> Frames {
    let mut frames = fixed(0, &text(names), capabilities);
    for named in (1..names.len()).rev() {
        if frames.texts.len() <= 1 {
            break;
        }
        let mut some = names[..named].to_vec();
        some.push(format!("{} more", names.len() - named));
        frames = fixed(0, &text(&some), capabilities);
    }
    frames.texts.truncate(1);
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{
        platform::{Dialect, Markup},
        split::Unit,
    };

    #[test]
    fn who_is_meant_is_asked_in_one_message_however_many_may_be() {
        let capabilities = Capabilities {
            max_message: 300,
            unit: Unit::CodePoints,
            markup: Markup::Markdown,
            dialect: Dialect::Discord,
            pace: Duration::ZERO,
            lookup: false,
            placeholder: "…",
            buttons: 5,
            whispers: false,
            max_file: 0,
            max_messages: 0,
        };
        let names: Vec<String> = (0..60).map(|n| format!("agent-{n}")).collect();
        let asked = in_one_message(&names, &capabilities, replies::which);
        assert_eq!(asked.texts.len(), 1);
        let text = &asked.texts[0];
        assert!(text.contains("agent-0, agent-1, ") && text.contains(" more. Begin"), "{text}");
        assert!(text.ends_with("as in agent-0: run the tests"), "{text}");
        let few = in_one_message(&names[..3], &capabilities, replies::which);
        assert!(few.texts[0].contains("agent-0, agent-1, agent-2. Begin"), "{:?}", few.texts);
    }
}
