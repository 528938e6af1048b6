//! Ten thousand Agents asleep: stopped machines with volumes, and what their server costs.
//!
//! One Agent really lives and goes to sleep; the others are copies of what the store and the cloud
//! hold of it, under names and ids of their own. The volumes are laid into the cloud's directory, the
//! machines are made over its API, and end at once.

use std::{path::Path, sync::Arc, time::Duration};

use futures::stream::{self, StreamExt as _};
use open_dispatch::{
    ambient::Ambient,
    dev_fly::{CallRecord, DevFly, DevFlyConfig, Exit, Guest, MachineTruth},
    reconcile::controllers::sprite_name,
    resource::{AnyObject, Kind},
    store::{Expect, Op, Part, Store, Transaction, sqlite::SqliteStore},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{by_action, cloud::Cloud, cpu, live::Live, mib, until, verdict};

/// The Agent that really lived.
const FIRST: &str = "bot-00000";
/// How long the server has to come to rest before the calls are counted.
const REST: Duration = Duration::from_secs(90);
/// For how long they are counted: longer than the engine's resync, which is each five minutes.
const WINDOW: Duration = Duration::from_secs(360);
/// Calls to Fly in a minute: the one list, and now and then a sweep's two.
const BAR: f64 = 1.2;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// A figure that somebody who is in a hurry sets.
fn set(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// All that tells the first Agent from its copies.
struct Template {
    agent: Value,
    sprite: Value,
    machine: MachineTruth,
    /// Its volume, as the cloud keeps it on disk.
    volume: Value,
}

/// What changes from one to the next, as it stands in every text.
struct Names {
    name: String,
    agent_uid: String,
    sprite_uid: String,
    sprite: String,
    machine: String,
    volume: String,
    volume_name: String,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A uid with another end.
fn numbered(uid: &str, n: usize) -> String {
    format!("{}{n:012x}", uid.get(..24).unwrap_or_default())
}

impl Template {
    fn names(&self) -> Names {
        Names {
            name: FIRST.to_owned(),
            agent_uid: text(&self.agent, "/metadata/uid").to_owned(),
            sprite_uid: text(&self.sprite, "/metadata/uid").to_owned(),
            sprite: text(&self.sprite, "/metadata/name").to_owned(),
            machine: self.machine.id.clone(),
            volume: text(&self.volume, "/id").to_owned(),
            volume_name: text(&self.volume, "/name").to_owned(),
        }
    }

    /// Those of the n-th, but for its machine's id; the first keeps its own.
    fn names_of(&self, n: usize) -> Names {
        let first = self.names();
        if n == 0 {
            return first;
        }
        let name = format!("bot-{n:05}");
        let agent_uid = numbered(&first.agent_uid, n);
        let key: String =
            Sha256::digest(agent_uid.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let (prefix, _) = first.volume_name.rsplit_once('_').unwrap_or_default();
        Names {
            sprite: sprite_name(&name, &agent_uid, 1),
            volume: format!("vol_{n:016x}"),
            volume_name: format!("{prefix}_{}", &key[..18]),
            sprite_uid: numbered(&first.sprite_uid, n),
            machine: first.machine,
            name,
            agent_uid,
        }
    }

    /// A value with the names of another in it.
    fn copy(&self, value: &Value, to: &Names) -> Value {
        let from = self.names();
        let mut text = value.to_string();
        for (from, to) in [
            // The Sprite's name has the Agent's in it.
            (&from.sprite, &to.sprite),
            (&from.name, &to.name),
            (&from.agent_uid, &to.agent_uid),
            (&from.sprite_uid, &to.sprite_uid),
            (&from.machine, &to.machine),
            (&from.volume_name, &to.volume_name),
            (&from.volume, &to.volume),
        ] {
            text = text.replace(from.as_str(), to);
        }
        serde_json::from_str(&text).expect("names change no shape")
    }
}

/// What is made anew is of the first generation.
fn young(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, value)| match name.as_str() {
                "observedGeneration" => *value = 1.into(),
                _ => young(value),
            })
        }
        Value::Array(items) => items.iter_mut().for_each(young),
        _ => {}
    }
}

