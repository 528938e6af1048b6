//! `/od-set`, `/od-scale`, `/od-stop` and `/od-delete`: changes of specs, through the API's own gate.

use serde_json::Value;

use super::{Commands, Effect, Incoming, find::has_agent, offer::guards};
use crate::{
    access::Reach,
    chat::{
        changes::changes,
        grammar::{Assigned, Assignment, Stop, Target},
        replies::{self, Asked},
    },
    resource::{
        Agent, AnyObject, Defaults, Faults, Kind, admit, decode,
        fleet::Generator,
        merge::merge_patch,
        overlay::only_power_differs,
        short::{leave_no_empty_group, place},
        worker,
    },
    store::{Error, Expect, Op, Part},
};

/// Fields of an Agent that hold at once; all others are part of its sprite, and a new one takes
/// over between turns.
const AT_ONCE: [&str; 5] = ["channels", "budget", "idleTimeout", "turnTimeout", "suspend"];

impl Commands {
    pub(super) async fn set(
        &self,
        target: &Target,
        assignments: &[Assignment],
        reach: &Reach,
    ) -> Result<Effect, Error> {
        match self.find_object(target, reach).await? {
            Ok(old) => self.set_fields(&old, assignments).await,
            Err(answer) => Ok(answer),
        }
    }

    /// `/od-scale`: how many members a fleet is to have.
    pub(super) async fn scale(
        &self,
        target: &Target,
        replicas: u32,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        // A fleet is meant, whoever else has its name.
        let kind = target.kind.or(Some(Kind::Fleet));
        let old = match self.find_object(&Target { kind, ..target.clone() }, reach).await? {
            Ok(old) => old,
            Err(answer) => return Ok(answer),
        };
        let AnyObject::Fleet(fleet) = &old else {
            return Ok(Effect::private(replies::no_fleet(&called(&old))));
        };
        if !matches!(fleet.spec.generate, Generator::Replicas(_)) {
            return Ok(Effect::private(replies::not_scaled(&called(&old))));
        }
        let path = ["generate", "replicas"].map(str::to_owned).to_vec();
        let value = Assigned::Yaml { value: replicas.into(), written: replicas.to_string() };
        self.set_fields(&old, &[Assignment { path, value }]).await
    }

    /// Changes fields of an object, or says how that can be done.
    async fn set_fields(
        &self,
        old: &AnyObject,
        assignments: &[Assignment],
    ) -> Result<Effect, Error> {
        let name = &old.metadata().name;
        if old.metadata().is_deleting() {
            return Ok(Effect::text(replies::deleted(&called(old), true)));
        }
        let new = match assigned(old, assignments, &self.settings.defaults) {
            Ok(new) => new,
            Err(faults) => return Ok(Effect::private(replies::faults(Asked::Set, &faults))),
        };
        let changes = changes(&old.to_json()["spec"], &new.to_json()["spec"]);
        let restarts = old.kind() == Kind::Agent
            && changes.iter().any(|change| {
                let field = change.path.split('.').next().unwrap_or_default();
                !AT_ONCE.contains(&field)
            });
        let mut text = replies::changed(name, &changes, restarts);
        if changes.is_empty() {
            return Ok(Effect::text(text));
        }
        if !only_power_differs(old, &new) {
            if let Some(row) = self.declared(old).await? {
                return self.offer_change(&row, old, &new, &changes).await;
            }
            if let Some(fleet) = self.fleet_of(old).await? {
                return Ok(Effect::private(replies::of_fleet(&called(old), &fleet)));
            }
            if old.kind() == Kind::Fleet {
                text.push_str(replies::members_follow());
            }
        }
        let mut ops = guards(old, &new);
        ops.push(Op::Write { object: new, part: Part::Desired, expect: Expect::SameVersion });
        Ok(Effect::told(ops, text))
    }

    pub(super) async fn stop(
        &self,
        stop: &Stop,
        line: &Incoming,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let target = match stop {
            Stop::One(target) => target,
            Stop::Here => return self.stop_all(Some(line), reach).await,
            Stop::Everywhere if *reach != Reach::Everywhere => {
                return Ok(Effect::private(replies::reaches_no_further()));
            }
            Stop::Everywhere => return self.stop_all(None, reach).await,
        };
        let mend = |name: &str| format!("/od-cancel job/{name} ends it");
        Ok(match self.find_agent(target, reach, mend).await? {
            Ok(agent) if agent.metadata.is_deleting() => {
                Effect::private(replies::going(&agent.metadata.name))
            }
            Ok(agent) => {
                let text = replies::stopped(&agent);
                match agent.spec.suspend {
                    true => Effect::text(text),
                    false => Effect::told(vec![suspend(agent)], text),
                }
            }
            Err(answer) => answer,
        })
    }

