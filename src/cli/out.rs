//! Standard output for data, standard error for the rest; text from others made harmless.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
};

use super::error::Error;

/// Writes data to standard output.
///
/// # Errors
/// [`Error::PipeClosed`] where nobody reads it any more.
pub fn data(bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(bytes.as_ref()).and_then(|()| out.flush()).map_err(closed)
}

/// Writes a line of data to standard output.
///
/// # Errors
/// [`Error::PipeClosed`] where nobody reads it any more.
pub fn line(text: impl AsRef<str>) -> Result<(), Error> {
    data(format!("{}\n", text.as_ref()))
}

/// Writes bytes to standard error; nobody hears it if that fails.
pub fn error_bytes(bytes: &[u8]) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Writes a line for people to standard error.
pub fn note(text: impl AsRef<str>) {
    error_bytes(format!("{}\n", text.as_ref()).as_bytes());
}

/// Writes a hint to standard error, if a person is there to read it.
pub fn hint(text: impl AsRef<str>) {
    if io::stderr().is_terminal() {
        note(text);
    }
}

/// What an agent or a person said, to standard output: at a terminal nothing of it is obeyed;
/// into a pipe or a file it goes as it is.
///
/// # Errors
/// [`Error::PipeClosed`] where nobody reads it any more.
pub fn theirs(bytes: &[u8]) -> Result<(), Error> {
    static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    if !io::stdout().is_terminal() {
        return data(bytes);
    }
    let text = shown(&mut HELD.lock().unwrap_or_else(PoisonError::into_inner), bytes);
    data(text)
}

/// What an agent printed, to standard error; see [`theirs`].
pub fn error_theirs(bytes: &[u8]) {
    static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    if !io::stderr().is_terminal() {
        return error_bytes(bytes);
    }
    let text = shown(&mut HELD.lock().unwrap_or_else(PoisonError::into_inner), bytes);
    error_bytes(text.as_bytes());
}

/// The next bytes of a text, harmless. `held` is what the bytes before have left open: the front of
/// a character, or a carriage return that may belong to a line's end.
fn shown(held: &mut Vec<u8>, bytes: &[u8]) -> String {
    held.extend_from_slice(bytes);
    let all = std::mem::take(held);
    let mut text = String::with_capacity(all.len());
    let mut chunks = all.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let rest = chunk.invalid();
        let goes_on = std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
        if goes_on && chunks.peek().is_none() {
            rest.clone_into(held);
        } else {
            text.extend(rest.iter().map(|byte| format!("\\x{byte:02x}")));
        }
    }
    if held.is_empty() && text.ends_with('\r') {
        text.pop();
        held.push(b'\r');
    }
    harmless_lines(&text)
}

/// Text of many lines from others, with control characters shown instead of obeyed, save for the
/// ends of lines and tabs.
#[must_use]
pub fn harmless_lines(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => clean.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c if steers(c) => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

/// Whether a terminal would obey a character instead of showing it: control characters, and
/// those that turn the direction of the text around them.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn closed(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe { Error::PipeClosed } else { Error::Output(error) }
}

/// Text from a file or a server, with control characters shown instead of obeyed, so that no
/// name or message can steer the terminal.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(harmless("a\u{1b}[31mb\nc\u{9b}é"), "a\\u{1b}[31mb\\nc\\u{9b}é");
    }

    #[test]
    fn what_steers_a_terminal_is_shown_in_lines_that_stay_lines() {
        assert_eq!(harmless_lines("\u{1b}]0;PWN\u{7}\u{1b}[2J"), "\\u{1b}]0;PWN\\u{7}\\u{1b}[2J");
        assert_eq!(harmless_lines("a\r\nb\tc\rd\u{202e}e"), "a\nb\tc\\rd\\u{202e}e");
        let mut held = Vec::new();
        let parts: [&[u8]; 5] = [b"\xc3", b"\xa9\r", b"\n\xc2", b"\x9b\xff\x9b", b"\r"];
        let text: String = parts.iter().map(|part| shown(&mut held, part)).collect();
        assert_eq!(text, "\u{e9}\n\\u{9b}\\xff\\x9b");
        assert_eq!(held, b"\r");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_however_they_are_cut_steer_a_terminal(
            parts in proptest::collection::vec(proptest::collection::vec(proptest::prop_oneof![
                proptest::prelude::any::<u8>(),
                proptest::sample::select(b"\x1b\r\n\xc2\x9b\xe2\x80\xae".to_vec()),
            ], 0..6), 0..6),
        ) {
            let mut held = Vec::new();
            let text: String = parts.iter().map(|part| shown(&mut held, part)).collect();
            let bad = text.chars().find(|c| steers(*c) && !"\n\t".contains(*c));
            proptest::prop_assert_eq!(bad, None, "{:?}", text);
            let whole = shown(&mut Vec::new(), &parts.concat());
            proptest::prop_assert_eq!(whole, text, "the cuts change nothing");
        }

        #[test]
        fn text_without_controls_stays_as_it_is(text in "[^\\p{C}]*") {
            proptest::prop_assert_eq!(harmless_lines(&text), text);
        }

        #[test]
        fn harmless_text_holds_no_control_character(text in ".*") {
            proptest::prop_assert!(!harmless(&text).chars().any(char::is_control));
        }
    }
}
