//! A commit is what is declared: ten agents come up, follow a commit, and equal their files.

use std::collections::BTreeMap;

use serde_json::Value;

use super::stage::{REPOS, ROLES, Stage, is_ready, name, names, told, uid};

/// The states of all agents, from a revision on, in the order in which they came to be.
async fn history(stage: &Stage, from: &str) -> Vec<(String, Value)> {
    let path = format!("agents?watch=1&resourceVersion={from}&timeoutSeconds=1");
    let lines = String::from_utf8(stage.live.bytes(&path).await).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|mut it| (it["type"].as_str().unwrap().to_owned(), it["object"].take())).collect()
}

/// How many of these agents were out of service at once, at the worst of all moments.
async fn worst(
    stage: &Stage,
    before: &BTreeMap<String, Value>,
    from: &str,
    of: &[String],
) -> usize {
    let mut now = before.clone();
    now.retain(|name, _| of.contains(name));
    let mut worst = 0;
    for (what, agent) in history(stage, from).await {
        assert_ne!(what, "ERROR", "{agent}");
        if of.contains(&name(&agent)) {
            assert_ne!(what, "DELETED", "{agent}");
            now.insert(name(&agent), agent);
        }
        worst = worst.max(now.values().filter(|agent| !is_ready(agent)).count());
    }
    worst
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_agents_come_up_follow_a_commit_and_equal_their_files() {
    let stage = Stage::new().await;
    let first = stage.declare().await;

    // Ten agents over three repositories, as the example promises.
    let ten = stage.ready(&names(&ROLES)).await;
    stage.applied("fleet", &first).await;
    assert_eq!(ten.len(), 10);
    for repo in REPOS {
        for role in ROLES {
            let agent = &ten[&format!("{repo}-{role}")];
            let labels = &agent["metadata"]["labels"];
            assert_eq!(labels["repo"], repo);
            assert_eq!(labels["role"], role);
            assert_eq!(labels["opendispatch.dev/fleet"], "workers");
            assert_eq!(agent["spec"]["repo"]["url"], stage.address(repo));
            let place = stage.live.data().join("work").join(uid(agent));
            let read = std::fs::read_to_string(place.join("README.md")).unwrap();
            assert_eq!(read, format!("{repo}\n"), "it works in a clone of its own");
        }
    }
    let fleet = stage
        .see("fleets/workers", "nine ready", |it| it["status"]["ready"] == 9 && is_ready(it))
        .await;
    assert_eq!((&fleet["status"]["replicas"], &fleet["status"]["updated"]), (&9.into(), &9.into()));
    for repo in REPOS {
        let smoke = stage
            .see(&format!("jobs/smoke-{repo}"), "its end", |it| {
                it["status"]["phase"] == "Succeeded"
            })
            .await;
        assert_eq!(smoke["spec"]["repo"]["url"], stage.address(repo), "the one that it lies in");
    }
    assert_eq!(stage.ran(), ["smoke-api", "smoke-docs", "smoke-web"]);

    // What is applied is what the files say, down to the last field.
    let same = stage.diff();
    assert_eq!((same.code, same.out.as_str()), (0, ""), "{same:?}");

    // The next commit, before it is one: a role goes, a role comes, and all are told otherwise.
    stage.change("workers.yaml", "builder, reviewer, tester", "builder, reviewer, scribe");
    stage.change("workers.yaml", "Prefer small commits", "Prefer tiny commits");
    let next = stage.diff();
    assert_eq!(next.code, 1, "{next:?}");
    let line = |start: &str, words: &str| {
        next.out.lines().any(|line| line.starts_with(start) && line.contains(words))
    };
    assert!(line("-", "tester") && line("+", "scribe"), "{next:?}");
    assert!(line("-", "small commits") && line("+", "tiny commits"), "{next:?}");
    assert_eq!(next.out.matches("+++ ").count(), 1, "nothing but the fleet differs: {next:?}");

    let from = stage.live.get("agents").await["metadata"]["resourceVersion"].clone();
    let second = stage.ops.push();
    stage.applied("fleet", &second).await;
    let roles = ["builder", "reviewer", "scribe"];
    stage
        .see("fleets/workers", "nine updated", |it| {
            let status = &it["status"];
            status["updated"] == 9 && status["replicas"] == 9 && is_ready(it)
        })
        .await;
    let now = stage.ready(&names(&roles)).await;
    let (mut kept, mut gone) = (Vec::new(), Vec::new());
    for (name, agent) in &ten {
        match now.get(name) {
            Some(same) => {
                assert_eq!(uid(same), uid(agent), "{name} is the one that it was");
                kept.push(name.clone());
            }
            None => gone.push(agent),
        }
    }
    assert_eq!((kept.len(), gone.len()), (7, 3));
    kept.retain(|name| name != "lead");
    for name in &kept {
        let said = told(&now[name]["spec"]);
        assert!(said.contains("Prefer tiny commits"), "{said}");
        assert_ne!(now[name]["status"]["sprite"], ten[name]["status"]["sprite"]);
    }
    assert_eq!(now["lead"]["status"]["sprite"], ten["lead"]["status"]["sprite"], "not touched");
    let worst = worst(&stage, &ten, from.as_str().unwrap(), &kept).await;
    assert!((1..=2).contains(&worst), "{worst} were out of service at once");
    // Who is pruned leaves nothing: no sprite, no process, no clone.
    for agent in gone {
        let uid = uid(agent);
        stage
            .until("its clone is gone", async || {
                (!stage.live.data().join("work").join(&uid).exists()).then_some(())
            })
            .await;
    }
    let same = stage.diff();
    assert_eq!((same.code, same.out.as_str()), (0, ""), "{same:?}");
    assert_eq!(stage.ran().len(), 3, "no Job ran twice");
}
