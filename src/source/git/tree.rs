//! What a commit holds: git's listings, read. Pure.

use super::GitError;
use crate::source::{
    set::{Limits, is_desired},
    star,
};

/// The largest file with desired state, in bytes.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;
/// The most bytes of all files of one repository together.
pub const MAX_TOTAL: u64 = 32 * 1024 * 1024;

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What it is.
    pub(super) what: What,
    /// Its object's id.
    pub(super) id: String,
    /// Its size in bytes, where it is a file.
    pub(super) size: u64,
    /// Its path from the repository's root, as bytes.
    pub(super) path: Vec<u8>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// A submodule.
    Submodule,
    /// A directory.
    Directory,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its object's id.
    pub(super) id: String,
    /// Its path relative to the directory that is read.
    pub(super) path: String,
}

/// What of a tree is desired state, and what was passed over though it looks like that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Picked {
    pub(super) files: Vec<Wanted>,
    /// Submodules, in words.
    pub(super) notes: Vec<String>,
}

/// Reads what `git ls-tree -l -z` prints: `MODE TYPE ID SIZE<TAB>PATH<NUL>`.
pub(super) fn entries(listing: &[u8]) -> Vec<Entry> {
    listing.split(|byte| *byte == 0).filter_map(entry).collect()
}

fn entry(line: &[u8]) -> Option<Entry> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let mut head = str::from_utf8(&line[..tab]).ok()?.split_ascii_whitespace();
    let (mode, sort, id) = (head.next()?, head.next()?, head.next()?);
    let what = match (mode, sort) {
        ("120000", _) => What::Link,
        (_, "commit") => What::Submodule,
        (_, "tree") => What::Directory,
        _ => What::File,
    };
    let size = head.next().and_then(|size| size.parse().ok()).unwrap_or_default();
    Some(Entry { what, id: id.to_owned(), size, path: line[tab + 1..].to_vec() })
}

/// Picks the files of a directory.
///
/// # Errors
/// A file that would be desired state and cannot be: its name is no text, it is too large, or there
/// are too many.
pub(super) fn pick(
    entries: Vec<Entry>,
    base: &str,
    name: &str,
    limits: Limits,
) -> Result<Picked, GitError> {
    let mut picked = Picked::default();
    let mut total = 0_u64;
    let base = if base.is_empty() { String::new() } else { format!("{base}/") };
    for entry in entries {
        let Some(below) = entry.path.strip_prefix(base.as_bytes()) else { continue };
        let shown = String::from_utf8_lossy(below).escape_debug().to_string();
        if entry.what == What::Submodule {
            picked.notes.push(format!("{shown} is a submodule, and is not read"));
            continue;
        }
        if entry.what == What::Directory || !is_desired(&String::from_utf8_lossy(below)) {
            continue;
        }
        let bad = |why: String| GitError::File { file: shown.clone(), why };
        if entry.what == What::Link {
            return Err(bad(
                "is a symbolic link, and none is followed; put the file itself there, or \
                            remove the link"
                    .to_owned(),
            ));
        }
        let path = str::from_utf8(below).ok().filter(|path| !path.contains(char::is_control));
        let path = path.ok_or_else(|| {
            bad("has a name that is no plain text (a line break, or bytes that are no UTF-8); rename \
                 the file"
                .to_owned())
        })?;
        if entry.size > MAX_FILE {
            let (size, most) = (entry.size, MAX_FILE >> 20);
            return Err(bad(format!(
                "is {size} bytes large, and a file with desired state may have {most} MiB; split it, \
                 or move it out of the directory"
            )));
        }
        total += entry.size;
        picked.files.push(Wanted { id: entry.id, path: path.to_owned() });
    }
    let too_much = |what: String| GitError::TooMuch { name: name.to_owned(), what };
    if picked.files.len() > limits.files {
        let (count, most) = (picked.files.len(), limits.files);
        return Err(too_much(format!(
            "has {count} files of desired state, and {most} are read of it; name a directory in `path`"
        )));
    }
    let most = MAX_TOTAL.min(limits.bytes as u64);
    if total > most {
        let (total, most) = (total.div_ceil(1024), most >> 10);
        return Err(too_much(format!(
            "has {total} KiB of desired state, and {most} KiB are read of it; name a directory in \
             `path`"
        )));
    }
    picked.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(picked)
}

