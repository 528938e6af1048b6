//! Sprites as processes on this machine.
//!
//! Each sprite has a run directory, named by its uid, and a reporter that looks after it, apart
//! from the server: it was started detached, and outlives us. So this room keeps no state of
//! its own. It looks: the lock says whether a reporter lives, `state.json` which process it is,
//! `exit.json` how the agent ended, `drained` that nothing is left to tell. The essay on
//! [`sprite_reporter::rundir`] says who may believe what.
//!
//! Starting twice is safe: the reporter takes the lock, and one that finds another's
//! `state.json` cleans up instead of starting. Killing is safe: a process is signalled through
//! a handle that was verified by boot id, number and start time, and the tree is found by what
//! only it carries. What cannot be told is [`Observed::Unknown`], and nothing starts in its place.
//!
//! It takes nothing from the air: the environment, the home and all places come as
//! [`LocalConfig`].

pub(super) mod environment;
mod keep;
mod places;
mod removal;
mod reporter;
mod runs;
mod sandbox;
mod shared;
mod variables;
mod workspace;

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
pub use environment::{NAMES, NEVER, PREFIXES, is_secret};
use places::Places;
use reporter::Reporter;
use runs::{Placed, Runs, Seen};
use rustix::process::Signal;
use sprite_reporter::{
    process::{Handle, Tree},
    rundir::{RunDir, State},
    wire::{ExitReason, RunSpec},
};
use tokio::sync::mpsc;

use super::{
    Cleaned, Error, Observed, Runtime,
    spec::{agent_spec, permissions, repo_spec, session, text},
};
use crate::{
    resource::{RuntimeSpec, Sprite},
    secrets::Secrets,
};

/// How long a tree may take to die before its killing counts as failed.
const KILL_WITHIN: Duration = Duration::from_secs(15);
/// How often a reporter is looked at whose end the kernel does not tell.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The search path of an agent where the server has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where things are, and what an agent gets.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// The installation's id, drawn when its store was made.
    pub installation: String,
    /// The data directory, which is hidden from agents where the kernel lets us.
    pub data: PathBuf,
    /// Where run directories are.
    pub runs: PathBuf,
    /// Where clones are that sprites have for themselves.
    pub work: PathBuf,
    /// The file that holds the server's address.
    pub endpoint_file: PathBuf,
    /// The reporter; where none is named, it is looked for beside this program, and else this
    /// program is it.
    pub reporter: Option<PathBuf>,
    /// The most sprites at once.
    pub capacity: usize,
    /// The server's environment, of which an agent gets what the allow-list names.
    pub environment: Vec<(String, String)>,
    /// More names to pass on.
    pub extra_env: Vec<String>,
    /// The installation's secrets, of which an agent gets those that its spec names.
    pub secrets: Option<Secrets>,
    /// The home of the user who runs the server: `~`, and where agents work by default.
    pub home: PathBuf,
}

impl LocalConfig {
    /// The usual places below a data directory, room for sixteen sprites, and an empty
    /// environment.
    #[must_use]
    pub fn new(data: &Path, installation: &str, home: &Path) -> Self {
        Self {
            installation: installation.to_owned(),
            data: data.to_owned(),
            runs: data.join("runs"),
            work: data.join("work"),
            endpoint_file: data.join(sprite_reporter::wire::ENDPOINT_FILE),
            reporter: None,
            capacity: 16,
            environment: Vec::new(),
            extra_env: Vec::new(),
            secrets: None,
            home: home.to_owned(),
        }
    }
}

/// The local runtime.
pub struct LocalRuntime {
    config: LocalConfig,
    runs: Runs,
    reporter: Reporter,
    /// The sprites whose reporter's end somebody waits for.
    watched: Arc<Mutex<HashSet<String>>>,
    /// Held while somebody notes what it is about to use, and while what nobody uses leaves.
    settling: Arc<Mutex<()>>,
    wake: mpsc::UnboundedSender<String>,
    wakes: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
}

impl LocalRuntime {
    /// A runtime with this configuration. It looks at what is there when it is asked.
    #[must_use]
    pub fn new(config: LocalConfig) -> Arc<Self> {
        let (wake, wakes) = mpsc::unbounded_channel();
        Arc::new(Self {
            reporter: Reporter::new(config.reporter.clone()),
            runs: Runs::new(config.runs.clone()),
            config,
            watched: Arc::default(),
            settling: Arc::default(),
            wake,
            wakes: Mutex::new(Some(wakes)),
        })
    }

    fn run_dir(&self, uid: &str) -> Result<RunDir, Error> {
        safe(uid).map(|uid| self.runs.of(uid))
    }

