//! Why a call failed, told apart by what there is to do about it.
//!
//! Fly says one thing in many ways: the same want of room is a 409, a 412 or a 422, a body has
//! `error` or `message` or is a page of HTML, and a write that took place can be answered with a
//! 408. [`classify`] is the one place that knows. Its rules, in this order:
//!
//! 1. A code in the body (`status`) outranks the text, as in Fly's own client; the text outranks
//!    the status line where that has several meanings (409, 412, 422).
//! 2. What is left open after a write is [`ApiError::Ambiguous`], never a failure: 408, 5xx, a
//!    connection that broke, an answer that cannot be read.
//! 3. What some proxy says about a machine proves nothing: a 404 counts only in Fly's own voice.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::action::Action;
use crate::ambient::Fault;

/// What was answered, for people: the call, the status, what was said, and the id by which Fly's
/// support finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The call.
    pub action: Action,
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// The code in the body, such as `insufficient_capacity`.
    pub code: Option<String>,
    /// The text, in one line of bounded length.
    pub said: String,
    /// The header `fly-request-id`.
    pub request_id: Option<String>,
}

impl Answer {
    /// Something that came to no answer.
    pub(super) fn without(action: Action, said: impl AsRef<str>) -> Self {
        Self { action, status: None, code: None, said: one_line(said.as_ref()), request_id: None }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.action.phrase())?;
        f.write_str(":")?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " {code}")?;
        }
        match (self.status, self.said.as_str()) {
            (_, "") => f.write_str(" without a reason")?,
            (None, said) => write!(f, " {said}")?,
            (Some(_), said) => write!(f, ", {said}")?,
        }
        match &self.request_id {
            Some(id) => write!(f, " (fly-request-id {id})"),
            None => Ok(()),
        }
    }
}

/// How far a want of room reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapacityScope {
    /// This host: the same may fit on another one.
    Host,
    /// The host on which the volume lies: the machine fits nowhere else with it.
    Volume,
    /// The region: another region, or a smaller size.
    Region,
}

impl CapacityScope {
    fn mend(self) -> &'static str {
        match self {
            Self::Host => "it may fit on another one",
            Self::Volume => {
                "its volume lies there: it works later, with a smaller guest, or without what is on the volume"
            }
            Self::Region => "name another region or a smaller guest",
        }
    }
}

impl fmt::Display for CapacityScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "on this host",
            Self::Volume => "on the host of the volume",
            Self::Region => "in the region",
        })
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// What we were told makes no call possible. Nothing was sent.
    #[error("{0}")]
    Setup(String),
    /// 401: the token is wrong or has expired. Also just after an app was made, for up to a minute.
    #[error(
        "Fly does not know the token that was to {0}; set FLY_API_TOKEN to what `fly tokens create deploy -a APP` prints, with the app that FLY_SPRITE_APP names"
    )]
    Token(Answer),
    /// 403: the token is good, and not for this.
    #[error(
        "Fly does not let this token {0}; set FLY_API_TOKEN to what `fly tokens create deploy -a APP` prints, with the app that FLY_SPRITE_APP names"
    )]
    Forbidden(Answer),
    /// 404, in Fly's own voice: app, machine or volume.
    #[error("Fly does not find what it was to {0}; FLY_SPRITE_APP names the app")]
    NotFound(Answer),
    /// A machine with that name lives.
    #[error("another machine has the name with which Fly was to {answer}")]
    NameTaken {
        /// The machine's id, where the text says it.
        id: Option<String>,
        /// The answer.
        answer: Answer,
    },
    /// 409: somebody else holds it (a lease), changed it at the same time, or the volume is attached.
    #[error("somebody else was at it when Fly was to {0}; it works later")]
    Conflict(Answer),
    /// 412: not in the state that it is in. It works once the state is another one.
    #[error("Fly cannot yet {0}")]
    NotNow(Answer),
    /// There is no room.
    #[error("there is no room {scope} to {answer}; {}", scope.mend())]
    Capacity {
        /// How far the want of room reaches.
        scope: CapacityScope,
        /// The answer.
        answer: Answer,
    },
    /// The account's own limit: as many machines as it may have, or no way to pay for more.
    #[error("the Fly account may not {0}; raise its limits, or remove machines that nobody needs")]
    Limit(Answer),
    /// Fly does not take what we asked for, and will not take it another time.
    #[error("Fly refused to {0}")]
    Invalid(Answer),
    /// 429: nothing happened. The client has emptied its own bucket, so that the next call waits.
    #[error("Fly is asked too often to {answer}")]
    RateLimited {
        /// How long to wait, where that was said.
        after: Option<Duration>,
        /// The answer.
        answer: Answer,
    },
    /// A write that may have taken place. Look before it is tried again.
    #[error("it is open whether Fly did {0}")]
    Ambiguous(Answer),
    /// Nothing happened: a read that failed, or a call that never left.
    #[error("Fly could not be asked to {0}")]
    Unavailable(Answer),
    /// Nothing was sent: the last calls failed in a way that no call gets past.
    #[error("Fly is left alone until {until}: {why}")]
    Resting {
        /// When one call tries again.
        until: Timestamp,
        /// What the last calls said.
        why: String,
        /// Whether Fly answers and does not let us in; else it does not answer, or fails.
        refused: bool,
    },
    /// A scripted fault; only in tests.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ApiError {
    /// Whether it may have happened all the same.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Ambiguous(_))
    }
}

