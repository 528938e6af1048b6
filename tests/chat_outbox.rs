//! What stands in a conversation is what the ledgers say, once and in order, whatever happens
//! on the way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Fault, FreeSteps, ManualClock, Mode, ScriptedSteps, SeededIds, Steps},
    chat::{
        Commands, Incoming, Outbox, Settings,
        platform::{Capabilities, Error, Markup, Nonce, Platform},
        split::Unit,
    },
    reconcile::{self, Controller, Next},
    resource::{
        API_VERSION, AnyObject, ConditionStatus, Job, Kind, OwnerReference, Sprite, SpriteSpec,
    },
    store::{
        Bell, Conversation, Delivery, DeliveryState, Expect, Op, Part, Store, Subject, Transaction,
        memory::MemoryStore,
    },
};
use sprite_reporter::wire::{Chunk, Event, EventBody, Exit, ExitReason, Stream};

/// A platform that keeps what was posted, and can be out of reach.
#[derive(Default)]
struct Fake {
    lookup: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    calls: usize,
    lost: BTreeSet<String>,
    ambiguous: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    channel: String,
    nonce: Nonce,
    text: String,
    last: bool,
}

impl Fake {
    fn with_lookup(lookup: bool) -> Arc<Self> {
        Arc::new(Self { lookup, state: Mutex::default() })
    }

    fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }

    /// The messages of a channel, without empty placeholders.
    fn shown(&self, channel: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let of_channel = state.messages.iter().filter(|message| message.channel == channel);
        of_channel.map(|message| message.text.clone()).filter(|text| text != "…").collect()
    }

    fn placeholders(&self) -> usize {
        self.state.lock().unwrap().messages.iter().filter(|message| message.text == "…").count()
    }

    fn lose(&self, channel: &str, lost: bool) {
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
        "console"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_message: 100,
            unit: Unit::CodePoints,
            markup: Markup::Plain,
            pace: Duration::ZERO,
            lookup: self.lookup,
            placeholder: "…",
        }
    }

    async fn post(&self, place: &Conversation, text: &str, nonce: &Nonce) -> Result<String, Error> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        if state.lost.contains(&place.channel) {
            return Err(Error::Unreachable("the line is down".into()));
        }
        state.messages.push(Message {
            channel: place.channel.clone(),
            nonce: nonce.clone(),
            text: text.to_owned(),
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
        text: &str,
        last: bool,
    ) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        if state.lost.contains(&place.channel) {
            return Err(Error::Unreachable("the line is down".into()));
        }
        let message = &mut state.messages[id.parse::<usize>().unwrap()];
        // An edit whose answer was lost comes again, with the same text.
        assert!(!message.last || message.text == text, "a final message became {text:?}");
        text.clone_into(&mut message.text);
        message.last = last;
        Ok(())
    }

    async fn find(&self, _: &Conversation, nonce: &Nonce) -> Result<Option<String>, Error> {
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        Ok(state.messages.iter().position(|message| message.nonce == *nonce).map(|n| n.to_string()))
    }
}

/// A store, a platform, and whoever works with them until the next crash.
struct World {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    platform: Arc<Fake>,
    steps: Arc<dyn Steps>,
    outbox: Outbox,
    commands: Commands,
}

