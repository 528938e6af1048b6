//! What a line of chat means: one grammar for every platform, pure.
//!
//! A command is a word `/od-…` (the slash may be missing, the case does not matter), then
//! flags, then words or, for a run and a message, text. That text is the rest of the line byte
//! for byte: nothing is tokenised, so apostrophes, newlines, quotes and double spaces survive.
//! Only the flags in front of it are read word by word, and forgivingly: phones turn `--` into a
//! long dash and straight quotes into curly ones.
//!
//! [`flags`] knows what stands in front, [`run`] and [`start`] what makes a Job or an Agent,
//! [`assign`] what changes one; [`refusal`] says what is wrong with a line, and the mend.

mod assign;
mod flags;
mod refusal;
mod run;
mod schedule;
mod start;
#[cfg(test)]
mod tests;
mod verb;

pub use assign::{Assigned, Assignment};
pub use flags::{Flags, Runtime};
pub use refusal::Refusal;
pub use run::{RUN_FLAGS, Run};
pub use schedule::{Added, SCHEDULE_FLAGS, SCHEDULE_WORDS, Scheduling};
pub use start::{START_FLAGS, Start};
pub use verb::Verb;
pub(crate) use verb::nearest;
use verb::nearest_command;

use crate::{chat::tag::Tag, resource::Kind};

/// The command that stands behind buttons which ask whom a message is for. Nobody types it, so
/// help does not have it.
pub const PICK: &str = "od-pick";

/// The command that stands behind buttons which ask how, or whether, a change is to be made. Nobody
/// types it either.
pub const CHOOSE: &str = "od-choose";

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A command.
    Command(Command),
    /// No command: a message to whoever listens in this conversation.
    Plain(String),
}

/// A command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin a conversation with an agent, or go on with one that was stopped.
    Start(Box<Start>),
    /// Say something to an agent, from wherever.
    Send {
        /// The agent.
        to: Target,
        /// The message, byte for byte.
        text: String,
    },
    /// Stop agents; their sessions stay.
    Stop(Stop),
    /// List the agents.
    List,
    /// Run one task.
    Run(Box<Run>),
    /// List the last jobs.
    Jobs,
    /// What is made at times.
    Schedule(Scheduling),
    /// Describe an agent or a job.
    Status(Target),
    /// Show the last lines of an agent or a job.
    Logs(Target),
    /// End what an agent or a job is at.
    Cancel {
        /// The agent or job.
        target: Target,
        /// The very turn, as a button names it.
        which: Option<Tag>,
    },
    /// Do what failed again.
    Retry {
        /// The agent or job.
        target: Target,
        /// Whether an agent gets a new session for that.
        force: bool,
        /// The very turn or job, as a button names it: done again at most once.
        which: Option<Tag>,
    },
    /// Answer what an agent asks for.
    Approve {
        /// The agent or job.
        target: Target,
        /// The answer, byte for byte; see [`super::answer`]. Empty for a plain yes.
        words: String,
    },
    /// Say whom a message is for that several agents could have been meant by.
    Pick {
        /// The delivery that asks.
        delivery: String,
        /// Which agent, from 1 on.
        n: usize,
    },
    /// Say how a change is to be made that waits for that.
    Choose {
        /// The delivery that asks.
        delivery: String,
        /// Which of its buttons, from 1 on.
        n: usize,
    },
    /// Make objects as YAML says, once somebody has seen what would change.
    Apply {
        /// The YAML, byte for byte; empty where it comes as a file.
        text: String,
    },
    /// Show what an apply would change, or what differs between objects and their files.
    Diff(Diff),
    /// Show objects as YAML; all agents and jobs where none is named.
    Export(Vec<Target>),
    /// Change fields of a spec.
    Set {
        /// The agent or job.
        target: Target,
        /// The changes, in order.
        changes: Vec<Assignment>,
    },
    /// Say how many members a fleet is to have.
    Scale {
        /// The fleet.
        target: Target,
        /// How many.
        replicas: u32,
    },
    /// Delete an agent or a job.
    Delete(Target),
    /// Help, on one command or all.
    Help(Option<Verb>),
    /// Say who the server takes the person for.
    Whoami,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diff {
    /// This object with its file.
    One(Target),
    /// All that Sources own with their files.
    All,
    /// What YAML says with what is there.
    Text(String),
}

/// Which agents are to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// This one.
    One(Target),
    /// All that listen in this conversation's channel.
    Here,
    /// All that there are.
    Everywhere,
}