/// What of an answer's headers matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerHeaders {
    /// `fly-request-id`.
    pub request_id: Option<String>,
    /// `Retry-After`, in seconds; Fly does not document it.
    pub retry_after: Option<Duration>,
    /// `Location`, of a redirect that is not followed.
    pub location: bool,
}

/// Tells what an answer that is no success means.
#[must_use]
pub fn classify(action: Action, status: u16, headers: &AnswerHeaders, body: &[u8]) -> ApiError {
    classify_as(action, status, headers, body, body)
}

/// The same, with the body as people may see it beside the one that is judged: what hides a secret
/// must not change what is made of it.
pub(super) fn classify_as(
    action: Action,
    status: u16,
    headers: &AnswerHeaders,
    body: &[u8],
    shown: &[u8],
) -> ApiError {
    let body = Body::read(body);
    let is_flys = headers.request_id.is_some() || body.is_json;
    let low = body.said.to_lowercase();
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| low.contains(phrase));
    let answer = Answer {
        action,
        status: Some(status),
        code: body.code.clone(),
        said: Body::read(shown).said,
        request_id: headers.request_id.clone(),
    };
    let open = |answer| match action.is_write() {
        true => ApiError::Ambiguous(answer),
        false => ApiError::Unavailable(answer),
    };
    let room = |scope, answer| ApiError::Capacity { scope, answer };
    let taken = |answer| ApiError::NameTaken { id: id_in(&body.said), answer };
    // Of several meanings of want of room, only the host's is told by text alone.
    let on_host = has(&[
        "could not reserve resource for machine",
        "deploys to this host are temporarily disabled",
    ]);
    match body.code.as_deref() {
        Some("volume_placement_capacity") => return room(CapacityScope::Volume, answer),
        Some("insufficient_capacity") if on_host => return room(CapacityScope::Host, answer),
        Some("insufficient_capacity") => return room(CapacityScope::Region, answer),
        Some("name_taken") => return taken(answer),
        _ => {}
    }
    match status {
        300..=399 => ApiError::Unavailable(Answer {
            said: format!(
                "a redirect, which is not followed with a token{}; see that FLY_FLAPS_BASE_URL is the API itself",
                if headers.location { "" } else { " and leads nowhere" }
            ),
            ..answer
        }),
        401 => ApiError::Token(answer),
        403 => ApiError::Forbidden(answer),
        404 if is_flys => ApiError::NotFound(answer),
        // Somebody between us and Fly: neither proof that it is gone, nor that it is there.
        404 => open(answer),
        402 => ApiError::Limit(answer),
        408 => open(answer),
        429 => ApiError::RateLimited { after: headers.retry_after, answer },
        400..=499 if has(&["rate limit exceeded", "resource_exhausted"]) => {
            ApiError::RateLimited { after: headers.retry_after, answer }
        }
        409 | 412 | 422 if on_host => room(CapacityScope::Host, answer),
        409 | 412 | 422
            if has(&["insufficient resources to create new machine with existing volume"]) =>
        {
            room(CapacityScope::Volume, answer)
        }
        409 | 412 | 422 if has(&["could not find a candidate host"]) => {
            room(CapacityScope::Region, answer)
        }
        // Said of the host on which the volume of the machine lies.
        409 if has(&["aborted: no capacity"]) => room(CapacityScope::Volume, answer),
        409 | 422 if has(&["unique machine name violation", "already exists with name"]) => {
            taken(answer)
        }
        409 => ApiError::Conflict(answer),
        412 => ApiError::NotNow(answer),
        422 if has(&["limit", "quota", "payment", "credit card", "billing"]) => {
            ApiError::Limit(answer)
        }
        400..=499 => ApiError::Invalid(answer),
        _ => open(answer),
    }
}

/// The machine's id in a text like `machine ID 148e21ea7d4ed8 already exists with name "x"`.
fn id_in(text: &str) -> Option<String> {
    let at = text.to_lowercase().find("machine id ")? + "machine id ".len();
    let id: String = text.get(at..)?.chars().take_while(char::is_ascii_hexdigit).collect();
    (id.len() >= 8).then_some(id)
}

/// What stands in a body, however it is written.
struct Body {
    code: Option<String>,
    said: String,
    is_json: bool,
}

impl Body {
    fn read(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
            let start = text.trim_start().get(..1).unwrap_or_default();
            let said = if start == "<" { "a page of HTML".to_owned() } else { one_line(&text) };
            return Self { code: None, said, is_json: false };
        };
        let said = ["error", "message"].iter().find_map(|name| match object.get(*name) {
            Some(Value::String(text)) if !text.is_empty() => Some(one_line(text)),
            Some(Value::Null | Value::String(_)) | None => None,
            Some(other) => Some(one_line(&other.to_string())),
        });
        let code = object.get("status").and_then(Value::as_str);
        // Some endpoints have `status: error` beside a message, which is no code.
        let code = code.filter(|code| !matches!(*code, "" | "error" | "unknown")).map(one_line);
        Self { code, said: said.unwrap_or_default(), is_json: true }
    }
}

/// How much of what was said is kept.
const MOST_SAID: usize = 300;

/// A text in one line, without what would steer a terminal, and not too long.
pub(super) fn one_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().take(4 * MOST_SAID).map(plain).collect();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(MOST_SAID) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
