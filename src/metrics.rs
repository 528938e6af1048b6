//! What the server counts of itself, for `/metrics`.
//!
//! A [`Metrics`] is a handle that anybody can hold and count with: the engine its queues and runs,
//! ingest its events. It knows nobody and speaks no HTTP. What is not an event but a state (how
//! deep a queue is, how much memory the process has) is read when somebody asks for the text: by
//! the functions that were left with [`Metrics::when_read`], and by whoever asks, just before.
//!
//! The names are those that users of controllers know: `workqueue_*` and `controller_runtime_*`
//! as the libraries of Kubernetes have them, `process_*` as every Prometheus client has them, and
//! `opendispatch_*` for what only we have. `docs/metrics.md` tells what each means.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// How long keys wait and work, in seconds: from a tenth of a millisecond to minutes.
const QUEUE_BUCKETS: [f64; 12] =
    [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 60.0, 120.0];
/// How long turns take, in seconds: from a tenth of a second to an hour.
const TURN_BUCKETS: [f64; 12] =
    [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Queue {
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Controller {
    controller: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Run {
    controller: String,
    result: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Phase {
    phase: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: String,
}

/// How a reconcile ended, in the words of controller-runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    /// All is done.
    Success,
    /// It failed, and is tried again.
    Error,
    /// It met another writer, and runs again at once.
    Requeue,
    /// It asks to run again after a time.
    RequeueAfter,
}

impl RunResult {
    const ALL: [Self; 4] = [Self::Success, Self::Error, Self::Requeue, Self::RequeueAfter];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Requeue => "requeue",
            Self::RequeueAfter => "requeue_after",
        }
    }
}

/// What one queue and its workers count; cheap to clone, and to count with.
#[derive(Debug, Clone)]
pub struct QueueMetrics {
    adds: Counter,
    retries: Counter,
    queued: Histogram,
    worked: Histogram,
    runs: [Counter; 4],
    errors: Counter,
}

impl QueueMetrics {
    /// So many keys became ready to run.
    pub fn added(&self, count: usize) {
        self.adds.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A key began to run after it had been ready for so long.
    pub fn waited(&self, length: Duration) {
        self.queued.observe(length.as_secs_f64());
    }

    /// A run ended like this after so long.
    pub fn ran(&self, result: RunResult, length: Duration) {
        self.worked.observe(length.as_secs_f64());
        for (counter, of) in self.runs.iter().zip(RunResult::ALL) {
            if of == result {
                counter.inc();
            }
        }
        if result == RunResult::Error {
            self.errors.inc();
        }
        if matches!(result, RunResult::Error | RunResult::Requeue) {
            self.retries.inc();
        }
    }
}

/// Which text is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Sets what is a state, just before the text is made.
type Reading = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Counters, gauges and histograms of one server; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    readings: Mutex<Vec<Reading>>,
    depth: Family<Queue, Gauge>,
    adds: Family<Queue, Counter>,
    retries: Family<Queue, Counter>,
    queued: Family<Queue, Histogram, fn() -> Histogram>,
    worked: Family<Queue, Histogram, fn() -> Histogram>,
    runs: Family<Run, Counter>,
    errors: Family<Controller, Counter>,
    workers: Family<Controller, Gauge>,
    sprites: Family<Phase, Gauge>,
    turns: Family<Outcome, Counter>,
    turn_time: Histogram,
    deliveries: Family<State, Gauge>,
    events: Counter,
    commits: Counter,
    dropped: Counter,
    git_webhooks: Family<Outcome, Counter>,
    process: Process,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let histograms = || {
            Family::new_with_constructor((|| Histogram::new(QUEUE_BUCKETS)) as fn() -> Histogram)
        };
        let inner = Inner {
            readings: Mutex::default(),
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            queued: histograms(),
            worked: histograms(),
            runs: Family::default(),
            errors: Family::default(),
            workers: Family::default(),
            sprites: Family::default(),
            turns: Family::default(),
            turn_time: Histogram::new(TURN_BUCKETS),
            deliveries: Family::default(),
            events: Counter::default(),
            commits: Counter::default(),
            dropped: Counter::default(),
            git_webhooks: Family::default(),
            process: Process::register(&mut registry),
            registry: Registry::default(),
        };
        let r = &mut registry;
        r.register("workqueue_depth", "Keys that are ready to run", inner.depth.clone());
        r.register("workqueue_adds", "Keys that became ready to run", inner.adds.clone());
        r.register("workqueue_retries", "Runs that are to be tried again", inner.retries.clone());
        r.register(
            "workqueue_queue_duration_seconds",
            "How long keys were ready before they ran",
            inner.queued.clone(),
        );
        r.register("workqueue_work_duration_seconds", "How long runs took", inner.worked.clone());
        r.register("controller_runtime_reconcile", "Runs by their result", inner.runs.clone());
        r.register("controller_runtime_reconcile_errors", "Runs that failed", inner.errors.clone());
        r.register("controller_runtime_active_workers", "Runs under way", inner.workers.clone());
        r.register("opendispatch_sprites", "Sprites by phase", inner.sprites.clone());
        r.register("opendispatch_turns", "Turns that ended, by outcome", inner.turns.clone());
        r.register(
            "opendispatch_turn_duration_seconds",
            "How long turns took that were begun",
            inner.turn_time.clone(),
        );
        r.register(
            "opendispatch_deliveries",
            "What chat must still be told, by state",
            inner.deliveries.clone(),
        );
        r.register("opendispatch_ingest_events", "Events taken from sprites", inner.events.clone());
        r.register(
            "opendispatch_store_commits",
            "Transactions that changed something",
            inner.commits.clone(),
        );
        r.register(
            "opendispatch_dropped_bytes",
            "Bytes of agents' output that could not be kept",
            inner.dropped.clone(),
        );
        r.register(
            "opendispatch_git_webhooks",
            "Push webhooks of Git sources, by what became of them",
            inner.git_webhooks.clone(),
        );
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// What one queue counts with, looked up once.
    #[must_use]
    pub fn of_queue(&self, queue: &str) -> QueueMetrics {
        let run = |result: RunResult| {
            let (controller, result) = (queue.to_owned(), result.as_str().to_owned());
            self.0.runs.get_or_create_owned(&Run { controller, result })
        };
        let controller = Controller { controller: queue.to_owned() };
        QueueMetrics {
            adds: self.0.adds.get_or_create_owned(&named(queue)),
            retries: self.0.retries.get_or_create_owned(&named(queue)),
            queued: self.0.queued.get_or_create_owned(&named(queue)),
            worked: self.0.worked.get_or_create_owned(&named(queue)),
            runs: RunResult::ALL.map(run),
            errors: self.0.errors.get_or_create_owned(&controller),
        }
    }

    /// So many keys are ready, and so many run.
    pub fn queue(&self, queue: &str, ready: usize, running: usize) {
        self.0.depth.get_or_create(&named(queue)).set(signed(ready));
        let controller = Controller { controller: queue.to_owned() };
        self.0.workers.get_or_create(&controller).set(signed(running));
    }

    /// The sprites that there are, by phase; a phase that is not named has none.
    pub fn sprites<'a>(&self, phases: impl IntoIterator<Item = (&'a str, usize)>) {
        self.0.sprites.clear();
        for (phase, count) in phases {
            let phase = Phase { phase: phase.to_owned() };
            self.0.sprites.get_or_create(&phase).set(signed(count));
        }
    }

    /// The deliveries that are not done, by state.
    pub fn deliveries<'a>(&self, states: impl IntoIterator<Item = (&'a str, usize)>) {
        self.0.deliveries.clear();
        for (state, count) in states {
            let state = State { state: state.to_owned() };
            self.0.deliveries.get_or_create(&state).set(signed(count));
        }
    }

    /// A turn ended like this; if it was ever begun, so long after.
    pub fn turn_ended(&self, outcome: &str, length: Option<Duration>) {
        self.0.turns.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc();
        if let Some(length) = length {
            self.0.turn_time.observe(length.as_secs_f64());
        }
    }

    /// So many events of sprites were committed.
    pub fn ingested(&self, events: u64) {
        self.0.events.inc_by(events);
    }

    /// So many bytes of output are missing.
    pub fn dropped(&self, bytes: u64) {
        self.0.dropped.inc_by(bytes);
    }

    /// A push webhook was `taken`, `ignored`, `bad`, or `refused` for its signature.
    pub fn git_webhook(&self, outcome: &str) {
        self.0.git_webhooks.get_or_create(&Outcome { outcome: outcome.to_owned() }).inc();
    }

    /// So many transactions have changed something since the store was opened.
    pub fn commits(&self, count: u64) {
        self.0.commits.inner().fetch_max(count, Ordering::Relaxed);
    }

    /// Calls a function each time before the text is made.
    pub fn when_read(&self, reading: impl Fn(&Self) + Send + Sync + 'static) {
        let mut readings = self.0.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.push(Box::new(reading));
    }

    /// The text.
    #[must_use]
    pub fn text(&self, format: Format) -> String {
        for reading in self.0.readings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            reading(self);
        }
        self.0.process.read();
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Prometheus => plain(&text),
        }
    }
}

