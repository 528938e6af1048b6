//! The names of machines and volumes: drawn from uids alone, so that after any crash the same name
//! is asked for again.
//!
//! A machine's name is unique among the machines of its app that live, which makes it the handle of
//! creation: asked for twice, it is there once. A volume's name is not unique; it is looked up before
//! one is made. Volumes carry no tags, so whose it is stands in the name, as a hash.

use sha2::{Digest as _, Sha256};

/// How every name of ours begins.
const PREFIX: &str = "od";
/// How much of the installation is in a name.
const INSTALLATION_LENGTH: usize = 8;
/// A uid longer than this, or of other letters than a name may have, is hashed.
const UID_LENGTH: usize = 40;
/// Hexadecimal digits of an owner's key: with prefix and installation, what a volume's name holds
/// (30 characters, as Fly says).
const KEY_LENGTH: usize = 18;

/// The first hexadecimal digits of a hash.
pub(super) fn digest(text: &str, length: usize) -> String {
    let mut hex: String =
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    hex.truncate(length);
    hex
}

/// What of an installation stands in names: its first eight letters and digits.
fn short(installation: &str) -> String {
    let plain = installation.chars().filter(char::is_ascii_alphanumeric);
    plain.take(INSTALLATION_LENGTH).collect::<String>().to_ascii_lowercase()
}

/// The machine of a sprite.
#[must_use]
pub fn machine(installation: &str, sprite_uid: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = sprite_uid.len() <= UID_LENGTH
        && sprite_uid.bytes().all(plain)
        && !sprite_uid.ends_with('-')
        && !sprite_uid.is_empty();
    let uid = if fits { sprite_uid.to_owned() } else { digest(sprite_uid, 32) };
    format!("{PREFIX}-{}-{uid}", short(installation))
}

/// The Sprite whose machine has this name, where the name holds its uid.
#[must_use]
pub fn sprite<'a>(installation: &str, name: &'a str) -> Option<&'a str> {
    let uid = name.strip_prefix(PREFIX)?.strip_prefix('-')?;
    let uid = uid.strip_prefix(short(installation).as_str())?.strip_prefix('-')?;
    (!uid.is_empty()).then_some(uid)
}

/// Under which key something is kept that belongs to a uid: what a volume's name has room for.
#[must_use]
pub fn key(uid: &str) -> String {
    digest(uid, KEY_LENGTH)
}

/// The volumes of an owner.
#[must_use]
pub fn volume(installation: &str, owner_uid: &str) -> String {
    format!("{}{}", volumes(installation), key(owner_uid))
}

/// How the names of an installation's volumes begin.
fn volumes(installation: &str) -> String {
    format!("{PREFIX}_{}_", short(installation))
}

/// The key of whoever a volume belongs to, if it is this installation's.
#[must_use]
pub fn key_of_volume<'a>(installation: &str, name: &'a str) -> Option<&'a str> {
    let key = name.strip_prefix(&volumes(installation))?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (key.len() == KEY_LENGTH && key.bytes().all(hex)).then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOME: &str = "0198c0de-7000-7abc-8def-000000000001";

    #[test]
    fn a_machine_is_named_by_its_sprite() {
        let uid = "0198c0de-aaaa-7bbb-8ccc-000000000002";
        insta::assert_snapshot!(machine(HOME, uid), @"od-0198c0de-0198c0de-aaaa-7bbb-8ccc-000000000002");
        assert_eq!(sprite(HOME, &machine(HOME, uid)), Some(uid));
        insta::assert_snapshot!(volume(HOME, uid), @"od_0198c0de_cd70d78fdacdd19643");
    }

    proptest! {
        #[test]
        fn names_fit_and_lead_back(home in "\\PC{0,40}", uid in "\\PC{0,60}", other in "\\PC{0,60}") {
            let name = machine(&home, &uid);
            prop_assert!(name.len() <= 63);
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            let volume = volume(&home, &uid);
            prop_assert!(volume.len() <= 30);
            let own = key(&uid);
            prop_assert_eq!(key_of_volume(&home, &volume), Some(own.as_str()));
            prop_assert_eq!(machine(&home, &other) == name, other == uid);
        }
    }

    #[test]
    fn what_is_anothers_volume_is_not_taken_for_ours() {
        for name in ["data", "od_0198c0de_", "od_ffffffff_cd70d78fdacdd19643", "od_0198c0de_mine"] {
            assert_eq!(key_of_volume(HOME, name), None, "{name}");
        }
    }
}
