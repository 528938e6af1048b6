//! What to do for a Schedule, decided from what there is: pure, and the same for the same input.
//!
//! **What is due.** The due minutes behind the last one that was begun or skipped, and behind the time
//! from which they are counted: when the Schedule was made, when its line or zone was changed, when it
//! was resumed. Of several only the last can be begun; the others were missed, and that is told. A
//! minute is on time for as long as it lasts; later it is begun only where `missedRuns` says so, and
//! within `startingDeadline`.
//!
//! **What hinders.** While Jobs still work, `Forbid` skips the minute, `Allow` begins it beside them,
//! and `Replace` notes that it is pending, cancels them, and begins it once they are gone: a newer
//! minute takes its place meanwhile. Only what was there before the minute makes way for it; and where
//! the policy has changed meanwhile, the new one decides. To wait like this is not to be late, save
//! that a minute that waited when the server went down is as late as it was when the server came back.
//! Whatever becomes of a minute, it is noted and told, and not looked at again.
//!
//! **A run that somebody asks for** is made at once, whatever the policy says, also while the Schedule
//! is suspended; the request's value is noted with it. No minute that pends already takes it away.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::super::{
    hands::sooner,
    made::{Note, ended, is_held, kept_until, leaves_orphans, own},
    words,
};
use crate::{
    ambient::{between, later},
    resource::{
        ConcurrencyPolicy,
        ConditionStatus::{False, True},
        DEFAULT_FAILED_JOBS_KEPT, DEFAULT_SUCCESSFUL_JOBS_KEPT, Job, Kind, LEAST_STARTING_DEADLINE,
        MissedRuns, SCHEDULE_LABEL, SCHEDULED_AT, Schedule, ScheduleStatus,
        cron::Cron,
        validate::MAX_NAME,
    },
};

/// A due minute is on time for so long.
const ON_TIME: Duration = Duration::from_secs(60);
/// Missed minutes are counted up to this.
const MOST_COUNTED: usize = 100;
/// A last due minute so far ahead of the clock is worth telling.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// All that is decided from.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// The Schedule.
    pub(super) schedule: &'a Schedule,
    /// The Jobs that it controls.
    pub(super) jobs: &'a [Job],
    /// Names that others hold.
    pub(super) taken: &'a BTreeSet<String>,
    /// Why its Jobs may not be made on this server, if they may not.
    pub(super) refused: Option<&'a str>,
    /// When this server started.
    pub(super) up_since: Timestamp,
    /// Now.
    pub(super) now: Timestamp,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Hold the Schedule while Jobs of it may exist.
    AddFinalizer,
    /// Make a Job, and note its minute or request with it.
    CreateJob { job: Box<Job>, status: Box<ScheduleStatus>, notes: Vec<Note> },
    /// Write the status, and tell what became of due minutes.
    WriteStatus { status: Box<ScheduleStatus>, notes: Vec<Note> },
    /// End a Job that makes way.
    CancelJob(Box<Job>),
    /// Delete a Job.
    DeleteJob(Box<Job>),
    /// Let a Job go from the Schedule.
    ReleaseJob(Box<Job>),
    /// Let the Schedule go.
    DropFinalizer,
}

/// What to do now, in order, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) again: Option<Timestamp>,
}

impl Plan {
    /// The name of the Job that it makes.
    pub(super) fn new_name(&self) -> Option<&str> {
        self.actions.iter().find_map(|action| match action {
            Action::CreateJob { job, .. } => Some(job.metadata.name.as_str()),
            _ => None,
        })
    }
}

