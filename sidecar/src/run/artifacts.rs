//! What an agent makes: files in its directory for artifacts, and pull requests that it names.
//!
//! Everything that a driver says passes the [`gate`] on its way to the run's loop. When a turn has
//! ended there, the files that are new or changed since the last look are brought to the server
//! and told before the end is; so whoever sees the end sees all that came of it. The loop goes on
//! meanwhile: a cancel, or a time-out, is not kept waiting by a file.
//!
//! Only regular files directly in the directory are taken. One that is a link, or lies deeper, is
//! not: what it leads to may not be the agent's to show.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, open, openat};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::links::{Link, Scanner};
use crate::{
    ambient,
    driver::Said,
    report::{self, Address, Backoff, MAX_FILE_BYTES},
    wire::{EventBody, RunSpec, Stream},
};

/// How long files wait for a server that is away before a turn ends without them.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How many files are taken at the end of one turn.
const MAX_FILES: usize = 100;
/// How many things may be on their way from the gate to the loop.
const DEPTH: usize = 64;

/// Puts the gate between a driver and the loop. It ends when the driver has said its last.
pub(super) fn gate(
    mut said: mpsc::Receiver<Said>,
    spec: Arc<RunSpec>,
    address: Address,
) -> mpsc::Receiver<Said> {
    let (on, passed) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        let mut links = Scanner::default();
        let mut shelf = spec.artifacts.as_ref().map(|dir| Shelf::new(dir.into(), address));
        while let Some(said) = said.recv().await {
            let found = match &said {
                Said::Text(turn, bytes) => links.hear(turn, bytes),
                Said::Log(stream @ (Stream::Stdout | Stream::Stderr), bytes) => {
                    links.hear(&format!("{stream:?}"), bytes)
                }
                Said::Event(EventBody::TurnEnded { .. }) => {
                    pass(&on, links.close()).await;
                    if let Some(shelf) = &mut shelf {
                        shelf.bring(&on).await;
                    }
                    Vec::new()
                }
                _ => Vec::new(),
            };
            // Nobody listens any more: the run is over.
            if on.send(said).await.is_err() {
                return;
            }
            pass(&on, found).await;
        }
        pass(&on, links.close()).await;
        // An agent that died in a turn may have left something.
        if let Some(shelf) = &mut shelf {
            shelf.bring(&on).await;
        }
    });
    passed
}

