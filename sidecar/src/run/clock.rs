//! Clocks that can stop: how much of a time-out is left. Pure: they are told what time it is.

use std::time::Duration;

/// A time that runs down, and stands still while it is told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Countdown {
    whole: Duration,
    left: Duration,
    /// Since when it runs; none while it stands.
    since: Option<Duration>,
}

impl Countdown {
    /// A countdown that stands.
    pub(super) fn new(whole: Duration) -> Self {
        Self { whole, left: whole, since: None }
    }

    /// Lets it run, or stand.
    pub(super) fn run(&mut self, now: Duration, runs: bool) {
        match (self.since, runs) {
            (None, true) => self.since = Some(now),
            (Some(since), false) => {
                self.left = self.left.saturating_sub(now.saturating_sub(since));
                self.since = None;
            }
            _ => {}
        }
    }

    /// Winds it up again.
    pub(super) fn restart(&mut self, now: Duration) {
        self.left = self.whole;
        self.since = self.since.map(|_| now);
    }

    /// When it is over, if nothing stops it.
    pub(super) fn end(&self) -> Option<Duration> {
        self.since.map(|since| since + self.left)
    }

    /// Whether it is over.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.end().is_some_and(|end| now >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_that_stands_still_does_not_count() {
        let mut clock = Countdown::new(s(10));
        assert_eq!(clock.end(), None);
        clock.run(s(0), true);
        clock.run(s(4), false);
        assert!(!clock.is_over(s(1000)));
        clock.run(s(1000), true);
        assert!(!clock.is_over(s(1005)));
        assert!(clock.is_over(s(1006)));
    }

    #[test]
    fn it_can_be_wound_up_again() {
        let mut clock = Countdown::new(s(10));
        clock.run(s(0), true);
        clock.restart(s(9));
        assert_eq!(clock.end(), Some(s(19)));
        clock.run(s(12), false);
        clock.restart(s(13));
        clock.run(s(20), true);
        assert_eq!(clock.end(), Some(s(30)));
    }
}
