//! A conversation after the fact: who said what, the answers, the tools, and how each turn ended.
//!
//! Two sources are woven into one text: the turns, which know what people said and how it ended,
//! and the events, which know what the agent did. A turn whose events are forgotten, or that never
//! ran, stands in its place with what the ledger still knows.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    agents::{all_turns, has_ended, number, turn_of, turn_path},
    asked::{Asked, wish},
    client::{AS_JSON, Client, member},
    error::Error,
    logs::{AS_NDJSON, Seen, bytes},
    out,
    patience::Patience,
    turns::{cost, took},
};
use crate::resource::Kind;

/// What of a conversation is wanted.
pub struct Wanted<'a> {
    /// The agent.
    pub agent: &'a str,
    /// The one turn, by number or id.
    pub turn: Option<&'a str>,
    /// Whether to go on with what comes.
    pub follow: bool,
}

/// Prints the conversation.
///
/// # Errors
/// The server's refusal, or why it cannot be reached.
pub async fn print(client: &Client, wanted: Wanted<'_>) -> Result<(), Error> {
    let agent = wanted.agent;
    let turns = match wanted.turn {
        Some(word) => vec![turn_of(client, agent, word).await?],
        None => all_turns(client, agent).await?,
    };
    let mut page = Transcript::new(turns, wanted.turn.is_some());
    let mut asked = Asked::new(client, agent);
    let mut seen = Seen::default();
    let mut patience = Patience::new();
    loop {
        match drain(client, wanted.follow, &mut seen, &mut page, &mut asked).await {
            Ok(()) => break,
            Err(error) if wanted.follow => {
                if seen.moved() {
                    patience.answered();
                }
                patience.wait(error).await?;
            }
            Err(error) => return Err(error),
        }
    }
    out::theirs(&page.rest())
}

async fn drain(
    client: &Client,
    follow: bool,
    seen: &mut Seen,
    page: &mut Transcript,
    asked: &mut Asked<'_>,
) -> Result<(), Error> {
    let agent = asked.agent();
    let after = seen.after();
    let mut query = vec![("format", "events")];
    if follow {
        query.push(("follow", "1"));
    }
    query.extend(after.as_deref().map(|after| ("after", after)));
    let path = format!("{}/log", member(Kind::Agent, agent));
    let mut lines = client.lines(&path, &query, AS_NDJSON).await?;
    while let Some(event) = lines.next_json().await? {
        if !seen.take(&event) {
            continue;
        }
        // The ledger is asked for what came, or ended, since it was read.
        if let Some(id) = page.unknown(&event)
            && let Ok(turn) = client.get(&turn_path(agent, &id), &[], AS_JSON).await
        {
            page.learn(turn);
        }
        for line in asked.news().await {
            out::theirs(&page.became(&line))?;
        }
        out::theirs(&page.show(&event))?;
        if page.tells(&event)
            && event["type"] == "approval"
            && let Some(line) = asked.became(&event).await
        {
            out::theirs(&page.became(&line))?;
        }
        if page.is_over() {
            return Ok(());
        }
    }
    Ok(())
}

/// The text, as far as it is told.
struct Transcript {
    turns: BTreeMap<u64, Value>,
    /// Up to which number turns are told.
    told: u64,
    /// The turn that the events are at.
    at: Option<String>,
    /// Whether only the turns that are known from the start are wanted.
    narrow: bool,
    /// Whether the wanted turn has ended.
    over: bool,
    /// Whether what was told ends a line.
    open_line: bool,
}

impl Transcript {
    fn new(turns: Vec<Value>, narrow: bool) -> Self {
        let turns = turns.into_iter().map(|turn| (number(&turn), turn)).collect();
        Self { turns, told: 0, at: None, narrow, over: false, open_line: false }
    }

    fn is_over(&self) -> bool {
        self.narrow && self.over
    }

    fn by_id(&self, id: &str) -> Option<&Value> {
        self.turns.values().find(|turn| turn["id"] == id)
    }

