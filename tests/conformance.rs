//! One suite for every chat platform: the same lines do the same everywhere, with the real server.
//!
//! A scenario knows a [`Stage`] and nothing of the platform behind it. A platform joins by one
//! `stage!` line at the end. What a stranger may do, and pairing, join with access.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the server runs in real time")]

#[path = "support/console/stage.rs"]
mod console;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/live.rs"]
mod live;
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;

use std::{path::PathBuf, time::Duration};

use live::{Live, PATIENCE};
use serde_json::json;
use stage_of_chat::{Shown, Stage};

/// A server, a stage, and a place for agents to work.
struct House<S> {
    stage: S,
    live: Live,
    work: PathBuf,
    channel: &'static str,
    _root: tempfile::TempDir,
}

impl<S: Stage> House<S> {
    async fn open(
        channel: &'static str,
        stage: impl FnOnce(&std::path::Path) -> S,
        more: &[(&str, &str)],
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (data, work) = (root.path().join("data"), root.path().join("work"));
        std::fs::create_dir(&work).unwrap();
        let stage = stage(&data);
        let mut env = stage.env();
        env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let live = Live::start(&data, &[], &env).await;
        Self { stage, live, work, channel, _root: root }
    }

    async fn says(&self, text: &str) {
        self.stage.say("ada", self.channel, text).await;
    }

    /// Waits until what stands there is as wanted.
    async fn sees(&self, what: &str, wanted: impl Fn(&[Shown]) -> bool) -> Vec<Shown> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let shown = self.stage.shown(self.channel).await;
            if wanted(&shown) {
                return shown;
            }
            let log = self.live.log();
            assert!(tokio::time::Instant::now() < deadline, "never: {what}; {shown:#?}\n{log}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits for a message with these words.
    async fn reads(&self, words: &str) -> Shown {
        let has = |shown: &Shown| shown.text.contains(words);
        let shown = self.sees(words, |all| all.iter().any(has)).await;
        shown.into_iter().find(has).unwrap()
    }

    /// An agent that is a shell and listens here.
    async fn shell(&self) {
        let work = self.work.display();
        self.says(&format!("/od-start bot --agent command {work}")).await;
        self.reads("bot").await;
        let idle = |agent: &serde_json::Value| agent["status"]["phase"] == "Idle";
        self.live.wait_for("agents/bot", "idle", idle).await;
    }

    /// An agent that asks before it acts, and listens here.
    async fn asker(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fickle_agent.sh");
        let body = json!({
            "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
            "metadata": {"name": "bot"},
            "spec": {
                "agent": {"acp": {"command": ["sh", script]}},
                "runtime": {"local": {"workdir": self.work}},
                "channels": [{self.stage.name(): {"channel": self.channel}}],
            },
        });
        let (code, answer) = self.live.post("agents", body).await;
        assert_eq!(code, 201, "{answer}");
    }

    /// Waits until the agent asks, and answers by the button or its line.
    async fn answers(&self, label: &str) {
        let asked = self.reads("? asks to use").await;
        self.stage.press("ada", self.channel, &asked.id, label).await;
    }
}

async fn start_list_send_status_stop<S: Stage>(house: House<S>) {
    house.shell().await;
    house.says("/od-send bot echo one two | wc -w").await;
    house.reads("2").await;
    house.reads("bot has answered").await;
    house.says("/od-list").await;
    let list = house.reads("NAME").await;
    assert!(list.text.contains("bot"), "{}", list.text);
    house.says("/od-status bot").await;
    house.reads("agent/bot").await;
    house.says("/od-stop bot").await;
    house.live.wait_for("agents/bot", "suspended", |agent| agent["spec"]["suspend"] == true).await;
    house.says("/od-start bot").await;
    house.live.wait_for("agents/bot", "resumed", |agent| agent["spec"]["suspend"] != true).await;
    house.says("/od-stop --all").await;
    house.live.wait_for("agents/bot", "suspended", |agent| agent["spec"]["suspend"] == true).await;
}

async fn run_jobs_logs_cancel_retry<S: Stage>(house: House<S>) {
    let work = house.work.display();
    house
        .says(&format!(
            "/od-run --agent command --name ok --workdir {work} echo it\\'s \"$((6*7))\""
        ))
        .await;
    let ok = house.reads("ok succeeded").await;
    assert!(ok.text.contains("it's 42"), "{}", ok.text);
    house.says(&format!("/od-run --agent command --name long --workdir {work} sleep 1000")).await;
    house.live.wait_for("jobs/long", "running", |job| job["status"]["phase"] == "Running").await;
    house.says("/od-cancel long").await;
    house.reads("long was cancelled").await;
    house.says("/od-jobs").await;
    let jobs = house.reads("Cancelled").await;
    assert!(jobs.text.contains("ok"), "{}", jobs.text);
    house.says("/od-logs ok").await;
    house.reads("job/ok").await;
    house.says("/od-retry ok").await;
    house.reads("ok-retry-1 succeeded").await;
}

async fn a_queue_is_answered_in_order<S: Stage>(house: House<S>) {
    house.shell().await;
    house.says("until test -e go; do sleep 0.05; done; echo first").await;
    house.live.wait_for("agents/bot", "busy", |agent| agent["status"]["phase"] == "Busy").await;
    house.says("echo second").await;
    house.reads("queued behind 1").await;
    std::fs::write(house.work.join("go"), "").unwrap();
    let both = |all: &[Shown]| {
        let at = |word: &str| all.iter().position(|shown| shown.text.contains(word));
        let done = all.iter().filter(|shown| shown.text.contains("bot has answered")).count();
        done == 2 && at("first") < at("second")
    };
    house.sees("both answers, in order", both).await;
}

async fn what_streams_is_seen_before_it_ends<S: Stage>(house: House<S>) {
    house.shell().await;
    house.says("echo begun; until test -e go; do sleep 0.05; done; echo over").await;
    let begun = house.reads("begun").await;
    assert!(!begun.text.contains("over"), "{}", begun.text);
    std::fs::write(house.work.join("go"), "").unwrap();
    let over = house.reads("bot has answered").await;
    assert!(over.text.contains("begun\nover"), "{}", over.text);
    assert_eq!(over.id, begun.id, "one message that is edited");
}

async fn requests_are_allowed_and_denied<S: Stage>(house: House<S>) {
    house.asker().await;
    house.says("do:ask for the first time").await;
    house.answers("Once").await;
    house.reads("allowed by").await;
    house.says("do:ask for the second time").await;
    let twice = |all: &[Shown]| {
        all.iter().filter(|shown| shown.text.contains("? asks to use")).count() == 2
    };
    let shown = house.sees("the second question", twice).await;
    let asked = shown.iter().rfind(|shown| shown.text.contains("? asks to use")).unwrap();
    house.stage.press("ada", house.channel, &asked.id, "No").await;
    house.reads("denied by").await;
}

async fn long_output_loses_nothing<S: Stage>(house: House<S>) {
    let work = house.work.display();
    house.says(&format!("/od-run --agent command --name long --workdir {work} seq 1 20000")).await;
    house.reads("long succeeded").await;
    let whole = |all: &[Shown]| {
        let mut text: String = all.iter().map(|shown| shown.text.as_str()).collect();
        let files = all.iter().flat_map(|shown| &shown.files);
        text.extend(files.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()));
        [1, 777, 10_000, 20_000].iter().all(|n| text.contains(&format!("{n}\n")))
    };
    house.sees("all lines, in messages or a file", whole).await;
}

