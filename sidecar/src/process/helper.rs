//! The helper: what stands between the fork and the agent.
//!
//! It is this program, called again with [`SUBCOMMAND`]. It does what can be done
//! only from within the new process, says on a pipe what did not work, and becomes the agent.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write as _,
    os::fd::RawFd,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use super::{Enclosure, Sandbox, platform};

/// The name by which the helper is called, so that a binary that is more than a reporter knows.
pub const PROGRAM: &str = "sprite-reporter";
/// The first argument of a helper.
pub const SUBCOMMAND: &str = "agent";
/// How a line begins that says why directories could not be hidden.
pub(super) const VISIBLE: &str = "visible ";
/// How a line begins that says why the agent could not be started.
pub(super) const FAILED: &str = "failed ";

/// The arguments that tell the helper what to do, before `--` and the agent's own.
pub(super) fn arguments(
    pipe: RawFd,
    cgroup: Option<&Path>,
    hide: &[PathBuf],
    workdir: &Path,
    enclosure: &Enclosure,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![format!("--pipe={pipe}").into()];
    let mut push = |name: &str, path: &Path| {
        let mut argument = OsString::from(name);
        argument.push(path);
        arguments.push(argument);
    };
    if let Some(cgroup) = cgroup {
        push("--cgroup=", cgroup);
    }
    for path in hide {
        push("--hide=", path);
    }
    push("--workdir=", workdir);
    for path in &enclosure.keep {
        push("--keep=", path);
    }
    if let Some(sandbox) = &enclosure.sandbox {
        for path in &sandbox.read {
            push("--read=", path);
        }
        for path in &sandbox.write {
            push("--write=", path);
        }
        arguments.push("--sandbox".into());
    }
    arguments
}

/// What the helper was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    pipe: Option<RawFd>,
    cgroup: Option<PathBuf>,
    hide: Vec<PathBuf>,
    workdir: PathBuf,
    enclosure: Enclosure,
    /// The agent; empty for a mere probe.
    agent: Vec<OsString>,
}

impl Told {
    fn read(arguments: impl IntoIterator<Item = OsString>) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let mut told = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let bytes = argument.as_bytes();
            let value = |name: &str| {
                bytes
                    .strip_prefix(name.as_bytes())
                    .map(|rest| PathBuf::from(OsStr::from_bytes(rest)))
            };
            if bytes == b"--" {
                told.agent = arguments.collect();
                break;
            } else if let Some(pipe) = value("--pipe=") {
                told.pipe = pipe.to_str().and_then(|pipe| pipe.parse().ok());
            } else if let Some(cgroup) = value("--cgroup=") {
                told.cgroup = Some(cgroup);
            } else if let Some(path) = value("--hide=") {
                told.hide.push(path);
            } else if let Some(path) = value("--workdir=") {
                told.workdir = path;
            } else if let Some(path) = value("--keep=") {
                told.enclosure.keep.push(path);
            } else if let Some(path) = value("--read=") {
                told.sandbox().read.push(path);
            } else if let Some(path) = value("--write=") {
                told.sandbox().write.push(path);
            } else if bytes == b"--sandbox" {
                told.sandbox();
            }
        }
        told
    }

    fn sandbox(&mut self) -> &mut Sandbox {
        self.enclosure.sandbox.get_or_insert_default()
    }
}

/// Prepares the process and becomes the agent. Returns only if that fails, or for a probe.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let told = Told::read(arguments);
    let Some(mut pipe) = told.pipe.and_then(open_pipe) else {
        eprintln!("sprite-reporter: `{SUBCOMMAND}` is for the reporter's own use");
        return ExitCode::from(2);
    };
    // The only way to fail is to lead a session already.
    let _ = rustix::process::setsid();
    platform::reset_signals();
    if let Some(cgroup) = &told.cgroup {
        platform::enter_cgroup(cgroup);
    }
    if !told.hide.is_empty()
        && let Err(why) = platform::hide(&told.hide, &told.workdir, &told.enclosure.keep)
    {
        let _ = writeln!(pipe, "{VISIBLE}{why}");
    }
    // A sandbox that is none would be worse than none.
    if let Some(sandbox) = &told.enclosure.sandbox
        && let Err(why) = platform::enclose(sandbox)
    {
        let _ = writeln!(pipe, "{FAILED}the sandbox cannot be made: {why}");
        return ExitCode::from(127);
    }
    let Some((program, arguments)) = told.agent.split_first() else {
        return ExitCode::SUCCESS;
    };
    let error = Command::new(program).args(arguments).exec();
    let _ = writeln!(pipe, "{FAILED}{} could not be started: {error}", program.to_string_lossy());
    ExitCode::from(127)
}

/// Opens the pipe that was inherited, and lets it and all the others end here: the agent gets
/// its three streams and nothing else.
fn open_pipe(number: RawFd) -> Option<File> {
    let pipe = File::options().write(true).open(format!("/dev/fd/{number}")).ok()?;
    platform::seal_descriptors();
    Some(pipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_helper_hears_what_it_is_told() {
        let enclosure = Enclosure {
            keep: vec!["/data/k".into()],
            sandbox: Some(Sandbox { write: vec!["/w".into()], read: vec!["/usr".into()] }),
        };
        let mut told = arguments(
            7,
            Some(Path::new("/cg")),
            &["/data".into(), "/b=c".into()],
            Path::new("/w"),
            &enclosure,
        );
        told.extend(["--".into(), "sh".into(), "--hide=/no".into()]);
        assert_eq!(
            Told::read(told),
            Told {
                pipe: Some(7),
                cgroup: Some("/cg".into()),
                hide: vec!["/data".into(), "/b=c".into()],
                workdir: "/w".into(),
                enclosure,
                agent: vec!["sh".into(), "--hide=/no".into()],
            }
        );
    }
}
