//! Repositories that are rewritten, vanish or say rubbish stop nobody else, and delete nothing.

use std::fs;

use serde_json::Value;

use super::{
    git::Fault,
    stage::{ROLES, Stage, job, name, names, told, uid},
};

/// What a Source says of itself: its phase, and the reason and the message of `Ready`.
fn stands(source: &Value) -> (String, String, String) {
    let ready = source["status"]["conditions"].as_array().into_iter().flatten();
    let ready = ready.into_iter().find(|it| it["type"] == "Ready").cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&source["status"]["phase"]), text(&ready["reason"]), text(&ready["message"]))
}

impl Stage {
    /// Adds a Job to the files of a repository that declares its own, and commits that.
    fn add(&self, repo: &str, called: &str) {
        let file = format!(".open-dispatch/{called}.yaml");
        self.repos[repo].write(&file, job(called, self.home.path())).push();
    }

    /// Waits until a Job has run well.
    async fn done(&self, called: &str) -> Value {
        let path = format!("jobs/{called}");
        self.see(&path, "its end", |it| it["status"]["phase"] == "Succeeded").await
    }

    /// Waits until a Source says this, with all of these words in its message.
    async fn says(&self, source: &str, phase: &str, reason: &str, words: &[&str]) -> Value {
        let what = format!("{phase} {reason} {words:?}");
        self.see(&format!("sources/{source}"), &what, |it| {
            let (is, why, message) = stands(it);
            is == phase && why == reason && words.iter().all(|word| message.contains(word))
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_repository_that_is_broken_rewritten_or_gone_stops_nobody_else_and_deletes_nothing() {
    let stage = Stage::new().await;
    stage.declare().await;
    let before = stage.ready(&names(&ROLES)).await;
    let smoke = stage.done("smoke-web").await;

    // One of three says rubbish; the others go on, and it stands as it was.
    let file = ".open-dispatch/smoke.yaml";
    let good = fs::read_to_string(stage.repos["web"].work.join(file)).unwrap();
    stage.repos["web"].write(file, good.replace("spec:\n", "spec:\n\tbad: [\n")).push();
    stage.add("api", "second-api");
    stage.done("second-api").await;
    stage.says("teams", "Failing", "Partial", &["/web", "smoke.yaml:6"]).await;
    assert_eq!(uid(&stage.live.get("jobs/smoke-web").await), uid(&smoke));
    // So it is in the other order, and when it says more rubbish still.
    stage.add("web", "unseen");
    stage.add("docs", "second-docs");
    stage.done("second-docs").await;
    assert!(!stage.all("jobs").await.contains_key("unseen"));
    stage.repos["web"].write(file, &good).push();
    stage.done("unseen").await;
    stage.says("teams", "Ready", "Applied", &["6 objects"]).await;

    // One of three is gone; the others go on; it comes back.
    let bare = &stage.repos["docs"].bare;
    let away = bare.with_extension("away");
    fs::rename(bare, &away).unwrap();
    stage.says("teams", "Failing", "Partial", &["/docs"]).await;
    stage.add("api", "third-api");
    stage.done("third-api").await;
    assert!(stage.all("jobs").await.contains_key("smoke-docs"));
    fs::rename(&away, bare).unwrap();
    stage.says("teams", "Ready", "Applied", &["7 objects"]).await;

    // The repository of the fleet says rubbish: the last good commit stays, and the place is told.
    let lead = fs::read_to_string(stage.file("lead.yaml")).unwrap();
    stage.change("lead.yaml", "env:", "enw:");
    stage.change("workers.yaml", "Prefer small commits", "Prefer tiny commits");
    stage.ops.push();
    stage.says("fleet", "Failing", "InvalidFiles", &["lead.yaml:", "enw"]).await;
    let fleet = stage.live.get("fleets/workers").await;
    let text = told(&fleet["spec"]["template"]["spec"]);
    assert!(text.contains("Prefer small commits"), "nothing of that commit counts: {text}");

    // Its history is rewritten, with no commit of the former one.
    fs::write(stage.file("lead.yaml"), lead).unwrap();
    stage.change("lead.yaml", "You plan the work", "You rewrite the past");
    stage.ops.git(&["checkout", "-q", "--orphan", "fresh"]);
    stage.ops.git(&["add", "-A"]);
    stage.ops.git(&["commit", "-q", "-m", "a new beginning"]);
    stage.ops.git(&["push", "-q", "-f", "origin", "fresh:main"]);
    let rewritten = stage.ops.git(&["rev-parse", "HEAD"]);
    stage.applied("fleet", &rewritten).await;
    let after = stage.ready(&names(&ROLES)).await;
    let said = told(&after["lead"]["spec"]);
    assert!(said.starts_with("You rewrite the past"), "{said}");
    for (name, agent) in &before {
        assert_eq!(uid(&after[name]), uid(agent), "{name} is the one that it was");
    }

    // It vanishes from its server, and comes back: nothing goes with it.
    stage.http.fault(Fault::Vanish);
    let source = stage.see("sources/fleet", "not ready", |it| stands(it).0 == "Failing").await;
    assert_eq!(source["status"]["lastAppliedRevision"], rewritten.as_str(), "{source}");
    assert_eq!(stage.all("agents").await.len(), 10);
    stage.http.fault(Fault::None);
    stage.applied("fleet", &rewritten).await;

    // Its files are gone from a commit: that is more than may go.
    stage.ops.git(&["rm", "-q", "-r", "fleet"]);
    stage.ops.write("fleet/empty.yaml", "# Nothing any more.\n");
    stage.ops.git(&["add", "-A"]);
    stage.ops.git(&["commit", "-q", "-m", "nothing"]);
    stage.ops.git(&["push", "-q", "-f", "origin", "fresh:main"]);
    stage.says("fleet", "Failing", "EmptySet", &[]).await;
    stage.ops.git(&["revert", "--no-edit", "HEAD"]);
    stage.ops.git(&["push", "-q", "-f", "origin", "fresh:main"]);
    let last = stage.ops.git(&["rev-parse", "HEAD"]);
    stage.applied("fleet", &last).await;
    let end = stage.ready(&names(&ROLES)).await;
    assert!(end.values().all(|agent| uid(agent) == uid(&before[&name(agent)])));
    assert_eq!(stage.ran().len(), 7, "{:?}", stage.ran());
    let same = stage.diff();
    assert_eq!((same.code, same.out.as_str()), (0, ""), "{same:?}");
}
