//! What to do for a Job, decided from what there is: pure, and the same for the same input.
//!
//! **What counts.** An attempt counts once its reporter said hello. One that was lost before is
//! nobody's failure: it is made again, after a while, a few times. One that ended otherwise than
//! well is tried again while `retries` last, whatever the cause (the agent failed, a time-out, its
//! workspace or its binary could not be had), save when somebody cancelled it.
//!
//! **How it ends.** In two stages: `SuccessCriteriaMet` or `FailureTarget` as soon as the end is
//! decided, from when on nothing can change it; `Complete` or `Failed` once every Sprite is over.
//! So who reads `Failed` knows that nothing still runs. From then on only time to live and
//! deletion move the Job.

use std::time::Duration;

use jiff::Timestamp;

use super::super::{
    attempt::{
        has_gap, is_over, is_stopping, new_sprite, over_since, said_hello, sprite_name, was_lost,
    },
    hands::sooner,
    made::KEPT_AT_LEAST,
    words,
};
use crate::{
    ambient::later,
    resource::{
        Artifact, ConditionStatus, Cost, DEFAULT_JOB_TIMEOUT, DEFAULT_JOB_TTL, ExitReason,
        ExitStatus, FINALIZER_SPRITES, Job, JobStatus, Kind, PermissionMode, Sprite, SpriteSpec,
    },
};

/// The reporter enforces the timeout; if it has not so long after, its owner does.
const BACKSTOP: Duration = Duration::from_secs(60);
/// The longest that one approval may wait, during which the clock stands.
const APPROVAL_WAIT: Duration = Duration::from_secs(3600);
/// The first wait before another attempt, doubled each time.
const RETRY_BASE: Duration = Duration::from_secs(1);
/// The longest wait before another attempt.
const RETRY_CAP: Duration = Duration::from_secs(300);
/// So many Sprites may be lost in a row before they said hello.
const LOSSES: usize = 5;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Hold the Job while Sprites of it may exist.
    AddFinalizer,
    /// Make the next attempt, and note its number.
    CreateSprite(Box<Sprite>, Box<JobStatus>),
    /// Tell an attempt to end.
    StopSprite(Box<Sprite>),
    /// Delete an attempt.
    DeleteSprite(Box<Sprite>),
    /// Write the status.
    WriteStatus(Box<JobStatus>),
    /// Let the Job go.
    DropFinalizer,
    /// Delete the Job, whose time to live is over.
    Delete,
}

/// What to do now, in order, and when to look again.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) again: Option<Timestamp>,
}

/// How a Job will have ended.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    well: bool,
    reason: &'static str,
    message: String,
}

/// What to do about the attempts.
enum Verdict {
    /// The end is decided.
    End(End),
    /// Make the next attempt.
    Create,
    /// Tell the live attempt to end.
    Stop(ExitReason),
    /// Wait for something to change, or for a time.
    Wait(Option<Timestamp>),
}

/// Decides.
///
/// `sprites` are the Job's own, by number; `approvals` is how many its live Sprite has asked for.
pub(super) fn plan(job: &Job, sprites: &[Sprite], approvals: usize, now: Timestamp) -> Plan {
    if job.metadata.is_deleting() {
        return plan_deletion(job, sprites);
    }
    if is_finished(&job.status) {
        return plan_rest(job, now);
    }
    if !job.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER_SPRITES) {
        return Plan { actions: vec![Action::AddFinalizer], again: None };
    }
    let mut status = gather(job, sprites);
    let mut plan = Plan::default();
    let verdict = match decided(&status) {
        Some(_) => Verdict::Wait(None),
        None => judge(job, &status, sprites, approvals, now),
    };
    match verdict {
        Verdict::End(end) => set_target(&mut status, &end, job.metadata.generation, now),
        Verdict::Create => {
            let n = status.incarnation + 1;
            status.incarnation = n;
            status.sprite = Some(sprite_name(&job.metadata.name, &job.metadata.uid, n));
            let sprite = new_sprite(Kind::Job, &job.metadata, sprite_spec(job, n));
            dress(&mut status, job, Some(&sprite), sprites, now);
            let (sprite, status) = (Box::new(sprite), Box::new(status));
            return Plan { actions: vec![Action::CreateSprite(sprite, status)], again: None };
        }
        Verdict::Stop(reason) => {
            for sprite in sprites.iter().filter(|sprite| !is_over(sprite) && !is_stopping(sprite)) {
                let mut sprite = sprite.clone();
                sprite.spec.stop = Some(reason);
                plan.actions.push(Action::StopSprite(Box::new(sprite)));
            }
        }
        Verdict::Wait(again) => plan.again = again,
    }
    dress(&mut status, job, sprites.last(), sprites, now);
    if status != job.status {
        plan.actions.push(Action::WriteStatus(Box::new(status)));
    }
    plan
}

