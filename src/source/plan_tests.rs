//! Plans, played against a store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use proptest::{collection, prelude::*};
use serde_json::json;

use super::{
    Snapshot, SourceFile,
    plan::{Plan, Refusal, World, plan, release},
    set::{Key, Limits, Rules, Set, called},
};
use crate::{
    ambient::{Ids as _, SeededIds},
    resource::{
        ADOPT, AgentSpec, AnyObject, CONFIRM_DELETIONS, Defaults, Kind, OwnerReference,
        RELEASED_FROM, Source, SourceSpec, admit,
    },
    store::{Expect, Op, Part, Store, Transaction, memory::MemoryStore},
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

struct Stage {
    store: Arc<dyn Store>,
    ids: SeededIds,
    source: Source,
    kept: BTreeSet<Key>,
    defaults: Defaults,
}

impl Stage {
    fn new(name: &str, spec: serde_json::Value) -> Self {
        Self::beside(MemoryStore::new(), name, spec)
    }

    fn beside(store: Arc<dyn Store>, name: &str, mut spec: serde_json::Value) -> Self {
        spec["from"] = json!({"directory": {"path": "/a"}});
        let spec: SourceSpec = serde_json::from_value(spec).unwrap();
        let mut source = Source::new(name, spec);
        source.metadata.uid = format!("uid of {name}");
        let (kept, defaults) = (BTreeSet::new(), Defaults::default());
        Self { store, ids: SeededIds::new(1), source, kept, defaults }
    }

    async fn plan(&self, set: &Set, revision: &str) -> Result<Plan, Refusal> {
        let (rows, live) = self.found(set).await;
        let world = World {
            source: &self.source,
            rows: &rows,
            live: &live,
            kept: &self.kept,
            defaults: &self.defaults,
            now: NOW,
        };
        plan(world, set, revision, &mut || self.ids.uid())
    }

    async fn found(
        &self,
        set: &Set,
    ) -> (BTreeMap<Key, crate::store::Owned>, BTreeMap<Key, AnyObject>) {
        let mut rows = BTreeMap::new();
        for row in self.store.inventory(&self.source.metadata.uid).await.unwrap() {
            rows.insert((row.kind, row.name.clone()), row);
        }
        for key in set.objects.keys() {
            if let Some(row) = self.store.owned(key.0, &key.1).await.unwrap() {
                rows.insert(key.clone(), row);
            }
        }
        let mut live = BTreeMap::new();
        for kind in Kind::ALL {
            for object in self.store.list(kind, None, 1_000).await.unwrap().items {
                live.insert((kind, object.metadata().name.clone()), object);
            }
        }
        (rows, live)
    }

    async fn commit(&self, ops: Vec<Op>) {
        self.store.apply(Transaction { ops, now: NOW }).await.unwrap();
    }

    /// Applies files, and finds that nothing is left to do.
    async fn apply(&self, files: &[(&str, &str)]) -> Result<Plan, Refusal> {
        let set = set_by(files, &self.defaults);
        let plan = self.plan(&set, "revision-0001").await?;
        self.commit(plan.ops.clone()).await;
        let again = self.plan(&set, "revision-0001").await.unwrap();
        assert_eq!(again.ops, [], "the plan after the plan is not empty");
        Ok(plan)
    }

    fn confirm(&mut self, revision: &str) {
        let annotations = &mut self.source.metadata.annotations;
        annotations.insert(CONFIRM_DELETIONS.to_owned(), revision.to_owned());
    }

    /// Why files cannot be applied.
    async fn refused(&self, files: &[(&str, &str)]) -> String {
        match self.apply(files).await {
            Err(Refusal::Conflict(faults)) => faults.to_string(),
            other => format!("{other:?}"),
        }
    }

    async fn bury(&self) {
        for kind in [Kind::Agent, Kind::Job] {
            for mut object in self.store.list(kind, None, 1_000).await.unwrap().items {
                if object.metadata().is_deleting() {
                    object.metadata_mut().finalizers.clear();
                    let (part, expect) = (Part::Finalizers, Expect::Any);
                    self.commit(vec![Op::Write { object, part, expect }]).await;
                }
            }
        }
    }

    async fn agent(&self, name: &str) -> AgentSpec {
        self.store.get(Kind::Agent, name).await.unwrap().unwrap().into_agent().unwrap().spec
    }

    async fn change(&self, kind: Kind, name: &str, change: impl FnOnce(&mut AnyObject)) {
        let mut object = self.store.get(kind, name).await.unwrap().unwrap();
        change(&mut object);
        self.commit(vec![Op::Write { object, part: Part::Desired, expect: Expect::Any }]).await;
    }
}

fn set(files: &[(&str, &str)]) -> Set {
    set_by(files, &Defaults::default())
}

fn set_by(files: &[(&str, &str)], defaults: &Defaults) -> Set {
    let file = |(path, text): &(&str, &str)| SourceFile {
        path: (*path).to_owned(),
        text: (*text).to_owned(),
        repo: None,
    };
    let files = files.iter().map(file).collect();
    let snapshot = Snapshot { revision: String::new(), files };
    let rules = Rules { defaults, policy: None, source: "ours", limits: Limits::WHOLE };
    Set::read(&snapshot, rules).unwrap()
}

fn agent(name: &str, more: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
         spec: {{agent: {{claude: {{}}}}{more}}}\n---\n"
    )
}

