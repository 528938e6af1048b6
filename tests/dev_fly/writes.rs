//! Names, lost answers, updates, leases and metadata: rules 5, 10 to 12 and 19.

use open_dispatch::dev_fly::{Action, LostAnswer, Trouble};
use serde_json::json;

use super::desk::{Desk, wish};

#[tokio::test]
async fn a_name_is_held_until_its_machine_is_destroyed() {
    let desk = Desk::new().await;
    let id = desk.started("od-1", json!({})).await;
    let refused = desk.post("/machines", wish("od-1", json!({}))).await;
    assert_eq!(refused.status, 409);
    let said =
        format!("unique machine name violation, machine ID {id} already exists with name \"od-1\"");
    assert!(refused.error().contains(&said), "{}", refused.text);
    desk.call("DELETE", &format!("/machines/{id}?force=true"), None).await;
    assert_eq!(desk.post("/machines", wish("od-1", json!({}))).await.status, 409, "destroying");
    desk.reach(&id, "destroyed").await;
    assert_ne!(desk.create("od-1", json!({})).await, id);
}

#[tokio::test]
async fn a_lost_answer_to_a_create_tells_nothing_of_whether_it_was_done() {
    let desk = Desk::new().await;
    let mut seen = Vec::new();
    for (n, answer) in LostAnswer::ALL.into_iter().enumerate() {
        for (how, trouble) in
            [("after", Trouble::lost_after(answer)), ("before", Trouble::lost_before(answer))]
        {
            desk.fly.faults().once(Action::Create, trouble);
            let name = format!("{how}-{n}");
            let body = wish(&name, json!({}));
            let got = desk.try_call("POST", "/v1/apps/sprites/machines", Some(&body)).await;
            seen.push((got.map(|got| (got.status, got.text)), n));
            let is_there = desk.fly.machines().iter().any(|machine| machine.name == name);
            assert_eq!(is_there, how == "after", "{name}");
        }
    }
    for pair in seen.chunks(2) {
        assert_eq!(pair[0], pair[1], "both ways look the same");
    }
    let statuses: Vec<Option<u16>> =
        seen.iter().step_by(2).map(|(got, _)| got.as_ref().map(|(status, _)| *status)).collect();
    assert_eq!(statuses, [Some(408), Some(502), None]);
    assert_eq!(desk.fly.faults().waiting(), 0);
    let body = wish("after-0", json!({}));
    assert_eq!(desk.post("/machines", body).await.status, 409, "the name tells");
}

#[tokio::test]
async fn of_a_hundred_creates_some_are_lost_both_ways() {
    let desk = Desk::new().await;
    desk.fly.faults().set(|switches| switches.lost_percent = 60);
    let (mut lost_done, mut lost_undone) = (0, 0);
    for n in 0..100 {
        let body = wish(&format!("m{n}"), json!({}));
        let got = desk.try_call("POST", "/v1/apps/sprites/machines", Some(&body)).await;
        if got.is_none_or(|got| got.status != 200) {
            let name = format!("m{n}");
            match desk.fly.machines().iter().any(|machine| machine.name == name) {
                true => lost_done += 1,
                false => lost_undone += 1,
            }
        }
    }
    assert!(lost_done > 5 && lost_undone > 5, "{lost_done} {lost_undone}");
}

#[tokio::test]
async fn an_update_replaces_the_whole_config_and_boots_again() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({"env": {"A": "1"}, "metadata": {"k": "v"}})).await;
    let path = format!("/machines/{id}");
    let update = json!({"config": {"image": "registry.fly.io/agent:2"}});
    let updated = desk.post(&path, update.clone()).await;
    assert_eq!((updated.status, &updated.json["state"]), (200, &json!("replacing")));
    let start = desk.poke(&format!("{path}/start")).await;
    assert_eq!((start.status, start.error().contains("getting replaced")), (412, true));
    assert_eq!(desk.post(&path, update).await.status, 409, "a concurrent update");
    desk.reach(&id, "started").await;
    let machine = desk.truth(&id).unwrap();
    assert!(machine.metadata.is_empty() && machine.env("A").is_none(), "never merged");
    assert_eq!(machine.boots, 2);
}

