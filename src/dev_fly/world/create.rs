//! Create and update: what is asked is checked, placed, and begins its life.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    World, ids,
    place::candidates,
    reply::{Answer, Done, Refusal},
    state::{Due, Machine, State, Then, mount_of},
};
use crate::{
    ambient::later,
    dev_fly::{call::Call, config::ImageTrouble},
};

/// What of a config is wrong in itself.
fn check(config: &Value) -> Result<(), Refusal> {
    let guest = &config["guest"];
    let cpus = guest["cpus"].as_u64().unwrap_or(1);
    let memory = guest["memory_mb"].as_u64().unwrap_or(256);
    // Sizes: in steps of 256 MB and 2 GB a CPU at most where it is shared, in steps of 2 GB and
    // 2 to 8 a CPU where it is not. [doc]
    let fits = match guest["cpu_kind"].as_str().unwrap_or("shared") {
        "shared" => {
            matches!(cpus, 1 | 2 | 4 | 6 | 8)
                && memory.is_multiple_of(256)
                && (256 * cpus..=2048 * cpus).contains(&memory)
        }
        "performance" => {
            matches!(cpus, 1 | 2 | 4 | 6 | 8 | 10 | 12 | 14 | 16)
                && memory.is_multiple_of(2048)
                && (2048 * cpus..=8192 * cpus).contains(&memory)
        }
        kind => {
            return Err(Refusal::new(422, format!("invalid config.guest.cpu_kind, {kind:?}")));
        }
    };
    if !fits && guest["gpu_kind"].is_null() {
        return Err(Refusal::new(
            422,
            format!("invalid config.guest: {cpus} CPUs cannot have {memory} MiB of memory"),
        ));
    }
    if config["mounts"].as_array().is_some_and(|mounts| mounts.len() > 1) {
        return Err(Refusal::invalid("config.mounts: only one volume can be mounted"));
    }
    let policy = config["restart"]["policy"].as_str().unwrap_or("no");
    if !matches!(policy, "no" | "always" | "on-failure" | "spot-price") {
        return Err(Refusal::invalid(format_args!("config.restart.policy: unknown {policy:?}")));
    }
    if config["stop_config"]["timeout"].is_string()
        && super::normal::seconds(&config["stop_config"]["timeout"]).is_none()
    {
        return Err(Refusal::invalid("config.stop_config.timeout: no duration"));
    }
    Ok(())
}

impl World {
    fn check_image(&self, config: &Value) -> Result<(), Refusal> {
        // A missing image is caught by the service and by no schema. [spec]
        let name = config["image"].as_str().unwrap_or_default();
        if name.is_empty() {
            return Err(Refusal::invalid("config.image is required"));
        }
        let refused = match self.images.find(name) {
            Some(image) => image.trouble == Some(ImageTrouble::Refused),
            None => true,
        };
        // [obs]: the text; that create itself is refused is [inf].
        if refused {
            return Err(Refusal::new(
                400,
                format!("failed to get manifest {name}: request failed: not found or unauthorized"),
            ));
        }
        Ok(())
    }

    /// Makes a machine.
    pub(super) fn create(&mut self, call: &Call, body: &Value, now: Timestamp) -> Done {
        let config = &body["config"];
        if !config.is_object() {
            return Err(Refusal::invalid("config is required"));
        }
        check(config)?;
        self.check_image(config)?;
        let region = body["region"].as_str().unwrap_or_default();
        let wanted = candidates(region)?;
        let given = body["name"].as_str().filter(|name| !name.is_empty());
        if let Some(name) = given {
            self.check_name(&call.app, name)?;
        }
        let live = self.machines.values().filter(|machine| !machine.state.is_gone()).count();
        if self.switches.machine_limit.is_some_and(|most| live >= most) {
            return Err(Refusal::new(
                422,
                "organization has reached its machine limit; contact support to raise it",
            ));
        }
        let (region, host) = match mount_of(config) {
            None => self.place(region, None)?,
            Some((volume, _)) => {
                let (at, host) = self.claimable(&call.app, &volume, None)?;
                if !region.is_empty() && !wanted.contains(&at.as_str()) {
                    return Err(Refusal::new(
                        412,
                        format!("volume {volume} is in region {at}, not in {region}"),
                    ));
                }
                if self.switches.full_regions.contains(&at) || !self.has_room(&host) {
                    return Err(Refusal::coded(
                        412,
                        "volume_placement_capacity",
                        "insufficient resources to create new machine with existing volume",
                    ));
                }
                (at, host)
            }
        };
        Ok(self.born(call, body, given, (region, host), now))
    }

