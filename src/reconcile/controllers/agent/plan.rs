//! What to do for an Agent, decided from what there is: at most one live Sprite, as its spec says.
//!
//! A Sprite's spec never changes. So when the Agent's has changed in what a Sprite is made of, the
//! live one is told to end, and the next is made once nothing of it is left; it resumes the
//! session. Channels, budget and the times of turns are not part of a Sprite and apply at once.
//! A Sprite that ends by itself is replaced after a pause that doubles while it keeps happening.

use std::time::Duration;

use jiff::Timestamp;

use super::super::{
    attempt::{is_over, is_stopping, new_sprite, over_since, sprite_name},
    job::spent,
    words,
};
use crate::{
    ambient::{between, later},
    resource::{
        Agent, AgentStatus,
        ConditionStatus::{False, True},
        ExitReason, FINALIZER_SPRITES, Kind, PermissionMode, Sprite, SpriteSpec,
    },
};

/// So many ended Sprites are kept, for their logs.
const KEEP: usize = 6;
/// The pause after the first Sprite that ended by itself, doubled for each more in a row.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const PAUSE_CAP: Duration = Duration::from_secs(300);
/// A Sprite that lived so long ended for a reason of its own: the pauses begin anew.
const GOOD_LIFE: Duration = Duration::from_secs(600);

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Hold the Agent while Sprites of it may exist.
    AddFinalizer,
    /// Make the next Sprite, and note its number.
    CreateSprite(Box<Sprite>, Box<AgentStatus>),
    /// Tell a Sprite to end.
    StopSprite(Box<Sprite>),
    /// Delete a Sprite.
    DeleteSprite(Box<Sprite>),
    /// Write the status.
    WriteStatus(Box<AgentStatus>),
    /// Let the Agent go.
    DropFinalizer,
}

/// What to do now, in order, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) again: Option<Timestamp>,
}

/// Where an Agent stands, in one word from which its conditions follow.
enum Stand<'a> {
    /// Suspended, and nothing of it is left.
    Suspended,
    /// Suspended, and its Sprite is on its way out.
    Suspending,
    /// Its Sprite is on its way out, and another will come.
    Replacing,
    /// Its Sprite is on its way in, or works.
    Live(&'a Sprite),
    /// The next Sprite waits for a time.
    BackingOff(String),
    /// The next Sprite is made now.
    Creating,
}

/// Decides. `sprites` are the Agent's own, by number.
pub(super) fn plan(agent: &Agent, sprites: &[Sprite], now: Timestamp) -> Plan {
    let held = agent.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER_SPRITES);
    if agent.metadata.is_deleting() {
        let mut actions = delete_all(sprites);
        if sprites.is_empty() && held {
            actions.push(Action::DropFinalizer);
        }
        return Plan { actions, again: None };
    }
    if !held {
        return Plan { actions: vec![Action::AddFinalizer], again: None };
    }
    let mut status = gather(agent, sprites);
    let mut plan = Plan::default();
    let live: Vec<&Sprite> = sprites.iter().filter(|sprite| !is_over(sprite)).collect();
    let wanted = template(agent);
    let stand = match live.last() {
        Some(_) if agent.spec.suspend => Stand::Suspending,
        Some(sprite) if is_stopping(sprite) || !is_made_of(sprite, &wanted) => Stand::Replacing,
        Some(sprite) => Stand::Live(sprite),
        None if agent.spec.suspend => Stand::Suspended,
        None => match pause_until(sprites, &wanted) {
            Some((until, why)) if until > now => {
                plan.again = Some(until);
                Stand::BackingOff(why)
            }
            _ => Stand::Creating,
        },
    };
    if matches!(stand, Stand::Suspending | Stand::Replacing) {
        for sprite in live.iter().filter(|sprite| !is_stopping(sprite)) {
            let mut sprite = (*sprite).clone();
            sprite.spec.stop = Some(ExitReason::Cancelled);
            plan.actions.push(Action::StopSprite(Box::new(sprite)));
        }
    }
    plan.actions.extend(forget(sprites));
    let made = if matches!(stand, Stand::Creating) {
        let n = status.incarnation + 1;
        status.incarnation = n;
        status.sprite = Some(sprite_name(&agent.metadata.name, &agent.metadata.uid, n));
        let spec = SpriteSpec { attempt: n, session: status.session_id.clone(), ..wanted };
        Some(new_sprite(Kind::Agent, &agent.metadata, spec))
    } else {
        None
    };
    dress(&mut status, &stand, agent, now);
    match made {
        Some(sprite) => {
            plan.actions.push(Action::CreateSprite(Box::new(sprite), Box::new(status)));
        }
        None if status != agent.status => {
            plan.actions.push(Action::WriteStatus(Box::new(status)));
        }
        None => {}
    }
    plan
}

fn delete_all(sprites: &[Sprite]) -> Vec<Action> {
    sprites
        .iter()
        .filter(|sprite| !sprite.metadata.is_deleting())
        .map(|sprite| Action::DeleteSprite(Box::new(sprite.clone())))
        .collect()
}

