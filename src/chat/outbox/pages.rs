//! A growing text on the pages of a conversation: translated, cut into messages, and past the most
//! that a platform's reader should scroll through, kept for a file.
//!
//! Past `max_messages` no more pages come. One last message says that the rest comes as a file,
//! shows what is asked meanwhile, and in the end how it ended; behind it stands the file, with all
//! that was said from its beginning.

use std::collections::VecDeque;

use bytes::Bytes;

use super::rendering::Place;
use crate::chat::{
    dialect::Translator,
    platform::{Capabilities, Markup, Upload},
    split::{Piece, Splitter},
};

/// The most that is kept for a file, in bytes, should a platform take larger ones.
const MOST_KEPT: u64 = 8 * 1024 * 1024;

/// What a text becomes.
#[derive(Clone)]
pub(super) struct Pages {
    translator: Translator,
    splitter: Splitter,
    /// Complete pieces that do not stand in the conversation yet, each with a place in the output
    /// that it shows or those in front of it.
    ready: VecDeque<(String, Place)>,
    /// The number of the first message that this makes; those in front of it were made by another.
    begins: usize,
    /// The number of the first of the pieces.
    first: usize,
    /// The number of the message that is still edited: those in front of it are complete.
    standing: usize,
    /// How many messages it may fill; 0 for as many as it takes.
    most: usize,
    kept: Kept,
}

/// The whole text, as it was said, for a file.
#[derive(Clone)]
struct Kept {
    text: String,
    /// The most bytes; 0 where nothing is kept.
    most: usize,
    /// Whether the front was dropped.
    is_cut: bool,
    ending: &'static str,
}

/// The texts of messages from number `first` on.
pub(super) struct Laid {
    pub(super) first: usize,
    pub(super) texts: Vec<String>,
    /// How many bytes of the last of them stay when more comes.
    pub(super) steady: usize,
    /// What stands in a file behind them.
    pub(super) file: Option<Upload>,
    /// Whether what stands at the end for the moment did not fit there.
    pub(super) is_cut: bool,
}

impl Pages {
    pub(super) fn new(capabilities: &Capabilities) -> Self {
        let most = capabilities.max_messages;
        let kept = match most {
            0 => 0,
            _ => capabilities.max_file.min(MOST_KEPT),
        };
        Self {
            translator: Translator::new(capabilities.dialect),
            splitter: Splitter::new(
                capabilities.max_message,
                capabilities.unit,
                capabilities.markup,
            ),
            ready: VecDeque::new(),
            begins: 0,
            first: 0,
            standing: 0,
            most,
            kept: Kept {
                text: String::new(),
                most: usize::try_from(kept).unwrap_or(usize::MAX),
                is_cut: false,
                ending: match capabilities.markup {
                    Markup::Plain => "txt",
                    Markup::Markdown => "md",
                },
            },
        }
    }

    /// Takes text, of which `place` says how far the output was read for it.
    pub(super) fn append(&mut self, text: &str, place: &Place) {
        self.kept.push(text);
        let text = self.translator.push(text);
        for piece in self.splitter.push(&text) {
            // What no page will show is in the file.
            if !self.is_full(self.first + self.ready.len()) {
                self.ready.push_back((piece.text, place.clone()));
            }
        }
        self.stand(self.standing);
    }

    /// Begins with a message; what stood in it and before is not made again.
    pub(super) fn begin_at(&mut self, index: usize) {
        self.ready.clear();
        self.kept.is_cut = true;
        (self.begins, self.first) = (index, index);
        self.stand(index);
    }

    /// The number of the first message that this makes.
    pub(super) fn begins(&self) -> usize {
        self.begins
    }

    /// How far all is shown once a message stands; nothing if that is how far all was read.
    pub(super) fn shown_by(&self, index: usize) -> Option<&Place> {
        let piece = index.checked_sub(self.first).and_then(|at| self.ready.get(at));
        piece.map(|(_, place)| place)
    }

    /// Whether what is read from now on stands on no page.
    pub(super) fn goes_into_a_file(&self) -> bool {
        self.is_full(self.first + self.ready.len())
    }

