//! What a machine that was seen, or was not, says of its Sprite's run. Pure.
//!
//! Two things decide. Whether the run has **begun**: some boot claimed it, or its reporter spoke; from
//! then on no other boot will ever live it, and a machine that is not up any more is gone. And whether
//! the machine's absence is **proven**: Fly said of its id that it is no more. A list proves nothing
//! of what was written a moment ago.
//!
//! | the machine | its run has begun | it has not |
//! |---|---|---|
//! | started | up | up, about to claim |
//! | on its way there | up | coming |
//! | made, and young | up | coming: its image is fetched |
//! | on its way out | up, about to be gone | coming: what it becomes is seen |
//! | stopped, failed | gone | rests: it is started; gone if it was up, or was started already |
//! | suspended | recover: it is started | rests |
//! | destroyed | gone | absent; gone if it was up, or is of the first run |
//! | its host does not answer, or a word that nobody knows | unknown | unknown |
//!
//! A machine that ends before it claims has run no agent, so starting it again is safe. But one
//! without a reporter in its image would be started for ever: it is started once a run by this
//! process, and then counts as lost, which the owner's backoff bounds.

use std::time::Duration;

use jiff::Timestamp;

use super::{api::MachineState as State, seen::Seen};
use crate::{
    ambient::later,
    resource::{FlyMachine, Sprite},
    runtime::{MachineStand, Observed},
};

/// How long a machine may stay made and not started before that counts as not started: Fly fetches
/// its image meanwhile (6 to 70 s were seen).
pub(super) const FETCH: Duration = Duration::from_secs(5 * 60);
/// For so long after a start of ours what was before may still be told.
pub(super) const START_LAG: Duration = Duration::from_secs(10);
/// The condition by which the store says that this run was seen up.
const PROVISIONED: &str = "Provisioned";

/// What is known of a Sprite's machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Sight<'a> {
    /// It was seen.
    Machine(&'a Seen),
    /// Fly said that it is no more.
    Destroyed,
    /// None is known, and a list that was whole has none.
    Nothing,
}

/// What else decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The Sprite, as the store has it.
    pub(super) sprite: &'a Sprite,
    /// The app.
    pub(super) app: &'a str,
    /// How long ago this process started (or made) its machine for the run that is wanted, if it did.
    pub(super) started: Option<Duration>,
    /// Now.
    pub(super) now: Timestamp,
}

/// What follows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    /// This.
    Is(Observed),
    /// It is gone; how it ended is to be found among its events.
    Gone,
}

/// Whether a boot has the run that is wanted, so that no other one will ever live it.
pub(super) fn has_begun(sprite: &Sprite) -> bool {
    let run = sprite.spec.run;
    let claimed = sprite.status.claim.as_ref().is_some_and(|claim| claim.run >= run);
    let first = run == 1 && sprite.status.hello_time.is_some();
    claimed || sprite.status.run >= run || first || sprite.status.slept >= run
}

/// Decides.
pub(super) fn observe(sight: Sight<'_>, facts: &Facts<'_>) -> Verdict {
    let begun = has_begun(facts.sprite);
    match sight {
        Sight::Machine(seen) => machine(seen, begun, facts),
        Sight::Destroyed if begun || was_up(facts) || is_first(facts) => Verdict::Gone,
        Sight::Destroyed if facts.started.is_some() => Verdict::Gone,
        // Nobody can say where it went: whoever asks looks on until that is proven.
        Sight::Nothing if begun || was_up(facts) => Verdict::Gone,
        Sight::Destroyed | Sight::Nothing => Verdict::Is(Observed::Absent),
    }
}

/// Whether the store says that this run was seen up.
fn was_up(facts: &Facts<'_>) -> bool {
    facts.sprite.status.conditions.is_true(PROVISIONED)
}

/// Whether the machine that the store knows was made for the run that is wanted.
fn is_first(facts: &Facts<'_>) -> bool {
    facts.sprite.spec.run == 1 && facts.sprite.status.fly.is_some()
}

fn machine(seen: &Seen, begun: bool, facts: &Facts<'_>) -> Verdict {
    let stands = |stand| {
        let machine: FlyMachine = seen.status(facts.app);
        Verdict::Is(Observed::Machine { machine: Some(machine), stand })
    };
    let unknown = |why: String| Verdict::Is(Observed::Unknown { why });
    if !seen.certain {
        return unknown(format!(
            "the host of its machine {} does not answer Fly, and what was last heard of it is `{}`",
            seen.id, seen.state
        ));
    }
    let up_or = |stand| stands(if begun { MachineStand::Up } else { stand });
    match &seen.state {
        State::Started => stands(MachineStand::Up),
        State::Created if !begun && is_stuck(seen, facts.now) => rests(seen, facts),
        State::Created
        | State::Creating
        | State::Starting
        | State::Restarting
        | State::Updating
        | State::Replacing
        | State::Stopping
        | State::Suspending
        | State::LaunchFailed
        | State::Destroying => up_or(MachineStand::Coming),
        State::Stopped | State::Failed if begun => Verdict::Gone,
        State::Suspended if begun && !is_over(facts.sprite) => {
            Verdict::Is(Observed::Orphaned { exit: None })
        }
        State::Suspended if begun => Verdict::Gone,
        State::Stopped | State::Failed | State::Suspended => rests(seen, facts),
        State::Destroyed => observe(Sight::Destroyed, facts),
        State::Replaced | State::Migrated | State::Untold | State::Other(_) => unknown(format!(
            "Fly says `{}` of its machine {}, which this version cannot read",
            seen.state, seen.id
        )),
    }
}

/// Whether its run has ended, whatever its machine does.
fn is_over(sprite: &Sprite) -> bool {
    sprite.status.exit.is_some() || sprite.status.slept >= sprite.spec.run
}

/// A machine that is not up, and whose run nobody has.
fn rests(seen: &Seen, facts: &Facts<'_>) -> Verdict {
    let machine = seen.status(facts.app);
    match facts.started {
        Some(ago) if ago < START_LAG => {
            Verdict::Is(Observed::Machine { machine: Some(machine), stand: MachineStand::Coming })
        }
        Some(_) => Verdict::Gone,
        None if was_up(facts) => Verdict::Gone,
        None => Verdict::Is(Observed::Machine { machine: Some(machine), stand: MachineStand::Resting }),
    }
}

/// Whether it was made and should have been started by now.
pub(super) fn is_stuck(seen: &Seen, now: Timestamp) -> bool {
    seen.created.is_some_and(|created| now >= later(created, FETCH))
}