    /// Names are unique among the live machines of an app; the refusal says who has it. [obs]
    fn check_name(&self, app: &str, name: &str) -> Result<(), Refusal> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.len() > 63 || !name.chars().all(is_plain) {
            return Err(Refusal::invalid(format_args!("name {name:?} is no name")));
        }
        let holder = self
            .machines
            .values()
            .find(|it| it.app == app && it.name == name && !it.state.is_gone());
        match holder {
            None => Ok(()),
            Some(holder) => Err(Refusal::new(
                409,
                format!(
                    "already_exists: unique machine name violation, machine ID {} already exists \
                     with name {name:?}",
                    holder.id
                ),
            )),
        }
    }

    fn born(
        &mut self,
        call: &Call,
        body: &Value,
        name: Option<&str>,
        (region, host): (String, String),
        now: Timestamp,
    ) -> Answer {
        let id = ids::machine(&*self.ids);
        let instance = ids::ulid(&*self.ids, now);
        let config = body["config"].clone();
        let skips = body["skip_launch"].as_bool().unwrap_or_default();
        let machine = Machine {
            id: id.clone(),
            name: name.map_or_else(|| format!("{}-{}", call.app, &id[..4]), str::to_owned),
            app: call.app.clone(),
            region,
            host,
            state: State::Created,
            instance: instance.clone(),
            versions: vec![(instance, config.clone())],
            config,
            created: now,
            updated: now,
            address: ids::address(&*self.ids),
            events: VecDeque::new(),
            lease: None,
            is_cordoned: body["skip_service_registration"].as_bool().unwrap_or_default(),
            boots: 0,
            is_running: false,
            is_frozen: false,
            then: Then::Policy,
            timer: None,
            restart_count: 0,
            restarts: VecDeque::new(),
            active_until: now,
            is_reachable: true,
            is_wedged: false,
            dies_of_memory: false,
        };
        if let Some((volume, _)) = machine.mount()
            && let Some(volume) = self.volumes.get_mut(&volume)
        {
            volume.machine = Some(id.clone());
            volume.free_at = None;
            self.dirty_volumes.insert(volume.id.clone());
        }
        let pull = machine.config["image"]
            .as_str()
            .and_then(|image| self.images.find(image))
            .and_then(|image| image.pull)
            .unwrap_or(self.habits.pull);
        let told = format!("created as {} on {}", machine.name, machine.host);
        self.created_total += 1;
        self.machines.insert(id.clone(), machine);
        self.event(&id, now, ("launch", "created", "user"), Value::Null);
        self.say(now, &id, told);
        if !skips {
            self.wake(&id, later(now, pull), Due::Pulled);
        }
        let mut answer = self.machines.get(&id).map_or(Value::Null, |it| self.show(it));
        if let Some(ttl) = body["lease_ttl"].as_u64() {
            answer["nonce"] = json!(self.lease(&id, ttl, "", now));
        }
        Answer::ok(answer)
    }

    /// Puts a new version in the place of a machine: the whole config is replaced, never merged.
    /// [doc] Who was not started stays stopped. [obs]
    pub(super) fn update(&mut self, call: &Call, body: &Value, now: Timestamp) -> Done {
        let config = &body["config"];
        if !config.is_object() {
            return Err(Refusal::invalid("config is required"));
        }
        check(config)?;
        self.check_image(config)?;
        let id = call.id.as_str();
        let machine = self.live(call)?;
        if matches!(machine.state, State::Destroying | State::Replacing) {
            return Err(Refusal::new(
                409,
                "aborted: machine update failed due to concurrent update",
            ));
        }
        if let Some(version) = body["current_version"].as_str()
            && version != machine.instance
        {
            return Err(Refusal::new(
                409,
                format!("aborted: current_version {version} is not the current one"),
            ));
        }
        if mount_of(config).map(|it| it.0) != machine.mount().map(|it| it.0) {
            return Err(Refusal::invalid("config.mounts: a volume cannot be swapped on update"));
        }
        let was_up = matches!(machine.state, State::Started | State::Starting | State::Restarting)
            || (machine.state == State::Created && machine.timer.is_some());
        let starts = was_up && !body["skip_launch"].as_bool().unwrap_or_default();
        let is_running = machine.is_running;
        let instance = ids::ulid(&*self.ids, now);
        let config = config.clone();
        if let Some(machine) = self.machine(id) {
            machine.config = config.clone();
            machine.instance.clone_from(&instance);
            machine.versions.push((instance, config));
            machine.then = Then::Replace { starts };
            machine.is_frozen = false;
        }
        self.no_timer(id);
        self.event(id, now, ("update", "replacing", "user"), Value::Null);
        self.enter(id, now, State::Replacing, ("update", "flyd"));
        if is_running {
            self.bring_down(id, now, None, None);
        } else {
            let at = self.soon(now, |habits| habits.replace);
            self.wake(id, at, Due::Replaced { starts });
        }
        let shown = self.live(call).map(|machine| self.show(machine))?;
        Ok(Answer::ok(shown))
    }
}
