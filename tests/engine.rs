//! What the engine promises its controllers, on a clock that stands still unless it is moved.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock, FreeSteps, Ids, ManualClock, SeededIds, later},
    reconcile::{
        Controller, Engine, EngineHandle, Error, Next, Stats, Wake,
        queue::{BACKOFF_BASE, BACKOFF_CAP},
    },
    resource::{AgentCli, CommandCli, Job, JobSpec, Kind},
    store::{BackoffRow, Bell, Change, Op, Store, Transaction, memory::MemoryStore},
};
use sprite_reporter::wire::{Event, EventBody};
use tokio::sync::Notify;

type Behaviour = Box<dyn Fn(String) -> BoxFuture<'static, Result<Next, Error>> + Send + Sync>;

/// A controller that does as it is told, and writes down which keys it ran.
struct Probe {
    name: &'static str,
    workers: usize,
    keys: Vec<(&'static str, Wake)>,
    behaviour: Behaviour,
    ran: Mutex<Vec<String>>,
}

impl Probe {
    fn new<F>(name: &'static str, behaviour: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Next, Error>> + Send + 'static,
    {
        let behaviour: Behaviour = Box::new(move |key| Box::pin(behaviour(key)));
        Self { name, workers: 2, keys: Vec::new(), behaviour, ran: Mutex::default() }
    }

    fn ran(&self) -> Vec<String> {
        self.ran.lock().expect("no run panics with the lock").clone()
    }
}

#[async_trait]
impl Controller for Probe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        assert_ne!(change.object.metadata().name, "unheard-of", "this panic is wanted");
        vec![(change.object.metadata().name.clone(), Wake::User)]
    }

    fn hears(&self, bell: &Bell) -> Vec<(String, Wake)> {
        match bell {
            Bell::Inbox(uid) => vec![(uid.clone(), Wake::Observation)],
            _ => Vec::new(),
        }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        Ok(self.keys.iter().map(|(key, wake)| ((*key).to_owned(), *wake)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        self.ran.lock().expect("no run panics with the lock").push(key.to_owned());
        (self.behaviour)(key.to_owned()).await
    }
}

struct Bench {
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().expect("a time")));
        Self { clock, store: MemoryStore::new() }
    }

    async fn start(&self, probes: &[&Arc<Probe>]) -> EngineHandle {
        self.start_with(probes, Arc::new(SeededIds::new(1))).await
    }

    async fn start_with(&self, probes: &[&Arc<Probe>], ids: Arc<dyn Ids>) -> EngineHandle {
        let ambient = Ambient { clock: self.clock.clone(), ids, steps: Arc::new(FreeSteps) };
        let mut engine = Engine::new(self.store.clone(), ambient);
        for probe in probes {
            engine.add(Arc::clone(probe) as Arc<dyn Controller>);
        }
        engine.start().await.expect("the engine starts")
    }

    async fn apply(&self, op: Op) {
        let applied = self.store.apply(Transaction::at(self.clock.now()).with(op)).await;
        applied.expect("the store takes it");
    }

    /// Moves the clock from timer to timer for so long.
    async fn pass(&self, engine: &EngineHandle, length: Duration) {
        let end = later(self.clock.now(), length);
        engine.idle().await;
        while let Some(next) = engine.next_timer() {
            if later(self.clock.now(), next) > end {
                break;
            }
            self.clock.advance(next.max(Duration::from_millis(1)));
            engine.idle().await;
        }
        self.clock.advance(open_dispatch::ambient::between(self.clock.now(), end));
        engine.idle().await;
    }
}

fn stats(engine: &EngineHandle, name: &str) -> Stats {
    let all = engine.stats();
    all.into_iter().find(|(other, _)| *other == name).expect("the controller is there").1
}

fn job(name: &str) -> Op {
    let spec = JobSpec::new("true", AgentCli::Command(CommandCli::default()));
    let mut job = Job::new(name, spec);
    job.metadata.uid = format!("uid of {name}");
    Op::Create(job.into())
}

