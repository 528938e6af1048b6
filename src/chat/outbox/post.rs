//! The hands: placeholders, edits, pace, order, and places that cannot be reached.

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{Outbox, again::free_message, rendering::Rendering, whisper::Whispered};
use crate::{
    chat::platform::{self, Action, Capabilities, Content, Nonce, Platform, Post, Upload},
    reconcile::{Error, Next},
    store::{Delivery, DeliveryState, Subject},
};

/// How many messages of one delivery are posted in one go, so that a long one lets others work.
const MESSAGES: usize = 32;
/// How often a delivery that waits for another looks again, should a bell be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often a parked delivery looks again on a platform that does not say when it is back.
const PARKED: Duration = Duration::from_secs(60);
/// What stands for the hash of a delivery whose last message is a file: that one is never edited,
/// and nothing comes behind it.
const FILE: &str = "file";

enum Posted {
    Yes(Box<Delivery>),
    No(Next),
    /// The platform will not take the file.
    NoFile(Box<Delivery>, String),
}

impl Outbox {
    /// Keeps a delivery until its place can be reached.
    pub(super) async fn park(&self, mut delivery: Delivery, why: String) -> Result<Next, Error> {
        if delivery.state != DeliveryState::Parked || delivery.note != why {
            delivery.state = DeliveryState::Parked;
            delivery.note = why;
            self.write("chat.park", delivery).await?;
        }
        Ok(Next::After(PARKED))
    }

    /// Ends a delivery that cannot be shown, with the reason.
    pub(super) async fn give_up(&self, mut delivery: Delivery, why: String) -> Result<Next, Error> {
        tracing::warn!(delivery = delivery.id, "not shown: {why}");
        delivery.state = DeliveryState::Done;
        delivery.note = why;
        self.write("chat.give-up", delivery).await?;
        Ok(Next::Done)
    }

