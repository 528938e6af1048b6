//! Bytes to requests: everything that can be wrong with a webhook's body, found before anything
//! is done. Pure, and the place where the fuzzer knocks.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use sprite_reporter::wire::{Chunk, Event, EventBatch, EventBody, MAX_EVENT_BYTES, Stream};

use crate::resource::Artifact;

/// The highest number that an event or an inbox row may bear; databases count in signed 64 bits.
const HIGHEST: u64 = 1 << 62;
/// The longest name of an artifact in bytes.
const MAX_ARTIFACT_NAME: usize = 256;
/// The longest address of an artifact in bytes.
const MAX_ARTIFACT_URL: usize = 2048;
/// The longest id of a turn, a session or a tool in bytes. They stand in rows of their own.
const MAX_ID: usize = 512;
/// The most of an original sidecar's error that is kept, in bytes.
const MAX_LEGACY_ERROR: usize = 4096;

/// What is wrong with a body, in one line for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBody(pub String);

fn bad(message: impl Into<String>) -> BadBody {
    BadBody(message.into())
}

/// Reads the body of `POST /webhooks/events`.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn events(bytes: &[u8]) -> Result<EventBatch, BadBody> {
    let batch: EventBatch = match plain_events(bytes) {
        Some(batch) => batch,
        None => serde_json::from_slice(bytes)
            .map_err(|error| bad(format!("the body is no batch of events: {error}")))?,
    };
    if batch.run == 0 {
        return Err(bad("run is 0; the first run of a sprite is 1"));
    }
    if batch.inbox_ack.is_some_and(|row| row > HIGHEST) {
        return Err(bad("inboxAck is no row of an inbox"));
    }
    let mut expected = None;
    for event in &batch.events {
        check(event)?;
        match expected {
            Some(next) if next != event.seq => {
                return Err(bad(format!(
                    "event {} stands where {next} must; a batch has its events in order and \
                     without holes",
                    event.seq
                )));
            }
            _ => expected = Some(event.next_seq()),
        }
    }
    Ok(batch)
}

/// Reads a batch in which the agent only printed and spoke, as it does in nearly all of them.
/// The wire's own type reads each event twice, since its body is tagged and flattened; this one
/// does not. Whatever it cannot read, the wire's own type reads, or says what is wrong with it.
fn plain_events(bytes: &[u8]) -> Option<EventBatch> {
    let batch: PlainBatch<'_> = serde_json::from_slice(bytes).ok()?;
    let events = batch.events.into_iter().map(PlainEvent::into_event).collect::<Option<_>>()?;
    Some(EventBatch { job_id: batch.job_id, run: batch.run, events, inbox_ack: batch.inbox_ack })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlainBatch<'a> {
    job_id: String,
    run: u32,
    #[serde(borrow)]
    events: Vec<PlainEvent<'a>>,
    #[serde(default)]
    inbox_ack: Option<u64>,
}

#[derive(Deserialize)]
struct PlainEvent<'a> {
    #[serde(default, rename = "")]
    _members: Named,
    seq: u64,
    at: Timestamp,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    stream: Option<Stream>,
    #[serde(default)]
    turn: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    b64: Option<String>,
    #[serde(default)]
    more: bool,
}

impl PlainEvent<'_> {
    fn into_event(self) -> Option<Event> {
        let chunk = Chunk { text: self.text, b64: self.b64, more: self.more };
        let body = match (&*self.kind, self.stream, self.turn) {
            ("log", Some(stream), _) => EventBody::Log { stream, chunk },
            ("text", _, Some(turn)) => EventBody::Text { turn, chunk },
            ("thought", _, Some(turn)) => EventBody::Thought { turn, chunk },
            _ => return None,
        };
        Some(Event { seq: self.seq, at: self.at, body })
    }
}

/// The body of most requests to `/webhooks/logs`; whatever else comes is taken apart by hand.
#[derive(Deserialize)]
struct PlainLogs<'a> {
    #[serde(default, rename = "")]
    _members: Named,
    #[serde(rename = "jobId", borrow)]
    job: Cow<'a, str>,
    text: String,
}

/// Refuses to be read, so that a type whose first member this is takes no array for an object.
#[derive(Default)]
struct Named;

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("members have names"))
    }
}

