//! What is asked of a machine that is there.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Effect, World,
    normal::seconds,
    reply::{Answer, Done, ExecWish, Outcome, Refusal},
    show,
    state::{Due, Machine, State, Then},
};
use crate::{
    ambient::later,
    dev_fly::call::{Call, Request},
};

/// A signal by its name; SIGINT where none is said. [doc]
fn signal_number(name: &str) -> Option<i32> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    Some(match bare {
        "" | "INT" => 2,
        "HUP" => 1,
        "QUIT" => 3,
        "ABRT" => 6,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "ALRM" => 14,
        "TERM" => 15,
        _ => return None,
    })
}

fn not_now(verb: &str, state: State) -> Refusal {
    Refusal::new(
        412,
        format!("failed_precondition: unable to {verb} machine from current state: '{state}'"),
    )
}

/// What a machine whose host does not answer says to all but a forced destroy. [inf]
fn check_reach(machine: &Machine) -> Result<(), Refusal> {
    if machine.is_reachable && !machine.is_wedged {
        return Ok(());
    }
    Err(Refusal::new(408, "deadline_exceeded: the machine's host did not answer in time"))
}

impl World {
    /// Signals what runs, and kills it when the time is over. The signal and time of the request,
    /// else of `stop_config`, else SIGINT and 5 s; 300 s at most. [doc]
    pub(super) fn bring_down(
        &mut self,
        id: &str,
        now: Timestamp,
        signal: Option<i32>,
        timeout: Option<u64>,
    ) {
        let Some(machine) = self.machines.get(id) else { return };
        let config = &machine.config["stop_config"];
        let signal = signal
            .or_else(|| signal_number(config["signal"].as_str().unwrap_or_default()))
            .unwrap_or(2);
        let timeout = timeout.or_else(|| seconds(&config["timeout"])).unwrap_or(5).min(300);
        if machine.is_frozen {
            self.effects.push(Effect::Thaw { id: id.to_owned() });
        }
        self.effects.push(Effect::Signal { id: id.to_owned(), signal });
        self.wake(id, later(now, Duration::from_secs(timeout)), Due::Kill);
    }

    /// Starts a machine. Where it is up already that is fine.
    pub(super) fn start(&mut self, call: &Call, now: Timestamp) -> Done {
        let machine = self.live(call)?;
        let before = machine.state;
        let launched = machine.boots > 0 || machine.timer.is_some();
        let refused = |why: &str| Refusal::new(412, format!("failed_precondition: {why}"));
        check_reach(machine)?;
        match before {
            State::Started | State::Starting | State::Restarting => {}
            // It may be started from `suspending`, too. [obs]
            State::Suspended | State::Suspending => self.resume(&call.id, now)?,
            State::Created if launched => return Err(not_now("start", before)),
            State::Stopped if machine.active_until > now => {
                return Err(refused("machine still active, refusing to start"));
            }
            State::Stopped | State::Created | State::Failed => {
                self.room_to_start(machine)?;
                self.event(&call.id, now, ("start", "starting", "user"), Value::Null);
                self.boot(&call.id, now, State::Starting);
            }
            State::Stopping => return Err(refused("machine still active, refusing to start")),
            State::Replacing => return Err(refused("machine getting replaced, refusing to start")),
            State::Destroying | State::Destroyed | State::LaunchFailed => {
                return Err(not_now("start", before));
            }
        }
        Ok(Answer::ok(json!({
            "previous_state": before.word(), "migrated": false, "new_host": "",
        })))
    }

    /// Goes on where it was, or boots anew where the memory was not kept. [doc]
    fn resume(&mut self, id: &str, now: Timestamp) -> Result<(), Refusal> {
        let Some(machine) = self.machines.get(id) else { return Ok(()) };
        self.room_to_start(machine)?;
        if machine.is_frozen && !self.switches.resume_cold {
            self.no_timer(id);
            if let Some(machine) = self.machine(id) {
                machine.is_frozen = false;
            }
            self.effects.push(Effect::Thaw { id: id.to_owned() });
            self.enter(id, now, State::Started, ("start", "user"));
        } else if machine.is_running {
            if let Some(machine) = self.machine(id) {
                machine.then = Then::Boot;
            }
            self.enter(id, now, State::Starting, ("start", "user"));
            self.effects.push(Effect::Kill { id: id.to_owned() });
        } else {
            self.boot(id, now, State::Starting);
        }
        Ok(())
    }

