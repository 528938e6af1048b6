//! Claims on ends: cancels, stops, and processes that die.

use sprite_reporter::{
    driver::{DriverOrder, Said, TASK_TURN},
    wire::{EventBody, ExitReason, PermissionMode, TurnOutcome},
};

use super::{Candidate, seated};

/// An interrupt ends the turn while it speaks.
pub async fn a_cancel_in_the_middle_of_text_ends_the_turn_and_no_more(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", "[[slow:600:100]]").await;
    run.until("text", |said| matches!(said, Said::Text(..)).then_some(())).await;
    run.order(DriverOrder::Interrupt).await;
    assert_eq!(run.ended("t1").await.outcome, TurnOutcome::Cancelled);
    assert_eq!(run.turn("t2", "go on").await.text.trim_end(), "echo: go on");
    assert_eq!(run.ends("t1").len(), 1);
}

/// An interrupt ends the tool that runs as well.
pub async fn a_cancel_in_a_tool_ends_the_tool(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", &format!("[[bash:{}]]", desk.long_command())).await;
    desk.long_command_runs().await;
    assert!(desk.tools() > 0, "the tool runs");
    run.order(DriverOrder::Interrupt).await;
    assert_eq!(run.ended("t1").await.outcome, TurnOutcome::Cancelled);
    desk.comes_true("the tool is gone", |desk| desk.tools() == 0).await;
    assert_eq!(run.turn("t2", "go on").await.text.trim_end(), "echo: go on");
    assert_eq!(run.ends("t1").len(), 1);
}

/// An interrupt that overtakes the CLI's start on the turn still counts.
pub async fn a_cancel_right_behind_the_prompt_cancels(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", "[[slow:600:100]]").await;
    run.order(DriverOrder::Interrupt).await;
    assert_eq!(run.ended("t1").await.outcome, TurnOutcome::Cancelled);
    assert_eq!(run.turn("t2", "go on").await.text.trim_end(), "echo: go on");
}

/// A model that says nothing more is no reason not to obey.
pub async fn a_cancel_while_the_model_hangs_ends_the_turn(candidate: &impl Candidate) {
    let (desk, model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", "[[hang]]").await;
    desk.comes_true("the model is asked", |_| !model.requests().is_empty()).await;
    run.order(DriverOrder::Interrupt).await;
    assert_eq!(run.ended("t1").await.outcome, TurnOutcome::Cancelled);
    assert_eq!(run.turn("t2", "[[anew]] go on").await.text.trim_end(), "echo: go on");
}

/// A run with a single task ends with it.
pub async fn a_job_ends_with_its_task(candidate: &impl Candidate) {
    let (mut desk, _model) = seated!(candidate);
    let mut run = desk.job("[[bash:python3 -c 'print(1)']] hello").await;
    let exit = run.exit().await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Completed, Some(0)), "{exit:?}");
    assert_eq!(run.text(TASK_TURN).trim_end(), "echo: hello");
    assert_eq!(run.ends(TASK_TURN), [TurnOutcome::Succeeded]);
    desk.comes_true("nothing is left", |desk| desk.tree().is_empty()).await;
}

/// A polite end without anything to do.
pub async fn a_stop_while_idle_leaves_nothing(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    run.turn("t1", "hello").await;
    let exit = run.stop().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{exit:?}");
    desk.comes_true("nothing is left", |desk| desk.tree().is_empty()).await;
}

/// A polite end in the middle of a tool.
pub async fn a_stop_while_a_tool_runs_leaves_nothing(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", &format!("[[bash:{}]]", desk.long_command())).await;
    desk.long_command_runs().await;
    let exit = run.stop().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{exit:?}");
    let ends = run.ends("t1");
    assert!(
        matches!(ends.as_slice(), [TurnOutcome::Cancelled | TurnOutcome::Interrupted]),
        "{ends:?}"
    );
    desk.comes_true("nothing is left", |desk| desk.tree().is_empty()).await;
}

/// A polite end while a person is asked.
pub async fn a_stop_while_a_person_is_asked_withdraws_the_request(candidate: &impl Candidate) {
    let (mut desk, _model) = seated!(candidate);
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    run.prompt("t1", "[[bash:touch no]]").await;
    let (request, _) = run.approval().await;
    let exit = run.stop().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{exit:?}");
    let withdrawn = EventBody::ApprovalWithdrawn { request };
    assert!(run.events().contains(&&withdrawn), "{:?}", run.events());
    assert_eq!(run.ends("t1").len(), 1);
    assert!(!desk.file("no").exists());
    desk.comes_true("nothing is left", |desk| desk.tree().is_empty()).await;
}

/// What was said before a kill is remembered after it.
pub async fn a_session_outlives_a_kill_in_mid_turn(candidate: &impl Candidate) {
    let (mut desk, model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", "remember the number 7341").await;
    let id = run.session().await;
    run.ended("t1").await;
    run.prompt("t2", &format!("[[bash:{}]]", desk.long_command())).await;
    desk.long_command_runs().await;
    desk.kill_tree().await;
    run.exit().await;

    desk.spec.session = Some(id);
    let mut run = desk.start();
    let turn = run.turn("t3", "[[anew]] and now").await;
    assert_eq!(turn.text.trim_end(), "echo: and now", "{turn:?}");
    let last = model.requests().pop().expect("a request").body.to_string();
    assert!(last.contains("remember the number 7341"));
}

/// A CLI that dies takes its turn with it, once, and the driver says how it ended.
pub async fn a_cli_that_is_killed_in_mid_turn_ends_it_once(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", "[[slow:600:100]]").await;
    run.until("text", |said| matches!(said, Said::Text(..)).then_some(())).await;
    for pid in desk.pids() {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a kill");
    }
    let exit = run.exit().await;
    assert_eq!(exit.reason, ExitReason::Failed, "{exit:?}");
    assert!(!exit.message.is_empty(), "it says how");
    let ends = run.ends("t1");
    assert!(
        matches!(ends.as_slice(), [TurnOutcome::Failed | TurnOutcome::Interrupted]),
        "{ends:?}"
    );
    desk.kill_tree().await;
}

/// Tools run in sessions of their own; the tree is known all the same.
pub async fn a_tree_that_is_killed_leaves_nothing(candidate: &impl Candidate) {
    let (desk, _model) = seated!(candidate);
    let mut run = desk.start();
    run.prompt("t1", &format!("[[bash:{}]]", desk.long_command())).await;
    desk.long_command_runs().await;
    assert!(desk.tree().len() > 1, "the CLI and its tool");
    desk.kill_tree().await;
    run.exit().await;
    assert_eq!(run.ends("t1").len(), 1);
    desk.comes_true("nothing is left", |desk| desk.tree().is_empty()).await;
}
