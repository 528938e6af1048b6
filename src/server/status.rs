//! `Status`: how the API says no, in the words of Kubernetes.

use axum::{
    Json,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::body::BodyError;
use crate::{
    resource::{Faults, GROUP, Kind, apply::Conflict},
    store,
};

/// Something that the API refuses.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    code: StatusCode,
    reason: &'static str,
    message: String,
    about: Option<(Kind, String)>,
    causes: Vec<Value>,
    /// Where a list that cannot go on as it began can go on nevertheless.
    goes_on: Option<Box<str>>,
}

impl Problem {
    pub(super) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            about: None,
            causes: Vec::new(),
            goes_on: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// A document that cannot be taken, with all its faults.
    pub(super) fn invalid(kind: Kind, name: &str, faults: &Faults) -> Self {
        // A name that is to be made up is none yet.
        let whose = match name {
            "" => format!("{kind}.{GROUP}"),
            name => format!("{kind}.{GROUP} \"{name}\""),
        };
        let listed: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        let message = match listed.as_slice() {
            [one] => format!("{whose} is invalid: {one}"),
            several => format!("{whose} is invalid: [{}]", several.join(", ")),
        };
        let causes = faults
            .0
            .iter()
            .map(|fault| {
                json!({"reason": "FieldValueInvalid", "message": fault.message, "field": fault.path})
            })
            .collect();
        Self { causes, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message) }
            .about(kind, name)
    }

    pub(super) fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{}.{GROUP} \"{name}\" not found", kind.plural());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    pub(super) fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!("{}.{GROUP} \"{name}\" is not written: {why}", kind.plural());
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// A change of what a Source declares: the three ways that there are.
    pub(super) fn declared(kind: Kind, name: &str, source: &str, place: &str) -> Self {
        let whose = whose(kind, name, source, place);
        Self::with_ways(kind, name, &whose, &ways_to_change(kind, name))
    }

    /// The deletion of what a Source declares: an Override does not help there.
    pub(super) fn kept(kind: Kind, name: &str, source: &str, place: &str) -> Self {
        let whose = format!("{}, which would make it again", whose(kind, name, source, place));
        Self::with_ways(kind, name, &whose, &ways_to_delete(kind, name, place))
    }

    /// What asks for an object that is not there, although a Source declares it: to make it anew, or to
    /// let it go. Neither would hold, as long as the file says so.
    pub(super) fn declared_and_gone(kind: Kind, name: &str, source: &str, place: &str) -> Self {
        let whose = format!("{}, and is not there now", whose(kind, name, source, place));
        Self::with_ways(kind, name, &whose, &ways_to_make(kind, place))
    }

    fn with_ways(kind: Kind, name: &str, whose: &str, ways: &[String]) -> Self {
        // kubectl shows the message alone, our command line each cause on a line of its own.
        let message = format!("{whose}: {}", ways.join("; "));
        let causes =
            ways.iter().map(|way| json!({"reason": "DeclaredBySource", "message": way})).collect();
        // No conflict: clients try those again, and this one lasts.
        Self { causes, ..Self::new(StatusCode::FORBIDDEN, "Owned", message) }.about(kind, name)
    }

    pub(super) fn about(self, kind: Kind, name: &str) -> Self {
        Self { about: Some((kind, name.to_owned())), ..self }
    }

    /// Fields that others hold with other values, each with its holder.
    pub(super) fn held_by_others(kind: Kind, name: &str, message: &str, all: &[Conflict]) -> Self {
        let causes = all
            .iter()
            .map(|conflict| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": conflict.to_string(),
                    "field": conflict.field,
                })
            })
            .collect();
        Self { causes, ..Self::new(StatusCode::CONFLICT, "Conflict", message) }.about(kind, name)
    }

    /// A type of body that cannot be taken here.
    pub(super) fn unsupported(sort: &str, taken: &str) -> Self {
        let message = format!("a body of the type `{sort}` is not taken here; send {taken}");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// A parameter that has no such value, in the words of a field's fault.
    pub(super) fn bad_option(field: &str, message: &str) -> Self {
        let cause = json!({"reason": "FieldValueInvalid", "message": message, "field": field});
        let told = format!("the options are invalid: {field}: {message}");
        Self { causes: vec![cause], ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", told) }
    }

    /// Says with which token a list can go on, although not as it began.
    pub(super) fn going_on(self, token: String) -> Self {
        Self { goes_on: Some(token.into()), ..self }
    }

    /// Whether it is that there is such an object already.
    pub(super) fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }

    /// Whether the same request may do better in a second.
    fn passes(&self) -> bool {
        matches!(
            self.code,
            StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
        )
    }

    /// The `Status` object.
    pub(super) fn to_json(&self) -> Value {
        let mut details = serde_json::Map::new();
        if let Some((kind, name)) = &self.about {
            details.insert("name".to_owned(), name.as_str().into());
            details.insert("group".to_owned(), GROUP.into());
            details.insert("kind".to_owned(), kind.plural().into());
        }
        if !self.causes.is_empty() {
            details.insert("causes".to_owned(), self.causes.clone().into());
        }
        if self.passes() {
            details.insert("retryAfterSeconds".to_owned(), 1.into());
        }
        let metadata = match &self.goes_on {
            Some(token) => json!({"continue": token}),
            None => json!({}),
        };
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": details,
            "code": self.code.as_u16(),
        })
    }
}