    /// Stops a machine. Where it is down already that is fine.
    pub(super) fn stop(&mut self, call: &Call, body: &Value, now: Timestamp) -> Done {
        let signal =
            match body["signal"].as_str() {
                None => None,
                Some(name) => Some(signal_number(name).ok_or_else(|| {
                    Refusal::invalid(format_args!("signal {name:?} is not known"))
                })?),
            };
        let timeout = match &body["timeout"] {
            Value::Null => None,
            value => Some(
                seconds(value)
                    .ok_or_else(|| Refusal::invalid(format_args!("timeout {value} is no time")))?,
            ),
        };
        let machine = self.live(call)?;
        check_reach(machine)?;
        match machine.state {
            State::Stopped | State::Stopping | State::Failed => {}
            State::Started | State::Suspended | State::Suspending => {
                self.halt(&call.id, now, "user", signal, timeout);
            }
            // Powering up: it stops before anything ran.
            State::Starting | State::Restarting if !machine.is_running => {
                self.enter(&call.id, now, State::Stopping, ("stop", "user"));
                let at = self.soon(now, |habits| habits.settle);
                self.wake(&call.id, at, Due::Settled);
            }
            state => return Err(not_now("stop", state)),
        }
        Ok(Answer::ok(json!({"ok": true})))
    }

    /// Stops what runs, for whoever wants it.
    pub(super) fn halt(
        &mut self,
        id: &str,
        now: Timestamp,
        source: &'static str,
        signal: Option<i32>,
        timeout: Option<u64>,
    ) {
        let Some(machine) = self.machine(id) else { return };
        machine.then = Then::Stop;
        let is_running = machine.is_running;
        self.no_timer(id);
        self.enter(id, now, State::Stopping, ("stop", source));
        if is_running {
            self.bring_down(id, now, signal, timeout);
        } else {
            let at = self.soon(now, |habits| habits.settle);
            self.wake(id, at, Due::Settled);
        }
    }

    pub(super) fn restart(&mut self, call: &Call, request: &Request, now: Timestamp) -> Done {
        let timeout = request.ask("timeout").and_then(|it| seconds(&json!(it)));
        let signal = request.ask("signal").and_then(signal_number);
        let forced = request.is_set("force_stop").then_some(9);
        let machine = self.live(call)?;
        check_reach(machine)?;
        match machine.state {
            State::Started if machine.is_running => {
                if let Some(machine) = self.machine(&call.id) {
                    machine.then = Then::Boot;
                }
                self.enter(&call.id, now, State::Restarting, ("restart", "user"));
                self.bring_down(&call.id, now, forced.or(signal), timeout);
            }
            State::Stopped => self.boot(&call.id, now, State::Starting),
            state => return Err(not_now("restart", state)),
        }
        Ok(Answer::ok(json!({"ok": true})))
    }

    /// Suspends a machine; up to 2 GB of memory, else it stops. [doc]
    pub(super) fn suspend(&mut self, call: &Call, now: Timestamp) -> Done {
        let machine = self.live(call)?;
        check_reach(machine)?;
        let memory = machine.config["guest"]["memory_mb"].as_u64().unwrap_or(256);
        match machine.state {
            State::Suspended | State::Suspending => {}
            State::Started if self.switches.suspend_stops || memory > 2048 => {
                self.halt(&call.id, now, "user", None, None);
            }
            State::Started => {
                if let Some(machine) = self.machine(&call.id) {
                    machine.is_frozen = true;
                }
                self.effects.push(Effect::Freeze { id: call.id.clone() });
                self.enter(&call.id, now, State::Suspending, ("suspend", "user"));
                let at = self.soon(now, |habits| habits.settle);
                self.wake(&call.id, at, Due::Suspended);
            }
            state => return Err(not_now("suspend", state)),
        }
        Ok(Answer::ok(json!({"ok": true})))
    }

