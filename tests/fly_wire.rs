//! What the Machines client says on the wire, and what it makes of what comes back: against a
//! server on this computer that answers as it is told to.
//!
//! The table in `support/fly/fields.json` holds the names and types of the fields that requests may
//! have, as Fly publishes them (Machines OpenAPI, 2026-05-07).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Uri},
    response::{IntoResponse as _, Response},
};
use open_dispatch::{
    ambient::{Ambient, ManualClock},
    runtime::fly::api::{
        Action, ApiError, CreateMachine, CreateVolume, Env, Guest, Init, MachineState, Machines,
        Mount, Restart, RestartPolicy, Signal, StopMachine, WishedConfig,
    },
};
use serde_json::{Value, json};

const TOKEN: &str = "fm2_hunter2/token==";
const ID: &str = "148e21ea7d4ed8";

/// One request, as it arrived.
#[derive(Debug, Clone)]
struct Heard {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: String,
}

#[derive(Default)]
struct Script {
    heard: Mutex<Vec<Heard>>,
    answers: Mutex<VecDeque<Response>>,
}

/// A server that answers in the order in which it was told to, and with `{}` after that.
struct Fly {
    url: String,
    script: Arc<Script>,
    clock: Arc<ManualClock>,
}

async fn hear(
    State(script): State<Arc<Script>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    script.heard.lock().unwrap().push(Heard { method, uri: uri.to_string(), headers, body });
    let answer = script.answers.lock().unwrap().pop_front();
    answer.unwrap_or_else(|| said(200, json!({})))
}

/// An answer of Fly's.
fn said(status: u16, body: Value) -> Response {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    (status, [("fly-request-id", "01HREQ-fra")], axum::Json(body)).into_response()
}

/// An answer of something else.
fn page(status: u16) -> Response {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    (status, "<html><body>Not here</body></html>").into_response()
}

impl Fly {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Script::default());
        let router = Router::new().fallback(hear).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        Self { url, script, clock }
    }

    fn answers(&self, answers: impl IntoIterator<Item = Response>) {
        self.script.answers.lock().unwrap().extend(answers);
    }

    /// A client that has been there for long enough to know that no bucket is empty.
    fn client(&self) -> Machines {
        let client = client(&self.url, Ambient { clock: self.clock.clone(), ..Ambient::real() });
        self.clock.advance(Duration::from_secs(2));
        client
    }

    fn heard(&self) -> Vec<Heard> {
        self.script.heard.lock().unwrap().clone()
    }
}

fn client(url: &str, ambient: Ambient) -> Machines {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = format!("FlyV1 {TOKEN}").into();
    Machines::new(&url.parse().unwrap(), &token, "sprites", ambient).unwrap()
}

fn guest() -> Guest {
    Guest {
        cpu_kind: "performance".into(),
        cpus: 2,
        memory_mb: 4096,
        gpu_kind: Some("a10".into()),
        gpus: Some(1),
    }
}

/// A machine with everything that can be wished for.
fn machine() -> CreateMachine {
    CreateMachine {
        name: "od-1".into(),
        region: "iad,us".into(),
        skip_launch: true,
        config: WishedConfig {
            image: "registry.fly.io/sprites@sha256:abc".into(),
            guest: guest(),
            env: Env::from_iter([
                ("JOB_TOKEN", "hunter2-job"),
                ("KEY", "hunter2\n\"key\""),
                ("A", "b"),
            ]),
            init: Some(Init {
                exec: vec!["/a".into()],
                entrypoint: vec!["/b".into()],
                cmd: vec!["c".into()],
                swap_size_mb: Some(512),
            }),
            auto_destroy: true,
            restart: Restart { policy: RestartPolicy::OnFailure, max_retries: Some(2) },
            metadata: BTreeMap::from([("od_sprite".into(), "u-1".into())]),
            mounts: vec![Mount { volume: "vol_1".into(), path: "/data".into() }],
            stop_config: Some(stop()),
        },
    }
}

fn stop() -> StopMachine {
    StopMachine { signal: Some(Signal::SigTerm), timeout: Some(Duration::from_secs(30)) }
}

