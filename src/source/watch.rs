//! Hints that a directory has changed. A hint wakes the Source's key, which reads everything anew;
//! what the hint says is not looked at. One that was missed costs an interval, and never truth.
//!
//! The system is asked first (inotify and its like); where it refuses, as with too many watches or
//! on some network file systems, the directory is polled. Hints that come while one is on its way
//! already are one hint, so that an editor which writes a hundred files wakes the key once.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use notify::{
    Config, Event, EventKind, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;

use super::directory::identity;

/// How often a directory is looked at that the system does not watch.
const POLL: Duration = Duration::from_secs(2);

/// The directories that are watched, by the key that each wakes.
pub struct Watches {
    watched: Mutex<HashMap<String, Watched>>,
    wakes: mpsc::UnboundedSender<String>,
}

struct Watched {
    path: PathBuf,
    identity: (u64, u64),
    rung: Arc<AtomicBool>,
    /// Kept for what it does.
    _watcher: Box<dyn Watcher + Send>,
}

impl Watches {
    /// No watches yet, and where their hints come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (wakes, heard) = mpsc::unbounded_channel();
        (Self { watched: Mutex::default(), wakes }, heard)
    }

    /// Watches a directory for a key from now on, in place of what was watched for it. To be called
    /// before each read: hints that come from here on are for the next one. It blocks; those of other
    /// keys do not wait for it.
    pub fn follow(&self, key: &str, path: &Path) {
        let Some(identity) = identity(path) else { return self.forget(key) };
        let held = {
            let mut watched = self.watched();
            if let Some(held) = watched.get(key)
                && held.path == path
                && held.identity == identity
            {
                held.rung.store(false, Ordering::SeqCst);
                return;
            }
            watched.remove(key)
        };
        drop(held);
        let rung = Arc::new(AtomicBool::new(false));
        match watcher(key, path, &rung, &self.wakes) {
            Ok(watcher) => {
                let held = Watched { path: path.to_owned(), identity, rung, _watcher: watcher };
                let before = self.watched().insert(key.to_owned(), held);
                drop(before);
            }
            Err(error) => {
                let path = path.display();
                tracing::warn!(key, %path, %error, "cannot be watched; it is read at intervals");
            }
        }
    }

    /// Watches nothing more for a key.
    pub fn forget(&self, key: &str) {
        let held = self.watched().remove(key);
        drop(held);
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<String, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn watcher(
    key: &str,
    path: &Path,
    rung: &Arc<AtomicBool>,
    wakes: &mpsc::UnboundedSender<String>,
) -> notify::Result<Box<dyn Watcher + Send>> {
    let ring = || {
        let (key, rung, wakes) = (key.to_owned(), Arc::clone(rung), wakes.clone());
        move |event: notify::Result<Event>| {
            // An error may mean that events were lost.
            if event.as_ref().map_or(true, is_news) && !rung.swap(true, Ordering::SeqCst) {
                // Nobody listens any more: the server stops.
                let _ = wakes.send(key.clone());
            }
        }
    };
    // A link may lead anywhere. What counts lies in the directory, and so does a link that is swapped.
    let config = Config::default().with_follow_symlinks(false);
    let asked = RecommendedWatcher::new(ring(), config).and_then(|mut watcher| {
        watcher.watch(path, RecursiveMode::Recursive)?;
        Ok(Box::new(watcher) as Box<dyn Watcher + Send>)
    });
    asked.or_else(|error| {
        let path_shown = path.display();
        tracing::info!(key, path = %path_shown, %error, "the system does not watch it; it is polled");
        let config = config.with_poll_interval(POLL).with_compare_contents(false);
        let mut watcher = PollWatcher::new(ring(), config)?;
        watcher.watch(path, RecursiveMode::Recursive)?;
        Ok(Box::new(watcher) as Box<dyn Watcher + Send>)
    })
}

/// Whether an event may mean a change. That a file was opened or read is what we do ourselves.
fn is_news(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn hint(heard: &mut mpsc::UnboundedReceiver<String>) -> String {
        tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn what_a_link_leads_to_is_not_watched() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), dir.path().join("out")).unwrap();
        let (watches, mut heard) = Watches::new();
        watches.follow("specs", dir.path());
        fs::write(outside.path().join("log"), "a line").unwrap();
        // Events come in their order: had the first rung, this would come before it.
        assert!(tokio::time::timeout(Duration::from_secs(1), heard.recv()).await.is_err());
        fs::write(dir.path().join("a.yaml"), "a").unwrap();
        assert_eq!(hint(&mut heard).await, "specs");
    }

    #[tokio::test]
    async fn a_change_wakes_the_key_once_and_reading_wakes_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (watches, mut heard) = Watches::new();
        watches.follow("specs", dir.path());
        fs::write(dir.path().join("a.yaml"), "a").unwrap();
        fs::write(dir.path().join("b.yaml"), "b").unwrap();
        assert_eq!(hint(&mut heard).await, "specs");
        // Nothing is rung before somebody has looked; what was written meanwhile may ring once more.
        watches.follow("specs", dir.path());
        let read = || drop(super::super::directory::read(dir.path()).unwrap());
        read();
        fs::create_dir(dir.path().join("last")).unwrap();
        hint(&mut heard).await;
        read();
        assert!(heard.try_recv().is_err(), "a second hint before anybody looked");
    }

    #[tokio::test]
    async fn a_directory_that_comes_again_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let specs = dir.path().join("specs");
        fs::create_dir(&specs).unwrap();
        let (watches, mut heard) = Watches::new();
        watches.follow("specs", &specs);
        fs::remove_dir(&specs).unwrap();
        hint(&mut heard).await;
        watches.follow("specs", &specs);
        fs::create_dir(&specs).unwrap();
        watches.follow("specs", &specs);
        fs::write(specs.join("a.yaml"), "a").unwrap();
        hint(&mut heard).await;
        watches.forget("specs");
        assert!(watches.watched.lock().unwrap().is_empty());
    }
}
