//! One member: how what there is differs from what the template says, and how it stands.
//!
//! A member bears a record of the template that it was made from: a hash, and which labels and
//! annotations came from there. So a change of the template is told from a change that somebody made by
//! hand, what the template drops goes, and what others have added stays.
//!
//! Suspending an Agent and cancelling a Job are a person's right, and never put right: the template's
//! own word for `suspend` is written only when it has changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{
    made::{ended, kept_until, own},
    words,
};
use crate::resource::{
    Agent, AnyObject, ConditionStatus::True, FLEET_RESTART, FLEET_TEMPLATE, Fleet, Kind, Metadata,
    RESTARTED_UP_TO, expand::Member,
};

/// The template that a member was made from.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    hash: String,
    labels: Vec<String>,
    annotations: Vec<String>,
    suspend: bool,
    /// The request by which its sprite was made anew last.
    #[serde(skip_serializing_if = "Option::is_none")]
    restart: Option<String>,
}

impl Record {
    fn of(member: &Member, fleet: &Fleet) -> Self {
        let metadata = member.object.metadata();
        Self {
            hash: member.hash.clone(),
            labels: metadata.labels.keys().cloned().collect(),
            annotations: metadata.annotations.keys().cloned().collect(),
            suspend: suspend(&member.object),
            restart: restart(member, fleet),
        }
    }

    fn read(metadata: &Metadata) -> Self {
        let text = metadata.annotations.get(FLEET_TEMPLATE);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    fn put(&self, metadata: &mut Metadata) {
        // Serialising texts cannot fail.
        let text = serde_json::to_string(self).unwrap_or_default();
        metadata.annotations.insert(FLEET_TEMPLATE.to_owned(), text);
    }
}

/// The request to make a member anew. A Job runs once, and nobody asks for that.
fn restart(member: &Member, fleet: &Fleet) -> Option<String> {
    let is_agent = member.object.kind() == Kind::Agent;
    fleet.metadata.annotations.get(FLEET_RESTART).filter(|_| is_agent).cloned()
}

fn suspend(object: &AnyObject) -> bool {
    matches!(object, AnyObject::Agent(agent) if agent.spec.suspend)
}

/// Why a member is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The template says something else by now.
    Template,
    /// Somebody asked that all members be made anew.
    Restart,
    /// Somebody has changed it by hand.
    Drift,
}

/// A member that is not there yet.
pub(super) fn new(fleet: &Fleet, member: &Member) -> AnyObject {
    let mut object = member.object.clone();
    own(object.metadata_mut(), Kind::Fleet, &fleet.metadata);
    Record::of(member, fleet).put(object.metadata_mut());
    object
}

/// Whether a member was made from what the template says now.
pub(super) fn is_updated(live: &AnyObject, member: &Member, fleet: &Fleet) -> bool {
    let record = Record::read(live.metadata());
    // Where nobody asks any more, what was asked once is nothing to be made up for.
    let asked = restart(member, fleet);
    record.hash == member.hash && (asked.is_none() || record.restart == asked)
}

/// A member as it shall be, where it is not.
pub(super) fn updated(
    live: &AnyObject,
    member: &Member,
    fleet: &Fleet,
) -> Option<(AnyObject, Why)> {
    let before = Record::read(live.metadata());
    let mut record = Record::of(member, fleet);
    let is_restart = record.restart.is_some() && before.restart != record.restart;
    // Each request counts once, also one that is taken away and made again.
    record.restart = record.restart.or_else(|| before.restart.clone());
    let mut object = live.clone();
    let wanted = member.object.metadata();
    let metadata = object.metadata_mut();
    metadata.labels.retain(|key, _| !before.labels.contains(key));
    metadata.labels.extend(wanted.labels.clone());
    metadata.annotations.retain(|key, _| !before.annotations.contains(key));
    metadata.annotations.extend(wanted.annotations.clone());
    record.put(metadata);
    match (&mut object, &member.object) {
        (AnyObject::Agent(agent), AnyObject::Agent(wanted)) => {
            let theirs = agent.spec.suspend;
            agent.spec = wanted.spec.clone();
            if before.suspend == record.suspend {
                agent.spec.suspend = theirs;
            }
            if is_restart {
                let newest = restarted_up_to(agent).max(agent.status.incarnation).to_string();
                agent.metadata.annotations.insert(RESTARTED_UP_TO.to_owned(), newest);
            }
        }
        (AnyObject::Job(job), AnyObject::Job(wanted)) => {
            let theirs = job.spec.cancel;
            job.spec = wanted.spec.clone();
            job.spec.cancel = theirs;
        }
        _ => {}
    }
    let why = match before.hash == record.hash {
        false => Why::Template,
        true if is_restart => Why::Restart,
        true => Why::Drift,
    };
    (object != *live).then_some((object, why))
}

