//! Promise: the same document makes the same object, whoever writes it. What a person need not say (the
//! agent, where it runs) is filled in alike by the API, the command line, chat and Sources, for Agents
//! and Jobs and for the Jobs of a Schedule; and what may not work here is refused by all of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/house.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod house;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use house::House;
use open_dispatch::{
    ambient::{Ambient, FreeSteps, ManualClock, SeededIds},
    chat::{Commands, Incoming, Settings, Via},
    resource::{AnyObject, Defaults, Document, Images, Kind},
    server::Extras,
    source::{Snapshot, SourceFile, set},
    store::{Conversation, Principal, Store, Subject, memory::MemoryStore},
};
use serde_json::{Value, json};

const NIGHTLY: &str = "apiVersion: opendispatch.dev/v1alpha1
kind: Schedule
metadata: {name: nightly}
spec:
  schedule: '@daily'
  jobTemplate: {spec: {task: Run the tests.}}
";
const BOT: &str = "apiVersion: opendispatch.dev/v1alpha1
kind: Agent
metadata: {name: bot}
spec: {instructions: Be brief.}
";
const CREW: &str = "apiVersion: opendispatch.dev/v1alpha1
kind: Fleet
metadata: {name: crew}
spec:
  generate: {list: [{dir: /srv/a}]}
  template: {kind: Agent, metadata: {name: a}, spec: {runtime: {local: {workdir: '{{dir}}'}}}}
";

/// A server whose usual place is Fly.
fn usual() -> Defaults {
    let images = Images { usual: Some("node".into()), ..Images::default() };
    Defaults { on_fly: true, images: Some(images), ..Defaults::default() }
}

/// One store, and all who write it in this process.
struct Desk {
    store: Arc<MemoryStore>,
    house: House,
    commands: Commands,
    defaults: Defaults,
    said: usize,
}

impl Desk {
    fn new(defaults: Defaults) -> Self {
        let store = MemoryStore::new();
        let extras = Extras { defaults: Some(Arc::new(defaults.clone())), ..Extras::default() };
        let house = House::with(Arc::clone(&store) as _, extras);
        let ambient = Ambient {
            clock: Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap())),
            ids: Arc::new(SeededIds::new(9)),
            steps: Arc::new(FreeSteps),
        };
        let admins = vec![Principal::user("slack", "ada")];
        let settings = Settings { defaults: defaults.clone(), admins };
        let commands = Commands::new(Arc::clone(&store) as _, ambient, settings);
        Self { store, house, commands, defaults, said: 0 }
    }

    async fn found(&self, kind: Kind, name: &str) -> Value {
        let found = self.store.get(kind, name).await.unwrap();
        found.unwrap_or_else(|| panic!("there is no {name}")).to_json()["spec"].take()
    }

    /// Sends a document as it stands, of any type.
    async fn sent(
        &self,
        method: Method,
        path: &str,
        sort: &str,
        body: String,
    ) -> (StatusCode, String) {
        let path = format!("/apis/opendispatch.dev/v1alpha1/{path}");
        let answer = self.house.send(house::ACCESS, method, &path, sort, body).await;
        let answer = house::read(answer).await;
        (answer.code, answer.text())
    }

    /// Ada says a line; what is told.
    async fn said(&mut self, line: &str, via: Via) -> Subject {
        self.said += 1;
        let place = Conversation { platform: "slack".into(), channel: "c".into(), thread: None };
        let key = format!("said/{}", self.said);
        let line = Incoming { via, ..Incoming::typed(key, place, "ada", line) };
        let delivery = self.commands.handle(&line).await.unwrap().delivery;
        self.store.delivery(&delivery).await.unwrap().unwrap().subject
    }

    /// What a Source makes of a file.
    fn declared(&self, text: &str) -> Result<Value, String> {
        let file = SourceFile { path: "a.yaml".to_owned(), text: text.to_owned(), repo: None };
        let snapshot = Snapshot { revision: String::new(), files: vec![file] };
        let rules = set::Rules {
            defaults: &self.defaults,
            policy: None,
            source: "ours",
            limits: set::Limits::WHOLE,
        };
        let read = set::Set::read(&snapshot, rules).map_err(|bad| bad.faults.to_string())?;
        let declared = read.objects.into_values().next().unwrap();
        assert_eq!(declared.object.to_json()["spec"], declared.base.spec);
        Ok(declared.base.spec.clone())
    }
}

