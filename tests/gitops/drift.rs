//! Drift of every kind, made by hand through every door that there is, is refused or put right.
//!
//! Where a door refuses, with the three ways that there are, the refusal is the proof; `behind.rs` then
//! goes past all doors, into the store.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{
    live::Live,
    stage::{ROLES, Stage, is_ready, is_true, name, names, telling, told, uid},
};

/// What a refusal names: override, file, let go.
const WAYS: [&str; 3] = ["override it for a time", "change the file", "let it go"];

/// Whether a status says that this is not to be written, by whoever asks.
fn is_refused(code: u64) -> bool {
    code == 403
}

fn kill_nine(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// The reporter of an agent's sprite, and the sprite's uid.
async fn reporter(stage: &Stage, agent: &str) -> (u32, String) {
    let agent = stage.see(&format!("agents/{agent}"), "ready", is_ready).await;
    let sprite = agent["status"]["sprite"].as_str().unwrap();
    let uid = uid(&stage.live.get(&format!("sprites/{sprite}")).await);
    let marker = format!("runs/{uid}");
    let is_its = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&marker)
    };
    (stage.live.reporters().into_iter().find(is_its).unwrap(), uid)
}

/// Tells an agent to sleep, and waits until the shell does; answers its processes.
async fn at_work(stage: &Stage, agent: &str, sprite: &str) -> Vec<u32> {
    let said = stage.od(&["send", agent, "sleep 4321"]);
    assert_eq!(said.code, 0, "{said:?}");
    stage
        .until("the agent works", async || {
            let all = Live::marked_processes(sprite);
            let of_it: Vec<u32> =
                all.into_iter().filter(|it| it.1.contains("sleep 4321")).map(|it| it.0).collect();
            (!of_it.is_empty()).then_some(of_it)
        })
        .await
}

async fn agents_and_sprites_are_put_right(stage: &Stage) {
    // A member that is edited, with its labels.
    let before = stage.live.get("agents/api-builder").await;
    let patch = json!({
        "metadata": {"labels": {"role": "by-hand"}},
        "spec": {"idleTimeout": "1h", "env": telling("by hand")["env"]},
    });
    let hand = stage.live.patch("agents/api-builder", patch).await;
    assert_eq!(told(&hand["spec"]), "by hand", "{hand}");
    let again = stage
        .see("agents/api-builder", "as the template says again", |it| {
            it["spec"] == before["spec"]
                && it["metadata"]["labels"] == before["metadata"]["labels"]
                && it["metadata"]["generation"].as_u64() > hand["metadata"]["generation"].as_u64()
        })
        .await;
    assert_eq!(uid(&again), uid(&before));
    let told = stage.events("fleet/workers");
    assert!(told.contains("agent/api-builder was changed by hand"), "{told}");

    // By the words of the command line, it is refused or put right: it does not last.
    stage.od(&["set", "agent/web-builder", "idleTimeout=2h"]);
    stage
        .see("agents/web-builder", "as the template says", |it| {
            it["spec"].get("idleTimeout").is_none()
        })
        .await;

    // A member that is deleted comes again, as another, and of the first nothing is left.
    let (_, gone) = reporter(stage, "docs-tester").await;
    let before = stage.live.get("agents/docs-tester").await;
    assert_eq!(stage.live.delete("agents/docs-tester").await, 200);
    stage
        .see("agents/docs-tester", "made anew", |it| {
            it["metadata"]["uid"] != before["metadata"]["uid"] && is_ready(it)
        })
        .await;
    assert_eq!(Live::marked_processes(&gone), []);

    // Who is stopped by hand stays stopped: that is a person's right.
    assert_eq!(stage.od(&["suspend", "agent/api-tester", "agent/lead"]).code, 0);
    for name in ["api-tester", "lead"] {
        stage
            .see(&format!("agents/{name}"), "stopped", |it| it["status"]["phase"] == "Suspended")
            .await;
    }
    assert_eq!(stage.od(&["reconcile", "source/fleet"]).code, 0);
    let same = stage.diff();
    assert_eq!((same.code, same.out.as_str()), (0, ""), "stopping is no drift: {same:?}");
    assert_eq!(stage.od(&["resume", "agent/api-tester", "agent/lead"]).code, 0);

    // An agent's process that is killed in the middle of a turn: the turn ends, the sprite stays.
    let (_, sprite) = reporter(stage, "web-reviewer").await;
    at_work(stage, "web-reviewer", &sprite).await.into_iter().for_each(kill_nine);
    let idle = |it: &Value| it["status"]["turns"]["done"] == 1 && is_ready(it);
    stage.see("agents/web-reviewer", "ready after a turn", idle).await;
    assert_eq!(reporter(stage, "web-reviewer").await.1, sprite);

    // A reporter that is killed, at work: its whole tree goes, and the agent has another one.
    let (pid, sprite) = reporter(stage, "docs-builder").await;
    let tree = at_work(stage, "docs-builder", &sprite).await;
    kill_nine(pid);
    let other = |it: &Value| it["status"]["turns"]["done"] == 1 && is_ready(it);
    stage.see("agents/docs-builder", "ready after its reporter was killed", other).await;
    let (now, _) = reporter(stage, "docs-builder").await;
    assert_ne!(now, pid);
    assert!(tree.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()), "{tree:?}");

    // A sprite that is deleted.
    let (pid, _) = reporter(stage, "web-tester").await;
    let sprite = stage.live.get("agents/web-tester").await["status"]["sprite"].clone();
    let path = format!("sprites/{}", sprite.as_str().unwrap());
    assert_eq!(stage.live.delete(&path).await, 200);
    let other = |it: &Value| it["status"]["sprite"] != sprite && is_ready(it);
    stage.see("agents/web-tester", "another sprite", other).await;
    assert_ne!(reporter(stage, "web-tester").await.0, pid);

    // A clone that is removed is there again for the next sprite.
    let reviewer = stage.live.get("agents/api-reviewer").await;
    let clone = stage.live.data().join("work").join(uid(&reviewer));
    fs::remove_dir_all(&clone).unwrap();
    assert_eq!(stage.od(&["rollout", "restart", "agent/api-reviewer"]).code, 0);
    stage
        .see("agents/api-reviewer", "another sprite", |it| {
            it["status"]["sprite"] != reviewer["status"]["sprite"] && is_ready(it)
        })
        .await;
    assert_eq!(fs::read_to_string(clone.join("README.md")).unwrap(), "api\n");
}

