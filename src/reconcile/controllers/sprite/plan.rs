//! What to do for a Sprite, decided from what the store says and what the runtime sees.
//!
//! Level by level: whatever happened before, the answer depends on what is there now. First the
//! status is written, then at most one hand is moved; then everything is read again.
//!
//! A Sprite that sleeps and wakes has many runs, one after another. What the runtime sees, and what
//! is done here, is always about the one that its spec names.
//!
//! | the runtime sees | and | then |
//! |---|---|---|
//! | nothing | never started, admitted | start |
//! | nothing | never started, stop wanted | it is over: the exit is recorded here |
//! | its machine does not run | nobody has lived the run | as where there is nothing |
//! | its machine comes | | wait, longer than for a reporter: its image is fetched |
//! | it runs | stop wanted, or its exit is held | order, and after 30 s kill |
//! | it runs without its reporter | | recover: kill what is left, save what was said |
//! | it runs | it is to sleep | order, and after 30 s kill |
//! | its machine runs or comes | stop wanted, and nobody has claimed the run | kill at once: there is nothing to drain |
//! | its machine neither runs nor ends | | kill: only its end proves that nobody lives |
//! | it is gone | it ended in order to sleep | asleep: its slot is free; another run may come |
//! | it is gone | exit held | drained: clean up, let go |
//! | it is gone | exit not held after 60 s | record it as lost, tell the gap; then the same |
//! | it cannot tell | | nothing; say so, look again |

use std::time::Duration;

use jiff::Timestamp;
use sprite_reporter::wire::{Containment, Exit, Order};

use super::super::{hands::sooner, words};
use crate::{
    ambient::later,
    resource::{
        ConditionStatus::{False, True},
        Conditions, ExitReason, ExitStatus, FINALIZER_RUNTIME, RuntimeSpec, Sprite, SpriteStatus,
    },
    runtime::{MachineStand, Observed},
};

/// How long an agent has to end politely before its tree is killed.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// How long after a kill it is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// How long after its process is gone an exit event may still come.
pub(super) const DRAIN: Duration = Duration::from_secs(60);
/// How long a reporter may take to say hello before somebody is told.
const HELLO: Duration = Duration::from_secs(60);
/// How often to look where the runtime cannot tell.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often to look while a recovery runs, in case its end was not heard.
const RECOVERY: Duration = Duration::from_secs(5);

/// What is said of a reporter that was not heard.
const NOT_REACHED: &str = "its reporter has not reached this server";
/// What is said of a machine that is stuck.
const STUCK: &str = "its machine neither runs nor ends; it is destroyed, so that another may begin";

/// The one hand to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// Start it, or adopt what runs already.
    Start,
    /// Look after what its reporter left.
    Recover,
    /// Kill its agent.
    Kill,
    /// Remove what it left, and let go of it.
    Clean,
}

/// A line of the Sprite's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) text: String,
}

/// What to do now, in this order, and when to look again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// The status as it should stand.
    pub(super) status: SpriteStatus,
    /// Put this order into the run's inbox, together with the status.
    pub(super) order: Option<Order>,
    /// Tell this, together with the status.
    pub(super) notes: Vec<Note>,
    /// Then move this hand.
    pub(super) hand: Option<Hand>,
    /// Look again at this time.
    pub(super) again: Option<Timestamp>,
}

/// Whether the controller still holds the Sprite. One that it let go is history.
pub(super) fn is_held(sprite: &Sprite) -> bool {
    sprite.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER_RUNTIME)
}

/// Why it is to end, if it is.
fn stop_wanted(sprite: &Sprite) -> Option<ExitReason> {
    let deleting = sprite.metadata.is_deleting().then_some(ExitReason::Cancelled);
    sprite.spec.stop.or(deleting)
}

/// Whether something of its run was ever there, as far as the store knows.
fn was_started(sprite: &Sprite) -> bool {
    let claimed = sprite.status.claim.as_ref().is_some_and(|it| it.run >= sprite.spec.run);
    sprite.status.conditions.is_true(words::PROVISIONED) || speaks(sprite) || claimed
}

/// Whether its run has said hello.
fn speaks(sprite: &Sprite) -> bool {
    let first = sprite.spec.run == 1 && sprite.status.hello_time.is_some();
    sprite.status.run >= sprite.spec.run || first
}

