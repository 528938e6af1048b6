//! `COMMAND`: what the original's sidecar runs in a machine, in place of our reporter.
//!
//! That script gives the text to a shell's `eval`, merges both streams and relays the lines. So every
//! word that a person wrote stands in single quotes, in which a shell reads nothing but their end.
//! Our own reporter claims its run instead and does not look at this.

use sprite_reporter::wire::PermissionMode;

use crate::resource::{AgentCli, SpriteSpec};

/// What is said, by exit code 64, where the original's sidecar cannot do what is asked.
const CANNOT: &str = "needs this project's own sprite-reporter in its image, and this image has \
                      the original sidecar";

/// The longest line, in bytes: the kernel starts no program one of whose variables is longer than
/// 128 KiB, and then nothing in the machine would ever run, our own reporter included.
const LONGEST: usize = 100 * 1024;

/// One word of a shell's command line.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The command line for a Sprite.
pub(super) fn command(spec: &SpriteSpec) -> String {
    let line = whole(spec);
    if line.len() <= LONGEST { line } else { refusal("a task of more than 100 KiB") }
}

fn whole(spec: &SpriteSpec) -> String {
    let Some(task) = &spec.task else {
        return refusal("an agent that takes turns");
    };
    // It puts GitHub in front of `REPO` and clones nothing else.
    if spec.repo.as_ref().is_some_and(|repo| repo.github.is_none()) {
        return refusal("a repository that is not named as owner/name on GitHub");
    }
    let task = quoted(task);
    let model = |flag: &str, model: &Option<String>| {
        model.as_ref().map(|model| format!(" {flag} {}", quoted(model))).unwrap_or_default()
    };
    let binary =
        |path: &Option<String>, name: &str| path.as_deref().map_or(name.to_owned(), quoted);
    match &spec.agent {
        AgentCli::Claude(claude) => {
            let mode = match spec.permissions.mode.unwrap_or_default() {
                PermissionMode::Bypass => " --dangerously-skip-permissions",
                PermissionMode::AcceptEdits => " --permission-mode acceptEdits",
                PermissionMode::Plan => " --permission-mode plan",
                // Nobody can be asked: the CLI refuses by itself what it may not do.
                PermissionMode::Ask => "",
            };
            let instructions = model("--append-system-prompt", &spec.instructions);
            let rules: String =
                spec.permissions.allow.iter().map(|rule| format!(" {}", quoted(rule))).collect();
            let rules = if rules.is_empty() { rules } else { format!(" --allowedTools{rules}") };
            let (name, model) = (binary(&claude.path, "claude"), model("--model", &claude.model));
            // Such an image runs everything as root, as which the CLI lets nothing pass unasked unless
            // it is told that it is in a sandbox.
            let sandbox = match spec.permissions.mode {
                Some(PermissionMode::Bypass) => "IS_SANDBOX=1 ",
                _ => "",
            };
            format!("{sandbox}{name}{mode}{model}{instructions}{rules} -p {task}")
        }
        AgentCli::Opencode(opencode) => {
            let name = binary(&opencode.path, "opencode");
            format!("NO_COLOR=1 {name} run{} -- {task}", model("--model", &opencode.model))
        }
        AgentCli::Command(command) => {
            format!("{} -c {task}", binary(&command.shell, "sh"))
        }
        AgentCli::Codex(_) | AgentCli::Acp(_) => refusal("an agent that speaks ACP"),
    }
}

fn refusal(what: &str) -> String {
    format!("echo {}; exit 64", quoted(&format!("{what} {CANNOT}")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn spec(agent: &str, task: Option<&str>) -> SpriteSpec {
        serde_json::from_value(serde_json::json!({
            "agent": {agent: if agent == "acp" { serde_json::json!({"command": ["x"]}) } else { serde_json::json!({}) }},
            "runtime": {"fly": {}}, "task": task, "permissions": {"mode": "bypass"},
            "attempt": 1, "running": true,
        }))
        .unwrap()
    }

    #[test]
    fn each_agent_has_its_line() {
        let task = Some("Fix it! Don't $(touch x) `y`");
        let lines: Vec<String> = ["claude", "opencode", "command", "acp", "codex"]
            .into_iter()
            .map(|agent| command(&spec(agent, task)))
            .chain([command(&spec("claude", None))])
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_a_claude_may_do_stands_in_its_line() {
        let mut claude = spec("claude", Some("t"));
        claude.permissions.mode = Some(PermissionMode::AcceptEdits);
        claude.permissions.allow = vec!["Bash(cargo test:*)".into(), "Read".into()];
        claude.instructions = Some("Prefer 'small' commits.".into());
        insta::assert_snapshot!(command(&claude), @r"claude --permission-mode acceptEdits --append-system-prompt 'Prefer '\''small'\'' commits.' --allowedTools 'Bash(cargo test:*)' 'Read' -p 't'");
    }

    #[test]
    fn a_task_too_long_for_a_machines_environment_is_left_to_our_own_reporter() {
        let long = "x".repeat(LONGEST);
        let line = command(&spec("command", Some(&long)));
        assert!(line.len() < 300 && line.ends_with("; exit 64"), "{}", line.len());
        let short = "x".repeat(LONGEST / 2);
        assert!(command(&spec("command", Some(&short))).contains(&short));
    }

    #[test]
    fn a_repository_that_the_originals_sidecar_cannot_clone_is_no_empty_success() {
        let mut elsewhere = spec("claude", Some("t"));
        elsewhere.repo = serde_json::from_value(serde_json::json!({
            "url": "https://git.example/a/b"
        }))
        .unwrap();
        assert!(command(&elsewhere).ends_with("; exit 64"), "{}", command(&elsewhere));
        elsewhere.repo = serde_json::from_value(serde_json::json!({"github": "a/b"})).unwrap();
        assert!(command(&elsewhere).starts_with("IS_SANDBOX=1 claude"), "{}", command(&elsewhere));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_shell_that_evaluates_the_line_reads_the_task_byte_for_byte(task in "[^\0]{1,60}") {
            let line = command(&spec("command", Some(&format!("printf %s {}", quoted(&task)))));
            let said = Command::new("sh").args(["-c", "eval \"$COMMAND\""]).env("COMMAND", line)
                .output().unwrap();
            prop_assert_eq!(String::from_utf8(said.stdout).unwrap(), task);
        }
    }
}
