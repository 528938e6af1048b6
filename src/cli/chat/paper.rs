//! What a terminal prints for frames. A terminal is paper: what stands there stays. So of an
//! edit only what is new is printed, and a frame that comes again prints nothing. Pure.

use std::collections::{HashMap, HashSet};

use super::markdown::Markdown;
use crate::{chat::frames::FrameOp, cli::out::harmless_lines};

/// What is new in a message that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delta<'a> {
    /// It goes on with this.
    More(&'a str),
    /// Its end changed; this is the new end, from the first line on that is different.
    Changed(&'a str),
}

/// What is new, compared with what was printed.
#[must_use]
pub fn delta<'a>(old: &str, new: &'a str) -> Delta<'a> {
    if let Some(more) = new.strip_prefix(old) {
        return Delta::More(more);
    }
    let same = old
        .char_indices()
        .zip(new.char_indices())
        .take_while(|((_, a), (_, b))| a == b)
        .last()
        .map_or(0, |((at, c), _)| at + c.len_utf8());
    let line = new[..same].rfind('\n').map_or(0, |at| at + 1);
    Delta::Changed(&new[line..])
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    /// Whether only whole lines may be printed, because a prompt stands below them.
    pub whole_lines: bool,
    /// Whether to use colours.
    pub color: bool,
    /// Whether to show Markdown with its look.
    pub markdown: bool,
    /// Whether what would steer a terminal is shown instead of obeyed.
    pub harmless: bool,
}

/// The delivery that a message belongs to.
pub(super) fn delivery_of(message: &str) -> &str {
    message.rsplit_once('.').map_or(message, |(delivery, _)| delivery)
}

/// Whether a message has said all that it says until somebody chooses: its choices end it, and who
/// chooses says a line more, which has an end of its own.
pub(super) fn waits_for_choice(message: &str, text: &str) -> bool {
    text.contains(&format!("/od-choose {} ", delivery_of(message)))
}

/// What was printed so far.
#[derive(Debug)]
pub(super) struct Paper {
    style: Style,
    /// What every message shows whose delivery has not ended.
    messages: HashMap<String, String>,
    /// What stands in front of the first line break of a message: the name of what it shows.
    labels: HashMap<String, String>,
    /// Deliveries that have ended.
    ended: HashSet<String>,
    /// The delivery that was printed last, and has not ended.
    current: Option<String>,
    /// The front of a line that is not printed yet, because it has no end.
    held: String,
    /// Whether what was printed ends a line.
    at_start: bool,
    markdown: Markdown,
}

impl Paper {
    pub(super) fn new(style: Style) -> Self {
        Self {
            style,
            messages: HashMap::new(),
            labels: HashMap::new(),
            ended: HashSet::new(),
            current: None,
            held: String::new(),
            at_start: true,
            markdown: Markdown::default(),
        }
    }

    /// What to print for a frame.
    pub(super) fn show(&mut self, op: &FrameOp) -> String {
        let (id, text, last) = match op {
            FrameOp::Post { id, text } => (id, text, false),
            FrameOp::Edit { id, text, last } => (id, text, *last),
            FrameOp::Heartbeat => return String::new(),
        };
        let text = &match self.style.harmless {
            true => harmless_lines(text),
            false => text.clone(),
        };
        let delivery = delivery_of(id);
        if self.ended.contains(delivery) {
            return String::new();
        }
        // A post that comes again shows less than what stands there by now.
        if matches!(op, FrameOp::Post { .. }) && self.messages.contains_key(id) {
            return String::new();
        }
        let old = self.messages.insert(id.clone(), text.clone()).unwrap_or_default();
        let mut out = String::new();
        match delta(&old, text) {
            Delta::More("") => {}
            Delta::More(more) => {
                let goes_on = !old.is_empty() || self.labels.contains_key(delivery);
                self.turn_to(delivery, goes_on, &mut out);
                self.put(more, last, &mut out);
            }
            Delta::Changed(end) => {
                self.turn_to(delivery, true, &mut out);
                self.break_line(&mut out);
                self.put(end, last, &mut out);
            }
        }
        if !self.labels.contains_key(delivery)
            && let Some(word) = text.split_whitespace().next()
        {
            // What an agent says begins with whatever it likes.
            let name = word.trim_end_matches(':');
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let label = if name.chars().all(is_name) { name } else { "" };
            self.labels.insert(delivery.to_owned(), label.to_owned());
        }
        // Its last line has no break, and without it nobody could choose.
        if waits_for_choice(id, text) && self.current.as_deref() == Some(delivery) {
            self.break_line(&mut out);
        }
        if last {
            if self.current.as_deref() == Some(delivery) {
                self.break_line(&mut out);
                self.current = None;
            }
            self.labels.remove(delivery);
            self.messages.retain(|message, _| delivery_of(message) != delivery);
            self.ended.insert(delivery.to_owned());
        }
        out
    }

