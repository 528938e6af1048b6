//! What each fuzz target does with its input, apart from the fuzzer: so the same is also driven by
//! `tests/fuzzed.rs`, with bytes at random, by every run of the tests.
//!
//! Each of these reads what strangers or people write. None may panic, and what it takes must keep what
//! its room promises.

use std::collections::BTreeMap;

use jiff::Timestamp;
use open_dispatch::{
    cli::jsonpath,
    resource::{
        AnyObject, Document, FleetSpec, Kind, apply,
        cron::Cron,
        decode,
        expand::{MOST_MEMBERS, NoDirectories, members},
        field_selector::FieldSelector,
        json_patch::json_patch,
        selector::Selector,
    },
    server::readers,
    source::over::surgery,
};
use serde_json::{Value, json};

/// A JSON document, or nothing.
fn document(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

/// A Fleet of these parameters and this template: its members have different names, or there are few
/// faults.
pub fn expand(params: &[(String, String)], text: &str, name: &str, copies: u16) {
    let entry: BTreeMap<&str, &str> =
        params.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    // More than too many says nothing that too many does not, and takes its time.
    let list = vec![entry; usize::from(copies).min(MOST_MEMBERS + 1)];
    let axes: BTreeMap<&str, Vec<&str>> =
        params.iter().map(|(key, value)| (key.as_str(), vec![value.as_str(); 3])).collect();
    for generate in [json!({"list": list}), json!({"matrix": axes}), json!({"replicas": copies})] {
        let spec = json!({
            "generate": generate,
            "template": {"kind": "Agent", "metadata": {"name": name, "labels": {"l": text}}, "spec": {
                "agent": {"claude": {}}, "instructions": text, "permissions": {"allow": [text]},
            }},
        });
        let spec: FleetSpec = serde_json::from_value(spec).expect("it is a spec");
        match members("crew", &spec, Err(NoDirectories), &mut |_| Ok(())) {
            Ok(members) => {
                let mut names: Vec<&str> = members.iter().map(|it| it.name.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                assert_eq!(names.len(), members.len(), "two members of one name");
                assert!(names.len() <= MOST_MEMBERS, "too many members");
            }
            Err(faults) => assert!(!faults.0.is_empty() && faults.0.len() <= 21, "{faults}"),
        }
    }
}

/// A line of cron: the next due minute lies behind, and the last one within.
pub fn cron(line: &str, zone: Option<&str>, after: i64) {
    let Ok(cron) = Cron::read(line, zone) else { return };
    // From 1970 to 2200.
    let Ok(after) = Timestamp::from_second(after.rem_euclid(7_258_118_400)) else { return };
    if let Some(next) = cron.next(after) {
        assert!(next > after, "{line}: {next} is not behind {after}");
        assert_eq!(next.as_second().rem_euclid(60), 0, "{line}: {next} is no whole minute");
        assert_eq!(cron.last(after, next), Some(next), "{line}: from {after}");
        assert_eq!(cron.count(after, next, 5), 1, "{line}: from {after}");
    }
}

/// Selectors of labels and of fields.
pub fn selectors(text: &str, label: (&str, &str)) {
    let labels = BTreeMap::from([(label.0.to_owned(), label.1.to_owned())]);
    if let Ok(selector) = Selector::parse(text) {
        let found = selector.matches(&labels);
        assert!(!selector.is_everything() || found, "{text} is everything");
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let object = json!({"metadata": {"name": label.1}, "status": {"phase": label.0}});
        let found = selector.matches(&object);
        assert!(!selector.is_everything() || found, "{text} is everything");
    }
}

/// A template of JSONPath, and a path, on a document.
pub fn jsonpath(text: &str, on: &str) {
    let fixed = json!({"items": [{"a": {"b": [1, 2]}, "s": "x"}, {"a": null}], "n": -1});
    let on = document(on).unwrap_or(fixed);
    if let Ok(template) = text.parse::<jsonpath::Template>() {
        let _ = template.render(&on);
    }
    if let Ok(path) = text.parse::<jsonpath::Path>() {
        let _ = path.find(&on);
    }
}

/// Bodies that whoever reaches the server may send.
pub fn bodies(bytes: &[u8], event: &str) {
    let _ = readers::protobuf(bytes);
    let _ = readers::push(event, bytes);
}

/// A JSON patch: where it is refused, nothing is left to say of the target.
pub fn patch(target: &str, operations: &str) {
    let (Some(mut target), Some(operations)) = (document(target), document(operations)) else {
        return;
    };
    let _ = json_patch(&mut target, operations);
}

/// Server-side apply over an account of fields that somebody sent: what comes of it can be read again,
/// and the same once more changes nothing.
pub fn server_side_apply(account: &str, config: &str) {
    let mut live = json!({
        "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "a", "uid": "u"},
        "spec": {"agent": {"claude": {}}, "env": [{"name": "A", "value": "1"}]},
    });
    live["metadata"]["managedFields"] = json!([{
        "manager": "x", "operation": "Apply", "apiVersion": "opendispatch.dev/v1alpha1",
        "fieldsType": "FieldsV1", "fieldsV1": document(account).unwrap_or_default(),
    }]);
    let (Ok(live), Some(config)) = (decode(live), document(config)) else { return };
    let now = Timestamp::UNIX_EPOCH;
    for manager in ["x", "y"] {
        let Ok(once) = apply::apply(&live, &config, manager, true, now) else { continue };
        let twice = apply::apply(&once, &config, manager, true, now);
        let spec = |object: &AnyObject| object.to_json()["spec"].take();
        assert_eq!(twice.map(|it| spec(&it)), Ok(spec(&once)), "{config}");
    }
}

/// A patch of a file as text: what is written reads.
pub fn surgery(text: &str, patch: &str) {
    let Some(patch) = document(patch).filter(Value::is_object) else { return };
    let Ok(written) = surgery::patch(text, Kind::Agent, "a", &patch) else { return };
    let read = Document::read(&written, None);
    assert!(read.is_ok(), "it was YAML, and is no more:\n{text}\n---\n{written}\n{read:?}");
}
