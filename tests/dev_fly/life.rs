//! States, exits, events and waits: rules 1 to 4, 6 to 8, 16 and 17.

use open_dispatch::dev_fly::Deed;
use serde_json::{Value, json};

use super::desk::Desk;

#[tokio::test]
async fn ids_are_fourteen_hex_digits_and_each_version_has_a_ulid() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    assert!(id.len() == 14 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let first = desk.get(&format!("/machines/{id}")).await.json;
    let first = first["instance_id"].as_str().unwrap();
    assert_eq!(first.len(), 26);
    let update = json!({"config": {"image": "registry.fly.io/agent:2"}});
    let second = desk.post(&format!("/machines/{id}"), update).await.json;
    let second = second["instance_id"].as_str().unwrap();
    assert_ne!(first, second);
    let versions = desk.get(&format!("/machines/{id}/versions")).await.json;
    assert_eq!([&versions[0]["version"], &versions[1]["version"]], [second, first]);
}

#[tokio::test]
async fn a_machine_is_created_long_before_it_starts() {
    let desk = Desk::new().await;
    let id = desk.create("a", json!({})).await;
    desk.pass(5);
    assert_eq!(desk.state(&id).await, "created");
    let refused = desk.poke(&format!("/machines/{id}/start")).await;
    assert_eq!(refused.status, 412);
    assert!(refused.error().contains("from current state: 'created'"), "{}", refused.text);
    desk.pass(1);
    assert_eq!(desk.state(&id).await, "starting");
    desk.pass(1);
    assert_eq!(desk.state(&id).await, "started");
    assert_eq!(desk.fly.boots().len(), 1);
}

#[tokio::test]
async fn a_state_nobody_knows_is_shown_on_demand() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    desk.fly.faults().set(|it| drop(it.shown_states.insert(id.clone(), "hibernating".into())));
    assert_eq!(desk.state(&id).await, "hibernating");
    assert_eq!(desk.truth(&id).unwrap().state, "started");
}

#[tokio::test]
async fn a_start_just_after_a_stop_is_refused_and_then_boots_again() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    assert_eq!(desk.poke(&format!("/machines/{id}/stop")).await.status, 200);
    assert_eq!(desk.state(&id).await, "stopping");
    desk.reach(&id, "stopped").await;
    let start = format!("/machines/{id}/start");
    let refused = desk.poke(&start).await;
    assert_eq!((refused.status, refused.error().contains("still active")), (412, true));
    desk.pass(2);
    let started = desk.poke(&start).await;
    assert_eq!((started.status, &started.json["previous_state"]), (200, &json!("stopped")));
    desk.reach(&id, "started").await;
    let boots = desk.fly.boots();
    assert_eq!(boots.len(), 2);
    assert!(boots[0].ended.unwrap() <= boots[1].started);
    assert_eq!(desk.poke(&start).await.json["previous_state"], "started", "twice is fine");
    assert_eq!(desk.fly.boots().len(), 2);
}

#[tokio::test]
async fn who_does_not_stop_in_time_is_killed() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({"env": {"DEAF": "1"}})).await;
    let before = desk.now();
    let wish = json!({"signal": "SIGTERM", "timeout": "20s"});
    assert_eq!(desk.post(&format!("/machines/{id}/stop"), wish).await.status, 200);
    desk.reach(&id, "stopped").await;
    assert!(desk.now().duration_since(before).as_secs() >= 20);
    let exit = desk.exit(&id).await;
    assert_eq!(exit["exit_event"]["requested_stop"], true);
    assert_eq!(exit["exit_event"]["guest_signal"], 9);
}

#[tokio::test]
async fn the_stop_config_says_how_long_a_stop_may_take() {
    let desk = Desk::new().await;
    let config = json!({"env": {"DEAF": "1"}, "stop_config": {"timeout": "40s"}});
    let id = desk.started("a", config).await;
    let before = desk.now();
    desk.poke(&format!("/machines/{id}/stop")).await;
    desk.reach(&id, "stopped").await;
    assert!(desk.now().duration_since(before).as_secs() >= 40);
}

