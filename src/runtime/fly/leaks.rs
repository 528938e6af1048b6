//! What Fly holds of ours and nobody wants any more: when it may go. Pure.
//!
//! A crash between creating a machine and writing down its id, an owner that was deleted while Fly
//! was down, a hand that cloned a machine together with its tags: each leaves something behind that
//! is billed until somebody finds it. Destroying is the one step that cannot be taken back, so
//! what is found dies slowly:
//!
//! 1. **Found**: it carries our tags, and nobody in the store wants it. It gets a *tombstone*: since
//!    when that is so. Tombstones are kept in memory; after a restart, time begins anew.
//! 2. **Told**: how many there are, and about what they cost in an hour ([`Risk`]).
//! 3. **Destroyed**, once it was unwanted in every whole look for the grace, oldest first, and no
//!    more in one round than the cap. Machines before volumes; a volume never while a machine has it.
//!
//! Nothing is destroyed, and no tombstone set, after a look that was not whole. Nothing is
//! destroyed, and every tombstone falls, while something of ours bears a revision that the store
//! does not have: then the store was restored from a backup, and what it does not know is not
//! nobody's ([`Hold::Restored`]). What Fly cannot say for sure (a host that does not answer) keeps
//! its tombstone and waits.

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::Timestamp;

use super::{
    api::{HostStatus, Machine, MachineState, Volume},
    price::{self, Micros},
};
use crate::ambient::{between, later};

/// What may be destroyed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    /// A machine, by its id.
    Machine(String),
    /// A volume, by its id.
    Volume(String),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(id) => write!(f, "machine {id}"),
            Self::Volume(id) => write!(f, "volume {id}"),
        }
    }
}

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
}

impl Holding {
    /// A machine of ours. `keeper` is the Sprite that it says it is of.
    #[must_use]
    pub fn machine(machine: &Machine, keeper: &str, revision: Option<u64>) -> Self {
        Self {
            thing: Thing::Machine(machine.id.clone()),
            keeper: keeper.to_owned(),
            revision,
            created: machine.created_at,
            is_certain: machine.is_certain() && !matches!(machine.state, MachineState::Untold),
            is_leaving: machine.state.is_leaving(),
            held_by: None,
            hourly: price::machine(machine),
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
    /// The most that go in one round.
    pub cap: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { machine: Duration::from_secs(300), volume: Duration::from_secs(3600), cap: 20 }
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

/// Since when things are unwanted.
pub type Tombstones = BTreeMap<Thing, Timestamp>;

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
}

/// Why nothing goes in this round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Fly, or the store, did not tell all.
    Partial,
    /// Something bears a revision that the store does not have.
    Restored {
        /// What.
        thing: Thing,
        /// Its revision.
        bears: u64,
        /// The store's.
        store: u64,
    },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial => f.write_str(
                "what Fly holds could not be seen whole, so nothing is taken for a leak",
            ),
            Self::Restored { thing, bears, store } => write!(
                f,
                "{thing} was made at revision {bears} and the store is at {store}: it was restored from a backup, and nothing is destroyed that it does not know until an operator says so"
            ),
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
    /// What they cost in an hour, in millionths of a dollar, about.
    pub hourly: Micros,
    /// What they have cost since they were made, at that price: at most.
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
        write!(
            f,
            "{things} on Fly {belong} to nothing here: about {} an hour, at most {} so far",
            price::dollars(self.hourly),
            price::dollars(self.spent)
        )?;
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
    /// Since when things are unwanted, from now on.
    pub tombstones: Tombstones,
    /// What goes now, in this order.
    pub destroy: Vec<Thing>,
    /// What is unwanted after this look, with what goes now; none where nothing is.
    pub risk: Option<Risk>,
    /// Why nothing goes, where something keeps it.
    pub hold: Option<Hold>,
}

/// Decides what goes. `is_wanted` says whether somebody in the store wants a thing, by its keeper.
#[must_use]
pub fn plan(
    look: &Look<'_>,
    is_wanted: impl Fn(&Holding) -> bool,
    before: &Tombstones,
    patience: &Patience,
) -> Round {
    let now = look.now;
    let Some(store) = look.revision.filter(|_| look.is_whole) else {
        // What is wanted again loses its tombstone; of the rest nothing was learned.
        let wanted = |thing: &Thing| look.held.iter().any(|it| it.thing == *thing && is_wanted(it));
        let kept = before.iter().filter(|(thing, _)| !wanted(thing));
        return Round {
            tombstones: kept.map(|(thing, since)| (thing.clone(), *since)).collect(),
            hold: Some(Hold::Partial),
            ..Round::default()
        };
    };
    let ahead = look.held.iter().filter_map(|it| Some((it.revision?, it))).max_by_key(|it| it.0);
    if let Some((bears, it)) = ahead.filter(|(bears, _)| *bears > store) {
        let hold = Hold::Restored { thing: it.thing.clone(), bears, store };
        return Round { hold: Some(hold), ..Round::default() };
    }

    let unwanted: Vec<&Holding> =
        look.held.iter().filter(|it| !it.is_leaving && !is_wanted(it)).collect();
    // A clock that was set back does not make anything older than it is.
    let since = |it: &Holding| before.get(&it.thing).map_or(now, |since| (*since).min(now));
    let goes_at = |it: &Holding| {
        let found = since(it);
        let young = it.created.map_or(found, |created| created.max(found));
        later(young, patience.grace(&it.thing))
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

    let risk = (!unwanted.is_empty()).then(|| Risk {
        machines: unwanted.iter().filter(|it| matches!(it.thing, Thing::Machine(_))).count(),
        volumes: unwanted.iter().filter(|it| matches!(it.thing, Thing::Volume(_))).count(),
        uncertain: unwanted.iter().filter(|it| !it.is_certain).count(),
        hourly: unwanted.iter().fold(0, |sum: Micros, it| sum.saturating_add(it.hourly)),
        spent: unwanted.iter().fold(0, |sum: Micros, it| {
            let age = between(it.created.unwrap_or(now), now);
            sum.saturating_add(price::over(it.hourly, age))
        }),
        next: unwanted.iter().filter(|it| it.is_certain).map(|it| goes_at(it).max(now)).min(),
    });
    Round {
        tombstones: unwanted.iter().map(|it| (it.thing.clone(), since(it))).collect(),
        destroy: due.into_iter().map(|it| it.thing.clone()).collect(),
        risk,
        hold: None,
    }
}

#[cfg(test)]
mod tests;
