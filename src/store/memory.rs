//! The store in memory: for tests, benchmarks, and as the measure of what the others do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use sprite_reporter::wire::{InboxRow, Order};
use tokio::sync::broadcast;

use super::{
    Access, Applied, Approval, ApprovalState, AuditRow, BackoffRow, Bell, Change, Cursor, Delivery,
    DeliveryState, Error, EventRow, Grant, Happened, Held, Listing, OutputRow, Owned, Pairing,
    Place, Receipt, Revision, Store, Transaction, Turn, TurnSums, retention, rules,
    tables::Tables,
    trim::{self, Gone, Keeps, Needed, Shows},
};
use crate::{
    ambient::between,
    resource::{AnyObject, Kind},
};

/// The store in memory. Nothing of it outlives the process.
pub struct MemoryStore {
    state: RwLock<State>,
    bell: broadcast::Sender<Bell>,
}

#[derive(Default)]
struct State {
    tables: Tables,
    /// The history, each change with the time of its commit.
    changes: BTreeMap<Revision, (Timestamp, Change)>,
    /// The newest revision that the history has lost; 0 for none.
    compacted: Revision,
    /// Each sprite's output, in order.
    output: BTreeMap<String, Vec<OutputRow>>,
    writes: u64,
    keeps: Keeps,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::default(),
            bell: broadcast::Sender::new(super::BELL_CAPACITY),
        })
    }

    /// An empty store that keeps less output than others do, in bytes: of each sprite the newest
    /// `newest`, or `needed` where a turn or a delivery needs more; nothing is trimmed for less than
    /// `worth`.
    #[must_use]
    pub fn keeping(newest: u64, needed: u64, worth: u64) -> Arc<Self> {
        let store = Self::new();
        store.write().keeps = Keeps { newest, needed, worth };
        store
    }

    // A panic while the lock was held cannot leave a half-written state: transactions lie on
    // top of the rows until they are kept.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn commit(&mut self, transaction: &Transaction) -> Result<(Applied, Vec<Bell>), Error> {
        let outcome = rules::commit(&mut self.tables, transaction)?;
        self.tables.settle();
        for change in outcome.changes {
            self.changes.insert(change.revision, (transaction.now, change));
        }
        for appended in outcome.output {
            let run = appended.run;
            let rows = appended.events.iter().map(|event| OutputRow { run, event: event.clone() });
            self.output.entry(appended.sprite_uid.to_owned()).or_default().extend(rows);
        }
        self.writes += u64::from(outcome.applied.changed);
        Ok((outcome.applied, outcome.bells))
    }

    fn compact(&mut self, now: Timestamp) {
        let older = |time: Timestamp, age: Duration| between(time, now) > age;
        let tables = &mut self.tables;
        tables.receipts.retain(|_, line| !older(line.at, retention::RECEIPTS));
        tables.events.retain(|_, line| !older(line.row.last, retention::EVENTS));
        tables.deliveries.retain(|_, line| {
            line.delivery.state != DeliveryState::Done
                || !older(line.touched, retention::DONE_DELIVERIES)
        });
        let tip = tables.revision;
        self.changes.retain(|revision, (time, _)| {
            let keep =
                revision + retention::HISTORY_REVISIONS > tip || !older(*time, retention::HISTORY);
            if !keep {
                self.compacted = self.compacted.max(*revision);
            }
            keep
        });
        // Time may run back, and history has no holes.
        let compacted = self.compacted;
        self.changes.retain(|revision, _| *revision > compacted);

        let lost: Vec<String> = tables
            .gone
            .iter()
            .filter(|(_, at)| older(**at, retention::GONE_LEDGERS))
            .map(|(uid, _)| uid.clone())
            .collect();
        let lost = |uid: &String| lost.binary_search(uid).is_ok();
        self.output.retain(|uid, _| !lost(uid));
        tables.runs.retain(|uid, _| !lost(uid));
        tables.orders.retain(|(uid, _), _| !lost(uid));
        tables.inboxes.retain(|uid, _| !lost(uid));
        tables.approvals.retain(|(uid, _, _), _| !lost(uid));
        let queues: BTreeMap<String, u64> =
            tables.queues.iter().map(|(uid, last)| (uid.clone(), *last)).collect();
        let old = |turn: &Turn| {
            let last = queues.get(&turn.agent_uid).copied().unwrap_or_default();
            turn.state.is_final() && turn.n + retention::TURNS <= last
        };
        tables.turns.retain(|_, turn| !lost(&turn.agent_uid) && !old(turn));
        tables.queues.retain(|uid, _| !lost(uid));
        tables.sums.retain(|uid, _| !lost(uid));
        tables.grants.retain(|(uid, _), _| !lost(uid));
        let last = tables.audited.before(&()).copied().unwrap_or_default();
        tables.audit.retain(|n, row| {
            *n == last || (!older(row.at, retention::AUDIT) && n + retention::AUDIT_ROWS > last)
        });
        tables.gone.retain(|_, at| !older(*at, retention::TOMBSTONES));
        self.trim(now);
        self.drop_asked();
    }

    /// Drops what was asked and ordered long ago of sprites that live.
    fn drop_asked(&mut self) {
        let needed = self.needed();
        let tables = &mut self.tables;
        let keep = |uid: &str| match needed.contains_key(uid) {
            true => retention::ASKED_NEEDED,
            false => retention::ASKED,
        };
        let mut asked: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (key, approval) in tables.approvals.iter() {
            let place = (approval.created.as_second(), key.1, key.2.as_str());
            asked.entry(&key.0).or_default().push((place, key, approval.state));
        }
        let mut old = BTreeSet::new();
        for (uid, mut rows) in asked {
            rows.sort_by(|a, b| b.0.cmp(&a.0));
            let beyond = rows.into_iter().skip(keep(uid));
            let over = beyond.filter(|(_, _, state)| *state != ApprovalState::Pending);
            old.extend(over.map(|(_, key, _)| key.clone()));
        }
        tables.approvals.retain(|key, _| !old.contains(key));
        let mut numbers: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for ((uid, _), row) in tables.orders.iter() {
            numbers.entry(uid).or_default().push(row.n);
        }
        let mut limits: BTreeMap<String, u64> = BTreeMap::new();
        for (uid, mut numbers) in numbers {
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            let acked = tables.inboxes.before(&uid.to_owned()).map_or(0, |inbox| inbox.acked);
            let old = numbers.get(keep(uid)).copied().unwrap_or_default();
            limits.insert(uid.to_owned(), old.min(acked));
        }
        let approvals = &tables.approvals;
        tables.orders.retain(|(uid, _), row| {
            let answers = match &row.order {
                Order::Answer { request, .. } => {
                    approvals.before(&(uid.clone(), row.run, request.clone())).is_some()
                }
                _ => false,
            };
            row.n > limits.get(uid).copied().unwrap_or_default() || answers
        });
    }

    /// From where on output is needed.
    fn needed(&self) -> Needed {
        let mut needed = Needed::new();
        let mut by_turn = |turn: &Turn| {
            if let (Some(uid), Some(began)) = (&turn.sprite_uid, turn.began) {
                trim::need(&mut needed, uid, began);
            }
        };
        let turns = || self.tables.turns.iter().map(|(_, turn)| turn);
        turns().filter(|turn| !turn.state.is_final()).for_each(&mut by_turn);
        let mut jobs = BTreeSet::new();
        for (_, line) in self.tables.deliveries.iter() {
            match trim::shows(&line.delivery.subject, line.delivery.state) {
                Shows::Nothing => {}
                Shows::Job(uid) => drop(jobs.insert(uid)),
                Shows::Turn(id) => {
                    self.tables.turns.before(&id.to_owned()).into_iter().for_each(&mut by_turn);
                }
            }
        }
        for (_, object) in self.tables.objects.iter() {
            let metadata = object.metadata();
            if metadata.controller().is_some_and(|owner| jobs.contains(owner.uid.as_str())) {
                trim::need(&mut needed, &metadata.uid, Cursor::default());
            }
        }
        needed
    }

    /// Takes away what sprites have said long ago; see [`trim`].
    fn trim(&mut self, now: Timestamp) {
        let needed = self.needed();
        let keeps = self.keeps;
        for (uid, rows) in &mut self.output {
            let size = |row: &OutputRow| {
                u64::try_from(super::size_of_event(&row.event)).unwrap_or(u64::MAX)
            };
            let behind = |bytes: u64| {
                let mut left = bytes;
                let kept = rows.iter().rev().take_while(|row| {
                    let more = left > 0;
                    left = left.saturating_sub(size(row));
                    more
                });
                rows.len() - kept.count()
            };
            let needed = needed
                .get(uid)
                .map_or(rows.len(), |behind| rows.partition_point(|row| row.cursor() <= *behind));
            let end = behind(keeps.newest).min(needed).max(behind(keeps.needed));
            let head: Vec<_> = rows.iter().take(2).map(|row| row.event.clone()).collect();
            let told = trim::told_before(&head).unwrap_or_default();
            if rows[..end].iter().map(size).fold(0, u64::saturating_add) < keeps.worth {
                continue;
            }
            let instead = (1..=end).rev().find_map(|end| {
                let bytes = rows[..end].iter().map(size).fold(0, u64::saturating_add);
                let last = rows[end - 1].clone();
                let first = rows.iter().find(|row| row.run == last.run)?.event.clone();
                let gone = Gone { first, last: last.event, bytes: bytes.saturating_add(told) };
                let events = trim::instead(gone, now).filter(|_| bytes >= keeps.worth)?;
                Some((end, last.run, events))
            });
            if let Some((end, run, events)) = instead {
                rows.splice(..end, events.into_iter().map(|event| OutputRow { run, event }));
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn apply(&self, transaction: Transaction) -> Result<Applied, Error> {
        let mut state = self.write();
        let (applied, bells) = state.commit(&transaction)?;
        // Rung under the lock, so that bells come in commit order. No receiver is no error.
        for bell in bells {
            let _ = self.bell.send(bell);
        }
        Ok(applied)
    }

    async fn get(&self, kind: Kind, name: &str) -> Result<Option<AnyObject>, Error> {
        Ok(self.read().tables.objects.get(&(kind, name.to_owned())).cloned())
    }

    async fn get_by_uid(&self, kind: Kind, uid: &str) -> Result<Option<AnyObject>, Error> {
        let state = self.read();
        let name = state.tables.names.get(&(kind, uid.to_owned()));
        Ok(name.and_then(|name| state.tables.objects.get(&(kind, name.clone())).cloned()))
    }

    async fn list(&self, kind: Kind, after: Option<&str>, limit: usize) -> Result<Listing, Error> {
        let state = self.read();
        let start = (kind, after.unwrap_or_default().to_owned());
        let mut items: Vec<AnyObject> = state
            .tables
            .objects
            .from(&start)
            .take_while(|((of, _), _)| *of == kind)
            .filter(|((_, name), _)| after != Some(name))
            .take(limit.saturating_add(1))
            .map(|(_, object)| object.clone())
            .collect();
        let more = items.len() > limit;
        items.truncate(limit);
        Ok(Listing { items, revision: state.tables.revision, more })
    }

    async fn list_owned(&self, kind: Kind, owner_uid: &str) -> Result<Vec<AnyObject>, Error> {
        let owned = |object: &AnyObject| {
            object.metadata().controller().is_some_and(|owner| owner.uid == owner_uid)
        };
        Ok(self
            .read()
            .tables
            .objects
            .from(&(kind, String::new()))
            .take_while(|((of, _), _)| *of == kind)
            .filter(|(_, object)| owned(object))
            .map(|(_, object)| object.clone())
            .collect())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.read().tables.revision)
    }

    async fn changes(&self, after: Revision, limit: usize) -> Result<Vec<Change>, Error> {
        let state = self.read();
        if after < state.compacted || after > state.tables.revision {
            return Err(Error::Compacted { oldest: state.compacted });
        }
        Ok(state.changes.range(after + 1..).take(limit).map(|(_, (_, it))| it.clone()).collect())
    }

    fn bell(&self) -> broadcast::Receiver<Bell> {
        self.bell.subscribe()
    }

    fn installation(&self) -> &str {
        "memory"
    }

    fn writes(&self) -> u64 {
        self.read().writes
    }

    async fn compact(&self, now: Timestamp) -> Result<(), Error> {
        self.write().compact(now);
        Ok(())
    }

    async fn receipt(&self, key: &str) -> Result<Option<Receipt>, Error> {
        let key = key.to_owned();
        let effect = self.read().tables.receipts.get(&key).map(|line| line.effect.clone());
        Ok(effect.map(|effect| Receipt { key, effect }))
    }

    async fn held(&self, sprite_uid: &str, run: Option<u32>) -> Result<Held, Error> {
        let state = self.read();
        let newest = state.tables.runs.get(&sprite_uid.to_owned()).copied().unwrap_or_default();
        if run.is_none_or(|run| run == newest.run) {
            return Ok(newest);
        }
        let rows = state.output.get(sprite_uid).map_or(&[][..], Vec::as_slice);
        let last = rows.iter().rfind(|row| Some(row.run) == run);
        Ok(last.map(Held::behind).unwrap_or_default())
    }

    async fn output(
        &self,
        sprite_uid: &str,
        after: Cursor,
        max_bytes: usize,
    ) -> Result<Vec<OutputRow>, Error> {
        let state = self.read();
        let rows = state.output.get(sprite_uid).map_or(&[][..], Vec::as_slice);
        let start = rows.partition_point(|row| row.cursor() <= after);
        let mut bytes = 0;
        let fits = |row: &&OutputRow| {
            let fits = bytes < max_bytes.max(1);
            bytes += super::size_of_event(&row.event);
            fits
        };
        Ok(rows[start..].iter().take_while(fits).cloned().collect())
    }

    async fn inbox(&self, sprite_uid: &str, after: u64) -> Result<Vec<InboxRow>, Error> {
        let state = self.read();
        let mut rows: Vec<InboxRow> = state
            .tables
            .orders
            .from(&(sprite_uid.to_owned(), String::new()))
            .take_while(|((uid, _), _)| uid == sprite_uid)
            .filter(|(_, row)| row.n > after)
            .map(|(_, row)| row.clone())
            .collect();
        rows.sort_by_key(|row| row.n);
        Ok(rows)
    }

    async fn inbox_acked(&self, sprite_uid: &str) -> Result<u64, Error> {
        Ok(self.read().tables.inboxes.get(&sprite_uid.to_owned()).map_or(0, |inbox| inbox.acked))
    }

    async fn turns(&self, agent_uid: &str, after: u64, limit: usize) -> Result<Vec<Turn>, Error> {
        let state = self.read();
        let turns = state.tables.turns.iter().map(|(_, turn)| turn);
        let mut turns: Vec<Turn> =
            turns.filter(|turn| turn.agent_uid == agent_uid && turn.n > after).cloned().collect();
        turns.sort_by_key(|turn| turn.n);
        turns.truncate(limit);
        Ok(turns)
    }

    async fn open_turns(&self, agent_uid: &str) -> Result<Vec<Turn>, Error> {
        let turns = self.turns(agent_uid, 0, usize::MAX).await?;
        Ok(turns.into_iter().filter(|turn| !turn.state.is_final()).collect())
    }

    async fn last_turns(&self, agent_uid: &str, limit: usize) -> Result<Vec<Turn>, Error> {
        let turns = self.turns(agent_uid, 0, usize::MAX).await?;
        Ok(turns.into_iter().rev().take(limit).collect())
    }

    async fn turn_sums(&self, agent_uid: &str) -> Result<TurnSums, Error> {
        Ok(self.read().tables.sums.get(&agent_uid.to_owned()).copied().unwrap_or_default())
    }

    async fn place(&self, platform: &str, channel: &str) -> Result<Option<Place>, Error> {
        let key = (platform.to_owned(), channel.to_owned());
        Ok(self.read().tables.places.get(&key).cloned())
    }

    async fn owned(&self, kind: Kind, name: &str) -> Result<Option<Owned>, Error> {
        Ok(self.read().tables.inventory.before(&(kind, name.to_owned())).cloned())
    }

    async fn inventory(&self, source_uid: &str) -> Result<Vec<Owned>, Error> {
        let state = self.read();
        let rows = state.tables.inventory.iter().map(|(_, row)| row);
        let mut rows: Vec<Owned> =
            rows.filter(|row| row.source_uid == source_uid).cloned().collect();
        // As the other back end sorts: by the kinds' names.
        rows.sort_by(|a, b| (a.kind.name(), &a.name).cmp(&(b.kind.name(), &b.name)));
        Ok(rows)
    }

    async fn grants(&self, agent_uid: &str) -> Result<Vec<Grant>, Error> {
        let state = self.read();
        let mut grants: Vec<Grant> = state
            .tables
            .grants
            .from(&(agent_uid.to_owned(), String::new()))
            .take_while(|((uid, _), _)| uid == agent_uid)
            .map(|(_, grant)| grant.clone())
            .collect();
        grants.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(grants)
    }

    async fn access(&self) -> Result<Vec<Access>, Error> {
        Ok(self.read().tables.access.iter().map(|(_, row)| row.clone()).collect())
    }

    async fn pairings(&self) -> Result<Vec<Pairing>, Error> {
        Ok(self.read().tables.pairings.before(&()).cloned().unwrap_or_default())
    }

    async fn audit(&self, after: Option<u64>, limit: usize) -> Result<Vec<AuditRow>, Error> {
        let state = self.read();
        let start = after.map_or(0, |n| n.saturating_add(1));
        let rows = state.tables.audit.from(&start);
        let mut rows: Vec<AuditRow> = rows.map(|(_, row)| row.clone()).collect();
        match after {
            Some(_) => rows.truncate(limit),
            None => drop(rows.drain(..rows.len().saturating_sub(limit))),
        }
        Ok(rows)
    }

    async fn turn(&self, id: &str) -> Result<Option<Turn>, Error> {
        Ok(self.read().tables.turns.get(&id.to_owned()).cloned())
    }

    async fn approvals(&self, sprite_uid: &str) -> Result<Vec<Approval>, Error> {
        Ok(self
            .read()
            .tables
            .approvals
            .from(&(sprite_uid.to_owned(), 0, String::new()))
            .take_while(|((uid, _, _), _)| uid == sprite_uid)
            .map(|(_, approval)| approval.clone())
            .collect())
    }

    async fn delivery(&self, id: &str) -> Result<Option<Delivery>, Error> {
        let state = self.read();
        Ok(state.tables.deliveries.get(&id.to_owned()).map(|line| line.delivery.clone()))
    }

    async fn open_deliveries(&self) -> Result<Vec<Delivery>, Error> {
        let state = self.read();
        let lines = state.tables.deliveries.iter().map(|(_, line)| line);
        let mut open: Vec<_> =
            lines.filter(|line| line.delivery.state != DeliveryState::Done).collect();
        open.sort_by_key(|line| line.made);
        Ok(open.into_iter().map(|line| line.delivery.clone()).collect())
    }

    async fn delivery_ahead(
        &self,
        delivery: &Delivery,
        whispers: bool,
    ) -> Result<Option<Delivery>, Error> {
        let state = self.read();
        let Some(own) = state.tables.deliveries.get(&delivery.id) else { return Ok(None) };
        let lines = state.tables.deliveries.iter().map(|(_, line)| line);
        let ahead = lines.filter(|line| {
            let other = &line.delivery;
            line.made < own.made
                && other.state != DeliveryState::Done
                && other.conversation == delivery.conversation
                && other.messages.is_empty()
                && (whispers || other.only_for.is_none())
        });
        Ok(ahead.max_by_key(|line| line.made).map(|line| line.delivery.clone()))
    }

    async fn events(&self, regarding_uid: &str) -> Result<Vec<EventRow>, Error> {
        let state = self.read();
        let start = (regarding_uid.to_owned(), String::new(), String::new());
        let mut lines: Vec<_> = state
            .tables
            .events
            .from(&start)
            .take_while(|((uid, _, _), _)| uid == regarding_uid)
            .map(|(_, line)| line)
            .collect();
        lines.sort_by_key(|line| line.made);
        Ok(lines.into_iter().map(|line| line.row.clone()).collect())
    }

    async fn all_events(&self, after: u64, limit: usize) -> Result<Vec<Happened>, Error> {
        let state = self.read();
        let start = (String::new(), String::new(), String::new());
        let mut told: Vec<Happened> = state
            .tables
            .events
            .from(&start)
            .filter(|(_, line)| line.made > after)
            .map(|((uid, _, _), line)| Happened {
                n: line.made,
                kind: line.kind,
                name: line.name.clone(),
                uid: uid.clone(),
                row: line.row.clone(),
            })
            .collect();
        told.sort_by_key(|told| told.n);
        told.truncate(limit);
        Ok(told)
    }

    async fn backoffs(&self) -> Result<Vec<BackoffRow>, Error> {
        Ok(self.read().tables.backoffs.iter().map(|(_, row)| row.clone()).collect())
    }
}
