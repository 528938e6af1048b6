//! Files that people send: which ones are fetched, and what waits for them.

use std::time::Duration;

use open_dispatch::ambient::Ambient;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use super::{
    rig::Rig,
    slack::{DOWNLOAD, FakeSlack},
};

#[tokio::test]
async fn a_file_that_somebody_sends_goes_to_the_agent_with_the_message() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let said = rig.fake.shares("UADA", "C1", "look at this", "a/b.txt", b"what is in it");
    rig.fake.until_taken(&said, 1).await;
    let turn = rig.turns(&agent).await.remove(0);
    assert_eq!(turn.text, "look at this");
    assert_eq!((turn.attachments[0].name.as_str(), turn.attachments[0].size), ("b.txt", 13));
    let (mut file, _) = rig.files.open_file(&turn.attachments[0].id).await.unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "what is in it");
}

#[tokio::test]
async fn a_file_that_does_not_lie_at_slack_is_not_fetched_and_that_is_said() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let elsewhere = FakeSlack::start().await;
    let url = format!("{}/files/F1/x", elsewhere.api().trim_end_matches("/api"));
    let mut event = rig.fake.write("UADA", "C1", None, "look");
    event["subtype"] = json!("file_share");
    event["files"] = json!([{ "id": "F1", "name": "x.txt", "size": 3, "url_private": url }]);
    let said = rig.fake.event(event, 1);
    rig.fake.until_taken(&said, 1).await;
    let turn = rig.turns(&agent).await.remove(0);
    assert!(turn.attachments.is_empty());
    assert_eq!(
        turn.text,
        "look\n[the file x.txt did not come: it lies at 127.0.0.1, not at Slack]"
    );
}

#[tokio::test]
async fn nothing_is_fetched_for_whoever_may_do_nothing_and_where_nobody_listens() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    let strange = rig.fake.shares("UEVE", "C1", "look", "a.txt", b"a bomb");
    let mention = rig.fake.mentions_with_file("UEVE", "C1", "look", "a.txt", b"a bomb");
    let direct = rig.fake.shares("UEVE", "DEVE", "look", "a.txt", b"a bomb");
    let nowhere = rig.fake.shares("UADA", "C2", "look", "a.txt", b"for others");
    for (said, times) in [(strange, 1), (mention, 2), (direct, 1), (nowhere, 1)] {
        rig.fake.until_taken(&said, times).await;
    }
    for method in [DOWNLOAD, "files.info", "conversations.history"] {
        assert!(rig.fake.calls_of(method).is_empty(), "{method}");
    }
    let said = rig.fake.shares("UADA", "C1", "look", "a.txt", b"a log");
    rig.fake.until_taken(&said, 1).await;
    assert_eq!(rig.fake.calls_of(DOWNLOAD).len(), 1);
    assert_eq!(rig.turns(&agent).await.len(), 1);
}

/// Waits until a file is asked for, which then does not come.
async fn until_fetching(rig: &Rig) {
    rig.fake
        .until("a file is asked for", |world| world.calls.iter().any(|it| it.method == DOWNLOAD))
        .await;
}

#[tokio::test]
async fn nobody_waits_for_the_files_of_others() {
    let rig = Rig::new().await;
    let agent = rig.agent("C1").await;
    rig.fake.world().faults.stuck.insert(DOWNLOAD.into());
    let file = rig.fake.shares("UADA", "C1", "look", "a.txt", b"a log");
    until_fetching(&rig).await;
    let next = rig.fake.says("UADA", "C1", "and then?");
    let clock = Ambient::real().clock;
    let dials = rig.fake.world().dials.len();
    for _ in 0..3 {
        let since = clock.elapsed();
        // Whichever socket brings them.
        let here = rig.fake.commands("UADA", "C1", "/od-whoami");
        let there = rig.fake.says("UADA", "C2", "a chat");
        rig.fake.until_taken(&here, 1).await;
        rig.fake.until_taken(&there, 1).await;
        let took = clock.elapsed() - since;
        assert!(took < Duration::from_secs(3), "Slack gives 3 s, and it took {took:?}");
    }
    assert_eq!(rig.turns(&agent).await, [], "what has to wait for the file waits");
    assert_eq!(rig.fake.world().acknowledged.get(&file), None);
    rig.fake.world().faults.stuck.clear();
    rig.fake.until_taken(&file, 1).await;
    rig.fake.until_taken(&next, 1).await;
    let turns = rig.turns(&agent).await;
    let told: Vec<&str> = turns.iter().map(|turn| turn.text.as_str()).collect();
    assert_eq!((told, turns[0].attachments.len()), (vec!["look", "and then?"], 1));
    assert_eq!(rig.fake.calls_of(DOWNLOAD).len(), 1, "it is fetched once, however often it comes");
    assert_eq!(rig.fake.world().dials.len(), dials, "no socket was given up");
}
