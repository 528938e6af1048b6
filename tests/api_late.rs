//! Promise: whoever's token ends while the body of a request is still on its way does nothing more, and
//! is not told that anything was done: on every route that there is.
//!
//! The router itself says which routes there are, so one that is new fails here until it has a row.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;
#[path = "support/routes.rs"]
mod routes;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::{Method, StatusCode};
use house::{Answer, House, read, uid};
use open_dispatch::{
    resource::Kind,
    server,
    store::{
        Approval, ApprovalState, Base, Conversation, Grant, Op, Owned, Pairing, Principal, Role,
        files::Files, memory::MemoryStore,
    },
};
use routes::{is_guarded, routes, token, whole};
use serde_json::{Value, json};
use sprite_reporter::wire::ApprovalKind;

/// What reads the body of a request, and so may wait for it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// It writes, once the body is there, or has ended where it takes none.
    Writes,
    /// It answers what the body asks, and writes nothing.
    Answers,
}
use Does::{Answers, Writes};

/// A route, and a request that it would do something for.
struct Row {
    method: &'static str,
    /// As the router has it; `~` for what all our paths begin with.
    route: &'static str,
    path: &'static str,
    body: Value,
    does: Does,
}

fn row(
    method: &'static str,
    route: &'static str,
    path: &'static str,
    does: Does,
    body: Value,
) -> Row {
    Row { method, route, path, body, does }
}

/// Every route that takes anything but GET.
fn table() -> Vec<Row> {
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let scale = json!({"metadata": {"name": "three"}, "spec": {"replicas": 4}});
    let status = json!({"status": {"observedGeneration": 7}});
    let mut old = job("old");
    old["metadata"]["labels"] = json!({"a": "b"});
    let mut seen = job("old");
    seen["status"] = status["status"].clone();
    let may_i = json!({"kind": "SelfSubjectAccessReview", "spec": {"nonResourceAttributes":
        {"verb": "get", "path": "/version"}}});
    let review = |kind: &str| json!({"kind": kind, "spec": {}});
    let authorization = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    vec![
        row("POST", "~/{plural}", "~/jobs", Writes, job("new")),
        row("DELETE", "~/{plural}", "~/jobs?fieldSelector=metadata.name%3Dold", Writes, json!({})),
        row("PUT", "~/{plural}/{name}", "~/jobs/old", Writes, old),
        row("PATCH", "~/{plural}/{name}", "~/jobs/old", Writes, label),
        row("DELETE", "~/{plural}/{name}", "~/jobs/old", Writes, json!({})),
        row("PUT", "~/{plural}/{name}/scale", "~/fleets/three/scale", Writes, scale.clone()),
        row("PATCH", "~/{plural}/{name}/scale", "~/fleets/three/scale", Writes, scale),
        row("PUT", "~/{plural}/{name}/status", "~/jobs/old/status", Writes, seen),
        row("PATCH", "~/{plural}/{name}/status", "~/jobs/old/status", Writes, status),
        row("POST", "~/{plural}/{name}/release", "~/jobs/owned/release", Writes, json!({})),
        row(
            "POST",
            "~/{plural}/{name}/approvals/{request}",
            "~/agents/bot/approvals/r",
            Writes,
            json!({"allow": true, "always": true}),
        ),
        row("POST", "~/agents/{name}/turns", "~/agents/bot/turns", Writes, json!({"text": "hi"})),
        row(
            "POST",
            "~/agents/{name}/turns/{id}/cancel",
            "~/agents/bot/turns/TURN/cancel",
            Writes,
            json!({"by": "ada"}),
        ),
        row("DELETE", "~/agents/{name}/grants/{id}", "~/agents/bot/grants/g", Writes, json!({})),
        row("POST", "/files", "/files?name=a.txt", Writes, json!("what a file says")),
        row("POST", "~/fly/leaks/confirm", "~/fly/leaks/confirm", Writes, json!({})),
        row(
            "POST",
            "~/access/pairings/{code}/approve",
            "~/access/pairings/BCDFGHJK/approve",
            Writes,
            json!({"role": "admin"}),
        ),
        row(
            "PUT",
            "~/access/grants/{principal}",
            "~/access/grants/slack:U9",
            Writes,
            json!({"role": "admin"}),
        ),
        row("DELETE", "~/access/grants/{principal}", "~/access/grants/slack:U1", Writes, json!({})),
        row("POST", "~/tokens", "~/tokens", Writes, json!({"name": "other", "role": "admin"})),
        row("DELETE", "~/tokens/{name}", "~/tokens/there", Writes, json!({})),
        row("PUT", "~/secrets/{name}", "~/secrets/hush", Writes, json!("hush")),
        row("DELETE", "~/secrets/{name}", "~/secrets/there", Writes, json!({})),
        row(
            "POST",
            "/console/messages",
            "/console/messages",
            Writes,
            json!({"requestId": "r", "author": "ada", "text": "od-run --agent command true"}),
        ),
        // Nobody is attached: whose acknowledgement is read is told so.
        row("POST", "/console/acks", "/console/acks", Answers, json!({"client": "c", "n": 1})),
        row("POST", authorization, authorization, Answers, may_i),
        row("POST", rules, rules, Answers, review("SelfSubjectRulesReview")),
        row("POST", whoami, whoami, Answers, review("SelfSubjectReview")),
    ]
}

