//! What is decided for a Schedule, case by case, and what holds in every case.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;

use super::plan::{Action, Plan, View, minute_name, plan};
use crate::{
    ambient::{between, later},
    reconcile::controllers::{made::ended, words},
    resource::{
        AgentCli, CommandCli, ConcurrencyPolicy, ConditionStatus::True, FINALIZER_OWNED, Job,
        JobSpec, JobTemplate, MissedRuns, ORPHAN, RUN_REQUESTED, Schedule, ScheduleSpec, Span,
    },
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A little world: a Schedule, its Jobs, and a clock that fate may move anywhere.
#[derive(Debug, Clone)]
struct World {
    schedule: Option<Schedule>,
    jobs: Vec<Job>,
    taken: BTreeSet<String>,
    refused: Option<&'static str>,
    up_since: Timestamp,
    now: Timestamp,
    /// The name of every Job that was ever made.
    made: Vec<String>,
    notes: Vec<String>,
}

impl World {
    /// Every ten minutes, from 12:00:30 on, unless the change says otherwise.
    fn new(change: impl FnOnce(&mut ScheduleSpec)) -> Self {
        let job = JobSpec::new("true", AgentCli::Command(CommandCli::default()));
        let mut spec = ScheduleSpec {
            schedule: "*/10 * * * *".to_owned(),
            time_zone: None,
            concurrency_policy: ConcurrencyPolicy::default(),
            missed_runs: MissedRuns::default(),
            starting_deadline: None,
            successful_jobs_history_limit: None,
            failed_jobs_history_limit: None,
            suspend: false,
            job_template: JobTemplate { metadata: Default::default(), spec: job },
        };
        change(&mut spec);
        let mut schedule = Schedule::new("nightly", spec);
        schedule.metadata.uid = "uid".to_owned();
        schedule.metadata.generation = 1;
        schedule.metadata.finalizers = vec![FINALIZER_OWNED.to_owned()];
        let now = at("2026-01-01T12:00:30Z");
        schedule.metadata.creation_timestamp = Some(now);
        let mut world = Self {
            schedule: Some(schedule),
            jobs: Vec::new(),
            taken: BTreeSet::new(),
            refused: None,
            up_since: now,
            now,
            made: Vec::new(),
            notes: Vec::new(),
        };
        world.settle();
        world
    }

    fn schedule(&mut self) -> &mut Schedule {
        self.schedule.as_mut().expect("the Schedule is there")
    }

    fn plan(&self) -> Plan {
        let Some(schedule) = &self.schedule else { return Plan::default() };
        let Self { jobs, refused, up_since, now, .. } = self;
        let mut taken = BTreeSet::new();
        loop {
            let (refused, up_since, now) = (*refused, *up_since, *now);
            let plan = plan(&View { schedule, jobs, taken: &taken, refused, up_since, now });
            match plan.new_name() {
                Some(name) if self.taken.contains(name) => taken.insert(name.to_owned()),
                _ => return plan,
            };
        }
    }

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
        let now = self.now;
        let notes = match &action {
            Action::CreateJob { notes, .. } | Action::WriteStatus { notes, .. } => notes.clone(),
            _ => Vec::new(),
        };
        self.notes.extend(notes.into_iter().map(|note| format!("{}: {}", note.reason, note.text)));
        match action {
            Action::AddFinalizer => {
                self.schedule().metadata.finalizers = vec![FINALIZER_OWNED.to_owned()];
            }
            Action::CreateJob { mut job, status, .. } => {
                let name = job.metadata.name.clone();
                assert!(!self.made.contains(&name), "{name} was made before");
                self.made.push(name);
                job.metadata.creation_timestamp = Some(now);
                self.jobs.push(*job);
                self.schedule().status = *status;
            }
            Action::WriteStatus { status, .. } => self.schedule().status = *status,
            Action::CancelJob(job) => self.job(&job.metadata.name).spec.cancel = true,
            Action::DeleteJob(job) => {
                // One that works is cancelled first.
                if ended(&job).is_some() {
                    self.jobs.retain(|it| it.metadata.name != job.metadata.name);
                } else {
                    self.job(&job.metadata.name).metadata.deletion_timestamp = Some(now);
                }
            }
            Action::ReleaseJob(job) => {
                self.jobs.retain(|it| it.metadata.name != job.metadata.name);
            }
            Action::DropFinalizer => {
                assert!(self.jobs.is_empty(), "a Schedule goes after its Jobs");
                self.schedule = None;
            }
        }
    }

    fn job(&mut self, name: &str) -> &mut Job {
        self.jobs.iter_mut().find(|job| job.metadata.name == name).expect("it is there")
    }

    /// All Jobs that work end.
    fn end(&mut self, well: bool) {
        let (now, end) = (self.now, if well { words::COMPLETE } else { words::FAILED });
        for job in self.jobs.iter_mut().filter(|job| ended(job).is_none()) {
            job.status.conditions.set(end, True, "Test", "", 1, now);
            job.status.completion_time = Some(now);
        }
        self.jobs.retain(|job| !job.metadata.is_deleting());
        self.settle();
    }

    /// To a time, as the engine would: awake at each time that the plan asks for.
    fn live_until(&mut self, until: &str) {
        let until = at(until);
        loop {
            self.settle();
            match self.plan().again {
                Some(again) if again <= until => self.now = self.now.max(again),
                _ => break,
            }
        }
        self.now = until;
        self.settle();
    }

    /// To a time, with nobody looking.
    fn jump_to(&mut self, to: &str) {
        self.now = at(to);
        self.settle();
    }

    /// The server dies, and is back at a time.
    fn down_until(&mut self, until: &str) {
        self.up_since = at(until);
        self.jump_to(until);
    }

    /// The minutes past 12 of the Jobs that were made.
    fn minutes(&self) -> Vec<i64> {
        let noon = at("2026-01-01T12:00:00Z").as_second() / 60;
        let minute = |name: &String| {
            name.strip_prefix("nightly-").and_then(|n| n.parse::<i64>().ok()).map(|n| n - noon)
        };
        self.made.iter().filter_map(minute).collect()
    }

    fn told(&self, reason: &str) -> Vec<&str> {
        let line = |note: &'_ String| note.starts_with(reason);
        self.notes.iter().filter(|note| line(note)).map(String::as_str).collect()
    }
}

