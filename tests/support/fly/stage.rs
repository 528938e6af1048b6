//! A scenario and its stage: a store, a Fly of machines and the guests in them, which outlive the
//! server; people who want things at fixed times; and servers that live until a fault ends them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt as _;
use open_dispatch::{
    ambient::{Ambient, Clock, FreeSteps, SeededIds},
    dev_fly::{Action, BootContext, CallRecord, DevFly, DevFlyConfig, Guest, MachineTruth},
    reconcile::{
        Engine, EngineHandle, Wake,
        controllers::{
            AdmissionController, AgentController, JobController, KeepsakeController,
            SpriteController, SweepController,
        },
    },
    resource::{
        Agent, AgentCli, AgentSpec, AnyObject, CommandCli, FINALIZER_SPRITES, FlyMachine, Job,
        JobSpec, Kind, Permissions, RuntimeSpec, Span, Sprite, leaks::Beginning,
    },
    runtime::{
        Runtime,
        fly::{FlyRuntime, FlySettings, SecretsBy, api::Machines, leaks::Patience},
    },
    secrets::Secrets,
    server::{self, Claims, Extras},
    store::{Cursor, Expect, Op, Part, Store, Transaction, Turn, memory::MemoryStore},
    token::SpriteTokens,
};
use serde_json::{Value, json};
use sprite_reporter::wire::{Claimed, EventBody};
use tokio_util::sync::CancellationToken;

use super::{
    clock::PausedClock,
    faults::{Fault, Life, Way},
    guest::{self, Cloud, Front},
};

const BOT: &str = "uid of bot";
/// How long after the end all that belongs to nobody is gone: a round of the sweeper, and its grace.
const AFTERWARDS: Duration = Duration::from_secs(60 * 60 + 30 * 60);
/// How long what is deleted takes to go by itself, without a sweeper.
const GOING: Duration = Duration::from_secs(10 * 60);
/// How often it is looked for what somebody waits for.
const A_LOOK: Duration = Duration::from_millis(50);
/// How long it takes until the next server is up: so long that Fly's buckets are full again.
const RESTART: Duration = Duration::from_secs(3);
/// So long that whatever is on its way has arrived, and so short that nothing is due.
const A_MOMENT: Duration = Duration::from_millis(1);

/// When a person does something.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// So long after the start.
    At(Duration),
    /// As soon as a Sprite's condition holds for this reason.
    Once(&'static str, &'static str),
}

impl From<u64> for When {
    fn from(seconds: u64) -> Self {
        Self::At(Duration::from_secs(seconds))
    }
}

/// What a person does, and when.
pub type Edit = (When, Wish);

#[derive(Debug, Clone)]
pub enum Wish {
    Create(AnyObject),
    Change(Kind, &'static str, fn(&mut AnyObject)),
    Delete(Kind, &'static str),
    /// Says something to the Agent, under an id.
    Say(&'static str, &'static str),
}

/// One scenario.
#[derive(Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub edits: Vec<Edit>,
    /// How long it takes, in seconds.
    pub length: u64,
    /// How far Fly's lists lie behind, in seconds.
    pub lag: u64,
    /// How long Fly remembers a machine that is gone, in seconds.
    pub memory: u64,
    /// The name of a machine that somebody else made before.
    pub stranger: Option<String>,
}

/// How a scenario went.
#[derive(Debug)]
pub struct Played {
    /// The steps of the first life.
    pub steps: Vec<&'static str>,
    /// The calls to Fly of the first life.
    pub calls: Vec<Action>,
    /// Whether the fault of the first life happened.
    pub fired: bool,
    /// The end, without what differs from one time to the next.
    pub end: Value,
    /// Every boot that was given a run, and every one that was refused.
    pub claims: (usize, usize),
    /// The name of the first machine that booted.
    pub machine: Option<String>,
}

fn on_fly() -> RuntimeSpec {
    serde_json::from_value(json!({"fly": {}})).expect("a runtime")
}

pub fn job(name: &str, task: &str, change: impl FnOnce(&mut JobSpec)) -> AnyObject {
    let mut spec = JobSpec::new(task, AgentCli::Command(CommandCli::default()));
    spec.runtime = on_fly();
    change(&mut spec);
    let mut job = Job::new(name, spec);
    job.metadata.uid = format!("uid of {name}");
    job.metadata.finalizers = vec![FINALIZER_SPRITES.to_owned()];
    job.into()
}

pub fn agent(change: impl FnOnce(&mut AgentSpec)) -> AnyObject {
    let mut spec = AgentSpec {
        agent: AgentCli::Command(CommandCli::default()),
        runtime: on_fly(),
        repo: None,
        channels: Vec::new(),
        instructions: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        suspend: false,
        idle_timeout: Some(Span::from_secs(60)),
        turn_timeout: None,
        budget: None,
    };
    change(&mut spec);
    let mut agent = Agent::new("bot", spec);
    agent.metadata.uid = BOT.to_owned();
    agent.metadata.finalizers = vec![FINALIZER_SPRITES.to_owned()];
    agent.into()
}

/// What answers claims.
struct Runs(Arc<FlyRuntime>);

impl Claims for Runs {
    fn claimed(&self, sprite: &Sprite) -> Result<Claimed, String> {
        self.0.claimed(sprite)
    }

