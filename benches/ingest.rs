//! How fast durable ingest is, beside the original's webhook server, which keeps everything in
//! memory.
//!
//! `cargo bench --bench ingest` runs it. `ORIGINAL_DIR` names a checkout of the original; without
//! it, or without node, there is no ratio. `BENCH_DIR` names where the store lies (a real disk;
//! by default under `target/`), `BENCH_SECONDS` how long one measurement takes, `BENCH_ONLY` a
//! part of a measurement's name, such as `batches of 20 ours`, for a profile of it alone.
//!
//! Each server is a process of its own. The load comes from this one: raw sockets with
//! keep-alive, one connection for each sprite, one request at a time on each. Rounds alternate,
//! and the best of each side counts, so that a neighbour's noise hits both.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run says where")]

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use open_dispatch::{
    ambient::{Ambient, Clock, SystemClock},
    resource::{
        API_VERSION, AgentCli, CommandCli, FINALIZER_RUNTIME, Kind, OwnerReference, Permissions,
        RuntimeSpec, Sprite, SpriteSpec,
    },
    server::{self, Limits, State},
    store::{Op, Store as _, Transaction, sqlite::SqliteStore},
    token::SpriteTokens,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const KEY: &[u8] = b"the key of this benchmark";
/// As many sprites, and connections, as the single-line measurement has.
const SPRITES: usize = 256;
/// How many sidecars post batches at once.
const BATCHERS: usize = 64;
/// How many lines a batch has; the original's relay sends as many.
const BATCH: usize = 20;
/// What an agent prints in a line.
const LINE: &str = "test result: ok. 42 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; \
                    finished in 0.03s";
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    if let Ok(directory) = env::var("INGEST_BENCH_SERVE") {
        serve(&directory);
        return;
    }
    measure();
}

// Our server, in a process of its own.

#[tokio::main]
async fn serve(directory: &str) {
    let store = SqliteStore::open(directory.as_ref(), Ambient::real()).await.unwrap();
    let ambient = Ambient::real();
    let mut transaction = Transaction::at(ambient.clock.now());
    transaction.ops.extend((0..SPRITES).map(|n| Op::Create(sprite(n).into())));
    store.apply(transaction).await.unwrap();
    let state = State::new(store, ambient, SpriteTokens::new(KEY), "unused".to_owned());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let router = server::router(state.clone());
    let parent_is_gone = async {
        let mut rest = Vec::new();
        let _ = tokio::io::stdin().read_to_end(&mut rest).await;
    };
    server::serve(listener, router, state, Limits::default(), parent_is_gone).await.unwrap();
}

fn job(n: usize) -> String {
    format!("bench-{n}")
}

fn sprite(n: usize) -> Sprite {
    let spec = SpriteSpec {
        agent: AgentCli::Command(CommandCli::default()),
        runtime: RuntimeSpec::default(),
        task: Some("true".to_owned()),
        repo: None,
        instructions: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        timeout: None,
        idle_timeout: None,
        session: None,
        attempt: 1,
        running: true,
        run: 1,
        stop: None,
    };
    let mut sprite = Sprite::new(job(n), spec);
    sprite.metadata.uid = job(n);
    sprite.metadata.finalizers = vec![FINALIZER_RUNTIME.to_owned()];
    sprite.metadata.owner_references = vec![OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: Kind::Job,
        name: "bench".to_owned(),
        uid: "bench".to_owned(),
        controller: true,
    }];
    sprite
}

