//! Answers and refusals.

use std::time::Duration;

use serde_json::{Value, json};

use crate::dev_fly::faults::{ErrorShape, LostAnswer};

/// What comes of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// An answer.
    Answer(Answer),
    /// The connection ends without one.
    Dropped,
    /// The answer comes when a machine reaches a state, or time is over.
    Wait(Waiting),
    /// The answer comes when a command has ended.
    Exec(ExecWish),
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What it says.
    pub body: Body,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// How late it comes.
    pub late: Duration,
}

/// A body.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// JSON.
    Json(Value),
    /// A page of a proxy.
    Html(String),
    /// Nothing.
    Empty,
}

/// A wait for a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub(super) app: String,
    pub(super) id: String,
    pub(super) states: Vec<String>,
    pub(super) version: Option<String>,
    /// How long at most.
    pub timeout: Duration,
}

/// A command that shall run in a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecWish {
    /// In which one.
    pub id: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What it reads.
    pub stdin: String,
    /// How long it may take.
    pub timeout: Duration,
}

impl Answer {
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self { status, body: Body::Json(body), retry_after: None, late: Duration::ZERO }
    }

    pub(super) fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    /// The body was too long, or did not come to its end.
    pub(in crate::dev_fly) fn refused_body() -> Self {
        Self::json(413, json!({"error": "the body is too long, or broke off"}))
    }

    /// The request calls this computer by another's name.
    pub(in crate::dev_fly) fn refused_host() -> Self {
        let message = "call dev-fly by its address or as localhost; other names may be a trick";
        Self::json(421, json!({"error": message}))
    }

    /// What a command that ran in a machine is answered with: 200 whatever its exit code. [spec]
    pub(in crate::dev_fly) fn exec(code: i32, signal: i32, stdout: &str, stderr: &str) -> Self {
        Self::ok(json!({
            "exit_code": code, "exit_signal": signal, "stdout": stdout, "stderr": stderr,
        }))
    }

    /// A command took too long. [obs]
    pub(in crate::dev_fly) fn exec_timeout() -> Self {
        Refusal::new(408, "deadline_exceeded: context deadline exceeded").answer(ErrorShape::Error)
    }

    pub(super) const fn empty(status: u16) -> Self {
        Self { status, body: Body::Empty, retry_after: None, late: Duration::ZERO }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) error: String,
    pub(super) code: Option<String>,
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: u16, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), code: None, retry_after: None }
    }

    pub(super) fn coded(status: u16, code: &str, error: impl Into<String>) -> Self {
        Self { code: Some(code.to_owned()), ..Self::new(status, error) }
    }

    pub(super) fn invalid(error: impl std::fmt::Display) -> Self {
        Self::new(400, format!("invalid_argument: {error}"))
    }

    pub(super) fn no_machine(id: &str) -> Self {
        Self::new(404, format!("machine {id} not found"))
    }

    /// The answer, in one of the shapes that are seen. A code comes with the documented shape
    /// alone, and so do the answers that carry one.
    pub(super) fn answer(self, shape: ErrorShape) -> Answer {
        let body = match shape {
            _ if self.code.is_some() => {
                Body::Json(json!({"error": self.error, "status": self.code}))
            }
            ErrorShape::Error => Body::Json(json!({"error": self.error})),
            ErrorShape::Message => Body::Json(json!({"status": "error", "message": self.error})),
            ErrorShape::Html => Body::Html(page(self.status)),
            ErrorShape::Empty => Body::Empty,
        };
        Answer { status: self.status, body, retry_after: self.retry_after, late: Duration::ZERO }
    }
}

fn page(status: u16) -> String {
    format!(
        "<html>\r\n<head><title>{status}</title></head>\r\n<body>{status}</body>\r\n</html>\r\n"
    )
}

impl LostAnswer {
    pub(super) fn outcome(self, shape: ErrorShape) -> Outcome {
        match self {
            Self::Timeout => Outcome::Answer(
                Refusal::new(408, "deadline_exceeded: context deadline exceeded").answer(shape),
            ),
            Self::BadGateway => {
                Outcome::Answer(Answer { body: Body::Html(page(502)), ..Answer::empty(502) })
            }
            Self::Dropped => Outcome::Dropped,
        }
    }
}

pub(super) type Done = Result<Answer, Refusal>;
