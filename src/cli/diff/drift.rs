//! What stands of an object against what its file says, as the server knows both: drift.
//!
//! No file is read here. The Source has read it, and the server keeps what it says; so this works from
//! any machine, and says the same as `/od-diff` in a chat. What turns an object off and on is no
//! drift, and neither is what the server notes at an object.

use serde_json::{Value, json};

use super::declared::laid;
use crate::{
    cli::{
        client::{AS_JSON, Client, api, collection},
        error::Error,
        out, target, watch,
    },
    resource::{Kind, overlay::is_ownable},
};

/// An object that a Source declares: as it stands, and as its file says.
pub(super) struct Drift {
    /// Its kind.
    pub(super) kind: Kind,
    /// Its name.
    pub(super) name: String,
    /// As it stands.
    pub(super) live: Value,
    /// As its file says.
    pub(super) file: Value,
    /// Who declares it, and what is laid over it.
    pub(super) note: String,
}

/// The objects that are named; without names, all that are overridden.
///
/// # Errors
/// An object that no Source declares, or the server's refusal.
pub(super) async fn drift(client: &Client, words: &[String]) -> Result<Vec<Drift>, Error> {
    let mut found = Vec::new();
    if words.is_empty() {
        for kind in Kind::ALL.into_iter().filter(|kind| is_ownable(*kind)) {
            let mut list = client.get(&collection(kind), &[], AS_JSON).await?;
            let Value::Array(items) = list["items"].take() else { continue };
            for mut live in items.into_iter().filter(is_drifted) {
                // An item of a list says its kind once, for all.
                live["kind"] = kind.name().into();
                live["apiVersion"] = crate::resource::API_VERSION.into();
                let name = live["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                // One that was let go or deleted meanwhile has no file any more.
                found.extend(of_one(client, kind, name, live).await?);
            }
        }
        return Ok(found);
    }
    for word in words {
        let (kind, name) = target::object(word)?;
        let Some(live) = watch::object(client, kind, &name).await? else {
            return Err(Error::Api {
                code: 404,
                reason: "NotFound".to_owned(),
                message: format!("{} \"{name}\" not found", kind.plural()),
            });
        };
        let Some(drift) = of_one(client, kind, name.clone(), live).await? else {
            return Err(Error::Usage(format!(
                "no source declares {}/{name}, so there is no file to compare it with",
                kind.singular()
            )));
        };
        found.push(drift);
    }
    Ok(found)
}

/// An object that is overridden, as its file says it, with a line that says what is laid over it; none
/// where nothing is.
///
/// # Errors
/// The server's refusal.
pub(in crate::cli) async fn without_overrides(
    client: &Client,
    kind: Kind,
    live: &Value,
) -> Result<Option<(Value, String)>, Error> {
    if !is_drifted(live) {
        return Ok(None);
    }
    let name = live["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let drift = of_one(client, kind, name, live.clone()).await?;
    Ok(drift.map(|drift| (drift.file, drift.note)))
}

/// Whether an object says that it is overridden.
fn is_drifted(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Drifted" && condition["status"] == "True")
}

async fn of_one(
    client: &Client,
    kind: Kind,
    name: String,
    live: Value,
) -> Result<Option<Drift>, Error> {
    if !is_ownable(kind) {
        return Ok(None);
    }
    let row = match client.get(&place(kind, &name), &[], AS_JSON).await {
        Ok(row) => row,
        Err(Error::Api { code: 404 | 409, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let note = note(kind, &name, &row);
    let file = as_file_says(kind, &live, &row);
    Ok(Some(Drift { kind, name, live, file, note }))
}

/// Where the server says what declares an object.
pub(super) fn place(kind: Kind, name: &str) -> String {
    api(&format!("{}/{name}/source", kind.plural()))
}

/// The object as it would be without Overrides.
fn as_file_says(kind: Kind, live: &Value, row: &Value) -> Value {
    let base = &row["base"];
    let said = json!({
        "metadata": {"labels": base["labels"], "annotations": base["annotations"]},
        "spec": base["spec"],
    });
    laid(kind, live, &json!({"base": base, "overrides": []}), &said)
}

/// Who declares an object, and what is laid over it for how long.
pub(super) fn note(kind: Kind, name: &str, row: &Value) -> String {
    let text = |value: &Value| out::harmless(value.as_str().unwrap_or_default());
    let overrides = row["overrides"].as_array().into_iter().flatten().map(|over| {
        format!(
            "; override {} is laid over it until {}",
            text(&over["name"]),
            text(&over["expires"])
        )
    });
    let overrides: String = overrides.collect();
    let (source, file, line) = (text(&row["source"]), text(&row["file"]), &row["line"]);
    format!("{}/{name} is declared by source {source} ({file}:{line}){overrides}", kind.singular())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_what_is_laid_over_the_file_and_neither_power_nor_notes() {
        let live = json!({
            "metadata": {
                "name": "bot", "labels": {"team": "a"},
                "annotations": {"opendispatch.dev/restarted-up-to": "3"},
            },
            "spec": {"idleTimeout": "9m", "suspend": true},
        });
        let row = json!({
            "source": "specs", "file": "team.yaml", "line": 2,
            "base": {"spec": {"idleTimeout": "1m"}, "labels": {"team": "a"}, "annotations": {}},
            "overrides": [{
                "name": "bot-1", "patch": {"idleTimeout": "9m"}, "expires": "2026-01-01T02:00:00Z",
            }],
        });
        let file = as_file_says(Kind::Agent, &live, &row);
        assert_eq!(file["spec"], json!({"idleTimeout": "1m", "suspend": true}));
        assert_eq!(file["metadata"], live["metadata"]);
        assert_eq!(
            note(Kind::Agent, "bot", &row),
            "agent/bot is declared by source specs (team.yaml:2); override bot-1 is laid over it \
             until 2026-01-01T02:00:00Z"
        );
    }
}
