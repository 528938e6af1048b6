//! What to do for a Fleet, decided from what there is: pure, and the same for the same input.
//!
//! **Made** is everybody who is missing, at once, in the order of the generator. A Job is made once: one
//! that is gone, because its time to live is over or because somebody deleted it, is not run again; nor is
//! one that is generated again ([`super::runs`]).
//!
//! **Changed** is one member after another: as many may be out of service at once as the strategy says,
//! and who is out of service anyway, or stopped, is changed first. A member that does not work after its
//! change stops the rollout before it takes the next; and one that is in a turn is out of service until
//! that has ended and it has come up anew, because only then anybody knows. What somebody changed by hand
//! is put right at once, save where that takes a member out of service that works: it works as it was
//! changed, because nobody could look, or looked too late. Then it waits for its turn, and only behind those
//! that are coming up: who fails may do so for days, and nobody declared what the others are by then.
//!
//! **Removed** is who is not generated any more, the highest first: an Agent once it owes nobody an
//! answer, a Job a while after it has ended, so that whoever reports it has its end; how it ended is noted
//! first. What an Agent leaves behind (unmerged work, a volume) is kept as with any Agent that is deleted.
//!
//! **Where the members cannot be told**, the Fleet is suspended, or more of them would go with their
//! directories than may go unasked ([`super::cap`]), nothing is made, changed or removed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    super::{
        agent::sprite_of,
        hands::sooner,
        made::{Note, is_held, leaves_orphans},
        words,
    },
    cap::{self, is_of_directories},
    member::{
        Health, Why, called, finishes_a_turn, health, is_updated, may_go, new, stays_until, updated,
    },
    runs,
    stand::{Stand, dress},
    usual,
};
use crate::resource::{
    Agent, AnyObject, FLEET_RESTART, Fleet, FleetStatus, Kind, RESTARTED_UP_TO, RunOutcome,
    expand::Member,
};

/// How many members may be out of service at once where the strategy does not say.
const MAX_UNAVAILABLE: u32 = 1;

/// Why nobody can tell which members there shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// All that is decided from.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    /// The Fleet.
    pub(super) fleet: &'a Fleet,
    /// The members that there shall be.
    pub(super) wanted: Result<&'a [Member], Trouble>,
    /// The Agents and Jobs that the Fleet controls.
    pub(super) owned: &'a [AnyObject],
    /// Wanted names that others hold.
    pub(super) taken: &'a BTreeSet<String>,
    /// The uids of Agents that are not wanted and of which turns wait or run, by the turns' ledger.
    pub(super) owing: &'a BTreeSet<String>,
    /// Now.
    pub(super) now: Timestamp,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Hold the Fleet while members of it may exist.
    AddFinalizer,
    /// Make members, and note which Jobs were made.
    Create { members: Vec<AnyObject>, status: Box<FleetStatus>, notes: Vec<Note> },
    /// Write a member as it shall be.
    Update { member: Box<AnyObject>, note: Note },
    /// Delete members that are not generated any more, unless they have changed meanwhile; and say how
    /// many may still go by the confirmation that stands there, where they use it.
    Prune { members: Vec<AnyObject>, left: Option<usize>, notes: Vec<Note> },
    /// Delete a member of a Fleet that goes.
    Delete(Box<AnyObject>),
    /// Let a member go from the Fleet.
    Release(Box<AnyObject>),
    /// Let a confirmation of deletions stand for so many, because there are no more to go; for none,
    /// take it away.
    LowerConfirmation(usize),
    /// Write the status.
    WriteStatus(Box<FleetStatus>),
    /// Let the Fleet go.
    DropFinalizer,
}

/// What to do now, in order, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) again: Option<Timestamp>,
}

impl From<Vec<Action>> for Plan {
    fn from(actions: Vec<Action>) -> Self {
        Self { actions, again: None }
    }
}

