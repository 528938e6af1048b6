//! The connector: where we post messages and edit them.
//!
//! **A post is not idempotent.** What was answered with 502 or 504, or not at all, may stand there:
//! that is told as [`Error::Ambiguous`], and since Teams can look nothing up, the worst is an empty
//! placeholder. An edit says what a message shows, whole, so it is simply done again.
//!
//! **Our access token goes to Microsoft alone.** A service URL comes from an activity, whose token
//! vouches for it; still it is held against the hosts that may see our token.
//!
//! **Nobody has to be told to slow down.** Each call takes its turn of the conversation's [`pace`]
//! first; a call that is too early is not made, and says when it may be.
//!
//! **What a person can mend is no end.** Where the app was taken out, or a host is not known yet, what
//! is to be shown waits and says what to do; what somebody deleted is gone.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{Method, StatusCode, header::RETRY_AFTER};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{
    bearer::{self, Bearer},
    http::causes,
    pace::{Pace, Turn},
    settings::Hosts,
};
use crate::{ambient::Clock, chat::platform::Error};

/// How long to wait where Teams asks us to, and does not say how long.
const WAIT: Duration = Duration::from_secs(2);
/// The longest that Teams can make us wait at once.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);
/// How long to wait between tries while there is no connection; then the outbox takes over.
const RECONNECT: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_secs(2)];
/// How many bytes of an answer are read.
const MAX_ANSWER: usize = 64 * 1024;

/// The connector's client.
pub struct Connector {
    http: reqwest::Client,
    bearer: Arc<Bearer>,
    hosts: Hosts,
    pace: Mutex<Pace>,
    clock: Arc<dyn Clock>,
}

/// What became of a part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Streamed {
    /// It was taken; with the id that Teams gave it.
    Done(Option<String>),
    /// Teams streams nothing there, or no more.
    Refused(String),
}

/// What the connector answered.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

/// Why a call has no answer.
enum Unanswered {
    /// Nothing was sent.
    Unsent(String),
    /// It may have been done.
    Lost(String),
}

impl Connector {
    /// A client that shows its token to these hosts.
    #[must_use]
    pub fn new(
        http: reqwest::Client,
        bearer: Arc<Bearer>,
        hosts: Hosts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { http, bearer, hosts, pace: Mutex::default(), clock }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may be made now, as far as the pace goes. None is made.
    ///
    /// # Errors
    /// How long to wait.
    pub fn may(&self, conversation: &str, turn: Turn) -> Result<(), Error> {
        let now = self.clock.elapsed();
        self.pace().may(conversation, turn, now).map_err(Error::RateLimited)
    }

    /// Posts an activity into a conversation; answers with its id.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn post(
        &self,
        service_url: &str,
        conversation: &str,
        activity: &Value,
    ) -> Result<String, Error> {
        let url = self.url(service_url, &["v3", "conversations", conversation, "activities"])?;
        let to = (conversation, Turn::Post);
        let answer = self.call(Method::POST, url, to, activity).await?;
        verdict(&answer, true)?;
        let id = serde_json::from_slice::<Value>(&answer.body).ok();
        let id = id.and_then(|body| body["id"].as_str().map(str::to_owned));
        id.filter(|id| !id.is_empty())
            .ok_or_else(|| Error::Ambiguous("Teams' answer names no message".to_owned()))
    }

