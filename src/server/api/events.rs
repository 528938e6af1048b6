//! What happened, as Kubernetes tells it: `v1` and `events.k8s.io/v1` Events, which `kubectl
//! describe` and `kubectl events` read.
//!
//! Our kinds have no namespace, and the events of such objects are told in `default`, as
//! Kubernetes does. Events are a ledger here and no objects: they are listed, and neither watched
//! nor written. Those of an object that is gone are told for as long as they are kept. A list is one
//! query, and its pages go by the number that the ledger gave each event, so that none is told twice
//! or left out, whatever happens between two pages.

use axum::{
    Json,
    extract::{Path, State as Shared},
    http::{HeaderMap, Uri},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    accept::{Accept, Form},
    params::Params,
    table,
};
use crate::{
    resource::{API_VERSION, field_selector::FieldSelector, table::age},
    server::{
        State,
        status::{Problem, unknown_method},
    },
    store::Happened,
};

/// The one namespace that there is.
const NAMESPACE: &str = "default";
/// Who tells of what happened.
const COMPONENT: &str = "open-dispatch";
/// How many events are read at once.
const PAGE: usize = 500;

/// Which of its two forms an Event has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Core,
    Events,
}

impl Group {
    fn of(uri: &Uri) -> Self {
        if uri.path().starts_with("/apis/") { Self::Events } else { Self::Core }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::Core => "v1",
            Self::Events => "events.k8s.io/v1",
        }
    }

    /// What the object is called that an event is about.
    fn about(self) -> &'static str {
        match self {
            Self::Core => "involvedObject",
            Self::Events => "regarding",
        }
    }
}

/// `GET /api/v1/events`, and the same of `events.k8s.io/v1`.
pub(super) async fn everywhere(
    state: Shared<State>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    list(state, &uri, &headers, true).await
}

/// `GET /api/v1/namespaces/{namespace}/events`, and the same of `events.k8s.io/v1`.
pub(super) async fn of_namespace(
    state: Shared<State>,
    Path(namespace): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    list(state, &uri, &headers, namespace == NAMESPACE).await
}

async fn list(
    Shared(state): Shared<State>,
    uri: &Uri,
    headers: &HeaderMap,
    any: bool,
) -> Result<Response, Problem> {
    let params = Params::of(uri);
    if params.flag("watch") {
        return Err(unknown_method(axum::http::Method::GET, uri.clone()).await);
    }
    let form = Accept::of(headers).form()?;
    let group = Group::of(uri);
    let choice = FieldSelector::parse(params.text("fieldSelector").unwrap_or_default())
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    let limit = params.number("limit")?.filter(|limit| *limit > 0);
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let from =
        params.text("continue").filter(|token| !token.is_empty()).map(going_on).transpose()?;
    let revision = state.0.store.revision().await?;
    let shown =
        |told: &Happened| Some(event(group, told, revision)).filter(|event| choice.matches(event));
    let (mut events, next) = match any {
        true => page(&state, from.unwrap_or_default(), limit, shown).await?,
        false => (Vec::new(), None),
    };
    if from.is_none() && next.is_none() {
        // One that is whole reads as what happened last.
        events.sort_by_key(|(_, told)| (told.row.last, told.row.first));
    }
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let Some(after) = next {
        metadata["continue"] = URL_SAFE_NO_PAD.encode(after.to_string()).into();
    }
    Ok(match form {
        Form::Table(version) => {
            let now = state.0.ambient.clock.now();
            let rows = events.iter().map(|(event, told)| {
                let (row, about) = (&told.row, format!("{}/{}", told.kind.singular(), told.name));
                json!({
                    "cells": [age(row.last, now), row.kind, row.reason, about, row.note],
                    "object": partial(event, version),
                })
            });
            Json(table::table(version, columns(), rows.collect(), metadata)).into_response()
        }
        Form::Partial(version) => {
            let items: Vec<Value> =
                events.iter().map(|(event, _)| partial(event, version)).collect();
            Json(json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
                "items": items,
            }))
            .into_response()
        }
        Form::Object => {
            let items: Vec<Value> = events.into_iter().map(|(event, _)| event).collect();
            Json(json!({
                "kind": "EventList",
                "apiVersion": group.api_version(),
                "metadata": metadata,
                "items": items,
            }))
            .into_response()
        }
    })
}

/// Where the next page begins.
fn going_on(token: &str) -> Result<u64, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let number = bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
    number.ok_or_else(|| Problem::bad_request("continue is none that this server gave; list anew"))
}