/// A server under load; it ends when its standard input does.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(command: &mut Command) -> Option<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        let port = line.trim().parse().ok();
        if port.is_none() {
            let _ = child.kill();
        }
        Some(Self { child, port: port? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

// The load.

/// What is posted, to which endpoint.
#[derive(Clone, Copy, PartialEq)]
enum Wire {
    /// `/webhooks/logs`, which both servers have.
    Logs,
    /// `/webhooks/events`, which is ours.
    Events,
}

struct Post {
    wire: Wire,
    token: String,
    job: String,
    lines: usize,
    seq: u64,
}

impl Post {
    /// The next request, written over the last.
    fn write(&mut self, request: &mut Vec<u8>) {
        // What has no numbers is the same each time; the load must not cost more than it has to.
        if self.wire == Wire::Logs && !request.is_empty() {
            return;
        }
        let mut body = String::with_capacity(200 * self.lines + 200);
        let path = match self.wire {
            Wire::Logs => {
                body.push_str("{\"jobId\":\"");
                body.push_str(&self.job);
                body.push_str("\",\"text\":\"");
                for n in 0..self.lines {
                    body.push_str(if n > 0 { "\\n" } else { "" });
                    body.push_str(LINE);
                }
                body.push_str("\"}");
                "logs"
            }
            Wire::Events => {
                let _ = std::fmt::Write::write_fmt(
                    &mut body,
                    format_args!("{{\"jobId\":\"{}\",\"run\":1,\"events\":[", self.job),
                );
                if self.seq == 0 {
                    body.push_str(
                        "{\"seq\":1,\"at\":\"2026-01-01T00:00:00Z\",\"type\":\"hello\",\"wire\":1,\
                         \"version\":\"0.1.0\",\"process\":{\"bootId\":\"b\",\"pid\":1,\
                         \"startTime\":1},\"containment\":{\"subreaper\":true,\"cgroup\":true,\
                         \"dataHidden\":true}},",
                    );
                    self.seq = 1;
                }
                for n in 0..self.lines {
                    self.seq += 1;
                    let comma = if n > 0 { "," } else { "" };
                    let _ = std::fmt::Write::write_fmt(
                        &mut body,
                        format_args!(
                            "{comma}{{\"seq\":{},\"at\":\"2026-01-01T00:00:00Z\",\"type\":\"log\",\
                             \"stream\":\"stdout\",\"text\":\"{LINE}\\n\"}}",
                            self.seq
                        ),
                    );
                }
                body.push_str("]}");
                "events"
            }
        };
        request.clear();
        let _ = write!(
            request,
            "POST /webhooks/{path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.token,
            body.len()
        );
        request.extend_from_slice(body.as_bytes());
    }
}

/// Whether an answer is there whole. Both of its forms are short.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let length = answer[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| value.trim_ascii())
    });
    match length {
        Some(digits) => {
            let length = digits.iter().fold(0, |n, digit| n * 10 + usize::from(digit - b'0'));
            answer.len() >= head + 4 + length
        }
        None => answer.ends_with(b"0\r\n\r\n"),
    }
}

#[derive(Clone, Copy)]
struct Figures {
    requests: usize,
    /// What a request costs the server, which depends less on the neighbours than its speed.
    cpu: Duration,
    lines_per_second: f64,
    p50: Duration,
    p99: Duration,
}

async fn client(port: u16, mut post: Post, until: Duration, clock: Arc<SystemClock>) -> Vec<u32> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut request, mut buffer) = (Vec::new(), vec![0; 4096]);
    let mut times = Vec::new();
    loop {
        let begin = clock.elapsed();
        if begin >= until {
            return times;
        }
        post.write(&mut request);
        stream.write_all(&request).await.unwrap();
        let mut got = 0;
        while !is_whole(&buffer[..got]) {
            let more = stream.read(&mut buffer[got..]).await.unwrap();
            assert!(more > 0, "the server hung up: {}", String::from_utf8_lossy(&buffer[..got]));
            got += more;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..got]));
        times.push(u32::try_from((clock.elapsed() - begin).as_micros()).unwrap_or(u32::MAX));
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn load(port: u16, ours: bool, wire: Wire, clients: usize, lines: usize) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = Arc::new(SystemClock);
    let seconds: u64 = env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    let length = Duration::from_secs(seconds);
    let until = clock.elapsed() + length;
    let tokens = SpriteTokens::new(KEY);
    let mut times: Vec<u32> = runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for n in 0..clients {
            let token = if ours { tokens.derive(&job(n)) } else { format!("token-{n}") };
            let post = Post { wire, token, job: job(n), lines, seq: 0 };
            running.spawn(client(port, post, until, clock.clone()));
        }
        running.join_all().await.into_iter().flatten().collect()
    });
    times.sort_unstable();
    let at = |share: f64| {
        let place = ((times.len() as f64) * share) as usize;
        Duration::from_micros(times.get(place.min(times.len() - 1)).copied().unwrap_or(0).into())
    };
    Figures {
        requests: times.len(),
        cpu: Duration::ZERO,
        lines_per_second: (times.len() * lines) as f64 / length.as_secs_f64(),
        p50: at(0.50),
        p99: at(0.99),
    }
}

