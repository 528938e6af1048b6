//! What is told of requests that are refused: each reason now and then, with how often it came
//! meanwhile. Pure.
//!
//! Anybody on the internet may ask, so not each refusal is worth a line; and what is worth one, such
//! as a wrong setting, must not be hidden behind what scanners do. So each reason has its own pace.

use std::{collections::HashMap, time::Duration};

use super::token::Refusal;

/// How often one reason is told.
const EVERY: Duration = Duration::from_secs(10);

/// What was told, and what was not, by reason.
#[derive(Debug, Default)]
pub struct Tally(HashMap<Refusal, (Duration, u64)>);

impl Tally {
    /// Counts a refusal; answers with how many of the kind were left out since it was told last,
    /// where it is to be told now.
    pub fn count(&mut self, refusal: Refusal, now: Duration) -> Option<u64> {
        match self.0.get_mut(&refusal) {
            Some((told, left_out)) if now.saturating_sub(*told) < EVERY => {
                *left_out += 1;
                None
            }
            Some((told, left_out)) => {
                *told = now;
                Some(std::mem::take(left_out))
            }
            None => {
                self.0.insert(refusal, (now, 0));
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_at_its_own_pace_with_what_was_left_out() {
        let mut tally = Tally::default();
        let mut at = |refusal, seconds| tally.count(refusal, Duration::from_secs(seconds));
        assert_eq!(at(Refusal::NoToken, 0), Some(0), "the first, even as the clock begins");
        assert_eq!([at(Refusal::NoToken, 1), at(Refusal::NoToken, 9)], [None, None]);
        assert_eq!(at(Refusal::Tenant, 9), Some(0), "scanners hide no wrong setting");
        assert_eq!(at(Refusal::NoToken, 10), Some(2));
        assert_eq!(at(Refusal::NoToken, 20), Some(0));
    }
}
