//! Where desired state, observed state and the ledgers live.
//!
//! One interface, [`Store`]; its back ends are SQLite (the default) and one in memory (tests
//! and benchmarks), and PostgreSQL is planned. All pass the same conformance suite.
//!
//! **One way in.** Every write is a [`Transaction`]: a list of [`Op`]s that commit together or
//! not at all. There is no other way to write a row. A transaction is data, not code, so that
//! a back end can commit many of them with one fsync, and nobody can hold one across a call
//! to the network.
//!
//! **Revisions.** A commit that changes an object takes the next revision. Revision order is
//! commit order. An object's `resourceVersion` is the revision of its last change. A write that
//! changes nothing takes no revision, writes no row, and rings no bell.
//!
//! **Reading.** Reads are consistent with everything that [`Store::apply`] has answered. The
//! [`Bell`] only says *that* something changed; whoever hears it reads again. A bell that was
//! missed costs time, never truth.

mod access;
pub mod attached;
pub mod data;
pub mod files;
mod inventory;
mod ledger;
pub mod memory;
mod retention;
mod rules;
pub mod sqlite;
mod tables;
mod transaction;
mod trim;
mod watch;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::resource::{AnyObject, Kind};
pub use access::{
    Access, AuditRow, BadPrincipal, BadRole, MOST_PAIRINGS, Outcome, PAIRING_EXPIRY, Pairing,
    Principal, Role, Token,
};
pub use inventory::{Base, LiveOverride, Owned};
use ledger::size_of_event;
pub use ledger::{
    Approval, ApprovalState, BackoffRow, Conversation, Cursor, Delivery, DeliveryState, EventRow,
    Grant, Happened, Held, OutputRow, Place, Receipt, Subject, Turn, TurnState, TurnSums,
};
pub use transaction::{Applied, Expect, Op, Part, Transaction};
pub use watch::{WatchEvent, watch, watch_with};

/// A point in the history of the store.
pub type Revision = u64;

/// How many bells a slow receiver may leave unheard before it must read everything again.
const BELL_CAPACITY: usize = 4096;

