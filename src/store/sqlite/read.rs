//! Reading: each function is one question to the pool of readers.

use serde::de::DeserializeOwned;
use sprite_reporter::wire::InboxRow;
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};

use super::{
    codec::{decode, decode_change, decode_events, decode_kind, decode_object, integer, natural},
    failed,
};
use crate::{
    resource::{AnyObject, Kind},
    store::{
        Access, Approval, AuditRow, BackoffRow, Change, Cursor, Delivery, Error, EventRow, Grant,
        Happened, Held, Listing, OutputRow, Owned, Pairing, Place, Receipt, Revision, Turn,
        TurnSums, size_of_event,
    },
};

/// From so many rows on, they are decoded on a thread that may block.
const MANY_ROWS: usize = 200;
/// How many stretches of output are read at once; the longest have more than 1 MiB.
const STRETCHES: usize = 8;

pub(super) async fn object(
    readers: &SqlitePool,
    kind: Kind,
    name: &str,
) -> Result<Option<AnyObject>, Error> {
    let body: Option<String> =
        sqlx::query_scalar("SELECT body FROM objects WHERE kind = ?1 AND name = ?2")
            .bind(kind.name())
            .bind(name)
            .fetch_optional(readers)
            .await
            .map_err(failed)?;
    body.map(|body| decode_object(kind, &body)).transpose()
}

pub(super) async fn object_by_uid(
    readers: &SqlitePool,
    kind: Kind,
    uid: &str,
) -> Result<Option<AnyObject>, Error> {
    let body: Option<String> =
        sqlx::query_scalar("SELECT body FROM objects WHERE kind = ?1 AND uid = ?2")
            .bind(kind.name())
            .bind(uid)
            .fetch_optional(readers)
            .await
            .map_err(failed)?;
    body.map(|body| decode_object(kind, &body)).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    kind: Kind,
    after: Option<&str>,
    limit: usize,
) -> Result<Listing, Error> {
    // One transaction, so that list and revision are of one moment.
    let mut reading = readers.begin().await.map_err(failed)?;
    let revision: i64 = sqlx::query_scalar("SELECT coalesce(max(revision), 0) FROM history")
        .fetch_one(&mut *reading)
        .await
        .map_err(failed)?;
    let mut bodies: Vec<String> = sqlx::query_scalar(
        "SELECT body FROM objects WHERE kind = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
    )
    .bind(kind.name())
    .bind(after.unwrap_or_default())
    .bind(up_to(limit.saturating_add(1)))
    .fetch_all(&mut *reading)
    .await
    .map_err(failed)?;
    drop(reading);
    let more = bodies.len() > limit;
    bodies.truncate(limit);
    let items = decode_all(bodies, move |body| decode_object(kind, &body)).await?;
    Ok(Listing { items, revision: natural(revision), more })
}

pub(super) async fn list_owned(
    readers: &SqlitePool,
    kind: Kind,
    owner_uid: &str,
) -> Result<Vec<AnyObject>, Error> {
    let bodies: Vec<String> =
        sqlx::query_scalar("SELECT body FROM objects WHERE kind = ?1 AND owner = ?2 ORDER BY name")
            .bind(kind.name())
            .bind(owner_uid)
            .fetch_all(readers)
            .await
            .map_err(failed)?;
    decode_all(bodies, move |body| decode_object(kind, &body)).await
}

pub(super) async fn changes(
    readers: &SqlitePool,
    after: Revision,
    limit: usize,
) -> Result<Vec<Change>, Error> {
    let rows: Vec<(i64, String, bool, String, String)> = sqlx::query_as(
        "SELECT revision, change, desired, kind, body FROM history \
         WHERE revision > ?1 ORDER BY revision LIMIT ?2",
    )
    .bind(integer(after))
    .bind(up_to(limit))
    .fetch_all(readers)
    .await
    .map_err(failed)?;
    match rows.first() {
        Some((first, ..)) if natural(*first) == after + 1 => {}
        // The oldest row that is left begins a history without holes.
        Some((first, ..)) => {
            return Err(Error::Compacted { oldest: natural(*first).saturating_sub(1) });
        }
        None => check_bounds(readers, after).await?,
    }
    decode_all(rows, |(revision, change, desired, kind, body)| {
        let kind = decode_kind(&kind)?;
        Ok(Change {
            revision: natural(revision),
            kind: decode_change(&change)?,
            object: decode_object(kind, &body)?,
            desired,
        })
    })
    .await
}