    /// Forgets the pieces in front of a message: they stand in the conversation, complete.
    pub(super) fn stand(&mut self, index: usize) {
        self.standing = index;
        while self.first < index && self.ready.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Whether there is nothing to be shown yet.
    pub(super) fn is_blank(&self) -> bool {
        self.first == 0
            && self.ready.is_empty()
            && self.splitter.current().text.is_empty()
            && self.translator.rest().is_empty()
    }

    /// How many complete pieces wait to be shown.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Whether so many messages are all that it may fill.
    fn is_full(&self, messages: usize) -> bool {
        self.most > 0 && messages >= self.most
    }

    fn complete(&self) -> Vec<String> {
        self.ready.iter().map(|(text, _)| text.clone()).collect()
    }

    /// The open page with this behind it, as pieces.
    fn open(&self, more: &str) -> Vec<Piece> {
        let mut translator = self.translator.clone();
        let text = translator.push(more);
        self.splitter.preview(&(text + &translator.rest()))
    }

    /// What stands there with nothing behind it yet. `now` is what stands at the end for the
    /// moment, as far as it fits there; `name` is whose text it is.
    pub(super) fn growing(&self, now: &str, name: &str) -> Laid {
        let mut texts = self.complete();
        if self.goes_into_a_file() {
            let rest = match self.kept.most {
                0 => format!("{name} goes on; open-dispatch logs {name} shows it all"),
                _ => format!("{name} goes on; all of it comes as a file when it has ended"),
            };
            let line = if now.is_empty() { rest } else { format!("{rest}\n{now}") };
            let (alone, is_cut) = self.alone(&line);
            texts.extend(alone);
            return Laid { first: self.first, texts, steady: 0, file: None, is_cut };
        }
        // A second message would stay when this goes.
        let open = self.open(now);
        let is_cut = open.len() > 1;
        texts.extend(open.into_iter().take(1).map(|piece| piece.text));
        if self.first == self.begins && texts.len() == 1 && texts[0].is_empty() {
            texts.clear();
        }
        let steady = self.steady(texts.last());
        Laid { first: self.first, texts, steady, file: None, is_cut }
    }

    /// How much of a text is the open page without what was put in to close it.
    fn steady(&self, shown: Option<&String>) -> usize {
        let open = self.splitter.current();
        let steady = &open.text[..open.text.len() - open.tail];
        match shown {
            Some(shown) if open.head < steady.len() && shown.starts_with(steady) => steady.len(),
            _ => 0,
        }
    }

    /// What stands there with its end. `line` is the end alone, for a message of its own; `name` is
    /// whose text it is.
    pub(super) fn whole(&self, end: &str, line: &str, name: &str) -> Laid {
        let mut texts = self.complete();
        let full = self.goes_into_a_file();
        let open = self.open(end);
        // The end alone is no reason for a file.
        if !full && (self.most == 0 || self.first + texts.len() + open.len() <= self.most + 1) {
            texts.extend(open.into_iter().map(|piece| piece.text));
            return Laid { first: self.first, texts, steady: 0, file: None, is_cut: false };
        }
        texts.extend(open.into_iter().map(|piece| piece.text));
        texts.truncate(self.most.saturating_sub(self.first));
        let mut kept = self.kept.clone();
        kept.push(end);
        let file = kept.file(name);
        let line = match &file {
            Some(_) => line.to_owned(),
            None => format!("! the rest is left out here: open-dispatch logs {name}\n{line}"),
        };
        texts.extend(self.alone(&line).0);
        Laid { first: self.first, texts, steady: 0, file, is_cut: false }
    }

    /// A text in a message of its own, and whether it was cut.
    fn alone(&self, text: &str) -> (Option<String>, bool) {
        let pieces = self.splitter.fresh().preview(&self.translator.fresh_whole(text));
        let is_cut = pieces.len() > 1;
        (pieces.into_iter().next().map(|piece| piece.text), is_cut)
    }
}

impl Kept {
    fn push(&mut self, text: &str) {
        if self.most == 0 {
            return;
        }
        self.text.push_str(text);
        if self.text.len() > self.most.saturating_mul(2) {
            self.cut();
        }
    }

    /// Drops whole lines in front, so that the newest are kept.
    fn cut(&mut self) {
        let Some(mut from) = self.text.len().checked_sub(self.most).filter(|from| *from > 0) else {
            return;
        };
        while !self.text.is_char_boundary(from) {
            from += 1;
        }
        let line = self.text[from..].find('\n').map_or(from, |at| from + at + 1);
        self.text.drain(..line);
        self.is_cut = true;
    }

