//! Chat as a person feels it: how long from a line in a channel until a warm agent acts on it, what
//! a server with one platform connected holds, and what becomes of two hundred busy conversations
//! at a platform's limits.
//!
//! `cargo bench --bench chat` prints each figure; `cargo bench --bench chat -- busy` one of them.
//! The platforms are the fakes of the tests, which speak their wire on this machine, so that no
//! network is measured. For the busy conversations the fake of Slack refuses with 429 what goes past
//! Slack's published limits.
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
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use live::Live;
use open_dispatch::{
    ambient::Ambient,
    resource::{AnyObject, ConditionStatus, Job, Kind, OwnerReference, Sprite, SpriteSpec},
    store::{Expect, Op, Part, Transaction},
};
use slack::{FakeSlack, rig::Rig};
use sprite_reporter::wire::{Chunk, Event, EventBody, Exit, ExitReason, Stream};
use stage_of_chat::Stage;

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

/// Two hundred jobs that print, each in a channel of its own.
async fn busy() {
    let rig = Rig::new().await;
    let limits = SLACK_LIMITS.map(|(method, most)| (method.to_owned(), most));
    rig.fake.world().faults.per_minute = limits.into();
    let mut sprites = Vec::new();
    for n in 0..BUSY {
        let line = format!("/od-run --agent command --name job{n} count");
        rig.fake.commands("UADA", &format!("C{n}"), &line);
    }
    for n in 0..BUSY {
        let name = format!("job{n}");
        let made = async || matches!(rig.store.get(Kind::Job, &name).await, Ok(Some(_)));
        until("the job is there", live::PATIENCE, made).await;
        sprites.push(sprite(&rig, &name).await);
    }
    let (begin, mut printed) = (Instant::now(), 0_u64);
    while begin.elapsed() < BUSY_FOR {
        let round = Instant::now();
        printed += 1;
        let chunk = Chunk::pack(format!("line {printed}\n").as_bytes(), false);
        for sprite in &sprites {
            let body = EventBody::Log { stream: Stream::Stdout, chunk: chunk.clone() };
            print(&rig, sprite, printed, body).await;
        }
        tokio::time::sleep(PRINTS_EVERY.saturating_sub(round.elapsed())).await;
    }
    let ended = Instant::now();
    for (n, sprite) in sprites.iter().enumerate() {
        let reason = ExitReason::Completed;
        let exit = Exit { code: Some(0), signal: None, reason, message: String::new() };
        print(&rig, sprite, printed + 1, EventBody::Exit(exit)).await;
        end(&rig, &format!("job{n}")).await;
    }
    let last = format!("line {printed}\n");
    let whole = async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let world = rig.fake.world();
        (0..BUSY).all(|n| {
            let shown = slack::ours(&world, &format!("C{n}"));
            let text: String = shown.iter().map(|message| message.text.as_str()).collect();
            text.contains(&last) && text.contains(&format!("job{n} succeeded"))
        })
    };
    until("all answers stand whole", WHOLE_WITHIN, whole).await;
    let whole_after = ended.elapsed();
    let world = rig.fake.world();
    let mut counts: BTreeMap<(&str, u16), usize> = BTreeMap::new();
    for call in &world.calls {
        *counts.entry((call.method.as_str(), call.status)).or_default() += 1;
    }
    let refused: usize =
        counts.iter().filter(|((_, status), _)| *status == 429).map(|(_, count)| count).sum();
    println!(
        "{BUSY} conversations busy for {} s on Slack: {} calls, {refused} answered 429; all \
         answers whole {:.0} s after the last line",
        BUSY_FOR.as_secs(),
        world.calls.len(),
        whole_after.as_secs_f64()
    );
    for ((method, status), count) in counts {
        println!("  {method} {status}: {count}");
    }
}

async fn apply(rig: &Rig, op: Op) {
    let now = Ambient::real().clock.now();
    rig.store.apply(Transaction::at(now).with(op)).await.expect("the store takes it");
}

async fn job(rig: &Rig, name: &str) -> Job {
    let job = rig.store.get(Kind::Job, name).await.expect("the store answers");
    job.and_then(AnyObject::into_job).expect("the job is there")
}

/// Does what the Job's controller would.
async fn sprite(rig: &Rig, name: &str) -> String {
    let job = job(rig, name).await;
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
    apply(rig, Op::Create(sprite.into())).await;
    uid
}

async fn print(rig: &Rig, sprite: &str, seq: u64, body: EventBody) {
    let events = vec![Event { seq, at: Timestamp::UNIX_EPOCH, body }];
    apply(rig, Op::Output { sprite_uid: sprite.to_owned(), run: 1, events }).await;
}

async fn end(rig: &Rig, name: &str) {
    let mut job = job(rig, name).await;
    let now = Ambient::real().clock.now();
    job.status.conditions.set("Complete", ConditionStatus::True, "Succeeded", "", 1, now);
    job.status.phase = "Succeeded".to_owned();
    job.status.exit_code = Some(0);
    job.status.completion_time = Some(now);
    let expect = Expect::SameVersion;
    apply(rig, Op::Write { object: job.into(), part: Part::Status, expect }).await;
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
        busy().await;
    }
}
