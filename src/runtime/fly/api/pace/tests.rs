use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn key(action: Action, id: &str) -> Key {
    (action, id.to_owned())
}

/// Fly's own figures: the burst and the period. The code under test has its own.
fn published(action: Action) -> (usize, Duration) {
    match action {
        Action::Get => (10, ms(200)),
        _ => (3, SECOND),
    }
}

/// One call of a made-up day.
#[derive(Debug, Clone)]
struct Caller {
    key: Key,
    comes: Duration,
    takes: Duration,
    /// When it is given up: so long after it came, whether it waits or was just let go.
    leaves: Option<Duration>,
    is_refused: bool,
}

fn caller() -> impl Strategy<Value = Caller> {
    let action = prop::sample::select(vec![
        Action::List,
        Action::Get,
        Action::Create,
        Action::Start,
        Action::Stop,
        Action::Destroy,
    ]);
    (
        action,
        0..4_u8,
        0..20_000_u64,
        0..8_000_u64,
        prop::option::weighted(0.2, 0..5_000_u64),
        0..40_u8,
    )
        .prop_map(|(action, id, comes, takes, leaves, refused)| Caller {
            key: match action {
                Action::List | Action::Create => key(action, "app"),
                _ => key(action, &format!("m{id}")),
            },
            comes: ms(comes),
            takes: ms(takes),
            leaves: leaves.map(ms),
            is_refused: refused == 0,
        })
}

/// What came of a day: when each call was made, by what is counted together.
#[derive(Default)]
struct Day {
    made: BTreeMap<Key, Vec<Duration>>,
    unserved: usize,
    most_running: usize,
    most_ordinary: usize,
}

/// Lives the day, from event to event.
fn live(callers: &[Caller]) -> Day {
    let mut pace = Pace::default();
    let mut day = Day::default();
    let mut coming: Vec<&Caller> = callers.iter().collect();
    coming.sort_by_key(|caller| std::cmp::Reverse(caller.comes));
    let mut here: HashMap<Ticket, &Caller> = HashMap::new();
    let mut running: BTreeMap<Ticket, (Duration, &Caller)> = BTreeMap::new();
    let mut now = Duration::ZERO;
    loop {
        while coming.last().is_some_and(|caller| caller.comes <= now) {
            let Some(caller) = coming.pop() else { break };
            here.insert(pace.queue(caller.key.clone(), now), caller);
        }
        let over: Vec<Ticket> =
            running.iter().filter(|(_, (end, _))| *end <= now).map(|(ticket, _)| *ticket).collect();
        for ticket in over {
            let (_, caller) = running.remove(&ticket).unwrap();
            match caller.is_refused {
                true => {
                    pace.refused(&caller.key, None, 0.5, now);
                }
                false => pace.taken(&caller.key),
            }
            pace.done(ticket);
        }
        let left: Vec<Ticket> = here
            .iter()
            .filter(|(_, caller)| caller.leaves.is_some_and(|after| caller.comes + after <= now))
            .map(|(ticket, _)| *ticket)
            .collect();
        for ticket in left {
            here.remove(&ticket);
            pace.give_up(ticket);
        }
        for ticket in pace.admit(now) {
            let caller = here.remove(&ticket).unwrap();
            // Given up between being let go and making the call.
            if caller.leaves.is_some_and(|after| after.as_millis() % 3 == 0) {
                pace.give_up(ticket);
                continue;
            }
            day.made.entry(caller.key.clone()).or_default().push(now);
            running.insert(ticket, (now + caller.takes, caller));
        }
        day.most_running = day.most_running.max(running.len());
        let ordinary = running.values().filter(|(_, caller)| !is_urgent(caller.key.0)).count();
        day.most_ordinary = day.most_ordinary.max(ordinary);
        let next = coming
            .last()
            .map(|caller| caller.comes)
            .into_iter()
            .chain(running.values().map(|(end, _)| *end))
            .chain(here.values().filter_map(|caller| Some(caller.comes + caller.leaves?)))
            .chain(here.keys().filter_map(|ticket| pace.due(*ticket, now)))
            .filter(|at| *at > now)
            .min();
        // A millisecond more for what was given back within this instant.
        match next {
            Some(next) => now = next,
            None if !pace.admit(now).is_empty() => unreachable!("a token was free for nobody"),
            None => break,
        }
    }
    day.unserved = here.len();
    day
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_window_ever_holds_more_calls_than_fly_publishes(
        callers in prop::collection::vec(caller(), 1..150),
    ) {
        let day = live(&callers);
        for (key, made) in &day.made {
            let (burst, period) = published(key.0);
            for (first, from) in made.iter().enumerate() {
                for (last, to) in made.iter().enumerate().skip(first) {
                    let refilled = (to.as_millis() - from.as_millis()) / period.as_millis();
                    prop_assert!(
                        last - first < burst + usize::try_from(refilled).unwrap(),
                        "{key:?}: {} calls from {from:?} to {to:?}", last - first + 1,
                    );
                }
            }
        }
        prop_assert!(day.most_running <= PLACES);
        prop_assert!(day.most_ordinary <= PLACES - RESERVED);
    }

    #[test]
    fn nobody_waits_for_ever_whoever_else_leaves(
        callers in prop::collection::vec(caller(), 1..150),
    ) {
        prop_assert_eq!(live(&callers).unserved, 0);
    }
}

