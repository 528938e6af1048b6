//! What commands look up: who a name means, and what belongs to them.

use std::collections::HashMap;

use super::{Commands, Effect};
use crate::{
    access::{Known, Reach, Right, Verdict, decide},
    chat::{
        grammar::{Target, nearest},
        outbox::conversation_of,
        replies,
    },
    resource::{Agent, AnyObject, Fleet, Job, Kind, Report, Sprite, table},
    store::{Approval, Conversation, Error, Store},
};

/// What a name means.
pub(super) enum Found {
    Agent(Agent),
    Job(Job),
}

impl Found {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Agent(agent) => &agent.metadata.name,
            Self::Job(job) => &job.metadata.name,
        }
    }

    /// `agent/NAME` or `job/NAME`.
    pub(super) fn full_name(&self) -> String {
        match self {
            Self::Agent(agent) => format!("agent/{}", agent.metadata.name),
            Self::Job(job) => format!("job/{}", job.metadata.name),
        }
    }

    pub(super) fn object(&self) -> AnyObject {
        match self {
            Self::Agent(agent) => agent.clone().into(),
            Self::Job(job) => job.clone().into(),
        }
    }
}

impl Commands {
    /// An agent or a job by name, an agent first; or the answer that there is none within reach.
    pub(super) async fn find(
        &self,
        target: &Target,
        reach: &Reach,
    ) -> Result<Result<Found, Effect>, Error> {
        if target.kind.is_none_or(|kind| kind == Kind::Agent)
            && let Some(agent) = self.get_agent(&target.name).await?
            && has_agent(reach, &agent)
        {
            return Ok(Ok(Found::Agent(agent)));
        }
        if target.kind.is_none_or(|kind| kind == Kind::Job) {
            let job = self.store.get(Kind::Job, &target.name).await?;
            let job = job.and_then(AnyObject::into_job);
            if let Some(job) = job.filter(|job| has_job(reach, job)) {
                return Ok(Ok(Found::Job(job)));
            }
        }
        if let Some(kind) = target.kind.filter(|kind| !matches!(kind, Kind::Agent | Kind::Job)) {
            return Ok(Err(Effect::private(replies::takes_agents_and_jobs(kind, &target.name))));
        }
        Ok(Err(self.nobody(target.kind, &target.name, reach).await?))
    }

    /// What a chat edits, by name: as [`Commands::find`], and a fleet or a schedule where the line says
    /// so, or where nothing else has the name.
    pub(super) async fn find_object(
        &self,
        target: &Target,
        reach: &Reach,
    ) -> Result<Result<AnyObject, Effect>, Error> {
        const OTHERS: [Kind; 2] = [Kind::Fleet, Kind::Schedule];
        let nobody = match target.kind {
            Some(kind) if OTHERS.contains(&kind) => None,
            kind => match self.find(target, reach).await? {
                Ok(found) => return Ok(Ok(found.object())),
                Err(answer) if kind.is_some() => return Ok(Err(answer)),
                Err(answer) => Some(answer),
            },
        };
        for kind in OTHERS {
            if target.kind.is_none_or(|meant| meant == kind)
                && let Some(object) = self.store.get(kind, &target.name).await?
                && has(reach, &object)
            {
                return Ok(Ok(object));
            }
        }
        Ok(Err(match nobody {
            Some(answer) => answer,
            None => self.nobody(target.kind, &target.name, reach).await?,
        }))
    }

    /// The Fleet that puts a member back as its template says, where there is one that does.
    pub(super) async fn fleet_of(&self, object: &AnyObject) -> Result<Option<String>, Error> {
        let owner = object.metadata().controller().filter(|owner| owner.kind == Kind::Fleet);
        let Some(owner) = owner else { return Ok(None) };
        let fleet = self.store.get_by_uid(Kind::Fleet, &owner.uid).await?;
        let fleet = fleet.and_then(AnyObject::into_fleet);
        let keeps = |fleet: &Fleet| !fleet.spec.suspend && !fleet.metadata.is_deleting();
        Ok(fleet.filter(keeps).map(|fleet| fleet.metadata.name))
    }

    /// An agent by name, or the answer that there is none; `mend` says what to do with a job.
    pub(super) async fn find_agent(
        &self,
        target: &Target,
        reach: &Reach,
        mend: impl Fn(&str) -> String,
    ) -> Result<Result<Agent, Effect>, Error> {
        Ok(match self.find(target, reach).await? {
            Ok(Found::Agent(agent)) => Ok(agent),
            Ok(Found::Job(job)) => {
                let name = &job.metadata.name;
                Err(Effect::private(replies::not_an_agent(name, &mend(name))))
            }
            Err(answer) if target.kind == Some(Kind::Job) => Err(answer),
            // Whoever is wanted is an agent.
            Err(_) => Err(self.nobody(Some(Kind::Agent), &target.name, reach).await?),
        })
    }

    /// The names of agents and of jobs that have this in them, whatever the case: those that begin
    /// with it first, agents before jobs, at most so many. For platforms that offer names, to
    /// whoever may read in a conversation; to others none are.
    ///
    /// # Errors
    /// The store's.
    pub async fn names_like(
        &self,
        user: &str,
        place: &Conversation,
        begun: &str,
        most: usize,
    ) -> Result<Vec<String>, Error> {
        let rows = self.store.access().await?;
        let known = Known { rows: &rows, admins: &self.settings.admins };
        if !matches!(decide(known, user, place, Right::Read), Verdict::Allowed(_)) {
            return Ok(Vec::new());
        }
        let reach = Reach::of(known, user, place, Right::Read);
        let begun = begun.trim().to_lowercase();
        let mut names: Vec<(bool, String)> = Vec::new();
        for kind in [Kind::Agent, Kind::Job] {
            for object in self.all(kind).await? {
                let name = &object.metadata().name;
                let is_meant = has(&reach, &object) && name.contains(&begun);
                if is_meant && !names.iter().any(|(_, known)| known == name) {
                    names.push((!name.starts_with(&begun), name.clone()));
                }
            }
        }
        names.sort_by_key(|(is_inside, _)| *is_inside);
        Ok(names.into_iter().map(|(_, name)| name).take(most).collect())
    }

