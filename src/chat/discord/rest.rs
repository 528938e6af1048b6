//! Calls to Discord's HTTP API: paced, repeated where that is safe, and told apart when they fail.
//!
//! serenity keeps `Retry-After` to itself once its own limiter is off, and its limiter cannot be
//! pointed elsewhere; so all calls are made here, and serenity holds the socket alone.
//!
//! What a failure means is decided in one place ([`Failure::of`]). A call that was never sent did
//! nothing; one whose answer was lost may have done it; a channel or message that is gone stays
//! gone. The token stands in a header and interaction tokens stand in addresses; neither comes
//! into an error.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::{
    form::Form,
    pace::{Limits, Route, Told, Whose},
};
use crate::{ambient::Clock, chat::platform, store::files::MAX_FILE_BYTES};

/// The version of the API.
const VERSION: &str = "v10";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a file may take to go up.
pub(super) const UPLOAD: Duration = Duration::from_secs(120);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call waits for its turn by itself; beyond that, the caller decides.
const WAIT: Duration = Duration::from_secs(3);
/// How often a call is made again that was too much.
const TRIES: u32 = 3;
/// How long to wait where Discord does not say.
const SOME_TIME: Duration = Duration::from_secs(5);
/// How long an old message that was edited too often rests, where Discord does not say.
const OLD_MESSAGE: Duration = Duration::from_secs(60);

/// What a call carries.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(Value),
    /// JSON and a file.
    Form(Form),
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) route: Route,
    /// Behind the version, without a slash in front.
    pub(super) path: String,
    pub(super) body: Body,
    /// Whether an interaction's token in the path says who we are: then the bot's does not.
    pub(super) by_token: bool,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The interaction cannot be answered any more.
    Expired,
    /// The interaction was answered before.
    Answered,
    /// Discord does not know our token.
    Token,
    /// We may not do this there, until a person mends it: what is wrong, and the mend.
    Shut(String),
    /// All else.
    Other(platform::Error),
}

impl From<Failure> for platform::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Expired | Failure::Answered => {
                Self::Rejected("the interaction can be answered no more".to_owned())
            }
            // It goes on once the token is mended.
            Failure::Token => Self::Unreachable(
                "Discord refuses the bot's token; reset it on the application's page Bot, and set \
                 DISCORD_BOT_TOKEN anew"
                    .to_owned(),
            ),
            // And once we may.
            Failure::Shut(why) => Self::Unreachable(why),
            Failure::Other(error) => error,
        }
    }
}

impl Failure {
    /// What a refusal means, by its status and its body.
    fn of(status: StatusCode, body: &Value, call: &Call) -> Self {
        let code = body["code"].as_u64().unwrap_or_default();
        let said = body["message"].as_str().unwrap_or_default();
        let gone = |what: &str| Self::Other(platform::Error::Gone(what.to_owned()));
        let shut = |why: &str| Self::Shut(why.to_owned());
        let rejected = |what: String| Self::Other(platform::Error::Rejected(what));
        match code {
            10_062 | 10_015 | 50_027 => Self::Expired,
            40_060 => Self::Answered,
            10_003 => gone("the channel"),
            10_008 => gone("the message"),
            50_001 => shut(
                "the bot may not see this channel; give it View Channel and Send Messages there",
            ),
            50_007 => rejected("this person takes no direct messages from us".to_owned()),
            50_013 => shut(
                "the bot lacks a permission in this channel; give it Send Messages, Send Messages \
                 in Threads, Attach Files and Read Message History",
            ),
            160_002 => shut("the bot may not reply here; give it Read Message History"),
            50_083 => shut("this thread is in the archive; say something in it"),
            160_005 => shut("this thread is locked; unlock it, or give the bot Manage Threads"),
            40_005 => rejected("the file is larger than Discord takes".to_owned()),
            30_046 => {
                Self::Other(platform::Error::RateLimited(retry_after(body).unwrap_or(OLD_MESSAGE)))
            }
            _ if status == StatusCode::UNAUTHORIZED && !call.by_token => Self::Token,
            _ if status == StatusCode::UNAUTHORIZED => Self::Expired,
            _ if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => Self::Other(
                platform::Error::Ambiguous(format!("Discord answered {}", status.as_u16())),
            ),
            _ => {
                let errors = body.get("errors").map(Value::to_string).unwrap_or_default();
                let errors: String = errors.chars().take(300).collect();
                rejected(
                    format!("{} {code} {said} {errors}", status.as_u16()).trim_end().to_owned(),
                )
            }
        }
    }
}

