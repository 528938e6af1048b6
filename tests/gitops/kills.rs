//! The server dies again and again while commits land, and ends where the last one says.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    path::Path,
    time::Duration,
};

use open_dispatch::{
    ambient::Ambient,
    resource::{AnyObject, Kind},
    store::{Change, ChangeKind, Error, Store as _, sqlite::SqliteStore},
};

use super::{
    chance::{Chance, seed},
    stage::{REPOS, ROLES, Stage, is_ready, job, name, names, told},
};

/// How many commits land.
const COMMITS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_while_commits_land_ends_at_the_last_one() {
    let seed = seed();
    let mut chance = Chance(seed);
    let mut stage = Stage::new().await;
    stage.declare().await;
    // Not even the first one is waited for.
    let mut last = String::new();
    let mut history = Vec::new();
    let mut wanted: BTreeSet<String> = REPOS.map(|repo| format!("smoke-{repo}")).into();
    for round in 1..=COMMITS {
        let before = if round == 1 { "Prefer small commits".to_owned() } else { words(round - 1) };
        stage.change("workers.yaml", &before, &words(round));
        // A Job that stays, one that has a name of its own by what it says, and now and then another
        // set of members, on the way.
        let once = format!("once-{round}");
        std::fs::write(stage.file(&format!("{once}.yaml")), job(&once, stage.home.path())).unwrap();
        wanted.insert(once);
        match round {
            4 => stage.change("workers.yaml", "builder, reviewer, tester", "builder, reviewer"),
            7 => stage.change("workers.yaml", "builder, reviewer", "builder, reviewer, tester"),
            _ => {}
        }
        last = stage.ops.push();
        tokio::time::sleep(Duration::from_millis(chance.below(1500))).await;
        stage.live.kill_nine();
        read_on(&mut history, stage.live.data()).await;
        tokio::time::sleep(Duration::from_millis(chance.below(300))).await;
        stage.live.up().await;
    }

    stage.applied("fleet", &last).await;
    for name in &wanted {
        let done = stage
            .see(&format!("jobs/{name}"), "its end", |it| it["status"]["phase"] == "Succeeded")
            .await;
        assert_eq!(done["status"]["attempts"], 1, "{done}");
    }
    stage
        .see("fleets/workers", "nine updated", |it| {
            it["status"]["updated"] == 9 && it["status"]["ready"] == 9 && is_ready(it)
        })
        .await;
    // Ten agents with a sprite each, and no other sprite and no other process of one.
    let agents = stage.ready(&names(&ROLES)).await;
    for agent in agents.values().filter(|agent| name(agent) != "lead") {
        let said = told(&agent["spec"]);
        assert!(said.contains(&words(COMMITS)), "{said}");
    }
    let wanted: Vec<String> = wanted.into_iter().collect();
    assert_eq!(stage.ran(), wanted, "each declared Job ran exactly once");
    let same = stage.diff();
    assert_eq!((same.code, same.out.as_str()), (0, ""), "{same:?}");

    // Converged: one more start writes nothing.
    let version = async |stage: &Stage| {
        let list = stage.live.get("agents").await;
        list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    };
    let quiet = stage
        .until("nobody writes any more", async || {
            let before = version(&stage).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            (before == version(&stage).await).then_some(before)
        })
        .await;
    stage.live.kill_nine();
    read_on(&mut history, stage.live.data()).await;
    stage.live.up().await;
    stage.ready(&names(&ROLES)).await;
    // Two looks of each Source at its repository.
    let asked = stage.http.seen().len();
    stage
        .until("the repository was asked again", async || {
            (stage.http.seen().len() > asked + 3).then_some(())
        })
        .await;
    assert_eq!(version(&stage).await, quiet, "a converged store was written to");

    // What was doubled for a moment, and put right since, does not show at the end.
    stage.live.kill_nine();
    read_on(&mut history, stage.live.data()).await;
    let made = made(&history);
    for ((kind, name), times) in &made {
        // The testers were taken out of the files once, and came back.
        let most = if name.ends_with("-tester") { 2 } else { 1 };
        assert!(*times <= most, "{kind:?} {name} was made {times} times");
    }
    let of = |kind| made.keys().filter(move |(of, _)| *of == kind).map(|(_, name)| name.clone());
    assert_eq!(of(Kind::Agent).collect::<BTreeSet<_>>(), names(&ROLES).into_iter().collect());
    assert_eq!(of(Kind::Job).collect::<Vec<_>>(), wanted);
    assert_eq!(doubled(&history), Vec::<String>::new());
}

/// Reads what was written since the last look, before the server forgets it. It reads a copy, so that the
/// next start still finds the store as the kill left it.
async fn read_on(history: &mut Vec<Change>, data: &Path) {
    let copy = tempfile::tempdir().unwrap();
    for file in ["store.db", "store.db-wal"] {
        match std::fs::copy(data.join(file), copy.path().join(file)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound && file != "store.db" => {}
            Err(error) => panic!("{file} of the killed server: {error}"),
        }
    }
    let store = SqliteStore::open(copy.path(), Ambient::real()).await.unwrap();
    let seen = history.last().map_or(0, |change: &Change| change.revision);
    match store.changes(seen, usize::MAX).await {
        Ok(changes) => history.extend(changes),
        Err(Error::Compacted { oldest }) => panic!(
            "this machine is too slow for this test: since the last look at revision {seen} the server \
             has written, and forgotten, all up to revision {oldest}"
        ),
        Err(error) => panic!("{error}"),
    }
    store.close().await;
}

/// How often each Agent and each Job was made.
fn made(history: &[Change]) -> BTreeMap<(Kind, String), usize> {
    let mut made = BTreeMap::new();
    for change in history.iter().filter(|change| change.kind == ChangeKind::Added) {
        let (kind, name) = (change.object.kind(), change.object.metadata().name.clone());
        if matches!(kind, Kind::Agent | Kind::Job) {
            *made.entry((kind, name)).or_default() += 1;
        }
    }
    made
}

/// The Sprites that were made while an earlier one of their owner was not over.
fn doubled(history: &[Change]) -> Vec<String> {
    let mut there: BTreeMap<String, (String, bool)> = BTreeMap::new();
    let mut doubled = Vec::new();
    for change in history {
        let AnyObject::Sprite(sprite) = &change.object else { continue };
        let owner = sprite.metadata.controller().unwrap().uid.clone();
        if change.kind == ChangeKind::Added
            && there.values().any(|(other, is_over)| *other == owner && !is_over)
        {
            doubled.push(sprite.metadata.name.clone());
        }
        let conditions = &sprite.status.conditions;
        let is_over = conditions.is_true("Gone") && conditions.is_true("Drained");
        match change.kind {
            ChangeKind::Deleted => there.remove(&sprite.metadata.uid),
            _ => there.insert(sprite.metadata.uid.clone(), (owner, is_over)),
        };
    }
    doubled
}

fn words(round: u64) -> String {
    format!("This is round {round} of it")
}
