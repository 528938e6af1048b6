//! Who may live: each runtime has so many slots, and Sprites take them in the order of creation.
//!
//! One key per runtime and one run per key at a time, so that two Sprites never take the same
//! slot. A slot is taken from `Admitted=True` until `Gone=True`, or until the Sprite sleeps: then its
//! controller takes the slot back, and whoever wakes it lets it stand in line again. A Sprite that
//! somebody stopped before it had a slot needs none.
//!
//! Where somebody waits, agents that have nothing to do make room: the one that was idle for the
//! longest time is told that its slot is wanted, and its controller lets it sleep. So a machine
//! with few slots serves many agents, and a Job never waits for conversations that rest.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    attempt::takes_turns,
    hands::{Hands, write},
    words,
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{Agent, AnyObject, ConditionStatus, Kind, Sprite},
    runtime::Runtime,
    store::{Change, ChangeKind, Op, Part, Store},
};

/// No more Sprites are written in one transaction.
const AT_ONCE: usize = 200;
/// How soon it is looked again for a slot while somebody waits.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Gives the slots of runtimes to Sprites. Its keys are the runtimes' names.
pub struct AdmissionController {
    hands: Hands,
    runtimes: Vec<Arc<dyn Runtime>>,
    /// Whether somebody waited when it was looked last: then an agent that comes to rest matters.
    anybody_waits: AtomicBool,
}

impl AdmissionController {
    /// A controller over a store, for these runtimes.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, runtimes: Vec<Arc<dyn Runtime>>) -> Self {
        Self { hands: Hands { store, ambient }, runtimes, anybody_waits: AtomicBool::default() }
    }
}

/// What is to be written about one runtime's Sprites.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// These get a slot.
    admit: Vec<Sprite>,
    /// These are told for the first time that they wait.
    wait: Vec<Sprite>,
    /// These are told that somebody wants their slot, or that nobody does any more.
    yields: Vec<Sprite>,
    /// How many wait.
    waiting: usize,
}

/// Agents that have nothing to do, by uid, and since when.
type Idle = HashMap<String, Option<Timestamp>>;

fn has_slot(sprite: &Sprite) -> bool {
    sprite.status.conditions.is_true(words::ADMITTED)
}

fn is_gone(sprite: &Sprite) -> bool {
    sprite.status.conditions.is_true(words::GONE)
}

fn stands_in_line(sprite: &Sprite) -> bool {
    !has_slot(sprite)
        && !is_gone(sprite)
        && sprite.spec.running
        && sprite.status.slept < sprite.spec.run
        && sprite.status.exit.is_none()
        && sprite.spec.stop.is_none()
        && !sprite.metadata.is_deleting()
        && !sprite.metadata.finalizers.is_empty()
}

/// How many slots are free, and how many Sprites want one.
fn crowd(sprites: &[Sprite], capacity: usize) -> (usize, usize) {
    let taken = sprites.iter().filter(|sprite| has_slot(sprite) && !is_gone(sprite)).count();
    let line = sprites.iter().filter(|sprite| stands_in_line(sprite)).count();
    (capacity.saturating_sub(taken), line)
}

/// Who is to make room for so many others. `idle` holds every agent that has nothing to do.
fn yields(sprites: &[Sprite], idle: &Idle, waiting: usize, now: Timestamp) -> Vec<Sprite> {
    let is_wanted = |sprite: &Sprite| sprite.status.conditions.is_true(words::SLOT_WANTED);
    let holders = sprites.iter().filter(|sprite| has_slot(sprite) && !is_gone(sprite));
    let (leaving, staying): (Vec<&Sprite>, Vec<&Sprite>) =
        holders.partition(|sprite| !takes_turns(sprite) && !sprite.spec.running);
    let mut resting: Vec<(&Sprite, Option<Timestamp>)> = staying
        .into_iter()
        .filter_map(|sprite| {
            let since = idle.get(&sprite.metadata.controller()?.uid)?;
            takes_turns(sprite).then_some((sprite, *since))
        })
        .collect();
    resting.sort_by_key(|(sprite, since)| (*since, &sprite.metadata.uid));
    let needed = waiting.saturating_sub(leaving.len());
    let chosen: HashSet<&str> =
        resting.iter().take(needed).map(|(sprite, _)| sprite.metadata.uid.as_str()).collect();
    let change = sprites.iter().filter(|sprite| {
        has_slot(sprite)
            && !is_gone(sprite)
            && is_wanted(sprite) != chosen.contains(sprite.metadata.uid.as_str())
            && (takes_turns(sprite) || !is_wanted(sprite))
    });
    change
        .map(|sprite| {
            let mut sprite = sprite.clone();
            let generation = sprite.metadata.generation;
            let conditions = &mut sprite.status.conditions;
            if chosen.contains(sprite.metadata.uid.as_str()) {
                let (status, reason) = (ConditionStatus::True, words::WAITING);
                let message = "its agent has nothing to do, and others wait for a slot";
                conditions.set(words::SLOT_WANTED, status, reason, message, generation, now);
            } else {
                conditions.remove(words::SLOT_WANTED);
            }
            sprite
        })
        .collect()
}

