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

use super::{APP_ID, Fault, Message, PASSWORD, State, Stream, TENANT, jwt};

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
        .route("/connector/v3/attachments/{name}/views/original", get(file))
        .route("/connector/v3/conversations/{name}/members", get(file))
        .route("/drive/{name}", put(drive))
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

async fn keys(held: Shared) -> Result<Json<Value>, StatusCode> {
    let mut state = held.0.0.lock().unwrap();
    state.keys += 1;
    if state.no_keys {
        return Err(StatusCode::BAD_GATEWAY);
    }
    let kid = state.kid.clone().unwrap_or_else(|| jwt::KID.to_owned());
    Ok(Json(json!({"keys": [jwt::Signer::Channel.listed(&kid, &state.endorsements)]})))
}

#[expect(clippy::disallowed_methods, reason = "a fake of a server lives in real time")]
async fn file(held: Shared, Path(name): Path<String>, headers: HeaderMap) -> Response {
    let slow = {
        let mut state = held.0.0.lock().unwrap();
        state.asked_for += 1;
        state.slow
    };
    tokio::time::sleep(slow.unwrap_or_default()).await;
    let mut state = held.0.0.lock().unwrap();
    let wanted = format!("Bearer {}", state.token);
    let shown = headers.get("authorization").map(|it| it.to_str().unwrap() == wanted);
    assert_ne!(shown, Some(false), "another token");
    state.fetched.push(shown == Some(true));
    if let Some(there) = state.redirect.clone() {
        return (StatusCode::FOUND, [("location", there)]).into_response();
    }
    match state.files.iter().find(|(known, _)| *known == name) {
        Some((name, bytes)) if name.ends_with(".png") => {
            ([("content-type", "image/png")], bytes.clone()).into_response()
        }
        Some((_, bytes)) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn fault(status: u16, code: &str) -> Response {
    let body = json!({"error": {"code": code, "message": "the fake says no"}});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn wait(seconds: u64) -> Response {
    let mut response = fault(429, "TooManyRequests");
    response.headers_mut().insert("retry-after", seconds.into());
    response
}

/// What is wrong with a call before it is done.
fn refused(
    state: &mut State,
    conversation: &str,
    headers: &HeaderMap,
    next: Option<Fault>,
) -> Option<Response> {
    if let Some(Err(seconds)) = state.limits.as_mut().map(|limits| limits.take(conversation)) {
        state.too_many += 1;
        return Some(wait(seconds));
    }
    if next == Some(Fault::TokenRevoked) {
        state.token.push_str("-next");
    }
    let wanted = format!("Bearer {}", state.token);
    if headers.get("authorization").is_none_or(|it| it.to_str().unwrap() != wanted) {
        return Some(fault(401, "Unauthorized"));
    }
    if state.removed {
        return Some(fault(403, "BotNotInConversationRoster"));
    }
    match next? {
        Fault::RateLimit(seconds) => Some(wait(seconds)),
        Fault::Status(status) => Some(fault(status, "ServiceError")),
        Fault::DoneBut504 | Fault::TokenRevoked => None,
    }
}

/// What an activity shows.
struct Parts {
    text: String,
    card: Option<Value>,
    offer: Option<Value>,
    file: Option<Value>,
}

fn parts(activity: &Value) -> Result<Parts, Box<Response>> {
    let text = activity["text"].as_str().unwrap_or_default().to_owned();
    let attached = |kind: &str| {
        let mut all = activity["attachments"].as_array().into_iter().flatten();
        all.rfind(|it| it["contentType"] == kind).cloned()
    };
    let parts = Parts {
        card: attached("application/vnd.microsoft.card.adaptive").map(|it| it["content"].clone()),
        offer: attached("application/vnd.microsoft.teams.card.file.consent"),
        file: attached("application/vnd.microsoft.teams.card.file.info"),
        text,
    };
    if 2 * parts.text.encode_utf16().count() > MAX_TEXT {
        return Err(Box::new(fault(413, "MessageSizeTooBig")));
    }
    let shows = parts.card.is_some() || parts.offer.is_some() || parts.file.is_some();
    if activity["type"] != "message" || (parts.text.trim().is_empty() && !shows) {
        return Err(Box::new(fault(400, "BadSyntax")));
    }
    Ok(parts)
}

fn show(message: &mut Message, parts: Parts) {
    (message.text, message.card) = (parts.text, parts.card);
    (message.offer, message.file) = (parts.offer, parts.file);
}

fn stream_fault(why: &str) -> Response {
    let body = json!({"error": {"code": "ContentStreamNotAllowed", "message": why}});
    (StatusCode::FORBIDDEN, Json(body)).into_response()
}

/// A part of a stream: the rules are those of Microsoft's page on streaming, at their strictest.
fn stream(state: &mut State, conversation: &str, activity: &Value, mark: &Value) -> Response {
    state.streams += 1;
    if !state.streaming || !conversation.starts_with("a:") {
        return stream_fault("streaming api is not enabled");
    }
    let text = activity["text"].as_str().unwrap_or_default();
    let (kind, id) = (mark["streamType"].as_str().unwrap(), mark["streamId"].as_str());
    assert_eq!(activity["channelData"]["streamType"], mark["streamType"], "mirrored");
    let Some(id) = id else {
        let is_one = |it: &Message| it.conversation == conversation && it.stream == Stream::Live;
        if state.messages.iter().any(is_one) {
            return stream_fault("another stream is active");
        }
        if text.is_empty() || mark["streamSequence"] != 1 || activity["type"] != "typing" {
            return fault(400, "BadSyntax");
        }
        let id = format!("a-{:05}", state.number());
        state.messages.push(Message {
            id: id.clone(),
            conversation: conversation.to_owned(),
            text: text.to_owned(),
            reply_to: activity["replyToId"].as_str().map(str::to_owned),
            stream: Stream::Live,
            sequence: 1,
            ..Message::default()
        });
        return (StatusCode::CREATED, Json(json!({"id": id}))).into_response();
    };
    let here = |message: &&mut Message| message.id == id && message.conversation == conversation;
    let Some(message) = state.messages.iter_mut().find(here) else {
        return fault(404, "ActivityNotFoundInConversation");
    };
    if message.stream != Stream::Live {
        return stream_fault("content stream finished");
    }
    if !text.starts_with(&message.streamed) {
        return fault(400, "BadArgument");
    }
    if kind == "final" {
        let parts = match parts(activity) {
            Ok(parts) => parts,
            Err(response) => return *response,
        };
        show(message, parts);
        message.stream = Stream::Over;
        message.edits += 1;
        return StatusCode::ACCEPTED.into_response();
    }
    let sequence = mark["streamSequence"].as_u64().unwrap();
    if activity["type"] != "typing" || text.trim().is_empty() {
        return fault(400, "BadSyntax");
    }
    if sequence <= message.sequence {
        let body = json!({"error": {"code": "ContentStreamSequenceOrderPreConditionFailed"}});
        return (StatusCode::ACCEPTED, Json(body)).into_response();
    }
    match kind {
        "informative" if text.chars().count() > 1000 || !message.streamed.is_empty() => {
            return fault(400, "BadArgument");
        }
        "informative" => {}
        "streaming" => text.clone_into(&mut message.streamed),
        _ => return fault(400, "BadArgument"),
    }
    (message.sequence, message.text) = (sequence, text.to_owned());
    message.edits += 1;
    StatusCode::ACCEPTED.into_response()
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
    if let Some(response) = refused(&mut state, &conversation, &headers, next) {
        return response;
    }
    let marks = activity["entities"].as_array().into_iter().flatten();
    let mark = marks.into_iter().find(|it| it["type"] == "streaminfo");
    let is_stream =
        |id: &str| state.messages.iter().any(|it| it.id == id && it.stream != Stream::None);
    let is_taken = mark.is_some_and(|mark| {
        state.lenient && mark["streamId"].as_str().is_some_and(|id| !is_stream(id))
    });
    if let Some(mark) = mark.filter(|_| !is_taken) {
        let response = stream(&mut state, &conversation, &activity, mark);
        return match next {
            Some(Fault::DoneBut504) => fault(504, "GatewayTimeout"),
            _ => response,
        };
    }
    let parts = match parts(&activity) {
        Ok(parts) => parts,
        Err(response) => return *response,
    };
    if parts.offer.is_some() && !conversation.starts_with("a:") {
        return fault(400, "BadSyntax");
    }
    let id = format!("18000000{:05}", state.number());
    let reply_to = activity["replyToId"].as_str().map(str::to_owned);
    let mut message = Message { id: id.clone(), conversation, reply_to, ..Message::default() };
    show(&mut message, parts);
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
    if let Some(response) = refused(&mut state, &conversation, &headers, next) {
        return response;
    }
    let parts = match parts(&activity) {
        Ok(parts) => parts,
        Err(response) => return *response,
    };
    let here = |message: &&mut Message| message.id == id && message.conversation == conversation;
    let Some(message) = state.messages.iter_mut().find(here) else {
        return fault(404, "ActivityNotFoundInConversation");
    };
    if message.stream == Stream::Live {
        return stream_fault("the stream has not ended");
    }
    show(message, parts);
    message.edits += 1;
    if next == Some(Fault::DoneBut504) {
        return fault(504, "GatewayTimeout");
    }
    Json(json!({"id": id})).into_response()
}

/// Room in somebody's drive. It opens to whoever knows its address, and to no token.
async fn drive(
    held: Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> StatusCode {
    let mut state = held.0.0.lock().unwrap();
    assert!(headers.get("authorization").is_none(), "our token goes to no drive");
    let range = headers.get("content-range").unwrap().to_str().unwrap();
    assert_eq!(range, format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len()));
    if let Some(status) = state.drive_faults.pop_front() {
        return StatusCode::from_u16(status).unwrap();
    }
    state.drive.push((name, bytes.to_vec()));
    StatusCode::CREATED
}
