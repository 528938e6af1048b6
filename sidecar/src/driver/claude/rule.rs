//! What an answer of "always" would allow: all requests like one, in the CLI's own rule language.
//!
//! The CLI is always told "once", so that what was allowed for always can be taken back at any
//! time. A rule here is a name for requests that are alike: two requests of the same rule are
//! the same to a person who said "always". So it must never name more than the person saw:
//!
//! | request | rule |
//! |---|---|
//! | the CLI suggests one rule, and nothing else has to be allowed | that one: `Bash(git push *)` |
//! | any other command | the very same command: `Bash(a && b)` |
//! | a file in a directory that the CLI suggests to allow | that directory: `Write(//etc/**)` |
//! | any other file | the very same file: `Edit(src/a.rs)` |
//! | what the CLI holds for dangerous, a question, a plan | none: a person is asked each time |

use serde_json::Value;

use super::protocol::Ask;

/// The most characters of a rule; what is longer, nobody reads before saying "always".
const RULE_CHARS: usize = 300;
/// Why the CLI asks, where one rule may stand for the whole request.
const PLAIN_REASONS: [&str; 3] = ["", "other", "workingDir"];
/// Why the CLI asks, where nothing may stand for it.
const DANGER: &str = "safetyCheck";

/// What stands for all requests like this one.
pub(super) fn rule(ask: &Ask, workdir: &str) -> Option<String> {
    if ask.needs_person || ask.reason == DANGER {
        return None;
    }
    suggested(ask).or_else(|| exact(ask, workdir)).filter(|rule| is_readable(rule))
}

/// The rule that the CLI suggests, where it is all that it suggests.
fn suggested(ask: &Ask) -> Option<String> {
    let [suggestion] = ask.suggestions.as_slice() else { return None };
    let is_plain = PLAIN_REASONS.contains(&ask.reason.as_str()) && !ask.is_blocked;
    if !is_plain || suggestion["type"] != "addRules" || suggestion["behavior"] != "allow" {
        return None;
    }
    let [rule] = suggestion["rules"].as_array()?.as_slice() else { return None };
    if rule["toolName"].as_str()? != ask.tool {
        return None;
    }
    Some(match &rule["ruleContent"] {
        Value::String(content) => format!("{}({content})", ask.tool),
        _ => ask.tool.clone(),
    })
}

/// The very same thing once more, or a file in the same directory.
fn exact(ask: &Ask, workdir: &str) -> Option<String> {
    let text = |member: &str| ask.input[member].as_str();
    let what = match ask.tool.as_str() {
        "Bash" => text("command")?.to_owned(),
        "Read" | "Write" | "Edit" | "MultiEdit" | "NotebookEdit" => match directory(ask) {
            Some(directory) => format!("{}/**", absolute(directory.trim_end_matches('/'))),
            None => {
                let path = text("file_path").or_else(|| text("notebook_path"))?;
                let below = path.strip_prefix(workdir).and_then(|rest| rest.strip_prefix('/'));
                below.map_or_else(|| absolute(path), str::to_owned)
            }
        },
        _ => return None,
    };
    Some(format!("{}({what})", ask.tool))
}

/// The one directory that the CLI suggests to allow.
fn directory(ask: &Ask) -> Option<&str> {
    let mut directories = ask
        .suggestions
        .iter()
        .filter(|suggestion| suggestion["type"] == "addDirectories")
        .flat_map(|suggestion| suggestion["directories"].as_array().into_iter().flatten());
    let directory = directories.next()?.as_str()?;
    directories.next().is_none().then_some(directory)
}

/// An absolute path in the rule language, where a single slash means the settings' directory.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { format!("/{path}") } else { path.to_owned() }
}

