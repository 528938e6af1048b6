//! Crash, error, or a lost answer at every named step of every conversation ends in the same state.
//!
//! As for Jobs (see `crash_steps.rs`), with an Agent that is talked to: its turns, its sleep, its
//! budget, its changes. At each moment no turn that has ended changes, turns are handed out in order
//! and one at a time, no two agents write to one session, and none is told to sleep in a turn.

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/fake_runtime.rs"]
mod fake_runtime;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/stage.rs"]
mod stage;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/steps.rs"]
mod steps;

use std::{collections::BTreeSet, sync::Arc};

use fake_runtime::{Beat, Script};
use open_dispatch::{
    ambient::Mode,
    resource::{AnyObject, Budget, Kind, Span},
};
use proptest::prelude::*;
use serde_json::Value;
use stage::{
    Edit, Scenario, Wish, agent, beats, change_agent, instruct, play, play_intruded, play_on_disk,
    resume, same, short, suspend,
};
use steps::CONVERSATIONS as STEPS;

/// Says hello and takes turns, for as long as it lives.
fn partner() -> Script {
    beats(&[(100, Beat::Hello), (150, Beat::Ready)])
}

fn bot() -> Edit {
    (0, Wish::Create(agent("bot")))
}

fn say(at: u64, id: &str, text: &str) -> Edit {
    (at, Wish::Say(id.to_owned(), text.to_owned()))
}

fn cancel(at: u64, id: &str) -> Edit {
    (at, Wish::Cancel(id.to_owned()))
}

/// Gives the Agent a dollar more than nothing, or more.
fn budget(usd: u64) -> fn(&mut AnyObject) {
    fn set(object: &mut AnyObject, usd: u64) {
        if let AnyObject::Agent(agent) = object {
            agent.spec.budget = Some(Budget { usd: Some(usd.into()), turns: None });
        }
    }
    match usd {
        1 => |object| set(object, 1),
        2 => |object| set(object, 2),
        _ => |object| set(object, 100),
    }
}

fn tired(mut agent: AnyObject) -> AnyObject {
    if let AnyObject::Agent(agent) = &mut agent {
        agent.spec.idle_timeout = Some(Span::from_secs(60));
    }
    agent
}

fn talk(name: &'static str, edits: Vec<Edit>) -> Scenario {
    Scenario { name, capacity: 4, author: same(partner), edits, length: 600 }
}

