//! OpenCode behind the real server and reporter, where something goes wrong in mid-turn: its
//! server is killed, its budget is spent, it is stopped while a tool runs.
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]

#[path = "support/fake_model/mod.rs"]
mod fake_model;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod live;
#[path = "support/opencode_binary.rs"]
mod opencode_binary;

use std::{path::PathBuf, process::Command, time::Duration};

use fake_model::FakeModel;
use live::{Live, PATIENCE};
use serde_json::{Value, json};

/// A server with one agent, `ann`, that allows whatever is asked.
struct House {
    server: Live,
    model: FakeModel,
    work: PathBuf,
    _dir: tempfile::TempDir,
}

impl House {
    /// Starts it, with more of the agent's spec; none where OpenCode is not installed.
    async fn start(more: Value) -> Option<Self> {
        let binary = opencode_binary::binary()?;
        let model = FakeModel::start().await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["data", "home", "work"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let mut env = opencode_binary::environment(model.url());
        let beside = binary.parent().expect("a directory").display();
        let path = format!("{beside}:{}", std::env::var("PATH").unwrap_or_default());
        env.extend([("PATH", path), ("HOME", at("home"))]);
        env.push(("OPEN_DISPATCH_ROOTS", dir.path().to_string_lossy().into_owned()));
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let server = Live::start(&dir.path().join("data"), &[], &env).await;
        let mut spec = json!({
            "agent": {"opencode": {}},
            "runtime": {"local": {"workdir": at("work")}},
            "permissions": {"mode": "bypass"},
        });
        let members = more.as_object().expect("members").clone();
        spec.as_object_mut().expect("a spec").extend(members);
        let object = json!({
            "apiVersion": "opendispatch.dev/v1alpha1",
            "kind": "Agent",
            "metadata": {"name": "ann"},
            "spec": spec,
        });
        let (code, answer) = server.post("agents?requestId=agent", object).await;
        assert_eq!(code, 201, "{answer}");
        Some(Self { server, model, work: dir.path().join("work"), _dir: dir })
    }

    /// Says something; returns the turn's id.
    async fn say(&self, text: &str) -> String {
        let body = json!({"requestId": text, "text": text});
        let (code, turn) = self.server.post("agents/ann/turns", body).await;
        assert_eq!(code, 201, "{turn}");
        turn["id"].as_str().expect("an id").to_owned()
    }

    /// Waits until a turn has ended.
    async fn ended(&self, id: &str) -> Value {
        let is_over = |turn: &Value| {
            ["Succeeded", "Failed", "Cancelled", "Interrupted"]
                .iter()
                .any(|state| turn["state"] == *state)
        };
        self.server.wait_for(&format!("agents/ann/turns/{id}"), "its end", is_over).await
    }

    async fn agent(&self) -> Value {
        self.server.get("agents/ann").await
    }

    /// The marker of the sprite's processes.
    async fn uid(&self) -> String {
        let agent = self.agent().await;
        let sprite = agent["status"]["sprite"].as_str().expect("a sprite").to_owned();
        let sprite = self.server.get(&format!("sprites/{sprite}")).await;
        sprite["metadata"]["uid"].as_str().expect("a uid").to_owned()
    }

    /// A directive that runs a command, and which says in a file that it does.
    fn long_command(&self) -> String {
        let started = self.work.join("started");
        format!(
            "[[bash:python3 -c 'import time; open(\"{}\", \"w\").close(); time.sleep(600)']]",
            started.display()
        )
    }

    async fn long_command_runs(&self) {
        comes_true("the long command runs", || self.work.join("started").exists()).await;
    }
}

impl Drop for House {
    /// Kills all that lives with the house's home: a reporter that is killed, as the server's own
    /// end does it, leaves its agent behind.
    fn drop(&mut self) {
        let home = format!("HOME={}", self.work.with_file_name("home").display());
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.split(|byte| *byte == 0).any(|variable| variable == home.as_bytes()) {
                let _ = Command::new("kill").arg("-9").arg(entry.file_name()).status();
            }
        }
    }
}

async fn comes_true(what: &str, holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, holding).await.is_ok(), "waited too long until {what}");
}

