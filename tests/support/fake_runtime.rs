//! A world of processes that outlives the server: a runtime whose reporters follow a script,
//! speak to the store as ingest does, and obey their inbox. In a conversation what a turn does
//! stands in its text; see [`World::prompt`].
//!
//! Nothing moves by itself: the test moves the clock, and calls [`World::pass`] until nothing is
//! left to do. The world writes down every instant in which a rule was broken.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Clock as _, ManualClock, later},
    resource::{AnyObject, Kind, ProcessIdentity, Sprite},
    runtime::{Cleaned, Error, Observed, Runtime},
    server::ingest::{Context, Seen, observe},
    store::{self, ApprovalState, Op, Store, Transaction},
};
use serde_json::json;
use sprite_reporter::wire::{
    Chunk, Containment, Event, EventBody, Exit, ExitReason, Order, Stream, TurnOutcome, Usage,
    WIRE_VERSION,
};
use tokio::sync::mpsc;

/// What a reporter does at a moment of its script.
#[derive(Debug, Clone)]
pub enum Beat {
    /// Says hello.
    Hello,
    /// The agent says that it takes turns.
    Ready,
    /// The agent prints a line.
    Line(&'static str),
    /// The agent asks for something; a job ends well once it is answered, a turn a second later.
    Ask(String),
    /// The agent begins a turn by itself, if it has nothing else to do, and works at it for so
    /// many seconds.
    OwnTurn(u64),
    /// The agent's own turn ends.
    EndOwn,
    /// The turn that runs has cost so many millionths of a dollar so far.
    Spend(u64),
    /// The turn that runs ends, having cost so many millionths of a dollar.
    EndTurn(TurnOutcome, u64),
    /// The ladder of a cancelled turn is climbed.
    KillTree,
    /// The agent ends with a code.
    Exit(i32),
    /// The reporter's clock is over.
    TimeOut,
    /// The reporter dies; the agent lives on without it.
    LoseReporter,
    /// Everything dies at once, and what was not sent is lost.
    Vanish,
}

/// What a sprite's reporter will do, by milliseconds since its start.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// The beats in order.
    pub beats: Vec<(u64, Beat)>,
    /// Whether the agent ignores every order but a kill.
    pub stubborn: bool,
    /// Whether the runtime refuses to start it, for good.
    pub unstartable: bool,
    /// How often the runtime fails to start it before it can.
    pub failures: usize,
    /// How often the runtime cannot look after it before it can.
    pub stalls: usize,
    /// How often a secret of it is missing before somebody has set it.
    pub secretless: usize,
}

/// Gives a sprite's script.
pub type Author = Arc<dyn Fn(&Sprite) -> Script + Send + Sync>;

struct Process {
    owner: String,
    name: String,
    /// The sprite's run.
    run: u32,
    /// The session that it continues.
    session: Option<String>,
    task: bool,
    /// The turn at work, or about to be.
    turn: Option<String>,
    /// What the turn is to do, as long as the server does not hold that it was accepted.
    accepted: Option<String>,
    /// The turns that were ever taken.
    taken: BTreeSet<String>,
    /// How many turns the agent began by itself, and the one that runs.
    own: u32,
    own_turn: Option<String>,
    /// A turn that came while the agent worked by itself.
    waiting: Option<(String, String)>,
    asleep: bool,
    script: VecDeque<(Timestamp, Beat)>,
    stubborn: bool,
    stalls: usize,
    reporter: bool,
    agent: bool,
    exit: Option<Exit>,
    spool: VecDeque<Event>,
    next_seq: u64,
    inbox: u64,
    stop: Option<ExitReason>,
}

impl Process {
    fn say(&mut self, at: Timestamp, body: EventBody) {
        self.spool.push_back(Event { seq: self.next_seq, at, body });
        self.next_seq += 1;
    }

    /// Puts a beat into the script.
    fn plan(&mut self, at: Timestamp, beat: Beat) {
        let place = self.script.iter().position(|(other, _)| *other > at);
        self.script.insert(place.unwrap_or(self.script.len()), (at, beat));
    }

    /// The turn at work ends, if there is one.
    fn end_turn(&mut self, at: Timestamp, outcome: TurnOutcome, cost_micro_usd: u64) {
        self.accepted = None;
        if let Some(turn) = self.turn.take() {
            let usage = Usage { cost_micro_usd, ..Usage::default() };
            self.say(at, EventBody::TurnEnded { turn, outcome, message: None, usage });
        }
    }

