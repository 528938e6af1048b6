//! Hints that a directory has changed. A hint wakes the Source's key, which reads everything anew;
//! what the hint says is not looked at. One that was missed costs an interval, and never truth.
//!
//! The system is asked first (inotify and its like); where it refuses, as with too many watches or
//! on some network file systems, the directory is polled. Hints that come while one is on its way
//! already are one hint, so that an editor which writes a hundred files wakes the key once.
//!
//! **Links on the way.** A path may lead through links to its directory, and a deployment swaps such a
//! link at once. Nothing happens in the directory then, old or new; so the directories in which these
//! links lie are watched, too, for the links alone.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
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
/// How many links a path may lead through; as many as Linux follows.
const MOST_LINKS: usize = 40;

/// The directories that are watched, by the key that each wakes.
pub struct Watches {
    watched: Mutex<HashMap<String, Watched>>,
    wakes: mpsc::UnboundedSender<String>,
}

struct Watched {
    path: PathBuf,
    identity: (u64, u64),
    /// The links that lead there.
    links: Vec<PathBuf>,
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
        let links = links(path);
        let held = {
            let mut watched = self.watched();
            if let Some(held) = watched.get(key)
                && held.path == path
                && held.identity == identity
                && held.links == links
            {
                held.rung.store(false, Ordering::SeqCst);
                return;
            }
            watched.remove(key)
        };
        drop(held);
        let rung = Arc::new(AtomicBool::new(false));
        match watcher(key, path, &links, &rung, &self.wakes) {
            Ok(watcher) => {
                let path = path.to_owned();
                let held = Watched { path, identity, links, rung, _watcher: watcher };
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
    links: &[PathBuf],
    rung: &Arc<AtomicBool>,
    wakes: &mpsc::UnboundedSender<String>,
) -> notify::Result<Box<dyn Watcher + Send>> {
    let ring = || {
        let (key, rung, wakes) = (key.to_owned(), Arc::clone(rung), wakes.clone());
        let (path, links) = (path.to_owned(), links.to_owned());
        move |event: notify::Result<Event>| {
            // An error may mean that events were lost.
            let is_news = |event: &Event| is_news(event) && is_ours(event, &path, &links);
            if event.as_ref().map_or(true, is_news) && !rung.swap(true, Ordering::SeqCst) {
                // Nobody listens any more: the server stops.
                let _ = wakes.send(key.clone());
            }
        }
    };
    // A link may lead anywhere. What counts lies in the directory, and so does a link that is swapped.
    let config = Config::default().with_follow_symlinks(false);
    let asked = RecommendedWatcher::new(ring(), config).and_then(|mut watcher| {
        watch(&mut watcher, key, path, links)?;
        Ok(Box::new(watcher) as Box<dyn Watcher + Send>)
    });
    asked.or_else(|error| {
        let path_shown = path.display();
        tracing::info!(key, path = %path_shown, %error, "the system does not watch it; it is polled");
        let config = config.with_poll_interval(POLL).with_compare_contents(false);
        let mut watcher = PollWatcher::new(ring(), config)?;
        watch(&mut watcher, key, path, links)?;
        Ok(Box::new(watcher) as Box<dyn Watcher + Send>)
    })
}

/// Watches a directory with all below it, and those in which the links lie that lead there.
fn watch(
    watcher: &mut impl Watcher,
    key: &str,
    path: &Path,
    links: &[PathBuf],
) -> notify::Result<()> {
    watcher.watch(path, RecursiveMode::Recursive)?;
    let within = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut parents: Vec<&Path> = links.iter().filter_map(|link| link.parent()).collect();
    parents.sort_unstable();
    parents.dedup();
    // A link that lies in the directory itself is watched with it.
    for parent in parents.into_iter().filter(|parent| !parent.starts_with(&within)) {
        if let Err(error) = watcher.watch(parent, RecursiveMode::NonRecursive) {
            let path = parent.display();
            tracing::info!(key, %path, %error, "a link that is swapped there is seen at intervals");
        }
    }
    Ok(())
}

/// The links that a path leads through, each by its own path, which has no links before its last
/// name; none where it leads nowhere.
fn links(path: &Path) -> Vec<PathBuf> {
    let parts = |path: &Path| -> Vec<OsString> {
        path.components().map(|part| part.as_os_str().to_owned()).collect()
    };
    let Ok(path) = std::path::absolute(path) else { return Vec::new() };
    let mut left: VecDeque<OsString> = parts(&path).into();
    let mut at = PathBuf::new();
    let mut links = Vec::new();
    while let Some(part) = left.pop_front() {
        if Path::new(&part).components().next() == Some(Component::ParentDir) {
            // What stands in `at` has no links, so this is the parent that the system means.
            at.pop();
            continue;
        }
        let next = at.join(&part);
        match fs::read_link(&next) {
            Ok(target) if links.len() < MOST_LINKS => {
                // A target that begins at the root replaces what stands in `at` by itself.
                for part in parts(&target).into_iter().rev() {
                    left.push_front(part);
                }
                links.push(next);
            }
            Ok(_) => return Vec::new(),
            Err(_) => at = next,
        }
    }
    links
}

/// Whether an event is of the directory or of a link that leads there, and not of what else lies
/// beside such a link. One that names no place may mean anything.
fn is_ours(event: &Event, path: &Path, links: &[PathBuf]) -> bool {
    let ours = |at: &PathBuf| at.starts_with(path) || links.contains(at);
    event.paths.is_empty() || event.paths.iter().any(ours)
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

    #[test]
    fn the_links_that_lead_to_a_directory_are_named_in_their_order() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("t1/specs")).unwrap();
        fs::create_dir_all(root.join("ways")).unwrap();
        symlink("../t1", root.join("ways/b")).unwrap();
        symlink(root.join("ways/b"), root.join("cur")).unwrap();
        symlink("round", root.join("round")).unwrap();
        let found = links(&root.join("cur/specs"));
        assert_eq!(found, [root.join("cur"), root.join("ways/b")]);
        assert!(links(&root.join("t1/specs")).is_empty());
        assert!(links(&root.join("round/specs")).is_empty(), "it leads nowhere");
    }

