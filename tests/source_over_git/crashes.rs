//! Crash, error, or a lost answer at every named step of a Source over Git, with a change that is
//! written back, ends in the same state: one commit for one change, by whoever asked for it.

use std::{fs, sync::Arc, time::Duration};

use open_dispatch::{
    ambient::{Ambient, ManualClock, Mode, ScriptedSteps, SeededIds},
    reconcile::{Engine, EngineHandle, Wake},
    resource::{
        ASKED_BY, Defaults, GitSource, Kind, Override, Source, SourceFrom, SourceSpec, admit,
    },
    secrets::Secrets,
    source::{
        SourceController,
        git::{Git, Limits, Settings},
        over::{FileController, OverrideController, pen::SourcePen},
    },
    store::{Expect, Op, Part, Store, Transaction, memory::MemoryStore, sqlite::SqliteStore},
};
use serde_json::{Value, json};

use super::{
    agent,
    git::{Origin, shown},
    steps::GIT_SOURCES,
};

struct House {
    dir: tempfile::TempDir,
    origin: Origin,
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    ids: Arc<SeededIds>,
    steps: Arc<ScriptedSteps>,
    engine: Option<EngineHandle>,
}

impl House {
    async fn new(on_disk: bool, fault: Option<(usize, Mode)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let steps = Arc::new(ScriptedSteps::new(fault));
        let store: Arc<dyn Store> = if on_disk {
            let path = dir.path().join("data");
            fs::create_dir(&path).unwrap();
            let ambient = Ambient { clock: clock.clone(), ..Ambient::real() };
            SqliteStore::open(&path, ambient).await.unwrap()
        } else {
            MemoryStore::new()
        };
        let origin = Origin::new(&dir.path().join("repos"), "ops");
        let ids = Arc::new(SeededIds::new(7));
        let mut house = Self { dir, origin, store, clock, ids, steps, engine: None };
        house.start().await;
        house
    }

    async fn start(&mut self) {
        let air = || Ambient {
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            steps: self.steps.clone(),
        };
        let settings = Settings {
            dir: self.dir.path().join("mirrors"),
            environment: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
            roots: vec![self.dir.path().join("repos")],
            limits: Limits::default(),
        };
        let secrets = Secrets::new(self.dir.path().join("secrets"), Vec::new());
        let git = Git::new(settings, secrets, air());
        let (store, base) = (|| self.store.clone(), self.dir.path().to_owned());
        let sources = SourceController::new(store(), air(), Arc::new(Defaults::default()), base);
        let overrides = OverrideController::new(store(), air(), Defaults::default());
        let pen = Arc::new(SourcePen::new(self.dir.path(), git.clone()));
        let mut engine = Engine::new(store(), air());
        engine.add(Arc::new(sources.with_git(git)));
        engine.add(Arc::new(overrides));
        engine.add(Arc::new(FileController::new(store(), air(), Defaults::default(), pen)));
        self.engine = Some(engine.start().await.unwrap());
    }

    async fn apply(&self, op: Op) {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        self.store.apply(Transaction { ops: vec![op], now }).await.unwrap();
    }

    /// Wakes the Source, as a push would, and lets everything come to rest.
    async fn rest(&mut self) {
        for _ in 0..2 {
            self.engine.as_ref().unwrap().wake("source", "ops", Wake::Observation);
            self.still().await;
        }
    }

    async fn still(&mut self) {
        for _ in 0..200 {
            let engine = self.engine.as_ref().unwrap();
            engine.idle().await;
            if engine.has_crashed() {
                self.engine = None;
                self.start().await;
                continue;
            }
            if self.bury().await {
                continue;
            }
            match self.engine.as_ref().unwrap().next_timer() {
                Some(due) if due < Duration::from_secs(50) => self.clock.advance(due),
                _ => return,
            }
        }
        panic!("it does not come to rest");
    }

    /// What the controller of agents does: it lets go of what is deleted.
    async fn bury(&self) -> bool {
        let agents = self.store.list(Kind::Agent, None, 9).await.unwrap().items;
        let leaving = agents.into_iter().filter(|agent| agent.metadata().is_deleting());
        let mut some = false;
        for mut object in leaving {
            object.metadata_mut().finalizers.clear();
            self.apply(Op::Write { object, part: Part::Finalizers, expect: Expect::Any }).await;
            some = true;
        }
        some
    }

