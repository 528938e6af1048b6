//! What the server is told from outside: a flag, else the environment, else a `.env` file, else the
//! configuration file, else a default.
//!
//! [`Layers`] read the files; [`Config::resolve`] is a pure function of the flags, the layers and
//! a few facts about the machine; `read` has a function for each value. Each value remembers where it came from, so that an error can name
//! the place to mend, and the log can say why the server is as it is. The table in
//! `docs/configuration.md` is checked against [`SETTINGS`].

mod described;
mod error;
mod file;
mod fly;
mod known;
mod layers;
mod read;
mod view;

pub use described::{Described, SETTINGS};
pub use error::Error;
pub use file::{File, FlyFile};
pub use fly::{Fly, SecretsBy, Where};
pub use known::{KNOWN, Known, Reader};
pub use layers::{CONFIG_FILE, DOT_ENV, Layers, Places};
pub use view::{Line, view};

use std::{collections::BTreeSet, fmt, net::SocketAddr, path::PathBuf};

use secrecy::SecretString;

use read::{
    listen, names, read_admins, read_agent, read_chat, read_log, read_log_format, read_max_sprites,
    read_roots, read_specs, read_store, read_tls_names, settle,
};

/// The port where no other is named; the original's.
pub const DEFAULT_PORT: u16 = 8080;
/// The directory with desired state where no other is named.
pub const DEFAULT_SPECS: &str = "specs";
/// The fewest sprites that a machine may run where nothing is said.
const FEWEST_SPRITES: usize = 4;

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
