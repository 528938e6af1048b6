//! Which text of a turn is new, and how parts of it are joined.
//!
//! The server says everything twice: as deltas while the model speaks, and as the whole part
//! when it has. So each whole part is held against what was said of it. Between parts stands one
//! blank line, else the sentences before and after a tool use would run together.

use std::collections::HashMap;

use super::protocol::Kind;

/// What was said in one turn.
#[derive(Debug, Default)]
pub(super) struct Speech {
    text: Flow,
    thought: Flow,
    parts: HashMap<String, Spoken>,
}

/// What was said of a part.
#[derive(Debug)]
struct Spoken {
    kind: Kind,
    bytes: usize,
    /// Whether deltas are left out until the whole part comes: after a gap in the events it is
    /// not known which of them are in what was read since.
    waits_for_whole: bool,
}

/// Parts of one kind, joined.
#[derive(Debug, Default)]
struct Flow {
    /// Line breaks at the end of what was said.
    breaks: usize,
    is_begun: bool,
    /// The part that spoke last.
    last: String,
}

impl Speech {
    /// A part stands as `whole` so far. Returns what of it is new.
    pub(super) fn part(&mut self, id: &str, kind: Kind, whole: &str) -> Option<String> {
        let spoken = self.parts.entry(id.to_owned()).or_insert(Spoken {
            kind,
            bytes: 0,
            waits_for_whole: false,
        });
        let kind = spoken.kind;
        // The end of a part may be trimmed once it is whole: then nothing of it is new.
        let new = whole.get(spoken.bytes..).unwrap_or_default();
        spoken.bytes = spoken.bytes.max(whole.len());
        self.flow(kind).push(id, new)
    }

    /// A part has grown. Returns its kind, and what is to be said; none for a part that was
    /// never told of.
    pub(super) fn delta(&mut self, id: &str, piece: &str) -> Option<(Kind, String)> {
        let spoken = self.parts.get_mut(id).filter(|spoken| !spoken.waits_for_whole)?;
        spoken.bytes += piece.len();
        let kind = spoken.kind;
        self.flow(kind).push(id, piece).map(|said| (kind, said))
    }

    /// Some events were missed: parts that are not whole wait until they are.
    pub(super) fn missed_some(&mut self) {
        for spoken in self.parts.values_mut() {
            spoken.waits_for_whole = true;
        }
    }

    /// The turn is over. Returns the line break that the text still lacks.
    pub(super) fn close(&mut self) -> Option<String> {
        (self.text.is_begun && self.text.breaks == 0).then(|| "\n".to_owned())
    }

    fn flow(&mut self, kind: Kind) -> &mut Flow {
        match kind {
            Kind::Text => &mut self.text,
            Kind::Thought => &mut self.thought,
        }
    }
}

impl Flow {
    fn push(&mut self, part: &str, piece: &str) -> Option<String> {
        if piece.is_empty() {
            return None;
        }
        let is_new_part = self.is_begun && self.last != part;
        let missing = if is_new_part { 2_usize.saturating_sub(self.breaks) } else { 0 };
        let said = "\n".repeat(missing) + piece;
        let breaks = said.len() - said.trim_end_matches('\n').len();
        self.breaks = if breaks == said.len() { self.breaks + breaks } else { breaks };
        self.is_begun = true;
        part.clone_into(&mut self.last);
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_that_was_streamed_is_not_said_again_when_it_is_whole() {
        let mut speech = Speech::default();
        assert_eq!(speech.part("a", Kind::Text, ""), None);
        assert_eq!(speech.delta("a", "one "), Some((Kind::Text, "one ".to_owned())));
        assert_eq!(speech.delta("a", "two "), Some((Kind::Text, "two ".to_owned())));
        assert_eq!(speech.part("a", Kind::Text, "one two"), None, "trimmed");
        assert_eq!(speech.part("b", Kind::Text, "three").as_deref(), Some("\n\nthree"));
        assert_eq!(speech.close().as_deref(), Some("\n"));
    }

    #[test]
    fn deltas_of_what_nobody_told_of_are_not_said() {
        assert_eq!(Speech::default().delta("the person's own words", "hello"), None);
    }

    #[test]
    fn after_a_gap_nothing_is_said_twice_and_nothing_is_left_out() {
        let mut speech = Speech::default();
        speech.part("a", Kind::Text, "");
        speech.delta("a", "one ");
        speech.part("a", Kind::Text, "one two ");
        speech.missed_some();
        assert_eq!(speech.delta("a", "two "), None);
        assert_eq!(speech.part("a", Kind::Text, "one two three").as_deref(), Some("three"));
    }

    proptest! {
        /// However parts are cut, and whether or not deltas are missed: each is said once, whole,
        /// in order, with a blank line in between.
        #[test]
        fn parts_are_said_once_whatever_the_cuts(
            parts in prop::collection::vec(
                (any::<bool>(), prop::collection::vec("[a-zü]{1,5}", 1..4)), 0..6),
        ) {
            let mut speech = Speech::default();
            let mut said = String::new();
            for (n, (streamed, pieces)) in parts.iter().enumerate() {
                let id = n.to_string();
                if *streamed {
                    said.extend(speech.part(&id, Kind::Text, ""));
                    for piece in pieces {
                        said.extend(speech.delta(&id, piece).map(|(_, said)| said));
                    }
                }
                said.extend(speech.part(&id, Kind::Text, &pieces.concat()));
            }
            let whole: Vec<_> = parts.iter().map(|(_, pieces)| pieces.concat()).collect();
            prop_assert_eq!(said, whole.join("\n\n"));
        }
    }
}
