//! What Claude Code prints and reads: one JSON object a line, read tolerantly.
//!
//! The format moves from week to week. So nothing here fails: a member that is missing or has
//! another type counts as absent, a type that is not known is [`Line::Other`], and what is no
//! JSON at all is kept as the bytes it is, for the case that it explains a failure.

use serde_json::{Value, json};

/// A line of the CLI, as far as it matters to us.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// A turn begins; who asked for it stands elsewhere.
    Init { session: Option<String>, mode: Option<String> },
    /// The CLI's permission mode is another one now.
    Mode { mode: String },
    /// The model API failed and is tried again.
    Retry { attempt: u32, of: u32, delay_ms: u64, status: Option<u16>, kind: String },
    /// What became of a user message that we stamped.
    Lifecycle { uuid: String, state: Lifecycle },
    /// The background tasks that live now; replaces what was known.
    Tasks(Vec<String>),
    /// A background task has ended; the CLI will tell its model, in a turn of its own if idle.
    TaskEnded { task: String },
    /// A piece of the model's stream.
    Stream(Stream),
    /// Finished blocks of one message of the model; `nested` is one of a subagent.
    Assistant { message: String, blocks: Vec<Block>, nested: bool, error: Option<String> },
    /// Results of tools, on their way to the model.
    ToolResults(Vec<ToolResult>),
    /// A turn is over.
    Result(Box<TurnResult>),
    /// The CLI asks before it uses a tool, and waits.
    Ask(Box<Ask>),
    /// An asked question is not waited for any more.
    Withdrawn { request: String },
    /// The answer to a control request of ours, with the text in it where there is one.
    Answered { request: String, text: Option<String> },
    /// A control request that we know nothing of; it must be answered all the same.
    Foreign { request: String, subtype: String },
    /// The conversation was reset; the session has another id now.
    Reset { session: Option<String> },
    /// JSON that says nothing to us.
    Other,
    /// No JSON.
    Noise(String),
}

/// What the CLI asks before it uses a tool.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ask {
    /// Its id of the request.
    pub request: String,
    pub tool: String,
    pub input: Value,
    /// Whether the tool is a question to a person by itself.
    pub needs_person: bool,
    /// What it would take for an answer of "always".
    pub suggestions: Vec<Value>,
    /// In one word, why it asks; empty where it does not say.
    pub reason: String,
    /// Whether the tool touches a path that is not allowed.
    pub is_blocked: bool,
}

/// The states of a user message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifecycle {
    Queued,
    Started,
    Completed,
    Cancelled,
}

/// The kinds of text that a model streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Thought,
}

/// A piece of the model's stream. Streams of subagents are left out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stream {
    /// It begins; so many tokens were read.
    Message {
        id: String,
        input: u64,
    },
    /// It is over; so many tokens were written, and read where it says so anew. `goes_on` where
    /// a tool has to run before the model goes on.
    Ends {
        input: Option<u64>,
        output: u64,
        goes_on: bool,
    },
    Block {
        kind: Kind,
        text: String,
    },
    Delta {
        kind: Kind,
        text: String,
    },
}

/// A finished block of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    Said { kind: Kind, text: String },
    Tool { id: String, name: String, input: Value },
    ToolEnded(ToolResult),
}

/// How a tool use ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolResult {
    pub id: String,
    pub failed: bool,
}

/// How a turn ended, in the CLI's words.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TurnResult {
    pub session: Option<String>,
    pub is_error: bool,
    pub subtype: String,
    pub terminal_reason: String,
    pub api_status: Option<u16>,
    pub text: String,
    pub errors: Vec<String>,
    /// The stamps of the user messages that it answers; empty where the CLI does not say.
    pub answers: Vec<String>,
    /// What began the turn, where it was no person.
    pub origin: Option<String>,
    /// Since the last result, by model; where the CLI does not say, since its start.
    pub usage: Spent,
    /// The session's cost in US dollars since its beginning.
    pub total_usd: Option<f64>,
}

/// What was used, and since when.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spent {
    /// Whether the figures count since the last result, and not since the CLI's start.
    pub is_share: bool,
    pub usd: f64,
    pub input: u64,
    pub output: u64,
}

impl Line {
    /// Reads a line. Never fails.
    pub(super) fn parse(line: &[u8]) -> Self {
        let Ok(value @ Value::Object(_)) = serde_json::from_slice::<Value>(line) else {
            return Self::Noise(String::from_utf8_lossy(line).trim().to_owned());
        };
        match text(&value, "type") {
            "system" => system(&value),
            "command_lifecycle" => lifecycle(&value),
            "stream_event" => stream(&value).map_or(Self::Other, Self::Stream),
            "assistant" => assistant(&value),
            "user" => tool_results(&value),
            "result" => Self::Result(Box::new(turn_result(&value))),
            "control_request" => control_request(value),
            "control_cancel_request" => Self::Withdrawn { request: owned(&value, "request_id") },
            "control_response" => Self::Answered {
                request: owned(&value["response"], "request_id"),
                text: value["response"]["response"]["text"].as_str().map(str::to_owned),
            },
            "conversation_reset" => Self::Reset { session: session(&value) },
            _ => Self::Other,
        }
    }
}

