//! Listening: orders from `GET /webhooks/inbox`, a stream of lines with a heartbeat.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{StatusCode, body::Incoming};
use serde::Deserialize;
use tokio::{sync::mpsc, time::timeout};

use super::{
    Backoff, Desk, Verdict,
    http::{Address, Connection, Trouble},
};
use crate::{ambient, wire::InboxRow};

/// How long the server may be silent. It sends a heartbeat each 15 s.
const SILENCE: Duration = Duration::from_secs(40);
/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// The part of a row that an older reporter understands of any.
#[derive(Deserialize)]
struct Number {
    n: u64,
}

/// How a stream ended.
enum Ended {
    /// By a fault; the stream had begun.
    Broken(String),
    /// The run is not wanted, or nobody listens any more.
    Over(Option<Verdict>),
}

/// Hears orders and hands each on once, in order, until the server gives the run up.
/// Returns none when nobody takes orders any more.
pub async fn listen(
    desk: Arc<Desk>,
    address: Address,
    orders: mpsc::Sender<InboxRow>,
) -> Option<Verdict> {
    let mut backoff = Backoff::default();
    let mut known = 0;
    loop {
        match stream(&desk, &address, &orders, &mut known, &mut backoff).await {
            Ok(Ended::Over(verdict)) => return verdict,
            Ok(Ended::Broken(why)) => desk.complain(&format!("the inbox broke off: {why}")),
            Err(trouble) => desk.complain(&format!("the inbox: {trouble}")),
        }
        ambient::sleep(backoff.next(ambient::chance())).await;
    }
}

async fn stream(
    desk: &Desk,
    address: &Address,
    orders: &mpsc::Sender<InboxRow>,
    known: &mut u64,
    backoff: &mut Backoff,
) -> Result<Ended, Trouble> {
    let mut connection = Connection::open(address).await?;
    let path =
        format!("/webhooks/inbox?after={known}&jobId={}&run={}", address.job_id, address.run);
    let response = connection.get(&path, SILENCE).await?;
    if response.status() == StatusCode::UNAUTHORIZED {
        // Another's server, which took our server's address for now.
        return Ok(Ended::Broken("the server does not know this sprite's token".into()));
    }
    desk.answered();
    match response.status() {
        StatusCode::OK => {}
        StatusCode::GONE => return Ok(Ended::Over(Some(Verdict::Superseded))),
        status => return Ok(Ended::Broken(format!("the server answered {status}"))),
    }
    backoff.reset();
    lines(desk, response.into_body(), orders, known, address.run).await
}

async fn lines(
    desk: &Desk,
    mut body: Incoming,
    orders: &mpsc::Sender<InboxRow>,
    known: &mut u64,
    run: u32,
) -> Result<Ended, Trouble> {
    let mut buffer = Vec::new();
    loop {
        let frame = match timeout(SILENCE, body.frame()).await {
            Err(_) => return Err(Trouble::Late),
            Ok(None) => return Ok(Ended::Broken("the server closed it".into())),
            Ok(Some(Err(error))) => return Ok(Ended::Broken(error.to_string())),
            Ok(Some(Ok(frame))) => frame,
        };
        desk.answered();
        let Some(data) = frame.data_ref() else { continue };
        buffer.extend_from_slice(data);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            match next_row(&line, *known, run) {
                Heard::New(row) => {
                    *known = row.n;
                    if orders.send(row).await.is_err() {
                        return Ok(Ended::Over(None));
                    }
                }
                Heard::Strange(n) => {
                    // A newer server's order: it cannot be obeyed, and it must not block others.
                    desk.complain(&format!("inbox row {n} was not understood"));
                    *known = n;
                }
                Heard::Foreign(n) => {
                    // Neither obeyed nor acknowledged: that is for the run that it is meant for.
                    desk.complain(&format!("inbox row {n} is for another run"));
                    *known = n;
                }
                Heard::Known => {}
                Heard::Rubbish => return Ok(Ended::Broken("a line was no row".into())),
            }
        }
        if buffer.len() > MAX_LINE_BYTES {
            return Ok(Ended::Broken("a line was too long".into()));
        }
    }
}

/// What a line of the inbox says to a run that knows the rows up to `known`.
#[derive(Debug, PartialEq)]
enum Heard {
    New(InboxRow),
    Known,
    Strange(u64),
    Foreign(u64),
    Rubbish,
}

fn next_row(line: &[u8], known: u64, run: u32) -> Heard {
    if line.trim_ascii().is_empty() {
        return Heard::Known;
    }
    match (serde_json::from_slice::<Number>(line), serde_json::from_slice::<InboxRow>(line)) {
        (Ok(Number { n }), _) if n <= known => Heard::Known,
        (Ok(_), Ok(row)) if row.run == run => Heard::New(row),
        (Ok(Number { n }), Ok(_)) => Heard::Foreign(n),
        (Ok(Number { n }), Err(_)) => Heard::Strange(n),
        (Err(_), _) => Heard::Rubbish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ExitReason, Order};

    #[test]
    fn each_row_is_heard_once_and_heartbeats_are_none() {
        let stop = br#"{"n":3,"type":"stop","reason":"Cancelled"}"#;
        let row = InboxRow { n: 3, run: 1, order: Order::Stop { reason: ExitReason::Cancelled } };
        assert_eq!(next_row(stop, 2, 1), Heard::New(row));
        assert_eq!(next_row(stop, 3, 1), Heard::Known);
        assert_eq!(next_row(br#"{"n":0,"type":"heartbeat"}"#, 0, 1), Heard::Known);
        assert_eq!(next_row(br#"{"n":4,"type":"dance"}"#, 3, 1), Heard::Strange(4));
        assert_eq!(next_row(b"\n", 3, 1), Heard::Known);
        assert_eq!(next_row(b"<html>", 3, 1), Heard::Rubbish);
    }

    #[test]
    fn a_run_hears_no_rows_of_another() {
        let first = br#"{"n":3,"type":"stop","reason":"Cancelled"}"#;
        let second = br#"{"n":4,"run":2,"type":"sleep"}"#;
        assert_eq!(next_row(first, 2, 2), Heard::Foreign(3));
        assert_eq!(next_row(second, 3, 1), Heard::Foreign(4));
        let row = InboxRow { n: 4, run: 2, order: Order::Sleep {} };
        assert_eq!(next_row(second, 3, 2), Heard::New(row));
    }
}
