//! What became of each Job that a Fleet has made, so that none of them is made twice.
//!
//! A Job is noted for as long as it is generated, also when it is gone. One that is not generated any
//! more may be so again: the Override that took it away ends, a commit is reverted, a number of replicas
//! is raised. So what became of it is kept for longer than any Override may hold, and of as many Jobs as a
//! Fleet may have.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use super::super::made::ended;
use crate::{
    ambient::later,
    resource::{
        AnyObject, FleetStatus, Kind, MAX_OVERRIDE_TIME, PastRun, RunOutcome, expand::MOST_MEMBERS,
    },
};

/// For how long beyond the longest Override; it is undone a while after its end.
const SLACK: Duration = Duration::from_secs(24 * 60 * 60);

/// Until when it is known what a template made that is another from now on.
pub(super) fn known_until(now: Timestamp) -> Timestamp {
    later(now, MAX_OVERRIDE_TIME.as_duration().saturating_add(SLACK))
}

/// Notes how the Jobs that are there have ended.
pub(super) fn note(status: &mut FleetStatus, owned: &[AnyObject]) {
    for job in owned.iter().filter_map(|object| match object {
        AnyObject::Job(job) => Some(job),
        _ => None,
    }) {
        let outcome = status.runs.entry(job.metadata.name.clone()).or_insert(RunOutcome::Made);
        match ended(job) {
            Some(true) => *outcome = RunOutcome::Succeeded,
            Some(false) => *outcome = RunOutcome::Failed,
            None => {}
        }
    }
}

/// Tells the runs of Jobs that are there or generated from those of Jobs that are neither, and forgets
/// the latter in the end.
pub(super) fn sort(
    status: &mut FleetStatus,
    owned: &[AnyObject],
    is_wanted: impl Fn(&str) -> bool,
    now: Timestamp,
) {
    let jobs = owned.iter().filter(|object| object.kind() == Kind::Job);
    let there: BTreeSet<&str> = jobs.map(|job| job.metadata().name.as_str()).collect();
    let stays = |name: &str| is_wanted(name) || there.contains(name);
    let FleetStatus { runs, past_runs, .. } = status;
    past_runs.retain(|_, run| run.until > now);
    let again: Vec<String> = past_runs.keys().filter(|name| stays(name)).cloned().collect();
    for name in again {
        if let Some(run) = past_runs.remove(&name) {
            runs.entry(name).or_insert(run.outcome);
        }
    }
    let until = known_until(now);
    runs.retain(|name, outcome| {
        if stays(name) {
            return true;
        }
        past_runs.insert(name.clone(), PastRun { outcome: *outcome, until });
        false
    });
    let mut oldest: Vec<(Timestamp, String)> =
        past_runs.iter().map(|(name, run)| (run.until, name.clone())).collect();
    oldest.sort();
    for (_, name) in oldest.iter().take(oldest.len().saturating_sub(MOST_MEMBERS)) {
        past_runs.remove(name);
    }
}

/// When the next run is forgotten.
pub(super) fn next_forgotten(status: &FleetStatus) -> Option<Timestamp> {
    status.past_runs.values().map(|run| run.until).min()
}
