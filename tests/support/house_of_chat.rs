//! A server, a stage, and a place for agents to work: what a scenario of the conformance suite
//! stands on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the server runs in real time")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use open_dispatch::dev_fly::{DevFly, DevFlyConfig, Habits};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    cloud::Cloud,
    live::{Live, PATIENCE},
    stage_of_chat::{Shown, Stage},
};

/// Who may do everything.
pub const ADA: &str = "ada";
/// Whom nobody knows.
pub const EVE: &str = "eve";

/// Where agents live that nobody sends elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// As processes beside the server.
    Local,
    /// Each in a machine of its own.
    Fly,
}

/// A server, a stage, and a place for agents to work.
pub struct House<S> {
    pub stage: S,
    pub live: Live,
    /// A directory of the server's: where agents work that live beside it.
    pub work: PathBuf,
    /// Where their machines are, where they live in some.
    cloud: Option<Cloud>,
    _root: tempfile::TempDir,
}

impl<S: Stage> House<S> {
    /// Opens a stage for a data directory, and a server that talks to it.
    pub async fn open(stage: impl AsyncFnOnce(&Path) -> S, runtime: Runtime) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (data, work) = (root.path().join("data"), root.path().join("work"));
        std::fs::create_dir(&work).unwrap();
        let stage = stage(&data).await;
        let mut env = stage.env();
        if stage.nature().has_strangers {
            let ada = format!("{}:{}", stage.name(), stage.user(ADA));
            env.push(("OPEN_DISPATCH_ADMINS".to_owned(), ada));
        }
        let cloud = match runtime {
            Runtime::Local => None,
            Runtime::Fly => Some(Cloud::with(root.path(), &data, quickly).await),
        };
        if let Some(cloud) = &cloud {
            env.extend(cloud.env());
            env.push(("OPEN_DISPATCH_RUNTIME".to_owned(), "fly".to_owned()));
        }
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let live = Live::start(&data, &[], &env).await;
        Self { stage, live, work, cloud, _root: root }
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

    /// The server talked to this stage, and so to nobody else; and agents lived where they should.
    pub async fn was_as_declared(&self) {
        assert!(self.stage.calls() > 0, "the server never called {}", self.stage.name());
        let Some(cloud) = &self.cloud else { return };
        assert_eq!(self.live.reporters(), Vec::<u32>::new(), "nobody lives beside the server");
        // Once they are wanted no longer, no machine is left.
        for plural in ["agents", "jobs"] {
            let all = self.live.get(plural).await;
            for object in all["items"].as_array().unwrap() {
                let name = object["metadata"]["name"].as_str().unwrap();
                self.live.delete(&format!("{plural}/{name}")).await;
            }
        }
        let nothing = |fly: &DevFly| fly.machines().is_empty() && fly.guests() == 0;
        cloud.until("nothing is left", nothing).await;
        assert_eq!(cloud.faults(), Vec::<String>::new(), "{:#?}", cloud.fly.calls());
        let boots = cloud.fly.boots();
        let machines: BTreeSet<&str> = boots.iter().map(|boot| boot.machine.as_str()).collect();
        let names: BTreeSet<&str> = boots.iter().map(|boot| boot.name.as_str()).collect();
        assert_eq!(machines.len(), names.len(), "no sprite had two machines: {boots:#?}");
    }

    /// The same line does its work in a machine, which has none of the server's directories; whoever
    /// named one is told so. Answers whether that was to be told.
    pub async fn is_told_of(&self, path: &str) -> bool {
        if self.cloud.is_some() {
            self.reads(&format!("{path} is ignored: a machine has none of the server's")).await;
        }
        self.cloud.is_some()
    }

    /// Where their machines are.
    pub fn cloud(&self) -> &Cloud {
        self.cloud.as_ref().unwrap()
    }

    /// The directory in which an Agent or a Job (`agents/bot`) works, once it is there.
    pub async fn place(&self, owner: &str) -> PathBuf {
        let Some(cloud) = &self.cloud else { return self.work.clone() };
        let there = |it: &Value| it["metadata"]["uid"].is_string();
        let object = self.is(owner, "there", there).await;
        let uid = object["metadata"]["uid"].as_str().unwrap();
        let place = || {
            let places = cloud.machines_of(uid).into_iter().map(|it| cloud.work(&it));
            places.filter(|place| place.is_dir()).collect::<Vec<_>>()
        };
        cloud.until(&format!("a place where {owner} works"), |_| !place().is_empty()).await;
        let mut places = place();
        assert_eq!(places.len(), 1, "{owner} has one machine");
        places.remove(0)
    }

    /// Lets an Agent or a Job go on that waits for a file `go` where it works.
    pub async fn lets_go(&self, owner: &str) {
        std::fs::write(self.place(owner).await.join("go"), "").unwrap();
    }

    /// Where what came with a turn lies, to an agent's shell.
    pub fn attachments(&self) -> &'static str {
        match self.cloud {
            None => "${OPEN_DISPATCH_ARTIFACTS%.out}.files",
            Some(_) => "${OPEN_DISPATCH_ARTIFACTS%artifacts}attachments",
        }
    }

    /// Nobody ever worked but this agent.
    pub async fn nobody_worked_but(&self, owner: &str) {
        let left: Vec<String> = std::fs::read_dir(&self.work)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(left, Vec::<String>::new(), "in the server's directory");
        if let Some(cloud) = &self.cloud {
            assert_eq!(cloud.fly.boots().len(), 1, "there was one machine: {owner}'s");
            self.place(owner).await;
        }
    }

    /// An agent that is a shell and listens here.
    pub async fn shell(&self, name: &str) {
        let work = self.work.display();
        self.says(&format!("/od-start {name} --agent command {work}")).await;
        self.reads(name).await;
        self.is_told_of("the path").await;
        let idle = |agent: &Value| agent["status"]["phase"] == "Idle";
        self.is(&format!("agents/{name}"), "idle", idle).await;
    }

    /// An agent that asks before it acts, and listens here.
    pub async fn asker(&self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fickle_agent.sh");
        let channel = self.stage.place(self.stage.channel());
        let runtime = match self.cloud {
            None => json!({"local": {"workdir": self.work}}),
            Some(_) => json!({"fly": {}}),
        };
        let body = json!({
            "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
            "metadata": {"name": "bot"},
            "spec": {
                "agent": {"acp": {"command": ["sh", script]}},
                "runtime": runtime,
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

/// A cloud that loses no time, and limits what it is asked as the real one does.
fn quickly(config: &mut DevFlyConfig) {
    let none = Duration::ZERO;
    config.habits = Habits {
        pull: none,
        boot: none,
        settle: none,
        still_active: none,
        destroy: none,
        ..Habits::default()
    };
}

/// The whole numbers that stand alone on their lines, in order.
pub fn numbers(text: &str) -> Vec<u32> {
    text.lines().filter_map(|line| line.trim().parse().ok()).collect()
}
