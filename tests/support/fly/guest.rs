//! What runs in a machine: a reporter that follows a script, and speaks to whichever server is up as
//! the real one does: it claims its run, says hello, posts what it has until that is held, and hears
//! its inbox. What its agent does stands in the words of its task, or of each turn.
//!
//! The cloud writes down every instant in which a rule was broken: two that live for one owner, two
//! boots that were given one run, a reporter that was let go with something left to say.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, BodyDataStream, Bytes},
    http::{Method, Request, StatusCode, header},
};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Clock, between, later},
    dev_fly::{self, BootContext},
    resource::ProcessIdentity,
};
use serde::Serialize;
use sprite_reporter::wire::{
    Chunk, ClaimRequest, Claimed, Containment, Event, EventBatch, EventBody, Exit, ExitReason,
    InboxRow, Order, Stream, TurnOutcome, Usage, WIRE_VERSION,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How long a reporter waits until it asks a server again that did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// A server that is up.
#[derive(Clone)]
pub struct Front {
    pub router: Router,
    /// Cancelled when it is not.
    pub dead: CancellationToken,
}

/// What outlives the server: the guests, and the way to whichever server is up.
pub struct Cloud {
    pub clock: Arc<dyn Clock>,
    pub front: watch::Sender<Option<Front>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who lives for each owner.
    alive: BTreeMap<String, String>,
    /// Which boot has each run.
    runs: BTreeMap<(String, u32), String>,
    broken: Vec<String>,
    claims: usize,
    refused: usize,
}

impl Cloud {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, front: watch::Sender::new(None), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rules that were broken so far, as sentences.
    pub fn broken(&self) -> Vec<String> {
        self.state().broken.clone()
    }

    /// Who lives now.
    pub fn alive(&self) -> Vec<String> {
        self.state().alive.values().cloned().collect()
    }

    /// How often a run was given, and refused.
    pub fn claims(&self) -> (usize, usize) {
        let state = self.state();
        (state.claims, state.refused)
    }

    fn complain(&self, what: String) {
        let now = self.clock.now();
        self.state().broken.push(format!("{what}, at {now}"));
    }

    /// Asks the server that is up; nothing without an answer.
    async fn ask(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Option<axum::response::Response> {
        let front = self.front.borrow().clone()?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .expect("a request");
        tokio::select! {
            biased;
            () = front.dead.cancelled() => None,
            answer = front.router.oneshot(request) => answer.ok(),
        }
    }

    async fn post<T: Serialize + Sync>(
        &self,
        token: &str,
        path: &str,
        body: &T,
    ) -> Option<(StatusCode, Bytes)> {
        let body = serde_json::to_vec(body).expect("it can be written");
        let answer = self.ask(token, Method::POST, path, body).await?;
        let code = answer.status();
        let bytes = answer.into_body().collect().await.ok()?.to_bytes();
        Some((code, bytes))
    }
}

/// The right to live for an owner; gone with whoever has it.
struct Life {
    cloud: Arc<Cloud>,
    owner: String,
    boot: String,
}

impl Life {
    fn begin(cloud: &Arc<Cloud>, owner: &str, uid: &str, run: u32, boot: &str) -> Self {
        let mut state = cloud.state();
        state.claims += 1;
        let now = cloud.clock.now();
        if let Some(other) = state.alive.insert(owner.to_owned(), boot.to_owned()) {
            state.broken.push(format!("{other} and {boot} lived for {owner} at {now}"));
        }
        let before = state.runs.insert((uid.to_owned(), run), boot.to_owned());
        if let Some(other) = before.filter(|other| other != boot) {
            state.broken.push(format!("{other} and {boot} were both given run {run} of {uid}"));
        }
        drop(state);
        Self { cloud: Arc::clone(cloud), owner: owner.to_owned(), boot: boot.to_owned() }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let mut state = self.cloud.state();
        if state.alive.get(&self.owner) == Some(&self.boot) {
            state.alive.remove(&self.owner);
        }
    }
}

/// What an agent does at a moment.
#[derive(Debug, Clone)]
enum Beat {
    Ready,
    Line(&'static str),
    EndTurn(TurnOutcome),
    End(Exit),
    /// The kernel kills everything.
    OutOfMemory,
}

struct Guest {
    cloud: Arc<Cloud>,
    _life: Life,
    owner: String,
    ctx: BootContext,
    uid: String,
    token: String,
    spec: sprite_reporter::wire::RunSpec,
    script: VecDeque<(Timestamp, Beat)>,
    spool: VecDeque<Event>,
    next_seq: u64,
    inbox: Inbox,
    turn: Option<String>,
    /// What the turn is to do, as long as the server does not hold that it was accepted.
    accepted: Option<String>,
    taken: BTreeSet<String>,
    stop: Option<ExitReason>,
    exit: Option<Exit>,
}

/// Plays a machine's boot.
pub async fn play(cloud: Arc<Cloud>, mut ctx: BootContext) -> dev_fly::Exit {
    let said = |name: &str| ctx.env.get(name).cloned().unwrap_or_default();
    let (uid, token) = (said("JOB_ID"), said("JOB_TOKEN"));
    if said("COMMAND").contains("is never heard") {
        // It asks for nothing, and hears no signal.
        return std::future::pending().await;
    }
    let owner = ctx.config["metadata"]["od_owner"].as_str().unwrap_or_default().to_owned();
    let boot = format!("boot-{}-of-{}", ctx.boot, ctx.machine);
    let asked = ClaimRequest {
        job_id: uid.clone(),
        boot: boot.clone(),
        wire: WIRE_VERSION,
        machine: Some(ctx.machine.clone()),
    };
    let claimed: Claimed = loop {
        match cloud.post(&token, "/webhooks/claim", &asked).await {
            Some((StatusCode::OK, bytes)) => {
                break serde_json::from_slice(&bytes).expect("a claimed run can be read");
            }
            Some((StatusCode::GONE | StatusCode::UNAUTHORIZED, _)) => {
                cloud.state().refused += 1;
                return dev_fly::Exit::code(0);
            }
            _ => {}
        }
        tokio::select! {
            _ = ctx.stop.asked() => return dev_fly::Exit::code(0),
            () = cloud.clock.sleep(AGAIN) => {}
        }
    };
    let life = Life::begin(&cloud, &owner, &uid, claimed.spec.run, &boot);
    let inbox = Inbox { after: 0, stream: None, rest: Vec::new(), dead: None };
    let mut guest = Guest {
        cloud,
        _life: life,
        owner,
        ctx,
        uid,
        token,
        spec: claimed.spec,
        script: VecDeque::new(),
        spool: VecDeque::new(),
        next_seq: 1,
        inbox,
        turn: None,
        accepted: None,
        taken: BTreeSet::new(),
        stop: None,
        exit: None,
    };
    guest.begin();
    guest.live().await
}

fn exit(code: Option<i32>, reason: ExitReason) -> Exit {
    Exit { code, signal: None, reason, message: String::new() }
}

impl Guest {
    fn now(&self) -> Timestamp {
        self.cloud.clock.now()
    }

    fn say(&mut self, body: EventBody) {
        self.spool.push_back(Event { seq: self.next_seq, at: self.now(), body });
        self.next_seq += 1;
    }

    fn plan(&mut self, millis: u64, beat: Beat) {
        let at = later(self.now(), Duration::from_millis(millis));
        let place = self.script.iter().position(|(other, _)| *other > at);
        self.script.insert(place.unwrap_or(self.script.len()), (at, beat));
    }

    /// `run N` ends well after N seconds; `fail` ends with 3; `forget` works on, whatever its time;
    /// `stubborn` as well, and hears no order; `oom` needs more memory than there is. All else works for an hour.
    fn begin(&mut self) {
        self.say(EventBody::Hello {
            wire: WIRE_VERSION,
            version: "0".to_owned(),
            process: ProcessIdentity { boot_id: "boot".to_owned(), pid: 1, start_time: 1 },
            containment: Containment { data_hidden: true, ..Containment::default() },
        });
        let Some(task) = self.spec.task.clone() else {
            self.plan(100, Beat::Ready);
            return;
        };
        self.plan(200, Beat::Line("one\n"));
        self.plan(300, Beat::Line("two\n"));
        let (verb, rest) = task.split_once(' ').unwrap_or((&task, ""));
        let seconds: u64 = rest.parse().unwrap_or(3600);
        let end = match verb {
            "fail" => exit(Some(3), ExitReason::Failed),
            _ => exit(Some(0), ExitReason::Completed),
        };
        match verb {
            "oom" => self.plan(seconds * 1000, Beat::OutOfMemory),
            "fail" => self.plan(1000, Beat::End(end)),
            _ => self.plan(seconds * 1000, Beat::End(end)),
        }
        let forgets = matches!(verb, "forget" | "stubborn");
        if let Some(millis) = self.spec.timeout_ms.filter(|_| !forgets) {
            self.plan(millis, Beat::End(exit(None, ExitReason::TimedOut)));
        }
    }

    fn is_stubborn(&self) -> bool {
        self.spec.task.as_deref() == Some("stubborn")
    }

    fn end_turn(&mut self, outcome: TurnOutcome) {
        self.accepted = None;
        if let Some(turn) = self.turn.take() {
            let usage = Usage { cost_micro_usd: 10, ..Usage::default() };
            self.say(EventBody::TurnEnded { turn, outcome, message: None, usage });
        }
    }

    fn end(&mut self, exit: Exit) {
        self.script.clear();
        self.end_turn(TurnOutcome::Cancelled);
        if self.exit.is_none() {
            self.exit = Some(exit.clone());
            self.say(EventBody::Exit(exit));
        }
    }

    fn obey(&mut self, row: InboxRow) {
        if row.n == 0 || row.n <= self.inbox.after || row.run != self.spec.run {
            return;
        }
        self.inbox.after = row.n;
        if self.exit.is_some() {
            return;
        }
        match row.order {
            Order::Stop { reason } => {
                self.stop = Some(reason);
                if !self.is_stubborn() {
                    self.end(exit(None, reason));
                }
            }
            Order::Sleep {} => {
                if self.turn.is_some() {
                    self.cloud.complain(format!("{} was told to sleep in a turn", self.uid));
                }
                self.end(exit(None, ExitReason::Asleep));
            }
            Order::Turn { turn, text, .. } => {
                if !self.taken.insert(turn.clone()) {
                    self.cloud.complain(format!("{} was given {turn} twice in a run", self.uid));
                }
                if let Some(other) = &self.turn {
                    let what = format!("{} was given {turn} while {other} was open", self.uid);
                    self.cloud.complain(what);
                }
                self.turn = Some(turn.clone());
                self.accepted = Some(text);
                self.say(EventBody::TurnAccepted { turn, origin: None });
            }
            Order::Cancel { turn, .. } if self.turn == turn => {
                self.script.clear();
                self.end_turn(TurnOutcome::Cancelled);
            }
            _ => {}
        }
    }

    /// The server holds that the turn was taken: now the agent hears it.
    fn prompt(&mut self) {
        let Some(text) = self.accepted.take() else { return };
        let seconds = text.strip_prefix("work ").and_then(|it| it.parse().ok()).unwrap_or(1_u64);
        self.plan(seconds * 1000, Beat::EndTurn(TurnOutcome::Succeeded));
    }

    /// Lives until all is said.
    async fn live(&mut self) -> dev_fly::Exit {
        let mut told = false;
        loop {
            if !self.spool.is_empty() {
                match self.post().await {
                    Posted::Held => self.prompt(),
                    Posted::Never => return dev_fly::Exit::code(0),
                    Posted::Later => {
                        tokio::select! {
                            _ = self.ctx.stop.asked(), if !told => {
                                told = true;
                                self.terminate();
                            }
                            () = self.cloud.clock.sleep(AGAIN) => {}
                        }
                    }
                }
                continue;
            }
            if let Some(exit) = &self.exit {
                return dev_fly::Exit::code(i32::from(exit.process_code()));
            }
            let beat = self.script.front().map(|(at, _)| between(self.now(), *at));
            let (clock, cloud) = (Arc::clone(&self.cloud.clock), Arc::clone(&self.cloud));
            let due = async move {
                match beat {
                    Some(wait) => clock.sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            let asked = (self.uid.as_str(), self.spec.run, self.token.as_str());
            tokio::select! {
                biased;
                _ = self.ctx.stop.asked(), if !told => {
                    told = true;
                    self.terminate();
                }
                row = self.inbox.next(&cloud, asked) => self.obey(row),
                () = due => {
                    let Some((_, beat)) = self.script.pop_front() else { continue };
                    match beat {
                        Beat::Ready => {
                            self.say(EventBody::Ready {});
                            let id = self.spec.session.clone();
                            let id = id.unwrap_or_else(|| format!("of {}", self.owner));
                            self.say(EventBody::Session { id });
                        }
                        Beat::Line(text) => {
                            let chunk = Chunk::pack(text.as_bytes(), false);
                            self.say(EventBody::Log { stream: Stream::Stdout, chunk });
                        }
                        Beat::EndTurn(outcome) => self.end_turn(outcome),
                        Beat::End(exit) => self.end(exit),
                        Beat::OutOfMemory => return dev_fly::Exit::oom(),
                    }
                }
            }
        }
    }

    /// Its machine is to stop: the agent is killed, and the reporter says so.
    fn terminate(&mut self) {
        let reason = self.stop.unwrap_or(ExitReason::Cancelled);
        self.end(Exit { signal: Some(9), ..exit(None, reason) });
    }

    /// Posts what is held back, once.
    async fn post(&mut self) -> Posted {
        let events: Vec<Event> = self.spool.iter().cloned().collect();
        let last = events.last().map_or(0, |event| event.seq);
        let batch = EventBatch {
            job_id: self.uid.clone(),
            run: self.spec.run,
            events,
            inbox_ack: (self.inbox.after > 0).then_some(self.inbox.after),
        };
        match self.cloud.post(&self.token, "/webhooks/events", &batch).await {
            Some((StatusCode::OK, _)) => {
                self.spool.retain(|event| event.seq > last);
                Posted::Held
            }
            Some((StatusCode::GONE, _)) => {
                self.cloud.complain(format!("{} was let go with something to say", self.uid));
                Posted::Never
            }
            Some((StatusCode::SERVICE_UNAVAILABLE, _)) | None => Posted::Later,
            Some((code, bytes)) => {
                let said = String::from_utf8_lossy(&bytes).into_owned();
                self.cloud.complain(format!("{} heard {code}: {said}", self.uid));
                Posted::Never
            }
        }
    }
}

enum Posted {
    Held,
    Later,
    Never,
}

/// The stream of orders, opened again whenever it ends.
struct Inbox {
    after: u64,
    stream: Option<BodyDataStream>,
    rest: Vec<u8>,
    dead: Option<CancellationToken>,
}

impl Inbox {
    /// The next row. May be dropped while it waits.
    async fn next(&mut self, cloud: &Cloud, (uid, run, token): (&str, u32, &str)) -> InboxRow {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).expect("a row of an inbox can be read");
            }
            let (Some(stream), Some(dead)) = (&mut self.stream, &self.dead) else {
                let after = self.after;
                let path = format!("/webhooks/inbox?jobId={uid}&run={run}&after={after}");
                let dead = cloud.front.borrow().as_ref().map(|front| front.dead.clone());
                let answer = cloud.ask(token, Method::GET, &path, Vec::new()).await;
                match answer.filter(|answer| answer.status() == StatusCode::OK) {
                    Some(answer) => {
                        self.rest.clear();
                        self.stream = Some(answer.into_body().into_data_stream());
                        self.dead = dead;
                    }
                    None => cloud.clock.sleep(AGAIN).await,
                }
                continue;
            };
            tokio::select! {
                biased;
                () = dead.cancelled() => self.stream = None,
                bytes = stream.next() => match bytes {
                    Some(Ok(bytes)) => self.rest.extend_from_slice(&bytes),
                    _ => self.stream = None,
                },
            }
        }
    }
}
