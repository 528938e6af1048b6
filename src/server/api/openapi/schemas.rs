//! The schemas of the OpenAPI documents, made of those that the types give.
//!
//! `schemars` speaks JSON Schema of 2020; OpenAPI 3.0 and its readers speak an older tongue, and
//! Kubernetes' own readers only a part of that: a type stands in every schema, and a union is an
//! object that has all members, of which `oneOf` demands one.

use serde_json::{Map, Value, json};

use crate::resource::{API_VERSION, GROUP, Kind, schema::json_schema};

/// What our schemas are called by.
const OURS: &str = "dev.opendispatch.v1alpha1";
/// What the schemas are called by that are Kubernetes' own.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The full name of a schema.
pub(super) fn full_name(name: &str) -> String {
    match name {
        "Metadata" => format!("{META}.ObjectMeta"),
        "ManagedFields" => format!("{META}.ManagedFieldsEntry"),
        "OwnerReference" | "Condition" | "ListMeta" | "Status" | "StatusDetails"
        | "StatusCause" | "DeleteOptions" | "Preconditions" | "Patch" | "WatchEvent" => {
            format!("{META}.{name}")
        }
        name => format!("{OURS}.{name}"),
    }
}

/// Which group, version and kind something is of.
pub(super) fn gvk(kind: &str) -> Value {
    json!({"group": GROUP, "version": version(), "kind": kind})
}

/// The version of the API within its group.
pub(super) fn version() -> &'static str {
    API_VERSION.rsplit('/').next().unwrap_or(API_VERSION)
}

/// All schemas, in the words of OpenAPI 3.0, by their full names and in their order.
pub(super) fn all() -> Map<String, Value> {
    let mut found = Map::new();
    for kind in Kind::ALL {
        let schema = json_schema(kind);
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            found.entry(full_name(name)).or_insert_with(|| converted(definition));
        }
        let mut object = converted(&schema);
        object["x-kubernetes-group-version-kind"] = json!([gvk(kind.name())]);
        if let Some(object) = object.as_object_mut() {
            object.remove("title");
        }
        found.insert(full_name(kind.name()), object);
        found.insert(full_name(&format!("{kind}List")), list(kind));
    }
    found.extend(meta());
    found.extend(super::beside::schemas());
    let mut sorted: Vec<(String, Value)> = found.into_iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    sorted.into_iter().collect()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{}", full_name(name))})
}

fn list(kind: Kind) -> Value {
    json!({
        "description": format!("A list of the kind {kind}."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"description": "The group and version of every kind.", "type": "string"},
            "kind": {"description": "The kind of the list.", "type": "string"},
            "metadata": {"description": "The list's own metadata.", "allOf": [reference("ListMeta")]},
            "items": {
                "description": "The objects, by name.",
                "type": "array",
                "items": reference(kind.name()),
            },
        },
        "x-kubernetes-group-version-kind": [gvk(&format!("{kind}List"))],
    })
}

/// What Kubernetes has beside objects, as far as we have it.
fn meta() -> Map<String, Value> {
    let text = |about: &str| json!({"description": about, "type": "string"});
    let number = |about: &str| json!({"description": about, "type": "integer", "format": "int64"});
    let flag = |about: &str| json!({"description": about, "type": "boolean"});
    let object = |about: &str, properties: Value| json!({"description": about, "type": "object", "properties": properties});
    let list =
        |about: &str, items: Value| json!({"description": about, "type": "array", "items": items});
    let mut found = Map::new();
    let mut add = |name: &str, schema: Value| found.insert(full_name(name), schema);
    add(
        "ListMeta",
        object(
            "Metadata of a list.",
            json!({
                "resourceVersion": text("The revision at which the list is true."),
                "continue": text("The token of the next page, where there is one."),
                "remainingItemCount": number("How many objects stand behind this page."),
            }),
        ),
    );
    add(
        "StatusCause",
        object(
            "One of the causes of a failure.",
            json!({
                "reason": text("Why, in one word."),
                "message": text("Why, in one line."),
                "field": text("The path of the field that it is about."),
            }),
        ),
    );
    add(
        "StatusDetails",
        object(
            "What a failure is about.",
            json!({
                "name": text("The object's name."),
                "group": text("The object's group."),
                "kind": text("The object's kind, as a plural."),
                "uid": text("The object's uid."),
                "causes": list("All that is wrong.", reference("StatusCause")),
                "retryAfterSeconds": number("When the same request may do better."),
            }),
        ),
    );
    add(
        "Status",
        object(
            "How a request ended that has no object to show.",
            json!({
                "apiVersion": text("v1"),
                "kind": text("Status"),
                "metadata": {"description": "Of a list that ended.", "allOf": [reference("ListMeta")]},
                "status": text("Success or Failure."),
                "message": text("What went wrong, for people."),
                "reason": text("What went wrong, in one word."),
                "details": {"description": "What it is about.", "allOf": [reference("StatusDetails")]},
                "code": number("The HTTP status."),
            }),
        ),
    );
    add(
        "Preconditions",
        object(
            "Which object is meant.",
            json!({
                "uid": text("Its uid."),
                "resourceVersion": text("Its version."),
            }),
        ),
    );
    add(
        "DeleteOptions",
        object(
            "How a deletion is to be done.",
            json!({
                "apiVersion": text("v1"),
                "kind": text("DeleteOptions"),
                "dryRun": list("All: nothing is deleted.", json!({"type": "string", "enum": ["All"]})),
                "gracePeriodSeconds": json!({
                    "description": "Taken, and without meaning: what ends is given its own time.",
                    "type": "integer", "format": "int64", "minimum": 0,
                }),
                "orphanDependents": flag("True as propagationPolicy Orphan; not beside that."),
                "preconditions": {
                    "description": "Which object is meant.", "allOf": [reference("Preconditions")],
                },
                "propagationPolicy": json!({
                    "description": "Background and Foreground have the same effect: what an object owns goes \
                                    before it. Orphan is for Fleets and Schedules alone: what they have \
                                    made stays.",
                    "type": "string", "enum": ["Background", "Foreground", "Orphan"],
                }),
            }),
        ),
    );
    add("Patch", json!({"description": "A patch.", "type": "object"}));
    add(
        "WatchEvent",
        json!({
            "description": "One line of a watch.",
            "type": "object",
            "required": ["type", "object"],
            "properties": {
                "type": text("ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."),
                "object": json!({"description": "The object, or a Status.", "type": "object"}),
            },
        }),
    );
    found
}

