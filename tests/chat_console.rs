//! A terminal and a server, with a real socket between them: every line is taken once, every
//! line of output is printed once, over restarts on both sides.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use axum::{body::Body, http::Request};
use jiff::Timestamp;
use open_dispatch::{
    ambient::Ambient,
    chat::{Commands, ConsoleHub, Outbox, Settings, console, frames::Frame, outbox},
    cli::chat::{Options, Server, piped},
    reconcile::{Engine, EngineHandle, Wake},
    resource::{
        API_VERSION, AnyObject, ConditionStatus, Job, Kind, OwnerReference, Sprite, SpriteSpec,
    },
    store::{
        DeliveryState, Expect, Op, Part, Store, Transaction, files::Files, memory::MemoryStore,
    },
};
use sprite_reporter::wire::{Chunk, Event, EventBody, Exit, ExitReason, Stream};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    task::JoinHandle,
};
use tower::ServiceExt as _;
use url::Url;

/// What a terminal printed.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits until something stands there; the test's time limit is the runner's.
    async fn shows(&self, text: &str) {
        while !self.text().contains(text) {
            tokio::task::yield_now().await;
        }
    }
}

/// A server's life, from start to kill.
struct Life {
    url: Url,
    hub: Arc<ConsoleHub>,
    engine: EngineHandle,
    serving: JoinHandle<()>,
}

impl Life {
    async fn start(store: &Arc<MemoryStore>) -> Self {
        let store = Arc::clone(store) as Arc<dyn Store>;
        let ambient = Ambient::real();
        let hub = ConsoleHub::new(Arc::clone(&store), Arc::clone(&ambient.clock));
        let platforms = vec![Arc::clone(&hub) as _];
        let mut engine = Engine::new(Arc::clone(&store), ambient.clone());
        engine.add(Arc::new(Outbox::new(Arc::clone(&store), ambient.clone(), platforms)));
        let engine = engine.start().await.unwrap();
        let waker = engine.waker();
        hub.on_attach(move |id| waker.wake(outbox::NAME, id, Wake::User));
        let commands = Arc::new(Commands::new(store, ambient, Settings::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = console::router(Arc::clone(&hub), commands, None);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, hub, engine, serving }
    }

    /// Ends at once, with all connections.
    async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
        // The streams that are open have tasks of their own.
        self.hub.close();
        self.engine.stop().await;
    }
}

/// Where the server is at the moment, if anywhere.
type Place = Arc<Mutex<Option<Url>>>;

