//! What agents write, as each platform reads it: Markdown in, the platform's dialect out.
//!
//! **Incremental.** Text is pushed as it comes, and what comes out never changes; so it can be cut
//! into messages behind this, where lengths are those that the platform counts. What cannot be
//! decided yet (the line that has no end, the table that may go on) is held back, and
//! [`Translator::rest`] says how it looks at the moment. Where the text was cut on its way in makes
//! no difference.
//!
//! **By lines.** A line is a heading, an item, a quote, a row, part of a fence, or prose. Within a
//! line pulldown-cmark reads the signs ([`inline`]). Emphasis over several lines is left as it is
//! written. Tables become code with their columns in line ([`table`]), for no platform has any.
//!
//! **Fences** come out as three backticks at the line's start, whatever they were; what is inside
//! and looks like one gets a break that nobody sees. So a fence ends where the agent ended it, and
//! nowhere else.
//!
//! **Nobody is called by an agent.** What would notify people (`@everyone`, `<!channel>`, `<@U1>`)
//! is made to look the same and call nobody.

mod inline;
mod table;
#[cfg(test)]
mod tests;

use super::{platform::Dialect, split::fence_line};

/// The longest line that is held back for its end, in bytes. A longer one is translated in parts.
const LONGEST: usize = 1_500;
/// The most bytes of a table whose columns are brought into line together.
const TABLE_BYTES: usize = 8_192;
/// What breaks a sign without being seen.
const GAP: char = '\u{200B}';
/// What a line between paragraphs becomes.
const RULE: &str = "──────────";

/// A fence that stands open, as the agent opened it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    mark: char,
    length: usize,
    indent: usize,
}

/// A growing text on its way into a dialect.
#[derive(Debug, Clone)]
pub struct Translator {
    dialect: Dialect,
    /// The line that has no end yet, or the rest of a long one.
    pending: String,
    /// Whether the front of that line came out already.
    is_mid: bool,
    fence: Option<Open>,
    /// Rows that may be a table, and their bytes.
    rows: Vec<String>,
    row_bytes: usize,
}

