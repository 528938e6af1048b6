//! Which key runs next: a plain data structure that knows no clock, no task and no store.
//!
//! A key is in one of five states, and in one place only:
//!
//! ```text
//!             wake                 take                 finish
//!   (absent) ──────► ready ───────────────► running ───────────────► (absent)
//!                      ▲                       │  ▲ wake: runs again │
//!                      │ due, or woken         │  └── dirty          │
//!                      └────── waiting ◄───────┴── after, failed ────┘
//! ```
//!
//! **When, never what.** [`Wake`] decides the moment. A user's wake runs at once and forgives
//! past failures. An observation is merged with what is pending, and never shortens a backoff:
//! so events cannot inflate a backoff (it grows by one per window, for there is one run per
//! window) and cannot turn it into a hot loop. A timer comes last.
//!
//! **Fair by construction.** Ready keys are first in, first out per class. Between classes the
//! head with the earliest *time of arrival plus patience of its class* goes first: a user
//! overtakes, but a timer that has waited for ten seconds overtakes newer users in turn.
//!
//! **Two kinds of waits.** A timer stands for a time of the wall, and is due sooner where the wall clock
//! leaps ([`Queue::hasten`]). A backoff, and a wait that somebody asked for, is a length, and stays.
//!
//! **Cost.** Keys live in a slab and are named by a number inside; a hash table of numbers, each
//! with half of its key's hash, finds the number. So the table grows, and most strangers are told
//! apart, without a look at the keys, which the processor's cache does not hold when there are
//! many. For the same reason times are eight bytes inside.
//! Moving a key leaves a stale entry behind, which is known by its stamp and skipped later;
//! when more than half of a list is stale, it is swept. So each operation is O(1), or O(log n)
//! where a timer is involved, amortised.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    hash::BuildHasher as _,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::Wake;

/// The first backoff is chosen below this length.
pub const BACKOFF_BASE: Duration = Duration::from_millis(500);
/// No backoff is longer.
pub const BACKOFF_CAP: Duration = Duration::from_secs(300);
/// No timer lies further in the future; a key that asks for more is looked at after this.
pub const FURTHEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// So many conflicts in a row are not counted as failures; the next one is.
pub const FREE_CONFLICTS: u8 = 16;

/// How long a ready key of a class lets keys of higher classes pass.
const fn patience(class: usize) -> Duration {
    match class {
        USER => Duration::ZERO,
        OBSERVATION => Duration::from_secs(1),
        _ => Duration::from_secs(10),
    }
}

const TIMER: usize = 0;
const OBSERVATION: usize = 1;
const USER: usize = 2;

const fn index(wake: Wake) -> usize {
    match wake {
        Wake::Timer => TIMER,
        Wake::Observation => OBSERVATION,
        Wake::User => USER,
    }
}

/// A running key, to be given back with [`Queue::finish`].
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u32);

/// A key that was taken to run.
#[derive(Debug)]
pub struct Run {
    /// Gives the key back.
    pub ticket: Ticket,
    /// The key.
    pub key: Arc<str>,
    /// Why it runs.
    pub wake: Wake,
    /// How often it failed in a row before this run.
    pub failures: u32,
    /// How long it was ready.
    pub waited: Duration,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well; nothing more until something changes.
    Done,
    /// Well; again after this time at the latest.
    After(Duration),
    /// It failed: again after a backoff.
    Failed,
    /// Somebody else wrote first: again at once. Not counted, within [`FREE_CONFLICTS`].
    Conflict,
    /// It was asked to wait for so long. Not counted.
    Hold(Duration),
}

/// What follows from a run's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How often the key has failed in a row.
    pub failures: u32,
    /// When the backoff ends, where there is one.
    pub not_before: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Waiting,
    Ready,
    Running,
}

#[derive(Debug)]
struct Slot {
    /// None only when free.
    key: Option<Arc<str>>,
    hash: Hash,
    state: State,
    /// Tells the one valid entry of a list or heap from stale ones.
    stamp: u32,
    /// Waiting: the class it will have when it is due. Otherwise its class.
    class: Wake,
    /// Waiting: only a user may shorten the wait.
    held: bool,
    /// Running: woken meanwhile, so it runs again.
    dirty: Option<Wake>,
    failures: u32,
    conflicts: u8,
    /// Waiting: when it is due. Ready: since when it is. Running: by how much the wall clock leapt
    /// meanwhile.
    at: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u32,
    stamp: u32,
    since: Nanos,
}

