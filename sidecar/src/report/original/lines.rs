//! Lines on their way to `/webhooks/logs`: gathered for half a second, or twenty of them. Pure: it is
//! told the time.
//!
//! `OUTPUT_FORMATTER=opencode` names the one shape that is built in: of what `opencode run` prints
//! the answer passes, and what it says about its work does not.

use std::{collections::BTreeMap, time::Duration};

use crate::wire::Stream;

/// How long lines are gathered.
const GATHER: Duration = Duration::from_millis(500);
/// How many lines go at once.
const MOST_LINES: usize = 20;
/// The most bytes that go at once. Each may become six in JSON, and the original takes 1 MiB.
const MOST_BYTES: usize = 128 * 1024;

/// How what is printed is shaped before it is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As it is.
    #[default]
    Plain,
    /// What `opencode run` prints, without its remarks.
    Opencode,
}

/// Lines that are gathered.
#[derive(Debug, Default)]
pub(super) struct Lines {
    format: Format,
    /// The beginnings of lines, by where they come from.
    open: BTreeMap<&'static str, Vec<u8>>,
    gathered: Vec<String>,
    bytes: usize,
    since: Option<Duration>,
    /// Whether something was told already: blank lines in front of it are not.
    begun: bool,
    /// Whether lines that are indented belong to a command that was told of.
    in_command: bool,
}

impl Lines {
    pub(super) fn new(format: Format) -> Self {
        Self { format, ..Self::default() }
    }

    /// Takes bytes that were printed; answers what is to go now, in order.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8], now: Duration) -> Vec<String> {
        let mut ready = Vec::new();
        let source = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::System => "system",
        };
        let mut open = self.open.remove(source).unwrap_or_default();
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            open.extend_from_slice(piece);
            let is_whole = pieces.peek().is_some();
            while open.len() > MOST_BYTES || is_whole {
                let cut = open.len().min(MOST_BYTES);
                // Not inside of a character.
                let is_end = |at: &usize| open.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
                let cut = (cut.saturating_sub(3)..=cut).rev().find(is_end).unwrap_or(cut);
                let rest = open.split_off(cut);
                self.line(&open, now, &mut ready);
                open = rest;
                if open.is_empty() {
                    break;
                }
            }
        }
        if !open.is_empty() {
            self.open.insert(source, open);
        }
        ready
    }

    fn line(&mut self, line: &[u8], now: Duration, ready: &mut Vec<String>) {
        let line = String::from_utf8_lossy(line);
        let Some(line) = self.shape(line.trim_end_matches('\r')) else { return };
        if self.bytes + line.len() > MOST_BYTES {
            ready.extend(self.take());
        }
        self.since.get_or_insert(now);
        self.bytes += line.len() + 1;
        self.gathered.push(line);
        if self.gathered.len() >= MOST_LINES {
            ready.extend(self.take());
        }
    }

    /// When the lines that are gathered must go.
    pub(super) fn due(&self) -> Option<Duration> {
        self.since.map(|since| since + GATHER)
    }

    /// What is gathered.
    pub(super) fn take(&mut self) -> Option<String> {
        self.since = None;
        self.bytes = 0;
        let lines = std::mem::take(&mut self.gathered);
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// What is gathered, with the lines that have no end.
    pub(super) fn finish(&mut self) -> Option<String> {
        for (_, line) in std::mem::take(&mut self.open) {
            let mut none = Vec::new();
            self.line(&line, Duration::ZERO, &mut none);
            // There are no more of these than there are streams.
            self.gathered.splice(0..0, none);
        }
        self.take()
    }

    /// A line as it is to be told, if it is.
    fn shape(&mut self, line: &str) -> Option<String> {
        match self.format {
            Format::Plain => Some(line.to_owned()),
            Format::Opencode => {
                let shaped = self.opencode(line)?;
                if !self.begun && shaped.trim().is_empty() {
                    return None;
                }
                self.begun = true;
                Some(shaped)
            }
        }
    }

    fn opencode(&mut self, line: &str) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Answer {
            response: String,
        }
        if line.starts_with('{')
            && let Ok(answer) = serde_json::from_str::<Answer>(line)
        {
            return Some(answer.response);
        }
        let is_indented = line.starts_with([' ', '\t']) && !line.trim().is_empty();
        if self.in_command && is_indented {
            return None;
        }
        self.in_command = line.starts_with("$ ");
        let is_sums = ["Tokens:", "Duration:", "Cost:"].iter().any(|name| line.starts_with(name));
        let is_head = line.starts_with("> ") && line.contains(" · ");
        let is_step = line.starts_with(['\u{2192}', '\u{2190}']);
        (!(self.in_command || is_sums || is_head || is_step || is_tag(line)))
            .then(|| line.to_owned())
    }
}

/// Whether a line begins with a word in brackets, as remarks do. A box of a list to be ticked off
/// does too, and is none.
fn is_tag(line: &str) -> bool {
    line.strip_prefix('[').and_then(|rest| rest.split_once("] ")).is_some_and(|(tag, _)| {
        tag.len() > 1 && tag.chars().all(|c| c.is_alphanumeric() || "-_:.".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn lines_go_after_half_a_second_or_twenty_of_them() {
        let mut lines = Lines::new(Format::Plain);
        assert_eq!(lines.push(Stream::Stdout, b"one\ntw", T(10)), Vec::<String>::new());
        assert_eq!(lines.due(), Some(T(510)));
        lines.push(Stream::Stderr, b"err\n", T(20));
        assert_eq!(lines.take().as_deref(), Some("one\nerr"));
        assert_eq!(lines.due(), None, "half a line waits for its end");
        let many = "\n".repeat(41);
        let went = lines.push(Stream::Stdout, format!("o{many}").as_bytes(), T(30));
        assert_eq!(went.len(), 2);
        assert!(went[0].starts_with("two\n"), "{:?}", went[0]);
        assert_eq!(lines.take().as_deref(), Some(""), "the forty-first");
        lines.push(Stream::Stdout, b"no end", T(40));
        assert_eq!(lines.finish().as_deref(), Some("no end"));
    }

    #[test]
    fn of_what_opencode_prints_the_answer_passes() {
        let mut lines = Lines::new(Format::Opencode);
        let printed = "\n> build · model\n\u{2192} Read src/main.rs\n$ ls\n  a\n  b\nThe answer.\n\n\
                       [tool] did it\n- [x] done\n[x] done\n{\"response\":\"in JSON\"}\nTokens: 5\n";
        lines.push(Stream::Stdout, printed.as_bytes(), T(0));
        assert_eq!(lines.take().as_deref(), Some("The answer.\n\n- [x] done\n[x] done\nin JSON"));
    }

    proptest! {
        #[test]
        fn in_whatever_pieces_it_comes_every_line_goes_once(
            text in "[a-c✓\n]{0,300}", cuts in prop::collection::vec(0_usize..300, 0..8)
        ) {
            let mut lines = Lines::new(Format::Plain);
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut went = Vec::new();
            for cut in cuts.windows(2) {
                went.extend(lines.push(Stream::Stdout, &bytes[cut[0]..cut[1]], T(0)));
            }
            went.extend(lines.finish());
            let whole = text.strip_suffix('\n').unwrap_or(&text);
            let expected = if text.is_empty() { "" } else { whole };
            prop_assert_eq!(went.join("\n"), expected);
        }
    }
}
