//! Our own token, with which we speak as the bot: asked for with the client secret, kept, and asked
//! for anew before it expires. Only one request is under way at a time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::{http::causes, settings::Settings};
use crate::ambient::Clock;

/// How long before its end a token is replaced.
const EARLY: Duration = Duration::from_secs(5 * 60);

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be had at the moment.
    #[error("no access token from {place}: {why}")]
    NotNow {
        /// Who was asked.
        place: String,
        /// Why.
        why: String,
    },
    /// It will not be had until somebody mends something.
    #[error("Microsoft gives no access token ({code}): {mend}")]
    Refused {
        /// Microsoft's own code.
        code: String,
        /// What to mend.
        mend: &'static str,
    },
}

struct Held {
    token: Arc<SecretString>,
    /// When it is replaced.
    until: Duration,
}

/// Our token.
pub struct Bearer {
    http: reqwest::Client,
    url: Url,
    scope: &'static str,
    app_id: String,
    password: SecretString,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
    asking: tokio::sync::Mutex<()>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Denied {
    error: String,
    error_description: String,
}

impl Bearer {
    /// The token of an app.
    #[must_use]
    pub fn new(http: reqwest::Client, settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        let mut url = settings.login.clone();
        let path = format!("{}/oauth2/v2.0/token", settings.tenant);
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        Self {
            http,
            url,
            scope: settings.scope,
            app_id: settings.app_id.clone(),
            password: settings.password.clone(),
            clock,
            held: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The token.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token(&self) -> Result<Arc<SecretString>, Error> {
        if let Some(token) = self.held() {
            return Ok(token);
        }
        let _asking = self.asking.lock().await;
        if let Some(token) = self.held() {
            return Ok(token);
        }
        let granted = self.ask().await?;
        let length = Duration::from_secs(granted.expires_in);
        // One that holds for less than twice that is replaced after half its time.
        let until =
            self.clock.elapsed() + length.checked_sub(EARLY).unwrap_or_default().max(length / 2);
        let token = Arc::new(SecretString::from(granted.access_token));
        let held = Held { token: Arc::clone(&token), until };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(token)
    }

    /// Forgets a token that was not taken.
    pub fn forget(&self, token: &Arc<SecretString>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.token, token)) {
            *held = None;
        }
    }

    fn held(&self) -> Option<Arc<SecretString>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_ref().filter(|held| self.clock.elapsed() < held.until)?;
        Some(Arc::clone(&held.token))
    }

    async fn ask(&self) -> Result<Granted, Error> {
        let not_now = |why: String| Error::NotNow { place: self.url.to_string(), why };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.app_id)
            .append_pair("client_secret", self.password.expose_secret())
            .append_pair("scope", self.scope)
            .finish();
        let asked = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .map_err(|error| not_now(causes(&error)))?;
        let status = asked.status();
        let body = asked.bytes().await.map_err(|error| not_now(causes(&error)))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|_| not_now("its answer holds no token".to_owned()));
        }
        if status.is_client_error() && status.as_u16() != 429 {
            let denied: Denied = serde_json::from_slice(&body).unwrap_or_default();
            return Err(refused(&denied));
        }
        Err(not_now(format!("HTTP {status}")))
    }
}

/// What to mend, by the code with which Microsoft's descriptions begin.
fn refused(denied: &Denied) -> Error {
    let code = denied.error_description.split([':', ' ']).next().unwrap_or_default();
    let is_code = code.starts_with("AADSTS") && code.len() < 20;
    let code = if is_code { code } else { &denied.error };
    let mend = match code {
        "AADSTS7000215" | "AADSTS7000216" => {
            "MICROSOFT_APP_PASSWORD is wrong; take the client secret's value, not its id"
        }
        "AADSTS7000222" => {
            "the client secret in MICROSOFT_APP_PASSWORD has expired; make a new one in the app \
             registration"
        }
        "AADSTS700016" => {
            "the app is not in this tenant; compare MICROSOFT_APP_ID and MICROSOFT_APP_TENANT_ID \
             with the app registration"
        }
        "AADSTS90002" | "AADSTS900023" => {
            "there is no such tenant; compare MICROSOFT_APP_TENANT_ID with Entra ID's overview"
        }
        _ => {
            "compare MICROSOFT_APP_ID, MICROSOFT_APP_PASSWORD and MICROSOFT_APP_TENANT_ID with the \
             app registration"
        }
    };
    let code: String = code.chars().filter(char::is_ascii_graphic).take(40).collect();
    Error::Refused { code, mend }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_to_mend() {
        let say = |description: &str| {
            let error_description = description.to_owned();
            refused(&Denied { error: "invalid_client".into(), error_description }).to_string()
        };
        let all = [
            "AADSTS7000215: Invalid client secret provided.",
            "AADSTS7000222: The provided client secret keys are expired.",
            "AADSTS700016: Application with identifier was not found in the directory.",
            "AADSTS90002: Tenant not found.",
            "something else",
            "",
        ];
        insta::assert_snapshot!(all.map(say).join("\n"));
    }
}
