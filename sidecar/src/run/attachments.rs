//! Files that come with a turn: fetched before the CLI is prompted.
//!
//! Each turn has a directory of its own, and each file in it a name that is safe on every disk and
//! in every shell: the names came from people. A file is proven by its hash, so one that is
//! there already, from a try before a crash, is not fetched again.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use crate::{
    ambient,
    report::{self, Address, Backoff, FileError, MAX_FILE_BYTES},
    wire::{Attachment, RunSpec},
};

/// How long a turn's files are kept.
const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// The longest name of a file, in bytes.
const MAX_NAME: usize = 120;
/// How often what came may be another file than was meant.
const MAX_OTHERS: u32 = 3;

/// Fetches a turn's files from the server; answers where they lie. As long as the server is away
/// it is tried again, until whoever waits gives up.
///
/// # Errors
/// One line that names the file and the cause.
pub(super) async fn fetch(
    address: &Address,
    spec: &RunSpec,
    turn: &str,
    files: &[Attachment],
) -> Result<Vec<PathBuf>, String> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let failed =
        |name: &str, why: &dyn std::fmt::Display| format!("{name} could not be fetched: {why}");
    let Some(root) = &spec.attachments else {
        return Err(failed(&files[0].name, &"this run has no directory for files"));
    };
    let root = Path::new(root);
    let names = safe_names(files.iter().map(|file| file.name.as_str()));
    let dir = root.join(safe_name(turn));
    make(root, &dir).map_err(|error| failed(&names[0], &error))?;
    let mut places = Vec::new();
    for (file, name) in files.iter().zip(names) {
        let place = dir.join(&name);
        if file.size > MAX_FILE_BYTES {
            return Err(failed(&name, &"it is too large"));
        }
        if !is(&place, &file.id) {
            bring(address, file, &place).await.map_err(|error| failed(&name, &error))?;
        }
        places.push(place);
    }
    Ok(places)
}

async fn bring(address: &Address, file: &Attachment, place: &Path) -> Result<(), FileError> {
    let mut backoff = Backoff::default();
    let mut others = 0;
    let half = place.with_file_name(".coming");
    loop {
        match report::download(address, &file.id, &half).await {
            Ok(()) => return fs::rename(&half, place).map_err(FileError::Disk),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                others += u32::from(matches!(error, FileError::Other));
                if others >= MAX_OTHERS {
                    return Err(error);
                }
            }
        }
        ambient::sleep(backoff.next(ambient::chance())).await;
    }
}

/// Makes a turn's directory, and removes those of turns that are long over.
fn make(root: &Path, dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let now = std::time::SystemTime::from(ambient::now());
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let at = entry.metadata()?.modified()?;
        if now.duration_since(at).is_ok_and(|age| age > KEEP) && entry.path() != dir {
            // One that does not go is tried again with the next turn.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Whether a place holds the file of an id.
fn is(place: &Path, id: &str) -> bool {
    fs::read(place).is_ok_and(|bytes| report::hex(&Sha256::digest(bytes)) == id)
}

/// Names that are safe and differ, one for each.
fn safe_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    names
        .map(|name| {
            let name = safe_name(name);
            // Some disks do not tell large letters from small ones.
            let free = |name: &str, taken: &HashSet<String>| !taken.contains(&name.to_lowercase());
            let (stem, end) = match name.rsplit_once('.') {
                Some((stem, end)) => (stem.to_owned(), format!(".{end}")),
                None => (name.clone(), String::new()),
            };
            let own = std::iter::once(name)
                .chain((2_u32..).map(|n| format!("{stem}-{n}{end}")))
                .find(|name| free(name, &taken))
                .unwrap_or_default();
            taken.insert(own.to_lowercase());
            own
        })
        .collect()
}

/// A name without a path, without anything that steers a terminal, a shell or an eye, and not too
/// long; its ending stays.
fn safe_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last
        .chars()
        .filter(|c| !c.is_control() && !turns_text(*c))
        .map(|c| if c.is_alphanumeric() || ".-_ +,=@()".contains(c) { c } else { '_' })
        .collect();
    let plain = plain.trim().trim_start_matches(['.', '-', ' ']).trim_end_matches(['.', ' ']);
    if plain.is_empty() {
        return "file".to_owned();
    }
    let (stem, end) = match plain.rsplit_once('.') {
        Some((stem, end)) if end.len() <= 16 && !stem.is_empty() => (stem, format!(".{end}")),
        _ => (plain, String::new()),
    };
    let mut at = stem.len().min(MAX_NAME - end.len());
    while !stem.is_char_boundary(at) {
        at -= 1;
    }
    format!("{}{end}", &stem[..at])
}

/// Whether a character changes how those beside it are shown, or shows nothing.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_lose_what_is_dangerous_and_keep_what_tells() {
        let names = [
            "report.pdf",
            "../../etc/passwd",
            "C:\\tmp\\report.PDF",
            "-rf",
            ".bashrc",
            "a\nb\u{202e}c.txt",
            "",
            "r\u{e9}sum\u{e9} (1).pdf",
            "$(id);`x`.sh",
        ];
        assert_eq!(
            safe_names(names.into_iter()),
            [
                "report.pdf",
                "passwd",
                "report-2.PDF",
                "rf",
                "bashrc",
                "abc.txt",
                "file",
                "r\u{e9}sum\u{e9} (1).pdf",
                "_(id)__x_.sh",
            ]
        );
        assert_eq!(safe_name(&format!("{}.tar.gz", "x".repeat(300))).len(), MAX_NAME);
    }

    proptest! {
        #[test]
        fn every_name_is_plain_short_and_its_own(
            names in prop::collection::vec("\\PC{0,200}|[\\x00-\\x7f]{0,20}|a{1,3}", 1..8),
        ) {
            let safe = safe_names(names.iter().map(String::as_str));
            prop_assert_eq!(safe.len(), names.len());
            let different: HashSet<_> = safe.iter().collect();
            prop_assert_eq!(different.len(), names.len());
            for name in &safe {
                prop_assert_eq!(Path::new(name).components().count(), 1);
                prop_assert!(!name.is_empty() && !name.starts_with(['.', '-']), "{:?}", name);
                prop_assert!(name.len() <= MAX_NAME + 8, "{:?}", name);
                prop_assert!(!name.chars().any(|c| c.is_control() || c == '/' || c == '\\'));
            }
        }
    }
}
