//! Slack as people have it: nothing is lost or doubled, whatever sockets, Slack and the store do;
//! and what cannot be done is said, with the mend.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "slack/files.rs"]
mod files;
#[path = "slack/presses.rs"]
mod presses;
#[path = "support/slack/mod.rs"]
mod slack;
#[expect(dead_code, reason = "the suite of all platforms uses it")]
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;
#[path = "slack/threads.rs"]
mod threads;

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use open_dispatch::{
    ambient::Ambient,
    chat::{
        ear::Hearing,
        platform::{Action, Content, Error, Nonce, Platform as _, Post, Tone, Upload},
    },
    store::{Conversation, DeliveryState},
};
use serde_json::json;
use slack::{FakeSlack, buttons, ours, rig, rig::Rig};

fn place(channel: &str, thread: Option<&str>) -> Conversation {
    Conversation {
        platform: "slack".into(),
        channel: channel.into(),
        thread: thread.map(str::to_owned),
    }
}

fn nonce(n: usize) -> Nonce {
    Nonce { delivery: uuid::Uuid::max().to_string(), index: n }
}

/// A message that begins a thread.
fn root(rig: &Rig, channel: &str) -> String {
    rig.fake.write("UADA", channel, None, "a thread")["ts"].as_str().unwrap().to_owned()
}

fn texts(rig: &Rig, channel: &str) -> Vec<String> {
    rig.fake.ours(channel).into_iter().map(|message| message.text).collect()
}

/// Waits until this many of our messages in a channel say something.
async fn until_said(rig: &Rig, channel: &str, count: usize) {
    rig.fake
        .until("it was said", |world| {
            ours(world, channel).iter().filter(|message| message.text != "…").count() >= count
        })
        .await;
}

async fn pause(milliseconds: u64) {
    Ambient::real().clock.sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test]
async fn an_event_that_comes_three_times_is_one_turn() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let said = rig.fake.event(rig.fake.write("UADA", "C1", None, "hello"), 3);
    rig.fake.until_taken(&said, 3).await;
    let turns = rig.turns(&agent).await;
    assert_eq!(turns.len(), 1);
    assert_eq!((turns[0].text.as_str(), turns[0].author.as_str()), ("hello", "ada"));
    assert!(!rig.fake.calls_of("apps.connections.open").is_empty(), "the fake was asked");
}

#[tokio::test]
async fn a_mention_is_one_line_though_slack_tells_of_it_twice() {
    let rig = Rig::new().await;
    let said = rig.fake.mentions("UADA", "C1", "od-whoami");
    rig.fake.until_taken(&said, 2).await;
    until_said(&rig, "C1", 1).await;
    let told = texts(&rig, "C1");
    assert!(told.len() == 1 && told[0].contains("You are ada (slack:UADA)"), "{told:?}");
}

#[tokio::test]
async fn the_same_post_under_another_time_is_the_same_line() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let first = rig.fake.write("UADA", "C1", None, "hello");
    let mut second = rig.fake.write("UADA", "C1", None, "hello");
    second["client_msg_id"] = first["client_msg_id"].clone();
    let (first, second) = (rig.fake.event(first, 1), rig.fake.event(second, 1));
    rig.fake.until_taken(&first, 1).await;
    rig.fake.until_taken(&second, 1).await;
    assert_eq!(rig.turns(&agent).await.len(), 1);
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    rig.gate.shut.store(true, Ordering::SeqCst);
    let said = rig.fake.says("UADA", "C1", "hello");
    // Slack waits for no slow store: it brings the envelope again, and again.
    rig.fake
        .until("it comes again", |world| world.envelopes.values().any(|it| it.attempt >= 2))
        .await;
    assert_eq!(rig.fake.world().acknowledged.get(&said), None);
    assert!(rig.turns(&agent).await.is_empty());
    rig.gate.shut.store(false, Ordering::SeqCst);
    rig.fake.until("all is acknowledged", |world| world.envelopes.is_empty()).await;
    assert_eq!(rig.turns(&agent).await.len(), 1);
}

