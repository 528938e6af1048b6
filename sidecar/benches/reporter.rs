//! The reporter as a process: from its exec to an agent's first line at a server, and its memory.
//!
//! `cargo bench -p sprite-reporter` prints each figure. With `ORIGINAL_DIR` naming a checkout of
//! the original, its `sidecar/output-relay.js` is measured in the same run, against the same
//! server and the same agent, and ratios are printed; without it they are said to be skipped.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use sprite_reporter::{
    rundir::RunDir,
    wire::{AgentSpec, EnvVar, EventAck, EventBatch, EventBody, Permissions, RunSpec},
};

/// How often each time is taken; the median counts.
const ROUNDS: usize = 15;
/// How long a process may settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(1500);
/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// What agents say.
const WORD: &str = "first-line-of-the-agent";

/// A request that a sprite made, as far as it matters here.
struct Asked {
    path: String,
    body: Vec<u8>,
}

/// Reads one request; none at the end of the connection.
fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(Asked { path, body }))
}

/// What our reporter is to hear, and whether the agent's word was in it.
fn take_events(body: &[u8], held: &mut u64) -> (EventAck, bool) {
    let batch: EventBatch = serde_json::from_slice(body).expect("the reporter speaks the wire");
    let (mut word, mut finished) = (false, false);
    for event in &batch.events {
        *held = event.next_seq() - 1;
        match &event.body {
            EventBody::Log { chunk, .. } => {
                word |= String::from_utf8_lossy(&chunk.bytes()).contains(WORD);
            }
            EventBody::Exit(_) => finished = true,
            _ => {}
        }
    }
    (EventAck { held: *held, expected: *held + 1, finished }, word)
}

/// Serves one connection; sends word when the agent's first line came.
fn converse(stream: TcpStream, heard: &Sender<Instant>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut held = 0;
    while let Some(asked) = read_request(&mut reader)? {
        if asked.path.starts_with("/webhooks/inbox") {
            let beat = "{\"n\":0,\"type\":\"heartbeat\"}\n";
            write!(writer, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            write!(writer, "{:x}\r\n{beat}\r\n", beat.len())?;
            // Open until the reporter goes.
            return reader.read_to_end(&mut Vec::new()).map(drop);
        }
        let (answer, word) = if asked.path.starts_with("/webhooks/events") {
            let (ack, word) = take_events(&asked.body, &mut held);
            (serde_json::to_string(&ack).expect("an ack is JSON"), word)
        } else {
            ("{}".to_owned(), String::from_utf8_lossy(&asked.body).contains(WORD))
        };
        if word {
            // Nobody waits for it in between.
            let _ = heard.send(Instant::now());
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
        write!(writer, "{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())?;
    }
    Ok(())
}

/// A server that takes everything. Answers its URL, and when it hears an agent's first line.
fn serve() -> (String, Receiver<Instant>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    let (heard, hears) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let heard = heard.clone();
            // One that hangs up has said what it had to say.
            std::thread::spawn(move || converse(stream, &heard));
        }
    });
    (url, hears)
}

/// A run of our reporter, which ends with this.
struct Ours {
    place: tempfile::TempDir,
}

impl Ours {
    fn launch(url: &str, task: &str) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        let (data, work) = (place.path().join("data"), place.path().join("work"));
        let run = data.join("run");
        for directory in [&run, &work] {
            std::fs::create_dir_all(directory).expect("a directory");
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let spec = RunSpec {
            job_id: format!("bench-{}", place.path().file_name().unwrap_or_default().display()),
            run: 1,
            installation: "bench".into(),
            server: Some(url.to_owned()),
            endpoint_file: None,
            agent: AgentSpec::Command { shell: None },
            task: Some(task.to_owned()),
            workdir: work.to_string_lossy().into_owned(),
            repo: None,
            permissions: Permissions::default(),
            env: vec![EnvVar { name: "PATH".into(), value: path, secret: false }],
            timeout_ms: None,
            idle_timeout_ms: None,
            session: None,
            hide: vec![data.to_string_lossy().into_owned()],
            worktree: None,
            sandbox: None,
            attachments: None,
            artifacts: None,
        };
        RunDir::new(&run).write_spec(&spec).expect("a spec");
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_sprite-reporter"))
            .arg("launch")
            .arg(&run)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the reporter starts");
        let mut stdin = launcher.stdin.take().expect("a pipe");
        stdin.write_all(b"token-of-the-benchmark").expect("it reads its token");
        drop(stdin);
        launcher.wait().expect("it says its first line");
        Self { place }
    }

