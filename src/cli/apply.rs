//! `apply`: objects become as files say.
//!
//! What a file said last time is kept in an annotation of the object. So a member that was
//! taken out of the file is taken out of the object, and a member that somebody else set, such
//! as a cancellation from chat, stays. That is a three-way merge, and [`three_way`] is all of it.

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    args::ApplyArgs,
    client::{Client, collection, member},
    error::Error,
    files::{self, Document},
    out,
    target::full_name,
    watch,
};
use crate::resource::{AnyObject, Kind};

/// Where an object keeps what a file said last.
pub const LAST_APPLIED: &str = "opendispatch.dev/last-applied-configuration";

/// Runs `apply`.
///
/// # Errors
/// Every fault of every document; then nothing was applied.
pub async fn apply(args: ApplyArgs) -> Result<u8, Error> {
    let client = Client::find(&args.server)?;
    let documents = files::read(&args.file)?;

    // The server judges everything before anything is done.
    let mut faults = Vec::new();
    let mut verdicts = Vec::new();
    for document in &documents {
        match apply_one(&client, document, true).await {
            Ok(verdict) => verdicts.push(verdict),
            Err(Error::Api { message, code, .. }) if code != 401 && code != 403 => {
                let kind = document.object.kind().singular();
                let name = &document.object.metadata().name;
                faults.push(format!("{}: {kind}/{name}: {message}", document.file));
            }
            Err(error) => return Err(error),
        }
    }
    if !faults.is_empty() {
        return Err(Error::Faults(faults.join("\n")));
    }
    if args.dry_run.is_some() {
        for (document, verdict) in documents.iter().zip(verdicts) {
            tell(&document.object, verdict, " (server dry run)")?;
        }
        return Ok(0);
    }
    for document in &documents {
        let verdict = apply_one(&client, document, false).await?;
        tell(&document.object, verdict, "")?;
    }
    Ok(0)
}

fn tell(object: &AnyObject, verdict: &str, how: &str) -> Result<(), Error> {
    out::line(format!("{} {verdict}{how}", full_name(object.kind(), &object.metadata().name)))
}

/// Applies one document, and says in a word what that did.
async fn apply_one(client: &Client, document: &Document, dry: bool) -> Result<&'static str, Error> {
    let kind = document.object.kind();
    let name = &document.object.metadata().name;
    let query: &[(&str, &str)] = if dry { &[("dryRun", "All")] } else { &[] };
    let wanted = wanted(&document.object);
    let live = watch::object(client, kind, name).await?;
    let Some(live) = live else {
        let body = created(kind, wanted);
        client.write(Method::POST, &collection(kind), query, &body).await?;
        return Ok("created");
    };
    let patch = patch(&live, &wanted);
    let after = client.write(Method::PATCH, &member(kind, name), query, &patch).await?;
    let same = |part: &str| live[part] == after[part];
    let same_meta = |part: &str| live["metadata"][part] == after["metadata"][part];
    let unchanged = same("spec") && same_meta("labels") && same_meta("annotations");
    Ok(if unchanged { "unchanged" } else { "configured" })
}

/// What the file says: name, labels, annotations and spec. The rest is not the file's to say.
fn wanted(object: &AnyObject) -> Value {
    let mut json = object.to_json();
    let mut metadata = Map::new();
    for part in ["name", "labels", "annotations"] {
        if let Some(value) = json["metadata"].get_mut(part) {
            metadata.insert(part.to_owned(), value.take());
        }
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    json!({"metadata": metadata, "spec": json["spec"].take()})
}

/// The object to create.
fn created(kind: Kind, wanted: Value) -> Value {
    let remembered = wanted.to_string();
    let mut body = wanted;
    body["apiVersion"] = crate::resource::API_VERSION.into();
    body["kind"] = kind.name().into();
    body["metadata"]["annotations"][LAST_APPLIED] = remembered.into();
    body
}

/// The patch that makes a live object as the file says.
fn patch(live: &Value, wanted: &Value) -> Value {
    let last = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
    let last: Value = serde_json::from_str(last).unwrap_or_default();
    let mut patch = three_way(&last, wanted);
    if !patch.is_object() {
        patch = json!({});
    }
    patch["metadata"]["annotations"][LAST_APPLIED] = wanted.to_string().into();
    patch
}

/// The merge patch that sets what is wanted, and takes away what was wanted last time and is
/// not any more.
fn three_way(last: &Value, wanted: &Value) -> Value {
    let Value::Object(wanted) = wanted else { return wanted.clone() };
    let mut patch = Map::new();
    for (key, value) in wanted {
        patch.insert(key.clone(), three_way(&last[key.as_str()], value));
    }
    for key in last.as_object().into_iter().flat_map(Map::keys) {
        if !wanted.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::merge::merge_patch;

    /// Small documents over few keys, so that they overlap.
    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..3_u8).prop_map(Value::from),
            "[ab]{1,2}".prop_map(Value::from),
        ];
        let node = leaf.prop_recursive(3, 16, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        prop::collection::btree_map("[a-c]", node, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn an_object_that_only_the_file_writes_becomes_what_the_file_says(
            last in document(), wanted in document()
        ) {
            let mut live = last.clone();
            merge_patch(&mut live, &three_way(&last, &wanted));
            prop_assert_eq!(live, wanted);
        }

        #[test]
        fn applying_again_changes_nothing(live in document(), wanted in document()) {
            let mut once = live;
            merge_patch(&mut once, &three_way(&Value::Null, &wanted));
            let mut twice = once.clone();
            merge_patch(&mut twice, &three_way(&wanted, &wanted));
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn what_somebody_else_set_stays() {
        let last = json!({"spec": {"task": "a", "timeout": "1m"}});
        let wanted = json!({"spec": {"task": "a"}});
        let mut live = json!({"spec": {"task": "a", "timeout": "1m", "cancel": true}});
        merge_patch(&mut live, &three_way(&last, &wanted));
        assert_eq!(live, json!({"spec": {"task": "a", "cancel": true}}));
    }
}
