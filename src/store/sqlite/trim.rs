//! Trims what sprites of a long life have said; see [`crate::store::trim`] for what goes.
//!
//! Weighing a sprite's output means reading through it. So the writer counts what it appends, and
//! only those whose output grew by as much as is worth it are weighed, one after another, each in a
//! transaction of its own. After a start all are, in a walk over their uids; and once more where too
//! many speak for all to be counted. A walk that was wished for meanwhile begins with the next
//! compaction, so that each one ends.

use std::collections::HashMap;

use jiff::Timestamp;
use sprite_reporter::wire::Event;
use sqlx::{Row as _, SqliteConnection};

use super::{
    codec::{decode, decode_events, encode_events, integer, natural},
    failed,
};
use crate::store::{
    Cursor, Delivery, Error, Turn,
    trim::{Gone, KEEP, KEEP_NEEDED, Needed, Shows, WORTH, instead, need, shows, told_before},
};

/// How many stretches are taken away at once at most.
const PIECE: i64 = 1000;
/// How many sprites are weighed at once at most.
const AT_ONCE: usize = 16;
/// Of so many sprites it is known how much they grew; of more, all are weighed.
const KNOWN: usize = 10_000;

/// The next sprite of which something is kept, by uid.
pub(super) const SPEAKER: &str = "SELECT min(sprite_uid) FROM output WHERE sprite_uid > ?1";
pub(super) const OPEN_TURNS: &str =
    "SELECT body FROM turns WHERE state IN ('Queued', 'Sent', 'Running')";
pub(super) const OPEN_DELIVERIES: &str = "SELECT body FROM deliveries WHERE done = 0";
pub(super) const TURN: &str = "SELECT body FROM turns WHERE id = ?1";
pub(super) const OWNED: &str = "SELECT uid FROM objects WHERE kind = 'Sprite' AND owner = ?1";
/// The stretch in which the newest `?2` bytes of a sprite's output begin. The length of a text is
/// told without reading it.
pub(super) const BEGINS: &str = "SELECT run, last FROM \
    (SELECT run, last, sum(octet_length(body)) OVER (ORDER BY run DESC, last DESC) AS size \
     FROM output WHERE sprite_uid = ?1) \
    WHERE size >= ?2 ORDER BY run DESC, last DESC LIMIT 1";
/// The oldest stretches before one place, none of which is needed behind another.
pub(super) const OLDEST: &str = "SELECT id, run, last, octet_length(body) AS size FROM output \
    WHERE sprite_uid = ?1 AND (run, last) < (?2, ?3) AND (run, last) <= (?4, ?5) \
    ORDER BY run, last LIMIT ?6";
pub(super) const BODY: &str = "SELECT body FROM output WHERE id = ?1";
pub(super) const FIRST: &str =
    "SELECT body FROM output WHERE sprite_uid = ?1 AND run = ?2 ORDER BY last LIMIT 1";
pub(super) const DROP: &str = "DELETE FROM output WHERE sprite_uid = ?1 AND (run, last) < (?2, ?3)";
pub(super) const REPLACE: &str = "UPDATE output SET body = ?2 WHERE id = ?1";

/// How much each sprite's output has grown since it was weighed.
pub(super) struct Grown {
    /// Of how many it is known at most.
    most: usize,
    by: HashMap<String, u64>,
    /// The last one of a walk over all; none where there is no walk.
    walk: Option<String>,
    /// Whether another walk is wished for.
    again: bool,
}

impl Default for Grown {
    fn default() -> Self {
        Self { most: KNOWN, by: HashMap::new(), walk: Some(String::new()), again: false }
    }
}

impl Grown {
    /// Notes what was appended.
    pub(super) fn add(&mut self, sprite_uid: &str, bytes: u64) {
        if let Some(by) = self.by.get_mut(sprite_uid) {
            *by = by.saturating_add(bytes);
            return;
        }
        if self.by.len() >= self.most {
            self.by.clear();
            self.again = true;
        }
        self.by.insert(sprite_uid.to_owned(), bytes);
    }

