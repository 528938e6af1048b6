//! Keepsakes: what an Agent or a Job leaves behind with a runtime, once it is gone.
//!
//! A worktree, a home, files that came with turns: they outlive the sprites, and belong to the
//! owner by uid. There is one key for each runtime. It asks the runtime of whom it keeps something,
//! then reads who is there, and lets the runtime discard what is nobody's. In this order: whoever
//! is kept was there before it was asked who is there, so nothing of anybody who is on the way in
//! is taken for a leftover. If the store cannot be read whole, nothing is discarded.
//!
//! What several owners shared belongs to nobody, and no owner leads to it: each look ends with letting
//! the runtime sweep, whether or not anybody went.
//!
//! What holds work that stands nowhere else stays, and is looked at again each hour: once it is
//! committed and merged, it goes. Where it lies is told once, in the conversation in which the owner
//! was spoken to last, and in the server's log. The receipt of that commits with the notice; it is
//! kept for longer than the turns of an owner that is gone, so that after it nobody is left to tell.

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
    runtime::{self, Cleaned, Runtime},
    store::{Change, ChangeKind, Conversation, Delivery, Op, Receipt, Store, Subject},
};

/// How often it is looked, when nobody goes.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);
/// How far back it is looked for where an owner was spoken to.
const LOOK_BACK: usize = 100;

/// Discards what belongs to nobody any more. Its keys are the runtimes' names.
pub struct KeepsakeController {
    hands: Hands,
    runtimes: Vec<Arc<dyn Runtime>>,
    /// The owners whose work was told of by this process.
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

    /// Discards what a runtime keeps of owners that are gone; answers what failed and is tried again.
    async fn discard(
        &self,
        runtime: &dyn Runtime,
        kept: &[String],
    ) -> Result<Option<Error>, Error> {
        let living = self.living().await?;
        let mut failed: Option<Error> = None;
        for uid in kept.iter().filter(|uid| !living.contains(*uid)) {
            let discard = runtime.discard(uid);
            match self.hands.ambient.step("keepsake.discard", discard).await {
                Ok(Cleaned::All) => {
                    tracing::info!(runtime = runtime.name(), uid, "removed what it left");
                }
                Ok(Cleaned::KeptWork { path, branch }) => {
                    let text = words_of(&path, branch.as_deref());
                    failed = self.tell(uid, text).await.err().or(failed);
                }
                // One that does not go holds up no other, now or in an hour.
                Err(runtime::Error::Terminal(error)) => {
                    tracing::warn!(uid, error, "what it left cannot be removed");
                }
                Err(error @ runtime::Error::Fault(_)) => return Err(error.into()),
                Err(error) => failed = Some(error.into()),
            }
        }
        Ok(failed)
    }

    /// Lets a runtime remove what nobody shares any more; answers what failed and is tried again.
    async fn sweep(&self, runtime: &dyn Runtime) -> Result<Option<Error>, Error> {
        match self.hands.ambient.step("keepsake.sweep", runtime.sweep()).await {
            Ok(()) => Ok(None),
            Err(runtime::Error::Terminal(error)) => {
                tracing::warn!(
                    runtime = runtime.name(),
                    error,
                    "what was shared cannot be removed"
                );
                Ok(None)
            }
            Err(error @ runtime::Error::Fault(_)) => Err(error.into()),
            Err(error) => Ok(Some(error.into())),
        }
    }

    /// Says once where the work of an owner lies.
    async fn tell(&self, uid: &str, text: String) -> Result<(), Error> {
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).contains(uid) {
            return Ok(());
        }
        let (store, key) = (&self.hands.store, format!("kept-work/{uid}"));
        if store.receipt(&key).await?.is_none() {
            tracing::warn!(uid, "{text}");
            if let Some(conversation) = self.conversation(uid).await? {
                let notice = self.notice(conversation, text);
                let receipt = Receipt { key, effect: format!("deliveries/{}", notice.id) };
                let ops = vec![Op::Receipt(receipt), Op::Delivery(notice)];
                self.hands.commit("keepsake.tell", ops).await?;
            }
        }
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned());
        Ok(())
    }

    /// Where an owner was spoken to last.
    async fn conversation(&self, uid: &str) -> Result<Option<Conversation>, Error> {
        let turns = self.hands.store.last_turns(uid, LOOK_BACK).await?;
        Ok(turns.into_iter().find_map(|turn| turn.conversation))
    }

    fn notice(&self, conversation: Conversation, text: String) -> Delivery {
        let (id, now) = (self.hands.ambient.ids.uid(), self.hands.now());
        Delivery::open(id, conversation, Subject::Notice { text }, now)
    }
}

/// What is said of work that was kept.
fn words_of(path: &str, branch: Option<&str>) -> String {
    let branch = branch.map(|branch| format!(" (branch {branch})")).unwrap_or_default();
    format!(
        "Kept {path}{branch}: it holds work that stands nowhere else, and whoever did it was \
         deleted. It goes once all of it is committed and on another branch, or pushed; or remove it \
         yourself"
    )
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
        let discarded = match kept.is_empty() {
            true => None,
            false => self.discard(runtime.as_ref(), &kept).await?,
        };
        let swept = self.sweep(runtime.as_ref()).await?;
        match discarded.or(swept) {
            Some(error) => Err(error),
            None => Ok(Next::After(LOOK_AGAIN)),
        }
    }
}
