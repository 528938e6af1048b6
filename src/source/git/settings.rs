//! What reading repositories needs to know of the server, and its bounds.

use std::{path::PathBuf, time::Duration};

use super::ROOTS_VARIABLE;

/// How long git may take, and how large what it fetches may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For one fetch or push.
    pub fetch: Duration,
    /// For one question to a server.
    pub ask: Duration,
    /// A transfer over the web ends after so long without a byte.
    pub stalled: Duration,
    /// For all repositories of one Source together.
    pub whole: Duration,
    /// The largest pack, in bytes: one commit with all its files.
    pub pack: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(300),
            ask: Duration::from_secs(60),
            stalled: Duration::from_secs(30),
            whole: Duration::from_secs(720),
            pack: 1024 * 1024 * 1024,
        }
    }
}

/// What reading repositories needs to know of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where mirrors lie.
    pub dir: PathBuf,
    /// The server's environment, of which git gets how programs, keys and the network are found.
    pub environment: Vec<(String, String)>,
    /// Below which directories repositories of this machine may be read; none by default.
    pub roots: Vec<PathBuf>,
    /// Bounds.
    pub limits: Limits,
}

impl Settings {
    /// From the server's environment, with mirrors in this directory.
    #[must_use]
    pub fn from_environment(dir: PathBuf, environment: &[(String, String)]) -> Self {
        let roots = environment.iter().rev().find(|(name, _)| name == ROOTS_VARIABLE);
        let roots = roots.map(|(_, value)| value.split(':')).into_iter().flatten();
        let is_whole = |root: &&str| {
            let whole = root.starts_with('/');
            if !whole && !root.is_empty() {
                tracing::warn!(
                    "{ROOTS_VARIABLE} names `{root}`, which is no absolute path and counts for \
                     nothing; write the whole path"
                );
            }
            whole
        };
        let roots = roots.filter(is_whole).map(PathBuf::from).collect();
        Self { dir, environment: environment.to_vec(), roots, limits: Limits::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_directories_are_roots() {
        let roots = |value: &str| {
            let environment = [(ROOTS_VARIABLE.to_owned(), value.to_owned())];
            Settings::from_environment(PathBuf::from("/data"), &environment).roots
        };
        assert_eq!(roots("/srv/git::/home/git:x"), ["/srv/git", "/home/git"].map(PathBuf::from));
        assert!(roots("").is_empty());
    }
}
