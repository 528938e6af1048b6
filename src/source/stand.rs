//! What is said of a Source: conditions, phase, revisions, its history and the notices to chat. Pure.
//!
//! `Ready` says whether the objects stand as the newest revision says; where they do not, the last
//! good revision still holds. `Stalled` says that somebody has to do something, `Reconciling` that
//! there is more to come by itself.
//!
//! **Told once.** What people were told of a revision that does not stand is kept in the status, so that
//! neither a network that comes and goes nor a suspension tells it again, and whoever was told of a
//! fault is told when it is over, whatever happened in between.

use std::fmt;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::plan::Plan;
use crate::{
    resource::{
        Channel, ConditionStatus, Fault, Faults, RECONCILE_REQUESTED, Source, SourceStatus,
    },
    store::{Conversation, Op},
};

/// The condition that says whether the objects stand as the newest revision says.
pub const READY: &str = "Ready";
/// The condition that says that there is more to come by itself.
pub const RECONCILING: &str = "Reconciling";
/// The condition that says that somebody has to do something.
pub const STALLED: &str = "Stalled";
/// How many faults stand in a condition; all of them stand in the history.
const SHOWN: usize = 3;
/// How many faults are told in a chat and in the history.
const TOLD: usize = 10;
/// How many characters of a revision people are shown.
const SHORT: usize = 12;
/// The word for some repositories that stand as they were.
const PARTIAL: &str = "Partial";

/// Why a revision does not stand. Scripts may rely on the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A file is no desired state.
    InvalidFiles,
    /// The policy forbids what a file says.
    PolicyDenied,
    /// What the files say contradicts what stands there.
    Conflict,
    /// The files declare nothing at all.
    EmptySet,
    /// More would be deleted than the cap allows.
    DeletionsHeld,
    /// There is nothing where the Source reads.
    Missing,
    /// What the Source says cannot be read.
    Unreadable,
    /// It cannot be reached now.
    Unreachable,
}

impl Reason {
    const fn word(self) -> &'static str {
        match self {
            Self::InvalidFiles => "InvalidFiles",
            Self::PolicyDenied => "PolicyDenied",
            Self::Conflict => "Conflict",
            Self::EmptySet => "EmptySet",
            Self::DeletionsHeld => "DeletionsHeld",
            Self::Missing => "Missing",
            Self::Unreadable => "Unreadable",
            Self::Unreachable => "Unreachable",
        }
    }

    /// Whether it goes away by itself, as a network does.
    const fn is_passing(self) -> bool {
        matches!(self, Self::Unreachable)
    }
}

/// What came of a look at a Source.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome<'a> {
    /// The objects stand as a revision says, or will once what waits is gone.
    Applied {
        /// The revision.
        revision: &'a str,
        /// How many objects it declares.
        objects: usize,
        /// What is to be written for that.
        plan: &'a Plan,
        /// Repositories that stand as they were before, with the reason.
        troubles: &'a [String],
        /// Those that do so only until they answer again, with the reason: it goes away by itself, and is
        /// told to nobody.
        away: &'a [String],
        /// What was passed over, in words.
        notes: &'a [String],
    },
    /// The newest revision does not stand.
    Rejected {
        /// The revision, where one could be read.
        revision: Option<&'a str>,
        /// Why, in a word.
        reason: Reason,
        /// Why, in lines; the first ones are shown.
        faults: Faults,
        /// How many deletions wait for somebody.
        held: u32,
    },
    /// Nobody is to look.
    Suspended,
    /// The Source is deleted, and so much of what it owned is still there.
    Leaving(u32),
}

/// A line as a list of faults.
#[must_use]
pub fn line(message: impl Into<String>) -> Faults {
    Fault::new("", message).into()
}

/// A revision as people are shown it.
#[must_use]
pub fn short(revision: &str) -> String {
    revision.chars().take(SHORT).collect()
}

