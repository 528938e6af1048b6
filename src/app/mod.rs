//! Where the rooms meet: the server as a whole.
//!
//! Every other room gets what it needs handed in; this one does the handing. The order is the
//! point:
//!
//! 1. the data directory, whose lock says that no other server uses it;
//! 2. the listening socket, so that a port in use is told before anything is touched;
//! 3. the store, the tokens, the engine's controllers, the chat;
//! 4. the HTTP server, and only then the file that tells sprites and clients where it is;
//! 5. the engine, which from here on acts.
//!
//! It goes down the other way round. Sprites are not asked: they run on, keep what the agents
//! print, and the next server takes them over.

pub mod backup;
mod damp;
mod directories;
mod ears;
mod fly;
mod key;
mod logging;
mod specs;
mod sweep;

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use logging::LogTo;
use secrecy::ExposeSecret;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    ambient::Ambient,
    chat::{Commands, ConsoleHub, Outbox, Settings, console, platform::Platform},
    config::{Chat, Config},
    metrics::Metrics,
    reconcile::{
        Engine, EngineHandle, Wake,
        controllers::{
            AdmissionController, AgentController, FleetController, JobController,
            KeepsakeController, ScheduleController, SpriteController, SweepController, Tokens,
        },
    },
    resource::{Defaults, Kind, leaks::Beginning, resolve},
    runtime::{
        Runtime,
        fly::{FlyRuntime, leaks::Patience},
        local::{LocalConfig, LocalRuntime},
    },
    secrets::Secrets,
    server::{self, tls::Tls},
    source::{
        self, SourceController,
        git::Git,
        over::{FileController, OverrideController, pen::SourcePen},
    },
    store::{Principal, Store, data::DataDir, files::Files, sqlite::SqliteStore},
    token::{self, SpriteTokens},
};

/// How often old history is dropped from the store.
const COMPACT_EVERY: Duration = Duration::from_secs(60);
/// How often files that nobody names are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long the engine may take to end what it is at.
const STOP_ENGINE_WITHIN: Duration = Duration::from_secs(20);

/// A data directory that is ours, before anything runs on it.
pub struct House {
    config: Config,
    data: DataDir,
    /// The store's own directory, where it is another one: it must be ours too.
    store: Option<DataDir>,
}

/// A server that runs.
pub struct Running {
    address: SocketAddr,
    token: String,
    endpoint: PathBuf,
    store: Arc<dyn Store>,
    engine: EngineHandle,
    state: server::State,
    hub: Option<Arc<ConsoleHub>>,
    stop: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
    /// Whether `serving` has ended and was asked how.
    failed: bool,
    compacting: JoinHandle<()>,
    sweeping: JoinHandle<()>,
    counting: JoinHandle<()>,
    /// Who looks at machines.
    looking: JoinSet<()>,
    /// Who listens on chat platforms.
    hearing: JoinSet<()>,
    /// Ends their listening.
    deaf: CancellationToken,
    ambient: Ambient,
    _house: House,
}

/// What a server left behind when it stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Whose sprites run on, such as `agent api-bot` and `job nightly`.
    pub names: Vec<String>,
}

/// Why a server cannot be brought up, or went down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory or the store cannot be used.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The tokens cannot be used.
    #[error(transparent)]
    Token(#[from] token::Error),
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] server::tls::Error),
    /// The environment names an agent or a place that cannot be.
    #[error(transparent)]
    Resolve(#[from] resolve::Error),
    /// Sprites live that were started with another key.
    #[error(transparent)]
    OtherKey(#[from] key::OtherKey),
    /// Fly Machines that cannot be had as the configuration says.
    #[error("{0}")]
    Machines(String),
    /// A chat platform that cannot be served as the configuration says.
    #[error("{0}")]
    Chat(String),
    /// The configuration names an admin who is nobody.
    #[error("{place}: {fault}")]
    Admin {
        /// The variable or key.
        place: String,
        /// What is wrong.
        fault: String,
    },
    /// The engine cannot read what it is to begin with.
    #[error("the engine cannot start: {0}")]
    Engine(#[from] crate::reconcile::Error),
    /// Somebody listens there already.
    #[error(
        "{address} is in use by another program; stop it, or listen elsewhere, such as \
         --listen {}",
        next_port(*address)
    )]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A file of the data directory.
    #[error("cannot write {}: {source}{}", path.display(), mend(source))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The log's filter cannot be read.
    #[error("{place} is `{filter}`, which is no log filter: {why}; write a level, such as info")]
    LogFilter {
        /// Where the filter came from.
        place: String,
        /// The filter.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// The listener failed.
    #[error("the HTTP server failed: {0}")]
    Serving(String),
}

fn next_port(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port().checked_add(1).unwrap_or_default())
}

