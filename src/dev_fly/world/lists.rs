//! Lists, which lag and can be partial.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{World, reply::Answer};
use crate::dev_fly::call::{Call, Request};

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// What `summary` leaves of a machine. [spec]
fn summary(machine: &Value) -> Value {
    let mut machine = machine.clone();
    if let Some(members) = machine.as_object_mut() {
        members.remove("events");
        for name in ["config", "incomplete_config"] {
            if let Some(config) = members.get_mut(name) {
                *config = json!({
                    "image": config["image"], "guest": config["guest"],
                    "metadata": config["metadata"],
                });
            }
        }
    }
    machine
}

impl World {
    fn app_of(&self, id: &str) -> &str {
        self.machines.get(id).map_or("", |machine| machine.app.as_str())
    }

    /// The machines that a list shows and its filters let pass.
    fn chosen(&mut self, request: &Request, now: Timestamp) -> Vec<Arc<Value>> {
        let states: BTreeSet<String> = request.asks("state").into_iter().collect();
        let with_deleted = request.is_set("include_deleted");
        let metadata = request.metadata();
        let region = request.ask("region").unwrap_or_default().to_owned();
        let mut found = self.listed(now);
        found.retain(|machine| {
            let config = ["config", "incomplete_config"]
                .iter()
                .map(|name| &machine[*name])
                .find(|config| !config.is_null())
                .unwrap_or(&Value::Null);
            let state = word(machine, "state");
            (with_deleted || state != "destroyed")
                && (states.is_empty() || states.contains(state))
                && (region.is_empty() || word(machine, "region") == region)
                && metadata.iter().all(|(key, value)| config["metadata"][key] == value.as_str())
                && !self.switches.silent_regions.contains(word(machine, "region"))
        });
        found
    }

    /// The machines of an app: an array, without pages. [spec]
    pub(super) fn list(&mut self, call: &Call, request: &Request, now: Timestamp) -> Answer {
        let short = request.is_set("summary");
        let found = self.chosen(request, now);
        let ours = found.iter().filter(|it| self.is_of(it, &call.app));
        let shown: Vec<Value> =
            ours.map(|it| if short { summary(it) } else { Value::clone(it) }).collect();
        Answer::ok(Value::Array(shown))
    }

    /// Whether a machine of a list, which may be forgotten by now, belongs to an app.
    fn is_of(&self, machine: &Value, app: &str) -> bool {
        let known = self.app_of(word(machine, "id"));
        known == app || known.is_empty() && self.apps.len() == 1
    }

    pub(super) fn list_volumes(&self, call: &Call, now: Timestamp) -> Answer {
        let found = self.listed_volumes(now).into_iter().filter(|volume| {
            let app = self.volumes.get(word(volume, "id")).map_or("", |it| it.app.as_str());
            app == call.app || app.is_empty() && self.apps.len() == 1
        });
        Answer::ok(found.map(|volume| Value::clone(&volume)).collect())
    }

    /// The machines of the organization, in pages, with the regions that did not answer: what is
    /// not there may be in one of those. [spec]
    pub(super) fn org_machines(&mut self, request: &Request, now: Timestamp) -> Answer {
        let after = request.ask("updated_after").and_then(|it| it.parse::<Timestamp>().ok());
        let mut all: Vec<Value> = self
            .chosen(request, now)
            .iter()
            .filter(|machine| {
                let updated = word(machine, "updated_at").parse::<Timestamp>().ok();
                after.is_none_or(|after| updated.is_some_and(|updated| updated > after))
            })
            .map(|machine| {
                let mut shown = summary(machine);
                shown["app_name"] = json!(self.app_of(word(machine, "id")));
                shown["version"] = shown["instance_id"].clone();
                shown
            })
            .collect();
        all.sort_by(|a, b| word(a, "id").cmp(word(b, "id")));
        let (page, next) = page(all, request);
        let last = page.last().cloned().unwrap_or_default();
        Answer::ok(json!({
            "machines": page,
            "next_cursor": next,
            "last_machine_id": word(&last, "id"),
            "last_updated_at": word(&last, "updated_at"),
            "error_regions": self.switches.silent_regions,
        }))
    }

    pub(super) fn org_volumes(&self, request: &Request, now: Timestamp) -> Answer {
        let all = self.listed_volumes(now).into_iter().map(|volume| {
            let mut shown = Value::clone(&volume);
            let app = self.volumes.get(word(&volume, "id")).map_or("", |it| it.app.as_str());
            shown["app_name"] = json!(app);
            shown
        });
        let (page, next) = page(all.collect(), request);
        Answer::ok(json!({"volumes": page, "next_cursor": next}))
    }
}

/// One page: what comes behind the cursor, which is the id of the last one shown. [spec]
fn page(all: Vec<Value>, request: &Request) -> (Vec<Value>, Value) {
    let limit = request.ask("limit").and_then(|it| it.parse().ok()).unwrap_or(1000_usize);
    let limit = limit.clamp(1, 1000);
    let cursor = request.ask("cursor").unwrap_or_default().to_owned();
    let mut rest = all.into_iter().filter(|it| word(it, "id") > cursor.as_str());
    let page: Vec<Value> = rest.by_ref().take(limit).collect();
    let next = match (rest.next(), page.last()) {
        (Some(_), Some(last)) => last["id"].clone(),
        _ => Value::Null,
    };
    (page, next)
}
