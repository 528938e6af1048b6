//! What stands in a conversation is what the ledgers say, once and in order, whatever happens
//! on the way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/conversation.rs"]
mod conversation;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use conversation::{Fake, World, exit, lines, out, place};
use jiff::Timestamp;
use open_dispatch::{
    ambient::{FreeSteps, Mode, ScriptedSteps},
    reconcile::{Controller, Next},
    resource::{Job, Kind},
    store::{Bell, Delivery, DeliveryState, Expect, Op, Part, Store, Subject},
};

/// A Job that did not come from chat, and reports there.
fn job_from_elsewhere() -> Job {
    let spec = serde_json::json!({
        "task": "true", "agent": {"command": {}},
        "report": {"to": [{"console": {"channel": "main"}}]},
    });
    let mut job = Job::new("from-api", serde_json::from_value(spec).unwrap());
    job.metadata.uid = "0199f0a0-0000-7000-8000-000000000001".into();
    job
}

/// A run whose output comes in parts and takes several messages, with a question behind it.
async fn story(world: &mut World) {
    world.say("main", "1", "/od-run --name job1 count").await;
    world.settle().await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out(&lines(0, 3))]).await;
    world.settle().await;
    world.say("main", "2", "/od-whoami").await;
    world.print(&sprite, vec![out(&lines(3, 30)), out("the end")]).await;
    world.settle().await;
    world.print(&sprite, vec![exit(3)]).await;
    world.end("job1", 3).await;
    world.settle().await;
}

const WHOAMI: &str = "You are ada on console, in channel main. Whoever holds this server's token \
                      may do everything here.";

fn job_text(shown: &[String]) -> String {
    shown.iter().filter(|text| !WHOAMI.contains(text.as_str())).cloned().collect()
}

fn expected() -> String {
    format!("job1 created: command in ~\n{}the end\njob1 failed: exit code 3 (0.0 s)", lines(0, 30))
}

#[tokio::test]
async fn a_job_is_shown_whole_over_several_messages_and_then_done() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    story(&mut world).await;
    let shown = world.platform.shown("main");
    assert_eq!(job_text(&shown), expected());
    assert!(shown.iter().all(|text| text.chars().count() <= 100), "{shown:?}");
    assert_eq!(world.platform.placeholders(), 0);
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

/// Whoever asked first is answered first, also where the first answer had to be tried again.
#[tokio::test]
async fn a_later_answer_waits_for_the_place_of_an_earlier_one() {
    for refused in 1..4 {
        let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
        let mut asked = Vec::new();
        for (key, line) in [("1", "/od-whoami"), ("2", "/od-list"), ("3", "/od-jobs")] {
            asked.push(world.say("main", key, line).await);
        }
        world.platform.state.lock().unwrap().limited = refused;
        world.settle().await;
        let state = world.platform.state.lock().unwrap();
        let mut posted: Vec<&String> =
            state.messages.iter().map(|message| &message.nonce.delivery).collect();
        posted.dedup();
        assert_eq!(posted, asked.iter().collect::<Vec<_>>(), "{refused} refused");
    }
}

#[tokio::test]
async fn one_more_reconcile_writes_nothing_and_calls_nobody() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 count").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out(&lines(0, 40))]).await;
    world.settle().await;
    let before = (world.store.writes(), world.platform.calls());
    world.settle().await;
    world.restart();
    world.settle().await;
    assert_eq!((world.store.writes(), world.platform.calls()), before);
}

async fn crash_at_every_step(lookup: bool) {
    let mut steps = BTreeSet::new();
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = World::new(Fake::with_lookup(lookup), Arc::clone(&scripted) as _);
            story(&mut world).await;
            let passed = scripted.passed();
            let place = format!("{mode:?} at {n} ({:?})", passed.get(n));
            let shown = world.platform.shown("main");
            assert_eq!(job_text(&shown), expected(), "{place}");
            let answers: String =
                shown.iter().filter(|text| WHOAMI.contains(text.as_str())).cloned().collect();
            assert_eq!(answers, WHOAMI, "{place}");
            let empty = world.platform.placeholders();
            assert!(empty <= usize::from(!lookup), "{place}: {empty} empty placeholders");
            assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new(), "{place}");
            let before = (world.store.writes(), world.platform.calls());
            world.settle().await;
            assert_eq!((world.store.writes(), world.platform.calls()), before, "{place}");
            if n >= passed.len() {
                break;
            }
            steps.extend(passed);
        }
    }
    let mut all =
        vec!["chat.commit-message", "chat.commit-shown", "chat.edit", "chat.post", "chat.take"];
    if lookup {
        all.push("chat.find");
    }
    assert_eq!(steps, all.into_iter().collect::<BTreeSet<_>>(), "the steps of this scenario");
}

