//! Writes as data: what can be committed, and under which conditions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use sprite_reporter::wire::{Event, Order};

use super::{
    Access, Approval, ApprovalState, AuditRow, BackoffRow, Delivery, Grant, Owned, Pairing, Place,
    Principal, Receipt, Revision, Turn, TurnState,
};
use crate::resource::{AnyObject, Kind};

/// Operations that commit together or not at all, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// The operations.
    pub ops: Vec<Op>,
    /// The time that new rows bear.
    pub now: Timestamp,
}

impl Transaction {
    /// An empty transaction at a time.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { ops: Vec::new(), now }
    }

    /// Adds an operation.
    #[must_use]
    pub fn with(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }
}

/// What to compare before an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// The object's `metadata.resourceVersion` (and `uid`) must be those of the one written. An
    /// object that the same transaction has already written counts with the version it had
    /// before.
    SameVersion,
    /// Whatever is there; it must exist, with the same uid if the one written has a uid.
    Any,
}

/// Which part of an object a write takes; the rest of the object given is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `spec`, labels, annotations, and the account of who wrote which of them
    /// (`managedFields`). A changed spec raises the generation.
    Desired,
    /// `status`.
    Status,
    /// Finalizers and owner references. An object that is being deleted goes for good when
    /// its last finalizer does.
    Finalizers,
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Creates an object. Its name and uid are filled in by the caller; the store sets
    /// generation 1, `creationTimestamp` (the transaction's `now`) and `resourceVersion`.
    Create(AnyObject),
    /// Writes one part of an object.
    Write {
        /// The object with the part to write.
        object: AnyObject,
        /// Which part.
        part: Part,
        /// What to compare.
        expect: Expect,
    },
    /// Merges into an object's status (JSON Merge Patch, RFC 7386), unless a member stands
    /// there already. For observers, whose fields nobody else writes: no version to compare.
    /// An object that is gone is no error; the operation is then without effect.
    PatchStatus {
        /// The object's kind.
        kind: Kind,
        /// The object's uid.
        uid: String,
        /// The patch.
        patch: Value,
        /// A JSON pointer into the status; where it leads to something, nothing is written.
        unless: Option<String>,
    },
    /// Deletes an object: with finalizers, it sets `deletionTimestamp` (and raises the
    /// generation) once; without, the object goes.
    Delete {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
        /// The object's uid, if only that one is meant.
        uid: Option<String>,
        /// The object's version, if only that one is meant.
        resource_version: Option<String>,
    },
    /// Says whose the writes behind it are, such as `chat:slack` or `source/team`. Each object that is
    /// made, and each desired part that changes, is recorded for that manager in `managedFields`,
    /// unless its author kept the account of fields (see [`crate::resource::apply`]).
    WrittenBy(String),
    /// Notes that a request was taken; [`super::Error::Duplicate`] if it was before.
    Receipt(Receipt),
    /// Appends output. The first event must follow what is held of the run (a new run starts
    /// at 1); else [`super::Error::Gap`]. An exit event finishes the run; what comes behind it
    /// is [`super::Error::Finished`].
    Output {
        /// The sprite.
        sprite_uid: String,
        /// Its run.
        run: u32,
        /// The events, in order and without holes.
        events: Vec<Event>,
    },
    /// Puts an order into a sprite's inbox, under a key; an order with the same key is there
    /// already: no effect.
    Order {
        /// The sprite.
        sprite_uid: String,
        /// The run that it is meant for.
        run: u32,
        /// Makes the order idempotent, such as `turn/ID` or `cancel`.
        key: String,
        /// The order.
        order: Order,
    },
    /// Notes the highest inbox row that a reporter has taken; lower ones have no effect.
    InboxAck {
        /// The sprite.
        sprite_uid: String,
        /// The row.
        n: u64,
    },
    /// Adds a turn at the end of its agent's queue; the store draws its number `n`.
    AddTurn(Turn),
    /// Writes a turn if it is still in one of these states, else [`super::Error::Stale`].
    /// Whoever only wants it cancelled names the one state in which they read it.
    MoveTurn {
        /// The turn as it shall be. Its agent, its number and who cancelled it stay what they
        /// are, once they are.
        turn: Turn,
        /// The states in which it may be.
        from: Vec<TurnState>,
    },
    /// Adds an approval, pending; no effect if it is there already.
    AddApproval(Approval),
    /// Moves a pending approval, else [`super::Error::Stale`].
    ResolveApproval {
        /// The sprite.
        sprite_uid: String,
        /// Its run.
        run: u32,
        /// The CLI's id of the request.
        request: String,
        /// The new state.
        state: ApprovalState,
        /// Who resolved it, as people call them.
        by: String,
        /// Who resolved it, as their platform identifies them.
        user: Option<Principal>,
        /// The id of the grant that did.
        grant: Option<String>,
        /// What to tell the agent.
        message: String,
        /// For a question: the answers by the questions' texts.
        answers: BTreeMap<String, String>,
    },
    /// Allows an Agent something once and for all; no effect if it is there already.
    AddGrant(Grant),
    /// Takes such a permission back; no effect if it is not there.
    RevokeGrant {
        /// The Agent.
        agent_uid: String,
        /// The grant's id.
        id: String,
    },
    /// Gives somebody a role, in place of the one they had.
    Admit(Access),
    /// Takes somebody's role; no effect if they have none.
    Expel(Principal),
    /// Lets the transaction pass only while this row stands as it was read, else
    /// [`super::Error::Stale`]: so that nothing is done by a role that was taken meanwhile.
    StillAdmitted(Access),
    /// Lets the transaction pass only while nobody has given them a role, else
    /// [`super::Error::Stale`].
    StillStranger(Principal),
    /// Adds a stranger to those who wait; [`super::Error::Stale`] where they wait already, or the
    /// code is taken, or too many wait. Those whose time is over make room.
    OpenPairing(Pairing),
    /// Removes one who waits; [`super::Error::Stale`] where the code names nobody, or its time is
    /// over.
    ClosePairing {
        /// The code.
        code: String,
    },
    /// Notes what somebody asked for; the store draws its number. What a token of the API was
    /// allowed passes only while that token stands, else [`super::Error::Revoked`].
    Audit(AuditRow),
    /// Lets the transaction pass only while a token of the API stands just as it was let in: not
    /// revoked, not replaced, with the same role, and its time not over at the transaction's; else
    /// [`super::Error::Revoked`].
    ByToken {
        /// The token's row, as it was read.
        token: Access,
        /// What was asked for, noted as by [`Op::Audit`]; none for what stands in no audit.
        note: Option<AuditRow>,
    },
    /// Adds or writes a delivery. `version` must be the row's, or 0 for a new one, else
    /// [`super::Error::Stale`]; each write that changes something raises it by one, so that a
    /// new row has version 1.
    Delivery(Delivery),
    /// Keeps what a platform needs to know of a channel, in place of what it knew before.
    Place(Place),
    /// Notes that a Source owns an object, or what has changed of that. Its `version` must be that of
    /// the row that was read, or 0 where there was none, else [`super::Error::Stale`].
    Own(Owned),
    /// Forgets that a Source owns an object; no effect where none does. The version must be that of
    /// the row that was read, else [`super::Error::Stale`].
    Disown {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
        /// The row's version.
        version: u64,
    },
    /// Lets the transaction pass only while no Source declares the object, else
    /// [`super::Error::Owned`].
    StillFree {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
    },
    /// Lets the transaction pass only while no turn of an Agent waits or runs, else
    /// [`super::Error::Stale`]: whoever speaks to it makes no revision of it.
    NoOpenTurns {
        /// The Agent's uid.
        agent_uid: String,
    },
    /// Writes what an object's events show: one row per (object, reason, note), counted up.
    Event {
        /// The object's kind.
        kind: Kind,
        /// The object's name.
        name: String,
        /// The object's uid.
        uid: String,
        /// Whether it is a warning.
        warning: bool,
        /// Why, in one CamelCase word.
        reason: String,
        /// One line for people.
        note: String,
    },
    /// Keeps a key's backoff over a restart; with no failures, forgets it.
    Backoff(BackoffRow),
}

impl Op {
    /// Lets the transaction pass only while an object is just what its author has read, and
    /// changes nothing of it: where somebody wrote it meanwhile it is [`super::Error::Conflict`],
    /// where it is gone [`super::Error::NotFound`].
    #[must_use]
    pub fn unchanged(object: impl Into<AnyObject>) -> Self {
        Self::Write { object: object.into(), part: Part::Status, expect: Expect::SameVersion }
    }
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The store's revision behind it.
    pub revision: Revision,
    /// Whether anything changed.
    pub changed: bool,
    /// The objects that `Create`, `Write` and `Delete` left behind, in the order of those
    /// operations; `None` for one that is gone.
    pub objects: Vec<Option<AnyObject>>,
}