impl Translator {
    /// Translates into a dialect.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            pending: String::new(),
            is_mid: false,
            fence: None,
            rows: Vec::new(),
            row_bytes: 0,
        }
    }

    /// Takes more text; answers with what is sure by now.
    #[must_use]
    pub fn push(&mut self, text: &str) -> String {
        if self.dialect == Dialect::Plain {
            return text.to_owned();
        }
        let mut out = String::new();
        self.pending.push_str(text);
        let pending = std::mem::take(&mut self.pending);
        for line in pending.split_inclusive('\n') {
            let mut body = line.strip_suffix('\n').unwrap_or(line);
            while body.len() > LONGEST {
                let (front, rest) = body.split_at(cut_of(body));
                self.line(front, false, &mut out);
                self.is_mid = true;
                body = rest;
            }
            if line.ends_with('\n') {
                self.line(body.strip_suffix('\r').unwrap_or(body), true, &mut out);
                self.is_mid = false;
            } else {
                self.pending = body.to_owned();
            }
        }
        out
    }

    /// How what is held back would look if the text ended here.
    #[must_use]
    pub fn rest(&self) -> String {
        let mut copy = self.clone();
        let mut out = String::new();
        let pending = std::mem::take(&mut copy.pending);
        if pending.is_empty() {
            copy.end_table(&mut out);
        } else {
            copy.line(&pending, false, &mut out);
            copy.end_table(&mut out);
        }
        out
    }

    /// A text of its own in the same dialect.
    #[must_use]
    pub fn fresh_whole(&self, text: &str) -> String {
        translate(self.dialect, text)
    }

    /// A line, or a part of one without its end.
    fn line(&mut self, line: &str, is_whole: bool, out: &mut String) {
        if let Some(open) = self.fence.clone() {
            return self.fenced(&open, line, is_whole, out);
        }
        let is_first = !self.is_mid;
        if is_first && self.row(line, is_whole, out) {
            return;
        }
        if let Some((open, info)) = opened(line).filter(|_| is_first) {
            out.push_str("```");
            out.push_str(self.info(info));
            self.fence = Some(open);
        } else {
            let translated = match is_first {
                true => inline::block(self.dialect, line, is_whole),
                false => inline::text(self.dialect, line, is_whole),
            };
            if is_first && fence_line(&translated).is_some() {
                out.push(GAP);
            }
            out.push_str(&translated);
            // A single line break would be none.
            if is_whole && self.dialect == Dialect::Teams && !translated.trim().is_empty() {
                out.push_str("  ");
            }
        }
        if is_whole {
            out.push('\n');
        }
    }

    fn fenced(&mut self, open: &Open, line: &str, is_whole: bool, out: &mut String) {
        let closes = !self.is_mid
            && opened(line).is_some_and(|(mark, info)| {
                mark.mark == open.mark && mark.length >= open.length && info.is_empty()
            });
        if closes {
            self.fence = None;
            out.push_str("```");
        } else {
            let spaces = line.len() - line.trim_start_matches(' ').len();
            let indent = if self.is_mid { 0 } else { spaces.min(open.indent) };
            out.push_str(&self.code(&line[indent..]));
        }
        if is_whole {
            out.push('\n');
        }
    }

    /// Code in a fence.
    fn code(&self, line: &str) -> String {
        let line = line.replace("```", "``\u{200B}`");
        match self.dialect {
            Dialect::Slack => inline::escaped(&line),
            _ => line,
        }
    }

    /// What stands behind the backticks: Slack would show it as code.
    fn info<'a>(&self, info: &'a str) -> &'a str {
        let word = info.split_whitespace().next().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "+#._-".contains(c);
        let is_word = word.len() <= 20 && word.chars().all(is_plain);
        if is_word && self.dialect != Dialect::Slack { word } else { "" }
    }

    /// Takes a line that may belong to a table; whether it is held back.
    fn row(&mut self, line: &str, is_whole: bool, out: &mut String) -> bool {
        let fits = match self.rows.len() {
            0 => table::is_row(line) && opened(line).is_none(),
            1 => table::is_delimiter(line) && table::columns(line) == table::columns(&self.rows[0]),
            _ => table::is_row(line) && self.row_bytes + line.len() <= TABLE_BYTES,
        };
        // A part of a line is shown as prose until it has its end.
        if fits && (is_whole || !self.rows.is_empty()) {
            self.row_bytes += line.len();
            self.rows.push(line.to_owned());
            return true;
        }
        self.end_table(out);
        // What is no table's second row may be another's first.
        if is_whole && table::is_row(line) && opened(line).is_none() {
            self.row_bytes = line.len();
            self.rows.push(line.to_owned());
            return true;
        }
        false
    }

    fn end_table(&mut self, out: &mut String) {
        let rows = std::mem::take(&mut self.rows);
        self.row_bytes = 0;
        if rows.len() < 2 {
            for row in rows {
                let translated = inline::block(self.dialect, &row, true);
                out.push_str(&translated);
                out.push_str(if self.dialect == Dialect::Teams { "  \n" } else { "\n" });
            }
            return;
        }
        out.push_str("```\n");
        for line in table::aligned(&rows) {
            out.push_str(&self.code(&line));
            out.push('\n');
        }
        out.push_str("```\n");
    }
}

/// A whole text.
#[must_use]
pub fn translate(dialect: Dialect, text: &str) -> String {
    let mut translator = Translator::new(dialect);
    let front = translator.push(text);
    front + &translator.rest()
}

/// The fence that a line opens or closes, however deep it is indented, and what is behind it.
fn opened(line: &str) -> Option<(Open, &str)> {
    let inner = line.trim_start_matches([' ', '\t']);
    let (fence, info) = fence_line(inner)?;
    let indent = line.len() - inner.len();
    Some((Open { mark: fence.mark, length: fence.length, indent }, info))
}

/// Where a long line is cut: behind a space if there is one, and the same whatever follows.
fn cut_of(line: &str) -> usize {
    let mut end = LONGEST;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line[..end].rfind(' ').map(|at| at + 1).filter(|at| *at > LONGEST / 2).unwrap_or(end)
}
