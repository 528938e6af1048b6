//! Promise: one server has agents beside it and agents in machines at the same time, and it is the
//! image that says who lives in a machine: our reporter with the real CLIs, or the original's sidecar.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the server runs in real time")]

#[path = "support/claude_binary.rs"]
mod claude_binary;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/fly/live.rs"]
mod cloud;
#[path = "support/console/stage.rs"]
mod console;
#[path = "support/fake_model/mod.rs"]
mod fake_model;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/house_of_chat.rs"]
mod house_of_chat;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/live.rs"]
mod live;
#[path = "support/opencode_binary.rs"]
mod opencode_binary;
#[expect(dead_code, reason = "each test file uses a part of the support")]
#[path = "support/stage_of_chat.rs"]
mod stage_of_chat;

use std::{io::Write as _, path::Path};

use cloud::Cloud;
use fake_model::FakeModel;
use house_of_chat::{House, Runtime};
use live::Live;
use open_dispatch::dev_fly::{DevFly, DevFlyConfig, Image};
use serde_json::{Value, json};

const IMAGE: &str = "registry.fly.io/sprites/with-agents:v1";

fn is_over(job: &Value) -> bool {
    matches!(
        job["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed" | "TimedOut" | "Cancelled")
    )
}

async fn log(server: &Live, of: &str) -> String {
    String::from_utf8(server.bytes(&format!("{of}/log")).await).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_and_an_agent_of_each_kind_work_at_once_in_one_server() {
    let stage = async |data: &Path| console::ConsoleStage::new(data);
    let mut house = House::open(stage, Runtime::Fly).await;
    let work = house.work.display().to_string();
    let waits = |what: &str| {
        format!("echo {what} began; until test -e go; do sleep 0.05; done; echo {what} is over")
    };
    let near = format!("/od-run --runtime local --agent command --name near --workdir {work} ");
    house.says(&(near + &waits("near"))).await;
    let far = "/od-run --runtime fly --agent command --name far ".to_owned();
    house.says(&(far + &waits("far"))).await;
    house.says(&format!("/od-start here --runtime local --agent command {work}")).await;
    house.says("/od-start there --runtime fly --agent command").await;
    for name in ["here", "there"] {
        let is_there = |agent: &Value| agent["kind"] == "Agent";
        house.is(&format!("agents/{name}"), "there", is_there).await;
        house.says(&format!("/od-send {name} {}", waits(name))).await;
    }
    for name in ["near", "far", "here", "there"] {
        house.reads(&format!("{name} began")).await;
    }
    // All four at this moment, two of them in machines.
    for job in ["near", "far"] {
        assert_eq!(house.live.get(&format!("jobs/{job}")).await["status"]["phase"], "Running");
    }
    for agent in ["here", "there"] {
        assert_eq!(house.live.get(&format!("agents/{agent}")).await["status"]["phase"], "Busy");
    }
    assert_eq!(house.cloud().fly.guests(), 2);
    assert_eq!(house.live.reporters().len(), 2, "beside the server");
    let places = [house.place("jobs/far").await, house.place("agents/there").await];
    assert_ne!(places[0], places[1]);
    // And they go on while the server is away.
    house.live.kill_nine();
    for place in places.iter().chain([&house.work]) {
        std::fs::write(place.join("go"), "").unwrap();
    }
    house.live.up().await;
    for name in ["near", "far"] {
        let told = house.reads(&format!("{name} succeeded")).await;
        assert!(told.text.contains(&format!("{name} began\n{name} is over")), "{}", told.text);
    }
    for name in ["here", "there"] {
        let told = house.reads(&format!("{name} has answered")).await;
        assert!(told.text.contains(&format!("{name} began\n{name} is over")), "{}", told.text);
    }
    let one_is_left = |fly: &DevFly| fly.machines().len() == 1 && fly.guests() == 1;
    house.cloud().until("the job's machine is gone, the agent's stays", one_is_left).await;
    house.says("/od-delete here").await;
    house.is("agents/here", "gone", |answer| answer["code"] == 404).await;
    house.was_as_declared().await;
}

/// Images of this computer with these entry points.
fn image(config: &mut DevFlyConfig, name: &str, entrypoint: &[&str], path: &str) {
    let entrypoint = entrypoint.iter().map(|&word| word.to_owned()).collect();
    let env = [("PATH".to_owned(), path.to_owned()), ("IS_SANDBOX".to_owned(), "1".to_owned())];
    let image = Image { env: env.into(), entrypoint, ..Image::default() };
    config.images.known.insert(name.to_owned(), image);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_with_the_originals_sidecar_runs_jobs_as_it_is() {
    for program in ["curl", "node"] {
        if std::process::Command::new(program).arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "{program} is missing");
            let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is missing");
            return;
        }
    }
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let path = std::env::var("PATH").unwrap();
    let sidecar = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/sidecar.sh");
    let told = |config: &mut DevFlyConfig| image(config, IMAGE, &["bash", sidecar], &path);
    let cloud = Cloud::with(home.path(), &data, told).await;
    let server = cloud.server(&data, &[]).await;
    let spec = |task: &str| {
        json!({
            "task": task, "agent": {"command": {}}, "runtime": {"fly": {"image": IMAGE}},
            "env": [{"name": "WHOM", "value": "whoever it's for"}],
        })
    };
    server.create_job("1", "good", spec("seq 1 50; echo \"for $WHOM\"; pwd")).await;
    server.create_job("2", "bad", spec("echo 'it broke' >&2; exit 3")).await;
    let good = server.wait_for("jobs/good", "an end", is_over).await;
    let bad = server.wait_for("jobs/bad", "an end", is_over).await;
    assert_eq!(good["status"]["phase"], "Succeeded", "{good:#}\n{}", server.log());
    assert_eq!(bad["status"]["phase"], "Failed", "{bad:#}\n{}", server.log());
    assert_eq!((&good["status"]["exitCode"], &bad["status"]["exitCode"]), (&0.into(), &3.into()));
    let numbers: String = (1..=50).map(|n| format!("{n}\n")).collect();
    let said = log(&server, "jobs/good").await;
    let rest =
        said.strip_prefix(&(numbers + "for whoever it's for\n")).expect("its lines in order");
    assert!(rest.trim_end().ends_with("/root/workspace"), "{rest}");
    assert!(log(&server, "jobs/bad").await.contains("it broke"));
    cloud.until("nothing is left", |fly| fly.machines().is_empty() && fly.guests() == 0).await;
    assert_eq!(cloud.fly.boots().len(), 2, "each ran once");
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

/// A conversation of one turn with a real CLI in a machine, which works there and at home there.
async fn one_turn(agent: Value, binary: &Path, model: &FakeModel, env: &[(&str, &str)]) {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let beside = binary.parent().unwrap().display();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap());
    let cloud = Cloud::with(home.path(), &data, |config| image(config, IMAGE, &[], &path)).await;
    let server = cloud.server(&data, env).await;
    let body = json!({
        "apiVersion": "opendispatch.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "ann"},
        "spec": {
            "agent": agent, "runtime": {"fly": {"image": IMAGE}},
            "permissions": {"mode": "bypass"},
        },
    });
    let (code, answer) = server.post("agents?requestId=agent", body).await;
    assert_eq!(code, 201, "{answer}");
    let text = "[[bash:pwd -P > where; echo $HOME > home; printf made > \
                $OPEN_DISPATCH_ARTIFACTS/made.txt]] and now it is done";
    let (code, turn) =
        server.post("agents/ann/turns", json!({"requestId": "one", "text": text})).await;
    assert_eq!(code, 201, "{turn}");
    let done = |turn: &Value| turn["state"] == "Succeeded" || turn["state"] == "Failed";
    let path = format!("agents/ann/turns/{}", turn["id"].as_str().unwrap());
    let turn = server.wait_for(&path, "an end", done).await;
    assert_eq!(turn["state"], "Succeeded", "{turn}\n{}", server.log());
    assert!(!model.requests().is_empty(), "it asked the model");
    let said = log(&server, "agents/ann").await;
    assert!(said.contains("and now it is done"), "{said}");
    let machines = cloud.fly.machines();
    assert_eq!(machines.len(), 1);
    let work = cloud.work(&machines[0]).canonicalize().unwrap();
    let read = |name: &str| std::fs::read_to_string(work.join(name)).unwrap().trim().to_owned();
    assert_eq!(Path::new(&read("where")), work);
    // Its home lies beside, on the volume.
    let at_home = Path::new(&read("home")).canonicalize().unwrap();
    assert_eq!(at_home.parent(), work.parent());
    assert!(at_home.read_dir().unwrap().next().is_some(), "nothing at home in {at_home:?}");
    let events = server.bytes("agents/ann/log?format=events").await;
    assert!(String::from_utf8(events).unwrap().contains("made.txt"), "a file comes back");
    assert_eq!(server.delete("agents/ann").await, 200);
    cloud.until("nothing is left", |fly| fly.machines().is_empty() && fly.guests() == 0).await;
    assert_eq!(cloud.faults(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_claude_code_works_in_a_machine() {
    let Some(binary) = claude_binary::binary() else { return };
    let model = FakeModel::start().await;
    let env = [("ANTHROPIC_BASE_URL", model.url()), ("ANTHROPIC_API_KEY", "test-key")];
    one_turn(json!({"claude": {}}), &binary, &model, &env).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_opencode_works_in_a_machine() {
    let Some(binary) = opencode_binary::binary() else { return };
    let model = FakeModel::start().await;
    let env = opencode_binary::environment(model.url());
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    one_turn(json!({"opencode": {}}), &binary, &model, &env).await;
}