/// Decides who gets a slot of a runtime, among its Sprites in any order.
fn plan(sprites: &[Sprite], idle: &Idle, runtime: &str, capacity: usize, now: Timestamp) -> Plan {
    let (free, all) = crowd(sprites, capacity);
    let mut line: Vec<&Sprite> = sprites.iter().filter(|sprite| stands_in_line(sprite)).collect();
    line.sort_by_key(|sprite| (sprite.metadata.creation_timestamp, &sprite.metadata.uid));
    let waiting = all.saturating_sub(free);
    let yields = yields(sprites, idle, waiting, now);
    let mut plan = Plan { yields, waiting, ..Plan::default() };
    for (place, sprite) in line.into_iter().enumerate() {
        let mut sprite = sprite.clone();
        let generation = sprite.metadata.generation;
        let conditions = &mut sprite.status.conditions;
        if place < free {
            let (status, reason) = (ConditionStatus::True, words::ADMITTED_REASON);
            conditions.set(words::ADMITTED, status, reason, "", generation, now);
            plan.admit.push(sprite);
        } else if conditions.get(words::ADMITTED).is_none_or(|it| it.reason != words::WAITING) {
            // The same for all that wait, so that one who leaves the line moves no other's status.
            let message = format!("all {capacity} slots of the runtime {runtime} are taken");
            let (status, reason) = (ConditionStatus::False, words::WAITING);
            conditions.set(words::ADMITTED, status, reason, message, generation, now);
            sprite.status.phase = "Waiting".to_owned();
            plan.wait.push(sprite);
        }
    }
    plan
}

