//! What Fly holds of ours and nobody wants any more: when it may go. Pure.
//!
//! A crash between creating a machine and writing down its id, an owner that was deleted while Fly
//! was down, a hand that cloned a machine together with its tags: each leaves something behind that
//! is billed until somebody finds it. Destroying is the one step that cannot be taken back, so
//! what is found dies slowly:
//!
//! 1. **Found**: it carries our tags, and nobody in the store wants it. It gets a *tombstone*: since
//!    when that is so. The store keeps tombstones, so that a restart forgets none.
//! 2. **Told**: how many there are, and about what they cost in an hour ([`Risk`]).
//! 3. **Destroyed**, once it was unwanted in every whole look for the grace, oldest first, and no
//!    more in one round than the cap. Machines before volumes; a volume never while a machine has it;
//!    nothing before a server has been up for a while.
//!
//! Nothing is destroyed, and no tombstone set, after a look that was not whole. What Fly cannot say
//! for sure (a host that does not answer) keeps its tombstone and waits.
//!
//! **A store that was restored** from a backup does not know what was made after it, and that is not
//! nobody's. It shows in two ways: the restore left word, or something of ours bears a revision that
//! the store does not have, or did not have when this server began although the thing was there
//! already (by the first look, the revisions of the restored store may have overtaken it). Then every
//! tombstone falls and nothing goes, over restarts, until an operator has looked and agrees; what
//! bore such a revision by then is believed no more. A server that had no whole look yet leaves word
//! for the next one of when it began.

use std::{fmt, time::Duration};

use jiff::Timestamp;

use super::{
    api::{HostStatus, Machine, MachineState, Volume},
    price::{self, Micros},
};
use crate::{
    ambient::{between, later},
    resource::leaks::{Ahead, Beginning, Leaks, Restored, Thing, Tombstones},
};

/// A machine that is on its way out for longer than this is wedged: Fly's documentation of states
/// calls five minutes too long, and ten for an update.
const WEDGED: Duration = Duration::from_secs(10 * 60);
/// By so much Fly's clock and ours may differ.
const SKEW: Duration = Duration::from_secs(60);

/// Something of ours that Fly holds. Who makes one has seen that it carries our installation: a
/// stranger's never comes in here.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// What it is.
    pub thing: Thing,
    /// Whose it says it is: a Sprite's uid, or the key of an owner.
    pub keeper: String,
    /// The store's revision when it was made, where it says so.
    pub revision: Option<u64>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Whether what is told of it can be relied on.
    pub is_certain: bool,
    /// Whether it is on the way out already.
    pub is_leaving: bool,
    /// The machine that has it, if it is a volume.
    pub held_by: Option<String>,
    /// What it costs in an hour, about.
    pub hourly: Micros,
    /// Whether that is only the least that it can cost.
    pub is_least: bool,
}

impl Holding {
    /// A machine of ours. `keeper` is the Sprite that it says it is of. One that has been on its way
    /// out for too long is not taken for leaving.
    #[must_use]
    pub fn machine(machine: &Machine, keeper: &str, revision: Option<u64>, now: Timestamp) -> Self {
        let is_wedged = machine.updated_at.is_some_and(|at| now >= later(at, WEDGED))
            && machine.state != MachineState::Destroyed;
        Self {
            thing: Thing::Machine(machine.id.clone()),
            keeper: keeper.to_owned(),
            revision,
            created: machine.created_at,
            is_certain: machine.is_certain() && !matches!(machine.state, MachineState::Untold),
            is_leaving: machine.state.is_leaving() && !is_wedged,
            held_by: None,
            hourly: price::machine(machine),
            is_least: machine.guest().is_some_and(price::is_least),
        }
    }

    /// A volume of ours. `keeper` is the key of the owner that stands in its name.
    #[must_use]
    pub fn volume(volume: &Volume, keeper: &str) -> Self {
        Self {
            thing: Thing::Volume(volume.id.clone()),
            keeper: keeper.to_owned(),
            revision: None,
            created: volume.created_at,
            is_certain: volume.host_status == HostStatus::Ok,
            is_leaving: volume.is_leaving(),
            held_by: volume.attached_machine_id.clone(),
            hourly: price::volume(volume.size_gb),
            is_least: false,
        }
    }
}

