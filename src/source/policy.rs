//! What a Source may write: pure, one fault for each thing that it may not.
//!
//! A policy looks through what is made from what is made: a Schedule's Jobs and a Fleet's members
//! count as if they stood in the file themselves. Where a Fleet fills a parameter into something that
//! the policy restricts, nobody can say here what it will be, so that is refused as well.
//!
//! Sources and Overrides are written only by a Source whose policy names these kinds: otherwise
//! whoever may change a file could give themselves another policy.

use serde_json::Value;

use crate::resource::{AnyObject, Fault, Kind, SourcePolicy};

/// The kinds that a Source may write where its policy names none.
pub const USUAL_KINDS: [Kind; 4] = [Kind::Agent, Kind::Job, Kind::Fleet, Kind::Schedule];
/// How a parameter of a Fleet begins.
const PARAMETER: &str = "{{";

/// What of an object a policy does not allow, each with its path. `on_fly` says where what names no
/// runtime will run ([`Defaults::on_fly`](crate::resource::Defaults::on_fly)): a Fleet's members are
/// filled in only when they are made.
#[must_use]
pub fn faults(object: &AnyObject, policy: Option<&SourcePolicy>, on_fly: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let nothing = SourcePolicy::default();
    let mut judge = Judge { policy: policy.unwrap_or(&nothing), on_fly, faults: &mut faults };
    judge.kind(object.kind(), "kind");
    match object {
        AnyObject::Agent(_) | AnyObject::Job(_) => {
            judge.spec(object.kind(), &object.to_json()["spec"], "spec");
        }
        AnyObject::Schedule(_) => {
            judge.kind(Kind::Job, "spec.jobTemplate");
            let spec = &object.to_json()["spec"]["jobTemplate"]["spec"];
            judge.spec(Kind::Job, spec, "spec.jobTemplate.spec");
        }
        AnyObject::Fleet(fleet) => {
            judge.kind(fleet.spec.template.kind, "spec.template.kind");
            let spec = Value::Object(fleet.spec.template.spec.clone());
            judge.spec(fleet.spec.template.kind, &spec, "spec.template.spec");
        }
        AnyObject::Source(_) | AnyObject::Override(_) | AnyObject::Sprite(_) => {}
    }
    faults
}

struct Judge<'a> {
    policy: &'a SourcePolicy,
    on_fly: bool,
    faults: &'a mut Vec<Fault>,
}