    /// The agent's own turn ends, if it has one; then it takes what has waited.
    fn end_own(&mut self, at: Timestamp, outcome: TurnOutcome) {
        if let Some(turn) = self.own_turn.take() {
            let usage = Usage { cost_micro_usd: 10, ..Usage::default() };
            self.say(at, EventBody::TurnEnded { turn, outcome, message: None, usage });
        }
        if let Some((turn, text)) = self.waiting.take() {
            self.accept(at, turn, text);
        }
    }

    /// Takes a turn, and says so.
    fn accept(&mut self, at: Timestamp, turn: String, text: String) {
        self.turn = Some(turn.clone());
        self.accepted = Some(text);
        self.say(at, EventBody::TurnAccepted { turn, origin: None });
    }

    /// What was planned for a turn that has ended is off.
    fn call_off(&mut self) {
        let stays = |beat: &Beat| matches!(beat, Beat::Hello | Beat::Ready | Beat::EndOwn);
        self.script.retain(|(_, beat)| stays(beat));
    }

    /// The agent ends, and its reporter says so.
    fn end(&mut self, at: Timestamp, exit: Exit) {
        self.agent = false;
        self.waiting = None;
        self.own_turn = None;
        self.script.clear();
        if self.exit.is_none() {
            self.exit = Some(exit.clone());
            self.say(at, EventBody::Exit(exit));
        }
    }

    fn is_gone(&self) -> bool {
        !self.reporter && !self.agent && self.spool.is_empty()
    }
}

#[derive(Default)]
struct State {
    processes: BTreeMap<String, Process>,
    wakes: Option<mpsc::UnboundedSender<String>>,
    calls: Vec<&'static str>,
    failed_starts: BTreeMap<String, usize>,
    writes: u64,
    broken: Vec<String>,
    /// The turns that any sprite was ever given.
    given: BTreeSet<String>,
}

/// The world.
pub struct World {
    clock: Arc<ManualClock>,
    capacity: usize,
    author: Author,
    state: Mutex<State>,
}

