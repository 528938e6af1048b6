//! The Web API: JSON or forms in, `ok` or a word of refusal out.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{any, get, post},
};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::{APP_TOKEN, BOT, BOT_TOKEN, Call, DOWNLOAD, File, Message, Shared, World};

/// Past this an edit's text is refused, in bytes.
const MAX_EDIT: usize = 4000;
/// How many posts a channel takes at once, before it takes one a second.
const BURST: usize = 3;
/// The seconds for which it is counted.
const WINDOW: usize = 4;

type App = State<Arc<Shared>>;

pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/api/{method}", any(call))
        .route("/upload/{id}", post(upload))
        .route("/files/{id}/{name}", get(download))
        .route("/response/{channel}/{who}", post(response))
        .with_state(shared);
    axum::serve(listener, router).await.unwrap();
}

fn token(headers: &HeaderMap) -> String {
    let value = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    value.and_then(|it| it.strip_prefix("Bearer ")).unwrap_or_default().to_owned()
}

/// The arguments of a call: of the address, of a form, or of JSON.
fn arguments(query: &str, headers: &HeaderMap, body: &[u8]) -> Value {
    let form = |text: &[u8], map: &mut Map<String, Value>| {
        for (name, value) in url::form_urlencoded::parse(text) {
            let nested = value.starts_with(['{', '[']).then(|| serde_json::from_str(&value).ok());
            let value = nested.flatten().unwrap_or_else(|| json!(value));
            map.insert(name.into_owned(), value);
        }
    };
    let mut map = Map::new();
    form(query.as_bytes(), &mut map);
    let sort = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    if sort.is_some_and(|it| it.contains("json")) {
        if let Ok(Value::Object(more)) = serde_json::from_slice(body) {
            map.extend(more);
        }
    } else {
        form(body, &mut map);
    }
    Value::Object(map)
}

/// What calls are counted in.
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

async fn call(
    State(shared): App,
    Path(method): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let arguments = arguments(&query.unwrap_or_default(), &headers, &body);
    let answer = answer(&shared, &method, &token(&headers), &arguments);
    let status = answer.status().as_u16();
    let at = shared.clock.elapsed();
    let is_stuck = shared.world().faults.stuck.contains(&method);
    shared.world().calls.push(Call { method, body: arguments, at, status });
    shared.tell();
    if is_stuck {
        std::future::pending::<()>().await;
    }
    answer
}

fn no(word: &str) -> Response {
    axum::Json(json!({ "ok": false, "error": word })).into_response()
}

fn yes(mut answer: Value) -> Response {
    answer["ok"] = json!(true);
    axum::Json(answer).into_response()
}

