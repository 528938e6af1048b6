//! The turns of a run: which wait, which one is open, and what may be said of its end. Pure: told
//! what time it is, it says what is due.
//!
//! A turn is *accepted* when it comes, and *open* from the moment in which the server is known to hold
//! that. One is open at a time. Somebody, the clock or the budget may *cut* the open one; the
//! first cut is the reason, whatever the CLI makes of being interrupted. Each turn that was
//! accepted is ended once: by [`Turns::close`], [`Turns::withdraw`] or [`Turns::rest`].

use std::{collections::VecDeque, time::Duration};

use super::{
    clock::Countdown,
    words::{self, money},
};
use crate::wire::{Attachment, TurnOutcome, Usage};

/// A turn on its way in: taken over, and prompted once the server holds that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The turn.
    pub(super) turn: String,
    /// What the person said.
    pub(super) text: String,
    /// Files that came with it.
    pub(super) files: Vec<Attachment>,
    /// Its wall time.
    pub(super) time: Option<Duration>,
    /// What it may cost, in millionths of a US dollar.
    pub(super) budget: Option<u64>,
}

/// Why the open turn must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Somebody wants it to.
    Asked,
    /// Its time was over; it had this much.
    Time(Duration),
    /// It used what it might cost.
    Budget(u64),
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// In one word.
    pub(super) outcome: TurnOutcome,
    /// In one line, for people.
    pub(super) message: Option<String>,
    /// What it used.
    pub(super) usage: Usage,
}

impl End {
    /// An end that has nothing to tell.
    pub(super) fn plain(outcome: TurnOutcome) -> Self {
        Self { outcome, message: None, usage: Usage::default() }
    }
}

#[derive(Debug)]
struct Open {
    turn: String,
    clock: Option<(Duration, Countdown)>,
    budget: Option<u64>,
    used: Usage,
    cut: Option<Cut>,
}

impl Open {
    fn new(turn: String) -> Self {
        Self { turn, clock: None, budget: None, used: Usage::default(), cut: None }
    }

    /// What is to be said of its end, from what its driver, or nobody, said.
    fn judge(&self, end: &mut End) {
        let most = |told: &mut u64, known: u64| *told = known.max(*told);
        most(&mut end.usage.cost_micro_usd, self.used.cost_micro_usd);
        most(&mut end.usage.input_tokens, self.used.input_tokens);
        most(&mut end.usage.output_tokens, self.used.output_tokens);
        match self.cut {
            None => {}
            // It was faster than the word that it should end.
            Some(Cut::Asked) if end.outcome == TurnOutcome::Succeeded => {}
            Some(Cut::Asked) => end.outcome = TurnOutcome::Cancelled,
            Some(Cut::Time(time)) => {
                end.outcome = TurnOutcome::Failed;
                end.message = Some(format!("its time of {} was over", words::span(time)));
            }
            Some(Cut::Budget(budget)) => {
                end.outcome = TurnOutcome::Failed;
                // The agent's budget is the server's to know; to us, its earlier turns are.
                let left = money(budget);
                end.message = Some(format!("what was left of the budget, {left}, is spent"));
            }
        }
    }
}

/// The turns of a run.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Each with the number of the event that says so, once it is in the spool.
    waiting: VecDeque<(Accepted, Option<u64>)>,
    open: Option<Open>,
}

impl Turns {
    /// One more turn waits.
    pub(super) fn accept(&mut self, turn: Accepted) {
        self.waiting.push_back((turn, None));
    }

    /// That a turn was accepted has this number; the first one counts.
    pub(super) fn numbered(&mut self, turn: &str, seq: u64) {
        if let Some((_, number)) = self.waiting.iter_mut().find(|(it, _)| it.turn == turn) {
            number.get_or_insert(seq);
        }
    }

    /// Takes a turn back that waits; answers whether it did.
    pub(super) fn withdraw(&mut self, turn: &str) -> bool {
        let place = self.waiting.iter().position(|(it, _)| it.turn == turn);
        place.and_then(|place| self.waiting.remove(place)).is_some()
    }

    /// Opens the next turn, if none is open and the server holds that we took it.
    pub(super) fn next(&mut self, held: u64) -> Option<Accepted> {
        if self.open.is_some() {
            return None;
        }
        let (next, _) = self.waiting.pop_front_if(|(_, seq)| seq.is_some_and(|seq| seq <= held))?;
        self.open = Some(Open {
            clock: next.time.map(|time| (time, Countdown::new(time))),
            budget: next.budget,
            ..Open::new(next.turn.clone())
        });
        Some(next)
    }

