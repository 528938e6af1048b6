//! One HTTP client for all that is asked of Microsoft.

use std::{error::Error as _, time::Duration};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take: Teams' own limit for a send lies below.
const WHOLE: Duration = Duration::from_secs(30);

/// The client. It follows no redirects: what it sends may be a secret.
///
/// # Errors
/// There is no TLS on this machine.
pub fn client() -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .timeout(WHOLE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("open-dispatch/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| format!("Teams cannot be asked: {}", causes(&error)))
}

/// An error with what is behind it, in one line and without its URL.
#[must_use]
pub fn causes(error: &reqwest::Error) -> String {
    let mut told = match error.status() {
        Some(status) => format!("HTTP {status}"),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None if error.is_connect() => "no connection".to_owned(),
        None => "the connection broke".to_owned(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}
