//! What an agent prints and reads: one JSON-RPC message a line, read tolerantly.
//!
//! The protocol's types come from its own crate; the envelope is ours, so that nothing here
//! fails. An update that we do not know is [`Line::Other`], a request that we do not know gets an
//! error for an answer, and what is no JSON-RPC at all is [`Line::Noise`].

use agent_client_protocol_schema::v1::{
    AGENT_METHOD_NAMES, CLIENT_METHOD_NAMES, CancelNotification, Error, RequestId,
    RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
    SelectedPermissionOutcome, SessionNotification,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{
    Value, json,
    value::{RawValue, to_value},
};

/// A line of the agent, as far as it matters to us.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// Something happened in a session.
    Update(Box<SessionNotification>),
    /// The agent asks before it uses a tool, and waits.
    Ask { id: RequestId, request: Box<RequestPermissionRequest> },
    /// The agent asks its person something, and waits.
    Elicit { id: RequestId, form: Value },
    /// A request that we do not serve; it must be answered all the same.
    Refused { id: RequestId, error: Error },
    /// The agent does not wait for the answer to its request any more.
    Withdrawn { id: RequestId },
    /// The answer to a request of ours.
    Answer { id: u64, result: Result<Value, Error> },
    /// A message that says nothing to us.
    Other,
    /// No message.
    Noise(Vec<u8>),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: Option<RequestId>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    result: Option<Value>,
    error: Option<Value>,
}

impl Line {
    /// Reads a line. Never fails.
    pub(super) fn parse(line: &[u8]) -> Self {
        // Letters that are no UTF-8 are no reason to lose a message.
        let text = String::from_utf8_lossy(line);
        let Ok(it) = serde_json::from_str::<Envelope<'_>>(&text) else {
            return Self::Noise(line.to_vec());
        };
        match (it.method.as_deref(), it.id) {
            (Some(method), Some(id)) => asked(method, id, it.params),
            (Some(method), None) => told(method, it.params),
            (None, Some(RequestId::Number(id))) => {
                let Ok(id) = u64::try_from(id) else { return Self::Other };
                let result = match it.error {
                    None => Ok(it.result.unwrap_or_default()),
                    Some(error) => Err(error_of(&error)),
                };
                Self::Answer { id, result }
            }
            (None, Some(_)) => Self::Other,
            (None, None) if it.error.is_some() || it.result.is_some() => Self::Other,
            (None, None) => Self::Noise(line.to_vec()),
        }
    }
}

fn told(method: &str, params: Option<&RawValue>) -> Line {
    match method {
        _ if method == CLIENT_METHOD_NAMES.session_update => {
            read(params).map_or(Line::Other, |update| Line::Update(Box::new(update)))
        }
        "$/cancel_request" => read::<Value>(params)
            .and_then(|params| serde_json::from_value(params["requestId"].clone()).ok())
            .map_or(Line::Other, |id| Line::Withdrawn { id }),
        _ => Line::Other,
    }
}

fn asked(method: &str, id: RequestId, params: Option<&RawValue>) -> Line {
    let names = &CLIENT_METHOD_NAMES;
    let line = match method {
        _ if method == names.session_request_permission => {
            read(params).map(|request| Line::Ask { id: id.clone(), request: Box::new(request) })
        }
        _ if method == names.elicitation_create => {
            read(params).map(|form| Line::Elicit { id: id.clone(), form })
        }
        _ => Some(Line::Refused { id: id.clone(), error: Error::method_not_found() }),
    };
    line.unwrap_or_else(|| Line::Refused { id, error: Error::invalid_params() })
}

fn read<T: DeserializeOwned>(params: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(params?.get()).ok()
}

/// An error, also one that is not built as it should be.
fn error_of(value: &Value) -> Error {
    serde_json::from_value(value.clone()).unwrap_or_else(|_| {
        let message = match value.get("message").unwrap_or(value) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Error::new(i32::from(Error::internal_error().code), message)
    })
}

/// A request of ours.
pub(super) fn request(id: u64, method: &str, params: &impl Serialize) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": value(params)})
}

/// Asks the agent to end the turn that runs.
pub(super) fn cancel(session: &str) -> Value {
    let params = CancelNotification::new(session.to_owned());
    let method = AGENT_METHOD_NAMES.session_cancel;
    json!({"jsonrpc": "2.0", "method": method, "params": value(&params)})
}

/// Answers a permission request with an option; with none, that it was cancelled.
pub(super) fn permission(id: &RequestId, option: Option<&str>) -> Value {
    let outcome = match option {
        Some(option) => {
            let selected = SelectedPermissionOutcome::new(option.to_owned());
            RequestPermissionOutcome::Selected(selected)
        }
        None => RequestPermissionOutcome::Cancelled,
    };
    answer(id, &RequestPermissionResponse::new(outcome))
}

/// Answers a request.
pub(super) fn answer(id: &RequestId, result: &impl Serialize) -> Value {
    json!({"jsonrpc": "2.0", "id": value(id), "result": value(result)})
}

/// Refuses a request.
pub(super) fn refuse(id: &RequestId, error: &Error) -> Value {
    json!({"jsonrpc": "2.0", "id": value(id), "error": value(error)})
}

/// The types of the protocol are plain data, which can always be told as JSON.
fn value(it: &impl Serialize) -> Value {
    to_value(it).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_message_is_noise_and_what_is_unknown_is_passed_over() {
        for noise in [&b"hello"[..], b"", b"[1]", b"{}", b"{\"a\":1}", b"\xff\xfe", b"12"] {
            assert_eq!(Line::parse(noise), Line::Noise(noise.to_vec()));
        }
        for other in [
            r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":{"sessionUpdate":"new_thing"}}}"#,
            r#"{"jsonrpc":"2.0","method":"_vendor/thing"}"#,
            r#"{"jsonrpc":"2.0","id":"theirs","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":-1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}"#,
        ] {
            assert_eq!(Line::parse(other.as_bytes()), Line::Other, "{other}");
        }
    }

    #[test]
    fn a_request_that_we_do_not_serve_gets_an_error() {
        let line = br#"{"jsonrpc":"2.0","id":7,"method":"fs/read_text_file","params":{}}"#;
        let Line::Refused { id, error } = Line::parse(line) else { panic!("refused") };
        assert_eq!(
            refuse(&id, &error),
            json!({"jsonrpc": "2.0", "id": 7, "error": {"code": -32601, "message": "Method not found"}})
        );
        let line =
            br#"{"jsonrpc":"2.0","id":"a","method":"session/request_permission","params":{}}"#;
        let Line::Refused { id, error } = Line::parse(line) else { panic!("refused") };
        assert_eq!(refuse(&id, &error)["id"], "a");
        assert_eq!(refuse(&id, &error)["error"]["code"], -32602);
    }

    #[test]
    fn errors_of_any_shape_are_read() {
        let error = |error: &str| {
            let line = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#);
            let Line::Answer { result: Err(error), .. } = Line::parse(line.as_bytes()) else {
                panic!("an error")
            };
            (i32::from(error.code), error.message)
        };
        assert_eq!(error(r#"{"code":-32000,"message":"log in"}"#), (-32000, "log in".into()));
        assert_eq!(error(r#"{"code":"E1","message":"broken"}"#), (-32603, "broken".into()));
        assert_eq!(error(r#""broken""#), (-32603, "broken".into()));
    }

    proptest! {
        #[test]
        fn no_line_breaks_the_reader(line in prop::collection::vec(any::<u8>(), 0..200)) {
            Line::parse(&line);
        }
    }
}
