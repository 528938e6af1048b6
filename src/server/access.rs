//! The access token: who may use the API.

use axum::{
    extract::{Request, State as Shared},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{State, status::Problem};
use crate::token::same;

/// The bearer token that a request shows.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Lets through whoever shows the access token.
pub(super) async fn require(
    Shared(state): Shared<State>,
    request: Request,
    next: Next,
) -> Response {
    match bearer(request.headers()) {
        Some(token) if same(token, &state.0.access_token) => next.run(request).await,
        shown => {
            let why = if shown.is_some() { "is not the one" } else { "is missing" };
            let message = format!(
                "the access token {why} that this server wrote to the file `token` in its data \
                 directory; send it as `Authorization: Bearer TOKEN`, or give it to the command \
                 line as OPEN_DISPATCH_TOKEN"
            );
            let mut response =
                Problem::new(StatusCode::UNAUTHORIZED, "Unauthorized", message).into_response();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            response
        }
    }
}
