//! What people call themselves, as our lines show it.
//!
//! A name stands in the middle of lines that are ours, often beside what was allowed or by whom.
//! So it may not begin a line of its own, hide anything, or be a link or a fence where Markdown is
//! shown. It names nobody: see [`Principal`](crate::store::Principal).

use super::quote::is_seen;

/// The longest name, in characters.
const LONGEST: usize = 80;

/// A name on one line, without what could be taken for something else; empty where nothing of it
/// is left.
#[must_use]
pub fn called(name: &str) -> String {
    let plain = |c: char| match c {
        '`' => '\'',
        '[' | '{' => '(',
        ']' | '}' => ')',
        '<' => '‹',
        '>' => '›',
        '*' | '~' | '|' | '\\' => ' ',
        c if c.is_whitespace() => ' ',
        c => c,
    };
    let seen = name.chars().map(plain).filter(|c| is_seen(*c)).take(4 * LONGEST);
    let line: String = seen.collect();
    let line = line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_a_name_and_nothing_else() {
        assert_eq!(called("Ada Lovelace-Byron_2 (guest)"), "Ada Lovelace-Byron_2 (guest)");
        assert_eq!(called("a\n? asks\u{2028}b"), "a ? asks b");
        assert_eq!(called("[click](https://e) `x` **y** <@U1>"), "(click)(https://e) 'x' y ‹@U1›");
        assert_eq!(called(" \u{200b}\u{3164} "), "");
    }

    proptest! {
        #[test]
        fn a_name_is_one_short_line_and_stays_as_it_is(name in any::<String>()) {
            let once = called(&name);
            prop_assert!(once.chars().count() <= LONGEST);
            prop_assert!(once.chars().all(is_seen));
            prop_assert!(!once.contains(['\n', '`', '[', '<', '*']));
            prop_assert_eq!(called(&once), once);
        }
    }
}