fn http() -> reqwest::Client {
    // Already installed by another test of this binary, or now.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn options(place: &Place) -> Options {
    let place = Arc::clone(place);
    let find = move || match &*place.lock().unwrap() {
        Some(url) => Ok((url.clone(), "token".to_owned())),
        None => Err("no endpoint".to_owned()),
    };
    Options {
        server: Server::new(http(), Arc::new(find)),
        channel: "main".into(),
        ends_server: false,
        history: None,
        no_color: true,
        at_terminal: false,
        plain: false,
        ambient: Ambient::real(),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

async fn apply(store: &MemoryStore, ops: Vec<Op>) {
    store.apply(Transaction { ops, now: now() }).await.unwrap();
}

/// Waits for a job, and does what its controller would: a sprite.
async fn begin(store: &MemoryStore, name: &str) -> String {
    let job = loop {
        if let Some(object) = store.get(Kind::Job, name).await.unwrap() {
            break object.into_job().unwrap();
        }
        tokio::task::yield_now().await;
    };
    let uid = format!("{}-1", job.metadata.uid);
    let spec: SpriteSpec = serde_json::from_value(serde_json::json!({
        "agent": {"command": {}}, "runtime": {"local": {}}, "permissions": {}, "attempt": 1,
        "running": true,
    }))
    .unwrap();
    let mut sprite = Sprite::new(format!("{name}-abcdef-1"), spec);
    sprite.metadata.uid.clone_from(&uid);
    sprite.metadata.owner_references.push(OwnerReference {
        api_version: API_VERSION.into(),
        kind: Kind::Job,
        name: name.into(),
        uid: job.metadata.uid.clone(),
        controller: true,
    });
    apply(store, vec![Op::Create(sprite.into())]).await;
    uid
}

async fn print(store: &MemoryStore, sprite: &str, text: &str) {
    let body =
        EventBody::Log { stream: Stream::Stdout, chunk: Chunk::pack(text.as_bytes(), false) };
    say(store, sprite, body).await;
}

async fn say(store: &MemoryStore, sprite: &str, body: EventBody) {
    let seq = store.held(sprite, None).await.unwrap().seq + 1;
    let events = vec![Event { seq, at: now(), body }];
    apply(store, vec![Op::Output { sprite_uid: sprite.into(), run: 1, events }]).await;
}

async fn end(store: &MemoryStore, name: &str, sprite: &str, code: i32) {
    let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Failed };
    let exit = Exit { code: Some(code), signal: None, reason, message: String::new() };
    say(store, sprite, EventBody::Exit(exit)).await;
    let mut job: Job =
        store.get(Kind::Job, name).await.unwrap().and_then(AnyObject::into_job).unwrap();
    let (condition, phase) =
        if code == 0 { ("Complete", "Succeeded") } else { ("Failed", "Failed") };
    job.status.conditions.set(condition, ConditionStatus::True, phase, "", 1, now());
    job.status.phase = phase.into();
    job.status.exit_code = Some(code);
    job.status.start_time = Some(now());
    job.status.completion_time = Some(now());
    let write = Op::Write { object: job.into(), part: Part::Status, expect: Expect::SameVersion };
    apply(store, vec![write]).await;
}

fn place(life: &Life) -> Place {
    Arc::new(Mutex::new(Some(life.url.clone())))
}

#[tokio::test]
async fn piped_lines_are_answered_in_order_and_the_outcome_is_waited_for() {
    let store = MemoryStore::new();
    let life = Life::start(&store).await;
    let screen = Screen::default();
    let input = "/od-whoami\n\n/od-run --name job1 echo hello && exit 3\n";
    let chat =
        tokio::spawn(piped(options(&place(&life)), std::io::Cursor::new(input), screen.clone()));
    let sprite = begin(&store, "job1").await;
    print(&store, &sprite, "hel").await;
    screen.shows("hel").await;
    assert!(!chat.is_finished(), "the outcome is not there yet");
    print(&store, &sprite, "lo\n").await;
    end(&store, "job1", &sprite, 3).await;
    chat.await.unwrap().unwrap();
    assert_eq!(
        screen.text(),
        "You are on console, in channel main. Whoever holds this server's token may do \
         everything here.\njob1 created: command in ~\nhello\njob1 failed: exit code 3 (0.0 s)\n"
    );
    assert_eq!(store.open_deliveries().await.unwrap(), Vec::new());
    life.kill().await;
}

#[tokio::test]
async fn a_restart_of_the_server_prints_nothing_twice_and_loses_nothing() {
    let store = MemoryStore::new();
    let life = Life::start(&store).await;
    let where_it_is = place(&life);
    let screen = Screen::default();
    let (mut keyboard, input) = tokio::io::duplex(1024);
    let chat = tokio::spawn(piped(options(&where_it_is), BufReader::new(input), screen.clone()));
    keyboard.write_all(b"/od-run --name job1 count\n").await.unwrap();
    let sprite = begin(&store, "job1").await;
    print(&store, &sprite, "one\ntw").await;
    screen.shows("one\ntw").await;

    *where_it_is.lock().unwrap() = None;
    life.kill().await;
    print(&store, &sprite, "o\nthree\n").await;
    keyboard.write_all(b"/od-status job1\n").await.unwrap();
    screen.shows("the server went away").await;
    let life = Life::start(&store).await;
    *where_it_is.lock().unwrap() = Some(life.url.clone());

    screen.shows("three\n").await;
    screen.shows("phase").await;
    end(&store, "job1", &sprite, 0).await;
    drop(keyboard);
    chat.await.unwrap().unwrap();
    let text = screen.text();
    for part in ["job1 created", "one\ntw", "three\n", "job1 succeeded", "phase "] {
        assert_eq!(text.matches(part).count(), 1, "{part} in {text}");
    }
    assert_eq!(store.list(Kind::Job, None, 10).await.unwrap().items.len(), 1);
    life.kill().await;
}

#[tokio::test]
async fn what_another_terminal_heard_is_told_to_one_that_was_away() {
    let store = MemoryStore::new();
    let life = Life::start(&store).await;
    let (here, there) = (place(&life), place(&life));
    let (mine, yours) = (Screen::default(), Screen::default());
    let (mut keyboard, input) = tokio::io::duplex(1024);
    let waiting = tokio::spawn(piped(options(&here), BufReader::new(input), mine.clone()));
    let (_open, nothing) = tokio::io::duplex(1024);
    let looking = tokio::spawn(piped(options(&there), BufReader::new(nothing), yours.clone()));
    keyboard.write_all(b"/od-run --name job1 count\n").await.unwrap();
    let sprite = begin(&store, "job1").await;
    print(&store, &sprite, "one\n").await;
    mine.shows("one\n").await;
    yours.shows("one\n").await;

    (*here.lock().unwrap(), *there.lock().unwrap()) = (None, None);
    life.kill().await;
    let life = Life::start(&store).await;
    *there.lock().unwrap() = Some(life.url.clone());
    print(&store, &sprite, "two\n").await;
    end(&store, "job1", &sprite, 0).await;
    yours.shows("job1 succeeded").await;
    while !store.open_deliveries().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    *here.lock().unwrap() = Some(life.url.clone());
    drop(keyboard);
    let over = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
    over.expect("it does not wait for ever").unwrap().unwrap();
    for part in ["job1 created", "one\n", "two\n", "job1 succeeded"] {
        assert_eq!(mine.text().matches(part).count(), 1, "{part} in {}", mine.text());
    }
    looking.abort();
    life.kill().await;
}

#[tokio::test]
async fn what_nobody_heard_is_told_to_whoever_attaches_next() {
    let store = MemoryStore::new();
    let life = Life::start(&store).await;
    let url = life.url.clone();
    let body = serde_json::json!({"requestId": "r1", "channel": "ops", "text": "/od-jobs"});
    let client = http();
    let said = client.post(url.join("/console/messages").unwrap()).json(&body).send().await;
    assert_eq!(said.unwrap().status(), 202);
    loop {
        let open = store.open_deliveries().await.unwrap();
        if open.iter().all(|delivery| delivery.state == DeliveryState::Parked) {
            assert_eq!(open.len(), 1);
            assert_eq!(open[0].note, "nobody is attached to channel ops");
            break;
        }
        tokio::task::yield_now().await;
    }
    let stream = client.get(url.join("/console/stream?channel=ops").unwrap()).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "application/x-ndjson");
    let bytes = futures::TryStreamExt::map_err(stream.bytes_stream(), std::io::Error::other);
    let mut lines = tokio_util::io::StreamReader::new(bytes).lines();
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let line = lines.next_line().await.unwrap().expect("the stream goes on");
        let mut frame =
            serde_json::to_value(serde_json::from_str::<Frame>(&line).unwrap()).unwrap();
        if let Some(id) = frame.get_mut("id") {
            *id = "ID".into();
        }
        heard.push(frame.to_string());
    }
    insta::assert_snapshot!(heard.join("\n"));
    life.kill().await;
}

