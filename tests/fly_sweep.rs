//! Promise: what Fly holds for nobody is found, told and destroyed, slowly; and nothing else is, not
//! a stranger's, not after a list that was not whole, and not by a store that was restored and knows
//! less than there is.
#![expect(clippy::disallowed_methods, reason = "the clock of these tests is the wall's, faster")]
#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/fly/world.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod world;

use std::{sync::Arc, time::Duration};

use axum::{body::Body, http::Request};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock as _, FreeSteps, Mode, ScriptedSteps, SeededIds},
    dev_fly::{Action, Deed, LostAnswer, Trouble},
    resource::{
        Kind,
        leaks::{EVENTS, Leaks, PLACE},
    },
    runtime::fly::leaks::Patience,
    server::{self, State},
    store::Store as _,
    token::SpriteTokens,
};
use reqwest::Method;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use world::{Server, Sweep, World};

/// Slow enough to be looked at between two steps, by the fast clock.
const SWEEP: Sweep = Sweep {
    patience: Patience {
        machine: Duration::from_secs(60),
        volume: Duration::from_secs(120),
        settle: Duration::from_secs(20),
        cap: 2,
        every: Duration::from_secs(30),
        pause: Duration::from_secs(10),
    },
    restored: None,
};

async fn sweeping(world: &World) -> Server {
    world.sweeping(Arc::new(FreeSteps), SWEEP).await
}

/// What somebody else says to Fly.
async fn say(world: &World, method: Method, path: &str, body: &Value) -> Value {
    let url = world.fly.url().join(&format!("v1/apps/sprites/{path}")).unwrap();
    let client = reqwest::Client::new();
    let call = client.request(method, url).header("authorization", "FlyV1 fm2_dev_fly").json(body);
    let answer = call.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {answer:?}");
    answer.json().await.unwrap()
}

