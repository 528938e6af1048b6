//! The sprites' endpoints: who speaks is settled first, then how large it is, then what it says.

use std::sync::Arc;

use axum::{
    extract::{Request, State as Shared},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use serde_json::json;

use super::{
    State,
    access::bearer,
    body::{self, BodyError},
    directory::{Caller, Standing},
    ingest::{self, BadBody, Lane, LegacyEndpoint, Reply, Request as Asked},
};

/// The largest body of `POST /webhooks/events`.
const MAX_EVENTS_BODY: usize = 2 * 1024 * 1024;
/// The largest body that the original took.
const MAX_LEGACY_BODY: usize = 1024 * 1024;

/// A JSON answer.
pub(super) fn answer(code: StatusCode, body: &impl Serialize) -> Response {
    // Our own answers always serialise.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    let mut response = (code, [(header::CONTENT_TYPE, json)], bytes).into_response();
    if code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

pub(super) fn error(code: StatusCode, message: impl Into<String>) -> Response {
    answer(code, &json!({ "error": message.into() }))
}

pub(super) fn unauthorized() -> Response {
    error(StatusCode::UNAUTHORIZED, "Unauthorized")
}

pub(super) fn gone() -> Response {
    error(
        StatusCode::GONE,
        "this sprite is gone or another run speaks for it; end the agent and exit",
    )
}

/// The original's answer to whatever it did not know.
pub(super) async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "Not found")
}

/// Finds out who sends a request, before anything else of it is read. A reporter may name its
/// sprite as `jobId` in the address, so that it hears "gone" even from a server that has
/// forgotten it.
pub(super) async fn caller(
    state: &State,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<Arc<Lane>, Response> {
    let token = bearer(headers).filter(|token| !token.is_empty()).ok_or_else(unauthorized)?;
    let claimed = query(uri, "jobId");
    match state.0.directory.caller(token, claimed.as_deref()).await {
        Ok(Caller::Sprite(lane)) => Ok(lane),
        Ok(Caller::Gone) => Err(gone()),
        Ok(Caller::Stranger) => Err(unauthorized()),
        Err(unavailable) => Err(error(StatusCode::SERVICE_UNAVAILABLE, unavailable.to_string())),
    }
}

/// The value of a parameter of an address.
pub(super) fn query(uri: &Uri, name: &str) -> Option<String> {
    url::form_urlencoded::parse(uri.query()?.as_bytes())
        .find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

pub(super) fn body_error(problem: BodyError) -> Response {
    match problem {
        BodyError::TooLarge(_) => error(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large"),
        BodyError::Broken => error(StatusCode::BAD_REQUEST, "the body broke off"),
        BodyError::TooSlow(_) => error(StatusCode::REQUEST_TIMEOUT, problem.to_string()),
    }
}

/// `POST /webhooks/events`
pub(super) async fn events(Shared(state): Shared<State>, request: Request) -> Response {
    let lane = match caller(&state, request.headers(), request.uri()).await {
        Ok(lane) if lane.standing() == Standing::Live => lane,
        Ok(_) => return gone(),
        Err(refused) => return refused,
    };
    let clock = &*state.0.ambient.clock;
    let bytes = match body::read(request.into_body(), MAX_EVENTS_BODY, clock).await {
        Ok(bytes) => bytes,
        Err(problem) => return body_error(problem),
    };
    let batch = match ingest::events(&bytes) {
        Ok(batch) if batch.job_id == lane.uid() => batch,
        Ok(_) => return unauthorized(),
        Err(BadBody(why)) => return error(StatusCode::BAD_REQUEST, why),
    };
    match state.0.ingest.submit(&lane, Asked::Events(batch)).await {
        Reply::Held(ack) => answer(StatusCode::OK, &ack),
        Reply::Hole(ack) => answer(StatusCode::CONFLICT, &ack),
        other => refusal(other),
    }
}

/// What is answered to what cannot be taken.
fn refusal(reply: Reply) -> Response {
    match reply {
        Reply::Held(_) | Reply::Hole(_) | Reply::Taken => {
            answer(StatusCode::OK, &json!({"ok": true}))
        }
        Reply::Superseded => gone(),
        Reply::Refused(why) => error(StatusCode::BAD_REQUEST, why),
        Reply::TooLate(why) => error(StatusCode::CONFLICT, why),
        Reply::Unavailable(why) => error(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

/// `POST /webhooks/logs`
pub(super) async fn logs(state: Shared<State>, request: Request) -> Response {
    legacy(state, request, LegacyEndpoint::Logs).await
}

/// `POST /webhooks/status`
pub(super) async fn status(state: Shared<State>, request: Request) -> Response {
    legacy(state, request, LegacyEndpoint::Status).await
}

/// `POST /webhooks/artifacts`
pub(super) async fn artifacts(state: Shared<State>, request: Request) -> Response {
    legacy(state, request, LegacyEndpoint::Artifacts).await
}

async fn legacy(
    Shared(state): Shared<State>,
    request: Request,
    endpoint: LegacyEndpoint,
) -> Response {
    let lane = match caller(&state, request.headers(), request.uri()).await {
        Ok(lane) => lane,
        Err(refused) => return refused,
    };
    let clock = &*state.0.ambient.clock;
    let bytes = match body::read(request.into_body(), MAX_LEGACY_BODY, clock).await {
        Ok(bytes) => bytes,
        Err(problem) => return body_error(problem),
    };
    let said = match ingest::legacy(endpoint, &bytes) {
        Ok((job, said)) if job == lane.uid() => said,
        Ok(_) => return unauthorized(),
        Err(BadBody(why)) => return error(StatusCode::BAD_REQUEST, why),
    };
    let count = match &said {
        ingest::Legacy::Artifacts(artifacts) => Some(artifacts.len()),
        _ => None,
    };
    match (state.0.ingest.submit(&lane, Asked::Legacy(said)).await, count) {
        (Reply::Taken, Some(count)) => answer(StatusCode::OK, &json!({"ok": true, "count": count})),
        (reply, _) => refusal(reply),
    }
}
