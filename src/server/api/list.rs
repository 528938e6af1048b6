//! Lists: whole or in pages, all true of one revision.

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::params::{Choice, Params};
use crate::{
    resource::{AnyObject, Kind},
    server::{State, status::Problem},
    store::Revision,
};

/// One page of a list.
pub(super) struct Page {
    pub(super) items: Vec<AnyObject>,
    /// The revision at which the whole list is true, and behind which a watch goes on.
    pub(super) revision: Revision,
    /// The token of the next page.
    pub(super) next: Option<String>,
    /// How many objects stand behind this page, where that is known.
    pub(super) remaining: Option<usize>,
}

/// Where the next page of a list begins.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Continue {
    /// The revision at which the list is true; 0 for one that goes on with what is there now.
    revision: Revision,
    /// The name behind which it begins.
    after: String,
}

impl Continue {
    fn write(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(token: &str) -> Result<Self, Problem> {
        URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(|| {
                Problem::bad_request("continue is none that this server gave; list anew")
            })
    }
}

/// Reads a page of the objects that are asked for.
pub(super) async fn page(state: &State, kind: Kind, params: &Params) -> Result<Page, Problem> {
    let choice = params.choice(kind)?;
    let limit = match params.number("limit")? {
        None | Some(0) => usize::MAX,
        Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    let from = params.text("continue").map(Continue::read).transpose()?;
    let asked = asked_revision(params, from.is_some())?;
    let shared = &state.0;
    let now = shared.ambient.clock.elapsed();
    let (objects, revision, after) = match from {
        Some(Continue { revision, after }) if revision > 0 => {
            let Some(objects) = shared.snapshots.at(kind, revision, now) else {
                let goes_on = Continue { revision: 0, after }.write();
                return Err(Problem::expired(
                    "the list that this continue belongs to is no longer kept; list anew, or go \
                     on with the continue in this answer's metadata and see what is there now, \
                     which may have changed since the first page",
                )
                .going_on(goes_on));
            };
            (objects, revision, after)
        }
        from => {
            let after = from.map(|from| from.after).unwrap_or_default();
            let behind = Some(after.as_str()).filter(|after| !after.is_empty());
            // Most lists are short, and need no picture.
            let room = if choice.is_everything() { limit } else { usize::MAX };
            let mut listing = shared.store.list(kind, behind, room).await?;
            check_revision(asked, listing.revision)?;
            if !listing.more && listing.items.len() <= limit {
                listing.items.retain(|object| choice.matches(object));
                let revision = listing.revision;
                return Ok(Page { items: listing.items, revision, next: None, remaining: None });
            }
            if listing.more {
                listing = shared.store.list(kind, None, usize::MAX).await?;
            }
            let revision = listing.revision;
            (shared.snapshots.keep(kind, revision, listing.items, now), revision, after)
        }
    };
    let start = objects.partition_point(|object| object.metadata().name <= after);
    let start = if after.is_empty() { 0 } else { start };
    Ok(cut(&objects[start..], &choice, limit, revision))
}

/// A page of a list that is kept.
fn cut(objects: &[AnyObject], choice: &Choice, limit: usize, revision: Revision) -> Page {
    let mut wanted = objects.iter().filter(|object| choice.matches(object));
    let items: Vec<AnyObject> = wanted.by_ref().take(limit).cloned().collect();
    let rest = wanted.count();
    let last = items.last().map(|last| last.metadata().name.clone()).unwrap_or_default();
    let next = (rest > 0).then(|| Continue { revision, after: last }.write());
    // Kubernetes counts only where no selector makes counting dear.
    let remaining = (rest > 0 && choice.is_everything()).then_some(rest);
    Page { items, revision, next, remaining }
}

/// What a client says of the revision that it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// The newest.
    Newest,
    /// This one or a newer one.
    NotOlderThan(Revision),
    /// Just this one.
    Exact(Revision),
}

fn asked_revision(params: &Params, goes_on: bool) -> Result<Asked, Problem> {
    let revision = params.number("resourceVersion")?.filter(|revision| *revision > 0);
    let how = params.text("resourceVersionMatch").filter(|_| !params.flag("sendInitialEvents"));
    match (how, revision) {
        (Some(_), _) if goes_on => Err(Problem::bad_request(
            "resourceVersionMatch cannot be said with continue: the list has its revision",
        )),
        (_, Some(_)) if goes_on => Err(Problem::bad_request(
            "resourceVersion cannot be said with continue: the list has its revision",
        )),
        (Some(_), None) if params.text("resourceVersion").is_none() => Err(Problem::bad_request(
            "resourceVersionMatch says nothing without a resourceVersion; name one",
        )),
        (Some("Exact"), None) => Err(Problem::bad_request(
            "resourceVersionMatch Exact needs a resourceVersion other than 0",
        )),
        (Some("Exact"), Some(revision)) => Ok(Asked::Exact(revision)),
        (None | Some("NotOlderThan"), Some(revision)) => Ok(Asked::NotOlderThan(revision)),
        (None | Some("NotOlderThan"), None) => Ok(Asked::Newest),
        (Some(other), _) => Err(Problem::bad_request(format!(
            "resourceVersionMatch is `{other}`, and can be Exact or NotOlderThan"
        ))),
    }
}

fn check_revision(asked: Asked, is: Revision) -> Result<(), Problem> {
    match asked {
        Asked::NotOlderThan(wanted) if wanted > is => Err(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Too large resource version: {wanted}, current: {is}; list without one"),
        )),
        Asked::Exact(wanted) if wanted > is => Err(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            format!("Too large resource version: {wanted}, current: {is}; list without one"),
        )),
        Asked::Exact(wanted) if wanted < is => Err(Problem::expired(format!(
            "the list as it was at resourceVersion {wanted} is not kept; list the newest"
        ))),
        _ => Ok(()),
    }
}
