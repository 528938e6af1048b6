//! What to do for an Agent, decided from what there is: at most one live Sprite, as its spec says,
//! and its turns one after another.
//!
//! First the turns that have come to an end, or must begin anew, are moved ([`super::turns`]); then
//! everything is read again. Only then the Sprite's life goes on.
//!
//! A Sprite's spec never changes, save that it sleeps and wakes. So when the Agent's has changed in
//! what a Sprite is made of, the live one is told to end once no turn is open, and the next is made
//! once nothing of it is left; it resumes the session. Until then the Agent works and says
//! `Reconciling`, so that nobody takes it for what its spec says. Channels, budget and the times of
//! turns are not part of a Sprite and apply at once.
//!
//! Without a turn for long enough the Sprite is told to sleep; the next turn that may begin wakes it.
//! A Sprite that ends by itself is replaced after a pause that doubles while it keeps happening; one
//! that ended for want of a server and of work is replaced when a turn comes. One that nothing can be
//! told of is waited for, until a person gives its session up.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::{
    super::{
        attempt::{
            is_asleep, is_over, is_stopping, is_unknown, new_sprite, over_since, sprite_name,
            takes_turns,
        },
        words,
    },
    budget::{Purse, purse},
    stand::{Stand, dress},
    turns::{Queue, hopeless},
};
use crate::{
    ambient::{between, later},
    resource::{
        Agent, AgentStatus, Cost, DEFAULT_IDLE_TIMEOUT, ExitReason, FINALIZER_SPRITES,
        FRESH_SESSION_AFTER, Kind, PermissionMode, RESTARTED_UP_TO, Sprite, SpriteSpec,
    },
    store::{Op, Turn, TurnSums},
};

/// So many ended Sprites are kept, for their logs.
const KEEP: usize = 6;
/// The pause after the first Sprite that ended by itself, doubled for each more in a row.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const PAUSE_CAP: Duration = Duration::from_secs(300);
/// A Sprite that lived so long ended for a reason of its own: the pauses begin anew.
const GOOD_LIFE: Duration = Duration::from_secs(600);

/// All that is decided from. Read in this order, so that what a Sprite that is over said of its
/// turns is seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// The Agent.
    pub(super) agent: &'a Agent,
    /// Its own Sprites, by number.
    pub(super) sprites: &'a [Sprite],
    /// Its turns that have not ended, by number.
    pub(super) open: &'a [Turn],
    /// All its turns, summed up.
    pub(super) sums: &'a TurnSums,
    /// The turns of which a run was told that they are cancelled.
    pub(super) told: &'a BTreeSet<String>,
    /// Whether a Sprite waits for an answer.
    pub(super) asks: bool,
    /// Now.
    pub(super) now: Timestamp,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Hold the Agent while Sprites of it may exist.
    AddFinalizer,
    /// Move turns that have come to an end, or begin anew.
    MoveTurns(Vec<Op>),
    /// Tell a run that turns are cancelled.
    CancelTurns(Vec<Op>),
    /// Hand a turn to the Sprite, unless the Agent has changed meanwhile.
    SendTurn(Vec<Op>, Box<AgentStatus>),
    /// Make the next Sprite, and note its number.
    CreateSprite(Box<Sprite>, Box<AgentStatus>),
    /// Tell a Sprite to end.
    StopSprite(Box<Sprite>),
    /// Tell a Sprite to sleep, unless the Agent has changed meanwhile.
    SleepSprite(Box<Sprite>),
    /// Let a Sprite's next run live, unless the Agent has changed meanwhile.
    WakeSprite(Box<Sprite>),
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

impl Plan {
    fn only(action: Action) -> Self {
        Self { actions: vec![action], again: None }
    }
}

