//! Conversations as lists of lines, and what follows from them.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::driver::claude::protocol::Line;

/// A conversation that hands out the ids 1, 2, 3...
struct Talk {
    session: Session,
    effects: Vec<Effect>,
}

impl Talk {
    fn new(mode: PermissionMode, is_job: bool) -> Self {
        let mut next = 0u128;
        let fresh = Box::new(move || {
            next += 1;
            Uuid::from_u128(next)
        });
        let terms = Terms { mode, is_job, workdir: "/work".to_owned(), resumes: None, fresh };
        Self { session: Session::new(terms), effects: Vec::new() }
    }

    fn hears(&mut self, line: Value) -> &mut Self {
        let effects = self.session.on_line(Line::parse(line.to_string().as_bytes()));
        self.effects.extend(effects);
        self
    }

    fn does(&mut self, act: impl FnOnce(&mut Session) -> Vec<Effect>) -> &mut Self {
        let effects = act(&mut self.session);
        self.effects.extend(effects);
        self
    }

    /// Prompts, and lets the CLI start on it. Returns the stamp.
    fn starts(&mut self, turn: &str) -> String {
        let stamp = self.prompts(turn);
        self.hears(lifecycle(&stamp, "started")).hears(init("s1"));
        stamp
    }

    fn prompts(&mut self, turn: &str) -> String {
        self.does(|session| session.prompt(turn.to_owned(), "do it"));
        let Some(Effect::Write(line)) = self.effects.last() else { panic!("a line") };
        let stamp = line["uuid"].as_str().unwrap().to_owned();
        self.hears(lifecycle(&stamp, "queued"));
        stamp
    }

    /// What was done, one line each, as short as it can be said.
    fn told(&self) -> String {
        let mut told = String::new();
        for effect in &self.effects {
            let line = match effect {
                Effect::Say(Said::Event(event)) => {
                    let json = serde_json::to_string(event).unwrap();
                    format!("event  {json}")
                }
                Effect::Say(Said::Text(turn, bytes)) => {
                    format!("text   {turn} {:?}", String::from_utf8_lossy(bytes))
                }
                Effect::Say(Said::Thought(turn, bytes)) => {
                    format!("think  {turn} {:?}", String::from_utf8_lossy(bytes))
                }
                Effect::Say(Said::Log(stream, bytes)) => {
                    format!("log    {stream:?} {:?}", String::from_utf8_lossy(bytes))
                }
                Effect::Write(line) => format!("write  {line}"),
            };
            told.push_str(&line.replace("00000000-0000-0000-0000-0000000000", "#"));
            told.push('\n');
        }
        told
    }

    fn ends(&self) -> Vec<(String, TurnOutcome)> {
        self.effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Say(Said::Event(EventBody::TurnEnded { turn, outcome, .. })) => {
                    Some((turn.clone(), *outcome))
                }
                _ => None,
            })
            .collect()
    }
}

fn init(session: &str) -> Value {
    json!({"type": "system", "subtype": "init", "session_id": session})
}

fn lifecycle(stamp: &str, state: &str) -> Value {
    json!({"type": "command_lifecycle", "command_uuid": stamp, "state": state})
}

fn stream(event: Value) -> Value {
    json!({"type": "stream_event", "event": event, "parent_tool_use_id": null})
}

fn message_start(id: &str) -> Value {
    stream(json!({"type": "message_start", "message": {"id": id}}))
}

fn block_start(kind: &str) -> Value {
    let block = json!({"type": kind, kind: ""});
    stream(json!({"type": "content_block_start", "index": 0, "content_block": block}))
}

fn delta(kind: &str, text: &str) -> Value {
    let delta = json!({"type": format!("{kind}_delta"), kind: text});
    stream(json!({"type": "content_block_delta", "index": 0, "delta": delta}))
}

