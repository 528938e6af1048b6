//! What stands on each of our machines, so that whoever finds it knows whose it is.
//!
//! Never `fly_platform_version` or `fly_process_group`: a machine that has those is flyctl's, and
//! goes with the next `fly deploy` of its app.

use std::collections::BTreeMap;

use super::api::Machine;
use crate::resource::Sprite;

/// The installation that made the machine, whole.
pub const INSTALLATION: &str = "od_installation";
/// The Sprite's uid.
pub const SPRITE: &str = "od_sprite";
/// The uid of whoever owns the Sprite: of whom a volume is kept.
pub const OWNER: &str = "od_owner";
/// A hash of what the machine was made from.
pub const SPEC: &str = "od_spec";
/// The Sprite's revision in the store when the machine was made. One above the store's own means
/// that the store was restored from a backup.
pub const REVISION: &str = "od_revision";

/// Whose a Sprite's lasting things are: its owner's, else its own.
#[must_use]
pub fn owner_of(sprite: &Sprite) -> &str {
    sprite.metadata.controller().map_or(&sprite.metadata.uid, |owner| &owner.uid)
}

/// The tags of a Sprite's machine.
#[must_use]
pub fn tags(installation: &str, sprite: &Sprite, spec: &str) -> BTreeMap<String, String> {
    let revision = &sprite.metadata.resource_version;
    [
        (INSTALLATION, installation),
        (SPRITE, &sprite.metadata.uid),
        (OWNER, owner_of(sprite)),
        (SPEC, spec),
        (REVISION, revision),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// Whether a machine is this Sprite's, by its tags.
#[must_use]
pub fn is_of(machine: &Machine, installation: &str, sprite_uid: &str) -> bool {
    machine.tag(INSTALLATION) == Some(installation) && machine.tag(SPRITE) == Some(sprite_uid)
}
