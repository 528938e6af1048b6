//! Reads the rows that a group of transactions needs and the cache does not know.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    codec::{decode, decode_kind, decode_object, encode, natural, time},
    failed,
};
use crate::store::{
    Error, Held, Op, Owned, Pairing, Transaction,
    tables::{
        ApprovalKey, DeliveryLine, EventKey, EventLine, Inbox, ObjectKey, ReceiptLine, Table,
        Tables,
    },
};

/// The keys of rows that must be read.
#[derive(Default)]
pub(super) struct Missing {
    objects: BTreeSet<ObjectKey>,
    uids: BTreeSet<ObjectKey>,
    receipts: BTreeSet<String>,
    runs: BTreeSet<String>,
    orders: BTreeSet<(String, String)>,
    inboxes: BTreeSet<String>,
    turns: BTreeSet<String>,
    queues: BTreeSet<String>,
    sums: BTreeSet<String>,
    grants: BTreeSet<(String, String)>,
    access: BTreeSet<String>,
    pairings: BTreeSet<()>,
    audited: BTreeSet<()>,
    approvals: BTreeSet<ApprovalKey>,
    deliveries: BTreeSet<String>,
    places: BTreeSet<(String, String)>,
    inventory: BTreeSet<ObjectKey>,
    events: BTreeSet<EventKey>,
    backoffs: BTreeSet<(String, String)>,
}

/// Notes a key unless its row is known.
fn need<K: Ord + Clone, V>(keys: &mut BTreeSet<K>, table: &Table<K, V>, key: K) {
    if !table.knows(&key) {
        keys.insert(key);
    }
}

impl Missing {
    /// What these transactions need and the tables do not know. It must name every row that
    /// the [rules](crate::store::rules) look at: an unknown row counts as absent there.
    pub(super) fn of(group: &[Transaction], tables: &Tables) -> Self {
        let mut missing = Self::default();
        for op in group.iter().flat_map(|transaction| &transaction.ops) {
            missing.add(op, tables);
        }
        missing
    }

