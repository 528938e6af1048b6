//! What a document itself says, apart from what the server fills in where it is silent. Pure.
//!
//! A document need not say which agent it means, with which model, and where it runs; the server fills
//! that in once, from its own settings. Those may change with the next start: then the files say what
//! they said, and nothing of theirs may run again, come under another name, or be refused for having
//! changed. So the inventory notes a digest of what the document said, and as long as that is the same
//! ([`is_same`]), what was filled in stays as it was.
//!
//! **Rows of an older server** have no digest. There a document counts as the same if all that it says
//! is what the row says, and the row has nothing beyond it but what the server fills in.

use std::collections::{HashMap, VecDeque};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::set::{Declared, Key};
use crate::{
    resource::{Kind, validate::MAX_NAME, whole_worker},
    store::{Base, Owned},
};

/// How many hexadecimal digits stand behind a `generateName`.
const SUFFIX: usize = 8;
/// How many hexadecimal digits of a digest are kept.
const DIGEST: usize = 32;

/// On what a document is silent that the server fills in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Silent {
    agent: bool,
    runtime: bool,
    model: bool,
}

impl Silent {
    /// Everything on which a document may be silent.
    fn all() -> impl Iterator<Item = Self> {
        (0_u8..8).map(|n| Self { agent: n & 1 > 0, runtime: n & 2 > 0, model: n & 4 > 0 })
    }

    /// Whether there is anything on which it is silent.
    pub(super) const fn is_any(self) -> bool {
        self.agent || self.runtime || self.model
    }

    /// Whether it does not say which agent it means.
    pub(super) const fn is_without_agent(self) -> bool {
        self.agent
    }

    /// On what the server has filled in: not where the spec says what silence means anyway.
    fn filled(self, spec: &Value) -> Self {
        let usual = serde_json::json!({"local": {}});
        Self { runtime: self.runtime && spec.get("runtime") != Some(&usual), ..self }
    }
}

fn has(spec: &Value, member: &str) -> bool {
    spec.get(member).is_some_and(|value| !value.is_null())
}

/// On what the spec of an Agent or a Job is silent.
pub(super) fn silent(spec: &Value) -> Silent {
    let opencode = spec.get("agent").and_then(|agent| agent.get("opencode"));
    Silent {
        agent: !has(spec, "agent"),
        runtime: !has(spec, "runtime"),
        model: opencode.is_some_and(|opencode| !has(opencode, "model")),
    }
}

/// Where a spec of this kind holds a worker's that the server fills in.
fn within(kind: Kind) -> Option<&'static [&'static str]> {
    whole_worker(kind).and_then(|keys| keys.split_first()).map(|(_, keys)| keys)
}

/// A spec without what was filled in for a document that is silent on it.
pub(super) fn own(kind: Kind, spec: &Value, silent: &Silent) -> Value {
    let mut own = spec.clone();
    let Some(keys) = within(kind) else { return own };
    let place = keys.iter().try_fold(&mut own, |value, key| value.get_mut(*key));
    let Some(Value::Object(members)) = place else { return own };
    // The order of what is left stays.
    members.retain(|name, _| {
        !(name == "agent" && silent.agent || name == "runtime" && silent.runtime)
    });
    if silent.model
        && let Some(Value::Object(opencode)) =
            members.get_mut("agent").and_then(|agent| agent.get_mut("opencode"))
    {
        opencode.retain(|name, _| name != "model");
    }
    own
}

/// A digest of a value, whatever the order of its members.
pub(super) fn digest(value: &Value) -> String {
    hex(sorted(value).to_string().as_bytes(), DIGEST)
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let members = names.into_iter().map(|name| (name.clone(), sorted(&members[name])));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn hex(bytes: &[u8], digits: usize) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(digits.div_ceil(2)).map(|byte| format!("{byte:02x}")).collect()
}

fn front(prefix: &str) -> String {
    prefix.chars().take(MAX_NAME - SUFFIX).collect()
}

/// The name of a Job that has only the beginning of one: the same for a document that says the same.
pub(super) fn name(prefix: &str, spec: &Value, silent: &Silent) -> String {
    drawn(prefix, &own(Kind::Job, spec, &silent.filled(spec)))
}

fn drawn(prefix: &str, own: &Value) -> String {
    format!("{}{}", front(prefix), hex(own.to_string().as_bytes(), SUFFIX))
}

/// Whether a name may have been drawn for this beginning.
fn is_drawn(name: &str, prefix: &str) -> bool {
    let suffix = name.strip_prefix(&front(prefix));
    suffix.is_some_and(|rest| rest.len() == SUFFIX && rest.bytes().all(|it| it.is_ascii_hexdigit()))
}