fn is_finished(status: &JobStatus) -> bool {
    status.conditions.is_true(words::COMPLETE) || status.conditions.is_true(words::FAILED)
}

/// The end that was decided before, if it was.
fn decided(status: &JobStatus) -> Option<bool> {
    if status.conditions.is_true(words::SUCCESS_CRITERIA_MET) {
        Some(true)
    } else if status.conditions.is_true(words::FAILURE_TARGET) {
        Some(false)
    } else {
        None
    }
}

/// Deletion: cancel and delete the Sprites, wait until they are gone, let go.
fn plan_deletion(job: &Job, sprites: &[Sprite]) -> Plan {
    let mut actions: Vec<Action> = sprites
        .iter()
        .filter(|sprite| !sprite.metadata.is_deleting())
        .map(|sprite| Action::DeleteSprite(Box::new(sprite.clone())))
        .collect();
    let held = job.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER_SPRITES);
    if sprites.is_empty() && held {
        actions.push(Action::DropFinalizer);
    }
    Plan { actions, again: None }
}

/// After its end a Job is left alone until its time to live is over, and for a while in any case: who
/// reports it, and a Fleet that notes how each of its Jobs ended, must have seen the end. What may be
/// changed of it then changes nothing of how it ended, and whoever waits for that must not wait for ever:
/// clients take a condition for old that speaks of an older generation.
fn plan_rest(job: &Job, now: Timestamp) -> Plan {
    let mut actions = Vec::new();
    if job.status.observed_generation != job.metadata.generation {
        let mut status = job.status.clone();
        status.observed_generation = job.metadata.generation;
        status.conditions.hold_for(job.metadata.generation);
        actions.push(Action::WriteStatus(Box::new(status)));
    }
    let ttl = job.spec.ttl_after_finished.unwrap_or(DEFAULT_JOB_TTL).as_duration();
    let ttl = ttl.max(KEPT_AT_LEAST);
    let Some(end) = job.status.completion_time.map(|end| later(end, ttl)) else {
        return Plan { actions, again: None };
    };
    if now >= end {
        Plan { actions: vec![Action::Delete], again: None }
    } else {
        Plan { actions, again: Some(end) }
    }
}

/// What the attempts show: the part of the status that is plain observation.
fn gather(job: &Job, sprites: &[Sprite]) -> JobStatus {
    let mut status = job.status.clone();
    status.observed_generation = job.metadata.generation;
    let newest = sprites.last().map_or(0, |sprite| sprite.spec.attempt);
    status.incarnation = status.incarnation.max(newest);
    // One that somebody deleted counts: it may have worked.
    let silent = sprites.iter().filter(|sprite| !said_hello(sprite)).count();
    let silent = u32::try_from(silent).unwrap_or(u32::MAX);
    status.attempts = status.attempts.max(status.incarnation.saturating_sub(silent));
    let hello = sprites.iter().filter_map(|sprite| sprite.status.hello_time).min();
    status.start_time = status.start_time.or(hello);
    if let Some(last) = sprites.last() {
        status.sprite = Some(last.metadata.name.clone());
        status.exit_code = last.status.exit.as_ref().and_then(|exit| exit.code);
    }
    for artifact in sprites.iter().flat_map(|sprite| &sprite.status.artifacts) {
        let known = |other: &Artifact| other.name == artifact.name && other.url == artifact.url;
        if !status.artifacts.iter().any(known) {
            status.artifacts.push(artifact.clone());
        }
    }
    status.cost = spent(&status.cost, sprites);
    status
}

