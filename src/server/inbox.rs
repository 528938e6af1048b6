//! `GET /webhooks/inbox?after=N`: what a sprite is to do, as a stream of lines.
//!
//! Rows behind N come at once, new ones as they are written, and a heartbeat every
//! [`HEARTBEAT`]. With each heartbeat, rows that were sent but not acknowledged are sent again:
//! the reporter drops what it knows. The newest connection is the only one that speaks; an older
//! one gets a clean end. A reporter names its run (`run=R`), sees the rows of that run only, and
//! hears 410 when a newer one speaks.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State as Shared},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;
use sprite_reporter::wire::{InboxRow, Order};
use tokio::sync::watch;

use super::{
    State,
    directory::Standing,
    hub::Topic,
    ingest::{InboxTurn, Lane},
    webhooks::{answer, caller, gone, query},
};
use crate::store;

/// How often a stream that has nothing to say says so.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// `GET /webhooks/inbox`
pub(super) async fn inbox(Shared(state): Shared<State>, request: Request) -> Response {
    let uri = request.uri();
    let lane = match caller(&state, request.headers(), uri).await {
        Ok(lane) if lane.standing() == Standing::Live => lane,
        Ok(_) => return gone(),
        Err(refused) => return refused,
    };
    let number = |name: &str| query(uri, name).map_or(Ok(None), |text| text.parse().map(Some));
    let (Ok(after), Ok(run)) = (number("after"), number("run")) else {
        let why = serde_json::json!({"error": "after and run are numbers"});
        return answer(StatusCode::BAD_REQUEST, &why);
    };
    let after: u64 = after.unwrap_or(0);
    let run = run.map(|run| u32::try_from(run).unwrap_or(u32::MAX));
    let (newest, acked) = match state.0.ingest.standing(&lane).await {
        Ok(standing) => standing,
        Err(store::Error::NotFound { .. }) => return gone(),
        Err(error) => {
            let why = serde_json::json!({ "error": error.to_string() });
            return answer(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
    };
    if run.is_some_and(|run| run < newest) {
        return gone();
    }
    // A reporter that names no run is the newest, or the first.
    let own = run.unwrap_or(newest.max(1));
    let (connection, turns) = lane.connect();
    let rows = Rows {
        arrivals: state.0.hub.wait_for(Topic::Inbox(lane.uid().to_owned())),
        standings: lane.standings(),
        turns,
        connection,
        run,
        own,
        // What an earlier run has taken over is not for this one.
        sent: after.max(acked),
        acked: after.max(acked),
        beat_due: state.0.ambient.clock.elapsed() + HEARTBEAT,
        first: true,
        lane,
        state,
    };
    let lines = stream::unfold(rows, |mut rows| async move {
        let line = rows.next().await?;
        Some((Ok::<_, Infallible>(line), rows))
    });
    let ndjson = HeaderValue::from_static("application/x-ndjson");
    ([(header::CONTENT_TYPE, ndjson)], Body::from_stream(lines)).into_response()
}

struct Rows {
    state: State,
    lane: Arc<Lane>,
    arrivals: watch::Receiver<()>,
    standings: watch::Receiver<Standing>,
    turns: watch::Receiver<InboxTurn>,
    connection: u64,
    run: Option<u32>,
    /// Whose rows are shown.
    own: u32,
    sent: u64,
    acked: u64,
    beat_due: Duration,
    first: bool,
}

/// Why a stream goes on.
enum Woken {
    Arrival,
    Beat,
    Changed,
    Closed,
}

impl Rows {
    /// The next lines; nothing at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if std::mem::take(&mut self.first) {
            // Said at once, so that the reporter knows that it is connected.
            let mut lines = line(&self.heartbeat());
            lines.extend(self.read(self.sent).await?);
            return Some(lines.into());
        }
        loop {
            if !self.may_speak() {
                return None;
            }
            match self.wait().await {
                Woken::Arrival => {
                    let lines = self.read(self.sent).await?;
                    if !lines.is_empty() {
                        return Some(lines.into());
                    }
                }
                Woken::Beat => {
                    self.beat_due = self.state.0.ambient.clock.elapsed() + HEARTBEAT;
                    let mut lines = line(&self.heartbeat());
                    // Nobody else may have asked since the sprite went.
                    self.state.0.directory.refresh().await.ok()?;
                    if !self.may_speak() {
                        return None;
                    }
                    let acked = self.state.0.store.inbox_acked(self.lane.uid()).await.ok()?;
                    self.acked = self.acked.max(acked);
                    lines.extend(self.read(self.acked).await?);
                    return Some(lines.into());
                }
                Woken::Changed => {}
                Woken::Closed => return None,
            }
        }
    }

    fn may_speak(&self) -> bool {
        let turn = *self.turns.borrow();
        turn.connection == self.connection
            && self.run.is_none_or(|run| run >= turn.run)
            && *self.standings.borrow() == Standing::Live
    }

    async fn wait(&mut self) -> Woken {
        let clock = self.state.0.ambient.clock.clone();
        let silence = self.beat_due.saturating_sub(clock.elapsed());
        tokio::select! {
            biased;
            () = self.state.0.closing.cancelled() => Woken::Closed,
            _ = self.turns.changed() => Woken::Changed,
            _ = self.standings.changed() => Woken::Changed,
            rung = self.arrivals.changed() => if rung.is_ok() { Woken::Arrival } else { Woken::Closed },
            () = clock.sleep(silence) => Woken::Beat,
        }
    }

    /// The rows behind one, as lines; nothing if the store cannot be read, which ends the
    /// stream: the reporter comes back.
    async fn read(&mut self, after: u64) -> Option<Vec<u8>> {
        let rows = self.state.0.store.inbox(self.lane.uid(), after).await.ok()?;
        self.sent = rows.last().map_or(self.sent, |row| row.n.max(self.sent));
        let own = rows.iter().filter(|row| row.run == self.own);
        Some(own.flat_map(line).collect())
    }

    fn heartbeat(&self) -> InboxRow {
        InboxRow { n: 0, run: self.own, order: Order::Heartbeat {} }
    }
}

fn line(row: &InboxRow) -> Vec<u8> {
    // Orders always serialise.
    let mut line = serde_json::to_vec(row).unwrap_or_default();
    line.push(b'\n');
    line
}
