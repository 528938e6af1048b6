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
    Scenario { name, edits, length, lag: 0, memory: 30, stranger: None }
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

/// Fails unless every fault of a scenario ends as it ends without, at the places that are chosen.
fn a_fault_anywhere_changes_nothing(scenario: &Scenario, is_chosen: impl Fn(Fault) -> bool) {
    let dry = play(scenario, None);
    let mut faults = Vec::new();
    for (n, step) in dry.steps.iter().enumerate() {
        let each = |mode| (Fault::Step(n, mode), format!("{mode:?} at step {n}, {step}"));
        faults.extend(MODES.map(each));
    }
    for (n, action) in dry.calls.iter().enumerate() {
        // What only reads is asked again and again, so each has one of the woes in turn.
        let woes = match action.writes() {
            true => &Woe::OF_WRITES[..],
            false => &Woe::OF_READS[n % Woe::OF_READS.len()..][..1],
        };
        let each = |woe: &Woe| (Fault::Call(n, *woe), format!("{woe:?} at call {n}, {action}"));
        faults.extend(woes.iter().map(each));
    }
    faults.retain(|(fault, _)| is_chosen(*fault));
    let mut failed = Vec::new();
    for (fault, what) in faults {
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
    }
    assert!(failed.is_empty(), "{} of them:\n{}", failed.len(), failed.join("\n"));
}

macro_rules! scenarios {
    ($($name:ident: $length:expr, [$($at:expr => $wish:expr),* $(,)?];)*) => {
        fn scenarios() -> Vec<Scenario> {
            vec![$(scenario(stringify!($name), $length, vec![$(($at.into(), $wish)),*])),*]
        }

        mod a_fault_at_any_step_or_call_ends_in_the_same_state {
            use super::*;

            $(#[test]
            fn $name() {
                a_fault_anywhere_changes_nothing(&named(stringify!($name)), |_| true);
            })*
        }

        mod where_lists_lag_a_crash_at_any_call_ends_in_the_same_state {
            use super::*;

            $(#[test]
            fn $name() {
                let scenario = Scenario { lag: 8, ..named(stringify!($name)) };
                a_fault_anywhere_changes_nothing(&scenario, is_crash_at_call);
            })*
        }
    };
}

/// The scenario of a name.
fn named(name: &str) -> Scenario {
    let known = scenarios().into_iter().find(|scenario| scenario.name == name);
    known.unwrap_or_else(|| panic!("there is no scenario {name}"))
}

fn is_crash_at_call(fault: Fault) -> bool {
    matches!(fault, Fault::Call(_, Woe::CrashBefore | Woe::CrashAfter | Woe::Lost { .. }))
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
    a_job_whose_machine_is_never_heard_is_deleted: 150, [
        0 => Wish::Create(job("a", "is never heard", |_| {})),
        100 => Wish::Delete(Kind::Job, "a"),
    ];
    a_job_whose_machine_is_never_heard_times_out: 200, [
        0 => Wish::Create(job("a", "is never heard", timed(20))),
    ];
    a_job_runs_out_of_memory: 240, [
        0 => Wish::Create(job("a", "oom 5", |_| {})),
    ];
    an_agent_answers_sleeps_and_is_woken: 420, [
        0 => bot(),
        60 => Wish::Say("a", "work 3"),
        250 => Wish::Say("b", "work 1"),
    ];
    an_agent_that_keeps_nothing_sleeps_and_is_woken: 420, [
        0 => Wish::Create(agent(|spec| {
            spec.runtime = serde_json::from_str(r#"{"fly": {"persistent": false}}"#).expect("a runtime");
        })),
        60 => Wish::Say("a", "work 3"),
        250 => Wish::Say("b", "work 1"),
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
        60 => Wish::Say("a", "work 30"),
        80 => instruct(),
        85 => Wish::Say("b", "work 1"),
    ];
    a_sleeping_agent_is_deleted: 560, [
        0 => bot(),
        20 => Wish::Say("a", "work 1"),
        400 => Wish::Delete(Kind::Agent, "bot"),
    ];
    a_working_agent_is_deleted: 560, [
        0 => bot(),
        360 => Wish::Say("a", "work 100"),
        400 => Wish::Delete(Kind::Agent, "bot"),
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
fn each_scenario_takes_these_steps_and_makes_these_calls() {
    let mut text = String::new();
    for Scenario { name, .. } in scenarios() {
        let played = play(&named(name), None);
        let calls: Vec<String> = played.calls.iter().map(|call| format!("{call}")).collect();
        let asked = calls.chunk_by(|a, b| a == b).map(|same| match same {
            [one] => one.clone(),
            more => format!("{} x{}", more[0], more.len()),
        });
        let asked: Vec<String> = asked.collect();
        text.push_str(&format!("{name}\n  {}\n", played.steps.join("\n  ")));
        text.push_str(&format!("  Fly is asked: {}\n", asked.join(", ")));
    }
    insta::assert_snapshot!(text);
}

/// Each step of the runtime's own is in some scenario; a new one must be added here.
#[test]
fn every_step_of_the_runtime_is_taken() {
    const STEPS: [&str; 6] =
        ["claim.commit", "fly.create", "fly.create-volume", "fly.destroy", "fly.start", "fly.stop"];
    let taken: BTreeSet<&str> = scenarios()
        .iter()
        .flat_map(|scenario| play(scenario, None).steps)
        .filter(|step| step.starts_with("fly.") || step.starts_with("claim."))
        .collect();
    assert_eq!(taken, BTreeSet::from(STEPS));
}

#[test]
fn scenarios_end_like_this() {
    for Scenario { name, .. } in scenarios() {
        insta::assert_yaml_snapshot!(name, play(&named(name), None).end);
    }
}

/// Whoever finds a machine of its name that is not its own by its tags leaves it alone.
#[test]
fn a_machine_of_our_name_that_is_somebody_elses_is_never_touched() {
    let job =
        || scenario("a job", 200, vec![(When::from(0), Wish::Create(job("a", "run 5", |_| {})))]);
    let name = play(&job(), None).machine;
    let played = play(&Scenario { stranger: name, ..job() }, None);
    let told = played.end.to_string();
    assert!(told.contains("and is not this sprite's; destroy it"), "{told}");
    assert!(told.contains(r#"{"machine":{"region":"iad","state":"created"}}"#), "{told}");
    assert_eq!(played.claims, (0, 0), "nobody is started in it");
}
