//! Rows as text: JSON in the column `body`.

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use sprite_reporter::wire::Event;

use crate::{
    resource::{AnyObject, Kind},
    store::{ChangeKind, Error, OutputRow},
};

/// A value as JSON. The types of the store cannot fail to serialise: no maps with keys that are
/// no strings, no serializer that refuses.
pub(super) fn encode(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn decode<T: DeserializeOwned>(body: &str) -> Result<T, Error> {
    serde_json::from_str(body).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::Unavailable(format!("a row cannot be read: {error}"))
}

pub(super) fn encode_object(object: &AnyObject) -> String {
    match object {
        AnyObject::Agent(object) => encode(object),
        AnyObject::Job(object) => encode(object),
        AnyObject::Fleet(object) => encode(object),
        AnyObject::Schedule(object) => encode(object),
        AnyObject::Source(object) => encode(object),
        AnyObject::Override(object) => encode(object),
        AnyObject::Sprite(object) => encode(object),
    }
}

/// An object of a row. One that cannot be read is named, as far as that can be read.
pub(super) fn decode_object(kind: Kind, body: &str) -> Result<AnyObject, Error> {
    read_object(kind, body).map_err(|error| {
        let name = name_in(body).unwrap_or("(its name cannot be read either)");
        Error::Unavailable(format!(
            "the row of {}/{} cannot be read: {error}; if a newer version wrote it, start that one \
             again, else make the store anew from a backup: open-dispatch restore",
            kind.singular(),
            name.escape_debug()
        ))
    })
}

fn read_object(kind: Kind, body: &str) -> Result<AnyObject, serde_json::Error> {
    use serde_json::from_str;
    Ok(match kind {
        Kind::Agent => AnyObject::Agent(from_str(body)?),
        Kind::Job => AnyObject::Job(from_str(body)?),
        Kind::Fleet => AnyObject::Fleet(from_str(body)?),
        Kind::Schedule => AnyObject::Schedule(from_str(body)?),
        Kind::Source => AnyObject::Source(from_str(body)?),
        Kind::Override => AnyObject::Override(from_str(body)?),
        Kind::Sprite => AnyObject::Sprite(from_str(body)?),
    })
}

/// The name in an object's text, which may be no JSON any more. Names have nothing in them that JSON
/// would escape.
fn name_in(body: &str) -> Option<&str> {
    let metadata = body.split_once(r#""metadata""#)?.1;
    let name = metadata.split_once(r#""name":""#)?.1;
    name.split_once('"').map(|(name, _)| name).filter(|name| !name.is_empty())
}

pub(super) fn decode_kind(name: &str) -> Result<Kind, Error> {
    name.parse().map_err(|error| Error::Unavailable(format!("a row cannot be read: {error}")))
}

pub(super) fn encode_change(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => "Added",
        ChangeKind::Modified => "Modified",
        ChangeKind::Deleted => "Deleted",
    }
}

pub(super) fn decode_change(name: &str) -> Result<ChangeKind, Error> {
    match name {
        "Added" => Ok(ChangeKind::Added),
        "Modified" => Ok(ChangeKind::Modified),
        "Deleted" => Ok(ChangeKind::Deleted),
        other => Err(Error::Unavailable(format!("a row cannot be read: `{other}` is no change"))),
    }
}

/// Adds events to a stretch of output: one JSON text a line.
pub(super) fn encode_events(body: &mut Vec<u8>, events: &[Event]) {
    for event in events {
        if !body.is_empty() {
            body.push(b'\n');
        }
        // As with `encode`, nothing can go wrong.
        let _ = serde_json::to_writer(&mut *body, event);
    }
}

/// The events of a stretch of output.
pub(super) fn decode_events(run: u32, body: &str) -> Result<Vec<OutputRow>, Error> {
    body.lines().map(|line| Ok(OutputRow { run, event: decode(line)? })).collect()
}

/// A number as SQLite keeps it. The store's numbers rise by one, and never come near the end.
pub(super) fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A number as SQLite kept it.
pub(super) fn natural(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

/// A time as SQLite keeps it: in milliseconds.
pub(super) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// A time as SQLite kept it.
pub(super) fn time(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_cannot_be_read_is_named_with_the_mend() {
        let newer =
            r#"{"apiVersion":"x","kind":"Agent","metadata":{"name":"bot","uid":"u"},"spec":7}"#;
        let torn = r#"{"apiVersion":"x","kind":"Agent","metadata":{"name":"bot","ui"#;
        for (body, name) in [(newer, "agent/bot "), (torn, "agent/bot "), ("", "agent/(its name")] {
            let told = decode_object(Kind::Agent, body).unwrap_err().to_string();
            assert!(told.contains(name), "{told}");
            assert!(told.contains("newer version") && told.contains("restore"), "{told}");
        }
    }
}
