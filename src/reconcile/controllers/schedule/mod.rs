//! Schedules: a Job for each due minute, and each due minute at most once.
//!
//! The promise stands on one transaction: the Job, and the Schedule's note that its minute was begun,
//! commit together, on top of the Schedule as it was read. The note never goes back. So a minute that
//! was begun is never begun again, however often the server dies and wherever the clock jumps; and a
//! Job's name says its minute, so that a second one could not even be written.

mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use plan::{Action, View, plan};

use super::{
    hands::{Hands, next_at, write},
    history::told,
    job::{delete, owners},
    made::{Note, held, release},
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{AnyObject, Defaults, Job, Kind, Schedule, ScheduleStatus},
    store::{Change, Op, Part, Store},
};

/// Makes Jobs of Schedules. Its keys are the Schedules' uids.
pub struct ScheduleController {
    hands: Hands,
    defaults: Defaults,
    /// What waits since before then waited while nobody looked.
    up_since: Timestamp,
}

impl ScheduleController {
    /// A controller over a store. `defaults` say where Jobs may work on this server.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient, defaults: Defaults) -> Self {
        let up_since = ambient.clock.now();
        Self { hands: Hands { store, ambient }, defaults, up_since }
    }

    async fn act(&self, schedule: &Schedule, action: Action) -> Result<(), Error> {
        let hands = &self.hands;
        match action {
            Action::AddFinalizer => {
                let metadata = held(schedule.metadata.clone(), true);
                let held = Schedule { metadata, ..schedule.clone() };
                hands.commit("schedule.add-finalizer", vec![write(held, Part::Finalizers)]).await
            }
            Action::CreateJob { mut job, status, notes } => {
                job.metadata.uid = hands.ambient.ids.uid();
                let by = Op::WrittenBy(format!("schedule/{}", schedule.metadata.name));
                let mut ops = vec![by, Op::Create(AnyObject::Job(job))];
                ops.extend(with_status(schedule, *status, &notes));
                hands.commit("schedule.create-job", ops).await
            }
            Action::WriteStatus { status, notes } => {
                hands.commit("schedule.write-status", with_status(schedule, *status, &notes)).await
            }
            Action::CancelJob(mut job) => {
                job.spec.cancel = true;
                let by = Op::WrittenBy(format!("schedule/{}", schedule.metadata.name));
                let ops = vec![by, write(*job, Part::Desired)];
                hands.commit("schedule.cancel-job", ops).await
            }
            Action::DeleteJob(job) => {
                let op = delete(Kind::Job, &job.metadata);
                hands.commit("schedule.delete-job", vec![op]).await
            }
            Action::ReleaseJob(job) => {
                let op = release(AnyObject::Job(job), &schedule.metadata.uid);
                hands.commit("schedule.release-job", vec![op]).await
            }
            Action::DropFinalizer => {
                let metadata = held(schedule.metadata.clone(), false);
                let free = Schedule { metadata, ..schedule.clone() };
                hands.commit("schedule.drop-finalizer", vec![write(free, Part::Finalizers)]).await
            }
        }
    }
}

/// The status, with what came to hold, and what there is to tell.
fn with_status(schedule: &Schedule, status: ScheduleStatus, notes: &[Note]) -> Vec<Op> {
    let metadata = &schedule.metadata;
    let (before, after) = (&schedule.status.conditions, &status.conditions);
    let mut ops = told(Kind::Schedule, metadata, before, after);
    ops.extend(notes.iter().map(|note| note.op(Kind::Schedule, metadata)));
    ops.push(write(Schedule { status, ..schedule.clone() }, Part::Status));
    ops
}

#[async_trait]
impl Controller for ScheduleController {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        owners(Kind::Schedule, change)
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let all = self.hands.all(Kind::Schedule).await?;
        let mut keys: Vec<_> = all
            .into_iter()
            .filter_map(AnyObject::into_schedule)
            .map(|schedule| (rank(&schedule), schedule.metadata.uid))
            .collect();
        keys.sort_by_key(|((_, place), _)| *place);
        Ok(keys.into_iter().map(|((wake, _), key)| (key, wake)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let store = &self.hands.store;
        let schedule = store.get_by_uid(Kind::Schedule, key).await?;
        let Some(schedule) = schedule.and_then(AnyObject::into_schedule) else {
            return Ok(Next::Done);
        };
        let jobs: Vec<Job> = store
            .list_owned(Kind::Job, key)
            .await?
            .into_iter()
            .filter_map(AnyObject::into_job)
            .collect();
        // Serialising a spec cannot fail: it is made of strings, numbers and maps of both.
        let spec = serde_json::to_value(&schedule.spec.job_template.spec).unwrap_or_default();
        let refused = self.defaults.check_place(&spec).err().map(|fault| fault.to_string());
        let now = self.hands.now();
        let mut taken = BTreeSet::new();
        let plan = loop {
            let plan = plan(&View {
                schedule: &schedule,
                jobs: &jobs,
                taken: &taken,
                refused: refused.as_deref(),
                up_since: self.up_since,
                now,
            });
            match plan.new_name() {
                Some(name) if store.get(Kind::Job, name).await?.is_some() => {
                    taken.insert(name.to_owned());
                }
                _ => break plan,
            }
        };
        let acted = !plan.actions.is_empty();
        for action in plan.actions {
            self.act(&schedule, action).await?;
        }
        Ok(if acted { Next::After(Duration::ZERO) } else { next_at(plan.again, now) })
    }
}

/// Which Schedules come first after a start.
fn rank(schedule: &Schedule) -> (Wake, u8) {
    if schedule.metadata.is_deleting() {
        (Wake::User, 0)
    } else if schedule.metadata.generation != schedule.status.observed_generation {
        (Wake::User, 1)
    } else {
        (Wake::Observation, 2)
    }
}
