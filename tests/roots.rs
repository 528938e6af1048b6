//! Promise: nobody lets an agent work outside of the configured roots through the API either;
//! what worked there before the roots were set may be changed otherwise.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use house::House;
use open_dispatch::{
    resource::Defaults,
    server::Extras,
    store::{Store, memory::MemoryStore},
};
use serde_json::{Value, json};

fn house(store: &Arc<dyn Store>, roots: &[&str]) -> House {
    let defaults = Defaults {
        home: "/home/a".into(),
        roots: roots.iter().map(Into::into).collect(),
        ..Defaults::default()
    };
    let extras = Extras { defaults: Some(Arc::new(defaults)), ..Extras::default() };
    House::with(Arc::clone(store), extras)
}

fn object(kind: &str, name: &str, more: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "opendispatch.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"agent": {"command": {}}},
    });
    if kind == "Job" {
        object["spec"]["task"] = "true".into();
    }
    let members = more.as_object().unwrap().clone();
    object["spec"].as_object_mut().unwrap().extend(members);
    object
}

fn at(place: &str) -> Value {
    json!({"runtime": {"local": {"workdir": place}}})
}

#[tokio::test]
async fn what_is_to_work_outside_of_the_roots_is_refused_with_the_mend() {
    let store: Arc<dyn Store> = MemoryStore::new();
    let house = house(&store, &["/home/a/p", "/srv"]);
    let outside = [at("/etc"), at("/home/a/p/../q"), at("~"), at("/srvx"), json!({})];
    for (kind, plural) in [("Agent", "agents"), ("Job", "jobs")] {
        for spec in &outside {
            for query in ["", "?dryRun=All"] {
                let path = format!("{plural}{query}");
                let document = object(kind, "one", spec);
                let answer = house.call(Method::POST, &path, Some(&document)).await;
                assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{path} {document}");
                let message = answer.json()["message"].as_str().unwrap().to_owned();
                assert!(message.contains("spec.runtime.local.workdir"), "{message}");
                assert!(message.contains("add one to OPEN_DISPATCH_ROOTS"), "{message}");
            }
        }
        let inside = [at("/srv"), at("~/p/x"), json!({"repo": {"github": "o/r"}})];
        for (n, spec) in inside.iter().enumerate() {
            let document = object(kind, &format!("in-{n}"), spec);
            let answer = house.call(Method::POST, plural, Some(&document)).await;
            assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn nobody_moves_out_of_the_roots_and_what_was_outside_before_can_be_changed_otherwise() {
    let store: Arc<dyn Store> = MemoryStore::new();
    let before = house(&store, &["/"]);
    let old = object("Agent", "old", &at("/etc"));
    assert_eq!(before.call(Method::POST, "agents", Some(&old)).await.code, StatusCode::CREATED);
    let new = object("Agent", "new", &at("/srv/x"));
    assert_eq!(before.call(Method::POST, "agents", Some(&new)).await.code, StatusCode::CREATED);
    let house = house(&store, &["/srv"]);
    let writes = store.writes();
    for (method, name, body) in [
        (Method::PATCH, "new", json!({"spec": at("/srv/../etc")})),
        (Method::PATCH, "new", json!({"spec": {"runtime": null}})),
        (Method::PUT, "new", object("Agent", "new", &at("/etc"))),
        (Method::PATCH, "old", json!({"spec": at("/usr")})),
    ] {
        let answer = house.call(method, &format!("agents/{name}"), Some(&body)).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    }
    assert_eq!(store.writes(), writes, "a refusal changes nothing");
    for (name, spec) in
        [("old", json!({"suspend": true})), ("old", at("/srv")), ("new", at("/srv"))]
    {
        let patch = json!({"spec": spec});
        let answer = house.call(Method::PATCH, &format!("agents/{name}"), Some(&patch)).await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    }
}