/// The ended Sprites beyond those that are kept.
fn forget(sprites: &[Sprite]) -> Vec<Action> {
    let over: Vec<&Sprite> = sprites
        .iter()
        .filter(|sprite| is_over(sprite) && sprite.metadata.finalizers.is_empty())
        .collect();
    let too_many = over.len().saturating_sub(KEEP);
    over[..too_many]
        .iter()
        .filter(|sprite| !sprite.metadata.is_deleting())
        .map(|sprite| Action::DeleteSprite(Box::new((*sprite).clone())))
        .collect()
}

/// The part of the status that is plain observation.
fn gather(agent: &Agent, sprites: &[Sprite]) -> AgentStatus {
    let mut status = agent.status.clone();
    status.observed_generation = agent.metadata.generation;
    let newest = sprites.last().map_or(0, |sprite| sprite.spec.attempt);
    status.incarnation = status.incarnation.max(newest);
    status.sprite =
        sprites.iter().rfind(|sprite| !is_over(sprite)).map(|sprite| sprite.metadata.name.clone());
    let session = sprites.iter().rev().find_map(|sprite| sprite.status.session_id.clone());
    status.session_id = session.or(status.session_id);
    status.cost = spent(&status.cost, sprites);
    status
}

/// What a Sprite of this Agent is made of, without what differs from one to the next.
fn template(agent: &Agent) -> SpriteSpec {
    let spec = &agent.spec;
    let mut permissions = spec.permissions.clone();
    permissions.mode = permissions.mode.or(Some(PermissionMode::Ask));
    SpriteSpec {
        agent: spec.agent.clone(),
        runtime: spec.runtime.clone(),
        task: None,
        repo: spec.repo.clone(),
        instructions: spec.instructions.clone(),
        permissions,
        env: spec.env.clone(),
        timeout: None,
        idle_timeout: None,
        session: None,
        attempt: 0,
        running: true,
        run: 1,
        stop: None,
    }
}

fn is_made_of(sprite: &Sprite, template: &SpriteSpec) -> bool {
    let made_of = SpriteSpec {
        session: None,
        attempt: 0,
        running: true,
        run: 1,
        stop: None,
        ..sprite.spec.clone()
    };
    made_of == *template
}

/// Until when the next Sprite waits, and why: the last ones ended by themselves, soon.
fn pause_until(sprites: &[Sprite], template: &SpriteSpec) -> Option<(Timestamp, String)> {
    let failed = |sprite: &&Sprite| {
        !is_stopping(sprite) && is_made_of(sprite, template) && !lived_well(sprite)
    };
    let failures = sprites.iter().rev().take_while(failed).count();
    let last = sprites.last().filter(|_| failures > 0)?;
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(16);
    let pause = PAUSE.saturating_mul(1 << doublings).min(PAUSE_CAP);
    let why = match &last.status.exit {
        Some(exit) if !exit.message.is_empty() => exit.message.clone(),
        Some(exit) => format!("its sprite ended by itself: {:?}", exit.reason),
        None => "its sprite was lost".to_owned(),
    };
    Some((later(over_since(last)?, pause), why))
}

fn lived_well(sprite: &Sprite) -> bool {
    match (sprite.status.hello_time, over_since(sprite)) {
        (Some(hello), Some(over)) => between(hello, over) >= GOOD_LIFE,
        _ => false,
    }
}

/// Conditions and phase follow from where it stands.
fn dress(status: &mut AgentStatus, stand: &Stand<'_>, agent: &Agent, now: Timestamp) {
    let generation = agent.metadata.generation;
    let conditions = &mut status.conditions;
    let hindrance = match stand {
        Stand::BackingOff(why) => Some((words::BACKING_OFF.to_owned(), why.clone())),
        Stand::Live(sprite) => sprite
            .status
            .conditions
            .get(words::STALLED)
            .filter(|stalled| stalled.status == True)
            .map(|stalled| (stalled.reason.clone(), stalled.message.clone())),
        _ => None,
    };
    let (ready, progress, phase) = match stand {
        Stand::Suspended => (Err(words::SUSPENDED), None, "Suspended"),
        Stand::Suspending => (Err(words::SUSPENDED), Some(words::SUSPENDED), "Suspended"),
        Stand::Replacing => (Err(words::REPLACING), Some(words::REPLACING), "Starting"),
        Stand::BackingOff(_) => (Err(words::BACKING_OFF), Some(words::BACKING_OFF), "Failing"),
        Stand::Creating => (Err(words::STARTING), Some(words::STARTING), "Pending"),
        Stand::Live(sprite) => {
            let shown = &sprite.status.conditions;
            if shown.is_true(words::READY) {
                (Ok(words::AGENT_READY), None, "Idle")
            } else if shown.is_true(words::ADMITTED) {
                (Err(words::STARTING), Some(words::STARTING), "Starting")
            } else {
                (Err(words::WAITING), Some(words::WAITING), "Pending")
            }
        }
    };
    match ready {
        Ok(reason) => conditions.set(words::READY, True, reason, "", generation, now),
        Err(reason) => conditions.set(words::READY, False, reason, "", generation, now),
    }
    match progress {
        Some(reason) => conditions.set(words::RECONCILING, True, reason, "", generation, now),
        None => {
            conditions.set(words::RECONCILING, False, words::SETTLED, "", generation, now);
        }
    }
    match hindrance {
        Some((reason, message)) => {
            conditions.set(words::STALLED, True, &reason, message, generation, now);
        }
        None => conditions.remove(words::STALLED),
    }
    phase.clone_into(&mut status.phase);
}
