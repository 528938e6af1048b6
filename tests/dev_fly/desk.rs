//! A fake, a clock to move, and a client that shows answers as they came.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock as _, ManualClock},
    dev_fly::{DevFly, DevFlyConfig, Exit, Guest, Habits, MachineTruth},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// An answer.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub text: String,
    pub json: Value,
    pub request_id: Option<String>,
    pub retry_after: Option<String>,
}

impl Got {
    /// What an error says, in whichever field.
    pub fn error(&self) -> &str {
        self.json["error"].as_str().or(self.json["message"].as_str()).unwrap_or_default()
    }
}

pub struct Desk {
    pub fly: DevFly,
    pub clock: Arc<ManualClock>,
    pub dir: TempDir,
    http: reqwest::Client,
}

/// A guest that exits as the variable `EXIT` says, at once; else 0 when it is asked to stop; with
/// `DEAF` set it does not hear that.
fn guest() -> Guest {
    Guest::Scripted(Arc::new(|mut boot| {
        Box::pin(async move {
            match boot.env.get("EXIT").map(|code| code.parse().unwrap()) {
                Some(code) => return Exit::code(code),
                None if boot.env.contains_key("DEAF") => std::future::pending::<()>().await,
                None => drop(boot.stop.asked().await),
            }
            Exit::code(0)
        })
    }))
}

pub fn client() -> reqwest::Client {
    // The second test of this process finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

/// The times of these tests; they differ, so that no claim holds by chance.
pub fn habits() -> Habits {
    Habits {
        pull: Duration::from_secs(6),
        boot: Duration::from_secs(1),
        settle: Duration::from_secs(1),
        still_active: Duration::from_secs(2),
        destroy: Duration::from_secs(2),
        tombstone: Duration::from_secs(60),
        replace: Duration::from_secs(3),
        claim_lag: Duration::from_secs(90),
        app_lag: Duration::from_secs(5),
        ..Habits::default()
    }
}

impl Desk {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A fake without rate limits: the clock stands still while a test talks.
    pub async fn with(set: impl FnOnce(&mut DevFlyConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let clock = Arc::new(ManualClock::at("2026-11-01T00:00:00Z".parse().unwrap()));
        let mut config = DevFlyConfig::new(dir.path(), guest());
        config.habits = habits();
        config.ambient = Ambient { clock: Arc::<ManualClock>::clone(&clock), ..Ambient::real() };
        set(&mut config);
        let fly = DevFly::start(config).await.unwrap();
        fly.faults().set(|switches| switches.rate_limits = false);
        Self { fly, clock, dir, http: client() }
    }

    /// An answer, or nothing where the connection was dropped.
    pub async fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Got> {
        self.call_as(method, path, body, "FlyV1 fm2_dev_fly", None).await
    }

    pub async fn call_as(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        token: &str,
        nonce: Option<&str>,
    ) -> Option<Got> {
        let url = self.fly.url().join(path).unwrap();
        let mut request = self.http.request(method.parse().unwrap(), url);
        request = request.header("authorization", token);
        if let Some(nonce) = nonce {
            request = request.header("fly-machine-lease-nonce", nonce);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.ok()?;
        let head =
            |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, request_id) = (answer.status().as_u16(), head("fly-request-id"));
        let retry_after = head("retry-after");
        let text = answer.text().await.ok()?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        Some(Got { status, text, json, request_id, retry_after })
    }

    /// A call below the app.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Got {
        let path = format!("/v1/apps/sprites{path}");
        self.try_call(method, &path, body.as_ref()).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Got {
        self.call("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Got {
        self.call("POST", path, Some(body)).await
    }

    /// A call without a body.
    pub async fn poke(&self, path: &str) -> Got {
        self.call("POST", path, None).await
    }

    /// Creates a machine, whatever its config adds to an image.
    pub async fn create(&self, name: &str, more: Value) -> String {
        let got = self.post("/machines", wish(name, more)).await;
        assert_eq!(got.status, 200, "{}", got.text);
        got.json["id"].as_str().unwrap().to_owned()
    }

    /// Creates a machine, and waits until it is up.
    pub async fn started(&self, name: &str, more: Value) -> String {
        let id = self.create(name, more).await;
        self.reach(&id, "started").await;
        id
    }

    pub async fn state(&self, id: &str) -> String {
        self.get(&format!("/machines/{id}")).await.json["state"].as_str().unwrap_or("").to_owned()
    }

    pub fn truth(&self, id: &str) -> Option<MachineTruth> {
        self.fly.machines().into_iter().find(|machine| machine.id == id)
    }

    pub fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets guests and timers do what they can do now.
    pub async fn breathe(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        drop(self.fly.machines());
    }

    /// Moves the clock in small steps until a machine is in a state.
    pub async fn reach(&self, id: &str, state: &str) {
        for _ in 0..4000 {
            self.breathe().await;
            let is = self.truth(id).map_or("destroyed".to_owned(), |machine| machine.state);
            if is == state {
                return;
            }
            self.clock.advance(Duration::from_millis(50));
        }
        panic!("{id} never was {state}: {:?}", self.truth(id));
    }

    pub async fn events(&self, id: &str) -> Vec<Value> {
        let got = self.get(&format!("/machines/{id}/events?limit=50")).await;
        got.json.as_array().unwrap_or(&Vec::new()).clone()
    }

    /// The newest exit of a machine, as its event tells it.
    pub async fn exit(&self, id: &str) -> Value {
        let events = self.events(id).await;
        let exit = events.iter().find(|event| event["type"] == "exit").unwrap();
        exit["request"].clone()
    }
}

/// The body of a create.
pub fn wish(name: &str, more: Value) -> Value {
    let mut config = json!({"image": "registry.fly.io/agent:1", "restart": {"policy": "no"}});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    json!({"name": name, "region": "iad", "config": config})
}
