//! The document of a request: JSON or YAML, read as strictly as its sender asked.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::Response,
};
use serde_json::Value;

use super::options::{Validation, WriteOptions};
use crate::{
    resource::{
        self, AnyObject, Fault, Faults, Kind, decode, json_doubles, unknown::drop_unknown, yaml,
    },
    server::{State, body, status::Problem},
};

/// The largest document.
pub(super) const MAX_BODY: usize = 3 * 1024 * 1024;
/// So many warnings are told at most.
const MOST_WARNINGS: usize = 20;

/// A document, and what its sender should know of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) warnings: Vec<String>,
}

/// Reads the whole object that a request carries.
pub(super) async fn whole(
    state: &State,
    kind: Kind,
    parts: &Parts,
    body: Body,
    options: &WriteOptions,
) -> Result<Document, Problem> {
    let bytes = body::read(body, MAX_BODY, &*state.0.ambient.clock).await?;
    let mut document = match content_type(&parts.headers) {
        "" | "application/json" => json(kind, &bytes, options.validation)?,
        "application/yaml" | "application/x-yaml" | "text/yaml" => {
            let text = utf8(&bytes)?;
            if options.validation == Validation::Strict {
                // What is wrong is told with line and column.
                strictly(text).map_err(|faults| Problem::invalid(kind, "", &faults))?;
            }
            from_yaml(kind, text)?
        }
        other => return Err(Problem::unsupported(other, "application/json or application/yaml")),
    };
    if options.validation != Validation::Strict {
        document.drop_unknown(kind, options.validation);
    }
    Ok(document)
}

/// Reads the part of an object that an apply patch carries: JSON or YAML.
pub(super) fn part(kind: Kind, bytes: &[u8], validation: Validation) -> Result<Document, Problem> {
    let mut document = from_yaml(kind, utf8(bytes)?)?;
    if !document.value.is_object() {
        return Err(Problem::bad_request("an apply patch is an object, or a part of one"));
    }
    match validation {
        Validation::Strict => {
            let unknown = drop_unknown(kind, &mut document.value);
            let fault = |path: String| Fault::new(path, "unknown field");
            let faults: Vec<Fault> = unknown.into_iter().map(fault).collect();
            if !faults.is_empty() {
                return Err(Problem::invalid(kind, name_in(&document.value), &Faults(faults)));
            }
        }
        other => document.drop_unknown(kind, other),
    }
    Ok(document)
}

/// Reads JSON.
pub(super) fn json(kind: Kind, bytes: &[u8], validation: Validation) -> Result<Document, Problem> {
    let value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))?;
    let mut warnings = Vec::new();
    match (json_doubles(bytes), validation) {
        (Ok(()), _) | (Err(_), Validation::Ignore) => {}
        (Err(faults), Validation::Strict) => return Err(Problem::invalid(kind, "", &faults)),
        (Err(faults), Validation::Warn) => {
            warnings
                .extend(faults.0.iter().map(|fault| format!("duplicate field \"{}\"", fault.path)));
        }
    }
    Ok(Document { value, warnings })
}

/// Looks for what is wrong with a text, save that it does not say what the server fills in.
fn strictly(text: &str) -> Result<(), Faults> {
    for document in resource::Document::read(text, None)? {
        document.unfilled()?;
    }
    Ok(())
}

fn from_yaml(kind: Kind, text: &str) -> Result<Document, Problem> {
    let value = yaml::one(text).map_err(|faults| Problem::invalid(kind, "", &faults))?;
    Ok(Document { value, warnings: Vec::new() })
}

fn utf8(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no UTF-8: {error}")))
}

impl Document {
    fn drop_unknown(&mut self, kind: Kind, validation: Validation) {
        let dropped = drop_unknown(kind, &mut self.value);
        if validation == Validation::Warn {
            self.warnings.extend(dropped.iter().map(|path| format!("unknown field \"{path}\"")));
        }
    }
}

/// The name that a document says.
pub(super) fn name_in(document: &Value) -> &str {
    document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// Reads a document strictly; it must be of the path's kind.
pub(super) fn typed(kind: Kind, document: Value) -> Result<AnyObject, Problem> {
    let name = name_in(&document).to_owned();
    let object = decode(document).map_err(|faults| Problem::invalid(kind, &name, &faults))?;
    if object.kind() != kind {
        let found = object.kind();
        return Err(Problem::bad_request(format!(
            "the document is of the kind {found}, and the address takes {kind}"
        )));
    }
    Ok(object)
}

/// The type of a body, without its parameters.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    let whole = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    whole.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// Puts warnings on an answer, as kubectl shows them.
pub(super) fn warn(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings.iter().take(MOST_WARNINGS) {
        let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let text: String = warning.chars().map(plain).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}