fn allow(spec: &mut ScheduleSpec) {
    spec.concurrency_policy = ConcurrencyPolicy::Allow;
}

#[test]
fn each_due_minute_makes_one_job() {
    let mut world = World::new(allow);
    assert_eq!(world.schedule().status.phase, "Scheduled");
    assert_eq!(world.schedule().status.next_schedule_time, Some(at("2026-01-01T12:10:00Z")));
    world.live_until("2026-01-01T12:35:00Z");
    assert_eq!(world.minutes(), [10, 20, 30]);
    assert_eq!(world.schedule().status.active.len(), 3);
    assert_eq!(world.schedule().status.phase, "Active");
}

#[test]
fn a_job_says_whose_it_is_and_for_which_minute() {
    let mut world = World::new(allow);
    world.live_until("2026-01-01T12:10:00Z");
    insta::assert_yaml_snapshot!(world.jobs[0].metadata);
}

#[test]
fn what_was_due_while_nobody_looked_is_made_up_for_once() {
    let mut world = World::new(|_| {});
    world.jump_to("2026-01-01T12:55:00Z");
    assert_eq!(world.minutes(), [50]);
    assert_eq!(
        world.told(words::MISSED),
        ["MissedDueMinutes: 4 due minutes before 2026-01-01T12:50:00Z were missed"]
    );
    world.end(true);
    world.jump_to("2026-01-01T12:56:00Z");
    assert_eq!(world.minutes(), [50], "once");
}

#[test]
fn what_was_due_while_nobody_looked_is_skipped_where_that_is_wanted() {
    let mut world = World::new(|spec| spec.missed_runs = MissedRuns::Skip);
    world.jump_to("2026-01-01T12:51:00Z");
    assert_eq!(world.minutes(), Vec::<i64>::new());
    assert_eq!(world.told(words::MISSED).len(), 2);
    world.jump_to("2026-01-01T13:00:59Z");
    assert_eq!(world.minutes(), [60], "a minute is on time for as long as it lasts");
}

#[test]
fn a_minute_that_is_due_for_too_long_is_not_begun() {
    let mut world = World::new(|spec| spec.starting_deadline = Some(Span::from_secs(120)));
    world.jump_to("2026-01-01T12:12:01Z");
    assert_eq!(world.minutes(), Vec::<i64>::new());
    assert_eq!(world.told(words::TOO_LATE).len(), 1);
    world.jump_to("2026-01-01T12:22:00Z");
    assert_eq!(world.minutes(), [20]);
}