    /// The turn that this event is about, if the ledger must be asked for it.
    fn unknown(&self, event: &Value) -> Option<String> {
        let id = event["turn"].as_str()?;
        let wanted = match event["type"].as_str() {
            Some("turnAccepted") => !self.narrow && self.by_id(id).is_none(),
            Some("turnEnded") => self.by_id(id).is_some_and(|turn| !has_ended(turn)),
            _ => false,
        };
        wanted.then(|| id.to_owned())
    }

    fn learn(&mut self, turn: Value) {
        self.turns.insert(number(&turn), turn);
    }

    /// What to print for an event.
    fn show(&mut self, event: &Value) -> Vec<u8> {
        let mut text = Vec::new();
        let of = event["turn"].as_str();
        match event["type"].as_str() {
            Some("turnAccepted") => {
                let Some(turn) = of.and_then(|id| self.by_id(id)).cloned() else { return text };
                self.at = of.map(str::to_owned);
                self.before(number(&turn), &mut text);
                self.head(&turn, &mut text);
            }
            Some("turnEnded") if of.is_some() && of == self.at.as_deref() => {
                let turn = of.and_then(|id| self.by_id(id)).cloned().unwrap_or_default();
                self.end(&turn, &mut text);
                self.at = None;
                self.over = true;
            }
            _ if self.tells(event) => self.body(event, &mut text),
            _ => {}
        }
        text
    }

    /// Whether an event is of the turn that is told.
    fn tells(&self, event: &Value) -> bool {
        let of = event["turn"].as_str();
        self.at.is_some() && of.is_none_or(|of| Some(of) == self.at.as_deref())
    }

    /// What became of a request.
    fn became(&mut self, line: &str) -> Vec<u8> {
        let mut text = Vec::new();
        self.close_line(&mut text);
        text.extend_from_slice(format!("· {line}\n").as_bytes());
        text
    }

    /// The turns that never reached the agent, up to a number.
    fn before(&mut self, n: u64, text: &mut Vec<u8>) {
        let missed: Vec<Value> = self
            .turns
            .range(self.told + 1..n.max(self.told + 1))
            .map(|(_, it)| it.clone())
            .collect();
        for turn in missed {
            self.head(&turn, text);
            self.end(&turn, text);
        }
    }

    /// What is left to tell at the end.
    fn rest(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        self.close_line(&mut text);
        if let Some(turn) = self.at.take().and_then(|id| self.by_id(&id).cloned()) {
            self.end(&turn, &mut text);
        }
        self.before(u64::MAX, &mut text);
        text
    }

    fn close_line(&mut self, text: &mut Vec<u8>) {
        if std::mem::take(&mut self.open_line) {
            text.push(b'\n');
        }
    }

    fn head(&mut self, turn: &Value, text: &mut Vec<u8>) {
        self.close_line(text);
        if self.told > 0 {
            text.push(b'\n');
        }
        self.told = self.told.max(number(turn));
        let field = |member: &str| out::harmless(turn[member].as_str().unwrap_or_default());
        let time = field("created");
        let time =
            time.split('.').next().unwrap_or_default().trim_end_matches('Z').replace('T', " ");
        let who = if turn["origin"] == "agent" { "by itself".to_owned() } else { field("author") };
        text.extend_from_slice(format!("── {} {who}, {time}\n", number(turn)).as_bytes());
        for line in turn["text"].as_str().unwrap_or_default().lines() {
            text.extend_from_slice(format!("> {}\n", out::harmless(line)).as_bytes());
        }
        for file in turn["attachments"].as_array().into_iter().flatten() {
            let name = out::harmless(file["name"].as_str().unwrap_or_default());
            text.extend_from_slice(format!("> [{name}, {} bytes]\n", file["size"]).as_bytes());
        }
    }

