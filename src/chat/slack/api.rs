//! Slack's Web API: calls, and what their failures mean.
//!
//! Transport, authorisation and the reading of errors are `slack-morphism`'s. What it leaves to
//! us stands here: a bound on time and on what is read ([`bounded`]), what a failure says about whether the call happened, and a
//! method that was told to wait is not called again before it may.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::client::legacy::Error as HyperError;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use slack_morphism::{
    SlackApiToken, SlackApiTokenValue, SlackClient, errors::SlackClientError,
    hyper_tokio::SlackClientHyperConnector,
};
use url::Url;

use super::{
    bounded::{Carrier, bounded},
    settings::Settings,
};
use crate::{ambient::Clock, chat::platform};

/// The longest that one call may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait where Slack asks to wait and does not say how long.
const SOME_TIME: Duration = Duration::from_secs(5);

/// What carries the calls.
pub(super) type Connector = SlackClientHyperConnector<Carrier>;

/// Which token a call is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// The bot's.
    Bot,
    /// The app's own, for the socket alone.
    App,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Slack's answer was no; this is its word for why, such as `channel_not_found`.
    #[error("Slack says {0}")]
    Said(String),
    /// Too many calls.
    #[error("Slack asks to wait {} s", .0.as_secs())]
    Wait(Duration),
    /// No connection could be made: nothing happened.
    #[error("Slack cannot be reached: {0}")]
    Unreachable(String),
    /// It may have happened.
    #[error("Slack gave no answer: {0}")]
    Unclear(String),
}

impl Failure {
    /// What it means to a call that, done twice, shows something twice.
    pub(super) fn of_post(self, channel: &str) -> platform::Error {
        match self {
            Self::Said(word) => refusal(&word, channel),
            Self::Wait(wait) => platform::Error::RateLimited(wait),
            Self::Unreachable(why) => {
                platform::Error::Unreachable(format!("Slack cannot be reached: {why}"))
            }
            Self::Unclear(why) => platform::Error::Ambiguous(why),
        }
    }
}

/// What Slack's word for a refusal means to a delivery, with the mend where there is one.
pub(super) fn refusal(word: &str, channel: &str) -> platform::Error {
    use platform::Error::{Ambiguous, Gone, Rejected, Unreachable};
    match word {
        // A person can mend these, and what waits is then shown.
        "not_in_channel" => Unreachable(format!(
            "the bot is not in Slack's channel {channel}; invite it there with /invite"
        )),
        "is_archived" => {
            Unreachable(format!("Slack's channel {channel} is archived; unarchive it there"))
        }
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => {
            Unreachable(format!("Slack no longer takes SLACK_BOT_TOKEN ({word}); {REINSTALL}"))
        }
        "missing_scope" | "not_allowed_token_type" => {
            Unreachable(format!("SLACK_BOT_TOKEN lacks a scope ({word}); {REINSTALL}"))
        }
        "ekm_access_denied" => Unreachable(format!(
            "the workspace's administrators have suspended posts to Slack's channel {channel}; ask \
             them"
        )),
        word if word.starts_with("restricted_action") => Unreachable(format!(
            "the workspace lets the bot not post to Slack's channel {channel} ({word}); ask its \
             administrators"
        )),
        "channel_not_found" => Gone(format!(
            "Slack's channel {channel} (deleted, or private without the bot: invite it and ask \
             again)"
        )),
        "message_not_found" | "thread_not_found" | "cant_update_message" | "edit_window_closed" => {
            Gone(format!("the message in Slack's channel {channel} ({word})"))
        }
        // Slack's own trouble, which says nothing of what was done.
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
            Ambiguous(format!("Slack says {word}"))
        }
        word => Rejected(format!("Slack says {word}")),
    }
}

/// What to do about a token.
pub(super) const REINSTALL: &str =
    "reinstall the app on its page, OAuth & Permissions, and copy the bot token anew";

/// Slack's Web API.
pub(super) struct Api {
    client: Arc<SlackClient<Connector>>,
    connector: Connector,
    bot: SlackApiToken,
    app: SlackApiToken,
    clock: Arc<dyn Clock>,
    /// What may not be called before a time of the clock: methods, and for posts their channel.
    waits: Mutex<HashMap<String, Duration>>,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

fn token(secret: &SecretString) -> SlackApiToken {
    SlackApiToken::new(SlackApiTokenValue(secret.expose_secret().to_owned()))
}

/// What makes connections: by TLS with the machine's certificates, or plainly within the machine.
fn connector(api: &Url) -> Result<Connector, String> {
    let plain = api.scheme() == "http";
    let builder = hyper_rustls::HttpsConnectorBuilder::new();
    let builder = if plain {
        let roots = rustls::RootCertStore::empty();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up for Slack: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        builder.with_tls_config(tls).https_or_http()
    } else {
        let builder = builder.with_native_roots().map_err(|error| {
            format!("no certificates to trust Slack by: {error}; install ca-certificates")
        })?;
        builder.https_only()
    };
    let connector = bounded(builder.enable_http1().build());
    Ok(Connector::with_connector(connector).with_slack_api_url(api.as_str().trim_end_matches('/')))
}

impl Api {
    /// The API, with the tokens of the settings.
    ///
    /// # Errors
    /// That no certificates are to be found.
    pub(super) fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let connector = connector(&settings.api)?;
        Ok(Self {
            client: Arc::new(SlackClient::new(connector.clone())),
            connector,
            bot: token(&settings.bot_token),
            app: token(&settings.app_token),
            clock,
            waits: Mutex::default(),
        })
    }

