//! Delivering in the words of the original's sidecar: lines to `/webhooks/logs`, a status to
//! `/webhooks/status`, what was made to `/webhooks/artifacts`.
//!
//! The spool holds the same numbered events as ever; they are told in order, one post at a time, and
//! each again until it was taken. That is more than the original's sidecar does, which tries each
//! post once; what it says is the same. Lines are gathered for half a second, or twenty of them.
//!
//! That contract has no word for "you are not wanted": a server that does not know the job says 401.
//! So a post that is refused is dropped, as the original's would be, and the agent goes on. Only 410,
//! which our own server says, ends it.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{
    Backoff, Desk, Verdict,
    http::{Address, Connection},
};
use crate::{
    ambient,
    wire::{Event, EventBody, Exit, ExitReason},
};

mod lines;

pub use lines::Format;
use lines::Lines;

/// How long a post may take to be answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The most bytes of events that are read at once.
const PAGE_BYTES: usize = 1024 * 1024;
/// The most events that are read at once.
const PAGE_EVENTS: usize = 1000;

/// Posts what the desk's spool holds until the end was told.
pub async fn deliver_as_original(desk: Arc<Desk>, address: Address, format: Format) -> Verdict {
    let next = desk.first();
    let backoff = Backoff::default();
    let mut relay = Relay { desk, address, connection: None, backoff };
    match relay.run(next, Lines::new(format)).await {
        Ok(()) => Verdict::Finished,
        Err(verdict) => verdict,
    }
}

/// Tells that a job cannot begin. Tried until it was told, or the caller is tired of it.
pub async fn refuse_as_original(address: &Address, why: &str) {
    let said = json!({
        "jobId": address.job_id, "status": "failed", "exitCode": 1, "error": why,
    });
    let json = said.to_string().into_bytes();
    let mut backoff = Backoff::default();
    loop {
        if let Ok(mut connection) = Connection::open(address).await
            && let Ok((status, ..)) =
                connection.post("/webhooks/status", json.clone(), ANSWER_WITHIN).await
            && !status.is_server_error()
        {
            return;
        }
        ambient::sleep(backoff.next(ambient::chance())).await;
    }
}

struct Relay {
    desk: Arc<Desk>,
    address: Address,
    connection: Option<Connection>,
    backoff: Backoff,
}

impl Relay {
    async fn run(&mut self, mut next: u64, mut lines: Lines) -> Result<(), Verdict> {
        let mut growth = self.desk.growth();
        loop {
            growth.mark_unchanged();
            let page = match self.desk.page(next, PAGE_BYTES, PAGE_EVENTS) {
                Ok(page) => page,
                Err(error) => {
                    self.desk.complain(&format!("cannot read the spool: {error}"));
                    ambient::sleep(self.backoff.next(ambient::chance())).await;
                    continue;
                }
            };
            if page.lines.is_empty() {
                self.wait(&mut growth, &mut lines).await?;
                continue;
            }
            for line in &page.lines {
                // Our own spool's lines are events.
                let Ok(event) = serde_json::from_str::<Event>(line) else { continue };
                let (seq, behind) = (event.seq, event.next_seq());
                if let EventBody::Exit(exit) = &event.body {
                    let rest = lines.finish();
                    self.logs(rest).await?;
                    // The exit stays where it is: nobody numbers in this contract.
                    return self.status(&ended(exit)).await;
                }
                self.tell(event.body, &mut lines).await?;
                next = behind;
                if let Err(error) = self.desk.acknowledge(behind.saturating_sub(1).max(seq)) {
                    self.desk.complain(&format!("cannot tidy the spool: {error}"));
                }
            }
        }
    }

