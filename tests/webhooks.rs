//! Promise: what a sprite reports is held once, in order, durably; a sprite speaks only for
//! itself; and whatever else comes in gets one clear answer and changes nothing.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::{io::Write as _, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Method, StatusCode},
};
use house::{House, PATIENCE, batch, exit, hello, log, read, uid};
use open_dispatch::{
    resource::{ExitReason, Kind},
    server::{Limits, State, serve},
    store::{Approval, ApprovalState, Cursor, Op, Turn, TurnState},
};
use serde_json::{Value, json};
use sprite_reporter::wire::{ExitReason as WireReason, Order};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

const EVENTS: &str = "/webhooks/events";

fn held(n: u64) -> Value {
    json!({"held": n, "expected": n + 1, "finished": false})
}

#[tokio::test]
async fn a_run_is_held_and_shows_in_the_sprites_status() {
    let house = House::new();
    let token = house.sprite("one").await;
    let first = batch("one", 1, 1, &[hello(), json!({"type": "ready"}), log("hi\n")]);
    let answer = house.post(&token, EVENTS, first).await;
    assert_eq!((answer.code, answer.json()), (StatusCode::OK, held(3)));
    let status = house.sprite_object("one").await.status;
    assert_eq!((status.run, status.ready, status.hello_time), (1, true, Some(house.now())));

    let rest = [json!({"type": "session", "id": "s-1"}), exit(3)];
    let answer = house.post(&token, EVENTS, batch("one", 1, 4, &rest)).await;
    assert_eq!(answer.json(), json!({"held": 5, "expected": 6, "finished": true}));
    let status = house.sprite_object("one").await.status;
    let ended = status.exit.unwrap();
    assert_eq!((ended.code, ended.reason), (Some(3), ExitReason::Failed));
    assert_eq!((status.session_id.as_deref(), status.ready), (Some("s-1"), false));
}

#[tokio::test]
async fn what_comes_twice_is_held_once_and_what_comes_too_early_is_asked_for_again() {
    let house = House::new();
    let token = house.sprite("one").await;
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello(), log("a")])).await;
    let again = house.post(&token, EVENTS, batch("one", 1, 2, &[log("a"), log("b")])).await;
    assert_eq!(again.json(), held(3));
    let early = house.post(&token, EVENTS, batch("one", 1, 9, &[log("z")])).await;
    assert_eq!((early.code, early.json()), (StatusCode::CONFLICT, held(3)));
    // A server that was started anew knows it from the store.
    let early = house.restarted().post(&token, EVENTS, batch("one", 1, 9, &[log("z")])).await;
    assert_eq!((early.code, early.json()), (StatusCode::CONFLICT, held(3)));
    assert_eq!(house.printed("one").await, ["a", "b"]);
}

#[tokio::test]
async fn behind_the_exit_nothing_is_taken_and_an_older_run_must_end() {
    let house = House::new();
    let token = house.sprite("one").await;
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello(), exit(0)])).await;
    let late = house.post(&token, EVENTS, batch("one", 1, 3, &[log("late")])).await;
    let finished = json!({"held": 2, "expected": 3, "finished": true});
    assert_eq!((late.code, late.json()), (StatusCode::OK, finished));

    house.post(&token, EVENTS, batch("one", 2, 1, &[hello()])).await;
    let older = house.post(&token, EVENTS, batch("one", 1, 3, &[log("late")])).await;
    assert_eq!(older.code, StatusCode::GONE);
    assert_eq!(house.printed("one").await, Vec::<String>::new());
}

