//! `/od-schedule`, from the line that makes a Schedule to the Jobs that it makes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{sync::Arc, time::Duration};

use open_dispatch::{
    ambient::{Ambient, FreeSteps, ManualClock, SeededIds},
    chat::{Commands, Incoming, Settings},
    reconcile::{Engine, EngineHandle, controllers::ScheduleController},
    resource::{AnyObject, Defaults, Job, Kind, Schedule},
    store::{Base, Conversation, Op, Owned, Store, Subject, Transaction, memory::MemoryStore},
};
use serde_json::Value;

struct World {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
    commands: Commands,
    engine: EngineHandle,
    said: u32,
}

impl World {
    /// It is 2026-01-01 12:00:30.
    async fn new() -> Self {
        let store = MemoryStore::new();
        let clock = Arc::new(ManualClock::at("2026-01-01T12:00:30Z".parse().unwrap()));
        let ambient = Ambient {
            clock: clock.clone(),
            ids: Arc::new(SeededIds::new(7)),
            steps: Arc::new(FreeSteps),
        };
        let commands = Commands::new(Arc::clone(&store) as _, ambient.clone(), Settings::default());
        let mut engine = Engine::new(Arc::clone(&store) as _, ambient.clone());
        let controller =
            ScheduleController::new(Arc::clone(&store) as _, ambient, Defaults::default());
        engine.add(Arc::new(controller));
        let engine = engine.start().await.unwrap();
        Self { store, clock, commands, engine, said: 0 }
    }

    /// Says a line, and gives the answer once all that follows from it is done.
    async fn ask(&mut self, text: &str) -> String {
        self.said += 1;
        let place =
            Conversation { platform: "console".into(), channel: "main".into(), thread: None };
        let line = Incoming::typed(format!("console/{}", self.said), place, "ada", text);
        let taken = self.commands.handle(&line).await.unwrap();
        // Brought again, it does nothing more.
        assert!(self.commands.handle(&line).await.unwrap().again);
        self.engine.idle().await;
        let delivery = self.store.delivery(&taken.delivery).await.unwrap().unwrap();
        match delivery.subject {
            Subject::Notice { text } => text,
            other => panic!("{other:?} is no answer"),
        }
    }

    async fn pass(&mut self, seconds: u64) {
        let end = Duration::from_secs(seconds);
        let mut passed = Duration::ZERO;
        self.engine.idle().await;
        while passed < end {
            let step = self.engine.next_timer().unwrap_or(end).min(end - passed);
            let step = step.max(Duration::from_millis(1));
            self.clock.advance(step);
            passed += step;
            self.engine.idle().await;
        }
    }

    async fn jobs(&self) -> Vec<Job> {
        let all = self.store.list(Kind::Job, None, 100).await.unwrap().items;
        all.into_iter().filter_map(AnyObject::into_job).collect()
    }

    async fn schedule(&self, name: &str) -> Option<Schedule> {
        self.store.get(Kind::Schedule, name).await.unwrap().and_then(AnyObject::into_schedule)
    }
}

const ADD: &str = "/od-schedule add \"*/10 * * * *\" --name tests --agent command echo it's \"so\"";

#[tokio::test]
async fn a_schedule_that_was_said_makes_jobs_that_report_to_where_it_was_said() {
    let mut world = World::new().await;
    let mut text = String::new();
    for line in [
        ADD,
        ADD,
        "/od-schedule",
        "/od-schedule suspend tests",
        "/od-schedule suspend tests",
        "/od-schedule list",
        "/od-schedule resume schedule/Tests",
        "/od-schedule run test",
        "/od-schedule run tests",
        "/od-schedule add \"0 0 30 2 *\" --agent command true",
        "/od-schedule add @daily --tz Mars/Olympus --agent command true",
        "/od-schedule add now true",
        "/od-schedule add @daily",
        "/od-schedule do it",
        "/od-schedule run",
        "/od-schedule delete tests now",
    ] {
        let answer = world.ask(line).await;
        text.push_str(&format!("> {line}\n{answer}\n\n"));
    }
    insta::assert_snapshot!(text);
    assert_eq!(world.jobs().await.len(), 1, "the run that was asked for");
    world.pass(3600).await;
    let jobs = world.jobs().await;
    assert_eq!(jobs.len(), 1, "the job that works keeps the others from beginning");
    assert_eq!(jobs[0].spec.task, "echo it's \"so\"");
    let report = serde_json::to_value(&jobs[0].spec.report).unwrap();
    assert_eq!(report["to"], serde_json::json!([{"console": {"channel": "main"}}]));
    let status = world.schedule("tests").await.unwrap().status;
    assert_eq!(status.last_schedule_time.unwrap().to_string(), "2026-01-01T13:00:00Z");
    world.engine.stop().await;
}

