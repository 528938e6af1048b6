//! A run of a driver with a real CLI, which a test can watch.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use sprite_reporter::{
    driver::{self, DriverOrder, Said, Seat, TASK_TURN, Voice},
    process::Tree,
    wire::{
        AgentSpec, EnvVar, EventBody, Exit, JOB_ID_VARIABLE, PermissionMode, Permissions, RunSpec,
        TurnOutcome, Usage,
    },
};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// How long anything may take before the test is given up. Nothing waits for so long unless it
/// is broken.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a run needs: a home and a work directory of its own.
pub struct Desk {
    dir: TempDir,
    /// What is run. Tests change it before they start.
    pub spec: RunSpec,
}

impl Desk {
    /// A desk with an empty home, at which this agent works. Its environment has just what
    /// every program needs; the rest is [`Desk::set`].
    pub fn new(agent: AgentSpec) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["home", "work", "tmp"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let spec = RunSpec {
            // No other desk has it, so that its processes are known by it.
            job_id: at("sprite"),
            run: 1,
            installation: "test".to_owned(),
            server: None,
            endpoint_file: None,
            agent,
            task: None,
            workdir: at("work"),
            repo: None,
            permissions: Permissions::default(),
            env: Vec::new(),
            timeout_ms: None,
            idle_timeout_ms: None,
            session: None,
            hide: Vec::new(),
            worktree: None,
            sandbox: None,
            attachments: None,
            artifacts: None,
        };
        let env = [
            ("HOME", at("home")),
            ("TMPDIR", at("tmp")),
            ("PATH", std::env::var("PATH").expect("PATH")),
            (JOB_ID_VARIABLE, spec.job_id.clone()),
        ];
        let mut desk = Self { dir, spec };
        for (name, value) in env {
            desk.set(name, &value);
        }
        desk
    }

    /// Sets a variable of the agent's environment.
    pub fn set(&mut self, name: &str, value: &str) {
        self.spec.env.retain(|variable| variable.name != name);
        let value = value.to_owned();
        self.spec.env.push(EnvVar { name: name.to_owned(), value, secret: false });
    }

    /// Sets the permission mode.
    pub fn mode(&mut self, mode: PermissionMode) {
        self.spec.permissions.mode = mode;
    }

    /// The path of a file in the work directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// A command that says that it runs, in a file, and then runs for a minute.
    pub fn long_command(&self) -> String {
        let started = self.file("started");
        format!(
            "python3 -c 'import time; open(\"{}\", \"w\").close(); time.sleep(60)'",
            started.display()
        )
    }

    /// Waits until the long command runs.
    pub async fn long_command_runs(&self) {
        self.comes_true("the long command runs", |desk| desk.file("started").exists()).await;
    }

    /// Processes other than the CLI itself whose command line names something in the work
    /// directory: the tools that run.
    pub fn tools(&self) -> usize {
        let work = format!("{}/", self.dir.path().join("work").display());
        let cli = self.pids();
        self.tree()
            .into_iter()
            .filter(|pid| !cli.contains(pid))
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(&work)
            })
            .count()
    }

    /// Every process that the desk has started and that lives.
    pub fn tree(&self) -> Vec<u32> {
        let tree = Tree::left_behind(&self.spec.job_id, None);
        let lives = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z') && !rest.is_empty())
        };
        tree.members().expect("the processes").into_iter().filter(lives).collect()
    }

    /// Kills every process that the desk has started, until none is left.
    pub async fn kill_tree(&self) {
        let tree = Tree::left_behind(&self.spec.job_id, None);
        let killed = timeout(PATIENCE, tree.kill(|_| {})).await;
        killed.expect("the tree dies").expect("the processes");
    }

    /// Waits until `holds`.
    pub async fn comes_true(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let holding = async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while !holds(self) {
                tick.tick().await;
            }
        };
        let waited = timeout(PATIENCE, holding).await;
        assert!(waited.is_ok(), "waited too long until {what}; processes: {:?}", self.tree());
    }

    /// Starts the driver.
    pub fn start(&self) -> Run {
        let (orders, inbox) = mpsc::channel(16);
        let (voice, said) = mpsc::channel(16);
        let spec = Arc::new(self.spec.clone());
        let seat = Seat { spec, orders: inbox, voice: Voice::new(voice) };
        let driver = tokio::spawn(driver::drive(seat));
        Run { orders, said, driver, heard: Vec::new() }
    }

    /// Starts the driver as a job with this task.
    pub async fn job(&mut self, task: &str) -> Run {
        self.spec.task = Some(task.to_owned());
        let run = self.start();
        run.prompt(TASK_TURN, task).await;
        run
    }

    /// The CLI processes of this desk that are children of the test.
    pub fn pids(&self) -> Vec<u32> {
        let mark = format!("{JOB_ID_VARIABLE}={}", self.spec.job_id);
        let own = std::process::id();
        let entries = std::fs::read_dir("/proc").expect("/proc");
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}"));
                let environ = read("environ").unwrap_or_default();
                let stat = String::from_utf8(read("stat").unwrap_or_default()).unwrap_or_default();
                let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
                parent == Some(&own.to_string())
                    && environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
            })
            .collect()
    }
}

