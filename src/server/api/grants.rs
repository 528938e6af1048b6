//! What an agent was allowed once and for all: rows that an answer of "always" leaves, and that
//! can be taken back.

use axum::{
    Json,
    extract::{Path, State as Shared},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{
    audit::{Caller, called},
    read,
};
use crate::{
    resource::Kind,
    server::{State, status::Problem},
    store::{Op, Transaction},
};

/// `GET /agents/{name}/grants`: what the agent may do without being asked, the oldest first.
pub(super) async fn list(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let uid = read::object(&state, Kind::Agent, &name).await?.metadata().uid.clone();
    let items = state.0.store.grants(&uid).await?;
    Ok(Json(json!({"items": items})).into_response())
}

/// `DELETE /agents/{name}/grants/{id}`: takes one back; answers with what it was.
pub(super) async fn revoke(
    Shared(state): Shared<State>,
    Path((name, id)): Path<(String, String)>,
    caller: Caller,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let uid = read::object(&state, Kind::Agent, &name).await?.metadata().uid.clone();
    let grants = shared.store.grants(&uid).await?;
    let Some(grant) = grants.into_iter().find(|grant| grant.id == id) else {
        let message = format!("agent {name} has no grant \"{id}\"");
        return Err(Problem::new(StatusCode::NOT_FOUND, "NotFound", message));
    };
    let op = Op::RevokeGrant { agent_uid: uid, id };
    let what = format!("approve {} revoke {}", called(Kind::Agent, &name), grant.id);
    let note = caller.did(&state, what);
    let transaction = Transaction::at(shared.ambient.clock.now()).with(op).with(note);
    let apply = shared.store.apply(transaction);
    shared.ambient.step("api.revoke", apply).await?;
    Ok(Json(grant).into_response())
}
