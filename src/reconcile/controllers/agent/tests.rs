//! What is decided for an Agent, case by case, and what holds in every case.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;
use sprite_reporter::wire::Order;

use super::plan::{Action, Plan, View, plan};
use crate::{
    ambient::later,
    reconcile::controllers::{attempt::is_over, words},
    resource::{
        Agent, AgentCli, AgentSpec, CommandCli, ConditionStatus, ExitReason, ExitStatus,
        FINALIZER_SPRITES, Permissions, RESTARTED_UP_TO, RuntimeSpec, Sprite,
    },
    store::{Op, Turn, TurnState, TurnSums},
};

pub(super) fn at(seconds: u64) -> Timestamp {
    later(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
}

fn agent() -> Agent {
    let spec = AgentSpec {
        agent: AgentCli::Command(CommandCli::default()),
        runtime: RuntimeSpec::default(),
        repo: None,
        channels: Vec::new(),
        instructions: None,
        permissions: Permissions::default(),
        env: Vec::new(),
        suspend: false,
        idle_timeout: None,
        turn_timeout: None,
        budget: None,
    };
    let mut agent = Agent::new("bot", spec);
    agent.metadata.uid = "uid".to_owned();
    agent.metadata.generation = 1;
    agent.metadata.finalizers = vec![FINALIZER_SPRITES.to_owned()];
    agent
}

/// A little world: an Agent, its Sprites, its turns, and a clock, moved by plans and by fate.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) agent: Option<Agent>,
    pub(super) sprites: Vec<Sprite>,
    pub(super) turns: Vec<Turn>,
    /// Each with the place that it stands at.
    pub(super) orders: Vec<(String, Order)>,
    pub(super) asks: bool,
    pub(super) now: Timestamp,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            agent: Some(agent()),
            sprites: Vec::new(),
            turns: Vec::new(),
            orders: Vec::new(),
            asks: false,
            now: at(1000),
        };
        world.settle();
        world
    }

    pub(super) fn plan(&self) -> Plan {
        let Some(agent) = &self.agent else { return Plan::default() };
        let open = self.turns.iter().filter(|turn| !turn.state.is_final()).cloned();
        let told = self.orders.iter().filter_map(|(_, order)| match order {
            Order::Cancel { turn, .. } => turn.clone(),
            _ => None,
        });
        plan(&View {
            agent,
            sprites: &self.sprites,
            open: &open.collect::<Vec<_>>(),
            sums: &self.sums(),
            told: &told.collect::<BTreeSet<_>>(),
            asks: self.asks,
            now: self.now,
        })
    }

    fn sums(&self) -> TurnSums {
        let mut sums = TurnSums::default();
        for turn in &self.turns {
            match turn.state {
                TurnState::Queued => sums.queued += 1,
                TurnState::Sent | TurnState::Running => sums.running += 1,
                _ => {
                    sums.done += 1;
                    sums.usage.cost_micro_usd += turn.usage.cost_micro_usd;
                }
            }
            // The newest turn's: as in the store, it is no later than when it was written.
            sums.last = Some(turn.created).max(turn.started).max(turn.ended);
        }
        sums
    }

    /// Commits ledger operations as the store would.
    fn write(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::MoveTurn { turn, from } => {
                    let held = self.turns.iter_mut().find(|held| held.id == turn.id);
                    let held = held.expect("a turn that is moved is there");
                    assert!(from.contains(&held.state), "{turn:?} has moved on");
                    *held = turn;
                }
                Op::Order { sprite_uid, key, order, .. } => {
                    let place = format!("{sprite_uid} {key}");
                    assert!(self.orders.iter().all(|(it, _)| *it != place), "{place} stands there");
                    self.orders.push((place, order));
                }
                other => panic!("{other:?} is no business of an Agent's queue"),
            }
        }
        assert!(self.turns.iter().filter(|turn| super::turns::is_out(turn)).count() <= 1);
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..10 {
            let plan = self.plan();
            if plan.actions.is_empty() {
                return;
            }
            for action in plan.actions {
                self.apply(action);
            }
        }
        panic!("the plan does not come to rest: {:?}", self.plan());
    }

    pub(super) fn apply(&mut self, action: Action) {
        let now = self.now;
        let Some(agent) = &mut self.agent else { panic!("an Agent that is gone has no plan") };
        match action {
            Action::AddFinalizer => agent.metadata.finalizers.push(FINALIZER_SPRITES.to_owned()),
            Action::CreateSprite(mut sprite, status) => {
                assert!(self.sprites.iter().all(is_over), "two live sprites");
                assert!(!agent.spec.suspend, "a suspended Agent has none");
                sprite.metadata.finalizers.clear();
                sprite.metadata.uid.clone_from(&sprite.metadata.name);
                self.sprites.push(*sprite);
                agent.status = *status;
            }
            Action::MoveTurns(ops) | Action::CancelTurns(ops) => self.write(ops),
            Action::SendTurn(ops, status) => {
                assert!(!agent.spec.suspend, "a suspended Agent is told nothing");
                agent.status = *status;
                self.write(ops);
            }
            Action::SleepSprite(told) | Action::WakeSprite(told) => {
                self.sprite(&told).spec = told.spec.clone();
            }
            Action::StopSprite(stopped) => self.sprite(&stopped).spec.stop = stopped.spec.stop,
            Action::DeleteSprite(deleted) => {
                if is_over(&deleted) {
                    self.sprites.retain(|it| it.metadata.name != deleted.metadata.name);
                } else {
                    self.sprite(&deleted).metadata.deletion_timestamp = Some(now);
                }
            }
            Action::WriteStatus(status) => agent.status = *status,
            Action::DropFinalizer => {
                assert!(self.sprites.is_empty(), "an Agent goes after its Sprites");
                let ended = self.turns.iter().all(|turn| turn.state.is_final());
                assert!(ended, "an Agent goes after its turns");
                self.agent = None;
            }
        }
    }

    fn sprite(&mut self, like: &Sprite) -> &mut Sprite {
        let name = &like.metadata.name;
        self.sprites.iter_mut().find(|it| it.metadata.name == *name).expect("it is there")
    }

    pub(super) fn live(&mut self) -> Option<&mut Sprite> {
        self.sprites.iter_mut().find(|sprite| !is_over(sprite))
    }

    pub(super) fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("the Agent is there")
    }

    /// The live Sprite says hello, has a session and takes turns.
    pub(super) fn ready(&mut self, session: &str) {
        let now = self.now;
        if let Some(sprite) = self.live() {
            sprite.status.hello_time.get_or_insert(now);
            sprite.status.session_id = Some(session.to_owned());
            (sprite.status.run, sprite.status.ready) = (sprite.spec.run, true);
            for word in [words::ADMITTED, words::READY] {
                sprite.status.conditions.set(word, ConditionStatus::True, "Test", "", 1, now);
            }
        }
    }

    /// The live Sprite ends its run in order to sleep.
    pub(super) fn asleep(&mut self) {
        let now = self.now;
        if let Some(sprite) = self.live() {
            (sprite.status.slept, sprite.status.ready) = (sprite.spec.run, false);
            let conditions = &mut sprite.status.conditions;
            conditions.set(words::ASLEEP, ConditionStatus::True, "Test", "", 1, now);
            conditions.set(words::READY, ConditionStatus::False, "Test", "", 1, now);
            conditions.set(words::ADMITTED, ConditionStatus::False, "Test", "", 1, now);
        }
    }

    /// The live Sprite ends.
    pub(super) fn over(&mut self, reason: ExitReason, message: &str) {
        let now = self.now;
        let Some(sprite) = self.live() else { return };
        let message = message.to_owned();
        sprite.status.exit = Some(ExitStatus { code: None, signal: None, reason, message });
        for word in [words::GONE, words::DRAINED] {
            sprite.status.conditions.set(word, ConditionStatus::True, "Test", "", 1, now);
        }
        self.sprites.retain(|sprite| !(is_over(sprite) && sprite.metadata.is_deleting()));
    }

    pub(super) fn phase(&mut self) -> String {
        self.settle();
        self.agent().status.phase.clone()
    }
}

