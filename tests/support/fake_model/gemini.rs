//! The API of Gemini, as far as its CLI speaks it.

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

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// An answer, told piece by piece.
    Stream,
    /// An answer in one piece. The CLI asks so on its own behalf.
    Whole,
    /// How long a conversation is.
    Count,
}

impl Call {
    /// What a path asks for: `/v1beta/models/MODEL:METHOD`.
    pub fn of(path: &str) -> Option<Self> {
        let (_, method) = path.strip_prefix("/v1beta/models/")?.split_once(':')?;
        match method {
            "streamGenerateContent" => Some(Self::Stream),
            "generateContent" => Some(Self::Whole),
            "countTokens" => Some(Self::Count),
            _ => None,
        }
    }
}

/// Answers a request.
pub fn answer(shared: &Shared, call: Call, key: String, body: Value) -> Response {
    if call == Call::Count {
        return axum::Json(json!({"totalTokens": 1000})).into_response();
    }
    if call == Call::Whole {
        return axum::Json(chunk(&[json!({"text": "{}"})], true)).into_response();
    }
    match shared.reply(key, body.clone(), spoken(&body["contents"])) {
        Reply::Error(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
            let message = format!("fake {code}");
            let error = json!({"code": code, "message": message, "status": "FAKE"});
            (status, axum::Json(json!({"error": error}))).into_response()
        }
        Reply::Acts { acts, is_cut } => script::streamed(beats(&acts, is_cut)),
    }
}

/// Who said what, without the results of tools.
fn spoken(contents: &Value) -> Vec<Spoken<'_>> {
    let contents = contents.as_array().map(Vec::as_slice).unwrap_or_default();
    let spoken = contents.iter().map(|content| {
        if content["role"] == "model" {
            return Spoken::Model;
        }
        let parts = content["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
        Spoken::Person(parts.iter().filter_map(|part| part["text"].as_str()).collect())
    });
    spoken.collect()
}

fn beats(acts: &[Act], is_cut: bool) -> Vec<Beat> {
    let send = |parts: &[Value], is_last| Beat::event(None, &chunk(parts, is_last));
    let text = |text: &str| send(&[json!({"text": text})], false);
    let mut beats = vec![];
    for act in acts {
        match act {
            Act::Say(words) => beats.extend(pieces(words).into_iter().map(text)),
            Act::Cut(_) => beats.push(text("partial ")),
            Act::Slow { words, every } => {
                for n in 0..*words {
                    beats.push(text(&format!("word{n} ")));
                    beats.push(Beat::Pause(*every));
                }
            }
            Act::Think(thought) => {
                beats.push(send(&[json!({"text": thought, "thought": true})], false));
            }
            Act::Bash(_) | Act::Write { .. } | Act::Use { .. } => {
                if let Some((name, args)) = tool(act) {
                    let call = json!({"id": id("call"), "name": name, "args": args});
                    beats.push(send(&[json!({"functionCall": call})], false));
                }
            }
            Act::Hang => {
                beats.push(Beat::Never);
                return beats;
            }
            Act::Status(..) => {}
        }
    }
    if is_cut {
        beats.push(Beat::Pause(Duration::from_millis(200)));
        beats.push(Beat::Break);
        return beats;
    }
    beats.push(send(&[json!({"text": ""})], true));
    beats
}

/// The tool that is used, and with what.
fn tool(act: &Act) -> Option<(&str, Value)> {
    match act {
        Act::Bash(command) => {
            let input = json!({"command": command, "description": "a scripted command"});
            Some(("run_shell_command", input))
        }
        Act::Write { path, content } => {
            Some(("write_file", json!({"file_path": path, "content": content})))
        }
        Act::Use { tool, input } => Some((tool, input.clone())),
        _ => None,
    }
}

fn chunk(parts: &[Value], is_last: bool) -> Value {
    let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": parts}});
    if is_last {
        candidate["finishReason"] = json!("STOP");
    }
    json!({
        "candidates": [candidate],
        "modelVersion": "fake",
        "usageMetadata": {
            "promptTokenCount": 1000,
            "candidatesTokenCount": if is_last { 50 } else { 1 },
            "totalTokenCount": if is_last { 1050 } else { 1001 },
        },
    })
}

#[test]
fn the_paths_of_the_api_are_known() {
    assert_eq!(Call::of("/v1beta/models/a:streamGenerateContent"), Some(Call::Stream));
    assert_eq!(Call::of("/v1/messages"), None);
}
