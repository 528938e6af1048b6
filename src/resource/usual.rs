//! What the members of a Fleet were filled in with where their template is silent: which agent works,
//! with which model, and where.
//!
//! The server's settings may change with its next start. Then a template that says what it said makes
//! the members that it made: no Job of it has another name and runs again, no Agent comes up anew. So the
//! first look at a template notes what holds for it, and a template that says something else has its own.
//! The notes of former templates are kept for as long as a template may come back: an Override ends, or a
//! commit is reverted.
//!
//! What it says is what decides whom it makes: of Jobs, what their attempts are made from; of Agents,
//! which agent works and where. Another time to live runs nothing again, and neither does another order of
//! the same members. A note that an older server made of all that the template says is taken as long as
//! that is the same, and made anew.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{AgentCli, Defaults, FleetSpec, FleetStatus, Kind, admit::JOB_FIXED, expand::hash};

/// How many characters of a digest are kept.
const DIGEST: usize = 16;
/// What decides which Agents a template makes.
const OF_AGENTS: [&str; 2] = ["agent", "runtime"];

/// What held where a template is silent, when it was read first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usual {
    /// Of which template: a digest of what in its spec decides whom it makes.
    pub of: String,
    /// The agent that was configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentCli>,
    /// The first agent whose CLI was found on the server's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<AgentCli>,
    /// The model of an OpenCode agent that names none, as `provider/model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opencode_model: Option<String>,
    /// Whether what names no place ran as a machine.
    #[serde(default)]
    pub on_fly: bool,
}

/// What held for a template that a Fleet has no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastUsual {
    /// What held.
    pub usual: Usual,
    /// Until when that is known.
    #[schemars(with = "String")]
    pub until: Timestamp,
}

impl FleetStatus {
    /// What is noted for the template of a spec, also where another one stood there meanwhile; nothing
    /// for one that was never looked at, or too long ago.
    #[must_use]
    pub fn usual_of(&self, fleet: &FleetSpec) -> Option<Usual> {
        let now = self.usual.as_ref().and_then(|usual| usual.of(fleet));
        now.or_else(|| {
            let past = |of: &str| self.past_usual.get(of)?.usual.of(fleet);
            past(&digest(fleet)).or_else(|| past(&of_older_servers(fleet)))
        })
    }
}

impl Usual {
    /// Whether the spec of an Agent or a Job leaves anything to the server's settings.
    #[must_use]
    pub fn is_asked_by(spec: &Value) -> bool {
        let is_silent = |of: &Value, member: &str| of.get(member).is_none_or(Value::is_null);
        let opencode = spec.get("agent").and_then(|agent| agent.get("opencode"));
        is_silent(spec, "agent")
            || is_silent(spec, "runtime")
            || opencode.is_some_and(|opencode| is_silent(opencode, "model"))
    }

    /// It as a note of the template that a Fleet has now, if it was made for that.
    #[must_use]
    pub fn of(&self, fleet: &FleetSpec) -> Option<Self> {
        let now = digest(fleet);
        let is_of = self.of == now || self.of == of_older_servers(fleet);
        is_of.then(|| Self { of: now, ..self.clone() })
    }
}

/// A digest of what decides whom a template makes, whatever the order of its members.
fn digest(fleet: &FleetSpec) -> String {
    let template = &fleet.template;
    let decides = match template.kind {
        Kind::Job => &JOB_FIXED[..],
        _ => &OF_AGENTS[..],
    };
    let said =
        decides.iter().filter_map(|name| Some(((*name).to_owned(), template.spec.get(*name)?)));
    let said: Map<String, Value> = said.map(|(name, value)| (name, value.clone())).collect();
    hash(&plain(&json!([template.kind.name(), said])), DIGEST)
}

/// What older servers noted: a digest of all that a template's spec says, as it was written.
fn of_older_servers(fleet: &FleetSpec) -> String {
    hash(&Value::Object(fleet.template.spec.clone()), DIGEST)
}

/// A value with its members in their order, and without those that say nothing.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut said: Vec<_> = members.iter().filter(|(_, value)| !value.is_null()).collect();
            said.sort_by_key(|(name, _)| *name);
            said.into_iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        other => other.clone(),
    }
}

impl Defaults {
    /// What holds today where a Fleet's template is silent.
    #[must_use]
    pub fn usual(&self, fleet: &FleetSpec) -> Usual {
        Usual {
            of: digest(fleet),
            agent: self.agent.clone(),
            found: self.found.first().cloned(),
            opencode_model: self.opencode_model.clone(),
            on_fly: self.on_fly,
        }
    }

    /// These, with what was usual once.
    #[must_use]
    pub fn with_usual(&self, usual: &Usual) -> Self {
        let Usual { agent, found, opencode_model, on_fly, .. } = usual.clone();
        Self { agent, found: found.into_iter().collect(), opencode_model, on_fly, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(kind: &str, spec: &str) -> FleetSpec {
        let text = format!(
            r#"{{"generate": {{"replicas": 1}}, "template": {{"kind": "{kind}", "spec": {spec}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn note(fleet: &FleetSpec) -> Usual {
        Defaults::default().usual(fleet)
    }

    #[test]
    fn a_note_holds_for_as_long_as_the_template_makes_the_same_members() {
        let job = r#"{"task": "x", "env": [{"name": "A", "value": "1"}], "retries": 1}"#;
        let same = [
            r#"{"task": "x", "env": [{"name": "A", "value": "1"}], "ttlAfterFinished": "48h"}"#,
            r#"{"retries": 1, "env": [{"value": "1", "name": "A"}], "task": "x"}"#,
            r#"{"task": "x", "env": [{"name": "A", "value": "1"}], "agent": null}"#,
        ];
        let other = [r#"{"task": "y", "env": [{"name": "A", "value": "1"}]}"#, r#"{"task": "x"}"#];
        let of_job = note(&fleet("Job", job));
        let agent = r#"{"runtime": {"local": {"isolation": "worktree", "workdir": "a"}}}"#;
        let same_agent = r#"{"instructions": "y",
                             "runtime": {"local": {"workdir": "a", "isolation": "worktree"}}}"#;
        let of_agent = note(&fleet("Agent", agent));
        for spec in same {
            assert_eq!(of_job.of(&fleet("Job", spec)), Some(of_job.clone()), "{spec}");
        }
        assert_eq!(of_agent.of(&fleet("Agent", same_agent)), Some(of_agent.clone()));
        for spec in other {
            assert_eq!(of_job.of(&fleet("Job", spec)), None, "{spec}");
        }
        assert_eq!(of_agent.of(&fleet("Agent", "{}")), None);
        assert_eq!(of_agent.of(&fleet("Job", agent)), None);
    }

    #[test]
    fn a_note_of_an_older_server_is_taken_and_made_anew() {
        let fleet = fleet("Job", r#"{"task": "x", "retries": 1}"#);
        let agent = serde_json::from_value(json!({"opencode": {}})).unwrap();
        let now = Usual { agent: Some(agent), ..note(&fleet) };
        // What the digest of that spec was.
        let old = Usual { of: "218fa41cf8db591f".to_owned(), ..now.clone() };
        assert_eq!(old.of(&fleet), Some(now));
    }
}
