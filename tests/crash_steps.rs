//! Crash, error, or a lost answer at every named step of every scenario ends in the same state.
//!
//! A dry pass of a scenario records the steps that it takes. Then, for each of them and each kind
//! of fault, a fresh world goes through the same scenario and has the fault there; after a crash
//! all memory is dropped, and a new engine goes on over the same store and the same processes.
//! The end must be the same as without the fault, with never two live agents for one owner,
//! nothing left behind, every exit told once, and nothing left to write.

#[path = "support/fake_runtime.rs"]
mod fake_runtime;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/stage.rs"]
mod stage;
#[path = "support/steps.rs"]
mod steps;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use fake_runtime::{Beat, Script};
use open_dispatch::{
    ambient::Mode,
    resource::{AnyObject, Kind, Span},
};
use stage::{
    Edit, Scenario, Wish, agent, beats, diligent, instruct, job, play, play_on_disk, resume, same,
    short, suspend,
};
use steps::JOBS as STEPS;

/// What a Job goes through, each with every step of its scenario in the order in which they are
/// taken. A fault is put at each of these; a step that is left out here fails the test.
const JOURNEYS: [(&str, &[&str]); 7] = [
    // Create.
    (
        "a job without a finalizer gets one",
        &[
            "job.add-finalizer",
            "job.create-sprite",
            "admission.admit",
            "sprite.write-status",
            "sprite.start",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "sprite.clean",
            "sprite.let-go",
            "job.write-status",
        ],
    ),
    // Run.
    (
        "a job runs to success",
        &[
            "job.create-sprite",
            "admission.admit",
            "sprite.write-status",
            "sprite.start",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "sprite.clean",
            "sprite.let-go",
            "job.write-status",
        ],
    ),
    // Cancel.
    (
        "a running job is cancelled",
        &[
            "job.create-sprite",
            "admission.admit",
            "sprite.write-status",
            "sprite.start",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "job.stop-sprite",
            "job.write-status",
            "sprite.order-stop",
            "job.write-status",
            "sprite.write-status",
            "sprite.clean",
            "sprite.let-go",
            "job.write-status",
        ],
    ),
    // Retry.
    (
        "a failed job is tried again",
        &[
            "job.create-sprite",
            "admission.admit",
            "sprite.write-status",
            "sprite.start",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "sprite.clean",
            "sprite.let-go",
            "job.write-status",
            "job.create-sprite",
            "job.write-status",
            "admission.admit",
            "sprite.write-status",
            "sprite.start",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "sprite.clean",
            "sprite.let-go",
            "job.write-status",
        ],
    ),
    // Time out.
    (
        "a job times out by its reporter",
        &[
            "job.create-sprite",
            "admission.admit",
            "sprite.write-status",
            "sprite.start",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "sprite.clean",
            "sprite.let-go",
            "job.write-status",
        ],
    ),
    // Time out.
    (
        "a job whose reporter forgets the time is ended by its owner",
        &[
            "job.create-sprite",
            "admission.admit",
            "sprite.write-status",
            "sprite.start",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "job.stop-sprite",
            "sprite.order-stop",
            "job.write-status",
            "sprite.write-status",
            "sprite.clean",
            "sprite.let-go",
            "job.write-status",
        ],
    ),
    // Delete.
    (
        "a job is deleted while it runs",
        &[
            "job.create-sprite",
            "admission.admit",
            "sprite.write-status",
            "sprite.start",
            "job.write-status",
            "sprite.write-status",
            "job.write-status",
            "sprite.write-status",
            "job.delete-sprite",
            "sprite.order-stop",
            "sprite.write-status",
            "sprite.clean",
            "sprite.let-go",
            "job.drop-finalizer",
        ],
    ),
];

fn cancel() -> Wish {
    Wish::Change(Kind::Job, "a", |object| {
        if let AnyObject::Job(job) = object {
            job.spec.cancel = true;
        }
    })
}

