//! Patterns in which `*` stands for any text: one meaning, wherever a Source's words hold stars.

/// Whether a text fits a pattern. A pattern fits one that is no wider than itself: what stands where its
/// own stars are may hold stars.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "a", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("ab*ba", "aba", false),
            ("", "", true),
            ("", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_made_from_a_text_fits_it(
            text in "[a-c]{0,8}", cuts in collection::vec((0_usize..8, 0_usize..4), 0..3),
        ) {
            let mut pattern = text.clone();
            for (at, length) in cuts {
                let at = at.min(pattern.len());
                let end = (at + length).min(pattern.len());
                pattern.replace_range(at..end, "*");
            }
            prop_assert!(matches(&pattern, &text), "{} {}", pattern, text);
        }

        #[test]
        fn a_pattern_that_fits_another_fits_all_that_the_other_fits(
            ours in "[ab*]{0,5}", wider in collection::vec("[ab*]{0,2}", 5),
            texts in collection::vec("[ab]{0,2}", 20), strange in "[ab]{0,3}",
        ) {
            let filled = |pattern: &str, with: &[String]| -> String {
                let mut with = with.iter();
                let one = |c: char| if c == '*' { with.next().cloned().unwrap_or_default() } else { c.into() };
                pattern.chars().map(one).collect()
            };
            let theirs = filled(&ours, &wider);
            prop_assert!(matches(&ours, &theirs), "{} {}", ours, theirs);
            let text = filled(&theirs, &texts);
            prop_assert!(matches(&theirs, &text) && matches(&ours, &text), "{} {} {}", ours, theirs, text);
            // And whatever else it fits.
            if matches(&theirs, &strange) {
                prop_assert!(matches(&ours, &strange), "{} {} {}", ours, theirs, strange);
            }
        }
    }
}