fn assistant(id: &str, block: Value) -> Value {
    json!({
        "type": "assistant",
        "message": {"id": id, "role": "assistant", "content": [block]},
        "parent_tool_use_id": null,
    })
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn tool(id: &str, name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": input})
}

fn tool_result(id: &str, failed: bool) -> Value {
    let result = json!({"type": "tool_result", "tool_use_id": id, "is_error": failed});
    json!({"type": "user", "message": {"role": "user", "content": [result]}})
}

fn ask(request: &str, name: &str, input: Value) -> Value {
    let asked = json!({"subtype": "can_use_tool", "tool_name": name, "input": input});
    json!({"type": "control_request", "request_id": request, "request": asked})
}

fn result(stamps: &[&str]) -> Value {
    json!({
        "type": "result",
        "subtype": "success",
        "is_error": false,
        "terminal_reason": "completed",
        "result": "the end",
        "session_id": "s1",
        "user_message_uuids": stamps,
        "model_usage_since_last_result": {
            "big": {"inputTokens": 900, "cacheReadInputTokens": 100, "outputTokens": 50,
                    "costUSD": 0.005},
        },
    })
}

fn aborted(stamps: &[&str]) -> Value {
    let mut line = result(stamps);
    line["subtype"] = json!("error_during_execution");
    line["is_error"] = json!(true);
    line["terminal_reason"] = json!("aborted_streaming");
    line["result"] = json!(null);
    line
}

fn of_task(mut line: Value) -> Value {
    line["origin"] = json!({"kind": "task-notification"});
    line["user_message_uuids"] = json!(null);
    line
}

fn tasks(ids: &[&str]) -> Value {
    let tasks: Vec<_> = ids.iter().map(|id| json!({"task_id": id})).collect();
    json!({"type": "system", "subtype": "background_tasks_changed", "tasks": tasks})
}

fn succeeded(turn: &str) -> (String, TurnOutcome) {
    (turn.to_owned(), TurnOutcome::Succeeded)
}

#[test]
fn a_turn_with_thought_text_and_a_tool() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.does(Session::begin);
    let Effect::Write(hello) = &talk.effects[0] else { panic!("a greeting") };
    let hello = hello["request_id"].clone();
    let ready = json!({"subtype": "success", "request_id": hello, "response": {}});
    talk.hears(json!({"type": "control_response", "response": ready}));
    let stamp = talk.starts("t1");
    let bash = json!({"command": "cargo test"});
    talk.hears(message_start("m1"))
        .hears(block_start("thinking"))
        .hears(delta("thinking", "hm"))
        .hears(assistant("m1", json!({"type": "thinking", "thinking": "hm"})))
        .hears(block_start("text"))
        .hears(delta("text", "I will "))
        .hears(delta("text", "test."))
        .hears(assistant("m1", text("I will test.")))
        .hears(assistant("m1", tool("u1", "Bash", bash.clone())))
        .hears(ask("r1", "Bash", bash))
        .hears(tool_result("u1", false))
        .hears(message_start("m2"))
        .hears(block_start("text"))
        .hears(delta("text", "All green."))
        .hears(assistant("m2", text("All green.")))
        .hears(result(&[&stamp]));
    insta::assert_snapshot!(talk.told());
}

#[test]
fn what_a_person_is_asked_and_answers() {
    let mut talk = Talk::new(PermissionMode::Ask, false);
    let stamp = talk.starts("t1");
    let question = json!({"questions": [{"question": "Colour?"}]});
    talk.hears(ask("r1", "Write", json!({"file_path": "/work/a", "content": "x"})))
        .does(|session| session.answer("r1", true, "", &BTreeMap::new()))
        .does(|session| session.answer("r1", false, "twice", &BTreeMap::new()))
        .hears(ask("r2", "Bash", json!({"command": "rm -r /"})))
        .does(|session| session.answer("r2", false, "", &BTreeMap::new()))
        .hears(ask("r3", "AskUserQuestion", question.clone()))
        .does(|session| session.answer("r3", true, "blue", &BTreeMap::new()))
        .hears(ask("r4", "AskUserQuestion", question))
        .does(|session| session.answer("r4", true, "", &BTreeMap::new()))
        .hears(ask("r5", "Bash", json!({"command": "ls"})))
        .hears(json!({"type": "control_cancel_request", "request_id": "r5"}))
        .does(|session| session.answer("r5", true, "", &BTreeMap::new()))
        .hears(ask("r6", "Bash", json!({"command": "left open"})))
        .hears(result(&[&stamp]));
    insta::assert_snapshot!(talk.told());
}