fn scenarios() -> Vec<Scenario> {
    vec![
        talk(
            "three turns are answered in order",
            vec![bot(), say(5, "a", "work 3"), say(6, "b", "fail"), say(6, "c", "work 1")],
        ),
        talk(
            "a running turn and a queued one are cancelled",
            vec![
                bot(),
                say(5, "a", "work 100"),
                say(6, "b", "work 1"),
                cancel(10, "b"),
                cancel(20, "a"),
                say(30, "c", "work 1"),
            ],
        ),
        Scenario {
            author: same(|| Script { stubborn: true, ..partner() }),
            ..talk(
                "a turn that does not end when it is cancelled ends with its sprite",
                vec![bot(), say(5, "a", "work 500"), cancel(10, "a"), say(11, "b", "work 1")],
            )
        },
        talk(
            "an agent sleeps and a message wakes it",
            vec![
                (0, Wish::Create(tired(agent("bot")))),
                say(5, "a", "work 1"),
                say(200, "b", "work 1"),
            ],
        ),
        Scenario {
            author: same(|| Script { stubborn: true, ..partner() }),
            ..talk(
                "an agent that does not want to sleep is put to sleep",
                vec![(0, Wish::Create(tired(agent("bot")))), say(200, "b", "work 1")],
            )
        },
        talk(
            "a message that comes while the agent falls asleep is not lost",
            vec![(0, Wish::Create(tired(agent("bot")))), say(61, "a", "work 1")],
        ),
        talk(
            "a sleeping agent is suspended and resumed",
            vec![
                (0, Wish::Create(tired(agent("bot")))),
                (100, suspend()),
                (120, resume()),
                say(125, "a", "work 1"),
            ],
        ),
        Scenario {
            capacity: 1,
            ..talk(
                "an agent that wakes waits for a slot",
                vec![
                    (0, Wish::Create(tired(agent("bot")))),
                    (100, Wish::Create(stage::job("a", |_| {}))),
                    say(110, "a", "work 1"),
                    (150, Wish::Delete(Kind::Job, "a")),
                ],
            )
        },
        Scenario {
            capacity: 1,
            author: Arc::new(|sprite| if sprite.spec.task.is_some() { short() } else { partner() }),
            ..talk(
                "an agent with nothing to do makes room for a job and comes back",
                vec![
                    bot(),
                    say(5, "a", "work 1"),
                    (100, Wish::Create(stage::job("a", |_| {}))),
                    say(150, "b", "work 1"),
                ],
            )
        },
        talk(
            "a changed agent gets its new sprite between two turns",
            vec![bot(), say(5, "a", "work 20"), (10, instruct()), say(12, "b", "work 1")],
        ),
        talk(
            "an agent is suspended in the middle of its turns and resumed",
            vec![
                bot(),
                say(5, "a", "work 100"),
                say(6, "b", "work 1"),
                (10, suspend()),
                say(11, "c", "work 1"),
                (50, resume()),
                say(60, "d", "work 1"),
            ],
        ),
        talk(
            "an agent is deleted in the middle of its turns",
            vec![
                bot(),
                say(5, "a", "work 100"),
                say(6, "b", "work 1"),
                (10, Wish::Delete(Kind::Agent, "bot")),
                say(11, "c", "work 1"),
            ],
        ),
        talk(
            "a sprite vanishes in the middle of a turn and the next turn runs",
            vec![bot(), say(5, "a", "vanish"), say(6, "b", "work 1")],
        ),
        talk(
            "a reporter dies in the middle of a turn and the next turn runs",
            vec![bot(), say(5, "a", "lose"), say(6, "b", "work 1")],
        ),
        talk(
            "an agent works by itself and a message waits for it",
            vec![bot(), say(5, "a", "own 20"), say(10, "b", "work 1")],
        ),
        talk(
            "an agent asks in a turn and the next time it is allowed",
            vec![bot(), say(5, "a", "ask r"), (20, Wish::Always), say(30, "b", "ask s")],
        ),
        Scenario {
            length: 5000,
            ..talk(
                "nobody answers an agent that asks, and in an hour that is a no",
                vec![bot(), say(5, "a", "ask r"), (4000, Wish::Delete(Kind::Agent, "bot"))],
            )
        },
        talk(
            "a spent budget holds turns until it is raised",
            vec![
                (0, {
                    let mut agent = agent("bot");
                    budget(1)(&mut agent);
                    Wish::Create(agent)
                }),
                say(5, "a", "cost 1500000"),
                say(6, "b", "work 1"),
                (60, change_agent(budget(2))),
            ],
        ),
        Scenario {
            author: same(|| Script { unstartable: true, ..Script::default() }),
            ..talk(
                "who waits for an agent that cannot be started hears it",
                vec![
                    (0, {
                        let mut agent = agent("bot");
                        agent.metadata_mut().finalizers.clear();
                        Wish::Create(agent)
                    }),
                    say(1, "a", "work 1"),
                    (500, Wish::Delete(Kind::Agent, "bot")),
                ],
            )
        },
    ]
}

const MODES: [Mode; 4] = [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter];

/// What becomes of the turns: id, state, the run that had it.
fn outcomes(end: &Value) -> Vec<String> {
    let rows = end.as_array().into_iter().flatten();
    rows.filter_map(|row| {
        let (id, state) = (row.get("turn")?.as_str()?, row.get("state")?.as_str()?);
        Some(format!("{id} {state} {}", row.get("run")?))
    })
    .collect()
}

