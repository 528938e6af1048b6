//! Promise: a disk that is full in the middle of a conversation loses nothing and repeats nothing.
//! What was not stored is not acknowledged, to whoever said it; and once there is room, the same
//! words are taken by the same server.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use axum::http::{Method, StatusCode};
use house::{Answer, House, batch, hello, log, uid};
use jiff::SignedDuration;
use open_dispatch::{
    ambient::Ambient,
    resource::Kind,
    store::{
        Op, Transaction, Turn, TurnState,
        sqlite::{Options, SqliteStore},
    },
};
use serde_json::{Value, json};

const EVENTS: &str = "/webhooks/events";
/// More than what is left of any page.
const LONG: usize = 20_000;

/// A house whose store holds 1.6 MiB.
async fn small_house(directory: &std::path::Path) -> House {
    let options = Options { max_pages: Some(200) };
    let store = SqliteStore::open_with(directory, Ambient::real(), options).await.unwrap();
    House::over(store)
}

/// What an old sprite has said goes after a while, and leaves room.
async fn old_sprite(house: &House) {
    let token = house.sprite("old").await;
    let said: Vec<Value> = (0..20).map(|_| log(&"o".repeat(LONG))).collect();
    let hello = std::iter::once(hello());
    let said: Vec<Value> = hello.chain(said).collect();
    let answer = house.post(&token, EVENTS, batch("old", 1, 1, &said)).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    let (name, uid) = ("old".to_owned(), None);
    house.apply(vec![Op::Delete { kind: Kind::Sprite, name, uid, resource_version: None }]).await;
    house.release("old").await;
}

async fn say(house: &House, request: &str, text: &str) -> Answer {
    let said = json!({"requestId": request, "text": text});
    house.call(Method::POST, "agents/bot/turns", Some(&said)).await
}

async fn states(house: &House, agent: &str) -> Vec<TurnState> {
    let turns = house.store.turns(agent, 0, 10).await.unwrap();
    turns.into_iter().map(|turn| turn.state).collect()
}

#[tokio::test]
async fn what_is_not_stored_is_not_acknowledged_and_is_taken_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let house = small_house(directory.path()).await;
    old_sprite(&house).await;
    let document = json!({
        "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "bot"},
        "spec": {"agent": {"command": {}}, "runtime": {"local": {"workdir": "/work"}}},
    });
    let made = house.call(Method::POST, "agents", Some(&document)).await.json();
    let agent = made["metadata"]["uid"].as_str().unwrap().to_owned();
    let token = house.owned_sprite("one", Kind::Agent, &agent, 1).await;
    let queued = say(&house, "r-1", "tell me a lot").await;
    assert_eq!(queued.code, StatusCode::CREATED, "{}", queued.text());
    let turn: Turn = house.store.turns(&agent, 0, 1).await.unwrap().remove(0);
    let id = turn.id.clone();
    let sent = Turn { state: TurnState::Sent, sprite_uid: Some(uid("one")), run: 1, ..turn };
    house.apply(vec![Op::MoveTurn { turn: sent, from: vec![TurnState::Queued] }]).await;
    let greeting = [hello(), json!({"type": "ready"}), json!({"type": "turnAccepted", "turn": id})];
    let mut held = 3;
    let answer = house.post(&token, EVENTS, batch("one", 1, 1, &greeting)).await;
    assert_eq!(answer.json()["held"], held);

    // It talks until the disk is full.
    let refused = loop {
        let line = log(&format!("{held} {}", "x".repeat(LONG)));
        let answer = house.post(&token, EVENTS, batch("one", 1, held + 1, &[line])).await;
        if answer.code != StatusCode::OK {
            break answer;
        }
        held += 1;
        assert_eq!(answer.json()["held"], held);
        assert!(held < 200, "200 pages are full at some time");
    };
    assert_eq!(refused.code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.text().contains("disk is full; free some space"), "{}", refused.text());
    assert_eq!(house.store.held(&uid("one"), None).await.unwrap().seq, held);

    // Its end does not fit either, and so the turn has not ended.
    let end = json!({"type": "turnEnded", "turn": id, "outcome": "Succeeded",
        "usage": {"costMicroUsd": 5, "inputTokens": 1, "outputTokens": 1}});
    let last = batch("one", 1, held + 1, &[log(&"y".repeat(LONG)), end]);
    for _ in 0..2 {
        let answer = house.post(&token, EVENTS, last.clone()).await;
        assert_eq!(answer.code, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    }
    assert_eq!(states(&house, &agent).await, [TurnState::Running]);
    assert_eq!(house.store.turn_sums(&agent).await.unwrap().usage.cost_micro_usd, 0);

    // So does whoever asks whether the server can work; the process lives.
    let answer = house.get("/ready").await;
    assert_eq!(answer.code, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    let store = answer.json()["parts"]["store"].as_str().unwrap().to_owned();
    assert!(store.starts_with("down: ") && store.contains("disk is full"), "{store}");
    assert_eq!(house.get("/health").await.code, StatusCode::OK);

    // A person hears so, too, and nothing of what they said stays behind.
    let question = "and then? ".repeat(LONG / 10);
    let answer = say(&house, "r-2", &question).await;
    assert_eq!(answer.code, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
    assert_eq!(answer.json()["kind"], "Status");
    assert_eq!(states(&house, &agent).await, [TurnState::Running]);
    assert_eq!(house.get("agents/bot").await.code, StatusCode::OK, "what there is can be read");
    assert_eq!(house.get("agents/bot/turns").await.json()["items"][0]["state"], "Running");

    // Room comes while the server runs.
    let later = house.now().checked_add(SignedDuration::from_hours(2)).unwrap();
    house.store.compact(later).await.unwrap();
    let answer = house.post(&token, EVENTS, last.clone()).await;
    assert_eq!(answer.json()["held"], held + 2, "{}", answer.text());
    let again = house.post(&token, EVENTS, last).await;
    assert_eq!(again.json()["held"], held + 2, "{}", again.text());
    assert_eq!(states(&house, &agent).await, [TurnState::Succeeded]);
    assert_eq!(house.store.turn_sums(&agent).await.unwrap().usage.cost_micro_usd, 5);
    let printed = house.printed("one").await;
    assert_eq!(printed.len() as u64, held - 2, "each line once");
    for (n, line) in (3..held).zip(&printed) {
        assert!(line.starts_with(&format!("{n} ")), "in order");
    }
    let answer = say(&house, "r-2", &question).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(say(&house, "r-2", &question).await.code, StatusCode::OK, "and that is once");
    assert_eq!(states(&house, &agent).await, [TurnState::Succeeded, TurnState::Queued]);
    let answer = house.get("/ready").await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    let nothing = Transaction::at(later);
    assert!(!house.store.apply(nothing).await.unwrap().changed);
}
