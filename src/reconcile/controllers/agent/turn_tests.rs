//! What is decided for an Agent's turns, for its sleep and its budget, case by case and in general.

use std::time::Duration;

use proptest::prelude::*;
use sprite_reporter::wire::Order;

use super::{
    plan::Action,
    tests::{World, at},
    turns::{given, is_out},
};
use crate::{
    ambient::{between, later},
    reconcile::controllers::{attempt::is_over, words},
    resource::{AgentCli, Budget, ConditionStatus, ExitReason, FRESH_SESSION_AFTER, Span},
    store::{
        Turn,
        TurnState::{self, Cancelled, Failed, Interrupted, Queued, Running, Sent, Succeeded},
    },
};

impl World {
    /// A person says something.
    fn say(&mut self, id: &str) {
        let n = self.turns.len() as u64 + 1;
        self.turns.push(Turn { n, ..Turn::queued(id, "uid", format!("do {id}"), "ada", self.now) });
        self.settle();
    }

    fn turn(&mut self, id: &str) -> &mut Turn {
        self.turns.iter_mut().find(|turn| turn.id == id).expect("it is there")
    }

    fn states(&self) -> Vec<TurnState> {
        self.turns.iter().map(|turn| turn.state).collect()
    }

    /// The turn that is out is taken by its sprite.
    fn accept(&mut self) {
        let now = self.now;
        if let Some(turn) = self.turns.iter_mut().find(|turn| turn.state == Sent) {
            (turn.state, turn.started) = (Running, Some(now));
        }
        self.settle();
    }

    /// The turn that is out ends.
    fn end(&mut self, state: TurnState, micro_usd: u64) {
        let now = self.now;
        if let Some(turn) = self.turns.iter_mut().find(|turn| is_out(turn)) {
            (turn.state, turn.ended, turn.usage.cost_micro_usd) = (state, Some(now), micro_usd);
        }
        self.settle();
    }

    fn pass(&mut self, seconds: u64) {
        self.now = later(self.now, Duration::from_secs(seconds));
        self.settle();
    }

    fn message(&self, id: &str) -> &str {
        &self.turns.iter().find(|turn| turn.id == id).expect("it is there").message
    }
}

/// An Agent whose sprite takes turns.
fn ready() -> World {
    let mut world = World::new();
    world.ready("s1");
    world.settle();
    world
}

#[test]
fn turns_are_handed_out_in_order_and_one_at_a_time() {
    let mut world = ready();
    for id in ["a", "b", "c"] {
        world.say(id);
    }
    assert_eq!(world.states(), [Sent, Queued, Queued]);
    assert_eq!(world.phase(), "Busy");
    let counts = world.agent().status.turns;
    assert_eq!((counts.queued, counts.running, counts.done), (2, 1, 0));
    world.accept();
    world.end(Succeeded, 5);
    assert_eq!(world.states(), [Succeeded, Sent, Queued]);
    world.end(Failed, 7);
    world.end(Succeeded, 0);
    assert_eq!(world.states(), [Succeeded, Failed, Succeeded]);
    assert_eq!(world.phase(), "Idle");
    assert_eq!(world.agent().status.cost.micro_usd, 12);
    assert_eq!(world.orders.len(), 3);
}

