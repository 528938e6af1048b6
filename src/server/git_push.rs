//! `POST /webhooks/git/{source}`: somebody pushed, so a Source is looked at now and not in a minute.
//!
//! Anybody can call this door, on the public listener as well. What is cheap comes first: only of a
//! request that bears what may be a signature the Source is looked up and the body read, so many at once
//! from one stranger and for one Source, each within a few seconds. Whoever has no right signature hears
//! the same, and at the same point, whether the Source is there, takes pushes, or not. The signature
//! (GitHub's `X-Hub-Signature-256`, which Gitea and Forgejo send as well) is checked over the bytes as
//! they came. What is taken changes one annotation of the Source, with a receipt; nothing that
//! a push says of commits or files is believed, since whoever is woken reads the repository itself. A
//! request that is brought again, by its sender or by somebody who overheard it, wakes nobody twice.

use std::{sync::LazyLock, time::Duration};

use super::{
    State, body,
    slots::{Bounds, Peer, Slots},
    webhooks::{answer, body_error, error, not_found, unauthorized},
};
use crate::{
    resource::{AnyObject, GitSource, Kind, RECONCILE_REQUESTED, Source, SourceFrom},
    store::{self, Expect, Op, Part, Receipt, Transaction},
};
use axum::{
    extract::{Path, Request, State as Shared},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The largest body: a push of a thousand commits has about one MiB.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How long a body may take. GitHub gives up after ten seconds, and has the body ready.
const BODY_TIME: Duration = Duration::from_secs(5);
/// So many bodies are read at once: in all, for one Source, from one stranger, and through one reverse
/// proxy, from which all come that stand before it; a push takes milliseconds. GitHub tells each Source
/// of a repository from one of a few addresses, at the same moment, and does not repeat itself.
const AT_ONCE: Bounds = Bounds { all: 64, thing: 16, peer: 4, near: 8 };
static READING: LazyLock<Slots> = LazyLock::new(|| Slots::new(AT_ONCE));
/// Whose the annotation is that wakes a Source, in the account of fields.
const MANAGER: &str = "webhook";
/// How often a write is tried that loses against others.
const TRIES: usize = 8;

/// What of a push is looked at.
#[derive(Debug, Deserialize)]
struct Push {
    /// Such as `refs/heads/main`.
    #[serde(rename = "ref")]
    reference: String,
    repository: Option<Repository>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    default_branch: Option<String>,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// A look now.
    Look,
    /// An answer, to see that this works.
    Ping,
    /// Nothing that concerns this Source; why, for people.
    Nothing(String),
    /// Nothing that could be read.
    Bad(String),
}

/// Takes one.
pub(super) async fn push(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let metrics = &state.0.extras.metrics;
    let refused = || {
        metrics.git_webhook("refused");
        tracing::warn!(source = name, "a push webhook without its signature was refused");
        unauthorized()
    };
    let Some(signature) = signature(request.headers()) else { return refused() };
    let known = match known(&state, &name).await {
        Ok(known) => known,
        Err(refused) => return refused,
    };
    let event = text(request.headers(), "x-github-event").unwrap_or("push").to_owned();
    let peer = request.extensions().get::<Peer>().copied();
    let Some(_slot) = READING.take(&name, peer) else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "too many pushes at once; send it again");
    };
    let clock = &*state.0.ambient.clock;
    let bytes = match body::read_within(BODY_TIME, request.into_body(), MAX_BODY, clock).await {
        Ok(bytes) => bytes,
        Err(problem) => return body_error(problem),
    };
    // Where there is no key, the same is done with another.
    let key = known.as_ref().map_or("none", |(_, _, key)| key.as_str());
    let right = is_signed(key, &bytes, &signature);
    let Some((source, spec, _)) = known.filter(|_| right) else { return refused() };
    match asked(&event, &bytes, spec.branch.as_deref()) {
        Asked::Ping => answer(StatusCode::OK, &json!({"ok": true, "message": "pong"})),
        Asked::Bad(why) => {
            metrics.git_webhook("bad");
            error(StatusCode::BAD_REQUEST, why)
        }
        Asked::Nothing(why) => {
            metrics.git_webhook("ignored");
            answer(StatusCode::ACCEPTED, &json!({"ok": true, "woken": false, "message": why}))
        }
        Asked::Look => wake(&state, source, &bytes).await,
    }
}

