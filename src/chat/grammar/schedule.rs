//! `/od-schedule`: what is made at times. The time stands in front, in quotes, as five bare words or as
//! one such as `@daily`; behind it are the flags of a run, and the task byte for byte.

use super::{
    Refusal, Run, Verb, first_word,
    flags::{once, quoted, take_flag, take_value},
    run::{RUN_FLAGS, unquoted},
};

/// The flags of a schedule: its zone, and those of a run.
pub const SCHEDULE_FLAGS: [&str; RUN_FLAGS.len() + 1] = {
    let mut flags = ["--tz"; RUN_FLAGS.len() + 1];
    let mut n = 0;
    while n < RUN_FLAGS.len() {
        flags[n + 1] = RUN_FLAGS[n];
        n += 1;
    }
    flags
};
/// What can be done with schedules.
pub const SCHEDULE_WORDS: [&str; 6] = ["list", "add", "run", "suspend", "resume", "delete"];

/// What is to be done with schedules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheduling {
    /// List them.
    List,
    /// Make one.
    Add(Box<Added>),
    /// Make a Job of one, now.
    Run(String),
    /// Begin nothing more by itself.
    Suspend(String),
    /// Begin again.
    Resume(String),
    /// Delete it.
    Delete(String),
}

/// A schedule that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Added {
    /// When: a cron line.
    pub cron: String,
    /// The time zone.
    pub zone: Option<String>,
    /// What each Job is; its name is the schedule's.
    pub run: Run,
}

pub(super) fn schedule(rest: &str) -> Result<Scheduling, Refusal> {
    let (word, rest) = first_word(rest.trim_start());
    let named = |rest: &str| {
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words.as_slice() {
            [] => Err(Refusal::NoName(Verb::Schedule)),
            [name] => {
                let name = name.to_lowercase();
                let bare = ["schedule/", "sch/"].iter().find_map(|front| name.strip_prefix(front));
                Ok(bare.unwrap_or(&name).to_owned())
            }
            [_, extra @ ..] => {
                Err(Refusal::TooMuch { verb: Verb::Schedule, extra: extra.join(" ") })
            }
        }
    };
    match word.to_ascii_lowercase().as_str() {
        "" | "list" => match rest.trim() {
            "" => Ok(Scheduling::List),
            extra => Err(Refusal::TooMuch { verb: Verb::Schedule, extra: extra.to_owned() }),
        },
        "add" => added(rest).map(|added| Scheduling::Add(Box::new(added))),
        "run" => named(rest).map(Scheduling::Run),
        "suspend" => named(rest).map(Scheduling::Suspend),
        "resume" => named(rest).map(Scheduling::Resume),
        "delete" => named(rest).map(Scheduling::Delete),
        _ => Err(Refusal::Scheduling(word.to_owned())),
    }
}

fn added(rest: &str) -> Result<Added, Refusal> {
    let (cron, rest) = cron(rest.trim_start())?;
    let mut added = Added { cron, ..Added::default() };
    let mut rest = rest.trim_start();
    while let Some((flag, behind)) = take_flag(Verb::Schedule, &SCHEDULE_FLAGS, rest)? {
        let Some(flag) = flag else {
            rest = behind.trim_start();
            break;
        };
        let (value, behind) = take_value(flag, behind)?;
        match flag {
            "--tz" => once(&mut added.zone, flag, value)?,
            "--name" => once(&mut added.run.name, flag, value)?,
            "--workdir" => once(&mut added.run.workdir, flag, value)?,
            _ => added.run.flags.set(flag, value)?,
        }
        rest = behind.trim_start();
    }
    unquoted(rest).clone_into(&mut added.run.task);
    if added.run.task.trim().is_empty() {
        return Err(Refusal::NoTask);
    }
    Ok(added)
}

/// The time in front, and what is behind it.
fn cron(text: &str) -> Result<(String, &str), Refusal> {
    if let Some((cron, behind)) = quoted(text, "the time")? {
        return Ok((cron.trim().to_owned(), behind));
    }
    let fields = if text.starts_with('@') { 1 } else { 5 };
    let mut words = Vec::new();
    let mut rest = text;
    for _ in 0..fields {
        let (word, behind) = first_word(rest.trim_start());
        let good = |c: char| c.is_ascii_alphanumeric() || "*,-/@#?+".contains(c);
        if word.is_empty() || !word.chars().all(good) {
            return Err(Refusal::NoCron);
        }
        words.push(word);
        rest = behind;
    }
    Ok((words.join(" "), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(text: &str) -> Added {
        match schedule(text).unwrap() {
            Scheduling::Add(added) => *added,
            other => panic!("{other:?} adds nothing"),
        }
    }

    #[test]
    fn the_time_stands_in_quotes_or_bare_and_the_task_stays_as_it_is() {
        for text in [
            " add \"0 9 * * 1-5\" --tz Europe/Berlin --agent claude do  it's \"so\"",
            " ADD \u{201C}0 9 * * 1-5\u{201D} \u{2014}tz=Europe/Berlin --agent claude do  it's \"so\"",
            " add 0 9 * * 1-5 --tz Europe/Berlin --agent claude do  it's \"so\"",
        ] {
            let added = add(text);
            assert_eq!(added.cron, "0 9 * * 1-5", "{text}");
            assert_eq!(added.zone.as_deref(), Some("Europe/Berlin"), "{text}");
            assert_eq!(added.run.flags.agent.as_deref(), Some("claude"), "{text}");
            assert_eq!(added.run.task, "do  it's \"so\"", "{text}");
        }
        assert_eq!(add("add @daily -- --all of it").run.task, "--all of it");
    }

    #[test]
    fn a_name_may_say_what_it_names() {
        for text in ["run nightly", "run Schedule/Nightly", " RUN  sch/nightly "] {
            assert_eq!(schedule(text), Ok(Scheduling::Run("nightly".to_owned())), "{text}");
        }
        assert_eq!(schedule(""), Ok(Scheduling::List));
    }
}