    /// Makes a message show another activity.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn put(
        &self,
        service_url: &str,
        conversation: &str,
        message: &str,
        turn: Turn,
        activity: &Value,
    ) -> Result<(), Error> {
        let path = ["v3", "conversations", conversation, "activities", message];
        let url = self.url(service_url, &path)?;
        let answer = self.call(Method::PUT, url, (conversation, turn), activity).await?;
        verdict(&answer, false)
    }

    /// Sends a part of a stream; answers with the id that it has.
    ///
    /// # Errors
    /// Why it could not, where it is worth another try. What Teams will not have is told apart.
    pub async fn stream(
        &self,
        service_url: &str,
        conversation: &str,
        turn: Turn,
        activity: &Value,
    ) -> Result<Streamed, Error> {
        let url = self.url(service_url, &["v3", "conversations", conversation, "activities"])?;
        let answer = self.call(Method::POST, url, (conversation, turn), activity).await?;
        match verdict(&answer, true) {
            Ok(()) => {}
            // Streams that may not be are refused with 403, too; an ordinary call will tell which.
            Err(error)
                if matches!(error, Error::Gone(_) | Error::Rejected(_))
                    || answer.status == StatusCode::FORBIDDEN =>
            {
                return Ok(Streamed::Refused(error.to_string()));
            }
            Err(error) => return Err(error),
        }
        let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        // Another part came first, or so it thinks: this one is not shown.
        if answer.status == StatusCode::ACCEPTED && body["error"]["code"].is_string() {
            return Err(Error::RateLimited(answer.retry_after.unwrap_or(Duration::from_secs(1))));
        }
        let id = body["id"].as_str().filter(|id| !id.is_empty());
        Ok(Streamed::Done(id.map(str::to_owned)))
    }

    fn url(&self, service_url: &str, path: &[&str]) -> Result<Url, Error> {
        let url = Url::parse(service_url).ok().filter(|url| self.hosts.allow(url));
        let mut url = url.ok_or_else(|| {
            Error::Unreachable(format!(
                "{service_url} is not a known address of Teams; add its host to \
                 TEAMS_SERVICE_HOSTS if it is one"
            ))
        })?;
        let encode = |part: &&str| {
            let part: String = form_urlencoded::byte_serialize(part.as_bytes()).collect();
            part.replace('+', "%20")
        };
        let path: Vec<String> = path.iter().map(encode).collect();
        let front = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{front}/{}", path.join("/")));
        url.set_query(None);
        Ok(url)
    }

    /// One call, again with a new token if the old one is not taken, and again while there is no
    /// connection.
    async fn call(
        &self,
        method: Method,
        url: Url,
        (conversation, turn): (&str, Turn),
        body: &Value,
    ) -> Result<Answer, Error> {
        let mut fresh = false;
        // What has its turn is made, however long the token takes.
        let now = self.clock.elapsed();
        self.pace().take(conversation, turn, now).map_err(Error::RateLimited)?;
        loop {
            let token = self.bearer.token().await.map_err(no_token)?;
            let mut waits = RECONNECT.into_iter();
            let sent = loop {
                let sent = self.send(&method, &url, token.expose_secret(), body).await;
                match (&sent, waits.next()) {
                    (Err(Unanswered::Unsent(_)), Some(wait)) => self.clock.sleep(wait).await,
                    _ => break sent,
                }
            };
            match sent {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && !fresh => {
                    fresh = true;
                    self.bearer.forget(&token);
                    self.pace().note(conversation, self.clock.elapsed());
                }
                Ok(answer) => {
                    if answer.status == StatusCode::TOO_MANY_REQUESTS {
                        let wait = answer.retry_after.unwrap_or(WAIT);
                        self.pace().too_many(conversation, wait, self.clock.elapsed());
                    }
                    return Ok(answer);
                }
                Err(Unanswered::Unsent(why)) => return Err(Error::Unreachable(why)),
                Err(Unanswered::Lost(why)) => return Err(Error::Ambiguous(why)),
            }
        }
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        token: &str,
        body: &Value,
    ) -> Result<Answer, Unanswered> {
        let sent = self
            .http
            .request(method.clone(), url.clone())
            .bearer_auth(token)
            .json(body)
            .send()
            .await;
        let mut answer = sent.map_err(|error| {
            let why = causes(&error);
            if error.is_connect() { Unanswered::Unsent(why) } else { Unanswered::Lost(why) }
        })?;
        let status = answer.status();
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = after.and_then(|value| value.trim().parse().ok());
        let retry_after = retry_after.filter(|it: &f64| it.is_finite() && *it >= 0.0);
        let retry_after =
            retry_after.map(|it| Duration::from_secs_f64(it.min(LONGEST_WAIT.as_secs_f64())));
        let mut bytes = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| Unanswered::Lost(causes(&error)))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                break;
            }
        }
        Ok(Answer { status, retry_after, body: bytes })
    }
}