/// A time in nanoseconds: enough for five centuries, in half of a [`Duration`]'s size.
type Nanos = u64;

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Half of a key's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hash(u32);

impl Hash {
    /// The whole width again, as the table looks at both ends of a hash.
    fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// A key in the table.
#[derive(Debug, Clone, Copy)]
struct Named {
    id: u32,
    hash: Hash,
}

/// The ready keys of one class, with how many of the entries are not stale.
#[derive(Debug, Default)]
struct Lane {
    entries: VecDeque<Entry>,
    live: usize,
}

/// The queue of one controller. All times are lengths since one fixed point.
#[derive(Debug, Default)]
pub struct Queue {
    hasher: RandomState,
    ids: HashTable<Named>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    lanes: [Lane; 3],
    timers: BinaryHeap<Reverse<(Nanos, u32, u32)>>,
    waiting: usize,
    running: usize,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes a key. Several wakes before it runs are one; one while it runs makes it run again.
    pub fn wake(&mut self, key: &str, wake: Wake, now: Duration) {
        let hash = self.hash(key);
        let Some(id) = self.find(key, hash) else {
            let id = self.insert(key, hash, wake);
            self.make_ready(id, wake, now);
            return;
        };
        let slot = &mut self.slots[id as usize];
        match slot.state {
            State::Running => slot.dirty = slot.dirty.max(Some(wake)),
            State::Ready => {
                if wake == Wake::User {
                    slot.failures = 0;
                }
                if wake > slot.class {
                    let class = index(slot.class);
                    self.lanes[class].live -= 1;
                    self.make_ready(id, wake, now);
                }
            }
            State::Waiting => {
                if wake == Wake::User {
                    slot.failures = 0;
                } else if slot.held && slot.at > nanos(now) {
                    slot.class = slot.class.max(wake);
                    return;
                }
                let class = slot.class.max(wake);
                self.waiting -= 1;
                self.make_ready(id, class, now);
            }
            State::Free => {}
        }
    }

    /// Puts a key back into a backoff that was kept over a restart.
    pub fn restore(&mut self, key: &str, failures: u32, not_before: Duration, now: Duration) {
        let hash = self.hash(key);
        if self.find(key, hash).is_some() {
            return;
        }
        let id = self.insert(key, hash, Wake::Observation);
        self.slots[id as usize].failures = failures;
        self.make_wait(id, not_before.min(now.saturating_add(BACKOFF_CAP)), true);
    }

    /// Takes the key that should run now.
    pub fn take(&mut self, now: Duration) -> Option<Run> {
        self.ripen(now);
        for lane in &mut self.lanes {
            while let Some(head) = lane.entries.front() {
                let slot = &self.slots[head.id as usize];
                if slot.stamp == head.stamp {
                    break;
                }
                lane.entries.pop_front();
            }
        }
        let class = (0..self.lanes.len())
            .rev()
            .filter_map(|class| {
                let head = self.lanes[class].entries.front()?;
                Some((head.since.saturating_add(nanos(patience(class))), Reverse(class)))
            })
            .min()?
            .1
            .0;
        let lane = &mut self.lanes[class];
        let entry = lane.entries.pop_front()?;
        lane.live -= 1;
        self.running += 1;
        let slot = &mut self.slots[entry.id as usize];
        let key = slot.key.clone()?;
        slot.state = State::Running;
        slot.stamp = slot.stamp.wrapping_add(1);
        slot.dirty = None;
        slot.at = 0;
        Some(Run {
            ticket: Ticket(entry.id),
            key,
            wake: slot.class,
            failures: slot.failures,
            waited: Duration::from_nanos(nanos(now).saturating_sub(entry.since)),
        })
    }