    fn run(&self) -> RunDir {
        RunDir::new(self.place.path().join("data/run"))
    }

    fn pid(&self) -> u32 {
        self.run().state().expect("a state").expect("it began").process.pid
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.pid().to_string()).status();
        until("the reporter's end", || (!self.run().is_held().unwrap_or(false)).then_some(()));
    }
}

/// The original's relay behind an agent, which ends with this.
struct Theirs {
    node: Child,
    agent: Child,
}

impl Theirs {
    fn start(original: &Path, url: &str, task: &str) -> Self {
        let mut agent = Command::new("sh")
            .args(["-c", task])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let node = Command::new("node")
            .arg(original.join("sidecar/output-relay.js"))
            .env("JOB_ID", "bench")
            .env("JOB_TOKEN", "token-of-the-benchmark")
            .env("OPEN_DISPATCH_URL", url)
            .stdin(agent.stdout.take().expect("a pipe"))
            .stdout(Stdio::null())
            .spawn()
            .expect("node starts");
        Self { node, agent }
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        for child in [&mut self.agent, &mut self.node] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The median time from an exec to the agent's first line at the server.
fn first_line<T>(start: impl Fn(&str) -> T) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let (url, hears) = serve();
            let begin = Instant::now();
            let process = start(&url);
            let heard = hears.recv_timeout(PATIENCE).expect("the first line arrives");
            drop(process);
            heard - begin
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// Resident and proportional memory of a process in kB.
fn memory(pid: u32) -> (u64, u64) {
    std::thread::sleep(SETTLE);
    let read = |file: &str, key: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}"))
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    (read("status", "VmRSS:"), read("smaps_rollup", "Pss:"))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(ours: u64, theirs: u64) -> f64 {
    ours as f64 / theirs.max(1) as f64
}

fn main() {
    if cfg!(debug_assertions) {
        println!("sprite-reporter: a debug build; its figures say nothing");
    }
    // One that goes on, as an agent at work, and one that ends at once, which is the relay's
    // best case: it sends what it has when its input ends, and else after half a second.
    let tasks = [
        ("of an agent that goes on", format!("echo {WORD}; exec sleep 60")),
        ("of an agent that ends", format!("echo {WORD}")),
    ];
    let idle = "exec sleep 60";
    let ours = tasks.each_ref().map(|(_, task)| first_line(|url| Ours::launch(url, task)));
    for ((what, _), time) in tasks.iter().zip(ours) {
        println!("sprite-reporter: exec to the first line {what} {:.1} ms", ms(time));
    }
    let (url, _hears) = serve();
    let (rss, pss) = memory(Ours::launch(&url, idle).pid());
    println!("sprite-reporter: idle RSS {rss} kB, PSS {pss} kB");

    let Some(original) = std::env::var_os("ORIGINAL_DIR").map(PathBuf::from) else {
        println!("sprite-reporter: ratios to the original skipped: ORIGINAL_DIR is not set");
        return;
    };
    for ((what, task), ours) in tasks.iter().zip(ours) {
        let theirs = first_line(|url| Theirs::start(&original, url, task));
        println!(
            "original's relay: exec to the first line {what} {:.1} ms; ratio {:.3} (bar 0.167)",
            ms(theirs),
            ours.as_secs_f64() / theirs.as_secs_f64(),
        );
    }
    let theirs = Theirs::start(&original, &url, idle);
    let (their_rss, their_pss) = memory(theirs.node.id());
    println!(
        "original's relay: idle RSS {their_rss} kB, PSS {their_pss} kB; ratio RSS {:.3} (bar 0.125)",
        ratio(rss, their_rss),
    );
}
