//! Words of agents that people are shown: on one line, without tricks, and never too long.

use serde_json::{Map, Value};

/// The most bytes of an approval's input as JSON; the rest of the event stays below the wire's
/// bound even where JSON escapes it once more.
const INPUT_BYTES: usize = 24 * 1024;
/// The most characters of one string within an input that was too long.
const STRING_CHARS: usize = 1500;

/// Text as one line: white space and control characters become single blanks, characters that
/// turn the direction of writing (and so could hide a command) go, and what is too long is cut.
pub(in crate::driver) fn one_line(text: &str, most: usize) -> String {
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
pub(in crate::driver) fn fitting(input: &Value) -> Value {
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
