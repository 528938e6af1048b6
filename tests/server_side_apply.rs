//! Promise: who applies a configuration says of its fields all that they shall be, and writes
//! over nobody's fields in silence.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

use jiff::Timestamp;
use open_dispatch::resource::{
    API_VERSION, AnyObject, Kind, Operation,
    apply::{Error, apply, first, record},
    decode,
    merge::merge_patch,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A configuration of the agent `a`, with these members.
fn config(more: Value) -> Value {
    let mut config = json!({"apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": "a"}});
    merge_patch(&mut config, &more);
    config
}

fn whole(more: Value) -> Value {
    let mut whole = config(json!({"spec": {"agent": {"claude": {}}}}));
    merge_patch(&mut whole, &more);
    whole
}

fn made(by: &str, more: Value) -> AnyObject {
    let config = whole(more);
    let mut object = decode(config.clone()).unwrap();
    object.metadata_mut().managed_fields = first(Kind::Agent, &config, by, at(0));
    object
}

fn applied(live: &AnyObject, by: &str, more: Value) -> AnyObject {
    apply(live, &config(more), by, false, at(1)).unwrap_or_else(|error| panic!("{error}"))
}

fn spec(object: &AnyObject) -> Value {
    object.to_json()["spec"].clone()
}

/// Who holds what, as people read it.
fn held(object: &AnyObject) -> Vec<String> {
    use open_dispatch::resource::fields::{FieldSet, shown};
    let entries = object.metadata().managed_fields.iter();
    entries
        .map(|entry| {
            let set = FieldSet::read(&entry.fields_v1).unwrap();
            let fields: Vec<String> = set.0.iter().map(|path| shown(path)).collect();
            format!("{} {:?}: {}", entry.manager, entry.operation, fields.join(" "))
        })
        .collect()
}

#[test]
fn what_a_manager_leaves_out_goes_if_it_alone_held_it() {
    let live = made(
        "git",
        json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"budget": {"usd": 5.0}}}),
    );
    let live = applied(&live, "ann", json!({"metadata": {"labels": {"b": "2"}}}));
    let after = applied(&live, "git", json!({"spec": {"agent": {"claude": {}}}}));
    assert_eq!(after.to_json()["metadata"]["labels"], json!({"b": "2"}));
    assert_eq!(spec(&after)["budget"], Value::Null, "what is left empty goes, too");
    assert_eq!(held(&after), ["ann Apply: .metadata.labels.b", "git Apply: .spec.agent"]);
}