#[test]
fn an_agent_is_idle_once_its_sprite_takes_turns() {
    let mut world = World::new();
    assert_eq!(world.phase(), "Pending");
    world.ready("s1");
    assert_eq!(world.phase(), "Idle");
    let status = &world.agent().status;
    assert_eq!(status.session_id.as_deref(), Some("s1"));
    assert!(status.conditions.is_true(words::READY));
}

#[test]
fn suspending_stops_the_sprite_and_resuming_carries_the_session_over() {
    let mut world = World::new();
    world.ready("s1");
    world.agent().spec.suspend = true;
    assert_eq!(world.phase(), "Suspended");
    assert_eq!(world.sprites[0].spec.stop, Some(ExitReason::Cancelled));
    assert_eq!(world.sprites.len(), 1);
    world.over(ExitReason::Cancelled, "");
    assert_eq!(world.phase(), "Suspended");
    world.agent().spec.suspend = false;
    world.settle();
    assert_eq!(world.sprites[1].spec.session.as_deref(), Some("s1"));
    assert_eq!(world.sprites[1].spec.attempt, 2);
}

#[test]
fn a_change_of_its_making_brings_a_new_sprite_once_the_old_one_is_over() {
    let mut world = World::new();
    world.ready("s1");
    world.agent().spec.instructions = Some("Be brief.".to_owned());
    world.settle();
    assert_eq!(world.sprites[0].spec.stop, Some(ExitReason::Cancelled));
    assert_eq!(world.sprites.len(), 1, "not beside the old one");
    world.over(ExitReason::Cancelled, "");
    world.settle();
    assert_eq!(world.sprites[1].spec.instructions.as_deref(), Some("Be brief."));
}

