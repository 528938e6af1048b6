//! Secrets: values that specs name and never hold.
//!
//! A spec says `fromSecret: github`; the value comes from the server's environment
//! (`OPEN_DISPATCH_SECRET_GITHUB`), else from the file `github` in the data directory's `secrets`,
//! which nobody but its owner may read. It is resolved when a sprite starts and handed on in
//! memory, or in the sprite's own private files; it stands in no object, row, log line or error.
//!
//! A file is written whole or not at all. Whoever waits for a secret hears of each change here
//! ([`Secrets::changes`]); one that was made by hand, beside us, is found by looking again.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tokio::sync::watch;

/// How the variables begin that hold secrets.
pub const VARIABLE_PREFIX: &str = "OPEN_DISPATCH_SECRET_";
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// The largest value, in bytes: what a variable of an agent's environment can hold with room to
/// spare.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// A secret's name, and where its value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SecretEntry {
    /// The name, as specs write it.
    pub name: String,
    /// Where its value comes from.
    pub from: Provider,
}

/// Where a secret's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Provider {
    /// A variable of the server's environment; it goes before a file of the same name.
    Environment,
    /// A file in the directory of secrets.
    File,
}

/// Why a secret cannot be had, or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No text can name a secret but a plain one.
    #[error(
        "{0:?} is no name for a secret; use up to {MAX_NAME_BYTES} of a-z, A-Z, 0-9, -, _ and ., \
         with a letter or digit first"
    )]
    BadName(String),
    /// A value that no variable can hold, or that holds nothing.
    #[error("the value of secret {name} {why}")]
    BadValue {
        /// The secret.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody has set it.
    #[error(
        "secret {name} is missing; run `open-dispatch secret set {name}`, or set {variable} for \
         the server"
    )]
    Missing {
        /// The secret.
        name: String,
        /// The variable that could hold it.
        variable: String,
    },
    /// Others could read it, so it is none.
    #[error("{} can be read by others; run `chmod 600` on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The environment decides, and cannot be changed from here.
    #[error("secret {name} comes from the server's variable {variable}; change it there")]
    FromEnvironment {
        /// The secret.
        name: String,
        /// The variable.
        variable: String,
    },
    /// The file system.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The installation's secrets; cheap to clone.
#[derive(Clone)]
pub struct Secrets(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    /// Those of the environment, by the variable's name.
    environment: Vec<(String, SecretString)>,
    changes: watch::Sender<u64>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("dir", &self.0.dir).finish_non_exhaustive()
    }
}

impl Secrets {
    /// The secrets in a directory, which need not be there yet, and in an environment, of which
    /// the variables that begin with [`VARIABLE_PREFIX`] are kept.
    #[must_use]
    pub fn new(dir: PathBuf, environment: Vec<(String, String)>) -> Self {
        let ours = |(name, value): (String, String)| {
            let named = name.strip_prefix(VARIABLE_PREFIX).is_some_and(|name| !name.is_empty());
            named.then(|| (name, SecretString::from(value)))
        };
        let environment = environment.into_iter().filter_map(ours).collect();
        Self(Arc::new(Shared { dir, environment, changes: watch::Sender::new(0) }))
    }

