//! The one task that writes: takes all transactions that wait, and commits them together.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};

use super::{
    Shared,
    asked::{self, Asked},
    compact, failed,
    load::{self, Missing},
    save,
    trim::{self, Grown},
};
use crate::{
    ambient::Clock,
    store::{Applied, Bell, Error, Transaction, rules, size_of_event, tables::Tables},
};

/// How many transactions may wait before `apply` waits, too.
const QUEUE: usize = 1024;
/// How many transactions are committed together at most.
const GROUP: usize = 512;
/// How many rows the cache holds at most between two groups.
const CACHED_ROWS: usize = 8192;

/// How long a commit must take before the writer waits for more to commit: less is finer than
/// its timer.
const SLOW: Duration = Duration::from_millis(2);
/// How many must have been answered together before the writer waits for them to come again.
const CROWD: usize = 8;

/// How long a failure counts whatever a smaller write does.
const RECENT: Duration = Duration::from_secs(15);

/// What the writer can be asked.
pub(super) enum Request {
    Apply(Transaction, oneshot::Sender<Result<Applied, Error>>),
    /// One piece of a compaction; answered with whether there is more to do.
    Compact(Timestamp, oneshot::Sender<Result<bool, Error>>),
    /// A write that changes nothing: whether one can be made.
    Try(oneshot::Sender<Result<(), Error>>),
    Close(oneshot::Sender<()>),
}

/// Starts the writer. It ends when it is asked to close, or nobody can ask any more.
pub(super) fn start(
    options: SqliteConnectOptions,
    connection: SqliteConnection,
    counters: (u64, u64),
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
) -> mpsc::Sender<Request> {
    let (sender, requests) = mpsc::channel(QUEUE);
    let (revision, made) = counters;
    let tables = Tables { revision, made, ..Tables::default() };
    let crowd = Crowd::default();
    let (grown, asked) = (Grown::default(), Asked::default());
    let writer = Writer { options, connection, tables, shared, clock, crowd, grown, asked };
    tokio::spawn(writer.run(requests));
    sender
}

struct Writer {
    options: SqliteConnectOptions,
    connection: SqliteConnection,
    /// Rows as they are committed: this task alone writes them.
    tables: Tables,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    crowd: Crowd,
    /// Whose output may have to be trimmed.
    grown: Grown,
    /// Whose questions and orders may be too many.
    asked: Asked,
}

/// Who is about to come: whoever writes all the time comes again once they are answered.
///
/// Where a commit is slow, the first of them would have it for themselves, and all others wait
/// for two commits, again and again. So the writer waits for them, but never longer than half
/// of what the last commit took.
#[derive(Default)]
struct Crowd {
    /// How many were answered by the last commit, or waited behind it.
    size: usize,
    /// How long the last commit took.
    took: Duration,
}

impl Crowd {
    async fn gather(&self, requests: &mut mpsc::Receiver<Request>, waiting: &mut Vec<Request>) {
        let whole = self.size.min(GROUP);
        if self.took < SLOW || whole < CROWD {
            return;
        }
        let all = async {
            while waiting.len() < whole {
                if requests.recv_many(waiting, whole - waiting.len()).await == 0 {
                    return;
                }
            }
        };
        // Whoever does not come in time goes with the next commit.
        let _ = tokio::time::timeout(self.took / 2, all).await;
    }
}

impl Writer {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(GROUP);
        let mut closing = Vec::new();
        while closing.is_empty() {
            if requests.recv_many(&mut waiting, GROUP).await == 0 {
                break;
            }
            self.crowd.gather(&mut requests, &mut waiting).await;
            let mut transactions = Vec::with_capacity(waiting.len());
            let mut answers = Vec::with_capacity(waiting.len());
            let (mut compactions, mut tries) = (Vec::new(), Vec::new());
            for request in waiting.drain(..) {
                match request {
                    Request::Apply(transaction, answer) => {
                        transactions.push(transaction);
                        answers.push(answer);
                    }
                    Request::Compact(now, answer) => compactions.push((now, answer)),
                    Request::Try(answer) => tries.push(answer),
                    Request::Close(answer) => closing.push(answer),
                }
            }
            let begin = self.clock.elapsed();
            let results = self.commit(&transactions).await;
            let took = self.clock.elapsed().saturating_sub(begin);
            self.crowd = Crowd { size: answers.len() + requests.len(), took };
            // Whoever does not wait for the answer any more does not need it.
            for (answer, result) in answers.into_iter().zip(results) {
                let _ = answer.send(result);
            }
            for (now, answer) in compactions {
                let _ = answer.send(self.compact(now).await);
            }
            if !tries.is_empty() {
                let tried = self.try_to_write().await;
                for answer in tries {
                    let _ = answer.send(tried.clone());
                }
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the store did not close cleanly");
        }
        for answer in closing {
            let _ = answer.send(());
        }
    }

    /// Commits transactions together; where that fails, one by one.
    async fn commit(&mut self, group: &[Transaction]) -> Vec<Result<Applied, Error>> {
        match self.commit_together(group).await {
            Ok(results) => results,
            Err(error) if group.len() <= 1 => group.iter().map(|_| Err(error.clone())).collect(),
            Err(_) => {
                let mut results = Vec::with_capacity(group.len());
                for transaction in group {
                    match self.commit_together(std::slice::from_ref(transaction)).await {
                        Ok(result) => results.extend(result),
                        Err(error) => results.push(Err(error)),
                    }
                }
                results
            }
        }
    }

