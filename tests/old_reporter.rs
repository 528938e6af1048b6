//! A reporter of the release before goes on when its server is upgraded under it. It is played here
//! from what it put on the wire and what it took from there, written down by hand: none of our own
//! types stand between, so that a change of them shows.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod house;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use house::{House, Lines, uid};
use open_dispatch::{
    resource::{ExitReason, Kind},
    store::{ApprovalState, Op, Turn, TurnState},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sprite_reporter::wire::{ApprovalKind, Attachment, ExitReason as WireReason, Order};

/// A row as the release before read it: what it does not know of is ignored.
#[derive(Debug, PartialEq, Deserialize)]
struct OldRow {
    n: u64,
    #[serde(flatten)]
    order: OldOrder,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum OldOrder {
    Heartbeat {},
    Turn {
        turn: String,
        text: String,
    },
    Cancel {
        #[serde(default)]
        turn: Option<String>,
        reason: String,
    },
    Answer {
        request: String,
        allow: bool,
        #[serde(default)]
        message: String,
    },
    Sleep {},
    Stop {
        reason: String,
    },
}

/// The reporter, as far as its server can tell.
struct Old {
    token: String,
    seq: u64,
    known: u64,
}

impl Old {
    /// Posts events; answers the server's answer.
    async fn says(&mut self, house: &House, bodies: &[Value]) -> Value {
        let events: Vec<Value> = bodies
            .iter()
            .map(|body| {
                self.seq += 1;
                let mut event = json!({"seq": self.seq, "at": "2026-01-01T00:00:00Z"});
                event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
                event
            })
            .collect();
        let mut batch = json!({"jobId": uid("one"), "run": 1, "events": events});
        if self.known > 0 {
            batch["inboxAck"] = self.known.into();
        }
        let path = format!("/webhooks/events?jobId={}", uid("one"));
        let answer = house.post(&self.token, &path, batch.to_string()).await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    async fn listens(&self, house: &House) -> Lines {
        let (after, uid) = (self.known, uid("one"));
        house.stream(&self.token, &format!("/webhooks/inbox?after={after}&jobId={uid}&run=1")).await
    }

    /// The next row that it does not know.
    async fn hears(&mut self, lines: &mut Lines) -> OldOrder {
        loop {
            let line = lines.next().await.expect("the inbox ended");
            let row: OldRow = serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("it does not understand {line}: {error}"));
            if row.n > self.known {
                self.known = row.n;
                return row.order;
            }
        }
    }
}

fn hello() -> Value {
    json!({"type": "hello", "wire": 1, "version": "0.1.0",
        "process": {"bootId": "boot", "pid": 42, "startTime": 7},
        "containment": {"subreaper": true, "cgroup": false, "dataHidden": true}})
}

fn order(key: &str, order: Order) -> Op {
    Op::Order { sprite_uid: uid("one"), run: 1, key: key.to_owned(), order }
}

async fn state_of(house: &House, id: &str) -> TurnState {
    house.store.turn(id).await.unwrap().unwrap().state
}

/// What the Agent's controller commits when it sends a turn, with all that is new of it.
async fn send(house: &House, id: &str) {
    let turn = Turn {
        state: TurnState::Sent,
        sprite_uid: Some(uid("one")),
        run: 1,
        ..Turn::queued(id, "agent-1", "say hello", "ann", house.now())
    };
    let sent = Order::Turn {
        turn: id.to_owned(),
        text: "say hello".to_owned(),
        attachments: vec![Attachment { id: "0".repeat(64), name: "a.txt".to_owned(), size: 1 }],
        timeout_ms: Some(1_800_000),
        budget_micro_usd: Some(5_000_000),
    };
    house.apply(vec![Op::AddTurn(turn), order(&format!("turn/{id}/1"), sent)]).await;
}

#[tokio::test]
async fn a_reporter_of_the_release_before_answers_turns_asks_and_ends() {
    let house = House::new();
    let token = house.owned_sprite("one", Kind::Agent, "agent-1", 1).await;
    let mut old = Old { token, seq: 0, known: 0 };
    let ready = [hello(), json!({"type": "ready"}), json!({"type": "session", "id": "s-1"})];
    assert_eq!(old.says(&house, &ready).await["held"], 3);

    // The server is upgraded: another one, over the same store.
    let house = house.restarted();
    let mut inbox = old.listens(&house).await;
    send(&house, "turn-1").await;
    let (turn, text) = ("turn-1".to_owned(), "say hello".to_owned());
    assert_eq!(old.hears(&mut inbox).await, OldOrder::Turn { turn, text });
    old.says(&house, &[json!({"type": "turnAccepted", "turn": "turn-1"})]).await;
    assert_eq!(state_of(&house, "turn-1").await, TurnState::Running);

    // It asks, without what approvals have got since, and is answered.
    let asked = json!({"type": "approval", "turn": "turn-1", "request": "r-1", "tool": "Bash",
        "title": "make", "input": {"command": "make"}});
    old.says(&house, &[json!({"type": "text", "turn": "turn-1", "text": "Hel"}), asked]).await;
    let approvals = house.store.approvals(&uid("one")).await.unwrap();
    assert_eq!(approvals.len(), 1);
    let asked = (approvals[0].state, approvals[0].kind, approvals[0].rule.clone());
    assert_eq!(asked, (ApprovalState::Pending, ApprovalKind::Tool, None));
    let answer = Order::Answer {
        request: "r-1".to_owned(),
        allow: true,
        message: String::new(),
        answers: BTreeMap::from([("Which?".to_owned(), "this".to_owned())]),
    };
    house.apply(vec![order("answer/r-1", answer)]).await;
    assert_eq!(
        old.hears(&mut inbox).await,
        OldOrder::Answer { request: "r-1".to_owned(), allow: true, message: String::new() }
    );
    let cancel = Order::Cancel { turn: Some("turn-1".to_owned()), reason: WireReason::Cancelled };
    house.apply(vec![order("cancel/turn-1", cancel)]).await;
    let (turn, reason) = (Some("turn-1".to_owned()), "Cancelled".to_owned());
    assert_eq!(old.hears(&mut inbox).await, OldOrder::Cancel { turn, reason });
    let ended = json!({"type": "turnEnded", "turn": "turn-1", "outcome": "Cancelled",
        "usage": {"costMicroUsd": 10, "inputTokens": 1, "outputTokens": 2}});
    old.says(&house, &[ended]).await;
    let turn = house.store.turn("turn-1").await.unwrap().unwrap();
    assert_eq!((turn.state, turn.usage.cost_micro_usd), (TurnState::Cancelled, 10));

    // A connection that broke off: only what was not acknowledged comes again.
    drop(inbox);
    let mut inbox = old.listens(&house).await;
    house.apply(vec![order("stop", Order::Stop { reason: WireReason::Cancelled })]).await;
    let reason = "Cancelled".to_owned();
    assert_eq!(old.hears(&mut inbox).await, OldOrder::Stop { reason });
    let exit = json!({"type": "exit", "code": 0, "reason": "Cancelled"});
    assert_eq!(old.says(&house, &[exit]).await["finished"], true);
    let status = house.sprite_object("one").await.status;
    assert_eq!(status.exit.unwrap().reason, ExitReason::Cancelled);
    assert_eq!(status.session_id.as_deref(), Some("s-1"), "the next sprite resumes it");
}

#[tokio::test]
async fn a_reporter_of_the_release_before_that_is_told_to_sleep_is_over_and_its_session_stays() {
    let house = House::new();
    let token = house.owned_sprite("one", Kind::Agent, "agent-1", 1).await;
    let mut old = Old { token, seq: 0, known: 0 };
    old.says(&house, &[hello(), json!({"type": "ready"}), json!({"type": "session", "id": "s-1"})])
        .await;
    let house = house.restarted();
    let mut inbox = old.listens(&house).await;
    house.apply(vec![order("sleep/1", Order::Sleep {})]).await;
    assert_eq!(old.hears(&mut inbox).await, OldOrder::Sleep {});
    // It knew no better word for it.
    let exit = json!({"type": "exit", "code": 0, "reason": "Completed", "message": "asleep"});
    assert_eq!(old.says(&house, &[exit]).await["finished"], true);
    let status = house.sprite_object("one").await.status;
    assert_eq!(status.exit.unwrap().reason, ExitReason::Completed);
    assert_eq!((status.slept, status.session_id.as_deref()), (0, Some("s-1")));
}
