//! What lists show: each machine and volume as it was some time ago. [obs]: lists lie seconds
//! behind writes, so that "not in the list" proves nothing just after a create, nor "in the list"
//! after a destroy.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{World, state::Shown};
use crate::ambient::between;

/// How far back anybody may set the lag.
const KEPT: Duration = Duration::from_secs(600);

fn push(shown: &mut Shown, now: Timestamp, value: Option<Arc<Value>>) {
    if let Some(last) = shown.back_mut().filter(|(at, _)| *at == now) {
        last.1 = value;
    } else {
        shown.push_back((now, value));
    }
    // All but the newest of what is too old to be shown.
    while shown.get(1).is_some_and(|(at, _)| between(*at, now) > KEPT) {
        shown.pop_front();
    }
    /// The most that one thing is remembered by.
    const MOST: usize = 48;
    while shown.len() > MOST {
        shown.pop_front();
    }
}

fn at(shown: &Shown, time: Timestamp) -> Option<&Arc<Value>> {
    shown.iter().rev().find(|(from, _)| *from <= time).and_then(|(_, value)| value.as_ref())
}

impl World {
    /// Notes what changed. Each door of the world ends with this.
    pub(super) fn flush(&mut self, now: Timestamp) {
        for id in std::mem::take(&mut self.dirty) {
            let value = self.machines.get(&id).map(|machine| Arc::new(self.show(machine)));
            push(self.shown.entry(id).or_default(), now, value);
        }
        for id in std::mem::take(&mut self.dirty_volumes) {
            let value = self.volumes.get(&id).map(|volume| Arc::new(self.show_volume(volume)));
            push(self.shown_volumes.entry(id).or_default(), now, value);
        }
    }

    fn view(&self, now: Timestamp) -> Timestamp {
        let lag = jiff::SignedDuration::try_from(self.switches.list_lag).unwrap_or_default();
        now.checked_sub(lag).unwrap_or(now)
    }

    /// The machines as a list shows them.
    pub(super) fn listed(&mut self, now: Timestamp) -> Vec<Arc<Value>> {
        let view = self.view(now);
        // What is gone for longer than anybody may look back is forgotten.
        self.shown.retain(|_, shown| {
            !shown.back().is_some_and(|(at, it)| it.is_none() && between(*at, now) > KEPT)
        });
        self.shown.values().filter_map(|shown| at(shown, view).cloned()).collect()
    }

    /// The volumes as a list shows them.
    pub(super) fn listed_volumes(&self, now: Timestamp) -> Vec<Arc<Value>> {
        let view = self.view(now);
        self.shown_volumes.values().filter_map(|shown| at(shown, view).cloned()).collect()
    }
}
