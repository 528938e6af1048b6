//! The processes of a machine: the first one, its group, what descends from it, and what carries
//! its marker in the environment. A machine that ends takes all of them with it, as a virtual
//! machine does.

use std::{collections::BTreeSet, time::Duration};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How often it is looked for what is left, and how long between: two seconds in all.
const ROUNDS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Signals a process group and all else that belongs to it.
pub(super) fn signal_all(group: i32, marker: &str, signal: Signal) {
    if let Some(pid) = Pid::from_raw(group) {
        // Nobody there is fine.
        let _ = kill_process_group(pid, signal);
    }
    for pid in members(&[group], marker).into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Kills all that belongs to a machine; returns when none is left, or time is over.
pub(super) fn kill(group: i32, marker: &str) {
    end(&[group], marker);
}

/// Kills what is left of machines of a fake that is gone; how many processes there were.
pub(super) fn kill_left(groups: &[i32], marker: &str) -> usize {
    // A group is only ours where a member of it says so: numbers are given out again.
    let marked = platform::marked(marker);
    let ours: Vec<i32> = groups
        .iter()
        .copied()
        .filter(|group| platform::group(*group).iter().any(|pid| marked.contains(pid)))
        .collect();
    end(&ours, marker)
}

fn members(groups: &[i32], marker: &str) -> BTreeSet<i32> {
    let mut all = platform::marked(marker);
    for group in groups {
        all.extend(platform::group(*group));
    }
    platform::with_descendants(all)
}

#[expect(
    clippy::disallowed_methods,
    reason = "processes die by the computer's clock, and this thread may block"
)]
fn end(groups: &[i32], marker: &str) -> usize {
    let mut seen = BTreeSet::new();
    for _ in 0..ROUNDS {
        let left = members(groups, marker);
        for group in groups.iter().filter_map(|group| Pid::from_raw(*group)) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        if left.is_empty() {
            break;
        }
        for pid in left.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        seen.extend(left);
        std::thread::sleep(PAUSE);
    }
    seen.len()
}

#[cfg(target_os = "linux")]
mod platform {
    use std::{collections::BTreeSet, fs};

    use super::super::files::MARKER;

    fn pids() -> impl Iterator<Item = i32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    }

    /// Parent and group of a process that lives.
    fn stat(pid: i32) -> Option<(i32, i32)> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let mut rest = text.rsplit_once(')')?.1.split_whitespace();
        if matches!(rest.next()?, "Z" | "X") {
            return None;
        }
        Some((rest.next()?.parse().ok()?, rest.next()?.parse().ok()?))
    }

    /// The processes whose marker begins so.
    pub(super) fn marked(marker: &str) -> BTreeSet<i32> {
        let wanted = format!("{MARKER}={marker}");
        let own = i32::try_from(std::process::id()).unwrap_or_default();
        let is_marked = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|it| it.starts_with(wanted.as_bytes()))
                && stat(*pid).is_some()
        };
        pids().filter(|pid| *pid != own).filter(is_marked).collect()
    }

    pub(super) fn group(group: i32) -> BTreeSet<i32> {
        pids().filter(|pid| stat(*pid).is_some_and(|(_, its)| its == group)).collect()
    }

    pub(super) fn with_descendants(mut all: BTreeSet<i32>) -> BTreeSet<i32> {
        let parents: Vec<(i32, i32)> = pids().filter_map(|pid| Some((pid, stat(pid)?.0))).collect();
        loop {
            let more: Vec<i32> = parents
                .iter()
                .filter(|(pid, parent)| all.contains(parent) && !all.contains(pid))
                .map(|(pid, _)| *pid)
                .collect();
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }
}

/// Elsewhere the group is all that is known of a machine's processes.
#[cfg(not(target_os = "linux"))]
mod platform {
    use std::collections::BTreeSet;

    pub(super) fn marked(_marker: &str) -> BTreeSet<i32> {
        BTreeSet::new()
    }

    pub(super) fn group(_group: i32) -> BTreeSet<i32> {
        BTreeSet::new()
    }

    pub(super) fn with_descendants(all: BTreeSet<i32>) -> BTreeSet<i32> {
        all
    }
}
