//! Two texts as a unified diff.

use similar::TextDiff;

use crate::cli::out;

/// How many lines stand around a change.
const CONTEXT: usize = 3;
/// What ends a colour.
const PLAIN: &str = "\x1b[0m";

/// The diff of an object; nothing where the texts are the same.
#[must_use]
pub(super) fn unified(name: &str, live: &str, merged: &str, colours: bool) -> String {
    let diff = TextDiff::from_lines(live, merged);
    let side = |side: &str, text: &str| {
        if text.is_empty() { "/dev/null".to_owned() } else { format!("{side}/{name}") }
    };
    let text = diff
        .unified_diff()
        .context_radius(CONTEXT)
        .header(&side("live", live), &side("merged", merged))
        .to_string();
    let text = out::harmless_lines(&text);
    if !colours {
        return text;
    }
    text.lines().map(|line| format!("{}\n", coloured(line))).collect()
}

fn coloured(line: &str) -> String {
    let colour = if line.starts_with("---") || line.starts_with("+++") {
        "\x1b[1m"
    } else if line.starts_with("@@") {
        "\x1b[36m"
    } else if line.starts_with('-') {
        "\x1b[31m"
    } else if line.starts_with('+') {
        "\x1b[32m"
    } else {
        return line.to_owned();
    };
    format!("{colour}{line}{PLAIN}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stands_with_what_is_around_it() {
        let live: String = (1..=9).map(|n| format!("line {n}\n")).collect();
        let merged = live.replace("line 5\n", "line five\n\u{1b}[2J\n");
        insta::assert_snapshot!(
            [
                unified("agent.x.a", &live, &merged, false),
                unified("agent.x.new", "", "a: 1\n", false),
                unified("agent.x.gone", "a: 1\n", "", false),
            ]
            .join("\n")
        );
        assert_eq!(unified("agent.x.a", &live, &live, false), "");
        let coloured = unified("agent.x.a", &live, &merged, true);
        assert!(coloured.contains("\u{1b}[31m-line 5\u{1b}[0m\n"), "{coloured:?}");
        assert!(coloured.contains("\n line 4\n"), "{coloured:?}");
    }
}
