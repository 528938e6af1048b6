//! Promise: whatever crashes, fails or is lost, at any step and at any call to Fly, the end is the
//! same; never do two live for one owner, and nothing is left behind at Fly.

#[path = "support/fly/mod.rs"]
mod fly;

use fly::stage::{Scenario, Wish, agent, job, play};
use open_dispatch::resource::{AnyObject, Kind, Span};

fn scenario(name: &'static str, length: u64, edits: Vec<(u64, Wish)>) -> Scenario {
    Scenario { name, edits, length, lag: 0 }
}

fn scenarios() -> Vec<Scenario> {
    let bot = || (0, Wish::Create(agent(|_| {})));
    let change = |change| Wish::Change(Kind::Agent, "bot", change);
    vec![
        scenario("a job runs to success", 120, vec![(0, Wish::Create(job("a", "run 5", |_| {})))]),
        scenario(
            "a failed job is tried again",
            240,
            vec![(0, Wish::Create(job("a", "fail", |spec| spec.retries = 1)))],
        ),
        scenario(
            "a job times out by its reporter",
            240,
            vec![(
                0,
                Wish::Create(job("a", "work", |spec| spec.timeout = Some(Span::from_secs(20)))),
            )],
        ),
        scenario(
            "a stubborn job that forgets its time is stopped with its machine",
            300,
            vec![(
                0,
                Wish::Create(job("a", "stubborn", |spec| spec.timeout = Some(Span::from_secs(20)))),
            )],
        ),
        scenario(
            "a job is deleted while it runs",
            240,
            vec![
                (0, Wish::Create(job("a", "work", |_| {}))),
                (60, Wish::Delete(Kind::Job, "a")),
            ],
        ),
        scenario(
            "an agent answers, sleeps, and is woken",
            360,
            vec![bot(), (20, Wish::Say("a", "work 3")), (200, Wish::Say("b", "work 1"))],
        ),
        scenario(
            "a changed agent gets a new machine between two turns, and keeps its volume",
            360,
            vec![
                bot(),
                (20, Wish::Say("a", "work 30")),
                (
                    40,
                    change(|object| {
                        if let AnyObject::Agent(agent) = object {
                            agent.spec.instructions = Some("Be brief.".to_owned());
                        }
                    }),
                ),
                (45, Wish::Say("b", "work 1")),
            ],
        ),
        scenario(
            "a sleeping agent is deleted",
            400,
            vec![bot(), (20, Wish::Say("a", "work 1")), (200, Wish::Delete(Kind::Agent, "bot"))],
        ),
        scenario(
            "a working agent is deleted",
            300,
            vec![bot(), (20, Wish::Say("a", "work 100")), (60, Wish::Delete(Kind::Agent, "bot"))],
        ),
    ]
}

#[test]
fn dry() {
    for scenario in scenarios() {
        let start = std::time::SystemTime::UNIX_EPOCH;
        let _ = start;
        println!("=== {}", scenario.name);
        let played = play(&scenario, None);
        println!("{:?} steps={} calls={} claims={:?}", played.fired, played.steps.len(), played.calls.len(), played.claims);
        println!("{:?}\n{:?}", played.steps, played.calls);
        println!("{:#}", played.end);
    }
}