impl World {
    fn new(platform: Arc<Fake>, steps: Arc<dyn Steps>) -> Self {
        let store = MemoryStore::new();
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap()));
        Self::around(store, clock, platform, steps)
    }

    fn around(
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
        let commands = Commands::new(Arc::clone(&store) as _, ambient, Settings::default());
        Self { store, clock, platform, steps, outbox, commands }
    }

    /// The process dies, and another one starts.
    fn restart(&mut self) {
        let new = Self::around(
            Arc::clone(&self.store),
            Arc::clone(&self.clock),
            Arc::clone(&self.platform),
            Arc::clone(&self.steps),
        );
        *self = new;
    }

    /// Takes a line, as a platform that sends it again until it is taken.
    async fn say(&mut self, channel: &str, key: &str, text: &str) -> String {
        let line = Incoming {
            key: format!("console/{key}"),
            conversation: place(channel),
            author: "ada".into(),
            text: text.into(),
        };
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
    async fn settle(&mut self) {
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

    async fn apply(&self, ops: Vec<Op>) {
        let transaction = Transaction { ops, now: Timestamp::from_second(1_800_000_001).unwrap() };
        self.store.apply(transaction).await.unwrap();
    }

    async fn job(&self, name: &str) -> Job {
        self.store.get(Kind::Job, name).await.unwrap().and_then(AnyObject::into_job).unwrap()
    }

    async fn only_job(&self) -> Job {
        let mut items = self.store.list(Kind::Job, None, 10).await.unwrap().items;
        assert_eq!(items.len(), 1, "there is one job");
        items.pop().and_then(AnyObject::into_job).unwrap()
    }

    /// Does what the Job controller would: a sprite for the attempt.
    async fn sprite(&self, job: &Job, n: u32) -> String {
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

    async fn print(&self, sprite_uid: &str, bodies: Vec<EventBody>) {
        let held = self.store.held(sprite_uid, None).await.unwrap();
        let events = bodies.into_iter().zip(held.seq + 1..).map(|(body, seq)| Event {
            seq,
            at: Timestamp::UNIX_EPOCH,
            body,
        });
        let events = events.collect();
        self.apply(vec![Op::Output { sprite_uid: sprite_uid.into(), run: 1, events }]).await;
    }

    async fn end(&self, name: &str, code: i32) {
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

/// A Job that did not come from chat, and reports there.
fn job_from_elsewhere() -> Job {
    let spec = serde_json::json!({
        "task": "true", "agent": {"command": {}},
        "report": {"to": [{"console": {"channel": "main"}}]},
    });
    let mut job = Job::new("from-api", serde_json::from_value(spec).unwrap());
    job.metadata.uid = "0199f0a0-0000-7000-8000-000000000001".into();
    job
}

fn place(channel: &str) -> Conversation {
    Conversation { platform: "console".into(), channel: channel.into(), thread: None }
}

fn out(text: &str) -> EventBody {
    EventBody::Log { stream: Stream::Stdout, chunk: Chunk::pack(text.as_bytes(), false) }
}

fn exit(code: i32) -> EventBody {
    let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Failed };
    EventBody::Exit(Exit { code: Some(code), signal: None, reason, message: String::new() })
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("line {n}\n")).collect()
}

/// A run whose output comes in parts and takes several messages, with a question behind it.
async fn story(world: &mut World) {
    world.say("main", "1", "/od-run --name job1 count").await;
    world.settle().await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out(&lines(0, 3))]).await;
    world.settle().await;
    world.say("main", "2", "/od-whoami").await;
    world.print(&sprite, vec![out(&lines(3, 30)), out("the end")]).await;
    world.settle().await;
    world.print(&sprite, vec![exit(3)]).await;
    world.end("job1", 3).await;
    world.settle().await;
}

const WHOAMI: &str = "You are ada on console, in channel main. Whoever holds this server's token \
                      may do everything here.";

fn job_text(shown: &[String]) -> String {
    shown.iter().filter(|text| !WHOAMI.contains(text.as_str())).cloned().collect()
}

fn expected() -> String {
    format!("job1 created: command in ~\n{}the end\njob1 failed: exit code 3 (0.0 s)", lines(0, 30))
}

#[tokio::test]
async fn a_job_is_shown_whole_over_several_messages_and_then_done() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    story(&mut world).await;
    let shown = world.platform.shown("main");
    assert_eq!(job_text(&shown), expected());
    assert!(shown.iter().all(|text| text.chars().count() <= 100), "{shown:?}");
    assert_eq!(world.platform.placeholders(), 0);
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn one_more_reconcile_writes_nothing_and_calls_nobody() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 count").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out(&lines(0, 40))]).await;
    world.settle().await;
    let before = (world.store.writes(), world.platform.calls());
    world.settle().await;
    world.restart();
    world.settle().await;
    assert_eq!((world.store.writes(), world.platform.calls()), before);
}

