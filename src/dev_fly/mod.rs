//! A fake of Fly's Machines API: for people without an account (`open-dispatch dev-fly`) and for
//! tests.
//!
//! It is no mock: it keeps machines, volumes, apps and leases, moves them through Fly's states on
//! the injected clock, and runs each machine as a process tree of this computer, with the same
//! reporter, the same variables and the same exits. What it does not do is isolate: whatever runs
//! in such a machine can do what its user can.
//!
//! Every rule of Fly's that is not plain from the schema is marked in the code: **\[doc\]** Fly's
//! documentation says so, **\[spec\]** its OpenAPI document, **\[src\]** the source of its own
//! clients, **\[obs\]** somebody observed it, **\[inf\]** we infer it. A run against the live
//! service can so correct what is wrong here.
//!
//! The life of a request: `http` reads it and hands it to `world`, which is one state behind one
//! lock and pure: request and time in; answer, effects and new timers out. `host` does the effects
//! (boot, signal, kill) and tells the world how guests ended. `drive` wakes the world when a timer
//! is due. A wait and an exec leave the lock and come back.
//!
//! What goes wrong is set by [`Faults`]: switches that hold until they are set otherwise, and
//! troubles that befall one call.
//!
//! This room knows nobody, so that it cannot agree with our client by a shared mistake. It never
//! speaks to anything but this computer.

pub mod call;
mod config;
mod faults;
mod fields;
mod host;
mod http;
mod shared;
mod truth;
mod world;

pub use call::Action;
pub use config::{
    BootContext, DevFlyConfig, Exit, Guest, GuestFuture, Habits, Image, ImageTrouble, Images,
    Script, StopAsked,
};
pub use faults::{Deed, ErrorShape, LostAnswer, Switches, Trouble};
pub use truth::{BootRecord, CallRecord, Found, Line, MachineTruth, Violation, VolumeTruth};

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use tokio::{sync::broadcast, task::JoinHandle};
use url::Url;

use self::{
    host::{Host, Watcher},
    shared::Shared,
    world::World,
};

/// Why a fake does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("{address} cannot be listened on: {source}; name another address")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The directory cannot be used.
    #[error("{} cannot be used: {source}; name another directory", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another fake lives there.
    #[error("another dev-fly uses {}; end it, or name another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// A fake that runs. Dropped, it stops answering, and its machines are killed.
pub struct DevFly {
    shared: Arc<Shared>,
    address: SocketAddr,
    found: Found,
    tasks: Vec<JoinHandle<()>>,
    watcher: Option<Watcher>,
}

impl DevFly {
    /// Starts a fake. What a fake before it left in the directory is ended and removed, but for
    /// the volumes; see [`DevFly::found`].
    ///
    /// # Errors
    /// An address or directory that cannot be used.
    pub async fn start(config: DevFlyConfig) -> Result<Self, Error> {
        let listened = http::listen(config.listen).await;
        let (listener, address) =
            listened.map_err(|source| Error::Listen { address: config.listen, source })?;
        let instance = config.ambient.ids.uid();
        let (dir, guest) = (config.dir.clone(), config.guest.clone());
        let (host, volumes, found) = Host::open(dir, guest, instance)?;
        let world = World::new(&config, volumes, config.ambient.clock.now());
        let watcher = host.watcher();
        let shared = Shared::new(world, host, config.ambient);
        let tasks = vec![
            tokio::spawn(http::serve(listener, Arc::clone(&shared))),
            tokio::spawn(Arc::clone(&shared).drive()),
        ];
        Ok(Self { shared, address, found, tasks, watcher })
    }

    /// The address, as `FLY_FLAPS_BASE_URL` takes it: without `/v1`.
    #[must_use]
    pub fn url(&self) -> Url {
        let text = format!("http://{}/", self.address);
        // An address with a port always reads as one.
        Url::parse(&text).unwrap_or_else(|_| unreachable!("{text} is a URL"))
    }

    /// A way to ask without a socket, for a test whose clock stands still.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller { shared: Arc::clone(&self.shared) }
    }

    /// What lay in the directory when it started.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// The switches.
    #[must_use]
    pub fn faults(&self) -> Faults<'_> {
        Faults { shared: &self.shared }
    }

    /// The machines that are there now: no lag, no tombstones.
    #[must_use]
    pub fn machines(&self) -> Vec<MachineTruth> {
        self.shared.with(|world, now| {
            world.tick(now);
            world.machines()
        })
    }

    /// The volumes that are there now.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeTruth> {
        self.shared.with(|world, now| {
            world.tick(now);
            world.volumes()
        })
    }

    /// Every boot there was, in order.
    #[must_use]
    pub fn boots(&self) -> Vec<BootRecord> {
        self.shared.look(|world| world.boots.clone())
    }

    /// Every call there was, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<CallRecord> {
        self.shared.look(|world| world.calls.clone())
    }

    /// What requests said that the published schema does not know.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.look(|world| world.violations.clone())
    }

    /// How many guests run this instant.
    #[must_use]
    pub fn guests(&self) -> usize {
        self.shared.host.count()
    }

    /// What happens from now on, a line each.
    #[must_use]
    pub fn lines(&self) -> broadcast::Receiver<Line> {
        self.shared.lines.subscribe()
    }

    /// Waits until something holds of the machines; looks whenever anything changed.
    pub async fn until(&self, holds: impl Fn(&[MachineTruth]) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if holds(&self.shared.look(World::machines)) {
                return;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops answering, kills the machines, and returns when nothing of them is left.
    pub async fn shutdown(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            // It ends as cancelled.
            let _ = task.await;
        }
        self.shared.host.clear().await;
        if let Some(watcher) = self.watcher.take() {
            watcher.end().await;
        }
    }
}

impl Drop for DevFly {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // The watcher's pipe ends with this, and it kills what runs.
    }
}

/// A way to ask a fake without a socket. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    shared: Arc<Shared>,
}

impl Caller {
    /// Makes one call; nothing where the connection would have been dropped.
    pub async fn call(&self, request: hyper::Request<Bytes>) -> Option<hyper::Response<Bytes>> {
        let request = request.map(http_body_util::Full::new);
        http::answer(Arc::clone(&self.shared), request).await.ok()
    }
}

/// The switches of a fake that runs.
pub struct Faults<'a> {
    shared: &'a Arc<Shared>,
}

impl Faults<'_> {
    /// Sets switches, which hold until they are set otherwise.
    pub fn set(&self, set: impl FnOnce(&mut Switches)) {
        self.shared.with(|world, _| set(&mut world.switches));
    }

    /// Changes how long things take.
    pub fn habits(&self, set: impl FnOnce(&mut Habits)) {
        self.shared.with(|world, _| set(&mut world.habits));
    }

    /// Lets a trouble befall the next call of an action; several wait in a queue.
    pub fn once(&self, action: Action, trouble: Trouble) {
        self.shared.with(|world, _| world.once.push(action, trouble));
    }

    /// How many troubles still wait for their call.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.look(|world| world.once.len())
    }

    /// Takes every switch and waiting trouble back.
    pub fn clear(&self) {
        self.shared.with(|world, _| {
            world.switches = Switches::default();
            world.once.clear();
        });
    }

    /// Does to a machine what nobody asked for over the API. False where there is no such
    /// machine, or it is in no state for it.
    #[must_use]
    pub fn meddle(&self, machine: &str, deed: Deed) -> bool {
        self.shared.with(|world, now| world.meddle(machine, deed, now))
    }
}
