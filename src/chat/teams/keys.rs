//! The keys that the channel signs with: fetched, kept for a day, and asked for anew when a token
//! names one that is not known, at most once in five minutes.
//!
//! Whoever sends us tokens with made-up key names costs one fetch in five minutes and no more, and
//! keeps a key that is new from us for no longer. Only one fetch is under way at a time; those who
//! need what it brings wait for it, and tokens with a known key do not. From half a day on the keys
//! are fetched anew beside all else ([`Keys::keep_fresh`]): should they not be had then, there is
//! half a day left to try.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use url::Url;

use crate::ambient::Clock;

/// How long keys hold.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// From which age on they are fetched anew before somebody needs them, and how often that is looked
/// at.
const OLD: Duration = Duration::from_secs(12 * 3600);
const LOOK: Duration = Duration::from_secs(600);
/// How long it takes until an unknown key's name is looked for again.
const ASKED: Duration = Duration::from_secs(5 * 60);
/// How long it takes until a fetch that failed is tried again.
const FAILED: Duration = Duration::from_secs(5);
/// The most bytes of a document that are read.
const MAX_DOCUMENT: usize = 1 << 20;

/// A key of the channel.
pub struct Key {
    /// What checks signatures.
    pub decoding: DecodingKey,
    /// The channels that it may sign for.
    pub endorsements: Vec<String>,
}

/// Why there are no keys.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the channel's keys cannot be had from {place}: {why}")]
pub struct Error {
    /// Where they should be.
    pub place: String,
    /// Why not.
    pub why: String,
}

/// What to do about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is known.
    Use,
    /// It does not exist.
    Unknown,
    /// Ask for the keys.
    Fetch,
    /// They could not be had just now.
    Wait,
}

/// Decides from how old the keys are, how long ago a fetch failed, and whether it is known. Pure.
fn step(age: Option<Duration>, failed: Option<Duration>, known: bool) -> Step {
    let fetch = if failed.is_some_and(|ago| ago < FAILED) { Step::Wait } else { Step::Fetch };
    match age {
        Some(age) if age < KEPT && known => Step::Use,
        Some(age) if age < ASKED => Step::Unknown,
        // An old set still says which keys exist, while the new one cannot be had.
        Some(age) if age < KEPT && fetch == Step::Wait => Step::Unknown,
        _ => fetch,
    }
}

#[derive(Default)]
struct Held {
    keys: HashMap<String, Arc<Key>>,
    fetched: Option<Duration>,
    failed: Option<(Duration, String)>,
}

/// The channel's keys.
pub struct Keys {
    http: reqwest::Client,
    metadata: Url,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Deserialize)]
struct Metadata {
    jwks_uri: Url,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    kty: String,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    #[serde(default)]
    endorsements: Vec<String>,
}

impl Keys {
    /// The keys that a metadata document leads to.
    #[must_use]
    pub fn new(http: reqwest::Client, metadata: Url, clock: Arc<dyn Clock>) -> Self {
        let (held, fetching) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { http, metadata, clock, held, fetching }
    }

    /// The key of this name, if the channel has one.
    ///
    /// # Errors
    /// The keys cannot be had.
    pub async fn find(&self, kid: &str) -> Result<Option<Arc<Key>>, Error> {
        if let Step::Use | Step::Unknown = self.step(kid) {
            return Ok(self.known(kid));
        }
        let _fetching = self.fetching.lock().await;
        // Somebody may have fetched them meanwhile.
        match self.step(kid) {
            Step::Use | Step::Unknown => return Ok(self.known(kid)),
            Step::Wait => {
                let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                let why = held.failed.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
                return Err(self.error(why));
            }
            Step::Fetch => {}
        }
        match self.renew().await {
            Ok(()) => Ok(self.known(kid)),
            Err(why) => match self.step(kid) {
                Step::Use | Step::Unknown => Ok(self.known(kid)),
                Step::Fetch | Step::Wait => Err(self.error(why)),
            },
        }
    }

