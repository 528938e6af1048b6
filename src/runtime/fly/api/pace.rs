//! Who may call, and when. Pure: time is handed in.
//!
//! Fly counts calls by their kind and by the id of what they act on: one in a second, three at
//! once; five and ten for showing a machine (its page on rate limits). Creating acts on the app,
//! so an app gets about one new machine in a second, and whoever asks faster is answered with 429.
//!
//! Each kind and id has a **lane** here, with a bucket and a queue, first come first served. Our
//! burst is one below Fly's: calls that leave a second apart can arrive closer together, and the
//! spare one is for that. A 429 empties the bucket for as long as Fly says, or longer each time
//! where it says nothing. What a process before this one asked is not known here, and Fly has not
//! forgotten it: a bucket holds one token when this process begins, and fills from there.
//!
//! Across the lanes there are [`PLACES`] calls at once for the whole account. When they are taken,
//! the heads of the lanes compete: stopping and destroying before starting and reading before
//! creating. What waits gains on what comes later ([`handicap`]), so that nobody starves; and
//! [`RESERVED`] places are for stopping and destroying alone, so that slow creates never keep a
//! machine from being switched off.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::action::Action;

/// So many calls at once, for all lanes together.
const PLACES: usize = 16;
/// So many of them are for stopping and destroying alone.
const RESERVED: usize = 4;
/// The longest wait that is waited out after a 429.
const LONGEST_PENALTY: Duration = Duration::from_secs(600);
/// The longest wait after a 429 that says nothing.
const LONGEST_GUESS: Duration = Duration::from_secs(60);
/// How many idle lanes are kept before they are cleared away.
const LANES: usize = 1024;

/// What is counted together.
pub(super) type Key = (Action, String);
/// One call that waits or runs.
pub(super) type Ticket = u64;

/// How many calls of one kind may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    /// The time between two.
    period: Duration,
    /// So many at once.
    burst: u32,
}

/// Fly's limit for a kind of call, less the spare one.
fn limit(action: Action) -> Limit {
    match action {
        Action::Get => Limit { period: Duration::from_millis(200), burst: 9 },
        _ => Limit { period: Duration::from_secs(1), burst: 2 },
    }
}

/// How much later a call counts as having come, when it competes with calls of other lanes.
fn handicap(action: Action) -> Duration {
    Duration::from_secs(match action {
        Action::Stop | Action::Destroy | Action::DestroyVolume => 0,
        Action::Create | Action::CreateVolume => 20,
        _ => 10,
    })
}

fn is_urgent(action: Action) -> bool {
    matches!(action, Action::Stop | Action::Destroy | Action::DestroyVolume)
}

/// A kind of call on one thing: its bucket, and who waits.
///
/// The bucket is kept as one time (the "theoretical arrival time" of GCRA): each call moves it
/// ahead by a period, and a call may go while it lies no more than `burst - 1` periods ahead of now.
#[derive(Debug, Default)]
struct Lane {
    full_at: Duration,
    refusals: u32,
    waiting: VecDeque<(Ticket, Duration)>,
}

impl Lane {
    /// When there is a token for the call with so many before it, if those go in time.
    fn token_at(&self, before: usize, limit: Limit, now: Duration) -> Duration {
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        match before.checked_sub(limit.burst - 1) {
            Some(late) => self.full_at.max(now) + limit.period.saturating_mul(late),
            None => now.max(self.full_at.saturating_sub(limit.period * (limit.burst - 1 - before))),
        }
    }
}

/// All lanes, and the places.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when it is known what is asked; nothing: there was nobody before.
    since: Option<Duration>,
    lanes: HashMap<Key, Lane>,
    /// The lanes in which somebody waits.
    busy: HashSet<Key>,
    /// The calls that wait.
    waiting: HashMap<Ticket, Key>,
    /// The calls that run, or may.
    running: HashMap<Ticket, Key>,
    last: Ticket,
}

impl Pace {
    /// A pace that begins now, after somebody of whom nothing is known.
    pub(super) fn since(now: Duration) -> Self {
        Self { since: Some(now), ..Self::default() }
    }

    /// A lane in which nobody has called yet.
    fn fresh(&self, key: &Key) -> Lane {
        let Limit { period, burst } = limit(key.0);
        let full_at = self.since.map_or(Duration::ZERO, |since| since + period * (burst - 1));
        Lane { full_at, ..Lane::default() }
    }