/// A document as JSON that says no more than the YAML does.
fn as_json(text: &str) -> Value {
    Document::read(text, None).unwrap()[0].unfilled().unwrap().1
}

async fn everybody_agrees_on(kind: Kind, name: &str, text: &str) -> Value {
    let declared = Desk::new(usual()).declared(text).unwrap();
    let plural = kind.plural();
    for (method, path, sort, body) in [
        (Method::POST, plural.to_owned(), "application/json", as_json(text).to_string()),
        (Method::POST, plural.to_owned(), "application/yaml", text.to_owned()),
        (
            Method::PATCH,
            format!("{plural}/{name}?fieldManager=me"),
            "application/apply-patch+yaml",
            text.to_owned(),
        ),
    ] {
        let mut desk = Desk::new(usual());
        let (code, answer) = desk.sent(method.clone(), &path, sort, body).await;
        assert!(code.is_success(), "{method} {path} {sort}: {answer}");
        assert_eq!(desk.found(kind, name).await, declared, "{method} {sort}");
        // The same in the place of what is there changes nothing.
        let (code, answer) = desk
            .sent(Method::PUT, &format!("{plural}/{name}"), "application/yaml", text.to_owned())
            .await;
        assert!(code.is_success(), "{answer}");
        assert_eq!(desk.found(kind, name).await, declared, "PUT after {method} {sort}");
        let told = desk.said(&format!("/od-diff {text}"), Via::Addressed).await;
        assert!(
            matches!(&told, Subject::Notice { text } if text.contains("unchanged")),
            "{told:?}"
        );
    }
    let mut desk = Desk::new(usual());
    let Subject::Offer { pending, .. } =
        desk.said(&format!("/od-apply {text}"), Via::Addressed).await
    else {
        panic!("/od-apply offers nothing");
    };
    assert!(pending.to_string().contains("created"), "{pending}");
    declared
}

#[tokio::test]
async fn the_same_document_makes_the_same_object_whoever_writes_it() {
    let schedule = everybody_agrees_on(Kind::Schedule, "nightly", NIGHTLY).await;
    assert_eq!(schedule["jobTemplate"]["spec"]["runtime"], json!({"fly": {}}));
    assert_eq!(schedule["jobTemplate"]["spec"]["agent"], json!({"claude": {}}));
    let agent = everybody_agrees_on(Kind::Agent, "bot", BOT).await;
    assert_eq!(agent["runtime"], json!({"fly": {}}));
}

#[tokio::test]
async fn a_line_of_chat_makes_the_schedule_that_a_file_makes() {
    let mut desk = Desk::new(usual());
    let line = "/od-schedule add @daily --name nightly Run the tests.";
    let told = desk.said(line, Via::Addressed).await;
    assert!(matches!(told, Subject::Notice { .. }), "{told:?}");
    let mut said = desk.found(Kind::Schedule, "nightly").await;
    let template = &mut said["jobTemplate"]["spec"];
    // Who asks in a channel is told there; a file says no channel.
    template.as_object_mut().unwrap().remove("report");
    let mut declared = desk.declared(NIGHTLY).unwrap();
    declared["jobTemplate"]["spec"].as_object_mut().unwrap().remove("report");
    assert_eq!(said, declared);
}

