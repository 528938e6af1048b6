//! The ledgers: receipts, output, inboxes, turns, approvals, deliveries, events, backoffs.

use sprite_reporter::wire::{Event, EventBody, InboxRow, Order};

use super::{Appended, Draft};
use crate::{
    resource::Kind,
    store::{
        Approval, ApprovalState, BackoffRow, Bell, Cursor, Delivery, Error, EventRow, Grant, Held,
        Op, Place, Receipt, Turn, TurnState, TurnSums,
        tables::{ApprovalKey, DeliveryLine, EventKey, EventLine, Inbox, ReceiptLine},
    },
};

impl<'t> Draft<'_, 't> {
    pub(super) fn receipt(&mut self, receipt: &Receipt) -> Result<(), Error> {
        if let Some(taken) = self.tables.receipts.get(&receipt.key) {
            return Err(Error::Duplicate {
                key: receipt.key.clone(),
                effect: taken.effect.clone(),
            });
        }
        let line = ReceiptLine { effect: receipt.effect.clone(), at: self.now };
        self.tables.receipts.set(receipt.key.clone(), Some(line));
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        sprite_uid: &'t str,
        run: u32,
        events: &'t [Event],
    ) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        let key = sprite_uid.to_owned();
        let newest = self.tables.runs.get(&key).copied().unwrap_or_default();
        let held = advance(newest, run, events)?;
        self.bells.push(Bell::Output(key.clone()));
        self.tables.runs.set(key, Some(held));
        self.output.push(Appended { sprite_uid, run, events });
        Ok(())
    }

    pub(super) fn order(&mut self, sprite_uid: &str, run: u32, key: &str, order: &Order) {
        let key = (sprite_uid.to_owned(), key.to_owned());
        if self.tables.orders.get(&key).is_some() {
            return;
        }
        let mut inbox = self.inbox(sprite_uid);
        inbox.last += 1;
        let row = InboxRow { n: inbox.last, run, order: order.clone() };
        self.tables.orders.set(key, Some(row));
        self.tables.inboxes.set(sprite_uid.to_owned(), Some(inbox));
        self.bells.push(Bell::Inbox(sprite_uid.to_owned()));
    }

    pub(super) fn inbox_ack(&mut self, sprite_uid: &str, n: u64) {
        let inbox = self.inbox(sprite_uid);
        // Nobody can have taken a row that is not there yet.
        let acked = n.min(inbox.last);
        if acked > inbox.acked {
            self.tables.inboxes.set(sprite_uid.to_owned(), Some(Inbox { acked, ..inbox }));
        }
    }

    fn inbox(&self, sprite_uid: &str) -> Inbox {
        self.tables.inboxes.get(&sprite_uid.to_owned()).copied().unwrap_or_default()
    }

    pub(super) fn add_turn(&mut self, turn: &Turn) -> Result<(), Error> {
        if self.tables.turns.get(&turn.id).is_some() {
            return Err(stale_turn(&turn.id));
        }
        let n = self.tables.queues.get(&turn.agent_uid).copied().unwrap_or_default() + 1;
        self.tables.queues.set(turn.agent_uid.clone(), Some(n));
        self.tables.turns.set(turn.id.clone(), Some(Turn { n, ..turn.clone() }));
        self.sum_up(&turn.agent_uid, last_of(turn), |sums| count(sums, turn, 1));
        self.bells.push(Bell::Turns(turn.agent_uid.clone()));
        Ok(())
    }

    pub(super) fn move_turn(&mut self, turn: &Turn, from: &[TurnState]) -> Result<(), Error> {
        let Some(old) = self.tables.turns.get(&turn.id).filter(|old| from.contains(&old.state))
        else {
            return Err(stale_turn(&turn.id));
        };
        // A turn never changes its place or its agent, and a wish to cancel it is never lost to
        // somebody who read the turn before.
        let first = if old.cancelled_by.is_some() { old } else { turn };
        let cancelled_by = first.cancelled_by.clone();
        let cancelled_by_user = first.cancelled_by_user.clone();
        let agent_uid = old.agent_uid.clone();
        let new = Turn { n: old.n, agent_uid, cancelled_by, cancelled_by_user, ..turn.clone() };
        if new != *old {
            let old = old.clone();
            self.sum_up(&new.agent_uid, last_of(&new), |sums| {
                count(sums, &old, -1);
                count(sums, &new, 1);
            });
            self.bells.push(Bell::Turns(new.agent_uid.clone()));
            self.tables.turns.set(turn.id.clone(), Some(new));
        }
        Ok(())
    }

    pub(super) fn no_open_turns(&self, agent_uid: &str) -> Result<(), Error> {
        let sums = self.tables.sums.get(&agent_uid.to_owned()).copied().unwrap_or_default();
        if sums.queued + sums.running == 0 {
            return Ok(());
        }
        Err(Error::Stale { what: format!("the queue of agent {agent_uid}") })
    }

    /// Changes an agent's sums. Something happened to a turn of it at `last`, or before: never
    /// later than now, wherever the clock stood before.
    fn sum_up(
        &mut self,
        agent_uid: &str,
        last: jiff::Timestamp,
        change: impl FnOnce(&mut TurnSums),
    ) {
        let old = self.tables.sums.get(&agent_uid.to_owned()).copied().unwrap_or_default();
        let mut new = old;
        change(&mut new);
        new.last = new.last.max(Some(last)).min(Some(self.now));
        if new != old {
            self.tables.sums.set(agent_uid.to_owned(), Some(new));
        }
    }

    pub(super) fn add_approval(&mut self, approval: &Approval) {
        let key = (approval.sprite_uid.clone(), approval.run, approval.request.clone());
        if self.tables.approvals.get(&key).is_none() {
            let pending = Approval {
                state: ApprovalState::Pending,
                by: String::new(),
                message: String::new(),
                resolved: None,
                user: None,
                grant: None,
                ..approval.clone()
            };
            self.tables.approvals.set(key, Some(pending));
            self.bells.push(Bell::Approvals(approval.sprite_uid.clone()));
        }
    }

    pub(super) fn resolve_approval(&mut self, key: ApprovalKey, op: &Op) -> Result<(), Error> {
        let Op::ResolveApproval { state, by, user, grant, message, answers, .. } = op else {
            return Ok(());
        };
        match self.tables.approvals.get(&key) {
            Some(old) if old.state == ApprovalState::Pending => {
                let (state, by, user, grant) = (*state, by.clone(), user.clone(), grant.clone());
                let (message, answers) = (message.clone(), answers.clone());
                let held = self.tables.runs.get(&key.0).copied().unwrap_or_default();
                let resolved = (state != ApprovalState::Pending)
                    .then_some(Cursor { run: held.run, seq: held.seq });
                let asked = old.clone();
                let new = Approval { state, by, user, grant, message, answers, resolved, ..asked };
                if new != *old {
                    self.bells.push(Bell::Approvals(key.0.clone()));
                    self.tables.approvals.set(key, Some(new));
                }
                Ok(())
            }
            _ => Err(Error::Stale { what: format!("approval {}", key.2) }),
        }
    }

    pub(super) fn add_grant(&mut self, grant: &Grant) {
        let key = (grant.agent_uid.clone(), grant.id.clone());
        if self.tables.grants.get(&key).is_none() {
            self.tables.grants.set(key, Some(grant.clone()));
            self.bells.push(Bell::Turns(grant.agent_uid.clone()));
        }
    }

    pub(super) fn place(&mut self, place: &Place) {
        let key = (place.platform.clone(), place.channel.clone());
        if self.tables.places.get(&key) != Some(place) {
            self.tables.places.set(key, Some(place.clone()));
        }
    }

    pub(super) fn revoke_grant(&mut self, agent_uid: &str, id: &str) {
        let key = (agent_uid.to_owned(), id.to_owned());
        if self.tables.grants.get(&key).is_some() {
            self.tables.grants.set(key, None);
            self.bells.push(Bell::Turns(agent_uid.to_owned()));
        }
    }

    pub(super) fn delivery(&mut self, delivery: &Delivery) -> Result<(), Error> {
        let old = self.tables.deliveries.get(&delivery.id);
        if old.map_or(0, |old| old.delivery.version) != delivery.version {
            return Err(Error::Stale { what: format!("delivery {}", delivery.id) });
        }
        if old.is_some_and(|old| old.delivery == *delivery) {
            return Ok(());
        }
        let made = match old {
            Some(old) => old.made,
            None => self.draw(),
        };
        let delivery = Delivery { version: delivery.version + 1, ..delivery.clone() };
        let id = delivery.id.clone();
        let line = DeliveryLine { made, touched: self.now, delivery };
        self.tables.deliveries.set(id.clone(), Some(line));
        self.bells.push(Bell::Delivery(id));
        Ok(())
    }

    pub(super) fn event(&mut self, key: EventKey, kind: Kind, name: &str, warning: bool) {
        let old = self.tables.events.get(&key);
        let (count, first) = old.map_or((0, self.now), |old| (old.row.count, old.row.first));
        let made = match old {
            Some(old) => old.made,
            None => self.draw(),
        };
        let row = EventRow {
            kind: if warning { "Warning" } else { "Normal" }.to_owned(),
            reason: key.1.clone(),
            note: key.2.clone(),
            count: count + 1,
            first,
            last: self.now,
        };
        self.tables.events.set(key, Some(EventLine { made, kind, name: name.to_owned(), row }));
    }

    pub(super) fn backoff(&mut self, row: &BackoffRow) {
        let key = (row.controller.clone(), row.name.clone());
        let new = Some(row).filter(|row| row.failures > 0);
        if self.tables.backoffs.get(&key) != new {
            self.tables.backoffs.set(key, new.cloned());
        }
    }

    /// The next number in the order of deliveries and events.
    fn draw(&mut self) -> u64 {
        self.tables.made += 1;
        self.tables.made
    }
}