/// A schema in the words of OpenAPI 3.0.
fn converted(schema: &Value) -> Value {
    let Value::Object(schema) = schema else { return json!({}) };
    let mut into = Map::new();
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let target = reference(name.trim_start_matches("#/$defs/"));
        let beside: Map<String, Value> = schema
            .iter()
            .filter(|(word, _)| *word != "$ref")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if beside.is_empty() {
            return target;
        }
        into.extend(beside);
        into.insert("allOf".to_owned(), json!([target]));
        return Value::Object(into);
    }
    for (word, value) in schema {
        match word.as_str() {
            "$schema" | "$defs" | "oneOf" => {}
            "const" => {
                into.insert("type".to_owned(), "string".into());
                into.insert("enum".to_owned(), json!([value]));
            }
            "examples" => {
                into.insert("example".to_owned(), value[0].clone());
            }
            "format" => {
                let format = match value.as_str() {
                    Some("uint64" | "uint32") => "int64",
                    Some("uint16" | "uint8") => "int32",
                    Some(other) => other,
                    None => continue,
                };
                into.insert(word.clone(), format.into());
            }
            "items" => {
                into.insert(word.clone(), converted(value));
            }
            "additionalProperties" => {
                let rest = if value.is_boolean() { value.clone() } else { converted(value) };
                into.insert(word.clone(), rest);
            }
            "properties" => {
                let members = value.as_object().into_iter().flatten();
                let members: Map<String, Value> =
                    members.map(|(name, member)| (name.clone(), converted(member))).collect();
                into.insert(word.clone(), Value::Object(members));
            }
            _ => {
                into.insert(word.clone(), value.clone());
            }
        }
    }
    if let Some(branches) = schema.get("oneOf").and_then(Value::as_array) {
        either(branches, &mut into);
    }
    Value::Object(into)
}

/// A union, or one of several words.
fn either(branches: &[Value], into: &mut Map<String, Value>) {
    let words: Vec<&Value> = branches
        .iter()
        .flat_map(|branch| {
            let list = branch["enum"].as_array().into_iter().flatten();
            branch.get("const").into_iter().chain(list)
        })
        .collect();
    if !words.is_empty() {
        let mut about =
            into.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
        for branch in branches {
            if let (Some(word), Some(text)) =
                (branch["const"].as_str(), branch["description"].as_str())
            {
                about.push_str(&format!("\n`{word}`: {text}"));
            }
        }
        into.insert("type".to_owned(), "string".into());
        into.insert("enum".to_owned(), json!(words));
        into.insert("description".to_owned(), about.trim().into());
        return;
    }
    let mut members = Map::new();
    let mut choices = Vec::new();
    for branch in branches {
        for (name, member) in branch["properties"].as_object().into_iter().flatten() {
            let mut member = converted(member);
            if let (Some(about), None) = (branch.get("description"), member.get("description")) {
                member = match member.get("$ref") {
                    Some(_) => json!({"description": about, "allOf": [member]}),
                    None => {
                        member["description"] = about.clone();
                        member
                    }
                };
            }
            members.insert(name.clone(), member);
        }
        choices.push(json!({"required": branch["required"]}));
    }
    into.insert("type".to_owned(), "object".into());
    into.insert("properties".to_owned(), Value::Object(members));
    into.insert("additionalProperties".to_owned(), false.into());
    into.insert("oneOf".to_owned(), choices.into());
    // One that applies it says all of it: else there would be two members soon.
    into.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
}