impl World {
    /// A world without processes.
    pub fn new(clock: Arc<ManualClock>, capacity: usize, author: Author) -> Arc<Self> {
        Arc::new(Self { clock, capacity, author, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules that were broken so far, as sentences.
    pub fn broken(&self) -> Vec<String> {
        self.state().broken.clone()
    }

    /// Every call of a hand, in order.
    pub fn calls(&self) -> Vec<&'static str> {
        self.state().calls.clone()
    }

    /// How many transactions of reporters changed something.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Whether a turn was ever in some sprite's hands.
    pub fn was_given(&self, turn: &str) -> bool {
        self.state().given.contains(turn)
    }

    /// Which sprites left something behind.
    pub fn left(&self) -> Vec<String> {
        self.state().processes.keys().cloned().collect()
    }

    /// How long it is until a script goes on.
    pub fn next_beat(&self) -> Option<Duration> {
        let now = self.clock.now();
        let state = self.state();
        let alive = state.processes.values().filter(|process| process.reporter);
        let at = alive.filter_map(|process| Some(process.script.front()?.0)).min()?;
        Some(open_dispatch::ambient::between(now, at))
    }

    /// Lets every reporter do what is due: beats, inbox, post. Says whether anything happened.
    pub async fn pass(&self, store: &Arc<dyn Store>) -> bool {
        let uids = self.left();
        let mut moved = false;
        for uid in uids {
            moved |= self.play(&uid);
            moved |= self.obey(&uid, store).await;
            moved |= self.post(&uid, store).await;
            moved |= self.bury(&uid);
        }
        moved
    }

    /// Plays the beats that are due.
    fn play(&self, uid: &str) -> bool {
        let now = self.clock.now();
        let mut state = self.state();
        let Some(process) = state.processes.get_mut(uid) else { return false };
        let mut moved = false;
        while process.reporter && process.script.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, beat)) = process.script.pop_front() else { break };
            moved = true;
            match beat {
                Beat::Hello => process.say(
                    at,
                    EventBody::Hello {
                        wire: WIRE_VERSION,
                        version: "0".to_owned(),
                        process: identity(),
                        containment: Containment { data_hidden: true, ..Containment::default() },
                    },
                ),
                Beat::Ready => {
                    process.say(at, EventBody::Ready {});
                    if let Some(id) = process.session.clone() {
                        process.say(at, EventBody::Session { id });
                    }
                }
                Beat::OwnTurn(seconds) if process.turn.is_none() && process.own_turn.is_none() => {
                    process.own += 1;
                    let turn = format!("own {} of {}/{}", process.own, process.name, process.run);
                    process.own_turn = Some(turn.clone());
                    let origin = Some("agent".to_owned());
                    process.say(at, EventBody::TurnAccepted { turn, origin });
                    process.plan(later(at, Duration::from_secs(seconds)), Beat::EndOwn);
                }
                Beat::OwnTurn(_) => {}
                Beat::EndOwn => process.end_own(at, TurnOutcome::Succeeded),
                Beat::Spend(cost_micro_usd) => {
                    if let Some(turn) = process.turn.clone() {
                        let usage = Usage { cost_micro_usd, ..Usage::default() };
                        process.say(at, EventBody::Usage { turn, usage });
                    }
                }
                Beat::EndTurn(outcome, cost) => process.end_turn(at, outcome, cost),
                Beat::KillTree => {
                    process.end_turn(at, TurnOutcome::Cancelled, 0);
                    process.end(at, Exit { signal: Some(9), ..exit(None, ExitReason::Failed) });
                }
                Beat::Line(text) => {
                    let chunk = Chunk::pack(text.as_bytes(), false);
                    process.say(at, EventBody::Log { stream: Stream::Stdout, chunk });
                }
                Beat::Ask(request) => process.say(
                    at,
                    EventBody::Approval {
                        kind: Default::default(),
                        rule: Some("Bash(ls:*)".to_owned()),
                        questions: Vec::new(),
                        turn: process.turn.clone().unwrap_or_else(|| "task".to_owned()),
                        request,
                        tool: "Bash".to_owned(),
                        title: "Bash: ls".to_owned(),
                        input: json!({}),
                    },
                ),
                Beat::Exit(code) => {
                    let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Failed };
                    process.end(at, exit(Some(code), reason));
                }
                Beat::TimeOut => process.end(at, exit(None, ExitReason::TimedOut)),
                Beat::LoseReporter => {
                    process.reporter = false;
                    process.script.clear();
                }
                Beat::Vanish => {
                    process.reporter = false;
                    process.agent = false;
                    process.script.clear();
                    process.spool.clear();
                }
            }
        }
        if moved && !state.processes.get(uid).is_some_and(|process| process.reporter) {
            wake(&mut state, uid);
        }
        moved
    }

    /// Takes the inbox.
    async fn obey(&self, uid: &str, store: &Arc<dyn Store>) -> bool {
        let (after, run) = match self.state().processes.get(uid) {
            Some(process) if process.reporter => (process.inbox, process.run),
            _ => return false,
        };
        let mut rows = store.inbox(uid, after).await.expect("the inbox can be read");
        rows.retain(|row| row.run == run);
        let now = self.clock.now();
        let mut state = self.state();
        let State { processes, broken, given, .. } = &mut *state;
        let Some(process) = processes.get_mut(uid) else { return false };
        let moved = !rows.is_empty();
        for row in rows {
            process.inbox = row.n;
            match row.order {
                Order::Stop { reason } => {
                    process.stop = Some(reason);
                    if process.agent && !process.stubborn {
                        process.end_turn(now, TurnOutcome::Cancelled, 0);
                        process.end(now, exit(None, reason));
                    }
                }
                Order::Sleep {} => {
                    if process.turn.is_some() {
                        broken.push(format!("{uid} was told to sleep in the middle of a turn"));
                    }
                    process.asleep = true;
                    if process.agent && !process.stubborn {
                        process.end(now, exit(None, ExitReason::Asleep));
                    }
                }
                Order::Turn { turn, text, .. } if process.agent => {
                    given.insert(turn.clone());
                    if !process.taken.insert(turn.clone()) {
                        broken.push(format!("{uid} was given {turn} twice in one run"));
                    }
                    if let Some(other) = &process.turn {
                        broken.push(format!("{uid} was given {turn} while {other} was open"));
                    }
                    if process.own_turn.is_some() {
                        process.waiting = Some((turn, text));
                    } else {
                        process.accept(now, turn, text);
                    }
                }
                Order::Cancel { turn: Some(turn), .. }
                    if process.waiting.as_ref().is_some_and(|(id, _)| *id == turn) =>
                {
                    process.waiting = None;
                    process.turn = Some(turn);
                    process.end_turn(now, TurnOutcome::Cancelled, 0);
                }
                Order::Cancel { turn, .. } if process.agent && process.own_turn == turn => {
                    process.end_own(now, TurnOutcome::Cancelled);
                }
                Order::Cancel { turn, .. } if process.agent && process.turn == turn => {
                    if process.stubborn {
                        process.plan(later(now, Duration::from_secs(30)), Beat::KillTree);
                    } else {
                        process.call_off();
                        process.end_turn(now, TurnOutcome::Cancelled, 0);
                    }
                }
                Order::Answer { allow, .. } if process.agent => {
                    let line: &[u8] = if allow { b"yes\n" } else { b"no\n" };
                    let chunk = Chunk::pack(line, false);
                    process.say(now, EventBody::Log { stream: Stream::Stdout, chunk });
                    if process.task {
                        process.end(now, exit(Some(0), ExitReason::Completed));
                    } else {
                        let end = Beat::EndTurn(TurnOutcome::Succeeded, 0);
                        process.plan(later(now, Duration::from_secs(1)), end);
                    }
                }
                _ => {}
            }
        }
        moved
    }

    /// Posts what the spool holds, as ingest commits it.
    async fn post(&self, uid: &str, store: &Arc<dyn Store>) -> bool {
        let (run, events): (u32, Vec<Event>) = match self.state().processes.get(uid) {
            Some(process) if process.reporter => {
                (process.run, process.spool.iter().cloned().collect())
            }
            _ => return false,
        };
        if events.is_empty() {
            return false;
        }
        let sprite = store.get_by_uid(Kind::Sprite, uid).await.expect("the store can be read");
        let sprite = match sprite.and_then(AnyObject::into_sprite) {
            Some(sprite) if !sprite.metadata.finalizers.is_empty() => sprite,
            _ => {
                let mut state = self.state();
                state.broken.push(format!("{uid} was let go with output left"));
                state.processes.remove(uid);
                return true;
            }
        };
        if run < sprite.status.run {
            self.state().broken.push(format!("run {run} of {uid} was superseded while it spoke"));
        }
        let now = self.clock.now();
        let last = events.last().map_or(0, |event| event.seq);
        let seen = seen(&sprite, store).await;
        let context = context(&sprite, run, &events, now, store).await;
        let (_, observed) = observe(&seen, context, &events);
        let mut ops = vec![Op::Output { sprite_uid: uid.to_owned(), run, events }];
        ops.extend(observed);
        let applied = store.apply(Transaction { ops, now }).await;
        let mut state = self.state();
        match applied {
            Ok(applied) => state.writes += u64::from(applied.changed),
            // Somebody was faster: read again, and again.
            Err(store::Error::Stale { .. }) => return true,
            Err(error) => state.broken.push(format!("{uid} could not post: {error}")),
        }
        if let Some(process) = state.processes.get_mut(uid) {
            process.spool.retain(|event| event.seq > last);
            if let Some(text) = process.accepted.take() {
                Self::prompt(process, now, &text);
            }
        }
        true
    }

    /// What a turn does, by the words of its text, each with a number of seconds where it says so:
    /// `work N` ends well after N; `cost N` ends at once and well, and costs so many millionths of
    /// a dollar; `fail`; `ask R` asks under that id; `own N` ends well, and a second later the agent
    /// works for N seconds by itself; `vanish`, `lose` and `exit` end the sprite after a second.
    fn prompt(process: &mut Process, now: Timestamp, text: &str) {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number: u64 = rest.parse().unwrap_or(0);
        let well = |cost| Beat::EndTurn(TurnOutcome::Succeeded, cost);
        let at = |seconds| later(now, Duration::from_secs(seconds));
        match verb {
            "work" => process.plan(at(number), well(10)),
            "cost" => {
                process.plan(at(1), Beat::Spend(number / 2));
                process.plan(at(2), well(number));
            }
            "fail" => process.plan(at(1), Beat::EndTurn(TurnOutcome::Failed, 10)),
            "ask" => process.plan(at(1), Beat::Ask(rest.to_owned())),
            "own" => {
                process.plan(at(1), well(10));
                process.plan(at(2), Beat::OwnTurn(number));
            }
            "vanish" => process.plan(at(1), Beat::Vanish),
            "lose" => process.plan(at(1), Beat::LoseReporter),
            "exit" => process.plan(at(1), Beat::Exit(1)),
            _ => process.plan(at(1), well(10)),
        }
    }

    /// A reporter that has said everything ends.
    fn bury(&self, uid: &str) -> bool {
        let mut state = self.state();
        let Some(process) = state.processes.get_mut(uid) else { return false };
        if process.reporter && !process.agent && process.spool.is_empty() {
            process.reporter = false;
            wake(&mut state, uid);
            return true;
        }
        false
    }
}

