//! A model API on loopback that does what it is told: the Messages API of Anthropic, as far as
//! Claude Code speaks it.
//!
//! What to do stands in the prompt, so that a test reads in one place. Plain text is echoed, and
//! directives are worked off in their order:
//!
//! | directive | what the model does |
//! |---|---|
//! | `[[bash:CMD]]` | uses the tool `Bash` |
//! | `[[write:PATH\|CONTENT]]` | uses the tool `Write` |
//! | `[[tool:NAME\|JSON]]` | uses any tool |
//! | `[[think:TEXT]]` | thinks aloud |
//! | `[[slow:N:MS]]` | says N words, one each MS milliseconds |
//! | `[[big:KIB]]` | says that much text |
//! | `[[hang]]` | begins to answer, and says nothing more |
//! | `[[status:CODE]]`, `[[status:CODE:N]]` | answers with an error, always or N times |
//! | `[[cut]]`, `[[cut:N]]` | breaks off in the middle, always or N times |
//!
//! A tool use ends the answer, as it does with a real model; the next step begins when the
//! tool's result comes. Which step is due follows from the conversation itself (the answers
//! since the prompt), so that nothing is remembered between requests but how often an error with
//! a number was given.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    serve::ListenerExt as _,
};
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

/// The API, until it is dropped.
pub struct FakeModel {
    url: String,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Recorded>>,
    /// How often each error with a number was given, by prompt.
    given: Mutex<HashMap<String, u32>>,
}

/// A request for an answer.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The key or token that came with it.
    pub key: String,
    /// The person's words that it goes back to.
    pub prompt: String,
    /// The whole body.
    pub body: Value,
}

impl FakeModel {
    /// Listens on a free port of loopback.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        // A model's small pieces go out at once.
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("the fake model serves");
        });
        Self { url, shared, server }
    }

    /// Where it listens: `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.uri.path() != "/v1/messages" {
        return error(StatusCode::NOT_FOUND, "not_found_error");
    }
    let key = ["x-api-key", "authorization"]
        .iter()
        .find_map(|name| parts.headers.get(*name)?.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return error(StatusCode::BAD_REQUEST, "invalid_request_error");
    };
    let (prompt, step) = conversation(&body["messages"]);
    lock(&shared.requests).push(Recorded { key, prompt: prompt.clone(), body: body.clone() });
    let mut steps = steps(&prompt);
    let acts = if step < steps.len() { steps.swap_remove(step) } else { vec![] };
    let acts = if acts.is_empty() { vec![Act::Say("done".to_owned())] } else { acts };
    for act in &acts {
        if let Act::Status(code, times) = act
            && shared.is_due(&format!("{step} {prompt}"), *times)
        {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::BAD_GATEWAY);
            return error(status, error_kind(*code));
        }
    }
    let is_cut = acts.iter().any(|act| match act {
        Act::Cut(times) => shared.is_due(&format!("{step} {prompt}"), *times),
        _ => false,
    });
    let acts = if is_cut { acts } else { acts.into_iter().map(Act::uncut).collect() };
    let model = body["model"].as_str().unwrap_or("claude-fake").to_owned();
    if body["stream"] == true {
        streamed(Message { model, acts, is_cut })
    } else if is_cut {
        Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))]))
            .into_response()
    } else {
        whole(&model, &acts)
    }
}

