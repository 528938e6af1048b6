//! How the CLI is started: arguments and environment.

use std::ffi::OsString;

use serde_json::json;

use super::permission;
use crate::{process::Launch, wire::RunSpec};

/// Keeps the CLI from looking for updates and from sending statistics. A person's own setting
/// goes before it.
const QUIET: &str = "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC";
/// By this the CLI thinks that it runs inside another one, and refuses.
const NESTED: &str = "CLAUDECODE";

/// What to start for a run, with this session resumed. The environment is the spec's and nothing
/// else.
pub(super) fn launch(
    spec: &RunSpec,
    path: Option<&str>,
    model: Option<&str>,
    instructions: Option<&str>,
    session: Option<&str>,
) -> Launch {
    let mut args: Vec<OsString> = [
        "-p",
        "--input-format",
        "stream-json",
        "--output-format",
        "stream-json",
        "--verbose",
        "--include-partial-messages",
        "--permission-prompt-tool",
        "stdio",
        "--permission-mode",
        permission::cli_mode(spec.permissions.mode),
    ]
    .map(OsString::from)
    .into();
    let mut option = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            args.extend([OsString::from(name), OsString::from(value)]);
        }
    };
    option("--model", model);
    option("--append-system-prompt", instructions);
    option("--resume", session);
    if !spec.permissions.allow.is_empty() {
        // As settings, since a list on the command line is split at blanks and commas.
        let settings = json!({"permissions": {"allow": spec.permissions.allow}});
        option("--settings", Some(&settings.to_string()));
    }
    let mut env: Vec<(OsString, OsString)> = spec
        .env
        .iter()
        .filter(|variable| variable.name != NESTED)
        .map(|variable| ((&variable.name).into(), (&variable.value).into()))
        .collect();
    if !spec.env.iter().any(|variable| variable.name == QUIET) {
        env.push((QUIET.into(), "1".into()));
    }
    Launch {
        program: path.unwrap_or("claude").into(),
        args,
        env,
        workdir: spec.workdir.clone().into(),
        hide: spec.hide.iter().map(Into::into).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AgentSpec, EnvVar, PermissionMode, Permissions};

    fn spec() -> RunSpec {
        RunSpec {
            job_id: "uid".into(),
            run: 1,
            installation: "here".into(),
            server: None,
            endpoint_file: None,
            agent: AgentSpec::Claude { path: None, model: None, instructions: None },
            task: None,
            workdir: "/work".into(),
            repo: None,
            permissions: Permissions::default(),
            env: vec![EnvVar { name: "PATH".into(), value: "/bin".into(), secret: false }],
            timeout_ms: None,
            idle_timeout_ms: None,
            session: None,
            hide: Vec::new(),
            worktree: None,
            sandbox: None,
            attachments: None,
            artifacts: None,
        }
    }

    fn line(launch: &Launch) -> String {
        let args: Vec<_> = launch.args.iter().map(|arg| arg.to_string_lossy()).collect();
        format!("{} {}", launch.program.to_string_lossy(), args.join(" "))
    }

    #[test]
    fn a_plain_run_uses_the_clis_own_defaults() {
        let launch = launch(&spec(), None, None, None, None);
        insta::assert_snapshot!(line(&launch));
        let env: Vec<_> = launch.env.iter().map(|(name, _)| name.to_string_lossy()).collect();
        assert_eq!(env, ["PATH", QUIET]);
    }

    #[test]
    fn every_wish_becomes_an_option() {
        let mut spec = spec();
        spec.permissions = Permissions {
            mode: PermissionMode::AcceptEdits,
            allow: vec!["Bash(cargo test:*)".into(), "Read".into()],
        };
        let launch =
            launch(&spec, Some("/opt/claude"), Some("opus"), Some("Be brief."), Some("0b6c"));
        insta::assert_snapshot!(line(&launch));
    }

    #[test]
    fn a_persons_own_setting_goes_before_ours_and_a_nested_mark_is_dropped() {
        let mut spec = spec();
        for (name, value) in [(QUIET, "0"), (NESTED, "1")] {
            spec.env.push(EnvVar { name: name.into(), value: value.into(), secret: false });
        }
        let env = launch(&spec, None, None, None, None).env;
        assert_eq!(env.iter().filter(|(name, _)| name == QUIET).count(), 1);
        assert!(!env.iter().any(|(name, _)| name == NESTED));
    }
}
