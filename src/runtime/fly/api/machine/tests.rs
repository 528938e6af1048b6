use serde_json::{Value, json};

use super::*;
use crate::runtime::fly::api::{App, ExitEvent, Volume};

fn read(value: Value) -> Machine {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_machine_is_read_as_fly_tells_it() {
    let machine = read(json!({
        "id": "148e21ea7d4ed8", "name": "od-1", "state": "started", "region": "iad",
        "instance_id": "01HREQ", "private_ip": "fdaa:0:1::2", "host_status": "ok",
        "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:06.5Z",
        "image_ref": {"registry": "docker-hub-mirror.fly.io", "repository": "library/node", "tag": "22",
                      "digest": "sha256:abc", "labels": null},
        "config": {"image": "node:22", "auto_destroy": true, "env": {"JOB_TOKEN": "hunter2"},
                   "guest": {"cpu_kind": "shared", "cpus": 2, "memory_mb": 1024},
                   "metadata": {"od_sprite": "u-1"},
                   "mounts": [{"volume": "vol_1", "path": "/data", "size_gb": 1}]},
        "checks": [], "nonce": "x"
    }));
    assert_eq!(machine.state, State::Started);
    assert_eq!(machine.tag("od_sprite"), Some("u-1"));
    assert_eq!(machine.guest().map(|guest| guest.memory_mb), Some(1024));
    assert_eq!(machine.config.as_ref().unwrap().mounts[0].volume, "vol_1");
    assert_eq!(machine.image_ref.as_ref().unwrap().digest.as_deref(), Some("sha256:abc"));
    assert!(machine.is_certain() && machine.created_at < machine.updated_at);
    // What it was given in secret is not kept.
    assert!(!format!("{machine:?}").contains("hunter2"));
}

#[test]
fn whatever_is_missing_null_or_of_another_kind_hides_no_machine() {
    for odd in [
        json!({"id": "a"}),
        json!({"id": "a", "state": null, "config": null, "events": null, "host_status": null}),
        json!({"id": "a", "state": 7, "config": [], "events": {}, "host_status": {}, "name": 3}),
        json!({"id": "a", "created_at": "yesterday", "image_ref": "node", "instance_id": ""}),
    ] {
        let machine = read(odd);
        assert_eq!((machine.id.as_str(), machine.state.clone()), ("a", State::Untold));
        assert_eq!(
            (machine.config.is_none() || machine.tag("x").is_none(), machine.events.len()),
            (true, 0)
        );
        assert_eq!((machine.created_at, machine.instance_id), (None, None));
    }
    let machine = read(json!({"id": "a", "config": {"env": null, "metadata": {"k": null, "n": 5},
        "guest": {"cpus": "two", "memory_mb": 512}, "mounts": [3, {"volume": "v"}]}}));
    assert_eq!((machine.tag("k"), machine.tag("n")), (None, Some("5")));
    assert_eq!(machine.guest().map(|it| (it.cpus, it.memory_mb)), Some((0, 512)));
    // Without an id it is no machine, and the list it stands in cannot be trusted.
    assert!(serde_json::from_value::<Machine>(json!({"name": "a"})).is_err());
}

#[test]
fn every_state_has_its_word_and_an_unknown_one_keeps_its_own() {
    for (word, state) in State::WORDS {
        assert_eq!(word.parse(), Ok(state.clone()));
        assert_eq!(state.as_str(), word);
    }
    let machine = read(json!({"id": "a", "state": "hibernating"}));
    assert_eq!(machine.state, State::Other("hibernating".into()));
    assert_eq!(machine.state.to_string(), "hibernating");
    assert!(!machine.state.is_leaving());
    assert!(State::Destroying.is_leaving() && State::Destroyed.is_leaving());
}

#[test]
fn a_host_that_does_not_answer_makes_a_machine_uncertain() {
    for (status, expected) in [
        ("ok", HostStatus::Ok),
        ("unknown", HostStatus::Unknown),
        ("unreachable", HostStatus::Unreachable),
        ("haunted", HostStatus::Unknown),
    ] {
        let machine = read(json!({"id": "a", "host_status": status,
            "incomplete_config": {"metadata": {"od_sprite": "u"}}}));
        assert_eq!(machine.host_status, expected);
        assert_eq!(machine.is_certain(), expected == HostStatus::Ok);
        assert_eq!((machine.tag("od_sprite"), &machine.config), (Some("u"), &None));
    }
}

#[test]
fn an_exit_is_found_wherever_fly_put_it_and_a_missing_code_is_nought() {
    let exit = |request: Value| {
        let event = json!({"id": "1", "type": "exit", "status": "stopped", "source": "flyd",
            "timestamp": 1_767_000_000_123_i64, "request": request});
        read(json!({"id": "a", "events": [event]})).events.remove(0)
    };
    let event = exit(json!({"restart_count": 2, "exit_event": {"exit_code": 9},
        "MonitorEvent": {"exit_event": {"guest_exit_code": 0, "guest_signal": -1, "signal": 9,
            "oom_killed": true, "requested_stop": false, "restarting": false,
            "exited_at": "2026-01-02T03:04:05.678Z"}}}));
    assert_eq!((event.kind.as_str(), event.restart_count), ("exit", Some(2)));
    assert_eq!(event.at.map(Timestamp::as_millisecond), Some(1_767_000_000_123));
    let found = event.exit.unwrap();
    assert_eq!((found.exit_code, found.oom_killed), (0, true));
    assert_eq!((found.signal, found.guest_signal), (Some(9), None));
    assert!(found.exited_at.is_some());
    let event = exit(json!({"exit_event": {"exit_code": 137, "requested_stop": true}}));
    let expected = ExitEvent { exit_code: 137, requested_stop: true, ..ExitEvent::default() };
    assert_eq!(event.exit, Some(expected));
    for nothing in [json!(null), json!({}), json!([]), json!({"exit_event": null}), json!("x")] {
        assert_eq!(exit(nothing).exit, None);
    }
}

#[test]
fn volumes_and_apps_are_read_as_leniently() {
    let volume: Volume =
        serde_json::from_value(json!({"id": "vol_1", "name": "od", "state": "created",
        "region": "iad", "size_gb": 3, "attached_machine_id": null, "zone": "abcd"}))
        .unwrap();
    assert_eq!((volume.size_gb, volume.attached_machine_id.as_deref()), (3, None));
    assert!(!volume.is_leaving());
    let volume: Volume =
        serde_json::from_value(json!({"id": "vol_1", "state": "pending_destroy"})).unwrap();
    assert!(volume.is_leaving());
    let app: App =
        serde_json::from_value(json!({"id": "x", "name": "sprites", "status": "deployed",
        "organization": {"name": "Mine", "slug": "mine"}}))
        .unwrap();
    assert_eq!((app.name.as_str(), app.organization.slug.as_str()), ("sprites", "mine"));
    assert!(serde_json::from_value::<App>(json!({"organization": null})).is_ok());
}
