//! What agents make reaches the conversation as files: once, in order, or with a word of why not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/conversation.rs"]
mod conversation;

use std::{collections::BTreeSet, sync::Arc};

use conversation::{Fake, World, exit, lines, out, says};
use open_dispatch::{
    ambient::{FreeSteps, Mode, ScriptedSteps, Steps},
    chat::Via,
    resource::{AnyObject, Job},
    store::{
        Op, Store, Subject, TurnState,
        files::{Files, MAX_FILE_BYTES},
    },
};
use serde_json::json;
use sprite_reporter::wire::EventBody;

/// A world with files, and how an agent makes one.
struct Shop {
    world: World,
    files: Arc<Files>,
    dir: tempfile::TempDir,
}

impl Shop {
    fn open(platform: Arc<Fake>, steps: Arc<dyn Steps>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::open(dir.path().to_owned()).unwrap());
        let world = World::new(platform, steps).with_files(Arc::clone(&files));
        Self { world, files, dir }
    }

    /// Does what the reporter and ingest would: a file is brought and told of.
    async fn made(&self, name: &str, text: &str) -> EventBody {
        let bytes = text.as_bytes().to_vec().into();
        let id = self.files.put_bytes(bytes, MAX_FILE_BYTES).await.unwrap().id;
        let url = format!("/files/{id}?name={name}");
        EventBody::Artifact { name: name.to_owned(), url, kind: "file".to_owned() }
    }

    /// An agent that answers a message, makes these files, and ends.
    async fn answers(&mut self, files: &[(&str, &str)]) -> String {
        let world = &mut self.world;
        world.heard("main", "start", "ada", "/od-start bot --agent claude", Via::Addressed).await;
        world.settle().await;
        let sprite = world.agent_sprite("bot").await;
        world.condition("bot", "Ready", true, "AgentReady", "").await;
        let turn = world.queued("main", "build it").await;
        world.begin(&turn.id, &sprite).await;
        let mut events = vec![says(&turn.id, "Built.\n")];
        for (name, text) in files {
            events.push(self.made(name, text).await);
        }
        self.world.print(&sprite, events).await;
        self.world.settle().await;
        turn.id
    }

    async fn ends(&mut self, turn: &str, state: TurnState) {
        let sprite = self.world.turn(turn).await.sprite_uid.unwrap();
        self.world.finish(turn, &sprite, state, "").await;
        self.world.settle().await;
    }

    /// What stands in a channel, in order: texts, and files as `NAME=TEXT`.
    fn stands(&self) -> Vec<String> {
        let state = self.world.platform.state.lock().unwrap();
        let shown = state.messages.iter().map(|message| match &message.file {
            Some(file) => format!("{}={}", file.name, String::from_utf8_lossy(&file.bytes)),
            None => message.text.clone(),
        });
        shown.filter(|text| text != "…").collect()
    }

    fn uploads(&self) -> usize {
        let state = self.world.platform.state.lock().unwrap();
        state.messages.iter().filter(|message| message.file.is_some()).count()
    }

    async fn is_settled(&self) -> bool {
        self.world.store.open_deliveries().await.unwrap().is_empty()
    }
}

fn chat() -> Arc<Fake> {
    Fake::for_people(|can| can.max_message = 600)
}

/// A job that prints so many lines and makes two files.
async fn job(shop: &mut Shop, printed: usize) {
    let line = "/od-run --agent command --name job1 count";
    shop.world.heard("main", "1", "ada", line, Via::Addressed).await;
    shop.world.settle().await;
    let job = shop.world.only_job().await;
    let sprite = shop.world.sprite(&job, 1).await;
    let files = [shop.made("a.txt", "first").await, shop.made("b.txt", "second").await];
    shop.world.print(&sprite, vec![out(&lines(0, printed))]).await;
    shop.world.settle().await;
    shop.world.print(&sprite, files.into_iter().chain([exit(0)]).collect()).await;
    shop.world.end("job1", 0).await;
    shop.world.settle().await;
}

/// Plays a job at each of whose steps something breaks; answers with the steps.
async fn broken_at_every_step(
    max_message: usize,
    printed: usize,
    check: impl Fn(&[String], &str),
) -> BTreeSet<String> {
    let mut steps = BTreeSet::new();
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        for n in 0.. {
            let scripted = Arc::new(ScriptedSteps::new(Some((n, mode))));
            let platform = Fake::for_people(|can| {
                (can.max_message, can.max_messages) = (max_message, 2);
            });
            let mut shop = Shop::open(platform, Arc::clone(&scripted) as _);
            job(&mut shop, printed).await;
            let passed = scripted.passed();
            let place = format!("{mode:?} at {n} ({:?})", passed.get(n));
            assert!(shop.is_settled().await, "{place}");
            check(&shop.stands(), &place);
            if n >= passed.len() {
                break;
            }
            steps.extend(passed.iter().map(ToString::to_string));
        }
    }
    steps
}

