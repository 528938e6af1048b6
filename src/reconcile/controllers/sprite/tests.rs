//! What is decided for a Sprite, case by case.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use sprite_reporter::wire::{Containment, Exit, Order};

use super::plan::{DRAIN, GRACE, Hand, Plan, plan};
use crate::{
    ambient::later,
    reconcile::controllers::words,
    resource::{
        AgentCli, Claim, CommandCli, ConditionStatus, ExitReason, ExitStatus, FINALIZER_RUNTIME,
        Permissions, RuntimeSpec, Sprite, SpriteSpec,
    },
    runtime::{MachineStand, Observed},
};

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn sprite() -> Sprite {
    let spec = SpriteSpec {
        agent: AgentCli::Command(CommandCli::default()),
        runtime: RuntimeSpec::default(),
        task: Some("true".to_owned()),
        repo: None,
        instructions: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        timeout: None,
        idle_timeout: None,
        session: None,
        attempt: 1,
        running: true,
        run: 1,
        stop: None,
    };
    let mut sprite = Sprite::new("a-1", spec);
    sprite.metadata.finalizers = vec![FINALIZER_RUNTIME.to_owned()];
    sprite
}

fn with(mut sprite: Sprite, condition: &str) -> Sprite {
    sprite.status.conditions.set(condition, ConditionStatus::True, "Test", "", 0, START);
    sprite
}

fn stop(reason: ExitReason) -> Order {
    Order::Stop { reason }
}

/// A Sprite of a conversation in its first run, which takes turns.
fn partner() -> Sprite {
    let mut sprite = with(with(sprite(), words::ADMITTED), words::PROVISIONED);
    sprite.spec.task = None;
    sprite.status.hello_time = Some(START);
    (sprite.status.run, sprite.status.ready) = (1, true);
    sprite
}

/// The same, asleep.
fn asleep() -> Sprite {
    let mut sprite = partner();
    sprite.spec.running = false;
    (sprite.status.slept, sprite.status.ready) = (1, false);
    settled(&sprite, &Observed::Gone { exit: None }, START).0
}

fn running() -> Observed {
    Observed::Running { process: None }
}

fn exit(reason: ExitReason) -> ExitStatus {
    ExitStatus { code: None, signal: None, reason, message: String::new() }
}

fn at(length: Duration) -> Timestamp {
    later(START, length)
}

/// The plan after its status was written, until the status stands: what the hand will be.
fn settled(sprite: &Sprite, observed: &Observed, now: Timestamp) -> (Sprite, Plan) {
    let mut sprite = sprite.clone();
    for _ in 0..5 {
        let plan = plan(&sprite, observed, None, now);
        if plan.status == sprite.status {
            assert_eq!(plan.order, None, "an order is given once");
            let next = later(now, Duration::from_nanos(1));
            let after = super::plan::plan(&sprite, observed, None, next);
            assert_eq!(after.status, sprite.status, "a moment later nothing is written again");
            return (sprite, plan);
        }
        sprite.status = plan.status;
    }
    panic!("the status does not come to rest");
}

#[test]
fn one_whose_process_was_gone_before_its_sleep_was_heard_sleeps_and_wakes_like_any_other() {
    let mut sprite = partner();
    sprite.spec.running = false;
    let nothing_left = Observed::Gone { exit: None };
    let (mut sprite, waiting) = settled(&sprite, &nothing_left, START);
    assert_eq!((waiting.hand, waiting.again), (None, Some(at(DRAIN))), "its exit may still come");
    (sprite.status.slept, sprite.status.ready) = (1, false);
    let (mut sprite, _) = settled(&sprite, &nothing_left, at(Duration::from_secs(1)));
    let conditions = &sprite.status.conditions;
    assert!(conditions.is_true(words::ASLEEP));
    assert_eq!(conditions.get(words::GONE), None, "one that sleeps is not gone: it gets a slot");
    assert_eq!(conditions.get(words::DRAINED), None);
    assert_eq!(sprite.status.phase, "Asleep");
    // Awake, its next run is not taken for gone since the first was, nor drained for long.
    (sprite.spec.running, sprite.spec.run) = (true, 2);
    let late = at(DRAIN * 10);
    let (sprite, awake) = settled(&with(sprite, words::ADMITTED), &Observed::Absent, late);
    assert_eq!(awake.hand, Some(Hand::Start));
    let mut sprite = with(sprite, words::PROVISIONED);
    sprite.status.run = 2;
    let (_, gone) = settled(&sprite, &nothing_left, late);
    assert_eq!(gone.again, Some(later(late, DRAIN)));
}

