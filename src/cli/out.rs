//! Standard output for data, standard error for the rest; text from others made harmless.

use std::io::{self, IsTerminal as _, Write as _};

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

fn closed(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe { Error::PipeClosed } else { Error::Output(error) }
}

/// Text from a file or a server, with control characters shown instead of obeyed, so that no
/// name or message can steer the terminal.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
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

    proptest::proptest! {
        #[test]
        fn harmless_text_holds_no_control_character(text in ".*") {
            proptest::prop_assert!(!harmless(&text).chars().any(char::is_control));
        }
    }
}
