//! What we send: messages as the connector takes them. Pure.
//!
//! Text travels as Teams' Markdown. Buttons travel as an Adaptive Card below it, which holds
//! nothing else: `Action.Execute`, which comes back as an invoke, with `Action.Submit` for
//! clients that do not know it.

use serde_json::{Value, json};

use super::hear::LINE;
use crate::chat::platform::{Action, Content, Tone};

/// The version of Adaptive Cards that brought `Action.Execute`.
const VERSION: &str = "1.4";

/// A message that shows this. Whoever posts it adds where it goes.
#[must_use]
pub fn message(content: &Content) -> Value {
    let attachments = match content.actions.as_slice() {
        [] => json!([]),
        actions => json!([{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": card(actions),
        }]),
    };
    json!({
        "type": "message",
        "textFormat": "markdown",
        "text": content.text,
        "attachments": attachments,
    })
}

fn card(actions: &[Action]) -> Value {
    json!({
        "type": "AdaptiveCard",
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "version": VERSION,
        "body": [],
        "actions": actions.iter().map(button).collect::<Vec<_>>(),
    })
}

fn button(action: &Action) -> Value {
    let style = match action.tone {
        Tone::Neutral => "default",
        Tone::Good => "positive",
        Tone::Bad => "destructive",
    };
    let data = json!({LINE: action.line});
    json!({
        "type": "Action.Execute",
        "title": action.label,
        "verb": "od",
        "style": style,
        "data": data,
        "fallback": {"type": "Action.Submit", "title": action.label, "data": data},
    })
}

/// The response to a button's invoke: whether anything came of it. Nothing does for strangers, who
/// were told so once.
#[must_use]
pub fn pressed(is_taken: bool) -> Value {
    let told = match is_taken {
        true => "Got it.",
        false => "Nobody has let you in yet, so nothing was done with that.",
    };
    json!({
        "statusCode": 200,
        "type": "application/vnd.microsoft.activity.message",
        "value": told,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_alone_or_above_its_buttons() {
        let action = |label: &str, line: &str, tone| Action {
            label: label.to_owned(),
            line: line.to_owned(),
            tone,
        };
        let actions = vec![
            action("Once", "/od-approve a once", Tone::Good),
            action("No", "/od-approve a no", Tone::Bad),
        ];
        insta::assert_json_snapshot!([
            message(&Content::from("**done**")),
            message(&Content { text: "May I?".to_owned(), actions }),
        ]);
    }
}
