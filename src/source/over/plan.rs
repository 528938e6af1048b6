//! What follows for an object and all its Overrides, from what is there and the time. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::lay::{Laid, lay};
use crate::{
    ambient::later,
    resource::{
        AnyObject, Condition, ConditionStatus, Conditions, DEFAULT_OVERRIDE_TIME, Defaults,
        FINALIZER_OWNED, Kind, Metadata, Override, OverrideStatus, RELEASED_FROM,
    },
    store::{Expect, LiveOverride, Op, Owned, Part},
};

/// The condition of an Override that is laid over its object.
pub const APPLIED: &str = "Applied";
/// The condition of an Override whose change stands in the file.
pub const WRITTEN: &str = "Written";
/// The condition of an Override that has ended.
pub const EXPIRED: &str = "Expired";
/// The condition of an object that says something else than its file.
pub const DRIFTED: &str = "Drifted";
/// The reason of that.
pub const OVERRIDDEN_BY: &str = "OverriddenBy";

/// What is said of an Override that was written into a file that says something else by now.
const OVERTAKEN: &str =
    "it was written to the file, which was changed since; what the file says holds";

/// How long an Override stays to be looked at once it has ended.
pub const KEEP_ENDED: Duration = Duration::from_secs(24 * 60 * 60);

/// What is there.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// The object that the Overrides are of, if there is one of that name.
    pub target: Option<AnyObject>,
    /// What declares it.
    pub row: Option<Owned>,
    /// All Overrides of that name.
    pub overrides: Vec<Override>,
    /// Until when its Source has read what is written; nothing where the Source is not well.
    pub patience: Option<Patience>,
}

/// How long a Source takes at most to read what was written into its files, while it is well.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From when on it is known to look: the start of this process.
    pub since: Timestamp,
    /// How long it may take.
    pub span: Duration,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What commits together; nothing where all is as it should be.
    pub ops: Vec<Op>,
    /// When to look again.
    pub again: Option<Timestamp>,
}

/// What an Override comes to.
#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    /// It is deleted: nothing of it is left, and it may go.
    Leaves,
    /// It has ended before.
    Over,
    /// Its time is over.
    Expired,
    /// The file says what it says.
    InFile,
    /// It was written, and the file says something else by now: that is newer.
    Overtaken,
    /// It is laid over the object.
    Applied,
    /// It is not, for a reason in one word and in a line.
    Refused(&'static str, String),
}

/// When an Override ends.
pub(super) fn expires(over: &Override) -> Timestamp {
    let born = over.metadata.creation_timestamp.unwrap_or(Timestamp::MIN);
    later(born, over.spec.expires_after.unwrap_or(DEFAULT_OVERRIDE_TIME).as_duration())
}

pub(super) fn plan(seen: &Seen, defaults: &Defaults, now: Timestamp) -> Plan {
    let overrides = in_order(seen);
    let mut verdicts: Vec<Verdict> = overrides.iter().map(|over| alone(over, seen, now)).collect();
    let mut plan = Plan::default();
    match standing(seen) {
        Err((reason, message)) => {
            for verdict in verdicts.iter_mut().filter(|it| **it == Verdict::Applied) {
                *verdict = Verdict::Refused(reason, message.clone());
            }
            // Nobody lays anything over it any more.
            plan.ops.extend(seen.target.as_ref().and_then(|target| drifted(target, 0, &[], now)));
        }
        Ok((target, row)) => {
            match lay_all(target, row, &overrides, &mut verdicts, defaults, now) {
                Some(laid) => plan.ops.extend(written(target, row, laid, now)),
                // The object cannot be written; but what has ended is nothing to lay again.
                None => plan.ops.extend(forgotten(row, &overrides, &verdicts)),
            }
        }
    }
    for (over, verdict) in overrides.iter().zip(&verdicts) {
        plan.ops.extend(noted(over, verdict, seen, now));
        let next = match verdict {
            Verdict::Leaves => None,
            Verdict::Applied | Verdict::Refused(..) => {
                let read = read_by(over, seen).filter(|at| *at > now);
                Some(read.map_or_else(|| expires(over), |at| at.min(expires(over))))
            }
            Verdict::Expired | Verdict::InFile | Verdict::Overtaken => Some(later(now, KEEP_ENDED)),
            Verdict::Over => Some(later(ended_at(over), KEEP_ENDED)),
        };
        plan.again = [plan.again, next].into_iter().flatten().min();
    }
    plan
}

