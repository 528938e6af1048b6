//! Sets of fields, as `metadata.managedFields` keeps them.
//!
//! A field is known by the path that leads to it. The steps of a path are written as Kubernetes
//! writes them in its form `FieldsV1`: `f:NAME` for a member, `k:{"name":"A"}` for the item of a
//! list that is a map by these keys. A set holds the paths of what cannot be divided further: of
//! texts and numbers, of lists and unions that are taken whole, of objects without members, and
//! of the items of lists that are maps.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Map, Value};

use super::check::join;

/// The member that stands for the place itself, where there are places below it, too.
const SELF: &str = ".";
/// What may stand before a step; `v:` and `i:` are read and kept, and never made here.
const STEPS: [&str; 4] = ["f:", "k:", "v:", "i:"];
/// The deepest path that is read.
const DEEPEST: usize = 64;

/// What leads to a field: steps in the words of `FieldsV1`.
pub type Path = Vec<String>;

/// The step to a member.
#[must_use]
pub fn member(name: &str) -> String {
    format!("f:{name}")
}

/// A path as people write it: `.spec.env[name="A"].value`.
#[must_use]
pub fn shown(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        match step.split_at_checked(2) {
            Some(("f:", name)) => {
                let next = join("x", name);
                text.push_str(&next[1..]);
            }
            Some(("k:", keys)) => {
                let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let keys: Vec<String> =
                    keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let _ = write!(text, "[{}]", keys.join(","));
            }
            _ => {
                let _ = write!(text, "[{}]", step.get(2..).unwrap_or_default());
            }
        }
    }
    text
}

/// A set of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet(pub BTreeSet<Path>);

impl FieldSet {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set and all places on the way to its fields.
    #[must_use]
    pub fn with_parents(&self) -> BTreeSet<&[String]> {
        self.0.iter().flat_map(|path| (1..=path.len()).map(|end| &path[..end])).collect()
    }

    /// Takes fields out.
    pub fn remove(&mut self, fields: &BTreeSet<Path>) {
        self.0.retain(|path| !fields.contains(path));
    }

    /// The set as a tree, in the form `FieldsV1`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let paths: Vec<&[String]> = self.0.iter().map(Vec::as_slice).collect();
        tree(&paths)
    }

    /// Reads a tree in the form `FieldsV1`; nothing, where it is none.
    #[must_use]
    pub fn read(tree: &Value) -> Option<Self> {
        let mut set = Self::default();
        read(tree, &mut Vec::new(), &mut set.0)?;
        Some(set)
    }
}

impl FromIterator<Path> for FieldSet {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Self {
        Self(paths.into_iter().collect())
    }
}

/// The tree of paths that are in order.
fn tree(paths: &[&[String]]) -> Value {
    let mut map = Map::new();
    let below = paths.iter().filter(|path| !path.is_empty());
    if below.clone().count() < paths.len() && below.clone().next().is_some() {
        map.insert(SELF.to_owned(), Value::Object(Map::new()));
    }
    let below: Vec<&[String]> = below.copied().collect();
    let mut rest = below.as_slice();
    while let Some(step) = rest.first().and_then(|path| path.first()) {
        let end = rest.partition_point(|path| path.first() <= Some(step));
        let tails: Vec<&[String]> = rest[..end].iter().map(|path| &path[1..]).collect();
        map.insert(step.clone(), tree(&tails));
        rest = &rest[end..];
    }
    Value::Object(map)
}

fn read(tree: &Value, path: &mut Path, into: &mut BTreeSet<Path>) -> Option<()> {
    let members = tree.as_object()?;
    if path.len() > DEEPEST {
        return None;
    }
    if members.is_empty() && !path.is_empty() {
        into.insert(path.clone());
    }
    for (step, below) in members {
        if step == SELF {
            if !path.is_empty() {
                into.insert(path.clone());
            }
            continue;
        }
        if !STEPS.iter().any(|kind| step.starts_with(kind)) {
            return None;
        }
        path.push(step.clone());
        read(below, path, into)?;
        path.pop();
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};
    use serde_json::json;

    use super::*;

    fn set(paths: &[&[&str]]) -> FieldSet {
        paths.iter().map(|path| path.iter().map(|step| (*step).to_owned()).collect()).collect()
    }

    #[test]
    fn a_set_is_written_as_kubernetes_writes_it() {
        let set = set(&[
            &["f:metadata", "f:labels", "f:example.com/team"],
            &["f:spec", "f:env", r#"k:{"name":"A"}"#],
            &["f:spec", "f:env", r#"k:{"name":"A"}"#, "f:name"],
            &["f:spec", "f:suspend"],
        ]);
        let tree = json!({
            "f:metadata": {"f:labels": {"f:example.com/team": {}}},
            "f:spec": {
                "f:env": {r#"k:{"name":"A"}"#: {".": {}, "f:name": {}}},
                "f:suspend": {},
            },
        });
        assert_eq!(set.to_value(), tree);
        assert_eq!(FieldSet::read(&tree), Some(set.clone()));
        let shown: Vec<String> = set.0.iter().map(|path| shown(path)).collect();
        assert_eq!(
            shown,
            [
                ".metadata.labels[example.com/team]",
                r#".spec.env[name="A"]"#,
                r#".spec.env[name="A"].name"#,
                ".spec.suspend",
            ]
        );
    }

    #[test]
    fn what_is_no_set_is_not_read() {
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({"f:a": deep});
        }
        for tree in [json!(null), json!([]), json!({"spec": {}}), json!({"f:a": 1}), deep] {
            assert_eq!(FieldSet::read(&tree), None, "{tree}");
        }
    }

    proptest! {
        #[test]
        fn every_set_reads_back_as_it_was_written(
            paths in collection::btree_set(collection::vec("f:[a-c]{1,2}", 1..4), 0..12),
        ) {
            let set = FieldSet(paths);
            prop_assert_eq!(FieldSet::read(&set.to_value()), Some(set));
        }
    }
}
