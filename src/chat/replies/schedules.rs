//! What `/od-schedule` answers.

use jiff::Timestamp;

use super::{age, aligned, drifted, fenced};
use crate::{
    ambient::between,
    chat::{grammar::Added, transcript::one_line},
    resource::{Schedule, cron::Cron},
};

/// The answer to `/od-schedule list`.
pub(in crate::chat) fn schedules(all: &[Schedule], now: Timestamp) -> String {
    if all.is_empty() {
        return "There are no schedules. Make one with /od-schedule add \"0 9 * * MON-FRI\" --tz \
                Europe/Berlin <task>"
            .to_owned();
    }
    let mut rows = vec![["NAME", "SCHEDULE", "ZONE", "PHASE", "NEXT", "TASK"].map(str::to_owned)];
    for schedule in all {
        let (spec, status) = (&schedule.spec, &schedule.status);
        let phase = if status.phase.is_empty() { "Pending" } else { &status.phase };
        let next = status.next_schedule_time;
        rows.push([
            schedule.metadata.name.clone(),
            spec.schedule.clone(),
            spec.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()),
            drifted(phase.to_owned(), &status.conditions),
            next.map_or_else(
                || "-".to_owned(),
                |next| match next > now {
                    true => format!("in {}", age(between(now, next))),
                    false => "overdue".to_owned(),
                },
            ),
            one_line(&spec.job_template.spec.task).chars().take(48).collect(),
        ]);
    }
    fenced(&aligned(&rows))
}

/// A schedule was made.
pub(in crate::chat) fn scheduled(
    name: &str,
    added: &Added,
    now: Timestamp,
    ignored: &[String],
) -> String {
    let next = Cron::read(&added.cron, added.zone.as_deref()).ok().and_then(|cron| cron.next(now));
    let zone = added.zone.as_deref().unwrap_or("UTC");
    let when = next.map_or_else(String::new, |next| {
        format!(" It is due next in {}, at {next}.", age(between(now, next)))
    });
    let mut text = format!(
        "schedule/{name} is made: {} in {zone}.{when} Its jobs report here. /od-schedule run {name} \
         runs it now.",
        added.cron
    );
    for line in ignored {
        text.push('\n');
        text.push_str(line);
    }
    text
}

/// There is one already.
pub(in crate::chat) fn schedule_exists(name: &str) -> String {
    format!("There is a schedule {name} already; choose another --name, or delete it first.")
}

/// There is none of this name within reach.
pub(in crate::chat) fn no_schedule(name: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("There is no schedule {name}; did you mean {nearest}?"),
        None => format!("There is no schedule {name}; /od-schedule list lists them."),
    }
}

/// It is on its way out.
pub(in crate::chat) fn schedule_goes(name: &str) -> String {
    format!("schedule/{name} is being deleted.")
}

/// A run was asked for.
pub(in crate::chat) fn schedule_runs(name: &str) -> String {
    format!("schedule/{name} runs now; its job reports where its jobs report.")
}

/// It was suspended or resumed, or was so before.
pub(in crate::chat) fn schedule_suspended(name: &str, suspend: bool, was: bool) -> String {
    match (suspend, was) {
        (true, true) => format!("schedule/{name} is suspended already."),
        (true, false) => format!(
            "schedule/{name} is suspended: nothing is begun until /od-schedule resume {name}, and \
             nothing is made up for. A job that works goes on."
        ),
        (false, true) => format!("schedule/{name} goes on from its next due minute."),
        (false, false) => format!("schedule/{name} is not suspended."),
    }
}

/// It is deleted.
pub(in crate::chat) fn schedule_deleted(name: &str) -> String {
    format!("schedule/{name} is being deleted, with its jobs.")
}

/// A source declares it.
pub(in crate::chat) fn schedule_is_declared(name: &str, source: &str, file: &str) -> String {
    format!(
        "schedule/{name} is declared by source {source} ({file}): take it out of the file, override \
         it for a time, or let it go. /od-schedule suspend {name} stops it as it is."
    )
}