/// Those that are laid already keep their order; those that came since follow in the order in which
/// they were made.
fn in_order(seen: &Seen) -> Vec<&Override> {
    let laid = |over: &Override| {
        let rows = seen.row.iter().flat_map(|row| &row.overrides);
        rows.into_iter().position(|laid| laid.uid == over.metadata.uid).unwrap_or(usize::MAX)
    };
    let mut all: Vec<&Override> = seen.overrides.iter().collect();
    all.sort_by_key(|over| {
        (laid(over), over.metadata.creation_timestamp, over.metadata.name.clone())
    });
    all
}

/// What an Override comes to as far as that follows from itself.
fn alone(over: &Override, seen: &Seen, now: Timestamp) -> Verdict {
    if over.metadata.is_deleting() {
        Verdict::Leaves
    } else if over.status.conditions.is_true(EXPIRED) {
        Verdict::Over
    } else if expires(over) <= now {
        Verdict::Expired
    } else if read_by(over, seen).is_some_and(|at| at <= now) {
        // Should the file say it by now, that is seen first.
        Verdict::Overtaken
    } else {
        Verdict::Applied
    }
}

/// When the Source has read the file into which an Override was written. What holds from then on is
/// the file: where it does not say what was written, somebody has changed it since.
fn read_by(over: &Override, seen: &Seen) -> Option<Timestamp> {
    let written = over.status.conditions.get(WRITTEN).filter(|_| over.spec.write_to_file);
    let written = written.filter(|written| written.status == ConditionStatus::True)?;
    let patience = seen.patience?;
    Some(later(written.last_transition_time.max(patience.since), patience.span))
}

/// The object and what declares it, or why nothing can be laid over it.
fn standing(seen: &Seen) -> Result<(&AnyObject, &Owned), (&'static str, String)> {
    let Some(target) = &seen.target else {
        return Err(("TargetNotFound", "there is no such object".to_owned()));
    };
    let metadata = target.metadata();
    let row = seen.row.as_ref().filter(|row| row.uid == metadata.uid);
    match row {
        _ if metadata.is_deleting() => Err(("TargetLeaves", "it is being deleted".to_owned())),
        Some(row) if row.leaving => {
            let message = format!("source {} does not declare it any more", row.source);
            Err(("TargetLeaves", message))
        }
        Some(row) => Ok((target, row)),
        None => match metadata.annotations.get(RELEASED_FROM) {
            Some(source) => {
                Err(("NotOwned", format!("it was let go by source {source}; edit it directly")))
            }
            None => Err(("NotOwned", "no source declares it; edit it directly".to_owned())),
        },
    }
}

/// Lays all that may live over the object, and says of each what came of it.
fn lay_all(
    target: &AnyObject,
    row: &Owned,
    overrides: &[&Override],
    verdicts: &mut [Verdict],
    defaults: &Defaults,
    now: Timestamp,
) -> Option<Laid> {
    let bare = lay(target, &row.base, &[], defaults, now).ok();
    let mut live = Vec::new();
    for (over, verdict) in overrides.iter().zip(verdicts.iter_mut()) {
        if !matches!(verdict, Verdict::Applied | Verdict::Overtaken) {
            continue;
        }
        let one = LiveOverride {
            uid: over.metadata.uid.clone(),
            name: over.metadata.name.clone(),
            patch: Value::Object(over.spec.patch.clone()),
            expires: expires(over),
        };
        let alone = || lay(target, &row.base, std::slice::from_ref(&one), defaults, now).ok();
        // The file has come to say it: there is nothing left to lay over that. Not before the pen has
        // said that it is done: what it has written may still have to be committed.
        if over.spec.write_to_file
            && is_pen_done(over)
            && alone().is_some_and(|laid| {
                laid.refused.is_empty() && Some(&laid.object) == bare.as_ref().map(|it| &it.object)
            })
        {
            *verdict = Verdict::InFile;
        } else if *verdict == Verdict::Applied {
            live.push(one);
        }
    }
    let laid = match lay(target, &row.base, &live, defaults, now) {
        Ok(laid) => laid,
        Err(faults) => {
            let message = format!("what the file says cannot be taken any more: {}", faults.0[0]);
            for verdict in verdicts.iter_mut().filter(|it| **it == Verdict::Applied) {
                *verdict = Verdict::Refused("BaseInvalid", message.clone());
            }
            return None;
        }
    };
    for (refused, faults) in &laid.refused {
        let at = overrides.iter().position(|over| over.metadata.uid == refused.uid);
        if let Some(at) = at {
            let lines: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
            verdicts[at] = Verdict::Refused("Invalid", lines.join("; "));
        }
    }
    Some(laid)
}

