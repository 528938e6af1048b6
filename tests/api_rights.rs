//! Promise: a named token opens what its role may and nothing else, on every route that there is; it
//! ends when it is revoked or its time is over, also for what is under way (`api_late.rs`).

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;
#[path = "support/routes.rs"]
mod routes;

use std::{sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use house::{House, read};
use open_dispatch::{
    access::Right,
    server::{self, needs},
    store::{Op, Principal, Role, Store, Transaction, memory::MemoryStore},
};
use routes::{is_guarded, routes, token, whole};
use serde_json::{Value, json};

async fn code(house: &House, token: &str, method: Method, path: &str) -> StatusCode {
    house.send(token, method, path, "application/json", "").await.status()
}

#[tokio::test]
async fn every_route_has_a_row_and_every_role_meets_it_there() {
    let mut house = House::new();
    house.router = whole(&house, None);
    let all = routes(&house.router);
    assert!(all.len() > 40, "{all:?}");
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push((role, token(&house, role.name(), role, None).await));
    }
    for (method, path) in all.iter().filter(|(_, path)| is_guarded(path)) {
        let method: Method = method.parse().unwrap();
        let right = needs(&method, path);
        assert!(right.is_some(), "{method} {path} has no row in src/server/rights.rs");
        let right = right.unwrap();
        let asked = path.replace("{plural}", "jobs").replace(['{', '}'], "");
        for (role, token) in &tokens {
            let answer = house.send(token, method.clone(), &asked, "application/json", "").await;
            let refused = answer.status() == StatusCode::FORBIDDEN;
            assert_eq!(refused, *role < right.needs(), "{role} {method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_new_route_is_for_admins_until_it_has_a_row() {
    let mut house = House::new();
    let new = axum::Router::new().route("/new", axum::routing::get(async || "open"));
    house.router = server::router_with(house.state.clone(), new);
    let operator = token(&house, "o", Role::Operator, None).await;
    let admin = token(&house, "a", Role::Admin, None).await;
    assert_eq!(code(&house, &operator, Method::GET, "/new").await, StatusCode::FORBIDDEN);
    assert_eq!(code(&house, &admin, Method::GET, "/new").await, StatusCode::OK);
    assert_eq!(code(&house, &operator, Method::GET, "/nowhere").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_refusal_says_who_may_not_what_and_what_it_takes() {
    let house = House::new();
    let ci = token(&house, "ci", Role::Viewer, None).await;
    let mut told = Vec::new();
    for (method, path) in [
        (Method::POST, "jobs"),
        (Method::PATCH, "agents/api-bot"),
        (Method::PUT, "agents/api-bot/status"),
        (Method::POST, "agents/api-bot/turns"),
        (Method::DELETE, "jobs/nightly"),
        (Method::GET, "secrets"),
    ] {
        let path = format!("{}/{path}", house::API);
        let answer = read(house.send(&ci, method, &path, "application/json", "{}").await).await;
        assert_eq!(answer.code, StatusCode::FORBIDDEN);
        assert_eq!(answer.json()["reason"], "Forbidden");
        told.push(answer.json()["message"].as_str().unwrap().to_owned());
    }
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test]
async fn a_token_that_is_unknown_revoked_or_over_opens_nothing() {
    let house = House::new();
    let path = format!("{}/jobs", house::API);
    let short = token(&house, "short", Role::Viewer, Some("1h")).await;
    let long = token(&house, "long", Role::Viewer, None).await;
    for good in [&short, &long] {
        assert_eq!(code(&house, good, Method::GET, &path).await, StatusCode::OK);
    }
    house.clock.advance(Duration::from_hours(1));
    let over = read(house.send(&short, Method::GET, &path, "", "").await).await;
    assert_eq!(over.code, StatusCode::UNAUTHORIZED);
    assert!(over.text().contains(r#"the time of the token \"short\" is over"#), "{}", over.text());
    assert_eq!(code(&house, &long, Method::GET, &path).await, StatusCode::OK);
    let gone = house.call(Method::DELETE, "tokens/long", None).await;
    assert_eq!(gone.code, StatusCode::OK);
    for bad in [long.as_str(), "odt_", "", "odt_0000"] {
        assert_eq!(code(&house, bad, Method::GET, &path).await, StatusCode::UNAUTHORIZED, "{bad}");
    }
    // A role that was given to that name, without a token, opens nothing.
    let wish = json!({"role": "admin"});
    let answer = house.call(Method::PUT, "access/grants/token:long", Some(&wish)).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text());
}

#[tokio::test]
async fn a_token_is_told_once_and_kept_nowhere() {
    let (house, directory) = House::on_disk().await;
    let made = house
        .call(
            Method::POST,
            "tokens",
            Some(&json!({"name": "ci", "role": "user", "expires": "90d"})),
        )
        .await
        .json();
    let secret = made["token"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("odt_") && secret.len() == 68, "{secret}");
    let rest = [
        house.get("tokens").await.text(),
        house.get("access").await.text(),
        house.get("audit").await.text(),
        format!("{:?}", house.store.access().await.unwrap()),
    ];
    for text in rest {
        assert!(!text.contains(&secret), "{text}");
    }
    let listed = house.get("tokens").await.json();
    let listed = &listed["items"][0];
    assert_eq!((&listed["name"], &listed["role"]), (&json!("ci"), &json!("user")));
    assert_eq!(listed["expires"], "2026-04-01T00:00:00Z");
    assert!(listed.get("print").is_none() && listed.get("token").is_none());
    assert!(!house.get("access").await.text().contains("ci"), "people stand there");
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "the token stands in the data directory");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_unless_the_new_one_replaces_it() {
    let house = House::new();
    let first = token(&house, "ci", Role::Viewer, None).await;
    let mut wish = json!({"name": "ci", "role": "operator"});
    let taken = house.call(Method::POST, "tokens", Some(&wish)).await;
    assert_eq!(taken.code, StatusCode::CONFLICT);
    assert!(taken.text().contains("--replace"), "{}", taken.text());
    wish["replace"] = true.into();
    let second = house.call(Method::POST, "tokens", Some(&wish)).await.json();
    let path = format!("{}/jobs", house::API);
    assert_eq!(code(&house, &first, Method::GET, &path).await, StatusCode::UNAUTHORIZED);
    let second = second["token"].as_str().unwrap();
    assert_eq!(code(&house, second, Method::GET, &path).await, StatusCode::OK);
    for bad in [
        json!({"name": "CI", "role": "user"}),
        json!({"name": "a/b", "role": "user"}),
        json!({"name": "", "role": "user"}),
        json!({"name": "x", "role": "king"}),
        json!({"name": "x", "role": "user", "expires": "soon"}),
    ] {
        let answer = house.call(Method::POST, "tokens", Some(&bad)).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{bad}: {}", answer.text());
    }
}

#[tokio::test]
async fn what_a_revoked_token_had_under_way_does_not_commit() {
    for store in [MemoryStore::new() as Arc<dyn Store>, sqlite().await] {
        let house = House::over(store);
        let now = house.now();
        let note = || {
            Op::Audit(open_dispatch::store::AuditRow {
                n: 0,
                at: now,
                who: "token:ci".to_owned(),
                name: "ada".to_owned(),
                place: String::new(),
                what: "create job/x".to_owned(),
                outcome: open_dispatch::store::Outcome::Allowed,
            })
        };
        token(&house, "ci", Role::Operator, None).await;
        let ops = |note| vec![Op::StillStranger(Principal::user("slack", "U1")), note];
        let before = Transaction { ops: ops(note()), now };
        house.store.apply(before).await.unwrap();
        house.call(Method::DELETE, "tokens/ci", None).await;
        let after = house.store.apply(Transaction { ops: ops(note()), now }).await;
        let error = after.unwrap_err();
        assert_eq!(
            error.to_string(),
            "token:ci was revoked or replaced meanwhile, or its time is over, so nothing was done"
        );
    }
}

async fn sqlite() -> Arc<dyn Store> {
    let directory = tempfile::tempdir().unwrap().keep();
    let ambient = open_dispatch::ambient::Ambient::real();
    open_dispatch::store::sqlite::SqliteStore::open(&directory, ambient).await.unwrap()
}

#[tokio::test]
async fn a_stream_ends_soon_after_its_token() {
    let house = House::new();
    let path = format!("{}/jobs?watch=true", house::API);
    let short = token(&house, "short", Role::Viewer, Some("1m")).await;
    let long = token(&house, "long", Role::Viewer, None).await;
    let mut streams = vec![
        house.stream(&short, &path).await,
        house.stream(&long, &path).await,
        house.stream(house::ACCESS, &path).await,
    ];
    let server = streams.pop().unwrap();
    house.call(Method::DELETE, "tokens/long", None).await;
    for mut stream in streams {
        let end = async { while stream.next().await.is_some() {} };
        let pass = async {
            loop {
                house.clock.advance(Duration::from_secs(5));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = end => {}
            () = pass => {}
        }
    }
    drop(server);
}

#[tokio::test]
async fn the_audit_names_the_token_whatever_its_holder_says() {
    let house = House::new();
    let ci = token(&house, "ci", Role::Operator, None).await;
    let request = axum::http::Request::builder()
        .method(Method::POST)
        .uri(format!("{}/jobs", house::API))
        .header("authorization", format!("Bearer {ci}"))
        .header("content-type", "application/json")
        .header("open-dispatch-by", "ada")
        // What the door alone says.
        .header("open-dispatch-token", "token:root")
        .body(axum::body::Body::from(job("one").to_string()))
        .unwrap();
    let answer = tower::ServiceExt::oneshot(house.router.clone(), request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let rows = house.store.audit(None, 9).await.unwrap();
    let last = rows.last().unwrap();
    assert_eq!((last.who.as_str(), last.name.as_str()), ("token:ci", "ada"));
    assert_eq!(last.what, "create job/one");
    assert_eq!(rows[0].who, "api", "the server's own token");
    assert_eq!(rows[0].what, "token create ci operator");
}

fn job(name: &str) -> Value {
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Job", "metadata": {"name": name},
        "spec": {"task": "true", "agent": {"command": {}}}})
}

#[tokio::test]
async fn a_user_talks_in_its_own_name_and_takes_back_its_own_words_alone() {
    let house = House::new();
    let agent = json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "bot"}, "spec": {"agent": {"command": {}}}});
    assert_eq!(house.call(Method::POST, "agents", Some(&agent)).await.code, StatusCode::CREATED);
    let (one, two) = (
        token(&house, "one", Role::User, None).await,
        token(&house, "two", Role::User, None).await,
    );
    let operator = token(&house, "boss", Role::Operator, None).await;
    let say = async |token: &str, body: Value| {
        let path = format!("{}/agents/bot/turns", house::API);
        let sent = house.send(token, Method::POST, &path, "application/json", body.to_string());
        let answer = read(sent.await).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
        answer.json()
    };
    let turn = say(&one, json!({"text": "hi", "author": "Ada"})).await;
    assert_eq!((&turn["author"], &turn["user"]), (&json!("Ada (token:one)"), &json!("token:one")));
    assert_eq!(say(&two, json!({"text": "hi"})).await["author"], "token:two");
    let cancel = async |token: &str, turn: &Value| {
        let id = turn["id"].as_str().unwrap();
        let path = format!("{}/agents/bot/turns/{id}/cancel", house::API);
        read(house.send(token, Method::POST, &path, "application/json", "").await).await
    };
    let others = cancel(&two, &turn).await;
    assert_eq!(others.code, StatusCode::FORBIDDEN);
    assert!(others.text().contains("takes the role operator"), "{}", others.text());
    assert_eq!(cancel(&one, &turn).await.code, StatusCode::OK);
    let another = say(&one, json!({"text": "again"})).await;
    assert_eq!(cancel(&operator, &another).await.code, StatusCode::OK);
    let servers = say(house::ACCESS, json!({"text": "by the server's own token"})).await;
    assert_eq!(cancel(&one, &servers).await.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn whoever_asks_is_told_who_they_are_and_what_they_may() {
    let house = House::new();
    let ci = token(&house, "ci", Role::User, None).await;
    let post = async |token: &str, path: &str, body: Value| {
        let sent = house.send(token, Method::POST, path, "application/json", body.to_string());
        let answer = read(sent.await).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
        answer.json()
    };
    let may = async |token: &str, verb: &str, resource: &str, subresource: &str| {
        let of = json!({"verb": verb, "group": "opendispatch.dev", "resource": resource,
            "subresource": subresource});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = post(
            token,
            path,
            json!({"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": of}}),
        )
        .await;
        answer["status"]["allowed"].as_bool().unwrap()
    };
    assert!(may(&ci, "list", "jobs", "").await);
    assert!(!may(&ci, "create", "jobs", "").await);
    assert!(!may(&ci, "get", "secrets", "").await);
    assert!(!may(&ci, "*", "*", "").await);
    for verb in ["list", "create", "*"] {
        assert!(may(house::ACCESS, verb, "jobs", "").await);
    }
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let me = post(&ci, path, json!({"kind": "SelfSubjectReview"})).await;
    assert_eq!(me["status"]["userInfo"]["username"], "token:ci");
    assert_eq!(me["status"]["userInfo"]["groups"], json!(["open-dispatch:user"]));
}

#[test]
fn the_rights_are_those_of_chat() {
    let of = |method: Method, path: &str| needs(&method, &format!("{}{path}", house::API));
    assert_eq!(of(Method::GET, "/{plural}"), Some(Right::Read));
    assert_eq!(of(Method::POST, "/agents/{name}/turns"), Some(Right::Talk));
    assert_eq!(of(Method::POST, "/{plural}"), Some(Right::Command));
    assert_eq!(of(Method::POST, "/{plural}/{name}/approvals/{request}"), Some(Right::Approve));
    assert_eq!(of(Method::POST, "/tokens"), Some(Right::Admin));
}
