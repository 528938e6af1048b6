//! The newest changes, read once for all who watch.
//!
//! A thousand watches hear of each commit, and each would read it from the store, decode it and
//! write it as JSON. So the first who comes reads it for all, and the first who shows it writes it
//! for all. What is older than what is kept here, each watch reads for itself.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;

use crate::store::{Change, Error, Revision, Store};

/// How many changes are kept.
const KEPT: usize = 512;
/// How many changes are read at once.
const PAGE: usize = 500;

/// A change, and its object as JSON, once somebody has asked for that.
pub(super) struct Told {
    pub(super) change: Change,
    json: OnceLock<Bytes>,
}

impl Told {
    fn new(change: Change) -> Arc<Self> {
        Arc::new(Self { change, json: OnceLock::new() })
    }

    /// The object as JSON.
    pub(super) fn json(&self) -> &Bytes {
        self.json.get_or_init(|| self.change.object.to_json().to_string().into())
    }
}

/// The newest changes: a part of the history without holes.
#[derive(Default)]
pub(in crate::server) struct Recent {
    kept: Mutex<VecDeque<Arc<Told>>>,
    /// Held by the one who reads for all.
    reading: tokio::sync::Mutex<()>,
}

impl Recent {
    /// What changed after a revision, in order, some of it at least if there is any.
    ///
    /// # Errors
    /// As [`Store::changes`].
    pub(super) async fn after(
        &self,
        store: &dyn Store,
        revision: Revision,
    ) -> Result<Vec<Arc<Told>>, Error> {
        if let Some(found) = self.kept_after(revision) {
            return Ok(found);
        }
        let _alone = self.reading.lock().await;
        // Somebody may have read it while this one waited for its turn.
        if let Some(found) = self.kept_after(revision) {
            return Ok(found);
        }
        let changes = store.changes(revision, PAGE).await?;
        let told: Vec<Arc<Told>> = changes.into_iter().map(Told::new).collect();
        self.keep(revision, &told);
        Ok(told)
    }

    /// What is kept of what changed after a revision; nothing, if that is not known here.
    fn kept_after(&self, revision: Revision) -> Option<Vec<Arc<Told>>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let first = kept.front()?.change.revision;
        let start = usize::try_from((revision + 1).checked_sub(first)?).ok()?;
        let found: Vec<Arc<Told>> = kept.iter().skip(start).take(PAGE).cloned().collect();
        Some(found).filter(|found| !found.is_empty())
    }

    /// Keeps changes that were read behind a revision, if they go on where what is kept ends.
    fn keep(&self, revision: Revision, told: &[Arc<Told>]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.back().map(|last| last.change.revision) {
            Some(last) if last == revision => {}
            // A watch from long ago reads for itself; one from behind a hole begins anew.
            Some(last) if last > revision => return,
            _ => kept.clear(),
        }
        kept.extend(told.iter().cloned());
        let more = kept.len().saturating_sub(KEPT);
        kept.drain(..more);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        ambient::{Clock as _, SystemClock},
        resource::{API_VERSION, decode},
        store::{Op, Transaction, memory::MemoryStore},
    };

    async fn store(objects: usize) -> Arc<MemoryStore> {
        let store = MemoryStore::new();
        for n in 0..objects {
            add(&store, n).await;
        }
        store
    }

    async fn add(store: &MemoryStore, n: usize) {
        let mut job = decode(json!({
            "apiVersion": API_VERSION, "kind": "Job", "metadata": {"name": format!("j{n}")},
            "spec": {"task": "t", "agent": {"command": {}}},
        }))
        .expect("a job");
        job.metadata_mut().uid = format!("u{n}");
        let transaction = Transaction::at(SystemClock.now()).with(Op::Create(job));
        store.apply(transaction).await.expect("a commit");
    }

    async fn revisions(recent: &Recent, store: &MemoryStore, after: Revision) -> Vec<Revision> {
        let told = recent.after(store, after).await.expect("history");
        told.iter().map(|told| told.change.revision).collect()
    }

    #[tokio::test]
    async fn what_is_kept_is_what_the_store_would_say() {
        let store = store(700).await;
        let recent = Recent::default();
        for after in [690, 695, 0, 698, 500, 699, 100] {
            let changes = store.changes(after, PAGE).await.expect("history");
            let expected: Vec<Revision> = changes.iter().map(|change| change.revision).collect();
            assert_eq!(revisions(&recent, &store, after).await, expected, "after {after}");
        }
        assert_eq!(revisions(&recent, &store, 700).await, Vec::<Revision>::new());
        add(&store, 700).await;
        assert_eq!(revisions(&recent, &store, 700).await, [701]);
        assert_eq!(revisions(&recent, &store, 699).await, [700, 701]);
        assert!(recent.kept.lock().expect("the lock").len() <= KEPT);
        assert!(recent.after(&*store, 900).await.is_err(), "that never was");
    }

    #[tokio::test]
    async fn a_change_is_read_once_for_all() {
        let store = store(3).await;
        let recent = Recent::default();
        let one = recent.after(&*store, 2).await.expect("history").remove(0);
        let two = recent.after(&*store, 2).await.expect("history").remove(0);
        assert!(Arc::ptr_eq(&one, &two));
        assert!(std::ptr::eq(one.json().as_ptr(), two.json().as_ptr()));
    }
}