    fn add(&mut self, op: &Op, tables: &Tables) {
        match op {
            Op::Create(object) => {
                let metadata = object.metadata();
                let kind = object.kind();
                need(&mut self.objects, &tables.objects, (kind, metadata.name.clone()));
                self.add_uid((kind, metadata.uid.clone()), tables);
            }
            Op::Write { object, .. } => {
                let key = (object.kind(), object.metadata().name.clone());
                need(&mut self.objects, &tables.objects, key);
            }
            Op::WrittenBy(_) => {}
            Op::PatchStatus { kind, uid, .. } => self.add_uid((*kind, uid.clone()), tables),
            Op::Delete { kind, name, .. } => {
                need(&mut self.objects, &tables.objects, (*kind, name.clone()));
            }
            Op::Receipt(receipt) => {
                need(&mut self.receipts, &tables.receipts, receipt.key.clone());
            }
            Op::Output { sprite_uid, .. } => {
                need(&mut self.runs, &tables.runs, sprite_uid.clone());
            }
            Op::Order { sprite_uid, key, .. } => {
                need(&mut self.orders, &tables.orders, (sprite_uid.clone(), key.clone()));
                need(&mut self.inboxes, &tables.inboxes, sprite_uid.clone());
            }
            Op::InboxAck { sprite_uid, .. } => {
                need(&mut self.inboxes, &tables.inboxes, sprite_uid.clone());
            }
            Op::AddTurn(turn) => {
                need(&mut self.turns, &tables.turns, turn.id.clone());
                need(&mut self.queues, &tables.queues, turn.agent_uid.clone());
                need(&mut self.sums, &tables.sums, turn.agent_uid.clone());
            }
            Op::MoveTurn { turn, .. } => {
                need(&mut self.turns, &tables.turns, turn.id.clone());
                // Its agent is the one that the row names. A row that is yet to be read: see `load`.
                if let Some(held) = tables.turns.get(&turn.id) {
                    need(&mut self.sums, &tables.sums, held.agent_uid.clone());
                }
            }
            Op::NoOpenTurns { agent_uid } => {
                need(&mut self.sums, &tables.sums, agent_uid.clone());
            }
            Op::AddGrant(grant) => {
                let key = (grant.agent_uid.clone(), grant.id.clone());
                need(&mut self.grants, &tables.grants, key);
            }
            Op::RevokeGrant { agent_uid, id } => {
                need(&mut self.grants, &tables.grants, (agent_uid.clone(), id.clone()));
            }
            Op::Place(place) => {
                let key = (place.platform.clone(), place.channel.clone());
                need(&mut self.places, &tables.places, key);
            }
            Op::Own(Owned { kind, name, .. })
            | Op::Disown { kind, name, .. }
            | Op::StillFree { kind, name } => {
                need(&mut self.inventory, &tables.inventory, (*kind, name.clone()));
            }
            Op::AddApproval(approval) => {
                let request = approval.request.clone();
                let key = (approval.sprite_uid.clone(), approval.run, request);
                need(&mut self.approvals, &tables.approvals, key);
            }
            Op::ResolveApproval { sprite_uid, run, request, .. } => {
                need(&mut self.runs, &tables.runs, sprite_uid.clone());
                let key = (sprite_uid.clone(), *run, request.clone());
                need(&mut self.approvals, &tables.approvals, key);
            }
            Op::Admit(access) | Op::StillAdmitted(access) => {
                need(&mut self.access, &tables.access, access.principal.to_string());
            }
            Op::Expel(principal) | Op::StillStranger(principal) => {
                need(&mut self.access, &tables.access, principal.to_string());
            }
            Op::OpenPairing(_) | Op::ClosePairing { .. } => {
                need(&mut self.pairings, &tables.pairings, ());
            }
            Op::Audit(row) => {
                need(&mut self.audited, &tables.audited, ());
                if row.is_of_token() {
                    need(&mut self.access, &tables.access, row.who.clone());
                }
            }
            Op::ByToken { token, note } => {
                need(&mut self.access, &tables.access, token.principal.to_string());
                if let Some(note) = note {
                    self.add(&Op::Audit(note.clone()), tables);
                }
            }
            Op::Delivery(delivery) => {
                need(&mut self.deliveries, &tables.deliveries, delivery.id.clone());
            }
            Op::Event { uid, reason, note, .. } => {
                let key = (uid.clone(), reason.clone(), note.clone());
                need(&mut self.events, &tables.events, key);
            }
            Op::Backoff(row) => {
                let key = (row.controller.clone(), row.name.clone());
                need(&mut self.backoffs, &tables.backoffs, key);
            }
        }
    }

    /// An object by uid: its name and itself.
    fn add_uid(&mut self, key: ObjectKey, tables: &Tables) {
        match tables.names.get(&key) {
            Some(name) => need(&mut self.objects, &tables.objects, (key.0, name.clone())),
            None => need(&mut self.uids, &tables.names, key),
        }
    }
}