/// How slowly things die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long a machine is unwanted before it goes.
    pub machine: Duration,
    /// How long a volume is: work may be on it.
    pub volume: Duration,
    /// How long a server is up before anything goes.
    pub settle: Duration,
    /// The most that go in one round.
    pub cap: usize,
    /// The pause between two looks, while nothing is unwanted.
    pub every: Duration,
    /// The least pause between two looks.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            machine: Duration::from_secs(300),
            volume: Duration::from_secs(3600),
            settle: Duration::from_secs(120),
            cap: 20,
            every: Duration::from_secs(600),
            pause: Duration::from_secs(60),
        }
    }
}

impl Patience {
    fn grace(&self, thing: &Thing) -> Duration {
        match thing {
            Thing::Machine(_) => self.machine,
            Thing::Volume(_) => self.volume,
        }
    }
}

/// One look at what there is.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// All of ours that Fly holds.
    pub held: &'a [Holding],
    /// Whether that is all: every list was answered whole.
    pub is_whole: bool,
    /// The store's revision; none where the store did not say it.
    pub revision: Option<u64>,
    /// When.
    pub now: Timestamp,
    /// When this server began, and what the store held then.
    pub born: Beginning,
    /// When the store was restored from a backup, where the restore left word.
    pub restored: Option<Timestamp>,
    /// When an operator agreed last that what the store does not know may go.
    pub confirmed: Option<Timestamp>,
}

/// Why nothing goes in this round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Fly, or the store, did not tell all.
    Partial,
    /// The store was restored from a backup, and no operator has agreed yet.
    Restored(Restored),
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial => f.write_str(
                "what Fly holds could not be seen whole, so nothing is taken for a leak",
            ),
            Self::Restored(restored) => restored.fmt(f),
        }
    }
}

/// What is unwanted, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Risk {
    /// How many machines.
    pub machines: usize,
    /// How many volumes.
    pub volumes: usize,
    /// How many of both Fly cannot tell anything sure of.
    pub uncertain: usize,
    /// Whether the price of some is not known, so that the sums are the least that it can be.
    pub is_least: bool,
    /// What they cost in an hour, in millionths of a dollar, about.
    pub hourly: Micros,
    /// What they have cost since they were made, at that price, had they run all the time.
    pub spent: Micros,
    /// When the next one goes, if nothing comes between.
    pub next: Option<Timestamp>,
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let things = match (self.machines, self.volumes) {
            (machines, 0) => many(machines, "machine"),
            (0, volumes) => many(volumes, "volume"),
            (machines, volumes) => {
                format!("{} and {}", many(machines, "machine"), many(volumes, "volume"))
            }
        };
        let belong = if self.machines + self.volumes == 1 { "belongs" } else { "belong" };
        let (hourly, spent) = (price::dollars(self.hourly), price::dollars(self.spent));
        write!(f, "{things} on Fly {belong} to nothing here: ")?;
        match self.is_least {
            true => write!(f, "at least {hourly} an hour, {spent} so far if they ran")?,
            false => write!(f, "about {hourly} an hour, at most {spent} so far")?,
        }
        if self.uncertain > 0 {
            write!(f, "; of {} Fly cannot say how it is", self.uncertain)?;
        }
        match self.next {
            Some(next) => write!(f, "; destroyed from {next} on"),
            None => Ok(()),
        }
    }
}

/// What a round comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Round {
    /// What is to be remembered from now on.
    pub leaks: Leaks,
    /// What goes now, in this order.
    pub destroy: Vec<Thing>,
    /// What is unwanted after this look, with what goes now; none where nothing is.
    pub risk: Option<Risk>,
    /// Why nothing goes, where something keeps it.
    pub hold: Option<Hold>,
}

