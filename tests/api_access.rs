//! Promise: whoever holds the server's token says who may do what from chat; each change is done
//! once, whole, and noted.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use house::House;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Clock as _, Mode, ScriptedSteps},
    server::Extras,
    store::{
        Conversation, Op, PAIRING_EXPIRY, Pairing, Principal, Role, Store, Subject, Transaction,
        memory::MemoryStore,
    },
};
use serde_json::{Value, json};

const CODE: &str = "BCDFGHJK";

fn pairing(now: Timestamp) -> Pairing {
    let conversation =
        Conversation { platform: "slack".into(), channel: "D1".into(), thread: None };
    Pairing {
        code: CODE.into(),
        principal: Principal::user("slack", "U1"),
        name: "bob".into(),
        conversation,
        created: now,
        expires: now + PAIRING_EXPIRY,
    }
}

async fn wait(house: &House) {
    let now = house.clock.now();
    let op = Op::OpenPairing(pairing(now));
    house.store.apply(Transaction::at(now).with(op)).await.unwrap();
}

async fn waits(store: Arc<dyn Store>) -> House {
    let house = House::over(store);
    wait(&house).await;
    house
}

async fn approve(house: &House, code: &str, body: Option<&Value>) -> house::Answer {
    house.call(Method::POST, &format!("access/pairings/{code}/approve"), body).await
}

async fn role(house: &House, principal: &str) -> Option<Role> {
    let rows = house.store.access().await.unwrap();
    rows.into_iter().find(|row| row.principal.to_string() == principal).map(|row| row.role)
}

async fn noted(house: &House) -> Vec<String> {
    house.store.audit(None, 99).await.unwrap().into_iter().map(|row| row.what).collect()
}

#[tokio::test]
async fn a_stranger_is_let_in_by_the_code_however_it_is_typed() {
    let house = waits(MemoryStore::new()).await;
    let list = house.call(Method::GET, "access/pairings", None).await.json();
    assert_eq!(list["items"][0]["code"], CODE);
    let body = json!({"role": "operator", "by": "ada"});
    let answer = approve(&house, "bcdf-ghjk", Some(&body)).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.json()["principal"], "slack:U1");
    assert_eq!(role(&house, "slack:U1").await, Some(Role::Operator));
    assert_eq!(house.store.pairings().await.unwrap(), []);
    assert_eq!(noted(&house).await, ["access approve slack:U1 as operator"]);
    let told = house.store.open_deliveries().await.unwrap();
    assert_eq!(told[0].only_for.as_deref(), Some("U1"), "and they are told where they asked");
    assert!(matches!(&told[0].subject, Subject::Notice { text } if text.contains("operator")));

    let again = approve(&house, CODE, Some(&body)).await;
    assert_eq!((again.code, again.json()), (answer.code, answer.json()), "done is done");
    assert_eq!(noted(&house).await.len(), 1);
}

