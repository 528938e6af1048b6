//! Promise: whatever crashes, fails or is lost, at any step and at any call to Fly, the end is the
//! same; never do two live for one owner, and nothing is left behind at Fly.

#[path = "support/fly/mod.rs"]
mod fly;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use fly::{
    faults::{Fault, Woe},
    stage::{Edit, Scenario, When, Wish, agent, job, play},
};
use open_dispatch::{
    ambient::Mode,
    resource::{AnyObject, JobSpec, Kind, Span},
};
use serde_json::Value;

const MODES: [Mode; 4] = [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter];

/// The Sprite sleeps.
const ASLEEP: When = When::Once("Asleep", "Ended");
/// The Sprite was told to sleep a moment ago.
const SLEEP_ORDERED: When = When::Once("Stopping", "SleepOrdered");

/// What became of the turns: id, state, the run that had it.
fn turns(end: &Value) -> Vec<String> {
    let rows = end.as_array().into_iter().flatten().filter_map(|row| {
        Some(format!("{} {} {}", row.get("turn")?, row.get("state")?, row.get("run")?))
    });
    rows.collect()
}

fn scenario(name: &'static str, length: u64, edits: Vec<Edit>) -> Scenario {
    let lag = std::env::var("LAG").map_or(0, |lag| lag.parse().unwrap());
    Scenario { name, edits, length, lag }
}

fn timed(seconds: u64) -> impl FnOnce(&mut JobSpec) {
    move |spec| spec.timeout = Some(Span::from_secs(seconds))
}

fn bot() -> Wish {
    Wish::Create(agent(|_| {}))
}

fn instruct() -> Wish {
    Wish::Change(Kind::Agent, "bot", |object| {
        if let AnyObject::Agent(agent) = object {
            agent.spec.instructions = Some("Be brief.".to_owned());
        }
    })
}

/// Fails unless every fault of a scenario ends as it ends without.
fn a_fault_anywhere_changes_nothing(scenario: &Scenario) {
    let dry = play(scenario, None);
    let mut failed = Vec::new();
    let mut check = |fault: Fault, what: String| {
        let played = catch_unwind(AssertUnwindSafe(|| {
            let played = play(scenario, Some(fault));
            assert!(played.fired, "the fault did not happen");
            match fault {
                Fault::Step(n, _) => assert_eq!(played.steps[n], dry.steps[n]),
                Fault::Call(n, _) => assert_eq!(played.calls[n], dry.calls[n]),
            }
            assert_eq!(played.end, dry.end);
        }));
        if played.is_err() {
            println!("^^^ {}: {what}", scenario.name);
            failed.push(what);
        }
    };
    for (n, step) in dry.steps.iter().enumerate() {
        for mode in MODES {
            check(Fault::Step(n, mode), format!("{mode:?} at step {n}, {step}"));
        }
    }
    for (n, action) in dry.calls.iter().enumerate() {
        // What only reads is asked again and again, so each has one of the woes in turn.
        let woes = match action.writes() {
            true => &Woe::OF_WRITES[..],
            false => &Woe::OF_READS[n % Woe::OF_READS.len()..][..1],
        };
        for woe in woes {
            check(Fault::Call(n, *woe), format!("{woe:?} at call {n}, {action}"));
        }
    }
    assert!(failed.is_empty(), "{} of them:\n{}", failed.len(), failed.join("\n"));
}

macro_rules! scenarios {
    ($($name:ident: $length:expr, [$($at:expr => $wish:expr),* $(,)?];)*) => {
        fn scenarios() -> Vec<Scenario> {
            vec![$(scenario(stringify!($name), $length, vec![$(($at.into(), $wish)),*])),*]
        }

        $(#[test]
        fn $name() {
            let edits = vec![$(($at.into(), $wish)),*];
            a_fault_anywhere_changes_nothing(&scenario(stringify!($name), $length, edits));
        })*
    };
}

