//! What the store has acknowledged is there after the process was killed, and of what it has
//! not acknowledged each transaction is there whole or not at all.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/store_fixtures.rs"]
mod fixtures;

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fixtures::{at, job, log, output, turn, tx};
use open_dispatch::{
    ambient::{Ambient, Clock as _, Ids as _, SeededIds, SystemClock},
    resource::Kind,
    store::{Cursor, Op, Store as _, data::DataDir, sqlite::SqliteStore},
};

const TEST: &str = "what_was_acknowledged_survives_sigkill";
const CHILD: &str = "OPEN_DISPATCH_TEST_DURABILITY_DIR";
const WRITERS: usize = 6;
const KILLS: usize = 20;

fn sprite(writer: usize) -> String {
    format!("sprite-{writer}")
}

fn job_name(writer: usize, n: u64) -> String {
    format!("w{writer}-{n}")
}

/// Each writer commits numbered transactions of three operations that belong together, and
/// prints each number once it is acknowledged.
async fn write_until_killed(dir: &Path) {
    let _data = DataDir::open(dir).unwrap();
    let store = SqliteStore::open(dir, Ambient::real()).await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut n = store.held(&sprite(writer), None).await.unwrap().seq;
            loop {
                n += 1;
                let ops = [
                    Op::Create(job(&job_name(writer, n))),
                    output(&sprite(writer), 1, vec![log(n, &format!("line {n}"))]),
                    Op::AddTurn(turn(&job_name(writer, n), &sprite(writer))),
                ];
                store.apply(tx(n, ops)).await.unwrap();
                let mut out = std::io::stdout().lock();
                // When the parent has stopped reading, the end is near.
                let _ = writeln!(out, "ack {writer} {n}").and_then(|()| out.flush());
            }
        })
    });
    futures::future::join_all(writers).await;
}

fn spawn_child(dir: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads acknowledgements until there are enough; kills a little later; reads the rest.
async fn kill_after(mut child: Child, enough: usize, delay: Duration) -> [u64; WRITERS] {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acked = [0; WRITERS];
    let mut note = |line: &str| -> bool {
        let mut words = line.split(' ');
        let (Some("ack"), Some(writer), Some(n)) = (words.next(), words.next(), words.next())
        else {
            return false;
        };
        acked[writer.parse::<usize>().unwrap()] = n.parse().unwrap();
        true
    };
    assert_eq!(lines.by_ref().filter(|line| note(line)).take(enough).count(), enough);
    SystemClock.sleep(delay).await;
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        note(&line);
    }
    acked
}

async fn check(dir: &Path, acked: [u64; WRITERS]) {
    let data = DataDir::open(dir).expect("the lock went with the process");
    let store = SqliteStore::open(data.root(), Ambient::real()).await.unwrap();
    let mut total = 0;
    for (writer, acked) in acked.into_iter().enumerate() {
        let held = store.held(&sprite(writer), None).await.unwrap().seq;
        assert!(held >= acked, "writer {writer}: {held} held, {acked} acknowledged");
        assert!(held <= acked + 1, "writer {writer}: never more than one on its way");
        let rows = store.output(&sprite(writer), Cursor::default(), usize::MAX).await.unwrap();
        let events: Vec<_> = rows.into_iter().map(|row| row.event).collect();
        let expected: Vec<_> = (1..=held).map(|n| log(n, &format!("line {n}"))).collect();
        assert_eq!(events, expected);
        let turns = store.open_turns(&sprite(writer)).await.unwrap();
        let numbers: Vec<u64> = turns.iter().map(|turn| turn.n).collect();
        assert_eq!(numbers, (1..=held).collect::<Vec<_>>());
        assert_eq!(store.turn_sums(&sprite(writer)).await.unwrap().queued, held, "and their sum");
        let next = store.get(Kind::Job, &job_name(writer, held + 1)).await.unwrap();
        assert_eq!(next, None, "no transaction is there in part");
        if held > 0 {
            let last = store.get(Kind::Job, &job_name(writer, held)).await.unwrap().unwrap();
            assert_eq!(last.metadata().creation_timestamp, Some(at(held)));
        }
        total += held;
    }
    let listing = store.list(Kind::Job, None, usize::MAX).await.unwrap();
    assert_eq!(listing.items.len() as u64, total);
    assert_eq!(listing.revision, total, "one revision for each object, and no hole");
    assert_eq!(store.changes(0, usize::MAX).await.unwrap().len() as u64, total);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_sigkill() {
    if let Some(dir) = env::var_os(CHILD) {
        return write_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let chance = SeededIds::new(7);
    for _ in 0..KILLS {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 1..60")]
        let enough = 1 + (chance.unit() * 60.0) as usize;
        let delay = Duration::from_secs_f64(chance.unit() * 0.02);
        let acked = kill_after(spawn_child(dir.path()), enough, delay).await;
        check(dir.path(), acked).await;
    }
}

#[tokio::test]
async fn a_store_is_its_owners_alone_wherever_it_is() {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let dir = tempfile::tempdir().unwrap();
    // A directory that others look into, and a file of an earlier version.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.path().join("store.db"), "").unwrap();
    fs::set_permissions(dir.path().join("store.db"), fs::Permissions::from_mode(0o644)).unwrap();
    let store = SqliteStore::open(dir.path(), Ambient::real()).await.unwrap();
    store.apply(tx(0, [Op::Create(job("mine"))])).await.unwrap();
    let mut seen = Vec::new();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        seen.push((entry.file_name().into_string().unwrap(), format!("{mode:o}")));
    }
    seen.sort();
    let closed = ["store.db", "store.db-shm", "store.db-wal"];
    assert_eq!(seen, closed.map(|name| (name.to_owned(), "600".to_owned())));
}