fn scenarios() -> Vec<Scenario> {
    let create = || -> Edit { (0, Wish::Create(job("a", |_| {}))) };
    vec![
        Scenario {
            name: "a job runs to success",
            capacity: 4,
            author: same(short),
            edits: vec![create()],
            length: 100,
        },
        Scenario {
            name: "a job without a finalizer gets one",
            capacity: 4,
            author: same(short),
            edits: vec![(0, {
                let mut job = job("a", |_| {});
                job.metadata_mut().finalizers.clear();
                Wish::Create(job)
            })],
            length: 100,
        },
        Scenario {
            name: "a failed job is tried again",
            capacity: 4,
            author: Arc::new(|sprite| {
                let code = if sprite.spec.attempt == 1 { 3 } else { 0 };
                beats(&[(100, Beat::Hello), (500, Beat::Exit(code))])
            }),
            edits: vec![(0, Wish::Create(job("a", |spec| spec.retries = 1)))],
            length: 100,
        },
        Scenario {
            name: "a job that always fails fails in the end",
            capacity: 4,
            author: same(|| beats(&[(100, Beat::Hello), (500, Beat::Exit(3))])),
            edits: vec![(0, Wish::Create(job("a", |spec| spec.retries = 1)))],
            length: 100,
        },
        Scenario {
            name: "a running job is cancelled",
            capacity: 4,
            author: same(diligent),
            edits: vec![create(), (5, cancel())],
            length: 200,
        },
        Scenario {
            name: "a stubborn agent is killed",
            capacity: 4,
            author: same(|| Script { stubborn: true, ..diligent() }),
            edits: vec![create(), (5, cancel())],
            length: 200,
        },
        Scenario {
            name: "a job that waits is cancelled and never starts",
            capacity: 0,
            author: same(diligent),
            edits: vec![create(), (5, cancel())],
            length: 100,
        },
        Scenario {
            name: "a job times out by its reporter",
            capacity: 4,
            author: same(|| beats(&[(100, Beat::Hello), (10_000, Beat::TimeOut)])),
            edits: vec![(
                0,
                Wish::Create(job("a", |spec| spec.timeout = Some(Span::from_secs(10)))),
            )],
            length: 200,
        },
        Scenario {
            name: "a job whose reporter forgets the time is ended by its owner",
            capacity: 4,
            author: same(diligent),
            edits: vec![(
                0,
                Wish::Create(job("a", |spec| spec.timeout = Some(Span::from_secs(10)))),
            )],
            length: 300,
        },
        Scenario {
            name: "an agent asks, and goes on when it is told yes",
            capacity: 4,
            author: same(|| beats(&[(100, Beat::Hello), (200, Beat::Ask("r".to_owned()))])),
            edits: vec![create(), (50, Wish::Approve)],
            length: 100,
        },
        Scenario {
            name: "a sprite vanishes while it asks, and the question is withdrawn",
            capacity: 4,
            author: same(|| {
                beats(&[(100, Beat::Hello), (200, Beat::Ask("r".to_owned())), (500, Beat::Vanish)])
            }),
            edits: vec![create()],
            length: 300,
        },
        Scenario {
            name: "a job is deleted while it runs",
            capacity: 4,
            author: same(diligent),
            edits: vec![create(), (5, Wish::Delete(Kind::Job, "a"))],
            length: 200,
        },
        Scenario {
            name: "a finished job goes when its time to live is over",
            capacity: 4,
            author: same(short),
            edits: vec![(
                0,
                Wish::Create(job("a", |spec| spec.ttl_after_finished = Some(Span::from_secs(60)))),
            )],
            length: 200,
        },
        Scenario {
            name: "a job whose agent cannot be started fails",
            capacity: 4,
            author: same(|| Script { unstartable: true, ..Script::default() }),
            edits: vec![create()],
            length: 100,
        },
        Scenario {
            name: "a reporter dies, and its agent is not left alone",
            capacity: 4,
            author: same(|| {
                beats(&[(100, Beat::Hello), (200, Beat::Line("one\n")), (300, Beat::LoseReporter)])
            }),
            edits: vec![create()],
            length: 200,
        },
        Scenario {
            name: "a sprite vanishes before it said hello, and another takes its place",
            capacity: 4,
            author: Arc::new(|sprite| {
                if sprite.spec.attempt == 1 {
                    beats(&[(100, Beat::Vanish)])
                } else {
                    beats(&[(100, Beat::Hello), (500, Beat::Exit(0))])
                }
            }),
            edits: vec![create()],
            length: 300,
        },
        Scenario {
            name: "a sprite vanishes in the middle, and the gap is told",
            capacity: 4,
            author: same(|| beats(&[(100, Beat::Hello), (500, Beat::Vanish)])),
            edits: vec![create()],
            length: 300,
        },
        Scenario {
            name: "a runtime that fails at first is tried again",
            capacity: 4,
            author: same(|| Script { failures: 4, ..short() }),
            edits: vec![create()],
            length: 300,
        },
        Scenario {
            name: "a sprite that cannot be looked after at first is looked after later",
            capacity: 4,
            author: same(|| Script {
                stalls: 2,
                ..beats(&[(100, Beat::Hello), (300, Beat::LoseReporter)])
            }),
            edits: vec![create()],
            length: 300,
        },
        Scenario {
            name: "a job waits for a secret and starts once that is set",
            capacity: 4,
            author: same(|| Script { secretless: 2, ..short() }),
            edits: vec![create()],
            length: 100,
        },
        Scenario {
            name: "a job is taken out of the store by hand and its sprite ends",
            capacity: 4,
            // Nobody tells of it: it is seen when its sprite is looked at next.
            author: same(|| {
                beats(&[(100, Beat::Hello), (8000, Beat::Ready), (3_600_000, Beat::Exit(0))])
            }),
            edits: vec![create(), (5, Wish::TakeOut(Kind::Job, "a"))],
            length: 200,
        },
        Scenario {
            name: "three jobs share one slot",
            capacity: 1,
            author: same(short),
            edits: vec![
                (0, Wish::Create(job("a", |_| {}))),
                (0, Wish::Create(job("b", |_| {}))),
                (0, Wish::Create(job("c", |_| {}))),
            ],
            length: 100,
        },
        Scenario {
            name: "an agent is suspended and resumed and deleted",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                (0, Wish::Create(agent("bot"))),
                (5, suspend()),
                (50, resume()),
                (100, Wish::Delete(Kind::Agent, "bot")),
            ],
            length: 300,
        },
        Scenario {
            name: "a changed agent gets a new sprite",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                (0, {
                    let mut agent = agent("bot");
                    agent.metadata_mut().finalizers.clear();
                    Wish::Create(agent)
                }),
                (5, instruct()),
            ],
            length: 200,
        },
    ]
}

