//! Promise 3 for a sprite that is talked to: its reporter dies at every step of a run that takes a
//! turn and goes to sleep, and of the run that wakes it, and whoever comes next ends in the same
//! state. A turn is prompted once, and never before the server holds that it was taken; it ends
//! once; and no two runs are there at once.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;

use futures::{StreamExt as _, stream};
use open_dispatch::{
    resource::{ExitReason, Sprite},
    runtime::{Observed, Runtime as _},
};
use sprite_reporter::{
    process,
    wire::{EventBody, Order, TurnOutcome},
};

#[path = "support/local.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod local;
#[path = "support/mortals.rs"]
mod mortals;

use local::{HANGS, Stage, TOKEN, pause};
use mortals::{Mortals, log, passed, spooled};

/// The steps of a run, in order, without its posts. Who adds an effect adds its step here.
const RUN: &[&str] = &[
    "lock",
    "make control group",
    "write state.json",
    "make spool",
    "make segment",
    "append hello",
    "sync",
    "append ready",
    "append turnAccepted",
    "sync",
    "spawn",
    "append turnEnded",
    "sync",
    "kill the tree",
    "append exit",
    "sync",
    "write exit.json",
    "write drained",
];

/// The posts of a run that each wait for one before them: the hello, that the turn was taken, its
/// end, the exit. There may be more.
const POSTS: usize = 4;

/// How many runs are under way at once.
const AT_ONCE: usize = 6;

/// Which run's reporter dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The first: it takes a turn and goes to sleep.
    First,
    /// The second: it wakes, and does the same.
    Second,
}

/// Where a reporter dies: the step's place in [`RUN`], if it is no post, and the script.
fn scripts() -> Vec<(Option<usize>, String)> {
    let nth = |at: usize| RUN[..=at].iter().filter(|it| **it == RUN[at]).count();
    let steps = (0..RUN.len()).map(|at| (Some(at), format!("{}#{}", RUN[at], nth(at))));
    let posts = (1..=POSTS).map(|nth| (None, format!("post#{nth}")));
    let both =
        |(at, step): (_, String)| ["before", "after"].map(|side| (at, format!("{step} {side}")));
    steps.chain(posts).flat_map(both).collect()
}

fn turn_of(sprite: &Sprite) -> String {
    format!("turn-{}", sprite.spec.run)
}

/// What the controllers do while a run lives: the turn is there; once it has ended, sleep.
struct Director {
    slept: bool,
}

impl Director {
    fn new(stage: &Stage, sprite: &Sprite) -> Self {
        let turn = turn_of(sprite);
        stage.order(sprite, Order::turn(&turn, format!("echo {turn} >> ran")));
        Self { slept: false }
    }

    fn direct(&mut self, stage: &Stage, sprite: &Sprite) {
        let ended = |body: &EventBody| matches!(body, EventBody::TurnEnded { .. });
        if !self.slept && stage.events(sprite).iter().any(ended) {
            self.slept = true;
            stage.order(sprite, Order::Sleep {});
        }
    }

    /// Waits until the reporter has died or has come to its end; answers whether it died.
    async fn until_dead(&mut self, stage: &Stage, sprite: &Sprite) -> bool {
        let wait = async {
            loop {
                let died = log(stage, sprite).contains("dies at step");
                if died || stage.run_dir(sprite).drained() {
                    return died;
                }
                self.direct(stage, sprite);
                pause().await;
            }
        };
        tokio::time::timeout(HANGS, wait).await.expect("it neither dies nor ends")
    }

    /// What the Sprite controller does, with a reporter that is well.
    async fn look_after(&mut self, stage: &Stage, sprite: &Sprite) -> ExitReason {
        let look = async {
            loop {
                match stage.runtime.observe(sprite).await.unwrap() {
                    Observed::Absent => stage.runtime.start(sprite, TOKEN).await.unwrap(),
                    Observed::Orphaned { .. } => {
                        stage.runtime.recover(sprite, TOKEN).await.unwrap();
                    }
                    Observed::Gone { exit } => return exit.expect("an exit record").reason,
                    Observed::Running { .. } => self.direct(stage, sprite),
                    Observed::Unknown { why } => panic!("{why}"),
                    Observed::Machine { .. } => panic!("there is no machine here"),
                }
                pause().await;
            }
        };
        tokio::time::timeout(HANGS, look).await.expect("it never ended")
    }
}

/// How often a turn took effect.
fn effects(stage: &Stage, turn: &str) -> usize {
    let ran = fs::read_to_string(stage.home.path().join("ran")).unwrap_or_default();
    ran.lines().filter(|line| *line == turn).count()
}