#[tokio::test]
async fn each_bad_request_gets_one_clear_answer_and_changes_nothing() {
    let house = House::new();
    let token = house.sprite("one").await;
    let other = house.sprite("two").await;
    let writes = house.store.writes();
    let good = batch("one", 1, 1, &[hello()]);
    let wrong_wire = batch(
        "one",
        1,
        1,
        &[json!({"type": "hello", "wire": 9, "version": "9.0",
        "process": {"bootId": "b", "pid": 1, "startTime": 1},
        "containment": {"subreaper": false, "cgroup": false, "dataHidden": false}})],
    );
    let mut said = Vec::new();
    for (what, token, body) in [
        ("no token", "", good.clone().into_bytes()),
        ("a wrong token", "0000", good.clone().into_bytes()),
        ("the token of another sprite", &other, good.clone().into_bytes()),
        ("an unknown job", &token, batch("nobody", 1, 1, &[hello()]).into_bytes()),
        ("nothing", &token, Vec::new()),
        ("null", &token, b"null".to_vec()),
        ("no JSON", &token, b"{".to_vec()),
        ("no UTF-8", &token, b"{\"jobId\":\"\xff\"}".to_vec()),
        ("deep nesting", &token, vec![b'['; 100_000]),
        ("no hello", &token, batch("one", 1, 1, &[log("x")]).into_bytes()),
        ("another wire", &token, wrong_wire.into_bytes()),
        (
            "a hole within",
            &token,
            good.replace("}]", "},{\"seq\":3,\"at\":\"2026-01-01T00:00:00Z\",\"type\":\"ready\"}]")
                .into_bytes(),
        ),
        ("too much", &token, vec![b' '; 2 * 1024 * 1024 + 1]),
    ] {
        let answer = house.post(token, EVENTS, body).await;
        said.push(format!("{what}: {} {}", answer.code.as_u16(), answer.text()));
    }
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(house.store.writes(), writes);
}

#[tokio::test]
async fn who_speaks_is_settled_before_the_body_is_read() {
    let house = House::new();
    let unread = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let answer = house.post("wrong", EVENTS, unread);
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it waited for the body");
    assert_eq!(answer.code, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let house = Arc::new(House::new());
    let token = house.sprite("one").await;
    let unread = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
    let waiting = house.clone();
    let answer = tokio::spawn(async move { waiting.post(&token, EVENTS, unread).await });
    while !answer.is_finished() {
        house.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    assert_eq!(answer.await.unwrap().code, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn a_token_dies_with_its_sprite() {
    let house = House::new();
    let token = house.sprite("one").await;
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello()])).await;
    house.release("one").await;
    let answer = house.post(&token, EVENTS, batch("one", 1, 2, &[log("x")])).await;
    assert_eq!(answer.code, StatusCode::GONE);
    let name = "one".to_owned();
    house
        .apply(vec![Op::Delete { kind: Kind::Sprite, name, uid: None, resource_version: None }])
        .await;
    let answer = house.post(&token, EVENTS, batch("one", 1, 2, &[log("x")])).await;
    assert_eq!(answer.code, StatusCode::GONE);

    // A server that never knew the sprite can still tell it from a stranger, if it says its name.
    let anew = house.restarted();
    let path = format!("{EVENTS}?jobId={}", uid("one"));
    assert_eq!(anew.post(&token, &path, "{}").await.code, StatusCode::GONE);
    assert_eq!(anew.post("0000", &path, "{}").await.code, StatusCode::UNAUTHORIZED);
}

fn turn(house: &House, id: &str, sprite: &str) -> Turn {
    Turn {
        state: TurnState::Sent,
        sprite_uid: Some(uid(sprite)),
        run: 1,
        ..Turn::queued(id, "agent", "do it", "ann", house.now())
    }
}

#[tokio::test]
async fn turns_and_approvals_move_with_the_events_that_tell_of_them() {
    let house = House::new();
    let token = house.owned_sprite("one", Kind::Agent, "agent", 1).await;
    house.apply(vec![Op::AddTurn(turn(&house, "t", "one"))]).await;
    let asked = json!({"type": "approval", "turn": "t", "request": "r", "tool": "Bash",
        "title": "rm -r", "input": {"command": "rm -r"}});
    let accepted = json!({"type": "turnAccepted", "turn": "t"});
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello(), accepted, asked])).await;
    let state = house.store.turn("t").await.unwrap().unwrap().state;
    assert_eq!(state, TurnState::Running);
    let approvals = house.store.approvals(&uid("one")).await.unwrap();
    assert_eq!(approvals.iter().map(|it| it.state).collect::<Vec<_>>(), [ApprovalState::Pending]);

    let usage = json!({"costMicroUsd": 5, "inputTokens": 1, "outputTokens": 2});
    let ended = json!({"type": "turnEnded", "turn": "t", "outcome": "Succeeded", "usage": usage});
    house.post(&token, EVENTS, batch("one", 1, 4, &[ended, exit(0)])).await;
    let turn = house.store.turn("t").await.unwrap().unwrap();
    assert_eq!((turn.state, turn.ended), (TurnState::Succeeded, Some(house.now())));
    let approvals = house.store.approvals(&uid("one")).await.unwrap();
    assert_eq!(approvals.iter().map(|it| it.state).collect::<Vec<_>>(), [ApprovalState::Withdrawn]);
    assert_eq!(house.sprite_object("one").await.status.cost.micro_usd, 5);
}

