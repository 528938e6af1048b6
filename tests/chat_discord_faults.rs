//! Discord at its worst: limits, refusals, sockets that die, events that come again, interactions
//! that are over, and buttons that are pressed by the wrong person or too late.

#![expect(dead_code, reason = "the support is shared with other tests")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/discord/mod.rs"]
mod discord;
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;

use std::{sync::Arc, time::Duration};

use discord::{Discord as Fake, ME, life::Life, stage::text};
use open_dispatch::{
    chat::{
        ear::Hearing,
        platform::{Error, Nonce, Platform as _, Post, Upload},
    },
    resource::Kind,
    store::{Conversation, Store as _, memory::MemoryStore},
};
use serde_json::json;

async fn begin() -> (Fake, Arc<MemoryStore>, Life) {
    let (fake, store) = (Fake::open().await, MemoryStore::new());
    let life = Life::begin(&fake, &store).await;
    (fake, store, life)
}

async fn post(life: &Life, channel: &str, delivery: &str) -> String {
    let conversation =
        Conversation { platform: "discord".into(), channel: Fake::id(channel), thread: None };
    let nonce = Nonce { delivery: delivery.into(), index: 0 };
    let post =
        Post { conversation: &conversation, reply_to: None, text: "\u{2026}", nonce: &nonce };
    life.discord.post(&post).await.unwrap()
}

#[tokio::test]
async fn a_stop_of_all_holds_every_channel_and_no_answer_to_an_interaction() {
    let (fake, _store, life) = begin().await;
    let life = Arc::new(life);
    fake.fault(|faults| faults.shut = Some(1.5));
    let calls = fake.calls().len();
    let first = tokio::spawn({
        let life = Arc::clone(&life);
        async move { post(&life, "dev", "d1").await }
    });
    fake.until("the stop was told", |fake| (fake.calls().len() > calls).then_some(())).await;
    let token = fake.uses("ann", "third", "od-list", &[]).await;
    fake.until("it is answered meanwhile", |fake| fake.of(&token).answered).await;
    assert!(!first.is_finished(), "nothing else may be asked");
    post(&life, "ops", "d2").await;
    first.await.unwrap();
    fake.reads("third", "no agents").await;
    // What was on its way when the stop was told may come to Discord all the same.
    assert!(fake.too_many() <= 1, "{}", fake.too_many());
    assert_eq!((fake.ours("dev").len(), fake.ours("ops").len()), (1, 1));
    Arc::into_inner(life).unwrap().end().await;
}

#[tokio::test]
async fn a_stop_of_our_address_holds_everything_and_loses_nothing() {
    let (fake, _store, life) = begin().await;
    fake.fault(|faults| faults.closed = Some(0.8));
    let calls = fake.calls().len();
    let first = post(&life, "dev", "d1");
    let then = async {
        fake.until("the stop was told", |fake| (fake.calls().len() > calls).then_some(())).await;
        fake.uses("ann", "ops", "od-list", &[]).await;
        fake.reads("ops", "no agents").await;
    };
    tokio::join!(first, then);
    assert!(fake.too_many() <= 1, "{}", fake.too_many());
    assert_eq!((fake.ours("dev").len(), fake.ours("ops").len()), (1, 1));
    life.end().await;
}

#[tokio::test]
async fn a_busy_channel_keeps_to_its_bucket_and_holds_up_no_other() {
    let (fake, _store, life) = begin().await;
    fake.fault(|faults| faults.buckets = true);
    for _ in 0..12 {
        fake.say("ann", "dev", &format!("<@{ME}> od-list")).await;
        fake.uses("ann", "dev", "od-jobs", &[]).await;
    }
    fake.say("ann", "ops", &format!("<@{ME}> od-list")).await;
    fake.reads("ops", "no agents").await;
    let left =
        |fake: &Fake| fake.ours("dev").iter().filter(|it| it.text.contains("no jobs")).count();
    assert!(left(&fake) < 12, "the other channel did not wait for this one");
    fake.until("all are answered", |fake| (left(fake) == 12).then_some(())).await;
    // The first calls of all are made before Discord has said what a channel takes.
    assert!(fake.too_many() <= 8, "{}", fake.too_many());
    life.end().await;
}

