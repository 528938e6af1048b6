//! What is decided for a Job, case by case, and what holds in every case.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::plan::{Action, Plan, plan};
use crate::{
    ambient::later,
    reconcile::controllers::{attempt::is_over, words},
    resource::{
        AgentCli, CommandCli, ConditionStatus, ExitReason, ExitStatus, FINALIZER_RUNTIME,
        FINALIZER_SPRITES, Job, JobSpec, Span, Sprite,
    },
};

fn at(seconds: u64) -> Timestamp {
    later(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
}

fn job(change: impl FnOnce(&mut JobSpec)) -> Job {
    let mut spec = JobSpec::new("true", AgentCli::Command(CommandCli::default()));
    change(&mut spec);
    let mut job = Job::new("a", spec);
    job.metadata.uid = "uid".to_owned();
    job.metadata.generation = 1;
    job.metadata.finalizers = vec![FINALIZER_SPRITES.to_owned()];
    job
}

/// A little world: a Job, its Sprites, and a clock, moved by plans and by fate.
#[derive(Debug, Clone)]
struct World {
    job: Option<Job>,
    sprites: Vec<Sprite>,
    now: Timestamp,
}

impl World {
    fn new(job: Job) -> Self {
        Self { job: Some(job), sprites: Vec::new(), now: at(1000) }
    }

    fn plan(&self) -> Plan {
        self.job.as_ref().map_or_else(Plan::default, |job| plan(job, &self.sprites, 0, self.now))
    }

    /// Does what the plan says, until it says nothing more.
    fn settle(&mut self) {
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

    fn apply(&mut self, action: Action) {
        let Some(job) = &mut self.job else { panic!("a Job that is gone has no plan") };
        match action {
            Action::AddFinalizer => job.metadata.finalizers.push(FINALIZER_SPRITES.to_owned()),
            Action::CreateSprite(mut sprite, status) => {
                assert!(self.sprites.iter().all(is_over), "two live attempts");
                assert!(
                    self.sprites.iter().all(|other| other.metadata.name != sprite.metadata.name)
                );
                sprite.metadata.generation = 1;
                self.sprites.push(*sprite);
                job.status = *status;
            }
            Action::StopSprite(stopped) => self.sprite(&stopped).spec.stop = stopped.spec.stop,
            Action::DeleteSprite(deleted) => {
                let now = self.now;
                if is_over(&deleted) {
                    self.sprites.retain(|it| it.metadata.name != deleted.metadata.name);
                } else {
                    self.sprite(&deleted).metadata.deletion_timestamp = Some(now);
                }
            }
            Action::WriteStatus(status) => job.status = *status,
            Action::DropFinalizer => {
                assert!(self.sprites.is_empty(), "a Job goes after its Sprites");
                self.job = None;
            }
            Action::Delete => {
                let now = self.now;
                job.metadata.deletion_timestamp = Some(now);
            }
        }
    }

    fn sprite(&mut self, like: &Sprite) -> &mut Sprite {
        let name = &like.metadata.name;
        self.sprites.iter_mut().find(|it| it.metadata.name == *name).expect("it is there")
    }

    fn live(&mut self) -> Option<&mut Sprite> {
        self.sprites.iter_mut().find(|sprite| !is_over(sprite))
    }

    fn hello(&mut self) {
        let now = self.now;
        if let Some(sprite) = self.live() {
            sprite.status.hello_time.get_or_insert(now);
            sprite.status.run = 1;
        }
    }

    fn exit(&mut self, reason: ExitReason, code: Option<i32>) {
        if let Some(sprite) = self.live() {
            let exit = ExitStatus { code, signal: None, reason, message: String::new() };
            sprite.status.exit.get_or_insert(exit);
        }
    }

    fn over(&mut self) {
        let now = self.now;
        let Some(sprite) = self.live() else { return };
        for word in [words::GONE, words::DRAINED] {
            sprite.status.conditions.set(word, ConditionStatus::True, "Test", "", 1, now);
        }
        sprite.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER_RUNTIME);
        self.sprites.retain(|sprite| !(is_over(sprite) && sprite.metadata.is_deleting()));
    }

    fn pass(&mut self, seconds: u64) {
        self.now = later(self.now, Duration::from_secs(seconds));
        self.settle();
    }

    /// One attempt, from hello to its end.
    fn attempt(&mut self, reason: ExitReason, code: Option<i32>) {
        self.settle();
        self.hello();
        self.settle();
        self.exit(reason, code);
        self.settle();
        self.over();
        self.settle();
    }

    fn job(&self) -> &Job {
        self.job.as_ref().expect("the Job is there")
    }

    fn phase(&self) -> &str {
        &self.job().status.phase
    }
}

#[test]
fn how_a_job_ended_holds_for_what_is_changed_of_it_later() {
    let mut ended = job(|_| {});
    ended.status.observed_generation = 1;
    ended.status.completion_time = Some(at(900));
    let conditions = &mut ended.status.conditions;
    conditions.set(words::COMPLETE, ConditionStatus::True, words::COMPLETED, "", 1, at(900));
    let mut world = World::new(ended);
    assert!(world.plan().actions.is_empty(), "it is left alone");
    let changed = world.job.as_mut().unwrap();
    changed.metadata.generation = 2;
    changed.spec.ttl_after_finished = Some(Span::from_secs(7200));
    world.settle();
    let status = &world.job.as_ref().unwrap().status;
    let complete = status.conditions.get(words::COMPLETE).unwrap();
    assert_eq!((status.observed_generation, complete.observed_generation), (2, 2));
    assert_eq!((complete.last_transition_time, status.completion_time), (at(900), Some(at(900))));
}

#[test]
fn a_job_walks_from_pending_to_its_end() {
    let mut world = World::new(job(|_| {}));
    let mut phases = Vec::new();
    world.settle();
    phases.push(world.phase().to_owned());
    let now = world.now;
    let sprite = world.live().expect("there is an attempt");
    sprite.status.conditions.set(words::ADMITTED, ConditionStatus::True, "Test", "", 1, now);
    world.settle();
    phases.push(world.phase().to_owned());
    world.hello();
    world.settle();
    phases.push(world.phase().to_owned());
    world.exit(ExitReason::Completed, Some(0));
    world.settle();
    phases.push(world.phase().to_owned());
    assert!(world.job().status.conditions.is_true(words::SUCCESS_CRITERIA_MET));
    assert!(!world.job().status.conditions.is_true(words::COMPLETE), "it still runs");
    world.over();
    world.settle();
    phases.push(world.phase().to_owned());
    assert_eq!(phases, ["Pending", "Starting", "Running", "Running", "Succeeded"]);
    let status = &world.job().status;
    assert_eq!((status.attempts, status.exit_code), (1, Some(0)));
    assert_eq!((status.start_time, status.completion_time), (Some(at(1000)), Some(at(1000))));
}

#[test]
fn an_attempt_that_failed_is_tried_again_while_retries_last() {
    let mut world = World::new(job(|spec| spec.retries = 2));
    for attempt in 1..=3 {
        world.attempt(ExitReason::Failed, Some(3));
        assert_eq!(world.job().status.attempts, attempt);
        world.pass(10);
    }
    assert_eq!(world.phase(), "Failed");
    assert_eq!(world.job().status.message, "exited with code 3 (attempt 3 of 3)");
    assert_eq!(world.job().status.exit_code, Some(3));
}

#[test]
fn the_next_attempt_waits_longer_each_time() {
    let mut world = World::new(job(|spec| spec.retries = 9));
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.attempt(ExitReason::Failed, Some(1));
        let again = world.plan().again.expect("it waits");
        waits.push(crate::ambient::between(world.now, again).as_secs());
        world.now = again;
    }
    assert_eq!(waits, [1, 2, 4, 8]);
}