#[tokio::test]
async fn a_line_that_the_store_did_not_take_comes_again() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    rig.gate.failing.store(2, Ordering::SeqCst);
    let came = rig.gate.came.load(Ordering::SeqCst);
    let said = rig.fake.says("UADA", "C1", "hello");
    rig.fake.until_taken(&said, 1).await;
    assert_eq!(rig.gate.came.load(Ordering::SeqCst) - came, 3);
    assert_eq!(rig.turns(&agent).await.len(), 1);
}

#[tokio::test]
async fn lines_of_a_channel_are_taken_in_order_though_they_come_by_two_sockets() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    rig.gate.shut.store(true, Ordering::SeqCst);
    let came = rig.gate.came.load(Ordering::SeqCst);
    let first = rig.fake.says("UADA", "C1", "first");
    while rig.gate.came.load(Ordering::SeqCst) == came {
        pause(5).await;
    }
    let second = rig.fake.says("UADA", "C1", "second");
    // Both sockets hold something by now.
    rig.fake
        .until("both are sent", |world| world.envelopes.values().all(|it| it.sent.is_some()))
        .await;
    rig.gate.shut.store(false, Ordering::SeqCst);
    rig.fake.until_taken(&first, 1).await;
    rig.fake.until_taken(&second, 1).await;
    let told: Vec<String> = rig.turns(&agent).await.into_iter().map(|turn| turn.text).collect();
    assert_eq!(told, ["first", "second"]);
}

#[tokio::test]
async fn what_was_taken_before_a_restart_is_not_taken_again() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let event = rig.fake.write("UADA", "C1", None, "hello");
    let said = rig.fake.event(event.clone(), 1);
    rig.fake.until_taken(&said, 1).await;
    let rig = rig.restarted().await;
    rig.fake.event(event, 1);
    rig.fake.until_taken(&said, 2).await;
    assert_eq!(rig.turns(&agent).await.len(), 1);
}

#[tokio::test]
async fn what_we_say_ourselves_and_what_is_edited_is_not_heard() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    for more in [
        json!({"subtype": "message_changed"}),
        json!({"bot_id": "BBOT"}),
        json!({"user": slack::BOT}),
    ] {
        let mut event = rig.fake.write("UADA", "C1", None, "hello");
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let said = rig.fake.event(event, 1);
        rig.fake.until_taken(&said, 1).await;
    }
    assert!(rig.turns(&agent).await.is_empty());
}

#[tokio::test]
async fn sockets_that_go_silent_are_replaced() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    rig.fake.mute(true);
    let said = rig.fake.says("UADA", "C1", "hello");
    rig.fake.mute(false);
    let before = rig.fake.world().dials.len();
    rig.fake.until("they are dialled anew", |world| world.dials.len() >= before + 2).await;
    rig.fake.until_taken(&said, 1).await;
    assert_eq!(rig.turns(&agent).await.len(), 1);
}

#[tokio::test]
async fn while_one_socket_is_silent_the_other_one_hears() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    rig.fake.world().sockets.mute_one();
    // Of four, half go to the silent one first, and come again.
    for n in 0..4 {
        let said = rig.fake.says("UADA", "C1", &n.to_string());
        rig.fake.until_taken(&said, 1).await;
    }
    assert_eq!(rig.until_hearing(|it| *it == Hearing::Yes).await, Hearing::Yes);
    let told: Vec<String> = rig.turns(&agent).await.into_iter().map(|turn| turn.text).collect();
    assert_eq!(told, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn sockets_that_slack_renews_lose_nothing() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    for reason in ["warning", "refresh_requested"] {
        rig.fake.disconnect(reason);
        let said = rig.fake.says("UADA", "C1", reason);
        rig.fake.until_taken(&said, 1).await;
    }
    rig.fake.until_connected(2).await;
    assert_eq!(rig.turns(&agent).await.len(), 2);
    assert_eq!(rig.until_hearing(|it| *it == Hearing::Yes).await, Hearing::Yes);
}

