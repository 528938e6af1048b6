//! What was said while nobody listened.
//!
//! Discord holds what happens for a session that is resumed. Where one cannot be (the connection
//! was lost for long, or the server was not running), what was said since is looked up, in the
//! channels where something was heard before, and taken in front of what comes next; what was taken
//! already is known by its key.
//!
//! **From where.** The last message of a channel that was *taken*, not the last that was heard: what
//! stands in a queue at the end of a server is looked up by the next one. It stands in the store,
//! written a few seconds late, since to look up too much does no harm; where a channel is heard for
//! the first time, it is written at once. What could be neither taken nor looked up leaves a hole,
//! from which it is looked up again, until it is done.
//!
//! What is older than [`OLD`] is left: whoever said it has seen long ago that nobody answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Discord, NAME,
    heard::{Said, looked_up},
    lanes::{Lane, Lanes, Work},
    rest::{self, Failure},
    taking::Took,
};
use crate::{
    ambient::later,
    chat::{Commands, platform},
    store::{Op, Place, Transaction},
};

/// So many channels are remembered in which nothing was answered. Those where something was are
/// never let go.
const CHANNELS: usize = 1_024;
/// How many messages are looked up at once; the most that Discord gives.
const PAGE: usize = 100;
/// How many channels are looked up at once.
pub(super) const LOOKS: usize = 8;
/// How often it is tried before others go on.
const TRIES: u32 = 5;
/// The wait before the second time.
const AGAIN: Duration = Duration::from_millis(100);
/// How late it is written which message was the last.
const LATE: Duration = Duration::from_secs(3);
/// What was said longer ago is taken no more.
const OLD: Duration = Duration::from_hours(1);
/// The row of the store in which it stands.
const ROW: &str = "";

/// How far a channel was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    /// The last message that was taken.
    message: u64,
    direct: bool,
    /// Whether anything was answered there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    answers: bool,
    /// Behind this message something was not taken yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hole: Option<u64>,
}

impl Last {
    /// The message behind which is looked up.
    fn from(&self) -> u64 {
        self.hole.map_or(self.message, |hole| hole.min(self.message))
    }
}

/// What came of looking for a page.
enum Page {
    /// Messages, in no order.
    Found(Vec<Value>),
    /// There is nothing to be had any more, or nothing that we may read.
    Shut,
    /// Not now.
    Later(String),
}

impl Discord {
    /// Notes that something came from a channel, before it is taken.
    pub(super) fn is_heard(&self, said: &Said) {
        let Ok(message) = said.id.parse::<u64>() else { return };
        let mut all = self.last();
        if all.contains_key(&said.channel) {
            return;
        }
        // Where much is said in many places, the channels of long ago are let go.
        if all.len() >= CHANNELS {
            let mute = || all.iter().filter(|(_, last)| !last.answers);
            let oldest = mute().min_by_key(|(_, last)| last.message);
            let oldest = oldest.map(|(channel, _)| channel.clone());
            if let Some(oldest) = oldest.filter(|_| mute().count() >= CHANNELS) {
                all.remove(&oldest);
            }
        }
        let message = message.saturating_sub(1);
        let new = Last { message, direct: said.direct, answers: false, hole: None };
        all.insert(said.channel.clone(), new);
        self.is_new.notify_one();
    }

    /// Notes that a message was taken, and whether it was answered.
    pub(super) fn is_taken(&self, channel: &str, message: &str, answered: bool) {
        let Ok(message) = message.parse::<u64>() else { return };
        if let Some(last) = self.last().get_mut(channel) {
            last.message = last.message.max(message);
            last.answers |= answered;
        }
    }

    /// Notes that a message was not taken, so that it is looked up again from there.
    pub(super) fn is_open_from(&self, channel: &str, message: &str) {
        let Ok(message) = message.parse::<u64>() else { return };
        if let Some(last) = self.last().get_mut(channel) {
            let before = message.saturating_sub(1);
            last.hole = Some(last.hole.map_or(before, |hole| hole.min(before)));
        }
    }

