//! Many runs of one sprite on this machine: it sleeps and wakes in one place, never twice at once,
//! whatever was broken off in between, and whatever becomes of the program that looks after it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use open_dispatch::{
    resource::{ExitReason, Sprite},
    runtime::{Cleaned, Error, Observed, Runtime, local::LocalRuntime},
};
use sprite_reporter::{
    process,
    wire::{EventBody, Order, TurnOutcome},
};

#[path = "support/local.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod local;

use local::{HANGS, Stage, TOKEN, is_running, pause};

fn has_ended(turn: &'static str) -> impl Fn(&EventBody) -> bool {
    move |body| {
        matches!(body, EventBody::TurnEnded { turn: it, outcome: TurnOutcome::Succeeded, .. }
            if it == turn)
    }
}

/// What the controllers write when a person speaks to a sprite that sleeps.
fn wake(sprite: &mut Sprite) {
    sprite.spec.running = true;
    sprite.spec.run += 1;
}

async fn sleep(stage: &Stage, sprite: &mut Sprite) {
    sprite.spec.running = false;
    stage.order(sprite, Order::Sleep {});
    assert_eq!(stage.until_gone(sprite).await, ExitReason::Asleep);
}

async fn kill_reporter(stage: &Stage, sprite: &Sprite) {
    let Observed::Running { process: Some(process) } = stage.until(sprite, is_running).await else {
        panic!("it does not run")
    };
    let reporter = process::Handle::open(&process).unwrap().unwrap();
    reporter.signal(rustix::process::Signal::KILL).unwrap();
    reporter.ended().await.unwrap();
}

#[tokio::test]
async fn a_sprite_sleeps_and_wakes_in_one_place_with_its_session() {
    let stage = Stage::new();
    stage.serve().await;
    let mut sprite = stage.session();
    sprite.spec.session = Some("of the sprite before".into());
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    let session = |stage: &Stage, sprite: &Sprite| stage.run_dir(sprite).spec().unwrap().session;
    assert_eq!(session(&stage, &sprite).as_deref(), Some("of the sprite before"));
    for run in 1..=3 {
        assert_eq!(sprite.spec.run, run);
        stage.until(&sprite, is_running).await;
        stage.order(&sprite, Order::turn("turn", format!("echo {run} >> ran")));
        stage.until_said(&sprite, has_ended("turn")).await;
        sleep(&stage, &mut sprite).await;
        assert_eq!(stage.runtime.reporters().unwrap(), Vec::<u32>::new());
        sprite.status.session_id = Some(format!("of run {run}"));
        wake(&mut sprite);
        assert_eq!(stage.runtime.observe(&sprite).await.unwrap(), Observed::Absent);
        stage.runtime.start(&sprite, TOKEN).await.unwrap();
        assert_eq!(session(&stage, &sprite).unwrap(), format!("of run {run}"));
        assert_eq!(fs::read_dir(&stage.config.runs).unwrap().count(), 1, "one place for all runs");
    }
    stage.until(&sprite, is_running).await;
    assert_eq!(stage.runtime.reporters().unwrap().len(), 1);
    assert_eq!(fs::read_to_string(stage.home.path().join("ran")).unwrap(), "1\n2\n3\n");
    stage.runtime.kill(&sprite).await.unwrap();
    assert_eq!(stage.until_gone(&sprite).await, ExitReason::Cancelled);
    assert_eq!(stage.runtime.clean(&sprite).await.unwrap(), Cleaned::All);
    assert_eq!(fs::read_dir(&stage.config.runs).unwrap().count(), 0);
}

#[tokio::test]
async fn one_that_does_not_fall_asleep_is_killed_and_is_asleep() {
    let stage = Stage::new();
    stage.serve().await;
    let mut sprite = stage.session();
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    stage.order(
        &sprite,
        Order::turn("turn", "trap '' INT TERM; touch on; while :; do sleep 1; done"),
    );
    while !stage.home.path().join("on").exists() {
        pause().await;
    }
    sprite.spec.running = false;
    stage.runtime.kill(&sprite).await.unwrap();
    assert_eq!(stage.until_gone(&sprite).await, ExitReason::Asleep);
}

