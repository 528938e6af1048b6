//! Cuts a growing text into messages that a platform takes.
//!
//! Text is pushed at the end; pieces close at the front. A piece that closed never changes, and
//! where it was cut depends on the text alone, not on how it came in parts. So the same output
//! gives the same messages after a restart.
//!
//! A cut prefers the end of a line, then a space, then the border of a visible character; it
//! loses nothing. In Markdown a cut inside a fenced block closes the fence and opens it again
//! in the next piece; what was put in for that is counted in [`Piece::head`] and [`Piece::tail`].

use unicode_segmentation::{GraphemeCursor, GraphemeIncomplete};

use super::platform::Markup;

/// In what a platform counts the length of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Unicode code points, as Discord counts.
    CodePoints,
    /// UTF-16 code units, as Microsoft Teams counts.
    Utf16,
    /// Bytes of UTF-8, as Slack counts edits.
    Bytes,
}

impl Unit {
    /// The length of one character.
    fn of(self, c: char) -> usize {
        match self {
            Self::CodePoints => 1,
            Self::Utf16 => c.len_utf16(),
            Self::Bytes => c.len_utf8(),
        }
    }

    /// The length of a text.
    #[must_use]
    pub fn measure(self, text: &str) -> usize {
        match self {
            Self::Bytes => text.len(),
            _ => text.chars().map(|c| self.of(c)).sum(),
        }
    }
}

/// One message's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// The text as it is to stand in the message.
    pub text: String,
    /// How many bytes in front were put in to open a fence again.
    pub head: usize,
    /// How many bytes at the end were put in to close a fence.
    pub tail: usize,
}

impl Piece {
    /// The text without what was put in.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.text[self.head..self.text.len() - self.tail]
    }
}

/// A fence that stands open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fence {
    /// The line that opened it, without its line break.
    opener: String,
    /// The character that fences are made of here, and how many of it.
    pub(super) mark: char,
    pub(super) length: usize,
}

impl Fence {
    fn closer(&self) -> String {
        std::iter::repeat_n(self.mark, self.length).collect()
    }
}

/// The fence that a line opens or could close, with what stands behind the marks.
pub(super) fn fence_line(line: &str) -> Option<(Fence, &str)> {
    let inner = line.trim_start_matches(' ');
    if line.len() - inner.len() > 3 {
        return None;
    }
    let mark = inner.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let length = inner.chars().take_while(|c| *c == mark).count();
    let info = inner[length..].trim_end();
    if !(3..=LONGEST_FENCE).contains(&length) || (mark == '`' && info.contains('`')) {
        return None;
    }
    Some((Fence { opener: line.trim_end().to_owned(), mark, length }, info))
}

/// Which fence stands open behind a text that began with one open or none.
fn fence_after(mut open: Option<Fence>, text: &str) -> Option<Fence> {
    for line in text.split_inclusive('\n') {
        match (&open, fence_line(line.trim_end_matches(['\n', '\r']))) {
            (None, Some((fence, _))) => open = Some(fence),
            (Some(now), Some((fence, "")))
                if fence.mark == now.mark && fence.length >= now.length =>
            {
                open = None;
            }
            _ => {}
        }
    }
    open
}

/// The longest run of marks that counts as a fence; so that opening and closing one leaves
/// room for text in the smallest message.
const LONGEST_FENCE: usize = 16;

/// The room to keep free for closing a fence, for growing prefixes of a text: it never shrinks,
/// whether a fence stands open or not, so that more text never makes a message shorter.
struct Reserve {
    room: usize,
    indent: usize,
    mark: Option<char>,
    run: usize,
    at_start: bool,
}

impl Reserve {
    fn new(open: Option<&Fence>) -> Self {
        let room = open.map_or(0, |fence| fence.length + 1);
        Self { room, indent: 0, mark: None, run: 0, at_start: true }
    }