fn scenario(name: &str) -> Scenario {
    let known = scenarios().into_iter().find(|scenario| scenario.name == name);
    known.unwrap_or_else(|| panic!("there is no scenario {name}"))
}

const MODES: [Mode; 4] = [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter];

#[test]
fn every_step_is_listed_and_every_listed_step_is_taken() {
    let taken: BTreeSet<&str> =
        scenarios().iter().flat_map(|scenario| play(scenario, &[]).steps).collect();
    assert_eq!(taken, BTreeSet::from(STEPS));
}

/// The rooms whose steps all have their faults here or in the tests beside this one.
const ROOMS: [&str; 9] = [
    "admission.",
    "agent.",
    "engine.",
    "fleet.",
    "job.",
    "override.",
    "schedule.",
    "source.",
    "sprite.",
];

/// The rooms whose steps are held by tests of their own: `keepsakes.rs`, `crash_fly.rs` and
/// `fly_sweep.rs`.
const OTHER_ROOMS: [&str; 2] = ["keepsake.", "sweep."];

/// The sources below a directory, without the tests among them.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of the sources") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        if path.is_dir() {
            sources(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// What stands between quotes in a source.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('"').filter_map(|(at, _)| text[at + 1..].split('"').next())
}

fn is_name(text: &str) -> bool {
    let is_of_it = |c: char| c.is_ascii_lowercase() || "-_".contains(c);
    // A file is no step.
    !text.is_empty() && text.chars().all(is_of_it) && text != "yaml"
}

/// The names of steps that stand in a source: what begins with a room, wherever it stands, and whatever
/// is handed to a commit or a step.
fn named(text: &str) -> BTreeSet<&str> {
    let known = |name: &str| {
        let room = ROOMS.iter().chain(&OTHER_ROOMS).find(|room| name.starts_with(**room));
        room.is_some_and(|room| is_name(&name[room.len()..]))
    };
    let mut names: BTreeSet<&str> = quoted(text).filter(|name| known(name)).collect();
    for call in ["commit(", "step("] {
        for (at, _) in text.match_indices(call) {
            let rest = text[at + call.len()..].trim_start();
            names.extend(rest.strip_prefix('"').and_then(|rest| rest.split('"').next()));
        }
    }
    names
}