/// A driver that runs.
pub struct Run {
    orders: mpsc::Sender<DriverOrder>,
    said: mpsc::Receiver<Said>,
    driver: JoinHandle<Exit>,
    heard: Vec<Said>,
}

/// A turn that has ended.
#[derive(Debug)]
pub struct Turn {
    /// How it ended.
    pub outcome: TurnOutcome,
    /// Why, if it failed.
    pub message: String,
    /// All that the agent said in it.
    pub text: String,
    /// What it used.
    pub usage: Usage,
}

impl Run {
    /// Gives an order.
    pub async fn order(&self, order: DriverOrder) {
        self.orders.send(order).await.expect("the driver listens");
    }

    /// Prompts.
    pub async fn prompt(&self, turn: &str, text: &str) {
        let (turn, text) = (turn.to_owned(), text.to_owned());
        self.order(DriverOrder::Prompt { turn, text, files: Vec::new() }).await;
    }

    /// Answers an approval, without words where `message` is empty.
    pub async fn answer(&self, request: String, allow: bool, message: &str) {
        let (message, answers) = (message.to_owned(), BTreeMap::new());
        self.order(DriverOrder::Answer { request, allow, message, answers }).await;
    }

    /// Waits for the next approval; returns its request and its title.
    pub async fn approval(&mut self) -> (String, String) {
        self.event("an approval", |event| match event {
            EventBody::Approval { request, title, .. } => Some((request.clone(), title.clone())),
            _ => None,
        })
        .await
    }

    /// Waits for the next session, and returns its id.
    pub async fn session(&mut self) -> String {
        self.event("a session", |event| match event {
            EventBody::Session { id } => Some(id.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until something is said of which `wanted` makes a value.
    pub async fn until<T>(&mut self, what: &str, wanted: impl Fn(&Said) -> Option<T>) -> T {
        let next = async {
            while let Some(said) = self.said.recv().await {
                let found = wanted(&said);
                self.heard.push(said);
                if found.is_some() {
                    return found;
                }
            }
            None
        };
        match timeout(PATIENCE, next).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("the driver ended before {what}: {:#?}", self.heard),
            Err(_) => panic!("waited too long for {what}: {:#?}", self.heard),
        }
    }

    /// Waits for an event of which `wanted` makes a value.
    pub async fn event<T>(&mut self, what: &str, wanted: impl Fn(&EventBody) -> Option<T>) -> T {
        self.until(what, |said| match said {
            Said::Event(event) => wanted(event),
            _ => None,
        })
        .await
    }

    /// Waits for the end of the turn.
    pub async fn ended(&mut self, turn: &str) -> Turn {
        let (outcome, message, usage) = self
            .event(&format!("the end of the turn {turn}"), |event| match event {
                EventBody::TurnEnded { turn: id, outcome, message, usage } if id == turn => {
                    Some((*outcome, message.clone().unwrap_or_default(), *usage))
                }
                _ => None,
            })
            .await;
        Turn { outcome, message, text: self.text(turn), usage }
    }

    /// Prompts, and waits for the end of the turn.
    pub async fn turn(&mut self, turn: &str, text: &str) -> Turn {
        self.prompt(turn, text).await;
        self.ended(turn).await
    }

    /// All that the agent has said in a turn.
    pub fn text(&self, turn: &str) -> String {
        let bytes = self
            .heard
            .iter()
            .filter_map(|said| match said {
                Said::Text(id, bytes) if id == turn => Some(bytes.as_slice()),
                _ => None,
            })
            .collect::<Vec<_>>()
            .concat();
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// How the turn ended, each time that it was said.
    pub fn ends(&self, turn: &str) -> Vec<TurnOutcome> {
        self.events()
            .into_iter()
            .filter_map(|event| match event {
                EventBody::TurnEnded { turn: id, outcome, .. } if id == turn => Some(*outcome),
                _ => None,
            })
            .collect()
    }

    /// All that has been heard.
    pub fn heard(&self) -> &[Said] {
        &self.heard
    }

    /// All events that have been heard.
    pub fn events(&self) -> Vec<&EventBody> {
        self.heard
            .iter()
            .filter_map(|said| match said {
                Said::Event(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    /// Waits for the driver's end, and hears the rest.
    pub async fn exit(&mut self) -> Exit {
        let rest = async {
            while let Some(said) = self.said.recv().await {
                self.heard.push(said);
            }
        };
        assert!(timeout(PATIENCE, rest).await.is_ok(), "the driver goes on: {:#?}", self.heard);
        (&mut self.driver).await.expect("the driver does not panic")
    }

    /// Ends the run, and waits for it.
    pub async fn stop(&mut self) -> Exit {
        self.order(DriverOrder::Stop).await;
        self.exit().await
    }
}
