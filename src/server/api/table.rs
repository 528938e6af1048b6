//! Tables: the columns that people see, made here, so that every client shows the same.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    resource::{AnyObject, Kind, table},
    store::{self, Store},
};

/// How many sprites are read at once.
const PAGE: usize = 500;

/// A Kubernetes `Table` of objects.
pub(super) fn table<'a>(
    kind: Kind,
    objects: impl IntoIterator<Item = &'a AnyObject>,
    metadata: Value,
    now: Timestamp,
    context: &table::Context,
) -> Value {
    let columns: Vec<Value> = table::columns(kind)
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
        .collect();
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let partial = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object.metadata(),
            });
            json!({"cells": table::row(object, now, context), "object": partial})
        })
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
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
