//! The outbox: a controller whose world is what stands in chat conversations.
//!
//! Its keys are deliveries. What a conversation is to show follows from the ledgers (a notice's
//! text; a job's output and end); what stands there is in the delivery's row: the messages' ids,
//! and a hash of the last one's text. A reconcile compares the two and posts or edits. So any
//! crash, at any step, is mended by doing it again:
//!
//! - A message is posted as a placeholder and its id is committed before any text goes into it.
//!   A post whose answer is not held is looked up where the platform can; where it cannot, the
//!   worst case is an empty placeholder.
//! - Text goes in by edits alone. An edit says what the message shows, whole; so doing one again
//!   does nothing new, the newest frame wins, and a frame between is never missed.
//! - Where a message cannot be edited any more, another one takes its place, once.
//! - A message whose text is complete gets its last edit before the next one is posted.
//! - In a conversation, a later delivery waits for the first placeholder of every earlier one;
//!   so answers stand in the order of the questions.
//! - A place that cannot be reached parks its deliveries and no others; each waits for the one in
//!   front of it alone, and is parked with its reason.
//!
//! - What an agent asks is shown at once, and so is what it says meanwhile. The answer stands
//!   behind all that was held when it was given, which the ledger keeps; so it stands at the same
//!   place for whoever renders it again, and what stands in a conversation only grows.
//!
//! What was rendered already is kept in memory, so that each event is read once. After a
//! restart it is made again from the store, the same (see [`super::transcript`]); where the store
//! keeps that no longer, what stands there stays, and the rest follows (see [`again`]).
//!
//! - What is for one person alone is whispered where the platform can, in one go. It waits for
//!   nobody, and nobody for it.
//! - Past the most messages that a platform's reader should scroll through, the rest is a file:
//!   posted like any message, under a nonce, its id committed.
//! - What an agent made is a delivery for each file, committed with the end that it comes behind.
//!
//! [`plan`] says what is to be done next, [`post`] and [`edit`] do it, [`parking`] keeps what cannot be shown, [`whisper`] says things aside, [`rendering`] holds what is to stand in them and
//! [`pages`] lays it out, [`job`], [`turn`] and [`choice`] render what a delivery is about,
//! [`files`] posts what an agent made, [`farewell`] says where an agent went, [`wanted`] makes the deliveries that nobody's command made:
//! of Jobs that report, and of turns that an agent begins by itself.

mod again;
mod choice;
mod edit;
mod farewell;
mod files;
mod job;
mod names;
mod pages;
mod parking;
mod plan;
mod post;
mod rendering;
mod turn;
mod wanted;
mod whisper;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
pub use choice::CHOICE_TIME;
use farewell::Gone;
pub use names::{channel_of, conversation_of, delivery_id, gone_key};
use rendering::{Frames, Rendering, fixed};
use tokio::sync::Semaphore;
use wanted::Wanted;

use super::platform::{self, Capabilities, Platform};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::AnyObject,
    store::{
        Bell, Change, ChangeKind, Delivery, DeliveryState, Op, Store, Subject, Transaction,
        files::Files,
    },
};

/// The controller's name, for whoever wakes its keys.
pub const NAME: &str = "delivery";
/// How much output is read at once, in bytes.
const PAGE: usize = 256 * 1024;
/// How many complete pieces wait in memory before reading on.
const PIECES: usize = 8;
/// How long the end of a job or turn waits for output that was not sent to its end.
const GRACE: Duration = Duration::from_secs(60);
/// What ended longer ago gets no new delivery: its own is done, and may be forgotten.
const OLD: Duration = Duration::from_hours(12);

/// The controller of deliveries.
pub struct Outbox {
    store: Arc<dyn Store>,
    ambient: Ambient,
    platforms: HashMap<&'static str, Arc<dyn Platform>>,
    files: Option<Arc<Files>>,
    /// How many files may be in memory on their way at once.
    sending: Semaphore,
    memory: Mutex<Memory>,
}

