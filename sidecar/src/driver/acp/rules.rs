//! What may be done unasked: the rule language of ACP agents, and ours alone, since the protocol
//! has none.
//!
//! A rule is a kind of tool (`read`, `edit`, `delete`, `move`, `search`, `execute`, `think`, `fetch`,
//! `other`), alone or with what it is about in parentheses: `execute(cargo test)` is this command and
//! no other, `execute(cargo test:*)` is each command that begins with these words. The names that
//! Claude Code has for its tools mean the kinds that they are (`Bash(cargo test:*)`), so that a
//! spec keeps its rules when its agent changes.
//!
//! A command that could hold another one (`cargo test && rm -r .`) matches no rule with `:*`.

use agent_client_protocol_schema::v1::ToolKind;

/// The longest subject of a rule; what is longer can be allowed once only.
const SUBJECT_CHARS: usize = 200;

/// What a tool is called in rules and to people.
pub(super) fn word(kind: ToolKind) -> &'static str {
    match kind {
        ToolKind::Read => "read",
        ToolKind::Edit => "edit",
        ToolKind::Delete => "delete",
        ToolKind::Move => "move",
        ToolKind::Search => "search",
        ToolKind::Execute => "execute",
        ToolKind::Think => "think",
        ToolKind::Fetch => "fetch",
        ToolKind::SwitchMode => "switch_mode",
        _ => "other",
    }
}

/// The kind that a rule names, also in the words of Claude Code.
fn kind(name: &str) -> &str {
    match name {
        "Bash" => "execute",
        "Read" => "read",
        "Edit" | "Write" | "MultiEdit" | "NotebookEdit" => "edit",
        "Grep" | "Glob" | "LS" => "search",
        "WebFetch" | "WebSearch" => "fetch",
        other => other,
    }
}

/// Whether a rule allows a tool of this kind that is about this.
pub(super) fn allows(rule: &str, tool: ToolKind, subject: &str) -> bool {
    let rule = rule.trim();
    let (name, about) = match rule.split_once('(') {
        Some((name, rest)) => match rest.strip_suffix(')') {
            Some(about) => (name, Some(about)),
            None => return false,
        },
        None => (rule, None),
    };
    if kind(name.trim()) != word(tool) {
        return false;
    }
    let subject = subject.trim();
    match about.map(|about| (about, about.strip_suffix(":*"))) {
        None => true,
        Some((about, None)) => about.trim() == subject,
        Some((_, Some(beginning))) => {
            let beginning = beginning.trim();
            !beginning.is_empty() && !may_hold_another(subject) && begins(subject, beginning)
        }
    }
}

/// Whether a command begins with these words. How many blanks are between words means nothing but
/// within quotes.
fn begins(command: &str, words: &str) -> bool {
    if words.contains(['\'', '"']) {
        return command
            .strip_prefix(words)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
    }
    let mut said = command.split_whitespace();
    words.split_whitespace().all(|word| said.next() == Some(word))
}

/// The rule that stands for all requests like this one.
pub(super) fn of(tool: ToolKind, subject: &str) -> Option<String> {
    let subject = subject.trim();
    let fits = !subject.is_empty() && subject.chars().count() <= SUBJECT_CHARS;
    let word = word(tool);
    match tool {
        ToolKind::Read | ToolKind::Edit | ToolKind::Search | ToolKind::Think => {
            Some(word.to_owned())
        }
        ToolKind::SwitchMode => None,
        ToolKind::Execute if fits => Some(match beginning(subject) {
            Some(beginning) => format!("{word}({beginning}:*)"),
            None => format!("{word}({subject})"),
        }),
        _ if fits => Some(format!("{word}({subject})")),
        _ => None,
    }
}

/// Whether a command may hold another one: it is joined to one, or one is put into it. What stands in
/// single quotes is text; in double quotes a shell still puts in what a `$` or a backtick says.
/// A quote or a backslash that leaves it open what is meant counts as such.
fn may_hold_another(command: &str) -> bool {
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (_, '$' | '`' | '\\') => return true,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, ';' | '&' | '|' | '<' | '>' | '(' | ')' | '{' | '}' | '\n' | '\r' | '#') => {
                return true;
            }
            (None, _) => {}
        }
    }
    quote.is_some()
}

