//! A turn of a warm OpenCode server against a process per turn: what each costs beside the model.
//! The model is a fake on loopback that answers at once, so that what is measured is the CLI and
//! the driver.
//!
//! `cargo bench --bench opencode_warm`

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../tests/support/desk.rs"]
mod desk;
#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../tests/support/fake_model/mod.rs"]
mod fake_model;
#[path = "../tests/support/opencode.rs"]
mod opencode;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use desk::Desk;
use sprite_reporter::wire::AgentSpec;

/// How often each way is taken, in turns, so that a busy moment of the machine hits both.
const ROUNDS: usize = 7;
/// The most that a warm turn may cost, as a share of a turn with a process of its own.
const BAR: f64 = 0.1;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let Some(binary) = opencode::binary() else { return };
    let model = fake_model::FakeModel::start().await;
    let desk = opencode::desk(&binary, model.url());
    let mut run = desk.start();
    run.turn("first", "hello").await;

    let cold = opencode::desk(&binary, model.url());
    one_shot(&cold).await;
    let (mut warm_times, mut cold_times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let start = now();
        run.turn(&round.to_string(), "hello").await;
        warm_times.push(start.elapsed());
        let start = now();
        one_shot(&cold).await;
        cold_times.push(start.elapsed());
    }
    run.stop().await;

    let (warm, cold) = (median(&mut warm_times), median(&mut cold_times));
    let ratio = warm.as_secs_f64() / cold.as_secs_f64();
    println!("turn of a warm server    {:>8.1} ms (median of {ROUNDS})", millis(warm));
    println!("turn with its own process{:>8.1} ms (median of {ROUNDS})", millis(cold));
    println!("ratio                    {ratio:>8.3}    (bar {BAR}: {})", verdict(ratio));
}

/// One turn as `opencode run` takes it, in the session of before.
async fn one_shot(desk: &Desk) {
    let spec = desk.spec.clone();
    let work = move || {
        let AgentSpec::Opencode { path: Some(path), .. } = &spec.agent else { return };
        let output = Command::new(path)
            .args(["run", "--format", "json", "--continue", "hello"])
            .env_clear()
            .envs(spec.env.iter().map(|variable| (&variable.name, &variable.value)))
            .current_dir(&spec.workdir)
            .stdin(Stdio::null())
            .output()
            .expect("OpenCode runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("echo: hello"), "the peer answers too: {said}");
    };
    tokio::task::spawn_blocking(work).await.expect("the peer runs");
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
