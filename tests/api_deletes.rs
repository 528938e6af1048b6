//! Promise: a deletion takes what was meant and all that was meant, or nothing: what Fleets and
//! Schedules made stays where somebody asks for that, and nothing goes where one of many may not.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use axum::http::{Method, StatusCode};
use house::House;
use open_dispatch::{
    ambient::{Fault, Steps},
    resource::{FINALIZER_OWNED, Kind, ORPHAN},
    store::{Base, Expect, Op, Owned, Part, Store as _, Transaction, memory::MemoryStore},
};
use serde_json::{Value, json};

fn job(name: &str) -> Value {
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Job", "metadata": {"name": name},
        "spec": {"task": "true", "agent": {"command": {}}}})
}

fn fleet(name: &str) -> Value {
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": name},
        "spec": {"generate": {"replicas": 2}, "suspend": true, "template": {"kind": "Agent",
        "metadata": {}, "spec": {"agent": {"command": {}}}}}})
}

fn schedule(name: &str) -> Value {
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Schedule",
        "metadata": {"name": name}, "spec": {"schedule": "0 3 * * *", "suspend": true,
        "jobTemplate": {"spec": {"task": "true", "agent": {"command": {}}}}}})
}

async fn made(house: &House, plural: &str, body: &Value) -> Value {
    let made = house.call(Method::POST, plural, Some(body)).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.text());
    made.json()
}

/// Lets an object be held by its controller, as one that has made something is.
async fn hold(house: &House, kind: Kind, name: &str) {
    let mut object = house.store.get(kind, name).await.unwrap().unwrap();
    object.metadata_mut().finalizers = vec![FINALIZER_OWNED.to_owned()];
    house.apply(vec![Op::Write { object, part: Part::Finalizers, expect: Expect::Any }]).await;
}

async fn is_orphaning(house: &House, kind: Kind, name: &str) -> bool {
    let object = house.store.get(kind, name).await.unwrap().unwrap();
    assert!(object.metadata().is_deleting(), "{name} was not asked to end");
    object.metadata().annotations.get(ORPHAN).is_some_and(|value| value == "true")
}

#[tokio::test]
async fn what_a_fleet_or_a_schedule_made_stays_where_somebody_asks_for_that() {
    let house = House::new();
    for (kind, body) in [(Kind::Fleet, fleet("f")), (Kind::Schedule, schedule("s"))] {
        let plural = kind.plural();
        for (n, (asked, orphans)) in [
            (json!({"propagationPolicy": "Orphan"}), true),
            (json!({"orphanDependents": true}), true),
            (json!({"propagationPolicy": "Background"}), false),
            (json!({"propagationPolicy": "Foreground"}), false),
            (json!({}), false),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("it-{n}");
            let mut body = body.clone();
            body["metadata"]["name"] = name.clone().into();
            made(&house, plural, &body).await;
            hold(&house, kind, &name).await;
            let path = format!("{plural}/{name}");
            let gone = house.call(Method::DELETE, &path, Some(&asked)).await;
            assert_eq!(gone.code, StatusCode::OK, "{}", gone.text());
            assert_eq!(is_orphaning(&house, kind, &name).await, orphans, "{path} {asked}");
        }
        let path = format!("{plural}?propagationPolicy=Orphan");
        assert_eq!(house.call(Method::DELETE, &path, None).await.code, StatusCode::OK);
        assert!(is_orphaning(&house, kind, "it-2").await, "also one that goes already");
    }
}

