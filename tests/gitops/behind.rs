//! Drift behind every door: the store itself is edited while the server is stopped.

use open_dispatch::resource::Kind;
use serde_json::Value;
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::stage::{REPOS, ROLES, Stage, is_true, names, uid};

/// The store, while nobody else has it.
async fn store(stage: &Stage) -> SqliteConnection {
    let file = stage.live.data().join("store.db");
    SqliteConnectOptions::new().filename(file).connect().await.unwrap()
}

/// Sets a member of an object's document, or takes the object away where no member is named.
async fn edit(store: &mut SqliteConnection, kind: Kind, name: &str, member: Option<(&str, &str)>) {
    let query = match member {
        Some((path, value)) => sqlx::query(
            "UPDATE objects SET body = json_set(body, ?3, json(?4)) WHERE kind = ?1 AND name = ?2",
        )
        .bind(kind.name())
        .bind(name)
        .bind(path.to_owned())
        .bind(value.to_owned()),
        None => sqlx::query("DELETE FROM objects WHERE kind = ?1 AND name = ?2")
            .bind(kind.name())
            .bind(name),
    };
    let done = query.execute(store).await.unwrap();
    assert_eq!(done.rows_affected(), 1, "{kind} {name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_changed_in_the_store_itself_is_put_right() {
    let mut stage = Stage::new().await;
    let commit = stage.declare().await;
    let before = stage.ready(&names(&ROLES)).await;
    stage.applied("fleet", &commit).await;
    let kept = ["fleets/workers", "schedules/nightly-tests", "jobs/smoke-web"];
    let mut declared = Vec::new();
    for path in kept {
        declared.push(stage.live.get(path).await);
    }
    for repo in REPOS {
        let path = format!("jobs/smoke-{repo}");
        stage.see(&path, "its end", |it| it["status"]["phase"] == "Succeeded").await;
    }
    let sprite = before["docs-reviewer"]["status"]["sprite"].as_str().unwrap().to_owned();

    let over = stage.od(&["override", "agent/lead", "idleTimeout=5h", "--for", "1h"]);
    assert_eq!(over.code, 0, "{over:?}");
    let overridden = |it: &Value| it["status"]["overridden"] == 1;
    stage.see("sources/fleet", "one object overridden", overridden).await;

    stage.live.kill_nine();
    let mut db = store(&stage).await;
    // What an Override laid there, without the Override.
    let gone = sqlx::query("DELETE FROM objects WHERE kind = 'Override'").execute(&mut db).await;
    assert_eq!(gone.unwrap().rows_affected(), 1);
    let text = Some(("$.spec.env[0].value", "\"by hand\""));
    edit(&mut db, Kind::Agent, "lead", text).await;
    edit(&mut db, Kind::Agent, "web-tester", text).await;
    edit(&mut db, Kind::Agent, "web-builder", Some(("$.metadata.labels.role", "\"hand\""))).await;
    let template = Some(("$.spec.template.spec.env[0].value", "\"by hand\""));
    edit(&mut db, Kind::Fleet, "workers", template).await;
    let cron = Some(("$.spec.schedule", "\"0 0 * * *\""));
    edit(&mut db, Kind::Schedule, "nightly-tests", cron).await;
    // A member whose row is gone, and whose sprite lives; a sprite whose row is gone, and that lives; and
    // a declared Job that has run.
    edit(&mut db, Kind::Agent, "api-tester", None).await;
    edit(&mut db, Kind::Sprite, &sprite, None).await;
    edit(&mut db, Kind::Job, "smoke-api", None).await;
    // The note of whose it is.
    let query = "DELETE FROM inventory WHERE kind = 'Job' AND name = 'smoke-web'";
    assert_eq!(sqlx::query(query).execute(&mut db).await.unwrap().rows_affected(), 1);
    drop(db);
    stage.live.up().await;

    stage.applied("fleet", &commit).await;
    let same_as_declared = async |stage: &Stage, anew: &str| {
        for (path, was) in kept.iter().zip(&declared) {
            let so = |it: &Value| {
                it["spec"] == was["spec"] && (it["metadata"]["uid"] == uid(was)) == (*path != anew)
            };
            stage.see(path, "as its file says", so).await;
        }
    };
    same_as_declared(&stage, "none").await;
    stage
        .until("all agents are as their files say", async || {
            let now = stage.all("agents").await;
            let so = before.iter().all(|(name, was)| {
                let Some(is) = now.get(name) else { return false };
                let labels = |it: &Value| it["metadata"]["labels"].clone();
                is["spec"] == was["spec"] && labels(is) == labels(was)
            });
            so.then_some(())
        })
        .await;
    let after = stage.ready(&names(&ROLES)).await;
    for (name, was) in &before {
        let is_same = uid(&after[name]) == uid(was);
        assert_eq!(is_same, name != "api-tester", "{name}");
    }
    stage.applied("teams", &applied(&stage, "teams").await).await;
    assert!(!stage.all("jobs").await.contains_key("smoke-api"), "that Job has run");
    assert_eq!(stage.ran(), ["smoke-api", "smoke-docs", "smoke-web"], "and does not run again");
    let same = stage.diff();
    assert_eq!((same.code, same.out.as_str()), (0, ""), "{same:?}");

    let lead = stage.live.get("agents/lead").await;
    assert!(!is_true(&lead, "Drifted"), "{lead}");

    // The Source's own row is gone, and that of its Fleet: both are made again, and take what is there.
    stage.live.kill_nine();
    let mut db = store(&stage).await;
    edit(&mut db, Kind::Source, "fleet", None).await;
    edit(&mut db, Kind::Fleet, "workers", None).await;
    drop(db);
    stage.live.up().await;
    stage.apply(&stage.sources());
    stage.applied("fleet", &commit).await;
    same_as_declared(&stage, "fleets/workers").await;
    stage.see("fleets/workers", "its members", |it| it["status"]["ready"] == 9).await;
    let again = stage.ready(&names(&ROLES)).await;
    for (name, was) in &after {
        assert_eq!(uid(&again[name]), uid(was), "{name} was taken, and not made anew");
    }
}

/// The revision that a Source has applied.
async fn applied(stage: &Stage, source: &str) -> String {
    let source = stage.live.get(&format!("sources/{source}")).await;
    source["status"]["lastAppliedRevision"].as_str().unwrap().to_owned()
}
