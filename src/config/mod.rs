//! What the server is told from outside: a flag, else the environment, else a `.env` file, else the
//! configuration file, else a default.
//!
//! [`Layers`] read the files; [`Config::resolve`] is a pure function of the flags, the layers and
//! a few facts about the machine. Each value remembers where it came from, so that an error can name
//! the place to mend, and the log can say why the server is as it is. The table in
//! `docs/configuration.md` is checked against [`SETTINGS`].

mod file;
mod fly;
mod known;
mod layers;
mod view;

pub use file::{File, FlyFile};
pub use fly::{Fly, SecretsBy, Where};
pub use known::{KNOWN, Known, Reader};
pub use layers::{CONFIG_FILE, DOT_ENV, Layers, Places};
pub use view::{Line, view};

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use secrecy::SecretString;

use crate::resource::resolve::{NoAgent, agent_named};

/// The port where no other is named; the original's.
pub const DEFAULT_PORT: u16 = 8080;
/// The directory with desired state where no other is named.
pub const DEFAULT_SPECS: &str = "specs";
/// The fewest sprites that a machine may run where nothing is said.
const FEWEST_SPRITES: usize = 4;

/// One row of the table of settings, for the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// The flag of `serve`, or nothing.
    pub flag: &'static str,
    /// The environment variable, or nothing.
    pub variable: &'static str,
    /// The key in the configuration file, or nothing.
    pub key: &'static str,
    /// The default, in words.
    pub default: &'static str,
    /// What it sets.
    pub what: &'static str,
}

