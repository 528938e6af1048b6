//! A thousand watches of one server: `cargo bench --bench watch`.
//!
//! The server is a process of its own, over SQLite on this machine's disk, so that its memory is
//! its own. A thousand clients watch one kind over the loopback while one writer patches labels,
//! first slowly and then as fast as the server answers. Measured are the time from the moment at
//! which a write is sent to the moment at which each watcher has its event (an upper bound of the
//! time from commit to event, the fsync within), the bytes of an event against those of the object,
//! and what a watcher costs in memory. No peer is at hand: what there is to compare with is the
//! time that the writer itself waits for its answer.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use open_dispatch::{
    ambient::{Ambient, Clock, SystemClock},
    server::{self, Limits, State},
    store::{Store, sqlite::SqliteStore},
    token::SpriteTokens,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// How many watch.
const WATCHERS: usize = 1_000;
/// How many writes there are at each pace.
const WRITES: usize = 200;
/// The pauses between writes.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::ZERO];
/// Opens the API.
const TOKEN: &str = "the token of this benchmark";
/// Says that this process is the server.
const SERVE: &str = "OPEN_DISPATCH_BENCH_WATCH_SERVES";
/// What stands before the number of a write in its event.
const MARK: &[u8] = b"\"bench-n\":\"";
/// Where jobs are.
const JOBS: &str = "/apis/opendispatch.dev/v1alpha1/jobs";

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if env::var_os(SERVE).is_some() {
        runtime.block_on(serve());
    } else {
        runtime.block_on(measure());
    }
}

async fn serve() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store: Arc<dyn Store> =
        SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
    let tokens = SpriteTokens::new(b"the key of this benchmark");
    let state = State::new(store, Ambient::real(), tokens, TOKEN.to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let router = server::router(state.clone());
    let end = std::future::pending();
    server::serve(listener, router, state, Limits::default(), end).await.expect("a server");
}

async fn measure() {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .env(SERVE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server");
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("its output"))
        .read_line(&mut address)
        .expect("its address");
    let address = address.trim().to_owned();
    let job = r#"{"apiVersion":"opendispatch.dev/v1alpha1","kind":"Job","metadata":{"name":"one"},"spec":{"task":"true","agent":{"command":{}}}}"#;
    let made = call(&address, "POST", JOBS, "application/json", job).await;
    let before = rss(child.id());
    let arrivals: Arc<Mutex<Vec<Vec<Duration>>>> =
        Arc::new(Mutex::new(vec![Vec::with_capacity(WATCHERS); WRITES * PAUSES.len()]));
    let arrived = Arc::new(Semaphore::new(0));
    let bytes = Arc::new(Mutex::new(0_usize));
    for _ in 0..WATCHERS {
        let head = format!(
            "GET {JOBS}?watch=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("a request");
        let (arrivals, arrived, bytes) = (arrivals.clone(), arrived.clone(), bytes.clone());
        tokio::spawn(watcher(stream, arrivals, arrived, bytes));
    }
    // Each has been told of the one that is there.
    arrived.acquire_many(u32::try_from(WATCHERS).expect("few")).await.expect("open").forget();
    let watching = rss(child.id());
    println!("{:<48}{:>10.1} KiB", "memory per watcher", kib(watching - before) / WATCHERS as f64);

    for (round, pause) in PAUSES.into_iter().enumerate() {
        *bytes.lock().expect("the lock") = 0;
        let mut sent = Vec::new();
        let mut answers = Vec::new();
        let start = SystemClock.elapsed();
        for n in 0..WRITES {
            let n = round * WRITES + n;
            let patch = format!(r#"{{"metadata":{{"labels":{{"bench-n":"{n}"}}}}}}"#);
            sent.push(SystemClock.elapsed());
            let path = format!("{JOBS}/one");
            call(&address, "PATCH", &path, "application/merge-patch+json", &patch).await;
            answers.push(SystemClock.elapsed() - sent[sent.len() - 1]);
            SystemClock.sleep(pause).await;
        }
        let all = u32::try_from(WATCHERS * WRITES).expect("few");
        arrived.acquire_many(all).await.expect("open").forget();
        let took = SystemClock.elapsed() - start;
        let arrivals = arrivals.lock().expect("the lock");
        let mut late: Vec<Duration> = Vec::new();
        for (n, sent) in sent.iter().enumerate() {
            let there = &arrivals[round * WRITES + n];
            assert_eq!(there.len(), WATCHERS, "write {n} did not reach all");
            late.extend(there.iter().map(|at| at.saturating_sub(*sent)));
        }
        late.sort_unstable();
        answers.sort_unstable();
        println!("-- {WATCHERS} watchers, {WRITES} writes, {} ms between them", pause.as_millis());
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let at = |times: &[Duration], part: f64| times[((times.len() - 1) as f64 * part) as usize];
        for (what, times) in
            [("write sent to its answer", &answers), ("write sent to event", &late)]
        {
            let (half, most) = (ms(at(times, 0.5)), ms(at(times, 0.99)));
            println!("{what:<48}{half:>10.2} ms median{most:>10.2} ms p99");
        }
        let rate = f64::from(all) / took.as_secs_f64();
        println!("{:<48}{rate:>10.0} events/s", "events");
        let each = *bytes.lock().expect("the lock") as f64 / f64::from(all);
        println!("{:<48}{:>10.2}", "bytes of an event, to those of the object", each / made as f64);
    }
    println!("{:<48}{:>10.1} MiB", "the server's memory at the end", kib(rss(child.id())) / 1024.0);
    child.kill().expect("its end");
    child.wait().expect("its end");
}

/// Reads a watch, and notes when each write arrived.
async fn watcher(
    mut stream: TcpStream,
    arrivals: Arc<Mutex<Vec<Vec<Duration>>>>,
    arrived: Arc<Semaphore>,
    bytes: Arc<Mutex<usize>>,
) {
    let mut rest = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut is_first = true;
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        let now = SystemClock.elapsed();
        rest.extend_from_slice(&chunk[..read]);
        *bytes.lock().expect("the lock") += read;
        while let Some(end) = rest.windows(2).position(|pair| pair == b"}\n") {
            let line: Vec<u8> = rest.drain(..end + 2).collect();
            if std::mem::take(&mut is_first) {
                arrived.add_permits(1);
                continue;
            }
            let Some(start) = line.windows(MARK.len()).position(|part| part == MARK) else {
                continue;
            };
            let digits: String = line[start + MARK.len()..]
                .iter()
                .take_while(|it| it.is_ascii_digit())
                .map(|it| char::from(*it))
                .collect();
            let n: usize = digits.parse().expect("a number");
            arrivals.lock().expect("the lock")[n].push(now);
            arrived.add_permits(1);
        }
    }
}

/// Calls the API; answers with the length of the body.
async fn call(address: &str, method: &str, path: &str, sort: &str, body: &str) -> usize {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Type: {sort}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 20"), "{text}");
    text.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len())
}

/// A process's memory in bytes.
fn rss(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("its memory");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number") * 4096
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