async fn crash_at_every_step(lookup: bool) {
    let mut steps = BTreeSet::new();
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = World::new(Fake::with_lookup(lookup), Arc::clone(&scripted) as _);
            story(&mut world).await;
            let passed = scripted.passed();
            let place = format!("{mode:?} at {n} ({:?})", passed.get(n));
            let shown = world.platform.shown("main");
            assert_eq!(job_text(&shown), expected(), "{place}");
            let answers: String =
                shown.iter().filter(|text| WHOAMI.contains(text.as_str())).cloned().collect();
            assert_eq!(answers, WHOAMI, "{place}");
            let empty = world.platform.placeholders();
            assert!(empty <= usize::from(!lookup), "{place}: {empty} empty placeholders");
            assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new(), "{place}");
            let before = (world.store.writes(), world.platform.calls());
            world.settle().await;
            assert_eq!((world.store.writes(), world.platform.calls()), before, "{place}");
            if n >= passed.len() {
                break;
            }
            steps.extend(passed);
        }
    }
    let mut all =
        vec!["chat.commit-message", "chat.commit-shown", "chat.edit", "chat.post", "chat.take"];
    if lookup {
        all.push("chat.find");
    }
    assert_eq!(steps, all.into_iter().collect::<BTreeSet<_>>(), "the steps of this scenario");
}

#[tokio::test]
async fn a_fault_at_any_step_ends_in_the_same_conversation() {
    crash_at_every_step(true).await;
}

#[tokio::test]
async fn where_nothing_can_be_looked_up_the_worst_is_one_empty_placeholder() {
    crash_at_every_step(false).await;
}

#[tokio::test]
async fn an_ambiguous_post_is_looked_up_and_not_posted_again() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.platform.state.lock().unwrap().ambiguous = true;
    world.say("main", "1", "/od-whoami").await;
    world.settle().await;
    assert_eq!(world.platform.shown("main").concat(), WHOAMI);
    assert_eq!(world.platform.placeholders(), 0);
}

#[tokio::test]
async fn a_place_out_of_reach_parks_its_deliveries_and_no_others() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.platform.lose("far", true);
    world.say("far", "1", "/od-whoami").await;
    let second = world.say("far", "2", "/od-jobs").await;
    world.say("near", "3", "/od-jobs").await;
    for _ in 0..3 {
        for (key, _) in world.outbox.keys().await.unwrap() {
            world.outbox.reconcile(&key).await.unwrap();
        }
    }
    assert_eq!(world.platform.shown("far"), Vec::<String>::new());
    assert_eq!(world.platform.shown("near").len(), 1);
    let open = world.store.open_deliveries().await.unwrap();
    assert_eq!(open.len(), 2);
    assert_eq!(open[0].state, DeliveryState::Parked);
    assert_eq!(open[0].note, "the line is down");
    assert_eq!(open[1].id, second);

    world.platform.lose("far", false);
    world.settle().await;
    let shown = world.platform.shown("far");
    assert!(shown[0].starts_with("You are ada"), "the first question is answered first: {shown:?}");
    assert!(shown.last().is_some_and(|text| text.starts_with("There are no jobs")), "{shown:?}");
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_job_that_was_made_elsewhere_gets_its_delivery_once() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    let job = job_from_elsewhere();
    let mut bell = world.store.bell();
    world.apply(vec![Op::Create(job.into())]).await;
    assert!(matches!(bell.recv().await.unwrap(), Bell::Objects(_)));
    let changes = world.store.changes(0, 10).await.unwrap();
    let keys = world.outbox.concerns(&changes[0]);
    assert_eq!(keys.len(), 1, "the job concerns one delivery");
    assert_eq!(world.outbox.reconcile(&keys[0].0).await, Ok(Next::Done));
    let Bell::Delivery(id) = bell.recv().await.unwrap() else { panic!("a delivery was made") };
    assert_eq!(id, keys[0].0);
    assert_eq!(world.outbox.hears(&Bell::Delivery(id.clone())).len(), 1);
    world.settle().await;
    world.end("from-api", 0).await;
    world.settle().await;
    world.restart();
    world.settle().await;
    assert_eq!(
        world.platform.shown("main"),
        ["from-api created: command in ~\nfrom-api succeeded (0.0 s)"]
    );
}

