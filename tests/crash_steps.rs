//! Crash, error, or a lost answer at every named step of every scenario ends in the same state.
//!
//! A dry pass of a scenario records the steps that it takes. Then, for each of them and each kind
//! of fault, a fresh world goes through the same scenario and has the fault there; after a crash
//! all memory is dropped, and a new engine goes on over the same store and the same processes.
//! The end must be the same as without the fault, with never two live agents for one owner,
//! nothing left behind, every exit told once, and nothing left to write.

#[path = "support/fake_runtime.rs"]
mod fake_runtime;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fake_runtime::{Author, Beat, Script, World};
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock as _, ManualClock, Mode, ScriptedSteps, SeededIds},
    reconcile::{
        Engine, EngineHandle,
        controllers::{AdmissionController, AgentController, JobController, SpriteController},
    },
    resource::{
        Agent, AgentCli, AgentSpec, AnyObject, CommandCli, FINALIZER_SPRITES, Job, JobSpec, Kind,
        Permissions, RuntimeSpec, Span,
    },
    runtime::Runtime,
    store::{
        ApprovalState, ChangeKind, Cursor, Expect, Op, Part, Store, Transaction,
        memory::MemoryStore, sqlite::SqliteStore,
    },
};
use serde_json::Value;
use sprite_reporter::wire::EventBody;

/// Every step that the engine and the controllers take in the scenarios below. A new one must be
/// added here, and be reached by a scenario.
const STEPS: [&str; 28] = [
    "admission.admit",
    "admission.tell-to-wait",
    "agent.add-finalizer",
    "agent.create-sprite",
    "agent.delete-sprite",
    "agent.drop-finalizer",
    "agent.stop-sprite",
    "agent.write-status",
    "engine.forget-backoff",
    "engine.keep-backoff",
    "job.add-finalizer",
    "job.create-sprite",
    "job.delete",
    "job.delete-sprite",
    "job.drop-finalizer",
    "job.stop-sprite",
    "job.write-status",
    "sprite.answer",
    "sprite.clean",
    "sprite.close-approval",
    "sprite.kill",
    "sprite.let-go",
    "sprite.order-stop",
    "sprite.record-stall",
    "sprite.record-start-failure",
    "sprite.recover",
    "sprite.start",
    "sprite.write-status",
];

/// The steps that call a runtime; all others commit.
const HANDS: [(&str, &str); 4] = [
    ("sprite.start", "start"),
    ("sprite.recover", "recover"),
    ("sprite.kill", "kill"),
    ("sprite.clean", "clean"),
];

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

/// What a person does, and when, in seconds since the start.
type Edit = (u64, fn() -> Wish);

