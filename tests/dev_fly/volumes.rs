//! Capacity and volumes: rules 13 and 14.

use open_dispatch::dev_fly::{Action, Deed, Trouble};
use serde_json::json;

use super::desk::{Desk, wish};

async fn volume(desk: &Desk, name: &str) -> String {
    let got = desk.post("/volumes", json!({"name": name, "region": "iad", "size_gb": 1})).await;
    assert_eq!(got.status, 200, "{}", got.text);
    got.json["id"].as_str().unwrap().to_owned()
}

fn mounted(volume: &str) -> serde_json::Value {
    json!({"mounts": [{"volume": volume, "path": "/data"}]})
}

#[tokio::test]
async fn a_full_region_is_told_and_the_next_one_of_the_call_taken() {
    let desk = Desk::new().await;
    desk.fly.faults().set(|switches| _ = switches.full_regions.insert("iad".into()));
    let refused = desk.post("/machines", wish("a", json!({}))).await;
    assert_eq!((refused.status, &refused.json["status"]), (422, &json!("insufficient_capacity")));
    let mut body = wish("a", json!({}));
    body["region"] = json!("iad,us");
    let made = desk.post("/machines", body.clone()).await.json;
    assert_eq!(made["region"], "dfw");
    body["region"] = json!("mars");
    body["name"] = json!("b");
    assert_eq!(desk.post("/machines", body).await.status, 400);
}

#[tokio::test]
async fn a_host_that_filled_up_does_not_start_what_stopped_on_it() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    desk.poke(&format!("/machines/{id}/stop")).await;
    desk.reach(&id, "stopped").await;
    desk.pass(10);
    let host = desk.truth(&id).unwrap().host;
    desk.fly.faults().set(|switches| _ = switches.full_hosts.insert(host));
    let refused = desk.poke(&format!("/machines/{id}/start")).await;
    assert_eq!(refused.status, 409);
    assert!(refused.error().contains("could not reserve resource for machine"));
    assert_eq!(desk.state(&id).await, "stopped");
}

#[tokio::test]
async fn hosts_have_slots_and_what_is_stopped_takes_none() {
    let desk = Desk::with(|config| {
        config.habits.hosts = 1;
        config.habits.slots = Some(1);
    })
    .await;
    let first = desk.started("a", json!({})).await;
    assert_eq!(desk.post("/machines", wish("b", json!({}))).await.status, 422);
    desk.poke(&format!("/machines/{first}/stop")).await;
    desk.reach(&first, "stopped").await;
    desk.started("b", json!({})).await;
}

#[tokio::test]
async fn every_form_of_want_of_room_can_be_had_once() {
    let desk = Desk::new().await;
    let troubles =
        [(Trouble::host_full(), 409), (Trouble::region_full(), 422), (Trouble::volume_full(), 412)];
    for (trouble, status) in troubles {
        desk.fly.faults().once(Action::Create, trouble);
        assert_eq!(desk.post("/machines", wish("a", json!({}))).await.status, status);
    }
    desk.fly.faults().set(|switches| switches.machine_limit = Some(0));
    let refused = desk.post("/machines", wish("a", json!({}))).await;
    assert_eq!((refused.status, refused.json.get("status")), (422, None));
    assert_eq!(desk.fly.machines(), []);
}

#[tokio::test]
async fn sizes_that_fly_does_not_sell_are_refused() {
    let desk = Desk::new().await;
    for guest in [
        json!({"cpu_kind": "shared", "cpus": 3, "memory_mb": 768}),
        json!({"cpu_kind": "shared", "cpus": 1, "memory_mb": 4096}),
        json!({"cpu_kind": "performance", "cpus": 1, "memory_mb": 1024}),
        json!({"cpu_kind": "quantum"}),
    ] {
        let got = desk.post("/machines", wish("a", json!({ "guest": guest }))).await;
        assert_eq!(got.status, 422, "{guest}: {}", got.text);
    }
    desk.create("a", json!({"guest": {"cpu_kind": "shared", "cpus": 2, "memory_mb": 4096}})).await;
}

