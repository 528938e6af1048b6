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
//! - A message whose text is complete gets its last edit before the next one is posted.
//! - In a conversation, a later delivery waits for the first placeholder of every earlier one;
//!   so answers stand in the order of the questions.
//! - A place that cannot be reached parks its deliveries and no others.
//!
//! What was rendered already is kept in memory, so that each event is read once. After a
//! restart it is made again from the store, the same (see [`super::transcript`]).

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::{
    commands::sprites_of,
    platform::{self, Capabilities, Markup, Nonce, Platform},
    replies,
    split::Splitter,
    transcript::Transcript,
};
use crate::{
    ambient::{Ambient, between, later},
    reconcile::{Controller, Error, Next, Wake},
    resource::{AnyObject, Channel, Detail, Job, Kind, Place},
    store::{
        Bell, Change, ChangeKind, Conversation, Cursor, Delivery, DeliveryState, Op, Store,
        Subject, Transaction,
    },
};

/// The controller's name, for whoever wakes its keys.
pub const NAME: &str = "delivery";
/// How much output is read at once, in bytes.
const PAGE: usize = 256 * 1024;
/// How many complete pieces wait in memory before reading on.
const PIECES: usize = 8;
/// How many messages of one delivery are posted in one go, so that a long one lets others work.
const MESSAGES: usize = 32;
/// How often a delivery that waits for another looks again, should a bell be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often a parked delivery looks again on a platform that does not say when it is back.
const PARKED: Duration = Duration::from_secs(60);
/// How long the end of a job waits for output that was not sent to its end.
const GRACE: Duration = Duration::from_secs(60);
/// A job that ended longer ago gets no new delivery: its own is done, and may be forgotten.
const OLD: Duration = Duration::from_hours(12);

/// The controller of deliveries.
pub struct Outbox {
    store: Arc<dyn Store>,
    ambient: Ambient,
    platforms: HashMap<&'static str, Arc<dyn Platform>>,
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
    /// Deliveries that a Job asks for, by id.
    wanted: HashMap<String, Wanted>,
    /// The deliveries that show a Job, or a Sprite's output, by its uid.
    watchers: HashMap<String, BTreeSet<String>>,
    /// Deliveries that wait for an earlier one.
    waiting: BTreeSet<String>,
    /// What was rendered so far.
    renderings: HashMap<String, Rendering>,
    /// When a message was last edited, by delivery, on the clock that never runs back.
    edited: HashMap<String, Duration>,
}

#[derive(Clone)]
struct Wanted {
    job_uid: String,
    job_name: String,
    conversation: Conversation,
}

/// A job's transcript as far as it was read.
struct Rendering {
    transcript: Transcript,
    splitter: Splitter,
    /// The sprite that is read, and how far.
    sprite: Option<String>,
    cursor: Cursor,
    /// Complete pieces that do not stand in the conversation yet.
    ready: VecDeque<String>,
    /// The number of the first of them.
    first: usize,
    /// The number of the message that is still edited: those in front of it are complete.
    standing: usize,
}

/// What is to stand in the messages from number `first` on.
struct Frames {
    first: usize,
    texts: Vec<String>,
    /// Whether nothing more will come.
    ended: bool,
    /// When to look again, where time decides.
    again: Option<Duration>,
}

