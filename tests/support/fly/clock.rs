//! Time that passes when nothing else does: the paused clock of a tokio runtime.
//!
//! Whoever sleeps, sleeps on that clock; it moves to the next one who is due once all tasks
//! wait. So a whole life of servers and machines passes in milliseconds, in the same order each time.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use open_dispatch::ambient::{Clock, later};

/// The clock of a paused runtime.
pub struct PausedClock {
    start: Timestamp,
    origin: tokio::time::Instant,
}

#[async_trait]
#[expect(clippy::disallowed_methods, reason = "the runtime's own clock stands still here")]
impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        later(self.start, self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn sleep(&self, length: Duration) {
        tokio::time::sleep(length).await;
    }
}

impl PausedClock {
    /// The clock of this runtime, which is paused, at the beginning of 2026.
    #[expect(clippy::disallowed_methods, reason = "the runtime's own clock stands still here")]
    pub fn new() -> Self {
        let start = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self { start, origin: tokio::time::Instant::now() }
    }
}