#[test]
fn a_sprite_that_was_lost_before_hello_is_made_again_and_not_counted() {
    let mut world = World::new(job(|_| {}));
    world.settle();
    world.exit(ExitReason::ReporterLost, None);
    world.over();
    world.settle();
    assert_eq!(world.phase(), "Pending");
    world.pass(10);
    world.attempt(ExitReason::Completed, Some(0));
    assert_eq!(world.phase(), "Succeeded");
    assert_eq!((world.job().status.attempts, world.job().status.incarnation), (1, 2));
}

#[test]
fn a_job_whose_sprites_are_lost_again_and_again_fails() {
    let mut world = World::new(job(|_| {}));
    for _ in 0..6 {
        world.settle();
        world.exit(ExitReason::ReporterLost, None);
        world.over();
        world.pass(400);
    }
    assert_eq!(world.phase(), "Failed");
    assert_eq!(world.job().status.message, "6 sprites in a row were lost before they could work");
    assert_eq!(world.sprites.len(), 6);
}

#[test]
fn an_attempt_that_could_not_start_spends_a_retry() {
    let mut world = World::new(job(|_| {}));
    world.settle();
    world.exit(ExitReason::StartFailed, None);
    world.over();
    world.settle();
    assert_eq!(world.phase(), "Failed");
    assert_eq!(world.job().status.attempts, 0, "it never said hello");
}

