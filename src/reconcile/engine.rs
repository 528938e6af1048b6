//! The engine: hears what changed, and lets each controller's workers run its keys.
//!
//! ```text
//!   store's bell ──► ┌──────┐ concerns / hears   ┌───────┐ take   ┌─────────────────────┐
//!   runtimes' wakes ►│ feed │ ─────────────────► │ queue │ ─────► │ worker 1..n         │
//!   resync timer ──► └──────┘                    │ (one  │ ◄───── │ Controller::        │
//!   people: EngineHandle::wake ────────────────► │ each) │ finish │   reconcile(key)    │
//!                                                └───────┘        └─────────────────────┘
//! ```
//!
//! **Tasks.** One *feed* turns news into wakes: object changes are read from the store in the
//! order of their revisions, so a lagging bell loses none; after any other missed bell, and
//! every five minutes, all keys are read again. Each controller has a *pool*: a queue behind a
//! lock that is never held across an await, a bounded number of workers, and an alarm for the
//! next timer. Pools share nothing, so one that hangs cannot block another. The *watch* compares the
//! wall clock with measured time every few seconds: after a machine slept, or its clock was put
//! forward, what is due by the wall is due.
//!
//! **A reconcile that goes wrong** is its key's failure and nobody else's: an error, a panic
//! (caught and counted) and a run beyond its deadline alike end in the key's backoff. A panic over
//! news costs that controller the news, and the feed goes on. A
//! conflict with another writer runs again at once. A backoff that has lasted for some failures
//! is kept in the store, so that a server in a crash loop does not become a hot loop on the
//! outside; a converged store is not written to.
//!
//! **Ends.** [`EngineHandle::stop`] waits for the runs under way. Dropping the handle ends
//! them where they are, as a crash would. A scripted [`Fault::Crash`] that comes out of any
//! reconcile stops every worker before its next effect.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    sync::{Notify, broadcast, mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::Instrument as _;

use super::{
    Controller, Error, Next, Wake,
    leaps::{LOOK, Leaps},
    queue::{Outcome, Queue, Run},
};
use crate::{
    ambient::{Ambient, Fault, between, later},
    metrics::{Metrics, QueueMetrics, RunResult},
    store::{BackoffRow, Bell, Op, Revision, Store, Transaction},
};

/// How the engine paces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// All keys are looked at again after this time, and a tenth more or less.
    pub resync: Duration,
    /// A reconcile that takes longer has failed.
    pub deadline: Duration,
    /// So many failures in a row, and the backoff is kept over a restart.
    pub keep_backoff_after: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resync: Duration::from_secs(300),
            deadline: Duration::from_secs(120),
            keep_backoff_after: 3,
        }
    }
}

/// How many changes are read from the store at a time.
const CHANGES_PER_READ: usize = 1000;
/// How long the feed waits after the store failed it.
const FEED_RETRY: Duration = Duration::from_secs(1);
/// The class under which a kept backoff is filed.
const BACKOFF_CLASS: &str = "reconcile";

/// The engine before it runs: give it its controllers, then start it.
pub struct Engine {
    store: Arc<dyn Store>,
    ambient: Ambient,
    options: Options,
    controllers: Vec<Arc<dyn Controller>>,
    metrics: Option<Metrics>,
}

