//! What Fly holds for whom: machines of Sprites, volumes of owners; and its removal once they are
//! nobody's.
//!
//! Whoever asks compares with the store afterwards, and only what belongs to nobody is discarded. What
//! is young is not even told, since its Sprite may be on its way in; nor is anything told while a
//! machine says that the store was at a later revision than it is: then the store was restored from a
//! backup, and what it does not know is not nobody's. A round removes no more than so much.

use std::{collections::HashMap, time::Duration};

use super::{
    names,
    runtime::{FlyRuntime, held},
    seen::Seen,
    tags,
};
use crate::{
    ambient::later,
    runtime::{Cleaned, Error},
};

/// What is younger than this is left alone.
const GRACE: Duration = Duration::from_secs(5 * 60);
/// The most that one round removes.
const AT_MOST: usize = 50;

/// What the last round found, by whom it is kept for.
#[derive(Debug, Default)]
pub(super) struct Kept {
    machines: HashMap<String, Vec<Seen>>,
    volumes: HashMap<String, Vec<String>>,
    removed: usize,
}

impl FlyRuntime {
    /// Of whom Fly holds something.
    pub(super) async fn look_what_is_kept(&self) -> Result<Vec<String>, Error> {
        let ours = [(tags::INSTALLATION, self.installation.as_str())];
        let keep = |machine| Seen::of(&machine, &self.installation);
        let seen = self.api.list_of(&ours, keep).await.map_err(|error| self.meaning(error))?;
        let volumes = self.api.volumes().await.map_err(|error| self.meaning(error))?;
        let now = self.ambient.clock.now();
        let settled = |created: Option<jiff::Timestamp>| {
            created.is_some_and(|created| now >= later(created, GRACE))
        };
        let Some(revision) = (self.revision)().await else {
            return Err(Error::Transient("the store does not say its revision".to_owned()));
        };
        if let Some(ahead) = seen.iter().find(|it| it.revision.is_some_and(|it| it > revision)) {
            tracing::warn!(
                machine = ahead.id,
                "this machine was made at a later revision than the store has: the store was \
                 restored from a backup, and nothing is swept"
            );
            *held(&self.kept) = Kept::default();
            return Ok(Vec::new());
        }
        let mut kept = Kept::default();
        for it in seen {
            if it.certain && settled(it.created) && !it.state.is_leaving() {
                kept.machines.entry(names::key(&it.sprite)).or_default().push(it);
            }
        }
        for volume in volumes {
            if let Some(key) = names::key_of_volume(&self.installation, &volume.name)
                && settled(volume.created_at)
                && !volume.is_leaving()
            {
                kept.volumes.entry(key.to_owned()).or_default().push(volume.id);
            }
        }
        let mut keys: Vec<String> =
            kept.machines.keys().chain(kept.volumes.keys()).cloned().collect();
        keys.sort();
        keys.dedup();
        *held(&self.kept) = kept;
        Ok(keys)
    }

    /// Removes what is kept of somebody who is gone, as the last round found it.
    pub(super) async fn discard_kept(&self, key: &str) -> Result<Cleaned, Error> {
        let (machines, volumes) = {
            let mut kept = held(&self.kept);
            let machines = kept.machines.get(key).cloned().unwrap_or_default();
            let volumes = kept.volumes.get(key).cloned().unwrap_or_default();
            if kept.removed + machines.len() + volumes.len() > AT_MOST && kept.removed > 0 {
                return Err(Error::Transient(format!(
                    "{AT_MOST} things that belong to nobody were removed; the rest goes later"
                )));
            }
            kept.removed += machines.len() + volumes.len();
            (machines, volumes)
        };
        for seen in machines {
            tracing::warn!(
                machine = seen.id,
                name = seen.name,
                state = %seen.state,
                "a machine of ours belongs to nobody; it is destroyed"
            );
            let destroy = self.api.destroy(&seen.id);
            let gone = self.write(&seen.sprite, "fly.sweep", destroy).await;
            gone.map_err(|error| self.meaning(error))?;
            self.book().forget(&seen.sprite);
        }
        for id in volumes {
            tracing::info!(volume = id, "the volume of somebody who is gone is destroyed");
            let destroy = self.ambient.step("fly.sweep-volume", self.api.destroy_volume(&id)).await;
            destroy.map_err(|error| self.meaning(error))?;
        }
        Ok(Cleaned::All)
    }
}
