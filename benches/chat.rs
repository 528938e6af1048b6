//! Chat as a person feels it: how long from a line in a channel until a warm agent acts on it, what
//! a server with one platform connected holds, and what becomes of two hundred busy conversations
//! at a platform's limits.
//!
//! `cargo bench --bench chat` prints each figure; `cargo bench --bench chat -- busy` one of them.
//! The platforms are the fakes of the tests, which speak their wire on this machine, so that no
//! network is measured. For the busy conversations each fake refuses with 429 what goes past its
//! platform's published limits; `-- busy discord` is one platform alone.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run says where")]

#[path = "../tests/support/discord/mod.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod discord;
#[path = "../tests/support/live.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod live;
#[path = "../tests/support/slack/mod.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod slack;
#[path = "../tests/support/stage_of_chat.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod stage_of_chat;
#[path = "../tests/support/teams/mod.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod teams;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use live::Live;
use open_dispatch::{
    ambient::Ambient,
    chat::{
        Commands, Outbox, Settings,
        discord::{Discord, settings::Settings as DiscordSettings},
        ear::{Ear, Hearing},
        slack::{Settings as SlackSettings, Slack},
        teams::{Settings as TeamsSettings, Teams},
    },
    reconcile::{Engine, EngineHandle},
    resource::{AnyObject, ConditionStatus, Job, Kind, OwnerReference, Sprite, SpriteSpec},
    store::{Expect, Op, Part, Principal, Store, Transaction, files::Files, memory::MemoryStore},
};
use slack::{FakeSlack, rig::FAST};
use sprite_reporter::wire::{Chunk, Event, EventBody, Exit, ExitReason, Stream};
use stage_of_chat::Stage;
use tokio_util::sync::CancellationToken;

/// How many lines are timed.
const LINES: usize = 200;
/// How many conversations are busy at once.
const BUSY: usize = 200;
/// For how long they are.
const BUSY_FOR: Duration = Duration::from_secs(60);
/// How often each of them prints a line.
const PRINTS_EVERY: Duration = Duration::from_millis(500);
/// How long it may take until all answers stand whole.
const WHOLE_WITHIN: Duration = Duration::from_secs(20 * 60);
/// Slack's published limits, calls a minute in a workspace: tier 3, and tier 4 for new messages,
/// which are bound by a second in each channel besides.
const SLACK_LIMITS: [(&str, usize); 2] = [("chat.update", 50), ("conversations.history", 50)];
/// The calls in which a short answer can be shown: its message, and all that stands in it.
const LEAST: usize = 2;

fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

fn percentile(sorted: &[f64], of: f64) -> f64 {
    sorted[((sorted.len() as f64 - 1.0) * of).round() as usize]
}

