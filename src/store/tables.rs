//! Rows under keys, with a transaction's rows on top.
//!
//! Both back ends hold rows in these tables and let the [rules](super::rules) work on them.
//! In memory a [`Tables`] *is* the store; the SQLite writer keeps one as a cache of what its
//! group of transactions needs, and writes the rows that changed.
//!
//! A transaction's writes lie on top of the rows until it is kept or forgotten as a whole.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sprite_reporter::wire::InboxRow;

use super::{
    Access, Approval, AuditRow, BackoffRow, Delivery, EventRow, Grant, Held, Owned, Pairing, Place,
    Revision, Turn, TurnSums,
};
use crate::resource::{AnyObject, Kind};

/// Rows of one sort under their keys.
pub(super) struct Table<K, V> {
    /// What is committed, as far as it is known; `None` for a row known to be absent.
    rows: BTreeMap<K, Option<V>>,
    /// What the transaction at hand has written.
    pending: BTreeMap<K, Option<V>>,
    /// What was kept since the rows were last written elsewhere.
    dirty: BTreeSet<K>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), pending: BTreeMap::new(), dirty: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// The row as the transaction at hand sees it.
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.pending.get(key).or_else(|| self.rows.get(key)).and_then(Option::as_ref)
    }

    /// The row as it was before the transaction at hand.
    pub(super) fn before(&self, key: &K) -> Option<&V> {
        self.rows.get(key).and_then(Option::as_ref)
    }

    /// Writes a row, or removes it.
    pub(super) fn set(&mut self, key: K, row: Option<V>) {
        self.pending.insert(key, row);
    }

    /// Takes the transaction's write of one row back.
    pub(super) fn unset(&mut self, key: &K) {
        self.pending.remove(key);
    }

    /// Whether the row, or its absence, is known.
    pub(super) fn knows(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    /// Notes a row, or its absence, as it was read elsewhere.
    pub(super) fn learn(&mut self, key: K, row: Option<V>) {
        self.rows.insert(key, row);
    }

    /// The keys of the rows that changed since the last call, in order.
    pub(super) fn take_dirty(&mut self) -> BTreeSet<K> {
        std::mem::take(&mut self.dirty)
    }

    /// The committed rows from a key on.
    pub(super) fn from(&self, key: &K) -> impl Iterator<Item = (&K, &V)> {
        self.rows.range(key..).filter_map(|(key, row)| Some((key, row.as_ref()?)))
    }

    /// All committed rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter().filter_map(|(key, row)| Some((key, row.as_ref()?)))
    }

    /// Drops the committed rows that do not satisfy the condition.
    pub(super) fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        self.rows.retain(|key, row| row.as_ref().is_some_and(|row| keep(key, row)));
    }

    fn settle(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            if self.before(&key).is_none() {
                self.rows.remove(&key);
            }
        }
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn keep(&mut self) {
        self.dirty.extend(self.pending.keys().cloned());
        // Not `append`, which builds the whole tree anew.
        self.rows.extend(std::mem::take(&mut self.pending));
    }

    fn forget(&mut self) {
        self.pending.clear();
    }
}

/// A receipt and when it was taken.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReceiptLine {
    pub(super) effect: String,
    pub(super) at: Timestamp,
}

/// How far a sprite's inbox is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Inbox {
    /// The newest row; 0 for none.
    pub(super) last: u64,
    /// The highest row that the reporter has taken.
    pub(super) acked: u64,
}

/// A delivery with what the store alone needs of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DeliveryLine {
    /// Its place in the order in which deliveries were made.
    pub(super) made: u64,
    /// When it was last written.
    pub(super) touched: Timestamp,
    pub(super) delivery: Delivery,
}

/// An event with what the store alone needs of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EventLine {
    /// Its place in the order in which events were made.
    pub(super) made: u64,
    /// The kind of the object that it is about.
    pub(super) kind: Kind,
    /// The object's name.
    pub(super) name: String,
    pub(super) row: EventRow,
}

/// (kind, name) or (kind, uid).
pub(super) type ObjectKey = (Kind, String);
/// (sprite uid, run, request).
pub(super) type ApprovalKey = (String, u32, String);
/// (uid, reason, note).
pub(super) type EventKey = (String, String, String);

macro_rules! tables {
    ($($(#[doc = $doc:literal])* $name:ident: $key:ty => $row:ty,)*) => {
        /// All tables.
        #[derive(Default)]
        pub(super) struct Tables {
            $($(#[doc = $doc])* pub(super) $name: Table<$key, $row>,)*
            /// The newest revision.
            pub(super) revision: Revision,
            /// The last number drawn for the order of deliveries and events.
            pub(super) made: u64,
        }

        impl Tables {
            /// Whether the transaction at hand has written anything.
            pub(super) fn is_pending(&self) -> bool {
                false $(|| self.$name.is_pending())*
            }

            /// Keeps what the transaction at hand has written.
            pub(super) fn keep(&mut self) {
                $(self.$name.keep();)*
            }

            /// Forgets what the transaction at hand has written.
            pub(super) fn forget(&mut self) {
                $(self.$name.forget();)*
            }

            /// Takes the kept rows as written, and forgets which are absent.
            pub(super) fn settle(&mut self) {
                $(self.$name.settle();)*
            }

            /// How many rows are held, those known to be absent included.
            pub(super) fn len(&self) -> usize {
                0 $(+ self.$name.len())*
            }
        }
    };
}

tables! {
    /// Objects by (kind, name).
    objects: ObjectKey => AnyObject,
    /// Names by (kind, uid).
    names: ObjectKey => String,
    /// Receipts by key.
    receipts: String => ReceiptLine,
    /// What is held of each sprite's newest run.
    runs: String => Held,
    /// Inbox rows by (sprite uid, key).
    orders: (String, String) => InboxRow,
    /// How far each sprite's inbox is.
    inboxes: String => Inbox,
    /// Turns by id.
    turns: String => Turn,
    /// The last number drawn in each agent's queue.
    queues: String => u64,
    /// Each agent's turns, summed up.
    sums: String => TurnSums,
    /// Grants by (agent uid, id).
    grants: (String, String) => Grant,
    /// Who has which role, by principal.
    access: String => Access,
    /// Those who wait to be let in: one short list.
    pairings: () => Vec<Pairing>,
    /// What people asked for, by number.
    audit: u64 => AuditRow,
    /// The last number drawn for that.
    audited: () => u64,
    /// Approvals.
    approvals: ApprovalKey => Approval,
    /// Deliveries by id.
    deliveries: String => DeliveryLine,
    /// Places by (platform, channel).
    places: (String, String) => Place,
    /// What Sources own, by (kind, name).
    inventory: ObjectKey => Owned,
    /// Events.
    events: EventKey => EventLine,
    /// Backoffs by (controller, name).
    backoffs: (String, String) => BackoffRow,
    /// When Agents and Sprites went, by uid.
    gone: String => Timestamp,
}
