//! What is to be done next for one delivery: out of what stands there, and what is to stand. Pure.
//!
//! A plan is about one message, the last one that was posted: what is to become of it now, and what
//! comes then. [`super::post`] does it and asks again; so each crash is mended by another plan.

use std::time::Duration;

use super::{
    again::free_message,
    edit::{content_hash, stands},
    rendering::Frames,
};
use crate::{
    chat::platform::{Capabilities, Content},
    store::{Delivery, DeliveryState},
};

/// What stands for the hash of a delivery whose last message is a file: that one is never edited,
/// and nothing comes behind it.
pub(super) const FILE: &str = "file";

/// What stands for the hash of a delivery whose file the platform would not take: its last message
/// says so.
pub(super) const NO_FILE: &str = "no file";

/// What is known of a delivery whose first message is posted.
pub(super) struct View<'a> {
    pub(super) delivery: &'a Delivery,
    pub(super) frames: &'a Frames,
    pub(super) capabilities: &'a Capabilities,
    /// How long until its message may be edited again, if at all.
    pub(super) pace: Option<Duration>,
    /// With which message what was rendered begins, where it is held.
    pub(super) begins: Option<usize>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// The number of the message that it is about.
    pub(super) at: usize,
    /// What becomes of that message.
    pub(super) now: Now,
    /// What comes then.
    pub(super) then: Then,
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Now {
    /// Nothing, and nothing comes then: what stands there stays.
    Finish,
    /// It says that the platform took no file, and nothing comes then.
    NoFile(Content),
    /// Less can be made than stands there: that stays, and the end follows in the next message.
    BeginBehind,
    /// What it showed cannot be made again, and nothing more comes for it.
    Lost,
    /// Nothing for so long, and nothing comes then.
    Wait(Duration),
    /// It shows this.
    Put(Wish),
    /// It shows all that it should, and only the row does not say so yet.
    Commit,
    /// It shows all that it should.
    Nothing,
}

/// What a message is to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) content: Content,
    pub(super) hash: String,
    /// Whether nothing more comes for the delivery's texts.
    pub(super) is_final: bool,
    /// How many bytes of it stay, where more is to come for this message.
    pub(super) grows: Option<usize>,
    /// Whether the text stands nowhere yet.
    pub(super) is_new: bool,
}

/// What comes once a message shows what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// That was the end.
    End,
    /// More may come later.
    Rest,
    /// The next message, for text.
    Text,
    /// The next message, which is the file.
    File,
}

/// What is to be done for a delivery now.
pub(super) fn plan(view: &View<'_>) -> Plan {
    let View { delivery, frames, .. } = view;
    // Behind the file nothing comes; the message in front of it may lose its buttons yet.
    let is_sent = delivery.hash == FILE;
    let at = delivery.messages.len() - 1 - usize::from(is_sent);
    // A message that stands in front of what is to be shown is complete.
    let text = at.checked_sub(frames.first).and_then(|at| frames.texts.get(at));
    let end = frames.first + frames.texts.len();
    let more = at + 1 < end;
    let has_file = frames.file.is_some() && at + 1 == end && !is_sent;
    let then = match (more, has_file) {
        (true, _) => Then::Text,
        (false, true) => Then::File,
        (false, false) if frames.ended => Then::End,
        (false, false) => Then::Rest,
    };
    let now = match text {
        // What was shown to its end is to lose a button, and where it cannot be made again, it
        // keeps it.
        _ if (is_sent || delivery.complete) && (text.is_none() || more) => Now::Finish,
        Some(text) if has_file && delivery.hash == NO_FILE => {
            Now::NoFile(end_without_file(text, frames, view.capabilities))
        }
        Some(text) => shown(text, view, then, is_sent),
        None if then != Then::End => Now::Nothing,
        None if view.begins.is_some_and(|begins| begins < free_message(delivery)) => {
            Now::BeginBehind
        }
        None => Now::Lost,
    };
    Plan { at, now, then }
}

/// What becomes of a message that is to show a text.
fn shown(text: &str, view: &View<'_>, then: Then, is_sent: bool) -> Now {
    let View { delivery, frames, .. } = view;
    let more = then == Then::Text;
    let mut actions = if more { Vec::new() } else { frames.actions.clone() };
    actions.truncate(view.capabilities.buttons);
    let content = Content { text: text.to_owned(), actions };
    let is_final = matches!(then, Then::End | Then::File);
    let hash = content_hash(&content, is_final);
    if hash == delivery.hash {
        let is_told = match then {
            Then::End => delivery.state == DeliveryState::Done,
            Then::Text => true,
            Then::Rest | Then::File => delivery.state != DeliveryState::Parked,
        };
        return if is_told { Now::Nothing } else { Now::Commit };
    }
    if let Some(wait) = view.pace.filter(|_| then == Then::Rest) {
        return Now::Wait(wait);
    }
    let is_new = !is_sent && !delivery.complete && !stands(delivery, &content);
    let grows = (then == Then::Rest).then_some(frames.steady);
    Now::Put(Wish { content, hash, is_final, grows, is_new })
}

/// The end of an answer in a message whose rest the platform would not take.
pub(super) fn without_file(frames: &Frames, at: usize, capabilities: &Capabilities) -> Content {
    let text = at.checked_sub(frames.first).and_then(|at| frames.texts.get(at));
    end_without_file(text.map_or("", String::as_str), frames, capabilities)
}

