//! What each operation means: pure code over [`Tables`], the same for every back end.
//!
//! A transaction's operations run one after the other, each on what those before it left.
//! Then the transaction is sealed: each object that is another one than before takes a
//! revision, once, however many operations touched it. The first operation that fails takes
//! all of them back.

mod access;
mod inventory;
mod ledgers;
mod objects;

use sprite_reporter::wire::Event;

use super::{
    Applied, Bell, Change, Error, Op, Transaction,
    tables::{ObjectKey, Tables},
};
use crate::resource::AnyObject;

/// Output that a transaction appends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Appended<'t> {
    pub(super) sprite_uid: &'t str,
    pub(super) run: u32,
    /// In order and without holes; never empty.
    pub(super) events: &'t [Event],
}

/// What a transaction did, beyond the rows that it left in the tables.
#[derive(Debug)]
pub(super) struct Outcome<'t> {
    pub(super) applied: Applied,
    pub(super) changes: Vec<Change>,
    pub(super) output: Vec<Appended<'t>>,
    pub(super) bells: Vec<Bell>,
}

/// Commits a transaction to the tables: all of it, or none.
pub(super) fn commit<'t>(
    tables: &mut Tables,
    transaction: &'t Transaction,
) -> Result<Outcome<'t>, Error> {
    let counters = (tables.revision, tables.made);
    let mut draft = Draft::new(tables, transaction);
    match transaction.ops.iter().try_for_each(|op| draft.op(op)) {
        Ok(()) => {
            let outcome = draft.seal();
            tables.keep();
            Ok(outcome)
        }
        Err(error) => {
            tables.forget();
            (tables.revision, tables.made) = counters;
            Err(error)
        }
    }
}

/// What an object operation left behind.
enum Left {
    Object(ObjectKey),
    Nothing,
}

/// A transaction at work.
struct Draft<'a, 't> {
    tables: &'a mut Tables,
    now: jiff::Timestamp,
    /// Whose the writes are; nobody's, unless somebody said so.
    manager: Option<&'t str>,
    /// The objects touched, in the order of the first touch.
    touched: Vec<ObjectKey>,
    left: Vec<Left>,
    output: Vec<Appended<'t>>,
    bells: Vec<Bell>,
}

impl<'a, 't> Draft<'a, 't> {
    fn new(tables: &'a mut Tables, transaction: &Transaction) -> Self {
        Self {
            tables,
            now: transaction.now,
            manager: None,
            touched: Vec::new(),
            left: Vec::new(),
            output: Vec::new(),
            bells: Vec::new(),
        }
    }

    fn op(&mut self, op: &'t Op) -> Result<(), Error> {
        match op {
            Op::Create(object) => self.create(object),
            Op::Write { object, part, expect } => self.write(object, *part, expect),
            Op::PatchStatus { kind, uid, patch, unless } => {
                self.patch_status(*kind, uid, patch, unless.as_deref())
            }
            Op::Delete { kind, name, uid, resource_version } => {
                self.delete(*kind, name, uid.as_deref(), resource_version.as_deref())
            }
            Op::WrittenBy(manager) => {
                self.manager = Some(manager);
                Ok(())
            }
            Op::Receipt(receipt) => self.receipt(receipt),
            Op::Output { sprite_uid, run, events } => self.append(sprite_uid, *run, events),
            Op::Order { sprite_uid, run, key, order } => {
                self.order(sprite_uid, *run, key, order);
                Ok(())
            }
            Op::InboxAck { sprite_uid, n } => {
                self.inbox_ack(sprite_uid, *n);
                Ok(())
            }
            Op::AddTurn(turn) => self.add_turn(turn),
            Op::MoveTurn { turn, from } => self.move_turn(turn, from),
            Op::AddApproval(approval) => {
                self.add_approval(approval);
                Ok(())
            }
            Op::ResolveApproval { sprite_uid, run, request, .. } => {
                self.resolve_approval((sprite_uid.clone(), *run, request.clone()), op)
            }
            Op::AddGrant(grant) => {
                self.add_grant(grant);
                Ok(())
            }
            Op::RevokeGrant { agent_uid, id } => {
                self.revoke_grant(agent_uid, id);
                Ok(())
            }
            Op::Admit(access) => {
                self.admit(access);
                Ok(())
            }
            Op::Expel(principal) => {
                self.expel(principal);
                Ok(())
            }
            Op::StillAdmitted(access) => self.still_admitted(access),
            Op::StillStranger(principal) => self.still_stranger(principal),
            Op::OpenPairing(pairing) => self.open_pairing(pairing),
            Op::ClosePairing { code } => self.close_pairing(code),
            Op::Audit(row) => self.audit(row),
            Op::ByToken { token, note } => self.by_token(token, note.as_ref()),
            Op::Delivery(delivery) => self.delivery(delivery),
            Op::Place(place) => {
                self.place(place);
                Ok(())
            }
            Op::Own(row) => self.own(row),
            Op::Disown { kind, name, version } => self.disown(*kind, name, *version),
            Op::StillFree { kind, name } => self.still_free(*kind, name),
            Op::NoOpenTurns { agent_uid } => self.no_open_turns(agent_uid),
            Op::Event { kind, name, uid, warning, reason, note } => {
                self.event((uid.clone(), reason.clone(), note.clone()), *kind, name, *warning);
                Ok(())
            }
            Op::Backoff(row) => {
                self.backoff(row);
                Ok(())
            }
        }
    }

    /// Gives revisions to what changed, and tells what was done.
    fn seal(mut self) -> Outcome<'t> {
        let changes = self.seal_objects();
        if !changes.is_empty() {
            self.bells.push(Bell::Objects(self.tables.revision));
        }
        let objects = self.left.iter().map(|left| self.object_left(left)).collect();
        let changed = self.tables.is_pending() || !self.output.is_empty();
        Outcome {
            applied: Applied { revision: self.tables.revision, changed, objects },
            changes,
            output: self.output,
            bells: self.bells,
        }
    }

    fn object_left(&self, left: &Left) -> Option<AnyObject> {
        match left {
            Left::Object(key) => self.tables.objects.get(key).cloned(),
            Left::Nothing => None,
        }
    }
}
