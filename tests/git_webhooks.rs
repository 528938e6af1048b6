//! Promise: a push that bears its signature wakes its Source, once; nothing else that comes to that
//! door does anything, and nobody learns anything from it.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use house::{Answer, House, read};
use open_dispatch::{
    ambient::{Ambient, Clock as _, FreeSteps, Mode, ScriptedSteps, Steps},
    metrics::{Format, Metrics},
    resource::{GitSource, Kind, Metadata, RECONCILE_REQUESTED, Source, SourceFrom, SourceSpec},
    secrets::Secrets,
    server::{Extras, public_router},
    store::{Expect, Op, Part, Store, memory::MemoryStore, sqlite::SqliteStore},
};
use serde_json::{Value, json};
use sha2::Sha256;
use tower::ServiceExt as _;

const SECRET: &str = "the webhooks' secret";

struct World {
    house: House,
    metrics: Metrics,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let world = Self::over(MemoryStore::new(), Arc::new(FreeSteps));
        world.add("ops", Some("hook"), None).await;
        world.add("deaf", None, None).await;
        world.add("lost", Some("nowhere"), None).await;
        world
    }

    fn over(store: Arc<dyn Store>, steps: Arc<dyn Steps>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(dir.path().join("secrets"), Vec::new());
        secrets.set("hook", &SECRET.into()).unwrap();
        let metrics = Metrics::new();
        let extras =
            Extras { secrets: Some(secrets), metrics: metrics.clone(), ..Extras::default() };
        Self { house: House::new_over(store, steps, extras), metrics, _dir: dir }
    }

    async fn add(&self, name: &str, secret: Option<&str>, branch: Option<&str>) {
        let git = GitSource {
            url: Some("acme/ops".to_owned()),
            branch: branch.map(str::to_owned),
            webhook_secret_from_secret: secret.map(str::to_owned),
            ..GitSource::default()
        };
        let source = Source {
            metadata: Metadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                ..Metadata::default()
            },
            spec: SourceSpec {
                from: SourceFrom::Git(git),
                interval: None,
                suspend: false,
                prune: Default::default(),
                policy: None,
                channels: Vec::new(),
            },
            status: Default::default(),
        };
        self.house.apply(vec![Op::Create(source.into())]).await;
    }

    async fn source(&self, name: &str) -> Source {
        let found = self.house.store.get(Kind::Source, name).await.unwrap().unwrap();
        found.into_source().unwrap()
    }

    /// The value that asks for a look.
    async fn asked(&self, name: &str) -> Option<String> {
        self.source(name).await.metadata.annotations.get(RECONCILE_REQUESTED).cloned()
    }

    async fn call(&self, name: &str, event: &str, signature: Option<&str>, body: &str) -> Answer {
        call(&self.house.router, name, event, signature, body).await
    }

    /// A push with its signature.
    async fn push(&self, name: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.call(name, "push", Some(&signed(SECRET, &body)), &body).await
    }

    fn counted(&self, outcome: &str) -> u64 {
        let text = self.metrics.text(Format::Prometheus);
        let name = format!("opendispatch_git_webhooks_total{{outcome=\"{outcome}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

async fn call(
    router: &Router,
    name: &str,
    event: &str,
    signature: Option<&str>,
    body: &str,
) -> Answer {
    let mut request = Request::post(format!("/webhooks/git/{name}"))
        .header("content-type", "application/json")
        .header("x-github-event", event)
        .header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958");
    if let Some(signature) = signature {
        request = request.header("x-hub-signature-256", signature);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    read(router.clone().oneshot(request).await.unwrap()).await
}

fn signed(key: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn main(after: &str) -> Value {
    json!({"ref": "refs/heads/main", "after": after, "repository": {"default_branch": "main"}})
}

#[tokio::test]
async fn a_signed_push_wakes_its_source_and_one_that_comes_again_does_not() {
    let world = World::new().await;
    let answer = world.push("ops", &main("1")).await;
    assert_eq!((answer.code, answer.json()["woken"].clone()), (StatusCode::ACCEPTED, true.into()));
    let first = world.asked("ops").await.unwrap();
    let revision = world.house.store.revision().await.unwrap();
    world.house.clock.advance(std::time::Duration::from_secs(5));
    let again = world.push("ops", &main("1")).await;
    assert_eq!((again.code, again.json()["woken"].clone()), (StatusCode::ACCEPTED, false.into()));
    assert_eq!(world.asked("ops").await.unwrap(), first);
    assert_eq!(world.house.store.revision().await.unwrap(), revision);
    world.push("ops", &main("2")).await;
    assert_ne!(world.asked("ops").await.unwrap(), first);
    // What it wants is as it was.
    assert_eq!(world.source("ops").await.metadata.generation, 1);
    assert_eq!((world.counted("taken"), world.counted("ignored")), (2, 1));
}

#[tokio::test]
async fn without_the_right_signature_nothing_is_done_and_it_is_counted() {
    let world = World::new().await;
    let body = main("1").to_string();
    let revision = world.house.store.revision().await.unwrap();
    let old = signed(SECRET, &main("0").to_string());
    let wrong = signed("another secret", &body);
    let bare = signed(SECRET, &body).replace("sha256=", "");
    for signature in [None, Some(&old), Some(&wrong), Some(&bare)] {
        let answer = world.call("ops", "push", signature.map(String::as_str), &body).await;
        assert_eq!(answer.code, StatusCode::UNAUTHORIZED, "{signature:?}");
    }
    // A ping is no exception.
    let ping = world.call("ops", "ping", Some(&wrong), "{}").await;
    assert_eq!(ping.code, StatusCode::UNAUTHORIZED);
    assert_eq!(world.house.store.revision().await.unwrap(), revision);
    assert_eq!(world.counted("refused"), 5);
    let ping = world.call("ops", "ping", Some(&signed(SECRET, "{}")), "{}").await;
    assert_eq!((ping.code, ping.json()["message"].clone()), (StatusCode::OK, "pong".into()));
}

#[tokio::test]
async fn a_source_without_a_secret_takes_no_push_and_looks_as_if_it_were_not_there() {
    let world = World::new().await;
    let wrong = signed("another secret", &main("1").to_string());
    let wrong = world.call("ops", "push", Some(&wrong), &main("1").to_string()).await;
    assert_eq!(wrong.code, StatusCode::UNAUTHORIZED);
    // Of `lost` the secret is named and missing: the log says so, and no stranger.
    for name in ["nobody", "deaf", "lost"] {
        let answer = world.push(name, &main("1")).await;
        assert_eq!((answer.code, answer.text()), (wrong.code, wrong.text()), "{name}");
        // Nor does it show whether the body is read.
        let bare = world.call(name, "push", None, "{}").await;
        assert_eq!((bare.code, bare.text()), (wrong.code, wrong.text()), "{name}");
    }
}

#[tokio::test]
async fn other_branches_other_events_and_suspended_sources_are_told_that_nothing_happens() {
    let world = World::new().await;
    world.add("live", Some("hook"), Some("live")).await;
    let told = async |name: &str, body: Value| {
        let answer = world.push(name, &body).await;
        assert_eq!(answer.code, StatusCode::ACCEPTED);
        assert_eq!(world.asked(name).await, None);
        answer.json()["message"].as_str().unwrap().to_owned()
    };
    insta::assert_snapshot!(told("live", main("1")).await, @r#"the Source reads live, not "refs/heads/main""#);
    let tag = json!({"ref": "refs/tags/main", "repository": {"default_branch": "main"}});
    insta::assert_snapshot!(told("ops", tag).await, @r#"the Source reads main, not "refs/tags/main""#);
    let issue = world.call("ops", "issues", Some(&signed(SECRET, "{}")), "{}").await;
    assert_eq!(issue.code, StatusCode::ACCEPTED);
    let bad = world.call("ops", "push", Some(&signed(SECRET, "payload=")), "payload=").await;
    assert_eq!(bad.code, StatusCode::BAD_REQUEST);
    let mut source = world.source("ops").await;
    source.spec.suspend = true;
    let write = Op::Write { object: source.into(), part: Part::Desired, expect: Expect::Any };
    world.house.apply(vec![write]).await;
    insta::assert_snapshot!(told("ops", main("1")).await, @"the Source is suspended, and is not read");
}

#[tokio::test]
async fn a_body_without_end_is_refused() {
    let world = World::new().await;
    let body = "x".repeat(5 * 1024 * 1024);
    let answer = world.call("ops", "push", Some(&signed(SECRET, &body)), &body).await;
    assert_eq!(answer.code, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_public_listener_takes_pushes_and_nothing_else() {
    let world = World::new().await;
    let public = public_router(world.house.state.clone());
    let body = main("1").to_string();
    let wrong = call(&public, "ops", "push", Some(&signed("x", &body)), &body).await;
    assert_eq!(wrong.code, StatusCode::UNAUTHORIZED);
    let right = call(&public, "ops", "push", Some(&signed(SECRET, &body)), &body).await;
    assert_eq!(right.code, StatusCode::ACCEPTED);
    assert!(world.asked("ops").await.is_some());
    for path in ["/webhooks/events", "/webhooks/git", "/health", "/metrics", "/apis"] {
        let request = Request::post(path).body(Body::empty()).unwrap();
        let answer = public.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let get = Request::get("/webhooks/git/ops").body(Body::empty()).unwrap();
    assert_eq!(public.oneshot(get).await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_crash_around_the_commit_loses_no_push_that_is_brought_again() {
    for mode in [Mode::CrashBefore, Mode::CrashAfter, Mode::ErrorBefore, Mode::ErrorAfter] {
        let store = MemoryStore::new();
        let before = World::over(store.clone(), Arc::new(ScriptedSteps::new(Some((0, mode)))));
        before.add("ops", Some("hook"), None).await;
        let failed = before.push("ops", &main("1")).await;
        assert_eq!(failed.code, StatusCode::SERVICE_UNAVAILABLE, "{mode:?}");
        let after = World::over(store, Arc::new(FreeSteps));
        assert_eq!(after.push("ops", &main("1")).await.code, StatusCode::ACCEPTED);
        assert!(after.asked("ops").await.is_some(), "{mode:?}");
    }
}

/// A push with a signature that fits nothing, and a body that never comes.
fn stalled(name: &str) -> Request<Body> {
    Request::post(format!("/webhooks/git/{name}"))
        .header("content-type", "application/json")
        .header("x-hub-signature-256", format!("sha256={}", "a".repeat(64)))
        .body(Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>()))
        .unwrap()
}

#[tokio::test]
async fn bodies_that_never_come_keep_no_other_source_out_and_end_soon() {
    let world = World::new().await;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut answer = Box::pin(world.house.router.clone().oneshot(stalled("flooded")));
        // It is heard, and waits for its body; or there is no slot for it.
        match futures::poll!(answer.as_mut()) {
            std::task::Poll::Ready(answer) => {
                assert_eq!(answer.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
                refused += 1;
            }
            std::task::Poll::Pending => held.push(answer),
        }
    }
    assert_eq!((held.len(), refused), (16, 4));
    assert_eq!(world.push("ops", &main("1")).await.code, StatusCode::ACCEPTED);
    let ends = futures::future::join_all(held);
    let pass = async {
        loop {
            world.house.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
            if world.house.clock.elapsed() > Duration::from_secs(30) {
                std::future::pending::<()>().await;
            }
        }
    };
    let ends = tokio::select! {
        ends = ends => ends,
        () = pass => unreachable!("it waits for ever"),
    };
    for end in ends {
        assert_eq!(end.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    }
}

#[tokio::test]
async fn the_store_is_asked_for_nothing_that_bears_no_signature() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), Ambient::real()).await.unwrap();
    let world = World::over(store.clone(), Arc::new(FreeSteps));
    world.add("ops", Some("hook"), None).await;
    store.close().await;
    let body = main("1").to_string();
    for bad in [None, Some("sha256=00"), Some("sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709")] {
        let refused = world.call("ops", "push", bad, &body).await;
        assert_eq!(refused.code, StatusCode::UNAUTHORIZED, "{bad:?}: {}", refused.text());
    }
    let signed = world.push("ops", &main("1")).await;
    assert_eq!(signed.code, StatusCode::SERVICE_UNAVAILABLE, "it is closed: {}", signed.text());
}
