//! What a file says, with what was laid over it for a time. Pure.
//!
//! An object that a Source owns says what its file says (the *base*), with the live Overrides merged
//! in, in their order. *Power fields* are left out of that: they turn things off and on, anybody who
//! may command sets them at any time, and a Source writes them only when the file's own value has
//! changed. So they are neither overridden nor drift.

use serde_json::{Map, Value};

use super::{
    APPLYSET, AnyObject, CONFIRM_DELETIONS, FLEET_RESTART, FRESH_SESSION_AFTER,
    KUBECTL_LAST_APPLIED, Kind, LAST_APPLIED, RECONCILE_REQUESTED, RESTARTED_UP_TO, RUN_REQUESTED,
    TOLD_STOPPED, merge::merge_patch,
};

/// The fields of a kind's spec that turn it off and on. All are switches that are off where they do
/// not stand.
#[must_use]
pub const fn power_fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Agent | Kind::Fleet | Kind::Schedule | Kind::Source => &["suspend"],
        Kind::Job => &["cancel"],
        Kind::Override | Kind::Sprite => &[],
    }
}

/// Annotations by which somebody asks for something now. They are no part of what a file says.
pub const POWER_ANNOTATIONS: [&str; 6] = [
    FLEET_RESTART,
    RECONCILE_REQUESTED,
    RUN_REQUESTED,
    FRESH_SESSION_AFTER,
    RESTARTED_UP_TO,
    CONFIRM_DELETIONS,
];

/// Annotations in which programs that apply files keep account of what they applied. Whoever applies
/// what holds already changes nothing else.
pub const ACCOUNT_ANNOTATIONS: [&str; 2] = [LAST_APPLIED, KUBECTL_LAST_APPLIED];

/// Whether an annotation is a note of ours or of a program that applies files: asked for or remembered at
/// the object, and no part of what a file says of it.
#[must_use]
pub fn is_note(key: &str) -> bool {
    POWER_ANNOTATIONS.contains(&key)
        || ACCOUNT_ANNOTATIONS.contains(&key)
        || [APPLYSET, TOLD_STOPPED].contains(&key)
}

/// Whether a Source may own objects of this kind, so that editors ask before they change one.
#[must_use]
pub const fn is_ownable(kind: Kind) -> bool {
    matches!(kind, Kind::Agent | Kind::Job | Kind::Fleet | Kind::Schedule)
}

/// A spec with merge patches laid over it, the first one first. Its power fields stay as they are,
/// whatever a patch says.
#[must_use]
pub fn overlay<'a>(
    kind: Kind,
    base: &Value,
    patches: impl IntoIterator<Item = &'a Value>,
) -> Value {
    let mut spec = base.clone();
    for patch in patches {
        merge_patch(&mut spec, patch);
    }
    with_power_of(kind, spec, base)
}

/// A spec with the power fields of another one.
#[must_use]
pub fn with_power_of(kind: Kind, mut spec: Value, of: &Value) -> Value {
    let Value::Object(members) = &mut spec else { return spec };
    for field in power_fields(kind) {
        match of.get(field).filter(|value| !value.is_null()) {
            Some(value) => members.insert((*field).to_owned(), value.clone()),
            None => members.remove(*field),
        };
    }
    spec
}

/// A spec with those power fields whose value in its file has changed: `was` that file's spec, and `is` by
/// now.
#[must_use]
pub fn powered(kind: Kind, live: &Value, was: &Value, is: &Value) -> Value {
    let mut spec = live.clone();
    for field in power_fields(kind) {
        let value = |spec: &Value| spec.get(*field).and_then(Value::as_bool).unwrap_or_default();
        if value(was) != value(is)
            && let Value::Object(members) = &mut spec
        {
            match value(is) {
                true => members.insert((*field).to_owned(), true.into()),
                false => members.remove(*field),
            };
        }
    }
    spec
}

/// Whether nothing but power fields, requests and accounts differs between two states of an object:
/// what anybody who may command may change, whoever owns it.
#[must_use]
pub fn only_power_differs(old: &AnyObject, new: &AnyObject) -> bool {
    let kind = old.kind();
    let spec = |object: &AnyObject| {
        with_power_of(kind, object.to_json()["spec"].take(), &Value::Object(Map::new()))
    };
    let annotations = |object: &AnyObject| {
        let mut annotations = object.metadata().annotations.clone();
        annotations.retain(|key, _| {
            let key = key.as_str();
            !POWER_ANNOTATIONS.contains(&key) && !ACCOUNT_ANNOTATIONS.contains(&key)
        });
        annotations
    };
    kind == new.kind()
        && spec(old) == spec(new)
        && old.metadata().labels == new.metadata().labels
        && annotations(old) == annotations(new)
}