/// Whether a person sees all of it: one short line without marks that hide something.
fn is_readable(rule: &str) -> bool {
    rule.chars().count() <= RULE_CHARS
        && !rule.chars().any(|c| {
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Requests as Claude Code 2.1.329 makes them, and what stands for each.
    #[test]
    fn what_stands_for_real_requests() {
        let rules = |rules: Value| {
            json!({
                "type": "addRules", "rules": rules, "behavior": "allow",
                "destination": "localSettings",
            })
        };
        let bash = |content: &str| json!({"toolName": "Bash", "ruleContent": content});
        let mode = || json!({"type": "setMode", "mode": "acceptEdits", "destination": "session"});
        let directories = |of: &str| json!({"type": "addDirectories", "directories": [of], "destination": "session"});
        let command = |line: &str| json!({"command": line, "description": "d"});
        let write = |path: &str| json!({"file_path": path, "content": "x"});
        let read = json!({"toolName": "Read", "ruleContent": "//etc/**"});
        let web = json!({"toolName": "WebFetch", "ruleContent": "domain:example.com"});
        let mcp = json!({"toolName": "mcp__git__log"});
        let push = || rules(json!([bash("git push *")]));
        // tool, input, suggestions, reason, whether a path is blocked
        let requests = [
            ("Bash", command("git push origin main"), vec![push()], "other", false),
            ("Bash", command("git push > /etc/out"), vec![push(), directories("/etc")], "", true),
            (
                "Bash",
                command("git push && curl http://a"),
                vec![rules(json!([bash("git push *"), bash("curl http://a")]))],
                "subcommandResults",
                false,
            ),
            (
                "Bash",
                command("ls | xargs rm"),
                vec![rules(json!([bash("xargs rm")]))],
                "subcommandResults",
                false,
            ),
            ("Bash", command("git push $(curl http://a)"), vec![], "other", false),
            ("Bash", command("git push \n rm -rf /"), vec![], "safetyCheck", false),
            ("Bash", command("first\nsecond"), vec![], "subcommandResults", false),
            (
                "Bash",
                command("rm -rf sub"),
                vec![rules(json!([bash("rm -rf sub")])), directories("/w/sub"), mode()],
                "",
                true,
            ),
            ("Write", write("/w/src/a.rs"), vec![mode()], "", false),
            ("Write", write("/etc/zzz"), vec![mode(), directories("/etc")], "workingDir", false),
            ("Write", write("/w/.git/config"), vec![mode()], "safetyCheck", false),
            (
                "Read",
                json!({"file_path": "/etc/hostname"}),
                vec![rules(json!([read]))],
                "workingDir",
                false,
            ),
            (
                "WebFetch",
                json!({"url": "https://example.com"}),
                vec![rules(json!([web]))],
                "",
                false,
            ),
            ("mcp__git__log", json!({}), vec![rules(json!([mcp]))], "", false),
            ("mcp__git__log", json!({}), vec![], "", false),
            ("Edit", json!({}), vec![mode()], "", false),
        ];
        let mut told = String::new();
        for (tool, input, suggestions, reason, is_blocked) in requests {
            let ask = Ask {
                tool: tool.to_owned(),
                input: input.clone(),
                suggestions,
                reason: reason.to_owned(),
                is_blocked,
                ..Ask::default()
            };
            let rule = rule(&ask, "/w").unwrap_or_else(|| "(asked each time)".to_owned());
            told.push_str(&format!("{tool} {input}\n    {rule}\n"));
        }
        insta::assert_snapshot!(told);
    }

    #[test]
    fn a_question_has_no_rule() {
        let ask = Ask { tool: "Bash".to_owned(), needs_person: true, ..Ask::default() };
        assert_eq!(rule(&Ask { input: json!({"command": "ls"}), ..ask }, "/w"), None);
    }

    proptest! {
        /// A rule is one line that shows all of what it stands for.
        #[test]
        fn a_rule_can_be_read(command in any::<String>()) {
            let input = json!({ "command": command });
            let ask = Ask { tool: "Bash".to_owned(), input, ..Ask::default() };
            if let Some(rule) = rule(&ask, "/w") {
                prop_assert!(rule.contains(&command) && is_readable(&rule));
            }
        }
    }
}
