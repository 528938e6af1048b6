//! A directory as a source: read whole, at once, and only what lies in it.
//!
//! What counts is what [`set::is_desired`] says, by the path as it is written. A link is followed as
//! long as it stays in the directory, so that a directory which is swapped through `..data`, as
//! Kubernetes mounts a ConfigMap, reads as what it leads to; one that leaves the directory is refused,
//! since whoever may write a link could otherwise have any file of the server's read out in an error.
//! Only regular files are opened, and none that is larger than its bound is read to the end; a link
//! that comes between the look and the opening leads nowhere ([`super::beneath`]).
//!
//! **Half of it.** An editor may be writing while we read. A file that goes away under our hands
//! makes us read once more from the beginning; an empty one is refused, because that is what a file
//! looks like that was cut off to be written anew, and everything in it would be deleted. Beyond
//! that, the controller takes what it has read only once it has seen the same twice.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    Snapshot, SourceFile,
    beneath::{Root, is_gone},
    read::Error,
    set::{self, MAX_BYTES, MAX_FILES},
};
use crate::resource::{Fault, Faults};

/// The largest file; a YAML document may not be larger anyway.
const MAX_FILE: u64 = 8 * 1024 * 1024;
/// The deepest directory below the Source's own.
const MAX_DEPTH: usize = 32;
/// The most entries that are looked at, links followed: links that branch make many paths of few.
const MAX_ENTRIES: usize = 100_000;
/// The most that is told of one reading.
const MOST_FAULTS: usize = 100;
/// How often it is read anew because something went away meanwhile.
const TRIES: usize = 3;
/// How many hexadecimal digits of the digest are the revision.
const REVISION: usize = 40;

/// Reads a directory. It blocks.
///
/// # Errors
/// [`Error::Missing`] where there is no such directory, [`Error::Unfit`] where something in it cannot
/// be read.
pub fn read(directory: &Path) -> Result<Snapshot, Error> {
    let mut last = None;
    for _ in 0..TRIES {
        match once(directory) {
            Err(Stop::Again(why)) => last = Some(why),
            Err(Stop::Error(error)) => return Err(error),
            Ok(snapshot) => return Ok(snapshot),
        }
    }
    let why = last.unwrap_or_default();
    Err(Error::Unreachable(format!("{} changes too fast to be read: {why}", directory.display())))
}

