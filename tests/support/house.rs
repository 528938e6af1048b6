//! A server without the rest of the house: the real router over a store, driven by requests.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Method, Request, StatusCode, header},
};
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock as _, FreeSteps, ManualClock, SeededIds, Steps},
    resource::{
        API_VERSION, AgentCli, CommandCli, FINALIZER_RUNTIME, Kind, OwnerReference, PermissionMode,
        Permissions, RuntimeSpec, Sprite, SpriteSpec,
    },
    server::{self, State},
    store::{Expect, Op, Part, Store, Transaction, memory::MemoryStore, sqlite::SqliteStore},
    token::SpriteTokens,
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// The access token of every house.
pub const ACCESS: &str = "the access token of this test";
/// The prefix of the API.
pub const API: &str = "/apis/opendispatch.dev/v1alpha1";
/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server in a test.
pub struct House {
    pub store: Arc<dyn Store>,
    pub clock: Arc<ManualClock>,
    pub tokens: SpriteTokens,
    pub state: State,
    pub router: Router,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub code: StatusCode,
    pub bytes: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The lines of a stream, as they come.
pub struct Lines {
    body: axum::body::BodyDataStream,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line; nothing at a clean end.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let next = tokio::time::timeout(PATIENCE, self.body.next());
            match next.await.expect("the stream neither spoke nor ended") {
                Some(bytes) => self.rest.extend_from_slice(&bytes.expect("the stream broke off")),
                None => return None,
            }
        }
    }

    /// The next line as JSON.
    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.next().await.expect("the stream ended")).unwrap()
    }
}

impl House {
    /// A server over a store in memory, at the beginning of 2026.
    pub fn new() -> Self {
        Self::over(MemoryStore::new())
    }

