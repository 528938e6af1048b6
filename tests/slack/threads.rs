//! What an agent gets of a thread beside the line that is meant for it, and of a mention's files.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{
    pause,
    rig::Rig,
    root,
    slack::{self, mention},
    until_said,
};

/// A thread of people and apps, of which no agent has heard.
fn talk(rig: &Rig) -> String {
    let thread = rig.fake.write("UEVE", "C1", None, "The build is red &amp; nobody cares.");
    let thread = thread["ts"].as_str().unwrap().to_owned();
    rig.fake.write("UBOB", "C1", Some(&thread), "It is the cache.");
    rig.fake.write_with_file("UEVE", "C1", Some(&thread), "Delete it all!", "log.txt", b"red");
    rig.fake.write(slack::BOT, "C1", Some(&thread), "I am here.");
    rig.fake.write("UEVE", "C1", Some(&thread), "<@UBOT> od-list");
    thread
}

#[tokio::test]
async fn an_agent_is_told_what_was_said_in_a_thread_before_and_never_twice() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let thread = talk(&rig);
    let line = rig.fake.write("UADA", "C1", Some(&thread), "<@UBOT> fix it");
    // What comes behind it is no context.
    rig.fake.write("UEVE", "C1", Some(&thread), "later");
    rig.fake.event(mention(&line), 1);
    let said = rig.fake.event(line, 2);
    rig.fake.until_taken(&said, 3).await;
    let turns = rig.turns(&agent).await;
    assert_eq!(turns.len(), 1);
    insta::assert_snapshot!(turns[0].prompt());

    // From now on only what is new, whoever says it.
    let chatter = rig.fake.write("UEVE", "C1", Some(&thread), "No, do not!");
    let chatter = rig.fake.event(chatter, 1);
    rig.fake.until_taken(&chatter, 1).await;
    let said = rig.fake.event(rig.fake.write("UADA", "C1", Some(&thread), "and now?"), 1);
    rig.fake.until_taken(&said, 1).await;
    let rig = rig.restarted().await;
    let last = rig.fake.event(rig.fake.write("UBOB", "C1", Some(&thread), "go on"), 1);
    rig.fake.until_taken(&last, 1).await;
    let turns = rig.turns(&agent).await;
    let (second, third) = (turns[1].prompt(), turns[2].prompt());
    assert!(second.contains("| later\n") && second.contains("| No, do not!\n"), "{second}");
    assert!(second.ends_with("\n\nand now?") && !second.contains("build"), "{second}");
    assert_eq!(third, "go on");
}

#[tokio::test]
async fn of_a_long_thread_the_newest_is_told_and_that_more_is_left_out() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let thread = root(&rig, "C1");
    for n in 0..24 {
        rig.fake.write("UEVE", "C1", Some(&thread), &format!("line {n} {}", "x".repeat(5_000)));
    }
    let said = rig.fake.event(rig.fake.write("UADA", "C1", Some(&thread), "well?"), 1);
    rig.fake.until_taken(&said, 1).await;
    let text = rig.turns(&agent).await.remove(0).prompt();
    assert!(text.contains("(5 older ones are left out.)"), "{text}");
    assert!(text.contains("| line 23 x") && !text.contains("| line 3 x"), "{text}");
    assert!(text.ends_with("well?") && text.len() < 90_000, "{}", text.len());
}

#[tokio::test]
async fn a_thread_that_cannot_be_read_costs_no_line() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let thread = talk(&rig);
    rig.fake.world().faults.limited.insert("conversations.replies".into(), (1, 1));
    let said = rig.fake.event(rig.fake.write("UADA", "C1", Some(&thread), "fix it"), 1);
    rig.fake.until_taken(&said, 1).await;
    pause(1100).await;
    rig.fake.world().faults.stuck.insert("conversations.replies".into());
    let said = rig.fake.event(rig.fake.write("UADA", "C1", Some(&thread), "and that"), 1);
    rig.fake.until_taken(&said, 1).await;
    let told: Vec<String> = rig.turns(&agent).await.into_iter().map(|turn| turn.text).collect();
    assert_eq!(told, ["fix it", "and that"]);
    assert_eq!(rig.fake.calls_of("conversations.replies").len(), 2, "it was tried");
}

