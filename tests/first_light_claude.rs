//! First light: a real server gives a Job to real Claude Code, is killed in the middle, comes
//! back, and nothing is lost.

#[path = "support/claude_binary.rs"]
mod claude_binary;
#[path = "support/fake_model/mod.rs"]
mod fake_model;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use fake_model::FakeModel;
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How long anything may take before the test is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A place with a server's data, a home for the agent, and a repository to clone.
struct Place {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Place {
    fn new(claude: &Path, model: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["home", "tmp", "origin"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let beside = claude.parent().expect("a directory").to_string_lossy().into_owned();
        let path = format!("{beside}:{}", std::env::var("PATH").expect("PATH"));
        let env = [
            ("HOME", at("home")),
            ("OPEN_DISPATCH_ROOTS", "/".to_owned()),
            ("TMPDIR", at("tmp")),
            ("PATH", path),
            ("ANTHROPIC_BASE_URL", model.to_owned()),
            ("ANTHROPIC_API_KEY", "test-key-of-first-light".to_owned()),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { dir, env }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(self.env.iter().cloned()).stdin(Stdio::null());
        command.kill_on_drop(true);
        command
    }

    /// Runs a command to its end. Returns its exit code and what it printed.
    async fn run(&self, program: &str, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(program, args).output();
        let output = timeout(PATIENCE, output).await.expect("in time").expect("it starts");
        let stdout = String::from_utf8(output.stdout).expect("UTF-8");
        if !output.status.success() {
            eprintln!("{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        (output.status.code(), stdout)
    }

    async fn git(&self, args: &[&str]) -> String {
        let origin = self.at("origin");
        let origin = origin.to_str().expect("UTF-8");
        let who = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
        let args = [&["-C", origin], &who[..], args].concat();
        let (code, printed) = self.run("git", &args).await;
        assert_eq!(code, Some(0), "git {args:?}: {printed}");
        printed
    }

    /// Runs one of our commands against the server.
    async fn dispatch(&self, args: &[&str]) -> (Option<i32>, String) {
        let data = self.at("data");
        let args = [args, &["--data", data.to_str().expect("UTF-8")]].concat();
        self.run(env!("CARGO_BIN_EXE_open-dispatch"), &args).await
    }

    /// Starts a server, and waits until it answers.
    async fn serve(&self) -> Child {
        let data = self.at("data");
        let log = std::fs::File::options().create(true).append(true).open(self.at("server.log"));
        let data = data.to_str().expect("UTF-8");
        let args = [
            "serve",
            "--data",
            data,
            "--listen",
            "127.0.0.1:0",
            "--chat",
            "none",
            "--specs",
            "none",
        ];
        let server = self
            .command(env!("CARGO_BIN_EXE_open-dispatch"), &args)
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn()
            .expect("the server starts");
        let answers = async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tick.tick().await;
                if self.dispatch(&["jobs", "-o", "json"]).await.0 == Some(0) {
                    return;
                }
            }
        };
        let in_time = timeout(PATIENCE, answers).await;
        assert!(in_time.is_ok(), "the server does not answer: {}", self.log());
        server
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.at("server.log")).unwrap_or_default()
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let waiting = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while !holds() {
                tick.tick().await;
            }
        };
        let in_time = timeout(PATIENCE, waiting).await;
        assert!(in_time.is_ok(), "waited too long until {what}: {}", self.log());
    }

    /// The processes that live in the agent's home, and are no server.
    fn sprites(&self, server: &Child) -> Vec<u32> {
        let home = format!("HOME={}", self.at("home").display());
        let entries = std::fs::read_dir("/proc").expect("/proc");
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| Some(*pid) != server.id())
            .filter(|pid: &u32| {
                let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ.split(|byte| *byte == 0).any(|entry| entry == home.as_bytes())
            })
            .collect()
    }
}

/// What Claude Code is to do: wait for a sign, edit the file, commit and push.
fn task(started: &Path, go: &Path) -> String {
    let wait = format!(
        "python3 -c 'import os, time\nopen(\"{}\", \"w\").close()\n\
         while not os.path.exists(\"{}\"): time.sleep(0.05)'",
        started.display(),
        go.display()
    );
    let push = "git -c user.name=agent -c user.email=agent@localhost commit -qam lit && \
                git push -q origin HEAD:lit";
    let bash = |command: &str| json!({"command": command, "description": "a scripted command"});
    let edit = json!({"file_path": "light.txt", "old_string": "off", "new_string": "on"});
    format!(
        "It's dark. [[tool:Bash|{}]] [[tool:Read|{}]] [[tool:Edit|{edit}]] [[tool:Bash|{}]] Lit.",
        bash(&wait),
        json!({"file_path": "light.txt"}),
        bash(push),
    )
}

