//! Promise 1: kill -9 the server at any instant, and nothing is lost, doubled or reordered.
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]

use std::time::Duration;

#[path = "support/chance.rs"]
mod chance;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod live;

use chance::{Chance, seed};
use live::Live;
use serde_json::{Value, json};

/// How many sprites print at once.
const SPRITES: usize = 20;
/// How many lines each prints.
const LINES: usize = 150;
/// How often the server is killed while they do.
const KILLS: usize = 12;

fn is_over(job: &Value) -> bool {
    matches!(
        job["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed" | "TimedOut" | "Cancelled")
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_arrives_once_and_in_order_and_every_exit_code_once() {
    let seed = seed();
    let mut chance = Chance(seed);
    let home = tempfile::tempdir().expect("a temporary directory");
    let data = home.path().join("data");
    std::fs::create_dir(&data).expect("a data directory");
    let starts = home.path().join("starts");
    std::fs::create_dir(&starts).expect("a directory for the agents' own account");
    let mut server = Live::start(&data, &["--max-sprites", "32"], &[]).await;

    for n in 0..SPRITES {
        // The agent notes its own start outside of our books, so that a doubled one shows. It
        // leaves a grandchild in another session behind, so that a leaked one shows.
        let task = format!(
            "echo $$ >> {starts}/job-{n}; setsid sleep 600 & \
             i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo \"job-{n} line $i\"; sleep 0.02; done; \
             exit {n}",
            starts = starts.display(),
        );
        let spec = json!({
            "task": task,
            "agent": {"command": {}},
            "runtime": {"local": {"workdir": home.path()}},
        });
        // Now and then the server is killed between two commands, too: the request is sent
        // again with the same id, as a chat platform does.
        server.create_job(&format!("request-{n}"), &format!("job-{n}"), spec.clone()).await;
        if n % 7 == 3 {
            server.kill_nine();
            server.up().await;
            server.create_job(&format!("request-{n}"), &format!("job-{n}"), spec).await;
        }
    }
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(chance.below(400))).await;
        server.kill_nine();
        tokio::time::sleep(Duration::from_millis(chance.below(200))).await;
        server.up().await;
    }

    for n in 0..SPRITES {
        let job = server.wait_for(&format!("jobs/job-{n}"), "an end", is_over).await;
        let status = &job["status"];
        let expected = if n == 0 { "Succeeded" } else { "Failed" };
        assert_eq!(status["phase"], expected, "job-{n}: {status:#}");
        assert_eq!(status["exitCode"], n, "job-{n}: {status:#}");
        assert_eq!(status["attempts"], 1, "job-{n}: {status:#}");

        let printed = String::from_utf8(server.bytes(&format!("jobs/job-{n}/log")).await)
            .expect("what it printed is text");
        let wanted: String = (1..=LINES).map(|i| format!("job-{n} line {i}\n")).collect();
        assert!(printed == wanted, "job-{n} printed otherwise:\n{printed}");

        let events = server.bytes(&format!("jobs/job-{n}/log?format=events")).await;
        let exits = String::from_utf8(events)
            .expect("events are text")
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line is an event"))
            .filter(|event| event["type"] == "exit")
            .count();
        assert_eq!(exits, 1, "job-{n} reported its exit {exits} times");
        let started = live::lines(&starts.join(format!("job-{n}")));
        assert_eq!(started.len(), 1, "job-{n} was started as processes {started:?}");
    }

    let sprites = server.get("sprites").await;
    let sprites = sprites["items"].as_array().expect("a list").clone();
    assert_eq!(sprites.len(), SPRITES, "one sprite for each job");
    for sprite in &sprites {
        let uid = sprite["metadata"]["uid"].as_str().expect("a uid");
        let left = Live::marked_processes(uid);
        assert!(left.is_empty(), "left behind: {left:?}");
        let name = sprite["metadata"]["name"].as_str().expect("a name");
        server
            .wait_for(&format!("sprites/{name}"), "no finalizer", |sprite| {
                sprite["metadata"].get("finalizers").is_none_or(|list| list == &json!([]))
            })
            .await;
    }
    let deadline = tokio::time::Instant::now() + live::PATIENCE;
    while !server.reporters().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "reporters left: {:?}", server.reporters());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // Converged: one more start, with one more reconcile of everything, writes nothing.
    let before = server.get("jobs").await["metadata"]["resourceVersion"].clone();
    server.kill_nine();
    server.up().await;
    server.wait_for("jobs/job-0", "still there", is_over).await;
    let after = server.get("jobs").await["metadata"]["resourceVersion"].clone();
    assert_eq!(before, after, "a converged store was written to");
}