/// Reads what `git cat-file --batch` prints for these files, in their order.
///
/// # Errors
/// A file that is no text, or (as `None` in place of a fault) an object that is not there.
pub(super) fn texts(files: &[Wanted], printed: &[u8]) -> Result<Vec<String>, Option<GitError>> {
    let mut texts = Vec::with_capacity(files.len());
    let mut rest = printed;
    for file in files {
        let line = rest.iter().position(|byte| *byte == b'\n').ok_or(None)?;
        let head = str::from_utf8(&rest[..line]).map_err(|_| None)?;
        let mut words = head.split(' ');
        let size = match (words.next(), words.next(), words.next()) {
            (Some(id), Some("blob"), Some(size)) if id == file.id => size.parse::<usize>().ok(),
            _ => None,
        };
        let size = size.ok_or(None)?;
        let body = rest.get(line + 1..line + 1 + size).ok_or(None)?;
        rest = rest.get(line + 1 + size + 1..).ok_or(None)?;
        let text = str::from_utf8(body).map_err(|error| {
            let at = error.valid_up_to();
            let line = body[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Some(GitError::File {
                file: file.path.clone(),
                why: format!("is no UTF-8 text (line {line}); save it as UTF-8"),
            })
        })?;
        texts.push(text.to_owned());
    }
    Ok(texts)
}

/// The directories whose path fits a pattern, in order. `*` stands for any text without a slash.
pub(super) fn fitting(entries: &[Entry], pattern: &str) -> Vec<String> {
    let pattern = pattern.trim_matches('/');
    let fits = |entry: &Entry| {
        let path = str::from_utf8(&entry.path).ok().filter(|it| !it.contains(char::is_control))?;
        let directory = entry.what == What::Directory;
        (directory && matches(pattern, path)).then(|| path.to_owned())
    };
    let mut found: Vec<String> = entries.iter().filter_map(fits).collect();
    found.sort();
    found
}

/// Whether a path fits a pattern. A part that begins with a dot fits only what says so.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) => {
                let hidden = part.starts_with('.') && !pattern.starts_with('.');
                if hidden || !star::matches(pattern, part) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: Limits = Limits::WHOLE;

    fn listed(lines: &[(&str, &str, u64, &[u8])]) -> Vec<Entry> {
        let mut listing = Vec::new();
        for (mode, sort, size, path) in lines {
            let size = if *sort == "blob" { size.to_string() } else { "-".to_owned() };
            listing.extend_from_slice(format!("{mode} {sort} abc {size:>7}\t").as_bytes());
            listing.extend_from_slice(path);
            listing.push(0);
        }
        entries(&listing)
    }

    fn paths(picked: &Picked) -> Vec<&str> {
        picked.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn what_is_below_the_directory_is_picked_and_submodules_are_told() {
        let entries = listed(&[
            ("100644", "blob", 3, b"ops/b.yml"),
            ("100755", "blob", 3, b"ops/a/a.yaml"),
            ("100644", "blob", 3, b"ops/README.md"),
            ("100644", "blob", 3, b"ops/.hidden.yaml"),
            ("100644", "blob", 3, b"ops/schema/agent.yaml"),
            ("100644", "blob", 3, b"ops/schema/agent.json"),
            ("100644", "blob", 3, b"ops/c.json"),
            ("100644", "blob", 3, b"opsx/c.yaml"),
            ("120000", "blob", 9, b"ops/link"),
            ("160000", "commit", 0, b"ops/lib"),
        ]);
        let picked = pick(entries, "ops", "r", WHOLE).unwrap();
        assert_eq!(paths(&picked), ["a/a.yaml", "b.yml", "c.json"]);
        insta::assert_snapshot!(picked.notes.join("\n"), @"lib is a submodule, and is not read");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_and_not_passed_over() {
        let told = |size, path: &[u8]| {
            let picked = pick(listed(&[("100644", "blob", size, path)]), "", "r", WHOLE);
            picked.unwrap_err().to_string()
        };
        insta::assert_snapshot!(told(MAX_FILE + 1, b"a.yaml"), @"a.yaml is 4194305 bytes large, and a file with desired state may have 4 MiB; split it, or move it out of the directory");
        insta::assert_snapshot!(told(1, b"a\nb.yaml"), @r"a\nb.yaml has a name that is no plain text (a line break, or bytes that are no UTF-8); rename the file");
        assert!(told(1, b"\xff.yaml").contains("no plain text"));
        // A file that became a link declares nothing any more, and nobody meant that.
        let link = |path: &[u8]| pick(listed(&[("120000", "blob", 9, path)]), "", "r", WHOLE);
        insta::assert_snapshot!(link(b"link.yaml").unwrap_err(), @"link.yaml is a symbolic link, and none is followed; put the file itself there, or remove the link");
        assert!(link(b"link.txt").is_ok());
        // Others may be called as they like.
        assert!(pick(listed(&[("100644", "blob", 1, b"\xff.png")]), "", "r", WHOLE).is_ok());
    }

    #[test]
    fn too_much_together_is_refused() {
        let many = |count: usize, size, limits| {
            let names: Vec<String> = (0..count).map(|n| format!("{n}.yaml")).collect();
            let lines: Vec<_> =
                names.iter().map(|it| ("100644", "blob", size, it.as_bytes())).collect();
            pick(listed(&lines), "", "acme/api", limits)
        };
        assert!(many(WHOLE.files, 1, WHOLE).is_ok());
        assert!(matches!(many(WHOLE.files + 1, 1, WHOLE), Err(GitError::TooMuch { .. })));
        assert!(matches!(many(9, MAX_FILE, WHOLE), Err(GitError::TooMuch { .. })));
        let told = |count, size| many(count, size, Limits::share(200)).unwrap_err().to_string();
        insta::assert_snapshot!(told(51, 1), @"acme/api has 51 files of desired state, and 50 are read of it; name a directory in `path`");
        insta::assert_snapshot!(told(2, 200_000), @"acme/api has 391 KiB of desired state, and 327 KiB are read of it; name a directory in `path`");
    }

    #[test]
    fn contents_are_cut_by_their_size_whatever_they_say() {
        let wanted = |path: &str| Wanted { id: "abc".to_owned(), path: path.to_owned() };
        let files = [wanted("a.yaml"), wanted("b.yaml")];
        let printed = b"abc blob 12\nx\nabc blob 9\nabc blob 0\n\n";
        assert_eq!(texts(&files, printed).unwrap(), ["x\nabc blob 9".to_owned(), String::new()]);
        let missing = b"abc blob 1\nx\nabc missing\n";
        assert_eq!(texts(&files, missing).unwrap_err(), None);
        let binary = texts(&files[..1], b"abc blob 3\n\n\n\xff\n").unwrap_err().unwrap();
        insta::assert_snapshot!(binary, @"a.yaml is no UTF-8 text (line 3); save it as UTF-8");
    }

    #[test]
    fn a_star_stops_at_a_slash_and_does_not_fit_what_is_hidden() {
        let tree = |path: &'static [u8]| ("040000", "tree", 0, path);
        let entries = listed(&[
            tree(b"services"),
            tree(b"services/web"),
            tree(b"services/api"),
            tree(b"services/api/src"),
            tree(b"services/.cache"),
            ("100644", "blob", 1, b"services/README"),
        ]);
        assert_eq!(fitting(&entries, "services/*"), ["services/api", "services/web"]);
        assert_eq!(fitting(&entries, "/services/a*i/"), ["services/api"]);
        assert_eq!(fitting(&entries, "*/*/*"), ["services/api/src"]);
        assert_eq!(fitting(&entries, "services/.*"), ["services/.cache"]);
    }

    proptest! {
        #[test]
        fn no_listing_is_too_strange_to_be_read(listing: Vec<u8>) {
            let _ = pick(entries(&listing), "", "r", WHOLE);
            let _ = texts(&[Wanted { id: "a".to_owned(), path: "a".to_owned() }], &listing);
        }
    }
}