/// Decides.
pub(super) fn plan(view: &View<'_>) -> Plan {
    let View { fleet, owned, now, .. } = *view;
    if fleet.metadata.is_deleting() {
        return plan_deletion(fleet, owned).into();
    }
    if !is_held(&fleet.metadata) {
        return vec![Action::AddFinalizer].into();
    }
    let mut status = fleet.status.clone();
    status.observed_generation = fleet.metadata.generation;
    let wanted = match &view.wanted {
        _ if fleet.spec.suspend => Err(Stand::Suspended),
        Err(trouble) => Err(Stand::Unknown(trouble.clone())),
        Ok([]) if is_of_directories(fleet) && !owned.is_empty() => Err(Stand::Unknown(Trouble {
            reason: words::NO_DIRECTORIES,
            message:
                "no directory is under its pattern any more; its members stay until one is, or \
                      until the fleet is deleted"
                    .to_owned(),
        })),
        Ok(wanted) => match cap::held(fleet, wanted, owned) {
            Some(trouble) => Err(Stand::Unknown(trouble)),
            None => Ok(*wanted),
        },
    };
    let mut plan = Plan::default();
    match wanted {
        Err(stand) => {
            runs::note(&mut status, owned);
            dress(&mut status, fleet, &stand, now);
        }
        Ok(wanted) => {
            if let Some(left) = cap::left(fleet, wanted, owned, 0) {
                return vec![Action::LowerConfirmation(left)].into();
            }
            let mut rollout = Rollout::new(view, wanted, &mut status);
            if let Some(create) = rollout.create() {
                return vec![create].into();
            }
            plan.actions = rollout.update();
            // What became of a Job is noted before the Job goes.
            if rollout.status.runs == fleet.status.runs {
                plan.actions.extend(rollout.prune());
            }
            plan.again = rollout.next_to_go();
            let stand = rollout.stand();
            usual::forget(&mut status, now);
            plan.again = sooner(plan.again, runs::next_forgotten(&status));
            plan.again = sooner(plan.again, usual::next_forgotten(&status));
            status.last_handled_restart = fleet.metadata.annotations.get(FLEET_RESTART).cloned();
            dress(&mut status, fleet, &Stand::Known(stand), now);
        }
    }
    let uses_a_confirmation =
        |action: &Action| matches!(action, Action::Prune { left: Some(_), .. });
    // One that is used is a change of the Fleet, and the rest is told of what it is then.
    if status != fleet.status && !plan.actions.iter().any(uses_a_confirmation) {
        plan.actions.push(Action::WriteStatus(Box::new(status)));
    }
    plan
}

/// Deletion: delete the members, or let them go; wait until none is left; let go.
fn plan_deletion(fleet: &Fleet, owned: &[AnyObject]) -> Vec<Action> {
    let orphans = leaves_orphans(&fleet.metadata);
    let mut actions: Vec<Action> = owned
        .iter()
        .filter(|member| orphans || !member.metadata().is_deleting())
        .map(|member| Box::new(member.clone()))
        .map(|member| if orphans { Action::Release(member) } else { Action::Delete(member) })
        .collect();
    if owned.is_empty() && is_held(&fleet.metadata) {
        actions.push(Action::DropFinalizer);
    }
    actions
}

/// What a rollout knows of its members.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How many there shall be.
    pub(super) wanted: usize,
    /// How many are there.
    pub(super) there: usize,
    /// Of them, as the template says now.
    pub(super) updated: usize,
    /// Of them, well.
    pub(super) well: usize,
    /// Of them, stopped by a person.
    pub(super) stopped: usize,
    /// Who is failing, and why.
    pub(super) failing: Vec<(String, String)>,
    /// Who is failing although it is as the template says now: what stops a rollout.
    pub(super) stopping: Vec<(String, String)>,
    /// Who waits to be changed.
    pub(super) waiting: usize,
    /// Who was changed and still works at a turn as it was.
    pub(super) finishing: Vec<String>,
    /// Who is to go, and is not gone.
    pub(super) leaving: Vec<String>,
    /// Names that others hold.
    pub(super) taken: Vec<String>,
    /// Whether the members are Jobs.
    pub(super) jobs: bool,
}

/// A template on its way to its members.
struct Rollout<'a, 'v, 's> {
    view: &'a View<'v>,
    wanted: &'v [Member],
    /// The members that are there and stay, by name.
    kept: BTreeMap<&'v str, &'v AnyObject>,
    /// Those that are on their way out, by name, and wanted again.
    going: BTreeSet<&'v str>,
    /// Those that are not wanted.
    surplus: Vec<&'v AnyObject>,
    status: &'s mut FleetStatus,
    waiting: usize,
}

