//! An object as a person would have written it into a file: no status, nothing that the server or
//! another program set, nothing that would be so anyway.
//!
//! What is so anyway stands in the schema, as the default of a member. It is left out of the tree
//! that is written, so that the text's members keep the order of their types.

use serde_json::Value;

use super::{
    AnyObject,
    overlay::is_note,
    schema,
    tree::{Node, Shape},
};

/// What a file says of metadata.
const METADATA: [&str; 4] = ["name", "generateName", "labels", "annotations"];
/// Leaves in an object's tree what a file would say.
pub(super) fn declared(object: &AnyObject, tree: &mut Node) {
    let root = schema::of(object.kind());
    if let Shape::Map(members) = &mut tree.shape {
        members.retain(|member| member.key != "status");
        for member in members {
            match member.key.as_str() {
                "metadata" => metadata(&mut member.node),
                "spec" => prune(&mut member.node, &root["properties"]["spec"], root),
                _ => {}
            }
        }
    }
}

fn metadata(node: &mut Node) {
    let Shape::Map(members) = &mut node.shape else { return };
    for member in members.iter_mut().filter(|member| member.key == "annotations") {
        if let Shape::Map(annotations) = &mut member.node.shape {
            annotations.retain(|annotation| !is_note(&annotation.key));
        }
    }
    members.retain(|member| {
        let is_empty = member.node.is_map() && member.node.members().is_empty();
        METADATA.contains(&member.key.as_str()) && !is_empty
    });
}

/// Takes away what is so by default.
fn prune(node: &mut Node, schema: &Value, root: &Value) {
    let schema = behind(schema, root);
    match &mut node.shape {
        Shape::Map(members) => {
            members.retain(|member| {
                let default = property(schema, &member.key, root).map(|it| &it["default"]);
                default
                    .is_none_or(|default| default.is_null() || member.node.to_value() != *default)
            });
            for member in members {
                if let Some(schema) = property(schema, &member.key, root) {
                    prune(&mut member.node, schema, root);
                }
            }
        }
        Shape::List(items) => {
            for item in items {
                prune(item, &schema["items"], root);
            }
        }
        _ => {}
    }
}

/// The schema of a member, also where it is one of a union's.
fn property<'a>(schema: &'a Value, key: &str, root: &'a Value) -> Option<&'a Value> {
    let own = &schema["properties"][key];
    if !own.is_null() {
        return Some(own);
    }
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    variants.map(|variant| behind(variant, root)).find_map(|variant| {
        let found = &variant["properties"][key];
        (!found.is_null()).then_some(found)
    })
}

/// What a schema says, behind references.
fn behind<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let mut schema = schema;
    while let Some(next) = schema["$ref"].as_str().and_then(|path| root.pointer(&path[1..])) {
        schema = next;
    }
    schema
}

#[cfg(test)]
mod tests {
    use crate::resource::yaml;

    /// An object with everything that a file does not say.
    const FULL: &str = "\
apiVersion: opendispatch.dev/v1alpha1
kind: Job
metadata:
  name: nightly
  uid: 00000000-0000-0000-0000-000000000000
  resourceVersion: '7'
  generation: 3
  labels: {team: a}
  annotations:
    opendispatch.dev/last-applied-configuration: '{}'
    example.org/owner: payments
spec:
  task: |
    one
    two
  agent: {command: {}}
  runtime: {local: {}}
  retries: 0
  report: {to: [{console: {channel: main}}], detail: stream}
status: {phase: Running, attempts: 1}
";

    #[test]
    fn what_a_file_would_not_say_is_left_out() {
        let object = yaml::read(FULL, None).unwrap().remove(0);
        let text = yaml::declared(&object);
        insta::assert_snapshot!(text);
        let again = yaml::read(&text, None).unwrap().remove(0);
        let spec = |object: &crate::resource::AnyObject| object.to_json()["spec"].clone();
        assert_eq!(spec(&again), spec(&object), "it says the same");
        assert_eq!(yaml::declared(&again), text);
    }
}