/// What ingest knows of a sprite, read anew.
async fn seen(sprite: &Sprite, store: &Arc<dyn Store>) -> Seen {
    let (uid, status) = (&sprite.metadata.uid, sprite.status.clone());
    let held = store.held(uid, Some(status.run)).await.expect("the store can be read");
    Seen {
        run: status.run,
        held: held.seq,
        finished: held.finished,
        greeted: status.hello_time.is_some(),
        ready: status.ready,
        session: status.session_id,
        slept: status.slept,
        exit: status.exit,
        missing: status.missing_bytes,
        artifacts: status.artifacts,
        cost: status.cost,
        ..Seen::default()
    }
}

/// The rows that these events may move.
async fn context(
    sprite: &Sprite,
    run: u32,
    events: &[Event],
    now: Timestamp,
    store: &Arc<dyn Store>,
) -> Context {
    let uid = &sprite.metadata.uid;
    let mut turns = BTreeMap::new();
    for event in events {
        let (EventBody::TurnAccepted { turn, .. }
        | EventBody::TurnEnded { turn, .. }
        | EventBody::Usage { turn, .. }) = &event.body
        else {
            continue;
        };
        if let Some(row) = store.turn(turn).await.expect("the store can be read") {
            turns.insert(turn.clone(), row);
        }
    }
    let mut pending = store.approvals(uid).await.expect("the store can be read");
    let asked = pending.iter().map(|it| (it.run, it.request.clone())).collect();
    pending.retain(|approval| approval.state == ApprovalState::Pending);
    let owner = sprite.metadata.controller().filter(|owner| owner.kind == Kind::Agent);
    let agent_uid = owner.map(|owner| owner.uid.clone());
    let grants = match &agent_uid {
        Some(agent) => store.grants(agent).await.expect("the store can be read"),
        None => Vec::new(),
    };
    let stop = sprite.spec.stop;
    Context { sprite_uid: uid.clone(), agent_uid, run, now, turns, pending, asked, grants, stop }
}

