//! Why a command failed, and with which exit code it says so.

use std::{io, path::PathBuf};

use crate::{config, resource::Kind};

/// Exit code: the command failed.
pub const FAILED: u8 = 1;
/// Exit code: the command line was wrong.
pub const USAGE: u8 = 2;
/// Exit code: nobody reads our standard output any more, as a shell names it (128 + SIGPIPE).
pub const PIPE_CLOSED: u8 = 141;

/// Why a command failed. The text is one line, save for lists of faults.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The words do not fit together.
    #[error("{0}")]
    Usage(String),
    /// A word that names no kind.
    #[error("there is no kind `{0}`; the kinds are {kinds}", kinds = kinds())]
    NoSuchKind(String),
    /// A word that stands where a kind is to stand, and may have been meant as a job's name.
    #[error(
        "there is no kind `{0}`; the kinds are {kinds}. For the job of that name write job/{0}",
        kinds = kinds()
    )]
    NoSuchKindOrJob(String),
    /// The settings cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// No server was ever started on this data directory, or it was stopped.
    #[error(
        "no server is running on {}; start one with: open-dispatch serve{}",
        data.display(),
        serve_flag(data)
    )]
    NotRunning {
        /// The data directory.
        data: PathBuf,
    },
    /// The address is known, and nobody answers there.
    #[error("no server answers at {url} ({why}); {mend}")]
    Unreachable {
        /// The address.
        url: String,
        /// What the connection failed of.
        why: String,
        /// How to mend it.
        mend: String,
    },
    /// Somebody takes connections there, and says nothing.
    #[error(
        "the server at {url} has not answered for {seconds} s; see the log of the server, and \
         start it anew if it hangs"
    )]
    Silent {
        /// The address.
        url: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The connection broke before the answer was whole.
    #[error("the connection to the server broke: {0}")]
    Broken(String),
    /// An address that is none.
    #[error("--server is `{0}`, which is no address; write http://HOST:PORT")]
    BadServer(String),
    /// `--server` without a token.
    #[error(
        "--server needs the server's token in OPEN_DISPATCH_TOKEN; it stands in the file `token` \
         of the server's data directory"
    )]
    NoToken,
    /// The server refused.
    #[error("Error from server ({reason}): {message}")]
    Api {
        /// The HTTP status.
        code: u16,
        /// The reason, in one CamelCase word.
        reason: String,
        /// The message; with causes, one line each.
        message: String,
    },
    /// Files that cannot be applied; every fault stands on a line of its own.
    #[error("{0}")]
    Faults(String),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The terminal or its streams failed.
    #[error("the terminal cannot be used: {0}")]
    Terminal(String),
    /// The server could not be brought up.
    #[error("{0}")]
    Serve(String),
    /// Some of several objects failed; each was told already.
    #[error("")]
    Told,
    /// Nobody reads our standard output any more.
    #[error("")]
    PipeClosed,
    /// Standard output cannot be written.
    #[error("standard output cannot be written: {0}")]
    Output(io::Error),
}

impl Error {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Config(_) | Self::BadServer(_) | Self::NoToken => USAGE,
            Self::PipeClosed => PIPE_CLOSED,
            _ => FAILED,
        }
    }

    /// Whether trying again may help: the server is away, or the connection broke.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::NotRunning { .. }
            | Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Broken(_) => true,
            Self::Api { code, .. } => matches!(code, 502..=504),
            _ => false,
        }
    }

    /// Whether the server said that there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { code: 404, .. })
    }

    /// The line for standard error; nothing where all was told.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        match self {
            Self::Told | Self::PipeClosed => None,
            Self::Api { .. } | Self::Faults(_) => Some(self.to_string()),
            _ => Some(format!("error: {self}")),
        }
    }
}

fn kinds() -> String {
    Kind::ALL.map(Kind::plural).join(", ")
}

/// The flag that makes `serve` use this directory, where it is not the default.
fn serve_flag(data: &std::path::Path) -> String {
    let default = config::data_dir(None, |name| std::env::var(name).ok());
    match default {
        Ok(setting) if setting.value == data => String::new(),
        _ => format!(" --data {}", data.display()),
    }
}
