//! Discord, over its own wire: every line is taken once and answered once, whatever becomes of
//! the socket, the calls and the interaction meanwhile.

#![expect(dead_code, reason = "the support is shared with other tests")]

#[path = "support/discord/mod.rs"]
mod discord;
#[path = "support/server.rs"]
mod server;
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;

use std::sync::Arc;

use discord::{Discord as Fake, ME, life::Life, stage::text};
use open_dispatch::{
    chat::{
        ear::Hearing,
        grammar::Verb,
        platform::{Action, Content, Error, Nonce, Platform as _, Post, Tone, Upload},
    },
    resource::Kind,
    store::{Conversation, Store as _, memory::MemoryStore},
};
use serde_json::{Value, json};
use stage_of_chat::Stage as _;

fn here(channel: &str) -> Conversation {
    Conversation { platform: "discord".into(), channel: Fake::id(channel), thread: None }
}

fn nonce(delivery: &str) -> Nonce {
    Nonce { delivery: delivery.into(), index: 0 }
}

fn post<'a>(place: &'a Conversation, nonce: &'a Nonce, reply_to: Option<&'a str>) -> Post<'a> {
    Post { conversation: place, reply_to, text: "\u{2026}", nonce }
}

async fn begin() -> (Fake, Arc<MemoryStore>, Life) {
    let (fake, store) = (Fake::open().await, MemoryStore::new());
    let life = Life::begin(&fake, &store).await;
    (fake, store, life)
}

#[tokio::test]
async fn every_command_is_registered_once_and_answered_in_the_place_that_discord_keeps() {
    let (fake, _store, life) = begin().await;
    let commands = fake.until("commands are registered", Fake::commands).await;
    assert_eq!(commands.as_array().unwrap().len(), Verb::ALL.len());
    for verb in Verb::ALL {
        let options: Vec<(&str, Value)> = match verb {
            Verb::Start => vec![text("name", "api"), text("agent", "claude")],
            Verb::Run => vec![text("task", "echo it's"), text("agent", "command")],
            Verb::Send => vec![text("name", "api"), text("message", "hello")],
            Verb::Schedule => vec![text("do", "list")],
            Verb::Set => vec![text("name", "api"), text("changes", "model=opus")],
            Verb::List | Verb::Jobs | Verb::Whoami | Verb::Help => Vec::new(),
            _ => vec![text("name", "api")],
        };
        let channel = verb.name();
        let token = fake.uses("ann", channel, verb.name(), &options).await;
        // What goes to an agent or a job has no answer until one works; its place stands.
        let waits = matches!(verb, Verb::Run | Verb::Send);
        let what = format!("{} is answered", verb.name());
        let is_answer = |it: &&discord::Message| {
            (it.edits > 0 || it.only_for.is_some()) && (waits || it.text.len() > 3)
        };
        fake.until(&what, |fake| fake.ours(channel).iter().find(is_answer).map(|_| ())).await;
        let interaction = fake.of(&token);
        assert_eq!(interaction.answered, Some(5), "{verb:?}");
        let ours = fake.ours(channel);
        assert_eq!(ours.len(), 1, "{ours:#?}");
        let alone = matches!(verb, Verb::Help | Verb::Whoami);
        let is_original = Some(&ours[0].id) == interaction.original.as_ref();
        // What turned out to be for whoever asked alone takes the place of what all saw.
        assert_eq!(is_original, alone || ours[0].only_for.is_none(), "{verb:?}: {ours:#?}");
        assert!(!alone || ours[0].only_for == Some(Fake::id("ann")), "{verb:?}: {ours:#?}");
    }
    life.end().await;
}

#[tokio::test]
async fn an_interaction_that_comes_three_times_has_one_effect() {
    let (fake, store, life) = begin().await;
    let options = [text("task", "echo hi"), text("agent", "command")];
    let event = fake.command("ann", "dev", 2, "od-run", &options, &[]);
    for _ in 0..3 {
        fake.sends(&event).await;
    }
    fake.uses("ann", "dev", "od-jobs", &[]).await;
    // The lines of a channel are taken in order: what came before was taken, too.
    fake.until("the last is answered", |fake| {
        fake.ours("dev").get(1).filter(|it| it.text.contains("run-")).map(|_| ())
    })
    .await;
    let jobs = store.list(Kind::Job, None, 10).await.unwrap().items;
    assert_eq!(jobs.len(), 1);
    assert_eq!(fake.ours("dev").len(), 2);
    life.end().await;
}

#[tokio::test]
async fn a_command_during_a_reconnect_is_answered_once_the_session_is_resumed() {
    let (fake, _store, life) = begin().await;
    fake.order(json!({"op": 7, "d": null}));
    fake.uses("ann", "dev", "od-list", &[]).await;
    fake.reads("dev", "no agents").await;
    fake.until("the session was resumed", |fake| (fake.sessions().1 > 0).then_some(())).await;
    assert_eq!((fake.sessions().0, fake.ours("dev").len()), (1, 1));
    life.end().await;
}

