//! The store in one SQLite file: `store.db` in the data directory.
//!
//! **Writing.** One task, the [`writer`], owns the one connection that writes. Transactions
//! queue up before it. It takes all that wait, lets the [rules](super::rules) work on a cache
//! of the rows that they need, writes what came of it in a few statements of many rows, and
//! commits once: one fsync for the whole group. Then it answers, and rings the bells. A
//! transaction that its rules refuse leaves nothing in the cache, so it needs no savepoint in
//! the database. When the database itself fails, the cache is dropped, and the members of the
//! group are tried one by one, so that one that cannot be written does not take others along.
//!
//! **Reading.** A small pool of connections reads beside the writer (WAL). An answer of
//! [`Store::apply`](super::Store::apply) comes after the commit, so whoever has it reads what
//! it wrote.
//!
//! **Durability.** `synchronous = FULL`: a commit is on disk when it is answered.
//!
//! SQLite runs on threads of its own, one for each connection; no worker of tokio waits for it.

mod asked;
mod codec;
mod compact;
#[cfg(test)]
mod indexes;
mod load;
mod open;
mod read;
mod save;
mod snapshot;
mod trim;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use sprite_reporter::wire::InboxRow;
use sqlx::SqlitePool;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    Access, Applied, Approval, AuditRow, BackoffRow, Bell, Change, Cursor, Delivery, Error,
    EventRow, Grant, Happened, Held, Listing, OutputRow, Owned, Pairing, Place, Receipt, Revision,
    Store, Transaction, Turn, TurnSums,
};
use crate::{
    ambient::Ambient,
    resource::{AnyObject, Kind},
};
pub use snapshot::snapshot;
use writer::Request;

/// The store's file in the data directory.
const FILE: &str = "store.db";
/// SQLite's code for a disk without space.
const DISK_FULL: &str = "13";
/// What whoever comes too late is told.
const CLOSED: &str = "it was closed";

/// How a store is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// The most pages of 8 KiB that the file may have; unlimited by default. A full store
    /// refuses writes with [`Error::Unavailable`], and stays readable.
    pub max_pages: Option<u32>,
}

/// The store in SQLite. See the head of this room.
pub struct SqliteStore {
    path: PathBuf,
    installation: String,
    requests: mpsc::Sender<Request>,
    readers: SqlitePool,
    shared: Arc<Shared>,
}

/// What the writer tells without being asked.
struct Shared {
    bell: broadcast::Sender<Bell>,
    writes: AtomicU64,
    revision: AtomicU64,
    /// Why the last commit failed and when, where none was made since.
    trouble: Mutex<Option<(Error, Duration)>>,
}

impl Shared {
    fn trouble(&self) -> MutexGuard<'_, Option<(Error, Duration)>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqliteStore {
    /// Opens the store in a data directory, and makes or migrates it where needed. The caller
    /// holds the directory's lock ([`DataDir`](super::data::DataDir)).
    ///
    /// # Errors
    /// [`Error::TooNew`] if a newer version wrote it; [`Error::Unavailable`] if it cannot be
    /// read or written, or is no store.
    pub async fn open(dir: &Path, ambient: Ambient) -> Result<Arc<Self>, Error> {
        Self::open_with(dir, ambient, Options::default()).await
    }

    /// Opens the store with options.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn open_with(
        dir: &Path,
        ambient: Ambient,
        options: Options,
    ) -> Result<Arc<Self>, Error> {
        let path = dir.join(FILE);
        let opened = open::open(&path, &ambient, options).await?;
        let shared = Arc::new(Shared {
            bell: broadcast::Sender::new(super::BELL_CAPACITY),
            writes: AtomicU64::new(0),
            revision: AtomicU64::new(opened.revision),
            trouble: Mutex::default(),
        });
        let counters = (opened.revision, opened.made);
        let requests = writer::start(
            opened.options,
            opened.connection,
            counters,
            Arc::clone(&shared),
            ambient.clock,
        );
        Ok(Arc::new(Self {
            path,
            installation: opened.installation,
            requests,
            readers: opened.readers,
            shared,
        }))
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is queued, and closes the file. Whoever comes later gets
    /// [`Error::Unavailable`].
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.requests.send(Request::Close(answer)).await.is_ok() {
            // A writer that is gone already has closed, too.
            let _ = closed.await;
        }
        self.readers.close().await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        let closed = || Error::Unavailable(CLOSED.to_owned());
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

/// What the database says, as the store says it.
#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn failed(error: sqlx::Error) -> Error {
    Error::Unavailable(message(&error))
}

