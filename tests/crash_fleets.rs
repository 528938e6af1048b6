//! Crash, error, or a lost answer at every step that Fleets and Schedules take ends in the same state,
//! as `crash_steps.rs` says it of Jobs and Agents: each member is there once, each due minute made one
//! Job, nothing is left behind, and nothing is left to write.

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/fake_runtime.rs"]
mod fake_runtime;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/stage.rs"]
mod stage;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/steps.rs"]
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use fake_runtime::Script;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Fault, ManualClock, Mode, Steps},
    reconcile::{
        Controller as _, Error, Next,
        controllers::{FleetController, NoSources, ScheduleController},
    },
    resource::{
        API_VERSION, AnyObject, CONFIRM_DELETIONS, Defaults, FINALIZER_OWNED, Kind, ORPHAN,
        RUN_REQUESTED, Span, decode,
    },
    store::{
        Change, ChangeKind, Expect, Op, Part, Store, Transaction, Turn, TurnState,
        memory::MemoryStore,
    },
};
use serde_json::{Value, json};
use stage::{DIRECTORIES, Played, Scenario, Wish, diligent, play, play_on_disk, same, short};
use steps::FLEETS as STEPS;

const MODES: [Mode; 4] = [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter];

fn object(kind: Kind, spec: Value) -> AnyObject {
    let mut object = decode(json!({
        "apiVersion": API_VERSION, "kind": kind.name(), "metadata": {"name": "x"}, "spec": spec,
    }))
    .expect("it is good");
    object.metadata_mut().uid = "uid of x".to_owned();
    object.metadata_mut().finalizers = vec![FINALIZER_OWNED.to_owned()];
    object
}

fn bare(mut object: AnyObject) -> AnyObject {
    object.metadata_mut().finalizers.clear();
    object
}

fn agents() -> AnyObject {
    object(
        Kind::Fleet,
        json!({
            "generate": {"list": [{"n": "a"}, {"n": "b"}]},
            "template": {
                "kind": "Agent", "metadata": {"name": "m-{{n}}"},
                "spec": {"agent": {"command": {}}, "env": [{"name": "V", "value": "1"}]},
            },
        }),
    )
}

fn jobs() -> AnyObject {
    object(
        Kind::Fleet,
        json!({
            "generate": {"replicas": 2},
            "template": {
                "kind": "Job", "metadata": {"name": "m-{{index}}"},
                // Which agent, the server says.
                "spec": {"task": "one"},
            },
        }),
    )
}

/// The same Fleet, made again under its name, with one member less and another one more.
fn heir() -> AnyObject {
    let mut heir = agents();
    heir.metadata_mut().uid = HEIR.to_owned();
    rewrite(&mut heir, |spec| {
        spec["generate"] = json!({"list": [{"n": "b"}, {"n": "c"}]});
        second(spec);
    });
    bare(heir)
}

/// The uid of who inherits.
const HEIR: &str = "uid of the heir";

/// A Fleet of what is below a repository; its members rest, so that nothing else takes steps.
fn of_directories() -> AnyObject {
    object(
        Kind::Fleet,
        json!({
            "generate": {"gitDirectories": {"source": "repos", "pattern": "*"}},
            "template": {
                "kind": "Agent", "metadata": {"name": "m-{{basename}}"},
                "spec": {"agent": {"command": {}}, "runtime": {"local": {}}, "suspend": true},
            },
        }),
    )
}

/// A Source over a repository with so many directories.
fn repository() -> AnyObject {
    let mut source = object(Kind::Source, json!({"from": {"git": {"repos": ["o/r"]}}}));
    let metadata = source.metadata_mut();
    metadata.name = "repos".to_owned();
    metadata.uid = "uid of repos".to_owned();
    holds(&mut source, 13);
    source
}

/// What a commit leaves of the directories.
fn holds(source: &mut AnyObject, directories: usize) {
    let names: Vec<String> = (1..=directories).map(|n| format!("d{n}")).collect();
    let annotations = &mut source.metadata_mut().annotations;
    annotations.insert(DIRECTORIES.to_owned(), names.join(","));
}

fn schedule(change: impl FnOnce(&mut Value)) -> AnyObject {
    let mut spec = json!({
        "schedule": "* * * * *",
        "jobTemplate": {"spec": {"agent": {"command": {}}, "task": "true"}},
    });
    change(&mut spec);
    object(Kind::Schedule, spec)
}

/// Changes a Fleet's spec as JSON.
fn rewrite(object: &mut AnyObject, change: fn(&mut Value)) {
    if let AnyObject::Fleet(fleet) = object {
        let mut spec = serde_json::to_value(&fleet.spec).expect("it is JSON");
        change(&mut spec);
        fleet.spec = serde_json::from_value(spec).expect("it is a spec");
    }
}