    /// Hears each change that is made here.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// All secrets by name. One that the environment holds is listed by the name in lower case.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(&self) -> Result<Vec<SecretEntry>, Error> {
        let failed = |source| Error::File { action: "read", path: self.0.dir.clone(), source };
        let mut entries: Vec<SecretEntry> = Vec::new();
        match fs::read_dir(&self.0.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(files) => {
                for file in files {
                    let file = file.map_err(failed)?;
                    let plain = file.file_type().is_ok_and(|kind| kind.is_file());
                    let Ok(name) = file.file_name().into_string() else { continue };
                    if plain && checked(&name).is_ok() && self.variable(&name).is_none() {
                        entries.push(SecretEntry { name, from: Provider::File });
                    }
                }
            }
        }
        entries.extend(self.0.environment.iter().filter_map(|(variable, _)| {
            let name = variable.strip_prefix(VARIABLE_PREFIX)?.to_ascii_lowercase();
            Some(SecretEntry { name, from: Provider::Environment })
        }));
        entries.sort();
        entries.dedup();
        Ok(entries)
    }

    /// Sets a secret: a file that only its owner reads, there whole or not at all. Line ends at
    /// the end are not part of the value.
    ///
    /// # Errors
    /// A name or a value that cannot be one, one that the environment decides, or a file that
    /// cannot be written.
    pub fn set(&self, name: &str, value: &SecretString) -> Result<(), Error> {
        self.check(name, value)?;
        let (path, value) = (self.0.dir.join(name), trimmed(value.expose_secret()));
        write(&self.0.dir, name, value).map_err(|source| Error::File {
            action: "write",
            path,
            source,
        })?;
        self.0.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Whether a secret can be set so; nothing is written.
    ///
    /// # Errors
    /// A name or a value that cannot be one, or one that the environment decides.
    pub fn check(&self, name: &str, value: &SecretString) -> Result<(), Error> {
        let name = checked(name)?;
        let bad = |why| Error::BadValue { name: name.to_owned(), why };
        let value = trimmed(value.expose_secret());
        if value.is_empty() {
            return Err(bad("is empty; `open-dispatch secret rm` removes one"));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(bad("is larger than 64 KiB, which no variable should be"));
        }
        if value.contains('\0') {
            return Err(bad("has a NUL byte, which no variable can hold"));
        }
        self.ours(name)
    }

    /// Whether there is a secret that [`Self::remove`] would remove.
    ///
    /// # Errors
    /// A name that cannot be one, or one that the environment decides.
    pub fn is_set(&self, name: &str) -> Result<bool, Error> {
        let name = checked(name)?;
        self.ours(name)?;
        Ok(self.0.dir.join(name).symlink_metadata().is_ok())
    }

    /// Removes a secret. Answers whether there was one.
    ///
    /// # Errors
    /// One that the environment decides, or a file that cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        let name = checked(name)?;
        self.ours(name)?;
        let path = self.0.dir.join(name);
        match fs::remove_file(&path) {
            Ok(()) => {
                self.0.changes.send_modify(|count| *count += 1);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::File { action: "remove", path, source }),
        }
    }

    /// A secret's value: from the environment, else from its file.
    ///
    /// # Errors
    /// That it is missing, that others may read it, or that it cannot be read.
    pub fn resolve(&self, name: &str) -> Result<SecretString, Error> {
        let name = checked(name)?;
        if let Some((_, value)) = self.variable(name) {
            return Ok(value.clone());
        }
        let path = self.0.dir.join(name);
        let failed = |source| Error::File { action: "read", path: path.clone(), source };
        let meta = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { name: name.to_owned(), variable: variable(name) });
            }
            meta => meta.map_err(failed)?,
        };
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(Error::Exposed { path });
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        Ok(SecretString::from(trimmed(&text)))
    }

    fn variable(&self, name: &str) -> Option<&(String, SecretString)> {
        let variable = variable(name);
        self.0.environment.iter().find(|(it, _)| *it == variable)
    }

    /// Whether a secret can be changed from here.
    fn ours(&self, name: &str) -> Result<(), Error> {
        match self.variable(name) {
            None => Ok(()),
            Some((variable, _)) => {
                Err(Error::FromEnvironment { name: name.to_owned(), variable: variable.clone() })
            }
        }
    }
}

/// The variable that holds the secret of a name.
#[must_use]
pub fn variable(name: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", name.to_ascii_uppercase().replace(['-', '.'], "_"))
}

/// A name that can be one: it stays inside the directory and makes a variable.
fn checked(name: &str) -> Result<&str, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= MAX_NAME_BYTES && name.bytes().all(plain) {
        Ok(name)
    } else {
        Err(Error::BadName(name.to_owned()))
    }
}

fn trimmed(value: &str) -> &str {
    value.trim_end_matches(['\r', '\n'])
}