/// Whether nobody lives in its machine, nor ever will: it is to end, and no run is given away of what is
/// to end. There is nothing to drain, and nobody to be told.
fn is_mute(sprite: &Sprite) -> bool {
    let claimed = sprite.status.claim.as_ref().is_some_and(|it| it.run >= sprite.spec.run);
    let claims = matches!(sprite.spec.runtime, RuntimeSpec::Fly(_));
    claims && stop_wanted(sprite).is_some() && !claimed && !speaks(sprite)
}

/// Whether its run has ended in order to sleep.
fn has_slept(sprite: &Sprite) -> bool {
    sprite.status.slept >= sprite.spec.run && sprite.status.exit.is_none()
}

impl Plan {
    /// Names the address that its machine was told to report to, where nothing was heard from there.
    pub(super) fn name_address(&mut self, sprite: &Sprite, url: &str, now: Timestamp) {
        let mut pen = pen(&mut self.status, sprite, now);
        let stalled = pen.conditions.get(words::STALLED);
        if stalled.is_some_and(|it| it.status == True && it.reason == words::NO_HELLO) {
            pen.yes(
                words::STALLED,
                words::NO_HELLO,
                format!(
                    "{NOT_REACHED} at {url}; see that its machine can reach that address, that \
                     sprite-reporter is the ENTRYPOINT of its image, and what the machine logs"
                ),
            );
        }
    }
}

/// Writes conditions for one generation at one time.
struct Pen<'a> {
    conditions: &'a mut Conditions,
    generation: u64,
    now: Timestamp,
}

impl Pen<'_> {
    fn yes(&mut self, kind: &str, reason: &str, message: impl Into<String>) {
        self.conditions.set(kind, True, reason, message, self.generation, self.now);
    }

    fn no(&mut self, kind: &str, reason: &str, message: impl Into<String>) {
        self.conditions.set(kind, False, reason, message, self.generation, self.now);
    }

    /// Something of its run is there, or was: so whatever it waited for was there, too. It is told from
    /// what is seen, because a server may die between a start and its note.
    fn there(&mut self) {
        self.yes(words::PROVISIONED, words::OBSERVED, "");
        let waited = self.conditions.get(words::SECRETS_AVAILABLE);
        if waited.is_some_and(|waited| waited.status == False) {
            self.yes(words::SECRETS_AVAILABLE, words::SECRETS_RESOLVED, "");
        }
    }

    /// Since when a condition holds, if it does.
    fn since(&self, kind: &str) -> Option<Timestamp> {
        let condition = self.conditions.get(kind).filter(|condition| condition.status == True)?;
        Some(condition.last_transition_time)
    }
}

/// Decides. `containment` is what the first hello said, where it is held.
pub(super) fn plan(
    sprite: &Sprite,
    observed: &Observed,
    containment: Option<&Containment>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan {
        status: sprite.status.clone(),
        order: None,
        notes: Vec::new(),
        hand: None,
        again: None,
    };
    plan.status.observed_generation = sprite.metadata.generation;
    // A clock that was set back must not make anybody wait until it has caught up.
    plan.status.conditions.not_after(now);
    isolation(&mut plan.status, containment, sprite.metadata.generation, now);
    if !has_slept(sprite) {
        plan.status.conditions.remove(words::ASLEEP);
    }
    match observed {
        Observed::Unknown { why } => unknown(&mut plan, sprite, why, now),
        Observed::Absent if !was_started(sprite) => {
            // The next machine is another one, and may claim the run before it is known here.
            plan.status.fly = None;
            absent(&mut plan, sprite, now);
        }
        Observed::Absent => gone(&mut plan, sprite, None, now),
        Observed::Machine { machine, stand } => {
            if machine.is_some() {
                plan.status.fly.clone_from(machine);
            }
            match stand {
                MachineStand::Up => running(&mut plan, sprite, true, now),
                MachineStand::Coming => running(&mut plan, sprite, false, now),
                MachineStand::Stuck => stuck(&mut plan, sprite, now),
                MachineStand::Resting if was_started(sprite) => gone(&mut plan, sprite, None, now),
                MachineStand::Resting => absent(&mut plan, sprite, now),
            }
        }
        Observed::Gone { exit } => gone(&mut plan, sprite, exit.as_ref(), now),
        Observed::Running { process } => {
            if process.is_some() {
                plan.status.local.clone_from(process);
            }
            running(&mut plan, sprite, true, now);
        }
        Observed::Orphaned { .. } => orphaned(&mut plan, sprite, now),
    }
    plan.status.phase = phase(&plan.status, observed, speaks(sprite)).to_owned();
    plan
}