    /// What to print for a line that is not from the conversation.
    pub(super) fn note(&mut self, line: &str) -> String {
        let mut out = String::new();
        // Where only whole lines are shown, what is held back goes on behind this.
        if !self.style.whole_lines {
            self.break_line(&mut out);
        }
        out.push_str(line);
        out.push('\n');
        out
    }

    /// Lets the next text be of this delivery; says so where it goes on behind another's.
    fn turn_to(&mut self, delivery: &str, goes_on: bool, out: &mut String) {
        if self.current.as_deref() == Some(delivery) {
            return;
        }
        self.break_line(out);
        self.markdown.end_fence();
        if goes_on && let Some(label) = self.labels.get(delivery).filter(|label| !label.is_empty())
        {
            out.push_str(&self.dim(&format!("[{label}]")));
            out.push('\n');
        }
        self.current = Some(delivery.to_owned());
    }

    fn break_line(&mut self, out: &mut String) {
        let table = self.markdown.end_table();
        if !table.is_empty() {
            out.push_str(&table);
            self.at_start = true;
        }
        if !self.held.is_empty() {
            out.push_str(&std::mem::take(&mut self.held));
            self.at_start = false;
        }
        if !self.at_start {
            out.push('\n');
            self.at_start = true;
        }
    }

    fn put(&mut self, text: &str, last: bool, out: &mut String) {
        if !self.style.whole_lines {
            out.push_str(text);
            self.at_start = text.ends_with('\n');
            return;
        }
        self.held.push_str(text);
        let whole =
            if last { self.held.len() } else { self.held.rfind('\n').map_or(0, |at| at + 1) };
        let rest = self.held.split_off(whole);
        let lines = std::mem::replace(&mut self.held, rest);
        let end = lines.lines().count();
        for (n, line) in lines.split_inclusive('\n').enumerate() {
            let ends = last && n + 1 == end;
            out.push_str(&self.paint(line, ends));
        }
        if !lines.is_empty() {
            self.at_start = lines.ends_with('\n');
        }
    }

