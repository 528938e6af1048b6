//! Tokens of the API: made with a name and a role, told once, revoked by name.
//!
//! A token is a row of the same ledger as the roles of people; it holds what the token hashes to and
//! never the token. Each change commits with the row of the audit that tells of it.

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::audit::Caller;
use crate::{
    access::names::called,
    resource::{Span, validate::bad_label},
    server::{State, body, status::Problem},
    store::{Access, Error, Op, Principal, Role, Token, Transaction},
    token,
};

/// The largest body.
const MAX_BODY: usize = 64 * 1024;
/// How often a write is tried again when somebody else wrote first.
const TRIES: u32 = 8;

/// What is wanted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wish {
    name: String,
    role: String,
    /// A length of time such as `90d`; without it, the token holds until it is revoked.
    #[serde(default)]
    expires: Option<String>,
    /// Whether a token of that name makes room.
    #[serde(default)]
    replace: bool,
}

/// `GET /tokens`: which there are, by name; what opens the API stands nowhere.
pub(super) async fn list(Shared(state): Shared<State>) -> Result<Response, Problem> {
    let now = state.0.ambient.clock.now();
    let rows = state.0.store.access().await?;
    let items: Vec<Value> =
        rows.iter().filter(|row| row.principal.is_token()).map(|row| shown(row, now)).collect();
    Ok(Json(json!({"items": items})).into_response())
}

/// `POST /tokens`: makes one, as `{"name": "ci", "role": "viewer", "expires": "90d"}` says, and tells it
/// in `token`, this once. A name that is taken is a conflict, unless `"replace": true` ends the one
/// that has it.
pub(super) async fn create(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let caller = Caller::of(request.headers(), request.extensions());
    let bytes = body::read(request.into_body(), MAX_BODY, &*shared.ambient.clock).await?;
    let wish: Wish = serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request(format!(
            r#"a token is {{"name": "ci", "role": "viewer", "expires": "90d"}}: {error}"#
        ))
    })?;
    if let Some(fault) = bad_label(&wish.name) {
        return Err(invalid(format!("the name of the token {fault}")));
    }
    let role: Role = wish.role.parse().map_err(|error| invalid(format!("{error}")))?;
    let now = shared.ambient.clock.now();
    let expires = wish.expires.as_deref().map(|length| end(length, now)).transpose()?;
    let drawn = token::named().map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string())
    })?;
    let row = Access {
        principal: Principal::token(&wish.name),
        role,
        name: String::new(),
        by: caller.signature(),
        pairing: None,
        created: now,
        token: Some(Token { print: token::print(drawn.expose_secret()), expires }),
    };
    for _ in 0..TRIES {
        let rows = shared.store.access().await?;
        let held = rows.into_iter().find(|held| held.principal == row.principal);
        let unchanged = match held {
            Some(_) if !wish.replace => return Err(taken(&wish.name)),
            Some(held) => Op::StillAdmitted(held),
            None => Op::StillStranger(row.principal.clone()),
        };
        let until = expires.map(|end| format!(" until {end:.0}")).unwrap_or_default();
        let note = caller.did(&state, format!("token create {} {role}{until}", wish.name));
        // The note in front: whoever replaces the token that they show may.
        let ops = vec![unchanged, note, Op::Admit(row.clone())];
        let apply = shared.store.apply(Transaction { ops, now });
        match shared.ambient.step("api.create-token", apply).await {
            Ok(_) => {
                let mut told = shown(&row, now);
                told["token"] = drawn.expose_secret().into();
                let once = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                return Ok((StatusCode::CREATED, [once], Json(told)).into_response());
            }
            Err(Error::Stale { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(super::write::too_busy("the tokens change too fast; try again"))
}

/// `DELETE /tokens/{name}`: ends one; answers with what it was.
pub(super) async fn revoke(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let principal = Principal::token(&name);
    let now = shared.ambient.clock.now();
    let rows = shared.store.access().await?;
    let Some(held) = rows.into_iter().find(|row| row.principal == principal) else {
        let message = format!(
            "there is no token \"{}\"; open-dispatch token list (GET tokens) shows those that there \
             are",
            called(&name)
        );
        return Err(Problem::new(StatusCode::NOT_FOUND, "NotFound", message));
    };
    // The note in front: whoever revokes the token that they show may.
    let note = caller.did(&state, format!("token revoke {name} {}", held.role));
    let ops = vec![note, Op::Expel(principal)];
    let apply = shared.store.apply(Transaction { ops, now });
    shared.ambient.step("api.revoke-token", apply).await?;
    Ok(Json(shown(&held, now)).into_response())
}

/// A token without what opens anything.
fn shown(row: &Access, now: Timestamp) -> Value {
    let token = row.token.as_ref();
    json!({
        "name": row.principal.id,
        "role": row.role,
        "by": row.by,
        "created": row.created,
        "expires": token.and_then(|token| token.expires),
        "expired": !token.is_some_and(|token| token.is_live(now)),
    })
}

/// When a token ends that holds for so long.
fn end(length: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let span: Span = length.parse().map_err(|error| invalid(format!("expires: {error}")))?;
    if span.as_millis() == 0 {
        return Err(invalid("expires is no time at all; write one, such as 90d".to_owned()));
    }
    now.checked_add(span.as_duration()).map_err(|_| {
        invalid("expires is too far away; leave it out for a token without an end".to_owned())
    })
}

fn taken(name: &str) -> Problem {
    let message = format!(
        "there is a token \"{name}\" already; choose another name, revoke it first by open-dispatch \
         token revoke {name}, or let the new one replace it with --replace (\"replace\": true)"
    );
    Problem::new(StatusCode::CONFLICT, "AlreadyExists", message)
}

fn invalid(message: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_for_as_long_as_is_said() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |length: &str| end(length, now).map(|end| end.to_string()).unwrap_or_default();
        assert_eq!(at("12h"), "2026-01-01T12:00:00Z");
        assert_eq!(at("90d"), "2026-04-01T00:00:00Z");
        assert_eq!(at("1d30m"), "2026-01-02T00:30:00Z");
        for bad in ["", "soon", "90", "0s", "-1d", "1y", "9999999d", "99999999999999999d"] {
            assert_eq!(at(bad), "", "{bad}");
        }
    }
}