impl Engine {
    /// An engine without controllers.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient) -> Self {
        Self { store, ambient, options: Options::default(), controllers: Vec::new(), metrics: None }
    }

    /// Counts what its queues and workers do.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Sets another pace.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Adds a controller.
    pub fn add(&mut self, controller: Arc<dyn Controller>) {
        self.controllers.push(controller);
    }

    /// Starts: restores the backoffs that were kept, wakes all keys in the order in which each
    /// controller ranks them, and listens from then on.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn start(self) -> Result<EngineHandle, Error> {
        let Self { store, ambient, options, controllers, metrics } = self;
        // Listen first, read afterwards: what changes between is heard, not missed.
        let bell = store.bell();
        let revision = store.revision().await?;
        let (stopping, _) = watch::channel(Stage::Running);
        let world =
            Arc::new(World { store, ambient, options, stopping, crashed: AtomicBool::new(false) });
        let kept = world.store.backoffs().await?;
        let mut tasks = JoinSet::new();
        let mut pools = Vec::new();
        let mut wakes = Vec::new();
        for controller in controllers {
            let heard = controller.wakes();
            let counts = metrics.as_ref().map(|metrics| metrics.of_queue(controller.name()));
            let pool = Arc::new(Pool::new(controller, Arc::clone(&world), counts));
            if let Some(heard) = heard {
                wakes.push((Arc::clone(&pool), heard));
            }
            pools.push(pool);
        }
        for pool in &pools {
            pool.restore(&kept);
            pool.wake_all(|wake| wake).await?;
        }
        for pool in &pools {
            for _ in 0..pool.controller.workers().max(1) {
                tasks.spawn(Arc::clone(pool).work());
            }
            tasks.spawn(Arc::clone(pool).alarm());
        }
        for (pool, heard) in wakes {
            tasks.spawn(listen(Arc::clone(&pool), heard));
        }
        tasks.spawn(watch_clock(Arc::clone(&world), pools.clone()));
        let (asks, asked) = mpsc::unbounded_channel();
        let feed = Feed { world: Arc::clone(&world), pools: pools.clone(), bell, revision, asked };
        tasks.spawn(feed.run());
        if let Some(metrics) = metrics {
            let pools: Vec<Weak<Pool>> = pools.iter().map(Arc::downgrade).collect();
            metrics.when_read(move |metrics| {
                for pool in pools.iter().filter_map(Weak::upgrade) {
                    let stats = pool.stats();
                    metrics.queue(pool.controller.name(), stats.ready, stats.running);
                }
            });
        }
        Ok(EngineHandle { waker: Waker { pools }, world, tasks, asks })
    }
}

/// Where the engine is on its way to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Stopping,
}

/// What all tasks share.
struct World {
    store: Arc<dyn Store>,
    ambient: Ambient,
    options: Options,
    stopping: watch::Sender<Stage>,
    crashed: AtomicBool,
}

impl World {
    fn is_stopping(&self) -> bool {
        *self.stopping.borrow() == Stage::Stopping
    }

    async fn stopped(&self) {
        let mut stage = self.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stage.wait_for(|stage| *stage == Stage::Stopping).await;
    }

    fn stop(&self) {
        self.stopping.send_replace(Stage::Stopping);
    }
}

/// The running engine. Dropped, it ends at once, in the middle of whatever it does.
pub struct EngineHandle {
    waker: Waker,
    world: Arc<World>,
    tasks: JoinSet<()>,
    asks: mpsc::UnboundedSender<oneshot::Sender<bool>>,
}

impl EngineHandle {
    /// Wakes a key of the controllers of this name.
    pub fn wake(&self, controller: &str, key: &str, wake: Wake) {
        self.waker.wake(controller, key, wake);
    }

    /// Something cheap to clone that wakes keys.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What each controller has done so far.
    #[must_use]
    pub fn stats(&self) -> Vec<(&'static str, Stats)> {
        self.waker.pools.iter().map(|pool| (pool.controller.name(), pool.stats())).collect()
    }

    /// Stops: no new run begins; answers once the runs under way have ended.
    pub async fn stop(mut self) {
        self.world.stop();
        while let Some(end) = self.tasks.join_next().await {
            if let Err(error) = end {
                tracing::error!(%error, "a task of the engine ended badly");
            }
        }
    }

    /// Waits until all that was heard is done and nothing is ready, runs or is due. For tests:
    /// on a clock that stands still, this is the end of all that follows from the last change.
    /// Returns early after a scripted crash.
    pub async fn idle(&self) {
        // What passes between two tasks is in no queue for a moment: one quiet look is not enough.
        let mut quiet = 0;
        while quiet < 4 {
            let (answer, answered) = oneshot::channel();
            if self.world.is_stopping() || self.asks.send(answer).is_err() {
                return;
            }
            match answered.await {
                Ok(true) => quiet += 1,
                Ok(false) => quiet = 0,
                Err(_) => return,
            }
            tokio::task::yield_now().await;
        }
    }

