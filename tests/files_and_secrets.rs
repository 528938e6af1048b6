//! Promise: what a person attaches reaches the agent, what it makes reaches the person, and no
//! secret reaches anybody. Against a real server.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/door.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod door;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod server;

use std::{
    fs,
    path::{Path, PathBuf},
};

use door::{API, Api};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server::World;
use sha2::{Digest as _, Sha256};

fn succeeded(object: &Value) -> bool {
    object["status"]["phase"] == "Succeeded"
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_makes_is_told_before_the_end_and_can_be_had() {
    let world = World::new();
    let api = Api::of(&world);
    let task = "printf result > $OPEN_DISPATCH_ARTIFACTS/r.txt; ln -s /etc/passwd \
                $OPEN_DISPATCH_ARTIFACTS/link; echo see https://github.com/o/r/pull/12.";
    api.job("maker", json!({"task": task, "agent": {"command": {}}})).await;
    let job = api.until(&format!("{API}/jobs/maker"), succeeded).await;
    let artifacts = job["status"]["artifacts"].as_array().unwrap().clone();
    let named = |name: &str| artifacts.iter().find(|it| it["name"] == name).cloned();
    assert_eq!(artifacts.len(), 2, "{artifacts:?}");
    let pull = named("o/r#12").unwrap();
    assert_eq!(pull["url"], "https://github.com/o/r/pull/12");
    let file = named("r.txt").unwrap();
    let url = file["url"].as_str().unwrap();
    let answer = api.ask(Method::GET, url).send().await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-disposition").starts_with("attachment; filename=\"r.txt\""));
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(answer.text().await.unwrap(), "result");
    let stranger = api.client.get(format!("{}{url}", api.url)).send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_attaches_lies_there_when_the_agent_begins() {
    let world = World::new();
    let api = Api::of(&world);
    let put = api.ask(Method::POST, "/files?name=n").body("attached words");
    let stored: Value = put.send().await.unwrap().json().await.unwrap();
    let api_version = "opendispatch.dev/v1alpha1";
    let agent = json!({
        "apiVersion": api_version, "kind": "Agent", "metadata": {"name": "bot"},
        "spec": {"agent": {"command": {}}, "runtime": {"local": {"isolation": "sandbox"}}},
    });
    api.create("agents", agent).await;
    let text = "cat \"$@\"";
    let turn = json!({
        "requestId": "r1", "text": text,
        "attachments": [{"id": stored["id"], "name": "note.txt"}],
    });
    let sent = api.ask(Method::POST, &format!("{API}/agents/bot/turns")).json(&turn);
    let sent = sent.send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::CREATED, "{}", sent.text().await.unwrap());
    let done = |turns: &Value| turns.to_string().contains("\"Succeeded\"");
    api.until(&format!("{API}/agents/bot/turns"), done).await;
    let log = api.ask(Method::GET, &format!("{API}/agents/bot/log"));
    let log = log.send().await.unwrap().text().await.unwrap();
    assert!(log.contains("attached words"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sprite_waits_for_its_secret_and_never_shows_it() {
    let world = World::new();
    let api = Api::of(&world);
    let task = "echo \"$KEY\"; printf s3cret; sleep 0.2; echo '-of/mine'; \
                printf '%s' \"$KEY\" | base64; printf 'x:%s' \"$KEY\" | base64; \
                echo s3cret-of%2Fmine; echo end";
    let env = json!([{"name": "KEY", "fromSecret": "mine"}]);
    api.job("teller", json!({"task": task, "agent": {"command": {}}, "env": env})).await;
    let waits = |sprites: &Value| sprites.to_string().contains("SecretMissing");
    let sprites = api.until(&format!("{API}/sprites"), waits).await.to_string();
    assert!(sprites.contains("open-dispatch secret set mine"), "{sprites}");
    let set = api.ask(Method::PUT, "/apis/opendispatch.dev/v1alpha1/secrets/mine");
    let set = set.body("s3cret-of/mine").send().await.unwrap();
    assert!(set.status().is_success(), "{}", set.text().await.unwrap());
    api.until(&format!("{API}/jobs/teller"), succeeded).await;
    let log = api.ask(Method::GET, &format!("{API}/jobs/teller/log"));
    let log = log.send().await.unwrap().text().await.unwrap();
    assert!(log.contains("end"), "{log}");
    for shown in ["s3cret", "czNjcmV0LW9mL21pbmU", "M2NyZXQtb2", "of%2Fmine"] {
        assert!(!log.contains(shown), "{shown} in {log}");
    }
    let sprites = api.get(&format!("{API}/sprites")).await.to_string();
    assert!(sprites.contains("\"SecretsAvailable\""), "{sprites}");
}

/// Everything below a directory that holds some text, save what is meant to.
fn holding(dir: &Path, text: &str, but: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if but(&path) {
            continue;
        }
        if path.is_dir() {
            found.extend(holding(&path, text, but));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

async fn set_secret(api: &Api, name: &str, value: &str) {
    let set = api.ask(Method::PUT, &format!("{API}/secrets/{name}"));
    let set = set.body(value.to_owned()).send().await.unwrap();
    assert!(set.status().is_success(), "{}", set.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_waits_for_its_secret_each_time_it_wakes_and_nobody_reads_it() {
    let world = World::new();
    let api = Api::of(&world);
    let env = json!([{"name": "KEY", "fromSecret": "mine"}]);
    let spec = json!({"agent": {"command": {}}, "env": env, "idleTimeout": "1s"});
    api.agent("bot", spec).await;
    let missing = |sprites: &Value| {
        let conditions = sprites["items"][0]["status"]["conditions"].as_array().cloned();
        conditions.unwrap_or_default().into_iter().any(|it| it["reason"] == "SecretMissing")
    };
    let sprites = format!("{API}/sprites");
    let mut hashes = Vec::new();
    for (n, value) in ["the-first-s3cret", "another-s3cret"].into_iter().enumerate() {
        let text = format!("{n}; printf %s \"$KEY\" | sha256sum; echo \"it is $KEY.\"");
        let text = format!(": {text} https://x.test/?key=$KEY; echo $KEY >&2");
        let place = json!({"platform": "console", "channel": "main"});
        let turn = json!({"requestId": format!("r{n}"), "text": text, "conversation": place});
        let (turn, ()) = tokio::join!(api.turn_with("bot", turn), async {
            api.until(&sprites, missing).await;
            api.reads(|text| text.contains("open-dispatch secret set mine")).await;
            set_secret(&api, "mine", value).await;
        });
        assert_eq!(turn["state"], "Succeeded", "{turn}");
        let log = api.log("agents/bot", "raw").await;
        let hash: String = Sha256::digest(value).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(log.contains(&hash), "it had the value: {log}");
        hashes.push(hash);
        let told =
            api.reads(|text| text.contains(&hashes[n]) && text.contains("has answered")).await;
        let events = api.log("agents/bot", "events").await;
        let turns = api.get(&format!("{API}/agents/bot/turns")).await.to_string();
        let object = api.get(&sprites).await.to_string();
        let agent = world.od(&["describe", "agent/bot"]).text();
        for (place, text) in [
            ("log", log),
            ("chat", told),
            ("events", events),
            ("turns", turns),
            ("sprite", object),
            ("agent", agent),
        ] {
            assert!(!text.contains("s3cret"), "{place}: {text}");
        }
        // What the agent is started with has it, for its user alone.
        let may = |path: &Path| {
            path.ends_with("secrets") || path.file_name().is_some_and(|name| name == "spec.json")
        };
        assert_eq!(holding(&world.data(), value, &may), Vec::<PathBuf>::new());
        let gone = api.ask(Method::DELETE, &format!("{API}/secrets/mine")).send().await.unwrap();
        assert!(gone.status().is_success());
        api.until(&format!("{API}/agents/bot"), |bot| bot["status"]["phase"] == "Asleep").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_brings_files_in_and_takes_files_and_links_out_to_where_it_was_said() {
    let world = World::new();
    let api = Api::of(&world);
    api.agent("bot", json!({"agent": {"command": {}}})).await;
    let put = api.ask(Method::POST, "/files?name=n").body("attached words");
    let stored: Value = put.send().await.unwrap().json().await.unwrap();
    let text = "cat \"$1\" | tr a-z A-Z > $OPEN_DISPATCH_ARTIFACTS/loud.txt; \
                echo see https://github.com/o/r/pull/12";
    let turn = json!({
        "requestId": "r1", "text": text,
        "attachments": [{"id": stored["id"], "name": "note.txt"}],
        "conversation": {"platform": "console", "channel": "main"},
    });
    let turn = api.turn_with("bot", turn).await;
    assert_eq!(turn["state"], "Succeeded", "{turn}");
    let events = api.log("agents/bot", "events").await;
    let events: Vec<Value> = events.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let at = |so: &dyn Fn(&Value) -> bool| {
        events.iter().position(so).unwrap_or_else(|| panic!("it is not there: {events:#?}"))
    };
    let file = at(&|it| it["type"] == "artifact" && it["name"] == "loud.txt");
    let pull = at(&|it| it["type"] == "artifact" && it["name"] == "o/r#12");
    let end = at(&|it| it["type"] == "turnEnded");
    assert!(file < end && pull < end, "what came of a turn is told before its end");
    let url = events[file]["url"].as_str().unwrap();
    let answer = api.ask(Method::GET, url).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ATTACHED WORDS");
    let told = api.reads(|text| text.contains("has answered")).await;
    assert!(told.contains("loud.txt") && told.contains("o/r#12"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_file_is_lost_says_which_and_why_and_the_next_one_runs() {
    let world = World::new();
    let api = Api::of(&world);
    api.agent("bot", json!({"agent": {"command": {}}})).await;
    let put = api.ask(Method::POST, "/files?name=n").body("attached words");
    let stored: Value = put.send().await.unwrap().json().await.unwrap();
    let go = world.work().join("go");
    let waits = format!("until [ -e {} ]; do sleep 0.05; done", go.display());
    let lost = json!({
        "requestId": "r2", "text": "echo never",
        "attachments": [{"id": stored["id"], "name": "note.txt"}],
    });
    let (first, lost, ()) =
        tokio::join!(api.turn("bot", &waits), api.turn_with("bot", lost), async {
            let queued = |turns: &Value| turns["items"].as_array().unwrap().len() == 2;
            api.until(&format!("{API}/agents/bot/turns"), queued).await;
            fs::remove_dir_all(world.data().join("files")).unwrap();
            fs::create_dir(world.data().join("files")).unwrap();
            fs::write(&go, "").unwrap();
        });
    assert_eq!(first["state"], "Succeeded", "{first}");
    assert_eq!(lost["state"], "Failed", "{lost}");
    let message = lost["message"].as_str().unwrap();
    assert!(message.starts_with("note.txt could not be fetched: "), "{message}");
    assert!(message.contains("404"), "{message}");
    assert_eq!(api.turn("bot", "echo again").await["state"], "Succeeded");
    let log = api.log("agents/bot", "raw").await;
    assert!(log.contains("again") && !log.contains("never"), "{log}");
}
