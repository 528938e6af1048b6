//! Where things are in a machine.
//!
//! | what | with a volume | without |
//! |---|---|---|
//! | run directory | `/data/run` | `/tmp/open-dispatch/run` |
//! | home | `/data/home`, where the server says so | the image's |
//! | work directory | what the server says, or `WORKDIR`, or `/workspace` | the same |
//!
//! All of it lies below `SPRITE_ROOT`, which is `/` in a real machine; machines that are played by
//! processes of one computer have one each.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Component, Path, PathBuf},
};

use super::{heritage::Heritage, user};
use crate::{
    rundir::RunDir,
    wire::{ROOT_VARIABLE, RunSpec},
};

/// Where a volume is mounted, if there is one.
pub(super) const VOLUME: &str = "/data";
/// Where the run directory is without one.
pub(super) const ELSEWHERE: &str = "/tmp/open-dispatch";
/// Where an agent works where nothing is said.
const WORKSPACE: &str = "/workspace";

/// What to do about a place that cannot be written.
const MEND: &str = "; a volume belongs to root: let the image begin as root, and name its user in \
                    SPRITE_USER; and see that the disk is not full";

/// A machine's paths.
#[derive(Debug, Clone)]
pub struct Place {
    root: PathBuf,
    /// The directory of the run directory: nobody's but ours.
    own: PathBuf,
}

/// What an earlier run left.
#[derive(Debug, PartialEq, Eq)]
pub enum Remains {
    /// Nothing.
    None,
    /// What everybody knows, or nobody can tell any more.
    Done,
    /// Another sprite's, whose token is not ours.
    Of(String),
    /// Something of this run that the server does not know yet.
    Untold(u32),
}

impl Place {
    /// The paths of this machine.
    ///
    /// # Errors
    /// That `SPRITE_ROOT` is no path.
    pub fn find(heritage: &Heritage) -> Result<Self, String> {
        let root = PathBuf::from(heritage.value(ROOT_VARIABLE).unwrap_or("/"));
        if !root.is_absolute() {
            return Err(format!("{ROOT_VARIABLE} is {}; give an absolute path", root.display()));
        }
        let volume = below(&root, VOLUME);
        // A directory of that name may be the image's, and not ours to write.
        let is_ours = volume.is_dir() && private(&volume.join("run")).is_ok();
        let own = if is_ours { volume.join("run") } else { below(&root, ELSEWHERE) };
        Ok(Self { root, own })
    }

    /// A path of the machine, below its root.
    #[must_use]
    pub fn below(&self, path: &str) -> PathBuf {
        below(&self.root, path)
    }

    /// Where an agent works where nothing is said.
    #[must_use]
    pub fn workspace(heritage: &Heritage) -> String {
        heritage.value("WORKDIR").unwrap_or(WORKSPACE).to_owned()
    }

    /// The run directory.
    #[must_use]
    pub fn run_dir(&self) -> RunDir {
        RunDir::new(self.own.join("run"))
    }

    /// The agent's home: the one that the server names, made where it is not there; or the image's.
    ///
    /// # Errors
    /// That it cannot be made.
    pub fn home(&self, named: Option<&str>, heritage: &Heritage) -> Result<PathBuf, String> {
        if let Some(home) = named {
            let home = self.below(home);
            return match private(&home) {
                Ok(()) => Ok(home),
                Err(error) => {
                    Err(format!("cannot make the agent's home {}: {error}{MEND}", home.display()))
                }
            };
        }
        let of_user = || {
            let users = fs::read_to_string("/etc/passwd").ok()?;
            user::with_id(&users, rustix::process::geteuid().as_raw())?.home
        };
        Ok(heritage.value("HOME").map(PathBuf::from).or_else(of_user).unwrap_or_else(|| "/".into()))
    }

    /// Puts a spec's paths below the root, and makes the work directory where nothing is cloned.
    ///
    /// # Errors
    /// That it cannot be made.
    pub fn settle(&self, spec: &mut RunSpec) -> Result<(), String> {
        let put = |path: &mut String| *path = self.below(path).to_string_lossy().into_owned();
        put(&mut spec.workdir);
        spec.attachments.iter_mut().for_each(put);
        spec.artifacts.iter_mut().for_each(put);
        spec.hide.iter_mut().for_each(put);
        if let Some(tree) = &mut spec.worktree {
            put(&mut tree.of);
        }
        if let Some(sandbox) = &mut spec.sandbox {
            put(&mut sandbox.home);
        }
        // What is numbered and not told yet is not the agent's to change.
        spec.hide.push(self.own.to_string_lossy().into_owned());
        if spec.repo.is_none() && spec.worktree.is_none() {
            fs::create_dir_all(&spec.workdir).map_err(|error| {
                format!("cannot make the work directory {}: {error}{MEND}", spec.workdir)
            })?;
        }
        Ok(())
    }

