//! The run directory: everything that a run leaves on disk, and who may believe what.
//!
//! | file | written | says |
//! |---|---|---|
//! | `spec.json` | by the runtime, before the launch | what to do |
//! | `lock` | held by the reporter while it lives | somebody looks after this run |
//! | `state.json` | before the agent starts, and by each reporter that cleans up | which process looks, or looked, after it; the agent's cgroup |
//! | `spool/` | as things happen | what the server does not hold yet |
//! | `exit.json` | when the process tree is gone | how the agent ended |
//! | `drained` | when the server holds the exit event, or wants nothing more | nothing is left to tell |
//! | `stop.json` | by the runtime, before SIGTERM | why the agent is to be ended |
//! | `reporter.log` | rarely | the reporter's own complaints |
//!
//! A directory is for one run. The next run of the same sprite takes the same place, and so cannot
//! begin before this one has ended and was moved away.
//!
//! Whoever takes the lock and finds `state.json` knows that another reporter died here: it
//! cleans up and never starts an agent. So two starts never run two agents.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    steps::step,
    wire::{Exit, ExitReason, ProcessIdentity, RunSpec},
};

/// Which reporter looks after a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The reporter's process.
    #[serde(flatten)]
    pub process: ProcessIdentity,
    /// The agent's control group, where it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
}

/// A run directory.
#[derive(Debug, Clone)]
pub struct RunDir(PathBuf);

/// The lock on a run, held while this lives.
#[derive(Debug)]
pub struct RunLock(File);

impl Drop for RunLock {
    fn drop(&mut self) {
        // A process on its way to become another program has the file open for a moment longer.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl RunDir {
    /// The run directory at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the spool is.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    /// Where the reporter complains.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.0.join("reporter.log")
    }

    /// What the run is to do.
    ///
    /// # Errors
    /// That there is none, or that it cannot be read.
    pub fn spec(&self) -> io::Result<RunSpec> {
        self.read("spec.json")?.ok_or_else(|| {
            io::Error::other(format!("{} is missing", self.0.join("spec.json").display()))
        })
    }

    /// Writes what the run is to do, readable for its owner alone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_spec(&self, spec: &RunSpec) -> io::Result<()> {
        self.write("spec.json", spec)
    }

    /// Which reporter looks, or looked, after the run; none before the first one.
    ///
    /// # Errors
    /// That it cannot be read.
    pub fn state(&self) -> io::Result<Option<State>> {
        self.read("state.json")
    }

    /// Writes down who looks after the run.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_state(&self, state: &State) -> io::Result<()> {
        self.write("state.json", state)
    }

    /// How the agent ended; none while its tree may live.
    ///
    /// # Errors
    /// That it cannot be read.
    pub fn exit(&self) -> io::Result<Option<Exit>> {
        self.read("exit.json")
    }

    /// Writes down how the agent ended.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        self.write("exit.json", exit)
    }

    /// Why the agent is to be ended, as the runtime says beside its signal.
    ///
    /// # Errors
    /// That it cannot be read.
    pub fn stop(&self) -> io::Result<Option<ExitReason>> {
        self.read("stop.json")
    }

    /// Writes down why the agent is to be ended; comes before the signal.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_stop(&self, reason: ExitReason) -> io::Result<()> {
        self.write("stop.json", &reason)
    }

    /// Whether nothing is left to tell the server.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.0.join("drained").exists()
    }

    /// Writes down that nothing is left to tell the server.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_drained(&self) -> io::Result<()> {
        self.write("drained", &true)
    }

    /// Takes the lock; none if somebody else holds it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn lock(&self) -> io::Result<Option<RunLock>> {
        use std::os::unix::fs::MetadataExt as _;
        let path = self.0.join("lock");
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            let lock = || flock(&file, FlockOperation::NonBlockingLockExclusive);
            match step("lock", lock) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let ours = file.metadata()?;
            match fs::metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
                    return Ok(Some(RunLock(file)));
                }
                // The run was cleaned after the file was opened: this locks nothing.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a reporter lives, told by its lock alone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn is_held(&self) -> io::Result<bool> {
        match File::open(self.0.join("lock")) {
            Ok(file) => match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => Ok(false),
                Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
                Err(error) => Err(error.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let path = self.0.join(name);
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(&path, &error)),
        };
        serde_json::from_slice(&content).map(Some).map_err(|error| named(&path, &error.into()))
    }

    /// Writes a file whole or not at all: beside, to disk, then renamed.
    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.0.join(name);
        let beside = self.0.join(format!("{name}.tmp"));
        let write = || -> io::Result<()> {
            let mut file = File::options()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            file.sync_all()?;
            step(format_args!("write {name}"), || fs::rename(&beside, &path))?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|error| named(&path, &error))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::new(directory.path());
        assert_eq!(run.exit().unwrap(), None);
        assert_eq!(run.state().unwrap(), None);
        let exit = Exit {
            code: Some(3),
            signal: None,
            reason: ExitReason::Failed,
            message: String::new(),
        };
        run.write_exit(&exit).unwrap();
        assert_eq!(run.exit().unwrap(), Some(exit));
        assert!(!run.drained());
        run.write_drained().unwrap();
        assert!(run.drained());
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("state.json"), "{").unwrap();
        let error = RunDir::new(directory.path()).state().unwrap_err().to_string();
        assert!(error.contains("state.json"), "{error}");
    }

    #[test]
    fn the_lock_is_held_by_one_and_freed_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::new(directory.path());
        assert!(!run.is_held().unwrap());
        let lock = run.lock().unwrap().unwrap();
        assert!(run.is_held().unwrap());
        assert!(run.lock().unwrap().is_none());
        drop(lock);
        assert!(!run.is_held().unwrap());
    }
}