#[tokio::test]
async fn the_note_that_something_stays_is_its_writers_and_names_no_other_version() {
    let house = House::new();
    made(&house, "fleets", &fleet("f")).await;
    hold(&house, Kind::Fleet, "f").await;
    let asked = json!({"propagationPolicy": "Orphan", "preconditions": {"resourceVersion": "77"}});
    let stale = house.call(Method::DELETE, "fleets/f", Some(&asked)).await;
    assert_eq!(stale.code, StatusCode::CONFLICT, "{}", stale.text());
    let asked = json!({"propagationPolicy": "Orphan", "preconditions": {"uid": "another"}});
    let other = house.call(Method::DELETE, "fleets/f", Some(&asked)).await;
    assert_eq!(other.code, StatusCode::CONFLICT);
    assert!(!house.store.get(Kind::Fleet, "f").await.unwrap().unwrap().metadata().is_deleting());
    let dry = json!({"propagationPolicy": "Orphan", "dryRun": ["All"]});
    let writes = house.store.writes();
    assert_eq!(house.call(Method::DELETE, "fleets/f", Some(&dry)).await.code, StatusCode::OK);
    assert_eq!(house.store.writes(), writes);
    let asked = json!({"propagationPolicy": "Orphan"});
    let gone = house.call(Method::DELETE, "fleets/f", Some(&asked)).await.json();
    let of_us = gone["metadata"]["managedFields"].as_array().unwrap().iter().any(|entry| {
        entry["fieldsV1"]["f:metadata"]["f:annotations"][format!("f:{ORPHAN}")].is_object()
    });
    assert!(of_us, "{gone}");
}

#[tokio::test]
async fn what_others_own_goes_with_them_and_whoever_wants_otherwise_is_told() {
    let house = House::new();
    made(&house, "jobs", &job("j")).await;
    for (path, body) in [
        ("jobs/j", json!({"propagationPolicy": "Orphan"})),
        ("jobs/j", json!({"orphanDependents": true})),
        ("jobs", json!({"propagationPolicy": "Orphan"})),
    ] {
        let refused = house.call(Method::DELETE, path, Some(&body)).await;
        assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text());
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("for fleets and schedules alone: what jobs own goes"),
            "{message}"
        );
    }
    assert!(house.store.get(Kind::Job, "j").await.unwrap().is_some());
}

/// The entry of a Job that a Source declares.
fn declared(name: &str, uid: String) -> Owned {
    Owned {
        kind: Kind::Job,
        name: name.to_owned(),
        uid,
        source_uid: "s".to_owned(),
        source: "ours".to_owned(),
        base: Base { spec: job(name)["spec"].clone(), ..Base::default() },
        file: "jobs.yaml".to_owned(),
        line: 1,
        overrides: Vec::new(),
        leaving: false,
        version: 0,
    }
}

#[tokio::test]
async fn a_declared_job_that_is_gone_is_told_to_be_taken_out_of_its_file() {
    let house = House::new();
    house.apply(vec![Op::Own(declared("ran", "u".to_owned()))]).await;
    let release = house.call(Method::POST, "jobs/ran/release", None).await;
    let anew = house.call(Method::POST, "jobs", Some(&job("ran"))).await;
    for refused in [release, anew] {
        assert_eq!(refused.code, StatusCode::FORBIDDEN, "{}", refused.text());
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(
            message,
            "jobs \"ran\" is declared by source ours (jobs.yaml:1), and is not there now: take it \
             out of jobs.yaml:1, and the source lets go of it; one that has run is run again when \
             its document changes in jobs.yaml:1"
        );
    }
    let dry =
        house.call(Method::POST, "jobs?dryRun=All&ifDeclared=Refuse", Some(&job("ran"))).await;
    assert!(dry.text().contains("take it out of jobs.yaml:1"), "{}", dry.text());
    let nobodys = house.call(Method::POST, "jobs/none/release", None).await;
    assert_eq!(nobodys.code, StatusCode::NOT_FOUND, "{}", nobodys.text());
}