fn wake(state: &mut State, uid: &str) {
    if let Some(wakes) = &state.wakes {
        // No server listens just now: then its next one looks by itself.
        let _ = wakes.send(uid.to_owned());
    }
}

fn exit(code: Option<i32>, reason: ExitReason) -> Exit {
    Exit { code, signal: None, reason, message: String::new() }
}

fn identity() -> ProcessIdentity {
    ProcessIdentity { boot_id: "boot".to_owned(), pid: 1, start_time: 1 }
}

#[async_trait]
impl Runtime for World {
    fn name(&self) -> &'static str {
        "local"
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    async fn observe(&self, sprite: &Sprite) -> Result<Observed, Error> {
        let state = self.state();
        Ok(match state.processes.get(&sprite.metadata.uid) {
            None => Observed::Absent,
            // The run that is to live has no process yet.
            Some(process) if process.run < sprite.spec.run => Observed::Absent,
            Some(process) if process.reporter => Observed::Running { process: Some(identity()) },
            Some(process) if process.is_gone() => Observed::Gone { exit: process.exit.clone() },
            Some(process) => Observed::Orphaned { exit: process.exit.clone() },
        })
    }

    async fn start(&self, sprite: &Sprite, token: &str) -> Result<(), Error> {
        let now = self.clock.now();
        let uid = sprite.metadata.uid.clone();
        let owner = sprite.metadata.controller().expect("a sprite has an owner").uid.clone();
        let mut state = self.state();
        state.calls.push("start");
        if token != format!("token of {uid}") {
            state.broken.push(format!("{uid} was given another's token"));
        }
        let run = sprite.spec.run;
        match state.processes.get(&uid) {
            Some(process) if process.run >= run => return Ok(()),
            Some(process) if !process.is_gone() || !process.asleep => {
                let last = process.run;
                state.broken.push(format!("run {run} of {uid} began before run {last} slept"));
            }
            _ => {}
        }
        let script = (self.author)(sprite);
        if script.unstartable {
            return Err(Error::Terminal("the work directory /nowhere does not exist".to_owned()));
        }
        let failed = state.failed_starts.entry(uid.clone()).or_default();
        if *failed < script.failures {
            *failed += 1;
            return Err(Error::Transient("the machine is busy".to_owned()));
        }
        if *failed < script.failures + script.secretless {
            *failed += 1;
            return Err(Error::SecretMissing("the secret github is not set".to_owned()));
        }
        let alive = |process: &&Process| process.reporter || process.agent;
        let live = state.processes.values().filter(alive).count();
        if live >= self.capacity {
            state.broken.push(format!("{uid} was started beside {live} others"));
        }
        if state.processes.values().filter(alive).any(|process| process.owner == owner) {
            state.broken.push(format!("{owner} had two live agents at {now}"));
        }
        let resumed = sprite.status.session_id.clone().or_else(|| sprite.spec.session.clone());
        let session = match &sprite.spec.task {
            None => Some(resumed.unwrap_or_else(|| format!("of {}", sprite.metadata.name))),
            Some(_) => None,
        };
        let writes = |process: &&Process| process.agent && process.session == session;
        if session.is_some() && state.processes.values().any(|process| writes(&process)) {
            state.broken.push(format!("{session:?} has two writers at {now}"));
        }
        let at = |(millis, beat)| (later(now, Duration::from_millis(millis)), beat);
        let process = Process {
            owner,
            name: sprite.metadata.name.clone(),
            run,
            session,
            task: sprite.spec.task.is_some(),
            turn: None,
            accepted: None,
            taken: BTreeSet::new(),
            own: 0,
            own_turn: None,
            waiting: None,
            asleep: false,
            script: script.beats.into_iter().map(at).collect(),
            stubborn: script.stubborn,
            stalls: script.stalls,
            reporter: true,
            agent: true,
            exit: None,
            spool: VecDeque::new(),
            next_seq: 1,
            inbox: 0,
            stop: None,
        };
        state.processes.insert(uid, process);
        Ok(())
    }