/// Behind `after` there is nothing: it must be the newest revision, not one that never was.
async fn check_bounds(readers: &SqlitePool, after: Revision) -> Result<(), Error> {
    let (oldest, newest): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT coalesce(min(revision) - 1, 0) FROM history), \
                (SELECT coalesce(max(revision), 0) FROM history)",
    )
    .fetch_one(readers)
    .await
    .map_err(failed)?;
    if after > natural(newest) {
        return Err(Error::Compacted { oldest: natural(oldest) });
    }
    Ok(())
}

pub(super) async fn receipt(readers: &SqlitePool, key: &str) -> Result<Option<Receipt>, Error> {
    let effect: Option<String> = sqlx::query_scalar("SELECT effect FROM receipts WHERE key = ?1")
        .bind(key)
        .fetch_optional(readers)
        .await
        .map_err(failed)?;
    Ok(effect.map(|effect| Receipt { key: key.to_owned(), effect }))
}

pub(super) async fn held(
    readers: &SqlitePool,
    sprite_uid: &str,
    run: Option<u32>,
) -> Result<Held, Error> {
    let row: Option<(u32, i64, bool)> = match run {
        None => {
            sqlx::query_as(
                "SELECT run, last, finished FROM output WHERE sprite_uid = ?1 \
                 ORDER BY run DESC, last DESC LIMIT 1",
            )
            .bind(sprite_uid)
            .fetch_optional(readers)
            .await
        }
        Some(run) => {
            sqlx::query_as(
                "SELECT run, last, finished FROM output WHERE sprite_uid = ?1 AND run = ?2 \
                 ORDER BY last DESC LIMIT 1",
            )
            .bind(sprite_uid)
            .bind(run)
            .fetch_optional(readers)
            .await
        }
    }
    .map_err(failed)?;
    let held = row.map(|(run, seq, finished)| Held { run, seq: natural(seq), finished });
    Ok(held.unwrap_or_default())
}

pub(super) async fn output(
    readers: &SqlitePool,
    sprite_uid: &str,
    mut after: Cursor,
    max_bytes: usize,
) -> Result<Vec<OutputRow>, Error> {
    let mut rows: Vec<OutputRow> = Vec::new();
    let mut bytes = 0;
    loop {
        let stretches: Vec<(u32, String)> = sqlx::query_as(
            "SELECT run, body FROM output WHERE sprite_uid = ?1 AND (run, last) > (?2, ?3) \
             ORDER BY run, last LIMIT ?4",
        )
        .bind(sprite_uid)
        .bind(after.run)
        .bind(integer(after.seq))
        .bind(up_to(STRETCHES))
        .fetch_all(readers)
        .await
        .map_err(failed)?;
        let more = stretches.len() == STRETCHES;
        for (run, body) in stretches {
            for row in decode_events(run, &body)? {
                // The cursor may stand in the middle of a stretch.
                if row.cursor() <= after {
                    continue;
                }
                if bytes >= max_bytes.max(1) {
                    return Ok(rows);
                }
                bytes += size_of_event(&row.event);
                after = row.cursor();
                rows.push(row);
            }
        }
        if !more {
            return Ok(rows);
        }
    }
}

pub(super) async fn inbox(
    readers: &SqlitePool,
    sprite_uid: &str,
    after: u64,
) -> Result<Vec<InboxRow>, Error> {
    let rows = sqlx::query("SELECT body FROM inbox WHERE sprite_uid = ?1 AND n > ?2 ORDER BY n")
        .bind(sprite_uid)
        .bind(integer(after))
        .fetch_all(readers)
        .await;
    bodies(rows)
}

pub(super) async fn inbox_acked(readers: &SqlitePool, sprite_uid: &str) -> Result<u64, Error> {
    let acked: Option<i64> =
        sqlx::query_scalar("SELECT acked FROM inbox_acks WHERE sprite_uid = ?1")
            .bind(sprite_uid)
            .fetch_optional(readers)
            .await
            .map_err(failed)?;
    Ok(acked.map_or(0, natural))
}

