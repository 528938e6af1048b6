//! Starting, watching and killing a process tree. What differs between platforms sits in twins
//! with the same items: `linux.rs` (tested) and `macos.rs` (less containment, and says so).

use std::{ffi::OsString, io, path::PathBuf};

use tokio::process::{Child, Command};

/// What to start: a program with the agent's whole environment.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program: a path, or a name to be found on the `PATH` of `env`.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its work directory.
    pub workdir: PathBuf,
    /// Directories to hide from it, where the kernel lets us.
    pub hide: Vec<PathBuf>,
}

/// Starts the agent in a session of its own, with pipes on all three standard streams.
///
/// # Errors
/// What kept it from starting, such as a missing binary or work directory.
pub fn start(launch: &Launch) -> io::Result<Child> {
    Command::new(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().cloned())
        .current_dir(&launch.workdir)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
}