fn pen<'a>(status: &'a mut SpriteStatus, sprite: &Sprite, now: Timestamp) -> Pen<'a> {
    Pen { conditions: &mut status.conditions, generation: sprite.metadata.generation, now }
}

fn isolation(
    status: &mut SpriteStatus,
    containment: Option<&Containment>,
    generation: u64,
    now: Timestamp,
) {
    let Some(containment) = containment else { return };
    let (held, reason) = if containment.data_hidden {
        (True, words::DATA_HIDDEN)
    } else {
        (False, words::NOT_CONTAINED)
    };
    let conditions = &mut status.conditions;
    conditions.set(words::ISOLATED, held, reason, containment.note.clone(), generation, now);
}

/// It cannot be told what there is: nothing may be started in its place, nothing killed.
fn unknown(plan: &mut Plan, sprite: &Sprite, why: &str, now: Timestamp) {
    pen(&mut plan.status, sprite, now).yes(words::STALLED, words::RUNTIME_UNKNOWN, why);
    plan.again = Some(later(now, LOOK_AGAIN));
}

/// Nothing is there, and never was.
fn absent(plan: &mut Plan, sprite: &Sprite, now: Timestamp) {
    if let (None, Some(reason)) = (&plan.status.exit, stop_wanted(sprite)) {
        let message = "it was stopped before it started".to_owned();
        plan.status.exit = Some(ExitStatus { code: None, signal: None, reason, message });
    }
    let ended = plan.status.exit.is_some();
    let admitted = plan.status.conditions.is_true(words::ADMITTED);
    let mut pen = pen(&mut plan.status, sprite, now);
    if ended {
        pen.yes(words::GONE, words::NEVER_STARTED, "");
        pen.yes(words::DRAINED, words::NEVER_STARTED, "");
        pen.conditions.remove(words::STALLED);
        plan.hand = Some(Hand::Clean);
    } else if admitted && sprite.spec.running {
        pen.no(words::READY, words::STARTING, "");
        plan.hand = Some(Hand::Start);
    }
}