impl<'a, 'v, 's> Rollout<'a, 'v, 's> {
    fn new(view: &'a View<'v>, wanted: &'v [Member], status: &'s mut FleetStatus) -> Self {
        let names: BTreeSet<(Kind, &str)> =
            wanted.iter().map(|member| (member.object.kind(), member.name.as_str())).collect();
        runs::note(status, view.owned);
        runs::sort(status, view.owned, |name| names.contains(&(Kind::Job, name)), view.now);
        let is_wanted =
            |object: &&AnyObject| names.contains(&(object.kind(), object.metadata().name.as_str()));
        let (stay, mut surplus): (Vec<&AnyObject>, Vec<&AnyObject>) =
            view.owned.iter().partition(is_wanted);
        let name = |object: &&'v AnyObject| object.metadata().name.as_str();
        let (going, kept): (Vec<&AnyObject>, Vec<&AnyObject>) =
            stay.into_iter().partition(|object| object.metadata().is_deleting());
        // The highest index first.
        surplus.sort_by_key(|object| {
            let name = &object.metadata().name;
            std::cmp::Reverse((name.len(), name.as_str()))
        });
        Self {
            view,
            wanted,
            going: going.iter().map(name).collect(),
            kept: kept.iter().map(|object| (name(object), *object)).collect(),
            surplus,
            status,
            waiting: 0,
        }
    }

    /// Whether a member was there once and shall not be made again.
    fn has_run(&self, member: &Member) -> bool {
        member.object.kind() == Kind::Job && self.status.runs.contains_key(&member.name)
    }

    /// Makes everybody who is missing.
    fn create(&mut self) -> Option<Action> {
        let missing: Vec<&Member> = self
            .wanted
            .iter()
            .filter(|member| {
                let name = member.name.as_str();
                !self.kept.contains_key(name)
                    && !self.going.contains(name)
                    && !self.view.taken.contains(name)
                    && !self.has_run(member)
            })
            .collect();
        if missing.is_empty() {
            return None;
        }
        let fleet = self.view.fleet;
        let members: Vec<AnyObject> = missing.iter().map(|member| new(fleet, member)).collect();
        for member in missing.iter().filter(|member| member.object.kind() == Kind::Job) {
            self.status.runs.insert(member.name.clone(), RunOutcome::Made);
        }
        let notes = vec![Note::plain(words::MEMBERS_CREATED, format!("made {}", listed(&members)))];
        // How it stands is written once they are there.
        let FleetStatus { runs, past_runs, .. } = self.status.clone();
        let status = FleetStatus { runs, past_runs, ..fleet.status.clone() };
        Some(Action::Create { members, status: Box::new(status), notes })
    }

    /// Changes those that may be changed now.
    fn update(&mut self) -> Vec<Action> {
        let most = self.view.fleet.spec.strategy.max_unavailable.unwrap_or(MAX_UNAVAILABLE);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let agents = || self.kept.values().filter(|object| object.kind() == Kind::Agent);
        let count = |is: fn(&Health) -> bool| agents().filter(|it| is(&health(it))).count();
        let mut coming = count(|health| *health == Health::Coming) + self.going.len();
        let failing = count(|health| matches!(health, Health::Failing(_)));
        let stopped = !self.stopping().is_empty();
        let mut actions = Vec::new();
        for member in self.wanted {
            let Some(live) = self.kept.get(member.name.as_str()) else { continue };
            let Some((object, why)) = updated(live, member, self.view.fleet) else { continue };
            let costs = health(live) == Health::Well && takes_out(live, &object, why);
            let has_to_wait = match why {
                Why::Drift => coming >= most,
                Why::Template | Why::Restart => stopped || coming + failing >= most,
            };
            if costs && has_to_wait {
                self.waiting += 1;
                continue;
            }
            coming += usize::from(costs);
            let name = called(&object);
            let note = match why {
                Why::Template => Note::plain(
                    words::MEMBER_UPDATED,
                    format!("{name} is as the template says now"),
                ),
                Why::Restart => Note::plain(
                    words::MEMBER_UPDATED,
                    format!("{name} is made anew, because somebody asked for it"),
                ),
                Why::Drift => {
                    let text =
                        format!("{name} was changed by hand, and is as the template says again");
                    Note::warning(words::PUT_RIGHT, text)
                }
            };
            actions.push(Action::Update { member: Box::new(object), note });
        }
        actions
    }

    /// Removes those that may go now.
    fn prune(&self) -> Option<Action> {
        let members: Vec<AnyObject> = self
            .surplus
            .iter()
            .filter(|object| {
                let metadata = object.metadata();
                let owes = self.view.owing.contains(&metadata.uid);
                !metadata.is_deleting() && !owes && may_go(object, self.view.now)
            })
            .map(|object| (*object).clone())
            .collect();
        if members.is_empty() {
            return None;
        }
        let text = format!("deleted {}, not generated any more", listed(&members));
        let View { fleet, owned, .. } = *self.view;
        let left = cap::left(fleet, self.wanted, owned, members.len());
        Some(Action::Prune { members, left, notes: vec![Note::plain(words::MEMBER_PRUNED, text)] })
    }

