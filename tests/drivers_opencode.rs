//! The common claims on drivers, held against real OpenCode, and its own traps.

mod driver_suite;
#[path = "support/opencode.rs"]
mod opencode;
#[path = "opencode/rules.rs"]
mod rules;
#[path = "opencode/stream.rs"]
mod stream;

use driver_suite::{Can, Candidate, desk, desk::Desk, fake_model::FakeModel};
use sprite_reporter::{
    driver::{DriverOrder, Said},
    wire::{AgentSpec, ApprovalKind, EventBody, ExitReason, PermissionMode, Stream, TurnOutcome},
};

struct OpenCode;

impl Candidate for OpenCode {
    fn desk(&self, model: &FakeModel) -> Option<Desk> {
        Some(opencode::desk(&opencode::binary()?, model.url()))
    }

    fn can(&self) -> Can {
        Can {
            tell_retries: true,
            hear_reasons: true,
            count: true,
            count_within: true,
            accept_edits: true,
            plan: true,
            allow_python: Some("bash(python3 -c *)"),
            gone_session: "ses_e022116e1fferAm4sR3fV1XQvt",
            key_mend: "opencode auth login",
        }
    }
}

driver_suite::claims!(OpenCode);

/// A desk with a model, or none where OpenCode is not installed.
async fn seat() -> Option<(Desk, FakeModel)> {
    let model = FakeModel::start().await;
    Some((OpenCode.desk(&model)?, model))
}

#[tokio::test]
async fn model_and_instructions_reach_the_model_and_nobody_is_asked_for_a_title() {
    let Some((mut desk, model)) = seat().await else { return };
    let AgentSpec::Opencode { path, .. } = desk.spec.agent.clone() else { panic!("OpenCode") };
    desk.spec.agent = AgentSpec::Opencode {
        path,
        model: Some("fake/two".to_owned()),
        instructions: Some("--- Prefer \"small\" commits, über alles.".to_owned()),
    };
    let mut run = desk.job("hello").await;
    assert_eq!(run.exit().await.reason, ExitReason::Completed);
    let requests = model.requests();
    let [asked] = requests.as_slice() else { panic!("one request: {}", requests.len()) };
    assert_eq!(asked.body["model"], "two");
    assert!(asked.body["messages"].to_string().contains("über alles"), "the instructions");
    assert!(asked.key.contains("test-key"), "the person's own configuration");
}

#[tokio::test]
async fn a_model_without_a_provider_is_refused_with_the_mend() {
    let Some((mut desk, _model)) = seat().await else { return };
    let AgentSpec::Opencode { path, .. } = desk.spec.agent.clone() else { panic!("OpenCode") };
    let model = Some("two".to_owned());
    desk.spec.agent = AgentSpec::Opencode { path, model, instructions: None };
    let exit = desk.start().exit().await;
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.contains("provider/model"), "{}", exit.message);
}

#[tokio::test]
async fn a_person_answers_questions() {
    let Some((mut desk, model)) = seat().await else { return };
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    let question = r#"{"questions":[{"question":"Which colour?","header":"Colour","options":[{"label":"red","description":"r"},{"label":"blue","description":"b"}]}]}"#;
    run.prompt("t1", &format!("[[tool:question|{question}]] thanks")).await;
    let (request, questions) = run
        .event("a question", |event| match event {
            EventBody::Approval { request, kind: ApprovalKind::Question, questions, .. } => {
                Some((request.clone(), questions.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!(questions[0].options, ["red", "blue"]);
    let answers = [("Which colour?".to_owned(), "blue".to_owned())].into();
    let message = String::new();
    run.order(DriverOrder::Answer { request, allow: true, message, answers }).await;
    let turn = run.ended("t1").await;
    assert_eq!(turn.text.trim_end(), "echo: thanks", "{turn:?}");
    let told = model.requests().pop().expect("a request").body;
    let told = told["messages"].as_array().and_then(|all| all.last()?["content"].as_str());
    let answer = "\"Which colour?\"=\"blue\"";
    assert!(told.is_some_and(|told| told.contains(answer)), "{told:?}");
}

#[tokio::test]
async fn a_server_that_has_grown_large_begins_anew_and_the_session_goes_on() {
    let Some((mut desk, model)) = seat().await else { return };
    desk.set("OPEN_DISPATCH_OPENCODE_MEMORY_MB", "1");
    let mut run = desk.start();
    run.turn("t1", "remember the number 7341").await;
    let turn = run.turn("t2", "and now").await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    let sessions = run.events().into_iter().filter(|e| matches!(e, EventBody::Session { .. }));
    assert_eq!(sessions.count(), 1, "one session");
    let last = model.requests().pop().expect("a request");
    assert!(last.body.to_string().contains("7341"), "it remembers");
    let is_said = run.heard().iter().any(|said| {
        matches!(said, Said::Log(Stream::System, line) if line.ends_with(b"the session goes on\n"))
    });
    assert!(is_said);
    run.stop().await;
    desk.comes_true("nothing is left", |desk| desk.tree().is_empty()).await;
}

#[tokio::test]
async fn the_password_stands_on_no_command_line() {
    let Some((mut desk, _model)) = seat().await else { return };
    desk.set("OPENCODE_SERVER_PASSWORD", "the-persons-own");
    let mut run = desk.start();
    run.session().await;
    let pid = desk.pids().pop().expect("a server");
    let read = |name: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{name}")).expect("the process");
        String::from_utf8_lossy(&bytes).replace('\0', "\n")
    };
    let (environ, line) = (read("environ"), read("cmdline"));
    let passwords: Vec<_> =
        environ.lines().filter_map(|it| it.strip_prefix("OPENCODE_SERVER_PASSWORD=")).collect();
    let [password] = passwords.as_slice() else { panic!("one password: {passwords:?}") };
    assert!(password.len() >= 32 && !line.contains(password), "{line}");
    run.stop().await;
}