    async fn sight(&self) -> Value {
        let mut agents = Vec::new();
        for object in self.store.list(Kind::Agent, None, 100).await.unwrap().items {
            let json = object.to_json();
            agents.push(json!([object.metadata().name, json["spec"]["instructions"]]));
        }
        let source = self.store.get(Kind::Source, "ops").await.unwrap();
        let source = source.map(|it| {
            let status = it.to_json()["status"].take();
            json!([
                status["phase"],
                status["lastAppliedRevision"] == status["lastAttemptedRevision"]
            ])
        });
        let over = self.store.get(Kind::Override, "words").await.unwrap();
        let over = over.map(|it| it.to_json()["status"]["phase"].take());
        let rows = self.store.inventory("0199-ops").await.unwrap();
        let rows: Vec<Value> = rows
            .into_iter()
            .map(|row| json!([row.name, row.base.spec["instructions"], row.overrides.len()]))
            .collect();
        let log = self.origin.at_origin(&["log", "--format=%an: %s", "main"]);
        let mirrors = fs::read_dir(self.dir.path().join("mirrors")).unwrap().count();
        json!({
            "agents": agents, "source": source, "override": over, "rows": rows,
            "log": log.lines().collect::<Vec<_>>(), "mirrors": mirrors,
        })
    }
}

/// A Source comes, a person changes what it declares, somebody else pushes, and it goes.
async fn tell(house: &mut House) -> Vec<Value> {
    let mut seen = Vec::new();
    house.origin.write("a.yaml", agent("bot", "one")).push();
    let git =
        GitSource { url: Some(shown(&house.origin.bare)), push: true, ..GitSource::default() };
    let spec = json!({"from": {"directory": {"path": "/"}}});
    let mut spec: SourceSpec = serde_json::from_value(spec).unwrap();
    spec.from = SourceFrom::Git(git);
    let source = admit::create(Source::new("ops", spec).into(), "0199-ops".to_owned(), "");
    house.apply(Op::Create(source.unwrap())).await;
    house.rest().await;
    seen.push(house.sight().await);

    let spec = json!({
        "target": {"kind": "Agent", "name": "bot"},
        "patch": {"instructions": "two"},
        "writeToFile": true,
    });
    let mut over = Override::new("words", serde_json::from_value(spec).unwrap());
    over.metadata.annotations.insert(ASKED_BY.to_owned(), "Ada (slack:U1)".to_owned());
    let over = admit::create(over.into(), "0199-words".to_owned(), "").unwrap();
    house.apply(Op::Create(over)).await;
    house.rest().await;
    seen.push(house.sight().await);

    house.origin.git(&["pull", "-q", "--rebase", "origin", "main"]);
    house.origin.write("b.yaml", agent("more", "three")).push();
    house.rest().await;
    seen.push(house.sight().await);

    let (kind, name) = (Kind::Source, "ops".to_owned());
    house.apply(Op::Delete { kind, name, uid: None, resource_version: None }).await;
    house.rest().await;
    seen.push(house.sight().await);
    seen
}

#[tokio::test]
async fn a_fault_at_any_step_over_git_ends_as_none_does() {
    let mut dry = House::new(false, None).await;
    let story = tell(&mut dry).await;
    assert_eq!(
        story[1],
        json!({
            "agents": [["bot", "two"]],
            "source": ["Ready", true],
            "override": "Written",
            "rows": [["bot", "two", 0]],
            "log": ["Ada (slack:U1): Set instructions of agent bot", "Tester: change"],
            "mirrors": 1,
        })
    );
    assert_eq!(story[3]["agents"], json!([]));
    assert_eq!((&story[3]["source"], &story[3]["mirrors"]), (&Value::Null, &json!(0)));
    let steps = dry.steps.passed();
    let mut names: Vec<&str> = steps.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, GIT_SOURCES, "a new step must be told in support/steps.rs");
    for on_disk in [false, true] {
        for (n, step) in steps.iter().enumerate() {
            // A look is much like the one before it, so each of its steps is enough once; over
            // SQLite, the commits are what differs.
            let is_again = steps[..n].contains(step);
            let looks = matches!(*step, "source.read" | "source.fetch" | "source.accept");
            let commits = matches!(*step, "source.push" | "source.apply" | "override.write-file");
            if (looks && is_again) || (on_disk && (is_again || !commits)) {
                continue;
            }
            for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
                if on_disk && matches!(mode, Mode::ErrorBefore | Mode::ErrorAfter) {
                    continue;
                }
                let mut house = House::new(on_disk, Some((n, mode))).await;
                let told = tell(&mut house).await;
                assert!(house.steps.has_fired(), "{mode:?} at {n} ({step}) did not happen");
                for (chapter, (told, story)) in told.iter().zip(&story).enumerate() {
                    assert_eq!(told, story, "chapter {chapter}, {mode:?} at {n} ({step})");
                }
            }
        }
    }
}