/// The status behind a look.
#[must_use]
pub fn status(source: &Source, outcome: &Outcome<'_>, now: Timestamp) -> SourceStatus {
    let mut status = source.status.clone();
    let generation = source.metadata.generation;
    status.conditions.not_after(now);
    status.observed_generation = generation;
    status.last_handled_reconcile_at =
        source.metadata.annotations.get(RECONCILE_REQUESTED).cloned();
    status.held_deletions = 0;
    match outcome {
        Outcome::Applied { troubles: [], away: [], .. } => status.last_told = None,
        outcome => status.last_told = fault(outcome).or(status.last_told),
    }
    let (ready, reconciling, stalled) = match outcome {
        Outcome::Applied { revision, objects, plan, troubles, away, notes } => {
            let (mut ready, more, stalled) =
                applied(&mut status, revision, *objects, plan, [*troubles, *away], now);
            if !notes.is_empty() {
                ready.2 = format!("{}; passed over: {}", ready.2, few(notes));
            }
            (ready, more, stalled)
        }
        Outcome::Rejected { revision, reason, faults, held } => {
            if let Some(revision) = revision {
                status.last_attempted_revision = Some((*revision).to_owned());
            }
            status.held_deletions = *held;
            let held = *reason == Reason::DeletionsHeld;
            status.phase = if held { "Held" } else { "Failing" }.to_owned();
            let (word, message) = (reason.word(), shown(faults));
            let passing = reason.is_passing();
            (
                (ConditionStatus::False, word, message.clone()),
                (passing, word, if passing { message.clone() } else { String::new() }),
                (!passing, word, if passing { String::new() } else { message }),
            )
        }
        Outcome::Suspended => {
            status.phase = "Suspended".to_owned();
            let message = "it is suspended: nothing is read, written or deleted for it".to_owned();
            let none = String::new;
            (
                (ConditionStatus::False, "Suspended", message),
                (false, "Suspended", none()),
                (false, "Suspended", none()),
            )
        }
        Outcome::Leaving(left) => {
            status.phase = "Deleting".to_owned();
            let message = format!("it is deleted; {} of its objects are still there", left);
            (
                (ConditionStatus::False, "Deleting", message.clone()),
                (true, "Deleting", message),
                (false, "Deleting", String::new()),
            )
        }
    };
    let is = |flag| if flag { ConditionStatus::True } else { ConditionStatus::False };
    let conditions = &mut status.conditions;
    conditions.set(READY, ready.0, ready.1, ready.2, generation, now);
    conditions.set(RECONCILING, is(reconciling.0), reconciling.1, reconciling.2, generation, now);
    conditions.set(STALLED, is(stalled.0), stalled.1, stalled.2, generation, now);
    status
}