/// Who declares an object, and where.
fn whose(kind: Kind, name: &str, source: &str, place: &str) -> String {
    format!("{} \"{name}\" is declared by source {source} ({place})", kind.plural())
}

/// How what a Source declares can be changed.
fn ways_to_change(kind: Kind, name: &str) -> [String; 3] {
    let object = format!("{}/{name}", kind.singular());
    [
        format!("override it for a time: open-dispatch override {object} FIELD=VALUE --for 1h"),
        format!("change the file with it: open-dispatch override {object} FIELD=VALUE --write"),
        format!("let it go, and change it then: open-dispatch release {object}"),
    ]
}

/// How what a Source declares, and is not there, can be somebody's else or run again.
fn ways_to_make(kind: Kind, place: &str) -> Vec<String> {
    let out = format!("take it out of {place}, and the source lets go of it");
    let again = match kind {
        Kind::Job => format!("one that has run is run again when its document changes in {place}"),
        Kind::Override => format!("one that has ended holds again when {place} changes"),
        _ => "leave it to the source, which makes it as it is declared".to_owned(),
    };
    vec![out, again]
}

/// How what a Source declares can be made to end.
fn ways_to_delete(kind: Kind, name: &str, place: &str) -> Vec<String> {
    let object = format!("{}/{name}", kind.singular());
    let mut ways = vec![
        format!("take it out of {place}, and the source deletes it"),
        format!("let it go, and delete it then: open-dispatch release {object}"),
    ];
    match kind {
        Kind::Job => ways.push(format!("end it and leave it: open-dispatch cancel {object}")),
        Kind::Agent | Kind::Fleet | Kind::Schedule => {
            ways.push(format!("stop it and leave it: open-dispatch suspend {object}"));
        }
        Kind::Source | Kind::Override | Kind::Sprite => {}
    }
    ways
}

/// What whoever tries to make an object without making it is told of what a Source declares.
pub(super) fn is_declared_already(kind: Kind, name: &str, source: &str, place: &str) -> String {
    let whose = whose(kind, name, source, place);
    format!("{whose}, so this would be refused: {}", ways_to_make(kind, place).join("; "))
}

/// What whoever tries a change without making it is told of what a Source declares.
pub(super) fn would_be_declared(kind: Kind, name: &str, source: &str, place: &str) -> String {
    let whose = whose(kind, name, source, place);
    format!("{whose}, so this would be refused: {}", ways_to_change(kind, name).join("; "))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.code, Json(self.to_json())).into_response();
        if self.passes() {
            let after = axum::http::HeaderValue::from_static("1");
            response.headers_mut().insert(axum::http::header::RETRY_AFTER, after);
        }
        response
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        let message = error.to_string();
        match error {
            store::Error::NotFound { kind, name } => Self::not_found(kind, &name),
            store::Error::AlreadyExists { kind, name } => {
                let message = format!("{}.{GROUP} \"{name}\" already exists", kind.plural());
                Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, &name)
            }
            store::Error::Conflict { kind, name } => Self::conflict(
                kind,
                &name,
                "it has changed since it was read; read it again, and make the change to what is \
                 there now",
            ),
            store::Error::Owned { kind, name, source_name, file } => {
                Self::declared(kind, &name, &source_name, &file)
            }
            store::Error::Stale { .. } | store::Error::Duplicate { .. } => {
                Self::new(StatusCode::CONFLICT, "Conflict", message)
            }
            store::Error::Revoked { .. } => {
                Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
            }
            store::Error::Compacted { .. } => Self::expired(message),
            store::Error::Gap { .. }
            | store::Error::Finished
            | store::Error::Locked { .. }
            | store::Error::TooNew { .. }
            | store::Error::BadPatch { .. }
            | store::Error::Unavailable(_)
            | store::Error::Fault(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            }
        }
    }
}

impl Problem {
    /// A place in the history that is gone.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        match error {
            BodyError::TooLarge(_) => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
            }
            BodyError::Broken => Self::bad_request(message),
            BodyError::TooSlow(_) => Self::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message),
        }
    }
}

/// The answer to a path that leads nowhere.
pub(super) async fn unknown_path(uri: Uri) -> Problem {
    let message = format!("there is nothing at {}; see /apis for what there is", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "NotFound", message)
}

/// The answer to a method that a path does not have.
pub(super) async fn unknown_method(method: Method, uri: Uri) -> Problem {
    let message = format!("{method} is not supported at {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}
