//! A turn of a warm Claude Code session against a process per turn: what each costs beside the
//! model. The model is a fake on loopback that answers at once, so that what is measured is the
//! CLI and the driver.
//!
//! `cargo bench --bench claude_warm`

#[path = "../tests/support/claude.rs"]
mod claude;
#[path = "../tests/support/claude_binary.rs"]
mod claude_binary;
#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../tests/support/desk.rs"]
mod desk;
#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../tests/support/fake_model/mod.rs"]
mod fake_model;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use desk::Desk;
use sprite_reporter::wire::{AgentSpec, EventBody};

/// How often each way is taken, in turns, so that a busy moment of the machine hits both.
const ROUNDS: usize = 15;
/// The most that a warm turn may cost, as a share of a turn with a process of its own.
const BAR: f64 = 0.1;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Some(binary) = claude_binary::binary() else { return };
    let model = fake_model::FakeModel::start().await;
    let desk = claude::desk(&binary, model.url());

    let mut run = desk.start();
    run.prompt("first", "hello").await;
    let session = run
        .event("the session", |event| match event {
            EventBody::Session { id } => Some(id.clone()),
            _ => None,
        })
        .await;
    run.ended("first").await;

    let cold = claude::desk(&binary, model.url());
    let cold_session = one_shot(&cold, None).await.expect("a session");
    assert_ne!(cold_session, session);

    let (mut warm_times, mut cold_times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let start = now();
        run.turn(&round.to_string(), "hello").await;
        warm_times.push(start.elapsed());
        let start = now();
        one_shot(&cold, Some(cold_session.clone())).await;
        cold_times.push(start.elapsed());
    }
    let memory = desk.pids().into_iter().filter_map(resident).sum::<u64>();
    run.stop().await;

    let (warm, cold) = (median(&mut warm_times), median(&mut cold_times));
    let ratio = warm.as_secs_f64() / cold.as_secs_f64();
    println!("turn of a warm session   {:>8.1} ms (median of {ROUNDS})", millis(warm));
    println!("turn with its own process{:>8.1} ms (median of {ROUNDS})", millis(cold));
    println!("memory of a warm session {memory:>8} MiB resident after {} turns", ROUNDS + 1);
    println!("ratio                    {ratio:>8.3}    (bar {BAR}: {})", verdict(ratio));
}

/// One turn as `claude -p` takes it, resuming the session where there is one. Returns its id.
async fn one_shot(desk: &Desk, session: Option<String>) -> Option<String> {
    let spec = desk.spec.clone();
    let work = move || {
        let AgentSpec::Claude { path: Some(path), .. } = &spec.agent else { return None };
        let mut command = Command::new(path);
        command.args(["-p", "hello", "--output-format", "json"]);
        if let Some(session) = &session {
            command.args(["--resume", session]);
        }
        let output = command
            .env_clear()
            .envs(spec.env.iter().map(|variable| (&variable.name, &variable.value)))
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .current_dir(&spec.workdir)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        assert_eq!(result["result"], "echo: hello", "the peer answers too");
        result["session_id"].as_str().map(str::to_owned)
    };
    tokio::task::spawn_blocking(work).await.expect("the peer runs")
}

/// The resident memory of a process in MiB, where the kernel tells it.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
fn now() -> Instant {
    Instant::now()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn verdict(ratio: f64) -> &'static str {
    if ratio <= BAR { "held" } else { "MISSED" }
}