/// Every setting, in the order in which the documentation lists them.
pub const SETTINGS: [Described; 29] = [
    Described {
        flag: "--data",
        variable: "OPEN_DISPATCH_DATA",
        key: "",
        default: "`$XDG_STATE_HOME/open-dispatch`, else `~/.local/state/open-dispatch`",
        what: "The data directory: store, tokens, runs, clones.",
    },
    Described {
        flag: "--config",
        variable: "OPEN_DISPATCH_CONFIG",
        key: "",
        default: "`config.yaml` in the data directory, if it is there",
        what: "The configuration file.",
    },
    Described {
        flag: "--listen",
        variable: "OPEN_DISPATCH_LISTEN",
        key: "listen",
        default: "`127.0.0.1:8080`",
        what: "Where the server listens: an address, a port, or both.",
    },
    Described {
        flag: "--tls-names",
        variable: "OPEN_DISPATCH_TLS_NAMES",
        key: "tlsNames",
        default: "`localhost`, `127.0.0.1` and `::1`, which are always there",
        what: "Further names and addresses by which clients reach the server over TLS, separated by \
               commas.",
    },
    Described {
        flag: "",
        variable: "WEBHOOK_PORT",
        key: "",
        default: "`8080`",
        what: "The port, where no other setting names one.",
    },
    Described {
        flag: "--chat",
        variable: "CHAT_PROVIDER",
        key: "chat",
        default: "`console`",
        what: "The chat platforms, with commas between: `console`, `slack`, `discord`, `teams`; or \
               `none`.",
    },
    Described {
        flag: "--max-sprites",
        variable: "OPEN_DISPATCH_MAX_SPRITES",
        key: "maxSprites",
        default: "twice the number of CPUs, at least 4",
        what: "How many sprites may live on this machine at once; the others wait in order.",
    },
    Described {
        flag: "--log-format",
        variable: "OPEN_DISPATCH_LOG_FORMAT",
        key: "logFormat",
        default: "`text`",
        what: "How the log is written: `text` or `json`.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_LOG",
        key: "log",
        default: "`info`",
        what: "What is logged, as `level` or `target=level,...`.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_STORE",
        key: "store",
        default: "the data directory",
        what: "The directory that holds the store. `DATABASE_URL` is never the server's own.",
    },
    Described {
        flag: "",
        variable: "JOB_TOKEN_SECRET",
        key: "",
        default: "a key drawn once, in the data directory",
        what: "The key from which the sprites' tokens are derived. A server with another one than \
               living sprites were started with does not start.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_PASS_ENV",
        key: "passEnv",
        default: "nothing",
        what: "Names of further variables that agents inherit from the server, separated by \
               commas.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_ROOTS",
        key: "roots",
        default: "the home of the user who runs the server",
        what: "The directories within which agents may work, separated by colons.",
    },
    Described {
        flag: "--specs",
        variable: "OPEN_DISPATCH_SPECS",
        key: "specs",
        default: "`specs` where the server is started, if it is there",
        what: "The directories whose YAML files the server keeps up, separated by colons; or `none`. The flag may stand several times.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_ADMINS",
        key: "admins",
        default: "nobody",
        what: "The first admins: who may do everything from chat, each as `PLATFORM:USER` with the \
               platform's own id, separated by commas.",
    },
    Described {
        flag: "",
        variable: "SPRITE_AGENT_TYPE",
        key: "agent",
        default: "the first of `claude`, `opencode`, `codex-acp` that is found on the `PATH`; \
                  on the console `command` where none is",
        what: "The agent of who names none: `claude`, `opencode`, `codex`, `gemini` or `command`.",
    },
    Described {
        flag: "",
        variable: "OPENCODE_MODEL",
        key: "opencodeModel",
        default: "OpenCode's own",
        what: "OpenCode's model, as `provider/model`, where a spec names none.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_RUNTIME",
        key: "runtime",
        default: "`local`; `fly` where the server is itself a Fly Machine and has machines configured",
        what: "Where what names no place runs: `local` or `fly`.",
    },
    Described {
        flag: "",
        variable: "FLY_API_TOKEN",
        key: "",
        default: "no machines",
        what: "The token for the Machines API. With it, `FLY_SPRITE_APP` and `SPRITE_IMAGE` are needed.",
    },
    Described {
        flag: "",
        variable: "FLY_SPRITE_APP",
        key: "fly.app",
        default: "no machines",
        what: "The Fly app whose machines are the sprites.",
    },
    Described {
        flag: "",
        variable: "SPRITE_IMAGE",
        key: "fly.image",
        default: "none; needed unless there are aliases",
        what: "The image of who names none: a whole reference, or an alias.",
    },
    Described {
        flag: "",
        variable: "SPRITE_IMAGES",
        key: "fly.images",
        default: "none",
        what: "Images by alias: a JSON object, and a map in the file.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_ALLOWED_IMAGES",
        key: "fly.allowedImages",
        default: "every image",
        what: "Beginnings of the images that may be named beside those that are configured, separated by commas.",
    },
    Described {
        flag: "",
        variable: "FLY_REGION",
        key: "fly.region",
        default: "`iad`",
        what: "The regions of machines in the order in which they are tried, separated by commas. On Fly the platform sets the variable to where the server is, and there the key goes before it.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_REGION",
        key: "",
        default: "`FLY_REGION`",
        what: "The same, before all else.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_URL",
        key: "fly.server",
        default: "`http://$FLY_APP_NAME.internal:PORT` on Fly, else `http://open-dispatch.internal:8080`",
        what: "How machines reach the server.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_MAX_MACHINES",
        key: "fly.maxMachines",
        default: "`50`",
        what: "How many machines may live at once; the others wait in order.",
    },
    Described {
        flag: "",
        variable: "OPEN_DISPATCH_SPRITE_SECRETS",
        key: "fly.secretsBy",
        default: "`environment`",
        what: "How machines get their secrets: in their `environment`, which Fly's API shows to who may read the app, or by `claim`, from the server itself.",
    },
    Described {
        flag: "",
        variable: "FLY_FLAPS_BASE_URL",
        key: "",
        default: "`https://api.machines.dev`",
        what: "The Machines API, where it is another one.",
    },
];

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(&'static str),
    /// A variable of a `.env` file.
    DotEnv(&'static str),
    /// A key of the configuration file.
    File(&'static str),
    /// Nowhere: nothing was said.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Environment(name) => f.write_str(name),
            Self::DotEnv(name) => write!(f, "{name} in {DOT_ENV}"),
            Self::File(key) => write!(f, "{key} in the configuration file"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

/// A chat platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chat {
    /// Terminals.
    Console,
    /// Slack, by Socket Mode.
    Slack,
    /// Discord, by its gateway.
    Discord,
    /// Microsoft Teams, by a public listener.
    Teams,
}

impl Chat {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Console, Self::Slack, Self::Discord, Self::Teams];

    /// Its name, as it stands in settings and conversations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Teams => "teams",
        }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the server is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory.
    pub data: Setting<PathBuf>,
    /// Where to listen. Port 0 takes any that is free.
    pub listen: Setting<SocketAddr>,
    /// Names and addresses beside this machine's own for which the server's certificate stands.
    pub tls_names: Setting<Vec<String>>,
    /// The chat platforms.
    pub chat: Setting<BTreeSet<Chat>>,
    /// The most sprites that may live on this machine at once.
    pub max_sprites: Setting<usize>,
    /// What is logged, in the language of `tracing`'s filters.
    pub log: Setting<String>,
    /// How the log is written.
    pub log_format: Setting<LogFormat>,
    /// The directory that holds the store; the data directory where none is named.
    pub store: Setting<Option<PathBuf>>,
    /// The key of the sprites' tokens; the data directory's own where none is named.
    pub token_secret: Setting<Option<SecretString>>,
    /// Further variables that agents inherit.
    pub pass_env: Setting<Vec<String>>,
    /// Where agents may work; the home where none is named.
    pub roots: Setting<Vec<PathBuf>>,
    /// The directories with desired state; relative ones lie where the server is started.
    pub specs: Setting<Vec<PathBuf>>,
    /// Who may do everything from chat, as they were written.
    pub admins: Setting<Vec<String>>,
    /// The agent of who names none, as it is called in specs.
    pub agent: Setting<Option<String>>,
    /// OpenCode's model where a spec names none.
    pub opencode_model: Setting<Option<String>>,
    /// Where what names no place runs.
    pub runtime: Setting<Where>,
    /// Fly Machines; nothing where there are none.
    pub fly: Option<Fly>,
    /// The whole environment, `.env` included, of which agents get their part.
    pub environment: Vec<(String, String)>,
}

/// The flags of `serve`, as they were typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--tls-names`.
    pub tls_names: Option<String>,
    /// `--chat`.
    pub chat: Option<String>,
    /// `--max-sprites`.
    pub max_sprites: Option<String>,
    /// Each `--specs`, with a colon between two.
    pub specs: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
}

