//! What OpenCode's server says, read tolerantly: an event or a member that is not known says
//! nothing, and one that is missing is empty.

use serde_json::Value;

use crate::wire::Question;

/// An event of the server, as far as it matters.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// A message of the model has begun, or has changed.
    Answer {
        /// The session that it belongs to.
        session: String,
        /// The message.
        answer: Answer,
    },
    /// A person's message stands in the session.
    Prompted {
        /// The session.
        session: String,
        /// The message's id.
        message: String,
    },
    /// A part of a message has begun, or has changed.
    Part {
        /// The session.
        session: String,
        /// The message.
        message: String,
        /// The part.
        part: Part,
    },
    /// A part has grown.
    Delta {
        /// The session.
        session: String,
        /// The message.
        message: String,
        /// The part's id.
        part: String,
        /// What is new.
        text: String,
    },
    /// What a session does.
    Status {
        /// The session.
        session: String,
        /// What it does.
        status: Status,
    },
    /// Something went wrong in a session.
    Failed {
        /// The session.
        session: String,
        /// What.
        fault: Fault,
    },
    /// The agent asks whether it may.
    Asked(Request),
    /// The agent asks questions.
    Questioned {
        /// The request's id.
        request: String,
        /// What is asked.
        questions: Vec<Question>,
        /// The questions as they came.
        input: Value,
    },
    /// A request is not waited for any more.
    Settled {
        /// The request's id.
        request: String,
    },
    /// Something that does not matter here.
    Other,
}

/// A message of the model: one step of a turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answer {
    /// Its id.
    pub id: String,
    /// The person's message that it answers.
    pub parent: String,
    /// Whether nothing more comes.
    pub is_complete: bool,
    /// Why the model stopped: `stop`, `tool-calls`, ...; empty while it has not.
    pub finish: String,
    /// What went wrong.
    pub fault: Option<Fault>,
    /// What it cost, in US dollars.
    pub usd: f64,
    /// Tokens read, those of caches too.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// The model says or thinks something.
    Said {
        /// The part's id.
        id: String,
        /// What kind it is.
        kind: Kind,
        /// All of it so far.
        text: String,
        /// Whether nothing more comes.
        is_whole: bool,
    },
    /// A tool is used.
    Tool {
        /// The id of this use.
        call: String,
        /// The tool's name.
        name: String,
        /// How far it is.
        state: ToolState,
        /// What it works on.
        input: Value,
    },
    /// Anything else.
    Other,
}

/// What kind of words a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Speech to the person.
    Text,
    /// Thinking.
    Thought,
}

/// How far a tool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToolState {
    /// Its input is not known yet.
    Pending,
    /// It runs.
    Running,
    /// It has ended.
    Ended {
        /// Whether it failed or was refused.
        failed: bool,
    },
}

/// What a session does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    /// Nothing.
    Idle,
    /// It works.
    Busy,
    /// It waits before it asks the model API again.
    Retry {
        /// Which try comes next.
        attempt: u32,
        /// Why.
        message: String,
        /// When, in milliseconds since 1970.
        next_ms: i64,
    },
}

/// Something that went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// OpenCode's name for it.
    pub name: String,
    /// What it says.
    pub message: String,
    /// The model API's HTTP status, where it answered.
    pub status: Option<u16>,
}

impl Fault {
    /// Whether it is the effect of an interrupt.
    pub(super) fn is_abort(&self) -> bool {
        self.name == "MessageAbortedError"
    }

    fn read(value: &Value) -> Option<Self> {
        let name = text(value, "name");
        let data = &value["data"];
        (!name.is_empty()).then(|| Self {
            name,
            message: text(data, "message"),
            status: data["statusCode"].as_u64().and_then(|status| status.try_into().ok()),
        })
    }
}

/// A request for a permission.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    /// Its id.
    pub id: String,
    /// What for: `bash`, `edit`, `webfetch`, `external_directory`, ...
    pub permission: String,
    /// What it is about: a command line, paths.
    pub patterns: Vec<String>,
    /// Patterns that stand for all requests like this one.
    pub always: Vec<String>,
    /// What else is known, such as the change to a file.
    pub metadata: Value,
}

impl Event {
    /// Reads an event.
    pub(super) fn read(json: &[u8]) -> Self {
        let Ok(event) = serde_json::from_slice::<Value>(json) else { return Self::Other };
        let about = &event["properties"];
        let session = text(about, "sessionID");
        match event["type"].as_str().unwrap_or_default() {
            "message.updated" => Self::message(&about["info"]),
            "message.part.updated" => Self::part(&about["part"]),
            "message.part.delta" if about["field"] == "text" => Self::Delta {
                session,
                message: text(about, "messageID"),
                part: text(about, "partID"),
                text: text(about, "delta"),
            },
            "session.status" => match Status::read(&about["status"]) {
                Some(status) => Self::Status { session, status },
                None => Self::Other,
            },
            "session.error" => match Fault::read(&about["error"]) {
                Some(fault) => Self::Failed { session, fault },
                None => Self::Other,
            },
            "permission.asked" => Self::permission(about),
            "question.asked" => Self::question(about),
            "permission.replied" | "question.replied" | "question.rejected" => {
                Self::Settled { request: text(about, "requestID") }
            }
            _ => Self::Other,
        }
    }

