//! What a fake is told when it starts: where it lives, what its machines run, how fast it is.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::Value;
use tokio::sync::watch;

use crate::ambient::Ambient;

/// All that a fake is told.
#[derive(Clone)]
pub struct DevFlyConfig {
    /// Where machines' roots, volumes' data and logs lie. One fake at a time.
    pub dir: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The app that is there from the start.
    pub app: String,
    /// The token that it takes, in any of the forms that Fly prints.
    pub token: SecretString,
    /// The organization of the token (`org_slug`).
    pub org: String,
    /// What machines run.
    pub guest: Guest,
    /// Which images exist, and what is in them.
    pub images: Images,
    /// How long things take, and what is allowed.
    pub habits: Habits,
    /// Clock, ids and chance.
    pub ambient: Ambient,
}

impl DevFlyConfig {
    /// A fake on a free port of this computer with the app `sprites`, where every image exists
    /// and things take the default times.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, guest: Guest) -> Self {
        Self {
            dir: dir.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            app: "sprites".into(),
            token: SecretString::from("FlyV1 fm2_dev_fly"),
            org: "personal".into(),
            guest,
            images: Images::default(),
            habits: Habits::default(),
            ambient: Ambient::real(),
        }
    }
}

/// What a machine runs.
#[derive(Clone)]
pub enum Guest {
    /// A process tree of this computer; `reporter` stands for `sprite-reporter`, the entry point
    /// of images that say nothing else.
    Processes {
        /// The program to start in place of `sprite-reporter`.
        reporter: PathBuf,
    },
    /// A future of the test, which ends with the machine's exit.
    Scripted(Script),
}

/// Makes the future that plays a machine's boot.
pub type Script = Arc<dyn Fn(BootContext) -> GuestFuture + Send + Sync>;
/// A boot that is played: it ends with the exit of the machine's first process.
pub type GuestFuture = BoxFuture<'static, Exit>;

/// What a scripted guest is told when its machine boots.
#[derive(Clone)]
pub struct BootContext {
    /// The machine's id.
    pub machine: String,
    /// Its name.
    pub name: String,
    /// Which boot of this machine it is, from 1.
    pub boot: u32,
    /// Its environment: image, config and `FLY_*`.
    pub env: BTreeMap<String, String>,
    /// Its whole config, as Fly would show it.
    pub config: Value,
    /// Its root directory.
    pub root: PathBuf,
    /// Told when the machine shall stop.
    pub stop: StopAsked,
}

/// Tells a scripted guest that its machine shall stop. A guest that does not end in time is
/// dropped, as the process of a machine is killed.
#[derive(Clone)]
pub struct StopAsked(pub(super) watch::Receiver<Option<i32>>);

impl StopAsked {
    /// Waits until somebody asks, and gives the number of the signal.
    pub async fn asked(&mut self) -> i32 {
        // The borrow must not live into the wait below.
        let signal = self.0.wait_for(Option::is_some).await.map(|signal| *signal).ok();
        match signal.flatten() {
            Some(signal) => signal,
            // The machine is gone, and this future with it.
            None => std::future::pending().await,
        }
    }
}

/// How a machine's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exit {
    /// Its exit code; 128 and the signal where a signal ended it, as Fly's init says.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed it for want of memory.
    pub oom: bool,
}

impl Exit {
    /// An exit with a code.
    #[must_use]
    pub const fn code(code: i32) -> Self {
        Self { code, signal: None, oom: false }
    }

    /// An end by a signal.
    #[must_use]
    pub const fn signal(signal: i32) -> Self {
        Self { code: 128 + signal, signal: Some(signal), oom: false }
    }

    /// Killed for want of memory.
    #[must_use]
    pub const fn oom() -> Self {
        Self { code: 137, signal: Some(9), oom: true }
    }
}

/// The images that exist.
#[derive(Debug, Clone)]
pub struct Images {
    /// Images by name, as requests say it.
    pub known: BTreeMap<String, Image>,
    /// What every other name stands for; nothing: it does not exist.
    pub others: Option<Image>,
}

impl Default for Images {
    fn default() -> Self {
        Self { known: BTreeMap::new(), others: Some(Image::default()) }
    }
}

impl Images {
    /// What a name stands for.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Image> {
        self.known.get(name).or(self.others.as_ref())
    }
}

/// What is in an image.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Its environment, above `PATH` and `HOME` of this computer.
    pub env: BTreeMap<String, String>,
    /// Its entry point; the reporter where it is empty.
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    pub cmd: Vec<String>,
    /// How long a host pulls it, where it is another time than [`Habits::pull`].
    pub pull: Option<Duration>,
    /// What is wrong with it.
    pub trouble: Option<ImageTrouble>,
}

/// What can be wrong with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageTrouble {
    /// Its manifest cannot be read (unknown, or private): create is refused.
    Refused,
    /// It is found to be broken by the host, after create has been answered: `launch_failed`,
    /// then `destroyed`.
    FailsToLaunch,
}

/// How long things take and what is allowed. The times are by the injected clock.
#[derive(Debug, Clone)]
pub struct Habits {
    /// How long a new machine stays `created` while its image is pulled. Seen: 6 to 70 s.
    pub pull: Duration,
    /// How long it stays `starting`.
    pub boot: Duration,
    /// How long it stays `stopping` after its first process ended.
    pub settle: Duration,
    /// How long a machine that shows `stopped` still refuses to start.
    pub still_active: Duration,
    /// How long it stays `destroying` after its processes are gone.
    pub destroy: Duration,
    /// How long a machine that is destroyed can still be read.
    pub tombstone: Duration,
    /// How long it stays `replacing` at an update, beside the stop and the boot.
    pub replace: Duration,
    /// How long a volume stays claimed after its machine was destroyed. Seen: up to minutes.
    pub claim_lag: Duration,
    /// How long a new app answers 404.
    pub app_lag: Duration,
    /// How long an exec may take before it is answered with 408. Seen: about 30 s.
    pub exec_limit: Duration,
    /// Hosts in each region.
    pub hosts: usize,
    /// Machines that may run on a host; as many as there are where it is none.
    pub slots: Option<usize>,
}

impl Default for Habits {
    /// Quick, with every wait there: for tests by the real clock.
    fn default() -> Self {
        Self {
            pull: Duration::from_millis(200),
            boot: Duration::from_millis(50),
            settle: Duration::from_millis(50),
            still_active: Duration::from_millis(50),
            destroy: Duration::from_millis(100),
            tombstone: Duration::from_secs(30),
            replace: Duration::from_millis(100),
            claim_lag: Duration::from_millis(300),
            app_lag: Duration::from_millis(200),
            exec_limit: Duration::from_secs(30),
            hosts: 2,
            slots: None,
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processes { reporter } => write!(f, "Processes({})", reporter.display()),
            Self::Scripted(_) => f.write_str("Scripted"),
        }
    }
}
