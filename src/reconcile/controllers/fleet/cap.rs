//! How many members a Fleet over directories may lose at once.
//!
//! What such a Fleet is generated for is no list that somebody wrote: a commit that moves a directory of
//! a repository takes away every member below it. So past a cap somebody confirms, as with what a
//! Source deletes; a Source never deletes these itself. The confirmation names how many members it is
//! for, and is used up by the very commit that deletes them: some may have to stay for days until they
//! have answered, and what another revision takes away meanwhile nobody has confirmed.

use std::collections::BTreeSet;

use super::{super::words, plan::Trouble};
use crate::resource::{
    AnyObject, CONFIRM_DELETIONS, DEFAULT_MAX_DELETIONS, Fleet, Kind, expand::Member,
    fleet::Generator,
};

/// Whether a Fleet's members follow from the directories of a repository.
pub(super) fn is_of_directories(fleet: &Fleet) -> bool {
    matches!(fleet.spec.generate, Generator::GitDirectories(_))
}

/// Why the members that are not generated any more stay, where there are too many of them.
pub(super) fn held(fleet: &Fleet, wanted: &[Member], owned: &[AnyObject]) -> Option<Trouble> {
    let gone = surplus(wanted, owned);
    let limit = usize::try_from(DEFAULT_MAX_DELETIONS).unwrap_or(usize::MAX);
    if !is_of_directories(fleet) || gone <= limit || gone <= confirmed(fleet) {
        return None;
    }
    let name = &fleet.metadata.name;
    let message = format!(
        "{gone} members would be deleted, which is more than {limit}, because nothing \
         generates them any more; if that is meant: open-dispatch annotate fleet/{name} {CONFIRM_DELETIONS}={gone}"
    );
    Some(Trouble { reason: words::DELETIONS_HELD, message })
}

/// How many may go by the confirmation that stands there, after `deleted` of those that are there have
/// gone: never more than there are to go then. None where it says just that, or where none stands there.
pub(super) fn left(
    fleet: &Fleet,
    wanted: &[Member],
    owned: &[AnyObject],
    deleted: usize,
) -> Option<usize> {
    let said = fleet.metadata.annotations.get(CONFIRM_DELETIONS);
    let said = said.filter(|_| is_of_directories(fleet))?;
    let left = confirmed(fleet).min(surplus(wanted, owned)).saturating_sub(deleted);
    (left == 0 || *said != left.to_string()).then_some(left)
}

/// A Fleet whose confirmation is for so many; for none, it is gone.
pub(super) fn with_left(fleet: &Fleet, left: usize) -> Fleet {
    let mut fleet = fleet.clone();
    let annotations = &mut fleet.metadata.annotations;
    match left {
        0 => annotations.remove(CONFIRM_DELETIONS),
        left => annotations.insert(CONFIRM_DELETIONS.to_owned(), left.to_string()),
    };
    fleet
}

/// For how many members somebody has confirmed that they may go.
fn confirmed(fleet: &Fleet) -> usize {
    let said = fleet.metadata.annotations.get(CONFIRM_DELETIONS);
    said.and_then(|said| said.parse().ok()).unwrap_or_default()
}

/// How many members are there that are not generated any more, and are not on their way out yet.
fn surplus(wanted: &[Member], owned: &[AnyObject]) -> usize {
    let names: BTreeSet<(Kind, &str)> =
        wanted.iter().map(|member| (member.object.kind(), member.name.as_str())).collect();
    let stays =
        |object: &AnyObject| names.contains(&(object.kind(), object.metadata().name.as_str()));
    owned.iter().filter(|object| !object.metadata().is_deleting() && !stays(object)).count()
}
