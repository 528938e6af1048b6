//! What each value is read from: pure functions of a text and of the place that it comes from.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use super::{Chat, DEFAULT_PORT, Error, Flags, Layers, LogFormat, Setting, Source};
use crate::resource::resolve::agent_named;

/// Reads what was said, if something was.
pub(super) fn settle<T>(
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
pub(super) fn listen(flags: &Flags, layers: &Layers) -> Result<Setting<SocketAddr>, Error> {
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

pub(super) fn read_port(text: &str, place: &str) -> Result<u16, Error> {
    text.parse().map_err(|_| Error::Unreadable {
        place: place.to_owned(),
        value: text.to_owned(),
        what: "port",
        mend: "write a number from 0 to 65535",
    })
}

/// Reads `ADDRESS:PORT`, `ADDRESS`, `PORT` or `:PORT`; `localhost` is 127.0.0.1.
pub(super) fn read_listen(text: &str, place: &str, port: Option<u16>) -> Result<SocketAddr, Error> {
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
pub(super) fn read_tls_names(text: &str, place: &str) -> Result<Vec<String>, Error> {
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

pub(super) fn read_roots(text: &str, place: &str) -> Result<Vec<PathBuf>, Error> {
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
pub(super) fn read_specs(text: &str) -> Vec<PathBuf> {
    if text.trim() == "none" {
        return Vec::new();
    }
    text.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect()
}

pub(super) fn read_agent(text: &str, place: &str) -> Result<Option<String>, Error> {
    let name = text.trim();
    match agent_named(name) {
        Ok(_) => Ok(Some(name.to_owned())),
        Err(why) => Err(Error::NoAgent { place: place.to_owned(), why }),
    }
}

/// Reads people with commas between, each by a platform and its own id of them.
pub(super) fn read_admins(text: &str, place: &str) -> Result<Vec<String>, Error> {
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
pub(super) fn read_chat(text: &str, place: &str) -> Result<BTreeSet<Chat>, Error> {
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

pub(super) fn read_max_sprites(text: &str, place: &str) -> Result<usize, Error> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| Error::Unreadable {
        place: place.to_owned(),
        value: text.to_owned(),
        what: "number of sprites",
        mend: "write a whole number from 1",
    })
}

/// A log filter is read by what logs; but a bare word that is no level would name a part of a
/// program that there is not, and silence everything.
pub(super) fn read_log(text: &str, place: &str) -> Result<String, Error> {
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

pub(super) fn read_log_format(text: &str, place: &str) -> Result<LogFormat, Error> {
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

pub(super) fn read_store(text: &str, place: &str) -> Result<Option<PathBuf>, Error> {
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

pub(super) fn names(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
