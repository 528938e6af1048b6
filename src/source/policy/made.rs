//! What objects of each kind may say, and what is made of them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Judge, list,
    words::{Word, Words, allows},
};
use crate::resource::{
    AnyObject, Fault, Fleet, FleetStatus, Kind, SourceFrom, SourcePolicy, SourceSpec,
    expand::{NoDirectories, members},
    fleet::Generator,
};
use crate::source::set::Rules;

/// Where a Fleet's members say what they are.
const TEMPLATE: &str = "spec.template.spec";
/// Where a Schedule's Jobs do.
const JOBS: &str = "spec.jobTemplate.spec";
/// What of it the settings fill in that a policy judges.
const FROM_SETTINGS: [&str; 2] = ["agent", "runtime"];
/// The most faults that are told of a Fleet's members.
const MOST_FAULTS: usize = 20;

/// What a Source's policy does not allow of a standing Fleet, where what was filled in for its members
/// was noted by other settings than today's: a template that says what it said is made with that.
/// Nothing where those of today count. Of Jobs that were made only what may still change is judged.
#[must_use]
pub fn noted(fleet: &Fleet, standing: &FleetStatus, rules: Rules<'_>) -> Option<Vec<Fault>> {
    let usual = standing.usual_of(&fleet.spec)?;
    if usual == rules.defaults.usual(&fleet.spec) {
        return None;
    }
    let defaults = rules.defaults.with_usual(&usual);
    let mut judge = Judge::new(Rules { defaults: &defaults, ..rules });
    judge.kind(Kind::Fleet, "kind");
    let has_run =
        |name: &str| standing.runs.contains_key(name) || standing.past_runs.contains_key(name);
    judge.fleet(fleet, &has_run);
    let mut faults = judge.faults;
    let spec = &fleet.spec.template.spec;
    let is_silent = |member: &str| spec.get(member).is_none_or(Value::is_null);
    for member in FROM_SETTINGS.into_iter().filter(|member| is_silent(member)) {
        let at = format!("{TEMPLATE}.{member}");
        for fault in faults.iter_mut().filter(|fault| fault.path.starts_with(&at)) {
            fault.message.push_str(&format!(
                "; the template leaves it to the settings, and so it was when the template was \
                 read first: write out {member} in it",
            ));
        }
    }
    Some(faults)
}

impl Judge<'_> {
    pub(super) fn object(&mut self, object: &AnyObject) {
        match object {
            AnyObject::Agent(_) | AnyObject::Job(_) => {
                self.worker(object.kind(), &object.to_json()["spec"], "spec");
            }
            AnyObject::Schedule(_) => {
                self.kind(Kind::Job, "spec.jobTemplate");
                let spec = &object.to_json()["spec"]["jobTemplate"]["spec"];
                self.worker(Kind::Job, spec, JOBS);
            }
            AnyObject::Fleet(fleet) => self.fleet(fleet, &|_| false),
            AnyObject::Source(source) => self.source(&source.spec, &object.to_json()["spec"]),
            // It is judged with what it is of.
            AnyObject::Override(_) | AnyObject::Sprite(_) => {}
        }
    }

    /// `has_run` says which Jobs of it were made already.
    fn fleet(&mut self, fleet: &Fleet, has_run: &dyn Fn(&str) -> bool) {
        let kind = fleet.spec.template.kind;
        self.kind(kind, "spec.template.kind");
        let defaults = self.rules.defaults;
        let is_settled = match &fleet.spec.generate {
            Generator::List(_) | Generator::Matrix(_) => true,
            // Anybody may scale it, and nobody asks the policy then.
            Generator::Replicas(_) => false,
            Generator::GitDirectories(from) => {
                if from.source != self.rules.source {
                    let path = "spec.generate.gitDirectories.source";
                    self.one(Word::GitDirectories, path, &from.source);
                }
                false
            }
        };
        let all = is_settled.then(|| {
            let (name, spec) = (&fleet.metadata.name, &fleet.spec);
            members(name, spec, Err(NoDirectories), &mut |spec| defaults.fill(spec, false))
        });
        match all {
            Some(Ok(members)) if !members.is_empty() => {
                let mut said = BTreeSet::new();
                for member in members {
                    let mut judge = Judge::new(self.rules);
                    let spec = &member.object.to_json()["spec"];
                    match kind == Kind::Job && has_run(&member.name) {
                        true => judge.made(spec, TEMPLATE),
                        false => judge.worker(kind, spec, TEMPLATE),
                    }
                    for Fault { path, message, .. } in judge.faults {
                        if said.len() < MOST_FAULTS && said.insert((path.clone(), message.clone()))
                        {
                            self.say(&path, format!("{message} (member {})", member.name));
                        }
                    }
                }
            }
            _ => {
                let mut spec = Value::Object(fleet.spec.template.spec.clone());
                // What cannot be filled in is said where the Fleet is checked.
                let _ = defaults.fill(&mut spec, false);
                self.is_template = true;
                self.worker(kind, &spec, TEMPLATE);
                self.is_template = false;
            }
        }
    }

    fn source(&mut self, spec: &SourceSpec, json: &Value) {
        match &spec.from {
            SourceFrom::Directory(directory) => {
                self.place(Word::Sources, "spec.from.directory.path", &directory.path);
            }
            SourceFrom::Git(git) => {
                if let Some(url) = &git.url {
                    self.one(Word::Sources, "spec.from.git.url", url);
                }
                for (n, repo) in git.repos.iter().enumerate() {
                    self.one(Word::Sources, &format!("spec.from.git.repos[{n}]"), repo);
                }
            }
        }
        for secret in ["tokenFromSecret", "webhookSecretFromSecret"] {
            self.member(Word::Secrets, json, "spec", &["from", "git", secret]);
        }
        self.channels(json, "spec", &["channels"]);
        self.no_wider(spec.policy.as_ref());
    }

    /// Whether another policy allows no more than this one.
    fn no_wider(&mut self, other: Option<&SourcePolicy>) {
        let theirs = Words::of(other);
        for (n, kind) in theirs.kinds().iter().enumerate() {
            let is_said = other.is_some_and(|policy| policy.kinds.is_some());
            let path = if is_said {
                format!("spec.policy.kinds[{n}]")
            } else {
                "spec.policy.kinds".into()
            };
            self.kind(*kind, &path);
        }
        for word in Word::ALL {
            let Some(ours) = self.words.list(word) else { continue };
            let path = format!("spec.policy.{}", word.name());
            match theirs.list(word) {
                None => {
                    let names: Vec<&str> = ours.iter().map(String::as_str).collect();
                    let message = format!(
                        "is missing, and nothing that this source writes may be wider than itself; {}",
                        list(&names)
                    );
                    self.say(&path, message);
                }
                Some(all) => {
                    for (n, pattern) in all.iter().enumerate() {
                        if !allows(ours, pattern) {
                            self.refuse(word, &format!("{path}[{n}]"), pattern);
                        }
                    }
                }
            }
        }
    }
}
