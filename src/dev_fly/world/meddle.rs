//! What happens to machines that no request asked for.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Effect, World, ids,
    state::{Due, State, Then},
};
use crate::dev_fly::faults::Deed;

impl World {
    /// Does a deed. False where there is no such machine, or it is in no state for it.
    pub fn meddle(&mut self, id: &str, deed: Deed, now: Timestamp) -> bool {
        self.tick(now);
        let done = self.deed(id, deed, now).is_some();
        self.flush(now);
        done
    }

    fn deed(&mut self, id: &str, deed: Deed, now: Timestamp) -> Option<()> {
        let machine = self.machines.get_mut(id).filter(|machine| !machine.state.is_gone())?;
        self.dirty.insert(id.to_owned());
        match deed {
            Deed::Start if machine.state == State::Stopped => {
                self.event(id, now, ("start", "starting", "proxy"), Value::Null);
                self.boot(id, now, State::Starting);
            }
            Deed::Stop if machine.state == State::Started => {
                self.halt(id, now, "proxy", None, None);
            }
            Deed::Start | Deed::Stop => return None,
            Deed::Destroy => self.destroy(id, now, "user"),
            Deed::Crash | Deed::OutOfMemory if !machine.is_running => return None,
            Deed::Crash => self.effects.push(Effect::Kill { id: id.to_owned() }),
            Deed::OutOfMemory => {
                machine.dies_of_memory = true;
                self.effects.push(Effect::Kill { id: id.to_owned() });
            }
            Deed::HostUnreachable => machine.is_reachable = false,
            Deed::HostBack => {
                machine.is_reachable = true;
                machine.is_wedged = false;
                // What ran there is gone, and that shows now.
                if machine.state == State::Started && !machine.is_running {
                    self.wake(id, now, Due::Settled);
                }
            }
            Deed::HostLost => {
                machine.is_reachable = false;
                // Nobody hears of its end, and its state stays what it was.
                machine.is_wedged = true;
                machine.then = Then::Stop;
                self.effects.push(Effect::Kill { id: id.to_owned() });
            }
            Deed::Fail if machine.is_running => return None,
            Deed::Fail => {
                self.no_timer(id);
                self.enter(id, now, State::Failed, ("launch", "flyd"));
            }
            Deed::Wedge => machine.is_wedged = true,
            Deed::Unwedge => machine.is_wedged = false,
            Deed::Migrate => {
                let (region, host) = (machine.region.clone(), machine.host.clone());
                let was_running = machine.is_running;
                let (_, host) = self.place(&region, Some(&host)).ok()?;
                let address = ids::address(&*self.ids);
                let machine = self.machine(id)?;
                machine.host.clone_from(&host);
                machine.address = address;
                if was_running {
                    machine.then = Then::Boot;
                }
                // Its data go along. [doc]
                for volume in self.volumes.values_mut() {
                    if volume.machine.as_deref() == Some(id) {
                        volume.host.clone_from(&host);
                        self.dirty_volumes.insert(volume.id.clone());
                    }
                }
                self.event(id, now, ("migrate", "migrated", "flyd"), Value::Null);
                if was_running {
                    self.effects.push(Effect::Kill { id: id.to_owned() });
                }
            }
        }
        let told = format!("not asked for: {deed:?}");
        self.say(now, id, told);
        Some(())
    }
}
