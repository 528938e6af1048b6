//! The Messages API of Anthropic, as far as Claude Code speaks it.

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
pub const PATH: &str = "/v1/messages";

/// Answers a request.
pub fn answer(shared: &Shared, key: String, body: Value) -> Response {
    let model = body["model"].as_str().unwrap_or("claude-fake").to_owned();
    let is_streamed = body["stream"] == true;
    match shared.reply(key, body.clone(), spoken(&body["messages"])) {
        Reply::Error(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
            error(status, error_kind(code))
        }
        Reply::Acts { acts, is_cut } if is_streamed => {
            script::streamed(Message { model, acts, is_cut }.beats())
        }
        Reply::Acts { is_cut: true, .. } => script::broken(),
        Reply::Acts { acts, .. } => whole(&model, &acts),
    }
}

/// Who said what, without the results of tools.
fn spoken(messages: &Value) -> Vec<Spoken<'_>> {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let spoken = messages.iter().filter_map(|message| match message["role"].as_str()? {
        "assistant" => Some(Spoken::Model),
        "user" => Some(Spoken::Person(match &message["content"] {
            Value::String(text) => vec![text],
            Value::Array(blocks) => {
                blocks.iter().filter_map(|block| block["text"].as_str()).collect()
            }
            _ => vec![],
        })),
        _ => None,
    });
    spoken.collect()
}

/// The tool that is used, and with what.
fn tool(act: &Act) -> Option<(&str, Value)> {
    match act {
        Act::Bash(command) => {
            Some(("Bash", json!({"command": command, "description": "a scripted command"})))
        }
        Act::Write { path, content } => {
            Some(("Write", json!({"file_path": path, "content": content})))
        }
        Act::Use { tool, input } => Some((tool, input.clone())),
        _ => None,
    }
}

fn error_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

fn error(status: StatusCode, kind: &str) -> Response {
    let body = json!({
        "type": "error",
        "error": {"type": kind, "message": format!("fake {}", status.as_u16())},
        "request_id": "req_fake",
    });
    (status, axum::Json(body)).into_response()
}

/// An answer that is told event by event.
struct Message {
    model: String,
    acts: Vec<Act>,
    is_cut: bool,
}

fn event(event: Value) -> Beat {
    Beat::event(event["type"].as_str(), &event)
}

impl Message {
    fn beats(self) -> Vec<Beat> {
        let mut beats = vec![
            event(json!({
                "type": "message_start",
                "message": {
                    "id": id("msg"),
                    "type": "message",
                    "role": "assistant",
                    "model": self.model,
                    "content": [],
                    "stop_reason": null,
                    "stop_sequence": null,
                    "usage": usage(1),
                },
            })),
            event(json!({"type": "ping"})),
        ];
        for (index, act) in self.acts.iter().enumerate() {
            beats.extend(blocks(act, index));
        }
        if self.is_cut {
            // In the middle of the last block, and not before the client has what was sent.
            beats.pop();
            beats.push(Beat::Pause(Duration::from_secs(1)));
            beats.push(Beat::Break);
            return beats;
        }
        let stop_reason = stop_reason(&self.acts);
        beats.push(event(json!({
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": null},
            "usage": {"output_tokens": OUTPUT_TOKENS},
        })));
        beats.push(event(json!({"type": "message_stop"})));
        beats
    }
}

const INPUT_TOKENS: u32 = 1000;
const OUTPUT_TOKENS: u32 = 50;

fn usage(output: u32) -> Value {
    json!({
        "input_tokens": INPUT_TOKENS,
        "output_tokens": output,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    })
}

fn stop_reason(acts: &[Act]) -> &'static str {
    if acts.iter().any(Act::is_tool) { "tool_use" } else { "end_turn" }
}

/// One act as a block of the stream.
fn blocks(act: &Act, index: usize) -> Vec<Beat> {
    let start = |block: Value| {
        event(json!({"type": "content_block_start", "index": index, "content_block": block}))
    };
    let delta = |delta: Value| {
        event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
    };
    let text = |text: &str| delta(json!({"type": "text_delta", "text": text}));
    let stop = event(json!({"type": "content_block_stop", "index": index}));
    let mut beats = vec![];
    match act {
        Act::Say(words) => {
            beats.push(start(json!({"type": "text", "text": ""})));
            beats.extend(pieces(words).into_iter().map(text));
        }
        Act::Cut(_) => {
            beats.push(start(json!({"type": "text", "text": ""})));
            beats.push(text("partial "));
        }
        Act::Slow { words, every } => {
            beats.push(start(json!({"type": "text", "text": ""})));
            for n in 0..*words {
                beats.push(text(&format!("word{n} ")));
                beats.push(Beat::Pause(*every));
            }
        }
        Act::Think(thought) => {
            beats.push(start(json!({"type": "thinking", "thinking": "", "signature": ""})));
            beats.push(delta(json!({"type": "thinking_delta", "thinking": thought})));
            beats.push(delta(json!({"type": "signature_delta", "signature": "c2lnbmVk"})));
        }
        Act::Bash(_) | Act::Write { .. } | Act::Use { .. } => {
            let Some((tool, input)) = tool(act) else { return beats };
            let id = id("toolu");
            beats.push(start(json!({"type": "tool_use", "id": id, "name": tool, "input": {}})));
            let json = input.to_string();
            for piece in pieces(&json) {
                beats.push(delta(json!({"type": "input_json_delta", "partial_json": piece})));
            }
        }
        Act::Hang => return vec![Beat::Never],
        Act::Status(..) => return vec![],
    }
    beats.push(stop);
    beats
}

/// An answer in one piece.
fn whole(model: &str, acts: &[Act]) -> Response {
    let content: Vec<Value> = acts
        .iter()
        .filter_map(|act| match act {
            Act::Say(text) => Some(json!({"type": "text", "text": text})),
            Act::Think(text) => {
                Some(json!({"type": "thinking", "thinking": text, "signature": "c2lnbmVk"}))
            }
            Act::Slow { words, .. } => {
                let words: String = (0..*words).map(|n| format!("word{n} ")).collect();
                Some(json!({"type": "text", "text": words}))
            }
            Act::Bash(_) | Act::Write { .. } | Act::Use { .. } => {
                let (tool, input) = tool(act)?;
                Some(json!({"type": "tool_use", "id": id("toolu"), "name": tool, "input": input}))
            }
            Act::Hang | Act::Status(..) | Act::Cut(_) => None,
        })
        .collect();
    axum::Json(json!({
        "id": id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason(acts),
        "stop_sequence": null,
        "usage": usage(OUTPUT_TOKENS),
    }))
    .into_response()
}

#[test]
fn results_of_tools_are_nobodys_words() {
    let messages = json!([
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": [{"type": "tool_use"}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "5"}]},
    ]);
    let expected = [Spoken::Person(vec!["old"]), Spoken::Model, Spoken::Person(vec![])];
    assert_eq!(spoken(&messages), expected);
}