/// What all attempts used; never less than was known, for a Sprite may have been deleted.
fn spent(known: &Cost, sprites: &[Sprite]) -> Cost {
    let sum = |part: fn(&Cost) -> u64| {
        let total =
            sprites.iter().map(|sprite| part(&sprite.status.cost)).fold(0, u64::saturating_add);
        total.max(part(known))
    };
    Cost {
        micro_usd: sum(|cost| cost.micro_usd),
        input_tokens: sum(|cost| cost.input_tokens),
        output_tokens: sum(|cost| cost.output_tokens),
    }
}

fn judge(
    job: &Job,
    status: &JobStatus,
    sprites: &[Sprite],
    approvals: usize,
    now: Timestamp,
) -> Verdict {
    let deadline = job
        .spec
        .deadline
        .and_then(|deadline| Some(later(status.start_time?, deadline.as_duration())));
    let too_late = deadline.is_some_and(|deadline| now >= deadline);
    let last = sprites.last().filter(|last| last.spec.attempt == status.incarnation);
    match last {
        None if status.incarnation == 0 => {
            if job.spec.cancel {
                Verdict::End(cancelled())
            } else {
                Verdict::Create
            }
        }
        // Somebody deleted the last attempt, with its record. Others may still be on their way out.
        None => {
            let end = End {
                well: false,
                reason: words::SPRITE_DELETED,
                message: "its sprite was deleted".to_owned(),
            };
            again_or(job, status, sprites, end, None, deadline, now)
        }
        Some(last) if was_lost(last) => {
            let losses = sprites.iter().rev().take_while(|sprite| was_lost(sprite)).count();
            if job.spec.cancel {
                return Verdict::End(cancelled());
            }
            if losses > LOSSES {
                return Verdict::End(End {
                    well: false,
                    reason: words::SPRITE_LOST,
                    message: format!("{losses} sprites in a row were lost before they could work"),
                });
            }
            let at = over_since(last).map(|since| later(since, pause(losses)));
            wait_or_create(at, deadline, now)
        }
        Some(last) => match &last.status.exit {
            Some(exit) => {
                let end = end_of(exit);
                if end.well || exit.reason == ExitReason::Cancelled {
                    return Verdict::End(end);
                }
                // The reporter says that its time was over: it was all attempts' time.
                if too_late && exit.reason == ExitReason::TimedOut {
                    return Verdict::End(overdue(job));
                }
                again_or(job, status, sprites, end, over_since(last), deadline, now)
            }
            None if is_over(last) => {
                let end = end_of(&ExitStatus {
                    code: None,
                    signal: None,
                    reason: ExitReason::ReporterLost,
                    message: String::new(),
                });
                again_or(job, status, sprites, end, over_since(last), deadline, now)
            }
            None if is_stopping(last) => Verdict::Wait(None),
            None if job.spec.cancel => Verdict::Stop(ExitReason::Cancelled),
            None => {
                let backstop = backstop(job, last, approvals);
                let limit = sooner(backstop, deadline);
                if limit.is_some_and(|limit| now >= limit) {
                    Verdict::Stop(ExitReason::TimedOut)
                } else {
                    Verdict::Wait(limit)
                }
            }
        },
    }
}

/// When the reporter must have ended an attempt by itself.
fn backstop(job: &Job, sprite: &Sprite, approvals: usize) -> Option<Timestamp> {
    let provisioned = sprite.status.conditions.get(words::PROVISIONED);
    let since = sprite
        .status
        .hello_time
        .or_else(|| provisioned.map(|condition| condition.last_transition_time))?;
    let timeout = job.spec.timeout.unwrap_or(DEFAULT_JOB_TIMEOUT).as_duration();
    let approvals = u32::try_from(approvals).unwrap_or(u32::MAX);
    let waits = APPROVAL_WAIT.saturating_mul(approvals);
    Some(later(since, timeout.saturating_add(BACKSTOP).saturating_add(waits)))
}

