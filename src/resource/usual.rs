//! What the members of a Fleet were filled in with where their template is silent: which agent works,
//! with which model, and where.
//!
//! The server's settings may change with its next start. Then a template that says what it said makes
//! the members that it made: no Job of it has another name and runs again, no Agent comes up anew. So the
//! first look at a template notes what holds for it, and a template that says something else has its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgentCli, Defaults, FleetSpec, expand::hash};

/// How many characters of a digest are kept.
const DIGEST: usize = 16;

/// What held where a template is silent, when it was read first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usual {
    /// Of which template: a digest of its spec.
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

    /// Whether it was noted for the template that a Fleet has now.
    #[must_use]
    pub fn is_of(&self, fleet: &FleetSpec) -> bool {
        self.of == digest(fleet)
    }
}

fn digest(fleet: &FleetSpec) -> String {
    hash(&Value::Object(fleet.template.spec.clone()), DIGEST)
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