/// Reads the missing rows into the tables.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    missing: Missing,
    tables: &mut Tables,
) -> Result<(), Error> {
    load_objects(connection, &missing, tables).await?;
    let mut loader = Loader { connection };
    loader
        .load(
            missing.receipts,
            "SELECT r.key, r.effect, r.at \
             FROM json_each(?1) k CROSS JOIN receipts r ON r.key = k.value",
            &mut tables.receipts,
            |row| Ok((row.get(0), ReceiptLine { effect: row.get(1), at: time(row.get(2)) })),
        )
        .await?;
    loader
        .load(
            missing.runs,
            "SELECT o.sprite_uid, o.run, o.last, o.finished \
             FROM json_each(?1) k CROSS JOIN output o ON o.id = \
                (SELECT id FROM output WHERE sprite_uid = k.value \
                 ORDER BY run DESC, last DESC LIMIT 1)",
            &mut tables.runs,
            |row| {
                let held = Held { run: row.get(1), seq: natural(row.get(2)), finished: row.get(3) };
                Ok((row.get(0), held))
            },
        )
        .await?;
    loader
        .load(
            missing.orders,
            "SELECT i.sprite_uid, i.key, i.body \
             FROM json_each(?1) k CROSS JOIN inbox i \
             ON i.sprite_uid = k.value ->> 0 AND i.key = k.value ->> 1",
            &mut tables.orders,
            |row| Ok(((row.get(0), row.get(1)), decode(row.get(2))?)),
        )
        .await?;
    loader
        .load(
            missing.inboxes,
            "SELECT k.value, \
                coalesce((SELECT max(n) FROM inbox WHERE sprite_uid = k.value), 0), \
                coalesce((SELECT acked FROM inbox_acks WHERE sprite_uid = k.value), 0) \
             FROM json_each(?1) k",
            &mut tables.inboxes,
            |row| {
                let inbox = Inbox { last: natural(row.get(1)), acked: natural(row.get(2)) };
                Ok((row.get(0), inbox))
            },
        )
        .await?;
    let mut sums = missing.sums;
    load_turns(&mut loader, missing.turns.clone(), missing.queues, tables).await?;
    for turn in missing.turns.iter().filter_map(|id| tables.turns.get(id)) {
        need(&mut sums, &tables.sums, turn.agent_uid.clone());
    }
    load_sums(&mut loader, sums, missing.grants, tables).await?;
    load_access(&mut loader, missing.access, tables).await?;
    if !missing.pairings.is_empty() {
        let rows = sqlx::query("SELECT body FROM pairings").fetch_all(&mut *loader.connection);
        let rows = rows.await.map_err(failed)?;
        let all: Result<Vec<Pairing>, Error> =
            rows.iter().map(|row| decode(row.get::<&str, _>(0))).collect();
        tables.pairings.learn((), Some(all?));
    }
    if !missing.audited.is_empty() {
        let last = sqlx::query_scalar("SELECT coalesce(max(n), 0) FROM audit");
        let last: i64 = last.fetch_one(&mut *loader.connection).await.map_err(failed)?;
        tables.audited.learn((), Some(natural(last)));
    }
    loader
        .load(
            missing.approvals,
            "SELECT a.sprite_uid, a.run, a.request, a.body \
             FROM json_each(?1) k CROSS JOIN approvals a \
             ON a.sprite_uid = k.value ->> 0 AND a.run = k.value ->> 1 \
                AND a.request = k.value ->> 2",
            &mut tables.approvals,
            |row| Ok(((row.get(0), row.get(1), row.get(2)), decode(row.get(3))?)),
        )
        .await?;
    loader
        .load(
            missing.places,
            "SELECT p.platform, p.channel, p.body FROM json_each(?1) k CROSS JOIN places p \
             ON p.platform = k.value ->> 0 AND p.channel = k.value ->> 1",
            &mut tables.places,
            |row| Ok(((row.get(0), row.get(1)), decode(row.get(2))?)),
        )
        .await?;
    loader
        .load(
            missing.inventory,
            "SELECT i.kind, i.name, i.body FROM json_each(?1) k CROSS JOIN inventory i \
             ON i.kind = k.value ->> 0 AND i.name = k.value ->> 1",
            &mut tables.inventory,
            |row| Ok(((decode_kind(row.get(0))?, row.get(1)), decode(row.get(2))?)),
        )
        .await?;
    loader
        .load(
            missing.deliveries,
            "SELECT d.id, d.made, d.touched, d.body \
             FROM json_each(?1) k CROSS JOIN deliveries d ON d.id = k.value",
            &mut tables.deliveries,
            |row| {
                let delivery = decode(row.get(3))?;
                let (made, touched) = (natural(row.get(1)), time(row.get(2)));
                Ok((row.get(0), DeliveryLine { made, touched, delivery }))
            },
        )
        .await?;
    loader
        .load(
            missing.events,
            "SELECT e.uid, e.reason, e.note, e.made, e.kind, e.name, e.body \
             FROM json_each(?1) k CROSS JOIN events e \
             ON e.uid = k.value ->> 0 AND e.reason = k.value ->> 1 AND e.note = k.value ->> 2",
            &mut tables.events,
            |row| {
                let line = EventLine {
                    made: natural(row.get(3)),
                    kind: decode_kind(row.get(4))?,
                    name: row.get(5),
                    row: decode(row.get(6))?,
                };
                Ok(((row.get(0), row.get(1), row.get(2)), line))
            },
        )
        .await?;
    loader
        .load(
            missing.backoffs,
            "SELECT b.controller, b.name, b.body \
             FROM json_each(?1) k CROSS JOIN backoffs b \
             ON b.controller = k.value ->> 0 AND b.name = k.value ->> 1",
            &mut tables.backoffs,
            |row| Ok(((row.get(0), row.get(1)), decode(row.get(2))?)),
        )
        .await
}

