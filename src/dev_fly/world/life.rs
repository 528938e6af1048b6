//! What happens by itself: time passes, guests end.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Effect, World,
    state::{Due, State, Then},
};
use crate::{
    ambient::{between, later},
    dev_fly::config::Exit,
};

/// The restart policy counts the restarts of the last five minutes. [doc]
const RESTART_WINDOW: Duration = Duration::from_secs(300);

impl World {
    /// Does all that is due.
    pub fn tick(&mut self, now: Timestamp) {
        while let Some((&(at, serial), _)) = self.timers.first_key_value() {
            if at > now {
                break;
            }
            let Some(id) = self.timers.remove(&(at, serial)) else { break };
            let machine = self.machines.get(&id);
            let due = machine.and_then(|it| it.timer).filter(|timer| timer.0 == serial);
            let Some((_, due)) = due else { continue };
            if machine.is_some_and(|machine| machine.is_wedged) {
                self.wake(&id, later(now, Duration::from_secs(1)), due);
                continue;
            }
            self.no_timer(&id);
            self.due(&id, at, due);
            // Lists that look back see each step at its own time.
            self.flush(at);
        }
        self.settle_volumes(now);
        self.flush(now);
    }

    fn due(&mut self, id: &str, now: Timestamp, due: Due) {
        match due {
            Due::Pulled => self.pulled(id, now),
            Due::Booted => {
                self.enter(id, now, State::Started, ("start", "flyd"));
                self.begin_boot(id, now);
            }
            Due::Settled => self.settled(id, now),
            Due::Kill => self.effects.push(Effect::Kill { id: id.to_owned() }),
            Due::Replaced { starts } => {
                if starts {
                    self.boot(id, now, State::Starting);
                } else {
                    self.enter(id, now, State::Stopped, ("launch", "flyd"));
                }
            }
            Due::Suspended => {
                self.enter(id, now, State::Suspended, ("suspend", "flyd"));
            }
            Due::Destroyed => self.destroyed(id, now),
            Due::Forgotten => {
                self.machines.remove(id);
                self.dirty.insert(id.to_owned());
            }
        }
    }

    fn pulled(&mut self, id: &str, now: Timestamp) {
        let image = self.machines.get(id).map(|it| it.config["image"].as_str().unwrap_or_default());
        let trouble = image.and_then(|image| self.images.find(image)).and_then(|it| it.trouble);
        if trouble == Some(crate::dev_fly::config::ImageTrouble::FailsToLaunch) {
            // `launch_failed` is on the way to `destroyed`. [doc]
            self.enter(id, now, State::LaunchFailed, ("launch", "flyd"));
            let at = self.soon(now, |habits| habits.destroy);
            self.wake(id, at, Due::Destroyed);
        } else {
            self.boot(id, now, State::Starting);
        }
    }

    /// Powers a machine up; its first process runs when it is up.
    pub(super) fn boot(&mut self, id: &str, now: Timestamp, state: State) {
        self.enter(id, now, state, ("start", "flyd"));
        let at = self.soon(now, |habits| habits.boot);
        self.wake(id, at, Due::Booted);
    }

    fn settled(&mut self, id: &str, now: Timestamp) {
        self.enter(id, now, State::Stopped, ("stop", "flyd"));
        // A machine that shows `stopped` may still refuse to start. [obs]
        let until = self.soon(now, |habits| habits.still_active);
        if let Some(machine) = self.machine(id) {
            machine.active_until = until;
        }
    }

    /// Destroys a machine: at once where nothing runs in it, else when that has ended.
    pub(super) fn destroy(&mut self, id: &str, now: Timestamp, source: &'static str) {
        let Some(machine) = self.machine(id) else { return };
        if matches!(machine.state, State::Destroying | State::Destroyed) {
            return;
        }
        machine.then = Then::Destroy;
        let is_running = machine.is_running;
        self.no_timer(id);
        self.enter(id, now, State::Destroying, ("destroy", source));
        if is_running {
            self.effects.push(Effect::Kill { id: id.to_owned() });
        } else {
            let at = self.soon(now, |habits| habits.destroy);
            self.wake(id, at, Due::Destroyed);
        }
    }

    fn destroyed(&mut self, id: &str, now: Timestamp) {
        self.enter(id, now, State::Destroyed, ("destroy", "flyd"));
        self.effects.push(Effect::Wipe { id: id.to_owned() });
        // The volume stays claimed for a while. [obs]
        let free_at = self.soon(now, |habits| habits.claim_lag);
        for volume in self.volumes.values_mut() {
            if volume.machine.as_deref() == Some(id) {
                volume.free_at = Some(free_at);
            }
        }
        // It can be read for a while, and is then forgotten. [obs]
        let at = self.soon(now, |habits| habits.tombstone);
        self.wake(id, at, Due::Forgotten);
    }

