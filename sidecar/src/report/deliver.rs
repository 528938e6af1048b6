//! Delivering: batches to `POST /webhooks/events`, in order, until the server holds the end.

use std::{sync::Arc, time::Duration};

use hyper::StatusCode;

use super::{
    Backoff, Desk, Verdict,
    http::{Address, Connection, Trouble},
};
use crate::{
    ambient,
    spool::Page,
    steps::Passage,
    wire::{EventAck, MAX_BATCH_BYTES},
};

/// What a batch needs beside its events.
const ENVELOPE_BYTES: usize = 1024;
/// The most events of a batch.
const MAX_EVENTS: usize = 2000;
/// How long a batch may take to be answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The wait before an event that the server refuses is tried again.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// The longest wait that a server may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// How large batches may be: as large as the server takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    bytes: usize,
    events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: MAX_BATCH_BYTES - ENVELOPE_BYTES, events: MAX_EVENTS }
    }
}

impl Limits {
    /// Half of what was refused.
    fn halved(sent: usize) -> Self {
        Self { events: (sent / 2).max(1), ..Self::default() }
    }
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Go on from what the server holds.
    Held(EventAck),
    /// This run is not wanted any more.
    Unwanted,
    /// This is another's server, which took our server's address for now.
    Stranger,
    /// This batch is not wanted as it is.
    Refused,
    /// Try again, perhaps after this long.
    Later(Option<Duration>),
}

/// Understands an answer.
pub(super) fn understand(status: StatusCode, after: Option<Duration>, body: &[u8]) -> Meaning {
    match status.as_u16() {
        200 | 409 => match serde_json::from_slice(body) {
            Ok(ack) => Meaning::Held(ack),
            Err(_) => Meaning::Later(None),
        },
        // Ours knows every token that it ever gave, and says so when a run is over.
        401 => Meaning::Stranger,
        410 => Meaning::Unwanted,
        400 | 413 | 422 => Meaning::Refused,
        429 | 503 => Meaning::Later(after.map(|wish| wish.min(LONGEST_WISH))),
        // Another server may sit at this address for now; none of these speak of the batch.
        _ => Meaning::Later(None),
    }
}

/// Posts what the desk's spool holds until the server holds the end of the run.
pub async fn deliver(desk: Arc<Desk>, address: Address) -> Verdict {
    let next = desk.first();
    let mut round = Round {
        desk,
        address,
        connection: None,
        backoff: Backoff::default(),
        limits: Limits::default(),
        next,
        inbox: 0,
    };
    let mut growth = round.desk.growth();
    loop {
        growth.mark_unchanged();
        match round.step().await {
            Step::Again => {}
            Step::Wait(length) => ambient::sleep(length).await,
            Step::Rest => {
                // The sender lives on the desk that we hold.
                let _ = growth.changed().await;
            }
            Step::Done(verdict) => return verdict,
        }
    }
}

/// What to do after a step.
enum Step {
    Again,
    Wait(Duration),
    Rest,
    Done(Verdict),
}

struct Round {
    desk: Arc<Desk>,
    address: Address,
    connection: Option<Connection>,
    backoff: Backoff,
    limits: Limits,
    /// The number that the server waits for, as far as we know.
    next: u64,
    /// The inbox row that the server was told of.
    inbox: u64,
}

impl Round {
    async fn step(&mut self) -> Step {
        let page = match self.desk.page(self.next, self.limits.bytes, self.limits.events) {
            Ok(page) => page,
            Err(error) => {
                self.desk.complain(&format!("cannot read the spool: {error}"));
                return self.later(None);
            }
        };
        let inbox = self.desk.inbox();
        if page.lines.is_empty() && inbox <= self.inbox {
            return Step::Rest;
        }
        match self.post(&page, inbox).await {
            Ok(Meaning::Held(ack)) => self.held(&page, inbox, &ack),
            Ok(Meaning::Unwanted) => Step::Done(Verdict::Superseded),
            Ok(Meaning::Stranger) => {
                // The next connection goes to whatever address stands in the file by then.
                self.connection = None;
                self.later(None)
            }
            Ok(Meaning::Refused) => self.refused(&page),
            Ok(Meaning::Later(wish)) => self.later(wish),
            Err(trouble) => {
                self.connection = None;
                self.desk.complain(&trouble.to_string());
                self.later(None)
            }
        }
    }

