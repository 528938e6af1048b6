//! A crash, an error or a lost answer at every step of an Override's life ends in the same state, and
//! at no moment does the object say anything but its file and its live Overrides.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "the support serves more than this binary")]
#[path = "support/declared.rs"]
mod declared;

use std::sync::Arc;

use declared::Declared;
use open_dispatch::{
    ambient::{Mode, ScriptedSteps},
    reconcile::Controller as _,
    resource::Kind,
    store::Store as _,
};
use serde_json::{Value, json};

/// The steps that a life takes.
const STEPS: [&str; 3] = ["override.apply", "override.note-file", "override.write-file"];

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
        for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
            let steps = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let end = life(Arc::clone(&steps)).await;
            assert!(steps.has_fired(), "{mode:?} at {n}, {}", passed[n]);
            assert_eq!(end, meant, "{mode:?} at {n}, {}", passed[n]);
        }
    }
}