    fn end(&mut self, turn: &Value, text: &mut Vec<u8>) {
        self.close_line(text);
        let state = turn["state"].as_str().unwrap_or_default();
        let word = match state {
            "Queued" => "waits".to_owned(),
            "Sent" | "Running" => "runs".to_owned(),
            "Cancelled" | "Interrupted" => format!("was {}", state.to_lowercase()),
            state => state.to_lowercase(),
        };
        let by = turn["cancelledBy"].as_str().filter(|_| state == "Cancelled");
        let by = by.map(|by| format!(" by {}", out::harmless(by))).unwrap_or_default();
        let message = out::harmless(turn["message"].as_str().unwrap_or_default());
        let message = if message.is_empty() { message } else { format!(": {message}") };
        let parts: Vec<String> = took(turn).into_iter().chain(cost(turn)).collect();
        let parts =
            if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
        text.extend_from_slice(format!("· {word}{by}{message}{parts}\n").as_bytes());
    }

    fn body(&mut self, event: &Value, text: &mut Vec<u8>) {
        let field = |member: &str| out::harmless(event[member].as_str().unwrap_or_default());
        let line = match event["type"].as_str() {
            Some("text") => return self.chunk(event, text),
            Some("log") if event["stream"] != "system" => return self.chunk(event, text),
            Some("tool") => format!("→ {}: {}", field("name"), field("title")),
            Some("toolEnded") if event["failed"] == true => "→ failed, or was refused".to_owned(),
            Some("approval") => format!("? asks to use {}", wish(event)),
            Some("artifact") => format!("+ {} {}", field("name"), field("url")),
            Some("retry") => {
                format!("· the model's API failed, trying again: {}", field("message"))
            }
            Some("gap") => format!("· {} bytes are missing here", event["bytes"]),
            _ => return,
        };
        self.close_line(text);
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }

    fn chunk(&mut self, event: &Value, text: &mut Vec<u8>) {
        let bytes = bytes(event);
        if let Some(last) = bytes.last() {
            self.open_line = *last != b'\n';
        }
        text.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn turn(n: u64, state: &str) -> Value {
        json!({
            "n": n, "id": format!("t{n}"), "state": state, "author": "someone",
            "text": format!("message {n}\nand more"), "created": "2026-01-01T00:00:00.5Z",
            "started": "2026-01-01T00:00:01Z", "ended": "2026-01-01T00:00:05Z",
        })
    }

    fn told(page: &mut Transcript, events: &[Value]) -> String {
        let mut text: Vec<u8> = events.iter().flat_map(|event| page.show(event)).collect();
        text.extend(page.rest());
        String::from_utf8(text).unwrap()
    }

    fn events() -> Vec<Value> {
        vec![
            json!({"type": "ready"}),
            json!({"type": "log", "stream": "system", "text": "between two turns"}),
            json!({"type": "turnAccepted", "turn": "t2"}),
            json!({"type": "text", "turn": "t2", "text": "I look"}),
            json!({"type": "tool", "turn": "t2", "name": "Bash", "title": "cargo \u{1b}test"}),
            json!({"type": "toolEnded", "turn": "t2", "failed": true}),
            json!({"type": "approval", "turn": "t2", "tool": "Write", "title": "a.rs"}),
            json!({"type": "text", "turn": "t2", "text": "Done."}),
            json!({"type": "turnEnded", "turn": "t2", "outcome": "succeeded"}),
            json!({"type": "turnAccepted", "turn": "t3"}),
            json!({"type": "log", "stream": "stdout", "text": "half a line"}),
        ]
    }

    #[test]
    fn a_conversation_tells_who_said_what_and_what_became_of_it() {
        let mut queued = turn(4, "Queued");
        queued["ended"] = Value::Null;
        let mut cancelled = turn(1, "Cancelled");
        cancelled["cancelledBy"] = "somebody".into();
        cancelled["started"] = Value::Null;
        let mut running = turn(3, "Running");
        running["ended"] = Value::Null;
        let turns = vec![cancelled, turn(2, "Succeeded"), running, queued];
        insta::assert_snapshot!(told(&mut Transcript::new(turns, false), &events()));
    }

    #[test]
    fn one_turn_is_told_alone_and_ends_the_page() {
        let mut page = Transcript::new(vec![turn(2, "Succeeded")], true);
        let text = told(&mut page, &events());
        assert!(text.starts_with("── 2 someone"), "{text}");
        assert!(text.ends_with("· succeeded (4s)\n") && !text.contains("half a line"), "{text}");
        assert!(page.is_over());
    }
}