#[tokio::test]
async fn a_line_that_is_said_twice_is_taken_once() {
    let store = MemoryStore::new();
    let life = Life::start(&store).await;
    let body =
        serde_json::json!({"requestId": "r1", "channel": "main", "text": "/od-run echo hello"});
    let mut answers = Vec::new();
    for _ in 0..2 {
        let url = life.url.join("/console/messages").unwrap();
        let answer = http().post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        answers.push(answer.json::<serde_json::Value>().await.unwrap());
    }
    assert_eq!(answers[0]["deliveries"], answers[1]["deliveries"]);
    assert_eq!(answers[0]["again"], false);
    assert_eq!(answers[1]["again"], true);
    assert_eq!(store.list(Kind::Job, None, 10).await.unwrap().items.len(), 1);
    life.kill().await;
}

#[tokio::test]
async fn bad_input_gets_one_clear_error_and_changes_nothing() {
    let store = MemoryStore::new();
    let life = Life::start(&store).await;
    let mut told = String::new();
    let bodies = [
        "null",
        "{",
        "{\"requestId\": 5}",
        "{\"requestId\": \"a b\", \"text\": \"x\"}",
        "{\"requestId\": \"r\", \"text\": \" \"}",
        "{\"requestId\": \"r\", \"channel\": \"\", \"text\": \"x\"}",
    ];
    for body in bodies {
        let url = life.url.join("/console/messages").unwrap();
        let answer = http().post(url).body(body).send().await.unwrap();
        let status = answer.status();
        let json: serde_json::Value = answer.json().await.unwrap();
        told.push_str(&format!("{body}\n    {} {}\n", status.as_u16(), json["message"]));
    }
    for path in ["/console/stream?channel=a%20b", "/console/stream?client="] {
        let answer = http().get(life.url.join(path).unwrap()).send().await.unwrap();
        let status = answer.status();
        let json: serde_json::Value = answer.json().await.unwrap();
        told.push_str(&format!("{path}\n    {} {}\n", status.as_u16(), json["message"]));
    }
    let acks = life.url.join("/console/acks").unwrap();
    let answer = http().post(acks).body("{\"client\":\"x\",\"n\":1}").send().await.unwrap();
    told.push_str(&format!("ack of nobody\n    {}\n", answer.status().as_u16()));
    insta::assert_snapshot!(told);
    assert_eq!(store.writes(), 0);
    life.kill().await;
}

