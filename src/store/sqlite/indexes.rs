//! Holds that what is asked often is found by an index, however long the ledgers are.

use sqlx::{AssertSqlSafe, Row as _};

use super::{asked, compact, read, trim};
use crate::{ambient::Ambient, store::sqlite::SqliteStore};

/// What is asked at each look, at each report, or every minute; the same words as where it is
/// asked. All parameters are unbound here, which changes no plan.
const ASKED: [&str; 19] = [
    "SELECT body FROM objects WHERE kind = ?1 AND name = ?2",
    "SELECT body FROM objects WHERE kind = ?1 AND uid = ?2",
    "SELECT body FROM objects WHERE kind = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
    "SELECT body FROM objects WHERE kind = ?1 AND owner = ?2 ORDER BY name",
    "SELECT revision, change, desired, kind, body FROM history WHERE revision > ?1 \
     ORDER BY revision LIMIT ?2",
    "SELECT effect FROM receipts WHERE key = ?1",
    "SELECT run, last, finished FROM output WHERE sprite_uid = ?1 \
     ORDER BY run DESC, last DESC LIMIT 1",
    "SELECT run, last, finished FROM output WHERE sprite_uid = ?1 AND run = ?2 \
     ORDER BY last DESC LIMIT 1",
    "SELECT run, body FROM output WHERE sprite_uid = ?1 AND (run, last) > (?2, ?3) \
     ORDER BY run, last LIMIT ?4",
    "SELECT body FROM inbox WHERE sprite_uid = ?1 AND n > ?2 ORDER BY n",
    "SELECT body FROM turns WHERE agent_uid = ?1 AND n > ?2 ORDER BY n LIMIT ?3",
    "SELECT body FROM turns WHERE agent_uid = ?1 AND state IN ('Queued', 'Sent', 'Running') \
     ORDER BY n",
    "SELECT body FROM turns WHERE agent_uid = ?1 ORDER BY n DESC LIMIT ?2",
    "SELECT body FROM turn_sums WHERE agent_uid = ?1",
    "SELECT body FROM grants WHERE agent_uid = ?1",
    "SELECT body FROM places WHERE platform = ?1 AND channel = ?2",
    "SELECT body FROM approvals WHERE sprite_uid = ?1 ORDER BY run, request",
    "SELECT body FROM deliveries WHERE done = 0 ORDER BY made",
    "SELECT coalesce(max(n), 0) FROM turns WHERE agent_uid = ?1",
];

/// What SQLite would do, one step a line.
async fn steps(store: &SqliteStore, sql: &str) -> Vec<String> {
    let explained = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
    let rows = explained.fetch_all(&store.readers).await.expect("the statement is understood");
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

#[tokio::test]
async fn what_is_asked_often_is_found_by_an_index_and_sorted_by_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
    let sources = concat!(include_str!("read.rs"), include_str!("load.rs"));
    let words = |text: &str| text.split_whitespace().filter(|it| *it != "\\").collect::<String>();
    for sql in ASKED {
        let asked = words(sql);
        let is_asked = words(sources).contains(&asked) || sql.starts_with("SELECT coalesce");
        assert!(is_asked, "`{sql}` is not what is asked any more");
        for step in steps(&store, sql).await {
            let found = step.starts_with("SEARCH") || step.contains("deliveries_open");
            assert!(found, "{sql}\n{step}");
        }
    }
    for sql in [
        trim::SPEAKER,
        trim::OLDEST,
        trim::FIRST,
        trim::BODY,
        trim::DROP,
        trim::REPLACE,
        trim::TURN,
        trim::OWNED,
        asked::ORDERS,
    ] {
        for step in steps(&store, sql).await {
            assert!(!step.starts_with("SCAN"), "{sql}\n{step}");
        }
    }
    // All sprites are counted after a start alone, and that by an index.
    for sql in [asked::LONG, asked::IS_LONG] {
        for step in steps(&store, sql).await {
            let reads = step.starts_with("SCAN ") || step.starts_with("SEARCH ");
            let is_index = step.contains("COVERING INDEX") || step.contains("CONSTANT ROW");
            assert!(!reads || is_index, "{sql}\n{step}");
        }
    }
    for (sql, index) in [
        (trim::OPEN_TURNS, "turns_open"),
        (trim::OPEN_DELIVERIES, "deliveries_open"),
        (read::AHEAD, "SEARCH deliveries USING INDEX deliveries_bare"),
        (trim::BEGINS, "SEARCH output USING INDEX"),
        (asked::APPROVALS, "SEARCH approvals USING INDEX"),
    ] {
        let steps = steps(&store, sql).await;
        assert!(steps.iter().any(|step| step.contains(index)), "{sql}\n{steps:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn nothing_is_dropped_by_reading_a_whole_ledger() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
    // What went, and whose turns there are, are short lists; all else is found from there.
    let short = ["SCAN g", "SCAN s"];
    for sql in compact::all() {
        for step in steps(&store, sql).await {
            let scans = step.starts_with("SCAN") && !step.contains("CONSTANT ROW");
            assert!(!scans || short.iter().any(|it| step.starts_with(it)), "{sql}\n{step}");
        }
    }
    store.close().await;
}
