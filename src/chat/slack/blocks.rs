//! What a message looks like on the wire: text, and buttons below it.
//!
//! Text comes as Slack's `mrkdwn`, translated. What stands here is the last gate: whatever an
//! agent printed, no message of ours calls a whole channel or a person, and a stray `<` or `&`
//! is shown and not read as a mark. Text that is escaped already passes as it is.

use serde_json::{Value, json};

use crate::chat::{
    platform::{Action, Content, Markup, Tone},
    split::{Splitter, Unit},
};

/// The most characters of a section's text.
const MAX_SECTION: usize = 3000;
/// The most buttons of one row.
pub(super) const MAX_BUTTONS: usize = 25;

/// What Slack takes for `&`, `<` and what may call somebody.
pub(super) fn harmless(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<']) {
        safe.push_str(&rest[..at]);
        rest = &rest[at..];
        let kept = entity(rest).or_else(|| link(rest));
        let (put, length) = match kept {
            Some(length) => (&rest[..length], length),
            None if rest.starts_with('&') => ("&amp;", 1),
            None => ("&lt;", 1),
        };
        safe.push_str(put);
        rest = &rest[length..];
    }
    safe.push_str(rest);
    safe
}

/// The length of what is escaped already, in front.
fn entity(text: &str) -> Option<usize> {
    ["&amp;", "&lt;", "&gt;"].into_iter().find(|it| text.starts_with(it)).map(str::len)
}

/// The length of a link in Slack's own marks, in front. Links call nobody.
fn link(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('<')?;
    let known = ["https://", "http://", "mailto:"].iter().any(|it| inside.starts_with(it));
    let end = inside.find(['>', '<', '\n'])?;
    (known && inside.as_bytes().get(end) == Some(&b'>')).then_some(end + 2)
}

/// The fields of a message: text, and blocks where there are buttons. The list of blocks is
/// empty where there are none, for an edit that names none would leave the old ones.
pub(super) fn fields(content: &Content) -> Value {
    let text = harmless(&content.text);
    let blocks = if content.actions.is_empty() { Vec::new() } else { blocks(&text, content) };
    json!({ "text": text, "blocks": blocks })
}

fn blocks(text: &str, content: &Content) -> Vec<Value> {
    let mut splitter = Splitter::new(MAX_SECTION, Unit::CodePoints, Markup::Markdown);
    let mut pieces = splitter.push(text);
    pieces.push(splitter.current());
    let sections = pieces.into_iter().filter(|piece| !piece.text.trim().is_empty()).map(|piece| {
        json!({ "type": "section", "expand": true,
                "text": { "type": "mrkdwn", "text": piece.text, "verbatim": true } })
    });
    let buttons: Vec<Value> =
        content.actions.iter().take(MAX_BUTTONS).enumerate().map(button).collect();
    sections.chain([json!({ "type": "actions", "elements": buttons })]).collect()
}

fn button((n, action): (usize, &Action)) -> Value {
    let mut button = json!({
        "type": "button",
        "action_id": format!("od-{n}"),
        "text": { "type": "plain_text", "text": action.label, "emoji": true },
        "value": action.line,
    });
    let style = match action.tone {
        Tone::Neutral => None,
        Tone::Good => Some("primary"),
        Tone::Bad => Some("danger"),
    };
    if let Some(style) = style {
        button["style"] = json!(style);
    }
    button
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_is_called_and_links_stay() {
        for (text, safe) in [
            ("<!channel> <@U1> <#C1>", "&lt;!channel> &lt;@U1> &lt;#C1>"),
            ("a < b && c > d", "a &lt; b &amp;&amp; c > d"),
            ("&lt;!here&gt; &amp;", "&lt;!here&gt; &amp;"),
            ("<https://example.com|a page>", "<https://example.com|a page>"),
            ("<https://example.com", "&lt;https://example.com"),
            ("<https://x <!channel>>", "&lt;https://x &lt;!channel>>"),
            ("Vec<&str>", "Vec&lt;&amp;str>"),
        ] {
            assert_eq!(harmless(text), safe);
        }
    }

    fn content(text: &str) -> Content {
        let action =
            |label: &str, line: &str, tone| Action { label: label.into(), line: line.into(), tone };
        Content {
            text: text.into(),
            actions: vec![
                action("Once", "/od-approve bot yes 1", Tone::Good),
                action("No", "/od-approve bot no 1", Tone::Bad),
                action("More", "/od-status bot", Tone::Neutral),
            ],
        }
    }

    #[test]
    fn buttons_stand_below_the_text_and_say_lines() {
        let fields = fields(&content("bot asks: *rm* <x>"));
        insta::assert_snapshot!(serde_json::to_string_pretty(&fields).unwrap());
    }

    #[test]
    fn an_edit_without_buttons_takes_old_ones_away() {
        assert_eq!(fields(&Content::from("a"))["blocks"], json!([]));
    }

    #[test]
    fn a_long_text_with_buttons_fills_several_sections() {
        let text = format!("```\n{}```\nend", "some line of code\n".repeat(210));
        let fields = fields(&content(&text));
        let blocks = fields["blocks"].as_array().unwrap();
        assert!(blocks.len() > 2, "{} blocks", blocks.len());
        for block in &blocks[..blocks.len() - 1] {
            let text = block["text"]["text"].as_str().unwrap();
            assert!(text.chars().count() <= MAX_SECTION);
            assert_eq!(text.matches("```").count() % 2, 0, "a fence stays open");
        }
    }

    proptest! {
        #[test]
        fn what_passed_the_gate_passes_it_again(text in "[<>&;!@#|a-z:/ \n]{0,60}") {
            let once = harmless(&text);
            prop_assert_eq!(&harmless(&once), &once);
            for mark in ["<!", "<@", "<#"] {
                prop_assert!(!once.contains(mark), "{}", once);
            }
        }
    }
}
