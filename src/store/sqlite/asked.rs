//! Drops what was asked and ordered long ago in a sprite's long life.
//!
//! Orders are read whole where an agent has asked for something, so that none is answered twice. So
//! an approval goes first, and the order that answers it only once it is gone; and the newest order
//! always stays, since its number is where the next one goes on from.

use sqlx::SqliteConnection;

use super::{codec::integer, failed, trim::needed};
use crate::store::{
    Error,
    retention::{ASKED, ASKED_NEEDED},
};

/// The sprites that have more than `?1` rows in one of the two ledgers; the indexes suffice to count.
const LONG: &str = "SELECT sprite_uid FROM approvals GROUP BY sprite_uid HAVING count(*) > ?1 \
    UNION SELECT sprite_uid FROM inbox GROUP BY sprite_uid HAVING count(*) > ?1";
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

/// Drops what may go, of all sprites.
pub(super) async fn drop_old(connection: &mut SqliteConnection) -> Result<(), Error> {
    let count = |many: usize| integer(u64::try_from(many).unwrap_or(u64::MAX));
    let long: Vec<String> = sqlx::query_scalar(LONG)
        .bind(count(ASKED))
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    if long.is_empty() {
        return Ok(());
    }
    let needed = needed(connection).await?;
    for uid in long {
        let keep = count(if needed.contains_key(&uid) { ASKED_NEEDED } else { ASKED });
        // Each for itself: one without the other is well, in this order.
        for sql in [APPROVALS, ORDERS] {
            let drop = sqlx::query(sql).bind(&uid).bind(keep);
            drop.execute(&mut *connection).await.map_err(failed)?;
        }
    }
    Ok(())
}
