//! A scenario and its stage: a store and a world of processes that outlive the server, people who
//! want things at fixed times, and engines that live until a scripted fault ends them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock as _, Fault, ManualClock, Mode, ScriptedSteps, SeededIds, Steps},
    reconcile::{
        Engine, EngineHandle,
        controllers::{
            AdmissionController, AgentController, Directories, FleetController, JobController,
            ScheduleController, SpriteController,
        },
    },
    resource::{
        Agent, AgentCli, AgentSpec, AnyObject, CommandCli, Defaults, FINALIZER_SPRITES, Job,
        JobSpec, Kind, Permissions, RuntimeSpec,
    },
    runtime::Runtime,
    store::{
        ApprovalState, Change, ChangeKind, Cursor, Expect, Grant, Op, Part, Store, Transaction,
        Turn, TurnState, memory::MemoryStore, sqlite::SqliteStore,
    },
};
use serde_json::{Value, json};
use sprite_reporter::wire::EventBody;

use crate::fake_runtime::{Author, Beat, Script, World};

/// The uid of the one Agent of a scenario.
const BOT: &str = "uid of bot";

/// The steps that call a runtime; all others commit.
pub const HANDS: [(&str, &str); 4] = [
    ("sprite.start", "start"),
    ("sprite.recover", "recover"),
    ("sprite.kill", "kill"),
    ("sprite.clean", "clean"),
];

/// How an object is changed.
pub type Deed = fn(&mut AnyObject);

/// What a person does, and when, in seconds since the start.
pub type Edit = (u64, Wish);

