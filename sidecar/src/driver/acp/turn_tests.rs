//! What is said of a turn, whatever its agent sends.

use agent_client_protocol_schema::v1::{SessionNotification, SessionUpdate};
use proptest::prelude::*;

use super::*;

fn update(update: Value) -> SessionUpdate {
    let it: SessionNotification =
        serde_json::from_value(json!({"sessionId": "s1", "update": update})).expect("an update");
    it.update
}

/// Lets a turn hear updates, as the session does.
fn hear(turn: &mut Turn, updates: impl IntoIterator<Item = Value>) -> Vec<Said> {
    let mut said = Vec::new();
    for it in updates {
        match update(it) {
            SessionUpdate::AgentMessageChunk(chunk) => turn.on_text(&chunk, false, &mut said),
            SessionUpdate::AgentThoughtChunk(chunk) => {
                turn.on_thought(&text_of(&chunk.content), &mut said);
            }
            SessionUpdate::ToolCall(call) => turn.on_tool(call, &mut said),
            SessionUpdate::ToolCallUpdate(update) => turn.on_tool_update(update, &mut said),
            SessionUpdate::Plan(plan) => turn.on_plan(&plan, &mut said),
            other => panic!("{other:?}"),
        }
    }
    said
}

fn says(text: &str, message: Option<&str>) -> Value {
    let content = json!({"type": "text", "text": text});
    json!({"sessionUpdate": "agent_message_chunk", "content": content, "messageId": message})
}

fn tool(id: &str, kind: &str, status: &str) -> Value {
    json!({"sessionUpdate": "tool_call", "toolCallId": id, "title": format!("the {kind}"),
        "kind": kind, "status": status})
}

fn tool_update(id: &str, status: &str) -> Value {
    json!({"sessionUpdate": "tool_call_update", "toolCallId": id, "status": status})
}