#[test]
fn a_control_request_that_is_not_known_is_answered() {
    let mut talk = Talk::new(PermissionMode::Bypass, true);
    let asked = json!({"subtype": "mcp_message"});
    talk.hears(json!({"type": "control_request", "request_id": "r", "request": asked}));
    let Effect::Write(line) = &talk.effects[0] else { panic!("a line") };
    assert_eq!(line["response"]["subtype"], "error");
    assert_eq!(line["response"]["request_id"], "r");
}

#[test]
fn a_turn_that_begins_without_our_stamp_is_the_agents_own() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let stamp = talk.starts("t1");
    talk.hears(tasks(&["b1"]));
    talk.hears(result(&[&stamp]));
    talk.hears(tasks(&[])).hears(init("s1"));
    talk.hears(assistant("m", text("The task is over."))).hears(of_task(result(&[])));
    insta::assert_snapshot!(talk.told());
}

#[test]
fn a_prompt_that_waits_behind_the_agents_own_turn_keeps_its_own_result() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let first = talk.starts("t1");
    talk.hears(result(&[&first])).hears(init("s1"));
    let second = talk.prompts("t2");
    talk.hears(of_task(result(&[])));
    talk.hears(lifecycle(&second, "started")).hears(init("s1")).hears(result(&[&second]));
    let own = Uuid::from_u128(2).to_string();
    assert_eq!(talk.ends(), [succeeded("t1"), succeeded(&own), succeeded("t2")]);
}

#[test]
fn a_prompt_that_is_folded_into_the_agents_own_turn_takes_it_over() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let first = talk.starts("t1");
    talk.hears(result(&[&first])).hears(init("s1"));
    let second = talk.prompts("t2");
    talk.hears(lifecycle(&second, "started")).hears(assistant("m", text("Both.")));
    let mut both = of_task(result(&[]));
    both["user_message_uuids"] = json!([second]);
    talk.hears(both);
    let own = Uuid::from_u128(2).to_string();
    assert_eq!(talk.ends(), [succeeded("t1"), succeeded(&own), succeeded("t2")]);
    let said = Effect::Say(Said::Text("t2".to_owned(), b"Both.".to_vec()));
    assert!(talk.effects.contains(&said), "{}", talk.told());
}

#[test]
fn a_result_for_another_stamp_ends_nothing() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let stamp = talk.starts("t1");
    talk.hears(result(&["somebody else's"]));
    assert_eq!(talk.ends(), []);
    talk.hears(result(&["somebody else's", &stamp]));
    assert_eq!(talk.ends(), [succeeded("t1")]);
    talk.hears(result(&[&stamp]));
    assert_eq!(talk.ends().len(), 1, "one end for each turn");
}

#[test]
fn a_cli_that_knows_no_stamps_is_understood() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    for turn in ["t1", "t2"] {
        talk.does(|session| session.prompt(turn.to_owned(), "do it"));
        let mut old = result(&[]);
        old["user_message_uuids"] = json!(null);
        talk.hears(init("s1")).hears(old);
    }
    assert_eq!(talk.ends(), [succeeded("t1"), succeeded("t2")]);
}

#[test]
fn an_interrupt_that_comes_too_early_is_repeated() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let stamp = talk.prompts("t1");
    talk.does(Session::interrupt).hears(lifecycle(&stamp, "started")).hears(init("s1"));
    talk.hears(aborted(&[&stamp])).hears(lifecycle(&stamp, "cancelled"));
    let interrupts = talk.effects.iter().filter(
        |effect| matches!(effect, Effect::Write(line) if line["request"]["subtype"] == "interrupt"),
    );
    assert_eq!(interrupts.count(), 2);
    assert_eq!(talk.ends(), [("t1".to_owned(), TurnOutcome::Cancelled)]);
}

#[test]
fn a_prompt_that_is_cancelled_in_the_queue_ends_without_a_result() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let stamp = talk.prompts("t1");
    talk.does(Session::interrupt).hears(lifecycle(&stamp, "cancelled"));
    assert_eq!(talk.ends(), [("t1".to_owned(), TurnOutcome::Cancelled)]);
}

#[test]
fn an_interrupt_of_nothing_does_nothing() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    assert_eq!(talk.does(Session::interrupt).effects, []);
}