#[tokio::test]
async fn a_running_machine_is_destroyed_by_force_alone_and_is_read_for_a_while_after() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    let path = format!("/machines/{id}");
    assert_eq!(desk.call("DELETE", &path, None).await.status, 412);
    let done = desk.call("DELETE", &format!("{path}?force=true"), None).await;
    assert_eq!((done.status, done.json), (200, json!({"ok": true})));
    assert_eq!(desk.state(&id).await, "destroying");
    desk.reach(&id, "destroyed").await;
    let read = desk.get(&path).await;
    assert_eq!((read.status, &read.json["state"]), (200, &json!("destroyed")));
    let again = desk.call("DELETE", &format!("{path}?force=true"), None).await;
    assert_eq!(again.status, 200, "as often as you like");
    desk.pass(60);
    assert_eq!(desk.get(&path).await.status, 404);
    assert_eq!(desk.get("/machines/00000000000000").await.status, 404, "and who never was");
}

#[tokio::test]
async fn auto_destroy_goes_on_zero_and_on_non_zero_without_a_stopped_between() {
    let desk = Desk::new().await;
    for code in ["0", "3"] {
        let config = json!({"auto_destroy": true, "env": {"EXIT": code}});
        let id = desk.create(&format!("job-{code}"), config).await;
        desk.reach(&id, "destroyed").await;
        let states: Vec<String> = desk
            .events(&id)
            .await
            .iter()
            .filter(|event| event["type"] != "exit")
            .map(|event| event["status"].as_str().unwrap().to_owned())
            .collect();
        assert!(!states.contains(&"stopped".to_owned()), "{states:?}");
        assert_eq!(states[0], "destroyed");
        let exit = desk.exit(&id).await;
        assert_eq!(exit["MonitorEvent"]["exit_event"]["requested_stop"], false);
    }
}

#[tokio::test]
async fn policy_no_leaves_a_failure_stopped_and_on_failure_boots_it_again_ten_times() {
    let desk = Desk::new().await;
    let once = desk.create("once", json!({"env": {"EXIT": "3"}})).await;
    desk.reach(&once, "stopped").await;
    assert_eq!(desk.truth(&once).unwrap().boots, 1);
    let config = json!({"env": {"EXIT": "3"}, "restart": {"policy": "on-failure"}});
    let many = desk.create("many", config).await;
    desk.reach(&many, "stopped").await;
    assert_eq!(desk.truth(&many).unwrap().boots, 11);
    assert_eq!(desk.exit(&many).await["restart_count"], 10);
    let config = json!({"env": {"EXIT": "0"}, "restart": {"policy": "on-failure"}});
    let fine = desk.create("fine", config).await;
    desk.reach(&fine, "stopped").await;
    assert_eq!(desk.truth(&fine).unwrap().boots, 1);
}

#[tokio::test]
async fn memory_that_runs_out_is_told_apart_from_a_crash() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    assert!(desk.fly.faults().meddle(&id, Deed::OutOfMemory));
    desk.reach(&id, "stopped").await;
    assert_eq!(desk.exit(&id).await["exit_event"]["oom_killed"], true);
    let id = desk.started("b", json!({})).await;
    assert!(desk.fly.faults().meddle(&id, Deed::Crash));
    desk.reach(&id, "stopped").await;
    let exit = desk.exit(&id).await;
    assert_eq!(exit["exit_event"]["oom_killed"], false);
    assert_eq!(exit["exit_event"]["exit_code"], 137);
    assert_eq!(exit["exit_event"]["requested_stop"], false);
}

