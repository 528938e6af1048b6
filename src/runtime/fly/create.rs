//! Bringing a machine up: adopt, start, or make it; never a second one.
//!
//! The name is the handle. Whatever an earlier call, process or server did, a create under the same
//! name either makes the one machine or is answered with the id of the one that is there; its tags
//! say whether it is ours. So nothing has to be remembered across a crash, and a create whose answer
//! was lost may be sent again, after a pause. That no agent lives twice is not even this room's
//! doing: a boot lives only the run that it claimed.

use std::{sync::Arc, time::Duration};

use super::{
    api::{ApiError, CreateMachine, CreateVolume, MachineState as State, Volume},
    book::{LIST_LAG, Look},
    claim::{claimed, is_persistent},
    environment::environment,
    names,
    observe::is_stuck,
    runtime::{FlyRuntime, held},
    seen::Seen,
    tags,
    trouble::refused,
    volume::{Shelved, choose},
    wish,
};
use crate::{
    resource::Sprite,
    runtime::{Error, Lack},
};

/// The size of a volume, in GB: Fly's own default, and what the smallest one costs.
const VOLUME_GB: u32 = 3;
/// The most regions that are tried one by one.
const MOST_REGIONS: usize = 6;

/// How old what the store told of a Sprite may be when its machine is made.
const STORE_LAG: Duration = Duration::from_secs(2);

/// What became of a create.
enum Made {
    /// There is a machine, and it is ours.
    Yes,
    /// There was no room.
    NoRoom(ApiError),
}

impl FlyRuntime {
    /// Brings a Sprite's machine up: the one that is there, else a new one.
    pub(super) async fn bring_up(&self, sprite: &Sprite, token: &str) -> Result<(), Error> {
        let uid = &sprite.metadata.uid;
        // A machine whose claim cannot be answered would run, and cost, for nothing.
        claimed(&self.settings, &self.installation, &self.secrets, sprite)?;
        if let Some(id) = self.id(sprite)
            && let Look::Seen(seen) =
                self.ask(uid, &id).await.map_err(|error| self.meaning(error))?
        {
            return self.wake_up(sprite, &seen).await;
        }
        let env = environment(&self.settings, &self.secrets, sprite, token)?;
        let wish = |region: &str, volume: Option<&str>| {
            let (settings, installation) = (&self.settings, &self.installation);
            wish::machine(settings, installation, sprite, env.clone(), region, volume)
        };
        let regions = wish::regions(wish::of(sprite)?, &self.settings);
        if is_persistent(sprite) {
            return self.make_with_volume(sprite, &regions, wish).await;
        }
        // Fly tries the list by itself; where it finds no room in any of them, it may have meant the
        // first alone.
        let all = regions.join(",");
        let single = if regions.len() > 1 { regions.as_slice() } else { &[] };
        let mut no_room = None;
        for region in [&all].into_iter().chain(single).take(MOST_REGIONS) {
            match self.make(sprite, wish(region, None)?).await? {
                Made::Yes => return Ok(()),
                Made::NoRoom(error) => no_room = Some(error),
            }
        }
        Err(no_room.map_or_else(
            || Error::Terminal("no region is named; set FLY_REGION".to_owned()),
            |error| self.meaning(error),
        ))
    }

    /// Makes a machine, or adopts the one that has its name.
    async fn make(&self, sprite: &Sprite, wish: CreateMachine) -> Result<Made, Error> {
        let uid = &sprite.metadata.uid;
        let asked = self.elapsed();
        let (run, since) = (sprite.spec.run, asked.saturating_sub(STORE_LAG));
        // A create whose answer was lost may have made it, and its boot may come, work and go while
        // this one waits for its turn.
        let is_wanted = || !self.book().is_claimed(uid, run, since);
        let create = self.api.create_if(&wish, &is_wanted);
        match self.write(uid, "fly.create", create).await {
            Ok(machine) => {
                let now = self.elapsed();
                let mut book = self.book();
                if let Some(seen) = Seen::known(&machine, &self.installation, uid) {
                    // As of the answer: what we wrote is in it.
                    book.told(seen, now.max(asked));
                    book.told_last(uid, now);
                }
                book.started(uid, sprite.spec.run, now);
                Ok(Made::Yes)
            }
            Err(ApiError::NameTaken { id, answer }) => {
                let id = match id {
                    Some(id) => Some(id),
                    None => self.id_by_name(&wish.name, uid).await?,
                };
                let Some(id) = id else {
                    return Err(Error::Transient(
                        ApiError::NameTaken { id: None, answer }.to_string(),
                    ));
                };
                self.adopt(sprite, &id).await.map(|()| Made::Yes)
            }
            Err(error @ ApiError::Capacity { .. }) => Ok(Made::NoRoom(error)),
            Err(error) => {
                if error.is_ambiguous() || matches!(error, ApiError::Fault(_)) {
                    self.book().left_open(uid, self.elapsed());
                }
                let region = &wish.region;
                Err(refused(error, &self.settings.app, &wish.config.image, region))
            }
        }
    }