/// Its reporter lives; or its machine is on its way, and is not `up` yet.
fn running(plan: &mut Plan, sprite: &Sprite, up: bool, now: Timestamp) {
    let ended = plan.status.exit.is_some() || has_slept(sprite);
    let wanted = match stop_wanted(sprite) {
        Some(reason) => Some(Order::Stop { reason }),
        None if !sprite.spec.running => Some(Order::Sleep {}),
        None => None,
    };
    let speaks = speaks(sprite);
    plan.status.ending = None;
    let takes_work = speaks && (plan.status.ready || sprite.spec.task.is_some());
    let mut pen = pen(&mut plan.status, sprite, now);
    // What is up though the run sleeps is somebody else's doing, and nothing of the next run's.
    let strays = has_slept(sprite) && !sprite.status.conditions.is_true(words::PROVISIONED);
    if up && !strays {
        pen.there();
    } else {
        plan.again = Some(later(now, LOOK_AGAIN));
    }
    let leaving = wanted.is_some() || ended;
    if leaving {
        pen.no(words::READY, words::STOPPING, "");
    } else if takes_work {
        pen.yes(words::READY, words::AGENT_READY, "");
    } else {
        pen.no(words::READY, words::STARTING, "");
    }
    // Not gone, where a machine came back before that was believed.
    if pen.conditions.get(words::GONE).is_some() && !ended {
        pen.conditions.remove(words::GONE);
        pen.conditions.remove(words::DRAINED);
    }
    let told = pen.since(words::PROVISIONED).filter(|_| !speaks).map(|since| later(since, HELLO));
    // What is said already stays as it is: written anew, its time would move with each look.
    if told.is_some_and(|told| now >= told) {
        pen.yes(words::STALLED, words::NO_HELLO, NOT_REACHED);
    } else {
        // Whoever can see it, it is not unknown any more.
        pen.conditions.remove(words::STALLED);
        plan.again = sooner(plan.again, told);
    }
    if is_mute(sprite) {
        let reason = stop_wanted(sprite).unwrap_or(ExitReason::Cancelled);
        pen.yes(words::STOPPING, words::STOP_ORDERED, told_by(&Order::Stop { reason }));
        plan.hand = Some(Hand::Kill);
        plan.again = Some(later(now, KILL_AGAIN));
        return;
    }
    if !leaving {
        return;
    }
    let told = pen.conditions.get(words::STOPPING).filter(|stopping| stopping.status == True);
    let told = told.map(|stopping| (stopping.last_transition_time, stopping.reason.clone()));
    let look = match (told, wanted) {
        // A stop overtakes what it was told before, and the grace does not begin anew.
        (Some((since, reason)), Some(order @ Order::Stop { .. }))
            if reason == words::SLEEP_ORDERED && !ended =>
        {
            pen.yes(words::STOPPING, words::STOP_ORDERED, told_by(&order));
            plan.order = Some(order);
            later(since, GRACE).max(now)
        }
        (Some((since, _)), _) if now >= later(since, GRACE) => {
            plan.hand = Some(Hand::Kill);
            later(now, KILL_AGAIN)
        }
        (Some((since, _)), _) => later(since, GRACE),
        (None, Some(order)) => {
            let sleep = matches!(order, Order::Sleep {});
            let reason = if sleep { words::SLEEP_ORDERED } else { words::STOP_ORDERED };
            pen.yes(words::STOPPING, reason, told_by(&order));
            plan.order = Some(order);
            later(now, GRACE)
        }
        (None, None) => {
            pen.yes(words::STOPPING, words::ENDED, "");
            later(now, GRACE)
        }
    };
    plan.again = sooner(plan.again, Some(look));
}

/// Its machine neither runs nor ends, and no wait changes that.
fn stuck(plan: &mut Plan, sprite: &Sprite, now: Timestamp) {
    let mut pen = pen(&mut plan.status, sprite, now);
    pen.no(words::READY, words::STOPPING, "");
    pen.yes(words::STALLED, words::MACHINE_STUCK, STUCK);
    plan.hand = Some(Hand::Kill);
    plan.again = Some(later(now, KILL_AGAIN));
}

/// What an order says in a condition: the reason of an end.
fn told_by(order: &Order) -> String {
    match order {
        Order::Stop { reason } => format!("{reason:?}"),
        _ => "it is told to sleep".to_owned(),
    }
}

/// Its reporter is gone, and something may be left.
fn orphaned(plan: &mut Plan, sprite: &Sprite, now: Timestamp) {
    let mut pen = pen(&mut plan.status, sprite, now);
    pen.there();
    pen.no(words::READY, words::SPRITE_LOST, "its reporter is gone; what it left is looked after");
    pen.conditions.remove(words::STALLED);
    plan.hand = Some(Hand::Recover);
    plan.again = Some(later(now, RECOVERY));
}

/// No process is left, and it said that it sleeps: all that it said is held.
fn asleep(plan: &mut Plan, sprite: &Sprite, now: Timestamp) {
    (plan.status.local, plan.status.ending) = (None, None);
    if let Some(machine) = &mut plan.status.fly {
        "stopped".clone_into(&mut machine.state);
    }
    let mut pen = pen(&mut plan.status, sprite, now);
    pen.yes(words::ASLEEP, words::ENDED, "");
    // Where its process was seen gone before its exit was held, that was said of the run alone.
    pen.conditions.remove(words::GONE);
    pen.conditions.remove(words::DRAINED);
    pen.no(words::READY, words::ASLEEP, "");
    // The next run is another process, which needs a slot of its own.
    pen.no(words::PROVISIONED, words::ASLEEP, "");
    pen.no(words::ADMITTED, words::ASLEEP, "");
    pen.conditions.remove(words::SLOT_WANTED);
    pen.conditions.remove(words::STALLED);
    pen.conditions.remove(words::STOPPING);
}

