//! A crash, an error or a lost answer at every step of an Override's life ends in the same state, and
//! at no moment does the object say anything but its file and its live Overrides.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "the support serves more than this binary")]
#[path = "support/declared.rs"]
mod declared;
#[expect(dead_code, reason = "the support serves more than this binary")]
#[path = "support/steps.rs"]
mod steps;

use std::{path::Path, process::Command, sync::Arc};

use declared::Declared;
use open_dispatch::{
    ambient::{Ambient, Mode, ScriptedSteps},
    reconcile::Controller as _,
    resource::{Kind, SourceFrom},
    secrets::Secrets,
    source::{
        git::{Git, Limits, Settings},
        over::pen::SourcePen,
    },
    store::Store as _,
};
use serde_json::{Value, json};
use steps::{OVERRIDES as STEPS, WORK_TREES};

const MODES: [Mode; 4] = [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter];

/// Overrides come, are written to the file, expire and are deleted.
async fn life(steps: Arc<ScriptedSteps>) -> Value {
    let mut world = Declared::new(steps).await;
    world.over("short", json!({"patch": {"idleTimeout": "2h"}, "expiresAfter": "1h"})).await;
    world.settle().await;
    world.over("file", json!({"patch": {"budget": {"usd": 9}}, "writeToFile": true})).await;
    world.over("gone", json!({"patch": {"budget": {"turns": 1}}})).await;
    world.settle().await;
    world.delete(Kind::Override, "gone").await;
    world.settle().await;
    world.read_file().await;
    world.settle().await;
    world.advance(1).await;
    // One more look writes nothing.
    let writes = world.store.writes();
    world.controller.reconcile("agent/bot").await.unwrap();
    world.files.reconcile("agent/bot").await.unwrap();
    assert_eq!(world.store.writes(), writes);
    let mut phases = Vec::new();
    for name in ["short", "file", "gone"] {
        phases.push(world.phase(name).await);
    }
    let file = std::fs::read_to_string(world.dir.join("bot.yaml")).unwrap();
    let drifted = world.bot().await.status.conditions.get("Drifted").cloned();
    let row = world.row().await.unwrap();
    let left = std::fs::read_dir(&world.dir).unwrap().count();
    json!({
        "spec": world.spec().await, "phases": phases, "file": file, "drifted": drifted,
        "laid": row.overrides, "base": row.base.spec, "files": left,
    })
}

#[tokio::test]
async fn a_fault_at_any_step_of_an_overrides_life_ends_in_the_same_state() {
    let dry = Arc::new(ScriptedSteps::new(None));
    let meant = life(Arc::clone(&dry)).await;
    let passed = dry.passed();
    let mut taken = passed.clone();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken, STEPS);
    assert_eq!(meant["spec"]["budget"]["usd"], 9);
    assert_eq!(
        meant["phases"],
        json!([
            ["Expired", "Expired: its time is over"],
            ["Written", "InFile: the file says it"],
            ["gone", ""]
        ])
    );
    for (n, _) in passed.iter().enumerate() {
        for mode in MODES {
            let steps = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let end = life(Arc::clone(&steps)).await;
            assert!(steps.has_fired(), "{mode:?} at {n}, {}", passed[n]);
            assert_eq!(end, meant, "{mode:?} at {n}, {}", passed[n]);
        }
    }
}

/// Runs git in a directory, and answers what it said.
fn git(dir: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@localhost"]).args(args);
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An Override is written to a file in a work tree, and committed there.
async fn commit(steps: Arc<ScriptedSteps>) -> Value {
    let mut world = Declared::new(steps.clone()).await;
    let dir = world.dir.clone();
    git(&dir, &["init", "--quiet"]);
    git(&dir, &["add", "-A"]);
    git(&dir, &["commit", "--quiet", "--message", "Ours"]);
    world
        .change_source(|spec| {
            if let SourceFrom::Directory(directory) = &mut spec.from {
                directory.commit = true;
            }
        })
        .await;
    let aside = tempfile::tempdir().unwrap();
    let settings = Settings {
        dir: aside.path().join("sources"),
        environment: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
        roots: Vec::new(),
        limits: Limits::default(),
    };
    let secrets = Secrets::new(aside.path().join("secrets"), Vec::new());
    let ambient = Ambient { steps, ..Ambient::real() };
    world.write_with(Arc::new(SourcePen::new(&dir, Git::new(settings, secrets, ambient))));
    world.over("file", json!({"patch": {"budget": {"usd": 9}}, "writeToFile": true})).await;
    world.settle().await;
    world.read_file().await;
    world.settle().await;
    let mut phase = world.phase("file").await;
    phase.1 = phase.1.split(" at ").next().unwrap_or_default().to_owned();
    json!({
        "file": std::fs::read_to_string(dir.join("bot.yaml")).unwrap(),
        "commits": git(&dir, &["log", "--format=%s"]),
        "changed": git(&dir, &["status", "--porcelain"]),
        "phase": phase,
    })
}

#[tokio::test]
async fn a_fault_at_any_step_of_a_change_in_a_work_tree_ends_in_one_commit() {
    let dry = Arc::new(ScriptedSteps::new(None));
    let meant = commit(Arc::clone(&dry)).await;
    let passed = dry.passed();
    let mut taken = passed.clone();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken, WORK_TREES);
    assert_eq!(meant["commits"], "Set budget of agent bot\nOurs");
    assert_eq!(meant["changed"], "");
    for (n, step) in passed.iter().enumerate() {
        for mode in MODES {
            let steps = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let end = commit(Arc::clone(&steps)).await;
            assert!(steps.has_fired(), "{mode:?} at {n}, {step}");
            assert_eq!(end, meant, "{mode:?} at {n}, {step}");
        }
    }
}
