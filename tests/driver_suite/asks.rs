//! Claims on what a person is asked: approvals, permission modes, rules.

use sprite_reporter::{
    driver::DriverOrder,
    wire::{ApprovalKind, EventBody, PermissionMode, TurnOutcome},
};

use super::{Candidate, seated};

/// A directive that makes a file by the shell.
fn makes(file: &str) -> String {
    format!("[[bash:python3 -c 'open(\"{file}\", \"w\").write(\"x\")']]")
}

/// What is allowed runs, what is denied does not, and each is asked once.
pub async fn a_person_allows_and_denies(candidate: &impl Candidate) {
    let (mut desk, model) = seated!(candidate);
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    run.prompt("t1", &format!("{} {}", makes("yes"), makes("no"))).await;

    let (request, title) = run.approval().await;
    assert!(title.contains("yes"), "{title}");
    assert!(!desk.file("yes").exists(), "it waits");
    run.answer(request, true, "").await;
    let (request, title) = run.approval().await;
    assert!(title.contains("no"), "{title}");
    run.answer(request, false, "not on a friday, please").await;

    let turn = run.ended("t1").await;
    assert_ne!(turn.outcome, TurnOutcome::Failed, "{turn:?}");
    assert!(desk.file("yes").exists() && !desk.file("no").exists());
    if candidate.can().hear_reasons {
        let told = |body: String| body.contains("not on a friday, please");
        assert!(model.requests().iter().any(|asked| told(asked.body.to_string())));
    }
    let approvals: Vec<_> = run
        .events()
        .into_iter()
        .filter_map(|event| match event {
            EventBody::Approval { turn, kind, .. } => Some((turn.as_str(), *kind)),
            _ => None,
        })
        .collect();
    assert_eq!(approvals, [("t1", ApprovalKind::Tool); 2]);
    assert_eq!(run.turn("t2", "go on").await.text.trim_end(), "echo: go on");
}

/// Nobody needs to answer what is not waited for any more.
pub async fn an_interrupt_withdraws_what_was_asked(candidate: &impl Candidate) {
    let (mut desk, _model) = seated!(candidate);
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    run.prompt("t1", &makes("no")).await;
    let (request, _) = run.approval().await;
    run.order(DriverOrder::Interrupt).await;
    run.event("the withdrawal", |event| {
        matches!(event, EventBody::ApprovalWithdrawn { request: id } if *id == request)
            .then_some(())
    })
    .await;
    assert_eq!(run.ended("t1").await.outcome, TurnOutcome::Cancelled);
    // An answer that comes too late means nothing.
    run.answer(request, true, "").await;
    assert_eq!(run.turn("t2", "go on").await.text.trim_end(), "echo: go on");
    assert!(!desk.file("no").exists());
}

/// Who works unattended is not asked.
pub async fn bypass_asks_nothing(candidate: &impl Candidate) {
    let (mut desk, _model) = seated!(candidate);
    desk.mode(PermissionMode::Bypass);
    let mut run = desk.start();
    let written = desk.file("written");
    let prompt = format!("{} [[write:{}|x]] last", makes("made"), written.display());
    let turn = run.turn("t1", &prompt).await;
    assert_eq!(turn.text.trim_end(), "echo: last", "{turn:?}");
    assert!(desk.file("made").exists() && written.exists());
    let asked = |event: &&EventBody| matches!(event, EventBody::Approval { .. });
    assert_eq!(run.events().iter().find(|event| asked(event)), None);
}

/// Edits within the work directory pass; commands are asked about.
pub async fn accept_edits_asks_about_commands_alone(candidate: &impl Candidate) {
    let (mut desk, _model) = seated!(candidate);
    desk.mode(PermissionMode::AcceptEdits);
    let mut run = desk.start();
    let written = desk.file("written");
    run.prompt("t1", &format!("[[write:{}|x]] {}", written.display(), makes("made"))).await;
    let (request, title) = run.approval().await;
    if candidate.can().accept_edits {
        assert!(title.contains("python3"), "{title}");
        assert!(written.exists() && !desk.file("made").exists());
    }
    run.answer(request, true, "").await;
}

/// Who only plans leaves everything as it is.
pub async fn a_plan_changes_nothing(candidate: &impl Candidate) {
    let (mut desk, _model) = seated!(candidate);
    if !candidate.can().plan {
        return;
    }
    desk.mode(PermissionMode::Plan);
    let mut run = desk.start();
    let written = desk.file("written");
    let prompt = format!("{} [[write:{}|x]] the plan", makes("made"), written.display());
    let turn = run.turn("t1", &prompt).await;
    assert_ne!(turn.outcome, TurnOutcome::Failed, "{turn:?}");
    assert!(!desk.file("made").exists() && !written.exists());
}

/// A rule of the spec stands for an answer.
pub async fn allow_rules_pass_unasked_and_the_rest_is_asked(candidate: &impl Candidate) {
    let (mut desk, _model) = seated!(candidate);
    let Some(rule) = candidate.can().allow_python else { return };
    desk.mode(PermissionMode::Ask);
    desk.spec.permissions.allow = vec![rule.to_owned()];
    let mut run = desk.start();
    run.prompt("t1", &format!("{} [[bash:touch other]]", makes("made"))).await;
    let (_, title) = run.approval().await;
    assert!(title.contains("touch other"), "{title}");
    assert!(desk.file("made").exists() && !desk.file("other").exists());
}