    fn file(mut self, name: &str) -> Option<Upload> {
        const CUT: &str = "… what stood in front does not fit into one file\n";
        if self.most == 0 {
            return None;
        }
        self.most = self.most.saturating_sub(CUT.len());
        self.cut();
        let front = if self.is_cut { CUT } else { "" };
        let bytes = Bytes::from(format!("{front}{}\n", self.text));
        Some(Upload { name: format!("{name}.{}", self.ending), bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        chat::{platform::Dialect, split::Unit},
        store::Cursor,
    };

    fn capabilities(max_messages: usize, max_file: u64) -> Capabilities {
        Capabilities {
            max_message: 100,
            unit: Unit::CodePoints,
            markup: Markup::Markdown,
            dialect: Dialect::Discord,
            pace: Duration::ZERO,
            lookup: false,
            placeholder: "…",
            buttons: 5,
            whispers: false,
            max_file,
            max_messages,
        }
    }

    fn lines(n: usize) -> String {
        (0..n).map(|n| format!("this is line {n}\n")).collect()
    }

    #[test]
    fn past_the_most_messages_the_rest_is_a_file_and_the_end_is_still_shown() {
        let mut pages = Pages::new(&capabilities(3, 1_000_000));
        pages.append(&lines(100), &Place::default());
        let growing = pages.growing("working", "bot");
        assert_eq!(growing.texts.len(), 4);
        assert_eq!(
            growing.texts[3],
            "bot goes on; all of it comes as a file when it has ended\nworking"
        );
        let whole = pages.whole("bot has answered", "bot has answered", "bot");
        assert_eq!(whole.texts.len(), 4);
        assert_eq!(whole.texts[3], "bot has answered");
        let file = whole.file.expect("a file");
        assert_eq!(file.name, "bot.md");
        assert_eq!(file.bytes, format!("{}bot has answered\n", lines(100)));
        assert_eq!(growing.texts[..3], whole.texts[..3], "what is complete stays");
    }

    #[test]
    fn what_is_kept_for_a_file_is_not_shown_until_the_file_is() {
        let mut pages = Pages::new(&capabilities(1, 1_000_000));
        let at = |seq| Place { sprite: None, cursor: Cursor { run: 1, seq } };
        pages.append(&lines(3), &at(1));
        assert!(!pages.goes_into_a_file());
        pages.append(&lines(20), &at(2));
        assert_eq!(pages.shown_by(0).map(|place| place.cursor.seq), Some(2), "the only page");
        assert!(pages.shown_by(1).is_none() && pages.goes_into_a_file());
        // Also behind the most pages, where a restart goes on.
        pages.begin_at(4);
        assert!(pages.shown_by(4).is_none() && pages.goes_into_a_file());
    }

    #[test]
    fn a_file_that_would_be_too_large_begins_later_and_says_so() {
        let mut pages = Pages::new(&capabilities(1, 300));
        for n in 0..100 {
            pages.append(&format!("this is line {n}\n"), &Place::default());
        }
        let file = pages.whole("end", "end", "bot").file.expect("a file");
        assert!(file.bytes.len() <= 301, "{}", file.bytes.len());
        let text = String::from_utf8(file.bytes.to_vec()).expect("text");
        assert!(text.starts_with("… what stood in front"), "{text}");
        assert!(text.ends_with("this is line 99\nend\n"), "{text}");
    }

    #[test]
    fn where_no_file_is_taken_the_end_says_where_the_rest_is() {
        let mut pages = Pages::new(&capabilities(1, 0));
        pages.append(&lines(100), &Place::default());
        let whole = pages.whole("end", "end", "bot");
        assert!(whole.file.is_none());
        assert_eq!(whole.texts[1], "! the rest is left out here: open-dispatch logs bot\nend");
    }

    proptest! {
        #[test]
        fn what_stands_in_complete_messages_never_changes(
            parts in proptest::collection::vec("(a\\*\\*b |```\n|[a-z ]{0,40}|\n|👩‍👩‍👧‍👦){0,6}", 1..20),
            most in 0..4_usize,
        ) {
            let mut pages = Pages::new(&capabilities(most, 1_000_000));
            let mut before: Vec<String> = Vec::new();
            let mut steady = (0, String::new());
            for part in &parts {
                pages.append(part, &Place::default());
                let now = pages.growing("", "bot");
                let complete = now.texts.len().saturating_sub(1).min(
                    if most == 0 { usize::MAX } else { most },
                );
                let shared = before.len().min(complete);
                prop_assert_eq!(&before[..shared], &now.texts[..shared]);
                prop_assert!(now.texts.iter().all(|text| text.chars().count() <= 100));
                let front = now.texts.last().map_or("", |text| &text[..now.steady]).to_owned();
                let at = now.first + now.texts.len();
                if steady.0 == at {
                    prop_assert!(front.starts_with(&steady.1), "{steady:?} {front:?}");
                }
                steady = (at, front);
                prop_assert!(most == 0 || now.texts.len() <= most + 1);
                before = now.texts[..complete].to_vec();
            }
            let whole = pages.whole("END", "END", "bot");
            prop_assert_eq!(&before[..], &whole.texts[..before.len()]);
            prop_assert!(whole.texts.last().is_some_and(|text| text.contains("END")));
        }
    }
}
