//! What was changed, and whether somebody else changed the same. Pure.

use serde_json::{Map, Value};

/// The merge patch that makes one document of another; nothing where they are the same.
pub(super) fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(was), Value::Object(is)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for (key, value) in is {
        match was.get(key) {
            Some(old) => {
                if let Some(change) = difference(old, value) {
                    patch.insert(key.clone(), change);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in was.keys().filter(|key| !is.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(patch.into())
}

/// The fields that two patches both change to something else.
pub(super) fn overlap(mine: &Value, theirs: &Value) -> Vec<String> {
    let mut both = Vec::new();
    collect("", mine, theirs, &mut both);
    both
}

fn collect(path: &str, mine: &Value, theirs: &Value, both: &mut Vec<String>) {
    match (mine, theirs) {
        (Value::Object(mine), Value::Object(theirs)) => {
            for (key, value) in mine {
                if let Some(other) = theirs.get(key) {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    collect(&path, value, other, both);
                }
            }
        }
        // Whoever wants the same does not stand in the way.
        (mine, theirs) if mine == theirs => {}
        _ => both.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::resource::merge::merge_patch;

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3_u8).prop_map(Value::from),
            proptest::collection::vec(0..3_u8, 0..2).prop_map(|list| json!(list)),
        ];
        let node = leaf.prop_recursive(3, 16, 3, |inner| {
            proptest::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        proptest::collection::btree_map("[a-c]", node, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_difference_makes_one_of_the_other(old in document(), new in document()) {
            let mut made = old.clone();
            if let Some(patch) = difference(&old, &new) {
                merge_patch(&mut made, &patch);
            }
            prop_assert_eq!(made, new);
        }

        #[test]
        fn changes_that_do_not_meet_give_the_same_in_either_order(
            base in document(), a in document(), b in document(),
        ) {
            let mine = difference(&base, &a).unwrap_or(json!({}));
            let theirs = difference(&base, &b).unwrap_or(json!({}));
            prop_assume!(overlap(&mine, &theirs).is_empty());
            let both = |first: &Value, second: &Value| {
                let mut made = base.clone();
                merge_patch(&mut made, first);
                merge_patch(&mut made, second);
                made
            };
            prop_assert_eq!(both(&mine, &theirs), both(&theirs, &mine));
        }
    }

    #[test]
    fn who_changes_the_same_field_stands_in_the_way_and_nobody_else() {
        let mine = json!({"spec": {"suspend": true, "agent": {"claude": {"model": "a"}}}});
        let fields = |theirs: Value| overlap(&mine, &theirs);
        assert_eq!(fields(json!({"spec": {"idleTimeout": "1h"}})), Vec::<String>::new());
        assert_eq!(fields(json!({"spec": {"suspend": true}})), Vec::<String>::new());
        assert_eq!(fields(json!({"spec": {"suspend": null}})), ["spec.suspend"]);
        assert_eq!(fields(json!({"spec": {"agent": {"claude": null}}})), ["spec.agent.claude"]);
        assert_eq!(fields(json!({"spec": null})), ["spec"]);
    }
}
