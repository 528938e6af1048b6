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
    resource::{ExitReason, Kind},
    store::{Op, Store as _},
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

/// Fly takes one create in a second; whoever asks again after a lost answer waits behind all others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_ends_while_its_second_create_waits_gets_no_second_machine() {
    let world = World::new().await;
    world.fly.faults().once(Action::Create, Trouble::lost_after(LostAnswer::Timeout));
    let _server = world.free().await;
    world.create_sprite("s", Some("work")).await;
    world.until("lost", async || !world.fly.machines().is_empty()).await;
    for n in 0..30 {
        world.create_sprite(&format!("other-{n}"), Some("work")).await;
    }
    world.until("let go", async || world.is_let_go("s").await).await;
    let alone = async || world.lives().len() == 31 && world.fly.machines().is_empty();
    world.until("all lived", alone).await;
    let boots = world.fly.boots();
    let of = |name: &str| boots.iter().filter(|boot| boot.name.ends_with(name)).count();
    assert_eq!((of("-s"), boots.len()), (1, 31), "{boots:#?}");
    assert_eq!(exit(&world).await.0, ExitReason::Completed);
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
    world.until("told", async || told(&world, "Stalled").await.starts_with("NoAccess: ")).await;
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

fn refused(status: u16, error: &str) -> Trouble {
    Trouble::Refused { status, error: error.into(), code: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_missing_or_anothers_and_a_full_account_are_told_and_it_goes_on_once_mended()
{
    let world = World::new().await;
    for _ in 0..2 {
        world.fly.faults().once(Action::Create, refused(404, "app not found"));
    }
    let _server = world.free().await;
    world.create_sprite("s", Some("work")).await;
    world.until("told", async || told(&world, "Stalled").await.contains("fly apps create")).await;
    // Each word says who is to do something about it; none of these is a want of room.
    world.until("let go", async || world.is_let_go("s").await).await;
    assert_eq!(exit(&world).await.0, ExitReason::Completed);

    type Set = fn(&mut open_dispatch::dev_fly::Switches);
    let troubles: [(Set, &str, &str); 2] = [
        (
            |it| {
                it.foreign_apps.insert("sprites".to_owned());
            },
            "NoAccess: ",
            "organi",
        ),
        (|it| it.machine_limit = Some(0), "LimitReached: ", "limit"),
    ];
    for (set, reason, words) in troubles {
        let world = World::new().await;
        world.fly.faults().set(set);
        let _server = world.free().await;
        world.create_sprite("s", Some("work")).await;
        let said = async || {
            let told = told(&world, "Stalled").await;
            told.starts_with(reason) && told.contains(words)
        };
        world.until(words, said).await;
        world.fly.faults().set(|it| {
            it.foreign_apps.clear();
            it.machine_limit = None;
        });
        world.until("let go", async || world.is_let_go("s").await).await;
        assert_eq!(exit(&world).await.0, ExitReason::Completed);
        assert_eq!(world.lives().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_does_not_exist_ends_the_sprite_with_the_regions_that_do() {
    let world = World::new().await;
    let unknown = refused(400, "invalid_argument: region \"iadd\" does not exist");
    world.fly.faults().once(Action::Create, unknown);
    let _server = world.free().await;
    world.create_sprite("s", Some("work")).await;
    world.until("let go", async || world.is_let_go("s").await).await;
    let (reason, message) = exit(&world).await;
    assert_eq!(reason, ExitReason::StartFailed, "{message}");
    assert!(message.contains("must name regions of Fly (ams arn"), "{message}");
    assert_eq!(world.fly.machines(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_form_it_takes_that_there_is_no_room_it_is_had_elsewhere_and_made_once() {
    for (trouble, task) in [
        (Trouble::host_full(), Some("for ever")),
        (Trouble::region_full(), Some("for ever")),
        (Trouble::volume_full(), None),
        (Trouble::host_full(), None),
    ] {
        let world = World::new().await;
        world.fly.faults().once(Action::Create, trouble.clone());
        let _server = world.free().await;
        world.create_sprite("s", task).await;
        world
            .until("ready", async || {
                world.is("s", "Ready").await || task.is_some() && world.is("s", "Provisioned").await
            })
            .await;
        world.until("one life", async || world.lives().len() == 1).await;
        let volumes = usize::from(task.is_none());
        let left = async || world.fly.volumes().len() == volumes;
        world.until("no volume of the try that failed", left).await;
        assert_eq!(world.fly.machines().len(), 1, "{trouble:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_sleeps_where_there_is_no_room_any_more_waits_and_says_so() {
    let world = World::new().await;
    let _server = world.free().await;
    asleep(&world).await;
    let before = world.machine();
    world.fly.faults().set(|it| {
        it.full_hosts.insert(before.host.clone());
    });
    world.change("s", |sprite| (sprite.spec.running, sprite.spec.run) = (true, 2)).await;
    let said = async || told(&world, "Stalled").await.contains("as soon as there is room");
    world.until("told", said).await;
    world.fly.faults().set(|it| it.full_hosts.clear());
    world.until("its second run", async || second_run(&world).await).await;
    assert_eq!((world.machine().id, world.fly.volumes().len()), (before.id, 1));
}

async fn asleep(world: &World) {
    world.create_sprite("s", None).await;
    world.until("ready", async || world.is("s", "Ready").await).await;
    world.change("s", |sprite| sprite.spec.running = false).await;
    world.until("asleep", async || world.is("s", "Asleep").await).await;
}

async fn second_run(world: &World) -> bool {
    world.is("s", "Ready").await && world.sprite("s").await.status.run == 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_machine_with_our_name_is_told_and_left_alone() {
    let world = World::new().await;
    let url = world.fly.url().join("v1/apps/sprites/machines").unwrap();
    let body = serde_json::json!({"name": "od-memory-s", "region": "iad",
        "config": {"image": "registry.fly.io/sprites/agent:v1", "env": {}, "metadata": {"mine": "yes"}},
        "skip_launch": true});
    let call = reqwest::Client::new().post(url).json(&body);
    let answer = call.header("authorization", "FlyV1 fm2_dev_fly").send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
    let theirs = world.machine();
    let _server = world.free().await;
    world.create_sprite("s", Some("work")).await;
    world.until("let go", async || world.is_let_go("s").await).await;
    let (reason, message) = exit(&world).await;
    assert_eq!(reason, ExitReason::StartFailed);
    assert!(message.contains("is not this sprite's") && message.contains(&theirs.id), "{message}");
    let left = world.machine();
    assert_eq!((left.id, left.metadata, left.boots), (theirs.id, theirs.metadata, theirs.boots));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_lags_by_half_a_minute_doubles_nothing_and_leaves_nothing() {
    let world = World::new().await;
    let lag = std::time::Duration::from_secs(30);
    world.fly.faults().set(|it| it.list_lag = lag);
    world.fly.faults().once(Action::Create, Trouble::lost_after(LostAnswer::Dropped));
    let _server = world.free().await;
    world.create_sprite("s", Some("work")).await;
    world.until("let go", async || world.is_let_go("s").await).await;
    world.until("no machine", async || world.fly.machines().is_empty()).await;
    assert_eq!(exit(&world).await.0, ExitReason::Completed);
    assert_eq!(world.lives(), [("s".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_moves_to_another_host_wakes_there_and_a_run_in_it_is_lost_and_not_lived_again()
 {
    let world = World::new().await;
    let _server = world.free().await;
    asleep(&world).await;
    let before = world.machine();
    assert!(world.fly.faults().meddle(&before.id, Deed::Migrate));
    assert_ne!(world.machine().host, before.host);
    world.change("s", |sprite| (sprite.spec.running, sprite.spec.run) = (true, 2)).await;
    world.until("its second run", async || second_run(&world).await).await;
    assert_eq!((world.machine().id, world.fly.volumes().len()), (before.id.clone(), 1));
    // While it runs, its boot there is another one, and no run is given out twice.
    assert!(world.fly.faults().meddle(&before.id, Deed::Migrate));
    world.until("let go", async || world.is_let_go("s").await).await;
    assert_eq!(exit(&world).await.0, ExitReason::ReporterLost);
    assert_eq!(world.lives(), [("s".to_owned(), 1), ("s".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_somebody_else_stops_ends_its_run_which_is_told() {
    let world = World::new().await;
    let _server = world.free().await;
    world.create_sprite("s", Some("for ever")).await;
    world.until("up", async || world.is("s", "Ready").await).await;
    let id = world.machine().id;
    assert!(world.fly.faults().meddle(&id, Deed::Stop));
    world.until("let go", async || world.is_let_go("s").await).await;
    let (reason, message) = exit(&world).await;
    assert_eq!(reason, ExitReason::ReporterLost, "{message}");
    assert!(message.contains(&id), "{message}");
    world.until("no machine", async || world.fly.machines().is_empty()).await;
    assert_eq!(world.lives().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_wedged_is_neither_forgotten_nor_replaced_and_goes_once_it_obeys() {
    let world = World::new().await;
    let _server = world.free().await;
    world.create_sprite("s", Some("for ever")).await;
    world.until("up", async || world.is("s", "Ready").await).await;
    let id = world.machine().id;
    assert!(world.fly.faults().meddle(&id, Deed::Wedge));
    let stop = |sprite: &mut open_dispatch::resource::Sprite| {
        sprite.spec.stop = Some(ExitReason::Cancelled);
    };
    world.change("s", stop).await;
    let asked = async || world.fly.calls().iter().any(|it| it.action == Action::Stop);
    world.until("it was asked to stop", asked).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(!world.is_let_go("s").await, "what is still there is not let go");
    assert_eq!((world.machine().id, world.lives().len()), (id.clone(), 1));
    assert!(world.fly.faults().meddle(&id, Deed::Unwedge));
    world.until("let go", async || world.is_let_go("s").await).await;
    world.until("no machine", async || world.fly.machines().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_429_is_waited_out_with_and_without_a_word_of_how_long() {
    let world = World::new().await;
    for (n, action) in [Action::Create, Action::Destroy, Action::List, Action::Get]
        .into_iter()
        .cycle()
        .take(20)
        .enumerate()
    {
        let retry_after = (n % 2 == 0).then_some(2);
        world.fly.faults().once(action, Trouble::RateLimited { retry_after });
    }
    let _server = world.free().await;
    for name in ["a", "b", "s"] {
        world.create_sprite(name, Some("work")).await;
    }
    let done = async || {
        let sprites = world.sprites().await;
        sprites.iter().all(|it| it.metadata.finalizers.is_empty())
    };
    world.until("let go", done).await;
    world.until("no machine", async || world.fly.machines().is_empty()).await;
    let mut lives = world.lives();
    lives.sort();
    assert_eq!(lives, ["a", "b", "s"].map(|name| (name.to_owned(), 1)));
}

/// Its address may be wrong, or its image without a reporter: it costs money and does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_never_heard_is_told_once_and_destroyed_as_soon_as_it_is_to_end() {
    for ends in ["stopped", "deleted"] {
        let world = World::new().await;
        let _server = world.free().await;
        world.create_sprite("s", Some("is never heard")).await;
        world.until("told", async || told(&world, "Stalled").await.starts_with("NoHello: ")).await;
        let why = told(&world, "Stalled").await;
        assert!(why.contains("http://open-dispatch.internal:8080"), "it names the address: {why}");
        let (from, writes) = (world.clock.elapsed(), world.store.writes());
        let on = Duration::from_secs(30);
        world.until("half a minute on", async || world.clock.elapsed() >= from + on).await;
        // Its machine's state may be told otherwise once.
        let written = world.store.writes() - writes;
        assert!(written <= 1, "nobody is told again and again: {written} writes");
        if ends == "deleted" {
            let (kind, name) = (Kind::Sprite, "s".to_owned());
            world.apply(Op::Delete { kind, name, uid: None, resource_version: None }).await;
        } else {
            world.change("s", |sprite| sprite.spec.stop = Some(ExitReason::TimedOut)).await;
        }
        let from = world.clock.elapsed();
        world.until("destroyed", async || world.fly.machines().is_empty()).await;
        let took = world.clock.elapsed() - from;
        assert!(took < Duration::from_secs(20), "{ends}: it cost for {took:?} more");
        let history = async || match ends {
            "deleted" => world.sprites().await.is_empty(),
            _ => world.is_let_go("s").await,
        };
        world.until("let go", history).await;
        let took = world.clock.elapsed() - from;
        assert!(took < Duration::from_secs(40), "{ends}: nothing is drained, and it took {took:?}");
        assert!(!world.calls().iter().any(|call| call.starts_with("Stop ")), "nobody is asked");
        if ends == "stopped" {
            assert_eq!(exit(&world).await.0, ExitReason::TimedOut);
        }
        assert_eq!(world.wrong(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_stopped_and_never_gets_there_is_destroyed_and_its_run_is_lost() {
    let world = World::new().await;
    let _server = world.free().await;
    world.create_sprite("s", Some("for ever")).await;
    world.until("up", async || world.is("s", "Ready").await).await;
    let id = world.machine().id;
    assert!(world.fly.faults().meddle(&id, Deed::Stop));
    assert!(world.fly.faults().meddle(&id, Deed::Wedge));
    let from = world.clock.elapsed();
    let destroyed = async || world.fly.calls().iter().any(|it| it.action == Action::Destroy);
    world.until("destroyed by us", destroyed).await;
    let took = world.clock.elapsed() - from;
    assert!(took >= FOUR_MINUTES, "it was given time: {took:?}");
    assert!(told(&world, "Stalled").await.starts_with("MachineStuck: "));
    assert!(!world.is("s", "Gone").await, "as long as it is there, somebody may live in it");
    assert!(world.fly.faults().meddle(&id, Deed::Unwedge));
    world.until("no machine", async || world.fly.machines().is_empty()).await;
    world.until("let go", async || world.is_let_go("s").await).await;
    assert_eq!(exit(&world).await.0, ExitReason::ReporterLost);
    assert_eq!(world.lives().len(), 1, "nobody began in its place");
}

/// Fly had room for the volume, then an answer was lost, and then there was no room for the machine. By
/// then nobody can say that nothing is on it: the store may be one that was restored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_not_given_up_for_want_of_room_where_it_lies() {
    let world = World::new().await;
    let faults = world.fly.faults();
    faults.once(Action::Create, Trouble::lost_before(LostAnswer::Timeout));
    // There is none in the first region, whichever volume it is.
    for _ in 0..2 {
        faults.once(Action::Create, Trouble::volume_full());
    }
    let _server = world.free().await;
    world.create_sprite("s", None).await;
    world.until("up", async || world.is("s", "Ready").await).await;
    let volumes = world.fly.volumes();
    assert_eq!(volumes.len(), 1, "{volumes:#?}");
    assert_ne!(volumes[0].region, "lhr", "it lies where it was made first");
    assert_eq!(world.machine().region, volumes[0].region);
    let calls = world.fly.calls();
    assert!(!calls.iter().any(|call| call.method == "DELETE"), "nothing was destroyed");
    assert_eq!(world.wrong(), Vec::<String>::new());
}
