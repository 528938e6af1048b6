//! The store's one bell, sorted by what listeners wait for.
//!
//! Hundreds of streams are open at once (inboxes, logs, watches), and each waits for one thing.
//! If each heard every bell, each line of output would wake them all. So one task hears the
//! bell and rings only where somebody waits. As everywhere, a ring says *that* something
//! changed; whoever hears it reads again.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{broadcast, watch};

use crate::store::{Bell, Revision, Store};

/// From how many topics on those are dropped that nobody waits for.
const CROWDED: usize = 1024;

/// What can be waited for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    /// A sprite's inbox.
    Inbox(String),
    /// A sprite's output.
    Output(String),
    /// An agent's turns.
    Turns(String),
    /// Any object.
    Objects,
}

/// Rings for those who wait.
#[derive(Default)]
pub(super) struct Hub {
    waiting: Mutex<HashMap<Topic, watch::Sender<()>>>,
    /// The newest revision that the bell told of.
    heard: AtomicU64,
}

impl Hub {
    /// A hub that hears this store's bell for as long as somebody holds the hub.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(super) fn listen(store: &Arc<dyn Store>) -> Arc<Self> {
        let hub = Arc::new(Self::default());
        let bell = store.bell();
        tokio::spawn(Self::hear(Arc::downgrade(&hub), Arc::downgrade(store), bell));
        hub
    }

    async fn hear(hub: Weak<Self>, store: Weak<dyn Store>, mut bell: broadcast::Receiver<Bell>) {
        loop {
            let rung = bell.recv().await;
            let Some(hub) = hub.upgrade() else { return };
            match rung {
                Ok(Bell::Objects(revision)) => {
                    hub.heard.fetch_max(revision, Ordering::AcqRel);
                    hub.ring(&Topic::Objects);
                }
                Ok(Bell::Output(uid)) => hub.ring(&Topic::Output(uid)),
                Ok(Bell::Inbox(uid)) => hub.ring(&Topic::Inbox(uid)),
                Ok(Bell::Turns(uid)) => hub.ring(&Topic::Turns(uid)),
                Ok(Bell::Delivery(_) | Bell::Approvals(_)) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let Some(store) = store.upgrade() else { return };
                    if let Ok(revision) = store.revision().await {
                        hub.heard.fetch_max(revision, Ordering::AcqRel);
                    }
                    hub.ring_all();
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// The newest revision that the bell told of.
    pub(super) fn heard(&self) -> Revision {
        self.heard.load(Ordering::Acquire)
    }

    /// Waits for a topic from now on: a change behind this call is never missed.
    pub(super) fn wait_for(&self, topic: Topic) -> watch::Receiver<()> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= CROWDED {
            // Topics that nobody waits for any more, and that never rang again.
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        waiting.entry(topic).or_default().subscribe()
    }

    fn ring(&self, topic: &Topic) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = waiting.get(topic) else { return };
        if sender.send(()).is_err() {
            // The last one who waited is gone.
            waiting.remove(topic);
        }
    }

    fn ring_all(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, sender| sender.send(()).is_ok());
    }
}