#[tokio::test]
async fn an_approval_that_was_answered_meanwhile_does_not_hold_the_end_up() {
    let house = House::new();
    let token = house.sprite("one").await;
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello()])).await;
    let approval = Approval {
        kind: Default::default(),
        rule: None,
        questions: Vec::new(),
        answers: Default::default(),
        sprite_uid: uid("one"),
        run: 1,
        request: "r".to_owned(),
        turn: "t".to_owned(),
        tool: "Bash".to_owned(),
        title: String::new(),
        input: Value::Null,
        state: ApprovalState::Pending,
        by: String::new(),
        message: String::new(),
        resolved: None,
        user: None,
        grant: None,
        created: house.now(),
    };
    let answered = Op::ResolveApproval {
        sprite_uid: uid("one"),
        run: 1,
        request: "r".to_owned(),
        state: ApprovalState::Allowed,
        by: "ann".to_owned(),
        user: None,
        grant: None,
        message: String::new(),
        answers: std::collections::BTreeMap::new(),
    };
    house.apply(vec![Op::AddApproval(approval)]).await;
    house.apply(vec![answered]).await;
    let withdrawn = json!({"type": "approvalWithdrawn", "request": "r"});
    let answer = house.post(&token, EVENTS, batch("one", 1, 2, &[withdrawn, exit(0)])).await;
    assert_eq!(answer.json()["finished"], true);
}

#[tokio::test]
async fn an_approval_that_is_asked_again_after_its_answer_does_not_hold_the_end_up() {
    let house = House::new();
    let token = house.sprite("one").await;
    let asked = json!({"type": "approval", "turn": "t", "request": "r", "tool": "Bash",
        "title": "rm -r", "input": {"command": "rm -r"}});
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello(), asked.clone()])).await;
    let answered = Op::ResolveApproval {
        sprite_uid: uid("one"),
        run: 1,
        request: "r".to_owned(),
        state: ApprovalState::Allowed,
        by: "ann".to_owned(),
        user: None,
        grant: None,
        message: String::new(),
        answers: std::collections::BTreeMap::new(),
    };
    house.apply(vec![answered]).await;
    let answer = house.post(&token, EVENTS, batch("one", 1, 3, &[asked, exit(0)])).await;
    assert_eq!(answer.json()["finished"], true);
    let approvals = house.store.approvals(&uid("one")).await.unwrap();
    assert_eq!(approvals.iter().map(|it| it.state).collect::<Vec<_>>(), [ApprovalState::Allowed]);
}

