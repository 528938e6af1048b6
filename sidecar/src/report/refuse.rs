//! Refusing: a run that is ours and cannot begin is told to the server, from memory.
//!
//! Between the claim and the run's directory things can fail that belong to nobody else any more: no
//! other boot may have the run. There may be no disk that a spool could be on, so the two events that
//! there are to tell, that a reporter is there and why its run is over, are numbered here and posted
//! until the server holds them.

use std::time::Duration;

use super::{
    Backoff, Verdict,
    deliver::{Meaning, understand},
    http::{Address, Connection, Trouble},
};
use crate::{
    ambient,
    wire::{Event, EventBatch, EventBody, Exit},
};

/// How long a batch may take to be answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Tells that a run ended like this before it began. Neither gives up nor ends before the server holds
/// it, or wants nothing of the run; the caller may be tired of it sooner.
pub async fn refuse(address: &Address, hello: EventBody, exit: Exit) -> Verdict {
    let mut backoff = Backoff::default();
    // What the server holds already, of another that spoke for this run, keeps its number.
    let mut expected = 1;
    loop {
        let mut events = vec![Event { seq: expected, at: ambient::now(), body: hello.clone() }];
        if expected > 1 {
            events.clear();
        }
        let seq = expected.max(2);
        events.push(Event { seq, at: ambient::now(), body: EventBody::Exit(exit.clone()) });
        let wish = match post(address, events).await {
            Ok(Meaning::Held(ack)) if ack.finished || ack.held >= seq => return Verdict::Finished,
            Ok(Meaning::Held(ack)) => {
                expected = ack.expected.max(1);
                None
            }
            Ok(Meaning::Unwanted) => return Verdict::Superseded,
            Ok(Meaning::Later(wish)) => wish,
            Ok(Meaning::Stranger | Meaning::Refused) | Err(_) => None,
        };
        let wait = backoff.next(ambient::chance());
        ambient::sleep(wish.map_or(wait, |wish| wish.max(wait))).await;
    }
}

async fn post(address: &Address, events: Vec<Event>) -> Result<Meaning, Trouble> {
    let (job_id, run) = (address.job_id.clone(), address.run);
    let batch = EventBatch { job_id, run, events, inbox_ack: None };
    let json = serde_json::to_vec(&batch).map_err(|error| Trouble::Broken(error.to_string()))?;
    let mut connection = Connection::open(address).await?;
    let path = format!("/webhooks/events?jobId={}", address.job_id);
    let (status, after, body) = connection.post(&path, json, ANSWER_WITHIN).await?;
    Ok(understand(status, after, &body))
}
