//! What all controllers' hands have in common: reading the store, and committing to it.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    ambient::{Ambient, between},
    reconcile::{Error, Next},
    resource::{AnyObject, Kind, Sprite},
    store::{Expect, Op, Part, Store, Transaction},
};

/// The store, and the right to write to it.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) store: Arc<dyn Store>,
    pub(super) ambient: Ambient,
}

impl Hands {
    /// Commits under a name.
    pub(super) async fn commit(&self, step: &'static str, ops: Vec<Op>) -> Result<(), Error> {
        let transaction = Transaction { ops, now: self.now() };
        self.ambient.step(step, self.store.apply(transaction)).await?;
        Ok(())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.ambient.clock.now()
    }

    /// All objects of a kind.
    pub(super) async fn all(&self, kind: Kind) -> Result<Vec<AnyObject>, Error> {
        const PAGE: usize = 1000;
        let mut objects: Vec<AnyObject> = Vec::new();
        loop {
            let after = objects.last().map(|object| object.metadata().name.clone());
            let page = self.store.list(kind, after.as_deref(), PAGE).await?;
            objects.extend(page.items);
            if !page.more {
                return Ok(objects);
            }
        }
    }

    /// The Sprites that an owner controls, by their number.
    pub(super) async fn sprites_of(&self, owner_uid: &str) -> Result<Vec<Sprite>, Error> {
        let owned = self.store.list_owned(Kind::Sprite, owner_uid).await?;
        let mut sprites: Vec<Sprite> =
            owned.into_iter().filter_map(AnyObject::into_sprite).collect();
        sprites.sort_by_key(|sprite| sprite.spec.attempt);
        Ok(sprites)
    }
}

/// Writes a part of what was read, if nobody else has written meanwhile.
pub(super) fn write(object: impl Into<AnyObject>, part: Part) -> Op {
    Op::Write { object: object.into(), part, expect: Expect::SameVersion }
}

/// Asks to be woken at a time.
pub(super) fn next_at(at: Option<Timestamp>, now: Timestamp) -> Next {
    match at {
        // A time that has passed was acted on already; what follows from it is seen next time.
        Some(at) => Next::After(between(now, at).max(Duration::from_millis(1))),
        None => Next::Done,
    }
}

/// The earlier of two times.
pub(super) fn sooner(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