fn end_without_file(text: &str, frames: &Frames, capabilities: &Capabilities) -> Content {
    let mut actions = frames.actions.clone();
    actions.truncate(capabilities.buttons);
    let text = format!("{text}\n! the rest could not be sent as a file; open-dispatch logs has it");
    Content { text, actions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chat::{
            platform::{Action, Dialect, Markup, Tone, Upload},
            split::Unit,
        },
        store::{Conversation, Subject},
    };

    const CAPABILITIES: Capabilities = Capabilities {
        max_message: 100,
        unit: Unit::CodePoints,
        markup: Markup::Markdown,
        dialect: Dialect::Plain,
        pace: Duration::from_secs(1),
        lookup: true,
        placeholder: "…",
        buttons: 1,
        whispers: false,
        max_file: 100,
        max_messages: 3,
    };

    fn frames(first: usize, texts: &[&str], ended: bool) -> Frames {
        let action = |label: &str| Action {
            label: label.to_owned(),
            line: format!("/od-{label}"),
            tone: Tone::Neutral,
        };
        Frames {
            first,
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            steady: 1,
            file: None,
            made: Vec::new(),
            actions: vec![action("a"), action("b")],
            ended,
            again: None,
        }
    }

    fn delivery(messages: usize) -> Delivery {
        let place = Conversation { platform: "p".into(), channel: "c".into(), thread: None };
        let subject = Subject::Notice { text: String::new() };
        let mut delivery = Delivery::open("d", place, subject, jiff::Timestamp::UNIX_EPOCH);
        delivery.messages = (0..messages).map(|n| n.to_string()).collect();
        delivery
    }

    fn planned(delivery: &Delivery, frames: &Frames) -> Plan {
        let pace = Some(Duration::from_secs(1));
        plan(&View { delivery, frames, capabilities: &CAPABILITIES, pace, begins: None })
    }

    fn wish(plan: &Plan) -> &Wish {
        match &plan.now {
            Now::Put(wish) => wish,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_waits_for_its_pace_and_an_end_does_not() {
        let grows = planned(&delivery(1), &frames(0, &["so far"], false));
        let waits = Now::Wait(Duration::from_secs(1));
        assert_eq!(grows, Plan { at: 0, now: waits, then: Then::Rest });
        let ends = planned(&delivery(1), &frames(0, &["all"], true));
        assert_eq!((ends.then, wish(&ends).is_final, wish(&ends).grows), (Then::End, true, None));
        assert_eq!(wish(&ends).content.actions.len(), 1, "as many buttons as the platform has");
    }

    #[test]
    fn a_message_in_front_of_others_has_no_buttons_and_is_shown_at_once() {
        let plan = planned(&delivery(1), &frames(0, &["one", "two"], false));
        assert_eq!((plan.at, plan.then), (0, Then::Text));
        assert!(wish(&plan).content.actions.is_empty() && !wish(&plan).is_final);
        let next = planned(&delivery(2), &frames(0, &["one", "two"], true));
        assert_eq!((next.at, next.then, wish(&next).content.text.as_str()), (1, Then::End, "two"));
    }

    #[test]
    fn what_stands_there_is_not_shown_again_and_its_row_is_mended() {
        let frames = frames(0, &["all"], true);
        let mut shown = delivery(1);
        shown.hash = wish(&planned(&shown, &frames)).hash.clone();
        assert_eq!(planned(&shown, &frames).now, Now::Commit, "its end is not noted");
        shown.state = DeliveryState::Done;
        assert_eq!(planned(&shown, &frames).now, Now::Nothing);
        let growing = super::tests::frames(0, &["all"], false);
        let pace = None;
        let again = |delivery: &Delivery| {
            plan(&View {
                delivery,
                frames: &growing,
                capabilities: &CAPABILITIES,
                pace,
                begins: None,
            })
        };
        shown.state = DeliveryState::Parked;
        shown.hash = wish(&again(&shown)).hash.clone();
        assert_eq!(again(&shown).now, Now::Commit, "its place was out of reach");
        shown.state = DeliveryState::Open;
        assert_eq!(again(&shown).now, Now::Nothing);
    }

    #[test]
    fn behind_what_cannot_be_made_again_the_end_follows() {
        let mut shown = delivery(2);
        shown.hash = "of what stood there".to_owned();
        let frames = frames(0, &["less"], true);
        let view = |begins| View {
            delivery: &shown,
            frames: &frames,
            capabilities: &CAPABILITIES,
            pace: None,
            begins,
        };
        assert_eq!(plan(&view(Some(0))).now, Now::BeginBehind);
        assert_eq!(plan(&view(None)).now, Now::Lost);
        let mut complete = shown.clone();
        complete.complete = true;
        assert_eq!(planned(&complete, &frames).now, Now::Finish, "it keeps its button");
    }

    #[test]
    fn a_file_comes_behind_the_last_text_and_nothing_behind_the_file() {
        let mut frames = frames(0, &["front"], true);
        let bytes = bytes::Bytes::from_static(b"rest");
        frames.file = Some(Upload { name: "rest.md".to_owned(), bytes });
        let first = planned(&delivery(1), &frames);
        assert_eq!((first.then, wish(&first).is_final), (Then::File, true));
        let mut refused = delivery(1);
        refused.hash = NO_FILE.to_owned();
        let Now::NoFile(content) = planned(&refused, &frames).now else { panic!() };
        assert!(content.text.starts_with("front\n! the rest could not be sent"), "{content:?}");
        let mut sent = delivery(2);
        sent.hash = FILE.to_owned();
        let plan = planned(&sent, &frames);
        assert_eq!((plan.at, plan.then), (0, Then::End), "the text in front may lose its buttons");
        frames.texts.push("more".to_owned());
        assert_eq!(planned(&sent, &frames).now, Now::Finish);
    }
}