#[test]
fn an_error_of_the_api_is_the_turns_message_and_no_answer() {
    let mut talk = Talk::new(PermissionMode::Bypass, true);
    let stamp = talk.starts(TASK_TURN);
    let words = "Not logged in · Please run /login";
    let mut said = assistant("m", text(words));
    said["error"] = json!("authentication_failed");
    let mut end = result(&[&stamp]);
    end["is_error"] = json!(true);
    end["result"] = json!(words);
    talk.hears(json!({
        "type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10,
        "retry_delay_ms": 588.7, "error_status": 529, "error": "overloaded",
    }));
    talk.hears(said).hears(end);
    insta::assert_snapshot!(talk.told());
    let end = talk.session.task_end().expect("an end");
    assert_eq!(end.0, TurnOutcome::Failed);
}

#[test]
fn a_job_is_quiet_only_when_no_background_task_is_left() {
    let mut talk = Talk::new(PermissionMode::Bypass, true);
    let stamp = talk.starts(TASK_TURN);
    talk.hears(tasks(&["b1", "b2"])).hears(result(&[&stamp]));
    assert_eq!(talk.ends(), [], "the end of the task is kept back");
    assert!(talk.session.task_end().is_some() && !talk.session.is_quiet());
    talk.hears(tasks(&["b2"])).hears(tasks(&[]));
    assert!(talk.session.awaits_own_turn() && !talk.session.is_quiet());
    talk.hears(init("s1"));
    assert!(!talk.session.awaits_own_turn() && !talk.session.is_quiet());
    talk.hears(of_task(result(&[])));
    assert!(talk.session.is_quiet());
    assert_eq!(talk.session.task_end(), Some(&(TurnOutcome::Succeeded, String::new())));
    let own = Uuid::from_u128(2).to_string();
    assert_eq!(talk.ends(), [succeeded(&own), succeeded(TASK_TURN)]);
}

#[test]
fn a_turn_that_the_cli_owed_and_did_not_begin_is_not_waited_for() {
    let mut talk = Talk::new(PermissionMode::Bypass, true);
    let stamp = talk.starts(TASK_TURN);
    talk.hears(tasks(&["b1"])).hears(result(&[&stamp])).hears(tasks(&[]));
    assert!(talk.session.awaits_own_turn());
    talk.does(Session::expect_nothing);
    assert!(talk.session.is_quiet());
    assert_eq!(talk.ends(), [succeeded(TASK_TURN)]);
}

#[test]
fn a_prompt_that_comes_too_early_waits_for_the_one_before_it() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let first = talk.starts("t1");
    let before = talk.effects.len();
    talk.does(|session| session.prompt("t2".to_owned(), "then this"));
    assert_eq!(talk.effects.len(), before, "nothing is written yet");
    talk.hears(result(&[&first]));
    let Some(Effect::Write(line)) = talk.effects.last() else { panic!("a line") };
    assert_eq!(line["message"]["content"], "then this");
    let second = line["uuid"].as_str().unwrap().to_owned();
    talk.hears(lifecycle(&second, "started")).hears(init("s1")).hears(result(&[&second]));
    assert_eq!(talk.ends(), [succeeded("t1"), succeeded("t2")]);
}

#[test]
fn a_stop_interrupts_and_ends_background_tasks() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.starts("t1");
    talk.hears(tasks(&["b1"])).effects.clear();
    talk.does(Session::stop);
    insta::assert_snapshot!(talk.told());
}

#[test]
fn what_a_turn_has_used_counts_also_if_the_cli_goes_away() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.starts("t1");
    talk.hears(message_ends("tool_use", 50));
    talk.does(|session| session.gone("it fell"));
    let used = talk.effects.iter().find_map(|effect| match effect {
        Effect::Say(Said::Event(EventBody::TurnEnded { usage, .. })) => Some(usage.output_tokens),
        _ => None,
    });
    assert_eq!(used, Some(50));
}

#[test]
fn what_was_open_when_the_cli_went_away_is_ended() {
    let mut talk = Talk::new(PermissionMode::Ask, false);
    talk.starts("t1");
    talk.hears(assistant("m", tool("u1", "Bash", json!({"command": "ls"})))).hears(ask(
        "r1",
        "Bash",
        json!({"command": "ls"}),
    ));
    talk.effects.clear();
    talk.does(|session| session.gone("it fell"));
    insta::assert_snapshot!(talk.told());
}