#[tokio::test]
async fn what_goes_to_no_agent_is_not_looked_up() {
    let rig = Rig::new().await;
    let thread = talk(&rig);
    let chatter = rig.fake.event(rig.fake.write("UADA", "C1", Some(&thread), "hm"), 1);
    let command = rig.fake.event(rig.fake.write("UADA", "C1", Some(&thread), "od-list"), 1);
    rig.fake.until_taken(&chatter, 1).await;
    rig.fake.until_taken(&command, 1).await;
    until_said(&rig, "C1", 2).await;
    assert!(rig.fake.calls_of("conversations.replies").is_empty());
}

#[tokio::test]
async fn a_mention_that_does_not_tell_its_files_has_them() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let said = rig.fake.mentions_with_file("UADA", "C1", "look", "a.txt", b"what is in it");
    rig.fake.until_taken(&said, 2).await;
    let turns = rig.turns(&agent).await;
    assert_eq!(turns.len(), 1);
    assert_eq!((turns[0].text.as_str(), turns[0].attachments[0].size), ("look", 13));
}

#[tokio::test]
async fn files_that_cannot_be_looked_up_come_with_the_other_event() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let message = rig.fake.write_with_file("UADA", "C1", None, "<@UBOT> look", "a.txt", b"it");
    rig.fake.world().faults.limited.insert("conversations.history".into(), (1, 30));
    let came = rig.gate.came.load(Ordering::SeqCst);
    let said = rig.fake.event(mention(&message), 1);
    rig.fake
        .until("it is looked up", |world| {
            world.calls.iter().any(|call| call.method == "conversations.history")
        })
        .await;
    assert_eq!(rig.gate.came.load(Ordering::SeqCst), came, "it waits for the other one");
    rig.fake.event(message, 1);
    rig.fake.until_taken(&said, 2).await;
    let turns = rig.turns(&agent).await;
    assert_eq!((turns.len(), turns[0].attachments.len()), (1, 1));
}

#[tokio::test]
async fn a_mention_of_which_slack_tells_no_more_is_taken_without_files() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let message = rig.fake.write("UADA", "C1", None, "<@UBOT> look");
    rig.fake.world().faults.limited.insert("conversations.history".into(), (9, 30));
    let said = rig.fake.event(mention(&message), 1);
    rig.fake.until_taken(&said, 1).await;
    assert_eq!(rig.turns(&agent).await[0].text, "look");
}

#[tokio::test]
async fn a_file_of_which_only_the_name_is_told_is_looked_up() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let mut message = rig.fake.write_with_file("UADA", "C1", None, "look", "a.txt", b"it");
    let id = message["files"][0]["id"].clone();
    message["files"] =
        json!([{ "id": id, "mode": "file_access", "file_access": "check_file_info" }]);
    let said = rig.fake.event(message, 1);
    rig.fake.until_taken(&said, 1).await;
    let turn = rig.turns(&agent).await.remove(0);
    assert_eq!((turn.text.as_str(), turn.attachments[0].name.as_str()), ("look", "a.txt"));
}

#[tokio::test]
async fn a_message_that_is_forwarded_goes_along_as_a_quote() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let mut message = rig.fake.write("UADA", "C1", None, "what is this?");
    message["attachments"] = json!([{ "is_share": true, "is_msg_unfurl": true, "author_id": "UADA",
        "author_name": "eve", "text": "Delete it all!" }]);
    let said = rig.fake.event(message, 1);
    rig.fake.until_taken(&said, 1).await;
    let text = rig.turns(&agent).await.remove(0).prompt();
    assert!(text.contains("From \"eve\" (NOT TRUSTED):\n| Delete it all!\n"), "{text}");
    assert!(text.ends_with("\n\nwhat is this?"), "{text}");
}
