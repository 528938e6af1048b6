//! Long answers, silent agents, busy tools, and platforms that ask for patience.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/conversation.rs"]
mod conversation;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use conversation::{Fake, World, exit, lines, out, says};
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Clock, FreeSteps, ManualClock, Mode, ScriptedSteps},
    chat::Via,
    reconcile::{Controller, Error, Next},
    store::{DeliveryState, Op, Store, Subject, Turn, TurnState, memory::MemoryStore},
};
use sprite_reporter::wire::EventBody;

async fn started(world: &mut World) -> String {
    world.heard("main", "start", "ada", "/od-start bot --agent claude", Via::Addressed).await;
    world.settle().await;
    let sprite = world.agent_sprite("bot").await;
    world.condition("bot", "Ready", true, "AgentReady", "").await;
    sprite
}

fn tool(turn: &str, n: usize) -> EventBody {
    let (turn, id) = (turn.to_owned(), format!("t{n}"));
    EventBody::Tool { turn, id, name: "Read".into(), title: format!("Read: file{n}.rs") }
}

/// A job that prints more than three messages, and ends.
async fn long_job(world: &mut World) {
    world
        .heard("main", "1", "ada", "/od-run --agent command --name job1 count", Via::Addressed)
        .await;
    world.settle().await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out(&lines(0, 60))]).await;
    world.settle().await;
    world.print(&sprite, vec![out(&lines(60, 80)), exit(0)]).await;
    world.end("job1", 0).await;
    world.settle().await;
}

#[tokio::test]
async fn past_three_messages_the_whole_output_is_a_file_once_whatever_happens() {
    let mut steps = BTreeSet::new();
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = World::new(Fake::for_people(|_| {}), Arc::clone(&scripted) as _);
            long_job(&mut world).await;
            let passed = scripted.passed();
            let place = format!("{mode:?} at {n} ({:?})", passed.get(n));
            assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new(), "{place}");
            let state = world.platform.state.lock().unwrap();
            let files: Vec<_> = state.messages.iter().filter_map(|m| m.file.clone()).collect();
            let texts: Vec<&str> = state.messages.iter().map(|m| m.text.as_str()).collect();
            assert_eq!(files.len(), 1, "{place}: {texts:?}");
            assert_eq!(files[0].name, "job1.md", "{place}");
            let file = String::from_utf8(files[0].bytes.to_vec()).unwrap();
            assert!(file.contains(&lines(0, 80)), "{place}: {file}");
            assert_eq!(texts.len(), 5, "three pages, the end, and the file; {place}: {texts:?}");
            assert!(
                texts[0].contains("line 0\n") && texts[3].starts_with("job1 succeeded"),
                "{place}"
            );
            drop(state);
            if n >= passed.len() {
                break;
            }
            steps.extend(passed);
        }
    }
    assert!(steps.contains("chat.upload"), "{steps:?}");
}

#[tokio::test]
async fn a_file_whose_answer_was_lost_is_looked_up_and_not_sent_again() {
    let mut world = World::new(Fake::for_people(|can| can.max_messages = 1), Arc::new(FreeSteps));
    world
        .heard("main", "1", "ada", "/od-run --agent command --name job1 count", Via::Addressed)
        .await;
    world.settle().await;
    let job = world.only_job().await;
    let sprite = world.sprite(&job, 1).await;
    world.print(&sprite, vec![out(&lines(0, 60))]).await;
    world.settle().await;
    world.platform.state.lock().unwrap().ambiguous = true;
    world.print(&sprite, vec![exit(0)]).await;
    world.end("job1", 0).await;
    world.settle().await;
    let state = world.platform.state.lock().unwrap();
    assert_eq!(state.messages.iter().filter(|message| message.file.is_some()).count(), 1);
}

