//! What Fleets and Schedules have in common: objects that they make, own by uid, and let go.

use std::time::Duration;

use jiff::Timestamp;

use super::{hands::write, history::event, words};
use crate::{
    ambient::later,
    resource::{
        API_VERSION, AnyObject, FINALIZER_OWNED, FINALIZER_SPRITES, Job, Kind, Metadata, ORPHAN,
        OwnerReference,
    },
    store::{Op, Part},
};

/// A Job that ended is kept at least so long, so that whoever reports it has its end.
pub(super) const KEPT_AT_LEAST: Duration = Duration::from_secs(60);

/// A line for an object's history, to be committed with what it tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) warning: bool,
    pub(super) reason: &'static str,
    pub(super) text: String,
}

impl Note {
    pub(super) fn plain(reason: &'static str, text: impl Into<String>) -> Self {
        Self { warning: false, reason, text: text.into() }
    }

    pub(super) fn warning(reason: &'static str, text: impl Into<String>) -> Self {
        Self { warning: true, reason, text: text.into() }
    }

    pub(super) fn op(&self, kind: Kind, about: &Metadata) -> Op {
        event(kind, about, self.warning, self.reason, self.text.as_str())
    }
}

/// Dresses a new object as one of an owner's: its reference, and the finalizer that holds it.
pub(super) fn own(metadata: &mut Metadata, kind: Kind, owner: &Metadata) {
    metadata.finalizers = vec![FINALIZER_SPRITES.to_owned()];
    metadata.owner_references = vec![OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind,
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: true,
    }];
}

/// Lets an object go from its owner; it stays as it is.
pub(super) fn release(mut object: AnyObject, owner_uid: &str) -> Op {
    object.metadata_mut().owner_references.retain(|owner| owner.uid != owner_uid);
    write(object, Part::Finalizers)
}

/// Whether what an owner has made stays when it goes.
pub(super) fn leaves_orphans(metadata: &Metadata) -> bool {
    metadata.annotations.get(ORPHAN).is_some_and(|value| value == "true")
}

/// Whether an owner is held until what it has made is gone.
pub(super) fn is_held(metadata: &Metadata) -> bool {
    metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER_OWNED)
}

/// An owner's metadata with the finalizer that holds it, or without.
pub(super) fn held(mut metadata: Metadata, held: bool) -> Metadata {
    metadata.finalizers.retain(|finalizer| finalizer != FINALIZER_OWNED);
    if held {
        metadata.finalizers.push(FINALIZER_OWNED.to_owned());
    }
    metadata
}

/// How a Job ended, once nothing of it runs: well, or otherwise.
pub(super) fn ended(job: &Job) -> Option<bool> {
    let conditions = &job.status.conditions;
    if conditions.is_true(words::COMPLETE) {
        Some(true)
    } else if conditions.is_true(words::FAILED) {
        Some(false)
    } else {
        None
    }
}

/// Until when a Job that ended is kept at least; nothing where nobody noted when it ended.
pub(super) fn kept_until(job: &Job) -> Option<Timestamp> {
    job.status.completion_time.map(|end| later(end, KEPT_AT_LEAST))
}