fn job(name: &str) -> Value {
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Job", "metadata": {"name": name},
        "spec": {"task": "true", "agent": {"command": {}}}})
}

/// A server in which every row of the table finds what it is about, and a token that is nearly over.
struct World {
    house: Arc<House>,
    ci: String,
    turn: String,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keeper = open_dispatch::secrets::Secrets::new(dir.path().join("secrets"), Vec::new());
        let extras = server::Extras { secrets: Some(keeper), ..server::Extras::default() };
        let mut house = House::with(MemoryStore::new(), extras);
        let files = Arc::new(Files::open(dir.path().join("files")).unwrap());
        house.state.keep_files(files.clone());
        house.router = whole(&house, Some(files));
        let ci = token(&house, "ci", Role::Admin, Some("1h")).await;
        house.clock.advance(Duration::from_secs(3_595));
        token(&house, "there", Role::Viewer, None).await;
        let turn = Self::furnish(&house).await;
        Self { house: Arc::new(house), ci, turn, dir }
    }

    async fn furnish(house: &House) -> String {
        let make = async |path: &str, body: Value| {
            let made = house.call(Method::POST, path, Some(&body)).await;
            assert!(made.code.is_success(), "{path}: {}", made.text());
            made.json()
        };
        make("jobs", job("old")).await;
        let owned = make("jobs", job("owned")).await["metadata"]["uid"].clone();
        let bot = make("agents", agent()).await["metadata"]["uid"].as_str().unwrap().to_owned();
        let turn = make("agents/bot/turns", json!({"text": "wait"})).await["id"].clone();
        let fleet = json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Fleet",
            "metadata": {"name": "three"}, "spec": {"generate": {"replicas": 3},
            "suspend": true, "template": {"kind": "Agent", "metadata": {"name": "three-{{index}}"},
            "spec": {"agent": {"command": {}}}}}});
        make("fleets", fleet).await;
        let secret = house.call(Method::PUT, "secrets/there", Some(&json!("quiet"))).await;
        assert!(secret.code.is_success(), "{}", secret.text());
        let known = json!({"role": "user"});
        let known = house.call(Method::PUT, "access/grants/slack:U1", Some(&known)).await;
        assert!(known.code.is_success(), "{}", known.text());
        house.owned_sprite("bot-1", Kind::Agent, &bot, 1).await;
        let ops = vec![
            Op::AddApproval(approval(house.now())),
            Op::AddGrant(grant(&bot, house.now())),
            Op::OpenPairing(pairing(house.now())),
            Op::Own(owned_row(owned.as_str().unwrap())),
        ];
        house.apply(ops).await;
        turn.as_str().unwrap().to_owned()
    }

    /// What the disk holds beside the store.
    fn on_disk(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for name in ["secrets", "files"] {
            for entry in std::fs::read_dir(self.dir.path().join(name)).into_iter().flatten() {
                let path = entry.unwrap().path();
                found.insert(format!("{} {:?}", path.display(), std::fs::read(&path).unwrap()));
            }
        }
        found
    }

    /// Sends a request whose body comes when the token has ended; and whether it was waited for.
    async fn send(&self, row: &Row, how: End) -> (Answer, bool) {
        let sort = match row.method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let waited = Arc::new(AtomicBool::new(false));
        let (house, noted, body) = (self.house.clone(), waited.clone(), row.body.to_string());
        let late = futures::stream::once(async move {
            noted.store(true, Ordering::SeqCst);
            end(&house, how).await;
            Ok::<_, std::convert::Infallible>(body)
        });
        let path = row.path.replace('~', house::API).replace("TURN", &self.turn);
        let method = row.method.parse().unwrap();
        let late = axum::body::Body::from_stream(late);
        let answer = read(self.house.send(&self.ci, method, &path, sort, late).await).await;
        (answer, waited.load(Ordering::SeqCst))
    }
}

fn agent() -> Value {
    json!({"apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent",
        "metadata": {"name": "bot"}, "spec": {"agent": {"command": {}}}})
}