#[test]
fn the_session_is_told_whenever_its_id_changes() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.hears(init("a")).hears(init("a")).hears(init("b"));
    let ids: Vec<_> = talk
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Say(Said::Event(EventBody::Session { id })) => Some(id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn subagents_show_their_tools_and_keep_their_words() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.starts("t1");
    let nested = |block| {
        let mut line = assistant("n", block);
        line["parent_tool_use_id"] = json!("u0");
        line
    };
    talk.effects.clear();
    talk.hears(nested(text("between us"))).hears(nested(tool(
        "u1",
        "Grep",
        json!({"pattern": "x"}),
    )));
    insta::assert_snapshot!(talk.told());
}

fn gone() -> Value {
    json!({
        "type": "result",
        "subtype": "error_during_execution",
        "is_error": true,
        "session_id": "old",
        "errors": ["No conversation found with session ID: old"],
    })
}

#[test]
fn a_session_that_is_gone_begins_anew_with_what_was_prompted() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.session.terms.resumes = Some("old".to_owned());
    talk.does(Session::begin);
    talk.does(|session| session.prompt("t1".to_owned(), "do it"));
    talk.hears(gone());
    assert!(talk.session.is_gone());
    assert_eq!(talk.ends(), []);
    talk.effects.retain(|effect| matches!(effect, Effect::Say(_)));
    talk.does(Session::begin_anew).hears(init("new"));
    insta::assert_snapshot!(talk.told());
    assert!(!talk.session.is_gone());
}

#[test]
fn a_session_that_is_gone_later_is_a_failure_as_any_other() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.session.terms.resumes = Some("old".to_owned());
    let stamp = talk.starts("t1");
    let mut late = gone();
    late["user_message_uuids"] = json!([stamp]);
    talk.hears(late);
    assert!(!talk.session.is_gone());
    assert_eq!(talk.ends(), [("t1".to_owned(), TurnOutcome::Failed)]);
}

#[test]
fn an_interrupt_holds_over_a_session_that_is_gone() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    talk.session.terms.resumes = Some("old".to_owned());
    talk.does(|session| session.prompt("t1".to_owned(), "do it")).does(Session::interrupt);
    talk.hears(gone()).effects.clear();
    talk.does(Session::begin_anew);
    let stamp = talk
        .effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Write(line) => line["uuid"].as_str(),
            Effect::Say(_) => None,
        })
        .expect("the prompt")
        .to_owned();
    talk.hears(lifecycle(&stamp, "cancelled"));
    assert_eq!(talk.ends(), [("t1".to_owned(), TurnOutcome::Cancelled)]);
}

fn mode(mode: &str) -> Value {
    json!({"type": "system", "subtype": "status", "permissionMode": mode})
}

#[test]
fn a_plan_that_was_approved_holds_for_its_turn() {
    let mut talk = Talk::new(PermissionMode::Plan, false);
    let write = || json!({"file_path": "/work/a"});
    let none = BTreeMap::new();
    let stamp = talk.starts("t1");
    talk.effects.clear();
    talk.hears(ask("r1", "Write", write()))
        .hears(ask("r2", "ExitPlanMode", json!({"plan": "1. do it"})))
        .does(|session| session.answer("r2", false, "", &none))
        .hears(ask("r3", "ExitPlanMode", json!({"plan": "2. do it"})))
        .does(|session| session.answer("r3", true, "", &none))
        .hears(mode("default"))
        .hears(ask("r4", "Write", write()))
        .does(|session| session.answer("r4", true, "", &none))
        .hears(result(&[&stamp]));
    talk.does(|session| session.prompt("t2".to_owned(), "do it"));
    talk.hears(mode("plan")).hears(ask("r5", "Write", write()));
    insta::assert_snapshot!(talk.told());
}

fn message_ends(stop: &str, output: u64) -> Value {
    stream(json!({
        "type": "message_delta", "delta": {"stop_reason": stop},
        "usage": {"output_tokens": output},
    }))
}

