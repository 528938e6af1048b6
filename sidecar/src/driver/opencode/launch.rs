//! How the server is started: arguments and environment.

use std::ffi::OsString;

use serde_json::{Map, Value, json};

use super::{login, permission, rules};
use crate::{
    process::Launch,
    wire::{PermissionMode, RunSpec},
};

/// The variable with the password that the server asks for. It comes by the environment, since a
/// command line is seen by everybody.
const PASSWORD: &str = "OPENCODE_SERVER_PASSWORD";
/// Whose name goes with it.
const USER: &str = "OPENCODE_SERVER_USERNAME";
/// Settings that OpenCode lays over those of its files.
const CONFIG: &str = "OPENCODE_CONFIG_CONTENT";
const PERMISSION: &str = "OPENCODE_PERMISSION";
/// Whether the model may ask questions.
const QUESTIONS: &str = "OPENCODE_ENABLE_QUESTION_TOOL";
/// What a program on nobody's screen does without, unless a person says otherwise.
const QUIET: [(&str, &str); 2] =
    [("OPENCODE_DISABLE_AUTOUPDATE", "1"), ("OPENCODE_EXPERIMENTAL_DISABLE_FILEWATCHER", "1")];
/// What an OpenCode says to the programs that it starts, ours not among them.
const NESTED: [&str; 2] = ["OPENCODE", "OPENCODE_PID"];
/// From how many MiB on the server is begun anew between turns.
const MEMORY: &str = "OPEN_DISPATCH_OPENCODE_MEMORY_MB";
const MEMORY_MIB: u64 = 1536;

/// What to start for a run. The environment is the spec's and nothing else.
pub(super) fn launch(spec: &RunSpec, path: Option<&str>, password: &str) -> Launch {
    let named = |name: &str| spec.env.iter().rev().find(|variable| variable.name == name);
    let mut set: Vec<(&str, String)> = vec![(PASSWORD, password.to_owned())];
    let config = named(CONFIG).map(|variable| variable.value.as_str());
    if let Some(config) = settings(config) {
        set.push((CONFIG, config));
    }
    if spec.permissions.mode != PermissionMode::Bypass {
        let own = named(PERMISSION).map(|variable| variable.value.as_str());
        set.push((PERMISSION, rules::variable(&permission::rules(&spec.permissions), own)));
    }
    if let Some(login) = login::by_environment(spec) {
        set.push((login::CONTENT, login));
    }
    let hears_questions = match spec.permissions.mode {
        PermissionMode::Bypass => false,
        PermissionMode::Plan => spec.task.is_none(),
        PermissionMode::Ask | PermissionMode::AcceptEdits => true,
    };
    let quiet = QUIET.into_iter().chain(hears_questions.then_some((QUESTIONS, "1")));
    for (name, value) in quiet {
        if named(name).is_none() {
            set.push((name, value.to_owned()));
        }
    }
    let is_ours = |name: &str| {
        name == USER || NESTED.contains(&name) || set.iter().any(|(ours, _)| *ours == name)
    };
    let env: Vec<(OsString, OsString)> = spec
        .env
        .iter()
        .filter(|variable| !is_ours(&variable.name))
        .map(|variable| ((&variable.name).into(), (&variable.value).into()))
        .chain(set.iter().map(|(name, value)| (name.into(), value.into())))
        .collect();
    Launch {
        program: path.unwrap_or("opencode").into(),
        // The kernel gives a port; the server says which.
        args: ["serve", "--hostname", "127.0.0.1", "--port", "0"].map(OsString::from).into(),
        env,
        workdir: spec.workdir.clone().into(),
        hide: spec.hide.iter().map(Into::into).collect(),
    }
}

/// Settings for a program on nobody's screen, below those of a person in the same variable; none
/// where those cannot be read, so that they stay what they are. What a person wrote is taken as
/// it was written: the order of rules counts.
fn settings(own: Option<&str>) -> Option<String> {
    // Snapshots are commits of the whole work directory at each step, and nobody could undo by
    // them here.
    let mut settings: Map<String, Value> =
        [("autoupdate", json!(false)), ("share", json!("disabled")), ("snapshot", json!(false))]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    let Some(own) = own.filter(|own| !own.trim().is_empty()) else {
        return Some(Value::Object(settings).to_string());
    };
    let named = serde_json::from_str::<Map<String, Value>>(own).ok()?;
    settings.retain(|name, _| !named.contains_key(name));
    let ours = Value::Object(settings).to_string();
    Some(rules::joined(rules::inside(&ours)?, rules::inside(own)?))
}