impl Shared {
    /// Whether an error that is given `times` times has to be given once more.
    fn is_due(&self, key: &str, times: Option<u32>) -> bool {
        let Some(times) = times else { return true };
        let mut given = lock(&self.given);
        let count = given.entry(key.to_owned()).or_default();
        *count += 1;
        *count <= times
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

/// The person's last words, and how many answers of the model came since.
fn conversation(messages: &Value) -> (String, usize) {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut answers = 0;
    for message in messages.iter().rev() {
        match message["role"].as_str() {
            Some("assistant") => answers += 1,
            Some("user") => {
                let words = words(&message["content"]);
                if !words.is_empty() {
                    return (words, answers);
                }
            }
            _ => {}
        }
    }
    (String::new(), answers)
}

/// What a person says in a message: no tool results, and nothing that the CLI adds by itself.
/// The CLI joins what follows an interrupt to what was before; only what follows counts.
fn words(content: &Value) -> String {
    let texts: Vec<&str> = match content {
        Value::String(text) => vec![text],
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => vec![],
    };
    let added =
        ["<system-reminder>", "<local-command", "<command-name>", "Your response above was cut"];
    let is_added = |text: &str| text.is_empty() || added.iter().any(|tag| text.starts_with(tag));
    let mut words: Vec<&str> = vec![];
    for text in texts.into_iter().map(str::trim) {
        if text.starts_with("[Request interrupted") {
            words.clear();
        } else if let Some(told) = notification(text) {
            words.push(told);
        } else if !is_added(text) {
            words.push(text);
        }
    }
    words.join("\n")
}

/// What the CLI tells the model about a background task that has ended; it counts as a prompt.
fn notification(text: &str) -> Option<&str> {
    let (_, told) = text.split_once("<task-notification>")?;
    let (_, summary) = told.split_once("<summary>")?;
    summary.split_once("</summary>").map(|(summary, _)| summary)
}

#[derive(Debug, Clone, PartialEq)]
enum Act {
    Say(String),
    Think(String),
    Slow { words: u32, every: Duration },
    Use { tool: String, input: Value },
    Hang,
    Status(u16, Option<u32>),
    Cut(Option<u32>),
}

impl Act {
    /// What is said where an answer is not broken off any more.
    fn uncut(self) -> Self {
        if matches!(self, Self::Cut(_)) { Self::Say("whole".to_owned()) } else { self }
    }
}

/// The steps of a prompt; each ends with a tool use, save the last.
fn steps(prompt: &str) -> Vec<Vec<Act>> {
    let mut steps = vec![vec![]];
    let mut rest = prompt;
    loop {
        let (plain, directive) = match rest.split_once("[[") {
            Some((plain, directive)) => (plain, Some(directive)),
            None => (rest, None),
        };
        let now = steps.last_mut().expect("at least one step");
        if !plain.trim().is_empty() {
            now.push(Act::Say(format!("echo: {}", plain.trim())));
        }
        let Some(directive) = directive else { return steps };
        let (act, behind) = act(directive);
        let ends_step = matches!(act, Act::Use { .. });
        now.push(act);
        if ends_step {
            steps.push(vec![]);
        }
        rest = behind;
    }
}

/// A directive, and what stands behind it.
fn act(text: &str) -> (Act, &str) {
    if let Some((tool, rest)) = text.strip_prefix("tool:").and_then(|text| text.split_once('|')) {
        // The input may hold the closing brackets itself, so that JSON says where it ends.
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        if let Some(Ok(input)) = values.next() {
            let behind = &rest[values.byte_offset()..];
            let behind = behind.strip_prefix("]]").unwrap_or(behind);
            return (Act::Use { tool: tool.to_owned(), input }, behind);
        }
    }
    let (directive, behind) = text.split_once("]]").unwrap_or((text, ""));
    let (name, value) = directive.split_once(':').unwrap_or((directive, ""));
    let (first, second) = value.split_once(':').unwrap_or((value, ""));
    let act = match name {
        "bash" => Act::Use {
            tool: "Bash".to_owned(),
            input: json!({"command": value, "description": "a scripted command"}),
        },
        "write" => {
            let (path, content) = value.split_once('|').unwrap_or((value, ""));
            let input = json!({"file_path": path, "content": content});
            Act::Use { tool: "Write".to_owned(), input }
        }
        "think" => Act::Think(value.to_owned()),
        "slow" => Act::Slow {
            words: first.parse().unwrap_or(10),
            every: Duration::from_millis(second.parse().unwrap_or(100)),
        },
        "big" => Act::Say("x".repeat(1023).repeat(value.parse().unwrap_or(1))),
        "hang" => Act::Hang,
        "status" => Act::Status(first.parse().unwrap_or(500), second.parse().ok()),
        "cut" => Act::Cut(value.parse().ok()),
        _ => Act::Say(format!("unknown directive {directive}")),
    };
    (act, behind)
}

/// An answer that is told event by event.
struct Message {
    model: String,
    acts: Vec<Act>,
    is_cut: bool,
}

/// What is sent: an event at once, a pause, or an end that is none.
enum Beat {
    Event(Value),
    Pause(Duration),
    Never,
    Break,
}

fn streamed(message: Message) -> Response {
    let beats = stream::iter(message.beats()).then(|beat| async {
        match beat {
            Beat::Event(event) => {
                let name = event["type"].as_str().unwrap_or_default();
                Ok(Bytes::from(format!("event: {name}\ndata: {event}\n\n")))
            }
            Beat::Pause(time) => {
                let _ = tokio::time::timeout(time, std::future::pending::<Infallible>()).await;
                Ok(Bytes::new())
            }
            Beat::Never => std::future::pending().await,
            Beat::Break => Err(std::io::Error::other("cut")),
        }
    });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(beats)).into_response()
}

impl Message {
    fn beats(self) -> Vec<Beat> {
        let mut beats = vec![
            Beat::Event(json!({
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
            Beat::Event(json!({"type": "ping"})),
        ];
        for (index, act) in self.acts.iter().enumerate() {
            beats.extend(blocks(act, index));
        }
        if self.is_cut {
            // In the middle of the last block, and not before the client has what was sent.
            beats.pop();
            beats.push(Beat::Pause(Duration::from_millis(200)));
            beats.push(Beat::Break);
            return beats;
        }
        let stop_reason = stop_reason(&self.acts);
        beats.push(Beat::Event(json!({
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": null},
            "usage": {"output_tokens": OUTPUT_TOKENS},
        })));
        beats.push(Beat::Event(json!({"type": "message_stop"})));
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
    if acts.iter().any(|act| matches!(act, Act::Use { .. })) { "tool_use" } else { "end_turn" }
}

/// One act as a block of the stream.
fn blocks(act: &Act, index: usize) -> Vec<Beat> {
    let start = |block: Value| {
        let event = json!({"type": "content_block_start", "index": index, "content_block": block});
        Beat::Event(event)
    };
    let delta = |delta: Value| {
        Beat::Event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
    };
    let text = |text: &str| delta(json!({"type": "text_delta", "text": text}));
    let stop = Beat::Event(json!({"type": "content_block_stop", "index": index}));
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
        Act::Use { tool, input } => {
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

/// Text in the pieces in which it is streamed.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = vec![];
    let mut rest = text;
    // A few small pieces first, as a model gives them, and large ones for bulk.
    while !rest.is_empty() {
        let size = if pieces.len() < 3 { 5 } else { 16 * 1024 };
        let end = (size..=rest.len()).find(|end| rest.is_char_boundary(*end));
        let (piece, behind) = rest.split_at(end.unwrap_or(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
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
            Act::Use { tool, input } => {
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

/// An id that no other answer of any fake of this run has.
fn id(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{:08x}{n:08x}", std::process::id())
}

#[test]
fn a_prompt_is_worked_off_step_by_step() {
    let said = |text: &str| Act::Say(text.to_owned());
    let steps = steps("first [[tool:Grep|{\"pattern\": \"[[a]]\"}]] [[think:hm]] then [[hang]]");
    let input = json!({"pattern": "[[a]]"});
    let grep = Act::Use { tool: "Grep".to_owned(), input };
    let second = vec![Act::Think("hm".to_owned()), said("echo: then"), Act::Hang];
    assert_eq!(steps, [vec![said("echo: first"), grep], second]);
}

#[test]
fn the_due_step_follows_from_the_conversation() {
    let messages = json!([
        {"role": "user", "content": "old"},
        {"role": "assistant", "content": "old answer"},
        {"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>x</system-reminder>"},
            {"type": "text", "text": "new"},
        ]},
        {"role": "assistant", "content": [{"type": "tool_use"}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "5"}]},
    ]);
    assert_eq!(conversation(&messages), ("new".to_owned(), 1));
    let joined = json!([{"role": "user", "content": [
        {"type": "text", "text": "old"},
        {"type": "text", "text": "[Request interrupted by user]"},
        {"type": "text", "text": "new"},
    ]}]);
    assert_eq!(conversation(&joined), ("new".to_owned(), 0));
}

#[tokio::test]
async fn the_api_listens_and_remembers() {
    let model = FakeModel::start().await;
    assert!(model.url().starts_with("http://127.0.0.1:"));
    let seen: Vec<(String, String, Value)> =
        model.requests().into_iter().map(|seen| (seen.key, seen.prompt, seen.body)).collect();
    assert!(seen.is_empty());
}
