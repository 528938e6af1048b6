//! What carries a request to Fly and brings its answer: the network, or whatever a test puts in its
//! place.
//!
//! It carries bytes and decides nothing: what an answer means, and what the want of one means, is
//! told by [`super::door`], the same for every carrier. A test whose clock stands still needs one
//! without sockets, since nobody can tell a socket that is quiet from one that is about to speak.

use async_trait::async_trait;

use super::{
    action::{CONNECT, IDLE},
    errors::ApiError,
};

/// Carries requests.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Carries one request, once, within its timeout.
    ///
    /// # Errors
    /// There was no answer.
    async fn carry(&self, request: reqwest::Request) -> Result<reqwest::Response, Unanswered>;
}

/// A request that was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// Whether it may have arrived all the same.
    pub may_have_arrived: bool,
    /// Why, in one line, without the address.
    pub why: String,
}

/// The network.
pub(super) struct Network(reqwest::Client);

impl Network {
    /// Redirects are not followed: the token goes nowhere but where it was sent. Nothing is tried
    /// twice, also not by the HTTP library.
    ///
    /// # Errors
    /// There is no TLS on this computer.
    pub(super) fn new(is_https: bool) -> Result<Self, ApiError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            // A connection that the other side closed just now breaks a write, and leaves it open.
            .pool_idle_timeout(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("open-dispatch/", env!("CARGO_PKG_VERSION")));
        // A proxy is for the world outside; plain HTTP never goes there.
        let http = if is_https { http } else { http.no_proxy() };
        let http = http
            .build()
            .map_err(|error| ApiError::Setup(format!("cannot speak HTTPS: {error}")))?;
        Ok(Self(http))
    }
}

#[async_trait]
impl Carrier for Network {
    async fn carry(&self, request: reqwest::Request) -> Result<reqwest::Response, Unanswered> {
        self.0.execute(request).await.map_err(|error| Unanswered {
            // Without a connection nothing was sent.
            may_have_arrived: !error.is_connect(),
            why: causes(&error),
        })
    }
}

/// An error with what is behind it, without its URL.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut told = match () {
        () if error.is_timeout() => "no answer in time".to_owned(),
        () if error.is_connect() => "no connection".to_owned(),
        () => "the connection broke".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}