    fn machine(&self, id: &str) -> Option<FlyMachine> {
        Some(self.0.spoken(id))
    }
}

/// A server that lives.
struct Server {
    life: Arc<Life>,
    engine: EngineHandle,
    census: tokio::task::JoinHandle<()>,
    dead: CancellationToken,
}

/// A scenario on its way.
struct Stage {
    scenario: Scenario,
    clock: Arc<dyn Clock>,
    ids: Arc<SeededIds>,
    store: Arc<MemoryStore>,
    fly: Arc<DevFly>,
    cloud: Arc<Cloud>,
    tokens: SpriteTokens,
    lives: Vec<Arc<Life>>,
    /// Whether the next server sweeps. Until the end none does, so that nothing else hides a leak.
    sweeps: bool,
}

impl Stage {
    async fn new(scenario: &Scenario, dir: &std::path::Path) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(PausedClock::new());
        let ids = Arc::new(SeededIds::new(7));
        let cloud = Cloud::new(Arc::clone(&clock));
        let guests = Arc::clone(&cloud);
        let script = move |ctx: BootContext| guest::play(Arc::clone(&guests), ctx).boxed();
        let mut config = DevFlyConfig::new(dir, Guest::Scripted(Arc::new(script)));
        config.ambient = Ambient {
            clock: Arc::clone(&clock),
            ids: Arc::new(SeededIds::new(8)),
            steps: Arc::new(FreeSteps),
        };
        config.habits.pull = Duration::from_secs(3);
        config.habits.boot = Duration::from_secs(1);
        config.habits.settle = Duration::from_millis(500);
        config.habits.still_active = Duration::from_millis(500);
        config.habits.destroy = Duration::from_secs(1);
        config.habits.claim_lag = Duration::from_secs(20);
        config.habits.tombstone = Duration::from_secs(scenario.memory);
        let fly = DevFly::start(config).await.expect("the fake starts");
        fly.faults().set(|switches| switches.list_lag = Duration::from_secs(scenario.lag));
        Self {
            scenario: scenario.clone(),
            clock,
            ids,
            store: MemoryStore::new(),
            fly: Arc::new(fly),
            cloud,
            tokens: SpriteTokens::new(b"the key of this test"),
            lives: Vec::new(),
            sweeps: false,
        }
    }

    fn settings(&self) -> FlySettings {
        FlySettings {
            api: self.fly.url(),
            token: "FlyV1 fm2_dev_fly".to_owned().into(),
            app: "sprites".into(),
            region: "iad,ord".into(),
            image: Some("registry.fly.io/sprites/agent:v1".into()),
            images: BTreeMap::new(),
            allowed_images: Vec::new(),
            server: "http://open-dispatch.internal:8080/".parse().expect("a URL"),
            capacity: 4,
            secrets_by: SecretsBy::Claim,
            environment: Vec::new(),
            extra_env: Vec::new(),
        }
    }