impl Outbox {
    /// An outbox with its platforms.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, platforms: Vec<Arc<dyn Platform>>) -> Self {
        let platforms = platforms.into_iter().map(|platform| (platform.name(), platform)).collect();
        Self { store, ambient, platforms, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a delivery and reads it back.
    async fn write(&self, step: &'static str, delivery: Delivery) -> Result<Delivery, Error> {
        let id = delivery.id.clone();
        let transaction = Transaction::at(self.ambient.clock.now()).with(Op::Delivery(delivery));
        self.ambient.step(step, self.store.apply(transaction)).await?;
        let delivery = self.store.delivery(&id).await?;
        delivery.ok_or_else(|| Error::Transient(format!("delivery {id} went away")))
    }

    async fn create(&self, id: &str) -> Result<(), Error> {
        let Some(wanted) = self.memory().wanted.get(id).cloned() else { return Ok(()) };
        let Some(job) = self.job(&wanted.job_uid).await? else {
            self.forget(id);
            return Ok(());
        };
        let delivery = Delivery {
            id: id.to_owned(),
            version: 0,
            conversation: wanted.conversation,
            subject: Subject::Job { uid: wanted.job_uid, name: wanted.job_name },
            messages: Vec::new(),
            shown: Cursor::default(),
            hash: String::new(),
            state: DeliveryState::Open,
            note: String::new(),
            created: job.metadata.creation_timestamp.unwrap_or_else(|| self.ambient.clock.now()),
        };
        self.write("chat.create-delivery", delivery).await?;
        Ok(())
    }

    async fn job(&self, uid: &str) -> Result<Option<Job>, Error> {
        Ok(self.store.get_by_uid(Kind::Job, uid).await?.and_then(AnyObject::into_job))
    }

    fn forget(&self, id: &str) {
        let mut memory = self.memory();
        memory.suspects.remove(id);
        memory.wanted.remove(id);
        memory.waiting.remove(id);
        memory.renderings.remove(id);
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

    /// Keeps a delivery until its place can be reached.
    async fn park(&self, mut delivery: Delivery, why: String) -> Result<Next, Error> {
        if delivery.state != DeliveryState::Parked || delivery.note != why {
            delivery.state = DeliveryState::Parked;
            delivery.note = why;
            self.write("chat.park", delivery).await?;
        }
        Ok(Next::After(PARKED))
    }

    /// Ends a delivery that cannot be shown, with the reason.
    async fn give_up(&self, mut delivery: Delivery, why: String) -> Result<Next, Error> {
        tracing::warn!(delivery = delivery.id, "not shown: {why}");
        delivery.state = DeliveryState::Done;
        delivery.note = why;
        self.write("chat.give-up", delivery).await?;
        Ok(Next::Done)
    }

    /// Brings one delivery up to date.
    async fn show(
        &self,
        mut delivery: Delivery,
        platform: &dyn Platform,
        rendering: &mut Option<Rendering>,
    ) -> Result<Next, Error> {
        let id = delivery.id.clone();
        let capabilities = platform.capabilities();
        if delivery.messages.is_empty() {
            if self.must_wait(&delivery).await? {
                self.memory().waiting.insert(id);
                return Ok(Next::After(LOOK_AGAIN));
            }
            delivery = match self.post(delivery, platform).await? {
                Posted::Yes(delivery) => *delivery,
                Posted::No(next) => return Ok(next),
            };
        }
        for _ in 0..MESSAGES {
            let frames = self.frames(&delivery, &capabilities, rendering).await?;
            let at = delivery.messages.len() - 1;
            // A message that stands in front of what is to be shown is complete.
            let text = at.checked_sub(frames.first).and_then(|at| frames.texts.get(at));
            let more = at + 1 < frames.first + frames.texts.len();
            let last = frames.ended && !more;
            if text.is_none() && last {
                // What these messages showed cannot be made again; nothing more comes.
                delivery.state = DeliveryState::Done;
                delivery = self.write("chat.commit-shown", delivery).await?;
            }
            if let Some(text) = text {
                let hash = hash(text, last);
                if hash != delivery.hash {
                    if let Some(wait) = self.pace(&id, &capabilities).filter(|_| !last && !more) {
                        return Ok(Next::After(wait));
                    }
                    let message = &delivery.messages[at];
                    let edit = platform.edit(&delivery.conversation, message, text, last);
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
                    delivery.hash = hash;
                    if !more {
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
                return Ok(Next::Done);
            }
            if !more {
                return Ok(frames.again.map_or(Next::Done, Next::After));
            }
            if let Some(rendering) = rendering {
                delivery.shown = rendering.cursor;
            }
            delivery = match self.post(delivery, platform).await? {
                Posted::Yes(delivery) => *delivery,
                Posted::No(next) => return Ok(next),
            };
        }
        Ok(Next::After(Duration::ZERO))
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

    /// Posts the delivery's next message as a placeholder, and commits its id.
    async fn post(&self, mut delivery: Delivery, platform: &dyn Platform) -> Result<Posted, Error> {
        let nonce = Nonce { delivery: delivery.id.clone(), index: delivery.messages.len() };
        let message = match self.place(&delivery, platform, &nonce).await {
            Ok(message) => message,
            Err(platform::Error::Unreachable(why)) => {
                return self.park(delivery, why).await.map(Posted::No);
            }
            Err(error @ (platform::Error::Gone(_) | platform::Error::Rejected(_))) => {
                return self.give_up(delivery, error.to_string()).await.map(Posted::No);
            }
            Err(error) => return Err(error.into()),
        };
        delivery.messages.push(message);
        delivery.hash.clear();
        delivery.state = DeliveryState::Open;
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
    ) -> Result<String, platform::Error> {
        let capabilities = platform.capabilities();
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
        let post = platform.post(&delivery.conversation, capabilities.placeholder, nonce);
        let message = match self.ambient.step("chat.post", post).await {
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
            // Only agents have turns, and this version has none that take turns from chat.
            Subject::Turn { id } => {
                let text = format!("Turn {id} cannot be shown by this version");
                Ok(fixed(0, &text, capabilities))
            }
        }
    }

    async fn job_frames(
        &self,
        delivery: &Delivery,
        job: &Job,
        capabilities: &Capabilities,
        rendering: &mut Option<Rendering>,
    ) -> Result<Frames, Error> {
        let rendering = rendering.get_or_insert_with(|| Rendering::new(job, capabilities));
        rendering.stand(delivery.messages.len() - 1);
        // The Job was read first: what it had printed when it ended is there to be read.
        let read = self.read(&delivery.id, job, rendering).await?;
        let conditions = &job.status.conditions;
        let ended = conditions.is_true("Complete") || conditions.is_true("Failed");
        let mut again = None;
        let mut end = None;
        if ended && read.at_end {
            let left = job.status.completion_time.map_or(Duration::ZERO, |time| {
                between(self.ambient.clock.now(), later(time, GRACE))
            });
            if read.whole || left.is_zero() {
                end = Some(rendering.transcript.end(job, read.whole));
            } else {
                again = Some(left);
            }
        }
        Ok(rendering.frames(end, again))
    }

    /// Reads on, through the Job's sprites, as far as memory allows.
    async fn read(&self, id: &str, job: &Job, rendering: &mut Rendering) -> Result<Read, Error> {
        let sprites = sprites_of(&*self.store, &job.metadata.uid).await?;
        for sprite in &sprites {
            self.watch(&sprite.metadata.uid, id);
        }
        let mut at = match &rendering.sprite {
            None => 0,
            Some(uid) => {
                let known = sprites.iter().position(|sprite| sprite.metadata.uid == *uid);
                // A sprite that is gone was read to its end, or can be read no more.
                known.unwrap_or(0)
            }
        };
        while let Some(sprite) = sprites.get(at) {
            let uid = &sprite.metadata.uid;
            if rendering.sprite.as_ref() != Some(uid) {
                if rendering.sprite.is_some() {
                    let line = rendering.transcript.next_attempt(sprite.spec.attempt);
                    rendering.append(&line);
                }
                rendering.sprite = Some(uid.clone());
                rendering.cursor = Cursor::default();
            }
            // Looked at first, so that the end of what is read is not taken for the end of all.
            let held = self.store.held(uid, None).await?;
            loop {
                if rendering.ready.len() >= PIECES {
                    return Ok(Read { at_end: false, whole: false });
                }
                let rows = self.store.output(uid, rendering.cursor, PAGE).await?;
                let Some(last) = rows.last() else { break };
                let cursor = last.cursor();
                for row in &rows {
                    let text = rendering.transcript.push(row);
                    rendering.append(&text);
                }
                rendering.cursor = cursor;
            }
            at += 1;
            if at == sprites.len() {
                return Ok(Read { at_end: true, whole: held.finished || held.run == 0 });
            }
        }
        Ok(Read { at_end: true, whole: true })
    }

    /// The Job was deleted: shows what is known, and says so.
    async fn gone_frames(
        &self,
        delivery: &Delivery,
        name: &str,
        capabilities: &Capabilities,
        rendering: Option<&mut Rendering>,
    ) -> Result<Frames, Error> {
        let at = delivery.messages.len() - 1;
        let Some(rendering) = rendering else {
            // What stands there cannot be made again; so it stays, and a new message follows.
            let first = if delivery.hash.is_empty() { at } else { at + 1 };
            return Ok(fixed(first, &format!("{name} was deleted"), capabilities));
        };
        rendering.stand(at);
        if let Some(uid) = rendering.sprite.clone() {
            loop {
                let rows = self.store.output(&uid, rendering.cursor, PAGE).await?;
                let Some(last) = rows.last() else { break };
                let cursor = last.cursor();
                for row in &rows {
                    let text = rendering.transcript.push(row);
                    rendering.append(&text);
                }
                rendering.cursor = cursor;
                if rendering.ready.len() >= PIECES {
                    return Ok(rendering.frames(None, None));
                }
            }
        }
        let end = rendering.transcript.deleted(name);
        Ok(rendering.frames(Some(end), None))
    }
}

enum Posted {
    Yes(Box<Delivery>),
    No(Next),
}

/// How far a Job's output was read.
struct Read {
    /// Whether everything was read that there is at the moment.
    at_end: bool,
    /// Whether nothing can come behind it.
    whole: bool,
}

/// A text that stays as it is.
fn fixed(first: usize, text: &str, capabilities: &Capabilities) -> Frames {
    let text = match capabilities.markup {
        Markup::Plain => replies::plain(text),
        Markup::Markdown => text.to_owned(),
    };
    let splitter = Splitter::new(capabilities.max_message, capabilities.unit, capabilities.markup);
    let texts = splitter.preview(&text).into_iter().map(|piece| piece.text).collect();
    Frames { first, texts, ended: true, again: None }
}

impl Rendering {
    fn new(job: &Job, capabilities: &Capabilities) -> Self {
        let detail = job.spec.report.as_ref().map_or(Detail::Stream, |report| report.detail);
        let mut rendering = Self {
            transcript: Transcript::new(capabilities.markup, detail),
            splitter: Splitter::new(
                capabilities.max_message,
                capabilities.unit,
                capabilities.markup,
            ),
            sprite: None,
            cursor: Cursor::default(),
            ready: VecDeque::new(),
            first: 0,
            standing: 0,
        };
        let header = rendering.transcript.header(job);
        rendering.append(&header);
        rendering
    }

    fn append(&mut self, text: &str) {
        self.ready.extend(self.splitter.push(text).into_iter().map(|piece| piece.text));
        self.stand(self.standing);
    }

    /// Forgets the pieces in front of a message: they stand in the conversation, complete.
    fn stand(&mut self, index: usize) {
        self.standing = index;
        while self.first < index && self.ready.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn frames(&self, end: Option<String>, again: Option<Duration>) -> Frames {
        let mut texts: Vec<String> = self.ready.iter().cloned().collect();
        let ended = end.is_some();
        let open = self.splitter.preview(&end.unwrap_or_default());
        texts.extend(open.into_iter().map(|piece| piece.text));
        Frames { first: self.first, texts, ended, again }
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

fn hash(text: &str, last: bool) -> String {
    let digest = Sha256::new().chain_update([u8::from(last)]).chain_update(text).finalize();
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The id of the delivery that shows a Job in a conversation: always the same, and sorted by
/// the time at which the Job was made.
#[must_use]
pub fn delivery_id(job_uid: &str, conversation: &Conversation) -> String {
    let digest = Sha256::new()
        .chain_update(job_uid)
        .chain_update([0])
        .chain_update(&conversation.platform)
        .chain_update([0])
        .chain_update(&conversation.channel)
        .chain_update([0])
        .chain_update(conversation.thread.as_deref().unwrap_or_default())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    if let Ok(uid) = uuid::Uuid::parse_str(job_uid) {
        bytes[..6].copy_from_slice(&uid.as_bytes()[..6]);
    }
    uuid::Builder::from_bytes(bytes)
        .with_version(uuid::Version::SortRand)
        .with_variant(uuid::Variant::RFC4122)
        .into_uuid()
        .to_string()
}

/// The conversation that a spec's channel names.
#[must_use]
pub fn conversation_of(channel: &Channel) -> Conversation {
    let place = channel.place();
    Conversation {
        platform: channel.platform().to_owned(),
        channel: place.channel.clone(),
        thread: place.thread.clone(),
    }
}

/// How a spec names a conversation; none for a platform that specs do not know.
#[must_use]
pub fn channel_of(conversation: &Conversation) -> Option<Channel> {
    let place =
        Place { channel: conversation.channel.clone(), thread: conversation.thread.clone() };
    Some(match conversation.platform.as_str() {
        "console" => Channel::Console(place),
        "slack" => Channel::Slack(place),
        "discord" => Channel::Discord(place),
        "teams" => Channel::Teams(place),
        _ => return None,
    })
}

/// The deliveries that a Job asks for.
fn wanted(job: &Job) -> Vec<(String, Wanted)> {
    let channels = job.spec.report.iter().flat_map(|report| &report.to);
    channels
        .map(|channel| {
            let conversation = conversation_of(channel);
            let wanted = Wanted {
                job_uid: job.metadata.uid.clone(),
                job_name: job.metadata.name.clone(),
                conversation: conversation.clone(),
            };
            (delivery_id(&job.metadata.uid, &conversation), wanted)
        })
        .collect()
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
                let old = job
                    .status
                    .completion_time
                    .is_some_and(|end| between(end, self.ambient.clock.now()) > OLD);
                let mut memory = self.memory();
                let mut keys = Vec::new();
                for (id, wanted) in wanted(job) {
                    if change.kind != ChangeKind::Deleted && !old {
                        memory.wanted.entry(id.clone()).or_insert(wanted);
                    }
                    keys.push((id, wake));
                }
                keys
            }
            AnyObject::Sprite(sprite) => {
                let memory = self.memory();
                let owner = sprite.metadata.controller();
                let ids = owner.and_then(|owner| memory.watchers.get(&owner.uid));
                ids.into_iter().flatten().map(|id| (id.clone(), Wake::Observation)).collect()
            }
            AnyObject::Agent(_) => Vec::new(),
        }
    }

    fn hears(&self, bell: &Bell) -> Vec<(String, Wake)> {
        let mut memory = self.memory();
        let ids: Vec<String> = match bell {
            Bell::Output(sprite) => {
                memory.watchers.get(sprite).into_iter().flatten().cloned().collect()
            }
            Bell::Delivery(id) => {
                let mut ids: Vec<String> =
                    std::mem::take(&mut memory.waiting).into_iter().collect();
                ids.push(id.clone());
                ids
            }
            Bell::Objects(_) | Bell::Inbox(_) | Bell::Turns(_) | Bell::Approvals(_) => Vec::new(),
        };
        ids.into_iter().map(|id| (id, Wake::Observation)).collect()
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let open = self.store.open_deliveries().await?;
        let mut keys: Vec<(String, Wake)> =
            open.iter().map(|delivery| (delivery.id.clone(), Wake::Timer)).collect();
        {
            let mut memory = self.memory();
            if !memory.started {
                // Another process may have posted these without holding the answer.
                memory.started = true;
                memory.suspects.extend(open.iter().map(|delivery| delivery.id.clone()));
            }
        }
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(Kind::Job, after.as_deref(), 1_000).await?;
            let now = self.ambient.clock.now();
            after = page.items.last().map(|object| object.metadata().name.clone());
            let mut memory = self.memory();
            for job in page.items.into_iter().filter_map(AnyObject::into_job) {
                if job.status.completion_time.is_some_and(|end| between(end, now) > OLD) {
                    continue;
                }
                for (id, wanted) in wanted(&job) {
                    memory.wanted.entry(id.clone()).or_insert(wanted);
                    keys.push((id, Wake::Timer));
                }
            }
            drop(memory);
            if !page.more || after.is_none() {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
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
            self.park(delivery, why).await?;
            return Ok(Next::Done);
        };
        if !platform.reachable(&delivery.conversation) {
            let why = format!("nobody is attached to channel {}", delivery.conversation.channel);
            self.park(delivery, why).await?;
            return Ok(Next::Done);
        }
        // One run per key at a time: nobody else looks for it meanwhile.
        let mut rendering = self.memory().renderings.remove(key);
        let answer = self.show(delivery, &**platform, &mut rendering).await;
        if let Some(rendering) = rendering {
            self.memory().renderings.insert(key.to_owned(), rendering);
        }
        answer
    }
}
