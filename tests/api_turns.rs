//! Promise: what is said to an agent by the API is queued once, listed in order, and can be asked
//! to end; what it asks for is answered once, or for good; every refusal is a `Status`.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;
#[path = "support/meddler.rs"]
mod meddler;

use axum::http::{Method, StatusCode};
use house::{ACCESS, API, House, batch, hello, log, read, uid};
use meddler::{Meddler, changes};
use open_dispatch::{
    resource::Kind,
    store::{Approval, ApprovalState, Expect, Op, Part, Turn, TurnState},
};
use serde_json::{Value, json};
use sprite_reporter::wire::{ApprovalKind, Question};

async fn agent(house: &House, name: &str) -> String {
    let document = json!({
        "apiVersion": "opendispatch.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"agent": {"command": {}}, "runtime": {"local": {"workdir": "/work"}}},
    });
    let answer = house.call(Method::POST, "agents", Some(&document)).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text());
    answer.json()["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn say(house: &House, agent: &str, body: Value) -> (StatusCode, Value) {
    let answer = house.call(Method::POST, &format!("agents/{agent}/turns"), Some(&body)).await;
    (answer.code, answer.json())
}

/// What a refusal says, which must be a `Status` with the answer's own code.
fn refusal((code, body): (StatusCode, Value)) -> String {
    assert_eq!((&body["kind"], &body["status"]), (&json!("Status"), &json!("Failure")), "{body}");
    assert_eq!(body["code"], code.as_u16());
    format!("{} {}", code.as_u16(), body["message"].as_str().unwrap())
}

#[tokio::test]
async fn a_turn_is_queued_once_however_often_it_is_said() {
    let house = House::new();
    let uid = agent(&house, "bot").await;
    let said = json!({"requestId": "r-1", "text": "don't  break\n\"this\""});
    let (code, turn) = say(&house, "bot", said.clone()).await;
    assert_eq!(code, StatusCode::CREATED);
    assert_eq!(
        (&turn["n"], &turn["state"], &turn["author"], &turn["text"]),
        (&json!(1), &json!("Queued"), &json!("api"), &said["text"])
    );
    let again = json!({"requestId": "r-1", "text": "something else"});
    assert_eq!(say(&house, "bot", again).await, (StatusCode::OK, turn.clone()));
    assert_eq!(house.store.turns(&uid, 0, 10).await.unwrap().len(), 1);
    assert!(house.store.open_deliveries().await.unwrap().is_empty());

    let id = turn["id"].as_str().unwrap();
    assert_eq!(house.get(&format!("agents/bot/turns/{id}")).await.json(), turn);
}

#[tokio::test]
async fn a_turn_is_shown_where_its_conversation_is() {
    let house = House::new();
    agent(&house, "bot").await;
    let place = json!({"platform": "console", "channel": "main", "thread": null});
    let said =
        json!({"requestId": "r", "text": "hello", "author": "someone", "conversation": place});
    let (_, turn) = say(&house, "bot", said).await;
    assert_eq!((&turn["author"], &turn["conversation"]), (&json!("someone"), &place));
    let deliveries = house.store.open_deliveries().await.unwrap();
    let subject = serde_json::to_value(&deliveries[0].subject).unwrap();
    assert_eq!(subject, json!({"type": "turn", "id": turn["id"]}));
}

#[tokio::test]
async fn two_requests_with_one_id_at_the_same_instant_make_one_turn() {
    let house = House::new();
    let uid = agent(&house, "bot").await;
    let said = |id: &str| say(&house, "bot", json!({"requestId": id, "text": "hello"}));
    let (a, b, c) = tokio::join!(said("one"), said("one"), said("two"));
    assert_eq!(a.1["id"], b.1["id"]);
    assert_ne!(a.1["id"], c.1["id"]);
    let turns = house.store.turns(&uid, 0, 10).await.unwrap();
    assert_eq!(turns.iter().map(|turn| turn.n).collect::<Vec<_>>(), [1, 2]);
}