#[tokio::test]
async fn a_fault_at_any_step_ends_in_the_same_conversation() {
    crash_at_every_step(true).await;
}

#[tokio::test]
async fn where_nothing_can_be_looked_up_the_worst_is_one_empty_placeholder() {
    crash_at_every_step(false).await;
}

#[tokio::test]
async fn an_ambiguous_post_is_looked_up_and_not_posted_again() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.platform.state.lock().unwrap().ambiguous = true;
    world.say("main", "1", "/od-whoami").await;
    world.settle().await;
    assert_eq!(world.platform.shown("main").concat(), WHOAMI);
    assert_eq!(world.platform.placeholders(), 0);
}

#[tokio::test]
async fn a_place_out_of_reach_parks_its_deliveries_and_no_others() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.platform.lose("far", true);
    world.say("far", "1", "/od-whoami").await;
    let second = world.say("far", "2", "/od-jobs").await;
    world.say("near", "3", "/od-jobs").await;
    for _ in 0..3 {
        for (key, _) in world.outbox.keys().await.unwrap() {
            world.outbox.reconcile(&key).await.unwrap();
        }
    }
    assert_eq!(world.platform.shown("far"), Vec::<String>::new());
    assert_eq!(world.platform.shown("near").len(), 1);
    let open = world.store.open_deliveries().await.unwrap();
    assert_eq!(open.len(), 2);
    assert_eq!(open[0].state, DeliveryState::Parked);
    assert_eq!(open[0].note, "the line is down");
    assert_eq!(open[1].id, second);

    world.platform.lose("far", false);
    world.clock.advance(Duration::from_secs(60));
    world.settle().await;
    let shown = world.platform.shown("far");
    assert!(shown[0].starts_with("You are ada"), "the first question is answered first: {shown:?}");
    assert!(shown.last().is_some_and(|text| text.starts_with("There are no jobs")), "{shown:?}");
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_job_that_was_made_elsewhere_gets_its_delivery_once() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    let job = job_from_elsewhere();
    let mut bell = world.store.bell();
    world.apply(vec![Op::Create(job.into())]).await;
    assert!(matches!(bell.recv().await.unwrap(), Bell::Objects(_)));
    let changes = world.store.changes(0, 10).await.unwrap();
    let keys = world.outbox.concerns(&changes[0]);
    assert_eq!(keys.len(), 1, "the job concerns one delivery");
    assert_eq!(world.outbox.reconcile(&keys[0].0).await, Ok(Next::Done));
    let Bell::Delivery(id) = bell.recv().await.unwrap() else { panic!("a delivery was made") };
    assert_eq!(id, keys[0].0);
    assert_eq!(world.outbox.hears(&Bell::Delivery(id.clone())).len(), 1);
    world.settle().await;
    world.end("from-api", 0).await;
    world.settle().await;
    world.restart();
    world.settle().await;
    assert_eq!(
        world.platform.shown("main"),
        ["from-api created: command in ~\nfrom-api succeeded (0.0 s)"]
    );
}

#[tokio::test]
async fn a_fault_while_a_jobs_delivery_is_made_makes_it_once() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = World::new(Fake::with_lookup(true), Arc::clone(&scripted) as _);
            world.apply(vec![Op::Create(job_from_elsewhere().into())]).await;
            world.settle().await;
            world.end("from-api", 0).await;
            world.settle().await;
            assert_eq!(
                world.platform.shown("main"),
                ["from-api created: command in ~\nfrom-api succeeded (0.0 s)"],
                "{mode:?} at {n}"
            );
            assert_eq!(world.platform.placeholders(), 0, "{mode:?} at {n}");
            let passed = scripted.passed();
            assert_eq!(passed[0], "chat.create-delivery");
            if n >= passed.len() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_job_that_ended_long_ago_gets_no_delivery_again() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.apply(vec![Op::Create(job_from_elsewhere().into())]).await;
    world.end("from-api", 0).await;
    world.clock.advance(Duration::from_hours(13));
    world.settle().await;
    assert_eq!(world.platform.calls(), 0);
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_second_attempt_is_told_behind_the_first() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 flaky").await;
    let job = world.only_job().await;
    let first = world.sprite(&job, 1).await;
    world.print(&first, vec![out("one\n"), exit(1)]).await;
    world.settle().await;
    let second = world.sprite(&job, 2).await;
    world.print(&second, vec![out("two\n"), exit(0)]).await;
    world.restart();
    world.end("job1", 0).await;
    world.settle().await;
    assert_eq!(
        world.platform.shown("main").concat(),
        "job1 created: command in ~\none\n! exit code 1; attempt 2 begins\ntwo\njob1 succeeded (0.0 s)"
    );
}

