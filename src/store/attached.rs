//! Files that come with a turn: uploaded before, named by the person. One rule for all doors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sprite_reporter::wire::Attachment;

/// The most files that come with a turn.
pub const MAX_FILES: usize = 32;

/// The longest name that a file gets, in characters.
const LONGEST: usize = 200;

/// A file that was uploaded before, as whoever attaches it names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedFile {
    /// The file's id, as the upload gave it.
    pub id: String,
    /// What it is called, without a directory.
    pub name: String,
}

/// Why files cannot come with a turn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAttached {
    /// There are too many.
    #[error("a turn takes {MAX_FILES} files at most; send the rest with another")]
    TooMany,
    /// One has a name that no file can have.
    #[error("`{0}` is no name of a file; leave out its directory")]
    BadName(String),
    /// Two have the same name.
    #[error("two files are called `{0}`; rename one")]
    Twice(String),
    /// One is not here.
    #[error("there is no file {0}")]
    NotFound(String),
}

/// A name that a file may have, out of what somebody calls it: no directory, nothing that steers,
/// of a bounded length.
#[must_use]
pub fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    match plain.trim() {
        "" | "." | ".." => "file".to_owned(),
        plain => plain.to_owned(),
    }
}

/// The same, and none that is taken; it is taken from then on.
#[must_use]
pub fn own_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = plain_name(name);
    let mut name = plain.clone();
    let mut n = 1;
    while !taken.insert(name.clone()) {
        n += 1;
        name = format!("{n}-{plain}");
    }
    name
}

/// The files of a turn: with names that can be told apart, and nothing else in them. `size` is
/// that of a file that is kept, in bytes.
///
/// # Errors
/// The first file that cannot come with a turn.
pub fn attachments(
    files: Vec<NamedFile>,
    size: impl Fn(&str) -> Option<u64>,
) -> Result<Vec<Attachment>, NotAttached> {
    if files.len() > MAX_FILES {
        return Err(NotAttached::TooMany);
    }
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for NamedFile { id, name } in files {
        let plain = !matches!(name.as_str(), "" | "." | "..")
            && !name.contains(['/', '\\'])
            && !name.chars().any(char::is_control);
        if !plain {
            return Err(NotAttached::BadName(name));
        }
        if !names.insert(name.clone()) {
            return Err(NotAttached::Twice(name));
        }
        let Some(size) = size(&id) else { return Err(NotAttached::NotFound(id)) };
        found.push(Attachment { id, name, size });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_leads_nowhere_and_stands_nowhere_else() {
        let all =
            ["a.png", "../../etc/pass\r\nwd", "C:\\x\\b.png", " .. ", "", "a/", "a.png", "a.png"];
        let mut taken = BTreeSet::new();
        let names: Vec<String> = all.iter().map(|name| own_name(name, &mut taken)).collect();
        let told = names.join(", ");
        insta::assert_snapshot!(told, @"a.png, passwd, b.png, file, 2-file, 3-file, 2-a.png, 3-a.png");
        assert_eq!(plain_name(&"é".repeat(300)).chars().count(), LONGEST);
    }

    proptest! {
        #[test]
        fn every_name_becomes_one_that_a_turn_takes(name in "\\PC{0,300}|[\\x00-\\x7f]{0,40}") {
            let file = NamedFile { id: "f1".into(), name: plain_name(&name) };
            prop_assert!(attachments(vec![file], |_| Some(1)).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn files_come_with_names_of_their_own_or_not_at_all() {
        let file = |id: &str, name: &str| NamedFile { id: id.into(), name: name.into() };
        let size = |id: &str| id.strip_prefix("f").and_then(|size| size.parse().ok());
        let told = |files: Vec<NamedFile>| match attachments(files, size) {
            Ok(found) => format!("{found:?}"),
            Err(error) => error.to_string(),
        };
        let all = [
            vec![file("f7", "a.png"), file("f7", "b c.png")],
            vec![file("f7", "../a")],
            vec![file("f7", "..")],
            vec![file("f7", "a\nb")],
            vec![file("f7", "a"), file("f8", "a")],
            vec![file("f7", "a"), file("none", "b")],
            vec![file("f7", "a"); MAX_FILES + 1],
        ];
        insta::assert_snapshot!(all.map(told).join("\n"));
    }
}