    async fn recover(&self, sprite: &Sprite, _: &str) -> Result<(), Error> {
        let now = self.clock.now();
        let mut state = self.state();
        state.calls.push("recover");
        if let Some(process) = state.processes.get_mut(&sprite.metadata.uid)
            && !process.reporter
            && !process.is_gone()
        {
            if process.stalls > 0 {
                process.stalls -= 1;
                return Err(Error::Terminal("a process cannot be killed".to_owned()));
            }
            process.end(now, exit(None, ExitReason::ReporterLost));
            process.reporter = true;
        }
        Ok(())
    }

    async fn kill(&self, sprite: &Sprite) -> Result<(), Error> {
        let now = self.clock.now();
        let mut state = self.state();
        state.calls.push("kill");
        if let Some(process) = state.processes.get_mut(&sprite.metadata.uid)
            && process.agent
        {
            let sleeps = process.asleep.then_some(ExitReason::Asleep);
            let reason = process.stop.or(sleeps).unwrap_or(ExitReason::Failed);
            process.end_turn(now, TurnOutcome::Cancelled, 0);
            process.end(now, Exit { signal: Some(9), ..exit(None, reason) });
        }
        Ok(())
    }

    async fn clean(&self, sprite: &Sprite) -> Result<Cleaned, Error> {
        let uid = &sprite.metadata.uid;
        let mut state = self.state();
        state.calls.push("clean");
        if state.processes.get(uid).is_some_and(|process| !process.is_gone()) {
            state.broken.push(format!("{uid} was cleaned away while it lived"));
        }
        state.processes.remove(uid);
        Ok(Cleaned::All)
    }

    fn wakes(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().wakes = Some(sender);
        Some(receiver)
    }
}