    /// Ends a run. `chance`, in `0.0..1.0`, spreads the backoffs.
    pub fn finish(
        &mut self,
        ticket: Ticket,
        outcome: Outcome,
        now: Duration,
        chance: f64,
    ) -> Verdict {
        let Ticket(id) = ticket;
        self.running -= 1;
        let slot = &mut self.slots[id as usize];
        let outcome = match outcome {
            Outcome::Conflict if slot.conflicts >= FREE_CONFLICTS => Outcome::Failed,
            other => other,
        };
        slot.conflicts = if outcome == Outcome::Conflict { slot.conflicts + 1 } else { 0 };
        match outcome {
            Outcome::Done | Outcome::After(_) => slot.failures = 0,
            Outcome::Failed => slot.failures = slot.failures.saturating_add(1),
            Outcome::Conflict | Outcome::Hold(_) => {}
        }
        // Somebody asked while it ran: that counts more than how the run ended.
        if slot.dirty == Some(Wake::User) {
            slot.failures = 0;
            self.make_ready(id, Wake::User, now);
            return Verdict { failures: 0, not_before: None };
        }
        let failures = slot.failures;
        let leapt = Duration::from_nanos(slot.at);
        let again = slot.dirty.take();
        let mut not_before = None;
        match (outcome, again) {
            (Outcome::Conflict, again) => {
                let class = again.max(Some(slot.class)).unwrap_or(Wake::Observation);
                self.make_ready(id, class, now);
            }
            (Outcome::Failed, again) => {
                let due = now.saturating_add(backoff(failures, chance));
                slot.class = again.unwrap_or(Wake::Timer);
                not_before = Some(due);
                self.make_wait(id, due, true);
            }
            (Outcome::Hold(length), again) => {
                slot.class = again.unwrap_or(Wake::Timer);
                self.make_wait(id, now.saturating_add(length.min(FURTHEST)), true);
            }
            (_, Some(wake)) => self.make_ready(id, wake, now),
            (Outcome::After(Duration::ZERO), None) => self.make_ready(id, Wake::Observation, now),
            (Outcome::After(length), None) => {
                slot.class = Wake::Timer;
                // It may have looked at the wall before the leap.
                let length = length.min(FURTHEST).saturating_sub(leapt);
                self.make_wait(id, now.saturating_add(length), false);
            }
            (Outcome::Done, None) => self.remove(id),
        }
        Verdict { failures, not_before }
    }

    /// Moves what is due to the ready keys, and says how many keys that were.
    pub fn ripen(&mut self, now: Duration) -> usize {
        let mut moved = 0;
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(Reverse((_, id, _))) = self.timers.pop() else { return moved };
            let class = self.slots[id as usize].class;
            self.waiting -= 1;
            self.make_ready(id, class, now);
            moved += 1;
        }
        moved
    }