/// A generator of chance that is the same in every run of a test.
fn chance(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_reporters_that_repeat_reorder_and_miss_answers_are_held_once_and_in_order() {
    reported_once_and_in_order(House::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_disk_it_is_the_same() {
    let (house, _directory) = House::on_disk().await;
    reported_once_and_in_order(house).await;
}

async fn reported_once_and_in_order(house: House) {
    const REPORTERS: u64 = 64;
    const LINES: u64 = 60;
    let house = Arc::new(house);
    let mut reporters = tokio::task::JoinSet::new();
    for n in 0..REPORTERS {
        let house = house.clone();
        reporters.spawn(async move {
            let name = format!("s{n}");
            let token = house.sprite(&name).await;
            let mut bodies = vec![hello()];
            bodies.extend((1..=LINES).map(|line| log(&format!("{line}\n"))));
            bodies.push(exit(0));
            let all = bodies.len() as u64;
            let mut seed = n;
            let mut known = 0;
            while known < all {
                // Several batches at once, from anywhere around what is known to be held, some
                // of which nobody waits for.
                let mut posts = Vec::new();
                for _ in 0..3 {
                    let first =
                        1 + known.saturating_sub(chance(&mut seed) % 4) + chance(&mut seed) % 3;
                    let length = 1 + chance(&mut seed) % 8;
                    if first > all {
                        continue;
                    }
                    let last = (first + length - 1).min(all);
                    let events = &bodies[first as usize - 1..last as usize];
                    let (house, token) = (house.clone(), token.clone());
                    let body = batch(&name, 1, first, events);
                    let post = tokio::spawn(async move { house.post(&token, EVENTS, body).await });
                    if chance(&mut seed).is_multiple_of(5) {
                        post.abort();
                    } else {
                        posts.push(post);
                    }
                }
                for post in posts {
                    let answer = post.await.unwrap();
                    let fine = [StatusCode::OK, StatusCode::CONFLICT];
                    assert!(fine.contains(&answer.code), "{answer:?}");
                    known = known.max(answer.json()["held"].as_u64().unwrap());
                }
            }
        });
    }
    while let Some(reporter) = reporters.join_next().await {
        reporter.unwrap();
    }
    let expected: Vec<String> = (1..=LINES).map(|line| format!("{line}\n")).collect();
    for n in 0..REPORTERS {
        assert_eq!(house.printed(&format!("s{n}")).await, expected, "of s{n}");
    }
}

// The inbox.

fn cancel() -> Op {
    let order = Order::Cancel { turn: None, reason: WireReason::Cancelled };
    Op::Order { sprite_uid: uid("one"), run: 1, key: "cancel".to_owned(), order }
}

fn stop() -> Op {
    let order = Order::Stop { reason: WireReason::Cancelled };
    Op::Order { sprite_uid: uid("one"), run: 1, key: "stop".to_owned(), order }
}

#[tokio::test]
async fn the_inbox_shows_what_is_there_then_what_comes_and_repeats_it_until_it_is_acknowledged() {
    let house = House::new();
    let token = house.sprite("one").await;
    house.apply(vec![cancel()]).await;
    let mut inbox = house.stream(&token, "/webhooks/inbox?after=0").await;
    assert_eq!(inbox.json().await, json!({"n": 0, "type": "heartbeat"}));
    assert_eq!(inbox.json().await["n"], 1);
    house.apply(vec![stop()]).await;
    let second = inbox.json().await;
    assert_eq!((&second["n"], &second["type"]), (&json!(2), &json!("stop")));

    let ack = json!({"jobId": uid("one"), "run": 1, "events": [], "inboxAck": 1});
    assert_eq!(house.post(&token, EVENTS, ack.to_string()).await.code, StatusCode::OK);
    let beat = async { (inbox.json().await["n"].clone(), inbox.json().await["n"].clone()) };
    tokio::pin!(beat);
    let (heartbeat, repeated) = loop {
        tokio::select! {
            biased;
            both = &mut beat => break both,
            () = tokio::task::yield_now() => house.clock.advance(Duration::from_secs(1)),
        }
    };
    assert_eq!((heartbeat, repeated), (json!(0), json!(2)));
}

#[tokio::test]
async fn the_newest_inbox_connection_wins_and_the_older_one_ends_cleanly() {
    let house = House::new();
    let token = house.sprite("one").await;
    let mut older = house.stream(&token, "/webhooks/inbox").await;
    older.json().await;
    let mut newer = house.stream(&token, "/webhooks/inbox").await;
    newer.json().await;
    assert_eq!(older.next().await, None);
    house.apply(vec![stop()]).await;
    assert_eq!(newer.json().await["n"], 1);
}

#[tokio::test]
async fn the_inbox_of_a_run_ends_when_another_speaks_or_the_sprite_is_gone() {
    let house = House::new();
    let token = house.sprite("one").await;
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello()])).await;
    let mut first = house.stream(&token, "/webhooks/inbox?after=0&run=1").await;
    first.json().await;
    house.post(&token, EVENTS, batch("one", 2, 1, &[hello()])).await;
    assert_eq!(first.next().await, None);
    let again = house.send(&token, Method::GET, "/webhooks/inbox?run=1", "", "").await;
    assert_eq!(again.status(), StatusCode::GONE);

    let mut second = house.stream(&token, "/webhooks/inbox?run=2").await;
    second.json().await;
    house.release("one").await;
    // The directory follows when somebody asks.
    house.get("/health").await;
    assert_eq!(second.next().await, None);
    let again = house.send(&token, Method::GET, "/webhooks/inbox?run=2", "", "").await;
    assert_eq!(again.status(), StatusCode::GONE);
}