fn no_token(error: bearer::Error) -> Error {
    Error::Unreachable(error.to_string())
}

/// What an answer means for a post, or for an edit. Pure.
fn verdict(answer: &Answer, is_post: bool) -> Result<(), Error> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let code = said["error"]["code"].as_str().unwrap_or_default();
    let why = said["error"]["message"].as_str().unwrap_or_default();
    let why: String = why.chars().filter(|c| !c.is_control()).take(200).collect();
    let told = format!("HTTP {} {code} {why}", status.as_u16());
    let told = told.trim_end().to_owned();
    Err(match status.as_u16() {
        429 => Error::RateLimited(answer.retry_after.unwrap_or(WAIT)),
        // The conversation was written to by another at the same time; nothing happened.
        412 => Error::RateLimited(answer.retry_after.unwrap_or(Duration::from_secs(1))),
        503 if answer.retry_after.is_some() => {
            Error::RateLimited(answer.retry_after.unwrap_or(WAIT))
        }
        401 => Error::Unreachable(format!(
            "Teams does not take our token ({told}); compare MICROSOFT_APP_ID with the Azure Bot's"
        )),
        403 => Error::Unreachable(format!(
            "Teams lets us not in there ({told}); is the app still installed? add it again"
        )),
        404 if is_post => Error::Gone(format!(
            "the conversation in Teams ({told}; add the app to it, or say something to it there)"
        )),
        404 => Error::Gone(format!("the message in Teams ({told}; somebody deleted it)")),
        413 => Error::Rejected(format!("the message is too long for Teams ({told})")),
        408 | 500.. => Error::Ambiguous(told),
        _ => Error::Rejected(told),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, retry_after: Option<u64>, body: &str, is_post: bool) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        let retry_after = retry_after.map(Duration::from_secs);
        let answer = Answer { status, retry_after, body: body.as_bytes().to_vec() };
        format!("{} {:?}", status.as_u16(), verdict(&answer, is_post))
    }

    #[test]
    fn a_host_that_is_not_known_can_be_named_and_until_then_it_is_not_asked() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let variables = [
            ("MICROSOFT_APP_ID", "0aa00000-0000-4000-8000-000000000001"),
            ("MICROSOFT_APP_PASSWORD", "hidden"),
            ("MICROSOFT_APP_TENANT_ID", "0bb00000-0000-4000-8000-000000000002"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = super::super::Settings::from_environment(&variables).unwrap();
        let http = super::super::http::client().unwrap();
        let clock: Arc<dyn Clock> = crate::ambient::Ambient::real().clock;
        let bearer = Arc::new(Bearer::new(http.clone(), &settings, Arc::clone(&clock)));
        let connector = Connector::new(http, bearer, settings.hosts, clock);
        let url = |service: &str| connector.url(service, &["v3", "a b/c"]);
        assert_eq!(
            url("https://smba.trafficmanager.net/amer/").unwrap().as_str(),
            "https://smba.trafficmanager.net/amer/v3/a%20b%2Fc"
        );
        let Err(Error::Unreachable(why)) = url("https://new.example/amer/") else { panic!() };
        assert!(why.contains("add its host to TEAMS_SERVICE_HOSTS"), "{why}");
    }

    #[test]
    fn each_answer_means_what_it_says_and_names_the_mend() {
        let removed = r#"{"error":{"code":"BotNotInConversationRoster","message":"not there"}}"#;
        let large = r#"{"error":{"code":"MessageSizeTooBig","message":"Message size too large."}}"#;
        let all = [
            told(201, None, "{}", true),
            told(429, Some(7), "", true),
            told(429, None, "", true),
            told(412, None, "", true),
            told(503, Some(3), "", true),
            told(503, None, "", true),
            told(504, None, "<html>", true),
            told(401, None, "", true),
            told(403, None, removed, true),
            told(404, None, "", true),
            told(404, None, "", false),
            told(413, None, large, false),
            told(400, None, r#"{"error":{"code":"BadSyntax","message":"no"}}"#, true),
        ];
        insta::assert_snapshot!(all.join("\n"));
    }
}