#[tokio::test]
async fn output_that_never_came_is_told_after_a_while() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 lost").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out("one\n")]).await;
    world.end("job1", 1).await;
    world.settle().await;
    assert_eq!(world.platform.shown("main").concat(), "job1 created: command in ~\none\n");
    world.clock.advance(Duration::from_secs(62));
    world.settle().await;
    let shown = world.platform.shown("main").concat();
    assert!(shown.contains("may be missing here"), "{shown}");
    assert!(shown.ends_with("job1 failed: exit code 1 (0.0 s)"), "{shown}");
}

#[tokio::test]
async fn a_deleted_job_ends_its_transcript() {
    for restart in [false, true] {
        let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
        world.say("main", "1", "/od-run --name job1 count").await;
        let job = world.only_job().await;
        world.settle().await;
        if restart {
            world.restart();
        }
        let mut gone = job.clone();
        gone.metadata.finalizers.clear();
        let write = Op::Write { object: gone.into(), part: Part::Finalizers, expect: Expect::Any };
        let delete =
            Op::Delete { kind: Kind::Job, name: "job1".into(), uid: None, resource_version: None };
        world.apply(vec![write, delete]).await;
        world.settle().await;
        let shown = world.platform.shown("main").concat();
        assert_eq!(shown, "job1 created: command in ~\njob1 was deleted");
        assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
    }
}

#[tokio::test]
async fn a_long_backlog_is_shown_whole_after_a_restart() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 count").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out(&lines(0, 200))]).await;
    world.settle().await;
    world.print(&sprite, (200..600).map(|n| out(&lines(n, n + 1))).collect()).await;
    world.print(&sprite, vec![exit(0)]).await;
    world.restart();
    world.end("job1", 0).await;
    world.settle().await;
    let shown = world.platform.shown("main").concat();
    assert_eq!(
        shown,
        format!("job1 created: command in ~\n{}job1 succeeded (0.0 s)", lines(0, 600))
    );
}

/// One line an event.
async fn print_lines(world: &World, sprite: &str, numbers: std::ops::Range<usize>) {
    world.print(sprite, numbers.map(|n| out(&lines(n, n + 1))).collect()).await;
}