    /// A turn began that nobody sent: a job's task, or one by the CLI's own will. It may cross a
    /// prompt; the person's turn stays the one that is open.
    pub(super) fn began(&mut self, turn: &str) {
        self.open.get_or_insert_with(|| Open::new(turn.to_owned()));
    }

    /// The turn that is open.
    pub(super) fn open(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.turn.as_str())
    }

    /// Whether no turn is open and none waits.
    pub(super) fn are_done(&self) -> bool {
        self.open.is_none() && self.waiting.is_empty()
    }

    /// Says why the open turn must end; answers whether nobody had said so before.
    pub(super) fn cut(&mut self, why: Cut) -> bool {
        match &mut self.open {
            Some(open) if open.cut.is_none() => {
                open.cut = Some(why);
                true
            }
            _ => false,
        }
    }

    /// What a turn has used so far. Answers a cut that is due by that.
    pub(super) fn uses(&mut self, turn: &str, usage: Usage) -> Option<Cut> {
        let open = self.open.as_mut().filter(|open| open.turn == turn)?;
        open.used = usage;
        let budget = open.budget.filter(|budget| usage.cost_micro_usd >= *budget)?;
        Some(Cut::Budget(budget))
    }

    /// Lets the open turn's clock run, or stand.
    pub(super) fn run(&mut self, now: Duration, runs: bool) {
        if let Some((_, clock)) = self.open.as_mut().and_then(|open| open.clock.as_mut()) {
            clock.run(now, runs);
        }
    }

    /// When the open turn's time is over, if nothing stops its clock.
    pub(super) fn due(&self) -> Option<Duration> {
        let open = self.open.as_ref().filter(|open| open.cut.is_none())?;
        open.clock.as_ref().and_then(|(_, clock)| clock.end())
    }

    /// The cut that is due by the clock.
    pub(super) fn late(&self, now: Duration) -> Option<Cut> {
        self.due().filter(|due| now >= *due)?;
        let (time, _) = self.open.as_ref()?.clock.as_ref()?;
        Some(Cut::Time(*time))
    }

    /// A turn has ended, and its driver says how: makes that what is to be said. Answers whether it
    /// was the one that was open.
    pub(super) fn close(&mut self, turn: &str, end: &mut End) -> bool {
        let Some(open) = self.open.take_if(|open| open.turn == turn) else { return false };
        open.judge(end);
        true
    }

    /// The run is over: the ends of all turns that had none, the open one's first.
    pub(super) fn rest(&mut self, end: &End) -> Vec<(String, End)> {
        let open = self.open.take().map(|open| {
            let mut end = end.clone();
            open.judge(&mut end);
            (open.turn, end)
        });
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        open.into_iter().chain(waiting.map(|(it, _)| (it.turn, end.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn turn(name: &str) -> Accepted {
        Accepted {
            turn: name.into(),
            text: String::new(),
            files: Vec::new(),
            time: None,
            budget: None,
        }
    }

    fn opened(turn: Accepted) -> Turns {
        let mut turns = Turns::default();
        let name = turn.turn.clone();
        turns.accept(turn);
        turns.numbered(&name, 1);
        turns.next(1).unwrap();
        turns
    }

    fn cost(micro_usd: u64) -> Usage {
        Usage { cost_micro_usd: micro_usd, ..Usage::default() }
    }

    #[test]
    fn a_turn_opens_once_the_server_holds_that_it_was_taken_and_no_other_is_open() {
        let mut turns = Turns::default();
        turns.accept(turn("a"));
        turns.accept(turn("b"));
        assert_eq!(turns.next(9), None, "it has no number yet");
        turns.numbered("a", 3);
        turns.numbered("b", 4);
        assert_eq!(turns.next(2), None);
        assert_eq!(turns.next(3).map(|it| it.turn).as_deref(), Some("a"));
        assert_eq!(turns.next(9), None, "another is open");
        assert!(turns.close("a", &mut End::plain(TurnOutcome::Succeeded)));
        assert_eq!(turns.next(9).map(|it| it.turn).as_deref(), Some("b"));
    }

    #[test]
    fn the_first_cut_is_the_reason_whatever_the_driver_says() {
        for (cut, said, outcome, message) in [
            (Cut::Asked, TurnOutcome::Failed, TurnOutcome::Cancelled, Some("exit code 130")),
            (Cut::Asked, TurnOutcome::Succeeded, TurnOutcome::Succeeded, Some("exit code 130")),
            (
                Cut::Time(s(1800)),
                TurnOutcome::Cancelled,
                TurnOutcome::Failed,
                Some("its time of 30m was over"),
            ),
            (
                Cut::Budget(5_000_000),
                TurnOutcome::Succeeded,
                TurnOutcome::Failed,
                Some("what was left of the budget, $5, is spent"),
            ),
        ] {
            let mut turns = opened(turn("a"));
            assert!(turns.cut(cut));
            assert!(!turns.cut(Cut::Asked), "it was cut before");
            let mut end = End { message: Some("exit code 130".into()), ..End::plain(said) };
            assert!(turns.close("a", &mut end));
            assert_eq!((end.outcome, end.message.as_deref()), (outcome, message));
        }
    }

    #[test]
    fn the_clock_of_a_turn_stands_while_a_person_is_asked() {
        let mut turns = opened(Accepted { time: Some(s(10)), ..turn("a") });
        turns.run(s(0), true);
        turns.run(s(4), false);
        assert_eq!((turns.due(), turns.late(s(1000))), (None, None));
        turns.run(s(1000), true);
        assert_eq!(turns.late(s(1005)), None);
        assert_eq!(turns.late(s(1006)), Some(Cut::Time(s(10))));
        assert!(turns.cut(Cut::Time(s(10))));
        assert_eq!(turns.due(), None, "it is over once");
    }

    #[test]
    fn a_budget_is_spent_by_what_the_open_turn_uses() {
        let mut turns = opened(Accepted { budget: Some(100), ..turn("a") });
        assert_eq!(turns.uses("b", cost(500)), None, "another turn's");
        assert_eq!(turns.uses("a", cost(99)), None);
        assert_eq!(turns.uses("a", cost(100)), Some(Cut::Budget(100)));
        turns.cut(Cut::Budget(100));
        // A driver whose CLI tells nothing at the end, or less.
        let mut end = End::plain(TurnOutcome::Failed);
        assert!(turns.close("a", &mut end));
        assert_eq!(end.usage, cost(100));
    }

    #[test]
    fn a_turn_that_the_cli_began_by_itself_never_takes_a_persons_place() {
        let mut turns = opened(turn("a"));
        turns.cut(Cut::Asked);
        turns.began("own");
        assert_eq!(turns.open(), Some("a"));
        let mut end = End::plain(TurnOutcome::Failed);
        assert!(!turns.close("own", &mut end));
        assert_eq!((turns.open(), end.outcome), (Some("a"), TurnOutcome::Failed));
    }

    #[derive(Debug, Clone)]
    enum Move {
        Accept,
        Hold,
        Withdraw(usize),
        Cut,
        Close(usize),
        Began,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            3 => Just(Move::Accept),
            3 => Just(Move::Hold),
            1 => (0..6_usize).prop_map(Move::Withdraw),
            1 => Just(Move::Cut),
            3 => (0..6_usize).prop_map(Move::Close),
            1 => Just(Move::Began),
        ];
        proptest::collection::vec(one, 0..40)
    }

    proptest! {
        #[test]
        fn every_turn_that_was_accepted_ends_once_and_they_open_in_order(moves in moves()) {
            let mut turns = Turns::default();
            let mut ends: BTreeMap<String, u32> = BTreeMap::new();
            let (mut accepted, mut own) = (0, 0);
            let mut opened = Vec::new();
            for step in moves {
                match step {
                    Move::Accept => {
                        let name = format!("t{accepted}");
                        turns.accept(turn(&name));
                        turns.numbered(&name, accepted);
                        ends.insert(name, 0);
                        accepted += 1;
                    }
                    Move::Hold => opened.extend(turns.next(accepted).map(|it| it.turn)),
                    Move::Withdraw(n) => {
                        let name = format!("t{n}");
                        if turns.withdraw(&name) {
                            *ends.get_mut(&name).unwrap() += 1;
                        }
                    }
                    Move::Cut => { turns.cut(Cut::Asked); }
                    Move::Close(n) => {
                        let name = format!("t{n}");
                        if turns.close(&name, &mut End::plain(TurnOutcome::Failed)) {
                            *ends.get_mut(&name).unwrap() += 1;
                        }
                        turns.close(&format!("own{own}"), &mut End::plain(TurnOutcome::Failed));
                    }
                    Move::Began => { own += 1; turns.began(&format!("own{own}")); }
                }
            }
            for (name, _) in turns.rest(&End::plain(TurnOutcome::Interrupted)) {
                if let Some(count) = ends.get_mut(&name) {
                    *count += 1;
                }
            }
            prop_assert!(turns.are_done());
            prop_assert!(ends.values().all(|count| *count == 1), "{ends:?}");
            let order: Vec<usize> =
                opened.iter().map(|name| name[1..].parse().unwrap()).collect();
            prop_assert!(order.is_sorted(), "{order:?}");
        }
    }
}