    /// How long it is until the next key's timer, if one waits.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        let now = self.world.ambient.clock.elapsed();
        self.waker
            .pools
            .iter()
            .filter_map(|pool| pool.queue().next_due())
            .min()
            .map(|due| due.saturating_sub(now))
    }

    /// Whether a scripted crash came out of a reconcile.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.world.crashed.load(Ordering::SeqCst)
    }
}

/// Wakes keys; cheap to clone.
#[derive(Clone)]
pub struct Waker {
    pools: Vec<Arc<Pool>>,
}

impl Waker {
    /// Wakes a key of the controllers of this name.
    pub fn wake(&self, controller: &str, key: &str, wake: Wake) {
        for pool in self.pools.iter().filter(|pool| pool.controller.name() == controller) {
            pool.wake(key, wake);
        }
    }
}

/// What a controller has done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that are ready to run.
    pub ready: usize,
    /// Keys that wait for a time.
    pub waiting: usize,
    /// Keys that run.
    pub running: usize,
    /// Reconciles that ended.
    pub runs: u64,
    /// Of these, those that failed, with the next two.
    pub failures: u64,
    /// Those that panicked, and panics over news.
    pub panics: u64,
    /// Those that took too long.
    pub timeouts: u64,
    /// Those that met another writer.
    pub conflicts: u64,
    /// How long keys were ready before they ran, in all.
    pub waited: Duration,
}

#[derive(Default)]
struct Counters {
    runs: AtomicU64,
    failures: AtomicU64,
    panics: AtomicU64,
    timeouts: AtomicU64,
    conflicts: AtomicU64,
    waited_nanos: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One controller's queue, workers and alarm.
struct Pool {
    controller: Arc<dyn Controller>,
    world: Arc<World>,
    /// Held for a few instructions, never across an await.
    queue: Mutex<Queue>,
    /// Rung for each key that became ready.
    work: Notify,
    /// Rung when a timer was set.
    timer: Notify,
    /// Keys whose backoff the store keeps.
    kept: Mutex<HashSet<Arc<str>>>,
    counters: Counters,
    metrics: Option<QueueMetrics>,
}

impl Pool {
    fn new(
        controller: Arc<dyn Controller>,
        world: Arc<World>,
        metrics: Option<QueueMetrics>,
    ) -> Self {
        Self {
            controller,
            world,
            queue: Mutex::new(Queue::new()),
            work: Notify::new(),
            timer: Notify::new(),
            kept: Mutex::default(),
            counters: Counters::default(),
            metrics,
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // The queue's own code does not panic; a poisoned lock would still hold a whole queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.world.ambient.clock.elapsed()
    }

    fn stats(&self) -> Stats {
        let queue = self.queue();
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            ready: queue.ready(),
            waiting: queue.waiting(),
            running: queue.running(),
            runs: read(&counters.runs),
            failures: read(&counters.failures),
            panics: read(&counters.panics),
            timeouts: read(&counters.timeouts),
            conflicts: read(&counters.conflicts),
            waited: Duration::from_nanos(read(&counters.waited_nanos)),
        }
    }

    fn wake(&self, key: &str, wake: Wake) {
        let now = self.now();
        let ready = {
            let mut queue = self.queue();
            let before = queue.ready();
            queue.wake(key, wake, now);
            queue.ready() > before
        };
        if ready {
            if let Some(metrics) = &self.metrics {
                metrics.added(1);
            }
            self.work.notify_one();
        }
    }

    /// Wakes the keys that a piece of news concerns. A controller that panics over it misses it
    /// until the next resync; whoever else hears it does not.
    fn wake_those(&self, of: impl FnOnce(&dyn Controller) -> Vec<(String, Wake)>) {
        match std::panic::catch_unwind(AssertUnwindSafe(|| of(&*self.controller))) {
            Ok(keys) => keys.iter().for_each(|(key, wake)| self.wake(key, *wake)),
            Err(panic) => {
                count(&self.counters.panics);
                let (controller, panic) = (self.controller.name(), panic_text(&*panic));
                tracing::error!(controller, panic, "panicked over what it heard");
            }
        }
    }