fn named(queue: &str) -> Queue {
    Queue { name: queue.to_owned() }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// OpenMetrics as the older text: there, a counter's family is named as its sample is.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
            continue;
        }
        if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let end = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                out.push_str(&format!("# HELP {name}{end} {help}\n"));
            }
            out.push_str(&format!("# TYPE {name}{end} {kind}\n"));
            continue;
        }
        if !line.starts_with("# ") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// What the system says of this process.
struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Gauge<i64, AtomicI64>,
    virtual_size: Gauge<i64, AtomicI64>,
    open_fds: Gauge<i64, AtomicI64>,
    max_fds: Gauge<i64, AtomicI64>,
    threads: Gauge<i64, AtomicI64>,
    start: Gauge<f64, AtomicU64>,
}

impl Process {
    fn register(registry: &mut Registry) -> Self {
        let process = Self {
            cpu: Counter::default(),
            resident: Gauge::default(),
            virtual_size: Gauge::default(),
            open_fds: Gauge::default(),
            max_fds: Gauge::default(),
            threads: Gauge::default(),
            start: Gauge::default(),
        };
        let r = registry;
        r.register("process_cpu_seconds", "Processor time in seconds", process.cpu.clone());
        r.register(
            "process_resident_memory_bytes",
            "Memory that is in use",
            process.resident.clone(),
        );
        r.register(
            "process_virtual_memory_bytes",
            "Memory that is mapped",
            process.virtual_size.clone(),
        );
        r.register("process_open_fds", "Open file descriptors", process.open_fds.clone());
        r.register("process_max_fds", "The most file descriptors", process.max_fds.clone());
        r.register("process_threads", "Threads", process.threads.clone());
        r.register(
            "process_start_time_seconds",
            "When the process began, in seconds since 1970",
            process.start.clone(),
        );
        process
    }

