//! A store, a chat platform that can fail, and whoever works with them until the next crash.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Fault, FreeSteps, ManualClock, SeededIds, Steps},
    chat::{
        Commands, Incoming, Outbox, Settings, Via,
        platform::{
            Action, Capabilities, Content, Dialect, Error, Markup, Nonce, Platform, Post, Upload,
        },
        split::Unit,
    },
    reconcile::{self, Controller},
    resource::{
        API_VERSION, Agent, AnyObject, ConditionStatus, Job, Kind, OwnerReference, Sprite,
        SpriteSpec,
    },
    store::{
        Conversation, Cursor, Expect, Op, Part, Principal, Store, Subject, Transaction, Turn,
        TurnState, files::Files, memory::MemoryStore,
    },
};
use sprite_reporter::wire::{
    Chunk, Event, EventBody, Exit, ExitReason, Stream, TurnOutcome, Usage,
};

/// A platform that keeps what was posted, and can be out of reach.
#[derive(Default)]
pub struct Fake {
    lookup: bool,
    /// Where it is a platform for people, and not a console.
    chat: Option<Capabilities>,
    pub state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub messages: Vec<Message>,
    calls: usize,
    lost: BTreeSet<String>,
    pub ambiguous: bool,
    /// How many calls from now on are too many.
    pub limited: usize,
    /// Whether whispers are refused.
    pub loud: bool,
    /// Whether files are refused.
    pub no_files: bool,
    /// Messages that can be edited no more.
    pub shut: BTreeSet<usize>,
    /// Whether edits with buttons are refused.
    pub no_buttons: bool,
    /// Edits to a text with this in it are refused.
    pub disliked: Option<String>,
    /// What was whispered: to whom, and what.
    pub whispers: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    channel: String,
    pub nonce: Nonce,
    pub text: String,
    pub buttons: Vec<Action>,
    pub file: Option<Upload>,
    last: bool,
}

impl Fake {
    pub fn with_lookup(lookup: bool) -> Arc<Self> {
        Arc::new(Self { lookup, ..Self::default() })
    }

    /// A platform for people: small messages, buttons, whispers, files.
    pub fn for_people(change: impl FnOnce(&mut Capabilities)) -> Arc<Self> {
        let mut capabilities = Capabilities {
            max_message: 100,
            unit: Unit::CodePoints,
            markup: Markup::Markdown,
            dialect: Dialect::Discord,
            pace: Duration::ZERO,
            lookup: true,
            placeholder: "…",
            buttons: 5,
            whispers: true,
            max_file: 1_000_000,
            max_messages: 3,
        };
        change(&mut capabilities);
        Arc::new(Self { lookup: true, chat: Some(capabilities), ..Self::default() })
    }

    /// The labels below a channel's messages, and their lines.
    pub fn buttons(&self, channel: &str) -> Vec<(String, String)> {
        let state = self.state.lock().unwrap();
        let of_channel = state.messages.iter().filter(|message| message.channel == channel);
        let buttons = of_channel.flat_map(|message| &message.buttons);
        buttons.map(|action| (action.label.clone(), action.line.clone())).collect()
    }

    pub fn labels(&self, channel: &str) -> Vec<String> {
        self.buttons(channel).into_iter().map(|(label, _)| label).collect()
    }

    fn called(state: &mut State, place: &Conversation) -> Result<(), Error> {
        state.calls += 1;
        if state.limited > 0 {
            state.limited -= 1;
            return Err(Error::RateLimited(Duration::from_secs(1)));
        }
        if state.lost.contains(&place.channel) {
            return Err(Error::Unreachable("the line is down".into()));
        }
        Ok(())
    }

    pub fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }

    /// The messages of a channel, without empty placeholders.
    pub fn shown(&self, channel: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let of_channel = state.messages.iter().filter(|message| message.channel == channel);
        of_channel.map(|message| message.text.clone()).filter(|text| text != "…").collect()
    }

    pub fn placeholders(&self) -> usize {
        self.state.lock().unwrap().messages.iter().filter(|message| message.text == "…").count()
    }

    pub fn lose(&self, channel: &str, lost: bool) {
        let mut state = self.state.lock().unwrap();
        if lost {
            state.lost.insert(channel.to_owned());
        } else {
            state.lost.remove(channel);
        }
    }
}

