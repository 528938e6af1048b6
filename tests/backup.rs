//! A backup is whole although the server writes, and a directory made from it is as it was.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its stage has failed")]

use std::{
    fs,
    io::{Cursor, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use open_dispatch::{
    ambient::Ambient,
    app::backup::{Error, backup, restore},
    resource::{AgentCli, AnyObject, CommandCli, Job, JobSpec, Kind, admit},
    store::{Op, Store, Transaction, data::DataDir, sqlite::SqliteStore},
};

fn job(n: usize) -> AnyObject {
    let spec = JobSpec::new(format!("echo {n}"), AgentCli::Command(CommandCli::default()));
    admit::create(Job::new(format!("job-{n}"), spec).into(), format!("uid-{n}"), "").unwrap()
}

async fn create(store: &Arc<SqliteStore>, n: usize) {
    let now = Ambient::real().clock.now();
    store.apply(Transaction::at(now).with(Op::Create(job(n)))).await.unwrap();
}

async fn names(data: &Path) -> Vec<String> {
    let store = SqliteStore::open(data, Ambient::real()).await.unwrap();
    let listing = store.list(Kind::Job, None, 10_000).await.unwrap();
    listing.items.iter().map(|job| job.metadata().name.clone()).collect()
}

async fn backed_up(data: &Path) -> Vec<u8> {
    let mut file = Vec::new();
    backup(data, data, &mut file, Timestamp::UNIX_EPOCH).await.unwrap();
    file
}

#[tokio::test]
async fn a_backup_of_a_store_that_is_written_to_holds_a_moment_of_it() {
    let stage = tempfile::tempdir().unwrap();
    let (data, other) = (stage.path().join("data"), stage.path().join("other"));
    fs::create_dir_all(data.join("secrets")).unwrap();
    fs::write(data.join("key"), "the key").unwrap();
    fs::write(data.join("secrets/github"), "hush").unwrap();
    let store = SqliteStore::open(&data, Ambient::real()).await.unwrap();
    for n in 0..50 {
        create(&store, n).await;
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 50..250 {
                create(&store, n).await;
            }
        }
    });
    let file = backed_up(&data).await;
    writer.await.unwrap();
    let restored = restore(&other, Cursor::new(&file), false, Timestamp::UNIX_EPOCH).unwrap();
    assert!(restored.manifest.has_key);
    assert_eq!(restored.moved, None);
    // The next server hears that its store is older than the world.
    let word = fs::read_to_string(other.join("restored")).unwrap();
    assert_eq!(word.trim().parse(), Ok(Timestamp::UNIX_EPOCH));
    assert!(!data.join("restored").exists());
    let held = names(&other).await;
    assert!((50..=250).contains(&held.len()), "{}", held.len());
    // Without holes: what was committed first is there first.
    for n in 0..held.len() {
        assert!(held.contains(&format!("job-{n}")), "job-{n} is missing of {}", held.len());
    }
    assert_eq!(fs::read_to_string(other.join("key")).unwrap(), "the key");
    assert_eq!(fs::read_to_string(other.join("secrets/github")).unwrap(), "hush");
    let mode = |name: &str| fs::metadata(other.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("key"), mode("secrets/github"), mode("secrets")), (0o600, 0o600, 0o700));
}

#[tokio::test]
async fn a_store_that_is_there_is_kept_and_with_force_moved_aside() {
    let stage = tempfile::tempdir().unwrap();
    let (data, other) = (stage.path().join("data"), stage.path().join("other"));
    for (place, n) in [(&data, 1), (&other, 2)] {
        fs::DirBuilder::new().mode(0o700).create(place).unwrap();
        let store = SqliteStore::open(place, Ambient::real()).await.unwrap();
        create(&store, n).await;
    }
    let file = backed_up(&data).await;
    let refused = restore(&other, Cursor::new(&file), false, Timestamp::UNIX_EPOCH).unwrap_err();
    assert!(matches!(refused, Error::Occupied(_)), "{refused}");
    assert_eq!(names(&other).await, ["job-2"]);
    let restored = restore(&other, Cursor::new(&file), true, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(names(&other).await, ["job-1"]);
    assert_eq!(names(&restored.moved.unwrap()).await, ["job-2"]);
}

#[tokio::test]
async fn a_file_that_is_no_backup_changes_nothing() {
    let stage = tempfile::tempdir().unwrap();
    let data = stage.path().join("data");
    fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
    let store = SqliteStore::open(&data, Ambient::real()).await.unwrap();
    create(&store, 1).await;
    let whole = backed_up(&data).await;
    let escape = {
        let mut tar = tar_of(&[(
            "backup.json",
            br#"{"form":1,"version":"x","made":"2026-01-01T00:00:00Z","hasKey":false}"#,
        )]);
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_gnu_mut().unwrap().name[..7].copy_from_slice(b"../evil");
        header.set_cksum();
        tar.append(&header, &b"x"[..]).unwrap();
        packed(tar)
    };
    let newer = packed(tar_of(&[(
        "backup.json",
        br#"{"form":99,"version":"x","made":"2026-01-01T00:00:00Z","hasKey":false}"#,
    )]));
    let bad = [
        Vec::new(),
        b"hello".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        packed(tar_of(&[("store.db", b"x")])),
        escape,
        newer,
    ];
    for file in bad {
        assert!(restore(&data, Cursor::new(&file), true, Timestamp::UNIX_EPOCH).is_err());
        assert_eq!(names(&data).await, ["job-1"]);
    }
    assert!(!stage.path().join("evil").exists());
    let left: Vec<_> = fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".restore") || name.starts_with("before"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_restored_over_a_server_that_runs() {
    let stage = tempfile::tempdir().unwrap();
    let data = stage.path().join("data");
    let held = DataDir::open(&data).unwrap();
    let store = SqliteStore::open(&data, Ambient::real()).await.unwrap();
    create(&store, 1).await;
    let file = backed_up(&data).await;
    create(&store, 2).await;
    for force in [false, true] {
        let refused = restore(&data, Cursor::new(&file), force, Timestamp::UNIX_EPOCH).unwrap_err();
        let said = refused.to_string();
        let holder = format!("is in use by process {}; stop it", std::process::id());
        assert!(said.contains(&holder), "{said}");
    }
    assert_eq!(names(&data).await, ["job-1", "job-2"]);
    // What a restore left that was killed is in nobody's way, and does not stay.
    drop((store, held));
    let left = data.join(".restore-1");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("key"), "half").unwrap();
    restore(&data, Cursor::new(&file), true, Timestamp::UNIX_EPOCH).unwrap();
    assert!(!left.exists());
    assert_eq!(names(&data).await, ["job-1"]);
}

type Tar = tar::Builder<flate2::write::GzEncoder<Vec<u8>>>;

fn tar_of(files: &[(&str, &[u8])]) -> Tar {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), Default::default()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar
}

fn packed(tar: Tar) -> Vec<u8> {
    let mut packer = tar.into_inner().unwrap();
    packer.flush().unwrap();
    packer.finish().unwrap()
}