/// What [`Config::resolve`] must know of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// How many CPUs may be used.
    pub cpus: usize,
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value that cannot be read.
    #[error("{place} is `{value}`, which is no {what}; {mend}")]
    Unreadable {
        /// The flag, variable or key.
        place: String,
        /// What it holds.
        value: String,
        /// What it ought to be.
        what: &'static str,
        /// What to write instead.
        mend: &'static str,
    },
    /// A name that is no agent's.
    #[error("{place}: {why}")]
    NoAgent {
        /// The variable or key.
        place: String,
        /// Why it is none.
        why: NoAgent,
    },
    /// A store that is planned.
    #[error(
        "OPEN_DISPATCH_STORE names a PostgreSQL database, which is not supported yet; name a \
         directory, or unset it to keep the store in the data directory"
    )]
    StoreNotYet,
    /// A file that cannot be used.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A `.env` file that cannot be used.
    #[error("{}: {what}", path.display())]
    DotEnv {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without any value.
        what: String,
    },
    /// Some of what machines need, and not all.
    #[error(
        "Fly Machines are configured by half: there is {said}, and there is no {missing}; set what \
         is missing, or unset what there is to run without machines (docs/fly.md)"
    )]
    HalfFly {
        /// What is set.
        said: String,
        /// What is missing, each with where it comes from.
        missing: String,
    },
    /// The machines' app is the server's.
    #[error(
        "FLY_SPRITE_APP is `{0}`, which is the app of this server, and machines need one of their \
         own: else what they report to the server reaches each other; make one with fly apps \
         create, and a token of it (docs/fly.md)"
    )]
    SharedApp(String),
    /// A relative, missing or unknown home.
    #[error("there is no place for the data directory: {0}; name one with --data")]
    NoHome(String),
}