/// A server before which somebody else writes, once, as it takes a step.
async fn meddled(house: &House, step: &'static str, op: Op) -> (House, std::sync::Arc<Meddler>) {
    let meddler = Meddler::new(house.store.clone(), step, vec![op]);
    (House::with_steps(house.store.clone(), meddler.clone()), meddler)
}

#[tokio::test]
async fn nothing_is_queued_for_an_agent_that_is_stopped_in_that_very_moment() {
    for (what, n) in [("suspended", 0), ("deleted", 1), ("observed", 2)] {
        let house = House::new();
        let uid = agent(&house, "bot").await;
        let (name, op) = changes(&*house.store).await.into_iter().nth(n).unwrap();
        assert_eq!(name, what);
        let (house, meddler) = meddled(&house, "api.turn", op).await;
        let answer = say(&house, "bot", json!({"requestId": "r", "text": "hello"})).await;
        assert!(meddler.has_meddled());
        let queued = house.store.turns(&uid, 0, 10).await.unwrap().len();
        if what == "observed" {
            assert_eq!((answer.0, queued), (StatusCode::CREATED, 1), "{}", answer.1);
        } else {
            assert_eq!(queued, 0, "{what}");
            let refused = refusal(answer);
            assert!(refused.starts_with("409 ") && refused.contains(what), "{refused}");
        }
    }
}

#[tokio::test]
async fn whoever_asks_first_for_a_turns_end_stands_and_nothing_else_of_it_changes() {
    for (by, state) in [(Some("first"), TurnState::Queued), (None, TurnState::Sent)] {
        let house = House::new();
        agent(&house, "bot").await;
        let (_, turn) = say(&house, "bot", json!({"requestId": "r", "text": "hello"})).await;
        let id = turn["id"].as_str().unwrap().to_owned();
        let queued = house.store.turn(&id).await.unwrap().unwrap();
        let sprite_uid = (state == TurnState::Sent).then(|| "s".to_owned());
        let cancelled_by = by.map(str::to_owned);
        let turn = Turn { state, sprite_uid: sprite_uid.clone(), cancelled_by, ..queued };
        let op = Op::MoveTurn { turn, from: vec![TurnState::Queued] };
        let (house, meddler) = meddled(&house, "api.cancel-turn", op).await;
        let path = format!("agents/bot/turns/{id}/cancel");
        let answer = house.call(Method::POST, &path, Some(&json!({"by": "second"}))).await;
        assert!(meddler.has_meddled());
        let turn = house.store.turn(&id).await.unwrap().unwrap();
        assert_eq!(turn.cancelled_by.as_deref(), Some(by.unwrap_or("second")));
        assert_eq!((turn.state, &turn.sprite_uid), (state, &sprite_uid));
        assert_eq!(answer.json(), serde_json::to_value(&turn).unwrap());
    }
}

