//! What the model does, told in the prompt, so that a test reads in one place. Plain text is
//! echoed, and directives are worked off in their order:
//!
//! | directive | what the model does |
//! |---|---|
//! | `[[bash:CMD]]` | lets the CLI's shell tool run this |
//! | `[[write:PATH\|CONTENT]]` | lets the CLI's tool for it write a file |
//! | `[[tool:NAME\|JSON]]` | uses any tool |
//! | `[[think:TEXT]]` | thinks aloud |
//! | `[[slow:N:MS]]` | says N words, one each MS milliseconds |
//! | `[[big:KIB]]` | says that much text |
//! | `[[hang]]` | begins to answer, and says nothing more |
//! | `[[status:CODE]]`, `[[status:CODE:N]]` | answers with an error, always or N times |
//! | `[[anew]]` | forgets all of the prompt before it (a CLI may join a prompt that failed to the next one) |
//! | `[[cut]]`, `[[cut:N]]` | breaks off in the middle, always or N times |
//!
//! A tool use ends the answer, as it does with a real model; the next step begins when the
//! tool's result comes. Which step is due follows from the conversation itself (the answers
//! since the prompt), so that nothing is remembered between requests but how often an error with
//! a number was given. How a tool is called differs between CLIs: an API's wire says it.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::header,
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use serde_json::Value;

/// Something that the model does.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Says this.
    Say(String),
    /// Thinks this aloud.
    Think(String),
    /// Says so many words, slowly.
    Slow {
        /// How many.
        words: u32,
        /// The time between two.
        every: Duration,
    },
    /// Lets the CLI's shell tool run a command.
    Bash(String),
    /// Lets the CLI write a file.
    Write {
        /// Its path.
        path: String,
        /// What is to stand in it.
        content: String,
    },
    /// Uses a tool by the name that it has in the CLI.
    Use {
        /// The name.
        tool: String,
        /// The tool's input.
        input: Value,
    },
    /// Says nothing more.
    Hang,
    /// Fails with this HTTP status, always or so often.
    Status(u16, Option<u32>),
    /// Breaks off, always or so often.
    Cut(Option<u32>),
}

impl Act {
    /// What is said where an answer is not broken off any more.
    pub fn uncut(self) -> Self {
        if matches!(self, Self::Cut(_)) { Self::Say("whole".to_owned()) } else { self }
    }

    /// Whether it is the use of a tool.
    pub fn is_tool(&self) -> bool {
        matches!(self, Self::Bash(_) | Self::Write { .. } | Self::Use { .. })
    }
}

/// One message of a conversation, as far as it matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Spoken<'a> {
    /// The model has answered.
    Model,
    /// The person, or the CLI on its behalf, has said these pieces; results of tools are none.
    Person(Vec<&'a str>),
}

/// The person's last words, and how many answers of the model came since.
pub fn conversation(spoken: Vec<Spoken<'_>>) -> (String, usize) {
    let mut answers = 0;
    for message in spoken.into_iter().rev() {
        match message {
            Spoken::Model => answers += 1,
            Spoken::Person(pieces) => {
                let words = words(pieces);
                if !words.is_empty() {
                    return (words, answers);
                }
            }
        }
    }
    (String::new(), answers)
}

/// What a person says in a message: nothing that the CLI adds by itself. The CLI joins what
/// follows an interrupt to what was before; only what follows counts.
fn words(pieces: Vec<&str>) -> String {
    let added = [
        "<system-reminder>",
        "<local-command",
        "<command-name>",
        "Your response above was cut",
        "<environment_context>",
        "<turn_aborted>",
        "<session_context>",
    ];
    let is_added = |text: &str| text.is_empty() || added.iter().any(|tag| text.starts_with(tag));
    let mut words: Vec<&str> = vec![];
    for text in pieces.into_iter().map(str::trim) {
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

/// What the model does in this step of a prompt; at least one act.
pub fn acts(prompt: &str, step: usize) -> Vec<Act> {
    let last = prompt.rsplit_once("[[anew]]").map_or(prompt, |(_, last)| last);
    let mut steps = steps(last);
    let acts = if step < steps.len() { steps.swap_remove(step) } else { vec![] };
    if acts.is_empty() { vec![Act::Say("done".to_owned())] } else { acts }
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
        let ends_step = act.is_tool();
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
        "bash" => Act::Bash(value.to_owned()),
        "write" => {
            let (path, content) = value.split_once('|').unwrap_or((value, ""));
            Act::Write { path: path.to_owned(), content: content.to_owned() }
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

/// What is sent: bytes at once, a pause, or an end that is none.
pub enum Beat {
    /// Sends this.
    Send(Bytes),
    /// Waits.
    Pause(Duration),
    /// Waits for ever.
    Never,
    /// Breaks the connection off.
    Break,
}

impl Beat {
    /// An event of a stream of server-sent events, with a name where the API gives it one.
    pub fn event(name: Option<&str>, data: &Value) -> Self {
        let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
        Self::Send(Bytes::from(format!("{name}data: {data}\n\n")))
    }
}

/// A stream of server-sent events.
pub fn streamed(beats: Vec<Beat>) -> Response {
    let beats = stream::iter(beats).then(|beat| async {
        match beat {
            Beat::Send(bytes) => Ok(bytes),
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

/// An answer of which nothing comes.
pub fn broken() -> Response {
    Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("cut"))])).into_response()
}

/// Text in the pieces in which it is streamed.
pub fn pieces(text: &str) -> Vec<&str> {
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

/// An id that no other answer of any fake of this run has.
pub fn id(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}_{:08x}{n:08x}", std::process::id())
}

#[test]
fn a_prompt_is_worked_off_step_by_step() {
    let said = |text: &str| Act::Say(text.to_owned());
    let steps = steps("first [[tool:Grep|{\"pattern\": \"[[a]]\"}]] [[think:hm]] then [[hang]]");
    let input = serde_json::json!({"pattern": "[[a]]"});
    let grep = Act::Use { tool: "Grep".to_owned(), input };
    let second = vec![Act::Think("hm".to_owned()), said("echo: then"), Act::Hang];
    assert_eq!(steps, [vec![said("echo: first"), grep], second]);
}

#[test]
fn the_due_step_follows_from_the_conversation() {
    let spoken = vec![
        Spoken::Person(vec!["old"]),
        Spoken::Model,
        Spoken::Person(vec!["<system-reminder>x</system-reminder>", "new"]),
        Spoken::Model,
        Spoken::Person(vec![]),
    ];
    assert_eq!(conversation(spoken), ("new".to_owned(), 1));
    let joined = vec![Spoken::Person(vec!["old", "[Request interrupted by user]", "new"])];
    assert_eq!(conversation(joined), ("new".to_owned(), 0));
}