    /// The wall clock went further than was measured, by so much: timers are due so much sooner. Whoever
    /// waits for a length still does.
    pub fn hasten(&mut self, by: Duration) {
        for id in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            let slot = &mut self.slots[id as usize];
            match slot.state {
                State::Running => slot.at = slot.at.saturating_add(nanos(by)),
                State::Waiting if !slot.held => {
                    let due = Duration::from_nanos(slot.at).saturating_sub(by);
                    self.waiting -= 1;
                    self.make_wait(id, due, false);
                }
                State::Waiting | State::Ready | State::Free => {}
            }
        }
    }

    /// When the next waiting key is due, if one waits.
    pub fn next_due(&mut self) -> Option<Duration> {
        while let Some(Reverse((due, id, stamp))) = self.timers.peek() {
            let slot = &self.slots[*id as usize];
            if slot.stamp == *stamp && slot.state == State::Waiting {
                return Some(Duration::from_nanos(*due));
            }
            self.timers.pop();
        }
        None
    }

    /// Whether nothing runs, is ready or is due.
    pub fn is_quiet(&mut self, now: Duration) -> bool {
        self.running == 0
            && self.lanes.iter().all(|lane| lane.live == 0)
            && self.next_due().is_none_or(|due| due > now)
    }

    /// How many keys are ready.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.lanes.iter().map(|lane| lane.live).sum()
    }

    /// How many keys wait for a time.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many keys run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    fn hash(&self, key: &str) -> Hash {
        // Either half is as good: the hasher folds both ends of a product into one.
        Hash((self.hasher.hash_one(key) >> 32) as u32)
    }

    fn find(&self, key: &str, hash: Hash) -> Option<u32> {
        let is_it = |named: &Named| {
            named.hash == hash && self.slots[named.id as usize].key.as_deref() == Some(key)
        };
        self.ids.find(hash.spread(), is_it).map(|named| named.id)
    }

    fn insert(&mut self, key: &str, hash: Hash, class: Wake) -> u32 {
        let fresh = Slot {
            key: Some(Arc::from(key)),
            hash,
            state: State::Free,
            stamp: 0,
            class,
            held: false,
            dirty: None,
            failures: 0,
            conflicts: 0,
            at: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                let slot = &mut self.slots[id as usize];
                *slot = Slot { stamp: slot.stamp, ..fresh };
                id
            }
            None => {
                self.slots.push(fresh);
                // Four thousand million keys do not fit into memory.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.ids.insert_unique(hash.spread(), Named { id, hash }, |named| named.hash.spread());
        id
    }

    fn remove(&mut self, id: u32) {
        let slot = &mut self.slots[id as usize];
        slot.state = State::Free;
        slot.stamp = slot.stamp.wrapping_add(1);
        if let Ok(entry) = self.ids.find_entry(slot.hash.spread(), |named| named.id == id) {
            entry.remove();
        }
        slot.key = None;
        self.free.push(id);
    }

    fn make_ready(&mut self, id: u32, class: Wake, since: Duration) {
        let slot = &mut self.slots[id as usize];
        slot.state = State::Ready;
        slot.stamp = slot.stamp.wrapping_add(1);
        slot.class = class;
        slot.at = nanos(since);
        let entry = Entry { id, stamp: slot.stamp, since: slot.at };
        let lane = &mut self.lanes[index(class)];
        lane.entries.push_back(entry);
        lane.live += 1;
        if lane.entries.len() > 2 * lane.live + 64 {
            let slots = &self.slots;
            lane.entries.retain(|entry| slots[entry.id as usize].stamp == entry.stamp);
        }
    }

    fn make_wait(&mut self, id: u32, due: Duration, held: bool) {
        let slot = &mut self.slots[id as usize];
        slot.state = State::Waiting;
        slot.stamp = slot.stamp.wrapping_add(1);
        slot.held = held;
        slot.at = nanos(due);
        self.waiting += 1;
        self.timers.push(Reverse((slot.at, id, slot.stamp)));
        if self.timers.len() > 2 * self.waiting + 64 {
            let slots = &self.slots;
            self.timers.retain(|Reverse((_, id, stamp))| slots[*id as usize].stamp == *stamp);
        }
    }
}