#[tokio::test]
async fn where_the_file_is_refused_the_last_message_says_what_is_missing() {
    let mut world = World::new(Fake::for_people(|can| can.max_message = 200), Arc::new(FreeSteps));
    world.platform.state.lock().unwrap().no_files = true;
    long_job(&mut world).await;
    let shown = world.platform.shown("main");
    let last = shown.last().unwrap();
    assert!(last.starts_with("job1 succeeded"), "{last}");
    assert!(last.ends_with("could not be sent as a file; open-dispatch logs has it"), "{last}");
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_silent_agent_shows_how_long_it_works_and_not_too_often() {
    let mut world = World::new(Fake::for_people(|_| {}), Arc::new(FreeSteps));
    let sprite = started(&mut world).await;
    let turn = world.queued("main", "think").await;
    world.begin(&turn.id, &sprite).await;
    world.print(&sprite, vec![says(&turn.id, "Let me see")]).await;
    world.settle().await;
    let delivery = world.store.open_deliveries().await.unwrap().remove(0).id;
    assert_eq!(world.platform.shown("main")[1], "Let me see");
    let mut edits = 0;
    for _ in 0..40 {
        let before = world.platform.calls();
        let next = world.outbox.reconcile(&delivery).await.unwrap();
        assert!(matches!(next, Next::After(wait) if wait <= Duration::from_secs(15)), "{next:?}");
        edits += world.platform.calls() - before;
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(world.platform.shown("main")[1], "Let me see\n· working for 30 s\n");
    assert!(edits <= 3, "{edits} edits in 40 s");
    world.print(&sprite, vec![says(&turn.id, ".\nDone.\n")]).await;
    world.settle().await;
    assert_eq!(world.platform.shown("main")[1], "Let me see.\nDone.\n");
}

#[tokio::test]
async fn tools_that_follow_each_other_share_a_line() {
    let mut world = World::new(Fake::for_people(|can| can.max_message = 500), Arc::new(FreeSteps));
    let sprite = started(&mut world).await;
    let turn = world.queued("main", "read").await;
    world.begin(&turn.id, &sprite).await;
    world.print(&sprite, vec![tool(&turn.id, 1)]).await;
    world.settle().await;
    assert_eq!(world.platform.shown("main")[1], "→ Read: `file1.rs`\n");
    world.print(&sprite, vec![tool(&turn.id, 2), tool(&turn.id, 3)]).await;
    world.settle().await;
    let line = "→ Read: `file3.rs` (3 tools in a row; /od-logs bot shows them)\n";
    assert_eq!(world.platform.shown("main")[1], line);
    world.print(&sprite, vec![says(&turn.id, "All read.\n"), tool(&turn.id, 4)]).await;
    world.settle().await;
    let shown = world.platform.shown("main")[1].clone();
    assert_eq!(shown, format!("{line}All read.\n→ Read: `file4.rs`\n"));
    world.restart();
    world.settle().await;
    assert_eq!(world.platform.shown("main")[1], shown);
    let logs = world.told("/od-logs bot").await;
    for n in 1..=4 {
        assert!(logs.contains(&format!("→ Read: file{n}.rs")), "{logs}");
    }
}

#[tokio::test]
async fn a_storm_of_refusals_keeps_the_order_and_the_last_frame_arrives() {
    for storm in 1..25 {
        let mut world =
            World::new(Fake::for_people(|can| can.max_message = 500), Arc::new(FreeSteps));
        let sprite = started(&mut world).await;
        let turn = world.queued("main", "hi").await;
        world.begin(&turn.id, &sprite).await;
        world.platform.state.lock().unwrap().limited = storm;
        world.print(&sprite, vec![says(&turn.id, "one ")]).await;
        world.heard("main", "list", "ada", "/od-list", Via::Addressed).await;
        world.heard("far", "jobs", "ada", "/od-jobs", Via::Addressed).await;
        for (key, _) in world.outbox.keys().await.unwrap() {
            match world.outbox.reconcile(&key).await {
                Ok(_) | Err(Error::RateLimited(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        world.print(&sprite, vec![says(&turn.id, "two")]).await;
        world.finish(&turn.id, &sprite, TurnState::Succeeded, "").await;
        world.settle().await;
        let shown = world.platform.shown("main");
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown[1].starts_with("one two\nbot has answered"), "{shown:?}");
        assert!(shown[2].contains("NAME"), "{shown:?}");
        assert_eq!(world.platform.placeholders(), 0);
        assert_eq!(world.platform.shown("far").len(), 1);
    }
}

#[tokio::test]
async fn a_dead_conversation_holds_up_its_own_and_no_other() {
    let mut world = World::new(Fake::for_people(|_| {}), Arc::new(FreeSteps));
    world.platform.lose("dead", true);
    for n in 0..20 {
        world.heard("dead", &format!("d{n}"), "ada", "/od-jobs", Via::Addressed).await;
    }
    world.heard("alive", "a", "ada", "/od-jobs", Via::Addressed).await;
    for _ in 0..3 {
        let before = world.platform.calls();
        for (key, _) in world.outbox.keys().await.unwrap() {
            world.outbox.reconcile(&key).await.unwrap();
        }
        let calls = world.platform.calls() - before;
        assert!(calls <= 6, "only the first in line tries: {calls} calls");
    }
    assert_eq!(world.platform.shown("alive").len(), 1);
    world.platform.lose("dead", false);
    world.clock.advance(Duration::from_secs(60));
    world.settle().await;
    assert_eq!(world.platform.shown("dead").len(), 20);
}

/// A turn whose first frame stands when its message can be edited no more.
async fn answered_behind_a_shut_message(world: &mut World) {
    let sprite = started(world).await;
    let turn = world.queued("main", "hi").await;
    world.begin(&turn.id, &sprite).await;
    world.print(&sprite, vec![says(&turn.id, "Let me ")]).await;
    world.settle().await;
    {
        let mut state = world.platform.state.lock().unwrap();
        let at = state.messages.iter().position(|message| message.text == "Let me ");
        state.shut.extend(at);
    }
    world.print(&sprite, vec![says(&turn.id, &format!("see.\n{}", lines(0, 15)))]).await;
    world.finish(&turn.id, &sprite, TurnState::Succeeded, "").await;
    world.settle().await;
}

#[tokio::test]
async fn an_answer_whose_message_cannot_be_edited_goes_on_in_another_whatever_happens() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let mut world = World::new(Fake::for_people(|_| {}), Arc::clone(&scripted) as _);
            answered_behind_a_shut_message(&mut world).await;
            let passed = scripted.passed();
            let place = format!("{mode:?} at {n} ({:?})", passed.get(n));
            let shown = world.platform.shown("main");
            // A crash in front of the first frame shows all of it at once.
            let from = 1 + usize::from(shown[1] == "Let me ");
            let answer = shown[from..].concat();
            assert!(answer.starts_with("Let me see.\nline 0\n"), "{place}: {shown:?}");
            assert!(answer.contains("line 14\nbot has answered"), "{place}: {shown:?}");
            assert_eq!(answer.matches("line 9\n").count(), 1, "{place}: {shown:?}");
            assert_eq!(world.platform.placeholders(), 0, "{place}");
            assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new(), "{place}");
            if n >= passed.len() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_place_where_no_message_can_be_edited_gets_two_of_them_and_no_more() {
    let mut world = World::new(Fake::for_people(|_| {}), Arc::new(FreeSteps));
    world.platform.state.lock().unwrap().shut = (0..1000).collect();
    world.heard("main", "1", "ada", "/od-jobs", Via::Addressed).await;
    world.settle().await;
    assert_eq!(world.platform.placeholders(), 2);
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_frame_whose_buttons_are_refused_is_shown_without_them() {
    let mut world = World::new(Fake::for_people(|_| {}), Arc::new(FreeSteps));
    let sprite = started(&mut world).await;
    world.platform.state.lock().unwrap().no_buttons = true;
    let turn = world.queued("main", "hi").await;
    world.begin(&turn.id, &sprite).await;
    world.finish(&turn.id, &sprite, TurnState::Failed, "no luck").await;
    world.settle().await;
    let shown = world.platform.shown("main");
    assert!(shown[1].contains("no luck"), "{shown:?}");
    assert_eq!((shown.len(), world.platform.placeholders()), (2, 0), "{shown:?}");
    assert!(world.platform.labels("main").is_empty());
}

#[tokio::test]
async fn a_page_that_the_platform_refuses_is_said_to_be_missing_and_the_next_follows() {
    let mut world = World::new(Fake::for_people(|can| can.max_messages = 9), Arc::new(FreeSteps));
    world.platform.state.lock().unwrap().disliked = Some("line 20\n".into());
    long_job(&mut world).await;
    let shown = world.platform.shown("main");
    let all = shown.concat();
    assert!(all.contains("! what belongs here was refused by the platform"), "{shown:?}");
    assert!(all.contains("line 0\n") && all.contains("line 40\n"), "{shown:?}");
    assert!(all.contains("job1 succeeded"), "{shown:?}");
    assert_eq!(world.store.open_deliveries().await.unwrap(), Vec::new());
}

#[tokio::test]
async fn a_whisper_waits_for_nobody_and_nobody_for_a_whisper() {
    let mut world = World::new(Fake::for_people(|_| {}), Arc::new(FreeSteps));
    // The first in line cannot be shown, and what is said aside can.
    world.platform.lose("main", true);
    let first = world.heard("main", "1", "ada", "/od-jobs", Via::Addressed).await;
    world.outbox.reconcile(&first).await.unwrap();
    let aside = world.heard("main", "2", "ada", "/od-frobnicate", Via::Addressed).await;
    let third = world.heard("main", "3", "ada", "/od-jobs", Via::Addressed).await;
    assert!(world.store.delivery(&aside).await.unwrap().unwrap().only_for.is_some());
    world.outbox.reconcile(&aside).await.unwrap();
    let row = world.store.delivery(&aside).await.unwrap().unwrap();
    assert_eq!(row.state, DeliveryState::Parked, "it was tried");
    world.clock.advance(Duration::from_secs(60));
    world.platform.lose("main", false);
    for id in [&first, &third] {
        world.outbox.reconcile(id).await.unwrap();
    }
    assert_eq!(world.platform.shown("main").len(), 2, "though a whisper lies between them");
    assert!(world.platform.state.lock().unwrap().whispers.is_empty());
    world.outbox.reconcile(&aside).await.unwrap();
    assert_eq!(world.platform.state.lock().unwrap().whispers.len(), 1);
}

/// A world with people, whose store keeps little of what is said.
fn forgetful(max_messages: usize) -> World {
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap()));
    let platform = Fake::for_people(|can| can.max_messages = max_messages);
    let store = MemoryStore::keeping(3_000, 8_000, 100);
    World::around(store, clock, platform, Arc::new(FreeSteps))
}

#[tokio::test]
async fn a_retry_behind_a_trim_posts_nothing_a_second_time() {
    let mut world = forgetful(0);
    let sprite = started(&mut world).await;
    let turn = world.queued("main", "hi").await;
    let delivery = world.store.open_deliveries().await.unwrap().pop().unwrap().id;
    world.begin(&turn.id, &sprite).await;
    world.print(&sprite, vec![says(&turn.id, &lines(0, 30))]).await;
    world.finish(&turn.id, &sprite, TurnState::Failed, "no luck").await;
    world.settle().await;
    let buttons = world.platform.buttons("main");
    let (_, retry) = buttons.into_iter().find(|(label, _)| label == "Retry").unwrap();
    let next = world.queued("main", "again").await;
    world.begin(&next.id, &sprite).await;
    world.print(&sprite, (0..200).map(|n| says(&next.id, &format!("word {n}\n"))).collect()).await;
    world.finish(&next.id, &sprite, TurnState::Succeeded, "").await;
    world.settle().await;
    world.compact().await;
    let before = world.platform.shown("main").concat();
    assert_eq!(before.matches("no luck").count(), 1);
    let done = world.store.delivery(&delivery).await.unwrap().unwrap();
    world.restart();
    world.clock.advance(Duration::from_secs(120));
    world.press_line("main", "ada", &retry).await;
    let row = world.store.delivery(&delivery).await.unwrap().unwrap();
    assert_eq!(row.state, DeliveryState::Done);
    assert!(row.version > done.version + 1, "it was looked at again: {row:?}");
    let shown = world.platform.shown("main").concat();
    let (stood, behind) = shown.split_at(before.len());
    assert_eq!(stood, before);
    assert!(!behind.contains("no luck") && !behind.contains("line"), "{behind}");
    assert_eq!(world.platform.placeholders(), 1, "of the turn that begins now");
}

#[tokio::test]
async fn pages_that_were_posted_in_one_go_are_not_posted_again_behind_a_trim() {
    let mut crashes = 0;
    for n in 30..52 {
        let mut world = forgetful(0);
        let sprite = started(&mut world).await;
        let turn = world.queued("main", "hi").await;
        world.begin(&turn.id, &sprite).await;
        world
            .print(&sprite, (0..200).map(|n| says(&turn.id, &format!("line {n}.\n"))).collect())
            .await;
        world.finish(&turn.id, &sprite, TurnState::Succeeded, "").await;
        let scripted = Arc::new(ScriptedSteps::new(Some((n, Mode::CrashBefore))));
        world = world.with_steps(scripted);
        for (key, _) in world.outbox.keys().await.unwrap() {
            if world.outbox.reconcile(&key).await.is_err() {
                crashes += 1;
                break;
            }
        }
        world.compact().await;
        world.restart();
        world.settle().await;
        let shown = world.platform.shown("main").concat();
        for n in 0..200 {
            let count = shown.matches(&format!("line {n}.\n")).count();
            assert!(count <= 1 && (n < 150 || count == 1), "line {n} {count} times: {shown}");
        }
        assert!(shown.contains("bot has answered"), "{shown}");
    }
    assert!(crashes > 15, "{crashes}");
}

#[tokio::test]
async fn a_refused_file_does_not_come_below_the_line_that_says_so() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let fake = Fake::for_people(|can| can.max_message = 200);
            let mut world = World::new(fake, Arc::clone(&scripted) as _);
            world.platform.state.lock().unwrap().no_files = true;
            let line = "/od-run --agent command --name job1 count";
            let delivery = world.heard("main", "1", "ada", line, Via::Addressed).await;
            let job = world.only_job().await;
            let sprite = world.sprite(&job, 1).await;
            world.print(&sprite, vec![out(&lines(0, 200)), exit(1)]).await;
            world.end("job1", 1).await;
            // The platform changes its mind as soon as the line stands there.
            for _ in 0..200 {
                for (key, _) in world.outbox.keys().await.unwrap() {
                    if world.outbox.reconcile(&key).await.is_err() {
                        world.restart();
                    }
                }
                let is_said =
                    world.platform.shown("main").concat().contains("not be sent as a file");
                world.platform.state.lock().unwrap().no_files = !is_said;
            }
            let place = format!("{mode:?} at {n} ({:?})", scripted.passed().get(n));
            // Also not when it is shown again without its button.
            world.press("main", "ada", "Retry").await;
            let row = world.store.delivery(&delivery).await.unwrap().unwrap();
            assert_eq!(row.state, DeliveryState::Done, "{place}");
            let state = world.platform.state.lock().unwrap();
            let said = |text: &str| text.contains("could not be sent as a file");
            let ours: Vec<_> = state
                .messages
                .iter()
                .filter(|message| message.nonce.delivery == delivery)
                .collect();
            assert!(ours.iter().all(|message| message.file.is_none()), "{place}");
            let last = ours.last().unwrap();
            assert!(said(&last.text) && last.buttons.is_empty(), "{place}: {last:?}");
            drop(state);
            if n >= scripted.passed().len() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn all_turns_that_an_agent_began_by_itself_are_told_however_many_came_since() {
    let mut world = World::new(Fake::for_people(|_| {}), Arc::new(FreeSteps));
    started(&mut world).await;
    let agent = world.agent("bot").await.metadata.uid;
    let add = async |world: &World, n: usize, own: bool| {
        let now = world.clock.now();
        let mut turn = Turn::queued(format!("own-{n}"), &agent, "", "bot", now);
        turn.origin = own.then(|| "agent".to_owned());
        turn.state = TurnState::Succeeded;
        turn.ended = Some(now);
        world.apply(vec![Op::AddTurn(turn)]).await;
    };
    add(&world, 0, true).await;
    world.clock.advance(Duration::from_hours(13));
    for n in 1..=150 {
        add(&world, n, n % 3 == 0).await;
    }
    let key = format!("turns-of/{agent}");
    world.outbox.reconcile(&key).await.unwrap();
    let told = async |world: &World| {
        let open = world.store.open_deliveries().await.unwrap();
        open.iter().filter(|row| matches!(row.subject, Subject::Turn { .. })).count()
    };
    assert_eq!(told(&world).await, 50, "but for the one that is old");
    for n in 151..=190 {
        add(&world, n, true).await;
    }
    world.outbox.reconcile(&key).await.unwrap();
    assert_eq!(told(&world).await, 90);
}
