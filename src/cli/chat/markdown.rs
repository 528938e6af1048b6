//! Markdown on paper: what an agent says, shown with weight and colour, line by line.
//!
//! A terminal is paper, and below it stands a prompt: so each line is shown once, when it is whole,
//! and never again. And what an agent *prints* comes in the same text as what it says. So nothing is
//! taken away: the signs stay where they are, and only the look of what they mark changes. Lines of
//! a fence get a rule at their left.

use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const ITALIC: &str = "\x1b[3m";
const UNDERLINE: &str = "\x1b[4m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";

/// Where in a text the lines are.
#[derive(Debug, Default)]
pub(super) struct Markdown {
    /// The sign that began the fence that is open.
    fence: Option<String>,
}

impl Markdown {
    /// Shows a line, which has no line break.
    pub(super) fn line(&mut self, line: &str) -> String {
        let start = line.trim_start();
        let sign: String = start.chars().take_while(|c| matches!(c, '`' | '~')).collect();
        match &self.fence {
            Some(open) if sign.starts_with(open.as_str()) && start.trim_end() == sign => {
                self.fence = None;
                return format!("{DIM}{line}{PLAIN}");
            }
            Some(_) => return format!("{DIM}│{PLAIN} {CYAN}{line}{PLAIN}"),
            None if is_fence(&sign, start) => {
                self.fence = Some(sign);
                return format!("{DIM}{line}{PLAIN}");
            }
            None => {}
        }
        if is_heading(start) {
            return format!("{BOLD}{line}{PLAIN}");
        }
        inline(line)
    }

    /// Forgets an open fence: what comes is of somebody else.
    pub(super) fn end(&mut self) {
        self.fence = None;
    }
}

/// Three signs at least, all the same, and none of them behind it.
fn is_fence(sign: &str, line: &str) -> bool {
    let first = sign.chars().next();
    sign.len() >= 3
        && sign.chars().all(|c| Some(c) == first)
        && first.is_some_and(|first| !line[sign.len()..].contains(first))
}

fn is_heading(line: &str) -> bool {
    let signs = line.bytes().take_while(|b| *b == b'#').count();
    (1..=6).contains(&signs) && line[signs..].starts_with(' ')
}

/// Marks what stands within a line.
fn inline(line: &str) -> String {
    let mut marks: Vec<(Range<usize>, &'static str)> = Vec::new();
    for (event, range) in Parser::new_ext(line, Options::ENABLE_STRIKETHROUGH).into_offset_iter() {
        match event {
            Event::Code(_) => marks.push((range, CYAN)),
            Event::Start(Tag::Strong) => marks.push((range, BOLD)),
            Event::Start(Tag::Emphasis) => marks.push((range, ITALIC)),
            Event::Start(Tag::Strikethrough) => marks.push((range, DIM)),
            Event::Start(Tag::Link { .. }) => marks.push((range, UNDERLINE)),
            Event::Start(Tag::Item) => {
                let sign = line[range.clone()].split_whitespace().next().unwrap_or_default().len();
                marks.push((range.start..range.start + sign, BOLD));
            }
            _ => {}
        }
    }
    if marks.is_empty() {
        return line.to_owned();
    }
    // At each place where something begins or ends: everything off, and on what holds there.
    let mut places: Vec<usize> = marks.iter().flat_map(|(r, _)| [r.start, r.end]).collect();
    places.extend([0, line.len()]);
    places.sort_unstable();
    places.dedup();
    let mut out = String::new();
    for pair in places.windows(2) {
        let piece = &line[pair[0]..pair[1]];
        let on: String = marks
            .iter()
            .filter(|(range, _)| range.start <= pair[0] && pair[1] <= range.end)
            .map(|(_, code)| *code)
            .collect();
        if on.is_empty() {
            out.push_str(piece)
        } else {
            out.push_str(&format!("{on}{piece}{PLAIN}"))
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let mut markdown = Markdown::default();
        text.lines().map(|line| format!("{}\n", markdown.line(line))).collect()
    }

    /// Without what only changes the look.
    fn bare(text: &str) -> String {
        [BOLD, DIM, ITALIC, UNDERLINE, CYAN, PLAIN]
            .iter()
            .fold(text.to_owned(), |text, code| text.replace(code, ""))
    }

    #[test]
    fn headings_words_code_lists_links_and_fences_have_their_look() {
        let text = "# A title\nplain **bold *both* b** `code` [a link](https://example.org)\n- item one\n\
                    2. item two\n```rust\nlet x = **y;\n```\nplain again #not a title\n| a | b |\n";
        insta::assert_snapshot!(shown(text).replace('\u{1b}', "^"));
    }

    #[test]
    fn a_fence_ends_with_its_own_sign_and_no_other() {
        let text = shown("````\n```\nstill code\n````\n**bold**\n");
        assert_eq!(text.matches('│').count(), 2, "{text}");
        assert!(text.ends_with(&format!("{BOLD}**bold**{PLAIN}\n")), "{text:?}");
    }

    proptest! {
        #[test]
        fn no_character_is_lost(lines in proptest::collection::vec("[-a *_`#~\\[\\]()<>!|&é0-9.]{0,30}", 0..6)) {
            let mut markdown = Markdown::default();
            for line in &lines {
                let fenced = markdown.fence.is_some();
                let shown = bare(&markdown.line(line));
                let shown = if fenced { shown.strip_prefix("│ ").unwrap_or(&shown) } else { &shown };
                prop_assert_eq!(shown, line);
            }
        }
    }
}