    /// The room behind one more character.
    fn after(&mut self, c: char) -> usize {
        match c {
            '\n' => *self = Self { room: self.room, ..Self::new(None) },
            ' ' if self.at_start && self.run == 0 && self.indent < 3 => self.indent += 1,
            '`' | '~' if self.at_start && self.mark.is_none_or(|mark| mark == c) => {
                self.mark = Some(c);
                self.run += 1;
                if (3..=LONGEST_FENCE).contains(&self.run) {
                    self.room = self.room.max(self.run + 1);
                }
            }
            _ => self.at_start = false,
        }
        self.room
    }
}

/// A growing text, cut into pieces.
#[derive(Debug, Clone)]
pub struct Splitter {
    limit: usize,
    unit: Unit,
    markup: Markup,
    /// What does not stand in a closed piece yet.
    open: String,
    /// The fence that the open piece must open again.
    fence: Option<Fence>,
    closed: usize,
}

impl Splitter {
    /// Cuts at `limit` of `unit`, which is at least 64.
    #[must_use]
    pub fn new(limit: usize, unit: Unit, markup: Markup) -> Self {
        Self { limit: limit.max(64), unit, markup, open: String::new(), fence: None, closed: 0 }
    }

    /// An empty one with the same limits.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(self.limit, self.unit, self.markup)
    }

    /// How many pieces have closed.
    #[must_use]
    pub fn closed(&self) -> usize {
        self.closed
    }

    /// Appends text and answers with the pieces that closed by it.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.open.push_str(text);
        let mut pieces = Vec::new();
        while let Some(piece) = self.close_one() {
            pieces.push(piece);
        }
        pieces
    }

    /// The open piece as it is now; a fence that stands open is closed for show.
    #[must_use]
    pub fn current(&self) -> Piece {
        self.piece(&self.open)
    }

    /// What would stand in the messages if `more` came and then the end: the pieces that would
    /// close, and the last one. The splitter itself stays as it is.
    #[must_use]
    pub fn preview(&self, more: &str) -> Vec<Piece> {
        let mut copy = self.clone();
        let mut pieces = copy.push(more);
        pieces.push(copy.current());
        pieces
    }

    /// The line that opens the fence again, if one stood open; a very long one without its words.
    fn head(&self) -> String {
        match &self.fence {
            Some(fence) if fence.opener.len() <= self.limit / 4 => format!("{}\n", fence.opener),
            Some(fence) => format!("{}\n", fence.closer()),
            None => String::new(),
        }
    }

    fn piece(&self, body: &str) -> Piece {
        let head = self.head();
        let open = match self.markup {
            Markup::Plain => None,
            Markup::Markdown => fence_after(self.fence.clone(), body),
        };
        let tail = open.map_or_else(String::new, |fence| {
            let line_break = if body.ends_with('\n') || body.is_empty() { "" } else { "\n" };
            format!("{line_break}{}", fence.closer())
        });
        Piece { head: head.len(), tail: tail.len(), text: format!("{head}{body}{tail}") }
    }

    fn close_one(&mut self) -> Option<Piece> {
        let end = self.fitting()?;
        let rest = self.open.split_off(self.cut(end));
        let body = std::mem::replace(&mut self.open, rest);
        let piece = self.piece(&body);
        if self.markup == Markup::Markdown {
            self.fence = fence_after(self.fence.take(), &body);
        }
        self.closed += 1;
        Some(piece)
    }

    /// The byte behind the last character that fits into a message, if not all do.
    fn fitting(&self) -> Option<usize> {
        let mut used = self.unit.measure(&self.head());
        let mut reserve = Reserve::new(self.fence.as_ref());
        for (at, c) in self.open.char_indices() {
            used += self.unit.of(c);
            let room = match self.markup {
                Markup::Plain => 0,
                Markup::Markdown => reserve.after(c),
            };
            if used + room > self.limit {
                return Some(at);
            }
        }
        None
    }

    /// Where to cut in front of `end`: behind a line, behind a space, before a visible
    /// character; anywhere, where one such character is larger than a message.
    fn cut(&self, end: usize) -> usize {
        let head = &self.open[..end];
        let early = floor(&self.open, end / 2);
        if let Some(at) = head.rfind('\n').map(|at| at + 1).filter(|at| *at > early) {
            return at;
        }
        if let Some(at) = head.rfind(' ').map(|at| at + 1).filter(|at| *at > early) {
            return at;
        }
        match last_border(head) {
            0 => end,
            at => at,
        }
    }
}

