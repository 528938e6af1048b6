//! Promise: what Kubernetes' clients write is taken as they mean it, refused as they understand
//! it, and what they read they can send back.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use axum::{
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use house::{API, Answer, House, read};
use open_dispatch::{
    resource::{Kind, OwnerReference, yaml},
    store::{Expect, Op, Part, Transaction},
};
use serde_json::{Value, json};

const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

fn agent(name: &str, more: Value) -> Value {
    let mut agent = json!({
        "apiVersion": "opendispatch.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"agent": {"command": {}}},
    });
    open_dispatch::resource::merge::merge_patch(&mut agent, &more);
    agent
}

async fn respond(
    house: &House,
    method: Method,
    path: &str,
    sort: &'static str,
    body: String,
) -> Response {
    house.send(house::ACCESS, method, &format!("{API}/{path}"), sort, body).await
}

async fn patch(house: &House, path: &str, sort: &'static str, body: &Value) -> Answer {
    read(respond(house, Method::PATCH, path, sort, body.to_string()).await).await
}

async fn create(house: &House, document: &Value) -> Value {
    let answer = house.call(Method::POST, "agents", Some(document)).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
    answer.json()
}

fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let word = |entry: &Value, member: &str| entry[member].as_str().unwrap().to_owned();
    entries.iter().map(|it| format!("{} {}", word(it, "manager"), word(it, "operation"))).collect()
}

