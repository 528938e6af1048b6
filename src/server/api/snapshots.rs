//! Lists that are read in pages are read from a picture of the first page's moment.
//!
//! The store keeps each object as it is now, so a list that is to be true of one revision from its
//! first page to its last must be kept as it was. It is kept here, for as long as Kubernetes keeps
//! its own, and not more of them than fit. A list whose picture is gone (it was slow, others came
//! after it, or the server was started anew) gets 410 and a token by which it can go on with what
//! is there now.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    resource::{AnyObject, Kind},
    store::Revision,
};

/// How long a picture is kept.
const KEPT: Duration = Duration::from_mins(5);
/// How many pictures are kept.
const MOST: usize = 8;
/// How many objects all pictures may hold together; the newest is kept however large it is.
const MOST_OBJECTS: usize = 50_000;

/// A list as it was.
#[derive(Clone)]
struct Picture {
    kind: Kind,
    revision: Revision,
    objects: Arc<Vec<AnyObject>>,
    /// When it was taken, by the clock's `elapsed`.
    taken: Duration,
}

/// The pictures of lists that are under way.
#[derive(Default)]
pub(in crate::server) struct Snapshots(Mutex<VecDeque<Picture>>);

impl Snapshots {
    /// Keeps a list as it is at a revision.
    pub(super) fn keep(
        &self,
        kind: Kind,
        revision: Revision,
        objects: Vec<AnyObject>,
        now: Duration,
    ) -> Arc<Vec<AnyObject>> {
        let mut pictures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pictures.retain(|it| now.saturating_sub(it.taken) < KEPT);
        if let Some(same) = pictures.iter().find(|it| it.kind == kind && it.revision == revision) {
            return same.objects.clone();
        }
        let objects = Arc::new(objects);
        let new = Picture { kind, revision, objects: objects.clone(), taken: now };
        pictures.push_back(new);
        let held = |pictures: &VecDeque<Picture>| -> usize {
            pictures.iter().map(|it| it.objects.len()).sum()
        };
        while pictures.len() > MOST || (pictures.len() > 1 && held(&pictures) > MOST_OBJECTS) {
            pictures.pop_front();
        }
        objects
    }

    /// The list as it was at a revision, if it is still kept.
    pub(super) fn at(
        &self,
        kind: Kind,
        revision: Revision,
        now: Duration,
    ) -> Option<Arc<Vec<AnyObject>>> {
        let mut pictures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pictures.retain(|it| now.saturating_sub(it.taken) < KEPT);
        let found = pictures.iter().find(|it| it.kind == kind && it.revision == revision);
        found.map(|it| it.objects.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_pictures_make_room_and_time_takes_them() {
        let snapshots = Snapshots::default();
        let at = Duration::from_secs;
        for revision in 1..=9 {
            snapshots.keep(Kind::Job, revision, Vec::new(), at(revision));
        }
        assert!(snapshots.at(Kind::Job, 1, at(9)).is_none(), "there are too many");
        assert!(snapshots.at(Kind::Job, 2, at(9)).is_some());
        assert!(snapshots.at(Kind::Agent, 2, at(9)).is_none(), "it is of another kind");
        assert!(snapshots.at(Kind::Job, 2, at(302)).is_none(), "it is too old");
        assert!(snapshots.at(Kind::Job, 9, at(302)).is_some());
    }
}