/// Decides.
pub(super) fn plan(view: &View<'_>) -> Plan {
    let View { agent, sprites, open, now, .. } = *view;
    let deleting = agent.metadata.is_deleting();
    let held = agent.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER_SPRITES);
    if !held && !deleting {
        return Plan::only(Action::AddFinalizer);
    }
    let fresh = fresh_after(agent);
    let wanted = sprite_of(agent);
    let newest = fresh.max(number(agent, RESTARTED_UP_TO));
    let current = |sprite: &Sprite| is_made_of(sprite, &wanted) && sprite.spec.attempt > newest;
    let present: Vec<&Sprite> =
        sprites.iter().filter(|sprite| !is_over(sprite) && !is_given_up(sprite, fresh)).collect();
    let queue = Queue { agent, sprites: &present, open, now };
    let moves = queue.moves(hopeless(sprites, current).as_ref());
    if !moves.is_empty() {
        return Plan::only(Action::MoveTurns(moves));
    }
    if deleting {
        let mut actions = delete_all(sprites);
        if sprites.is_empty() && open.is_empty() && held {
            actions.push(Action::DropFinalizer);
        }
        return Plan { actions, again: None };
    }
    let purse = purse(agent, view.sums);
    let comes = queue.head().is_some() && !matches!(purse, Purse::Spent(_));
    let mut plan = Plan::default();
    let stand = match present.last().copied() {
        Some(_) if agent.spec.suspend => Stand::Suspending,
        Some(sprite) if is_stopping(sprite) => Stand::Replacing,
        Some(sprite) if !current(sprite) && !queue.is_busy() => Stand::Replacing,
        Some(sprite) if is_asleep(sprite) && comes => Stand::Waking,
        Some(sprite) if is_asleep(sprite) => Stand::Asleep,
        Some(sprite) if !sprite.spec.running => Stand::FallingAsleep,
        Some(sprite) => Stand::Live { sprite, busy: queue.is_busy(), outdated: !current(sprite) },
        None if agent.spec.suspend => Stand::Suspended,
        None => match pause_until(sprites, current, now) {
            Some((until, why)) if until > now => {
                plan.again = Some(until);
                // Up to the second: who reads it waits for it.
                let at = until.strftime("%H:%M:%S");
                Stand::BackingOff(format!("{why}; tried again at {at} UTC"))
            }
            _ if !comes && was_abandoned(sprites, current) => Stand::Resting,
            _ => Stand::Creating,
        },
    };
    plan.actions.extend(stop_all(&stand, sprites, fresh));
    plan.actions.extend(forget(sprites));
    Life { view, queue: &queue, purse: &purse, wanted: &wanted }.go_on(stand, fresh, &mut plan);
    plan
}

/// What the Sprite's life is continued from.
struct Life<'a, 'v> {
    view: &'a View<'v>,
    queue: &'a Queue<'v>,
    purse: &'a Purse,
    wanted: &'a SpriteSpec,
}

impl Life<'_, '_> {
    /// What the stand asks for, and the status that says it.
    fn go_on(&self, mut stand: Stand<'_>, fresh: u32, plan: &mut Plan) {
        let View { agent, sprites, now, .. } = *self.view;
        let mut status = gather(self.view, fresh);
        let cancels = self.queue.cancels(self.view.told);
        if !cancels.is_empty() {
            plan.actions.push(Action::CancelTurns(cancels));
        }
        let mut last = None;
        match stand {
            Stand::Creating => {
                let n = status.incarnation + 1;
                status.incarnation = n;
                status.sprite = Some(sprite_name(&agent.metadata.name, &agent.metadata.uid, n));
                let session = status.session_id.clone();
                let spec = SpriteSpec { attempt: n, session, ..self.wanted.clone() };
                let sprite = new_sprite(Kind::Agent, &agent.metadata, spec);
                dress(&mut status, &stand, self.purse, agent, now);
                plan.actions.push(Action::CreateSprite(Box::new(sprite), Box::new(status)));
                return;
            }
            Stand::Waking => {
                if let Some(mut sprite) = sprites.iter().rfind(|it| is_asleep(it)).cloned() {
                    sprite.spec.running = true;
                    sprite.spec.run += 1;
                    last = Some(Action::WakeSprite(Box::new(sprite)));
                }
            }
            Stand::Live { sprite, outdated, .. } => {
                if let Some(ops) = self.queue.send(sprite, self.purse) {
                    status.turns.queued = status.turns.queued.saturating_sub(1);
                    status.turns.running += 1;
                    stand = Stand::Live { sprite, busy: true, outdated };
                    dress(&mut status, &stand, self.purse, agent, now);
                    plan.actions.push(Action::SendTurn(ops, Box::new(status)));
                    return;
                }
                match self.tired_at(sprite) {
                    Some(at) if at <= now => {
                        let mut sprite = sprite.clone();
                        sprite.spec.running = false;
                        last = Some(Action::SleepSprite(Box::new(sprite)));
                        stand = Stand::FallingAsleep;
                    }
                    at => plan.again = at,
                }
            }
            _ => {}
        }
        dress(&mut status, &stand, self.purse, agent, now);
        // Ahead of the status: both compare the version that was read.
        plan.actions.extend(last);
        if status != agent.status {
            plan.actions.push(Action::WriteStatus(Box::new(status)));
        }
    }

    /// When a Sprite that takes turns has gone without one for long enough; at once, if another one
    /// waits for its slot.
    fn tired_at(&self, sprite: &Sprite) -> Option<Timestamp> {
        if !takes_turns(sprite) || self.queue.is_busy() || self.view.asks {
            return None;
        }
        let View { agent, sums, now, .. } = *self.view;
        if sprite.status.conditions.is_true(words::SLOT_WANTED) {
            return Some(now);
        }
        let idle = agent.spec.idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT).as_duration();
        let known = [sprite.status.hello_time, sums.last].into_iter().flatten();
        // What is said of a time far to come was said before the clock was set back. Where nothing
        // else is known it may sleep: the next turn wakes it.
        let since = known.clone().filter(|since| *since <= later(now, idle)).max();
        since.map(|since| later(since, idle)).or_else(|| known.max().map(|_| now))
    }
}

