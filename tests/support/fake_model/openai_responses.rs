//! The Responses API of OpenAI, as far as Codex speaks it.

use std::time::Duration;

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    Reply, Shared,
    script::{self, Act, Beat, Spoken, id, pieces},
};

/// Where it is asked.
pub const PATH: &str = "/v1/responses";

/// Answers a request. Codex always asks for a stream.
pub fn answer(shared: &Shared, key: String, body: Value) -> Response {
    let asks = may_ask(&body);
    if is_about_title(&body) {
        let title = Act::Say(json!({"title": "A title"}).to_string());
        return script::streamed(beats(&[title], false, false));
    }
    match shared.reply(key, body.clone(), spoken(&body["input"])) {
        Reply::Error(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
            let message = format!("fake {code}");
            let body = json!({"error": {"message": message, "type": "fake", "code": null}});
            (status, axum::Json(body)).into_response()
        }
        Reply::Acts { acts, is_cut } => script::streamed(beats(&acts, is_cut, asks)),
    }
}

/// Whether Codex tells its model that it may ask a person to let a command out of the sandbox.
/// Where it may not, asking is an error.
fn may_ask(body: &Value) -> bool {
    !body["input"].to_string().contains("Approval policy is currently never")
}

/// Whether Codex asks on its own behalf what the conversation is to be called.
fn is_about_title(body: &Value) -> bool {
    body["input"].to_string().contains("Your task is to generate a very short title")
}

/// Who said what: what the model gave at one time is one answer.
fn spoken(input: &Value) -> Vec<Spoken<'_>> {
    let mut spoken: Vec<Spoken<'_>> = vec![];
    for item in input.as_array().map(Vec::as_slice).unwrap_or_default() {
        let role = item["role"].as_str().unwrap_or_default();
        match (item["type"].as_str().unwrap_or("message"), role) {
            ("message", "assistant") | ("function_call" | "custom_tool_call" | "reasoning", _) => {
                spoken.push(Spoken::Model);
            }
            ("message", "user") => {
                let pieces = item["content"].as_array().map(Vec::as_slice).unwrap_or_default();
                let texts = pieces.iter().filter_map(|piece| piece["text"].as_str());
                spoken.push(Spoken::Person(texts.collect()));
            }
            ("function_call_output" | "custom_tool_call_output", _) => {
                spoken.push(Spoken::Person(vec![]));
            }
            _ => {}
        }
    }
    spoken.dedup_by(|next, last| *next == Spoken::Model && *last == Spoken::Model);
    spoken
}

fn event(event: Value) -> Beat {
    Beat::event(event["type"].as_str(), &event)
}

fn beats(acts: &[Act], is_cut: bool, asks: bool) -> Vec<Beat> {
    let response = id("resp");
    let mut beats = vec![event(json!({"type": "response.created", "response": {"id": response}}))];
    for (index, act) in acts.iter().enumerate() {
        beats.extend(item(act, index, asks));
    }
    if is_cut {
        beats.pop();
        beats.push(Beat::Pause(Duration::from_millis(200)));
        beats.push(Beat::Break);
        return beats;
    }
    beats.push(event(json!({
        "type": "response.completed",
        "response": {
            "id": response,
            "status": "completed",
            "output": [],
            "usage": {
                "input_tokens": 1000,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 50,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 1050,
            },
        },
    })));
    beats
}

/// One act as an item of the answer.
fn item(act: &Act, index: usize, asks: bool) -> Vec<Beat> {
    let added = |item: &Value| {
        event(json!({"type": "response.output_item.added", "output_index": index, "item": item}))
    };
    let done = |item: &Value| {
        event(json!({"type": "response.output_item.done", "output_index": index, "item": item}))
    };
    let whole = |item: Value| vec![added(&item), done(&item)];
    match act {
        Act::Say(text) => message(index, &pieces(text), Duration::ZERO),
        Act::Cut(_) => message(index, &["partial "], Duration::ZERO),
        Act::Slow { words, every } => {
            let words: Vec<_> = (0..*words).map(|n| format!("word{n} ")).collect();
            message(index, &words.iter().map(String::as_str).collect::<Vec<_>>(), *every)
        }
        Act::Think(thought) => whole(json!({
            "type": "reasoning",
            "id": id("rs"),
            "summary": [{"type": "summary_text", "text": thought}],
            "encrypted_content": "c2VhbGVk",
        })),
        Act::Bash(command) => whole(shell(command, asks)),
        Act::Write { path, content } => {
            let patch = format!("*** Begin Patch\n*** Add File: {path}\n+{content}\n*** End Patch");
            whole(call(
                "exec_command",
                &json!({"cmd": format!("apply_patch <<'EOF'\n{patch}\nEOF\n")}),
            ))
        }
        Act::Use { tool, input } => whole(call(tool, input)),
        Act::Hang => vec![Beat::Never],
        Act::Status(..) => vec![],
    }
}

fn shell(command: &str, asks: bool) -> Value {
    let mut input = json!({"cmd": command});
    if asks {
        input["sandbox_permissions"] = json!("require_escalated");
        input["justification"] = json!("a scripted command");
    }
    call("exec_command", &input)
}

fn call(tool: &str, input: &Value) -> Value {
    json!({
        "type": "function_call",
        "id": id("fc"),
        "call_id": id("call"),
        "name": tool,
        "arguments": input.to_string(),
    })
}

fn message(index: usize, pieces: &[&str], every: Duration) -> Vec<Beat> {
    let id = id("msg");
    let item = |text: &str, status: &str| {
        let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
        let content = if text.is_empty() { json!([]) } else { content };
        json!({"type": "message", "id": id, "role": "assistant", "status": status, "content": content})
    };
    let mut beats = vec![event(json!({
        "type": "response.output_item.added",
        "output_index": index,
        "item": item("", "in_progress"),
    }))];
    for piece in pieces {
        beats.push(event(json!({
            "type": "response.output_text.delta",
            "item_id": id,
            "output_index": index,
            "content_index": 0,
            "delta": piece,
        })));
        if !every.is_zero() {
            beats.push(Beat::Pause(every));
        }
    }
    beats.push(event(json!({
        "type": "response.output_item.done",
        "output_index": index,
        "item": item(&pieces.concat(), "completed"),
    })));
    beats
}

#[test]
fn what_the_model_gave_at_one_time_is_one_answer() {
    let input = json!([
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "do it"}]},
        {"type": "reasoning"},
        {"type": "message", "role": "assistant", "content": []},
        {"type": "function_call"},
        {"type": "function_call_output", "output": "5"},
    ]);
    let expected = [Spoken::Person(vec!["do it"]), Spoken::Model, Spoken::Person(vec![])];
    assert_eq!(spoken(&input), expected);
}