fn system(value: &Value) -> Line {
    match text(value, "subtype") {
        "init" => Line::Init { session: session(value), mode: mode(value) },
        "status" => mode(value).map_or(Line::Other, |mode| Line::Mode { mode }),
        "api_retry" => Line::Retry {
            attempt: narrow(number(value, "attempt")),
            of: narrow(number(value, "max_retries")),
            delay_ms: number(value, "retry_delay_ms"),
            status: status(value, "error_status"),
            kind: owned(value, "error"),
        },
        "background_tasks_changed" => {
            Line::Tasks(items(&value["tasks"]).map(|task| owned(task, "task_id")).collect())
        }
        "task_notification" => Line::TaskEnded { task: owned(value, "task_id") },
        _ => Line::Other,
    }
}

fn mode(value: &Value) -> Option<String> {
    Some(owned(value, "permissionMode")).filter(|mode| !mode.is_empty())
}

fn lifecycle(value: &Value) -> Line {
    let state = match text(value, "state") {
        "queued" => Lifecycle::Queued,
        "started" => Lifecycle::Started,
        "completed" => Lifecycle::Completed,
        "cancelled" | "discarded" => Lifecycle::Cancelled,
        _ => return Line::Other,
    };
    Line::Lifecycle { uuid: owned(value, "command_uuid"), state }
}

fn stream(value: &Value) -> Option<Stream> {
    if is_nested(value) {
        return None;
    }
    let event = &value["event"];
    match text(event, "type") {
        "message_start" => {
            let message = &event["message"];
            let input = tokens_read(&message["usage"]).unwrap_or_default();
            Some(Stream::Message { id: owned(message, "id"), input })
        }
        "message_delta" => Some(Stream::Ends {
            input: tokens_read(&event["usage"]),
            output: number(&event["usage"], "output_tokens"),
            goes_on: text(&event["delta"], "stop_reason") == "tool_use",
        }),
        "content_block_start" => {
            let block = &event["content_block"];
            let (kind, member) = kind(text(block, "type"))?;
            Some(Stream::Block { kind, text: owned(block, member) })
        }
        "content_block_delta" => {
            let delta = &event["delta"];
            let (kind, member) = kind(text(delta, "type").strip_suffix("_delta")?)?;
            Some(Stream::Delta { kind, text: owned(delta, member) })
        }
        _ => None,
    }
}

/// The tokens that a message's usage says were read; none where it says nothing of them.
fn tokens_read(usage: &Value) -> Option<u64> {
    usage.get("input_tokens")?.as_u64()?;
    let parts = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
    Some(parts.iter().fold(0, |sum: u64, part| sum.saturating_add(number(usage, part))))
}

fn kind(name: &str) -> Option<(Kind, &'static str)> {
    match name {
        "text" => Some((Kind::Text, "text")),
        "thinking" => Some((Kind::Thought, "thinking")),
        _ => None,
    }
}

fn assistant(value: &Value) -> Line {
    let message = &value["message"];
    let blocks = match &message["content"] {
        Value::String(text) => vec![Block::Said { kind: Kind::Text, text: text.clone() }],
        content => items(content).filter_map(block).collect(),
    };
    let error = value.get("error").and_then(Value::as_str).map(str::to_owned);
    Line::Assistant { message: owned(message, "id"), blocks, nested: is_nested(value), error }
}

fn block(value: &Value) -> Option<Block> {
    let name = text(value, "type");
    if let Some((kind, member)) = kind(name) {
        return Some(Block::Said { kind, text: owned(value, member) });
    }
    match name {
        "tool_use" | "server_tool_use" | "mcp_tool_use" => Some(Block::Tool {
            id: owned(value, "id"),
            name: owned(value, "name"),
            input: value["input"].clone(),
        }),
        _ => tool_result(value).map(Block::ToolEnded),
    }
}

fn tool_results(value: &Value) -> Line {
    let results: Vec<_> = items(&value["message"]["content"]).filter_map(tool_result).collect();
    if results.is_empty() { Line::Other } else { Line::ToolResults(results) }
}

fn tool_result(value: &Value) -> Option<ToolResult> {
    let id = value.get("tool_use_id")?.as_str()?.to_owned();
    text(value, "type")
        .ends_with("tool_result")
        .then(|| ToolResult { id, failed: value["is_error"].as_bool().unwrap_or(false) })
}

