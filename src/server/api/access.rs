//! Access: who may do what from chat, who waits to be let in, and what people asked for.
//!
//! Admins alone come here. Each change commits together with the row of the
//! audit that tells of it. Tokens of the API have rows beside these, and calls of their own.

use axum::{
    Json,
    extract::{Path, Request, State as Shared},
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{audit::Caller, params::Params, write::too_busy};
use crate::{
    access::{pairing, shape},
    server::{State, body, status::Problem},
    store::{Access, Delivery, Error, Op, Pairing, Principal, Role, Subject, Transaction},
};

/// How often a write is tried again when somebody else wrote first.
const TRIES: u32 = 8;
/// The largest body.
const MAX_BODY: usize = 64 * 1024;
/// So many rows of the audit are told where nothing is said.
const LIMIT: u64 = 100;
/// So many are told at most.
const MOST: u64 = 1_000;

/// What a change says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    role: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    by: Option<String>,
}

/// `GET /access`: who has which role, the admins of the configuration first.
pub(super) async fn list(Shared(state): Shared<State>) -> Result<Response, Problem> {
    let rows = state.0.store.access().await?;
    let named = state.0.extras.admins.iter().map(
        |principal| json!({"principal": principal, "role": Role::Admin, "from": "configuration"}),
    );
    let people = rows.iter().filter(|row| !row.principal.is_token()).map(shown);
    let items: Vec<Value> = named.chain(people).collect();
    Ok(Json(json!({"items": items})).into_response())
}

/// `GET /access/pairings`: who waits to be let in, the oldest first.
pub(super) async fn pairings(Shared(state): Shared<State>) -> Result<Response, Problem> {
    let now = state.0.ambient.clock.now();
    let waiting = state.0.store.pairings().await?;
    let items: Vec<&Pairing> = waiting.iter().filter(|pairing| pairing.is_open(now)).collect();
    Ok(Json(json!({"items": items})).into_response())
}

/// `POST /access/pairings/{code}/approve`: lets a stranger in, as `{"role": "user"}` says or, where
/// nothing is said, as a user. The same code again answers with what was done.
pub(super) async fn approve(
    Shared(state): Shared<State>,
    Path(typed): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = Caller::of(request.headers(), request.extensions());
    let wish = wish(&state, request).await?;
    let role = wish.role.as_deref().map_or(Ok(Role::User), str::parse).map_err(invalid)?;
    let unknown = || {
        let message = format!(
            "nobody waits with the code \"{typed}\"; a code holds for an hour, and \
             open-dispatch access list (GET access/pairings) shows those that wait"
        );
        Problem::new(StatusCode::NOT_FOUND, "NotFound", message)
    };
    let code = pairing::read(&typed).ok_or_else(unknown)?;
    let by = caller.named(&wish.by.unwrap_or_default());
    for _ in 0..TRIES {
        match let_in(&state, &code, role, &by).await? {
            Tried::Done(row) => return Ok(Json(shown(&row)).into_response()),
            Tried::Nobody => return Err(unknown()),
            Tried::Again => {}
        }
    }
    Err(too_busy("what they may do changes too fast; try again"))
}

/// What became of one try to let somebody in.
enum Tried {
    /// They have this role.
    Done(Box<Access>),
    /// Nobody waits with that code.
    Nobody,
    /// Somebody else changed what they may meanwhile.
    Again,
}

async fn let_in(state: &State, code: &str, role: Role, by: &Caller) -> Result<Tried, Problem> {
    let shared = &state.0;
    let rows = shared.store.access().await?;
    let waiting = shared.store.pairings().await?;
    let now = shared.ambient.clock.now();
    let done = rows.iter().find(|row| row.pairing.as_deref() == Some(code));
    let found = waiting.into_iter().find(|pairing| pairing.code == code && pairing.is_open(now));
    let Some(found) = found else {
        return Ok(done.map_or(Tried::Nobody, |row| Tried::Done(Box::new(row.clone()))));
    };
    // Whoever got a role meanwhile keeps it where it is the higher one.
    let held = rows.iter().find(|row| row.principal == found.principal);
    let unchanged = match held {
        Some(held) => Op::StillAdmitted(held.clone()),
        None => Op::StillStranger(found.principal.clone()),
    };
    let row = Access {
        role: held.map_or(role, |held| held.role.max(role)),
        principal: found.principal.clone(),
        name: found.name.clone(),
        by: by.signature(),
        pairing: Some(code.to_owned()),
        created: now,
        token: None,
    };
    let what = format!("approve {} as {}", row.principal, row.role);
    let welcome = Delivery {
        only_for: Some(found.principal.id.clone()),
        ..Delivery::open(
            shared.ambient.ids.uid(),
            found.conversation,
            Subject::Notice { text: pairing::welcome(row.role) },
            now,
        )
    };
    let ops = vec![
        unchanged,
        Op::ClosePairing { code: code.to_owned() },
        Op::Admit(row.clone()),
        noted(state, by, &what),
        Op::Delivery(welcome),
    ];
    let apply = shared.store.apply(Transaction { ops, now });
    match shared.ambient.step("api.approve-pairing", apply).await {
        Ok(_) => Ok(Tried::Done(Box::new(row))),
        Err(Error::Stale { .. }) => Ok(Tried::Again),
        Err(error) => Err(error.into()),
    }
}