/// Decides.
pub(super) fn plan(view: &View<'_>) -> Plan {
    let View { schedule, now, .. } = *view;
    if schedule.metadata.is_deleting() {
        return plan_deletion(view);
    }
    if !is_held(&schedule.metadata) {
        return Plan { actions: vec![Action::AddFinalizer], again: None };
    }
    let mut draft = Draft { view, status: gather(view), notes: Vec::new(), job: None };
    let cron = Cron::read(&schedule.spec.schedule, schedule.spec.time_zone.as_deref());
    draft.count_from();
    draft.obey_request();
    if draft.job.is_none()
        && let Ok(cron) = &cron
    {
        draft.judge(cron);
    }
    let trouble = match &cron {
        Err(bad) => Some((words::BAD_SCHEDULE, bad.to_string())),
        Ok(_) => draft.trouble(),
    };
    let next = match &cron {
        Ok(cron) if !schedule.spec.suspend => cron.next(draft.behind().max(now)),
        _ => None,
    };
    draft.status.next_schedule_time = next;
    dress(&mut draft.status, schedule, trouble, now);
    let mut plan = Plan { actions: Vec::new(), again: next };
    let pending = draft.status.pending_schedule_time;
    let Draft { status, notes, job, .. } = draft;
    let status = Box::new(status);
    match job {
        Some(job) => plan.actions.push(Action::CreateJob { job: Box::new(job), status, notes }),
        None if *status != schedule.status => {
            plan.actions.push(Action::WriteStatus { status, notes });
        }
        None => {}
    }
    if let Some(minute) = pending {
        let going = making_way(view, minute).filter(|job| !job.spec.cancel);
        plan.actions.extend(going.map(|job| Action::CancelJob(Box::new(job.clone()))));
    }
    let history = history(view);
    plan.actions.extend(history.actions);
    plan.again = sooner(plan.again, history.again);
    plan
}

/// Deletion: delete the Jobs, or let them go; wait until none is left; let go.
fn plan_deletion(view: &View<'_>) -> Plan {
    let metadata = &view.schedule.metadata;
    let orphans = leaves_orphans(metadata);
    let mut actions: Vec<Action> = view
        .jobs
        .iter()
        .filter(|job| orphans || !job.metadata.is_deleting())
        .map(|job| Box::new(job.clone()))
        .map(|job| if orphans { Action::ReleaseJob(job) } else { Action::DeleteJob(job) })
        .collect();
    if view.jobs.is_empty() && is_held(metadata) {
        actions.push(Action::DropFinalizer);
    }
    Plan { actions, again: None }
}

/// The Jobs that work and make way for a due minute: those that were made for other minutes, and those
/// that somebody asked for before it. Whoever asks for one later has seen that the minute pends.
fn making_way<'a>(view: &View<'a>, minute: Timestamp) -> impl Iterator<Item = &'a Job> {
    view.jobs.iter().filter(move |job| {
        let metadata = &job.metadata;
        let was_due = metadata.annotations.contains_key(SCHEDULED_AT);
        let before = metadata.creation_timestamp.is_none_or(|made| made < minute);
        ended(job).is_none() && (was_due || before)
    })
}

/// What the Jobs show: the part of the status that is plain observation.
fn gather(view: &View<'_>) -> ScheduleStatus {
    let mut status = view.schedule.status.clone();
    status.observed_generation = view.schedule.metadata.generation;
    let working = view.jobs.iter().filter(|job| ended(job).is_none());
    status.active = working.map(|job| job.metadata.name.clone()).collect();
    let well = view.jobs.iter().filter(|job| ended(job) == Some(true));
    let last = well.filter_map(|job| job.status.completion_time).max();
    status.last_successful_time = status.last_successful_time.max(last);
    status
}

/// A status on its way, and what is decided with it.
struct Draft<'a, 'v> {
    view: &'a View<'v>,
    status: ScheduleStatus,
    notes: Vec<Note>,
    job: Option<Job>,
}

impl Draft<'_, '_> {
    /// From which time on due minutes count.
    fn count_from(&mut self) {
        let View { schedule, now, .. } = *self.view;
        let spec = &schedule.spec;
        let zone = spec.time_zone.as_deref().unwrap_or("UTC");
        let by = format!("{} {zone}", spec.schedule);
        let status = &mut self.status;
        let resumed = status.conditions.is_true(words::SUSPENDED) && !spec.suspend;
        match status.counted_by.as_ref() {
            None => {
                // Made while nobody looked: its minutes count from then on.
                status.counted_from = schedule.metadata.creation_timestamp.or(Some(now));
            }
            Some(was) if *was != by || resumed => {
                // It does not go back with the clock: what was not to be begun is noted here alone.
                status.counted_from = Some(now);
                self.drop_pending("the schedule was changed");
            }
            Some(_) => {}
        }
        self.status.counted_by = Some(by);
    }