    /// When the next of those may go that wait for nothing but time.
    fn next_to_go(&self) -> Option<Timestamp> {
        let times = self.surplus.iter().filter(|object| !object.metadata().is_deleting());
        let times = times.filter_map(|object| stays_until(object, self.view.now));
        times.fold(None, |first, time| sooner(first, Some(time)))
    }

    /// Who is to go, and what it is waited for.
    fn leaving(&self, object: &AnyObject) -> String {
        let name = called(object);
        let metadata = object.metadata();
        if metadata.is_deleting() {
            return name;
        }
        match object {
            AnyObject::Job(_) if stays_until(object, self.view.now).is_some() => {
                format!("{name} (a minute after its end)")
            }
            AnyObject::Job(_) => format!("{name} (when it has ended)"),
            AnyObject::Agent(agent) if agent.status.conditions.is_true(words::BUDGET_SPENT) => {
                format!(
                    "{name} (a message waits and its budget is spent: cancel the one or raise the other)"
                )
            }
            _ if self.view.owing.contains(&metadata.uid) || !may_go(object, self.view.now) => {
                format!("{name} (when its turns have ended)")
            }
            _ => name,
        }
    }

    /// Agents that do not work although they are as the template says now.
    fn stopping(&self) -> Vec<(String, String)> {
        let failing = self.wanted.iter().filter_map(|member| {
            let live = self.kept.get(member.name.as_str())?;
            match health(live) {
                Health::Failing(why)
                    if live.kind() == Kind::Agent && is_updated(live, member, self.view.fleet) =>
                {
                    Some((called(live), why))
                }
                _ => None,
            }
        });
        failing.collect()
    }

    /// What there is to tell.
    fn stand(&self) -> Known {
        let mut known = Known {
            wanted: self.wanted.len(),
            waiting: self.waiting,
            stopping: self.stopping(),
            leaving: self.surplus.iter().map(|object| self.leaving(object)).collect(),
            jobs: self.view.fleet.spec.template.kind == Kind::Job,
            ..Known::default()
        };
        for member in self.wanted {
            let live = self.kept.get(member.name.as_str());
            if live.is_none() && self.view.taken.contains(&member.name) {
                known.taken.push(called(&member.object));
            }
            let standing = match live {
                Some(live) => {
                    known.updated += usize::from(is_updated(live, member, self.view.fleet));
                    if finishes_a_turn(live) {
                        known.finishing.push(called(live));
                    }
                    health(live)
                }
                // A Job that is gone ended as was noted.
                None => match self.status.runs.get(&member.name) {
                    Some(outcome) if known.jobs => {
                        known.updated += 1;
                        match outcome {
                            RunOutcome::Succeeded => Health::Well,
                            RunOutcome::Failed => Health::Failing("it failed".to_owned()),
                            RunOutcome::Made => {
                                let text = "it is gone, and how it ended is not known";
                                Health::Failing(text.to_owned())
                            }
                        }
                    }
                    _ => continue,
                },
            };
            known.there += 1;
            match standing {
                Health::Well => known.well += 1,
                Health::Stopped => known.stopped += 1,
                Health::Coming => {}
                Health::Failing(why) => known.failing.push((called(&member.object), why)),
            }
        }
        known
    }
}

/// Whether a change of an Agent may take it out of service: one of its spec, or a request to make it
/// anew. What was declared before is known to work, so to put it right costs only where its Sprite is
/// replaced for that.
fn takes_out(live: &AnyObject, object: &AnyObject, why: Why) -> bool {
    let (AnyObject::Agent(live), AnyObject::Agent(object)) = (live, object) else { return false };
    let restarted = |agent: &Agent| agent.metadata.annotations.get(RESTARTED_UP_TO).cloned();
    match why {
        Why::Drift => sprite_of(live) != sprite_of(object),
        Why::Template | Why::Restart => {
            live.spec != object.spec || restarted(live) != restarted(object)
        }
    }
}

/// The names of some objects, for people.
fn listed(objects: &[AnyObject]) -> String {
    const MOST: usize = 5;
    let names: Vec<String> = objects.iter().take(MOST).map(called).collect();
    match objects.len().saturating_sub(MOST) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
