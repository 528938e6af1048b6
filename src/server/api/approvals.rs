//! What agents ask for, and the answer.
//!
//! An answer resolves a row of the ledger and does no more: the first one counts, and the
//! Sprite's controller takes it to the agent.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{params::kind, read};
use crate::{
    resource::Kind,
    server::{State, body, status::Problem},
    store::{Approval, ApprovalState, Op, Transaction},
};

/// The largest answer.
const MAX_BODY: usize = 64 * 1024;
/// Who answers here, unless the answer says so.
const API: &str = "api";

/// An answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    allow: bool,
    #[serde(default)]
    message: String,
    #[serde(default)]
    answers: BTreeMap<String, String>,
}

/// All that an object's sprites have asked for, the oldest first.
async fn approvals(state: &State, kind: Kind, name: &str) -> Result<Vec<Approval>, Problem> {
    let store = &state.0.store;
    let uid = read::object(state, kind, name).await?.metadata().uid.clone();
    let mut sprites = vec![uid.clone()];
    if kind != Kind::Sprite {
        let owned = store.list_owned(Kind::Sprite, &uid).await?;
        sprites = owned.iter().map(|sprite| sprite.metadata().uid.clone()).collect();
    }
    let mut approvals = Vec::new();
    for sprite in sprites {
        approvals.extend(store.approvals(&sprite).await?);
    }
    approvals.sort_by_key(|approval| approval.created);
    Ok(approvals)
}

/// `GET /{plural}/{name}/approvals`: what its agent has asked for, the oldest first.
pub(super) async fn list(
    Shared(state): Shared<State>,
    Path((plural, name)): Path<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    let kind = kind(&plural, &uri).await?;
    let items = approvals(&state, kind, &name).await?;
    Ok(Json(json!({"items": items})).into_response())
}

/// `POST /{plural}/{name}/approvals/{request}`: `{"allow": true}` or `{"allow": false,
/// "message": "why"}`. A request that was answered before is a conflict that says by whom.
pub(super) async fn answer(
    Shared(state): Shared<State>,
    Path((plural, name, request)): Path<(String, String, String)>,
    sent: Request,
) -> Result<Response, Problem> {
    let kind = kind(&plural, sent.uri()).await?;
    let shared = &state.0;
    let bytes = body::read(sent.into_body(), MAX_BODY, &*shared.ambient.clock).await?;
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
        let example = r#"{"allow": true} or {"allow": false, "message": "why"}"#;
        Problem::bad_request(format!("the answer is {example}: {error}"))
    })?;
    let found = find(&state, kind, &name, &request).await?;
    if found.state != ApprovalState::Pending {
        return Err(answered(&found));
    }
    let op = Op::ResolveApproval {
        sprite_uid: found.sprite_uid.clone(),
        run: found.run,
        request: request.clone(),
        state: if answer.allow { ApprovalState::Allowed } else { ApprovalState::Denied },
        by: API.to_owned(),
        message: answer.message,
        answers: answer.answers,
    };
    let apply = shared.store.apply(Transaction::at(shared.ambient.clock.now()).with(op));
    match shared.ambient.step("api.answer", apply).await {
        Ok(_) => Ok(Json(find(&state, kind, &name, &request).await?).into_response()),
        Err(crate::store::Error::Stale { .. }) => {
            Err(answered(&find(&state, kind, &name, &request).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The request of that id that waits, else the newest.
async fn find(state: &State, kind: Kind, name: &str, id: &str) -> Result<Approval, Problem> {
    let mut named = approvals(state, kind, name).await?;
    named.retain(|approval| approval.request == id);
    let waits = named.iter().position(|approval| approval.state == ApprovalState::Pending);
    let found = match waits {
        Some(place) => Some(named.swap_remove(place)),
        None => named.pop(),
    };
    found.ok_or_else(|| {
        let message = format!("{} \"{name}\" has made no request \"{id}\"", kind.plural());
        Problem::new(StatusCode::NOT_FOUND, "NotFound", message)
    })
}

fn answered(approval: &Approval) -> Problem {
    let (state, by) = (approval.state, &approval.by);
    let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
    let message = format!("the request {} is {state:?} already{by}", approval.request);
    Problem::new(StatusCode::CONFLICT, "Conflict", message)
}
