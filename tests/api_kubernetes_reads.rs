//! Promise: what Kubernetes' clients read, they read here as they know it: forms, pages of one
//! moment, watches that resume, and what there is to be found.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode},
};
use house::{API, Answer, House, read};
use open_dispatch::{resource::Kind, store::Op};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,\
                       application/json";

fn job(name: &str, team: &str) -> Value {
    json!({
        "apiVersion": "opendispatch.dev/v1alpha1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"team": team}},
        "spec": {"task": "true", "agent": {"command": {}}},
    })
}

async fn create(house: &House, name: &str, team: &str) -> Value {
    let answer = house.call(Method::POST, "jobs", Some(&job(name, team))).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
    answer.json()
}

async fn label(house: &House, name: &str, labels: Value) {
    let patch = json!({"metadata": {"labels": labels}});
    let answer = house.call(Method::PATCH, &format!("jobs/{name}"), Some(&patch)).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
}

/// Reads a path in this form, and with it the headers of the answer.
async fn accepted(house: &House, path: &str, accept: &str) -> (HeaderMap, Answer) {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("{API}/{path}") };
    let request = Request::get(path)
        .header("authorization", format!("Bearer {}", house::ACCESS))
        .header("accept", accept)
        .body(Body::empty())
        .unwrap();
    let response = house.router.clone().oneshot(request).await.unwrap();
    (response.headers().clone(), read(response).await)
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_object_comes_in_the_form_that_is_asked_for() {
    let house = House::new();
    let created = create(&house, "one", "a").await;
    let (_, table) = accepted(&house, "jobs/one?includeObject=Object", TABLE).await;
    let table = table.json();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["rows"][0]["object"], created);
    let (_, none) = accepted(&house, "jobs?includeObject=None", TABLE).await;
    assert_eq!(none.json()["rows"][0]["object"], Value::Null);
    let (_, bad) = accepted(&house, "jobs?includeObject=Some", TABLE).await;
    assert_eq!(bad.code, StatusCode::BAD_REQUEST);
    let (_, partial) = accepted(&house, "jobs", PARTIAL).await;
    let partial = partial.json();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(
        partial["items"][0],
        json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": created["metadata"],
        })
    );
    let (headers, yaml) = accepted(&house, "jobs/one", "application/yaml").await;
    assert_eq!(headers["content-type"], "application/yaml");
    let back = open_dispatch::resource::yaml::one(&yaml.text()).unwrap();
    assert_eq!(back, created);
    let (_, pretty) = accepted(&house, "jobs/one?pretty=true", "*/*").await;
    assert_eq!((pretty.json(), pretty.text().lines().count() > 10), (created, true));
    let (_, unknown) = accepted(&house, "jobs/one", "application/vnd.kubernetes.protobuf").await;
    assert_eq!(unknown.code, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(unknown.json()["reason"], "NotAcceptable");
    let (_, missing) = accepted(&house, "jobs/none", "application/yaml").await;
    assert!(missing.text().contains("reason: NotFound"), "{}", missing.text());
}

#[tokio::test]
async fn all_pages_of_a_list_show_one_moment_and_a_lost_list_can_go_on() {
    let house = House::new();
    for name in ["a", "b", "c", "d", "e"] {
        create(&house, name, "a").await;
    }
    let first = house.get("jobs?limit=2").await.json();
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a", "b"], &json!(3))
    );
    let token = first["metadata"]["continue"].as_str().unwrap();
    create(&house, "bb", "a").await;
    label(&house, "c", json!({"team": "changed"})).await;
    house.call(Method::DELETE, "jobs/d", None).await;
    let path = format!("jobs?limit=2&continue={token}");
    let second = house.get(&path).await.json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][0]["metadata"]["labels"]["team"], "a", "it is as it was");
    assert_eq!(second["items"][1]["metadata"]["deletionTimestamp"], Value::Null);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    // A restart forgets the list, and time does.
    for lost in [house.restarted(), house] {
        lost.clock.advance(Duration::from_mins(6));
        let gone = lost.get(&path).await;
        assert_eq!((gone.code, &gone.json()["reason"]), (StatusCode::GONE, &json!("Expired")));
        let token = gone.json()["metadata"]["continue"].as_str().unwrap().to_owned();
        let rest = lost.get(&format!("jobs?limit=9&continue={token}")).await.json();
        assert_eq!(names(&rest), ["bb", "c", "d", "e"]);
    }
}

