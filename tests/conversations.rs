//! A conversation with each real CLI, with the server killed between any two of its steps: three
//! turns, a cancel, a queued message, an approval, a sleep and a wake.
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]

#[path = "support/acp_binary.rs"]
mod acp_binary;
#[path = "support/claude_binary.rs"]
mod claude_binary;
#[path = "support/fake_model/mod.rs"]
mod fake_model;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod live;
#[path = "support/opencode_binary.rs"]
mod opencode_binary;

use std::path::{Path, PathBuf};

use fake_model::FakeModel;
use live::Live;
use serde_json::{Value, json};

/// A CLI, as an Agent has it.
struct Cli {
    /// `spec.agent`.
    agent: Value,
    /// What the server's environment holds for it.
    env: Vec<(&'static str, String)>,
    /// What lies in its user's home, by path.
    home: Vec<(&'static str, String)>,
}

/// A conversation with one agent, and a server that dies after each step of it.
struct Talk {
    server: Live,
    model: FakeModel,
    stage: PathBuf,
    sent: usize,
    kills: usize,
    _dir: tempfile::TempDir,
}

impl Talk {
    async fn start(cli: &Cli, model: FakeModel) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let stage = dir.path().to_owned();
        for name in ["data", "home", "work"] {
            std::fs::create_dir(stage.join(name)).expect("a directory");
        }
        for (path, text) in &cli.home {
            let path = stage.join("home").join(path);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, text).expect("a file");
        }
        let home = stage.join("home").to_string_lossy().into_owned();
        let roots = stage.to_string_lossy().into_owned();
        let mut env: Vec<(&str, &str)> =
            cli.env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        env.extend([("HOME", home.as_str()), ("OPEN_DISPATCH_ROOTS", roots.as_str())]);
        let server = Live::start(&stage.join("data"), &[], &env).await;
        let mut talk = Self { server, model, stage, sent: 0, kills: 0, _dir: dir };
        let object = json!({
            "apiVersion": "opendispatch.dev/v1alpha1",
            "kind": "Agent",
            "metadata": {"name": "ann"},
            "spec": {
                "agent": cli.agent,
                "runtime": {"local": {"workdir": talk.stage.join("work")}},
                "permissions": {"mode": "ask"},
            },
        });
        let (code, answer) = talk.server.post("agents?requestId=agent", object).await;
        assert_eq!(code, 201, "{answer}");
        talk.dies().await;
        talk
    }

    /// Kills the server and starts it again.
    async fn dies(&mut self) {
        self.server.kill_nine();
        self.server.up().await;
        self.kills += 1;
    }

    /// Says something; the request is sent twice, as by a platform that got no answer.
    async fn say(&mut self, text: &str) -> String {
        self.sent += 1;
        let body = json!({"requestId": format!("message-{}", self.sent), "text": text});
        let (code, turn) = self.server.post("agents/ann/turns", body.clone()).await;
        assert_eq!(code, 201, "{turn}");
        self.dies().await;
        let (code, again) = self.server.post("agents/ann/turns", body).await;
        assert_eq!((code, &again["id"]), (200, &turn["id"]), "{again}");
        turn["id"].as_str().expect("an id").to_owned()
    }

    async fn turn(&self, id: &str, state: &str) -> Value {
        let path = format!("agents/ann/turns/{id}");
        self.server.wait_for(&path, state, |turn| turn["state"] == state).await
    }

    async fn is_queued(&self, id: &str) -> bool {
        self.server.get(&format!("agents/ann/turns/{id}")).await["state"] == "Queued"
    }

    async fn phase(&self, phase: &str) -> Value {
        let is = |agent: &Value| agent["status"]["phase"] == phase;
        self.server.wait_for("agents/ann", phase, is).await
    }