/// The pids of OpenCode's servers among the processes of a sprite.
fn servers(uid: &str) -> Vec<u32> {
    let is_server = |line: &str| line.contains("opencode") && line.contains(" serve ");
    let marked = Live::marked_processes(uid).into_iter();
    marked.filter(|(_, line)| is_server(line)).map(|(pid, _)| pid).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_opencode_that_is_killed_in_mid_turn_costs_that_turn_alone() {
    let Some(house) = House::start(json!({})).await else { return };
    let first = house.say("remember the word plum").await;
    assert_eq!(house.ended(&first).await["state"], "Succeeded");
    let session = house.agent().await["status"]["sessionId"].clone();
    assert!(session.is_string(), "{session}");

    let second = house.say(&house.long_command()).await;
    house.long_command_runs().await;
    let third = house.say("[[anew]] go on").await;
    let uid = house.uid().await;
    let pids = servers(&uid);
    let [pid] = pids.as_slice() else { panic!("one server: {pids:?}") };
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));

    let broken = house.ended(&second).await;
    assert_eq!(broken["state"], "Interrupted", "{broken}");
    let message = broken["message"].as_str().expect("a message");
    assert!(message.contains("signal 9"), "{message}");
    assert_eq!(house.ended(&third).await["state"], "Succeeded");
    assert_eq!(house.agent().await["status"]["sessionId"], session);
    let asked = house.model.requests().pop().expect("a request");
    assert!(asked.body.to_string().contains("the word plum"), "it remembers");
    let again = house.server.get(&format!("agents/ann/turns/{second}")).await;
    assert_eq!(again, broken, "a turn that has ended does not change");
    // The tool that the server left behind went with the run.
    let of_old = |uid: &str| {
        let marked = Live::marked_processes(uid).into_iter();
        marked.filter(|(_, line)| line.contains("time.sleep")).count()
    };
    comes_true("the tool is gone", || of_old(&uid) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_spent_within_a_turn_ends_it_there() {
    // Each answer of the model costs 0.0011 dollars.
    let Some(house) = House::start(json!({"budget": {"usd": 0.003}})).await else { return };
    let first = house.say("hello").await;
    assert_eq!(house.ended(&first).await["state"], "Succeeded");
    let steps: String = (0..3).map(|n| format!("[[bash:touch step{n}]] ")).collect();
    let second = house.say(&format!("{steps} {}", house.long_command())).await;
    let ended = house.ended(&second).await;
    assert_eq!(ended["state"], "Failed", "{ended}");
    let message = ended["message"].as_str().expect("a message");
    assert!(message.starts_with("what was left of the budget, $0.00"), "{message}");
    assert!(message.ends_with(", is spent"), "{message}");
    assert!(house.model.requests().len() < 6, "it went on: {}", house.model.requests().len());

    // What it may not do any more waits, and is done once it may.
    let third = house.say("[[anew]] go on").await;
    let is_told = |agent: &Value| agent.to_string().contains("BudgetSpent");
    house.server.wait_for("agents/ann", "the reason", is_told).await;
    let queued = house.server.get(&format!("agents/ann/turns/{third}")).await;
    assert_eq!(queued["state"], "Queued", "{queued}");
    house.server.patch("agents/ann", json!({"spec": {"budget": {"usd": 5}}})).await;
    assert_eq!(house.ended(&third).await["state"], "Succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_stopped_in_mid_turn_leaves_no_process_and_resumes() {
    let Some(house) = House::start(json!({})).await else { return };
    let first = house.say("remember the word plum").await;
    assert_eq!(house.ended(&first).await["state"], "Succeeded");
    let session = house.agent().await["status"]["sessionId"].clone();
    let second = house.say(&house.long_command()).await;
    house.long_command_runs().await;
    let uid = house.uid().await;
    let marked = Live::marked_processes(&uid);
    assert!(marked.iter().any(|(_, line)| line.contains("time.sleep")), "{marked:?}");

    house.server.patch("agents/ann", json!({"spec": {"suspend": true}})).await;
    assert_eq!(house.ended(&second).await["state"], "Cancelled");
    let is_suspended = |agent: &Value| agent["status"]["phase"] == "Suspended";
    house.server.wait_for("agents/ann", "suspended", is_suspended).await;
    comes_true("nothing is left", || Live::marked_processes(&uid).is_empty()).await;
    comes_true("its reporter has ended", || house.server.reporters().is_empty()).await;

    house.server.patch("agents/ann", json!({"spec": {"suspend": false}})).await;
    let third = house.say("[[anew]] go on").await;
    assert_eq!(house.ended(&third).await["state"], "Succeeded");
    assert_eq!(house.agent().await["status"]["sessionId"], session);
    let asked = house.model.requests().pop().expect("a request");
    assert!(asked.body.to_string().contains("the word plum"), "it remembers");
}
