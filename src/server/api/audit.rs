//! What is asked for through the API stands in the audit, as what is said in chat does.
//!
//! The row commits with what was done; so what was refused, repeated or only tried leaves none.
//! A named token is noted as `token:NAME`, which it cannot choose. Beside that stands what the caller
//! calls itself; for whoever holds the server's own token, which is `api`, there is nothing else.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{Extensions, HeaderMap, header, request},
};
use serde_json::Value;

use crate::{
    access::names,
    resource::{AnyObject, Kind},
    server::{State, access::Standing},
    store::{Access, AuditRow, Op, Outcome, Principal},
};

/// The header in which the command line says who types.
const BY: &str = "open-dispatch-by";
/// Who acts where a request names nobody.
pub(in crate::server) const API: &str = "api";
/// So many fields are named at most.
const FIELDS: usize = 8;

/// Who asks: which token they show, and what they call themselves (in [`BY`], or else by the program
/// that they use).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The row of the named token by which the door let them in; none for the server's own.
    token: Option<Access>,
    name: String,
}

impl Caller {
    /// Who asks by a request with these headers, and with what the door knows of it.
    pub(super) fn of(headers: &HeaderMap, known: &Extensions) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let program = || {
            let product = text(header::USER_AGENT.as_str())?.split_whitespace().next()?;
            product.split('/').next()
        };
        let named = text(BY).map(str::trim).filter(|name| !name.is_empty());
        let token = match known.get::<Standing>() {
            Some(Standing::Token(row)) => Some(row.clone()),
            Some(Standing::Server) | None => None,
        };
        Self { token, name: API.to_owned() }.named(named.or_else(program).unwrap_or_default())
    }

    /// The same caller, who calls itself so; an empty name says nothing.
    pub(super) fn named(self, name: &str) -> Self {
        match names::called(name) {
            name if name.is_empty() => self,
            name => Self { name, ..self },
        }
    }

    /// Who they are for the ledgers, where they show a named token.
    pub(super) fn principal(&self) -> Option<Principal> {
        self.token.as_ref().map(|row| row.principal.clone())
    }

    /// What others are told who asked: for a named token also which, since its holder chooses the
    /// rest.
    pub(super) fn signature(&self) -> String {
        match self.principal() {
            None => self.name.clone(),
            Some(token) => format!("{} ({token})", self.name),
        }
    }

    /// What notes what they did, and lets it pass only while their token stands as the door saw it.
    pub(super) fn did(&self, state: &State, what: String) -> Op {
        let who = self.principal().map_or_else(|| API.to_owned(), |token| token.to_string());
        let row = AuditRow {
            n: 0,
            at: state.0.ambient.clock.now(),
            who,
            name: self.name.clone(),
            place: String::new(),
            what,
            outcome: Outcome::Allowed,
        };
        match &self.token {
            None => Op::Audit(row),
            Some(token) => Op::ByToken { token: token.clone(), note: Some(row) },
        }
    }

    /// What lets a write that stands in no audit pass only while their token stands.
    pub(super) fn stands(&self) -> Option<Op> {
        self.token.clone().map(|token| Op::ByToken { token, note: None })
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, &parts.extensions))
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
        Caller::of(&map, &Extensions::new()).name
    }

    #[test]
    fn whoever_says_who_they_are_is_called_so() {
        assert_eq!(caller(&[(BY, "ada"), ("user-agent", "curl/8")]), "ada");
        assert_eq!(caller(&[(BY, " "), ("user-agent", "kubectl/v1.31 (linux)")]), "kubectl");
        assert_eq!(caller(&[]), "api");
        assert_eq!(caller(&[(BY, &"a".repeat(200))]).len(), 80);
        assert_eq!(Caller::of(&HeaderMap::new(), &Extensions::new()).named("a\nb").name, "a b");
        assert_eq!(Caller::of(&HeaderMap::new(), &Extensions::new()).named(" ").name, "api");
    }

    #[test]
    fn a_named_token_is_told_with_what_its_holder_calls_itself() {
        let mut map = HeaderMap::new();
        map.insert(BY, "ada".parse().expect("a header"));
        let server = Caller::of(&map, &Extensions::new());
        assert_eq!((server.signature().as_str(), server.principal()), ("ada", None));
        let mut known = Extensions::new();
        known.insert(Standing::Token(Access {
            principal: Principal::token("ci"),
            role: crate::store::Role::User,
            name: String::new(),
            by: API.to_owned(),
            pairing: None,
            created: jiff::Timestamp::UNIX_EPOCH,
            token: None,
        }));
        let token = Caller::of(&map, &known);
        assert_eq!(token.signature(), "ada (token:ci)");
        assert_eq!(token.principal(), Some(Principal::token("ci")));
    }

    #[test]
    fn a_change_names_fields_and_no_values() {
        let old = json!({"suspend": false, "model": "a", "same": 1});
        let new = json!({"suspend": true, "env": [{"value": "hush"}], "same": 1});
        assert_eq!(differing(&old, &new), ["env", "model", "suspend"]);
        assert_eq!(differing(&Value::Null, &Value::Null), Vec::<String>::new());
    }
}
