//! Flags, as phones write them, and the ones that runs and agents share.

use super::{Refusal, Verb, nearest};
use crate::resource::{Isolation, PermissionMode, Span};

/// What flags say of a Job and of an Agent alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// Which agent CLI works.
    pub agent: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The repository to clone.
    pub repo: Option<String>,
    /// Its branch.
    pub branch: Option<String>,
    /// Where it runs.
    pub runtime: Option<Runtime>,
    /// The image of its machine, or an alias of one.
    pub image: Option<String>,
    /// Whether its machine keeps home and clone while it sleeps.
    pub persistent: Option<bool>,
    /// The wall time of an attempt, or of a turn.
    pub timeout: Option<Span>,
    /// What the agent may do unasked.
    pub permissions: Option<PermissionMode>,
    /// How far it is kept apart.
    pub isolation: Option<Isolation>,
    /// What is appended to the CLI's system prompt.
    pub instructions: Option<String>,
}

/// Where something runs, as a flag says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// On the server's machine.
    Local,
    /// As a Fly Machine.
    Fly,
}

/// The flag that needs no value.
pub(super) const PERSISTENT: &str = "--persistent";

impl Flags {
    /// Sets one of the shared flags.
    pub(super) fn set(&mut self, flag: &'static str, value: String) -> Result<(), Refusal> {
        match flag {
            "--agent" => once(&mut self.agent, flag, value.to_ascii_lowercase()),
            "--model" => once(&mut self.model, flag, value),
            "--repo" => once(&mut self.repo, flag, value),
            "--branch" => once(&mut self.branch, flag, value),
            "--runtime" => once(&mut self.runtime, flag, runtime(&value)?),
            "--image" => once(&mut self.image, flag, value),
            PERSISTENT => once(&mut self.persistent, flag, switch(&value)?),
            "--timeout" => once(&mut self.timeout, flag, value.parse().map_err(Refusal::Timeout)?),
            "--isolation" => once(&mut self.isolation, flag, isolation(&value)?),
            "--instructions" => once(&mut self.instructions, flag, value),
            _ => once(&mut self.permissions, flag, permission_mode(&value)?),
        }
    }
}

pub(super) fn once<T>(slot: &mut Option<T>, flag: &'static str, value: T) -> Result<(), Refusal> {
    match slot.replace(value) {
        Some(_) => Err(Refusal::Twice(flag)),
        None => Ok(()),
    }
}

fn permission_mode(word: &str) -> Result<PermissionMode, Refusal> {
    match word.to_ascii_lowercase().as_str() {
        "ask" => Ok(PermissionMode::Ask),
        "acceptedits" => Ok(PermissionMode::AcceptEdits),
        "plan" => Ok(PermissionMode::Plan),
        "bypass" => Ok(PermissionMode::Bypass),
        _ => Err(Refusal::Permissions(word.to_owned())),
    }
}

fn isolation(word: &str) -> Result<Isolation, Refusal> {
    match word.to_ascii_lowercase().as_str() {
        "none" => Ok(Isolation::None),
        "worktree" => Ok(Isolation::Worktree),
        "sandbox" => Ok(Isolation::Sandbox),
        _ => Err(Refusal::Isolation(word.to_owned())),
    }
}

fn switch(word: &str) -> Result<bool, Refusal> {
    match word.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(Refusal::Switch(PERSISTENT, word.to_owned())),
    }
}

fn runtime(word: &str) -> Result<Runtime, Refusal> {
    match word.to_ascii_lowercase().as_str() {
        "local" => Ok(Runtime::Local),
        "fly" => Ok(Runtime::Fly),
        _ => Err(Refusal::Runtime(word.to_owned())),
    }
}

/// How many bytes of dashes begin a flag here: `--`, or the long dash that phones make of it.
pub(super) fn dashes(text: &str) -> Option<usize> {
    if text.starts_with("--") {
        return Some(2);
    }
    text.chars()
        .next()
        .filter(|c| matches!(c, '\u{2013}' | '\u{2014}' | '\u{2015}'))
        .map(char::len_utf8)
}

/// Whether a word is a flag that takes no value, such as `--all`.
pub(super) fn is_flag(word: &str, name: &str) -> bool {
    dashes(word).is_some_and(|length| word[length..].eq_ignore_ascii_case(name))
}

type Taken<'a> = Option<(Option<&'static str>, &'a str)>;

/// The flag that stands in front, and what is behind it; no flag inside for a bare `--`.
pub(super) fn take_flag<'a>(
    verb: Verb,
    known: &[&'static str],
    text: &'a str,
) -> Result<Taken<'a>, Refusal> {
    let Some(length) = dashes(text) else { return Ok(None) };
    let body = &text[length..];
    let end = body.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(body.len());
    let (word, behind) = body.split_at(end);
    if word.is_empty() {
        // A bare dash ends the flags; `--=x` is the task's own.
        return Ok((!behind.starts_with('=')).then_some((None, behind)));
    }
    if !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
        // `---` or `--5`: the task's own.
        return Ok(None);
    }
    let spelled = format!("--{}", word.to_ascii_lowercase());
    if let Some(flag) = known.iter().find(|flag| **flag == spelled) {
        return Ok(Some((Some(flag), behind)));
    }
    let nearest = nearest(&spelled, known.iter().copied());
    Err(Refusal::UnknownFlag { verb, flag: format!("--{word}"), nearest })
}

pub(super) fn is_double(c: char) -> bool {
    matches!(c, '"' | '\u{201C}' | '\u{201D}' | '\u{201E}' | '\u{201F}' | '\u{AB}' | '\u{BB}')
}

fn is_single(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201A}')
}

/// A flag's value, and what is behind it.
pub(super) fn take_value<'a>(
    flag: &'static str,
    text: &'a str,
) -> Result<(String, &'a str), Refusal> {
    let glued = text.strip_prefix('=');
    // Said alone, it is on; a word behind it is the line's own.
    if flag == PERSISTENT && glued.is_none() {
        return Ok(("true".to_owned(), text));
    }
    let text = glued.unwrap_or_else(|| text.trim_start());
    let first = text.chars().next();
    let nothing =
        first.is_none_or(char::is_whitespace) || (glued.is_none() && dashes(text).is_some());
    if nothing {
        return Err(Refusal::NoValue(flag));
    }
    let (value, behind) = match quoted(text, flag)? {
        Some(taken) => taken,
        None => super::first_word(text),
    };
    if value.is_empty() {
        return Err(Refusal::NoValue(flag));
    }
    Ok((value.to_owned(), behind))
}

/// What stands between quotes in front, straight or curly, and what is behind them; none where
/// no quote is in front. `whose` names the value in an error.
pub(super) fn quoted<'a>(
    text: &'a str,
    whose: &str,
) -> Result<Option<(&'a str, &'a str)>, Refusal> {
    let Some(first) = text.chars().next() else { return Ok(None) };
    let closes: fn(char) -> bool = match first {
        c if is_double(c) => is_double,
        c if is_single(c) => is_single,
        _ => return Ok(None),
    };
    let inside = &text[first.len_utf8()..];
    let end = inside.find(closes).ok_or_else(|| Refusal::OpenQuote(whose.to_owned()))?;
    let (value, behind) = inside.split_at(end);
    let behind = &behind[behind.chars().next().map_or(0, char::len_utf8)..];
    if !behind.is_empty() && !behind.starts_with(char::is_whitespace) {
        return Err(Refusal::Glued(whose.to_owned()));
    }
    Ok(Some((value, behind)))
}
