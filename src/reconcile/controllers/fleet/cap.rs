//! How many members a Fleet over directories may lose at once.
//!
//! What such a Fleet is generated for is no list that somebody wrote: a commit that moves a directory of
//! a repository takes away every member below it. So past a cap somebody confirms, as with what a
//! Source deletes; a Source never deletes these itself. The confirmation names how many members it is
//! for, and is taken away once they are gone: it is good for one time.

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
    let said = fleet.metadata.annotations.get(CONFIRM_DELETIONS);
    let confirmed = said.and_then(|said| said.parse::<usize>().ok()).unwrap_or_default();
    if !is_of_directories(fleet) || gone <= limit || gone <= confirmed {
        return None;
    }
    let name = &fleet.metadata.name;
    let message = format!(
        "{gone} members would be deleted, which is more than {limit}, because their directories are \
         gone; if that is meant: open-dispatch annotate fleet/{name} {CONFIRM_DELETIONS}={gone}"
    );
    Some(Trouble { reason: words::DELETIONS_HELD, message })
}

/// Whether a confirmation stands there that has nothing left to confirm.
pub(super) fn is_spent(fleet: &Fleet, wanted: &[Member], owned: &[AnyObject]) -> bool {
    is_of_directories(fleet)
        && fleet.metadata.annotations.contains_key(CONFIRM_DELETIONS)
        && surplus(wanted, owned) == 0
}

/// How many members are there that are not generated any more, and are not on their way out yet.
fn surplus(wanted: &[Member], owned: &[AnyObject]) -> usize {
    let names: BTreeSet<(Kind, &str)> =
        wanted.iter().map(|member| (member.object.kind(), member.name.as_str())).collect();
    let stays =
        |object: &AnyObject| names.contains(&(object.kind(), object.metadata().name.as_str()));
    owned.iter().filter(|object| !object.metadata().is_deleting() && !stays(object)).count()
}
