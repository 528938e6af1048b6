//! Promise: a run is given to one boot of one machine, for ever; whoever has it hears so as often as
//! it asks, and nobody else ever does.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::{
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::http::StatusCode;
use house::{Answer, House, PATIENCE, batch, exit, hello, uid};
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Fault, FreeSteps, Mode, ScriptedSteps, Steps},
    resource::{Claim, ExitReason, FlyMachine, Kind, Sprite},
    server::{Claims, Extras, Limits, serve},
    store::{Expect, Op, Part, Store, Transaction, memory::MemoryStore, sqlite::SqliteStore},
};
use serde_json::json;
use sprite_reporter::wire::{AgentSpec, Claimed, RunSpec, WIRE_VERSION};
use tokio::process::{Child, Command};

const CLAIM: &str = "/webhooks/claim";

/// A runtime that says what each sprite's run is to do, until it cannot.
#[derive(Default)]
struct Runtime {
    fault: Mutex<Option<String>>,
}

impl Claims for Runtime {
    fn claimed(&self, sprite: &Sprite) -> Result<Claimed, String> {
        if let Some(why) = &*self.fault.lock().unwrap() {
            return Err(why.clone());
        }
        let spec = RunSpec {
            job_id: sprite.metadata.uid.clone(),
            run: sprite.spec.run,
            installation: "test".into(),
            server: None,
            endpoint_file: None,
            agent: AgentSpec::Command { shell: None },
            task: sprite.spec.task.clone(),
            workdir: "/workspace".into(),
            repo: None,
            permissions: Default::default(),
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
        Ok(Claimed { spec, home: Some("/data/home".into()) })
    }

    fn machine(&self, id: &str) -> Option<FlyMachine> {
        let (app, machine_id) = ("sprites".to_owned(), id.to_owned());
        Some(FlyMachine { app, machine_id, region: String::new(), state: "started".into() })
    }
}

fn lent() -> Extras {
    Extras { claims: Some(Arc::new(Runtime::default())), ..Extras::default() }
}

fn house() -> House {
    House::with(MemoryStore::new(), lent())
}

fn asks(name: &str, boot: &str) -> serde_json::Value {
    json!({"jobId": uid(name), "boot": boot, "wire": WIRE_VERSION})
}

async fn claim(house: &House, token: &str, name: &str, boot: &str) -> Answer {
    house.post(token, CLAIM, asks(name, boot).to_string()).await
}

fn claim_of(run: u32, boot: &str) -> Option<Claim> {
    Some(Claim { run, boot: boot.into() })
}

/// Changes a sprite as a controller does.
async fn change(store: &Arc<dyn Store>, name: &str, part: Part, change: impl FnOnce(&mut Sprite)) {
    let object = store.get(Kind::Sprite, name).await.unwrap();
    let mut sprite = object.unwrap().into_sprite().unwrap();
    change(&mut sprite);
    let op = Op::Write { object: sprite.into(), part, expect: Expect::SameVersion };
    store.apply(Transaction::at(Timestamp::UNIX_EPOCH).with(op)).await.unwrap();
}

#[tokio::test]
async fn the_first_boot_has_the_run_and_hears_the_same_as_often_as_it_asks() {
    let house = house();
    let token = house.sprite("one").await;
    let first = claim(&house, &token, "one", "boot-a").await;
    assert_eq!(first.code, StatusCode::OK, "{}", first.text());
    let claimed: Claimed = serde_json::from_slice(&first.bytes).unwrap();
    assert_eq!((claimed.spec.job_id, claimed.spec.run), (uid("one"), 1));
    assert_eq!(house.sprite_object("one").await.status.claim, claim_of(1, "boot-a"));

    let writes = house.store.writes();
    for house in [&house, &House::with(house.store.clone(), lent())] {
        let again = claim(house, &token, "one", "boot-a").await;
        assert_eq!((again.code, &again.bytes), (StatusCode::OK, &first.bytes));
        let other = claim(house, &token, "one", "boot-b").await;
        assert_eq!(other.code, StatusCode::GONE, "{}", other.text());
        assert!(other.text().contains("another boot has this run"), "{}", other.text());
    }
    assert_eq!(house.store.writes(), writes, "asking again writes nothing");
}

#[tokio::test]
async fn who_claims_says_which_machine_it_is_where_nobody_knew_that() {
    let house = house();
    for (name, known) in [("new", None), ("old", Some("m-1"))] {
        let token = house.sprite(name).await;
        let id = known.map(|id| Runtime::default().machine(id).unwrap());
        change(&house.store, name, Part::Status, |sprite| sprite.status.fly = id).await;
        let mut asks = asks(name, "boot-a");
        asks["machine"] = json!("m-1");
        let answer = house.post(&token, CLAIM, asks.to_string()).await;
        assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
        let status = house.sprite_object(name).await.status;
        assert_eq!(status.claim, claim_of(1, "boot-a"));
        assert_eq!(status.fly.map(|fly| fly.machine_id).as_deref(), Some("m-1"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_boots_at_once_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let ambient = open_dispatch::ambient::Ambient::real();
    let sqlite = SqliteStore::open(directory.path(), ambient).await.unwrap();
    for store in [MemoryStore::new() as Arc<dyn Store>, sqlite] {
        let house = Arc::new(House::with(store, lent()));
        for round in 0..20 {
            let name = format!("sprite-{round}");
            let token = house.sprite(&name).await;
            let boots = (0..8).map(|boot| {
                let (house, token, name) = (house.clone(), token.clone(), name.clone());
                tokio::spawn(async move {
                    let boot = format!("boot-{boot}");
                    let answer = claim(&house, &token, &name, &boot).await;
                    (answer.code, boot)
                })
            });
            let mut won = Vec::new();
            for boot in boots.collect::<Vec<_>>() {
                match boot.await.unwrap() {
                    (StatusCode::OK, boot) => won.push(boot),
                    (code, _) => assert_eq!(code, StatusCode::GONE),
                }
            }
            assert_eq!(won.len(), 1, "{won:?}");
            let held = house.sprite_object(&name).await.status.claim;
            assert_eq!(held, claim_of(1, &won[0]), "the one that won is the one that is held");
        }
    }
}

#[tokio::test]
async fn a_commit_that_fails_or_whose_answer_is_lost_costs_the_boot_nothing_and_helps_no_other() {
    for mode in [Mode::ErrorBefore, Mode::ErrorAfter] {
        let steps = Arc::new(ScriptedSteps::new(Some((0, mode))));
        let house = House::new_over(MemoryStore::new(), steps.clone(), lent());
        let token = house.sprite("one").await;
        let failed = claim(&house, &token, "one", "boot-a").await;
        assert_eq!(failed.code, StatusCode::SERVICE_UNAVAILABLE, "{mode:?}");
        assert_eq!(steps.passed(), ["claim.commit"]);
        let took_place = mode == Mode::ErrorAfter;
        let held = house.sprite_object("one").await.status.claim;
        assert_eq!(held, took_place.then(|| claim_of(1, "boot-a")).flatten(), "{mode:?}");
        if took_place {
            let other = claim(&house, &token, "one", "boot-b").await;
            assert_eq!(other.code, StatusCode::GONE, "{mode:?}");
        }
        let again = claim(&house, &token, "one", "boot-a").await;
        assert_eq!(again.code, StatusCode::OK, "{mode:?}: {}", again.text());
    }
}

#[tokio::test]
async fn what_changes_between_the_look_and_the_commit_decides() {
    /// Tells the sprite to stop, once, when a claim is about to be committed.
    struct Meddler(Arc<dyn Store>, AtomicBool);
    #[async_trait::async_trait]
    impl Steps for Meddler {
        async fn before(&self, step: &'static str) -> Result<(), Fault> {
            if step == "claim.commit" && !self.1.swap(true, Ordering::SeqCst) {
                change(&self.0, "one", Part::Desired, |sprite| {
                    sprite.spec.stop = Some(ExitReason::Cancelled);
                })
                .await;
            }
            Ok(())
        }
        async fn after(&self, _: &'static str) -> Result<(), Fault> {
            Ok(())
        }
    }
    let store: Arc<dyn Store> = MemoryStore::new();
    let meddler = Arc::new(Meddler(store.clone(), AtomicBool::new(false)));
    let house = House::new_over(store, meddler, lent());
    let token = house.sprite("one").await;
    let answer = claim(&house, &token, "one", "boot-a").await;
    assert_eq!(answer.code, StatusCode::GONE, "{}", answer.text());
    assert_eq!(house.sprite_object("one").await.status.claim, None);
}

#[tokio::test]
async fn what_must_not_begin_cannot_be_claimed() {
    let mut said = Vec::new();
    let machine = |id: &str| FlyMachine {
        app: "sprites".into(),
        machine_id: id.into(),
        region: "iad".into(),
        state: "started".into(),
    };
    type Change = Box<dyn Fn(&mut Sprite)>;
    let cases: [(&str, Part, Change); 5] = [
        ("stopping", Part::Desired, Box::new(|it| it.spec.stop = Some(ExitReason::Cancelled))),
        ("asleep", Part::Desired, Box::new(|it| it.spec.running = false)),
        ("slept", Part::Status, Box::new(|it| it.status.slept = 1)),
        (
            "another machine",
            Part::Status,
            Box::new(move |it| it.status.fly = Some(machine("another-machine"))),
        ),
        ("another boot", Part::Status, Box::new(|it| it.status.claim = claim_of(1, "boot-0"))),
    ];
    for (what, part, edit) in cases {
        let house = house();
        let token = house.sprite("one").await;
        change(&house.store, "one", part, edit).await;
        let before = house.sprite_object("one").await;
        let mut asked = asks("one", "boot-a");
        asked["machine"] = json!("the-machine");
        let answer = house.post(&token, CLAIM, asked.to_string()).await;
        said.push(format!("{what}: {} {}", answer.code.as_u16(), answer.text()));
        assert_eq!(house.sprite_object("one").await, before, "{what} is as it was");
    }
    let house = house();
    let token = house.sprite("one").await;
    let delete =
        Op::Delete { kind: Kind::Sprite, name: "one".into(), uid: None, resource_version: None };
    house.apply(vec![delete]).await;
    let answer = claim(&house, &token, "one", "boot-a").await;
    said.push(format!("deleted: {} {}", answer.code.as_u16(), answer.text()));
    house.release("one").await;
    let path = format!("{CLAIM}?jobId={}", uid("one"));
    let answer = house.post(&token, &path, asks("one", "b").to_string()).await;
    said.push(format!("gone: {} {}", answer.code.as_u16(), answer.text()));

    // An original sidecar speaks for it: whoever claims would be a second agent.
    let token = house.sprite("two").await;
    let running = json!({"jobId": uid("two"), "status": "running"}).to_string();
    assert_eq!(house.post(&token, "/webhooks/status", running).await.code, StatusCode::OK);
    let log = json!({"jobId": uid("two"), "text": "hello"}).to_string();
    assert_eq!(house.post(&token, "/webhooks/logs", log).await.code, StatusCode::OK);
    let answer = claim(&house, &token, "two", "boot-a").await;
    said.push(format!("spoken for: {} {}", answer.code.as_u16(), answer.text()));

    let token = house.sprite("three").await;
    let events = batch("three", 1, 1, &[hello(), exit(0)]);
    assert_eq!(house.post(&token, "/webhooks/events", events).await.code, StatusCode::OK);
    let answer = claim(&house, &token, "three", "boot-a").await;
    said.push(format!("over: {} {}", answer.code.as_u16(), answer.text()));
    insta::assert_snapshot!(said.join("\n"));
}

#[tokio::test]
async fn each_run_is_claimed_anew_and_the_machine_counts_once_it_is_known() {
    let house = house();
    let token = house.sprite("one").await;
    let mut asked = asks("one", "boot-a");
    asked["machine"] = json!("the-machine");
    // The answer to its creation may come later than its first word.
    let answer = house.post(&token, CLAIM, asked.to_string()).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    change(&house.store, "one", Part::Status, |sprite| {
        sprite.status.fly = Some(FlyMachine {
            app: "sprites".into(),
            machine_id: "the-machine".into(),
            region: "iad".into(),
            state: "started".into(),
        });
        sprite.status.slept = 1;
    })
    .await;
    change(&house.store, "one", Part::Desired, |sprite| sprite.spec.run = 2).await;
    asked["boot"] = json!("boot-b");
    let answer = house.post(&token, CLAIM, asked.to_string()).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    let claimed: Claimed = serde_json::from_slice(&answer.bytes).unwrap();
    assert_eq!(claimed.spec.run, 2);
    assert_eq!(house.sprite_object("one").await.status.claim, claim_of(2, "boot-b"));
    let late = claim(&house, &token, "one", "boot-a").await;
    assert_eq!(late.code, StatusCode::GONE, "the boot of run 1 has no part in run 2");
}

#[tokio::test]
async fn what_cannot_be_said_now_is_asked_for_again_and_costs_no_run() {
    let runtime = Arc::new(Runtime::default());
    *runtime.fault.lock().unwrap() = Some("secret \"npm\" is missing".into());
    let extras = Extras { claims: Some(runtime.clone()), ..Extras::default() };
    let house = House::with(MemoryStore::new(), extras);
    let token = house.sprite("one").await;
    let answer = claim(&house, &token, "one", "boot-a").await;
    assert_eq!(answer.code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("npm"), "{}", answer.text());
    assert_eq!(house.sprite_object("one").await.status.claim, None);
    *runtime.fault.lock().unwrap() = None;
    assert_eq!(claim(&house, &token, "one", "boot-a").await.code, StatusCode::OK);

    let without = House::new_over(house.store.clone(), Arc::new(FreeSteps), Extras::default());
    let answer = claim(&without, &token, "one", "boot-a").await;
    assert_eq!(answer.code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("FLY_API_TOKEN"), "{}", answer.text());
}

#[tokio::test]
async fn a_bad_claim_gets_one_clear_answer_and_changes_nothing() {
    let house = house();
    let token = house.sprite("one").await;
    let other = house.sprite("two").await;
    let writes = house.store.writes();
    let with = |name: &str, value: serde_json::Value| {
        let mut asked = asks("one", "boot-a");
        asked[name] = value;
        asked.to_string().into_bytes()
    };
    let good = asks("one", "boot-a").to_string().into_bytes();
    let mut said = Vec::new();
    for (what, token, body) in [
        ("no token", "", good.clone()),
        ("a wrong token", "0000", good.clone()),
        ("the token of another sprite", &other, good.clone()),
        ("nothing", &token, Vec::new()),
        ("null", &token, b"null".to_vec()),
        ("no JSON", &token, b"{".to_vec()),
        ("no UTF-8", &token, b"{\"jobId\":\"\xff\"}".to_vec()),
        ("an unknown job", &token, with("jobId", json!("nobody"))),
        ("no boot", &token, with("boot", json!(""))),
        ("a boot with spaces", &token, with("boot", json!("a b"))),
        ("a long boot", &token, with("boot", json!("b".repeat(129)))),
        ("a long machine", &token, with("machine", json!("m".repeat(129)))),
        ("another wire", &token, with("wire", json!(9))),
        ("too much", &token, vec![b' '; 16 * 1024 + 1]),
    ] {
        let answer = house.post(token, CLAIM, body).await;
        said.push(format!("{what}: {} {}", answer.code.as_u16(), answer.text()));
    }
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(house.store.writes(), writes);
}

/// A server that listens, and machines that are processes of this computer.
struct Live {
    house: House,
    url: String,
    disk: tempfile::TempDir,
    _served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Live {
    async fn new() -> Self {
        let house = house();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (router, state) = (house.router.clone(), house.state.clone());
        let never = std::future::pending();
        let _served = tokio::spawn(serve(listener, router, state, Limits::default(), never));
        Self { house, url, disk: tempfile::tempdir().unwrap(), _served }
    }

    /// Boots a machine for a sprite, on a disk of its own.
    fn boot(&self, name: &str, machine: &str, variables: &[(&str, &str)]) -> Child {
        let root = self.disk.path().join(machine);
        std::fs::create_dir_all(&root).unwrap();
        Command::new(env!("CARGO_BIN_EXE_open-dispatch"))
            .arg0("sprite-reporter")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", &root)
            .env("SPRITE_ROOT", &root)
            .env("JOB_ID", uid(name))
            .env("JOB_TOKEN", self.house.tokens.derive(&uid(name)))
            .env("OPEN_DISPATCH_URL", &self.url)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }
}

async fn ended(child: Child) -> (i32, String, String) {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("the machine does not end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_machines_of_one_sprite_one_runs_an_agent_and_the_others_end_at_once() {
    let live = Live::new().await;
    live.house.sprite("one").await;
    change(&live.house.store, "one", Part::Desired, |sprite| {
        sprite.spec.task =
            Some(format!("echo ran >> {}/proof; exit 3", live.disk.path().display()));
    })
    .await;
    let names = ["m-0", "m-1", "m-2", "m-3", "m-4", "m-5"];
    let boots: Vec<Child> = names
        .iter()
        .map(|name| {
            live.boot("one", name, &[("OPEN_DISPATCH_CLAIM", "1"), ("FLY_MACHINE_ID", name)])
        })
        .collect();
    let mut codes = Vec::new();
    for boot in boots {
        let (code, _, said) = ended(boot).await;
        let refused = ["another boot has this run", "this sprite has another machine by now"];
        assert!(code == 3 || refused.iter().any(|why| said.contains(why)), "{said}");
        codes.push(code);
    }
    codes.sort_unstable();
    assert_eq!(codes, [0, 0, 0, 0, 0, 3]);
    assert_eq!(std::fs::read_to_string(live.disk.path().join("proof")).unwrap(), "ran\n");
    let exit = live.house.sprite_object("one").await.status.exit.unwrap();
    assert_eq!((exit.code, exit.reason), (Some(3), ExitReason::Failed));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_reporter_in_the_originals_contract_is_heard_whole_by_our_server() {
    let live = Live::new().await;
    live.house.sprite("one").await;
    let task = "i=1; while [ $i -le 300 ]; do echo \"line $i ✓\"; i=$((i+1)); done; \
                echo https://github.com/o/r/pull/7; exit 3";
    let (code, stdout, said) = ended(live.boot("one", "m", &[("COMMAND", task)])).await;
    assert_eq!(code, 3, "{said}");
    let lines: String = (1..=300).map(|line| format!("line {line} ✓\n")).collect();
    let expected = format!("{lines}https://github.com/o/r/pull/7\n");
    assert_eq!(live.house.printed("one").await.concat(), expected);
    assert_eq!(stdout, expected, "and on its own standard output");
    let status = live.house.sprite_object("one").await.status;
    let exit = status.exit.unwrap();
    assert_eq!((exit.code, exit.reason), (Some(3), ExitReason::Failed));
    assert_eq!(status.artifacts.len(), 1);
    assert_eq!(status.artifacts[0].url, "https://github.com/o/r/pull/7");
}
