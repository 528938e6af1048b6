//! The fake's HTTP: log-in, keys, connector.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State as Held},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde_json::{Value, json};

use super::{APP_ID, Fault, Message, PASSWORD, State, TENANT, jwt};

/// What all generations of the documents allow, in bytes of UTF-16.
const MAX_TEXT: usize = 28 * 1024;

type Shared = Held<(Arc<Mutex<State>>, SocketAddr)>;

pub fn router(state: Arc<Mutex<State>>, address: SocketAddr) -> Router {
    let conversations = "/connector/v3/conversations/{conversation}/activities";
    Router::new()
        .route("/login/{tenant}/oauth2/v2.0/token", post(token))
        .route("/openid", get(metadata))
        .route("/keys", get(keys))
        .route("/files/{name}", get(file))
        .route(conversations, post(send))
        .route(&format!("{conversations}/{{activity}}"), put(update).post(reply))
        .with_state((state, address))
}

async fn token(held: Shared, Path(tenant): Path<String>, body: Bytes) -> Response {
    let form: std::collections::HashMap<String, String> =
        url::form_urlencoded::parse(&body).into_owned().collect();
    let mut state = held.0.0.lock().unwrap();
    state.tokens += 1;
    let refuse = |why: &str| {
        let body = json!({"error": "invalid_client", "error_description": why});
        (StatusCode::UNAUTHORIZED, Json(body)).into_response()
    };
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    assert_eq!(field("grant_type"), "client_credentials");
    assert_eq!(field("scope"), "https://api.botframework.com/.default");
    if tenant != TENANT {
        return refuse("AADSTS90002: Tenant not found.");
    }
    if field("client_id") != APP_ID {
        return refuse("AADSTS700016: Application was not found in the directory.");
    }
    if field("client_secret") != PASSWORD {
        return refuse("AADSTS7000215: Invalid client secret provided.");
    }
    let token = state.token.clone();
    Json(json!({"token_type": "Bearer", "expires_in": 3599, "access_token": token})).into_response()
}

async fn metadata(held: Shared) -> Json<Value> {
    held.0.0.lock().unwrap().metadata += 1;
    Json(json!({
        "issuer": "https://api.botframework.com",
        "jwks_uri": format!("http://{}/keys", held.0.1),
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
}

async fn keys(held: Shared) -> Json<Value> {
    let mut state = held.0.0.lock().unwrap();
    state.keys += 1;
    Json(json!({"keys": [jwt::Signer::Channel.listed(jwt::KID, &state.endorsements)]}))
}

async fn file(held: Shared, Path(name): Path<String>) -> Response {
    let state = held.0.0.lock().unwrap();
    match state.files.iter().find(|(known, _)| *known == name) {
        Some((_, bytes)) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn fault(status: u16, code: &str) -> Response {
    let body = json!({"error": {"code": code, "message": "the fake says no"}});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// What is wrong with a call before it is done.
fn refused(state: &mut State, headers: &HeaderMap, next: Option<Fault>) -> Option<Response> {
    if next == Some(Fault::TokenRevoked) {
        state.token.push_str("-next");
    }
    let wanted = format!("Bearer {}", state.token);
    if headers.get("authorization").is_none_or(|it| it.to_str().unwrap() != wanted) {
        return Some(fault(401, "Unauthorized"));
    }
    match next? {
        Fault::RateLimit(seconds) => {
            let mut response = fault(429, "TooManyRequests");
            response.headers_mut().insert("retry-after", seconds.into());
            Some(response)
        }
        Fault::Status(status) => Some(fault(status, "ServiceError")),
        Fault::DoneBut504 | Fault::TokenRevoked => None,
    }
}

fn parts(activity: &Value) -> Result<(String, Option<Value>), Box<Response>> {
    let text = activity["text"].as_str().unwrap_or_default();
    let size = 2 * text.encode_utf16().count();
    let attachments = activity["attachments"].as_array();
    let card = attachments.and_then(|all| all.first()).map(|it| it["content"].clone());
    if size > MAX_TEXT {
        return Err(Box::new(fault(413, "MessageSizeTooBig")));
    }
    if activity["type"] != "message" || (text.trim().is_empty() && card.is_none()) {
        return Err(Box::new(fault(400, "BadSyntax")));
    }
    Ok((text.to_owned(), card))
}

async fn send(
    held: Shared,
    Path(conversation): Path<String>,
    headers: HeaderMap,
    Json(activity): Json<Value>,
) -> Response {
    let mut state = held.0.0.lock().unwrap();
    state.posts += 1;
    let next = state.post_faults.pop_front();
    if let Some(response) = refused(&mut state, &headers, next) {
        return response;
    }
    let (text, card) = match parts(&activity) {
        Ok(parts) => parts,
        Err(response) => return *response,
    };
    let id = format!("18000000{:05}", state.number());
    let reply_to = activity["replyToId"].as_str().map(str::to_owned);
    let message = Message { id: id.clone(), conversation, text, card, reply_to, edits: 0 };
    state.messages.push(message);
    if next == Some(Fault::DoneBut504) {
        return fault(504, "GatewayTimeout");
    }
    (StatusCode::CREATED, Json(json!({"id": id}))).into_response()
}

async fn reply(
    held: Shared,
    Path((conversation, _)): Path<(String, String)>,
    headers: HeaderMap,
    activity: Json<Value>,
) -> Response {
    send(held, Path(conversation), headers, activity).await
}

async fn update(
    held: Shared,
    Path((conversation, id)): Path<(String, String)>,
    headers: HeaderMap,
    Json(activity): Json<Value>,
) -> Response {
    let mut state = held.0.0.lock().unwrap();
    state.edits += 1;
    let next = state.edit_faults.pop_front();
    if let Some(response) = refused(&mut state, &headers, next) {
        return response;
    }
    let (text, card) = match parts(&activity) {
        Ok(parts) => parts,
        Err(response) => return *response,
    };
    let here = |message: &&mut Message| message.id == id && message.conversation == conversation;
    let Some(message) = state.messages.iter_mut().find(here) else {
        return fault(404, "ActivityNotFoundInConversation");
    };
    (message.text, message.card) = (text, card);
    message.edits += 1;
    if next == Some(Fault::DoneBut504) {
        return fault(504, "GatewayTimeout");
    }
    Json(json!({"id": id})).into_response()
}