/// Sprites up to this number are not resumed.
fn fresh_after(agent: &Agent) -> u32 {
    number(agent, FRESH_SESSION_AFTER)
}

/// The number of a Sprite that an annotation names; 0 is that of none.
fn number(agent: &Agent, annotation: &str) -> u32 {
    let number = agent.metadata.annotations.get(annotation);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Whether nobody waits any more for a Sprite that nothing can be told of.
fn is_given_up(sprite: &Sprite, fresh: u32) -> bool {
    sprite.spec.attempt <= fresh && is_unknown(sprite)
}

/// Those that the stand lets end, and those that were given up.
fn stop_all(stand: &Stand<'_>, sprites: &[Sprite], fresh: u32) -> Vec<Action> {
    let all = matches!(stand, Stand::Suspending | Stand::Replacing);
    sprites
        .iter()
        .filter(|sprite| !is_over(sprite) && !is_stopping(sprite))
        .filter(|sprite| all || is_given_up(sprite, fresh))
        .map(|sprite| {
            let mut sprite = sprite.clone();
            sprite.spec.stop = Some(ExitReason::Cancelled);
            Action::StopSprite(Box::new(sprite))
        })
        .collect()
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
fn gather(view: &View<'_>, fresh: u32) -> AgentStatus {
    let View { agent, sprites, sums, .. } = *view;
    let mut status = agent.status.clone();
    status.observed_generation = agent.metadata.generation;
    let newest = sprites.last().map_or(0, |sprite| sprite.spec.attempt);
    if status.incarnation.max(newest) <= fresh {
        status.session_id = None;
    }
    status.incarnation = status.incarnation.max(newest);
    status.sprite =
        sprites.iter().rfind(|sprite| !is_over(sprite)).map(|sprite| sprite.metadata.name.clone());
    let told = sprites.iter().rev().filter(|sprite| sprite.spec.attempt > fresh);
    let session = told.filter_map(|sprite| sprite.status.session_id.clone()).next();
    status.session_id = session.or(status.session_id);
    status.turns.queued = sums.queued;
    status.turns.running = sums.running;
    status.turns.done = sums.done;
    // Never less than was known.
    status.cost = Cost {
        micro_usd: sums.usage.cost_micro_usd.max(status.cost.micro_usd),
        input_tokens: sums.usage.input_tokens.max(status.cost.input_tokens),
        output_tokens: sums.usage.output_tokens.max(status.cost.output_tokens),
    };
    status.last_activity_time = sums.last.or(status.last_activity_time);
    status
}

/// What a Sprite of this Agent is made of, without what differs from one to the next.
pub(in super::super) fn sprite_of(agent: &Agent) -> SpriteSpec {
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
fn pause_until(
    sprites: &[Sprite],
    current: impl Fn(&Sprite) -> bool,
    now: Timestamp,
) -> Option<(Timestamp, String)> {
    let failed =
        |sprite: &&Sprite| ended_by_itself(sprite) && current(sprite) && !lived_well(sprite);
    let over = || sprites.iter().rev().filter(|sprite| is_over(sprite));
    let failures = over().take_while(failed).count();
    let last = over().next().filter(|_| failures > 0)?;
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(16);
    let pause = PAUSE.saturating_mul(1 << doublings).min(PAUSE_CAP);
    let why = match &last.status.exit {
        Some(exit) if !exit.message.is_empty() => exit.message.clone(),
        Some(exit) => format!("its sprite ended by itself: {:?}", exit.reason),
        None => "its sprite was lost".to_owned(),
    };
    // A clock that was set back must not make anybody wait until it has caught up, and a pause is
    // one all the same.
    let since = over_since(last)?.min(now);
    Some((later(since, pause), why))
}

/// Whether nobody wanted its end. One that was to sleep, or ended for want of a server and of
/// work, has done nothing wrong.
fn ended_by_itself(sprite: &Sprite) -> bool {
    !is_stopping(sprite) && sprite.spec.running && !is_abandoned(sprite)
}

fn is_abandoned(sprite: &Sprite) -> bool {
    sprite.status.exit.as_ref().is_some_and(|exit| exit.reason == ExitReason::Abandoned)
}

/// Whether the last Sprite ended for want of a server and of work.
fn was_abandoned(sprites: &[Sprite], current: impl Fn(&Sprite) -> bool) -> bool {
    let last = sprites.last();
    last.is_some_and(|last| is_abandoned(last) && !is_stopping(last) && current(last))
}

fn lived_well(sprite: &Sprite) -> bool {
    match (sprite.status.hello_time, over_since(sprite)) {
        (Some(hello), Some(over)) => between(hello, over) >= GOOD_LIFE,
        _ => false,
    }
}
