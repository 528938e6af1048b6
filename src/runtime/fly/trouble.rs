//! What a failed call means for a Sprite, and what there is to do about it.

use super::api::ApiError;
use crate::runtime::{Error, Lack};

/// The regions that Fly has (its documentation, 2026-08), for who named none of them.
const REGIONS: &str = "ams arn bom cdg dfw ewr fra gru iad jnb lax lhr nrt ord sin sjc syd yyz";

/// What a failed call means.
///
/// Where a person may have to see to it (the token, the app, the account, room), it is
/// [`Error::Waiting`]: tried again, and told. What will be refused as often as it is asked is
/// [`Error::Terminal`].
pub(super) fn meaning(error: ApiError, app: &str) -> Error {
    let text = error.to_string();
    let waiting = |lack, message| Error::Waiting { lack, message };
    match error {
        ApiError::Fault(fault) => Error::Fault(fault),
        ApiError::Ambiguous(_) => Error::Ambiguous(text),
        ApiError::Setup(_) => Error::Terminal(text),
        ApiError::Token(_) | ApiError::Forbidden(_) => waiting(Lack::Access, text),
        ApiError::NotFound(_) => waiting(
            Lack::Place,
            format!("{text}; if the app {app} does not exist, run `fly apps create {app}`"),
        ),
        ApiError::Capacity { .. } => waiting(Lack::Room, text),
        ApiError::Limit(_) => waiting(Lack::Limit, text),
        ApiError::Resting { refused: true, .. } => waiting(Lack::Access, text),
        ApiError::Resting { refused: false, .. } => waiting(Lack::Answer, text),
        ApiError::Invalid(_) => Error::Terminal(text),
        ApiError::NameTaken { .. }
        | ApiError::Conflict(_)
        | ApiError::NotNow(_)
        | ApiError::RateLimited { .. }
        | ApiError::Unavailable(_) => Error::Transient(text),
    }
}

/// What a refused create means: it names what it was asked for, of which something is wrong.
pub(super) fn refused(error: ApiError, app: &str, image: &str, region: &str) -> Error {
    match error {
        ApiError::Invalid(answer) => {
            let low = answer.said.to_lowercase();
            let mend = if low.contains("manifest") || low.contains("image") {
                format!(
                    "see that {image} exists and can be pulled by anybody, or push it to \
                     registry.fly.io/{app} (`fly auth docker`)"
                )
            } else if low.contains("region") {
                format!("{region} must name regions of Fly ({REGIONS}), or eu, us, apac, any")
            } else {
                format!("see image {image}, region {region}, and runtime.fly.guest")
            };
            Error::Terminal(format!("{}; {mend}", ApiError::Invalid(answer)))
        }
        other => meaning(other, app),
    }
}
