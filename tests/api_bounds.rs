//! Promise: what one request can cost is bounded, and who comes back for the rest misses nothing.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::{collections::BTreeSet, time::Duration};

use axum::http::{Method, StatusCode};
use house::{API, House, read};
use open_dispatch::{
    resource::{Kind, admit, decode},
    store::Op,
};
use serde_json::{Map, Value, json};

fn job(name: &str) -> Value {
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Job", "metadata": {"name": name},
        "spec": {"task": "true", "agent": {"command": {}}}})
}

fn created(name: &str) -> Op {
    let object = decode(job(name)).unwrap();
    Op::Create(admit::create(object, format!("{name}-uid"), "").unwrap())
}

fn happened(name: &str, note: String) -> Op {
    Op::Event {
        kind: Kind::Job,
        name: name.to_owned(),
        uid: format!("{name}-uid"),
        warning: false,
        reason: "Counted".to_owned(),
        note,
    }
}

#[tokio::test]
async fn events_come_in_pages_that_tell_each_once_whatever_happens_meanwhile() {
    let house = House::new();
    house.apply(vec![created("a"), created("b")]).await;
    let told = (0..1_200).map(|n| happened(if n % 2 == 0 { "a" } else { "b" }, format!("{n}")));
    house.apply(told.collect()).await;
    let mut notes = Vec::new();
    let mut path = "/api/v1/events?limit=500".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = house.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        pages.push(items.len());
        notes.extend(items.iter().map(|it| it["message"].as_str().unwrap().to_owned()));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        path = format!("/api/v1/events?limit=500&continue={token}");
        // One that was told happens again, and an object goes; neither moves the others.
        house.apply(vec![happened("a", "0".to_owned())]).await;
        house.call(Method::DELETE, "jobs/b", None).await;
    }
    // With the one that tells who deleted it.
    assert_eq!(pages, [500, 500, 201]);
    let distinct: BTreeSet<&String> = notes.iter().collect();
    assert_eq!((notes.len(), distinct.len()), (1_201, 1_201));
    // A page is filled with what is chosen.
    let about = "limit=10&fieldSelector=involvedObject.name%3Db";
    let chosen = house.get(&format!("/api/v1/events?{about}")).await.json();
    let chosen = chosen["items"].as_array().unwrap();
    assert!(chosen.len() == 10 && chosen.iter().all(|it| it["involvedObject"]["name"] == "b"));
    // A list without pages reads as what happened last.
    house.clock.advance(Duration::from_secs(1));
    house.apply(vec![happened("a", "4".to_owned())]).await;
    let whole = house.get("/api/v1/events").await.json();
    let whole = whole["items"].as_array().unwrap();
    assert_eq!((whole.len(), &whole[1_200]["message"]), (1_201, &json!("4")));
    let bad = house.get("/api/v1/events?continue=nonsense").await;
    assert_eq!(bad.code, StatusCode::BAD_REQUEST, "{}", bad.text());
}

#[tokio::test]
async fn a_watch_that_ends_far_behind_says_a_part_and_where_to_go_on() {
    const MANY: usize = 3_000;
    let house = House::new();
    house.apply(vec![created("first")]).await;
    let begin = house.store.revision().await.unwrap();
    house.apply((0..MANY).map(|n| created(&format!("job-{n}"))).collect()).await;
    let (mut from, mut heard, mut rounds) = (begin.to_string(), 0, 0);
    while heard < MANY {
        let path = format!(
            "{API}/jobs?watch=1&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=1"
        );
        let sent = house.send(house::ACCESS, Method::GET, &path, "", "").await;
        // Its time is over before anybody reads a word.
        house.clock.advance(Duration::from_secs(2));
        let text = read(sent).await.text();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (end, changes) = lines.split_last().unwrap();
        assert_eq!(end["type"], "BOOKMARK");
        assert!(changes.iter().all(|line| line["type"] == "ADDED"));
        assert!((1..=1_000).contains(&changes.len()), "{} at once", changes.len());
        from = end["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        (heard, rounds) = (heard + changes.len(), rounds + 1);
    }
    assert!(heard == MANY && rounds >= 3, "{heard} in {rounds}");
    assert_eq!(from, house.store.revision().await.unwrap().to_string());
}

#[tokio::test]
async fn more_labels_than_an_object_may_have_are_refused_by_every_way_in() {
    let house = House::new();
    let labels: Map<String, Value> =
        (0..9_000).map(|n| (format!("label-{n}"), "".into())).collect();
    let mut wide = job("wide");
    wide["metadata"]["labels"] = labels.clone().into();
    house.call(Method::POST, "jobs", Some(&job("wide"))).await;
    let patch = json!({"metadata": {"labels": labels}});
    for (method, path, body) in [
        (Method::POST, "jobs", &wide),
        (Method::PUT, "jobs/wide", &wide),
        (Method::PATCH, "jobs/wide", &patch),
    ] {
        let refused = house.call(method, path, Some(body)).await;
        assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("metadata.labels: take 88890 bytes together; the most is 65536"),
            "{message}"
        );
        assert!(!message.contains('\n') && message.len() < 500, "{message}");
    }
}

#[tokio::test]
async fn a_patch_that_would_move_a_long_list_ever_again_is_refused_and_changes_nothing() {
    let house = House::new();
    let mut long = job("long");
    long["spec"]["agent"] = json!({"claude": {}});
    long["spec"]["permissions"] = json!({"allow": vec!["Bash(ls:*)"; 50_000]});
    let made = house.call(Method::POST, "jobs", Some(&long)).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.text());
    let before = house.get("jobs/long").await.bytes;
    let first = json!({"op": "add", "path": "/spec/permissions/allow/0", "value": "x"});
    let patch = Value::from(vec![first; 10_000]).to_string();
    let path = format!("{API}/jobs/long");
    let sort = "application/json-patch+json";
    let sent = house.send(house::ACCESS, Method::PATCH, &path, sort, patch);
    let refused = read(sent.await).await;
    assert_eq!(refused.code, StatusCode::PAYLOAD_TOO_LARGE, "{}", refused.text());
    assert!(refused.text().contains("moves more than"), "{}", refused.text());
    assert_eq!(house.get("jobs/long").await.bytes, before);
}
