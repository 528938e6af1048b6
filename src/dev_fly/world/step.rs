//! The door for requests: who calls, how often, what goes wrong, and then what is asked.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    World, place,
    reply::{Answer, Done, Outcome, Refusal},
    state::Machine,
};
use crate::{
    ambient::later,
    dev_fly::{
        call::{Action, Call, Request},
        faults::{LostAnswer, Trouble},
        fields,
        truth::{CallRecord, Violation},
    },
};

/// How many calls are remembered at most, and half of them at least.
const REMEMBERED: usize = 400_000;

/// A token without its scheme: `Bearer` and `FlyV1` in any case, possibly repeated. [src]
pub(super) fn bare(token: &str) -> String {
    let mut rest = token.trim();
    loop {
        let (word, more) = rest.split_once(' ').unwrap_or((rest, ""));
        let is_scheme = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("flyv1");
        if !is_scheme || more.trim().is_empty() {
            return rest.to_owned();
        }
        rest = more.trim();
    }
}

impl World {
    /// Does what a request wants.
    pub fn step(&mut self, request: &Request, now: Timestamp) -> Outcome {
        self.tick(now);
        let call = Call::read(&request.method, &request.path);
        let outcome = self.outcome(&call, request, now);
        self.flush(now);
        self.record(&call, request, &outcome, now);
        outcome
    }

    fn record(&mut self, call: &Call, request: &Request, outcome: &Outcome, now: Timestamp) {
        let mut path = request.path.clone();
        for (n, (key, value)) in request.query.iter().enumerate() {
            path.push_str(if n == 0 { "?" } else { "&" });
            path.push_str(&format!("{key}={value}"));
        }
        let status = match outcome {
            Outcome::Answer(answer) => Some(answer.status),
            Outcome::Dropped => None,
            // What they will be answered with when it is there; 408 is not foreseen.
            Outcome::Wait(_) | Outcome::Exec(_) => Some(200),
        };
        if self.calls.len() >= REMEMBERED {
            self.calls.drain(..REMEMBERED / 2);
        }
        self.calls.push(CallRecord {
            at: now,
            action: call.action,
            method: request.method.clone(),
            path,
            status,
        });
    }

    fn outcome(&mut self, call: &Call, request: &Request, now: Timestamp) -> Outcome {
        let shape = self.switches.shape;
        if let Err(refusal) = self.admit(call, request, now) {
            return Outcome::Answer(refusal.answer(shape));
        }
        let trouble = self.once.take(call.action).or_else(|| self.chance(call.action));
        let lost = match trouble {
            Some(Trouble::Lost { committed: false, answer }) => {
                self.say(now, &call.id, format!("{}: lost, and not done", call.action));
                return answer.outcome(shape);
            }
            Some(Trouble::Refused { status, error, code }) => {
                let refusal = Refusal { code, ..Refusal::new(status, error) };
                return Outcome::Answer(refusal.answer(shape));
            }
            Some(Trouble::RateLimited { retry_after }) => {
                let refusal = Refusal { retry_after, ..too_many() };
                return Outcome::Answer(refusal.answer(shape));
            }
            other => other,
        };
        let outcome = match self.perform(call, request, now) {
            Ok(outcome) => outcome,
            Err(refusal) => return Outcome::Answer(refusal.answer(shape)),
        };
        match (lost, outcome) {
            (Some(Trouble::Lost { answer, .. }), _) => {
                self.say(now, &call.id, format!("{}: done, and the answer lost", call.action));
                answer.outcome(shape)
            }
            (Some(Trouble::Late(late)), Outcome::Answer(answer)) => {
                Outcome::Answer(Answer { late, ..answer })
            }
            (_, outcome) => outcome,
        }
    }

    /// Whether the caller may, and may now.
    fn admit(&mut self, call: &Call, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        if call.action == Action::Unknown {
            return Err(Refusal::new(404, "page not found"));
        }
        let shown = request.authorization.as_deref().map(bare).unwrap_or_default();
        let is_ours = shown.split(',').any(|token| bare(token) == self.token);
        if !is_ours || self.switches.token_refused {
            return Err(Refusal::new(401, "Authenticate: token validation error"));
        }
        if self.switches.rate_limits && !self.buckets.take(call, now) {
            let retry_after = self.switches.retry_after.map(|wait| wait.as_secs().max(1));
            self.say(now, &call.id, format!("{}: rate limit exceeded", call.action));
            return Err(Refusal { retry_after, ..too_many() });
        }
        if self.switches.foreign_apps.contains(&call.app) {
            return Err(Refusal::new(403, format!("app {} is not yours", call.app)));
        }
        match call.action {
            Action::AppCreate | Action::AppList | Action::Regions => Ok(()),
            Action::OrgMachines | Action::OrgVolumes if call.app == self.org => Ok(()),
            Action::OrgMachines | Action::OrgVolumes => {
                Err(Refusal::new(404, format!("organization {} not found", call.app)))
            }
            // Just made it may still be missing. [obs]
            _ if self.apps.get(&call.app).is_some_and(|app| app.visible <= now) => Ok(()),
            _ => Err(Refusal::new(404, format!("app {} not found", call.app))),
        }
    }

    /// A trouble by the dice.
    fn chance(&mut self, action: Action) -> Option<Trouble> {
        let percent = self.switches.lost_percent;
        if percent == 0 || !self.switches.lost_actions.contains(&action) {
            return None;
        }
        if self.ids.unit() * 100.0 >= f64::from(percent) {
            return None;
        }
        let committed = self.ids.unit() < 0.5;
        let dice = self.ids.unit();
        let answer = match dice {
            _ if dice < 1.0 / 3.0 => LostAnswer::Timeout,
            _ if dice < 2.0 / 3.0 => LostAnswer::BadGateway,
            _ => LostAnswer::Dropped,
        };
        Some(Trouble::Lost { committed, answer })
    }

