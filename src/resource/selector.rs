//! Label selectors in the words of Kubernetes: `team=payments,tier!=test,env in (a, b),!old`.

use std::collections::BTreeMap;

use super::validate::{bad_key, bad_label_value};

/// Which objects are meant, by their labels. The empty selector means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// One demand on the labels.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    /// The label is there, with one of these values.
    In(String, Vec<String>),
    /// The label is not there, or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    Absent(String),
}

/// A text that is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is no label selector: {why}")]
pub struct NotASelector {
    /// The part that is wrong.
    pub part: String,
    /// Why, and what to write instead.
    pub why: String,
}

impl Selector {
    /// Reads a selector: requirements with commas between them, all of which must hold.
    ///
    /// # Errors
    /// The first part that is no requirement.
    pub fn parse(text: &str) -> Result<Self, NotASelector> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        parts(text)
            .into_iter()
            .map(|part| requirement(part.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether labels are as demanded.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
        })
    }

    /// Whether all objects are meant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

/// What can be written.
const FORMS: &str = "write key=value, key!=value, key in (a, b), key notin (a, b), key or !key";

/// Splits at the commas that are not in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(part: &str) -> Result<Requirement, NotASelector> {
    let wrong = |why: String| NotASelector { part: part.to_owned(), why };
    let key = |text: &str| match bad_key(text.trim()) {
        None => Ok(text.trim().to_owned()),
        Some(why) => Err(wrong(why)),
    };
    let value = |text: &str| match bad_label_value(text.trim()) {
        None => Ok(text.trim().to_owned()),
        Some(why) => Err(wrong(why)),
    };
    if let Some((left, right)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(key(left)?, vec![value(right)?]));
    }
    if let Some((left, right)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(key(left)?, vec![value(right)?]));
    }
    if let Some(rest) = part.strip_prefix('!') {
        return Ok(Requirement::Absent(key(rest)?));
    }
    if let Some((left, list)) = part.split_once('(') {
        let list = list
            .trim_end()
            .strip_suffix(')')
            .ok_or_else(|| wrong(format!("a parenthesis is not closed; {FORMS}")))?;
        let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
        return match left.trim().rsplit_once(char::is_whitespace) {
            Some((left, "in")) => Ok(Requirement::In(key(left)?, values)),
            Some((left, "notin")) => Ok(Requirement::NotIn(key(left)?, values)),
            _ => Err(wrong(FORMS.to_owned())),
        };
    }
    if part.is_empty() || part.contains(char::is_whitespace) {
        return Err(wrong(FORMS.to_owned()));
    }
    key(part).map(Requirement::Exists)
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_selector_means_what_it_means_to_kubectl() {
        let labels = labels(&[("team", "payments"), ("example.com/tier", "gold"), ("empty", "")]);
        for (selector, expected) in [
            ("", true),
            ("  ", true),
            ("team=payments", true),
            ("team==payments", true),
            (" team = payments ", true),
            ("team=search", false),
            ("team!=search", true),
            ("team!=payments", false),
            ("absent!=anything", true),
            ("team", true),
            ("absent", false),
            ("!absent", true),
            ("!team", false),
            ("team in (search, payments)", true),
            ("team in (search)", false),
            ("absent in (a)", false),
            ("team notin (search,payments)", false),
            ("absent notin (a)", true),
            ("example.com/tier=gold,team in (payments),!absent", true),
            ("example.com/tier=gold,team in (a,b)", false),
            ("empty=", true),
            ("team=", false),
        ] {
            let parsed = Selector::parse(selector).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(parsed.matches(&labels), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_part_and_the_mend() {
        let said: Vec<String> = [
            "team=a b",
            "=a",
            "a,,b",
            "team in (a",
            "team of (a)",
            "in (a)",
            "team in a",
            "-a",
            "a=b=c",
            "a>1",
            "!",
        ]
        .iter()
        .map(|text| match Selector::parse(text) {
            Ok(selector) => panic!("{text} was read as {selector:?}"),
            Err(error) => error.to_string(),
        })
        .collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    proptest! {
        #[test]
        fn a_selector_never_panics(text in "[a-c=!,() innot./-]{0,30}") {
            let _ = Selector::parse(&text);
        }

        #[test]
        fn a_demand_and_its_opposite_divide_the_world(
            labels in collection::btree_map("[a-c]", "[x-z]{0,1}", 0..3),
            key in "[a-c]",
            value in "[x-z]{0,1}",
        ) {
            for (one, other) in [
                (format!("{key}={value}"), format!("{key}!={value}")),
                (format!("{key} in ({value})"), format!("{key} notin ({value})")),
                (key.clone(), format!("!{key}")),
            ] {
                let is = |text: &str| Selector::parse(text).map(|s| s.matches(&labels));
                prop_assert_eq!(is(&one), is(&other).map(|is| !is));
            }
        }
    }
}
