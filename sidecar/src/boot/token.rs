//! Becoming oneself again without the token: same process, same program, another environment.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
};

use serde::{Deserialize, Serialize};

use super::{MACHINE, heritage::Heritage};
use crate::{cli::PROGRAM, wire::JOB_ID_VARIABLE};

/// The most bytes of what is handed over; a pipe holds more.
const MOST_BYTES: u64 = 8 * 1024;

/// What is handed over. The sprite's uid is among it because it marks the processes of the
/// agent's tree, and the reporter is none of them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Handed {
    job_id: String,
    token: String,
}

/// Calls this program again under this process's number, without the token in its environment.
/// Comes back only with what kept it from that.
pub(super) fn follow_self(heritage: &Heritage) -> io::Error {
    match follow(heritage) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn follow(heritage: &Heritage) -> io::Result<std::convert::Infallible> {
    let handed = Handed {
        job_id: heritage.value(JOB_ID_VARIABLE).unwrap_or_default().to_owned(),
        token: heritage.value("JOB_TOKEN").unwrap_or_default().to_owned(),
    };
    let bytes = serde_json::to_vec(&handed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("JOB_ID and JOB_TOKEN are longer than any that is given"));
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    File::from(write).write_all(&bytes)?;
    let program = if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe()?
    };
    let taken = [JOB_ID_VARIABLE, "JOB_TOKEN"].map(OsString::from);
    let kept = std::env::vars_os().filter(|(name, _)| !taken.contains(name));
    Err(Command::new(program).arg0(PROGRAM).arg(MACHINE).env_clear().envs(kept).stdin(read).exec())
}

/// Takes what was handed over, and lets go of standard input.
///
/// # Errors
/// That nothing was.
pub(super) fn take() -> io::Result<(String, String)> {
    let mut bytes = Vec::new();
    io::stdin().take(MOST_BYTES).read_to_end(&mut bytes)?;
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let Handed { job_id, token } = serde_json::from_slice(&bytes)?;
    Ok((job_id, token))
}
