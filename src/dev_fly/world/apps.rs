//! Apps and their secrets.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    World, ids,
    reply::{Answer, Done, Refusal},
};
use crate::dev_fly::call::{Call, Request};

impl World {
    /// Makes an app. Names are global. The documentation says `app_name`, the schema and Fly's
    /// own client `name`; both are taken. [doc], [spec]
    pub(super) fn create_app(&mut self, body: &Value, now: Timestamp) -> Done {
        let name = body["app_name"].as_str().or_else(|| body["name"].as_str()).unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() >= 63 || !name.chars().all(is_plain) {
            return Err(Refusal::invalid(
                "app name must be under 63 lower-case letters, digits and dashes",
            ));
        }
        if body["org_slug"].as_str() != Some(self.org.as_str()) {
            return Err(Refusal::new(404, "organization not found"));
        }
        if self.apps.contains_key(name) || self.switches.foreign_apps.contains(name) {
            return Err(Refusal::coded(422, "name_taken", "Name has already been taken"));
        }
        let network = body["network"].as_str().unwrap_or_default().to_owned();
        let visible = self.soon(now, |habits| habits.app_lag);
        let name = name.to_owned();
        self.add_app(&name, network, visible, now);
        let app = self.apps.get(&name).map(|app| (app.id.clone(), app.created.as_millisecond()));
        let (id, created) = app.unwrap_or_default();
        Ok(Answer::json(201, json!({"id": id, "created_at": created})))
    }

    fn show_app(&self, name: &str) -> Value {
        let machines = self.machines.values().filter(|it| it.app == name && !it.state.is_gone());
        let volumes = self.volumes.values().filter(|it| it.app == name && it.gone_at.is_none());
        let app = self.apps.get(name);
        json!({
            "id": app.map(|app| app.id.clone()),
            "name": name,
            "status": "deployed",
            "network": app.map(|app| app.network.clone()),
            "machine_count": machines.count(),
            "volume_count": volumes.count(),
            "organization": {"name": self.org, "slug": self.org},
        })
    }

    pub(super) fn list_apps(&self, now: Timestamp) -> Answer {
        let seen = self.apps.iter().filter(|(_, app)| app.visible <= now);
        let apps: Vec<Value> = seen.map(|(name, _)| self.show_app(name)).collect();
        Answer::ok(json!({"total_apps": apps.len(), "apps": apps}))
    }

    pub(super) fn get_app(&self, call: &Call) -> Done {
        Ok(Answer::ok(self.show_app(&call.app)))
    }

    /// Removes an app, with its machines and volumes. [doc]
    pub(super) fn destroy_app(&mut self, call: &Call, now: Timestamp) -> Done {
        let machines = self.machines.values().filter(|it| it.app == call.app);
        for id in machines.map(|it| it.id.clone()).collect::<Vec<_>>() {
            self.destroy(&id, now, "user");
        }
        let at = self.soon(now, |habits| habits.destroy);
        for volume in self.volumes.values_mut().filter(|volume| volume.app == call.app) {
            volume.gone_at.get_or_insert(at);
            self.dirty_volumes.insert(volume.id.clone());
        }
        self.save_volumes();
        self.apps.remove(&call.app);
        Ok(Answer::empty(202))
    }

    fn secrets(&self, call: &Call) -> (Map<String, Value>, u64) {
        let app = self.apps.get(&call.app);
        let secrets = app.map(|app| app.secrets.clone()).unwrap_or_default();
        let all = secrets.into_iter().map(|(name, value)| (name, json!(value))).collect();
        (all, app.map_or(0, |app| app.secrets_version))
    }

    fn show_secret(name: &str, value: &Value, shows: bool) -> Value {
        let text = value.as_str().unwrap_or_default();
        let digest = ids::hex(&Sha256::digest(text)[..8]);
        let mut shown = json!({"name": name, "digest": digest});
        if shows {
            shown["value"] = json!(text);
        }
        shown
    }

    pub(super) fn list_secrets(&self, call: &Call, request: &Request) -> Done {
        let (all, version) = self.secrets(call);
        let shows = request.is_set("show_secrets");
        let shown: Vec<Value> =
            all.iter().map(|(name, value)| Self::show_secret(name, value, shows)).collect();
        Ok(Answer::ok(json!({"secrets": shown, "version": version})))
    }

    pub(super) fn get_secret(&self, call: &Call, request: &Request) -> Done {
        let (all, _) = self.secrets(call);
        let shows = request.is_set("show_secrets");
        all.get(&call.id)
            .map(|value| Answer::ok(Self::show_secret(&call.id, value, shows)))
            .ok_or_else(|| Refusal::new(404, format!("secret {} not found", call.id)))
    }

    /// Sets and removes (`null`) secrets: one new version. A machine sees them from its next
    /// boot. [spec]
    pub(super) fn set_secrets(&mut self, call: &Call, values: &Value) -> Done {
        if let Some(app) = self.apps.get_mut(&call.app) {
            for (name, value) in values.as_object().into_iter().flatten() {
                match value.as_str() {
                    Some(text) => app.secrets.insert(name.clone(), text.to_owned()),
                    None => app.secrets.remove(name),
                };
            }
            app.secrets_version += 1;
        }
        self.list_secrets(call, &Request::default())
    }

    pub(super) fn set_secret(&mut self, call: &Call, value: &Value) -> Done {
        let (all, _) = self.secrets(call);
        if value.is_null() && !all.contains_key(&call.id) {
            return Err(Refusal::new(404, format!("secret {} not found", call.id)));
        }
        let values = json!({ call.id.clone(): value });
        let is_set = !value.is_null();
        let answer = self.set_secrets(call, &values)?;
        Ok(if is_set { Answer { status: 201, ..answer } } else { answer })
    }
}