#[tokio::test]
async fn a_lost_session_is_begun_anew_with_compressed_events() {
    let (fake, _store, life) = begin().await;
    fake.fault(|faults| {
        faults.forget_sessions = true;
        faults.zlib = true;
    });
    fake.order(json!({"close": 4000}));
    fake.until("a new session began", |fake| (fake.sessions().0 > 1).then_some(())).await;
    fake.uses("ann", "dev", "od-list", &[]).await;
    fake.reads("dev", "no agents").await;
    life.end().await;
}

#[tokio::test]
async fn a_socket_that_falls_silent_is_given_up_and_what_was_said_is_looked_up() {
    let fake = Fake::open().await;
    fake.heartbeat(300);
    let store = MemoryStore::new();
    let life = Life::begin(&fake, &store).await;
    fake.say("ann", "dev", &format!("<@{ME}> od-whoami")).await;
    fake.reads("dev", "configuration makes you").await;
    fake.mute();
    // Said to nobody, and never sent to the session that begins.
    fake.say("ann", "dev", &format!("<@{ME}> od-jobs")).await;
    fake.until("a new session began", |fake| (fake.sessions().0 > 1).then_some(())).await;
    fake.reads("dev", "no jobs").await;
    fake.uses("ann", "dev", "od-list", &[]).await;
    fake.reads("dev", "no agents").await;
    let jobs = fake.ours("dev").into_iter().filter(|it| it.text.contains("no jobs"));
    assert_eq!(jobs.count(), 1);
    life.end().await;
}

#[tokio::test]
async fn a_post_that_discord_forgot_is_known_by_what_the_socket_showed() {
    let (fake, _store, life) = begin().await;
    fake.fault(|faults| {
        faults.lost_answers = 1;
        faults.forget_nonces = true;
    });
    fake.say("ann", "dev", &format!("<@{ME}> od-list")).await;
    fake.reads("dev", "no agents").await;
    assert_eq!(fake.ours("dev").len(), 1);
    life.end().await;
}

#[tokio::test]
async fn a_storm_of_429_delays_answers_and_loses_none() {
    let (fake, _store, life) = begin().await;
    fake.fault(|faults| faults.too_many = (12, 0.05));
    for _ in 0..4 {
        fake.say("ann", "dev", &format!("<@{ME}> od-jobs")).await;
    }
    fake.until("all are answered", |fake| {
        (fake.ours("dev").iter().filter(|it| it.text.len() > 3).count() == 4).then_some(())
    })
    .await;
    assert_eq!(fake.ours("dev").len(), 4);
    let asked: Vec<String> = fake.ours("dev").into_iter().filter_map(|it| it.reply_to).collect();
    assert!(asked.is_sorted() && asked.len() == 4, "each answers its line, in order: {asked:?}");
    life.end().await;
}

#[tokio::test]
async fn a_post_whose_answer_is_lost_stands_there_once() {
    let (fake, _store, life) = begin().await;
    fake.fault(|faults| faults.lost_answers = 2);
    fake.say("ann", "dev", &format!("<@{ME}> od-list")).await;
    fake.reads("dev", "no agents").await;
    assert_eq!(fake.ours("dev").len(), 1);
    life.end().await;
}

#[tokio::test]
async fn an_answer_to_an_interaction_that_is_over_comes_as_a_message() {
    let (fake, _store, life) = begin().await;
    let event = fake.command("ann", "dev", 2, "od-list", &[], &[]);
    fake.expire();
    fake.sends(&event).await;
    let message = fake.reads("dev", "no agents").await;
    assert!(message.nonce.is_some(), "posted as the bot: {message:?}");
    // One that is over between the placeholder and the text is edited as the bot, too.
    let token = fake.uses("ann", "ops", "od-list", &[]).await;
    fake.until("it is opened", |fake| fake.of(&token).original).await;
    fake.expire();
    fake.reads("ops", "no agents").await;
    life.end().await;
}

#[tokio::test]
async fn a_button_says_its_line_in_the_name_of_whoever_presses_it() {
    let (fake, _store, life) = begin().await;
    let (place, nonce) = (here("dev"), nonce("d1"));
    let message = life.discord.post(&post(&place, &nonce, None)).await.unwrap();
    let action = Action { label: "Who am I".into(), line: "/od-whoami".into(), tone: Tone::Good };
    let content = Content { text: "press".into(), actions: vec![action] };
    life.discord.edit(&place, &message, &content, true).await.unwrap();
    let token = fake.press("bob", "dev", &message, "Who am I").await;
    fake.reads("dev", "bob").await;
    assert_eq!(fake.of(&token).answered, Some(6));
    let pressed = fake.all().into_iter().find(|it| it.id == message).unwrap();
    assert_eq!(pressed.text, "press", "the message with the button stays as it is");
    life.end().await;
}

