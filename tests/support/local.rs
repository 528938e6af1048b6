//! A stage for sprites on this machine: the runtime as the Sprite controller uses it, the real
//! reporter, a real shell, and a server that takes everything.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    routing::{get, post},
};
use open_dispatch::{
    resource::{
        AgentCli, CommandCli, ExitReason, LocalRuntime as LocalSpec, Permissions, RuntimeSpec,
        Sprite, SpriteSpec,
    },
    runtime::{
        Observed, Runtime,
        local::{LocalConfig, LocalRuntime},
    },
};
use sprite_reporter::{
    rundir::RunDir,
    wire::{EventAck, EventBatch, EventBody, InboxRow, Order},
};

/// The token that reporters show.
pub const TOKEN: &str = "token";
/// Far more than anything takes here: past it a test hangs.
pub const HANGS: Duration = Duration::from_secs(60);

pub type Held = Arc<Mutex<HashMap<String, Vec<EventBody>>>>;

/// Orders by the sprite that they are for.
pub type Orders = Arc<Mutex<HashMap<String, Vec<InboxRow>>>>;

/// Under which name a run's events are held: the first one's under the sprite's own.
pub fn name_of(uid: &str, run: u32) -> String {
    if run == 1 { uid.to_owned() } else { format!("{uid}, run {run}") }
}

async fn take(
    State((held, _)): State<(Held, Orders)>,
    Json(batch): Json<EventBatch>,
) -> Json<EventAck> {
    let mut held = held.lock().unwrap();
    let mine = held.entry(name_of(&batch.job_id, batch.run)).or_default();
    for event in batch.events {
        if event.seq == mine.len() as u64 + 1 {
            mine.push(event.body);
        }
    }
    let finished = matches!(mine.last(), Some(EventBody::Exit(_)));
    let held = mine.len() as u64;
    Json(EventAck { held, expected: held + 1, finished })
}

/// Whose inbox is asked for.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whose {
    job_id: String,
    run: u32,
    after: u64,
}

async fn inbox(
    State((_, orders)): State<(Held, Orders)>,
    Query(Whose { job_id, run, after }): Query<Whose>,
) -> Body {
    let rows = futures::stream::unfold(after, move |mut sent| {
        let (orders, job_id) = (orders.clone(), job_id.clone());
        async move {
            loop {
                let next = orders.lock().unwrap().get(&job_id).and_then(|rows| {
                    rows.iter().find(|row| row.n > sent && row.run == run).cloned()
                });
                if let Some(row) = next {
                    sent = row.n;
                    let line = format!("{}\n", serde_json::to_string(&row).unwrap());
                    return Some((Ok::<_, std::convert::Infallible>(line), sent));
                }
                pause().await;
            }
        }
    });
    Body::from_stream(rows)
}

pub struct Stage {
    pub data: tempfile::TempDir,
    pub home: tempfile::TempDir,
    pub held: Held,
    pub orders: Orders,
    pub config: LocalConfig,
    pub runtime: Arc<LocalRuntime>,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut LocalConfig)) -> Self {
        let (data, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut config = LocalConfig::new(data.path(), "test", home.path());
        config.reporter = Some(env!("CARGO_BIN_EXE_open-dispatch").into());
        config.environment = vec![
            ("PATH".into(), std::env::var("PATH").unwrap()),
            ("OPEN_DISPATCH_SECRET_DEPLOY_KEY".into(), "s3cret-of-deploy".into()),
        ];
        change(&mut config);
        let runtime = LocalRuntime::new(config.clone());
        Self { data, home, held: Held::default(), orders: Orders::default(), config, runtime }
    }

    /// Serves for as long as the test's runtime lives.
    pub async fn serve(&self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/webhooks/events", post(take))
            .route("/webhooks/inbox", get(inbox))
            .with_state((self.held.clone(), self.orders.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        fs::write(&self.config.endpoint_file, url).unwrap();
    }

    pub fn sprite(&self, task: &str) -> Sprite {
        let spec = SpriteSpec {
            agent: AgentCli::Command(CommandCli::default()),
            runtime: RuntimeSpec::Local(LocalSpec::default()),
            task: Some(task.into()),
            repo: None,
            instructions: None,
            permissions: Permissions::default(),
            env: Vec::new(),
            timeout: None,
            idle_timeout: None,
            session: None,
            attempt: 1,
            running: true,
            run: 1,
            stop: None,
        };
        let mut sprite = Sprite::new("test-1", spec);
        sprite.metadata.uid = format!("uid-{}", self.data.path().file_name().unwrap().display())
            .replace("uid-.", "uid-");
        sprite
    }

    /// A sprite that is talked to.
    pub fn session(&self) -> Sprite {
        let mut sprite = self.sprite("");
        sprite.spec.task = None;
        sprite
    }

    /// Orders something of the run that is to live.
    pub fn order(&self, sprite: &Sprite, order: Order) {
        let mut orders = self.orders.lock().unwrap();
        let rows = orders.entry(sprite.metadata.uid.clone()).or_default();
        rows.push(InboxRow { n: rows.len() as u64 + 1, run: sprite.spec.run, order });
    }

    /// What is held of the run that is to live.
    pub fn events(&self, sprite: &Sprite) -> Vec<EventBody> {
        let name = name_of(&sprite.metadata.uid, sprite.spec.run);
        self.held.lock().unwrap().get(&name).cloned().unwrap_or_default()
    }

    /// Waits until something was said, and is held.
    pub async fn until_said(&self, sprite: &Sprite, so: impl Fn(&EventBody) -> bool) {
        let wait = async {
            while !self.events(sprite).iter().any(&so) {
                pause().await;
            }
        };
        tokio::time::timeout(HANGS, wait).await.expect("it was never said");
    }

    pub fn run_dir(&self, sprite: &Sprite) -> RunDir {
        RunDir::new(self.config.runs.join(&sprite.metadata.uid))
    }

    /// Looks until it sees what it looks for.
    pub async fn until(&self, sprite: &Sprite, so: impl Fn(&Observed) -> bool) -> Observed {
        let look = async {
            loop {
                let observed = self.runtime.observe(sprite).await.unwrap();
                if so(&observed) {
                    return observed;
                }
                pause().await;
            }
        };
        tokio::time::timeout(HANGS, look).await.expect("it never came to be so")
    }

    pub async fn until_gone(&self, sprite: &Sprite) -> ExitReason {
        match self.until(sprite, |seen| matches!(seen, Observed::Gone { .. })).await {
            Observed::Gone { exit: Some(exit) } => exit.reason,
            other => panic!("{other:?}"),
        }
    }

    pub fn printed(&self, sprite: &Sprite) -> String {
        let held = self.held.lock().unwrap();
        held.get(&sprite.metadata.uid)
            .into_iter()
            .flatten()
            .filter_map(|body| match body {
                EventBody::Log { chunk, .. } => {
                    Some(String::from_utf8_lossy(&chunk.bytes()).into_owned())
                }
                _ => None,
            })
            .collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

pub fn is_running(observed: &Observed) -> bool {
    matches!(observed, Observed::Running { process: Some(_) })
}