async fn until(what: &str, within: Duration, mut so: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !so().await {
        assert!(begin.elapsed() < within, "it never came to be that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server that talks to a stage, on which `ada` may do everything.
async fn serve(data: &Path, stage: &impl Stage) -> Live {
    let mut env = stage.env();
    let admin = format!("{}:{}", stage.name(), stage.user("ada"));
    env.push(("OPEN_DISPATCH_ADMINS".to_owned(), admin));
    let env: Vec<(&str, &str)> =
        env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Live::start(data, &[], &env).await
}

/// From just before the envelope is sent to the first thing that the agent does.
async fn line_to_prompt(root: &Path) {
    let fake = FakeSlack::start().await;
    let server = serve(&root.join("latency"), &fake).await;
    fake.until_connected(2).await;
    fake.say("ada", "C1", &format!("/od-start bot --agent command {}", root.display())).await;
    let idle = |agent: &serde_json::Value| agent["status"]["phase"] == "Idle";
    server.wait_for("agents/bot", "idle", idle).await;
    let heard = root.join("heard");
    let line = format!("date +%s%N >> {}", heard.display());
    let mut posted = Vec::new();
    for n in 0..LINES {
        posted.push(now_ns());
        fake.say("ada", "C1", &line).await;
        let done = async || {
            let turns = server.get("agents/bot/turns?last=1").await;
            turns["items"][0]["n"] == n + 1 && turns["items"][0]["state"] == "Succeeded"
        };
        until("the agent has answered", live::PATIENCE, done).await;
    }
    let mut times: Vec<f64> = live::lines(&heard)
        .iter()
        .zip(posted)
        .filter_map(|(line, posted)| {
            let heard: u128 = line.trim().parse().ok()?;
            Some(heard.saturating_sub(posted) as f64 / 1e6)
        })
        .collect();
    assert_eq!(times.len(), LINES, "each line is heard once");
    times.sort_by(f64::total_cmp);
    println!(
        "line in Slack to prompt, warm, shell's own start included: p50 {:.1} ms, p99 {:.1} ms",
        percentile(&times, 0.5),
        percentile(&times, 0.99)
    );
}

/// Resident memory of a process, in MiB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// An idle server whose platform is connected, which is when it is ready.
async fn connected(root: &Path, stage: &impl Stage) {
    let server = serve(&root.join(stage.name()), stage).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("idle server with {} connected: {:.1} MiB", stage.name(), resident(server.pid()));
    assert!(stage.calls() > 0 || stage.name() == "teams", "nobody called {}", stage.name());
}

/// A platform whose limits hold, and what it counted.
struct Limited<'a> {
    stage: &'a dyn Stage,
    ear: Arc<dyn Ear>,
    /// The name of the nth conversation.
    channel: fn(usize) -> String,
    /// All calls that the pace is about, by their kind and whether they were answered with 429.
    calls: &'a (dyn Fn() -> BTreeMap<(String, bool), usize> + Sync),
    /// How many of the kind that runs out first may be made in a minute.
    kind: &'static str,
    a_minute: usize,
}

/// The parts of a server that chat needs, in this process.
struct Desk {
    store: Arc<dyn Store>,
    _engine: EngineHandle,
    stop: CancellationToken,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Desk {
    async fn open(stage: &dyn Stage, ear: &Arc<dyn Ear>, store: Arc<dyn Store>) -> Self {
        let ambient = Ambient::real();
        let mut engine = Engine::new(Arc::clone(&store), ambient.clone());
        let platforms = vec![Arc::clone(ear).platform()];
        engine.add(Arc::new(Outbox::new(Arc::clone(&store), ambient.clone(), platforms)));
        let engine = engine.start().await.unwrap();
        let admins = vec![Principal::user(stage.name(), stage.user("ada"))];
        let settings = Settings { admins, ..Settings::default() };
        let commands = Arc::new(Commands::new(Arc::clone(&store), ambient, settings));
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(ear).listen(commands, stop.clone()));
        until("people are heard", live::PATIENCE, async || ear.hearing() == Hearing::Yes).await;
        Self { store, _engine: engine, stop }
    }
}

/// Two hundred jobs that print, each in a conversation of its own, on one platform.
async fn busy(on: &Limited<'_>, store: Arc<dyn Store>) {
    let (stage, name) = (on.stage, on.stage.name());
    let desk = Desk::open(stage, &on.ear, store).await;
    let mut sprites = Vec::new();
    for n in 0..BUSY {
        let line = format!("/od-run --agent command --name job{n} count");
        stage.say("ada", &(on.channel)(n), &line).await;
    }
    for n in 0..BUSY {
        let name = format!("job{n}");
        let made = async || matches!(desk.store.get(Kind::Job, &name).await, Ok(Some(_)));
        until("the job is there", live::PATIENCE, made).await;
        sprites.push(sprite(&desk, &name).await);
    }
    let (begin, mut printed) = (Instant::now(), 0_u64);
    while begin.elapsed() < BUSY_FOR {
        let round = Instant::now();
        printed += 1;
        let chunk = Chunk::pack(format!("line {printed}\n").as_bytes(), false);
        for sprite in &sprites {
            let body = EventBody::Log { stream: Stream::Stdout, chunk: chunk.clone() };
            print(&desk, sprite, printed, body).await;
        }
        tokio::time::sleep(PRINTS_EVERY.saturating_sub(round.elapsed())).await;
    }
    let ended = Instant::now();
    for (n, sprite) in sprites.iter().enumerate() {
        let reason = ExitReason::Completed;
        let exit = Exit { code: Some(0), signal: None, reason, message: String::new() };
        print(&desk, sprite, printed + 1, EventBody::Exit(exit)).await;
        end(&desk, &format!("job{n}")).await;
    }
    let last = format!("line {printed}\n");
    let whole = async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for n in 0..BUSY {
            let shown = stage.shown(&(on.channel)(n)).await;
            let text: String = shown.iter().map(|message| message.text.as_str()).collect();
            if !text.contains(&last) || !text.contains(&format!("job{n} succeeded")) {
                return false;
            }
        }
        true
    };
    until("all answers stand whole", WHOLE_WITHIN, whole).await;
    let (whole_after, took) = (ended.elapsed(), begin.elapsed());
    let counts = (on.calls)();
    let all: usize = counts.values().sum();
    let refused: usize =
        counts.iter().filter(|((_, refused), _)| *refused).map(|(_, count)| count).sum();
    println!(
        "{BUSY} conversations busy for {} s on {name}: {all} calls, {refused} answered 429 \
         ({:.2} %); all answers whole {:.0} s after the last line",
        BUSY_FOR.as_secs(),
        100.0 * refused as f64 / all as f64,
        whole_after.as_secs_f64()
    );
    let of_kind = counts.get(&(on.kind.to_owned(), false)).copied().unwrap_or_default();
    let allowed = on.a_minute as f64 * took.as_secs_f64() / 60.0;
    println!(
        "  {} used: {of_kind} of the {allowed:.0} that {name} allows in that time ({:.0} %); {:.1} \
         calls a conversation, where {LEAST} would show its end alone",
        on.kind,
        100.0 * of_kind as f64 / allowed,
        all as f64 / BUSY as f64
    );
    for ((kind, refused), count) in counts {
        println!("  {kind}{}: {count}", if refused { " refused with 429" } else { "" });
    }
}

/// All platforms, or one.
async fn all_busy(root: &Path, wants: impl Fn(&str) -> bool) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = || -> Arc<dyn Store> { MemoryStore::new() };
    let files = || Arc::new(Files::open(root.join("files")).unwrap());
    if wants("slack") {
        let fake = FakeSlack::start().await;
        let limits = SLACK_LIMITS.map(|(method, most)| (method.to_owned(), most));
        fake.world().faults.per_minute = limits.into();
        let settings = SlackSettings::from_environment(&fake.env()).unwrap();
        let ear = Slack::new(settings, files(), Ambient::real(), FAST).unwrap();
        let calls = || {
            let mut counts = BTreeMap::new();
            for call in &fake.world().calls {
                *counts.entry((call.method.clone(), call.status == 429)).or_default() += 1;
            }
            counts
        };
        let (kind, a_minute) = ("chat.update", 50);
        let channel = |n| format!("C{n}");
        busy(&Limited { stage: &fake, ear, channel, calls: &calls, kind, a_minute }, store()).await;
    }
    if wants("discord") {
        let fake = discord::Discord::open().await;
        fake.fault(|faults| faults.buckets = true);
        let (store, clock) = (store(), Ambient::real().clock);
        let settings = DiscordSettings::read(&fake.env()).unwrap();
        let ear = Discord::new(settings, files(), Arc::clone(&store), clock).unwrap();
        let calls = || {
            let all = discord::Discord::calls(&fake);
            let refused = fake.too_many();
            let call = |refused| ("a call of the bot's".to_owned(), refused);
            let answers = all.iter().filter(|call| call.contains(" interactions/")).count();
            BTreeMap::from([
                (("an answer to an interaction".to_owned(), false), answers),
                (call(false), all.len() - answers - refused),
                (call(true), refused),
            ])
        };
        let (kind, a_minute) = ("a call of the bot's", 50 * 60);
        let channel = |n| format!("c{n}");
        busy(&Limited { stage: &fake, ear, channel, calls: &calls, kind, a_minute }, store).await;
    }
    if wants("teams") {
        let fake = teams::Fake::start().await;
        fake.state().limits = Some(teams::limits::Limits::default());
        let (store, ambient) = (store(), Ambient::real());
        let settings = TeamsSettings::from_environment(&fake.env()).unwrap();
        let ear = Teams::new(settings, Arc::clone(&store), files(), ambient).unwrap();
        let calls = || {
            let state = fake.state();
            let call = |refused| ("a call of the app's".to_owned(), refused);
            let refused = state.too_many;
            let made = state.posts + state.edits - refused;
            BTreeMap::from([(call(false), made), (call(true), refused)])
        };
        let (kind, a_minute) = ("a call of the app's", teams::limits::TENANT.0 * 60);
        let channel = |n| format!("a:busy-{n}");
        busy(&Limited { stage: &fake, ear, channel, calls: &calls, kind, a_minute }, store).await;
    }
}