#[tokio::test]
async fn a_code_that_expired_or_never_was_lets_nobody_in() {
    let house = waits(MemoryStore::new()).await;
    for code in ["BCDFGHJM", "x", "%20", "BCDFGHJKBCDFGHJK"] {
        let answer = approve(&house, code, None).await;
        assert_eq!(answer.code, StatusCode::NOT_FOUND, "{code}: {}", answer.text());
    }
    let bad = approve(&house, CODE, Some(&json!({"role": "king"}))).await;
    assert_eq!(bad.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.text().contains("viewer, user, operator or admin"), "{}", bad.text());
    house.clock.advance(PAIRING_EXPIRY);
    assert_eq!(approve(&house, CODE, None).await.code, StatusCode::NOT_FOUND);
    let list = house.call(Method::GET, "access/pairings", None).await.json();
    assert_eq!(list["items"], json!([]));
    assert_eq!(house.store.access().await.unwrap(), []);
    assert_eq!(noted(&house).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_role_is_given_raised_and_taken() {
    let extras = Extras { admins: vec![Principal::user("slack", "UA")], ..Extras::default() };
    let house = House::with(MemoryStore::new(), extras);
    let put = |principal: &'static str, role: &'static str| {
        let (house, body) = (&house, json!({"role": role, "by": "ada"}));
        async move {
            let path = format!("access/grants/{principal}");
            house.call(Method::PUT, &path, Some(&body)).await
        }
    };
    assert_eq!(put("slack:U1", "user").await.code, StatusCode::CREATED);
    assert_eq!(put("slack:U1", "user").await.code, StatusCode::OK);
    assert_eq!(put("slack:U1", "Operator").await.code, StatusCode::OK);
    assert_eq!(put("teams:channel:19:a@thread.tacv2", "viewer").await.code, StatusCode::CREATED);
    for (principal, role) in [("slak:U1", "user"), ("U1", "user"), ("slack:U1", "king")] {
        let answer = put(principal, role).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{principal} {role}");
    }
    let list = house.call(Method::GET, "access", None).await.json();
    let rows: Vec<String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {} {}", row["principal"], row["role"], row["from"]))
        .collect();
    insta::assert_snapshot!(rows.join("\n"));

    let gone = house.call(Method::DELETE, "access/grants/slack:U1", None).await;
    assert_eq!((gone.code, role(&house, "slack:U1").await), (StatusCode::OK, None));
    let again = house.call(Method::DELETE, "access/grants/slack:U1", None).await;
    assert_eq!(again.code, StatusCode::NOT_FOUND);
    let named = house.call(Method::DELETE, "access/grants/slack:UA", None).await;
    assert!(named.text().contains("OPEN_DISPATCH_ADMINS"), "{}", named.text());
    insta::assert_snapshot!("noted_of_grants", noted(&house).await.join("\n"));
    let page = house.call(Method::GET, "audit?limit=1&after=1", None).await.json();
    assert_eq!(page["items"][0]["n"], 2);
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_without_the_token_reads_or_changes_access() {
    let house = waits(MemoryStore::new()).await;
    for (method, path) in [
        (Method::GET, "access"),
        (Method::GET, "access/pairings"),
        (Method::POST, "access/pairings/BCDFGHJK/approve"),
        (Method::PUT, "access/grants/slack:U1"),
        (Method::DELETE, "access/grants/slack:U1"),
        (Method::GET, "audit"),
    ] {
        let path = format!("{}/{path}", house::API);
        let answer = house.send("another token", method, &path, "application/json", "").await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(house.store.access().await.unwrap(), []);
}

#[tokio::test]
async fn a_fault_at_the_commit_is_mended_by_asking_again() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        let store: Arc<dyn Store> = MemoryStore::new();
        let with = |fault| {
            let steps = Arc::new(ScriptedSteps::new(fault));
            House::with_steps(Arc::clone(&store), steps)
        };
        let house = with(Some((0, mode)));
        wait(&house).await;
        assert!(!approve(&house, CODE, None).await.code.is_success(), "{mode:?}");
        let house = with(None);
        let answer = approve(&house, CODE, None).await;
        assert_eq!(answer.code, StatusCode::OK, "{mode:?}: {}", answer.text());
        assert_eq!(role(&house, "slack:U1").await, Some(Role::User), "{mode:?}");
        assert_eq!(noted(&house).await.len(), 1, "{mode:?}");
        assert_eq!(store.open_deliveries().await.unwrap().len(), 1, "{mode:?}");

        let house = with(Some((0, mode)));
        let body = json!({"role": "viewer"});
        let put = |house: House| {
            let body = body.clone();
            async move { house.call(Method::PUT, "access/grants/slack:U2", Some(&body)).await }
        };
        assert!(!put(house).await.code.is_success(), "{mode:?}");
        assert!(put(with(None)).await.code.is_success(), "{mode:?}");
        let house = with(None);
        assert_eq!(role(&house, "slack:U2").await, Some(Role::Viewer), "{mode:?}");
        assert_eq!(noted(&house).await.len(), 2, "{mode:?}");
    }
}

#[tokio::test]
async fn an_approval_never_takes_a_higher_role() {
    let house = waits(MemoryStore::new()).await;
    let body = json!({"role": "admin"});
    house.call(Method::PUT, "access/grants/slack:U1", Some(&body)).await;
    approve(&house, CODE, None).await;
    assert_eq!(role(&house, "slack:U1").await, Some(Role::Admin));
}

#[tokio::test]
async fn a_role_that_is_taken_while_a_code_is_approved_does_not_come_back() {
    use open_dispatch::{ambient::Steps, store::Access};
    /// Takes the role just before the first commit.
    struct Thief(Arc<MemoryStore>, std::sync::atomic::AtomicBool);
    #[async_trait::async_trait]
    impl Steps for Thief {
        async fn before(&self, step: &'static str) -> Result<(), open_dispatch::ambient::Fault> {
            let first = !self.1.swap(true, std::sync::atomic::Ordering::SeqCst);
            if step == "api.approve-pairing" && first {
                let op = Op::Expel(Principal::user("slack", "U1"));
                self.0.apply(Transaction::at(Timestamp::UNIX_EPOCH).with(op)).await.unwrap();
            }
            Ok(())
        }
        async fn after(&self, _: &'static str) -> Result<(), open_dispatch::ambient::Fault> {
            Ok(())
        }
    }
    let store = MemoryStore::new();
    let steps = Arc::new(Thief(Arc::clone(&store), false.into()));
    let house = House::with_steps(Arc::clone(&store) as _, steps);
    wait(&house).await;
    let admin = Access {
        principal: Principal::user("slack", "U1"),
        role: Role::Admin,
        name: String::new(),
        by: "ada".into(),
        pairing: None,
        created: Timestamp::UNIX_EPOCH,
        token: None,
    };
    let now = house.clock.now();
    house.store.apply(Transaction::at(now).with(Op::Admit(admin))).await.unwrap();
    let answer = approve(&house, CODE, None).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    assert_eq!(role(&house, "slack:U1").await, Some(Role::User), "what was given, and no more");
}
