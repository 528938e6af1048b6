//! Who may live: each runtime has so many slots, and Sprites take them in the order of creation.
//!
//! One key per runtime and one run per key at a time, so that two Sprites never take the same
//! slot. A slot is taken from `Admitted=True` until `Gone=True`, or until the Sprite sleeps: then its
//! controller takes the slot back, and whoever wakes it lets it stand in line again. A Sprite that
//! somebody stopped before it had a slot needs none.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    hands::{Hands, write},
    words,
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{AnyObject, ConditionStatus, Kind, Sprite},
    runtime::Runtime,
    store::{Change, ChangeKind, Op, Part, Store},
};

/// No more Sprites are written in one transaction.
const AT_ONCE: usize = 200;

/// Gives the slots of runtimes to Sprites. Its keys are the runtimes' names.
pub struct AdmissionController {
    hands: Hands,
    runtimes: Vec<Arc<dyn Runtime>>,
}

impl AdmissionController {
    /// A controller over a store, for these runtimes.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, runtimes: Vec<Arc<dyn Runtime>>) -> Self {
        Self { hands: Hands { store, ambient }, runtimes }
    }
}

/// What is to be written about one runtime's Sprites.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    /// These get a slot.
    admit: Vec<Sprite>,
    /// These are told for the first time that they wait.
    wait: Vec<Sprite>,
}

fn has_slot(sprite: &Sprite) -> bool {
    sprite.status.conditions.is_true(words::ADMITTED)
}

fn is_gone(sprite: &Sprite) -> bool {
    sprite.status.conditions.is_true(words::GONE)
}

/// Decides who gets a slot of a runtime, among its Sprites in any order.
fn plan(sprites: &[Sprite], runtime: &str, capacity: usize, now: Timestamp) -> Plan {
    let taken = sprites.iter().filter(|sprite| has_slot(sprite) && !is_gone(sprite)).count();
    let mut line: Vec<&Sprite> = sprites
        .iter()
        .filter(|sprite| {
            !has_slot(sprite)
                && !is_gone(sprite)
                && sprite.spec.running
                && sprite.status.slept < sprite.spec.run
                && sprite.status.exit.is_none()
                && sprite.spec.stop.is_none()
                && !sprite.metadata.is_deleting()
                && !sprite.metadata.finalizers.is_empty()
        })
        .collect();
    line.sort_by_key(|sprite| (sprite.metadata.creation_timestamp, &sprite.metadata.uid));
    let mut plan = Plan::default();
    for (place, sprite) in line.into_iter().enumerate() {
        let mut sprite = sprite.clone();
        let generation = sprite.metadata.generation;
        let conditions = &mut sprite.status.conditions;
        if place < capacity.saturating_sub(taken) {
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
        let AnyObject::Sprite(sprite) = &change.object else { return Vec::new() };
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
        let plan = plan(&sprites, key, runtime.capacity(), self.hands.now());
        let status = |sprite: &Sprite| -> Op { write(sprite.clone(), Part::Status) };
        for some in plan.admit.chunks(AT_ONCE) {
            self.hands.commit("admission.admit", some.iter().map(status).collect()).await?;
        }
        for some in plan.wait.chunks(AT_ONCE) {
            self.hands.commit("admission.tell-to-wait", some.iter().map(status).collect()).await?;
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::resource::{AgentCli, CommandCli, ExitReason, FINALIZER_RUNTIME, SpriteSpec};

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
        let first = plan(&sprites, "local", 1, Timestamp::UNIX_EPOCH);
        assert_eq!(names(&first.admit), ["s1"]);
        assert_eq!(names(&first.wait), ["s2", "s3"]);
        let told: Vec<Sprite> = first.admit.into_iter().chain(first.wait).collect();
        assert_eq!(plan(&told, "local", 1, Timestamp::UNIX_EPOCH), Plan::default());
    }

    #[test]
    fn a_slot_is_free_again_once_its_sprite_is_gone() {
        let gone = with(with(sprite(1), words::ADMITTED), words::GONE);
        let plan = plan(&[gone, sprite(2)], "local", 1, Timestamp::UNIX_EPOCH);
        assert_eq!(names(&plan.admit), ["s2"]);
    }

    #[test]
    fn who_sleeps_needs_no_slot_and_who_wakes_stands_in_line() {
        let mut asleep = sprite(1);
        asleep.status.slept = 1;
        asleep.spec.running = false;
        let (status, now) = (ConditionStatus::False, Timestamp::UNIX_EPOCH);
        asleep.status.conditions.set(words::ADMITTED, status, words::ASLEEP, "", 1, now);
        let first = plan(&[asleep.clone(), sprite(2)], "local", 1, now);
        assert_eq!(names(&first.admit), ["s2"]);
        let holder = first.admit.into_iter().next().expect("s2");
        (asleep.spec.running, asleep.spec.run) = (true, 2);
        let second = plan(&[asleep, holder.clone()], "local", 1, now);
        assert_eq!((names(&second.admit), names(&second.wait)), (vec![], vec!["s1"]));
        let told: Vec<Sprite> = second.wait.into_iter().chain([holder]).collect();
        assert_eq!(plan(&told, "local", 1, now), Plan::default(), "told once");
    }

    #[test]
    fn who_was_stopped_before_it_had_a_slot_needs_none() {
        let mut stopped = sprite(1);
        stopped.spec.stop = Some(ExitReason::Cancelled);
        let plan = plan(&[stopped, sprite(2)], "local", 1, Timestamp::UNIX_EPOCH);
        assert_eq!(names(&plan.admit), ["s2"]);
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
            let plan = plan(&sprites, "local", capacity, Timestamp::UNIX_EPOCH);
            prop_assert!(before + plan.admit.len() <= capacity.max(before));
            prop_assert!(plan.wait.is_empty() || before + plan.admit.len() >= capacity);
        }
    }
}
