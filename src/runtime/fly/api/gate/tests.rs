use proptest::prelude::*;

use super::*;
use crate::{ambient::ManualClock, runtime::fly::api::Action};

fn create() -> Key {
    (Action::Create, "app".to_owned())
}

/// Lets everybody run who can.
async fn settle() {
    for _ in 0..400 {
        tokio::task::yield_now().await;
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()))
}

/// How long after its beginning a gate knows that buckets are full.
const KNOWN: Duration = Duration::from_secs(2);

/// Callers that each make one call; those in `leave` are given up after so many half seconds.
/// When the others made theirs, in seconds.
async fn crowd(callers: usize, leave: &[(usize, u32)], holds: Duration) -> Vec<f64> {
    let clock = clock();
    let gate = Arc::new(Gate::new(clock.clone()));
    let made = Arc::new(Mutex::new(Vec::new()));
    let spawn = |_| {
        let (gate, clock, made) = (gate.clone(), clock.clone(), made.clone());
        tokio::spawn(async move {
            let mut place = gate.enter(create(), Duration::MAX).await.ok().unwrap();
            place.make();
            made.lock().unwrap().push(clock.elapsed().as_secs_f64());
            clock.sleep(holds).await;
            place.taken();
        })
    };
    let tasks: Vec<_> = (0..callers).map(spawn).collect();
    for tick in 0..(4 * callers as u32 + 100) {
        settle().await;
        for (who, _) in leave.iter().filter(|(_, when)| *when == tick) {
            tasks[who % callers].abort();
        }
        settle().await;
        clock.advance(Duration::from_millis(500));
    }
    settle().await;
    assert!(tasks.iter().all(tokio::task::JoinHandle::is_finished), "somebody still waits");
    made.lock().unwrap().clone()
}

#[tokio::test]
async fn all_who_wait_go_one_by_one_in_time() {
    let made = crowd(30, &[], Duration::from_millis(200)).await;
    let expected: Vec<f64> = (0..30_i32).map(f64::from).collect();
    assert_eq!(made, expected);
}

#[tokio::test]
async fn who_takes_long_holds_a_place_and_the_others_still_go() {
    // Twelve places for creates, each held for 30 s: the rest waits for places, not for tokens.
    let made = crowd(40, &[], Duration::from_secs(30)).await;
    assert_eq!(made.len(), 40);
    assert_eq!(made[11], 11.0);
    assert_eq!(made[12], 30.0);
}

#[tokio::test]
async fn a_refusal_holds_up_those_who_wait_already() {
    let clock = clock();
    let gate = Arc::new(Gate::new(clock.clone()));
    clock.advance(KNOWN);
    let mut first = gate.enter(create(), Duration::MAX).await.ok().unwrap();
    first.make();
    let mut second = gate.enter(create(), Duration::MAX).await.ok().unwrap();
    second.make();
    let third = tokio::spawn({
        let gate = gate.clone();
        async move { gate.enter(create(), Duration::MAX).await.map(|_| gate.clock.elapsed()).ok() }
    });
    settle().await;
    assert_eq!(first.refused(Some(Duration::from_secs(5)), 0.0), Duration::from_secs(5));
    for _ in 0..4 {
        clock.advance(Duration::from_secs(1));
        settle().await;
        assert!(!third.is_finished());
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(third.await.unwrap(), Some(KNOWN + Duration::from_secs(5)));
}

#[tokio::test]
async fn who_would_wait_too_long_is_told_so_at_once() {
    let clock = clock();
    let gate = Gate::new(clock.clone());
    clock.advance(KNOWN);
    let mut places = Vec::new();
    for _ in 0..2 {
        let mut place = gate.enter(create(), Duration::ZERO).await.ok().unwrap();
        place.make();
        places.push(place);
    }
    assert_eq!(gate.backlog(&create()), Duration::from_secs(1));
    assert_eq!(gate.enter(create(), Duration::ZERO).await.err(), Some(Duration::from_secs(1)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn who_leaves_takes_no_token_along_and_wakes_who_comes_after(
        leave in prop::collection::vec((0..20_usize, 0..20_u32), 0..15),
        holds in 0..3_000_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let made = runtime.block_on(crowd(20, &leave, Duration::from_millis(holds)));
        // Whoever else left: one each second, with no second lost.
        for (n, at) in made.iter().enumerate() {
            prop_assert!((at - n as f64).abs() < 0.01, "{made:?}");
        }
    }
}
