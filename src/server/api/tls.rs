//! What a client must know to speak TLS with this server.

use axum::{
    Json,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use crate::server::{State, status::Problem};

/// `GET /tls`: the authority to trust, and the names that its certificate stands for.
pub(super) async fn get(Shared(state): Shared<State>) -> Result<Response, Problem> {
    let Some(tls) = state.0.tls.get() else {
        let message = "this server speaks no TLS";
        return Err(Problem::new(StatusCode::NOT_FOUND, "NotFound", message));
    };
    Ok(Json(json!({"authority": tls.authority_pem(), "names": tls.names()})).into_response())
}