/// The wall clock, set back by an hour.
fn set_back(now: Timestamp) -> Timestamp {
    now.checked_sub(jiff::SignedDuration::from_hours(1)).expect("a time")
}

#[test]
fn a_clock_that_is_set_back_delays_no_kill_and_no_end() {
    let mut sprite = partner();
    sprite.spec.stop = Some(ExitReason::Cancelled);
    let (sprite, _) = settled(&sprite, &running(), START);
    let now = set_back(START);
    let (stopping, waiting) = settled(&sprite, &running(), now);
    assert_eq!((waiting.hand, waiting.again), (None, Some(later(now, GRACE))), "the grace anew");
    assert_eq!(plan(&stopping, &running(), None, later(now, GRACE)).hand, Some(Hand::Kill));
    // The same while it is waited for its last words.
    let nothing_left = Observed::Gone { exit: None };
    let (sprite, _) = settled(&partner(), &nothing_left, START);
    let (sprite, waiting) = settled(&sprite, &nothing_left, now);
    assert_eq!((waiting.hand, waiting.again), (None, Some(later(now, DRAIN))));
    let (lost, over) = settled(&sprite, &nothing_left, later(now, DRAIN));
    assert_eq!(over.hand, Some(Hand::Clean));
    assert_eq!(lost.status.exit.expect("recorded").reason, ExitReason::ReporterLost);
}

#[test]
fn one_that_works_or_sleeps_while_the_clock_is_set_back_goes_on_so() {
    for (sprite, observed) in [(partner(), running()), (asleep(), Observed::Gone { exit: None })] {
        let (before, _) = settled(&sprite, &observed, START);
        let (after, plan) = settled(&before, &observed, set_back(START));
        assert_eq!((plan.hand, plan.order), (None, None));
        assert_eq!(after.status.phase, before.status.phase);
        let (_, again) = settled(&after, &observed, set_back(START));
        assert_eq!(again.status, after.status, "written once");
    }
}

#[test]
fn only_an_admitted_sprite_is_started() {
    let (_, waiting) = settled(&sprite(), &Observed::Absent, START);
    assert_eq!((waiting.hand, waiting.again), (None, None));
    let (_, admitted) = settled(&with(sprite(), words::ADMITTED), &Observed::Absent, START);
    assert_eq!(admitted.hand, Some(Hand::Start));
}

#[test]
fn a_sprite_that_was_stopped_before_it_started_never_starts() {
    let mut stopped = with(sprite(), words::ADMITTED);
    stopped.spec.stop = Some(ExitReason::TimedOut);
    let (after, plan) = settled(&stopped, &Observed::Absent, START);
    assert_eq!(plan.hand, Some(Hand::Clean));
    assert_eq!(after.status.exit.expect("recorded").reason, ExitReason::TimedOut);
    assert_eq!(after.status.phase, "Exited");
}

#[test]
fn a_stop_is_ordered_first_and_after_the_grace_the_agent_is_killed_until_it_is_gone() {
    let mut sprite = with(sprite(), words::ADMITTED);
    sprite.status.hello_time = Some(START);
    sprite.spec.stop = Some(ExitReason::Cancelled);
    let first = plan(&sprite, &running(), None, START);
    assert_eq!((first.order, first.hand), (Some(stop(ExitReason::Cancelled)), None));
    let (sprite, waiting) = settled(&sprite, &running(), START);
    assert_eq!((waiting.hand, waiting.again), (None, Some(at(GRACE))));
    let late = plan(&sprite, &running(), None, at(GRACE));
    assert_eq!((late.order, late.hand), (None, Some(Hand::Kill)));
    assert_eq!(late.again, Some(at(GRACE + Duration::from_secs(10))));
}

#[test]
fn a_deleted_sprite_is_stopped_as_cancelled() {
    let mut sprite = with(sprite(), words::ADMITTED);
    sprite.metadata.deletion_timestamp = Some(START);
    assert_eq!(plan(&sprite, &running(), None, START).order, Some(stop(ExitReason::Cancelled)));
}

#[test]
fn a_reporter_that_stays_after_its_exit_is_ended_too() {
    let mut sprite = sprite();
    sprite.status.exit = Some(exit(ExitReason::Completed));
    let (sprite, waiting) = settled(&sprite, &running(), START);
    assert_eq!((waiting.order, waiting.hand), (None, None));
    assert_eq!(plan(&sprite, &running(), None, at(GRACE)).hand, Some(Hand::Kill));
}

