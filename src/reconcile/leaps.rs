//! When the wall clock goes further than the time that was measured: a machine that slept, a clock that
//! was put forward. Pure.
//!
//! Whoever sleeps, sleeps by measured time, which stands while the machine does. Most timers were set
//! for a time of the wall: a due minute, an expiry. So they are due sooner by as much as the wall clock
//! went further ([`super::queue::Queue::hasten`]). One that is put back needs nothing: who is looked at
//! too early says again how long to wait.

use std::time::Duration;

use jiff::Timestamp;

use crate::ambient::{between, later};

/// How often the two are compared: a due minute is begun later by this at most.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// What is less is no leap: the two are never read at the same instant. A clock that is put right bit by
/// bit has leapt once the bits are this together.
const LEAST: Duration = Duration::from_secs(1);

/// What both clocks showed when they agreed last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaps {
    wall: Timestamp,
    measured: Duration,
}

impl Leaps {
    /// They agree now.
    pub(super) fn since(wall: Timestamp, measured: Duration) -> Self {
        Self { wall, measured }
    }

    /// By how much the wall clock went further than was measured; nothing where it did not. After that,
    /// and where it was put back, they agree anew.
    pub(super) fn look(&mut self, wall: Timestamp, measured: Duration) -> Option<Duration> {
        let expected = later(self.wall, measured.saturating_sub(self.measured));
        let (ahead, back) = (between(expected, wall), between(wall, expected));
        if ahead.max(back) < LEAST {
            return None;
        }
        *self = Self::since(wall, measured);
        (!ahead.is_zero()).then_some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_has_leapt_where_it_went_further_than_was_measured() {
        let nine: Timestamp = "2026-01-01T09:00:00Z".parse().unwrap();
        let mut leaps = Leaps::since(nine, Duration::from_secs(100));
        for (wall, measured, leap) in [
            // Both go on.
            ("2026-01-01T09:00:05.1Z", 105, None),
            ("2026-01-01T10:00:00Z", 3700, None),
            // The machine slept for an hour; once it was told, it is over.
            ("2026-01-01T11:00:05Z", 3705, Some(3600)),
            ("2026-01-01T11:00:10Z", 3710, None),
            // Put back, and right again: for whoever was told to wait meanwhile, that is a leap.
            ("2026-01-01T10:00:15Z", 3715, None),
            ("2026-01-01T11:00:20Z", 3720, Some(3600)),
            // Bit by bit.
            ("2026-01-01T11:00:25.5Z", 3725, None),
            ("2026-01-01T11:00:31Z", 3730, Some(1)),
        ] {
            let leapt = leaps.look(wall.parse().unwrap(), Duration::from_secs(measured));
            assert_eq!(leapt, leap.map(Duration::from_secs), "{wall}");
        }
    }
}
