//! One line that says what a tool use does, and an input that fits into an event.

use serde_json::{Map, Value};

/// The most characters of a title.
const TITLE_CHARS: usize = 160;
/// The most bytes of an approval's input as JSON; the rest of the event stays below the wire's
/// bound even where JSON escapes it once more.
const INPUT_BYTES: usize = 24 * 1024;
/// The most characters of one string within an input that was too long.
const STRING_CHARS: usize = 1500;

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

/// Text as one line: white space and control characters become single blanks, characters that
/// turn the direction of writing (and so could hide a command) go, and what is too long is cut.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let clean: String = text
        .chars()
        .filter(|c| !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .take(most.saturating_mul(8))
        .collect();
    let mut line = String::new();
    for word in clean.split(' ').filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    cut(&line, most)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// An input that fits into one event: whole, or with its long strings cut, or as cut text.
pub(super) fn fitting(input: &Value) -> Value {
    if size(input) <= INPUT_BYTES {
        return input.clone();
    }
    let shorter = shorten(input);
    if size(&shorter) <= INPUT_BYTES {
        return shorter;
    }
    let text = cut(&shorter.to_string(), INPUT_BYTES / 8);
    Value::Object(Map::from_iter([("cut".to_owned(), Value::String(text))]))
}

fn size(value: &Value) -> usize {
    value.to_string().len()
}

fn shorten(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text, STRING_CHARS)),
        Value::Array(items) => items.iter().map(shorten).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), shorten(member))).collect()
        }
        other => other.clone(),
    }
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

    proptest! {
        // Large inputs are slow to make, and their sizes are what matters.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn an_input_always_fits(pieces in prop::collection::vec("[\\\\\"a-zü]{0,3000}", 0..40)) {
            let input = json!({"content": pieces.concat(), "edits": pieces});
            prop_assert!(size(&fitting(&input)) <= INPUT_BYTES);
        }
    }
}