/// The row without those Overrides that have ended, where it has some.
fn forgotten(row: &Owned, overrides: &[&Override], verdicts: &[Verdict]) -> Option<Op> {
    let mut kept = row.overrides.clone();
    kept.retain(|laid| {
        let at = overrides.iter().position(|over| over.metadata.uid == laid.uid);
        at.is_some_and(|at| matches!(verdicts[at], Verdict::Applied | Verdict::Refused(..)))
    });
    (kept != row.overrides).then(|| Op::Own(Owned { overrides: kept, ..row.clone() }))
}

/// Whether the pen has nothing left to do for an Override.
fn is_pen_done(over: &Override) -> bool {
    let written = over.status.conditions.get(WRITTEN);
    written.is_some_and(|it| it.status == ConditionStatus::True || it.reason == "Refused")
}

/// Writes the object and its row, where they differ.
fn written(target: &AnyObject, row: &Owned, laid: Laid, now: Timestamp) -> Vec<Op> {
    let mut ops = Vec::new();
    let changed = target.to_json()["spec"] != laid.object.to_json()["spec"];
    let drift = drifted(target, u64::from(changed), &laid.kept, now);
    if changed || drift.is_some() || laid.kept != row.overrides {
        // Also where it stays the same: what was decided rests on it.
        ops.push(Op::Own(Owned { overrides: laid.kept.clone(), ..row.clone() }));
    }
    if changed {
        let (object, part) = (laid.object, Part::Desired);
        ops.push(Op::Write { object, part, expect: Expect::SameVersion });
    }
    let before = conditions(target).and_then(|all| all.get(DRIFTED)).map(|it| it.message.clone());
    let told = message(&laid.kept);
    if drift.is_some() && before != told {
        let (reason, note) = match told {
            Some(message) => ("Overridden", message),
            None => ("OverrideEnded", "it says what its file says again".to_owned()),
        };
        ops.push(event(target.kind(), target.metadata(), false, reason, note));
    }
    ops.extend(drift);
    ops
}

/// The write by which an object says that it drifted, or does not say so any more.
fn drifted(target: &AnyObject, raised: u64, kept: &[LiveOverride], now: Timestamp) -> Option<Op> {
    let generation = target.metadata().generation + raised;
    let mut object = target.clone();
    let all = conditions_mut(&mut object)?;
    let before = all.clone();
    match message(kept) {
        Some(message) => match all.0.iter_mut().find(|condition| condition.kind == DRIFTED) {
            Some(condition) => {
                condition.observed_generation = generation;
                condition.message = message;
            }
            None => all.0.push(Condition {
                kind: DRIFTED.to_owned(),
                status: ConditionStatus::True,
                observed_generation: generation,
                last_transition_time: now,
                reason: OVERRIDDEN_BY.to_owned(),
                message,
            }),
        },
        None => all.remove(DRIFTED),
    }
    (*all != before).then(|| Op::Write { object, part: Part::Status, expect: Expect::SameVersion })
}

/// What an object says of its Overrides.
fn message(kept: &[LiveOverride]) -> Option<String> {
    let each = kept.iter().map(|over| {
        let fields: Vec<&str> = over
            .patch
            .as_object()
            .into_iter()
            .flat_map(|patch| patch.keys().map(String::as_str))
            .collect();
        format!(
            "override {} of {} until {}",
            over.name,
            fields.join(", "),
            whole_seconds(over.expires)
        )
    });
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| each.join("; "))
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// When an Override ended, as far as it says.
fn ended_at(over: &Override) -> Timestamp {
    let ended = over.status.conditions.get(EXPIRED);
    ended.map_or_else(|| expires(over), |condition| condition.last_transition_time)
}