#[test]
fn a_restart_brings_one_new_sprite_with_the_session_once_no_turn_is_open() {
    let mut world = World::new();
    world.ready("s1");
    world.settle();
    let restart = (RESTARTED_UP_TO.to_owned(), "1".to_owned());
    world.agent().metadata.annotations.extend([restart]);
    world.settle();
    assert_eq!(world.sprites[0].spec.stop, Some(ExitReason::Cancelled));
    assert_eq!(world.sprites.len(), 1, "not beside the old one");
    world.over(ExitReason::Cancelled, "");
    world.settle();
    assert_eq!(world.sprites[1].spec.session.as_deref(), Some("s1"));
    world.ready("s1");
    assert_eq!(world.phase(), "Idle");
    assert_eq!(world.sprites[1].spec.stop, None, "the same request once more asks for nothing");
}

#[test]
fn what_is_no_part_of_a_sprite_leaves_it_alone() {
    let mut world = World::new();
    world.ready("s1");
    world.settle();
    world.agent().spec.turn_timeout = Some(crate::resource::Span::from_secs(60));
    world.agent().metadata.generation = 2;
    world.settle();
    assert_eq!(world.sprites[0].spec.stop, None);
    assert_eq!(world.agent().status.observed_generation, 2);
}

#[test]
fn a_sprite_that_ends_by_itself_is_replaced_after_a_pause_that_grows() {
    let mut world = World::new();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        world.ready("s1");
        world.over(ExitReason::Failed, "no such model");
        assert_eq!(world.phase(), "Failing");
        let stalled = world.agent().status.conditions.get(words::STALLED).expect("told").clone();
        let again = world.plan().again.expect("it waits");
        let at = again.strftime("%H:%M:%S");
        assert_eq!(stalled.message, format!("no such model; tried again at {at} UTC"));
        pauses.push(crate::ambient::between(world.now, again).as_secs());
        world.now = again;
        world.settle();
    }
    assert_eq!(pauses, [10, 20, 40, 80]);
}

#[test]
fn after_a_good_life_the_pauses_begin_anew_and_a_change_ends_them() {
    let mut world = World::new();
    world.ready("s1");
    world.now = later(world.now, Duration::from_secs(3600));
    world.over(ExitReason::Failed, "");
    world.settle();
    assert_eq!(world.sprites.len(), 2, "at once");
    world.ready("s1");
    world.over(ExitReason::Failed, "");
    world.settle();
    assert_eq!(world.sprites.len(), 2, "after a pause");
    world.agent().spec.instructions = Some("Another.".to_owned());
    world.settle();
    assert_eq!(world.sprites.len(), 3, "at once");
}

#[test]
fn old_sprites_are_forgotten_but_for_the_last_few() {
    let mut world = World::new();
    for n in 0..12 {
        world.ready("s1");
        world.agent().spec.instructions = Some(n.to_string());
        world.settle();
        world.over(ExitReason::Cancelled, "");
        world.settle();
    }
    assert_eq!(world.sprites.iter().filter(|sprite| is_over(sprite)).count(), 6);
}

#[test]
fn a_deleted_agent_goes_after_its_sprites() {
    let mut world = World::new();
    world.ready("s1");
    world.agent().metadata.deletion_timestamp = Some(at(1000));
    world.settle();
    assert!(world.agent.is_some());
    world.over(ExitReason::Cancelled, "");
    world.settle();
    assert!(world.agent.is_none());
}

/// What can happen to an Agent.
#[derive(Debug, Clone)]
enum Fate {
    Ready,
    Over(ExitReason),
    Suspend(bool),
    Instruct(u8),
    Delete,
    Pass(u64),
}

proptest! {
    /// `World::apply` asserts that no Sprite is made beside a live one; `World::settle`, that each
    /// plan leads to an empty one.
    #[test]
    fn whatever_happens_one_sprite_lives_at_most_and_the_plan_comes_to_rest(
        fates in proptest::collection::vec(
            prop_oneof![
                4 => Just(Fate::Ready),
                4 => Just(Fate::Over(ExitReason::Failed)),
                2 => Just(Fate::Over(ExitReason::Cancelled)),
                2 => any::<bool>().prop_map(Fate::Suspend),
                2 => (0_u8..3).prop_map(Fate::Instruct),
                1 => Just(Fate::Delete),
                4 => (0_u64..1000).prop_map(Fate::Pass),
            ],
            0..60,
        ),
    ) {
        let mut world = World::new();
        for fate in fates {
            match fate {
                Fate::Ready => world.ready("s"),
                Fate::Over(reason) => world.over(reason, ""),
                Fate::Suspend(suspend) => world.agent().spec.suspend = suspend,
                Fate::Instruct(n) => world.agent().spec.instructions = Some(n.to_string()),
                Fate::Delete => {
                    let now = world.now;
                    world.agent().metadata.deletion_timestamp.get_or_insert(now);
                }
                Fate::Pass(seconds) => world.now = later(world.now, Duration::from_secs(seconds)),
            }
            world.settle();
            if world.agent.is_none() {
                break;
            }
            let session = world.sprites.last().and_then(|last| last.status.session_id.clone());
            // Who is on its way out learns nothing more.
            if session.is_some() && !world.agent().metadata.is_deleting() {
                prop_assert_eq!(&world.agent().status.session_id, &session);
            }
        }
    }
}