    /// The client, for the socket.
    pub(super) fn client(&self) -> (Arc<SlackClient<Connector>>, &Connector, SlackApiToken) {
        (Arc::clone(&self.client), &self.connector, self.app.clone())
    }

    /// Calls a method with a JSON body.
    pub(super) async fn post(
        &self,
        with: With,
        method: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let token = self.token(with);
        let limit = limit(method, body);
        self.within(method, &limit, async {
            let session = self.client.open_session(token);
            session.http_session_api.http_post::<_, Value>(method, body, None).await
        })
        .await
    }

    /// Calls a method that reads, with its arguments in the address.
    pub(super) async fn get(
        &self,
        method: &str,
        arguments: &[(&str, String)],
    ) -> Result<Value, Failure> {
        let arguments: Vec<_> =
            arguments.iter().map(|(name, value)| (*name, Some(value.as_str()))).collect();
        self.within(method, method, async {
            let session = self.client.open_session(&self.bot);
            session.http_session_api.http_get::<Value, _, &str>(method, &arguments, None).await
        })
        .await
    }

    fn token(&self, with: With) -> &SlackApiToken {
        match with {
            With::Bot => &self.bot,
            With::App => &self.app,
        }
    }

    async fn within(
        &self,
        method: &str,
        limit: &str,
        call: impl Future<Output = Result<Value, SlackClientError>>,
    ) -> Result<Value, Failure> {
        if let Some(wait) = self.waits(limit) {
            return Err(Failure::Wait(wait));
        }
        let answer = tokio::select! {
            answer = call => answer.map_err(failure),
            () = self.clock.sleep(PATIENCE) => {
                Err(Failure::Unclear(format!("{method} took longer than {} s", PATIENCE.as_secs())))
            }
        };
        if let Err(Failure::Wait(wait)) = &answer {
            let now = self.clock.elapsed();
            let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
            waits.retain(|_, until| *until > now);
            waits.insert(limit.to_owned(), now + *wait);
        }
        answer
    }

    /// How long something must still not be called, if at all.
    fn waits(&self, limit: &str) -> Option<Duration> {
        let waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let left = waits.get(limit)?.checked_sub(self.clock.elapsed())?;
        (!left.is_zero()).then_some(left)
    }
}

/// What Slack counts a call under: posts for each channel of its own, all else for each method.
fn limit(method: &str, body: &Value) -> String {
    let channel = body.get("channel").and_then(Value::as_str);
    match channel.filter(|_| method == "chat.postMessage") {
        Some(channel) => format!("{method} {channel}"),
        None => method.to_owned(),
    }
}

fn is_word(code: &str) -> bool {
    let is_of_one = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=64).contains(&code.len()) && code.chars().all(is_of_one)
}

/// What an error of the client's means. Bodies and addresses stay out of it: they may hold
/// secrets.
fn failure(error: SlackClientError) -> Failure {
    match error {
        SlackClientError::ApiError(error) if error.code == "ratelimited" => {
            Failure::Wait(SOME_TIME)
        }
        // What is no word comes from something that stands in Slack's place, and may hold anything,
        // such as the token that was sent.
        SlackClientError::ApiError(error) if !is_word(&error.code) => {
            Failure::Unclear("an error that is no word of Slack's; see SLACK_API_URL".to_owned())
        }
        SlackClientError::ApiError(error) => Failure::Said(error.code),
        SlackClientError::RateLimitError(error) => {
            Failure::Wait(error.retry_after.unwrap_or(SOME_TIME).max(Duration::from_secs(1)))
        }
        SlackClientError::HttpError(error) => {
            Failure::Unclear(format!("HTTP status {}", error.status_code.as_u16()))
        }
        SlackClientError::HttpProtocolError(error) => {
            let cause = error.cause.as_deref().and_then(|it| it.downcast_ref::<HyperError>());
            match cause {
                Some(cause) if cause.is_connect() => {
                    Failure::Unreachable("no connection could be made".to_owned())
                }
                _ => Failure::Unclear("the connection broke off".to_owned()),
            }
        }
        SlackClientError::ProtocolError(_) => Failure::Unclear(
            "an answer that is none of Slack's (no JSON, or without `ok`); look at SLACK_API_URL, \
             or at what stands between"
                .into(),
        ),
        SlackClientError::EndOfStream(_)
        | SlackClientError::SystemError(_)
        | SlackClientError::SocketModeProtocolError(_) => {
            Failure::Unclear("the connection broke off".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_word_of_slacks_is_not_said_again() {
        assert!(is_word("not_in_channel") && is_word("team_access_not_granted"));
        for other in ["", "Bearer xoxb-1", "fatal\nok", &"a".repeat(65)] {
            assert!(!is_word(other), "{other:?}");
        }
    }

    #[test]
    fn what_a_person_can_mend_waits_for_the_mend_and_says_it() {
        let words = [
            "not_in_channel",
            "is_archived",
            "invalid_auth",
            "missing_scope",
            "restricted_action_read_only_channel",
            "ekm_access_denied",
            "channel_not_found",
            "message_not_found",
            "internal_error",
            "msg_too_long",
        ];
        let told: Vec<String> = words
            .iter()
            .map(|word| {
                let error = refusal(word, "C1");
                let kind = format!("{error:?}");
                let kind = kind.split('(').next().unwrap_or_default().to_owned();
                format!("{word}: {kind}: {error}")
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