#[tokio::test]
async fn what_was_made_follows_the_end_once_whatever_happens() {
    let steps = broken_at_every_step(600, 3, |stands, place| {
        let [text, files @ ..] = stands else { panic!("{place}: {stands:?}") };
        assert!(text.contains("- `a.txt`\n- `b.txt`\n"), "{place}: {text}");
        assert!(text.contains("job1 succeeded") && !text.contains("/files/"), "{place}: {text}");
        assert_eq!(files, ["a.txt=first", "b.txt=second"], "{place}");
    })
    .await;
    assert!(steps.contains("chat.upload"), "{steps:?}");
}

#[tokio::test]
async fn what_was_made_follows_a_long_answer_that_ends_in_a_file_once_whatever_happens() {
    broken_at_every_step(100, 60, |stands, place| {
        let n = stands.len();
        assert_eq!(n, 6, "two pages, the end, its file, and two; {place}: {stands:?}");
        assert!(stands[2].starts_with("job1 succeeded"), "{place}: {stands:?}");
        assert!(stands[3].starts_with("job1.md=") && stands[3].contains("line 59"), "{place}");
        assert_eq!(stands[4..], ["a.txt=first", "b.txt=second"], "{place}");
    })
    .await;
}

#[tokio::test]
async fn an_agents_files_wait_for_the_end_of_its_turn() {
    let mut shop = Shop::open(chat(), Arc::new(FreeSteps));
    let turn = shop.answers(&[("a.txt", "first"), ("a.txt", "first"), ("b.txt", "")]).await;
    assert_eq!(shop.uploads(), 0);
    // Somebody says something meanwhile: it is seen at once, and not only behind the files.
    shop.world.queued("main", "and then").await;
    shop.world.settle().await;
    assert!(shop.stands().last().unwrap().contains("queued behind 1"), "{:?}", shop.stands());
    shop.ends(&turn, TurnState::Succeeded).await;
    let stands = shop.stands();
    let last: Vec<&str> = stands.iter().rev().take(2).rev().map(String::as_str).collect();
    assert_eq!(last, ["a.txt=first", "b.txt="], "each once: {stands:?}");
}

#[tokio::test]
async fn a_file_whose_answer_was_lost_is_looked_up_and_not_sent_again() {
    let mut shop = Shop::open(chat(), Arc::new(FreeSteps));
    let turn = shop.answers(&[("a.txt", "first")]).await;
    let sprite = shop.world.turn(&turn).await.sprite_uid.unwrap();
    // The next thing that is posted is the file.
    shop.world.platform.state.lock().unwrap().ambiguous = true;
    shop.world.finish(&turn, &sprite, TurnState::Succeeded, "").await;
    shop.world.settle().await;
    assert!(!shop.world.platform.state.lock().unwrap().ambiguous, "its answer was lost");
    assert_eq!(shop.uploads(), 1);
    assert!(shop.is_settled().await);
}

#[tokio::test]
async fn what_is_done_again_does_not_post_the_files_again() {
    let mut shop = Shop::open(chat(), Arc::new(FreeSteps));
    let turn = shop.answers(&[("a.txt", "first")]).await;
    shop.ends(&turn, TurnState::Failed).await;
    assert_eq!(shop.uploads(), 1);
    shop.world.restart();
    shop.world.press("main", "ada", "Retry").await;
    assert!(shop.world.platform.labels("main").iter().all(|label| label != "Retry"));
    assert_eq!(shop.uploads(), 1);
}

#[tokio::test]
async fn every_place_that_a_job_reports_to_gets_its_files() {
    let mut shop = Shop::open(chat(), Arc::new(FreeSteps));
    let to = |channel: &str| json!({"discord": {"channel": channel}});
    let made: Job = serde_json::from_value(json!({
        "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Job",
        "metadata": {"name": "job1", "uid": "0190aaaa-0000-7000-8000-000000000000"},
        "spec": {
            "task": "count", "agent": {"command": {}}, "runtime": {"local": {"workdir": "/tmp"}},
            "report": {"to": [to("main"), to("other")], "detail": "final"},
        },
        "status": {},
    }))
    .unwrap();
    shop.world.apply(vec![Op::Create(AnyObject::from(made))]).await;
    let job = shop.world.only_job().await;
    let sprite = shop.world.sprite(&job, 1).await;
    let file = shop.made("a.txt", "first").await;
    shop.world.print(&sprite, vec![file, exit(0)]).await;
    shop.world.end("job1", 0).await;
    shop.world.settle().await;
    assert_eq!(shop.uploads(), 2, "{:?}", shop.stands());
    assert!(shop.is_settled().await);
}