#[tokio::test]
async fn the_next_run_does_not_start_while_the_last_one_lives() {
    let stage = Stage::new();
    stage.serve().await;
    let mut sprite = stage.session();
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    stage.until(&sprite, is_running).await;
    let mut wakes = stage.runtime.wakes().unwrap();
    let first = sprite.clone();
    wake(&mut sprite);
    match stage.runtime.observe(&sprite).await.unwrap() {
        Observed::Unknown { why } => assert!(why.contains("run 1 still lives"), "{why}"),
        other => panic!("{other:?}"),
    }
    let refused = stage.runtime.start(&sprite, TOKEN).await;
    assert!(matches!(&refused, Err(Error::Transient(why)) if why.contains("run 1 still lives")));
    assert_eq!(stage.run_dir(&sprite).spec().unwrap().run, 1);
    assert_eq!(stage.runtime.reporters().unwrap().len(), 1);

    // Its end is heard, and then the next one starts; whoever still asks for the first is told.
    stage.order(&first, Order::Sleep {});
    let woken = tokio::time::timeout(HANGS, wakes.recv()).await.unwrap();
    assert_eq!(woken, Some(sprite.metadata.uid.clone()));
    stage.until(&sprite, |seen| *seen == Observed::Absent).await;
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    stage.until(&sprite, is_running).await;
    match stage.runtime.observe(&first).await.unwrap() {
        Observed::Unknown { why } => assert!(why.contains("run 2 of it is there"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(stage.runtime.start(&first, TOKEN).await.is_err());
    assert_eq!(stage.runtime.reporters().unwrap().len(), 1);
    stage.runtime.kill(&sprite).await.unwrap();
}

#[tokio::test]
async fn a_run_that_has_more_to_tell_tells_it_before_the_next_one_starts() {
    let stage = Stage::new();
    let mut sprite = stage.session();
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    kill_reporter(&stage, &sprite).await;
    let first = sprite.clone();
    wake(&mut sprite);
    stage.until(&sprite, |seen| *seen == Observed::Absent).await;
    let told = stage.runtime.start(&sprite, TOKEN).await;
    assert!(
        matches!(&told, Err(Error::Transient(why)) if why.contains("more to tell")),
        "{told:?}"
    );
    assert_eq!(stage.run_dir(&sprite).spec().unwrap().run, 1);
    stage.serve().await;
    assert_eq!(stage.until_gone(&first).await, ExitReason::ReporterLost);
    stage.runtime.start(&sprite, TOKEN).await.unwrap();
    stage.until(&sprite, is_running).await;
    let exits = |body: &EventBody| matches!(body, EventBody::Exit(_));
    assert!(stage.events(&first).iter().any(exits));
    stage.runtime.kill(&sprite).await.unwrap();
}

#[tokio::test]
async fn a_start_that_was_broken_off_anywhere_is_gone_on_with() {
    // What the earlier run left stands here, the next one's directory is there, who begins it.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Broken {
        BeforeItWasWritten,
        BesideItsPlace,
        BetweenTheTwo,
        BeforeTheLastWasRemoved,
        BeforeTheLaunch,
    }
    for broken in [
        Broken::BeforeItWasWritten,
        Broken::BesideItsPlace,
        Broken::BetweenTheTwo,
        Broken::BeforeTheLastWasRemoved,
        Broken::BeforeTheLaunch,
    ] {
        let stage = Stage::new();
        stage.serve().await;
        let mut sprite = stage.session();
        stage.runtime.start(&sprite, TOKEN).await.unwrap();
        stage.until(&sprite, is_running).await;
        sleep(&stage, &mut sprite).await;
        wake(&mut sprite);
        let place = stage.run_dir(&sprite).path().to_owned();
        let uid = &sprite.metadata.uid;
        let new = stage.config.runs.join(format!(".new-{uid}"));
        let gone = stage.config.runs.join(format!(".gone-{uid}"));
        let mut next = stage.run_dir(&sprite).spec().unwrap();
        next.run = 2;
        fs::create_dir(&new).unwrap();
        fs::write(new.join("spec.json.tmp"), "{").unwrap();
        fs::write(new.join("lock"), "").unwrap();
        if broken != Broken::BeforeItWasWritten {
            sprite_reporter::rundir::RunDir::new(&new).write_spec(&next).unwrap();
        }
        if !matches!(broken, Broken::BeforeItWasWritten | Broken::BesideItsPlace) {
            fs::rename(&place, &gone).unwrap();
        }
        if matches!(broken, Broken::BeforeTheLastWasRemoved | Broken::BeforeTheLaunch) {
            fs::rename(&new, &place).unwrap();
        }
        if broken == Broken::BeforeTheLaunch {
            fs::remove_dir_all(&gone).unwrap();
        }
        let absent = stage.runtime.observe(&sprite).await.unwrap();
        assert_eq!(absent, Observed::Absent, "{broken:?}");
        stage.runtime.start(&sprite, TOKEN).await.unwrap();
        stage.until(&sprite, is_running).await;
        stage.order(&sprite, Order::turn("turn", "echo once >> ran"));
        stage.until_said(&sprite, has_ended("turn")).await;
        let left: Vec<_> = fs::read_dir(&stage.config.runs).unwrap().collect();
        assert_eq!(left.len(), 1, "{broken:?}: {left:?}");
        sleep(&stage, &mut sprite).await;
        assert_eq!(fs::read_to_string(stage.home.path().join("ran")).unwrap(), "once\n");
    }
}

#[tokio::test]
async fn a_reporter_whose_program_is_replaced_or_removed_goes_on_and_the_new_one_recovers() {
    for removed in [false, true] {
        let programs = tempfile::tempdir().unwrap();
        let program = programs.path().join("sprite-reporter");
        let built = env!("CARGO_BIN_EXE_open-dispatch");
        fs::copy(built, &program).unwrap();
        let stage = Stage::with(|config| config.reporter = Some(program.clone()));
        stage.serve().await;
        let sprite = stage.session();
        stage.runtime.start(&sprite, TOKEN).await.unwrap();
        stage.until(&sprite, is_running).await;

        // The upgrade: the new program says when it is called; where none comes, none can be.
        let called = programs.path().join("called");
        let next = programs.path().join("next");
        let real = programs.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(built, real.join("sprite-reporter")).unwrap();
        fs::write(
            &next,
            format!(
                "#!/bin/sh\necho \"$1\" >> {}\nexec {} \"$@\"\n",
                called.display(),
                real.join("sprite-reporter").display()
            ),
        )
        .unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(&program).unwrap();
        if !removed {
            fs::rename(&next, &program).unwrap();
        }
        // Each turn starts a process by way of the reporter's own program, which is not there.
        stage.order(&sprite, Order::turn("turn", "echo once >> ran"));
        stage.until_said(&sprite, has_ended("turn")).await;
        assert!(!called.exists(), "the one that runs is the old one");

        if removed {
            fs::rename(&next, &program).unwrap();
        }
        // The server that was started anew looks, and finds it running.
        let server = LocalRuntime::new(stage.config.clone());
        assert!(is_running(&server.observe(&sprite).await.unwrap()));
        kill_reporter(&stage, &sprite).await;
        stage.until(&sprite, |seen| matches!(seen, Observed::Orphaned { .. })).await;
        server.recover(&sprite, TOKEN).await.unwrap();
        assert_eq!(stage.until_gone(&sprite).await, ExitReason::ReporterLost);
        let calls = fs::read_to_string(&called).unwrap();
        assert!(calls.lines().any(|call| call == "launch"), "{calls}");
        assert_eq!(fs::read_to_string(stage.home.path().join("ran")).unwrap(), "once\n");
    }
}
