//! What is asked for through the API stands in the audit, as what is said in chat does.
//!
//! The row commits with what was done; so what was refused, repeated or only tried leaves none.
//! Whoever comes here holds the server's token, so who it was is what they call themselves.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request},
};
use serde_json::Value;

use crate::{
    access::names,
    resource::{AnyObject, Kind},
    server::State,
    store::{AuditRow, Op, Outcome},
};

/// The header in which the command line says who types.
const BY: &str = "open-dispatch-by";
/// Who acts where a request names nobody.
pub(super) const API: &str = "api";
/// So many fields are named at most.
const FIELDS: usize = 8;

/// Who asks, as they call themselves: in [`BY`], or else the program that they use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(String);

impl Caller {
    /// Who asks by a request with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let program = || {
            let product = text(header::USER_AGENT.as_str())?.split_whitespace().next()?;
            product.split('/').next()
        };
        let named = text(BY).map(str::trim).filter(|name| !name.is_empty());
        Self::named(named.or_else(program).unwrap_or_default())
    }

    /// Whoever is called so.
    pub(super) fn named(name: &str) -> Self {
        let name = names::called(name);
        Self(if name.is_empty() { API.to_owned() } else { name })
    }

    /// What they are called.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// The row that says what they did.
    pub(super) fn did(&self, state: &State, what: String) -> Op {
        Op::Audit(AuditRow {
            n: 0,
            at: state.0.ambient.clock.now(),
            who: API.to_owned(),
            name: self.0.clone(),
            place: String::new(),
            what,
            outcome: Outcome::Allowed,
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// An object, as rows call it.
pub(super) fn called(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.name().to_lowercase())
}

/// What a change is called: the fields that it touches, and none of their values.
pub(super) fn change(old: &AnyObject, new: &AnyObject) -> String {
    let mut fields = differing(&old.to_json()["spec"], &new.to_json()["spec"]);
    let (before, after) = (old.metadata(), new.metadata());
    if before.labels != after.labels {
        fields.push("labels".to_owned());
    }
    if before.annotations != after.annotations {
        fields.push("annotations".to_owned());
    }
    if fields.len() > FIELDS {
        fields.truncate(FIELDS);
        fields.push("…".to_owned());
    }
    format!("set {} {}", called(new.kind(), &after.name), fields.join(" ")).trim_end().to_owned()
}

/// The members in which two objects differ.
fn differing(old: &Value, new: &Value) -> Vec<String> {
    let members = |value: &Value| -> Vec<String> {
        value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let mut names = [members(old), members(new)].concat();
    names.sort();
    names.dedup();
    names.retain(|name| old.get(name) != new.get(name));
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caller(headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header"));
        }
        Caller::of(&map).0
    }

    #[test]
    fn whoever_says_who_they_are_is_called_so() {
        assert_eq!(caller(&[(BY, "ada"), ("user-agent", "curl/8")]), "ada");
        assert_eq!(caller(&[(BY, " "), ("user-agent", "kubectl/v1.31 (linux)")]), "kubectl");
        assert_eq!(caller(&[]), "api");
        assert_eq!(caller(&[(BY, &"a".repeat(200))]).len(), 80);
        assert_eq!(Caller::named("a\nb").0, "a b");
    }

    #[test]
    fn a_change_names_fields_and_no_values() {
        let old = json!({"suspend": false, "model": "a", "same": 1});
        let new = json!({"suspend": true, "env": [{"value": "hush"}], "same": 1});
        assert_eq!(differing(&old, &new), ["env", "model", "suspend"]);
        assert_eq!(differing(&Value::Null, &Value::Null), Vec::<String>::new());
    }
}
