//! kubectl's JSONPath templates: `{.items[*].metadata.name}`, `{range .items[*]}{.spec}{"\n"}{end}`.
//!
//! They are no RFC 9535: text stands around expressions in braces, a field's name needs no quotes
//! and may hold escaped dots, and there is `range`. Crates speak the RFC, so this is an evaluator
//! of its own, in two pure halves: [`parse`] makes steps of a text, [`eval`] walks a document.
//!
//! What a document lacks is nothing, and no error: a template over a thousand objects does not fail
//! for the one that has no label. `$` is the document, also inside of `range`; `@`, and a path that
//! names neither, is what the range stands at.

mod eval;
mod parse;

use std::{cmp::Ordering, fmt, str::FromStr};

use serde_json::Value;

use crate::resource::Span;

/// A template: text, and expressions in braces.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Node>);

/// One path, as `--sort-by`, `custom-columns` and `wait --for=jsonpath` take it: with or without
/// braces, and with or without the dot in front.
#[derive(Debug, Clone, PartialEq)]
pub struct Path(Steps);

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// What stands there.
    Text(String),
    /// What a path leads to, with a space between two.
    Path(Steps),
    /// The nodes, once for each that the path leads to.
    Range(Steps, Vec<Node>),
}

/// A path: where it begins, and how it goes on.
#[derive(Debug, Clone, PartialEq)]
struct Steps {
    from_root: bool,
    steps: Vec<Step>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// Members by name.
    Fields(Vec<String>),
    /// Every member or element.
    Every,
    /// The value itself and all that is in it.
    Deep,
    /// Elements by their place; from the end, where it is negative.
    Places(Vec<i64>),
    /// `[from:to:step]`.
    Slice(Option<i64>, Option<i64>, Option<i64>),
    /// The elements for which it holds.
    Filter(Operand, Option<(Relation, Operand)>),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Path(Steps),
    Literal(Value),
}

/// How two sides are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::Unequal => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// A text that is no template or no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no JSONPath: {why}")]
pub struct NotAPath {
    text: String,
    why: String,
}

impl Template {
    /// What the template makes of a document.
    #[must_use]
    pub fn render(&self, document: &Value) -> String {
        let mut text = String::new();
        eval::render(&self.0, document, document, &mut text);
        text
    }
}

impl FromStr for Template {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let why = |why| NotAPath { text: text.to_owned(), why };
        parse::template(text).map(Self).map_err(why)
    }
}

impl Path {
    /// Everything that the path leads to.
    #[must_use]
    pub fn find<'a>(&self, document: &'a Value) -> Vec<&'a Value> {
        eval::find(&self.0, document, document)
    }
}

impl FromStr for Path {
    type Err = NotAPath;

    fn from_str(text: &str) -> Result<Self, NotAPath> {
        let why = |why| NotAPath { text: text.to_owned(), why };
        let bare = text.trim();
        let bare = bare.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(bare);
        let dotted = if bare.starts_with(['.', '[', '$', '@']) {
            bare.to_owned()
        } else {
            format!(".{bare}")
        };
        match parse::template(&format!("{{{dotted}}}")).map_err(why)?.as_slice() {
            [Node::Path(steps)] if !steps.steps.is_empty() => Ok(Self(steps.clone())),
            _ => Err(why("write one path, such as .metadata.name".to_owned())),
        }
    }
}