#[tokio::test]
async fn an_update_of_a_stopped_machine_leaves_it_stopped_and_a_stale_one_is_refused() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    let path = format!("/machines/{id}");
    desk.poke(&format!("{path}/stop")).await;
    desk.reach(&id, "stopped").await;
    let before = desk.truth(&id).unwrap().instance;
    let config = json!({"image": "registry.fly.io/agent:2"});
    let stale = json!({"config": config, "current_version": "01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    assert_eq!(desk.post(&path, stale).await.status, 409);
    let fresh = json!({"config": config, "current_version": before});
    assert_eq!(desk.post(&path, fresh).await.status, 200);
    desk.reach(&id, "stopped").await;
    assert_eq!(desk.truth(&id).unwrap().boots, 1);
    assert_ne!(desk.truth(&id).unwrap().instance, before);
}

#[tokio::test]
async fn skip_launch_leaves_a_machine_created_until_it_is_started() {
    let desk = Desk::new().await;
    let mut body = wish("a", json!({}));
    body["skip_launch"] = json!(true);
    let id = desk.post("/machines", body).await.json["id"].as_str().unwrap().to_owned();
    desk.pass(600);
    assert_eq!(desk.state(&id).await, "created");
    assert_eq!(desk.poke(&format!("/machines/{id}/start")).await.status, 200);
    desk.reach(&id, "started").await;
}

#[tokio::test]
async fn a_lease_keeps_others_from_writing_until_it_ends() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    let lease = format!("/machines/{id}/lease");
    let taken = desk.post(&lease, json!({"ttl": 30, "description": "mine"})).await;
    assert_eq!((taken.status, &taken.json["status"]), (201, &json!("success")));
    let nonce = taken.json["data"]["nonce"].as_str().unwrap().to_owned();
    let refused = desk.poke(&format!("/machines/{id}/stop")).await;
    assert_eq!((refused.status, refused.error().contains("lease currently held")), (409, true));
    assert_eq!(desk.post(&lease, json!({"ttl": 9})).await.status, 409);
    let tag = desk.post(&format!("/machines/{id}/metadata/k"), json!({"value": "v"})).await;
    assert_eq!(tag.status, 204, "metadata are not guarded");
    let stop = format!("/v1/apps/sprites/machines/{id}/stop");
    let token = "Bearer fm2_dev_fly";
    let held = desk.call_as("POST", &stop, None, token, Some(&nonce)).await.unwrap();
    assert_eq!(held.status, 200);
    let path = format!("/v1/apps/sprites{lease}");
    let body = json!({"ttl": 30});
    let again = desk.call_as("POST", &path, Some(&body), token, Some(&nonce)).await.unwrap();
    assert_eq!((again.status, &again.json["data"]["nonce"]), (201, &json!(nonce)));
    assert_eq!(desk.call("DELETE", &lease, None).await.status, 409);
    desk.reach(&id, "stopped").await;
    desk.pass(31);
    assert_eq!(desk.poke(&format!("/machines/{id}/start")).await.status, 200);
    assert_eq!(desk.get(&lease).await.status, 404);
}

#[tokio::test]
async fn a_create_may_lease_what_it_makes() {
    let desk = Desk::new().await;
    let mut body = wish("a", json!({}));
    body["lease_ttl"] = json!(30);
    let made = desk.post("/machines", body).await.json;
    let path = format!("/machines/{}?force=true", made["id"].as_str().unwrap());
    assert_eq!(desk.call("DELETE", &path, None).await.status, 409);
    let nonce = made["nonce"].as_str();
    let path = format!("/v1/apps/sprites{path}");
    let done = desk.call_as("DELETE", &path, None, "FlyV1 fm2_dev_fly", nonce).await.unwrap();
    assert_eq!(done.status, 200);
}

#[tokio::test]
async fn metadata_filter_lists_and_make_no_new_version() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({"metadata": {"od_sprite": "u1", "x": "1"}})).await;
    desk.started("b", json!({"metadata": {"od_sprite": "u2"}})).await;
    let instance = desk.truth(&id).unwrap().instance;
    let path = format!("/machines/{id}/metadata");
    let found = desk.get("/machines?metadata.od_sprite=u1").await.json;
    assert_eq!(found.as_array().unwrap().len(), 1);
    let set = desk.post(&format!("{path}/od_tombstone"), json!({"value": "yes"})).await;
    assert_eq!(set.status, 204);
    assert_eq!(desk.get(&format!("{path}/od_tombstone")).await.json, json!({"value": "yes"}));
    let stale = json!({"metadata": {"x": "2"}, "machine_version": "01ARZ3NDEKTSV4RRFFQ69G5FAV"});
    assert_eq!(desk.call("PATCH", &path, Some(stale)).await.status, 412);
    let patch = json!({"metadata": {"x": null, "y": "2"}});
    assert_eq!(desk.call("PATCH", &path, Some(patch)).await.status, 204);
    let kept = json!({"od_sprite": "u1", "od_tombstone": "yes", "y": "2"});
    assert_eq!(desk.get(&path).await.json, kept);
    assert_eq!(desk.call("PUT", &path, Some(json!({"metadata": {"z": "3"}}))).await.status, 204);
    assert_eq!(desk.get(&path).await.json, json!({"z": "3"}));
    assert_eq!(desk.call("DELETE", &format!("{path}/z"), None).await.status, 204);
    assert_eq!(desk.get(&format!("{path}/z")).await.status, 404);
    assert_eq!(desk.truth(&id).unwrap().instance, instance);
    assert_eq!(desk.truth(&id).unwrap().boots, 1);
}