#[test]
fn an_item_of_a_list_by_name_belongs_to_who_applied_it() {
    let a = json!({"name": "A", "value": "1"});
    let b = json!({"name": "B", "value": "2"});
    let live = made("git", json!({"spec": {"env": [a]}}));
    let live = applied(&live, "ann", json!({"spec": {"env": [b]}}));
    assert_eq!(spec(&live)["env"], json!([a, b]));
    let other = json!({"name": "A", "value": "3"});
    let refused = apply(&live, &config(json!({"spec": {"env": [other]}})), "ann", false, at(2));
    let Err(Error::Conflicts(conflicts)) = refused else { panic!("{refused:?}") };
    assert_eq!(conflicts[0].field, r#".spec.env[name="A"].value"#);
    let live = applied(&live, "ann", json!({"spec": {}}));
    assert_eq!(spec(&live)["env"], json!([a]), "its own item went, and no other");
}

#[test]
fn a_conflict_names_each_field_and_its_manager_and_force_takes_them() {
    let live = made("git", json!({"spec": {"suspend": true, "instructions": "Be brief."}}));
    let wanted = config(json!({"spec": {"suspend": false, "instructions": "Be long."}}));
    let error = apply(&live, &wanted, "ann", false, at(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflict with \"git\": .spec.instructions; \
         conflict with \"git\": .spec.suspend"
    );
    let forced = apply(&live, &wanted, "ann", true, at(1)).unwrap();
    assert_eq!(spec(&forced)["instructions"], "Be long.");
    assert_eq!(
        held(&forced),
        ["git Apply: .spec.agent", "ann Apply: .spec.instructions .spec.suspend"]
    );
    let back = apply(&forced, &whole(json!({"spec": {"suspend": true}})), "git", false, at(2));
    assert!(matches!(back, Err(Error::Conflicts(_))), "what was taken is held by who took it");
}

#[test]
fn a_union_is_taken_whole() {
    let live = made("git", json!({}));
    let other = config(json!({"spec": {"agent": {"codex": {}}}}));
    assert!(matches!(apply(&live, &other, "ann", false, at(1)), Err(Error::Conflicts(_))));
    let forced = apply(&live, &other, "ann", true, at(1)).unwrap();
    assert_eq!(spec(&forced)["agent"], json!({"codex": {}}));
    let own = applied(&live, "git", json!({"spec": {"agent": {"codex": {}}}}));
    assert_eq!(spec(&own)["agent"], json!({"codex": {}}));
}

#[test]
fn what_nobody_kept_account_of_is_not_nobodys() {
    let live = decode(whole(json!({"spec": {"instructions": "x"}}))).unwrap();
    let wanted = config(json!({"spec": {"instructions": "y"}}));
    let error = apply(&live, &wanted, "ann", false, at(1)).unwrap_err();
    assert!(error.to_string().contains("before-first-apply"), "{error}");
    let same = applied(&live, "ann", json!({"spec": {"instructions": "x"}}));
    assert_eq!(
        held(&same),
        [
            "ann Apply: .spec.instructions",
            "before-first-apply Update: .spec.agent .spec.instructions .spec.runtime",
        ]
    );
}

#[test]
fn an_update_takes_what_it_changes_and_no_more() {
    let live = made("git", json!({"spec": {"suspend": true, "instructions": "x"}}));
    let mut new = decode(whole(json!({"spec": {"suspend": true, "instructions": "y"}}))).unwrap();
    record(Some(&live), &mut new, "chat", at(3));
    assert_eq!(
        held(&new),
        ["git Apply: .spec.agent .spec.suspend", "chat Update: .spec.instructions"]
    );
    let again = new.clone();
    record(Some(&again), &mut new, "cli", at(4));
    assert_eq!(new, again, "who changes nothing holds nothing");
}

#[test]
fn an_account_that_a_client_writes_is_believed_and_an_empty_one_is_none() {
    let live = made("git", json!({}));
    let mut moved = live.clone();
    moved.metadata_mut().managed_fields[0].manager = "kubectl".to_owned();
    record(Some(&live), &mut moved, "kubectl", at(1));
    assert_eq!(held(&moved), ["kubectl Apply: .spec.agent"]);
    let mut reset = live.clone();
    reset.metadata_mut().managed_fields = vec![Default::default()];
    record(Some(&live), &mut reset, "kubectl", at(1));
    assert_eq!(held(&reset), Vec::<String>::new());
    let mut broken = live.clone();
    broken.metadata_mut().managed_fields[0].fields_v1 = json!({"nonsense": 1});
    record(Some(&live), &mut broken, "kubectl", at(1));
    assert_eq!(held(&broken), ["git Apply: .spec.agent"], "what is no account counts as not sent");
}

#[test]
fn so_many_updaters_are_told_apart_and_the_oldest_become_one() {
    let mut live = made("git", json!({}));
    for n in 0..30 {
        let mut next = live.clone();
        next.metadata_mut().labels.insert(format!("l{n}"), "x".to_owned());
        record(Some(&live), &mut next, &format!("m{n}"), at(n));
        live = next;
    }
    let updaters: Vec<&str> = live
        .metadata()
        .managed_fields
        .iter()
        .filter(|entry| entry.operation == Operation::Update)
        .map(|entry| entry.manager.as_str())
        .collect();
    assert_eq!(updaters.len(), 10);
    assert_eq!((updaters[0], updaters[9]), ("ancient-changes", "m29"));
}

#[test]
fn what_would_leave_no_good_object_is_refused_with_the_path() {
    let live = made("git", json!({}));
    let bare = apply(&live, &config(json!({})), "git", false, at(1)).unwrap_err();
    assert!(bare.to_string().contains("spec.agent: is missing"), "{bare}");
    let odd = apply(&live, &config(json!({"spec": "x"})), "git", true, at(1)).unwrap_err();
    assert!(matches!(odd, Error::Faults(_)), "{odd}");
}

/// A configuration of some fields that may or may not be there.
fn configs() -> impl Strategy<Value = Value> {
    let label = proptest::option::of("[xy]");
    let env = proptest::collection::btree_map("[A-C]", "[12]", 0..3);
    let labels = proptest::collection::btree_map("[a-c]", label, 0..4);
    (labels, env, proptest::option::of(any::<bool>()), proptest::option::of(1_u64..3)).prop_map(
        |(labels, env, suspend, turns)| {
            let labels: Value = labels
                .into_iter()
                .filter_map(|(key, value)| value.map(|value| (key, Value::from(value))))
                .collect::<serde_json::Map<_, _>>()
                .into();
            let env: Vec<Value> = env
                .into_iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            let mut more = json!({"metadata": {"labels": labels}, "spec": {}});
            if !env.is_empty() {
                more["spec"]["env"] = env.into();
            }
            if let Some(suspend) = suspend {
                more["spec"]["suspend"] = suspend.into();
            }
            if let Some(turns) = turns {
                more["spec"]["budget"] = json!({"turns": turns});
            }
            config(more)
        },
    )
}

/// An object without the times of its account, and with its items in order.
fn settled(object: &AnyObject) -> Value {
    let mut json = object.to_json();
    if let Some(entries) = json["metadata"]["managedFields"].as_array_mut() {
        for entry in entries.iter_mut() {
            entry["time"] = Value::Null;
        }
        entries.sort_by_key(|entry| entry["manager"].to_string());
    }
    if let Some(env) = json["spec"]["env"].as_array_mut() {
        env.sort_by_key(|entry| entry["name"].to_string());
    }
    json
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn to_apply_twice_is_to_apply_once(one in configs(), two in configs()) {
        let live = made("git", json!({}));
        let live = apply(&live, &one, "ann", true, at(1)).unwrap();
        let once = apply(&live, &two, "bob", true, at(2)).unwrap();
        let twice = apply(&once, &two, "bob", false, at(3)).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn those_who_do_not_conflict_may_come_in_either_order(one in configs(), two in configs()) {
        let live = made("git", json!({}));
        let run = |first: (&Value, &str), second: (&Value, &str)| {
            let live = apply(&live, first.0, first.1, false, at(1)).ok()?;
            apply(&live, second.0, second.1, false, at(2)).ok()
        };
        let (ann, bob) = ((&one, "ann"), (&two, "bob"));
        let (a, b) = (run(ann, bob), run(bob, ann));
        prop_assert_eq!(a.as_ref().map(settled), b.as_ref().map(settled));
    }

    #[test]
    fn force_takes_all_that_is_wanted(one in configs(), two in configs()) {
        let live = made("git", json!({}));
        let live = apply(&live, &one, "ann", true, at(1)).unwrap();
        let after = apply(&live, &two, "bob", true, at(2)).unwrap();
        // What bob wanted is so, and bob can say it again without force.
        prop_assert_eq!(&apply(&after, &two, "bob", false, at(3)).unwrap(), &after);
        let mut wanted = after.to_json();
        merge_patch(&mut wanted, &json!({"metadata": {"labels": two["metadata"]["labels"]}}));
        prop_assert_eq!(decode(wanted).unwrap(), after);
    }

    #[test]
    fn who_applies_and_takes_it_all_back_leaves_no_trace(mine in configs()) {
        let live = made("git", json!({"metadata": {"labels": {"z": "1"}}}));
        let there = apply(&live, &mine, "ann", false, at(1)).unwrap();
        let back = apply(&there, &config(json!({})), "ann", false, at(2)).unwrap();
        prop_assert_eq!(back, live);
    }
}