fn check(event: &Event) -> Result<(), BadBody> {
    let seq = event.seq;
    if seq == 0 || seq > HIGHEST {
        return Err(bad(format!("event {seq} bears no number that an event can have")));
    }
    if id_of(&event.body).is_some_and(|id| id.len() > MAX_ID) {
        return Err(bad(format!("event {seq} bears an id of more than {MAX_ID} bytes")));
    }
    let bytes = match &event.body {
        EventBody::Log { chunk, .. }
        | EventBody::Text { chunk, .. }
        | EventBody::Thought { chunk, .. } => {
            chunk.text.as_ref().map_or(0, String::len) + chunk.b64.as_ref().map_or(0, String::len)
        }
        EventBody::Gap { through, .. } if *through > HIGHEST => {
            return Err(bad(format!("the gap at event {seq} has no end")));
        }
        EventBody::Approval { input, title, tool, .. } => title.len() + tool.len() + weight(input),
        EventBody::Tool { title, name, .. } => title.len() + name.len(),
        EventBody::TurnEnded { message, .. } => message.as_ref().map_or(0, String::len),
        EventBody::Artifact { name, url, kind } => name.len() + url.len() + kind.len(),
        EventBody::Exit(exit) => exit.message.len(),
        EventBody::Retry { message, .. } => message.len(),
        EventBody::Hello { version, process, containment, .. } => {
            version.len() + process.boot_id.len() + containment.note.len()
        }
        _ => 0,
    };
    if bytes > MAX_EVENT_BYTES {
        return Err(bad(format!(
            "event {seq} is larger than {} KiB; longer text continues in parts",
            MAX_EVENT_BYTES / 1024
        )));
    }
    Ok(())
}

/// The id that a row will be found by.
fn id_of(body: &EventBody) -> Option<&str> {
    match body {
        EventBody::Session { id }
        | EventBody::Tool { id, .. }
        | EventBody::ToolEnded { id, .. }
        | EventBody::TurnAccepted { turn: id, .. }
        | EventBody::TurnEnded { turn: id, .. }
        | EventBody::Approval { request: id, .. }
        | EventBody::ApprovalWithdrawn { request: id } => Some(id),
        _ => None,
    }
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + weight(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// What an original sidecar can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Legacy {
    /// `POST /webhooks/logs`: what the agent printed, without the newline behind it.
    Logs(String),
    /// `POST /webhooks/status`.
    Status(LegacyStatus),
    /// `POST /webhooks/artifacts`: those that can be kept.
    Artifacts(Vec<Artifact>),
}

/// What an original sidecar says of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegacyStatus {
    /// The agent starts.
    Running,
    /// The agent is done.
    Completed {
        /// Its exit code.
        code: i32,
    },
    /// The agent failed, or could not start.
    Failed {
        /// Its exit code, where one was sent.
        code: Option<i32>,
        /// Why, for people.
        error: String,
    },
}

/// Which of the original's endpoints a body came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyEndpoint {
    /// `/webhooks/logs`
    Logs,
    /// `/webhooks/status`
    Status,
    /// `/webhooks/artifacts`
    Artifacts,
}

impl LegacyEndpoint {
    /// The original's words for a body that lacks something.
    fn missing(self) -> BadBody {
        bad(match self {
            Self::Logs => "Missing jobId or text",
            Self::Status => "Missing jobId or status",
            Self::Artifacts => "Missing jobId or artifacts array",
        })
    }
}

/// Reads the body that came to one of the original's endpoints: whose it is, and what it says.
///
/// # Errors
/// The first thing that is wrong with it, in the original's words where it had any.
pub fn legacy(endpoint: LegacyEndpoint, bytes: &[u8]) -> Result<(String, Legacy), BadBody> {
    if endpoint == LegacyEndpoint::Logs
        && let Ok(logs) = serde_json::from_slice::<PlainLogs<'_>>(bytes)
        && !logs.job.is_empty()
    {
        return Ok((logs.job.into_owned(), Legacy::Logs(logs.text)));
    }
    // An empty body was an empty object to the original.
    let mut body: Value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(bytes).map_err(|_| bad("Invalid JSON"))?
    };
    let mut take = |name: &str| body.get_mut(name).map_or(Value::Null, Value::take);
    let job = match take("jobId") {
        Value::String(job) if !job.is_empty() => job,
        _ => return Err(endpoint.missing()),
    };
    let said = match endpoint {
        LegacyEndpoint::Logs => match take("text") {
            Value::String(text) => Legacy::Logs(text),
            _ => return Err(endpoint.missing()),
        },
        LegacyEndpoint::Status => {
            let Value::String(status) = take("status") else { return Err(endpoint.missing()) };
            let code = exit_code(&take("exitCode"))?;
            let error = take("error");
            let error = error.as_str().unwrap_or_default();
            let error = error[..error.floor_char_boundary(MAX_LEGACY_ERROR)].to_owned();
            Legacy::Status(match status.as_str() {
                "running" => LegacyStatus::Running,
                "completed" => LegacyStatus::Completed { code: code.unwrap_or(0) },
                "failed" => LegacyStatus::Failed { code, error },
                "" => return Err(endpoint.missing()),
                _ => {
                    return Err(bad("Unknown status; it is running, completed or failed"));
                }
            })
        }
        LegacyEndpoint::Artifacts => {
            let Value::Array(items) = take("artifacts") else { return Err(endpoint.missing()) };
            Legacy::Artifacts(items.iter().filter_map(artifact).collect())
        }
    };
    Ok((job, said))
}