#[tokio::test]
async fn what_discord_refuses_for_good_says_the_mend() {
    for (code, mend) in [
        (4_004, "DISCORD_BOT_TOKEN"),
        (4_013, "update open-dispatch"),
        (4_014, "Message Content Intent"),
    ] {
        let (fake, store) = (Fake::open().await, MemoryStore::new());
        fake.fault(|faults| faults.close = Some(code));
        let life = Life::begin_unheard(&fake, &store).await;
        let told = life.until(|hearing| matches!(hearing, Hearing::Never(_))).await;
        let Hearing::Never(why) = told else { panic!("{told:?}") };
        assert!(why.contains(mend) && why.contains(&code.to_string()), "{code}: {why}");
        life.end().await;
    }
}

#[tokio::test]
async fn what_discord_refuses_and_serenity_keeps_to_itself_says_the_mend_all_the_same() {
    for (code, shards) in [(4_010, 1), (4_011, 3), (4_012, 1)] {
        let (fake, store) = (Fake::open().await, MemoryStore::new());
        // Until the next heartbeat is due, serenity reads on in what is closed, without a pause.
        fake.heartbeat(300);
        fake.fault(|faults| (faults.close, faults.shards) = (Some(code), shards));
        let life = Life::begin_unheard(&fake, &store).await;
        fake.until("it was refused", |fake| (fake.refused() > 0).then_some(())).await;
        life.skew.forward(Duration::from_secs(60));
        let told = life
            .until(|hearing| match hearing {
                Hearing::Never(why) => why.contains("4011"),
                Hearing::NotNow(why) => why.contains("update open-dispatch"),
                Hearing::Yes => panic!("nobody is heard"),
            })
            .await;
        assert_eq!(matches!(told, Hearing::Never(_)), code == 4_011, "{code}: {told:?}");
        life.end().await;
    }
}

#[tokio::test]
async fn a_session_that_discord_calls_invalid_is_resumed_or_begun_anew_as_it_says() {
    let (fake, _store, life) = begin().await;
    fake.order(json!({"op": 9, "d": true}));
    fake.until("it was resumed", |fake| (fake.sessions() == (1, 1)).then_some(())).await;
    fake.order(json!({"op": 9, "d": false}));
    fake.until("it was begun anew", |fake| (fake.sessions().0 == 2).then_some(())).await;
    fake.uses("ann", "dev", "od-list", &[]).await;
    fake.reads("dev", "no agents").await;
    life.end().await;
}

#[tokio::test]
async fn a_socket_without_heartbeats_is_left_and_what_was_said_into_it_is_taken_once() {
    let fake = Fake::open().await;
    fake.heartbeat(300);
    let store = MemoryStore::new();
    let life = Life::begin(&fake, &store).await;
    fake.say("ann", "dev", &format!("<@{ME}> od-start api --agent claude")).await;
    fake.reads("dev", "api").await;
    fake.mute();
    for n in 0..3 {
        fake.say("ann", "dev", &format!("message {n}")).await;
    }
    fake.until("a new session began", |fake| (fake.sessions().0 > 1).then_some(())).await;
    fake.say("ann", "dev", "message 3").await;
    let texts = turns(&store, 4).await;
    assert_eq!(texts, ["message 0", "message 1", "message 2", "message 3"]);
    life.end().await;
}

