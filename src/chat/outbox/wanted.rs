//! Deliveries that nobody's command made: of Jobs that are to report, and of turns that an agent
//! begins by itself.
//!
//! Their ids follow from what they show and where, so that each is made once.

use super::{OLD, Outbox, conversation_of, delivery_id};
use crate::{
    ambient::between,
    reconcile::Error,
    resource::{Agent, AnyObject, Job, Kind},
    store::{Conversation, Delivery, Subject, Turn},
};

/// How many of an agent's last turns are looked at, for where it was spoken to last.
const TURNS: usize = 16;
/// How many turns are read at once, going back to the first that is not looked at yet.
const BACK: u64 = 128;
/// What stands in front of an agent's uid in the key that makes its deliveries.
const TURNS_OF: &str = "turns-of/";

/// A delivery that a Job asks for.
#[derive(Clone)]
pub(super) struct Wanted {
    job_uid: String,
    job_name: String,
    conversation: Conversation,
}

/// The key under which an agent's own turns get their deliveries.
pub(super) fn turns_key(agent_uid: &str) -> String {
    format!("{TURNS_OF}{agent_uid}")
}

/// The agent of such a key.
pub(super) fn agent_of_key(key: &str) -> Option<&str> {
    key.strip_prefix(TURNS_OF)
}

/// The deliveries that a Job asks for.
fn wanted(job: &Job) -> Vec<(String, Wanted)> {
    let channels = job.spec.report.iter().flat_map(|report| &report.to);
    channels
        .map(|channel| {
            let conversation = conversation_of(channel);
            let wanted = Wanted {
                job_uid: job.metadata.uid.clone(),
                job_name: job.metadata.name.clone(),
                conversation: conversation.clone(),
            };
            (delivery_id(&job.metadata.uid, &conversation), wanted)
        })
        .collect()
}

impl Outbox {
    /// The deliveries that a Job asks for, by id; they are remembered if they are to be made.
    pub(super) fn wanted_by(&self, job: &Job, remember: bool) -> Vec<String> {
        let ended = job.status.completion_time;
        let old = ended.is_some_and(|end| between(end, self.ambient.clock.now()) > OLD);
        let mut memory = self.memory();
        let mut ids = Vec::new();
        for (id, wanted) in wanted(job) {
            if remember && !old {
                memory.wanted.entry(id.clone()).or_insert(wanted);
            }
            ids.push(id);
        }
        ids
    }

    /// The keys of all deliveries that objects may ask for.
    pub(super) async fn all_wanted(&self) -> Result<Vec<String>, Error> {
        let mut keys = Vec::new();
        for kind in [Kind::Job, Kind::Agent] {
            let mut after: Option<String> = None;
            loop {
                let page = self.store.list(kind, after.as_deref(), 1_000).await?;
                let now = self.ambient.clock.now();
                after = page.items.last().map(|object| object.metadata().name.clone());
                for object in page.items {
                    match object {
                        AnyObject::Job(job) => {
                            let ended = job.status.completion_time;
                            if ended.is_none_or(|end| between(end, now) <= OLD) {
                                keys.extend(self.wanted_by(&job, true));
                            }
                        }
                        AnyObject::Agent(agent) => {
                            keys.push(turns_key(&agent.metadata.uid));
                            let going = agent.metadata.is_deleting();
                            keys.extend(going.then(|| self.leaves(&agent)).flatten());
                        }
                        _ => {}
                    }
                }
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Ok(keys)
    }

    /// Makes the delivery that a Job asks for.
    pub(super) async fn create(&self, id: &str) -> Result<(), Error> {
        let Some(wanted) = self.memory().wanted.get(id).cloned() else { return Ok(()) };
        let Some(job) = self.job(&wanted.job_uid).await? else {
            self.forget(id);
            return Ok(());
        };
        let subject = Subject::Job { uid: wanted.job_uid, name: wanted.job_name };
        let mut delivery = self.delivery(id.to_owned(), wanted.conversation, subject);
        if let Some(created) = job.metadata.creation_timestamp {
            delivery.created = created;
        }
        self.write("chat.create-delivery", delivery).await?;
        Ok(())
    }

    /// Makes the deliveries of the turns that an agent began by itself: where it listens; if it
    /// listens nowhere, where it was spoken to last.
    pub(super) async fn create_for_turns(&self, agent_uid: &str) -> Result<(), Error> {
        let last = self.store.last_turns(agent_uid, TURNS).await?;
        let Some(newest) = last.first().map(|turn| turn.n) else { return Ok(()) };
        let own = self.own_turns(agent_uid, &last).await?;
        if !own.is_empty() {
            let agent = self.store.get_by_uid(Kind::Agent, agent_uid).await?;
            let Some(agent) = agent.and_then(AnyObject::into_agent) else { return Ok(()) };
            for turn in own {
                for conversation in places(&agent, &last) {
                    let id = delivery_id(&turn.id, &conversation);
                    if self.store.delivery(&id).await?.is_none() {
                        let subject = Subject::Turn { id: turn.id.clone() };
                        let delivery = self.delivery(id, conversation, subject);
                        self.write("chat.create-delivery", delivery).await?;
                    }
                }
            }
        }
        self.memory().looked.insert(agent_uid.to_owned(), newest);
        Ok(())
    }

    /// The turns that an agent began by itself and that were not looked at yet, oldest first.
    async fn own_turns(&self, agent_uid: &str, last: &[Turn]) -> Result<Vec<Turn>, Error> {
        let now = self.ambient.clock.now();
        let is_recent = |turn: &Turn| between(turn.created, now) <= OLD;
        let looked = self.memory().looked.get(agent_uid).copied().unwrap_or_default();
        let mut turns: Vec<Turn> = last.iter().rev().cloned().collect();
        while let Some(first) = turns.first().filter(|first| is_recent(first)) {
            let upto = first.n.saturating_sub(1);
            let after = upto.saturating_sub(BACK).max(looked);
            if upto <= after {
                break;
            }
            let limit = usize::try_from(upto - after).unwrap_or(usize::MAX);
            let page = self.store.turns(agent_uid, after, limit).await?;
            let page: Vec<Turn> = page.into_iter().filter(|turn| turn.n <= upto).collect();
            if page.is_empty() {
                break;
            }
            turns.splice(0..0, page);
        }
        turns.retain(|turn| turn.n > looked && turn.origin.is_some() && is_recent(turn));
        Ok(turns)
    }

    fn delivery(&self, id: String, conversation: Conversation, subject: Subject) -> Delivery {
        Delivery::open(id, conversation, subject, self.ambient.clock.now())
    }
}

/// Where an agent speaks by itself; its last turns come newest first.
fn places(agent: &Agent, last: &[Turn]) -> Vec<Conversation> {
    let mut places: Vec<Conversation> = agent.spec.channels.iter().map(conversation_of).collect();
    if places.is_empty() {
        places.extend(last.iter().find_map(|turn| turn.conversation.clone()));
    }
    places.sort();
    places.dedup();
    places
}
