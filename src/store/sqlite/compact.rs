//! Drops what has been kept for long enough, a bounded piece at a time.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::codec::{integer, millis};
use crate::store::{Revision, retention};

/// How many rows one piece takes from a table at most.
const PIECE: i64 = 500;

/// The ledgers of what is gone. `?1` is a time, `?2` the size of a piece.
const LEDGERS: [&str; 7] = [
    "DELETE FROM output WHERE id IN \
        (SELECT o.id FROM gone g CROSS JOIN output o ON o.sprite_uid = g.uid \
         WHERE g.at < ?1 LIMIT ?2)",
    "DELETE FROM inbox WHERE (sprite_uid, n) IN \
        (SELECT i.sprite_uid, i.n FROM gone g CROSS JOIN inbox i ON i.sprite_uid = g.uid \
         WHERE g.at < ?1 LIMIT ?2)",
    "DELETE FROM inbox_acks WHERE sprite_uid IN \
        (SELECT a.sprite_uid FROM gone g CROSS JOIN inbox_acks a ON a.sprite_uid = g.uid \
         WHERE g.at < ?1 LIMIT ?2)",
    "DELETE FROM approvals WHERE rowid IN \
        (SELECT a.rowid FROM gone g CROSS JOIN approvals a ON a.sprite_uid = g.uid \
         WHERE g.at < ?1 LIMIT ?2)",
    "DELETE FROM turns WHERE rowid IN \
        (SELECT t.rowid FROM gone g CROSS JOIN turns t ON t.agent_uid = g.uid \
         WHERE g.at < ?1 LIMIT ?2)",
    "DELETE FROM turn_sums WHERE agent_uid IN \
        (SELECT s.agent_uid FROM gone g CROSS JOIN turn_sums s ON s.agent_uid = g.uid \
         WHERE g.at < ?1 LIMIT ?2)",
    "DELETE FROM grants WHERE (agent_uid, id) IN \
        (SELECT r.agent_uid, r.id FROM gone g CROSS JOIN grants r ON r.agent_uid = g.uid \
         WHERE g.at < ?1 LIMIT ?2)",
];
const RECEIPTS: &str = "DELETE FROM receipts WHERE key IN \
    (SELECT key FROM receipts WHERE at < ?1 LIMIT ?2)";
const EVENTS: &str = "DELETE FROM events WHERE (uid, reason, note) IN \
    (SELECT uid, reason, note FROM events WHERE last < ?1 LIMIT ?2)";
const DELIVERIES: &str = "DELETE FROM deliveries WHERE rowid IN \
    (SELECT rowid FROM deliveries WHERE done = 1 AND touched < ?1 LIMIT ?2)";
/// The oldest ended turns of each Agent. A number's distance from the newest is its age.
const TURNS: &str = "DELETE FROM turns WHERE rowid IN \
    (SELECT t.rowid FROM turn_sums s CROSS JOIN turns t ON t.agent_uid = s.agent_uid \
     WHERE t.n <= (SELECT max(n) FROM turns l WHERE l.agent_uid = s.agent_uid) - ?1 \
        AND t.state NOT IN ('Queued', 'Sent', 'Running') LIMIT ?2)";
/// Everything up to the newest row that is beyond both limits, oldest first: history has no
/// holes, even where the clock ran back.
const HISTORY: &str = "DELETE FROM history WHERE revision IN \
    (SELECT revision FROM history WHERE revision <= \
        (SELECT revision FROM history WHERE revision <= ?3 AND at < ?1 \
         ORDER BY revision DESC LIMIT 1) \
     ORDER BY revision LIMIT ?2)";
/// What people asked for, up to the last but one. A number's distance from the newest is its age.
const AUDIT: &str = "DELETE FROM audit WHERE n IN \
    (SELECT n FROM audit WHERE at < ?1 AND n < (SELECT max(n) FROM audit) LIMIT ?2)";
const AUDIT_ROWS: &str = "DELETE FROM audit WHERE n IN \
    (SELECT n FROM audit WHERE n <= (SELECT max(n) FROM audit) - ?1 LIMIT ?2)";
const TOMBSTONES: &str = "DELETE FROM gone WHERE at < ?1";

/// Takes one piece away in a transaction of its own; tells whether there is more.
pub(super) async fn step(
    connection: &mut SqliteConnection,
    tip: Revision,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let before = |age: Duration| {
        millis(now).saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    };
    let gone = before(retention::GONE_LEDGERS);
    let simple = [
        (RECEIPTS, before(retention::RECEIPTS)),
        (EVENTS, before(retention::EVENTS)),
        (DELIVERIES, before(retention::DONE_DELIVERIES)),
        (AUDIT, before(retention::AUDIT)),
    ];
    let mut more = false;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for (sql, time) in simple.into_iter().chain(LEDGERS.map(|sql| (sql, gone))) {
        let result = sqlx::query(sql).bind(time).bind(PIECE).execute(&mut *connection).await?;
        more |= result.rows_affected() >= PIECE.unsigned_abs();
    }
    for (sql, keep) in [(TURNS, retention::TURNS), (AUDIT_ROWS, retention::AUDIT_ROWS)] {
        let drop = sqlx::query(sql).bind(integer(keep)).bind(PIECE);
        let result = drop.execute(&mut *connection).await?;
        more |= result.rows_affected() >= PIECE.unsigned_abs();
    }
    let result = sqlx::query(HISTORY)
        .bind(before(retention::HISTORY))
        .bind(PIECE)
        .bind(integer(tip.saturating_sub(retention::HISTORY_REVISIONS)))
        .execute(&mut *connection)
        .await?;
    more |= result.rows_affected() >= PIECE.unsigned_abs();
    // Only once their ledgers are gone: nothing else remembers whose these are.
    if !more {
        let time = before(retention::TOMBSTONES);
        sqlx::query(TOMBSTONES).bind(time).execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(more)
}

/// Every statement that drops something.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    LEDGERS.into_iter().chain([RECEIPTS, EVENTS, DELIVERIES, TURNS, HISTORY, AUDIT, AUDIT_ROWS])
}
