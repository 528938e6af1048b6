//! Tags: short words by which a button names one very thing.
//!
//! A button is a line of chat, and a line that says "the oldest that waits" means something else
//! once somebody else has pressed. So the lines of buttons carry a tag, `#1a2b3c4d`: eight hex
//! digits of a hash of what they are about. It says nothing by itself, and whoever reads it looks
//! among the things that the line's name has; so eight digits are enough. Behind a slash there may
//! stand which option of it is meant: `#1a2b3c4d/2`.

use sha2::{Digest, Sha256};

use crate::store::Approval;

/// How many hex digits.
const DIGITS: usize = 8;

/// A short word for one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    digits: String,
    /// Which option of it, from 1 on.
    pub option: Option<usize>,
}

impl Tag {
    fn of(parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(part);
            digest.update([0]);
        }
        let bytes = digest.finalize();
        let digits: String =
            bytes.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
        Self { digits, option: None }
    }

    /// The tag of a turn or a job, by its id.
    #[must_use]
    pub fn of_id(id: &str) -> Self {
        Self::of(&[id])
    }

    /// The tag of a request, by its sprite's uid, the run and the CLI's id.
    #[must_use]
    pub fn of_request(sprite_uid: &str, run: u32, request: &str) -> Self {
        Self::of(&[sprite_uid, &run.to_string(), request])
    }

    /// This, and which option of it.
    #[must_use]
    pub fn with_option(self, option: usize) -> Self {
        Self { option: Some(option), ..self }
    }

    /// Reads a word; none where it is no tag.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        let word = word.strip_prefix('#')?;
        let (digits, option) = match word.split_once('/') {
            Some((digits, option)) => (digits, Some(option.parse().ok()?)),
            None => (word, None),
        };
        let is_hex = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| Self { digits: digits.to_ascii_lowercase(), option })
    }

    /// Whether this is the tag of that thing, whatever the option.
    #[must_use]
    pub fn names(&self, other: &Self) -> bool {
        self.digits == other.digits
    }

    /// Whether this is a request's tag.
    #[must_use]
    pub fn names_request(&self, approval: &Approval) -> bool {
        self.names(&Self::of_request(&approval.sprite_uid, approval.run, &approval.request))
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.option {
            Some(option) => write!(f, "#{}/{option}", self.digits),
            None => write!(f, "#{}", self.digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_tag_is_read_as_one() {
        for word in ["", "#", "1a2b3c4d", "#1a2b3c4", "#1a2b3c4d5", "#1a2b3c4g", "#1a2b3c4d/x"] {
            assert_eq!(Tag::read(word), None, "{word}");
        }
        assert!(Tag::read("#1A2B3C4D").is_some());
        assert!(!Tag::of_request("s", 1, "r").names(&Tag::of_request("s", 11, "r")));
        assert!(!Tag::of_request("s", 1, "1r").names(&Tag::of_request("s", 11, "r")));
    }

    proptest! {
        #[test]
        fn a_tag_that_was_written_is_read_again(id in "\\PC{0,40}", option in any::<Option<usize>>()) {
            let tag = Tag { option, ..Tag::of_id(&id) };
            prop_assert_eq!(Tag::read(&tag.to_string()), Some(tag));
        }
    }
}