/// How long a key waits after so many failures in a row: anything up to the base doubled each
/// time, but not above the cap ("full jitter").
fn backoff(failures: u32, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let ceiling = BACKOFF_BASE.saturating_mul(1 << doublings).min(BACKOFF_CAP);
    ceiling.mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn drain(queue: &mut Queue, now: Duration) -> Vec<String> {
        let mut keys = Vec::new();
        while let Some(run) = queue.take(now) {
            keys.push(run.key.to_string());
            queue.finish(run.ticket, Outcome::Done, now, 0.5);
        }
        keys
    }

    #[test]
    fn keys_of_one_class_run_in_the_order_of_their_wakes_and_once() {
        let mut queue = Queue::new();
        for key in ["a", "b", "a", "c", "b"] {
            queue.wake(key, Wake::Observation, s(0));
        }
        assert_eq!(drain(&mut queue, s(0)), ["a", "b", "c"]);
        assert!(queue.is_quiet(s(0)));
    }

    #[test]
    fn a_timer_is_due_sooner_by_what_the_wall_clock_leapt_and_a_backoff_is_not() {
        let mut queue = Queue::new();
        for key in ["timer", "backoff", "told", "runs"] {
            queue.wake(key, Wake::Observation, s(0));
        }
        let outcomes = [Outcome::After(s(1000)), Outcome::Failed, Outcome::Hold(s(900))];
        for outcome in outcomes {
            let ticket = queue.take(s(0)).unwrap().ticket;
            queue.finish(ticket, outcome, s(0), 0.99);
        }
        let runs = queue.take(s(0)).unwrap();
        queue.hasten(s(990));
        // It said how long to wait by a wall clock of before the leap.
        queue.finish(runs.ticket, Outcome::After(s(1010)), s(0), 0.5);
        assert_eq!(queue.waiting(), 4);
        assert_eq!(drain(&mut queue, s(1)), ["backoff"], "half a second at most");
        assert_eq!(drain(&mut queue, s(9)), Vec::<String>::new());
        assert_eq!(drain(&mut queue, s(10)), ["timer"]);
        assert_eq!(drain(&mut queue, s(20)), ["runs"]);
        assert_eq!(drain(&mut queue, s(899)), Vec::<String>::new());
        assert_eq!(drain(&mut queue, s(900)), ["told"]);
        // A leap is over for who was taken after it, and none reaches behind the beginning.
        queue.wake("timer", Wake::Observation, s(901));
        let ticket = queue.take(s(901)).unwrap().ticket;
        queue.finish(ticket, Outcome::After(s(5)), s(901), 0.5);
        assert_eq!(queue.next_due(), Some(s(906)));
        queue.hasten(s(1_000_000));
        assert_eq!(drain(&mut queue, s(901)), ["timer"]);
        assert!(queue.is_quiet(s(901)));
    }

    #[test]
    fn a_user_overtakes_observations_and_observations_overtake_timers() {
        let mut queue = Queue::new();
        queue.wake("timer", Wake::Timer, s(0));
        queue.wake("seen", Wake::Observation, s(0));
        queue.wake("asked", Wake::User, s(0));
        assert_eq!(drain(&mut queue, s(0)), ["asked", "seen", "timer"]);
    }

    #[test]
    fn a_timer_that_has_waited_long_enough_overtakes_newer_users() {
        let mut queue = Queue::new();
        queue.wake("timer", Wake::Timer, s(0));
        queue.wake("early", Wake::User, s(9));
        queue.wake("late", Wake::User, s(11));
        assert_eq!(drain(&mut queue, s(12)), ["early", "timer", "late"]);
    }

    #[test]
    fn a_key_never_runs_twice_at_a_time_and_runs_again_when_woken_meanwhile() {
        let mut queue = Queue::new();
        queue.wake("a", Wake::Observation, s(0));
        let run = queue.take(s(0)).expect("a is ready");
        queue.wake("a", Wake::User, s(0));
        assert!(queue.take(s(0)).is_none());
        queue.finish(run.ticket, Outcome::Done, s(0), 0.5);
        assert_eq!(drain(&mut queue, s(0)), ["a"]);
    }

    #[test]
    fn an_observation_does_not_shorten_a_backoff_and_does_not_inflate_it() {
        let mut queue = Queue::new();
        queue.wake("a", Wake::Observation, s(0));
        let run = queue.take(s(0)).expect("a is ready");
        let verdict = queue.finish(run.ticket, Outcome::Failed, s(0), 0.5);
        assert_eq!(verdict.failures, 1);
        let due = verdict.not_before.expect("a backs off");
        for _ in 0..100 {
            queue.wake("a", Wake::Observation, s(0));
            queue.wake("a", Wake::Timer, s(0));
            assert!(queue.take(s(0)).is_none());
        }
        let run = queue.take(due).expect("a is due");
        assert_eq!((run.failures, run.wake), (1, Wake::Observation));
    }

    #[test]
    fn a_user_ends_a_backoff_and_is_forgiven_the_failures() {
        let mut queue = Queue::new();
        queue.restore("a", 7, s(200), s(0));
        assert!(queue.take(s(0)).is_none());
        queue.wake("a", Wake::User, s(0));
        let run = queue.take(s(0)).expect("a was asked for");
        assert_eq!(run.failures, 0);
    }

    #[test]
    fn a_restored_backoff_is_waited_out_but_never_longer_than_the_cap() {
        let mut queue = Queue::new();
        queue.restore("a", 3, s(1_000_000), s(10));
        assert_eq!(queue.next_due(), Some(s(10) + BACKOFF_CAP));
    }

    #[test]
    fn conflicts_run_again_at_once_uncounted_until_there_are_too_many() {
        let mut queue = Queue::new();
        queue.wake("a", Wake::Observation, s(0));
        for _ in 0..FREE_CONFLICTS {
            let run = queue.take(s(0)).expect("a is ready");
            assert_eq!(queue.finish(run.ticket, Outcome::Conflict, s(0), 0.5).failures, 0);
        }
        let run = queue.take(s(0)).expect("a is ready");
        assert_eq!(queue.finish(run.ticket, Outcome::Conflict, s(0), 0.5).failures, 1);
        assert!(queue.take(s(0)).is_none());
    }

    #[test]
    fn far_future_timers_are_clamped() {
        let mut queue = Queue::new();
        queue.wake("a", Wake::Observation, s(0));
        let run = queue.take(s(0)).expect("a is ready");
        queue.finish(run.ticket, Outcome::After(Duration::MAX), s(5), 0.5);
        assert_eq!(queue.next_due(), Some(s(5) + FURTHEST));
    }

    #[test]
    fn backoffs_grow_up_to_the_cap_and_no_further() {
        assert!(backoff(1, 1.0) == BACKOFF_BASE);
        assert!(backoff(2, 1.0) == BACKOFF_BASE * 2);
        assert!(backoff(64, 1.0) == BACKOFF_CAP);
        assert!(backoff(u32::MAX, 0.0) == Duration::ZERO);
    }

    #[test]
    fn a_key_that_is_rescheduled_again_and_again_does_not_fill_the_memory() {
        let mut queue = Queue::new();
        for n in 0..10_000 {
            queue.wake("a", Wake::Timer, s(n));
            queue.wake("a", Wake::User, s(n));
            let run = queue.take(s(n)).expect("a is ready");
            queue.finish(run.ticket, Outcome::After(s(300)), s(n), 0.5);
        }
        assert!(queue.timers.len() < 200);
        assert!(queue.lanes.iter().all(|lane| lane.entries.len() < 200));
    }

    /// The same rules, said as simply as possible, over lists that are searched.
    #[derive(Default)]
    struct Model {
        keys: BTreeMap<u8, Kept>,
        arrivals: u64,
    }

    struct Kept {
        place: Placed,
        failures: u32,
        conflicts: u8,
    }

    #[derive(Clone, Copy)]
    enum Placed {
        Waiting { due: Duration, order: u64, class: Wake, held: bool },
        Ready { class: Wake, since: Duration, order: u64 },
        Running { class: Wake, dirty: Option<Wake> },
    }

    impl Model {
        fn order(&mut self) -> u64 {
            self.arrivals += 1;
            self.arrivals
        }

        fn wake(&mut self, key: u8, wake: Wake, now: Duration) {
            let order = self.order();
            let fresh = Placed::Ready { class: wake, since: now, order };
            let Some(kept) = self.keys.get_mut(&key) else {
                self.keys.insert(key, Kept { place: fresh, failures: 0, conflicts: 0 });
                return;
            };
            if wake == Wake::User && !matches!(kept.place, Placed::Running { .. }) {
                kept.failures = 0;
            }
            kept.place = match kept.place {
                Placed::Waiting { due, order, class, held }
                    if held && due > now && wake != Wake::User =>
                {
                    Placed::Waiting { due, order, class: class.max(wake), held }
                }
                Placed::Waiting { class, .. } => {
                    Placed::Ready { class: class.max(wake), since: now, order }
                }
                Placed::Ready { class, .. } if wake > class => fresh,
                Placed::Running { class, dirty } => {
                    Placed::Running { class, dirty: dirty.max(Some(wake)) }
                }
                ready => ready,
            };
        }

        fn ripen(&mut self, now: Duration) {
            let mut due: Vec<_> = self
                .keys
                .iter()
                .filter_map(|(key, kept)| match kept.place {
                    Placed::Waiting { due, class, .. } if due <= now => Some((due, *key, class)),
                    _ => None,
                })
                .collect();
            due.sort_by_key(|(due, key, _)| (*due, *key));
            for (_, key, class) in due {
                let order = self.order();
                if let Some(kept) = self.keys.get_mut(&key) {
                    kept.place = Placed::Ready { class, since: now, order };
                }
            }
        }

        fn take(&mut self, now: Duration) -> Option<(u8, Wake, u32)> {
            self.ripen(now);
            let (_, _, _, key, class) = self
                .keys
                .iter()
                .filter_map(|(key, kept)| match kept.place {
                    Placed::Ready { class, since, order } => {
                        Some((since + patience(index(class)), Reverse(class), order, *key, class))
                    }
                    _ => None,
                })
                .min_by_key(|(at, class, order, ..)| (*at, *class, *order))?;
            let kept = self.keys.get_mut(&key)?;
            kept.place = Placed::Running { class, dirty: None };
            Some((key, class, kept.failures))
        }

        fn finish(&mut self, key: u8, outcome: Outcome, now: Duration, chance: f64) {
            let order = self.order();
            let Some(kept) = self.keys.get_mut(&key) else { return };
            let Placed::Running { class, dirty } = kept.place else { return };
            let outcome = if outcome == Outcome::Conflict && kept.conflicts == FREE_CONFLICTS {
                Outcome::Failed
            } else {
                outcome
            };
            kept.conflicts = if outcome == Outcome::Conflict { kept.conflicts + 1 } else { 0 };
            if matches!(outcome, Outcome::Done | Outcome::After(_)) || dirty == Some(Wake::User) {
                kept.failures = 0;
            } else if outcome == Outcome::Failed {
                kept.failures += 1;
            }
            let ready = |class| Placed::Ready { class, since: now, order };
            let later = |due: Duration, held| Placed::Waiting {
                due: now + due,
                order,
                class: dirty.unwrap_or(Wake::Timer),
                held,
            };
            kept.place = match (outcome, dirty) {
                (_, Some(Wake::User)) => ready(Wake::User),
                (Outcome::Conflict, dirty) => ready(class.max(dirty.unwrap_or(class))),
                (Outcome::Failed, _) => later(backoff(kept.failures, chance), true),
                (Outcome::Hold(length), _) => later(length, true),
                (_, Some(dirty)) => ready(dirty),
                (Outcome::After(Duration::ZERO), None) => ready(Wake::Observation),
                (Outcome::After(length), None) => later(length, false),
                (Outcome::Done, None) => {
                    self.keys.remove(&key);
                    return;
                }
            };
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wake(u8, Wake),
        Take,
        Finish(usize, Outcome, f64),
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let wake = prop_oneof![Just(Wake::Timer), Just(Wake::Observation), Just(Wake::User)];
        let outcome = prop_oneof![
            3 => Just(Outcome::Done),
            2 => (0_u64..20_000).prop_map(|ms| Outcome::After(Duration::from_millis(ms))),
            3 => Just(Outcome::Failed),
            2 => Just(Outcome::Conflict),
            1 => (0_u64..20_000).prop_map(|ms| Outcome::Hold(Duration::from_millis(ms))),
        ];
        let step = prop_oneof![
            4 => (0_u8..12, wake).prop_map(|(key, wake)| Step::Wake(key, wake)),
            4 => Just(Step::Take),
            4 => (any::<usize>(), outcome, 0.0_f64..1.0)
                .prop_map(|(n, outcome, chance)| Step::Finish(n, outcome, chance)),
            2 => (0_u64..15_000).prop_map(Step::Pass),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn the_queue_does_what_the_model_does(steps in steps()) {
            let mut queue = Queue::new();
            let mut model = Model::default();
            let mut now = Duration::ZERO;
            let mut runs: Vec<(u8, Ticket)> = Vec::new();
            // Two keys that are due at the same instant may change places; make instants differ.
            for (tick, step) in steps.into_iter().enumerate() {
                now += Duration::from_nanos(1 + tick as u64);
                match step {
                    Step::Wake(key, wake) => {
                        queue.wake(&key.to_string(), wake, now);
                        model.wake(key, wake, now);
                    }
                    Step::Take => {
                        let run = queue.take(now);
                        let expected = model.take(now);
                        prop_assert_eq!(
                            run.as_ref().map(|run| {
                                (run.key.parse().expect("keys are numbers"), run.wake, run.failures)
                            }),
                            expected
                        );
                        if let (Some(run), Some((key, ..))) = (run, expected) {
                            prop_assert!(runs.iter().all(|(other, _)| *other != key));
                            runs.push((key, run.ticket));
                        }
                    }
                    Step::Finish(n, outcome, chance) if !runs.is_empty() => {
                        let (key, ticket) = runs.swap_remove(n % runs.len());
                        queue.finish(ticket, outcome, now, chance);
                        model.finish(key, outcome, now, chance);
                    }
                    Step::Finish(..) => {}
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                }
                prop_assert_eq!(queue.running(), runs.len());
                prop_assert_eq!(
                    queue.ready() + queue.waiting() + queue.running(),
                    model.keys.len()
                );
            }
        }
    }
}