fn job(name: &str, task: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {{name: {name}}}\n\
         spec: {{agent: {{claude: {{}}}}, task: {task}}}\n---\n"
    )
}

fn names(keys: &[Key]) -> Vec<String> {
    keys.iter().map(called).collect()
}

#[tokio::test]
async fn what_is_written_is_made_what_changes_is_changed_and_what_goes_is_deleted() {
    let stage = Stage::new("specs", json!({}));
    let made = stage.apply(&[("a.yaml", &(agent("a", "") + &agent("b", "")))]).await.unwrap();
    assert_eq!(names(&made.created), ["agent/a", "agent/b"]);
    let more = agent("a", ", instructions: x") + &agent("c", "");
    let next = stage.apply(&[("a.yaml", &more)]).await.unwrap();
    assert_eq!(names(&next.created), ["agent/c"]);
    assert_eq!(names(&next.changed), ["agent/a"]);
    assert_eq!((names(&next.deleted), next.leaving), (vec!["agent/b".to_owned()], 1));
    // The row stays until the object is gone.
    let row = stage.store.owned(Kind::Agent, "b").await.unwrap().unwrap();
    assert!(row.leaving);
    stage.bury().await;
    stage.apply(&[("a.yaml", &more)]).await.unwrap();
    assert_eq!(stage.store.owned(Kind::Agent, "b").await.unwrap(), None);
}

#[tokio::test]
async fn what_was_changed_or_deleted_past_the_file_is_put_right_but_not_its_power() {
    let stage = Stage::new("specs", json!({}));
    let files = agent("a", "") + &agent("b", "");
    stage.apply(&[("a.yaml", &files)]).await.unwrap();
    stage
        .change(Kind::Agent, "a", |object| {
            if let AnyObject::Agent(agent) = object {
                agent.spec.instructions = Some("mine".to_owned());
                agent.spec.suspend = true;
            }
            object.metadata_mut().labels.insert("mine".to_owned(), "yes".to_owned());
            let note = ("opendispatch.dev/told-stopped".to_owned(), "1".to_owned());
            object.metadata_mut().annotations.extend([note, ("mine".into(), "yes".into())]);
        })
        .await;
    let (kind, name) = (Kind::Agent, "b".to_owned());
    stage.commit(vec![Op::Delete { kind, name, uid: None, resource_version: None }]).await;
    let plan = stage.apply(&[("a.yaml", &files)]).await.unwrap();
    assert_eq!(names(&plan.drifted), ["agent/a"]);
    assert_eq!(names(&plan.waiting), ["agent/b"]);
    let a = stage.store.get(Kind::Agent, "a").await.unwrap().unwrap();
    assert_eq!(a.metadata().labels, BTreeMap::new());
    let kept: Vec<_> = a.metadata().annotations.keys().collect();
    assert_eq!(kept, ["opendispatch.dev/told-stopped"]);
    let spec = stage.agent("a").await;
    assert_eq!((spec.instructions, spec.suspend), (None, true));
    stage.bury().await;
    assert_eq!(names(&stage.apply(&[("a.yaml", &files)]).await.unwrap().created), ["agent/b"]);
    // Only a file that says something else about its power is heard.
    let on = agent("a", ", suspend: true") + &agent("b", ", suspend: true");
    stage.apply(&[("a.yaml", &on)]).await.unwrap();
    assert!(stage.agent("b").await.suspend);
    stage.apply(&[("a.yaml", &files)]).await.unwrap();
    assert!(!stage.agent("a").await.suspend && !stage.agent("b").await.suspend);
}