fn turn_result(value: &Value) -> TurnResult {
    let mut answers: Vec<String> =
        items(&value["user_message_uuids"]).filter_map(Value::as_str).map(str::to_owned).collect();
    if let Some(one) = value["user_message_uuid"].as_str() {
        answers.push(one.to_owned());
    }
    TurnResult {
        session: session(value),
        is_error: value["is_error"].as_bool().unwrap_or(false),
        subtype: owned(value, "subtype"),
        terminal_reason: owned(value, "terminal_reason"),
        api_status: status(value, "api_error_status"),
        text: owned(value, "result"),
        errors: items(&value["errors"]).filter_map(Value::as_str).map(str::to_owned).collect(),
        answers,
        origin: value["origin"]["kind"].as_str().map(str::to_owned),
        usage: spent(value),
        total_usd: value["total_cost_usd"].as_f64(),
    }
}

fn spent(value: &Value) -> Spent {
    if let Value::Object(models) = &value["model_usage_since_last_result"] {
        return sum(models.values(), true);
    }
    if let Value::Object(models) = &value["modelUsage"] {
        let mut spent = sum(models.values(), false);
        spent.usd = value["total_cost_usd"].as_f64().unwrap_or(spent.usd);
        return spent;
    }
    Spent { usd: value["total_cost_usd"].as_f64().unwrap_or_default(), ..Spent::default() }
}

fn sum<'a>(models: impl Iterator<Item = &'a Value>, is_share: bool) -> Spent {
    models.fold(Spent { is_share, ..Spent::default() }, |sum, model| Spent {
        is_share,
        usd: sum.usd + model["costUSD"].as_f64().unwrap_or_default(),
        input: ["inputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"]
            .iter()
            .fold(sum.input, |sum, name| sum.saturating_add(number(model, name))),
        output: sum.output.saturating_add(number(model, "outputTokens")),
    })
}

fn control_request(mut value: Value) -> Line {
    let request = owned(&value, "request_id");
    let asked = &mut value["request"];
    match text(asked, "subtype") {
        "can_use_tool" => Line::Ask(Box::new(Ask {
            request,
            tool: owned(asked, "tool_name"),
            needs_person: asked["requires_user_interaction"].as_bool().unwrap_or(false),
            suggestions: items(&asked["permission_suggestions"]).cloned().collect(),
            reason: owned(asked, "decision_reason_type"),
            is_blocked: asked["blocked_path"].is_string(),
            input: asked["input"].take(),
        })),
        subtype => Line::Foreign { request, subtype: subtype.to_owned() },
    }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn owned(value: &Value, member: &str) -> String {
    text(value, member).to_owned()
}

fn number(value: &Value, member: &str) -> u64 {
    let member = value.get(member);
    member.and_then(Value::as_u64).unwrap_or_else(|| {
        // Some figures come as fractions (a delay of 588.4 ms): the whole part counts.
        member.and_then(Value::as_f64).map_or(0, |float| float.max(0.0) as u64)
    })
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn status(value: &Value, member: &str) -> Option<u16> {
    u16::try_from(value.get(member)?.as_u64()?).ok()
}

fn session(value: &Value) -> Option<String> {
    ["new_session_id", "session_id"]
        .iter()
        .map(|member| text(value, member))
        .find(|id| !id.is_empty())
        .map(str::to_owned)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn is_nested(value: &Value) -> bool {
    value.get("parent_tool_use_id").is_some_and(Value::is_string)
}

/// A message of the person, with our stamp on it.
pub(super) fn user_message(text: &str, uuid: &str) -> Value {
    json!({
        "type": "user",
        "message": {"role": "user", "content": text},
        "parent_tool_use_id": null,
        "session_id": "",
        "uuid": uuid,
    })
}

/// A control request without further members.
pub(super) fn request(id: &str, subtype: &str) -> Value {
    json!({"type": "control_request", "request_id": id, "request": {"subtype": subtype}})
}

/// Sets the CLI's permission mode.
pub(super) fn set_mode(id: &str, mode: &str) -> Value {
    json!({
        "type": "control_request",
        "request_id": id,
        "request": {"subtype": "set_permission_mode", "mode": mode},
    })
}

/// Asks the CLI to end a background task.
pub(super) fn stop_task(id: &str, task: &str) -> Value {
    json!({
        "type": "control_request",
        "request_id": id,
        "request": {"subtype": "stop_task", "task_id": task},
    })
}

/// Lets a tool be used, with this input.
pub(super) fn allow(request: &str, input: &Value) -> Value {
    // The CLI takes an object only.
    let input = if input.is_object() { input.clone() } else { json!({}) };
    response(request, &json!({"behavior": "allow", "updatedInput": input}))
}

/// Refuses a tool, and tells the model why.
pub(super) fn deny(request: &str, message: &str) -> Value {
    response(request, &json!({"behavior": "deny", "message": message}))
}

fn response(request: &str, response: &Value) -> Value {
    json!({
        "type": "control_response",
        "response": {"subtype": "success", "request_id": request, "response": response},
    })
}

/// Answers a control request that we know nothing of, so that the CLI does not wait for ever.
pub(super) fn unsupported(request: &str, subtype: &str) -> Value {
    json!({
        "type": "control_response",
        "response": {
            "subtype": "error",
            "request_id": request,
            "error": format!("Unsupported control request subtype: {subtype}"),
        },
    })
}