// The measurement.

/// Starts a server afresh, loads it, and ends it.
fn round(side: Side, wire: Wire, clients: usize, lines: usize) -> Option<Figures> {
    let base = env::var("BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let directory = tempfile::tempdir_in(base).unwrap();
    let server = match side {
        Side::Ours => Server::start(
            Command::new(env::current_exe().unwrap()).env("INGEST_BENCH_SERVE", directory.path()),
        ),
        Side::Original => {
            let checkout = env::var("ORIGINAL_DIR").ok()?;
            let script =
                concat!(env!("CARGO_MANIFEST_DIR"), "/benches/support/original_webhooks.cjs");
            Server::start(Command::new("node").args([script, &checkout, &SPRITES.to_string()]))
        }
    }?;
    let before = cpu_time(server.child.id());
    let mut figures = load(server.port, side == Side::Ours, wire, clients, lines);
    let taken = cpu_time(server.child.id()).saturating_sub(before);
    figures.cpu = taken / u32::try_from(figures.requests.max(1)).unwrap_or(u32::MAX);
    Some(figures)
}

/// The CPU time that a process has taken so far; zero where the system does not say.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(')').next().unwrap_or_default();
    // User and system time, in ticks of 10 ms.
    let ticks = behind_name.split_whitespace().skip(11).take(2);
    Duration::from_millis(10 * ticks.filter_map(|n| n.parse::<u64>().ok()).sum::<u64>())
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Ours,
    Original,
}

/// What one fsync costs here: an appended page, and the wait until it is on disk.
fn fsync() -> (Duration, Duration) {
    let base = env::var("BENCH_DIR").unwrap_or_else(|_| env!("CARGO_TARGET_TMPDIR").to_owned());
    let mut file = tempfile::tempfile_in(base).unwrap();
    let clock = SystemClock;
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let begin = clock.elapsed();
            file.write_all(&[7; 4096]).unwrap();
            file.sync_data().unwrap();
            clock.elapsed() - begin
        })
        .collect();
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn measure() {
    let only = env::var("BENCH_ONLY").ok();
    let (fsync, slow_fsync) = fsync();
    println!("one fsync here: median {fsync:.1?}, p99 {slow_fsync:.1?}");
    if env::var_os("ORIGINAL_DIR").is_none() {
        println!("ORIGINAL_DIR is not set: the original is not measured, and there is no ratio");
    }
    for (what, clients, lines, bar) in
        [("batches of 20", BATCHERS, BATCH, 3.0), ("single lines", SPRITES, 1, 1.0)]
    {
        println!("\n{what}, {clients} connections");
        let sides = [
            ("original /webhooks/logs", Side::Original, Wire::Logs),
            ("ours     /webhooks/logs", Side::Ours, Wire::Logs),
            ("ours     /webhooks/events", Side::Ours, Wire::Events),
        ];
        let mut best: [Option<Figures>; 3] = [None; 3];
        for _ in 0..ROUNDS {
            for (best, (name, side, wire)) in best.iter_mut().zip(sides) {
                if only.as_ref().is_some_and(|only| !format!("{what} {name}").contains(only)) {
                    continue;
                }
                let figures = round(side, wire, clients, lines);
                if let Some(figures) = figures
                    && best.is_none_or(|best| figures.lines_per_second > best.lines_per_second)
                {
                    *best = Some(figures);
                }
            }
        }
        for (best, (name, ..)) in best.iter().zip(sides) {
            if let Some(figures) = best {
                println!(
                    "  {name:<26} {:>9.0} lines/s   p50 {:>8.1?}   p99 {:>8.1?}   cpu {:>8.1?} a request",
                    figures.lines_per_second, figures.p50, figures.p99, figures.cpu
                );
            }
        }
        if let [Some(original), Some(logs), Some(events)] = best {
            let ratio = |ours: Figures| ours.lines_per_second / original.lines_per_second;
            let allowed = original.p99 + 2 * slow_fsync;
            println!(
                "  ratio: logs {:.2}, events {:.2} (bar {bar}); p99 {:.1?} (bar: the original's and \
                 two fsyncs, {allowed:.1?})",
                ratio(logs),
                ratio(events),
                logs.p99
            );
        }
    }
}