    /// Brings up a server.
    async fn serve(&mut self, fault: Option<Fault>) -> Server {
        let life = Life::new(&self.fly, fault);
        self.lives.push(Arc::clone(&life));
        let ambient =
            Ambient { clock: self.clock.clone(), ids: self.ids.clone(), steps: life.clone() };
        let store = || -> Arc<dyn Store> { self.store.clone() };
        let settings = self.settings();
        let api = Machines::over(
            Arc::new(Way(Arc::clone(&life))),
            &settings.api,
            &settings.token,
            &settings.app,
            ambient.clone(),
        );
        let of = store();
        let fly = FlyRuntime::over(
            api.expect("a client"),
            settings,
            self.store.installation(),
            Secrets::new("/nowhere".into(), Vec::new()),
            ambient.clone(),
            Arc::new(move || {
                let of = Arc::clone(&of);
                async move { of.revision().await.ok() }.boxed()
            }),
        );
        let extras = Extras { claims: Some(Arc::new(Runs(Arc::clone(&fly)))), ..Extras::default() };
        let state = server::State::with(
            store(),
            ambient.clone(),
            self.tokens.clone(),
            "access".to_owned(),
            extras,
        );
        let dead = CancellationToken::new();
        let front = Front { router: server::router(state), dead: dead.clone() };
        self.cloud.front.send_replace(Some(front));
        let census = tokio::spawn(Arc::clone(&fly).census());
        let sweeper = if self.sweeps {
            let revision = self.store.revision().await.expect("readable");
            let born = Beginning { revision, at: self.clock.now() };
            let (fly, patience) = (Arc::clone(&fly), Patience::default());
            let sweeper = SweepController::new(store(), ambient.clone(), fly, patience, born, None);
            Some(Arc::new(sweeper))
        } else {
            None
        };
        let runtime: Arc<dyn Runtime> = fly;
        let tokens = self.tokens.clone();
        let tokens = Arc::new(move |uid: &str| tokens.derive(uid));
        let mut engine = Engine::new(store(), ambient.clone());
        engine.add(Arc::new(JobController::new(store(), ambient.clone())));
        engine.add(Arc::new(AgentController::new(store(), ambient.clone())));
        let runtimes = || vec![Arc::clone(&runtime)];
        engine.add(Arc::new(AdmissionController::new(store(), ambient.clone(), runtimes())));
        engine.add(Arc::new(KeepsakeController::new(store(), ambient.clone(), runtimes())));
        if let Some(sweeper) = sweeper {
            engine.add(sweeper);
        }
        engine.add(Arc::new(SpriteController::new(store(), ambient, runtime.clone(), tokens)));
        let engine = engine.start().await.expect("the engine starts");
        Server { life, engine, census, dead }
    }

    /// Takes a server down, in the middle of whatever it does.
    async fn down(&self, server: Server) {
        server.life.kill();
        self.cloud.front.send_replace(None);
        server.dead.cancel();
        server.census.abort();
        drop(server.engine);
        // The guests see that the line is dead.
        tokio::task::yield_now().await;
    }

    /// Lets time pass until then; whenever a server ends, the next one comes up.
    async fn until(&mut self, mut server: Server, end: Duration) -> Server {
        loop {
            let wait = end.saturating_sub(self.clock.elapsed());
            let life = Arc::clone(&server.life);
            tokio::select! {
                biased;
                () = life.end.notified() => {
                    self.down(server).await;
                    self.clock.sleep(RESTART).await;
                    server = self.serve(None).await;
                }
                () = self.clock.sleep(wait) => return server,
            }
        }
    }

    /// Whether a condition of some Sprite is true for a reason.
    async fn holds(&self, condition: &str, reason: &str) -> bool {
        let sprites = self.store.list(Kind::Sprite, None, 1000).await.expect("readable").items;
        sprites.into_iter().filter_map(AnyObject::into_sprite).any(|sprite| {
            let conditions = &sprite.status.conditions;
            conditions.is_true(condition)
                && conditions.get(condition).is_some_and(|it| it.reason == reason)
        })
    }

    async fn wish(&self, wish: Wish) {
        let ops = match wish {
            Wish::Create(object) => vec![Op::Create(object)],
            Wish::Delete(kind, name) => {
                vec![Op::Delete { kind, name: name.into(), uid: None, resource_version: None }]
            }
            Wish::Change(kind, name, change) => {
                let object = self.store.get(kind, name).await.expect("readable");
                let mut object = object.expect("it is there");
                change(&mut object);
                vec![Op::Write { object, part: Part::Desired, expect: Expect::Any }]
            }
            Wish::Say(id, text) => {
                vec![Op::AddTurn(Turn::queued(id, BOT, text, "ada", self.clock.now()))]
            }
        };
        let applied = self.store.apply(Transaction { ops, now: self.clock.now() }).await;
        applied.expect("a wish is taken");
    }