#[test]
fn a_hundred_creates_take_as_long_as_the_limit_says_and_no_longer() {
    let create = |_| Caller {
        key: key(Action::Create, "app"),
        comes: Duration::ZERO,
        takes: ms(1_500),
        leaves: None,
        is_refused: false,
    };
    let day = live(&(0..100).map(create).collect::<Vec<_>>());
    let made = &day.made[&key(Action::Create, "app")];
    assert_eq!(made.len(), 100);
    assert_eq!(made.last(), Some(&Duration::from_secs(98)));
}

#[test]
fn a_call_that_is_given_up_costs_nobody_a_token() {
    let mut pace = Pace::default();
    let app = key(Action::Create, "app");
    let tickets: Vec<Ticket> = (0..6).map(|_| pace.queue(app.clone(), Duration::ZERO)).collect();
    assert_eq!(pace.admit(Duration::ZERO), tickets[..2]);
    // One that was let go and not made, and one that waits.
    pace.give_up(tickets[1]);
    pace.give_up(tickets[2]);
    assert_eq!(pace.admit(Duration::ZERO), [tickets[3]]);
    assert_eq!(pace.due(tickets[4], Duration::ZERO), Some(SECOND));
    assert_eq!(pace.due(tickets[5], Duration::ZERO), Some(2 * SECOND));
    // One that was made is spent.
    pace.done(tickets[3]);
    assert_eq!(pace.admit(ms(999)), [0; 0]);
    assert_eq!(pace.admit(SECOND), [tickets[4]]);
}

#[test]
fn when_places_are_taken_stops_go_before_starts_and_starts_before_creates() {
    let mut pace = Pace::default();
    // Slow reads have all the places that they may have, and stops the rest.
    let reads: Vec<Ticket> =
        (0..12).map(|n| pace.queue(key(Action::Events, &format!("r{n}")), ms(0))).collect();
    for n in 0..4 {
        pace.queue(key(Action::Stop, &format!("s{n}")), ms(0));
    }
    assert_eq!(pace.admit(ms(0)).len(), 16);
    let create = pace.queue(key(Action::Create, "app"), ms(1));
    let start = pace.queue(key(Action::Start, "a"), ms(2));
    let destroy = pace.queue(key(Action::Destroy, "b"), ms(3));
    assert_eq!(pace.admit(ms(4)), [0; 0]);
    let mut over = reads[0];
    for expected in [destroy, start, create] {
        pace.done(over);
        assert_eq!(pace.admit(ms(5)), [expected]);
        over = expected;
    }
}

#[test]
fn slow_creates_never_keep_a_machine_from_being_stopped() {
    let mut pace = Pace::default();
    for n in 0..40 {
        pace.queue(key(Action::Create, &format!("app{n}")), ms(0));
    }
    assert_eq!(pace.admit(ms(0)).len(), PLACES - RESERVED);
    let stop = pace.queue(key(Action::Stop, "m"), ms(1));
    assert_eq!(pace.admit(ms(1)), [stop]);
}