#[test]
fn what_others_said_is_given_to_agents_that_read_and_to_no_shell() {
    let shell: AgentCli = serde_json::from_str(r#"{"command": {}}"#).expect("a shell");
    let reader: AgentCli = serde_json::from_str(r#"{"claude": {}}"#).expect("an agent");
    let said = Turn::queued("a", "uid", "do a", "ada", at(0));
    let said = Turn { context: "quotes\n\n".to_owned(), ..said };
    assert_eq!(given(&shell, &said), "do a");
    assert_eq!(given(&reader, &said), "quotes\n\ndo a");
}

#[test]
fn a_turn_carries_its_limits() {
    let mut world = ready();
    world.agent().spec.turn_timeout = Some(Span::from_secs(60));
    world.agent().spec.budget = Some(Budget { usd: Some(2.into()), turns: None });
    world.say("a");
    let [(_, Order::Turn { turn, text, timeout_ms, budget_micro_usd, .. })] = &world.orders[..]
    else {
        panic!("{:?}", world.orders)
    };
    assert_eq!((turn.as_str(), text.as_str()), ("a", "do a"));
    assert_eq!((*timeout_ms, *budget_micro_usd), (Some(60_000), Some(2_000_000)));
}

#[test]
fn nothing_is_handed_out_before_the_sprite_takes_turns_or_while_the_agent_works_by_itself() {
    let mut world = World::new();
    world.say("a");
    assert_eq!(world.states(), [Queued]);
    world.ready("s1");
    let sprite_uid = world.sprites[0].metadata.uid.clone();
    world.turns.push(Turn {
        n: 2,
        state: Running,
        origin: Some("agent".to_owned()),
        sprite_uid: Some(sprite_uid),
        run: 1,
        ..Turn::queued("own", "uid", "", "", at(1000))
    });
    world.settle();
    assert_eq!(world.states(), [Queued, Running]);
    world.end(Succeeded, 0);
    assert_eq!(world.states(), [Sent, Succeeded]);
}

#[test]
fn a_queued_turn_is_cancelled_at_once_and_one_that_is_out_by_an_order() {
    let mut world = ready();
    world.say("a");
    world.say("b");
    world.turn("b").cancelled_by = Some("bob".to_owned());
    world.settle();
    assert_eq!(world.states(), [Sent, Cancelled]);
    assert_eq!(world.message("b"), "cancelled by bob");
    world.turn("a").cancelled_by = Some("bob".to_owned());
    world.settle();
    world.accept();
    let cancels = world.orders.iter().filter(|(_, order)| matches!(order, Order::Cancel { .. }));
    assert_eq!(cancels.count(), 1, "told once, also after it was taken");
    world.end(Cancelled, 0);
    assert_eq!(world.states(), [Cancelled, Cancelled]);
}

#[test]
fn a_sprite_that_is_gone_gives_back_what_it_had_not_begun_and_interrupts_what_it_had() {
    let mut world = ready();
    world.say("a");
    world.over(ExitReason::ReporterLost, "");
    world.settle();
    assert_eq!(world.states(), [Queued]);
    world.pass(10);
    world.ready("s1");
    world.settle();
    world.accept();
    assert_eq!(world.states(), [Running]);
    world.over(ExitReason::ReporterLost, "");
    world.settle();
    assert_eq!(world.states(), [Interrupted]);
    assert_eq!(
        world.message("a"),
        "its sprite went away in the middle of it; /od-retry asks again"
    );
}

#[test]
fn a_turn_waits_while_something_that_its_sprite_said_may_be_on_its_way() {
    let mut world = ready();
    world.say("a");
    world.accept();
    let now = world.now;
    let sprite = world.live().expect("it lives");
    sprite.status.conditions.set(words::GONE, ConditionStatus::True, "Test", "", 1, now);
    world.settle();
    assert_eq!(world.states(), [Running], "gone, but not drained");
    world.end(Succeeded, 3);
    world.over(ExitReason::ReporterLost, "");
    world.settle();
    assert_eq!(world.states(), [Succeeded]);
}

#[test]
fn who_was_to_be_cancelled_is_cancelled_when_its_sprite_goes() {
    let mut world = ready();
    world.say("a");
    world.accept();
    world.turn("a").cancelled_by = Some("bob".to_owned());
    world.settle();
    world.over(ExitReason::Failed, "");
    world.settle();
    assert_eq!(world.states(), [Cancelled]);
}

#[test]
fn suspending_cancels_what_waits_at_once_and_what_runs_when_its_sprite_is_over() {
    let mut world = ready();
    world.say("a");
    world.say("b");
    world.accept();
    world.agent().spec.suspend = true;
    world.settle();
    assert_eq!(world.states(), [Running, Cancelled]);
    assert_eq!(world.message("b"), "the agent bot was stopped; /od-start bot goes on with it");
    world.over(ExitReason::Cancelled, "");
    assert_eq!(world.phase(), "Suspended");
    assert_eq!(world.states(), [Cancelled, Cancelled]);
}

#[test]
fn an_agent_that_is_deleted_goes_after_its_turns() {
    let mut world = ready();
    world.say("a");
    world.say("b");
    world.accept();
    world.agent().metadata.deletion_timestamp = Some(at(1000));
    world.settle();
    assert_eq!(world.states(), [Running, Cancelled]);
    world.over(ExitReason::Cancelled, "");
    world.settle();
    assert!(world.agent.is_none());
    assert_eq!(world.states(), [Cancelled, Cancelled]);
}

#[test]
fn a_changed_agent_gets_its_new_sprite_between_two_turns() {
    let mut world = ready();
    world.say("a");
    world.accept();
    world.agent().spec.instructions = Some("Be brief.".to_owned());
    world.say("b");
    assert_eq!((world.states(), world.sprites[0].spec.stop), (vec![Running, Queued], None));
    world.end(Succeeded, 0);
    assert_eq!(world.sprites[0].spec.stop, Some(ExitReason::Cancelled));
    assert_eq!(world.states(), [Succeeded, Queued], "not to the old one");
    world.over(ExitReason::Cancelled, "");
    world.settle();
    world.ready("s1");
    world.settle();
    assert_eq!(world.states(), [Succeeded, Sent]);
    assert_eq!(world.sprites[1].spec.session.as_deref(), Some("s1"));
}

#[test]
fn a_sleeping_sprite_is_replaced_at_once() {
    let mut world = ready();
    world.pass(15 * 60);
    world.asleep();
    world.agent().spec.instructions = Some("Be brief.".to_owned());
    world.settle();
    assert_eq!(world.sprites[0].spec.stop, Some(ExitReason::Cancelled));
}

#[test]
fn without_a_turn_it_sleeps_after_the_idle_time_and_the_next_turn_wakes_it() {
    let mut world = ready();
    world.pass(60);
    world.say("a");
    world.accept();
    world.pass(3600);
    assert!(world.sprites[0].spec.running, "not while a turn runs");
    world.end(Succeeded, 0);
    let again = world.plan().again.expect("it looks again");
    assert_eq!(between(world.now, again), Duration::from_secs(15 * 60));
    world.pass(15 * 60 - 1);
    assert!(world.sprites[0].spec.running);
    world.pass(1);
    assert!(!world.sprites[0].spec.running);
    assert_eq!(world.phase(), "Asleep");
    world.say("b");
    assert_eq!(world.sprites[0].spec.run, 1, "the first run has not ended yet");
    assert_eq!(world.states(), [Succeeded, Queued], "and is told nothing more");
    world.asleep();
    assert_eq!(world.phase(), "Pending");
    let spec = &world.sprites[0].spec;
    assert_eq!((spec.running, spec.run, spec.stop), (true, 2, None));
    world.ready("s1");
    world.settle();
    assert_eq!(world.turn("b").run, 2);
    assert_eq!(world.states(), [Succeeded, Sent]);
    assert_eq!(world.sprites.len(), 1);
}

#[test]
fn it_does_not_sleep_while_somebody_is_asked() {
    let mut world = ready();
    world.asks = true;
    world.pass(3600);
    assert!(world.sprites[0].spec.running);
    world.asks = false;
    world.settle();
    assert!(!world.sprites[0].spec.running);
}

#[test]
fn who_was_to_sleep_and_died_is_replaced_without_a_pause() {
    let mut world = ready();
    world.pass(3600);
    assert!(!world.sprites[0].spec.running);
    world.over(ExitReason::Completed, "asleep");
    world.settle();
    assert_eq!(world.sprites.len(), 2);
    assert_eq!(world.sprites[1].spec.session.as_deref(), Some("s1"));
}

#[test]
fn one_that_ended_for_want_of_a_server_is_replaced_when_a_turn_comes() {
    let mut world = ready();
    world.over(ExitReason::Abandoned, "no server for an hour");
    assert_eq!((world.phase().as_str(), world.sprites.len()), ("Asleep", 1));
    let ready = world.agent().status.conditions.get(words::READY).expect("told").clone();
    assert_eq!(ready.reason, words::ABANDONED);
    world.say("a");
    assert_eq!(world.sprites.len(), 2);
}

#[test]
fn an_agent_whose_slot_is_wanted_sleeps_as_soon_as_it_has_nothing_to_do() {
    let mut world = ready();
    world.say("a");
    world.accept();
    let wants = |world: &mut World| {
        let sprite = world.sprites.last_mut().expect("a sprite");
        let (status, now) = (ConditionStatus::True, world.now);
        sprite.status.conditions.set(words::SLOT_WANTED, status, "Test", "", 1, now);
        world.settle();
    };
    wants(&mut world);
    assert_eq!(world.phase(), "Busy", "what it is at goes on");
    world.say("b");
    world.end(Succeeded, 1);
    assert_eq!(world.states(), [Succeeded, Sent], "and what waits comes first");
    world.end(Succeeded, 1);
    assert_eq!(world.phase(), "Asleep");
    world.asleep();
    world.say("c");
    world.ready("s1");
    world.settle();
    assert_eq!(world.states(), [Succeeded, Succeeded, Sent], "a turn wakes it");
}

#[test]
fn a_spent_budget_keeps_turns_waiting_until_it_is_raised() {
    let mut world = ready();
    world.agent().spec.budget = Some(Budget { usd: Some(1.into()), turns: None });
    world.say("a");
    world.end(Succeeded, 1_000_000);
    world.say("b");
    assert_eq!((world.states(), world.phase()), (vec![Succeeded, Queued], "Idle".to_owned()));
    let spent = world.agent().status.conditions.get(words::BUDGET_SPENT).expect("told").clone();
    assert_eq!(
        spent.message,
        "the budget of $1 is spent; raise it with open-dispatch set bot budget.usd=2 (in chat: /od-set bot budget.usd=2)"
    );
    world.pass(3600);
    world.asleep();
    assert_eq!(world.phase(), "Asleep", "what may not begin wakes nobody");
    world.agent().spec.budget = Some(Budget { usd: Some(2.into()), turns: None });
    world.settle();
    assert_eq!(world.sprites[0].spec.run, 2);
    world.ready("s1");
    world.settle();
    assert_eq!(world.states(), [Succeeded, Sent]);
    assert_eq!(world.agent().status.conditions.get(words::BUDGET_SPENT), None);
}

impl World {
    /// The wall clock is set back by an hour, and the Sprites' controller hears of it.
    fn set_back(&mut self) {
        let hour = jiff::SignedDuration::from_hours(1);
        self.now = self.now.checked_sub(hour).expect("a time");
        for sprite in &mut self.sprites {
            sprite.status.conditions.not_after(self.now);
        }
        self.settle();
    }
}

#[test]
fn a_clock_that_is_set_back_disturbs_no_turn_and_loses_none() {
    let mut world = ready();
    world.say("a");
    world.accept();
    world.set_back();
    assert_eq!(world.states(), [Running]);
    world.say("b");
    assert_eq!((world.states(), world.phase()), (vec![Running, Queued], "Busy".to_owned()));
    world.end(Succeeded, 1);
    assert_eq!(world.states(), [Succeeded, Sent]);
    world.end(Succeeded, 1);
    assert_eq!(
        (world.states(), world.phase()),
        (vec![Succeeded, Succeeded], "Idle".to_owned()),
        "it stays warm, as after any turn"
    );
    world.pass(15 * 60);
    assert_eq!(world.phase(), "Asleep");
    world.asleep();
    world.set_back();
    assert_eq!(world.phase(), "Asleep");
    world.say("c");
    world.ready("s1");
    world.settle();
    assert_eq!(world.states(), [Succeeded, Succeeded, Sent], "a turn wakes it at once");
}

#[test]
fn one_that_is_idle_while_the_clock_is_set_back_does_not_wait_until_it_has_caught_up() {
    let mut world = ready();
    world.say("a");
    world.end(Succeeded, 1);
    world.now = at(900);
    world.settle();
    assert_eq!(world.phase(), "Idle", "a little earlier is no reason to sleep");
    assert_eq!(world.plan().again, Some(at(1000 + 15 * 60)));
    world.set_back();
    assert_eq!(world.phase(), "Asleep");
}

#[test]
fn a_clock_that_is_set_back_makes_a_pause_begin_anew_and_no_longer() {
    let mut world = ready();
    world.say("a");
    world.over(ExitReason::ReporterLost, "");
    world.over(ExitReason::Failed, "no such model");
    world.settle();
    let lives = |world: &World| world.sprites.iter().any(|it| !is_over(it));
    if lives(&world) {
        world.over(ExitReason::Failed, "no such model");
        world.settle();
    }
    assert!(!lives(&world), "it waits");
    // Before the Sprites' controller hears of it, too, it is a pause like any other.
    let wait = between(world.now, world.plan().again.expect("a time"));
    world.now = world.now.checked_sub(jiff::SignedDuration::from_hours(1)).expect("a time");
    assert_eq!(world.plan().again, Some(later(world.now, wait)));
    world.now = world.now.checked_add(jiff::SignedDuration::from_hours(1)).expect("a time");
    world.set_back();
    assert!(!lives(&world), "it waits");
    world.pass(wait.as_secs() + 1);
    assert!(lives(&world), "what is said of a time to come holds nobody up");
}

#[test]
fn who_waits_hears_it_when_the_agent_cannot_be_started() {
    let mut world = World::new();
    world.say("a");
    for failures in 1..=3 {
        world.over(ExitReason::StartFailed, "claude is not on the PATH");
        world.settle();
        let expected = if failures < 3 { Queued } else { Failed };
        assert_eq!(world.states(), [expected], "after {failures}");
        if failures < 3 {
            world.pass(300);
        }
    }
    assert_eq!(world.message("a"), "the agent cannot be started: claude is not on the PATH");
    world.pass(1);
    world.say("b");
    assert_eq!(world.states(), [Failed, Queued], "it gets a try of its own");
    world.pass(300);
    world.over(ExitReason::StartFailed, "claude is not on the PATH");
    world.settle();
    assert_eq!(world.states(), [Failed, Failed]);
}

#[test]
fn a_session_that_is_given_up_is_not_resumed_and_its_lost_sprite_not_waited_for() {
    let mut world = ready();
    world.say("a");
    world.accept();
    let now = world.now;
    let sprite = world.live().expect("it lives");
    let (unknown, yes) = (words::RUNTIME_UNKNOWN, ConditionStatus::True);
    sprite.status.conditions.set(words::STALLED, yes, unknown, "another node has it", 1, now);
    sprite.status.conditions.set(words::READY, ConditionStatus::False, "Test", "", 1, now);
    world.pass(7200);
    assert_eq!((world.states(), world.sprites.len()), (vec![Running], 1), "nothing starts");
    let fresh = (FRESH_SESSION_AFTER.to_owned(), "1".to_owned());
    world.agent().metadata.annotations.extend([fresh]);
    let plan = world.plan();
    world.apply_unchecked(plan.actions);
    assert_eq!(world.states(), [Interrupted]);
    let plan = world.plan();
    world.apply_unchecked(plan.actions);
    assert_eq!(world.sprites[0].spec.stop, Some(ExitReason::Cancelled), "should it come back");
    assert_eq!((world.sprites[1].spec.session.clone(), world.sprites[1].spec.attempt), (None, 2));
    assert_eq!(world.agent().status.session_id, None);
}

impl World {
    /// Does what is planned, also beside a sprite that was given up.
    fn apply_unchecked(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::CreateSprite(mut sprite, status) => {
                    sprite.metadata.uid.clone_from(&sprite.metadata.name);
                    self.sprites.push(*sprite);
                    self.agent().status = *status;
                }
                other => self.apply(other),
            }
        }
    }
}

