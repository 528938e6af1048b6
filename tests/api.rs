//! Promise: the API has the shape of the Kubernetes API, checks everything before it does
//! anything, says every fault at once, and its streams miss nothing.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::time::Duration;

use axum::http::{Method, StatusCode};
use house::{API, House, batch, exit, hello, log, read, uid};
use open_dispatch::{
    resource::{ConditionStatus, Kind, table::columns as columns_of},
    store::{Approval, ApprovalState, Expect, Op, Part},
};
use serde_json::{Value, json};

fn job(name: &str) -> Value {
    json!({
        "apiVersion": "opendispatch.dev/v1alpha1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"team": "payments"}},
        "spec": {"task": "true", "agent": {"command": {}}},
    })
}

async fn create(house: &House, document: &Value) -> Value {
    let answer = house.call(Method::POST, "jobs", Some(document)).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
    answer.json()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_job_is_created_read_changed_and_deleted() {
    let house = House::new();
    let created = create(&house, &job("one")).await;
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(house.get("jobs/one").await.json(), created);

    let labels = json!({"metadata": {"labels": {"team": null, "tier": "gold"}}});
    let patched = house.call(Method::PATCH, "jobs/one", Some(&labels)).await.json();
    assert_eq!(patched["metadata"]["labels"], json!({"tier": "gold"}));
    assert_eq!(patched["metadata"]["generation"], 1);

    let mut replaced = patched.clone();
    replaced["spec"]["cancel"] = true.into();
    let replaced = house.call(Method::PUT, "jobs/one", Some(&replaced)).await.json();
    assert_eq!(
        (&replaced["metadata"]["generation"], &replaced["spec"]["cancel"]),
        (&json!(2), &json!(true))
    );

    let deleting = house.call(Method::DELETE, "jobs/one", None).await;
    assert_eq!(deleting.code, StatusCode::OK);
    assert!(deleting.json()["metadata"]["deletionTimestamp"].is_string(), "its finalizer holds it");
    let mut job = house.store.get(Kind::Job, "one").await.unwrap().unwrap();
    job.metadata_mut().finalizers.clear();
    let (part, expect) = (Part::Finalizers, Expect::Any);
    house.apply(vec![Op::Write { object: job, part, expect }]).await;
    assert_eq!(house.get("jobs/one").await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_object_without_finalizers_goes_at_once_and_the_answer_is_a_status() {
    let house = House::new();
    house.sprite("one").await;
    house.release("one").await;
    let gone = house.call(Method::DELETE, "sprites/one", None).await.json();
    assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(gone["details"]["uid"], json!(uid("one")));
}

#[tokio::test]
async fn each_refusal_is_a_status_that_names_the_place_and_the_mend() {
    let house = House::new();
    create(&house, &job("one")).await;
    let writes = house.store.writes();
    let mut faulty = job("two");
    faulty["spec"] =
        json!({"tsk": "true", "agent": {"command": {}, "claude": {}}, "timeout": "soon"});
    faulty["metadata"]["name"] = "Two!".into();
    let mut stale = house.get("jobs/one").await.json();
    stale["metadata"]["resourceVersion"] = "999".into();
    let unmade = json!({"spec": {"task": "false"}});
    let owned = json!({"metadata": {"finalizers": []}, "spec": {"cancel": true}});
    let taken = json!({"metadata": {"finalizers": ["mine"]}});
    let precondition = json!({"preconditions": {"uid": "another"}});
    let mut answers = Vec::new();
    for (method, path, body) in [
        (Method::GET, "jobs/none", None),
        (Method::GET, "pods", None),
        (Method::GET, "/nowhere", None),
        (Method::PUT, "jobs", None),
        (Method::POST, "jobs", Some(&faulty)),
        (Method::POST, "jobs", Some(&json!(null))),
        (Method::POST, "agents", Some(&job("three"))),
        (Method::POST, "jobs", Some(&job("one"))),
        (Method::PUT, "jobs/one", Some(&stale)),
        (Method::PATCH, "jobs/one", Some(&unmade)),
        (Method::PATCH, "jobs/one", Some(&taken)),
        (Method::PATCH, "jobs/one", Some(&json!([]))),
        (Method::DELETE, "jobs/one", Some(&precondition)),
        (Method::GET, "jobs?limit=many", None),
        (Method::GET, "jobs?labelSelector=a%3D%3D%3Db", None),
        (Method::GET, "jobs?continue=nonsense", None),
        (Method::GET, "jobs?watch=1&resourceVersion=999", None),
        (Method::GET, "jobs/one/log?format=wav", None),
        (Method::GET, "jobs/one/log?after=here", None),
        (Method::DELETE, "jobs/one?dryRun=Some", None),
    ] {
        let answer = house.call(method.clone(), path, body).await;
        answers.push(json!({"request": format!("{method} {path}"), "answer": answer.json()}));
    }
    insta::assert_json_snapshot!(answers);
    let kept = house.call(Method::PATCH, "jobs/one?dryRun=All", Some(&owned)).await;
    assert_eq!(kept.code, StatusCode::OK, "an empty list of finalizers leaves them out");
    assert_eq!(house.store.writes(), writes);
}

#[tokio::test]
async fn a_body_that_is_no_json_or_too_large_or_of_another_sort_is_refused() {
    let house = House::new();
    create(&house, &job("one")).await;
    let path = |rest: &str| format!("{API}/{rest}");
    let send = |method, path: String, sort: &'static str, body: Vec<u8>| {
        let house = &house;
        async move { read(house.send(house::ACCESS, method, &path, sort, body).await).await }
    };
    let json = "application/json";
    let broken = send(Method::POST, path("jobs"), json, b"{".to_vec()).await;
    assert_eq!(
        (broken.code, &broken.json()["reason"]),
        (StatusCode::BAD_REQUEST, &json!("BadRequest"))
    );
    let large = send(Method::POST, path("jobs"), json, vec![b' '; 3 * 1024 * 1024 + 1]).await;
    assert_eq!(large.json()["reason"], "RequestEntityTooLarge");
    assert_eq!(large.json()["message"], "the body is too large (limit 3145728 bytes)");
    let twice = r#"{"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Job", "metadata":
        {"generateName": "a-"}, "spec": {"task": "a", "task": "b", "agent": {"command": {}}}}"#;
    let twice = send(Method::POST, path("jobs"), json, twice.into()).await;
    assert_eq!(
        twice.json()["message"],
        "Job.opendispatch.dev is invalid: spec.task: is there already; keep one"
    );
    let sort = "application/strategic-merge-patch+json";
    let other = send(Method::PATCH, path("jobs/one"), sort, b"{}".to_vec()).await;
    assert_eq!(other.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let yaml = "apiVersion: opendispatch.dev/v1alpha1\nkind: Job\nmetadata: {name: two}\nspec: {task: 'true', agent: {command: {}}}\n";
    let made = send(Method::POST, path("jobs"), "application/yaml", yaml.into()).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.text());
}

#[tokio::test]
async fn nothing_but_health_opens_without_the_access_token() {
    let house = House::new();
    let sprite = house.sprite("one").await;
    for (token, path, code) in [
        ("", "/health".to_owned(), StatusCode::OK),
        ("", "/ready".to_owned(), StatusCode::OK),
        ("", "/healthz".to_owned(), StatusCode::OK),
        ("", "/livez".to_owned(), StatusCode::OK),
        ("", "/readyz".to_owned(), StatusCode::OK),
        ("", "/version".to_owned(), StatusCode::UNAUTHORIZED),
        ("", "/nowhere".to_owned(), StatusCode::UNAUTHORIZED),
        ("wrong", format!("{API}/jobs"), StatusCode::UNAUTHORIZED),
        (&sprite, format!("{API}/jobs"), StatusCode::UNAUTHORIZED),
        (house::ACCESS, format!("{API}/jobs"), StatusCode::OK),
    ] {
        let answer = read(house.send(token, Method::GET, &path, "", "").await).await;
        assert_eq!(answer.code, code, "{path}");
        if code == StatusCode::UNAUTHORIZED {
            assert!(answer.text().contains("OPEN_DISPATCH_TOKEN"), "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_repeated_request_gets_what_the_first_one_got() {
    let house = House::new();
    let mut generated = job("");
    generated["metadata"] = json!({"generateName": "run-"});
    let path = "jobs?requestId=r-1";
    let first = house.call(Method::POST, path, Some(&generated)).await;
    assert_eq!(first.code, StatusCode::CREATED);
    let second = house.call(Method::POST, path, Some(&generated)).await;
    assert_eq!((second.code, second.json()), (StatusCode::OK, first.json()));
    assert_eq!(names(&house.get("jobs").await.json()).len(), 1);
    let other = house.call(Method::POST, "jobs?requestId=r-2", Some(&generated)).await.json();
    assert_ne!(other["metadata"]["name"], first.json()["metadata"]["name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_races_against_itself_makes_one_object() {
    let house = std::sync::Arc::new(House::new());
    let mut races = tokio::task::JoinSet::new();
    for n in 0..16 {
        let house = house.clone();
        races.spawn(async move {
            let name = if n % 2 == 0 { "run-a" } else { "run-b" };
            house.call(Method::POST, "jobs?requestId=r", Some(&job(name))).await.json()["metadata"]
                ["uid"]
                .clone()
        });
    }
    let mut uids = races.join_all().await;
    uids.dedup();
    assert_eq!(uids.len(), 1, "{uids:?}");
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_does_nothing() {
    let house = House::new();
    let would = house.call(Method::POST, "jobs?dryRun=All", Some(&job("one"))).await;
    assert_eq!(
        (would.code, &would.json()["metadata"]["name"]),
        (StatusCode::CREATED, &json!("one"))
    );
    assert_eq!(house.get("jobs/one").await.code, StatusCode::NOT_FOUND);
    create(&house, &job("one")).await;
    let writes = house.store.writes();
    let twice = house.call(Method::POST, "jobs?dryRun=All", Some(&job("one"))).await;
    assert_eq!(twice.json()["reason"], "AlreadyExists");
    let cancel = json!({"spec": {"cancel": true}});
    let would = house.call(Method::PATCH, "jobs/one?dryRun=All", Some(&cancel)).await;
    assert_eq!(would.json()["spec"]["cancel"], true);
    house.call(Method::DELETE, "jobs/one", Some(&json!({"dryRun": ["All"]}))).await;
    assert_eq!(house.store.writes(), writes);
}

#[tokio::test]
async fn the_spec_and_the_status_are_written_apart() {
    let house = House::new();
    let mut document = create(&house, &job("one")).await;
    document["status"]["phase"] = "Running".into();
    document["spec"]["ttlAfterFinished"] = "1h".into();
    let put = house.call(Method::PUT, "jobs/one", Some(&document)).await.json();
    assert_eq!(
        (&put["status"]["phase"], &put["spec"]["ttlAfterFinished"]),
        (&Value::Null, &json!("1h"))
    );
    let status = json!({"status": {"phase": "Running"}, "spec": {"ttlAfterFinished": "2h"}});
    let patched = house.call(Method::PATCH, "jobs/one/status", Some(&status)).await.json();
    assert_eq!(
        (&patched["status"]["phase"], &patched["spec"]["ttlAfterFinished"]),
        (&json!("Running"), &json!("1h"))
    );
    assert_eq!(house.get("jobs/one/status").await.json(), patched);
    let writes = house.store.writes();
    house.call(Method::PATCH, "jobs/one/status", Some(&status)).await;
    assert_eq!(house.store.writes(), writes, "what stands there already is not written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_that_race_all_arrive() {
    let house = std::sync::Arc::new(House::new());
    create(&house, &job("one")).await;
    let mut patches = tokio::task::JoinSet::new();
    for n in 0..8 {
        let house = house.clone();
        patches.spawn(async move {
            let patch = json!({"metadata": {"labels": {format!("l{n}"): "x"}}});
            house.call(Method::PATCH, "jobs/one", Some(&patch)).await.code
        });
    }
    assert!(patches.join_all().await.iter().all(|code| *code == StatusCode::OK));
    assert_eq!(
        house.get("jobs/one").await.json()["metadata"]["labels"].as_object().unwrap().len(),
        9
    );
}

#[tokio::test]
async fn a_list_comes_in_pages_by_labels_and_as_a_table() {
    let house = House::new();
    for n in 0..5 {
        let mut document = job(&format!("j{n}"));
        document["metadata"]["labels"]["odd"] = (n % 2 == 1).to_string().into();
        create(&house, &document).await;
    }
    let mut path = "jobs?limit=2".to_owned();
    let mut pages = Vec::new();
    let mut versions = Vec::new();
    loop {
        let page = house.get(&path).await.json();
        pages.push(names(&page).join(" "));
        versions.push(page["metadata"]["resourceVersion"].clone());
        create(&house, &job(&format!("between-{}", pages.len()))).await;
        match page["metadata"]["continue"].as_str() {
            Some(token) => path = format!("jobs?limit=2&continue={token}"),
            None => break,
        }
    }
    assert_eq!(pages, ["j0 j1", "j2 j3", "j4"]);
    versions.dedup();
    assert_eq!(versions.len(), 1, "all pages belong to one version: {versions:?}");

    let odd = house.get("jobs?labelSelector=odd%3Dtrue&limit=2").await.json();
    assert_eq!((names(&odd), &odd["metadata"]["continue"]), (vec!["j1", "j3"], &Value::Null));
    let one = house.get("jobs?fieldSelector=metadata.name%3Dj4").await.json();
    assert_eq!(names(&one), ["j4"]);

    let request = axum::http::Request::get(format!("{API}/jobs?labelSelector=odd%3Dtrue"))
        .header("authorization", format!("Bearer {}", house::ACCESS))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        .body(axum::body::Body::empty())
        .unwrap();
    let table =
        read(tower::ServiceExt::oneshot(house.router.clone(), request).await.unwrap()).await;
    let table = table.json();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let of_column = |member: &str| columns.iter().map(|it| it[member].clone()).collect::<Vec<_>>();
    let expected = columns_of(Kind::Job);
    assert_eq!(of_column("name"), expected.iter().map(|it| json!(it.name)).collect::<Vec<_>>());
    let priorities: Vec<Value> = expected.iter().map(|it| json!(i32::from(it.wide))).collect();
    assert_eq!(of_column("priority"), priorities);
    let rows = table["rows"].as_array().unwrap();
    let shown: Vec<_> = rows.iter().map(|row| (&row["cells"][0], &row["object"]["kind"])).collect();
    let partial = json!("PartialObjectMetadata");
    assert_eq!(shown, [(&json!("j1"), &partial), (&json!("j3"), &partial)]);
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended_and_tells_when_labels_leave_the_selection() {
    let house = House::new();
    create(&house, &job("one")).await;
    let list = house.get("jobs").await.json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let path =
        format!("{API}/jobs?watch=1&resourceVersion={version}&labelSelector=team%3Dpayments");
    let mut watch = house.stream(house::ACCESS, &path).await;
    create(&house, &job("two")).await;
    for team in ["billing", "payments"] {
        let patch = json!({"metadata": {"labels": {"team": team}}});
        house.call(Method::PATCH, "jobs/two", Some(&patch)).await;
    }
    let mut other = job("three");
    other["metadata"]["labels"] = json!({});
    create(&house, &other).await;
    house.call(Method::PATCH, "jobs/one", Some(&json!({"spec": {"cancel": true}}))).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = watch.json().await;
        seen.push(format!("{} {}", event["type"], event["object"]["metadata"]["name"]));
    }
    assert_eq!(
        seen,
        [r#""ADDED" "two""#, r#""DELETED" "two""#, r#""ADDED" "two""#, r#""MODIFIED" "one""#]
    );
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_is_there_and_ends_with_a_bookmark() {
    let house = House::new();
    create(&house, &job("one")).await;
    let path = format!(
        "{API}/jobs?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&timeoutSeconds=90"
    );
    let mut watch = house.stream(house::ACCESS, &path).await;
    let added = watch.json().await;
    assert_eq!(
        (&added["type"], &added["object"]["metadata"]["name"]),
        (&json!("ADDED"), &json!("one"))
    );
    let initial = watch.json().await;
    assert_eq!(initial["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let rest = async {
        let mut rest = Vec::new();
        while let Some(line) = watch.next().await {
            rest.push(serde_json::from_str::<Value>(&line).unwrap()["type"].clone());
        }
        rest
    };
    tokio::pin!(rest);
    let rest = loop {
        tokio::select! {
            biased;
            rest = &mut rest => break rest,
            () = tokio::task::yield_now() => house.clock.advance(Duration::from_millis(100)),
        }
    };
    assert_eq!(rest, ["BOOKMARK", "BOOKMARK"], "one after a minute, one at the end");
}

#[tokio::test]
async fn a_version_whose_history_is_gone_is_told_by_the_status_or_by_the_last_event() {
    let house = House::new();
    for n in 0..3 {
        create(&house, &job(&format!("old-{n}"))).await;
    }
    let path = format!("{API}/jobs?watch=1&resourceVersion=1");
    let mut watch = house.stream(house::ACCESS, &path).await;
    house.clock.advance(Duration::from_hours(1));
    for n in 0..1100 {
        let patch = json!({"metadata": {"labels": {"n": n.to_string()}}});
        house.call(Method::PATCH, "jobs/old-0", Some(&patch)).await;
    }
    house.clock.advance(Duration::from_hours(1));
    house.store.compact(house.now()).await.unwrap();
    let gone = house.get("jobs?watch=1&resourceVersion=1").await;
    assert_eq!((gone.code, &gone.json()["reason"]), (StatusCode::GONE, &json!("Expired")));
    let mut last = Value::Null;
    while let Some(line) = watch.next().await {
        last = serde_json::from_str(&line).unwrap();
        if last["type"] == "ERROR" {
            break;
        }
    }
    assert_eq!((&last["type"], &last["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn discovery_shows_what_there_is() {
    let house = House::new();
    let mut pages = Vec::new();
    let version = house.get("/version").await.json();
    let expected = format!("v1.32.0+open-dispatch.{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(version["gitVersion"], expected);
    for path in ["/api", "/apis", "/apis/opendispatch.dev", API] {
        pages.push(json!({path: house.get(path).await.json()}));
    }
    insta::assert_json_snapshot!(pages);
}

#[tokio::test]
async fn ready_says_which_part_is_down() {
    let house = House::new();
    house.state.readiness().up("chat");
    assert_eq!(house.get("/ready").await.code, StatusCode::OK);
    house.state.readiness().down("chat", "the platform refuses the token");
    let answer = house.get("/ready").await;
    assert_eq!(answer.code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        answer.json()["parts"],
        json!({"chat": "down: the platform refuses the token", "store": "up"})
    );
}

#[tokio::test]
async fn events_tell_an_objects_history() {
    let house = House::new();
    let uid = create(&house, &job("one")).await["metadata"]["uid"].as_str().unwrap().to_owned();
    house
        .apply(vec![Op::Event {
            kind: Kind::Job,
            name: "one".to_owned(),
            uid,
            warning: true,
            reason: "Retried".to_owned(),
            note: "the attempt failed".to_owned(),
        }])
        .await;
    let events = house.get("jobs/one/events").await.json();
    assert_eq!((&events[0]["type"], &events[0]["reason"]), (&json!("Warning"), &json!("Retried")));
}

// Logs.

const EVENTS: &str = "/webhooks/events";

async fn finish(house: &House, name: &str) {
    let mut job = house.store.get(Kind::Job, name).await.unwrap().unwrap().into_job().unwrap();
    job.status.conditions.set("Failed", ConditionStatus::True, "Failed", "", 1, house.now());
    let (part, expect) = (Part::Status, Expect::SameVersion);
    house.apply(vec![Op::Write { object: job.into(), part, expect }]).await;
}

#[tokio::test]
async fn a_log_is_followed_over_all_attempts_to_the_end_of_the_job() {
    let house = House::new();
    let owner = create(&house, &job("one")).await["metadata"]["uid"].as_str().unwrap().to_owned();
    let mut follow = house.stream(house::ACCESS, &format!("{API}/jobs/one/log?follow=1")).await;
    let first = house.owned_sprite("one-1", Kind::Job, &owner, 1).await;
    let system = json!({"type": "log", "stream": "system", "text": "cloning\n"});
    let error = json!({"type": "log", "stream": "stderr", "b64": "b29wcwo="});
    house.post(&first, EVENTS, batch("one-1", 1, 1, &[hello(), system, log("one\n")])).await;
    assert_eq!(follow.next().await.as_deref(), Some("one"));
    house.post(&first, EVENTS, batch("one-1", 1, 4, &[error, exit(1)])).await;
    assert_eq!(follow.next().await.as_deref(), Some("oops"));

    let second = house.owned_sprite("one-2", Kind::Job, &owner, 2).await;
    let text = json!({"type": "text", "turn": "t", "text": "two\n"});
    house.post(&second, EVENTS, batch("one-2", 1, 1, &[hello(), text, exit(1)])).await;
    finish(&house, "one").await;
    assert_eq!(follow.next().await.as_deref(), Some("two"));
    assert_eq!(follow.next().await, None);
    assert_eq!(house.get("jobs/one/log").await.text(), "one\noops\ntwo\n");
}

#[tokio::test]
async fn a_log_of_events_goes_on_behind_a_place() {
    let house = House::new();
    let owner = create(&house, &job("one")).await["metadata"]["uid"].as_str().unwrap().to_owned();
    for (name, attempt) in [("one-1", 1), ("one-2", 2)] {
        let token = house.owned_sprite(name, Kind::Job, &owner, attempt).await;
        house.post(&token, EVENTS, batch(name, 1, 1, &[hello(), log("x"), exit(1)])).await;
    }
    let places = |text: String| -> Vec<String> {
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events
            .map(|event| format!("{} {} {}", event["sprite"], event["seq"], event["type"]))
            .collect()
    };
    let all = places(house.get("jobs/one/log?format=events").await.text());
    assert_eq!(all.len(), 6);
    let behind = places(house.get("jobs/one/log?format=events&after=1.2").await.text());
    assert_eq!(behind, all[2..]);
    let behind = places(house.get("jobs/one/log?format=events&after=one-2/1.2").await.text());
    assert_eq!(behind, [r#""one-2" 3 "exit""#]);
    // The exit is held, so there is nothing to wait for.
    let ended = house.get("sprites/one-2/log?follow=1&after=1.3").await;
    assert_eq!((ended.code, ended.text().as_str()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn a_log_that_is_cut_off_by_a_shutdown_does_not_look_as_if_it_had_ended() {
    let house = House::new();
    create(&house, &job("one")).await;
    let path = format!("{API}/jobs/one/log?follow=1");
    let response = house.send(house::ACCESS, Method::GET, &path, "", "").await;
    house.state.close_streams();
    let body = http_body_util::BodyExt::collect(response.into_body());
    assert!(tokio::time::timeout(house::PATIENCE, body).await.expect("it goes on").is_err());
}

#[tokio::test]
async fn what_an_agent_asks_for_is_listed_and_answered_once() {
    let house = House::new();
    let owner = create(&house, &job("one")).await["metadata"]["uid"].as_str().unwrap().to_owned();
    house.owned_sprite("one-1", Kind::Job, &owner, 1).await;
    let asked = Approval {
        kind: Default::default(),
        rule: None,
        questions: Vec::new(),
        answers: Default::default(),
        sprite_uid: uid("one-1"),
        run: 1,
        request: "r".to_owned(),
        turn: "task".to_owned(),
        tool: "Bash".to_owned(),
        title: "Bash: ls".to_owned(),
        input: Value::Null,
        state: ApprovalState::Pending,
        by: String::new(),
        message: String::new(),
        resolved: None,
        user: None,
        grant: None,
        created: house.now(),
    };
    house.apply(vec![Op::AddApproval(asked)]).await;
    for path in ["jobs/one/approvals", "sprites/one-1/approvals"] {
        let list = house.get(path).await.json();
        assert_eq!((&list["items"][0]["request"], list["items"].get(1)), (&json!("r"), None));
    }
    let no = json!({"allow": false, "message": "not now"});
    let post = async |path: &str, body: &Value| house.call(Method::POST, path, Some(body)).await;
    let bad = post("jobs/one/approvals/r", &json!({"alow": true})).await;
    assert_eq!(bad.code, StatusCode::BAD_REQUEST, "{}", bad.text());
    let absent = post("jobs/one/approvals/s", &no).await;
    assert_eq!(absent.code, StatusCode::NOT_FOUND, "{}", absent.text());
    let first = post("sprites/one-1/approvals/r", &no).await;
    assert_eq!((first.code, &first.json()["state"]), (StatusCode::OK, &json!("Denied")));
    let second = post("jobs/one/approvals/r", &json!({"allow": true})).await;
    assert_eq!(second.code, StatusCode::CONFLICT);
    assert!(second.text().contains("the request r is Denied already by api"), "{}", second.text());
    let row = house.store.approvals(&uid("one-1")).await.unwrap().remove(0);
    assert_eq!((row.state, row.message.as_str()), (ApprovalState::Denied, "not now"));
}