#[async_trait]
impl Controller for AdmissionController {
    fn name(&self) -> &'static str {
        "admission"
    }

    fn workers(&self) -> usize {
        self.runtimes.len().max(1)
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        let sprite = match &change.object {
            AnyObject::Sprite(sprite) => sprite,
            AnyObject::Agent(agent)
                if rests(agent) && self.anybody_waits.load(Ordering::Relaxed) =>
            {
                return self.runtimes.iter().map(key_of).collect();
            }
            _ => return Vec::new(),
        };
        let moves_the_line = change.kind != ChangeKind::Modified
            || change.desired
            || !has_slot(sprite)
            || is_gone(sprite);
        let runtime = sprite.spec.runtime.name();
        let ours = self.runtimes.iter().any(|ours| ours.name() == runtime);
        if moves_the_line && ours {
            vec![(runtime.to_owned(), Wake::Observation)]
        } else {
            Vec::new()
        }
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let names: HashSet<&str> = self.runtimes.iter().map(|runtime| runtime.name()).collect();
        Ok(names.into_iter().map(|name| (name.to_owned(), Wake::Observation)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let Some(runtime) = self.runtimes.iter().find(|runtime| runtime.name() == key) else {
            return Ok(Next::Done);
        };
        let mut sprites: Vec<Sprite> = self
            .hands
            .all(Kind::Sprite)
            .await?
            .into_iter()
            .filter_map(AnyObject::into_sprite)
            .collect();
        sprites.retain(|sprite| sprite.spec.runtime.name() == key);
        let capacity = runtime.capacity();
        let (free, line) = crowd(&sprites, capacity);
        let idle = if line > free { self.idle().await? } else { Idle::default() };
        let plan = plan(&sprites, &idle, key, capacity, self.hands.now());
        self.anybody_waits.store(plan.waiting > 0, Ordering::Relaxed);
        let status = |sprite: &Sprite| -> Op { write(sprite.clone(), Part::Status) };
        for some in plan.admit.chunks(AT_ONCE) {
            self.hands.commit("admission.admit", some.iter().map(status).collect()).await?;
        }
        for some in plan.wait.chunks(AT_ONCE) {
            self.hands.commit("admission.tell-to-wait", some.iter().map(status).collect()).await?;
        }
        for some in plan.yields.chunks(AT_ONCE) {
            self.hands.commit("admission.want-slot", some.iter().map(status).collect()).await?;
        }
        Ok(if plan.waiting > 0 { Next::After(LOOK_AGAIN) } else { Next::Done })
    }
}

impl AdmissionController {
    /// The agents that have nothing to do.
    async fn idle(&self) -> Result<Idle, Error> {
        let agents = self.hands.all(Kind::Agent).await?;
        let agents = agents.into_iter().filter_map(AnyObject::into_agent);
        Ok(agents
            .filter(rests)
            .map(|agent| (agent.metadata.uid, agent.status.last_activity_time))
            .collect())
    }
}

fn key_of(runtime: &Arc<dyn Runtime>) -> (String, Wake) {
    (runtime.name().to_owned(), Wake::Observation)
}

/// Whether an agent has nothing to do. Its own controller makes sure before it lets it sleep.
fn rests(agent: &Agent) -> bool {
    agent.status.turns.queued == 0 && agent.status.turns.running == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::{
        AgentCli, CommandCli, ExitReason, FINALIZER_RUNTIME, OwnerReference, SpriteSpec,
    };

    fn sprite(n: i64) -> Sprite {
        let spec = SpriteSpec {
            agent: AgentCli::Command(CommandCli::default()),
            runtime: crate::resource::RuntimeSpec::default(),
            task: None,
            repo: None,
            instructions: None,
            permissions: crate::resource::Permissions::default(),
            env: Vec::new(),
            timeout: None,
            idle_timeout: None,
            session: None,
            attempt: 1,
            running: true,
            run: 1,
            stop: None,
        };
        let mut sprite = Sprite::new(format!("s{n}"), spec);
        sprite.metadata.uid = format!("uid-{n:03}");
        sprite.metadata.creation_timestamp = Timestamp::from_second(n).ok();
        sprite.metadata.finalizers = vec![FINALIZER_RUNTIME.to_owned()];
        sprite
    }

    fn with(mut sprite: Sprite, condition: &str) -> Sprite {
        let now = Timestamp::UNIX_EPOCH;
        sprite.status.conditions.set(condition, ConditionStatus::True, "Test", "", 1, now);
        sprite
    }

    fn names(sprites: &[Sprite]) -> Vec<&str> {
        sprites.iter().map(|sprite| sprite.metadata.name.as_str()).collect()
    }

    #[test]
    fn slots_go_in_the_order_of_creation_and_the_rest_is_told_once() {
        let sprites = [sprite(3), sprite(1), sprite(2)];
        let first = plan(&sprites, &Idle::default(), "local", 1, Timestamp::UNIX_EPOCH);
        assert_eq!(names(&first.admit), ["s1"]);
        assert_eq!(names(&first.wait), ["s2", "s3"]);
        let told: Vec<Sprite> = first.admit.into_iter().chain(first.wait).collect();
        let again = plan(&told, &Idle::default(), "local", 1, Timestamp::UNIX_EPOCH);
        assert_eq!(again, Plan { waiting: 2, ..Plan::default() });
    }

    #[test]
    fn a_slot_is_free_again_once_its_sprite_is_gone() {
        let gone = with(with(sprite(1), words::ADMITTED), words::GONE);
        let plan = plan(&[gone, sprite(2)], &Idle::default(), "local", 1, Timestamp::UNIX_EPOCH);
        assert_eq!(names(&plan.admit), ["s2"]);
    }

    #[test]
    fn who_sleeps_needs_no_slot_and_who_wakes_stands_in_line() {
        let mut asleep = sprite(1);
        asleep.status.slept = 1;
        asleep.spec.running = false;
        let (status, now) = (ConditionStatus::False, Timestamp::UNIX_EPOCH);
        asleep.status.conditions.set(words::ADMITTED, status, words::ASLEEP, "", 1, now);
        let first = plan(&[asleep.clone(), sprite(2)], &Idle::default(), "local", 1, now);
        assert_eq!(names(&first.admit), ["s2"]);
        let holder = first.admit.into_iter().next().expect("s2");
        (asleep.spec.running, asleep.spec.run) = (true, 2);
        let second = plan(&[asleep, holder.clone()], &Idle::default(), "local", 1, now);
        assert_eq!((names(&second.admit), names(&second.wait)), (vec![], vec!["s1"]));
        let told: Vec<Sprite> = second.wait.into_iter().chain([holder]).collect();
        let again = plan(&told, &Idle::default(), "local", 1, now);
        assert_eq!(again, Plan { waiting: 1, ..Plan::default() }, "told once");
    }

    #[test]
    fn who_was_stopped_before_it_had_a_slot_needs_none() {
        let mut stopped = sprite(1);
        stopped.spec.stop = Some(ExitReason::Cancelled);
        let plan = plan(&[stopped, sprite(2)], &Idle::default(), "local", 1, Timestamp::UNIX_EPOCH);
        assert_eq!(names(&plan.admit), ["s2"]);
    }

    fn of_agent(n: i64) -> Sprite {
        let mut sprite = with(with(sprite(n), words::ADMITTED), words::READY);
        (sprite.status.ready, sprite.status.run) = (true, 1);
        sprite.metadata.owner_references = vec![OwnerReference {
            api_version: String::new(),
            kind: Kind::Agent,
            name: format!("a{n}"),
            uid: format!("agent-{n}"),
            controller: true,
        }];
        sprite
    }

    fn wanted(sprites: &[Sprite]) -> Vec<&str> {
        let is_wanted = |it: &&Sprite| it.status.conditions.is_true(words::SLOT_WANTED);
        sprites.iter().filter(is_wanted).map(|it| it.metadata.name.as_str()).collect()
    }

    #[test]
    fn whoever_rested_longest_makes_room_for_who_waits_and_for_nobody_else() {
        let now = Timestamp::UNIX_EPOCH;
        let since = |second| Some(Timestamp::from_second(second).expect("a time"));
        let idle = |of: &[(i64, i64)]| -> Idle {
            of.iter().map(|(n, at)| (format!("agent-{n}"), since(*at))).collect()
        };
        let holders = [of_agent(1), of_agent(2), of_agent(3)];
        // The first is busy; of the others the third has rested longer.
        let resting = idle(&[(2, 20), (3, 10)]);
        let quiet = plan(&holders, &resting, "local", 3, now);
        assert_eq!(quiet, Plan::default(), "nobody waits");
        let all: Vec<Sprite> = holders.iter().cloned().chain([sprite(9)]).collect();
        let first = plan(&all, &resting, "local", 3, now);
        assert_eq!((wanted(&first.yields), first.waiting), (vec!["s3"], 1));
        // While it falls asleep, no other is asked.
        let mut third = first.yields[0].clone();
        let told = [of_agent(1), of_agent(2), third.clone(), first.wait[0].clone()];
        assert_eq!(plan(&told, &resting, "local", 3, now).yields, []);
        third.spec.running = false;
        let told = [of_agent(1), of_agent(2), third.clone(), first.wait[0].clone()];
        assert_eq!(plan(&told, &idle(&[(2, 20)]), "local", 3, now).yields, []);
        // It got something to do, or nobody waits any more.
        third.spec.running = true;
        let told = [of_agent(1), of_agent(2), third.clone(), first.wait[0].clone()];
        let second = plan(&told, &idle(&[(2, 20)]), "local", 3, now);
        assert_eq!((names(&second.yields), wanted(&second.yields)), (vec!["s2", "s3"], vec!["s2"]));
        let told = [of_agent(1), of_agent(2), third];
        let third = plan(&told, &Idle::default(), "local", 3, now);
        assert_eq!((names(&third.yields), wanted(&third.yields).len()), (vec!["s3"], 0));
    }

    proptest! {
        #[test]
        fn no_more_live_than_there_are_slots_and_nobody_waits_beside_a_free_one(
            states in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..20),
            capacity in 0_usize..10,
        ) {
            let sprites: Vec<Sprite> = states
                .iter()
                .enumerate()
                .map(|(n, (admitted, gone))| {
                    let fresh = sprite(i64::try_from(n).expect("small"));
                    let fresh = if *admitted { with(fresh, words::ADMITTED) } else { fresh };
                    if *gone { with(fresh, words::GONE) } else { fresh }
                })
                .collect();
            let before = sprites.iter().filter(|it| has_slot(it) && !is_gone(it)).count();
            let plan = plan(&sprites, &Idle::default(), "local", capacity, Timestamp::UNIX_EPOCH);
            prop_assert!(before + plan.admit.len() <= capacity.max(before));
            prop_assert!(plan.wait.is_empty() || before + plan.admit.len() >= capacity);
        }
    }
}
