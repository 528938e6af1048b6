//! How long each of many repositories may take, so that those which do not answer leave time for those
//! that do. All together have a bound; whoever is asked next has its part of what is left of that, by
//! how many are still to come and how many are asked at once.

use std::{
    future::Future,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::{AT_ONCE, GitError, Target};
use crate::ambient::Clock;

/// Nobody has less time than that.
const LEAST: Duration = Duration::from_secs(2);

/// What is left of the time for all.
pub(super) struct Budget<'a> {
    clock: &'a dyn Clock,
    began: Duration,
    whole: Duration,
    /// The most for one.
    most: Duration,
    /// How many are still to be asked.
    left: AtomicUsize,
}

impl<'a> Budget<'a> {
    pub(super) fn new(clock: &'a dyn Clock, whole: Duration, most: Duration) -> Self {
        Self { clock, began: clock.elapsed(), whole, most, left: AtomicUsize::new(0) }
    }

    /// From here on so many are asked.
    pub(super) fn share_among(&self, count: usize) {
        self.left.store(count, Ordering::SeqCst);
    }

    fn remaining(&self) -> Duration {
        self.whole.saturating_sub(self.clock.elapsed().saturating_sub(self.began))
    }

    /// Whether there is time to ask somebody again.
    pub(super) fn is_left(&self) -> bool {
        self.remaining() > LEAST
    }

    /// Asks one, and gives it up once its part of the time is over.
    pub(super) async fn within<T>(
        &self,
        target: &Target,
        asked: impl Future<Output = Result<T, GitError>>,
    ) -> Result<T, GitError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        let time = part(self.remaining(), left, self.most);
        tokio::select! {
            answer = asked => answer,
            () = self.clock.sleep(time) => Err(GitError::Late { name: target.remote.name.clone() }),
        }
    }
}

/// The part of one of so many that are left.
fn part(remaining: Duration, left: usize, most: Duration) -> Duration {
    let (at_once, left) = (u32::try_from(AT_ONCE).unwrap_or(1), left.max(1));
    let part = remaining.saturating_mul(at_once) / u32::try_from(left).unwrap_or(u32::MAX);
    // The last ones run side by side, and not one behind the other.
    part.min(remaining).clamp(LEAST.min(most), most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: Duration = Duration::from_secs(720);
    const MOST: Duration = Duration::from_secs(300);

    #[test]
    fn the_fewer_are_left_the_longer_each_may_take() {
        let seconds = |remaining, left| part(Duration::from_secs(remaining), left, MOST).as_secs();
        assert_eq!([seconds(720, 200), seconds(720, 12), seconds(720, 2)], [14, 240, 300]);
        assert_eq!([seconds(100, 1), seconds(0, 50), seconds(720, 0)], [100, 2, 300]);
    }

    proptest! {
        #[test]
        fn all_that_hang_are_given_up_in_time(count in 1_usize..=200) {
            // Of AT_ONCE lanes the one that is free first asks next.
            let mut lanes = [Duration::ZERO; AT_ONCE];
            for n in 0..count {
                let lane = lanes.iter_mut().min().unwrap();
                *lane += part(WHOLE.saturating_sub(*lane), count - n, MOST);
            }
            let last = lanes.into_iter().max().unwrap();
            prop_assert!(last <= WHOLE + LEAST, "{:?}", last);
        }
    }
}