    /// Reads what the kernel tells under `/proc`; elsewhere it stays at zero.
    fn read(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<i64>().ok()
        };
        self.resident.set(field("VmRSS:").unwrap_or_default().saturating_mul(1024));
        self.virtual_size.set(field("VmSize:").unwrap_or_default().saturating_mul(1024));
        self.threads.set(field("Threads:").unwrap_or_default());
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            self.open_fds.set(signed(open.count()));
        }
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        self.max_fds.set(most.and_then(|most| i64::try_from(most).ok()).unwrap_or(i64::MAX));
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let system = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        if let Some((cpu, start)) = times(&stat) {
            // A counter only grows.
            self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
            self.start.set(boot.unwrap_or(0.0) + start);
        }
    }
}

/// Processor time, and the start after the boot, both in seconds.
fn times(stat: &str) -> Option<(f64, f64)> {
    // Behind the program's name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
    #[expect(clippy::cast_precision_loss, reason = "it is 100")]
    let second = rustix::param::clock_ticks_per_second() as f64;
    Some(((ticks(11)? + ticks(12)?) / second, ticks(19)? / second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> Metrics {
        let metrics = Metrics::new();
        let queue = metrics.of_queue("agent");
        queue.added(2);
        queue.waited(Duration::from_millis(2));
        queue.ran(RunResult::Success, Duration::from_millis(5));
        queue.ran(RunResult::Error, Duration::from_millis(5));
        metrics.when_read(|metrics| metrics.queue("agent", 3, 1));
        metrics.sprites([("Running", 2)]);
        metrics.sprites([("Asleep", 1)]);
        metrics.deliveries([("Open", 4)]);
        metrics.turn_ended("Succeeded", Some(Duration::from_secs(4)));
        metrics.ingested(7);
        metrics.commits(9);
        metrics.commits(8);
        metrics.dropped(11);
        metrics
    }

    fn ours(text: &str) -> String {
        let ours = |line: &&str| !line.contains("process_") && !line.contains("_bucket{");
        let mut lines: Vec<&str> = text.lines().filter(ours).collect();
        // The samples of one family come in any order.
        lines.chunk_by_mut(|a, b| !a.starts_with('#') && !b.starts_with('#')).for_each(<[_]>::sort);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn everything_has_the_name_and_the_type_that_its_readers_know() {
        insta::assert_snapshot!(ours(&counted().text(Format::Prometheus)));
    }

    #[test]
    fn open_metrics_ends_as_it_must_and_the_older_text_has_none_of_its_words() {
        let metrics = counted();
        assert!(metrics.text(Format::OpenMetrics).ends_with("# EOF\n"));
        let plain = metrics.text(Format::Prometheus);
        assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"), "{plain}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_is_measured() {
        let text = Metrics::new().text(Format::Prometheus);
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_threads"] {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            assert!(line.unwrap().parse::<f64>().unwrap() > 0.0, "{name}");
        }
    }

    #[test]
    fn a_program_with_a_strange_name_is_measured_too() {
        let stat = "1 (a) b (c) S 1 1 1 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 1000 1 1";
        let second = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(times(stat), Some((300.0 / second, 1000.0 / second)));
        assert_eq!(times("nothing"), None);
    }
}