/// A machine that somebody made by hand, with these tags.
async fn machine(world: &World, name: &str, tags: Value) -> String {
    let body = json!({"name": name, "region": "iad", "skip_launch": true, "config": {
        "image": "registry.fly.io/sprites/agent:v1", "metadata": tags,
        "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256}}});
    say(world, Method::POST, "machines", &body).await["id"].as_str().unwrap().to_owned()
}

/// A machine with our tags, of this Sprite, made at this revision.
async fn leak(world: &World, name: &str, sprite: &str, revision: u64) -> String {
    let tags = json!({"od_installation": world.store.installation(), "od_sprite": sprite,
        "od_revision": revision.to_string()});
    machine(world, name, tags).await
}

async fn volume(world: &World, name: &str) -> String {
    let body = json!({"name": name, "region": "iad", "size_gb": 1});
    say(world, Method::POST, "volumes", &body).await["id"].as_str().unwrap().to_owned()
}

/// The name of a volume of ours, of somebody who is gone.
fn our_volume(world: &World) -> String {
    let home = world.store.installation().chars().filter(char::is_ascii_alphanumeric);
    format!("od_{}_cd70d78fdacdd19643", home.take(8).collect::<String>())
}

fn machines(world: &World) -> Vec<String> {
    world.fly.machines().into_iter().map(|it| it.id).collect()
}

async fn leaks(world: &World) -> Leaks {
    let place = world.store.place(PLACE.0, PLACE.1).await.unwrap();
    place.map(|it| serde_json::from_value(it.facts).unwrap()).unwrap_or_default()
}

async fn events(world: &World, reason: &str) -> Vec<String> {
    let events = world.store.events(EVENTS).await.unwrap();
    events.into_iter().filter(|it| it.reason == reason).map(|it| it.note).collect()
}

/// Waits until so many whole looks were taken from now on.
async fn looks(world: &World, n: usize) {
    let count = || {
        let calls = world.fly.calls();
        calls.iter().filter(|it| it.path.contains("/volumes") && it.method == "GET").count()
    };
    let before = count();
    world.until("looked", async || count() >= before + n).await;
}

/// A server's doors over the world's store.
fn doors(world: &World) -> State {
    let (clock, steps) = (world.clock.clone(), Arc::new(FreeSteps));
    let ambient = Ambient { clock, ids: Arc::new(SeededIds::new(9)), steps };
    let tokens = SpriteTokens::new(b"the key of this test");
    State::new(world.store.clone(), ambient, tokens, "access".into())
}

async fn answer(state: State, method: &str, path: &str) -> Value {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", "Bearer access")
        .body(Body::empty())
        .unwrap();
    let answer = server::router(state).oneshot(request).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap()
}

/// What an operator asks the server.
async fn ask(world: &World, method: &str, path: &str) -> Value {
    let path = format!("/apis/opendispatch.dev/v1alpha1/fly/leaks{path}");
    answer(doors(world), method, &path).await
}

/// An operator looks, and agrees.
async fn confirm(world: &World) {
    let told = ask(world, "GET", "").await;
    assert!(told["told"].as_str().unwrap().contains("restored from a backup"), "{told}");
    ask(world, "POST", "/confirm").await;
    let audit = world.store.audit(None, 10).await.unwrap();
    assert!(audit.last().unwrap().what.contains("let go of what Fly holds"), "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_nobody_goes_after_the_grace_and_is_told_with_its_price() {
    let world = World::new().await;
    world.create_sprite("s", None).await;
    let server = sweeping(&world).await;
    world.until("ready", async || world.is("s", "Ready").await).await;
    let living = (machines(&world), world.fly.volumes().len());
    let of_gone = leak(&world, "by-hand", "gone", 0).await;
    // The same tags as the one that lives, under another name.
    let double = leak(&world, "double", "s", 0).await;
    volume(&world, &our_volume(&world)).await;
    let found = world.clock.now();
    world.until("marked", async || leaks(&world).await.tombstones.len() == 3).await;
    let told = server.tidings.borrow().clone().unwrap();
    assert!(told.starts_with("2 machines and 1 volume on Fly belong to nothing here"), "{told}");
    assert!(events(&world, "Leaking").await.iter().any(|it| it.contains("an hour")));
    assert_eq!(machines(&world).len(), living.0.len() + 2, "nothing goes at once");
    world.until("machines gone", async || machines(&world) == living.0).await;
    assert!(world.clock.now().duration_since(found).as_secs() >= 60, "after the grace");
    world.until("volume gone", async || world.fly.volumes().len() == living.1).await;
    world.until("all told", async || server.tidings.borrow().is_none()).await;
    assert_eq!(leaks(&world).await, Leaks::default());
    let swept = events(&world, "Swept").await.join("; ");
    assert!(swept.contains(&of_gone) && swept.contains(&double), "{swept}");
    assert!(world.is("s", "Ready").await);
    assert_eq!(world.wrong(), Vec::<String>::new());
    // Nothing is written where nothing is found.
    let writes = world.store.writes();
    looks(&world, 2).await;
    assert_eq!(world.store.writes(), writes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_machines_and_volumes_are_never_touched() {
    let world = World::new().await;
    let theirs = [
        machine(&world, "web", json!({})).await,
        machine(&world, "fly-app", json!({"fly_process_group": "app"})).await,
        machine(&world, "other-house", json!({"od_installation": "another", "od_sprite": "x"}))
            .await,
        machine(&world, "half", json!({"od_sprite": "x"})).await,
    ];
    for name in ["data", "od_ffffffff_cd70d78fdacdd19643", "od_data"] {
        volume(&world, name).await;
    }
    let server = sweeping(&world).await;
    let ours = leak(&world, "ours", "gone", 0).await;
    world.until("ours gone", async || !machines(&world).contains(&ours)).await;
    looks(&world, 3).await;
    let mut left = machines(&world);
    left.sort();
    let mut theirs = theirs.to_vec();
    theirs.sort();
    assert_eq!((left, world.fly.volumes().len()), (theirs, 3));
    assert_eq!(*server.tidings.borrow(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_list_that_failed_nothing_goes_and_no_time_runs() {
    let world = World::new().await;
    leak(&world, "ours", "gone", 0).await;
    world.fly.faults().set(|it| it.token_refused = true);
    let server = sweeping(&world).await;
    world.until("word of the beginning", async || leaks(&world).await.first.is_some()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((machines(&world).len(), leaks(&world).await.tombstones.len()), (1, 0));
    world.fly.faults().set(|it| it.token_refused = false);
    world.until("marked", async || leaks(&world).await.tombstones.len() == 1).await;
    assert_eq!(leaks(&world).await.first, None);
    world.until("gone", async || machines(&world).is_empty()).await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_everybody_sleeps_the_list_of_a_sweep_is_the_only_one() {
    let world = World::new().await;
    let _server = sweeping(&world).await;
    looks(&world, 1).await;
    let before = world.fly.calls().len();
    // Eight times thirty seconds: the census alone would have asked four times.
    looks(&world, 8).await;
    let calls = world.fly.calls();
    let since = calls.get(before..).unwrap_or_default();
    let lists = since.iter().filter(|it| it.action == Action::List).count();
    let volumes =
        since.iter().filter(|it| it.path.contains("/volumes") && it.method == "GET").count();
    assert!(lists <= volumes + 1, "{lists} lists of machines for {volumes} sweeps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_destroys_no_more_than_its_cap() {
    let world = World::new().await;
    for n in 0..5 {
        leak(&world, &format!("leak-{n}"), &format!("gone-{n}"), 0).await;
    }
    let _server = sweeping(&world).await;
    world.until("gone", async || machines(&world).is_empty()).await;
    let calls = world.fly.calls();
    let at: Vec<Timestamp> =
        calls.iter().filter(|it| it.action == Action::Destroy).map(|it| it.at).collect();
    assert_eq!(at.len(), 5);
    // Each round is followed by a pause.
    let spans: Vec<i64> =
        at.windows(3).map(|three| three[2].duration_since(three[0]).as_secs()).collect();
    assert!(spans.iter().all(|span| *span >= 9), "more than two went at once: {spans:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_forgets_no_tombstone_and_hurries_none() {
    let world = World::new().await;
    let id = leak(&world, "ours", "gone", 0).await;
    let server = sweeping(&world).await;
    world.until("marked", async || leaks(&world).await.tombstones.len() == 1).await;
    let marked = leaks(&world).await.tombstones;
    drop(server);
    // Nobody is there for longer than the grace.
    world.clock.sleep(Duration::from_secs(70)).await;
    assert_eq!(machines(&world), [id]);
    let born = world.clock.now();
    let _server = sweeping(&world).await;
    looks(&world, 1).await;
    assert_eq!(leaks(&world).await.tombstones, marked, "since when stays known");
    world.until("gone", async || machines(&world).is_empty()).await;
    let lasted = world.clock.now().duration_since(born).as_secs();
    assert!(
        (20..60).contains(&lasted),
        "it had settled, and the grace was not waited anew: {lasted}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_adopts_what_it_knows_and_leaves_the_rest_until_an_operator_agrees() {
    let world = World::new().await;
    // What the backup knows, and what was made after it was taken.
    world.create_sprite("s", None).await;
    let ahead = leak(&world, "after-the-backup", "later", 4_000).await;
    let old = leak(&world, "older", "gone", 0).await;
    // Fly's clock and ours may differ: what was there is there for a while.
    world.clock.sleep(Duration::from_secs(70)).await;
    let server = sweeping(&world).await;
    world.until("ready", async || world.is("s", "Ready").await).await;
    world.until("told", async || server.tidings.borrow().is_some()).await;
    let told = server.tidings.borrow().clone().unwrap();
    assert!(told.contains("restored from a backup") && told.contains("fly confirm"), "{told}");
    assert!(told.contains("2 machines on Fly belong to nothing here"), "{told}");
    assert_eq!(events(&world, "SweepHeld").await.len(), 1);
    world.clock.sleep(Duration::from_secs(90)).await;
    assert_eq!(machines(&world).len(), 3, "nothing went past the grace");
    // The store's revision overtakes, and another server begins on it.
    drop(server);
    let mut n = 0;
    while world.store.revision().await.unwrap() < 4_001 {
        n += 1;
        world
            .change("s", |sprite| drop(sprite.metadata.labels.insert("n".into(), n.to_string())))
            .await;
    }
    let server = sweeping(&world).await;
    looks(&world, 2).await;
    world.clock.sleep(Duration::from_secs(90)).await;
    assert_eq!(machines(&world).len(), 3, "it is not taken for whole because it grew");
    confirm(&world).await;
    world
        .until("swept", async || {
            let left = machines(&world);
            !left.contains(&ahead) && !left.contains(&old)
        })
        .await;
    assert!(world.is("s", "Ready").await && machines(&world).len() == 1);
    world.until("all well", async || server.tidings.borrow().is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_restore_left_word_even_what_bears_no_revision_is_left_alone() {
    let world = World::new().await;
    // The volume of an Agent that slept without a machine, and that the backup does not know.
    volume(&world, &our_volume(&world)).await;
    let restored = Sweep { restored: Some(world.clock.now()), ..SWEEP };
    let server = world.sweeping(Arc::new(FreeSteps), restored).await;
    world.until("told", async || server.tidings.borrow().is_some()).await;
    world.clock.sleep(Duration::from_secs(150)).await;
    assert_eq!(world.fly.volumes().len(), 1);
    confirm(&world).await;
    world.until("gone", async || world.fly.volumes().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_create_makes_after_its_sprite_was_let_go_is_swept() {
    let world = World::new().await;
    let _server = sweeping(&world).await;
    world.create_sprite("s", Some("work")).await;
    world.until("let go", async || world.is_let_go("s").await).await;
    // The object stays as history; its machine is nobody's.
    assert!(world.store.get(Kind::Sprite, "s").await.unwrap().is_some());
    let late = leak(&world, "late", "s", 0).await;
    world.until("swept", async || !machines(&world).contains(&late)).await;
    assert_eq!(world.lives(), [("s".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_host_does_not_answer_waits_and_holds_up_no_other() {
    let world = World::new().await;
    let silent = leak(&world, "silent", "gone-1", 0).await;
    let other = leak(&world, "other", "gone-2", 0).await;
    assert!(world.fly.faults().meddle(&silent, Deed::HostUnreachable));
    let _server = sweeping(&world).await;
    world.until("the other went", async || !machines(&world).contains(&other)).await;
    looks(&world, 3).await;
    assert_eq!(machines(&world), std::slice::from_ref(&silent));
    assert!(world.fly.faults().meddle(&silent, Deed::HostBack));
    world.until("it went", async || machines(&world).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroy_whose_answer_is_lost_or_that_crashes_is_done_in_the_end() {
    for answer in LostAnswer::ALL {
        let world = World::new().await;
        leak(&world, "ours", "gone", 0).await;
        world.fly.faults().once(Action::Destroy, Trouble::lost_before(answer));
        let _server = sweeping(&world).await;
        world.until("gone", async || machines(&world).is_empty()).await;
    }
    let mut steps = 0;
    for n in 0..8 {
        for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
            let world = World::new().await;
            leak(&world, "ours", "gone", 0).await;
            let script = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut server = world.sweeping(script.clone(), SWEEP).await;
            let ended =
                async || machines(&world).is_empty() && leaks(&world).await == Leaks::default();
            world.until("an end", async || ended().await || server.engine.has_crashed()).await;
            if server.engine.has_crashed() {
                drop(server);
                server = sweeping(&world).await;
            }
            world.until("the same end", async || ended().await).await;
            assert_eq!(world.wrong(), Vec::<String>::new());
            steps += usize::from(script.has_fired());
            drop(server);
        }
    }
    assert!(steps >= 12, "{steps} faults came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_stands_on_ready_and_the_server_is_ready_all_the_same() {
    let world = World::new().await;
    let state = doors(&world);
    state.readiness().up("fly");
    state.readiness().warn("fly", Some("1 machine on Fly belongs to nothing here".to_owned()));
    let told = answer(state.clone(), "GET", "/ready").await;
    assert_eq!(told["ready"], true);
    assert_eq!(told["warnings"]["fly"], "1 machine on Fly belongs to nothing here");
    state.readiness().warn("fly", None);
    assert_eq!(answer(state, "GET", "/ready").await.get("warnings"), None);
}
