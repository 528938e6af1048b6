//! What a person said, out of what Teams makes of it. Pure.
//!
//! Teams writes a mention as `<at>Name</at>` and some signs as HTML entities. The mention of
//! ourselves goes; those of others are left as their names, for they are part of what was said.

use super::{activity::Activity, quotes::without_marks};

/// What was said, and whether we were mentioned in it.
#[must_use]
pub fn said(activity: &Activity) -> (String, bool) {
    let mut text = without_marks(activity.text.as_deref().unwrap_or_default());
    let mut to_us = false;
    for entity in activity.entities.iter().filter(|entity| entity.r#type == "mention") {
        let Some(mentioned) = &entity.mentioned else { continue };
        let Some(mark) = entity.text.as_deref().filter(|mark| !mark.is_empty()) else { continue };
        if mentioned.id == activity.recipient.id {
            to_us = true;
            text = text.replacen(mark, "", 1);
        } else {
            let name = mentioned.name.as_deref().unwrap_or_default();
            text = text.replacen(mark, &format!("@{name}"), 1);
        }
    }
    (plain(text.trim_matches(is_blank)).trim_matches(is_blank).to_owned(), to_us)
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{a0}'
}

/// The longest entity that is read, with `&` and `;`.
const LONGEST: usize = 10;

/// A text without HTML entities. Each is read once: `&amp;lt;` is `&lt;`.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        told.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(LONGEST).position(|byte| byte == b';');
        let sign = end.and_then(|end| Some((sign(&rest[1..end])?, end + 1)));
        let (sign, length) = sign.unwrap_or(('&', 1));
        told.push(sign);
        rest = &rest[length..];
    }
    told.push_str(rest);
    // What Teams puts where a person typed several spaces.
    told.replace('\u{a0}', " ").replace("\r\n", "\n")
}

fn sign(name: &str) -> Option<char> {
    let named = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        _ => {
            let number = name.strip_prefix('#')?;
            let hex = number.strip_prefix(['x', 'X']);
            let code = hex.map_or_else(|| number.parse(), |hex| u32::from_str_radix(hex, 16));
            code.ok().and_then(char::from_u32).filter(|sign| *sign != '\0')?
        }
    };
    Some(named)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn heard(text: &str, mentions: &[(&str, &str, &str)]) -> (String, bool) {
        let mention = |(mark, id, name): &(&str, &str, &str)| json!({"type": "mention", "text": mark, "mentioned": {"id": id, "name": name}});
        let activity = json!({
            "type": "message",
            "text": text,
            "recipient": {"id": "28:us"},
            "entities": mentions.iter().map(mention).collect::<Vec<_>>(),
        });
        said(&serde_json::from_value(activity).unwrap())
    }

    #[test]
    fn our_mention_goes_and_others_stay_as_names() {
        let us = ("<at>Dispatch</at>", "28:us", "Dispatch");
        let ada = ("<at>Ada</at>", "29:ada", "Ada");
        let told = |text: &str, said: &str, to_us: bool| {
            assert_eq!(heard(text, &[us, ada]), (said.to_owned(), to_us), "{text}");
        };
        told("<at>Dispatch</at>&nbsp;od-list", "od-list", true);
        told("od-send api ask <at>Ada</at> <at>Dispatch</at>\n", "od-send api ask @Ada", true);
        told("<at>Dispatch</at> if a &lt; b &amp;&amp; c", "if a < b && c", true);
        assert_eq!(heard("<at>Dispatch</at> x", &[]).0, "<at>Dispatch</at> x");
        assert_eq!(heard("hello", &[ada]), ("hello".to_owned(), false));
    }

    #[test]
    fn entities_are_read_once_and_what_is_none_stays() {
        assert_eq!(
            plain("&amp;lt; &#65;&#x42; &nope; & &; a&nbsp;b &quot;"),
            "&lt; AB &nope; & &; a b \""
        );
        assert_eq!(plain("&é;&#0;&#xD800;"), "&é;&#0;&#xD800;");
    }

    proptest! {
        #[test]
        fn what_was_escaped_is_what_was_typed(text in "[^\u{a0}\r]{0,60}") {
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            prop_assert_eq!(plain(&escaped), text);
        }
    }
}
