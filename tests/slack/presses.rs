//! Buttons: pressed by somebody else, twice, or too late; whoever pressed sees what became of it.

use std::{sync::atomic::Ordering, time::Duration};

use open_dispatch::{
    ambient::Ambient,
    chat::outbox::CHOICE_TIME,
    resource::Kind,
    store::{Access, Delivery, Op, Role, Subject, Transaction},
};
use serde_json::Value;

use super::{
    place,
    rig::Rig,
    slack::{Message, buttons, ours},
};

async fn apply(rig: &Rig, op: Op) {
    let now = Ambient::real().clock.now();
    rig.store.apply(Transaction::at(now).with(op)).await.unwrap();
}

/// What one person alone sees in a channel.
async fn told(rig: &Rig, who: &str, count: usize) -> String {
    let theirs = |message: &Message| message.only_for.as_deref() == Some(who);
    rig.fake
        .until("whoever pressed is told", |world| {
            ours(world, "C1").iter().filter(|message| theirs(message)).count() >= count
        })
        .await;
    let all: Vec<Message> = rig.fake.ours("C1").into_iter().filter(theirs).collect();
    assert_eq!(all.len(), count, "{all:?}");
    all.last().unwrap().text.clone()
}

/// Two agents and a message that either could be meant by; the message that asks, and its buttons.
async fn choice(rig: &Rig) -> (String, Vec<(String, Value)>) {
    rig.agent("C1").await;
    rig.fake.commands("UADA", "C1", "/od-start web --agent claude");
    rig.fake
        .until("both are told of", |world| {
            ours(world, "C1").iter().any(|message| message.text.contains("web"))
        })
        .await;
    rig.fake.says("UADA", "C1", "go on");
    let asks = |message: &&Message| buttons(message).iter().any(|(label, _)| label == "web");
    rig.fake.until("it is asked", |world| ours(world, "C1").iter().any(|it| asks(&it))).await;
    let message = rig.fake.ours("C1").iter().find(asks).unwrap().clone();
    let buttons = buttons(&message);
    (message.ts, buttons)
}

async fn press(rig: &Rig, who: &str, ts: &str, buttons: &[(String, Value)], label: &str) {
    let (_, button) = buttons.iter().find(|(it, _)| it == label).unwrap();
    let pressed = rig.fake.presses_as_seen(who, "C1", ts, button, 1);
    rig.fake.until_taken(&pressed, 1).await;
}

#[tokio::test]
async fn whoever_presses_and_may_not_is_told_and_nothing_happens() {
    let rig = Rig::new().await;
    let (ts, buttons) = choice(&rig).await;
    let viewer = Access {
        principal: "slack:UVIC".parse().unwrap(),
        role: Role::Viewer,
        name: String::new(),
        by: "ada".into(),
        pairing: None,
        created: Ambient::real().clock.now(),
        token: None,
    };
    apply(&rig, Op::Admit(viewer)).await;
    press(&rig, "UEVE", &ts, &buttons, "web").await;
    press(&rig, "UVIC", &ts, &buttons, "web").await;
    let code = rig.store.pairings().await.unwrap().remove(0).code;
    let stranger = told(&rig, "UEVE", 1).await;
    assert!(stranger.contains(&code), "{stranger}");
    let viewer = told(&rig, "UVIC", 1).await;
    assert!(viewer.contains("You are a viewer here") && viewer.contains("slack:UADA"), "{viewer}");
    assert_eq!(super::buttons(&rig.fake.message("C1", &ts).unwrap()), buttons, "they stay");
}

#[tokio::test]
async fn a_second_press_is_told_what_the_first_one_did() {
    let rig = Rig::new().await;
    let (ts, buttons) = choice(&rig).await;
    press(&rig, "UBOB", &ts, &buttons, "web").await;
    rig.fake
        .until("the buttons turn into the answer", |world| {
            let shown = ours(world, "C1").into_iter().find(|message| message.ts == ts);
            shown.is_some_and(|message| super::buttons(&message) != buttons)
        })
        .await;
    // Their screen still shows what stood there.
    press(&rig, "UBOB", &ts, &buttons, "bot").await;
    let again = told(&rig, "UBOB", 1).await;
    assert!(again.contains("web") && again.contains("already"), "{again}");
}

#[tokio::test]
async fn a_press_that_comes_too_late_is_told_so() {
    let rig = Rig::new().await;
    let (_, buttons) = choice(&rig).await;
    let then = Ambient::real().clock.now() - CHOICE_TIME - Duration::from_secs(1);
    let subject = Subject::Choice {
        text: "hello".into(),
        context: String::new(),
        names: vec!["bot".into(), "web".into()],
        author: "ada".into(),
        user: "UADA".into(),
        attachments: Vec::new(),
    };
    let id = uuid::Uuid::max().to_string();
    let ts = rig.fake.write(super::slack::BOT, "C1", None, "For whom?")["ts"].clone();
    let ts = ts.as_str().unwrap().to_owned();
    let late = Delivery {
        messages: vec![ts.clone()],
        ..Delivery::open(id.clone(), place("C1", None), subject, then)
    };
    apply(&rig, Op::Delivery(late)).await;
    let mut button = buttons[0].1.clone();
    button["value"] = format!("/od-pick {id} 1").into();
    let pressed = rig.fake.presses_as_seen("UBOB", "C1", &ts, &button, 3);
    rig.fake.until_taken(&pressed, 3).await;
    let late = told(&rig, "UBOB", 1).await;
    insta::assert_snapshot!(late);
}

#[tokio::test]
async fn what_slack_brings_once_is_done_though_the_store_refused_it_at_first() {
    let rig = Rig::new().await;
    let (ts, buttons) = choice(&rig).await;
    rig.fake.world().faults.brought_once = true;
    rig.gate.failing.store(3, Ordering::SeqCst);
    press(&rig, "UBOB", &ts, &buttons, "web").await;
    rig.gate.failing.store(3, Ordering::SeqCst);
    let said = rig.fake.commands("UADA", "C2", "/od-whoami");
    rig.fake.until_taken(&said, 1).await;
    super::until_said(&rig, "C2", 1).await;
    let agent = rig.store.get(Kind::Agent, "web").await.unwrap().unwrap();
    assert_eq!(rig.turns(&agent.metadata().uid).await.len(), 1, "the press counts");
    assert_eq!(rig.gate.failing.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_refusal_comes_by_the_address_of_its_command_once_slack_takes_it_there() {
    let rig = Rig::new().await;
    // Where the bot is not, there is no other way.
    rig.fake.world().faults.refused.insert("C1".into(), "channel_not_found");
    rig.fake.world().faults.unanswered = [503, 429, 500].into();
    rig.fake.commands("UEVE", "C1", "/od-list");
    let refused = told(&rig, "UEVE", 1).await;
    assert!(refused.contains("slack:UEVE") || refused.contains("code"), "{refused}");
    assert!(rig.fake.calls_of("chat.postEphemeral").is_empty(), "nor is another way tried");
    assert!(rig.fake.world().faults.unanswered.is_empty());
}
