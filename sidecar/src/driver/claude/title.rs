//! One line that says what a tool use does.

use serde_json::Value;

use crate::driver::words::one_line;

/// The most characters of a title.
const TITLE_CHARS: usize = 160;

/// What a tool use does, in one line: `Bash: cargo test`.
pub(super) fn title(tool: &str, input: &Value, workdir: &str) -> String {
    let name = match tool.strip_prefix("mcp__").and_then(|rest| rest.split_once("__")) {
        Some((server, tool)) => format!("{server} {tool}"),
        None => tool.to_owned(),
    };
    let line = match subject(tool, input, workdir) {
        Some(subject) => format!("{name}: {subject}"),
        None => name,
    };
    one_line(&line, TITLE_CHARS)
}

fn subject(tool: &str, input: &Value, workdir: &str) -> Option<String> {
    let text = |member: &str| input.get(member).and_then(Value::as_str).map(str::to_owned);
    match tool {
        "Bash" => text("command"),
        "Task" | "Agent" => text("description"),
        "WebFetch" => text("url"),
        "WebSearch" => text("query"),
        "Grep" | "Glob" => text("pattern"),
        "AskUserQuestion" => input["questions"][0]["question"].as_str().map(str::to_owned),
        "ExitPlanMode" => text("plan"),
        _ => ["file_path", "notebook_path", "path"]
            .iter()
            .find_map(|member| text(member))
            .map(|path| {
                let below = path.strip_prefix(workdir).and_then(|rest| rest.strip_prefix('/'));
                below.map_or(path.clone(), str::to_owned)
            })
            .or_else(|| first_text(input)),
    }
}

fn first_text(input: &Value) -> Option<String> {
    input.as_object()?.values().find_map(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn titles_name_the_tool_and_what_it_touches() {
        let title = |tool, input| super::title(tool, &input, "/work/api");
        assert_eq!(title("Bash", json!({"command": "cargo test"})), "Bash: cargo test");
        assert_eq!(title("Bash", json!({"command": "a &&\n  b"})), "Bash: a && b");
        assert_eq!(title("Edit", json!({"file_path": "/work/api/src/a.rs"})), "Edit: src/a.rs");
        assert_eq!(title("Edit", json!({"file_path": "/work/apis/a"})), "Edit: /work/apis/a");
        assert_eq!(title("mcp__git__log", json!({"since": "monday"})), "git log: monday");
        assert_eq!(title("TodoWrite", json!({"todos": []})), "TodoWrite");
        assert_eq!(title("Task", json!(null)), "Task");
        assert_eq!(
            title("AskUserQuestion", json!({"questions": [{"question": "Red?"}]})),
            "AskUserQuestion: Red?"
        );
    }

    #[test]
    fn a_title_cannot_hide_what_it_says() {
        let command = "echo \u{202e}tset\u{202c}\r\u{1b}[2K rm";
        assert_eq!(title("Bash", &json!({ "command": command }), "/"), "Bash: echo tset [2K rm");
    }

    proptest! {
        #[test]
        fn a_title_is_one_short_line(command in any::<String>()) {
            let title = title("Bash", &json!({ "command": command }), "/w");
            prop_assert!(title.chars().count() <= TITLE_CHARS);
            prop_assert!(!title.contains(char::is_control));
        }

    }
}