/// Discord's HTTP API.
pub(super) struct Rest {
    http: reqwest::Client,
    api: Url,
    is_discords: bool,
    token: SecretString,
    clock: Arc<dyn Clock>,
    limits: Mutex<Limits>,
}

impl Rest {
    /// The API at an address. Redirects are not followed: nobody is asked but who was named.
    ///
    /// # Errors
    /// A system without what TLS needs.
    pub(super) fn new(
        api: Url,
        is_discords: bool,
        token: SecretString,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let agent = concat!(
            "DiscordBot (https://github.com/open-dispatch/open-dispatch, ",
            env!("CARGO_PKG_VERSION"),
            ")"
        );
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(PATIENCE)
            .user_agent(agent);
        // A machine's proxy is for the world beyond it.
        let http = if is_discords { http } else { http.no_proxy() };
        let http = http.build().map_err(|error| format!("cannot speak HTTPS: {error}"))?;
        Ok(Self { http, api, is_discords, token, clock, limits: Mutex::default() })
    }

    /// Makes a call and answers with what it said; null where that is nothing.
    ///
    /// # Errors
    /// Why it failed; see [`Failure`].
    pub(super) async fn call(&self, call: &Call) -> Result<Value, Failure> {
        let mut tries = 0;
        let mut waited = Duration::ZERO;
        loop {
            let turn = self.limits().take(&call.route, call.by_token, self.clock.elapsed());
            if let Err(wait) = turn {
                if waited + wait > WAIT {
                    return Err(Failure::Other(platform::Error::RateLimited(wait)));
                }
                waited += wait;
                self.clock.sleep(wait).await;
                continue;
            }
            let (status, body, headers) = self.send(call).await?;
            let now = self.clock.elapsed();
            if let Some(told) = told(&headers) {
                self.limits().told(&call.route, told, now);
            }
            if status.is_success() {
                return Ok(body);
            }
            let scope = headers.get("x-ratelimit-scope").and_then(|scope| scope.to_str().ok());
            let counts = match status {
                StatusCode::TOO_MANY_REQUESTS => scope != Some("shared"),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
                _ => false,
            };
            if counts {
                self.limits().refused(now);
            }
            if status == StatusCode::TOO_MANY_REQUESTS && body["code"].as_u64() != Some(30_046) {
                let header = headers.get(header::RETRY_AFTER).and_then(|it| it.to_str().ok());
                let header = header.and_then(|it| it.parse().ok()).and_then(seconds);
                let wait = retry_after(&body).max(header).unwrap_or(SOME_TIME);
                let is_global =
                    body["global"] == true || headers.contains_key("x-ratelimit-global");
                let whose = match is_global {
                    true => Whose::Bot,
                    // Discord itself answers with JSON.
                    false if body.is_null() => Whose::Address,
                    false => Whose::Bucket,
                };
                self.limits().too_many(&call.route, wait, whose, now);
                tries += 1;
                if tries >= TRIES {
                    return Err(Failure::Other(platform::Error::RateLimited(wait)));
                }
                continue;
            }
            return Err(Failure::of(status, &body, call));
        }
    }