#[tokio::test]
async fn a_closed_console_lets_its_terminals_go() {
    let store = MemoryStore::new();
    let ambient = Ambient::real();
    let hub = ConsoleHub::new(Arc::clone(&store) as _, Arc::clone(&ambient.clock));
    let commands = Arc::new(Commands::new(store, ambient, Settings::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let router = console::router(Arc::clone(&hub), commands, None);
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let stream = http().get(url.join("/console/stream").unwrap()).send().await.unwrap();
    hub.close();
    let text = stream.text().await.unwrap();
    assert_eq!(text, "{\"op\":\"heartbeat\",\"n\":0}\n");
    serving.abort();
}

#[tokio::test]
async fn a_line_names_files_that_were_uploaded_before() {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(Files::open(dir.path().join("files")).unwrap());
    let stored = files.put_bytes("a picture".into(), 100).await.unwrap();
    let store = MemoryStore::new();
    let ambient = Ambient::real();
    let hub = ConsoleHub::new(Arc::clone(&store) as _, Arc::clone(&ambient.clock));
    let commands = Arc::new(Commands::new(Arc::clone(&store) as _, ambient, Settings::default()));
    let with_files = console::router(Arc::clone(&hub), Arc::clone(&commands), Some(files));
    let without = console::router(hub, commands, None);
    let say = async |router: &axum::Router, key: &str, text: &str, id: &str, name: &str| {
        let body = serde_json::json!({
            "requestId": key, "text": text, "attachments": [{"id": id, "name": name}],
        });
        let request =
            Request::post("/console/messages").body(Body::from(body.to_string())).unwrap();
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    let id = stored.id.as_str();
    assert_eq!(say(&with_files, "a", "/od-send bot x", id, "../a").await, 422);
    assert_eq!(say(&with_files, "b", "/od-send bot x", &"0".repeat(64), "a").await, 404);
    assert_eq!(say(&without, "c", "/od-send bot x", id, "a").await, 404);
    assert_eq!(store.writes(), 0, "what is refused does nothing");
    let line = serde_json::json!({"requestId": "d", "text": "/od-start bot"});
    let request = Request::post("/console/messages").body(Body::from(line.to_string())).unwrap();
    assert_eq!(with_files.clone().oneshot(request).await.unwrap().status().as_u16(), 202);
    assert_eq!(say(&with_files, "e", "", id, "shot.png").await, 202);
    let agent = store.get(Kind::Agent, "bot").await.unwrap().unwrap();
    let turns = store.turns(&agent.metadata().uid, 0, 9).await.unwrap();
    let attached = &turns[0].attachments[0];
    assert_eq!((attached.id.as_str(), attached.name.as_str(), attached.size), (id, "shot.png", 9));
}
