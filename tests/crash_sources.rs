//! Crash, error, or a lost answer at every named step of a Source's life ends in the same state.
//!
//! A dry pass records the steps. Then each of them has each fault once, in a fresh world, over memory
//! and over SQLite; after a crash a new engine goes on over the same store and the same files.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/steps.rs"]
mod steps;

use std::{fs, sync::Arc, time::Duration};

use open_dispatch::{
    ambient::{Ambient, ManualClock, Mode, ScriptedSteps, SeededIds},
    reconcile::{Engine, EngineHandle, Wake},
    resource::{
        CONFIRM_DELETIONS, Channel, Defaults, DirectorySource, Kind, Place, Source, SourceFrom,
        SourceSpec, admit,
    },
    source::SourceController,
    store::{
        Expect, Op, Part, Store, Subject, Transaction, memory::MemoryStore, sqlite::SqliteStore,
    },
};
use serde_json::{Value, json};
use steps::{HEIRS, SOURCES};

const MODES: [Mode; 4] = [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter];

struct House {
    dir: tempfile::TempDir,
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
        let ids = Arc::new(SeededIds::new(7));
        let steps = Arc::new(ScriptedSteps::new(fault));
        let store: Arc<dyn Store> = if on_disk {
            let ambient = Ambient { clock: clock.clone(), ..Ambient::real() };
            let path = dir.path().join("data");
            fs::create_dir(&path).unwrap();
            SqliteStore::open(&path, ambient).await.unwrap()
        } else {
            MemoryStore::new()
        };
        fs::create_dir(dir.path().join("specs")).unwrap();
        let mut house = Self { dir, store, clock, ids, steps, engine: None };
        house.start().await;
        house
    }

    fn ambient(&self) -> Ambient {
        Ambient { clock: self.clock.clone(), ids: self.ids.clone(), steps: self.steps.clone() }
    }

    async fn start(&mut self) {
        let mut engine = Engine::new(self.store.clone(), self.ambient());
        let (store, base) = (self.store.clone(), self.dir.path().to_owned());
        let defaults = Arc::new(Defaults::default());
        engine.add(Arc::new(SourceController::new(store, self.ambient(), defaults, base)));
        self.engine = Some(engine.start().await.unwrap());
    }

    fn put(&self, path: &str, text: &str) {
        fs::write(self.dir.path().join("specs").join(path), text).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.dir.path().join("specs").join(path)).unwrap();
    }

    async fn apply(&self, ops: Vec<Op>) {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        self.store.apply(Transaction { ops, now }).await.unwrap();
    }

    /// Wakes the Source as its directory would, and lets everything come to rest.
    async fn rest(&mut self) {
        if let Some(engine) = &self.engine {
            engine.wake("source", "specs", Wake::Observation);
        }
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

    /// What the controllers of the other kinds do: they let go of what is deleted.
    async fn bury(&self) -> bool {
        let mut ops = Vec::new();
        for kind in [Kind::Agent, Kind::Job] {
            for mut object in self.store.list(kind, None, 100).await.unwrap().items {
                if object.metadata().is_deleting() {
                    object.metadata_mut().finalizers.clear();
                    ops.push(Op::Write { object, part: Part::Finalizers, expect: Expect::Any });
                }
            }
        }
        let some = !ops.is_empty();
        if some {
            self.apply(ops).await;
        }
        some
    }

    async fn annotate(&self, key: &str, value: &str) {
        let mut object = self.store.get(Kind::Source, "specs").await.unwrap().unwrap();
        object.metadata_mut().annotations.insert(key.to_owned(), value.to_owned());
        self.apply(vec![Op::Write { object, part: Part::Desired, expect: Expect::Any }]).await;
    }

    async fn source(&self) -> Option<Source> {
        self.store.get(Kind::Source, "specs").await.unwrap().and_then(|it| it.into_source())
    }

    /// All that matters of the store, without ids and times.
    async fn sight(&self) -> Value {
        let mut objects = Vec::new();
        for kind in [Kind::Agent, Kind::Job, Kind::Source] {
            for object in self.store.list(kind, None, 100).await.unwrap().items {
                let json = object.to_json();
                let meta = object.metadata();
                let mut status = json["status"].clone();
                for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                    condition["lastTransitionTime"].take();
                }
                if let Some(status) = status.as_object_mut() {
                    status.remove("lastAppliedTime");
                }
                objects.push(json!([
                    kind.name(),
                    meta.name,
                    json["spec"],
                    meta.labels,
                    meta.generation,
                    meta.is_deleting(),
                    status,
                ]));
            }
        }
        let mut rows = Vec::new();
        if let Some(source) = self.source().await {
            for row in self.store.inventory(&source.metadata.uid).await.unwrap() {
                let is_there = self.store.get_by_uid(row.kind, &row.uid).await.unwrap().is_some();
                rows.push(json!([
                    row.name,
                    row.base.spec,
                    row.file,
                    row.line,
                    row.leaving,
                    is_there,
                ]));
            }
        }
        let deliveries = self.store.open_deliveries().await.unwrap();
        let notices: Vec<String> = deliveries
            .into_iter()
            .map(|it| match it.subject {
                Subject::Notice { text } => text,
                other => format!("{other:?}"),
            })
            .collect();
        json!({"objects": objects, "rows": rows, "notices": notices})
    }
}