async fn apply(desk: &Desk, op: Op) {
    let now = Ambient::real().clock.now();
    desk.store.apply(Transaction::at(now).with(op)).await.expect("the store takes it");
}

async fn job(desk: &Desk, name: &str) -> Job {
    let job = desk.store.get(Kind::Job, name).await.expect("the store answers");
    job.and_then(AnyObject::into_job).expect("the job is there")
}

/// Does what the Job's controller would.
async fn sprite(desk: &Desk, name: &str) -> String {
    let job = job(desk, name).await;
    let uid = format!("{}-1", job.metadata.uid);
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
        attempt: 1,
        running: true,
        run: 1,
        stop: None,
    };
    let mut sprite = Sprite::new(format!("{name}-abcdef-1"), spec);
    sprite.metadata.uid.clone_from(&uid);
    sprite.metadata.owner_references.push(OwnerReference {
        api_version: open_dispatch::resource::API_VERSION.into(),
        kind: Kind::Job,
        name: job.metadata.name.clone(),
        uid: job.metadata.uid,
        controller: true,
    });
    apply(desk, Op::Create(sprite.into())).await;
    uid
}

async fn print(desk: &Desk, sprite: &str, seq: u64, body: EventBody) {
    let events = vec![Event { seq, at: Timestamp::UNIX_EPOCH, body }];
    apply(desk, Op::Output { sprite_uid: sprite.to_owned(), run: 1, events }).await;
}

