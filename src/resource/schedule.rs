//! `Schedule`: Jobs at times.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Conditions, JobSpec, Object, RUN_REQUESTED, Span, fleet::TemplateMetadata};

/// The label that each Job of a Schedule bears, with the Schedule's name.
pub const SCHEDULE_LABEL: &str = "opendispatch.dev/schedule";
/// The annotation of each Job of a Schedule that says for which due minute it was made.
pub const SCHEDULED_AT: &str = "opendispatch.dev/scheduled-at";
/// How many Jobs that succeeded a Schedule keeps.
pub const DEFAULT_SUCCESSFUL_JOBS_KEPT: u32 = 3;
/// The shortest time that a `startingDeadline` may mean: within less a timer that is a moment late would
/// begin nothing.
pub const LEAST_STARTING_DEADLINE: Span = Span::from_secs(10);
/// How many Jobs that failed a Schedule keeps.
pub const DEFAULT_FAILED_JOBS_KEPT: u32 = 1;

/// Jobs at times, each due minute at most once.
pub type Schedule = Object<ScheduleSpec, ScheduleStatus>;

impl Schedule {
    /// The request of a run now that is not obeyed yet, if there is one. Each value counts once, and an
    /// empty one asks for nothing.
    #[must_use]
    pub fn asked_run(&self) -> Option<&str> {
        let asked = self.metadata.annotations.get(RUN_REQUESTED).map(String::as_str);
        let is_new = |asked: &&str| Some(*asked) != self.status.last_handled_run_at.as_deref();
        asked.filter(|asked| !asked.is_empty()).filter(is_new)
    }
}

/// What a person declares of a Schedule. The words are those of the Kubernetes CronJob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Five fields: minute, hour, day of month, month, day of week; or `@daily` and the like.
    pub schedule: String,
    /// The IANA time zone that the fields are read in; UTC by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What happens at a due minute while the last Job still works.
    #[serde(default, skip_serializing_if = "ConcurrencyPolicy::is_default")]
    pub concurrency_policy: ConcurrencyPolicy,
    /// What happens to due minutes that passed while nobody looked.
    #[serde(default, skip_serializing_if = "MissedRuns::is_default")]
    pub missed_runs: MissedRuns,
    /// How late a due minute may be begun; unlimited by default, and less than 10s counts as 10s. To wait
    /// for Jobs that make way is not to be late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<Span>,
    /// How many Jobs that succeeded are kept; 3 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successful_jobs_history_limit: Option<u32>,
    /// How many Jobs that failed are kept; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_jobs_history_limit: Option<u32>,
    /// True: no due minute is begun, and none of those is made up for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// What each Job is made from.
    pub job_template: JobTemplate,
}

/// What each Job of a Schedule is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobTemplate {
    /// Labels and annotations; the name is drawn from the Schedule's.
    #[serde(default)]
    pub metadata: TemplateMetadata,
    /// The Job's spec.
    pub spec: JobSpec,
}

/// What happens at a due minute while the last Job still works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// The next one begins beside it.
    Allow,
    /// The due minute is skipped, and said so.
    #[default]
    Forbid,
    /// The last one is cancelled; the next begins when it is gone.
    Replace,
}

impl ConcurrencyPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to due minutes that passed while nobody looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MissedRuns {
    /// The last of them is made up for, once.
    #[default]
    RunLast,
    /// They are skipped, and said so.
    Skip,
}

impl MissedRuns {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is observed of a Schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScheduleStatus {
    /// Observations: `Ready`, `Suspended`, `Stalled`.
    #[serde(skip_serializing_if = "Conditions::is_empty")]
    pub conditions: Conditions,
    /// The generation that the conditions speak of.
    pub observed_generation: u64,
    /// A word for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The due minute that was begun, or skipped, last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_schedule_time: Option<Timestamp>,
    /// When the last Job that succeeded ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_successful_time: Option<Timestamp>,
    /// The next due minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub next_schedule_time: Option<Timestamp>,
    /// The due minute that begins once the Jobs before it are gone (`concurrencyPolicy: Replace`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub pending_schedule_time: Option<Timestamp>,
    /// The schedule and time zone that due minutes are counted by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_by: Option<String>,
    /// Due minutes up to this time are none of it: it was made, changed or resumed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub counted_from: Option<Timestamp>,
    /// The names of the Jobs that work now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,
    /// The value of the annotation `opendispatch.dev/run-requested-at` that was obeyed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_run_at: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_asked_for_by_each_value_once() {
        let job = json!({"task": "x", "agent": {"claude": {}}, "runtime": {"local": {}}});
        let spec = json!({"schedule": "@daily", "jobTemplate": {"spec": job}});
        let mut schedule = Schedule::new("s", serde_json::from_value(spec).unwrap());
        assert_eq!(schedule.asked_run(), None);
        for (asked, handled, is_asked) in [
            ("", None, false),
            ("now", None, true),
            ("now", Some("now"), false),
            ("again", Some("now"), true),
            ("", Some("now"), false),
        ] {
            schedule.metadata.annotations.insert(RUN_REQUESTED.to_owned(), asked.to_owned());
            schedule.status.last_handled_run_at = handled.map(str::to_owned);
            assert_eq!(schedule.asked_run(), is_asked.then_some(asked), "{asked} {handled:?}");
        }
    }
}