    /// Puts what may have been missed in front of what comes next.
    pub(super) fn look_back(&self, lanes: &Lanes) {
        // Where something was answered goes first, and then where somebody spoke last.
        let mut all: Vec<(String, Last)> =
            self.last().iter().map(|(channel, last)| (channel.clone(), *last)).collect();
        all.sort_by_key(|(_, last)| std::cmp::Reverse((last.answers, last.message)));
        for (channel, _) in all {
            lanes.put(&channel, Work::Missed(channel.clone()));
        }
    }

    /// Reads how far the server before this one came.
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
                    "what was taken last is not known, so nothing is looked up: {error}"
                );
            }
        }
    }

    /// Keeps how far each channel was taken, until `stop`, and once more then.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut kept = self.last().clone();
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.clock.sleep(LATE) => {}
                () = self.is_new.notified() => {}
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
                Err(error) => {
                    tracing::warn!("what was taken last is not kept yet: {error}");
                    // It is tried again after a while, however many channels are new.
                    tokio::select! {
                        () = self.clock.sleep(LATE) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        }
    }

    /// Takes what was missed in a channel, the oldest first.
    pub(super) async fn missed(&self, channel: &str, commands: &Commands, lane: &Lane) -> Took {
        let Some(last) = self.last().get(channel).copied() else { return Took::Nothing };
        let mut after = last.from();
        let mut old = 0_usize;
        loop {
            let found = match lane.slowly(self.page(channel, after)).await {
                Page::Found(found) => found,
                Page::Shut => return Took::Nothing,
                Page::Later(why) => {
                    tracing::warn!(
                        channel,
                        after,
                        "what was said while nobody listened could not be looked up; it is tried \
                         again in a minute: {why}"
                    );
                    self.is_open_from(channel, &(after + 1).to_string());
                    return Took::Not;
                }
            };
            let is_last = found.len() < PAGE;
            let id = |message: &Value| message["id"].as_str().and_then(|id| id.parse::<u64>().ok());
            let newest = found.iter().filter_map(id).max().unwrap_or(after);
            let mut said: Vec<Said> =
                found.into_iter().filter_map(|message| looked_up(message, last.direct)).collect();
            said.sort_by_key(|said| said.id.parse::<u64>().unwrap_or_default());
            for said in said {
                if later(said.at, OLD) <= self.clock.now() {
                    old += 1;
                    continue;
                }
                let id = said.id.clone();
                match self.said(said, commands, lane).await {
                    Took::Not => {
                        self.is_open_from(channel, &id);
                        return Took::Not;
                    }
                    took => self.is_taken(channel, &id, took == Took::Answered),
                }
            }
            if is_last || newest <= after {
                break;
            }
            after = newest;
        }
        if old > 0 {
            tracing::warn!(channel, old, "messages from more than an hour ago were left");
        }
        if let Some(last) = self.last().get_mut(channel) {
            last.hole = None;
            last.message = last.message.max(after);
        }
        Took::Nothing
    }

    /// The messages of a channel that come next behind one.
    async fn page(&self, channel: &str, after: u64) -> Page {
        // Never closed.
        let _one_of_few = self.looks.acquire().await;
        let path = format!("channels/{channel}/messages?after={after}&limit={PAGE}");
        let call = rest::get("GET channels/messages", channel, path);
        let (mut wait, mut tries) = (AGAIN, 0);
        loop {
            match self.rest.call(&call).await {
                Ok(messages) => {
                    return Page::Found(messages.as_array().cloned().unwrap_or_default());
                }
                Err(Failure::Other(platform::Error::Gone(_))) => {
                    self.last().remove(channel);
                    return Page::Shut;
                }
                Err(Failure::Shut(why) | Failure::Other(platform::Error::Rejected(why))) => {
                    tracing::warn!(
                        channel,
                        "what was said while nobody listened is not shown to us; give the bot View \
                         Channel and Read Message History there: {why}"
                    );
                    return Page::Shut;
                }
                Err(failure) => {
                    tries += 1;
                    if tries >= TRIES {
                        return Page::Later(platform::Error::from(failure).to_string());
                    }
                    self.clock.sleep(wait).await;
                    wait *= 4;
                }
            }
        }
    }
}