fn agent(name: &str, text: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
         spec: {{agent: {{claude: {{}}}}, instructions: {text}}}\n---\n"
    )
}

fn job(task: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {{generateName: once-}}\n\
         spec: {{agent: {{claude: {{}}}}, task: {task}}}\n"
    )
}

fn source(path: &str) -> Source {
    let place = Place { channel: "main".to_owned(), thread: None };
    let spec = SourceSpec {
        from: SourceFrom::Directory(DirectorySource { path: path.to_owned(), commit: false }),
        interval: None,
        suspend: false,
        prune: serde_json::from_value(json!({"maxDeletions": 1})).unwrap(),
        policy: None,
        channels: vec![Channel::Console(place)],
    };
    Source::new("specs", spec)
}

/// The story: what is seen at the end of each of its chapters.
async fn tell(house: &mut House) -> Vec<Value> {
    let mut seen = Vec::new();
    house.put("a.yaml", &format!("{}{}", agent("one", "x"), agent("two", "x")));
    house.put("b.yaml", &job("work"));
    let made = admit::create(source("specs").into(), "uid of specs".to_owned(), "").unwrap();
    house.apply(vec![Op::Create(made)]).await;
    house.rest().await;
    seen.push(house.sight().await);

    // One changes, one comes, one is broken: nothing of it counts.
    house.put("a.yaml", &format!("{}{}", agent("one", "y"), agent("two", "x")));
    house.put("c.yaml", &format!("{}kind: [", agent("three", "x")));
    house.rest().await;
    seen.push(house.sight().await);
    house.put("c.yaml", &agent("three", "x"));
    house.rest().await;
    seen.push(house.sight().await);

    // Past the file, by hand: deleted, and changed.
    let mut two = house.store.get(Kind::Agent, "two").await.unwrap().unwrap().into_agent().unwrap();
    two.spec.instructions = Some("hand-made".to_owned());
    let delete =
        Op::Delete { kind: Kind::Agent, name: "one".into(), uid: None, resource_version: None };
    let write = Op::Write { object: two.into(), part: Part::Desired, expect: Expect::Any };
    house.apply(vec![delete, write]).await;
    house.rest().await;
    seen.push(house.sight().await);

    // More would go than may: it waits for somebody.
    house.remove("b.yaml");
    house.put("a.yaml", &agent("one", "y"));
    house.rest().await;
    seen.push(house.sight().await);
    let revision = house.source().await.unwrap().status.last_attempted_revision.unwrap();
    house.annotate(CONFIRM_DELETIONS, &revision).await;
    house.rest().await;
    // It counted once: the same revision would be held again.
    let annotations = house.source().await.unwrap().metadata.annotations;
    assert!(!annotations.contains_key(CONFIRM_DELETIONS), "{annotations:?}");
    seen.push(house.sight().await);

    // Another revision, and the one that was confirmed once again: it is asked for again.
    house.put("d.yaml", &format!("{}{}", agent("four", "x"), agent("five", "x")));
    house.rest().await;
    seen.push(house.sight().await);
    house.remove("d.yaml");
    house.rest().await;
    let status = house.source().await.unwrap().status;
    assert_eq!(status.last_attempted_revision, Some(revision), "it is the same revision");
    assert_eq!((status.phase.as_str(), status.held_deletions), ("Held", 2));
    seen.push(house.sight().await);

    // The end.
    house.annotate(CONFIRM_DELETIONS, "all").await;
    let delete =
        Op::Delete { kind: Kind::Source, name: "specs".into(), uid: None, resource_version: None };
    house.apply(vec![delete]).await;
    house.rest().await;
    seen.push(house.sight().await);
    seen
}

/// Wakes the Source once more, in the middle of the story, and counts the writes.
async fn once_more(house: &mut House) {
    let writes = house.store.writes();
    house.engine.as_ref().unwrap().wake("source", "specs", Wake::User);
    house.rest().await;
    assert_eq!(house.store.writes(), writes, "one more look wrote");
}