impl Judge<'_> {
    fn kind(&mut self, kind: Kind, path: &str) {
        let allowed = self.policy.kinds.as_deref().unwrap_or(&USUAL_KINDS);
        if !allowed.contains(&kind) {
            let names: Vec<&str> = allowed.iter().map(|kind| kind.name()).collect();
            let message = format!("{kind} may not be written by this source; {}", list(&names));
            self.faults.push(Fault::new(path, message));
        }
    }

    fn spec(&mut self, kind: Kind, spec: &Value, path: &str) {
        let policy = self.policy;
        let SourcePolicy { runtimes, images, channels, secrets, permission_modes, .. } = policy;
        if let Some(allowed) = runtimes {
            let at = format!("{path}.runtime");
            match &spec["runtime"] {
                Value::Object(members) => {
                    for name in members.keys() {
                        self.one("runtime", allowed, &format!("{at}.{name}"), name);
                    }
                }
                Value::Null => {
                    let usual = if self.on_fly { "fly" } else { "local" };
                    self.one("runtime", allowed, &at, usual);
                }
                other => self.text("runtime", allowed, &at, other),
            }
        }
        if let Some(allowed) = images {
            self.no_parameter(&spec["runtime"], &format!("{path}.runtime"));
            self.no_parameter(&spec["runtime"]["fly"], &format!("{path}.runtime.fly"));
            let image = &spec["runtime"]["fly"]["image"];
            if !image.is_null() {
                self.text("image", allowed, &format!("{path}.runtime.fly.image"), image);
            }
        }
        if let Some(allowed) = channels {
            self.channels(allowed, &spec["channels"], &format!("{path}.channels"));
            self.no_parameter(&spec["report"], &format!("{path}.report"));
            self.channels(allowed, &spec["report"]["to"], &format!("{path}.report.to"));
        }
        if let Some(allowed) = secrets {
            self.no_parameter(&spec["env"], &format!("{path}.env"));
            for (n, entry) in items(&spec["env"]) {
                let at = format!("{path}.env[{n}]");
                self.no_parameter(entry, &at);
                let secret = &entry["fromSecret"];
                if !secret.is_null() {
                    self.text("secret", allowed, &format!("{at}.fromSecret"), secret);
                }
            }
        }
        if let Some(allowed) = permission_modes {
            self.no_parameter(&spec["permissions"], &format!("{path}.permissions"));
            let at = format!("{path}.permissions.mode");
            match &spec["permissions"]["mode"] {
                Value::Null => {
                    let usual = if kind == Kind::Job { "bypass" } else { "ask" };
                    self.one("permission mode", allowed, &at, usual);
                }
                mode => self.text("permission mode", allowed, &at, mode),
            }
        }
        let restricts = runtimes.is_some()
            || images.is_some()
            || channels.is_some()
            || secrets.is_some()
            || permission_modes.is_some();
        if restricts && let Some(key) = members(spec).find(|key| key.contains(PARAMETER)) {
            let message = format!("`{key}` holds a parameter, which the policy cannot judge");
            self.faults.push(Fault::new(path, message));
        }
    }

    fn channels(&mut self, allowed: &[String], list: &Value, path: &str) {
        self.no_parameter(list, path);
        for (n, channel) in items(list) {
            let at = format!("{path}[{n}]");
            self.no_parameter(channel, &at);
            for (platform, place) in channel.as_object().into_iter().flatten() {
                let at = format!("{at}.{platform}.channel");
                self.no_parameter(place, &at);
                match place["channel"].as_str() {
                    Some(word) => {
                        self.one("channel", allowed, &at, &format!("{platform}:{word}"));
                    }
                    None => self.one("channel", allowed, &at, &format!("{platform}:")),
                }
            }
        }
    }

    /// A value that ought to be text; whatever else it is, it is not allowed.
    fn text(&mut self, what: &str, allowed: &[String], path: &str, value: &Value) {
        match value.as_str() {
            Some(word) => self.one(what, allowed, path, word),
            None => self.one(what, allowed, path, &value.to_string()),
        }
    }

    fn one(&mut self, what: &str, allowed: &[String], path: &str, word: &str) {
        if word.contains(PARAMETER) {
            self.parameter(path);
        } else if !allowed.iter().any(|pattern| matches(pattern, word)) {
            let names: Vec<&str> = allowed.iter().map(String::as_str).collect();
            let message =
                format!("the {what} `{word}` is not allowed to this source; {}", list(&names));
            self.faults.push(Fault::new(path, message));
        }
    }

    /// What is to be looked into may not be a parameter itself.
    fn no_parameter(&mut self, value: &Value, path: &str) {
        let is_one = value.as_str().is_some_and(|text| text.contains(PARAMETER));
        if is_one || members(value).any(|key| key.contains(PARAMETER)) {
            self.parameter(path);
        }
    }

    fn parameter(&mut self, path: &str) {
        let message = "holds a parameter, and the source's policy restricts what stands here; write \
                       it out";
        self.faults.push(Fault::new(path, message));
    }
}

fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

fn members(value: &Value) -> impl Iterator<Item = &String> {
    value.as_object().into_iter().flat_map(|map| map.keys())
}

fn list(allowed: &[&str]) -> String {
    if allowed.is_empty() {
        "its policy allows none".to_owned()
    } else {
        format!("its policy allows {}", allowed.join(", "))
    }
}