/// The store. See the head of this room.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Commits a transaction; answers once it is durable.
    ///
    /// # Errors
    /// The first operation that could not be done; then none was.
    async fn apply(&self, transaction: Transaction) -> Result<Applied, Error>;

    /// One object.
    ///
    /// # Errors
    /// Only [`Error::Unavailable`].
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<AnyObject>, Error>;

    /// One object by uid.
    ///
    /// # Errors
    /// Only [`Error::Unavailable`].
    async fn get_by_uid(&self, kind: Kind, uid: &str) -> Result<Option<AnyObject>, Error>;

    /// The objects of a kind by name, from behind `after` (a name), at most `limit` of them,
    /// with the revision at which this list is true.
    ///
    /// # Errors
    /// Only [`Error::Unavailable`].
    async fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Listing, Error>;

    /// The objects of a kind that an owner controls, by name.
    ///
    /// # Errors
    /// Only [`Error::Unavailable`].
    async fn list_owned(&self, kind: Kind, owner_uid: &str) -> Result<Vec<AnyObject>, Error>;

    /// The current revision.
    async fn revision(&self) -> Result<Revision, Error>;

    /// Why nothing can be written at present, such as a disk that is full; none where it can. What is
    /// there can be read all the same. Where the last commit failed, this tries a small write.
    async fn trouble(&self) -> Option<String> {
        None
    }

    /// What changed after a revision, in order, at most `limit` changes.
    ///
    /// # Errors
    /// [`Error::Compacted`] if that history is gone, or never was (a store from a backup).
    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, Error>;

    /// Hears every commit from now on. A receiver that lags must read everything again.
    fn bell(&self) -> broadcast::Receiver<Bell>;

    /// The id that was drawn when the store was made.
    fn installation(&self) -> &str;

    /// How many transactions that changed something were committed since the store was opened.
    fn writes(&self) -> u64;

    /// Drops receipts older than 24 h, deliveries done for 24 h, events older than 1 h, history
    /// beyond both 5 minutes and 1,000 revisions, ended turns that are not among their Agent's
    /// newest 1,000 (their sums stay), and the ledgers of Sprites and Agents that have been gone
    /// for 1 h. Of what a Sprite has said, at least the newest 16 MiB stay, and up to 64 MiB of what a
    /// turn that has not ended or a delivery that is not done still needs; a gap tells what went. Of
    /// its resolved approvals and acknowledged orders the newest 256 stay (1,024 where they may be
    /// needed), and each answer as long as its approval. What people asked for stays for 90 days, and
    /// of that the newest 100,000 rows.
    /// Called now and then; counts as maintenance, not as a write.
    async fn compact(&self, now: jiff::Timestamp) -> Result<(), Error>;

    /// A receipt by its key.
    async fn receipt(&self, key: &str) -> Result<Option<Receipt>, Error>;

    /// What is held of a sprite's newest run, or of a given one.
    async fn held(&self, sprite_uid: &str, run: Option<u32>) -> Result<Held, Error>;

    /// A sprite's output from behind a cursor, in order, about `max_bytes` of it (at least one
    /// event if there is one).
    async fn output(
        &self,
        sprite_uid: &str,
        after: Cursor,
        max_bytes: usize,
    ) -> Result<Vec<OutputRow>, Error>;

    /// A sprite's inbox from behind a row, in order.
    async fn inbox(
        &self,
        sprite_uid: &str,
        after: u64,
    ) -> Result<Vec<sprite_reporter::wire::InboxRow>, Error>;

    /// The highest inbox row that the sprite's reporter has acknowledged; 0 for none.
    async fn inbox_acked(&self, sprite_uid: &str) -> Result<u64, Error>;

    /// An agent's turns by number, from behind one.
    async fn turns(&self, agent_uid: &str, after: u64, limit: usize) -> Result<Vec<Turn>, Error>;

    /// An agent's turns that have not ended, by number.
    async fn open_turns(&self, agent_uid: &str) -> Result<Vec<Turn>, Error>;

    /// An agent's turns, summed up.
    async fn turn_sums(&self, agent_uid: &str) -> Result<TurnSums, Error>;

    /// An agent's last turns, newest first.
    async fn last_turns(&self, agent_uid: &str, limit: usize) -> Result<Vec<Turn>, Error>;

    /// What an agent was allowed once and for all, oldest first.
    async fn grants(&self, agent_uid: &str) -> Result<Vec<Grant>, Error>;

    /// Who has which role, by principal; the admins that the configuration names are not among
    /// them.
    async fn access(&self) -> Result<Vec<Access>, Error>;

    /// Who waits to be let in, the oldest first; those that expired may be among them.
    async fn pairings(&self) -> Result<Vec<Pairing>, Error>;

    /// What people asked for, the oldest first, at most `limit` rows: from behind row `after`, or
    /// the newest.
    async fn audit(&self, after: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, Error>;

    /// One turn.
    async fn turn(&self, id: &str) -> Result<Option<Turn>, Error>;

    /// A sprite's approvals.
    async fn approvals(&self, sprite_uid: &str) -> Result<Vec<Approval>, Error>;

    /// One delivery.
    async fn delivery(&self, id: &str) -> Result<Option<Delivery>, Error>;

    /// What a platform keeps of a channel.
    async fn place(&self, platform: &str, channel: &str) -> Result<Option<Place>, Error>;

    /// All deliveries that are not done, in the order in which they were made.
    async fn open_deliveries(&self) -> Result<Vec<Delivery>, Error>;

    /// The delivery that one waits for: the last of those to the same conversation that were made
    /// before it, are not done, and show no message yet. With `whispers`, those that are for one
    /// person alone are among them. None for a delivery that is not there.
    async fn delivery_ahead(
        &self,
        delivery: &Delivery,
        whispers: bool,
    ) -> Result<Option<Delivery>, Error>;

    /// The events about an object, oldest first.
    async fn events(&self, regarding_uid: &str) -> Result<Vec<EventRow>, Error>;

    /// The events about all objects, in the order in which they were made first, from behind a
    /// number on; at most `limit` of them.
    async fn all_events(&self, after: u64, limit: usize) -> Result<Vec<Happened>, Error>;

    /// What declares an object, where a Source does.
    async fn owned(&self, kind: Kind, name: &str) -> Result<Option<Owned>, Error>;

    /// What a Source owns, by kind and name.
    async fn inventory(&self, source_uid: &str) -> Result<Vec<Owned>, Error>;

    /// All persisted backoffs.
    async fn backoffs(&self) -> Result<Vec<BackoffRow>, Error>;
}

