//! Conversations as a person feels them: how long until an agent hears a message, what idle agents
//! cost awake and asleep, and how soon the first message is answered after a restart.
//!
//! `cargo bench --bench conversations` prints each figure. The agents are shells (`command`), so that
//! what is measured is ours; memory is measured with Claude Code as well, where it is installed.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "../tests/support/claude_binary.rs"]
mod claude_binary;
#[path = "../tests/support/fake_model/mod.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod fake_model;
#[path = "../tests/support/live.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod live;

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fake_model::FakeModel;
use live::Live;
use serde_json::{Value, json};

/// How many messages are timed.
const MESSAGES: usize = 300;
/// How many agents idle.
const IDLE: usize = 10;
/// How many agents there are when the server is started again.
const AGENTS: usize = 100;
/// How often the restart is measured; the median counts.
const RESTARTS: usize = 5;

fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

async fn create(server: &Live, name: &str, agent: &Value, workdir: &Path, idle: &str) {
    let object = json!({
        "apiVersion": "opendispatch.dev/v1alpha1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {
            "agent": agent,
            "runtime": {"local": {"workdir": workdir}},
            "permissions": {"mode": "bypass"},
            "idleTimeout": idle,
        },
    });
    let (code, answer) = server.post(&format!("agents?requestId={name}"), object).await;
    assert_eq!(code, 201, "{answer}");
}

async fn phase(server: &Live, name: &str, phase: &str) {
    let is = |agent: &Value| agent["status"]["phase"] == phase;
    server.wait_for(&format!("agents/{name}"), phase, is).await;
}

/// Says something, and waits for its outcome.
async fn say(server: &Live, name: &str, request: &str, text: &str) {
    let body = json!({"requestId": request, "text": text});
    let (code, turn) = server.post(&format!("agents/{name}/turns"), body).await;
    assert_eq!(code, 201, "{turn}");
    let id = turn["id"].as_str().unwrap_or_default();
    let path = format!("agents/{name}/turns/{id}?wait=30");
    loop {
        let turn = server.get(&path).await;
        match turn["state"].as_str() {
            Some("Succeeded") => return,
            Some("Queued" | "Sent" | "Running") => {}
            _ => panic!("{turn:#}"),
        }
    }
}

fn percentile(sorted: &[f64], of: f64) -> f64 {
    sorted[((sorted.len() as f64 - 1.0) * of).round() as usize]
}

/// From just before the message is posted to the first thing that the agent does.
async fn message_to_prompt(stage: &Path) {
    let server = Live::start(&stage.join("latency"), &[], &[]).await;
    create(&server, "bot", &json!({"command": {}}), stage, "10m").await;
    phase(&server, "bot", "Idle").await;
    let heard = stage.join("heard");
    let text = format!("date +%s%N >> {}", heard.display());
    let mut posted = Vec::new();
    for n in 0..MESSAGES {
        posted.push(now_ns());
        say(&server, "bot", &format!("m{n}"), &text).await;
    }
    let mut times: Vec<f64> = live::lines(&heard)
        .iter()
        .zip(posted)
        .filter_map(|(line, posted)| {
            let heard: u128 = line.trim().parse().ok()?;
            Some(heard.saturating_sub(posted) as f64 / 1e6)
        })
        .collect();
    assert_eq!(times.len(), MESSAGES, "each message is heard once");
    times.sort_by(f64::total_cmp);
    println!(
        "message to prompt, warm, shell's own start included: p50 {:.1} ms, p99 {:.1} ms",
        percentile(&times, 0.5),
        percentile(&times, 0.99)
    );
}

/// Proportional memory of processes, in MiB.
fn memory(pids: impl IntoIterator<Item = u32>) -> f64 {
    let of = |pid: u32| -> u64 {
        std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    pids.into_iter().map(of).sum::<u64>() as f64 / 1024.0
}

async fn idle_agents(stage: &Path, what: &str, agent: &Value, env: &[(&str, &str)]) {
    let data = stage.join(format!("idle-{what}"));
    let server = Live::start(&data, &[], env).await;
    let names: Vec<String> = (0..IDLE).map(|n| format!("bot-{n}")).collect();
    for name in &names {
        create(&server, name, agent, stage, "10m").await;
    }
    let mut sprites = Vec::new();
    for name in &names {
        phase(&server, name, "Idle").await;
        say(&server, name, &format!("hello-{name}"), "true").await;
        let agent = server.get(&format!("agents/{name}")).await;
        let sprite = agent["status"]["sprite"].as_str().unwrap_or_default().to_owned();
        let sprite = server.get(&format!("sprites/{sprite}")).await;
        sprites.push(sprite["metadata"]["uid"].as_str().unwrap_or_default().to_owned());
    }
    let pids = || sprites.iter().flat_map(|uid| Live::marked_processes(uid)).map(|(pid, _)| pid);
    let awake = memory(pids().chain(server.reporters()));
    for name in &names {
        server.patch(&format!("agents/{name}"), json!({"spec": {"idleTimeout": "1s"}})).await;
    }
    for name in &names {
        phase(&server, name, "Asleep").await;
    }
    while !server.reporters().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{IDLE} idle agents ({what}), proportional memory: awake {awake:.1} MiB, asleep {:.1} MiB; \
         the server {:.1} MiB",
        memory(pids()),
        memory([server.pid()])
    );
}

/// From the start of a server that has a hundred agents asleep to the first answer.
async fn restart(stage: &Path) {
    let data = stage.join("restart");
    let mut server = Live::start(&data, &["--max-sprites", "200"], &[]).await;
    for n in 0..AGENTS {
        create(&server, &format!("bot-{n}"), &json!({"command": {}}), stage, "1s").await;
    }
    for n in 0..AGENTS {
        phase(&server, &format!("bot-{n}"), "Asleep").await;
    }
    let mut times = Vec::new();
    for n in 0..RESTARTS {
        phase(&server, "bot-50", "Asleep").await;
        server.kill_nine();
        let begin = Instant::now();
        server.up().await;
        say(&server, "bot-50", &format!("morning-{n}"), "true").await;
        times.push(begin.elapsed());
    }
    times.sort();
    println!(
        "restart with {AGENTS} agents asleep, kill -9 to the first answered turn (which wakes one): \
         {:.0} ms",
        times[RESTARTS / 2].as_secs_f64() * 1000.0
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // Cargo's test mode only asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let stage = tempfile::tempdir().expect("a temporary directory");
    let stage = stage.path();
    for name in ["latency", "idle-shell", "idle-claude", "restart", "home"] {
        std::fs::create_dir(stage.join(name)).expect("a directory");
    }
    message_to_prompt(stage).await;
    idle_agents(stage, "shell", &json!({"command": {}}), &[]).await;
    match claude_binary::binary() {
        None => println!("skipped: Claude Code is not installed; run tests/agents/install"),
        Some(binary) => {
            let model = FakeModel::start().await;
            let home = stage.join("home").to_string_lossy().into_owned();
            let env = [
                ("HOME", home.as_str()),
                ("ANTHROPIC_BASE_URL", model.url()),
                ("ANTHROPIC_API_KEY", "bench"),
            ];
            let agent = json!({"claude": {"path": binary}});
            idle_agents(stage, "claude", &agent, &env).await;
        }
    }
    restart(stage).await;
}