#[tokio::test]
async fn each_run_sees_its_own_rows_and_numbers_go_on() {
    let house = House::new();
    let token = house.owned_sprite("one", Kind::Agent, "agent", 1).await;
    let order = |run: u32, key: &str| Op::Order {
        sprite_uid: uid("one"),
        run,
        key: key.to_owned(),
        order: Order::turn(key, "do it"),
    };
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello()])).await;
    house.apply(vec![order(1, "a"), order(2, "b")]).await;
    let mut first = house.stream(&token, "/webhooks/inbox?after=0&run=1").await;
    assert_eq!(first.json().await["type"], "heartbeat");
    assert_eq!(first.json().await["turn"], "a");

    house.post(&token, EVENTS, batch("one", 2, 1, &[hello()])).await;
    let mut second = house.stream(&token, "/webhooks/inbox?after=0&run=2").await;
    assert_eq!(second.json().await, json!({"n": 0, "run": 2, "type": "heartbeat"}));
    let row = second.json().await;
    assert_eq!((&row["n"], &row["run"], &row["turn"]), (&json!(2), &json!(2), &json!("b")));
}

#[tokio::test]
async fn a_run_that_falls_asleep_ends_nothing_and_the_next_one_takes_over() {
    let house = House::new();
    let token = house.owned_sprite("one", Kind::Agent, "agent", 1).await;
    let asleep = json!({"type": "exit", "reason": "Asleep", "message": "asleep"});
    let session = json!({"type": "session", "id": "s1"});
    let said = [hello(), json!({"type": "ready"}), session, asleep];
    let answer = house.post(&token, EVENTS, batch("one", 1, 1, &said)).await;
    assert_eq!(answer.json()["finished"], true);
    let status = house.sprite_object("one").await.status;
    assert_eq!((status.slept, status.ready, status.exit), (1, false, None));

    // A server that has just been started takes the next run as well.
    let house = house.restarted();
    let said = [hello(), json!({"type": "ready"})];
    let answer = house.post(&token, EVENTS, batch("one", 2, 1, &said)).await;
    assert_eq!((answer.code, answer.json()["held"].clone()), (StatusCode::OK, json!(2)));
    let status = house.sprite_object("one").await.status;
    assert_eq!((status.run, status.slept, status.ready), (2, 1, true));
    assert_eq!(status.session_id.as_deref(), Some("s1"));
    let late = house.post(&token, EVENTS, batch("one", 1, 5, &[log("late\n")])).await;
    assert_eq!(late.code, StatusCode::GONE);
}

