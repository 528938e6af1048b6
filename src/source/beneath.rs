//! Files below a directory, opened so that nobody can lead us out of it.
//!
//! Whoever may write into a directory of desired state may put links there, also between the moment at
//! which we ask where a path leads and the one at which we open it. So a path is asked for first
//! ([`Root::leads_to`]), and what is opened then is the path that this answered: name by name from the
//! directory itself, none of them through a link. Where one has become a link meanwhile, the path is
//! not there any more, and is to be asked for again. It works alike on every Unix; a kernel that opens
//! whole paths in this way is not needed.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, renameat, unlinkat};

/// A directory, and what lies below it.
pub(super) struct Root {
    held: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// A directory, by whatever links.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(directory)?;
        let held = rustix::fs::open(&path, directory_flags(), Mode::empty())?;
        Ok(Self { held, path })
    }

    /// The directory itself, without links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a path leads, links followed, relative to the directory; nothing where it leads out.
    pub(super) fn leads_to(&self, at: &Path) -> io::Result<Option<PathBuf>> {
        let real = fs::canonicalize(at)?;
        Ok(real.strip_prefix(&self.path).ok().map(Path::to_owned))
    }

    /// Opens a directory whose path has no links.
    fn directory(&self, relative: &Path) -> io::Result<OwnedFd> {
        let mut held = self.held.try_clone()?;
        for part in relative.components() {
            let Component::Normal(name) = part else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            held = openat(&held, name, directory_flags() | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(held)
    }

    /// The names in a directory whose path has no links.
    pub(super) fn names(&self, relative: &Path) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.directory(relative)?)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(&name[..], b"." | b"..") {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Opens a file whose path has no links, to be read. Whoever would have to wait for a pipe gets it
    /// at once.
    pub(super) fn file(&self, relative: &Path) -> io::Result<File> {
        let (directory, name) = self.within(relative)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(openat(&directory, name, flags, Mode::empty())?.into())
    }

    /// Puts a file with this text in place of one whose path has no links, with its mode. Whoever
    /// reads sees the one or the other, and after a crash as well.
    pub(super) fn replace(&self, relative: &Path, text: &str) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (directory, name) = self.within(relative)?;
        let permissions = self.file(relative)?.metadata()?.permissions();
        // Hidden, and without the ending of a document: no reader takes it for one.
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let fresh = format!(".open-dispatch-{}-{n}.tmp", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let put = || {
            // One of that name is what a process of that number left that was killed.
            let _ = unlinkat(&directory, &*fresh, AtFlags::empty());
            let mode = Mode::RUSR | Mode::WUSR;
            let mut file: File = openat(&directory, &*fresh, flags | OFlags::CLOEXEC, mode)?.into();
            file.write_all(text.as_bytes())?;
            file.set_permissions(permissions)?;
            file.sync_all()?;
            renameat(&directory, &*fresh, &directory, name)?;
            Ok(rustix::fs::fsync(directory.as_fd())?)
        };
        let put = put();
        if put.is_err() {
            let _ = unlinkat(&directory, &*fresh, AtFlags::empty());
        }
        put
    }

    fn within<'a>(&self, relative: &'a Path) -> io::Result<(OwnedFd, &'a Path)> {
        let name = relative.file_name().map(Path::new);
        let name = name.ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(relative.parent().unwrap_or(Path::new("")))?, name))
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

/// Whether an error says that what was there before is not there, or is a link by now.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let link = [rustix::io::Errno::LOOP, rustix::io::Errno::NOTDIR, rustix::io::Errno::MLINK];
    error.kind() == io::ErrorKind::NotFound
        || link.iter().any(|it| error.raw_os_error() == Some(it.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn text(root: &Root, path: &str) -> io::Result<String> {
        let mut text = String::new();
        root.file(Path::new(path))?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn what_became_a_link_after_it_was_asked_for_is_gone_and_leads_nowhere() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("a.yaml"), "secret").unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/a.yaml"), "mine").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let asked = root.leads_to(&dir.path().join("deep/a.yaml")).unwrap().unwrap();
        assert_eq!(asked, Path::new("deep/a.yaml"));
        assert_eq!(text(&root, "deep/a.yaml").unwrap(), "mine");
        // Between the two, the directory becomes a link that leads out.
        fs::rename(dir.path().join("deep"), dir.path().join("before")).unwrap();
        symlink(outside.path(), dir.path().join("deep")).unwrap();
        for error in [
            text(&root, "deep/a.yaml").unwrap_err(),
            root.names(Path::new("deep")).unwrap_err(),
            root.replace(&asked, "theirs").unwrap_err(),
        ] {
            assert!(is_gone(&error), "{error}");
        }
        assert_eq!(fs::read_to_string(outside.path().join("a.yaml")).unwrap(), "secret");
        assert_eq!(root.leads_to(&dir.path().join("deep/a.yaml")).unwrap(), None);
        // So does the file itself.
        symlink(outside.path().join("a.yaml"), dir.path().join("b.yaml")).unwrap();
        assert!(is_gone(&text(&root, "b.yaml").unwrap_err()));
        for odd in ["", "..", "../x", "/etc/passwd", "before/../before/a.yaml"] {
            assert!(text(&root, odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.replace(Path::new("a.yaml"), "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(root.replace(Path::new("none.yaml"), "x").is_err());
        assert_eq!(root.names(Path::new("")).unwrap(), ["a.yaml"]);
    }
}
