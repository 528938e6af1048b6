//! What chat must still be told, and why it is not told yet.

use axum::{
    Json,
    extract::State as Shared,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::accept::{Accept, Form};
use crate::{
    resource::{AnyObject, Kind, table::age},
    server::{State, status::Problem},
    store::{Conversation, DeliveryState, Store, Subject},
};

/// The columns of the table; what can be long stands last, and so the rest within 80 columns.
const COLUMNS: [&str; 5] = ["CONVERSATION", "STATE", "AGE", "ABOUT", "NOTE"];
/// How much of a text says what a delivery is about, in characters.
const MOST: usize = 40;

/// `GET /deliveries`: what is not shown to its end, the oldest first; as a table or as it is kept.
pub(super) async fn list(
    Shared(state): Shared<State>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let open = shared.store.open_deliveries().await?;
    if !matches!(Accept::of(&headers).form(), Ok(Form::Table(_))) {
        let answer = json!({"kind": "DeliveryList", "items": open});
        return Ok(Json(answer).into_response());
    }
    let now = shared.ambient.clock.now();
    let mut rows: Vec<Value> = Vec::new();
    for delivery in open {
        let state = match delivery.state {
            DeliveryState::Open => "Open",
            DeliveryState::Parked => "Parked",
            DeliveryState::Done => "Done",
        };
        let about = about(&*shared.store, &delivery.subject).await?;
        let place = place(&delivery.conversation);
        let age = age(delivery.created, now);
        rows.push(json!({
            "cells": [place, state, age, about, delivery.note],
            "object": {"metadata": {"name": delivery.id, "creationTimestamp": delivery.created}},
        }));
    }
    let columns: Vec<Value> = COLUMNS
        .iter()
        .map(|name| {
            json!({
                "name": name, "type": "string", "format": "", "description": "", "priority": 0,
            })
        })
        .collect();
    let table = json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns,
        "rows": rows,
    });
    Ok(Json(table).into_response())
}

/// A text within the column.
fn cut(line: &str) -> String {
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

fn place(place: &Conversation) -> String {
    let thread = place.thread.as_ref().map(|thread| format!("/{thread}")).unwrap_or_default();
    format!("{}/{}{thread}", place.platform, place.channel)
}

async fn about(store: &dyn Store, subject: &Subject) -> Result<String, Problem> {
    Ok(match subject {
        Subject::Job { name, .. } => format!("job/{name}"),
        Subject::Offer { labels, .. } => cut(&format!("one of {}", labels.join(", "))),
        Subject::Choice { names, .. } => cut(&format!("for one of {}", names.join(", "))),
        Subject::File { name, .. } => format!("file {name}"),
        Subject::Notice { text } => cut(text.lines().next().unwrap_or_default()),
        Subject::Turn { id } => {
            let agent = match store.turn(id).await? {
                Some(turn) => store.get_by_uid(Kind::Agent, &turn.agent_uid).await?,
                None => None,
            };
            let agent = agent.and_then(AnyObject::into_agent);
            agent.map_or_else(
                || "a deleted agent".to_owned(),
                |agent| format!("agent/{}", agent.metadata.name),
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_delivery_is_about_leaves_room_for_the_rest_of_a_line() {
        let long = cut(&"é".repeat(3 * MOST));
        assert_eq!((long.chars().count(), long.ends_with('…')), (MOST + 1, true));
        assert_eq!(cut("job/a"), "job/a");
        assert_eq!(COLUMNS[3..], ["ABOUT", "NOTE"], "what may be long stands last");
    }
}
