//! How a Fleet stands: its counts, its conditions, and a word for people.

use jiff::Timestamp;

use super::{
    super::words,
    plan::{Known, Trouble},
};
use crate::resource::{
    ConditionStatus::{False, True},
    Fleet, FleetStatus,
};

/// The most names that a message tells.
const MOST_NAMES: usize = 3;

/// How a Fleet stands.
pub(super) enum Stand {
    /// A person has suspended it.
    Suspended,
    /// Nobody can tell which members there shall be; those that there are stay.
    Unknown(Trouble),
    /// Its members are on their way, or there.
    Known(Known),
}

/// One reason and its message.
type Word = (&'static str, String);

struct Reading {
    ready: Result<Word, Word>,
    progressing: Result<Word, Word>,
    stalled: Option<Word>,
    phase: &'static str,
}

/// Writes counts, conditions and phase.
pub(super) fn dress(status: &mut FleetStatus, fleet: &Fleet, stand: &Stand, now: Timestamp) {
    if let Stand::Known(known) = stand {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        status.replicas = count(known.there);
        status.updated = count(known.updated);
        status.ready = count(known.well);
        status.failed = count(known.failing.len());
    }
    let generation = fleet.metadata.generation;
    let Reading { ready, progressing, stalled, phase } = reading(stand);
    let conditions = &mut status.conditions;
    for (kind, word) in [(words::READY, ready), (words::PROGRESSING, progressing)] {
        let (holds, (reason, message)) = match word {
            Ok(word) => (True, word),
            Err(word) => (False, word),
        };
        conditions.set(kind, holds, reason, message, generation, now);
    }
    match stalled {
        Some((reason, message)) => {
            conditions.set(words::STALLED, True, reason, message, generation, now);
        }
        None => conditions.remove(words::STALLED),
    }
    if matches!(stand, Stand::Suspended) {
        conditions.set(words::SUSPENDED, True, words::SUSPENDED, "", generation, now);
    } else {
        conditions.remove(words::SUSPENDED);
    }
    phase.clone_into(&mut status.phase);
}

fn reading(stand: &Stand) -> Reading {
    let plain = |reason: &'static str| (reason, String::new());
    match stand {
        Stand::Suspended => Reading {
            ready: Err(plain(words::SUSPENDED)),
            progressing: Err(plain(words::SUSPENDED)),
            stalled: None,
            phase: "Suspended",
        },
        Stand::Unknown(trouble) => {
            let word = (trouble.reason, trouble.message.clone());
            Reading {
                ready: Err(word.clone()),
                progressing: Err(word.clone()),
                stalled: Some(word),
                phase: "Failing",
            }
        }
        Stand::Known(known) => of_members(known),
    }
}

fn of_members(known: &Known) -> Reading {
    let counts = counts(known);
    let good = known.well + known.stopped;
    let is_there = known.there == known.wanted && known.updated == known.wanted;
    let is_quiet = is_there && known.waiting == 0 && known.leaving.is_empty();
    if !known.taken.is_empty() {
        let message = format!(
            "{} {} there already and {} not this fleet's; rename the one or the other",
            few(known.taken.iter().map(String::as_str)),
            if known.taken.len() == 1 { "is" } else { "are" },
            if known.taken.len() == 1 { "is" } else { "are" },
        );
        let word = (words::NAME_TAKEN, message);
        return Reading {
            ready: Err(word.clone()),
            progressing: Err(word.clone()),
            stalled: Some(word),
            phase: "Failing",
        };
    }
    if is_quiet && good == known.wanted {
        return Reading {
            ready: Ok((words::ALL_READY, counts)),
            progressing: Err((words::SETTLED, String::new())),
            stalled: None,
            phase: if known.jobs && known.wanted > 0 { "Complete" } else { "Ready" },
        };
    }
    let failed = |who: &[(String, String)], tail: &str| {
        let who = few(who.iter().map(|(name, why)| format!("{name}: {why}")));
        (words::MEMBER_FAILED, format!("{who}{tail}"))
    };
    if !known.stopping.is_empty() {
        // Who waits for it waits until somebody mends it.
        let tail = match known.waiting {
            0 => String::new(),
            n => format!("; {n} more {} to be changed", if n == 1 { "waits" } else { "wait" }),
        };
        let word = failed(&known.stopping, &tail);
        return Reading {
            ready: Err((words::NOT_READY, counts)),
            progressing: Err(word.clone()),
            stalled: Some(word),
            phase: "Failing",
        };
    }
    if known.jobs && is_quiet && good + known.failing.len() == known.wanted {
        let word = failed(&known.failing, "");
        return Reading {
            ready: Err(word.clone()),
            progressing: Err(word),
            stalled: None,
            phase: "Failed",
        };
    }
    let mut message = counts.clone();
    if !known.finishing.is_empty() {
        let who = few(known.finishing.iter().map(String::as_str));
        message.push_str(&match known.finishing.len() {
            1 => format!("; {who} is changed after its turn"),
            _ => format!("; {who} are changed after their turns"),
        });
    }
    if !known.leaving.is_empty() {
        message.push_str(&format!("; {} to go", few(known.leaving.iter().map(String::as_str))));
    }
    Reading {
        ready: Err((words::NOT_READY, counts)),
        progressing: Ok((words::ROLLING_OUT, message)),
        stalled: None,
        phase: "Progressing",
    }
}

/// `9 of 10 ready, 1 stopped, 4 of 10 as the template says`.
fn counts(known: &Known) -> String {
    let Known { wanted, well, stopped, updated, .. } = known;
    let word = if known.jobs { "succeeded" } else { "ready" };
    let mut text = format!("{well} of {wanted} {word}");
    if *stopped > 0 {
        text.push_str(&format!(", {stopped} stopped"));
    }
    if updated < wanted {
        text.push_str(&format!(", {updated} of {wanted} as the template says"));
    }
    text
}

/// The first of some names, and how many more there are.
fn few(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    let names: Vec<String> = names.map(|name| name.as_ref().to_owned()).collect();
    let told = names.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST_NAMES) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}
