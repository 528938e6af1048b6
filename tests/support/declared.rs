//! An agent that a Source declares in a file, and the controller that lays Overrides over it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock as _, Fault, ManualClock, SeededIds, Steps},
    reconcile::{self, Controller as _, Next},
    resource::{
        API_VERSION, Agent, AnyObject, ConditionStatus, Defaults, Kind, Override, SourceSpec,
        admit, decode, merge::merge_patch, overlay,
    },
    source::over::{
        FileController, OverrideController, lay,
        pen::{DirectoryPen, Pen},
    },
    store::{Base, Expect, Op, Owned, Part, Store, Transaction, memory::MemoryStore},
};
use serde_json::{Value, json};

/// The file that declares the agent.
pub const FILE: &str = "\
# Ours.
apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {name: bot}
spec:
  agent: {claude: {model: sonnet}} # a cheap one
  budget: {usd: 5, turns: 20}
  idleTimeout: 15m
";

/// What the file says.
pub fn base() -> Value {
    json!({
        "agent": {"claude": {"model": "sonnet"}}, "budget": {"usd": 5, "turns": 20},
        "idleTimeout": "15m",
    })
}

/// A store, a directory with a file, and whoever works with them until the next crash.
pub struct Declared {
    pub store: Arc<MemoryStore>,
    pub clock: Arc<ManualClock>,
    pub dir: PathBuf,
    steps: Arc<dyn Steps>,
    pen: Arc<dyn Pen>,
    pub controller: OverrideController,
    pub files: FileController,
    _root: Option<tempfile::TempDir>,
}

impl Declared {
    /// An agent that a Source declares.
    pub async fn new(steps: Arc<dyn Steps>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().to_owned();
        std::fs::write(dir.join("bot.yaml"), FILE).unwrap();
        let store = MemoryStore::new();
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let pen: Arc<dyn Pen> = Arc::new(DirectoryPen::new(&dir));
        let (controller, files) = controllers(&store, &clock, &steps, pen.clone());
        let this = Self { store, clock, dir, steps, pen, controller, files, _root: Some(root) };
        let source = json!({
            "apiVersion": API_VERSION, "kind": "Source", "metadata": {"name": "ours"},
            "spec": {"from": {"directory": {"path": this.dir}}},
        });
        this.create(source, "source-uid").await;
        let agent = json!({
            "apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": "bot"}, "spec": base(),
        });
        this.create(agent, "bot-uid").await;
        this.declare("bot-uid", base(), 0).await;
        this
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub async fn apply(&self, ops: Vec<Op>) {
        self.store.apply(Transaction { ops, now: self.now() }).await.unwrap();
    }

    /// Makes an object as an editor does.
    pub async fn create(&self, json: Value, uid: &str) {
        let object = admit::create(decode(json).unwrap(), uid.to_owned(), "").unwrap();
        self.apply(vec![Op::Create(object)]).await;
    }

    async fn declare(&self, uid: &str, spec: Value, version: u64) {
        let row = Owned {
            kind: Kind::Agent,
            name: "bot".to_owned(),
            uid: uid.to_owned(),
            source_uid: "source-uid".to_owned(),
            source: "ours".to_owned(),
            base: Base { spec, ..Base::default() },
            file: "bot.yaml".to_owned(),
            line: 2,
            overrides: Vec::new(),
            leaving: false,
            version,
        };
        self.apply(vec![Op::Own(row)]).await;
    }

    /// A new commit: the Source lays the live Overrides over what its file says now.
    pub async fn commit(&self, spec: Value) {
        let mut row = self.row().await.unwrap();
        let agent: AnyObject = self.bot().await.into();
        row.base.spec = spec;
        let laid =
            lay(&agent, &row.base, &row.overrides, &Defaults::default(), self.now()).unwrap();
        row.overrides = laid.kept;
        let write =
            Op::Write { object: laid.object, part: Part::Desired, expect: Expect::SameVersion };
        self.apply(vec![Op::Own(row), write]).await;
    }

    /// The Source reads its file, as it stands there.
    pub async fn read_file(&self) {
        let text = std::fs::read_to_string(self.dir.join("bot.yaml")).unwrap();
        let objects = open_dispatch::resource::yaml::read(&text, None).unwrap();
        self.commit(objects[0].to_json()["spec"].clone()).await;
    }

    /// The Source says that all stands as its files say.
    pub async fn source_is_well(&self) {
        let source = self.store.get(Kind::Source, "ours").await.unwrap();
        let mut source = source.and_then(AnyObject::into_source).unwrap();
        let (ready, holds) = ("Ready", ConditionStatus::True);
        source.status.conditions.set(ready, holds, "Applied", "", 1, self.now());
        let (object, part) = (source.into(), Part::Status);
        self.apply(vec![Op::Write { object, part, expect: Expect::SameVersion }]).await;
    }

    /// Somebody overrides the agent.
    pub async fn over(&self, name: &str, spec: Value) {
        let mut whole = json!({"target": {"kind": "Agent", "name": "bot"}});
        merge_patch(&mut whole, &spec);
        whole["patch"] = spec["patch"].clone();
        let json = json!({
            "apiVersion": API_VERSION, "kind": "Override", "metadata": {"name": name},
            "spec": whole,
        });
        self.create(json, &format!("{name}-uid")).await;
    }

