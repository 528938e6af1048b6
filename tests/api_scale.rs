//! Promise: a Fleet of replicas is scaled by the name that all clients know for that, on top of what
//! its client saw; what cannot be scaled says what to do instead. And what asks for something now
//! (another session, other sprites) passes whoever declares the object.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use axum::http::{Method, StatusCode};
use house::{API, Answer, House, read};
use open_dispatch::{
    resource::{FRESH_SESSION_AFTER, Kind, RESTARTED_UP_TO},
    store::{Base, Op, Owned},
};
use serde_json::{Value, json};

fn fleet(name: &str, generate: Value) -> Value {
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": name},
        "spec": {"generate": generate, "suspend": true, "template": {"kind": "Agent",
        "metadata": {}, "spec": {"agent": {"command": {}}}}}})
}

async fn made(house: &House, plural: &str, body: &Value) -> Value {
    let made = house.call(Method::POST, plural, Some(body)).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.text());
    made.json()
}

async fn declare(house: &House, kind: Kind, object: &Value) {
    let text = |member: &str| object["metadata"][member].as_str().unwrap().to_owned();
    let row = Owned {
        kind,
        name: text("name"),
        uid: text("uid"),
        source_uid: "s".to_owned(),
        source: "ours".to_owned(),
        base: Base { spec: object["spec"].clone(), ..Base::default() },
        file: "team.yaml".to_owned(),
        line: 3,
        overrides: Vec::new(),
        leaving: false,
        version: 0,
    };
    house.apply(vec![Op::Own(row)]).await;
}

async fn patched(house: &House, path: &str, sort: &str, body: Value) -> Answer {
    let path = format!("{API}/{path}");
    read(house.send(house::ACCESS, Method::PATCH, &path, sort, body.to_string()).await).await
}

async fn replicas(house: &House) -> Value {
    house.get("fleets/f").await.json()["spec"]["generate"]["replicas"].clone()
}

#[tokio::test]
async fn a_fleet_of_replicas_is_scaled_by_put_and_by_both_patches() {
    let house = House::new();
    made(&house, "fleets", &fleet("f", json!({"replicas": 2}))).await;
    let scale = house.get("fleets/f/scale").await.json();
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(2)));
    let mut wanted = scale.clone();
    wanted["spec"]["replicas"] = 3.into();
    let put = house.call(Method::PUT, "fleets/f/scale", Some(&wanted)).await;
    assert_eq!((put.code, &put.json()["spec"]["replicas"]), (StatusCode::OK, &json!(3)));
    // Its version is an old one by now.
    wanted["spec"]["replicas"] = 9.into();
    let stale = house.call(Method::PUT, "fleets/f/scale", Some(&wanted)).await;
    assert_eq!(stale.code, StatusCode::CONFLICT, "{}", stale.text());
    assert_eq!(replicas(&house).await, 3);
    let merge = json!({"spec": {"replicas": 4}});
    let merged = patched(&house, "fleets/f/scale", "application/merge-patch+json", merge).await;
    assert_eq!(merged.code, StatusCode::OK, "{}", merged.text());
    assert_eq!(replicas(&house).await, 4);
    let sort = "application/json-patch+json";
    // As `kubectl scale --current-replicas` would have it.
    let patch = |is: u32, wanted: u32| {
        json!([{"op": "test", "path": "/spec/replicas", "value": is},
            {"op": "replace", "path": "/spec/replicas", "value": wanted}])
    };
    let other = patched(&house, "fleets/f/scale", sort, patch(2, 5)).await;
    assert!(other.code.is_client_error(), "{}", other.text());
    assert_eq!(replicas(&house).await, 4);
    assert_eq!(patched(&house, "fleets/f/scale", sort, patch(4, 0)).await.code, StatusCode::OK);
    assert_eq!(replicas(&house).await, 0);
}

#[tokio::test]
async fn what_cannot_be_scaled_says_what_to_do_instead() {
    let house = House::new();
    made(&house, "fleets", &fleet("list", json!({"list": [{"name": "a"}]}))).await;
    let wish = json!({"spec": {"replicas": 3}});
    let list = patched(&house, "fleets/list/scale", "application/merge-patch+json", wish).await;
    assert_eq!(list.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", list.text());
    assert!(
        list.text()
            .contains("nothing to scale; change spec.generate.list, which makes a member of")
    );
    let object = made(&house, "fleets", &fleet("f", json!({"replicas": 2}))).await;
    declare(&house, Kind::Fleet, &object).await;
    let wish = json!({"spec": {"replicas": 3}});
    let owned = patched(&house, "fleets/f/scale", "application/merge-patch+json", wish).await;
    assert_eq!(owned.code, StatusCode::FORBIDDEN, "{}", owned.text());
    let text = owned.text();
    assert!(text.contains("declared by source ours (team.yaml:3)"), "{text}");
    for way in ["override it for a time: ", "change the file with it: ", "release fleet/f"] {
        assert!(text.contains(way), "{way}: {text}");
    }
    assert_eq!(replicas(&house).await, 2);
}

#[tokio::test]
async fn another_session_and_other_sprites_are_asked_for_whoever_declares_the_agent() {
    let house = House::new();
    let agent = json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "bot"}, "spec": {"agent": {"command": {}}}});
    let object = made(&house, "agents", &agent).await;
    declare(&house, Kind::Agent, &object).await;
    let merge = "application/merge-patch+json";
    for annotation in [FRESH_SESSION_AFTER, RESTARTED_UP_TO] {
        let patch = json!({"metadata": {"annotations": {annotation: "1"}}});
        let asked = patched(&house, "agents/bot", merge, patch).await;
        assert_eq!(asked.code, StatusCode::OK, "{annotation}: {}", asked.text());
        assert_eq!(asked.json()["metadata"]["annotations"][annotation], "1");
    }
    let other = json!({"metadata": {"annotations": {"example.org/a": "1"}}});
    assert_eq!(patched(&house, "agents/bot", merge, other).await.code, StatusCode::FORBIDDEN);
}