fn message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) if error.code().as_deref() == Some(DISK_FULL) => {
            format!("{}; free some space", error.message())
        }
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::PoolClosed => CLOSED.to_owned(),
        other => other.to_string(),
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn apply(&self, transaction: Transaction) -> Result<Applied, Error> {
        self.ask(|answer| Request::Apply(transaction, answer)).await
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<AnyObject>, Error> {
        read::object(&self.readers, kind, name).await
    }

    async fn get_by_uid(&self, kind: Kind, uid: &str) -> Result<Option<AnyObject>, Error> {
        read::object_by_uid(&self.readers, kind, uid).await
    }

    async fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Listing, Error> {
        read::list(&self.readers, kind, after, limit).await
    }

    async fn list_owned(&self, kind: Kind, owner_uid: &str) -> Result<Vec<AnyObject>, Error> {
        read::list_owned(&self.readers, kind, owner_uid).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        // Whoever asks how the store is asks this: without its writer it is none.
        if self.requests.is_closed() {
            return Err(Error::Unavailable(CLOSED.to_owned()));
        }
        Ok(self.shared.revision.load(Ordering::Acquire))
    }

    async fn trouble(&self) -> Option<String> {
        if self.shared.trouble().is_none() {
            return None;
        }
        // Who waits for it to pass may be the only one that asks for anything.
        self.ask(Request::Try).await.err().map(|error| error.to_string())
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, Error> {
        read::changes(&self.readers, after, limit).await
    }

    fn bell(&self) -> broadcast::Receiver<Bell> {
        self.shared.bell.subscribe()
    }

    fn installation(&self) -> &str {
        &self.installation
    }

    fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::Acquire)
    }

    async fn compact(&self, now: Timestamp) -> Result<(), Error> {
        // Piece by piece, so that writers get their turn in between.
        while self.ask(|answer| Request::Compact(now, answer)).await? {}
        Ok(())
    }

    async fn receipt(&self, key: &str) -> Result<Option<Receipt>, Error> {
        read::receipt(&self.readers, key).await
    }

    async fn held(&self, sprite_uid: &str, run: Option<u32>) -> Result<Held, Error> {
        read::held(&self.readers, sprite_uid, run).await
    }

    async fn output(
        &self,
        sprite_uid: &str,
        after: Cursor,
        max_bytes: usize,
    ) -> Result<Vec<OutputRow>, Error> {
        read::output(&self.readers, sprite_uid, after, max_bytes).await
    }

    async fn inbox(&self, sprite_uid: &str, after: u64) -> Result<Vec<InboxRow>, Error> {
        read::inbox(&self.readers, sprite_uid, after).await
    }

    async fn inbox_acked(&self, sprite_uid: &str) -> Result<u64, Error> {
        read::inbox_acked(&self.readers, sprite_uid).await
    }

    async fn turns(&self, agent_uid: &str, after: u64, limit: usize) -> Result<Vec<Turn>, Error> {
        read::turns(&self.readers, agent_uid, after, limit).await
    }

    async fn open_turns(&self, agent_uid: &str) -> Result<Vec<Turn>, Error> {
        read::open_turns(&self.readers, agent_uid).await
    }

    async fn last_turns(&self, agent_uid: &str, limit: usize) -> Result<Vec<Turn>, Error> {
        read::last_turns(&self.readers, agent_uid, limit).await
    }

    async fn turn_sums(&self, agent_uid: &str) -> Result<TurnSums, Error> {
        read::turn_sums(&self.readers, agent_uid).await
    }

    async fn place(&self, platform: &str, channel: &str) -> Result<Option<Place>, Error> {
        read::place(&self.readers, platform, channel).await
    }

    async fn owned(&self, kind: Kind, name: &str) -> Result<Option<Owned>, Error> {
        read::owned(&self.readers, kind, name).await
    }

    async fn inventory(&self, source_uid: &str) -> Result<Vec<Owned>, Error> {
        read::inventory(&self.readers, source_uid).await
    }

    async fn grants(&self, agent_uid: &str) -> Result<Vec<Grant>, Error> {
        read::grants(&self.readers, agent_uid).await
    }

    async fn access(&self) -> Result<Vec<Access>, Error> {
        read::access(&self.readers).await
    }

    async fn pairings(&self) -> Result<Vec<Pairing>, Error> {
        read::pairings(&self.readers).await
    }

    async fn audit(&self, after: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, Error> {
        read::audit(&self.readers, after, limit).await
    }

    async fn turn(&self, id: &str) -> Result<Option<Turn>, Error> {
        read::turn(&self.readers, id).await
    }

    async fn approvals(&self, sprite_uid: &str) -> Result<Vec<Approval>, Error> {
        read::approvals(&self.readers, sprite_uid).await
    }

    async fn delivery(&self, id: &str) -> Result<Option<Delivery>, Error> {
        read::delivery(&self.readers, id).await
    }

    async fn open_deliveries(&self) -> Result<Vec<Delivery>, Error> {
        read::open_deliveries(&self.readers).await
    }

    async fn delivery_ahead(
        &self,
        delivery: &Delivery,
        whispers: bool,
    ) -> Result<Option<Delivery>, Error> {
        read::delivery_ahead(&self.readers, delivery, whispers).await
    }

    async fn events(&self, regarding_uid: &str) -> Result<Vec<EventRow>, Error> {
        read::events(&self.readers, regarding_uid).await
    }

    async fn all_events(&self, after: u64, limit: usize) -> Result<Vec<Happened>, Error> {
        read::all_events(&self.readers, after, limit).await
    }

    async fn backoffs(&self) -> Result<Vec<BackoffRow>, Error> {
        read::backoffs(&self.readers).await
    }
}