#[tokio::test]
async fn whoever_is_sent_away_again_and_again_dials_at_a_bounded_rate() {
    let fake = FakeSlack::start().await;
    fake.world().faults.disconnect_at_once = Some("refresh_requested");
    let rig = Rig::deaf(fake).await;
    rig.fake.until("it is dialled", |world| !world.dials.is_empty()).await;
    let first = rig.fake.world().dials[0];
    rig.fake
        .until("it is dialled for five seconds", |world| {
            world.dials.last().is_some_and(|last| *last - first > Duration::from_secs(5))
        })
        .await;
    // Two at first, four at once, and then one a second at this tempo.
    let dials = rig.fake.world().dials.len();
    assert!((7..=14).contains(&dials), "{dials} dials in 5 s");
}

#[tokio::test]
async fn socket_mode_that_is_off_is_told_with_the_mend_and_mended_without_a_restart() {
    let fake = FakeSlack::start().await;
    fake.world().faults.disconnect_at_once = Some("link_disabled");
    let rig = Rig::deaf(fake).await;
    let told = rig.until_hearing(|it| matches!(it, Hearing::Never(_))).await;
    assert!(matches!(told, Hearing::Never(mend) if mend.contains("under Socket Mode")));
    pause(1500).await;
    let dials = rig.fake.world().dials.len();
    assert!(dials <= 6, "{dials} dials of an app that is switched off");
    rig.fake.world().faults.disconnect_at_once = None;
    rig.until_hearing(|it| *it == Hearing::Yes).await;
}

#[tokio::test]
async fn a_token_that_slack_refuses_is_told_with_the_mend() {
    let fake = FakeSlack::start().await;
    fake.world().faults.bot_refused = Some("account_inactive");
    let rig = Rig::deaf(fake).await;
    let told = rig.until_hearing(|it| matches!(it, Hearing::Never(_))).await;
    assert!(format!("{told:?}").contains("SLACK_BOT_TOKEN (account_inactive); reinstall"));
    rig.fake.world().faults.open = ["not_allowed_token_type".into()].into();
    rig.fake.world().faults.bot_refused = None;
    let told = rig.until_hearing(|it| format!("{it:?}").contains("SLACK_APP_TOKEN")).await;
    assert!(format!("{told:?}").contains("connections:write"), "{told:?}");
    rig.until_hearing(|it| *it == Hearing::Yes).await;
}

#[tokio::test]
async fn a_workspace_that_limits_dialling_is_left_alone_as_long_as_it_asks() {
    let fake = FakeSlack::start().await;
    fake.world().faults.limited.insert("apps.connections.open".into(), (1, 3));
    let rig = Rig::deaf(fake).await;
    rig.until_hearing(|it| *it == Hearing::Yes).await;
    let calls = rig.fake.calls_of("apps.connections.open");
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(3), "{calls:?}");
}

#[tokio::test]
async fn a_dial_that_hangs_is_given_up_while_the_other_socket_hears() {
    let fake = FakeSlack::start().await;
    fake.world().faults.hanging = 1;
    let rig = Rig::deaf(fake).await;
    rig.fake.until_connected(1).await;
    let said = rig.fake.says("UADA", "C1", "hello");
    rig.fake.until_taken(&said, 1).await;
    rig.fake.until_connected(2).await;
}

#[tokio::test]
async fn a_post_whose_answer_was_lost_is_found_and_not_posted_again() {
    let rig = Rig::new().await;
    rig.fake.world().faults.ambiguous.insert("chat.postMessage".into(), 1);
    let thread = root(&rig, "C1");
    let event = rig.fake.write("UADA", "C1", Some(&thread), "<@UBOT> od-whoami");
    rig.fake.event(event, 1);
    // What others say lies above it, on further pages.
    rig.fake.until("it was posted", |world| !ours(world, "C1").is_empty()).await;
    for _ in 0..7 {
        rig.fake.write("UBOB", "C1", Some(&thread), "chatter");
    }
    until_said(&rig, "C1", 1).await;
    assert_eq!(rig.fake.calls_of("chat.postMessage").len(), 1);
    let told = rig.fake.ours("C1");
    assert_eq!((told.len(), told[0].thread.clone()), (1, Some(thread)));
    assert!(!rig.fake.calls_of("conversations.replies").is_empty());
}

