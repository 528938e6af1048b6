//! What the store does in a second, on this machine's disk: `cargo bench --bench store`.
//!
//! Small transactions are timed at several numbers of concurrent callers, since group commit
//! shares one fsync among all that wait. The line `fsync` says what one costs here.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use open_dispatch::{
    ambient::{Ambient, Clock, SystemClock},
    resource::{AnyObject, Kind},
    store::{
        Error, Expect, Op, Part, Store, Transaction, memory::MemoryStore, sqlite::SqliteStore,
    },
};
use sprite_reporter::wire::{Chunk, Event, EventBody, Stream};

/// How long each measurement runs.
const LENGTH: Duration = Duration::from_secs(3);
/// How many callers commit at once.
const CALLERS: [usize; 3] = [1, 32, 256];
/// How many objects a list has.
const OBJECTS: usize = 100_000;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // Beside the build, and not where files may live in memory.
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let dir = tempfile::tempdir_in(place).expect("a directory");
        println!("{:<40}{:>12.2} ms", "fsync", fsync(dir.path()).as_secs_f64() * 1e3);
        for callers in CALLERS {
            let dir = tempfile::tempdir_in(place).expect("a directory");
            let store = SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
            outputs("sqlite", &(store.clone() as Arc<dyn Store>), callers).await;
            store.close().await;
        }
        for callers in CALLERS {
            let dir = tempfile::tempdir_in(place).expect("a directory");
            let store = SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
            cas_writes("sqlite", &(store.clone() as Arc<dyn Store>), callers).await;
            store.close().await;
        }
        let store = SqliteStore::open(dir.path(), Ambient::real()).await.expect("a store");
        lists("sqlite", &(store.clone() as Arc<dyn Store>)).await;
        store.close().await;
        let memory: Arc<dyn Store> = MemoryStore::new();
        outputs("memory", &memory, 32).await;
        lists("memory", &memory).await;
    });
}

fn report(what: &str, count: f64, time: Duration, unit: &str) {
    println!("{what:<40}{:>12.0} {unit}/s", count / time.as_secs_f64());
}

/// What one small write with fsync costs.
fn fsync(dir: &Path) -> Duration {
    const ROUNDS: u32 = 200;
    let mut file =
        OpenOptions::new().create(true).append(true).open(dir.join("fsync")).expect("a file");
    let start = SystemClock.elapsed();
    for _ in 0..ROUNDS {
        file.write_all(&[0; 4096]).expect("a write");
        file.sync_data().expect("an fsync");
    }
    (SystemClock.elapsed() - start) / ROUNDS
}

fn log(seq: u64) -> Event {
    let text = format!("line {seq:06} of what an agent prints while it works at something\n");
    let chunk = Chunk::pack(text.as_bytes(), false);
    Event { seq, at: SystemClock.now(), body: EventBody::Log { stream: Stream::Stdout, chunk } }
}

/// Each caller appends one line at a time to its own sprite's output.
async fn outputs(name: &str, store: &Arc<dyn Store>, callers: usize) {
    let total = Arc::new(AtomicU64::new(0));
    let start = SystemClock.elapsed();
    let tasks = (0..callers).map(|caller| {
        let (store, total) = (Arc::clone(store), Arc::clone(&total));
        tokio::spawn(async move {
            let sprite_uid = Uid(caller).to_string();
            let mut seq = 0;
            while SystemClock.elapsed() - start < LENGTH {
                seq += 1;
                let events = vec![log(seq)];
                let output = Op::Output { sprite_uid: sprite_uid.clone(), run: 1, events };
                let transaction = Transaction::at(SystemClock.now()).with(output);
                store.apply(transaction).await.expect("a commit");
            }
            total.fetch_add(seq, Ordering::Relaxed);
        })
    });
    futures::future::join_all(tasks).await;
    let count = as_f64(total.load(Ordering::Relaxed));
    let what = format!("{name}: outputs, {callers} callers");
    report(&what, count, SystemClock.elapsed() - start, "tx");
}

/// A uid as long as a real one.
struct Uid(usize);

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "01990000-0000-7000-8000-{:012}", self.0)
    }
}

fn job(name: &str) -> AnyObject {
    let json = serde_json::json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"team": "payments"}},
        "spec": {
            "task": "Run the tests and fix what fails.", "agent": {"claude": {}},
            "repo": {"url": "https://example.com/owner/project.git"}, "timeout": "10m",
        },
    });
    AnyObject::from_json(Kind::Job, json).expect("a job")
}

/// Each caller writes the status of its own object, reading nothing in between.
async fn cas_writes(name: &str, store: &Arc<dyn Store>, callers: usize) {
    let total = Arc::new(AtomicU64::new(0));
    let create = |caller| Op::Create(job(&format!("job-{caller}")));
    let ops = (0..callers).map(create).collect();
    let now = SystemClock.now();
    let created = store.apply(Transaction { ops, now }).await.expect("objects").objects;
    let start = SystemClock.elapsed();
    let tasks = created.into_iter().flatten().map(|mut object| {
        let (store, total) = (Arc::clone(store), Arc::clone(&total));
        tokio::spawn(async move {
            let mut count = 0;
            while SystemClock.elapsed() - start < LENGTH {
                count += 1;
                if let AnyObject::Job(job) = &mut object {
                    job.status.cost.output_tokens = count;
                }
                let (part, expect) = (Part::Status, Expect::SameVersion);
                let write = Op::Write { object, part, expect };
                let transaction = Transaction::at(SystemClock.now()).with(write);
                let applied = store.apply(transaction).await.expect("a commit");
                object = applied.objects.into_iter().next().flatten().expect("an object");
            }
            total.fetch_add(count, Ordering::Relaxed);
        })
    });
    futures::future::join_all(tasks).await;
    let count = as_f64(total.load(Ordering::Relaxed));
    let what = format!("{name}: compare-and-set writes, {callers} callers");
    report(&what, count, SystemClock.elapsed() - start, "tx");
}

/// Creates many objects, and lists them.
async fn lists(name: &str, store: &Arc<dyn Store>) {
    let start = SystemClock.elapsed();
    for first in (0..OBJECTS).step_by(1000) {
        let create = |n| Op::Create(job(&format!("job-{n:06}")));
        let ops = (first..first + 1000).map(create).collect();
        store.apply(Transaction { ops, now: SystemClock.now() }).await.expect("objects");
    }
    let objects = as_f64(OBJECTS as u64);
    report(
        &format!("{name}: creates, 1000 a transaction"),
        objects,
        SystemClock.elapsed() - start,
        "objects",
    );
    let start = SystemClock.elapsed();
    let listing = store.list(Kind::Job, None, usize::MAX).await.expect("a list");
    let time = SystemClock.elapsed() - start;
    assert_eq!(listing.items.len(), OBJECTS);
    println!("{:<40}{:>12.0} ms", format!("{name}: list of {OBJECTS}"), time.as_secs_f64() * 1e3);
    let start = SystemClock.elapsed();
    let rounds = 2000;
    for n in 0..rounds {
        store.get(Kind::Job, &format!("job-{:06}", n * 7)).await.expect("an object");
    }
    report(
        &format!("{name}: gets, one caller"),
        f64::from(rounds),
        SystemClock.elapsed() - start,
        "gets",
    );
    let _: Result<_, Error> = store.compact(SystemClock.now()).await;
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few seconds are small")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
