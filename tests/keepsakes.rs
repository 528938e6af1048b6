//! What an owner that is gone left behind: it goes, unless it holds work; that stays, and a person is
//! told of it once, whatever crash, error or lost answer comes between.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Fault, ManualClock, Mode, ScriptedSteps, SeededIds, Steps},
    reconcile::{self, Controller, Next, Wake, controllers::KeepsakeController},
    resource::{
        Agent, AgentCli, AgentSpec, AnyObject, CommandCli, Kind, OwnerReference, Permissions,
        RuntimeSpec, Sprite, SpriteSpec,
    },
    runtime::{Cleaned, Error, Observed, Runtime},
    store::{
        Change, ChangeKind, Conversation, Op, Store, Subject, Transaction, Turn,
        memory::MemoryStore,
    },
};
use tokio::sync::mpsc;

const HOUR: Next = Next::After(Duration::from_secs(3600));

/// What lies there of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nothing that anybody needs.
    Chaff,
    /// Work that stands nowhere else.
    Work,
    /// Chaff that cannot be removed just now.
    Stuck,
    /// Chaff that will never be removed.
    Rooted,
}

/// A runtime that keeps things.
#[derive(Default)]
struct Shed {
    left: Mutex<BTreeMap<String, Left>>,
    /// The owners of whom it was asked to discard what they left.
    asked: Mutex<Vec<String>>,
    /// Whether something is there that those who are gone shared.
    shared: Mutex<bool>,
    /// Somebody who comes in while it looks.
    newcomer: Mutex<Option<(Arc<dyn Store>, Agent)>>,
}

impl Shed {
    fn with(left: &[(&str, Left)]) -> Arc<Self> {
        let left = left.iter().map(|(uid, left)| ((*uid).to_owned(), *left)).collect();
        Arc::new(Self { left: Mutex::new(left), shared: Mutex::new(true), ..Self::default() })
    }

