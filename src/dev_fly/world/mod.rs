//! One state, and what moves it: requests, time, and guests that end. Pure: it does nothing, it
//! says what shall be done ([`Effect`]) and when it wants to be woken ([`World::next`]).
//!
//! A machine has one timer at most. Timers are due in the order of their times, so a test that
//! moves the clock far ahead sees what it would have seen by waiting. Lists are drawn from what
//! each machine showed some time ago ([`history`]), everything else from the truth.

mod apps;
mod claims;
mod create;
mod history;
mod ids;
mod leases;
mod life;
mod limits;
mod lists;
mod meddle;
mod metadata;
mod normal;
mod place;
pub mod reply;
mod show;
mod state;
mod step;
mod verbs;
mod wait;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) use state::Volume;

use self::{
    limits::Buckets,
    state::{App, Due, Event, Machine, Shown, State},
};
use super::{
    config::{DevFlyConfig, Exit, Habits, Images},
    faults::{Once, Switches},
    truth::{BootRecord, CallRecord, Line, MachineTruth, Violation, VolumeTruth},
};
use crate::ambient::{Ids, later};

/// What shall be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start a machine's first process.
    Boot(Box<BootWish>),
    /// Signal it.
    Signal {
        /// The machine.
        id: String,
        /// The signal's number.
        signal: i32,
    },
    /// Kill it, and all that descends from it.
    Kill {
        /// The machine.
        id: String,
    },
    /// Let its processes stand still.
    Freeze {
        /// The machine.
        id: String,
    },
    /// Let them go on.
    Thaw {
        /// The machine.
        id: String,
    },
    /// Remove a machine's directory.
    Wipe {
        /// The machine.
        id: String,
    },
    /// Remove a volume's data.
    WipeVolume {
        /// The volume.
        id: String,
    },
    /// Remember which volumes there are.
    SaveVolumes(Value),
}

/// How to boot a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct BootWish {
    /// The machine.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Which boot of it.
    pub boot: u32,
    /// Variables of image, config, secrets and machine, the later over the earlier.
    pub env: BTreeMap<String, String>,
    /// Program and arguments; empty: the reporter.
    pub command: Vec<String>,
    /// The config, as it was asked for.
    pub config: Value,
    /// The volume, and where it is mounted.
    pub mount: Option<(String, String)>,
}

/// The state of everything.
pub struct World {
    pub(super) habits: Habits,
    images: Images,
    org: String,
    token: String,
    ids: Arc<dyn Ids>,
    pub(super) switches: Switches,
    pub(super) once: Once,
    apps: BTreeMap<String, App>,
    machines: BTreeMap<String, Machine>,
    volumes: BTreeMap<String, Volume>,
    shown: BTreeMap<String, Shown>,
    shown_volumes: BTreeMap<String, Shown>,
    timers: BTreeMap<(Timestamp, u64), String>,
    buckets: Buckets,
    dirty: BTreeSet<String>,
    dirty_volumes: BTreeSet<String>,
    effects: Vec<Effect>,
    lines: Vec<Line>,
    serial: u64,
    created_total: usize,
    pub(super) calls: Vec<CallRecord>,
    pub(super) boots: Vec<BootRecord>,
    open_boots: BTreeMap<String, usize>,
    pub(super) violations: Vec<Violation>,
}

impl World {
    /// A world with one app, and the volumes that were there before.
    pub fn new(config: &DevFlyConfig, volumes: Vec<Volume>, now: Timestamp) -> Self {
        use secrecy::ExposeSecret as _;
        let mut world = Self {
            habits: config.habits.clone(),
            images: config.images.clone(),
            org: config.org.clone(),
            token: step::bare(config.token.expose_secret()),
            ids: Arc::clone(&config.ambient.ids),
            switches: Switches::default(),
            once: Once::default(),
            apps: BTreeMap::new(),
            machines: BTreeMap::new(),
            volumes: BTreeMap::new(),
            shown: BTreeMap::new(),
            shown_volumes: BTreeMap::new(),
            timers: BTreeMap::new(),
            buckets: Buckets::default(),
            dirty: BTreeSet::new(),
            dirty_volumes: BTreeSet::new(),
            effects: Vec::new(),
            lines: Vec::new(),
            serial: 0,
            created_total: 0,
            calls: Vec::new(),
            boots: Vec::new(),
            open_boots: BTreeMap::new(),
            violations: Vec::new(),
        };
        world.add_app(&config.app, String::new(), now, now);
        for volume in volumes {
            world.dirty_volumes.insert(volume.id.clone());
            world.volumes.insert(volume.id.clone(), volume);
        }
        world.flush(now);
        world
    }

    /// What shall be done since this was asked last, and what there is to tell.
    pub fn drain(&mut self) -> (Vec<Effect>, Vec<Line>) {
        (std::mem::take(&mut self.effects), std::mem::take(&mut self.lines))
    }

