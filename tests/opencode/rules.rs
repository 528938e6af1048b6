//! A person's own rules (`opencode.json`) and those of the run's mode.

use serde_json::{Value, json};
use sprite_reporter::wire::{EventBody, PermissionMode, TurnOutcome};

use super::{
    driver_suite::desk::{Desk, Run, Turn},
    seat,
};

/// Writes the project's configuration of OpenCode.
fn configure(desk: &Desk, settings: Value) {
    std::fs::write(desk.file("opencode.json"), settings.to_string()).expect("the settings");
}

/// The titles of all that a person was asked.
fn asked(run: &Run) -> Vec<String> {
    let title = |event: &EventBody| match event {
        EventBody::Approval { title, .. } => Some(title.clone()),
        _ => None,
    };
    run.events().into_iter().filter_map(title).collect()
}

fn succeeded(turn: &Turn) {
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
}

/// A directive that writes a file of the work directory.
fn writes(desk: &Desk, name: &str) -> String {
    format!("[[write:{}|x]]", desk.file(name).display())
}

#[tokio::test]
async fn what_a_person_denies_stays_denied_in_every_mode() {
    use PermissionMode::{AcceptEdits, Ask, Bypass, Plan};
    for mode in [Ask, AcceptEdits, Plan, Bypass] {
        let Some((mut desk, _model)) = seat().await else { return };
        let rules = json!({"bash": {"touch *": "deny"}, "edit": {"*.key": "deny"}});
        configure(&desk, json!({"permission": rules}));
        desk.mode(mode);
        desk.spec.permissions.allow = vec!["bash".to_owned(), "edit".to_owned()];
        let mut run = desk.start();
        let (key, other) = (writes(&desk, "a.key"), writes(&desk, "other"));
        let shell = "[[bash:touch no]] [[bash:cp opencode.json yes]]";
        succeeded(&run.turn("t1", &format!("{shell} {key} {other} last")).await);
        assert!(!desk.file("no").exists() && !desk.file("a.key").exists(), "{mode:?}");
        assert!(desk.file("yes").exists(), "the spec's rule holds for all else: {mode:?}");
        assert_eq!(desk.file("other").exists(), mode != Plan, "{mode:?}");
        assert_eq!(asked(&run), Vec::<String>::new(), "{mode:?}");
    }
}

#[tokio::test]
async fn what_a_person_excepts_from_a_denial_is_as_the_mode_has_it() {
    let Some((mut desk, _model)) = seat().await else { return };
    configure(&desk, json!({"permission": {"bash": {"*": "deny", "cp *": "allow"}}}));
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    run.prompt("t1", "[[bash:touch no]] [[bash:cp opencode.json yes]] last").await;
    let (request, title) = run.approval().await;
    assert_eq!(title, "bash: cp opencode.json yes");
    run.answer(request, true, "").await;
    succeeded(&run.ended("t1").await);
    assert!(desk.file("yes").exists() && !desk.file("no").exists());
}

#[tokio::test]
async fn a_tool_that_a_person_denies_altogether_is_not_offered_to_the_model() {
    let Some((mut desk, model)) = seat().await else { return };
    configure(&desk, json!({"permission": {"webfetch": "deny"}}));
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    succeeded(&run.turn("t1", "hello").await);
    let asked = model.requests().pop().expect("a request").body;
    let tools: Vec<_> = asked["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .filter_map(|tool| tool["function"]["name"].as_str())
        .collect();
    assert!(tools.contains(&"bash") && !tools.contains(&"webfetch"), "{tools:?}");
}

#[tokio::test]
async fn rules_of_an_agent_of_ones_own_deny_and_do_not_loosen_the_mode() {
    let Some((mut desk, _model)) = seat().await else { return };
    let rules = json!({"bash": {"*": "allow", "touch *": "deny"}});
    configure(&desk, json!({"agent": {"build": {"permission": rules}}}));
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    run.prompt("t1", "[[bash:touch no]] [[bash:cp opencode.json yes]] last").await;
    let (request, title) = run.approval().await;
    assert_eq!(title, "bash: cp opencode.json yes");
    run.answer(request, false, "").await;
    succeeded(&run.ended("t1").await);
    assert!(!desk.file("yes").exists() && !desk.file("no").exists());
}

#[tokio::test]
async fn a_subagent_may_no_more_than_who_calls_it() {
    let Some((mut desk, _model)) = seat().await else { return };
    configure(&desk, json!({"permission": {"bash": {"touch *": "deny"}}}));
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    let task = json!({
        "description": "help",
        "subagent_type": "general",
        "prompt": "[[bash:touch no]] [[bash:cp opencode.json yes]] helped",
    });
    run.prompt("t1", &format!("[[tool:task|{task}]] last")).await;
    let (request, title) = run.approval().await;
    assert_eq!(title, "bash: cp opencode.json yes");
    run.answer(request, true, "").await;
    succeeded(&run.ended("t1").await);
    assert!(desk.file("yes").exists() && !desk.file("no").exists());
}

#[tokio::test]
async fn a_session_that_is_resumed_has_the_rules_of_today() {
    let Some((mut desk, _model)) = seat().await else { return };
    configure(&desk, json!({"permission": {"bash": {"touch *": "deny"}}}));
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    let id = run.session().await;
    succeeded(&run.turn("t1", "[[bash:touch no]] first").await);
    assert_eq!(asked(&run), Vec::<String>::new());
    run.stop().await;

    // Nothing is denied any more, so that a person is asked.
    desk.spec.session = Some(id);
    configure(&desk, json!({}));
    let mut run = desk.start();
    run.prompt("t2", "[[anew]] [[bash:touch no]] second").await;
    let (request, _) = run.approval().await;
    run.answer(request, false, "").await;
    succeeded(&run.ended("t2").await);
    run.stop().await;

    // Nor is anybody asked who is not there.
    desk.mode(PermissionMode::Bypass);
    let mut run = desk.start();
    succeeded(&run.turn("t3", "[[anew]] [[bash:touch yes]] third").await);
    assert!(desk.file("yes").exists() && !desk.file("no").exists());
    assert_eq!(asked(&run), Vec::<String>::new());
}
