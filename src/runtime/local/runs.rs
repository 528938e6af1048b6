//! The run directories: one place for each sprite, which holds one run at a time.
//!
//! A run's directory is made beside its place (`.new-UID`), and moved there when it is whole. The
//! next run of the same sprite takes the same place, so that two runs cannot be there at once: the
//! earlier one's directory is moved away (`.gone-UID`) under its lock, and only once its process
//! is gone and its spool was taken. Whoever is broken off in between leaves a place that is
//! empty or holds a run that nobody began; the next start goes on from there, and clears away what
//! was left beside it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use sprite_reporter::{
    process,
    rundir::{RunDir, State},
    wire::RunSpec,
};

use super::removal;
use crate::runtime::Observed;

/// All run directories.
#[derive(Debug, Clone)]
pub(super) struct Runs(PathBuf);

/// What came of making a place for a run.
#[derive(Debug)]
pub(super) enum Placed {
    /// It is there: made by us, or by somebody before us.
    Here(RunDir),
    /// An earlier run is in its place, whose reporter died before all was told.
    Undrained(RunDir, u32),
    /// It cannot be made now, for this reason.
    Not(String),
}

/// What stands in a sprite's place.
#[derive(Debug)]
pub(super) enum Seen {
    /// What is there of the run that was asked for.
    This(Observed, Option<State>),
    /// An earlier run, whose process lives.
    Earlier(u32, Option<State>),
    /// A later run.
    Later(u32),
}

impl Runs {
    /// The run directories below this one.
    pub(super) fn new(place: PathBuf) -> Self {
        Self(place)
    }

    /// The place of a sprite's runs.
    pub(super) fn of(&self, uid: &str) -> RunDir {
        RunDir::new(self.0.join(uid))
    }

    fn beside(&self, uid: &str) -> RunDir {
        RunDir::new(self.0.join(format!(".new-{uid}")))
    }

    /// What is there of a sprite's run.
    ///
    /// # Errors
    /// What kept it from being told.
    pub(super) fn look(&self, uid: &str, run: u32) -> io::Result<Seen> {
        let dir = self.of(uid);
        if !dir.path().exists() {
            return Ok(Seen::This(Observed::Absent, None));
        }
        let held = dir.is_held()?;
        let state = dir.state()?;
        // The lock is proof of life; a reporter that lets go of it lives for an instant more.
        let lives = held || state.as_ref().map_or(Ok(false), |it| process::lives(&it.process))?;
        match run_of(&dir, run)? {
            there if there > run => return Ok(Seen::Later(there)),
            there if there < run && lives => return Ok(Seen::Earlier(there, state)),
            // It makes place when the next one starts.
            there if there < run => return Ok(Seen::This(Observed::Absent, None)),
            _ => {}
        }
        let process = state.as_ref().map(|state| state.process.clone());
        let observed = if lives {
            Observed::Running { process }
        } else if state.is_none() {
            Observed::Absent
        } else if dir.drained() {
            Observed::Gone { exit: dir.exit()? }
        } else {
            Observed::Orphaned { exit: dir.exit()? }
        };
        Ok(Seen::This(observed, state))
    }

    /// Whether a run's directory stands in its place.
    pub(super) fn has(&self, uid: &str, run: u32) -> bool {
        let dir = self.of(uid);
        dir.path().exists() && run_of(&dir, run).is_ok_and(|there| there == run)
    }

    /// Makes a run's directory, whole or not at all. One that is there stays as it is; an earlier
    /// run's makes place, if nobody needs it any more.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn place(&self, uid: &str, spec: &RunSpec) -> io::Result<Placed> {
        let dir = self.of(uid);
        private_directory(&self.0)?;
        let earlier = if dir.path().exists() {
            match run_of(&dir, spec.run)? {
                there if there == spec.run => return Ok(Placed::Here(dir)),
                there if there > spec.run => {
                    return Ok(Placed::Not(format!("a later run of it is there ({there})")));
                }
                there => Some(there),
            }
        } else {
            None
        };
        let new = self.beside(uid);
        private_directory(new.path())?;
        // Held until it stands in its place: nobody else makes the same one, and no reporter of
        // an earlier run is launched into it.
        let Some(_ours) = new.lock()? else {
            return Ok(Placed::Not("somebody else starts it".into()));
        };
        clear(&new)?;
        new.write_spec(spec)?;
        if let Some(earlier) = earlier {
            let Some(_theirs) = dir.lock()? else {
                return Ok(Placed::Not(format!("its run {earlier} still lives")));
            };
            if run_of(&dir, spec.run)? != earlier {
                return Ok(Placed::Not("somebody else starts it".into()));
            }
            if let Some(State { process, .. }) = dir.state()? {
                if process::lives(&process)? {
                    return Ok(Placed::Not(format!("its run {earlier} still lives")));
                }
                if !dir.drained() {
                    return Ok(Placed::Undrained(dir, earlier));
                }
            }
            removal::displace(dir.path())?;
        }
        fs::rename(new.path(), dir.path())?;
        fs::File::open(&self.0)?.sync_all()?;
        removal::discard_displaced(dir.path())?;
        Ok(Placed::Here(dir))
    }

    /// Removes what a start left beside a sprite's place.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn discard(&self, uid: &str) -> io::Result<()> {
        removal::discard_displaced(self.of(uid).path())?;
        removal::discard(self.beside(uid).path())
    }

    /// The processes of the reporters that live.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn reporters(&self) -> io::Result<Vec<u32>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut living = Vec::new();
        for entry in entries {
            let run = RunDir::new(entry?.path());
            if run.is_held()?
                && let Some(state) = run.state()?
            {
                living.push(state.process.pid);
            }
        }
        living.sort_unstable();
        Ok(living)
    }
}

/// Which run a directory is for; the one that is asked for where nothing says.
fn run_of(dir: &RunDir, asked: u32) -> io::Result<u32> {
    match dir.spec() {
        Ok(spec) => Ok(spec.run),
        Err(_) if !dir.path().join("spec.json").exists() => Ok(asked),
        Err(error) => Err(error),
    }
}

/// Removes everything but the lock.
fn clear(dir: &RunDir) -> io::Result<()> {
    for entry in fs::read_dir(dir.path())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != "lock" {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a directory that only its owner sees.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