    /// Where a clone may lie that a reporter began and did not finish.
    fn unfinished_clones(&self, sprite: &Sprite) -> Result<Vec<PathBuf>, Error> {
        let uid = &sprite.metadata.uid;
        let own = places::own(&self.config, sprite)?;
        let named = match (&sprite.spec.runtime, &sprite.spec.repo) {
            (RuntimeSpec::Local(local), Some(_)) => {
                // A place that was refused was never cloned to.
                workspace::place(local.workdir.as_deref(), true, &self.config.home, &own).ok()
            }
            _ => None,
        };
        // Beside a clone that worktrees share, too.
        let shared = Some(self.config.work.join(places::REPOS).join("clone"));
        let places = [Some(own), named, shared].into_iter().flatten();
        Ok(places.map(|place| place.with_file_name(format!(".clone-{uid}"))).collect())
    }

    /// Makes the run's directory, whole or not at all. One that is there stays as it is.
    async fn prepare(&self, sprite: &Sprite, token: &str) -> Result<RunDir, Error> {
        let uid = safe(&sprite.metadata.uid)?.to_owned();
        let (runs, run) = (self.runs.clone(), sprite.spec.run);
        // What is there was made whole, and stays as it was made.
        let spec = if runs.has(&uid, run) {
            None
        } else {
            let places = places::places(&self.config, sprite)?;
            Some((self.run_spec(sprite, &places)?, places))
        };
        let settling = self.settling.clone();
        // It waits for the disk, which is not for the server's workers.
        let placed = tokio::task::spawn_blocking(move || match spec {
            None => runs.discard(&uid).map(|()| Placed::Here(runs.of(&uid))),
            Some((spec, places)) => {
                {
                    let _held = settling.lock().unwrap_or_else(PoisonError::into_inner);
                    places.make()?;
                }
                runs.place(&uid, &spec)
            }
        })
        .await;
        match placed.map_err(io::Error::other).and_then(|placed| placed) {
            Ok(Placed::Here(dir)) => Ok(dir),
            Ok(Placed::Undrained(dir, earlier)) => {
                self.reporter.launch(dir.path(), token).await?;
                Err(Error::Transient(format!("its run {earlier} has more to tell")))
            }
            Ok(Placed::Not(why)) => Err(Error::Transient(why)),
            Err(error) => Err(Error::Transient(format!(
                "cannot make {}: {error}",
                self.runs.of(&sprite.metadata.uid).path().display()
            ))),
        }
    }

    /// What the reporter is to do, from what the sprite is to be.
    fn run_spec(&self, sprite: &Sprite, places: &Places) -> Result<RunSpec, Error> {
        let uid = &sprite.metadata.uid;
        let spec = &sprite.spec;
        Ok(RunSpec {
            job_id: uid.clone(),
            run: spec.run,
            installation: self.config.installation.clone(),
            server: None,
            endpoint_file: Some(text(&self.config.endpoint_file)?),
            agent: agent_spec(&spec.agent, spec.instructions.as_deref()),
            task: spec.task.clone(),
            workdir: text(&places.workdir)?,
            repo: spec
                .repo
                .as_ref()
                .map(|repo| repo_spec(repo, Some(&self.config.home)))
                .transpose()?,
            permissions: permissions(&spec.permissions),
            env: self.variables(&spec.env, places)?,
            timeout_ms: spec.timeout.map(|span| span.as_millis()),
            idle_timeout_ms: spec.idle_timeout.map(|span| span.as_millis()),
            session: session(sprite),
            hide: vec![text(&self.config.data)?],
            worktree: places.worktree.clone(),
            sandbox: places.sandbox.clone(),
            attachments: Some(text(&places.attachments)?),
            artifacts: Some(text(&places.artifacts)?),
        })
    }

    /// The processes of the reporters that live, whatever a store knows of them.
    ///
    /// # Errors
    /// What the file system says.
    pub fn reporters(&self) -> io::Result<Vec<u32>> {
        self.runs.reporters()
    }

    /// Waits, once per sprite, for its reporter's end, and wakes whoever looks after sprites.
    fn watch(&self, uid: &str, state: &State) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.insert(uid.to_owned()) {
            return;
        }
        drop(watched);
        let (uid, state) = (uid.to_owned(), state.clone());
        let (watched, wake) = (self.watched.clone(), self.wake.clone());
        tokio::spawn(async move {
            let ended = async {
                match Handle::open(&state.process)? {
                    Some(handle) => handle.ended().await,
                    None => Ok(()),
                }
            };
            if ended.await.is_err() {
                // The kernel does not tell, for want of descriptors or of the call: whoever is
                // woken looks, but not without pause.
                sprite_reporter::ambient::sleep(LOOK_AGAIN).await;
            }
            watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
            // Nobody listens any more when the server goes down.
            let _ = wake.send(uid);
        });
    }

    fn look(&self, uid: &str, run: u32) -> io::Result<Observed> {
        let (observed, state) = match self.runs.look(uid, run)? {
            Seen::This(observed, state) => (observed, state),
            Seen::Earlier(earlier, state) => {
                (Observed::Unknown { why: format!("its run {earlier} still lives") }, state)
            }
            Seen::Later(later) => {
                let why = format!("run {run} was asked for, and run {later} of it is there");
                (Observed::Unknown { why }, None)
            }
        };
        if let Some(state) = &state
            && matches!(observed, Observed::Running { .. } | Observed::Unknown { .. })
        {
            self.watch(uid, state);
        }
        Ok(observed)
    }
}