/// What a process knows beside the store. Losing it costs calls, never truth.
#[derive(Default)]
struct Memory {
    /// Whether all keys were listed once.
    started: bool,
    /// Deliveries of which a post may have happened without its answer being held.
    suspects: HashSet<String>,
    /// Posts that were answered, until their ids are committed.
    posted: HashMap<String, String>,
    /// Deliveries that Jobs ask for, by id.
    wanted: HashMap<String, Wanted>,
    /// The last turn of each agent up to which all that it began by itself have their deliveries.
    looked: HashMap<String, u64>,
    /// Agents that go or are gone, by uid, with their names and where they listened.
    gone: HashMap<String, Gone>,
    /// The deliveries that show a Job, an Agent's turn or a Sprite's output, by its uid.
    watchers: HashMap<String, BTreeSet<String>>,
    /// Deliveries that wait for an earlier one, by that one's id.
    waiting: HashMap<String, BTreeSet<String>>,
    /// Until when deliveries are left alone whose place was out of reach, on the clock that never
    /// runs back.
    resting: HashMap<String, Duration>,
    /// What was rendered so far.
    renderings: HashMap<String, Rendering>,
    /// Since when deliveries get no further, by delivery, and whether that stands in their rows.
    stuck: HashMap<String, (Duration, bool)>,
    /// When a message was last edited, by delivery, on the clock that never runs back.
    edited: HashMap<String, Duration>,
}

impl Outbox {
    /// An outbox with its platforms.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, platforms: Vec<Arc<dyn Platform>>) -> Self {
        let platforms = platforms.into_iter().map(|platform| (platform.name(), platform)).collect();
        let sending = Semaphore::new(files::AT_ONCE);
        Self { store, ambient, platforms, files: None, sending, memory: Mutex::default() }
    }

    /// The same with the installation's files, which it posts where agents made them.
    #[must_use]
    pub fn with_files(self, files: Arc<Files>) -> Self {
        Self { files: Some(files), ..self }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a delivery and reads it back.
    async fn write(&self, step: &'static str, delivery: Delivery) -> Result<Delivery, Error> {
        self.write_with(step, delivery, Vec::new()).await
    }

    /// The same with others, in one transaction.
    async fn write_with(
        &self,
        step: &'static str,
        delivery: Delivery,
        others: Vec<Delivery>,
    ) -> Result<Delivery, Error> {
        let id = delivery.id.clone();
        let mut transaction = Transaction::at(self.ambient.clock.now());
        transaction.ops = [delivery].into_iter().chain(others).map(Op::Delivery).collect();
        self.ambient.step(step, self.store.apply(transaction)).await?;
        let delivery = self.store.delivery(&id).await?;
        delivery.ok_or_else(|| Error::Transient(format!("delivery {id} went away")))
    }

    fn forget(&self, id: &str) {
        let mut memory = self.memory();
        memory.suspects.remove(id);
        memory.wanted.remove(id);
        memory.waiting.retain(|_, ids| {
            ids.remove(id);
            !ids.is_empty()
        });
        memory.resting.remove(id);
        memory.renderings.remove(id);
        memory.stuck.remove(id);
        memory.edited.remove(id);
        memory.posted.retain(|nonce, _| !nonce.starts_with(id));
        memory.watchers.retain(|_, ids| {
            ids.remove(id);
            !ids.is_empty()
        });
    }

    fn watch(&self, uid: &str, id: &str) {
        self.memory().watchers.entry(uid.to_owned()).or_default().insert(id.to_owned());
    }

    /// Whether a turn or job was done again by its button.
    async fn was_retried(&self, id: &str) -> Result<bool, Error> {
        Ok(self.store.receipt(&format!("retried/{id}")).await?.is_some())
    }

    /// The deliveries that show something of an object.
    fn watchers(&self, uid: &str) -> Vec<(String, Wake)> {
        let memory = self.memory();
        let ids = memory.watchers.get(uid).into_iter().flatten();
        ids.map(|id| (id.clone(), Wake::Observation)).collect()
    }

    /// What the delivery is to show now.
    async fn frames(
        &self,
        delivery: &Delivery,
        capabilities: &Capabilities,
        rendering: &mut Option<Rendering>,
    ) -> Result<Frames, Error> {
        match &delivery.subject {
            Subject::Notice { text } => Ok(fixed(0, text, capabilities)),
            Subject::Job { uid, name } => {
                self.watch(uid, &delivery.id);
                match self.job(uid).await? {
                    Some(job) => self.job_frames(delivery, &job, capabilities, rendering).await,
                    None => {
                        self.gone_frames(delivery, name, capabilities, rendering.as_mut()).await
                    }
                }
            }
            Subject::Choice { names, .. } => Ok(self.choice_frames(delivery, names, capabilities)),
            Subject::Offer { text, labels, .. } => {
                Ok(self.offer_frames(delivery, text, labels, capabilities))
            }
            Subject::Turn { id } => self.turn_frames(delivery, id, capabilities, rendering).await,
            // It has no text, and stands in one message that is never edited.
            Subject::File { .. } => Ok(Frames::default()),
        }
    }
}