/// Which directory a path leads to at the moment: for who watches it.
#[must_use]
pub fn identity(directory: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(directory).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

enum Stop {
    /// Something went away between two looks.
    Again(String),
    Error(Error),
}

fn once(directory: &Path) -> Result<Snapshot, Stop> {
    let root = match Root::open(directory) {
        Ok(root) => root,
        Err(error) => {
            let mend = match error.kind() {
                io::ErrorKind::NotFound => "is not there; make it, or name another one".to_owned(),
                io::ErrorKind::NotADirectory => "is no directory".to_owned(),
                _ => format!("cannot be read: {error}"),
            };
            let message = format!("{} {mend}", directory.display());
            return Err(Stop::Error(Error::Missing(message)));
        }
    };
    let mut walk =
        Walk { root: &root, files: Vec::new(), faults: Vec::new(), bytes: 0, entries: 0 };
    walk.directory(Path::new(""), "", &mut vec![PathBuf::new()])?;
    let Walk { mut files, faults, .. } = walk;
    if !faults.is_empty() {
        return Err(Stop::Error(Error::Unfit(set::in_order(faults))));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Snapshot { revision: revision(&files), files })
}

/// A digest of what was read: paths and texts, with their lengths, so that none runs into the next.
fn revision(files: &[SourceFile]) -> String {
    let mut digest = Sha256::new();
    for file in files {
        for part in [file.path.as_bytes(), file.text.as_bytes()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    hex[..REVISION].to_owned()
}

struct Walk<'a> {
    root: &'a Root,
    files: Vec<SourceFile>,
    faults: Vec<Fault>,
    bytes: usize,
    entries: usize,
}

impl Walk<'_> {
    /// Counts one entry more; ends the reading where there is too much of it, or of what is wrong.
    fn count(&mut self) -> Result<(), Stop> {
        self.entries += 1;
        if self.faults.len() >= MOST_FAULTS {
            let faults = std::mem::take(&mut self.faults);
            return Err(Stop::Error(Error::Unfit(set::in_order(faults))));
        }
        if self.entries > MAX_ENTRIES {
            let message = format!(
                "there are more than {MAX_ENTRIES} entries to look at, links followed; take away \
                 what is no desired state, or links between directories"
            );
            return Err(Stop::Error(Error::Unfit(Faults(vec![Fault::new("", message)]))));
        }
        Ok(())
    }

    fn say(&mut self, path: &str, message: impl Into<String>) {
        let file = Some(if path.is_empty() { ".".to_owned() } else { path.to_owned() });
        self.faults.push(Fault { file, ..Fault::new("", message) });
    }

    /// Walks a directory by its real path below the root. `above` are those of the directories that it
    /// lies in, and its own.
    fn directory(&mut self, real: &Path, path: &str, above: &mut Vec<PathBuf>) -> Result<(), Stop> {
        if above.len() > MAX_DEPTH {
            self.say(path, format!("lies too deep (limit {MAX_DEPTH} directories)"));
            return Ok(());
        }
        let names = match self.root.names(real) {
            Ok(names) => names,
            Err(error) if is_gone(&error) => {
                return Err(Stop::Again(format!("{path} went away")));
            }
            Err(error) => {
                self.say(path, format!("cannot be read: {error}"));
                return Ok(());
            }
        };
        let here = self.root.path().join(real);
        for name in names {
            self.count()?;
            let shown = name.to_string_lossy();
            let whole = if path.is_empty() { shown.to_string() } else { format!("{path}/{shown}") };
            if shown.starts_with('.') || whole == "schema" {
                continue;
            }
            if name.to_str().is_none() {
                if set::is_desired(&whole) {
                    self.say(&whole, "has a name that is no UTF-8; give it another one");
                }
                continue;
            }
            self.entry(&here.join(&name), &whole, above)?;
        }
        Ok(())
    }

    fn entry(&mut self, at: &Path, path: &str, above: &mut Vec<PathBuf>) -> Result<(), Stop> {
        let real = match self.root.leads_to(at) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_link = fs::symlink_metadata(at).is_ok_and(|it| it.is_symlink());
                if is_link && set::is_desired(path) {
                    self.say(path, "is a link that leads nowhere; mend it, or remove it");
                } else if !is_link {
                    return Err(Stop::Again(format!("{path} went away")));
                }
                return Ok(());
            }
            Err(error) => {
                self.say(path, format!("cannot be read: {error}"));
                return Ok(());
            }
        };
        let is_directory = at.is_dir();
        if !is_directory && !set::is_desired(path) {
            return Ok(());
        }
        match real {
            None => {
                self.say(path, "is a link that leaves the directory; put what it leads to here")
            }
            Some(real) if !is_directory => self.file(&real, path)?,
            Some(real) if above.contains(&real) => {
                self.say(path, "is a link to a directory that it lies in; remove it");
            }
            Some(real) => {
                above.push(real.clone());
                self.directory(&real, path, above)?;
                above.pop();
            }
        }
        Ok(())
    }

    fn file(&mut self, real: &Path, path: &str) -> Result<(), Stop> {
        let text = match text_of(self.root, real) {
            Ok(text) => text,
            Err(Unread::Gone) => return Err(Stop::Again(format!("{path} went away"))),
            Err(Unread::Because(why)) => {
                self.say(path, why);
                return Ok(());
            }
        };
        self.bytes = self.bytes.saturating_add(text.len());
        if self.files.len() >= MAX_FILES || self.bytes > MAX_BYTES {
            let (files, bytes) = (MAX_FILES, MAX_BYTES >> 20);
            let message = format!(
                "there is too much to read (limits {files} files, {bytes} MiB); spread it over \
                 several sources"
            );
            let fault = Fault::new("", message);
            return Err(Stop::Error(Error::Unfit(Faults(vec![fault]))));
        }
        self.files.push(SourceFile { path: path.to_owned(), text, repo: None });
        Ok(())
    }
}

enum Unread {
    Gone,
    Because(String),
}