#[test]
fn what_cannot_be_told_moves_no_hand() {
    let unknown = Observed::Unknown { why: "another node has it".to_owned() };
    for condition in [words::ADMITTED, words::GONE, words::STOPPING] {
        let mut sprite = with(sprite(), condition);
        sprite.spec.stop = Some(ExitReason::Cancelled);
        let (after, plan) = settled(&sprite, &unknown, START);
        assert_eq!((plan.hand, plan.order), (None, None));
        assert_eq!(after.status.phase, "Unknown");
        assert!(after.status.conditions.is_true(words::STALLED));
    }
}

#[test]
fn what_is_known_again_is_not_stalled_any_more() {
    let unknown = Observed::Unknown { why: "the process table cannot be read".to_owned() };
    let (sprite, _) = settled(&sprite(), &unknown, START);
    let (sprite, _) = settled(&sprite, &running(), START);
    assert_eq!(sprite.status.conditions.get(words::STALLED), None);
}

#[test]
fn an_orphan_is_looked_after() {
    let (_, plan) = settled(&sprite(), &Observed::Orphaned { exit: None }, START);
    assert_eq!(plan.hand, Some(Hand::Recover));
}

#[test]
fn a_gone_sprite_is_drained_once_its_exit_is_held() {
    let gone = Observed::Gone { exit: None };
    let mut sprite = with(sprite(), words::ADMITTED);
    sprite.status.run = 1;
    let (mut sprite, waiting) = settled(&sprite, &gone, START);
    assert_eq!((waiting.hand, waiting.again), (None, Some(at(DRAIN))));
    assert!(!sprite.status.conditions.is_true(words::DRAINED));
    sprite.status.exit = Some(exit(ExitReason::Failed));
    let (after, plan) = settled(&sprite, &gone, START);
    assert_eq!(plan.hand, Some(Hand::Clean));
    assert_eq!(after.status.exit.expect("held").reason, ExitReason::Failed, "the first one wins");
}

#[test]
fn an_exit_that_does_not_come_is_told_as_a_gap_once() {
    let gone = Observed::Gone { exit: None };
    let (sprite, _) = settled(&sprite(), &gone, START);
    let late = plan(&sprite, &gone, None, at(DRAIN));
    assert_eq!(late.notes.len(), 1);
    assert_eq!(late.notes[0].reason, words::OUTPUT_GAP);
    assert_eq!(late.status.exit.as_ref().expect("recorded").reason, ExitReason::ReporterLost);
    let (_, rest) = settled(&sprite, &gone, at(DRAIN));
    assert_eq!((rest.notes.len(), rest.hand), (0, Some(Hand::Clean)));
}

#[test]
fn what_the_runtime_knows_of_the_exit_is_better_than_nothing() {
    let known =
        Exit { code: Some(4), signal: None, reason: ExitReason::Failed, message: String::new() };
    let gone = Observed::Gone { exit: Some(known) };
    let (sprite, _) = settled(&sprite(), &gone, START);
    let (sprite, _) = settled(&sprite, &gone, at(DRAIN));
    assert_eq!(sprite.status.exit.expect("recorded").code, Some(4));
}

#[test]
fn what_was_known_of_an_end_is_told_though_it_is_forgotten_before_the_time_is_up() {
    let oom = Exit {
        code: Some(137),
        signal: None,
        reason: ExitReason::OutOfMemory,
        message: "too little".to_owned(),
    };
    let unknown = Exit { code: None, reason: ExitReason::ReporterLost, ..oom.clone() };
    let gone = |exit: &Exit| Observed::Gone { exit: Some(exit.clone()) };
    for first in [&oom, &unknown] {
        let (sprite, _) = settled(&sprite(), &gone(first), START);
        let (sprite, _) = settled(&sprite, &gone(&oom), at(Duration::from_secs(1)));
        let (sprite, _) = settled(&sprite, &gone(&unknown), at(Duration::from_secs(2)));
        let (sprite, _) = settled(&sprite, &gone(&unknown), at(DRAIN));
        let exit = sprite.status.exit.expect("recorded");
        assert_eq!((exit.reason, exit.code), (ExitReason::OutOfMemory, Some(137)));
        assert_eq!(sprite.status.ending, None);
    }
    let (mut heard, _) = settled(&sprite(), &gone(&oom), START);
    heard.status.exit = Some(exit(ExitReason::Completed));
    let (heard, _) = settled(&heard, &gone(&oom), START);
    assert_eq!(heard.status.ending, None, "its own word goes before");
}

