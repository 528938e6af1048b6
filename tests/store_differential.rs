//! Random transactions leave the same state in memory and in SQLite, answer by answer, with
//! groups, compactions and reopenings in between.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/store_fixtures.rs"]
mod fixtures;

use std::{path::Path, sync::Arc};

use fixtures::{
    agent, approval, at, delivery, exit, gap, job, log, output, sprite, turn, tx, with_finalizers,
    with_phase, with_spec,
};
use open_dispatch::{
    ambient::Ambient,
    resource::{AnyObject, Kind},
    store::{
        Access, Applied, ApprovalState, AuditRow, BackoffRow, Cursor, Delivery, DeliveryState,
        Error, Expect, Grant, Op, Outcome, Pairing, Part, Place, Principal, Receipt, Role, Store,
        Transaction, Turn, TurnState, memory::MemoryStore, sqlite::SqliteStore,
    },
};
use proptest::prelude::*;
use serde_json::json;
use sprite_reporter::wire::{Order, Usage};

/// One thing that is done to both stores. The numbers choose among few names, so that
/// operations meet each other's rows.
#[derive(Debug, Clone)]
enum Step {
    /// A transaction; with `alone`, everything before it is committed first.
    Transaction { alone: bool, ops: Vec<(u8, u8, u8)> },
    /// So many hours later, drop what is old.
    Compact(u8),
    /// Close the file and open it again.
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let ops = prop::collection::vec((0..27_u8, 0..4_u8, any::<u8>()), 1..5);
    prop_oneof![
        20 => (prop::bool::weighted(0.1), ops).prop_map(|(alone, ops)| Step::Transaction { alone, ops }),
        1 => (0..30_u8).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

const TURN_STATES: [TurnState; 4] =
    [TurnState::Queued, TurnState::Sent, TurnState::Running, TurnState::Succeeded];

/// Makes an operation of three numbers, with what stands in the store where it needs that.
async fn op(memory: &MemoryStore, (what, which, how): (u8, u8, u8)) -> Op {
    let object = template(which);
    let (kind, name) = (object.kind(), object.metadata().name.clone());
    let uid = object.metadata().uid.clone();
    let there = memory.get(kind, &name).await.unwrap().unwrap_or_else(|| object.clone());
    let expect = if how & 1 == 0 { Expect::SameVersion } else { Expect::Any };
    let sprite_uid = format!("uid-s{which}");
    match what {
        0 | 1 => Op::Create(object),
        2 => Op::Write { object: with_spec(&there, &how.to_string()), part: Part::Desired, expect },
        3 => Op::Write { object: with_phase(&there, &how.to_string()), part: Part::Status, expect },
        4 => {
            let finalizers: &[&str] = if how & 2 == 0 { &[] } else { &["f"] };
            let object = with_finalizers(&there, finalizers);
            Op::Write { object, part: Part::Finalizers, expect }
        }
        5 => Op::Delete { kind, name, uid: (how & 1 == 0).then_some(uid), resource_version: None },
        6 => {
            let unless = (how & 1 == 0).then(|| "/phase".to_owned());
            Op::PatchStatus { kind, uid, patch: json!({"phase": (how / 16).to_string()}), unless }
        }
        7 => Op::Receipt(Receipt { key: format!("r{}", how / 8), effect: name }),
        8..=10 => {
            let held = memory.held(&sprite_uid, None).await.unwrap();
            let run = held.run.max(1) + u32::from(how > 240 || held.finished && how % 4 != 0);
            let next = if run == held.run { held.seq + 1 } else { 1 } + u64::from(how % 32 == 31);
            let events = match how % 8 {
                0 => vec![gap(next, next + 3)],
                1 => vec![log(next, "a"), exit(next + 1)],
                n => (0..u64::from(n)).map(|n| log(next + n, &how.to_string())).collect(),
            };
            output(&sprite_uid, run, events)
        }
        11 | 12 => {
            let order = Order::turn(how.to_string(), "");
            Op::Order { sprite_uid, run: 1 + u32::from(how % 2), key: (how / 8).to_string(), order }
        }
        13 => Op::InboxAck { sprite_uid, n: u64::from(how / 16) },
        14 => Op::AddTurn(turn(&format!("t{}", how / 16), &format!("uid-{name}"))),
        15 => {
            let id = format!("t{}", how / 16);
            let state = TURN_STATES[usize::from(how % 4)];
            let usage = Usage { cost_micro_usd: u64::from(how), ..Usage::default() };
            let cancelled_by = (how % 8 == 7).then(|| how.to_string());
            let ended = state.is_final().then(|| at(u64::from(how)));
            let turn = Turn { state, usage, cancelled_by, ended, ..turn(&id, "other") };
            Op::MoveTurn { turn, from: TURN_STATES[..3].to_vec() }
        }
        16 if how & 1 == 0 => Op::AddApproval(approval(&sprite_uid, &(how / 32).to_string())),
        16 => Op::ResolveApproval {
            sprite_uid,
            run: 1,
            request: (how / 32).to_string(),
            state: ApprovalState::Allowed,
            by: "somebody".to_owned(),
            user: None,
            grant: None,
            message: String::new(),
            answers: std::iter::once((how.to_string(), "yes".to_owned())).collect(),
        },
        17 => {
            let id = format!("d{which}");
            let there = memory.delivery(&id).await.unwrap().unwrap_or_else(|| delivery(&id));
            let state = if how % 8 == 0 { DeliveryState::Done } else { DeliveryState::Open };
            let version = there.version + u64::from(how == 255);
            Op::Delivery(Delivery { hash: (how / 64).to_string(), state, version, ..there })
        }
        18 => Op::Event {
            kind,
            name,
            uid,
            warning: how & 1 == 0,
            reason: (how / 64).to_string(),
            note: "note".to_owned(),
        },
        19 if how & 1 == 0 => Op::AddGrant(Grant {
            id: (how / 64).to_string(),
            agent_uid: uid,
            tool: "Bash".to_owned(),
            rule: how.to_string(),
            by: "somebody".to_owned(),
            user: None,
            created: at(u64::from(how)),
        }),
        19 => Op::RevokeGrant { agent_uid: uid, id: (how / 64).to_string() },
        20 | 21 => {
            let access = Access {
                principal: Principal::user("slack", format!("U{which}")),
                role: Role::ALL[usize::from(how % 4)],
                name: String::new(),
                by: "somebody".to_owned(),
                pairing: None,
                created: at(0),
                token: None,
            };
            match how / 64 {
                0 => Op::Expel(access.principal),
                1 if how & 8 == 0 => Op::StillAdmitted(access),
                1 => Op::StillStranger(access.principal),
                _ => Op::Admit(access),
            }
        }
        22 | 23 if how & 1 == 0 => Op::ClosePairing { code: format!("C{which}") },
        22 | 23 => Op::OpenPairing(Pairing {
            code: format!("C{which}"),
            principal: Principal::user("slack", format!("U{}", how / 64)),
            name,
            conversation: delivery("d").conversation,
            created: at(u64::from(how)),
            expires: at(u64::from(how) * 600),
        }),
        24 => Op::Audit(AuditRow {
            n: 0,
            at: at(u64::from(how)),
            who: uid,
            name,
            place: String::new(),
            what: how.to_string(),
            outcome: Outcome::Allowed,
        }),
        25 => Op::Place(Place {
            platform: "teams".to_owned(),
            channel: format!("c{which}"),
            facts: json!({"serviceUrl": how.to_string()}),
        }),
        _ => Op::Backoff(BackoffRow {
            controller: kind.name().to_owned(),
            name,
            failures: u32::from(how % 3),
            not_before: at(u64::from(how)),
            class: "Transient".to_owned(),
        }),
    }
}

fn template(which: u8) -> AnyObject {
    match which {
        0 => job("j"),
        1 => agent("a"),
        2 => sprite("s2", &job("j")),
        _ => with_finalizers(&sprite("s3", &job("j")), &[]),
    }
}

struct Both {
    memory: Arc<MemoryStore>,
    sqlite: Arc<SqliteStore>,
    /// What the memory store has done and SQLite has not, with the answers.
    behind: Vec<(Transaction, Result<Applied, Error>)>,
    seconds: u64,
}

impl Both {
    async fn step(&mut self, step: Step, dir: &Path) {
        self.seconds += 1;
        match step {
            Step::Transaction { alone, ops: numbers } => {
                if alone {
                    self.catch_up().await;
                }
                let mut ops = Vec::new();
                for numbers in numbers {
                    ops.push(op(&self.memory, numbers).await);
                }
                let transaction = tx(self.seconds, ops);
                let answer = self.memory.apply(transaction.clone()).await;
                self.behind.push((transaction, answer));
            }
            Step::Compact(hours) => {
                self.catch_up().await;
                self.seconds += u64::from(hours) * 3600;
                self.memory.compact(at(self.seconds)).await.unwrap();
                self.sqlite.compact(at(self.seconds)).await.unwrap();
            }
            Step::Reopen => {
                self.catch_up().await;
                self.sqlite.close().await;
                self.sqlite = SqliteStore::open(dir, Ambient::real()).await.unwrap();
            }
        }
    }

    /// Does in SQLite what it lacks, all at once: they queue up in order.
    async fn catch_up(&mut self) {
        let behind = std::mem::take(&mut self.behind);
        let applies = behind.iter().map(|(it, _)| self.sqlite.apply(it.clone()));
        let answers = futures::future::join_all(applies).await;
        for ((transaction, expected), answer) in behind.iter().zip(answers) {
            assert_eq!(answer, *expected, "{transaction:#?}");
        }
        assert_eq!(everything(&*self.sqlite).await, everything(&*self.memory).await);
    }
}

/// All that can be read, as text.
async fn everything(store: &dyn Store) -> Vec<String> {
    let mut all = vec![
        format!("{:?}", store.revision().await),
        format!("{:?}", store.changes(0, usize::MAX).await),
        format!("{:?}", store.open_deliveries().await),
        format!("{:?}", store.backoffs().await),
    ];
    for kind in Kind::ALL {
        all.push(format!("{:?}", store.list(kind, None, usize::MAX).await));
        all.push(format!("{:?}", store.list_owned(kind, "uid-j").await));
    }
    for which in 0..4 {
        all.push(format!("{:?}", store.place("teams", &format!("c{which}")).await));
    }
    for n in 0..32 {
        all.push(format!("{:?}", store.receipt(&format!("r{n}")).await));
    }
    for uid in ["uid-j", "uid-a", "uid-s0", "uid-s1", "uid-s2", "uid-s3"] {
        all.push(format!("{uid}: {:?}", store.held(uid, None).await));
        all.push(format!("{:?}", store.held(uid, Some(1)).await));
        all.push(format!("{:?}", store.output(uid, Cursor::default(), usize::MAX).await));
        all.push(format!("{:?}", store.output(uid, Cursor { run: 1, seq: 2 }, 150).await));
        all.push(format!("{:?}", store.inbox(uid, 0).await));
        all.push(format!("{:?}", store.inbox_acked(uid).await));
        all.push(format!("{:?}", store.turns(uid, 0, 100).await));
        all.push(format!("{:?}", store.open_turns(uid).await));
        all.push(format!("{:?}", store.last_turns(uid, 3).await));
        all.push(format!("{:?}", store.turn_sums(uid).await));
        all.push(format!("{:?}", store.grants(uid).await));
        all.push(format!("{:?}", store.access().await));
        all.push(format!("{:?}", store.pairings().await));
        all.push(format!("{:?}", store.audit(None, 999).await));
        all.push(format!("{:?}", store.approvals(uid).await));
        all.push(format!("{:?}", store.events(uid).await));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_sqlite_never_differ(steps in prop::collection::vec(step(), 1..60)) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let sqlite = SqliteStore::open(dir.path(), Ambient::real()).await.unwrap();
            let memory = MemoryStore::new();
            let mut both = Both { memory, sqlite, behind: Vec::new(), seconds: 0 };
            for step in steps {
                both.step(step, dir.path()).await;
            }
            both.catch_up().await;
            both.sqlite.close().await;
        });
    }
}