impl From<platform::Error> for Error {
    fn from(error: platform::Error) -> Self {
        match error {
            platform::Error::RateLimited(wait) => Self::RateLimited(wait),
            platform::Error::Fault(fault) => Self::Fault(fault),
            platform::Error::Gone(_) | platform::Error::Rejected(_) => {
                Self::Terminal(error.to_string())
            }
            platform::Error::Unreachable(_) | platform::Error::Ambiguous(_) => {
                Self::Transient(error.to_string())
            }
        }
    }
}

#[async_trait]
impl Controller for Outbox {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Many, because a slow platform holds one for the length of a call.
    fn workers(&self) -> usize {
        32
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        match &change.object {
            AnyObject::Job(job) => {
                let wake =
                    if change.kind == ChangeKind::Added { Wake::User } else { Wake::Observation };
                let remember = change.kind != ChangeKind::Deleted;
                self.wanted_by(job, remember).into_iter().map(|id| (id, wake)).collect()
            }
            AnyObject::Sprite(sprite) => {
                let owner = sprite.metadata.controller();
                owner.map_or_else(Vec::new, |owner| self.watchers(&owner.uid))
            }
            AnyObject::Agent(agent) => {
                let mut keys = self.watchers(&agent.metadata.uid);
                if change.kind == ChangeKind::Deleted {
                    self.memory().looked.remove(&agent.metadata.uid);
                }
                let is_gone = change.kind == ChangeKind::Deleted || agent.metadata.is_deleting();
                if is_gone && let Some(key) = self.leaves(agent) {
                    keys.push((key, Wake::Observation));
                }
                keys
            }
            AnyObject::Fleet(_)
            | AnyObject::Schedule(_)
            | AnyObject::Source(_)
            | AnyObject::Override(_) => Vec::new(),
        }
    }

    fn hears(&self, bell: &Bell) -> Vec<(String, Wake)> {
        match bell {
            Bell::Output(uid) | Bell::Approvals(uid) => self.watchers(uid),
            Bell::Turns(agent) => {
                let mut keys = self.watchers(agent);
                keys.push((wanted::turns_key(agent), Wake::Observation));
                keys
            }
            Bell::Delivery(id) => {
                let behind = self.memory().waiting.remove(id).unwrap_or_default();
                let ids = behind.into_iter().chain([id.clone()]);
                ids.map(|id| (id, Wake::Observation)).collect()
            }
            Bell::Objects(_) | Bell::Inbox(_) => Vec::new(),
        }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let open = self.store.open_deliveries().await?;
        let mut keys: Vec<String> = open.iter().map(|delivery| delivery.id.clone()).collect();
        {
            let mut memory = self.memory();
            if !memory.started {
                // Another process may have posted these without holding the answer.
                memory.started = true;
                memory.suspects.extend(keys.iter().cloned());
            }
        }
        keys.extend(self.all_wanted().await?);
        keys.sort();
        keys.dedup();
        Ok(keys.into_iter().map(|key| (key, Wake::Timer)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        if let Some(agent) = wanted::agent_of_key(key) {
            self.create_for_turns(agent).await?;
            return Ok(Next::Done);
        }
        if let Some(uid) = farewell::uid_of_key(key) {
            self.tell_gone(uid).await?;
            return Ok(Next::Done);
        }
        let Some(delivery) = self.store.delivery(key).await? else {
            // The bell of the new row wakes the key again.
            self.create(key).await?;
            return Ok(Next::Done);
        };
        if delivery.state == DeliveryState::Done {
            self.forget(key);
            return Ok(Next::Done);
        }
        let Some(platform) = self.platforms.get(delivery.conversation.platform.as_str()) else {
            let why = format!("this server does not serve {}", delivery.conversation.platform);
            return self.park(delivery, why).await;
        };
        if !platform.reachable(&delivery.conversation) {
            let why = format!("nobody is attached to channel {}", delivery.conversation.channel);
            return self.park(delivery, why).await;
        }
        if let Some(rest) = self.rests(key) {
            return Ok(Next::After(rest));
        }
        // One run per key at a time: nobody else looks for it meanwhile.
        let mut rendering = self.memory().renderings.remove(key);
        let answer = self.show(delivery, &**platform, &mut rendering).await;
        if let Some(rendering) = rendering {
            self.memory().renderings.insert(key.to_owned(), rendering);
        }
        self.note_trouble(key, answer.as_ref().err()).await;
        answer
    }
}