    /// Waits for more, or until the lines that are gathered are due.
    async fn wait(
        &mut self,
        growth: &mut tokio::sync::watch::Receiver<u64>,
        lines: &mut Lines,
    ) -> Result<(), Verdict> {
        let due = lines.due().map(|due| due.saturating_sub(ambient::elapsed()));
        let flush = async {
            match due {
                Some(wait) => ambient::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = growth.changed() => {
                // The sender lives on the desk that we hold.
                let _ = changed;
                Ok(())
            }
            () = flush => {
                let text = lines.take();
                self.logs(text).await
            }
        }
    }

    async fn tell(&mut self, body: EventBody, lines: &mut Lines) -> Result<(), Verdict> {
        match body {
            EventBody::Hello { .. } => {
                self.status(&json!({"status": "running", "exitCode": 0, "error": ""})).await
            }
            EventBody::Log { stream, chunk } => {
                for text in lines.push(stream, &chunk.bytes(), ambient::elapsed()) {
                    self.logs(Some(text)).await?;
                }
                Ok(())
            }
            EventBody::Gap { bytes, .. } => {
                let text = format!("[{bytes} bytes of output are missing here]");
                self.logs(Some(text)).await
            }
            EventBody::Artifact { name, url, kind } => {
                let made = json!({"artifacts": [{"name": name, "url": url, "type": kind}]});
                self.post("artifacts", &made).await
            }
            _ => Ok(()),
        }
    }

    async fn logs(&mut self, text: Option<String>) -> Result<(), Verdict> {
        match text {
            Some(text) => self.post("logs", &json!({"text": text})).await,
            None => Ok(()),
        }
    }

    async fn status(&mut self, said: &serde_json::Value) -> Result<(), Verdict> {
        self.post("status", said).await
    }

    /// Posts until it was taken, or is not wanted.
    async fn post(&mut self, endpoint: &str, said: &serde_json::Value) -> Result<(), Verdict> {
        let mut body = json!({"jobId": self.address.job_id});
        if let (Some(body), Some(said)) = (body.as_object_mut(), said.as_object()) {
            body.extend(said.clone());
        }
        let json = body.to_string().into_bytes();
        loop {
            let answered = self.post_once(endpoint, json.clone()).await;
            let wish = match answered {
                Ok((200..=299, _)) => {
                    self.backoff.reset();
                    return Ok(());
                }
                Ok((410, _)) => return Err(Verdict::Superseded),
                Ok((status @ (408 | 429 | 500..), wish)) => {
                    self.desk.complain(&format!("the server answered {status} to {endpoint}"));
                    wish
                }
                Ok((status, _)) => {
                    let what = format!("the server does not take {endpoint}: {status}");
                    self.desk.complain(&what);
                    return Ok(());
                }
                Err(why) => {
                    self.desk.complain(&why);
                    None
                }
            };
            let wait = self.backoff.next(ambient::chance());
            ambient::sleep(wish.map_or(wait, |wish| wish.clamp(wait, ANSWER_WITHIN.max(wait))))
                .await;
        }
    }

    async fn post_once(
        &mut self,
        endpoint: &str,
        json: Vec<u8>,
    ) -> Result<(u16, Option<Duration>), String> {
        let connection = match self.connection.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => Connection::open(&self.address).await.map_err(|error| error.to_string())?,
        };
        let connection = self.connection.insert(connection);
        let path = format!("/webhooks/{endpoint}");
        match connection.post(&path, json, ANSWER_WITHIN).await {
            Ok((status, after, _)) => {
                self.desk.answered();
                Ok((status.as_u16(), after))
            }
            Err(trouble) => {
                self.connection = None;
                Err(trouble.to_string())
            }
        }
    }
}

/// The last status, from how the agent ended.
fn ended(exit: &Exit) -> serde_json::Value {
    let code = exit.process_code();
    if exit.reason == ExitReason::Completed {
        return json!({"status": "completed", "exitCode": 0, "error": ""});
    }
    let error = match exit.reason {
        ExitReason::Failed => format!("Agent exited with code {code}"),
        reason if exit.message.is_empty() => format!("{reason:?}"),
        _ => exit.message.clone(),
    };
    json!({"status": "failed", "exitCode": code, "error": error})
}