    /// Waits until the model was asked with a prompt that holds this.
    async fn is_asked(&self, what: &str) {
        let asked = async {
            while self.asked(what) == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(live::PATIENCE, asked).await.expect("the model is asked");
    }

    /// How often the model was asked with a prompt that holds this.
    fn asked(&self, what: &str) -> usize {
        self.model.requests().iter().filter(|seen| seen.prompt.contains(what)).count()
    }
}

/// The script that every CLI must pass.
async fn script(cli: Cli, model: FakeModel) {
    let mut talk = Talk::start(&cli, model).await;

    // A turn.
    let first = talk.say("Remember the word plum.").await;
    talk.turn(&first, "Succeeded").await;
    talk.dies().await;
    let session = talk.phase("Idle").await["status"]["sessionId"].clone();
    assert!(session.is_string(), "{session}");

    // A turn that is cancelled in the middle.
    let second = talk.say("Count slowly. [[slow:400:50]]").await;
    talk.turn(&second, "Running").await;
    talk.dies().await;
    talk.is_asked("Count slowly").await;
    let cancel = format!("agents/ann/turns/{second}/cancel");
    let (code, answer) = talk.server.post(&cancel, json!({"by": "bob"})).await;
    assert!(code < 300, "{code}: {answer}");
    talk.dies().await;
    talk.turn(&second, "Cancelled").await;
    talk.dies().await;

    // A turn that asks, and a message that comes meanwhile and waits.
    let made = talk.stage.join("work/made");
    let third = talk.say(&format!("Third. [[bash:touch {}]]", made.display())).await;
    let waits = |list: &Value| {
        list["items"]
            .as_array()
            .is_some_and(|items| items.iter().any(|it| it["state"] == "Pending"))
    };
    talk.server.wait_for("agents/ann/approvals", "an approval that waits", waits).await;
    talk.dies().await;
    let fourth = talk.say("Fourth, after the third.").await;
    assert!(talk.is_queued(&fourth).await && !made.exists());
    let list = talk.server.get("agents/ann/approvals").await;
    let pending: Vec<&Value> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|it| it["state"] == "Pending")
        .collect();
    assert_eq!(pending.len(), 1, "{list:#}");
    let request = pending[0]["request"].as_str().expect("an id").to_owned();
    let path = format!("agents/ann/approvals/{request}");
    let (code, answer) = talk.server.post(&path, json!({"allow": true})).await;
    assert_eq!(code, 200, "{answer}");
    talk.dies().await;
    let (code, _) = talk.server.post(&path, json!({"allow": false})).await;
    assert_eq!(code, 409, "an approval is answered once");
    let third = talk.turn(&third, "Succeeded").await;
    assert!(made.exists());
    talk.dies().await;
    let fourth = talk.turn(&fourth, "Succeeded").await;
    let at = |turn: &Value, what: &str| turn[what].as_str().expect("a time").to_owned();
    assert!(at(&third, "ended") <= at(&fourth, "started"), "one at a time, in order");
    talk.dies().await;

    // It falls asleep, and the next message wakes it.
    let awake = talk.phase("Idle").await;
    let sprite = awake["status"]["sprite"].as_str().expect("a sprite").to_owned();
    let patch = json!({"spec": {"idleTimeout": "1s"}});
    talk.server.patch("agents/ann", patch).await;
    talk.dies().await;
    talk.phase("Asleep").await;
    talk.dies().await;
    let asleep = |sprite: &Value| {
        let conditions = sprite["status"]["conditions"].as_array();
        conditions.is_some_and(|all| {
            all.iter().any(|it| it["type"] == "Asleep" && it["status"] == "True")
        })
    };
    talk.server.wait_for(&format!("sprites/{sprite}"), "asleep", asleep).await;
    assert_eq!(talk.server.reporters(), Vec::<u32>::new(), "nothing of it runs");
    let patch = json!({"spec": {"idleTimeout": "10m"}});
    talk.server.patch("agents/ann", patch).await;
    let fifth = talk.say("Fifth, and good morning.").await;
    talk.turn(&fifth, "Succeeded").await;
    talk.dies().await;
    let woken = talk.phase("Idle").await;
    assert_eq!(woken["status"]["sessionId"], session, "the session is the same");
    assert_eq!(woken["status"]["sprite"], sprite.as_str(), "and so is the sprite");
    let remembers = talk.model.requests().into_iter().rfind(|seen| seen.prompt.contains("Fifth"));
    let body = remembers.expect("the model was asked").body.to_string();
    assert!(body.contains("the word plum"), "it remembers what was said first: {body}");

