//! A world in which Fly is played: controllers, the server's doors and the Fly runtime over one
//! store, beside a fake cloud whose machines play a reporter. Its clock runs fifty times as fast as
//! the wall's, so that Fly's real waits are there and nobody waits for them.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock, FreeSteps, ScriptedSteps, SeededIds, Steps, later},
    dev_fly::{BootContext, DevFly, DevFlyConfig, Exit, Guest, Habits, MachineTruth},
    reconcile::{
        Engine, EngineHandle,
        controllers::{AdmissionController, JobController, SpriteController, SweepController},
    },
    resource::{Agent, AnyObject, FlyMachine, Job, JobSpec, Kind, Sprite, leaks::Beginning},
    runtime::fly::{FlyRuntime, FlySettings, SecretsBy, leaks::Patience},
    secrets::Secrets,
    server::{self, Claims, Extras, State},
    store::{Expect, Op, Part, Store, Transaction, memory::MemoryStore},
    token::SpriteTokens,
};
use serde_json::{Value, json};
use sprite_reporter::wire::{Claimed, Order, WIRE_VERSION};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

/// How much faster than the wall's the clock runs.
const FASTER: u32 = 50;
/// How long a test waits, by the wall.
const WAIT: Duration = Duration::from_secs(60);

/// The wall's clock, faster.
pub struct FastClock {
    start: tokio::time::Instant,
    at: Timestamp,
}

#[async_trait]
impl Clock for FastClock {
    fn now(&self) -> Timestamp {
        later(self.at, self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed() * FASTER
    }

    async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length / FASTER).await;
    }
}

/// The runtime that is alive now answers claims, as the server's own does.
#[derive(Default)]
struct Alive(Mutex<Option<Arc<FlyRuntime>>>);

impl Claims for Alive {
    fn claimed(&self, sprite: &Sprite) -> Result<Claimed, String> {
        let runtime = self.0.lock().unwrap().clone();
        runtime.ok_or("the server starts")?.claimed(sprite)
    }

    fn machine(&self, id: &str) -> Option<FlyMachine> {
        Some(self.0.lock().unwrap().as_ref()?.spoken(id))
    }
}

/// What machines are played with.
struct Stage {
    router: OnceLock<Router>,
    store: Arc<MemoryStore>,
    clock: Arc<FastClock>,
    /// Each life of an agent: the Sprite and its run.
    lives: Mutex<Vec<(String, u64)>>,
}

pub struct World {
    pub fly: Arc<DevFly>,
    pub store: Arc<MemoryStore>,
    pub clock: Arc<FastClock>,
    ids: Arc<SeededIds>,
    alive: Arc<Alive>,
    stage: Arc<Stage>,
    tokens: SpriteTokens,
    _dir: tempfile::TempDir,
}

/// One life of the server.
pub struct Server {
    pub engine: EngineHandle,
    pub runtime: Arc<FlyRuntime>,
    census: JoinHandle<()>,
    /// What the sweeper tells people.
    pub tidings: tokio::sync::watch::Receiver<Option<String>>,
}

/// How a server sweeps.
#[derive(Clone, Copy)]
pub struct Sweep {
    pub patience: Patience,
    /// When the store was restored, where the restore left word.
    pub restored: Option<Timestamp>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.census.abort();
    }
}

/// How long things take on Fly, as was seen.
fn habits() -> Habits {
    Habits {
        pull: Duration::from_secs(6),
        boot: Duration::from_secs(1),
        settle: Duration::from_secs(1),
        still_active: Duration::from_secs(1),
        destroy: Duration::from_secs(2),
        tombstone: Duration::from_secs(20),
        claim_lag: Duration::from_secs(20),
        ..Habits::default()
    }
}

