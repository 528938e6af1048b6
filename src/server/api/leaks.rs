//! What Fly holds for nobody, as the sweeper remembers it, and an operator's word that it may go.

use axum::{
    Json,
    extract::State as Shared,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::audit::Caller;
use crate::{
    resource::leaks::{CONFIRMED, EVENTS, Leaks, PLACE},
    server::{State, status::Problem},
    store::{Op, Place, Transaction},
};

/// `GET /fly/leaks`: since when what is unwanted, what keeps it, and what was told last.
pub(super) async fn get(Shared(state): Shared<State>) -> Result<Response, Problem> {
    let store = &state.0.store;
    let facts = store.place(PLACE.0, PLACE.1).await?.map(|place| place.facts);
    let leaks: Leaks = facts.and_then(|it| serde_json::from_value(it).ok()).unwrap_or_default();
    let events = store.events(EVENTS).await?;
    let confirmed = store.place(CONFIRMED.0, CONFIRMED.1).await?;
    let confirmed = confirmed.map(|place| place.facts["at"].clone());
    let body = json!({
        "unwanted": leaks.tombstones,
        "held": leaks.restored.map(|it| it.to_string()),
        "told": leaks.told,
        "confirmed": confirmed,
        "events": events,
    });
    Ok(Json(body).into_response())
}

/// `POST /fly/leaks/confirm`: an operator has looked, and agrees that what the store does not know
/// may go. It counts for what was seen until now.
pub(super) async fn confirm(
    Shared(state): Shared<State>,
    caller: Caller,
) -> Result<Response, Problem> {
    let now = state.0.ambient.clock.now();
    let facts = json!({"at": now});
    let (platform, channel) = (CONFIRMED.0.to_owned(), CONFIRMED.1.to_owned());
    let what = "let go of what Fly holds and the store does not know".to_owned();
    let transaction = Transaction::at(now)
        .with(Op::Place(Place { platform, channel, facts: facts.clone() }))
        .with(caller.did(&state, what));
    state.0.store.apply(transaction).await?;
    Ok(Json(facts).into_response())
}