#[test]
fn a_sprite_that_was_there_and_is_not_any_more_is_gone_and_not_started_again() {
    let mut sprite = with(sprite(), words::ADMITTED);
    sprite.status.run = 1;
    let (after, plan) = settled(&sprite, &Observed::Absent, START);
    assert_eq!(plan.hand, None);
    assert!(after.status.conditions.is_true(words::GONE));
}

#[test]
fn the_hello_says_how_well_the_agent_is_contained() {
    let containment =
        Containment { note: "no user namespaces".to_owned(), ..Containment::default() };
    let plan = plan(&sprite(), &running(), Some(&containment), START);
    let isolated = plan.status.conditions.get(words::ISOLATED).expect("it is told");
    assert_eq!(
        (isolated.status, isolated.message.as_str()),
        (ConditionStatus::False, "no user namespaces")
    );
}

#[test]
fn that_a_secret_was_found_is_told_by_what_runs_or_ran_and_by_nothing_else() {
    let available = words::SECRETS_AVAILABLE;
    let mut waits = with(sprite(), words::ADMITTED);
    let (no, reason) = (ConditionStatus::False, words::SECRET_MISSING);
    waits.status.conditions.set(available, no, reason, "not set", 0, START);
    let looked = |sprite: &Sprite, observed: &Observed| {
        let status = plan(sprite, observed, None, START).status;
        status.conditions.get(available).map(|it| (it.status, it.reason.clone()))
    };
    let missing = Some((ConditionStatus::False, words::SECRET_MISSING.to_owned()));
    let found = Some((ConditionStatus::True, words::SECRETS_RESOLVED.to_owned()));
    assert_eq!(looked(&waits, &Observed::Absent), missing);
    let unknown = Observed::Unknown { why: "x".to_owned() };
    assert_eq!(looked(&waits, &unknown), missing);
    let resting = Observed::Machine { machine: None, stand: MachineStand::Resting };
    assert_eq!(looked(&waits, &resting), missing);
    for there in [running(), Observed::Gone { exit: None }, Observed::Orphaned { exit: None }] {
        assert_eq!(looked(&waits, &there), found, "{there:?}");
        // Nothing is said of secrets where none was waited for.
        assert_eq!(looked(&with(sprite(), words::ADMITTED), &there), None, "{there:?}");
    }
    // One that slept and waits again for a secret of its next run.
    let mut waits = asleep();
    (waits.spec.running, waits.spec.run) = (true, 2);
    waits.status.conditions.set(available, no, reason, "not set", 0, START);
    waits.spec.stop = Some(ExitReason::Cancelled);
    assert_eq!(looked(&waits, &Observed::Absent), missing);
}

#[test]
fn a_reporter_that_does_not_say_hello_is_told() {
    let (sprite, waiting) = settled(&sprite(), &running(), START);
    let again = waiting.again.expect("it looks again");
    let (sprite, _) = settled(&sprite, &running(), again);
    let stalled = sprite.status.conditions.get(words::STALLED).expect("it is told");
    assert_eq!(stalled.reason, words::NO_HELLO);
    let since = stalled.last_transition_time;
    let (sprite, _) = settled(&sprite, &running(), at(Duration::from_secs(600)));
    let stalled = sprite.status.conditions.get(words::STALLED).expect("it is still so");
    assert_eq!(stalled.last_transition_time, since, "it is said once");
}

/// A machine that stands like this.
fn machine(stand: MachineStand) -> Observed {
    Observed::Machine { machine: None, stand }
}