#[tokio::test]
async fn a_thread_is_a_conversation_of_its_own_below_its_channel() {
    let (fake, store, life) = begin().await;
    fake.thread("dev", "thread-1");
    fake.say("ann", "thread-1", &format!("<@{ME}> od-start api --agent claude")).await;
    fake.until("it is answered there", |fake| {
        fake.ours("thread-1").into_iter().find(|it| it.text.contains("api"))
    })
    .await;
    let agent = store.get(Kind::Agent, "api").await.unwrap().unwrap().into_agent().unwrap();
    let channel = serde_json::to_value(&agent.spec.channels).unwrap();
    let wanted = json!([{"discord": {"channel": Fake::id("dev"), "thread": Fake::id("thread-1")}}]);
    assert_eq!(channel, wanted);
    // The same from a command that is used there.
    fake.uses("ann", "thread-1", "od-whoami", &[]).await;
    fake.until("it is answered there, too", |fake| fake.ours("thread-1").get(1).cloned()).await;
    assert!(fake.ours("dev").is_empty());
    life.end().await;
}

#[tokio::test]
async fn files_come_in_whole_and_what_is_missing_is_told() {
    let (fake, store, life) = begin().await;
    fake.say("ann", "dev", &format!("<@{ME}> od-start api --agent claude")).await;
    fake.reads("dev", "api").await;
    let agent = store.get(Kind::Agent, "api").await.unwrap().unwrap().into_agent().unwrap();
    fake.say_with("ann", "dev", &format!("<@{ME}> look"), &[("a.txt", b"one"), ("a.txt", b"two")])
        .await;
    let files = [("file", "b.bin", b"three".as_slice())];
    let options = [text("name", "api"), text("message", "and this")];
    fake.sends(&fake.command("ann", "dev", 2, "od-send", &options, &files)).await;
    let turns = loop {
        let turns = store.turns(&agent.metadata.uid, 0, 10).await.unwrap();
        if turns.len() == 2 {
            break turns;
        }
        tokio::task::yield_now().await;
    };
    let told: Vec<_> = turns
        .iter()
        .map(|turn| {
            (
                turn.text.as_str(),
                turn.attachments.iter().map(|it| (it.name.as_str(), it.size)).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [("look", vec![("a.txt", 3), ("2-a.txt", 3)]), ("and this", vec![("b.bin", 5)])]
    );
    // One that is too large is not even begun.
    let mut event = fake.command("ann", "dev", 2, "od-send", &options, &files);
    let attachments = event["data"]["resolved"]["attachments"].as_object_mut().unwrap();
    attachments.values_mut().for_each(|it| it["size"] = json!(50 * 1024 * 1024));
    fake.sends(&event).await;
    fake.reads("dev", "`b.bin` did not come along: it is larger than 32 MiB").await;
    life.end().await;
}

#[tokio::test]
async fn a_file_goes_out_once_though_its_answer_is_lost() {
    let (fake, _store, life) = begin().await;
    let (place, nonce) = (here("dev"), nonce("d1"));
    let post = Post { text: "the rest", ..post(&place, &nonce, None) };
    let file = Upload { name: "out.md".into(), bytes: "# all\r\n--of it".into() };
    fake.fault(|faults| faults.lost_answers = 1);
    let lost = life.discord.upload(&post, &file).await;
    assert!(matches!(lost, Err(Error::Ambiguous(_))), "{lost:?}");
    let message = life.discord.upload(&post, &file).await.unwrap();
    let shown = fake.shown("dev").await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].id, message);
    assert_eq!(shown[0].files, [("out.md".to_owned(), b"# all\r\n--of it".to_vec())]);
    life.end().await;
}

#[tokio::test]
async fn names_are_offered_as_somebody_types() {
    let (fake, _store, life) = begin().await;
    for name in ["api-bot", "web", "old-api"] {
        fake.say("ann", name, &format!("<@{ME}> od-start {name} --agent claude")).await;
        fake.reads(name, name).await;
    }
    let event = fake.command("ann", "dev", 4, "od-send", &[text("name", "API")], &[]);
    let token = fake.sends(&event).await;
    let choices = fake
        .until("names are offered", |fake| {
            Some(fake.of(&token)).filter(|it| it.answered == Some(8)).map(|it| it.choices)
        })
        .await;
    assert_eq!(choices, ["api-bot", "old-api"]);
    // Nobody has let carl in.
    let event = fake.command("carl", "dev", 4, "od-send", &[text("name", "API")], &[]);
    let token = fake.sends(&event).await;
    let of = fake
        .until("he is answered", |fake| Some(fake.of(&token)).filter(|it| it.answered.is_some()))
        .await;
    assert!(of.choices.is_empty(), "{of:?}");
    life.end().await;
}

