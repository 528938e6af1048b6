//! A server, a stage, and a place for agents to work: what a scenario of the conformance suite
//! stands on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the server runs in real time")]

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    live::{Live, PATIENCE},
    stage_of_chat::{Shown, Stage},
};

/// Who may do everything.
pub const ADA: &str = "ada";
/// Whom nobody knows.
pub const EVE: &str = "eve";

/// A server, a stage, and a place for agents to work.
pub struct House<S> {
    pub stage: S,
    pub live: Live,
    pub work: PathBuf,
    _root: tempfile::TempDir,
}

impl<S: Stage> House<S> {
    /// Opens a stage for a data directory, and a server that talks to it.
    pub async fn open(stage: impl AsyncFnOnce(&Path) -> S) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (data, work) = (root.path().join("data"), root.path().join("work"));
        std::fs::create_dir(&work).unwrap();
        let stage = stage(&data).await;
        let mut env = stage.env();
        if stage.nature().has_strangers {
            let ada = format!("{}:{}", stage.name(), stage.user(ADA));
            env.push(("OPEN_DISPATCH_ADMINS".to_owned(), ada));
        }
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let live = Live::start(&data, &[], &env).await;
        Self { stage, live, work, _root: root }
    }

    /// Ada says a line, where the suite's people talk.
    pub async fn says(&self, text: &str) {
        self.stage.say(ADA, self.stage.channel(), text).await;
    }

    /// Ada presses a button; where there are none, she types what it says.
    pub async fn presses_or_says(&self, message: &Shown, label: &str, line: &str) {
        if !self.stage.nature().has_buttons {
            assert!(message.buttons.is_empty(), "{message:?}");
            return self.says(line).await;
        }
        let offered = |all: &[Shown]| {
            all.iter().any(|it| it.id == message.id && it.buttons.iter().any(|it| it == label))
        };
        self.sees(&format!("the button {label}"), offered).await;
        self.stage.press(ADA, self.stage.channel(), &message.id, label).await;
    }

    /// Somebody at the server's machine runs the command line.
    pub async fn types(&self, args: &[&str]) {
        let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_open-dispatch"))
            .args(args)
            .env("OPEN_DISPATCH_DATA", self.live.data())
            .output()
            .await
            .unwrap();
        assert!(command.status.success(), "{args:?}: {command:?}");
    }

    /// Waits until what stands there is as wanted.
    pub async fn sees(&self, what: &str, wanted: impl Fn(&[Shown]) -> bool) -> Vec<Shown> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let shown = self.stage.shown(self.stage.channel()).await;
            if wanted(&shown) {
                return shown;
            }
            let log = self.live.log();
            assert!(tokio::time::Instant::now() < deadline, "never: {what}; {shown:#?}\n{log}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits for a message with these words.
    pub async fn reads(&self, words: &str) -> Shown {
        let has = |shown: &Shown| shown.text.contains(words);
        let shown = self.sees(words, |all| all.iter().any(has)).await;
        shown.into_iter().find(has).unwrap()
    }

    /// Waits until an object is as wanted.
    pub async fn is(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.live.wait_for(path, what, wanted).await
    }

    /// Waits until an agent is stopped, or not.
    pub async fn is_stopped(&self, name: &str, stopped: bool) {
        let as_wanted = |agent: &Value| {
            agent["kind"] == "Agent"
                && agent["spec"]["suspend"].as_bool().unwrap_or(false) == stopped
        };
        self.is(&format!("agents/{name}"), "stopped or not", as_wanted).await;
    }

    /// What concerns eve alone is shown to her alone, where that can be.
    pub fn is_for_eve(&self, told: &Shown) {
        let eve = self.stage.user(EVE);
        let wanted = self.stage.nature().whispers.then_some(eve.as_str());
        assert_eq!(told.only_for.as_deref(), wanted, "{told:?}");
    }

    /// The server talked to this stage, and so to nobody else.
    pub fn was_on_stage(&self) {
        assert!(self.stage.calls() > 0, "the server never called {}", self.stage.name());
    }

    /// An agent that is a shell and listens here.
    pub async fn shell(&self, name: &str) {
        let work = self.work.display();
        self.says(&format!("/od-start {name} --agent command {work}")).await;
        self.reads(name).await;
        let idle = |agent: &Value| agent["status"]["phase"] == "Idle";
        self.is(&format!("agents/{name}"), "idle", idle).await;
    }

    /// An agent that asks before it acts, and listens here.
    pub async fn asker(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fickle_agent.sh");
        let channel = self.stage.place(self.stage.channel());
        let body = json!({
            "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
            "metadata": {"name": "bot"},
            "spec": {
                "agent": {"acp": {"command": ["sh", script]}},
                "runtime": {"local": {"workdir": self.work}},
                "channels": [{self.stage.name(): {"channel": channel}}],
            },
        });
        let (code, answer) = self.live.post("agents", body).await;
        assert_eq!(code, 201, "{answer}");
    }

    /// While the server is away, an hour goes by: all that was asked was asked an hour earlier.
    pub async fn an_hour_goes_by(&self) {
        let path = self.live.data().join("store.db");
        let options = SqliteConnectOptions::new().filename(path);
        let mut store = SqliteConnection::connect_with(&options).await.unwrap();
        let earlier = "UPDATE approvals SET body = json_set(body, '$.created', \
                       strftime('%Y-%m-%dT%H:%M:%SZ', json_extract(body, '$.created'), '-1 hour'))";
        let aged = sqlx::query(earlier).execute(&mut store).await.unwrap();
        assert_eq!(aged.rows_affected(), 1, "one request waits");
        store.close().await.unwrap();
    }
}

/// The whole numbers that stand alone on their lines, in order.
pub fn numbers(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}
