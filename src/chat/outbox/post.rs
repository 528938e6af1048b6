//! The hands: placeholders, edits, pace, order, and places that cannot be reached. What they do next
//! is [`super::plan`]'s.

use std::time::Duration;

use super::{
    Outbox,
    again::free_message,
    edit::{Edit, Put, content_hash},
    plan::{FILE, NO_FILE, Now, Plan, Then, View, Wish, plan, without_file},
    rendering::{Frames, Rendering},
    whisper::Whispered,
};
use crate::{
    chat::platform::{self, Action, Capabilities, Content, Nonce, Platform, Post, Upload},
    reconcile::{Error, Next},
    store::{Delivery, DeliveryState, Subject},
};

/// How many messages of one delivery are posted in one go, so that a long one lets others work.
const MESSAGES: usize = 32;
/// How often a delivery that waits for another looks again, should a bell be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(super) enum Posted {
    Yes(Box<Delivery>),
    No(Next),
    /// The platform will not take the file.
    NoFile(Box<Delivery>, String),
}

impl Outbox {
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
        if let Subject::File { .. } = delivery.subject {
            return self.show_file(delivery, platform, &capabilities).await;
        }
        let is_aside = delivery.only_for.is_some() && capabilities.whispers;
        if is_aside {
            // Nobody else sees it, so it stands in no order.
            delivery = match self.whisper(delivery, platform, &capabilities).await? {
                Whispered::Yes(next) => return Ok(next),
                Whispered::No(delivery) => *delivery,
            };
        }
        if delivery.messages.is_empty() {
            if let Some(ahead) = self.ahead(&delivery, &capabilities).await? {
                return self.wait_behind(delivery, ahead).await;
            }
            delivery = match self.post(delivery, platform, None).await? {
                Posted::Yes(delivery) => *delivery,
                Posted::No(next) => return Ok(next),
                Posted::NoFile(delivery, why) => return self.give_up(*delivery, why).await,
            };
        }
        for _ in 0..MESSAGES {
            let frames = self.frames(&delivery, &capabilities, rendering).await?;
            let view = View {
                delivery: &delivery,
                frames: &frames,
                capabilities: &capabilities,
                pace: self.pace(&id, &capabilities),
                begins: rendering.as_ref().map(Rendering::begins),
            };
            let Plan { at, now, then } = plan(&view);
            match now {
                Now::Finish => {
                    self.write_end("chat.commit-shown", delivery, &capabilities, &frames).await?;
                    return Ok(Next::Done);
                }
                Now::NoFile(content) => {
                    let why = delivery.note.clone();
                    return self.no_file(delivery, platform, &content, (&frames, why)).await;
                }
                Now::BeginBehind => {
                    if let Some(rendering) = rendering {
                        rendering.begin_at(free_message(&delivery));
                    }
                    continue;
                }
                Now::Wait(wait) => return Ok(Next::After(wait)),
                Now::Put(wish) => {
                    let wish = (at, wish, then, &frames);
                    let put = self.fulfil(delivery, platform, rendering, wish).await?;
                    delivery = match put {
                        Fulfilled::Yes(delivery) => *delivery,
                        Fulfilled::Parked(next) => return Ok(next),
                    };
                }
                Now::Commit if then != Then::End => {
                    delivery.state = DeliveryState::Open;
                    delivery.parked = None;
                    delivery.note.clear();
                    delivery = self.write("chat.commit-shown", delivery).await?;
                }
                Now::Lost | Now::Commit => {
                    let step = "chat.commit-shown";
                    delivery = self.write_end(step, delivery, &capabilities, &frames).await?;
                }
                Now::Nothing => {}
            }
            let file = match then {
                Then::End if self.is_outdated(&delivery, &frames.actions).await? => {
                    delivery = self.open_again(delivery).await?;
                    continue;
                }
                Then::End => return Ok(Next::Done),
                Then::Rest => return Ok(frames.again.map_or(Next::Done, Next::After)),
                Then::Text => None,
                Then::File => frames.file.as_ref().map(|file| (file, &frames)),
            };
            if let Some(rendering) = rendering {
                delivery.shows(rendering, at);
            }
            delivery = match self.post(delivery, platform, file).await? {
                Posted::Yes(delivery) if delivery.state == DeliveryState::Done => {
                    if self.is_outdated(&delivery, &frames.actions).await? {
                        self.open_again(*delivery).await?;
                    }
                    return Ok(Next::Done);
                }
                Posted::Yes(delivery) => *delivery,
                Posted::No(next) => {
                    *rendering = None;
                    return Ok(next);
                }
                Posted::NoFile(delivery, why) => {
                    let content = without_file(&frames, at, &capabilities);
                    return self.no_file(*delivery, platform, &content, (&frames, why)).await;
                }
            };
        }
        Ok(Next::After(Duration::ZERO))
    }

    /// Makes a message show what it is to show, and commits that.
    async fn fulfil(
        &self,
        delivery: Delivery,
        platform: &dyn Platform,
        rendering: &mut Option<Rendering>,
        (at, wish, then, frames): (usize, Wish, Then, &Frames),
    ) -> Result<Fulfilled, Error> {
        let Wish { content, hash, is_final, grows, is_new } = wish;
        let edit = Edit { at, content: &content, is_final, grows, is_new };
        // The hash of a delivery whose file is sent says just that.
        let is_sent = delivery.hash == FILE;
        let (mut delivery, outcome) = self.put(delivery, platform, edit).await?;
        if let Put::Parked(why) = outcome {
            *rendering = None;
            return self.refused(delivery, why).await.map(Fulfilled::Parked);
        }
        delivery.parked = None;
        self.memory().edited.insert(delivery.id.clone(), self.ambient.clock.elapsed());
        if !is_sent && let Put::Shown(shown) = &outcome {
            delivery.hash = match shown {
                Some(other) => content_hash(other, is_final),
                None => hash,
            };
        }
        if then == Then::Text {
            // The next message's id is committed with it.
            return Ok(Fulfilled::Yes(Box::new(delivery)));
        }
        if let Some(rendering) = rendering
            && matches!(outcome, Put::Shown(_))
        {
            delivery.shows(rendering, at);
        }
        delivery.state = DeliveryState::Open;
        let step = "chat.commit-shown";
        let capabilities = platform.capabilities_in(&delivery.conversation);
        let delivery = match then {
            Then::End => self.write_end(step, delivery, &capabilities, frames).await?,
            _ => self.write(step, delivery).await?,
        };
        Ok(Fulfilled::Yes(Box::new(delivery)))
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

    /// The platform took no file: the last message says so, and where all of it is. It is committed
    /// first, so that no file comes below that line.
    async fn no_file(
        &self,
        mut delivery: Delivery,
        platform: &dyn Platform,
        content: &Content,
        (frames, why): (&Frames, String),
    ) -> Result<Next, Error> {
        if delivery.hash != NO_FILE {
            NO_FILE.clone_into(&mut delivery.hash);
            delivery.note.clone_from(&why);
            delivery = self.write("chat.commit-no-file", delivery).await?;
        }
        if let Some(message) = delivery.messages.last() {
            let edit = platform.edit(&delivery.conversation, message, content, true);
            match self.ambient.step("chat.edit", edit).await {
                Ok(()) | Err(platform::Error::Gone(_) | platform::Error::Rejected(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        tracing::warn!(delivery = delivery.id, "a file was not shown: {why}");
        let capabilities = platform.capabilities_in(&delivery.conversation);
        self.write_end("chat.commit-shown", delivery, &capabilities, frames).await?;
        Ok(Next::Done)
    }

    /// How long to wait before the next edit, if at all.
    fn pace(&self, id: &str, capabilities: &Capabilities) -> Option<Duration> {
        let since = self.ambient.clock.elapsed().checked_sub(*self.memory().edited.get(id)?)?;
        capabilities.pace.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    /// The delivery that this one waits for: the last earlier one to the same conversation that has
    /// no placeholder yet; whispers stand in no order. Its bell wakes this one, and no other.
    pub(super) async fn ahead(
        &self,
        delivery: &Delivery,
        capabilities: &Capabilities,
    ) -> Result<Option<Delivery>, Error> {
        let ahead = self.store.delivery_ahead(delivery, !capabilities.whispers).await?;
        let Some(ahead) = ahead else { return Ok(None) };
        self.memory().waiting.entry(ahead.id.clone()).or_default().insert(delivery.id.clone());
        // It may have moved on before this one was noted to wait for it.
        let now = self.store.delivery(&ahead.id).await?;
        let now = now.filter(|now| now.messages.is_empty() && now.state != DeliveryState::Done);
        if now.is_none() {
            self.memory().waiting.remove(&ahead.id);
        }
        Ok(now)
    }

    /// Waits for the one ahead; where that one's place cannot be reached, so cannot this one's.
    pub(super) async fn wait_behind(
        &self,
        delivery: Delivery,
        ahead: Delivery,
    ) -> Result<Next, Error> {
        match ahead.state {
            DeliveryState::Parked => self.park(delivery, ahead.note).await,
            _ => Ok(Next::After(LOOK_AGAIN)),
        }
    }

    /// Posts the delivery's next message, as a placeholder or as a file that ends what is to be
    /// shown, and commits its id.
    pub(super) async fn post(
        &self,
        mut delivery: Delivery,
        platform: &dyn Platform,
        file: Option<(&Upload, &Frames)>,
    ) -> Result<Posted, Error> {
        let nonce = next_nonce(&delivery);
        let upload = file.map(|(upload, _)| upload);
        let message = match self.place(&delivery, platform, &nonce, upload).await {
            Ok(message) => message,
            Err(platform::Error::Unreachable(why)) => {
                return self.refused(delivery, why).await.map(Posted::No);
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
        delivery.hash = file.map_or_else(String::new, |_| FILE.to_owned());
        delivery.state = DeliveryState::Open;
        delivery.note.clear();
        let mut behind = Vec::new();
        if let Some((_, frames)) = file {
            let capabilities = platform.capabilities_in(&delivery.conversation);
            behind = self.behind(&delivery, &capabilities, frames).await?;
            delivery.finish();
        }
        let delivery = self.commit_message(delivery, &nonce, behind).await?;
        Ok(Posted::Yes(Box::new(delivery)))
    }

    /// Commits the id of a message that was posted, and with it what comes behind.
    pub(super) async fn commit_message(
        &self,
        delivery: Delivery,
        nonce: &Nonce,
        behind: Vec<Delivery>,
    ) -> Result<Delivery, Error> {
        let delivery = self.write_with("chat.commit-message", delivery, behind).await?;
        let mut memory = self.memory();
        memory.suspects.remove(&delivery.id);
        memory.posted.remove(&nonce.to_string());
        drop(memory);
        Ok(delivery)
    }

    /// The id of the message with this nonce: posted just now or before.
    pub(super) async fn place(
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

/// What became of a wish.
enum Fulfilled {
    /// The message shows it, or says why not.
    Yes(Box<Delivery>),
    /// The place cannot be reached.
    Parked(Next),
}

/// What names the next post of a delivery: one more than were made for it.
pub(super) fn next_nonce(delivery: &Delivery) -> Nonce {
    let index = delivery.messages.len() + delivery.renewed.len();
    Nonce { delivery: delivery.id.clone(), index }
}

impl Delivery {
    /// Ends it: all is shown.
    pub(super) fn finish(&mut self) {
        self.state = DeliveryState::Done;
        self.parked = None;
        self.complete = matches!(self.subject, Subject::Job { .. } | Subject::Turn { .. });
    }

    /// Notes what is shown once a message stands. Where all is read, the open page is not noted: it
    /// is read again, and says that there is nothing more.
    fn shows(&mut self, rendering: &Rendering, message: usize) {
        let place = match rendering.is_read {
            true => rendering.page_shown_by(message),
            false => rendering.shown_by(message),
        };
        if let Some(place) = place {
            (self.shown, self.shown_of) = (place.cursor, place.sprite);
        }
    }
}