    /// Plays the scenario to its end, with a fault in the first life.
    async fn play(mut self, fault: Option<Fault>) -> Played {
        self.let_stranger_in().await;
        let mut server = self.serve(fault).await;
        let length = Duration::from_secs(self.scenario.length);
        for (at, wish) in self.scenario.edits.clone() {
            server = match at {
                When::At(at) => self.until(server, at).await,
                When::Once(condition, reason) => {
                    while !self.holds(condition, reason).await {
                        assert!(self.clock.elapsed() < length, "{condition} never holds");
                        server = self.until(server, self.clock.elapsed() + A_LOOK).await;
                    }
                    server
                }
            };
            self.wish(wish).await;
        }
        server = self.until(server, length).await;
        let first = Arc::clone(&self.lives[0]);
        let (steps, calls, fired) = (first.steps(), first.calls(), first.has_fired());
        let claims = self.cloud.claims();
        // Before all else: that two lived is worse than whatever follows from it.
        assert_eq!(self.cloud.broken(), Vec::<String>::new());
        let end = self.end().await;
        let server = self.check_rest(server).await;
        self.check_leaks(server).await;
        assert_eq!(self.cloud.broken(), Vec::<String>::new());
        assert_eq!(self.fly.violations(), vec![], "every call is one that Fly knows");
        let injected =
            usize::from(matches!(fault, Some(Fault::Call(_, super::faults::Woe::TooMany))));
        let too_many = self.fly.calls().iter().filter(|call| call.status == Some(429)).count();
        assert_eq!(too_many, injected, "no more calls than Fly allows");
        let machine = self.fly.boots().first().map(|boot| boot.name.clone());
        Played { steps, calls, fired, end, claims, machine }
    }

    /// Makes the machine of somebody else.
    async fn let_stranger_in(&self) {
        let Some(name) = &self.scenario.stranger else { return };
        let wish = json!({"name": name, "skip_launch": true, "config": {"image": "theirs"}});
        let request = hyper::Request::post("/v1/apps/sprites/machines")
            .header("authorization", "Bearer fm2_dev_fly")
            .body(wish.to_string().into());
        let made = self.fly.caller().call(request.expect("a request")).await;
        assert_eq!(made.expect("an answer").status(), 200);
    }

    /// One more reconcile of everything asks Fly nothing and writes nothing; and a server that knows
    /// nothing looks, and changes nothing.
    async fn check_rest(&mut self, server: Server) -> Server {
        // A backoff that could not be forgotten is forgotten with the next success.
        let kept = async || self.store.backoffs().await.expect("readable").len() as u64;
        let before = (self.store.writes() + kept().await, self.fly.calls().len());
        self.wake_all(&server.engine).await;
        self.clock.sleep(A_MOMENT).await;
        let calls = self.fly.calls().split_off(before.1);
        assert_eq!(calls, Vec::<CallRecord>::new(), "a converged world is left alone");
        let writes = self.store.writes() + kept().await;
        assert_eq!(writes, before.0, "a converged world is not written to");
        self.down(server).await;
        self.clock.sleep(RESTART).await;
        let server = self.serve(None).await;
        self.wake_all(&server.engine).await;
        let server = self.until(server, self.clock.elapsed() + Duration::from_secs(40)).await;
        let calls = self.fly.calls().split_off(before.1);
        let writes: Vec<_> = calls.into_iter().filter(|call| call.action.writes()).collect();
        assert_eq!(writes, Vec::<CallRecord>::new(), "a new server changes nothing at Fly");
        let kept = self.store.backoffs().await.expect("readable").len() as u64;
        assert_eq!(self.store.writes() + kept, before.0, "a new server writes nothing");
        server
    }

    async fn wake_all(&self, engine: &EngineHandle) {
        for kind in Kind::ALL {
            for object in self.store.list(kind, None, 1000).await.expect("readable").items {
                let uid = &object.metadata().uid;
                for controller in [kind.singular(), "sprite-fly"] {
                    engine.wake(controller, uid, Wake::User);
                }
            }
        }
        engine.wake("admission", "fly", Wake::User);
    }