scenarios! {
    a_job_runs_to_success: 120, [
        0 => Wish::Create(job("a", "run 5", |_| {})),
    ];
    a_failed_job_is_tried_again: 180, [
        0 => Wish::Create(job("a", "fail", |spec| spec.retries = 1)),
    ];
    a_job_times_out_by_its_reporter: 120, [
        0 => Wish::Create(job("a", "work", timed(20))),
    ];
    a_job_whose_reporter_forgets_the_time_is_ended_by_its_owner: 200, [
        0 => Wish::Create(job("a", "forget", timed(20))),
    ];
    a_stubborn_job_is_stopped_with_its_machine: 240, [
        0 => Wish::Create(job("a", "stubborn", timed(20))),
    ];
    a_job_is_deleted_while_it_runs: 120, [
        0 => Wish::Create(job("a", "work", |_| {})),
        40 => Wish::Delete(Kind::Job, "a"),
    ];
    a_job_is_deleted_while_its_machine_comes: 120, [
        0 => Wish::Create(job("a", "work", |_| {})),
        2 => Wish::Delete(Kind::Job, "a"),
    ];
    a_job_runs_out_of_memory: 240, [
        0 => Wish::Create(job("a", "oom 5", |_| {})),
    ];
    an_agent_answers_sleeps_and_is_woken: 360, [
        0 => bot(),
        20 => Wish::Say("a", "work 3"),
        200 => Wish::Say("b", "work 1"),
    ];
    an_agent_that_keeps_nothing_sleeps_and_is_woken: 360, [
        0 => Wish::Create(agent(|spec| {
            spec.runtime = serde_json::from_str(r#"{"fly": {"persistent": false}}"#).unwrap();
        })),
        20 => Wish::Say("a", "work 3"),
        200 => Wish::Say("b", "work 1"),
    ];
    an_agent_is_woken_as_soon_as_it_sleeps: 360, [
        0 => bot(),
        20 => Wish::Say("a", "work 3"),
        ASLEEP => Wish::Say("b", "work 1"),
    ];
    an_agent_is_woken_as_soon_as_it_is_to_sleep: 360, [
        0 => bot(),
        20 => Wish::Say("a", "work 3"),
        SLEEP_ORDERED => Wish::Say("b", "work 1"),
    ];
    a_changed_agent_gets_a_new_machine_between_two_turns_and_keeps_its_volume: 360, [
        0 => bot(),
        20 => Wish::Say("a", "work 30"),
        40 => instruct(),
        45 => Wish::Say("b", "work 1"),
    ];
    a_sleeping_agent_is_deleted: 500, [
        0 => bot(),
        20 => Wish::Say("a", "work 1"),
        330 => Wish::Delete(Kind::Agent, "bot"),
    ];
    a_working_agent_is_deleted: 500, [
        0 => bot(),
        300 => Wish::Say("a", "work 100"),
        340 => Wish::Delete(Kind::Agent, "bot"),
    ];
}

#[test]
fn a_message_at_any_moment_of_falling_asleep_is_answered_in_the_same_machine() {
    let mut ended = BTreeSet::new();
    for millis in (88_000..93_000).step_by(50) {
        let at = When::At(Duration::from_millis(millis));
        let edits = vec![
            (When::from(0), bot()),
            (When::from(20), Wish::Say("a", "work 3")),
            (at, Wish::Say("b", "work 1")),
        ];
        let played = play(&scenario("falls asleep", 300, edits), None);
        ended.insert((played.claims, turns(&played.end)));
    }
    insta::assert_debug_snapshot!(ended);
}

#[test]
fn dry() {
    for scenario in scenarios() {
        println!("=== {}", scenario.name);
        let played = play(&scenario, None);
        println!("{:?} steps={} calls={} claims={:?}", played.fired, played.steps.len(), played.calls.len(), played.claims);
        println!("{:?}\n{:?}", played.steps, played.calls);
        println!("{:#}", played.end);
    }
}