#[derive(Debug, Clone)]
pub enum Wish {
    Create(AnyObject),
    Change(Kind, &'static str, fn(&mut AnyObject)),
    Delete(Kind, &'static str),
    /// Takes an object out of the store past everybody who holds it, as no server would.
    TakeOut(Kind, &'static str),
    /// Says yes to whatever waits.
    Approve,
    /// Says yes to it, and to all like it from now on.
    Always,
    /// Says something to the Agent, under an id.
    Say(String, String),
    /// Says something to an Agent of this name, under an id.
    SayTo(&'static str, &'static str, &'static str),
    /// Cancels a turn, wherever it stands.
    Cancel(String),
}

/// One scenario.
#[derive(Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub capacity: usize,
    pub author: Author,
    pub edits: Vec<Edit>,
    /// How long it takes, in seconds.
    pub length: u64,
}

pub fn job(name: &str, change: impl FnOnce(&mut JobSpec)) -> AnyObject {
    let mut spec = JobSpec::new("true", AgentCli::Command(CommandCli::default()));
    change(&mut spec);
    let mut job = Job::new(name, spec);
    job.metadata.uid = format!("uid of {name}");
    job.metadata.finalizers = vec![FINALIZER_SPRITES.to_owned()];
    job.into()
}

pub fn agent(name: &str) -> AnyObject {
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

pub fn beats(beats: &[(u64, Beat)]) -> Script {
    Script { beats: beats.to_vec(), ..Script::default() }
}

/// Says hello and works on for an hour.
pub fn diligent() -> Script {
    beats(&[
        (100, Beat::Hello),
        (150, Beat::Ready),
        (200, Beat::Line("at work\n")),
        (3_600_000, Beat::Exit(0)),
    ])
}

/// Prints two lines and ends well.
pub fn short() -> Script {
    beats(&[
        (100, Beat::Hello),
        (200, Beat::Line("one\n")),
        (300, Beat::Line("two\n")),
        (1000, Beat::Exit(0)),
    ])
}

pub fn same(script: fn() -> Script) -> Author {
    Arc::new(move |_| script())
}

pub fn change_agent(change: fn(&mut AnyObject)) -> Wish {
    Wish::Change(Kind::Agent, "bot", change)
}

pub fn suspend() -> Wish {
    change_agent(|object| {
        if let AnyObject::Agent(agent) = object {
            agent.spec.suspend = true;
        }
    })
}

pub fn resume() -> Wish {
    change_agent(|object| {
        if let AnyObject::Agent(agent) = object {
            agent.spec.suspend = false;
        }
    })
}

pub fn instruct() -> Wish {
    change_agent(|object| {
        if let AnyObject::Agent(agent) = object {
            agent.spec.instructions = Some("Be brief.".to_owned());
        }
    })
}

/// A scenario on its way: what outlives the server.
pub struct Stage {
    scenario: Scenario,
    clock: Arc<ManualClock>,
    store: Arc<dyn Store>,
    /// The same store, where it lies on disk, and its directory.
    disk: Option<(Arc<SqliteStore>, PathBuf)>,
    world: Arc<World>,
    ids: Arc<SeededIds>,
    person_writes: u64,
    intrusion: Option<(usize, Deed)>,
    intruder: Option<Arc<Intruder>>,
    conflicts: u64,
    /// The uids of what was taken out of the store past those who hold it.
    taken_out: BTreeSet<String>,
}

/// The annotation of a Source by which the stage knows the directories of its revision, between commas.
pub const DIRECTORIES: &str = "test/directories";

/// Knows the directories of Sources that nobody reads.
struct Told(Arc<dyn Store>);

#[async_trait]
impl Directories for Told {
    async fn matching(&self, source: &str, _: &str) -> Result<Vec<String>, String> {
        let found = self.0.get(Kind::Source, source).await.expect("the store can be read");
        let told = found.and_then(|it| it.metadata().annotations.get(DIRECTORIES).cloned());
        let told = told.ok_or_else(|| format!("source {source} has read nothing yet"))?;
        Ok(told.split(',').map(str::to_owned).collect())
    }
}

/// A person who changes the Agent in the very moment before a step, when whoever takes the step has
/// read everything.
struct Intruder {
    store: Arc<dyn Store>,
    steps: Arc<ScriptedSteps>,
    now: Timestamp,
    at: usize,
    change: Deed,
    passed: AtomicUsize,
    writes: AtomicU64,
}

#[async_trait]
impl Steps for Intruder {
    async fn before(&self, step: &'static str) -> Result<(), Fault> {
        if self.passed.fetch_add(1, Ordering::SeqCst) == self.at {
            let bot = self.store.get_by_uid(Kind::Agent, BOT).await.expect("it can be read");
            if let Some(mut object) = bot {
                (self.change)(&mut object);
                let write = Op::Write { object, part: Part::Desired, expect: Expect::Any };
                let applied = self.store.apply(Transaction::at(self.now).with(write)).await;
                let changed = applied.expect("a person may write at any time").changed;
                self.writes.fetch_add(u64::from(changed), Ordering::SeqCst);
            }
        }
        self.steps.before(step).await
    }

    async fn after(&self, step: &'static str) -> Result<(), Fault> {
        self.steps.after(step).await
    }
}

/// How a scenario went.
#[derive(Debug)]
pub struct Played {
    /// The steps of the first life.
    pub steps: Vec<&'static str>,
    /// Whether the fault of the first life happened.
    pub fired: bool,
    /// The end, without what differs from one time to the next.
    pub end: Value,
    /// All that was ever written, in order.
    pub history: Vec<Change>,
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
            intrusion: None,
            intruder: None,
            conflicts: 0,
            taken_out: BTreeSet::new(),
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
        let steps: Arc<dyn Steps> = match &self.intruder {
            Some(intruder) => intruder.clone(),
            None => steps,
        };
        let ambient = Ambient { clock: self.clock.clone(), ids: self.ids.clone(), steps };
        let store = || Arc::clone(&self.store);
        let runtime: Arc<dyn Runtime> = self.world.clone();
        let tokens = Arc::new(|uid: &str| format!("token of {uid}"));
        let mut engine = Engine::new(store(), ambient.clone());
        engine.add(Arc::new(JobController::new(store(), ambient.clone())));
        engine.add(Arc::new(AgentController::new(store(), ambient.clone())));
        let shell = Some(AgentCli::Command(CommandCli::default()));
        let usual = Defaults { agent: shell, ..Defaults::default() };
        let directories = Arc::new(Told(store()));
        let fleets = FleetController::new(store(), ambient.clone(), usual.clone(), directories);
        engine.add(Arc::new(fleets));
        engine.add(Arc::new(ScheduleController::new(store(), ambient.clone(), usual)));
        engine.add(Arc::new(AdmissionController::new(
            store(),
            ambient.clone(),
            vec![runtime.clone()],
        )));
        engine.add(Arc::new(SpriteController::new(store(), ambient, runtime, tokens)));
        engine.start().await.expect("the engine starts")
    }

    /// The answer to what waits for one.
    async fn yes(&self) -> Option<Op> {
        for uid in self.world.left() {
            let rows = self.store.approvals(&uid).await.expect("the store can be read");
            if let Some(row) = rows.iter().find(|row| row.state == ApprovalState::Pending) {
                return Some(Op::ResolveApproval {
                    sprite_uid: uid,
                    run: row.run,
                    request: row.request.clone(),
                    state: ApprovalState::Allowed,
                    by: "ada".to_owned(),
                    user: None,
                    grant: None,
                    message: String::new(),
                    answers: BTreeMap::new(),
                });
            }
        }
        None
    }

    /// The Agent, if it is there and stays.
    async fn bot(&self) -> Option<AnyObject> {
        let bot = self.store.get_by_uid(Kind::Agent, BOT).await.expect("the store can be read");
        bot.filter(|bot| !bot.metadata().is_deleting())
    }

    /// The Agent's turns, by number.
    async fn turns(&self) -> Vec<Turn> {
        self.store.turns(BOT, 0, usize::MAX).await.expect("the store can be read")
    }

    /// No turn that has ended changes, the Agent has one turn of a person at work at most, and
    /// none is at work or done while an earlier one waits.
    async fn check_turns(&self, ended: &mut BTreeMap<String, Turn>) {
        let turns = self.turns().await;
        for turn in &turns {
            if let Some(before) = ended.get(&turn.id) {
                assert_eq!(turn, before, "a turn has one end");
            }
        }
        let theirs: Vec<&Turn> = turns.iter().filter(|turn| turn.origin.is_none()).collect();
        let is_out = |turn: &&&Turn| matches!(turn.state, TurnState::Sent | TurnState::Running);
        assert!(theirs.iter().filter(is_out).count() <= 1, "two turns at once: {theirs:#?}");
        if let Some(waiting) = theirs.iter().find(|turn| turn.state == TurnState::Queued) {
            let later = theirs.iter().find(|turn| turn.n > waiting.n && turn.started.is_some());
            assert!(later.is_none(), "{later:?} has overtaken {waiting:?}");
        }
        ended.extend(
            turns.into_iter().filter(|it| it.state.is_final()).map(|it| (it.id.clone(), it)),
        );
    }

    async fn wish(&mut self, wish: Wish) {
        let ops = match wish {
            Wish::Approve => self.yes().await.into_iter().collect(),
            Wish::Always => {
                let yes = self.yes().await;
                let grant = Op::AddGrant(Grant {
                    id: "g".to_owned(),
                    agent_uid: BOT.to_owned(),
                    tool: "Bash".to_owned(),
                    rule: "Bash(ls:*)".to_owned(),
                    by: "ada".to_owned(),
                    user: None,
                    created: self.clock.now(),
                });
                yes.into_iter().chain([grant]).collect()
            }
            Wish::Say(id, text) => match self.bot().await {
                Some(bot) => {
                    let turn = Turn::queued(id, BOT, text, "ada", self.clock.now());
                    // Whoever speaks to an Agent makes sure that it is there to hear it.
                    let (part, expect) = (Part::Status, Expect::SameVersion);
                    vec![Op::Write { object: bot, part, expect }, Op::AddTurn(turn)]
                }
                None => Vec::new(),
            },
            Wish::SayTo(name, id, text) => {
                let found = self.store.get(Kind::Agent, name).await.expect("readable");
                match found.filter(|agent| !agent.metadata().is_deleting()) {
                    Some(agent) => {
                        let uid = agent.metadata().uid.clone();
                        let turn = Turn::queued(id, uid, text, "ada", self.clock.now());
                        let (part, expect) = (Part::Status, Expect::SameVersion);
                        vec![Op::Write { object: agent, part, expect }, Op::AddTurn(turn)]
                    }
                    None => Vec::new(),
                }
            }
            Wish::Cancel(id) => {
                let turn = self.store.turn(&id).await.expect("the store can be read");
                let turn = turn.filter(|turn| !turn.state.is_final());
                let cancelled = turn.map(|turn| Op::MoveTurn {
                    from: vec![turn.state],
                    turn: Turn { cancelled_by: Some("ada".to_owned()), ..turn },
                });
                cancelled.into_iter().collect()
            }
            Wish::Create(object) => vec![Op::Create(object)],
            Wish::Delete(kind, name) => {
                let name = name.to_owned();
                match self.store.get(kind, &name).await.expect("the store can be read") {
                    Some(_) => vec![Op::Delete { kind, name, uid: None, resource_version: None }],
                    None => Vec::new(),
                }
            }
            Wish::TakeOut(kind, name) => {
                let object = self.store.get(kind, name).await.expect("the store can be read");
                let mut object = object.expect("it is there to be taken out");
                object.metadata_mut().finalizers.clear();
                self.taken_out.insert(object.metadata().uid.clone());
                let free = Op::Write { object, part: Part::Finalizers, expect: Expect::Any };
                let name = name.to_owned();
                vec![free, Op::Delete { kind, name, uid: None, resource_version: None }]
            }
            Wish::Change(kind, name, change) => {
                let object = self.store.get(kind, name).await.expect("the store can be read");
                let changed = object.map(|mut object| {
                    change(&mut object);
                    Op::Write { object, part: Part::Desired, expect: Expect::Any }
                });
                changed.into_iter().collect()
            }
        };
        let applied = self.store.apply(Transaction { ops, now: self.clock.now() }).await;
        self.person_writes += u64::from(applied.expect("a wish is taken").changed);
    }

    /// Plays the scenario to its end, with a fault in each of the first lives.
    async fn play(&mut self, faults: &[(usize, Mode)]) -> Played {
        let mut faults = faults.iter().copied();
        let mut lives = vec![Arc::new(ScriptedSteps::new(faults.next()))];
        if let Some((at, change)) = self.intrusion.take() {
            self.intruder = Some(Arc::new(Intruder {
                store: self.store.clone(),
                steps: lives[0].clone(),
                now: self.clock.now(),
                at,
                change,
                passed: AtomicUsize::new(0),
                writes: AtomicU64::new(0),
            }));
        }
        let mut engine = self.engine(lives[0].clone()).await;
        let mut edits = self.scenario.edits.clone().into_iter().peekable();
        let length = Duration::from_secs(self.scenario.length);
        let mut ended = BTreeMap::new();
        loop {
            engine.idle().await;
            self.check_turns(&mut ended).await;
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
                self.wish(wish).await;
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
        if let Some(intruder) = self.intruder.take() {
            self.person_writes += intruder.writes.load(Ordering::SeqCst);
        }
        self.conflicts = engine.stats().iter().map(|(_, stats)| stats.conflicts).sum();
        engine.stop().await;
        let (_, ended) = lives.split_last().expect("there was one life");
        assert!(ended.iter().all(|steps| steps.has_fired()), "a life ends by its fault alone");
        let (steps, fired) = (lives[0].passed(), lives[0].has_fired());
        self.check_effects(&lives).await;
        self.check_history().await;
        self.check_rest().await;
        let history = self.store.changes(0, usize::MAX).await.expect("nothing was compacted");
        Played { steps, fired, end: self.end().await, history }
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
                    _ => 0,
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
                let has_owner = there.contains_key(owner) || self.taken_out.contains(owner);
                assert!(has_owner, "{name} has outlived its owner at {now}");
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
                    let runs: Vec<u32> = exits.map(|row| row.run).collect();
                    let each: BTreeSet<u32> = runs.iter().copied().collect();
                    assert_eq!(runs.len(), each.len(), "an exit is told once in a run");
                    let lines: Vec<u64> = rows.iter().map(|row| row.event.seq).collect();
                    end.push(Value::from(lines));
                    if !object.metadata().finalizers.is_empty() {
                        held.insert(uid);
                    }
                }
                end.push(plain(object.to_json()));
            }
        }
        for turn in self.turns().await {
            assert!(
                !self.world.was_given(&turn.id) || turn.run > 0,
                "{turn:?} was handed out, and nobody wrote it down"
            );
            end.push(json!({
                "turn": turn.id,
                "state": turn.state,
                "message": turn.message,
                "run": turn.run,
                "cost": turn.usage.cost_micro_usd,
            }));
        }
        let left: BTreeSet<String> = self.world.left().into_iter().collect();
        assert!(left.is_subset(&held), "nothing is left behind by who was let go");
        Value::from(end)
    }
}

/// An object without what differs from one time to the next.
fn plain(mut value: Value) -> Value {
    const PASSING: [&str; 10] = [
        "lastActivityTime",
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
pub fn play(scenario: &Scenario, faults: &[(usize, Mode)]) -> Played {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(async { Stage::new(scenario, MemoryStore::new()).play(faults).await })
}

/// The same, with somebody who changes the Agent just before the step of this number.
pub fn play_intruded(scenario: &Scenario, at: usize, change: Deed) -> Played {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
        let mut stage = Stage::new(scenario, MemoryStore::new());
        stage.intrusion = Some((at, change));
        stage.play(&[]).await
    })
}

/// The same over a store on disk, made anew.
pub fn play_on_disk(scenario: &Scenario, faults: &[(usize, Mode)]) -> Played {
    let dir = tempfile::tempdir().expect("a directory");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { Stage::on_disk(scenario, dir.path()).await.play(faults).await })
}