#[tokio::test]
async fn events_come_newest_first_with_null_requests_and_without_a_zero() {
    let desk = Desk::new().await;
    let id = desk.create("a", json!({"env": {"EXIT": "0"}})).await;
    desk.reach(&id, "stopped").await;
    let events = desk.events(&id).await;
    let times: Vec<i64> = events.iter().map(|it| it["timestamp"].as_i64().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["request"]), (&json!("launch"), &Value::Null));
    let exit = desk.exit(&id).await;
    assert!(exit["exit_event"].get("exit_code").is_none(), "{exit}");
    desk.fly.faults().set(|switches| switches.omit_exit_zero = false);
    let id = desk.create("b", json!({"env": {"EXIT": "0"}})).await;
    desk.reach(&id, "stopped").await;
    assert_eq!(desk.exit(&id).await["exit_event"]["exit_code"], 0);
    let few = desk.get(&format!("/machines/{id}/events?limit=2")).await;
    assert_eq!(few.json.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_wait_is_bound_to_a_minute_and_for_stopped_to_a_version() {
    let desk = Desk::new().await;
    let id = desk.create("a", json!({})).await;
    let wait = |query: &str| format!("/machines/{id}/wait?{query}");
    for query in ["timeout=90", "timeout=0", "state=stopped", "state=created"] {
        let got = desk.get(&wait(query)).await;
        assert_eq!(got.status, 400, "{query}: {}", got.text);
    }
    let path = wait("state=started&timeout=3");
    let (got, ()) = tokio::join!(desk.get(&path), async {
        for _ in 0..40 {
            desk.breathe().await;
            desk.clock.advance(std::time::Duration::from_millis(100));
        }
    });
    assert_eq!(got.status, 408);
    assert!(got.error().contains("desired state, started, currently created"), "{}", got.text);
    let path = wait("state=stopped,started&instance_id=x&timeout=60");
    let instance = desk.truth(&id).unwrap().instance;
    let path = path.replace("=x", &format!("={instance}"));
    let (got, ()) = tokio::join!(desk.get(&path), desk.reach(&id, "started"));
    assert_eq!((got.status, &got.json["state"]), (200, &json!("started")));
    assert_eq!(desk.get(&wait("state=settled")).await.status, 200);
}

#[tokio::test]
async fn a_wait_may_not_find_what_was_just_made() {
    let desk = Desk::new().await;
    desk.fly.faults().set(|it| it.wait_lag = std::time::Duration::from_secs(2));
    let id = desk.create("a", json!({})).await;
    let path = format!("/machines/{id}/wait?state=started&timeout=60");
    assert_eq!(desk.get(&path).await.status, 404);
    desk.reach(&id, "started").await;
    assert_eq!(desk.get(&path).await.status, 200);
}

#[tokio::test]
async fn a_host_that_does_not_answer_hides_the_config() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    assert!(desk.fly.faults().meddle(&id, Deed::HostUnreachable));
    let shown = desk.get(&format!("/machines/{id}")).await.json;
    assert_eq!(shown["host_status"], "unreachable");
    assert!(shown.get("config").is_none());
    assert_eq!(shown["incomplete_config"]["image"], "registry.fly.io/agent:1");
    assert_eq!(desk.poke(&format!("/machines/{id}/stop")).await.status, 408);
    assert!(desk.truth(&id).unwrap().is_running, "what runs there runs on");
    assert!(desk.fly.faults().meddle(&id, Deed::HostBack));
    assert_eq!(desk.poke(&format!("/machines/{id}/stop")).await.status, 200);
}

#[tokio::test]
async fn a_lost_host_ends_what_ran_there_and_says_nothing() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    assert!(desk.fly.faults().meddle(&id, Deed::HostLost));
    desk.breathe().await;
    desk.pass(60);
    desk.breathe().await;
    let shown = desk.get(&format!("/machines/{id}")).await.json;
    assert_eq!(shown["host_status"], "unreachable");
    assert_eq!(shown["state"], "started");
    assert!(!desk.truth(&id).unwrap().is_running);
    assert!(desk.fly.faults().meddle(&id, Deed::HostBack));
    desk.reach(&id, "stopped").await;
}

