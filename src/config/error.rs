//! Why the settings cannot be used: each fault names its place and the mend.

use std::path::PathBuf;

use crate::resource::resolve::NoAgent;

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