#[tokio::test]
async fn volume_names_are_not_unique() {
    let desk = Desk::new().await;
    let (first, second) = (volume(&desk, "home").await, volume(&desk, "home").await);
    assert_ne!(first, second);
    let list = desk.get("/volumes").await.json;
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(desk.post("/volumes", json!({"name": "Not Plain"})).await.status, 400);
}

#[tokio::test]
async fn a_machine_goes_where_its_volume_is_and_has_it_alone() {
    let desk = Desk::new().await;
    let id = volume(&desk, "home").await;
    let machine = desk.started("a", mounted(&id)).await;
    let place = &desk.fly.volumes()[0];
    assert_eq!(desk.truth(&machine).unwrap().host, place.host);
    assert_eq!(place.machine.as_deref(), Some(machine.as_str()));
    let refused = desk.post("/machines", wish("b", mounted(&id))).await;
    assert_eq!((refused.status, refused.error().contains("already claimed")), (412, true));
    assert_eq!(desk.call("DELETE", &format!("/volumes/{id}"), None).await.status, 409);
    let mut body = wish("c", mounted(&volume(&desk, "other").await));
    body["region"] = json!("lhr");
    assert_eq!(desk.post("/machines", body).await.status, 412, "pinned to its region");
    assert_eq!(desk.post("/machines", wish("d", mounted("vol_nobody"))).await.status, 404);
}

#[tokio::test]
async fn a_volume_stays_claimed_for_a_while_after_its_machine() {
    let desk = Desk::new().await;
    let id = volume(&desk, "home").await;
    let machine = desk.started("a", mounted(&id)).await;
    desk.call("DELETE", &format!("/machines/{machine}?force=true"), None).await;
    desk.reach(&machine, "destroyed").await;
    desk.pass(30);
    let path = format!("/volumes/{id}");
    assert_eq!(desk.post("/machines", wish("a", mounted(&id))).await.status, 412);
    assert_eq!(desk.call("DELETE", &path, None).await.status, 409);
    desk.pass(60);
    desk.started("a", mounted(&id)).await;
    assert_eq!(desk.get(&path).await.json["state"], "created");
}

#[tokio::test]
async fn a_full_host_keeps_a_volume_from_being_used() {
    let desk = Desk::new().await;
    let id = volume(&desk, "home").await;
    let host = desk.fly.volumes()[0].host.clone();
    desk.fly.faults().set(|switches| _ = switches.full_hosts.insert(host));
    let refused = desk.post("/machines", wish("a", mounted(&id))).await;
    let code = &refused.json["status"];
    assert_eq!((refused.status, code), (412, &json!("volume_placement_capacity")));
}

#[tokio::test]
async fn a_volume_moves_with_its_machine_and_is_not_swapped_by_an_update() {
    let desk = Desk::new().await;
    let (first, second) = (volume(&desk, "home").await, volume(&desk, "home").await);
    let machine = desk.started("a", mounted(&first)).await;
    assert!(desk.fly.faults().meddle(&machine, Deed::Migrate));
    desk.breathe().await;
    desk.reach(&machine, "started").await;
    let moved = desk.fly.volumes().into_iter().find(|it| it.id == first).unwrap();
    assert_eq!(moved.host, desk.truth(&machine).unwrap().host);
    let mut config = mounted(&second);
    config["image"] = json!("registry.fly.io/agent:2");
    let path = format!("/machines/{machine}");
    assert_eq!(desk.post(&path, json!({ "config": config })).await.status, 400);
}

#[tokio::test]
async fn a_volume_that_is_destroyed_is_gone_after_a_while() {
    let desk = Desk::new().await;
    let path = format!("/volumes/{}", volume(&desk, "home").await);
    let done = desk.call("DELETE", &path, None).await;
    assert_eq!((done.status, &done.json["state"]), (200, &json!("pending_destroy")));
    desk.pass(10);
    assert_eq!(desk.get(&path).await.status, 404);
    assert_eq!(desk.fly.volumes(), []);
}