/// A volume with everything that can be wished for.
fn volume() -> CreateVolume {
    CreateVolume {
        name: "od_1".into(),
        region: "iad".into(),
        size_gb: 3,
        compute: Some(guest()),
        compute_image: Some("node:22".into()),
        snapshot_retention: Some(5),
        auto_backup_enabled: Some(true),
        source_volume_id: Some("vol_0".into()),
        snapshot_id: Some("vs_1".into()),
    }
}

/// What does not hold against the published table.
fn wrong(table: &Value, kind: &str, value: &Value, place: &str, found: &mut Vec<String>) {
    let inner = |open: char, close: char| kind.strip_prefix(open)?.strip_suffix(close);
    if let Some(name) = kind.strip_prefix('#') {
        let Some(members) = value.as_object() else {
            return found.push(format!("{place}: {value}"));
        };
        for (field, value) in members {
            match table[name][field].as_str() {
                Some(kind) => wrong(table, kind, value, &format!("{place}.{field}"), found),
                None => found.push(format!("{place}.{field} is no field of {name}")),
            }
        }
    } else if let (Some(kind), Some(items)) = (inner('[', ']'), value.as_array()) {
        items.iter().for_each(|item| wrong(table, kind, item, place, found));
    } else if let (Some(kind), Some(items)) = (inner('{', '}'), value.as_object()) {
        items.values().for_each(|item| wrong(table, kind, item, place, found));
    } else {
        let fits = match kind {
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            // One of several words.
            words => {
                let said = value.to_string();
                words.starts_with('"') && words.split('|').any(|it| it == said)
            }
        };
        if !fits {
            found.push(format!("{place}: {value} is no {kind}"));
        }
    }
}

#[tokio::test]
async fn every_request_says_what_fly_publishes_and_nothing_else() {
    let fly = Fly::start().await;
    let machines = fly.client();
    fly.answers([
        said(200, json!([])),
        said(200, json!({"id": ID})),
        said(200, json!({"id": ID, "state": "created"})),
        said(200, json!({"previous_state": "stopped", "migrated": false})),
        said(200, json!({"ok": true})),
        said(200, json!({"ok": true})),
        said(204, Value::Null),
        said(200, json!([])),
        said(200, json!([])),
        said(200, json!({"id": "vol_1", "name": "od_1"})),
        said(200, json!({"id": "vol_1", "state": "scheduling_destroy"})),
        said(200, json!({"name": "sprites"})),
    ]);
    assert_eq!(machines.list(&[("od_installation", "a b&c"), ("k", "v")]).await, Ok(vec![]));
    assert_eq!(machines.get(ID).await.unwrap().unwrap().id, ID);
    assert_eq!(machines.create(&machine()).await.unwrap().state, MachineState::Created);
    machines.start(ID).await.unwrap();
    machines.stop(ID, &stop()).await.unwrap();
    machines.destroy(ID).await.unwrap();
    machines.set_metadata(ID, "od_spec", "abc").await.unwrap();
    assert_eq!(machines.events(ID).await, Ok(vec![]));
    assert_eq!(machines.volumes().await, Ok(vec![]));
    assert_eq!(machines.create_volume(&volume()).await.unwrap().id, "vol_1");
    machines.destroy_volume("vol_1").await.unwrap();
    assert_eq!(machines.app().await.unwrap().unwrap().name, "sprites");

    let heard = fly.heard();
    let lines: Vec<String> =
        heard.iter().map(|heard| format!("{} {}", heard.method, heard.uri)).collect();
    let expected = [
        "GET /v1/apps/sprites/machines?metadata.od_installation=a+b%26c&metadata.k=v".to_owned(),
        format!("GET /v1/apps/sprites/machines/{ID}"),
        "POST /v1/apps/sprites/machines".to_owned(),
        format!("POST /v1/apps/sprites/machines/{ID}/start"),
        format!("POST /v1/apps/sprites/machines/{ID}/stop"),
        format!("DELETE /v1/apps/sprites/machines/{ID}?force=true"),
        format!("POST /v1/apps/sprites/machines/{ID}/metadata/od_spec"),
        format!("GET /v1/apps/sprites/machines/{ID}/events?limit=50"),
        "GET /v1/apps/sprites/volumes".to_owned(),
        "POST /v1/apps/sprites/volumes".to_owned(),
        "DELETE /v1/apps/sprites/volumes/vol_1".to_owned(),
        "GET /v1/apps/sprites".to_owned(),
    ];
    assert_eq!(lines, expected);
    let table: Value = serde_json::from_str(include_str!("support/fly/fields.json")).unwrap();
    let schemas = [
        (2, "#CreateMachineRequest"),
        (4, "#StopRequest"),
        (6, "#upsertMetadataKeyRequest"),
        (9, "#CreateVolumeRequest"),
    ];
    for (n, heard) in heard.iter().enumerate() {
        assert_eq!(heard.headers["authorization"], format!("FlyV1 {TOKEN}"));
        let Some((_, schema)) = schemas.iter().find(|(at, _)| *at == n) else {
            assert_eq!(heard.body, "", "{}", lines[n]);
            continue;
        };
        assert_eq!(heard.headers["content-type"], "application/json");
        let mut found = Vec::new();
        let body: Value = serde_json::from_str(&heard.body).unwrap();
        wrong(&table, schema, &body, "", &mut found);
        assert!(found.is_empty(), "{found:?}: {}", lines[n]);
    }
    // The check finds what is wrong.
    let body =
        json!({"config": {"guest": {"cpus": "2"}, "restart": {"policy": "never"}, "envs": {}}});
    let mut found = Vec::new();
    wrong(&table, "#CreateMachineRequest", &body, "", &mut found);
    assert_eq!(found.len(), 3, "{found:?}");
}