#[tokio::test]
async fn a_post_that_was_lost_for_good_is_posted_again() {
    let rig = Rig::new().await;
    rig.fake.world().faults.refused.insert("C1".into(), "internal_error");
    rig.fake.commands("UADA", "C1", "/od-whoami");
    rig.fake
        .until("it was tried", |world| {
            world.calls.iter().any(|call| call.method == "chat.postMessage")
        })
        .await;
    rig.fake.world().faults.refused.clear();
    until_said(&rig, "C1", 1).await;
    assert!(!rig.fake.calls_of("conversations.history").is_empty(), "it is looked for first");
    assert_eq!(rig.fake.ours("C1").len(), 1);
}

#[tokio::test]
async fn a_storm_of_429_is_waited_out_and_the_answer_stands_once() {
    let rig = Rig::new().await;
    for method in ["chat.postMessage", "chat.update"] {
        rig.fake.world().faults.limited.insert(method.into(), (3, 1));
    }
    rig.fake.commands("UADA", "C1", "/od-whoami");
    until_said(&rig, "C1", 1).await;
    for method in ["chat.postMessage", "chat.update"] {
        let calls = rig.fake.calls_of(method);
        assert_eq!(calls.len(), 4, "{method}: {calls:?}");
        for pair in calls.windows(2) {
            let wait = pair[1].at - pair[0].at;
            assert!(wait >= Duration::from_millis(990), "{method} again after {wait:?}");
        }
    }
    assert_eq!(rig.fake.ours("C1").len(), 1);
}

#[tokio::test]
async fn a_channel_gets_no_more_posts_than_slack_bears() {
    let rig = Rig::new().await;
    for _ in 0..8 {
        rig.fake.commands("UADA", "C1", "/od-whoami");
    }
    until_said(&rig, "C1", 8).await;
    let posts = rig.fake.calls_of("chat.postMessage");
    assert_eq!((posts.len(), posts.iter().filter(|call| call.status == 429).count()), (8, 0));
    assert!(posts[7].at - posts[0].at >= Duration::from_millis(4900), "{posts:?}");
}

#[tokio::test]
async fn edits_of_all_conversations_keep_one_pace_and_those_that_end_a_message_go_first() {
    let rig = Rig::new().await;
    let mut shown = Vec::new();
    for n in 0..3 {
        let (conversation, nonce) = (place(&format!("C{n}"), None), nonce(n));
        let post = Post { conversation: &conversation, reply_to: None, text: "…", nonce: &nonce };
        shown.push((rig.slack.post(&post).await.unwrap(), conversation));
    }
    let edit = async |n: usize, last: bool| {
        let (ts, conversation) = &shown[n % shown.len()];
        rig.slack.edit(conversation, ts, &Content::from("more"), last).await
    };
    let mut grown = 0;
    while edit(grown, false).await.is_ok() {
        grown += 1;
    }
    let told = edit(0, false).await;
    assert!(matches!(told, Err(Error::RateLimited(wait)) if wait < Duration::from_secs(2)));
    let mut ended = 0;
    while edit(ended, true).await.is_ok() {
        ended += 1;
    }
    // As many as go at once, and one more should this take long.
    assert!((3..=4).contains(&grown) && (4..=5).contains(&ended), "{grown} and {ended}");
    assert_eq!(rig.fake.calls_of("chat.update").len(), grown + ended);
}

