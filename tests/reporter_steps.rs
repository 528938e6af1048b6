//! Promise 3 for the reporter: it dies at every step of a run, and of looking after a run whose
//! reporter died, and whoever comes next ends in the same state. Never two agents, no process
//! left, the exit told once, and all that was spooled arrives.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;

use futures::{StreamExt as _, stream};
use open_dispatch::{
    resource::{ExitReason, Sprite},
    runtime::{Observed, Runtime as _},
};
use sprite_reporter::{
    process,
    wire::{Event, EventBody},
};

#[path = "support/local.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod local;
#[path = "support/mortals.rs"]
mod mortals;

use local::{HANGS, Stage, TOKEN, is_running, pause};
use mortals::{Mortals, log, passed, spooled};

/// The steps of a run, in order. Who adds an effect to the reporter adds its step here.
const RUN: &[&str] = &[
    "lock",
    "make control group",
    "write state.json",
    "make spool",
    "make segment",
    "append hello",
    "sync",
    "spawn",
    "append ready",
    "append log",
    "kill the tree",
    "append turnEnded",
    "sync",
    "append exit",
    "sync",
    "write exit.json",
    "post",
    "write drained",
];

/// The steps of looking after a run whose reporter died.
const RECOVERY: &[&str] = &[
    "lock",
    "write state.json",
    "make spool",
    "kill the tree",
    "append exit",
    "sync",
    "write exit.json",
    "post",
    "write drained",
];

/// An agent that leaves a process of its own, and ends once its word is in the spool.
const TASK: &str = "echo $$ >> ran; setsid sleep 600 & echo begun; \
                    until grep -qs begun runs/*/spool/*; do sleep 0.01; done; exit 3";

/// How many runs are under way at once.
const AT_ONCE: usize = 6;

/// A stage whose agents can see their spool.
fn stage() -> Stage {
    Stage::with(|config| config.runs = config.home.join("runs"))
}

/// Waits until the reporter has died or has come to its end; answers whether it died. The server
/// comes when the agent has ended.
async fn until_dead(stage: &Stage, sprite: &Sprite) -> bool {
    let mut served = false;
    let wait = async {
        loop {
            if log(stage, sprite).contains("dies at step") {
                return true;
            }
            if stage.run_dir(sprite).drained() {
                return log(stage, sprite).contains("dies at step");
            }
            if !served && stage.run_dir(sprite).exit().unwrap().is_some() {
                served = true;
                stage.serve().await;
            }
            pause().await;
        }
    };
    tokio::time::timeout(HANGS, wait).await.expect("it neither dies nor ends")
}

/// What the Sprite controller does, with a reporter that is well.
async fn look_after(stage: &Stage, sprite: &Sprite) -> ExitReason {
    let look = async {
        loop {
            match stage.runtime.observe(sprite).await.unwrap() {
                Observed::Absent => stage.runtime.start(sprite, TOKEN).await.unwrap(),
                Observed::Orphaned { .. } => stage.runtime.recover(sprite, TOKEN).await.unwrap(),
                Observed::Gone { exit } => return exit.expect("an exit record").reason,
                Observed::Running { .. } => {}
                Observed::Unknown { why } => panic!("{why}"),
                Observed::Machine { .. } => panic!("there is no machine here"),
            }
            pause().await;
        }
    };
    tokio::time::timeout(HANGS, look).await.expect("it never ended")
}