/// The text of a turn, and in brackets what it does between.
fn told(said: &[Said]) -> String {
    let pieces = said.iter().map(|it| match it {
        Said::Text(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Said::Thought(_, bytes) => format!("({})", String::from_utf8_lossy(bytes).trim()),
        Said::Event(EventBody::Tool { id, name, title, .. }) => format!("[{id} {name}: {title}]"),
        Said::Event(EventBody::ToolEnded { id, failed, .. }) => {
            format!("[{id} {}]", if *failed { "failed" } else { "done" })
        }
        other => format!("{other:?}"),
    });
    pieces.collect()
}

fn ended(turn: &mut Turn, mut said: Vec<Said>) -> String {
    turn.end(&mut said);
    told(&said)
}

#[test]
fn messages_are_paragraphs_and_the_pieces_of_one_are_joined() {
    let mut turn = Turn::new("t1".to_owned());
    let pieces = [("He", "a"), ("llo.", "a"), ("Bye.", "b")];
    let said = hear(&mut turn, pieces.map(|(text, message)| says(text, Some(message))));
    assert_eq!(ended(&mut turn, said), "Hello.\n\nBye.\n");
}

#[test]
fn a_tool_is_told_once_it_is_known_what_it_does() {
    let mut turn = Turn::new("t1".to_owned());
    let said = hear(&mut turn, [says("First.", None), tool("a", "execute", "pending")]);
    assert_eq!(told(&said), "First.", "a name alone says nothing");
    let command = json!({"command": "make\ntest"});
    let mut begun = tool_update("a", "in_progress");
    begun["rawInput"] = command;
    let said = hear(&mut turn, [begun, tool_update("a", "completed"), says("Then.", None)]);
    assert_eq!(ended(&mut turn, said), "[a execute: execute: make test][a done]\n\nThen.\n");
}

#[test]
fn a_tool_that_is_told_of_only_when_it_ends_is_told_all_the_same() {
    let mut turn = Turn::new("t1".to_owned());
    let said = hear(&mut turn, [tool_update("a", "failed"), tool_update("a", "completed")]);
    assert_eq!(told(&said), "[a other: other][a failed]", "and what ended has ended");
}

#[test]
fn what_is_still_open_ends_with_the_turn() {
    let mut turn = Turn::new("t1".to_owned());
    let said = hear(&mut turn, [tool("a", "read", "in_progress"), tool("b", "read", "pending")]);
    assert_eq!(ended(&mut turn, said), "[a read: the read][a failed]", "b never began");
}

#[test]
fn text_that_turns_out_to_be_a_failure_is_not_said_but_is_the_reason() {
    let chunk = |text| match update(says(text, None)) {
        SessionUpdate::AgentMessageChunk(chunk) => chunk,
        other => panic!("{other:?}"),
    };
    let mut turn = Turn::new("t1".to_owned());
    let mut said = Vec::new();
    turn.on_text(&chunk("429 Too Many"), true, &mut said);
    turn.set_broken(true);
    assert_eq!(turn.failure(), Some("429 Too Many"));
    assert_eq!(ended(&mut turn, said), "");

    let mut turn = Turn::new("t2".to_owned());
    let mut said = hear(&mut turn, [says("Before.", Some("m"))]);
    turn.on_text(&chunk("Harmless."), true, &mut said);
    said.extend(hear(&mut turn, [says("After.", Some("m"))]));
    assert_eq!(turn.failure(), None);
    assert_eq!(ended(&mut turn, said), "Before.\n\nHarmless.\n\nAfter.\n");
}

#[test]
fn a_plan_is_shown_when_it_changes() {
    let plan = |status: &str| {
        let entry = json!({"content": "Read it", "priority": "high", "status": status});
        json!({"sessionUpdate": "plan", "entries": [entry]})
    };
    let mut turn = Turn::new("t1".to_owned());
    let empty = json!({"sessionUpdate": "plan", "entries": []});
    let said = hear(&mut turn, [empty, plan("pending"), plan("pending"), plan("in_progress")]);
    assert_eq!(told(&said), "(Plan:\n- [ ] Read it)(Plan:\n- [>] Read it)");
}

#[test]
fn only_commands_may_still_run_when_their_turn_has_ended() {
    for (kind, may) in [("execute", true), ("other", true), ("read", false), ("edit", false)] {
        let mut turn = Turn::new("t1".to_owned());
        hear(&mut turn, [tool("a", kind, "completed")]);
        assert_eq!(turn.has_run_commands(), may, "{kind}");
    }
}

#[test]
fn what_a_tool_did_is_not_kept() {
    let mut turn = Turn::new("t1".to_owned());
    let mut done = tool("a", "edit", "completed");
    let diff = json!({"type": "diff", "path": "/work/a", "oldText": "", "newText": "x".repeat(9)});
    done["content"] = json!([diff]);
    done["rawInput"] = json!({"text": "x"});
    done["rawOutput"] = json!("x");
    hear(&mut turn, [done]);
    let call = turn.tool("a").expect("a tool");
    assert_eq!((&call.content[..], &call.raw_input, &call.raw_output), (&[][..], &None, &None));
}

#[test]
fn a_person_sees_the_files_that_a_tool_touches() {
    let mut turn = Turn::new("t1".to_owned());
    let mut edit = tool("a", "edit", "pending");
    edit["locations"] = json!([{"path": "/work/a"}]);
    let diff = json!({"type": "diff", "path": "/work/b", "oldText": null, "newText": "b"});
    edit["content"] = json!([diff]);
    hear(&mut turn, [edit]);
    let call = turn.tool("a").expect("a tool");
    assert_eq!(paths(call), [Path::new("/work/a"), Path::new("/work/b")]);
    let shown = input(call);
    assert_eq!(shown["paths"], json!(["/work/a"]));
    assert_eq!(shown["content"][0]["path"], "/work/b");
}

proptest! {
    #[test]
    fn a_tool_is_told_and_ended_at_most_once_and_in_this_order(
        updates in prop::collection::vec(
            (
                prop::sample::select(vec!["a", "b"]),
                prop::sample::select(vec!["pending", "in_progress", "completed", "failed"]),
                any::<bool>(),
            ),
            0..20,
        ),
    ) {
        let mut turn = Turn::new("t1".to_owned());
        let mut said = hear(&mut turn, updates.iter().map(|(id, status, is_new)| match is_new {
            true => tool(id, "execute", status),
            false => tool_update(id, status),
        }));
        turn.end(&mut said);
        for tool in ["a", "b"] {
            let events: Vec<_> = said.iter().filter_map(|it| match it {
                Said::Event(EventBody::Tool { id, .. }) if id == tool => Some("told"),
                Said::Event(EventBody::ToolEnded { id, .. }) if id == tool => Some("ended"),
                _ => None,
            }).collect();
            let is_clear = updates.iter().any(|(id, status, _)| *id == tool && *status != "pending");
            let expected: &[&str] = if is_clear { &["told", "ended"] } else { &[] };
            prop_assert_eq!(events, expected);
        }
    }

    #[test]
    fn the_pieces_of_a_message_are_said_as_they_are(pieces in prop::collection::vec("[a-zü\n ]{0,5}", 0..20)) {
        let mut turn = Turn::new("t1".to_owned());
        let said = hear(&mut turn, pieces.iter().map(|text| says(text, Some("m"))));
        let whole = pieces.concat();
        let end = if whole.is_empty() || whole.ends_with('\n') { "" } else { "\n" };
        prop_assert_eq!(ended(&mut turn, said), format!("{whole}{end}"));
    }
}
