//! How machines, events and volumes look in answers.

use serde_json::{Value, json};

use super::{
    World, normal,
    state::{Event, Machine, Volume},
};

pub(super) fn event(event: &Event) -> Value {
    json!({
        "id": event.id,
        "type": event.kind,
        "status": event.status,
        "source": event.source,
        "timestamp": event.at.as_millisecond(),
        // `null` on some. [obs]
        "request": event.request,
    })
}

impl World {
    /// A machine. [spec], with what the service does otherwise: [obs].
    pub(super) fn show(&self, machine: &Machine) -> Value {
        let state = self.switches.shown_states.get(&machine.id);
        let config = normal::shown(&machine.config);
        let mut shown = json!({
            "id": machine.id,
            "name": machine.name,
            "state": state.map_or(machine.state.word(), String::as_str),
            "region": machine.region,
            "instance_id": machine.instance,
            "private_ip": machine.address,
            "image_ref": normal::image_ref(machine.config["image"].as_str().unwrap_or_default()),
            "created_at": machine.created.to_string(),
            "updated_at": machine.updated.to_string(),
            "events": machine.events.iter().map(event).collect::<Vec<_>>(),
            "host_status": if machine.is_reachable { "ok" } else { "unreachable" },
        });
        if machine.is_cordoned {
            shown["cordoned"] = json!(true);
        }
        // Of a host that does not answer no config is known. [spec]
        let config_name = if machine.is_reachable { "config" } else { "incomplete_config" };
        shown[config_name] = config;
        shown
    }

    /// A volume. [spec]
    pub(super) fn show_volume(&self, volume: &Volume) -> Value {
        json!({
            "id": volume.id,
            "name": volume.name,
            "state": if volume.gone_at.is_some() { "pending_destroy" } else { "created" },
            "size_gb": volume.size_gb,
            "region": volume.region,
            "zone": volume.host,
            "encrypted": volume.is_encrypted,
            "fstype": volume.fstype,
            "snapshot_retention": volume.retention,
            "auto_backup_enabled": true,
            "attached_machine_id": volume.machine,
            "attached_alloc_id": null,
            "host_status": "ok",
            "created_at": volume.created.to_string(),
        })
    }
}