/// No process is left.
fn gone(plan: &mut Plan, sprite: &Sprite, exit: Option<&Exit>, now: Timestamp) {
    if has_slept(sprite) {
        let Some(reason) = stop_wanted(sprite) else { return asleep(plan, sprite, now) };
        let message = "it was stopped while it slept".to_owned();
        plan.status.exit = Some(ExitStatus { code: None, signal: None, reason, message });
        plan.status.conditions.remove(words::ASLEEP);
    }
    if let (None, true, Some(reason)) = (&plan.status.exit, is_mute(sprite), stop_wanted(sprite)) {
        let message = "it was stopped before its reporter reached this server".to_owned();
        plan.status.exit = Some(ExitStatus { code: None, signal: None, reason, message });
    }
    let held = plan.status.exit.is_some();
    if held {
        plan.status.ending = None;
    } else if let Some(exit) = exit.map(exit_status)
        && plan.status.ending.as_ref().is_none_or(|known| says_more(&exit, known))
    {
        plan.status.ending = Some(exit);
    }
    let mut pen = pen(&mut plan.status, sprite, now);
    pen.there();
    pen.yes(words::GONE, words::OBSERVED, "");
    pen.no(words::READY, words::GONE, "");
    pen.conditions.remove(words::STALLED);
    pen.conditions.remove(words::STOPPING);
    let drained = pen.since(words::DRAINED).is_some();
    let limit = later(pen.since(words::GONE).unwrap_or(now), DRAIN);
    if drained {
        plan.hand = Some(Hand::Clean);
    } else if held {
        pen.yes(words::DRAINED, words::EXIT_HELD, "");
        plan.hand = Some(Hand::Clean);
    } else if now < limit {
        pen.no(words::DRAINED, words::AWAITING_EXIT, "");
        plan.again = Some(limit);
    } else {
        let text = "its process is gone and its exit was not reported in time; the end of its \
                    output may be missing";
        pen.yes(words::DRAINED, words::OUTPUT_GAP, text);
        plan.notes.push(Note { warning: true, reason: words::OUTPUT_GAP, text: text.to_owned() });
        plan.status.exit = Some(plan.status.ending.take().unwrap_or_else(lost));
        plan.hand = Some(Hand::Clean);
    }
}

/// Whether one word of an end says how it came about, where the other does not.
fn says_more(one: &ExitStatus, other: &ExitStatus) -> bool {
    let knows = |it: &ExitStatus| {
        it.reason != ExitReason::ReporterLost || it.code.is_some() || it.signal.is_some()
    };
    knows(one) && !knows(other)
}

fn lost() -> ExitStatus {
    ExitStatus {
        code: None,
        signal: None,
        reason: ExitReason::ReporterLost,
        message: "its sprite was lost; how it ended is not known".to_owned(),
    }
}

fn exit_status(exit: &Exit) -> ExitStatus {
    ExitStatus {
        code: exit.code,
        signal: exit.signal,
        reason: exit.reason,
        message: exit.message.clone(),
    }
}

/// The word for people.
fn phase(status: &SpriteStatus, observed: &Observed, speaks: bool) -> &'static str {
    let conditions = &status.conditions;
    match observed {
        Observed::Unknown { .. } => "Unknown",
        _ if conditions.is_true(words::GONE) => "Exited",
        _ if conditions.is_true(words::ASLEEP) => "Asleep",
        _ if conditions.is_true(words::STOPPING) => "Stopping",
        Observed::Machine { stand: MachineStand::Stuck, .. } => "Stopping",
        _ if observed.is_up() && (speaks || conditions.is_true(words::READY)) => "Running",
        Observed::Running { .. } | Observed::Machine { .. } | Observed::Orphaned { .. }
            if !is_resting(observed) =>
        {
            "Starting"
        }
        _ if conditions.is_true(words::ADMITTED) => "Starting",
        _ if conditions.get(words::ADMITTED).is_some() => "Waiting",
        _ => "Pending",
    }
}

/// Whether there is a machine that nobody has started.
fn is_resting(observed: &Observed) -> bool {
    matches!(observed, Observed::Machine { stand: MachineStand::Resting, .. })
}
