//! What the agent may do: the rules of the run's mode, and what to answer when OpenCode asks.
//!
//! Rules of the spec are written as `NAME` or `NAME(PATTERN)`: `bash(cargo test *)`, `webfetch`.
//! How ours stand among a person's own says [`rules`](super::rules).

use serde_json::{Map, Value, json};

use super::{
    protocol::Request,
    rules::{Action, Rule},
};
use crate::{
    driver::words::one_line,
    wire::{PermissionMode, Permissions},
};

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may.
    Allow,
    /// It may not; the model is told why.
    Deny(&'static str),
    /// A person decides.
    Ask,
}

const NOBODY: &str = "Nobody is here to answer questions. Decide for yourself, say what you \
                      assumed, and go on.";
const NOT_IN_PLAN: &str = "You are here to plan and may not change anything. Go on with what you \
                           can read.";
const NO_ANSWER: &str = "The person did not choose. Decide for yourself, say what you assumed, \
                         and go on.";
const REFUSED: &str = "A person refused this. Do not try it in another way; go on without it, or \
                       say what you need.";
/// The most characters of a title.
const TITLE_CHARS: usize = 160;

/// Decides on a request for a permission.
pub(super) fn decide(mode: PermissionMode) -> Decision {
    match mode {
        PermissionMode::Bypass => Decision::Allow,
        PermissionMode::Plan => Decision::Deny(NOT_IN_PLAN),
        PermissionMode::Ask | PermissionMode::AcceptEdits => Decision::Ask,
    }
}

/// Decides on questions. `is_job` says that the run works at a single task, which nobody attends
/// to unless the mode says so.
pub(super) fn decide_on_questions(mode: PermissionMode, is_job: bool) -> Decision {
    match mode {
        PermissionMode::Bypass => Decision::Deny(NOBODY),
        PermissionMode::Plan if is_job => Decision::Deny(NOBODY),
        PermissionMode::Plan | PermissionMode::Ask | PermissionMode::AcceptEdits => Decision::Ask,
    }
}

/// What the model is told when a person said no. It is always told something: without words
/// OpenCode would end the turn.
pub(super) fn refusal(words: &str) -> &str {
    match words.trim() {
        "" => REFUSED,
        words => words,
    }
}

/// What the model is told when a person gave no answer to a question.
pub(super) fn no_answer(words: &str) -> &str {
    match words.trim() {
        "" => NO_ANSWER,
        words => words,
    }
}

/// OpenCode's own agent for the mode, where the mode names one.
pub(super) fn agent(mode: PermissionMode) -> Option<&'static str> {
    (mode == PermissionMode::Plan).then_some("plan")
}

/// The rules for the mode. Where it says nothing but yes, the person's own rules are all there is
/// to ask about, and the answer is yes as well.
pub(super) fn rules(permissions: &Permissions) -> Vec<Rule> {
    use Action::{Allow, Ask, Deny};
    let mode = permissions.mode;
    let edit = match mode {
        PermissionMode::Bypass => return vec![Rule::new("*", "*", Allow)],
        PermissionMode::AcceptEdits => Allow,
        PermissionMode::Plan => Deny,
        PermissionMode::Ask => Ask,
    };
    // Whatever is not named is asked about, tools of MCP servers among it. Reading is free but
    // for what holds secrets, as it is by OpenCode's own rules.
    let free = ["glob", "grep", "list", "lsp", "question", "skill", "task", "todoread"];
    let read = [("*", Allow), ("*.env", Ask), ("*.env.*", Ask), ("*.env.example", Allow)];
    let mut rules: Vec<Rule> =
        [("*", Ask), ("bash", Ask), ("edit", edit), ("external_directory", Ask)]
            .into_iter()
            .chain(free.map(|name| (name, Allow)))
            .chain([("todowrite", Allow), ("webfetch", Ask), ("websearch", Ask)])
            .map(|(name, action)| Rule::new(name, "*", action))
            .chain(read.map(|(pattern, action)| Rule::new("read", pattern, action)))
            .collect();
    for rule in &permissions.allow {
        let Some((name, pattern)) = parse(rule) else { continue };
        if mode == PermissionMode::Plan && matches!(name, "edit" | "*") {
            continue;
        }
        let first = rules.iter().position(|rule| rule.name == name);
        if pattern == "*" {
            rules.retain(|rule| rule.name != name);
        } else if first.is_none() {
            rules.push(Rule::new(name, "*", Ask));
        }
        let behind = rules.iter().rposition(|rule| rule.name == name).map(|last| last + 1);
        let at = behind.or(first).unwrap_or(rules.len());
        rules.insert(at, Rule::new(name, pattern, Allow));
    }
    rules
}

/// The rules of the spec that are none in OpenCode's language, and so would allow nothing.
pub(super) fn foreign(permissions: &Permissions) -> impl Iterator<Item = &str> {
    permissions.allow.iter().map(String::as_str).filter(|rule| parse(rule).is_none())
}

/// The name and the pattern of a rule.
fn parse(rule: &str) -> Option<(&str, &str)> {
    let rule = rule.trim();
    let (name, pattern) = match rule.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')?),
        None => (rule, "*"),
    };
    // A capital first is the language of another CLI, such as `Bash(cargo test:*)`.
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '*');
    let is_name = name.chars().all(fits) && !name.starts_with(|c: char| c.is_uppercase());
    (is_name && !name.is_empty() && !pattern.is_empty()).then_some((name, pattern))
}

/// What stands for all requests like this one.
pub(super) fn rule(request: &Request) -> Option<String> {
    let one = |pattern: &String| match pattern.as_str() {
        "*" => request.permission.clone(),
        pattern => format!("{}({pattern})", request.permission),
    };
    let rules: Vec<_> = request.always.iter().map(one).collect();
    (!rules.is_empty()).then(|| rules.join(" "))
}

