//! Values as YAML text, in the manner of the text around them.

use serde_json::Value;

use super::tree::Style;

/// Where something is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// How much further in a map stands than its key.
    pub(super) step: usize,
    /// How much further in a list stands than its key.
    pub(super) list: usize,
}

/// What stands behind `key:` in block style, beginning with a space or a line break.
pub(super) fn block(value: &Value, column: usize, manner: Manner) -> String {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let column = column + manner.step;
            let lines = members.iter().map(|(key, value)| {
                format!("\n{}{}:{}", spaces(column), text(key), block(value, column, manner))
            });
            lines.collect()
        }
        Value::Array(items) if !items.is_empty() => {
            let column = column + manner.list;
            items.iter().map(|item| format!("\n{}", list_item(item, column, manner))).collect()
        }
        Value::String(said) if said.contains('\n') => match lines(said, column + manner.step) {
            Some(lines) => lines,
            None => format!(" {}", flow(value)),
        },
        Value::String(said) => format!(" {}", text(said)),
        other => format!(" {}", flow(other)),
    }
}

/// A line of a list in block style, with its indentation.
pub(super) fn list_item(item: &Value, column: usize, manner: Manner) -> String {
    let inner = column + 2;
    let body = match item {
        Value::Object(members) if !members.is_empty() => {
            let lines = members
                .iter()
                .map(|(key, value)| format!("{}:{}", text(key), block(value, inner, manner)));
            let between = format!("\n{}", spaces(inner));
            format!(" {}", lines.collect::<Vec<_>>().join(&between))
        }
        Value::Array(_) => format!(" {}", flow(item)),
        // What stands behind the dash is as far in as what stands below it.
        other => block(other, column, Manner { step: 2, ..manner }),
    };
    format!("{}-{body}", spaces(column))
}

/// A value in one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(said) => {
            let plain = text(said);
            let is_safe = !plain.contains([',', '[', ']', '{', '}', '#', ':', '\n']);
            if is_safe { plain } else { quoted(said) }
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| {
                format!("{}: {}", flow(&Value::String(key.clone())), flow(value))
            });
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A text in the quotes that stood there, if it can stand in them.
pub(super) fn as_before(said: &str, style: Style) -> Option<String> {
    let is_simple = !said.chars().any(char::is_control);
    match style {
        Style::Double => Some(quoted(said)),
        Style::Single if is_simple => Some(format!("'{}'", said.replace('\'', "''"))),
        _ => None,
    }
}

/// A text of one line, without quotes where it needs none.
fn text(said: &str) -> String {
    let written = serde_saphyr::to_string(&said).unwrap_or_default();
    let written = written.trim_end_matches('\n');
    if written.is_empty() || written.contains('\n') || written.starts_with(['|', '>']) {
        quoted(said)
    } else {
        written.to_owned()
    }
}

/// A text in double quotes; JSON's escapes are YAML's too.
fn quoted(said: &str) -> String {
    serde_json::to_string(said).unwrap_or_default()
}

/// A text of several lines as a literal; none where that would not give it back.
fn lines(said: &str, column: usize) -> Option<String> {
    let (body, header) = match said.strip_suffix('\n') {
        Some(body) if !body.ends_with('\n') && !body.is_empty() => (body, "|"),
        Some(_) => return None,
        None => (said, "|-"),
    };
    let is_odd = |line: &str| line.chars().any(|c| c.is_control() && c != '\t');
    if body.starts_with([' ', '\t', '\n']) || body.lines().any(is_odd) || body.contains('\r') {
        return None;
    }
    let line = |line: &str| {
        if line.is_empty() { "\n".to_owned() } else { format!("\n{}{line}", spaces(column)) }
    };
    Some(format!(" {header}{}", body.split('\n').map(line).collect::<String>()))
}

pub(super) fn spaces(count: usize) -> String {
    " ".repeat(count)
}
