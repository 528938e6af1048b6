//! `/od-start`: a new agent, or one that was stopped and goes on.

use serde_json::Value;

use super::{Commands, Effect, Incoming, find::has_agent, offer::guards, spec, suffix};
use crate::{
    access::Reach,
    chat::{
        changes::{Change, changes},
        grammar::Start,
        outbox::channel_of,
        replies::{self, Asked, Hearing},
        route::listens,
    },
    resource::{Agent, AgentSpec, AnyObject, Faults, Kind, admit},
    store::{Conversation, Error, Expect, Op, Part},
};

impl Commands {
    pub(super) async fn start(
        &self,
        start: &Start,
        line: &Incoming,
        round: u32,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        if let Some(name) = &start.name
            && let Some(agent) = self.get_agent(name).await?
        {
            // A name is one agent's, wherever that listens.
            if !has_agent(reach, &agent) {
                return Ok(Effect::private(replies::taken_elsewhere(name)));
            }
            return self.start_again(agent, start, line).await;
        }
        let defaults = &self.settings.defaults;
        let spec = match spec::agent_spec(start, defaults, &line.conversation, line.is_console()) {
            Ok(asked) => asked,
            Err(bad) => return Ok(Effect::private(bad.to_string())),
        };
        let spec::Asked { spec, ignored } = spec;
        if let Err(fault) = defaults.check_place(&json(&spec)) {
            return Ok(Effect::private(replies::faults(Asked::Start, &fault.into())));
        }
        let base = spec::name_base(&spec);
        let mut agent = Agent::new(start.name.clone().unwrap_or_default(), spec);
        agent.metadata.generate_name = start.name.is_none().then(|| format!("{base}-"));
        let uid = self.ambient.ids.uid();
        let made = admit::create(agent.into(), uid, &suffix(&line.key, round));
        Ok(match made.map(AnyObject::into_agent) {
            Ok(Some(agent)) => {
                let hearing = self.hearing(&agent, &line.conversation).await?;
                let text = replies::also(replies::started(&agent, hearing), &ignored);
                let free = Op::StillFree { kind: Kind::Agent, name: agent.metadata.name.clone() };
                Effect::told(vec![free, Op::Create(agent.into())], text)
            }
            // It went in as an Agent.
            Ok(None) => Effect::private(replies::faults(Asked::Start, &Faults(Vec::new()))),
            Err(faults) => Effect::private(replies::faults(Asked::Start, &faults)),
        })
    }

    /// An agent of this name is there: it goes on if it was stopped.
    async fn start_again(
        &self,
        agent: Agent,
        start: &Start,
        line: &Incoming,
    ) -> Result<Effect, Error> {
        let name = &agent.metadata.name;
        if agent.metadata.is_deleting() {
            return Ok(Effect::private(replies::going(name)));
        }
        let defaults = &self.settings.defaults;
        let asked = match spec::with_start(&agent.spec, start, defaults) {
            Ok(asked) => asked,
            Err(bad) => return Ok(Effect::private(bad.to_string())),
        };
        let spec::Asked { spec: mut wanted, ignored } = asked;
        if !agent.spec.suspend {
            let hearing = self.hearing(&agent, &line.conversation).await?;
            let text = replies::active(&agent, &differences(&agent.spec, &wanted), hearing);
            return Ok(Effect::text(replies::also(text, &ignored)));
        }
        if !listens(&wanted.channels, &line.conversation) {
            wanted.channels.extend(channel_of(&line.conversation));
        }
        let differs = differences(&agent.spec, &wanted);
        if let Err(fault) = defaults.check_move(&json(&agent.spec), &json(&wanted)) {
            return Ok(Effect::private(replies::faults(Asked::Start, &fault.into())));
        }
        wanted.suspend = false;
        let mut left = None;
        if let Some(row) = self.declared(&agent.clone().into()).await? {
            // Going on is a matter of power; the rest belongs to the file.
            left = (!differs.is_empty()).then(|| replies::left_to_file(&row.source, &row.file));
            wanted = AgentSpec { suspend: false, ..agent.spec.clone() };
        } else if let Some(fleet) = self.fleet_of(&agent.clone().into()).await? {
            left = (!differs.is_empty()).then(|| replies::left_to_fleet(&fleet));
            wanted = AgentSpec { suspend: false, ..agent.spec.clone() };
        }
        let differs = if left.is_some() { Vec::new() } else { differs };
        let mut resumed = agent.clone();
        resumed.spec = wanted;
        let object: AnyObject = resumed.clone().into();
        let old: AnyObject = agent.into();
        let mut ops = guards(&old, &object);
        if let Err(faults) = admit::update(&old, &object) {
            return Ok(Effect::private(replies::faults(Asked::Start, &faults)));
        }
        let hearing = self.hearing(&resumed, &line.conversation).await?;
        let text = replies::resumed(&resumed, &differs, hearing);
        ops.push(Op::Write { object, part: Part::Desired, expect: Expect::SameVersion });
        let text = match left {
            Some(left) => format!("{text}\n{left}"),
            None => text,
        };
        Ok(Effect::told(ops, replies::also(text, &ignored)))
    }

    /// Whether an agent hears what is said in a conversation, and who else does.
    async fn hearing(&self, agent: &Agent, place: &Conversation) -> Result<Hearing, Error> {
        if !listens(&agent.spec.channels, place) {
            return Ok(Hearing::Elsewhere);
        }
        let others = self.agents().await?.into_iter().any(|other| {
            other.metadata.name != agent.metadata.name
                && !other.metadata.is_deleting()
                && !other.spec.suspend
                && listens(&other.spec.channels, place)
        });
        Ok(if others { Hearing::Among } else { Hearing::Alone })
    }
}

fn json(spec: &AgentSpec) -> Value {
    // Serialising a spec cannot fail: it is made of strings, numbers and maps of both.
    serde_json::to_value(spec).unwrap_or_default()
}

/// What differs, save for whether it is stopped.
fn differences(old: &AgentSpec, new: &AgentSpec) -> Vec<Change> {
    let all = changes(&json(old), &json(new));
    all.into_iter().filter(|change| change.path != "suspend").collect()
}
