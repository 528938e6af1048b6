//! Watches: a kind's changes as a stream, on any back end.
//!
//! A watch reads the history behind where it stands, and waits for the bell when there is no
//! more. The bell only wakes it: what was missed while it lagged stands in the history. So a
//! watch shows each change once, in order, or ends with [`Error::Compacted`].

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tokio::sync::{Notify, broadcast};

use super::{Bell, ChangeKind, Error, Revision, Store};
use crate::{
    ambient::{Clock, SystemClock},
    resource::{AnyObject, Kind},
};

/// How many changes a watch reads at once.
const PAGE: usize = 500;
/// How long a watch stays silent before it says where it stands.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);

/// What a watch shows.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// An object was created.
    Added(AnyObject),
    /// An object was changed.
    Modified(AnyObject),
    /// An object is gone; this is how it was last, with the revision of its removal.
    Deleted(AnyObject),
    /// All changes of the kind up to this revision were shown.
    Bookmark(Revision),
}

/// Shows what happens to the objects of a kind after a revision, with a bookmark each minute.
///
/// The stream ends with its first error: [`Error::Compacted`] when the history behind
/// `after` is gone, so that the reader must list again, or [`Error::Unavailable`].
pub fn watch(
    store: Arc<dyn Store>,
    kind: Kind,
    after: Revision,
) -> impl Stream<Item = Result<WatchEvent, Error>> + Send + 'static {
    watch_with(store, kind, after, Arc::new(SystemClock), Arc::new(Notify::new()))
}

/// Like [`watch()`], with bookmarks by the given clock, and one more whenever `demand` is
/// notified.
pub fn watch_with(
    store: Arc<dyn Store>,
    kind: Kind,
    after: Revision,
    clock: Arc<dyn Clock>,
    demand: Arc<Notify>,
) -> impl Stream<Item = Result<WatchEvent, Error>> + Send + 'static {
    let bell = store.bell();
    let watch = Watch {
        store,
        kind,
        after,
        demand,
        bell,
        ready: VecDeque::new(),
        unread: true,
        bookmark_due: clock.elapsed() + BOOKMARK_INTERVAL,
        clock,
    };
    stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.next().await {
            Ok(Some(event)) => Some((Ok(event), Some(watch))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

struct Watch {
    store: Arc<dyn Store>,
    kind: Kind,
    /// All changes up to here were read.
    after: Revision,
    clock: Arc<dyn Clock>,
    demand: Arc<Notify>,
    bell: broadcast::Receiver<Bell>,
    /// What was read and not shown yet.
    ready: VecDeque<WatchEvent>,
    /// Whether there may be changes behind `after`.
    unread: bool,
    /// When the watch has been silent for too long, by [`Clock::elapsed`].
    bookmark_due: Duration,
}

/// Why a watch that had nothing to show goes on.
enum Woken {
    Changes,
    BookmarkDue,
    Closed,
}

impl Watch {
    async fn next(&mut self) -> Result<Option<WatchEvent>, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.bookmark_due = self.clock.elapsed() + BOOKMARK_INTERVAL;
                return Ok(Some(event));
            }
            if self.unread {
                self.read().await?;
                continue;
            }
            match self.wait().await {
                Woken::Changes => self.unread = true,
                // Whatever was committed before the bookmark was asked for comes before it.
                Woken::BookmarkDue => {
                    self.read().await?;
                    while self.unread {
                        self.read().await?;
                    }
                    self.ready.push_back(WatchEvent::Bookmark(self.after));
                }
                Woken::Closed => return Ok(None),
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let changes = self.store.changes(self.after, PAGE).await?;
        self.unread = changes.len() == PAGE;
        for change in changes {
            self.after = change.revision;
            if change.object.kind() == self.kind {
                self.ready.push_back(match change.kind {
                    ChangeKind::Added => WatchEvent::Added(change.object),
                    ChangeKind::Modified => WatchEvent::Modified(change.object),
                    ChangeKind::Deleted => WatchEvent::Deleted(change.object),
                });
            }
        }
        Ok(())
    }

    async fn wait(&mut self) -> Woken {
        let silence = self.clock.sleep(self.bookmark_due.saturating_sub(self.clock.elapsed()));
        tokio::pin!(silence);
        loop {
            tokio::select! {
                biased;
                () = self.demand.notified() => return Woken::BookmarkDue,
                bell = self.bell.recv() => match bell {
                    Ok(Bell::Objects(revision)) if revision > self.after => return Woken::Changes,
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => return Woken::Changes,
                    Err(broadcast::error::RecvError::Closed) => return Woken::Closed,
                },
                () = &mut silence => return Woken::BookmarkDue,
            }
        }
    }
}