async fn pass(on: &mpsc::Sender<Said>, links: Vec<Link>) {
    for Link { url, name } in links {
        let event = EventBody::Artifact { name, url, kind: "pr".into() };
        let _ = on.send(Said::Event(event)).await;
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
    inode: u64,
}

impl Look {
    fn at(file: &File) -> io::Result<Option<Self>> {
        let meta = file.metadata()?;
        Ok(meta.is_file().then(|| Self {
            size: meta.size(),
            seconds: meta.mtime(),
            nanoseconds: meta.mtime_nsec(),
            inode: meta.ino(),
        }))
    }
}

/// The directory for artifacts, and what of it was told.
struct Shelf {
    dir: PathBuf,
    address: Address,
    told: BTreeMap<String, Look>,
}

impl Shelf {
    fn new(dir: PathBuf, address: Address) -> Self {
        let told = fs::read(notes(&dir)).ok();
        let told = told.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        Self { dir, address, told }
    }

    /// Brings what is new or changed to the server, and says so.
    async fn bring(&mut self, on: &mpsc::Sender<Said>) {
        let say = |line: String| {
            let on = on.clone();
            async move {
                let _ = on.send(Said::Log(Stream::System, format!("{line}\n").into_bytes())).await;
            }
        };
        let dir = match open(&self.dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(dir) => dir,
            // It was never made, or the agent removed it.
            Err(rustix::io::Errno::NOENT) => return,
            Err(error) => return say(format!("artifacts could not be looked for: {error}")).await,
        };
        let names = match self.changed(&dir) {
            Ok(names) => names,
            Err(error) => return say(format!("artifacts could not be looked for: {error}")).await,
        };
        let until = ambient::elapsed() + PATIENCE;
        if names.len() > MAX_FILES {
            say(format!("{} artifacts are too many; the first {MAX_FILES} are kept", names.len()))
                .await;
        }
        for name in names.into_iter().take(MAX_FILES) {
            match self.bring_one(&dir, &name, until).await {
                Ok(None) => {}
                Ok(Some((url, look))) => {
                    let shown: String = name.chars().filter(|c| !c.is_control()).collect();
                    let event = EventBody::Artifact { name: shown, url, kind: "file".into() };
                    let _ = on.send(Said::Event(event)).await;
                    self.told.insert(name, look);
                }
                Err((why, look)) => {
                    // What is not wanted is not offered again, unless it changes.
                    self.told.extend(look.map(|look| (name.clone(), look)));
                    say(format!("artifact {name:?} could not be kept: {why}")).await;
                }
            }
        }
        if let Err(error) = self.note() {
            say(format!("it could not be noted which artifacts were told: {error}")).await;
        }
    }

    /// The names of the files that are new or changed.
    fn changed(&self, dir: &OwnedFd) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(dir)? {
            let entry = entry?;
            // A name that is no text could not be told.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if let Some((_, look)) = take(dir, name)?
                && self.told.get(name) != Some(&look)
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Brings one file; none if it is gone by now. A failure comes with the state of the file in
    /// which it will not be wanted by trying again.
    async fn bring_one(
        &self,
        dir: &OwnedFd,
        name: &str,
        until: Duration,
    ) -> Result<Option<(String, Look)>, (String, Option<Look>)> {
        let disk = |error: io::Error| (error.to_string(), None);
        let Some((file, look)) = take(dir, name).map_err(disk)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(disk)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            let why = format!("it is larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024);
            return Err((why, Some(look)));
        }
        let bytes = Bytes::from(bytes);
        let mut backoff = Backoff::default();
        loop {
            match report::upload(&self.address, name, bytes.clone()).await {
                Ok(url) => return Ok(Some((url, look))),
                Err(error) if error.is_final() => return Err((error.to_string(), Some(look))),
                Err(error) if ambient::elapsed() >= until => {
                    return Err((error.to_string(), None));
                }
                Err(_) => ambient::sleep(backoff.next(ambient::chance())).await,
            }
        }
    }

    /// Writes down what was told, so that the next run does not tell it again.
    fn note(&self) -> io::Result<()> {
        let notes = notes(&self.dir);
        let half = notes.with_extension("told.new");
        fs::write(&half, serde_json::to_vec(&self.told)?)?;
        fs::rename(half, notes)
    }
}

/// Where it stands what was told: beside the directory, which is not the agent's to write.
fn notes(dir: &Path) -> PathBuf {
    dir.with_extension("told")
}

/// Opens a file of a directory, if it is a regular one.
fn take(dir: &OwnedFd, name: &str) -> io::Result<Option<(File, Look)>> {
    // A pipe must not make us wait, and a link must not lead us away.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(_) => return Ok(None),
    };
    Ok(Look::at(&file)?.map(|look| (file, look)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("x.out");
        fs::create_dir(&place).unwrap();
        let address = Address {
            job_id: "j".into(),
            run: 1,
            token: "t".into(),
            endpoint_file: None,
            server: Some("http://127.0.0.1:1".into()),
        };
        let shelf = Shelf::new(place, address);
        (dir, shelf)
    }

    fn changed(shelf: &Shelf) -> Vec<String> {
        shelf.changed(&open(&shelf.dir, OFlags::DIRECTORY, Mode::empty()).unwrap()).unwrap()
    }

    #[test]
    fn only_plain_files_are_taken_and_each_state_of_them_once() {
        let (dir, mut shelf) = shelf();
        let at = |name: &str| shelf.dir.join(name);
        fs::write(dir.path().join("key"), "secret").unwrap();
        fs::write(at("plot.png"), "1").unwrap();
        std::os::unix::fs::symlink(dir.path().join("key"), at("link")).unwrap();
        fs::create_dir(at("deep")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), Mode::RWXU).unwrap();
        assert_eq!(changed(&shelf), ["plot.png"]);
        let file = File::open(at("plot.png")).unwrap();
        shelf.told.insert("plot.png".into(), Look::at(&file).unwrap().unwrap());
        assert_eq!(changed(&shelf), Vec::<String>::new());
        shelf.note().unwrap();
        let again = Shelf::new(shelf.dir.clone(), shelf.address.clone());
        assert_eq!(changed(&again), Vec::<String>::new(), "the next run knows");
        fs::write(again.dir.join("plot.png"), "22").unwrap();
        assert_eq!(changed(&again), ["plot.png"]);
    }
}