/// What a request is about, in one line.
pub(super) fn title(request: &Request, workdir: &str) -> String {
    let known = |member: &str| request.metadata[member].as_str().map(str::to_owned);
    let subject = match request.permission.as_str() {
        "bash" => known("command"),
        "edit" => known("filepath").map(|path| below(&path, workdir).to_owned()),
        "webfetch" => known("url"),
        _ => None,
    };
    let subject = subject.unwrap_or_else(|| request.patterns.join(", "));
    one_line(&format!("{}: {subject}", request.permission), TITLE_CHARS)
}

/// All that is known of a request.
pub(super) fn input(request: &Request) -> Value {
    let mut input = match &request.metadata {
        Value::Object(members) => members.clone(),
        _ => Map::new(),
    };
    input.insert("patterns".to_owned(), json!(request.patterns));
    Value::Object(input)
}

/// What a tool use does, in one line.
pub(super) fn tool_title(name: &str, input: &Value, workdir: &str) -> String {
    let text = |member: &str| input[member].as_str().map(str::to_owned);
    let subject = match name {
        "bash" => text("command"),
        "task" => text("description"),
        "webfetch" => text("url"),
        "websearch" => text("query"),
        "grep" | "glob" => text("pattern"),
        "question" => input["questions"][0]["question"].as_str().map(str::to_owned),
        _ => ["filePath", "path"]
            .iter()
            .find_map(|member| text(member))
            .map(|path| below(&path, workdir).to_owned())
            .or_else(|| input.as_object()?.values().find_map(Value::as_str).map(str::to_owned)),
    };
    match subject {
        Some(subject) => one_line(&format!("{name}: {subject}"), TITLE_CHARS),
        None => one_line(name, TITLE_CHARS),
    }
}

fn below<'a>(path: &'a str, workdir: &str) -> &'a str {
    path.strip_prefix(workdir).and_then(|rest| rest.strip_prefix('/')).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::{super::rules::variable, *};

    fn permissions(mode: PermissionMode, allow: &[&str]) -> Permissions {
        Permissions { mode, allow: allow.iter().map(|&rule| rule.to_owned()).collect() }
    }

    #[test]
    fn each_mode_has_its_rules() {
        let modes = [PermissionMode::Ask, PermissionMode::AcceptEdits, PermissionMode::Plan];
        let allow = ["bash(cargo test *)", "edit(docs/*)", "my_mcp_*", "webfetch"];
        let rules = modes.map(|mode| variable(&rules(&permissions(mode, &allow)), None));
        insta::assert_snapshot!(rules.join("\n").replace("},", "},\n  "));
        let all = super::rules(&permissions(PermissionMode::Bypass, &allow));
        assert_eq!(all, [Rule::new("*", "*", Action::Allow)]);
    }

    #[test]
    fn rules_in_the_language_of_another_cli_are_told() {
        let allow = ["Bash(cargo test:*)", "bash(git *)", "bash(", "", "Read"];
        let permissions = permissions(PermissionMode::Ask, &allow);
        assert_eq!(
            foreign(&permissions).collect::<Vec<_>>(),
            ["Bash(cargo test:*)", "bash(", "", "Read"]
        );
    }

    fn request(permission: &str, patterns: &[&str], always: &[&str], metadata: Value) -> Request {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Request {
            id: "per_1".into(),
            permission: permission.into(),
            patterns: texts(patterns),
            always: texts(always),
            metadata,
        }
    }

    #[test]
    fn a_request_says_what_it_is_about_and_what_always_would_mean() {
        let told = |request: Request| (title(&request, "/work"), rule(&request));
        let some = |rule: &str| Some(rule.to_owned());
        assert_eq!(
            told(request("bash", &["a"], &["git log *", "grep *"], json!({"command": "a\n| b"}))),
            ("bash: a | b".to_owned(), some("bash(git log *) bash(grep *)"))
        );
        assert_eq!(
            told(request("edit", &["x"], &["*"], json!({"filepath": "/work/src/a.rs"}))),
            ("edit: src/a.rs".to_owned(), some("edit"))
        );
        assert_eq!(
            told(request("external_directory", &["/etc/*"], &[], Value::Null)),
            ("external_directory: /etc/*".to_owned(), None)
        );
    }

    #[test]
    fn titles_name_the_tool_and_what_it_touches() {
        let title = |name, input| tool_title(name, &input, "/work");
        assert_eq!(title("bash", json!({"command": "a &&\n b"})), "bash: a && b");
        assert_eq!(title("read", json!({"filePath": "/work/a.rs"})), "read: a.rs");
        assert_eq!(title("todowrite", json!({"todos": []})), "todowrite");
        assert_eq!(
            title("question", json!({"questions": [{"question": "Why?"}]})),
            "question: Why?"
        );
        assert_eq!(title("mcp_tool", json!({"n": 1, "q": "x"})), "mcp_tool: x");
    }

    #[test]
    fn nobody_is_asked_who_is_not_there() {
        assert_eq!(decide(PermissionMode::Bypass), Decision::Allow);
        assert_eq!(decide_on_questions(PermissionMode::Bypass, false), Decision::Deny(NOBODY));
        assert_eq!(decide_on_questions(PermissionMode::Plan, true), Decision::Deny(NOBODY));
        assert_eq!(decide_on_questions(PermissionMode::Plan, false), Decision::Ask);
        assert_eq!(decide(PermissionMode::Plan), Decision::Deny(NOT_IN_PLAN));
        assert_eq!(decide(PermissionMode::AcceptEdits), Decision::Ask);
    }
}
