//! A Sprite as its owner sees it: its name, how it is made, and whether it is over.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::words;
use crate::resource::{
    API_VERSION, Condition, ConditionStatus, ExitReason, FINALIZER_RUNTIME, Kind, Metadata,
    OwnerReference, Sprite, SpriteSpec,
};

/// How much of an owner's name is in its Sprites' names.
const OWNER_NAME_LENGTH: usize = 40;

/// The name of an owner's n-th Sprite: the owner's name cut to forty, six hexadecimal digits of a
/// hash of its uid, and the number. So an owner that was deleted and made anew under its old name
/// has other Sprites.
#[must_use]
pub fn sprite_name(owner_name: &str, owner_uid: &str, n: u32) -> String {
    // Names are ASCII; anything else is cut at a character.
    let cut: String = owner_name.chars().take(OWNER_NAME_LENGTH).collect();
    let hash = Sha256::digest(owner_uid.as_bytes());
    let hash: String = hash.iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}-{n}", cut.trim_end_matches('-'))
}

/// An owner's next Sprite, with the finalizer that holds it while a process of it may exist. Its
/// uid is drawn when it is committed.
pub(super) fn new_sprite(kind: Kind, owner: &Metadata, spec: SpriteSpec) -> Sprite {
    let mut sprite = Sprite::new(sprite_name(&owner.name, &owner.uid, spec.attempt), spec);
    sprite.metadata.finalizers = vec![FINALIZER_RUNTIME.to_owned()];
    sprite.metadata.owner_references = vec![OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind,
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: true,
    }];
    sprite
}

/// Whether nothing of it is left to wait for: no process, and no output.
pub(super) fn is_over(sprite: &Sprite) -> bool {
    let conditions = &sprite.status.conditions;
    conditions.is_true(words::GONE) && conditions.is_true(words::DRAINED)
}

/// Whether its last run has ended in order to sleep, and nothing of it is left; no other run has
/// been asked for.
pub(super) fn is_asleep(sprite: &Sprite) -> bool {
    sprite.status.conditions.is_true(words::ASLEEP)
        && sprite.status.slept == sprite.spec.run
        && sprite.status.exit.is_none()
}

/// Whether a turn can be handed to it: what its controller said of it, and what is known since.
pub(super) fn takes_turns(sprite: &Sprite) -> bool {
    let status = &sprite.status;
    status.conditions.is_true(words::READY)
        && status.ready
        && status.run == sprite.spec.run
        && status.slept < sprite.spec.run
        && status.exit.is_none()
        && sprite.spec.running
        && !is_stopping(sprite)
}

/// Whether its runtime cannot tell what there is of it.
pub(super) fn is_unknown(sprite: &Sprite) -> bool {
    sprite.status.conditions.get(words::STALLED).is_some_and(|stalled| {
        stalled.status == ConditionStatus::True && stalled.reason == words::RUNTIME_UNKNOWN
    })
}

/// Since when it is over.
pub(super) fn over_since(sprite: &Sprite) -> Option<Timestamp> {
    let since = |kind| {
        let condition: Option<&Condition> = sprite.status.conditions.get(kind);
        condition.map(|condition| condition.last_transition_time)
    };
    if is_over(sprite) { since(words::GONE).max(since(words::DRAINED)) } else { None }
}

/// Whether it is already on its way out by somebody's wish.
pub(super) fn is_stopping(sprite: &Sprite) -> bool {
    sprite.spec.stop.is_some() || sprite.metadata.is_deleting()
}

/// Whether its reporter ever spoke: from then on, what happens to it is the agent's doing.
pub(super) fn said_hello(sprite: &Sprite) -> bool {
    sprite.status.hello_time.is_some()
}

/// Whether it was lost before its reporter spoke: nobody's failure.
pub(super) fn was_lost(sprite: &Sprite) -> bool {
    let reason = sprite.status.exit.as_ref().map(|exit| exit.reason);
    is_over(sprite)
        && !said_hello(sprite)
        && matches!(
            reason,
            None | Some(ExitReason::ReporterLost | ExitReason::Abandoned | ExitReason::Superseded)
        )
}

/// Whether the end of its output may be missing.
pub(super) fn has_gap(sprite: &Sprite) -> bool {
    sprite
        .status
        .conditions
        .get(words::DRAINED)
        .is_some_and(|drained| drained.reason == words::OUTPUT_GAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sprites_name_is_a_dns_label_however_long_its_owners_is() {
        let long = format!("{}-{}", "a".repeat(39), "b".repeat(23));
        let name = sprite_name(&long, "some uid", u32::MAX);
        assert!(name.len() <= 63, "{name}");
        assert!(!name.contains("--"), "{name}");
    }

    #[test]
    fn an_owner_made_anew_has_other_sprites() {
        assert_ne!(sprite_name("a", "uid 1", 1), sprite_name("a", "uid 2", 1));
        assert_eq!(sprite_name("a", "uid 1", 1), sprite_name("a", "uid 1", 1));
    }
}
