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
//! | on its way for too long | stuck, on its way out: it is destroyed | gone |
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
/// How long a state that passes may last before its machine counts as stuck (Fly's own waits are
/// shorter).
const PASSES: Duration = Duration::from_secs(5 * 60);
/// The same while it is updated.
const UPDATES: Duration = Duration::from_secs(10 * 60);
/// How long a machine that is up may ask for nothing: a reporter gives up after an hour.
pub(super) const MUTE: Duration = Duration::from_secs(65 * 60);
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
    /// For how long it has been seen in the state that it is in.
    pub(super) stays: Duration,
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
        // Whatever lives in it is no reporter of ours.
        State::Started if !begun && up_for(facts) >= MUTE => Verdict::Gone,
        State::Started => stands(MachineStand::Up),
        State::Created if !begun && is_stuck(seen, facts.now) => rests(seen, facts),
        // Nobody lives in it, and nothing comes of it any more.
        state if !begun && is_wedged(state, facts.stays) => Verdict::Gone,
        // Somebody may live in it, and whether anybody does shows only when it is no more.
        State::Stopping | State::Suspending
            if !is_over(facts.sprite) && is_wedged(&seen.state, facts.stays) =>
        {
            stands(MachineStand::Stuck)
        }
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
        // A claim came from a boot that what was seen may be older than.
        State::Stopped | State::Failed
            if begun
                && !is_over(facts.sprite)
                && facts.started.is_some_and(|ago| ago < START_LAG) =>
        {
            stands(MachineStand::Up)
        }
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

/// Whether a state that passes has lasted too long.
pub(super) fn is_wedged(state: &State, stays: Duration) -> bool {
    match state {
        State::Starting | State::Restarting | State::Stopping | State::Suspending => {
            stays >= PASSES
        }
        State::Updating | State::Replacing => stays >= UPDATES,
        _ => false,
    }
}

/// For how long the store has said that this run is up.
fn up_for(facts: &Facts<'_>) -> Duration {
    let up = facts.sprite.status.conditions.get(PROVISIONED).filter(|_| was_up(facts));
    let since = up.map(|condition| facts.now.duration_since(condition.last_transition_time));
    since.and_then(|since| since.try_into().ok()).unwrap_or_default()
}

/// Whether its run has ended, whatever its machine does: nothing more is to come from that.
pub(super) fn is_over(sprite: &Sprite) -> bool {
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
        None => {
            Verdict::Is(Observed::Machine { machine: Some(machine), stand: MachineStand::Resting })
        }
    }
}

/// Whether it was made and should have been started by now.
pub(super) fn is_stuck(seen: &Seen, now: Timestamp) -> bool {
    seen.created.is_some_and(|created| now >= later(created, FETCH))
}

#[cfg(test)]
mod tests {
    use sprite_reporter::wire::ExitReason;

    use super::{super::seen::tests::seen, *};
    use crate::resource::{Claim, ConditionStatus, ExitStatus};

    const STATES: [State; 19] = [
        State::Created,
        State::Creating,
        State::Starting,
        State::Started,
        State::Stopping,
        State::Stopped,
        State::Suspending,
        State::Suspended,
        State::Restarting,
        State::Updating,
        State::Replacing,
        State::Replaced,
        State::Migrated,
        State::Failed,
        State::LaunchFailed,
        State::Destroying,
        State::Destroyed,
        State::Untold,
        State::Other(String::new()),
    ];

    fn sprite(change: impl FnOnce(&mut Sprite)) -> Sprite {
        let spec = serde_json::json!({
            "agent": {"command": {}}, "runtime": {"fly": {}}, "permissions": {},
            "attempt": 1, "running": true,
        });
        let mut sprite = Sprite::new("s", serde_json::from_value(spec).unwrap());
        change(&mut sprite);
        sprite
    }

    fn claimed(sprite: &mut Sprite) {
        sprite.status.claim = Some(Claim { run: sprite.spec.run, boot: "b".into() });
    }

    fn up(sprite: &mut Sprite) {
        let conditions = &mut sprite.status.conditions;
        conditions.set(
            PROVISIONED,
            ConditionStatus::True,
            "Observed",
            "",
            1,
            Timestamp::UNIX_EPOCH,
        );
    }

    fn told(sight: Sight<'_>, sprite: &Sprite, started: Option<u64>) -> String {
        let started = started.map(Duration::from_secs);
        let (stays, now) = (Duration::ZERO, Timestamp::UNIX_EPOCH);
        said(sight, &Facts { sprite, app: "app", started, stays, now })
    }

    fn said(sight: Sight<'_>, facts: &Facts<'_>) -> String {
        match observe(sight, facts) {
            Verdict::Gone => "gone".into(),
            Verdict::Is(Observed::Absent) => "absent".into(),
            Verdict::Is(Observed::Machine { stand, .. }) => format!("{stand:?}").to_lowercase(),
            Verdict::Is(Observed::Orphaned { .. }) => "recover".into(),
            Verdict::Is(Observed::Unknown { .. }) => "unknown".into(),
            Verdict::Is(other) => format!("{other:?}"),
        }
    }