/// What the members shall be made of next.
fn second(spec: &mut Value) {
    spec["template"]["spec"]["env"][0]["value"] = json!("2");
}

/// The most members at once, over all that was ever written, that were up once and are not up as their
/// spec says: what `maxUnavailable` bounds.
fn most_out(history: &[Change]) -> usize {
    // What an Agent's spec says; what a Sprite is made of, and whose it is. Both by uid.
    let mut agents: BTreeMap<String, Value> = BTreeMap::new();
    let mut sprites: BTreeMap<String, (String, Value)> = BTreeMap::new();
    let mut were_up = BTreeSet::new();
    let mut most = 0;
    for change in history {
        let object = &change.object;
        let uid = object.metadata().uid.clone();
        let env = object.to_json()["spec"]["env"].take();
        let is_gone = change.kind == ChangeKind::Deleted;
        match object {
            AnyObject::Agent(_) if is_gone || object.metadata().is_deleting() => {
                agents.remove(&uid);
            }
            AnyObject::Agent(_) => {
                agents.insert(uid, env);
            }
            AnyObject::Sprite(sprite) => {
                sprites.remove(&uid);
                if !is_gone && sprite.status.conditions.is_true("Ready") {
                    let owner = sprite.metadata.controller().expect("a Sprite has an owner");
                    sprites.insert(uid, (owner.uid.clone(), env));
                }
            }
            _ => {}
        }
        let is_up = |(uid, env): &(&String, &Value)| {
            sprites.values().any(|(owner, of)| owner == *uid && of == *env)
        };
        let (up, out): (Vec<_>, Vec<_>) = agents.iter().partition(is_up);
        most = most.max(out.iter().filter(|(uid, _)| were_up.contains(*uid)).count());
        were_up.extend(up.into_iter().map(|(uid, _)| uid.clone()));
    }
    most
}

fn scenarios() -> Vec<Scenario> {
    let create = |object: AnyObject| (0, Wish::Create(object));
    let orphan = |object: &mut AnyObject| {
        object.metadata_mut().annotations.insert(ORPHAN.to_owned(), "true".to_owned());
    };
    vec![
        Scenario {
            name: "a fleet is made, changed, shrunk and deleted",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                create(bare(agents())),
                (
                    10,
                    Wish::Change(Kind::Fleet, "x", |object| {
                        rewrite(object, |spec| {
                            spec["template"]["spec"]["env"][0]["value"] = json!("2");
                        });
                    }),
                ),
                (
                    60,
                    Wish::Change(Kind::Fleet, "x", |object| {
                        rewrite(object, |spec| spec["generate"] = json!({"list": [{"n": "b"}]}));
                    }),
                ),
                (120, Wish::Delete(Kind::Fleet, "x")),
            ],
            length: 240,
        },
        Scenario {
            name: "a change while members are in a turn",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                create(agents()),
                (10, Wish::SayTo("m-a", "ta", "work 30")),
                (10, Wish::SayTo("m-b", "tb", "work 20")),
                (12, Wish::Change(Kind::Fleet, "x", |object| rewrite(object, second))),
            ],
            length: 180,
        },
        Scenario {
            name: "a member that somebody changed or deleted is put right",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                create(agents()),
                (
                    10,
                    Wish::Change(Kind::Agent, "m-a", |object| {
                        if let AnyObject::Agent(agent) = object {
                            // Not what a sprite is made of: how long it was so would count.
                            agent.spec.idle_timeout = Some(Span::from_secs(3600));
                        }
                    }),
                ),
                (60, Wish::Delete(Kind::Agent, "m-b")),
            ],
            length: 180,
        },
        Scenario {
            name: "a fleet of jobs runs each once, and another task once more",
            capacity: 4,
            author: same(short),
            edits: vec![
                create(jobs()),
                (
                    30,
                    Wish::Change(Kind::Fleet, "x", |object| {
                        rewrite(object, |spec| spec["template"]["spec"]["task"] = json!("two"));
                    }),
                ),
            ],
            length: 120,
        },
        Scenario {
            name: "a fleet goes and leaves its members",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                create(agents()),
                (10, Wish::Change(Kind::Fleet, "x", orphan)),
                (20, Wish::Delete(Kind::Fleet, "x")),
            ],
            length: 60,
        },
        Scenario {
            name: "a fleet is taken out of the store by hand and its heir has its members",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                create(agents()),
                (10, Wish::TakeOut(Kind::Fleet, "x")),
                (20, Wish::Create(heir())),
            ],
            length: 180,
        },
        Scenario {
            name: "too many members go with their directories, and a confirmation is good for once",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                create(repository()),
                create(of_directories()),
                (10, Wish::Change(Kind::Source, "repos", |source| holds(source, 1))),
                (
                    20,
                    Wish::Change(Kind::Fleet, "x", |object| {
                        let annotations = &mut object.metadata_mut().annotations;
                        // More than there are to go: it is for those alone, and for no others later.
                        annotations.insert(CONFIRM_DELETIONS.to_owned(), "99".to_owned());
                    }),
                ),
                (30, Wish::Change(Kind::Source, "repos", |source| holds(source, 12))),
                (40, Wish::Change(Kind::Source, "repos", |source| holds(source, 1))),
            ],
            length: 60,
        },
        Scenario {
            name: "each due minute makes a job, and the last ones are kept",
            capacity: 4,
            author: same(short),
            edits: vec![create(bare(schedule(|spec| {
                spec["successfulJobsHistoryLimit"] = json!(1);
            })))],
            length: 220,
        },
        Scenario {
            name: "a job makes way for the next",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                create(schedule(|spec| spec["concurrencyPolicy"] = json!("Replace"))),
                (150, Wish::Delete(Kind::Schedule, "x")),
            ],
            length: 240,
        },
        Scenario {
            name: "somebody asks for a run, and leaves it behind",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                create(schedule(|spec| spec["suspend"] = json!(true))),
                (
                    5,
                    Wish::Change(Kind::Schedule, "x", |object| {
                        let annotations = &mut object.metadata_mut().annotations;
                        annotations.insert(RUN_REQUESTED.to_owned(), "now".to_owned());
                    }),
                ),
                (20, Wish::Change(Kind::Schedule, "x", orphan)),
                (30, Wish::Delete(Kind::Schedule, "x")),
            ],
            length: 100,
        },
    ]
}

