//! Machines that are processes: by the real clock, with a script for a reporter. Rules 7, 14 and
//! 20, and what becomes of them when the fake is killed.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use open_dispatch::{
    ambient::{Clock as _, SystemClock},
    dev_fly::{DevFly, DevFlyConfig, Exit, Guest},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::desk::{client, wish};

struct Place {
    fly: DevFly,
    dir: TempDir,
    http: reqwest::Client,
}

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("reporter");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

impl Place {
    async fn with(text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let reporter = script(dir.path(), text);
        let config = DevFlyConfig::new(dir.path().join("fly"), Guest::Processes { reporter });
        let fly = DevFly::start(config).await.unwrap();
        Self { fly, dir, http: client() }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let url = self.fly.url().join("/v1/apps/sprites/").unwrap().join(path).unwrap();
        let request = self.http.request(method.parse().unwrap(), url).bearer_auth("fm2_dev_fly");
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn create(&self, name: &str, more: Value) -> String {
        let made = self.call("POST", "machines", wish(name, more)).await;
        made["id"].as_str().unwrap().to_owned()
    }

    async fn reach(&self, id: &str, state: &str) {
        let there = self.fly.until(|machines| {
            let found = machines.iter().find(|machine| machine.id == id);
            found.map_or(state == "destroyed", |machine| machine.state == state)
        });
        tokio::time::timeout(Duration::from_secs(60), there).await.unwrap();
    }

    fn root(&self, id: &str) -> PathBuf {
        self.dir.path().join("fly/machines").join(id).join("root")
    }
}

/// Waits for what comes soon, or never.
async fn soon(mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came");
}

/// Whether a process lives: a zombie does not.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn pids(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_exits_stops_its_machine_with_its_code() {
    let place = Place::with("exit $CODE").await;
    for code in [0, 3] {
        let config = json!({"env": {"CODE": code.to_string()}});
        let id = place.create(&format!("m{code}"), config).await;
        place.reach(&id, "stopped").await;
        let exit = place.fly.boots().into_iter().find(|boot| boot.machine == id).unwrap().exit;
        assert_eq!(exit, Some(Exit::code(code)));
    }
    place.fly.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_destroyed_when_it_exits_and_its_directory_goes() {
    let place = Place::with("exit 3").await;
    let id = place.create("job", json!({"auto_destroy": true})).await;
    place.reach(&id, "destroyed").await;
    let root = place.root(&id);
    soon(|| !root.parent().unwrap().exists()).await;
    place.fly.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_a_signal_that_the_first_process_may_answer() {
    let text =
        "trap 'echo drained >drained; exit 0' TERM\necho $$ >up\nwhile :; do sleep 0.05; done";
    let place = Place::with(text).await;
    let config = json!({"stop_config": {"signal": "SIGTERM", "timeout": "30s"}});
    let id = place.create("a", config).await;
    let root = place.root(&id);
    soon(|| root.join("up").exists()).await;
    place.call("POST", &format!("machines/{id}/stop"), json!({})).await;
    place.reach(&id, "stopped").await;
    assert_eq!(fs::read_to_string(root.join("drained")).unwrap(), "drained\n");
    assert_eq!(place.fly.boots()[0].exit, Some(Exit::code(0)));
    place.fly.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ignores_the_signal_is_killed_with_all_that_descends_from_it() {
    // A child of its own session, whose parent is gone: neither group nor parent leads to it.
    let text = "trap '' INT TERM\n(setsid sh -c 'trap \"\" INT TERM; echo $$ >>pids; \
                while :; do sleep 0.05; done' &)\necho $$ >>pids\nwhile :; do sleep 0.05; done";
    let place = Place::with(text).await;
    let id = place.create("a", json!({})).await;
    let noted = place.root(&id).join("pids");
    soon(|| pids(&noted).len() == 2).await;
    let all = pids(&noted);
    assert!(all.iter().all(|pid| lives(pid)));
    let stop = json!({"signal": "SIGINT", "timeout": "1s"});
    place.call("POST", &format!("machines/{id}/stop"), stop).await;
    place.reach(&id, "stopped").await;
    assert!(!all.iter().any(|pid| lives(pid)), "{all:?}");
    assert_eq!(place.fly.boots()[0].exit, Some(Exit::signal(9)));
    place.fly.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_process_leaves_behind_dies_with_the_machine() {
    let place = Place::with("(setsid sleep 600 & echo $! >pid)\nexit 0").await;
    let id = place.create("a", json!({})).await;
    place.reach(&id, "stopped").await;
    let left = pids(&place.root(&id).join("pid"));
    assert_eq!(left.len(), 1);
    assert!(!lives(&left[0]));
    place.fly.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_keeps_what_was_written_and_the_root_does_not() {
    let text = "echo $(ls) $(cat data/kept) >>data/seen\necho here >data/kept\necho here >gone";
    let place = Place::with(text).await;
    let wish = json!({"name": "home", "region": "iad"});
    let volume = place.call("POST", "volumes", wish).await["id"].as_str().unwrap().to_owned();
    let config = json!({"mounts": [{"volume": volume, "path": "/data"}]});
    let id = place.create("a", config.clone()).await;
    place.reach(&id, "stopped").await;
    place.reach(&id, "stopped").await;
    SystemClock.sleep(Duration::from_millis(100)).await;
    place.call("POST", &format!("machines/{id}/start"), json!({})).await;
    place.fly.until(|machines| machines[0].boots == 2 && machines[0].state == "stopped").await;
    let seen = place.dir.path().join("fly/volumes").join(&volume).join("seen");
    assert_eq!(fs::read_to_string(&seen).unwrap(), "data tmp\ndata tmp here\n");
    place.call("DELETE", &format!("machines/{id}?force=true"), Value::Null).await;
    place.reach(&id, "destroyed").await;
    place.call("GET", &format!("volumes/{volume}"), Value::Null).await;
    assert!(seen.exists(), "a volume outlives its machine");
    place.fly.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_commands_of_the_config_reach_the_machine() {
    let place = Place::with("exit 9").await;
    let config = json!({
        "init": {"exec": ["/bin/sh", "-c", "cat etc/word >word; exit 4"]},
        "files": [{"guest_path": "/etc/word", "raw_value": "aGVsbG8="}],
    });
    let id = place.create("a", config).await;
    place.reach(&id, "stopped").await;
    assert_eq!(fs::read_to_string(place.root(&id).join("word")).unwrap(), "hello");
    assert_eq!(place.fly.boots()[0].exit, Some(Exit::code(4)));
    let id = place.create("b", json!({"init": {"exec": ["/no/such/program"]}})).await;
    place.reach(&id, "stopped").await;
    assert_eq!(place.fly.boots()[1].exit, Some(Exit::code(127)));
    place.fly.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_answered_with_200_whatever_its_code_and_with_408_when_it_is_long() {
    let place = Place::with("while :; do sleep 0.05; done").await;
    let id = place.create("a", json!({})).await;
    place.fly.until(|machines| machines[0].is_running).await;
    let path = format!("machines/{id}/exec");
    let command = json!({"command": ["sh", "-c", "cat; echo $FLY_MACHINE_ID >&2; exit 7"],
        "stdin": "in"});
    let done = place.call("POST", &path, command).await;
    let wanted = json!({"exit_code": 7, "exit_signal": 0, "stdout": "in",
        "stderr": format!("{id}\n")});
    assert_eq!(done, wanted);
    place.fly.faults().habits(|habits| habits.exec_limit = Duration::from_millis(200));
    let url = place.fly.url().join(&format!("/v1/apps/sprites/{path}")).unwrap();
    let request = place.http.post(url).bearer_auth("fm2_dev_fly");
    let late = request.json(&json!({"command": ["sleep", "60"]})).send().await.unwrap();
    assert_eq!(late.status(), 408);
    place.fly.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ending_the_fake_ends_its_machines() {
    let place = Place::with("echo $$ >pid\nwhile :; do sleep 0.05; done").await;
    let id = place.create("a", json!({})).await;
    let noted = place.root(&id).join("pid");
    soon(|| pids(&noted).len() == 1).await;
    let pid = pids(&noted).remove(0);
    place.fly.shutdown().await;
    assert!(!lives(&pid));
}

/// The command, with its own program as the reporter; it is killed, and nothing lives on.
#[tokio::test(flavor = "multi_thread")]
async fn no_machine_outlives_a_fake_that_is_killed_and_the_next_one_says_what_it_found() {
    let dir = TempDir::new().unwrap();
    let start = |extra: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_open-dispatch"))
            .args(["dev-fly", "--listen", "127.0.0.1:0", "--boot-time", "10ms"])
            .args(["--list-lag", "0s", "--dir"])
            .arg(dir.path())
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut fake = start(&[]);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(fake.stdout.take().unwrap()));
    let (mut base, mut token) = (None, None);
    while base.is_none() {
        let line = lines.next().unwrap().unwrap();
        let said = line.strip_prefix("export FLY_API_TOKEN='FlyV1 ");
        token = said.and_then(|said| said.strip_suffix('\'')).map(str::to_owned).or(token);
        base = line.strip_prefix("export FLY_FLAPS_BASE_URL=").map(str::to_owned);
    }
    let noted = dir.path().join("pids");
    let text = format!(
        "(setsid sh -c 'echo $$ >>{0}; while :; do sleep 0.05; done' &)\necho $$ >>{0}\n\
         while :; do sleep 0.05; done",
        noted.display()
    );
    let body = wish("a", json!({"init": {"exec": ["/bin/sh", "-c", text]}}));
    let http = client();
    let url = format!("{}/v1/apps/sprites/machines", base.unwrap());
    // The token of tests opens nothing that people start.
    let stranger = http.post(&url).bearer_auth("fm2_dev_fly").json(&body).send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    let made = http.post(&url).bearer_auth(token.unwrap()).json(&body).send().await.unwrap();
    assert_eq!(made.status(), 200);
    soon(|| pids(&noted).len() == 2).await;
    let all = pids(&noted);
    assert!(all.iter().all(|pid| lives(pid)));
    fake.kill().unwrap();
    fake.wait().unwrap();
    soon(|| !all.iter().any(|pid| lives(pid))).await;
    let mut next = start(&[]);
    let mut told = String::new();
    let mut errors = std::io::BufReader::new(next.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut errors, &mut told).unwrap();
    assert!(told.starts_with("from a dev-fly before this one: 1 machine removed"), "{told}");
    let pid = rustix::process::Pid::from_child(&next);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(next.wait().unwrap().code(), Some(0));
}