async fn load_turns(
    loader: &mut Loader<'_>,
    turns: BTreeSet<String>,
    queues: BTreeSet<String>,
    tables: &mut Tables,
) -> Result<(), Error> {
    loader
        .load(
            turns,
            "SELECT t.id, t.body FROM json_each(?1) k CROSS JOIN turns t ON t.id = k.value",
            &mut tables.turns,
            |row| Ok((row.get(0), decode(row.get(1))?)),
        )
        .await?;
    loader
        .load(
            queues,
            "SELECT k.value, \
                coalesce((SELECT max(n) FROM turns WHERE agent_uid = k.value), 0) \
             FROM json_each(?1) k",
            &mut tables.queues,
            |row| Ok((row.get(0), natural(row.get(1)))),
        )
        .await
}

async fn load_sums(
    loader: &mut Loader<'_>,
    sums: BTreeSet<String>,
    grants: BTreeSet<(String, String)>,
    tables: &mut Tables,
) -> Result<(), Error> {
    loader
        .load(
            sums,
            "SELECT s.agent_uid, s.body \
             FROM json_each(?1) k CROSS JOIN turn_sums s ON s.agent_uid = k.value",
            &mut tables.sums,
            |row| Ok((row.get(0), decode(row.get(1))?)),
        )
        .await?;
    loader
        .load(
            grants,
            "SELECT g.agent_uid, g.id, g.body FROM json_each(?1) k CROSS JOIN grants g \
             ON g.agent_uid = k.value ->> 0 AND g.id = k.value ->> 1",
            &mut tables.grants,
            |row| Ok(((row.get(0), row.get(1)), decode(row.get(2))?)),
        )
        .await
}

async fn load_access(
    loader: &mut Loader<'_>,
    principals: BTreeSet<String>,
    tables: &mut Tables,
) -> Result<(), Error> {
    loader
        .load(
            principals,
            "SELECT a.principal, a.body \
             FROM json_each(?1) k CROSS JOIN access a ON a.principal = k.value",
            &mut tables.access,
            |row| Ok((row.get(0), decode(row.get(1))?)),
        )
        .await
}

/// Objects by name and by uid: each is noted under both.
async fn load_objects(
    connection: &mut SqliteConnection,
    missing: &Missing,
    tables: &mut Tables,
) -> Result<(), Error> {
    const BY_NAME: &str = "SELECT o.kind, o.name, o.uid, o.body \
         FROM json_each(?1) k CROSS JOIN objects o \
         ON o.kind = k.value ->> 0 AND o.name = k.value ->> 1";
    const BY_UID: &str = "SELECT o.kind, o.name, o.uid, o.body \
         FROM json_each(?1) k CROSS JOIN objects o \
         ON o.kind = k.value ->> 0 AND o.uid = k.value ->> 1";
    for key in &missing.objects {
        tables.objects.learn(key.clone(), None);
    }
    for key in &missing.uids {
        tables.names.learn(key.clone(), None);
    }
    for (keys, sql) in [(&missing.objects, BY_NAME), (&missing.uids, BY_UID)] {
        if keys.is_empty() {
            continue;
        }
        for row in fetch(connection, sql, keys).await? {
            let kind = decode_kind(row.get(0))?;
            let name: String = row.get(1);
            tables.objects.learn((kind, name.clone()), Some(decode_object(kind, row.get(3))?));
            tables.names.learn((kind, row.get(2)), Some(name));
        }
    }
    Ok(())
}

async fn fetch(
    connection: &mut SqliteConnection,
    sql: &'static str,
    keys: &impl Serialize,
) -> Result<Vec<SqliteRow>, Error> {
    sqlx::query(sql).bind(encode(keys)).fetch_all(connection).await.map_err(failed)
}

struct Loader<'a> {
    connection: &'a mut SqliteConnection,
}

impl Loader<'_> {
    /// Reads the rows under these keys; those that are not found are noted as absent.
    async fn load<K: Ord + Clone + Serialize, V>(
        &mut self,
        keys: BTreeSet<K>,
        sql: &'static str,
        table: &mut Table<K, V>,
        read: impl Fn(&SqliteRow) -> Result<(K, V), Error>,
    ) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let rows = fetch(self.connection, sql, &keys).await?;
        for key in keys {
            table.learn(key, None);
        }
        for row in rows {
            let (key, value) = read(&row)?;
            table.learn(key, Some(value));
        }
        Ok(())
    }
}