/// One Agent lives, and goes to sleep.
async fn first(stage: &Path, data: &Path) -> Template {
    let cloud = Cloud::new(stage, data).await;
    let server = cloud.server(data, &[]).await;
    let (code, answer) = server
        .post(
            "agents",
            json!({
                "apiVersion": "opendispatch.dev/v1alpha1",
                "kind": "Agent",
                "metadata": {"name": FIRST},
                "spec": {
                    "agent": {"command": {}}, "runtime": {"fly": {}}, "idleTimeout": "1s",
                    "permissions": {"mode": "bypass"},
                },
            }),
        )
        .await;
    assert_eq!(code, 201, "{answer}");
    let agent = format!("agents/{FIRST}");
    server.wait_for(&agent, "asleep", |agent| agent["status"]["phase"] == "Asleep").await;
    let name = server.get(&agent).await["status"]["sprite"].as_str().unwrap_or_default().to_owned();
    let stopped = |sprite: &Value| sprite["status"]["fly"]["state"] == "stopped";
    let sprite = server.wait_for(&format!("sprites/{name}"), "stopped", stopped).await;
    let agent = server.get(&agent).await;
    let machine = cloud.fly.machines().into_iter().next().expect("its machine");
    drop(server);
    let saved = stage.join("cloud/volumes.json");
    let volumes = std::fs::read(saved).expect("the cloud keeps its volumes");
    let mut volumes: Value = serde_json::from_slice(&volumes).expect("JSON");
    let volume = volumes[0].take();
    Template { agent, sprite, machine, volume }
}

/// A cloud whose machines end as soon as they have booted.
async fn cloud(dir: &Path, volumes: &[Value]) -> DevFly {
    std::fs::create_dir_all(dir).expect("a directory");
    let saved = Value::from(volumes.to_vec()).to_string();
    std::fs::write(dir.join("volumes.json"), saved).expect("a file");
    let ends =
        Arc::new(|_| Box::pin(async { Exit::code(0) }) as open_dispatch::dev_fly::GuestFuture);
    let fly = DevFly::start(DevFlyConfig::new(dir, Guest::Scripted(ends))).await;
    let fly = fly.expect("the cloud starts");
    fly.faults().habits(|habits| {
        (habits.pull, habits.boot, habits.settle) = Default::default();
    });
    fly
}

/// Makes the n-th's machine; answers its id.
async fn machine(client: &reqwest::Client, fly: &DevFly, template: &Template, n: usize) -> String {
    let names = template.names_of(n);
    let truth = &template.machine;
    let name = truth.name.replace(&template.names().sprite_uid, &names.sprite_uid);
    let config = template.copy(&truth.config, &names);
    let answer = client
        .post(format!("{}v1/apps/sprites/machines", fly.url()))
        .header("authorization", "FlyV1 fm2_dev_fly")
        .json(&json!({"name": name, "region": truth.region, "config": config}))
        .send()
        .await
        .expect("the cloud answers");
    let machine: Value = answer.json().await.expect("JSON");
    assert!(machine["id"].is_string(), "{machine}");
    text(&machine, "/id").to_owned()
}

/// Writes them all into the store of a server that does not run.
async fn fill(data: &Path, template: &Template, ids: &[String]) {
    let store = SqliteStore::open(data, Ambient::real()).await.expect("the store");
    let read = |kind, value: &Value, names: &Names| {
        let mut copy = template.copy(value, names);
        young(&mut copy["status"]);
        AnyObject::from_json(kind, copy).expect("an object")
    };
    let numbered: Vec<(usize, &String)> = ids.iter().enumerate().collect();
    for chunk in numbered.chunks(500) {
        let mut transaction = Transaction::at(jiff::Timestamp::now());
        for (n, id) in chunk {
            let names = Names { machine: (*id).clone(), ..template.names_of(*n) };
            if *n == 0 {
                let object = template.copy(&template.sprite, &names);
                let object = AnyObject::from_json(Kind::Sprite, object).expect("a Sprite");
                let (part, expect) = (Part::Status, Expect::Any);
                transaction.ops.push(Op::Write { object, part, expect });
                continue;
            }
            for (kind, value) in [(Kind::Agent, &template.agent), (Kind::Sprite, &template.sprite)]
            {
                transaction.ops.push(Op::Create(read(kind, value, &names)));
            }
        }
        store.apply(transaction).await.expect("the store takes it");
    }
    store.close().await;
}