#[test]
fn every_turn_of_every_conversation_comes_to_its_end() {
    let mut text = String::new();
    for scenario in scenarios() {
        let outcomes = outcomes(&play(&scenario, &[]).end);
        text.push_str(&format!("{}\n  {}\n", scenario.name, outcomes.join("\n  ")));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_listed_step_is_taken() {
    let taken: BTreeSet<&str> =
        scenarios().iter().flat_map(|scenario| play(scenario, &[]).steps).collect();
    let missing: Vec<_> = STEPS.iter().filter(|step| !taken.contains(*step)).collect();
    assert_eq!(missing, Vec::<&&str>::new());
    let unlisted: Vec<_> =
        taken.iter().filter(|it| it.starts_with("agent.") && !STEPS.contains(it)).collect();
    assert_eq!(unlisted, Vec::<&&str>::new());
}

#[test]
fn conversations_take_these_steps_in_this_order() {
    let mut text = String::new();
    for scenario in scenarios() {
        let steps = play(&scenario, &[]).steps;
        text.push_str(&format!(
            "{}: {} steps\n  {}\n",
            scenario.name,
            steps.len(),
            steps.join("\n  ")
        ));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_fault_at_any_step_of_a_conversation_ends_in_the_same_state() {
    let scenarios = Arc::new(scenarios());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let scenarios = scenarios.clone();
            scope.spawn(move || {
                for scenario in scenarios.iter().skip(half).step_by(2) {
                    let dry = play(scenario, &[]);
                    for n in 0..dry.steps.len() {
                        for mode in MODES {
                            let step = dry.steps[n];
                            let case = format!("{}: {mode:?} at step {n}, {step}", scenario.name);
                            println!("{case}");
                            let played = play(scenario, &[(n, mode)]);
                            assert!(played.fired, "{case}: the fault did not happen");
                            assert_eq!(played.steps[n], step, "{case}");
                            assert_eq!(played.end, dry.end, "{case}");
                        }
                    }
                }
            });
        }
    });
}

/// Whoever hands out a turn has read an Agent that was not suspended; the commit tells whether it
/// still is not. So a turn that is handed out once the Agent is suspended would show here as one
/// that a sprite was given, and that the suspended Agent never took back.
#[test]
fn somebody_who_suspends_the_agent_just_before_any_step_is_obeyed() {
    let scenario = talk(
        "three turns, and somebody suspends",
        vec![bot(), say(5, "a", "work 3"), say(6, "b", "fail"), say(6, "c", "work 1")],
    );
    let steps = play(&scenario, &[]).steps;
    let sends = steps.iter().filter(|step| **step == "agent.send-turn").count();
    assert_eq!(sends, 3);
    for (n, step) in steps.iter().enumerate() {
        let played = play_intruded(&scenario, n, |object| {
            if let AnyObject::Agent(agent) = object {
                agent.spec.suspend = true;
            }
        });
        assert!(
            outcomes(&played.end).iter().all(|it| !it.contains("Queued") && !it.contains("Sent")),
            "before step {n}, {step}: {:#}",
            played.end
        );
        if *step == "agent.send-turn" {
            let done = steps[..n].iter().filter(|step| **step == "agent.send-turn").count();
            let refused = outcomes(&played.end).split_off(done);
            let cancelled = refused.iter().all(|it| it.ends_with("Cancelled 0"));
            assert!(cancelled, "before step {n} nothing more is handed out: {refused:?}");
        }
    }
}

#[test]
fn somebody_who_changes_the_agent_just_before_any_step_gets_a_new_sprite_between_two_turns() {
    let scenario = talk(
        "two turns, and somebody changes the agent",
        vec![
            (0, Wish::Create(tired(agent("bot")))),
            say(5, "a", "work 3"),
            say(200, "b", "work 1"),
        ],
    );
    for (n, step) in play(&scenario, &[]).steps.iter().enumerate() {
        let played = play_intruded(&scenario, n, |object| {
            if let AnyObject::Agent(agent) = object {
                agent.spec.instructions = Some("Be brief.".to_owned());
            }
        });
        let ended = outcomes(&played.end);
        let well = ended.iter().all(|it| it.contains("Succeeded"));
        assert!(well && ended.len() == 2, "before step {n}, {step}: {ended:?}");
    }
}

/// Over SQLite a commit takes its time, so keys may pass each other and the n-th step may be
/// another one each time: only that the fault happened, and the end, are the same.
#[test]
fn a_crash_after_any_step_of_a_conversation_ends_in_the_same_state_over_sqlite_too() {
    const JOURNEYS: [&str; 4] = [
        "three turns are answered in order",
        "an agent with nothing to do makes room for a job and comes back",
        "an agent sleeps and a message wakes it",
        "an agent is suspended in the middle of its turns and resumed",
    ];
    std::thread::scope(|scope| {
        for name in JOURNEYS {
            scope.spawn(move || {
                let scenario = scenarios().into_iter().find(|it| it.name == name).expect("known");
                let end = play(&scenario, &[]).end;
                let dry = play_on_disk(&scenario, &[]);
                assert_eq!(dry.end, end, "{name}: both stores end alike");
                for n in 0..dry.steps.len() {
                    let case = format!("{name}: at step {n}");
                    println!("{case}");
                    let played = play_on_disk(&scenario, &[(n, Mode::CrashAfter)]);
                    assert!(played.fired || played.steps.len() <= n, "{case}: it did not happen");
                    assert_eq!(played.end, end, "{case}");
                }
            });
        }
    });
}

/// What people may want at any moment.
fn wishes() -> impl Strategy<Value = Wish> {
    let texts = prop_oneof![
        6 => Just("work 1"),
        3 => Just("work 30"),
        1 => Just("fail"),
        2 => Just("own 10"),
        1 => Just("vanish"),
        1 => Just("lose"),
        1 => Just("exit"),
        1 => Just("cost 700000"),
        1 => Just("ask"),
    ];
    prop_oneof![
        12 => texts.prop_map(|text| Wish::Say(String::new(), text.to_owned())),
        3 => (0_u8..12).prop_map(|n| Wish::Cancel(format!("t{n}"))),
        2 => Just(suspend()),
        3 => Just(resume()),
        2 => Just(instruct()),
        1 => Just(change_agent(|object| {
            if let AnyObject::Agent(agent) = object {
                agent.spec.instructions = None;
            }
        })),
        1 => Just(change_agent(budget(1))),
        1 => Just(change_agent(budget(3))),
        2 => Just(Wish::Approve),
        1 => Just(Wish::Always),
        1 => Just(Wish::Delete(Kind::Agent, "bot")),
    ]
}

fn faults() -> impl Strategy<Value = Vec<(usize, Mode)>> {
    let mode = (0..MODES.len()).prop_map(|n| MODES[n]);
    proptest::collection::vec((0_usize..25, mode), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// The stage itself asserts what always holds; see the head of this file. Here it is asked
    /// what must hold in the end.
    #[test]
    fn whatever_people_want_and_whatever_breaks_each_turn_has_one_end(
        wishes in proptest::collection::vec((0_u64..200, wishes()), 1..14),
        faults in faults(),
        sleepy in any::<bool>(),
    ) {
        let made = if sleepy { tired(agent("bot")) } else { agent("bot") };
        let mut edits = vec![(0, Wish::Create(made))];
        let mut at = 0;
        for (n, (pause, wish)) in wishes.into_iter().enumerate() {
            // Often at the same moment, sometimes after a sleep.
            at += if pause < 100 { pause / 20 } else { pause };
            let wish = match wish {
                Wish::Say(_, text) if text == "ask" => {
                    Wish::Say(format!("t{n}"), format!("ask r{n}"))
                }
                Wish::Say(_, text) => Wish::Say(format!("t{n}"), text),
                other => other,
            };
            edits.push((at, wish));
        }
        // An unanswered request expires after an hour; all else takes less.
        let length = at + 20_000;
        let scenario = Scenario { length, ..talk("by chance", edits) };
        let end = play(&scenario, &faults).end;
        for outcome in outcomes(&end) {
            let ended = ["Succeeded", "Failed", "Cancelled", "Interrupted"];
            let waits = outcome.contains("Queued") && has_condition(&end, "BudgetSpent");
            let is_final = ended.iter().any(|state| outcome.contains(state));
            prop_assert!(is_final || waits, "{outcome} is no end in {end:#}");
        }
    }
}

fn has_condition(end: &Value, kind: &str) -> bool {
    let rows = end.as_array().into_iter().flatten();
    let conditions = rows.filter_map(|row| row.pointer("/status/conditions")?.as_array());
    conditions.flatten().any(|it| it["type"] == kind && it["status"] == "True")
}