#[tokio::test]
async fn what_is_kept_no_longer_is_told_after_a_restart_and_the_rest_and_the_outcome_follow() {
    let mut world = World::forgetful();
    world.say("main", "1", "/od-run --name job1 count").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    print_lines(&world, &sprite, 0..40).await;
    world.settle().await;
    let stood = world.platform.shown("main").concat();
    assert!(stood.ends_with(&lines(0, 40)), "{stood}");
    print_lines(&world, &sprite, 40..400).await;
    world.compact().await;
    world.restart();
    world.settle().await;
    // Again, behind the first gap, and with nothing in between.
    world.restart();
    world.settle().await;
    world.print(&sprite, vec![out("the last line\n"), exit(0)]).await;
    world.end("job1", 0).await;
    world.settle().await;
    let shown = world.platform.shown("main").concat();
    let (before, behind) = shown.split_once("! ").expect("what is missing is told");
    assert_eq!(before, stood, "what stands there stays, and nothing comes twice");
    let (told, behind) = behind.split_once('\n').unwrap();
    assert!(told.contains("bytes of output are missing here"), "{told}");
    let first: usize = behind.split([' ', '\n']).nth(1).unwrap().parse().unwrap();
    assert!((41..400).contains(&first), "{behind}");
    let rest = format!("{}the last line\njob1 succeeded (0.0 s)", lines(first, 400));
    assert_eq!(behind, rest);
    assert_eq!(world.platform.placeholders(), 0);
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn nothing_is_missing_where_only_what_was_shown_is_kept_no_longer() {
    let mut world = World::forgetful();
    world.say("main", "1", "/od-run --name job1 count").await;
    let job = world.only_job().await;
    let first = world.sprite(&job, 1).await;
    print_lines(&world, &first, 0..150).await;
    world.print(&first, vec![exit(1)]).await;
    world.settle().await;
    let second = world.sprite(&job, 2).await;
    print_lines(&world, &second, 150..300).await;
    world.settle().await;
    world.compact().await;
    world.restart();
    print_lines(&world, &second, 300..310).await;
    world.print(&second, vec![exit(0)]).await;
    world.end("job1", 0).await;
    world.settle().await;
    assert_eq!(
        world.platform.shown("main").concat(),
        format!(
            "job1 created: command in ~\n{}! exit code 1; attempt 2 begins\n{}\
             job1 succeeded (0.0 s)",
            lines(0, 150),
            lines(150, 310)
        )
    );
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn an_outcome_is_shown_though_less_can_be_made_again_than_stands_there() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("main", "1", "/od-run --name job1 count").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    print_lines(&world, &sprite, 0..40).await;
    world.settle().await;
    let mut delivery = world.store.open_deliveries().await.unwrap().pop().unwrap();
    let last = delivery.messages.last().unwrap().clone();
    delivery.messages.splice(0..0, [last.clone(), last]);
    world.apply(vec![Op::Delivery(delivery)]).await;
    world.restart();
    world.print(&sprite, vec![exit(0)]).await;
    world.end("job1", 0).await;
    world.settle().await;
    let shown = world.platform.shown("main").concat();
    assert!(shown.ends_with("job1 succeeded (0.0 s)"), "{shown}");
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_notice_of_any_length_is_cut_and_not_lost() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    let text = lines(0, 100);
    let subject = Subject::Notice { text: text.clone() };
    let delivery = Delivery::open("d1", place("main"), subject, Timestamp::UNIX_EPOCH);
    world.apply(vec![Op::Delivery(delivery)]).await;
    world.settle().await;
    assert_eq!(world.platform.shown("main").concat(), text.trim_end());
}

#[tokio::test]
async fn a_delivery_wakes_who_waits_behind_it_and_nobody_else() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(world.say("busy", &n.to_string(), "/od-whoami").await);
    }
    let elsewhere = world.say("far", "far", "/od-whoami").await;
    for id in ids[1..].iter().rev() {
        let next = world.outbox.reconcile(id).await.unwrap();
        assert!(matches!(next, Next::After(wait) if wait >= Duration::from_secs(10)), "{next:?}");
    }
    let wakes = |world: &World, id: &String| {
        let woken = world.outbox.hears(&Bell::Delivery(id.clone()));
        woken.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>()
    };
    assert_eq!(wakes(&world, &elsewhere), BTreeSet::from([elsewhere.clone()]));
    for pair in ids.windows(2) {
        world.outbox.reconcile(&pair[0]).await.unwrap();
        assert_eq!(wakes(&world, &pair[0]), pair.iter().cloned().collect());
    }
    world.outbox.reconcile(&ids[4]).await.unwrap();
    assert_eq!(world.platform.shown("busy").len(), 5);
}

#[tokio::test]
async fn who_waits_behind_a_place_out_of_reach_is_parked_with_its_reason_and_comes_in_order() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.platform.lose("far", true);
    let mut ids = vec![world.say("far", "0", "/od-whoami").await];
    for n in 1..4 {
        ids.push(world.say("far", &n.to_string(), "/od-jobs").await);
    }
    for id in &ids {
        world.outbox.reconcile(id).await.unwrap();
    }
    let calls = world.platform.calls();
    let open = world.store.open_deliveries().await.unwrap();
    assert_eq!(open.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), ids);
    for row in open {
        assert_eq!((row.state, row.note.as_str()), (DeliveryState::Parked, "the line is down"));
    }
    world.outbox.reconcile(&ids[2]).await.unwrap();
    assert_eq!(world.platform.calls(), calls, "only the first tries");
    world.platform.lose("far", false);
    world.clock.advance(Duration::from_secs(60));
    let mut awake: Vec<String> = vec![ids[0].clone()];
    for id in &ids {
        assert!(awake.contains(id), "{id} is woken");
        world.outbox.reconcile(id).await.unwrap();
        awake.extend(world.outbox.hears(&Bell::Delivery(id.clone())).into_iter().map(|it| it.0));
    }
    assert!(world.platform.shown("far")[0].starts_with("You are ada"));
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_short_failure_costs_seconds_and_what_is_said_meanwhile_no_calls() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.platform.lose("main", true);
    let id = world.say("main", "1", "/od-whoami").await;
    let next = world.outbox.reconcile(&id).await.unwrap();
    assert!(matches!(next, Next::After(wait) if wait <= Duration::from_secs(2)), "{next:?}");
    let calls = world.platform.calls();
    for _ in 0..10 {
        world.outbox.reconcile(&id).await.unwrap();
    }
    assert_eq!(world.platform.calls(), calls, "each bell would be a call");
    world.platform.lose("main", false);
    world.clock.advance(Duration::from_secs(1));
    world.outbox.reconcile(&id).await.unwrap();
    assert_eq!(world.platform.shown("main").concat(), WHOAMI);
}

