//! The world behind its lock, and the way in: whoever changes it also has done what it wants.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use super::{host::Host, truth::Line, world::World};
use crate::ambient::{Ambient, between};

pub(super) struct Shared {
    world: Mutex<World>,
    /// Counts changes: waits and timers look again.
    pub(super) changed: watch::Sender<u64>,
    pub(super) lines: broadcast::Sender<Line>,
    pub(super) host: Host,
    pub(super) ambient: Ambient,
}

impl Shared {
    pub(super) fn new(world: World, host: Host, ambient: Ambient) -> Arc<Self> {
        Arc::new(Self {
            world: Mutex::new(world),
            changed: watch::Sender::new(0),
            lines: broadcast::Sender::new(4096),
            host,
            ambient,
        })
    }

    /// Looks at the world, or changes it; effects begin in the order in which they were wanted.
    pub(super) fn with<T>(self: &Arc<Self>, work: impl FnOnce(&mut World, Timestamp) -> T) -> T {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut world, self.ambient.clock.now());
        let (effects, lines) = world.drain();
        // Under the lock, so that a kill never overtakes the boot before it. None of them waits.
        for effect in effects {
            self.host.act(self, effect);
        }
        drop(world);
        for line in lines {
            // Nobody may be listening.
            let _ = self.lines.send(line);
        }
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Only looks.
    pub(super) fn look<T>(&self, work: impl FnOnce(&World) -> T) -> T {
        work(&self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes the world whenever a timer is due.
    pub(super) async fn drive(self: Arc<Self>) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let now = self.ambient.clock.now();
            match self.look(World::next) {
                Some(at) if at <= now => self.with(|world, now| world.tick(now)),
                Some(at) => {
                    tokio::select! {
                        () = self.ambient.clock.sleep(between(now, at)) => {}
                        _ = changed.changed() => {}
                    }
                }
                None => {
                    if changed.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