    fn left(&self) -> MutexGuard<'_, BTreeMap<String, Left>> {
        self.left.lock().unwrap()
    }

    fn uids(&self) -> Vec<String> {
        self.left().keys().cloned().collect()
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Runtime for Shed {
    fn name(&self) -> &'static str {
        "shed"
    }

    fn capacity(&self) -> usize {
        0
    }

    async fn observe(&self, _: &Sprite) -> Result<Observed, Error> {
        Ok(Observed::Absent)
    }

    async fn start(&self, _: &Sprite, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn recover(&self, _: &Sprite, _: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn kill(&self, _: &Sprite) -> Result<(), Error> {
        Ok(())
    }

    async fn clean(&self, _: &Sprite) -> Result<Cleaned, Error> {
        Ok(Cleaned::All)
    }

    async fn keeps(&self) -> Result<Vec<String>, Error> {
        let newcomer = self.newcomer.lock().unwrap().take();
        if let Some((store, agent)) = newcomer {
            // Whoever has a directory stood in the store before.
            let uid = agent.metadata.uid.clone();
            create(&store, agent).await;
            self.left().insert(uid, Left::Chaff);
        }
        Ok(self.uids())
    }

    async fn discard(&self, uid: &str) -> Result<Cleaned, Error> {
        self.asked.lock().unwrap().push(uid.to_owned());
        let mut left = self.left();
        match left.get(uid) {
            Some(Left::Work) => {
                let branch = Some("open-dispatch/bot".to_owned());
                Ok(Cleaned::KeptWork { path: format!("/shed/{uid}"), branch })
            }
            Some(Left::Stuck) => Err(Error::Transient("it is busy".to_owned())),
            Some(Left::Rooted) => Err(Error::Terminal("it is not ours".to_owned())),
            Some(Left::Chaff) | None => {
                left.remove(uid);
                Ok(Cleaned::All)
            }
        }
    }

    async fn sweep(&self) -> Result<(), Error> {
        *self.shared.lock().unwrap() = false;
        Ok(())
    }

    fn wakes(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        None
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn agent(name: &str) -> Agent {
    let spec = AgentSpec {
        agent: AgentCli::Command(CommandCli::default()),
        runtime: RuntimeSpec::default(),
        repo: None,
        channels: Vec::new(),
        instructions: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        suspend: false,
        idle_timeout: None,
        turn_timeout: None,
        budget: None,
    };
    let mut agent = Agent::new(name, spec);
    agent.metadata.uid = name.to_owned();
    agent
}

/// A Sprite of an owner.
fn sprite_of(owner: &str) -> Sprite {
    let spec = SpriteSpec {
        agent: AgentCli::Command(CommandCli::default()),
        runtime: RuntimeSpec::default(),
        task: None,
        repo: None,
        instructions: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        timeout: None,
        idle_timeout: None,
        session: None,
        attempt: 1,
        running: true,
        run: 1,
        stop: None,
    };
    let mut sprite = Sprite::new(format!("{owner}-1"), spec);
    sprite.metadata.uid = format!("{owner}-1");
    sprite.metadata.owner_references = vec![OwnerReference {
        api_version: String::new(),
        kind: Kind::Agent,
        name: owner.to_owned(),
        uid: owner.to_owned(),
        controller: true,
    }];
    sprite
}

async fn create(store: &Arc<dyn Store>, object: impl Into<AnyObject>) {
    store.apply(Transaction::at(now()).with(Op::Create(object.into()))).await.unwrap();
}

/// Somebody spoke to an agent, there.
async fn said(store: &Arc<dyn Store>, agent_uid: &str, channel: Option<&str>) {
    let turn = Turn::queued(format!("{agent_uid} {channel:?}"), agent_uid, "go", "ann", now());
    let conversation = channel.map(|channel| Conversation {
        platform: "console".to_owned(),
        channel: channel.to_owned(),
        thread: None,
    });
    let op = Op::AddTurn(Turn { conversation, ..turn });
    store.apply(Transaction::at(now()).with(op)).await.unwrap();
}

/// What people were told, with where.
async fn told(store: &Arc<dyn Store>) -> Vec<(String, String)> {
    let deliveries = store.open_deliveries().await.unwrap();
    let told = deliveries.into_iter().map(|delivery| match delivery.subject {
        Subject::Notice { text } => (delivery.conversation.channel, text),
        other => panic!("{other:?} is no notice"),
    });
    told.collect()
}

fn controller(
    store: &Arc<dyn Store>,
    shed: &Arc<Shed>,
    steps: Option<Arc<ScriptedSteps>>,
) -> KeepsakeController {
    let clock = Arc::new(ManualClock::at(now()));
    let steps: Arc<dyn Steps> = steps.unwrap_or_else(|| Arc::new(ScriptedSteps::new(None)));
    let ambient = Ambient { clock, ids: Arc::new(SeededIds::new(1)), steps };
    KeepsakeController::new(store.clone(), ambient, vec![shed.clone() as _])
}

fn memory() -> Arc<dyn Store> {
    MemoryStore::new()
}

/// Somebody is there, somebody's sprite is; the others are gone.
async fn world() -> (Arc<dyn Store>, Arc<Shed>) {
    let store = memory();
    create(&store, agent("there")).await;
    create(&store, sprite_of("leaving")).await;
    said(&store, "worker", Some("old")).await;
    said(&store, "worker", Some("main")).await;
    said(&store, "worker", None).await;
    let shed = Shed::with(&[
        ("gone", Left::Chaff),
        ("leaving", Left::Chaff),
        ("nobody", Left::Work),
        ("there", Left::Chaff),
        ("worker", Left::Work),
        ("zero", Left::Chaff),
    ]);
    (store, shed)
}

/// Reconciles until it rests; after a crash with a new process.
async fn settle(store: &Arc<dyn Store>, shed: &Arc<Shed>, steps: &Arc<ScriptedSteps>) {
    let mut keeper = controller(store, shed, Some(steps.clone()));
    for _ in 0..10 {
        match keeper.reconcile("shed").await {
            Ok(next) => return assert_eq!(next, HOUR),
            Err(reconcile::Error::Fault(Fault::Crash(_))) => {
                keeper = controller(store, shed, Some(steps.clone()));
            }
            Err(_) => {}
        }
    }
    panic!("it never came to rest");
}

async fn assert_settled(store: &Arc<dyn Store>, shed: &Arc<Shed>, what: &str) {
    assert_eq!(shed.uids(), ["leaving", "nobody", "there", "worker"], "{what}");
    assert!(!*shed.shared.lock().unwrap(), "{what}: it was not swept");
    let mine = |uid: &String| ["there", "leaving"].contains(&uid.as_str());
    assert!(!shed.asked().iter().any(mine), "{what}: it was asked for what is somebody's");
    let told = told(store).await;
    let [(channel, text)] = told.as_slice() else { panic!("{what}: {told:?}") };
    assert_eq!(channel, "main", "{what}");
    for part in ["/shed/worker", "open-dispatch/bot", "nowhere else"] {
        assert!(text.contains(part), "{what}: {text}");
    }
}

#[tokio::test]
async fn what_nobody_owns_goes_and_work_stays_and_is_told_where_its_owner_was_spoken_to() {
    let (store, shed) = world().await;
    settle(&store, &shed, &Arc::new(ScriptedSteps::new(None))).await;
    assert_settled(&store, &shed, "at first").await;
    let writes = store.writes();
    let keeper = controller(&store, &shed, None);
    for _ in 0..2 {
        assert_eq!(keeper.reconcile("shed").await, Ok(HOUR));
    }
    assert_eq!(store.writes(), writes, "a settled world is not written to, by no process");
    assert_settled(&store, &shed, "and later").await;
    insta::assert_snapshot!(told(&store).await[0].1);
    // Somebody merged it.
    shed.left().insert("worker".to_owned(), Left::Chaff);
    assert_eq!(keeper.reconcile("shed").await, Ok(HOUR));
    assert!(!shed.uids().contains(&"worker".to_owned()));
}

#[tokio::test]
async fn crash_error_or_a_lost_answer_at_each_step_ends_in_the_same_state() {
    let (store, shed) = world().await;
    let dry = Arc::new(ScriptedSteps::new(None));
    settle(&store, &shed, &dry).await;
    let steps = dry.passed();
    let discard = "keepsake.discard";
    assert_eq!(steps, [discard, discard, discard, "keepsake.tell", discard, "keepsake.sweep"]);
    for (n, step) in steps.iter().enumerate() {
        for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
            let (store, shed) = world().await;
            let faulty = Arc::new(ScriptedSteps::new(Some((n, mode))));
            settle(&store, &shed, &faulty).await;
            assert!(faulty.has_fired(), "{n} {mode:?}");
            assert_settled(&store, &shed, &format!("{mode:?} at {n}, {step}")).await;
        }
    }
}

#[tokio::test]
async fn whoever_comes_in_while_it_is_looked_keeps_what_is_theirs() {
    let (store, shed) = (memory(), Shed::with(&[("gone", Left::Chaff)]));
    *shed.newcomer.lock().unwrap() = Some((store.clone(), agent("new")));
    assert_eq!(controller(&store, &shed, None).reconcile("shed").await, Ok(HOUR));
    assert_eq!(shed.uids(), ["new"]);
}

#[tokio::test]
async fn what_does_not_go_holds_up_nothing_else() {
    let left = [("a", Left::Rooted), ("b", Left::Stuck), ("c", Left::Chaff), ("d", Left::Work)];
    let (store, shed) = (memory(), Shed::with(&left));
    said(&store, "d", Some("main")).await;
    let keeper = controller(&store, &shed, None);
    let error = keeper.reconcile("shed").await.unwrap_err();
    assert!(matches!(error, reconcile::Error::Transient(_)), "it is tried again: {error}");
    assert!(!*shed.shared.lock().unwrap(), "nor does it hold up what was shared");
    assert_eq!(shed.uids(), ["a", "b", "d"]);
    assert_eq!(told(&store).await.len(), 1);
    shed.left().insert("b".to_owned(), Left::Chaff);
    assert_eq!(keeper.reconcile("shed").await, Ok(HOUR), "and what never goes is left alone");
    assert_eq!(shed.uids(), ["a", "d"]);
}

#[tokio::test]
async fn what_was_shared_goes_even_where_nobody_left_anything_else() {
    let (store, shed) = (memory(), Shed::with(&[]));
    assert_eq!(controller(&store, &shed, None).reconcile("shed").await, Ok(HOUR));
    assert!(!*shed.shared.lock().unwrap());
}

#[tokio::test]
async fn it_is_looked_after_whoever_goes_and_at_the_start() {
    let (store, shed) = world().await;
    let keeper = controller(&store, &shed, None);
    assert_eq!(keeper.keys().await, Ok(vec![("shed".to_owned(), Wake::Timer)]));
    let change = |kind, object: AnyObject| {
        keeper.concerns(&Change { kind, object, revision: 9, desired: true })
    };
    let woken = vec![("shed".to_owned(), Wake::Observation)];
    assert_eq!(change(ChangeKind::Deleted, agent("x").into()), woken);
    assert_eq!(change(ChangeKind::Deleted, sprite_of("x").into()), woken);
    assert_eq!(change(ChangeKind::Modified, agent("x").into()), []);
}