    /// One that is worth to be weighed, until it was.
    async fn next(&mut self, connection: &mut SqliteConnection) -> Result<Option<String>, Error> {
        if let Some((uid, _)) = self.by.iter().find(|(_, by)| **by >= WORTH) {
            return Ok(Some(uid.clone()));
        }
        let Some(after) = &self.walk else {
            self.walk = std::mem::take(&mut self.again).then(String::new);
            return Ok(None);
        };
        let next = sqlx::query_scalar(SPEAKER).bind(after);
        self.walk = next.fetch_one(&mut *connection).await.map_err(failed)?;
        match self.walk.clone() {
            Some(uid) => {
                self.by.insert(uid.clone(), WORTH);
                Ok(Some(uid))
            }
            None => Box::pin(self.next(connection)).await,
        }
    }
}

/// Weighs the output of some sprites that have grown, and takes a piece of one's away; tells whether
/// there is more to do.
pub(super) async fn step(
    connection: &mut SqliteConnection,
    grown: &mut Grown,
    now: Timestamp,
) -> Result<bool, Error> {
    for _ in 0..AT_ONCE {
        let Some(uid) = grown.next(connection).await? else { return Ok(false) };
        if trim(connection, &uid, now).await? {
            return Ok(true);
        }
        grown.by.remove(&uid);
    }
    Ok(true)
}

/// Takes a piece away; tells whether there may be more.
async fn trim(connection: &mut SqliteConnection, uid: &str, now: Timestamp) -> Result<bool, Error> {
    let Some(begins) = begins(connection, uid, KEEP).await? else { return Ok(false) };
    let end = Cursor { run: u32::MAX, seq: u64::MAX };
    let needed = needed(connection).await?.get(uid).copied().unwrap_or(end);
    if take(connection, uid, (begins, needed), now).await? {
        return Ok(true);
    }
    match self::begins(connection, uid, KEEP_NEEDED).await? {
        Some(begins) => take(connection, uid, (begins, end), now).await,
        None => Ok(false),
    }
}

async fn begins(
    connection: &mut SqliteConnection,
    uid: &str,
    bytes: u64,
) -> Result<Option<Cursor>, Error> {
    let row: Option<(u32, i64)> = sqlx::query_as(BEGINS)
        .bind(uid)
        .bind(integer(bytes))
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    Ok(row.map(|(run, last)| Cursor { run, seq: natural(last) }))
}