#[test]
fn no_deadline_is_so_short_that_nothing_is_ever_begun() {
    let mut world = World::new(|spec| spec.starting_deadline = Some(Span::from_secs(0)));
    world.jump_to("2026-01-01T12:10:10Z");
    assert_eq!(world.minutes(), [10]);
    world.jump_to("2026-01-01T12:20:11Z");
    assert_eq!(world.told(words::TOO_LATE).len(), 1);
}

#[test]
fn while_a_job_works_the_next_is_skipped_and_that_is_told() {
    let mut world = World::new(|_| {});
    world.live_until("2026-01-01T12:25:00Z");
    assert_eq!(world.minutes(), [10]);
    assert_eq!(world.told(words::STILL_ACTIVE).len(), 1);
    world.end(true);
    assert_eq!(world.minutes(), [10], "it is skipped, not put off");
    world.live_until("2026-01-01T12:31:00Z");
    assert_eq!(world.minutes(), [10, 30]);
}

#[test]
fn a_job_makes_way_for_the_next_which_begins_when_it_is_gone() {
    let mut world = World::new(|spec| {
        spec.concurrency_policy = ConcurrencyPolicy::Replace;
        spec.missed_runs = MissedRuns::Skip;
        spec.starting_deadline = Some(Span::from_secs(60));
    });
    world.live_until("2026-01-01T12:25:00Z");
    assert_eq!(world.minutes(), [10]);
    assert!(world.jobs[0].spec.cancel);
    let status = &world.schedule().status;
    assert_eq!(status.pending_schedule_time, Some(at("2026-01-01T12:20:00Z")));
    world.end(false);
    assert_eq!(world.minutes(), [10, 20], "it does not count as late");
    // A newer minute takes the place of one that waits.
    world.live_until("2026-01-01T12:45:00Z");
    world.end(false);
    assert_eq!(world.minutes(), [10, 20, 40]);
}

#[test]
fn a_minute_that_waited_when_the_server_went_down_is_late_by_when_it_is_back() {
    let skip: fn(&mut ScheduleSpec) = |spec| spec.missed_runs = MissedRuns::Skip;
    let deadline: fn(&mut ScheduleSpec) = |spec| {
        spec.starting_deadline = Some(Span::from_secs(300));
    };
    let neither: fn(&mut ScheduleSpec) = |_| {};
    for (change, back, made, reason) in [
        (skip, "2026-01-01T12:20:40Z", vec![10, 20], ""),
        (skip, "2026-01-01T12:29:00Z", vec![10], words::MISSED),
        (deadline, "2026-01-01T12:24:00Z", vec![10, 20], ""),
        (deadline, "2026-01-01T12:29:00Z", vec![10], words::TOO_LATE),
        (neither, "2026-01-01T12:29:00Z", vec![10, 20], ""),
    ] {
        let mut world = World::new(|spec| {
            spec.concurrency_policy = ConcurrencyPolicy::Replace;
            change(spec);
        });
        world.live_until("2026-01-01T12:20:10Z");
        let status = &world.schedule().status;
        assert_eq!(status.pending_schedule_time, Some(at("2026-01-01T12:20:00Z")));
        world.down_until(back);
        world.end(false);
        assert_eq!(world.minutes(), made, "back at {back}");
        assert_eq!(world.schedule().status.pending_schedule_time, None);
        let told = world.notes.iter().filter(|note| note.contains("was not begun")).count();
        assert_eq!(told, usize::from(!reason.is_empty()));
        assert!(!world.told(reason).is_empty(), "{reason}: {:?}", world.notes);
    }
}

#[test]
fn a_minute_that_waits_and_is_not_begun_is_told() {
    type Change = fn(&mut ScheduleSpec);
    let changes: [(Change, &str); 3] = [
        (|spec| spec.suspend = true, "the schedule is suspended"),
        (|spec| spec.schedule = "5 * * * *".to_owned(), "the schedule was changed"),
        (|spec| spec.time_zone = Some("Asia/Kathmandu".to_owned()), "the schedule was changed"),
    ];
    for (change, why) in changes {
        let mut world = World::new(|spec| spec.concurrency_policy = ConcurrencyPolicy::Replace);
        world.live_until("2026-01-01T12:20:10Z");
        assert!(world.jobs[0].spec.cancel, "for the minute that waits");
        change(&mut world.schedule().spec);
        world.settle();
        let told = format!(
            "MissedDueMinutes: 2026-01-01T12:20:00Z waited for other jobs to end, and was not begun: \
             {why}"
        );
        assert_eq!(world.told(words::MISSED), [told]);
        world.end(false);
        assert_eq!(world.minutes(), [10]);
    }
}

