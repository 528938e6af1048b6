//! Which text of the CLI is new, and how pieces of it are joined.
//!
//! With partial messages the CLI says everything twice: as deltas while the model speaks, and
//! as a finished block afterwards. Some blocks come only finished (answers of slash commands, a
//! fall-back to a request without a stream). So each finished block is held against what was
//! streamed, and only what is missing is said. Between blocks stands one blank line, else the
//! sentences before and after a tool use would run together.

use std::collections::VecDeque;

use super::protocol::Kind;
use crate::driver::flow::Flow;

/// What was said in one turn.
#[derive(Debug, Default)]
pub(super) struct Speech {
    text: Flow,
    thought: Flow,
    message: Option<Streamed>,
}

/// The message that is being streamed.
#[derive(Debug)]
struct Streamed {
    id: String,
    /// The bytes streamed of each block whose finished form has not come yet.
    text: VecDeque<usize>,
    thought: VecDeque<usize>,
}

impl Speech {
    /// The model begins to stream a message.
    pub(super) fn message(&mut self, id: &str) {
        self.message =
            Some(Streamed { id: id.to_owned(), text: VecDeque::new(), thought: VecDeque::new() });
    }

    /// The model begins to stream a block. Returns what is to be said.
    pub(super) fn block(&mut self, kind: Kind, start: &str) -> Option<String> {
        self.flow(kind).begin_block();
        let streamed = self.streamed(kind)?;
        streamed.push_back(0);
        self.delta(kind, start)
    }

    /// The model streams a piece of the block. Returns what is to be said.
    pub(super) fn delta(&mut self, kind: Kind, piece: &str) -> Option<String> {
        if let Some(streamed) = self.streamed(kind) {
            match streamed.back_mut() {
                Some(length) => *length += piece.len(),
                None => streamed.push_back(piece.len()),
            }
        }
        self.flow(kind).push(piece)
    }

    /// A block of a message is finished. Returns what is to be said.
    pub(super) fn finished(&mut self, message: &str, kind: Kind, whole: &str) -> Option<String> {
        let streamed = self
            .message
            .as_mut()
            .filter(|streamed| streamed.id == message)
            .and_then(|streamed| streamed.queue(kind).pop_front());
        match streamed {
            Some(length) => self.flow(kind).push(whole.get(length..).unwrap_or_default()),
            None => {
                self.flow(kind).begin_block();
                self.flow(kind).push(whole)
            }
        }
    }

    /// Whether the person was told anything.
    pub(super) fn has_text(&self) -> bool {
        self.text.is_begun()
    }

    /// The turn is over. Returns the line break that the text still lacks.
    pub(super) fn close(&mut self) -> Option<String> {
        self.text.close()
    }

    fn flow(&mut self, kind: Kind) -> &mut Flow {
        match kind {
            Kind::Text => &mut self.text,
            Kind::Thought => &mut self.thought,
        }
    }

    fn streamed(&mut self, kind: Kind) -> Option<&mut VecDeque<usize>> {
        self.message.as_mut().map(|message| message.queue(kind))
    }
}

impl Streamed {
    fn queue(&mut self, kind: Kind) -> &mut VecDeque<usize> {
        match kind {
            Kind::Text => &mut self.text,
            Kind::Thought => &mut self.thought,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_streamed_block_is_not_said_again_when_it_is_finished() {
        let mut speech = Speech::default();
        speech.message("m");
        assert_eq!(speech.block(Kind::Text, ""), None);
        assert_eq!(speech.delta(Kind::Text, "one ").as_deref(), Some("one "));
        assert_eq!(speech.delta(Kind::Text, "two").as_deref(), Some("two"));
        assert_eq!(speech.finished("m", Kind::Text, "one two"), None);
        assert_eq!(speech.close().as_deref(), Some("\n"));
    }

    #[test]
    fn a_block_that_was_not_streamed_is_said_whole_behind_a_blank_line() {
        let mut speech = Speech::default();
        assert_eq!(speech.finished("a", Kind::Text, "one").as_deref(), Some("one"));
        assert_eq!(speech.finished("b", Kind::Text, "two\n").as_deref(), Some("\n\ntwo\n"));
        assert_eq!(speech.finished("b", Kind::Text, "three").as_deref(), Some("\nthree"));
    }

    #[test]
    fn deltas_that_were_missed_are_said_when_the_block_is_finished() {
        let mut speech = Speech::default();
        speech.message("m");
        speech.delta(Kind::Text, "grün");
        assert_eq!(speech.finished("m", Kind::Text, "grüne Wiese").as_deref(), Some("e Wiese"));
    }

    #[test]
    fn text_and_thought_do_not_disturb_each_other() {
        let mut speech = Speech::default();
        speech.message("m");
        speech.block(Kind::Thought, "");
        speech.delta(Kind::Thought, "hm");
        speech.block(Kind::Text, "");
        assert_eq!(speech.delta(Kind::Text, "yes").as_deref(), Some("yes"));
        assert_eq!(speech.finished("m", Kind::Thought, "hm"), None);
        assert_eq!(speech.finished("m", Kind::Text, "yes"), None);
    }

    proptest! {
        /// However a text is cut into blocks and deltas, streamed or not: every block is said
        /// once, whole, in order, with one blank line or more in between.
        #[test]
        fn blocks_are_said_once_whatever_the_cuts(
            blocks in prop::collection::vec(
                (any::<bool>(), prop::collection::vec("[a-zü\n ]{0,5}", 0..4)), 0..6),
        ) {
            let mut speech = Speech::default();
            let mut said = String::new();
            let mut whole = Vec::new();
            for (number, (streamed, pieces)) in blocks.iter().enumerate() {
                let id = number.to_string();
                let text = pieces.concat();
                if *streamed {
                    speech.message(&id);
                    said.extend(speech.block(Kind::Text, ""));
                    for piece in pieces {
                        said.extend(speech.delta(Kind::Text, piece));
                    }
                }
                said.extend(speech.finished(&id, Kind::Text, &text));
                whole.push(text);
            }
            let strip = |text: &str| text.replace('\n', "");
            prop_assert_eq!(strip(&said), strip(&whole.concat()));
            let full: Vec<_> = whole.iter().filter(|block| !block.is_empty()).collect();
            for pair in full.windows(2) {
                let joint = format!("{}\n\n", pair[0].trim_end_matches('\n'));
                if !pair[0].trim_matches('\n').is_empty() {
                    prop_assert!(said.contains(&joint), "{:?} in {:?}", joint, said);
                }
            }
        }
    }
}
