//! Writes what a group of transactions has changed: few statements of many rows, one commit.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::codec::{encode, encode_change, encode_events, encode_object, integer, millis};
use crate::{
    resource::AnyObject,
    store::{
        Change, DeliveryState,
        rules::Appended,
        size_of_event,
        tables::{ApprovalKey, EventKey, ObjectKey, Table, Tables},
    },
};

/// How many rows one statement takes at most: few sizes, so that few statements are prepared.
const ROWS: [usize; 4] = [64, 16, 4, 1];
/// When a stretch of output has this many bytes, the next events begin another.
const STRETCH: usize = 64 * 1024;

/// One value of a row.
enum Cell {
    Text(String),
    Shared(Arc<str>),
    Integer(i64),
    Null,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Arc<str>> for Cell {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<u64> for Cell {
    fn from(n: u64) -> Self {
        Self::Integer(integer(n))
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<Timestamp> for Cell {
    fn from(time: Timestamp) -> Self {
        Self::Integer(millis(time))
    }
}

/// A stretch of a run's output, as it will stand in one row.
struct Stretch {
    last: u64,
    finished: bool,
    body: Vec<u8>,
}

/// Rows to remove and rows to write.
#[derive(Default)]
pub(super) struct Batch {
    deletes: Vec<(&'static str, String)>,
    inserts: Vec<(&'static Insert, Vec<Cell>)>,
    history: Vec<Cell>,
    /// Each changed object's JSON, as it was last written into the history.
    bodies: HashMap<ObjectKey, Arc<str>>,
    /// The stretches of each run, in order.
    output: HashMap<(String, u32), Vec<Stretch>>,
}

impl Batch {
    /// Adds what a transaction appended.
    pub(super) fn add(&mut self, now: Timestamp, changes: Vec<Change>, output: Vec<Appended<'_>>) {
        for change in changes {
            let kind = change.object.kind();
            let body: Arc<str> = encode_object(&change.object).into();
            let name = change.object.metadata().name.clone();
            self.bodies.insert((kind, name), Arc::clone(&body));
            self.history.extend([
                change.revision.into(),
                now.into(),
                encode_change(change.kind).into(),
                change.desired.into(),
                kind.name().into(),
                body.into(),
            ]);
        }
        for appended in output {
            let key = (appended.sprite_uid.to_owned(), appended.run);
            add_output(self.output.entry(key).or_default(), appended.events);
        }
    }

    /// Takes the rows that the group left in the tables.
    pub(super) fn take_rows(&mut self, tables: &mut Tables) {
        self.take_objects(&mut tables.objects);
        // Names follow from the objects, runs from the output, queues from the turns, and the
        // audit's last number from the audit.
        tables.names.take_dirty();
        tables.runs.take_dirty();
        tables.queues.take_dirty();
        tables.audited.take_dirty();
        self.take_ledgers(tables);
        let history = std::mem::take(&mut self.history);
        self.insert(&HISTORY, history);
        let output = std::mem::take(&mut self.output);
        let rows = output.into_iter().flat_map(|((sprite_uid, run), stretches)| {
            stretches.into_iter().flat_map(move |stretch| {
                [
                    sprite_uid.as_str().into(),
                    u64::from(run).into(),
                    stretch.last.into(),
                    stretch.finished.into(),
                    // JSON is text.
                    String::from_utf8(stretch.body).unwrap_or_default().into(),
                ]
            })
        });
        self.insert(&OUTPUT, rows.collect());
    }

    fn take_objects(&mut self, objects: &mut Table<ObjectKey, AnyObject>) {
        let mut gone = Vec::new();
        let mut cells = Vec::new();
        for key in objects.take_dirty() {
            match objects.before(&key) {
                None => gone.push(key),
                Some(object) => {
                    let metadata = object.metadata();
                    let owner = metadata.controller().map(|owner| owner.uid.as_str());
                    // An object that is there was last changed by what made it so.
                    let body = self.bodies.remove(&key);
                    let body = body.unwrap_or_else(|| encode_object(object).into());
                    cells.extend([
                        key.0.name().into(),
                        key.1.into(),
                        metadata.uid.as_str().into(),
                        owner.map_or(Cell::Null, Into::into),
                        body.into(),
                    ]);
                }
            }
        }
        if !gone.is_empty() {
            const GONE: &str = "DELETE FROM objects WHERE (kind, name) IN \
                 (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";
            self.deletes.push((GONE, encode(&gone)));
        }
        self.insert(&OBJECTS, cells);
    }

    fn take_ledgers(&mut self, tables: &mut Tables) {
        self.take(&RECEIPTS, &mut tables.receipts, |key, line, cells| {
            cells.extend([key.into(), line.effect.as_str().into(), line.at.into()]);
        });
        self.take(&INBOX, &mut tables.orders, |(uid, key), row, cells| {
            cells.extend([uid.into(), row.n.into(), key.into(), encode(row).into()]);
        });
        self.take(&INBOX_ACKS, &mut tables.inboxes, |uid, inbox, cells| {
            cells.extend([uid.into(), inbox.acked.into()]);
        });
        self.take(&TURNS, &mut tables.turns, |id, turn, cells| {
            let agent = turn.agent_uid.as_str();
            cells.extend([id.into(), agent.into(), turn.n.into(), encode(turn).into()]);
        });
        self.take(&APPROVALS, &mut tables.approvals, |key: ApprovalKey, approval, cells| {
            let run = u64::from(key.1);
            cells.extend([key.0.into(), run.into(), key.2.into(), encode(approval).into()]);
        });
        self.take(&DELIVERIES, &mut tables.deliveries, |id, line, cells| {
            let done = line.delivery.state == DeliveryState::Done;
            let body = encode(&line.delivery);
            cells.extend([id.into(), line.made.into(), done.into(), line.touched.into()]);
            cells.push(body.into());
        });
        self.take(&EVENTS, &mut tables.events, |(uid, reason, note): EventKey, line, cells| {
            cells.extend([uid.into(), reason.into(), note.into(), line.made.into()]);
            cells.extend([line.row.last.into(), line.kind.name().into()]);
            cells.extend([line.name.as_str().into(), encode(&line.row).into()]);
        });
        self.take(&GONE, &mut tables.gone, |uid, at, cells| {
            cells.extend([uid.into(), (*at).into()]);
        });
        self.take(&TURN_SUMS, &mut tables.sums, |uid, sums, cells| {
            cells.extend([uid.into(), encode(sums).into()]);
        });
        self.take(&AUDIT, &mut tables.audit, |n, row, cells| {
            cells.extend([n.into(), row.at.into(), encode(row).into()]);
        });
        self.take_access(tables);
        self.take(&PLACES, &mut tables.places, |(platform, channel), place, cells| {
            cells.extend([platform.into(), channel.into(), encode(place).into()]);
        });
        self.take_inventory(tables);
        self.take_grants(tables);
        self.take_backoffs(tables);
    }

    fn take_access(&mut self, tables: &mut Tables) {
        let dirty = tables.access.take_dirty();
        let (kept, gone): (Vec<_>, Vec<_>) =
            dirty.into_iter().partition(|key| tables.access.before(key).is_some());
        if !gone.is_empty() {
            const EXPEL: &str =
                "DELETE FROM access WHERE principal IN (SELECT value FROM json_each(?1))";
            self.deletes.push((EXPEL, encode(&gone)));
        }
        let rows = kept.into_iter().flat_map(|key| {
            let body = tables.access.before(&key).map(encode).unwrap_or_default();
            [key.into(), body.into()]
        });
        let cells = rows.collect();
        self.insert(&ACCESS, cells);
        if !tables.pairings.take_dirty().is_empty() {
            const ALL: &str = "DELETE FROM pairings WHERE code <> ?1";
            // No code is empty.
            self.deletes.push((ALL, String::new()));
            let waiting = tables.pairings.before(&()).map(Vec::as_slice).unwrap_or_default();
            let cells = waiting
                .iter()
                .flat_map(|pairing| [pairing.code.as_str().into(), encode(pairing).into()])
                .collect();
            self.insert(&PAIRINGS, cells);
        }
    }

    fn take_inventory(&mut self, tables: &mut Tables) {
        let dirty = tables.inventory.take_dirty();
        let (kept, gone): (Vec<_>, Vec<_>) =
            dirty.into_iter().partition(|key| tables.inventory.before(key).is_some());
        if !gone.is_empty() {
            const DISOWN: &str = "DELETE FROM inventory WHERE (kind, name) IN \
                 (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";
            self.deletes.push((DISOWN, encode(&gone)));
        }
        let mut cells = Vec::new();
        for key in kept {
            if let Some(row) = tables.inventory.before(&key) {
                let source = row.source_uid.as_str();
                cells.extend([key.0.name().into(), key.1.into(), source.into()]);
                cells.push(encode(row).into());
            }
        }
        self.insert(&INVENTORY, cells);
    }

    fn take_grants(&mut self, tables: &mut Tables) {
        let dirty = tables.grants.take_dirty();
        let (kept, revoked): (Vec<_>, Vec<_>) =
            dirty.into_iter().partition(|key| tables.grants.before(key).is_some());
        if !revoked.is_empty() {
            const REVOKE: &str = "DELETE FROM grants WHERE (agent_uid, id) IN \
                 (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";
            self.deletes.push((REVOKE, encode(&revoked)));
        }
        let rows = kept.into_iter().flat_map(|key| {
            let body = tables.grants.before(&key).map(encode).unwrap_or_default();
            [key.0.into(), key.1.into(), body.into()]
        });
        let cells = rows.collect();
        self.insert(&GRANTS, cells);
    }

    fn take_backoffs(&mut self, tables: &mut Tables) {
        let dirty = tables.backoffs.take_dirty();
        let (kept, forgotten): (Vec<_>, Vec<_>) =
            dirty.into_iter().partition(|key| tables.backoffs.before(key).is_some());
        if !forgotten.is_empty() {
            const FORGET: &str = "DELETE FROM backoffs WHERE (controller, name) IN \
                 (SELECT value ->> 0, value ->> 1 FROM json_each(?1))";
            self.deletes.push((FORGET, encode(&forgotten)));
        }
        let rows = kept.into_iter().flat_map(|key| {
            let body = tables.backoffs.before(&key).map(encode).unwrap_or_default();
            [key.0.into(), key.1.into(), body.into()]
        });
        let cells = rows.collect();
        self.insert(&BACKOFFS, cells);
    }

    /// Takes the changed rows of a table whose rows are only ever written.
    fn take<K: Ord + Clone, V>(
        &mut self,
        insert: &'static Insert,
        table: &mut Table<K, V>,
        cells_of: impl Fn(K, &V, &mut Vec<Cell>),
    ) {
        let mut cells = Vec::new();
        for key in table.take_dirty() {
            if let Some(row) = table.before(&key) {
                cells_of(key.clone(), row, &mut cells);
            }
        }
        self.insert(insert, cells);
    }

    fn insert(&mut self, insert: &'static Insert, cells: Vec<Cell>) {
        if !cells.is_empty() {
            self.inserts.push((insert, cells));
        }
    }

    fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.inserts.is_empty()
    }
}

/// Adds events to a run's stretches; small ones that follow each other share a row.
fn add_output(stretches: &mut Vec<Stretch>, events: &[sprite_reporter::wire::Event]) {
    use sprite_reporter::wire::EventBody;
    let Some(end) = events.last() else { return };
    let last = end.next_seq() - 1;
    let finished = matches!(end.body, EventBody::Exit(_));
    match stretches.last_mut() {
        Some(stretch) if stretch.body.len() < STRETCH => {
            encode_events(&mut stretch.body, events);
            stretch.last = last;
            stretch.finished = finished;
        }
        _ => {
            let mut body = Vec::with_capacity(events.iter().map(size_of_event).sum());
            encode_events(&mut body, events);
            stretches.push(Stretch { last, finished, body });
        }
    }
}

/// A statement that takes any number of rows.
struct Insert {
    head: &'static str,
    columns: usize,
    tail: &'static str,
}

static OBJECTS: Insert = Insert {
    head: "INSERT INTO objects (kind, name, uid, owner, body) VALUES ",
    columns: 5,
    tail: " ON CONFLICT (kind, name) DO UPDATE SET \
           uid = excluded.uid, owner = excluded.owner, body = excluded.body",
};
static HISTORY: Insert = Insert {
    head: "INSERT INTO history (revision, at, change, desired, kind, body) VALUES ",
    columns: 6,
    tail: "",
};
static RECEIPTS: Insert =
    Insert { head: "INSERT INTO receipts (key, effect, at) VALUES ", columns: 3, tail: "" };
static OUTPUT: Insert = Insert {
    head: "INSERT INTO output (sprite_uid, run, last, finished, body) VALUES ",
    columns: 5,
    tail: "",
};
static INBOX: Insert =
    Insert { head: "INSERT INTO inbox (sprite_uid, n, key, body) VALUES ", columns: 4, tail: "" };
static INBOX_ACKS: Insert = Insert {
    head: "INSERT INTO inbox_acks (sprite_uid, acked) VALUES ",
    columns: 2,
    tail: " ON CONFLICT (sprite_uid) DO UPDATE SET acked = excluded.acked",
};
static TURNS: Insert = Insert {
    head: "INSERT INTO turns (id, agent_uid, n, body) VALUES ",
    columns: 4,
    tail: " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
};
static TURN_SUMS: Insert = Insert {
    head: "INSERT INTO turn_sums (agent_uid, body) VALUES ",
    columns: 2,
    tail: " ON CONFLICT (agent_uid) DO UPDATE SET body = excluded.body",
};
static GRANTS: Insert =
    Insert { head: "INSERT INTO grants (agent_uid, id, body) VALUES ", columns: 3, tail: "" };
static ACCESS: Insert = Insert {
    head: "INSERT INTO access (principal, body) VALUES ",
    columns: 2,
    tail: " ON CONFLICT (principal) DO UPDATE SET body = excluded.body",
};
static PAIRINGS: Insert =
    Insert { head: "INSERT INTO pairings (code, body) VALUES ", columns: 2, tail: "" };
static AUDIT: Insert =
    Insert { head: "INSERT INTO audit (n, at, body) VALUES ", columns: 3, tail: "" };
static PLACES: Insert = Insert {
    head: "INSERT INTO places (platform, channel, body) VALUES ",
    columns: 3,
    tail: " ON CONFLICT (platform, channel) DO UPDATE SET body = excluded.body",
};
static INVENTORY: Insert = Insert {
    head: "INSERT INTO inventory (kind, name, source_uid, body) VALUES ",
    columns: 4,
    tail: " ON CONFLICT (kind, name) DO UPDATE SET \
           source_uid = excluded.source_uid, body = excluded.body",
};
static APPROVALS: Insert = Insert {
    head: "INSERT INTO approvals (sprite_uid, run, request, body) VALUES ",
    columns: 4,
    tail: " ON CONFLICT (sprite_uid, run, request) DO UPDATE SET body = excluded.body",
};
static DELIVERIES: Insert = Insert {
    head: "INSERT INTO deliveries (id, made, done, touched, body) VALUES ",
    columns: 5,
    tail: " ON CONFLICT (id) DO UPDATE SET \
           done = excluded.done, touched = excluded.touched, body = excluded.body",
};
static EVENTS: Insert = Insert {
    head: "INSERT INTO events (uid, reason, note, made, last, kind, name, body) VALUES ",
    columns: 8,
    tail: " ON CONFLICT (uid, reason, note) DO UPDATE SET \
           last = excluded.last, kind = excluded.kind, name = excluded.name, body = excluded.body",
};
static BACKOFFS: Insert = Insert {
    head: "INSERT INTO backoffs (controller, name, body) VALUES ",
    columns: 3,
    tail: " ON CONFLICT (controller, name) DO UPDATE SET body = excluded.body",
};
static GONE: Insert = Insert {
    head: "INSERT INTO gone (uid, at) VALUES ",
    columns: 2,
    tail: " ON CONFLICT (uid) DO UPDATE SET at = excluded.at",
};

impl Insert {
    fn sql(&self, rows: usize) -> String {
        let row = format!("({})", vec!["?"; self.columns].join(","));
        format!("{}{}{}", self.head, vec![row; rows].join(","), self.tail)
    }
}

/// Commits a batch, and says whether anything was written: nothing happens for an empty one.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    batch: Batch,
) -> Result<bool, sqlx::Error> {
    if batch.is_empty() {
        return Ok(false);
    }
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for (sql, keys) in batch.deletes {
        sqlx::query(sql).bind(keys).execute(&mut *connection).await?;
    }
    for (insert, cells) in batch.inserts {
        write(connection, insert, cells).await?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(true)
}

async fn write(
    connection: &mut SqliteConnection,
    insert: &Insert,
    cells: Vec<Cell>,
) -> Result<(), sqlx::Error> {
    let mut left = cells.len() / insert.columns;
    let mut cells = cells.into_iter();
    for size in ROWS {
        while left >= size {
            left -= size;
            // Made of constants alone; every value is bound.
            let mut query = sqlx::query(AssertSqlSafe(insert.sql(size)));
            for cell in cells.by_ref().take(size * insert.columns) {
                query = match cell {
                    Cell::Text(text) => query.bind(text),
                    Cell::Shared(text) => query.bind(text),
                    Cell::Integer(n) => query.bind(n),
                    Cell::Null => query.bind(None::<String>),
                };
            }
            query.execute(&mut *connection).await?;
        }
    }
    Ok(())
}
