//! The cells of tables of Fleets, Schedules, Sources and Overrides.

use jiff::Timestamp;

use super::{
    Fleet, Override, Schedule, Source, SourceFrom,
    table::{age, age_of, due, line, or_none},
};

/// The characters of a commit that people are shown.
const SHORT_REVISION: usize = 12;

fn phase(phase: &str) -> String {
    // Nothing has looked at the object yet.
    if phase.is_empty() { "Pending".to_owned() } else { phase.to_owned() }
}

pub(super) fn fleet(fleet: &Fleet, now: Timestamp) -> Vec<String> {
    let status = &fleet.status;
    vec![
        fleet.metadata.name.clone(),
        phase(&status.phase),
        fleet.spec.template.kind.name().to_owned(),
        status.replicas.to_string(),
        status.updated.to_string(),
        status.ready.to_string(),
        age_of(fleet.metadata.creation_timestamp, now),
        status.failed.to_string(),
    ]
}

pub(super) fn schedule(schedule: &Schedule, now: Timestamp) -> Vec<String> {
    let (spec, status) = (&schedule.spec, &schedule.status);
    vec![
        schedule.metadata.name.clone(),
        spec.schedule.clone(),
        phase(&status.phase),
        status.active.len().to_string(),
        or_none(status.last_schedule_time.map(|then| age(then, now)).as_deref()),
        or_none(status.next_schedule_time.map(|then| due(then, now)).as_deref()),
        age_of(schedule.metadata.creation_timestamp, now),
        spec.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
    ]
}

pub(super) fn source(source: &Source, now: Timestamp) -> Vec<String> {
    let status = &source.status;
    let from = match &source.spec.from {
        SourceFrom::Directory(directory) => directory.path.clone(),
        SourceFrom::Git(git) => match &git.url {
            Some(url) => url.clone(),
            None => git.repos.join(","),
        },
    };
    let revision = status.last_applied_revision.as_deref();
    let revision: Option<String> = revision.map(|full| full.chars().take(SHORT_REVISION).collect());
    let message = status.conditions.get("Ready").map(|ready| line(&ready.message));
    vec![
        source.metadata.name.clone(),
        phase(&status.phase),
        or_none(revision.as_deref()),
        status.objects.to_string(),
        age_of(source.metadata.creation_timestamp, now),
        from,
        status.overridden.to_string(),
        message.unwrap_or_default(),
    ]
}

pub(super) fn over(over: &Override, now: Timestamp) -> Vec<String> {
    let (spec, status) = (&over.spec, &over.status);
    let expires = status
        .expires
        .map(|then| if then > now { format!("in {}", age(now, then)) } else { "ended".to_owned() });
    vec![
        over.metadata.name.clone(),
        phase(&status.phase),
        format!("{}/{}", spec.target.kind.singular(), spec.target.name),
        or_none(expires.as_deref()),
        age_of(over.metadata.creation_timestamp, now),
        or_none(spec.reason.as_deref()),
    ]
}