async fn serve(fly: &DevFly, data: &Path) -> Live {
    let api = fly.url().to_string();
    let env = [
        ("FLY_API_TOKEN", "FlyV1 fm2_dev_fly"),
        ("FLY_SPRITE_APP", "sprites"),
        ("SPRITE_IMAGE", "registry.fly.io/sprites/agent:v1"),
        ("FLY_FLAPS_BASE_URL", api.as_str()),
        // No machine lives to call it.
        ("OPEN_DISPATCH_URL", "http://127.0.0.1:9"),
    ];
    Live::start(data, &[], &env).await
}

/// How far the store has come: it grows with every write.
async fn revision(server: &Live) -> u64 {
    let list = server.get("jobs").await;
    text(&list, "/metadata/resourceVersion").parse().unwrap_or_default()
}

fn since(fly: &DevFly, n: usize) -> Vec<CallRecord> {
    fly.calls().split_off(n)
}

pub async fn asleep(stage: &Path) {
    let agents = set("N").and_then(|n| usize::try_from(n).ok()).unwrap_or(10_000);
    let window = set("WINDOW").map_or(WINDOW, Duration::from_secs);
    let data = stage.join("data");
    let template = first(stage, &data).await;

    let volumes: Vec<Value> =
        (0..agents).map(|n| template.copy(&template.volume, &template.names_of(n))).collect();
    let fly = cloud(&stage.join("clouds"), &volumes).await;
    fly.faults().set(|switches| switches.rate_limits = false);
    let client = reqwest::Client::new();
    let ids: Vec<String> = stream::iter(0..agents)
        .map(|n| machine(&client, &fly, &template, n))
        .buffered(8)
        .collect()
        .await;
    let are_stopped = async || fly.machines().iter().all(|machine| machine.state == "stopped");
    assert!(until(PATIENCE, are_stopped).await, "they stop");
    fill(&data, &template, &ids).await;
    fly.faults().set(|switches| switches.rate_limits = true);
    let list = client
        .get(format!("{}v1/apps/sprites/machines", fly.url()))
        .header("authorization", "FlyV1 fm2_dev_fly")
        .send()
        .await
        .expect("the cloud answers");
    let list = list.bytes().await.expect("a list").len();

    let empty = stage.join("empty");
    let lone = serve(&fly, &empty).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let idle = mib(lone.pid(), "VmRSS:");
    drop(lone);

    let before = fly.calls().len();
    let begin = std::time::Instant::now();
    let server = serve(&fly, &data).await;
    let ready = begin.elapsed();
    let pid = server.pid();
    tokio::time::sleep(REST.saturating_sub(ready)).await;
    let waking = since(&fly, before);
    let (counted, used, at) = (fly.calls().len(), cpu(pid), revision(&server).await);
    tokio::time::sleep(window).await;
    let calls = since(&fly, counted);
    let minutes = window.as_secs_f64() / 60.0;
    let per_minute = calls.len() as f64 / minutes;
    let refused = fly.calls().iter().filter(|call| call.status == Some(429)).count();
    let rss = mib(pid, "VmRSS:");
    let still = fly.machines().iter().filter(|machine| machine.state == "stopped").count();

    println!(
        "{agents} Agents asleep on Fly ({still} machines stopped, {} volumes); one list is {:.1} MiB:",
        fly.volumes().len(),
        list as f64 / 1024.0 / 1024.0,
    );
    println!(
        "  calls in a minute: {per_minute:.2} over {minutes} min ({}), answered with 429: {refused}; bar {BAR}: {}",
        by_action(&calls),
        verdict(per_minute <= BAR && refused == 0 && still == agents),
    );
    println!(
        "  server: RSS {rss:.1} MiB, at its peak {:.1} MiB; with no Agent {idle:.1} MiB: {:.1} KiB for each",
        mib(pid, "VmHWM:"),
        (rss - idle) * 1024.0 / agents as f64,
    );
    println!(
        "  from start to ready {:.2} s; calls in its first {} s: {}; processor time {:.2} s in a minute; \
         revisions written while they sleep: {}",
        ready.as_secs_f64(),
        REST.as_secs(),
        by_action(&waking),
        (cpu(pid) - used) / minutes,
        revision(&server).await - at,
    );
}