    /// Brings one delivery up to date.
    pub(super) async fn show(
        &self,
        mut delivery: Delivery,
        platform: &dyn Platform,
        rendering: &mut Option<Rendering>,
    ) -> Result<Next, Error> {
        let id = delivery.id.clone();
        let capabilities = platform.capabilities_in(&delivery.conversation);
        let is_aside = delivery.only_for.is_some() && capabilities.whispers;
        if is_aside {
            if delivery.messages.is_empty() && self.must_wait(&delivery).await? {
                self.memory().waiting.insert(id);
                return Ok(Next::After(LOOK_AGAIN));
            }
            delivery = match self.whisper(delivery, platform, &capabilities).await? {
                Whispered::Yes(next) => return Ok(next),
                Whispered::No(delivery) => *delivery,
            };
        }
        if delivery.messages.is_empty() {
            if self.must_wait(&delivery).await? {
                self.memory().waiting.insert(id);
                return Ok(Next::After(LOOK_AGAIN));
            }
            delivery = match self.post(delivery, platform, None).await? {
                Posted::Yes(delivery) => *delivery,
                Posted::No(next) => return Ok(next),
                Posted::NoFile(delivery, why) => return self.give_up(*delivery, why).await,
            };
        }
        for _ in 0..MESSAGES {
            let frames = self.frames(&delivery, &capabilities, rendering).await?;
            // Behind the file nothing comes; the message in front of it may lose its buttons yet.
            let is_sent = delivery.hash == FILE;
            let at = delivery.messages.len() - 1 - usize::from(is_sent);
            // A message that stands in front of what is to be shown is complete.
            let text = at.checked_sub(frames.first).and_then(|at| frames.texts.get(at));
            let end = frames.first + frames.texts.len();
            let more = at + 1 < end;
            if is_sent && (text.is_none() || more) {
                delivery.state = DeliveryState::Done;
                self.write("chat.commit-shown", delivery).await?;
                return Ok(Next::Done);
            }
            // The file is the last that comes.
            let has_file = frames.file.is_some() && at + 1 == end && !is_sent;
            let last = frames.ended && !more && !has_file;
            if text.is_none()
                && last
                && let Some(rendering) = rendering
                && rendering.begins() < free_message(&delivery)
            {
                // Less came of it than stands there. So that stays, and the end follows.
                rendering.begin_at(free_message(&delivery));
                continue;
            }
            if text.is_none() && last {
                // What these messages showed cannot be made again; nothing more comes.
                delivery.state = DeliveryState::Done;
                delivery = self.write("chat.commit-shown", delivery).await?;
            }
            if let Some(text) = text {
                let mut actions = if more { Vec::new() } else { frames.actions.clone() };
                actions.truncate(capabilities.buttons);
                let content = Content { text: text.clone(), actions };
                let is_final = last || has_file;
                let hash = hash(&content, is_final);
                if hash != delivery.hash {
                    if let Some(wait) = self.pace(&id, &capabilities).filter(|_| !is_final && !more)
                    {
                        return Ok(Next::After(wait));
                    }
                    let message = &delivery.messages[at];
                    let place = &delivery.conversation;
                    let edit = match is_final || more {
                        true => platform.edit(place, message, &content, is_final),
                        false => platform.grow(place, message, &content, frames.steady),
                    };
                    match self.ambient.step("chat.edit", edit).await {
                        Ok(()) => {}
                        Err(platform::Error::Unreachable(why)) => {
                            return self.park(delivery, why).await;
                        }
                        // Somebody took the message away, or the platform will never take this
                        // text: what comes behind it can still be shown.
                        Err(error @ (platform::Error::Gone(_) | platform::Error::Rejected(_))) => {
                            tracing::warn!(delivery = id, "not edited: {error}");
                            delivery.note = error.to_string();
                        }
                        Err(error) => return Err(error.into()),
                    }
                    self.memory().edited.insert(id.clone(), self.ambient.clock.elapsed());
                    if !is_sent {
                        delivery.hash = hash;
                    }
                    if !more {
                        if let Some(rendering) = rendering {
                            delivery.shows(rendering, at);
                        }
                        delivery.state =
                            if last { DeliveryState::Done } else { DeliveryState::Open };
                        delivery = self.write("chat.commit-shown", delivery).await?;
                    }
                } else if last && delivery.state != DeliveryState::Done {
                    delivery.state = DeliveryState::Done;
                    delivery = self.write("chat.commit-shown", delivery).await?;
                } else if !more && delivery.state == DeliveryState::Parked {
                    delivery.state = DeliveryState::Open;
                    delivery.note.clear();
                    delivery = self.write("chat.commit-shown", delivery).await?;
                }
            }
            if last && delivery.state == DeliveryState::Done {
                if self.is_outdated(&delivery, &frames.actions).await? {
                    delivery = self.open_again(delivery).await?;
                    continue;
                }
                return Ok(Next::Done);
            }
            if !more && !has_file {
                return Ok(frames.again.map_or(Next::Done, Next::After));
            }
            if let Some(rendering) = rendering {
                delivery.shows(rendering, at);
            }
            let file = frames.file.as_ref().filter(|_| has_file);
            delivery = match self.post(delivery, platform, file).await? {
                Posted::Yes(delivery) if delivery.state == DeliveryState::Done => {
                    if self.is_outdated(&delivery, &frames.actions).await? {
                        self.open_again(*delivery).await?;
                    }
                    return Ok(Next::Done);
                }
                Posted::Yes(delivery) => *delivery,
                Posted::No(next) => return Ok(next),
                Posted::NoFile(delivery, why) => {
                    let text = text.map_or("", String::as_str);
                    let mut actions = frames.actions;
                    actions.truncate(capabilities.buttons);
                    let content = Content { text: without_file(text), actions };
                    return self.no_file(*delivery, platform, &content, why).await;
                }
            };
        }
        Ok(Next::After(Duration::ZERO))
    }

    /// Whether what was shown last offers what somebody has done meanwhile: who pressed before the
    /// end was committed did not find it.
    async fn is_outdated(&self, delivery: &Delivery, shown: &[Action]) -> Result<bool, Error> {
        match &delivery.subject {
            Subject::Turn { id } | Subject::Job { uid: id, .. } if !shown.is_empty() => {
                self.was_retried(id).await
            }
            _ => Ok(false),
        }
    }

    /// Has an end shown once more; the bell of the row wakes its key.
    async fn open_again(&self, mut delivery: Delivery) -> Result<Delivery, Error> {
        delivery.state = DeliveryState::Open;
        self.write("chat.open-again", delivery).await
    }

