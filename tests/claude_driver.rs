//! Real Claude Code, driven turn by turn, against a model API on loopback.

#[path = "support/claude.rs"]
mod claude;
#[path = "support/claude_binary.rs"]
mod claude_binary;
#[expect(dead_code, reason = "the common suite needs more of it")]
#[path = "support/desk.rs"]
mod desk;
#[path = "support/fake_model/mod.rs"]
mod fake_model;

use desk::{Desk, Run};
use fake_model::FakeModel;
use sprite_reporter::{
    driver::{DriverOrder, Said, TASK_TURN},
    wire::{
        AgentSpec, ApprovalKind, EventBody, ExitReason, PermissionMode, Question, Stream,
        TurnOutcome,
    },
};

/// A desk with a model, or none where Claude Code is not installed.
async fn desk() -> Option<(Desk, FakeModel)> {
    let binary = claude_binary::binary()?;
    let model = FakeModel::start().await;
    Some((claude::desk(&binary, model.url()), model))
}

#[tokio::test]
async fn one_process_takes_turn_after_turn_in_one_session() {
    let Some((desk, model)) = desk().await else { return };
    let mut run = desk.start();
    run.event("ready", |event| (*event == EventBody::Ready {}).then_some(())).await;
    let pids = desk.pids();
    assert_eq!(pids.len(), 1);

    let first = run.turn("t1", "hello").await;
    assert_eq!((first.outcome, first.text.as_str()), (TurnOutcome::Succeeded, "echo: hello\n"));
    let second = run.turn("t2", "once more").await;
    assert_eq!(second.text, "echo: once more\n");

    assert_eq!(desk.pids(), pids, "the same process");
    let sessions = run.events().into_iter().filter(|e| matches!(e, EventBody::Session { .. }));
    assert_eq!(sessions.count(), 1, "one session");
    assert_eq!(first.usage, second.usage, "each turn's own share");
    assert_eq!((first.usage.input_tokens, first.usage.output_tokens), (1000, 50));
    assert!(first.usage.cost_micro_usd > 0);
    assert!(model.requests().iter().all(|request| request.key == "test-key"));

    let exit = run.stop().await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Completed, Some(0)));
    assert!(desk.pids().is_empty());
}

#[tokio::test]
async fn the_binary_is_found_on_the_agents_path_and_gets_model_and_instructions() {
    let Some((mut desk, model)) = desk().await else { return };
    let AgentSpec::Claude { path: Some(path), .. } = desk.spec.agent.clone() else {
        panic!("a path")
    };
    let directory = std::path::Path::new(&path).parent().unwrap().to_string_lossy().into_owned();
    desk.set("PATH", &format!("{directory}:{}", std::env::var("PATH").unwrap()));
    desk.spec.agent = AgentSpec::Claude {
        path: None,
        model: Some("claude-sonnet-4-5".to_owned()),
        instructions: Some("--- Prefer \"small\" commits, über alles.".to_owned()),
    };
    let mut run = desk.job("hello").await;
    assert_eq!(run.exit().await.reason, ExitReason::Completed);
    let asked = model.requests().pop().expect("a request").body;
    assert_eq!(asked["model"], "claude-sonnet-4-5");
    assert!(asked["system"].to_string().contains("über alles"), "the instructions");
}

