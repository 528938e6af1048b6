//! Tables: the columns that people see, made here, so that every client shows the same.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    resource::{AnyObject, ConditionStatus, Kind, Sprite, table},
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
    let mut waiting: BTreeMap<&'static str, Vec<Sprite>> = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(Kind::Sprite, after.as_deref(), PAGE).await?;
        after = page.items.last().map(|object| object.metadata().name.clone());
        for sprite in page.items.into_iter().filter_map(AnyObject::into_sprite) {
            if is_waiting(&sprite) {
                waiting.entry(sprite.spec.runtime.name()).or_default().push(sprite);
            }
        }
        if !page.more {
            break;
        }
    }
    let mut context = table::Context::default();
    for mut queue in waiting.into_values() {
        queue.sort_by(|one, other| {
            let key = |sprite: &Sprite| sprite.metadata.creation_timestamp;
            key(one).cmp(&key(other)).then_with(|| one.metadata.name.cmp(&other.metadata.name))
        });
        let places = (1..).zip(queue).map(|(place, sprite)| (sprite.metadata.name, place));
        context.waiting.extend(places);
    }
    Ok(context)
}

fn is_waiting(sprite: &Sprite) -> bool {
    let admitted = sprite.status.conditions.get("Admitted");
    admitted.is_some_and(|condition| condition.status == ConditionStatus::False)
        && sprite.status.exit.is_none()
        && !sprite.metadata.is_deleting()
}
