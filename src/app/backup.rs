//! A backup: the store, the keys and the secrets in one file, and a data directory made from it.
//!
//! The store is copied by SQLite itself, so that it is whole although a server writes to it. All
//! else are small files that are written whole or not at all. What is not in it: clones and
//! worktrees, spools of sprites that live, and the homes of agents; the store goes before them.
//!
//! **Restored is older.** A server on a restored directory finds what its store says of a past
//! moment. Sprites that were started later are unknown to it: their reporters are turned away,
//! and end. Sprites that it believes in and that are gone end as lost. What was made at Fly after the
//! backup is in no store any more: a restore leaves word in the directory, and nothing that the store does
//! not know is swept until an operator agrees.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::store::{data::DataDir, sqlite};

/// The store's file in a data directory.
const STORE: &str = "store.db";
/// The first file of a backup: what it is.
const MANIFEST: &str = "backup.json";
/// The form of the backup; raised when an older program could not read it.
const FORM: u32 = 1;
/// The files that belong to it beside the store, where they are.
const FILES: [&str; 5] = ["key", "key.print", "token", "config.yaml", ".env"];
/// The directories of files that belong to it.
const DIRECTORIES: [&str; 3] = ["secrets", "files", "tls"];

/// Where a data directory says that it was made from a backup, and when.
const WORD: &str = "restored";

/// How the name of the directory begins into which a backup is unpacked.
const SCRATCH: &str = ".restore-";

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The form of the file.
    pub form: u32,
    /// The version of the program that made it.
    pub version: String,
    /// When it was made.
    pub made: Timestamp,
    /// Whether the key of the sprites' tokens is in it. It is not where the server has it from
    /// `JOB_TOKEN_SECRET`.
    pub has_key: bool,
}

/// Why a backup could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no store.
    #[error("{} holds no store; name the data directory with --data", .0.display())]
    NoStore(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be copied, or another server holds the directory.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The file is no backup.
    #[error("this is no backup of open-dispatch: {0}")]
    Broken(String),
    /// The file was made by a newer program.
    #[error(
        "this backup has form {found}, and this program reads up to {FORM}; install a newer one"
    )]
    TooNew {
        /// Its form.
        found: u32,
    },
    /// Something stands there.
    #[error(
        "{} holds a store already; name another directory with --data, or say --force to put the \
         backup over it (what stands there is moved aside)",
        .0.display()
    )]
    Occupied(PathBuf),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.to_owned(), source }
}

/// Writes a backup of a data directory, whose server may run. `store` is the store's directory.
///
/// # Errors
/// What cannot be read or written.
pub async fn backup(
    data: &Path,
    store: &Path,
    out: impl Write,
    now: Timestamp,
) -> Result<Manifest, Error> {
    let database = store.join(STORE);
    if !database.is_file() {
        return Err(Error::NoStore(store.to_owned()));
    }
    // Beside the store: that place is private, and has room for a store.
    let scratch =
        tempfile::Builder::new().prefix(".backup-").tempdir_in(store).map_err(at(store))?;
    let copy = scratch.path().join(STORE);
    sqlite::snapshot(&database, &copy).await?;
    let manifest = Manifest {
        form: FORM,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made: now,
        has_key: data.join("key").is_file(),
    };
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other);
    add_bytes(&mut tar, MANIFEST, &text.map_err(at(Path::new(MANIFEST)))?)?;
    add_file(&mut tar, &copy, Path::new(STORE))?;
    for name in FILES {
        let path = data.join(name);
        if path.is_file() {
            add_file(&mut tar, &path, Path::new(name))?;
        }
    }
    for name in DIRECTORIES {
        add_directory(&mut tar, &data.join(name), Path::new(name))?;
    }
    let done = tar.into_inner().and_then(GzEncoder::finish).and_then(|mut out| out.flush());
    done.map_err(at(Path::new("the backup")))?;
    Ok(manifest)
}

fn add_directory<W: Write>(
    tar: &mut tar::Builder<W>,
    directory: &Path,
    name: &Path,
) -> Result<(), Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at(directory))?,
    };
    for entry in entries {
        let entry = entry.map_err(at(directory))?;
        let place = name.join(entry.file_name());
        match entry.file_type().map_err(at(directory))? {
            kind if kind.is_dir() => add_directory(tar, &entry.path(), &place)?,
            kind if kind.is_file() => add_file(tar, &entry.path(), &place)?,
            _ => {}
        }
    }
    Ok(())
}

fn add_file<W: Write>(tar: &mut tar::Builder<W>, path: &Path, name: &Path) -> Result<(), Error> {
    let mut file = match fs::File::open(path) {
        // It went while we looked: attachments come and go.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(at(path))?,
    };
    let size = file.metadata().map_err(at(path))?.len();
    let mut header = header(size);
    tar.append_data(&mut header, name, (&mut file).take(size)).map_err(at(path))
}

fn add_bytes<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let mut header = header(bytes.len() as u64);
    tar.append_data(&mut header, name, bytes).map_err(at(Path::new(name)))
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    header
}

