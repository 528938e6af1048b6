//! Secrets: set, listed by name and removed; a value goes in and never comes out again.

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use secrecy::SecretString;
use serde_json::json;

use super::audit::Caller;
use crate::{
    secrets::{Error, MAX_VALUE_BYTES, Secrets},
    server::{State, body, status::Problem},
    store::Transaction,
};

/// `GET /secrets`: the names, and where each value comes from.
pub(super) async fn list(Shared(state): Shared<State>) -> Result<Response, Problem> {
    let secrets = secrets(&state)?;
    let items = apart(move || secrets.list()).await?;
    Ok(Json(json!({"items": items})).into_response())
}

/// `PUT /secrets/{name}`: sets a secret to the body; 201 where there was none.
pub(super) async fn put(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let secrets = secrets(&state)?;
    let caller = Caller::of(request.headers(), request.extensions());
    // Line ends at the end are no part of the value.
    let limit = MAX_VALUE_BYTES + 2;
    let bytes = body::read(request.into_body(), limit, &*state.0.ambient.clock).await?;
    let value = String::from_utf8(bytes.into()).map(SecretString::from).map_err(|_| {
        // The error holds the value.
        Problem::bad_request("the value of a secret is text, and this is not UTF-8")
    })?;
    let (keeper, set) = (secrets.clone(), name.clone());
    let (there, value) = apart(move || {
        keeper.check(&set, &value)?;
        Ok((keeper.is_set(&set)?, value))
    })
    .await?;
    note(&state, &caller, format!("set secret {name}")).await?;
    let set = name.clone();
    apart(move || secrets.set(&set, &value)).await?;
    let code = if there { StatusCode::OK } else { StatusCode::CREATED };
    Ok((code, Json(json!({"name": name}))).into_response())
}

/// `DELETE /secrets/{name}`
pub(super) async fn remove(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    let secrets = secrets(&state)?;
    let (keeper, removed) = (secrets.clone(), name.clone());
    let is_set = apart(move || keeper.is_set(&removed)).await?;
    if is_set {
        note(&state, &caller, format!("delete secret {name}")).await?;
    }
    let removed = name.clone();
    if is_set && apart(move || secrets.remove(&removed)).await? {
        Ok(Json(json!({"name": name})).into_response())
    } else {
        let message = format!("there is no secret \"{name}\"");
        Err(Problem::new(StatusCode::NOT_FOUND, "NotFound", message))
    }
}

/// Notes what is about to be done, or refuses it because the token that was shown stands no more.
/// In front of it, for files and the store do not commit together: a crash in between leaves a note
/// too many, and never a change that nobody noted.
async fn note(state: &State, caller: &Caller, what: String) -> Result<(), Problem> {
    let shared = &state.0;
    let note = Transaction::at(shared.ambient.clock.now()).with(caller.did(state, what));
    shared.store.apply(note).await?;
    Ok(())
}

fn secrets(state: &State) -> Result<Secrets, Problem> {
    state.0.extras.secrets.clone().ok_or_else(|| {
        let message = "this server keeps no secrets";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    })
}

/// Works on files beside the threads that serve.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            format!("the secrets could not be looked at: {error}"),
        )),
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::BadName(_) | Error::BadValue { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
            }
            Error::Missing { .. } => Self::new(StatusCode::NOT_FOUND, "NotFound", message),
            Error::FromEnvironment { .. } => Self::new(StatusCode::CONFLICT, "Conflict", message),
            Error::Exposed { .. } | Error::File { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
            }
        }
    }
}