#[test]
fn a_create_goes_in_time_however_many_starts_come_after_it() {
    let mut pace = Pace::default();
    // All ordinary places are taken before it comes, and one is free again every 10 ms; and a start
    // comes every 10 ms, which would go before it each time.
    for n in 0..12 {
        pace.queue(key(Action::Events, &format!("e{n}")), ms(0));
    }
    let mut running = VecDeque::from(pace.admit(ms(0)));
    let create = pace.queue(key(Action::Create, "app"), ms(0));
    let went = (1_u64..3_000).map(|n| ms(n * 10)).find(|now| {
        pace.queue(key(Action::Start, &format!("{now:?}")), *now);
        pace.done(running.pop_front().unwrap());
        let admitted = pace.admit(*now);
        running.extend(&admitted);
        admitted.contains(&create)
    });
    assert_eq!(went, Some(ms(10_000)));
}

#[test]
fn a_refusal_empties_the_bucket_for_as_long_as_fly_says() {
    let mut pace = Pace::default();
    let app = key(Action::Create, "app");
    assert_eq!(pace.refused(&app, Some(7 * SECOND), 0.0, SECOND), 7 * SECOND);
    let tickets: Vec<Ticket> = (0..3).map(|_| pace.queue(app.clone(), SECOND)).collect();
    assert_eq!(pace.admit(ms(7_999)), [0; 0]);
    assert_eq!(pace.due(tickets[0], SECOND), Some(8 * SECOND));
    // Then one by one, without a burst.
    assert_eq!(pace.admit(8 * SECOND), [tickets[0]]);
    assert_eq!(pace.admit(ms(8_999)), [0; 0]);
    assert_eq!(pace.admit(9 * SECOND), [tickets[1]]);
    // What nobody would believe is not waited out.
    let wait = pace.refused(&app, Some(Duration::from_secs(1 << 40)), 0.0, 9 * SECOND);
    assert_eq!(wait, LONGEST_PENALTY);
    // Other lanes are not meant.
    assert_eq!(pace.backlog(&key(Action::Create, "other"), 9 * SECOND), Duration::ZERO);
}

#[test]
fn refusals_without_a_word_wait_twice_as_long_each_time_until_one_is_taken() {
    let mut pace = Pace::default();
    let app = key(Action::Create, "app");
    let refuse = |pace: &mut Pace| pace.refused(&app, None, 0.0, Duration::ZERO).as_secs();
    assert_eq!([(); 8].map(|()| refuse(&mut pace)), [1, 2, 4, 8, 16, 32, 60, 60]);
    pace.taken(&app);
    assert_eq!(refuse(&mut pace), 1);
}

#[test]
fn lanes_that_nobody_uses_are_forgotten() {
    let mut pace = Pace::default();
    for n in 0_u64..5_000 {
        let now = Duration::from_secs(n);
        let ticket = pace.queue(key(Action::Get, &format!("m{n}")), now);
        assert_eq!(pace.admit(now), [ticket]);
        pace.done(ticket);
    }
    assert!(pace.lanes.len() <= LANES, "{}", pace.lanes.len());
}

/// When a process that lives from one time to another, and always has more to ask, makes its calls.
fn saturated(lane: &Key, from: Duration, until: Duration) -> Vec<Duration> {
    let mut pace = Pace::since(from);
    let (mut now, mut made) = (from, Vec::new());
    loop {
        let ticket = pace.queue(lane.clone(), now);
        now = now.max(pace.due(ticket, now).unwrap());
        if now >= until {
            return made;
        }
        assert_eq!(pace.admit(now), [ticket]);
        pace.done(ticket);
        made.push(now);
    }
}

proptest! {
    #[test]
    fn a_process_that_begins_anew_asks_no_more_than_fly_has_left(
        from in 0..5_000_u64, lived in 0..9_000_u64, away in 0..300_u64, create in any::<bool>(),
    ) {
        let action = if create { Action::Create } else { Action::Get };
        let lane = key(action, "app");
        let (from, died) = (ms(from), ms(from + lived));
        let born = died + ms(away);
        let mut made = saturated(&lane, from, died);
        made.extend(saturated(&lane, born, born + 5 * SECOND));
        let (burst, period) = published(action);
        // As many as the burst, and one more in each period after the first of them.
        for (n, first) in made.iter().enumerate() {
            for (more, last) in made[n..].iter().enumerate().skip(burst) {
                let least = period * u32::try_from(more + 1 - burst).unwrap();
                prop_assert!(*last - *first >= least, "{more} more in {:?}", *last - *first);
            }
        }
    }
}