impl Command {
    /// The command's name in the grammar.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Self::Start(_) => Verb::Start,
            // A pick says a message after all.
            Self::Send { .. } | Self::Pick { .. } => Verb::Send,
            Self::Stop(_) => Verb::Stop,
            Self::List => Verb::List,
            Self::Run(_) => Verb::Run,
            Self::Jobs => Verb::Jobs,
            Self::Schedule(_) => Verb::Schedule,
            Self::Status(_) => Verb::Status,
            Self::Logs(_) => Verb::Logs,
            Self::Cancel { .. } => Verb::Cancel,
            Self::Retry { .. } => Verb::Retry,
            Self::Approve { .. } => Verb::Approve,
            // A choice makes a change after all.
            Self::Set { .. } | Self::Choose { .. } => Verb::Set,
            Self::Apply { .. } => Verb::Apply,
            Self::Diff(_) => Verb::Diff,
            Self::Export(_) => Verb::Export,
            Self::Scale { .. } => Verb::Scale,
            Self::Delete(_) => Verb::Delete,
            Self::Help(_) => Verb::Help,
            Self::Whoami => Verb::Whoami,
        }
    }
}

/// What a command is about: `NAME`, `agent/NAME`, `job/NAME`, `fleet/NAME` or `schedule/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The kind, where it was said; else an agent of that name goes before a job.
    pub kind: Option<Kind>,
    /// The name, in lower case: names are, and phones begin a line with a capital.
    pub name: String,
}

impl Target {
    /// Reads what people type, and what `kubectl` and the command line print.
    fn read(word: &str) -> Self {
        let (kind, name) = match word.split_once('/') {
            Some((front, name)) => (Kind::find(front.split('.').next().unwrap_or(front)), name),
            None => (None, word),
        };
        match kind {
            Some(Kind::Sprite) | None => Self { kind: None, name: word.to_lowercase() },
            Some(kind) => Self { kind: Some(kind), name: name.to_lowercase() },
        }
    }
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it, and the mend.
pub fn parse(text: &str) -> Result<Line, Refusal> {
    let trimmed = text.trim_start();
    let (word, rest) = first_word(trimmed);
    let Some(name) = command_word(word) else { return Ok(Line::Plain(text.to_owned())) };
    if let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.name() == name) {
        return arguments(verb, rest).map(Line::Command);
    }
    if name == PICK {
        return pick(rest).map(Line::Command);
    }
    if name == CHOOSE {
        return choose(rest).map(Line::Command);
    }
    let nearest = nearest_command(&name);
    Err(Refusal::UnknownCommand { word: name, nearest })
}

/// The lower-case name of a command, if the first word of a line means to be one: `/word`, or
/// `od-word` without the slash. A path such as `/etc/hosts` is no command.
fn command_word(word: &str) -> Option<String> {
    let bare = word.strip_prefix('/');
    let name = bare.unwrap_or(word).to_ascii_lowercase();
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    (letters && starts && (bare.is_some() || name.starts_with("od-"))).then_some(name)
}

fn arguments(verb: Verb, rest: &str) -> Result<Command, Refusal> {
    match verb {
        Verb::Start => start::start(rest).map(|start| Command::Start(Box::new(start))),
        Verb::Send => send(rest),
        Verb::Stop => stop(rest),
        Verb::List => words::<0>(verb, rest).map(|_| Command::List),
        Verb::Run => run::run(rest).map(|run| Command::Run(Box::new(run))),
        Verb::Jobs => words::<0>(verb, rest).map(|_| Command::Jobs),
        Verb::Schedule => schedule::schedule(rest).map(Command::Schedule),
        Verb::Whoami => words::<0>(verb, rest).map(|_| Command::Whoami),
        Verb::Status => target(verb, rest).map(Command::Status),
        Verb::Logs => target(verb, rest).map(Command::Logs),
        Verb::Cancel => cancel(rest),
        Verb::Delete => target(verb, rest).map(Command::Delete),
        Verb::Retry => retry(rest),
        Verb::Approve => {
            let (target, words) = target_and_rest(verb, rest)?;
            Ok(Command::Approve { target, words: words.to_owned() })
        }
        Verb::Set => {
            let (target, rest) = target_and_rest(verb, rest)?;
            Ok(Command::Set { target, changes: assign::assignments(rest)? })
        }
        Verb::Scale => scale(rest),
        Verb::Apply => Ok(Command::Apply { text: rest.trim().to_owned() }),
        Verb::Diff => Ok(Command::Diff(diff(rest))),
        Verb::Export => {
            let names = rest.split_whitespace().map(Target::read);
            Ok(Command::Export(names.collect()))
        }
        Verb::Help => help(rest),
    }
}

fn scale(rest: &str) -> Result<Command, Refusal> {
    let words = words::<2>(Verb::Scale, rest)?;
    let Some(name) = words.first() else { return Err(Refusal::NoName(Verb::Scale)) };
    let number = words.get(1).copied().unwrap_or_default();
    match number.parse() {
        Ok(replicas) => Ok(Command::Scale { target: Target::read(name), replicas }),
        Err(_) => Err(Refusal::Replicas(number.to_owned())),
    }
}