#[tokio::test]
async fn one_more_look_reads_files_and_writes_nothing() {
    let mut house = House::new(false, None).await;
    house.put("a.yaml", &agent("one", "x"));
    let made = admit::create(source("specs").into(), "uid of specs".to_owned(), "").unwrap();
    house.apply(vec![Op::Create(made)]).await;
    house.rest().await;
    once_more(&mut house).await;
    house.put("a.yaml", "kind: [");
    house.rest().await;
    once_more(&mut house).await;
    let read = house.steps.passed().iter().filter(|step| **step == "source.read").count();
    assert!(read >= 6, "it was not looked: {read}");
}

#[tokio::test]
async fn a_fault_at_any_step_ends_as_none_does() {
    let mut dry = House::new(false, None).await;
    let story = tell(&mut dry).await;
    insta::assert_json_snapshot!("the story", story);
    let steps = dry.steps.passed();
    let mut names: Vec<&str> = steps.clone();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, SOURCES, "a new step must be told in support/steps.rs");
    for on_disk in [false, true] {
        for (n, _) in steps.iter().enumerate() {
            // Reading changes nothing, so that its faults are much alike: over SQLite the commits do.
            if on_disk && steps[n] == "source.read" {
                continue;
            }
            for mode in MODES {
                let mut house = House::new(on_disk, Some((n, mode))).await;
                let told = tell(&mut house).await;
                assert!(house.steps.has_fired(), "{mode:?} at {n} ({}) did not happen", steps[n]);
                for (chapter, (told, story)) in told.iter().zip(&story).enumerate() {
                    assert_eq!(told, story, "chapter {chapter}, {mode:?} at {n} ({})", steps[n]);
                }
            }
        }
    }
}

/// A Source is taken out of the store by hand, and made again: what is seen at the end, and who was there
/// before and is there now.
async fn inherit(house: &mut House) -> (Value, [Option<String>; 2]) {
    let uid = async |house: &House| {
        let one = house.store.get(Kind::Agent, "one").await.unwrap();
        one.map(|one| one.metadata().uid.clone())
    };
    house.put("a.yaml", &format!("{}{}", agent("one", "x"), agent("two", "x")));
    let make = |uid: &str| {
        let made = admit::create(source("specs").into(), uid.to_owned(), "").unwrap();
        vec![Op::Create(made)]
    };
    house.apply(make("uid of specs")).await;
    house.rest().await;
    let before = uid(house).await;
    let mut object = house.store.get(Kind::Source, "specs").await.unwrap().unwrap();
    object.metadata_mut().finalizers.clear();
    let free = Op::Write { object, part: Part::Finalizers, expect: Expect::Any };
    let delete =
        Op::Delete { kind: Kind::Source, name: "specs".into(), uid: None, resource_version: None };
    house.apply(vec![free, delete]).await;
    house.rest().await;
    assert_eq!(house.store.inventory("uid of specs").await.unwrap().len(), 2, "they stay behind");
    // Meanwhile the files have changed: one says something else, and two is not named any more.
    house.put("a.yaml", &agent("one", "y"));
    house.apply(make("uid of its heir")).await;
    house.rest().await;
    assert_eq!(house.store.inventory("uid of specs").await.unwrap(), []);
    (house.sight().await, [before, uid(house).await])
}

#[tokio::test]
async fn what_a_source_left_that_was_taken_out_by_hand_is_inherited_by_the_next_of_its_name() {
    let mut dry = House::new(false, None).await;
    let (end, [before, now]) = inherit(&mut dry).await;
    assert!(before.is_some() && before == now, "it is the one that it was");
    let names = |sight: &Value| {
        let rows = sight["rows"].as_array().unwrap().iter();
        rows.map(|row| row[0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&end), ["one"], "{end}");
    let (agents, ready) = (&end["objects"][0], &end["objects"][1][6]["conditions"][0]);
    assert_eq!((&agents[1], &agents[2]["instructions"]), (&json!("one"), &json!("y")), "{end}");
    assert_eq!(ready["reason"], "Applied", "{end}");
    let steps = dry.steps.passed();
    let mut taken = steps.clone();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken, HEIRS);
    for on_disk in [false, true] {
        for (n, step) in steps.iter().enumerate() {
            if on_disk && *step == "source.read" {
                continue;
            }
            for mode in MODES {
                let case = format!("{mode:?} at {n} ({step}), on disk: {on_disk}");
                let mut house = House::new(on_disk, Some((n, mode))).await;
                let (other, [before, now]) = inherit(&mut house).await;
                assert!(house.steps.has_fired(), "{case} did not happen");
                assert!(before.is_some() && before == now, "{case}");
                assert_eq!(other, end, "{case}");
            }
        }
    }
}