/// The highest number that an event can have: what every back end can keep.
const LAST_SEQ: u64 = i64::MAX.unsigned_abs() - 1;

/// When something last happened to a turn.
fn last_of(turn: &Turn) -> jiff::Timestamp {
    [turn.started, turn.ended].into_iter().flatten().fold(turn.created, jiff::Timestamp::max)
}

/// Adds a turn to the sums, or takes it away.
fn count(sums: &mut TurnSums, turn: &Turn, by: i64) {
    let (place, ended) = match turn.state {
        TurnState::Queued => (&mut sums.queued, false),
        TurnState::Sent | TurnState::Running => (&mut sums.running, false),
        _ => (&mut sums.done, true),
    };
    *place = place.saturating_add_signed(by);
    if ended {
        let add = |to: &mut u64, what: u64| {
            let what = i64::try_from(what).unwrap_or(i64::MAX);
            *to = to.saturating_add_signed(what.saturating_mul(by));
        };
        add(&mut sums.usage.cost_micro_usd, turn.usage.cost_micro_usd);
        add(&mut sums.usage.input_tokens, turn.usage.input_tokens);
        add(&mut sums.usage.output_tokens, turn.usage.output_tokens);
    }
}

fn stale_turn(id: &str) -> Error {
    Error::Stale { what: format!("turn {id}") }
}

/// What is held after these events, if they follow what is held of the sprite's newest run.
fn advance(newest: Held, run: u32, events: &[Event]) -> Result<Held, Error> {
    let mut held = if run > newest.run { Held { run, seq: 0, finished: false } } else { newest };
    if run < held.run {
        return Err(Error::Finished);
    }
    for event in events {
        if held.finished {
            return Err(Error::Finished);
        }
        let absurd = matches!(event.body, EventBody::Gap { through, .. } if through > LAST_SEQ);
        if event.seq != held.seq + 1 || absurd {
            return Err(Error::Gap { expected: held.seq + 1 });
        }
        held.seq = event.next_seq() - 1;
        held.finished = matches!(event.body, EventBody::Exit(_));
    }
    Ok(held)
}