    pub async fn delete(&self, kind: Kind, name: &str) {
        let name = name.to_owned();
        self.apply(vec![Op::Delete { kind, name, uid: None, resource_version: None }]).await;
    }

    pub async fn bot(&self) -> Agent {
        let bot = self.store.get(Kind::Agent, "bot").await.unwrap().unwrap();
        bot.into_agent().unwrap()
    }

    pub async fn spec(&self) -> Value {
        AnyObject::from(self.bot().await).to_json()["spec"].take()
    }

    pub async fn row(&self) -> Option<Owned> {
        self.store.owned(Kind::Agent, "bot").await.unwrap()
    }

    pub async fn find(&self, name: &str) -> Option<Override> {
        self.store.get(Kind::Override, name).await.unwrap().and_then(AnyObject::into_override)
    }

    /// An Override's phase, and why it is not applied.
    pub async fn phase(&self, name: &str) -> (String, String) {
        let Some(over) = self.find(name).await else { return ("gone".into(), String::new()) };
        let applied = over.status.conditions.get("Applied");
        let said = applied.map(|it| format!("{}: {}", it.reason, it.message)).unwrap_or_default();
        (over.status.phase, said)
    }

    /// The process dies, and another one starts.
    fn restart(&mut self) {
        self.write_with(self.pen.clone());
    }

    /// Another process, that writes with this pen.
    pub fn write_with(&mut self, pen: Arc<dyn Pen>) {
        (self.controller, self.files) =
            controllers(&self.store, &self.clock, &self.steps, pen.clone());
        self.pen = pen;
    }

    /// Changes the Source, as an editor does.
    pub async fn change_source(&self, change: impl FnOnce(&mut SourceSpec)) {
        let source = self.store.get(Kind::Source, "ours").await.unwrap().unwrap();
        let mut source = source.into_source().unwrap();
        change(&mut source.spec);
        let (object, part) = (source.into(), Part::Desired);
        self.apply(vec![Op::Write { object, part, expect: Expect::SameVersion }]).await;
    }

    /// What is said of an Override's file.
    pub async fn written(&self, name: &str) -> (String, String) {
        let over = self.find(name).await.unwrap();
        let written = over.status.conditions.get("Written");
        written.map(|it| (it.reason.clone(), it.message.clone())).unwrap_or_default()
    }

    /// Reconciles until nothing changes; answers when to look again.
    pub async fn settle(&mut self) -> Next {
        let mut next = Next::Done;
        for _ in 0..50 {
            let before = self.store.writes();
            let mut failed = false;
            let mut all: Vec<(bool, String)> = Vec::new();
            all.extend(
                self.controller.keys().await.unwrap().into_iter().map(|(key, _)| (true, key)),
            );
            all.extend(self.files.keys().await.unwrap().into_iter().map(|(key, _)| (false, key)));
            for (lays, key) in all {
                let reconciled = match lays {
                    true => self.controller.reconcile(&key).await,
                    false => self.files.reconcile(&key).await,
                };
                match reconciled {
                    Ok(answer) if lays => next = answer,
                    Ok(_) => {}
                    Err(reconcile::Error::Fault(Fault::Crash(_))) => {
                        self.restart();
                        failed = true;
                        break;
                    }
                    Err(reconcile::Error::Fault(_) | reconcile::Error::Conflict) => failed = true,
                    Err(error) => panic!("{error}"),
                }
            }
            self.holds().await;
            if !failed && before == self.store.writes() {
                return next;
            }
        }
        panic!("the overrides do not settle");
    }

    /// The invariant of what a Source owns: it says what its file says with its live Overrides merged
    /// in, save for power fields.
    pub async fn holds(&self) {
        let Some(row) = self.row().await else { return };
        let spec = self.spec().await;
        let patches = row.overrides.iter().map(|over| &over.patch);
        let meant = overlay::overlay(Kind::Agent, &row.base.spec, patches);
        let meant = overlay::with_power_of(Kind::Agent, meant, &spec);
        // As the types write it.
        let typed = |spec: Value| {
            decode(json!({
                "apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": "bot"},
                "spec": spec,
            }))
        };
        // Nothing follows from a file that cannot be taken.
        if typed(row.base.spec.clone()).is_ok() {
            assert_eq!(spec, typed(meant).unwrap().to_json()["spec"]);
        }
    }

    pub async fn advance(&mut self, hours: u64) {
        self.clock.advance(Duration::from_secs(hours * 3600));
        self.settle().await;
    }
}

fn controllers(
    store: &Arc<MemoryStore>,
    clock: &Arc<ManualClock>,
    steps: &Arc<dyn Steps>,
    pen: Arc<dyn Pen>,
) -> (OverrideController, FileController) {
    let ambient = Ambient {
        clock: Arc::clone(clock) as _,
        ids: Arc::new(SeededIds::new(7)),
        steps: Arc::clone(steps),
    };
    let store = || Arc::clone(store) as _;
    let over = OverrideController::new(store(), ambient.clone(), Defaults::default());
    (over, FileController::new(store(), ambient, Defaults::default(), pen))
}
