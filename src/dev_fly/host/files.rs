//! The directory: machines' roots, which are new at each boot; volumes' data, which stay; and
//! what a fake before this one left there.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use base64::Engine as _;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::tree;
use crate::dev_fly::{
    Error,
    truth::Found,
    world::{BootWish, Volume},
};

/// The variable by which the processes of a machine are known, however far they went.
pub(super) const MARKER: &str = "OPEN_DISPATCH_DEV_FLY";

/// What is done to the directory, one after another.
#[derive(Debug)]
pub(super) enum Job {
    Wipe(String),
    WipeVolume(String),
    Save(Value),
    Tell(oneshot::Sender<()>),
}

pub(super) struct Files {
    dir: PathBuf,
    instance: String,
    jobs: mpsc::UnboundedSender<Job>,
    /// Held as long as the fake lives.
    _lock: File,
    /// The last trouble with the directory, which is told once.
    trouble: Mutex<Option<String>>,
}

impl Files {
    pub(super) fn open(
        dir: PathBuf,
        instance: String,
    ) -> Result<(Self, Vec<Volume>, Found), Error> {
        let directory = |path: &Path, source| Error::Directory { path: path.to_owned(), source };
        for part in ["machines", "volumes"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(|source| directory(&path, source))?;
        }
        let dir = dir.canonicalize().map_err(|source| directory(&dir, source))?;
        let lock = dir.join("lock");
        let held = File::create(&lock).map_err(|source| directory(&lock, source))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: dir }),
            Err(TryLockError::Error(source)) => return Err(directory(&lock, source)),
        }
        let (volumes, found) = clean(&dir).map_err(|source| directory(&dir, source))?;
        let (jobs, waiting) = mpsc::unbounded_channel();
        // A thread of its own: it lives as long as the fake, and a runtime that is to end would wait
        // for it, as would a test's clock that moves when nothing else does.
        std::thread::Builder::new()
            .name("dev-fly-files".into())
            .spawn({
                let dir = dir.clone();
                move || work(&dir, waiting)
            })
            .map_err(|source| directory(&dir, source))?;
        let files = Self { dir, instance, jobs, _lock: held, trouble: Mutex::default() };
        Ok((files, volumes, found))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn machine(&self, id: &str) -> PathBuf {
        self.dir.join("machines").join(id)
    }

    pub(super) fn root(&self, id: &str) -> PathBuf {
        self.machine(id).join("root")
    }

    /// Where the process group of a machine is noted while it runs.
    pub(super) fn group(&self, id: &str) -> PathBuf {
        self.machine(id).join(format!("group.{}", self.instance))
    }

    /// The value of [`MARKER`] in the processes of a machine.
    pub(super) fn marker(&self, id: &str) -> String {
        format!("{}#{}#{id}", self.dir.display(), self.instance)
    }

    /// Adds what an image brings along, here this computer's, and what makes machines of one
    /// computer keep apart.
    pub(super) fn environment(&self, wish: &mut BootWish) {
        for name in ["PATH", "HOME"] {
            if let Ok(value) = std::env::var(name) {
                wish.env.entry(name.to_owned()).or_insert(value);
            }
        }
        let root = self.root(&wish.id).display().to_string();
        wish.env.insert("SPRITE_ROOT".into(), root);
        wish.env.insert(MARKER.into(), self.marker(&wish.id));
    }

    pub(super) fn later(&self, job: Job) {
        // The worker lives as long as this.
        let _ = self.jobs.send(job);
    }

    /// Waits until all jobs are done.
    pub(super) async fn settled(&self) {
        let (tell, told) = oneshot::channel();
        self.later(Job::Tell(tell));
        let _ = told.await;
    }

    /// Makes the root of a machine anew, with its volume and files in it. A stop and a start
    /// reset it. [doc]
    pub(super) fn prepare(&self, wish: &BootWish) -> io::Result<()> {
        let root = self.root(&wish.id);
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        fs::create_dir_all(root.join("tmp"))?;
        if let Some((volume, path)) = &wish.mount {
            let data = self.dir.join("volumes").join(volume);
            fs::create_dir_all(&data)?;
            let inside = below(&root, path);
            if let Some(parent) = inside.parent() {
                fs::create_dir_all(parent)?;
            }
            std::os::unix::fs::symlink(data, inside)?;
        }
        for file in wish.config["files"].as_array().into_iter().flatten() {
            let (Some(path), Some(text)) =
                (file["guest_path"].as_str(), file["raw_value"].as_str())
            else {
                continue;
            };
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let path = below(&root, path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, bytes)?;
        }
        Ok(())
    }

    /// Tells of a trouble with the directory, once.
    pub(super) fn complain(&self, what: &str) {
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_deref() != Some(what) {
            tracing::warn!("dev-fly: {what}");
            *last = Some(what.to_owned());
        }
    }
}

/// A path of a machine, below its root whatever it says.
fn below(root: &Path, path: &str) -> PathBuf {
    let plain = Path::new(path).components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(name),
        _ => None,
    });
    plain.fold(root.to_owned(), |path, name| path.join(name))
}

/// Ends what a fake before this one left running, and forgets its machines. Its volumes stay.
fn clean(dir: &Path) -> io::Result<(Vec<Volume>, Found)> {
    let mut found = Found::default();
    let machines = dir.join("machines");
    let mut groups = Vec::new();
    for entry in fs::read_dir(&machines)? {
        let entry = entry?;
        for note in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if note.file_name().to_string_lossy().starts_with("group.")
                && let Ok(text) = fs::read_to_string(note.path())
                && let Ok(group) = text.trim().parse::<i32>()
            {
                groups.push(group);
            }
        }
        found.machines.push(entry.file_name().to_string_lossy().into_owned());
    }
    let marker = format!("{}#", dir.display());
    // Where no machine was, nothing of one runs, and nobody need look at every process there is.
    if !found.machines.is_empty() {
        found.processes = tree::kill_left(&groups, &marker);
    }
    found.machines.sort();
    fs::remove_dir_all(&machines)?;
    fs::create_dir_all(&machines)?;
    let volumes: Vec<Volume> = match fs::read(dir.join("volumes.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    found.volumes = volumes.iter().map(|volume| volume.id.clone()).collect();
    Ok((volumes, found))
}

fn work(dir: &Path, mut jobs: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        let done = match job {
            Job::Wipe(id) => gone(fs::remove_dir_all(dir.join("machines").join(id))),
            Job::WipeVolume(id) => gone(fs::remove_dir_all(dir.join("volumes").join(id))),
            Job::Save(volumes) => {
                let new = dir.join("volumes.json.new");
                fs::write(&new, volumes.to_string())
                    .and_then(|()| fs::rename(&new, dir.join("volumes.json")))
            }
            Job::Tell(tell) => {
                let _ = tell.send(());
                Ok(())
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, dir = %dir.display(), "dev-fly cannot keep its directory");
        }
    }
}

fn gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_a_machine_leaves_its_root() {
        let root = Path::new("/r");
        assert_eq!(below(root, "/data"), Path::new("/r/data"));
        assert_eq!(below(root, "/../../etc/x"), Path::new("/r/etc/x"));
        assert_eq!(below(root, "a/./b"), Path::new("/r/a/b"));
    }
}
