//! A restart of the service, and an upgrade of the binary, are not noticed by a running agent.
//!
//! The unit is the one that `service install` writes; where no systemd runs, a script does with it
//! what systemd does (`tests/support/like-systemd`).
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod live;

use live::{Live, PATIENCE, lines};
use serde_json::json;

/// A service that is kept up from its unit file.
struct Service {
    keeper: Child,
    pid_file: PathBuf,
    live: Live,
}

impl Service {
    async fn start(stage: &Path, program: &Path) -> Self {
        let data = stage.join("data");
        fs::DirBuilder::new().mode(0o700).create(&data).expect("a data directory");
        fs::write(data.join(".env"), "OPEN_DISPATCH_LISTEN=127.0.0.1:0\n").expect("a .env file");
        let printed = Command::new(program)
            .args(["service", "install", "--print", "--data"])
            .arg(&data)
            .env("HOME", stage)
            .output()
            .expect("the program starts");
        assert!(printed.status.success());
        let unit = stage.join("open-dispatch.service");
        fs::write(&unit, printed.stdout).expect("a unit file");
        let pid_file = stage.join("main.pid");
        let log = fs::File::create(data.with_extension("log")).expect("a log file");
        let keeper =
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/like-systemd"))
                .arg(&unit)
                .arg(&pid_file)
                .env("HOME", stage)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("the keeper starts");
        let live = Live::attach(&data);
        let service = Self { keeper, pid_file, live };
        service.ready_but(0).await;
        service
    }

    fn main_pid(&self) -> u32 {
        fs::read_to_string(&self.pid_file).ok().and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
    }

    /// Waits until a server is ready that is not this one.
    async fn ready_but(&self, old: u32) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pid = self.main_pid();
            if pid != 0 && pid != old && self.live.is_ready().await {
                return;
            }
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "the service is not ready; its log:\n{}", self.live.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `systemctl restart`.
    async fn restart(&self) {
        let old = self.main_pid();
        signal(self.keeper.id(), "HUP");
        self.ready_but(old).await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        signal(self.keeper.id(), "TERM");
        let _ = self.keeper.wait();
    }
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

/// Another build of the program, as a package manager puts it there: beside, then renamed.
fn install(to: &Path, tail: &str) {
    let half = to.with_extension("new");
    fs::copy(env!("CARGO_BIN_EXE_open-dispatch"), &half).expect("a copy of the program");
    // Bytes behind the end change the file and not what it does.
    let mut file = fs::OpenOptions::new().append(true).open(&half).expect("the copy");
    file.write_all(tail.as_bytes()).expect("more bytes");
    drop(file);
    fs::set_permissions(&half, fs::Permissions::from_mode(0o755)).expect("a program");
    fs::rename(&half, to).expect("the program's place");
}

/// An agent that notes who it is, every signal that it gets, and its steps until it is let go.
fn task(stage: &Path) -> String {
    format!(
        "for s in HUP INT TERM; do trap \"echo got $s >> {0}/signals\" $s; done; \
         echo $$ >> {0}/started; \
         i=0; while [ ! -e {0}/go ]; do i=$((i+1)); echo step $i; sleep 0.05; done; \
         echo \"last $i\"",
        stage.display()
    )
}

/// Waits until the agent's file has so many lines.
async fn lines_of(path: &Path, count: usize) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = lines(path);
        if found.len() >= count {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} stays short", path.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_and_an_upgrade_are_not_noticed_by_a_running_agent() {
    let stage = tempfile::tempdir().expect("a temporary directory");
    let stage = stage.path();
    let program = stage.join("open-dispatch");
    install(&program, "one");
    let service = Service::start(stage, &program).await;
    let spec = json!({
        "task": task(stage),
        "agent": {"command": {}},
        "runtime": {"local": {"workdir": stage}},
    });
    service.live.create_job("request", "job", spec).await;
    let agent = lines_of(&stage.join("started"), 1).await;
    let reporters = service.live.reporters();
    assert_eq!(reporters.len(), 1);

    service.restart().await;
    install(&program, "two");
    service.restart().await;
    install(&program, "three");
    service.restart().await;
    // The agent's own parent is still the program that started it.
    assert_eq!(service.live.reporters(), reporters);
    let exe = fs::read_link(format!("/proc/{}/exe", reporters[0])).expect("the reporter's program");
    assert!(exe.to_string_lossy().ends_with("(deleted)"), "{}", exe.display());
    fs::write(stage.join("go"), "").expect("the sign to go on");

    let job = service
        .live
        .wait_for("jobs/job", "an end", |job| job["status"]["phase"] == "Succeeded")
        .await;
    assert_eq!(job["status"]["attempts"], 1);
    assert_eq!(lines(&stage.join("started")), agent);
    assert_eq!(lines(&stage.join("signals")), Vec::<String>::new());
    let printed = service.live.bytes("jobs/job/log").await;
    let printed = String::from_utf8(printed).expect("text");
    let mut printed: Vec<&str> = printed.lines().collect();
    let last = printed.pop().expect("a last line");
    let steps: Vec<String> = (1..=printed.len()).map(|n| format!("step {n}")).collect();
    assert_eq!(printed, steps);
    assert_eq!(last, format!("last {}", steps.len()));
}
