//! What the engine costs: a reconcile that finds nothing to do, over many objects in a store in
//! memory; and how long it takes from a commit to the start of its reconcile.
//!
//! `cargo bench --bench reconcile`; `N=10000` for another number of objects. The peer stands in
//! `benches/peer`, with the same shape and the same output.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the real time")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use open_dispatch::{
    ambient::Ambient,
    reconcile::{Controller, Engine, Error, Next, Wake},
    resource::{AgentCli, AnyObject, CommandCli, Job, JobSpec, Kind, Permissions, RuntimeSpec},
    store::{Change, Op, Store, Transaction, memory::MemoryStore},
};
use tokio::sync::{Notify, mpsc};

/// Each figure is the median of so many runs.
const RUNS: usize = 5;

fn job(n: usize) -> AnyObject {
    let spec = JobSpec {
        task: "true".to_owned(),
        agent: AgentCli::Command(CommandCli::default()),
        runtime: RuntimeSpec::default(),
        repo: None,
        instructions: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        timeout: None,
        idle_timeout: None,
        deadline: None,
        retries: 0,
        cancel: false,
        ttl_after_finished: None,
        report: None,
    };
    let mut job = Job::new(format!("object-{n:07}"), spec);
    job.metadata.uid = format!("uid-{n:07}");
    job.into()
}

async fn filled(items: usize) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for chunk in (0..items).collect::<Vec<_>>().chunks(1000) {
        let mut transaction = Transaction::at(jiff::Timestamp::now());
        transaction.ops.extend(chunk.iter().map(|n| Op::Create(job(*n))));
        store.apply(transaction).await.expect("the store takes it");
    }
    store
}

/// Finds nothing to do: `reads` says whether it reads its object first, as a real one does.
struct Idle {
    store: Arc<MemoryStore>,
    items: usize,
    keys: Vec<String>,
    workers: usize,
    reads: bool,
    done: AtomicUsize,
    all: Notify,
}

#[async_trait]
impl Controller for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn concerns(&self, _: &Change) -> Vec<(String, Wake)> {
        Vec::new()
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        Ok(self.keys.iter().map(|key| (key.clone(), Wake::Observation)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        if self.reads && self.store.get(Kind::Job, key).await?.is_none() {
            return Err(Error::Terminal("the object is gone".to_owned()));
        }
        if self.done.fetch_add(1, Ordering::Relaxed) + 1 == self.items {
            self.all.notify_one();
        }
        Ok(Next::Done)
    }
}

/// The time from the engine's start until every object was reconciled once.
async fn no_op(store: &Arc<MemoryStore>, keys: &[String], workers: usize, reads: bool) -> Duration {
    let idle = Arc::new(Idle {
        store: store.clone(),
        items: keys.len(),
        keys: keys.to_vec(),
        workers,
        reads,
        done: AtomicUsize::new(0),
        all: Notify::new(),
    });
    let mut engine = Engine::new(store.clone(), Ambient::real());
    engine.add(idle.clone());
    let start = Instant::now();
    let handle = engine.start().await.expect("the engine starts");
    idle.all.notified().await;
    let took = start.elapsed();
    handle.stop().await;
    took
}

/// Tells when a key's reconcile starts.
struct Latency {
    started: mpsc::UnboundedSender<Instant>,
}

#[async_trait]
impl Controller for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        vec![(change.object.metadata().name.clone(), Wake::User)]
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        Ok(Vec::new())
    }

    async fn reconcile(&self, _: &str) -> Result<Next, Error> {
        // Nobody listens any more once the figures are complete.
        let _ = self.started.send(Instant::now());
        Ok(Next::Done)
    }
}

/// The times from the answer to a commit to the start of its reconcile, sorted.
async fn latencies(commits: usize) -> Vec<Duration> {
    let store = MemoryStore::new();
    let (started, mut starts) = mpsc::unbounded_channel();
    let mut engine = Engine::new(store.clone(), Ambient::real());
    engine.add(Arc::new(Latency { started }));
    let handle = engine.start().await.expect("the engine starts");
    let mut times = Vec::with_capacity(commits);
    for n in 0..commits {
        let create = Transaction::at(jiff::Timestamp::now()).with(Op::Create(job(n)));
        store.apply(create).await.expect("the store takes it");
        let committed = Instant::now();
        let start = starts.recv().await.expect("the engine runs");
        times.push(start.saturating_duration_since(committed));
    }
    handle.stop().await;
    times.sort();
    times
}

fn main() {
    let items = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let single = single.expect("a runtime");
    single.block_on(async {
        let store = filled(items).await;
        let keys: Vec<String> = (0..items).map(|n| format!("object-{n:07}")).collect();
        println!("no-op reconcile of {items} objects, one thread, median of {RUNS}");
        for (workers, reads) in [(1, false), (64, false), (64, true)] {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                runs.push(no_op(&store, &keys, workers, reads).await);
            }
            runs.sort();
            let took = runs[RUNS / 2].as_secs_f64();
            let each = took * 1e6 / f64::from(u32::try_from(items).unwrap_or(u32::MAX));
            let what = if reads { "reads its object" } else { "engine alone" };
            println!("  {workers:>3} workers, {what}: {each:.2} us each, {:.1} ms", took * 1e3);
        }
    });
    let many = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    many.expect("a runtime").block_on(async {
        let times = latencies(5000).await;
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e6;
        println!(
            "commit to the start of its reconcile: p50 {:.0} us, p99 {:.0} us",
            at(50),
            at(99)
        );
    });
}