/// Decides what goes. `is_wanted` says whether somebody in the store wants a thing.
#[must_use]
pub fn plan(
    look: &Look<'_>,
    is_wanted: impl Fn(&Holding) -> bool,
    before: &Leaks,
    patience: &Patience,
) -> Round {
    let now = look.now;
    let Some(store) = look.revision.filter(|_| look.is_whole) else {
        // What is wanted again loses its tombstone; of the rest nothing was learned.
        let wanted = |thing: &Thing| look.held.iter().any(|it| it.thing == *thing && is_wanted(it));
        let mut leaks = before.clone();
        leaks.tombstones.retain(|thing, _| !wanted(thing));
        leaks.first = leaks.first.or(Some(look.born));
        return Round { leaks, hold: Some(Hold::Partial), ..Round::default() };
    };
    let unwanted: Vec<&Holding> =
        look.held.iter().filter(|it| !it.is_leaving && !is_wanted(it)).collect();
    let (restored, accepted) = restored(look, store, before, unwanted.is_empty());
    if let Some(restored) = restored {
        let seen_on_machines = restored.ahead.is_some();
        return Round {
            leaks: Leaks {
                restored: seen_on_machines.then(|| restored.clone()),
                accepted,
                ..Leaks::default()
            },
            risk: risk(&unwanted, now, |_| None),
            hold: Some(Hold::Restored(restored)),
            ..Round::default()
        };
    }
    let settled = later(look.born.at, patience.settle);
    // A clock that was set back does not make anything older than it is.
    let since = |it: &Holding| before.tombstones.get(&it.thing).map_or(now, |at| (*at).min(now));
    let goes_at = |it: &Holding| {
        let found = since(it);
        let young = it.created.map_or(found, |created| created.max(found));
        later(young, patience.grace(&it.thing)).max(settled)
    };
    // Whether a machine has it that is there, wanted or not: first that one goes.
    let is_held = |it: &Holding| {
        let machine = it.held_by.as_ref().map(|id| Thing::Machine(id.clone()));
        machine.is_some_and(|machine| look.held.iter().any(|it| it.thing == machine))
    };
    let mut due: Vec<&Holding> = unwanted
        .iter()
        .copied()
        .filter(|it| it.is_certain && !is_held(it) && now >= goes_at(it))
        .collect();
    due.sort_by_key(|it| (matches!(it.thing, Thing::Volume(_)), since(it), it.thing.clone()));
    due.truncate(patience.cap);
    let tombstones: Tombstones = unwanted.iter().map(|it| (it.thing.clone(), since(it))).collect();
    Round {
        leaks: Leaks { tombstones, accepted, ..Leaks::default() },
        destroy: due.into_iter().map(|it| it.thing.clone()).collect(),
        risk: risk(&unwanted, now, |it| it.is_certain.then(|| goes_at(it).max(now))),
        hold: None,
    }
}

/// Whether the store was restored and nobody has agreed yet; and up to which revision tags prove
/// nothing any more.
fn restored(
    look: &Look<'_>,
    store: u64,
    before: &Leaks,
    nothing_is_unwanted: bool,
) -> (Option<Restored>, u64) {
    let is_open = |since: Timestamp| look.confirmed.is_none_or(|confirmed| confirmed < since);
    let begun = before.first.unwrap_or(look.born);
    let is_ahead = |it: &Holding, bears: u64| {
        let was_there = it.created.is_some_and(|at| later(at, SKEW) < begun.at);
        bears > store || (bears > begun.revision && was_there)
    };
    let bearing = look.held.iter().filter_map(|it| Some((it.revision?, it)));
    let ahead = bearing
        .filter(|(bears, it)| *bears > before.accepted && is_ahead(it, *bears))
        .max_by_key(|(bears, _)| *bears);
    let seen = before.restored.clone().or_else(|| {
        let (bears, it) = ahead?;
        let store = if bears > store { store } else { begun.revision };
        let ahead = Some(Ahead { thing: it.thing.clone(), bears, store });
        Some(Restored { since: look.now, ahead })
    });
    match seen {
        Some(seen) if is_open(seen.since) => (Some(seen), before.accepted),
        seen => {
            let agreed = seen.and_then(|_| ahead.map(|(bears, _)| bears));
            let accepted = before.accepted.max(agreed.unwrap_or_default());
            // Word that was left holds only what there is to lose.
            let word = look.restored.filter(|at| is_open(*at) && !nothing_is_unwanted);
            (word.map(|since| Restored { since, ahead: None }), accepted)
        }
    }
}

/// What is unwanted, and what that costs; none where nothing is.
fn risk(
    unwanted: &[&Holding],
    now: Timestamp,
    goes_at: impl Fn(&Holding) -> Option<Timestamp>,
) -> Option<Risk> {
    let spent = |it: &Holding| price::over(it.hourly, between(it.created.unwrap_or(now), now));
    let sum = |of: &dyn Fn(&Holding) -> Micros| {
        unwanted.iter().fold(0, |sum: Micros, it| sum.saturating_add(of(it)))
    };
    let machines = unwanted.iter().filter(|it| matches!(it.thing, Thing::Machine(_))).count();
    (!unwanted.is_empty()).then(|| Risk {
        machines,
        volumes: unwanted.len() - machines,
        uncertain: unwanted.iter().filter(|it| !it.is_certain).count(),
        is_least: unwanted.iter().any(|it| it.is_least),
        hourly: sum(&|it| it.hourly),
        spent: sum(&spent),
        next: unwanted.iter().filter_map(|it| goes_at(it)).min(),
    })
}

#[cfg(test)]
mod tests;