    /// The machine that has our name, where Fly did not say which one it is.
    async fn id_by_name(&self, name: &str, uid: &str) -> Result<Option<String>, Error> {
        let listed = self.api.list(&[(tags::SPRITE, uid)]).await;
        let listed = listed.map_err(|error| self.meaning(error))?;
        Ok(listed.into_iter().find(|machine| machine.name == name).map(|machine| machine.id))
    }

    /// Takes over a machine that has our name, if it is ours by its tags as well.
    async fn adopt(&self, sprite: &Sprite, id: &str) -> Result<(), Error> {
        let (uid, asked) = (&sprite.metadata.uid, self.elapsed());
        let Some(machine) = self.api.get(id).await.map_err(|error| self.meaning(error))? else {
            return Err(Error::Transient(format!("machine {id} goes and still has its name")));
        };
        if !machine.is_certain() {
            let message = format!(
                "the host of its machine {id} does not answer Fly; it goes on once it does"
            );
            return Err(Error::Waiting { lack: Lack::Answer, message });
        }
        if !tags::is_of(&machine, &self.installation, uid) {
            let (name, app) = (&machine.name, &self.settings.app);
            return Err(Error::Terminal(format!(
                "machine {id} of the app {app} has the name {name} and is not this sprite's; \
                 destroy it (`fly machine destroy {id} -a {app}`) or let another app hold sprites"
            )));
        }
        let Some(seen) = Seen::known(&machine, &self.installation, uid) else {
            return Err(Error::Transient(format!("machine {id} cannot be read")));
        };
        self.book().told(seen.clone(), asked.max(self.elapsed()));
        self.book().told_last(uid, self.elapsed());
        self.wake_up(sprite, &seen).await
    }

    /// Starts a machine that is there and does not run.
    async fn wake_up(&self, sprite: &Sprite, seen: &Seen) -> Result<(), Error> {
        let (uid, id) = (&sprite.metadata.uid, &seen.id);
        let starts = match &seen.state {
            State::Stopped | State::Failed | State::Suspended => true,
            State::Created => is_stuck(seen, self.ambient.clock.now()),
            State::Destroying | State::LaunchFailed | State::Destroyed => {
                return Err(Error::Transient(format!("its machine {id} is being destroyed")));
            }
            _ => false,
        };
        if !starts {
            return Ok(());
        }
        match self.write(uid, "fly.start", self.api.start(id)).await {
            Ok(()) => {
                self.book().started(uid, sprite.spec.run, self.elapsed());
                Ok(())
            }
            // It keeps nothing, so another one is as good, elsewhere.
            Err(ApiError::Capacity { .. }) if !seen.pinned => {
                let destroy = self.write(uid, "fly.destroy", self.api.destroy(id)).await;
                destroy.map_err(|error| self.meaning(error))?;
                Err(Error::Transient(format!(
                    "there was no room to start its machine {id}; it is made anew elsewhere"
                )))
            }
            Err(error @ ApiError::Capacity { .. }) => Err(Error::Waiting {
                lack: Lack::Room,
                message: format!(
                    "{error}; what it keeps lies there, and it starts as soon as there is room"
                ),
            }),
            Err(error) => Err(self.meaning(error)),
        }
    }