/// A value as templates and columns show it: text as it is, all else as JSON.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The order of two values: numbers by size, times of day and durations by length, text by letters;
/// nothing for two that have none.
#[must_use]
pub fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => {
            Some(match (a.parse::<Span>(), b.parse::<Span>()) {
                (Ok(a), Ok(b)) => a.as_millis().cmp(&b.as_millis()),
                _ => a.cmp(b),
            })
        }
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => (a == b).then_some(Ordering::Equal),
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "kind": "List",
            "items": [
                {
                    "kind": "Agent",
                    "metadata": {"name": "a", "labels": {"example.org/team": "x"}},
                    "spec": {"suspend": true, "env": [{"name": "A"}, {"name": "B"}]},
                    "status": {"turns": {"done": 12}, "phase": "Idle"},
                },
                {
                    "kind": "Agent",
                    "metadata": {"name": "b"},
                    "spec": {},
                    "status": {"turns": {"done": 3}, "phase": "Busy"},
                },
            ],
        })
    }

    fn of(template: &str) -> String {
        template.parse::<Template>().unwrap_or_else(|error| panic!("{error}")).render(&sample())
    }

    #[test]
    fn the_documented_forms_say_what_kubectl_says() {
        for (template, text) in [
            ("kind is {.kind}", "kind is List"),
            ("{.kind}", "List"),
            ("{$.kind}", "List"),
            ("{['kind']}", "List"),
            ("{.items[0].metadata.name}", "a"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[*]['metadata.name', 'status.phase']}", "a b Idle Busy"),
            ("{.items[*].status['phase', 'turns']}", "Idle Busy {\"done\":12} {\"done\":3}"),
            ("{..name}", "a A B b"),
            ("{.items[0].spec.env[0,1].name}", "A B"),
            ("{.items[0].spec.env[0:1].name}", "A"),
            ("{.items[0].spec.env[-1:].name}", "B"),
            ("{.items[0].spec.env[::2].name}", "A"),
            ("{.items[?(@.metadata.name==\"b\")].status.phase}", "Busy"),
            ("{.items[?(@.status.turns.done > 5)].metadata.name}", "a"),
            ("{.items[?(@.status.turns.done <= 3)].metadata.name}", "b"),
            ("{.items[?(@.spec.suspend)].metadata.name}", "a"),
            ("{.items[?(@.spec.suspend == true)].metadata.name}", "a"),
            ("{.items[?(@.metadata.name != 'a')].metadata.name}", "b"),
            (r"{.items[0].metadata.labels.example\.org/team}", "x"),
            ("{.items[0].metadata.labels['example.org/team']}", "x"),
            ("{.items[0].spec.env.*.name}", "A B"),
            ("{range .items[*]}[{.metadata.name}, {.status.phase}] {end}", "[a, Idle] [b, Busy] "),
            (
                "{range .items[*]}{.metadata.name}{\"\\t\"}{.kind}{\"\\n\"}{end}",
                "a\tAgent\nb\tAgent\n",
            ),
            ("{range .items[*]}{range .spec.env[*]}{@.name}{$.kind};{end}{end}", "AList;BList;"),
            ("{.items[0].spec.suspend}{'\\''}", "true'"),
            ("{.nothing.here}|{.items[9].kind}", "|"),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(of(template), text, "{template}");
        }
    }

    /// Each level takes as long as the one around it, times the document; and the stack has an end.
    #[test]
    fn what_stands_too_deep_in_itself_is_refused_before_it_is_walked() {
        let ranges = |n: usize| "{range $.items[*]}".repeat(n) + "x" + &"{end}".repeat(n);
        let filters = |n: usize| format!("{{.a{}{}}}", "[?(@".repeat(n), ")]".repeat(n));
        assert_eq!(of(&ranges(8)), "x".repeat(2_usize.pow(8)));
        assert_eq!(of(&filters(8)), "");
        for text in [ranges(9), filters(9), ranges(100_000), filters(100_000)] {
            let why = text.parse::<Template>().unwrap_err().to_string();
            assert!(why.contains("more than 8 deep"), "{why}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused_in_one_line() {
        let why = |text: &str| text.parse::<Template>().unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                "{.a",
                "{range .a}",
                "{.a}{end}",
                "{range}x{end}",
                "{.a[}",
                "{.a['x]}",
                "{.a[x]}",
                "{\"abc}",
                "{.a[?(@.b]}",
                "{.a[?(@.b ~ 1)]}",
                "{.a b}",
                "{}",
                "a}",
                "{.a[1:2:0]}",
                "{.a[?(@.b == )]}",
                "{..}",
            ]
            .map(why)
            .join("\n")
        );
    }

    #[test]
    fn a_path_needs_neither_braces_nor_a_dot() {
        for text in ["{.items[1].kind}", ".items[1].kind", "items[1].kind", "$.items[1].kind"] {
            let path: Path = text.parse().unwrap();
            assert_eq!(path.find(&sample()), [&json!("Agent")], "{text}");
        }
        for text in ["", "{}", "{.a}{.b}", "range .a", "{\"text\"}", "."] {
            assert!(text.parse::<Path>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_have_the_order_that_people_expect() {
        let sorted = |mut values: Vec<Value>| {
            values.sort_by(|a, b| order(a, b).unwrap_or(Ordering::Equal));
            values
        };
        assert_eq!(
            sorted(vec![json!(10), json!(9), json!(2.5)]),
            [json!(2.5), json!(9), json!(10)]
        );
        let spans = vec![json!("1h"), json!("90s"), json!("2m")];
        assert_eq!(sorted(spans), [json!("90s"), json!("2m"), json!("1h")]);
        assert_eq!(order(&json!("a"), &json!(1)), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[{}\[\].$@*?()'":,0-9a-c=<>! \\-]{0,24}"#) {
            if let Ok(template) = text.parse::<Template>() {
                let _ = template.render(&sample());
            }
            if let Ok(path) = text.parse::<Path>() {
                let _ = path.find(&sample());
            }
        }

        #[test]
        fn text_without_braces_stays_as_it_is(text in "[^{}]*") {
            prop_assert_eq!(of(&text), text);
        }

        #[test]
        fn a_slice_is_what_counting_says(from in -5_i64..5, to in -5_i64..5, step in 1_i64..4) {
            let list: Vec<i64> = (0..4).collect();
            let document = json!({"a": list});
            let path: Path = format!(".a[{from}:{to}:{step}]").parse().unwrap();
            let at = |n: i64| if n < 0 { n + 4 } else { n };
            let expected: Vec<i64> = list
                .into_iter()
                .filter(|n| *n >= at(from).max(0) && *n < at(to))
                .filter(|n| (n - at(from).max(0)) % step == 0)
                .collect();
            let found: Vec<i64> = path.find(&document).iter().filter_map(|n| n.as_i64()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
