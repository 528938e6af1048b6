//! Waiting for a state.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{
    World,
    reply::{Answer, Outcome, Refusal, Waiting},
    state::State,
};
use crate::dev_fly::call::{Call, Request};

/// What can be waited for. [obs]
const STATES: [&str; 6] = ["started", "stopped", "suspended", "destroyed", "failed", "settled"];

/// `60` and `60s` mean the same. [src]
fn timeout(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s').unwrap_or(text);
    seconds.parse::<u64>().ok().map(Duration::from_secs)
}

impl World {
    /// Checks a wait; the answer comes from [`World::reached`].
    pub(super) fn wait(
        &self,
        call: &Call,
        request: &Request,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let mut states = request.asks("state");
        if states.is_empty() {
            states.push("started".into());
        }
        if let Some(odd) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
            return Err(Refusal::invalid(format_args!("state {odd:?} cannot be waited for")));
        }
        let timeout = match request.ask("timeout") {
            None => Duration::from_secs(60),
            Some(text) => timeout(text)
                .ok_or_else(|| Refusal::invalid(format_args!("timeout {text:?} is no time")))?,
        };
        // [obs]: the text.
        if !(Duration::from_secs(1)..=Duration::from_secs(60)).contains(&timeout) {
            return Err(Refusal::invalid("timeout must be inside range [1s, 1m0s]"));
        }
        let version = request.ask("version").or_else(|| request.ask("instance_id"));
        // [obs]
        if version.is_none() && states.iter().any(|state| state == "stopped") {
            return Err(Refusal::invalid("instance_id is required to wait for the stopped state"));
        }
        let machine = self.live(call)?;
        // Just made it may not be found. [src]
        if crate::ambient::between(machine.created, now) < self.switches.wait_lag {
            return Err(Refusal::no_machine(&call.id));
        }
        Ok(Outcome::Wait(Waiting {
            app: call.app.clone(),
            id: call.id.clone(),
            states,
            version: version.map(str::to_owned),
            timeout,
        }))
    }

    /// The answer to a wait, if it is time for one; at its end there always is. [obs]: the text.
    #[must_use]
    pub fn reached(&self, wait: &Waiting, is_over: bool) -> Option<Answer> {
        let shape = self.switches.shape;
        let found = self.machines.get(&wait.id).filter(|machine| machine.app == wait.app);
        let Some(machine) = found else {
            return Some(Refusal::no_machine(&wait.id).answer(shape));
        };
        let is_old = wait.version.as_ref().is_some_and(|version| *version != machine.instance);
        let is_settled = matches!(
            machine.state,
            State::Started | State::Stopped | State::Suspended | State::Failed | State::Destroyed
        );
        let fits = |state: &String| match state.as_str() {
            // Meaning unknown; any state that lasts. [inf]
            "settled" => is_settled,
            // A version that was replaced runs no more.
            "stopped" if is_old => true,
            state => !is_old && state == machine.state.word(),
        };
        if wait.states.iter().any(fits) {
            let event = machine.events.front().map(|event| event.id.clone());
            return Some(Answer::ok(json!({
                "ok": true, "state": machine.state.word(),
                "version": machine.instance, "event_id": event,
            })));
        }
        is_over.then(|| {
            let wanted = wait.states.join(",");
            Refusal::new(
                408,
                format!(
                    "deadline_exceeded: machine failed to reach desired state, {wanted}, \
                     currently {}",
                    machine.state
                ),
            )
            .answer(shape)
        })
    }
}
