//! Field selectors in the words of Kubernetes: `metadata.name=a,status.phase!=Idle`.

use serde_json::Value;

use super::selector::NotASelector;

/// What can be written.
const FORMS: &str = "write path=value or path!=value, such as status.phase=Idle";

/// Which objects are meant, by their fields. The empty selector means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Demand>);

/// One demand on a field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Demand {
    /// The way to the field.
    path: Vec<String>,
    /// What it is compared with.
    value: String,
    /// Whether it must be that, or must not.
    equal: bool,
}

impl FieldSelector {
    /// Reads a selector: demands with commas between them, all of which must hold. A backslash
    /// takes the meaning of a comma, an equals sign or a backslash behind it.
    ///
    /// # Errors
    /// The first part that is no demand.
    pub fn parse(text: &str) -> Result<Self, NotASelector> {
        let parts = split(text);
        parts
            .iter()
            .filter(|part| !part.trim().is_empty())
            .map(|part| demand(part))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether an object, or any other JSON, is as demanded. A field that is not there is the
    /// empty text.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|demand| (text_at(object, &demand.path) == demand.value) == demand.equal)
    }

    /// Whether all objects are meant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that a field must have, where one is demanded.
    #[must_use]
    pub fn only(&self, path: &str) -> Option<&str> {
        let found = self.0.iter().find(|demand| demand.equal && demand.path.join(".") == path);
        found.map(|demand| demand.value.as_str())
    }

    /// The demands on some fields alone.
    #[must_use]
    pub fn among(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let kept = self.0.iter().filter(|demand| wanted(&demand.path.join(".")));
        Self(kept.cloned().collect())
    }

    /// The paths that are demanded something of.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|demand| demand.path.join("."))
    }
}

/// The text of a field: what stands there, if it is no list and no object.
fn text_at(object: &Value, path: &[String]) -> String {
    let found = path.iter().try_fold(object, |value, name| value.get(name));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Splits at the commas that have no backslash before them.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        match parts.last_mut() {
            Some(_) if c == ',' && !escaped => parts.push(String::new()),
            Some(part) => part.push(c),
            None => {}
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

fn demand(part: &str) -> Result<Demand, NotASelector> {
    let wrong = |why: &str| NotASelector { part: part.to_owned(), why: why.to_owned() };
    let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (path, value, true)
    } else {
        return Err(wrong(FORMS));
    };
    let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(wrong(FORMS));
    }
    Ok(Demand { path, value: plain(value).ok_or_else(|| wrong(FORMS))?, equal })
}

/// A value without its backslashes.
fn plain(value: &str) -> Option<String> {
    let mut plain = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|next| ",=\\".contains(*next))?),
            '=' => return None,
            _ => plain.push(c),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_compares_fields_as_texts() {
        let object =
            json!({"metadata": {"name": "a"}, "spec": {"suspend": true, "n": 3, "l": [1]}});
        for (selector, expected) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a,spec.suspend=true", true),
            ("metadata.name!=a", false),
            ("spec.n=3", true),
            ("spec.absent=", true),
            ("spec.absent!=", false),
            ("spec.l=", true),
            ("metadata.name=b", false),
        ] {
            let parsed = FieldSelector::parse(selector).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(parsed.matches(&object), expected, "{selector}");
        }
        let escaped = FieldSelector::parse(r"a=x\,y\=z\\").unwrap();
        assert!(escaped.matches(&json!({"a": r"x,y=z\"})));
        assert_eq!(escaped.only("a"), Some(r"x,y=z\"));
        let both = FieldSelector::parse("metadata.name=b,spec.n=3").unwrap();
        assert!(!both.matches(&object) && both.among(|path| path == "spec.n").matches(&object));
    }

    #[test]
    fn what_is_no_field_selector_is_refused_with_the_part_and_the_mend() {
        for text in ["a", "=b", "a=b=c", "a.=b", r"a=\b", "a>1"] {
            let error = FieldSelector::parse(text).unwrap_err();
            assert!(error.to_string().contains("status.phase=Idle"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_field_selector_never_panics(text in r"[a-c.=!,\\ ]{0,30}") {
            let _ = FieldSelector::parse(&text);
        }
    }
}
