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
    set::{Key, Limits, Rejected, Rules, Set, called},
};
use crate::{
    ambient::{Ids as _, SeededIds},
    resource::{
        ADOPT, AgentSpec, AnyObject, CONFIRM_DELETIONS, Defaults, Kind, OwnerReference,
        RELEASED_FROM, RunOutcome, Source, SourcePolicy, SourceSpec, admit,
        expand::{NoDirectories, members},
    },
    store::{Expect, Op, Part, Store, Transaction, memory::MemoryStore},
};

pub(super) const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) struct Stage {
    pub(super) store: Arc<dyn Store>,
    pub(super) ids: SeededIds,
    pub(super) source: Source,
    pub(super) kept: BTreeSet<Key>,
    pub(super) defaults: Defaults,
}

impl Stage {
    pub(super) fn new(name: &str, spec: serde_json::Value) -> Self {
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

    pub(super) async fn found(
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

    pub(super) async fn commit(&self, ops: Vec<Op>) {
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

    pub(super) async fn bury(&self) {
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

    pub(super) async fn agent(&self, name: &str) -> AgentSpec {
        self.store.get(Kind::Agent, name).await.unwrap().unwrap().into_agent().unwrap().spec
    }

    pub(super) async fn change(&self, kind: Kind, name: &str, change: impl FnOnce(&mut AnyObject)) {
        let mut object = self.store.get(kind, name).await.unwrap().unwrap();
        change(&mut object);
        self.commit(vec![Op::Write { object, part: Part::Desired, expect: Expect::Any }]).await;
    }
}

fn set(files: &[(&str, &str)]) -> Set {
    set_by(files, &Defaults::default())
}

pub(super) fn set_by(files: &[(&str, &str)], defaults: &Defaults) -> Set {
    read_by(files, defaults, None).unwrap()
}

fn read_by(
    files: &[(&str, &str)],
    defaults: &Defaults,
    policy: Option<&SourcePolicy>,
) -> Result<Set, Rejected> {
    let file = |(path, text): &(&str, &str)| SourceFile {
        path: (*path).to_owned(),
        text: (*text).to_owned(),
        repo: None,
    };
    let files = files.iter().map(file).collect();
    let snapshot = Snapshot { revision: String::new(), files };
    let rules = Rules { defaults, policy, source: "ours", limits: Limits::WHOLE };
    Set::read(&snapshot, rules)
}

pub(super) fn agent(name: &str, more: &str) -> String {
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
         spec: {{agent: {{claude: {{}}}}{more}}}\n---\n"
    )
}

pub(super) fn job(name: &str, task: &str) -> String {
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

/// Settings under which what a document does not say is filled in like this.
fn usual(agent: serde_json::Value, model: &str) -> Defaults {
    let agent = serde_json::from_value(agent).unwrap();
    Defaults { agent: Some(agent), opencode_model: Some(model.to_owned()), ..Defaults::default() }
}

/// Documents of each kind that leave to the server what they can.
const SILENT: &str = "
apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {name: bot}
spec: {instructions: x}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata: {name: stands}
spec: {task: x, agent: {opencode: {}}}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata: {name: over}
spec: {task: x}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata: {generateName: drawn-}
spec: {task: x}
---
apiVersion: opendispatch.dev/v1alpha1
kind: Schedule
metadata: {name: daily}
spec: {schedule: '@daily', jobTemplate: {spec: {task: x}}}
";

/// A world in which [`SILENT`] was applied under other settings, and one of its Jobs is over and gone.
async fn silent() -> Stage {
    let mut stage = Stage::new("specs", json!({}));
    stage.defaults = usual(json!({"opencode": {}}), "a/old");
    let made = stage.apply(&[("a.yaml", SILENT)]).await.unwrap();
    assert_eq!(made.created.len(), 5);
    let (kind, name) = (Kind::Job, "over".to_owned());
    stage.commit(vec![Op::Delete { kind, name, uid: None, resource_version: None }]).await;
    stage.bury().await;
    stage.apply(&[("a.yaml", SILENT)]).await.unwrap();
    stage.defaults = usual(json!({"claude": {}}), "a/new");
    stage
}

#[tokio::test]
async fn the_same_files_under_other_settings_of_the_server_change_nothing() {
    let stage = silent().await;
    let plan = stage.apply(&[("a.yaml", SILENT)]).await.unwrap();
    assert_eq!(plan, Plan::default());
    let bot = stage.agent("bot").await;
    assert_eq!(json!(bot.agent), json!({"opencode": {"model": "a/old"}}));
    // One that was deleted by hand comes as it was.
    let (kind, name) = (Kind::Agent, "bot".to_owned());
    stage.commit(vec![Op::Delete { kind, name, uid: None, resource_version: None }]).await;
    stage.bury().await;
    stage.apply(&[("a.yaml", SILENT)]).await.unwrap();
    assert_eq!(stage.agent("bot").await, bot);
}

#[tokio::test]
async fn a_file_that_says_something_else_is_filled_in_as_it_is_today() {
    let stage = silent().await;
    let other = SILENT.replace("{instructions: x}", "{instructions: y}");
    let plan = stage.apply(&[("a.yaml", &other)]).await.unwrap();
    assert_eq!(names(&plan.changed), ["agent/bot"]);
    assert_eq!(json!(stage.agent("bot").await.agent), json!({"claude": {}}));
    // A changed Job is another one.
    let other = other.replace(
        "{generateName: drawn-}\nspec: {task: x}",
        "{generateName: drawn-}\nspec: {task: y}",
    );
    let plan = stage.apply(&[("a.yaml", &other)]).await.unwrap();
    assert_eq!((plan.created.len(), plan.deleted.len()), (1, 1));
    // To say what was filled in is to say something.
    let named =
        SILENT.replace("{instructions: x}", "{instructions: y, agent: {opencode: {model: a/old}}}");
    stage.apply(&[("a.yaml", &named)]).await.unwrap();
    assert_eq!(json!(stage.agent("bot").await.agent), json!({"opencode": {"model": "a/old"}}));
}

#[tokio::test]
async fn the_rows_of_an_older_server_count_for_what_they_are() {
    let mut stage = silent().await;
    // It noted no digest, and drew names from what it had filled in.
    let sha = |spec: &serde_json::Value| {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(spec.to_string().as_bytes());
        digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    for mut row in stage.store.inventory(&stage.source.metadata.uid).await.unwrap() {
        row.base.said = String::new();
        if row.name.starts_with("drawn-") {
            let object = stage.store.get(row.kind, &row.name).await.unwrap().unwrap();
            stage
                .commit(vec![
                    Op::Delete {
                        kind: row.kind,
                        name: row.name.clone(),
                        uid: None,
                        resource_version: None,
                    },
                    Op::Disown { kind: row.kind, name: row.name.clone(), version: row.version },
                ])
                .await;
            stage.bury().await;
            let mut json = object.to_json();
            row.name = format!("drawn-{}", sha(&json["spec"]));
            (row.version, row.uid) = (0, "uid of drawn".to_owned());
            json["metadata"] = json!({"name": row.name});
            let object = admit::create(crate::resource::decode(json).unwrap(), row.uid.clone(), "");
            stage.commit(vec![Op::Create(object.unwrap())]).await;
        }
        stage.commit(vec![Op::Own(row)]).await;
    }
    let plan = stage.apply(&[("a.yaml", SILENT)]).await.unwrap();
    // All that is done is to note the digests.
    assert!(plan.ops.iter().all(|op| matches!(op, Op::Own(_))), "{:?}", plan.ops);
    assert_eq!(plan.ops.len(), 5);
    // From here on they are exact, whatever the settings are.
    stage.defaults = usual(json!({"codex": {}}), "a/third");
    assert_eq!(stage.apply(&[("a.yaml", SILENT)]).await.unwrap(), Plan::default());
    // An old row does not hide what a file says by now.
    for mut row in stage.store.inventory(&stage.source.metadata.uid).await.unwrap() {
        row.base.said = String::new();
        stage.commit(vec![Op::Own(row)]).await;
    }
    let other = SILENT.replace("{instructions: x}", "{instructions: y}");
    let plan = stage.apply(&[("a.yaml", &other)]).await.unwrap();
    assert_eq!(names(&plan.changed), ["agent/bot"]);
}

/// Settings by which what names no place runs as a machine.
fn on_fly() -> Defaults {
    let image = Some("registry.example/a".to_owned());
    let images = Some(crate::resource::Images { usual: image, ..Default::default() });
    Defaults { on_fly: true, images, ..usual(json!({"claude": {}}), "a/b") }
}

#[tokio::test]
async fn what_a_source_may_not_write_any_more_is_filled_in_anew() {
    let mut stage = Stage::new("specs", json!({}));
    let text = SILENT.split("---").next().unwrap();
    stage.defaults = on_fly();
    stage.apply(&[("a.yaml", text)]).await.unwrap();
    assert!(json!(stage.agent("bot").await.runtime)["fly"].is_object());
    stage.defaults.on_fly = false;
    assert_eq!(stage.apply(&[("a.yaml", text)]).await.unwrap(), Plan::default());
    let runtimes = Some(vec!["local".to_owned()]);
    stage.source.spec.policy = Some(SourcePolicy { runtimes, ..SourcePolicy::default() });
    let plan = stage.apply(&[("a.yaml", text)]).await.unwrap();
    assert_eq!(names(&plan.changed), ["agent/bot"]);
    assert!(json!(stage.agent("bot").await.runtime)["fly"].is_null());
}

/// A Fleet of two that leaves everything to the settings, and more of its template's spec.
fn crew(kind: &str, more: &str) -> String {
    let of = if kind == "Job" { "task: x" } else { "instructions: x" };
    format!(
        "apiVersion: opendispatch.dev/v1alpha1\nkind: Fleet\nmetadata: {{name: crew}}\nspec:\n  \
         generate: {{list: [{{n: a}}, {{n: b}}]}}\n  \
         template: {{kind: {kind}, metadata: {{name: \"m-{{{{n}}}}\"}}, spec: {{{of}{more}}}}}\n"
    )
}

impl Stage {
    /// The names of the Fleet's members, by the settings of today.
    async fn crew_members(&self) -> Vec<String> {
        let fleet = self.store.get(Kind::Fleet, "crew").await.unwrap().unwrap();
        let AnyObject::Fleet(fleet) = fleet else { panic!("no fleet") };
        let made = members("crew", &fleet.spec, Err(NoDirectories), &mut |spec| {
            self.defaults.fill(spec, false)
        });
        made.unwrap().into_iter().map(|member| member.name).collect()
    }

    /// What the Fleet's controller notes with its first look: the settings of today, and Jobs that it
    /// has made.
    async fn note_usual(&self, runs: &[&str]) {
        let mut fleet = self.store.get(Kind::Fleet, "crew").await.unwrap().unwrap();
        if let AnyObject::Fleet(fleet) = &mut fleet {
            fleet.status.usual = Some(self.defaults.usual(&fleet.spec));
            let made = |name: &&str| ((*name).to_owned(), RunOutcome::Made);
            fleet.status.runs = runs.iter().map(made).collect();
        }
        let (part, expect) = (Part::Status, Expect::Any);
        self.commit(vec![Op::Write { object: fleet, part, expect }]).await;
    }
}

#[tokio::test]
async fn a_fleet_is_judged_by_what_was_noted_for_its_members_and_not_by_the_settings_of_today() {
    for kind in ["Agent", "Job"] {
        let mut stage = Stage::new("specs", json!({}));
        stage.defaults = on_fly();
        let text = crew(kind, "");
        stage.apply(&[("a.yaml", &text)]).await.unwrap();
        stage.note_usual(&[]).await;
        // Other settings, and then a policy that they are good for.
        stage.defaults.on_fly = false;
        assert_eq!(stage.apply(&[("a.yaml", &text)]).await.unwrap(), Plan::default());
        let runtimes = Some(vec!["local".to_owned()]);
        stage.source.spec.policy = Some(SourcePolicy { runtimes, ..SourcePolicy::default() });
        let told = match stage.apply(&[("a.yaml", &text)]).await {
            Err(Refusal::Denied(faults)) => faults.to_string(),
            other => panic!("{kind}: {other:?}"),
        };
        assert!(told.starts_with("a.yaml:1:1: spec.template.spec.runtime"), "{told}");
        assert!(told.contains("the runtime `fly` is not allowed to this source"), "{told}");
        assert!(told.contains("write out runtime in it"), "{told}");
        // What says something else has its own.
        let other = crew(kind, ", runtime: {local: {}}");
        let plan = stage.apply(&[("a.yaml", &other)]).await.unwrap();
        assert_eq!(names(&plan.changed), ["fleet/crew"]);
    }
}

#[tokio::test]
async fn a_fleet_of_a_kind_that_is_not_allowed_any_more_is_denied_whatever_was_noted_for_it() {
    let mut stage = Stage::new("specs", json!({}));
    stage.defaults = on_fly();
    let text = crew("Agent", "");
    stage.apply(&[("a.yaml", &text)]).await.unwrap();
    stage.note_usual(&[]).await;
    let kinds = Some(vec![Kind::Agent, Kind::Job]);
    stage.source.spec.policy = Some(SourcePolicy { kinds, ..SourcePolicy::default() });
    stage.defaults.on_fly = false;
    for text in [text.clone(), text.replace("{n: b}", "{n: b}, {n: c}")] {
        let told = match stage.judged(&[("a.yaml", &text)]).await {
            Err(Refusal::Denied(faults)) => faults.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(told.contains("Fleet may not be written by this source"), "{told}");
        assert!(!told.contains("write out"), "{told}");
    }
    // Neither is it put right where it is kept.
    let by_hand = |object: &mut AnyObject| {
        object.metadata_mut().labels.insert("by".into(), "hand".into());
    };
    stage.change(Kind::Fleet, "crew", by_hand).await;
    stage.kept = [(Kind::Fleet, "crew".to_owned())].into();
    assert_eq!(stage.apply(&[]).await.unwrap().drifted, Vec::new());
    stage.source.spec.policy = None;
    assert_eq!(names(&stage.apply(&[]).await.unwrap().drifted), ["fleet/crew"]);
}

#[tokio::test]
async fn what_may_still_change_of_jobs_that_were_made_is_judged() {
    let mut stage = Stage::new("specs", json!({}));
    stage.defaults = on_fly();
    let text = crew("Job", "");
    stage.apply(&[("a.yaml", &text)]).await.unwrap();
    let all = stage.crew_members().await;
    stage.note_usual(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let channels = Some(vec!["slack:C1*".to_owned()]);
    let runtimes = Some(vec!["local".to_owned()]);
    let policy = SourcePolicy { channels, runtimes, ..SourcePolicy::default() };
    stage.source.spec.policy = Some(policy);
    stage.defaults.on_fly = false;
    let to = |channel: &str| {
        crew("Job", &format!(", report: {{to: [{{slack: {{channel: {channel}}}}}]}}"))
    };
    let told = match stage.apply(&[("a.yaml", &to("C9BOARD"))]).await {
        Err(Refusal::Denied(faults)) => faults.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(told.contains("spec.template.spec.report.to[0].slack.channel"), "{told}");
    assert!(!told.contains("runtime"), "{told}");
    let plan = stage.apply(&[("a.yaml", &to("C1BOARD"))]).await.unwrap();
    assert_eq!(names(&plan.changed), ["fleet/crew"]);
}

#[tokio::test]
async fn jobs_that_a_fleet_has_made_are_past_being_judged() {
    let mut stage = Stage::new("specs", json!({}));
    stage.defaults = on_fly();
    let text = crew("Job", "");
    stage.apply(&[("a.yaml", &text)]).await.unwrap();
    let runtimes = Some(vec!["local".to_owned()]);
    stage.source.spec.policy = Some(SourcePolicy { runtimes, ..SourcePolicy::default() });
    let all = stage.crew_members().await;
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for (runs, is_denied) in [(&all[..1], true), (&all[..], false)] {
        stage.defaults.on_fly = true;
        stage.note_usual(runs).await;
        stage.defaults.on_fly = false;
        let told = stage.apply(&[("a.yaml", &text)]).await;
        assert_eq!(matches!(told, Err(Refusal::Denied(_))), is_denied, "{told:?}");
    }
}

#[tokio::test]
async fn nothing_is_turned_off_by_being_taken() {
    let stage = Stage::new("specs", json!({}));
    let running = set(&[("x.yaml", &agent("runs", ""))]).objects.into_values().next().unwrap();
    let object = admit::create(running.object.clone(), "uid".to_owned(), "").unwrap();
    stage.commit(vec![Op::Create(object)]).await;
    let off = agent("runs", ", suspend: true");
    let told = stage.refused(&[("a.yaml", &off)]).await;
    assert!(told.contains("differs in spec.suspend;"), "{told}");
    stage
        .change(Kind::Agent, "runs", |object| {
            object.metadata_mut().annotations.insert(ADOPT.to_owned(), "specs".to_owned());
        })
        .await;
    stage.apply(&[("a.yaml", &off)]).await.unwrap();
    assert!(stage.agent("runs").await.suspend);
}

#[tokio::test]
async fn what_is_kept_is_put_right_and_neither_changed_nor_deleted() {
    let mut stage = Stage::new("specs", json!({"prune": {"maxDeletions": 0}}));
    let all = agent("a", ", instructions: x") + &agent("b", "") + &agent("c", "") + &job("j", "x");
    stage.apply(&[("a.yaml", &all)]).await.unwrap();
    let (kind, name) = (Kind::Job, "j".to_owned());
    stage.commit(vec![Op::Delete { kind, name, uid: None, resource_version: None }]).await;
    stage.bury().await;
    stage.apply(&[("a.yaml", &all)]).await.unwrap();
    let keys = ["a", "b", "c"].map(|name| (Kind::Agent, name.to_owned()));
    stage.kept = keys.into_iter().chain([(Kind::Job, "j".to_owned())]).collect();
    stage
        .change(Kind::Agent, "a", |object| {
            if let AnyObject::Agent(agent) = object {
                agent.spec.instructions = None;
            }
        })
        .await;
    let (kind, name) = (Kind::Agent, "b".to_owned());
    stage.commit(vec![Op::Delete { kind, name, uid: None, resource_version: None }]).await;
    stage.bury().await;
    // Nothing is declared, and nothing is missed; a Job that has run does not run again.
    let plan = stage.apply(&[]).await.unwrap();
    assert_eq!(
        (names(&plan.drifted), names(&plan.created)),
        (vec!["agent/a".into()], vec!["agent/b".into()])
    );
    assert_eq!(stage.agent("a").await.instructions.as_deref(), Some("x"));
    // What cannot be held as it was stays alone, and holds up nobody.
    let mut row = stage.store.owned(Kind::Agent, "c").await.unwrap().unwrap();
    row.base.spec = json!({"agent": {"nobody": {}}});
    stage.commit(vec![Op::Own(row.clone())]).await;
    let plan = stage.apply(&[("b.yaml", &agent("new", ""))]).await.unwrap();
    assert_eq!(names(&plan.created), ["agent/new"]);
    let after = stage.store.owned(Kind::Agent, "c").await.unwrap().unwrap();
    assert_eq!((after.base, after.leaving), (row.base, false));
}

/// A Source that may write Agents on this machine alone.
fn local_only() -> Option<SourcePolicy> {
    let runtimes = Some(vec!["local".to_owned()]);
    Some(SourcePolicy { runtimes, ..SourcePolicy::default() })
}

#[tokio::test]
async fn what_the_policy_does_not_allow_any_more_is_not_made_again_from_the_inventory() {
    let mut stage = Stage::new("specs", json!({"prune": {"maxDeletions": 0}}));
    stage.defaults = now_on_fly(&stage.defaults);
    let (fly, here) = (", runtime: {fly: {}}", ", runtime: {local: {}}");
    let all = agent("gone", fly) + &agent("stands", fly) + &agent("good", here);
    stage.apply(&[("a.yaml", &all)]).await.unwrap();
    let keys = ["gone", "stands", "good"].map(|name| (Kind::Agent, name.to_owned()));
    stage.kept = keys.into_iter().collect();
    stage.source.spec.policy = local_only();
    for name in ["gone", "good"] {
        let (kind, name) = (Kind::Agent, name.to_owned());
        stage.commit(vec![Op::Delete { kind, name, uid: None, resource_version: None }]).await;
    }
    stage.bury().await;
    stage
        .change(Kind::Agent, "stands", |object| {
            object.metadata_mut().labels.insert("by".into(), "hand".into());
        })
        .await;
    let plan = stage.apply(&[]).await.unwrap();
    assert_eq!(names(&plan.created), ["agent/good"]);
    assert_eq!((plan.drifted, plan.deleted), (Vec::new(), Vec::new()));
    // It is still the Source's own: once that may, it comes again.
    stage.source.spec.policy = None;
    let plan = stage.apply(&[]).await.unwrap();
    assert_eq!(names(&plan.created), ["agent/gone"]);
    assert_eq!(names(&plan.drifted), ["agent/stands"]);
}

#[tokio::test]
async fn an_override_that_is_kept_is_left_as_somebody_made_it() {
    let mut stage = Stage::new("specs", json!({}));
    let over = "---\napiVersion: opendispatch.dev/v1alpha1\nkind: Override\nmetadata: {name: o}\n\
                spec: {target: {kind: Agent, name: bot}, patch: {instructions: y}}\n";
    let kinds = Some(vec![Kind::Agent, Kind::Override]);
    stage.source.spec.policy = Some(SourcePolicy { kinds, ..SourcePolicy::default() });
    stage.judged(&[("a.yaml", &(agent("bot", "") + over))]).await.unwrap();
    let sooner = |object: &mut AnyObject| {
        let AnyObject::Override(over) = object else { panic!("no override") };
        over.spec.expires_after = Some("1m".parse().unwrap());
    };
    stage.change(Kind::Override, "o", sooner).await;
    let keys = [(Kind::Agent, "bot"), (Kind::Override, "o")];
    stage.kept = keys.map(|(kind, name)| (kind, name.to_owned())).into();
    let plan = stage.judged(&[]).await.unwrap();
    assert_eq!((plan.drifted, plan.deleted), (Vec::new(), Vec::new()));
    assert!(stage.store.owned(Kind::Override, "o").await.unwrap().is_some_and(|row| !row.leaving));
}

/// These settings, but what names no place runs on Fly.
fn now_on_fly(defaults: &Defaults) -> Defaults {
    let images = crate::resource::Images { usual: Some("node".into()), ..Default::default() };
    Defaults { on_fly: true, images: Some(images), ..defaults.clone() }
}

impl Stage {
    /// Applies files that are judged by the Source's policy.
    async fn judged(&self, files: &[(&str, &str)]) -> Result<Plan, Refusal> {
        let policy = self.source.spec.policy.as_ref();
        let set = read_by(files, &self.defaults, policy).unwrap();
        let plan = self.plan(&set, "revision-0001").await?;
        self.commit(plan.ops.clone()).await;
        Ok(plan)
    }
}

#[tokio::test]
async fn what_stands_is_judged_and_not_what_would_be_filled_in_today() {
    let mut stage = Stage::new("specs", json!({}));
    stage.source.spec.policy = local_only();
    stage.defaults = usual(json!({"claude": {}}), "a/b");
    stage.judged(&[("a.yaml", SILENT)]).await.unwrap();
    stage.defaults = now_on_fly(&stage.defaults);
    assert_eq!(stage.judged(&[("a.yaml", SILENT)]).await.unwrap(), Plan::default());
    // Something new is what it is today.
    let more = format!("{SILENT}---\n{}", agent("new", ""));
    let Err(Refusal::Denied(faults)) = stage.judged(&[("a.yaml", &more)]).await else {
        panic!("it is not denied");
    };
    insta::assert_snapshot!(faults, @"a.yaml:30:7: spec.runtime.fly: the runtime `fly` is not allowed to this source; its policy allows local");
    // What is filled in anew is judged as well, and Jobs as what runs.
    stage.source.spec.policy =
        Some(SourcePolicy { runtimes: Some(vec!["other".into()]), ..SourcePolicy::default() });
    let Err(Refusal::Denied(faults)) = stage.judged(&[("a.yaml", SILENT)]).await else {
        panic!("it is not denied");
    };
    insta::assert_snapshot!(faults, @r"
    a.yaml:5:7: spec.runtime.fly: the runtime `fly` is not allowed to this source; its policy allows other
    a.yaml:7:1: spec.runtime.local: the runtime `local` is not allowed to this source; its policy allows other
    a.yaml:12:1: spec.runtime.local: the runtime `local` is not allowed to this source; its policy allows other
    a.yaml:17:1: spec.runtime.local: the runtime `local` is not allowed to this source; its policy allows other
    a.yaml:25:48: spec.jobTemplate.spec.runtime.fly: the runtime `fly` is not allowed to this source; its policy allows other
    ");
}

#[tokio::test]
async fn an_override_is_judged_over_what_its_object_says() {
    let mut stage = Stage::new("specs", json!({}));
    let policy = |workdir: &str| SourcePolicy {
        kinds: Some(vec![Kind::Agent, Kind::Override]),
        runtimes: Some(vec!["local".to_owned()]),
        workdirs: Some(vec!["~".to_owned(), workdir.to_owned()]),
        ..SourcePolicy::default()
    };
    stage.source.spec.policy = Some(policy("/srv/*"));
    stage.defaults = usual(json!({"claude": {}}), "a/b");
    let bot = SILENT.split("---").next().unwrap();
    let over = "---\napiVersion: opendispatch.dev/v1alpha1\nkind: Override\nmetadata: {name: o}\n\
                spec: {target: {kind: Agent, name: bot}, patch: {runtime: {local: {workdir: /srv/a}}}}\n";
    let files = format!("{bot}{over}");
    stage.judged(&[("a.yaml", &files)]).await.unwrap();
    // Two runtimes are none.
    stage.defaults = now_on_fly(&stage.defaults);
    assert_eq!(stage.judged(&[("a.yaml", &files)]).await.unwrap(), Plan::default());
    stage.source.spec.policy = Some(policy("/opt/*"));
    let Err(Refusal::Denied(faults)) = stage.judged(&[("a.yaml", &files)]).await else {
        panic!("it is not denied");
    };
    assert!(faults.to_string().contains("spec.patch.runtime.local.workdir"), "{faults}");
}

#[tokio::test]
async fn a_server_that_finds_no_agent_any_more_changes_nothing_and_makes_nothing_new() {
    let mut stage = Stage::new("specs", json!({}));
    stage.defaults = usual(json!({"opencode": {}}), "a/b");
    stage.apply(&[("a.yaml", SILENT)]).await.unwrap();
    stage.defaults = Defaults::default();
    assert_eq!(stage.apply(&[("a.yaml", SILENT)]).await.unwrap(), Plan::default());
    let more = SILENT.replace("{instructions: x}", "{instructions: y}");
    let Err(Refusal::Invalid(faults)) = stage.apply(&[("a.yaml", &more)]).await else {
        panic!("it is taken");
    };
    let faults = faults.to_string();
    assert!(faults.starts_with("a.yaml:5:7: spec.agent: is missing"), "{faults}");
}

#[tokio::test]
async fn a_fleet_stands_by_what_its_members_were_filled_in_with_whatever_is_usual_by_now() {
    let mut stage = Stage::new("specs", json!({}));
    stage.source.spec.policy = local_only();
    let fleet = "apiVersion: opendispatch.dev/v1alpha1\nkind: Fleet\nmetadata: {name: crew}\n\
                 spec:\n  generate: {list: [{n: a}]}\n  template: {kind: Agent, metadata: {name: \
                 \"f-{{n}}\"}, spec: {agent: {claude: {}}}}\n";
    stage.judged(&[("a.yaml", fleet)]).await.unwrap();
    let object = stage.store.get(Kind::Fleet, "crew").await.unwrap().unwrap();
    let AnyObject::Fleet(mut crew) = object else { panic!("no fleet") };
    let usual = stage.defaults.usual(&crew.spec);
    stage.defaults = now_on_fly(&stage.defaults);
    let Err(Refusal::Denied(_)) = stage.judged(&[("a.yaml", fleet)]).await else {
        panic!("nobody has noted what its members were filled in with");
    };
    crew.status.usual = Some(usual);
    let (object, part) = (AnyObject::Fleet(crew), Part::Status);
    stage.commit(vec![Op::Write { object, part, expect: Expect::SameVersion }]).await;
    assert_eq!(stage.judged(&[("a.yaml", fleet)]).await.unwrap(), Plan::default());
    // A template that says something else is filled in as it is today.
    let other = fleet.replace("claude: {}", "codex: {}");
    assert!(matches!(stage.judged(&[("a.yaml", &other)]).await, Err(Refusal::Denied(_))));
}

/// Jobs under one prefix, each with a row under a name that an older server drew.
#[tokio::test]
async fn ten_thousand_jobs_keep_the_names_that_were_drawn_for_them_once() {
    const MANY: usize = 10_000;
    let stage = Stage::new("specs", json!({}));
    let text = job("x", "t").replace("name: x", "generateName: run-");
    let one = set(&[("a.yaml", &text)]).objects.into_values().next().unwrap();
    let (mut rows, mut drawn) = (BTreeMap::new(), Set::default());
    for n in 0..MANY {
        let mut declared = one.as_ref().clone();
        declared.base.said = format!("said {n}");
        declared.base.spec["task"] = format!("t{n}").into();
        let name = format!("run-{:08x}", 2 * n + 1);
        declared.object.metadata_mut().name.clone_from(&name);
        drawn.objects.insert((Kind::Job, name), Arc::new(declared.clone()));
        let name = format!("run-{:08x}", 2 * (MANY - n));
        declared.base.spec["agent"] = json!({"codex": {}});
        let row = crate::store::Owned {
            kind: Kind::Job,
            name: name.clone(),
            uid: String::new(),
            source_uid: stage.source.metadata.uid.clone(),
            source: "specs".to_owned(),
            base: declared.base,
            file: "a.yaml".to_owned(),
            line: 1,
            overrides: Vec::new(),
            leaving: false,
            version: 1,
        };
        rows.insert((Kind::Job, name), row);
    }
    let (source, kept, defaults) = (&stage.source, &stage.kept, &stage.defaults);
    let live = BTreeMap::new();
    let world = World { source, rows: &rows, live: &live, kept, defaults, now: NOW };
    let plan = plan(world, &drawn, "r", &mut || stage.ids.uid()).unwrap();
    assert_eq!(
        (plan.created.len(), plan.ops.len()),
        (0, 0),
        "all of them ran under their old names"
    );
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