pub(super) async fn turns(
    readers: &SqlitePool,
    agent_uid: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<Turn>, Error> {
    let rows =
        sqlx::query("SELECT body FROM turns WHERE agent_uid = ?1 AND n > ?2 ORDER BY n LIMIT ?3")
            .bind(agent_uid)
            .bind(integer(after))
            .bind(up_to(limit))
            .fetch_all(readers)
            .await;
    bodies(rows)
}

pub(super) async fn open_turns(readers: &SqlitePool, agent_uid: &str) -> Result<Vec<Turn>, Error> {
    let rows = sqlx::query(
        "SELECT body FROM turns \
         WHERE agent_uid = ?1 AND state IN ('Queued', 'Sent', 'Running') ORDER BY n",
    );
    bodies(rows.bind(agent_uid).fetch_all(readers).await)
}

pub(super) async fn last_turns(
    readers: &SqlitePool,
    agent_uid: &str,
    limit: usize,
) -> Result<Vec<Turn>, Error> {
    let rows = sqlx::query("SELECT body FROM turns WHERE agent_uid = ?1 ORDER BY n DESC LIMIT ?2")
        .bind(agent_uid)
        .bind(up_to(limit))
        .fetch_all(readers)
        .await;
    bodies(rows)
}

pub(super) async fn turn_sums(readers: &SqlitePool, agent_uid: &str) -> Result<TurnSums, Error> {
    let row = sqlx::query("SELECT body FROM turn_sums WHERE agent_uid = ?1").bind(agent_uid);
    Ok(body(row.fetch_optional(readers).await)?.unwrap_or_default())
}

pub(super) async fn grants(readers: &SqlitePool, agent_uid: &str) -> Result<Vec<Grant>, Error> {
    let rows = sqlx::query("SELECT body FROM grants WHERE agent_uid = ?1");
    let mut grants: Vec<Grant> = bodies(rows.bind(agent_uid).fetch_all(readers).await)?;
    grants.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    Ok(grants)
}

pub(super) async fn access(readers: &SqlitePool) -> Result<Vec<Access>, Error> {
    bodies(sqlx::query("SELECT body FROM access ORDER BY principal").fetch_all(readers).await)
}

pub(super) async fn pairings(readers: &SqlitePool) -> Result<Vec<Pairing>, Error> {
    let rows = sqlx::query("SELECT body FROM pairings").fetch_all(readers).await;
    let mut pairings: Vec<Pairing> = bodies(rows)?;
    pairings.sort_by(|a, b| (a.created, &a.code).cmp(&(b.created, &b.code)));
    Ok(pairings)
}

pub(super) async fn audit(
    readers: &SqlitePool,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<AuditRow>, Error> {
    let Some(after) = after else {
        let newest = sqlx::query("SELECT body FROM audit ORDER BY n DESC LIMIT ?1");
        let mut rows: Vec<AuditRow> = bodies(newest.bind(up_to(limit)).fetch_all(readers).await)?;
        rows.reverse();
        return Ok(rows);
    };
    let rows = sqlx::query("SELECT body FROM audit WHERE n > ?1 ORDER BY n LIMIT ?2");
    bodies(rows.bind(integer(after)).bind(up_to(limit)).fetch_all(readers).await)
}

pub(super) async fn owned(
    readers: &SqlitePool,
    kind: Kind,
    name: &str,
) -> Result<Option<Owned>, Error> {
    let row = sqlx::query("SELECT body FROM inventory WHERE kind = ?1 AND name = ?2");
    let row = row.bind(kind.name()).bind(name).fetch_optional(readers).await.map_err(failed)?;
    row.map(|row| decode(row.get(0))).transpose()
}

pub(super) async fn inventory(readers: &SqlitePool, source: &str) -> Result<Vec<Owned>, Error> {
    let rows = sqlx::query("SELECT body FROM inventory WHERE source_uid = ?1 ORDER BY kind, name");
    bodies(rows.bind(source).fetch_all(readers).await)
}

pub(super) async fn place(
    readers: &SqlitePool,
    platform: &str,
    channel: &str,
) -> Result<Option<Place>, Error> {
    let row = sqlx::query("SELECT body FROM places WHERE platform = ?1 AND channel = ?2");
    body(row.bind(platform).bind(channel).fetch_optional(readers).await)
}

pub(super) async fn turn(readers: &SqlitePool, id: &str) -> Result<Option<Turn>, Error> {
    let row = sqlx::query("SELECT body FROM turns WHERE id = ?1").bind(id);
    body(row.fetch_optional(readers).await)
}

pub(super) async fn approvals(
    readers: &SqlitePool,
    sprite_uid: &str,
) -> Result<Vec<Approval>, Error> {
    let rows =
        sqlx::query("SELECT body FROM approvals WHERE sprite_uid = ?1 ORDER BY run, request")
            .bind(sprite_uid)
            .fetch_all(readers)
            .await;
    bodies(rows)
}

pub(super) async fn delivery(readers: &SqlitePool, id: &str) -> Result<Option<Delivery>, Error> {
    let row = sqlx::query("SELECT body FROM deliveries WHERE id = ?1").bind(id);
    body(row.fetch_optional(readers).await)
}

pub(super) async fn open_deliveries(readers: &SqlitePool) -> Result<Vec<Delivery>, Error> {
    let rows = sqlx::query("SELECT body FROM deliveries WHERE done = 0 ORDER BY made");
    bodies(rows.fetch_all(readers).await)
}

/// What [`delivery_ahead`] asks, in the words of the index that finds it.
pub(super) const AHEAD: &str = "\
    SELECT body FROM deliveries WHERE done = 0 AND body ->> '$.messages[0]' IS NULL \
    AND body ->> '$.conversation.platform' = ?1 AND body ->> '$.conversation.channel' = ?2 \
    AND coalesce(body ->> '$.conversation.thread', '') = ?3 \
    AND made < (SELECT made FROM deliveries WHERE id = ?4) \
    AND (?5 OR body ->> '$.onlyFor' IS NULL) \
    ORDER BY made DESC LIMIT 1";

pub(super) async fn delivery_ahead(
    readers: &SqlitePool,
    delivery: &Delivery,
    whispers: bool,
) -> Result<Option<Delivery>, Error> {
    let place = &delivery.conversation;
    let row = sqlx::query(AHEAD)
        .bind(&place.platform)
        .bind(&place.channel)
        .bind(place.thread.as_deref().unwrap_or_default())
        .bind(&delivery.id)
        .bind(whispers);
    body(row.fetch_optional(readers).await)
}

pub(super) async fn events(
    readers: &SqlitePool,
    regarding_uid: &str,
) -> Result<Vec<EventRow>, Error> {
    let rows = sqlx::query("SELECT body FROM events WHERE uid = ?1 ORDER BY made");
    bodies(rows.bind(regarding_uid).fetch_all(readers).await)
}

pub(super) async fn all_events(
    readers: &SqlitePool,
    after: u64,
    limit: usize,
) -> Result<Vec<Happened>, Error> {
    let rows = sqlx::query(
        "SELECT made, kind, name, uid, body FROM events WHERE made > ?1 ORDER BY made LIMIT ?2",
    );
    let rows =
        rows.bind(integer(after)).bind(up_to(limit)).fetch_all(readers).await.map_err(failed)?;
    let told = |row: &SqliteRow| {
        Ok(Happened {
            n: natural(row.get(0)),
            kind: decode_kind(row.get(1))?,
            name: row.get(2),
            uid: row.get(3),
            row: decode(row.get(4))?,
        })
    };
    rows.iter().map(told).collect()
}

pub(super) async fn backoffs(readers: &SqlitePool) -> Result<Vec<BackoffRow>, Error> {
    let rows = sqlx::query("SELECT body FROM backoffs ORDER BY controller, name");
    bodies(rows.fetch_all(readers).await)
}

/// A limit as SQLite takes it.
fn up_to(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn body<T: DeserializeOwned>(
    row: Result<Option<SqliteRow>, sqlx::Error>,
) -> Result<Option<T>, Error> {
    row.map_err(failed)?.map(|row| decode(row.get(0))).transpose()
}

fn bodies<T: DeserializeOwned>(rows: Result<Vec<SqliteRow>, sqlx::Error>) -> Result<Vec<T>, Error> {
    rows.map_err(failed)?.iter().map(|row| decode(row.get(0))).collect()
}

/// Decodes rows; many of them aside, so that no worker of tokio is held up.
async fn decode_all<R: Send + 'static, T: Send + 'static>(
    rows: Vec<R>,
    decode: impl Fn(R) -> Result<T, Error> + Send + 'static,
) -> Result<Vec<T>, Error> {
    if rows.len() < MANY_ROWS {
        return rows.into_iter().map(decode).collect();
    }
    tokio::task::spawn_blocking(move || rows.into_iter().map(decode).collect())
        .await
        .map_err(|error| Error::Unavailable(error.to_string()))?
}
