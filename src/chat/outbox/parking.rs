//! Places that cannot be reached: what is kept for them, how often they are tried, and for how long.
//!
//! A connection that failed and a channel that somebody archived look alike from here. So the first
//! looks come soon, and later ones ever more seldom: a short failure costs seconds, and a place that
//! is gone for days costs little. Nothing waits in memory meanwhile but a row's name; what is
//! to be shown is rendered again once it can be. After a week nobody waits for it any more.

use std::time::Duration;

use super::Outbox;
use crate::{
    ambient::between,
    reconcile::{Error, Next},
    store::{Delivery, DeliveryState},
};

/// How soon a place is tried again that was just lost.
const SOON: Duration = Duration::from_secs(1);
/// How often a place is tried at least, for a delivery that shows nothing yet: others wait for it.
const BARE: Duration = Duration::from_secs(60);
/// How often at least, for one that must be rendered for that.
const BEGUN: Duration = Duration::from_mins(5);
/// How long a delivery gets no further before its row says why. Shorter waits are what pace is.
const STUCK: Duration = Duration::from_secs(5);
/// How long a delivery is kept for a place that cannot be reached.
pub(super) const KEPT: Duration = Duration::from_hours(7 * 24);

impl Outbox {
    /// Keeps a delivery until its place can be reached, or for long enough.
    pub(super) async fn park(&self, mut delivery: Delivery, why: String) -> Result<Next, Error> {
        self.memory().renderings.remove(&delivery.id);
        let now = self.ambient.clock.now();
        let is_known = delivery.parked.is_some();
        let since = *delivery.parked.get_or_insert(now);
        let age = between(since, now);
        if age >= KEPT {
            return self.give_up(delivery, format!("given up after a week: {why}")).await;
        }
        let pause = pause(age, delivery.messages.is_empty());
        let is_told = delivery.state == DeliveryState::Parked && delivery.note == why && is_known;
        if !is_told {
            delivery.state = DeliveryState::Parked;
            delivery.note = why;
            self.write("chat.park", delivery).await?;
        }
        Ok(Next::After(pause.min(KEPT.saturating_sub(age))))
    }

    /// The same after a call that told so: until the next one is due, nothing that is said meanwhile
    /// leads to another.
    pub(super) async fn refused(&self, delivery: Delivery, why: String) -> Result<Next, Error> {
        let id = delivery.id.clone();
        let next = self.park(delivery, why).await?;
        if let Next::After(pause) = next {
            let until = self.ambient.clock.elapsed().saturating_add(pause);
            self.memory().resting.insert(id, until);
        }
        Ok(next)
    }

    /// Notes why a delivery gets no further, once it does so for some time: whoever asks what waits
    /// is told. What is shown next takes the note away.
    pub(super) async fn note_trouble(&self, id: &str, trouble: Option<&Error>) {
        let why = match trouble {
            Some(Error::RateLimited(_)) => {
                "waits for its turn: the platform takes no more calls there for now".to_owned()
            }
            Some(Error::Transient(why)) => why.clone(),
            _ => {
                self.memory().stuck.remove(id);
                return;
            }
        };
        let now = self.ambient.clock.elapsed();
        {
            let mut memory = self.memory();
            let (since, is_told) = memory.stuck.entry(id.to_owned()).or_insert((now, false));
            if *is_told || now.saturating_sub(*since) < STUCK {
                return;
            }
            *is_told = true;
        }
        let Ok(Some(mut delivery)) = self.store.delivery(id).await else { return };
        if delivery.state == DeliveryState::Open && delivery.note != why {
            delivery.note = why;
            // It says so later, or never; what it is about is shown all the same.
            if let Err(error) = self.write("chat.note", delivery).await {
                tracing::debug!(delivery = id, "it is not noted why it waits: {error}");
            }
        }
    }

    /// How long a delivery is still left alone, if at all.
    pub(super) fn rests(&self, id: &str) -> Option<Duration> {
        let until = self.memory().resting.get(id).copied()?;
        until.checked_sub(self.ambient.clock.elapsed()).filter(|rest| !rest.is_zero())
    }
}

/// How long to wait before the next try for a place that was lost so long ago.
fn pause(age: Duration, is_bare: bool) -> Duration {
    (age / 2).clamp(SOON, if is_bare { BARE } else { BEGUN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_just_lost_is_tried_soon_and_later_ever_more_seldom() {
        assert_eq!(pause(Duration::ZERO, true), SOON);
        let mut age = Duration::ZERO;
        let mut tries = 0;
        while age < Duration::from_mins(10) {
            age += pause(age, true);
            tries += 1;
        }
        assert!(tries < 25, "{tries} tries in ten minutes");
        assert_eq!(pause(age, true), BARE);
        assert_eq!(pause(age, false), BEGUN);
    }
}