#[tokio::test]
async fn a_turn_of_another_run_is_not_ended() {
    let house = House::new();
    let token = house.owned_sprite("one", Kind::Agent, "agent", 1).await;
    house.apply(vec![Op::AddTurn(Turn { run: 2, ..turn(&house, "t", "one") })]).await;
    let ended = json!({"type": "turnEnded", "turn": "t", "outcome": "Succeeded"});
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello(), ended.clone()])).await;
    assert_eq!(house.store.turn("t").await.unwrap().unwrap().state, TurnState::Sent);
    let accepted = json!({"type": "turnAccepted", "turn": "t"});
    house.post(&token, EVENTS, batch("one", 2, 1, &[hello(), accepted])).await;
    let running = house.store.turn("t").await.unwrap().unwrap();
    assert_eq!((running.state, running.started), (TurnState::Running, Some(house.now())));
    assert_eq!(running.began, Some(Cursor { run: 2, seq: 2 }));
    house.post(&token, EVENTS, batch("one", 2, 3, &[ended])).await;
    assert_eq!(house.store.turn("t").await.unwrap().unwrap().state, TurnState::Succeeded);
}

// Original sidecars.

#[tokio::test]
async fn health_answers_as_the_original_did_and_takes_a_query() {
    let house = House::new();
    house.sprite("one").await;
    house.clock.advance(Duration::from_secs(5));
    for path in ["/health", "/health?probe=1"] {
        let answer = house.get(path).await;
        let healthy = json!({"status": "healthy", "jobs": 1, "uptime": 5.0});
        assert_eq!((answer.code, answer.json()), (StatusCode::OK, healthy));
    }
    let nowhere = house.post("", "/webhooks/nowhere", "{}").await;
    assert_eq!(
        (nowhere.code, nowhere.text().as_str()),
        (StatusCode::NOT_FOUND, r#"{"error":"Not found"}"#)
    );
}

fn said(name: &str, rest: Value) -> String {
    let mut body = rest;
    body["jobId"] = uid(name).into();
    body.to_string()
}

#[tokio::test]
async fn an_original_sidecar_is_heard_as_a_run_of_its_own() {
    let house = House::new();
    let token = house.sprite("one").await;
    for (path, body, expected) in [
        ("status", json!({"status": "running", "exitCode": 0, "error": ""}), json!({"ok": true})),
        ("logs", json!({"text": "one\ntwo"}), json!({"ok": true})),
        ("logs", json!({"text": ""}), json!({"ok": true})),
        (
            "artifacts",
            json!({"artifacts": [{"name": "pr", "url": "https://x.test/1", "type": "pr"}, null]}),
            json!({"ok": true, "count": 1}),
        ),
        (
            "status",
            json!({"status": "failed", "exitCode": 137, "error": "Agent exited"}),
            json!({"ok": true}),
        ),
        // Said again, it is no news.
        (
            "status",
            json!({"status": "failed", "exitCode": 137, "error": "Agent exited"}),
            json!({"ok": true}),
        ),
    ] {
        let answer = house.post(&token, &format!("/webhooks/{path}"), said("one", body)).await;
        assert_eq!((answer.code, answer.json()), (StatusCode::OK, expected), "{path}");
    }
    assert_eq!(house.printed("one").await, ["one\ntwo\n", "\n"]);
    let status = house.sprite_object("one").await.status;
    let ended = status.exit.unwrap();
    assert_eq!((ended.code, ended.reason), (Some(137), ExitReason::Failed));
    assert_eq!((ended.message.as_str(), status.artifacts.len()), ("Agent exited", 1));
    assert!(house.store.held(&uid("one"), None).await.unwrap().finished);
}

#[tokio::test]
async fn a_terminal_status_is_final_and_logs_are_taken_for_a_minute_more() {
    let house = House::new();
    let token = house.sprite("one").await;
    let status = |status: &str| said("one", json!({"status": status, "exitCode": 0}));
    house.post(&token, "/webhooks/status", status("failed")).await;
    for late in ["completed", "running"] {
        let answer = house.post(&token, "/webhooks/status", status(late)).await;
        assert_eq!(answer.code, StatusCode::CONFLICT);
        assert!(answer.text().contains("a terminal status is final"), "{}", answer.text());
    }
    house.release("one").await;
    let late = |text: &str| said("one", json!({ "text": text }));
    house.clock.advance(Duration::from_secs(60));
    // A server that was started meanwhile knows when the job ended.
    let anew = house.restarted();
    assert_eq!(anew.post(&token, "/webhooks/logs", late("late")).await.code, StatusCode::OK);
    house.clock.advance(Duration::from_secs(1));
    anew.clock.advance(Duration::from_secs(61));
    let refused = house.post(&token, "/webhooks/logs", late("too late")).await;
    assert_eq!(refused.code, StatusCode::CONFLICT, "{}", refused.text());
    assert_eq!(house.printed("one").await, ["late\n"]);
    let exit = house.sprite_object("one").await.status.exit.unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Failed, Some(0)));
    assert!(house.store.held(&uid("one"), None).await.unwrap().finished);
}