    /// Wakes all keys of the controller; one in a kept backoff stays there.
    async fn wake_all(&self, class: impl Fn(Wake) -> Wake) -> Result<(), Error> {
        let keys = AssertUnwindSafe(self.controller.keys()).catch_unwind().await;
        let keys = keys.unwrap_or_else(|panic| {
            count(&self.counters.panics);
            Err(Error::Transient(format!("panicked over its keys: {}", panic_text(&*panic))))
        })?;
        for (key, wake) in keys {
            let wake = class(wake);
            // What ranks high at the start must not end a backoff that was kept.
            let kept = self.kept().contains(key.as_str());
            self.wake(&key, if kept { wake.min(Wake::Observation) } else { wake });
        }
        Ok(())
    }

    fn restore(&self, rows: &[BackoffRow]) {
        let clock = &self.world.ambient.clock;
        let (now, wall) = (clock.elapsed(), clock.now());
        for row in rows.iter().filter(|row| row.controller == self.controller.name()) {
            let not_before = now.saturating_add(between(wall, row.not_before));
            self.queue().restore(&row.name, row.failures, not_before, now);
            self.kept().insert(Arc::from(row.name.as_str()));
        }
    }

    /// A worker: runs one key after the other until the engine stops.
    async fn work(self: Arc<Self>) {
        let stopped = self.world.stopped();
        tokio::pin!(stopped);
        while !self.world.is_stopping() {
            let now = self.now();
            let (next, more) = {
                let mut queue = self.queue();
                let next = queue.take(now);
                (next, queue.ready() > 0)
            };
            // Several rings may have become one: pass it on.
            if more {
                self.work.notify_one();
            }
            match next {
                Some(run) => self.run(run).await,
                None => {
                    tokio::select! {
                        biased;
                        () = &mut stopped => {}
                        () = self.work.notified() => {}
                    }
                }
            }
        }
    }