async fn a_file_reaches_the_agent<S: Stage>(house: House<S>) {
    house.shell().await;
    let stage = &house.stage;
    let line = "cat \"$PWD\"/../*/attachments/*/notes.txt \"$OPEN_DISPATCH_FILES\"/* 2>/dev/null; echo end";
    stage.say_with_file("ada", house.channel, line, "notes.txt", b"what stood in the file").await;
    house.reads("bot has answered").await;
    let turns = house.live.get("agents/bot/turns").await;
    let text = turns.to_string();
    assert!(text.contains("notes.txt"), "{text}");
}

async fn a_restart_in_the_middle_ends_in_one_whole_answer<S: Stage>(mut house: House<S>) {
    house.shell().await;
    house.says("echo begun; until test -e go; do sleep 0.05; done; echo over").await;
    house.reads("begun").await;
    house.live.kill_nine();
    std::fs::write(house.work.join("go"), "").unwrap();
    house.live.up().await;
    let over = house.reads("bot has answered").await;
    assert!(over.text.contains("begun\nover"), "{}", over.text);
    let shown = house.stage.shown(house.channel).await;
    let answers = shown.iter().filter(|shown| shown.text.contains("over")).count();
    assert_eq!(answers, 1, "{shown:#?}");
}

async fn nonsense_gets_one_clear_answer<S: Stage>(house: House<S>) {
    house.says("/od-stat bot").await;
    house.reads("/od-stat is no command; did you mean").await;
    house.says("/od-run --name \"open").await;
    house.reads("the quote behind").await;
    house.says("/od-status nobody").await;
    house.reads("nobody").await;
    let deliveries = house.live.get("deliveries").await;
    assert_eq!(deliveries["kind"], "DeliveryList", "{deliveries}");
}

/// The suite on one platform.
macro_rules! stage {
    ($module:ident, $channel:expr, $stage:expr) => {
        mod $module {
            use super::*;

            stage!(@test $channel, $stage, start_list_send_status_stop);
            stage!(@test $channel, $stage, run_jobs_logs_cancel_retry);
            stage!(@test $channel, $stage, a_queue_is_answered_in_order);
            stage!(@test $channel, $stage, what_streams_is_seen_before_it_ends);
            stage!(@test $channel, $stage, requests_are_allowed_and_denied);
            stage!(@test $channel, $stage, long_output_loses_nothing);
            stage!(@test $channel, $stage, a_file_reaches_the_agent);
            stage!(@test $channel, $stage, a_restart_in_the_middle_ends_in_one_whole_answer);
            stage!(@test $channel, $stage, nonsense_gets_one_clear_answer);
        }
    };
    (@test $channel:expr, $stage:expr, $scenario:ident) => {
        #[tokio::test]
        async fn $scenario() {
            super::$scenario(House::open($channel, $stage, &[]).await).await;
        }
    };
}

stage!(on_console, "main", |data: &std::path::Path| console::ConsoleStage::new(data));
