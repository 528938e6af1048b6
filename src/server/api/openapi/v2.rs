//! The OpenAPI document of version 2, for clients from before version 3.
//!
//! It says less: `oneOf` is not in it, and closed objects are not, because its readers take an
//! object with `additionalProperties` for a map.

use serde_json::{Map, Value, json};

use super::{
    paths::{self, Operation, answered, schema_of},
    schemas,
};

/// The document.
#[must_use]
pub(super) fn document() -> Value {
    let definitions: Map<String, Value> =
        schemas::all().into_iter().map(|(name, schema)| (name, older(&schema))).collect();
    json!({
        "swagger": "2.0",
        "info": super::info(),
        "paths": paths::items(&json!({"type": "string"}), described),
        "definitions": definitions,
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/definitions/{schema}")})
}

fn described(operation: &Operation) -> Value {
    let mut params: Vec<Value> = operation
        .params
        .iter()
        .map(|param| {
            let mut described =
                json!({"name": param.name, "in": "query", "description": param.about});
            for (word, value) in schema_of(param) {
                described[word] = value;
            }
            described
        })
        .collect();
    if let Some(body) = &operation.body {
        params.push(json!({
            "name": "body", "in": "body", "required": body.required,
            "schema": reference(&body.schema),
        }));
    }
    let mut answers = Map::new();
    for (code, schema) in &operation.answers {
        let answer = json!({"description": "Done.", "schema": answered(schema, reference)});
        answers.entry(*code).or_insert(answer);
    }
    let refused = reference(&schemas::full_name("Status"));
    answers.insert(
        "default".to_owned(),
        json!({"description": "Refused, and why.", "schema": refused}),
    );
    let consumes = operation.body.as_ref().map(|body| body.sorts.clone()).unwrap_or_default();
    let mut described = json!({
        "operationId": operation.id,
        "description": operation.about,
        "consumes": consumes,
        "produces": operation.sorts,
        "parameters": params,
        "responses": answers,
    });
    for (name, value) in operation.of.iter().flatten() {
        described[name] = value.clone();
    }
    described
}

/// A schema of version 3 in the words of version 2.
fn older(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(older).collect(),
        Value::Object(map) => {
            let mut into = Map::new();
            for (word, value) in map {
                match word.as_str() {
                    "oneOf" | "nullable" => {}
                    "additionalProperties" if value.is_boolean() => {}
                    "allOf" => {
                        if let Some(target) = value[0]["$ref"].as_str() {
                            into.insert("$ref".to_owned(), older_reference(target));
                        }
                    }
                    "$ref" => {
                        let target = value.as_str().unwrap_or_default();
                        into.insert(word.clone(), older_reference(target));
                    }
                    "default" | "example" | "enum" | "required" => {
                        into.insert(word.clone(), value.clone());
                    }
                    "properties" => {
                        let members = value.as_object().into_iter().flatten();
                        let members: Map<String, Value> =
                            members.map(|(name, member)| (name.clone(), older(member))).collect();
                        into.insert(word.clone(), Value::Object(members));
                    }
                    _ => {
                        into.insert(word.clone(), older(value));
                    }
                }
            }
            Value::Object(into)
        }
        other => other.clone(),
    }
}

fn older_reference(target: &str) -> Value {
    target.replace("#/components/schemas/", "#/definitions/").into()
}
