//! Sprites on Fly: a storm of Jobs at what Fly's limits allow, and ten thousand Agents asleep.
//!
//! `cargo bench --bench fly` prints each figure, `-- storm` or `-- asleep` one of them. The server is
//! the real binary; the cloud is the fake Machines API, with Fly's published limits and the troubles
//! that were seen there. In the storm each machine is a real process tree with the real reporter.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

#[path = "fly/asleep.rs"]
mod asleep;
#[path = "../tests/support/fly/live.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod cloud;
#[path = "../tests/support/live.rs"]
#[expect(dead_code, reason = "each user takes a part of the support")]
mod live;
#[path = "fly/storm.rs"]
mod storm;

use std::{collections::BTreeMap, path::Path};

use open_dispatch::dev_fly::CallRecord;

/// What a bar says of a figure.
fn verdict(met: bool) -> &'static str {
    if met { "within the bar" } else { "MISSES the bar" }
}

/// How many calls of each kind, for people.
fn by_action<'a>(calls: impl IntoIterator<Item = &'a CallRecord>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls {
        *counts.entry(call.action.to_string()).or_default() += 1;
    }
    let told: Vec<String> = counts.iter().map(|(action, n)| format!("{n} {action}")).collect();
    if told.is_empty() { "none".into() } else { told.join(", ") }
}

/// A figure of a process from `/proc/PID/status`, in MiB.
fn mib(pid: u32, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

/// The processor time that a process has used, in seconds.
fn cpu(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|it| it.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // Cargo's test mode only asks whether it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let chosen: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|it| it == name);
    // Beside the build, and not where files may live in memory.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let stage = |name: &str| {
        let path = place.path().join(name);
        std::fs::create_dir(&path).expect("a directory");
        path
    };
    if wants("storm") {
        storm::storm(&stage("storm")).await;
    }
    if wants("asleep") {
        asleep::asleep(&stage("asleep")).await;
    }
}

/// Waits until something holds; answers whether it came to that in time.
async fn until(patience: std::time::Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    while !holds().await {
        if start.elapsed() >= patience {
            return false;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    true
}

/// How many lines a file has.
fn lines(path: &Path) -> Vec<String> {
    live::lines(path)
}