    async fn send(&self, call: &Call) -> Result<(StatusCode, Value, header::HeaderMap), Failure> {
        let url = format!("{}/{VERSION}/{}", self.api.as_str().trim_end_matches('/'), call.path);
        let mut request = self.http.request(call.method.clone(), url);
        if !call.by_token {
            let value = format!("Bot {}", self.token.expose_secret());
            let mut value = header::HeaderValue::try_from(value).map_err(|_| Failure::Token)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request = match &call.body {
            Body::None => request,
            Body::Json(body) => request.json(body),
            Body::Form(form) => {
                let bytes = form.bytes();
                request
                    .timeout(UPLOAD)
                    .header(header::CONTENT_TYPE, form.content_type())
                    .body(bytes)
            }
        };
        let response = request.send().await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.map_err(failed)?;
        // What stands between us and Discord answers with pages now and then.
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok((status, body, headers))
    }

    /// Begins to fetch a file that somebody attached. Asked only from where Discord keeps them.
    ///
    /// # Errors
    /// Why it cannot be had, for people.
    pub(super) async fn fetch(&self, url: &str) -> Result<reqwest::Response, String> {
        let url = Url::parse(url).map_err(|_| "its address cannot be read".to_owned())?;
        if !self.keeps_files(&url) {
            return Err(format!("{} is no place of Discord's", url.host_str().unwrap_or("?")));
        }
        let response = self.http.get(url).timeout(4 * PATIENCE).send().await;
        let response = response.map_err(|error| error.without_url().to_string())?;
        if !response.status().is_success() {
            return Err(format!("Discord answered {}", response.status().as_u16()));
        }
        if response.content_length().is_some_and(|length| length > MAX_FILE_BYTES) {
            return Err(format!("it is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024));
        }
        Ok(response)
    }

    /// Discord's own places, and whatever stands in the place of its API.
    fn keeps_files(&self, url: &Url) -> bool {
        let is_discords =
            matches!(url.host_str(), Some("cdn.discordapp.com" | "media.discordapp.net"));
        (is_discords && url.scheme() == "https" && url.port().is_none())
            || (!self.is_discords && url.origin() == self.api.origin())
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asking for what is there.
pub(super) fn get(name: &'static str, major: &str, path: String) -> Call {
    let route = Route { name, major: major.to_owned() };
    Call { method: Method::GET, route, path, body: Body::None, by_token: false }
}

/// Sending JSON.
pub(super) fn send(
    method: Method,
    name: &'static str,
    major: &str,
    path: String,
    body: Value,
) -> Call {
    let route = Route { name, major: major.to_owned() };
    Call { method, route, path, body: Body::Json(body), by_token: false }
}

/// The first answer to an interaction.
pub(super) fn callback(id: &str, token: &str, kind: u8, data: Option<Value>) -> Call {
    let mut body = json!({"type": kind});
    if let Some(data) = data {
        body["data"] = data;
    }
    let path = format!("interactions/{id}/{token}/callback");
    Call { by_token: true, ..send(Method::POST, "POST interactions/callback", id, path, body) }
}

fn failed(error: reqwest::Error) -> Failure {
    let (connects, builds) = (error.is_connect(), error.is_builder());
    let why = error.without_url().to_string();
    Failure::Other(match connects || builds {
        true => platform::Error::Unreachable(format!("Discord cannot be reached: {why}")),
        false => platform::Error::Ambiguous(why),
    })
}

/// A length in seconds, if it can be one.
fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().map(|length| length.max(Duration::from_millis(1)))
}

fn retry_after(body: &Value) -> Option<Duration> {
    body["retry_after"].as_f64().and_then(seconds)
}

fn told(headers: &header::HeaderMap) -> Option<Told> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    Some(Told {
        bucket: text("x-ratelimit-bucket")?.to_owned(),
        remaining: text("x-ratelimit-remaining")?.parse().ok()?,
        reset_after: seconds(text("x-ratelimit-reset-after")?.parse().ok()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_from_discord_also_where_a_proxy_stands_in_the_place_of_its_api() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let keeps = |api: &str, is_discords, url: &str| {
            let clock = Arc::new(crate::ambient::SystemClock);
            let token = SecretString::from("t");
            let rest = Rest::new(Url::parse(api).unwrap(), is_discords, token, clock).unwrap();
            rest.keeps_files(&Url::parse(url).unwrap())
        };
        let (own, other) = ("https://discord.com/api", "https://proxy.example/api");
        let cdn = "https://cdn.discordapp.com/a";
        assert!(keeps(own, true, cdn) && keeps(other, false, cdn));
        assert!(keeps(other, false, "https://proxy.example/cdn/a"));
        for url in
            ["http://cdn.discordapp.com/a", "https://evil.example/a", "https://discord.com/a"]
        {
            assert!(!keeps(own, true, url) && !keeps(other, false, url), "{url}");
        }
    }

    #[test]
    fn every_refusal_says_what_became_of_the_call_and_the_mend() {
        let call = get("GET x", "1", "x".into());
        let by_token = Call { by_token: true, ..call.clone() };
        let told = [
            (404, json!({"code": 10_003, "message": "Unknown Channel"}), &call),
            (404, json!({"code": 10_008}), &call),
            (403, json!({"code": 50_001}), &call),
            (403, json!({"code": 50_013}), &call),
            (400, json!({"code": 50_083}), &call),
            (403, json!({"code": 160_005}), &call),
            (
                400,
                json!({"code": 50_035, "message": "Invalid Form Body", "errors": {"content": 1}}),
                &call,
            ),
            (429, json!({"code": 30_046, "retry_after": 12.5}), &call),
            (401, json!({"code": 0}), &call),
            (401, json!({"code": 50_027}), &by_token),
            (404, json!({"code": 10_062}), &by_token),
            (400, json!({"code": 40_060}), &by_token),
            (502, Value::Null, &call),
            (413, json!({"code": 40_005}), &call),
        ];
        let told = told.map(|(status, body, call)| {
            let failure = Failure::of(StatusCode::from_u16(status).unwrap(), &body, call);
            format!("{status} {}: {failure:?}", body["code"])
        });
        insta::assert_snapshot!(told.join("\n"));
    }
}
