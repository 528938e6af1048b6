//! Real repositories for tests, made and served by the real git.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

mod http;

pub use http::{Fault, GitHttp};

/// Git with nothing of this machine's settings.
pub fn git_in(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("git");
    command.args(args).current_dir(dir).env_clear().envs(plain());
    command.output().unwrap()
}

/// What git is given in tests.
pub fn plain() -> Vec<(String, String)> {
    let mut env = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
    let fixed = [
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_AUTHOR_NAME", "Tester"),
        ("GIT_AUTHOR_EMAIL", "tester@localhost"),
        ("GIT_COMMITTER_NAME", "Tester"),
        ("GIT_COMMITTER_EMAIL", "tester@localhost"),
    ];
    env.extend(fixed.map(|(a, b)| (a.to_owned(), b.to_owned())));
    env
}

/// A repository that others fetch from, and a work tree of somebody who pushes to it.
pub struct Origin {
    pub bare: PathBuf,
    pub work: PathBuf,
}

impl Origin {
    /// An empty one, with `main` as its own branch.
    pub fn new(parent: &Path, name: &str) -> Self {
        let (bare, work) =
            (parent.join(format!("{name}.git")), parent.join(format!("{name}-work")));
        fs::create_dir_all(parent).unwrap();
        ok(git_in(parent, &["init", "-q", "--bare", "-b", "main", &shown(&bare)]));
        ok(git_in(parent, &["init", "-q", "-b", "main", &shown(&work)]));
        ok(git_in(&work, &["remote", "add", "origin", &shown(&bare)]));
        ok(git_in(&bare, &["config", "http.receivepack", "true"]));
        Self { bare, work }
    }

    /// Runs git in the work tree; it must do what it is to do.
    pub fn git(&self, args: &[&str]) -> String {
        ok(git_in(&self.work, args))
    }

    /// Writes a file there.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.work.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Commits all that is there and pushes it; answers the commit.
    pub fn push(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "change"]);
        self.git(&["push", "-q", "-f", "origin", "HEAD"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// What git says in the repository itself.
    pub fn at_origin(&self, args: &[&str]) -> String {
        ok(git_in(&self.bare, args))
    }
}

pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn ok(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