impl Config {
    /// Settles every value: the flag, else what the layers say, else the default.
    ///
    /// # Errors
    /// The first value that cannot be used, with its place.
    pub fn resolve(flags: &Flags, layers: &Layers, machine: Machine) -> Result<Self, Error> {
        let pick = |flag: &Option<String>, flag_name, name| match flag {
            Some(value) => Some((value.clone(), Source::Flag(flag_name))),
            None => layers.said(name),
        };
        let text = |text: &str, _: &str| Ok(Some(text.to_owned()));
        let listen = listen(flags, layers)?;
        let fly = fly::read(layers, listen.value.port())?;
        Ok(Self {
            data: data_dir(flags.data.clone(), |name| layers.variable(name))?,
            listen,
            tls_names: settle(
                pick(&flags.tls_names, "--tls-names", "OPEN_DISPATCH_TLS_NAMES"),
                read_tls_names,
                Vec::new(),
            )?,
            chat: settle(
                pick(&flags.chat, "--chat", "CHAT_PROVIDER"),
                read_chat,
                BTreeSet::from([Chat::Console]),
            )?,
            max_sprites: settle(
                pick(&flags.max_sprites, "--max-sprites", "OPEN_DISPATCH_MAX_SPRITES"),
                read_max_sprites,
                machine.cpus.saturating_mul(2).max(FEWEST_SPRITES),
            )?,
            log: settle(layers.said("OPEN_DISPATCH_LOG"), read_log, "info".to_owned())?,
            log_format: settle(
                pick(&flags.log_format, "--log-format", "OPEN_DISPATCH_LOG_FORMAT"),
                read_log_format,
                LogFormat::Text,
            )?,
            store: settle(layers.said("OPEN_DISPATCH_STORE"), read_store, None)?,
            token_secret: settle(
                layers.said("JOB_TOKEN_SECRET"),
                |text, _| Ok(Some(SecretString::from(text))),
                None,
            )?,
            pass_env: settle(
                layers.said("OPEN_DISPATCH_PASS_ENV"),
                |text, _| Ok(names(text)),
                Vec::new(),
            )?,
            roots: settle(layers.said("OPEN_DISPATCH_ROOTS"), read_roots, Vec::new())?,
            specs: settle(
                pick(&flags.specs, "--specs", "OPEN_DISPATCH_SPECS"),
                |text, _| Ok(read_specs(text)),
                vec![PathBuf::from(DEFAULT_SPECS)],
            )?,
            admins: settle(layers.said("OPEN_DISPATCH_ADMINS"), read_admins, Vec::new())?,
            agent: settle(layers.said("SPRITE_AGENT_TYPE"), read_agent, None)?,
            opencode_model: settle(layers.said("OPENCODE_MODEL"), text, None)?,
            runtime: fly::usual_place(layers, fly.as_ref())?,
            fly,
            environment: layers.variables(),
        })
    }

    /// The directory that holds the store.
    #[must_use]
    pub fn store_dir(&self) -> &std::path::Path {
        self.store.value.as_deref().unwrap_or(&self.data.value)
    }
}

