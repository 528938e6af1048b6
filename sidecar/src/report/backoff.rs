//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from a twentieth of a second to five, with jitter, so that the sprites
/// of a server that comes back do not all knock at once.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The shortest wait.
    pub const FIRST: Duration = Duration::from_millis(50);
    /// The longest wait.
    pub const LAST: Duration = Duration::from_secs(5);

    /// The next wait, for a chance in `0.0..1.0`: between half and the whole of the step.
    pub fn next(&mut self, chance: f64) -> Duration {
        let step = Self::FIRST.saturating_mul(1 << self.tries.min(10)).min(Self::LAST);
        self.tries = self.tries.saturating_add(1);
        step.mul_f64(0.5 + chance / 2.0)
    }

    /// It worked: the next wait is short again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 25);
    }
}