impl House {
    /// Takes the data directory, and the store's if that is another one.
    ///
    /// # Errors
    /// Another process holds one of them, or it cannot be used.
    pub fn open(config: Config) -> Result<Self, Error> {
        let data = DataDir::open(&config.data.value)?;
        let store = match &config.store.value {
            Some(path) if fs::canonicalize(path).ok().as_deref() != Some(data.root()) => {
                Some(DataDir::open(path)?)
            }
            _ => None,
        };
        Ok(Self { config, data, store })
    }

    /// The file that the log goes to while a person uses the terminal.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.data.root().join("server.log")
    }

    /// Lets the log go somewhere. Once in a process; later calls change nothing.
    ///
    /// # Errors
    /// A filter that cannot be read, or a file that cannot be written.
    pub fn log(&self, to: LogTo) -> Result<(), Error> {
        logging::start(&self.config, to, &self.log_file())
    }

    /// Brings the server up.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn start(self, ambient: Ambient) -> Result<Running, Error> {
        let defaults = defaults(&self.config)?;
        let admins = admins(&self.config)?;
        let (listener, address) = listen(self.config.listen.value).await?;
        let config = &self.config;
        let root = self.store.as_ref().map_or(self.data.root(), DataDir::root);
        let store: Arc<dyn Store> = SqliteStore::open(root, ambient.clone()).await?;
        let revision = store.revision().await?;
        let secret = config.token_secret.value.as_ref().map(ExposeSecret::expose_secret);
        let tokens = SpriteTokens::load(secret, &self.data.key_file())?;
        let token = token::secret_file(&self.data.token_file())?;

        let secrets = Secrets::new(self.data.secrets_dir(), config.environment.clone());
        let local = local_config(config, &self.data, store.installation(), secrets.clone());
        let local = LocalRuntime::new(local);
        key::check(&tokens, secret.is_some(), &self.data, || local.reporters())?;
        let machines = fly::runtime(config, &store, &secrets, &ambient).map_err(Error::Machines)?;
        let mut runtimes: Vec<Arc<dyn Runtime>> = vec![local];
        runtimes.extend(machines.iter().map(|fly| Arc::clone(fly) as Arc<dyn Runtime>));
        let metrics = Metrics::new();
        let extras = server::Extras {
            defaults: Some(Arc::new(defaults.clone())),
            metrics: metrics.clone(),
            secrets: Some(secrets.clone()),
            admins: admins.clone(),
            claims: machines.iter().map(|fly| claims(Arc::clone(fly))).next(),
        };
        let state = server::State::with(
            store.clone(),
            ambient.clone(),
            tokens.clone(),
            token.clone(),
            extras,
        );

        let files = Files::open(self.data.files_dir())
            .map_err(|error| crate::store::Error::Unavailable(error.to_string()))?;
        let files = Arc::new(files);
        state.keep_files(Arc::clone(&files));
        let names = &config.tls_names.value;
        state.keep_tls(Tls::open(&self.data.tls_dir(), names, ambient.clock.clone())?);
        let ears = ears::ears(config, &store, &files, &state, &ambient).map_err(Error::Chat)?;

        let hub = config
            .chat
            .value
            .contains(&Chat::Console)
            .then(|| ConsoleHub::new(store.clone(), ambient.clock.clone()));
        let console = hub.iter().map(|hub| Arc::clone(hub) as Arc<dyn Platform>);
        let platforms = console.chain(ears.iter().map(|ear| Arc::clone(ear).platform())).collect();
        let settings = Settings { defaults: defaults.clone(), admins };
        let commands = Commands::new(store.clone(), ambient.clone(), settings);
        let commands = Arc::new(commands.with_files(Arc::clone(&files)));
        let routes = hub.as_ref().map_or_else(axum::Router::new, |hub| {
            console::router(Arc::clone(hub), Arc::clone(&commands), Some(Arc::clone(&files)))
        });

        let mut engine = Engine::new(store.clone(), ambient.clone()).with_metrics(metrics.clone());
        let (shop, air) = (|| store.clone(), || ambient.clone());
        let derive: Tokens = Arc::new(move |uid: &str| tokens.derive(uid));
        engine.add(Arc::new(JobController::new(shop(), air())));
        engine.add(Arc::new(AgentController::new(shop(), air())));
        let git =
            source::git::Settings::from_environment(self.data.sources_dir(), &config.environment);
        let git = Git::new(git, secrets, air());
        let usual = defaults.clone();
        let directories = Arc::new(directories::Applied { store: shop(), git: git.clone() });
        engine.add(Arc::new(FleetController::new(shop(), air(), usual, directories)));
        engine.add(Arc::new(ScheduleController::new(shop(), air(), defaults.clone())));
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let specs = specs_of(config, &here);
        let pen = Arc::new(SourcePen::new(&here, git.clone()));
        engine.add(Arc::new(OverrideController::new(shop(), air(), defaults.clone())));
        engine.add(Arc::new(FileController::new(shop(), air(), defaults.clone(), pen)));
        let usual = Arc::new(defaults.clone());
        let sources = SourceController::new(shop(), air(), usual, here);
        engine.add(Arc::new(sources.with_watches().with_git(git)));
        for runtime in &runtimes {
            let (runtime, derive) = (Arc::clone(runtime), Arc::clone(&derive));
            engine.add(Arc::new(SpriteController::new(shop(), air(), runtime, derive)));
        }
        engine.add(Arc::new(KeepsakeController::new(shop(), air(), runtimes.clone())));
        let sweeper = machines.as_ref().map(|fly| {
            // Nobody has written since the store was opened.
            let born = Beginning { revision, at: ambient.clock.now() };
            let (fly, restored) = (Arc::clone(fly), backup::restored(root));
            SweepController::new(shop(), air(), fly, Patience::default(), born, restored)
        });
        let tidings = sweeper.as_ref().map(SweepController::tidings);
        if let Some(sweeper) = sweeper {
            engine.add(Arc::new(sweeper));
        }
        engine.add(Arc::new(AdmissionController::new(shop(), air(), runtimes)));
        let outbox = Outbox::new(shop(), air(), platforms).with_files(Arc::clone(&files));
        engine.add(Arc::new(outbox));

        state.readiness().down("engine", "the server starts");
        let stop = CancellationToken::new();
        let deaf = stop.child_token();
        let serving = tokio::spawn(server::serve(
            listener,
            server::router_with(state.clone(), routes),
            state.clone(),
            server::Limits::default(),
            stop.clone().cancelled_owned(),
        ));
        let endpoint = self.data.endpoint_file();
        write_endpoint(&endpoint, address)?;
        specs.keep(&store, &ambient).await?;
        let engine = engine.start().await?;
        if let Some(hub) = &hub {
            let waker = engine.waker();
            hub.on_attach(move |delivery| waker.wake("delivery", delivery, Wake::Observation));
        }
        let mut looking = machines.map(|fly| fly::watch(fly, state.clone())).unwrap_or_default();
        if let Some(tidings) = tidings {
            looking.spawn(fly::tell(tidings, state.clone()));
        }
        looking.spawn(specs.wait(store.clone(), ambient.clone()));
        let hearing = ears::listen(&ears, &commands, &state, &ambient, &deaf);
        state.readiness().up("engine");
        let compacting = tokio::spawn(compact(store.clone(), ambient.clone()));
        let sweeping = tokio::spawn(sweep(store.clone(), files, ambient.clone()));
        let counting = tokio::spawn(server::count_turns(store.clone(), metrics));
        tracing::info!(%address, data = %self.data.root().display(), "the server is up");
        Ok(Running {
            address,
            token,
            endpoint,
            store,
            engine,
            state,
            hub,
            stop,
            serving,
            failed: false,
            compacting,
            sweeping,
            counting,
            looking,
            hearing,
            deaf,
            ambient,
            _house: self,
        })
    }
}