impl World {
    pub async fn new() -> Self {
        // The first test to come installs it; the others find it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(FastClock { start: tokio::time::Instant::now(), at });
        let ids = Arc::new(SeededIds::new(7));
        let store = MemoryStore::new();
        let stage = Arc::new(Stage {
            router: OnceLock::new(),
            store: store.clone(),
            clock: clock.clone(),
            lives: Mutex::default(),
        });
        let actor = stage.clone();
        let guest = Guest::Scripted(Arc::new(move |boot| Box::pin(life(actor.clone(), boot))));
        let ambient =
            Ambient { clock: clock.clone(), ids: ids.clone(), steps: Arc::new(FreeSteps) };
        let mut config = DevFlyConfig::new(dir.path(), guest);
        (config.habits, config.ambient) = (habits(), ambient.clone());
        let fly = Arc::new(DevFly::start(config).await.unwrap());
        fly.faults().set(|switches| switches.list_lag = Duration::from_secs(6));
        let tokens = SpriteTokens::new(b"the key of this test");
        let alive = Arc::new(Alive::default());
        let extras = Extras { claims: Some(alive.clone()), ..Extras::default() };
        let state = State::with(store.clone(), ambient, tokens.clone(), "access".into(), extras);
        assert!(stage.router.set(server::router(state)).is_ok());
        Self { fly, store, clock, ids, alive, stage, tokens, _dir: dir }
    }

    /// A server's life that takes these steps.
    pub async fn server(&self, steps: Arc<dyn Steps>) -> Server {
        self.server_with(steps, None).await
    }

    /// The same with a sweeper.
    pub async fn sweeping(&self, steps: Arc<dyn Steps>, sweep: Sweep) -> Server {
        self.server_with(steps, Some(sweep)).await
    }

    async fn server_with(&self, steps: Arc<dyn Steps>, sweep: Option<Sweep>) -> Server {
        let ambient = Ambient { clock: self.clock.clone(), ids: self.ids.clone(), steps };
        let settings = FlySettings {
            api: self.fly.url(),
            token: "FlyV1 fm2_dev_fly".to_owned().into(),
            app: "sprites".into(),
            region: "iad,lhr".into(),
            image: Some("registry.fly.io/sprites/agent:v1".into()),
            images: Default::default(),
            allowed_images: Vec::new(),
            server: "http://open-dispatch.internal:8080".parse().unwrap(),
            capacity: 100,
            secrets_by: SecretsBy::Environment,
            environment: Vec::new(),
            extra_env: Vec::new(),
        };
        let secrets = Secrets::new("/nowhere".into(), Vec::new());
        let store: Arc<dyn Store> = self.store.clone();
        let of = store.clone();
        let revision: open_dispatch::runtime::fly::Revision = Arc::new(move || {
            let of = of.clone();
            Box::pin(async move { of.revision().await.ok() })
        });
        let runtime =
            FlyRuntime::new(settings, store.installation(), secrets, ambient.clone(), revision);
        let runtime = runtime.unwrap();
        *self.alive.0.lock().unwrap() = Some(runtime.clone());
        let tokens = self.tokens.clone();
        let derive = Arc::new(move |uid: &str| tokens.derive(uid));
        let mut engine = Engine::new(store.clone(), ambient.clone());
        engine.add(Arc::new(JobController::new(store.clone(), ambient.clone())));
        let machines = vec![runtime.clone() as Arc<dyn open_dispatch::runtime::Runtime>];
        engine.add(Arc::new(AdmissionController::new(store.clone(), ambient.clone(), machines)));
        let mut tidings = tokio::sync::watch::Sender::new(None).subscribe();
        if let Some(sweep) = sweep {
            let revision = store.revision().await.unwrap();
            let born = Beginning { revision, at: self.clock.now() };
            let (patience, restored) = (sweep.patience, sweep.restored);
            let (of, air, fly) = (store.clone(), ambient.clone(), runtime.clone());
            let sweeper = SweepController::new(of, air, fly, patience, born, restored);
            tidings = sweeper.tidings();
            engine.add(Arc::new(sweeper));
        }
        engine.add(Arc::new(SpriteController::new(store, ambient, runtime.clone(), derive)));
        let engine = engine.start().await.unwrap();
        let census = tokio::spawn(runtime.clone().census());
        Server { engine, runtime, census, tidings }
    }

    pub async fn free(&self) -> Server {
        self.server(Arc::new(FreeSteps)).await
    }

