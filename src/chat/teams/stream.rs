//! How an answer grows in a chat with one person: as a stream, which Teams draws by itself. Pure.
//!
//! A stream begins with an informative line in place of a placeholder, and its id is that of the
//! message which comes of it. Then come texts, each of which goes on from the last one; then the
//! message itself, which ends it. From there on the message is edited like any other.
//!
//! **What a stream cannot do.** Show buttons, take words back, last longer than two minutes, or stand
//! beside another one in its chat. Whatever needs one of these ends the stream first, with what is to
//! be shown then; and what Teams refuses is shown by an edit. So a stream is a nicety: nothing that is
//! said depends on it.
//!
//! A message that began as a stream says so in its own name ([`named`]), which is committed with its
//! delivery; how far it came is in memory alone. After a restart nobody may have ended it; so the
//! first thing that is shown in it tries to, and a refusal says that it is over. What never was a
//! stream is never ended like one: Teams might take that for another message.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};

use crate::chat::platform::Content;

/// How long a stream goes on: Teams ends one after two minutes, which is an error then.
const LIFE: Duration = Duration::from_secs(100);
/// How long Teams takes a stream for alive that nobody ends.
const ABANDONED: Duration = Duration::from_secs(130);
/// The longest informative line, in characters: Teams takes 1,000 bytes.
const LONGEST_LINE: usize = 250;
/// How many streams are remembered; of others it is found out again.
const REMEMBERED: usize = 4096;
/// How the name of a message begins that began as a stream.
const STREAM: &str = "stream/";

/// What is known of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It is a stream.
    Live(Live),
    /// It is over, and a message like any other.
    Settled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Live {
    conversation: String,
    begun: Duration,
    /// The number of the last thing that was sent.
    sequence: u32,
    /// What must stay.
    streamed: String,
}

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing: there is nothing new that a stream could show.
    Nothing,
    /// A line of what is being done.
    Inform {
        /// The line.
        text: String,
        /// Its number in the stream.
        sequence: u32,
    },
    /// The text as it is now.
    Chunk {
        /// The text, from its beginning.
        text: String,
        /// Its number in the stream.
        sequence: u32,
    },
    /// The message that ends the stream; then what is to be shown, where that is something else.
    End {
        /// What the message must show at first, where what was streamed is not the front of what is
        /// to be shown.
        first: Option<String>,
        /// Whether it is not known that there is a stream.
        perhaps: bool,
    },
    /// An edit.
    Edit,
}

/// What is known of messages.
#[derive(Debug, Default)]
pub struct Streams(HashMap<String, State>);

impl Streams {
    /// Whether a stream may begin in a conversation: while there is no other.
    #[must_use]
    pub fn may_begin(&self, conversation: &str, now: Duration) -> bool {
        !self.0.values().any(|state| match state {
            State::Live(live) => {
                live.conversation == conversation && now.saturating_sub(live.begun) < ABANDONED
            }
            State::Settled => false,
        })
    }

    /// A stream began.
    pub fn begun(&mut self, message: &str, conversation: &str, now: Duration) {
        let conversation = conversation.to_owned();
        let live = Live { conversation, begun: now, sequence: 1, streamed: String::new() };
        self.keep(message, State::Live(live));
    }

    /// A stream is over.
    pub fn settled(&mut self, message: &str) {
        self.keep(message, State::Settled);
    }

    fn keep(&mut self, message: &str, state: State) {
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, state| matches!(state, State::Live(_)));
        }
        self.0.insert(message.to_owned(), state);
    }

    /// What shows a content for good, in a message that began as a stream.
    #[must_use]
    pub fn show(&self, message: &str, content: &Content) -> Step {
        match self.0.get(message) {
            Some(State::Settled) => Step::Edit,
            None => Step::End { first: None, perhaps: true },
            Some(State::Live(live)) => {
                let goes_on = content.text.starts_with(&live.streamed);
                let first = (!goes_on).then(|| live.streamed.clone());
                Step::End { first, perhaps: false }
            }
        }
    }

    /// A text stands there now.
    pub fn shown(&mut self, message: &str, text: &str) {
        if let Some(State::Live(live)) = self.0.get_mut(message) {
            text.clone_into(&mut live.streamed);
        }
    }

    /// What shows a content of which the first `steady` bytes stay, while more is to come. A number
    /// is used once, whether or not what bears it arrives.
    pub fn grow(&mut self, message: &str, content: &Content, steady: usize, now: Duration) -> Step {
        let front = content.text.get(..steady).unwrap_or_default();
        let Some(State::Live(live)) = self.0.get_mut(message) else {
            return self.show(message, content);
        };
        let is_late = now.saturating_sub(live.begun) >= LIFE;
        let goes_on = front.starts_with(&live.streamed) || live.streamed.starts_with(front);
        if is_late || !goes_on || !content.actions.is_empty() {
            return self.show(message, content);
        }
        if !front.trim().is_empty() && front.len() > live.streamed.len() {
            live.sequence += 1;
            return Step::Chunk { text: front.to_owned(), sequence: live.sequence };
        }
        let line: String = content.text.trim().chars().take(LONGEST_LINE).collect();
        if live.streamed.is_empty() && !line.is_empty() {
            live.sequence += 1;
            return Step::Inform { text: line, sequence: live.sequence };
        }
        Step::Nothing
    }
}

/// What the message of a stream is called among deliveries.
#[must_use]
pub fn name(id: &str) -> String {
    format!("{STREAM}{id}")
}