/// Whether a text fits a pattern, in which `*` stands for any text.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::resource::{API_VERSION, decode};

    fn object(kind: &str, spec: Value) -> AnyObject {
        decode(json!({
            "apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "a"}, "spec": spec,
        }))
        .unwrap()
    }

    fn told(object: &AnyObject, policy: Value) -> String {
        let policy: SourcePolicy = serde_json::from_value(policy).unwrap();
        let faults = faults(object, Some(&policy), false);
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn narrow() -> Value {
        json!({
            "runtimes": ["local"], "images": ["node", "registry/*"], "channels": ["slack:C1*"],
            "secrets": ["team-*"], "permissionModes": ["ask"],
        })
    }

    #[test]
    fn sources_and_overrides_are_written_only_where_the_policy_says_so() {
        let source = object("Source", json!({"from": {"directory": {"path": "/a"}}}));
        assert_eq!(faults(&source, None, false).len(), 1);
        assert_eq!(faults(&source, Some(&SourcePolicy::default()), false).len(), 1);
        assert_eq!(told(&source, json!({"kinds": ["Source"]})), "");
        assert_eq!(
            told(&source, json!({"kinds": ["Agent"]})),
            "kind: Source may not be written by this source; its policy allows Agent"
        );
    }

    #[test]
    fn each_thing_that_is_not_allowed_is_told_with_its_path() {
        let agent = object(
            "Agent",
            json!({
                "agent": {"claude": {}}, "runtime": {"fly": {"image": "evil"}},
                "channels": [{"slack": {"channel": "C1x"}}, {"discord": {"channel": "7"}}],
                "env": [{"name": "A", "fromSecret": "team-a"}, {"name": "B", "fromSecret": "root"}],
                "permissions": {"mode": "bypass"},
            }),
        );
        insta::assert_snapshot!(told(&agent, narrow()), @r"
        spec.runtime.fly: the runtime `fly` is not allowed to this source; its policy allows local
        spec.runtime.fly.image: the image `evil` is not allowed to this source; its policy allows node, registry/*
        spec.channels[1].discord.channel: the channel `discord:7` is not allowed to this source; its policy allows slack:C1*
        spec.env[1].fromSecret: the secret `root` is not allowed to this source; its policy allows team-*
        spec.permissions.mode: the permission mode `bypass` is not allowed to this source; its policy allows ask
        ");
    }

    #[test]
    fn what_is_not_said_counts_as_what_it_means() {
        let job = object("Job", json!({"task": "t", "agent": {"claude": {}}}));
        assert_eq!(
            told(&job, json!({"permissionModes": ["ask"], "runtimes": ["fly"]})),
            "spec.runtime.local: the runtime `local` is not allowed to this source; its policy allows fly\n\
             spec.permissions.mode: the permission mode `bypass` is not allowed to this source; its policy allows ask"
        );
    }

    #[test]
    fn what_is_made_from_it_counts_and_parameters_are_not_believed() {
        // Not decoded: whether its members are good is not asked here.
        let fleet = |spec: Value| {
            let spec = json!({
                "generate": {"replicas": 2},
                "template": {"kind": "Agent", "metadata": {}, "spec": spec},
            });
            let fleet = json!({"metadata": {"name": "a"}, "spec": spec});
            AnyObject::from_json(Kind::Fleet, fleet).unwrap()
        };
        let kinds = told(&fleet(json!({})), json!({"kinds": ["Fleet"]}));
        assert!(kinds.starts_with("spec.template.kind: Agent may not"), "{kinds}");
        for hidden in [
            json!({"runtime": "{{where}}"}),
            json!({"runtime": {"fly": {"image": "{{image}}"}}}),
            json!({"runtime": {"local": {}}, "channels": "{{channels}}"}),
            json!({"runtime": {"local": {}}, "channels": [{"slack": {"channel": "{{c}}"}}]}),
            json!({"runtime": {"local": {}}, "channels": [{"{{p}}": {"channel": "x"}}]}),
            json!({"runtime": {"local": {}}, "env": "{{env}}"}),
            json!({"runtime": {"local": {}}, "env": [{"name": "A", "fromSecret": "{{s}}"}]}),
            json!({"runtime": {"local": {}}, "permissions": "{{p}}"}),
            json!({"runtime": {"local": {}}, "permissions": {"mode": "{{m}}"}}),
            json!({"runtime": {"local": {}}, "{{key}}": {"mode": "bypass"}}),
            json!({"runtime": {"local": {}}, "report": {"to": "{{to}}"}}),
        ] {
            assert_ne!(told(&fleet(hidden.clone()), narrow()), "", "{hidden}");
        }
        assert_eq!(told(&fleet(json!({"instructions": "{{text}}"})), narrow()), "");
        let schedule = object(
            "Schedule",
            json!({
                "schedule": "@daily",
                "jobTemplate": {"spec": {
                    "task": "t", "agent": {"claude": {}}, "permissions": {"mode": "ask"},
                    "report": {"to": [{"slack": {"channel": "C2"}}]},
                }},
            }),
        );
        let lines = told(&schedule, narrow());
        assert!(lines.starts_with("spec.jobTemplate.spec.report.to[0].slack.channel"), "{lines}");
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "a", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("ab*ba", "aba", false),
            ("", "", true),
            ("", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_made_of_parts_of_a_text_fits_it(parts in proptest::collection::vec("[ab*]{0,3}", 1..5)) {
            let text = parts.join("").replace('*', "");
            let pattern = parts.iter().map(|part| part.replace('*', "")).collect::<Vec<_>>().join("*");
            prop_assert!(matches(&pattern, &text), "{} {}", pattern, text);
        }
    }
}
