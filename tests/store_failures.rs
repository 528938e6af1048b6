//! What the store does when the file, the disk or the version are not as they should be.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/store_fixtures.rs"]
mod fixtures;

use std::{fs, path::Path, sync::Arc};

use fixtures::{job, log, output, tx};
use open_dispatch::{
    ambient::Ambient,
    resource::Kind,
    store::{
        Cursor, Error, Op, Store as _,
        sqlite::{Options, SqliteStore},
    },
};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

async fn open(dir: &Path) -> Result<Arc<SqliteStore>, Error> {
    SqliteStore::open(dir, Ambient::real()).await
}

/// The error's text, with the place put in general words.
fn text(error: &Error, dir: &Path) -> String {
    error.to_string().replace(&dir.display().to_string(), "DIR")
}

#[tokio::test]
async fn everything_is_there_when_the_store_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    let installation = store.installation().to_owned();
    assert!(!installation.is_empty());
    store.apply(tx(0, [Op::Create(job("a")), output("s", 1, vec![log(1, "x")])])).await.unwrap();
    assert_eq!(store.writes(), 1);
    store.close().await;

    let store = open(dir.path()).await.unwrap();
    assert_eq!(store.installation(), installation);
    assert_eq!(store.revision().await.unwrap(), 1);
    assert_eq!(store.writes(), 0, "counted since it was opened");
    assert!(store.get(Kind::Job, "a").await.unwrap().is_some());
    let applied = store.apply(tx(1, [Op::Create(job("b"))])).await.unwrap();
    assert_eq!(applied.revision, 2);
    let next = store.apply(tx(1, [output("s", 1, vec![log(3, "x")])])).await;
    assert_eq!(next, Err(Error::Gap { expected: 2 }));
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    store.close().await;
    let closed = Error::Unavailable("it was closed".to_owned());
    assert_eq!(store.apply(tx(0, [Op::Create(job("a"))])).await, Err(closed.clone()));
    assert_eq!(store.revision().await, Err(closed.clone()), "which is what /ready asks");
    assert_eq!(store.get(Kind::Job, "a").await, Err(closed));
}

#[tokio::test]
async fn the_store_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    let path = store.path().to_owned();
    store.close().await;
    let options = SqliteConnectOptions::new().filename(&path);
    let mut newer = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999, 'later', 1, x'00', 0)",
    )
    .execute(&mut newer)
    .await
    .unwrap();
    newer.close().await.unwrap();

    let error = open(dir.path()).await.err().unwrap();
    assert!(matches!(error, Error::TooNew { found: 999, .. }), "{error:?}");
    insta::assert_snapshot!(text(&error, dir.path()), @"the store at DIR/store.db has schema 999, and this version knows 6; install a newer open-dispatch");
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let letter = "Dear Sir or Madam, ".repeat(100);
    fs::write(dir.path().join("store.db"), &letter).unwrap();
    let error = open(dir.path()).await.err().unwrap();
    insta::assert_snapshot!(text(&error, dir.path()), @"the store cannot be used: DIR/store.db: file is not a database; put a copy of it in its place, or move it away to begin anew");
    assert_eq!(fs::read_to_string(dir.path().join("store.db")).unwrap(), letter);
}

#[tokio::test]
async fn a_step_of_another_build_is_told_with_the_mend() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await.unwrap();
    let options = SqliteConnectOptions::new().filename(store.path());
    store.close().await;
    let mut file = SqliteConnection::connect_with(&options).await.unwrap();
    let changed = "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1";
    sqlx::query(changed).execute(&mut file).await.unwrap();
    file.close().await.unwrap();
    let error = open(dir.path()).await.err().unwrap();
    insta::assert_snapshot!(text(&error, dir.path()), @"the store cannot be used: DIR/store.db: cannot migrate: another build of this program made its step 1; use the build that made it, or choose another directory with --data");
}

#[tokio::test]
async fn a_missing_directory_is_told_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(&dir.path().join("absent")).await.err().unwrap();
    insta::assert_snapshot!(text(&error, dir.path()), @"the store cannot be used: DIR/absent/store.db: No such file or directory (os error 2); mend that, or choose another directory with --data");
}

/// Fills a store of few pages, and returns it with the number of the last line that it took.
async fn full_store(dir: &Path) -> (Arc<SqliteStore>, u64, Error) {
    let options = Options { max_pages: Some(100) };
    let store = SqliteStore::open_with(dir, Ambient::real(), options).await.unwrap();
    store.apply(tx(0, [Op::Create(job("a"))])).await.unwrap();
    for n in 1.. {
        let line = log(n, &"x".repeat(20_000));
        if let Err(error) = store.apply(tx(n, [output("s", 1, vec![line])])).await {
            return (store, n - 1, error);
        }
    }
    unreachable!("a store of 100 pages is full at some time")
}

#[tokio::test]
async fn a_full_store_refuses_writes_and_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (store, held, error) = full_store(dir.path()).await;
    insta::assert_snapshot!(error.to_string(), @"the store cannot be used: database or disk is full; free some space");
    assert!(held > 3);
    assert_eq!(store.held("s", None).await.unwrap().seq, held);
    let rows = store.output("s", Cursor::default(), usize::MAX).await.unwrap();
    assert_eq!(rows.len() as u64, held);
    assert!(store.get(Kind::Job, "a").await.unwrap().is_some());
    assert_eq!((store.revision().await.unwrap(), store.writes()), (1, held + 1));
    // What was refused has left nothing behind: the same event is still the next one.
    let skipped = store.apply(tx(0, [output("s", 1, vec![log(held + 2, "y")])])).await;
    assert_eq!(skipped, Err(Error::Gap { expected: held + 1 }));
    store.close().await;

    let store = open(dir.path()).await.unwrap();
    store.apply(tx(0, [output("s", 1, vec![log(held + 1, "y")])])).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn one_that_does_not_fit_takes_no_others_along() {
    let dir = tempfile::tempdir().unwrap();
    let (store, held, _) = full_store(dir.path()).await;
    let line = |n| output("s", 1, vec![log(n, &"x".repeat(20_000))]);
    let receipt = |key: &str| {
        Op::Receipt(open_dispatch::store::Receipt { key: key.to_owned(), effect: String::new() })
    };
    // All three wait at once, so they are one group.
    let (first, big, last) = futures::future::join3(
        store.apply(tx(0, [receipt("first")])),
        store.apply(tx(0, [receipt("big"), line(held + 1)])),
        store.apply(tx(0, [receipt("last")])),
    )
    .await;
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(big, Err(Error::Unavailable(_))), "{big:?}");
    assert!(last.is_ok(), "{last:?}");
    assert!(store.receipt("first").await.unwrap().is_some());
    assert!(store.receipt("last").await.unwrap().is_some());
    assert_eq!(store.receipt("big").await.unwrap(), None);
    store.close().await;
}