/// The data directory, for the server and for clients that look for it.
///
/// # Errors
/// [`Error::NoHome`] where neither a flag, a variable nor a home names one.
pub fn data_dir(
    flag: Option<PathBuf>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Setting<PathBuf>, Error> {
    let variable = |name| environment(name).filter(|value| !value.is_empty());
    if let Some(value) = flag {
        return Ok(Setting { value, source: Source::Flag("--data") });
    }
    if let Some(value) = variable("OPEN_DISPATCH_DATA") {
        let source = Source::Environment("OPEN_DISPATCH_DATA");
        return Ok(Setting { value: value.into(), source });
    }
    // By the XDG rules a relative path is to be ignored.
    let absolute = |value: String| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    let base = match variable("XDG_STATE_HOME").and_then(absolute) {
        Some(base) => base,
        None => match variable("HOME").and_then(absolute) {
            Some(home) => home.join(".local/state"),
            None => return Err(Error::NoHome("neither HOME nor XDG_STATE_HOME is set".to_owned())),
        },
    };
    Ok(Setting { value: base.join("open-dispatch"), source: Source::Default })
}

/// Reads what was said, if something was.
fn settle<T>(
    said: Option<(String, Source)>,
    read: impl Fn(&str, &str) -> Result<T, Error>,
    default: T,
) -> Result<Setting<T>, Error> {
    match said {
        None => Ok(Setting { value: default, source: Source::Default }),
        Some((text, source)) => Ok(Setting { value: read(&text, &source.to_string())?, source }),
    }
}

/// The flag; else an address of the environment; else its port alone; else the file's address.
fn listen(flags: &Flags, layers: &Layers) -> Result<Setting<SocketAddr>, Error> {
    let port = match layers.said("WEBHOOK_PORT") {
        Some((text, source)) => Some((read_port(&text, &source.to_string())?, source)),
        None => None,
    };
    let number = port.map(|(number, _)| number);
    let address = layers.said("OPEN_DISPATCH_LISTEN");
    let said = match &flags.listen {
        Some(text) => Some((text.clone(), Source::Flag("--listen"))),
        None if port.is_some() => address.filter(|(_, source)| !matches!(source, Source::File(_))),
        None => address,
    };
    let local = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    Ok(match (said, port) {
        (Some((text, source)), _) => {
            Setting { value: read_listen(&text, &source.to_string(), number)?, source }
        }
        (None, Some((number, source))) => Setting { value: local(number), source },
        (None, None) => Setting { value: local(DEFAULT_PORT), source: Source::Default },
    })
}

fn read_port(text: &str, place: &str) -> Result<u16, Error> {
    text.parse().map_err(|_| Error::Unreadable {
        place: place.to_owned(),
        value: text.to_owned(),
        what: "port",
        mend: "write a number from 0 to 65535",
    })
}

/// Reads `ADDRESS:PORT`, `ADDRESS`, `PORT` or `:PORT`; `localhost` is 127.0.0.1.
fn read_listen(text: &str, place: &str, port: Option<u16>) -> Result<SocketAddr, Error> {
    let named = text.replacen("localhost", "127.0.0.1", 1);
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    if let Ok(address) = named.parse() {
        return Ok(address);
    }
    if let Ok(port) = named.trim_start_matches(':').parse() {
        return Ok(SocketAddr::new(local, port));
    }
    named.parse().map(|address| SocketAddr::new(address, port.unwrap_or(DEFAULT_PORT))).map_err(
        |_| Error::Unreadable {
            place: place.to_owned(),
            value: text.to_owned(),
            what: "address",
            mend: "write ADDRESS:PORT, such as 127.0.0.1:8080, or a port alone",
        },
    )
}

/// Reads DNS names and addresses with commas between.
fn read_tls_names(text: &str, place: &str) -> Result<Vec<String>, Error> {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = |name: &str| name.len() <= 253 && name.split('.').all(label);
    let fits = |name: &String| name.parse::<IpAddr>().is_ok() || is_name(name);
    let named = names(text);
    match named.iter().find(|name| !fits(name)) {
        None => Ok(named),
        Some(name) => Err(Error::Unreadable {
            place: place.to_owned(),
            value: name.clone(),
            what: "name of a server",
            mend: "write DNS names or IP addresses without ports, such as dispatch.example.org",
        }),
    }
}

fn read_roots(text: &str, place: &str) -> Result<Vec<PathBuf>, Error> {
    let roots: Vec<PathBuf> =
        text.split(':').filter(|root| !root.is_empty()).map(PathBuf::from).collect();
    match roots.iter().find(|root| !root.is_absolute() && !root.starts_with("~")) {
        None => Ok(roots),
        Some(root) => Err(Error::Unreadable {
            place: place.to_owned(),
            value: root.display().to_string(),
            what: "absolute path",
            mend: "begin it with / or ~/",
        }),
    }
}

/// Reads directories with colons between, or `none` alone.
fn read_specs(text: &str) -> Vec<PathBuf> {
    if text.trim() == "none" {
        return Vec::new();
    }
    text.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

fn read_agent(text: &str, place: &str) -> Result<Option<String>, Error> {
    let name = text.trim();
    match agent_named(name) {
        Ok(_) => Ok(Some(name.to_owned())),
        Err(why) => Err(Error::NoAgent { place: place.to_owned(), why }),
    }
}

/// Reads people with commas between, each by a platform and its own id of them.
fn read_admins(text: &str, place: &str) -> Result<Vec<String>, Error> {
    let is_person = |name: &String| {
        let known = |platform: &str| Chat::ALL.iter().any(|chat| chat.name() == platform);
        name.split_once(':').is_some_and(|(platform, id)| {
            known(platform) && !id.is_empty() && !id.starts_with("channel:")
        })
    };
    let named = names(text);
    match named.iter().find(|name| !is_person(name)) {
        None => Ok(named),
        Some(name) => Err(Error::Unreadable {
            place: place.to_owned(),
            value: name.clone(),
            what: "person",
            mend: "write PLATFORM:USER with the platform's own id, such as slack:U0123ABC; a channel \
                   gets its role by open-dispatch access grant",
        }),
    }
}

/// Reads names with commas between, or `none` alone.
fn read_chat(text: &str, place: &str) -> Result<BTreeSet<Chat>, Error> {
    if text.trim() == "none" {
        return Ok(BTreeSet::new());
    }
    let read = |word: &str| Chat::ALL.into_iter().find(|chat| chat.name() == word.trim());
    text.split(',')
        .map(|word| {
            read(word).ok_or_else(|| Error::Unreadable {
                place: place.to_owned(),
                value: word.trim().to_owned(),
                what: "chat platform",
                mend: "use `console`, `slack`, `discord`, `teams`, several with commas between, or \
                       `none` alone",
            })
        })
        .collect()
}

fn read_max_sprites(text: &str, place: &str) -> Result<usize, Error> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| Error::Unreadable {
        place: place.to_owned(),
        value: text.to_owned(),
        what: "number of sprites",
        mend: "write a whole number from 1",
    })
}