    /// What waited is not begun any more.
    fn drop_pending(&mut self, why: &str) {
        if let Some(minute) = self.status.pending_schedule_time.take() {
            let text = format!("{minute} waited for other jobs to end, and was not begun: {why}");
            self.skip(minute, words::MISSED, text);
        }
    }

    /// Notes that a minute was begun or skipped. The note never goes back.
    fn note_minute(&mut self, minute: Timestamp) {
        self.status.last_schedule_time = self.status.last_schedule_time.max(Some(minute));
    }

    /// Behind this time due minutes lie that nothing was decided about.
    fn behind(&self) -> Timestamp {
        let status = &self.status;
        let times = [status.last_schedule_time, status.counted_from, status.pending_schedule_time];
        times.into_iter().flatten().max().unwrap_or(self.view.now)
    }

    /// Makes the Job that somebody asks for now, once for each value of the request.
    fn obey_request(&mut self) {
        let Some(asked) = self.view.schedule.asked_run() else { return };
        let metadata = &self.view.schedule.metadata;
        self.status.last_handled_run_at = Some(asked.to_owned());
        let name = run_name(&metadata.name, &metadata.uid, asked);
        if let Some(job) = self.new_job(&name, None) {
            let text = format!("made job {name}, because somebody asked for it");
            self.notes.push(Note::plain(words::RUN_REQUESTED, text));
            self.begin(job);
        }
    }

    /// What becomes of the last due minute.
    fn judge(&mut self, cron: &Cron) {
        let View { schedule, now, .. } = *self.view;
        let spec = &schedule.spec;
        if spec.suspend {
            return self.drop_pending("the schedule is suspended");
        }
        let behind = self.behind();
        let Some(minute) = cron.last(behind, now) else { return self.begin_pending() };
        let mut missed = cron.count(behind, minute, MOST_COUNTED + 2).saturating_sub(1);
        missed += usize::from(self.status.pending_schedule_time.take().is_some());
        if missed > 0 {
            let text = match missed {
                1 => format!("1 due minute before {minute} was missed"),
                2..=MOST_COUNTED => format!("{missed} due minutes before {minute} were missed"),
                _ => format!("more than {MOST_COUNTED} due minutes before {minute} were missed"),
            };
            self.notes.push(Note::warning(words::MISSED, text));
        }
        if !self.is_too_late(minute, between(minute, now)) {
            self.decide(minute);
        }
    }

    /// Whether a minute is not begun any more because it is so late; then that is told.
    fn is_too_late(&mut self, minute: Timestamp, late: Duration) -> bool {
        let spec = &self.view.schedule.spec;
        // Nothing is begun in the very moment in which it is due.
        let most = spec.starting_deadline.map(|most| most.max(LEAST_STARTING_DEADLINE));
        let overdue = most.filter(|most| late > most.as_duration());
        let (reason, text) = if let Some(most) = overdue {
            let text = format!("{minute} was due longer than {most} ago, and was not begun");
            (words::TOO_LATE, text)
        } else if late >= ON_TIME && spec.missed_runs == MissedRuns::Skip {
            let text = match self.status.pending_schedule_time {
                Some(pending) if pending == minute => format!(
                    "{minute} waited for other jobs when the server went down, and was not begun"
                ),
                _ => format!("{minute} passed while nobody looked, and was not begun"),
            };
            (words::MISSED, text)
        } else {
            return false;
        };
        self.status.pending_schedule_time = None;
        self.skip(minute, reason, text);
        true
    }

