//! The chat completions API of OpenAI, as far as OpenCode speaks it.

use std::time::Duration;

use axum::{
    body::Bytes,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::{
    Reply, Shared,
    script::{self, Act, Beat, Spoken, id, pieces},
};

/// Where it is asked.
pub const PATH: &str = "/v1/chat/completions";

const INPUT_TOKENS: u32 = 1000;
const OUTPUT_TOKENS: u32 = 50;

/// Answers a request; always as a stream, since nobody asks otherwise.
pub fn answer(shared: &Shared, key: String, body: Value) -> Response {
    let model = body["model"].as_str().unwrap_or("fake").to_owned();
    match shared.reply(key, body.clone(), spoken(&body["messages"])) {
        Reply::Error(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
            let error = json!({"message": format!("fake {code}"), "type": "fake", "code": code});
            (status, axum::Json(json!({"error": error}))).into_response()
        }
        Reply::Acts { acts, is_cut } => script::streamed(beats(&model, &acts, is_cut)),
    }
}

/// Who said what. Results of tools have a role of their own here.
fn spoken(messages: &Value) -> Vec<Spoken<'_>> {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let spoken = messages.iter().filter_map(|message| match message["role"].as_str()? {
        "assistant" => Some(Spoken::Model),
        "user" => Some(Spoken::Person(match &message["content"] {
            Value::String(text) => vec![text],
            Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
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
            Some(("bash", json!({"command": command, "description": "a scripted command"})))
        }
        Act::Write { path, content } => {
            Some(("write", json!({"filePath": path, "content": content})))
        }
        Act::Use { tool, input } => Some((tool, input.clone())),
        _ => None,
    }
}

fn beats(model: &str, acts: &[Act], is_cut: bool) -> Vec<Beat> {
    let answer = id("chatcmpl");
    let chunk = |delta: Value, end: Value, usage: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": end});
        let event = json!({
            "id": answer,
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": usage,
        });
        Beat::event(None, &event)
    };
    let delta = |delta: Value| chunk(delta, Value::Null, Value::Null);
    let mut beats = vec![delta(json!({"role": "assistant", "content": ""}))];
    for act in acts {
        match act {
            Act::Say(words) => {
                beats.extend(pieces(words).into_iter().map(|text| delta(json!({"content": text}))));
            }
            Act::Think(thought) => beats.push(delta(json!({"reasoning_content": thought}))),
            Act::Slow { words, every } => {
                for n in 0..*words {
                    beats.push(delta(json!({"content": format!("word{n} ")})));
                    beats.push(Beat::Pause(*every));
                }
            }
            Act::Cut(_) => {
                beats.push(delta(json!({"content": "partial "})));
                // Not before the client has what was sent.
                beats.push(Beat::Pause(Duration::from_millis(200)));
            }
            Act::Bash(_) | Act::Write { .. } | Act::Use { .. } => {
                let Some((name, input)) = tool(act) else { continue };
                let function = json!({"name": name, "arguments": input.to_string()});
                let call = json!({
                    "index": 0, "id": id("call"), "type": "function", "function": function,
                });
                beats.push(delta(json!({"tool_calls": [call]})));
            }
            Act::Hang => {
                beats.push(Beat::Never);
                return beats;
            }
            Act::Status(..) => {}
        }
    }
    if is_cut {
        beats.push(Beat::Break);
        return beats;
    }
    let end = if acts.iter().any(Act::is_tool) { "tool_calls" } else { "stop" };
    let usage = json!({
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    });
    beats.push(chunk(json!({}), json!(end), usage));
    beats.push(Beat::Send(Bytes::from_static(b"data: [DONE]\n\n")));
    beats
}

#[test]
fn results_of_tools_are_nobodys_words_in_chat_completions() {
    let messages = json!([
        {"role": "system", "content": "be good"},
        {"role": "user", "content": [{"type": "text", "text": "old"}]},
        {"role": "assistant", "tool_calls": []},
        {"role": "tool", "content": "5"},
    ]);
    assert_eq!(spoken(&messages), [Spoken::Person(vec!["old"]), Spoken::Model]);
}