    /// Once everybody is deleted, Fly holds nothing of us.
    async fn check_leaks(&mut self, server: Server) {
        for kind in [Kind::Agent, Kind::Job] {
            for object in self.store.list(kind, None, 1000).await.expect("readable").items {
                let name = object.metadata().name.clone();
                let ops = vec![Op::Delete { kind, name, uid: None, resource_version: None }];
                let now = self.clock.now();
                self.store.apply(Transaction { ops, now }).await.expect("a wish is taken");
            }
        }
        let server = self.until(server, self.clock.elapsed() + GOING).await;
        self.down(server).await;
        self.sweeps = true;
        let server = self.serve(None).await;
        let server = self.until(server, self.clock.elapsed() + AFTERWARDS).await;
        self.down(server).await;
        assert_eq!(self.cloud.alive(), Vec::<String>::new(), "nobody lives on");
        let theirs =
            |machine: &MachineTruth| Some(&machine.name) == self.scenario.stranger.as_ref();
        let machines = self.fly.machines();
        let left: Vec<_> = machines.iter().filter(|machine| !theirs(machine)).collect();
        assert!(left.is_empty(), "machines are left: {left:#?}");
        let is_theirs = usize::from(self.scenario.stranger.is_some());
        assert_eq!(machines.len(), is_theirs, "what is somebody else's is left alone");
        assert_eq!(self.fly.volumes(), vec![], "no volume is left");
        for kind in Kind::ALL {
            let left = self.store.list(kind, None, 1000).await.expect("readable").items;
            assert!(left.is_empty(), "{left:#?}");
        }
    }

    /// Everything that is there at the end, without uids, versions, times and ids of machines.
    async fn end(&self) -> Value {
        let mut end = Vec::new();
        for kind in Kind::ALL {
            for object in self.store.list(kind, None, 1000).await.expect("readable").items {
                if kind == Kind::Sprite {
                    let uid = &object.metadata().uid;
                    let from = Cursor::default();
                    let rows = self.store.output(uid, from, usize::MAX).await.expect("readable");
                    let exits =
                        rows.iter().filter(|row| matches!(row.event.body, EventBody::Exit(_)));
                    let runs: Vec<u32> = exits.map(|row| row.run).collect();
                    let each: BTreeSet<u32> = runs.iter().copied().collect();
                    assert_eq!(runs.len(), each.len(), "an exit is told once in a run");
                    let lines: Vec<(u32, u64)> =
                        rows.iter().map(|row| (row.run, row.event.seq)).collect();
                    end.push(json!({"said": format!("{lines:?}")}));
                }
                end.push(plain(object.to_json()));
            }
        }
        for turn in self.store.turns(BOT, 0, usize::MAX).await.expect("readable") {
            end.push(json!({
                "turn": turn.id,
                "state": turn.state,
                "message": turn.message,
                "run": turn.run,
                "cost": turn.usage.cost_micro_usd,
            }));
        }
        for machine in self.fly.machines() {
            end.push(json!({"machine": {"region": machine.region, "state": machine.state}}));
        }
        for volume in self.fly.volumes() {
            let is_attached = volume.machine.is_some();
            end.push(json!({"volume": {"region": volume.region, "attached": is_attached}}));
        }
        end.push(json!({"alive": self.cloud.alive().len()}));
        Value::from(end)
    }
}

/// A text without the ids of machines.
fn without_ids(text: &str) -> String {
    let id = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        bare.len() == 14 && bare.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let words = text.split(' ').map(|word| if id(word) { "ID" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// An object without what differs from one time to the next.
fn plain(mut value: Value) -> Value {
    const PASSING: [&str; 12] = [
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
        "machineId",
        "boot",
    ];
    match &mut value {
        Value::Object(members) => {
            members.retain(|name, _| !PASSING.contains(&name.as_str()));
            for (name, member) in members.iter_mut() {
                *member = plain(member.take());
                if name == "fly"
                    && let Value::Object(fly) = member
                {
                    // As it was looked at last.
                    fly.remove("state");
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
        Value::String(text) => *text = without_ids(text),
        _ => {}
    }
    value
}

/// Plays a scenario in a runtime of its own, whose clock moves when nothing else does.
pub fn play(scenario: &Scenario, fault: Option<Fault>) -> Played {
    let dir = tempfile::tempdir().expect("a directory");
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(async { Stage::new(scenario, dir.path()).await.play(fault).await })
}
