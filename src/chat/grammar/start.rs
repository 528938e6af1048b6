//! `/od-start`: a name and a path, in this order, either of which may be missing, and flags
//! anywhere between.
//!
//! The first word is a path if it looks like one: it begins with `/`, `~` or a dot, or has a
//! slash in it, which no name has. What comes behind a name is a path, whatever it looks like.

use super::{
    Flags, Refusal, Verb, first_word,
    flags::{once, quoted, take_flag, take_value},
};

/// The flags of a start, in the order in which help shows them.
pub const START_FLAGS: [&str; 11] = [
    "--agent",
    "--model",
    "--repo",
    "--branch",
    "--runtime",
    "--image",
    "--persistent",
    "--timeout",
    "--permissions",
    "--isolation",
    "--instructions",
];

/// The arguments of a start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// The agent's name.
    pub name: Option<String>,
    /// Where to work.
    pub path: Option<String>,
    /// All else that flags say.
    pub flags: Flags,
}

pub(super) fn start(rest: &str) -> Result<Start, Refusal> {
    let mut start = Start::default();
    let mut rest = rest.trim_start();
    while !rest.is_empty() {
        if let Some((flag, behind)) = take_flag(Verb::Start, &START_FLAGS, rest)? {
            let Some(flag) = flag else {
                // `--`: nothing here begins with a dash, so that it says nothing.
                rest = behind.trim_start();
                continue;
            };
            let (value, behind) = take_value(flag, behind)?;
            start.flags.set(flag, value)?;
            rest = behind.trim_start();
            continue;
        }
        let (word, behind) = match quoted(rest, "the path")? {
            Some(taken) => taken,
            None => first_word(rest),
        };
        let is_path = looks_like_path(word) || start.name.is_some();
        if start.path.is_some() || word.is_empty() {
            return Err(Refusal::TooMuch { verb: Verb::Start, extra: rest.trim_end().to_owned() });
        }
        if is_path {
            once(&mut start.path, "the path", word.to_owned())?;
        } else {
            // A name is a DNS label; phones begin a line with a capital.
            once(&mut start.name, "the name", word.to_lowercase())?;
        }
        rest = behind.trim_start();
    }
    Ok(start)
}

fn looks_like_path(word: &str) -> bool {
    word.starts_with(['/', '~', '.']) || word.contains('/')
}
