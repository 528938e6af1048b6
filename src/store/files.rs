//! Files that people attach and agents make: blobs beside the store, named by what is in them.
//!
//! A file's id is the SHA-256 of its bytes in lower-case hex, so the same file is kept once, and
//! an id tells whether what came is what was meant. One is written beside its place, to disk, and
//! then renamed: what stands at a place is whole. Who may see a file is not decided here; whoever
//! names it in a turn or an artifact says so, and what nobody names is swept away.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// The largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// How long a file that nobody names is kept.
pub const UNNAMED_FOR: Duration = Duration::from_secs(24 * 3600);
/// How the names of files begin that are not whole.
const HALF: &str = ".new-";

/// A file that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The SHA-256 of its bytes, in lower-case hex.
    pub id: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Why a file cannot be kept, or had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is too large.
    #[error("the file is larger than {} MiB, which is the most; send a smaller one", limit / 1024 / 1024)]
    TooLarge {
        /// The most, in bytes.
        limit: u64,
    },
    /// What sends it broke off.
    #[error("the file did not come whole: {0}")]
    Broken(String),
    /// There is no such file, or it cannot be one.
    #[error("there is no file {0:?}; it may have been removed since nothing names it")]
    NotFound(String),
    /// The disk.
    #[error("cannot {action} {}: {source}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The files of an installation.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    next: AtomicU64,
}

impl Files {
    /// The files in a directory, which is made if it is missing (mode 0700). What a crash left
    /// half-written goes.
    ///
    /// # Errors
    /// A directory that cannot be made or read.
    pub fn open(dir: PathBuf) -> Result<Self, Error> {
        let failed = |action| {
            let path = dir.clone();
            move |source| Error::Disk { action, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed("make"))?;
        for entry in fs::read_dir(&dir).map_err(failed("read"))? {
            let entry = entry.map_err(failed("read"))?;
            if entry.file_name().to_string_lossy().starts_with(HALF) {
                fs::remove_file(entry.path()).map_err(failed("clean"))?;
            }
        }
        Ok(Self { dir, next: AtomicU64::new(0) })
    }

    /// Keeps a file, piece by piece as it comes.
    ///
    /// # Errors
    /// A file that is too large or breaks off, or a disk that does not take it; then nothing of
    /// it is left.
    pub async fn put<E: std::fmt::Display>(
        &self,
        mut bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
        limit: u64,
    ) -> Result<Stored, Error> {
        let half = Half(self.dir.join(format!(
            "{HALF}{}-{}",
            std::process::id(),
            self.next.fetch_add(1, Ordering::Relaxed)
        )));
        let failed = |source| Error::Disk { action: "write", path: half.0.clone(), source };
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&half.0).await.map_err(failed)?;
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(|error| Error::Broken(error.to_string()))?;
            size += piece.len() as u64;
            if size > limit {
                return Err(Error::TooLarge { limit });
            }
            hash.update(&piece);
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        drop(file);
        let id = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // One that is there already is replaced by the same, and is young again.
        let place = self.dir.join(&id);
        let (from, dir) = (half.0.clone(), self.dir.clone());
        let rename = move || {
            fs::rename(&from, &place)?;
            fs::File::open(&dir)?.sync_all()
        };
        let renamed = tokio::task::spawn_blocking(rename).await.map_err(io::Error::other);
        renamed.and_then(|renamed| renamed).map_err(failed)?;
        Ok(Stored { id, size })
    }

    /// Keeps a file that is here whole.
    ///
    /// # Errors
    /// As [`Files::put`].
    pub async fn put_bytes(&self, bytes: Bytes, limit: u64) -> Result<Stored, Error> {
        self.put(futures::stream::iter([Ok::<_, io::Error>(bytes)]), limit).await
    }

    /// A file to read, and its size in bytes.
    ///
    /// # Errors
    /// That there is none of this id.
    pub async fn open_file(&self, id: &str) -> Result<(tokio::fs::File, u64), Error> {
        let path = self.path(id)?;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound(id.to_owned()),
            _ => Error::Disk { action: "read", path: path.clone(), source },
        };
        let file = tokio::fs::File::open(&path).await.map_err(failed)?;
        let size = file.metadata().await.map_err(failed)?.len();
        Ok((file, size))
    }

    /// Whether there is a file of this id, and its size in bytes.
    #[must_use]
    pub fn size(&self, id: &str) -> Option<u64> {
        fs::metadata(self.path(id).ok()?).ok().map(|meta| meta.len())
    }

    /// Removes the files that nobody names and that are older than [`UNNAMED_FOR`] at a time.
    /// Answers how many.
    ///
    /// # Errors
    /// A directory that cannot be read, or a file that cannot be removed.
    pub fn sweep(&self, named: &HashSet<String>, now: SystemTime) -> Result<usize, Error> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Disk { action, path, source }
        };
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))? {
            let entry = entry.map_err(failed("read", &self.dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let written = entry.metadata().and_then(|meta| meta.modified());
            let old =
                written.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > UNNAMED_FOR));
            let ours = is_id(&name) || name.starts_with(HALF);
            if old && ours && !named.contains(&name) {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, id: &str) -> Result<PathBuf, Error> {
        if is_id(id) { Ok(self.dir.join(id)) } else { Err(Error::NotFound(id.to_owned())) }
    }
}