#[tokio::test]
async fn nothing_of_others_is_taken_unless_it_is_handed_over() {
    let stage = Stage::new("specs", json!({}));
    let other = Stage::beside(stage.store.clone(), "other", json!({}));
    other.apply(&[("o.yaml", &agent("theirs", ""))]).await.unwrap();
    for name in ["same", "differs", "made", "released"] {
        let text = agent(name, "");
        let object = set(&[("x.yaml", &text)]).objects.into_values().next().unwrap().object.clone();
        let object = admit::create(object, format!("uid of {name}"), "").unwrap();
        stage.commit(vec![Op::Create(object)]).await;
    }
    let owner = OwnerReference {
        api_version: "opendispatch.dev/v1alpha1".to_owned(),
        kind: Kind::Fleet,
        name: "crew".to_owned(),
        uid: "f".to_owned(),
        controller: true,
    };
    let mut made = stage.store.get(Kind::Agent, "made").await.unwrap().unwrap();
    made.metadata_mut().owner_references = vec![owner];
    let (part, expect) = (Part::Finalizers, Expect::Any);
    stage.commit(vec![Op::Write { object: made, part, expect }]).await;
    let annotate = |key: &'static str| {
        move |object: &mut AnyObject| {
            object.metadata_mut().annotations.insert(key.to_owned(), "specs".to_owned());
        }
    };
    stage.change(Kind::Agent, "released", annotate(RELEASED_FROM)).await;
    let files = agent("theirs", "")
        + &agent("same", "")
        + &agent("differs", ", instructions: x")
        + &agent("made", "")
        + &agent("released", "");
    insta::assert_snapshot!(stage.refused(&[("a.yaml", &files)]).await);
    let files = agent("same", "") + &agent("differs", ", instructions: x") + &agent("released", "");
    stage.change(Kind::Agent, "differs", annotate(ADOPT)).await;
    stage.change(Kind::Agent, "released", annotate(ADOPT)).await;
    let plan = stage.apply(&[("a.yaml", &files)]).await.unwrap();
    assert_eq!(names(&plan.adopted), ["agent/differs", "agent/released", "agent/same"]);
    let metadata = stage.store.get(Kind::Agent, "released").await.unwrap().unwrap();
    assert!(metadata.metadata().annotations.is_empty());
}

#[tokio::test]
async fn labels_and_annotations_of_what_is_nobodys_are_not_lost_by_taking_it() {
    let stage = Stage::new("specs", json!({}));
    let text = agent("mine", "");
    let object = set(&[("x.yaml", &text)]).objects.into_values().next().unwrap().object.clone();
    stage.commit(vec![Op::Create(admit::create(object, "uid".to_owned(), "").unwrap())]).await;
    let mark = |object: &mut AnyObject| {
        object.metadata_mut().labels.insert("team".to_owned(), "a".to_owned());
        object.metadata_mut().annotations.insert("note".to_owned(), "keep".to_owned());
    };
    stage.change(Kind::Agent, "mine", mark).await;
    let told = stage.refused(&[("a.yaml", &text)]).await;
    assert!(told.contains("differs in metadata.labels, metadata.annotations;"), "{told}");
    let hand = |object: &mut AnyObject| {
        object.metadata_mut().annotations.insert(ADOPT.to_owned(), "specs".to_owned());
    };
    stage.change(Kind::Agent, "mine", hand).await;
    assert_eq!(names(&stage.apply(&[("a.yaml", &text)]).await.unwrap().adopted), ["agent/mine"]);
}

#[tokio::test]
async fn a_job_runs_once_and_a_changed_one_is_refused() {
    let stage = Stage::new("specs", json!({}));
    stage.apply(&[("a.yaml", &job("a", "x"))]).await.unwrap();
    insta::assert_snapshot!(stage.refused(&[("a.yaml", &job("a", "y"))]).await, @"a.yaml:1:1: spec.task: of job/a cannot change, because its attempts are made from it; give the Job another name, or metadata.generateName in place of the name");
    let (kind, name) = (Kind::Job, "a".to_owned());
    let delete = || Op::Delete { kind, name: name.clone(), uid: None, resource_version: None };
    stage.commit(vec![delete()]).await;
    stage.bury().await;
    assert_eq!(stage.apply(&[("a.yaml", &job("a", "x"))]).await.unwrap().created, []);
    // What the file says by now is another Job.
    let again = stage.apply(&[("a.yaml", &job("a", "y"))]).await.unwrap();
    assert_eq!(names(&again.created), ["job/a"]);
    // Changed while the last one is on its way out: it comes once that is gone.
    stage.commit(vec![delete()]).await;
    assert_eq!(
        names(&stage.apply(&[("a.yaml", &job("a", "z"))]).await.unwrap().waiting),
        ["job/a"]
    );
    stage.bury().await;
    assert_eq!(
        names(&stage.apply(&[("a.yaml", &job("a", "z"))]).await.unwrap().created),
        ["job/a"]
    );
}