#[tokio::test]
async fn each_bad_word_of_an_original_sidecar_gets_the_originals_answer() {
    let house = House::new();
    let token = house.sprite("one").await;
    let writes = house.store.writes();
    let mut answers = Vec::new();
    for (path, token, body) in [
        ("logs", token.as_str(), b"null".to_vec()),
        ("logs", &token, b"{".to_vec()),
        ("logs", &token, Vec::new()),
        ("logs", &token, b"{\"jobId\":\"x\",\"text\":\"\xe2\x9c\"}".to_vec()),
        ("logs", &token, said("one", json!({})).into_bytes()),
        ("logs", &token, said("other", json!({"text": "x"})).into_bytes()),
        ("logs", "wrong", b"null".to_vec()),
        ("logs", &token, vec![b'x'; 1024 * 1024 + 1]),
        ("status", &token, said("one", json!({})).into_bytes()),
        ("status", &token, said("one", json!({"status": "banana"})).into_bytes()),
        ("artifacts", &token, said("one", json!({"artifacts": null})).into_bytes()),
    ] {
        let answer = house.post(token, &format!("/webhooks/{path}"), body).await;
        answers.push(format!("{path}: {} {}", answer.code.as_u16(), answer.text()));
    }
    insta::assert_snapshot!(answers.join("\n"));
    assert_eq!(house.store.writes(), writes);
}

#[tokio::test]
async fn a_character_that_is_cut_by_a_chunk_arrives_whole() {
    let house = House::new();
    let token = house.sprite("one").await;
    let body = said("one", json!({"text": "✓ done"})).into_bytes();
    let cut = body.iter().position(|byte| *byte == 0xe2).unwrap() + 1;
    let pieces = [Bytes::copy_from_slice(&body[..cut]), Bytes::copy_from_slice(&body[cut..])];
    let pieces = futures::stream::iter(pieces.map(Ok::<_, std::io::Error>));
    house.post(&token, "/webhooks/logs", Body::from_stream(pieces)).await;
    assert_eq!(house.printed("one").await, ["✓ done\n"]);
}

#[tokio::test]
async fn a_sprite_that_counts_its_events_cannot_speak_as_an_original_sidecar() {
    let house = House::new();
    let token = house.sprite("one").await;
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello()])).await;
    let answer = house.post(&token, "/webhooks/logs", said("one", json!({"text": "x"}))).await;
    assert_eq!(answer.code, StatusCode::CONFLICT);
    let next = house.post(&token, EVENTS, batch("one", 1, 2, &[log("x")])).await;
    assert_eq!(next.json(), held(2));
}