#[tokio::test]
async fn what_nobody_could_be_shown_for_a_week_is_given_up_and_says_so() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    world.say("far", "1", "/od-run --name job1 count").await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out("one\n")]).await;
    world.settle().await;
    // What was parked and could be shown again begins anew.
    for day in 0..8 {
        world.platform.lose("far", day % 4 == 0);
        world.print(&sprite, vec![out("more\n")]).await;
        world.settle().await;
        world.clock.advance(Duration::from_hours(24));
    }
    world.settle().await;
    assert_eq!(world.store.open_deliveries().await.unwrap().len(), 1, "shown in between");
    let other = world.say("far", "2", "/od-whoami").await;
    world.platform.lose("far", true);
    for _ in 0..6 {
        world.clock.advance(Duration::from_hours(24));
        world.print(&sprite, vec![out("more\n")]).await;
        world.settle().await;
    }
    let open = world.store.open_deliveries().await.unwrap();
    let row = open.iter().find(|row| matches!(row.subject, Subject::Job { .. })).unwrap().clone();
    assert_eq!((row.state, row.note.as_str()), (DeliveryState::Parked, "the line is down"));
    world.clock.advance(Duration::from_hours(48));
    world.settle().await;
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
    for id in [row.id, other] {
        let row = world.store.delivery(&id).await.unwrap().unwrap();
        assert_eq!(row.note, "given up after a week: the line is down");
    }
}

#[tokio::test]
async fn of_a_deleted_job_it_is_told_that_more_was_said_than_is_shown() {
    for parked in [true, false] {
        let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
        world.platform.lose("main", parked);
        world.say("main", "1", "/od-run --name job1 count").await;
        let job = world.only_job().await;
        let sprite = world.sprite(&job, 1).await;
        world.print(&sprite, vec![out("one\n")]).await;
        world.settle().await;
        world.print(&sprite, vec![out("two\n")]).await;
        let mut gone = job.clone();
        gone.metadata.finalizers.clear();
        let write = Op::Write { object: gone.into(), part: Part::Finalizers, expect: Expect::Any };
        let delete =
            Op::Delete { kind: Kind::Job, name: "job1".into(), uid: None, resource_version: None };
        world.apply(vec![write, delete]).await;
        world.restart();
        world.platform.lose("main", false);
        world.clock.advance(Duration::from_secs(60));
        world.settle().await;
        let shown = world.platform.shown("main").concat();
        let end = "! what else was said is kept no longer\njob1 was deleted";
        assert!(shown.ends_with(end), "{shown}");
    }
}

#[tokio::test]
async fn what_gets_no_further_says_why_once_it_lasts_and_until_it_is_shown() {
    let mut world = World::new(Fake::with_lookup(true), Arc::new(FreeSteps));
    let id = world.say("main", "1", "/od-list").await;
    world.platform.state.lock().unwrap().limited = 3;
    let note = async |world: &World| world.store.delivery(&id).await.unwrap().unwrap().note;
    let tries = async |world: &World| world.outbox.reconcile(&id).await.unwrap_err();
    tries(&world).await;
    assert_eq!(note(&world).await, "", "a short wait is what pace is");
    world.clock.advance(Duration::from_secs(6));
    tries(&world).await;
    let why = "waits for its turn: the platform takes no more calls there for now";
    assert_eq!(note(&world).await, why);
    let writes = world.store.writes();
    tries(&world).await;
    assert_eq!(world.store.writes(), writes, "it is noted once");
    world.settle().await;
    let shown = world.store.delivery(&id).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.note.as_str()), (DeliveryState::Done, ""));
}