    /// Reads a body, and notes what of it nobody knows.
    fn body(&mut self, call: &Call, request: &Request) -> Result<Value, Refusal> {
        let Some(schema) = fields::schema(call.action) else { return Ok(Value::Null) };
        let value = if request.body.iter().all(u8::is_ascii_whitespace) {
            json!({})
        } else {
            serde_json::from_slice(&request.body)
                .map_err(|error| Refusal::invalid(format_args!("the body is no JSON: {error}")))?
        };
        let faults = fields::check(schema, &value);
        let refused = faults.iter().find(|fault| fault.is_refused).cloned();
        for fault in faults {
            let violation = Violation { action: call.action, place: fault.place, what: fault.what };
            if self.violations.len() < REMEMBERED {
                self.violations.push(violation);
            }
        }
        match refused {
            None => Ok(value),
            Some(fault) => Err(Refusal::invalid(format_args!("{} {}", fault.place, fault.what))),
        }
    }

    /// A machine that can still be read.
    pub(super) fn live(&self, call: &Call) -> Result<&Machine, Refusal> {
        let found = self.machines.get(&call.id).filter(|machine| machine.app == call.app);
        found.ok_or_else(|| Refusal::no_machine(&call.id))
    }

    fn perform(
        &mut self,
        call: &Call,
        request: &Request,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let body = self.body(call, request)?;
        if call.action.is_leased() {
            self.guard(call, request, now)?;
        }
        let done: Done = match call.action {
            Action::Wait => return self.wait(call, request, now),
            Action::Exec => return self.exec(call, &body),
            Action::Create => self.create(call, &body, now),
            Action::List => Ok(self.list(call, request, now)),
            Action::Get => self.live(call).map(|machine| self.show(machine)).map(Answer::ok),
            Action::Update => self.update(call, &body, now),
            Action::Destroy => self.delete(call, request, now),
            Action::Start => self.start(call, now),
            Action::Stop => self.stop(call, &body, now),
            Action::Restart => self.restart(call, request, now),
            Action::Suspend => self.suspend(call, now),
            Action::Signal => self.signal(call, &body),
            Action::Cordon => self.cordon(call, true, now),
            Action::Uncordon => self.cordon(call, false, now),
            Action::LeaseGet => self.lease_get(call, now),
            Action::LeaseTake => self.lease_take(call, request, &body, now),
            Action::LeaseRelease => self.lease_release(call, request, now),
            Action::MetadataGet => self.metadata_get(call),
            Action::MetadataPut => self.metadata_put(call, request.method == "PUT", &body, now),
            Action::MetadataKeyGet => self.metadata_key_get(call),
            Action::MetadataKeySet => self.metadata_key_set(call, &body["value"], now),
            Action::MetadataKeyDelete => self.metadata_key_set(call, &Value::Null, now),
            Action::Events => self.events(call, request),
            Action::Versions => self.versions(call),
            Action::VolumeCreate => self.create_volume(call, &body, now),
            Action::VolumeList => Ok(self.list_volumes(call, now)),
            Action::VolumeGet => self.get_volume(call),
            Action::VolumeUpdate => self.update_volume(call, &body),
            Action::VolumeExtend => self.extend_volume(call, &body),
            Action::VolumeDestroy => self.destroy_volume(call, now),
            Action::AppCreate => self.create_app(&body, now),
            Action::AppList => Ok(self.list_apps(now)),
            Action::AppGet => self.get_app(call),
            Action::AppDestroy => self.destroy_app(call, now),
            Action::SecretList => self.list_secrets(call, request),
            Action::SecretsSet => self.set_secrets(call, &body["values"]),
            Action::SecretGet => self.get_secret(call, request),
            Action::SecretSet => self.set_secret(call, &body["value"]),
            Action::SecretDelete => self.set_secret(call, &Value::Null),
            Action::OrgMachines => Ok(self.org_machines(request, now)),
            Action::OrgVolumes => Ok(self.org_volumes(request, now)),
            Action::Regions => Ok(regions()),
            Action::Unknown => Err(Refusal::new(404, "page not found")),
        };
        done.map(Outcome::Answer)
    }

    /// Makes an app there. `visible`: from when on it answers.
    pub(super) fn add_app(
        &mut self,
        name: &str,
        network: String,
        visible: Timestamp,
        now: Timestamp,
    ) {
        let app = super::state::App {
            id: super::ids::nonce(&*self.ids),
            created: now,
            network,
            visible: later(visible, std::time::Duration::ZERO),
            secrets: std::collections::BTreeMap::new(),
            secrets_version: 0,
        };
        self.apps.insert(name.to_owned(), app);
    }
}

/// [obs]
fn too_many() -> Refusal {
    Refusal::new(429, "rate limit exceeded")
}

fn regions() -> Answer {
    let all: Vec<Value> =
        place::regions().map(|(code, part)| json!({"code": code, "geo_region": part})).collect();
    Answer::ok(json!({"regions": all, "nearest": "iad"}))
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn every_form_of_a_token_is_the_same_token() {
        for form in ["fm2_x", "Bearer fm2_x", "FlyV1 fm2_x", "bearer flyv1  fm2_x", " FlyV1 fm2_x "]
        {
            assert_eq!(bare(form), "fm2_x");
        }
        assert_eq!(bare("FlyV1 fm2_x,fm2_y"), "fm2_x,fm2_y");
    }
}