#[tokio::test]
async fn claude_code_edits_a_cloned_repo_while_the_server_is_killed_and_comes_back() {
    let Some(claude) = claude_binary::binary() else { return };
    let model = FakeModel::start().await;
    let place = Place::new(&claude, model.url());
    place.git(&["init", "-q", "-b", "main"]).await;
    std::fs::write(place.at("origin/light.txt"), "off\n").unwrap();
    place.git(&["add", "."]).await;
    place.git(&["commit", "-qm", "dark"]).await;

    let mut server = place.serve().await;
    let (started, go) = (place.at("started"), place.at("go"));
    let repo = format!("file://{}", place.at("origin").display());
    let task = task(&started, &go);
    let run = ["run", &task, "--agent", "claude", "--repo", &repo, "--name", "light"];
    let (code, printed) = place.dispatch(&run).await;
    assert_eq!((code, printed.as_str()), (Some(0), "job.opendispatch.dev/light created\n"));
    place.until("the agent works", || started.exists()).await;

    server.kill().await.expect("kill -9");
    assert!(!place.sprites(&server).is_empty(), "the agent outlives the server");
    std::fs::write(&go, "").unwrap();
    // The agent goes on and says the rest while nobody listens; the server finds it afterwards.
    let server = place.serve().await;

    let (_, printed) = place.dispatch(&["logs", "-f", "job/light"]).await;
    assert_eq!(printed, "echo: It's dark.\n\necho: Lit.\n", "{}", place.log());
    let (_, job) = place.dispatch(&["get", "job", "light", "-o", "json"]).await;
    let job: Value = serde_json::from_str(&job).expect("JSON");
    assert_eq!(job["status"]["exitCode"], 0, "{job:#}");
    assert_eq!(job["status"]["attempts"], 1, "{job:#}");
    assert_eq!(place.git(&["show", "lit:light.txt"]).await, "on\n");
    let prompts: Vec<_> = model.requests().into_iter().map(|seen| seen.prompt).collect();
    assert_eq!(prompts.len(), 5, "one request for each step, none twice: {prompts:#?}");
    assert!(prompts.iter().all(|prompt| *prompt == task), "the task, byte for byte");
    assert!(model.requests().iter().all(|seen| seen.key == "test-key-of-first-light"));
    place.until("nothing is left of the sprite", || place.sprites(&server).is_empty()).await;
}

/// What Claude Code is to do: run a command, for which it must ask.
fn careful_task(file: &Path) -> String {
    let input = json!({"command": format!("touch {}", file.display()), "description": "touch"});
    format!("[[tool:Bash|{input}]] Done.")
}

impl Place {
    /// Runs a Job that may do nothing unasked, and waits until it asks.
    async fn ask(&self, name: &str, task: &str) {
        let run = ["run", task, "--agent", "claude", "--permissions", "ask", "--name", name];
        let (code, _) = self.dispatch(&run).await;
        assert_eq!(code, Some(0));
        self.waits(name).await;
    }

    /// Waits until the Job says that it waits for an answer.
    async fn waits(&self, name: &str) {
        let asks = async {
            let mut tick = tokio::time::interval(Duration::from_millis(100));
            loop {
                tick.tick().await;
                let (_, job) = self.dispatch(&["get", "job", name, "-o", "json"]).await;
                let job: Value = serde_json::from_str(&job).unwrap_or_default();
                let conditions = job["status"]["conditions"].as_array().cloned();
                let waits = |condition: &Value| condition["type"] == "WaitingForApproval";
                if conditions.unwrap_or_default().iter().any(waits) {
                    return;
                }
            }
        };
        let in_time = timeout(PATIENCE, asks).await;
        assert!(in_time.is_ok(), "{name} does not ask: {}", self.log());
    }
}

#[tokio::test]
async fn claude_code_waits_for_a_yes_over_a_restart_and_then_uses_the_tool() {
    let Some(claude) = claude_binary::binary() else { return };
    let model = FakeModel::start().await;
    let place = Place::new(&claude, model.url());
    let mut server = place.serve().await;
    let touched = place.at("touched");
    place.ask("careful", &careful_task(&touched)).await;

    server.kill().await.expect("kill -9");
    assert!(!touched.exists(), "it waits");
    let server = place.serve().await;
    place.waits("careful").await;
    let (code, printed) = place.dispatch(&["approve", "careful"]).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.starts_with("job.opendispatch.dev/careful allowed: Bash: touch"), "{printed}");

    let (code, _) = place.dispatch(&["logs", "-f", "job/careful"]).await;
    assert_eq!(code, Some(0));
    assert!(touched.exists(), "the tool ran: {}", place.log());
    let (code, _) = place.dispatch(&["approve", "careful"]).await;
    assert_eq!(code, Some(1), "nothing waits any more");
    place.until("nothing is left of the sprite", || place.sprites(&server).is_empty()).await;
}

#[tokio::test]
async fn claude_code_that_is_told_no_goes_on_without_the_tool() {
    let Some(claude) = claude_binary::binary() else { return };
    let model = FakeModel::start().await;
    let place = Place::new(&claude, model.url());
    let server = place.serve().await;
    let touched = place.at("touched");
    place.ask("careful", &careful_task(&touched)).await;

    let (code, printed) = place.dispatch(&["approve", "careful", "--deny"]).await;
    assert_eq!(code, Some(0), "{printed}");
    let (_, printed) = place.dispatch(&["logs", "-f", "job/careful"]).await;
    assert!(printed.contains("Done."), "{printed}");
    let (_, job) = place.dispatch(&["get", "job", "careful", "-o", "json"]).await;
    let job: Value = serde_json::from_str(&job).expect("JSON");
    assert_eq!(job["status"]["exitCode"], 0, "{job:#}");
    assert!(!touched.exists(), "the tool did not run");
    place.until("nothing is left of the sprite", || place.sprites(&server).is_empty()).await;
}