/// No door lets anybody change what a file declares.
async fn what_files_declare_is_refused(stage: &Stage) {
    let edits = [
        ("agents/lead", telling("by hand")),
        ("fleets/workers", json!({"strategy": {"maxUnavailable": 9}})),
        ("schedules/nightly-tests", json!({"schedule": "0 0 * * *"})),
        ("jobs/smoke-api", json!({"retries": 3})),
    ];
    for (path, spec) in edits {
        let before = stage.live.get(path).await;
        let refused = stage.live.patch(path, json!({"spec": spec})).await;
        assert!(is_refused(refused["code"].as_u64().unwrap_or_default()), "{refused}");
        let said = refused["message"].as_str().unwrap();
        assert!(WAYS.iter().all(|way| said.contains(way)), "{said}");
        assert!(is_refused(stage.live.delete(path).await.into()), "{path}");
        let after = stage.live.get(path).await;
        assert_eq!(after["spec"], before["spec"]);
        assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    }
    for line in [
        &["set", "lead", "idleTimeout=2h"][..],
        &["label", "schedule/nightly-tests", "by=hand"],
        &["delete", "fleet/workers"],
    ] {
        let said = stage.od(line);
        assert!(said.code != 0 && said.err.contains("source fleet"), "{line:?}: {said:?}");
    }
    let said = stage.od(&["scale", "fleet/workers", "--replicas", "3"]);
    assert_ne!(said.code, 0, "{said:?}");
}

