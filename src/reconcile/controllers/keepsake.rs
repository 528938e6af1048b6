//! Keepsakes: what an Agent or a Job leaves behind with a runtime, once it is gone.
//!
//! A worktree, a home, files that came with turns: they outlive the sprites, and belong to the
//! owner by uid. There is one key for each runtime. It asks the runtime of whom it keeps something,
//! then reads who is there, and lets the runtime discard what is nobody's. In this order: whoever
//! is kept was there before it was asked who is there, so nothing of anybody who is on the way in
//! is taken for a leftover. If the store cannot be read whole, nothing is discarded.
//!
//! What holds work that stands nowhere else stays; that is told once, with the place.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

use super::hands::Hands;
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{AnyObject, Kind},
    runtime::{Cleaned, Runtime},
    store::{Change, ChangeKind, Store},
};

/// How often it is looked, when nobody goes.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Discards what belongs to nobody any more. Its keys are the runtimes' names.
pub struct KeepsakeController {
    hands: Hands,
    runtimes: Vec<Arc<dyn Runtime>>,
    /// The places that were told of.
    told: Mutex<HashSet<String>>,
}

impl KeepsakeController {
    /// A controller over a store and the runtimes that keep something.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, runtimes: Vec<Arc<dyn Runtime>>) -> Self {
        Self { hands: Hands { store, ambient }, runtimes, told: Mutex::default() }
    }

    /// The uids of all who may still have use for something: Agents, Jobs, Sprites, and whoever
    /// Sprites belong to.
    async fn living(&self) -> Result<HashSet<String>, Error> {
        let mut uids = HashSet::new();
        for kind in [Kind::Agent, Kind::Job, Kind::Sprite] {
            for object in self.hands.all(kind).await? {
                let metadata = object.metadata();
                uids.insert(metadata.uid.clone());
                if let AnyObject::Sprite(_) = &object {
                    uids.extend(metadata.owner_references.iter().map(|owner| owner.uid.clone()));
                }
            }
        }
        Ok(uids)
    }

    fn tell(&self, runtime: &str, path: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.contains(&path) {
            tracing::warn!(
                runtime,
                path,
                "kept work at {path}: its owner is gone, and nobody has taken it"
            );
            told.insert(path);
        }
    }
}

#[async_trait]
impl Controller for KeepsakeController {
    fn name(&self) -> &'static str {
        "keepsake"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        // A Sprite holds what is its owner's as long as it is there.
        let goes = change.kind == ChangeKind::Deleted
            && matches!(change.object.kind(), Kind::Agent | Kind::Job | Kind::Sprite);
        let names = self.runtimes.iter().map(|runtime| runtime.name().to_owned());
        if goes { names.map(|name| (name, Wake::Observation)).collect() } else { Vec::new() }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        Ok(self.runtimes.iter().map(|it| (it.name().to_owned(), Wake::Timer)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(runtime) = self.runtimes.iter().find(|runtime| runtime.name() == key) else {
            return Ok(Next::Done);
        };
        let kept = runtime.keeps().await?;
        if kept.is_empty() {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let living = self.living().await?;
        let mut failed = None;
        for uid in kept.iter().filter(|uid| !living.contains(*uid)) {
            let discard = runtime.discard(uid);
            match self.hands.ambient.step("keepsake.discard", discard).await {
                Ok(Cleaned::All) => tracing::info!(runtime = key, uid, "removed what it left"),
                Ok(Cleaned::KeptWork { path }) => self.tell(key, path),
                // One that does not go holds up no other.
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(Next::After(LOOK_AGAIN)),
        }
    }
}