#[tokio::test]
async fn what_was_said_while_no_server_ran_is_taken_once_unless_it_is_old() {
    let (fake, store, life) = begin().await;
    fake.say("ann", "dev", &format!("<@{ME}> od-start api --agent claude")).await;
    fake.reads("dev", "api").await;
    let heard = fake.say("ann", "dev", "message 0").await;
    turns(&store, 1).await;
    let is_kept = async {
        loop {
            let row = store.place("discord", "").await.unwrap();
            if row.is_some_and(|row| row.facts.to_string().contains(&heard)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(50), is_kept).await.unwrap();
    life.end().await;
    let old = fake.say("ann", "dev", "from yesterday").await;
    fake.age(&old, Duration::from_hours(20));
    fake.say("mallory", "dev", "from nobody").await;
    fake.say("ann", "dev", "message 1").await;
    let life = Life::begin(&fake, &store).await;
    fake.say("ann", "dev", "message 2").await;
    assert_eq!(turns(&store, 3).await, ["message 0", "message 1", "message 2"]);
    life.end().await;
}

/// What the agent was told, once it is so much.
async fn turns(store: &MemoryStore, count: usize) -> Vec<String> {
    let look = async {
        loop {
            let agent = store.get(Kind::Agent, "api").await.unwrap().unwrap().into_agent().unwrap();
            let turns = store.turns(&agent.metadata.uid, 0, 100).await.unwrap();
            if turns.len() >= count {
                return turns.into_iter().map(|turn| turn.text).collect();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(50), look).await.unwrap()
}

#[tokio::test]
async fn a_message_and_a_press_that_come_three_times_have_one_effect() {
    let (fake, store, life) = begin().await;
    for name in ["api", "web"] {
        fake.say("ann", "dev", &format!("<@{ME}> od-start {name} --agent claude")).await;
        fake.reads("dev", name).await;
    }
    let said = fake.say("ann", "dev", &format!("<@{ME}> do it")).await;
    fake.again(&said).await;
    fake.again(&said).await;
    let asks = fake.reads("dev", "Several agents listen here").await;
    let asks = fake.with_buttons(&asks.id).await;
    let event = fake.pressed("ann", "dev", &asks.id, "api");
    for _ in 0..3 {
        fake.sends(&event).await;
    }
    fake.uses("ann", "dev", "od-jobs", &[]).await;
    fake.reads("dev", "no jobs").await;
    assert_eq!(turns(&store, 1).await, ["do it"]);
    let asked = fake.all().into_iter().filter(|it| it.text.contains("Several agents"));
    assert!(asked.count() <= 1, "{:#?}", fake.all());
    life.end().await;
}

#[tokio::test]
async fn a_press_is_answered_to_whoever_pressed_alone_be_it_not_theirs_again_or_too_late() {
    let (fake, store, life) = begin().await;
    for name in ["api", "web"] {
        fake.say("ann", "dev", &format!("<@{ME}> od-start {name} --agent claude")).await;
        fake.reads("dev", name).await;
    }
    fake.say("ann", "dev", &format!("<@{ME}> do it")).await;
    let asks = fake.reads("dev", "Several agents listen here").await;
    let asks = fake.with_buttons(&asks.id).await;
    let again = fake.pressed("bob", "dev", &asks.id, "web");

    // Somebody whom nobody knows, and once more.
    for words in
        ["Nobody has let you in yet, so nothing was done with that. Ask", "is good for an hour"]
    {
        fake.press("carl", "dev", &asks.id, "api").await;
        let told = fake.reads("dev", words).await;
        assert_eq!(told.only_for, Some(Fake::id("carl")), "{told:?}");
    }
    assert!(turns(&store, 0).await.is_empty());
    // Whoever may, and somebody who comes too late.
    fake.press("ann", "dev", &asks.id, "api").await;
    assert_eq!(turns(&store, 1).await, ["do it"]);
    fake.sends(&again).await;
    let told = fake.reads("dev", "api got that already").await;
    assert_eq!(told.only_for, Some(Fake::id("bob")), "{told:?}");
    assert_eq!(turns(&store, 1).await.len(), 1);

    // One that nobody answered in time. The button may still stand there.
    fake.say("ann", "dev", &format!("<@{ME}> do that, too")).await;
    let first = asks.id;
    let asks = fake
        .until("it is asked again", |fake| {
            fake.ours("dev").into_iter().find(|it| it.id != first && it.text.contains("Several"))
        })
        .await;
    let asks = fake.with_buttons(&asks.id).await;
    life.skew.forward(Duration::from_hours(2));
    fake.press("ann", "dev", &asks.id, "api").await;
    let told = fake
        .until("it is told to ann", |fake| {
            let told = |it: &discord::Message| {
                it.only_for == Some(Fake::id("ann")) && it.text.contains("Nobody said for whom")
            };
            fake.ours("dev").into_iter().find(told)
        })
        .await;
    assert_ne!(told.id, asks.id);
    assert_eq!(turns(&store, 1).await.len(), 1);
    life.end().await;
}

#[tokio::test]
async fn a_stranger_who_tries_a_command_again_is_not_left_with_one_that_thinks() {
    let (fake, _store, life) = begin().await;
    for words in ["Ask whoever runs this server", "is good for an hour"] {
        let token = fake.uses("carl", "dev", "od-list", &[]).await;
        let told = fake.reads("dev", words).await;
        assert_eq!(told.only_for, Some(Fake::id("carl")));
        let original = fake.of(&token).original;
        assert!(fake.all().iter().all(|it| Some(&it.id) != original.as_ref()), "it thinks");
    }
    life.end().await;
}

#[tokio::test]
async fn an_interaction_is_answered_at_once_though_the_store_stands_still() {
    let (fake, _store, life) = begin().await;
    life.gate.shut(true);
    let token = fake.uses("ann", "dev", "od-list", &[]).await;
    fake.until("it is answered", |fake| fake.of(&token).answered).await;
    // Nor does it wait for what came before it.
    let tokens = [
        fake.uses("ann", "dev", "od-jobs", &[]).await,
        fake.uses("ann", "ops", "od-run", &[text("task", "x"), text("agent", "command")]).await,
    ];
    for token in &tokens {
        fake.until("they are, too", |fake| fake.of(token).answered).await;
    }
    assert!(fake.all().iter().all(|it| it.text.is_empty()), "{:#?}", fake.all());
    life.gate.shut(false);
    fake.reads("dev", "no agents").await;
    // The job of the other channel may be there by now, or not.
    let is_answer = |text: &str| text.contains("no jobs") || text.contains("run-");
    fake.until("the second is answered", |fake| {
        fake.ours("dev").into_iter().find(|it| is_answer(&it.text))
    })
    .await;
    life.end().await;
}

#[tokio::test]
async fn an_answer_that_takes_longer_than_its_interaction_lives_comes_as_a_plain_message() {
    let (fake, _store, life) = begin().await;
    // Its token is good no more when the placeholder is to come.
    life.gate.shut(true);
    let token = fake.uses("ann", "dev", "od-list", &[]).await;
    fake.until("it is answered", |fake| fake.of(&token).answered).await;
    life.skew.forward(Duration::from_secs(15 * 60));
    fake.expire();
    life.gate.shut(false);
    let message = fake.reads("dev", "no agents").await;
    assert!(message.nonce.is_some() && Some(&message.id) != fake.of(&token).original.as_ref());
    // What one person alone is to see is told in a direct message then.
    life.gate.shut(true);
    let token = fake.uses("carl", "dev", "od-list", &[]).await;
    fake.until("it is answered", |fake| fake.of(&token).answered).await;
    life.skew.forward(Duration::from_secs(15 * 60));
    fake.expire();
    life.gate.shut(false);
    let direct = format!("{}{}", discord::WHISPERED, Fake::id("carl"));
    fake.reads(&direct, "Nobody has let you in").await;
    life.end().await;
}

#[tokio::test]
async fn an_answer_that_we_may_not_show_comes_once_we_may() {
    for code in [50_001, 50_013] {
        let (fake, _store, life) = begin().await;
        fake.fault(|faults| faults.shut_out = Some(code));
        life.skew.hurry();
        fake.say("ann", "dev", &format!("<@{ME}> od-list")).await;
        fake.until("it was refused", |fake| {
            fake.calls().iter().any(|call| call.starts_with("POST channels/")).then_some(())
        })
        .await;
        assert_eq!(life.open().await, 1, "it waits");
        fake.fault(|faults| faults.shut_out = None);
        life.skew.forward(Duration::from_secs(120));
        fake.reads("dev", "no agents").await;
        life.end().await;
    }
}

#[tokio::test]
async fn a_file_that_never_comes_to_discord_is_refused_after_some_tries() {
    let (fake, _store, life) = begin().await;
    fake.fault(|faults| faults.no_uploads = true);
    let conversation =
        Conversation { platform: "discord".into(), channel: Fake::id("dev"), thread: None };
    let nonce = Nonce { delivery: "d1".into(), index: 0 };
    let post = Post { conversation: &conversation, reply_to: None, text: "all", nonce: &nonce };
    let file = Upload { name: "out.md".into(), bytes: "all".into() };
    for _ in 0..3 {
        let sent = life.discord.upload(&post, &file).await;
        assert!(matches!(sent, Err(Error::Ambiguous(_))), "{sent:?}");
    }
    let calls = fake.calls().len();
    let sent = life.discord.upload(&post, &file).await;
    assert!(matches!(sent, Err(Error::Rejected(_))), "{sent:?}");
    assert_eq!(fake.calls().len(), calls, "it is not sent once more");
    life.end().await;
}

#[tokio::test]
async fn no_session_is_begun_when_hardly_any_is_left_for_the_day() {
    let (fake, store) = (Fake::open().await, MemoryStore::new());
    fake.fault(|faults| faults.starts = 3);
    let life = Life::begin_unheard(&fake, &store).await;
    life.skew.hurry();
    life.until(|hearing| matches!(hearing, Hearing::NotNow(why) if why.contains("1,000"))).await;
    assert_eq!(fake.sessions(), (0, 0));
    life.end().await;
}