/// What must be so in the end, wherever the reporter died.
fn check(stage: &Stage, sprite: &Sprite, reason: ExitReason, at: &str) {
    let held = stage.events(sprite);
    let turn = turn_of(sprite);
    let count = |what: &dyn Fn(&EventBody) -> bool| held.iter().filter(|body| what(body)).count();
    assert!(matches!(held[0], EventBody::Hello { .. }), "{at}");
    assert!(matches!(held.last(), Some(EventBody::Exit(_))), "{at}");
    assert_eq!(count(&|body| matches!(body, EventBody::Exit(_))), 1, "{at}");
    let taken = count(&|body| matches!(body, EventBody::TurnAccepted { .. }));
    let outcomes: Vec<TurnOutcome> = held
        .iter()
        .filter_map(|body| match body {
            EventBody::TurnEnded { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .collect();
    let effects = effects(stage, &turn);
    assert!(effects <= taken && taken <= 1, "{at}: {effects} effects of {taken}");
    assert!(outcomes.len() <= 1, "{at}: {outcomes:?}");
    match reason {
        ExitReason::Asleep => {
            assert_eq!((outcomes.as_slice(), effects), ([TurnOutcome::Succeeded].as_slice(), 1));
        }
        ExitReason::ReporterLost => {
            assert!(outcomes.iter().all(|it| *it == TurnOutcome::Succeeded), "{at}: {outcomes:?}");
            assert!(outcomes.is_empty() || effects == 1, "{at}");
        }
        other => panic!("{at}: {other:?}"),
    }
    let tree = process::Tree::left_behind(&sprite.metadata.uid, None);
    assert_eq!(tree.members().unwrap(), Vec::<u32>::new(), "{at}: processes are left");
    let places = fs::read_dir(&stage.config.runs).unwrap().count();
    assert_eq!(places, 1, "{at}: one place for all runs");
}

/// Two runs of a sprite, of which one's reporter follows a script. Answers the steps that it passed,
/// and whether it died.
async fn live(mortals: &Mortals, which: Which, script: &str) -> (Vec<String>, bool) {
    let stage = Stage::new();
    stage.serve().await;
    let mut sprite = stage.session();
    let at = format!("{which:?}, {script}");
    if which == Which::Second {
        let mut director = Director::new(&stage, &sprite);
        let reason = director.look_after(&stage, &sprite).await;
        assert_eq!(reason, ExitReason::Asleep);
        check(&stage, &sprite, reason, &at);
        sprite.spec.run = 2;
    }
    let mut director = Director::new(&stage, &sprite);
    // One that dies before its first word says so here as well; what counts is what is seen.
    let _ = mortals.runtime(&stage, script).start(&sprite, TOKEN).await;
    let died = director.until_dead(&stage, &sprite).await;
    stage.until(&sprite, |seen| !matches!(seen, Observed::Running { .. })).await;
    let (steps, spool) = (passed(&stage, &sprite), spooled(&stage, &sprite));
    let held = stage.events(&sprite);
    if effects(&stage, &turn_of(&sprite)) > 0 {
        let taken = |body: &EventBody| matches!(body, EventBody::TurnAccepted { .. });
        assert!(held.iter().any(taken), "{at}: prompted before the server held it");
    }
    let reason = director.look_after(&stage, &sprite).await;
    check(&stage, &sprite, reason, &at);
    let held = stage.events(&sprite);
    for event in spool {
        let place = usize::try_from(event.seq).unwrap() - 1;
        assert_eq!(held.get(place), Some(&event.body), "{at}: {} is lost", event.seq);
    }
    // Asleep it wakes as ever.
    if reason == ExitReason::Asleep {
        sprite.spec.run += 1;
        let mut director = Director::new(&stage, &sprite);
        let reason = director.look_after(&stage, &sprite).await;
        assert_eq!(reason, ExitReason::Asleep, "{at}");
        check(&stage, &sprite, reason, &at);
    }
    (steps.into_iter().filter(|step| step != "post").collect(), died)
}

#[tokio::test]
async fn wherever_a_reporter_dies_every_turn_runs_once_and_the_sprite_sleeps_and_wakes() {
    let scripts = scripts();
    assert_eq!(scripts.len(), 2 * (18 + 4));
    let all = scripts.iter().map(|(_, script)| script.clone());
    let mortals = Mortals::new(all.chain(["never".to_owned()]));
    for which in [Which::First, Which::Second] {
        // The list is whole: an effect without its step, or a step that is not listed, shows here.
        let (steps, died) = live(&mortals, which, "never").await;
        assert_eq!((steps, died), (RUN.iter().map(|it| it.to_string()).collect(), false));
        let mortals = &mortals;
        stream::iter(&scripts)
            .for_each_concurrent(AT_ONCE, |(at, script)| async move {
                let (steps, died) = live(mortals, which, script).await;
                let Some(at) = *at else { return assert!(died, "{script} was never passed") };
                // One that fails, for want of a kernel that allows it, has no end to die at.
                let optional = RUN[at] == "make control group" && script.ends_with("after");
                assert!(died || optional, "{script} was never passed");
                if died {
                    assert_eq!(steps, &RUN[..=at], "{script}");
                }
            })
            .await;
    }
}
