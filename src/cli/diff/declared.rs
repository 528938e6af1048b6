//! What a Source would make of an object if its file said what a document says.
//!
//! Nobody applies such a document past the Source, so that there is nothing to ask of `apply`. The
//! document is what the next commit says, and the question is what that will change: so it gets what
//! the server fills in for every editor (a dry run of making it under another name), the repository
//! that the file lies in, the Overrides that are laid over it, and the power fields as they stand
//! where the file says of them what it said before.

use reqwest::Method;
use serde_json::Value;

use super::drift::{note, place};
use crate::{
    cli::{
        apply::{Outcome, wanted},
        args::DryRun,
        client::{AS_JSON, Client, collection, member},
        error::Error,
        files::Document,
        watch,
    },
    resource::{
        API_VERSION, FILLED, GROUP, Kind,
        overlay::{is_note, overlay, powered, with_power_of},
        whole_worker, worker,
    },
};

/// Under which name the server is asked what it fills in; it draws the rest.
const ASKED_AS: &str = "diff-";

/// What the Source that declares an object would make of it, and who that is; nothing where no Source
/// does.
///
/// # Errors
/// The server's refusal of what the document says, or why it cannot be asked.
pub(super) async fn outcome(
    client: &Client,
    document: &Document,
) -> Result<Option<(Outcome, String)>, Error> {
    let kind = document.object.kind();
    let name = &document.object.metadata().name;
    let row = match client.get(&place(kind, name), &[], AS_JSON).await {
        Ok(row) => row,
        Err(Error::Api { code: 404 | 409, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let live = watch::object(client, kind, name).await?;
    let mut wanted = wanted(&document.json);
    if let Some(keys) = worker(kind)
        && declares_repos(client, &row).await?
    {
        lies_in(&mut wanted, &row, keys);
    }
    wanted["apiVersion"] = API_VERSION.into();
    wanted["kind"] = kind.name().into();
    wanted["metadata"]["generateName"] = ASKED_AS.into();
    if let Value::Object(metadata) = &mut wanted["metadata"] {
        metadata.remove("name");
    }
    let dry = DryRun::Server.query();
    let mut made = client.write(Method::POST, &collection(kind), dry, &wanted).await?;
    if let Value::Object(metadata) = &mut made["metadata"] {
        metadata.remove("generateName");
        metadata.insert("name".to_owned(), name.as_str().into());
    }
    stays_filled(kind, &wanted, &row, &mut made);
    let outcome = match live {
        Some(live) => Outcome { after: laid(kind, &live, &row, &made), before: Some(live) },
        // What has run or held, and is gone, does not come again while its file says the same.
        None if matches!(kind, Kind::Job | Kind::Override)
            && row["base"]["spec"] == made["spec"] =>
        {
            Outcome { before: Some(made.clone()), after: made }
        }
        None => Outcome { before: None, after: made },
    };
    Ok(Some((outcome, note(kind, name, &row))))
}

/// What a document leaves to the server stays as it was filled in when the Source read it first.
fn stays_filled(kind: Kind, wanted: &Value, row: &Value, made: &mut Value) {
    let Some(keys) = whole_worker(kind) else { return };
    let at =
        |value: &'_ Value| keys.iter().try_fold(value.clone(), |it, key| it.get(*key).cloned());
    let (Some(said), Some(was)) = (at(wanted), at(&row["base"])) else { return };
    let place = keys.iter().try_fold(made, |value, key| value.get_mut(*key));
    let Some(Value::Object(spec)) = place else { return };
    for field in FILLED {
        if said[field].is_null() && !was[field].is_null() {
            spec.insert(field.to_owned(), was[field].clone());
        }
    }
}

/// Whether the Source reads repositories that declare their own agents.
async fn declares_repos(client: &Client, row: &Value) -> Result<bool, Error> {
    let source = row["source"].as_str().unwrap_or_default();
    match client.get(&member(Kind::Source, source), &[], AS_JSON).await {
        Ok(source) => {
            let repos = source.pointer("/spec/from/git/repos").and_then(Value::as_array);
            Ok(repos.is_some_and(|repos| !repos.is_empty()))
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A document that names no repository means the one that it lies in.
fn lies_in(wanted: &mut Value, row: &Value, keys: &[&str]) {
    let repo = keys.iter().try_fold(&row["base"], |value, key| value.get(*key));
    let place = keys.iter().try_fold(wanted, |value, key| value.get_mut(*key));
    if let (Some(repo), Some(Value::Object(spec))) = (repo.map(|spec| &spec["repo"]), place)
        && !repo.is_null()
        && spec.get("repo").is_none_or(Value::is_null)
    {
        spec.insert("repo".to_owned(), repo.clone());
    }
}

/// The object as it would be: the document as the server would take it, with the Overrides that live
/// on it.
pub(super) fn laid(kind: Kind, live: &Value, row: &Value, made: &Value) -> Value {
    let overrides = row["overrides"].as_array().into_iter().flatten().map(|over| &over["patch"]);
    let spec = overlay(kind, &made["spec"], overrides);
    let power = powered(kind, &live["spec"], &row["base"]["spec"], &made["spec"]);
    let noted = |key: &str| {
        is_note(key) || key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'))
    };
    let mut annotations = live["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.retain(|key, _| noted(key));
    let said = made["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.extend(said);
    let mut after = live.clone();
    after["spec"] = with_power_of(kind, spec, &power);
    if let Value::Object(metadata) = &mut after["metadata"] {
        let labels = made["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        for (part, texts) in [("labels", labels), ("annotations", annotations)] {
            match texts.is_empty() {
                true => metadata.remove(part),
                false => metadata.insert(part.to_owned(), texts.into()),
            };
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(spec: Value) -> Value {
        json!({"metadata": {"name": "bot"}, "spec": spec})
    }

    fn after(live: Value, row: Value, made: Value) -> Value {
        laid(Kind::Agent, &agent(live), &row, &agent(made))["spec"].take()
    }

    #[test]
    fn what_the_file_drops_goes_and_what_is_laid_over_it_stays() {
        let base = json!({"instructions": "a", "idleTimeout": "1m"});
        let row = json!({"base": {"spec": base}, "overrides": [{"patch": {"idleTimeout": "9m"}}]});
        let live = json!({"instructions": "a", "idleTimeout": "9m"});
        assert_eq!(after(live.clone(), row.clone(), base), live);
        assert_eq!(after(live, row, json!({})), json!({"idleTimeout": "9m"}));
    }

    #[test]
    fn who_was_stopped_stays_stopped_until_the_file_says_otherwise() {
        let row = |base: Value| json!({"base": {"spec": base}, "overrides": []});
        let (on, off) = (json!({}), json!({"suspend": true}));
        assert_eq!(after(off.clone(), row(on.clone()), on.clone()), off);
        assert_eq!(after(off.clone(), row(off.clone()), on.clone()), on);
        assert_eq!(after(on.clone(), row(off.clone()), off.clone()), on);
        assert_eq!(after(on.clone(), row(on.clone()), off.clone()), off);
    }

    #[test]
    fn notes_of_the_server_are_no_difference_and_those_of_others_are() {
        let live = json!({"metadata": {
            "name": "bot",
            "labels": {"by": "hand"},
            "annotations": {"opendispatch.dev/restarted-up-to": "3", "by": "hand"},
        }, "spec": {}});
        let row = json!({"base": {"spec": {}}, "overrides": []});
        let after = laid(Kind::Agent, &live, &row, &agent(json!({})));
        let annotations = json!({"opendispatch.dev/restarted-up-to": "3"});
        assert_eq!(after["metadata"], json!({"name": "bot", "annotations": annotations}));
    }

    #[test]
    fn a_document_without_a_repository_means_the_one_that_it_lies_in() {
        let row = json!({"base": {"spec": {"jobTemplate": {"spec": {"repo": {"url": "u"}}}}}});
        let keys = worker(Kind::Schedule).unwrap();
        let pointer = "/spec/jobTemplate/spec";
        let mut wanted = json!({"spec": {"jobTemplate": {"spec": {"task": "t"}}}});
        lies_in(&mut wanted, &row, keys);
        assert_eq!(wanted.pointer(pointer).unwrap()["repo"], json!({"url": "u"}));
        let mut own = json!({"spec": {"jobTemplate": {"spec": {"repo": {"url": "own"}}}}});
        lies_in(&mut own, &row, keys);
        assert_eq!(own.pointer(pointer).unwrap()["repo"], json!({"url": "own"}));
    }
}