#[test]
fn what_a_turn_has_used_is_told_when_the_model_goes_on() {
    let mut talk = Talk::new(PermissionMode::Bypass, false);
    let costs = |talk: &mut Talk, usd: &str| {
        let asked = talk.effects.iter().rev().find_map(|effect| match effect {
            Effect::Write(line) if line["request"]["subtype"] == "get_session_cost" => {
                Some(line["request_id"].clone())
            }
            _ => None,
        });
        let text = format!("Estimated cost:        ${usd}");
        let answer = json!({"subtype": "success", "request_id": asked, "response": {"text": text}});
        talk.hears(json!({"type": "control_response", "response": answer}));
    };
    talk.does(Session::begin);
    costs(&mut talk, "1.0000");
    let stamp = talk.starts("t1");
    talk.effects.clear();
    let begins = |read: u64| {
        let usage = json!({"input_tokens": read, "cache_read_input_tokens": 5});
        stream(json!({"type": "message_start", "message": {"id": "m", "usage": usage}}))
    };
    talk.hears(begins(1000)).hears(message_ends("tool_use", 50));
    costs(&mut talk, "1.0050");
    talk.hears(begins(2000)).hears(message_ends("tool_use", 10));
    costs(&mut talk, "1.0200");
    talk.hears(begins(1)).hears(message_ends("end_turn", 1)).hears(result(&[&stamp]));
    insta::assert_snapshot!(talk.told());
}

/// A line of one of the known types with members of any value, so that no member is trusted.
fn any_line() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_\u{1F600}]{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["text", "thinking", "tool_use", "tool_result", "s1", "started"])
            .prop_map(Value::from),
    ];
    let names = [
        "type",
        "subtype",
        "session_id",
        "uuid",
        "message",
        "content",
        "id",
        "event",
        "delta",
        "text",
        "thinking",
        "index",
        "content_block",
        "tool_use_id",
        "name",
        "input",
        "request",
        "request_id",
        "tool_name",
        "tasks",
        "task_id",
        "state",
        "command_uuid",
        "result",
        "usage",
        "modelUsage",
        "model_usage_since_last_result",
        "total_cost_usd",
        "is_error",
        "errors",
        "user_message_uuids",
        "origin",
        "kind",
        "attempt",
        "retry_delay_ms",
        "error",
    ];
    let value = leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(names.to_vec()), inner), 0..8).prop_map(
                |members| {
                    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                }
            ),
        ]
    });
    let types = [
        "system",
        "assistant",
        "user",
        "result",
        "stream_event",
        "control_request",
        "control_response",
        "control_cancel_request",
        "command_lifecycle",
        "conversation_reset",
    ];
    let subtypes = [
        "init",
        "api_retry",
        "background_tasks_changed",
        "task_notification",
        "can_use_tool",
        "success",
        "error_during_execution",
    ];
    (prop::sample::select(types.to_vec()), prop::sample::select(subtypes.to_vec()), value).prop_map(
        |(kind, subtype, mut value)| {
            if let Value::Object(members) = &mut value {
                members.insert("type".to_owned(), json!(kind));
                members.entry("subtype").or_insert(json!(subtype));
            }
            value
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the CLI prints and whenever it goes: nothing panics, and each turn that was
    /// begun ends once.
    #[test]
    fn every_turn_ends_once_whatever_the_lines(
        lines in prop::collection::vec(any_line(), 0..40),
        prompt_at in 0usize..40,
    ) {
        let mut talk = Talk::new(PermissionMode::Ask, true);
        talk.does(Session::begin);
        for (n, line) in lines.into_iter().enumerate() {
            if n == prompt_at {
                talk.does(|session| session.prompt(TASK_TURN.to_owned(), "do it"));
            }
            talk.hears(line);
        }
        talk.does(|session| session.gone("it fell"));
        let mut begun: Vec<String> = talk.effects.iter().filter_map(|effect| match effect {
            Effect::Say(Said::Event(EventBody::TurnAccepted { turn, .. })) => Some(turn.clone()),
            Effect::Write(line) if line["type"] == "user" => Some(TASK_TURN.to_owned()),
            _ => None,
        }).collect();
        let mut ended: Vec<String> = talk.ends().into_iter().map(|(turn, _)| turn).collect();
        begun.sort();
        ended.sort();
        prop_assert_eq!(begun, ended);
    }

    #[test]
    fn any_bytes_are_a_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut talk = Talk::new(PermissionMode::Bypass, true);
        let effects = talk.session.on_line(Line::parse(&bytes));
        prop_assert!(effects.len() < 10);
    }
}