    // Every turn has its one outcome, and every prompt reached the model once for each step.
    let turns = talk.server.get("agents/ann/turns").await;
    let states: Vec<&str> = turns["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|t| t["state"].as_str())
        .collect();
    assert_eq!(states, ["Succeeded", "Cancelled", "Succeeded", "Succeeded", "Succeeded"]);
    let steps = ["plum", "Count slowly", "Third.", "Fourth", "Fifth"].map(|it| talk.asked(it));
    assert_eq!(steps, [1, 1, 2, 1, 1], "no prompt twice");
    assert_eq!(woken["status"]["turns"], json!({"queued": 0, "running": 0, "done": 5}));

    // It goes, and leaves nothing behind.
    let sprite = talk.server.get(&format!("sprites/{sprite}")).await;
    let uid = sprite["metadata"]["uid"].as_str().expect("a uid").to_owned();
    assert!(!Live::marked_processes(&uid).is_empty(), "its processes bear its id");
    talk.server.delete("agents/ann").await;
    talk.dies().await;
    let gone = |answer: &Value| answer["code"] == 404;
    talk.server.wait_for("agents/ann", "gone", gone).await;
    assert_eq!(talk.server.reporters(), Vec::<u32>::new());
    assert_eq!(Live::marked_processes(&uid), []);
    println!("the server was killed {} times", talk.kills);
}

/// The search path with a program's directory in front.
fn path_with(program: &Path) -> String {
    let beside = program.parent().expect("a directory").display();
    format!("{beside}:{}", std::env::var("PATH").unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude_code_keeps_a_conversation_through_every_death_of_the_server() {
    let Some(binary) = claude_binary::binary() else { return };
    let model = FakeModel::start().await;
    let cli = Cli {
        agent: json!({"claude": {}}),
        env: vec![
            ("PATH", path_with(&binary)),
            ("ANTHROPIC_BASE_URL", model.url().to_owned()),
            ("ANTHROPIC_API_KEY", "test-key".to_owned()),
        ],
        home: Vec::new(),
    };
    script(cli, model).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opencode_keeps_a_conversation_through_every_death_of_the_server() {
    let Some(binary) = opencode_binary::binary() else { return };
    let model = FakeModel::start().await;
    let mut env = opencode_binary::environment(model.url());
    env.push(("PATH", path_with(&binary)));
    script(Cli { agent: json!({"opencode": {}}), env, home: Vec::new() }, model).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex_keeps_a_conversation_through_every_death_of_the_server() {
    let Some(program) = acp_binary::codex_program() else { return };
    let model = FakeModel::start().await;
    let cli = Cli {
        agent: json!({"codex": {}}),
        env: vec![("PATH", path_with(&program)), ("OPENAI_API_KEY", "test-key".to_owned())],
        home: vec![(".codex/config.toml", acp_binary::codex_config(model.url()))],
    };
    script(cli, model).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_keeps_a_conversation_through_every_death_of_the_server() {
    let Some(command) = acp_binary::gemini_command() else { return };
    let model = FakeModel::start().await;
    let cli = Cli {
        agent: json!({"acp": {"command": command}}),
        env: vec![
            ("GEMINI_API_KEY", "test-key".to_owned()),
            ("GOOGLE_GEMINI_BASE_URL", model.url().to_owned()),
            ("GEMINI_CLI_NO_RELAUNCH", "true".to_owned()),
        ],
        home: vec![(".gemini/settings.json", acp_binary::gemini_settings().to_string())],
    };
    script(cli, model).await;
}
