//! What requests may say: the names and types of the fields in Fly's published OpenAPI document
//! (`fields.json`; facts alone, the requests that this fake takes).
//!
//! Fly ignores fields that it does not know, which is how a misspelt one does nothing for months.
//! So the fake ignores them too, and counts them. Nothing is required and `null` is taken
//! everywhere, as by any Go server. [spec]

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

use super::call::Action;

type Table = BTreeMap<String, BTreeMap<String, String>>;

/// The table; an unreadable one is an empty one, which the test below would find.
static TABLE: LazyLock<Table> =
    LazyLock::new(|| serde_json::from_str(include_str!("fields.json")).unwrap_or_default());

/// What is wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `config.guest.cpus`.
    pub place: String,
    /// What.
    pub what: String,
    /// Whether Fly would refuse it: a wrong type, and not a field that it does not know.
    pub is_refused: bool,
}

/// The schema of an action's body.
#[must_use]
pub fn schema(action: Action) -> Option<&'static str> {
    Some(match action {
        Action::Create => "CreateMachineRequest",
        Action::Update => "UpdateMachineRequest",
        Action::Stop => "StopRequest",
        Action::Signal => "SignalRequest",
        Action::LeaseTake => "CreateLeaseRequest",
        Action::Exec => "MachineExecRequest",
        Action::MetadataPut => "updateMetadataRequest",
        Action::MetadataKeySet => "upsertMetadataKeyRequest",
        Action::VolumeCreate => "CreateVolumeRequest",
        Action::VolumeUpdate => "UpdateVolumeRequest",
        Action::VolumeExtend => "ExtendVolumeRequest",
        Action::AppCreate => "CreateAppRequest",
        Action::SecretsSet => "AppSecretsUpdateRequest",
        Action::SecretSet => "SetAppSecretRequest",
        _ => return None,
    })
}

/// Checks a body against a schema; what is wrong comes in the order of its places.
#[must_use]
pub fn check(schema: &str, body: &Value) -> Vec<Fault> {
    let mut found = Vec::new();
    walk(schema, body, "", &mut found);
    found.sort_by(|a, b| a.place.cmp(&b.place));
    found
}

fn at(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

fn walk(kind: &str, value: &Value, place: &str, found: &mut Vec<Fault>) {
    if value.is_null() || kind == "any" {
        return;
    }
    if let Some(inner) = kind.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        let Some(items) = value.as_array() else {
            return wrong("an array", value, place, found);
        };
        for (n, item) in items.iter().enumerate() {
            walk(inner, item, &format!("{place}[{n}]"), found);
        }
        return;
    }
    if let Some(inner) = kind.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
        let Some(members) = value.as_object() else {
            return wrong("an object", value, place, found);
        };
        for (name, member) in members {
            walk(inner, member, &at(place, name), found);
        }
        return;
    }
    if let Some(fields) = TABLE.get(kind) {
        let Some(members) = value.as_object() else {
            return wrong("an object", value, place, found);
        };
        for (name, member) in members {
            match fields.get(name) {
                Some(kind) => walk(kind, member, &at(place, name), found),
                None => found.push(Fault {
                    place: at(place, name),
                    what: format!("no field of {kind}, and ignored"),
                    is_refused: false,
                }),
            }
        }
        return;
    }
    let fits = kind.split('|').any(|kind| match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    });
    if !fits {
        wrong(kind, value, place, found);
    }
}

fn wrong(kind: &str, value: &Value, place: &str, found: &mut Vec<Fault>) {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let place = if place.is_empty() { "the body" } else { place };
    found.push(Fault {
        place: place.to_owned(),
        what: format!("is {is} and should be {kind}"),
        is_refused: true,
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(schema: &str, body: &Value) -> Vec<(String, bool)> {
        check(schema, body).into_iter().map(|fault| (fault.place, fault.is_refused)).collect()
    }

    #[test]
    fn what_the_schema_knows_passes() {
        let body = json!({"name": "a", "region": "iad", "config": {
            "image": "x", "env": {"A": "b", "N": null}, "auto_destroy": true,
            "guest": {"cpus": 1, "cpu_kind": "shared"}, "mounts": [{"volume": "v", "path": "/d"}],
            "metadata": {"k": "v"}, "stop_config": {"timeout": "30s"},
            "restart": {"policy": "no"}}});
        assert_eq!(places("CreateMachineRequest", &body), []);
        assert_eq!(places("StopRequest", &json!({"signal": "SIGTERM", "timeout": "5s"})), []);
    }

    #[test]
    fn a_misspelt_field_is_found_however_deep_it_lies() {
        let body = json!({"nmae": "a", "config": {"mounts": [{"vol": "v"}], "guest": {"cpu": 1}}});
        assert_eq!(
            places("CreateMachineRequest", &body),
            [("config.guest.cpu", false), ("config.mounts[0].vol", false), ("nmae", false)]
                .map(|(place, is_refused)| (place.to_owned(), is_refused))
        );
    }

    #[test]
    fn a_wrong_type_is_found_and_refused() {
        let body = json!({"config": {"guest": {"cpus": "1"}, "env": {"A": 1}, "mounts": {}}});
        assert_eq!(
            places("CreateMachineRequest", &body),
            ["config.env.A", "config.guest.cpus", "config.mounts"]
                .map(|place| (place.to_owned(), true))
        );
        assert_eq!(places("StopRequest", &json!([])), [("the body".to_owned(), true)]);
    }

    #[test]
    fn every_body_has_its_schema_in_the_table() {
        let with_body = [Action::Create, Action::Update, Action::Stop, Action::VolumeCreate];
        for action in with_body {
            assert!(TABLE.contains_key(schema(action).unwrap()), "{action}");
        }
    }
}
