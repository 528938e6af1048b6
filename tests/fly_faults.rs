//! Promise: whatever the cloud does behind our back (lost answers, full regions, a stranger with our
//! name, machines that die, vanish or cannot be asked) is seen, told and put right; no agent lives twice.
#![expect(clippy::disallowed_methods, reason = "the clock of these tests is the wall's, faster")]
#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/fly/world.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod world;

use std::time::Duration;

use open_dispatch::{
    ambient::Clock as _,
    dev_fly::{Action, Deed, LostAnswer, Trouble},
    resource::ExitReason,
};
use world::World;

const FOUR_MINUTES: Duration = Duration::from_secs(240);

async fn told(world: &World, condition: &str) -> String {
    let sprite = world.sprite("s").await;
    let found = sprite.status.conditions.get(condition).cloned();
    found.map(|it| format!("{}: {}", it.reason, it.message)).unwrap_or_default()
}

async fn exit(world: &World) -> (ExitReason, String) {
    let exit = world.sprite("s").await.status.exit.expect("an end");
    (exit.reason, exit.message)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_whose_answer_is_lost_makes_one_machine() {
    for answer in LostAnswer::ALL {
        for trouble in [Trouble::lost_after(answer), Trouble::lost_before(answer)] {
            let world = World::new().await;
            for _ in 0..3 {
                world.fly.faults().once(Action::Create, trouble.clone());
            }
            let _server = world.free().await;
            world.create_sprite("s", Some("work")).await;
            world.until("let go", async || world.is_let_go("s").await).await;
            world.until("no machine", async || world.fly.machines().is_empty()).await;
            assert_eq!(exit(&world).await.0, ExitReason::Completed, "{trouble:?}");
            assert_eq!(world.lives(), [("s".to_owned(), 1)], "{trouble:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_region_is_full_the_next_one_is_taken_and_where_all_are_somebody_is_told() {
    let world = World::new().await;
    world.fly.faults().set(|it| it.full_regions = ["iad".to_owned(), "lhr".to_owned()].into());
    let _server = world.free().await;
    world.create_sprite("s", Some("for ever")).await;
    world
        .until("told", async || {
            told(&world, "Stalled").await.starts_with("NoRoom: there is no room")
        })
        .await;
    world.fly.faults().set(|it| it.full_regions.retain(|region| region != "lhr"));
    world.until("up", async || world.is("s", "Ready").await).await;
    assert_eq!(world.machine().region, "lhr");
    assert_eq!(told(&world, "Stalled").await, "", "it is not told any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lives_is_not_lost_by_an_outage_that_began_with_a_lost_create() {
    let world = World::new().await;
    let _server = world.free().await;
    world.fly.faults().once(Action::Create, Trouble::lost_after(LostAnswer::ALL[0]));
    world.create_sprite("s", Some("for ever")).await;
    world.until("made", async || world.fly.machines().len() == 1).await;
    world.fly.faults().set(|it| it.token_refused = true);
    world.until("alive", async || world.lives().len() == 1).await;
    let from = world.clock.elapsed();
    world.until("four minutes on", async || world.clock.elapsed() >= from + FOUR_MINUTES).await;
    world.fly.faults().set(|it| it.token_refused = false);
    world.until("ready", async || world.is("s", "Ready").await).await;
    let status = world.sprite("s").await.status;
    assert!(status.exit.is_none() && !world.is("s", "Gone").await, "{status:#?}");
    assert_eq!((world.lives().len(), status.fly.unwrap().machine_id), (1, world.machine().id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_refused_is_told_and_once_it_is_good_it_goes_on() {
    let world = World::new().await;
    world.fly.faults().set(|it| it.token_refused = true);
    let _server = world.free().await;
    world.create_sprite("s", Some("work")).await;
    world.until("told", async || told(&world, "Stalled").await.starts_with("NoRoom: ")).await;
    let why = told(&world, "Stalled").await;
    assert!(why.contains("FLY_API_TOKEN") && !why.contains("fm2_dev_fly"), "{why}");
    world.fly.faults().set(|it| it.token_refused = false);
    world.until("let go", async || world.is_let_go("s").await).await;
    assert_eq!(exit(&world).await.0, ExitReason::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_ends_without_a_word_says_how_it_ended() {
    for (deed, reason, words) in [
        (Deed::OutOfMemory, ExitReason::OutOfMemory, "ran out of memory (2048 MiB)"),
        (Deed::Crash, ExitReason::ReporterLost, "signal 9"),
        (Deed::Destroy, ExitReason::ReporterLost, ""),
    ] {
        let world = World::new().await;
        let _server = world.free().await;
        world.create_sprite("s", Some("for ever")).await;
        world.until("up", async || world.is("s", "Ready").await).await;
        let id = world.machine().id;
        assert!(world.fly.faults().meddle(&id, deed), "{deed:?}");
        world.until("let go", async || world.is_let_go("s").await).await;
        let (told, message) = exit(&world).await;
        assert_eq!(told, reason, "{deed:?}: {message}");
        assert!(message.contains(words) && message.contains(&id), "{deed:?}: {message}");
        world.until("no machine", async || world.fly.machines().is_empty()).await;
        assert_eq!(world.lives().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer_proves_nothing_and_nothing_starts_in_its_place() {
    let world = World::new().await;
    let _server = world.free().await;
    world.create_sprite("s", Some("for ever")).await;
    world.until("up", async || world.is("s", "Ready").await).await;
    let id = world.machine().id;
    assert!(world.fly.faults().meddle(&id, Deed::HostUnreachable));
    world.until("told", async || told(&world, "Stalled").await.starts_with("RuntimeUnknown")).await;
    assert!(world.fly.faults().meddle(&id, Deed::HostBack));
    world.until("seen again", async || told(&world, "Stalled").await.is_empty()).await;
    assert_eq!((world.lives().len(), world.machine().id), (1, id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_was_destroyed_while_it_slept_is_made_anew_with_its_volume() {
    let world = World::new().await;
    let _server = world.free().await;
    world.create_sprite("s", None).await;
    world.until("ready", async || world.is("s", "Ready").await).await;
    world.change("s", |sprite| sprite.spec.running = false).await;
    world.until("asleep", async || world.is("s", "Asleep").await).await;
    let (id, volumes) = (world.machine().id, world.fly.volumes());
    // Started by nobody of ours: its claim is refused, and it stops by itself.
    assert!(world.fly.faults().meddle(&id, Deed::Start));
    world.until("it ran", async || world.machine().boots == 2).await;
    world.until("it stopped", async || world.machine().state == "stopped").await;
    assert!(world.fly.faults().meddle(&id, Deed::Destroy));
    world.until("gone", async || world.fly.machines().is_empty()).await;
    world.until("asleep", async || world.is("s", "Asleep").await).await;
    world.change("s", |sprite| (sprite.spec.running, sprite.spec.run) = (true, 2)).await;
    let second = async || {
        let sprite = world.sprite("s").await;
        world.is("s", "Ready").await && sprite.status.run == 2
    };
    world.until("its second run", second).await;
    assert_ne!(world.machine().id, id);
    let after = world.fly.volumes();
    assert_eq!((after.len(), &after[0].id), (1, &volumes[0].id));
    assert_eq!(world.lives(), [("s".to_owned(), 1), ("s".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_had_ends_the_sprite_with_the_mend() {
    let world = World::new().await;
    let refused = Trouble::Refused {
        status: 400,
        error: "failed to get manifest registry.fly.io/sprites/agent:v1: unknown".into(),
        code: None,
    };
    world.fly.faults().once(Action::Create, refused);
    let _server = world.free().await;
    world.create_sprite("s", Some("work")).await;
    world.until("let go", async || world.is_let_go("s").await).await;
    let (reason, message) = exit(&world).await;
    assert_eq!(reason, ExitReason::StartFailed, "{message}");
    assert!(message.contains("fly auth docker"), "{message}");
    assert_eq!(world.fly.machines(), []);
}
