//! `Override`: a change, for a time, of an object that a Source owns.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ASKED_BY, AnyObject, Conditions, Kind, Object, Span};

/// A change, for a time, of an object that a Source owns.
pub type Override = Object<OverrideSpec, OverrideStatus>;

/// How long an Override lives where nothing else is said.
pub const DEFAULT_OVERRIDE_TIME: Span = Span::from_secs(60 * 60);

/// How long an Override may live: what is to hold longer belongs into the file.
pub const MAX_OVERRIDE_TIME: Span = Span::from_secs(30 * 24 * 60 * 60);

/// What is changed, and for how long. It never changes, save for `expiresAfter`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OverrideSpec {
    /// The object.
    pub target: OverrideTarget,
    /// A JSON Merge Patch (RFC 7386) on the object's spec.
    pub patch: Map<String, Value>,
    /// How long it lives from its creation on; 1h by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<Span>,
    /// Whether the change is also written into the file that declares the object. The Override then
    /// ends as soon as the file says it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write_to_file: bool,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An object by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OverrideTarget {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// What is observed of an Override.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OverrideStatus {
    /// Observations: `Applied`, `Written` (where it is to be), `Expired`.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// The generation that the conditions speak of.
    pub observed_generation: u64,
    /// A word for people: `Pending`, `Applied`, `Refused`, `Written` or `Expired`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires: Option<Timestamp>,
}

/// Notes on an Override who asks for it, whatever its editor wrote there; who changes one (`old`) does
/// not become the one who asked. Other kinds stay as they are.
pub fn sign(object: &mut AnyObject, old: Option<&AnyObject>, who: &str) {
    if object.kind() != Kind::Override {
        return;
    }
    let who = match old {
        Some(old) => old.metadata().annotations.get(ASKED_BY).cloned(),
        None => Some(who.to_owned()),
    };
    let annotations = &mut object.metadata_mut().annotations;
    match who {
        Some(who) => drop(annotations.insert(ASKED_BY.to_owned(), who)),
        None => drop(annotations.remove(ASKED_BY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_for_an_override_is_who_made_it_and_nobody_else() {
        let spec = serde_json::json!({"target": {"kind": "Agent", "name": "a"}, "patch": {}});
        let mut over = Override::new("a", serde_json::from_value(spec).unwrap());
        over.metadata.annotations.insert(ASKED_BY.to_owned(), "somebody else".to_owned());
        let mut made: AnyObject = over.into();
        sign(&mut made, None, "Ada (token:ci)");
        assert_eq!(made.metadata().annotations[ASKED_BY], "Ada (token:ci)");
        let mut changed = made.clone();
        changed.metadata_mut().annotations.clear();
        sign(&mut changed, Some(&made), "Bob");
        assert_eq!(changed, made);
    }
}