#[tokio::test]
async fn nothing_of_many_goes_where_a_source_declares_one_of_them() {
    let house = House::new();
    let mut uid = String::new();
    for name in ["a", "b", "c"] {
        let made = made(&house, "jobs", &job(name)).await;
        if name == "b" {
            uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
        }
    }
    house.apply(vec![Op::Own(declared("b", uid))]).await;
    for query in ["jobs", "jobs?dryRun=All", "jobs?dryRun=All&ifDeclared=Refuse"] {
        let again = house.call(Method::POST, query, Some(&job("b"))).await;
        assert_eq!(again.code, StatusCode::CONFLICT, "{query}: {}", again.text());
        assert_eq!(again.json()["reason"], "AlreadyExists", "{query}");
    }
    let writes = house.store.writes();
    for query in ["jobs", "jobs?dryRun=All"] {
        let refused = house.call(Method::DELETE, query, None).await;
        assert_eq!(refused.code, StatusCode::FORBIDDEN, "{}", refused.text());
        assert!(refused.text().contains("declared by source ours (jobs.yaml:1)"));
    }
    assert_eq!(house.store.writes(), writes);
    let others = "jobs?fieldSelector=metadata.name%21%3Db";
    assert_eq!(house.call(Method::DELETE, others, None).await.code, StatusCode::OK);
    let left = house.get("jobs").await.json();
    let goes = |job: &&Value| !job["metadata"]["deletionTimestamp"].is_null();
    assert_eq!(left["items"].as_array().unwrap().iter().filter(goes).count(), 2);
}

/// Writes a Fleet right before each deletion, as long as it has writes left.
struct Busy {
    store: Arc<MemoryStore>,
    left: AtomicUsize,
}

#[async_trait]
impl Steps for Busy {
    async fn before(&self, step: &'static str) -> Result<(), Fault> {
        let take = |left: usize| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if step != "api.delete" || self.left.fetch_update(order, order, take).is_err() {
            return Ok(());
        }
        let Some(mut object) = self.store.get(Kind::Fleet, "busy").await.unwrap() else {
            return Ok(());
        };
        let left = self.left.load(order).to_string();
        object.metadata_mut().labels.insert("written".to_owned(), left);
        let op = Op::Write { object, part: Part::Desired, expect: Expect::Any };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        self.store.apply(Transaction { ops: vec![op], now }).await.unwrap();
        Ok(())
    }

    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
}

#[tokio::test]
async fn a_fleet_that_is_written_meanwhile_goes_with_the_others_or_is_named() {
    for (writes, code) in [(3, StatusCode::OK), (1000, StatusCode::CONFLICT)] {
        let store = MemoryStore::new();
        let busy = Busy { store: store.clone(), left: AtomicUsize::new(0) };
        let busy = Arc::new(busy);
        let house = House::with_steps(store, busy.clone());
        made(&house, "fleets", &fleet("busy")).await;
        hold(&house, Kind::Fleet, "busy").await;
        busy.left.store(writes, Ordering::SeqCst);
        let path = "fleets?propagationPolicy=Orphan";
        let gone = house.call(Method::DELETE, path, None).await;
        assert_eq!(gone.code, code, "{}", gone.text());
        let stands = house.store.get(Kind::Fleet, "busy").await.unwrap().unwrap();
        if code == StatusCode::OK {
            assert!(is_orphaning(&house, Kind::Fleet, "busy").await);
            assert_eq!(gone.json()["items"][0]["metadata"]["name"], "busy");
        } else {
            assert!(!stands.metadata().is_deleting());
            assert!(gone.json()["message"].as_str().unwrap().contains("\"busy\""));
            assert_eq!(gone.json()["details"]["name"], "busy");
        }
    }
}

#[tokio::test]
async fn the_events_of_what_was_deleted_say_who_asked() {
    let house = House::new();
    made(&house, "jobs", &job("j")).await;
    hold(&house, Kind::Job, "j").await;
    made(&house, "fleets", &fleet("f")).await;
    for path in ["jobs/j", "jobs/j", "fleets?propagationPolicy=Orphan"] {
        let gone = house.call(Method::DELETE, path, None).await;
        assert_eq!(gone.code, StatusCode::OK, "{}", gone.text());
    }
    let events = house.get("/api/v1/events").await.json();
    let told: Vec<String> = events["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let name = text(&it["involvedObject"]["name"]);
            format!("{name} {} {} {}", it["count"], text(&it["reason"]), text(&it["message"]))
        })
        .collect();
    let expected = [
        "j 1 Deleted api asked for its end",
        "f 1 Deleted api asked for its end; what it has made stays",
    ];
    assert_eq!(told, expected);
}
