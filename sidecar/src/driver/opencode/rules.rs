//! The rules that OpenCode decides by, and how ours stand among a person's own.
//!
//! OpenCode keeps a list of rules (a kind of permission, a pattern, an action), of which the last
//! one that fits counts. It lays them one behind the other: its own, those of a person's
//! configuration, those of `OPENCODE_PERMISSION`, those of the agent that works, and behind all
//! of them those of the session. The rules of a run's mode come twice:
//!
//! - By `OPENCODE_PERMISSION`, so that they hold for subagents as well. OpenCode merges that
//!   into the person's configuration name by name, and one name would take the other's place; so
//!   ours are spelled as nobody else spells them (`bash *`, which fits `bash` and no other
//!   kind), and the person's stay what they are and where they are.
//! - By the session, where the rules of an agent cannot loosen them. Once the server runs it
//!   tells all that it would decide by, and what of it denies is said once more behind ours
//!   ([`kept`]): a mode may ask about what a person allows, and never allows what a person denies.

use serde_json::{Value, json};

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It may.
    Allow,
    /// A person is asked.
    Ask,
    /// It may not.
    Deny,
}

impl Action {
    /// As OpenCode writes it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }

    fn read(word: &str) -> Option<Self> {
        [Self::Allow, Self::Ask, Self::Deny].into_iter().find(|action| action.word() == word)
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// The kind of permission, as a pattern.
    pub name: String,
    /// What it is about, as a pattern.
    pub pattern: String,
    /// What it says.
    pub action: Action,
}

impl Rule {
    /// A rule on these.
    pub(super) fn new(name: &str, pattern: &str, action: Action) -> Self {
        Self { name: name.to_owned(), pattern: pattern.to_owned(), action }
    }

    /// Reads a list of rules; none if it is no such list.
    pub(super) fn read(rules: &Value) -> Option<Vec<Self>> {
        let one = |rule: &Value| {
            let action = Action::read(rule["action"].as_str()?)?;
            Some(Self::new(rule["permission"].as_str()?, rule["pattern"].as_str()?, action))
        };
        rules.as_array()?.iter().map(one).collect()
    }

    /// Writes a list of rules as [`Rule::read`] takes it.
    pub(super) fn write(rules: &[Self]) -> Value {
        let one = |rule: &Self| {
            json!({
                "permission": rule.name,
                "pattern": rule.pattern,
                "action": rule.action.word(),
            })
        };
        rules.iter().map(one).collect()
    }
}

/// The rules for `OPENCODE_PERMISSION`, behind those that a person set there (`own`, which is
/// left out where it is no JSON object). The order counts, which maps of JSON need not keep.
pub(super) fn variable(rules: &[Rule], own: Option<&str>) -> String {
    let mut members: Vec<(&str, Vec<String>)> = Vec::new();
    for rule in rules {
        let pattern = format!("{}:{}", json!(rule.pattern), json!(rule.action.word()));
        match members.iter_mut().find(|(name, _)| *name == rule.name) {
            Some((_, patterns)) => patterns.push(pattern),
            None => members.push((&rule.name, vec![pattern])),
        }
    }
    let member = |(name, patterns): &(&str, Vec<String>)| {
        format!("{}:{{{}}}", json!(spelled(name)), patterns.join(","))
    };
    let ours = members.iter().map(member).collect::<Vec<_>>().join(",");
    joined(own.and_then(inside).unwrap_or_default(), &ours)
}

/// What stands within the braces of a JSON object; none where it is no such text.
pub(super) fn inside(object: &str) -> Option<&str> {
    serde_json::from_str::<serde_json::Map<String, Value>>(object).ok()?;
    Some(object.trim().strip_prefix('{')?.strip_suffix('}')?.trim())
}

/// An object with the members of one and then those of another.
pub(super) fn joined(first: &str, second: &str) -> String {
    let members = [first, second].into_iter().filter(|members| !members.is_empty());
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// A name as only we spell it. It fits the same kinds of permission: a blank and a star at the
/// end fit nothing as well, and no kind has a blank.
fn spelled(name: &str) -> String {
    format!("{name} *")
}

/// The rules for the session: the mode's (`ours`), and behind them what denies of all that
/// OpenCode would decide by without them (`all`, as it tells it for the agent that works).
///
/// What a person excepts from a denial is not denied by us either, and is as the mode has it
/// where that can be said in one rule; else a person is asked.
pub(super) fn kept(ours: &[Rule], all: &[Rule]) -> Vec<Rule> {
    let is_ours = |rule: &Rule| {
        ours.iter().any(|our| {
            spelled(&our.name) == rule.name
                && our.pattern == rule.pattern
                && our.action == rule.action
        })
    };
    let last_of_ours = all.iter().rposition(is_ours);
    let mut denied: Vec<&str> = Vec::new();
    let mut kept = ours.to_vec();
    for (at, rule) in all.iter().enumerate().filter(|(_, rule)| !is_ours(rule)) {
        let is_behind = last_of_ours.is_some_and(|last| at > last);
        if rule.action == Action::Deny {
            denied.push(&rule.name);
            kept.push(rule.clone());
        } else if is_behind && is_tool_output(rule) {
            kept.push(rule.clone());
        } else if denied.iter().any(|name| overlap(name, &rule.name)) {
            kept.extend(as_the_mode_has_it(ours, rule));
        }
    }
    kept
}

/// Whether it is the rule that OpenCode itself puts behind all others: the long output of tools,
/// which it keeps in a file of its own, may be read.
fn is_tool_output(rule: &Rule) -> bool {
    rule.name == "external_directory" && rule.pattern.ends_with("/opencode/tool-output/*")
}

/// Whether some kind of permission may fit both names. Rather too often than not.
fn overlap(one: &str, other: &str) -> bool {
    one == other || is_open(one) || is_open(other)
}

fn is_open(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// What the mode says where this rule fits.
fn as_the_mode_has_it(ours: &[Rule], rule: &Rule) -> Vec<Rule> {
    if rule.pattern == "*" && rule.name == "*" {
        return ours.to_vec();
    }
    let asks = Rule::new(&rule.name, &rule.pattern, Action::Ask);
    let is_plain = |our: &Rule| our.name == "*" || !is_open(&our.name);
    if is_open(&rule.name) || !ours.iter().all(is_plain) {
        return vec![asks];
    }
    let mut of_this = ours.iter().filter(|our| our.name == "*" || our.name == rule.name);
    if rule.pattern == "*" {
        let named = of_this.map(|our| Rule { name: rule.name.clone(), ..our.clone() });
        return std::iter::once(asks.clone()).chain(named).collect();
    }
    match of_this.next_back() {
        Some(last) if last.pattern == "*" => vec![Rule { action: last.action, ..asks }],
        _ => vec![asks],
    }
}

/// The rules that OpenCode would decide by for the agent that works, from its list of agents;
/// the first one that a person may speak with is the one that works where none is named.
///
/// # Errors
/// Words on what is missing in the list.
pub(super) fn of_agent(agents: &Value, name: Option<&str>) -> Result<Vec<Rule>, String> {
    let speaks = |agent: &&Value| agent["mode"] != "subagent" && agent["hidden"] != true;
    let mut listed = agents.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let agent = match name {
        Some(name) => listed.find(|agent| agent["name"] == name),
        None => listed.find(speaks),
    };
    let agent = agent.ok_or_else(|| match name {
        Some(name) => format!("it has no agent {name:?}"),
        None => "it names no agent to work with".to_owned(),
    })?;
    Rule::read(&agent["permission"])
        .ok_or_else(|| "it does not tell the rules that it decides by".to_owned())
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
