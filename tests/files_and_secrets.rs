//! Promise: what a person attaches reaches the agent, what it makes reaches the person, and no
//! secret reaches anybody. Against a real server.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/server.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod server;

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use server::World;

const API: &str = "/apis/opendispatch.dev/v1alpha1";

/// A client of a world's server.
struct Api {
    client: Client,
    url: String,
    token: String,
}

impl Api {
    fn of(world: &World) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read = |name: &str| std::fs::read_to_string(world.data().join(name)).unwrap();
        Self {
            client: Client::new(),
            url: read("endpoint").trim().to_owned(),
            token: read("token").trim().to_owned(),
        }
    }

    fn ask(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    async fn create(&self, plural: &str, object: Value) {
        let request = self.ask(Method::POST, &format!("{API}/{plural}")).json(&object);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
    }

    async fn job(&self, name: &str, spec: Value) {
        let metadata = json!({"name": name});
        let api = "opendispatch.dev/v1alpha1";
        let job = json!({"apiVersion": api, "kind": "Job", "metadata": metadata, "spec": spec});
        self.create("jobs", job).await;
    }

    /// Reads until it is so.
    async fn until(&self, path: &str, so: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let value = self.get(path).await;
                if so(&value) {
                    return value;
                }
                pause().await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), look).await {
            Ok(value) => value,
            Err(_) => panic!("it never came to be so: {}", self.get(path).await),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

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
    let text = "exec cat \"${OPEN_DISPATCH_ARTIFACTS%.out}\".files/*/note.txt";
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
