//! Where values come from, one over the other: the process's environment, a `.env` file, the
//! configuration file.
//!
//! Reading the files happens here, once, at the start; all else in this room is pure. A `.env`
//! of the working directory is taken, else one of the data directory. What it says
//! counts as if it stood in the environment, for the server and for what agents inherit, and
//! gives way to what does stand there.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::{Error, Setting, Source, data_dir, file::File, known::KNOWN};

/// The name of a file with variables.
pub const DOT_ENV: &str = ".env";
/// The configuration file's name in the data directory.
pub const CONFIG_FILE: &str = "config.yaml";

/// All that was said outside of the flags.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    process: BTreeMap<String, String>,
    dot_env: BTreeMap<String, String>,
    dot_env_path: Option<PathBuf>,
    file: File,
    file_path: Option<PathBuf>,
}

/// Where to look for files.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The working directory.
    pub cwd: PathBuf,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
}

impl Layers {
    /// An environment alone, without files.
    #[must_use]
    pub fn environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { process: variables.into_iter().collect(), ..Self::default() }
    }

    /// The environment, with the files that are there.
    ///
    /// # Errors
    /// A file that cannot be read, with its place.
    pub fn read(
        variables: impl IntoIterator<Item = (String, String)>,
        places: &Places,
    ) -> Result<Self, Error> {
        let mut layers = Self::environment(variables);
        layers.read_dot_env(&places.cwd)?;
        let data = data_dir(places.data.clone(), |name| layers.variable(name))?.value;
        if layers.dot_env_path.is_none() {
            layers.read_dot_env(&data)?;
        }
        let named = places.config.clone().or_else(|| {
            layers.variable("OPEN_DISPATCH_CONFIG").filter(|path| !path.is_empty()).map(Into::into)
        });
        let path = named.clone().unwrap_or_else(|| data.join(CONFIG_FILE));
        match fs::read_to_string(&path) {
            Ok(text) => {
                layers.file = File::parse(&text, &path)?;
                layers.file_path = Some(path);
            }
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
        Ok(layers)
    }

    fn read_dot_env(&mut self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(DOT_ENV);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(unreadable(&path, &error)),
        };
        for pair in dotenvy::from_read_iter(bytes.as_slice()) {
            let (name, value) = pair.map_err(|error| Error::DotEnv {
                path: path.clone(),
                what: told(&error, &bytes),
            })?;
            self.dot_env.insert(name, value);
        }
        self.dot_env_path = Some(path);
        Ok(())
    }

    /// A variable of the environment or of a `.env` file.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.process.get(name).or_else(|| self.dot_env.get(name)).cloned()
    }

    /// What was said under a variable's name, or under a key of the configuration file. Empty
    /// counts as not said.
    #[must_use]
    pub fn said(&self, name: &'static str) -> Option<(String, Source)> {
        let full = |value: &&String| !value.is_empty();
        if let Some(value) = self.process.get(name).filter(full) {
            return Some((value.clone(), Source::Environment(name)));
        }
        if let Some(value) = self.dot_env.get(name).filter(full) {
            return Some((value.clone(), Source::DotEnv(name)));
        }
        self.filed(name)
    }

    /// What the configuration file alone says of a variable.
    pub(super) fn filed(&self, name: &'static str) -> Option<(String, Source)> {
        let (key, value) = self.file.get(name)?;
        Some((value, Source::File(key)))
    }

    /// The whole environment, for agents and secrets: the process's, over the `.env` file's.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut all = self.dot_env.clone();
        all.extend(self.process.clone());
        all.into_iter().collect()
    }

    /// The `.env` file that was read.
    #[must_use]
    pub fn dot_env(&self) -> Option<&Path> {
        self.dot_env_path.as_deref()
    }

    /// The configuration file that was read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file_path.as_deref()
    }

    /// What to warn of: files with secrets that others can read, and variables that look like
    /// ours and are read by nobody.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.dot_env()
            .filter(|path| others_can_read(path))
            .map(|path| format!("{} can be read by others; say chmod 600 on it", path.display()))
            .into_iter()
            .chain(self.process.keys().chain(self.dot_env.keys()).filter_map(|name| unknown(name)))
            .collect()
    }
}

/// Names that begin like ours, and are read elsewhere: by the installer, by agents, by tests.
const ELSEWHERE: &[&str] = &[
    "OPEN_DISPATCH_ARTIFACTS",
    "OPEN_DISPATCH_BASE_URL",
    "OPEN_DISPATCH_CRASH_AT",
    "OPEN_DISPATCH_INSTALL_DIR",
    "OPEN_DISPATCH_OPENCODE_MEMORY_MB",
    "OPEN_DISPATCH_VERSION",
];

/// A warning of a variable that looks like ours and is none.
fn unknown(name: &str) -> Option<String> {
    const OURS: &str = "OPEN_DISPATCH_";
    if !name.starts_with(OURS)
        || name.starts_with("OPEN_DISPATCH_SECRET_")
        || ELSEWHERE.contains(&name)
        || KNOWN.iter().any(|known| known.name == name)
    {
        return None;
    }
    let ours = KNOWN.iter().map(|known| known.name).filter(|known| known.starts_with(OURS));
    let nearest = ours.min_by_key(|known| strsim::osa_distance(name, known)).unwrap_or(OURS);
    Some(format!("nothing reads the variable {name}; did you mean {nearest}?"))
}

fn others_can_read(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::File { path: path.to_owned(), what: error.to_string() }
}

/// What is wrong with a line, without the line: it may hold a secret.
fn told(error: &dotenvy::Error, bytes: &[u8]) -> String {
    match error {
        dotenvy::Error::LineParse(line, _) => {
            let text = String::from_utf8_lossy(bytes);
            let first = line.lines().next().unwrap_or_default().trim();
            let number = text.lines().position(|it| it.trim() == first).map_or(0, |at| at + 1);
            format!(
                "line {number} cannot be read; write NAME=value, and put a value with spaces, \
                 quotes or # into quotes"
            )
        }
        dotenvy::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            "it is not UTF-8".to_owned()
        }
        error => error.to_string(),
    }
}

impl<T> Setting<T> {
    /// Whether anything was said at all.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.source != Source::Default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_nobody_reads_is_told_with_the_name_that_was_meant() {
        let warned =
            |name: &str| Layers::environment([(name.to_owned(), "3".to_owned())]).warnings();
        let line = "nothing reads the variable OPEN_DISPATCH_MAXSPRITES; did you mean \
                    OPEN_DISPATCH_MAX_SPRITES?";
        assert_eq!(warned("OPEN_DISPATCH_MAXSPRITES"), [line]);
        for name in ["OPEN_DISPATCH_MAX_SPRITES", "OPEN_DISPATCH_SECRET_X", "PATH"] {
            assert!(warned(name).is_empty(), "{name}");
        }
    }
}