    pub(super) fn signal(&mut self, call: &Call, body: &Value) -> Done {
        let name = body["signal"].as_str().unwrap_or_default();
        let signal = signal_number(name)
            .ok_or_else(|| Refusal::invalid(format_args!("signal {name:?} is not known")))?;
        let machine = self.live(call)?;
        if machine.state != State::Started {
            return Err(not_now("signal", machine.state));
        }
        self.effects.push(Effect::Signal { id: call.id.clone(), signal });
        Ok(Answer::ok(json!({"ok": true})))
    }

    /// Takes a machine out of the proxy's routes, or back; no state of it changes. [doc]
    pub(super) fn cordon(&mut self, call: &Call, is_cordoned: bool, now: Timestamp) -> Done {
        self.live(call)?;
        if let Some(machine) = self.machine(&call.id) {
            machine.is_cordoned = is_cordoned;
        }
        let verb = if is_cordoned { "cordon" } else { "uncordon" };
        self.event(&call.id, now, (verb, verb, "user"), Value::Null);
        Ok(Answer::ok(json!({"ok": true})))
    }

    /// Destroys a machine; without force only one that is down. `kill` means the same. [src]
    pub(super) fn delete(&mut self, call: &Call, request: &Request, now: Timestamp) -> Done {
        let machine = self.live(call)?;
        let is_forced = request.is_set("force") || request.is_set("kill");
        match machine.state {
            State::Destroyed | State::Destroying => {}
            State::Stopped | State::Suspended | State::Failed => {
                self.destroy(&call.id, now, "user");
            }
            _ if is_forced => self.destroy(&call.id, now, "user"),
            state => {
                return Err(Refusal::new(
                    412,
                    format!(
                        "failed_precondition: unable to destroy machine, not currently stopped or \
                         suspended: '{state}'"
                    ),
                ));
            }
        }
        Ok(Answer::ok(json!({"ok": true})))
    }

    /// Newest first; 20 where nothing is said, 50 at most. [spec]
    pub(super) fn events(&self, call: &Call, request: &Request) -> Done {
        let limit = match request.ask("limit").map(str::parse::<usize>) {
            None => 20,
            Some(Ok(limit)) if limit > 0 => limit.min(50),
            Some(_) => return Err(Refusal::invalid("limit must be between 1 and 50")),
        };
        let machine = self.live(call)?;
        Ok(Answer::ok(machine.events.iter().take(limit).map(show::event).collect()))
    }

    pub(super) fn versions(&self, call: &Call) -> Done {
        let versions = self.live(call)?.versions.iter().rev();
        let shown = versions.map(|(id, config)| json!({"version": id, "user_config": config}));
        Ok(Answer::ok(shown.collect()))
    }

    pub(super) fn exec(&self, call: &Call, body: &Value) -> Result<Outcome, Refusal> {
        let machine = self.live(call)?;
        check_reach(machine)?;
        if machine.state != State::Started || !machine.is_running {
            return Err(not_now("exec in", machine.state));
        }
        // `cmd` is one string, deprecated. [spec]
        let command: Vec<String> = match (&body["command"], body["cmd"].as_str()) {
            (Value::Array(words), _) => {
                words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            (_, Some(line)) => line.split_whitespace().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        if command.is_empty() {
            return Err(Refusal::invalid("command is required"));
        }
        // Longer than that nobody saw it wait, whatever was asked. [obs]
        let asked = body["timeout"].as_u64().map(Duration::from_secs);
        let timeout = asked.unwrap_or(self.habits.exec_limit).min(self.habits.exec_limit);
        let stdin = body["stdin"].as_str().unwrap_or_default().to_owned();
        Ok(Outcome::Exec(ExecWish { id: call.id.clone(), command, stdin, timeout }))
    }
}
