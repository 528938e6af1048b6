//! Apps, secrets and the directory: rules 19 and 21.

use open_dispatch::dev_fly::{DevFly, DevFlyConfig, Exit, Guest};
use serde_json::json;

use super::desk::Desk;

#[tokio::test]
async fn an_app_is_missing_for_a_while_after_it_was_made() {
    let desk = Desk::new().await;
    let body = json!({"app_name": "other", "org_slug": "personal"});
    let made = desk.try_call("POST", "/v1/apps", Some(&body)).await.unwrap();
    assert_eq!(made.status, 201);
    let get = async || desk.try_call("GET", "/v1/apps/other", None).await.unwrap();
    assert_eq!(get().await.status, 404);
    desk.pass(5);
    assert_eq!(get().await.json["name"], "other");
    let taken = desk.try_call("POST", "/v1/apps", Some(&body)).await.unwrap();
    assert_eq!((taken.status, &taken.json["status"]), (422, &json!("name_taken")));
    desk.fly.faults().set(|switches| _ = switches.foreign_apps.insert("other".into()));
    assert_eq!(get().await.status, 403);
    assert_eq!(desk.try_call("GET", "/v1/apps/nobody", None).await.unwrap().status, 404);
}

#[tokio::test]
async fn an_app_takes_its_machines_and_volumes_with_it() {
    let desk = Desk::new().await;
    let id = desk.started("a", json!({})).await;
    desk.post("/volumes", json!({"name": "home", "region": "iad"})).await;
    assert_eq!(desk.call("DELETE", "?force=true", None).await.status, 202);
    desk.reach(&id, "destroyed").await;
    assert_eq!(desk.fly.volumes(), []);
    assert_eq!(desk.get(&format!("/machines/{id}")).await.status, 404);
}

#[tokio::test]
async fn secrets_have_versions_and_reach_a_machine_when_it_boots() {
    let desk = Desk::with(|config| {
        config.guest = Guest::Scripted(std::sync::Arc::new(|boot| {
            let known = boot.env.get("TOKEN").is_some_and(|value| value == "t0ps");
            Box::pin(async move { Exit::code(if known { 0 } else { 9 }) })
        }));
    })
    .await;
    let before = desk.get("/secrets").await.json["version"].as_u64().unwrap();
    let set = desk.post("/secrets", json!({"values": {"TOKEN": "t0ps"}})).await;
    assert_eq!(set.json["version"], before + 1);
    assert!(!set.text.contains("t0ps"), "a digest alone");
    let id = desk.create("a", json!({})).await;
    desk.reach(&id, "stopped").await;
    assert_eq!(desk.fly.boots()[0].exit, Some(Exit::code(0)));
    let shown = desk.get("/secrets/TOKEN?show_secrets=true").await;
    assert_eq!(shown.json["value"], "t0ps");
    assert_eq!(desk.call("DELETE", "/secrets/TOKEN", None).await.status, 200);
    assert_eq!(desk.get("/secrets/TOKEN").await.status, 404);
}

#[tokio::test]
async fn a_machine_finds_flys_variables_in_its_environment() {
    let desk = Desk::with(|config| {
        config.guest = Guest::Scripted(std::sync::Arc::new(|boot| {
            let has = |name: &str, value: &str| boot.env.get(name).is_some_and(|it| it == value);
            let fits = has("FLY_MACHINE_ID", &boot.machine)
                && has("FLY_APP_NAME", "sprites")
                && has("FLY_REGION", "iad")
                && has("FLY_VM_MEMORY_MB", "256")
                && has("FLY_IMAGE_REF", "registry.fly.io/agent:1")
                && has("SPRITE_ROOT", &boot.root.display().to_string())
                && has("A", "1");
            Box::pin(async move { Exit::code(if fits { 0 } else { 9 }) })
        }));
    })
    .await;
    let id = desk.create("a", json!({"env": {"A": "1"}})).await;
    desk.reach(&id, "stopped").await;
    assert_eq!(desk.fly.boots()[0].exit, Some(Exit::code(0)));
}

#[tokio::test]
async fn who_calls_this_computer_by_another_name_is_refused_even_with_the_token() {
    let desk = Desk::new().await;
    let url = desk.fly.url().join("/v1/apps/sprites").unwrap();
    let status = async |host: &str| {
        let asked = super::desk::client().get(url.clone()).bearer_auth("fm2_dev_fly");
        asked.header("host", host).send().await.unwrap().status().as_u16()
    };
    for host in ["127.0.0.1:4280", "localhost", "LOCALHOST:1", "[::1]:4280"] {
        assert_eq!(status(host).await, 200, "{host}");
    }
    for host in ["rebound.example", "rebound.example:4280", "localhost.rebound.example", ""] {
        assert_eq!(status(host).await, 421, "{host}");
    }
}

#[tokio::test]
async fn a_directory_has_one_fake_at_a_time_and_keeps_its_volumes() {
    let desk = Desk::new().await;
    desk.post("/volumes", json!({"name": "home", "region": "iad"})).await;
    let again = || {
        let guest = Guest::Scripted(std::sync::Arc::new(|_| Box::pin(async { Exit::code(0) })));
        DevFlyConfig::new(desk.dir.path(), guest)
    };
    let refused = DevFly::start(again()).await.err().unwrap().to_string();
    assert!(refused.starts_with("another dev-fly uses"), "{refused}");
    let config = again();
    let kept = desk.fly.volumes();
    desk.fly.shutdown().await;
    let fly = DevFly::start(config).await.unwrap();
    assert_eq!(fly.volumes(), kept);
    assert_eq!(fly.found().volumes, [kept[0].id.clone()]);
    fly.shutdown().await;
}

#[tokio::test]
async fn lines_tell_what_happens() {
    let desk = Desk::new().await;
    let mut lines = desk.fly.lines();
    let id = desk.create("a", json!({"env": {"EXIT": "3"}})).await;
    desk.reach(&id, "stopped").await;
    let mut told = String::new();
    while let Ok(line) = lines.try_recv() {
        assert_eq!(line.id, id);
        told.push_str(&line.text);
        told.push('\n');
    }
    assert_eq!(
        told,
        "created as a on iad-h1\ncreated\nstarting\nstarted\n\
         its first process exited with 3\nstopped\n"
            .replace("created\nstarting", "starting")
    );
}
