//! Where the work of an Agent in a machine may lie: of that machine its volume alone is kept.
//!
//! This is judged of new Agents, and where an Agent's variables or its runtime change: one that was taken
//! before there was this rule can still be stopped and edited.

use std::path::{Component, Path};

use super::super::{Agent, Fault, Faults, RuntimeSpec, fault::quoted};

/// Where the volume is mounted.
const VOLUME: &str = "/data";

/// Whether an Agent's work outlives its sleep.
///
/// # Errors
/// Each `WORKDIR` that lies elsewhere.
pub(in crate::resource) fn work_is_kept(agent: &Agent) -> Result<(), Faults> {
    let RuntimeSpec::Fly(fly) = &agent.spec.runtime else { return Ok(()) };
    if fly.persistent == Some(false) {
        return Ok(());
    }
    let is_lost = |path: &&str| !is_on_the_volume(path);
    let faults: Vec<Fault> = agent
        .spec
        .env
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.name == "WORKDIR")
        .filter_map(|(n, entry)| Some((n, entry.value.as_deref().filter(is_lost)?)))
        .map(|(n, path)| {
            let message = format!(
                "{} is not on the agent's volume, and would be lost with each sleep; name a directory \
                 below {VOLUME}/ (without `.` and `..`), or write `persistent: false` below runtime.fly",
                quoted(path)
            );
            Fault::new(format!("spec.env[{n}].value"), message)
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

/// As it is written: what a link in the machine leads to is not known here.
fn is_on_the_volume(path: &str) -> bool {
    let Ok(rest) = Path::new(path).strip_prefix(VOLUME) else { return false };
    // `Path` passes over a dot in the middle; whoever reads the variable may not.
    let plain = !path.split('/').any(|part| part == "." || part == "..");
    plain && rest.components().next().is_some_and(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_path_below_the_volume_is_kept() {
        for kept in ["/data/work", "/data/a/b/", "/data//work", "/data/..a"] {
            assert!(is_on_the_volume(kept), "{kept}");
        }
        for lost in [
            "/data",
            "/data/",
            "/database",
            "/workspace",
            "data/x",
            "/data/../workspace",
            "/data/.",
            "/data/x/../../etc",
            "/data/..",
            "",
            "/",
        ] {
            assert!(!is_on_the_volume(lost), "{lost}");
        }
    }
}