    /// Fetches keys that grow old before somebody needs them, until it is dropped.
    pub async fn keep_fresh(&self) {
        loop {
            self.clock.sleep(LOOK).await;
            if self.is_old() {
                let _fetching = self.fetching.lock().await;
                if self.is_old() {
                    // Why not was told; it is tried again.
                    let _ = self.renew().await;
                }
            }
        }
    }

    /// Whether there are keys, and they grow old.
    fn is_old(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.fetched.is_some_and(|at| self.clock.elapsed().saturating_sub(at) >= OLD)
    }

    /// Fetches the keys; whoever asks holds `fetching`.
    async fn renew(&self) -> Result<(), String> {
        let fetched = self.fetch().await;
        let now = self.clock.elapsed();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match fetched {
            Ok(keys) => *held = Held { keys, fetched: Some(now), failed: None },
            Err(why) => {
                tracing::warn!("the keys of Teams could not be fetched: {why}");
                held.failed = Some((now, why.clone()));
                return Err(why);
            }
        }
        Ok(())
    }

    fn error(&self, why: String) -> Error {
        Error { place: self.metadata.to_string(), why }
    }

    fn known(&self, kid: &str) -> Option<Arc<Key>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.keys.get(kid).cloned()
    }

    fn step(&self, kid: &str) -> Step {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.elapsed();
        let since = |at: Duration| now.saturating_sub(at);
        let failed = held.failed.as_ref().map(|(at, _)| since(*at));
        step(held.fetched.map(since), failed, held.keys.contains_key(kid))
    }

    async fn fetch(&self) -> Result<HashMap<String, Arc<Key>>, String> {
        let metadata: Metadata = self.document(self.metadata.clone()).await?;
        // Whoever names the keys decides who can command us.
        if metadata.jwks_uri.scheme() != self.metadata.scheme() {
            return Err(format!("it names keys at {}", metadata.jwks_uri));
        }
        let document: Document = self.document(metadata.jwks_uri).await?;
        let keys: HashMap<_, _> = document.keys.into_iter().filter_map(readable).collect();
        if keys.is_empty() { Err("there is no RSA key among them".to_owned()) } else { Ok(keys) }
    }

    async fn document<T: for<'a> Deserialize<'a>>(&self, url: Url) -> Result<T, String> {
        let why = |error: reqwest::Error| super::http::causes(&error);
        let answer = self.http.get(url).send().await.map_err(why)?;
        let mut answer = answer.error_for_status().map_err(why)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(why)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_DOCUMENT {
                return Err("the document is too large".to_owned());
            }
        }
        serde_json::from_slice(&bytes).map_err(|error| format!("it cannot be read: {error}"))
    }
}

fn readable(listed: Listed) -> Option<(String, Arc<Key>)> {
    let (kid, n, e) = (listed.kid?, listed.n?, listed.e?);
    let decoding = DecodingKey::from_rsa_components(&n, &e).ok().filter(|_| listed.kty == "RSA")?;
    Some((kid, Arc::new(Key { decoding, endorsements: listed.endorsements })))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn keys_are_kept_a_day_and_unknown_ones_asked_for_once_in_five_minutes() {
        let minute = Duration::from_secs(60);
        let all = [
            (None, None, false, Step::Fetch),
            (None, Some(Duration::from_secs(1)), false, Step::Wait),
            (None, Some(minute), false, Step::Fetch),
            (Some(minute), None, true, Step::Use),
            (Some(minute * 4), None, false, Step::Unknown),
            (Some(minute * 5), None, false, Step::Fetch),
            (Some(HOUR), None, false, Step::Fetch),
            (Some(HOUR), Some(Duration::from_secs(1)), false, Step::Unknown),
            (Some(HOUR * 23), None, true, Step::Use),
            (Some(HOUR * 24), None, true, Step::Fetch),
            (Some(HOUR * 24), Some(Duration::from_secs(1)), true, Step::Wait),
        ];
        for (age, failed, known, wanted) in all {
            assert_eq!(step(age, failed, known), wanted, "{age:?} {failed:?} {known}");
        }
    }
}