/// The smallest merge patch that leads from one document to another; none where they are the same.
/// Members that are null count as absent.
#[must_use]
pub fn patch_between(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for name in old.keys().filter(|name| new.get(*name).is_none_or(Value::is_null)) {
        if !old[name].is_null() {
            patch.insert(name.clone(), Value::Null);
        }
    }
    for (name, value) in new.iter().filter(|(_, value)| !value.is_null()) {
        let change = match old.get(name) {
            Some(was) => patch_between(was, value),
            None => Some(value.clone()),
        };
        if let Some(change) = change {
            patch.insert(name.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::resource::{API_VERSION, decode};

    fn spec() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<u8>().prop_map(Value::from), "[ab]{0,2}".prop_map(Value::from)];
        let inner = leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                collection::btree_map("[abc]", inner, 0..3).prop_map(|map| json!(map)),
            ]
        });
        (collection::btree_map("[abc]", inner, 0..4), any::<Option<bool>>()).prop_map(
            |(members, suspend)| {
                let mut spec = json!(members);
                if let Some(suspend) = suspend {
                    spec["suspend"] = suspend.into();
                }
                spec
            },
        )
    }

    proptest! {
        #[test]
        fn an_override_and_its_expiry_give_back_the_same_spec(
            base in spec(), kept in collection::vec(spec(), 0..3), over in spec(), at in 0usize..4,
        ) {
            let before = overlay(Kind::Agent, &base, &kept);
            let mut with = kept.clone();
            with.insert(at.min(kept.len()), over);
            let _ = overlay(Kind::Agent, &base, &with);
            with.remove(at.min(kept.len()));
            prop_assert_eq!(overlay(Kind::Agent, &base, &with), before);
        }

        #[test]
        fn what_is_laid_over_twice_is_as_laid_over_once(base in spec(), over in spec()) {
            let once = overlay(Kind::Agent, &base, [&over]);
            prop_assert_eq!(overlay(Kind::Agent, &base, [&over, &over]), once.clone());
            prop_assert_eq!(overlay(Kind::Agent, &once, [&over]), once);
        }

        #[test]
        fn the_last_override_has_the_last_word(base in spec(), first in spec(), last in spec()) {
            let with = overlay(Kind::Agent, &base, [&first, &last]);
            let alone = overlay(Kind::Agent, &overlay(Kind::Agent, &base, [&first]), [&last]);
            prop_assert_eq!(with, alone);
        }

        #[test]
        fn no_override_touches_a_power_field(base in spec(), overs in collection::vec(spec(), 0..4)) {
            let laid = overlay(Kind::Agent, &base, &overs);
            prop_assert_eq!(laid.get("suspend"), base.get("suspend"));
        }

        #[test]
        fn a_patch_between_two_documents_leads_from_one_to_the_other(old in spec(), new in spec()) {
            let mut made = old.clone();
            match patch_between(&old, &new) {
                Some(patch) => merge_patch(&mut made, &patch),
                None => prop_assert_eq!(&old, &new),
            }
            prop_assert_eq!(made, new);
        }
    }

    #[test]
    fn stopping_an_agent_is_a_change_of_power_and_a_new_model_is_none() {
        let agent = |suspend: bool, model: &str| {
            decode(json!({
                "apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": "bot"},
                "spec": {"agent": {"claude": {"model": model}}, "suspend": suspend},
            }))
            .unwrap()
        };
        let old = agent(false, "a");
        assert!(only_power_differs(&old, &agent(true, "a")));
        assert!(!only_power_differs(&old, &agent(true, "b")));
        let mut asked = old.clone();
        let annotations = &mut asked.metadata_mut().annotations;
        annotations.insert(RUN_REQUESTED.to_owned(), "now".to_owned());
        assert!(only_power_differs(&old, &asked));
        let annotations = &mut asked.metadata_mut().annotations;
        annotations.insert(KUBECTL_LAST_APPLIED.to_owned(), "{}".to_owned());
        assert!(only_power_differs(&old, &asked), "who applied the same has changed nothing");
        asked.metadata_mut().annotations.insert("team".to_owned(), "a".to_owned());
        assert!(!only_power_differs(&old, &asked));
        let mut labelled = old.clone();
        labelled.metadata_mut().labels.insert("team".to_owned(), "a".to_owned());
        assert!(!only_power_differs(&old, &labelled));
    }
}