    /// Queues a call.
    pub(super) fn queue(&mut self, key: Key, now: Duration) -> Ticket {
        if self.lanes.len() >= LANES && !self.lanes.contains_key(&key) {
            self.lanes.retain(|_, lane| !lane.waiting.is_empty() || lane.full_at > now);
        }
        self.last += 1;
        let fresh = self.fresh(&key);
        self.lanes.entry(key.clone()).or_insert(fresh).waiting.push_back((self.last, now));
        self.waiting.insert(self.last, key.clone());
        self.busy.insert(key);
        self.last
    }

    /// Lets go whoever may, in order; answers with their tickets.
    pub(super) fn admit(&mut self, now: Duration) -> Vec<Ticket> {
        let mut admitted = Vec::new();
        while let Some(key) = self.next(now) {
            let Some(lane) = self.lanes.get_mut(&key) else { break };
            let Some((ticket, _)) = lane.waiting.pop_front() else { break };
            lane.full_at = lane.full_at.max(now) + limit(key.0).period;
            if lane.waiting.is_empty() {
                self.busy.remove(&key);
            }
            self.waiting.remove(&ticket);
            self.running.insert(ticket, key);
            admitted.push(ticket);
        }
        admitted
    }

    /// The lane whose head is to go next.
    fn next(&self, now: Duration) -> Option<Key> {
        if self.running.len() >= PLACES {
            return None;
        }
        let ordinary = self.running.values().filter(|key| !is_urgent(key.0)).count();
        let heads = self.busy.iter().filter_map(|key| {
            let lane = self.lanes.get(key)?;
            let (ticket, since) = lane.waiting.front()?;
            let has_place = is_urgent(key.0) || ordinary < PLACES - RESERVED;
            let has_token = lane.token_at(0, limit(key.0), now) <= now;
            (has_place && has_token).then(|| (*since + handicap(key.0), *ticket, key))
        });
        heads.min_by_key(|(since, ticket, _)| (*since, *ticket)).map(|(_, _, key)| key.clone())
    }

    /// When there is a token for a call that waits, if all before it in its lane go in time. None
    /// for one that waits no more.
    pub(super) fn due(&self, ticket: Ticket, now: Duration) -> Option<Duration> {
        let key = self.waiting.get(&ticket)?;
        let lane = self.lanes.get(key)?;
        let before = lane.waiting.iter().position(|(it, _)| *it == ticket)?;
        Some(lane.token_at(before, limit(key.0), now))
    }

    /// How long a call that came now would wait for its token.
    pub(super) fn backlog(&self, key: &Key, now: Duration) -> Duration {
        let backlog =
            |lane: &Lane| lane.token_at(lane.waiting.len(), limit(key.0), now).saturating_sub(now);
        self.lanes.get(key).map_or_else(|| backlog(&self.fresh(key)), backlog)
    }

    /// A call is over, its token is spent.
    pub(super) fn done(&mut self, ticket: Ticket) {
        self.running.remove(&ticket);
    }

    /// A call was given up before it was made: its token goes back.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        if let Some(key) = self.running.remove(&ticket)
            && let Some(lane) = self.lanes.get_mut(&key)
        {
            lane.full_at = lane.full_at.saturating_sub(limit(key.0).period);
        }
        if let Some(key) = self.waiting.remove(&ticket)
            && let Some(lane) = self.lanes.get_mut(&key)
        {
            lane.waiting.retain(|(it, _)| *it != ticket);
            if lane.waiting.is_empty() {
                self.busy.remove(&key);
            }
        }
    }

    /// Fly says that a call was too much. `chance` in `0.0..1.0` spreads those who wait alike.
    /// Answers with how long its lane is shut.
    pub(super) fn refused(
        &mut self,
        key: &Key,
        after: Option<Duration>,
        chance: f64,
        now: Duration,
    ) -> Duration {
        let Limit { period, burst } = limit(key.0);
        let fresh = self.fresh(key);
        let lane = self.lanes.entry(key.clone()).or_insert(fresh);
        let guess = (period * 2_u32.saturating_pow(lane.refusals.min(16))).min(LONGEST_GUESS);
        lane.refusals = lane.refusals.saturating_add(1);
        let wait = after.unwrap_or(guess).clamp(period, LONGEST_PENALTY) + period.mul_f64(chance);
        lane.full_at = lane.full_at.max(now + wait + period * (burst - 1));
        wait
    }

    /// Fly took a call of this kind.
    pub(super) fn taken(&mut self, key: &Key) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.refusals = 0;
        }
    }
}

#[cfg(test)]
mod tests;
