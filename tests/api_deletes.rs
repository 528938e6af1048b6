//! Promise: a deletion takes what was meant and all that was meant, or nothing: what Fleets and
//! Schedules made stays where somebody asks for that, and nothing goes where one of many may not.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use axum::http::{Method, StatusCode};
use house::House;
use open_dispatch::{
    resource::{FINALIZER_OWNED, Kind, ORPHAN},
    store::{Base, Expect, Op, Owned, Part},
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
    let row = Owned {
        kind: Kind::Job,
        name: "b".to_owned(),
        uid,
        source_uid: "s".to_owned(),
        source: "ours".to_owned(),
        base: Base { spec: job("b")["spec"].clone(), ..Base::default() },
        file: "jobs.yaml".to_owned(),
        line: 1,
        overrides: Vec::new(),
        leaving: false,
        version: 0,
    };
    house.apply(vec![Op::Own(row)]).await;
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