    fn dim(&self, text: &str) -> String {
        if self.style.color { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Colours for the lines that are ours, and none for what an agent printed.
    fn paint(&mut self, line: &str, ends: bool) -> String {
        let text = line.trim_end_matches('\n');
        let rest = &line[text.len()..];
        if !self.style.color {
            return line.to_owned();
        }
        if !self.style.markdown {
            return self.paint_ours(text, ends).unwrap_or_else(|| text.to_owned()) + rest;
        }
        let Some(ours) = self.paint_ours(text, ends) else {
            let mut shown = self.markdown.line(text);
            if rest.is_empty() {
                shown.pop();
            }
            return shown;
        };
        self.markdown.end_table() + &ours + rest
    }

    /// A line that is ours.
    fn paint_ours(&self, text: &str, ends: bool) -> Option<String> {
        if ends && text.contains(" succeeded") {
            return Some(format!("\x1b[32m{text}\x1b[0m"));
        }
        if ends
            && [" failed", " timed out", " was cancelled"].iter().any(|word| text.contains(word))
        {
            return Some(format!("\x1b[31m{text}\x1b[0m"));
        }
        let is_ours = text.starts_with("→ ") || text.starts_with("· ");
        is_ours.then(|| self.dim(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIPE: Style =
        Style { whole_lines: false, color: false, markdown: false, harmless: false };
    const TERMINAL: Style =
        Style { whole_lines: true, color: false, markdown: false, harmless: true };

    fn post(id: &str) -> FrameOp {
        FrameOp::Post { id: id.into(), text: String::new() }
    }

    fn edit(id: &str, text: &str, last: bool) -> FrameOp {
        FrameOp::Edit { id: id.into(), text: text.into(), last }
    }

    fn printed(style: Style, ops: &[FrameOp]) -> String {
        let mut paper = Paper::new(style);
        ops.iter().map(|op| paper.show(op)).collect()
    }

    #[test]
    fn nothing_that_is_said_steers_a_terminal_and_a_pipe_gets_it_as_it_is() {
        let text = "\u{1b}]0;PWN\u{7}a\u{1b}[2J\u{202e}".to_owned();
        let op = FrameOp::Edit { id: "d.1".to_owned(), text: text.clone(), last: true };
        for color in [true, false] {
            let style = Style { color, markdown: color, ..TERMINAL };
            let shown = Paper::new(style).show(&op);
            assert!(shown.contains("\\u{1b}]0;PWN\\u{7}a"), "{shown:?}");
            assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
        }
        assert_eq!(Paper::new(PIPE).show(&op).trim_end(), text);
    }

    proptest! {
        #[test]
        fn what_grows_is_printed_once_whatever_comes_twice(
            text in "[a-z\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..6),
            again in proptest::collection::vec(any::<bool>(), 7), terminal in any::<bool>(),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut ops = vec![post("d.0")];
            ops.extend(cuts.iter().map(|cut| edit("d.0", &text[..*cut], false)));
            ops.push(edit("d.0", &text, true));
            let twice: Vec<FrameOp> = ops
                .iter()
                .zip(again.iter().cycle())
                .flat_map(|(op, again)| std::iter::repeat_n(op.clone(), 1 + usize::from(*again)))
                .collect();
            let style = if terminal { TERMINAL } else { PIPE };
            let line_break = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            prop_assert_eq!(printed(style, &twice), format!("{text}{line_break}"));
        }

        #[test]
        fn a_delta_leads_from_the_old_to_the_new(old in "[ab\n]{0,12}", new in "[ab\n]{0,12}") {
            match delta(&old, &new) {
                Delta::More(more) => prop_assert_eq!(format!("{old}{more}"), new),
                Delta::Changed(end) => {
                    prop_assert!(new.ends_with(end));
                    let kept = &new[..new.len() - end.len()];
                    prop_assert!(old.starts_with(kept));
                    prop_assert!(kept.is_empty() || kept.ends_with('\n'));
                }
            }
        }
    }

    #[test]
    fn two_jobs_at_once_can_be_told_apart() {
        let ops = [
            post("a.0"),
            edit("a.0", "run-a created\none", false),
            post("b.0"),
            edit("b.0", "run-b created\n", false),
            edit("a.0", "run-a created\none two\n", false),
            edit("b.0", "run-b created\nrun-b succeeded", true),
            edit("a.0", "run-a created\none two\nrun-a failed", true),
        ];
        insta::assert_snapshot!(format!(
            "{}-----\n{}",
            printed(PIPE, &ops),
            printed(TERMINAL, &ops)
        ));
    }

    #[test]
    fn a_message_that_continues_another_of_its_delivery_goes_on_in_the_same_line() {
        let ops = [edit("a.0", "one tw", false), post("a.1"), edit("a.1", "o three", true)];
        assert_eq!(printed(PIPE, &ops), "one two three\n");
        assert_eq!(printed(TERMINAL, &ops), "one two three\n");
    }

    #[test]
    fn every_choice_is_shown_while_it_waits_and_what_came_of_it_stands_below() {
        let offer = "Done would be:\n  one\nYes: /od-choose a 1\nNo: /od-choose a 2";
        for style in [PIPE, TERMINAL] {
            let mut paper = Paper::new(style);
            assert_eq!(paper.show(&edit("a.0", offer, false)), format!("{offer}\n"));
            let chosen = edit("a.0", "Done would be:\n  one\nconsole: done", true);
            assert_eq!(paper.show(&chosen), "console: done\n");
        }
    }

    #[test]
    fn a_changed_end_is_printed_anew_from_its_line() {
        let ops = [edit("a.0", "one\ntwo", false), edit("a.0", "one\ntoo\nend", true)];
        assert_eq!(printed(PIPE, &ops), "one\ntwo\ntoo\nend\n");
    }

    #[test]
    fn colours_mark_our_lines_only() {
        let style = Style { whole_lines: true, color: true, markdown: false, harmless: true };
        let text = "run-a created\n· cloning\nplain failed\nrun-a failed: exit code 1";
        assert_eq!(
            printed(style, &[edit("a.0", text, true)]),
            "run-a created\n\u{1b}[2m· cloning\u{1b}[0m\nplain failed\n\u{1b}[31mrun-a failed: \
             exit code 1\u{1b}[0m\n"
        );
    }

    #[test]
    fn a_table_is_shown_before_whatever_ends_it() {
        let style = Style { whole_lines: true, color: true, markdown: true, harmless: true };
        let table = "| a | b |\n|---|---|\n| longer | c |";
        let shown = "\u{1b}[1m| a      | b   |\u{1b}[0m\n\u{1b}[2m| ------ | --- |\u{1b}[0m\n\
                     | longer | c   |\n";
        assert_eq!(printed(style, &[edit("a.0", table, true)]), shown);
        let ours = format!("{table}\n· ours");
        let ended = printed(style, &[edit("a.0", &ours, true)]);
        assert_eq!(ended, format!("{shown}\u{1b}[2m· ours\u{1b}[0m\n"));
        let ops = [edit("a.0", &format!("{table}\n"), false), edit("b.0", "other\n", false)];
        assert_eq!(printed(style, &ops), format!("{shown}other\n"));
    }

    #[test]
    fn a_note_does_not_tear_the_line_that_is_on_its_way() {
        let mut paper = Paper::new(TERMINAL);
        let mut shown = paper.show(&edit("a.0", "half a", false));
        shown += &paper.note("· a note");
        shown += &paper.show(&edit("a.0", "half a line\n", false));
        assert_eq!(shown, "· a note\nhalf a line\n");
    }
}