    /// When it wants to be woken.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let claim = self.volumes.values().filter_map(|it| it.gone_at.or(it.free_at)).min();
        [timer, claim].into_iter().flatten().min()
    }

    fn say(&mut self, at: Timestamp, id: &str, text: impl Into<String>) {
        self.lines.push(Line { at, id: id.to_owned(), text: text.into() });
    }

    fn machine(&mut self, id: &str) -> Option<&mut Machine> {
        self.machines.get_mut(id)
    }

    /// Sets a machine's timer in the place of the one it has.
    fn wake(&mut self, id: &str, at: Timestamp, due: Due) {
        self.serial += 1;
        let serial = self.serial;
        let Some(machine) = self.machines.get_mut(id) else { return };
        machine.timer = Some((serial, due));
        self.timers.insert((at, serial), id.to_owned());
    }

    fn no_timer(&mut self, id: &str) {
        if let Some(machine) = self.machines.get_mut(id) {
            machine.timer = None;
        }
    }

    /// Sets a machine's state and tells it: one event, newest first. [doc]
    fn enter(
        &mut self,
        id: &str,
        now: Timestamp,
        state: State,
        (kind, source): (&'static str, &'static str),
    ) {
        if let Some(machine) = self.machines.get_mut(id) {
            machine.state = state;
        }
        self.event(id, now, (kind, state.word(), source), Value::Null);
        self.say(now, id, state.word());
    }

    fn event(
        &mut self,
        id: &str,
        now: Timestamp,
        (kind, status, source): (&'static str, &str, &'static str),
        request: Value,
    ) {
        /// No machine's history grows for ever; Fly shows 50 at most. [spec]
        const KEPT: usize = 64;
        let event = Event {
            id: ids::ulid(&*self.ids, now),
            kind,
            status: status.to_owned(),
            source,
            at: now,
            request,
        };
        if let Some(machine) = self.machines.get_mut(id) {
            machine.events.push_front(event);
            machine.events.truncate(KEPT);
            machine.updated = now;
            self.dirty.insert(id.to_owned());
        }
    }

    /// The machines that are there now, without lag.
    #[must_use]
    pub fn machines(&self) -> Vec<MachineTruth> {
        let live = self.machines.values().filter(|machine| !machine.state.is_gone());
        live.map(|machine| MachineTruth {
            id: machine.id.clone(),
            name: machine.name.clone(),
            app: machine.app.clone(),
            state: machine.state.word().to_owned(),
            region: machine.region.clone(),
            host: machine.host.clone(),
            instance: machine.instance.clone(),
            config: machine.config.clone(),
            metadata: machine.metadata(),
            boots: machine.boots,
            is_running: machine.is_running,
            created: machine.created,
        })
        .collect()
    }

    /// The volumes that are there now.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeTruth> {
        let live = self.volumes.values().filter(|volume| volume.gone_at.is_none());
        live.map(|volume| VolumeTruth {
            id: volume.id.clone(),
            name: volume.name.clone(),
            app: volume.app.clone(),
            region: volume.region.clone(),
            host: volume.host.clone(),
            machine: volume.machine.clone(),
            state: "created".to_owned(),
        })
        .collect()
    }

    /// Notes that the first process of a machine runs.
    fn begin_boot(&mut self, id: &str, now: Timestamp) {
        let Some(machine) = self.machines.get_mut(id) else { return };
        machine.boots += 1;
        machine.is_running = true;
        machine.then = state::Then::Policy;
        let record = BootRecord {
            machine: machine.id.clone(),
            name: machine.name.clone(),
            boot: machine.boots,
            started: now,
            ended: None,
            exit: None,
        };
        self.open_boots.insert(id.to_owned(), self.boots.len());
        self.boots.push(record);
        if let Some(wish) = self.boot_wish(id) {
            self.effects.push(Effect::Boot(Box::new(wish)));
        }
    }

    fn end_boot(&mut self, id: &str, now: Timestamp, exit: Exit) {
        let record = self.open_boots.remove(id).and_then(|at| self.boots.get_mut(at));
        if let Some(record) = record {
            record.ended = Some(now);
            record.exit = Some(exit);
        }
    }

    fn boot_wish(&self, id: &str) -> Option<BootWish> {
        let machine = self.machines.get(id)?;
        let name = machine.config["image"].as_str().unwrap_or_default();
        let image = self.images.find(name).cloned().unwrap_or_default();
        let mut env = image.env;
        // Secrets of the app, as they were when this version was made, below what the config says.
        if let Some(app) = self.apps.get(&machine.app) {
            env.extend(app.secrets.clone());
        }
        let members = machine.config["env"].as_object().into_iter().flatten();
        env.extend(members.filter_map(|(name, it)| Some((name.clone(), it.as_str()?.to_owned()))));
        let memory = machine.config["guest"]["memory_mb"].as_u64().unwrap_or(256);
        // What each machine finds in its environment. [doc]
        let own = [
            ("FLY_APP_NAME", machine.app.clone()),
            ("FLY_MACHINE_ID", machine.id.clone()),
            ("FLY_REGION", machine.region.clone()),
            ("FLY_IMAGE_REF", name.to_owned()),
            ("FLY_MACHINE_VERSION", machine.instance.clone()),
            ("FLY_PRIVATE_IP", machine.address.clone()),
            ("FLY_VM_MEMORY_MB", memory.to_string()),
            ("PRIMARY_REGION", machine.region.clone()),
        ];
        env.extend(own.map(|(name, value)| (name.to_owned(), value)));
        let words = |value: &Value| -> Option<Vec<String>> {
            let words = value.as_array()?.iter();
            Some(words.filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let init = &machine.config["init"];
        let command = words(&init["exec"]).filter(|it| !it.is_empty()).unwrap_or_else(|| {
            let mut command = words(&init["entrypoint"]).unwrap_or(image.entrypoint);
            command.extend(words(&init["cmd"]).unwrap_or(image.cmd));
            command
        });
        Some(BootWish {
            id: machine.id.clone(),
            name: machine.name.clone(),
            boot: machine.boots,
            env,
            command,
            config: machine.config.clone(),
            mount: machine.mount(),
        })
    }

    fn save_volumes(&mut self) {
        let live: Vec<&Volume> =
            self.volumes.values().filter(|volume| volume.gone_at.is_none()).collect();
        let saved = json!(live);
        self.effects.push(Effect::SaveVolumes(saved));
    }

    fn soon(&self, now: Timestamp, which: impl Fn(&Habits) -> std::time::Duration) -> Timestamp {
        later(now, which(&self.habits))
    }
}