#[test]
fn a_run_that_somebody_asks_for_while_a_minute_pends_is_not_cancelled_for_it() {
    let mut world = World::new(|spec| spec.concurrency_policy = ConcurrencyPolicy::Replace);
    world.live_until("2026-01-01T12:20:10Z");
    assert!(world.jobs[0].spec.cancel, "it makes way, and takes its time");
    let annotations = &mut world.schedule().metadata.annotations;
    annotations.insert(RUN_REQUESTED.to_owned(), "now".to_owned());
    world.settle();
    assert_eq!((world.jobs.len(), world.jobs[1].spec.cancel), (2, false));
    // The first is gone: the minute begins beside what was asked for.
    world.jobs.remove(0);
    world.settle();
    assert_eq!(world.minutes(), [10, 20]);
    assert!(world.jobs.iter().all(|job| !job.spec.cancel));
    // For the next minute all of them make way.
    world.live_until("2026-01-01T12:30:10Z");
    assert!(world.jobs.iter().all(|job| job.spec.cancel));
}

#[test]
fn where_the_policy_changes_while_a_minute_pends_the_new_one_decides() {
    for (policy, made, cancelled, told) in [
        (ConcurrencyPolicy::Allow, vec![10, 20], 1, ""),
        (ConcurrencyPolicy::Forbid, vec![10], 1, "2026-01-01T12:20:00Z was not begun"),
    ] {
        let mut world = World::new(|spec| spec.concurrency_policy = ConcurrencyPolicy::Replace);
        world.live_until("2026-01-01T12:20:10Z");
        world.schedule().spec.concurrency_policy = policy;
        world.settle();
        assert_eq!(world.minutes(), made, "{policy:?}");
        assert_eq!(world.schedule().status.pending_schedule_time, None);
        let going = world.jobs.iter().filter(|job| job.spec.cancel).count();
        assert_eq!(going, cancelled, "{policy:?}: nobody else is cancelled");
        let skipped = world.told(words::STILL_ACTIVE);
        assert!(skipped.first().is_none_or(|text| text.contains(told)), "{skipped:?}");
        assert_eq!(skipped.is_empty(), told.is_empty());
    }
}

#[test]
fn what_was_due_while_it_was_suspended_is_not_made_up_for() {
    let mut world = World::new(|_| {});
    world.schedule().spec.suspend = true;
    world.live_until("2026-01-01T12:45:00Z");
    assert_eq!(world.schedule().status.phase, "Suspended");
    assert_eq!(world.schedule().status.next_schedule_time, None);
    world.schedule().spec.suspend = false;
    world.live_until("2026-01-01T12:49:00Z");
    assert_eq!(world.minutes(), Vec::<i64>::new());
    world.live_until("2026-01-01T12:51:00Z");
    assert_eq!(world.minutes(), [50]);
}

#[test]
fn a_changed_schedule_is_not_due_for_times_before_the_change() {
    let mut world = World::new(|spec| spec.schedule = "0 18 * * *".to_owned());
    world.live_until("2026-01-01T15:30:00Z");
    world.schedule().spec.schedule = "0 15 * * *".to_owned();
    world.live_until("2026-01-01T15:40:00Z");
    assert_eq!(world.made, Vec::<String>::new());
    // 15:00 in New York is 20:00 here.
    world.schedule().spec.time_zone = Some("America/New_York".to_owned());
    world.live_until("2026-01-01T21:00:00Z");
    assert_eq!(world.minutes(), [480]);
}

#[test]
fn a_clock_that_jumps_a_year_ahead_makes_one_job_and_back_makes_none() {
    let mut world = World::new(allow);
    world.live_until("2026-01-01T12:11:00Z");
    world.jump_to("2027-01-01T12:00:00Z");
    assert_eq!(world.made.len(), 2);
    assert_eq!(
        world.told(words::MISSED),
        ["MissedDueMinutes: more than 100 due minutes before 2027-01-01T12:00:00Z were missed"]
    );
    world.jump_to("2026-01-01T12:12:00Z");
    world.live_until("2026-01-01T14:00:00Z");
    assert_eq!(world.made.len(), 2, "nothing is begun that may have been");
    let stalled = world.schedule().status.conditions.get(words::STALLED).cloned().unwrap();
    insta::assert_snapshot!(stalled.message);
}