#[test]
fn output_that_is_not_whole_is_told_at_the_end() {
    let mut world = World::new(job(|_| {}));
    world.settle();
    world.hello();
    world.live().unwrap().status.missing_bytes = 4711;
    world.exit(ExitReason::Completed, Some(0));
    world.over();
    world.settle();
    let message = "the output is not whole: 4711 bytes are missing";
    assert_eq!(world.job().status.message, message);
    assert_eq!(world.phase(), "Succeeded");
}

#[test]
fn a_cancelled_job_says_so_and_not_how_its_agent_took_it() {
    let mut world = World::new(job(|_| {}));
    world.settle();
    world.hello();
    world.exit(ExitReason::Cancelled, None);
    world.live().unwrap().status.exit.as_mut().unwrap().signal = Some(15);
    world.over();
    world.settle();
    assert_eq!((world.phase(), world.job().status.message.as_str()), ("Cancelled", "cancelled"));
}

#[test]
fn cancelling_ends_the_live_attempt_and_starts_no_other() {
    let mut world = World::new(job(|spec| spec.retries = 5));
    world.settle();
    world.hello();
    world.job.as_mut().expect("there").spec.cancel = true;
    world.settle();
    assert_eq!(world.sprites[0].spec.stop, Some(ExitReason::Cancelled));
    assert_eq!(world.phase(), "Running");
    world.exit(ExitReason::Cancelled, None);
    world.settle();
    world.over();
    world.settle();
    assert_eq!(world.phase(), "Cancelled");
}

#[test]
fn a_job_that_ended_well_is_not_cancelled_afterwards() {
    let mut world = World::new(job(|_| {}));
    world.settle();
    world.hello();
    world.exit(ExitReason::Completed, Some(0));
    world.settle();
    world.job.as_mut().expect("there").spec.cancel = true;
    world.settle();
    world.over();
    world.settle();
    assert_eq!(world.phase(), "Succeeded");
}

#[test]
fn cancelling_before_anything_ran_ends_at_once() {
    let mut world = World::new(job(|spec| spec.cancel = true));
    world.settle();
    assert_eq!((world.phase(), world.sprites.len()), ("Cancelled", 0));
}

#[test]
fn the_owner_ends_an_attempt_whose_reporter_forgets_the_time() {
    let mut world = World::new(job(|spec| spec.timeout = Some(Span::from_secs(100))));
    world.settle();
    world.hello();
    world.settle();
    assert_eq!(world.plan().again, Some(at(1160)));
    world.pass(159);
    assert_eq!(world.sprites[0].spec.stop, None);
    world.pass(1);
    assert_eq!(world.sprites[0].spec.stop, Some(ExitReason::TimedOut));
}

#[test]
fn while_an_approval_waits_the_clock_stands() {
    let mut world = World::new(job(|spec| spec.timeout = Some(Span::from_secs(100))));
    world.settle();
    world.hello();
    world.settle();
    let later_plan = plan(world.job(), &world.sprites, 1, at(1200));
    assert_eq!(later_plan.again, Some(at(1160 + 3600)));
}

#[test]
fn a_job_says_that_its_agent_waits_for_an_answer_while_it_does() {
    let mut world = World::new(job(|_| {}));
    world.settle();
    world.hello();
    world.settle();
    let kind = words::WAITING_FOR_APPROVAL;
    let conditions = &mut world.sprites[0].status.conditions;
    conditions.set(kind, ConditionStatus::True, words::ASKED, "asks to use Bash: ls", 1, at(1));
    world.settle();
    let condition = world.job().status.conditions.get(kind).expect("it waits");
    assert_eq!(condition.message, "asks to use Bash: ls");
    assert_eq!(world.phase(), "Running");
    world.sprites[0].status.conditions.remove(kind);
    world.settle();
    assert_eq!(world.job().status.conditions.get(kind), None);
}

#[test]
fn the_deadline_is_over_all_attempts_together() {
    let deadline = Some(Span::from_secs(300));
    let mut world = World::new(job(|spec| (spec.retries, spec.deadline) = (100, deadline)));
    world.attempt(ExitReason::Failed, Some(1));
    world.pass(10);
    world.hello();
    world.pass(290);
    assert_eq!(world.sprites[1].spec.stop, Some(ExitReason::TimedOut));
    world.exit(ExitReason::TimedOut, None);
    world.settle();
    world.over();
    world.settle();
    assert_eq!(world.phase(), "TimedOut");
    assert_eq!(world.job().status.message, "not done within its deadline of 5m");
}