/// How a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// An Agent that takes turns; a Job that ended well.
    Well,
    /// A person has stopped it.
    Stopped,
    /// On its way.
    Coming,
    /// It needs somebody, and this is why; a Job that ended otherwise than well.
    Failing(String),
}

/// How a member stands.
pub(super) fn health(object: &AnyObject) -> Health {
    match object {
        AnyObject::Agent(agent) => of_agent(agent),
        AnyObject::Job(job) => match ended(job) {
            Some(true) => Health::Well,
            Some(false) => Health::Failing(job.status.message.clone()),
            None => Health::Coming,
        },
        _ => Health::Coming,
    }
}

fn of_agent(agent: &Agent) -> Health {
    if agent.spec.suspend {
        return Health::Stopped;
    }
    // What was said of another spec says nothing of this one.
    if agent.status.observed_generation != agent.metadata.generation {
        return Health::Coming;
    }
    let conditions = &agent.status.conditions;
    match conditions.get(words::STALLED) {
        Some(stalled) if conditions.is_true(words::STALLED) => {
            Health::Failing(format!("{} {}", stalled.reason, stalled.message).trim_end().to_owned())
        }
        // It works as it was; what it was told since comes after its turn, and may not come up.
        _ if is_to_be_replaced(agent) => Health::Coming,
        _ if conditions.is_true(words::READY) => Health::Well,
        _ => Health::Coming,
    }
}

/// Whether an Agent works at a turn with a Sprite of an earlier spec, which is replaced once that ends.
pub(super) fn finishes_a_turn(object: &AnyObject) -> bool {
    match object {
        AnyObject::Agent(agent) => {
            is_to_be_replaced(agent) && agent.status.conditions.is_true(words::READY)
        }
        _ => false,
    }
}

/// Up to which number an Agent's Sprites are to be replaced.
fn restarted_up_to(agent: &Agent) -> u32 {
    let number = agent.metadata.annotations.get(RESTARTED_UP_TO);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Whether its Sprite is of an earlier spec, or is to be made anew: nobody writes a new generation for
/// that, so the numbers tell it before the Agent does.
fn is_to_be_replaced(agent: &Agent) -> bool {
    let up_to = restarted_up_to(agent);
    if up_to > 0 && up_to >= agent.status.incarnation {
        return true;
    }
    let reconciling = agent.status.conditions.get(words::RECONCILING);
    reconciling.is_some_and(|it| it.status == True && it.reason == words::REPLACING)
}

/// Whether a member that is not wanted any more may go now: nobody waits for an answer of it, and
/// nothing of it works.
pub(super) fn may_go(object: &AnyObject, now: Timestamp) -> bool {
    match object {
        AnyObject::Agent(agent) => agent.status.turns.queued + agent.status.turns.running == 0,
        AnyObject::Job(job) => ended(job).is_some() && stays_until(object, now).is_none(),
        _ => true,
    }
}

/// Until when a Job stays that has ended just now, so that whoever reports it has its end.
pub(super) fn stays_until(object: &AnyObject, now: Timestamp) -> Option<Timestamp> {
    match object {
        AnyObject::Job(job) if ended(job).is_some() => kept_until(job).filter(|until| *until > now),
        _ => None,
    }
}

/// `agent/NAME` or `job/NAME`.
pub(super) fn called(object: &AnyObject) -> String {
    format!("{}/{}", object.kind().singular(), object.metadata().name)
}
