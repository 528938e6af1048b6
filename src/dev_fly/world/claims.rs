//! Volumes: where they lie, who has claimed them, and for how long.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Effect, World, ids,
    reply::{Answer, Done, Refusal},
    state::Volume,
};
use crate::{ambient::later, dev_fly::call::Call};

impl World {
    /// Ends claims and volumes whose time is over.
    pub(super) fn settle_volumes(&mut self, now: Timestamp) {
        let mut gone = Vec::new();
        for volume in self.volumes.values_mut() {
            if volume.free_at.is_some_and(|at| at <= now) {
                volume.free_at = None;
                volume.machine = None;
                self.dirty_volumes.insert(volume.id.clone());
            }
            if volume.gone_at.is_some_and(|at| at <= now) {
                gone.push(volume.id.clone());
            }
        }
        for id in gone {
            self.volumes.remove(&id);
            self.effects.push(Effect::WipeVolume { id: id.clone() });
            self.dirty_volumes.insert(id);
        }
    }

    fn volume(&self, call: &Call) -> Result<&Volume, Refusal> {
        let found = self.volumes.get(&call.id).filter(|volume| volume.app == call.app);
        found.ok_or_else(|| Refusal::new(404, format!("volume {} not found", call.id)))
    }

    /// Makes a volume. Names are not unique. [doc]
    pub(super) fn create_volume(&mut self, call: &Call, body: &Value, now: Timestamp) -> Done {
        let name = body["name"].as_str().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        // At most 30 characters, of these. [doc]
        if name.is_empty() || name.len() > 30 || !name.chars().all(is_plain) {
            return Err(Refusal::invalid(
                "volume name must be 1 to 30 lower-case letters, digits and underscores",
            ));
        }
        let size_gb = body["size_gb"].as_u64().unwrap_or(3);
        if !(1..=500).contains(&size_gb) {
            return Err(Refusal::invalid("size_gb must be between 1 and 500"));
        }
        let region = body["region"].as_str().unwrap_or_default();
        if region.contains(',') {
            return Err(Refusal::invalid(format_args!("region {region:?} not found")));
        }
        let (region, host) = self.place(region, None).map_err(|refusal| match refusal.status {
            // Without room for a volume it is 409. [obs]
            422 => Refusal::new(409, "aborted: no capacity"),
            _ => refusal,
        })?;
        let volume = Volume {
            id: ids::volume(&*self.ids),
            name: name.to_owned(),
            app: call.app.clone(),
            region,
            host,
            size_gb,
            is_encrypted: body["encrypted"].as_bool().unwrap_or(true),
            fstype: body["fstype"].as_str().unwrap_or("ext4").to_owned(),
            retention: body["snapshot_retention"].as_u64().unwrap_or(5),
            created: now,
            machine: None,
            free_at: None,
            gone_at: None,
        };
        let shown = self.show_volume(&volume);
        self.say(now, &volume.id, format!("volume {} created on {}", volume.name, volume.host));
        self.dirty_volumes.insert(volume.id.clone());
        self.created_total += 1;
        self.volumes.insert(volume.id.clone(), volume);
        self.save_volumes();
        Ok(Answer::ok(shown))
    }

    pub(super) fn get_volume(&self, call: &Call) -> Done {
        self.volume(call).map(|volume| Answer::ok(self.show_volume(volume)))
    }

    pub(super) fn update_volume(&mut self, call: &Call, body: &Value) -> Done {
        self.volume(call)?;
        let id = call.id.clone();
        if let Some(volume) = self.volumes.get_mut(&id) {
            volume.retention = body["snapshot_retention"].as_u64().unwrap_or(volume.retention);
        }
        self.dirty_volumes.insert(id);
        self.save_volumes();
        self.get_volume(call)
    }

    pub(super) fn extend_volume(&mut self, call: &Call, body: &Value) -> Done {
        let before = self.volume(call)?.size_gb;
        let size_gb = body["size_gb"].as_u64().unwrap_or_default();
        if size_gb <= before || size_gb > 500 {
            return Err(Refusal::invalid("size_gb must be larger than it is, and 500 at most"));
        }
        let id = call.id.clone();
        if let Some(volume) = self.volumes.get_mut(&id) {
            volume.size_gb = size_gb;
        }
        self.dirty_volumes.insert(id);
        self.save_volumes();
        let shown = self.show_volume(self.volume(call)?);
        Ok(Answer::ok(json!({"volume": shown, "needs_restart": false})))
    }

    /// Destroys a volume that nobody has claimed. Soon after its machine was destroyed it is
    /// still claimed. [obs]
    pub(super) fn destroy_volume(&mut self, call: &Call, now: Timestamp) -> Done {
        let volume = self.volume(call)?;
        if let Some(machine) = &volume.machine {
            return Err(Refusal::new(
                409,
                format!("volume {} is attached to machine {machine}", call.id),
            ));
        }
        let at = later(now, self.habits.destroy);
        let id = call.id.clone();
        if let Some(volume) = self.volumes.get_mut(&id) {
            volume.gone_at.get_or_insert(at);
        }
        self.dirty_volumes.insert(id.clone());
        self.say(now, &id, "volume destroyed");
        self.save_volumes();
        self.get_volume(call)
    }

    /// The region and host of a volume that a machine of this app may claim. Volumes are pinned to
    /// their host. [doc]
    pub(super) fn claimable(
        &self,
        app: &str,
        id: &str,
        machine: Option<&str>,
    ) -> Result<(String, String), Refusal> {
        let found = self.volumes.get(id).filter(|it| it.app == app && it.gone_at.is_none());
        let volume = found.ok_or_else(|| Refusal::new(404, format!("volume {id} not found")))?;
        match &volume.machine {
            Some(owner) if Some(owner.as_str()) != machine => {
                Err(Refusal::new(412, format!("volume {id} already claimed by machine {owner}")))
            }
            _ => Ok((volume.region.clone(), volume.host.clone())),
        }
    }
}
