//! What differs between two specs, field by field, for people. Pure.

use serde_json::Value;

use super::transcript::one_line;

/// One field that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The field's path into the spec, with dots.
    pub path: String,
    /// What it was; null for nothing.
    pub old: Value,
    /// What it is to be; null for nothing.
    pub new: Value,
}

impl std::fmt::Display for Change {
    /// `budget.usd: 5 -> 10`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} -> {}", self.path, shown(&self.old), shown(&self.new))
    }
}

/// The fields that differ, in the order of their names. Lists count as one field.
#[must_use]
pub fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    collect("", old, new, &mut found);
    found
}

fn collect(path: &str, old: &Value, new: &Value, found: &mut Vec<Change>) {
    if old == new {
        return;
    }
    let members = |value: &Value| match value {
        Value::Object(members) => Some(members.clone()),
        Value::Null => Some(serde_json::Map::new()),
        _ => None,
    };
    let has_members = |value: &Value| value.as_object().is_some_and(|map| !map.is_empty());
    let is_map = has_members(old) || has_members(new);
    match (members(old), members(new)) {
        (Some(was), Some(is)) if is_map => {
            let mut names: Vec<&String> = was.keys().chain(is.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let member = |of: &serde_json::Map<String, Value>| {
                    of.get(name).cloned().unwrap_or(Value::Null)
                };
                collect(&path, &member(&was), &member(&is), found);
            }
        }
        _ => found.push(Change { path: path.to_owned(), old: old.clone(), new: new.clone() }),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) if text.is_empty() => "\"\"".to_owned(),
        Value::String(text) => one_line(text),
        other => one_line(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::resource::merge::merge_patch;

    #[test]
    fn each_field_that_differs_is_told_with_both_values() {
        let old = json!({
            "agent": {"claude": {}}, "channels": [{"console": {"channel": "a"}}],
            "budget": {"usd": 5}, "instructions": "a\nb", "suspend": true,
        });
        let new = json!({
            "agent": {"opencode": {"model": "a/b"}}, "channels": [], "budget": {"usd": 7, "turns": 3},
            "instructions": "", "repo": {"github": "a/b"},
        });
        let told: Vec<String> = changes(&old, &new).iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(told.join("\n"));
        assert_eq!(changes(&old, &old), []);
    }

    fn spec() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<u8>().prop_map(Value::from), Just(json!([1]))];
        let map = |inner| proptest::collection::btree_map("[ab]", inner, 1..3);
        let inner = prop_oneof![leaf.clone(), map(leaf.boxed()).prop_map(|map| json!(map))];
        map(inner.boxed()).prop_map(|map| json!(map))
    }

    proptest! {
        #[test]
        fn the_changes_lead_from_the_old_to_the_new(old in spec(), new in spec()) {
            let mut made = old.clone();
            for change in changes(&old, &new) {
                prop_assert_ne!(&change.old, &change.new);
                let keys: Vec<&str> = change.path.split('.').collect();
                let patch = keys.iter().rev().fold(change.new, |inner, key| json!({*key: inner}));
                merge_patch(&mut made, &patch);
            }
            // A map whose members all went stands there empty.
            fn tidy(value: &Value) -> Value {
                match value {
                    Value::Object(map) => Value::Object(
                        map.iter()
                            .map(|(key, value)| (key.clone(), tidy(value)))
                            .filter(|(_, value)| *value != json!({}))
                            .collect(),
                    ),
                    other => other.clone(),
                }
            }
            prop_assert_eq!(tidy(&made), tidy(&new));
        }
    }
}
