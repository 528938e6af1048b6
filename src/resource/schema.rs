//! JSON Schemas of whole objects, from the same types that serde reads.
//!
//! They are published under `specs/schema/`, so that editors complete and check YAML, and the
//! same schemas find the faults of a document ([`super::decode`]).

use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    API_VERSION, AgentSpec, AgentStatus, FleetSpec, FleetStatus, JobSpec, JobStatus, Kind,
    Metadata, OverrideSpec, OverrideStatus, ScheduleSpec, ScheduleStatus, SourceSpec, SourceStatus,
    SpriteSpec, SpriteStatus,
};

/// The JSON Schema (draft 2020-12) of a kind's objects.
#[must_use]
pub fn json_schema(kind: Kind) -> Value {
    of(kind).clone()
}

/// The same, made once.
pub(super) fn of(kind: Kind) -> &'static Value {
    static AGENT: LazyLock<Value> = LazyLock::new(|| build::<AgentSpec, AgentStatus>(Kind::Agent));
    static JOB: LazyLock<Value> = LazyLock::new(|| build::<JobSpec, JobStatus>(Kind::Job));
    static FLEET: LazyLock<Value> = LazyLock::new(|| build::<FleetSpec, FleetStatus>(Kind::Fleet));
    static SCHEDULE: LazyLock<Value> =
        LazyLock::new(|| build::<ScheduleSpec, ScheduleStatus>(Kind::Schedule));
    static SOURCE: LazyLock<Value> =
        LazyLock::new(|| build::<SourceSpec, SourceStatus>(Kind::Source));
    static OVERRIDE: LazyLock<Value> =
        LazyLock::new(|| build::<OverrideSpec, OverrideStatus>(Kind::Override));
    static SPRITE: LazyLock<Value> =
        LazyLock::new(|| build::<SpriteSpec, SpriteStatus>(Kind::Sprite));
    match kind {
        Kind::Agent => &AGENT,
        Kind::Job => &JOB,
        Kind::Fleet => &FLEET,
        Kind::Schedule => &SCHEDULE,
        Kind::Source => &SOURCE,
        Kind::Override => &OVERRIDE,
        Kind::Sprite => &SPRITE,
    }
}

/// Whether a dotted path, such as `status.phase`, leads to one value of a kind's objects, and not
/// to a list, an object or nothing.
#[must_use]
pub fn has_scalar(kind: Kind, path: &str) -> bool {
    let root = of(kind);
    let found = path.split('.').try_fold(vec![root], |schemas, name| {
        let next: Vec<&Value> =
            schemas.into_iter().flat_map(|it| members(root, it, name)).collect();
        if next.is_empty() { None } else { Some(next) }
    });
    let scalar = |schema: &Value| !matches!(schema["type"].as_str(), Some("object" | "array"));
    path == "metadata.namespace"
        || found.is_some_and(|found| {
            found.into_iter().map(|schema| resolved(root, schema)).all(|schema| {
                scalar(schema) && schema["oneOf"].as_array().into_iter().flatten().all(scalar)
            })
        })
}

fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(name) => resolved(root, &root["$defs"][name.trim_start_matches("#/$defs/")]),
        None => schema,
    }
}

/// What a member can be, over all branches of a union.
fn members<'s>(root: &'s Value, schema: &'s Value, name: &str) -> Vec<&'s Value> {
    let schema = resolved(root, schema);
    let branches = schema["oneOf"].as_array().into_iter().flatten();
    std::iter::once(schema)
        .chain(branches)
        .filter_map(|schema| {
            let rest = Some(&schema["additionalProperties"]).filter(|rest| rest.is_object());
            schema["properties"].get(name).or(rest)
        })
        .collect()
}

fn build<S: JsonSchema, T: JsonSchema>(kind: Kind) -> Value {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let metadata = generator.subschema_for::<Metadata>();
    let spec = generator.subschema_for::<S>();
    let status = generator.subschema_for::<T>();
    let mut definitions = generator.take_definitions(true);
    for definition in definitions.values_mut() {
        without_null(definition);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.name(),
        "description": about(&definitions, kind),
        "type": "object",
        "properties": {
            "apiVersion": {
                "description": "The group and version of every kind.",
                "const": API_VERSION,
            },
            "kind": { "description": "The kind.", "const": kind.name() },
            "metadata": described(metadata, "What every object carries."),
            "spec": described(spec, "What is wanted."),
            "status": described(status, "What is observed; written by the server alone."),
        },
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "$defs": definitions,
    })
}

/// One line on the kind: what its spec says of itself.
fn about(definitions: &Map<String, Value>, kind: Kind) -> Value {
    definitions
        .get(&format!("{}Spec", kind.name()))
        .and_then(|spec| spec.get("description"))
        .cloned()
        .unwrap_or_default()
}

fn described(mut schema: Schema, text: &str) -> Value {
    schema.insert("description".to_owned(), text.into());
    schema.to_value()
}

/// Takes `null` out of every type: a member that is null counts as absent, and nobody should
/// be offered to write it.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [single] = types.as_mut_slice() {
                    let single = single.take();
                    map.insert("type".to_owned(), single);
                }
            }
            if let Some(Value::Array(any)) = map.get_mut("anyOf") {
                any.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
                if let [Value::Object(single)] = any.as_mut_slice() {
                    let single = std::mem::take(single);
                    map.remove("anyOf");
                    for (key, value) in single {
                        map.entry(key).or_insert(value);
                    }
                }
            }
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            map.values_mut().for_each(without_null);
        }
        _ => {}
    }
}