#[tokio::test]
async fn what_a_place_does_not_take_is_told_there() {
    let mut shop = Shop::open(chat(), Arc::new(FreeSteps));
    shop.world.platform.state.lock().unwrap().no_files = true;
    let turn = shop.answers(&[("a.txt", "first")]).await;
    shop.ends(&turn, TurnState::Succeeded).await;
    let last = shop.stands().pop().unwrap();
    assert!(last.starts_with("! `a.txt` could not be posted: the platform refused"), "{last}");
    assert!(last.contains("as `files/a7937b64"), "{last}");
    assert!(shop.is_settled().await);

    let platform = Fake::for_people(|can| (can.max_message, can.max_file) = (600, 4));
    let mut shop = Shop::open(platform, Arc::new(FreeSteps));
    let turn = shop.answers(&[("a.txt", "first"), ("b.txt", "2nd")]).await;
    shop.ends(&turn, TurnState::Succeeded).await;
    let stands = shop.stands();
    let [.., large, small] = stands.as_slice() else { panic!("{stands:?}") };
    assert!(large.contains("`a.txt` could not be posted: it has 0.0 MiB, and"), "{large}");
    assert_eq!(small, "b.txt=2nd", "in order");
}

#[tokio::test]
async fn a_file_that_is_gone_is_told_and_holds_up_nothing() {
    let mut shop = Shop::open(chat(), Arc::new(FreeSteps));
    let turn = shop.answers(&[("a.txt", "first"), ("b.txt", "second")]).await;
    let a = shop.files.put_bytes("first".into(), MAX_FILE_BYTES).await.unwrap().id;
    std::fs::remove_file(shop.dir.path().join(a)).unwrap();
    shop.ends(&turn, TurnState::Succeeded).await;
    let stands = shop.stands();
    let [.., gone, kept] = stands.as_slice() else { panic!("{stands:?}") };
    assert_eq!(gone, "! `a.txt` could not be posted: it is kept no longer");
    assert_eq!(kept, "b.txt=second");
}

#[tokio::test]
async fn past_ten_files_the_others_are_named() {
    let names: Vec<String> = (0..12).map(|n| format!("f{n:02}.txt")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let mut shop = Shop::open(chat(), Arc::new(FreeSteps));
    let turn = shop.answers(&files).await;
    shop.ends(&turn, TurnState::Succeeded).await;
    assert_eq!(shop.uploads(), 10);
    let last = shop.stands().pop().unwrap();
    assert!(last.starts_with("! 10 files are posted here for one answer, and 2 more"), "{last}");
    assert!(last.contains("`f10.txt`") && last.contains("`f11.txt`"), "{last}");

    let platform = Fake::for_people(|can| (can.max_message, can.max_file) = (2_000, 0));
    let mut shop = Shop::open(platform, Arc::new(FreeSteps));
    let turn = shop.answers(&files).await;
    shop.ends(&turn, TurnState::Succeeded).await;
    let last = shop.stands().pop().unwrap();
    assert!(last.starts_with("! files are not taken here") && last.contains("f00.txt"), "{last}");
    assert_eq!(shop.uploads(), 0);
}

#[tokio::test]
async fn a_file_waits_for_its_place_and_is_posted_then() {
    let mut shop = Shop::open(chat(), Arc::new(FreeSteps));
    let turn = shop.answers(&[("a.txt", "first")]).await;
    let sprite = shop.world.turn(&turn).await.sprite_uid.unwrap();
    shop.world.finish(&turn, &sprite, TurnState::Succeeded, "").await;
    // The answer's end is shown, and then the line goes down.
    for (key, _) in open_dispatch::reconcile::Controller::keys(&shop.world.outbox).await.unwrap() {
        open_dispatch::reconcile::Controller::reconcile(&shop.world.outbox, &key).await.unwrap();
    }
    shop.world.platform.lose("main", true);
    shop.world.settle().await;
    let open = shop.world.store.open_deliveries().await.unwrap();
    assert!(matches!(&open[..], [it] if matches!(it.subject, Subject::File { .. })), "{open:?}");
    shop.world.platform.lose("main", false);
    shop.world.restart();
    shop.world.settle().await;
    assert_eq!(shop.stands().last().unwrap(), "a.txt=first");
    assert_eq!(shop.uploads(), 1);
}

#[tokio::test]
async fn a_terminal_is_told_where_a_file_can_be_had() {
    let mut shop = Shop::open(Fake::with_lookup(true), Arc::new(FreeSteps));
    job(&mut shop, 1).await;
    let all = shop.world.platform.shown("main").concat();
    assert!(all.contains("+ a.txt: /files/a7937b64"), "{all}");
    assert_eq!(shop.uploads(), 0);
}
