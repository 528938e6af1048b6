//! What a room may not take from the air: time, chance, and the right to act.
//!
//! Every room gets these injected. So a test can stop the clock, replay chance from a seed,
//! and fail or crash at each named step. `clippy.toml` bans the direct ways.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

/// Clock, ids and steps together, cheap to clone.
#[derive(Clone)]
pub struct Ambient {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids and chance.
    pub ids: Arc<dyn Ids>,
    /// Where side effects pass.
    pub steps: Arc<dyn Steps>,
}

impl Ambient {
    /// The real world: the system's clock, random ids, steps that let everything pass.
    #[must_use]
    pub fn real() -> Self {
        Self { clock: Arc::new(SystemClock), ids: Arc::new(RandomIds), steps: Arc::new(FreeSteps) }
    }

    /// Passes one side effect through the named step: the step may refuse before it, or
    /// crash after it.
    ///
    /// # Errors
    /// The effect's own error, or the step's fault.
    pub async fn step<T, E: From<Fault>>(
        &self,
        name: &'static str,
        effect: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.steps.before(name).await?;
        let result = effect.await;
        self.steps.after(name).await?;
        result
    }
}

/// The time.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now, by the wall.
    fn now(&self) -> Timestamp;
    /// Time since some fixed point, never running back: for measuring.
    fn elapsed(&self) -> Duration;
    /// Waits.
    async fn sleep(&self, length: Duration);
}

/// Fresh ids and chance.
pub trait Ids: Send + Sync {
    /// A new uid (UUID v7).
    fn uid(&self) -> String;
    /// Five characters for a generated name, as Kubernetes makes them.
    fn suffix(&self) -> String;
    /// Chance in `0.0..1.0`, for jitter.
    fn unit(&self) -> f64;
}

/// Where side effects pass. Outside tests it lets everything pass.
#[async_trait]
pub trait Steps: Send + Sync {
    /// Called before the effect.
    ///
    /// # Errors
    /// The fault to have instead of the effect.
    async fn before(&self, step: &'static str) -> Result<(), Fault>;
    /// Called after the effect, whether it succeeded or failed.
    ///
    /// # Errors
    /// The fault to have instead of the effect's answer.
    async fn after(&self, step: &'static str) -> Result<(), Fault>;
}

/// A fault at a step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The world ends here: whoever sees this unwinds without another effect.
    #[error("crash at step {0}")]
    Crash(&'static str),
    /// The effect failed, or its answer was lost.
    #[error("injected failure at step {0}")]
    Error(&'static str),
}

/// The system's clock.
pub struct SystemClock;

#[async_trait]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the real clock")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        START.get_or_init(std::time::Instant::now).elapsed()
    }

    async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }
}

/// A clock that moves only when it is told to.
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
    start: Timestamp,
}

impl ManualClock {
    /// A clock that stands at a time.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self { now: watch::Sender::new(start), start }
    }

    /// Moves the clock; whoever slept until then wakes.
    pub fn advance(&self, length: Duration) {
        self.now.send_modify(|now| *now = later(*now, length));
    }
}

/// A time plus a length; the end of time where that overflows.
#[must_use]
pub fn later(time: Timestamp, length: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(length)
        .ok()
        .and_then(|length| time.checked_add(length).ok())
        .unwrap_or(Timestamp::MAX)
}

/// How long it is from one time to another; nothing if it lies behind.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn elapsed(&self) -> Duration {
        between(self.start, self.now())
    }

    async fn sleep(&self, length: Duration) {
        let mut now = self.now.subscribe();
        let end = later(*now.borrow(), length);
        // The sender lives as long as `self`; an error means that the test is over.
        let _ = now.wait_for(|now| *now >= end).await;
    }
}

/// Random ids.
pub struct RandomIds;

/// The letters of Kubernetes' generated names: no vowels, nothing that looks alike.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn suffix_of(mut bits: u64) -> String {
    let base = SUFFIX_LETTERS.len() as u64;
    (0..5)
        .map(|_| {
            let letter = SUFFIX_LETTERS[usize::try_from(bits % base).unwrap_or_default()];
            bits /= base;
            char::from(letter)
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks for real chance")]
fn random_bits() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

#[expect(clippy::cast_precision_loss, reason = "jitter needs no more than 53 bits")]
fn unit_of(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

impl Ids for RandomIds {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that makes real ids")]
    fn uid(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }

    fn suffix(&self) -> String {
        suffix_of(random_bits().rotate_left(17))
    }

    fn unit(&self) -> f64 {
        // Version and variant bits of the UUID are spread out by the multiplication.
        unit_of(random_bits().wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

/// Ids and chance from a seed: the same seed gives the same world.
pub struct SeededIds(Mutex<u64>);

impl SeededIds {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// The next number of a SplitMix64 sequence.
    fn next(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Ids for SeededIds {
    fn uid(&self) -> String {
        uuid::Uuid::from_u64_pair(self.next(), self.next()).to_string()
    }

    fn suffix(&self) -> String {
        suffix_of(self.next())
    }

    fn unit(&self) -> f64 {
        unit_of(self.next())
    }
}

/// Steps that let everything pass.
pub struct FreeSteps;

#[async_trait]
impl Steps for FreeSteps {
    async fn before(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }

    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
}

/// Which side of an effect a [`ScriptedSteps`] acts on, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The world ends before the effect.
    CrashBefore,
    /// The world ends after the effect.
    CrashAfter,
    /// The effect fails without having happened.
    ErrorBefore,
    /// The effect happened, but its answer is lost.
    ErrorAfter,
}

/// Steps that record every passage and have one fault at the n-th of them.
pub struct ScriptedSteps {
    fault: Option<(usize, Mode)>,
    passed: Mutex<VecDeque<&'static str>>,
    fired: AtomicBool,
}

impl ScriptedSteps {
    /// Records, and has the fault at the passage with this number (the first is 0).
    #[must_use]
    pub fn new(fault: Option<(usize, Mode)>) -> Self {
        Self { fault, passed: Mutex::default(), fired: AtomicBool::new(false) }
    }

    /// Whether the fault has happened.
    pub fn has_fired(&self) -> bool {
        self.fired.load(Ordering::SeqCst)
    }

    fn fire(&self, fault: Fault) -> Result<(), Fault> {
        self.fired.store(true, Ordering::SeqCst);
        Err(fault)
    }

    /// The steps that were passed so far, in order.
    pub fn passed(&self) -> Vec<&'static str> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[async_trait]
impl Steps for ScriptedSteps {
    async fn before(&self, step: &'static str) -> Result<(), Fault> {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.push_back(step);
        match self.fault {
            Some((n, Mode::CrashBefore)) if n + 1 == passed.len() => self.fire(Fault::Crash(step)),
            Some((n, Mode::ErrorBefore)) if n + 1 == passed.len() => self.fire(Fault::Error(step)),
            _ => Ok(()),
        }
    }

    async fn after(&self, step: &'static str) -> Result<(), Fault> {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        // Effects of several keys may interleave, and then nobody can say which of two passages of
        // one name this is: the fault falls on the first to end once the n-th has begun.
        let is_it = |n: usize| passed.get(n) == Some(&step) && !self.has_fired();
        match self.fault {
            Some((n, Mode::CrashAfter)) if is_it(n) => self.fire(Fault::Crash(step)),
            Some((n, Mode::ErrorAfter)) if is_it(n) => self.fire(Fault::Error(step)),
            _ => Ok(()),
        }
    }
}