#[tokio::test]
async fn what_may_not_work_here_is_refused_by_all_of_them() {
    let roots = vec!["/home/a".into()];
    let mut desk = Desk::new(Defaults { home: "/home/a".into(), roots, ..usual() });
    let outside = NIGHTLY.replace(
        "task: Run the tests.",
        "task: t, runtime: {local: {workdir: /etc}}, agent: {claude: {}}",
    );
    let crew = CREW.replace("spec: {runtime", "spec: {agent: {claude: {}}, runtime");
    for (kind, path, text) in [
        (Kind::Schedule, "spec.jobTemplate.spec.runtime.local.workdir", &outside),
        (Kind::Fleet, "spec.template.spec.runtime.local.workdir", &crew),
    ] {
        let source = desk.declared(text).unwrap_err();
        assert!(source.contains(path), "{source}");
        let (code, answer) =
            desk.sent(Method::POST, kind.plural(), "application/yaml", text.clone()).await;
        assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert!(answer.contains(path) && answer.contains("OPEN_DISPATCH_ROOTS"), "{answer}");
        let Subject::Notice { text } =
            desk.said(&format!("/od-apply {text}"), Via::Addressed).await
        else {
            panic!("it was offered");
        };
        assert!(text.contains(path), "{text}");
        let all = desk.store.list(kind, None, 9).await.unwrap().items;
        assert_eq!(all, Vec::<AnyObject>::new());
    }
}

#[tokio::test]
async fn what_was_allowed_once_may_stay_where_it_is_and_goes_nowhere_else() {
    let before = Desk::new(Defaults::default());
    let text = NIGHTLY.replace(
        "task: Run the tests.",
        "task: t, runtime: {local: {workdir: /etc}}, agent: {claude: {}}",
    );
    let (code, answer) =
        before.sent(Method::POST, "schedules", "application/yaml", text.clone()).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let roots = vec!["/home/a".into()];
    let now = Defaults { roots, ..Defaults::default() };
    let extras = Extras { defaults: Some(Arc::new(now)), ..Extras::default() };
    let house = House::with(Arc::clone(&before.store) as _, extras);
    let suspend = json!({"spec": {"suspend": true}});
    let answer = house.call(Method::PATCH, "schedules/nightly", Some(&suspend)).await;
    assert_eq!(answer.code, StatusCode::OK, "{}", answer.text());
    let moved =
        json!({"spec": {"jobTemplate": {"spec": {"runtime": {"local": {"workdir": "/usr"}}}}}});
    let answer = house.call(Method::PATCH, "schedules/nightly", Some(&moved)).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text());
}

#[tokio::test]
async fn what_an_applier_gives_up_is_filled_in_again_as_a_put_of_the_same_fills_it() {
    let full = BOT.replace(
        "spec: {instructions: Be brief.}",
        "spec: {agent: {codex: {}}, runtime: {local: {workdir: /srv}}, budget: {usd: 5}}",
    );
    let nightly =
        NIGHTLY.replace("task: Run the tests.", "task: Run the tests., agent: {codex: {}}");
    for (kind, name, full, less) in [
        (Kind::Agent, "bot", full.as_str(), BOT),
        (Kind::Schedule, "nightly", nightly.as_str(), NIGHTLY),
    ] {
        let path = format!("{}/{name}", kind.plural());
        let applied = format!("{path}?fieldManager=me");
        let mut seen = Vec::new();
        for (method, path, sort) in [
            (Method::PATCH, &applied, "application/apply-patch+yaml"),
            (Method::PUT, &path, "application/yaml"),
        ] {
            let desk = Desk::new(usual());
            for text in [full, less] {
                let sort = if text == full { "application/apply-patch+yaml" } else { sort };
                let (method, path) =
                    if text == full { (Method::PATCH, &applied) } else { (method.clone(), path) };
                let (code, answer) = desk.sent(method, path, sort, text.to_owned()).await;
                assert!(code.is_success(), "{name} {sort}: {answer}");
            }
            seen.push(desk.found(kind, name).await);
        }
        assert_eq!(seen[0], seen[1], "{name}: to apply and to put it are the same");
    }
    // What was filled in is nobody's: another may say it without a conflict.
    let desk = Desk::new(usual());
    let apply = "application/apply-patch+yaml";
    for (text, manager) in [(full.as_str(), "me"), (BOT, "me"), (full.as_str(), "you")] {
        let path = format!("agents/bot?fieldManager={manager}");
        let (code, answer) = desk.sent(Method::PATCH, &path, apply, text.to_owned()).await;
        assert!(code.is_success(), "{manager}: {answer}");
    }
}
