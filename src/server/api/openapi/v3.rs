//! The OpenAPI document of version 3.0.

use serde_json::{Map, Value, json};

use super::{
    paths::{self, Operation, answered, schema_of},
    schemas,
};

/// The document.
#[must_use]
pub(super) fn document() -> Value {
    json!({
        "openapi": "3.0.0",
        "info": super::info(),
        "security": [{"token": []}],
        "paths": paths::items(&json!({"schema": {"type": "string"}}), described),
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn described(operation: &Operation) -> Value {
    let params: Vec<Value> = operation
        .params
        .iter()
        .map(|param| {
            json!({
                "name": param.name, "in": "query", "description": param.about,
                "schema": schema_of(param),
            })
        })
        .collect();
    let answer = |about: &str, sorts: &[&str], schemas: &[&str]| {
        let schema = |it: &&str| answered(it, reference);
        let schema = match schemas {
            [one] => schema(one),
            several => json!({"anyOf": several.iter().map(schema).collect::<Vec<_>>()}),
        };
        let content: Map<String, Value> =
            sorts.iter().map(|sort| ((*sort).to_owned(), json!({"schema": schema}))).collect();
        json!({"description": about, "content": content})
    };
    let mut answers = Map::new();
    for (code, _) in &operation.answers {
        let same = operation.answers.iter().filter(|(other, _)| other == code);
        let schemas: Vec<&str> = same.map(|(_, schema)| schema.as_str()).collect();
        answers.insert((*code).to_owned(), answer("Done.", operation.sorts, &schemas));
    }
    let refused = schemas::full_name("Status");
    // A refusal is a document, whatever else is sent.
    let is_text = operation.answers.iter().any(|(_, schema)| schema == "string");
    let sorts = if is_text { &["application/json"] } else { operation.sorts };
    answers.insert("default".to_owned(), answer("Refused, and why.", sorts, &[&refused]));
    let mut described = json!({
        "operationId": operation.id,
        "description": operation.about,
        "parameters": params,
        "responses": answers,
    });
    if let Some(body) = &operation.body {
        let content: Map<String, Value> = body
            .sorts
            .iter()
            .map(|sort| ((*sort).to_owned(), json!({"schema": patch_or(sort, &body.schema)})))
            .collect();
        described["requestBody"] = json!({"required": body.required, "content": content});
    }
    for (name, value) in operation.of.iter().flatten() {
        described[name] = value.clone();
    }
    described
}

/// A JSON Patch is a list; all else is what the operation takes.
fn patch_or(sort: &str, schema: &str) -> Value {
    if sort == "application/json-patch+json" {
        return json!({"type": "array", "items": {"type": "object"}});
    }
    reference(schema)
}