    pub(super) async fn get_agent(&self, name: &str) -> Result<Option<Agent>, Error> {
        Ok(self.store.get(Kind::Agent, name).await?.and_then(AnyObject::into_agent))
    }

    /// The answer that nobody within reach has this name.
    async fn nobody(&self, kind: Option<Kind>, name: &str, reach: &Reach) -> Result<Effect, Error> {
        let mut names: Vec<String> = Vec::new();
        for looked_for in [Kind::Agent, Kind::Job, Kind::Fleet, Kind::Schedule] {
            let is_usual = matches!(looked_for, Kind::Agent | Kind::Job);
            if kind.map_or(is_usual, |kind| kind == looked_for) {
                let all = self.all(looked_for).await?;
                let near = all.iter().filter(|object| has(reach, object));
                names.extend(near.map(|object| object.metadata().name.clone()));
            }
        }
        let nearest = nearest(name, names.iter().map(String::as_str));
        let text = replies::nobody_named(kind, name, nearest);
        Ok(Effect::private(match reach {
            Reach::Everywhere => text,
            Reach::Channel { .. } => format!("{text}. {}", replies::reaches_no_further()),
        }))
    }

    pub(super) async fn agents(&self) -> Result<Vec<Agent>, Error> {
        Ok(self.all(Kind::Agent).await?.into_iter().filter_map(AnyObject::into_agent).collect())
    }

    pub(super) async fn all(&self, kind: Kind) -> Result<Vec<AnyObject>, Error> {
        let mut all: Vec<AnyObject> = Vec::new();
        loop {
            let after = all.last().map(|object| object.metadata().name.clone());
            let page = self.store.list(kind, after.as_deref(), 1_000).await?;
            let more = page.more && !page.items.is_empty();
            all.extend(page.items);
            if !more {
                return Ok(all);
            }
        }
    }

    pub(super) async fn waiting(&self) -> Result<WaitingLine, Error> {
        let sprites = self.all(Kind::Sprite).await?;
        Ok(WaitingLine::of(sprites.into_iter().filter_map(AnyObject::into_sprite)))
    }
}

/// Whether somebody reaches an agent: one that listens in their channel, or in a thread of it.
pub(super) fn has_agent(reach: &Reach, agent: &Agent) -> bool {
    let mut places = agent.spec.channels.iter().map(conversation_of);
    *reach == Reach::Everywhere || places.any(|place| reach.holds(&place))
}

/// Whether somebody reaches a job: one that reports to their channel, or to a thread of it.
pub(super) fn has_job(reach: &Reach, job: &Job) -> bool {
    has_place(reach, job.spec.report.as_ref())
}

/// Whether somebody reaches what reports to such places.
pub(super) fn has_place(reach: &Reach, report: Option<&Report>) -> bool {
    let mut places = report.iter().flat_map(|report| &report.to).map(conversation_of);
    *reach == Reach::Everywhere || places.any(|place| reach.holds(&place))
}

pub(super) fn has(reach: &Reach, object: &AnyObject) -> bool {
    match object {
        AnyObject::Agent(agent) => has_agent(reach, agent),
        AnyObject::Job(job) => has_job(reach, job),
        AnyObject::Schedule(schedule) => {
            has_place(reach, schedule.spec.job_template.spec.report.as_ref())
        }
        _ => *reach == Reach::Everywhere,
    }
}

/// The places of those whose sprites wait for a slot, by the owner's uid.
pub(super) struct WaitingLine(HashMap<String, usize>);

impl WaitingLine {
    fn of(sprites: impl Iterator<Item = Sprite>) -> Self {
        let places = table::waiting_line(sprites).into_iter();
        Self(
            places
                .filter_map(|(sprite, place)| {
                    Some((sprite.metadata.controller()?.uid.clone(), place))
                })
                .collect(),
        )
    }

    /// An owner's place in its runtime's line; the first is 1.
    pub(super) fn place(&self, owner_uid: &str) -> Option<usize> {
        self.0.get(owner_uid).copied()
    }
}

/// An object's sprites, in the order in which they were made.
pub(in crate::chat) async fn sprites_of(
    store: &dyn Store,
    owner_uid: &str,
) -> Result<Vec<Sprite>, Error> {
    let owned = store.list_owned(Kind::Sprite, owner_uid).await?;
    let mut sprites: Vec<Sprite> = owned.into_iter().filter_map(AnyObject::into_sprite).collect();
    sprites.sort_by_key(|sprite| number_of(&sprite.metadata.name));
    Ok(sprites)
}

/// What an object's sprites have asked for, the oldest first.
pub(in crate::chat) async fn approvals_of(
    store: &dyn Store,
    owner_uid: &str,
) -> Result<Vec<Approval>, Error> {
    let mut approvals = Vec::new();
    for sprite in store.list_owned(Kind::Sprite, owner_uid).await? {
        approvals.extend(store.approvals(&sprite.metadata().uid).await?);
    }
    approvals.sort_by_key(|approval: &Approval| approval.created);
    Ok(approvals)
}

/// The number at the end of a sprite's name: which of its owner's sprites it is.
fn number_of(name: &str) -> u64 {
    name.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or_default()
}