#[tokio::test]
async fn a_fault_while_a_jobs_delivery_is_made_makes_it_once() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = World::new(Fake::with_lookup(true), Arc::clone(&scripted) as _);
            world.apply(vec![Op::Create(job_from_elsewhere().into())]).await;
            world.settle().await;
            world.end("from-api", 0).await;
            world.settle().await;
            assert_eq!(
                world.platform.shown("main"),
                ["from-api created: command in ~\nfrom-api succeeded (0.0 s)"],
                "{mode:?} at {n}"
            );
            assert_eq!(world.platform.placeholders(), 0, "{mode:?} at {n}");
            let passed = scripted.passed();
            assert_eq!(passed[0], "chat.create-delivery");
            if n >= passed.len() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_job_that_ended_long_ago_gets_no_delivery_again() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.apply(vec![Op::Create(job_from_elsewhere().into())]).await;
    world.end("from-api", 0).await;
    world.clock.advance(Duration::from_hours(13));
    world.settle().await;
    assert_eq!(world.platform.calls(), 0);
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_second_attempt_is_told_behind_the_first() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 flaky").await;
    let job = world.only_job().await;
    let first = world.sprite(&job, 1).await;
    world.print(&first, vec![out("one\n"), exit(1)]).await;
    world.settle().await;
    let second = world.sprite(&job, 2).await;
    world.print(&second, vec![out("two\n"), exit(0)]).await;
    world.restart();
    world.end("job1", 0).await;
    world.settle().await;
    assert_eq!(
        world.platform.shown("main").concat(),
        "job1 created: command in ~\none\n! exit code 1; attempt 2 begins\ntwo\njob1 succeeded (0.0 s)"
    );
}

#[tokio::test]
async fn output_that_never_came_is_told_after_a_while() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 lost").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out("one\n")]).await;
    world.end("job1", 1).await;
    world.settle().await;
    assert_eq!(world.platform.shown("main").concat(), "job1 created: command in ~\none\n");
    world.clock.advance(Duration::from_secs(62));
    world.settle().await;
    let shown = world.platform.shown("main").concat();
    assert!(shown.contains("may be missing here"), "{shown}");
    assert!(shown.ends_with("job1 failed: exit code 1 (0.0 s)"), "{shown}");
}

#[tokio::test]
async fn a_deleted_job_ends_its_transcript() {
    for restart in [false, true] {
        let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
        world.say("main", "1", "/od-run --name job1 count").await;
        let job = world.only_job().await;
        world.settle().await;
        if restart {
            world.restart();
        }
        let mut gone = job.clone();
        gone.metadata.finalizers.clear();
        let write = Op::Write { object: gone.into(), part: Part::Finalizers, expect: Expect::Any };
        let delete =
            Op::Delete { kind: Kind::Job, name: "job1".into(), uid: None, resource_version: None };
        world.apply(vec![write, delete]).await;
        world.settle().await;
        let shown = world.platform.shown("main").concat();
        assert_eq!(shown, "job1 created: command in ~\njob1 was deleted");
        assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
    }
}

#[tokio::test]
async fn a_long_backlog_is_shown_whole_after_a_restart() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 count").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out(&lines(0, 200))]).await;
    world.settle().await;
    world.print(&sprite, (200..600).map(|n| out(&lines(n, n + 1))).collect()).await;
    world.print(&sprite, vec![exit(0)]).await;
    world.restart();
    world.end("job1", 0).await;
    world.settle().await;
    let shown = world.platform.shown("main").concat();
    assert_eq!(
        shown,
        format!("job1 created: command in ~\n{}job1 succeeded (0.0 s)", lines(0, 600))
    );
}

#[tokio::test]
async fn a_notice_of_any_length_is_cut_and_not_lost() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    let text = lines(0, 100);
    let delivery = Delivery {
        id: "d1".into(),
        version: 0,
        conversation: place("main"),
        subject: Subject::Notice { text: text.clone() },
        messages: Vec::new(),
        shown: open_dispatch::store::Cursor::default(),
        hash: String::new(),
        state: DeliveryState::Open,
        note: String::new(),
        created: Timestamp::UNIX_EPOCH,
    };
    world.apply(vec![Op::Delivery(delivery)]).await;
    world.settle().await;
    assert_eq!(world.platform.shown("main").concat(), text.trim_end());
}