/// After an attempt that did not end well: another one, or this end.
fn again_or(
    job: &Job,
    status: &JobStatus,
    sprites: &[Sprite],
    end: End,
    over: Option<Timestamp>,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> Verdict {
    let lost = sprites.iter().filter(|sprite| was_lost(sprite)).count();
    let lost = u32::try_from(lost).unwrap_or(u32::MAX);
    let failures = status.incarnation.saturating_sub(lost);
    if failures > job.spec.retries {
        let message = if job.spec.retries > 0 {
            format!("{} (attempt {failures} of {failures})", end.message)
        } else {
            end.message
        };
        return Verdict::End(End { message, ..end });
    }
    if job.spec.cancel {
        return Verdict::End(cancelled());
    }
    if deadline.is_some_and(|deadline| now >= deadline) {
        return Verdict::End(overdue(job));
    }
    // The next one only when nothing of any other is left.
    if !sprites.iter().all(is_over) {
        return Verdict::Wait(deadline);
    }
    let failures = usize::try_from(failures).unwrap_or(usize::MAX);
    wait_or_create(over.map(|over| later(over, pause(failures))), deadline, now)
}

fn wait_or_create(at: Option<Timestamp>, deadline: Option<Timestamp>, now: Timestamp) -> Verdict {
    match at {
        Some(at) if at > now => Verdict::Wait(sooner(Some(at), deadline)),
        _ => Verdict::Create,
    }
}

/// How long to wait after so many attempts.
fn pause(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    RETRY_BASE.saturating_mul(1 << doublings).min(RETRY_CAP)
}

fn cancelled() -> End {
    End { well: false, reason: words::CANCELLED, message: "cancelled".to_owned() }
}

fn overdue(job: &Job) -> End {
    let deadline = job.spec.deadline.map(|deadline| deadline.to_string()).unwrap_or_default();
    End {
        well: false,
        reason: words::DEADLINE_EXCEEDED,
        message: format!("not done within its deadline of {deadline}"),
    }
}

/// What an attempt's exit makes of the Job, if it is the last one.
fn end_of(exit: &ExitStatus) -> End {
    let (well, reason, plain) = match exit.reason {
        ExitReason::Completed => (true, words::COMPLETED, String::new()),
        ExitReason::Cancelled => (false, words::CANCELLED, "cancelled".to_owned()),
        ExitReason::TimedOut => (false, words::TIMED_OUT, "took too long".to_owned()),
        ExitReason::IdleTimedOut => {
            (false, words::IDLE_TIMED_OUT, "was silent for too long".to_owned())
        }
        ExitReason::WorkspaceFailed => {
            (false, words::WORKSPACE_FAILED, "its work directory could not be had".to_owned())
        }
        ExitReason::StartFailed => {
            (false, words::START_FAILED, "its agent could not be started".to_owned())
        }
        ExitReason::OutOfMemory => {
            (false, words::OUT_OF_MEMORY, "its machine ran out of memory".to_owned())
        }
        ExitReason::ReporterLost | ExitReason::Abandoned | ExitReason::Superseded => {
            (false, words::SPRITE_LOST, "its sprite was lost in the middle of its work".to_owned())
        }
        _ => (false, words::AGENT_FAILED, plain_end(exit)),
    };
    let message = if exit.message.is_empty() { plain } else { exit.message.clone() };
    End { well, reason, message }
}

fn plain_end(exit: &ExitStatus) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

fn set_target(status: &mut JobStatus, end: &End, generation: u64, now: Timestamp) {
    let target = if end.well { words::SUCCESS_CRITERIA_MET } else { words::FAILURE_TARGET };
    let message = end.message.clone();
    status.conditions.set(target, ConditionStatus::True, end.reason, message, generation, now);
}

/// The part of the status that follows from the rest: the end, what hinders, the phase.
fn dress(
    status: &mut JobStatus,
    job: &Job,
    last: Option<&Sprite>,
    sprites: &[Sprite],
    now: Timestamp,
) {
    let generation = job.metadata.generation;
    let live = last.filter(|last| !is_over(last));
    // What the live attempt says of itself, the Job says too.
    for kind in [words::STALLED, words::WAITING_FOR_APPROVAL] {
        let conditions = &mut status.conditions;
        let condition = live
            .and_then(|live| live.status.conditions.get(kind))
            .filter(|condition| condition.status == ConditionStatus::True);
        match condition {
            Some(why) => {
                let (reason, message) = (why.reason.clone(), why.message.clone());
                conditions.set(kind, ConditionStatus::True, &reason, message, generation, now);
            }
            None => conditions.remove(kind),
        }
    }
    if let Some(well) = decided(status)
        && sprites.iter().all(is_over)
    {
        finish(status, well, sprites, generation, now);
    }
    status.phase = phase(status, last).to_owned();
}

/// The second stage of the end: nothing runs any more.
fn finish(status: &mut JobStatus, well: bool, sprites: &[Sprite], generation: u64, now: Timestamp) {
    let (target, end) = if well {
        (words::SUCCESS_CRITERIA_MET, words::COMPLETE)
    } else {
        (words::FAILURE_TARGET, words::FAILED)
    };
    let Some(target) = status.conditions.get(target) else { return };
    let (reason, mut message) = (target.reason.clone(), target.message.clone());
    if sprites.last().is_some_and(has_gap) {
        let gap = "the end of its output may be missing";
        message = if message.is_empty() { gap.to_owned() } else { format!("{message}; {gap}") };
    }
    let missing =
        sprites.iter().fold(0, |sum: u64, it| sum.saturating_add(it.status.missing_bytes));
    if missing > 0 {
        let gap = format!("the output is not whole: {missing} bytes are missing");
        message = if message.is_empty() { gap } else { format!("{message}; {gap}") };
    }
    status.message.clone_from(&message);
    status.completion_time = Some(now);
    status.conditions.remove(words::STALLED);
    status.conditions.set(end, ConditionStatus::True, &reason, message, generation, now);
}

/// The word for people.
fn phase(status: &JobStatus, last: Option<&Sprite>) -> &'static str {
    let conditions = &status.conditions;
    if conditions.is_true(words::COMPLETE) {
        return "Succeeded";
    }
    if let Some(failed) = conditions.get(words::FAILED) {
        return match failed.reason.as_str() {
            words::CANCELLED => "Cancelled",
            words::TIMED_OUT | words::IDLE_TIMED_OUT | words::DEADLINE_EXCEEDED => "TimedOut",
            _ => "Failed",
        };
    }
    match last {
        None => "Pending",
        Some(last) if is_over(last) => "Pending",
        Some(last) if said_hello(last) => "Running",
        Some(last) if last.status.conditions.is_true(words::ADMITTED) => "Starting",
        Some(_) => "Pending",
    }
}

/// What an attempt is to be.
fn sprite_spec(job: &Job, attempt: u32) -> SpriteSpec {
    let spec = &job.spec;
    let mut permissions = spec.permissions.clone();
    permissions.mode = permissions.mode.or(Some(PermissionMode::Bypass));
    SpriteSpec {
        agent: spec.agent.clone(),
        runtime: spec.runtime.clone(),
        task: Some(spec.task.clone()),
        repo: spec.repo.clone(),
        instructions: spec.instructions.clone(),
        permissions,
        env: spec.env.clone(),
        timeout: Some(spec.timeout.unwrap_or(DEFAULT_JOB_TIMEOUT)),
        idle_timeout: spec.idle_timeout,
        session: None,
        attempt,
        running: true,
        run: 1,
        stop: None,
    }
}