fn wait(seconds: u64) -> Response {
    let body = axum::Json(json!({ "ok": false, "error": "ratelimited" }));
    let after = [(header::RETRY_AFTER, seconds.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, after, body).into_response()
}

fn answer(shared: &Shared, method: &str, token: &str, arguments: &Value) -> Response {
    let right = if method == "apps.connections.open" { APP_TOKEN } else { BOT_TOKEN };
    if token != right {
        return no("invalid_auth");
    }
    {
        let mut world = shared.world();
        let world = &mut *world;
        if let Some((left, after)) = world.faults.limited.get_mut(method)
            && *left > 0
        {
            *left -= 1;
            return wait(*after);
        }
        if let Some(most) = world.faults.per_minute.get(method) {
            let since = shared.clock.elapsed().saturating_sub(MINUTE);
            let newest = world.calls.iter().rev().take_while(|call| call.at >= since);
            let mut done = newest.filter(|call| call.method == method && call.status != 429);
            if let Some(oldest) = done.nth(most.saturating_sub(1)) {
                return wait((oldest.at - since).as_secs() + 1);
            }
        }
        if let (BOT_TOKEN, Some(word)) = (token, world.faults.bot_refused) {
            return no(word);
        }
        let channel = arguments["channel"].as_str().or(arguments["channel_id"].as_str());
        if let Some(word) = channel.and_then(|channel| world.faults.refused.get(channel)) {
            return no(word);
        }
    }
    let answer = done(shared, method, arguments);
    let mut world = shared.world();
    match world.faults.ambiguous.get_mut(method) {
        Some(left) if *left > 0 => {
            *left -= 1;
            (StatusCode::GATEWAY_TIMEOUT, "too late").into_response()
        }
        _ => answer,
    }
}

fn done(shared: &Shared, method: &str, arguments: &Value) -> Response {
    match method {
        "auth.test" => yes(json!({ "team_id": "T1", "user_id": BOT, "bot_id": "BBOT",
                                   "team": "Fake", "user": "open-dispatch", "url": "https://x/" })),
        "apps.connections.open" => match shared.world().faults.open.pop_front() {
            Some(word) => no(&word),
            None => yes(json!({ "url": format!("{}/?ticket=secret-ticket", shared.ws) })),
        },
        "users.info" => {
            let user = arguments["user"].as_str().unwrap_or_default();
            let name = user.trim_start_matches('U').to_lowercase();
            yes(json!({ "user": { "id": user, "name": name,
                                  "profile": { "display_name": name } } }))
        }
        "chat.postMessage" => post_message(shared, arguments, None),
        "chat.postEphemeral" => post_message(shared, arguments, arguments["user"].as_str()),
        "chat.update" => update(&mut shared.world(), arguments),
        "conversations.history" | "conversations.replies" => history(&shared.world(), arguments),
        "files.getUploadURLExternal" => {
            let mut world = shared.world();
            let length = arguments["length"].as_str().and_then(|it| it.parse::<u64>().ok());
            if length.or(arguments["length"].as_u64()).unwrap_or_default() == 0 {
                return no("missing_argument");
            }
            let id = format!("F{}", world.number());
            let name = arguments["filename"].as_str().unwrap_or_default().to_owned();
            let title = name.clone();
            world.files.insert(id.clone(), File { name, title, bytes: Vec::new() });
            let url = format!("{}/upload/{id}", shared.http);
            yes(json!({ "upload_url": url, "file_id": id }))
        }
        "files.completeUploadExternal" => complete(shared, arguments),
        "files.info" => {
            let id = arguments["file"].as_str().unwrap_or_default();
            let mut world = shared.world();
            let mut file = file(&world, id);
            if world.faults.untold_shares > 0 {
                world.faults.untold_shares -= 1;
                file["shares"] = json!({});
            }
            yes(json!({ "file": file }))
        }
        _ => no("unknown_method"),
    }
}

/// Blocks that Slack would refuse.
fn bad_blocks(blocks: &Value) -> bool {
    let length = |value: &Value| value.as_str().unwrap_or_default().chars().count();
    let blocks = blocks.as_array().cloned().unwrap_or_default();
    blocks.len() > 50
        || blocks.iter().any(|block| {
            let buttons = block["elements"].as_array().cloned().unwrap_or_default();
            length(&block["text"]["text"]) > 3000
                || buttons.len() > 25
                || buttons.iter().any(|button| {
                    length(&button["text"]["text"]) > 75 || length(&button["value"]) > 2000
                })
        })
}

fn post_message(shared: &Shared, arguments: &Value, only_for: Option<&str>) -> Response {
    let text = arguments["text"].as_str().unwrap_or_default();
    let channel = arguments["channel"].as_str().unwrap_or_default().to_owned();
    if text.is_empty() {
        return no("no_text");
    }
    if bad_blocks(&arguments["blocks"]) {
        return no("invalid_blocks");
    }
    let now = shared.clock.elapsed();
    let recent = shared
        .world()
        .calls
        .iter()
        .filter(|call| call.method == "chat.postMessage" && call.body["channel"] == json!(channel))
        .filter(|call| call.status == 200 && (now - call.at).as_secs_f64() < WINDOW as f64)
        .count();
    if recent >= BURST + WINDOW {
        return wait(1);
    }
    let ts = shared.ts();
    let message = Message {
        ts: ts.clone(),
        thread: arguments["thread_ts"].as_str().map(str::to_owned),
        user: BOT.to_owned(),
        text: text.to_owned(),
        blocks: arguments["blocks"].clone(),
        metadata: arguments["metadata"].clone(),
        edits: 0,
        files: Vec::new(),
        only_for: only_for.map(str::to_owned),
    };
    shared.world().channels.entry(channel.clone()).or_default().push(message);
    match only_for {
        Some(_) => yes(json!({ "message_ts": ts })),
        None => yes(json!({ "channel": channel, "ts": ts,
                            "message": { "type": "message", "text": text, "ts": ts } })),
    }
}

fn update(world: &mut World, arguments: &Value) -> Response {
    let text = arguments["text"].as_str().unwrap_or_default();
    let (channel, ts) = (arguments["channel"].as_str(), arguments["ts"].as_str());
    let messages = channel.and_then(|channel| world.channels.get_mut(channel));
    let message = messages
        .and_then(|messages| messages.iter_mut().find(|message| Some(message.ts.as_str()) == ts));
    let Some(message) = message else { return no("message_not_found") };
    if message.user != BOT || message.only_for.is_some() {
        return no("cant_update_message");
    }
    if text.len() > MAX_EDIT {
        return no("msg_too_long");
    }
    if text.is_empty() {
        return no("no_text");
    }
    if bad_blocks(&arguments["blocks"]) {
        return no("invalid_blocks");
    }
    message.text = text.to_owned();
    // What an edit does not name stays.
    if !arguments["blocks"].is_null() {
        message.blocks = arguments["blocks"].clone();
    }
    if !arguments["metadata"].is_null() {
        message.metadata = arguments["metadata"].clone();
    }
    message.edits += 1;
    yes(json!({ "channel": channel, "ts": ts, "text": text, "message": { "text": text } }))
}

fn history(world: &World, arguments: &Value) -> Response {
    let channel = arguments["channel"].as_str().unwrap_or_default();
    let thread = arguments["ts"].as_str();
    let oldest = arguments["oldest"].as_str().unwrap_or_default();
    let latest = arguments["latest"].as_str().unwrap_or("9999999999");
    let inclusive =
        arguments["inclusive"] == json!("true") || arguments["inclusive"] == json!(true);
    let within =
        |ts: &str| (ts > oldest && ts < latest) || (inclusive && (ts == oldest || ts == latest));
    let messages = world.channels.get(channel).cloned().unwrap_or_default();
    let all = arguments["include_all_metadata"] == json!("true")
        || arguments["include_all_metadata"] == json!(true);
    let mut found: Vec<Value> = messages
        .iter()
        .filter(|message| message.only_for.is_none())
        .filter(|message| match thread {
            // The first of a thread comes whatever is asked for.
            Some(ts) => {
                message.ts == ts || (message.thread.as_deref() == Some(ts) && within(&message.ts))
            }
            None => message.thread.is_none() && within(&message.ts),
        })
        .map(|message| {
            let mut shown = json!({ "type": "message", "user": message.user, "ts": message.ts,
                                    "text": message.text });
            if all && !message.metadata.is_null() {
                shown["metadata"] = message.metadata.clone();
            }
            if let Some(thread) = &message.thread {
                shown["thread_ts"] = json!(thread);
            }
            if !message.files.is_empty() {
                shown["files"] = message.files.iter().map(|id| file(world, id)).collect();
            }
            shown
        })
        .collect();
    if thread.is_none() {
        found.reverse();
    }
    // Small pages, so that whoever looks has to turn them.
    let start: usize =
        arguments["cursor"].as_str().and_then(|it| it.parse().ok()).unwrap_or_default();
    let limit = arguments["limit"].as_str().and_then(|it| it.parse().ok()).unwrap_or(3).min(3);
    let page: Vec<Value> = found.iter().skip(start).take(limit).cloned().collect();
    let next = start + page.len();
    let cursor = if next < found.len() { next.to_string() } else { String::new() };
    yes(json!({ "messages": page, "has_more": !cursor.is_empty(),
                "response_metadata": { "next_cursor": cursor } }))
}

/// A file, as the API tells of it.
pub fn file(world: &World, id: &str) -> Value {
    let File { name, title, bytes } = world.files.get(id).cloned().unwrap_or_default();
    let url = format!("{}/files/{id}/file", world.http);
    let mut shares = Map::new();
    for (channel, messages) in &world.channels {
        for message in messages.iter().filter(|message| message.files.iter().any(|it| it == id)) {
            shares.insert(channel.clone(), json!([{ "ts": message.ts }]));
        }
    }
    json!({ "id": id, "name": name, "title": title, "mimetype": "text/plain", "size": bytes.len(),
            "mode": "hosted", "url_private": url, "url_private_download": url,
            "shares": { "public": shares } })
}

fn complete(shared: &Shared, arguments: &Value) -> Response {
    let channel = arguments["channel_id"].as_str().unwrap_or_default().to_owned();
    let listed = arguments["files"].as_array().cloned().unwrap_or_default();
    let ids: Vec<String> =
        listed.iter().filter_map(|file| Some(file["id"].as_str()?.to_owned())).collect();
    let whole =
        |id: &String| shared.world().files.get(id).is_some_and(|file| !file.bytes.is_empty());
    if ids.is_empty() || !ids.iter().all(whole) {
        return no("file_not_found");
    }
    let message = Message {
        ts: shared.ts(),
        thread: arguments["thread_ts"].as_str().map(str::to_owned),
        user: BOT.to_owned(),
        text: arguments["initial_comment"].as_str().unwrap_or_default().to_owned(),
        blocks: json!([]),
        metadata: Value::Null,
        edits: 0,
        files: ids.clone(),
        only_for: None,
    };
    let mut world = shared.world();
    for said in &listed {
        if let (Some(id), Some(title)) = (said["id"].as_str(), said["title"].as_str())
            && let Some(file) = world.files.get_mut(id)
        {
            file.title = title.to_owned();
        }
    }
    world.channels.entry(channel).or_default().push(message);
    let files: Vec<Value> = ids.iter().map(|id| file(&world, id)).collect();
    yes(json!({ "files": files }))
}

/// A file comes as it is, or as the only part of a form: the official client sends it so.
fn part(headers: &HeaderMap, bytes: &[u8]) -> Vec<u8> {
    let sort = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let boundary = sort.and_then(|it| it.strip_prefix("multipart/form-data; boundary="));
    let Some(boundary) = boundary else { return bytes.to_vec() };
    let find = |what: &str| bytes.windows(what.len()).position(|it| it == what.as_bytes());
    let start = find("\r\n\r\n").map_or(0, |at| at + 4);
    let end = find(&format!("\r\n--{boundary}--")).unwrap_or(bytes.len());
    bytes[start..end].to_vec()
}

async fn upload(
    State(shared): App,
    Path(id): Path<String>,
    headers: HeaderMap,
    bytes: Bytes,
) -> StatusCode {
    let mut world = shared.world();
    match world.files.get_mut(&id) {
        Some(file) => {
            file.bytes = part(&headers, &bytes);
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}

async fn download(
    State(shared): App,
    Path((id, _)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if token(&headers) != BOT_TOKEN {
        // As Slack does: its log-in page.
        return axum::response::Html("<html>log in</html>").into_response();
    }
    let call = Call {
        method: DOWNLOAD.to_owned(),
        body: json!(id),
        at: shared.clock.elapsed(),
        status: 200,
    };
    shared.world().calls.push(call);
    shared.tell();
    while shared.world().faults.stuck.contains(DOWNLOAD) {
        shared.clock.sleep(std::time::Duration::from_millis(10)).await;
    }
    match shared.world().files.get(&id) {
        Some(file) => file.bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// An answer at the address that came with a command or a press.
async fn response(
    State(shared): App,
    Path((channel, who)): Path<(String, String)>,
    body: Bytes,
) -> StatusCode {
    let Ok(said) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_REQUEST };
    if let Some(status) = shared.world().faults.unanswered.pop_front() {
        return StatusCode::from_u16(status).unwrap();
    }
    let message = Message {
        ts: shared.ts(),
        thread: None,
        user: BOT.to_owned(),
        text: said["text"].as_str().unwrap_or_default().to_owned(),
        blocks: said["blocks"].clone(),
        metadata: Value::Null,
        edits: 0,
        files: Vec::new(),
        only_for: (said["response_type"] != json!("in_channel")).then_some(who),
    };
    shared.world().channels.entry(channel).or_default().push(message);
    shared.tell();
    StatusCode::OK
}
