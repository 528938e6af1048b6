//! What a Source left that is gone without having let go of what it owned.
//!
//! A Source that is deleted is held until nothing is its own any more. Its rows stay behind only where
//! somebody took the object out of the store by hand. Then nobody can speak for them, and whoever declares
//! the same objects would be told for ever that they are another's. So the Source of the same name inherits
//! all of them, as if it were the one that is gone; for any other Source what it declares of them is
//! nobody's.

use std::collections::{BTreeMap, BTreeSet};

use super::set::Key;
use crate::{
    resource::{Kind, Source},
    store::{self, Expect, Op, Owned, Part, Store},
};

/// What has to be written so that rows of Sources that are gone do not stand in the way of a Source;
/// nothing where there are none. `rows` are those of what it declares.
///
/// # Errors
/// The store cannot be read.
pub(super) async fn inherit(
    store: &dyn Store,
    source: &Source,
    rows: &BTreeMap<Key, Owned>,
) -> Result<Vec<Op>, store::Error> {
    let others: BTreeSet<&str> = rows
        .values()
        .map(|row| row.source_uid.as_str())
        .filter(|uid| *uid != source.metadata.uid)
        .collect();
    let mut ops = Vec::new();
    for uid in others {
        // A Source does not come again under its uid.
        if store.get_by_uid(Kind::Source, uid).await?.is_none() {
            let left = store.inventory(uid).await?;
            ops.extend(left.into_iter().filter_map(|row| passes(source, row, rows)));
        }
    }
    if !ops.is_empty() {
        // Writes nothing, and fails where the Source has changed since.
        let (part, expect) = (Part::Status, Expect::SameVersion);
        ops.push(Op::Write { object: source.clone().into(), part, expect });
    }
    Ok(ops)
}

/// What becomes of one row.
fn passes(source: &Source, row: Owned, rows: &BTreeMap<Key, Owned>) -> Option<Op> {
    if row.source == source.metadata.name {
        return Some(Op::Own(Owned { source_uid: source.metadata.uid.clone(), ..row }));
    }
    let Owned { kind, name, version, .. } = row;
    rows.contains_key(&(kind, name.clone())).then_some(Op::Disown { kind, name, version })
}
