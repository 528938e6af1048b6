//! Promise: a dry run writes nothing, on every route that there is. Objects have a real one; whatever
//! else writes refuses to be tried, and refuses parameters and bodies that it does not read.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;
#[path = "support/routes.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod routes;

use axum::http::{Method, StatusCode};
use house::{ACCESS, API, Answer, House, read};
use routes::{is_guarded, routes, whole};
use serde_json::{Value, json};

fn agent(name: &str) -> Value {
    json!({
        "apiVersion": "opendispatch.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"agent": {"command": {}}, "runtime": {"local": {"workdir": "/work"}}},
    })
}

/// What a real dry run is asked for on, with a body; all other routes that write have none.
fn objects() -> Vec<(&'static str, &'static str, Value)> {
    let scale = json!({"spec": {"replicas": 3}});
    vec![
        ("POST", "~/{plural}", agent("new")),
        ("DELETE", "~/{plural}", json!({})),
        ("PUT", "~/{plural}/{name}", agent("bot")),
        ("PATCH", "~/{plural}/{name}", json!({"metadata": {"labels": {"a": "b"}}})),
        ("DELETE", "~/{plural}/{name}", json!({})),
        ("PUT", "~/{plural}/{name}/status", agent("bot")),
        ("PATCH", "~/{plural}/{name}/status", json!({"status": {"phase": "Idle"}})),
        ("PUT", "~/{plural}/{name}/scale", scale.clone()),
        ("PATCH", "~/{plural}/{name}/scale", scale),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json!({})),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json!({})),
        ("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})),
    ]
}

/// A house with an agent, a token and a role in it.
async fn furnished() -> House {
    let mut house = House::new();
    house.router = whole(&house, None);
    for (method, path, body) in [
        (Method::POST, "agents", objects()[2].2.clone()),
        (Method::POST, "tokens", json!({"name": "bot", "role": "viewer"})),
        (Method::PUT, "access/grants/slack:U0000000001", json!({"role": "user"})),
    ] {
        let answer = house.call(method, path, Some(&body)).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{path}: {}", answer.text());
    }
    house
}

/// All that a call could have changed: objects, what people asked for, and who may do what.
async fn state(house: &House) -> String {
    let store = &house.store;
    let audit = store.audit(None, 1_000).await.unwrap();
    let (revision, access) = (store.revision().await.unwrap(), store.access().await.unwrap());
    let bot = house.get("agents/bot").await.json();
    let turns = store.turns(bot["metadata"]["uid"].as_str().unwrap_or_default(), 0, 100).await;
    format!("{revision} {audit:?} {access:?} {turns:?} {}", store.writes())
}

async fn ask(house: &House, method: &str, path: &str, query: &str, body: &Value) -> Answer {
    let path = path
        .replace('~', API)
        .replace("{plural}", "agents")
        .replace("{name}", "bot")
        .replace("{principal}", "slack:U0000000001")
        .replace(['{', '}'], "");
    let method: Method = method.parse().unwrap();
    let sort = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    read(house.send(ACCESS, method, &format!("{path}{query}"), sort, body.to_string()).await).await
}

#[tokio::test]
async fn a_dry_run_writes_nothing_on_any_route_that_there_is() {
    let house = furnished().await;
    let all = routes(&house.router);
    let writing: Vec<_> =
        all.iter().filter(|(method, path)| method != "GET" && is_guarded(path)).collect();
    assert!(writing.len() > 25, "{writing:?}");
    let before = state(&house).await;
    let mut real = 0;
    for (method, path) in writing {
        let short = path.replace(API, "~");
        let row = objects().into_iter().find(|(of, at, _)| of == method && *at == short);
        let body = row.as_ref().map_or_else(|| json!({}), |(_, _, body)| body.clone());
        let answer = ask(&house, method, &short, "?dryRun=All", &body).await;
        let text = answer.text();
        assert!(!answer.code.is_server_error(), "{method} {path}: {text}");
        if row.is_none() {
            assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{method} {path}: {text}");
            assert!(
                text.contains("has no dry run, and nothing was done"),
                "{method} {path}: {text}"
            );
        } else {
            assert!(!text.contains("has no dry run"), "{method} {path}: {text}");
            real += 1;
        }
        assert_eq!(state(&house).await, before, "{method} {path} wrote: {text}");
    }
    assert_eq!(real, objects().len(), "each of them was asked");
    // The same calls are no empty ones.
    for (method, path, body) in [
        ("POST", "~/agents/{name}/turns", json!({"text": "hello"})),
        ("PUT", "~/access/grants/{principal}", json!({"role": "operator"})),
        ("DELETE", "~/access/grants/{principal}", json!({})),
        ("POST", "~/tokens", json!({"name": "two", "role": "viewer"})),
        ("DELETE", "~/tokens/{name}", json!({})),
        ("POST", "~/fly/leaks/confirm", json!({})),
        ("PATCH", "~/{plural}/{name}", json!({"metadata": {"labels": {"a": "b"}}})),
        ("DELETE", "~/{plural}/{name}", json!({})),
    ] {
        let before = state(&house).await;
        let answer = ask(&house, method, path, "", &body).await;
        assert!(answer.code.is_success(), "{method} {path}: {}", answer.text());
        assert_ne!(state(&house).await, before, "{method} {path}");
    }
}

#[tokio::test]
async fn what_nobody_reads_is_refused_and_not_passed_over() {
    let house = furnished().await;
    let before = state(&house).await;
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    for (method, path, query, body, told) in [
        ("POST", "~/fly/leaks/confirm", "?force=zz", json!({}), "knows no parameter `force`"),
        ("POST", "~/agents/{name}/release", "", json!({"x": 1}), "takes no body"),
        ("DELETE", "~/tokens/{name}", "", json!({"dryRun": ["All"]}), "takes no body"),
        ("DELETE", "~/tokens/{name}", "?dryrun=All", json!({}), "knows no parameter `dryrun`"),
        ("POST", "~/{plural}", "?dryrun=All", agent("new"), "did you mean `dryRun`?"),
        ("PUT", "~/{plural}/{name}", "?dry_run=All", agent("bot"), "did you mean `dryRun`?"),
        ("PATCH", "~/{plural}/{name}", "?DryRun=All", label.clone(), "did you mean `dryRun`?"),
        ("PATCH", "~/{plural}/{name}", "?dryRun=All&dryRun=", label, "is said twice"),
        ("DELETE", "~/{plural}/{name}", "?dryrun=All", json!({}), "did you mean `dryRun`?"),
        (
            "DELETE",
            "~/{plural}",
            "?labelselector=a%3Db",
            json!({}),
            "did you mean `labelSelector`?",
        ),
        ("DELETE", "~/{plural}", "?selector=a%3Db", json!({}), "it takes propagationPolicy"),
        ("POST", "~/tokens", "?name=three", json!({}), "it takes pretty, fieldManager"),
    ] {
        let answer = ask(&house, method, path, query, &body).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains(told), "{}", answer.text());
    }
    assert_eq!(state(&house).await, before);
}

#[tokio::test]
async fn a_new_route_that_writes_has_no_dry_run_until_it_has_a_row() {
    let mut house = House::new();
    let new = axum::Router::new().route("/new", axum::routing::post(async || "written"));
    house.router = open_dispatch::server::router_with(house.state.clone(), new);
    let answer = ask(&house, "POST", "/new", "?dryRun=All", &json!({})).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{}", answer.text());
    let answer = ask(&house, "POST", "/new", "", &json!({})).await;
    assert_eq!(answer.text(), "written");
}