/// What must be so in the end, wherever the reporter died. `spool` is what it left.
async fn check(stage: &Stage, sprite: &Sprite, spool: &[Event], at: &str) {
    stage.serve().await;
    let reason = look_after(stage, sprite).await;
    let ran = fs::read_to_string(stage.home.path().join("ran")).unwrap_or_default();
    assert!(ran.lines().count() <= 1, "{at}: two agents: {ran}");
    let held = stage.held.lock().unwrap()[&sprite.metadata.uid].clone();
    let exits: Vec<_> = held
        .iter()
        .filter_map(|body| match body {
            EventBody::Exit(exit) => Some(exit.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(exits.len(), 1, "{at}: {exits:?}");
    assert_eq!(exits[0].reason, reason, "{at}");
    assert!(matches!(held[0], EventBody::Hello { .. }), "{at}");
    assert!(matches!(held.last(), Some(EventBody::Exit(_))), "{at}");
    for event in spool {
        let place = usize::try_from(event.seq).unwrap() - 1;
        assert_eq!(held.get(place), Some(&event.body), "{at}: {} is lost", event.seq);
    }
    match reason {
        ExitReason::Failed => assert_eq!(exits[0].code, Some(3), "{at}"),
        ExitReason::ReporterLost => assert_eq!(exits[0].code, None, "{at}"),
        other => panic!("{at}: {other:?}"),
    }
    let tree = process::Tree::left_behind(&sprite.metadata.uid, None);
    assert_eq!(tree.members().unwrap(), Vec::<u32>::new(), "{at}: processes are left");
    assert_eq!(
        stage.runtime.observe(sprite).await.unwrap(),
        Observed::Gone { exit: Some(exits[0].clone()) }
    );
}

/// A run whose reporter follows a script from its start.
async fn run(mortals: &Mortals, script: String) -> (Vec<String>, bool) {
    let stage = stage();
    let sprite = stage.sprite(TASK);
    // One that dies before its first word says so here as well; what counts is what is seen.
    let _ = mortals.runtime(&stage, &script).start(&sprite, TOKEN).await;
    let died = until_dead(&stage, &sprite).await;
    stage.until(&sprite, |seen| !matches!(seen, Observed::Running { .. })).await;
    let (steps, spool) = (passed(&stage, &sprite), spooled(&stage, &sprite));
    check(&stage, &sprite, &spool, &format!("run: {script}")).await;
    (steps, died)
}

/// A recovery that follows a script, after the reporter of the run was killed.
async fn recovery(mortals: &Mortals, script: String) -> (Vec<String>, bool) {
    let stage = stage();
    let sprite = stage.sprite("echo $$ >> ran; setsid sleep 600 & echo begun; sleep 600");
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    while spooled(&stage, &sprite).len() < 3 {
        pause().await;
    }
    let Observed::Running { process: Some(process) } = stage.until(&sprite, is_running).await
    else {
        panic!("it does not run")
    };
    let reporter = process::Handle::open(&process).unwrap().unwrap();
    reporter.signal(rustix::process::Signal::KILL).unwrap();
    stage.until(&sprite, |seen| matches!(seen, Observed::Orphaned { exit: None })).await;
    let _ = mortals.runtime(&stage, &script).recover(&sprite, TOKEN).await;
    let died = until_dead(&stage, &sprite).await;
    stage.until(&sprite, |seen| !matches!(seen, Observed::Running { .. })).await;
    let (steps, spool) = (passed(&stage, &sprite), spooled(&stage, &sprite));
    check(&stage, &sprite, &spool, &format!("recovery: {script}")).await;
    (steps, died)
}

fn scripts(steps: &[&str]) -> impl Iterator<Item = (usize, String)> {
    (0..steps.len()).flat_map(|at| ["before", "after"].map(|side| (at, format!("{at} {side}"))))
}

/// The same ends wherever it dies; and each step that is listed was died at, on both sides.
fn assert_died(steps: &[&str], at: usize, script: &str, (passed, died): &(Vec<String>, bool)) {
    // An effect that fails here, for want of a kernel that allows it, has no end to die at.
    let optional = steps[at] == "make control group" && script.ends_with("after");
    assert!(*died || optional, "{script}: {} was never passed", steps[at]);
    if *died {
        assert_eq!(passed, &steps[..=at], "{script}");
    }
}

#[tokio::test]
async fn wherever_a_reporter_dies_the_end_is_the_same() {
    let all = scripts(RUN).map(|(_, script)| script);
    let mortals = Mortals::new(all.chain(["never".to_owned()]));
    // The lists are whole: an effect without its step, or a step that is not listed, shows here.
    assert_eq!(
        run(&mortals, "never".into()).await,
        (RUN.iter().map(|it| it.to_string()).collect(), false)
    );
    let (steps, died) = recovery(&mortals, "never".into()).await;
    assert_eq!(
        (steps.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), died),
        (RECOVERY, false)
    );
    let mortals = &mortals;
    stream::iter(scripts(RUN))
        .for_each_concurrent(AT_ONCE, |(at, script)| async move {
            assert_died(RUN, at, &script, &run(mortals, script.clone()).await);
        })
        .await;
    stream::iter(scripts(RECOVERY))
        .for_each_concurrent(AT_ONCE, |(at, script)| async move {
            assert_died(RECOVERY, at, &script, &recovery(mortals, script.clone()).await);
        })
        .await;
}
