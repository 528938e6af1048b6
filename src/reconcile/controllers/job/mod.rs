//! Jobs: one Sprite per attempt, one attempt at a time, one end.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;

use plan::{Action, plan};

use super::{
    attempt::is_over,
    hands::{Hands, next_at, write},
    history::{event, told},
    words,
};
use crate::{
    ambient::Ambient,
    reconcile::{Controller, Error, Next, Wake},
    resource::{AnyObject, FINALIZER_SPRITES, Job, Kind, PermissionMode, Sprite},
    store::{Change, ChangeKind, Op, Part, Store},
};

/// Makes Sprites of Jobs. Its keys are the Jobs' uids.
pub struct JobController {
    hands: Hands,
}

impl JobController {
    /// A controller over a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, ambient: Ambient) -> Self {
        Self { hands: Hands { store, ambient } }
    }

    /// How many approvals the live attempt has asked for: while one waits, its clock stands.
    async fn approvals(&self, sprites: &[Sprite]) -> Result<usize, Error> {
        match sprites.iter().rfind(|sprite| !is_over(sprite)) {
            Some(live) if live.spec.permissions.mode != Some(PermissionMode::Bypass) => {
                Ok(self.hands.store.approvals(&live.metadata.uid).await?.len())
            }
            _ => Ok(0),
        }
    }

    async fn act(&self, job: &Job, action: Action) -> Result<(), Error> {
        let hands = &self.hands;
        match action {
            Action::AddFinalizer => {
                let mut job = job.clone();
                job.metadata.finalizers.push(FINALIZER_SPRITES.to_owned());
                hands.commit("job.add-finalizer", vec![write(job, Part::Finalizers)]).await
            }
            Action::CreateSprite(mut sprite, status) => {
                sprite.metadata.uid = hands.ambient.ids.uid();
                let note = format!("made sprite {}", sprite.metadata.name);
                let told = event(Kind::Job, &job.metadata, false, words::SPRITE_CREATED, note);
                let job = Job { status: *status, ..job.clone() };
                let ops =
                    vec![Op::Create(AnyObject::Sprite(sprite)), write(job, Part::Status), told];
                hands.commit("job.create-sprite", ops).await
            }
            Action::StopSprite(sprite) => {
                hands.commit("job.stop-sprite", vec![write(*sprite, Part::Desired)]).await
            }
            Action::DeleteSprite(sprite) => {
                hands
                    .commit("job.delete-sprite", vec![delete(Kind::Sprite, &sprite.metadata)])
                    .await
            }
            Action::WriteStatus(status) => {
                let (before, after) = (&job.status.conditions, &status.conditions);
                let mut ops = told(Kind::Job, &job.metadata, before, after);
                ops.push(write(Job { status: *status, ..job.clone() }, Part::Status));
                hands.commit("job.write-status", ops).await
            }
            Action::DropFinalizer => {
                let mut job = job.clone();
                job.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER_SPRITES);
                hands.commit("job.drop-finalizer", vec![write(job, Part::Finalizers)]).await
            }
            Action::Delete => {
                hands.commit("job.delete", vec![delete(Kind::Job, &job.metadata)]).await
            }
        }
    }
}

/// Deletes this very object, whatever has changed of it.
pub(super) fn delete(kind: Kind, metadata: &crate::resource::Metadata) -> Op {
    Op::Delete {
        kind,
        name: metadata.name.clone(),
        uid: Some(metadata.uid.clone()),
        resource_version: None,
    }
}

/// The owners of a kind that a change concerns: the object itself when its wish changed, or the
/// owner of a Sprite.
pub(super) fn owners(kind: Kind, change: &Change) -> Vec<(String, Wake)> {
    let metadata = change.object.metadata();
    if change.object.kind() == kind {
        // The controller's own status writes are no news to it.
        let news = change.desired && change.kind != ChangeKind::Deleted;
        return if news { vec![(metadata.uid.clone(), Wake::User)] } else { Vec::new() };
    }
    metadata
        .controller()
        .filter(|owner| owner.kind == kind)
        .map(|owner| (owner.uid.clone(), Wake::Observation))
        .into_iter()
        .collect()
}

#[async_trait]
impl Controller for JobController {
    fn name(&self) -> &'static str {
        "job"
    }

    fn concerns(&self, change: &Change) -> Vec<(String, Wake)> {
        owners(Kind::Job, change)
    }

    async fn keys(&self) -> Result<Vec<(String, Wake)>, Error> {
        let jobs = self.hands.all(Kind::Job).await?.into_iter().filter_map(AnyObject::into_job);
        let mut keys: Vec<_> = jobs.map(|job| (rank(&job), job.metadata.uid)).collect();
        keys.sort_by_key(|((_, place), _)| *place);
        Ok(keys.into_iter().map(|((wake, _), key)| (key, wake)).collect())
    }

    async fn reconcile(&self, key: &str) -> Result<Next, Error> {
        let job = self.hands.store.get_by_uid(Kind::Job, key).await?;
        let Some(job) = job.and_then(AnyObject::into_job) else { return Ok(Next::Done) };
        let sprites = self.hands.sprites_of(key).await?;
        let approvals = self.approvals(&sprites).await?;
        let now = self.hands.now();
        let plan = plan(&job, &sprites, approvals, now);
        let acted = !plan.actions.is_empty();
        for action in plan.actions {
            self.act(&job, action).await?;
        }
        // What was done may call for more; who has nothing left to do says so.
        Ok(if acted { Next::After(std::time::Duration::ZERO) } else { next_at(plan.again, now) })
    }
}

/// Which Jobs come first after a start.
fn rank(job: &Job) -> (Wake, u8) {
    let conditions = &job.status.conditions;
    let finished = conditions.is_true(words::COMPLETE) || conditions.is_true(words::FAILED);
    if job.metadata.is_deleting() {
        (Wake::User, 0)
    } else if finished {
        (Wake::Timer, 3)
    } else if job.metadata.generation != job.status.observed_generation {
        (Wake::User, 1)
    } else {
        (Wake::Observation, 2)
    }
}