/// A list and the revision at which it is true.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// The objects by name.
    pub items: Vec<AnyObject>,
    /// The revision at which the list is true.
    pub revision: Revision,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The revision that the change made.
    pub revision: Revision,
    /// What happened to the object.
    pub kind: ChangeKind,
    /// The object after the change; for a removal, as it was last, with this revision.
    pub object: AnyObject,
    /// Whether the change touched what controllers act on: spec, deletion, finalizers, labels,
    /// annotations or owner, and not status alone.
    pub desired: bool,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// What a commit touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bell {
    /// Objects changed; the newest revision is this.
    Objects(Revision),
    /// A sprite's output grew.
    Output(String),
    /// A sprite's inbox grew.
    Inbox(String),
    /// A delivery was made or changed.
    Delivery(String),
    /// An agent's turns changed.
    Turns(String),
    /// A sprite's approvals changed.
    Approvals(String),
}

/// Why the store could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such object.
    #[error("{} \"{name}\" not found", kind.plural())]
    NotFound {
        /// Its kind.
        kind: Kind,
        /// Its name or uid.
        name: String,
    },
    /// There is one already.
    #[error("{} \"{name}\" already exists", kind.plural())]
    AlreadyExists {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The object has changed since it was read, or is another one of the same name.
    #[error("{} \"{name}\" has been modified; read it again and apply the change to what is there now", kind.plural())]
    Conflict {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// A ledger row is not as expected, such as a turn that has ended by now.
    #[error("{what} has moved on")]
    Stale {
        /// Which row.
        what: String,
    },
    /// A Source declares the object, so it is not changed past it.
    #[error("{} \"{name}\" is declared by source {source_name} ({file}); override it for a time, change the file, or let it go", kind.plural())]
    Owned {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The Source's name.
        source_name: String,
        /// The file and line.
        file: String,
    },
    /// A token of the API that was revoked or replaced, or whose time ended, while it was used.
    #[error("{who} was revoked or replaced meanwhile, or its time is over, so nothing was done")]
    Revoked {
        /// The token, as `token:NAME`.
        who: String,
    },
    /// This message or command was taken before.
    #[error("request {key} was taken before")]
    Duplicate {
        /// The receipt's key.
        key: String,
        /// What it led to.
        effect: String,
    },
    /// Output that does not follow what is held.
    #[error("expected event {expected}")]
    Gap {
        /// The sequence number that would follow.
        expected: u64,
    },
    /// Output behind a run's exit event, or of a run older than the newest.
    #[error("the run has ended or was superseded")]
    Finished,
    /// That history is gone; list again.
    #[error("history before revision {oldest} is gone; list again")]
    Compacted {
        /// The oldest revision from which a watch can resume.
        oldest: Revision,
    },
    /// Another process holds the data directory.
    #[error(
        "{path} is in use by process {holder}; stop it, or choose another directory with --data"
    )]
    Locked {
        /// The data directory.
        path: String,
        /// The other process's id, as far as it can be told.
        holder: String,
    },
    /// The store was written by a newer version.
    #[error(
        "the store at {path} has schema {found}, and this version knows {known}; install a newer open-dispatch"
    )]
    TooNew {
        /// Where.
        path: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A patch would leave a status that its kind cannot have.
    #[error("the patch does not fit the status of {} \"{name}\": {fault}", kind.plural())]
    BadPatch {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
        /// What does not fit.
        fault: String,
    },
    /// The disk or the database failed, or the store was closed.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// A scripted fault; only in tests.
    #[error(transparent)]
    Fault(#[from] crate::ambient::Fault),
}
