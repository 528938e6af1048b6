//! Discord sends nothing a second time: what was said is taken all the same, whatever became of the
//! server, the socket, the store or a line before it.

#![expect(dead_code, reason = "the support is shared with other tests")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/discord/mod.rs"]
mod discord;
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;

use std::{sync::Arc, time::Duration};

use discord::{Discord as Fake, ME, life::Life, stage::text};
use open_dispatch::{
    chat::ear::Hearing,
    resource::Kind,
    store::{Store as _, memory::MemoryStore},
};

/// A server, with an agent that listens in `dev`.
async fn begin() -> (Fake, Arc<MemoryStore>, Life) {
    let (fake, store) = (Fake::open().await, MemoryStore::new());
    fake.heartbeat(300);
    let life = Life::begin(&fake, &store).await;
    fake.say("ann", "dev", &format!("<@{ME}> od-start api --agent claude")).await;
    fake.reads("dev", "api").await;
    (fake, store, life)
}

/// Waits until it is so.
async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let look = async {
        while !so().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(50), look).await.is_ok(), "{what}");
}

/// What the agent was told.
async fn told(store: &MemoryStore) -> Vec<String> {
    let agent = store.get(Kind::Agent, "api").await.unwrap().unwrap().into_agent().unwrap();
    let turns = store.turns(&agent.metadata.uid, 0, 100).await.unwrap();
    turns.into_iter().map(|turn| turn.text).collect()
}

async fn is_told(store: &MemoryStore, texts: &[&str]) {
    until(&format!("the agent is told {texts:?}"), async || told(store).await.len() >= texts.len())
        .await;
    assert_eq!(told(store).await, texts);
}

#[tokio::test]
async fn what_stood_in_a_queue_when_the_server_was_killed_is_taken_by_the_next() {
    let (fake, store, life) = begin().await;
    fake.say("ann", "dev", "message 0").await;
    is_told(&store, &["message 0"]).await;
    life.gate.shut(true);
    for n in 1..4 {
        fake.say("ann", "dev", &format!("message {n}")).await;
    }
    // A channel in which nothing was said before.
    fake.say("ann", "ops", &format!("<@{ME}> od-jobs")).await;
    until("all was received", async || {
        let row = store.place("discord", "").await.unwrap();
        row.is_some_and(|row| row.facts.to_string().contains(&Fake::id("ops")))
    })
    .await;
    assert_eq!(told(&store).await, ["message 0"]);
    life.end().await;
    let life = Life::begin(&fake, &store).await;
    is_told(&store, &["message 0", "message 1", "message 2", "message 3"]).await;
    fake.reads("ops", "no jobs").await;
    life.end().await;
}

#[tokio::test]
async fn a_server_that_is_stopped_takes_what_it_received() {
    let (fake, store, mut life) = begin().await;
    life.gate.shut(true);
    let options = [text("task", "echo hi"), text("agent", "command")];
    let token = fake.uses("ann", "dev", "od-run", &options).await;
    fake.until("it is answered", |fake| fake.of(&token).answered).await;
    let ended = life.stops();
    life.until(|hearing| matches!(hearing, Hearing::NotNow(why) if why.contains("stops"))).await;
    assert!(!ended.is_finished(), "it waits for what it received");
    life.gate.shut(false);
    ended.await.unwrap();
    assert_eq!(store.list(Kind::Job, None, 10).await.unwrap().items.len(), 1);
    life.end().await;
}

#[tokio::test]
async fn however_much_was_missed_all_of_it_is_looked_up() {
    let (fake, store, life) = begin().await;
    fake.say("ann", "dev", "message 0").await;
    is_told(&store, &["message 0"]).await;
    fake.mute();
    for n in 0..230 {
        fake.say("mallory", "dev", &format!("chatter {n}")).await;
    }
    fake.say("ann", "dev", "message 1").await;
    fake.until("a new session began", |fake| (fake.sessions().0 > 1).then_some(())).await;
    is_told(&store, &["message 0", "message 1"]).await;
    life.end().await;
}

#[tokio::test]
async fn what_cannot_be_looked_up_holds_nobody_up_for_good_and_is_looked_up_later() {
    let (fake, store, life) = begin().await;
    fake.say("ann", "dev", "message 0").await;
    is_told(&store, &["message 0"]).await;
    life.skew.hurry();
    fake.fault(|faults| faults.no_history = Some(500));
    fake.mute();
    for n in 1..3 {
        fake.say("ann", "dev", &format!("message {n}")).await;
    }
    fake.until("a new session began", |fake| (fake.sessions().0 > 1).then_some(())).await;
    fake.say("ann", "dev", "message 3").await;
    is_told(&store, &["message 0", "message 3"]).await;
    fake.fault(|faults| faults.no_history = None);
    is_told(&store, &["message 0", "message 3", "message 1", "message 2"]).await;
    life.end().await;
}

#[tokio::test]
async fn a_line_that_ends_by_a_fault_of_ours_takes_no_other_with_it() {
    let (fake, store, life) = begin().await;
    life.gate.panics();
    fake.say("ann", "dev", "message 1").await;
    fake.say("ann", "dev", "message 2").await;
    is_told(&store, &["message 2"]).await;
    life.end().await;
}

#[tokio::test]
async fn what_stops_an_agent_waits_for_no_file_and_what_else_is_said_keeps_its_place() {
    let (fake, store, life) = begin().await;
    fake.fault(|faults| faults.hang_files = true);
    fake.say_with("ann", "dev", "look", &[("a.txt", b"one")]).await;
    fake.until("the file is fetched", |fake| {
        fake.calls().iter().any(|call| call.starts_with("GET cdn/")).then_some(())
    })
    .await;
    fake.say("ann", "dev", "and then that").await;
    fake.uses("ann", "dev", "od-jobs", &[]).await;
    fake.uses("ann", "dev", "od-stop", &[text("name", "api")]).await;
    until("it is stopped", async || {
        let agent = store.get(Kind::Agent, "api").await.unwrap().unwrap().into_agent().unwrap();
        agent.spec.suspend
    })
    .await;
    assert!(told(&store).await.is_empty());
    assert!(fake.ours("dev").iter().all(|it| !it.text.contains("no jobs")));
    fake.fault(|faults| faults.hang_files = false);
    fake.reads("dev", "no jobs").await;
    life.end().await;
}

#[tokio::test]
async fn a_command_that_the_store_never_takes_is_told_and_a_message_is_looked_up_later() {
    let (fake, store, life) = begin().await;
    life.skew.hurry();
    life.gate.fails(true);
    fake.say("ann", "dev", "message 1").await;
    until("it was tried", async || life.gate.failed() > 0).await;
    fake.uses("ann", "dev", "od-list", &[]).await;
    // Each of them is tried for a while.
    let seen = std::cell::Cell::new(0);
    until("it is told", async || {
        if seen.replace(life.gate.failed()) < life.gate.failed() {
            life.skew.forward(Duration::from_secs(1));
        }
        fake.ours("dev").iter().any(|it| it.text.contains("This was not done"))
    })
    .await;
    life.gate.fails(false);
    is_told(&store, &["message 1"]).await;
    life.end().await;
}