/// A Sprite in a machine of its own.
fn in_a_machine() -> Sprite {
    let mut sprite = with(sprite(), words::ADMITTED);
    sprite.spec.runtime = serde_json::from_str(r#"{"fly": {}}"#).expect("a runtime");
    sprite
}

#[test]
fn a_machine_whose_reporter_was_never_heard_is_ended_at_once_and_nothing_is_waited_for() {
    for stand in [MachineStand::Up, MachineStand::Coming] {
        // However long nobody was heard before.
        for silence in [0, 30, 600] {
            let now = at(Duration::from_secs(silence));
            let (mut silent, _) = settled(&in_a_machine(), &machine(stand), START);
            silent = settled(&silent, &machine(stand), now).0;
            silent.spec.stop = Some(ExitReason::TimedOut);
            let first = plan(&silent, &machine(stand), None, now);
            assert_eq!(first.order, None, "nobody would read it");
            let (silent, ends) = settled(&silent, &machine(stand), now);
            assert_eq!(ends.hand, Some(Hand::Kill), "{stand:?}, {silence}");
            let (over, plan) = settled(&silent, &Observed::Gone { exit: None }, now);
            assert_eq!(plan.hand, Some(Hand::Clean));
            let exit = over.status.exit.expect("recorded");
            assert_eq!(exit.reason, ExitReason::TimedOut);
            assert_eq!(exit.message, "it was stopped before its reporter reached this server");
        }
    }
}

#[test]
fn a_machine_whose_run_was_claimed_is_asked_first_and_its_last_words_are_waited_for() {
    let mut sprite = in_a_machine();
    sprite.status.claim = Some(Claim { run: 1, boot: "b".to_owned() });
    sprite.spec.stop = Some(ExitReason::Cancelled);
    let first = plan(&sprite, &machine(MachineStand::Up), None, START);
    assert_eq!((first.order, first.hand), (Some(stop(ExitReason::Cancelled)), None));
    let (_, gone) = settled(&sprite, &Observed::Gone { exit: None }, START);
    assert_eq!((gone.hand, gone.again), (None, Some(at(DRAIN))));
}

#[test]
fn a_machine_that_is_stuck_is_killed_and_said_to_be_stuck_until_it_is_gone() {
    let mut sprite = in_a_machine();
    (sprite.status.run, sprite.status.hello_time) = (1, Some(START));
    let (sprite, _) = settled(&sprite, &machine(MachineStand::Up), START);
    let (sprite, stuck) = settled(&sprite, &machine(MachineStand::Stuck), START);
    assert_eq!(stuck.hand, Some(Hand::Kill));
    let stalled = sprite.status.conditions.get(words::STALLED).expect("it is told");
    assert_eq!(stalled.reason, words::MACHINE_STUCK);
    assert_eq!(sprite.status.phase, "Stopping");
    let (sprite, gone) = settled(&sprite, &Observed::Gone { exit: None }, START);
    assert_eq!(
        (gone.hand, gone.again),
        (None, Some(at(DRAIN))),
        "its last words may be on the way"
    );
    assert_eq!(sprite.status.conditions.get(words::STALLED), None);
}

#[test]
fn where_a_reporter_is_not_heard_the_address_it_was_told_is_named_once() {
    let (silent, _) = settled(&in_a_machine(), &machine(MachineStand::Up), START);
    let named = |sprite: &Sprite, now| {
        let mut plan = plan(sprite, &machine(MachineStand::Up), None, now);
        plan.name_address(sprite, "http://od.internal:8080", now);
        plan.status
    };
    let mut told = silent.clone();
    told.status = named(&silent, at(DRAIN));
    let stalled = told.status.conditions.get(words::STALLED).expect("it is told");
    assert!(stalled.message.contains("http://od.internal:8080"), "{}", stalled.message);
    assert_eq!(named(&told, at(DRAIN * 2)), told.status, "nothing is written again");
    assert_eq!(named(&silent, START).conditions.get(words::STALLED), None);
}

#[test]
fn a_sprite_is_ordered_to_sleep_once_and_killed_after_the_grace() {
    let mut sprite = partner();
    sprite.spec.running = false;
    let first = plan(&sprite, &running(), None, START);
    assert_eq!((first.order, first.hand), (Some(Order::Sleep {}), None));
    let (sprite, waiting) = settled(&sprite, &running(), START);
    assert_eq!((waiting.hand, waiting.again), (None, Some(at(GRACE))));
    assert!(!sprite.status.conditions.is_true(words::READY));
    assert_eq!(plan(&sprite, &running(), None, at(GRACE)).hand, Some(Hand::Kill));
}

#[test]
fn a_stop_overtakes_the_order_to_sleep_within_the_same_grace() {
    let mut sprite = partner();
    sprite.spec.running = false;
    let (mut sprite, _) = settled(&sprite, &running(), START);
    sprite.spec.stop = Some(ExitReason::Cancelled);
    let next = plan(&sprite, &running(), None, START);
    assert_eq!(next.order, Some(stop(ExitReason::Cancelled)));
    let (sprite, _) = settled(&sprite, &running(), START);
    assert_eq!(plan(&sprite, &running(), None, at(GRACE)).hand, Some(Hand::Kill));
}

#[test]
fn a_sleeping_sprite_is_not_over_holds_no_slot_and_keeps_its_token() {
    let sprite = asleep();
    let conditions = &sprite.status.conditions;
    assert!(conditions.is_true(words::ASLEEP));
    for word in [words::ADMITTED, words::READY, words::GONE, words::DRAINED, words::STOPPING] {
        assert!(!conditions.is_true(word), "{word}");
    }
    assert_eq!((sprite.status.phase.as_str(), &sprite.status.exit), ("Asleep", &None));
    for seen in [Observed::Gone { exit: None }, Observed::Absent] {
        let (after, rest) = settled(&sprite, &seen, at(DRAIN + DRAIN));
        assert_eq!((rest.hand, rest.again, after), (None, None, sprite.clone()));
    }
}

#[test]
fn a_woken_sprite_starts_its_next_run_once_it_has_a_slot_again() {
    let mut woken = asleep();
    (woken.spec.running, woken.spec.run) = (true, 2);
    let (woken, waiting) = settled(&woken, &Observed::Absent, START);
    assert_eq!(waiting.hand, None);
    assert_eq!(woken.status.conditions.get(words::ASLEEP), None);
    let (mut woken, plan) = settled(&with(woken, words::ADMITTED), &Observed::Absent, START);
    assert_eq!(plan.hand, Some(Hand::Start));
    let (seen, _) = settled(&woken, &running(), START);
    assert!(!seen.status.conditions.is_true(words::READY), "the last run's word does not count");
    (woken.status.run, woken.status.ready) = (2, true);
    let (awake, _) = settled(&woken, &running(), START);
    assert!(awake.status.conditions.is_true(words::READY));
}

#[test]
fn what_is_stopped_while_it_sleeps_is_over_without_another_process() {
    let mut stopped = asleep();
    stopped.spec.stop = Some(ExitReason::Cancelled);
    let (after, plan) = settled(&stopped, &Observed::Gone { exit: None }, START);
    assert_eq!(plan.hand, Some(Hand::Clean));
    assert_eq!(after.status.exit.expect("recorded").reason, ExitReason::Cancelled);
    assert!(after.status.conditions.is_true(words::DRAINED));
}

#[test]
fn who_was_to_sleep_and_died_is_over() {
    let mut sprite = partner();
    sprite.spec.running = false;
    let (sprite, _) = settled(&sprite, &Observed::Gone { exit: None }, START);
    let (sprite, plan) = settled(&sprite, &Observed::Gone { exit: None }, at(DRAIN));
    assert_eq!(plan.hand, Some(Hand::Clean));
    assert_eq!(sprite.status.exit.expect("recorded").reason, ExitReason::ReporterLost);
}

fn observations() -> impl Strategy<Value = Observed> {
    prop_oneof![
        Just(Observed::Absent),
        Just(running()),
        Just(Observed::Orphaned { exit: None }),
        Just(Observed::Gone { exit: None }),
        Just(Observed::Unknown { why: "?".to_owned() }),
    ]
}

proptest! {
    #[test]
    fn whatever_was_seen_the_status_comes_to_rest_and_hands_fit_what_is_there(
        seen in proptest::collection::vec((observations(), 0_u64..100), 1..20),
        admitted in any::<bool>(),
        stop in any::<bool>(),
    ) {
        let mut sprite = if admitted { with(sprite(), words::ADMITTED) } else { sprite() };
        sprite.spec.stop = stop.then_some(ExitReason::Cancelled);
        let mut now = START;
        let mut started = false;
        for (observed, seconds) in seen {
            now = later(now, Duration::from_secs(seconds));
            let (after, plan) = settled(&sprite, &observed, now);
            sprite = after;
            started |= !matches!(observed, Observed::Absent | Observed::Unknown { .. });
            match plan.hand {
                Some(Hand::Start) => {
                    prop_assert_eq!(&observed, &Observed::Absent);
                    prop_assert!(admitted && !stop && !started);
                }
                Some(Hand::Recover) => {
                    let orphaned = matches!(observed, Observed::Orphaned { .. });
                    prop_assert!(orphaned);
                }
                Some(Hand::Kill) => {
                    let runs = matches!(observed, Observed::Running { .. });
                    prop_assert!(runs);
                }
                Some(Hand::Clean) => {
                    let gone = matches!(observed, Observed::Absent | Observed::Gone { .. });
                    prop_assert!(gone);
                    prop_assert!(sprite.status.exit.is_some());
                }
                None => {}
            }
        }
    }
}