    /// What becomes of a minute that is to begin, by the policy.
    fn decide(&mut self, minute: Timestamp) {
        match self.view.schedule.spec.concurrency_policy {
            _ if self.status.active.is_empty() => self.make(minute),
            ConcurrencyPolicy::Allow => self.make(minute),
            ConcurrencyPolicy::Forbid => {
                let still = self.status.active.join(", ");
                let text = format!("{minute} was not begun, because job {still} still works");
                self.status.pending_schedule_time = None;
                self.skip(minute, words::STILL_ACTIVE, text);
            }
            ConcurrencyPolicy::Replace => {
                let going = making_way(self.view, minute).map(|job| job.metadata.name.as_str());
                let going: Vec<&str> = going.collect();
                if going.is_empty() {
                    return self.make(minute);
                }
                if self.status.pending_schedule_time != Some(minute) {
                    let text =
                        format!("{minute} begins once job {} is cancelled", going.join(", "));
                    self.notes.push(Note::plain(words::REPLACING_JOBS, text));
                    self.status.pending_schedule_time = Some(minute);
                }
            }
        }
    }

    /// Begins what waits, if it can. To wait for Jobs does not count as late; that the server was down
    /// does: until it started again nobody looked.
    fn begin_pending(&mut self) {
        let View { up_since, now, .. } = *self.view;
        if let Some(minute) = self.status.pending_schedule_time
            && !self.is_too_late(minute, between(minute, up_since.min(now)))
        {
            self.decide(minute);
        }
    }

    fn skip(&mut self, minute: Timestamp, reason: &'static str, text: String) {
        self.notes.push(Note::warning(reason, text));
        self.note_minute(minute);
    }

    /// Makes a minute's Job. Whatever becomes of that, the minute is noted.
    fn make(&mut self, minute: Timestamp) {
        self.status.pending_schedule_time = None;
        self.note_minute(minute);
        let metadata = &self.view.schedule.metadata;
        let name = minute_name(&metadata.name, &metadata.uid, minute);
        if let Some(job) = self.new_job(&name, Some(minute)) {
            let text = format!("made job {name} for {minute}");
            self.notes.push(Note::plain(words::JOB_CREATED, text));
            self.begin(job);
        }
    }

    fn begin(&mut self, job: Job) {
        self.status.active.push(job.metadata.name.clone());
        self.job = Some(job);
    }

    /// A Job of this name; or why there can be none, told.
    fn new_job(&mut self, name: &str, minute: Option<Timestamp>) -> Option<Job> {
        let View { schedule, jobs, taken, refused, .. } = *self.view;
        if jobs.iter().any(|job| job.metadata.name == name) {
            // Made before, by a server whose note was lost with its store.
            return None;
        }
        if let Some(why) = refused {
            let text = format!("job {name} was not made: {why}");
            self.notes.push(Note::warning(words::NOT_ALLOWED, text));
            return None;
        }
        if taken.contains(name) {
            let text = format!("job {name} is there already and belongs to others; none was made");
            self.notes.push(Note::warning(words::NAME_TAKEN, text));
            return None;
        }
        let template = &schedule.spec.job_template;
        let mut job = Job::new(name, template.spec.clone());
        job.metadata.labels.clone_from(&template.metadata.labels);
        job.metadata.annotations.clone_from(&template.metadata.annotations);
        job.metadata.labels.insert(SCHEDULE_LABEL.to_owned(), schedule.metadata.name.clone());
        if let Some(minute) = minute {
            job.metadata.annotations.insert(SCHEDULED_AT.to_owned(), minute.to_string());
        }
        own(&mut job.metadata, Kind::Schedule, &schedule.metadata);
        Some(job)
    }