/// Puts a gap in the place of the oldest stretches, those that end before one place and are not
/// needed behind the other; tells whether it did.
async fn take(
    connection: &mut SqliteConnection,
    uid: &str,
    (before, needed): (Cursor, Cursor),
    now: Timestamp,
) -> Result<bool, Error> {
    let oldest: Vec<(i64, u32, i64, i64)> = sqlx::query_as(OLDEST)
        .bind(uid)
        .bind(before.run)
        .bind(integer(before.seq))
        .bind(needed.run)
        .bind(integer(needed.seq))
        .bind(PIECE)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let Some(first) = oldest.first() else { return Ok(false) };
    let told = told_before(&events(connection, first.0, first.1).await?);
    let is_all = i64::try_from(oldest.len()).unwrap_or(i64::MAX) < PIECE;
    for (n, (id, run, seq, _)) in oldest.iter().copied().enumerate().rev() {
        let spoken = oldest[..=n].iter().skip(usize::from(told.is_some()));
        let bytes = spoken.fold(0, |bytes: u64, row| bytes.saturating_add(natural(row.3)));
        if bytes == 0 || (is_all && bytes < WORTH) {
            return Ok(false);
        }
        let bytes = bytes.saturating_add(told.unwrap_or_default());
        let (head, tail) = (head(connection, uid, run).await?, events(connection, id, run).await?);
        let (Some(first), Some(last)) = (head, tail.into_iter().next_back()) else {
            return Ok(false);
        };
        if let Some(events) = instead(Gone { first, last, bytes }, now) {
            replace(connection, uid, (id, run, seq), &events).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes these events instead of a stretch and all before it.
async fn replace(
    connection: &mut SqliteConnection,
    uid: &str,
    (id, run, last): (i64, u32, i64),
    events: &[Event],
) -> Result<(), Error> {
    let mut body = Vec::new();
    encode_events(&mut body, events);
    let body = String::from_utf8(body).unwrap_or_default();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed)?;
    let drop = sqlx::query(DROP).bind(uid).bind(run).bind(last);
    drop.execute(&mut *connection).await.map_err(failed)?;
    let replace = sqlx::query(REPLACE).bind(id).bind(body);
    replace.execute(&mut *connection).await.map_err(failed)?;
    sqlx::query("COMMIT").execute(connection).await.map_err(failed)?;
    Ok(())
}

/// The first event of a run.
async fn head(
    connection: &mut SqliteConnection,
    uid: &str,
    run: u32,
) -> Result<Option<Event>, Error> {
    let body: Option<String> = sqlx::query_scalar(FIRST)
        .bind(uid)
        .bind(run)
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    let rows = decode_events(run, body.as_deref().unwrap_or_default())?;
    Ok(rows.into_iter().next().map(|row| row.event))
}

async fn events(connection: &mut SqliteConnection, id: i64, run: u32) -> Result<Vec<Event>, Error> {
    let body: Option<String> =
        sqlx::query_scalar(BODY).bind(id).fetch_optional(connection).await.map_err(failed)?;
    let rows = decode_events(run, body.as_deref().unwrap_or_default())?;
    Ok(rows.into_iter().map(|row| row.event).collect())
}

/// From where on output is needed by turns that have not ended and deliveries that are not done.
pub(super) async fn needed(connection: &mut SqliteConnection) -> Result<Needed, Error> {
    let mut needed = Needed::new();
    let mut by_turn = |turn: &Turn| {
        if let (Some(uid), Some(began)) = (&turn.sprite_uid, turn.began) {
            need(&mut needed, uid, began);
        }
    };
    for row in sqlx::query(OPEN_TURNS).fetch_all(&mut *connection).await.map_err(failed)? {
        by_turn(&decode(row.get(0))?);
    }
    let mut jobs = Vec::new();
    for row in sqlx::query(OPEN_DELIVERIES).fetch_all(&mut *connection).await.map_err(failed)? {
        let delivery: Delivery = decode(row.get(0))?;
        match shows(&delivery.subject, delivery.state) {
            Shows::Nothing => {}
            Shows::Job(uid) => jobs.push(uid.to_owned()),
            Shows::Turn(id) => {
                let turn: Option<String> = sqlx::query_scalar(TURN)
                    .bind(id)
                    .fetch_optional(&mut *connection)
                    .await
                    .map_err(failed)?;
                if let Some(turn) = turn {
                    by_turn(&decode(&turn)?);
                }
            }
        }
    }
    for job in jobs {
        let sprites: Vec<String> = sqlx::query_scalar(OWNED)
            .bind(job)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        sprites.iter().for_each(|uid| need(&mut needed, uid, Cursor::default()));
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::{ambient::Ambient, store::sqlite::SqliteStore};

    #[tokio::test]
    async fn a_compaction_ends_however_many_speak_and_looks_at_all() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
        let options = SqliteConnectOptions::new().filename(dir.path().join("store.db"));
        let mut connection = SqliteConnection::connect_with(&options).await.expect("a connection");
        for n in 0..40 {
            let insert = "INSERT INTO output (sprite_uid, run, last, finished, body) \
                VALUES (?1, 1, 1, 0, '')";
            let insert = sqlx::query(insert).bind(format!("sprite-{n:02}"));
            insert.execute(&mut connection).await.expect("it is kept");
        }
        let mut grown = Grown { most: 4, ..Grown::default() };
        for compaction in 0..3 {
            let mut steps = 0;
            let mut walked = grown.walk.is_some();
            while step(&mut connection, &mut grown, Timestamp::UNIX_EPOCH).await.expect("a step") {
                // Meanwhile all of them speak.
                (0..40).for_each(|n| grown.add(&format!("sprite-{n:02}"), 1));
                walked &= grown.walk.as_deref().is_none_or(|at| at >= "sprite-15");
                steps += 1;
                assert!(steps < 10, "compaction {compaction} does not end");
            }
            assert!(walked, "all are looked at in the order of their uids");
            assert!(grown.by.len() <= 4);
        }
        store.close().await;
    }
}