#[async_trait]
impl Runtime for LocalRuntime {
    fn name(&self) -> &'static str {
        "local"
    }

    fn capacity(&self) -> usize {
        self.config.capacity
    }

    async fn observe(&self, sprite: &Sprite) -> Result<Observed, Error> {
        let uid = safe(&sprite.metadata.uid)?;
        let observed = self.look(uid, sprite.spec.run);
        Ok(observed.unwrap_or_else(|error| Observed::Unknown { why: error.to_string() }))
    }

    async fn start(&self, sprite: &Sprite, token: &str) -> Result<(), Error> {
        let run = match self.prepare(sprite, token).await {
            Err(Error::SecretMissing(why)) => {
                self.wait_for_secret(&sprite.metadata.uid);
                return Err(Error::SecretMissing(why));
            }
            run => run?,
        };
        let begun = run.state().map_err(|error| Error::Transient(error.to_string()))?.is_some();
        if begun {
            return Ok(());
        }
        self.reporter.launch(run.path(), token).await
    }

    async fn recover(&self, sprite: &Sprite, token: &str) -> Result<(), Error> {
        let run = self.run_dir(&sprite.metadata.uid)?;
        let begun = run.state().map_err(|error| Error::Transient(error.to_string()))?.is_some();
        if !begun || run.drained() {
            return Ok(());
        }
        self.reporter.launch(run.path(), token).await
    }

    async fn kill(&self, sprite: &Sprite) -> Result<(), Error> {
        let transient = |error: io::Error| Error::Transient(error.to_string());
        let run = self.run_dir(&sprite.metadata.uid)?;
        let state = run.state().map_err(transient)?;
        if let Some(state) = &state
            && let Some(reporter) = Handle::open(&state.process).map_err(transient)?
        {
            let asked =
                if sprite.spec.running { ExitReason::Cancelled } else { ExitReason::Asleep };
            let reason = sprite.spec.stop.unwrap_or(asked);
            run.write_stop(reason).map_err(transient)?;
            reporter.signal(Signal::TERM).map_err(transient)?;
        }
        let tree = Tree::left_behind(&sprite.metadata.uid, state.and_then(|state| state.cgroup));
        empty(tree).await
    }

    async fn clean(&self, sprite: &Sprite) -> Result<Cleaned, Error> {
        let uid = &sprite.metadata.uid;
        let run = self.run_dir(uid)?;
        let transient = |error: io::Error| Error::Transient(error.to_string());
        // Held until the directory has left its place: no reporter begins in between.
        let _lock = match run.lock() {
            Ok(Some(lock)) => Some(lock),
            Ok(None) => return Err(Error::Transient("its reporter still lives".into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(transient(error)),
        };
        for unfinished in self.unfinished_clones(sprite)? {
            removal::remove_hidden(&unfinished).await.map_err(transient)?;
        }
        let cleaned = self.clean_places(sprite).await?;
        // What the clone's own filters may have left running when git was asked.
        empty(Tree::left_behind(uid, None)).await?;
        self.runs.discard(uid).map_err(transient)?;
        removal::remove(run.path()).await.map_err(transient)?;
        Ok(cleaned)
    }

    async fn keeps(&self) -> Result<Vec<String>, Error> {
        let work = self.config.work.clone();
        shared::apart(move || keep::kept(&work)).await
    }

    async fn discard(&self, owner_uid: &str) -> Result<Cleaned, Error> {
        self.discard_places(owner_uid).await
    }

    async fn sweep(&self) -> Result<(), Error> {
        self.sweep_shared().await
    }

    fn wakes(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A name that stays inside the directory that it is joined to.
fn safe(name: &str) -> Result<&str, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain) {
        Ok(name)
    } else {
        Err(Error::Terminal(format!("{name:?} cannot name a file")))
    }
}

/// Kills a tree until nobody is left.
async fn empty(tree: Tree) -> Result<(), Error> {
    // Each round reads the table of all processes, which is not for the server's workers.
    let server = tokio::runtime::Handle::current();
    let kill = move || {
        server.block_on(async {
            match tokio::time::timeout(KILL_WITHIN, tree.kill(|_| {})).await {
                Ok(killed) => killed.map(|_| Vec::new()),
                Err(_) => tree.members(),
            }
        })
    };
    let killed = tokio::task::spawn_blocking(kill).await.map_err(io::Error::other);
    let left =
        killed.and_then(|killed| killed).map_err(|error| Error::Transient(error.to_string()))?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(Error::Transient(format!("these processes do not die: {left:?}")))
    }
}
