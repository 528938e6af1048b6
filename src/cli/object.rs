//! Objects on standard output: as JSON, as YAML, or by name alone.

use serde_json::{Map, Value, json};

use super::{args::ObjectFormat, error::Error, out, target::full_name};
use crate::resource::{AnyObject, Kind, overlay::is_note, yaml};

/// Prints one object.
///
/// # Errors
/// An object that this version does not understand, or a closed standard output.
pub fn print_object(object: &Value, format: ObjectFormat) -> Result<(), Error> {
    match format {
        ObjectFormat::Json => print_json(object),
        ObjectFormat::Yaml => out::data(to_yaml(object)?),
        ObjectFormat::Name => out::line(name_of(object)),
    }
}

/// Prints any JSON, indented, without the account of who wrote which fields: that is for programs,
/// and they ask the server.
///
/// # Errors
/// A closed standard output.
pub fn print_json(value: &Value) -> Result<(), Error> {
    let mut value = value.clone();
    let account = |object: &mut Value| {
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        metadata.and_then(|metadata| metadata.shift_remove("managedFields"));
    };
    account(&mut value);
    value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(account);
    out::line(format!("{value:#}"))
}

/// An object as YAML.
///
/// # Errors
/// An object that this version does not understand.
pub fn to_yaml(object: &Value) -> Result<String, Error> {
    read_object(object).map(|object| yaml::write(&object))
}

/// An object out of the server's JSON.
///
/// # Errors
/// An object that this version does not understand.
pub fn read_object(object: &Value) -> Result<AnyObject, Error> {
    let strange = |why: String| {
        Error::Broken(format!(
            "its object cannot be read ({why}); is the server newer than this program?"
        ))
    };
    let kind: Kind = object["kind"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .map_err(|error: crate::resource::WrongKind| strange(error.to_string()))?;
    AnyObject::from_json(kind, object.clone()).map_err(|error| strange(error.to_string()))
}

/// What is wanted of an object, as a file would say it: without status, and without what the server
/// sets and `apply` remembers.
#[must_use]
pub fn desired(object: &Value) -> Value {
    let mut metadata = Map::new();
    for part in ["name", "generateName", "labels", "annotations"] {
        let value = &object["metadata"][part];
        if !value.is_null() {
            metadata.insert(part.to_owned(), value.clone());
        }
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !is_note(key));
    }
    json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": metadata,
        "spec": object["spec"],
    })
}

/// An object's name as it is printed; a list's items carry no kind, so that it is looked for in
/// the object only where one is there.
#[must_use]
pub fn name_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["kind"].as_str().and_then(|kind| kind.parse().ok()) {
        Some(kind) => full_name(kind, name),
        None => name.to_owned(),
    }
}