#[tokio::test]
async fn turns_are_listed_by_number_in_pages_or_from_the_end() {
    let house = House::new();
    agent(&house, "bot").await;
    for n in 1..=5 {
        say(&house, "bot", json!({"requestId": n.to_string(), "text": n.to_string()})).await;
    }
    let numbers = async |query: &str| {
        let list = house.get(&format!("agents/bot/turns{query}")).await.json();
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|turn| turn["n"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers("").await, [1, 2, 3, 4, 5]);
    assert_eq!(numbers("?limit=2&after=1").await, [2, 3]);
    assert_eq!(numbers("?last=2").await, [4, 5]);
    let sums = house.get("agents/bot/turns").await.json()["sums"].clone();
    assert_eq!((&sums["queued"], &sums["done"]), (&json!(5), &json!(0)));
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_with_the_mend_and_changes_nothing() {
    let house = House::new();
    let bot = agent(&house, "bot").await;
    agent(&house, "sleeper").await;
    let suspend = json!({"spec": {"suspend": true}});
    house.call(Method::PATCH, "agents/sleeper", Some(&suspend)).await;
    agent(&house, "leaver").await;
    house.call(Method::DELETE, "agents/leaver", None).await;
    let before = house.store.writes();
    let said = |text: &str| json!({"requestId": "r", "text": text});
    let mut lines = Vec::new();
    for (agent, body) in [
        ("nobody", said("hello")),
        ("sleeper", said("hello")),
        ("leaver", said("hello")),
        ("bot", said("  \n")),
        ("bot", json!({"requestId": "r"})),
        ("bot", json!({"requestId": "", "text": "hello"})),
        ("bot", json!({"requestId": "r".repeat(201), "text": "hello"})),
        ("bot", json!({"requestId": "r", "text": "hello", "txet": 1})),
        ("bot", json!({"requestId": "r", "text": "hello", "author": "a".repeat(201)})),
        (
            "bot",
            json!({"requestId": "r", "text": "x", "attachments": [{"id": "0", "name": "a/b"}]}),
        ),
        ("bot", json!({"requestId": "r", "text": "x", "attachments": [{"id": "0", "name": "a"}]})),
        ("bot", json!([])),
    ] {
        lines.push(refusal(say(&house, agent, body).await));
    }
    for (method, path) in [
        (Method::GET, "agents/nobody/turns"),
        (Method::GET, "agents/bot/turns/none"),
        (Method::GET, "agents/bot/turns?limit=x"),
        (Method::GET, "agents/bot/turns?last=1&after=2"),
        (Method::POST, "agents/bot/turns/none/cancel"),
        (Method::DELETE, "agents/bot/grants/none"),
        (Method::GET, "agents/nobody/grants"),
    ] {
        let answer = house.call(method, path, None).await;
        lines.push(refusal((answer.code, answer.json())));
    }
    assert_eq!(house.store.writes(), before);
    assert!(house.store.turns(&bot, 0, 10).await.unwrap().is_empty());
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn whoever_names_no_request_says_something_new_each_time() {
    let house = House::new();
    let uid = agent(&house, "bot").await;
    for n in [1, 2] {
        let (code, turn) = say(&house, "bot", json!({"text": "hello"})).await;
        assert_eq!((code, &turn["n"]), (StatusCode::CREATED, &json!(n)));
    }
    assert_eq!(house.store.turns(&uid, 0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_deleted_agents_turns_are_not_those_of_the_next_of_its_name() {
    let house = House::new();
    agent(&house, "bot").await;
    let (_, first) = say(&house, "bot", json!({"requestId": "r", "text": "old"})).await;
    house.call(Method::DELETE, "agents/bot", None).await;
    let mut object = house.store.get(Kind::Agent, "bot").await.unwrap().unwrap();
    object.metadata_mut().finalizers.clear();
    house.apply(vec![Op::Write { object, part: Part::Finalizers, expect: Expect::Any }]).await;
    agent(&house, "bot").await;
    let (code, second) = say(&house, "bot", json!({"requestId": "r", "text": "new"})).await;
    assert_eq!((code, &second["text"]), (StatusCode::CREATED, &json!("new")));
    let old = house.get(&format!("agents/bot/turns/{}", first["id"].as_str().unwrap())).await;
    assert_eq!(old.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_turn_is_asked_to_end_once_and_one_that_has_ended_says_how() {
    let house = House::new();
    agent(&house, "bot").await;
    let (_, turn) = say(&house, "bot", json!({"requestId": "r", "text": "hello"})).await;
    let path = format!("agents/bot/turns/{}/cancel", turn["id"].as_str().unwrap());
    let asked = house.call(Method::POST, &path, Some(&json!({"by": "someone"}))).await;
    assert_eq!(asked.code, StatusCode::OK, "{}", asked.text());
    assert_eq!(
        (&asked.json()["cancelledBy"], &asked.json()["state"]),
        (&json!("someone"), &json!("Queued"))
    );
    let again = house.call(Method::POST, &path, None).await.json();
    assert_eq!(again["cancelledBy"], "someone", "the first who asked stands there");

    let turn: Turn = serde_json::from_value(again).unwrap();
    let ended = Turn { state: TurnState::Cancelled, ended: Some(house.now()), ..turn };
    house.apply(vec![Op::MoveTurn { turn: ended, from: vec![TurnState::Queued] }]).await;
    let late = house.call(Method::POST, &path, None).await;
    let line = refusal((late.code, late.json()));
    assert!(line.contains("has ended already: it was cancelled"), "{line}");
}

fn approval(request: &str, rule: Option<&str>, questions: &[&str]) -> Approval {
    let questions: Vec<Question> = questions
        .iter()
        .map(|text| Question { text: (*text).to_owned(), options: Vec::new(), many: false })
        .collect();
    Approval {
        sprite_uid: uid("bot-1"),
        run: 1,
        request: request.to_owned(),
        turn: "turn".to_owned(),
        tool: "Bash".to_owned(),
        title: "cargo test".to_owned(),
        input: json!({"command": "cargo test"}),
        kind: if questions.is_empty() { ApprovalKind::Tool } else { ApprovalKind::Question },
        rule: rule.map(str::to_owned),
        questions,
        answers: Default::default(),
        state: ApprovalState::Pending,
        by: String::new(),
        message: String::new(),
        resolved: None,
        user: None,
        grant: None,
        created: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

#[tokio::test]
async fn an_answer_of_always_leaves_a_grant_that_can_be_taken_back() {
    let house = House::new();
    let bot = agent(&house, "bot").await;
    house.owned_sprite("bot-1", Kind::Agent, &bot, 1).await;
    house.apply(vec![Op::AddApproval(approval("r", Some("Bash(cargo test:*)"), &[]))]).await;
    let path = "agents/bot/approvals/r";
    let answer = json!({"allow": true, "always": true, "by": "someone"});
    let answered = house.call(Method::POST, path, Some(&answer)).await;
    assert_eq!(answered.code, StatusCode::OK, "{}", answered.text());
    assert_eq!(answered.json()["by"], "someone");
    let grants = house.get("agents/bot/grants").await.json()["items"].clone();
    assert_eq!(
        (&grants[0]["tool"], &grants[0]["rule"], &grants[0]["by"]),
        (&json!("Bash"), &json!("Bash(cargo test:*)"), &json!("someone"))
    );
    let grant = format!("agents/bot/grants/{}", grants[0]["id"].as_str().unwrap());
    assert_eq!(house.call(Method::DELETE, &grant, None).await.json(), grants[0]);
    assert_eq!(house.get("agents/bot/grants").await.json()["items"], json!([]));
    assert_eq!(house.call(Method::DELETE, &grant, None).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_what_is_asked_resolves_nothing() {
    let house = House::new();
    let bot = agent(&house, "bot").await;
    house.owned_sprite("bot-1", Kind::Agent, &bot, 1).await;
    house
        .apply(vec![
            Op::AddApproval(approval("once", None, &[])),
            Op::AddApproval(approval("asks", None, &["Which?", "Why?"])),
        ])
        .await;
    let answer = async |request: &str, body: Value| {
        let path = format!("agents/bot/approvals/{request}");
        let answer = house.call(Method::POST, &path, Some(&body)).await;
        (answer.code, answer.json())
    };
    let mut lines = Vec::new();
    for (request, body) in [
        ("once", json!({"allow": true, "always": true})),
        ("once", json!({"allow": false, "always": true})),
        ("once", json!({"allow": true, "answers": {"Which?": "a"}})),
        ("asks", json!({"allow": true, "answers": {"Which?": "a"}})),
        ("none", json!({"allow": true})),
    ] {
        lines.push(refusal(answer(request, body).await));
    }
    insta::assert_snapshot!(lines.join("\n"));
    let answers = json!({"Which?": "a", "Why?": "b"});
    let (code, answered) = answer("asks", json!({"allow": true, "answers": answers})).await;
    assert_eq!((code, &answered["answers"]), (StatusCode::OK, &answers));
}

#[tokio::test]
async fn an_agents_log_goes_on_over_runs_and_sprites_and_begins_where_it_is_told() {
    let house = House::new();
    let bot = agent(&house, "bot").await;
    let print = async |sprite: &str, token: &str, run: u32, text: &str| {
        let body = batch(sprite, run, 1, &[hello(), log(text)]);
        let answer = house.post(token, "/webhooks/events", body).await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    };
    let first = house.owned_sprite("bot-1", Kind::Agent, &bot, 1).await;
    print("bot-1", &first, 1, "one ").await;
    let path = format!("{API}/agents/bot/log?follow=1&format=events");
    let mut lines = house.stream(ACCESS, &path).await;
    let mut next = async || loop {
        let line = lines.json().await;
        if line["type"] == "log" {
            return (line["sprite"].clone(), line["run"].clone(), line["text"].clone());
        }
    };
    let was = |sprite: &str, run: u32, text: &str| (json!(sprite), json!(run), json!(text));
    assert_eq!(next().await, was("bot-1", 1, "one "));
    print("bot-1", &first, 2, "two ").await;
    assert_eq!(next().await, was("bot-1", 2, "two "));
    let second = house.owned_sprite("bot-2", Kind::Agent, &bot, 2).await;
    print("bot-2", &second, 1, "three").await;
    assert_eq!(next().await, was("bot-2", 1, "three"));

    let raw = async |query: &str| house.get(&format!("agents/bot/log{query}")).await.text();
    assert_eq!(raw("").await, "one two three");
    assert_eq!(raw("?after=bot-1/1.2").await, "two three");
    assert_eq!(raw("?after=bot-2/0.0").await, "three");
}

#[tokio::test]
async fn metrics_are_for_whoever_shows_the_token_and_count_what_comes() {
    let house = House::new();
    let bot = agent(&house, "bot").await;
    let token = house.owned_sprite("bot-1", Kind::Agent, &bot, 1).await;
    house.post(&token, "/webhooks/events", batch("bot-1", 1, 1, &[hello(), log("x")])).await;
    let gap = json!({"type": "gap", "through": 9, "bytes": 100});
    house.post(&token, "/webhooks/events", batch("bot-1", 1, 3, &[gap])).await;
    let stranger = house.send("nobody", Method::GET, "/metrics", "", "").await;
    assert_eq!(read(stranger).await.code, StatusCode::UNAUTHORIZED);

    let text = house.get("/metrics").await.text();
    let metrics = parse(&text);
    let value = |name: &str| *metrics.get(name).unwrap_or_else(|| panic!("{name}:\n{text}"));
    assert_eq!(value("opendispatch_ingest_events_total"), 3.0);
    assert_eq!(value("opendispatch_dropped_bytes_total"), 100.0);
    assert_eq!(value("opendispatch_sprites{phase=\"Pending\"}"), 1.0);
    assert_eq!(value("opendispatch_deliveries{state=\"Open\"}"), 0.0);
    assert!(value("opendispatch_store_commits_total") >= 3.0);
    assert!(value("process_start_time_seconds") > 0.0);
}

/// Reads the text as Prometheus does: each sample belongs to the family that was announced, and
/// has a number.
fn parse(text: &str) -> std::collections::BTreeMap<String, f64> {
    let mut samples = std::collections::BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            name.clone_into(&mut family);
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&family), "{line} stands below {family}");
            let before = samples.insert(name.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{name} is there twice");
        }
    }
    samples
}