#[test]
fn a_deleted_job_goes_after_its_sprites() {
    let mut world = World::new(job(|_| {}));
    world.settle();
    world.hello();
    world.job.as_mut().expect("there").metadata.deletion_timestamp = Some(at(1000));
    world.settle();
    assert!(world.sprites[0].metadata.is_deleting());
    assert!(world.job.is_some(), "its sprite still lives");
    world.over();
    world.settle();
    assert!(world.job.is_none());
}

#[test]
fn a_finished_job_is_left_alone_until_its_time_to_live_is_over() {
    let mut world = World::new(job(|spec| spec.ttl_after_finished = Some(Span::from_secs(60))));
    world.attempt(ExitReason::Completed, Some(0));
    let done = world.job().clone();
    world.pass(59);
    assert_eq!(*world.job(), done);
    world.pass(1);
    assert!(world.job.is_none());
}

#[test]
fn a_finished_job_without_time_to_live_is_kept_until_others_have_seen_its_end() {
    let mut world = World::new(job(|spec| spec.ttl_after_finished = Some(Span::from_secs(0))));
    world.attempt(ExitReason::Completed, Some(0));
    let done = world.job().clone();
    world.pass(59);
    assert_eq!(*world.job(), done);
    world.pass(1);
    assert!(world.job.is_none());
}

#[test]
fn what_hinders_its_sprite_shows_on_the_job() {
    let mut world = World::new(job(|_| {}));
    world.settle();
    let now = world.now;
    let sprite = world.live().expect("there is one");
    let stalled = ConditionStatus::True;
    sprite.status.conditions.set(words::STALLED, stalled, "NoHello", "no answer", 1, now);
    world.settle();
    let shown = world.job().status.conditions.get(words::STALLED).expect("it shows");
    assert_eq!((shown.reason.as_str(), shown.message.as_str()), ("NoHello", "no answer"));
    world.live().expect("there is one").status.conditions.remove(words::STALLED);
    world.settle();
    assert_eq!(world.job().status.conditions.get(words::STALLED), None);
}

/// What can happen to a Job.
#[derive(Debug, Clone)]
enum Fate {
    Hello,
    Exit(ExitReason),
    Over,
    Cancel,
    Delete,
    DeleteSprite,
    Pass(u64),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let reason = prop_oneof![
        Just(ExitReason::Completed),
        Just(ExitReason::Failed),
        Just(ExitReason::Cancelled),
        Just(ExitReason::TimedOut),
        Just(ExitReason::ReporterLost),
        Just(ExitReason::StartFailed),
    ];
    let fate = prop_oneof![
        4 => Just(Fate::Hello),
        4 => reason.prop_map(Fate::Exit),
        6 => Just(Fate::Over),
        1 => Just(Fate::Cancel),
        1 => Just(Fate::Delete),
        1 => Just(Fate::DeleteSprite),
        6 => (0_u64..500).prop_map(Fate::Pass),
    ];
    proptest::collection::vec(fate, 0..60)
}

proptest! {
    /// `World::apply` asserts that no attempt is made beside a live one; `World::settle`, that
    /// each plan leads to an empty one.
    #[test]
    fn whatever_happens_one_attempt_lives_at_most_and_the_plan_comes_to_rest(
        fates in fates(),
        retries in 0_u32..3,
        deadline in proptest::option::of(1_u64..2000),
    ) {
        let deadline = deadline.map(Span::from_secs);
        let mut world = World::new(job(|spec| (spec.retries, spec.deadline) = (retries, deadline)));
        let mut ended: Option<Job> = None;
        for fate in fates {
            match fate {
                Fate::Hello => world.hello(),
                Fate::Exit(reason) => world.exit(reason, None),
                Fate::Over => world.over(),
                Fate::Cancel => if let Some(job) = &mut world.job { job.spec.cancel = true },
                Fate::Delete => {
                    let now = world.now;
                    if let Some(job) = &mut world.job {
                        job.metadata.deletion_timestamp.get_or_insert(now);
                    }
                }
                Fate::DeleteSprite => {
                    let now = world.now;
                    if let Some(sprite) = world.live() {
                        sprite.metadata.deletion_timestamp.get_or_insert(now);
                    }
                }
                Fate::Pass(seconds) => world.now = later(world.now, Duration::from_secs(seconds)),
            }
            world.settle();
            let Some(job) = &world.job else { break };
            if let Some(ended) = &ended {
                prop_assert_eq!(&ended.status, &job.status, "an end is final");
            }
            let conditions = &job.status.conditions;
            if conditions.is_true(words::COMPLETE) || conditions.is_true(words::FAILED) {
                prop_assert!(world.sprites.iter().all(is_over), "an end means that nothing runs");
                ended = Some(job.clone());
            }
            prop_assert!(job.status.attempts <= job.status.incarnation);
        }
    }
}
