//! What members were filled in with under templates that a Fleet has no more.
//!
//! The name of a Job follows from all that it is made from. So what became of the Jobs of a former template
//! ([`super::runs`]) says nothing without what they were filled in with: where that template comes back,
//! others would be made in their place. Each run is of one template, so there are no more notes to keep than
//! runs, and for no longer.

use jiff::Timestamp;

use super::runs::known_until;
use crate::resource::{FleetSpec, FleetStatus, PastUsual, Usual, expand::MOST_MEMBERS};

/// Notes what the template of a spec is filled in with, and keeps what was noted for the one before it.
pub(super) fn note(status: &mut FleetStatus, spec: &FleetSpec, usual: Usual, now: Timestamp) {
    status.past_usual.remove(&usual.of);
    let former = status.usual.replace(usual);
    if let Some(usual) = former.filter(|former| former.of(spec).is_none()) {
        let past = PastUsual { usual, until: known_until(now) };
        status.past_usual.insert(past.usual.of.clone(), past);
    }
    forget(status, now);
}

/// Forgets what was noted too long ago, and the oldest of too many notes.
pub(super) fn forget(status: &mut FleetStatus, now: Timestamp) {
    let past = &mut status.past_usual;
    past.retain(|_, past| past.until > now);
    let surplus = past.len().saturating_sub(MOST_MEMBERS);
    if surplus > 0 {
        let mut oldest: Vec<(Timestamp, String)> =
            past.iter().map(|(of, past)| (past.until, of.clone())).collect();
        oldest.sort();
        for (_, of) in oldest.iter().take(surplus) {
            past.remove(of);
        }
    }
}

/// When the next note is forgotten.
pub(super) fn next_forgotten(status: &FleetStatus) -> Option<Timestamp> {
    status.past_usual.values().map(|past| past.until).min()
}