/// The words by which a command is known: a program and what it is to do (`git push`). None
/// where there is no second word of that kind: then the command stands for itself.
fn beginning(command: &str) -> Option<String> {
    if may_hold_another(command) {
        return None;
    }
    let mut words = command.split_whitespace();
    let (program, task) = (words.next()?, words.next()?);
    let is_task = task.starts_with(|c: char| c.is_ascii_lowercase())
        && task.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let is_word = !program.contains(['\'', '"']);
    (is_word && is_task).then(|| format!("{program} {task}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rule_allows_its_kind_and_what_it_is_about() {
        let run = |rule, command| allows(rule, ToolKind::Execute, command);
        assert!(run("execute", "anything; at all"));
        assert!(run("execute(cargo test)", "cargo test"));
        assert!(!run("execute(cargo test)", "cargo test --all"));
        assert!(run("execute(cargo test:*)", "cargo test"));
        assert!(run("Bash(cargo test:*)", "cargo test --all"));
        assert!(run("execute(cargo test:*)", "cargo  test --all"));
        assert!(!run("execute(echo 'a  b':*)", "echo 'a b'"));
        assert!(!run("execute(cargo test:*)", "cargo tests"));
        assert!(run("execute(python3 -c:*)", "python3 -c 'print(\"a;b\" > c)'"));
        assert!(!run("execute(:*)", "rm"));
        assert!(!run("execute(cargo test", "cargo test"));
        assert!(!run("edit", "cargo test"));
        assert!(allows("Write", ToolKind::Edit, "Writing to a.rs"));
        assert!(!allows("Write", ToolKind::Delete, "a.rs"));
        assert!(!allows("read", ToolKind::Other, ""));
    }

    #[test]
    fn a_command_within_a_command_matches_no_beginning() {
        for command in [
            "cargo test && rm -r .",
            "cargo test; rm x",
            "cargo test $(rm x)",
            "cargo test\nrm x",
            "cargo test \"$(rm x)\"",
            "cargo test 'a' | sh",
            "cargo test 'open",
            "cargo test \\'; rm x; '",
        ] {
            assert!(!allows("execute(cargo test:*)", ToolKind::Execute, command), "{command}");
        }
    }

    #[test]
    fn what_stands_for_all_requests_like_one() {
        let rule = |command| of(ToolKind::Execute, command);
        assert_eq!(rule("git push origin main").as_deref(), Some("execute(git push:*)"));
        assert_eq!(
            rule("python3 -c 'print(1)'").as_deref(),
            Some("execute(python3 -c 'print(1)')")
        );
        assert_eq!(rule("cat ./a").as_deref(), Some("execute(cat ./a)"));
        assert_eq!(rule("make all && make it").as_deref(), Some("execute(make all && make it)"));
        assert_eq!(rule(&"x".repeat(201)), None);
        assert_eq!(of(ToolKind::Edit, "Writing to a").as_deref(), Some("edit"));
        assert_eq!(of(ToolKind::Fetch, "https://a.b").as_deref(), Some("fetch(https://a.b)"));
        assert_eq!(of(ToolKind::Other, ""), None);
        assert_eq!(of(ToolKind::SwitchMode, "Ready to code?"), None);
    }

    proptest! {
        /// Whatever is asked, the rule that would be granted for it allows it.
        #[test]
        fn a_granted_rule_allows_what_it_was_granted_for(command in "[a-z &;|$./'\"-]{0,60}") {
            for kind in [ToolKind::Execute, ToolKind::Fetch, ToolKind::Edit, ToolKind::Other] {
                if let Some(rule) = of(kind, &command) {
                    prop_assert!(allows(&rule, kind, &command), "{rule:?} {command:?}");
                }
            }
        }
    }
}
