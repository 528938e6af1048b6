//! Pairing codes: what a stranger is told, and an operator types.
//!
//! A code is no secret. It names a row in which the platform's id of whoever asked stands; so
//! whoever sees it can do nothing with it but ask an operator to let just that person in. It is
//! drawn by chance all the same, so that nobody can guess which ones are open.

use sha2::{Digest as _, Sha256};

use crate::store::Role;

/// Nothing that looks like something else when it is read out: no vowels, no 0, 1, 3.
const LETTERS: &[u8; 24] = b"BCDFGHJKMNPQRTVWXZ245678";
/// How many of them make a code: more than 10^11 codes.
pub const LENGTH: usize = 8;

/// The code that comes of a chance text, such as a fresh uid and the key of the line.
#[must_use]
pub fn code(chance: &str) -> String {
    let hash = Sha256::digest(chance);
    // Two bytes a letter: hardly a letter comes more often than another.
    hash.chunks_exact(2)
        .take(LENGTH)
        .map(|pair| {
            let number = usize::from(pair[0]) << 8 | usize::from(pair[1]);
            char::from(LETTERS[number % LETTERS.len()])
        })
        .collect()
}

/// What somebody typed as a code, as it is kept: in capitals, without the spaces and dashes with
/// which people group letters. None for what cannot be one.
#[must_use]
pub fn read(typed: &str) -> Option<String> {
    let letters = typed.chars().filter(|c| !c.is_whitespace() && *c != '-');
    let code: String = letters.take(LENGTH + 1).map(|c| c.to_ascii_uppercase()).collect();
    let fits = code.len() == LENGTH && code.bytes().all(|byte| LETTERS.contains(&byte));
    fits.then_some(code)
}

/// What somebody is told once they were let in.
#[must_use]
pub fn welcome(role: Role) -> String {
    let may = match role {
        Role::Viewer => "You may look: /od-list, /od-jobs, /od-status NAME, /od-logs NAME.",
        Role::User => "You may look, and talk with agents: just say it where one listens.",
        Role::Operator => "You may look, talk with agents, and command them: try /od-start.",
        Role::Admin => "You may do everything here.",
    };
    format!("You were let in, as {role}. {may} /od-help lists all commands.")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn many_codes_are_all_different() {
        let codes: BTreeSet<String> = (0..5_000).map(|n| code(&n.to_string())).collect();
        assert_eq!(codes.len(), 5_000);
    }

    proptest! {
        #[test]
        fn a_code_is_read_however_it_is_typed(chance in "\\PC{0,40}", at in 1..LENGTH, lower: bool) {
            let code = code(&chance);
            let (front, back) = code.split_at(at);
            let typed = format!("  {front}-{back} ");
            let typed = if lower { typed.to_lowercase() } else { typed };
            prop_assert_eq!(read(&typed), Some(code));
        }

        #[test]
        fn what_is_read_is_a_code_or_nothing(typed in "\\PC{0,24}") {
            if let Some(code) = read(&typed) {
                prop_assert_eq!(code.len(), LENGTH);
                prop_assert_eq!(read(&code), Some(code));
            }
        }

        #[test]
        fn a_letter_less_or_more_or_another_one_is_no_code(chance in "\\PC{0,8}", other in "[AEIOU013]") {
            let code = code(&chance);
            prop_assert_eq!(read(&code[1..]), None);
            prop_assert_eq!(read(&format!("{code}B")), None);
            prop_assert_eq!(read(&format!("{other}{}", &code[1..])), None);
        }
    }
}