    /// Reads a message, as an event or a list of messages holds it.
    pub(super) fn message(info: &Value) -> Self {
        let session = text(info, "sessionID");
        let id = text(info, "id");
        match info["role"].as_str() {
            Some("user") => Self::Prompted { session, message: id },
            Some("assistant") => {
                let tokens = &info["tokens"];
                let count = |value: &Value| value.as_f64().unwrap_or_default().max(0.0) as u64;
                let cache = &tokens["cache"];
                let answer = Answer {
                    id,
                    parent: text(info, "parentID"),
                    is_complete: !info["time"]["completed"].is_null(),
                    finish: text(info, "finish"),
                    fault: Fault::read(&info["error"]),
                    usd: info["cost"].as_f64().unwrap_or_default(),
                    input: count(&tokens["input"]) + count(&cache["read"]) + count(&cache["write"]),
                    output: count(&tokens["output"]) + count(&tokens["reasoning"]),
                };
                Self::Answer { session, answer }
            }
            _ => Self::Other,
        }
    }

    /// Reads a part, as an event or a list of messages holds it.
    pub(super) fn part(part: &Value) -> Self {
        let session = text(part, "sessionID");
        let message = text(part, "messageID");
        Self::Part { session, message, part: Part::read(part) }
    }

    /// Reads a request for a permission, as an event or the list of those that wait holds it.
    pub(super) fn permission(about: &Value) -> Self {
        Self::Asked(Request {
            id: text(about, "id"),
            permission: text(about, "permission"),
            patterns: texts(&about["patterns"]),
            always: texts(&about["always"]),
            metadata: about["metadata"].clone(),
        })
    }

    /// Reads a request for answers, as an event or the list of those that wait holds it.
    pub(super) fn question(about: &Value) -> Self {
        let items = about["questions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let questions = items.iter().map(|item| Question {
            text: text(item, "question"),
            options: item["options"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default()
                .iter()
                .map(|option| text(option, "label"))
                .collect(),
            many: item["multiple"] == true,
        });
        Self::Questioned {
            request: text(about, "id"),
            questions: questions.collect(),
            input: about["questions"].clone(),
        }
    }
}

impl Part {
    fn read(part: &Value) -> Self {
        let kind = match part["type"].as_str() {
            Some("text") if part["ignored"] == true => return Self::Other,
            Some("text") => Kind::Text,
            Some("reasoning") => Kind::Thought,
            Some("tool") => {
                let state = &part["state"];
                return Self::Tool {
                    call: text(part, "callID"),
                    name: text(part, "tool"),
                    state: ToolState::read(state),
                    input: state["input"].clone(),
                };
            }
            _ => return Self::Other,
        };
        Self::Said {
            id: text(part, "id"),
            kind,
            text: text(part, "text"),
            is_whole: !part["time"]["end"].is_null(),
        }
    }
}

impl ToolState {
    fn read(state: &Value) -> Self {
        match state["status"].as_str() {
            Some("running") => Self::Running,
            Some("error") => Self::Ended { failed: true },
            Some("completed") => {
                // A command that failed or was broken off has done its work as a tool.
                let exit = state["metadata"].get("exit");
                Self::Ended { failed: exit.is_some_and(|exit| exit.as_i64() != Some(0)) }
            }
            _ => Self::Pending,
        }
    }
}

impl Status {
    fn read(status: &Value) -> Option<Self> {
        Some(match status["type"].as_str()? {
            "idle" => Self::Idle,
            "busy" => Self::Busy,
            "retry" => Self::Retry {
                attempt: status["attempt"].as_u64().and_then(|it| it.try_into().ok()).unwrap_or(0),
                message: text(status, "message"),
                next_ms: status["next"].as_i64().unwrap_or_default(),
            },
            _ => return None,
        })
    }
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_known_says_nothing() {
        for json in ["", "{}", "[]", "null", r#"{"type":"plugin.added"}"#, r#"{"type":7}"#] {
            assert_eq!(Event::read(json.as_bytes()), Event::Other, "{json}");
        }
    }

    #[test]
    fn a_command_that_failed_is_a_tool_that_failed() {
        let state = |json: &str| ToolState::read(&serde_json::from_str(json).unwrap());
        let done = |failed| ToolState::Ended { failed };
        assert_eq!(state(r#"{"status":"completed","metadata":{"exit":0}}"#), done(false));
        assert_eq!(state(r#"{"status":"completed","metadata":{"exit":1}}"#), done(true));
        assert_eq!(state(r#"{"status":"completed","metadata":{"exit":null}}"#), done(true));
        assert_eq!(state(r#"{"status":"completed","metadata":{}}"#), done(false));
        assert_eq!(state(r#"{"status":"error"}"#), done(true));
        assert_eq!(state(r#"{"status":"pending"}"#), ToolState::Pending);
    }

    proptest! {
        #[test]
        fn no_bytes_can_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Event::read(&bytes);
        }
    }
}
