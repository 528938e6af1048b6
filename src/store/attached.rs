//! Files that come with a turn: uploaded before, named by the person. One rule for all doors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sprite_reporter::wire::Attachment;

/// The most files that come with a turn.
pub const MAX_FILES: usize = 32;

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
    use super::*;

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