fn approval(created: jiff::Timestamp) -> Approval {
    Approval {
        sprite_uid: uid("bot-1"),
        run: 1,
        request: "r".to_owned(),
        turn: "turn".to_owned(),
        tool: "Bash".to_owned(),
        title: "cargo test".to_owned(),
        input: json!({"command": "cargo test"}),
        kind: ApprovalKind::Tool,
        rule: Some("Bash(cargo test:*)".to_owned()),
        questions: Vec::new(),
        answers: Default::default(),
        state: ApprovalState::Pending,
        by: String::new(),
        message: String::new(),
        resolved: None,
        user: None,
        grant: None,
        created,
    }
}

fn grant(agent_uid: &str, created: jiff::Timestamp) -> Grant {
    Grant {
        id: "g".to_owned(),
        agent_uid: agent_uid.to_owned(),
        tool: "Bash".to_owned(),
        rule: "Bash(ls:*)".to_owned(),
        by: "ada".to_owned(),
        user: None,
        created,
    }
}

fn pairing(created: jiff::Timestamp) -> Pairing {
    Pairing {
        code: "BCDFGHJK".to_owned(),
        principal: Principal::user("slack", "U2"),
        name: "bob".to_owned(),
        conversation: Conversation {
            platform: "slack".to_owned(),
            channel: "C1".to_owned(),
            thread: None,
        },
        created,
        expires: created + Duration::from_hours(1),
    }
}

fn owned_row(uid: &str) -> Owned {
    Owned {
        kind: Kind::Job,
        name: "owned".to_owned(),
        uid: uid.to_owned(),
        source_uid: "s".to_owned(),
        source: "ours".to_owned(),
        base: Base { spec: job("owned")["spec"].clone(), ..Base::default() },
        file: "owned.yaml".to_owned(),
        line: 1,
        overrides: Vec::new(),
        leaving: false,
        version: 0,
    }
}

/// What ends a token.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// Nothing: it goes on.
    None,
    Revoked,
    /// A new one has its name, and may as much.
    Replaced,
    /// A new one has its name, and may less.
    Lowered,
    Over,
}

async fn end(house: &House, end: End) {
    let replace = async |role: &str| {
        let wish = json!({"name": "ci", "role": role, "replace": true});
        let made = house.call(Method::POST, "tokens", Some(&wish)).await;
        assert_eq!(made.code, StatusCode::CREATED, "{}", made.text());
    };
    match end {
        End::None => {}
        End::Revoked => {
            let gone = house.call(Method::DELETE, "tokens/ci", None).await;
            assert_eq!(gone.code, StatusCode::OK);
        }
        End::Replaced => replace("admin").await,
        End::Lowered => replace("viewer").await,
        End::Over => house.clock.advance(Duration::from_secs(10)),
    }
}

#[tokio::test]
async fn every_route_that_writes_has_a_row() {
    let house = House::new();
    let routes: BTreeSet<(String, String)> = routes(&whole(&house, None))
        .into_iter()
        .filter(|(method, path)| method != "GET" && is_guarded(path))
        .collect();
    let rows: BTreeSet<(String, String)> = table()
        .iter()
        .map(|row| (row.method.to_owned(), row.route.replace('~', house::API)))
        .collect();
    assert_eq!(rows, routes);
}

#[tokio::test]
async fn a_token_that_stands_does_what_each_row_says() {
    for row in table() {
        let world = World::new().await;
        let what = format!("{} {}", row.method, row.path);
        let (writes, disk) = (world.house.store.writes(), world.on_disk());
        let (answer, waited) = world.send(&row, End::None).await;
        let wrote = world.house.store.writes() != writes || world.on_disk() != disk;
        assert_eq!(wrote, row.does != Answers, "{what}: {}", answer.text());
        assert!(waited, "{what}");
        let is_told = answer.code.is_success() || row.path == "/console/acks";
        assert!(is_told, "{what}: {}", answer.text());
    }
}

#[tokio::test]
async fn nothing_is_done_by_a_token_that_ends_before_its_body_has_come() {
    for row in &table() {
        for how in [End::Revoked, End::Replaced, End::Lowered, End::Over] {
            let what = format!("{} {}, {how:?}", row.method, row.path);
            let world = World::new().await;
            let (writes, disk) = (world.house.store.writes(), world.on_disk());
            let (answer, waited) = world.send(row, how).await;
            // What ended the token was a write as well, unless it was time.
            let ends = u64::from(how != End::Over);
            assert!(waited, "{what}");
            assert_eq!(world.house.store.writes(), writes + ends, "{what}: {}", answer.text());
            assert_eq!(world.on_disk(), disk, "{what}");
            assert_eq!(answer.code, StatusCode::UNAUTHORIZED, "{what}: {}", answer.text());
            assert!(answer.text().contains("so nothing was done"), "{what}: {}", answer.text());
        }
    }
}