/// A file that is not whole: it goes unless it got its place.
struct Half(PathBuf);

impl Drop for Half {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a text can be a file's id: the SHA-256 of something, in lower-case hex.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The address below the server's at which a file can be had, and its id, out of an artifact's
/// URL; none for a URL that is another's.
#[must_use]
pub fn id_in_url(url: &str) -> Option<&str> {
    let id = url.strip_prefix("/files/")?;
    let id = id.split('?').next().unwrap_or(id);
    is_id(id).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn files() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path().join("files")).unwrap();
        (dir, files)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path().join("files")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn what_is_put_is_had_again_under_the_hash_of_its_bytes() {
        let (dir, files) = files();
        let pieces = ["hel", "lo"].map(|it| Ok::<_, io::Error>(Bytes::from(it)));
        let stored = files.put(futures::stream::iter(pieces), 5).await.unwrap();
        assert_eq!(stored, Stored { id: HELLO.into(), size: 5 });
        assert_eq!(files.put_bytes("hello".into(), 5).await.unwrap(), stored, "again is the same");
        let (mut file, size) = files.open_file(HELLO).await.unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), size, files.size(HELLO)), ("hello", 5, Some(5)));
        assert_eq!(names(&dir), [HELLO]);
        let mode =
            |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("files"), mode(&format!("files/{HELLO}"))), (0o700, 0o600));
    }

    #[tokio::test]
    async fn one_that_is_too_large_or_breaks_off_leaves_nothing() {
        let (dir, files) = files();
        let error = files.put_bytes("hello".into(), 4).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 4 }), "{error}");
        let broken = [Ok(Bytes::from("hel")), Err("the line is dead")];
        let error = files.put(futures::stream::iter(broken), 5).await.unwrap_err().to_string();
        insta::assert_snapshot!(error, @"the file did not come whole: the line is dead");
        assert_eq!(names(&dir), Vec::<String>::new());
    }

    #[tokio::test]
    async fn no_other_text_names_a_file() {
        let (dir, files) = files();
        fs::write(dir.path().join("key"), "secret").unwrap();
        for id in ["", "../key", &HELLO.to_uppercase(), &HELLO[1..], HELLO] {
            assert!(matches!(files.open_file(id).await, Err(Error::NotFound(_))), "{id}");
        }
    }

    #[tokio::test]
    async fn only_old_files_that_nobody_names_are_swept() {
        let (dir, files) = files();
        let a = files.put_bytes("a".into(), 9).await.unwrap().id;
        let b = files.put_bytes("b".into(), 9).await.unwrap().id;
        fs::write(dir.path().join("files/letter"), "not ours").unwrap();
        let place = dir.path().join("files").join(&a);
        let written = fs::metadata(place).unwrap().modified().unwrap();
        let named = HashSet::from([a.clone()]);
        assert_eq!(files.sweep(&named, written + UNNAMED_FOR).unwrap(), 0);
        let later = written + UNNAMED_FOR + Duration::from_secs(60);
        assert_eq!(files.sweep(&named, later).unwrap(), 1);
        assert_eq!((files.size(&a), files.size(&b)), (Some(1), None));
        assert!(names(&dir).contains(&"letter".to_owned()));
    }

    #[test]
    fn what_a_crash_left_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".new-1-1"), "half").unwrap();
        Files::open(dir.path().to_owned()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_artifacts_url_tells_its_file() {
        assert_eq!(id_in_url(&format!("/files/{HELLO}?name=a.txt")), Some(HELLO));
        assert_eq!(id_in_url(&format!("/files/{HELLO}")), Some(HELLO));
        assert_eq!(id_in_url("https://github.com/o/r/pull/1"), None);
        assert_eq!(id_in_url("/files/../key"), None);
    }

    proptest! {
        #[test]
        fn an_id_is_a_plain_name(text in "\\PC{0,70}") {
            if is_id(&text) {
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_hexdigit()));
            }
        }
    }
}