#[tokio::test]
async fn a_list_is_as_new_as_it_is_asked_to_be() {
    let house = House::new();
    create(&house, "a", "a").await;
    let version = house.get("jobs").await.json()["metadata"]["resourceVersion"].clone();
    let version: u64 = version.as_str().unwrap().parse().unwrap();
    let list = async |query: String| house.get(&format!("jobs?{query}")).await.code;
    assert_eq!(list(format!("resourceVersion={version}")).await, StatusCode::OK);
    let exact = format!("resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(list(exact.clone()).await, StatusCode::OK);
    let too_new = format!("resourceVersion={}", version + 1);
    assert_eq!(list(too_new).await, StatusCode::GATEWAY_TIMEOUT);
    create(&house, "b", "a").await;
    assert_eq!(list(exact).await, StatusCode::GONE);
    assert_eq!(
        list("resourceVersion=0&resourceVersionMatch=NotOlderThan".into()).await,
        StatusCode::OK
    );
    for bad in [
        "resourceVersionMatch=Exact",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Newest",
        "resourceVersion=x",
    ] {
        assert_eq!(list(bad.into()).await, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn fields_choose_as_labels_do() {
    let house = House::new();
    create(&house, "a", "a").await;
    create(&house, "b", "b").await;
    let status = json!({"status": {"phase": "Running"}});
    house.call(Method::PATCH, "jobs/a/status", Some(&status)).await;
    for (query, expected) in [
        ("fieldSelector=status.phase%3DRunning", vec!["a"]),
        ("fieldSelector=status.phase!%3DRunning", vec!["b"]),
        ("fieldSelector=metadata.name%3Db,status.phase%3D", vec!["b"]),
        ("fieldSelector=metadata.name%3Db,status.phase%3DRunning", vec![]),
        ("fieldSelector=metadata.namespace%3D", vec!["a", "b"]),
        ("labelSelector=team%20in%20(a,c),!other", vec!["a"]),
    ] {
        assert_eq!(names(&house.get(&format!("jobs?{query}")).await.json()), expected, "{query}");
    }
    for bad in ["spec", "spec.env", "spec.nope", "status.phase.x", "a"] {
        let answer = house.get(&format!("jobs?fieldSelector={bad}%3Dx")).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{bad}");
        assert!(answer.text().contains("status.phase=PHASE"), "{}", answer.text());
    }
}

/// The next events, as `TYPE NAME`.
async fn events(watch: &mut house::Lines, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let event = watch.json().await;
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or("-").to_owned();
        seen.push(format!("{} {name}", event["type"].as_str().unwrap()));
    }
    seen
}

#[tokio::test]
async fn a_watch_of_a_selection_is_true_to_what_its_client_has() {
    let house = House::new();
    create(&house, "in", "a").await;
    create(&house, "out", "b").await;
    create(&house, "leaves", "a").await;
    let version = house.get("jobs").await.json()["metadata"]["resourceVersion"].clone();
    let path = format!(
        "{API}/jobs?watch=1&resourceVersion={}&labelSelector=team%3Da",
        version.as_str().unwrap()
    );
    // It left before the watch began, and the client, which has it, must hear of it.
    label(&house, "leaves", json!({"team": "b"})).await;
    let mut watch = house.stream(house::ACCESS, &path).await;
    // Of what it never had, it hears nothing.
    label(&house, "out", json!({"x": "1"})).await;
    label(&house, "in", json!({"x": "1"})).await;
    label(&house, "out", json!({"team": "a"})).await;
    label(&house, "out", json!({"team": "b"})).await;
    label(&house, "out", json!({"x": "2"})).await;
    label(&house, "in", json!({"x": "2"})).await;
    let seen = events(&mut watch, 5).await;
    let expected = ["DELETED leaves", "MODIFIED in", "ADDED out", "DELETED out", "MODIFIED in"];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn who_waits_for_the_end_of_one_object_takes_no_other_for_it() {
    let house = House::new();
    create(&house, "long", "a").await;
    create(&house, "other", "b").await;
    let version = house.get("jobs").await.json()["metadata"]["resourceVersion"].clone();
    // Between the list and the watch, another one moves on, and goes on to.
    let status = json!({"status": {"phase": "Running"}});
    house.call(Method::PATCH, "jobs/other/status", Some(&status)).await;
    for (n, selector) in [
        "fieldSelector=metadata.name%3Dlong",
        "fieldSelector=metadata.name!%3Dother",
        "fieldSelector=spec.task%3Dtrue%2Cmetadata.name%3Dlong",
        "labelSelector=team%3Da",
    ]
    .into_iter()
    .enumerate()
    {
        let version = version.as_str().unwrap();
        let path = format!("{API}/jobs?watch=1&resourceVersion={version}&{selector}");
        let mut watch = house.stream(house::ACCESS, &path).await;
        label(&house, "other", json!({"x": n.to_string()})).await;
        label(&house, "long", json!({"x": n.to_string()})).await;
        assert_eq!(events(&mut watch, n + 1).await, vec!["MODIFIED long"; n + 1], "{selector}");
    }
}

#[tokio::test]
async fn a_watch_of_fields_tells_when_an_object_comes_to_be_as_wanted() {
    let house = House::new();
    create(&house, "a", "a").await;
    let path = format!("{API}/jobs?watch=1&fieldSelector=status.phase%3DRunning");
    let mut watch = house.stream(house::ACCESS, &path).await;
    for phase in ["Starting", "Running", "Succeeded"] {
        let status = json!({"status": {"phase": phase}});
        house.call(Method::PATCH, "jobs/a/status", Some(&status)).await;
    }
    assert_eq!(events(&mut watch, 2).await, ["ADDED a", "DELETED a"]);
}

#[tokio::test]
async fn a_quiet_selection_of_a_busy_kind_hears_how_far_it_is_and_the_end_says_it_too() {
    let house = House::new();
    create(&house, "a", "a").await;
    let path = format!(
        "{API}/jobs?watch=1&labelSelector=team%3Dnone&allowWatchBookmarks=true&timeoutSeconds=100"
    );
    let mut watch = house.stream(house::ACCESS, &path).await;
    let spoken = async {
        let mut spoken = Vec::new();
        while let Some(line) = watch.next().await {
            spoken.push(serde_json::from_str::<Value>(&line).unwrap());
        }
        spoken
    };
    tokio::pin!(spoken);
    let mut n = 0;
    let spoken = loop {
        tokio::select! {
            biased;
            spoken = &mut spoken => break spoken,
            () = tokio::task::yield_now() => {
                if n < 10 {
                    label(&house, "a", json!({"n": n.to_string()})).await;
                    n += 1;
                }
                house.clock.advance(Duration::from_secs(10));
            }
        }
    };
    assert!(spoken.len() >= 2, "{spoken:?}");
    assert!(spoken.iter().all(|event| event["type"] == "BOOKMARK"), "{spoken:?}");
    let newest = house.store.revision().await.unwrap().to_string();
    assert_eq!(spoken.last().unwrap()["object"]["metadata"]["resourceVersion"], newest);
}

#[tokio::test]
async fn a_streamed_list_ends_with_its_bookmark_and_goes_on() {
    let house = House::new();
    create(&house, "a", "a").await;
    create(&house, "b", "b").await;
    let path = format!(
        "{API}/jobs?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
         &allowWatchBookmarks=true&labelSelector=team%3Da"
    );
    let mut watch = house.stream(house::ACCESS, &path).await;
    assert_eq!(events(&mut watch, 1).await, ["ADDED a"]);
    let end = watch.json().await;
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    label(&house, "a", json!({"team": "b"})).await;
    assert_eq!(events(&mut watch, 1).await, ["DELETED a"]);
}

#[tokio::test]
async fn a_watch_of_tables_says_its_columns_once() {
    let house = House::new();
    create(&house, "a", "a").await;
    create(&house, "b", "a").await;
    let request = Request::get(format!("{API}/jobs?watch=1&timeoutSeconds=1"))
        .header("authorization", format!("Bearer {}", house::ACCESS))
        .header("accept", TABLE)
        .body(Body::empty())
        .unwrap();
    let response = house.router.clone().oneshot(request).await.unwrap();
    let body = read(response);
    tokio::pin!(body);
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut body => break answer,
            () = tokio::task::yield_now() => house.clock.advance(Duration::from_millis(500)),
        }
    };
    let text = answer.text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let columns = |line: &Value| line["object"]["columnDefinitions"].as_array().unwrap().len();
    assert!(columns(&lines[0]) > 3);
    assert_eq!((columns(&lines[1]), &lines[1]["object"]["rows"][0]["cells"][0]), (0, &json!("b")));
}

#[tokio::test]
async fn discovery_in_one_piece_says_what_the_pages_say() {
    let house = House::new();
    let asked = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                 application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                 application/json";
    for root in ["/api", "/apis"] {
        let (headers, whole) = accepted(&house, root, asked).await;
        assert_eq!(
            headers["content-type"],
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        let whole = whole.json();
        assert_eq!(whole["apiVersion"], "apidiscovery.k8s.io/v2");
        for group in whole["items"].as_array().unwrap() {
            let version = &group["versions"][0];
            let path = match group["metadata"]["name"].as_str().unwrap() {
                "" => "/api/v1".to_owned(),
                name => format!("/apis/{name}/{}", version["version"].as_str().unwrap()),
            };
            let page = house.get(&path).await.json();
            let mut expected = Vec::new();
            for resource in version["resources"].as_array().unwrap() {
                let plural = resource["resource"].as_str().unwrap();
                expected.push((plural.to_owned(), resource["verbs"].clone()));
                for part in resource["subresources"].as_array().into_iter().flatten() {
                    let name = part["subresource"].as_str().unwrap();
                    expected.push((format!("{plural}/{name}"), part["verbs"].clone()));
                }
            }
            let told: Vec<(String, Value)> = page["resources"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| (it["name"].as_str().unwrap().to_owned(), it["verbs"].clone()))
                .collect();
            assert_eq!(told, expected, "{path}");
        }
    }
    let (_, older) = accepted(&house, "/apis", &asked.replace("v=v2;", "v=v3;")).await;
    assert_eq!(older.json()["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    let (_, plain) = accepted(&house, "/apis", "application/json").await;
    assert_eq!(plain.json()["kind"], "APIGroupList");
}

#[tokio::test]
async fn what_happened_is_told_as_events_by_the_object_that_it_is_about() {
    let house = House::new();
    for name in ["one", "two"] {
        let uid = create(&house, name, "a").await["metadata"]["uid"].as_str().unwrap().to_owned();
        house
            .apply(vec![Op::Event {
                kind: Kind::Job,
                name: name.to_owned(),
                uid,
                warning: true,
                reason: "Retried".to_owned(),
                note: "the attempt failed".to_owned(),
            }])
            .await;
    }
    let list = async |path: &str| house.get(path).await.json();
    let about = "fieldSelector=involvedObject.name%3Done,involvedObject.kind%3DJob";
    for path in ["/api/v1/events", "/api/v1/namespaces/default/events"] {
        let events = list(&format!("{path}?{about}")).await;
        let events = events["items"].as_array().unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["involvedObject"]["name"], "one");
        assert_eq!(
            (&events[0]["reason"], &events[0]["message"], &events[0]["count"]),
            (&json!("Retried"), &json!("the attempt failed"), &json!(1))
        );
    }
    let newer = list("/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dtwo").await;
    assert_eq!(
        (names(&newer).len(), &newer["items"][0]["note"]),
        (1, &json!("the attempt failed"))
    );
    assert_eq!(names(&list("/api/v1/events").await).len(), 2);
    assert_eq!(names(&list("/api/v1/events?fieldSelector=type%3DNormal").await).len(), 0);
    assert_eq!(names(&list("/api/v1/namespaces/other/events").await).len(), 0);
    let (_, table) = accepted(&house, "/api/v1/namespaces/default/events", TABLE).await;
    assert_eq!(table.json()["rows"][0]["cells"][3], "job/one");
    assert_eq!(house.get("/api/v1/events?watch=1").await.code, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(names(&list("/api/v1/namespaces").await), ["default"]);
}

#[tokio::test]
async fn openapi_documents_are_served_with_a_hash_that_holds() {
    let house = House::new();
    let index = house.get("/openapi/v3").await.json();
    let address = index["paths"]["apis/opendispatch.dev/v1alpha1"]["serverRelativeURL"].clone();
    let address = address.as_str().unwrap();
    let (headers, document) = accepted(&house, address, "application/json").await;
    assert_eq!(document.json(), open_dispatch::server::openapi::v3());
    let tag = headers["etag"].to_str().unwrap();
    assert!(address.ends_with(tag.trim_matches('"')), "{address} {tag}");
    let old = accepted(&house, "/openapi/v3/apis/opendispatch.dev/v1alpha1?hash=OLD", "*/*").await;
    assert_eq!(
        (old.1.code, old.0["location"].to_str().unwrap()),
        (StatusCode::PERMANENT_REDIRECT, address)
    );
    assert_eq!(house.get("/openapi/v2").await.json(), open_dispatch::server::openapi::v2());
    let proto = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let (headers, bytes) = accepted(&house, "/openapi/v2", proto).await;
    assert!(headers["content-type"].to_str().unwrap().ends_with("+protobuf"));
    assert_eq!(&bytes.bytes[..5], b"\x0a\x032.0", "a text, of the field 1, of 3 bytes");
}
