//! What the engine costs, in three figures.
//!
//! **No-op.** A reconcile that finds nothing to do, over 10,000 and 100,000 objects in memory, on
//! one thread: ours, and kube-runtime's applier (`benches/peer`) in turns. The peer reads its
//! object before each reconcile, so the ratio is to ours that reads its own. `N=10000` for that
//! number of objects alone.
//!
//! **Commit to start.** Over SQLite, one object at a time: from the moment at which `apply` has
//! answered, which is after the fsync and the bell, to the first line of its reconcile. A start
//! before the answer has reached us counts as zero.
//!
//! **Restart.** Over SQLite, 10,000 objects that need nothing: half of them Jobs that ended, half
//! Agents that idle. From before the engine's start until it is quiet, and what it wrote.
//!
//! `cargo bench --bench reconcile`; `benches/run` builds the peer first.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the real time")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use open_dispatch::{
    ambient::Ambient,
    reconcile::{
        Controller, Engine, Error, Next, Wake,
        controllers::{AdmissionController, AgentController, JobController},
    },
    resource::{
        Agent, AgentCli, AgentSpec, CommandCli, Job, JobSpec, Kind, Permissions, RuntimeSpec,
    },
    store::{Change, Op, Store, Transaction, memory::MemoryStore, sqlite::SqliteStore},
};
use tokio::sync::{Notify, mpsc};

/// Each figure is the median of so many runs.
const RUNS: usize = 5;
/// How many keys run at once, on both sides.
const WORKERS: usize = 64;
/// The bar: so many times the peer's throughput.
const BAR_RATIO: f64 = 2.0;
/// The bar: from a commit to the start of its reconcile, p99.
const BAR_START: Duration = Duration::from_millis(2);
/// How many objects a restart finds, and the bar for it.
const RESTART: usize = 10_000;
const BAR_RESTART: Duration = Duration::from_secs(2);

fn job(n: usize) -> Job {
    let spec = JobSpec::new("true", AgentCli::Command(CommandCli::default()));
    let mut job = Job::new(format!("object-{n:07}"), spec);
    job.metadata.uid = format!("uid-{n:07}");
    job
}

fn agent(n: usize) -> Agent {
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
    let mut agent = Agent::new(format!("agent-{n:07}"), spec);
    agent.metadata.uid = format!("agent-uid-{n:07}");
    agent
}