#[tokio::test]
async fn an_id_that_would_be_another_path_is_not_sent() {
    let fly = Fly::start().await;
    let machines = fly.client();
    for id in ["", ".", "..", "a/b", "a?b", "ä"] {
        assert!(matches!(machines.destroy(id).await, Err(ApiError::Setup(_))), "{id:?}");
        assert!(matches!(machines.destroy_volume(id).await, Err(ApiError::Setup(_))), "{id:?}");
    }
    assert_eq!(fly.heard().len(), 0);
    for app in ["", "a/b", "..", "x".repeat(64).as_str()] {
        let made =
            Machines::new(&fly.url.parse().unwrap(), &TOKEN.into(), app, Ambient::real()).err();
        assert!(matches!(made, Some(ApiError::Setup(_))), "{app:?}");
    }
}

#[tokio::test]
async fn a_list_keeps_what_is_ours_and_loses_no_machine_that_reads_badly() {
    let fly = Fly::start().await;
    let ours = |id: &str, state: Value| json!({"id": id, "state": state, "config": {"metadata": {"k": "v"}}});
    fly.answers([said(
        200,
        json!([
            ours("1", json!("started")),
            ours("2", json!("hibernating")),
            ours("3", json!(null)),
            {"id": "4", "config": {"metadata": {"k": "other"}}},
            {"id": "5", "config": {}},
            {"id": "6", "host_status": "unreachable", "incomplete_config": {}},
            {"id": "7", "host_status": "unreachable", "incomplete_config": {"metadata": {"k": "w"}}},
        ]),
    )]);
    let found = fly.client().list(&[("k", "v")]).await.unwrap();
    let ids: Vec<&str> = found.iter().map(|machine| machine.id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "3", "6"]);
    // A member that is no machine makes the whole list untrue.
    fly.answers([said(200, json!([ours("1", json!("started")), {"name": "who?"}]))]);
    assert!(matches!(fly.client().list(&[]).await, Err(ApiError::Unavailable(_))));
}

#[tokio::test]
async fn only_flys_own_word_says_that_a_machine_is_gone() {
    let fly = Fly::start().await;
    fly.answers([
        said(404, json!({"error": "machine not found"})),
        said(200, json!({"id": ID, "state": "destroyed"})),
        said(404, json!({"error": "app not found"})),
        page(404),
        said(404, json!({"error": "machine not found"})),
        said(404, json!({"error": "app not found"})),
        page(404),
        said(404, json!({"error": "app not found"})),
        said(404, json!({"error": "app not found"})),
    ]);
    let get = |machines: Machines| async move { machines.get(ID).await };
    assert_eq!(get(fly.client()).await, Ok(None));
    assert_eq!(get(fly.client()).await.unwrap().unwrap().state, MachineState::Destroyed);
    assert!(matches!(get(fly.client()).await, Err(ApiError::NotFound(_))));
    assert!(matches!(get(fly.client()).await, Err(ApiError::Unavailable(_))));
    let destroy = |machines: Machines| async move { machines.destroy(ID).await };
    assert_eq!(destroy(fly.client()).await, Ok(()));
    assert!(matches!(destroy(fly.client()).await, Err(ApiError::NotFound(_))));
    assert!(matches!(destroy(fly.client()).await, Err(ApiError::Ambiguous(_))));
    assert_eq!(fly.client().app().await, Ok(None));
    assert!(matches!(fly.client().list(&[]).await, Err(ApiError::NotFound(_))));
}

