//! What was said while nobody listened.
//!
//! Discord holds what happens for a session that is resumed. Where one cannot be (the connection
//! was lost for long, or the server was not running), what was said since the last message that was
//! heard is looked up, in the channels where something was heard, and taken in front of what comes
//! next; what was taken already is known by its key. Which message was the last stands in the
//! store, written a few seconds late, and not at all while nobody speaks.
//!
//! What is older than [`OLD`] is left: whoever said it has seen long ago that nobody answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    Discord, NAME,
    heard::{Said, looked_up},
    lanes::Lanes,
    lanes::Work,
    rest::{self, Failure},
};
use crate::{
    ambient::later,
    chat::{Commands, platform},
    store::{Op, Place, Transaction},
};

/// In how many channels is looked for what was missed.
const CHANNELS: usize = 64;
/// How many messages are looked up in a channel; the most that Discord gives.
const MISSED: usize = 100;
/// How often it is tried.
const TRIES: u32 = 5;
/// The wait before the second time.
const AGAIN: Duration = Duration::from_millis(100);
/// How late it is written which message was the last.
const LATE: Duration = Duration::from_secs(3);
/// What was said longer ago is taken no more.
const OLD: Duration = Duration::from_hours(1);
/// The row of the store in which it stands.
const ROW: &str = "";

/// The last message that was heard in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    message: u64,
    direct: bool,
}

impl Discord {
    /// Notes that something was said, for looking up what comes behind it.
    pub(super) fn note(&self, said: &Said) {
        let Ok(message) = said.id.parse::<u64>() else { return };
        let mut all = self.last();
        // Where much is said in many places, the channels of long ago are let go.
        if all.len() >= CHANNELS && !all.contains_key(&said.channel) {
            let oldest = all.iter().min_by_key(|(_, last)| last.message);
            if let Some(oldest) = oldest.map(|(channel, _)| channel.clone()) {
                all.remove(&oldest);
            }
        }
        let new = Last { message, direct: said.direct };
        let last = all.entry(said.channel.clone()).or_insert(new);
        last.message = last.message.max(message);
    }

    /// Puts what may have been missed in front of what comes next.
    pub(super) fn look_back(&self, lanes: &Lanes) {
        for (channel, last) in self.last().iter() {
            lanes.put(channel, Work::Missed(channel.clone(), *last));
        }
    }

    /// Reads what the server before this one heard last.
    pub(super) async fn remember(&self) {
        match self.store.place(NAME, ROW).await {
            Ok(place) => {
                let facts = place.map(|place| place.facts).unwrap_or_default();
                let before: HashMap<String, Last> =
                    serde_json::from_value(facts).unwrap_or_default();
                let mut all = self.last();
                for (channel, last) in before {
                    all.entry(channel).or_insert(last);
                }
            }
            Err(error) => {
                tracing::warn!(
                    "what was heard last is not known, so nothing is looked up: {error}"
                );
            }
        }
    }

    /// Keeps what was heard last, until `stop`.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut kept = self.last().clone();
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.clock.sleep(LATE) => {}
                () = stop.cancelled() => {}
            }
            let now = self.last().clone();
            if now == kept {
                continue;
            }
            let facts = serde_json::to_value(&now).unwrap_or_default();
            let row = Place { platform: NAME.to_owned(), channel: ROW.to_owned(), facts };
            let write = Transaction::at(self.clock.now()).with(Op::Place(row));
            match self.store.apply(write).await {
                Ok(_) => kept = now,
                Err(error) => tracing::warn!("what was heard last is not kept yet: {error}"),
            }
        }
    }

    /// Takes what was missed, the oldest first.
    pub(super) async fn missed(&self, channel: &str, last: Last, commands: &Commands) {
        let path = format!("channels/{channel}/messages?after={}&limit={MISSED}", last.message);
        let call = rest::get("GET channels/messages", channel, path);
        let mut wait = AGAIN;
        for _ in 0..TRIES {
            match self.rest.call(&call).await {
                Ok(messages) => {
                    let all = messages.as_array().cloned().unwrap_or_default().into_iter();
                    let mut said: Vec<Said> =
                        all.filter_map(|message| looked_up(message, last.direct)).collect();
                    said.sort_by_key(|said| said.id.parse::<u64>().unwrap_or_default());
                    for said in said {
                        self.note(&said);
                        if later(said.at, OLD) > self.clock.now() {
                            self.said(said, commands).await;
                        }
                    }
                    return;
                }
                Err(Failure::Other(platform::Error::Gone(_) | platform::Error::Rejected(_))) => {
                    return;
                }
                Err(_) => {
                    self.clock.sleep(wait).await;
                    wait *= 4;
                }
            }
        }
        tracing::warn!(channel, "what was said while nobody listened could not be looked up");
    }
}
