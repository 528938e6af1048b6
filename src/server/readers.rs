//! Readers of what strangers send, for those who test that no bytes break them. Nothing is written and
//! nothing is believed here; requests go through their own doors.

use super::{api::protobuf, git_push};

/// Whether a body is an object in Kubernetes' protobuf; all of it is looked at.
#[must_use]
pub fn protobuf(body: &[u8]) -> bool {
    let Some(object) = protobuf::object(body) else { return false };
    for number in 0..16 {
        let _ = object.text(number);
        if let Some(inner) = object.message(number) {
            let _ = (0..16).map(|number| inner.text(number)).collect::<Vec<_>>();
        }
    }
    true
}

/// Whether a push webhook's event would wake a Source that reads `main`, and one that reads whatever
/// the repository's own branch is.
#[must_use]
pub fn push(event: &str, body: &[u8]) -> [bool; 2] {
    [Some("main"), None].map(|branch| git_push::wakes(event, body, branch))
}