async fn runs_of_a_schedule_are_not_doubled(stage: &Stage) {
    let ask = async |value: &str| {
        let annotations = json!({"opendispatch.dev/run-requested-at": value});
        let patch = json!({"metadata": {"annotations": annotations}});
        stage.live.patch("schedules/nightly-tests", patch).await;
    };
    let runs = async || -> Vec<Value> {
        let all = stage.all("jobs").await.into_values();
        all.filter(|job| name(job).starts_with("nightly-tests-")).collect()
    };
    ask("first").await;
    let first = stage.until("a run", async || runs().await.into_iter().next()).await;
    let path = format!("jobs/{}", name(&first));
    // Its shell does not know what to do with a task in words.
    stage.see(&path, "its end", |it| it["status"]["phase"] == "Failed").await;
    assert_eq!(stage.live.delete(&path).await, 200);
    stage.until("it is gone", async || runs().await.is_empty().then_some(())).await;
    // The next run comes, and the one that somebody deleted does not.
    ask("second").await;
    stage.until("another run", async || runs().await.into_iter().next()).await;
    let all = runs().await;
    assert_eq!(all.len(), 1, "{all:?}");
    assert_ne!(uid(&all[0]), uid(&first));
}

async fn overrides_end(stage: &Stage) {
    let lead = "agents/lead";
    let before = stage.live.get(lead).await;
    let over = stage.od(&["override", "agent/lead", "idleTimeout=3h", "--for", "3s"]);
    assert_eq!(over.code, 0, "{over:?}");
    stage
        .see(lead, "overridden", |it| it["spec"]["idleTimeout"] == "3h" && is_true(it, "Drifted"))
        .await;
    let same = stage.diff();
    assert_eq!((same.code, same.out.as_str()), (0, ""), "an override stays: {same:?}");
    stage.see(lead, "undone", |it| it["spec"] == before["spec"] && !is_true(it, "Drifted")).await;

    let over = stage.od(&["override", "agent/lead", "idleTimeout=4h", "--for", "1h"]);
    assert_eq!(over.code, 0, "{over:?}");
    let all = stage.all("overrides").await;
    let over = all.values().find(|it| it["spec"]["patch"]["idleTimeout"] == "4h").unwrap();
    assert_eq!(stage.live.delete(&format!("overrides/{}", name(over))).await, 200);
    stage.see(lead, "undone", |it| it["spec"] == before["spec"] && !is_true(it, "Drifted")).await;
}

async fn a_source_comes_back_and_nothing_goes_with_it(stage: &Stage) {
    let uids = async || {
        let mut all: Vec<String> = Vec::new();
        for plural in ["agents", "fleets", "schedules"] {
            all.extend(stage.all(plural).await.values().map(uid));
        }
        all
    };
    let before = uids().await;
    let commit = stage.live.get("sources/fleet").await["status"]["lastAppliedRevision"].clone();
    let commit = commit.as_str().unwrap();
    // It is pointed elsewhere, and back.
    let path = |to: &str| json!({"spec": {"from": {"git": {"path": to}}}});
    stage.live.patch("sources/fleet", path("nowhere")).await;
    stage.see("sources/fleet", "not ready", |it| it["status"]["phase"] == "Failing").await;
    assert_eq!(uids().await, before);
    stage.apply(&stage.sources());
    stage.applied("fleet", commit).await;
    assert_eq!(uids().await, before);
    // It is let go of what it owns, deleted, and made again.
    let was = uid(&stage.live.get("sources/fleet").await);
    assert_eq!(stage.od(&["suspend", "source/fleet"]).code, 0);
    let gone = stage.od(&["delete", "source/fleet"]);
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(uids().await, before);
    stage.apply(&stage.sources());
    stage.applied("fleet", commit).await;
    assert_eq!(uids().await, before, "what was there was taken again");
    assert_ne!(uid(&stage.live.get("sources/fleet").await), was);
    let refused = stage.live.patch("agents/lead", json!({"spec": telling("x")})).await;
    let code = refused["code"].as_u64().unwrap_or_default();
    assert!(is_refused(code), "it owns it again: {refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_changed_by_hand_is_refused_or_put_right_whatever_its_kind() {
    let stage = Stage::new().await;
    stage.declare().await;
    stage.ready(&names(&ROLES)).await;

    agents_and_sprites_are_put_right(&stage).await;
    what_files_declare_is_refused(&stage).await;
    runs_of_a_schedule_are_not_doubled(&stage).await;
    overrides_end(&stage).await;
    a_source_comes_back_and_nothing_goes_with_it(&stage).await;

    stage.ready(&names(&ROLES)).await;
    let same = stage.diff();
    assert_eq!((same.code, same.out.as_str()), (0, ""), "{same:?}");
    assert_eq!(stage.ran().len(), 3, "no declared Job ran twice");
}
