//! `/od-set`: `field=value`, as often as wanted.
//!
//! A field is a path into the spec with dots. A value goes on until the next ` field=`, so that
//! it may have spaces; it is read as YAML (`5`, `true`, `[a, b]`), and between quotes it is text
//! as it stands. No value at all takes the field away.

use serde_json::Value;

use super::{Refusal, flags::quoted};
use crate::resource::yaml;

/// One change of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The field's path into the spec, without `spec.` in front.
    pub path: Vec<String>,
    /// What it is to be.
    pub value: Assigned,
}

/// What a field is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assigned {
    /// Gone.
    Nothing,
    /// Text, as it stood between quotes.
    Text(String),
    /// What the value means in YAML, and how it was written: a field that takes text takes that.
    Yaml {
        /// The meaning.
        value: Value,
        /// As it was written.
        written: String,
    },
}

impl Assignment {
    /// The change as a merge patch on the spec.
    #[must_use]
    pub fn patch(&self) -> Value {
        let value = match &self.value {
            Assigned::Nothing => Value::Null,
            Assigned::Text(text) => text.as_str().into(),
            Assigned::Yaml { value, .. } => value.clone(),
        };
        self.path
            .iter()
            .rev()
            .fold(value, |inner, key| Value::Object([(key.clone(), inner)].into_iter().collect()))
    }
}

/// Reads all of them.
pub(super) fn assignments(rest: &str) -> Result<Vec<Assignment>, Refusal> {
    let mut changes: Vec<Assignment> = Vec::new();
    let mut rest = rest.trim();
    if rest.is_empty() {
        return Err(Refusal::NoChange);
    }
    while !rest.is_empty() {
        let Some((field, behind)) = take_field(rest) else {
            return Err(Refusal::NoAssignment(super::first_word(rest).0.to_owned()));
        };
        let path = path_of(field)?;
        let (value, behind) = take_value(field, behind)?;
        if changes.iter().any(|change| change.path == path) {
            return Err(Refusal::SetTwice(field.to_owned()));
        }
        changes.push(Assignment { path, value });
        rest = behind.trim_start();
    }
    Ok(changes)
}

/// The field in front of a `=`, and what is behind that.
fn take_field(text: &str) -> Option<(&str, &str)> {
    let (field, behind) = text.split_once('=')?;
    let good = field.starts_with(|c: char| c.is_ascii_alphabetic())
        && field.chars().all(|c| c.is_ascii_alphanumeric() || ".[]_-".contains(c));
    good.then_some((field, behind))
}

fn path_of(field: &str) -> Result<Vec<String>, Refusal> {
    if field.contains(['[', ']']) {
        return Err(Refusal::InList(field.to_owned()));
    }
    let inner = field.strip_prefix("spec.").unwrap_or(field);
    let path: Vec<String> = inner.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(Refusal::NoAssignment(field.to_owned()));
    }
    Ok(path)
}

fn take_value<'a>(field: &str, text: &'a str) -> Result<(Assigned, &'a str), Refusal> {
    if let Some((text, behind)) = quoted(text, field)? {
        return Ok((Assigned::Text(text.to_owned()), behind));
    }
    let end = next_field(text).unwrap_or(text.len());
    let (written, behind) = text.split_at(end);
    let written = written.trim();
    if written.is_empty() {
        return Ok((Assigned::Nothing, behind));
    }
    let value =
        yaml::value(written).map_err(|why| Refusal::BadValue { field: field.to_owned(), why })?;
    Ok((Assigned::Yaml { value, written: written.to_owned() }, behind))
}

/// Where the next ` field=` begins.
fn next_field(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text[from..].find(char::is_whitespace) {
        let at = from + at;
        let word = text[at..].trim_start();
        if take_field(super::first_word(word).0).is_some() {
            return Some(at);
        }
        from = text.len() - word.len();
        if word.is_empty() {
            return None;
        }
    }
    None
}