#[tokio::test]
async fn a_schedule_that_a_source_declares_is_not_deleted_from_chat_and_may_be_suspended() {
    let mut world = World::new().await;
    world.ask(ADD).await;
    let schedule = world.schedule("tests").await.unwrap();
    let row = Owned {
        kind: Kind::Schedule,
        name: "tests".to_owned(),
        uid: schedule.metadata.uid.clone(),
        source_uid: "s".to_owned(),
        source: "team".to_owned(),
        base: Base { spec: Value::Null, ..Base::default() },
        file: "nightly.yaml".to_owned(),
        line: 3,
        overrides: Vec::new(),
        leaving: false,
        version: 0,
    };
    let own = Transaction::at("2026-01-01T12:00:30Z".parse().unwrap()).with(Op::Own(row));
    world.store.apply(own).await.unwrap();
    let answer = world.ask("/od-schedule delete tests").await;
    assert!(answer.contains("declared by source team (nightly.yaml:3)"), "{answer}");
    world.ask("/od-schedule suspend tests").await;
    let schedule = world.schedule("tests").await.unwrap();
    assert!(schedule.spec.suspend && !schedule.metadata.is_deleting());
    world.engine.stop().await;
}

#[tokio::test]
async fn of_two_who_ask_for_a_run_at_once_the_second_is_told_that_it_comes_already() {
    let mut world = World::new().await;
    world.ask(ADD).await;
    // Nobody looks at the schedule for a while.
    world.engine.stop().await;
    let mut say = async |text: &str| {
        world.said += 1;
        let place =
            Conversation { platform: "console".into(), channel: "main".into(), thread: None };
        let line = Incoming::typed(format!("console/{}", world.said), place, "bob", text);
        let taken = world.commands.handle(&line).await.unwrap();
        match world.store.delivery(&taken.delivery).await.unwrap().unwrap().subject {
            Subject::Notice { text } => text,
            other => panic!("{other:?} is no answer"),
        }
    };
    let (first, second) =
        (say("/od-schedule run tests").await, say("/od-schedule run tests").await);
    assert!(first.contains("runs now"), "{first}");
    assert!(second.contains("a run is asked for already"), "{second}");
    let ambient = Ambient {
        clock: world.clock.clone(),
        ids: Arc::new(SeededIds::new(8)),
        steps: Arc::new(FreeSteps),
    };
    let store = Arc::clone(&world.store);
    let mut engine = Engine::new(store.clone() as _, ambient.clone());
    engine.add(Arc::new(ScheduleController::new(store as _, ambient, Defaults::default())));
    world.engine = engine.start().await.unwrap();
    world.engine.idle().await;
    assert_eq!(world.jobs().await.len(), 1, "one run, as both were told");
    let third = world.ask("/od-schedule run tests").await;
    assert!(third.contains("runs now"), "{third}");
    assert_eq!(world.jobs().await.len(), 2);
    world.engine.stop().await;
}

#[tokio::test]
async fn a_deleted_schedule_goes_with_its_jobs() {
    let mut world = World::new().await;
    world.ask(ADD).await;
    world.pass(600).await;
    assert_eq!(world.jobs().await.len(), 1);
    world.ask("/od-schedule delete tests").await;
    let jobs = world.jobs().await;
    assert!(jobs.iter().all(|job| job.metadata.is_deleting()), "{jobs:?}");
    assert!(world.schedule("tests").await.unwrap().metadata.is_deleting(), "it waits for its job");
    world.engine.stop().await;
}
