//! Lists, limits and shapes: rules 9, 15, 18 and 22.

use std::time::Duration;

use open_dispatch::dev_fly::{Action, ErrorShape, Trouble};
use serde_json::{Value, json};

use super::desk::{Desk, wish};

fn names(list: &Value) -> Vec<String> {
    let all = list.as_array().unwrap().iter();
    let mut names: Vec<String> = all.map(|it| it["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_list_lags_behind_a_create_and_behind_a_destroy() {
    let desk = Desk::new().await;
    desk.fly.faults().set(|switches| switches.list_lag = Duration::from_secs(4));
    let id = desk.create("a", json!({})).await;
    desk.pass(3);
    assert_eq!(names(&desk.get("/machines").await.json), [] as [&str; 0]);
    assert_eq!(desk.get(&format!("/machines/{id}")).await.status, 200, "reads do not lag");
    desk.pass(1);
    assert_eq!(names(&desk.get("/machines").await.json), ["a"]);
    desk.reach(&id, "started").await;
    desk.call("DELETE", &format!("/machines/{id}?force=true"), None).await;
    desk.reach(&id, "destroyed").await;
    assert_eq!(desk.fly.machines(), []);
    assert_eq!(names(&desk.get("/machines").await.json), ["a"], "still there");
    desk.pass(5);
    assert_eq!(names(&desk.get("/machines").await.json), [] as [&str; 0]);
    let all = desk.get("/machines?include_deleted=true").await.json;
    assert_eq!(all[0]["state"], "destroyed");
}

#[tokio::test]
async fn a_list_shows_each_state_at_its_own_time_however_far_the_clock_jumps() {
    let desk = Desk::new().await;
    desk.fly.faults().set(|switches| switches.list_lag = Duration::from_secs(2));
    desk.create("a", json!({})).await;
    desk.pass(8);
    let list = desk.get("/machines").await.json;
    assert_eq!(list[0]["state"], "starting", "as it was two seconds ago");
}

#[tokio::test]
async fn lists_filter_by_state_region_and_tags_and_can_be_short() {
    let desk = Desk::new().await;
    let a = desk.started("a", json!({"env": {"A": "1"}, "metadata": {"t": "1"}})).await;
    let mut body = wish("b", json!({}));
    body["region"] = json!("lhr");
    desk.post("/machines", body).await;
    assert_eq!(names(&desk.get("/machines?state=started").await.json), ["a"]);
    assert_eq!(names(&desk.get("/machines?state=started,created").await.json), ["a", "b"]);
    assert_eq!(names(&desk.get("/machines?region=lhr").await.json), ["b"]);
    assert_eq!(names(&desk.get("/machines?metadata.t=2").await.json), [] as [&str; 0]);
    let short = desk.get("/machines?summary=true&state=started").await.json;
    assert_eq!(short[0]["id"], json!(a));
    assert_eq!(short[0]["config"]["metadata"]["t"], "1");
    assert!(short[0]["config"].get("env").is_none() && short[0].get("events").is_none());
}

#[tokio::test]
async fn the_list_of_the_organization_has_pages_and_says_what_is_missing() {
    let desk = Desk::new().await;
    for n in 0..5 {
        desk.create(&format!("m{n}"), json!({})).await;
    }
    let mut body = wish("far", json!({}));
    body["region"] = json!("lhr");
    desk.post("/machines", body).await;
    desk.fly.faults().set(|switches| _ = switches.silent_regions.insert("lhr".into()));
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/orgs/personal/machines?limit=2&cursor={cursor}");
        let page = desk.try_call("GET", &path, None).await.unwrap().json;
        assert_eq!(page["error_regions"], json!(["lhr"]));
        found.extend(names(&page["machines"]));
        assert_eq!(page["machines"][0]["app_name"], "sprites");
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    found.sort();
    assert_eq!(found, ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(names(&desk.get("/machines").await.json).len(), 5, "and an app's list is silent");
    let other = desk.try_call("GET", "/v1/orgs/other/machines", None).await.unwrap();
    assert_eq!(other.status, 404);
}

#[tokio::test]
async fn more_than_three_at_once_and_one_a_second_are_refused() {
    let desk = Desk::new().await;
    desk.fly.faults().set(|switches| switches.rate_limits = true);
    let mut statuses = Vec::new();
    for n in 0..5 {
        let got = desk.post("/machines", wish(&format!("m{n}"), json!({}))).await;
        assert_eq!(got.retry_after, None);
        statuses.push(got.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(desk.get("/machines").await.status, 200, "another action, another bucket");
    desk.pass(1);
    desk.fly.faults().set(|switches| switches.retry_after = Some(Duration::from_secs(7)));
    assert_eq!(desk.post("/machines", wish("m5", json!({}))).await.status, 200);
    let refused = desk.post("/machines", wish("m6", json!({}))).await;
    assert_eq!((refused.status, refused.retry_after.as_deref()), (429, Some("7")));
    assert_eq!(refused.error(), "rate limit exceeded");
    let counted = desk.fly.calls().iter().filter(|call| call.status == Some(429)).count();
    assert_eq!(counted, 3);
    desk.fly.faults().once(Action::List, Trouble::RateLimited { retry_after: Some(1) });
    assert_eq!(desk.get("/machines").await.status, 429, "by a fault, too");
}

#[tokio::test]
async fn answers_are_normalised() {
    let desk = Desk::new().await;
    let config = json!({"image": "alpine", "services": [{"autostop": "off"}],
        "stop_config": {"timeout": "30s"}});
    let id = desk.create("a", config).await;
    let shown = desk.get(&format!("/machines/{id}")).await.json;
    assert_eq!(shown["config"]["services"][0]["autostop"], false);
    assert_eq!(shown["config"]["guest"]["memory_mb"], 256);
    assert_eq!(shown["config"]["stop_config"]["timeout"], 30_000_000_000_u64);
    assert_eq!(shown["image_ref"]["registry"], "docker-hub-mirror.fly.io");
    assert!(shown["image_ref"]["digest"].as_str().unwrap().starts_with("sha256:"));
}

#[tokio::test]
async fn refusals_come_in_every_shape_and_always_with_a_request_id() {
    let desk = Desk::new().await;
    let path = "/machines/00000000000000";
    let shapes = [ErrorShape::Error, ErrorShape::Message, ErrorShape::Html, ErrorShape::Empty];
    for shape in shapes {
        desk.fly.faults().set(|switches| switches.shape = shape);
        let got = desk.get(path).await;
        assert_eq!(got.status, 404);
        assert!(got.request_id.is_some_and(|id| !id.is_empty()));
        match shape {
            ErrorShape::Error => assert!(got.json["error"].is_string()),
            ErrorShape::Message => assert_eq!(got.json["status"], "error"),
            ErrorShape::Html => assert!(got.text.starts_with("<html>")),
            ErrorShape::Empty => assert_eq!(got.text, ""),
        }
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_every_form_of_the_right_one_taken() {
    let desk = Desk::new().await;
    let path = "/v1/apps/sprites";
    let status = async |token: &str| desk.call_as("GET", path, None, token, None).await.unwrap();
    assert_eq!(status("Bearer nonsense").await.status, 401);
    assert_eq!(status("Bearer nonsense").await.error(), "Authenticate: token validation error");
    for token in ["Bearer fm2_dev_fly", "FlyV1 fm2_dev_fly", "Bearer FlyV1 fm2_dev_fly"] {
        assert_eq!(status(token).await.status, 200, "{token}");
    }
    desk.fly.faults().set(|switches| switches.token_refused = true);
    assert_eq!(status("Bearer fm2_dev_fly").await.status, 401);
}

#[tokio::test]
async fn fields_that_nobody_knows_are_ignored_and_counted_and_wrong_types_refused() {
    let desk = Desk::new().await;
    let mut body = wish("a", json!({"auto_destory": true}));
    let id = desk.post("/machines", body.clone()).await.json["id"].clone();
    assert!(id.is_string());
    let found = desk.fly.violations();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].place, "config.auto_destory");
    body["config"]["guest"] = json!({"cpus": "two"});
    body["name"] = json!("b");
    let refused = desk.post("/machines", body).await;
    assert_eq!((refused.status, refused.error().contains("config.guest.cpus")), (400, true));
    let stop = format!("/machines/{}/stop", id.as_str().unwrap());
    assert_eq!(desk.post(&stop, json!([])).await.status, 400, "an object, or nothing");
}