#[test]
fn every_step_that_stands_in_the_code_has_a_scenario_that_reaches_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for room in ["reconcile", "source"] {
        sources(&root.join(room), &mut files);
    }
    let texts: Vec<String> =
        files.iter().map(|file| fs::read_to_string(file).expect("it can be read")).collect();
    let mut there: BTreeSet<&str> = texts.iter().flat_map(|text| named(text)).collect();
    assert!(there.contains("sprite.order-sleep"), "a name in a `let` is found: {there:?}");
    there.retain(|name| !OTHER_ROOMS.iter().any(|room| name.starts_with(room)));
    let lists: [&[&str]; 8] = [
        &steps::JOBS,
        &steps::CONVERSATIONS,
        &steps::FLEETS,
        &steps::SOURCES,
        &steps::HEIRS,
        &steps::GIT_SOURCES,
        &steps::OVERRIDES,
        &steps::WORK_TREES,
    ];
    let listed: BTreeSet<&str> = lists.into_iter().flatten().copied().collect();
    assert_eq!(there, listed, "a step needs a scenario, and a place in tests/support/steps.rs");
}

#[test]
fn a_job_takes_exactly_these_steps() {
    for (name, steps) in JOURNEYS {
        assert_eq!(play(&scenario(name), &[]).steps, steps, "{name}");
    }
}

#[test]
fn all_else_takes_these_steps_in_this_order() {
    let mut text = String::new();
    let journey = |name| JOURNEYS.iter().any(|(journey, _)| *journey == name);
    for scenario in scenarios().into_iter().filter(|scenario| !journey(scenario.name)) {
        let played = play(&scenario, &[]);
        text.push_str(&format!("{}\n  {}\n", scenario.name, played.steps.join("\n  ")));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn scenarios_end_like_this() {
    for scenario in scenarios() {
        let name = scenario.name.replace([' ', ','], "_");
        insta::assert_yaml_snapshot!(name, play(&scenario, &[]).end);
    }
}

#[test]
fn a_fault_at_any_step_ends_in_the_same_state() {
    for scenario in scenarios() {
        let dry = play(&scenario, &[]);
        for n in 0..dry.steps.len() {
            for mode in MODES {
                let case = format!("{}: {mode:?} at step {n}, {}", scenario.name, dry.steps[n]);
                println!("{case}");
                let played = play(&scenario, &[(n, mode)]);
                assert!(played.fired, "{case}: the fault did not happen");
                assert_eq!(played.steps[n], dry.steps[n], "{case}");
                assert_eq!(played.end, dry.end, "{case}");
            }
        }
    }
}

#[test]
fn two_crashes_in_a_row_end_in_the_same_state() {
    let scenario = scenario("a job whose agent cannot be started fails");
    let dry = play(&scenario, &[]);
    let modes = [Mode::CrashBefore, Mode::CrashAfter];
    for (n, first) in (0..dry.steps.len()).flat_map(|n| modes.map(|mode| (n, mode))) {
        // The second life has no more steps left than the whole.
        for (m, second) in (0..dry.steps.len() - n).flat_map(|m| modes.map(|mode| (m, mode))) {
            let played = play(&scenario, &[(n, first), (m, second)]);
            assert_eq!(played.end, dry.end, "{first:?} at {n}, then {second:?} at {m}");
        }
    }
}

/// Over SQLite a commit takes its time, so keys may pass each other and the n-th step may be
/// another one each time: only that the fault happened, and the end, are the same. What SQLite
/// can spoil is what it has committed, so the faults are those after it.
#[test]
fn a_fault_after_any_step_of_a_job_ends_in_the_same_state_over_sqlite_too() {
    const BESIDES: [&str; 2] = [
        "a job waits for a secret and starts once that is set",
        "a job is taken out of the store by hand and its sprite ends",
    ];
    std::thread::scope(|scope| {
        for name in JOURNEYS.map(|(name, _)| name).into_iter().chain(BESIDES) {
            scope.spawn(move || {
                let scenario = scenario(name);
                let end = play(&scenario, &[]).end;
                let dry = play_on_disk(&scenario, &[]);
                assert_eq!(dry.end, end, "{name}: both stores end alike");
                for n in 0..dry.steps.len() {
                    for mode in [Mode::CrashAfter, Mode::ErrorAfter] {
                        let case = format!("{name}: {mode:?} at step {n}");
                        println!("{case}");
                        let played = play_on_disk(&scenario, &[(n, mode)]);
                        assert!(
                            played.fired || played.steps.len() <= n,
                            "{case}: it did not happen"
                        );
                        assert_eq!(played.end, end, "{case}");
                    }
                }
            });
        }
    });
}