#[async_trait]
impl Platform for Fake {
    fn name(&self) -> &'static str {
        if self.chat.is_some() { "discord" } else { "console" }
    }

    fn capabilities(&self) -> Capabilities {
        self.chat.unwrap_or(Capabilities {
            max_message: 100,
            unit: Unit::CodePoints,
            markup: Markup::Plain,
            pace: Duration::ZERO,
            lookup: self.lookup,
            placeholder: "…",
            dialect: Dialect::Plain,
            buttons: 0,
            whispers: false,
            max_file: 0,
            max_messages: 0,
        })
    }

    async fn post(&self, post: &Post<'_>) -> Result<String, Error> {
        let place = post.conversation;
        let mut state = self.state.lock().unwrap();
        Self::called(&mut state, place)?;
        state.messages.push(Message {
            channel: place.channel.clone(),
            nonce: post.nonce.clone(),
            text: post.text.to_owned(),
            buttons: Vec::new(),
            file: None,
            last: false,
        });
        if std::mem::take(&mut state.ambiguous) {
            return Err(Error::Ambiguous("the answer was lost".into()));
        }
        Ok((state.messages.len() - 1).to_string())
    }

    async fn edit(
        &self,
        place: &Conversation,
        id: &str,
        content: &Content,
        last: bool,
    ) -> Result<(), Error> {
        let text = content.text.as_str();
        let mut state = self.state.lock().unwrap();
        Self::called(&mut state, place)?;
        if state.shut.contains(&id.parse::<usize>().unwrap()) {
            return Err(Error::Gone("the message".into()));
        }
        if state.no_buttons && !content.actions.is_empty() {
            return Err(Error::Rejected("no buttons here".into()));
        }
        if state.disliked.as_ref().is_some_and(|word| text.contains(word)) {
            return Err(Error::Rejected("not that word".into()));
        }
        let message = &mut state.messages[id.parse::<usize>().unwrap()];
        // An edit whose answer was lost comes again, with the same text.
        assert!(
            !message.last || message.text == text || self.chat.is_some(),
            "a final message became {text:?}"
        );
        text.clone_into(&mut message.text);
        message.buttons.clone_from(&content.actions);
        message.last = last;
        Ok(())
    }

    async fn whisper(&self, post: &Post<'_>, to: &str, content: &Content) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap();
        Self::called(&mut state, post.conversation)?;
        if state.loud {
            return Err(Error::Rejected("nobody can be whispered to here".into()));
        }
        state.whispers.push((to.to_owned(), content.text.clone()));
        Ok(())
    }

    async fn upload(&self, post: &Post<'_>, file: &Upload) -> Result<String, Error> {
        let mut state = self.state.lock().unwrap();
        Self::called(&mut state, post.conversation)?;
        if state.no_files {
            return Err(Error::Rejected("no files here".into()));
        }
        state.messages.push(Message {
            channel: post.conversation.channel.clone(),
            nonce: post.nonce.clone(),
            text: String::new(),
            buttons: Vec::new(),
            file: Some(file.clone()),
            last: true,
        });
        if std::mem::take(&mut state.ambiguous) {
            return Err(Error::Ambiguous("the answer was lost".into()));
        }
        Ok((state.messages.len() - 1).to_string())
    }

    async fn find(&self, _: &Conversation, nonce: &Nonce) -> Result<Option<String>, Error> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        Ok(state.messages.iter().position(|message| message.nonce == *nonce).map(|n| n.to_string()))
    }
}

/// A store, a platform, and whoever works with them until the next crash.
pub struct World {
    pub store: Arc<MemoryStore>,
    pub clock: Arc<ManualClock>,
    pub platform: Arc<Fake>,
    steps: Arc<dyn Steps>,
    files: Option<Arc<Files>>,
    pub outbox: Outbox,
    pub commands: Commands,
}

