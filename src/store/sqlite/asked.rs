//! Drops what was asked and ordered long ago in a sprite's long life.
//!
//! Orders are read whole where an agent has asked for something, so that none is answered twice. So
//! an approval goes first, and the order that answers it only once it is gone; and the newest order
//! always stays, since its number is where the next one goes on from.
//!
//! The writer notes whose ledgers it wrote to, and only those are counted, with those that were too
//! long the last time and are still: what they need now may go one day. After a start all are, once.

use std::collections::HashSet;

use sqlx::SqliteConnection;

use super::{codec::integer, failed, trim::needed};
use crate::store::{
    Error,
    retention::{ASKED, ASKED_NEEDED},
};

/// The sprites that have more than `?1` rows in one of the two ledgers; the indexes suffice to count.
pub(super) const LONG: &str = "SELECT sprite_uid FROM approvals GROUP BY sprite_uid HAVING count(*) > ?1 \
    UNION SELECT sprite_uid FROM inbox GROUP BY sprite_uid HAVING count(*) > ?1";
/// Whether one of the two ledgers has more than `?2` rows of a sprite.
pub(super) const IS_LONG: &str = "SELECT \
    (SELECT count(*) FROM approvals WHERE sprite_uid = ?1) > ?2 OR \
    (SELECT count(*) FROM inbox WHERE sprite_uid = ?1) > ?2";
/// Of so many sprites it is known that they were written to; of more, all are counted.
const KNOWN: usize = 10_000;
/// The resolved approvals of a sprite that are not among the newest `?2`.
pub(super) const APPROVALS: &str = "DELETE FROM approvals WHERE rowid IN \
    (SELECT rowid FROM \
        (SELECT rowid, body ->> 'state' AS state FROM approvals WHERE sprite_uid = ?1 \
         ORDER BY unixepoch(body ->> 'created') DESC, run DESC, request DESC \
         LIMIT -1 OFFSET ?2) \
     WHERE state <> 'Pending')";
/// The acknowledged orders of a sprite that are not among its newest `?2`, save answers to
/// approvals that are there.
pub(super) const ORDERS: &str = "DELETE FROM inbox WHERE sprite_uid = ?1 \
    AND n <= (SELECT acked FROM inbox_acks WHERE sprite_uid = ?1) \
    AND n <= (SELECT n FROM inbox WHERE sprite_uid = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2) \
    AND NOT EXISTS (SELECT 1 FROM approvals a WHERE a.sprite_uid = ?1 \
        AND a.run = coalesce(inbox.body ->> 'run', 1) AND a.request = inbox.body ->> 'request')";

/// Whose ledgers may be too long.
#[derive(Default)]
pub(super) struct Asked {
    /// Whether those that were written to before the start are among them.
    listed: bool,
    uids: HashSet<String>,
}

impl Asked {
    /// Notes that something was asked or ordered.
    pub(super) fn add(&mut self, sprite_uid: &str) {
        if self.uids.len() >= KNOWN && !self.uids.contains(sprite_uid) {
            *self = Self::default();
        }
        if !self.uids.contains(sprite_uid) {
            self.uids.insert(sprite_uid.to_owned());
        }
    }
}

/// Drops what may go, of all sprites.
pub(super) async fn drop_old(
    connection: &mut SqliteConnection,
    asked: &mut Asked,
) -> Result<(), Error> {
    let count = |many: usize| integer(u64::try_from(many).unwrap_or(u64::MAX));
    if !asked.listed {
        let long = sqlx::query_scalar(LONG).bind(count(ASKED));
        asked.uids.extend(long.fetch_all(&mut *connection).await.map_err(failed)?);
        asked.listed = true;
    }
    let mut long: Vec<String> = Vec::new();
    for uid in &asked.uids {
        let is_long = sqlx::query_scalar(IS_LONG).bind(uid).bind(count(ASKED));
        if is_long.fetch_one(&mut *connection).await.map_err(failed)? {
            long.push(uid.clone());
        }
    }
    if !long.is_empty() {
        let needed = needed(connection).await?;
        for uid in &long {
            let keep = count(if needed.contains_key(uid) { ASKED_NEEDED } else { ASKED });
            // Each for itself: one without the other is well, in this order.
            for sql in [APPROVALS, ORDERS] {
                let drop = sqlx::query(sql).bind(uid).bind(keep);
                drop.execute(&mut *connection).await.map_err(failed)?;
            }
        }
    }
    asked.uids = long.into_iter().collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::{ambient::Ambient, store::sqlite::SqliteStore};

    #[tokio::test]
    async fn only_what_was_written_to_is_counted_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
        let options = SqliteConnectOptions::new().filename(dir.path().join("store.db"));
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
        let ask = async |connection: &mut SqliteConnection, from: usize, to: usize| {
            for n in from..to {
                let body = format!(
                    r#"{{"state": "Allowed", "created": "2026-01-01T00:00:00Z", "n": {n}}}"#
                );
                let insert = "INSERT INTO approvals (sprite_uid, run, request, body) \
                    VALUES ('sprite', 1, ?1, ?2)";
                let insert = sqlx::query(insert).bind(format!("{n:06}")).bind(body);
                insert.execute(&mut *connection).await.expect("it is kept");
            }
        };
        let kept = async |connection: &mut SqliteConnection| -> i64 {
            let count = sqlx::query_scalar("SELECT count(*) FROM approvals");
            count.fetch_one(&mut *connection).await.expect("a number")
        };
        let most = integer(u64::try_from(ASKED).expect("it fits"));
        let mut asked = Asked::default();
        ask(&mut connection, 0, ASKED + 10).await;
        drop_old(&mut connection, &mut asked).await.expect("it is dropped");
        assert_eq!(kept(&mut connection).await, most, "after a start, all are counted");
        drop_old(&mut connection, &mut asked).await.expect("nothing is dropped");
        assert!(asked.uids.is_empty(), "what is short is not counted again");
        ask(&mut connection, ASKED + 10, ASKED + 20).await;
        drop_old(&mut connection, &mut asked).await.expect("nothing is dropped");
        assert_eq!(kept(&mut connection).await, most + 10, "nobody said that it grew");
        asked.add("sprite");
        drop_old(&mut connection, &mut asked).await.expect("it is dropped");
        assert_eq!(kept(&mut connection).await, most);
        store.close().await;
    }
}
