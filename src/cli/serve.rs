//! `serve` and `chat`: the two commands that may bring up a server.
//!
//! In a terminal, `serve` is a chat as well: its console speaks with the server over HTTP, as
//! any other console would.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    args::{ChatArgs, ServeArgs},
    chat,
    client::{Client, Place, http},
    error::Error,
    out,
    run::INTERRUPTED,
};
use crate::{
    ambient::Ambient,
    app::{House, LogTo, Running},
    config::{Chat, Config, Flags, Layers, Machine, Places},
};

/// The channel of the console that `serve` opens.
const MAIN_CHANNEL: &str = "main";
/// Where the console keeps the lines that were typed, in the data directory.
const HISTORY_FILE: &str = "console_history";

/// Runs `serve`.
///
/// # Errors
/// Why the server cannot be brought up.
pub fn serve(args: ServeArgs) -> Result<u8, Error> {
    let flags = Flags {
        data: args.data,
        listen: args.listen,
        tls_names: args.tls_names,
        chat: args.chat,
        max_sprites: args.max_sprites,
        specs: (!args.specs.is_empty()).then(|| args.specs.join(":")),
        log_format: args.log_format,
    };
    let config = resolve(&flags, args.config)?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let console = terminal && config.chat.value.contains(&Chat::Console);
    block_on(up(config, console.then(|| MAIN_CHANNEL.to_owned())))
}

/// Runs `chat`: with the server that runs, else with one brought up for it.
///
/// # Errors
/// Why the server cannot be found or brought up.
pub fn chat(args: ChatArgs) -> Result<u8, Error> {
    let place = Place::find(&args.server, |name| std::env::var(name).ok())?;
    block_on(async move {
        let client = Client::new(place.clone())?;
        match client.get("/ready", &[], "application/json").await {
            Err(Error::NotRunning { data }) if matches!(place, Place::Data(_)) => {
                embedded(data, args.channel).await
            }
            Err(Error::Unreachable { .. }) if let Place::Data(data) = &place => {
                embedded(data.clone(), args.channel).await
            }
            // A server that is not ready yet still takes messages.
            Ok(_) | Err(Error::Api { code: 503, .. }) => {
                has_console(&client).await?;
                talk(place, args.channel, args.plain, false).await.map(|()| 0)
            }
            Err(error) => Err(error),
        }
    })
}

/// Whether the server takes part in chats at all: said before any greeting.
async fn has_console(client: &Client) -> Result<(), Error> {
    match client.get("/console/messages", &[], "application/json").await {
        Err(Error::Api { code: 404, .. }) => Err(Error::Serve(
            "this server was started with --chat none; start it with --chat console".to_owned(),
        )),
        Err(error @ Error::Api { code: 401 | 403, .. }) => Err(error),
        // That it is there and takes only what is posted is the usual answer.
        _ => Ok(()),
    }
}

/// What to say where agents have no home of their own to work in: `said` is what `HOME` holds,
/// and `home` the place that is used.
fn homeless(said: Option<&Path>, home: &Path) -> Option<String> {
    match said {
        Some(said) if said.is_dir() => None,
        Some(said) => Some(format!(
            "HOME is {}, which is no directory; jobs that name no --workdir cannot start. Make \
             it, or set HOME and start the server again",
            said.display()
        )),
        None => Some(format!(
            "HOME is not set; jobs that name no --workdir work in {}. Set HOME and start the \
             server again if that is wrong",
            home.display()
        )),
    }
}

async fn embedded(data: PathBuf, channel: String) -> Result<u8, Error> {
    let flags = Flags { data: Some(data), chat: Some("console".to_owned()), ..Flags::default() };
    up(resolve(&flags, None)?, Some(channel)).await
}

/// Settles what the server is told, and says which files it was told by.
fn resolve(flags: &Flags, config: Option<PathBuf>) -> Result<Config, Error> {
    let layers = layers(flags.data.clone(), config)?;
    for path in [layers.dot_env(), layers.file()].into_iter().flatten() {
        out::note(format!("settings from {}", path.display()));
    }
    for warning in layers.warnings() {
        out::note(warning);
    }
    let config = Config::resolve(flags, &layers, machine())?;
    for root in config.roots.value.iter().filter(|root| !root.starts_with("~") && !root.exists()) {
        out::note(format!(
            "OPEN_DISPATCH_ROOTS names {}, which is not there (yet); no agent can work in it",
            root.display()
        ));
    }
    Ok(config)
}

