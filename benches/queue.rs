//! What the queue costs per item: filled and drained, and woken again while it is waiting.
//!
//! `cargo bench --bench queue`. Shapes and bars are those by which client-go's work queue is
//! measured: fill and drain with distinct keys, and adding keys that are there already.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the real time")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use open_dispatch::reconcile::{
    Wake,
    queue::{Outcome, Queue},
};

/// Each figure is the median of so many runs.
const RUNS: usize = 5;
/// The bar: nanoseconds per item at 100,000.
const BAR: f64 = 300.0;

fn median(mut measure: impl FnMut() -> Duration, items: usize) -> f64 {
    let mut runs: Vec<Duration> = (0..RUNS).map(|_| measure()).collect();
    runs.sort();
    runs[RUNS / 2].as_secs_f64() * 1e9 / f64::from(u32::try_from(items).unwrap_or(u32::MAX))
}

fn keys(items: usize) -> Vec<String> {
    (0..items).map(|n| format!("object-{n:07}")).collect()
}

fn fill_and_drain(keys: &[String]) -> Duration {
    let start = Instant::now();
    let mut queue = Queue::new();
    for key in keys {
        queue.wake(key, Wake::Observation, Duration::ZERO);
    }
    let mut drained = 0;
    while let Some(run) = queue.take(Duration::ZERO) {
        black_box(&run.key);
        queue.finish(run.ticket, Outcome::Done, Duration::ZERO, 0.5);
        drained += 1;
    }
    assert_eq!(drained, keys.len());
    start.elapsed()
}

fn wake_again(keys: &[String]) -> Duration {
    let mut queue = Queue::new();
    for key in keys {
        queue.wake(key, Wake::Observation, Duration::ZERO);
    }
    let start = Instant::now();
    for key in keys {
        queue.wake(black_box(key), Wake::Observation, Duration::ZERO);
    }
    assert_eq!(queue.ready(), keys.len());
    start.elapsed()
}

fn timers(keys: &[String]) -> Duration {
    let start = Instant::now();
    let mut queue = Queue::new();
    for key in keys {
        queue.wake(key, Wake::Timer, Duration::ZERO);
    }
    let mut length = 0_u64;
    while let Some(run) = queue.take(Duration::ZERO) {
        // Spread over five minutes, in no order.
        length = (length + 7_919_993) % 300_000_000;
        let outcome = Outcome::After(Duration::from_micros(length + 1));
        queue.finish(run.ticket, outcome, Duration::ZERO, 0.5);
    }
    let later = Duration::from_secs(300);
    while let Some(run) = queue.take(later) {
        queue.finish(run.ticket, Outcome::Done, later, 0.5);
    }
    start.elapsed()
}

fn main() {
    println!("queue: nanoseconds per item, median of {RUNS}");
    println!(
        "{:>10} {:>15} {:>12} {:>20}",
        "items", "fill and drain", "wake again", "timer, fire, drain"
    );
    for items in [1_000, 10_000, 100_000, 1_000_000] {
        let keys = keys(items);
        let drained = median(|| fill_and_drain(&keys), items);
        let again = median(|| wake_again(&keys), items);
        let timed = median(|| timers(&keys), items);
        let bar = match items {
            100_000 if drained <= BAR => "  within 300",
            100_000 => "  ABOVE 300",
            _ => "",
        };
        println!("{items:>10} {drained:>15.0} {again:>12.0} {timed:>20.0}{bar}");
    }
}
