//! A machine of its own: the real binary as a machine's first program, with all that it knows in
//! its environment, against a server that answers as it is told.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[expect(dead_code, reason = "the support serves more than this binary")]
mod support;

use std::{
    collections::VecDeque,
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sprite_reporter::{
    rundir::RunDir,
    wire::{Event, EventBody, ExitReason, Stream},
};
use support::HANGS;
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
};

const TOKEN: &str = "token-of-this-machine";

/// What the server was told, and what it is to answer.
#[derive(Default)]
struct Said {
    /// Each post: its endpoint and its body.
    posts: Vec<(String, Value)>,
    /// What is answered to the next claims; 200 where nothing is left.
    claims: VecDeque<(u16, Value)>,
    /// The status of the answer to the next posts of the original's contract.
    faults: VecDeque<u16>,
    /// What a claim that is given says.
    given: Value,
    held: u64,
    events: Vec<Event>,
    orders: Vec<String>,
    /// Whether events are answered with 410.
    unwanted: bool,
}

/// A server of either contract.
struct Server {
    said: Arc<Mutex<Said>>,
    changed: watch::Sender<u64>,
    url: String,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (said, changed) = (Arc::new(Mutex::new(Said::default())), watch::Sender::new(0));
        let (known, ring) = (said.clone(), changed.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (known, ring) = (known.clone(), ring.clone());
                connections.spawn(async move {
                    let service =
                        service_fn(move |request| answer(known.clone(), ring.clone(), request));
                    // A client that dies is no fault here.
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { said, changed, url, _tasks: tasks }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap()
    }

    async fn until(&self, what: &str, so: impl Fn(&Said) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !so(&self.said()) {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(HANGS, wait).await.is_err() {
            panic!("{what} did not come about: {:?}", self.said().posts);
        }
    }

    /// The bodies that an endpoint got.
    fn bodies(&self, endpoint: &str) -> Vec<Value> {
        let said = self.said();
        said.posts.iter().filter(|(to, _)| to == endpoint).map(|(_, body)| body.clone()).collect()
    }

    fn printed(&self, from: Stream) -> String {
        let said = self.said();
        let bytes = said.events.iter().filter_map(|event| match &event.body {
            EventBody::Log { stream, chunk } if *stream == from => Some(chunk.bytes()),
            _ => None,
        });
        String::from_utf8(bytes.flatten().collect()).unwrap()
    }

    /// What was made: name, address, kind.
    fn made(&self) -> Vec<(String, String, String)> {
        let said = self.said();
        let made = said.events.iter().filter_map(|event| match &event.body {
            EventBody::Artifact { name, url, kind } => {
                Some((name.clone(), url.clone(), kind.clone()))
            }
            _ => None,
        });
        made.collect()
    }

    fn exit(&self) -> Option<sprite_reporter::wire::Exit> {
        let said = self.said();
        said.events.iter().rev().find_map(|event| match &event.body {
            EventBody::Exit(exit) => Some(exit.clone()),
            _ => None,
        })
    }
}

async fn answer(
    known: Arc<Mutex<Said>>,
    ring: watch::Sender<u64>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let bearer = request.headers().get("authorization").unwrap().to_str().unwrap();
    assert_eq!(bearer, format!("Bearer {TOKEN}"));
    let path = request.uri().path().trim_start_matches("/webhooks/").to_owned();
    if path == "inbox" {
        // What is ordered by now, and a stream that ends: it is asked for again.
        let rows = known.lock().unwrap().orders.join("");
        return Ok(Response::new(Full::new(rows.into())));
    }
    let name = request.uri().query().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path == "files" {
        let text = String::from_utf8(body.to_vec()).unwrap();
        known.lock().unwrap().posts.push((path, json!({"asked": name, "text": text})));
        return Ok(Response::new(Full::new(r#"{"id":"f","url":"/files/f"}"#.into())));
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut said = known.lock().unwrap();
    said.posts.push((path.clone(), body.clone()));
    let (status, answer) = match path.as_str() {
        "claim" => said.claims.pop_front().unwrap_or_else(|| (200, said.given.clone())),
        "events" if said.unwanted => (410, json!({"error": "gone"})),
        "events" => {
            for event in body["events"].as_array().unwrap() {
                let event: Event = serde_json::from_value(event.clone()).unwrap();
                if event.seq == said.held + 1 {
                    said.held += 1;
                    said.events.push(event);
                }
            }
            let exit = matches!(said.events.last().map(|it| &it.body), Some(EventBody::Exit(_)));
            (200, json!({"held": said.held, "expected": said.held + 1, "finished": exit}))
        }
        _ => (said.faults.pop_front().unwrap_or(200), json!({"ok": true})),
    };
    drop(said);
    ring.send_modify(|count| *count += 1);
    let body = Full::new(Bytes::from(answer.to_string()));
    Ok(Response::builder().status(status).body(body).unwrap())
}

/// A machine: a directory that is its disk, and what is in its environment.
struct Machine {
    disk: tempfile::TempDir,
    job: String,
    variables: Vec<(String, String)>,
}

impl Machine {
    fn new(server: &Server) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let job = format!("machine-{}", sprite_reporter::ambient::name());
        let root = disk.path().to_str().unwrap().to_owned();
        let machine = Self { disk, job, variables: Vec::new() };
        machine
            .with("PATH", &std::env::var("PATH").unwrap())
            .with("HOME", &root)
            .with("SPRITE_ROOT", &root)
            .with("OPEN_DISPATCH_URL", &server.url)
            .with("JOB_TOKEN", TOKEN)
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// With a server that gives it this task.
    fn claiming(self, server: &Server, task: Option<&str>) -> Self {
        server.said().given = json!({"spec": {
            "jobId": self.job, "run": 1, "installation": "i", "agent": {"command": {}},
            "task": task, "workdir": "/data/work", "artifacts": "/data/artifacts",
            "server": "http://elsewhere.invalid", "endpointFile": "/nowhere",
            "env": [{"name": "FROM_SPEC", "value": "of the spec"}],
        }, "home": "/data/home"});
        self.with("OPEN_DISPATCH_CLAIM", "1").with("FLY_MACHINE_ID", "m-1")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.disk.path().join(path)
    }

    fn volume(self) -> Self {
        fs::create_dir(self.path("data")).unwrap();
        self
    }

    fn boot(&self) -> Child {
        self.boot_without("")
    }

    fn boot_without(&self, missing: &str) -> Child {
        self.command(missing).spawn().unwrap()
    }

    fn command(&self, missing: &str) -> Command {
        let id = ("JOB_ID".to_owned(), self.job.clone());
        let all = self.variables.iter().cloned().chain([id]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sprite-reporter"));
        command
            .env_clear()
            .envs(all.filter(|(name, _)| name != missing))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn live(&self) -> Ended {
        ended(self.boot()).await
    }
}

#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn ended(child: Child) -> Ended {
    let output = tokio::time::timeout(HANGS, child.wait_with_output()).await.unwrap().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_claimed_run_is_lived_below_the_machines_root_with_the_machines_environment() {
    let server = Server::start().await;
    let task = "pwd; echo $HOME $FROM_SPEC $FROM_IMAGE; echo key=$ANTHROPIC_API_KEY; \
                echo token=$JOB_TOKEN claim=$OPEN_DISPATCH_CLAIM; echo $JOB_ID; \
                echo made > $OPEN_DISPATCH_ARTIFACTS/report.txt; exit 3";
    let machine = Machine::new(&server)
        .claiming(&server, Some(task))
        .volume()
        .with("FROM_IMAGE", "of the image")
        .with("ANTHROPIC_API_KEY", "sk-ant-0123456789");
    let ended = machine.live().await;
    assert_eq!(ended.code, Some(3), "the agent's own code: {}", ended.stderr);
    let claim = &server.bodies("claim")[0];
    assert_eq!((&claim["jobId"], &claim["machine"]), (&json!(machine.job), &json!("m-1")));
    let root = machine.disk.path().canonicalize().unwrap();
    let root = root.display();
    let printed = server.printed(Stream::Stdout);
    let expected = format!(
        "{root}/data/work\n{root}/data/home of the spec of the image\nkey=***\ntoken= claim=\n{}\n",
        machine.job
    );
    assert_eq!(printed, expected);
    assert_eq!(ended.stdout, "", "what an agent says is in the server's hands alone");
    let exit = server.exit().unwrap();
    assert_eq!((exit.code, exit.reason), (Some(3), ExitReason::Failed));
    assert!(!machine.path("data/run/run").exists(), "what was told is cleared away");
    let files = server.bodies("files");
    assert_eq!(files.len(), 1);
    assert_eq!(files[0]["text"], "made\n");
    assert_eq!(server.made(), [("report.txt".into(), "/files/f".into(), "file".into())]);
}

#[tokio::test]
async fn a_machine_takes_turns_until_it_is_told_to_sleep_and_wakes_with_what_it_kept() {
    let server = Server::start().await;
    let machine = Machine::new(&server).claiming(&server, None).volume();
    let turn = |n: u32, text: &str| {
        let row = json!({"n": n, "run": n, "type": "turn", "turn": format!("t-{n}"), "text": text});
        format!("{row}\n")
    };
    let link = "https://github.com/o/r/pull/9";
    server.said().orders.push(turn(1, &format!("echo {link}; echo kept > $HOME/it")));
    let child = machine.boot();
    let ended_turns = |said: &Said, n: usize| {
        let is_end = |event: &&Event| matches!(event.body, EventBody::TurnEnded { .. });
        said.events.iter().filter(is_end).count() == n
    };
    server.until("the first turn's end", |said| ended_turns(said, 1)).await;
    assert_eq!(server.made(), [("o/r#9".into(), link.into(), "pr".into())]);
    server.said().orders.push("{\"n\":2,\"type\":\"sleep\"}\n".into());
    let asleep = ended(child).await;
    assert_eq!(asleep.code, Some(0), "{}", asleep.stderr);
    assert_eq!(server.exit().unwrap().reason, ExitReason::Asleep);

    // The same machine, with the same variables, is started again.
    {
        let mut said = server.said();
        (said.held, said.orders) = (0, vec![turn(2, "cat $HOME/it; pwd")]);
        said.events.clear();
        said.given["spec"]["run"] = json!(2);
    }
    let child = machine.boot();
    server.until("the second turn's end", |said| ended_turns(said, 1)).await;
    assert!(server.printed(Stream::Stdout).starts_with("kept\n"));
    server.said().orders.push("{\"n\":3,\"run\":2,\"type\":\"sleep\"}\n".into());
    assert_eq!(ended(child).await.code, Some(0));
    let runs: Vec<Value> = server.bodies("events").iter().map(|it| it["run"].clone()).collect();
    assert_eq!((runs.first(), runs.last()), (Some(&json!(1)), Some(&json!(2))));
    let claims = server.bodies("claim");
    assert_ne!(claims[0]["boot"], claims[1]["boot"]);
}

#[tokio::test]
async fn a_run_that_is_refused_starts_nothing_and_ends_at_once() {
    let server = Server::start().await;
    let machine = Machine::new(&server).claiming(&server, Some("echo ran"));
    server.said().claims.push_back((410, json!({"error": "another boot has this run"})));
    let ended = machine.live().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("another boot has this run"), "{}", ended.stderr);
    assert_eq!(server.bodies("events").len(), 0);
    assert!(!machine.path("data").exists(), "nothing was made");
}

#[tokio::test]
async fn a_server_that_cannot_answer_now_is_asked_again_by_the_same_boot() {
    let server = Server::start().await;
    let machine = Machine::new(&server).claiming(&server, Some("echo ran"));
    for status in [503, 500, 404, 401] {
        server.said().claims.push_back((status, json!({"error": format!("no {status}")})));
    }
    let ended = machine.live().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("waits for http://127.0.0.1"), "{}", ended.stderr);
    assert!(ended.stderr.contains("no 503"), "{}", ended.stderr);
    let claims = server.bodies("claim");
    assert_eq!(claims.len(), 5);
    assert!(claims.iter().all(|claim| claim == &claims[0]), "{claims:?}");
    assert_eq!(server.printed(Stream::Stdout), "ran\n");

    let other = Machine::new(&server).claiming(&server, Some("echo ran"));
    server.said().claims.push_back((400, json!({"error": "build the image anew"})));
    let ended = other.live().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("build the image anew"), "{}", ended.stderr);
    assert_ne!(server.bodies("claim")[5]["boot"], claims[0]["boot"], "each boot has its own name");
}

#[tokio::test]
async fn a_signal_ends_a_machine_at_any_time_and_its_agent_with_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start().await;
        let waits = Machine::new(&server).claiming(&server, Some("echo ran"));
        let none = (503, json!({"error": "not yet"}));
        server.said().claims.extend(std::iter::repeat_n(none, 1000));
        let child = waits.boot();
        server.until("a claim", |said| !said.posts.is_empty()).await;
        kill_process(pid(&child), signal).unwrap();
        let ended = ended(child).await;
        assert_eq!(ended.code, Some(128 + signal.as_raw()), "{}", ended.stderr);

        let server = Server::start().await;
        let task = "setsid sleep 600 & echo up; sleep 600";
        let lives = Machine::new(&server).claiming(&server, Some(task));
        let child = lives.boot();
        let up = |said: &Said| {
            said.events.iter().any(|event| {
                matches!(&event.body, EventBody::Log { chunk, .. } if chunk.bytes() == b"up\n")
            })
        };
        server.until("the agent", up).await;
        kill_process(pid(&child), signal).unwrap();
        let ended = self::ended(child).await;
        let exit = server.exit().unwrap();
        assert_eq!(exit.reason, ExitReason::ReporterLost, "{}", ended.stderr);
        assert!(exit.message.contains("stopped from outside"), "{}", exit.message);
        assert_ne!(ended.code, Some(0));
        let left = sprite_reporter::process::Tree::left_behind(&lives.job, None).members();
        assert_eq!(left.unwrap(), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn the_token_is_in_no_environment_of_the_machine() {
    let server = Server::start().await;
    let task = "cat /proc/$PPID/environ /proc/self/environ | tr '\\0' '\\n' | grep -c token-of-; \
                cat /proc/$PPID/cmdline | grep -c token-of-; echo looked; sleep 600";
    let machine = Machine::new(&server).claiming(&server, Some(task));
    let mut child = machine.boot();
    let looked = |said: &Said| {
        said.events.iter().any(|event| {
            matches!(&event.body, EventBody::Log { chunk, .. }
                if chunk.bytes().ends_with(b"looked\n"))
        })
    };
    server.until("a look", looked).await;
    // The tests may run as root, who sees all that there is.
    let environ = fs::read(format!("/proc/{}/environ", child.id().unwrap())).unwrap_or_default();
    let shown = String::from_utf8_lossy(&environ).into_owned();
    assert!(!shown.contains(TOKEN) && !shown.contains("JOB_ID="), "{shown}");
    assert_eq!(server.printed(Stream::Stdout), "0\n0\nlooked\n");
    let called = fs::read_to_string(format!("/proc/{}/cmdline", child.id().unwrap())).unwrap();
    assert_eq!(called, "sprite-reporter\0machine\0", "the same process, and a call that says who");
    server.said().orders.push("{\"n\":1,\"type\":\"stop\",\"reason\":\"Cancelled\"}\n".into());
    let code = tokio::time::timeout(HANGS, child.wait()).await.unwrap().unwrap().code();
    assert_ne!(code, Some(0));
}

#[tokio::test]
async fn what_a_machine_that_died_left_on_its_volume_is_told_by_the_next_boot() {
    let server = Server::start().await;
    let machine = Machine::new(&server).claiming(&server, Some("echo first; sleep 600")).volume();
    let child = machine.boot();
    let first = |said: &Said| {
        said.events.iter().any(|event| {
            matches!(&event.body, EventBody::Log { chunk, .. } if chunk.bytes() == b"first\n")
        })
    };
    server.until("output", first).await;
    // The power goes.
    kill_process(pid(&child), Signal::KILL).unwrap();
    ended(child).await;
    let _ = sprite_reporter::process::Tree::left_behind(&machine.job, None).signal(Signal::KILL);
    assert!(RunDir::new(machine.path("data/run/run")).state().unwrap().is_some());
    server.said().claims.push_back((410, json!({"error": "another boot has this run"})));
    let again = machine.live().await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(server.exit().unwrap().reason, ExitReason::ReporterLost);
    assert_eq!(server.printed(Stream::Stdout), "first\n");
    assert!(!machine.path("data/run/run").exists());

    // Another sprite's remains are nobody's to tell, and a server that wants none is not nagged.
    for (unwanted, run) in [(false, "of another"), (true, "of its own")] {
        let server = Server::start().await;
        let machine = Machine::new(&server).claiming(&server, Some("echo second")).volume();
        let dir = RunDir::new(machine.path("data/run/run"));
        fs::create_dir_all(dir.path()).unwrap();
        let spec = server.said().given["spec"].clone();
        let mut spec: sprite_reporter::wire::RunSpec = serde_json::from_value(spec).unwrap();
        if !unwanted {
            spec.job_id = "another".into();
        }
        dir.write_spec(&spec).unwrap();
        let process = sprite_reporter::wire::ProcessIdentity {
            boot_id: "another boot".into(),
            pid: 1,
            start_time: 1,
        };
        dir.write_state(&sprite_reporter::rundir::State { process, cgroup: None }).unwrap();
        server.said().unwanted = unwanted;
        let ended = machine.live().await;
        assert_eq!(ended.code, Some(0), "{run}: {}", ended.stderr);
        assert!(!dir.path().exists(), "{run}");
        assert_eq!(server.printed(Stream::Stdout), if unwanted { "" } else { "second\n" });
    }
}

#[tokio::test]
async fn what_is_missing_is_named_in_one_line() {
    let server = Server::start().await;
    let machine = Machine::new(&server);
    for missing in ["JOB_ID", "JOB_TOKEN", "OPEN_DISPATCH_URL"] {
        let ended = ended(machine.boot_without(missing)).await;
        assert_eq!(ended.code, Some(1));
        let says = format!("missing in the environment: {missing};");
        assert!(ended.stderr.contains(&says), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1);
    }
    let ended = machine.live().await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr, "sprite-reporter: No COMMAND specified\n");
    let said = server.bodies("status");
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["status"], "failed");
    assert_eq!(said[0]["error"], "No COMMAND specified");
}

#[tokio::test]
async fn the_originals_contract_is_lived_in_the_originals_words() {
    let server = Server::start().await;
    // What the server cannot take now is told again, and in order.
    server.said().faults.extend([200, 503, 200, 500]);
    let task = "i=1; while [ $i -le 45 ]; do echo \"line $i\"; i=$((i+1)); done; echo err >&2; \
                sleep 1; echo https://github.com/o/r/pull/7; echo key=$GH_TOKEN; \
                printf 'no end'; exit 3";
    let machine = Machine::new(&server).with("COMMAND", task).with("GH_TOKEN", "ghp_0123456789");
    let ended = machine.live().await;
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let statuses = server.bodies("status");
    let running = json!({"jobId": machine.job, "status": "running", "exitCode": 0, "error": ""});
    assert_eq!(statuses.first(), Some(&running));
    let failed = json!({"jobId": machine.job, "status": "failed", "exitCode": 3,
        "error": "Agent exited with code 3"});
    assert_eq!(statuses.last(), Some(&failed));

    let logs = server.bodies("logs");
    assert!(logs.iter().all(|log| log["jobId"] == machine.job.as_str()));
    let mut texts: Vec<&str> = logs.iter().map(|log| log["text"].as_str().unwrap()).collect();
    texts.dedup();
    assert!(texts.iter().all(|text| text.lines().count() <= 20), "{texts:?}");
    assert!(texts[0].starts_with("line 1\n") && texts[0].ends_with("line 20"), "{:?}", texts[0]);
    let lines: Vec<&str> = texts.iter().flat_map(|text| text.split('\n')).collect();
    let numbered = (1..=45).map(|n| format!("line {n}"));
    let rest = ["err", "https://github.com/o/r/pull/7", "key=***", "no end"].map(str::to_owned);
    assert_eq!(lines, numbered.chain(rest).collect::<Vec<_>>());
    let made = json!([{"name": "o/r#7", "url": "https://github.com/o/r/pull/7", "type": "pr"}]);
    assert_eq!(server.bodies("artifacts").last().unwrap()["artifacts"], made);
    assert!(ended.stdout.starts_with("line 1\n") && ended.stdout.contains("key=***\n"));
    assert_eq!(server.bodies("claim").len() + server.bodies("events").len(), 0);
}

#[tokio::test]
async fn a_server_that_does_not_know_the_job_does_not_keep_the_agent_from_its_work() {
    let server = Server::start().await;
    server.said().faults.extend([401; 16]);
    let machine = Machine::new(&server).with("COMMAND", "echo done > $HOME/proof");
    let ended = machine.live().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(machine.path("proof")).unwrap(), "done\n");
}

/// A git that writes down how it was called, and clones from a place on this disk instead.
fn spying_git(place: &Path, origin: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let bin = place.join("spy");
    fs::create_dir(&bin).unwrap();
    let git = std::env::var("PATH").unwrap();
    let git = std::env::split_paths(&git).map(|dir| dir.join("git")).find(|it| it.exists());
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >> {place}/argv\n\
         exec {git} -c url.{origin}.insteadOf=https://github.com/o/r.git \
         -c protocol.file.allow=always \"$@\"\n",
        place = place.display(),
        git = git.unwrap().display(),
        origin = origin.display(),
    );
    fs::write(bin.join("git"), script).unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[tokio::test]
async fn a_clone_leaves_the_token_in_no_file_and_no_argument_and_a_push_can_still_have_it() {
    let server = Server::start().await;
    let task = "cat file; git rev-parse --abbrev-ref HEAD; \
                printf 'protocol=https\\nhost=github.com\\n\\n' | git credential fill > $HOME/given; \
                git -c user.name=a commit -q --allow-empty -m mine && echo committed";
    let machine = Machine::new(&server)
        .with("COMMAND", task)
        .with("GH_TOKEN", "ghp_0123456789")
        .with("REPO", "o/r")
        .with("BRANCH", "feature")
        .with("WORKDIR", "/workspace/deep")
        .with("GIT_TERMINAL_PROMPT", "0");
    let origin = machine.path("origin");
    fs::create_dir(&origin).unwrap();
    for args in
        [&["init", "-q", "-b", "feature"][..], &["commit", "-q", "--allow-empty", "-m", "first"]]
    {
        git(&origin, args);
    }
    fs::write(origin.join("file"), "of the feature\n").unwrap();
    git(&origin, &["add", "file"]);
    git(&origin, &["commit", "-q", "-m", "second"]);
    let spy = spying_git(machine.disk.path(), &origin);
    let path = format!("{}:{}", spy.display(), std::env::var("PATH").unwrap());
    let machine = machine.with("PATH", &path);
    let ended = machine.live().await;
    assert_eq!(ended.code, Some(0), "{} {}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("of the feature\nfeature\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("committed\n"), "{}", ended.stdout);
    let argv = fs::read_to_string(machine.path("argv")).unwrap();
    assert!(argv.contains("clone --branch feature -- https://github.com/o/r.git"), "{argv}");
    assert!(!argv.contains("ghp_"), "{argv}");
    let given = fs::read_to_string(machine.path("given")).unwrap();
    assert!(given.contains("password=ghp_0123456789"), "git asks, and gets it: {given}");
    fs::remove_file(machine.path("given")).unwrap();
    let left = std::process::Command::new("grep")
        .args(["-rl", "ghp_0123456789"])
        .arg(machine.disk.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(left.stdout).unwrap(), "", "no file holds it");
}

fn git(dir: &Path, args: &[&str]) {
    let done = std::process::Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b"])
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn an_image_with_a_user_of_its_own_clones_where_it_may_and_its_agent_sees_no_token() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        // Only root can be somebody else.
        return;
    }
    let server = Server::start().await;
    let task = "cat file; cat /proc/$PPID/environ > $HOME/seen 2>/dev/null || echo unseen; \
                cat /proc/$PPID/mem > /dev/null 2>&1 || echo closed";
    let machine = Machine::new(&server).with("COMMAND", task).with("REPO", "o/r");
    let origin = machine.path("origin");
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "-q", "-b", "main"]);
    fs::write(origin.join("file"), "of the clone\n").unwrap();
    git(&origin, &["add", "file"]);
    git(&origin, &["commit", "-q", "-m", "first"]);
    let spy = spying_git(machine.disk.path(), &origin);
    let path = format!("{}:{}", spy.display(), std::env::var("PATH").unwrap());
    let machine = machine.with("PATH", &path);
    let open = |path: &str, mode: u32| {
        fs::set_permissions(machine.path(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    open("", 0o755);
    let owner = format!("{NOBODY}:{NOBODY}");
    let done = std::process::Command::new("chown").args(["-R", &owner]).arg(&origin).status();
    assert!(done.unwrap().success());
    for own in ["tmp", "workspace", "argv", "home"] {
        match own {
            "argv" => fs::write(machine.path(own), "").unwrap(),
            _ => fs::create_dir(machine.path(own)).unwrap(),
        }
        chown(machine.path(own), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let home = machine.path("home");
    let mut command = machine.command("");
    command.env("HOME", &home).uid(NOBODY).gid(NOBODY);
    let ended = ended(command.spawn().unwrap()).await;
    assert_eq!(ended.stdout.lines().last(), Some("closed"), "{} {}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("of the clone\nunseen\n"), "{}", ended.stdout);
    assert_eq!(ended.code, Some(0));
    assert!(machine.path("workspace/.git").is_dir());
}

#[tokio::test]
async fn a_user_that_the_image_names_gets_the_volume_and_everything_runs_as_that_one() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        // Only root can become somebody else.
        return;
    }
    let server = Server::start().await;
    let task = "id -u; id -g; id -G; touch made && echo made; echo $USER; \
                cat /proc/$PPID/mem > /dev/null 2>&1 || echo closed";
    let machine =
        Machine::new(&server).claiming(&server, Some(task)).volume().with("SPRITE_USER", "nobody");
    fs::set_permissions(machine.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(machine.path("data"), fs::Permissions::from_mode(0o755)).unwrap();
    let ended = machine.live().await;
    let group = fs::metadata(machine.path("data")).unwrap().gid();
    let expected = format!("{NOBODY}\n{group}\n{group}\nmade\nnobody\nclosed\n");
    assert_eq!(server.printed(Stream::Stdout), expected, "{}", ended.stderr);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(fs::metadata(machine.path("data/work/made")).unwrap().uid(), NOBODY);
    // The next boot finds what is its own.
    let again = machine.live().await;
    assert_eq!(again.code, Some(0), "{}", again.stderr);

    let stranger = Machine::new(&server)
        .claiming(&server, Some(task))
        .with("SPRITE_USER", "nobody-of-that-name");
    let ended = stranger.live().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("does not know; add it there"), "{}", ended.stderr);
}

#[tokio::test]
async fn what_keeps_a_claimed_run_from_beginning_is_told_as_its_end() {
    // Whoever runs the tests, a file is no directory.
    for place in ["data/home", "data/run/run", "data/work"] {
        let server = Server::start().await;
        let machine = Machine::new(&server).claiming(&server, Some("true")).volume();
        let path = machine.path(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "in the way").unwrap();
        let ended = machine.live().await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        let exit = server.exit().expect("the server knows");
        assert_eq!(exit.reason, ExitReason::StartFailed);
        assert!(exit.message.contains(place) && exit.message.contains("SPRITE_USER"), "{exit:?}");
        let first = server.said().events.first().map(|event| event.body.clone());
        assert!(matches!(first, Some(EventBody::Hello { .. })), "{first:?}");
        assert!(ended.stderr.contains(place), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn a_user_that_the_image_does_not_have_is_told_and_no_agent_runs_as_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root becomes another user");
        return;
    }
    let server = Server::start().await;
    let machine = Machine::new(&server)
        .claiming(&server, Some("echo it runs"))
        .volume()
        .with("SPRITE_USER", "nobody-of-that-name");
    // What an earlier agent left, links perhaps among it, is not read by root.
    let remains = machine.path("data/run/run");
    fs::create_dir_all(&remains).unwrap();
    let link = remains.join("state.json");
    std::os::unix::fs::symlink("/etc/hostname", &link).unwrap();
    let ended = machine.live().await;
    assert!(link.symlink_metadata().is_ok(), "it was left alone");
    assert!(!ended.stderr.contains("remains of an earlier run"), "{}", ended.stderr);
    let exit = server.exit().expect("the server knows");
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.contains("nobody-of-that-name"), "{exit:?}");
    assert_eq!((ended.code, server.printed(Stream::Stdout)), (Some(1), String::new()));
}

#[tokio::test]
async fn the_originals_contract_hears_as_well_that_a_run_cannot_begin() {
    let server = Server::start().await;
    let machine = Machine::new(&server).with("COMMAND", "true").with("WORKDIR", "/work/here");
    fs::write(machine.path("work"), "in the way").unwrap();
    let ended = machine.live().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let told = server.bodies("status");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["status"], "failed");
    assert!(told[0]["error"].as_str().unwrap().contains("work/here"), "{told:?}");
}