/// A server that does one thing with each connection once it has read the request's head.
fn rude(deed: impl Fn(std::net::TcpStream) + Send + 'static) -> (String, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 16_384];
            let _ = stream.read(&mut head).unwrap();
            *counted.lock().unwrap() += 1;
            deed(stream);
        }
    });
    (url, count)
}

#[tokio::test]
async fn what_breaks_after_it_was_sent_is_open_for_a_write_and_is_not_tried_again() {
    let closes: fn(std::net::TcpStream) = drop;
    let truncates: fn(std::net::TcpStream) = |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"id\":");
    };
    let mumbles: fn(std::net::TcpStream) = |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>");
    };
    for deed in [closes, truncates, mumbles] {
        let (url, count) = rude(deed);
        let machines = client(&url, Ambient::real());
        let created = machines.create(&machine()).await;
        assert!(matches!(created, Err(ApiError::Ambiguous(_))), "{created:?}");
        assert_eq!(*count.lock().unwrap(), 1);
        let got = machines.get(ID).await;
        assert!(matches!(got, Err(ApiError::Unavailable(_))), "{got:?}");
        assert_eq!(*count.lock().unwrap(), 2);
    }
}

#[tokio::test]
async fn what_never_left_is_not_open() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let created = client(&url, Ambient::real()).create(&machine()).await;
    assert!(matches!(created, Err(ApiError::Unavailable(_))), "{created:?}");
}

#[tokio::test]
async fn who_does_not_answer_in_time_leaves_a_write_open() {
    let (url, count) = rude(|stream| {
        std::mem::forget(stream);
    });
    let machines = client(&url, Ambient::real());
    let waiting =
        tokio::spawn(async move { (machines.create(&machine()).await, machines.get(ID).await) });
    for expected in 1..=2 {
        while *count.lock().unwrap() < expected {
            tokio::task::yield_now().await;
        }
        // From here on only the clock is waited for.
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(14)).await;
        assert!(!waiting.is_finished());
        tokio::time::advance(Duration::from_secs(17)).await;
        tokio::time::resume();
    }
    let (created, got) = waiting.await.unwrap();
    let Err(ApiError::Ambiguous(answer)) = created else { panic!("{created:?}") };
    assert!(answer.said.starts_with("no answer in time"), "{answer}");
    assert!(matches!(got, Err(ApiError::Unavailable(_))), "{got:?}");
}

#[tokio::test]
async fn a_redirect_takes_the_token_nowhere() {
    let (fly, elsewhere) = (Fly::start().await, Fly::start().await);
    let there = format!("{}/v1/apps/sprites/machines", elsewhere.url);
    let moved = || {
        (axum::http::StatusCode::TEMPORARY_REDIRECT, [("location", there.clone())]).into_response()
    };
    fly.answers([moved(), moved()]);
    let listed = fly.client().list(&[]).await;
    assert!(matches!(listed, Err(ApiError::Unavailable(_))), "{listed:?}");
    assert!(fly.client().create(&machine()).await.is_err());
    assert_eq!((fly.heard().len(), elsewhere.heard().len()), (2, 0));
}

#[tokio::test]
async fn an_answer_has_a_bound_and_a_list_of_ten_thousand_machines_has_room() {
    let fly = Fly::start().await;
    let env: BTreeMap<String, String> =
        (0..30).map(|n| (format!("VARIABLE_{n}"), "x".repeat(80))).collect();
    let machine_of = |n: u32| {
        json!({"id": format!("{n:014x}"), "state": "stopped",
        "config": {"image": "node:22", "env": env, "metadata": {"od_sprite": n.to_string()}}})
    };
    fly.answers([
        said(200, (0..10_000).map(machine_of).collect()),
        said(200, json!({"id": ID, "name": "x".repeat(2 << 20)})),
        said(200, json!({"id": ID, "name": "x".repeat(2 << 20)})),
    ]);
    assert_eq!(fly.client().list(&[]).await.unwrap().len(), 10_000);
    assert!(matches!(fly.client().get(ID).await, Err(ApiError::Unavailable(_))));
    assert!(matches!(fly.client().create(&machine()).await, Err(ApiError::Ambiguous(_))));
}

