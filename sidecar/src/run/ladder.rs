//! The kill ladder: from a polite word to the end of the whole tree. Pure: it is told the time,
//! and says what to do next.

use std::time::Duration;

/// How long a polite word may take before it counts as unheard, when the run is to end.
pub(super) const POLITE_END: Duration = Duration::from_secs(5);
/// How long it may take when only a turn is to end.
pub(super) const POLITE_TURN: Duration = Duration::from_secs(30);
/// How long a termination signal may take.
const TERMINATION: Duration = Duration::from_secs(5);
/// How often the whole tree is killed again while somebody is left.
const AGAIN: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// Say it in the CLI's own words.
    Polite,
    /// Send SIGTERM to the tree.
    Terminate,
    /// Send SIGKILL to the tree.
    Kill,
}

/// Where on the ladder we stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ladder {
    rung: Rung,
    until: Duration,
}

impl Ladder {
    /// Begins with a word that may take this long.
    pub(super) fn polite(now: Duration, length: Duration) -> Self {
        Self { rung: Rung::Polite, until: now + length }
    }

    /// Begins with a signal.
    pub(super) fn terminate(now: Duration) -> Self {
        Self { rung: Rung::Terminate, until: now + TERMINATION }
    }

    /// Begins at the end.
    pub(super) fn kill(now: Duration) -> Self {
        Self { rung: Rung::Kill, until: now + AGAIN }
    }

    /// When the next rung is due.
    pub(super) fn until(&self) -> Duration {
        self.until
    }

    /// Climbs if it is time; answers what to do.
    pub(super) fn climb(&mut self, now: Duration) -> Option<Rung> {
        if now < self.until {
            return None;
        }
        *self = match self.rung {
            Rung::Polite => Self::terminate(now),
            Rung::Terminate | Rung::Kill => Self::kill(now),
        };
        Some(self.rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_climbs_in_time_and_never_down() {
        let s = Duration::from_secs;
        let mut ladder = Ladder::polite(s(0), POLITE_END);
        assert_eq!(ladder.climb(s(4)), None);
        assert_eq!(ladder.climb(s(5)), Some(Rung::Terminate));
        assert_eq!(ladder.climb(s(9)), None);
        assert_eq!(ladder.climb(s(10)), Some(Rung::Kill));
        assert_eq!(ladder.climb(s(10)), None);
        assert_eq!(ladder.climb(s(11)), Some(Rung::Kill));
    }
}
