//! What a CLI wrote last where no protocol was expected: often the only word on why it ended.

use super::words::one_line;

/// The last words of a CLI: the end of what it wrote where no protocol was expected.
#[derive(Debug, Default)]
pub(in crate::driver) struct LastWords {
    lines: std::collections::VecDeque<String>,
}

impl LastWords {
    const LINES: usize = 20;
    const LINE_CHARS: usize = 2000;

    /// Keeps a line; blank ones say nothing.
    pub(in crate::driver) fn keep(&mut self, line: &[u8]) {
        let line = one_line(&String::from_utf8_lossy(line), Self::LINE_CHARS);
        if line.is_empty() {
            return;
        }
        if self.lines.len() == Self::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last lines, for a log.
    pub(in crate::driver) fn all(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The last line, for a message. The frames of a stack trace say less than what is above.
    pub(in crate::driver) fn last(&self) -> &str {
        self.lines
            .iter()
            .rev()
            .find(|line| !line.starts_with("at "))
            .map(String::as_str)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_bounded_and_skip_stack_frames() {
        let mut words = LastWords::default();
        for n in 0..50 {
            words.keep(format!("line {n}").as_bytes());
        }
        words.keep(b"Error: broken\n");
        words.keep(b"    at main (cli.js:1:1)\n");
        words.keep(b"\n");
        assert_eq!(words.last(), "Error: broken");
        assert_eq!(words.all().count(), LastWords::LINES);
    }
}