fn warnings(headers: &HeaderMap) -> Vec<String> {
    headers.get_all("warning").iter().map(|it| it.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_json_patch_is_done_whole_or_not_at_all() {
    let house = House::new();
    create(&house, &agent("a", json!({"metadata": {"labels": {"x": "1"}}}))).await;
    let good = json!([
        {"op": "test", "path": "/metadata/labels/x", "value": "1"},
        {"op": "replace", "path": "/metadata/labels/x", "value": "2"},
        {"op": "add", "path": "/spec/suspend", "value": true},
    ]);
    let patched = patch(&house, "agents/a", JSON_PATCH, &good).await.json();
    assert_eq!(
        (&patched["metadata"]["labels"]["x"], &patched["spec"]["suspend"]),
        (&json!("2"), &json!(true))
    );
    let writes = house.store.writes();
    let again = patch(&house, "agents/a", JSON_PATCH, &good).await;
    assert_eq!(again.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        again.text().contains("operation 0 of the patch (test /metadata/labels/x)"),
        "{}",
        again.text()
    );
    let stale = json!([
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "1"},
        {"op": "remove", "path": "/spec/suspend"},
    ]);
    assert_eq!(patch(&house, "agents/a", JSON_PATCH, &stale).await.code, StatusCode::CONFLICT);
    for (bad, code) in [
        (json!({"spec": {}}), StatusCode::BAD_REQUEST),
        (json!([{"op": "remove", "path": "/spec/agent"}]), StatusCode::UNPROCESSABLE_ENTITY),
        (
            json!([{"op": "add", "path": "/spec/nope", "value": 1}]),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
        (
            json!([{"op": "replace", "path": "/metadata/name", "value": "b"}]),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ] {
        let answer = patch(&house, "agents/a", JSON_PATCH, &bad).await;
        assert_eq!(answer.code, code, "{bad}: {}", answer.text());
    }
    let dry = json!([{"op": "remove", "path": "/spec/suspend"}]);
    let dry = patch(&house, "agents/a?dryRun=All", JSON_PATCH, &dry).await;
    assert_eq!((dry.code, &dry.json()["spec"]["suspend"]), (StatusCode::OK, &Value::Null));
    assert_eq!(house.store.writes(), writes);
}

#[tokio::test]
async fn a_strategic_patch_is_refused_so_that_clients_make_another() {
    let house = House::new();
    create(&house, &agent("a", json!({}))).await;
    let sort = "application/strategic-merge-patch+json";
    let answer = patch(&house, "agents/a", sort, &json!({"spec": {"suspend": true}})).await;
    assert_eq!(answer.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.json()["reason"], "UnsupportedMediaType");
    assert!(answer.text().contains(MERGE) && answer.text().contains(APPLY), "{}", answer.text());
    let status = patch(&house, "agents/a/status?fieldManager=x", APPLY, &json!({})).await;
    assert_eq!(status.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_configuration_makes_an_object_changes_it_and_lets_go() {
    let house = House::new();
    let yaml = "apiVersion: opendispatch.dev/v1alpha1\nkind: Agent\nmetadata: {name: a}\n\
                spec:\n  agent: {command: {}}\n  env: [{name: A, value: '1'}]\n  suspend: true\n";
    let path = "agents/a?fieldManager=git";
    let dry =
        respond(&house, Method::PATCH, "agents/a?fieldManager=git&dryRun=All", APPLY, yaml.into())
            .await;
    assert_eq!(dry.status(), StatusCode::CREATED);
    assert_eq!(house.get("agents/a").await.code, StatusCode::NOT_FOUND);
    let made = read(respond(&house, Method::PATCH, path, APPLY, yaml.into()).await).await;
    assert_eq!(made.code, StatusCode::CREATED, "{}", made.text());
    assert_eq!(managers(&made.json()), ["git Apply"]);
    let writes = house.store.writes();
    let again = read(respond(&house, Method::PATCH, path, APPLY, yaml.into()).await).await;
    assert_eq!((again.code, again.json()), (StatusCode::OK, made.json()));
    assert_eq!(house.store.writes(), writes, "what is so already is not written again");

    let own = agent("a", json!({"spec": {"agent": null, "env": [{"name": "B", "value": "2"}]}}));
    let both = patch(&house, "agents/a?fieldManager=ann", APPLY, &own).await.json();
    assert_eq!(both["spec"]["env"].as_array().unwrap().len(), 2);
    let less = agent("a", json!({}));
    let less = patch(&house, path, APPLY, &less).await.json();
    assert_eq!(less["spec"]["env"], json!([{"name": "B", "value": "2"}]));
    assert_eq!(less["spec"]["suspend"], Value::Null);
}

#[tokio::test]
async fn fields_of_others_are_a_conflict_and_force_takes_them() {
    let house = House::new();
    let git = agent("a", json!({"spec": {"suspend": true, "budget": {"turns": 5}}}));
    patch(&house, "agents/a?fieldManager=git", APPLY, &git).await;
    let edit = json!({"spec": {"budget": {"turns": 7}}});
    let edited = patch(&house, "agents/a?fieldManager=chat", MERGE, &edit).await.json();
    assert_eq!(managers(&edited), ["git Apply", "chat Update"]);
    let writes = house.store.writes();
    let refused = patch(&house, "agents/a?fieldManager=git", APPLY, &git).await;
    assert_eq!(refused.code, StatusCode::CONFLICT);
    let told = refused.json();
    assert_eq!(told["details"]["causes"].as_array().unwrap().len(), 1);
    let cause = &told["details"]["causes"][0];
    assert_eq!(
        (&cause["reason"], &cause["field"]),
        (&json!("FieldManagerConflict"), &json!(".spec.budget.turns"))
    );
    assert!(
        cause["message"].as_str().unwrap().starts_with("conflict with \"chat\" using"),
        "{cause}"
    );
    assert_eq!(house.store.writes(), writes);
    let forced = patch(&house, "agents/a?fieldManager=git&force=true", APPLY, &git).await.json();
    assert_eq!(forced["spec"]["budget"]["turns"], 5);
    assert_eq!(managers(&forced), ["git Apply"]);
}

#[tokio::test]
async fn what_is_applied_must_be_of_the_object_and_say_who_applies() {
    let house = House::new();
    create(&house, &agent("a", json!({}))).await;
    let writes = house.store.writes();
    let unknown = agent("a", json!({"spec": {"suspnd": true}, "more": 1}));
    let of_other = agent("b", json!({}));
    let with_account = agent("a", json!({"metadata": {"managedFields": [{"manager": "x"}]}}));
    let stale = agent("a", json!({"metadata": {"resourceVersion": "77"}}));
    let elsewhere = agent("a", json!({"metadata": {"uid": "another"}}));
    let good = agent("a", json!({}));
    for (path, body, code, part) in [
        ("agents/a", &good, 422, "fieldManager"),
        ("agents/a?fieldManager=m", &of_other, 400, "the address is of `a`"),
        ("agents/a?fieldManager=m", &json!([]), 400, "an apply patch is an object"),
        ("agents/a?fieldManager=m", &json!({"kind": "Job"}), 400, "apiVersion"),
        ("agents/a?fieldManager=m", &with_account, 400, "managedFields"),
        ("agents/a?fieldManager=m", &unknown, 422, "spec.suspnd"),
        ("agents/a?fieldManager=m", &stale, 409, "it has changed since"),
        ("agents/a?fieldManager=m", &elsewhere, 422, "metadata.uid"),
        ("agents/a?fieldManager=m&force=true&fieldValidation=Some", &good, 422, "fieldValidation"),
    ] {
        let answer = patch(&house, path, APPLY, body).await;
        assert_eq!(answer.code.as_u16(), code, "{path} {body}: {}", answer.text());
        assert!(answer.text().contains(part), "{}", answer.text());
    }
    let forced = patch(&house, "agents/a?force=true", MERGE, &json!({})).await;
    assert_eq!(forced.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(house.store.writes(), writes);
}

#[tokio::test]
async fn unknown_fields_are_refused_told_or_dropped_as_the_client_asks() {
    let house = House::new();
    let text = r#"{"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "NAME"},
        "spec": {"agent": {"command": {}}, "suspnd": true, "suspend": true, "suspend": false}}"#;
    let post = async |name: &str, query: &str| {
        let path = format!("agents{query}");
        respond(&house, Method::POST, &path, "application/json", text.replace("NAME", name)).await
    };
    for query in ["", "?fieldValidation=Strict"] {
        assert_eq!(post("a", query).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    let warned = post("a", "?fieldValidation=Warn").await;
    assert_eq!(warned.status(), StatusCode::CREATED);
    assert_eq!(
        warnings(warned.headers()),
        [r#"299 - "duplicate field \"spec.suspend\"""#, r#"299 - "unknown field \"spec.suspnd\"""#]
    );
    let ignored = post("b", "?fieldValidation=Ignore").await;
    assert_eq!((ignored.status(), warnings(ignored.headers()).len()), (StatusCode::CREATED, 0));
    let odd = json!({"spec": {"odd": 1, "suspend": true}});
    let path = "agents/a?fieldValidation=Warn";
    let patched = respond(&house, Method::PATCH, path, MERGE, odd.to_string()).await;
    assert_eq!(warnings(patched.headers()), [r#"299 - "unknown field \"spec.odd\"""#]);
    assert_eq!(house.get("agents/a").await.json()["spec"]["suspend"], true);
}

#[tokio::test]
async fn what_was_read_can_be_sent_back_as_it_was() {
    let house = House::new();
    create(&house, &agent("a", json!({"metadata": {"labels": {"x": "1"}}}))).await;
    house.call(Method::PATCH, "agents/a/status", Some(&json!({"status": {"phase": "Idle"}}))).await;
    house.call(Method::DELETE, "agents/a", None).await;
    let seen = house.get("agents/a").await.json();
    assert!(seen["metadata"]["deletionTimestamp"].is_string());
    let writes = house.store.writes();
    let put = house.call(Method::PUT, "agents/a", Some(&seen)).await;
    assert_eq!((put.code, put.json()), (StatusCode::OK, seen.clone()));
    let text = yaml::write_value(&seen);
    let put = respond(&house, Method::PUT, "agents/a", "application/yaml", text).await;
    assert_eq!(read(put).await.json(), seen);
    // As another client would: without the version, and with everything that is not its own.
    let mut old = seen.clone();
    old["metadata"]["resourceVersion"] = "".into();
    old["metadata"]["generation"] = 99.into();
    old["metadata"]["deletionTimestamp"] = Value::Null;
    old["status"]["phase"] = "Busy".into();
    old["metadata"]["finalizers"] = json!(["opendispatch.dev/runtime"]);
    let put = house.call(Method::PUT, "agents/a", Some(&old)).await;
    assert_eq!((put.code, put.json()), (StatusCode::OK, seen.clone()));
    assert_eq!(house.store.writes(), writes, "nothing of it was a wish");
    let mut new = seen;
    new["metadata"]["name"] = "copy".into();
    let copy = create(&house, &new).await;
    assert_eq!(
        (&copy["metadata"]["deletionTimestamp"], &copy["status"]["phase"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn an_account_can_be_moved_by_the_client_that_owns_it() {
    let house = House::new();
    let created = house
        .call(
            Method::POST,
            "agents?fieldManager=kubectl-client-side-apply",
            Some(&agent("a", json!({}))),
        )
        .await
        .json();
    assert_eq!(managers(&created), ["kubectl-client-side-apply Update"]);
    let mut account = created["metadata"]["managedFields"].clone();
    account[0]["manager"] = "kubectl".into();
    account[0]["operation"] = "Apply".into();
    let moved = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": account},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": created["metadata"]["resourceVersion"]},
    ]);
    let moved = patch(&house, "agents/a", JSON_PATCH, &moved).await.json();
    assert_eq!(managers(&moved), ["kubectl Apply"]);
    assert_eq!(moved["metadata"]["generation"], 1);
    let reset = json!({"metadata": {"managedFields": [{}]}});
    let reset = patch(&house, "agents/a", MERGE, &reset).await.json();
    assert_eq!(reset["metadata"]["managedFields"], Value::Null);
}

#[tokio::test]
async fn a_deletion_says_what_it_means_and_to_whom() {
    let house = House::new();
    let created = create(&house, &agent("a", json!({}))).await;
    let writes = house.store.writes();
    let delete =
        async |path: &str, options: Value| house.call(Method::DELETE, path, Some(&options)).await;
    for (path, options, code) in [
        ("agents/a", json!({"propagationPolicy": "Orphan"}), 422),
        ("agents/a", json!({"orphanDependents": true}), 422),
        ("agents/a?propagationPolicy=Orphan", json!({}), 422),
        ("agents/a", json!({"propagationPolicy": "Sideways"}), 422),
        ("agents/a", json!({"gracePeriodSeconds": -1}), 422),
        ("agents/a", json!({"dryRun": ["Some"]}), 422),
        ("agents/a", json!({"nonsense": 1}), 400),
        ("agents/a", json!([]), 400),
        ("agents/a", json!({"preconditions": {"resourceVersion": "77"}}), 409),
        ("agents/a", json!({"preconditions": {"uid": "another"}}), 409),
        ("agents/b", json!({}), 404),
    ] {
        let answer = delete(path, options.clone()).await;
        assert_eq!(answer.code.as_u16(), code, "{path} {options}: {}", answer.text());
    }
    assert_eq!(delete("agents/a?dryRun=All", json!({})).await.json(), created);
    assert_eq!(house.store.writes(), writes);
    let options = json!({
        "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": created["metadata"]["uid"], "resourceVersion": created["metadata"]["resourceVersion"]},
    });
    let held = delete("agents/a", options).await.json();
    assert_eq!(held["kind"], "Agent", "while something holds it, the answer is the object");
    let mut agent = house.store.get(Kind::Agent, "a").await.unwrap().unwrap();
    agent.metadata_mut().finalizers.clear();
    let (part, expect) = (Part::Finalizers, Expect::Any);
    house.apply(vec![Op::Write { object: agent, part, expect }]).await;
    assert_eq!(house.get("agents/a").await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_collection_is_deleted_as_far_as_it_is_chosen() {
    let house = House::new();
    for (name, team) in [("a", "x"), ("b", "y"), ("c", "x")] {
        create(&house, &agent(name, json!({"metadata": {"labels": {"team": team}}}))).await;
    }
    let path = "agents?labelSelector=team%3Dx";
    let writes = house.store.writes();
    let dry = house.call(Method::DELETE, &format!("{path}&dryRun=All"), None).await.json();
    assert_eq!((dry["items"].as_array().unwrap().len(), house.store.writes()), (2, writes));
    let gone = house.call(Method::DELETE, path, None).await.json();
    assert_eq!((&gone["kind"], gone["items"].as_array().unwrap().len()), (&json!("AgentList"), 2));
    for (name, deleted) in [("a", true), ("b", false), ("c", true)] {
        let seen = house.get(&format!("agents/{name}")).await.json();
        assert_eq!(seen["metadata"]["deletionTimestamp"].is_string(), deleted, "{name}");
    }
    let audit = house.get("audit").await.text();
    assert!(audit.contains("delete agent/a") && audit.contains("delete agent/c"), "{audit}");
}

#[tokio::test]
async fn an_answer_to_what_is_not_there_is_a_status_too() {
    let house = House::new();
    create(&house, &agent("a", json!({}))).await;
    for (method, path, code, reason) in [
        (Method::PUT, "agents", 405, "MethodNotAllowed"),
        (Method::POST, "agents/a", 405, "MethodNotAllowed"),
        (Method::GET, "agents/a/scale", 404, "NotFound"),
        (Method::GET, "pods/a", 404, "NotFound"),
        (Method::GET, "/apis/apps/v1", 404, "NotFound"),
        (Method::GET, "/api/v1/pods", 404, "NotFound"),
    ] {
        let answer = house.call(method.clone(), path, None).await;
        let told = answer.json();
        assert_eq!(
            (answer.code.as_u16(), &told["reason"]),
            (code, &json!(reason)),
            "{method} {path}"
        );
        assert_eq!((&told["kind"], &told["code"]), (&json!("Status"), &json!(code)));
    }
    let form = "application/x-www-form-urlencoded";
    let answer = respond(&house, Method::POST, "agents", form, "a=b".into()).await;
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_change_that_a_fleet_puts_back_is_taken_with_a_warning() {
    let house = House::new();
    let fleet = json!({
        "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Fleet", "metadata": {"name": "crew"},
        "spec": {
            "generate": {"replicas": 1},
            "template": {"kind": "Agent", "metadata": {}, "spec": {"agent": {"command": {}}}},
        },
    });
    let answer = house.call(Method::POST, "fleets", Some(&fleet)).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
    let fleet_uid = answer.json()["metadata"]["uid"].as_str().unwrap().to_owned();
    create(&house, &agent("crew-1", json!({}))).await;
    let mut member = house.store.get(Kind::Agent, "crew-1").await.unwrap().unwrap();
    member.metadata_mut().owner_references.push(OwnerReference {
        api_version: "opendispatch.dev/v1alpha1".to_owned(),
        kind: Kind::Fleet,
        name: "crew".to_owned(),
        uid: fleet_uid,
        controller: true,
    });
    let write = |object| Op::Write { object, part: Part::Finalizers, expect: Expect::Any };
    let now = jiff::Timestamp::UNIX_EPOCH;
    house.store.apply(Transaction { ops: vec![write(member)], now }).await.unwrap();
    let warned = async |path: &str, sort: &'static str, body: Value| {
        let response = respond(&house, Method::PATCH, path, sort, body.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        warnings(response.headers())
    };
    let changed = json!({"spec": {"idleTimeout": "1h"}});
    let told = "299 - \"agent/crew-1 is a member of fleet/crew, which puts it back as its template \
                says; change the template, or suspend the fleet\"";
    assert_eq!(warned("agents/crew-1", MERGE, changed.clone()).await, [told]);
    let applied = agent("crew-1", json!({"spec": {"idleTimeout": "2h"}}));
    let path = "agents/crew-1?fieldManager=me&force=true";
    assert_eq!(warned(path, APPLY, applied).await, [told]);
    let mut whole = house.call(Method::GET, "agents/crew-1", None).await.json();
    whole["spec"]["idleTimeout"] = "3h".into();
    let put = respond(&house, Method::PUT, "agents/crew-1", "application/json", whole.to_string());
    assert_eq!(warnings(put.await.headers()), [told]);
    // What is a matter of power stays, and a fleet that rests puts nothing back.
    let power = json!({"spec": {"suspend": true}});
    assert_eq!(warned("agents/crew-1", MERGE, power.clone()).await, Vec::<String>::new());
    assert_eq!(warned("fleets/crew", MERGE, power).await, Vec::<String>::new());
    assert_eq!(warned("agents/crew-1", MERGE, changed).await, Vec::<String>::new());
}
