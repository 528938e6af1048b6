//! What happened, as Kubernetes tells it: `v1` and `events.k8s.io/v1` Events, which `kubectl
//! describe` and `kubectl events` read.
//!
//! Our kinds have no namespace, and the events of such objects are told in `default`, as
//! Kubernetes does. Events are a ledger here and no objects: they are listed, and neither watched
//! nor written.

use axum::{
    Json,
    extract::{Path, State as Shared},
    http::{HeaderMap, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    accept::{Accept, Form},
    params::Params,
    table,
};
use crate::{
    resource::{API_VERSION, AnyObject, Kind, field_selector::FieldSelector, table::age},
    server::{
        State,
        status::{Problem, unknown_method},
    },
    store::EventRow,
};

/// The one namespace that there is.
const NAMESPACE: &str = "default";
/// Who tells of what happened.
const COMPONENT: &str = "open-dispatch";
/// How many objects are read at once.
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
    let revision = state.0.store.revision().await?;
    let mut told = Vec::new();
    if any {
        for object in about(&state, group, &choice).await? {
            let rows = state.0.store.events(&object.metadata().uid).await?;
            told.extend(rows.into_iter().map(|row| (object.clone(), row)));
        }
    }
    told.sort_by_key(|(_, row)| (row.last, row.first));
    let events: Vec<(Value, AnyObject, EventRow)> = told
        .into_iter()
        .map(|(object, row)| (event(group, &object, &row, revision), object, row))
        .filter(|(event, ..)| choice.matches(event))
        .collect();
    let metadata = json!({"resourceVersion": revision.to_string()});
    Ok(match form {
        Form::Table(version) => {
            let now = state.0.ambient.clock.now();
            let rows = events.iter().map(|(event, object, row)| {
                let about = format!("{}/{}", object.kind().singular(), object.metadata().name);
                json!({
                    "cells": [age(row.last, now), row.kind, row.reason, about, row.note],
                    "object": partial(event, version),
                })
            });
            Json(table::table(version, columns(), rows.collect(), metadata)).into_response()
        }
        Form::Partial(version) => {
            let items: Vec<Value> =
                events.iter().map(|(event, ..)| partial(event, version)).collect();
            Json(json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": metadata,
                "items": items,
            }))
            .into_response()
        }
        Form::Object => {
            let items: Vec<Value> = events.into_iter().map(|(event, ..)| event).collect();
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

/// The objects that events may be about: all, or the few that a selector names.
async fn about(
    state: &State,
    group: Group,
    choice: &FieldSelector,
) -> Result<Vec<AnyObject>, Problem> {
    let store = &state.0.store;
    let only = |member: &str| choice.only(&format!("{}.{member}", group.about()));
    let kinds =
        Kind::ALL.into_iter().filter(|kind| only("kind").is_none_or(|it| it == kind.name()));
    let mut found = Vec::new();
    for kind in kinds {
        if let Some(name) = only("name").filter(|name| !name.is_empty()) {
            found.extend(store.get(kind, name).await?);
            continue;
        }
        let mut after: Option<String> = None;
        loop {
            let page = store.list(kind, after.as_deref(), PAGE).await?;
            after = page.items.last().map(|object| object.metadata().name.clone());
            found.extend(page.items);
            if !page.more {
                break;
            }
        }
    }
    Ok(found)
}

fn event(group: Group, object: &AnyObject, row: &EventRow, revision: u64) -> Value {
    let metadata = object.metadata();
    let mut hash = Sha256::new();
    for part in [&metadata.uid, &row.reason, &row.note] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut event = json!({
        "kind": "Event",
        "apiVersion": group.api_version(),
        "metadata": {
            "name": format!("{}.{hash}", metadata.name),
            "namespace": NAMESPACE,
            "uid": format!("{}-{hash}", metadata.uid),
            "resourceVersion": revision.to_string(),
            "creationTimestamp": row.first,
        },
        "reason": row.reason,
        "type": row.kind,
        "eventTime": null,
        group.about(): {
            "kind": object.kind().name(),
            "name": metadata.name,
            "uid": metadata.uid,
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