// Real sockets.

struct Listening {
    address: std::net::SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn listen(state: State, router: axum::Router, limits: Limits) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let served = tokio::spawn(serve(listener, router, state, limits, async {
        let _ = stopped.await;
    }));
    Listening { address, stop, served }
}

#[tokio::test]
async fn a_client_that_sends_slowly_loses_its_slot_to_one_that_waits() {
    let house = House::new();
    let limits = Limits { connections: 1, head: Duration::from_millis(200), ..Limits::default() };
    let server = listen(house.state.clone(), house.router.clone(), limits).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /health HTTP/1.1\r\nhost").await.unwrap();
    let mut waits = TcpStream::connect(server.address).await.unwrap();
    waits.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, waits.read_to_string(&mut answer)).await;
    read.expect("the slow client held the only slot").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_does_not_wait_for_clients_that_say_nothing() {
    let house = House::new();
    let token = house.sprite("one").await;
    let server = listen(house.state.clone(), house.router.clone(), Limits::default()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request =
        format!("GET /webhooks/inbox HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut some = [0; 64];
    assert!(stream.read(&mut some).await.unwrap() > 0);

    server.stop.send(()).unwrap();
    let ended = tokio::time::timeout(PATIENCE, server.served).await;
    ended.expect("the shutdown waits").unwrap().unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream had no clean end");
    assert_eq!(silent.read(&mut some).await.unwrap(), 0);
}

/// Runs a script of our own that speaks as an original sidecar does; skipped where the machine
/// lacks the program, but not in CI.
async fn sidecar(program: &str, arguments: &[&str], lines: usize) {
    let found =
        std::process::Command::new(arguments.last().unwrap_or(&program)).arg("--version").output();
    if found.is_err() {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
        let _ = writeln!(std::io::stderr(), "skipped: {program} is missing");
        return;
    }
    let house = House::new();
    let token = house.sprite("one").await;
    let server = listen(house.state.clone(), house.router.clone(), Limits::default()).await;
    let script = format!("{}/tests/support/{}", env!("CARGO_MANIFEST_DIR"), arguments[0]);
    let mut child = tokio::process::Command::new(program)
        .arg(script)
        .env("JOB_ID", uid("one"))
        .env("JOB_TOKEN", token)
        .env("OPEN_DISPATCH_URL", format!("http://{}", server.address))
        .env("LINES_TO_PRINT", lines.to_string())
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait()).await;
    assert!(status.expect("the sidecar hangs").unwrap().success());
    let expected: String = (1..=lines).map(|line| format!("line {line} ✓ \"quoted\"\n")).collect();
    assert_eq!(house.printed("one").await.concat(), expected);
    let exit = house.sprite_object("one").await.status.exit.unwrap();
    assert_eq!((exit.code, exit.reason), (Some(3), ExitReason::Failed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bash_sidecar_that_posts_with_curl_is_heard_whole() {
    sidecar("bash", &["sidecar.sh", "curl"], 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_relay_that_posts_with_keep_alive_is_heard_whole() {
    sidecar("node", &["relay.mjs", "node"], 500).await;
}

#[tokio::test]
async fn the_output_of_a_sprite_begins_where_its_reader_left_off() {
    let house = House::new();
    let token = house.sprite("one").await;
    house.post(&token, EVENTS, batch("one", 1, 1, &[hello(), log("a"), log("b")])).await;
    let rows =
        house.store.output(&uid("one"), Cursor { run: 1, seq: 2 }, usize::MAX).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.event.seq).collect::<Vec<_>>(), [3]);
    let answer =
        read(house.send(&token, Method::GET, "/webhooks/inbox?after=x", "", "").await).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
}
