//! Which key is this? Sprites that live show tokens of the key that they were started with; a
//! server with another one would be a stranger to them, and start others in their place.

use std::{fs, io, path::PathBuf};

use super::Error;
use crate::{
    store::data::DataDir,
    token::{KEY_VARIABLE, SpriteTokens},
};

/// The key came from the environment.
const FROM_ENVIRONMENT: &str = "environment";
/// The key came from the key file.
const FROM_FILE: &str = "file";

/// Sprites live that were started with another key.
#[derive(Debug, thiserror::Error)]
#[error(
    "{ours} is not the one that {} started with; {mend}, or stop them first with the old one \
     (where it is lost: kill -9 {})",
    count(.living.len()),
    .living.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
)]
pub struct OtherKey {
    /// What the key at hand is called.
    ours: String,
    /// How the other one comes back.
    mend: String,
    /// The processes of the sprites' reporters.
    living: Vec<u32>,
}

fn count(living: usize) -> String {
    if living == 1 {
        "1 living sprite was".to_owned()
    } else {
        format!("{living} living sprites were")
    }
}

/// Makes sure that no sprite lives that was started with another key, and keeps the print of
/// this one beside it.
pub(super) fn check(
    tokens: &SpriteTokens,
    from_environment: bool,
    data: &DataDir,
    living: impl FnOnce() -> io::Result<Vec<u32>>,
) -> Result<(), Error> {
    let path = data.key_print_file();
    let failed = |path: PathBuf| move |source| Error::File { path, source };
    let source = if from_environment { FROM_ENVIRONMENT } else { FROM_FILE };
    let print = format!("{} {source}\n", tokens.key_print());
    let before = match fs::read_to_string(&path) {
        Ok(before) => before,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(path)(error)),
    };
    if before == print {
        return Ok(());
    }
    let mut words = before.split_whitespace();
    if let Some(known) = words.next()
        && known != tokens.key_print()
    {
        let living = living().map_err(failed(data.runs_dir()))?;
        if !living.is_empty() {
            let key_file = data.key_file().display().to_string();
            let was_environment = words.next() == Some(FROM_ENVIRONMENT);
            let ours = if from_environment { KEY_VARIABLE.to_owned() } else { key_file };
            let mend = match (from_environment, was_environment) {
                (true, true) => "set it back".to_owned(),
                (true, false) => "unset it".to_owned(),
                (false, true) => format!("set {KEY_VARIABLE} back"),
                (false, false) => "put it back".to_owned(),
            };
            return Err(OtherKey { ours, mend, living }.into());
        }
    }
    let half = path.with_extension("new");
    fs::write(&half, print).and_then(|()| fs::rename(&half, &path)).map_err(failed(path))
}
