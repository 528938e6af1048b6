//! Promise: the same spec with `fly` in place of `local` runs in a machine of its own, beside local
//! ones in one server; the machine goes with its end, and an agent's files outlive its sleep.
#![expect(clippy::disallowed_methods, reason = "a test of the real binary lives in real time")]

#[path = "support/fly/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod cloud;
#[path = "support/live.rs"]
#[expect(dead_code, reason = "each test file uses a part of the support")]
mod live;

use cloud::Cloud;
use live::Live;
use serde_json::{Value, json};

const IMAGE: &str = "registry.fly.io/sprites/other:v2";

fn is_over(job: &Value) -> bool {
    matches!(
        job["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed" | "TimedOut" | "Cancelled")
    )
}

async fn log(server: &Live, of: &str) -> String {
    String::from_utf8(server.bytes(&format!("{of}/log")).await).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_in_a_machine_that_goes_with_it_beside_one_on_this_computer() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let cloud = Cloud::new(home.path(), &data).await;
    let server = cloud.server(&data, &[("ANTHROPIC_API_KEY", "sk-ant-of-the-server")]).await;
    let spec = |runtime: Value| {
        json!({
            "task": "echo \"here $WHERE\"; echo \"key $ANTHROPIC_API_KEY\"; test -z \"$JOB_TOKEN\"",
            "agent": {"command": {}},
            "env": [{"name": "WHERE", "value": "I am"}],
            "runtime": runtime,
        })
    };
    let fly = spec(json!({"fly": {"image": IMAGE}}));
    server.create_job("1", "in-the-cloud", fly).await;
    server.create_job("2", "at-home", spec(json!({"local": {"workdir": home.path()}}))).await;
    for name in ["in-the-cloud", "at-home"] {
        let job = server.wait_for(&format!("jobs/{name}"), "an end", is_over).await;
        assert_eq!(job["status"]["phase"], "Succeeded", "{job:#}\n{}", server.log());
        let said = log(&server, &format!("jobs/{name}")).await;
        assert_eq!(said, "here I am\nkey ***\n", "{name}");
    }
    cloud.until("nothing", |fly| fly.machines().is_empty() && fly.guests() == 0).await;
    let boots = cloud.fly.boots();
    assert_eq!(boots.len(), 1, "{boots:#?}");
    assert_eq!(cloud.faults(), Vec::<String>::new());
    let sprites = server.get("sprites").await;
    let sprite = sprites["items"]
        .as_array()
        .and_then(|items| items.iter().find(|it| it["spec"]["runtime"].get("fly").is_some()))
        .expect("the sprite in the cloud");
    assert_eq!(sprite["status"]["fly"]["app"], "sprites", "{sprite:#}");
    let name = sprite["metadata"]["name"].as_str().expect("a name");
    server
        .wait_for(&format!("sprites/{name}"), "no finalizer", |sprite| {
            sprite["metadata"].get("finalizers").is_none_or(|list| list == &json!([]))
        })
        .await;
    for secret in ["sk-ant-of-the-server", "fm2_dev_fly"] {
        assert!(!server.log().contains(secret), "the log has {secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_sleeps_and_wakes_with_its_files_in_the_same_machine() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let cloud = Cloud::new(home.path(), &data).await;
    let server = cloud.server(&data, &[]).await;
    let (code, agent) = server
        .post(
            "agents",
            json!({
                "apiVersion": "opendispatch.dev/v1alpha1",
                "kind": "Agent",
                "metadata": {"name": "bot"},
                "spec": {
                    "agent": {"command": {}}, "runtime": {"fly": {}}, "idleTimeout": "1s",
                    "permissions": {"mode": "bypass"},
                },
            }),
        )
        .await;
    assert_eq!(code, 201, "{agent:#}");
    let say = async |id: &str, text: &str| {
        let body = json!({"requestId": id, "text": text});
        let (code, turn) = server.post("agents/bot/turns", body).await;
        assert!(code < 300, "{code}: {turn:#}");
    };
    say("1", "echo kept > note; echo home > ~/mine; pwd").await;
    let done = |n: u64| move |agent: &Value| agent["status"]["turns"]["done"] == n;
    server.wait_for("agents/bot", "its first turn done", done(1)).await;
    let asleep = |agent: &Value| agent["status"]["phase"] == "Asleep";
    server.wait_for("agents/bot", "asleep", asleep).await;
    let stopped = |fly: &open_dispatch::dev_fly::DevFly| {
        fly.guests() == 0 && fly.machines().iter().all(|it| it.state == "stopped")
    };
    cloud.until("asleep", stopped).await;
    let before = cloud.fly.machines();
    assert_eq!(before.len(), 1);
    say("2", "cat note ~/mine").await;
    server.wait_for("agents/bot", "its second turn done", done(2)).await;
    let said = log(&server, "agents/bot").await;
    assert!(said.contains("kept\nhome\n"), "{said}");
    let after = cloud.fly.machines();
    assert_eq!((after.len(), &after[0].id, after[0].boots), (1, &before[0].id, 2));
    assert_eq!(cloud.fly.volumes().len(), 1);
    // Asleep again, and then deleted: nothing is left but the volume, which goes when it has aged.
    server.wait_for("agents/bot", "asleep", asleep).await;
    assert_eq!(server.delete("agents/bot").await, 200);
    cloud.until("no machine", |fly| fly.machines().is_empty()).await;
    assert_eq!(cloud.faults(), Vec::<String>::new());
}
