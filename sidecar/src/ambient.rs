//! Time and chance: the one place that reads them, so that the rest can be reasoned about.
//!
//! The reporter has no injected clock as the server has: its decisions about time are pure
//! ([`crate::run`]'s clocks take a reading, they do not take one), and what waits, waits on
//! tokio's clock, which a test can pause.

use std::time::Duration;

use jiff::Timestamp;

/// Now, by the wall.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Time since this process first asked, never running back.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the steady clock")]
pub fn elapsed() -> Duration {
    static START: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(tokio::time::Instant::now).elapsed()
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
pub async fn sleep(length: Duration) {
    tokio::time::sleep(length).await;
}

/// Waits, on a thread that has nothing else to do.
#[expect(clippy::disallowed_methods, reason = "the one place that sleeps on a thread")]
pub fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// A name that nothing else has.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that draws names")]
pub fn name() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Chance in `0.0..1.0`, for jitter.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that asks for chance")]
#[expect(clippy::cast_precision_loss, reason = "jitter needs no more than 32 bits")]
pub fn chance() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u64_pair().0 >> 32;
    bits as f64 / (1_u64 << 32) as f64
}
