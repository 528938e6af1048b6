//! Removing directories, so that nobody ever sees one that is half removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Removes a directory that others look at: it leaves its place whole, and then goes. What a
/// crash left of an earlier removal goes with it. One that is not there is fine.
pub(super) async fn remove(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    apart(move || {
        let gone = gone(&path);
        discard(&gone)?;
        match fs::rename(&path, &gone) {
            Ok(()) => discard(&gone),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(named(&path, &error)),
        }
    })
    .await
}

/// Removes a directory that nobody looks at.
pub(super) async fn remove_hidden(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    apart(move || discard(&path)).await
}

/// Moves a directory that others look at from its place, whole; it is removed later.
pub(super) fn displace(path: &Path) -> io::Result<()> {
    let gone = gone(path);
    discard(&gone)?;
    fs::rename(path, &gone).map_err(|error| named(path, &error))
}

/// Removes what was moved from this place.
pub(super) fn discard_displaced(path: &Path) -> io::Result<()> {
    discard(&gone(path))
}

/// Where a directory is while it is being removed.
fn gone(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".gone-{name}"))
}

/// A clone may hold very many files, and the server's workers have others to serve.
async fn apart(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Removes a directory; one that is not there is fine.
pub(super) fn discard(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, &error)),
        _ => Ok(()),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot remove {}: {error}", path.display()))
}
