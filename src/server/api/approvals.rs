//! What agents ask for, and the answer.
//!
//! An answer resolves a row of the ledger and does no more: the first one counts, and the
//! Sprite's controller takes it to the agent. One that says "always" leaves a grant in the same
//! transaction, by which the controller answers all further requests of the same rule.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::json;
use sprite_reporter::wire::ApprovalKind;

use super::{
    audit::{Caller, called},
    params::kind,
    read,
};
use crate::{
    access::noted,
    resource::Kind,
    server::{State, body, status::Problem},
    store::{Approval, ApprovalState, Grant, Op, Transaction},
};

/// The largest answer.
const MAX_BODY: usize = 64 * 1024;

/// An answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    allow: bool,
    #[serde(default)]
    message: String,
    #[serde(default)]
    answers: BTreeMap<String, String>,
    #[serde(default)]
    always: bool,
    #[serde(default)]
    by: Option<String>,
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
/// "message": "why"}`; with `"always": true` for all further requests of its rule, and with
/// `"answers": {"QUESTION": "ANSWER"}` where it asks questions. A request that was answered before is a conflict that says by whom.
pub(super) async fn answer(
    Shared(state): Shared<State>,
    Path((plural, name, request)): Path<(String, String, String)>,
    sent: Request,
) -> Result<Response, Problem> {
    let kind = kind(&plural, sent.uri()).await?;
    let shared = &state.0;
    let caller = Caller::of(sent.headers(), sent.extensions());
    let bytes = body::read(sent.into_body(), MAX_BODY, &*shared.ambient.clock).await?;
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|error| {
        let example = r#"{"allow": true} or {"allow": false, "message": "why"}"#;
        Problem::bad_request(format!("the answer is {example}: {error}"))
    })?;
    let found = find(&state, kind, &name, &request).await?;
    if found.state != ApprovalState::Pending {
        return Err(answered(&found));
    }
    check(&answer, &found)?;
    let caller = caller.named(&answer.by.unwrap_or_default());
    let by = caller.signature();
    let user = caller.principal();
    let now = shared.ambient.clock.now();
    let mut transaction = Transaction::at(now).with(Op::ResolveApproval {
        sprite_uid: found.sprite_uid.clone(),
        run: found.run,
        request: request.clone(),
        state: if answer.allow { ApprovalState::Allowed } else { ApprovalState::Denied },
        by: by.clone(),
        user,
        grant: None,
        message: answer.message,
        answers: answer.answers,
    });
    if answer.always {
        let grant = grant(&state, kind, &name, &found, by.clone()).await?;
        transaction.ops.push(Op::AddGrant(grant));
    }
    let said = noted::answer(&transaction.ops).unwrap_or_default();
    let what = format!("approve {} {said}", called(kind, &name));
    transaction.ops.push(caller.did(&state, what));
    let apply = shared.store.apply(transaction);
    match shared.ambient.step("api.answer", apply).await {
        Ok(_) => Ok(Json(find(&state, kind, &name, &request).await?).into_response()),
        Err(crate::store::Error::Stale { .. }) => {
            Err(answered(&find(&state, kind, &name, &request).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an answer fits what is asked.
fn check(answer: &Answer, asked: &Approval) -> Result<(), Problem> {
    let bad = |message: String| Err(Problem::bad_request(message));
    if answer.always && !answer.allow {
        return bad("always goes with \"allow\": true; nothing is denied for good".to_owned());
    }
    if answer.always && asked.rule.is_none() {
        return bad(format!(
            "the request {} can only be allowed this once; leave out always",
            asked.request
        ));
    }
    let unasked = answer
        .answers
        .keys()
        .find(|text| !asked.questions.iter().any(|question| question.text == **text));
    if let Some(text) = unasked {
        return bad(format!("nobody asked \"{text}\"; name questions by their texts"));
    }
    if asked.kind == ApprovalKind::Question && answer.allow {
        let open = asked.questions.iter().find(|q| !answer.answers.contains_key(&q.text));
        if let Some(question) = open {
            return bad(format!(
                "the question \"{}\" has no answer; give one for each in answers",
                question.text
            ));
        }
    }
    Ok(())
}

/// What an answer of "always" leaves: a row of the Agent that the request comes from.
async fn grant(
    state: &State,
    kind: Kind,
    name: &str,
    asked: &Approval,
    by: String,
) -> Result<Grant, Problem> {
    let store = &state.0.store;
    let agent_uid = match kind {
        Kind::Agent => Some(read::object(state, kind, name).await?.metadata().uid.clone()),
        _ => {
            let sprite = store.get_by_uid(Kind::Sprite, &asked.sprite_uid).await?;
            sprite.and_then(|sprite| {
                let owner = sprite.metadata().controller()?;
                (owner.kind == Kind::Agent).then(|| owner.uid.clone())
            })
        }
    };
    let Some(agent_uid) = agent_uid else {
        return Err(Problem::bad_request(
            "only an agent can be allowed something for good; a job ends, so leave out always",
        ));
    };
    Ok(Grant {
        id: state.0.ambient.ids.uid(),
        agent_uid,
        tool: asked.tool.clone(),
        rule: asked.rule.clone().unwrap_or_default(),
        by,
        user: None,
        created: state.0.ambient.clock.now(),
    })
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