#[tokio::test]
async fn a_whisper_is_seen_by_one_person_alone() {
    let (fake, _store, life) = begin().await;
    let place = here("dev");
    let content = Content::from("your code is 1234");
    // Where there is an interaction, below it; what showed that we think goes.
    let event = fake.command("bob", "dev", 2, "od-list", &[], &[]);
    let token = fake.sends(&event).await;
    fake.reads("dev", "no agents").await;
    let id = fake.of(&token).id;
    life.discord.whisper(&post(&place, &nonce("d1"), Some(&id)), "1", &content).await.unwrap();
    let shown = fake.shown("dev").await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].only_for, Some(Fake::id("bob")));
    // What does not fit into one message stands below it, and in the place of none.
    let token = fake.uses("bob", "long", "od-help", &[]).await;
    fake.until("it is answered", |fake| {
        fake.of(&token).original.filter(|_| fake.ours("long")[0].edits > 0)
    })
    .await;
    let id = fake.of(&token).id;
    for index in [0, 1] {
        let nonce = Nonce { index, ..nonce("d3") };
        let content = Content::from(format!("part {index}").as_str());
        life.discord.whisper(&post(&place, &nonce, Some(&id)), "1", &content).await.unwrap();
    }
    let parts: Vec<_> = fake.ours("long").into_iter().map(|it| (it.text, it.only_for)).collect();
    let for_bob = |text: &str| (text.to_owned(), Some(Fake::id("bob")));
    assert_eq!(parts, [for_bob("part 0"), for_bob("part 1")]);
    // Where there is none, in a direct message.
    life.discord.whisper(&post(&place, &nonce("d2"), None), "42", &content).await.unwrap();
    assert_eq!(fake.ours("7742")[0].text, "your code is 1234");
    life.end().await;
}

#[tokio::test]
async fn what_is_gone_says_so_and_what_is_overheard_is_not_answered_by_name() {
    let (fake, _store, life) = begin().await;
    let (place, nonce) = (here("dev"), nonce("d1"));
    let gone = life.discord.edit(&place, "1", &Content::from("x"), true).await;
    assert_eq!(gone, Err(Error::Gone("the message".into())));
    fake.fault(|faults| {
        faults.gone.insert(Fake::id("dev"));
    });
    let gone = life.discord.post(&post(&place, &nonce, None)).await;
    assert_eq!(gone, Err(Error::Gone("the channel".into())));
    let long = Content::from("x".repeat(2_001).as_str());
    let long = life.discord.edit(&here("ops"), "1", &long, true).await;
    assert!(matches!(long, Err(Error::Rejected(_))), "{long:?}");
    life.end().await;
}

#[tokio::test]
async fn where_no_gateway_is_named_nobody_else_is_asked() {
    let (fake, store) = (Fake::open().await, MemoryStore::new());
    fake.fault(|faults| faults.no_gateway = true);
    let life = Life::begin_unheard(&fake, &store).await;
    let told = life.until(|told| matches!(told, Hearing::NotNow(why) if why.contains("500"))).await;
    assert_eq!(told, Hearing::NotNow("no answer came: Discord answered 500".into()));
    assert_eq!(fake.sessions(), (0, 0));
    fake.fault(|faults| faults.no_gateway = false);
    life.until(|hearing| *hearing == Hearing::Yes).await;
    life.end().await;
}

/// The real server, killed while an answer streams: the channel ends with the whole answer, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_mid_stream_leaves_the_whole_answer_once() {
    let fake = Fake::open().await;
    let mut world = server::World::empty();
    let env: Vec<String> =
        fake.env().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let admin = format!("OPEN_DISPATCH_ADMINS=discord:{}", Fake::id("ann"));
    world.write(".env", [env, vec![admin]].concat().join("\n"));
    world.serve(&[]);
    let task = "for i in 1 2 3 4 5 6; do echo \"line-$i.\"; sleep 1; done";
    fake.uses("ann", "dev", "od-run", &[text("task", task), text("agent", "command")]).await;
    fake.reads("dev", "line-2.").await;
    world.kill_server();
    world.serve(&[]);
    fake.reads("dev", "line-6.").await;
    fake.until("the end stands there", |fake| {
        fake.ours("dev").last().filter(|it| it.text.contains("succeeded")).cloned()
    })
    .await;
    let ours = fake.ours("dev");
    let whole: String = ours.iter().map(|it| it.text.as_str()).collect();
    for n in 1..=6 {
        assert_eq!(whole.matches(&format!("line-{n}.")).count(), 1, "{whole}");
    }
    assert_eq!(ours.len(), 1, "{ours:#?}");
}
