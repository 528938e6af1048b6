//! What an ACP agent can do wrong, shown by one that does it on demand.

#[expect(dead_code, reason = "the common claims need more of it")]
#[path = "support/desk.rs"]
mod desk;

use desk::Desk;
use sprite_reporter::{
    driver::{DriverOrder, Said},
    wire::{AgentSpec, EventBody, ExitReason, PermissionMode, Stream, TurnOutcome},
};

fn fickle() -> Desk {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fickle_agent.sh");
    let command = vec!["sh".to_owned(), script.to_owned()];
    Desk::new(AgentSpec::Acp { command, model: None, instructions: None })
}

fn logs(run: &desk::Run, of: Stream) -> String {
    let lines = run.heard().iter().filter_map(|said| match said {
        Said::Log(stream, bytes) if *stream == of => Some(String::from_utf8_lossy(bytes)),
        _ => None,
    });
    lines.collect()
}

#[tokio::test]
async fn noise_and_unknown_messages_do_not_disturb_a_turn() {
    let desk = fickle();
    let mut run = desk.start();
    let turn = run.turn("t1", "do:noise").await;
    assert_eq!((turn.outcome, turn.text.as_str()), (TurnOutcome::Succeeded, "refused\n"));
    assert_eq!(
        logs(&run, Stream::Stdout),
        "Welcome to the fickle agent!\nnot JSON {\n[1,2]\n",
        "what is no message is kept as what it is"
    );
}

#[tokio::test]
async fn floods_and_lines_of_twenty_megabytes_arrive_whole() {
    let desk = fickle();
    let mut run = desk.start();
    assert_eq!(run.turn("t1", "do:flood").await.text.len(), 5001);
    assert_eq!(run.turn("t2", "do:long").await.text.len(), 20_000_001);
    assert_eq!(run.turn("t3", "hello").await.text, "yes\n");
}

#[tokio::test]
async fn an_agent_that_dies_in_a_turn_ends_it_once_and_says_why() {
    let desk = fickle();
    let mut run = desk.start();
    run.prompt("t1", "do:die").await;
    let exit = run.exit().await;
    assert_eq!(run.ends("t1"), [TurnOutcome::Interrupted]);
    assert_eq!((exit.reason, exit.code), (ExitReason::Failed, Some(7)));
    assert_eq!(exit.message, "fickle ended by itself (exit code 7): boom: no more");
}

#[tokio::test]
async fn an_agent_that_cannot_be_heard_any_more_is_given_up() {
    let desk = fickle();
    let mut run = desk.start();
    run.prompt("t1", "do:mute").await;
    let exit = run.exit().await;
    assert_eq!(run.ends("t1"), [TurnOutcome::Interrupted]);
    assert_eq!(exit.reason, ExitReason::Failed);
    assert_eq!(exit.message, "fickle closed its output and runs on, so that it was given up");
    desk.kill_tree().await;
}

#[tokio::test]
async fn what_goes_on_printing_behind_a_dead_agent_does_not_keep_its_run() {
    let desk = fickle();
    let mut run = desk.start();
    run.prompt("t1", "do:haunt").await;
    let exit = run.exit().await;
    assert_eq!(run.ends("t1"), [TurnOutcome::Interrupted]);
    assert_eq!((exit.reason, exit.code), (ExitReason::Failed, Some(7)));
    desk.kill_tree().await;
}

#[tokio::test]
async fn an_agent_may_use_the_id_of_a_request_again() {
    let mut desk = fickle();
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    let mut names = Vec::new();
    for turn in ["t1", "t2"] {
        run.prompt(turn, "do:ask").await;
        let (request, _) = run.approval().await;
        run.answer(request.clone(), true, "").await;
        assert_eq!(run.ended(turn).await.text, "allowed\n");
        names.push(request);
    }
    assert_ne!(names[0], names[1], "two requests, by the names that the server knows");
}

