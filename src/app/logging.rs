//! The log: to standard error, or to a file while a person uses the terminal.

use std::{fs, io, path::Path, sync::Mutex};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use super::{Error, damp::Damped};
use crate::config::{Config, LogFormat};

/// A log file that is larger when the server starts is put aside.
const LARGEST: u64 = 10 * 1024 * 1024;

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTo {
    /// Standard error.
    Stderr,
    /// The file `server.log` in the data directory.
    File,
}

/// Lets the log go where it shall. Whoever comes second in a process changes nothing.
pub(super) fn start(config: &Config, to: LogTo, file: &Path) -> Result<(), Error> {
    let filter =
        EnvFilter::try_new(filter_text(&config.log.value)).map_err(|error| Error::LogFilter {
            place: config.log.source.to_string(),
            filter: config.log.value.clone(),
            why: error.to_string(),
        })?;
    match to {
        LogTo::Stderr => install(filter, config.log_format.value, io::stderr, true),
        LogTo::File => {
            let failed = |source| Error::File { path: file.to_path_buf(), source };
            let large = fs::metadata(file).is_ok_and(|found| found.len() > LARGEST);
            if large {
                fs::rename(file, file.with_extension("log.1")).map_err(failed)?;
            }
            let writer =
                fs::OpenOptions::new().create(true).append(true).open(file).map_err(failed)?;
            install(filter, config.log_format.value, Mutex::new(writer), false);
        }
    }
    Ok(())
}

/// The filter, with what would log secrets switched off. The client of Slack writes the addresses
/// of sockets, which open them, and whole frames; that of Discord whole events that it cannot
/// read, with the tokens that answer them. Whoever names one of them means it.
fn filter_text(said: &str) -> String {
    let silent = |name: &&str| !said.contains(*name);
    let silenced = ["slack_morphism", "serenity"].into_iter().filter(silent);
    silenced.fold(said.to_owned(), |filter, name| format!("{filter},{name}=off"))
}

fn install<W>(filter: EnvFilter, format: LogFormat, writer: W, colours: bool)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let colours = colours && io::IsTerminal::is_terminal(&io::stderr());
    let _ = match format {
        LogFormat::Text => {
            let damped = |format| Damped::new(format, false);
            builder.with_ansi(colours).map_event_format(damped).try_init()
        }
        LogFormat::Json => {
            let damped = |format| Damped::new(format, true);
            builder.json().flatten_event(true).map_event_format(damped).try_init()
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_log_secrets_is_off_unless_it_is_named() {
        for (said, used) in [
            ("info", "info,slack_morphism=off,serenity=off"),
            (
                "trace,open_dispatch=debug",
                "trace,open_dispatch=debug,slack_morphism=off,serenity=off",
            ),
            ("slack_morphism=debug", "slack_morphism=debug,serenity=off"),
            ("serenity::gateway=warn", "serenity::gateway=warn,slack_morphism=off"),
            ("", ",slack_morphism=off,serenity=off"),
        ] {
            assert_eq!(filter_text(said), used);
            EnvFilter::try_new(used).unwrap();
        }
    }
}