#[tokio::test]
async fn a_refused_call_holds_up_the_next_as_long_as_fly_says_and_no_other() {
    let fly = Fly::start().await;
    let refusal = (
        axum::http::StatusCode::TOO_MANY_REQUESTS,
        [("retry-after", "7")],
        axum::Json(json!({"error": "rate limit exceeded"})),
    );
    fly.answers([refusal.into_response(), said(200, json!({})), said(200, json!({"id": ID}))]);
    let machines = fly.client();
    let refused = machines.create(&machine()).await;
    let Err(ApiError::RateLimited { after: Some(after), .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!((7.0..8.0).contains(&after.as_secs_f64()), "{after:?}");
    assert_eq!(machines.backlog(Action::Create, "sprites"), after);
    let again = tokio::spawn({
        let machines = machines.clone();
        async move { machines.create(&machine()).await }
    });
    fly.clock.advance(Duration::from_millis(6_900));
    // What acts on something else goes meanwhile.
    machines.start(ID).await.unwrap();
    assert!(!again.is_finished());
    assert_eq!(fly.heard().len(), 2);
    fly.clock.advance(Duration::from_millis(1_200));
    assert!(again.await.unwrap().is_ok());
}

#[tokio::test]
async fn when_no_call_gets_through_all_rest_and_one_tries() {
    let fly = Fly::start().await;
    fly.answers(
        (0..4).map(|_| said(401, json!({"error": "Authenticate: token validation error"}))),
    );
    let machines = fly.client();
    for n in 0..3 {
        assert_eq!(machines.condition(), None);
        assert!(matches!(machines.get(&n.to_string()).await, Err(ApiError::Token(_))));
    }
    let condition = machines.condition().unwrap();
    assert!(condition.why.contains("FLY_API_TOKEN"), "{}", condition.why);
    assert!(matches!(machines.get("4").await, Err(ApiError::Resting { .. })));
    assert!(matches!(machines.destroy("4").await, Err(ApiError::Resting { .. })));
    assert_eq!(fly.heard().len(), 3);
    fly.clock.advance(Duration::from_secs(30));
    assert!(matches!(machines.get("5").await, Err(ApiError::Token(_))));
    assert!(matches!(machines.get("6").await, Err(ApiError::Resting { .. })));
    assert_eq!(fly.heard().len(), 4);
    fly.clock.advance(Duration::from_secs(60));
    machines.start("7").await.unwrap();
    assert_eq!(machines.condition(), None);
}

/// What is written by a test's own thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_call_is_a_line_in_the_log_and_no_secret_stands_in_a_log_or_an_error() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fly = Fly::start().await;
    let echo = "invalid env JOB_TOKEN=hunter2-job KEY=hunter2\n\"key\" in machine od-1";
    fly.answers([said(400, json!({ "error": echo })), page(502)]);
    let machines = fly.client();
    let mut told = String::new();
    for _ in 0..2 {
        let error = machines.create(&machine()).await.unwrap_err();
        told += &format!("{error} {error:?}\n");
    }
    assert!(told.contains("invalid env JOB_TOKEN=*** KEY=*** in machine od-1"), "{told}");
    told += &format!("{:?}", machine());
    // What is hidden does not change what is made of it.
    fly.answers([said(409, json!({"error": format!("machine ID {ID} already exists with name")}))]);
    let mut wish = machine();
    wish.config.env.set("GOAL", "machine");
    let Err(ApiError::NameTaken { id, answer }) = fly.client().create(&wish).await else {
        panic!()
    };
    assert_eq!((id.as_deref(), answer.said.starts_with("*** ID")), (Some(ID), true));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("Fly was asked")).collect();
    assert_eq!(lines.len(), 3);
    for part in
        ["DEBUG", "method=POST", "path=\"/apps/{app}/machines\"", "status=400", "01HREQ-fra"]
    {
        assert!(lines[0].contains(part), "{}", lines[0]);
    }
    assert!(!told.contains("hunter2"), "{told}");
    assert!(!log.contains("hunter2"), "{log}");
}
