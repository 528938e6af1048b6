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
#[error(
    "`{part}` is no label selector: {why}; write key=value, key!=value, key in (a, b), key notin (a, b), key or !key"
)]
pub struct NotASelector {
    /// The part that is wrong.
    pub part: String,
    /// Why.
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
            .ok_or_else(|| wrong("a parenthesis is not closed".to_owned()))?;
        let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
        return match left.trim().rsplit_once(char::is_whitespace) {
            Some((left, "in")) => Ok(Requirement::In(key(left)?, values)),
            Some((left, "notin")) => Ok(Requirement::NotIn(key(left)?, values)),
            _ => Err(wrong("a list needs `in` or `notin` before it".to_owned())),
        };
    }
    key(part).map(Requirement::Exists)
}
