//! The door of the API: who comes in, and what they may.
//!
//! Whoever shows the server's own token may do everything. Everybody else shows a named token, which
//! has a role; [`rights`](super::rights) says which role a call takes. That is asked here, once, in
//! front of every call and before anything of it is read, so that no handler can forget it.
//!
//! A named token is looked up for each call, so it ends when it is revoked or its time is over:
//! calls that come later are refused, a body that comes meanwhile breaks off at its end ([`late`]), a
//! write under way does not commit (the store compares the row that was judged here, which goes with
//! the request, in the transaction), and a stream that is open ends within [`LOOK`].

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    extract::{MatchedPath, Request, State as Shared},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;

use super::{State, late, rights, status::Problem};
use crate::{
    store::{self, Access, Role},
    token::{print, same},
};

/// How often an open stream asks whether its token still stands.
const LOOK: Duration = Duration::from_secs(10);

/// Who was let in, for handlers that tell it or decide by it.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// Whoever holds the server's own token.
    Server,
    /// The holder of a named token.
    Token(Access),
}

impl Standing {
    /// What they are.
    pub(super) fn role(&self) -> Role {
        match self {
            Self::Server => Role::Admin,
            Self::Token(row) => row.role,
        }
    }

    /// What they are called: `token:NAME`, or `api` for the server's own token.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Server => super::api::API.to_owned(),
            Self::Token(row) => row.principal.to_string(),
        }
    }
}

/// The bearer token that a request shows.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Lets through whoever shows a token whose role is enough.
pub(super) async fn require(
    Shared(state): Shared<State>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(shown) = bearer(request.headers()) else {
        return stranger("the access token is missing");
    };
    if same(shown, &state.0.access_token) {
        request.extensions_mut().insert(Standing::Server);
        return next.run(request).await;
    }
    let row = match find(&state, shown).await {
        Ok(Some(row)) => row,
        Ok(None) => return stranger("the access token is none that this server knows"),
        Err(error) => return Problem::from(error).into_response(),
    };
    if !stands(&state, &row) {
        let name = &row.principal.id;
        return stranger(&format!("the time of the token \"{name}\" is over"));
    }
    let path = request.extensions().get::<MatchedPath>().cloned();
    // A path that leads nowhere is told as such to everybody who is let in.
    if let Some(path) = path {
        // What stands in no table is for admins, so that nothing new is open by mistake.
        let right = rights::needs(request.method(), path.as_str());
        let right = right.unwrap_or(crate::access::Right::Admin);
        if row.role < right.needs() {
            return rights::forbidden(&row, right, request.method(), request.uri()).into_response();
        }
    }
    request.extensions_mut().insert(Standing::Token(row.clone()));
    // Routers of other rooms know the store's row alone.
    request.extensions_mut().insert(row.clone());
    let (request, fate) = late::watched(request, &state, &row);
    let response = next.run(request).await;
    match fate.take() {
        Some(error) => Problem::from(error).into_response(),
        None => leash(state, row, response),
    }
}

/// The row of the token that is shown. Looked up by what the token hashes to, of which the time
/// that it takes tells nothing.
async fn find(state: &State, shown: &str) -> Result<Option<Access>, store::Error> {
    let print = print(shown);
    let rows = state.0.store.access().await?;
    let is_it = |row: &Access| {
        row.principal.is_token() && row.token.as_ref().is_some_and(|token| token.print == print)
    };
    Ok(rows.into_iter().find(is_it))
}

/// Whether a token's time is not over.
fn stands(state: &State, row: &Access) -> bool {
    let now = state.0.ambient.clock.now();
    row.token.as_ref().is_some_and(|token| token.is_live(now))
}

/// Lets a stream end soon after its token does. An answer that is whole is past that.
fn leash(state: State, row: Access, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    if body.size_hint().exact().is_some() {
        return Response::from_parts(parts, body);
    }
    let over = async move {
        loop {
            state.0.ambient.clock.sleep(LOOK).await;
            let held = match state.0.store.access().await {
                Ok(rows) => rows.into_iter().any(|held| held == row),
                // Whoever cannot read the store cannot stream from it either.
                Err(_) => true,
            };
            if !held || !stands(&state, &row) {
                return;
            }
        }
    };
    let stream = body.into_data_stream().take_until(Box::pin(over));
    Response::from_parts(parts, Body::from_stream(stream))
}

/// The answer to whom this server does not know.
fn stranger(why: &str) -> Response {
    let message = format!(
        "{why}; send the one in the file `token` of the server's data directory, or one that \
         `open-dispatch token create` has made, as `Authorization: Bearer TOKEN`; the command \
         line takes it as OPEN_DISPATCH_TOKEN"
    );
    let mut response =
        Problem::new(StatusCode::UNAUTHORIZED, "Unauthorized", message).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
