//! `/od-run`: flags, then the task, which is the rest of the line byte for byte.

use super::{
    Flags, Refusal, Verb,
    flags::{is_double, once, take_flag, take_value},
};

/// The flags of a run, in the order in which help shows them.
pub const RUN_FLAGS: [&str; 13] = [
    "--name",
    "--agent",
    "--model",
    "--workdir",
    "--repo",
    "--branch",
    "--runtime",
    "--image",
    "--persistent",
    "--timeout",
    "--permissions",
    "--isolation",
    "--instructions",
];

/// The arguments of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// The job's name.
    pub name: Option<String>,
    /// Where to work.
    pub workdir: Option<String>,
    /// All else that flags say.
    pub flags: Flags,
    /// The task, byte for byte.
    pub task: String,
}

pub(super) fn run(rest: &str) -> Result<Run, Refusal> {
    let mut run = Run::default();
    let mut rest = rest.trim_start();
    while let Some((flag, behind)) = take_flag(Verb::Run, &RUN_FLAGS, rest)? {
        let Some(flag) = flag else {
            // `--`: the flags end here.
            rest = behind.trim_start();
            break;
        };
        let (value, behind) = take_value(flag, behind)?;
        match flag {
            "--name" => once(&mut run.name, flag, value)?,
            "--workdir" => once(&mut run.workdir, flag, value)?,
            _ => run.flags.set(flag, value)?,
        }
        rest = behind.trim_start();
    }
    run.task = unquoted(rest).to_owned();
    if run.task.trim().is_empty() {
        return Err(Refusal::NoTask);
    }
    Ok(run)
}

/// A task that is one quoted string as a whole (`"run the tests"`) loses its quotes; any other
/// stays as it is, so that `echo "a b"` reaches the shell unharmed.
pub(super) fn unquoted(task: &str) -> &str {
    let whole = task.trim_end();
    for (open, close) in [('"', '"'), ('\u{201C}', '\u{201D}'), ('\u{201E}', '\u{201C}')] {
        let inside = whole.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(inside) = inside
            && !inside.contains(is_double)
            && !inside.trim().is_empty()
        {
            return inside;
        }
    }
    task
}