#[test]
fn a_clock_that_goes_back_for_a_moment_brings_nothing_back_that_was_not_to_be_begun() {
    let daily = |spec: &mut ScheduleSpec| spec.schedule = "0 12 * * *".to_owned();
    // It was made behind its due minute, or changed behind it, or resumed behind it.
    let was_made: fn(&mut World) = |_| {};
    let was_changed: fn(&mut World) = |world| {
        world.schedule().spec.schedule = "0 18 * * *".to_owned();
        world.live_until("2026-01-01T12:30:00Z");
        world.schedule().spec.schedule = "0 12 * * *".to_owned();
    };
    let was_resumed: fn(&mut World) = |world| {
        world.schedule().spec.suspend = true;
        world.live_until("2026-01-02T14:00:00Z");
        world.schedule().spec.suspend = false;
    };
    for (fate, next) in [(was_made, 24), (was_changed, 24), (was_resumed, 48)] {
        let mut world = World::new(daily);
        fate(&mut world);
        world.settle();
        let (now, behind) = (world.now, later(world.now, Duration::from_secs(60)));
        world.jump_to(&now.checked_sub(jiff::SignedDuration::from_hours(3)).unwrap().to_string());
        let stalled = world.schedule().status.conditions.get(words::STALLED).cloned().unwrap();
        assert_eq!(stalled.reason, words::CLOCK_BEHIND);
        assert!(stalled.message.contains(&format!("count from {now}")), "{}", stalled.message);
        world.jump_to(&behind.to_string());
        assert_eq!(world.minutes(), Vec::<i64>::new());
        assert!(!world.schedule().status.conditions.is_true(words::STALLED));
        world.live_until("2026-01-03T12:01:00Z");
        assert_eq!(world.minutes().first(), Some(&(next * 60)), "the next is begun as ever");
    }
}

#[test]
fn a_run_that_is_asked_for_is_made_once_whatever_the_policy_says() {
    let mut world = World::new(|spec| spec.suspend = true);
    for (asked, made) in [("now", 1), ("now", 1), ("again", 2), ("", 2)] {
        let annotations = &mut world.schedule().metadata.annotations;
        annotations.insert(RUN_REQUESTED.to_owned(), asked.to_owned());
        world.settle();
        assert_eq!(world.made.len(), made, "{asked}");
    }
    assert_eq!(world.schedule().status.active.len(), 2);
}

#[test]
fn jobs_that_ended_are_kept_as_far_as_is_wanted() {
    let mut world = World::new(|spec| {
        spec.successful_jobs_history_limit = Some(2);
        spec.failed_jobs_history_limit = Some(0);
    });
    for (n, well) in [true, false, true, true].into_iter().enumerate() {
        world.live_until(&format!("2026-01-01T12:{}1:00Z", n + 1));
        world.end(well);
    }
    world.live_until("2026-01-01T12:49:00Z");
    let left: Vec<&str> = world.jobs.iter().map(|job| job.metadata.name.as_str()).collect();
    assert_eq!(left, [world.made[2].as_str(), world.made[3].as_str()]);
    assert_eq!(world.schedule().status.last_successful_time, Some(at("2026-01-01T12:41:00Z")));
}

#[test]
fn a_schedule_goes_after_its_jobs_or_leaves_them() {
    for orphan in [false, true] {
        let mut world = World::new(|_| {});
        world.live_until("2026-01-01T12:11:00Z");
        let now = world.now;
        let metadata = &mut world.schedule().metadata;
        metadata.deletion_timestamp = Some(now);
        metadata.annotations.insert(ORPHAN.to_owned(), orphan.to_string());
        world.settle();
        assert_eq!(world.schedule.is_none(), orphan, "it waits for its jobs");
        if !orphan {
            world.end(false);
            assert!(world.schedule.is_none());
        }
    }
}

#[test]
fn a_job_that_cannot_be_made_is_told_and_its_minute_is_over() {
    let mut world = World::new(|_| {});
    world.taken.insert(minute_name("nightly", "uid", at("2026-01-01T12:10:00Z")));
    world.live_until("2026-01-01T12:19:00Z");
    assert_eq!(world.told(words::NAME_TAKEN).len(), 1);
    world.refused = Some("spec.runtime.local.workdir: is outside");
    world.live_until("2026-01-01T12:29:00Z");
    assert_eq!(world.told(words::NOT_ALLOWED).len(), 1);
    let stalled = world.schedule().status.conditions.get(words::STALLED).cloned().unwrap();
    assert_eq!(stalled.message, "spec.jobTemplate.spec.runtime.local.workdir: is outside");
    world.refused = None;
    world.live_until("2026-01-01T12:31:00Z");
    assert_eq!(world.minutes(), [30]);
    assert_eq!(world.schedule().status.phase, "Active");
}