/// `PUT /access/grants/{principal}`: gives somebody a role, as `{"role": "operator"}` says; 201
/// where they had none. `warning` says what is odd about an id that looks like none of its platform.
pub(super) async fn grant(
    Shared(state): Shared<State>,
    Path(typed): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let principal = person(&typed)?;
    let caller = Caller::of(request.headers(), request.extensions());
    let wish = wish(&state, request).await?;
    let role = wish.role.as_deref().unwrap_or_default().parse::<Role>().map_err(invalid)?;
    let rows = shared.store.access().await?;
    let held = rows.into_iter().find(|row| row.principal == principal);
    if let Some(held) = held.as_ref().filter(|held| held.role == role) {
        return Ok(Json(shown(held)).into_response());
    }
    let caller = caller.named(&wish.by.unwrap_or_default());
    let by = caller.signature();
    let now = shared.ambient.clock.now();
    let known = held.as_ref().map(|held| held.name.clone());
    let name = wish.name.filter(|name| !name.is_empty()).or(known).unwrap_or_default();
    let what = format!("grant {principal} {role}");
    let row = Access { principal, role, name, by, pairing: None, created: now, token: None };
    let ops = vec![Op::Admit(row.clone()), noted(&state, &caller, &what)];
    let apply = shared.store.apply(Transaction { ops, now });
    shared.ambient.step("api.grant-role", apply).await?;
    let code = if held.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let mut told = shown(&row);
    if let Some(warning) = shape::odd(&row.principal) {
        told["warning"] = warning.into();
    }
    Ok((code, Json(told)).into_response())
}

/// `DELETE /access/grants/{principal}`: takes somebody's role; answers with what it was.
pub(super) async fn revoke(
    Shared(state): Shared<State>,
    Path(typed): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let shared = &state.0;
    let principal = person(&typed)?;
    let caller = Caller::of(request.headers(), request.extensions());
    let wish = wish(&state, request).await?;
    let rows = shared.store.access().await?;
    let Some(held) = rows.into_iter().find(|row| row.principal == principal) else {
        let message = if shared.extras.admins.contains(&principal) {
            format!(
                "{principal} is an admin by the server's configuration; take them out of \
                     OPEN_DISPATCH_ADMINS, or of admins in the configuration file"
            )
        } else {
            format!("{principal} has no role")
        };
        return Err(Problem::new(StatusCode::NOT_FOUND, "NotFound", message));
    };
    let caller = caller.named(&wish.by.unwrap_or_default());
    let note = noted(&state, &caller, &format!("revoke {principal} {}", held.role));
    let now = shared.ambient.clock.now();
    let ops = vec![Op::Expel(principal), note];
    let apply = shared.store.apply(Transaction { ops, now });
    shared.ambient.step("api.revoke-role", apply).await?;
    Ok(Json(shown(&held)).into_response())
}

/// `GET /audit?limit&after`: what people asked for, the oldest first; from behind row `after`, or
/// the newest.
pub(super) async fn audit(Shared(state): Shared<State>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri);
    let limit = params.number("limit")?.unwrap_or(LIMIT).clamp(1, MOST);
    let after = params.number("after")?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let items = state.0.store.audit(after, limit).await?;
    Ok(Json(json!({"items": items})).into_response())
}

fn shown(row: &Access) -> Value {
    let mut shown = json!(row);
    shown["from"] = "grant".into();
    shown
}

async fn wish(state: &State, request: Request) -> Result<Wish, Problem> {
    let bytes = body::read(request.into_body(), MAX_BODY, &*state.0.ambient.clock).await?;
    if bytes.is_empty() {
        return Ok(Wish { role: None, name: None, by: None });
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        Problem::bad_request(format!(r#"the body is {{"role": "user"}}: {error}"#))
    })
}

/// Whom a path names: a person or a channel, and no token, which has calls of its own.
fn person(typed: &str) -> Result<Principal, Problem> {
    let principal: Principal = typed.parse().map_err(invalid)?;
    if principal.platform == Principal::token("").platform {
        let message = format!(
            "{principal} is no person but a token; open-dispatch token (POST and DELETE tokens) \
             makes and revokes those"
        );
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message));
    }
    Ok(principal)
}

fn invalid(error: impl std::error::Error) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", error.to_string())
}

fn noted(state: &State, caller: &Caller, what: &str) -> Op {
    caller.did(state, format!("access {what}"))
}