async fn end(desk: &Desk, name: &str) {
    let mut job = job(desk, name).await;
    let now = Ambient::real().clock.now();
    job.status.conditions.set("Complete", ConditionStatus::True, "Succeeded", "", 1, now);
    job.status.phase = "Succeeded".to_owned();
    job.status.exit_code = Some(0);
    job.status.completion_time = Some(now);
    let expect = Expect::SameVersion;
    apply(desk, Op::Write { object: job.into(), part: Part::Status, expect }).await;
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // Cargo's test mode only asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let wants = |name: &str| {
        let mut named = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
        let first = named.next();
        first.is_none_or(|first| first == name) || named.any(|argument| argument == name)
    };
    let root = tempfile::tempdir().expect("a temporary directory");
    let root = root.path();
    if wants("latency") {
        line_to_prompt(root).await;
    }
    if wants("memory") {
        connected(root, &FakeSlack::start().await).await;
        connected(root, &discord::Discord::open().await).await;
        connected(root, &teams::Fake::start().await).await;
    }
    if wants("busy") {
        let named: Vec<String> = std::env::args().skip(1).collect();
        let some = ["slack", "discord", "teams"].iter().any(|one| named.iter().any(|it| it == one));
        let wants = |name: &str| !some || named.iter().any(|it| it == name);
        all_busy(root, wants).await;
    }
}