fn order(uid: &str, key: usize) -> Op {
    Op::Order {
        run: 1,
        sprite_uid: uid.to_owned(),
        key: key.to_string(),
        order: sprite_reporter::wire::Order::Sleep {},
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_commit_wakes_the_keys_that_it_concerns() {
    let bench = Bench::new();
    let probe = Arc::new(Probe::new("probe", |_| async { Ok(Next::Done) }));
    let engine = bench.start(&[&probe]).await;
    bench.apply(job("a")).await;
    bench.apply(order("b", 1)).await;
    engine.idle().await;
    assert_eq!(probe.ran(), ["a", "b"]);
}

#[tokio::test]
async fn what_matters_most_comes_first_after_a_start() {
    let bench = Bench::new();
    let mut probe = Probe::new("probe", |_| async { Ok(Next::Done) });
    probe.workers = 1;
    probe.keys = vec![
        ("deleting", Wake::User),
        ("changed", Wake::User),
        ("working", Wake::Observation),
        ("rest", Wake::Timer),
    ];
    let probe = Arc::new(probe);
    let engine = bench.start(&[&probe]).await;
    engine.idle().await;
    assert_eq!(probe.ran(), ["deleting", "changed", "working", "rest"]);
}

#[tokio::test]
async fn a_panic_is_its_keys_failure_and_nobody_elses() {
    let bench = Bench::new();
    let probe = Arc::new(Probe::new("probe", |key| async move {
        assert_ne!(key, "bad", "this panic is wanted");
        Ok(Next::Done)
    }));
    let engine = bench.start(&[&probe]).await;
    bench.apply(job("bad")).await;
    bench.apply(job("good")).await;
    bench.pass(&engine, 10 * SECOND).await;
    let ran = probe.ran();
    assert_eq!(ran.iter().filter(|key| *key == "good").count(), 1);
    assert!(ran.iter().filter(|key| *key == "bad").count() > 1, "it is tried again");
    let stats = stats(&engine, "probe");
    assert_eq!(stats.panics, stats.failures);
    assert!(stats.panics > 1);
}

#[tokio::test]
async fn a_panic_over_news_deafens_nobody() {
    let bench = Bench::new();
    let probe = Arc::new(Probe::new("probe", |_| async { Ok(Next::Done) }));
    let engine = bench.start(&[&probe]).await;
    bench.apply(job("unheard-of")).await;
    engine.idle().await;
    bench.apply(job("good")).await;
    engine.idle().await;
    assert_eq!(probe.ran(), ["good"]);
    assert_eq!(stats(&engine, "probe").panics, 1);
}

#[tokio::test]
async fn a_reconcile_without_end_fails_at_its_deadline_and_its_worker_lives_on() {
    let bench = Bench::new();
    let mut probe = Probe::new("probe", |key| async move {
        if key == "slow" {
            std::future::pending::<()>().await;
        }
        Ok(Next::Done)
    });
    probe.workers = 1;
    let probe = Arc::new(probe);
    let engine = bench.start(&[&probe]).await;
    bench.apply(job("slow")).await;
    bench.apply(job("quick")).await;
    while probe.ran().is_empty() {
        tokio::task::yield_now().await;
    }
    bench.clock.advance(120 * SECOND);
    while probe.ran().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stats(&engine, "probe").timeouts, 1);
    assert_eq!(probe.ran(), ["slow", "quick"]);
}

#[tokio::test]
async fn a_controller_that_hangs_holds_up_no_other() {
    let bench = Bench::new();
    let hung = Arc::new(Probe::new("hung", |_| std::future::pending()));
    let well = Arc::new(Probe::new("well", |_| async { Ok(Next::Done) }));
    let _engine = bench.start(&[&hung, &well]).await;
    for name in ["a", "b", "c", "d"] {
        bench.apply(job(name)).await;
    }
    while well.ran().len() < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(hung.ran().len(), 2, "no more than its workers");
}

#[tokio::test]
async fn one_key_never_runs_twice_at_a_time() {
    let bench = Bench::new();
    let live = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (inner_live, inner_most) = (live.clone(), most.clone());
    let mut probe = Probe::new("probe", move |_| {
        let (live, most) = (inner_live.clone(), inner_most.clone());
        async move {
            most.fetch_max(live.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            live.fetch_sub(1, Ordering::SeqCst);
            Ok(Next::Done)
        }
    });
    probe.workers = 8;
    let probe = Arc::new(probe);
    let engine = bench.start(&[&probe]).await;
    for n in 0..100 {
        engine.wake("probe", "a", Wake::User);
        if n % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    engine.idle().await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert!(probe.ran().len() > 1, "what is woken while it runs runs again");
}

#[tokio::test]
async fn keys_of_one_controller_run_side_by_side_up_to_its_workers() {
    let bench = Bench::new();
    let gate = Arc::new(Notify::new());
    let inner = gate.clone();
    let mut probe = Probe::new("probe", move |_| {
        let gate = inner.clone();
        async move {
            gate.notified().await;
            Ok(Next::Done)
        }
    });
    probe.workers = 3;
    let probe = Arc::new(probe);
    let engine = bench.start(&[&probe]).await;
    for name in ["a", "b", "c", "d", "e"] {
        bench.apply(job(name)).await;
    }
    while probe.ran().len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stats(&engine, "probe").running, 3);
    assert_eq!(stats(&engine, "probe").ready, 2);
}

#[tokio::test]
async fn a_long_backoff_is_kept_over_a_restart_and_forgotten_after_a_success() {
    let bench = Bench::new();
    let failing = Arc::new(Probe::new("probe", |_| async {
        Err::<Next, _>(Error::Transient("the machine is busy".to_owned()))
    }));
    let engine = bench.start(&[&failing]).await;
    bench.apply(job("a")).await;
    bench.pass(&engine, 60 * SECOND).await;
    drop(engine);
    let rows = bench.store.backoffs().await.expect("readable");
    let [BackoffRow { name, failures, not_before, .. }] = &rows[..] else {
        panic!("one backoff is kept: {rows:?}");
    };
    assert_eq!((name.as_str(), *failures), ("a", u32::try_from(failing.ran().len()).expect("few")));

    let mut well = Probe::new("probe", |_| async { Ok(Next::Done) });
    well.keys = vec![("a", Wake::User)];
    let well = Arc::new(well);
    let engine = bench.start(&[&well]).await;
    engine.idle().await;
    assert_eq!(well.ran(), Vec::<String>::new(), "the restart does not shorten the backoff");
    let wait = open_dispatch::ambient::between(bench.clock.now(), *not_before);
    bench.pass(&engine, wait + SECOND).await;
    assert_eq!(well.ran(), ["a"]);
    assert_eq!(bench.store.backoffs().await.expect("readable"), []);
}

#[tokio::test]
async fn a_person_ends_a_backoff_and_an_observation_does_not() {
    let bench = Bench::new();
    let probe = Arc::new(Probe::new("probe", |_| async {
        Err::<Next, _>(Error::Transient("no".to_owned()))
    }));
    let engine = bench.start(&[&probe]).await;
    engine.wake("probe", "a", Wake::Observation);
    engine.idle().await;
    for _ in 0..10 {
        engine.wake("probe", "a", Wake::Observation);
        engine.idle().await;
    }
    assert_eq!(probe.ran().len(), 1);
    engine.wake("probe", "a", Wake::User);
    engine.idle().await;
    assert_eq!(probe.ran().len(), 2);
}

/// Chance that is always the same, so that a schedule can be told beforehand.
struct Half;

impl Ids for Half {
    fn uid(&self) -> String {
        "uid".to_owned()
    }

    fn suffix(&self) -> String {
        "suffi".to_owned()
    }

    fn unit(&self) -> f64 {
        0.5
    }
}

#[tokio::test]
async fn a_storm_of_events_neither_hastens_nor_delays_a_thousand_failing_keys() {
    const KEYS: usize = 1000;
    const LENGTH: Duration = Duration::from_secs(600);
    const EVERY: Duration = Duration::from_millis(10);

    let bench = Bench::new();
    let ran: Arc<Mutex<BTreeMap<String, Vec<Duration>>>> = Arc::default();
    let (inner, clock) = (ran.clone(), bench.clock.clone());
    let mut probe = Probe::new("probe", move |key| {
        inner.lock().expect("no panic").entry(key).or_default().push(clock.elapsed());
        async { Err::<Next, _>(Error::Transient("no".to_owned())) }
    });
    // The resync wakes them, too.
    let names: Vec<&str> = (0..KEYS).map(|n| &*format!("k{n}").leak()).collect();
    probe.keys = names.iter().map(|name| (*name, Wake::Observation)).collect();
    let probe = Arc::new(probe);
    let engine = bench.start_with(&[&probe], Arc::new(Half)).await;
    engine.idle().await;

    let mut events = 0;
    while bench.clock.elapsed() < LENGTH {
        let now = bench.clock.elapsed();
        if now >= EVERY * events {
            let key = names[events as usize * 7 % KEYS];
            let wake = if events % 2 == 0 { Wake::Observation } else { Wake::Timer };
            engine.wake("probe", key, wake);
            bench.apply(order(key, events as usize)).await;
            events += 1;
        }
        let timer = engine.next_timer().unwrap_or(EVERY);
        let event = (EVERY * events).saturating_sub(now);
        bench.clock.advance(timer.min(event).max(Duration::from_nanos(1)));
        engine.idle().await;
    }

    let (mut due, mut ceiling, mut schedule) = (Duration::ZERO, BACKOFF_BASE, Vec::new());
    while due <= LENGTH {
        schedule.push(due);
        due += ceiling.mul_f64(0.5);
        ceiling = (ceiling * 2).min(BACKOFF_CAP);
    }
    assert!(events >= 60_000);
    assert_eq!(schedule.len(), 13);
    let ran = ran.lock().expect("no panic");
    assert_eq!(ran.len(), KEYS);
    for (key, times) in ran.iter() {
        assert_eq!(*times, schedule, "{key}");
    }
}

#[tokio::test]
async fn a_conflict_runs_again_at_once_and_writes_nothing() {
    let bench = Bench::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let inner = tries.clone();
    let probe = Arc::new(Probe::new("probe", move |_| {
        let tried = inner.fetch_add(1, Ordering::SeqCst);
        async move { if tried < 5 { Err(Error::Conflict) } else { Ok(Next::Done) } }
    }));
    let engine = bench.start(&[&probe]).await;
    engine.wake("probe", "a", Wake::Observation);
    engine.idle().await;
    assert_eq!(tries.load(Ordering::SeqCst), 6);
    assert_eq!((stats(&engine, "probe").conflicts, stats(&engine, "probe").failures), (5, 0));
    assert_eq!(bench.store.writes(), 0);
}

#[tokio::test]
async fn what_is_terminal_rests_and_who_is_asked_to_wait_waits() {
    let bench = Bench::new();
    let probe = Arc::new(Probe::new("probe", |key| async move {
        match key.as_str() {
            "terminal" => Err::<Next, _>(Error::Terminal("no such thing".to_owned())),
            _ => Err(Error::RateLimited(7 * SECOND)),
        }
    }));
    let engine = bench.start(&[&probe]).await;
    engine.wake("probe", "terminal", Wake::User);
    engine.wake("probe", "limited", Wake::User);
    bench.pass(&engine, 10 * SECOND).await;
    assert_eq!(probe.ran(), ["terminal", "limited", "limited"]);
}

#[tokio::test]
async fn a_missed_bell_costs_time_and_never_truth() {
    let bench = Bench::new();
    let mut probe = Probe::new("probe", |_| async { Ok(Next::Done) });
    probe.keys = vec![("known", Wake::User)];
    let probe = Arc::new(probe);
    let engine = bench.start(&[&probe]).await;
    engine.idle().await;
    // Nobody else runs until the first await that waits, so the feed cannot keep up.
    for n in 0..5000 {
        bench.apply(order("b", n)).await;
    }
    bench.apply(job("late")).await;
    engine.idle().await;
    let ran = probe.ran();
    assert_eq!(ran.iter().filter(|key| *key == "known").count(), 2, "all keys are read again");
    assert!(ran.contains(&"late".to_owned()), "no change is lost");
}

#[tokio::test]
async fn all_keys_are_looked_at_again_now_and_then() {
    let bench = Bench::new();
    let mut probe = Probe::new("probe", |_| async { Ok(Next::Done) });
    probe.keys = vec![("a", Wake::User)];
    let probe = Arc::new(probe);
    let engine = bench.start(&[&probe]).await;
    engine.idle().await;
    bench.clock.advance(331 * SECOND);
    while probe.ran().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(probe.ran(), ["a", "a"]);
}

#[tokio::test]
async fn stopping_waits_for_the_runs_under_way_and_begins_no_other() {
    let bench = Bench::new();
    let gate = Arc::new(Notify::new());
    let done = Arc::new(AtomicUsize::new(0));
    let (inner_gate, inner_done) = (gate.clone(), done.clone());
    let mut probe = Probe::new("probe", move |_| {
        let (gate, done) = (inner_gate.clone(), inner_done.clone());
        async move {
            gate.notified().await;
            done.fetch_add(1, Ordering::SeqCst);
            Ok(Next::Done)
        }
    });
    probe.workers = 1;
    let probe = Arc::new(probe);
    let engine = bench.start(&[&probe]).await;
    engine.wake("probe", "a", Wake::User);
    engine.wake("probe", "b", Wake::User);
    while probe.ran().is_empty() {
        tokio::task::yield_now().await;
    }
    let stop = tokio::spawn(engine.stop());
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!stop.is_finished(), "a still runs");
    gate.notify_one();
    stop.await.expect("the engine stops");
    assert_eq!((probe.ran().len(), done.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn output_that_concerns_nobody_wakes_nobody() {
    let bench = Bench::new();
    let probe = Arc::new(Probe::new("probe", |_| async { Ok(Next::Done) }));
    let engine = bench.start(&[&probe]).await;
    let event = Event { seq: 1, at: Timestamp::UNIX_EPOCH, body: EventBody::Ready {} };
    bench.apply(Op::Output { sprite_uid: "s".to_owned(), run: 1, events: vec![event] }).await;
    engine.idle().await;
    assert_eq!(probe.ran(), Vec::<String>::new());
    assert_eq!(bench.store.list(Kind::Job, None, 1).await.expect("readable").items, []);
}

/// A clock over a machine that sleeps: the wall clock goes on, and what is measured stands.
struct Sleepy {
    measured: ManualClock,
    slept: Mutex<Duration>,
}

#[async_trait]
impl Clock for Sleepy {
    fn now(&self) -> Timestamp {
        later(self.measured.now(), *self.slept.lock().expect("nobody panics with the lock"))
    }

    fn elapsed(&self) -> Duration {
        self.measured.elapsed()
    }

    async fn sleep(&self, length: Duration) {
        self.measured.sleep(length).await;
    }
}

#[tokio::test]
async fn what_is_due_by_the_wall_is_due_although_the_machine_slept() {
    let one = "2026-01-01T01:00:00Z".parse::<Timestamp>().expect("a time");
    let nine = later(one, Duration::from_secs(8 * 3600));
    let measured = ManualClock::at(one);
    let clock = Arc::new(Sleepy { measured, slept: Mutex::default() });
    let began = Arc::new(Mutex::new(Vec::new()));
    let (by, at) = (Arc::clone(&clock), Arc::clone(&began));
    let mut probe = Probe::new("probe", move |_| {
        let now = by.now();
        let left = open_dispatch::ambient::between(now, nine);
        if left.is_zero() {
            at.lock().expect("nobody panics with the lock").push(now);
        }
        async move { Ok(if left.is_zero() { Next::Done } else { Next::After(left) }) }
    });
    probe.keys = vec![("schedule", Wake::Observation)];
    let ambient = Ambient {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        ids: Arc::new(SeededIds::new(1)),
        steps: Arc::new(FreeSteps),
    };
    let mut engine = Engine::new(MemoryStore::new(), ambient);
    engine.add(Arc::new(probe));
    let engine = engine.start().await.expect("the engine starts");
    engine.idle().await;
    assert_eq!(engine.next_timer(), Some(Duration::from_secs(8 * 3600)));
    // It sleeps until two minutes before the time, and is awake for some seconds.
    *clock.slept.lock().expect("nobody panics with the lock") = Duration::from_secs(8 * 3600 - 120);
    let awake = Duration::from_secs(5);
    clock.measured.advance(awake);
    let two_minutes = Duration::from_secs(120);
    let heard = async {
        while engine.next_timer().is_none_or(|next| next > two_minutes) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), heard).await.expect("the engine hears of it");
    assert_eq!(engine.next_timer(), Some(two_minutes - awake));
    clock.measured.advance(two_minutes - awake);
    let begins = tokio::time::timeout(Duration::from_secs(30), engine.idle());
    begins.await.expect("the alarm hears of it, too");
    assert_eq!(*began.lock().expect("nobody panics with the lock"), [nine]);
    engine.stop().await;
}
