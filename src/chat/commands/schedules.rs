//! `/od-schedule`: Schedules, and what their Jobs are. The Jobs report to where it was said.

use super::{Commands, Effect, Incoming, find::has_place, spec, suffix};
use crate::{
    access::Reach,
    chat::{
        grammar::{Added, Scheduling, nearest},
        replies::{self, Asked},
    },
    resource::{
        AnyObject, Fault, Faults, JobTemplate, Kind, RUN_REQUESTED, Schedule, ScheduleSpec, admit,
        fleet::TemplateMetadata,
    },
    store::{Error, Expect, Op, Part},
};

impl Commands {
    pub(super) async fn schedule(
        &self,
        what: &Scheduling,
        line: &Incoming,
        round: u32,
        reach: &Reach,
    ) -> Result<Effect, Error> {
        let name = match what {
            Scheduling::List => {
                let all = self.schedules(reach).await?;
                return Ok(Effect::text(replies::schedules(&all, self.ambient.clock.now())));
            }
            Scheduling::Add(added) => return self.add_schedule(added, line, round).await,
            Scheduling::Run(name)
            | Scheduling::Suspend(name)
            | Scheduling::Resume(name)
            | Scheduling::Delete(name) => name,
        };
        let found = self.store.get(Kind::Schedule, name).await?.and_then(AnyObject::into_schedule);
        let Some(mut schedule) = found.filter(|schedule| has_schedule(reach, schedule)) else {
            let all = self.schedules(reach).await?;
            let names = all.iter().map(|schedule| schedule.metadata.name.as_str());
            return Ok(Effect::private(replies::no_schedule(name, nearest(name, names))));
        };
        if schedule.metadata.is_deleting() {
            return Ok(Effect::text(replies::schedule_goes(name)));
        }
        let text = match what {
            // Another request would take the place of the one that waits.
            Scheduling::Run(_) if schedule.asked_run().is_some() => {
                return Ok(Effect::text(replies::schedule_runs_already(name)));
            }
            Scheduling::Run(_) => {
                let annotations = &mut schedule.metadata.annotations;
                // The same line asks for the same run.
                annotations.insert(RUN_REQUESTED.to_owned(), line.key.clone());
                replies::schedule_runs(name)
            }
            Scheduling::Delete(_) => return self.delete_schedule(&schedule).await,
            _ => {
                let suspend = matches!(what, Scheduling::Suspend(_));
                let text = replies::schedule_suspended(name, suspend, schedule.spec.suspend);
                if schedule.spec.suspend == suspend {
                    return Ok(Effect::text(text));
                }
                schedule.spec.suspend = suspend;
                text
            }
        };
        let object = AnyObject::from(schedule);
        let op = Op::Write { object, part: Part::Desired, expect: Expect::SameVersion };
        Ok(Effect::told(vec![op], text))
    }

    async fn add_schedule(
        &self,
        added: &Added,
        line: &Incoming,
        round: u32,
    ) -> Result<Effect, Error> {
        let defaults = &self.settings.defaults;
        let place = &line.conversation;
        let asked = match spec::job_spec(&added.run, defaults, place, line.is_console()) {
            Ok(asked) => asked,
            Err(bad) => return Ok(Effect::private(bad.to_string())),
        };
        let spec::Asked { spec, ignored } = asked;
        // Serialising a spec cannot fail: it is made of strings, numbers and maps of both.
        let json = serde_json::to_value(&spec).unwrap_or_default();
        if let Err(fault) = defaults.check_place(&json) {
            return Ok(Effect::private(replies::faults(Asked::Schedule, &fault.into())));
        }
        let name = added.run.name.as_deref().map(str::to_lowercase);
        if let Some(name) = &name
            && self.store.get(Kind::Schedule, name).await?.is_some()
        {
            return Ok(Effect::private(replies::schedule_exists(name)));
        }
        let mut schedule = Schedule::new(
            name.clone().unwrap_or_default(),
            ScheduleSpec {
                schedule: added.cron.clone(),
                time_zone: added.zone.clone(),
                concurrency_policy: Default::default(),
                missed_runs: Default::default(),
                starting_deadline: None,
                successful_jobs_history_limit: None,
                failed_jobs_history_limit: None,
                suspend: false,
                job_template: JobTemplate { metadata: TemplateMetadata::default(), spec },
            },
        );
        schedule.metadata.generate_name = name.is_none().then(|| "schedule-".to_owned());
        let uid = self.ambient.ids.uid();
        match admit::create(schedule.into(), uid, &suffix(&line.key, round)) {
            Ok(object) => {
                let name = object.metadata().name.clone();
                let now = self.ambient.clock.now();
                let text = replies::scheduled(&name, added, now, &ignored);
                Ok(Effect::told(vec![Op::Create(object)], text))
            }
            Err(faults) => {
                // In the words of the flags: a job's are a run's.
                let path = |path: &str| path.replacen("spec.jobTemplate.spec", "spec", 1);
                let of_run = |fault: Fault| Fault { path: path(&fault.path), ..fault };
                let faults = Faults(faults.0.into_iter().map(of_run).collect());
                Ok(Effect::private(replies::faults(Asked::Schedule, &faults)))
            }
        }
    }

    async fn delete_schedule(&self, schedule: &Schedule) -> Result<Effect, Error> {
        let name = &schedule.metadata.name;
        if let Some(owned) = self.store.owned(Kind::Schedule, name).await? {
            let file = format!("{}:{}", owned.file, owned.line);
            return Ok(Effect::private(replies::schedule_is_declared(name, &owned.source, &file)));
        }
        let free = Op::StillFree { kind: Kind::Schedule, name: name.clone() };
        let delete = Op::Delete {
            kind: Kind::Schedule,
            name: name.clone(),
            uid: Some(schedule.metadata.uid.clone()),
            resource_version: None,
        };
        Ok(Effect::told(vec![free, delete], replies::schedule_deleted(name)))
    }

    async fn schedules(&self, reach: &Reach) -> Result<Vec<Schedule>, Error> {
        let all = self.all(Kind::Schedule).await?;
        let all = all.into_iter().filter_map(AnyObject::into_schedule);
        Ok(all.filter(|schedule| has_schedule(reach, schedule)).collect())
    }
}

/// Whether somebody reaches a schedule: one whose jobs report to their channel.
fn has_schedule(reach: &Reach, schedule: &Schedule) -> bool {
    has_place(reach, schedule.spec.job_template.spec.report.as_ref())
}
