//! A hundred Jobs at once, on a bad day.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use open_dispatch::{
    ambient::between,
    dev_fly::{DevFly, LostAnswer, Trouble, call::Action},
};
use serde_json::json;

use crate::{by_action, cloud::Cloud, live::Live, mib, until, verdict};

/// How many Jobs.
const JOBS: usize = 100;
/// One of so many creates has its answer lost: the first when half of them were sent, then always
/// after as many more; in turns of what was done and of what was not.
const LOST_ONE_OF: usize = 20;
/// So many of a hundred answers to other writes are lost, half of them of what was done.
const LOST_PERCENT: u8 = 5;
/// How far lists lie behind the truth.
const LIST_LAG: Duration = Duration::from_secs(10);
/// How long a host fetches an image, and how long a machine boots: what was seen on Fly.
const PULL: Duration = Duration::from_secs(6);
const BOOT: Duration = Duration::from_secs(1);
/// The time over what the limits allow.
const BAR: f64 = 1.1;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(400);

/// Where a Job's agent writes when it began, a line each time.
fn word(stage: &Path, n: usize) -> PathBuf {
    stage.join("words").join(n.to_string())
}

fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

async fn ended(server: &Live) -> BTreeMap<String, usize> {
    let jobs = server.get("jobs").await;
    let mut phases = BTreeMap::new();
    for job in jobs["items"].as_array().into_iter().flatten() {
        let phase = job["status"]["phase"].as_str().unwrap_or("none").to_owned();
        *phases.entry(phase).or_default() += 1;
    }
    phases
}

/// Loses answers to creates, evenly over the storm, until it is dropped.
async fn lose(fly: &DevFly) {
    let mut lost = 0;
    loop {
        let sent = fly.calls().iter().filter(|call| call.action == Action::Create).count();
        if sent >= LOST_ONE_OF / 2 + LOST_ONE_OF * lost {
            let answer = LostAnswer::ALL[lost % LostAnswer::ALL.len()];
            let trouble = Trouble::Lost { committed: lost % 2 == 0, answer };
            fly.faults().once(Action::Create, trouble);
            lost += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub async fn storm(stage: &Path) {
    let data = stage.join("data");
    std::fs::create_dir(stage.join("words")).expect("a directory");
    let cloud = Cloud::new(stage, &data).await;
    cloud.fly.faults().habits(|habits| (habits.pull, habits.boot) = (PULL, BOOT));
    let mut told = cloud.fly.lines();
    let lost = tokio::spawn(async move {
        let (mut done, mut not_done) = (0_usize, 0_usize);
        loop {
            match told.recv().await {
                Ok(line) if line.text.ends_with("done, and the answer lost") => done += 1,
                Ok(line) if line.text.ends_with("lost, and not done") => not_done += 1,
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return (done, not_done),
                _ => {}
            }
        }
    });
    let server = cloud.server(&data, &[("OPEN_DISPATCH_MAX_MACHINES", "200")]).await;
    cloud.fly.faults().set(|switches| {
        switches.list_lag = LIST_LAG;
        switches.lost_percent = LOST_PERCENT;
        let others = Action::ALL_WRITES.into_iter().filter(|it| *it != Action::Create);
        switches.lost_actions = others.collect();
    });

    let (begin, begin_ns) = (Instant::now(), now_ns());
    let posts = (0..JOBS).map(|n| {
        let file = word(stage, n);
        let spec = json!({
            "task": format!("date +%s%N >> {}", file.display()),
            "agent": {"command": {}}, "runtime": {"fly": {}}, "timeout": "10m",
        });
        let server = &server;
        async move {
            server.create_job(&n.to_string(), &format!("storm-{n}"), spec).await;
        }
    });
    futures::future::join_all(posts).await;
    let posted = begin.elapsed();
    let all = async || ended(&server).await.get("Succeeded") == Some(&JOBS);
    let came = tokio::select! {
        came = until(PATIENCE, all) => came,
        () = lose(&cloud.fly) => false,
    };
    if !came {
        println!("storm: MISSES the bar: {:?} after {PATIENCE:?}", ended(&server).await);
        println!("{}", server.log());
        return;
    }
    let over = begin.elapsed();
    let is_empty = async || cloud.fly.machines().is_empty() && cloud.fly.guests() == 0;
    until(Duration::from_secs(120), is_empty).await;
    let clean = begin.elapsed();

    let words: Vec<Vec<String>> = (0..JOBS).map(|n| crate::lines(&word(stage, n))).collect();
    let twice = words.iter().filter(|lines| lines.len() != 1).count();
    let last = words.iter().flatten().filter_map(|line| line.trim().parse::<u128>().ok()).max();
    let nanos = last.unwrap_or_default().saturating_sub(begin_ns);
    let took = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).as_secs_f64();
    let boots = cloud.fly.boots();
    // Its boot comes too late to claim anything, and no agent lives in it.
    let in_vain = boots.len().saturating_sub(JOBS);
    let left = cloud.fly.machines().len() + cloud.fly.volumes().len() + cloud.fly.guests();
    let calls = cloud.fly.calls();
    let refused = calls.iter().filter(|call| call.status == Some(429)).count();
    let creates: Vec<_> = calls.iter().filter(|call| call.action == Action::Create).collect();
    let span = match (creates.first(), creates.last()) {
        (Some(first), Some(last)) => between(first.at, last.at).as_secs_f64(),
        _ => 0.0,
    };
    let paced = creates.len().saturating_sub(3) as f64;
    let boot = (PULL + BOOT).as_secs_f64();
    let allowed = paced + LIST_LAG.as_secs_f64() + boot;
    let ratio = took / allowed;
    let pid = server.pid();
    println!(
        "{JOBS} Jobs at once on Fly, one of {LOST_ONE_OF} answers lost, lists {} s late, boots of {boot} s:",
        LIST_LAG.as_secs()
    );
    println!(
        "  agents doubled or missing {twice}, leaked {left}, answered with 429: {refused}, machines made in \
         vain: {in_vain} (bar 0)"
    );
    println!(
        "  first post to last agent at work {took:.1} s; {} creates sent allow {paced} s, with list \
         lag and boot {allowed} s: ratio {ratio:.3} (bar {BAR}): {}",
        creates.len(),
        verdict(twice + in_vain + left + refused == 0 && ratio <= BAR),
    );
    println!(
        "  without the list's lag in what is allowed: ratio {:.3}; first create to last {span:.1} s; \
         all posted after {:.1} s, all ended {:.1} s, nothing left {:.1} s",
        took / (paced + boot),
        posted.as_secs_f64(),
        over.as_secs_f64(),
        clean.as_secs_f64(),
    );
    println!("  calls: {}; server's peak RSS {:.1} MiB", by_action(&calls), mib(pid, "VmHWM:"));
    for violation in cloud.fly.violations() {
        println!("  not in Fly's schema: {violation}");
    }
    drop((server, cloud));
    if let Ok((done, not_done)) = lost.await {
        println!("  answers lost: {done} of what was done, {not_done} of what was not");
    }
}