fn exit_code(value: &Value) -> Result<Option<i32>, BadBody> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => number
            .as_i64()
            .and_then(|code| i32::try_from(code).ok())
            .map(Some)
            .ok_or_else(|| bad("exitCode is no exit code")),
        _ => Err(bad("exitCode is no number")),
    }
}

/// An artifact that can be kept: it has a name, and an address that a browser may be sent to.
fn artifact(item: &Value) -> Option<Artifact> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (name, url) = (text("name")?, text("url")?);
    let kind = text("type").unwrap_or("url");
    is_artifact(name, url, kind).then(|| Artifact {
        name: name.to_owned(),
        url: url.to_owned(),
        kind: kind.to_owned(),
    })
}

/// Whether something with this name, address and kind may stand among a sprite's artifacts.
pub(super) fn is_artifact(name: &str, url: &str, kind: &str) -> bool {
    name.len() <= MAX_ARTIFACT_NAME
        && kind.len() <= MAX_ARTIFACT_NAME
        && url.len() <= MAX_ARTIFACT_URL
        // A file of ours is named below the server's address, which may be another tomorrow.
        && (crate::store::files::id_in_url(url).is_some()
            || url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sprite_reporter::wire::Chunk;

    use super::*;

    fn batch(events: &str) -> String {
        format!(r#"{{"jobId":"j","run":1,"events":[{events}]}}"#)
    }

    fn ready(seq: u64) -> String {
        format!(r#"{{"seq":{seq},"at":"2026-01-01T00:00:00Z","type":"ready"}}"#)
    }

    #[test]
    fn what_stands_in_rows_and_in_the_status_is_bounded() {
        let long = "✓".repeat(MAX_LEGACY_ERROR);
        let body = serde_json::json!({"jobId": "j", "status": "failed", "error": long});
        let read = legacy(LegacyEndpoint::Status, body.to_string().as_bytes()).unwrap().1;
        let Legacy::Status(LegacyStatus::Failed { error, .. }) = read else {
            panic!("no failure: {read:?}");
        };
        assert!(error.len() <= MAX_LEGACY_ERROR && long.starts_with(&error), "{}", error.len());

        let url = "https://x.test/1";
        assert!(is_artifact("pr", url, "pr"));
        assert!(!is_artifact("pr", url, &"x".repeat(MAX_ARTIFACT_NAME + 1)));

        let long = "x".repeat(MAX_ID + 1);
        for body in [
            serde_json::json!({"type": "session", "id": long}),
            serde_json::json!({"type": "turnAccepted", "turn": long}),
            serde_json::json!({"type": "approvalWithdrawn", "request": long}),
        ] {
            let mut event = serde_json::json!({"seq": 1, "at": "2026-01-01T00:00:00Z"});
            event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            let refused = events(batch(&event.to_string()).as_bytes()).unwrap_err().to_string();
            assert_eq!(refused, "event 1 bears an id of more than 512 bytes", "{event}");
        }
    }

    #[test]
    fn each_bad_batch_gets_an_error_that_says_what_is_wrong() {
        let gap = r#"{"seq":1,"at":"2026-01-01T00:00:00Z","type":"gap","bytes":1,"through":18446744073709551615}"#;
        let long = serde_json::json!({"seq": 1, "at": "2026-01-01T00:00:00Z", "type": "log",
            "stream": "stdout", "text": "x".repeat(MAX_EVENT_BYTES + 1)});
        let said: Vec<String> = [
            "",
            "null",
            "[]",
            r#"{"jobId":"j","run":0,"events":[]}"#,
            r#"{"jobId":"j","run":1,"events":[],"inboxAck":18446744073709551615}"#,
            &batch(&ready(0)),
            &batch(&ready(u64::MAX)),
            &batch(gap),
            &batch(&format!("{},{}", ready(2), ready(4))),
            &batch(&long.to_string()),
            &batch(r#"{"seq":1,"at":"2026-01-01T00:00:00Z","type":"dance"}"#),
        ]
        .iter()
        .map(|body| events(body.as_bytes()).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn each_bad_body_of_an_original_sidecar_gets_the_originals_words() {
        use LegacyEndpoint::{Artifacts, Logs, Status};
        let said: Vec<String> = [
            (Logs, "{"),
            (Logs, "null"),
            (Logs, ""),
            (Logs, r#"{"jobId":"j"}"#),
            (Logs, r#"{"jobId":1,"text":"x"}"#),
            (Status, r#"{"jobId":"j"}"#),
            (Status, r#"{"jobId":"j","status":"banana"}"#),
            (Status, r#"{"jobId":"j","status":"failed","exitCode":"three"}"#),
            (Status, r#"{"jobId":"j","status":"failed","exitCode":3000000000}"#),
            (Artifacts, r#"{"jobId":"j","artifacts":{}}"#),
        ]
        .iter()
        .map(|(endpoint, body)| legacy(*endpoint, body.as_bytes()).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn only_artifacts_that_can_be_kept_are_counted() {
        let body = r#"{"jobId":"j","artifacts":[null, 1, {"name":"a"}, {"url":"https://x.test"},
            {"name":"script","url":"javascript:alert(1)"},
            {"name":"pr","url":"https://x.test/1","type":"pr"}]}"#;
        let kept = Artifact {
            name: "pr".to_owned(),
            url: "https://x.test/1".to_owned(),
            kind: "pr".to_owned(),
        };
        assert_eq!(
            legacy(LegacyEndpoint::Artifacts, body.as_bytes()),
            Ok(("j".to_owned(), Legacy::Artifacts(vec![kept])))
        );
    }

    #[test]
    fn plain_events_are_read_as_the_wires_own_type_reads_them() {
        let at = r#""at":"2026-01-01T00:00:00Z""#;
        for (plain, event) in [
            (true, format!(r#"{{"seq":1,{at},"type":"log","stream":"stderr","text":"a\nb"}}"#)),
            (
                true,
                format!(
                    r#"{{"type":"log","b64":"/w==","more":true,"stream":"stdout",{at},"seq":1}}"#
                ),
            ),
            (true, format!(r#"{{"seq":1,{at},"type":"text","turn":"t","text":"a","new":[1]}}"#)),
            (true, format!(r#"{{"seq":1,{at},"type":"thought","turn":"t","text":null}}"#)),
            (false, format!(r#"{{"seq":1,{at},"type":"log","text":"a"}}"#)),
            (false, format!(r#"{{"seq":1,{at},"type":"text","stream":"stdout","text":"a"}}"#)),
            (false, format!(r#"{{"seq":1,{at},"type":"ready"}}"#)),
            (false, r#"["","2026-01-01T00:00:00Z","log","stdout",null,"a",null,false]"#.to_owned()),
            (
                false,
                r#"[null,1,"2026-01-01T00:00:00Z","log","stdout",null,"a",null,false]"#.to_owned(),
            ),
        ] {
            let body = batch(&event);
            let wire: Option<EventBatch> = serde_json::from_str(&body).ok();
            let read = plain_events(body.as_bytes());
            assert_eq!(read.is_some(), plain, "{body}");
            if plain {
                assert_eq!(read, wire, "{body}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = events(&bytes);
            for endpoint in [LegacyEndpoint::Logs, LegacyEndpoint::Status, LegacyEndpoint::Artifacts] {
                let _ = legacy(endpoint, &bytes);
            }
        }

        #[test]
        fn what_a_reporter_packs_is_read_back(printed in proptest::collection::vec(any::<u8>(), 0..300)) {
            let chunk = Chunk::pack(&printed, false);
            let event = serde_json::json!({"seq": 1, "at": "2026-01-01T00:00:00Z", "type": "log",
                "stream": "stdout", "text": chunk.text, "b64": chunk.b64});
            let read = events(batch(&event.to_string()).as_bytes()).unwrap();
            let EventBody::Log { chunk, .. } = &read.events[0].body else {
                panic!("a log came back as something else");
            };
            prop_assert_eq!(chunk.bytes(), printed);
        }
    }
}