async fn filled(items: usize) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for chunk in (0..items).collect::<Vec<_>>().chunks(1000) {
        let mut transaction = Transaction::at(jiff::Timestamp::now());
        transaction.ops.extend(chunk.iter().map(|n| Op::Create(job(*n).into())));
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
async fn latencies(store: Arc<dyn Store>, commits: usize) -> Vec<Duration> {
    let (started, mut starts) = mpsc::unbounded_channel();
    let mut engine = Engine::new(store.clone(), Ambient::real());
    engine.add(Arc::new(Latency { started }));
    let handle = engine.start().await.expect("the engine starts");
    let mut times = Vec::with_capacity(commits);
    for n in 0..commits {
        let create = Transaction::at(jiff::Timestamp::now()).with(Op::Create(job(n).into()));
        store.apply(create).await.expect("the store takes it");
        let committed = Instant::now();
        let start = starts.recv().await.expect("the engine runs");
        times.push(start.saturating_duration_since(committed));
    }
    handle.stop().await;
    times.sort();
    times
}

/// Starts an engine over a store, waits until it is quiet, and stops it.
async fn settle(store: &Arc<SqliteStore>) -> Duration {
    let shop = || Arc::clone(store) as Arc<dyn Store>;
    let mut engine = Engine::new(shop(), Ambient::real());
    engine.add(Arc::new(JobController::new(shop(), Ambient::real())));
    engine.add(Arc::new(AgentController::new(shop(), Ambient::real())));
    engine.add(Arc::new(AdmissionController::new(shop(), Ambient::real(), Vec::new())));
    let start = Instant::now();
    let handle = engine.start().await.expect("the engine starts");
    handle.idle().await;
    let took = start.elapsed();
    handle.stop().await;
    took
}

/// How long an engine takes over objects that need nothing, and how many writes it made.
async fn restart(place: &Path) -> (Duration, u64) {
    let store = SqliteStore::open(place, Ambient::real()).await.expect("a store");
    for chunk in (0..RESTART).collect::<Vec<_>>().chunks(1000) {
        let mut transaction = Transaction::at(jiff::Timestamp::now());
        transaction.ops.extend(chunk.iter().map(|n| {
            let mut ended = job(*n);
            // Cancelled before it began: an end that needs no Sprite.
            ended.spec.cancel = true;
            Op::Create(if n % 2 == 0 { ended.into() } else { agent(*n).into() })
        }));
        store.apply(transaction).await.expect("the store takes it");
    }
    settle(&store).await;
    store.close().await;
    let store = SqliteStore::open(place, Ambient::real()).await.expect("a store");
    let took = settle(&store).await;
    let writes = store.writes();
    store.close().await;
    (took, writes)
}

/// The other side: a process that makes a pass for each line it is told.
struct Peer {
    child: Child,
    words: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// None if it was not built.
    fn start() -> Option<Self> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("benches/peer/target/release/peer-kube-runtime");
        let mut child =
            Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let words = child.stdin.take()?;
        let answers = BufReader::new(child.stdout.take()?);
        Some(Self { child, words, answers })
    }

    fn no_op(&mut self, items: usize) -> Duration {
        writeln!(self.words, "{items} {WORKERS}").expect("the peer listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the peer answers");
        Duration::from_nanos(answer.trim().parse().expect("nanoseconds"))
    }

    fn stop(mut self) {
        drop(self.words);
        self.child.wait().expect("the peer ends");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn verdict(met: bool) -> &'static str {
    if met { "within the bar" } else { "MISSES the bar" }
}

async fn compare(items: usize, peer: &mut Option<Peer>) {
    let each = |took: Duration| {
        took.as_secs_f64() * 1e6 / f64::from(u32::try_from(items).unwrap_or(u32::MAX))
    };
    let store = filled(items).await;
    let keys: Vec<String> = (0..items).map(|n| format!("object-{n:07}")).collect();
    let (mut alone, mut reads, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    // In turns, so that a neighbour's noise hits all; the first round warms up.
    for round in 0..=RUNS {
        let ours = no_op(&store, &keys, WORKERS, false).await;
        let read = no_op(&store, &keys, WORKERS, true).await;
        let other = peer.as_mut().map(|peer| peer.no_op(items));
        if round > 0 {
            alone.push(ours);
            reads.push(read);
            theirs.extend(other);
        }
    }
    let (alone, reads) = (median(alone), median(reads));
    println!("no-op reconcile of {items} objects, {WORKERS} at once, one thread, median of {RUNS}");
    println!("  engine without a read        {:>8.2} us each", each(alone));
    println!("  engine, reads its object     {:>8.2} us each", each(reads));
    if theirs.is_empty() {
        println!("  kube-runtime was not built: benches/run builds it");
        return;
    }
    let theirs = median(theirs);
    let ratio = theirs.as_secs_f64() / reads.as_secs_f64();
    println!("  kube-runtime, reads its own  {:>8.2} us each", each(theirs));
    println!(
        "  ratio {ratio:.2} (bar {BAR_RATIO}): {}; without our read {:.2}",
        verdict(ratio >= BAR_RATIO),
        theirs.as_secs_f64() / alone.as_secs_f64(),
    );
}

fn main() {
    let chosen = std::env::var("N").ok().and_then(|n| n.parse().ok());
    let sizes = chosen.map_or_else(|| vec![10_000, 100_000], |n| vec![n]);
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut peer = Peer::start();
    single.expect("a runtime").block_on(async {
        for items in sizes {
            compare(items, &mut peer).await;
        }
    });
    if let Some(peer) = peer {
        peer.stop();
    }
    let many = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    many.expect("a runtime").block_on(async {
        // Beside the build, and not where files may live in memory.
        let place = || tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let dir = place();
        let sqlite = SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
        let memory = MemoryStore::new();
        for (what, store, commits) in
            [("SQLite", sqlite.clone() as Arc<dyn Store>, 1000), ("memory", memory, 5000)]
        {
            let times = latencies(store, commits).await;
            let at = |share: usize| times[(times.len() - 1) * share / 100];
            println!(
                "{what}, answer to a commit to the start of its reconcile: p50 {:?}, p99 {:?}; {}",
                at(50),
                at(99),
                verdict(at(99) < BAR_START),
            );
        }
        sqlite.close().await;
        let dir = place();
        let (took, writes) = restart(dir.path()).await;
        println!(
            "restart with {RESTART} objects on SQLite: quiet after {took:?}, {writes} writes; {}",
            verdict(took <= BAR_RESTART && writes == 0),
        );
    });
}