    /// The alarm: rings for the workers when a timer is due.
    async fn alarm(self: Arc<Self>) {
        let stopped = self.world.stopped();
        tokio::pin!(stopped);
        while !self.world.is_stopping() {
            let now = self.now();
            let (ripe, due) = {
                let mut queue = self.queue();
                (queue.ripen(now), queue.next_due())
            };
            if ripe > 0 {
                if let Some(metrics) = &self.metrics {
                    metrics.added(ripe);
                }
                self.work.notify_one();
            }
            let sleep = async {
                match due {
                    Some(due) => {
                        self.world.ambient.clock.sleep(due.saturating_sub(now)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stopped => {}
                () = self.timer.notified() => {}
                () = sleep => {}
            }
        }
    }

    async fn run(&self, run: Run) {
        let Run { ticket, key, wake, failures, waited } = run;
        let nanos = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.counters.waited_nanos.fetch_add(nanos, Ordering::Relaxed);
        let span = tracing::info_span!(
            "reconcile",
            controller = self.controller.name(),
            key = &*key,
            wake = ?wake,
            failures,
        );
        let began = self.metrics.as_ref().map(|metrics| {
            metrics.waited(waited);
            self.now()
        });
        let result = self.reconcile(&key).instrument(span.clone()).await;
        count(&self.counters.runs);
        let outcome = span.in_scope(|| self.judge(&result));
        if let (Some(metrics), Some(began)) = (&self.metrics, began) {
            metrics.ran(result_of(&result), self.now().saturating_sub(began));
        }
        let chance = self.world.ambient.ids.unit();
        let (verdict, timers_changed) = {
            let now = self.now();
            let mut queue = self.queue();
            let before = queue.next_due();
            let verdict = queue.finish(ticket, outcome, now, chance);
            (verdict, queue.next_due() != before)
        };
        if timers_changed {
            self.timer.notify_one();
        }
        if self.world.is_stopping() {
            return;
        }
        self.keep(&key, verdict.failures, verdict.not_before).instrument(span).await;
    }

    /// One run of the controller, where a panic and a run without end become errors.
    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let reconcile = AssertUnwindSafe(self.controller.reconcile(key)).catch_unwind();
        let length = self.controller.deadline().unwrap_or(self.world.options.deadline);
        let deadline = async { self.world.ambient.clock.sleep(length).await };
        tokio::select! {
            biased;
            result = reconcile => result.unwrap_or_else(|panic| {
                count(&self.counters.panics);
                Err(Error::Transient(format!("panicked: {}", panic_text(&*panic))))
            }),
            () = deadline => {
                count(&self.counters.timeouts);
                Err(Error::Transient("took too long".to_owned()))
            }
        }
    }

    fn judge(&self, result: &Result<Next, Error>) -> Outcome {
        match result {
            Ok(Next::Done) => Outcome::Done,
            Ok(Next::After(length)) => Outcome::After(*length),
            Err(Error::Conflict) => {
                count(&self.counters.conflicts);
                tracing::debug!("met another writer");
                Outcome::Conflict
            }
            Err(Error::RateLimited(length)) => {
                // Who waits for a turn comes back each second.
                tracing::debug!(?length, "asked to wait");
                Outcome::Hold(*length)
            }
            Err(Error::Terminal(error)) => {
                count(&self.counters.failures);
                tracing::warn!(%error, "rests until something changes");
                Outcome::Done
            }
            Err(Error::Fault(Fault::Crash(step))) => {
                tracing::debug!(step, "scripted crash");
                self.world.crashed.store(true, Ordering::SeqCst);
                self.world.stop();
                Outcome::Failed
            }
            Err(error @ (Error::Transient(_) | Error::Fault(Fault::Error(_)))) => {
                count(&self.counters.failures);
                tracing::warn!(%error, "failed; will try again");
                Outcome::Failed
            }
        }
    }

    /// Keeps a long backoff in the store, and forgets it when it is over.
    async fn keep(&self, key: &Arc<str>, failures: u32, not_before: Option<Duration>) {
        let ambient = &self.world.ambient;
        let wall = ambient.clock.now();
        let (step, row) = if failures >= self.world.options.keep_backoff_after {
            let Some(not_before) = not_before else { return };
            self.kept().insert(Arc::clone(key));
            let not_before = later(wall, not_before.saturating_sub(self.now()));
            ("engine.keep-backoff", self.backoff_row(key, failures, not_before))
        } else if failures == 0 && self.kept().contains(key) {
            ("engine.forget-backoff", self.backoff_row(key, 0, wall))
        } else {
            return;
        };
        let forget = row.failures == 0;
        let write = self.world.store.apply(Transaction::at(wall).with(Op::Backoff(row)));
        match ambient.step(step, write).await {
            Ok(_) if forget => {
                self.kept().remove(key);
            }
            Ok(_) => {}
            Err(crate::store::Error::Fault(Fault::Crash(_))) => {
                self.world.crashed.store(true, Ordering::SeqCst);
                self.world.stop();
            }
            // It costs a hot key after a restart, no more.
            Err(error) => tracing::warn!(%error, "could not keep the backoff"),
        }
    }

    fn backoff_row(&self, key: &str, failures: u32, not_before: jiff::Timestamp) -> BackoffRow {
        BackoffRow {
            controller: self.controller.name().to_owned(),
            name: key.to_owned(),
            failures,
            not_before,
            class: BACKOFF_CLASS.to_owned(),
        }
    }
}

/// How a run ended, in the words of whoever counts.
fn result_of(result: &Result<Next, Error>) -> RunResult {
    match result {
        Ok(Next::Done) => RunResult::Success,
        Ok(Next::After(_)) | Err(Error::RateLimited(_)) => RunResult::RequeueAfter,
        Err(Error::Conflict) => RunResult::Requeue,
        Err(Error::Terminal(_) | Error::Transient(_) | Error::Fault(_)) => RunResult::Error,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// The watch: hastens the timers where the wall clock leaps.
async fn watch_clock(world: Arc<World>, pools: Vec<Arc<Pool>>) {
    let stopped = world.stopped();
    tokio::pin!(stopped);
    let clock = &world.ambient.clock;
    let mut leaps = Leaps::since(clock.now(), clock.elapsed());
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return,
            () = clock.sleep(LOOK) => {}
        }
        let Some(by) = leaps.look(clock.now(), clock.elapsed()) else { continue };
        tracing::info!(
            ?by,
            "the wall clock leapt: this machine slept, or its clock was put forward"
        );
        for pool in &pools {
            pool.queue().hasten(by);
            pool.timer.notify_one();
        }
    }
}

/// Hears a controller's own source of wakes, such as a runtime.
async fn listen(pool: Arc<Pool>, mut heard: mpsc::UnboundedReceiver<String>) {
    let stopped = pool.world.stopped();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return,
            key = heard.recv() => match key {
                Some(key) => pool.wake(&key, Wake::Observation),
                None => return,
            },
        }
    }
}

/// Turns news into wakes.
struct Feed {
    world: Arc<World>,
    pools: Vec<Arc<Pool>>,
    bell: broadcast::Receiver<Bell>,
    /// Up to here, changes were read.
    revision: Revision,
    asked: mpsc::UnboundedReceiver<oneshot::Sender<bool>>,
}

impl Feed {
    async fn run(mut self) {
        let world = Arc::clone(&self.world);
        let stopped = world.stopped();
        tokio::pin!(stopped);
        let mut resync = self.resync();
        loop {
            let read = tokio::select! {
                biased;
                () = &mut stopped => return,
                bell = self.bell.recv() => match bell {
                    Ok(bell) => self.hear(&bell).await,
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::debug!(missed, "bells were missed; all keys are read again");
                        self.hear_all(|wake| wake.min(Wake::Observation)).await
                    }
                    Err(broadcast::error::RecvError::Closed) => {
                        tracing::error!("the store was closed under the engine");
                        return;
                    }
                },
                () = &mut resync => {
                    resync = self.resync();
                    self.hear_all(|_| Wake::Timer).await
                }
                // Last of all: whoever asks gets an answer once the bell is silent.
                Some(ask) = self.asked.recv() => {
                    let quiet = self.bell.is_empty()
                        && self.pools.iter().all(|pool| pool.queue().is_quiet(pool.now()));
                    // Nobody waits any more: then nobody cares.
                    let _ = ask.send(quiet);
                    Ok(())
                }
            };
            if let Err(error) = read {
                tracing::warn!(%error, "could not read what changed; will try again");
                let pause = async {
                    world.ambient.clock.sleep(FEED_RETRY).await;
                };
                tokio::select! {
                    biased;
                    () = &mut stopped => return,
                    () = pause => {}
                }
                // Whatever was missed, it is found among the keys.
                if let Err(error) = self.hear_all(|wake| wake.min(Wake::Observation)).await {
                    tracing::warn!(%error, "could not read the keys");
                    resync = Box::pin(std::future::ready(()));
                }
            }
        }
    }

