//! Slack's marks: what a person typed, from what Slack made of it. Pure.
//!
//! Slack writes links, names of people and channels, and `&<>` in marks of its own, and tells a
//! mention of us as one of them.

/// Whether a text mentions somebody.
pub(super) fn mentions(written: &str, user: &str) -> bool {
    !user.is_empty()
        && (written.contains(&format!("<@{user}>")) || written.contains(&format!("<@{user}|")))
}

/// The text without the mention of us in front, or else without the first one.
pub(super) fn without_mention(written: &str, user: &str) -> String {
    if !mentions(written, user) {
        return written.to_owned();
    }
    let Some(start) = written.find(&format!("<@{user}")) else { return written.to_owned() };
    let Some(length) = written[start..].find('>') else { return written.to_owned() };
    let (front, behind) = (&written[..start], &written[start + length + 1..]);
    if front.trim().is_empty() {
        // `@bot: do this` is as good as `@bot do this`.
        return behind.trim_start_matches([':', ',']).trim_start().to_owned();
    }
    format!("{}{}", front, behind.trim_start())
}

/// What a person typed, from what Slack made of it: links, names and `&<>` are written in marks.
pub(super) fn plain_text(written: &str) -> String {
    let mut plain = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(start) = rest.find('<') {
        plain.push_str(&entities(&rest[..start]));
        let Some(end) = rest[start..].find('>') else {
            rest = &rest[start..];
            plain.push_str(&entities(rest));
            return plain;
        };
        plain.push_str(&entities(&mark(&rest[start + 1..start + end])));
        rest = &rest[start + end + 1..];
    }
    plain.push_str(&entities(rest));
    plain
}

/// What a mark `<…>` stands for.
fn mark(inside: &str) -> String {
    let (target, label) = inside.split_once('|').map_or((inside, ""), |(a, b)| (a, b));
    let named = |sign: &str, id: &str| {
        format!(
            "{sign}{}",
            if label.is_empty() { id } else { label.trim_start_matches(['@', '#']) }
        )
    };
    match target.split_at_checked(1) {
        Some(("@", id)) => named("@", id),
        Some(("#", id)) => named("#", id),
        Some(("!", id)) => {
            let id = id.split('^').next().unwrap_or_default();
            named(if label.starts_with('#') { "#" } else { "@" }, id)
        }
        _ if label.is_empty() => target.trim_start_matches("mailto:").to_owned(),
        // Slack found it in what was typed.
        _ if target.ends_with(label) || target.trim_end_matches('/').ends_with(label) => {
            label.to_owned()
        }
        _ => format!("[{label}]({target})"),
    }
}

fn entities(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn marks_become_what_a_person_typed() {
        for (written, typed) in [
            ("see <https://example.com/a?b=1&amp;c=2>", "see https://example.com/a?b=1&c=2"),
            ("see <http://example.com|example.com>", "see example.com"),
            ("see <https://example.com/|the page>", "see [the page](https://example.com/)"),
            ("<mailto:a@example.com|a@example.com>", "a@example.com"),
            ("<!here> <!subteam^S1|@team> <#C1|general> <#C2>", "@here @team #general #C2"),
            ("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c"),
            ("a < b", "a < b"),
        ] {
            assert_eq!(plain_text(written), typed, "{written}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[<>@!#|&;a-zµ^:/ ]{0,40}") {
            let plain = plain_text(&without_mention(&text, "U1"));
            prop_assert!(plain.len() <= text.len() * 2 + 8);
        }

        #[test]
        fn what_was_escaped_comes_back(text in "[<>&;a-z µ\n'\"]{0,40}") {
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            prop_assert_eq!(plain_text(&escaped), text);
        }
    }
}
