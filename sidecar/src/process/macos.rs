//! macOS: builds and runs, with less containment, and says so. There is no subreaper, no
//! control group, no mount namespace and no environment of others to read: the tree is
//! the reporter's descendants and the sessions that they lead.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal};

use super::Entry;
use crate::ambient;

pub(super) fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Asks a program of the system, whose answer is text.
fn ask(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn boot_id() -> io::Result<String> {
    Ok(ask("/usr/sbin/sysctl", &["-n", "kern.bootsessionuuid"])?.trim().to_owned())
}

/// When a process started, in seconds; none if it is gone or a zombie.
pub(super) fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let line = ask("/bin/ps", &["-o", "stat=,lstart=", "-p", &pid.to_string()])?;
    let line = line.trim();
    if line.is_empty() || line.starts_with('Z') {
        return Ok(None);
    }
    let started = line.split_once(' ').map_or("", |(_, started)| started.trim());
    // The text is as good as a number: the same process always gives the same one.
    Ok(Some(started.bytes().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })))
}

pub(super) fn processes() -> io::Result<Vec<Entry>> {
    let table = ask("/bin/ps", &["-axo", "pid=,ppid=,pgid=,stat="])?;
    Ok(table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let pid: u32 = fields.next()?.parse().ok()?;
            let parent = fields.next()?.parse().ok()?;
            let leads = fields.next()?.parse() == Ok(pid);
            (!fields.next()?.starts_with('Z')).then_some(Entry { pid, parent, leads })
        })
        .collect())
}

/// Whether a process was started with this variable, as far as `ps` may show it.
pub(super) fn carries(pid: u32, name: &str, value: &str) -> bool {
    ask("/bin/ps", &["-Eww", "-o", "command=", "-p", &pid.to_string()])
        .is_ok_and(|line| line.split_whitespace().any(|word| word == format!("{name}={value}")))
}

pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A number only: it is verified before each use.
#[derive(Debug)]
pub(super) struct Handle(u32, Option<u64>);

impl Handle {
    pub(super) fn open(pid: u32) -> io::Result<Option<Self>> {
        let start = start_time(pid)?;
        Ok(start.map(|start| Self(pid, Some(start))))
    }

    pub(super) fn signal(&self, with: Signal) -> io::Result<()> {
        if start_time(self.0)? == self.1 {
            signal(self.0, with);
        }
        Ok(())
    }

    pub(super) async fn ended(self) -> io::Result<()> {
        while start_time(self.0)? == self.1 {
            ambient::sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    }
}

pub(super) fn adopt_orphans() -> Result<(), String> {
    Err("macOS has no subreaper: orphans of the agent are found by their marker alone".into())
}

pub(super) fn forbid_dumps() -> Result<(), String> {
    Ok(())
}

pub(super) fn reap_orphans(_: &[u32]) {}

pub(super) fn make_cgroup(_: &str) -> Result<PathBuf, String> {
    Err("macOS has no control groups".into())
}

pub(super) fn enter_cgroup(_: &Path) {}

pub(super) fn cgroup_members(_: &Path) -> Vec<u32> {
    Vec::new()
}

pub(super) fn kill_cgroup(_: &Path) {}

pub(super) fn remove_cgroup(_: &Path) {}

pub(super) fn reset_signals() {
    for signal in 1..=31 {
        #[expect(unsafe_code, reason = "the C library has no safe way to say this")]
        // SAFETY: the default disposition runs no code of ours, and a signal that cannot be
        // changed answers with an error that changes nothing. The process has one thread.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Closes all but the three standard streams when this process becomes another.
pub(super) fn seal_descriptors() {
    for number in 3..256 {
        #[expect(unsafe_code, reason = "the C library has no safe way to say this")]
        // SAFETY: nothing is closed now, and no descriptor changes its meaning. A number that
        // is none answers with an error that changes nothing.
        unsafe {
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

pub(super) fn hide(_: &[PathBuf], _: &Path, _: &[PathBuf]) -> Result<(), String> {
    Err("macOS has no mount namespaces".into())
}

pub(super) fn sandbox_holds() -> Result<String, String> {
    Err("macOS has no sandbox that we know to use; choose another isolation".into())
}

pub(super) fn enclose(_: &super::Sandbox) -> Result<(), String> {
    sandbox_holds().map(drop)
}
