//! Asking for a run: `POST /webhooks/claim`, one try at a time. Who calls decides whether to try
//! again, by what the answer means.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;

use super::http::{Address, Connection};
use crate::wire::{ClaimRequest, Claimed};

/// How long the server may take to answer: it commits before it does.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The largest answer, in bytes: a task and an environment may be long.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
/// The longest wait that a server may ask for.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// What an answer to a claim means.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimAnswer {
    /// The run is this boot's.
    Given(Box<Claimed>),
    /// It never will be: there is nothing to do here.
    Refused(String),
    /// The server does not understand us, and will not by trying again.
    Misunderstood(String),
    /// Not now; perhaps after this long.
    Later(String, Option<Duration>),
}

/// The server's own words in an answer that is no yes.
#[derive(Deserialize)]
struct Said {
    error: String,
}

/// Asks once.
pub async fn claim(address: &Address, request: &ClaimRequest) -> ClaimAnswer {
    let asked = async {
        let mut connection = Connection::open(address).await?;
        // Named in the address, so that a server that has forgotten the sprite can say so.
        let path = format!("/webhooks/claim?jobId={}", address.job_id);
        let body = Bytes::from(serde_json::to_vec(request).unwrap_or_default());
        connection.ask(&path, "application/json", body, ANSWER_WITHIN, MAX_ANSWER_BYTES).await
    };
    match asked.await {
        Ok((status, after, body)) => understand(status, after, &body),
        Err(trouble) => ClaimAnswer::Later(trouble.to_string(), None),
    }
}

/// Understands an answer.
fn understand(status: StatusCode, after: Option<Duration>, body: &[u8]) -> ClaimAnswer {
    let said = match serde_json::from_slice::<Said>(body) {
        Ok(said) if !said.error.is_empty() => said.error,
        _ => format!("the server answered {status}"),
    };
    match status.as_u16() {
        200 => match serde_json::from_slice(body) {
            Ok(claimed) => ClaimAnswer::Given(Box::new(claimed)),
            Err(error) => ClaimAnswer::Misunderstood(format!(
                "the server's answer is not understood ({error}); build the image with the \
                 sidecar of the server's version"
            )),
        },
        410 => ClaimAnswer::Refused(said),
        400 | 413 | 422 => ClaimAnswer::Misunderstood(said),
        429 | 503 => ClaimAnswer::Later(said, after.map(|wish| wish.min(LONGEST_WISH))),
        // 401 and 404 come from another's server, or an older one, at this address for now.
        _ => ClaimAnswer::Later(format!("{said} ({status})"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_a_meaning() {
        let of = |status: u16, body: &str| {
            let after = Some(Duration::from_secs(99));
            understand(StatusCode::from_u16(status).unwrap(), after, body.as_bytes())
        };
        let error = r#"{"error":"why"}"#;
        assert_eq!(of(410, error), ClaimAnswer::Refused("why".into()));
        assert_eq!(of(400, error), ClaimAnswer::Misunderstood("why".into()));
        assert_eq!(of(503, error), ClaimAnswer::Later("why".into(), Some(LONGEST_WISH)));
        for status in [401, 404, 500, 502] {
            assert!(matches!(of(status, "<html>"), ClaimAnswer::Later(_, None)), "{status}");
        }
        let ClaimAnswer::Misunderstood(why) = of(200, "{}") else { panic!("no run is in it") };
        assert!(why.contains("build the image"), "{why}");
    }
}