    /// The platform took no file: the last message says so, and where all of it is.
    async fn no_file(
        &self,
        delivery: Delivery,
        platform: &dyn Platform,
        content: &Content,
        why: String,
    ) -> Result<Next, Error> {
        if let Some(message) = delivery.messages.last() {
            let edit = platform.edit(&delivery.conversation, message, content, true);
            match self.ambient.step("chat.edit", edit).await {
                Ok(()) | Err(platform::Error::Gone(_) | platform::Error::Rejected(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.give_up(delivery, why).await
    }

    /// How long to wait before the next edit, if at all.
    fn pace(&self, id: &str, capabilities: &Capabilities) -> Option<Duration> {
        let since = self.ambient.clock.elapsed().checked_sub(*self.memory().edited.get(id)?)?;
        capabilities.pace.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    /// Whether an earlier delivery to the same conversation has no placeholder yet.
    async fn must_wait(&self, delivery: &Delivery) -> Result<bool, Error> {
        let open = self.store.open_deliveries().await?;
        Ok(open.iter().take_while(|earlier| earlier.id != delivery.id).any(|earlier| {
            earlier.conversation == delivery.conversation && earlier.messages.is_empty()
        }))
    }

    /// Posts the delivery's next message, as a placeholder or a file, and commits its id.
    async fn post(
        &self,
        mut delivery: Delivery,
        platform: &dyn Platform,
        file: Option<&Upload>,
    ) -> Result<Posted, Error> {
        let nonce = Nonce { delivery: delivery.id.clone(), index: delivery.messages.len() };
        let message = match self.place(&delivery, platform, &nonce, file).await {
            Ok(message) => message,
            Err(platform::Error::Unreachable(why)) => {
                return self.park(delivery, why).await.map(Posted::No);
            }
            Err(error @ (platform::Error::Gone(_) | platform::Error::Rejected(_)))
                if file.is_some() =>
            {
                return Ok(Posted::NoFile(Box::new(delivery), error.to_string()));
            }
            Err(error @ (platform::Error::Gone(_) | platform::Error::Rejected(_))) => {
                return self.give_up(delivery, error.to_string()).await.map(Posted::No);
            }
            Err(error) => return Err(error.into()),
        };
        delivery.messages.push(message);
        (delivery.hash, delivery.state) = match file {
            Some(_) => (FILE.to_owned(), DeliveryState::Done),
            None => (String::new(), DeliveryState::Open),
        };
        delivery.note.clear();
        let delivery = self.write("chat.commit-message", delivery).await?;
        let mut memory = self.memory();
        memory.suspects.remove(&delivery.id);
        memory.posted.remove(&nonce.to_string());
        drop(memory);
        Ok(Posted::Yes(Box::new(delivery)))
    }

    /// The id of the message with this nonce: posted just now or before.
    async fn place(
        &self,
        delivery: &Delivery,
        platform: &dyn Platform,
        nonce: &Nonce,
        file: Option<&Upload>,
    ) -> Result<String, platform::Error> {
        let capabilities = platform.capabilities_in(&delivery.conversation);
        if let Some(message) = self.memory().posted.get(&nonce.to_string()) {
            return Ok(message.clone());
        }
        // Until the answer is held, this post may have happened.
        let suspect = !self.memory().suspects.insert(delivery.id.clone());
        if suspect && capabilities.lookup {
            let find = platform.find(&delivery.conversation, nonce);
            if let Some(message) = self.ambient.step("chat.find", find).await? {
                return Ok(message);
            }
        }
        let post = Post {
            conversation: &delivery.conversation,
            reply_to: delivery.reply_to.as_deref(),
            text: capabilities.placeholder,
            nonce,
        };
        let answer = match file {
            Some(file) => self.ambient.step("chat.upload", platform.upload(&post, file)).await,
            None => self.ambient.step("chat.post", platform.post(&post)).await,
        };
        let message = match answer {
            // Nothing happened, so nothing needs to be looked up.
            Err(error @ (platform::Error::Unreachable(_) | platform::Error::RateLimited(_)))
                if !suspect =>
            {
                self.memory().suspects.remove(&delivery.id);
                return Err(error);
            }
            answer => answer?,
        };
        self.memory().posted.insert(nonce.to_string(), message.clone());
        Ok(message)
    }
}

impl Delivery {
    /// Notes what is shown once a message stands. The end of all is read again: it says that there
    /// is nothing more.
    fn shows(&mut self, rendering: &Rendering, message: usize) {
        if !rendering.is_read
            && let Some(place) = rendering.shown_by(message)
        {
            (self.shown, self.shown_of) = (place.cursor, place.sprite);
        }
    }
}

/// The end of an answer whose rest the platform would not take.
fn without_file(text: &str) -> String {
    format!("{text}\n! the rest could not be sent as a file; open-dispatch logs has it")
}

fn hash(content: &Content, last: bool) -> String {
    let mut digest = Sha256::new().chain_update([u8::from(last)]).chain_update(&content.text);
    for action in &content.actions {
        digest.update(format!("\0{}\0{}", action.label, action.line));
    }
    let digest = digest.finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