fn text_of(root: &Root, real: &Path) -> Result<String, Unread> {
    let failed = |error: io::Error| match is_gone(&error) {
        true => Unread::Gone,
        false => Unread::Because(format!("cannot be read: {error}")),
    };
    let file = root.file(real).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(Unread::Because("is no regular file; remove it".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        let limit = MAX_FILE >> 20;
        return Err(Unread::Because(format!("is too large (limit {limit} MiB); split it")));
    }
    if bytes.is_empty() {
        let why = "is empty, as if somebody were writing it; write a comment into it, or remove it";
        return Err(Unread::Because(why.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Unread::Because(format!("is no UTF-8 (byte {at}); write it as UTF-8"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn put(dir: &Path, path: &str, text: &str) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn paths(dir: &Path) -> Vec<String> {
        read(dir).unwrap().files.into_iter().map(|file| file.path).collect()
    }

    fn told(dir: &Path) -> String {
        match read(dir) {
            Err(Error::Unfit(faults)) => faults.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_desired_state_is_read_and_the_revision_is_what_was_read() {
        let dir = dir();
        for path in
            ["b.yaml", "a/c.yml", "d.json", ".e.yaml", "schema/f.json", "README.md", ".g/h.yaml"]
        {
            put(dir.path(), path, path);
        }
        assert_eq!(paths(dir.path()), ["a/c.yml", "b.yaml", "d.json"]);
        let before = read(dir.path()).unwrap().revision;
        put(dir.path(), ".e.yaml", "other");
        assert_eq!(read(dir.path()).unwrap().revision, before);
        fs::rename(dir.path().join("b.yaml"), dir.path().join("b2.yaml")).unwrap();
        assert_ne!(read(dir.path()).unwrap().revision, before);
    }

    #[test]
    fn a_directory_that_is_swapped_by_a_link_reads_as_what_it_leads_to() {
        let dir = dir();
        put(dir.path(), "..one/a.yaml", "one");
        put(dir.path(), "..two/a.yaml", "two");
        symlink("..one", dir.path().join("..data")).unwrap();
        symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
        let text = |dir: &Path| read(dir).unwrap().files.remove(0).text;
        assert_eq!(text(dir.path()), "one");
        symlink("..two", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert_eq!((text(dir.path()), paths(dir.path()).len()), ("two".to_owned(), 1));
    }

    #[test]
    fn a_link_that_leaves_the_directory_is_refused_whatever_it_leads_to() {
        let (dir, outside) = (dir(), dir());
        put(outside.path(), "secret.yaml", "root:x:0:0");
        symlink(outside.path().join("secret.yaml"), dir.path().join("a.yaml")).unwrap();
        symlink(outside.path(), dir.path().join("b")).unwrap();
        let told = told(dir.path());
        assert_eq!(
            told,
            "a.yaml: is a link that leaves the directory; put what it leads to here\n\
             b: is a link that leaves the directory; put what it leads to here"
        );
    }

    #[test]
    fn links_that_branch_are_followed_only_so_far() {
        let dir = dir();
        for n in 0..MAX_DEPTH + 2 {
            let below = dir.path().join(format!("d{n}"));
            fs::create_dir(&below).unwrap();
            for link in ["a", "b"] {
                symlink(format!("../d{}", n + 1), below.join(link)).unwrap();
            }
        }
        let told = told(dir.path());
        assert!(told.lines().count() <= MOST_FAULTS + 2, "{}", told.len());
        // Not too deep, and still too many: 2^20 paths.
        fs::remove_dir_all(dir.path().join("d20")).unwrap();
        fs::create_dir(dir.path().join("d20")).unwrap();
        for n in 21..MAX_DEPTH + 2 {
            fs::remove_dir_all(dir.path().join(format!("d{n}"))).unwrap();
        }
        let told = self::told(dir.path());
        assert!(told.contains("more than 100000 entries"), "{told}");
    }

    #[test]
    fn links_in_a_circle_and_links_to_nothing_are_told() {
        let dir = dir();
        put(dir.path(), "deep/a.yaml", "a");
        symlink("..", dir.path().join("deep/up")).unwrap();
        symlink("nowhere", dir.path().join("gone.yaml")).unwrap();
        symlink("nowhere", dir.path().join("gone.txt")).unwrap();
        assert_eq!(
            told(dir.path()),
            "deep/up: is a link to a directory that it lies in; remove it\n\
             gone.yaml: is a link that leads nowhere; mend it, or remove it"
        );
    }

    #[test]
    fn what_cannot_be_desired_state_is_told_by_its_file() {
        let dir = dir();
        put(dir.path(), "empty.yaml", "");
        fs::write(dir.path().join("latin.yaml"), b"a: \xe9").unwrap();
        let large = fs::File::create(dir.path().join("large.yaml")).unwrap();
        large.set_len(MAX_FILE + 1).unwrap();
        let path = dir.path().join("pipe.yaml");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        assert_eq!(
            told(dir.path()),
            "empty.yaml: is empty, as if somebody were writing it; write a comment into it, or remove it\n\
             large.yaml: is too large (limit 8 MiB); split it\n\
             latin.yaml: is no UTF-8 (byte 3); write it as UTF-8\n\
             pipe.yaml: is no regular file; remove it"
        );
    }

    #[test]
    fn a_directory_that_is_not_there_is_missing_and_not_empty() {
        let dir = dir();
        let gone = dir.path().join("specs");
        assert!(matches!(read(&gone), Err(Error::Missing(_))));
        put(dir.path(), "specs", "a file");
        assert!(matches!(read(&gone), Err(Error::Missing(_))));
        assert!(read(dir.path()).unwrap().files.is_empty());
    }
}
