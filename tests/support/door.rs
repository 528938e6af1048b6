//! A client of a world's server: its API, and a terminal in its console.

use std::time::Duration;

use open_dispatch::chat::frames::{Frame, FrameOp};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::server::World;

pub const API: &str = "/apis/opendispatch.dev/v1alpha1";

/// A client of a world's server.
pub struct Api {
    pub client: Client,
    pub url: String,
    token: String,
}

impl Api {
    pub fn of(world: &World) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read = |name: &str| std::fs::read_to_string(world.data().join(name)).unwrap();
        Self {
            client: Client::new(),
            url: read("endpoint").trim().to_owned(),
            token: read("token").trim().to_owned(),
        }
    }

    pub fn ask(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path).send().await.unwrap().json().await.unwrap()
    }

    pub async fn create(&self, plural: &str, object: Value) {
        let request = self.ask(Method::POST, &format!("{API}/{plural}")).json(&object);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
    }

    pub async fn job(&self, name: &str, spec: Value) {
        self.declare("Job", "jobs", name, spec).await;
    }

    pub async fn agent(&self, name: &str, spec: Value) {
        self.declare("Agent", "agents", name, spec).await;
    }

    async fn declare(&self, kind: &str, plural: &str, name: &str, spec: Value) {
        let metadata = json!({"name": name});
        let api = "opendispatch.dev/v1alpha1";
        let object = json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec});
        self.create(plural, object).await;
    }

    /// Says something to an agent through the API; answers once that turn has its outcome.
    pub async fn turn(&self, agent: &str, text: &str) -> Value {
        self.turn_with(agent, json!({"text": text})).await
    }

    /// Queues a turn for an agent; answers once it has its outcome.
    pub async fn turn_with(&self, agent: &str, mut turn: Value) -> Value {
        let turns = format!("{API}/agents/{agent}/turns");
        if turn["requestId"].is_null() {
            turn["requestId"] = turn.to_string().into();
        }
        let sent = self.ask(Method::POST, &turns).json(&turn).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::CREATED, "{}", sent.text().await.unwrap());
        let id = sent.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
        let open = ["Queued", "Sent", "Running"];
        let ended = |turn: &Value| !open.contains(&turn["state"].as_str().unwrap());
        self.until(&format!("{turns}/{id}"), ended).await
    }

    /// What an agent's or a job's sprites said, as text or as events.
    pub async fn log(&self, of: &str, format: &str) -> String {
        let log = self.ask(Method::GET, &format!("{API}/{of}/log?format={format}"));
        log.send().await.unwrap().text().await.unwrap()
    }

    /// Types a line into the console.
    pub async fn types(&self, line: &str) {
        let id =
            format!("{:x}", line.bytes().fold(7_u64, |id, b| id.wrapping_mul(31) + u64::from(b)));
        let said = json!({"requestId": id, "text": line, "author": "ann"});
        let answer = self.ask(Method::POST, "/console/messages").json(&said).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{}", answer.text().await.unwrap());
    }

    /// Reads along in the console until a message there reads so; answers all that stood there.
    pub async fn reads(&self, so: impl Fn(&str) -> bool) -> String {
        let stream = self.ask(Method::GET, "/console/stream?client=ann").send();
        let mut stream = stream.await.unwrap();
        assert_eq!(stream.status(), StatusCode::OK);
        let (mut bytes, mut all) = (Vec::new(), String::new());
        let read = async {
            while let Some(chunk) = stream.chunk().await.unwrap() {
                bytes.extend_from_slice(&chunk);
                while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = bytes.drain(..=end).collect();
                    let frame: Frame = serde_json::from_slice(&line).unwrap();
                    if frame.n > 0 {
                        let printed = json!({"client": "ann", "n": frame.n});
                        let ack = self.ask(Method::POST, "/console/acks").json(&printed);
                        ack.send().await.unwrap();
                    }
                    if let FrameOp::Post { text, .. } | FrameOp::Edit { text, .. } = frame.op {
                        all.push_str(&text);
                        all.push('\n');
                        if so(&text) {
                            return true;
                        }
                    }
                }
            }
            false
        };
        match tokio::time::timeout(Duration::from_secs(30), read).await {
            Ok(true) => all,
            _ => panic!("nothing in the console reads so:\n{all}"),
        }
    }

    /// Reads until it is so.
    pub async fn until(&self, path: &str, so: impl Fn(&Value) -> bool) -> Value {
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
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