    /// Ends at the next resync: a tenth more or less than the period, so that many servers, and
    /// many controllers, do not all ask at once.
    fn resync(&self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        let ambient = self.world.ambient.clone();
        let length = self.world.options.resync.mul_f64(0.9 + 0.2 * ambient.ids.unit());
        Box::pin(async move { ambient.clock.sleep(length).await })
    }

    async fn hear(&mut self, bell: &Bell) -> Result<(), Error> {
        if let Bell::Objects(revision) = bell {
            return if *revision > self.revision { self.read_changes().await } else { Ok(()) };
        }
        for pool in &self.pools {
            pool.wake_those(|controller| controller.hears(bell));
        }
        Ok(())
    }

    async fn read_changes(&mut self) -> Result<(), Error> {
        loop {
            let changes = match self.world.store.changes(self.revision, CHANGES_PER_READ).await {
                Ok(changes) => changes,
                Err(crate::store::Error::Compacted { .. }) => {
                    self.revision = self.world.store.revision().await?;
                    return self.wake_all(|wake| wake.min(Wake::Observation)).await;
                }
                Err(error) => return Err(error.into()),
            };
            let more = changes.len() == CHANGES_PER_READ;
            for change in changes {
                self.revision = self.revision.max(change.revision);
                for pool in &self.pools {
                    pool.wake_those(|controller| controller.concerns(&change));
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// After a silence: the changes, for the sake of their classes, and then all keys.
    async fn hear_all(&mut self, class: impl Fn(Wake) -> Wake + Copy) -> Result<(), Error> {
        self.read_changes().await?;
        self.wake_all(class).await
    }

    async fn wake_all(&self, class: impl Fn(Wake) -> Wake + Copy) -> Result<(), Error> {
        for pool in &self.pools {
            pool.wake_all(class).await?;
        }
        Ok(())
    }
}