#[tokio::test]
async fn a_channel_that_takes_no_posts_now_stops_no_other() {
    let rig = Rig::new().await;
    let post = async |channel: &str| {
        let (conversation, nonce) = (place(channel, None), nonce(0));
        let post = Post { conversation: &conversation, reply_to: None, text: "…", nonce: &nonce };
        rig.slack.post(&post).await
    };
    rig.fake.world().faults.limited.insert("chat.postMessage".into(), (1, 30));
    assert_eq!(post("C1").await, Err(Error::RateLimited(Duration::from_secs(30))));
    assert!(matches!(post("C1").await, Err(Error::RateLimited(_))));
    assert!(post("C2").await.is_ok());
    assert_eq!(rig.fake.calls_of("chat.postMessage").len(), 2, "it is not asked before its time");
}

#[tokio::test]
async fn an_archived_channel_parks_only_itself() {
    let rig = Rig::new().await;
    rig.fake.world().faults.refused.insert("COLD".into(), "is_archived");
    rig.fake.commands("UADA", "COLD", "/od-whoami");
    let answer = rig.fake.until("who asked is told", |world| !ours(world, "COLD").is_empty());
    answer.await;
    let told = rig.fake.ours("COLD");
    assert_eq!(told[0].only_for.as_deref(), Some("UADA"));
    assert!(told[0].text.contains("archived; unarchive it"), "{}", told[0].text);
    rig.fake.commands("UADA", "C1", "/od-whoami");
    until_said(&rig, "C1", 1).await;
    let mut open = rig.store.open_deliveries().await.unwrap();
    while open.len() > 1 {
        pause(10).await;
        open = rig.store.open_deliveries().await.unwrap();
    }
    assert_eq!(open[0].conversation, place("COLD", None));
    assert_eq!(open[0].state, DeliveryState::Parked);
    assert!(open[0].note.contains("unarchive it"), "{}", open[0].note);
}

#[tokio::test]
async fn who_asked_is_told_of_what_lasts_and_not_of_what_is_over_in_a_moment() {
    let rig = Rig::new().await;
    rig.fake.world().faults.refused.insert("C1".into(), "token_expired");
    rig.fake.commands("UADA", "C1", "/od-whoami");
    rig.fake
        .until("it was tried", |world| {
            world.calls.iter().any(|call| call.method == "chat.postMessage")
        })
        .await;
    let mut open = rig.store.open_deliveries().await.unwrap();
    while open[0].state != DeliveryState::Parked {
        pause(10).await;
        open = rig.store.open_deliveries().await.unwrap();
    }
    assert!(rig.fake.ours("C1").is_empty(), "{:?}", rig.fake.ours("C1"));
}

#[tokio::test]
async fn a_button_is_pressed_once_however_often_slack_says_so() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let conversation = place("C1", None);
    let nonce = nonce(0);
    let post = Post { conversation: &conversation, reply_to: None, text: "…", nonce: &nonce };
    let ts = rig.slack.post(&post).await.unwrap();
    let action =
        Action { label: "Say it".into(), line: "/od-send bot go on".into(), tone: Tone::Good };
    let content = Content { text: "Shall I?".into(), actions: vec![action] };
    rig.slack.edit(&conversation, &ts, &content, true).await.unwrap();
    let pressed = rig.fake.presses("UBOB", "C1", &ts, "Say it", 3);
    rig.fake.until_taken(&pressed, 3).await;
    let turns = rig.turns(&agent).await;
    assert_eq!(turns.len(), 1);
    assert_eq!((turns[0].text.as_str(), turns[0].author.as_str()), ("go on", "ubob"));
    // Without buttons, none stay.
    rig.slack.edit(&conversation, &ts, &Content::from("Done."), true).await.unwrap();
    assert!(buttons(&rig.fake.message("C1", &ts).unwrap()).is_empty());
}

