//! Waits for the right to make a call: [`super::pace`] on the injected clock.
//!
//! There is no task behind it. Whoever comes, goes, or whose time has come lets go whoever may go
//! now, and rings for them. A place that is dropped is free; a call that is dropped while it waits,
//! or before it was made, costs nobody a token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::pace::{Key, Pace, Ticket};
use crate::ambient::Clock;

/// Where calls wait.
pub(super) struct Gate {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    pace: Pace,
    /// Who waits, to be rung for.
    bells: HashMap<Ticket, Arc<Notify>>,
}

/// The right to make one call; its place is free once this is dropped.
pub(super) struct Place<'a> {
    gate: &'a Gate,
    ticket: Ticket,
    key: Key,
    is_made: bool,
}

impl Gate {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let pace = Pace::since(clock.elapsed());
        Self { clock, state: Mutex::new(State { pace, bells: HashMap::new() }) }
    }

    /// Waits until a call may be made. Where its bucket would be long in coming (longer than
    /// `most`), answers at once with how long.
    pub(super) async fn enter(&self, key: Key, most: Duration) -> Result<Place<'_>, Duration> {
        let bell = Arc::new(Notify::new());
        let ticket = {
            let mut state = self.state();
            let now = self.clock.elapsed();
            let backlog = state.pace.backlog(&key, now);
            if backlog > most {
                return Err(backlog);
            }
            let ticket = state.pace.queue(key.clone(), now);
            state.bells.insert(ticket, bell.clone());
            ticket
        };
        let place = Place { gate: self, ticket, key, is_made: false };
        loop {
            let due = {
                let mut state = self.state();
                let now = self.clock.elapsed();
                state.let_go(now);
                match state.pace.due(ticket, now) {
                    None => return Ok(place),
                    // What is due and still here waits for a place, and is rung for.
                    Some(due) => due.checked_sub(now).filter(|wait| !wait.is_zero()),
                }
            };
            match due {
                None => bell.notified().await,
                Some(wait) => tokio::select! {
                    () = bell.notified() => {}
                    () = self.clock.sleep(wait) => {}
                },
            }
        }
    }

    /// How long a call that came now would wait for its bucket.
    pub(super) fn backlog(&self, key: &Key) -> Duration {
        self.state().pace.backlog(key, self.clock.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn let_go(&mut self, now: Duration) {
        for ticket in self.pace.admit(now) {
            if let Some(bell) = self.bells.remove(&ticket) {
                bell.notify_one();
            }
        }
    }
}

impl State {
    /// Has all who wait look anew at how long they wait.
    fn ring(&self) {
        self.bells.values().for_each(|bell| bell.notify_one());
    }
}

impl Place<'_> {
    /// From here on the call is made, and its token spent.
    pub(super) fn make(&mut self) {
        self.is_made = true;
    }

    /// Fly took the call.
    pub(super) fn taken(&self) {
        self.gate.state().pace.taken(&self.key);
    }

    /// Fly said that it was too much. Answers with how long the next one waits.
    pub(super) fn refused(&self, after: Option<Duration>, chance: f64) -> Duration {
        let mut state = self.gate.state();
        let wait = state.pace.refused(&self.key, after, chance, self.gate.clock.elapsed());
        state.ring();
        wait
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        match self.is_made {
            true => state.pace.done(self.ticket),
            false => {
                // Those behind it are due earlier now, and sleep for too long.
                state.pace.give_up(self.ticket);
                state.bells.remove(&self.ticket);
                state.ring();
            }
        }
        state.let_go(self.gate.clock.elapsed());
    }
}

#[cfg(test)]
mod tests;