type Said = (ConditionStatus, &'static str, String);
type Flag = (bool, &'static str, String);

fn applied(
    status: &mut SourceStatus,
    revision: &str,
    objects: usize,
    plan: &Plan,
    [troubles, away]: [&[String]; 2],
    now: Timestamp,
) -> (Said, Flag, Flag) {
    let cut = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    if status.last_applied_revision.as_deref() != Some(revision) || !plan.ops.is_empty() {
        status.last_applied_time = Some(now);
    }
    status.last_attempted_revision = Some(revision.to_owned());
    status.last_applied_revision = Some(revision.to_owned());
    status.objects = cut(objects);
    status.overridden = plan.overridden;
    let waits = waits(plan);
    let stalled = (false, "Applied", String::new());
    if !troubles.is_empty() || !away.is_empty() {
        status.phase = "Failing".to_owned();
        let message = format!("stands as it was: {}", few(&[troubles, away].concat()));
        let ready = (ConditionStatus::False, PARTIAL, message.clone());
        // Whoever only does not answer is asked again, and nobody has to do anything.
        let more = !waits.is_empty() || !away.is_empty();
        let waits = if waits.is_empty() { message.clone() } else { waits };
        let stalled = if troubles.is_empty() { stalled } else { (true, PARTIAL, message) };
        (ready, (more, PARTIAL, waits), stalled)
    } else if waits.is_empty() {
        status.phase = "Ready".to_owned();
        let things = if objects == 1 { "object" } else { "objects" };
        let message = format!("{} is applied: {objects} {things}", short(revision));
        let ready = (ConditionStatus::True, "Applied", message);
        (ready, (false, "Applied", String::new()), stalled)
    } else {
        status.phase = "Pending".to_owned();
        let ready = (ConditionStatus::False, "Waiting", waits.clone());
        (ready, (true, "Waiting", waits), stalled)
    }
}

/// What a plan still waits for, in words; nothing where it waits for nothing.
fn waits(plan: &Plan) -> String {
    let mut parts = Vec::new();
    if let Some(first) = plan.waiting.first() {
        let more = plan.waiting.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let first = super::set::called(first);
        parts.push(format!("{first}{more} is made anew once the one of that name is gone"));
    }
    if plan.leaving > 0 {
        let things = if plan.leaving == 1 { "object is" } else { "objects are" };
        parts.push(format!("{} {things} on the way out", plan.leaving));
    }
    parts.join("; ")
}

/// Faults in one line.
pub(super) fn shown(Faults(faults): &Faults) -> String {
    few(&faults.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// The first of several lines, in one.
fn few(lines: &[String]) -> String {
    let more = match lines.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("; and {more} more, see its events"),
    };
    format!("{}{more}", lines[..lines.len().min(SHOWN)].join("; "))
}

/// What was done, in a few words: `3 created, 1 deleted`.
fn done(plan: &Plan) -> String {
    let parts = [
        (plan.created.len(), "created"),
        (plan.adopted.len(), "taken over"),
        (plan.changed.len(), "changed"),
        (plan.drifted.len(), "put right"),
        (plan.deleted.len(), "deleted"),
        (plan.released.len(), "let go"),
    ];
    let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}"));
    parts.collect::<Vec<_>>().join(", ")
}

/// The lines that a look adds to the Source's history. Nothing where nothing is new.
#[must_use]
pub fn events(source: &Source, outcome: &Outcome<'_>, after: &SourceStatus) -> Vec<Op> {
    let event = |warning, reason: &str, note: String| Op::Event {
        kind: crate::resource::Kind::Source,
        name: source.metadata.name.clone(),
        uid: source.metadata.uid.clone(),
        warning,
        reason: reason.to_owned(),
        note,
    };
    match outcome {
        Outcome::Applied { revision, plan, troubles, away, notes, .. } => {
            let mut events = Vec::new();
            if is_news(source, outcome, after) {
                for line in troubles.iter().chain(*away).take(TOLD) {
                    events.push(event(true, "Partial", format!("stands as it was: {line}")));
                }
                for line in notes.iter().take(TOLD) {
                    events.push(event(true, "PassedOver", line.clone()));
                }
            }
            let done = done(plan);
            if !done.is_empty() {
                events.push(event(false, "Applied", format!("{}: {done}", short(revision))));
            }
            for key in plan.drifted.iter().take(TOLD) {
                let note = format!("{} was changed past its file", super::set::called(key));
                events.push(event(true, "Drifted", note));
            }
            events
        }
        Outcome::Rejected { reason, faults, .. } if is_news(source, outcome, after) => {
            let lines = faults.0.iter().take(TOLD).map(ToString::to_string);
            lines.map(|line| event(true, reason.word(), line)).collect()
        }
        _ => Vec::new(),
    }
}

/// What is wrong, in short: the same for the same faults of the same revision. Nothing where nothing is,
/// or where it goes away by itself.
fn fault(outcome: &Outcome<'_>) -> Option<String> {
    let (word, revision, lines) = match outcome {
        Outcome::Rejected { reason, .. } if reason.is_passing() => return None,
        Outcome::Rejected { reason, revision, faults, .. } => {
            (reason.word(), revision.unwrap_or_default(), faults.to_string())
        }
        Outcome::Applied { troubles: [], .. } => return None,
        // The good repositories go on; only the others are what is told.
        Outcome::Applied { troubles, .. } => (PARTIAL, "", troubles.join("\n")),
        Outcome::Suspended | Outcome::Leaving(_) => return None,
    };
    let digest = Sha256::digest(lines.as_bytes());
    let hash: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let parts = [word, &short(revision), &hash];
    Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
}

/// Whether what is wrong was not told before; of what goes away by itself, whether it has just come.
fn is_news(source: &Source, outcome: &Outcome<'_>, after: &SourceStatus) -> bool {
    if fault(outcome).is_some() {
        return source.status.last_told != after.last_told;
    }
    let said = |status: &SourceStatus| {
        status.conditions.get(READY).map(|ready| (ready.reason.clone(), ready.message.clone()))
    };
    said(&source.status) != said(after)
}

/// The first of several, a line each, and how many more there are.
fn listed(items: &[impl fmt::Display]) -> String {
    let mut lines: Vec<String> = items.iter().take(TOLD).map(|item| format!("- {item}")).collect();
    let more = items.len().saturating_sub(TOLD);
    lines.extend((more > 0).then(|| format!("- and {more} more")));
    lines.join("\n")
}

/// What chat is told, where there is something to tell: that a revision could not be applied, and
/// that one could again.
#[must_use]
pub fn notice(source: &Source, outcome: &Outcome<'_>, after: &SourceStatus) -> Option<String> {
    let name = &source.metadata.name;
    match outcome {
        Outcome::Rejected { reason, faults, revision, .. } => {
            if reason.is_passing() || !is_news(source, outcome, after) {
                return None;
            }
            let revision = revision.map(|it| format!(" {}", short(it))).unwrap_or_default();
            let lines = listed(&faults.0);
            Some(format!(
                "Source {name}: the revision{revision} is not applied, and everything stays as it \
                 was.\n{lines}"
            ))
        }
        Outcome::Applied { troubles, .. } if !troubles.is_empty() => {
            is_news(source, outcome, after).then(|| {
                let lines = listed(troubles);
                format!("Source {name}: some of its repositories stand as they were.\n{lines}")
            })
        }
        // Nobody needs a word that a fault is over of which nobody was told, nor before that is sure.
        Outcome::Applied { away, .. } if !away.is_empty() => None,
        Outcome::Applied { revision, plan, .. } => source.status.last_told.is_some().then(|| {
            let done = done(plan);
            let done = if done.is_empty() { "nothing had to change".to_owned() } else { done };
            format!("Source {name}: the revision {} is applied: {done}.", short(revision))
        }),
        Outcome::Suspended | Outcome::Leaving(_) => None,
    }
}

/// Where a notice goes.
#[must_use]
pub fn conversation(channel: &Channel) -> Conversation {
    let place = channel.place();
    Conversation {
        platform: channel.platform().to_owned(),
        channel: place.channel.clone(),
        thread: place.thread.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// What a look may come to.
    #[derive(Debug, Clone, PartialEq)]
    enum Look {
        Broken(&'static str, &'static str),
        Missing,
        Away,
        Partial(&'static str),
        Silent(&'static str),
        Suspended,
        Good(&'static str),
    }

    use Look::*;

    /// What chat and the history are told by looks, one after another.
    fn told(looks: &[Look]) -> Vec<(Option<String>, usize)> {
        let spec = json!({"from": {"directory": {"path": "a"}}});
        let mut source = Source::new("ours", serde_json::from_value(spec).unwrap());
        let plan = Plan::default();
        let mut all = Vec::new();
        for look in looks {
            let troubles: Vec<String> = match look {
                Partial(why) => vec![(*why).to_owned()],
                _ => Vec::new(),
            };
            let away: Vec<String> = match look {
                Silent(why) => vec![(*why).to_owned()],
                _ => Vec::new(),
            };
            let rejected = |revision, reason, why: &str| Outcome::Rejected {
                revision,
                reason,
                faults: line(why),
                held: 0,
            };
            let applied = |revision| Outcome::Applied {
                revision,
                objects: 1,
                plan: &plan,
                troubles: &troubles,
                away: &away,
                notes: &[],
            };
            let outcome = match look {
                Broken(revision, why) => rejected(Some(*revision), Reason::InvalidFiles, why),
                Missing => rejected(None, Reason::Missing, "it is not there"),
                Away => rejected(None, Reason::Unreachable, "no route"),
                Partial(_) | Silent(_) => applied("r0"),
                Suspended => Outcome::Suspended,
                Good(revision) => applied(revision),
            };
            let after = status(&source, &outcome, NOW);
            let said = notice(&source, &outcome, &after);
            all.push((said, events(&source, &outcome, &after).len()));
            source.status = after;
        }
        all
    }

    /// Which looks told chat something.
    fn heard(looks: &[Look]) -> Vec<Look> {
        let told = told(looks);
        let said = looks.iter().zip(told).filter(|(_, (said, _))| said.is_some());
        said.map(|(look, _)| look.clone()).collect()
    }

    #[test]
    fn a_fault_is_told_once_and_its_end_is_told_whatever_came_between() {
        let broken = || Broken("r1", "a.yaml:1:1: no");
        assert_eq!(
            heard(&[Good("r0"), broken(), broken(), Away, broken(), Away, Suspended, broken()]),
            [broken()]
        );
        assert_eq!(heard(&[broken(), Away, Good("r2"), Good("r3")]), [broken(), Good("r2")]);
        assert_eq!(heard(&[broken(), Suspended, Good("r2")]), [broken(), Good("r2")]);
        // Another fault, and the same one in another revision, are news.
        let (other, later) = (Broken("r1", "b.yaml:1:1: no"), Broken("r2", "a.yaml:1:1: no"));
        let all = [broken(), other.clone(), later.clone(), Missing, Missing];
        assert_eq!(heard(&all), [broken(), other, later, Missing]);
        // What passes by itself is told by nobody, and neither is its end, nor a first good one.
        assert_eq!(heard(&[Good("r0"), Away, Good("r0"), Suspended, Good("r1")]), []);
        assert_eq!(
            heard(&[Partial("a: no"), Away, Partial("a: no"), Partial("b: no"), Good("r1")]),
            [Partial("a: no"), Partial("b: no"), Good("r1")]
        );
        // Who does not answer is no news, however often and in whatever words.
        assert_eq!(heard(&[Silent("a: after 7 ms"), Silent("a: no route"), Good("r0")]), []);
        assert_eq!(
            heard(&[Partial("a: no"), Silent("a: away"), Partial("a: no"), Good("r1")]),
            [Partial("a: no"), Good("r1")]
        );
    }

    #[test]
    fn the_history_tells_a_fault_once_and_each_time_that_a_place_goes_away() {
        let broken = Broken("r1", "a.yaml:1:1: no");
        let looks = [broken.clone(), broken.clone(), Away, Away, broken, Away];
        let events: Vec<usize> = told(&looks).into_iter().map(|(_, events)| events).collect();
        assert_eq!(events, [1, 0, 1, 0, 0, 1]);
    }

    fn any_look() -> impl Strategy<Value = Look> {
        prop_oneof![
            Just(Broken("r1", "x")),
            Just(Broken("r1", "y")),
            Just(Broken("r2", "x")),
            Just(Missing),
            Just(Away),
            Just(Partial("x")),
            Just(Silent("y")),
            Just(Suspended),
            Just(Good("r0")),
        ]
    }

    proptest! {
        #[test]
        fn whoever_was_told_of_a_fault_is_told_of_its_end_and_of_nothing_twice(
            looks in collection::vec(any_look(), 1..20),
        ) {
            let mut standing: Option<Look> = None;
            for (look, (said, _)) in looks.iter().zip(told(&looks)) {
                let wanted = match look {
                    Away | Silent(_) | Suspended => false,
                    Good(_) => standing.take().is_some(),
                    fault => standing.replace(fault.clone()).as_ref() != Some(fault),
                };
                prop_assert_eq!(said.is_some(), wanted, "{:?} in {:?}", look, looks);
            }
        }
    }
}