    /// Makes a machine with the volume of the Sprite's owner.
    async fn make_with_volume(
        &self,
        sprite: &Sprite,
        regions: &[String],
        wish: impl Fn(&str, Option<&str>) -> Result<CreateMachine, Error>,
    ) -> Result<(), Error> {
        let uid = &sprite.metadata.uid;
        let name = names::volume(&self.installation, tags::owner_of(sprite));
        if let Some(volume) = self.find_volume(sprite, &name).await? {
            match self.make(sprite, wish(&volume.region, Some(&volume.id))?).await? {
                Made::Yes => return Ok(()),
                // Also where it seems to be new: what the store knows may be less than what was done,
                // as after a restore, and on the volume may be somebody's work.
                Made::NoRoom(error) => {
                    let id = &volume.id;
                    let message = format!(
                        "{error}; its volume {id} lies there. It starts as soon as there is room, \
                         or elsewhere with a copy (`fly volumes fork {id}`)"
                    );
                    return Err(Error::Waiting { lack: Lack::Room, message });
                }
            }
        }
        let mut no_room = None;
        for region in regions.iter().take(MOST_REGIONS) {
            let create = CreateVolume {
                name: name.clone(),
                region: region.clone(),
                size_gb: VOLUME_GB,
                compute: Some(wish::guest(wish::of(sprite)?)),
                compute_image: None,
                snapshot_retention: None,
                auto_backup_enabled: None,
                source_volume_id: None,
                snapshot_id: None,
            };
            let made = self.write(uid, "fly.create-volume", self.api.create_volume(&create)).await;
            let volume = match made {
                Ok(volume) => volume,
                Err(error @ ApiError::Capacity { .. }) => {
                    no_room = Some(error);
                    continue;
                }
                Err(error) => {
                    if error.is_ambiguous() || matches!(error, ApiError::Fault(_)) {
                        held(&self.shelf).open(&name, self.elapsed());
                    }
                    return Err(refused(error, &self.settings.app, "its image", region));
                }
            };
            held(&self.shelf).made(&name, volume.clone(), self.elapsed());
            match self.make(sprite, wish(&volume.region, Some(&volume.id))?).await? {
                Made::Yes => return Ok(()),
                Made::NoRoom(error) => {
                    self.unmake(uid, &name, &volume.id).await?;
                    no_room = Some(error);
                }
            }
        }
        Err(no_room.map_or_else(
            || Error::Terminal("no region is named; set FLY_REGION".to_owned()),
            |error| self.meaning(error),
        ))
    }

    /// Destroys a volume on which nothing was ever put.
    async fn unmake(&self, uid: &str, name: &str, id: &str) -> Result<(), Error> {
        let destroy = self.api.destroy_volume(id);
        let gone = self.write(uid, "fly.destroy-volume", destroy).await;
        gone.map_err(|error| self.meaning(error))?;
        held(&self.shelf).forget(name);
        Ok(())
    }

    /// The volume of a name, if there is one; what stands double goes.
    async fn find_volume(&self, sprite: &Sprite, name: &str) -> Result<Option<Volume>, Error> {
        let (uid, asked) = (&sprite.metadata.uid, self.elapsed());
        let volumes = self.api.volumes().await.map_err(|error| self.meaning(error))?;
        let Some(choice) = choose(&volumes, name) else {
            return match held(&self.shelf).shelved(name, asked) {
                Shelved::Made(volume) => Ok(Some(volume)),
                Shelved::Open => Err(Error::Transient(
                    "whether its volume was made shows in a later list".to_owned(),
                )),
                Shelved::Nothing if self.may_be_an_earlier_ones(sprite, asked) => {
                    self.wake_after(uid, LIST_LAG);
                    Err(Error::Transient(
                        "whether an earlier server made its volume shows in a later list"
                            .to_owned(),
                    ))
                }
                Shelved::Nothing => Ok(None),
            };
        };
        held(&self.shelf).is_listed(name);
        for double in &choice.doubles {
            let destroy = self.api.destroy_volume(&double.id);
            let gone = self.write(uid, "fly.destroy-volume", destroy).await;
            gone.map_err(|error| self.meaning(error))?;
        }
        Ok(Some(choice.chosen.clone()))
    }

    /// Whether a process before this one may have made something for a Sprite that a list does not
    /// tell yet which was asked for then.
    pub(super) fn may_be_an_earlier_ones(&self, sprite: &Sprite, asked: Duration) -> bool {
        let (at, born) = self.born;
        let older = sprite.metadata.creation_timestamp.is_none_or(|created| created <= at);
        older && asked < born + LIST_LAG
    }

    /// Wakes whoever looks after a Sprite once a secret was set or removed here.
    pub(super) fn wait_for_secret(&self, uid: &str) {
        // It is asked again and again while one is missing: one task waits for it.
        if !held(&self.waiting).insert(uid.to_owned()) {
            return;
        }
        let waiting = Arc::clone(&self.waiting);
        let (mut changes, wake, uid) = (self.secrets.changes(), self.wake.clone(), uid.to_owned());
        tokio::spawn(async move {
            let changed = changes.changed().await;
            held(&waiting).remove(&uid);
            if changed.is_ok() {
                // Nobody listens any more when the server goes down.
                let _ = wake.send(uid);
            }
        });
    }
}