/// From how many bytes on the server is begun anew between turns.
pub(super) fn memory_limit(spec: &RunSpec) -> u64 {
    let named = spec.env.iter().rev().find(|variable| variable.name == MEMORY);
    let mib = named.and_then(|variable| variable.value.trim().parse().ok()).unwrap_or(MEMORY_MIB);
    mib.saturating_mul(1024 * 1024)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::{AgentSpec, EnvVar, Permissions};

    pub(in super::super) fn spec(env: &[(&str, &str)]) -> RunSpec {
        let variable = |&(name, value): &(&str, &str)| EnvVar {
            name: name.to_owned(),
            value: value.to_owned(),
            secret: false,
        };
        RunSpec {
            job_id: "uid".into(),
            run: 1,
            installation: "here".into(),
            server: None,
            endpoint_file: Some("/data/endpoint".into()),
            agent: AgentSpec::Opencode { path: None, model: None, instructions: None },
            task: None,
            workdir: "/work".into(),
            repo: None,
            permissions: Permissions::default(),
            env: env.iter().map(variable).collect(),
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

    fn told(launch: &Launch) -> String {
        let text = |text: &OsString| text.to_string_lossy().into_owned();
        let args: Vec<_> = launch.args.iter().map(text).collect();
        let mut lines = vec![format!("{} {}", text(&launch.program), args.join(" "))];
        let env = launch.env.iter().map(|(name, value)| format!("{}={}", text(name), text(value)));
        lines.extend(env);
        lines.join("\n")
    }

    #[test]
    fn a_plain_run_is_quiet_and_keeps_its_password_off_the_command_line() {
        insta::assert_snapshot!(told(&launch(&spec(&[("PATH", "/bin")]), None, "secret")));
    }

    #[test]
    fn a_persons_own_settings_go_before_ours_and_marks_of_another_server_are_dropped() {
        let own = [
            ("OPENCODE_CONFIG_CONTENT", r#"{"model":"a/b","share":"manual"}"#),
            ("OPENCODE_DISABLE_AUTOUPDATE", "0"),
            ("OPENCODE_SERVER_PASSWORD", "another"),
            ("OPENCODE_SERVER_USERNAME", "somebody"),
            ("OPENCODE_PID", "1"),
        ];
        let mut spec = spec(&own);
        spec.permissions.mode = PermissionMode::Ask;
        let mut told = told(&launch(&spec, Some("/opt/opencode"), "secret"));
        let rules = rules::variable(&permission::rules(&spec.permissions), None);
        told = told.replace(&rules, "RULES");
        insta::assert_snapshot!(told);
    }

    #[test]
    fn a_persons_own_rules_stay_in_their_order_and_go_before_ours() {
        let own = r#"{"permission":{"bash":{"git *":"allow","*":"deny"},"aa":"ask"}}"#;
        assert!(settings(Some(own)).unwrap().ends_with(&own[1..]));
        assert_eq!(settings(Some(" {} ")), settings(None));
        let mut spec = spec(&[("OPENCODE_PERMISSION", r#"{"bash":{"rm *":"deny"}}"#)]);
        spec.permissions.mode = PermissionMode::Ask;
        let told = told(&launch(&spec, None, "secret"));
        assert!(
            told.contains(r#"OPENCODE_PERMISSION={"bash":{"rm *":"deny"},"* *":{"*":"ask"},"#),
            "{told}"
        );
    }

    #[test]
    fn settings_with_comments_stay_what_they_are() {
        let env = [("OPENCODE_CONFIG_CONTENT", "{ /* mine */ }")];
        let told = told(&launch(&spec(&env), None, "secret"));
        assert!(told.contains("OPENCODE_CONFIG_CONTENT={ /* mine */ }"), "{told}");
    }

    #[test]
    fn the_memory_that_a_server_may_take_can_be_set() {
        assert_eq!(memory_limit(&spec(&[])), 1536 * 1024 * 1024);
        assert_eq!(memory_limit(&spec(&[(MEMORY, "64")])), 64 * 1024 * 1024);
        assert_eq!(memory_limit(&spec(&[(MEMORY, "much")])), 1536 * 1024 * 1024);
    }
}