impl Running {
    /// Where the server can be reached from this machine.
    #[must_use]
    pub fn url(&self) -> Url {
        url_of(self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token that opens the API.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The store, for whoever looks at the server from inside its process.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Waits until the listener fails, which it does not in a long life.
    pub async fn failed(&mut self) -> Error {
        let ended = (&mut self.serving).await;
        self.failed = true;
        match ended {
            Ok(Ok(())) => Error::Serving("it ended".to_owned()),
            Ok(Err(error)) => Error::Serving(error.to_string()),
            Err(error) => Error::Serving(error.to_string()),
        }
    }

    /// Stops the server: no new work, the engine ends what it is at, streams end. Sprites run
    /// on.
    pub async fn stop(mut self) -> Stopped {
        self.state.readiness().down("engine", "the server stops");
        self.compacting.abort();
        self.sweeping.abort();
        self.counting.abort();
        self.looking.abort_all();
        self.deaf.cancel();
        ears::hush(self.hearing, &self.ambient).await;
        tokio::select! {
            () = self.engine.stop() => {}
            () = self.ambient.clock.sleep(STOP_ENGINE_WITHIN) => {
                tracing::warn!("the engine did not end in time; the next start goes on from there");
            }
        }
        let names = living(&self.store).await;
        if let Some(hub) = &self.hub {
            hub.close();
        }
        self.stop.cancel();
        // One that failed was asked already, and cannot be asked again.
        if !self.failed
            && let Ok(Err(error)) = self.serving.await
        {
            tracing::warn!(%error, "the HTTP server ended badly");
        }
        // A client that finds no address says at once that no server runs.
        let _ = fs::remove_file(&self.endpoint);
        tracing::info!(?names, "the server has stopped");
        Stopped { names }
    }
}

/// The directories that are to be kept up.
fn specs_of(config: &Config, here: &Path) -> specs::Specs {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let whole = |path: &PathBuf| here.join(resolve::below_home(path, &home));
    let said = &config.specs;
    let optional = said.source == crate::config::Source::Default;
    specs::Specs { directories: said.value.iter().map(whole).collect(), optional }
}

/// The admins that the configuration names.
fn admins(config: &Config) -> Result<Vec<Principal>, Error> {
    let read = |text: &String| {
        let fault = match text.parse::<Principal>() {
            Ok(principal) if !principal.is_channel => return Ok(principal),
            Ok(_) => format!(
                "`{text}` is a channel; name people, and give a channel its role with open-dispatch access grant"
            ),
            Err(error) => error.to_string(),
        };
        Err(Error::Admin { place: config.admins.source.to_string(), fault })
    };
    config.admins.value.iter().map(read).collect()
}

/// What holds where a spec is silent.
fn defaults(config: &Config) -> Result<Defaults, Error> {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let variable = |name: &str| match name {
        "SPRITE_AGENT_TYPE" => config.agent.value.clone(),
        "OPENCODE_MODEL" => config.opencode_model.value.clone(),
        // A list in the file is none in a variable.
        "OPEN_DISPATCH_ROOTS" => None,
        _ => config
            .environment
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone()),
    };
    let mut defaults = Defaults::from_environment(variable, &home, resolve::is_program)?;
    if !config.roots.value.is_empty() {
        defaults.roots =
            config.roots.value.iter().map(|root| resolve::below_home(root, &home)).collect();
    }
    fly::fill(&mut defaults, config);
    Ok(defaults)
}

/// What the local runtime is told.
fn local_config(
    config: &Config,
    data: &DataDir,
    installation: &str,
    secrets: Secrets,
) -> LocalConfig {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let mut local = LocalConfig::new(data.root(), installation, &home);
    local.runs = data.runs_dir();
    local.work = data.work_dir();
    local.endpoint_file = data.endpoint_file();
    local.capacity = config.max_sprites.value;
    local.extra_env.clone_from(&config.pass_env.value);
    local.secrets = Some(secrets);
    local.environment.clone_from(&config.environment);
    local
}

/// How machines hear what their runs are to do.
fn claims(runtime: Arc<FlyRuntime>) -> Arc<dyn server::Claims> {
    Arc::new(fly::Claims(runtime))
}

/// Whose sprites live, as far as the store knows.
async fn living(store: &Arc<dyn Store>) -> Vec<String> {
    let Ok(listing) = store.list(Kind::Sprite, None, usize::MAX).await else { return Vec::new() };
    let lives = |sprite: &crate::resource::Sprite| {
        (sprite.status.local.is_some() || sprite.status.fly.is_some())
            && sprite.status.exit.is_none()
            && !sprite.status.conditions.is_true("Gone")
            && !sprite.status.conditions.is_true("Asleep")
    };
    let whose = |sprite: crate::resource::Sprite| match sprite.metadata.controller() {
        Some(owner) => format!("{} {}", owner.kind.singular(), owner.name),
        None => format!("sprite {}", sprite.metadata.name),
    };
    let sprites = listing.items.into_iter().filter_map(crate::resource::AnyObject::into_sprite);
    sprites.filter(lives).map(whose).collect()
}

async fn compact(store: Arc<dyn Store>, ambient: Ambient) {
    loop {
        ambient.clock.sleep(COMPACT_EVERY).await;
        if let Err(error) = store.compact(ambient.clock.now()).await {
            tracing::warn!(%error, "old history could not be dropped; it is tried again");
        }
    }
}

async fn sweep(store: Arc<dyn Store>, files: Arc<Files>, ambient: Ambient) {
    loop {
        ambient.clock.sleep(SWEEP_EVERY).await;
        match sweep::sweep(&store, &files, ambient.clock.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed files that nothing names"),
            Err(error) => tracing::warn!(%error, "files could not be swept; it is tried again"),
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { address },
        _ => Error::Listen { address, source },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    if !bound.ip().is_loopback() {
        tracing::warn!(
            address = %bound,
            "listening beyond this machine; whoever speaks plain HTTP to it, as sprites do, can be \
             read with their tokens on the way, so let people come by https"
        );
    }
    Ok((listener, bound))
}

/// The address as a URL for this machine: an address that stands for all becomes loopback.
fn url_of(address: SocketAddr) -> Url {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let text = format!("http://{}/", SocketAddr::new(ip, address.port()));
    Url::parse(&text).unwrap_or_else(|_| unreachable!("{text} is a URL"))
}

/// What is to be done about a file that cannot be written, where that is known.
fn mend(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space there and start again, or choose another directory with --data"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "; let this user write there, or choose another directory with --data"
        }
        _ => "",
    }
}

/// Writes the address whole or not at all, since sprites read it at any moment.
fn write_endpoint(path: &Path, address: SocketAddr) -> Result<(), Error> {
    let failed = |source| Error::File { path: path.to_path_buf(), source };
    let half = path.with_extension("new");
    let url = url_of(address);
    fs::write(&half, format!("{}\n", url.as_str().trim_end_matches('/'))).map_err(failed)?;
    fs::rename(&half, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_reached_by_loopback() {
        let url = |address: &str| url_of(address.parse().unwrap()).to_string();
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1/");
        assert_eq!(url("0.0.0.0:8080"), "http://127.0.0.1:8080/");
        assert_eq!(url("[::]:8080"), "http://[::1]:8080/");
        assert_eq!(url("10.0.0.1:8080"), "http://10.0.0.1:8080/");
    }

    #[test]
    fn a_start_on_a_full_disk_names_the_mend() {
        let path = PathBuf::from("/data/endpoint");
        let told =
            |kind| Error::File { path: path.clone(), source: io::Error::from(kind) }.to_string();
        let full = told(io::ErrorKind::StorageFull);
        assert!(full.starts_with("cannot write /data/endpoint: "), "{full}");
        assert!(full.contains("free some space there and start again"), "{full}");
        assert!(told(io::ErrorKind::PermissionDenied).contains("let this user write there"));
    }

    #[test]
    fn a_port_in_use_names_the_mend() {
        let line = Error::PortInUse { address: "127.0.0.1:8080".parse().unwrap() }.to_string();
        insta::assert_snapshot!(line);
    }
}