/// What can happen to an Agent that is talked to.
#[derive(Debug, Clone)]
enum Fate {
    Say,
    Accept,
    End(TurnState),
    Cancel(u8),
    Ready,
    Asleep,
    Over(ExitReason),
    Suspend(bool),
    Instruct(u8),
    Spend(u64),
    Delete,
    Pass(u64),
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Say),
        6 => Just(Fate::Accept),
        6 => prop_oneof![Just(Succeeded), Just(Failed), Just(Cancelled)].prop_map(Fate::End),
        3 => any::<u8>().prop_map(Fate::Cancel),
        8 => Just(Fate::Ready),
        4 => Just(Fate::Asleep),
        3 => prop_oneof![
            Just(ExitReason::Failed),
            Just(ExitReason::StartFailed),
            Just(ExitReason::Abandoned),
            Just(ExitReason::ReporterLost),
            Just(ExitReason::Cancelled),
        ].prop_map(Fate::Over),
        2 => any::<bool>().prop_map(Fate::Suspend),
        2 => (0_u8..3).prop_map(Fate::Instruct),
        1 => (0_u64..20).prop_map(Fate::Spend),
        1 => Just(Fate::Delete),
        4 => (0_u64..2000).prop_map(Fate::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// `World::write` asserts that one turn is out at most and each order given once;
    /// `World::apply`, that no Sprite is made beside a live one; `World::settle`, that each plan
    /// leads to an empty one.
    #[test]
    fn whatever_happens_each_turn_has_one_end_and_they_are_handed_out_in_order(
        fates in proptest::collection::vec(fates(), 0..80),
    ) {
        let mut world = World::new();
        let mut ended: Vec<Turn> = Vec::new();
        for fate in fates {
            match fate {
                Fate::Say => {
                    let id = format!("t{}", world.turns.len());
                    if !world.agent().metadata.is_deleting() {
                        world.say(&id);
                    }
                }
                Fate::Accept => {
                    let lives = world.live().is_some_and(|live| live.status.ready);
                    if lives { world.accept() }
                }
                Fate::End(state) => {
                    let lives = world.live().is_some_and(|live| live.status.ready);
                    if lives { world.end(state, 1_000_000) }
                }
                Fate::Cancel(which) if !world.turns.is_empty() => {
                    let which = usize::from(which) % world.turns.len();
                    let turn = &mut world.turns[which];
                    if !turn.state.is_final() {
                        turn.cancelled_by.get_or_insert_with(|| "bob".to_owned());
                    }
                }
                Fate::Cancel(_) => {}
                Fate::Ready => {
                    if world.live().is_some_and(|live| live.status.slept < live.spec.run) {
                        world.ready("s");
                    }
                }
                Fate::Asleep => {
                    let out = world.turns.iter().any(is_out);
                    if !out && world.live().is_some_and(|live| !live.spec.running) {
                        world.asleep();
                    }
                }
                Fate::Over(reason) => world.over(reason, ""),
                Fate::Suspend(suspend) => world.agent().spec.suspend = suspend,
                Fate::Instruct(n) => world.agent().spec.instructions = Some(n.to_string()),
                Fate::Spend(usd) => {
                    world.agent().spec.budget = Some(Budget { usd: Some(usd.into()), turns: None });
                }
                Fate::Delete => {
                    let now = world.now;
                    world.agent().metadata.deletion_timestamp.get_or_insert(now);
                }
                Fate::Pass(seconds) => world.pass(seconds),
            }
            world.settle();
            for before in &ended {
                prop_assert_eq!(Some(before), world.turns.iter().find(|it| it.id == before.id));
            }
            ended = world.turns.iter().filter(|it| it.state.is_final()).cloned().collect();
            let out = world.turns.iter().find(|turn| is_out(turn)).map(|turn| turn.n);
            if let Some(out) = out {
                let overtaken = world.turns.iter().any(|it| it.n < out && it.state == Queued);
                prop_assert!(!overtaken, "turn {} was handed out too early", out);
            }
            if world.agent.is_none() {
                prop_assert_eq!(ended.len(), world.turns.len());
                break;
            }
        }
    }
}