/// A log filter is read by what logs; but a bare word that is no level would name a part of a
/// program that there is not, and silence everything.
fn read_log(text: &str, place: &str) -> Result<String, Error> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| {
        LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
            || matches!(word.parse::<u8>(), Ok(0..=5))
    };
    let bare = |part: &&str| !part.contains(['=', ':', '[', '_']) && !part.is_empty();
    if text.split(',').map(str::trim).filter(bare).all(is_level) {
        return Ok(text.to_owned());
    }
    Err(Error::Unreadable {
        place: place.to_owned(),
        value: text.to_owned(),
        what: "log level",
        mend: "use off, error, warn, info, debug or trace, or NAME=LEVEL for one part",
    })
}

fn read_log_format(text: &str, place: &str) -> Result<LogFormat, Error> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Error::Unreadable {
            place: place.to_owned(),
            value: text.to_owned(),
            what: "log format",
            mend: "use `text` or `json`",
        }),
    }
}

fn read_store(text: &str, place: &str) -> Result<Option<PathBuf>, Error> {
    match text.split_once("://") {
        None => Ok(Some(PathBuf::from(text))),
        Some(("postgres" | "postgresql", _)) => Err(Error::StoreNotYet),
        // The value may hold a password, so only its scheme is shown.
        Some((scheme, _)) => Err(Error::Unreadable {
            place: place.to_owned(),
            value: format!("{scheme}://..."),
            what: "store",
            mend: "name a directory",
        }),
    }
}

fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::resolve::AGENT_NAMES;

    const MACHINE: Machine = Machine { cpus: 8 };

    fn resolve(flags: &Flags, variables: &[(&str, &str)]) -> Result<Config, Error> {
        let home = [("HOME", "/home/a")];
        let all = home.iter().chain(variables);
        let owned = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::resolve(flags, &Layers::environment(owned), MACHINE)
    }

    fn message(flags: &Flags, variables: &[(&str, &str)]) -> String {
        resolve(flags, variables).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn nothing_said_gives_the_defaults() {
        let config = resolve(&Flags::default(), &[]).unwrap();
        assert_eq!(config.data.value, PathBuf::from("/home/a/.local/state/open-dispatch"));
        assert_eq!(config.listen.value.to_string(), "127.0.0.1:8080");
        assert_eq!(config.chat.value, BTreeSet::from([Chat::Console]));
        assert_eq!(config.max_sprites.value, 16);
        assert_eq!(config.store_dir(), config.data.value);
        assert_eq!(config.listen.source, Source::Default);
    }

    #[test]
    fn a_flag_beats_the_environment_and_the_environment_beats_the_default() {
        let variables = [("OPEN_DISPATCH_DATA", "/env"), ("CHAT_PROVIDER", "none")];
        let flags = Flags { data: Some("/flag".into()), ..Flags::default() };
        let config = resolve(&flags, &variables).unwrap();
        assert_eq!(config.data, Setting { value: "/flag".into(), source: Source::Flag("--data") });
        let from = Source::Environment("CHAT_PROVIDER");
        assert_eq!(config.chat, Setting { value: BTreeSet::new(), source: from });
    }

    #[test]
    fn an_empty_variable_counts_as_unset_and_a_relative_xdg_home_is_ignored() {
        let variables = [("CHAT_PROVIDER", ""), ("XDG_STATE_HOME", "data")];
        let config = resolve(&Flags::default(), &variables).unwrap();
        assert_eq!(config.chat.source, Source::Default);
        assert_eq!(config.data.value, PathBuf::from("/home/a/.local/state/open-dispatch"));
    }

    #[test]
    fn listen_takes_an_address_a_port_or_both() {
        let read = |text: &str| {
            let flags = Flags { listen: Some(text.to_owned()), ..Flags::default() };
            resolve(&flags, &[("WEBHOOK_PORT", "9000")]).unwrap().listen.value.to_string()
        };
        assert_eq!(read("0.0.0.0:1"), "0.0.0.0:1");
        assert_eq!(read("0.0.0.0"), "0.0.0.0:9000");
        assert_eq!(read(":7"), "127.0.0.1:7");
        assert_eq!(read("7"), "127.0.0.1:7");
        assert_eq!(read("localhost:7"), "127.0.0.1:7");
        assert_eq!(read("[::1]:7"), "[::1]:7");
    }

    #[test]
    fn a_log_level_that_is_none_is_refused() {
        let error = message(&Flags::default(), &[("OPEN_DISPATCH_LOG", "debugg")]);
        assert!(error.contains("`debugg`, which is no log level; use off, error"), "{error}");
        for filter in ["debug", "WARN,open_dispatch=trace", "info,hyper=warn"] {
            assert!(
                resolve(&Flags::default(), &[("OPEN_DISPATCH_LOG", filter)]).is_ok(),
                "{filter}"
            );
        }
    }

    #[test]
    fn a_bad_value_is_refused_with_its_place_and_the_mend() {
        let flags = |listen: &str| Flags { listen: Some(listen.to_owned()), ..Flags::default() };
        let none = Flags::default();
        insta::assert_snapshot!(
            [
                message(&flags("everywhere"), &[]),
                message(&none, &[("WEBHOOK_PORT", "http")]),
                message(&none, &[("CHAT_PROVIDER", "console,slak")]),
                message(&none, &[("CHAT_PROVIDER", "irc")]),
                message(&none, &[("OPEN_DISPATCH_MAX_SPRITES", "0")]),
                message(&none, &[("OPEN_DISPATCH_LOG_FORMAT", "xml")]),
                message(&none, &[("OPEN_DISPATCH_STORE", "postgres://me:secret@host/db")]),
                message(&none, &[("OPEN_DISPATCH_STORE", "mysql://me:secret@host/db")]),
                message(&none, &[("HOME", "")]),
                message(&none, &[("OPEN_DISPATCH_LISTEN", "everywhere")]),
                message(&none, &[("OPEN_DISPATCH_TLS_NAMES", "a.example.org,https://b:8443")]),
                message(&none, &[("OPEN_DISPATCH_ROOTS", "/srv:projects")]),
                message(&none, &[("SPRITE_AGENT_TYPE", "gpt")]),
                message(&none, &[("SPRITE_AGENT_TYPE", "acp")]),
                message(&none, &[("OPEN_DISPATCH_ADMINS", "slack:U1, @ann")]),
                message(&none, &[("OPEN_DISPATCH_ADMINS", "slack:channel:C1")]),
            ]
            .join("\n")
        );
    }

    #[test]
    fn every_agent_that_has_a_name_can_be_the_usual_one() {
        for name in ["claude", "opencode", "codex", "gemini", "command", " Gemini "] {
            let agent = resolve(&Flags::default(), &[("SPRITE_AGENT_TYPE", name)]).unwrap().agent;
            assert_eq!(agent.value.as_deref(), Some(name.trim()));
        }
        let about = SETTINGS.iter().find(|it| it.variable == "SPRITE_AGENT_TYPE").unwrap().what;
        assert!(about.replace('`', "").contains(&AGENT_NAMES.replace(" and ", " or ")), "{about}");
    }

    #[test]
    fn the_documentation_lists_every_setting() {
        let text = include_str!("../../docs/configuration.md");
        for setting in SETTINGS {
            let code =
                |name: &str| if name.is_empty() { String::new() } else { format!("`{name}`") };
            let row = format!(
                "| {} | {} | {} | {} | {} |",
                code(setting.flag),
                code(setting.variable),
                code(setting.key),
                setting.default,
                setting.what
            );
            assert!(text.contains(&row), "docs/configuration.md lacks the row\n{row}");
        }
    }
}
