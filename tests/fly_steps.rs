//! Promise: a crash, an error or a lost answer at any step of a machine's life ends as without it: each
//! run lived once, no machine left, and a world at rest asks Fly for nothing.
#![expect(clippy::disallowed_methods, reason = "the clock of these tests is the wall's, faster")]
#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/fly/world.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod world;

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use open_dispatch::{
    ambient::{FreeSteps, Mode, ScriptedSteps},
    reconcile::Wake,
    store::Store as _,
};
use serde_json::json;
use world::{World, scripted};

const MODES: [Mode; 4] = [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter];

/// So many worlds are played at once.
const AT_ONCE: usize = 8;

/// Runs a scenario with a fault at each of its steps in turn; so many at once.
async fn at_each_step<F: Future<Output = (bool, String)>>(play: impl Fn(Arc<ScriptedSteps>) -> F) {
    let free = Arc::new(ScriptedSteps::new(None));
    let (_, end) = play(free.clone()).await;
    let steps = free.passed();
    println!("{end}: {steps:?}");
    assert!(steps.iter().any(|step| step.starts_with("fly.")), "{steps:?}");
    let faults = (0..steps.len()).flat_map(|n| MODES.map(|mode| (n, mode)));
    let plays = faults.map(|(n, mode)| {
        let played = play(scripted(n, mode));
        async move { (n, mode, played.await) }
    });
    let mut played = stream::iter(plays).buffer_unordered(AT_ONCE);
    let mut fired = 0;
    while let Some((n, mode, (came, told))) = played.next().await {
        assert_eq!(told, end, "with {mode:?} at step {n} of {steps:?}");
        fired += usize::from(came);
    }
    assert!(fired > steps.len(), "only {fired} faults came");
}

/// How many runs of the Sprites' controller have ended, if none is under way.
fn runs(server: &world::Server) -> Option<u64> {
    let stats = server.engine.stats().into_iter().find(|(name, _)| *name == "sprite-fly");
    let (_, stats) = stats.expect("the controller is there");
    (stats.ready == 0 && stats.running == 0).then_some(stats.runs)
}

/// Reconciles every Sprite once more: nothing is asked of Fly, lists included, and nothing is written.
///
/// The census lists now and then by itself, and what came about a moment ago may be on its way still. So
/// one quiet moment of many is enough: who asks or writes with each reconcile has none.
async fn rests(world: &World, server: &world::Server) {
    let mut seen = Vec::new();
    for _ in 0..40 {
        let quiet = async || runs(server).is_some() || server.engine.has_crashed();
        world.until("a quiet moment", quiet).await;
        let Some(before) = runs(server) else { return };
        let stood = (world.fly.calls().len(), world.store.writes());
        let sprites = world.sprites().await;
        for sprite in &sprites {
            server.engine.wake("sprite-fly", &sprite.metadata.uid, Wake::User);
        }
        let more = before + sprites.len() as u64;
        let again =
            async || runs(server).is_some_and(|runs| runs >= more) || server.engine.has_crashed();
        world.until("one more reconcile", again).await;
        if server.engine.has_crashed() || (world.fly.calls().len(), world.store.writes()) == stood {
            return;
        }
        seen.push(world.fly.calls().split_off(stood.0));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it never rests: {:#?}\n{:#?}", seen.last(), world.sprites().await);
}

async fn job(steps: Arc<ScriptedSteps>) -> (bool, String) {
    let world = World::new().await;
    let spec = json!({"task": "work", "agent": {"command": {}}, "runtime": {"fly": {}}});
    world.create_job("j", spec).await;
    let done = async || {
        let over = matches!(world.job("j").await.status.phase.as_str(), "Succeeded" | "Failed");
        let let_go = world.sprites().await.iter().all(|it| it.metadata.finalizers.is_empty());
        over && let_go && world.fly.machines().is_empty()
    };
    let server = world.faulty(steps.clone(), done).await;
    rests(&world, &server).await;
    assert_eq!(world.wrong(), Vec::<String>::new());
    let status = world.job("j").await.status;
    let lives = world.lives().len();
    (steps.has_fired(), format!("{} after {}, {lives} lives", status.phase, status.attempts))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_in_a_machine_lives_once_whatever_step_fails() {
    at_each_step(job).await;
}

/// Comes up, sleeps, wakes and is stopped.
async fn agent(steps: Arc<ScriptedSteps>) -> (bool, String) {
    let world = World::new().await;
    world.create_sprite("s", None).await;
    // Whoever wants things does so as soon as what they wanted last is there.
    let mut server = world.server(steps.clone()).await;
    let stage = async |what: &str, server: world::Server, holds: &dyn AsyncHolds| {
        let mut server = server;
        let start = tokio::time::Instant::now();
        while !holds.hold(&world).await {
            if server.engine.has_crashed() {
                drop(server);
                server = world.server(Arc::new(FreeSteps)).await;
            }
            let waited = start.elapsed();
            assert!(waited.as_secs() < 60, "never {what}: {:#?}", world.sprites().await);
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        server
    };
    server = stage("ready", server, &Is("Ready")).await;
    rests(&world, &server).await;
    world.change("s", |sprite| sprite.spec.running = false).await;
    server = stage("asleep", server, &Is("Asleep")).await;
    rests(&world, &server).await;
    let slept = world.machine();
    world.change("s", |sprite| (sprite.spec.running, sprite.spec.run) = (true, 2)).await;
    server = stage("ready again", server, &Is("Ready")).await;
    let same = world.machine().id == slept.id;
    world
        .change("s", |sprite| {
            sprite.spec.stop = Some(open_dispatch::resource::ExitReason::Cancelled);
        })
        .await;
    server = stage("let go", server, &LetGo).await;
    rests(&world, &server).await;
    assert_eq!(world.wrong(), Vec::<String>::new());
    let told = format!(
        "{:?}, the same machine: {same}, machines: {}, volumes: {}, {:?}",
        world.lives(),
        world.fly.machines().len(),
        world.fly.volumes().len(),
        world.sprite("s").await.status.exit.map(|exit| exit.reason),
    );
    (steps.has_fired(), told)
}

#[async_trait::async_trait]
trait AsyncHolds: Send + Sync {
    async fn hold(&self, world: &World) -> bool;
}

struct Is(&'static str);

#[async_trait::async_trait]
impl AsyncHolds for Is {
    async fn hold(&self, world: &World) -> bool {
        let sprite = world.sprite("s").await;
        // Of the run that is wanted.
        world.is("s", self.0).await && (self.0 != "Ready" || sprite.status.run == sprite.spec.run)
    }
}

struct LetGo;

#[async_trait::async_trait]
impl AsyncHolds for LetGo {
    async fn hold(&self, world: &World) -> bool {
        world.is_let_go("s").await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_sleeps_and_wakes_is_one_machine_whatever_step_fails() {
    at_each_step(agent).await;
}
