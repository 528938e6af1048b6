//! The data directory: where the store and everything beside it lie, and who may use it.
//!
//! One server at a time: an open [`DataDir`] holds an operating-system lock on the file `lock`
//! for as long as it lives, and the kernel lets go of it however the process ends. The pid
//! in that file is only for people; a file that nobody locks is stale and harmless.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::Error;

/// The file whose lock stands for the whole directory.
const LOCK_FILE: &str = "lock";

/// A data directory that this process holds.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Locked until it is dropped.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing (mode 0700), and takes it for this process.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process holds it; [`Error::Unavailable`] if it cannot be
    /// made, written, or kept private.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unusable = |action: &'static str| {
            move |error: io::Error| {
                Error::Unavailable(format!(
                    "cannot {action} {}: {error}; mend that, or choose another directory with \
                     --data",
                    path.display()
                ))
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(unusable("make the data directory"))?;
        let root = fs::canonicalize(path).map_err(unusable("find the data directory"))?;
        keep_private(&root).map_err(unusable("close to other users the data directory"))?;
        let lock = take_lock(&root).map_err(|error| match error {
            LockError::Held(holder) => {
                Error::Locked { path: root.display().to_string(), holder: holder.to_string() }
            }
            LockError::Io(error) => unusable("write in the data directory")(error),
        })?;
        Ok(Self { root, _lock: lock })
    }

    /// The directory itself, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that tells local reporters and clients the server's address.
    #[must_use]
    pub fn endpoint_file(&self) -> PathBuf {
        self.root.join(sprite_reporter::wire::ENDPOINT_FILE)
    }

    /// The file with the token of the API.
    #[must_use]
    pub fn token_file(&self) -> PathBuf {
        self.root.join("token")
    }

    /// The file with the key from which the sprites' tokens are made.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.root.join("key")
    }

    /// The file that tells with which key sprites were started last.
    #[must_use]
    pub fn key_print_file(&self) -> PathBuf {
        self.root.join("key.print")
    }

    /// The directory of the local runtime: one directory per sprite.
    #[must_use]
    pub fn runs_dir(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The directory of files that people attach and agents make.
    #[must_use]
    pub fn files_dir(&self) -> PathBuf {
        self.root.join("files")
    }

    /// The directory of secrets.
    #[must_use]
    pub fn secrets_dir(&self) -> PathBuf {
        self.root.join("secrets")
    }

    /// The directory of the mirrors of Git sources; it can be removed while no server runs.
    #[must_use]
    pub fn sources_dir(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// The directory of the authority by which this server speaks TLS.
    #[must_use]
    pub fn tls_dir(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// The directory of clones: one directory per sprite.
    #[must_use]
    pub fn work_dir(&self) -> PathBuf {
        self.root.join("work")
    }
}

/// Closes a directory to others, if it is ours to close: empty, or used as one before.
fn keep_private(root: &Path) -> io::Result<()> {
    let mode = fs::metadata(root)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let ours = root.join(LOCK_FILE).exists() || fs::read_dir(root)?.next().is_none();
    if !ours {
        return Err(io::Error::other(
            "it holds other files and is open to other users (chmod 700 would close it)",
        ));
    }
    fs::set_permissions(root, Permissions::from_mode(0o700))
}

enum LockError {
    /// By this process, as far as the file tells.
    Held(String),
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn take_lock(root: &Path) -> Result<File, LockError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(root.join(LOCK_FILE))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(&mut file))),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// The pid in a lock file. Its holder may be about to write it.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "(unknown)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_to_open_is_told_who_holds_the_directory() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/data");
        let first = DataDir::open(&path).unwrap();
        let second = DataDir::open(&path).unwrap_err();
        assert_eq!(
            second,
            Error::Locked {
                path: first.root().display().to_string(),
                holder: std::process::id().to_string(),
            }
        );
        drop(first);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn a_stale_lock_file_is_no_obstacle() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join(LOCK_FILE), "4194304999999 a much longer line\n").unwrap();
        let data = DataDir::open(parent.path()).unwrap();
        let text = fs::read_to_string(data.root().join(LOCK_FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn the_directory_is_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let data = DataDir::open(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(data.root()), 0o700);
        assert_eq!(mode(&data.root().join(LOCK_FILE)), 0o600);
    }

    #[test]
    fn somebody_elses_open_directory_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("letter"), "").unwrap();
        fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
        let error = DataDir::open(parent.path()).unwrap_err().to_string();
        let place = parent.path().display().to_string();
        insta::assert_snapshot!(error.replace(&place, "PLACE"), @"the store cannot be used: cannot close to other users the data directory PLACE: it holds other files and is open to other users (chmod 700 would close it); mend that, or choose another directory with --data");
        assert!(!parent.path().join(LOCK_FILE).exists());
    }

    #[test]
    fn a_file_in_the_way_is_told_in_one_line() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        fs::write(&path, "").unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        insta::assert_snapshot!(error.replace(&path.display().to_string(), "PLACE"), @"the store cannot be used: cannot make the data directory PLACE: File exists (os error 17); mend that, or choose another directory with --data");
    }
}
