//! The server and its sprites as whole processes: start, memory, 200 sprites, kill -9.
//!
//! `cargo bench --bench sprites` prints each figure. With `ORIGINAL_DIR` naming a checkout of
//! the original (with its `npm install` done), the figures that have a peer there are measured
//! in the same run and printed as ratios; without it those ratios are said to be skipped.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How many sprites live at once.
const SPRITES: usize = 200;
/// How often a start is measured; the median counts.
const STARTS: usize = 5;
/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A child that dies with the benchmark.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
        .port()
}

/// One HTTP request on a connection of its own; the status and the body.
fn http(
    port: u16,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Ok((status, body))
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        if size == 0 || rest.len() < size {
            break;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn healthy(port: u16) -> Option<()> {
    (http(port, "GET", "/health", "", "").ok()?.0 == 200).then_some(())
}

/// Resident and proportional memory of a process in kB.
fn memory(pid: u32) -> (u64, u64) {
    let read = |file: &str, key: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}"))
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    (read("status", "VmRSS:"), read("smaps_rollup", "Pss:"))
}

fn serve(data: &Path, port: u16) -> Guard {
    let child = Command::new(env!("CARGO_BIN_EXE_open-dispatch"))
        .args(["serve", "--chat", "none", "--max-sprites", "400", "--data"])
        .arg(data)
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    Guard(child)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn start_to_health(mut start: impl FnMut(u16) -> Guard) -> (Duration, (u64, u64)) {
    let mut memory_at_rest = (0, 0);
    let times = (0..STARTS)
        .map(|_| {
            let port = free_port();
            let begin = Instant::now();
            let guard = start(port);
            until("/health", || healthy(port));
            let time = begin.elapsed();
            std::thread::sleep(Duration::from_millis(700));
            memory_at_rest = memory(guard.0.id());
            time
        })
        .collect();
    (median(times), memory_at_rest)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(ours: u64, theirs: u64) -> f64 {
    ours as f64 / theirs.max(1) as f64
}

fn idle_server() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (time, (rss, pss)) = start_to_health(|port| serve(&home.path().join("data"), port));
    println!("server: start to /health {:.1} ms; idle RSS {rss} kB, PSS {pss} kB", ms(time));
    let Some(original) = std::env::var_os("ORIGINAL_DIR").map(PathBuf::from) else {
        println!("server: ratio to the original skipped: ORIGINAL_DIR is not set");
        return;
    };
    let (their_time, (their_rss, their_pss)) = start_to_health(|port| {
        Guard(
            Command::new("node")
                .arg("src/sprite-bot.js")
                .current_dir(&original)
                .env("WEBHOOK_PORT", port.to_string())
                .envs([
                    ("CHAT_PROVIDER", "slack"),
                    ("FLY_API_TOKEN", "none"),
                    ("FLY_SPRITE_APP", "none"),
                    ("SPRITE_IMAGE", "none"),
                    ("SLACK_BOT_TOKEN", "xoxb-none"),
                    ("SLACK_APP_TOKEN", "xapp-none"),
                    ("SLACK_SIGNING_SECRET", "none"),
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("node starts"),
        )
    });
    println!(
        "server: the original {:.1} ms, RSS {their_rss} kB, PSS {their_pss} kB; \
         ratio start {:.3} (bar 0.1), RSS {:.3} (bar 0.333)",
        ms(their_time),
        time.as_secs_f64() / their_time.as_secs_f64(),
        ratio(rss, their_rss),
    );
}

fn token(data: &Path) -> String {
    std::fs::read_to_string(data.join("token")).unwrap_or_default().trim().to_owned()
}

/// The process ids of the reporters below a data directory.
fn reporters(data: &Path) -> BTreeSet<u32> {
    let runs = data.join("runs").to_string_lossy().into_owned();
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&runs).then_some(pid)
        })
        .collect()
}

/// How many agents have said that they run; each process says it once.
fn started(file: &Path) -> usize {
    std::fs::read_to_string(file).map(|text| text.lines().count()).unwrap_or(0)
}

fn two_hundred_sprites() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let data = home.path().join("data");
    let account = home.path().join("started");
    let port = free_port();
    let server = serve(&data, port);
    until("/ready", || (http(port, "GET", "/ready", "", "").ok()?.0 == 200).then_some(()));
    let token = token(&data);
    let begin = Instant::now();
    for n in 0..SPRITES {
        let job = json!({
            "apiVersion": "opendispatch.dev/v1alpha1",
            "kind": "Job",
            "metadata": {"name": format!("bench-{n}")},
            "spec": {
                "task": format!("echo $$ >> {}; exec sleep 600", account.display()),
                "agent": {"command": {}},
                "runtime": {"local": {"workdir": home.path()}},
                "timeout": "1h",
            },
        });
        let path = "/apis/opendispatch.dev/v1alpha1/jobs";
        let (status, body) = http(port, "POST", path, &token, &job.to_string()).expect("an answer");
        assert_eq!(status, 201, "{body}");
    }
    until("200 agents", || (started(&account) >= SPRITES).then_some(()));
    println!(
        "{SPRITES} sprites: commands sent to all agents running {:.0} ms",
        ms(begin.elapsed())
    );
    let before = reporters(&data);
    if let Some(pid) = before.first() {
        let (rss, pss) = memory(*pid);
        println!("sprite-reporter: RSS {rss} kB, PSS {pss} kB");
    }
    let (rss, pss) = memory(server.0.id());
    println!("server with {SPRITES} sprites: RSS {rss} kB, PSS {pss} kB");

    drop(server);
    let port = free_port();
    let begin = Instant::now();
    let server = serve(&data, port);
    until("/ready", || (http(port, "GET", "/ready", "", "").ok()?.0 == 200).then_some(()));
    let ready = begin.elapsed();
    // Every sprite must be seen as running again before anything may be said of doubles.
    until("200 sprites seen", || {
        let (_, body) =
            http(port, "GET", "/apis/opendispatch.dev/v1alpha1/sprites", &token, "").ok()?;
        let list: Value = serde_json::from_str(&body).ok()?;
        let running = list["items"]
            .as_array()?
            .iter()
            .filter(|sprite| sprite["status"]["phase"] == "Running")
            .count();
        (running == SPRITES).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    let after = reporters(&data);
    println!(
        "{SPRITES} sprites after kill -9 and restart: ready {:.0} ms; {} reporters, {} the same, \
         {} agents ever started (bar {SPRITES}, {SPRITES}, {SPRITES})",
        ms(ready),
        after.len(),
        after.intersection(&before).count(),
        started(&account),
    );
    drop(server);
    for pid in after {
        let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    }
    // An agent outlives a reporter that was killed; it wrote down its own process id.
    for pid in std::fs::read_to_string(&account).unwrap_or_default().lines() {
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
}

fn main() {
    idle_server();
    two_hundred_sprites();
}
