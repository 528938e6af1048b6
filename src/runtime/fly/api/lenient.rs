//! Reading what Fly answers without falling over it.
//!
//! The API has no version: members appear, become `null`, or change from number to text, and the
//! published schema says that nothing is required. One machine that reads badly must not hide the
//! ten thousand beside it, so a value of another kind than expected counts as not being there. What
//! we cannot do without (a machine's id) is read strictly.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// A value, or the default where it is missing, `null` or of another kind.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Text; an empty one counts as none.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = or_default(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// A map of texts, without those of its values that are none (`null` is one that was removed).
pub(super) fn texts<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let map: BTreeMap<String, Value> = or_default(deserializer)?;
    let text = |(key, value)| match value {
        Value::String(value) => Some((key, value)),
        Value::Number(value) => Some((key, value.to_string())),
        Value::Bool(value) => Some((key, value.to_string())),
        _ => None,
    };
    Ok(map.into_iter().filter_map(text).collect())
}

/// A list, without those of its members that cannot be read.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let list: Vec<Value> = or_default(deserializer)?;
    Ok(list.into_iter().filter_map(|value| serde_json::from_value(value).ok()).collect())
}

/// A time as text (RFC 3339), or as milliseconds since 1970.
pub(super) fn time<'de, D>(deserializer: D) -> Result<Option<Timestamp>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => {
            number.as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok())
        }
        _ => None,
    })
}