/// A message's id, and whether it began as a stream.
#[must_use]
pub fn named(message: &str) -> (&str, bool) {
    message.strip_prefix(STREAM).map_or((message, false), |id| (id, true))
}

/// How a stream's activities say what they are.
#[must_use]
pub fn marked(
    mut activity: Value,
    kind: &str,
    stream: Option<&str>,
    sequence: Option<u32>,
) -> Value {
    let mut mark = json!({"streamType": kind});
    if let Some(stream) = stream {
        mark["streamId"] = stream.into();
    }
    if let Some(sequence) = sequence {
        mark["streamSequence"] = sequence.into();
    }
    activity["channelData"] = mark.clone();
    mark["type"] = "streaminfo".into();
    activity["entities"] = json!([mark]);
    activity
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::platform::{Action, Tone};

    const NOW: Duration = Duration::from_secs(1000);

    fn begun() -> Streams {
        let mut streams = Streams::default();
        streams.begun("m", "a:1", NOW);
        streams
    }

    /// Grows, and what is to be sent arrives.
    fn grown(streams: &mut Streams, text: &str, steady: usize) -> Step {
        let step = streams.grow("m", &text.into(), steady, NOW);
        if let Step::Chunk { text, .. } = &step {
            streams.shown("m", text);
        }
        step
    }

    fn chunk(text: &str, sequence: u32) -> Step {
        Step::Chunk { text: text.to_owned(), sequence }
    }

    #[test]
    fn a_stream_informs_then_grows_then_ends() {
        let mut streams = begun();
        let mut grow = |text: &str, steady| grown(&mut streams, text, steady);
        let inform = Step::Inform { text: "bot is at it".to_owned(), sequence: 2 };
        assert_eq!(grow("bot is at it\n", 0), inform);
        assert_eq!(grow("```\na\n```", 6), chunk("```\na\n", 3));
        assert_eq!(grow("```\na\n```\nworking for 15 s", 6), Step::Nothing);
        assert_eq!(grow("```\na\nb\n```", 8), chunk("```\na\nb\n", 4));
        let end = streams.show("m", &"```\na\nb\n```\nbot has answered".into());
        assert_eq!(end, Step::End { first: None, perhaps: false });
        streams.settled("m");
        assert_eq!(streams.show("m", &"x".into()), Step::Edit);
        assert_eq!(streams.grow("m", &"x".into(), 1, NOW), Step::Edit);
    }

    #[test]
    fn what_a_stream_cannot_show_ends_it() {
        let action =
            Action { label: "No".to_owned(), line: "/od-x".to_owned(), tone: Tone::Neutral };
        let asks = Content { text: "May I?".to_owned(), actions: vec![action] };
        let end = Step::End { first: None, perhaps: false };
        assert_eq!(begun().grow("m", &asks, 0, NOW), end, "buttons");
        let late = NOW + Duration::from_secs(100);
        assert_eq!(begun().grow("m", &"abc".into(), 3, late), end, "time");
        let mut streams = begun();
        assert_eq!(streams.grow("m", &"abc".into(), 3, NOW), chunk("abc", 2), "it was lost");
        assert_eq!(grown(&mut streams, "abc", 3), chunk("abc", 3), "so it is sent again");
        let taken_back = Step::End { first: Some("abc".to_owned()), perhaps: false };
        assert_eq!(streams.grow("m", &"abx".into(), 3, NOW), taken_back);
        assert_eq!(streams.show("m", &"x".into()), taken_back);
    }

    #[test]
    fn the_name_of_a_message_says_whether_it_began_as_a_stream() {
        assert_eq!(named(&name("a-1")), ("a-1", true));
        assert_eq!(named("1700"), ("1700", false));
    }

    #[test]
    fn after_a_restart_a_stream_may_be_over() {
        let mut streams = Streams::default();
        let perhaps = Step::End { first: None, perhaps: true };
        assert_eq!(streams.show("m", &"x".into()), perhaps);
        assert_eq!(streams.grow("m", &"x".into(), 1, NOW), perhaps);
    }

    #[test]
    fn a_chat_has_one_stream_until_it_ends_or_is_given_up() {
        let mut streams = begun();
        assert!(!streams.may_begin("a:1", NOW));
        assert!(streams.may_begin("a:2", NOW));
        assert!(streams.may_begin("a:1", NOW + ABANDONED));
        streams.settled("m");
        assert!(streams.may_begin("a:1", NOW));
    }

    proptest! {
        #[test]
        fn each_text_of_a_stream_goes_on_from_the_last(
            frames in proptest::collection::vec(("[ab\n]{0,8}", 0..10_usize), 0..12),
        ) {
            let mut streams = begun();
            let (mut last, mut number) = (String::new(), 1);
            for (text, steady) in frames {
                match grown(&mut streams, &text, steady.min(text.len())) {
                    Step::Chunk { text, sequence } => {
                        prop_assert!(text.starts_with(&last) && text.len() > last.len());
                        prop_assert_eq!(sequence, number + 1);
                        (last, number) = (text, sequence);
                    }
                    Step::Inform { sequence, .. } => {
                        prop_assert!(last.is_empty());
                        prop_assert_eq!(sequence, number + 1);
                        number = sequence;
                    }
                    Step::End { first, .. } => {
                        prop_assert!(first.is_none_or(|first| first == last));
                    }
                    Step::Nothing | Step::Edit => {}
                }
            }
        }
    }
}