/// The events behind a number that are to be shown, up to a limit; and where the next page begins, if
/// there may be one.
async fn page(
    state: &State,
    mut after: u64,
    limit: usize,
    shown: impl Fn(&Happened) -> Option<Value>,
) -> Result<(Vec<(Value, Happened)>, Option<u64>), Problem> {
    let mut events = Vec::new();
    loop {
        let read = state.0.store.all_events(after, PAGE).await?;
        let is_last = read.len() < PAGE;
        for told in read {
            if events.len() == limit {
                return Ok((events, Some(after)));
            }
            after = told.n;
            events.extend(shown(&told).map(|event| (event, told)));
        }
        if is_last {
            return Ok((events, None));
        }
    }
}

fn event(group: Group, told: &Happened, revision: u64) -> Value {
    let (kind, name, uid, row) = (told.kind, &told.name, &told.uid, &told.row);
    let mut hash = Sha256::new();
    for part in [uid, &row.reason, &row.note] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut event = json!({
        "kind": "Event",
        "apiVersion": group.api_version(),
        "metadata": {
            "name": format!("{name}.{hash}"),
            "namespace": NAMESPACE,
            "uid": format!("{uid}-{hash}"),
            "resourceVersion": revision.to_string(),
            "creationTimestamp": row.first,
        },
        "reason": row.reason,
        "type": row.kind,
        "eventTime": null,
        group.about(): {
            "kind": kind.name(),
            "name": name,
            "uid": uid,
            "apiVersion": API_VERSION,
        },
    });
    let source = json!({"component": COMPONENT});
    let members = match group {
        Group::Core => [
            ("message", json!(row.note)),
            ("source", source),
            ("firstTimestamp", json!(row.first)),
            ("lastTimestamp", json!(row.last)),
            ("count", json!(row.count)),
            ("reportingComponent", json!(COMPONENT)),
            ("reportingInstance", json!("")),
        ],
        Group::Events => [
            ("note", json!(row.note)),
            ("deprecatedSource", source),
            ("deprecatedFirstTimestamp", json!(row.first)),
            ("deprecatedLastTimestamp", json!(row.last)),
            ("deprecatedCount", json!(row.count)),
            ("reportingController", json!(COMPONENT)),
            ("reportingInstance", json!("")),
        ],
    };
    for (name, value) in members {
        event[name] = value;
    }
    event
}

/// An Event of a row, for those who tell what stands in it.
#[cfg(test)]
pub(super) fn example(row: crate::store::EventRow) -> Value {
    let (kind, name, uid) = (crate::resource::Kind::Agent, "a".to_owned(), "u".to_owned());
    event(Group::Core, &Happened { n: 1, kind, name, uid, row }, 1)
}

fn partial(event: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": event["metadata"],
    })
}

fn columns() -> Vec<Value> {
    ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
        .map(|name| {
            json!({"name": name, "type": "string", "format": "", "description": "", "priority": 0})
        })
        .to_vec()
}

/// `GET /api/v1/namespaces`: the one that there is, for clients that begin by choosing one.
pub(super) async fn namespaces(
    Shared(state): Shared<State>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let revision = state.0.store.revision().await?.to_string();
    let metadata = json!({"resourceVersion": revision});
    Ok(Json(match Accept::of(&headers).form()? {
        Form::Table(version) => {
            let columns = ["NAME", "STATUS"].map(|name| {
                let format = if name == "NAME" { "name" } else { "" };
                json!({"name": name, "type": "string", "format": format, "description": "", "priority": 0})
            });
            let row = json!({
                "cells": [NAMESPACE, "Active"],
                "object": partial(&default_namespace(), version),
            });
            table::table(version, columns.to_vec(), vec![row], metadata)
        }
        _ => json!({
            "kind": "NamespaceList",
            "apiVersion": "v1",
            "metadata": metadata,
            "items": [default_namespace()],
        }),
    })
    .into_response())
}

/// `GET /api/v1/namespaces/{namespace}`
pub(super) async fn namespace(Path(namespace): Path<String>) -> Result<Json<Value>, Problem> {
    if namespace == NAMESPACE {
        return Ok(Json(default_namespace()));
    }
    let message = format!("namespaces \"{namespace}\" not found");
    Err(Problem::new(axum::http::StatusCode::NOT_FOUND, "NotFound", message))
}

fn default_namespace() -> Value {
    json!({
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {"name": NAMESPACE},
        "spec": {},
        "status": {"phase": "Active"},
    })
}