/// What is noted on an Override.
fn noted(over: &Override, verdict: &Verdict, seen: &Seen, now: Timestamp) -> Vec<Op> {
    let object: AnyObject = over.clone().into();
    match verdict {
        Verdict::Leaves => {
            let mut object = object;
            let finalizers = &mut object.metadata_mut().finalizers;
            if !finalizers.iter().any(|held| held == FINALIZER_OWNED) {
                return Vec::new();
            }
            finalizers.retain(|held| held != FINALIZER_OWNED);
            return vec![Op::Write { object, part: Part::Finalizers, expect: Expect::SameVersion }];
        }
        Verdict::Over if later(ended_at(over), KEEP_ENDED) <= now => {
            return vec![Op::Delete {
                kind: Kind::Override,
                name: over.metadata.name.clone(),
                uid: Some(over.metadata.uid.clone()),
                resource_version: None,
            }];
        }
        Verdict::Over => return Vec::new(),
        _ => {}
    }
    let mut status = status(over, verdict, seen, now);
    status.conditions.not_after(now);
    if status == over.status {
        return Vec::new();
    }
    let mut ops = Vec::new();
    if status.phase != over.status.phase {
        let (reason, note) = match verdict {
            Verdict::Refused(_, message) => ("Refused", message.clone()),
            Verdict::Applied => ("Applied", format!("until {}", whole_seconds(expires(over)))),
            Verdict::InFile => ("Written", "the file says it now".to_owned()),
            Verdict::Overtaken => ("Written", OVERTAKEN.to_owned()),
            _ => ("Expired", "its time is over".to_owned()),
        };
        let warning = matches!(verdict, Verdict::Refused(..));
        ops.push(event(Kind::Override, &over.metadata, warning, reason, note));
    }
    let object = Override { status, ..over.clone() }.into();
    ops.push(Op::Write { object, part: Part::Status, expect: Expect::SameVersion });
    ops
}

fn status(over: &Override, verdict: &Verdict, seen: &Seen, now: Timestamp) -> OverrideStatus {
    use ConditionStatus::{False, True};
    let mut status = over.status.clone();
    let generation = over.metadata.generation;
    status.observed_generation = generation;
    status.expires = Some(expires(over));
    let conditions = &mut status.conditions;
    let of_source = seen.row.as_ref().map(|row| format!("laid over {}:{}", row.file, row.line));
    let (phase, applied, reason, message) = match verdict {
        Verdict::Applied => ("Applied", True, "Applied", of_source.unwrap_or_default()),
        Verdict::Refused(reason, message) => ("Refused", False, *reason, message.clone()),
        Verdict::InFile => {
            let message = seen.row.as_ref().map(|row| format!("{}:{}", row.file, row.line));
            conditions.set(WRITTEN, True, "InFile", message.unwrap_or_default(), generation, now);
            ("Written", False, "InFile", "the file says it".to_owned())
        }
        Verdict::Overtaken => ("Written", False, "FileChanged", OVERTAKEN.to_owned()),
        _ => ("Expired", False, "Expired", "its time is over".to_owned()),
    };
    let ended = matches!(verdict, Verdict::InFile | Verdict::Overtaken | Verdict::Expired);
    conditions.set(APPLIED, applied, reason, message, generation, now);
    let (is_over, why) = if ended { (True, reason) } else { (False, "Lives") };
    conditions.set(EXPIRED, is_over, why, "", generation, now);
    phase.clone_into(&mut status.phase);
    status
}

pub(super) fn event(
    kind: Kind,
    metadata: &Metadata,
    warning: bool,
    reason: &str,
    note: String,
) -> Op {
    let (name, uid) = (metadata.name.clone(), metadata.uid.clone());
    Op::Event { kind, name, uid, warning, reason: reason.to_owned(), note }
}

fn conditions(object: &AnyObject) -> Option<&Conditions> {
    match object {
        AnyObject::Agent(object) => Some(&object.status.conditions),
        AnyObject::Job(object) => Some(&object.status.conditions),
        AnyObject::Fleet(object) => Some(&object.status.conditions),
        AnyObject::Schedule(object) => Some(&object.status.conditions),
        AnyObject::Source(_) | AnyObject::Override(_) | AnyObject::Sprite(_) => None,
    }
}

fn conditions_mut(object: &mut AnyObject) -> Option<&mut Conditions> {
    match object {
        AnyObject::Agent(object) => Some(&mut object.status.conditions),
        AnyObject::Job(object) => Some(&mut object.status.conditions),
        AnyObject::Fleet(object) => Some(&mut object.status.conditions),
        AnyObject::Schedule(object) => Some(&mut object.status.conditions),
        AnyObject::Source(_) | AnyObject::Override(_) | AnyObject::Sprite(_) => None,
    }
}