/// Whether a document says of its object's spec what it said when the row was written.
pub(super) fn is_same(row: &Owned, declared: &Declared) -> bool {
    if row.base.spec == declared.base.spec {
        return true;
    }
    if !row.base.said.is_empty() {
        return row.base.said == declared.base.said;
    }
    let Some(keys) = within(row.kind) else { return false };
    let said = keys.iter().try_fold(&declared.own, |value, key| value.get(*key));
    let silent = said.map(silent).unwrap_or_default();
    own(row.kind, &row.base.spec, &silent) == declared.own
}

/// The Jobs of a Source whose names were drawn, by what their documents said: a document that says the
/// same finds its own, if under another name than it is drawn today, by an older server or from what that
/// one had filled in. As many may be asked for as there are.
pub(super) struct Drawn<'a> {
    /// By the beginning of their names and a digest, in the order of names.
    rows: HashMap<(String, Said), VecDeque<&'a Key>>,
}

/// By what a row is found.
#[derive(PartialEq, Eq, Hash)]
enum Said {
    /// What its document said.
    Own(String),
    /// What came of that.
    Whole(String),
    /// What its document said if it was silent on this: of a row without a digest.
    Silent(Silent, String),
}

impl<'a> Drawn<'a> {
    pub(super) fn of(rows: impl Iterator<Item = (&'a Key, &'a Owned)>) -> Self {
        let mut all = Self { rows: HashMap::new() };
        for (key, row) in rows.filter(|(_, row)| row.kind == Kind::Job && !row.leaving) {
            let Some(at) = row.name.len().checked_sub(SUFFIX) else { continue };
            let Some(front) = row.name.get(..at).filter(|front| is_drawn(&row.name, front)) else {
                continue;
            };
            let (spec, said) = (&row.base.spec, &row.base.said);
            let mut note = |said| {
                all.rows.entry((front.to_owned(), said)).or_default().push_back(key);
            };
            note(Said::Whole(digest(spec)));
            if said.is_empty() {
                for silent in Silent::all() {
                    note(Said::Silent(silent, digest(&own(Kind::Job, spec, &silent))));
                }
            } else {
                note(Said::Own(said.clone()));
            }
        }
        all
    }

    /// The first row of a Job that says what this document says and that is free. What is not free once
    /// may never be again.
    pub(super) fn take(
        &mut self,
        declared: &Declared,
        is_free: impl Fn(&Key) -> bool,
    ) -> Option<&'a Key> {
        let front = front(declared.prefix.as_deref()?);
        let Base { spec, said, .. } = &declared.base;
        let silent = silent(&declared.own);
        let ways = [
            Said::Whole(digest(spec)),
            Said::Own(said.clone()),
            Said::Silent(silent, digest(&declared.own)),
        ];
        let mut first = None;
        for way in ways {
            let Some(held) = self.rows.get_mut(&(front.clone(), way)) else { continue };
            while held.front().is_some_and(|key| !is_free(key)) {
                held.pop_front();
            }
            let next = held.front().copied();
            first = [first, next].into_iter().flatten().min();
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_filled_in_is_no_part_of_what_a_document_says() {
        let spec =
            json!({"task": "t", "agent": {"opencode": {"model": "a/b"}}, "runtime": {"fly": {}}});
        let said = |document: Value| own(Kind::Job, &spec, &silent(&document));
        assert_eq!(said(json!({"task": "t"})), json!({"task": "t"}));
        assert_eq!(
            said(json!({"task": "t", "agent": {"opencode": null}, "runtime": null})),
            json!({"task": "t", "agent": {"opencode": {}}})
        );
        assert_eq!(said(spec.clone()), spec);
        let schedule = json!({"schedule": "@daily", "jobTemplate": {"spec": spec}});
        assert_eq!(
            own(Kind::Schedule, &schedule, &silent(&json!({}))),
            json!({"schedule": "@daily", "jobTemplate": {"spec": {"task": "t"}}})
        );
        assert_eq!(own(Kind::Fleet, &spec, &silent(&json!({}))), spec);
    }

    #[test]
    fn a_digest_does_not_know_the_order_of_members() {
        let a = json!({"a": 1, "b": {"c": [1, {"d": 1, "e": 2}], "f": null}});
        let b = json!({"b": {"f": null, "c": [1, {"e": 2, "d": 1}]}, "a": 1});
        assert_eq!(digest(&a), digest(&b));
        assert_ne!(digest(&a), digest(&json!({"a": 1})));
        assert_eq!(digest(&a).len(), DIGEST);
    }

    #[test]
    fn only_eight_digits_behind_the_beginning_make_a_name_that_was_drawn() {
        assert!(is_drawn(&drawn("run-", &json!({})), "run-"));
        let long = "x".repeat(MAX_NAME);
        assert_eq!(drawn(&long, &json!({})).len(), MAX_NAME);
        assert!(is_drawn(&drawn(&long, &json!({})), &long));
        for other in ["run-", "run-0123456", "run-0123456z", "walk-01234567", "run-012345678"] {
            assert!(!is_drawn(other, "run-"), "{other}");
        }
    }
}