    async fn commit_together(
        &mut self,
        group: &[Transaction],
    ) -> Result<Vec<Result<Applied, Error>>, Error> {
        let counters = (self.tables.revision, self.tables.made);
        match self.try_commit(group).await {
            Ok(results) => Ok(results),
            Err(error) => {
                tracing::error!(%error, transactions = group.len(), "cannot commit");
                *self.shared.trouble() = Some((error.clone(), self.clock.elapsed()));
                self.reset(counters).await;
                Err(error)
            }
        }
    }

    async fn try_commit(
        &mut self,
        group: &[Transaction],
    ) -> Result<Vec<Result<Applied, Error>>, Error> {
        let missing = Missing::of(group, &self.tables);
        load::load(&mut self.connection, missing, &mut self.tables).await?;

        let mut batch = save::Batch::default();
        let mut bells = Vec::new();
        let mut writes = 0;
        let mut grown = Vec::new();
        let mut results = Vec::with_capacity(group.len());
        for transaction in group {
            results.push(rules::commit(&mut self.tables, transaction).map(|outcome| {
                writes += u64::from(outcome.applied.changed);
                grown.extend(outcome.output.iter().map(|it| (it.sprite_uid, size_of(it.events))));
                batch.add(transaction.now, outcome.changes, outcome.output);
                bells.extend(outcome.bells);
                outcome.applied
            }));
        }
        batch.take_rows(&mut self.tables);
        if save::save(&mut self.connection, batch).await.map_err(failed)? {
            *self.shared.trouble() = None;
        }
        for (uid, bytes) in grown {
            self.grown.add(uid, bytes);
        }
        for bell in &bells {
            if let Bell::Approvals(uid) | Bell::Inbox(uid) = bell {
                self.asked.add(uid);
            }
        }

        if self.tables.len() > CACHED_ROWS {
            self.forget((self.tables.revision, self.tables.made));
        }
        self.shared.revision.store(self.tables.revision, Ordering::Release);
        self.shared.writes.fetch_add(writes, Ordering::Release);
        self.ring(bells);
        Ok(results)
    }

    /// Rings each bell of a group once.
    fn ring(&self, bells: Vec<Bell>) {
        let mut rung = std::collections::HashSet::new();
        let mut newest = None;
        for bell in bells {
            match bell {
                Bell::Objects(revision) => newest = newest.max(Some(revision)),
                Bell::Output(ref uid) if !rung.insert((0, uid.clone())) => {}
                Bell::Inbox(ref uid) if !rung.insert((1, uid.clone())) => {}
                Bell::Delivery(ref id) if !rung.insert((2, id.clone())) => {}
                Bell::Turns(ref uid) if !rung.insert((3, uid.clone())) => {}
                Bell::Approvals(ref uid) if !rung.insert((4, uid.clone())) => {}
                bell => self.ring_one(bell),
            }
        }
        if let Some(revision) = newest {
            self.ring_one(Bell::Objects(revision));
        }
    }

    fn ring_one(&self, bell: Bell) {
        // Nobody listening is no error.
        let _ = self.shared.bell.send(bell);
    }

    async fn compact(&mut self, now: Timestamp) -> Result<bool, Error> {
        let counters = (self.tables.revision, self.tables.made);
        let dropped = compact::step(&mut self.connection, counters.0, now).await.map_err(failed);
        let result = match dropped {
            Ok(more) => {
                let trimmed = trim::step(&mut self.connection, &mut self.grown, now).await;
                match trimmed.map(|trimmed| trimmed || more) {
                    Ok(false) => {
                        asked::drop_old(&mut self.connection, &mut self.asked).await.map(|()| false)
                    }
                    more => more,
                }
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(_) => self.forget(counters),
            Err(_) => self.reset(counters).await,
        }
        result
    }

    /// Whether commits can be made again after one that failed. Not right behind a failure: where a
    /// large one does not fit, a small one may. Then it writes what is there already, which takes as
    /// much of the disk as the smallest commit does.
    async fn try_to_write(&mut self) -> Result<(), Error> {
        let failed_at = self.shared.trouble().clone();
        if let Some((error, at)) = failed_at
            && self.clock.elapsed().saturating_sub(at) < RECENT
        {
            return Err(error);
        }
        let write = "UPDATE installation SET id = id";
        let tried = sqlx::query(write).execute(&mut self.connection).await.map_err(failed);
        match tried {
            Ok(_) => {
                *self.shared.trouble() = None;
                Ok(())
            }
            Err(error) => {
                let counters = (self.tables.revision, self.tables.made);
                self.reset(counters).await;
                Err(error)
            }
        }
    }

    /// Drops the cache, and keeps the counters.
    fn forget(&mut self, (revision, made): (u64, u64)) {
        self.tables = Tables { revision, made, ..Tables::default() };
    }

    /// Starts over after a failure, with what is committed: on a new connection where one can
    /// be had, since nobody knows what state the old one is in.
    async fn reset(&mut self, counters: (u64, u64)) {
        self.forget(counters);
        // Where SQLite has rolled back by itself, this fails, and that is well.
        let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        if let Ok(fresh) = self.options.connect().await {
            let old = std::mem::replace(&mut self.connection, fresh);
            let _ = old.close().await;
        }
    }
}

/// About how many bytes events have as they are kept.
fn size_of(events: &[sprite_reporter::wire::Event]) -> u64 {
    let size = events.iter().map(size_of_event).fold(0, usize::saturating_add);
    u64::try_from(size).unwrap_or(u64::MAX)
}