/// The border of the last visible character in front of the end. What follows the end is not
/// looked at, so the answer does not depend on how much has come in yet.
fn last_border(text: &str) -> usize {
    let mut cursor = GraphemeCursor::new(text.len(), text.len(), true);
    loop {
        match cursor.prev_boundary(text, 0) {
            Ok(border) => return border.unwrap_or(0),
            Err(GraphemeIncomplete::PreContext(end)) => cursor.provide_context(&text[..end], 0),
            Err(_) => return 0,
        }
    }
}

/// The nearest border of a code point at or in front of a byte.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(splitter: &mut Splitter, parts: &[&str]) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| splitter.push(part)).collect();
        pieces.push(splitter.current());
        pieces
    }

    fn units() -> impl Strategy<Value = Unit> {
        prop_oneof![Just(Unit::CodePoints), Just(Unit::Utf16), Just(Unit::Bytes)]
    }

    fn markups() -> impl Strategy<Value = Markup> {
        prop_oneof![Just(Markup::Plain), Just(Markup::Markdown)]
    }

    fn prose() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just("```\n".to_owned()),
                Just("```rust\n".to_owned()),
                Just("~~~~\n".to_owned()),
                Just("👩‍👩‍👧‍👦".to_owned()),
                Just("e\u{301}".to_owned()),
                Just("汉字\n".to_owned()),
                "[a-z ]{0,30}",
                "[a-z]{60,90}",
                "[a-z \n`~]{0,12}",
                "\\PC{0,8}",
            ],
            0..40,
        )
        .prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn pieces_lose_nothing_and_keep_the_limit(
            text in prose(), limit in 64_usize..200, unit in units(), markup in markups(),
        ) {
            let mut splitter = Splitter::new(limit, unit, markup);
            let pieces = all(&mut splitter, &[&text]);
            let joined: String = pieces.iter().map(Piece::body).collect();
            prop_assert_eq!(joined, text);
            for piece in &pieces {
                prop_assert!(unit.measure(&piece.text) <= limit, "{:?}", piece);
            }
        }

        #[test]
        fn where_a_text_is_cut_does_not_depend_on_how_it_came(
            text in prose(), at in any::<prop::sample::Index>(), limit in 64_usize..200, unit in units(),
            markup in markups(),
        ) {
            let borders: Vec<usize> =
                text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let (front, back) = text.split_at(*at.get(&borders));
            let whole = all(&mut Splitter::new(limit, unit, markup), &[&text]);
            let parts = all(&mut Splitter::new(limit, unit, markup), &[front, back]);
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn every_markdown_piece_closes_the_fences_that_it_opens(
            text in prose(), limit in 64_usize..200, unit in units(),
        ) {
            for piece in all(&mut Splitter::new(limit, unit, Markup::Markdown), &[&text]) {
                prop_assert_eq!(fence_after(None, &piece.text), None, "{}", piece.text);
            }
        }
    }

    #[test]
    fn a_fence_that_is_cut_opens_again_with_its_language() {
        let mut splitter = Splitter::new(64, Unit::CodePoints, Markup::Markdown);
        let text = format!("See:\n```rust\n{}```\nDone.", "let x = 1;\n".repeat(8));
        let pieces = all(&mut splitter, &[&text]);
        let shown: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
        insta::assert_snapshot!(shown.join("\n=====\n"));
    }

    #[test]
    fn a_family_is_not_torn_apart() {
        let text = "👩‍👩‍👧‍👦".repeat(30);
        for piece in all(&mut Splitter::new(64, Unit::Utf16, Markup::Plain), &[&text]) {
            assert_eq!(piece.text.replace("👩‍👩‍👧‍👦", ""), "");
        }
    }
}