/// The end, without what depends on uids that are drawn and on the second at which something ended.
fn end(played: &Played) -> String {
    let mut end = played.end.clone();
    strip(&mut end);
    let text = serde_json::to_string_pretty(&end).expect("it is JSON");
    // A sprite's name has a hash of its owner's uid in front of its number.
    let lines = text.lines().map(|line| {
        let Some((front, number)) = line.rsplit_once('-') else { return line.to_owned() };
        let digits = number.trim_end_matches([',', '"']);
        let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        match front.rsplit_once('-') {
            Some((owner, hash)) if is_number && hash.len() == 6 => format!("{owner}-HASH-{number}"),
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("lastSuccessfulTime");
            members.remove("countedFrom");
            // Of runs that are not generated any more.
            members.remove("until");
            // When a field was written last.
            members.remove("managedFields");
            members.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[test]
fn every_step_is_listed_and_every_listed_step_is_taken() {
    let taken: BTreeSet<&str> = scenarios()
        .iter()
        .flat_map(|scenario| play(scenario, &[]).steps)
        .filter(|step| is_ours(step))
        .collect();
    assert_eq!(taken, BTreeSet::from(STEPS));
}

#[test]
fn no_more_members_are_out_than_may_be_whatever_fails_and_whoever_works() {
    for scenario in scenarios().into_iter().take(3) {
        let dry = play(&scenario, &[]);
        assert!(most_out(&dry.history) <= 1, "{}", scenario.name);
        for n in (0..dry.steps.len()).filter(|n| is_ours(dry.steps[*n])) {
            let played = play(&scenario, &[(n, Mode::CrashAfter)]);
            assert!(most_out(&played.history) <= 1, "{} and {}", scenario.name, dry.steps[n]);
        }
    }
}

#[test]
fn a_template_that_cannot_start_takes_one_member_out_also_while_all_of_them_work() {
    let scenario = Scenario {
        name: "a bad template while members are in a turn",
        capacity: 4,
        author: Arc::new(|sprite| {
            let value = sprite.spec.env.first().and_then(|variable| variable.value.clone());
            Script { unstartable: value.as_deref() == Some("2"), ..diligent() }
        }),
        edits: vec![
            (0, Wish::Create(agents())),
            (10, Wish::SayTo("m-a", "ta", "work 30")),
            (10, Wish::SayTo("m-b", "tb", "work 40")),
            (12, Wish::Change(Kind::Fleet, "x", |object| rewrite(object, second))),
        ],
        length: 300,
    };
    let played = play(&scenario, &[]);
    assert_eq!(most_out(&played.history), 1);
    let all = played.end.as_array().expect("a list of objects");
    let of = |kind: &str, name: &str| {
        let found = all.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
        found.unwrap_or_else(|| panic!("there is no {kind} {name}")).clone()
    };
    assert_eq!(of("Agent", "m-a")["spec"]["env"][0]["value"], "2");
    let other = of("Agent", "m-b");
    assert_eq!(other["spec"]["env"][0]["value"], "1", "it was not touched");
    assert_eq!(other["status"]["turns"]["done"], 1, "and has answered");
    let conditions = of("Fleet", "x")["status"]["conditions"].clone();
    let stalled =
        conditions.as_array().expect("conditions").iter().find(|it| it["type"] == "Stalled");
    let stalled = stalled.expect("it is stalled");
    assert_eq!(stalled["reason"], "MemberFailed");
    let message = stalled["message"].as_str().expect("a text");
    assert!(message.starts_with("agent/m-a: BackingOff"), "{message}");
    assert!(message.ends_with("; 1 more waits to be changed"), "{message}");
}

#[test]
fn scenarios_end_like_this() {
    for scenario in scenarios() {
        let name = scenario.name.replace([' ', ','], "_");
        insta::assert_snapshot!(name, end(&play(&scenario, &[])));
    }
}

/// How often each Agent and each Job was made, of all that was ever written.
fn made(played: &Played) -> BTreeMap<(Kind, &str), usize> {
    let mut made = BTreeMap::new();
    for change in played.history.iter().filter(|change| change.kind == ChangeKind::Added) {
        let (kind, name) = (change.object.kind(), change.object.metadata().name.as_str());
        if matches!(kind, Kind::Agent | Kind::Job) {
            *made.entry((kind, name)).or_default() += 1;
        }
    }
    made
}

#[test]
fn who_is_inherited_stays_who_it_is_and_belongs_to_the_heir() {
    let is_it = |scenario: &Scenario| scenario.name.contains("its heir");
    let scenario = scenarios().into_iter().find(is_it).expect("it is there");
    let dry = play(&scenario, &[]);
    for n in (0..dry.steps.len()).filter(|n| is_ours(dry.steps[*n])) {
        for mode in MODES {
            let case = format!("{mode:?} at step {n}, {}", dry.steps[n]);
            let played = play(&scenario, &[(n, mode)]);
            let of = |name: &'static str| {
                let agents = played.history.iter().map(|change| &change.object);
                agents
                    .filter(move |it| it.kind() == Kind::Agent && it.metadata().name == name)
                    .map(|it| (&it.metadata().uid, it.metadata().controller().map(|it| &*it.uid)))
            };
            let (uid, owner) = of("m-b").next_back().expect("it was made");
            assert_eq!(owner, Some(HEIR), "{case}");
            assert!(of("m-b").all(|(other, _)| other == uid), "{case}: it is another one");
            assert!(played.end.to_string().contains("m-c"), "{case}");
            assert!(!played.end.to_string().contains("m-a"), "{case}");
        }
    }
}

/// Somebody who speaks to a member in the very moment before it is pruned.
struct Speaker {
    store: Arc<dyn Store>,
    turn: Mutex<Option<Turn>>,
}

#[async_trait]
impl Steps for Speaker {
    async fn before(&self, step: &'static str) -> Result<(), Fault> {
        if step == "fleet.prune-members" {
            let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(turn) = turn {
                commit(&self.store, Op::AddTurn(turn)).await;
            }
        }
        Ok(())
    }

    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
}

async fn commit(store: &Arc<dyn Store>, op: Op) {
    let transaction = Transaction::at(Timestamp::UNIX_EPOCH).with(op);
    store.apply(transaction).await.expect("a person may write at any time");
}

/// Lets Fleets alone look until they rest; answers how often somebody was faster.
async fn look(store: &Arc<dyn Store>, turn: Option<Turn>) -> usize {
    let steps = Arc::new(Speaker { store: store.clone(), turn: Mutex::new(turn) });
    let ambient = Ambient { steps, ..Ambient::real() };
    let directories = Arc::new(NoSources);
    let fleets = FleetController::new(store.clone(), ambient, Defaults::default(), directories);
    let mut conflicts = 0;
    for _ in 0..20 {
        match fleets.reconcile("uid of x").await {
            Ok(Next::Done) => return conflicts,
            Ok(_) => {}
            Err(Error::Conflict) => conflicts += 1,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it does not come to rest");
}

/// Nobody but the Fleet looks here: so of what is said to an Agent only the turns' ledger tells.
#[tokio::test]
async fn whoever_speaks_to_a_member_before_it_is_pruned_or_at_that_moment_is_heard() {
    for at_that_moment in [false, true] {
        let store: Arc<dyn Store> = MemoryStore::new();
        commit(&store, Op::Create(agents())).await;
        look(&store, None).await;
        let member =
            async || store.get(Kind::Agent, "m-a").await.expect("readable").expect("it is there");
        let uid = member().await.metadata().uid.clone();
        let turn = Turn::queued("t", uid, "work", "ada", Timestamp::UNIX_EPOCH);
        let mut object = store.get(Kind::Fleet, "x").await.expect("readable").expect("it is there");
        rewrite(&mut object, |spec| spec["generate"] = json!({"list": [{"n": "b"}]}));
        let smaller = Op::Write { object, part: Part::Desired, expect: Expect::SameVersion };
        commit(&store, smaller).await;
        if !at_that_moment {
            commit(&store, Op::AddTurn(turn.clone())).await;
        }
        let conflicts = look(&store, at_that_moment.then(|| turn.clone())).await;
        assert_eq!(conflicts, usize::from(at_that_moment), "it is not tried in vain");
        assert!(!member().await.metadata().is_deleting(), "at that moment: {at_that_moment}");
        let ended = Turn { state: TurnState::Cancelled, ..turn };
        commit(&store, Op::MoveTurn { from: vec![TurnState::Queued], turn: ended }).await;
        look(&store, None).await;
        assert!(member().await.metadata().is_deleting(), "nobody waits for it any more");
    }
}

/// Whether a step is one of a Fleet or a Schedule; `crash_steps.rs` has those of all others.
fn is_ours(step: &str) -> bool {
    step.starts_with("fleet.") || step.starts_with("schedule.")
}

#[test]
fn a_fault_at_any_step_ends_in_the_same_state() {
    for scenario in scenarios() {
        let dry = play(&scenario, &[]);
        for n in (0..dry.steps.len()).filter(|n| is_ours(dry.steps[*n])) {
            for mode in MODES {
                let case = format!("{}: {mode:?} at step {n}, {}", scenario.name, dry.steps[n]);
                println!("{case}");
                let played = play(&scenario, &[(n, mode)]);
                assert!(played.fired, "{case}: the fault did not happen");
                assert_eq!(end(&played), end(&dry), "{case}");
                assert_eq!(made(&played), made(&dry), "{case}");
            }
        }
    }
}

/// Over SQLite keys may pass each other; what it can spoil is what it has committed.
#[test]
fn a_fault_after_any_step_ends_in_the_same_state_over_sqlite_too() {
    std::thread::scope(|scope| {
        for scenario in scenarios() {
            scope.spawn(move || {
                let name = scenario.name;
                let dry = play(&scenario, &[]);
                for n in (0..dry.steps.len()).filter(|n| is_ours(dry.steps[*n])) {
                    let case = format!("{name}: a crash after step {n}, {}", dry.steps[n]);
                    println!("{case}");
                    let played = play_on_disk(&scenario, &[(n, Mode::CrashAfter)]);
                    assert!(played.fired || played.steps.len() <= n, "{case}: it did not happen");
                    assert_eq!(end(&played), end(&dry), "{case}");
                    assert_eq!(made(&played), made(&dry), "{case}");
                }
            });
        }
    });
}

/// Looks, as soon as a Job was made, whether its Schedule says that its minute was begun.
struct Witness {
    store: Arc<dyn Store>,
    seen: Mutex<Vec<Value>>,
}

#[async_trait]
impl Steps for Witness {
    async fn before(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }

    async fn after(&self, step: &'static str) -> Result<(), Fault> {
        if step == "schedule.create-job" {
            let found = self.store.get(Kind::Schedule, "x").await.expect("readable");
            let noted = found.expect("it is there").to_json()["status"]["lastScheduleTime"].take();
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
        }
        Ok(())
    }
}

/// Else a server that dies between the two would begin the minute again once its Job is gone.
#[tokio::test]
async fn a_job_and_the_note_of_its_minute_are_one_commit() {
    let store: Arc<dyn Store> = MemoryStore::new();
    commit(&store, Op::Create(schedule(|_| {}))).await;
    let witness = Arc::new(Witness { store: store.clone(), seen: Mutex::default() });
    let clock = Arc::new(ManualClock::at("1970-01-01T00:01:05Z".parse().expect("a time")));
    let ambient = Ambient { clock, steps: witness.clone(), ..Ambient::real() };
    let schedules = ScheduleController::new(store.clone(), ambient, Defaults::default());
    schedules.reconcile("uid of x").await.expect("it looks");
    let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(seen, ["1970-01-01T00:01:00Z"]);
}