enum Wish {
    Create(AnyObject),
    Change(Kind, &'static str, fn(&mut AnyObject)),
    Delete(Kind, &'static str),
    /// Says yes to whatever waits.
    Approve,
}

/// One scenario.
#[derive(Clone)]
struct Scenario {
    name: &'static str,
    capacity: usize,
    author: Author,
    edits: Vec<Edit>,
    /// How long it takes, in seconds.
    length: u64,
}

fn job(name: &str, change: impl FnOnce(&mut JobSpec)) -> AnyObject {
    let mut spec = JobSpec::new("true", AgentCli::Command(CommandCli::default()));
    change(&mut spec);
    let mut job = Job::new(name, spec);
    job.metadata.uid = format!("uid of {name}");
    job.metadata.finalizers = vec![FINALIZER_SPRITES.to_owned()];
    job.into()
}

fn agent(name: &str) -> AnyObject {
    let spec = AgentSpec {
        agent: AgentCli::Command(CommandCli::default()),
        runtime: RuntimeSpec::default(),
        repo: None,
        channels: Vec::new(),
        instructions: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        suspend: false,
        idle_timeout: None,
        turn_timeout: None,
        budget: None,
    };
    let mut agent = Agent::new(name, spec);
    agent.metadata.uid = format!("uid of {name}");
    agent.metadata.finalizers = vec![FINALIZER_SPRITES.to_owned()];
    agent.into()
}

fn beats(beats: &[(u64, Beat)]) -> Script {
    Script { beats: beats.to_vec(), ..Script::default() }
}

/// Says hello and works on for an hour.
fn diligent() -> Script {
    beats(&[
        (100, Beat::Hello),
        (150, Beat::Ready),
        (200, Beat::Line("at work\n")),
        (3_600_000, Beat::Exit(0)),
    ])
}

/// Prints two lines and ends well.
fn short() -> Script {
    beats(&[
        (100, Beat::Hello),
        (200, Beat::Line("one\n")),
        (300, Beat::Line("two\n")),
        (1000, Beat::Exit(0)),
    ])
}

fn same(script: fn() -> Script) -> Author {
    Arc::new(move |_| script())
}

fn cancel() -> Wish {
    Wish::Change(Kind::Job, "a", |object| {
        if let AnyObject::Job(job) = object {
            job.spec.cancel = true;
        }
    })
}

fn change_agent(change: fn(&mut AnyObject)) -> Wish {
    Wish::Change(Kind::Agent, "bot", change)
}

fn suspend() -> Wish {
    change_agent(|object| {
        if let AnyObject::Agent(agent) = object {
            agent.spec.suspend = true;
        }
    })
}

fn resume() -> Wish {
    change_agent(|object| {
        if let AnyObject::Agent(agent) = object {
            agent.spec.suspend = false;
        }
    })
}

fn instruct() -> Wish {
    change_agent(|object| {
        if let AnyObject::Agent(agent) = object {
            agent.spec.instructions = Some("Be brief.".to_owned());
        }
    })
}

fn scenarios() -> Vec<Scenario> {
    let create: Edit = (0, || Wish::Create(job("a", |_| {})));
    vec![
        Scenario {
            name: "a job runs to success",
            capacity: 4,
            author: same(short),
            edits: vec![create],
            length: 100,
        },
        Scenario {
            name: "a job without a finalizer gets one",
            capacity: 4,
            author: same(short),
            edits: vec![(0, || {
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
            edits: vec![(0, || Wish::Create(job("a", |spec| spec.retries = 1)))],
            length: 100,
        },
        Scenario {
            name: "a job that always fails fails in the end",
            capacity: 4,
            author: same(|| beats(&[(100, Beat::Hello), (500, Beat::Exit(3))])),
            edits: vec![(0, || Wish::Create(job("a", |spec| spec.retries = 1)))],
            length: 100,
        },
        Scenario {
            name: "a running job is cancelled",
            capacity: 4,
            author: same(diligent),
            edits: vec![create, (5, cancel)],
            length: 200,
        },
        Scenario {
            name: "a stubborn agent is killed",
            capacity: 4,
            author: same(|| Script { stubborn: true, ..diligent() }),
            edits: vec![create, (5, cancel)],
            length: 200,
        },
        Scenario {
            name: "a job that waits is cancelled and never starts",
            capacity: 0,
            author: same(diligent),
            edits: vec![create, (5, cancel)],
            length: 100,
        },
        Scenario {
            name: "a job times out by its reporter",
            capacity: 4,
            author: same(|| beats(&[(100, Beat::Hello), (10_000, Beat::TimeOut)])),
            edits: vec![(0, || {
                Wish::Create(job("a", |spec| spec.timeout = Some(Span::from_secs(10))))
            })],
            length: 200,
        },
        Scenario {
            name: "a job whose reporter forgets the time is ended by its owner",
            capacity: 4,
            author: same(diligent),
            edits: vec![(0, || {
                Wish::Create(job("a", |spec| spec.timeout = Some(Span::from_secs(10))))
            })],
            length: 300,
        },
        Scenario {
            name: "an agent asks, and goes on when it is told yes",
            capacity: 4,
            author: same(|| beats(&[(100, Beat::Hello), (200, Beat::Ask("r"))])),
            edits: vec![create, (50, || Wish::Approve)],
            length: 100,
        },
        Scenario {
            name: "a sprite vanishes while it asks, and the question is withdrawn",
            capacity: 4,
            author: same(|| {
                beats(&[(100, Beat::Hello), (200, Beat::Ask("r")), (500, Beat::Vanish)])
            }),
            edits: vec![create],
            length: 300,
        },
        Scenario {
            name: "a job is deleted while it runs",
            capacity: 4,
            author: same(diligent),
            edits: vec![create, (5, || Wish::Delete(Kind::Job, "a"))],
            length: 200,
        },
        Scenario {
            name: "a finished job goes when its time to live is over",
            capacity: 4,
            author: same(short),
            edits: vec![(0, || {
                Wish::Create(job("a", |spec| spec.ttl_after_finished = Some(Span::from_secs(60))))
            })],
            length: 200,
        },
        Scenario {
            name: "a job whose agent cannot be started fails",
            capacity: 4,
            author: same(|| Script { unstartable: true, ..Script::default() }),
            edits: vec![create],
            length: 100,
        },
        Scenario {
            name: "a reporter dies, and its agent is not left alone",
            capacity: 4,
            author: same(|| {
                beats(&[(100, Beat::Hello), (200, Beat::Line("one\n")), (300, Beat::LoseReporter)])
            }),
            edits: vec![create],
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
            edits: vec![create],
            length: 300,
        },
        Scenario {
            name: "a sprite vanishes in the middle, and the gap is told",
            capacity: 4,
            author: same(|| beats(&[(100, Beat::Hello), (500, Beat::Vanish)])),
            edits: vec![create],
            length: 300,
        },
        Scenario {
            name: "a runtime that fails at first is tried again",
            capacity: 4,
            author: same(|| Script { failures: 4, ..short() }),
            edits: vec![create],
            length: 300,
        },
        Scenario {
            name: "a sprite that cannot be looked after at first is looked after later",
            capacity: 4,
            author: same(|| Script {
                stalls: 2,
                ..beats(&[(100, Beat::Hello), (300, Beat::LoseReporter)])
            }),
            edits: vec![create],
            length: 300,
        },
        Scenario {
            name: "three jobs share one slot",
            capacity: 1,
            author: same(short),
            edits: vec![
                (0, || Wish::Create(job("a", |_| {}))),
                (0, || Wish::Create(job("b", |_| {}))),
                (0, || Wish::Create(job("c", |_| {}))),
            ],
            length: 100,
        },
        Scenario {
            name: "an agent is suspended and resumed and deleted",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                (0, || Wish::Create(agent("bot"))),
                (5, suspend),
                (50, resume),
                (100, || Wish::Delete(Kind::Agent, "bot")),
            ],
            length: 300,
        },
        Scenario {
            name: "a changed agent gets a new sprite",
            capacity: 4,
            author: same(diligent),
            edits: vec![
                (0, || {
                    let mut agent = agent("bot");
                    agent.metadata_mut().finalizers.clear();
                    Wish::Create(agent)
                }),
                (5, instruct),
            ],
            length: 200,
        },
    ]
}

fn scenario(name: &str) -> Scenario {
    let known = scenarios().into_iter().find(|scenario| scenario.name == name);
    known.unwrap_or_else(|| panic!("there is no scenario {name}"))
}

/// A scenario on its way: what outlives the server.
struct Stage {
    scenario: Scenario,
    clock: Arc<ManualClock>,
    store: Arc<dyn Store>,
    /// The same store, where it lies on disk, and its directory.
    disk: Option<(Arc<SqliteStore>, PathBuf)>,
    world: Arc<World>,
    ids: Arc<SeededIds>,
    person_writes: u64,
    conflicts: u64,
}

/// How a scenario went.
struct Played {
    /// The steps of the first life.
    steps: Vec<&'static str>,
    /// Whether the fault of the first life happened.
    fired: bool,
    /// The end, without what differs from one time to the next.
    end: Value,
}

impl Stage {
    fn new(scenario: &Scenario, store: Arc<dyn Store>) -> Self {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let clock = Arc::new(ManualClock::at(start));
        let world = World::new(clock.clone(), scenario.capacity, scenario.author.clone());
        Self {
            scenario: scenario.clone(),
            clock,
            store,
            disk: None,
            world,
            ids: Arc::new(SeededIds::new(7)),
            person_writes: 0,
            conflicts: 0,
        }
    }

    async fn on_disk(scenario: &Scenario, dir: &Path) -> Self {
        let store = SqliteStore::open(dir, Ambient::real()).await.expect("it opens");
        let disk = Some((store.clone(), dir.to_owned()));
        Self { disk, ..Self::new(scenario, store) }
    }

    /// What the store's process knew is gone; what is on disk is not.
    async fn reopen(&mut self) {
        let Some((store, dir)) = &mut self.disk else { return };
        store.close().await;
        *store = SqliteStore::open(dir, Ambient::real()).await.expect("it opens again");
        self.store = store.clone();
    }

    async fn engine(&self, steps: Arc<ScriptedSteps>) -> EngineHandle {
        let ambient = Ambient { clock: self.clock.clone(), ids: self.ids.clone(), steps };
        let store = || Arc::clone(&self.store);
        let runtime: Arc<dyn Runtime> = self.world.clone();
        let tokens = Arc::new(|uid: &str| format!("token of {uid}"));
        let mut engine = Engine::new(store(), ambient.clone());
        engine.add(Arc::new(JobController::new(store(), ambient.clone())));
        engine.add(Arc::new(AgentController::new(store(), ambient.clone())));
        engine.add(Arc::new(AdmissionController::new(
            store(),
            ambient.clone(),
            vec![runtime.clone()],
        )));
        engine.add(Arc::new(SpriteController::new(store(), ambient, runtime, tokens)));
        engine.start().await.expect("the engine starts")
    }

    /// The answer to what waits for one.
    async fn yes(&self) -> Op {
        for uid in self.world.left() {
            let rows = self.store.approvals(&uid).await.expect("the store can be read");
            if let Some(row) = rows.iter().find(|row| row.state == ApprovalState::Pending) {
                return Op::ResolveApproval {
                    sprite_uid: uid,
                    run: row.run,
                    request: row.request.clone(),
                    state: ApprovalState::Allowed,
                    by: "ada".to_owned(),
                    message: String::new(),
                    answers: std::collections::BTreeMap::new(),
                };
            }
        }
        panic!("nothing waits for an answer");
    }

    async fn wish(&mut self, wish: Wish) {
        let op = match wish {
            Wish::Approve => self.yes().await,
            Wish::Create(object) => Op::Create(object),
            Wish::Delete(kind, name) => {
                Op::Delete { kind, name: name.to_owned(), uid: None, resource_version: None }
            }
            Wish::Change(kind, name, change) => {
                let object = self.store.get(kind, name).await.expect("the store can be read");
                let mut object = object.expect("what a person changes is there");
                change(&mut object);
                Op::Write { object, part: Part::Desired, expect: Expect::Any }
            }
        };
        let applied = self.store.apply(Transaction::at(self.clock.now()).with(op)).await;
        self.person_writes += u64::from(applied.expect("a wish is taken").changed);
    }

    /// Plays the scenario to its end, with a fault in each of the first lives.
    async fn play(&mut self, faults: &[(usize, Mode)]) -> Played {
        let mut faults = faults.iter().copied();
        let mut lives = vec![Arc::new(ScriptedSteps::new(faults.next()))];
        let mut engine = self.engine(lives[0].clone()).await;
        let mut edits = self.scenario.edits.clone().into_iter().peekable();
        let length = Duration::from_secs(self.scenario.length);
        loop {
            engine.idle().await;
            if engine.has_crashed() {
                drop(engine);
                self.reopen().await;
                let steps = Arc::new(ScriptedSteps::new(faults.next()));
                lives.push(steps.clone());
                engine = self.engine(steps).await;
                continue;
            }
            if self.world.pass(&self.store).await {
                continue;
            }
            let now = self.clock.elapsed();
            if edits.peek().is_some_and(|(at, _)| Duration::from_secs(*at) <= now) {
                let (_, wish) = edits.next().expect("peeked");
                self.wish(wish()).await;
                continue;
            }
            let edit = edits.peek().map(|(at, _)| Duration::from_secs(*at).saturating_sub(now));
            let next = [engine.next_timer(), self.world.next_beat(), edit];
            let next = next.into_iter().flatten().min().unwrap_or(length);
            if now + next > length {
                break;
            }
            self.clock.advance(next.max(Duration::from_millis(1)));
        }
        self.conflicts = engine.stats().iter().map(|(_, stats)| stats.conflicts).sum();
        engine.stop().await;
        let (_, ended) = lives.split_last().expect("there was one life");
        assert!(ended.iter().all(|steps| steps.has_fired()), "a life ends by its fault alone");
        let (steps, fired) = (lives[0].passed(), lives[0].has_fired());
        self.check_effects(&lives).await;
        self.check_history().await;
        self.check_rest().await;
        Played { steps, fired, end: self.end().await }
    }

    /// No rule was broken, and every effect passed a step.
    async fn check_effects(&self, lives: &[Arc<ScriptedSteps>]) {
        assert_eq!(self.world.broken(), Vec::<String>::new());
        if lives.len() == 1 && !lives[0].has_fired() {
            let passed = lives[0].passed();
            let is_hand = |step: &&&str| HANDS.iter().any(|(hand, _)| *hand == **step);
            let hands: Vec<&str> = passed
                .iter()
                .filter_map(|step| HANDS.iter().find(|(hand, _)| hand == step))
                .map(|(_, call)| *call)
                .collect();
            assert_eq!(hands, self.world.calls(), "every call of a runtime passes a step");
            let commits = passed.iter().filter(|step| !is_hand(step)).count() as u64;
            let others = self.person_writes + self.world.writes();
            // A commit that met another writer passed its step and wrote nothing; in memory, where
            // nothing waits, none does.
            let lost: u64 = self.conflicts;
            assert_eq!(commits + others, self.store.writes() + lost, "every commit passes a step");
        }
    }

    /// At no revision was there a Sprite without its owner, or a second one of an owner before the
    /// first was over; and each was made together with its owner's note of its number.
    async fn check_history(&self) {
        let changes = self.store.changes(0, usize::MAX).await.expect("nothing was compacted");
        let mut there: BTreeMap<String, AnyObject> = BTreeMap::new();
        let mut noted: Option<(String, u32)> = None;
        for change in changes {
            let uid = change.object.metadata().uid.clone();
            if let Some((owner, number)) = noted.take() {
                let incarnation = match &change.object {
                    AnyObject::Job(job) => job.status.incarnation,
                    AnyObject::Agent(agent) => agent.status.incarnation,
                    AnyObject::Sprite(_) => 0,
                };
                assert_eq!((&uid, incarnation), (&owner, number), "the owner notes the number");
            }
            if let (ChangeKind::Added, AnyObject::Sprite(sprite)) = (change.kind, &change.object) {
                let owner = sprite.metadata.controller().expect("a Sprite has an owner");
                noted = Some((owner.uid.clone(), sprite.spec.attempt));
            }
            match change.kind {
                ChangeKind::Deleted => there.remove(&uid),
                ChangeKind::Added | ChangeKind::Modified => there.insert(uid, change.object),
            };
            let mut busy = BTreeSet::new();
            for sprite in there.values().cloned().filter_map(AnyObject::into_sprite) {
                let owner = &sprite.metadata.controller().expect("a Sprite has an owner").uid;
                let (name, now) = (&sprite.metadata.name, change.revision);
                assert!(there.contains_key(owner), "{name} has outlived its owner at {now}");
                let conditions = &sprite.status.conditions;
                let is_over = conditions.is_true("Gone") && conditions.is_true("Drained");
                assert!(is_over || busy.insert(owner.clone()), "{name} came too early, at {now}");
            }
        }
    }

    /// One more reconcile of everything, by an engine that knows nothing, does nothing.
    async fn check_rest(&self) {
        let before = (self.store.writes(), self.world.calls().len());
        let engine = self.engine(Arc::new(ScriptedSteps::new(None))).await;
        engine.idle().await;
        for kind in Kind::ALL {
            for object in self.store.list(kind, None, 1000).await.expect("readable").items {
                let uid = &object.metadata().uid;
                engine.wake(kind.singular(), uid, open_dispatch::reconcile::Wake::User);
            }
        }
        engine.idle().await;
        engine.stop().await;
        let after = (self.store.writes(), self.world.calls().len());
        assert_eq!(before, after, "a converged world is left alone");
    }

    /// Everything that is there at the end, without uids, versions and times.
    async fn end(&self) -> Value {
        let mut end = Vec::new();
        let mut held = BTreeSet::new();
        for kind in Kind::ALL {
            for object in self.store.list(kind, None, 1000).await.expect("readable").items {
                if kind == Kind::Sprite {
                    let uid = object.metadata().uid.clone();
                    let rows = self
                        .store
                        .output(&uid, Cursor::default(), usize::MAX)
                        .await
                        .expect("readable");
                    let exits =
                        rows.iter().filter(|row| matches!(row.event.body, EventBody::Exit(_)));
                    assert!(exits.count() <= 1, "an exit is told once");
                    let lines: Vec<u64> = rows.iter().map(|row| row.event.seq).collect();
                    end.push(Value::from(lines));
                    if !object.metadata().finalizers.is_empty() {
                        held.insert(uid);
                    }
                }
                end.push(plain(object.to_json()));
            }
        }
        let left: BTreeSet<String> = self.world.left().into_iter().collect();
        assert!(left.is_subset(&held), "nothing is left behind by who was let go");
        Value::from(end)
    }
}

/// An object without what differs from one time to the next.
fn plain(mut value: Value) -> Value {
    const PASSING: [&str; 9] = [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "lastTransitionTime",
        "startTime",
        "completionTime",
        "helloTime",
        "observedGeneration",
    ];
    match &mut value {
        Value::Object(members) => {
            members.retain(|name, _| !PASSING.contains(&name.as_str()));
            for (name, member) in members.iter_mut() {
                *member = plain(member.take());
                if name == "status"
                    && let Value::Object(status) = member
                {
                    // A process that nobody looked at while it lived was not seen.
                    status.remove("local");
                }
                if name == "conditions"
                    && let Value::Array(conditions) = member
                {
                    conditions.sort_by_key(|condition| condition["type"].to_string());
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = plain(item.take());
            }
        }
        _ => {}
    }
    value
}

/// Plays a scenario in a runtime of its own, where tasks take turns in a fixed order.
fn play(scenario: &Scenario, faults: &[(usize, Mode)]) -> Played {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(async { Stage::new(scenario, MemoryStore::new()).play(faults).await })
}

/// The same over a store on disk, made anew.
fn play_on_disk(scenario: &Scenario, faults: &[(usize, Mode)]) -> Played {
    let dir = tempfile::tempdir().expect("a directory");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { Stage::on_disk(scenario, dir.path()).await.play(faults).await })
}

const MODES: [Mode; 4] = [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter];

#[test]
fn every_step_is_listed_and_every_listed_step_is_taken() {
    let taken: BTreeSet<&str> =
        scenarios().iter().flat_map(|scenario| play(scenario, &[]).steps).collect();
    assert_eq!(taken, BTreeSet::from(STEPS));
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
    std::thread::scope(|scope| {
        for (name, _) in JOURNEYS {
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
