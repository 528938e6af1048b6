//! Bodies, read within bounds: of size, so that nobody fills the memory; of time, so that nobody
//! holds a slot by sending slowly.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http_body_util::BodyExt as _;

use crate::ambient::Clock;

/// How long a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How much of a body that is too large is still read, so that its sender hears our answer
/// instead of a broken pipe.
const DRAINED: usize = 8 * 1024 * 1024;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    /// It is larger than it may be.
    #[error("the body is too large (limit {0} bytes)")]
    TooLarge(usize),
    /// The connection broke, or what came is no body.
    #[error("the body broke off")]
    Broken,
    /// It took too long.
    #[error("the body did not arrive within {} s", .0.as_secs())]
    TooSlow(Duration),
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(body: Body, limit: usize, clock: &dyn Clock) -> Result<Bytes, BodyError> {
    read_within(BODY_TIME, body, limit, clock).await
}

/// Reads a body of at most `limit` bytes that has this much time.
pub(super) async fn read_within(
    time: Duration,
    body: Body,
    limit: usize,
    clock: &dyn Clock,
) -> Result<Bytes, BodyError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let known = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    tokio::select! {
        biased;
        read = collect(body, known, limit) => read,
        () = clock.sleep(time) => Err(BodyError::TooSlow(time)),
    }
}

async fn collect(mut body: Body, known: usize, limit: usize) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut all = Vec::new();
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        size = size.saturating_add(data.len());
        if size > limit || known > limit {
            if size > DRAINED || known > DRAINED {
                return Err(BodyError::TooLarge(limit));
            }
        } else if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.reserve(known.max(first.len() + data.len()));
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
    }
    match () {
        () if size > limit || known > limit => Err(BodyError::TooLarge(limit)),
        () if all.is_empty() => Ok(first),
        () => Ok(all.into()),
    }
}