#[tokio::test]
async fn a_migration_keeps_the_id_and_changes_host_and_address() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    let before = desk.get(&format!("/machines/{id}")).await.json;
    let host = desk.truth(&id).unwrap().host;
    assert!(desk.fly.faults().meddle(&id, Deed::Migrate));
    desk.breathe().await;
    desk.reach(&id, "started").await;
    let after = desk.get(&format!("/machines/{id}")).await.json;
    assert_eq!(before["id"], after["id"]);
    assert_ne!(before["private_ip"], after["private_ip"]);
    assert_ne!(desk.truth(&id).unwrap().host, host);
    let boots = desk.fly.boots();
    assert_eq!(boots.len(), 2);
    assert!(boots[0].ended.unwrap() <= boots[1].started, "never in two places");
}

#[tokio::test]
async fn machines_are_started_and_stopped_by_others() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    assert!(desk.fly.faults().meddle(&id, Deed::Stop));
    desk.reach(&id, "stopped").await;
    let events = desk.events(&id).await;
    assert!(events.iter().any(|it| it["type"] == "stop" && it["source"] == "proxy"), "{events:?}");
    assert!(desk.fly.faults().meddle(&id, Deed::Start));
    desk.reach(&id, "started").await;
    assert!(!desk.fly.faults().meddle("nobody", Deed::Start));
    assert!(desk.fly.faults().meddle(&id, Deed::Destroy));
    desk.reach(&id, "destroyed").await;
}

#[tokio::test]
async fn suspend_keeps_what_runs_and_may_fall_back_to_stop_or_boot_anew() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    let (suspend, start) = (format!("/machines/{id}/suspend"), format!("/machines/{id}/start"));
    assert_eq!(desk.poke(&suspend).await.status, 200);
    assert_eq!(desk.state(&id).await, "suspending");
    desk.reach(&id, "suspended").await;
    desk.poke(&start).await;
    desk.reach(&id, "started").await;
    assert_eq!(desk.fly.boots().len(), 1, "it goes on");
    desk.fly.faults().set(|switches| switches.resume_cold = true);
    desk.poke(&suspend).await;
    desk.reach(&id, "suspended").await;
    desk.poke(&start).await;
    desk.breathe().await;
    desk.reach(&id, "started").await;
    assert_eq!(desk.fly.boots().len(), 2, "it boots anew");
    desk.fly.faults().set(|switches| switches.suspend_stops = true);
    desk.poke(&suspend).await;
    desk.reach(&id, "stopped").await;
}

#[tokio::test]
async fn a_wedged_machine_stays_where_it_is() {
    let desk = Desk::new().await;
    let id = desk.create("a", json!({})).await;
    assert!(desk.fly.faults().meddle(&id, Deed::Wedge));
    desk.pass(600);
    assert_eq!(desk.state(&id).await, "created");
    assert!(desk.fly.faults().meddle(&id, Deed::Unwedge));
    desk.reach(&id, "started").await;
}

#[tokio::test]
async fn a_broken_image_fails_at_create_or_later() {
    use open_dispatch::dev_fly::{Image, ImageTrouble};
    let desk = Desk::with(|config| {
        let broken = |trouble| Image { trouble: Some(trouble), ..Image::default() };
        config.images.known.insert("secret".into(), broken(ImageTrouble::Refused));
        config.images.known.insert("broken".into(), broken(ImageTrouble::FailsToLaunch));
        config.images.known.insert("fine".into(), Image::default());
        config.images.others = None;
    })
    .await;
    for image in ["secret", "unknown", ""] {
        let body = super::desk::wish("a", json!({ "image": image }));
        let got = desk.post("/machines", body).await;
        assert_eq!(got.status, 400, "{image}: {}", got.text);
    }
    let id = desk.create("b", json!({"image": "broken"})).await;
    desk.reach(&id, "launch_failed").await;
    desk.reach(&id, "destroyed").await;
    assert!(desk.fly.boots().is_empty());
    desk.started("c", json!({"image": "fine"})).await;
}