    /// A guest has ended.
    pub fn exited(&mut self, id: &str, boot: u32, mut exit: Exit, now: Timestamp) {
        self.tick(now);
        let Some(machine) = self.machines.get_mut(id) else { return };
        if machine.boots != boot || !machine.is_running {
            return;
        }
        machine.is_running = false;
        machine.is_frozen = false;
        exit.oom |= std::mem::take(&mut machine.dies_of_memory);
        let then = machine.then;
        let auto_destroy = machine.flag("auto_destroy");
        let is_lost = machine.is_wedged && !machine.is_reachable;
        self.no_timer(id);
        self.end_boot(id, now, exit);
        if is_lost && then != Then::Destroy {
            // Nobody hears of it until the host is back.
            return;
        }
        let restarts = then == Then::Policy && self.restarts(id, exit, now);
        self.tell_exit(id, exit, then, restarts, now);
        self.dirty.insert(id.to_owned());
        match then {
            Then::Destroy => {
                let at = self.soon(now, |habits| habits.destroy);
                self.wake(id, at, Due::Destroyed);
            }
            Then::Replace { starts } => {
                let at = self.soon(now, |habits| habits.replace);
                self.wake(id, at, Due::Replaced { starts });
            }
            Then::Boot => self.boot(id, now, State::Restarting),
            Then::Policy if restarts => self.boot(id, now, State::Restarting),
            // On any exit, also on a non-zero one; and no `stopped` shows before. [doc]
            Then::Policy | Then::Stop if auto_destroy => self.destroy(id, now, "flyd"),
            Then::Policy | Then::Stop => {
                if let Some(machine) = self.machine(id) {
                    machine.state = State::Stopping;
                }
                let at = self.soon(now, |habits| habits.settle);
                self.wake(id, at, Due::Settled);
            }
        }
        self.flush(now);
    }

    /// Whether the restart policy boots a machine again, and notes it. [doc]; that `auto_destroy`
    /// goes before a policy that nobody named is [inf].
    fn restarts(&mut self, id: &str, exit: Exit, now: Timestamp) -> bool {
        let Some(machine) = self.machine(id) else { return false };
        let named = machine.config["restart"]["policy"].as_str().map(str::to_owned);
        let policy = match named.as_deref() {
            None if machine.flag("auto_destroy") => "no",
            None => "on-failure",
            Some(policy) => policy,
        };
        let most = machine.config["restart"]["max_retries"].as_u64().unwrap_or(10);
        let wants = match policy {
            "always" => true,
            "on-failure" => exit.code != 0 || exit.oom,
            _ => false,
        };
        machine.restarts.retain(|at| between(*at, now) < RESTART_WINDOW);
        let may = policy == "always" || (machine.restarts.len() as u64) < most;
        if wants && may {
            machine.restarts.push_back(now);
            machine.restart_count += 1;
        }
        wants && may
    }

    fn tell_exit(&mut self, id: &str, exit: Exit, then: Then, restarts: bool, now: Timestamp) {
        let omits_zero = self.switches.omit_exit_zero;
        let restart_count = self.machines.get(id).map_or(0, |machine| machine.restart_count);
        let mut told = json!({
            "requested_stop": then != Then::Policy,
            "restarting": restarts || then == Then::Boot,
            "oom_killed": exit.oom,
            "guest_exit_code": exit.code,
            "guest_signal": exit.signal.unwrap_or(-1),
            "signal": exit.signal.unwrap_or(-1),
            "error": "",
            "exited_at": now.to_string(),
        });
        // 0 is often left out. [obs]
        if exit.code != 0 || !omits_zero {
            told["exit_code"] = json!(exit.code);
        } else if let Some(told) = told.as_object_mut() {
            told.remove("guest_exit_code");
        }
        let request: Value = json!({
            "exit_event": told,
            "MonitorEvent": {"exit_event": told},
            "restart_count": restart_count,
        });
        self.event(id, now, ("exit", "stopped", "flyd"), request);
        let how = match exit {
            Exit { oom: true, .. } => "its first process was killed for want of memory".to_owned(),
            Exit { signal: Some(signal), .. } => {
                format!("its first process died of signal {signal}")
            }
            Exit { code, .. } => format!("its first process exited with {code}"),
        };
        self.say(now, id, how);
    }
}
