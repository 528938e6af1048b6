//! What is answered to a command that cannot be done.

use crate::resource::{Fault, Faults, Kind, resolve::NoAgent};

/// Which command the faults of an object are told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chat) enum Asked {
    /// `/od-run`
    Run,
    /// `/od-start`
    Start,
    /// `/od-schedule`
    Schedule,
    /// `/od-set`
    Set,
}

/// An object that cannot be made or changed, with every fault.
pub(in crate::chat) fn faults(asked: Asked, faults: &Faults) -> String {
    let lines: Vec<String> = faults.0.iter().map(|fault| fault_line(asked, fault)).collect();
    let nothing = match asked {
        Asked::Run => "Nothing was run",
        Asked::Start => "Nothing was started",
        Asked::Schedule => "Nothing was scheduled",
        Asked::Set => "Nothing was changed",
    };
    format!("{nothing}: {}", lines.join("; "))
}

fn fault_line(asked: Asked, fault: &Fault) -> String {
    let path = fault.path.strip_prefix("spec.").unwrap_or(&fault.path);
    match flag_of(asked, &fault.path) {
        Some(flag) => format!("{flag} {}", fault.message),
        None if path.is_empty() => fault.message.clone(),
        None => format!("{path} {}", fault.message),
    }
}

/// The flag that a field came from.
fn flag_of(asked: Asked, path: &str) -> Option<&'static str> {
    if asked == Asked::Set {
        return None;
    }
    let (name, place, timeout) = match asked {
        Asked::Run | Asked::Schedule => ("--name", "--workdir", "spec.timeout"),
        _ => ("the name", "the path", "spec.turnTimeout"),
    };
    [
        ("metadata.name", name),
        ("spec.repo.branch", "--branch"),
        ("spec.repo", "--repo"),
        ("spec.runtime.local.workdir", place),
        ("spec.runtime.local.isolation", "--isolation"),
        ("spec.runtime.fly.image", "--image:"),
        ("spec.runtime.fly", "--runtime fly"),
        (timeout, "--timeout"),
        ("spec.permissions", "--permissions"),
        ("spec.instructions", "--instructions"),
        ("spec.agent", "--agent"),
        ("spec.task", "the task"),
    ]
    .into_iter()
    .find(|(field, _)| path.starts_with(field))
    .map(|(_, flag)| flag)
}

/// Flags that cannot become a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::chat) enum BadSpec {
    #[error("--agent: {0}")]
    NoAgent(#[from] NoAgent),
    #[error(
        "--agent is needed: no claude, opencode or codex-acp is on the server's PATH; install \
         one there, or set SPRITE_AGENT_TYPE"
    )]
    NothingFound,
    #[error("--model means nothing to the agent `command`; leave it out, or add --agent claude")]
    NoModel,
    #[error("--branch needs --repo, which says of what it is a branch")]
    BranchAlone,
    #[error("{0}: `{1}` leads out of the home directory; give the whole path, from /")]
    Outside(&'static str, String),
}

/// Nobody has the name that was said; `kinds` says what was looked for.
pub(in crate::chat) fn nobody_named(
    kind: Option<Kind>,
    name: &str,
    nearest: Option<&str>,
) -> String {
    let (what, mend) = match kind {
        Some(Kind::Agent) => {
            ("agent", format!("/od-start {name} starts one, /od-list lists those that there are"))
        }
        Some(Kind::Schedule) => ("schedule", "/od-schedule lists them".to_owned()),
        Some(Kind::Fleet) => ("fleet", "/od-export shows those that there are".to_owned()),
        Some(_) => ("job", "/od-jobs lists the last ones".to_owned()),
        None => ("agent and no job", "/od-list and /od-jobs list them".to_owned()),
    };
    match nearest {
        Some(nearest) => format!("There is no {what} {name}; did you mean {nearest}?"),
        None => format!("There is no {what} {name}; {mend}"),
    }
}

/// A command for agents and jobs was given something else.
pub(in crate::chat) fn takes_agents_and_jobs(kind: Kind, name: &str) -> String {
    format!(
        "{}/{name}: that command takes agents and jobs. /od-set, /od-diff and /od-export take fleets and \
         schedules too, /od-scale fleets, and /od-schedule schedules",
        kind.singular()
    )
}

/// A command for agents alone was given a job.
pub(in crate::chat) fn not_an_agent(name: &str, mend: &str) -> String {
    format!("{name} is a job and no agent; {mend}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_well() {
        let fault = |path: &str| Fault::new(path, "is wrong; write another");
        let all = Faults(
            [
                "",
                "metadata.name",
                "spec.repo.branch",
                "spec.repo.url",
                "spec.timeout",
                "spec.turnTimeout",
                "spec.runtime.local.workdir",
                "spec.runtime.fly",
                "spec.runtime.fly.image",
                "spec.agent",
                "spec.task",
                "spec.env[0]",
            ]
            .map(fault)
            .to_vec(),
        );
        let mut told: Vec<String> =
            [Asked::Run, Asked::Start, Asked::Set].map(|asked| faults(asked, &all)).to_vec();
        let bad = [
            BadSpec::NoAgent(NoAgent::Unknown("clod".into())),
            BadSpec::NoAgent(NoAgent::NeedsCommand),
            BadSpec::NothingFound,
            BadSpec::NoModel,
            BadSpec::BranchAlone,
            BadSpec::Outside("--workdir", "../x".into()),
        ];
        told.extend(bad.iter().map(ToString::to_string));
        for kind in [None, Some(Kind::Agent), Some(Kind::Job)] {
            told.push(nobody_named(kind, "lat", Some("late")));
            told.push(nobody_named(kind, "x", None));
        }
        told.push(not_an_agent("run-x", "/od-cancel run-x ends it"));
        insta::assert_snapshot!(told.join("\n-----\n"));
    }
}