    #[test]
    fn what_each_state_says_of_a_run() {
        let new = sprite(|_| {});
        let begun = sprite(claimed);
        let was_up = sprite(up);
        let over = sprite(|sprite| {
            claimed(sprite);
            let (reason, message) = (ExitReason::Completed, String::new());
            sprite.status.exit = Some(ExitStatus { code: Some(0), signal: None, reason, message });
        });
        let columns = [
            (&new, None),
            (&new, Some(1)),
            (&new, Some(60)),
            (&was_up, None),
            (&begun, None),
            (&over, None),
        ];
        let line = |name: &str, sight: &dyn Fn(&Sprite, Option<u64>) -> String| {
            let cells = columns.map(|(sprite, started)| format!("{:9}", sight(sprite, started)));
            format!("{name:14}{}", cells.join("")).trim_end().to_owned()
        };
        let mut lines = vec![format!(
            "{:14}{:9}{:9}{:9}{:9}{:9}{}",
            "", "new", "started", "long ago", "was up", "begun", "over"
        )];
        for state in STATES {
            let seen = seen(state.clone());
            let word = if state.as_str().is_empty() { "?" } else { state.as_str() };
            lines.push(line(word, &|sprite, started| told(Sight::Machine(&seen), sprite, started)));
        }
        lines.push(line("(404)", &|sprite, started| told(Sight::Destroyed, sprite, started)));
        lines.push(line("(none)", &|sprite, started| told(Sight::Nothing, sprite, started)));
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_host_that_does_not_answer_proves_nothing() {
        for state in STATES {
            let machine = Seen { certain: false, ..seen(state) };
            assert_eq!(told(Sight::Machine(&machine), &sprite(claimed), None), "unknown");
        }
    }

    #[test]
    fn a_machine_that_is_made_and_not_started_is_started_once_its_image_had_time() {
        let young = Seen { created: None, ..seen(State::Created) };
        assert_eq!(told(Sight::Machine(&young), &sprite(|_| {}), None), "coming");
        let facts = Facts {
            sprite: &sprite(|_| {}),
            app: "app",
            started: None,
            stays: Duration::ZERO,
            now: later(Timestamp::UNIX_EPOCH, FETCH),
        };
        let old = seen(State::Created);
        let Verdict::Is(Observed::Machine { stand, .. }) = observe(Sight::Machine(&old), &facts)
        else {
            panic!("it is there");
        };
        assert_eq!(stand, MachineStand::Resting);
    }

    #[test]
    fn what_passes_and_does_not_pass_is_gone_where_nobody_lives_in_it_and_else_stuck() {
        let (new, begun, now) = (sprite(|_| {}), sprite(claimed), Timestamp::UNIX_EPOCH);
        for (state, bound, lived_in) in [
            (State::Starting, PASSES, "up"),
            (State::Stopping, PASSES, "stuck"),
            (State::Suspending, PASSES, "stuck"),
            (State::Updating, UPDATES, "up"),
        ] {
            let machine = seen(state);
            let told = |sprite: &Sprite, stays: Duration| {
                let facts = Facts { sprite, app: "app", started: None, stays, now };
                said(Sight::Machine(&machine), &facts)
            };
            let before = bound.saturating_sub(Duration::from_secs(1));
            assert_eq!(
                (told(&new, before).as_str(), told(&begun, before).as_str()),
                ("coming", "up")
            );
            assert_eq!(
                (told(&new, bound).as_str(), told(&begun, bound).as_str()),
                ("gone", lived_in)
            );
        }
    }

    #[test]
    fn a_machine_that_never_asks_for_its_run_is_gone_after_an_hour() {
        let machine = seen(State::Started);
        let told = |sprite: &Sprite, up: Duration| {
            let now = later(Timestamp::UNIX_EPOCH, up);
            let facts = Facts { sprite, app: "app", started: None, stays: up, now };
            said(Sight::Machine(&machine), &facts)
        };
        let both = |sprite: &mut Sprite| {
            claimed(sprite);
            up(sprite);
        };
        assert_eq!(told(&sprite(up), Duration::from_secs(3600)), "up");
        assert_eq!(told(&sprite(up), MUTE), "gone");
        assert_eq!(told(&sprite(both), MUTE), "up");
    }

    #[test]
    fn what_was_seen_before_a_start_says_nothing_of_the_boot_that_claimed() {
        let (begun, machine) = (sprite(claimed), seen(State::Stopped));
        assert_eq!(told(Sight::Machine(&machine), &begun, Some(2)), "up");
        assert_eq!(told(Sight::Machine(&machine), &begun, Some(60)), "gone");
    }

    #[test]
    fn a_run_that_is_asked_for_anew_begins_in_the_machine_of_the_last_one() {
        let woken = sprite(|sprite| {
            claimed(sprite);
            (sprite.status.run, sprite.status.slept, sprite.spec.run) = (1, 1, 2);
            let seen = seen(State::Stopped);
            sprite.status.fly = Some(seen.status("app"));
        });
        assert_eq!(told(Sight::Machine(&seen(State::Stopped)), &woken, None), "resting");
        // Somebody destroyed it while it slept: another one is made.
        assert_eq!(told(Sight::Destroyed, &woken, None), "absent");
        // But not again and again.
        assert_eq!(told(Sight::Destroyed, &woken, Some(60)), "gone");
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_started_whose_run_has_begun(
            state in 0..STATES.len(), started in proptest::option::of(0_u64..100), slept: bool,
        ) {
            let sprite = sprite(|sprite| {
                if slept { sprite.status.slept = 1 } else { claimed(sprite) }
            });
            let machine = seen(STATES[state].clone());
            for sight in [Sight::Machine(&machine), Sight::Destroyed, Sight::Nothing] {
                let told = told(sight, &sprite, started);
                proptest::prop_assert!(!matches!(told.as_str(), "absent" | "resting"), "{told}");
            }
        }
    }
}