#[tokio::test]
async fn deletions_are_capped_confirmed_by_revision_and_never_all_of_them() {
    let mut stage = Stage::new("specs", json!({"prune": {"maxDeletions": 1}}));
    let all = agent("a", "") + &agent("b", "") + &agent("c", "");
    stage.apply(&[("a.yaml", &all)]).await.unwrap();
    assert_eq!(stage.apply(&[]).await.unwrap_err(), Refusal::Empty(3));
    let one = agent("a", "");
    let less = [("a.yaml", one.as_str())];
    let held = Refusal::Held { deletions: 2, limit: 1 };
    assert_eq!(stage.apply(&less).await.unwrap_err(), held);
    for other in ["revision-0002", "revision", "all", ""] {
        stage.confirm(other);
        assert_eq!(stage.apply(&less).await.unwrap_err(), held, "{other}");
    }
    stage.confirm("revision-000");
    let plan = stage.apply(&less).await.unwrap();
    assert_eq!((plan.deleted.len(), plan.confirmed), (2, true));
    // Who needs no confirmation leaves it for the one that does.
    assert!(!stage.apply(&less).await.unwrap().confirmed);
}

#[tokio::test]
async fn a_deleted_source_deletes_within_the_cap_and_a_suspended_one_lets_go() {
    for (spec, deleted, released) in [
        (json!({}), 2, 0),
        (json!({"suspend": true}), 0, 2),
        (json!({"prune": {"policy": "Orphan"}}), 0, 2),
    ] {
        let stage = Stage::new("specs", spec);
        let files = agent("a", "") + &agent("b", "");
        stage.apply(&[("a.yaml", &files)]).await.unwrap();
        let (rows, live) = stage.found(&Set::default()).await;
        let (source, kept, defaults) = (&stage.source, &stage.kept, &stage.defaults);
        let world = World { source, rows: &rows, live: &live, kept, defaults, now: NOW };
        let plan = release(world).unwrap();
        assert_eq!((plan.deleted.len(), plan.released.len()), (deleted, released));
        stage.commit(plan.ops).await;
    }
}

fn any_files() -> impl Strategy<Value = Vec<(u8, u8, bool)>> {
    collection::vec((0u8..5, 0u8..3, any::<bool>()), 1..5)
}

fn text_of(files: &[(u8, u8, bool)]) -> String {
    let mut seen = std::collections::BTreeSet::new();
    let fresh = files.iter().filter(|(name, _, _)| seen.insert(*name));
    fresh
        .map(|(name, words, suspend)| {
            agent(&format!("n{name}"), &format!(", instructions: w{words}, suspend: {suspend}"))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn applying_is_idempotent_and_ends_where_the_files_say(
        revisions in collection::vec(any_files(), 1..5), meddles in collection::vec((0u8..5, any::<bool>()), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new("specs", json!({}));
            for files in &revisions {
                let text = text_of(files);
                // `apply` looks that the next plan is empty.
                stage.apply(&[("a.yaml", &text)]).await.unwrap();
                for (name, deletes) in &meddles {
                    let name = format!("n{name}");
                    if stage.store.get(Kind::Agent, &name).await.unwrap().is_none() {
                        continue;
                    }
                    if *deletes {
                        let kind = Kind::Agent;
                        let op = Op::Delete { kind, name, uid: None, resource_version: None };
                        stage.commit(vec![op]).await;
                    } else {
                        stage.change(Kind::Agent, &name, |object| {
                            object.metadata_mut().labels.insert("x".into(), "y".into());
                        }).await;
                    }
                }
                stage.bury().await;
                stage.apply(&[("a.yaml", &text)]).await.unwrap();
                stage.bury().await;
                stage.apply(&[("a.yaml", &text)]).await.unwrap();
                let wanted = set(&[("a.yaml", &text)]);
                let found = stage.store.list(Kind::Agent, None, 100).await.unwrap().items;
                assert_eq!(found.len(), wanted.objects.len());
                for object in found {
                    let key = (Kind::Agent, object.metadata().name.clone());
                    let base = &wanted.objects[&key].base;
                    assert_eq!(object.to_json()["spec"]["instructions"], base.spec["instructions"]);
                    assert_eq!(object.metadata().labels, base.labels);
                }
            }
        });
    }
}