#[test]
fn a_long_name_leaves_room_for_the_minute() {
    let (a, b) = ("x".repeat(62), format!("{}y", "x".repeat(61)));
    let minute = at("2026-01-01T12:10:00Z");
    let names = [minute_name(&a, "u", minute), minute_name(&b, "v", minute)];
    assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
    assert_ne!(names[0], names[1]);
}

/// What may happen to a Schedule.
#[derive(Debug, Clone)]
enum Fate {
    /// Time goes on, and everybody looks.
    Live(u64),
    /// The clock is set, by so many seconds.
    Jump(i64),
    /// The server dies after so many of a plan's actions.
    Crash(usize),
    /// The Jobs that work end.
    End(bool),
    Suspend(bool),
    Line(&'static str),
    Policy(ConcurrencyPolicy),
    Missed(MissedRuns),
    Ask,
}

fn fate() -> impl Strategy<Value = Fate> {
    use ConcurrencyPolicy::{Allow, Forbid, Replace};
    prop_oneof![
        3 => (1..4000_u64).prop_map(Fate::Live),
        2 => (-100_000..400_000_i64).prop_map(Fate::Jump),
        3 => (0..3_usize).prop_map(Fate::Crash),
        2 => any::<bool>().prop_map(Fate::End),
        1 => any::<bool>().prop_map(Fate::Suspend),
        1 => prop::sample::select(vec!["*/10 * * * *", "* * * * *", "30 2 * * *"]).prop_map(Fate::Line),
        1 => prop::sample::select(vec![Allow, Forbid, Replace]).prop_map(Fate::Policy),
        1 => prop::sample::select(vec![MissedRuns::RunLast, MissedRuns::Skip]).prop_map(Fate::Missed),
        1 => Just(Fate::Ask),
    ]
}

proptest! {
    /// No minute is begun twice ([`World::apply`] sees to that), and the note of the last one never
    /// goes back, whatever happens in whatever order.
    #[test]
    fn each_due_minute_is_begun_at_most_once(fates in prop::collection::vec(fate(), 1..40)) {
        let mut world = World::new(|_| {});
        let mut last = None;
        let mut asked = 0;
        for fate in fates {
            match fate {
                Fate::Live(seconds) => {
                    // A minute's schedule over hours is many steps, and all alike.
                    let until = later(world.now, Duration::from_secs(seconds));
                    for _ in 0..20 {
                        world.settle();
                        match world.plan().again {
                            Some(again) if again <= until => world.now = world.now.max(again),
                            _ => break,
                        }
                    }
                    world.now = world.now.max(until);
                    world.settle();
                }
                Fate::Jump(seconds) => {
                    let seconds = jiff::SignedDuration::from_secs(seconds);
                    world.now = world.now.checked_add(seconds).unwrap();
                }
                Fate::Crash(kept) => {
                    for action in world.plan().actions.into_iter().take(kept) {
                        world.apply(action);
                    }
                    world.up_since = world.now;
                }
                Fate::End(well) => world.end(well),
                Fate::Suspend(suspend) => world.schedule().spec.suspend = suspend,
                Fate::Line(line) => world.schedule().spec.schedule = line.to_owned(),
                Fate::Policy(policy) => world.schedule().spec.concurrency_policy = policy,
                Fate::Missed(missed) => world.schedule().spec.missed_runs = missed,
                Fate::Ask => {
                    // Nobody asks twice with one value, which is a time.
                    asked += 1;
                    let annotations = &mut world.schedule().metadata.annotations;
                    annotations.insert(RUN_REQUESTED.to_owned(), asked.to_string());
                }
            }
            let noted = world.schedule().status.last_schedule_time;
            prop_assert!(noted >= last, "the note went back from {last:?} to {noted:?}");
            last = noted;
        }
        world.settle();
        prop_assert_eq!(world.plan().actions, Vec::new());
        let now = world.now;
        if let Some(again) = world.plan().again {
            prop_assert!(between(now, again) > Duration::ZERO, "{again} has passed at {now}");
        }
    }
}
