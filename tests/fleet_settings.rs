//! Other settings of the server change nothing of a Fleet whose template says what it said, as far as
//! that decides whom it makes: no Job of it runs again under another name, and no Agent comes up anew.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use open_dispatch::{
    ambient::Ambient,
    reconcile::{
        Controller as _, Next,
        controllers::{FleetController, NoSources},
    },
    resource::{API_VERSION, AgentCli, AnyObject, Defaults, FINALIZER_OWNED, Kind, decode},
    store::{Expect, Op, Part, Store, Transaction, memory::MemoryStore},
};
use serde_json::{Map, Value, json};

const UID: &str = "uid of crew";

fn fleet(kind: &str, spec: &Value) -> AnyObject {
    let mut object = decode(json!({
        "apiVersion": API_VERSION, "kind": "Fleet", "metadata": {"name": "crew"},
        "spec": {"generate": {"replicas": 2}, "template": {"kind": kind, "spec": spec}},
    }))
    .unwrap();
    object.metadata_mut().uid = UID.to_owned();
    object.metadata_mut().finalizers = vec![FINALIZER_OWNED.to_owned()];
    object
}

fn settings(agent: Value, model: Option<&str>) -> Defaults {
    let agent: AgentCli = serde_json::from_value(agent).unwrap();
    let opencode_model = model.map(str::to_owned);
    Defaults { agent: Some(agent), opencode_model, ..Defaults::default() }
}

async fn commit(store: &Arc<dyn Store>, op: Op) {
    let now = Ambient::real().clock.now();
    store.apply(Transaction::at(now).with(op)).await.unwrap();
}

/// Changes the spec of the Fleet's template.
async fn change(store: &Arc<dyn Store>, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut changed = store.get(Kind::Fleet, "crew").await.unwrap().unwrap();
    let AnyObject::Fleet(it) = &mut changed else { panic!("no fleet") };
    change(&mut it.spec.template.spec);
    let write = Op::Write { object: changed, part: Part::Desired, expect: Expect::SameVersion };
    commit(store, write).await;
}

/// Lets a server with these settings look until it has nothing to do, and answers what each member is.
async fn look(store: &Arc<dyn Store>, defaults: Defaults) -> BTreeMap<String, Value> {
    let directories = Arc::new(NoSources);
    let fleets = FleetController::new(store.clone(), Ambient::real(), defaults, directories);
    for _ in 0..20 {
        // What it knows of former templates it forgets in the end, and looks again for that.
        if fleets.reconcile(UID).await.unwrap() != Next::After(Duration::ZERO) {
            let mut members = store.list_owned(Kind::Agent, UID).await.unwrap();
            members.extend(store.list_owned(Kind::Job, UID).await.unwrap());
            let of = |it: AnyObject| (it.metadata().name.clone(), it.to_json()["spec"].take());
            return members.into_iter().map(of).collect();
        }
    }
    panic!("it never comes to rest");
}

#[tokio::test]
async fn other_settings_make_no_other_members_of_a_template_that_is_silent() {
    for (kind, spec) in [
        ("Job", json!({"task": "x"})),
        ("Job", json!({"task": "x", "agent": {"opencode": {}}})),
        ("Agent", json!({})),
    ] {
        let store: Arc<dyn Store> = MemoryStore::new();
        commit(&store, Op::Create(fleet(kind, &spec))).await;
        let first = look(&store, settings(json!({"command": {}}), None)).await;
        assert_eq!(first.len(), 2, "{first:?}");
        let others = || settings(json!({"claude": {}}), Some("a/b"));
        assert_eq!(look(&store, others()).await, first, "{kind} {spec}");

        // What decides nothing of whom it makes may change, and the same in another order.
        change(&store, |spec| {
            let idle = if kind == "Job" { "ttlAfterFinished" } else { "turnTimeout" };
            let mut members: Vec<_> = std::mem::take(spec).into_iter().collect();
            members.push((idle.to_owned(), json!("1h")));
            spec.extend(members.into_iter().rev());
        })
        .await;
        let then = look(&store, others()).await;
        let what = |members: &BTreeMap<String, Value>| {
            let of = |(name, spec): (&String, &Value)| (name.clone(), spec["agent"].clone());
            members.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(what(&then), what(&first), "{kind} {spec}");

        // What the template says anew is filled in anew.
        change(&store, |spec| {
            spec.insert("runtime".to_owned(), json!({"local": {"isolation": "none"}}));
            spec.insert("agent".to_owned(), Value::Null);
        })
        .await;
        let then = look(&store, others()).await;
        let claude = then.values().filter(|spec| spec["agent"].get("claude").is_some()).count();
        assert!(claude > 0, "{then:?}");
    }
}

/// Deletes what the Fleet has made, as the end of its time to live does.
async fn lose(store: &Arc<dyn Store>, members: &BTreeMap<String, Value>) {
    for name in members.keys() {
        let mut job = store.get(Kind::Job, name).await.unwrap().unwrap();
        job.metadata_mut().finalizers.clear();
        let free = Op::Write { object: job, part: Part::Finalizers, expect: Expect::SameVersion };
        commit(store, free).await;
        let (kind, name) = (Kind::Job, name.clone());
        commit(store, Op::Delete { kind, name, uid: None, resource_version: None }).await;
    }
}

#[tokio::test]
async fn a_template_that_comes_back_is_filled_in_as_it_was_and_runs_nothing_again() {
    let first_settings = || settings(json!({"command": {}}), None);
    let others = || settings(json!({"claude": {}}), None);
    let task = |text: &str| {
        let text = text.to_owned();
        move |spec: &mut Map<String, Value>| {
            spec.insert("task".to_owned(), json!(text));
        }
    };
    for ended in [false, true] {
        let store: Arc<dyn Store> = MemoryStore::new();
        commit(&store, Op::Create(fleet("Job", &json!({"task": "a"})))).await;
        let first = look(&store, first_settings()).await;
        assert_eq!(first.len(), 2);
        if ended {
            lose(&store, &first).await;
        }
        // Somebody overrides the task for a time, while the settings are others.
        change(&store, task("b")).await;
        let mut second = look(&store, others()).await;
        second.retain(|name, _| !first.contains_key(name));
        assert_eq!(second.len(), 2);
        assert!(second.values().all(|spec| spec["agent"].get("claude").is_some()), "{second:?}");
        lose(&store, &second).await;
        change(&store, task("a")).await;
        let then = look(&store, others()).await;
        assert_eq!(then, if ended { BTreeMap::new() } else { first.clone() });
        // And so does the other one, under other settings again.
        change(&store, task("b")).await;
        let then = look(&store, first_settings()).await;
        assert_eq!(then, if ended { BTreeMap::new() } else { first });
    }
}

#[tokio::test]
async fn agents_of_a_template_that_comes_back_are_who_they_were() {
    let store: Arc<dyn Store> = MemoryStore::new();
    commit(&store, Op::Create(fleet("Agent", &json!({})))).await;
    let first = look(&store, settings(json!({"command": {}}), None)).await;
    let others = || settings(json!({"claude": {}}), None);
    change(&store, |spec| {
        spec.insert("runtime".to_owned(), json!({"local": {"isolation": "none"}}));
    })
    .await;
    assert_ne!(look(&store, others()).await, first);
    change(&store, |spec| spec.clear()).await;
    assert_eq!(look(&store, others()).await, first);
}