    /// Stops all agents that listen in a conversation's channel or a thread of it; or all.
    async fn stop_all(&self, here: Option<&Incoming>, reach: &Reach) -> Result<Effect, Error> {
        let is_here = here.is_some();
        // With its threads, wherever in the channel it is said.
        let here = here.map(|line| Reach::channel(&line.conversation));
        let all: Vec<Agent> = self
            .agents()
            .await?
            .into_iter()
            .filter(|agent| {
                !agent.spec.suspend
                    && !agent.metadata.is_deleting()
                    && has_agent(reach, agent)
                    && here.as_ref().is_none_or(|here| has_agent(here, agent))
            })
            .collect();
        let names: Vec<String> = all.iter().map(|agent| agent.metadata.name.clone()).collect();
        let ops = all.into_iter().map(suspend).collect();
        let text = match is_here {
            true => replies::stopped_all(&names),
            false => replies::stopped_everywhere(&names),
        };
        Ok(Effect::told(ops, text))
    }

    pub(super) async fn delete(&self, target: &Target, reach: &Reach) -> Result<Effect, Error> {
        let found = match self.find(target, reach).await? {
            Ok(found) => found,
            Err(answer) => return Ok(answer),
        };
        let object = found.object();
        let already = object.metadata().is_deleting();
        let text = replies::deleted(&found.full_name(), already);
        if already {
            return Ok(Effect::text(text));
        }
        if let Some(row) = self.declared(&object).await? {
            return Ok(Self::offer_deletion(&row, &object));
        }
        // A Job is run once, also where it is a member.
        if object.kind() == Kind::Agent
            && let Some(fleet) = self.fleet_of(&object).await?
        {
            return Ok(Effect::private(replies::made_again(&found.full_name(), &fleet)));
        }
        let (kind, name) = (object.kind(), found.name().to_owned());
        let op = Op::Delete {
            kind,
            name: name.clone(),
            uid: Some(object.metadata().uid.clone()),
            resource_version: None,
        };
        Ok(Effect::told(vec![Op::StillFree { kind, name }, op], text))
    }
}

fn suspend(mut agent: Agent) -> Op {
    agent.spec.suspend = true;
    Op::Write { object: agent.into(), part: Part::Desired, expect: Expect::SameVersion }
}

/// `agent/NAME`.
fn called(object: &AnyObject) -> String {
    format!("{}/{}", object.kind().singular(), object.metadata().name)
}

/// Where the spec of a worker stands in that of an object: what short names are about.
fn within(kind: Kind) -> &'static [&'static str] {
    worker(kind).and_then(|keys| keys.get(1..)).unwrap_or_default()
}

/// The object with its changes, checked like any that comes through the API.
fn assigned(
    old: &AnyObject,
    assignments: &[Assignment],
    defaults: &Defaults,
) -> Result<AnyObject, Faults> {
    let json = old.to_json();
    let front = within(old.kind());
    let of_worker = |json: &Value| -> Value {
        front.iter().fold(&json["spec"], |inner, key| &inner[*key]).clone()
    };
    let inner = of_worker(&json);
    let placed = |it: &Assignment| {
        let path = place(&it.path.join("."), &inner);
        let is_short = path != it.path;
        let front = front.iter().filter(|_| is_short).map(|key| (*key).to_owned());
        Assignment { path: front.chain(path).collect(), value: it.value.clone() }
    };
    let assignments: Vec<Assignment> = assignments.iter().map(placed).collect();
    let patched = |as_text: &dyn Fn(&Assignment) -> bool| {
        let mut json = json.clone();
        for assignment in &assignments {
            let mut patch = match &assignment.value {
                Assigned::Yaml { written, .. } if as_text(assignment) => {
                    let value = Assigned::Text(written.clone());
                    Assignment { path: assignment.path.clone(), value }.patch()
                }
                _ => assignment.patch(),
            };
            leave_no_empty_group(&mut patch, &json["spec"]);
            merge_patch(&mut json["spec"], &patch);
        }
        json
    };
    let new = decode(patched(&|_| false)).or_else(|faults| {
        // `repo.branch=123` reads like a number, and a branch is text.
        let is_wrong = |assignment: &Assignment| {
            let path = format!("spec.{}", assignment.path.join("."));
            faults.0.iter().any(|fault| fault.path == path)
        };
        decode(patched(&is_wrong)).map_err(|_| faults.clone())
    })?;
    admit::update(old, &new)?;
    let (was, is) = (&json["spec"], &new.to_json()["spec"]);
    defaults.check_change(old.kind(), &old.metadata().name, was, is)?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::API_VERSION;

    #[test]
    fn short_names_and_emptied_groups_are_as_at_the_command_line() {
        let spec = json!({"agent": {"opencode": {}}, "budget": {"turns": 3}});
        let agent = json!({
            "apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": "bot"}, "spec": spec,
        });
        let old = AnyObject::from_json(Kind::Agent, agent).unwrap();
        let of = |name: &str, value: Assigned| Assignment { path: vec![name.to_owned()], value };
        let changes = [
            of("model", Assigned::Text("a/b".to_owned())),
            of("mode", Assigned::Text("ask".to_owned())),
            Assignment {
                path: vec!["budget".to_owned(), "turns".to_owned()],
                value: Assigned::Nothing,
            },
        ];
        let new = assigned(&old, &changes, &Defaults::default()).unwrap().to_json();
        assert_eq!(new["spec"]["agent"]["opencode"]["model"], "a/b");
        assert_eq!(new["spec"]["permissions"]["mode"], "ask");
        assert_eq!(new["spec"]["budget"], serde_json::Value::Null);
    }
}