    /// Makes the run directory for a run, with nothing else in it.
    ///
    /// # Errors
    /// What the file system says, where, and the mend.
    pub fn make_run_dir(&self, spec: &RunSpec) -> Result<(), String> {
        let dir = self.run_dir();
        let made =
            self.clear().and_then(|()| private(dir.path())).and_then(|()| dir.write_spec(spec));
        made.map_err(|error| {
            let place = dir.path().display();
            format!("cannot make the run directory {place}: {error}{MEND}")
        })
    }

    /// Removes the run directory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.run_dir().path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What an earlier run left here. One that is to be told is told to this server.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remains(&self, job_id: &str, server: &str) -> io::Result<Remains> {
        let dir = self.run_dir();
        if !dir.path().exists() {
            return Ok(Remains::None);
        }
        // A file that breaks off was written by a machine that died before its agent began.
        let Ok(mut spec) = dir.spec() else { return Ok(Remains::Done) };
        let has_begun = dir.state()?.is_some();
        if spec.job_id != job_id {
            return Ok(Remains::Of(spec.job_id));
        }
        if dir.drained() || !has_begun {
            return Ok(Remains::Done);
        }
        spec.server = Some(server.to_owned());
        spec.endpoint_file = None;
        dir.write_spec(&spec)?;
        Ok(Remains::Untold(spec.run))
    }
}

/// A path below a root, wherever it points.
pub(super) fn below(root: &Path, path: &str) -> PathBuf {
    let inner = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
    let mut whole = root.to_owned();
    whole.extend(inner);
    whole
}

/// Makes a directory that only its owner sees.
fn private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_below_the_root_and_nowhere_else() {
        let at = |root: &str, path: &str| below(Path::new(root), path).display().to_string();
        assert_eq!(at("/", "/data/home"), "/data/home");
        assert_eq!(at("/m/1", "/data/home"), "/m/1/data/home");
        assert_eq!(at("/m/1", "../../etc"), "/m/1/etc");
        assert_eq!(at("/m/1", "work"), "/m/1/work");
    }

    #[test]
    fn the_run_directory_is_on_the_volume_where_there_is_one() {
        let root = tempfile::tempdir().unwrap();
        let heritage = Heritage::of(&[("SPRITE_ROOT", root.path().to_str().unwrap())]);
        let place = Place::find(&heritage).unwrap();
        assert_eq!(place.run_dir().path(), root.path().join("tmp/open-dispatch/run"));
        fs::create_dir(root.path().join("data")).unwrap();
        let place = Place::find(&heritage).unwrap();
        assert_eq!(place.run_dir().path(), root.path().join("data/run/run"));
        let why = Place::find(&Heritage::of(&[("SPRITE_ROOT", "here")])).unwrap_err();
        assert_eq!(why, "SPRITE_ROOT is here; give an absolute path");
    }

    #[test]
    fn what_an_earlier_run_left_is_told_only_where_it_is_ours_and_began() {
        let root = tempfile::tempdir().unwrap();
        let heritage = Heritage::of(&[("SPRITE_ROOT", root.path().to_str().unwrap())]);
        let place = Place::find(&heritage).unwrap();
        let remains = |job: &str| place.remains(job, "http://now").unwrap();
        assert_eq!(remains("j"), Remains::None);
        let mut spec = super::super::original::tests::spec();
        (spec.job_id, spec.run) = ("j".into(), 3);
        place.make_run_dir(&spec).unwrap();
        assert_eq!(remains("j"), Remains::Done, "no agent began");
        let process = crate::process::identity().unwrap();
        let dir = place.run_dir();
        dir.write_state(&crate::rundir::State { process, cgroup: None }).unwrap();
        assert_eq!(remains("other"), Remains::Of("j".into()));
        assert_eq!(remains("j"), Remains::Untold(3));
        assert_eq!(dir.spec().unwrap().server.as_deref(), Some("http://now"));
        dir.write_drained().unwrap();
        assert_eq!(remains("j"), Remains::Done);
        place.clear().unwrap();
        place.clear().unwrap();
        assert_eq!(remains("j"), Remains::None);
    }
}