#[tokio::test]
async fn options_are_picked_by_kind_whatever_their_ids_are() {
    let mut desk = fickle();
    desk.mode(PermissionMode::Ask);
    for (allow, said) in [(true, "allowed\n"), (false, "denied\n")] {
        let mut run = desk.start();
        run.prompt("t1", "do:ask").await;
        let (request, title) = run.approval().await;
        assert_eq!(title, "execute: touch it");
        run.answer(request.clone(), allow, "").await;
        assert_eq!(run.ended("t1").await.text, said);
        run.answer(request, !allow, "").await;
        assert_eq!(run.turn("t2", "hello").await.text, "yes\n", "a second answer means nothing");
    }
}

#[tokio::test]
async fn what_is_asked_after_a_cancel_is_cancelled_too_and_asks_nobody() {
    let mut desk = fickle();
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    run.prompt("t1", "do:hang").await;
    run.until("text", |said| matches!(said, Said::Text(..)).then_some(())).await;
    run.order(DriverOrder::Interrupt).await;
    assert_eq!(run.ended("t1").await.outcome, TurnOutcome::Cancelled);
    let asked = |event: &&EventBody| matches!(event, EventBody::Approval { .. });
    assert_eq!(run.events().into_iter().find(asked), None);
}

#[tokio::test]
async fn a_replayed_history_is_not_said_again_nor_what_trails_it() {
    let mut desk = fickle();
    desk.spec.session = Some("s1".to_owned());
    let mut run = desk.start();
    let turn = run.turn("t1", "hello").await;
    assert_eq!(turn.text, "yes\n");
    assert!(!logs(&run, Stream::Stdout).contains("of old"));
}

#[tokio::test]
async fn failures_are_told_with_their_mend_and_the_next_turn_works() {
    let desk = fickle();
    let mut run = desk.start();
    let failed = run.turn("t1", "do:error").await;
    assert_eq!(failed.outcome, TurnOutcome::Failed);
    assert!(failed.message.ends_with("try again later"), "{}", failed.message);
    let refused = run.turn("t2", "do:refusal").await;
    assert!(refused.message.starts_with("fickle refused to go on"), "{}", refused.message);
    assert_eq!(run.turn("t3", "hello").await.text, "yes\n");
}

#[tokio::test]
async fn an_agent_that_cannot_be_used_does_not_start_and_says_why() {
    for (how, why) in [
        ("old", "speaks version 7 of the Agent Client Protocol"),
        ("locked", "fickle is not logged in; log in with its own command"),
    ] {
        let mut desk = fickle();
        desk.set("FICKLE", how);
        let mut run = desk.start();
        run.prompt("t1", "hello").await;
        let exit = run.exit().await;
        assert_eq!(exit.reason, ExitReason::StartFailed);
        assert!(exit.message.contains(why), "{}", exit.message);
        assert_eq!(run.ends("t1"), [TurnOutcome::Failed]);
    }
}

#[tokio::test]
async fn a_model_that_cannot_be_chosen_is_no_secret() {
    let mut desk = fickle();
    if let AgentSpec::Acp { model, .. } = &mut desk.spec.agent {
        *model = Some("opus".to_owned());
    }
    let exit = desk.start().exit().await;
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.contains("does not let its model be chosen"), "{}", exit.message);
}

#[tokio::test]
async fn a_program_that_is_no_agent_is_told_from_one() {
    let mut desk = fickle();
    desk.spec.agent =
        AgentSpec::Acp { command: vec!["cat".to_owned()], model: None, instructions: None };
    let exit = desk.start().exit().await;
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.contains("does not answer as an ACP agent does"), "{}", exit.message);
    let command = vec!["no-such-agent".to_owned()];
    desk.spec.agent = AgentSpec::Acp { command, model: None, instructions: None };
    let exit = desk.start().exit().await;
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.contains("`no-such-agent`"), "{}", exit.message);
}
