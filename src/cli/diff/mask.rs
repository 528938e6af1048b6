//! What looks secret is not shown, and whether it differs is.
//!
//! Specs hold no secrets, by promise; a value that a person typed into one all the same is not to
//! reach a terminal's history or the log of a pipeline.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sprite_reporter::wire::names_secret;

/// What stands for a value that is the same on both sides.
const SAME: &str = "***";

/// The values of variables whose names say that they are secret, by the variable.
type Secrets = BTreeMap<String, BTreeSet<String>>;

/// Masks both sides of a comparison.
pub(super) fn mask(live: &mut Option<Value>, merged: &mut Option<Value>) {
    let (mut before, mut after) = (Secrets::new(), Secrets::new());
    live.iter().for_each(|live| collect(live, &mut before));
    merged.iter().for_each(|merged| collect(merged, &mut after));
    live.iter_mut().for_each(|live| cover(live, &after, "*** (before)"));
    merged.iter_mut().for_each(|merged| cover(merged, &before, "*** (after)"));
}

/// The name and the value of a variable, where it is one that is to be masked.
fn secret(entry: &Value) -> Option<(&str, &str)> {
    let (name, value) = (entry["name"].as_str()?, entry["value"].as_str()?);
    names_secret(name).then_some((name, value))
}

fn collect(value: &Value, found: &mut Secrets) {
    match value {
        Value::Array(items) => {
            for (name, value) in items.iter().filter_map(secret) {
                found.entry(name.to_owned()).or_default().insert(value.to_owned());
            }
            items.iter().for_each(|item| collect(item, found));
        }
        Value::Object(map) => map.values().for_each(|item| collect(item, found)),
        _ => {}
    }
}

fn cover(value: &mut Value, other_side: &Secrets, differs: &str) {
    match value {
        Value::Array(items) => {
            for item in items {
                let masked = secret(item).map(|(name, value)| {
                    let same = other_side.get(name).is_some_and(|values| values.contains(value));
                    if same { SAME } else { differs }
                });
                match masked {
                    Some(word) => item["value"] = word.into(),
                    None => cover(item, other_side, differs),
                }
            }
        }
        Value::Object(map) => map.values_mut().for_each(|item| cover(item, other_side, differs)),
        Value::String(text) => {
            if let Some(clean) = without_login(text) {
                *text = clean;
            }
        }
        _ => {}
    }
}

/// An address without the name and the password that stand in it.
fn without_login(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let host = rest.split(['/', ' ', '?', '#']).next()?;
    let (login, _) = host.rsplit_once('@')?;
    login.contains(':').then(|| format!("{scheme}://{SAME}{}", &rest[login.len()..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_and_whether_they_differ_is_told() {
        let spec = |token: &str, key: &str, url: &str| {
            Some(json!({"spec": {
                "env": [
                    {"name": "GH_TOKEN", "value": token}, {"name": "API_KEY", "value": key},
                    {"name": "RUST_LOG", "value": "info"},
                ],
                "repo": {"url": url},
            }}))
        };
        let mut live = spec("one", "same", "https://u:pass@h/r");
        let mut merged = spec("two", "same", "https://u@h/r");
        mask(&mut live, &mut merged);
        assert_eq!(live, spec("*** (before)", "***", "https://***@h/r"));
        assert_eq!(merged, spec("*** (after)", "***", "https://u@h/r"));
        let mut new = spec("new", "k", "");
        mask(&mut None, &mut new);
        assert!(!new.unwrap().to_string().contains("new\""));
    }
}