/// All that was said outside of the flags. A variable that is not UTF-8 is left out: no agent
/// could be told of it.
pub(super) fn layers(data: Option<PathBuf>, config: Option<PathBuf>) -> Result<Layers, Error> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let cwd = std::env::current_dir().unwrap_or_default();
    Ok(Layers::read(variables, &Places { cwd, data, config })?)
}

/// What settings depend on of this machine.
pub(super) fn machine() -> Machine {
    Machine { cpus: std::thread::available_parallelism().map_or(1, usize::from) }
}

/// Brings a server up, and keeps it up until a signal, or until the console is left.
async fn up(config: Config, console: Option<String>) -> Result<u8, Error> {
    let mut signals = Signals::hear(console.is_some())?;
    let data = config.data.value.clone();
    let house = House::open(config).map_err(failed)?;
    house.log(if console.is_some() { LogTo::File } else { LogTo::Stderr }).map_err(failed)?;
    let said = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    if let Some(line) = homeless(said.as_deref(), &home) {
        tracing::warn!("{line}");
        if console.is_some() {
            out::note(line);
        }
    }
    let log = house.log_file();
    let mut running = house.start(Ambient::real()).await.map_err(failed)?;
    let url = running.url();
    let address = url.as_str().trim_end_matches('/');
    if !running.address().ip().is_loopback() {
        out::note(format!(
            "listening on {}, beyond this machine, without TLS: whoever reads the traffic reads \
             the tokens",
            running.address()
        ));
    }
    let outcome = match console {
        Some(channel) => {
            out::note(format!("server at {address}, its log in {}", log.display()));
            tokio::select! {
                left = talk(Place::Data(data), channel, false, true) => left,
                error = running.failed() => Err(failed(error)),
                () = signals.next() => Ok(()),
            }
        }
        None => {
            out::note(format!("server at {address}; Ctrl-C stops it"));
            tokio::select! {
                error = running.failed() => Err(failed(error)),
                () = signals.next() => Ok(()),
            }
        }
    };
    // However it ended, the server goes down in order: a console whose window was closed is no
    // reason to leave an address behind at which nobody answers.
    let code = tokio::select! {
        () = down(running) => 0,
        () = signals.next() => {
            out::note("stopped in the middle; nothing is lost, the next server goes on from there");
            INTERRUPTED
        }
    };
    outcome.map(|()| code)
}

async fn down(running: Running) {
    let stopped = running.stop().await;
    out::note(left_behind(&stopped.names));
}

/// What to say of what runs on without the server.
fn left_behind(names: &[String]) -> String {
    const SHOWN: usize = 8;
    if names.is_empty() {
        return "the server has stopped".to_owned();
    }
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (verb, them) = if names.len() == 1 { ("runs", "it") } else { ("run", "them") };
    format!(
        "the server has stopped; {}{more} {verb} on, and the next server takes {them} over. \
         open-dispatch down, before it stops, ends them all",
        names[..names.len().min(SHOWN)].join(", ")
    )
}

/// Chats until the person leaves.
async fn talk(place: Place, channel: String, plain: bool, ends_server: bool) -> Result<(), Error> {
    let history = match &place {
        Place::Data(data) => Some(data.join(HISTORY_FILE)),
        Place::Server(..) => None,
    };
    let find = move || {
        place.target().map(|target| (target.url, target.token)).map_err(|error| error.to_string())
    };
    let options = chat::Options {
        server: chat::Server::new(http()?, Arc::new(find)),
        channel,
        ends_server,
        history,
        no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        at_terminal: std::io::IsTerminal::is_terminal(&std::io::stdout()),
        plain,
        ambient: Ambient::real(),
    };
    chat::run(options).await.map_err(|error| match error {
        chat::Error::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Error::PipeClosed
        }
        error => Error::Terminal(error.to_string()),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function to map errors with")]
fn failed(error: crate::app::Error) -> Error {
    Error::Serve(error.to_string())
}

/// The signals that end the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Only where a terminal is ours: a server in the background may outlive it.
    hangup: Option<Signal>,
}

impl Signals {
    fn hear(hangup: bool) -> Result<Self, Error> {
        let hear = |kind| {
            signal(kind)
                .map_err(|error| Error::Terminal(format!("no signals can be heard: {error}")))
        };
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hangup: if hangup { Some(hear(SignalKind::hangup())?) } else { None },
        })
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// Runs a server on all CPUs. What still blocks at the end is not waited for.
fn block_on(command: impl Future<Output = Result<u8, Error>>) -> Result<u8, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Terminal(format!("no event loop can be made: {error}")))?;
    let outcome = runtime.block_on(command);
    runtime.shutdown_background();
    outcome
}
