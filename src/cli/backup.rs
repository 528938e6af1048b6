//! `backup` and `restore`.

use std::{
    fs,
    io::{self, IsTerminal as _, Read},
    path::Path,
};

use super::{
    args::{BackupArgs, RestoreArgs},
    error::Error,
    out,
    serve::{layers, machine},
};
use crate::{
    ambient::Ambient,
    app::backup,
    config::{Config, Flags},
};

#[expect(clippy::needless_pass_by_value, reason = "it is a function to map errors with")]
fn failed(error: backup::Error) -> Error {
    Error::Serve(error.to_string())
}

/// Runs `backup`.
///
/// # Errors
/// What cannot be read or written.
pub async fn backup(args: BackupArgs) -> Result<u8, Error> {
    let layers = layers(args.data.clone(), None)?;
    let flags = Flags { data: args.data, ..Flags::default() };
    let config = Config::resolve(&flags, &layers, machine())?;
    let (data, store) = (&config.data.value, config.store_dir());
    let now = Ambient::real().clock.now();
    let manifest = if args.file == Path::new("-") {
        if io::stdout().is_terminal() {
            let what = "a backup is no text: name a file, or send it into a pipe";
            return Err(Error::Usage(what.to_owned()));
        }
        backup::backup(data, store, io::stdout().lock(), now).await.map_err(failed)?
    } else {
        let place = &args.file;
        let cannot = |error: io::Error| {
            Error::Serve(format!("{} cannot be written: {error}", place.display()))
        };
        // Beside its place first: half a backup is worse than none.
        let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty());
        let half = tempfile::Builder::new()
            .prefix(".backup-")
            .tempfile_in(directory.unwrap_or(Path::new(".")))
            .map_err(cannot)?;
        let manifest = backup::backup(data, store, half.as_file(), now).await.map_err(failed)?;
        half.as_file().sync_all().map_err(cannot)?;
        half.persist(place).map_err(|error| cannot(error.error))?;
        out::note(format!("wrote {}; it holds keys and secrets: keep it safe", place.display()));
        manifest
    };
    if !manifest.has_key {
        out::note("the key of the sprites' tokens is not in it; keep JOB_TOKEN_SECRET as well");
    }
    Ok(0)
}

/// Runs `restore`.
///
/// # Errors
/// A file that is no backup, or a place that is taken.
pub fn restore(args: RestoreArgs) -> Result<u8, Error> {
    let layers = layers(args.data.clone(), None)?;
    let flags = Flags { data: args.data, ..Flags::default() };
    let config = Config::resolve(&flags, &layers, machine())?;
    if config.store_dir() != config.data.value {
        return Err(Error::Usage(
            "OPEN_DISPATCH_STORE names another place for the store; unset it to restore".to_owned(),
        ));
    }
    let input: Box<dyn Read> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = fs::File::open(&args.file);
        Box::new(io::BufReader::new(file.map_err(|error| {
            Error::Serve(format!("{} cannot be read: {error}", args.file.display()))
        })?))
    };
    let restored =
        backup::restore(&config.data.value, input, args.force, Ambient::real().clock.now())
            .map_err(failed)?;
    out::note(format!(
        "{} is as it was at {}",
        config.data.value.display(),
        restored.manifest.made
    ));
    if let Some(moved) = restored.moved {
        out::note(format!("what stood there is in {}", moved.display()));
    }
    Ok(0)
}