    /// Lives with a fault at a step, and, where the fault was a crash, once more without. Answers
    /// the last life, and whether the fault came.
    pub async fn faulty(&self, steps: Arc<ScriptedSteps>, done: impl AsyncFn() -> bool) -> Server {
        let first = self.server(steps).await;
        let start = tokio::time::Instant::now();
        while !done().await {
            if first.engine.has_crashed() {
                drop(first);
                let second = self.free().await;
                self.until("the end, after a crash", done).await;
                return second;
            }
            assert!(start.elapsed() < WAIT, "no end; {:#?}", self.fly.machines());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        first
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let start = tokio::time::Instant::now();
        while !holds().await {
            if start.elapsed() >= WAIT {
                let calls = self.fly.calls();
                let last = &calls[calls.len().saturating_sub(20)..];
                let sprites = self.sprites().await;
                panic!("never: {what}\n{last:#?}\n{:#?}\n{sprites:#?}", self.fly.machines());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn apply(&self, op: Op) {
        let transaction = Transaction::at(self.clock.now()).with(op);
        self.store.apply(transaction).await.unwrap();
    }

    pub async fn create_job(&self, name: &str, spec: Value) {
        let spec: JobSpec = serde_json::from_value(spec).unwrap();
        let mut job = Job::new(name, spec);
        job.metadata.uid = format!("uid-of-{name}");
        job.metadata.finalizers = vec!["opendispatch.dev/sprites".to_owned()];
        self.apply(Op::Create(job.into())).await;
    }

    /// A Sprite that takes turns, or works at a task.
    pub async fn create_sprite(&self, uid: &str, task: Option<&str>) {
        let spec = json!({
            "agent": {"command": {}}, "runtime": {"fly": {}}, "task": task,
            "permissions": {"mode": "bypass"}, "attempt": 1, "running": true,
        });
        let mut sprite = Sprite::new(uid, serde_json::from_value(spec).unwrap());
        sprite.metadata.uid = uid.to_owned();
        sprite.metadata.finalizers = vec!["opendispatch.dev/runtime".to_owned()];
        // Only an Agent's run can sleep. Without its owner it would be ended.
        if task.is_none() {
            let name = format!("owner-of-{uid}");
            let owner = json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
                "name": name, "uid": name, "controller": true});
            sprite.metadata.owner_references = vec![serde_json::from_value(owner).unwrap()];
            let spec = json!({"agent": {"command": {}}, "runtime": {"fly": {}}});
            let mut agent = Agent::new(&name, serde_json::from_value(spec).unwrap());
            agent.metadata.uid = name;
            self.apply(Op::Create(agent.into())).await;
        }
        self.apply(Op::Create(sprite.into())).await;
    }

    pub async fn job(&self, name: &str) -> Job {
        let found = self.store.get(Kind::Job, name).await.unwrap();
        found.and_then(AnyObject::into_job).expect("the job")
    }

    pub async fn sprites(&self) -> Vec<Sprite> {
        let page = self.store.list(Kind::Sprite, None, 1000).await.unwrap();
        page.items.into_iter().filter_map(AnyObject::into_sprite).collect()
    }

    pub async fn sprite(&self, name: &str) -> Sprite {
        let found = self.store.get(Kind::Sprite, name).await.unwrap();
        found.and_then(AnyObject::into_sprite).expect("the sprite")
    }

    /// Changes what is wanted of a Sprite, whatever else is written meanwhile.
    pub async fn change(&self, name: &str, change: impl FnOnce(&mut Sprite)) {
        let mut sprite = self.sprite(name).await;
        change(&mut sprite);
        let (part, expect) = (Part::Desired, Expect::Any);
        self.apply(Op::Write { object: sprite.into(), part, expect }).await;
    }

    /// Whether a condition holds of a Sprite.
    pub async fn is(&self, name: &str, condition: &str) -> bool {
        self.sprite(name).await.status.conditions.is_true(condition)
    }

    pub async fn is_let_go(&self, name: &str) -> bool {
        self.sprite(name).await.metadata.finalizers.is_empty()
    }

    pub fn lives(&self) -> Vec<(String, u64)> {
        self.stage.lives.lock().unwrap().clone()
    }

    /// The one machine that there is.
    pub fn machine(&self) -> MachineTruth {
        let mut machines = self.fly.machines();
        assert_eq!(machines.len(), 1, "{machines:#?}");
        machines.remove(0)
    }

    /// The calls but for lists, as method and status.
    pub fn calls(&self) -> Vec<String> {
        let calls = self.fly.calls().into_iter().filter(|it| !it.path.contains("metadata."));
        calls.map(|it| format!("{:?} {:?}", it.action, it.status)).collect()
    }

    /// What of our requests Fly's schema does not know, and how often we were too fast.
    pub fn wrong(&self) -> Vec<String> {
        let wrong = self.fly.violations().into_iter().map(|it| it.to_string());
        let fast = self.fly.calls().into_iter().filter(|it| it.status == Some(429));
        wrong.chain(fast.map(|it| format!("429 for {}", it.path))).collect()
    }
}

impl Stage {
    async fn post(&self, token: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let router = self.router.get().unwrap().clone();
        let answer = router.oneshot(request).await.unwrap();
        let code = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or_default())
    }
}

/// A boot of a machine: claim, work, report, exit.
async fn life(stage: Arc<Stage>, boot: BootContext) -> Exit {
    let (uid, token) = (boot.env["JOB_ID"].clone(), boot.env["JOB_TOKEN"].clone());
    assert_eq!(boot.env["OPEN_DISPATCH_CLAIM"], "1");
    if boot.env.get("COMMAND").is_some_and(|command| command.contains("is never heard")) {
        // It asks for nothing, and hears no signal.
        return std::future::pending().await;
    }
    let mut stop = boot.stop.clone();
    tokio::select! {
        exit = work(&stage, &boot, &uid, &token) => exit,
        signal = stop.asked() => Exit::code(128 + signal),
    }
}

async fn work(stage: &Stage, boot: &BootContext, uid: &str, token: &str) -> Exit {
    let name = format!("{}-{}", boot.machine, boot.boot);
    let asked = json!({"jobId": uid, "boot": name, "wire": WIRE_VERSION, "machine": boot.machine});
    let claimed = loop {
        match stage.post(token, "/webhooks/claim", &asked).await {
            (StatusCode::OK, claimed) => break claimed,
            (StatusCode::GONE | StatusCode::UNAUTHORIZED, _) => return Exit::code(0),
            _ => stage.clock.sleep(Duration::from_secs(1)).await,
        }
    };
    let run = claimed["spec"]["run"].as_u64().unwrap();
    stage.lives.lock().unwrap().push((uid.to_owned(), run));
    let mut seq = 0;
    let mut tell = async |body: Value| {
        seq += 1;
        let mut event = body;
        (event["seq"], event["at"]) = (seq.into(), "2026-01-01T00:00:00Z".into());
        let batch = json!({"jobId": uid, "run": run, "events": [event]});
        loop {
            match stage.post(token, "/webhooks/events", &batch).await.0 {
                code if code.is_success() || code == StatusCode::GONE => break,
                _ => stage.clock.sleep(Duration::from_secs(1)).await,
            }
        }
    };
    tell(json!({"type": "hello", "wire": 1, "version": "0.1.0",
        "process": {"bootId": name, "pid": 42, "startTime": 7},
        "containment": {"subreaper": true, "cgroup": false, "dataHidden": true}}))
    .await;
    match claimed["spec"]["task"].as_str() {
        Some("for ever") => std::future::pending().await,
        Some(_) => {
            tell(json!({"type": "log", "stream": "stdout", "text": "at work\n"})).await;
            stage.clock.sleep(Duration::from_secs(3)).await;
            tell(json!({"type": "exit", "code": 0, "reason": "Completed"})).await;
        }
        None => {
            tell(json!({"type": "ready"})).await;
            let reason = loop {
                let rows = stage.store.inbox(uid, 0).await.unwrap();
                let mut mine = rows.into_iter().filter(|row| u64::from(row.run) == run);
                match mine.find_map(|row| match row.order {
                    Order::Sleep {} => Some("Asleep".to_owned()),
                    Order::Stop { reason } => Some(format!("{reason:?}")),
                    _ => None,
                }) {
                    Some(reason) => break reason,
                    None => stage.clock.sleep(Duration::from_millis(500)).await,
                }
            };
            tell(json!({"type": "exit", "reason": reason})).await;
        }
    }
    Exit::code(0)
}

/// The faults of a step, each at its turn.
pub fn scripted(n: usize, mode: open_dispatch::ambient::Mode) -> Arc<ScriptedSteps> {
    Arc::new(ScriptedSteps::new(Some((n, mode))))
}