    /// What keeps the Schedule from its work.
    fn trouble(&self) -> Option<(&'static str, String)> {
        let View { schedule, refused, now, .. } = *self.view;
        if let Some(why) = refused {
            return Some((words::NOT_ALLOWED, why.replacen("spec.", "spec.jobTemplate.spec.", 1)));
        }
        let is_ahead = |time: &Timestamp| *time > later(now, CLOCK_SLACK);
        let begun = self.status.last_schedule_time.filter(is_ahead);
        let counted = self.status.counted_from.filter(is_ahead);
        // Of the clock no more than the day, so that it is not written anew with each look.
        let today = now.strftime("%F");
        let text = match (begun, counted) {
            _ if schedule.spec.suspend => return None,
            (Some(last), _) => format!(
                "the clock shows {today}, and {last} was begun already; nothing is due before that: \
                 mend the clock, or make the schedule anew"
            ),
            (None, Some(from)) => format!(
                "the clock shows {today}, and due minutes count from {from}, when the schedule was \
                 made, changed or resumed; nothing is due before that: mend the clock, or suspend the \
                 schedule and resume it"
            ),
            (None, None) => return None,
        };
        Some((words::CLOCK_BEHIND, text))
    }
}

/// The Jobs that ended and are more than are kept, the oldest first.
fn history(view: &View<'_>) -> Plan {
    let spec = &view.schedule.spec;
    let mut plan = Plan::default();
    for (well, kept) in [
        (true, spec.successful_jobs_history_limit.unwrap_or(DEFAULT_SUCCESSFUL_JOBS_KEPT)),
        (false, spec.failed_jobs_history_limit.unwrap_or(DEFAULT_FAILED_JOBS_KEPT)),
    ] {
        let mut over: Vec<&Job> = view
            .jobs
            .iter()
            .filter(|job| ended(job) == Some(well) && !job.metadata.is_deleting())
            .collect();
        over.sort_by_key(|job| (job.metadata.creation_timestamp, &job.metadata.name));
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        over.truncate(over.len().saturating_sub(kept));
        for job in over {
            match kept_until(job).filter(|until| *until > view.now) {
                Some(until) => plan.again = sooner(plan.again, Some(until)),
                None => plan.actions.push(Action::DeleteJob(Box::new(job.clone()))),
            }
        }
    }
    plan
}

/// Conditions and the word for people.
fn dress(
    status: &mut ScheduleStatus,
    schedule: &Schedule,
    trouble: Option<(&'static str, String)>,
    now: Timestamp,
) {
    let generation = schedule.metadata.generation;
    let conditions = &mut status.conditions;
    let suspended = schedule.spec.suspend;
    if suspended {
        conditions.set(words::SUSPENDED, True, words::SUSPENDED, "", generation, now);
    } else {
        conditions.remove(words::SUSPENDED);
    }
    let phase = match (trouble, suspended) {
        (Some((reason, message)), _) => {
            conditions.set(words::STALLED, True, reason, message.as_str(), generation, now);
            conditions.set(words::READY, False, reason, message, generation, now);
            "Failing"
        }
        (None, true) => {
            conditions.remove(words::STALLED);
            conditions.set(words::READY, False, words::SUSPENDED, "", generation, now);
            "Suspended"
        }
        (None, false) => {
            conditions.remove(words::STALLED);
            conditions.set(words::READY, True, words::SCHEDULED, "", generation, now);
            if status.active.is_empty() { "Scheduled" } else { "Active" }
        }
    };
    phase.clone_into(&mut status.phase);
}

/// The name of a due minute's Job: the minutes since 1970 stand behind the Schedule's.
pub(super) fn minute_name(schedule: &str, uid: &str, minute: Timestamp) -> String {
    named(schedule, uid, &minute.as_second().div_euclid(60).to_string())
}

/// The name of the Job that a request makes.
fn run_name(schedule: &str, uid: &str, asked: &str) -> String {
    named(schedule, uid, &format!("run-{}", digest(&format!("{uid}\n{asked}"))))
}

/// A DNS label; a Schedule's name that is too long is cut, and a hash of its uid stands behind it.
fn named(schedule: &str, uid: &str, tail: &str) -> String {
    let room = MAX_NAME - tail.len() - 1;
    if schedule.len() <= room {
        return format!("{schedule}-{tail}");
    }
    let digest = digest(uid);
    let cut: String = schedule.chars().take(room - digest.len() - 1).collect();
    format!("{}-{digest}-{tail}", cut.trim_end_matches('-'))
}

/// Eight hexadecimal digits.
fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