/// A name is one word; YAML has a colon and a space or a line break.
fn diff(rest: &str) -> Diff {
    let rest = rest.trim();
    match rest {
        "" => Diff::All,
        text if text.contains(char::is_whitespace) || text.contains(':') => {
            Diff::Text(text.to_owned())
        }
        name => Diff::One(Target::read(name)),
    }
}

fn choose(rest: &str) -> Result<Command, Refusal> {
    match pick(rest) {
        Ok(Command::Pick { delivery, n }) => Ok(Command::Choose { delivery, n }),
        _ => Err(Refusal::Choose),
    }
}

/// The first word of a text, and what is behind it.
fn first_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// The message is what stands behind the one space (or line break) that ends the name.
fn send(rest: &str) -> Result<Command, Refusal> {
    let (to, rest) = target_and_rest(Verb::Send, rest)?;
    let mut text = rest.chars();
    text.next();
    let text = text.as_str();
    if text.trim().is_empty() {
        return Err(Refusal::NoMessage);
    }
    Ok(Command::Send { to, text: text.to_owned() })
}

fn stop(rest: &str) -> Result<Command, Refusal> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words.as_slice() {
        [all] if flags::is_flag(all, "all") => Ok(Command::Stop(Stop::Here)),
        [all, everywhere]
            if flags::is_flag(all, "all") && everywhere.eq_ignore_ascii_case("everywhere") =>
        {
            Ok(Command::Stop(Stop::Everywhere))
        }
        _ => target(Verb::Stop, rest).map(|target| Command::Stop(Stop::One(target))),
    }
}

fn cancel(rest: &str) -> Result<Command, Refusal> {
    let (words, which) = tagged::<1>(Verb::Cancel, rest)?;
    Ok(Command::Cancel { target: target(Verb::Cancel, &words.join(" "))?, which })
}

fn pick(rest: &str) -> Result<Command, Refusal> {
    let mut words = rest.split_whitespace();
    match (words.next(), words.next().and_then(|n| n.parse().ok()), words.next()) {
        (Some(delivery), Some(n), None) => Ok(Command::Pick { delivery: delivery.to_owned(), n }),
        _ => Err(Refusal::Pick),
    }
}

/// At most `N` words, and the tag behind them.
fn tagged<const N: usize>(verb: Verb, rest: &str) -> Result<(Vec<&str>, Option<Tag>), Refusal> {
    let last = rest.split_whitespace().next_back().unwrap_or_default();
    match Tag::read(last) {
        Some(tag) => {
            let front = rest.trim_end().strip_suffix(last).unwrap_or(rest);
            Ok((words::<N>(verb, front)?, Some(tag)))
        }
        None => Ok((words::<N>(verb, rest)?, None)),
    }
}

/// The flag may stand on either side of the name.
fn retry(rest: &str) -> Result<Command, Refusal> {
    let (words, which) = tagged::<2>(Verb::Retry, rest)?;
    let (forces, names): (Vec<&str>, Vec<&str>) =
        words.into_iter().partition(|word| flags::is_flag(word, "force"));
    let target = target(Verb::Retry, &names.join(" "))?;
    match forces.len() {
        2.. => Err(Refusal::Twice("--force")),
        count => Ok(Command::Retry { target, force: count == 1, which }),
    }
}

/// At most `N` words.
fn words<const N: usize>(verb: Verb, rest: &str) -> Result<Vec<&str>, Refusal> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    match words.get(N) {
        Some(_) => Err(Refusal::TooMuch { verb, extra: words[N..].join(" ") }),
        None => Ok(words),
    }
}

fn target(verb: Verb, rest: &str) -> Result<Target, Refusal> {
    let words = words::<1>(verb, rest)?;
    words.first().map(|word| Target::read(word)).ok_or(Refusal::NoName(verb))
}

/// The target, and what is behind it with the space in front.
fn target_and_rest(verb: Verb, rest: &str) -> Result<(Target, &str), Refusal> {
    let (word, rest) = first_word(rest.trim_start());
    if word.is_empty() {
        return Err(Refusal::NoName(verb));
    }
    Ok((Target::read(word), rest))
}

fn help(rest: &str) -> Result<Command, Refusal> {
    let words = words::<1>(Verb::Help, rest)?;
    let Some(word) = words.first() else { return Ok(Command::Help(None)) };
    if let Some(verb) = Verb::find(word) {
        return Ok(Command::Help(Some(verb)));
    }
    let name = word.trim_start_matches('/').to_ascii_lowercase();
    let full = if name.starts_with("od-") { name } else { format!("od-{name}") };
    let nearest = nearest_command(&full);
    Err(Refusal::UnknownCommand { word: full, nearest })
}
