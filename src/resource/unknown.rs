//! Fields that the types do not know, for clients that want them dropped and not refused.

use serde_json::Value;

use super::{Kind, check::join, schema};

/// Drops every field of a document that its kind does not have, and says which those were.
pub fn drop_unknown(kind: Kind, document: &mut Value) -> Vec<String> {
    let root = schema::of(kind);
    let mut dropped = Vec::new();
    walk(root, root, document, "", &mut dropped);
    dropped
}

fn walk(root: &Value, schema: &Value, value: &mut Value, path: &str, dropped: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = &root["$defs"][name.trim_start_matches("#/$defs/")];
        return walk(root, definition, value, path, dropped);
    }
    match value {
        Value::Array(items) => {
            for (n, item) in items.iter_mut().enumerate() {
                walk(root, &schema["items"], item, &format!("{path}[{n}]"), dropped);
            }
        }
        Value::Object(members) => {
            let branches = schema["oneOf"].as_array().map_or(&[][..], Vec::as_slice);
            let known = |name: &str| {
                let branch = branches.iter().map(|branch| &branch["properties"][name]);
                std::iter::once(&schema["properties"][name]).chain(branch).find(|it| !it.is_null())
            };
            let closed = schema["additionalProperties"] == false
                || branches.iter().any(|branch| branch["additionalProperties"] == false);
            members.retain(|name, member| {
                let path = join(path, name);
                match known(name) {
                    Some(schema) => walk(root, schema, member, &path, dropped),
                    None if closed => {
                        dropped.push(path);
                        return false;
                    }
                    None => walk(root, &schema["additionalProperties"], member, &path, dropped),
                }
                true
            });
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::decode;

    #[test]
    fn what_is_unknown_is_dropped_wherever_it_stands_and_the_rest_is_good() {
        let mut document = json!({
            "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent", "more": 1,
            "metadata": {"name": "a", "labels": {"any": "thing"}, "selfLink": "/x"},
            "spec": {
                "agent": {"claude": {"model": "m", "modle": "n"}},
                "env": [{"name": "A", "value": "1", "valu": "2"}], "suspnd": true,
            },
        });
        assert!(decode(document.clone()).is_err());
        let mut dropped = drop_unknown(Kind::Agent, &mut document);
        dropped.sort();
        let expected = [
            "metadata.selfLink",
            "more",
            "spec.agent.claude.modle",
            "spec.env[0].valu",
            "spec.suspnd",
        ];
        assert_eq!(dropped, expected);
        assert!(decode(document.clone()).is_ok(), "{document}");
        assert_eq!(drop_unknown(Kind::Agent, &mut document), Vec::<String>::new());
    }
}
