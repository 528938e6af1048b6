//! Who am I, and may I: what `kubectl auth whoami` and `kubectl auth can-i` ask.
//!
//! The answer is that of the gate before the API: whoever came this far holds a token that opens
//! all of it.

use axum::{
    Json,
    extract::{Request, State as Shared},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::audit::Caller;
use crate::server::{State, body, status::Problem};

/// The largest question.
const MAX_BODY: usize = 64 * 1024;
/// The group of those who may do everything.
const ADMINS: &str = "open-dispatch:admins";

/// `POST …/selfsubjectreviews`: who asks.
pub(super) async fn whoami(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = Caller::of(request.headers());
    question(&state, request, "SelfSubjectReview").await?;
    Ok(answer(json!({
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": null},
        "status": {"userInfo": {"username": caller.name(), "groups": [ADMINS]}},
    })))
}

/// `POST …/selfsubjectaccessreviews`: whether the one who asks may do something.
pub(super) async fn may_i(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let question = question(&state, request, "SelfSubjectAccessReview").await?;
    let spec = &question["spec"];
    if spec["resourceAttributes"].is_object() == spec["nonResourceAttributes"].is_object() {
        return Err(Problem::bad_request(
            "spec must have resourceAttributes or nonResourceAttributes, exactly one of them",
        ));
    }
    Ok(answer(json!({
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": null},
        "spec": spec,
        "status": {"allowed": true, "reason": "the access token opens everything"},
    })))
}

/// `POST …/selfsubjectrulesreviews`: all that the one who asks may do.
pub(super) async fn rules(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let question = question(&state, request, "SelfSubjectRulesReview").await?;
    Ok(answer(json!({
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": null},
        "spec": question["spec"],
        "status": {
            "incomplete": false,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        },
    })))
}

async fn question(state: &State, request: Request, kind: &str) -> Result<Value, Problem> {
    let bytes = body::read(request.into_body(), MAX_BODY, &*state.0.ambient.clock).await?;
    let question: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(format!("the body is no JSON: {error}")))?;
    if question["kind"] != kind {
        return Err(Problem::bad_request(format!("the body must be of the kind {kind}")));
    }
    Ok(question)
}

fn answer(review: Value) -> Response {
    (StatusCode::CREATED, Json(review)).into_response()
}
