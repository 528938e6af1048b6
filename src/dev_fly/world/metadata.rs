//! Metadata: writes make no new version, and no lease guards them. [doc]

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    World,
    reply::{Answer, Done, Refusal},
};
use crate::dev_fly::call::Call;

impl World {
    fn metadata_of(&mut self, id: &str) -> Option<&mut Map<String, Value>> {
        let config = self.machine(id)?.config.as_object_mut()?;
        let metadata = config.entry("metadata").or_insert_with(|| json!({}));
        if metadata.is_null() {
            *metadata = json!({});
        }
        metadata.as_object_mut()
    }

    fn noted(&mut self, id: &str, now: Timestamp) {
        if let Some(machine) = self.machine(id) {
            machine.updated = now;
        }
        self.dirty.insert(id.to_owned());
    }

    pub(super) fn metadata_get(&self, call: &Call) -> Done {
        Ok(Answer::ok(json!(self.live(call)?.metadata())))
    }

    pub(super) fn metadata_key_get(&self, call: &Call) -> Done {
        let metadata = self.live(call)?.metadata();
        let value = metadata.get(&call.key);
        value
            .map(|value| Answer::ok(json!({"value": value})))
            .ok_or_else(|| Refusal::new(404, format!("metadata key {} not found", call.key)))
    }

    /// Replaces all (PUT) or some (PATCH); `null` and nothing remove a key. [spec]
    pub(super) fn metadata_put(
        &mut self,
        call: &Call,
        replaces: bool,
        body: &Value,
        now: Timestamp,
    ) -> Done {
        let machine = self.live(call)?;
        if let Some(version) = body["machine_version"].as_str()
            && version != machine.instance
        {
            return Err(Refusal::new(412, "machine version mismatch"));
        }
        let wish = body["metadata"].as_object().cloned().unwrap_or_default();
        if let Some(metadata) = self.metadata_of(&call.id) {
            if replaces {
                metadata.clear();
            }
            for (key, value) in wish {
                set(metadata, key, &value);
            }
        }
        self.noted(&call.id, now);
        Ok(Answer::empty(204))
    }

    pub(super) fn metadata_key_set(&mut self, call: &Call, value: &Value, now: Timestamp) -> Done {
        self.live(call)?;
        if let Some(metadata) = self.metadata_of(&call.id) {
            set(metadata, call.key.clone(), value);
        }
        self.noted(&call.id, now);
        Ok(Answer::empty(204))
    }
}

fn set(metadata: &mut Map<String, Value>, key: String, value: &Value) {
    match value.as_str() {
        Some(text) if !text.is_empty() => {
            metadata.insert(key, json!(text));
        }
        _ => {
            metadata.remove(&key);
        }
    }
}