/// The Source, if it takes pushes, and the key of their signatures.
async fn known(state: &State, name: &str) -> Result<Option<(Source, GitSource, String)>, Response> {
    let unavailable = |why: String| error(StatusCode::SERVICE_UNAVAILABLE, why);
    let found = state.0.store.get(Kind::Source, name).await;
    let Some(source) = found.map_err(|error| unavailable(error.to_string()))? else {
        return Ok(None);
    };
    let Some(source) = source.into_source() else { return Ok(None) };
    let SourceFrom::Git(spec) = source.spec.from.clone() else { return Ok(None) };
    let Some(secret) = &spec.webhook_secret_from_secret else { return Ok(None) };
    let key = state.0.extras.secrets.as_ref().map(|secrets| secrets.resolve(secret));
    match key {
        Some(Ok(key)) if !key.expose_secret().is_empty() => {
            let key = key.expose_secret().to_owned();
            Ok(Some((source, spec, key)))
        }
        // Who calls may be anybody: the log tells.
        other => {
            let why = other.and_then(Result::err).map(|error| error.to_string());
            let why = why.unwrap_or_else(|| "it is empty".to_owned());
            tracing::error!(source = name, "pushes cannot be checked: {why}");
            Ok(None)
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The signature that a request bears, if it is one.
fn signature(headers: &HeaderMap) -> Option<[u8; 32]> {
    let hex = text(headers, "x-hub-signature-256")?.strip_prefix("sha256=")?;
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Whether a body is signed so; takes as long for a wrong signature as for the right one.
fn is_signed(key: &str, bytes: &[u8], signature: &[u8; 32]) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(bytes);
    mac.verify_slice(signature).is_ok()
}

/// What a signed request asks for. Pure.
fn asked(event: &str, bytes: &[u8], branch: Option<&str>) -> Asked {
    match event {
        "ping" => return Asked::Ping,
        "push" => {}
        other => return Asked::Nothing(format!("the event {other:?} wakes nobody; push does")),
    }
    let push: Push = match serde_json::from_slice(bytes) {
        Ok(push) => push,
        Err(error) => {
            return Asked::Bad(format!(
                "the body is no push as JSON ({error}); choose application/json as content type"
            ));
        }
    };
    // Each of several repositories has a branch of its own; one is enough to look.
    let own = push.repository.and_then(|it| it.default_branch);
    let Some(branch) = branch.map(str::to_owned).or(own) else { return Asked::Look };
    match push.reference == format!("refs/heads/{branch}") {
        true => Asked::Look,
        false => Asked::Nothing(format!("the Source reads {branch}, not {:?}", push.reference)),
    }
}

/// Whether a push would wake a Source that reads a branch.
pub(super) fn wakes(event: &str, bytes: &[u8], branch: Option<&str>) -> bool {
    asked(event, bytes, branch) == Asked::Look
}

/// Wakes the Source, durably.
async fn wake(state: &State, source: Source, bytes: &[u8]) -> Response {
    let (name, uid) = (source.metadata.name.clone(), source.metadata.uid.clone());
    let metrics = &state.0.extras.metrics;
    let taken = |woken: bool, message: &str| {
        metrics.git_webhook(if woken { "taken" } else { "ignored" });
        answer(StatusCode::ACCEPTED, &json!({"ok": true, "woken": woken, "message": message}))
    };
    if source.spec.suspend {
        return taken(false, "the Source is suspended, and is not read");
    }
    // The delivery's id is not signed; what was signed is.
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let receipt = Receipt { key: format!("git/{uid}/{digest}"), effect: format!("sources/{name}") };
    let mut next = Some(source);
    for _ in 0..TRIES {
        let Some(mut source) = next.take().filter(|it| it.metadata.uid == uid) else {
            return not_found().await;
        };
        let now = state.0.ambient.clock.now();
        source.metadata.annotations.insert(RECONCILE_REQUESTED.to_owned(), format!("push {now}"));
        let write =
            Op::Write { object: source.into(), part: Part::Desired, expect: Expect::SameVersion };
        let transaction = Transaction::at(now).with(Op::Receipt(receipt.clone()));
        let transaction = transaction.with(Op::WrittenBy(MANAGER.to_owned())).with(write);
        match state.0.ambient.step("git.push", state.0.store.apply(transaction)).await {
            Ok(_) => return taken(true, "the Source is looked at now"),
            Err(store::Error::Duplicate { .. }) => {
                return taken(false, "this push was taken before");
            }
            Err(store::Error::Conflict { .. } | store::Error::NotFound { .. }) => {}
            Err(error_) => return error(StatusCode::SERVICE_UNAVAILABLE, error_.to_string()),
        }
        next = match state.0.store.get(Kind::Source, &name).await {
            Ok(found) => found.and_then(AnyObject::into_source),
            Err(error_) => return error(StatusCode::SERVICE_UNAVAILABLE, error_.to_string()),
        };
    }
    error(StatusCode::SERVICE_UNAVAILABLE, "the Source is written too often; send it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_bytes_and_the_secret() {
        // The example of GitHub's documentation on validating deliveries.
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let mut headers = HeaderMap::new();
        headers.insert("x-hub-signature-256", format!("sha256={hex}").parse().unwrap());
        let signature = signature(&headers).unwrap();
        let secret = "It's a Secret to Everybody";
        assert!(is_signed(secret, b"Hello, World!", &signature));
        assert!(!is_signed(secret, b"Hello, World?", &signature));
        assert!(!is_signed("another", b"Hello, World!", &signature));
    }

    #[test]
    fn what_is_no_signature_is_none() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-hub-signature-256", value.parse().unwrap());
            signature(&headers)
        };
        let hex = "a".repeat(64);
        assert!(of(&format!("sha256={hex}")).is_some());
        for bad in [hex.clone(), format!("sha1={hex}"), format!("sha256={hex}a"), "sha256=".into()]
        {
            assert_eq!(of(&bad), None, "{bad}");
        }
        assert_eq!(of(&format!("sha256={}", "+a".repeat(32))), None);
        assert_eq!(signature(&HeaderMap::new()), None);
    }

    #[test]
    fn only_pushes_to_the_branch_that_is_read_wake() {
        let push = |branch: &str| {
            let body = json!({"ref": branch, "repository": {"default_branch": "main"}});
            body.to_string().into_bytes()
        };
        assert_eq!(asked("push", &push("refs/heads/main"), None), Asked::Look);
        assert_eq!(asked("push", &push("refs/heads/live"), Some("live")), Asked::Look);
        for (body, spec) in [("refs/heads/live", None), ("refs/tags/main", None)] {
            assert!(matches!(asked("push", &push(body), spec), Asked::Nothing(_)), "{body}");
        }
        assert!(matches!(asked("push", &push("refs/heads/main"), Some("live")), Asked::Nothing(_)));
        assert_eq!(asked("push", br#"{"ref": "refs/heads/x"}"#, None), Asked::Look);
        assert_eq!(asked("ping", b"", None), Asked::Ping);
        assert!(matches!(asked("issues", b"{}", None), Asked::Nothing(_)));
        assert!(matches!(asked("push", b"payload=%7B", None), Asked::Bad(_)));
    }
}
