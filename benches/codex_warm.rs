//! A turn of a warm Codex session, by its ACP adapter, against `codex exec` per turn: what each
//! costs beside the model, which is a fake on loopback that answers at once.
//!
//! `cargo bench --bench codex_warm`

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../tests/support/acp.rs"]
mod acp;
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

/// How often each way is taken, in turns, so that a busy moment of the machine hits both.
const ROUNDS: usize = 15;
/// The most that a warm turn may cost, as a share of a turn with a process of its own. Nearly all
/// of it is Codex's own: it takes a twentieth of a second and more for the shortest turn.
const BAR: f64 = 0.5;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let model = fake_model::FakeModel::start().await;
    let Some(desk) = acp::codex(model.url()) else { return };
    let Some(peer) = acp::agent("@openai/codex/bin/codex.js") else { return };
    let mut run = desk.start();
    run.turn("first", "hello").await;
    let Some(cold) = acp::codex(model.url()) else { return };
    one_shot(&cold, &peer).await;

    let (mut warm_times, mut cold_times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let start = now();
        run.turn(&round.to_string(), "hello").await;
        warm_times.push(start.elapsed());
        let start = now();
        one_shot(&cold, &peer).await;
        cold_times.push(start.elapsed());
    }
    run.stop().await;

    let (warm, cold) = (median(&mut warm_times), median(&mut cold_times));
    println!("turn of a warm session   {:>8.1} ms (median of {ROUNDS})", millis(warm));
    println!("turn with its own process{:>8.1} ms (median of {ROUNDS})", millis(cold));
    let ratio = warm.as_secs_f64() / cold.as_secs_f64();
    println!("ratio                    {ratio:>8.3}    (bar {BAR}: {})", verdict(ratio));
}

/// One turn as `codex exec` takes it.
async fn one_shot(desk: &Desk, codex: &[String]) {
    let (spec, codex) = (desk.spec.clone(), codex.to_owned());
    let work = move || {
        let output = Command::new(&codex[0])
            .args(&codex[1..])
            .args(["exec", "--json", "--skip-git-repo-check", "hello"])
            .env_clear()
            .envs(spec.env.iter().map(|variable| (&variable.name, &variable.value)))
            .current_dir(&spec.workdir)
            .stdin(Stdio::null())
            .output()
            .expect("codex runs");
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