#[tokio::test]
async fn a_job_uses_tools_and_ends_by_itself() {
    let Some((mut desk, _model)) = desk().await else { return };
    let file = desk.file("made.txt");
    let task = format!(
        "First [[bash:python3 -c 'print(6*7)' > {}]] then [[write:{}|by Write]] last",
        desk.file("by-bash.txt").display(),
        file.display()
    );
    let mut run = desk.job(&task).await;
    let exit = run.exit().await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Completed, Some(0)), "{exit:?}");
    assert_eq!(std::fs::read_to_string(desk.file("by-bash.txt")).unwrap(), "42\n");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "by Write");
    assert_eq!(run.text(TASK_TURN), "echo: First\n\necho: then\n\necho: last\n");
    let titles: Vec<_> = run
        .events()
        .into_iter()
        .filter_map(|event| match event {
            EventBody::Tool { title, .. } => Some(title.split(' ').next().unwrap().to_owned()),
            EventBody::ToolEnded { failed, .. } => Some(format!("failed: {failed}")),
            EventBody::Approval { .. } => Some("asked".to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(titles, ["Bash:", "failed: false", "Write:", "failed: false"]);
}

#[tokio::test]
async fn a_file_is_read_and_edited() {
    let Some((mut desk, _model)) = desk().await else { return };
    std::fs::write(desk.file("light.txt"), "off\n").unwrap();
    let edit = "{\"file_path\":\"light.txt\",\"old_string\":\"off\",\"new_string\":\"on\"}";
    let task = format!("[[tool:Read|{{\"file_path\":\"light.txt\"}}]] [[tool:Edit|{edit}]]");
    let mut run = desk.job(&task).await;
    assert_eq!(run.exit().await.reason, ExitReason::Completed);
    assert_eq!(std::fs::read_to_string(desk.file("light.txt")).unwrap(), "on\n");
}

#[tokio::test]
async fn a_planning_job_changes_nothing_and_ends() {
    let Some((mut desk, _model)) = desk().await else { return };
    desk.mode(PermissionMode::Plan);
    let file = desk.file("no");
    let plan = "[[tool:ExitPlanMode|{\"plan\": \"1. do it\"}]]";
    let task = format!("[[write:{}|x]] {plan} the plan", file.display());
    let mut run = desk.job(&task).await;
    let exit = run.exit().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{exit:?}");
    assert!(!file.exists());
    assert!(run.text(TASK_TURN).ends_with("echo: the plan\n"));
}

#[tokio::test]
async fn a_question_in_a_bypass_job_does_not_hang() {
    let Some((mut desk, _model)) = desk().await else { return };
    let question = "{\"questions\":[{\"question\":\"Red?\",\"header\":\"h\",\"multiSelect\":false,\
                    \"options\":[{\"label\":\"a\",\"description\":\"a\"},\
                    {\"label\":\"b\",\"description\":\"b\"}]}]}";
    let task = format!("[[tool:AskUserQuestion|{question}]] decided");
    let mut run = desk.job(&task).await;
    assert_eq!(run.exit().await.reason, ExitReason::Completed);
    assert_eq!(run.text(TASK_TURN), "echo: decided\n");
}

/// What the next approval says: its request, kind, rule and questions.
async fn asked(run: &mut Run) -> (String, ApprovalKind, Option<String>, Vec<Question>) {
    run.event("an approval", |event| match event {
        EventBody::Approval { request, kind, rule, questions, .. } => {
            Some((request.clone(), *kind, rule.clone(), questions.clone()))
        }
        _ => None,
    })
    .await
}

/// Whether the model was told this in any request.
fn is_told(model: &FakeModel, words: &str) -> bool {
    model.requests().iter().any(|asked| asked.body.to_string().contains(words))
}

#[tokio::test]
async fn a_person_answers_each_question() {
    let Some((mut desk, model)) = desk().await else { return };
    desk.mode(PermissionMode::Ask);
    let option = |label: &str| serde_json::json!({"label": label, "description": "d"});
    let options = [option("red"), option("blue")];
    let input = serde_json::json!({"questions": [
        {"question": "Colours?", "header": "h", "multiSelect": true, "options": options},
        {"question": "Size?", "header": "h", "multiSelect": false, "options": options},
    ]});
    let mut run = desk.start();
    run.prompt("t1", &format!("[[tool:AskUserQuestion|{input}]] thanks")).await;
    let (request, kind, rule, questions) = asked(&mut run).await;
    assert_eq!((kind, rule), (ApprovalKind::Question, None));
    let options = vec!["red".to_owned(), "blue".to_owned()];
    let question =
        |text: &str, many| Question { text: text.into(), options: options.clone(), many };
    assert_eq!(questions, [question("Colours?", true), question("Size?", false)]);
    let answers = [("Colours?", "red, blue"), ("Size?", "as large as a house")];
    let answers = answers.map(|(text, said)| (text.to_owned(), said.to_owned())).into();
    let message = String::new();
    run.order(DriverOrder::Answer { request, allow: true, message, answers }).await;
    assert_eq!(run.ended("t1").await.text, "echo: thanks\n");
    assert!(is_told(&model, "red, blue"));
    assert!(is_told(&model, "as large as a house"));
}

#[tokio::test]
async fn a_person_answers_a_question_with_words() {
    let Some((mut desk, model)) = desk().await else { return };
    desk.mode(PermissionMode::Ask);
    let question = "{\"questions\":[{\"question\":\"Colour?\",\"header\":\"h\",\
                    \"multiSelect\":false,\"options\":[{\"label\":\"red\",\"description\":\"a\"},\
                    {\"label\":\"blue\",\"description\":\"b\"}]}]}";
    let mut run = desk.start();
    run.prompt("t1", &format!("[[tool:AskUserQuestion|{question}]] thanks")).await;
    let (request, title) = run.approval().await;
    assert_eq!(title, "AskUserQuestion: Colour?");
    run.answer(request, true, "green, please").await;
    assert_eq!(run.ended("t1").await.text, "echo: thanks\n");
    assert!(is_told(&model, "green, please"), "the model is told");
}

/// The file into which the CLI tells its model to write its plan.
fn plan_file(model: &FakeModel) -> String {
    let body = model.requests().first().expect("a request").body.to_string();
    let end = body.find(".md using the Write tool").expect("the plan's file");
    let begin = body[..end].rfind(' ').expect("a path") + 1;
    format!("{}.md", &body[begin..end])
}

#[tokio::test]
async fn a_plan_is_worked_at_once_its_person_approves_it_and_the_next_turn_plans_again() {
    let Some((mut desk, model)) = desk().await else { return };
    desk.mode(PermissionMode::Plan);
    let mut run = desk.start();
    run.turn("t1", "hello").await;
    let plan = plan_file(&model);
    let (early, late, next) = (desk.file("early"), desk.file("late"), desk.file("next"));
    let prompt = format!(
        "[[write:{}|x]] [[write:{plan}|1. build the house]] [[tool:ExitPlanMode|{{}}]] \
         [[tool:ExitPlanMode|{{}}]] [[write:{}|x]] built",
        early.display(),
        late.display()
    );
    run.prompt("t2", &prompt).await;
    let (request, kind, rule, _) = asked(&mut run).await;
    assert_eq!((kind, rule), (ApprovalKind::Plan, None));
    let shown = run.events().into_iter().find_map(|event| match event {
        EventBody::Approval { input, .. } => input["plan"].as_str(),
        _ => None,
    });
    assert_eq!(shown, Some("1. build the house"));
    run.answer(request, false, "with a garden, please").await;
    let (request, ..) = asked(&mut run).await;
    assert!(is_told(&model, "with a garden, please"), "planning goes on");
    run.answer(request, true, "").await;
    let (request, kind, rule, _) = asked(&mut run).await;
    assert_eq!((kind, rule.as_deref()), (ApprovalKind::Tool, Some("Write(late)")));
    run.answer(request, true, "").await;
    assert_eq!(run.ended("t2").await.text, "echo: built\n");
    assert!(late.exists() && !early.exists());

    let turn = run.turn("t3", &format!("[[write:{}|x]] planned", next.display())).await;
    assert_eq!(turn.text, "echo: planned\n");
    assert!(!next.exists());
}

#[tokio::test]
async fn a_request_says_what_stands_for_all_like_it() {
    let Some((mut desk, _model)) = desk().await else { return };
    desk.mode(PermissionMode::Ask);
    let mut run = desk.start();
    let outside = "[[tool:Read|{\"file_path\": \"/etc/hostname\"}]]";
    let prompt = format!(
        "[[bash:git push origin main]] [[bash:git push && curl http://127.0.0.1:9]] \
         [[write:{}|x]] {outside} [[bash:git push > /etc/zzz]] last",
        desk.file("a.txt").display()
    );
    run.prompt("t1", &prompt).await;
    let mut rules = Vec::new();
    for _ in 0..5 {
        let (request, _, rule, _) = asked(&mut run).await;
        rules.push(rule.unwrap_or_default());
        run.answer(request, false, "").await;
    }
    let expected = [
        "Bash(git push *)",
        "Bash(git push && curl http://127.0.0.1:9)",
        "Write(a.txt)",
        "Read(//etc/**)",
        "Bash(git push > /etc/zzz)",
    ];
    assert_eq!(rules, expected);
    assert_eq!(run.ended("t1").await.outcome, TurnOutcome::Succeeded);
}

#[tokio::test]
async fn the_cost_is_told_within_a_turn_also_of_a_session_that_is_resumed() {
    let Some((mut desk, _model)) = desk().await else { return };
    let mut run = desk.start();
    run.prompt("t1", "hello").await;
    desk.spec.session = Some(run.session().await);
    run.ended("t1").await;
    run.stop().await;
    let mut run = desk.start();
    let turn = run.turn("t2", "[[bash:python3 -c 'print(1)']] last").await;
    let told = run.events().into_iter().find_map(|event| match event {
        EventBody::Usage { turn, usage } if turn == "t2" => Some(*usage),
        _ => None,
    });
    let told = told.expect("a figure");
    assert!(told.cost_micro_usd > 0, "{told:?}");
    assert_eq!(turn.usage.cost_micro_usd, told.cost_micro_usd * 2, "one message more: {turn:?}");
}

#[tokio::test]
async fn a_conversation_that_is_cleared_or_compacted_goes_on_in_a_session_that_is_told() {
    let Some((desk, model)) = desk().await else { return };
    let mut run = desk.start();
    run.prompt("t1", "remember the number 7341").await;
    let first = run.session().await;
    run.ended("t1").await;
    let compacted = run.turn("t2", "/compact").await;
    assert_eq!(compacted.outcome, TurnOutcome::Succeeded, "{compacted:?}");
    run.prompt("t3", "/clear").await;
    let second = run.session().await;
    assert_ne!(first, second);
    assert_eq!(run.ended("t3").await.outcome, TurnOutcome::Succeeded);
    assert_eq!(run.turn("t4", "go on").await.text, "echo: go on\n");
    let last = model.requests().pop().expect("a request").body.to_string();
    assert!(!last.contains("7341"), "it was cleared");
}

#[tokio::test]
async fn retries_are_told_and_the_turn_goes_on() {
    let Some((desk, _model)) = desk().await else { return };
    let mut run = desk.start();
    let turn = run.turn("t1", "[[status:529:1]] at last").await;
    assert_eq!((turn.outcome, turn.text.as_str()), (TurnOutcome::Succeeded, "echo: at last\n"));
    let retries: Vec<_> = run
        .events()
        .into_iter()
        .filter_map(|event| match event {
            EventBody::Retry { attempt, of, message, .. } => Some((*attempt, *of, message.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(retries, [(1, 2, "the model API answered 529 (overloaded)".to_owned())]);
}

#[tokio::test]
async fn a_model_api_that_stays_broken_fails_the_job_with_its_reason() {
    let Some((mut desk, _model)) = desk().await else { return };
    desk.set("CLAUDE_CODE_MAX_RETRIES", "1");
    let mut run = desk.job("[[status:529]]").await;
    let exit = run.exit().await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Failed, Some(1)));
    assert!(exit.message.contains("529"), "{}", exit.message);
    assert_eq!(run.text(TASK_TURN), "", "an error is no answer");
}

#[tokio::test]
async fn a_refused_key_names_the_mend() {
    let Some((mut desk, _model)) = desk().await else { return };
    desk.set("CLAUDE_CODE_MAX_RETRIES", "0");
    let mut run = desk.job("[[status:401]]").await;
    let exit = run.exit().await;
    assert_eq!(exit.reason, ExitReason::Failed);
    assert!(exit.message.contains("check ANTHROPIC_API_KEY"), "{}", exit.message);
}

#[tokio::test]
async fn a_cli_that_is_not_logged_in_says_how_to_log_in() {
    let Some((mut desk, model)) = desk().await else { return };
    desk.spec.env.retain(|variable| variable.name != "ANTHROPIC_API_KEY");
    let mut run = desk.job("hello").await;
    let exit = run.exit().await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Failed, Some(1)));
    assert!(exit.message.starts_with("Claude Code is not logged in; run"), "{}", exit.message);
    assert!(model.requests().is_empty());
}

#[tokio::test]
async fn a_missing_binary_and_a_missing_directory_are_named() {
    let mut desk = claude::desk("/nowhere/claude".as_ref(), "http://127.0.0.1:9");
    let exit = desk.start().exit().await;
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert_eq!(
        exit.message,
        "Claude Code was not found as `/nowhere/claude`; install it, or put it on the agent's PATH"
    );
    desk.spec.workdir = "/nowhere/work".to_owned();
    let exit = desk.start().exit().await;
    assert_eq!(exit.reason, ExitReason::WorkspaceFailed);
}

/// A desk whose CLI is a shell script.
fn scripted(script: &str) -> Desk {
    let path = std::path::Path::new("claude");
    let mut desk = claude::desk(path, "http://127.0.0.1:9");
    let path = desk.file("claude");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, executable).expect("a mode");
    let path = Some(path.to_string_lossy().into_owned());
    desk.spec.agent = AgentSpec::Claude { path, model: None, instructions: None };
    desk
}

#[tokio::test]
async fn a_cli_that_is_gone_is_not_waited_for_because_a_child_holds_its_pipes() {
    let mut desk = scripted("while [ ! -e end ]; do sleep 0.1; done &\nexit 3");
    let mut run = desk.job("hello").await;
    let exit = run.exit().await;
    assert!(desk.tools() > 0, "the child lives");
    assert_eq!((exit.reason, exit.code), (ExitReason::Failed, Some(3)));
    std::fs::write(desk.file("end"), "").unwrap();
}

#[tokio::test]
async fn a_cli_that_prints_what_nobody_knows_is_understood_where_it_can_be() {
    let mut desk = scripted(
        r#"read -r hello; read -r cost; read -r prompt
printf 'warning: \377\376 not JSON\n'
echo '{"type":"news","text":"of tomorrow"}'
echo '{"type":"system","subtype":"init","session_id":5}'
echo '{"type":"result","subtype":"success","result":"enough"}'
cat > /dev/null"#,
    );
    let mut run = desk.job("hello").await;
    assert_eq!(run.exit().await.reason, ExitReason::Completed);
    assert_eq!(run.text(TASK_TURN), "enough\n");
}

#[tokio::test]
async fn a_line_of_twenty_megabytes_is_no_harm() {
    let mut desk = scripted(
        r#"read -r hello; read -r cost; read -r prompt
head -c 20000000 /dev/zero | tr '\0' x
echo
printf '{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"'
head -c 20000000 /dev/zero | tr '\0' y
printf '"}]}}\n'
echo '{"type":"result","subtype":"success","result":"enough"}'
cat > /dev/null"#,
    );
    let mut run = desk.job("hello").await;
    let exit = run.exit().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{exit:?}");
    assert_eq!(run.text(TASK_TURN).len(), 20_000_001);
}

#[tokio::test]
async fn a_cli_that_ends_at_once_fails_with_its_last_words() {
    let mut desk = scripted("echo 'error: too old' >&2\nexit 1");
    let mut run = desk.job("hello").await;
    let exit = run.exit().await;
    assert_eq!((exit.reason, exit.code), (ExitReason::Failed, Some(1)));
    assert_eq!(exit.message, "Claude Code ended by itself (exit code 1): error: too old");
    let turn = run.events().into_iter().find_map(|event| match event {
        EventBody::TurnEnded { outcome, .. } => Some(*outcome),
        _ => None,
    });
    assert_eq!(turn, Some(TurnOutcome::Interrupted));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let Some((desk, _model)) = desk().await else { return };
    let mut run = desk.start();
    let turn = run.turn("t1", "[[cut:1]]").await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    // What was streamed cannot be taken back; the whole answer stands below it.
    assert_eq!(turn.text, "partial \n\nwhole\n");
}

#[tokio::test]
async fn a_second_part_that_breaks_off_is_gone_on_with() {
    let Some((desk, _model)) = desk().await else { return };
    let mut run = desk.start();
    let turn = run.turn("t1", "first [[cut:1]]").await;
    assert_eq!(turn.outcome, TurnOutcome::Succeeded, "{turn:?}");
    assert!(turn.text.starts_with("echo: first\n\n"), "{turn:?}");
    assert_eq!(turn.text.matches("echo: first").count(), 1, "{turn:?}");
}

#[tokio::test]
async fn a_turn_that_the_agent_begins_by_itself_is_told_apart() {
    let Some((desk, _model)) = desk().await else { return };
    let mut run = desk.start();
    let wait = "import time, os\\nwhile not os.path.exists(\\\"go\\\"): time.sleep(0.05)";
    let task = format!(
        "[[tool:Bash|{{\"command\": \"python3 -c '{wait}'\", \"description\": \"wait\", \
         \"run_in_background\": true}}]] started"
    );
    let first = run.turn("t1", &task).await;
    assert_eq!((first.outcome, first.text.as_str()), (TurnOutcome::Succeeded, "echo: started\n"));
    std::fs::write(desk.file("go"), "").unwrap();
    let (turn, origin) = run
        .event("a turn of the agent's own", |event| match event {
            EventBody::TurnAccepted { turn, origin } => Some((turn.clone(), origin.clone())),
            _ => None,
        })
        .await;
    assert_eq!(origin.as_deref(), Some("agent"));
    assert_ne!(turn, "t1");
    let own = run.ended(&turn).await;
    assert_eq!(own.outcome, TurnOutcome::Succeeded);
    assert!(!own.text.is_empty());
    assert_eq!(run.turn("t2", "and on").await.text, "echo: and on\n");
}

#[tokio::test]
async fn a_job_waits_for_its_background_tasks() {
    let Some((mut desk, _model)) = desk().await else { return };
    let wait = "import time; time.sleep(1); open(\\\"late\\\", \\\"w\\\")";
    let task = format!(
        "[[tool:Bash|{{\"command\": \"python3 -c '{wait}'\", \"description\": \"wait\", \
         \"run_in_background\": true}}]] started"
    );
    let mut run = desk.job(&task).await;
    let exit = run.exit().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{exit:?}");
    assert!(desk.file("late").exists());
    let turns: Vec<_> = run
        .events()
        .into_iter()
        .filter_map(|event| match event {
            EventBody::TurnAccepted { origin, .. } => Some(origin.clone().unwrap_or_default()),
            EventBody::TurnEnded { turn, .. } if turn == TASK_TURN => Some("task ended".to_owned()),
            EventBody::TurnEnded { .. } => Some("ended".to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(turns, ["agent", "ended", "task ended"], "the run is ended upon the task's end");
}

#[tokio::test]
async fn a_job_that_is_stopped_ends_cancelled_with_its_tools() {
    let Some((mut desk, _model)) = desk().await else { return };
    let mut run = desk.job(&format!("[[bash:{}]]", desk.long_command())).await;
    desk.long_command_runs().await;
    let exit = run.stop().await;
    assert_eq!(exit.reason, ExitReason::Cancelled, "{exit:?}");
    assert_eq!(desk.tools(), 0);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_background_tasks() {
    let Some((desk, _model)) = desk().await else { return };
    let mut run = desk.start();
    let input = serde_json::json!({
        "command": desk.long_command(), "description": "wait", "run_in_background": true,
    });
    run.turn("t1", &format!("[[tool:Bash|{input}]] started")).await;
    desk.long_command_runs().await;
    let exit = run.stop().await;
    assert_eq!(exit.reason, ExitReason::Completed, "{exit:?}");
    assert_eq!(desk.tools(), 0);
    let told = "a background task of the agent was still running, and is ended\n";
    let told = Said::Log(Stream::System, told.as_bytes().to_vec());
    assert!(run.heard().contains(&told), "it is said");
}

#[tokio::test]
async fn a_job_that_fails_does_not_wait_for_its_background_tasks() {
    let Some((mut desk, _model)) = desk().await else { return };
    desk.set("CLAUDE_CODE_MAX_RETRIES", "0");
    let input = serde_json::json!({
        "command": desk.long_command(), "description": "wait", "run_in_background": true,
    });
    let mut run = desk.job(&format!("[[tool:Bash|{input}]] [[status:500]]")).await;
    let exit = run.exit().await;
    assert_eq!(exit.reason, ExitReason::Failed, "{exit:?}");
    assert_eq!(desk.tools(), 0);
}

#[tokio::test]
async fn a_prompt_in_the_middle_of_the_agents_own_turn_gets_its_own_answer() {
    let Some((desk, _model)) = desk().await else { return };
    let mut run = desk.start();
    // The end of the task is told to the model, and the fake one works that off like a prompt.
    let input = serde_json::json!({
        "command": "true", "description": "[[slow:20:50]]", "run_in_background": true,
    });
    run.turn("t1", &format!("[[tool:Bash|{input}]] started")).await;
    let own = run
        .event("a turn of the agent's own", |event| match event {
            EventBody::TurnAccepted { turn, .. } => Some(turn.clone()),
            _ => None,
        })
        .await;
    let second = run.turn("t2", "a question").await;
    assert!(second.text.ends_with("echo: a question\n"), "{second:?}");
    let ends: Vec<_> = run
        .events()
        .into_iter()
        .filter_map(|event| match event {
            EventBody::TurnEnded { turn, outcome, .. } => Some((turn.clone(), *outcome)),
            _ => None,
        })
        .collect();
    let succeeded = |turn: &str| (turn.to_owned(), TurnOutcome::Succeeded);
    assert_eq!(ends, [succeeded("t1"), succeeded(&own), succeeded("t2")]);
}

#[tokio::test]
async fn a_slash_command_is_answered() {
    let Some((desk, _model)) = desk().await else { return };
    let mut run = desk.start();
    let turn = run.turn("t1", "/cost").await;
    assert_eq!((turn.outcome, turn.message.as_str()), (TurnOutcome::Succeeded, ""));
    assert!(turn.text.contains("Total duration"), "{turn:?}");
    assert_eq!(run.turn("t2", "hello").await.outcome, TurnOutcome::Succeeded);
}