    /// A server over SQLite in a directory, which goes with the second value.
    pub async fn on_disk() -> (Self, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path(), Ambient::real()).await.unwrap();
        (Self::over(store), directory)
    }

    /// A server over this store.
    pub fn over(store: Arc<dyn Store>) -> Self {
        Self::with(store, server::Extras::default())
    }

    /// A server over this store, with what other rooms lend.
    pub fn with(store: Arc<dyn Store>, extras: server::Extras) -> Self {
        Self::new_over(store, Arc::new(FreeSteps), extras)
    }

    /// A server over this store that takes these steps.
    pub fn with_steps(store: Arc<dyn Store>, steps: Arc<dyn Steps>) -> Self {
        Self::new_over(store, steps, server::Extras::default())
    }

    /// A server over this store that takes these steps, with what other rooms lend.
    pub fn new_over(store: Arc<dyn Store>, steps: Arc<dyn Steps>, extras: server::Extras) -> Self {
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let ids = Arc::new(SeededIds::new(7));
        let ambient = Ambient { clock: clock.clone(), ids, steps };
        let tokens = SpriteTokens::new(b"the key of this test");
        let state = State::with(store.clone(), ambient, tokens.clone(), ACCESS.to_owned(), extras);
        let router = server::router(state.clone());
        Self { store, clock, tokens, state, router }
    }

    /// The same store behind a new server, as after a restart.
    pub fn restarted(&self) -> Self {
        Self::over(self.store.clone())
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub async fn apply(&self, ops: Vec<Op>) {
        self.store.apply(Transaction { ops, now: self.now() }).await.unwrap();
    }

    /// Sends a request with this bearer token.
    pub async fn send(
        &self,
        token: &str,
        method: Method,
        path: &str,
        sort: &str,
        body: impl Into<Body>,
    ) -> axum::response::Response {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, sort)
            .body(body.into())
            .unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Posts to a webhook.
    pub async fn post(&self, token: &str, path: &str, body: impl Into<Body>) -> Answer {
        read(self.send(token, Method::POST, path, "application/json", body).await).await
    }

    /// Calls the API.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let sort = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = body.map(ToString::to_string).unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{API}/{path}") };
        read(self.send(ACCESS, method, &path, sort, body).await).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    /// Opens a stream.
    pub async fn stream(&self, token: &str, path: &str) -> Lines {
        let response = self.send(token, Method::GET, path, "", Body::empty()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Lines { body: response.into_body().into_data_stream(), rest: Vec::new() }
    }

    /// Makes a sprite, and says which token is its.
    pub async fn sprite(&self, name: &str) -> String {
        self.owned_sprite(name, Kind::Job, "owner", 1).await
    }

    pub async fn owned_sprite(&self, name: &str, kind: Kind, owner: &str, attempt: u32) -> String {
        let spec = SpriteSpec {
            agent: AgentCli::Command(CommandCli::default()),
            runtime: RuntimeSpec::default(),
            task: Some("true".to_owned()),
            repo: None,
            instructions: None,
            permissions: Permissions { mode: Some(PermissionMode::Bypass), allow: Vec::new() },
            env: Vec::new(),
            timeout: None,
            idle_timeout: None,
            session: None,
            attempt,
            running: true,
            run: 1,
            stop: None,
        };
        let mut sprite = Sprite::new(name, spec);
        let uid = uid(name);
        sprite.metadata.uid.clone_from(&uid);
        sprite.metadata.finalizers = vec![FINALIZER_RUNTIME.to_owned()];
        sprite.metadata.owner_references = vec![OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind,
            name: owner.to_owned(),
            uid: owner.to_owned(),
            controller: true,
        }];
        self.apply(vec![Op::Create(sprite.into())]).await;
        self.tokens.derive(&uid)
    }

    pub async fn sprite_object(&self, name: &str) -> Sprite {
        let object = self.store.get(Kind::Sprite, name).await.unwrap();
        object.expect("the sprite is gone").into_sprite().unwrap()
    }

    /// Takes the sprite's finalizer away, as the controller does when it is gone.
    pub async fn release(&self, name: &str) {
        let mut sprite = self.sprite_object(name).await;
        sprite.metadata.finalizers.clear();
        let (part, expect) = (Part::Finalizers, Expect::SameVersion);
        self.apply(vec![Op::Write { object: sprite.into(), part, expect }]).await;
    }

    /// What is held of a sprite's output: the printed text, one entry for each event.
    pub async fn printed(&self, name: &str) -> Vec<String> {
        let mut printed = Vec::new();
        let rows = self.store.output(&uid(name), Default::default(), usize::MAX).await.unwrap();
        for row in rows {
            if let sprite_reporter::wire::EventBody::Log { chunk, .. } = row.event.body {
                printed.push(String::from_utf8_lossy(&chunk.bytes()).into_owned());
            }
        }
        printed
    }
}

/// The uid of the sprite with this name.
pub fn uid(name: &str) -> String {
    format!("uid-of-{name}")
}

/// Reads an answer whole.
pub async fn read(response: axum::response::Response) -> Answer {
    let code = response.status();
    let whole = tokio::time::timeout(PATIENCE, response.into_body().collect());
    let bytes = whole.await.expect("the answer did not end").unwrap().to_bytes();
    Answer { code, bytes }
}

/// A batch of events, numbered from `first` on.
pub fn batch(sprite: &str, run: u32, first: u64, bodies: &[Value]) -> String {
    let events: Vec<Value> = (first..)
        .zip(bodies)
        .map(|(seq, body)| {
            let mut event = body.clone();
            event["seq"] = seq.into();
            event["at"] = "2026-01-01T00:00:00Z".into();
            event
        })
        .collect();
    json!({"jobId": uid(sprite), "run": run, "events": events}).to_string()
}

pub fn hello() -> Value {
    json!({"type": "hello", "wire": 1, "version": "0.1.0",
        "process": {"bootId": "boot", "pid": 42, "startTime": 7},
        "containment": {"subreaper": true, "cgroup": false, "dataHidden": false}})
}

pub fn log(text: &str) -> Value {
    json!({"type": "log", "stream": "stdout", "text": text})
}

pub fn exit(code: i32) -> Value {
    let reason = if code == 0 { "Completed" } else { "Failed" };
    json!({"type": "exit", "code": code, "reason": reason})
}
