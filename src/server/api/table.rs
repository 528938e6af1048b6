//! Tables: the columns that people see, made here, so that every client shows the same.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{params::Params, view};
use crate::{
    resource::{AnyObject, Kind, table},
    server::status::Problem,
    store::{self, Store},
};

/// How many sprites are read at once.
const PAGE: usize = 500;

/// What stands in a row beside its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Include {
    /// Nothing.
    Nothing,
    /// The object's metadata.
    Metadata,
    /// The object.
    Object,
}

impl Include {
    pub(super) fn of(params: &Params) -> Result<Self, Problem> {
        match params.text("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::Nothing),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(Problem::bad_request(format!(
                "includeObject is `{other}`, and can be None, Metadata or Object"
            ))),
        }
    }
}

/// The columns of a kind.
pub(super) fn columns(kind: Kind) -> Vec<Value> {
    table::columns(kind)
        .iter()
        .map(|column| {
            let format = if column.name == "NAME" { "name" } else { "" };
            json!({
                "name": column.name,
                "type": column.kind,
                "format": format,
                "description": "",
                "priority": i32::from(column.wide),
            })
        })
        .collect()
}

/// The rows of objects.
pub(super) fn rows<'a>(
    objects: impl IntoIterator<Item = &'a AnyObject>,
    now: Timestamp,
    context: &table::Context,
    include: Include,
) -> Vec<Value> {
    objects
        .into_iter()
        .map(|object| {
            let beside = match include {
                Include::Nothing => Value::Null,
                Include::Metadata => view::partial(object, "v1"),
                Include::Object => object.to_json(),
            };
            json!({"cells": table::row(object, now, context), "object": beside})
        })
        .collect()
}

/// A Kubernetes `Table`.
pub(super) fn table(
    version: &str,
    columns: Vec<Value>,
    rows: Vec<Value>,
    metadata: Value,
) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// What rows need to know beside their objects: who waits for a slot, and at which place.
pub(super) async fn context(store: &dyn Store) -> Result<table::Context, store::Error> {
    let mut sprites = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(Kind::Sprite, after.as_deref(), PAGE).await?;
        after = page.items.last().map(|object| object.metadata().name.clone());
        // Those that wait are few among many.
        sprites.extend(
            page.items
                .into_iter()
                .filter_map(AnyObject::into_sprite)
                .filter(|sprite| sprite.status.exit.is_none()),
        );
        if !page.more {
            break;
        }
    }
    let places = table::waiting_line(sprites);
    let waiting = places.into_iter().map(|(sprite, place)| (sprite.metadata.name, place)).collect();
    Ok(table::Context { waiting })
}