#[tokio::test]
async fn a_file_of_ours_is_shown_in_the_thread_once_though_the_answer_is_lost() {
    let rig = Rig::new().await;
    let thread = root(&rig, "C1");
    let conversation = place("C1", Some(&thread));
    let nonce = nonce(1);
    let post = Post { conversation: &conversation, reply_to: None, text: "", nonce: &nonce };
    let file = Upload { name: "out.log".into(), bytes: Bytes::from_static(b"all of it") };
    rig.fake.world().faults.ambiguous.insert("files.completeUploadExternal".into(), 1);
    // Slack shows a file some time after it was told to.
    rig.fake.world().faults.untold_shares = 2;
    let ts = rig.slack.upload(&post, &file).await.unwrap();
    let told = rig.fake.ours("C1");
    assert_eq!((told.len(), &told[0].ts, &told[0].thread), (1, &ts, &Some(thread)));
    let files = rig.fake.world().files.clone();
    let shown = &files[&told[0].files[0]];
    let seen = (shown.title.as_str(), shown.bytes.as_slice());
    assert_eq!(seen, ("out.log", b"all of it".as_slice()));
    assert!(shown.name.starts_with("out-") && shown.name.ends_with(".log"), "{}", shown.name);
}

#[tokio::test]
async fn a_file_that_was_shared_before_a_crash_is_found_again() {
    let rig = Rig::new().await;
    let thread = root(&rig, "C1");
    let file = Upload { name: "out.log".into(), bytes: Bytes::from_static(b"all of it") };
    for conversation in [place("C1", None), place("C1", Some(&thread))] {
        let nonce = nonce(1);
        let post = Post { conversation: &conversation, reply_to: None, text: "", nonce: &nonce };
        let look = rig.slack.find(&conversation, &nonce);
        assert_eq!(look.await.unwrap(), None, "nothing is there yet");
        let ts = rig.slack.upload(&post, &file).await.unwrap();
        // Others share files of the same name.
        for _ in 0..4 {
            let thread = conversation.thread.as_deref();
            rig.fake.write_with_file("UBOB", "C1", thread, "mine", "out.log", b"other");
        }
        let found = rig.slack.find(&conversation, &nonce).await.unwrap();
        assert_eq!(found, Some(ts), "{conversation:?}");
    }
}

#[tokio::test]
async fn what_is_for_one_person_is_seen_by_that_person_alone() {
    let rig = Rig::new().await;
    let conversation = place("C1", None);
    let nonce = nonce(2);
    let post = Post { conversation: &conversation, reply_to: None, text: "", nonce: &nonce };
    rig.slack.whisper(&post, "UADA", &Content::from("a <!channel> secret")).await.unwrap();
    let told = rig.fake.ours("C1");
    assert_eq!(told[0].only_for.as_deref(), Some("UADA"));
    assert_eq!(told[0].text, "a &lt;!channel> secret");
}

#[tokio::test]
async fn an_edit_that_is_too_long_and_a_message_that_is_gone_are_told_apart() {
    let rig = Rig::new().await;
    let conversation = place("C1", None);
    let nonce = nonce(3);
    let post = Post { conversation: &conversation, reply_to: None, text: "…", nonce: &nonce };
    let ts = rig.slack.post(&post).await.unwrap();
    let most = Content::from("ä".repeat(1950).as_str());
    rig.slack.edit(&conversation, &ts, &most, true).await.unwrap();
    let long = Content::from("ä".repeat(2001).as_str());
    let told = rig.slack.edit(&conversation, &ts, &long, true).await;
    assert_eq!(told, Err(Error::Rejected("Slack says msg_too_long".into())));
    let told = rig.slack.edit(&conversation, "1.0", &most, true).await;
    assert!(matches!(told, Err(Error::Gone(_))), "{told:?}");
}

#[tokio::test]
async fn a_reply_in_a_thread_is_answered_there_and_a_direct_message_is_for_us() {
    let rig = Rig::new().await;
    let said = rig.fake.says("UADA", "DADA", "od-whoami");
    rig.fake.until_taken(&said, 1).await;
    until_said(&rig, "DADA", 1).await;
    let root = root(&rig, "C1");
    let event = rig.fake.write("UADA", "C1", Some(&root), "<@UBOT> od-whoami");
    rig.fake.event(event, 1);
    until_said(&rig, "C1", 1).await;
    assert_eq!(rig.fake.ours("C1")[0].thread, Some(root));
}
