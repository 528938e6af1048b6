//! The API, as far as a bot for commands needs it, and the files of the CDN.

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::State as Shared,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use open_dispatch::ambient::Ambient;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Discord, GUILD, ME, Message, TOKEN, WHISPERED, about};

/// Posts and edits that a channel takes in a second.
const PER_SECOND: u32 = 5;
/// Calls that a bot may make in a second.
const OF_THE_BOT: u32 = 50;

pub(super) async fn serve(fake: Discord, listener: TcpListener) {
    let router = Router::new().fallback(answer).with_state(fake);
    axum::serve(listener, router).await.unwrap();
}

fn refused(status: u16, code: u64, message: &str) -> Response {
    reply(status, json!({"code": code, "message": message}))
}

fn reply(status: u16, body: Value) -> Response {
    let limits = [
        ("x-ratelimit-bucket", "a-bucket"),
        ("x-ratelimit-limit", "50"),
        ("x-ratelimit-remaining", "49"),
        ("x-ratelimit-reset-after", "0.100"),
    ];
    (StatusCode::from_u16(status).unwrap(), limits, axum::Json(body)).into_response()
}

async fn answer(
    Shared(fake): Shared<Discord>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    if let Some(file) = path.strip_prefix("/cdn/") {
        fake.state().calls.push(format!("GET cdn/{file}"));
        fake.ring();
        fake.until("files come", |fake| (!fake.state().faults.hang_files).then_some(())).await;
        let bytes = fake.state().cdn.get(file).cloned();
        return bytes.map_or(StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response);
    }
    let Some(path) = path.strip_prefix("/api/v10/") else {
        return refused(404, 0, "404: Not Found");
    };
    fake.state().calls.push(format!("{method} {path}"));
    fake.ring();
    // Clients may encode `@original`.
    let path = path.replace("%40", "@");
    let parts: Vec<&str> = path.split('/').collect();
    let by_token = matches!(parts.as_slice(), ["interactions" | "webhooks", ..]);
    let says = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !by_token && says != Some(&format!("Bot {TOKEN}")) {
        return refused(401, 0, "401: Unauthorized");
    }
    if let ["channels", channel, ..] = parts.as_slice()
        && fake.state().faults.gone.contains(*channel)
    {
        return refused(404, 10_003, "Unknown Channel");
    }
    if let Some(answer) = stopped(&fake, by_token).or_else(|| too_many(&fake, by_token)) {
        return answer;
    }
    if matches!(parts.as_slice(), ["channels" | "webhooks", ..]) {
        let mut state = fake.state();
        if state.faults.too_many.0 > 0 {
            state.faults.too_many.0 -= 1;
            let wait = state.faults.too_many.1;
            return reply(
                429,
                json!({"message": "You are being rate limited.", "retry_after": wait, "global": false}),
            );
        }
    }
    if let ["channels", channel, "messages", ..] = parts.as_slice()
        && method != Method::GET
        && fake.state().faults.buckets
    {
        let (left, reset) = counted(&fake, channel, PER_SECOND);
        let limits = |left: u32| {
            let left = left.to_string();
            let reset = format!("{:.3}", reset.as_secs_f64());
            [
                ("x-ratelimit-bucket", "messages".to_owned()),
                ("x-ratelimit-limit", PER_SECOND.to_string()),
                ("x-ratelimit-remaining", left),
                ("x-ratelimit-reset-after", reset),
            ]
        };
        let Some(left) = left else {
            let told = json!({"message": "You are being rate limited.",
                "retry_after": reset.as_secs_f64(), "global": false});
            return (StatusCode::TOO_MANY_REQUESTS, limits(0), axum::Json(told)).into_response();
        };
        let (body, file) = read(&headers, &body);
        let mut answer = route(&fake, &method, &parts, "", &body, file);
        for (name, value) in limits(left) {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        fake.ring();
        return answer;
    }
    let (body, file) = read(&headers, &body);
    let query = uri.query().unwrap_or_default();
    let answer = route(&fake, &method, &parts, query, &body, file);
    fake.ring();
    answer
}

/// The answer to a call while nothing may be asked.
fn stopped(fake: &Discord, by_token: bool) -> Option<Response> {
    let now = Ambient::real().clock.elapsed();
    let mut state = fake.state();
    let begins = |seconds: f64| now + Duration::from_secs_f64(seconds);
    let mut is_new = false;
    if let Some(seconds) = state.faults.closed.take() {
        (state.closed_until, is_new) = (begins(seconds), true);
    }
    if !by_token && let Some(seconds) = state.faults.shut.take() {
        (state.shut_until, is_new) = (begins(seconds), true);
    }
    let is_closed = state.closed_until > now;
    let until =
        if by_token { state.closed_until } else { state.closed_until.max(state.shut_until) };
    if until <= now {
        return None;
    }
    state.too_many += usize::from(!is_new);
    let wait = format!("{:.3}", (until - now).as_secs_f64());
    let status = StatusCode::TOO_MANY_REQUESTS;
    let headers = [("retry-after", wait)];
    Some(match is_closed {
        true => (status, headers, "<html>slow down</html>").into_response(),
        false => {
            let told = axum::Json(json!({"message": "You are being rate limited."}));
            (status, headers, [("x-ratelimit-global", "true")], told).into_response()
        }
    })
}

/// The answer to a call of a bot that makes too many, where limits hold.
fn too_many(fake: &Discord, by_token: bool) -> Option<Response> {
    if by_token || !fake.state().faults.buckets {
        return None;
    }
    let (None, reset) = counted(fake, "", OF_THE_BOT) else { return None };
    let wait = reset.as_secs_f64();
    let told =
        json!({"message": "You are being rate limited.", "retry_after": wait, "global": true});
    let headers = [("retry-after", format!("{wait:.3}")), ("x-ratelimit-global", "true".into())];
    Some((StatusCode::TOO_MANY_REQUESTS, headers, axum::Json(told)).into_response())
}

/// Counts a call to a channel, or of the bot: how many are left in this second, none for one too many, and when
/// the second is over.
fn counted(fake: &Discord, channel: &str, most: u32) -> (Option<u32>, Duration) {
    let now = Ambient::real().clock.elapsed();
    let mut state = fake.state();
    let (began, made) = state.buckets.entry(channel.to_owned()).or_default();
    if now >= *began + Duration::from_secs(1) {
        (*began, *made) = (now, 0);
    }
    let reset = (*began + Duration::from_secs(1)).saturating_sub(now);
    if *made >= most {
        state.too_many += 1;
        return (None, reset);
    }
    *made += 1;
    (Some(most - *made), reset)
}

fn route(
    fake: &Discord,
    method: &Method,
    parts: &[&str],
    query: &str,
    body: &Value,
    file: Option<(String, Vec<u8>)>,
) -> Response {
    match (method.as_str(), parts) {
        ("GET", ["gateway", "bot"]) if fake.state().faults.no_gateway => {
            refused(500, 0, "500: Internal Server Error")
        }
        ("GET", ["gateway", ..]) => reply(
            200,
            json!({"url": fake.ws, "shards": fake.state().faults.shards, "session_start_limit":
                {"total": 1000, "remaining": fake.state().faults.starts, "reset_after": 90_000, "max_concurrency": 1}}),
        ),
        ("PUT", ["applications", _, "commands"] | ["applications", _, "guilds", _, "commands"]) => {
            fake.state().commands = Some(body.clone());
            reply(200, body.clone())
        }
        ("POST", ["users", "@me", "channels"]) => {
            let id = format!("{WHISPERED}{}", body["recipient_id"].as_str().unwrap());
            fake.state().direct.insert(id.clone());
            reply(200, json!({"id": id, "type": 1, "recipients": []}))
        }
        ("GET", ["channels", channel]) => {
            let state = fake.state();
            reply(200, about(&state, channel))
        }
        ("GET", ["channels", _, "messages", ..]) if fake.state().faults.no_history.is_some() => {
            let status = fake.state().faults.no_history.unwrap();
            refused(status, if status == 403 { 50_013 } else { 0 }, "Missing Permissions")
        }
        ("GET", ["channels", _, "messages", id]) => {
            let found = fake.all().into_iter().find(|message| message.id == *id);
            let unknown = || refused(404, 10_008, "Unknown Message");
            found.map_or_else(unknown, |message| reply(200, fake.shown(&message)))
        }
        // As Discord does, without the nonces: they are lost once a message was sent.
        ("GET", ["channels", channel, "messages"]) => {
            let asked = |name: &str| {
                let value = query.split('&').find_map(|part| part.strip_prefix(name));
                value.and_then(|value| value.parse::<u64>().ok())
            };
            let (after, before) = (asked("after="), asked("before="));
            let is_asked = |message: &Message| {
                let id = message.id.parse::<u64>().unwrap();
                message.channel == *channel
                    && after.is_none_or(|after| id > after)
                    && before.is_none_or(|before| id < before)
            };
            let most = usize::try_from(asked("limit=").unwrap_or(50)).unwrap();
            let mut all: Vec<Message> = fake.all().into_iter().filter(is_asked).collect();
            // Those next to what was asked for, the newest first.
            match after {
                Some(_) => all.truncate(most),
                None => drop(all.drain(..all.len().saturating_sub(most))),
            }
            reply(200, all.iter().rev().map(|message| fake.shown(message)).collect())
        }
        ("POST" | "PATCH", ["channels", _, "messages", ..])
            if fake.state().faults.shut_out.is_some() =>
        {
            let code = fake.state().faults.shut_out.unwrap();
            refused(403, code, "Missing Access")
        }
        ("POST", ["channels", _, "messages"])
            if file.is_some() && fake.state().faults.no_uploads =>
        {
            refused(504, 0, "504: Gateway Timeout")
        }
        ("POST", ["channels", channel, "messages"]) => post(fake, channel, body, file),
        ("PATCH", ["channels", _, "messages", id]) => edit(fake, id, body),
        ("POST", ["interactions", id, token, "callback"]) => callback(fake, id, token, body),
        ("PATCH", ["webhooks", _, token, "messages", "@original"]) => match original(fake, token) {
            Ok(id) => edit(fake, &id, body),
            Err(response) => *response,
        },
        ("DELETE", ["webhooks", _, token, "messages", "@original"]) => {
            match original(fake, token) {
                Ok(id) => {
                    fake.state().messages.retain(|message| message.id != id);
                    StatusCode::NO_CONTENT.into_response()
                }
                Err(response) => *response,
            }
        }
        ("POST", ["webhooks", _, token]) => followup(fake, token, body),
        _ => refused(404, 0, "404: Not Found"),
    }
}

/// What Discord does not take in a message.
fn wrong(body: &Value, has_file: bool) -> Option<Response> {
    let text = body["content"].as_str().unwrap_or_default();
    let invalid = |what: &str| {
        Some(reply(400, json!({"code": 50_035, "message": "Invalid Form Body", "errors": what})))
    };
    if text.chars().count() > 2_000 {
        return invalid("content: Must be 2000 or fewer in length.");
    }
    if text.is_empty() && !has_file {
        return Some(refused(400, 50_006, "Cannot send an empty message"));
    }
    if body["allowed_mentions"]["parse"].as_array().is_none_or(|all| !all.is_empty()) {
        return invalid("the fake: people could be pinged");
    }
    let rows = body["components"].as_array().cloned().unwrap_or_default();
    let ids: Vec<Value> = rows
        .iter()
        .flat_map(|row| row["components"].as_array().cloned().unwrap_or_default())
        .map(|button| button["custom_id"].clone())
        .collect();
    let long = ids.iter().any(|id| id.as_str().is_none_or(|id| id.chars().count() > 100));
    let twice = ids.iter().enumerate().any(|(n, id)| ids[..n].contains(id));
    let wide =
        rows.len() > 5 || rows.iter().any(|row| row["components"].as_array().unwrap().len() > 5);
    if long || twice || wide {
        return invalid("components");
    }
    let nonce = body["nonce"].as_str().unwrap_or_default();
    if nonce.len() > 25 {
        return invalid("nonce: Must be 25 or fewer in length.");
    }
    None
}

fn post(fake: &Discord, channel: &str, body: &Value, file: Option<(String, Vec<u8>)>) -> Response {
    if let Some(wrong) = wrong(body, file.is_some()) {
        return wrong;
    }
    let nonce = body["nonce"].as_str().map(ToOwned::to_owned);
    let same = |message: &Message| nonce.is_some() && message.nonce == nonce;
    let enforced = body["enforce_nonce"] == true && !fake.state().faults.forget_nonces;
    let known = fake.all().into_iter().find(same).filter(|_| enforced);
    let message = match known {
        Some(message) => message,
        None => {
            let message = Message {
                id: fake.fresh(),
                channel: channel.to_owned(),
                author: ME.to_owned(),
                text: body["content"].as_str().unwrap_or_default().to_owned(),
                components: components(body).unwrap_or_else(|| json!([])),
                files: file.into_iter().collect(),
                nonce: nonce.clone(),
                only_for: None,
                reply_to: body["message_reference"]["message_id"].as_str().map(ToOwned::to_owned),
                edits: 0,
                at: Ambient::real().clock.now(),
                kind: 0,
            };
            fake.state().messages.push(message.clone());
            // The bot hears itself, with its nonce.
            let mut event = fake.shown(&message);
            event["nonce"] = nonce.clone().into();
            event["guild_id"] = GUILD.into();
            fake.dispatch("MESSAGE_CREATE", &event);
            message
        }
    };
    let mut shown = fake.shown(&message);
    shown["nonce"] = nonce.into();
    let is_lost = {
        let mut state = fake.state();
        let is_lost = state.faults.lost_answers > 0;
        state.faults.lost_answers = state.faults.lost_answers.saturating_sub(1);
        is_lost
    };
    if is_lost {
        return refused(504, 0, "504: Gateway Timeout");
    }
    reply(200, shown)
}

fn edit(fake: &Discord, id: &str, body: &Value) -> Response {
    if let Some(wrong) = wrong(body, false) {
        return wrong;
    }
    let mut state = fake.state();
    let Some(message) = state.messages.iter_mut().find(|message| message.id == id) else {
        return refused(404, 10_008, "Unknown Message");
    };
    if let Some(text) = body["content"].as_str() {
        message.text = text.to_owned();
    }
    // What an edit does not name stays.
    if let Some(components) = components(body) {
        message.components = components;
    }
    message.edits += 1;
    let message = message.clone();
    drop(state);
    reply(200, fake.shown(&message))
}

/// The message that an interaction has, while its token is good.
fn original(fake: &Discord, token: &str) -> Result<String, Box<Response>> {
    let state = fake.state();
    let interaction = state.interactions.get(token).filter(|it| !it.expired);
    let Some(interaction) = interaction else {
        return Err(Box::new(refused(401, 50_027, "Invalid Webhook Token")));
    };
    let original = interaction.original.clone();
    original.ok_or_else(|| Box::new(refused(404, 10_015, "Unknown Webhook")))
}

fn callback(fake: &Discord, id: &str, token: &str, body: &Value) -> Response {
    let kind = u8::try_from(body["type"].as_u64().unwrap()).unwrap();
    let known = fake.state().interactions.get(token).cloned();
    let Some(mut interaction) = known.filter(|it| it.id == id && !it.expired) else {
        return refused(404, 10_062, "Unknown interaction");
    };
    if interaction.answered.is_some() {
        return refused(400, 40_060, "Interaction has already been acknowledged.");
    }
    let fits = match interaction.kind {
        2 => matches!(kind, 4 | 5),
        3 => matches!(kind, 4..=7),
        _ => kind == 8,
    };
    if !fits {
        return refused(400, 50_035, "Invalid Form Body");
    }
    interaction.answered = Some(kind);
    let choices = body["data"]["choices"].as_array().into_iter().flatten();
    interaction.choices = choices.map(|it| it["value"].as_str().unwrap().to_owned()).collect();
    interaction.ephemeral = body["data"]["flags"].as_u64().unwrap_or_default() & 64 != 0;
    if matches!(kind, 4 | 5) {
        let message = Message {
            id: fake.fresh(),
            channel: interaction.channel.clone(),
            author: ME.to_owned(),
            text: body["data"]["content"].as_str().unwrap_or_default().to_owned(),
            components: json!([]),
            files: Vec::new(),
            nonce: None,
            only_for: interaction.ephemeral.then(|| interaction.who.clone()),
            reply_to: None,
            edits: 0,
            at: Ambient::real().clock.now(),
            kind: 0,
        };
        interaction.original = Some(message.id.clone());
        fake.state().messages.push(message);
    }
    fake.state().interactions.insert(token.to_owned(), interaction);
    StatusCode::NO_CONTENT.into_response()
}

fn followup(fake: &Discord, token: &str, body: &Value) -> Response {
    let known = fake.state().interactions.get(token).cloned();
    let Some(interaction) = known.filter(|it| !it.expired && it.answered.is_some()) else {
        return refused(401, 50_027, "Invalid Webhook Token");
    };
    let ephemeral = body["flags"].as_u64().unwrap_or_default() & 64 != 0;
    let message = Message {
        id: fake.fresh(),
        channel: interaction.channel,
        author: ME.to_owned(),
        text: body["content"].as_str().unwrap_or_default().to_owned(),
        components: components(body).unwrap_or_else(|| json!([])),
        files: Vec::new(),
        nonce: None,
        only_for: ephemeral.then_some(interaction.who),
        reply_to: None,
        edits: 0,
        at: Ambient::real().clock.now(),
        kind: 0,
    };
    fake.state().messages.push(message.clone());
    reply(200, fake.shown(&message))
}

fn components(body: &Value) -> Option<Value> {
    body["components"].is_array().then(|| body["components"].clone())
}

/// The JSON of a call, and its file.
fn read(headers: &HeaderMap, body: &Bytes) -> (Value, Option<(String, Vec<u8>)>) {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let Some(boundary) = kind.and_then(|kind| kind.strip_prefix("multipart/form-data; boundary="))
    else {
        return (serde_json::from_slice(body).unwrap_or(Value::Null), None);
    };
    let (mut json, mut file) = (Value::Null, None);
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|it| it == what);
    let mark = format!("--{boundary}").into_bytes();
    let mut rest = &body[..];
    while let Some(at) = find(rest, &mark) {
        rest = &rest[at + mark.len()..];
        let end = find(rest, &mark).unwrap_or(rest.len());
        let part = &rest[..end];
        let Some(split) = find(part, b"\r\n\r\n") else { break };
        let head = String::from_utf8_lossy(&part[..split]).into_owned();
        let bytes = &part[split + 4..part.len().saturating_sub(2)];
        if head.contains("name=\"payload_json\"") {
            json = serde_json::from_slice(bytes).unwrap();
        } else if let Some((_, name)) = head.split_once("filename=\"") {
            file = Some((name.split('"').next().unwrap().to_owned(), bytes.to_vec()));
        }
    }
    (json, file)
}