/// What a restore left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup said of itself.
    pub manifest: Manifest,
    /// Where the files went that stood in the way.
    pub moved: Option<PathBuf>,
}

/// Makes a data directory from a backup. Nothing of it is put in its place before all of it
/// was read.
///
/// # Errors
/// A file that is no backup, a server that runs, or a store that stands there already.
pub fn restore(
    data: &Path,
    input: impl Read,
    force: bool,
    now: Timestamp,
) -> Result<Restored, Error> {
    let held = DataDir::open(data)?;
    let root = held.root();
    if root.join(STORE).exists() && !force {
        return Err(Error::Occupied(root.to_owned()));
    }
    // Nobody else restores here: what is left of another was broken off.
    for entry in fs::read_dir(root).map_err(at(root))? {
        let path = entry.map_err(at(root))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SCRATCH)) {
            fs::remove_dir_all(&path).map_err(at(&path))?;
        }
    }
    let scratch = root.join(format!("{SCRATCH}{}", std::process::id()));
    let outcome = unpack(&scratch, input).and_then(|manifest| {
        // Before the store is in its place: whoever opens that one is to know.
        let word = root.join(WORD);
        fs::write(&word, format!("{now}\n")).map_err(at(&word))?;
        let moved = put(&scratch, root, now)?;
        Ok(Restored { manifest, moved })
    });
    let _ = fs::remove_dir_all(&scratch);
    outcome
}

/// When a data directory was made from a backup, if it was.
pub(super) fn restored(root: &Path) -> Option<Timestamp> {
    fs::read_to_string(root.join(WORD)).ok()?.trim().parse().ok()
}

fn unpack(scratch: &Path, input: impl Read) -> Result<Manifest, Error> {
    let broken = |error: io::Error| Error::Broken(error.to_string());
    private_directory(scratch)?;
    let mut archive = tar::Archive::new(GzDecoder::new(input));
    let mut manifest = None;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.into_owned();
        if !entry.header().entry_type().is_file() || !is_plain(&name) {
            return Err(Error::Broken(format!("it holds {}", name.display())));
        }
        if manifest.is_none() {
            if name != Path::new(MANIFEST) {
                return Err(Error::Broken(format!("it does not begin with {MANIFEST}")));
            }
            let mut text = Vec::new();
            entry.take(64 * 1024).read_to_end(&mut text).map_err(broken)?;
            let read: Manifest = serde_json::from_slice(&text)
                .map_err(|error| Error::Broken(format!("{MANIFEST}: {error}")))?;
            if read.form > FORM {
                return Err(Error::TooNew { found: read.form });
            }
            manifest = Some(read);
            continue;
        }
        let place = scratch.join(&name);
        if let Some(parent) = place.parent() {
            private_directory(parent)?;
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place)
            .map_err(at(&place))?;
        io::copy(&mut entry, &mut file).map_err(broken)?;
        file.sync_all().map_err(at(&place))?;
    }
    let manifest = manifest.ok_or_else(|| Error::Broken("it is empty".to_owned()))?;
    if !scratch.join(STORE).is_file() {
        return Err(Error::Broken(format!("it holds no {STORE}")));
    }
    Ok(manifest)
}

/// Whether a name is one that a backup can hold: no way out of its directory.
fn is_plain(name: &Path) -> bool {
    let normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    let known = |first: &std::ffi::OsStr| {
        let known = FILES.iter().chain(&DIRECTORIES).chain(&[STORE, MANIFEST]);
        known.clone().any(|it| *it == first)
    };
    name.components().all(normal) && name.iter().next().is_some_and(known)
}

fn private_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Moves what stands in the way aside, then everything to its place; the store last, so that a
/// directory that has one is whole.
fn put(scratch: &Path, root: &Path, now: Timestamp) -> Result<Option<PathBuf>, Error> {
    let companions = ["store.db-wal", "store.db-shm"];
    let mut moved = None;
    let names = companions.iter().chain(&[STORE]).chain(&FILES).chain(&DIRECTORIES);
    for name in names {
        let place = root.join(name);
        if !place.exists() {
            continue;
        }
        let aside = match &moved {
            Some(aside) => aside,
            None => moved.insert(aside_of(root, now)?),
        };
        fs::rename(&place, aside.join(name)).map_err(at(&place))?;
    }
    for name in FILES.iter().chain(&DIRECTORIES).chain(&[STORE]) {
        let from = scratch.join(name);
        if from.exists() {
            let place = root.join(name);
            fs::rename(&from, &place).map_err(at(&place))?;
        }
    }
    fs::File::open(root).and_then(|directory| directory.sync_all()).map_err(at(root))?;
    Ok(moved)
}

fn aside_of(root: &Path, now: Timestamp) -> Result<PathBuf, Error> {
    let stamp = now.strftime("%Y%m%d-%H%M%S").to_string();
    let mut n = 0;
    loop {
        let name = if n == 0 { format!("before-{stamp}") } else { format!("before-{stamp}-{n}") };
        let aside = root.join(name);
        match fs::DirBuilder::new().mode(0o700).create(&aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
            Err(error) => return Err(at(&aside)(error)),
        }
    }
}