/// Writes beside, to disk, then renames. What begins with a dot is no secret.
fn write(dir: &Path, name: &str, value: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let half = dir.join(format!(".{name}.new"));
    // One of a crash may have had other rights.
    match fs::remove_file(&half) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&half)?;
    file.write_all(value.as_bytes())?;
    file.sync_all()?;
    fs::rename(&half, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets(environment: &[(&str, &str)]) -> (tempfile::TempDir, Secrets) {
        let dir = tempfile::tempdir().unwrap();
        let environment =
            environment.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let secrets = Secrets::new(dir.path().join("secrets"), environment);
        (dir, secrets)
    }

    fn entry(name: &str, from: Provider) -> SecretEntry {
        SecretEntry { name: name.to_owned(), from }
    }

    #[test]
    fn what_is_set_is_resolved_listed_private_and_removed() {
        let (dir, secrets) = secrets(&[]);
        let mut changes = secrets.changes();
        assert_eq!(secrets.list().unwrap(), []);
        secrets.set("github", &"ghp_1\r\n".into()).unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(secrets.resolve("github").unwrap().expose_secret(), "ghp_1");
        assert_eq!(secrets.list().unwrap(), [entry("github", Provider::File)]);
        let mode =
            |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("secrets"), mode("secrets/github")), (0o700, 0o600));
        secrets.set("github", &"ghp_2".into()).unwrap();
        assert_eq!(secrets.resolve("github").unwrap().expose_secret(), "ghp_2");
        assert!(secrets.remove("github").unwrap());
        assert!(changes.has_changed().unwrap());
        assert!(!secrets.remove("github").unwrap());
        assert_eq!(secrets.list().unwrap(), []);
    }

    #[test]
    fn the_environment_goes_first_and_cannot_be_changed_here() {
        let (_dir, secrets) =
            secrets(&[("OPEN_DISPATCH_SECRET_DEPLOY_KEY", "env"), ("PATH", "/bin")]);
        assert_eq!(secrets.resolve("deploy-key").unwrap().expose_secret(), "env");
        assert_eq!(secrets.list().unwrap(), [entry("deploy_key", Provider::Environment)]);
        let error = secrets.set("deploy.key", &"file".into()).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"secret deploy.key comes from the server's variable OPEN_DISPATCH_SECRET_DEPLOY_KEY; change it there");
        assert!(secrets.remove("deploy-key").is_err());
    }

    #[test]
    fn what_cannot_be_had_says_why_and_how_it_is_mended() {
        let (dir, secrets) = secrets(&[]);
        let error = secrets.resolve("git-hub").unwrap_err().to_string();
        insta::assert_snapshot!(error, @"secret git-hub is missing; run `open-dispatch secret set git-hub`, or set OPEN_DISPATCH_SECRET_GIT_HUB for the server");
        secrets.set("open", &"value".into()).unwrap();
        let path = dir.path().join("secrets/open");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = secrets.resolve("open").unwrap_err().to_string();
        insta::assert_snapshot!(error.replace(&path.display().to_string(), "PATH"), @"PATH can be read by others; run `chmod 600` on it");
        let error = secrets.resolve("../key").unwrap_err().to_string();
        insta::assert_snapshot!(error, @r#""../key" is no name for a secret; use up to 128 of a-z, A-Z, 0-9, -, _ and ., with a letter or digit first"#);
        for bad in ["", "\n", "a\0b"] {
            let error = secrets.set("bad", &bad.into()).unwrap_err();
            assert!(matches!(error, Error::BadValue { .. }), "{bad:?}: {error}");
        }
        assert!(secrets.set("bad", &"x".repeat(MAX_VALUE_BYTES + 1).into()).is_err());
        assert!(!dir.path().join("secrets/bad").exists());
    }

    #[test]
    fn what_a_crash_left_is_no_secret_and_in_nobodys_way() {
        let (dir, secrets) = secrets(&[]);
        fs::create_dir(dir.path().join("secrets")).unwrap();
        let half = dir.path().join("secrets/.key.new");
        fs::write(&half, "half").unwrap();
        fs::set_permissions(&half, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(secrets.list().unwrap(), []);
        secrets.set("key", &"whole".into()).unwrap();
        assert_eq!(secrets.resolve("key").unwrap().expose_secret(), "whole");
        assert!(!half.exists());
    }

    #[test]
    fn a_debug_print_shows_no_value() {
        let (_dir, secrets) = secrets(&[("OPEN_DISPATCH_SECRET_X", "hidden-value")]);
        assert!(!format!("{secrets:?}").contains("hidden-value"));
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_directory(name in "[-_./a-zA-Z0-9\\PC]{0,12}") {
            let (dir, secrets) = secrets(&[]);
            if secrets.set(&name, &"value".into()).is_ok() {
                let path = dir.path().join("secrets").join(&name);
                prop_assert!(path.is_file());
                prop_assert_eq!(path.parent().unwrap(), dir.path().join("secrets"));
                prop_assert_eq!(secrets.list().unwrap(), [entry(&name, Provider::File)]);
            } else {
                prop_assert!(!dir.path().join("secrets").exists());
            }
        }
    }
}