    #[tokio::test]
    async fn a_link_that_is_swapped_wakes_the_key_at_once_and_its_neighbours_wake_nobody() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        for name in ["t1/specs", "t2/specs", "ways"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let swap = |target: &str, link: &str| {
            let new = root.join("ways/new");
            symlink(root.join(target), &new).unwrap();
            fs::rename(&new, root.join(link)).unwrap();
        };
        swap("t1", "ways/b");
        swap("ways/b", "cur");
        for (path, link) in [("cur/specs", "ways/b"), ("cur/specs", "cur"), ("cur", "cur")] {
            let path = root.join(path);
            let (watches, mut heard) = Watches::new();
            watches.follow("specs", &path);
            swap("t2", link);
            assert_eq!(hint(&mut heard).await, "specs", "{link}");
            watches.follow("specs", &path);
            fs::write(root.join("t2/specs/a.yaml"), link).unwrap();
            assert_eq!(hint(&mut heard).await, "specs", "what it leads to now is watched");
            // Hints that were on their way are through once this one is.
            watches.follow("specs", &path);
            while tokio::time::timeout(Duration::from_secs(1), heard.recv()).await.is_ok() {
                watches.follow("specs", &path);
            }
            fs::write(root.join("neighbour"), "of cur").unwrap();
            fs::write(root.join("ways/neighbour"), "of b").unwrap();
            assert!(tokio::time::timeout(Duration::from_secs(1), heard.recv()).await.is_err());
            fs::remove_file(root.join(link)).unwrap();
            assert_eq!(hint(&mut heard).await, "specs", "{link} is gone");
            symlink(root.join("t1"), root.join(link)).unwrap();
        }
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