impl World {
    pub fn new(platform: Arc<Fake>, steps: Arc<dyn Steps>) -> Self {
        let store = MemoryStore::new();
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap()));
        Self::around(store, clock, platform, steps)
    }

    /// A world whose store keeps little of what is said.
    pub fn forgetful() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap()));
        let store = MemoryStore::keeping(3_000, 8_000, 100);
        Self::around(store, clock, Fake::with_lookup(true), Arc::new(FreeSteps))
    }

    /// Drops what is to be dropped.
    pub async fn compact(&self) {
        self.store.compact(Timestamp::from_second(1_800_000_002).unwrap()).await.unwrap();
    }

    pub fn around(
        store: Arc<MemoryStore>,
        clock: Arc<ManualClock>,
        platform: Arc<Fake>,
        steps: Arc<dyn Steps>,
    ) -> Self {
        let ambient = Ambient {
            clock: Arc::clone(&clock) as _,
            ids: Arc::new(SeededIds::new(store.writes() + 7)),
            steps: Arc::clone(&steps),
        };
        let outbox =
            Outbox::new(Arc::clone(&store) as _, ambient.clone(), vec![Arc::clone(&platform) as _]);
        // Who may do what is told elsewhere; here people may do everything.
        let admins =
            ["ada", "ben", "cat"].map(|who| Principal::user(platform.name(), who)).to_vec();
        let settings = Settings { admins, ..Settings::default() };
        let commands = Commands::new(Arc::clone(&store) as _, ambient, settings);
        Self { store, clock, platform, steps, files: None, outbox, commands }
    }

    /// The same world with these files.
    pub fn with_files(self, files: Arc<Files>) -> Self {
        let outbox = self.outbox.with_files(Arc::clone(&files));
        let commands = self.commands.with_files(Arc::clone(&files));
        Self { outbox, commands, files: Some(files), ..self }
    }

    /// The same world, with another process that takes these steps.
    pub fn with_steps(self, steps: Arc<dyn Steps>) -> Self {
        Self::around(self.store, self.clock, self.platform, steps)
    }

    /// The process dies, and another one starts.
    pub fn restart(&mut self) {
        let new = Self::around(
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            Arc::clone(&self.platform),
            Arc::clone(&self.steps),
        );
        *self = match &self.files {
            Some(files) => new.with_files(Arc::clone(files)),
            None => new,
        };
    }

    /// Takes a line, as a platform that sends it again until it is taken.
    pub async fn say(&mut self, channel: &str, key: &str, text: &str) -> String {
        self.heard(channel, key, "ada", text, Via::Addressed).await
    }

    /// The same by anybody, however it came.
    pub async fn heard(
        &mut self,
        channel: &str,
        key: &str,
        who: &str,
        text: &str,
        via: Via,
    ) -> String {
        let platform = self.platform.name();
        let place = Conversation { platform: platform.into(), ..place(channel) };
        let line = Incoming::typed(format!("{platform}/{key}"), place, who, text);
        let line = Incoming { via, ..line };
        loop {
            match self.commands.handle(&line).await {
                Ok(taken) => return taken.delivery,
                Err(open_dispatch::store::Error::Fault(Fault::Crash(_))) => self.restart(),
                Err(open_dispatch::store::Error::Fault(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Reconciles all keys until nothing changes any more.
    pub async fn settle(&mut self) {
        for _ in 0..100 {
            let before = (self.store.writes(), self.platform.calls());
            let mut failed = false;
            for (key, _) in self.outbox.keys().await.unwrap() {
                match self.outbox.reconcile(&key).await {
                    Ok(_) => {}
                    Err(reconcile::Error::Fault(Fault::Crash(_))) => {
                        self.restart();
                        failed = true;
                        break;
                    }
                    Err(
                        reconcile::Error::Fault(_)
                        | reconcile::Error::Transient(_)
                        | reconcile::Error::RateLimited(_)
                        | reconcile::Error::Conflict,
                    ) => failed = true,
                    Err(error) => panic!("{error}"),
                }
            }
            if !failed && before == (self.store.writes(), self.platform.calls()) {
                return;
            }
        }
        panic!("the outbox does not settle");
    }

    /// Presses a button that stands in a channel, and lets what follows happen.
    pub async fn press(&mut self, channel: &str, who: &str, label: &str) -> String {
        let buttons = self.platform.buttons(channel);
        let found = buttons.into_iter().find(|(found, _)| found == label);
        let (_, line) = found.unwrap_or_else(|| panic!("there is no button {label}"));
        self.press_line(channel, who, &line).await
    }

    /// Says what a button says that may be gone by now.
    pub async fn press_line(&mut self, channel: &str, who: &str, line: &str) -> String {
        let key = format!("press/{}", self.store.writes());
        let delivery = self.heard(channel, &key, who, line, Via::Pressed).await;
        self.settle().await;
        delivery
    }

    pub async fn apply(&self, ops: Vec<Op>) {
        let transaction = Transaction { ops, now: Timestamp::from_second(1_800_000_001).unwrap() };
        self.store.apply(transaction).await.unwrap();
    }

    /// Says a line in the channel `main` that is answered by a text.
    pub async fn told(&mut self, text: &str) -> String {
        let key = format!("told/{}", self.store.writes());
        let delivery = self.say("main", &key, text).await;
        match self.store.delivery(&delivery).await.unwrap().unwrap().subject {
            Subject::Notice { text } => text,
            other => panic!("{text:?} is answered by {other:?}"),
        }
    }

    /// Says a line in a channel that queues a turn.
    pub async fn queued(&mut self, channel: &str, text: &str) -> Turn {
        let key = format!("queued/{}", self.store.writes());
        let delivery = self.say(channel, &key, text).await;
        match self.store.delivery(&delivery).await.unwrap().unwrap().subject {
            Subject::Turn { id } => self.turn(&id).await,
            other => panic!("{text:?} is answered by {other:?}"),
        }
    }

    pub async fn turn(&self, id: &str) -> Turn {
        self.store.turn(id).await.unwrap().unwrap()
    }

    pub async fn agent(&self, name: &str) -> Agent {
        self.store.get(Kind::Agent, name).await.unwrap().and_then(AnyObject::into_agent).unwrap()
    }

    /// Does what the Agent's controller would: a condition of the Agent.
    pub async fn condition(&self, name: &str, kind: &str, holds: bool, reason: &str, why: &str) {
        let mut agent = self.agent(name).await;
        let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
        agent.status.conditions.set(kind, status, reason, why, 1, Timestamp::UNIX_EPOCH);
        let (part, expect) = (Part::Status, Expect::SameVersion);
        self.apply(vec![Op::Write { object: agent.into(), part, expect }]).await;
    }

    /// Does what the Agent's controller would: a sprite for the Agent.
    pub async fn agent_sprite(&self, name: &str) -> String {
        let agent = self.agent(name).await;
        let uid = format!("{}-1", agent.metadata.uid);
        let spec: SpriteSpec = serde_json::from_value(serde_json::json!({
            "agent": agent.spec.agent, "runtime": agent.spec.runtime, "permissions": {},
            "attempt": 1, "running": true,
        }))
        .unwrap();
        let mut sprite = Sprite::new(format!("{name}-abcdef-1"), spec);
        sprite.metadata.uid.clone_from(&uid);
        sprite.metadata.owner_references.push(OwnerReference {
            api_version: API_VERSION.into(),
            kind: Kind::Agent,
            name: name.into(),
            uid: agent.metadata.uid.clone(),
            controller: true,
        });
        self.apply(vec![Op::Create(sprite.into())]).await;
        uid
    }

    /// Moves a turn on, whatever state it is in.
    pub async fn move_turn(&self, id: &str, change: impl FnOnce(&mut Turn)) {
        let mut turn = self.turn(id).await;
        let from = vec![turn.state];
        change(&mut turn);
        self.apply(vec![Op::MoveTurn { turn, from }]).await;
    }

    /// Does what ingest would: the sprite has taken the turn.
    pub async fn begin(&self, id: &str, sprite: &str) {
        let accepted = EventBody::TurnAccepted { turn: id.into(), origin: None };
        self.print(sprite, vec![accepted]).await;
        let held = self.store.held(sprite, None).await.unwrap();
        self.move_turn(id, |turn| {
            turn.state = TurnState::Running;
            turn.sprite_uid = Some(sprite.into());
            turn.run = held.run;
            turn.began = Some(Cursor { run: held.run, seq: held.seq });
            turn.started = Timestamp::from_second(1_800_000_000).ok();
        })
        .await;
    }

    /// Does what ingest would: the turn has ended.
    pub async fn finish(&self, id: &str, sprite: &str, state: TurnState, message: &str) {
        let outcome = match state {
            TurnState::Succeeded => TurnOutcome::Succeeded,
            TurnState::Cancelled => TurnOutcome::Cancelled,
            _ => TurnOutcome::Failed,
        };
        let (turn, message) = (id.to_owned(), message.to_owned());
        let usage = Usage { cost_micro_usd: 12_300, ..Usage::default() };
        let ended = EventBody::TurnEnded { turn, outcome, message: Some(message.clone()), usage };
        self.print(sprite, vec![ended]).await;
        self.move_turn(id, |turn| {
            turn.state = state;
            turn.message = message;
            turn.usage = usage;
            turn.ended = Timestamp::from_second(1_800_000_003).ok();
        })
        .await;
    }

    pub async fn job(&self, name: &str) -> Job {
        self.store.get(Kind::Job, name).await.unwrap().and_then(AnyObject::into_job).unwrap()
    }

    pub async fn only_job(&self) -> Job {
        let mut items = self.store.list(Kind::Job, None, 10).await.unwrap().items;
        assert_eq!(items.len(), 1, "there is one job");
        items.pop().and_then(AnyObject::into_job).unwrap()
    }

    /// Does what the Job controller would: a sprite for the attempt.
    pub async fn sprite(&self, job: &Job, n: u32) -> String {
        let uid = format!("{}-{n}", job.metadata.uid);
        let spec = SpriteSpec {
            agent: job.spec.agent.clone(),
            runtime: job.spec.runtime.clone(),
            task: Some(job.spec.task.clone()),
            repo: None,
            instructions: None,
            permissions: job.spec.permissions.clone(),
            env: Vec::new(),
            timeout: None,
            idle_timeout: None,
            session: None,
            attempt: n,
            running: true,
            run: 1,
            stop: None,
        };
        let mut sprite = Sprite::new(format!("{}-abcdef-{n}", job.metadata.name), spec);
        sprite.metadata.uid.clone_from(&uid);
        sprite.metadata.owner_references.push(OwnerReference {
            api_version: API_VERSION.into(),
            kind: Kind::Job,
            name: job.metadata.name.clone(),
            uid: job.metadata.uid.clone(),
            controller: true,
        });
        self.apply(vec![Op::Create(sprite.into())]).await;
        uid
    }

    pub async fn print(&self, sprite_uid: &str, bodies: Vec<EventBody>) {
        let held = self.store.held(sprite_uid, None).await.unwrap();
        let events = bodies.into_iter().zip(held.seq + 1..).map(|(body, seq)| Event {
            seq,
            at: Timestamp::UNIX_EPOCH,
            body,
        });
        let events = events.collect();
        self.apply(vec![Op::Output { sprite_uid: sprite_uid.into(), run: 1, events }]).await;
    }

    pub async fn end(&self, name: &str, code: i32) {
        let mut job = self.job(name).await;
        let now = Timestamp::from_second(1_800_000_001).unwrap();
        let (condition, phase) =
            if code == 0 { ("Complete", "Succeeded") } else { ("Failed", "Failed") };
        job.status.conditions.set(condition, ConditionStatus::True, phase, "", 1, now);
        job.status.phase = phase.into();
        job.status.exit_code = Some(code);
        job.status.start_time = Some(now);
        job.status.completion_time = Some(now);
        let write =
            Op::Write { object: job.into(), part: Part::Status, expect: Expect::SameVersion };
        self.apply(vec![write]).await;
    }
}

pub fn place(channel: &str) -> Conversation {
    Conversation { platform: "console".into(), channel: channel.into(), thread: None }
}

pub fn out(text: &str) -> EventBody {
    EventBody::Log { stream: Stream::Stdout, chunk: Chunk::pack(text.as_bytes(), false) }
}

pub fn exit(code: i32) -> EventBody {
    let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Failed };
    EventBody::Exit(Exit { code: Some(code), signal: None, reason, message: String::new() })
}

pub fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("line {n}\n")).collect()
}

/// What an agent says in a turn.
pub fn says(turn: &str, text: &str) -> EventBody {
    EventBody::Text { turn: turn.into(), chunk: Chunk::pack(text.as_bytes(), false) }
}