    async fn post(&mut self, page: &Page, inbox: u64) -> Result<Meaning, Trouble> {
        let connection = match self.connection.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        let json = batch(&self.address, page, inbox);
        let connection = self.connection.insert(connection);
        // Named in the address, so that a server that has forgotten the sprite can say so.
        let path = format!("/webhooks/events?jobId={}", self.address.job_id);
        let passage = Passage::begin(&"post");
        let (status, after, body) = connection.post(&path, json, ANSWER_WITHIN).await?;
        passage.end();
        let meaning = understand(status, after, &body);
        if meaning != Meaning::Stranger {
            self.desk.answered();
        }
        if !matches!(meaning, Meaning::Held(_)) {
            let said = String::from_utf8_lossy(&body);
            self.desk.complain(&format!("the server answered {status}: {}", said.trim()));
        }
        Ok(meaning)
    }

    fn held(&mut self, page: &Page, inbox: u64, ack: &EventAck) -> Step {
        if ack.finished {
            return Step::Done(Verdict::Finished);
        }
        self.inbox = self.inbox.max(inbox);
        let held = ack.expected.saturating_sub(1).max(ack.held);
        match self.desk.acknowledge(held) {
            Ok(true) => {}
            Ok(false) => {
                self.desk
                    .complain("the server holds the exit event, but does not say that this is all");
                return Step::Done(Verdict::Finished);
            }
            Err(error) => self.desk.complain(&format!("cannot tidy the spool: {error}")),
        }
        let advanced = held + 1 > self.next || page.lines.is_empty();
        self.next = held + 1;
        if advanced {
            self.backoff.reset();
            self.limits = Limits::default();
            Step::Again
        } else {
            // The server stays, or went back: go on from there, but not in a hurry.
            self.later(None)
        }
    }

    /// Finds the event that the server refuses, by halves. Text gives way to a gap, so that
    /// what is missing is told; anything else waits for a server that takes it.
    fn refused(&mut self, page: &Page) -> Step {
        if page.lines.len() > 1 {
            self.limits = Limits::halved(page.lines.len());
            return Step::Again;
        }
        match self.desk.give_up(self.next) {
            Ok(true) => self.later(None),
            _ => Step::Wait(REFUSED_WAIT),
        }
    }

    fn later(&mut self, wish: Option<Duration>) -> Step {
        let wait = self.backoff.next(ambient::chance());
        Step::Wait(wish.map_or(wait, |wish| wish.max(wait)))
    }
}

/// A batch as JSON. The events are JSON already.
fn batch(address: &Address, page: &Page, inbox: u64) -> Vec<u8> {
    let id = serde_json::to_string(&address.job_id).unwrap_or_default();
    let ack = if inbox > 0 { format!(r#","inboxAck":{inbox}"#) } else { String::new() };
    let events = page.lines.join(",");
    format!(r#"{{"jobId":{id},"run":{}{ack},"events":[{events}]}}"#, address.run).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EventBatch;

    #[test]
    fn a_batch_is_what_the_wire_says() {
        let address = Address {
            job_id: "a\"b".into(),
            run: 2,
            token: String::new(),
            endpoint_file: None,
            server: None,
        };
        let line = r#"{"seq":1,"at":"2026-01-01T00:00:00Z","type":"ready"}"#;
        let page = Page { lines: vec![line.into(), line.into()], next: 3 };
        let batch: EventBatch = serde_json::from_slice(&batch(&address, &page, 7)).unwrap();
        assert_eq!((batch.job_id.as_str(), batch.run), ("a\"b", 2));
        assert_eq!((batch.events.len(), batch.inbox_ack), (2, Some(7)));
    }

    #[test]
    fn every_answer_has_a_meaning() {
        let ack = br#"{"held":4,"expected":5}"#;
        let held = Meaning::Held(EventAck { held: 4, expected: 5, finished: false });
        let of = |status: u16, body: &[u8]| {
            understand(StatusCode::from_u16(status).unwrap(), Some(Duration::from_secs(99)), body)
        };
        assert_eq!(of(200, ack), held);
        assert_eq!(of(409, ack), held);
        assert_eq!(of(200, b"hello"), Meaning::Later(None));
        assert_eq!(of(401, b""), Meaning::Stranger);
        assert_eq!(of(410, b""), Meaning::Unwanted);
        assert_eq!(of(413, b""), Meaning::Refused);
        assert_eq!(of(400, b""), Meaning::Refused);
        assert_eq!(of(429, b""), Meaning::Later(Some(LONGEST_WISH)));
        assert_eq!(of(500, b""), Meaning::Later(None));
        assert_eq!(of(404, b""), Meaning::Later(None));
    }
}
