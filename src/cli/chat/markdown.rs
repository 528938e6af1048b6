//! Markdown on paper: what an agent says, shown with weight and colour, line by line.
//!
//! A terminal is paper, and below it stands a prompt: so each line is shown once, when it is whole,
//! and never again. And what an agent *prints* comes in the same text as what it says. So nothing is
//! taken away: the signs stay where they are, and only the look of what they mark changes. Lines of
//! a fence get a rule at their left.
//!
//! Rows of a table are the exception to *at once*: they wait until the table is whole ([`table`]),
//! and are shown with their columns in line.

use std::ops::Range;

use super::table;

use pulldown_cmark::{Event, Options, Parser, Tag};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const ITALIC: &str = "\x1b[3m";
const UNDERLINE: &str = "\x1b[4m";
const CYAN: &str = "\x1b[36m";
const PLAIN: &str = "\x1b[0m";
/// How many rows wait for the end of a table.
const MOST_ROWS: usize = 500;

/// Where in a text the lines are.
#[derive(Debug, Default)]
pub(super) struct Markdown {
    /// The sign that began the fence that is open.
    fence: Option<String>,
    /// The rows that wait for the end of their table.
    rows: Vec<String>,
}

impl Markdown {
    /// Shows a line, which has no line break, and the table that it ends; each with a line break.
    pub(super) fn line(&mut self, line: &str) -> String {
        if self.fence.is_none() && table::is_row(line) {
            self.rows.push(line.to_owned());
            // What is no table by its second row is none, and the second may begin one.
            if self.rows.len() == 2 && !table::is_rule(line) {
                let first = self.rows.remove(0);
                return format!("{}\n", inline(&first));
            }
            if self.rows.len() < MOST_ROWS {
                return String::new();
            }
            return self.end_table();
        }
        let table = self.end_table();
        format!("{table}{}\n", self.alone(line))
    }

    /// Shows the rows that wait.
    pub(super) fn end_table(&mut self) -> String {
        let rows = std::mem::take(&mut self.rows);
        let is_table = rows.get(1).is_some_and(|row| table::is_rule(row));
        let shown = match is_table {
            true => table::in_line(&rows),
            false => rows,
        };
        let line = |(n, row): (usize, String)| match n {
            0 if is_table => format!("{BOLD}{row}{PLAIN}\n"),
            1 if is_table => format!("{DIM}{row}{PLAIN}\n"),
            _ => format!("{}\n", inline(&row)),
        };
        shown.into_iter().enumerate().map(line).collect()
    }

    /// Shows a line that is no row.
    fn alone(&mut self, line: &str) -> String {
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
    pub(super) fn end_fence(&mut self) {
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

/// Which part of a link is read: what stands in its brackets, or the address itself.
fn link_text(link: &str) -> Range<usize> {
    let end = link.rfind("](").or_else(|| link.rfind("][")).map_or(link.len(), |at| at + 1);
    0..end
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
            Event::Start(Tag::Link { .. }) => {
                let text = link_text(&line[range.clone()]);
                marks.push((range.start + text.start..range.start + text.end, UNDERLINE));
                marks.push((range.start + text.end..range.end, DIM));
            }
            Event::Start(Tag::Item) => {
                let sign = line[range.clone()].split_whitespace().next().unwrap_or_default().len();
                marks.push((range.start..range.start + sign, BOLD));
            }
            _ => {}
        }
    }
    for range in addresses(line) {
        if marks.iter().all(|(other, _)| other.end <= range.start || range.end <= other.start) {
            marks.push((range, UNDERLINE));
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

/// Where addresses of the web stand as they are.
fn addresses(line: &str) -> Vec<Range<usize>> {
    let starts = line.match_indices("https://").chain(line.match_indices("http://"));
    let ranges = starts.map(|(start, scheme)| {
        let ends = |c: char| c.is_whitespace() || c.is_control() || "<>\"`|".contains(c);
        let end = line[start..].find(ends).map_or(line.len(), |at| start + at);
        // What ends the sentence is not part of it.
        let address =
            line[start..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '*']);
        (start..start + address.len(), address.len() > scheme.len())
    });
    ranges.filter(|(_, is_more)| *is_more).map(|(range, _)| range).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let mut markdown = Markdown::default();
        let shown: String = text.lines().map(|line| markdown.line(line)).collect();
        shown + &markdown.end_table()
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
                    2. item two\n```rust\nlet x = **y;\n```\nplain again #not a title\nsee <https://example.org/a> and https://example.org/b.\n";
        insta::assert_snapshot!(shown(text).replace('\u{1b}', "^"));
    }

    #[test]
    fn a_fence_ends_with_its_own_sign_and_no_other() {
        let text = shown("````\n```\nstill code\n````\n**bold**\n");
        assert_eq!(text.matches('│').count(), 2, "{text}");
        assert!(text.ends_with(&format!("{BOLD}**bold**{PLAIN}\n")), "{text:?}");
    }

    #[test]
    fn a_table_waits_until_it_is_whole_and_its_columns_stand_in_line() {
        let text = "before\n| name | n |\n|:--|--:|\n| a | 1 |\n| longer one | **23** |\nbehind\n\
                    | no table |\n| either |\n";
        insta::assert_snapshot!(shown(text).replace('\u{1b}', "^"));
    }

    #[test]
    fn a_row_that_stands_alone_is_shown_as_it_is() {
        assert_eq!(shown("| a | b |\n"), "| a | b |\n");
        assert_eq!(shown("```\n| a |\n| - |\n```\n").matches('│').count(), 2);
    }

    proptest! {
        #[test]
        fn no_character_is_lost(lines in proptest::collection::vec("[-a *_`#~\\[\\]()<>!|&é0-9.]{0,30}", 0..6)) {
            let mut markdown = Markdown::default();
            let mut all = String::new();
            for line in &lines {
                let fenced = markdown.fence.is_some();
                let shown = bare(&markdown.line(line));
                let shown = if fenced { shown.strip_prefix("│ ").unwrap_or(&shown) } else { &shown };
                all.push_str(shown);
            }
            all.push_str(&bare(&markdown.end_table()));
            // Rows of a table are filled up with blanks, and their rule with dashes.
            let kept = |text: &str| text.replace([' ', '-'], "");
            let said: String = lines.iter().map(|line| format!("{line}\n")).collect();
            prop_assert_eq!(kept(&all), kept(&said));
        }
    }
}
