//! Our Slack against the fake, in this process: ear, mouth, commands and outbox over a store.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use open_dispatch::{
    ambient::{Ambient, Fault, Steps},
    chat::{
        Commands, Outbox, Settings,
        ear::{Ear as _, Hearing},
        slack::{self, Slack, Tempo},
    },
    reconcile::{Engine, EngineHandle},
    resource::Kind,
    store::{Principal, Store, Turn, files::Files, memory::MemoryStore},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{APP_TOKEN, BOT_TOKEN, FakeSlack, PATIENCE};

/// A store that can be slow, or fail.
#[derive(Default)]
pub struct Gate {
    /// While set, lines wait in front of the store.
    pub shut: AtomicBool,
    /// How many lines fail next.
    pub failing: AtomicU32,
    /// How many lines came to the store.
    pub came: AtomicU32,
}

#[async_trait]
impl Steps for Gate {
    async fn before(&self, step: &'static str) -> Result<(), Fault> {
        if step != "chat.take" {
            return Ok(());
        }
        self.came.fetch_add(1, Ordering::SeqCst);
        while self.shut.load(Ordering::SeqCst) {
            Ambient::real().clock.sleep(Duration::from_millis(10)).await;
        }
        let fails = self
            .failing
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        fails.map_or(Ok(()), |_| Err(Fault::Error(step)))
    }

    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
}

/// Who may do everything.
pub const ADMINS: [&str; 2] = ["UADA", "UBOB"];

/// All of it.
pub struct Rig {
    pub fake: Arc<FakeSlack>,
    pub store: Arc<dyn Store>,
    pub gate: Arc<Gate>,
    pub slack: Arc<Slack>,
    pub files: Arc<Files>,
    stop: CancellationToken,
    listening: Mutex<Option<JoinHandle<()>>>,
    engine: Mutex<Option<EngineHandle>>,
    _dir: Arc<tempfile::TempDir>,
}

/// As fast as a test wants it.
pub const FAST: Tempo = Tempo {
    connections: 2,
    ping: Duration::from_secs(1),
    pings: 1,
    retry: Duration::from_secs(1),
    dial: Duration::from_secs(1),
    give_up: Duration::from_secs(5),
    look_again: Duration::from_secs(1),
};

impl Rig {
    /// A workspace, and a server that hears it.
    pub async fn new() -> Self {
        let rig = Self::deaf(FakeSlack::start().await).await;
        rig.fake.until_connected(2).await;
        let first = rig.fake.world().calls[0].method.clone();
        assert_eq!(first, "auth.test", "the fake saw the first call");
        rig
    }

    /// The same, before the first socket stands.
    pub async fn deaf(fake: FakeSlack) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::over(Arc::new(fake), MemoryStore::new(), dir).await
    }

    async fn over(
        fake: Arc<FakeSlack>,
        store: Arc<dyn Store>,
        dir: Arc<tempfile::TempDir>,
    ) -> Self {
        let gate = Arc::new(Gate::default());
        let ambient = Ambient { steps: Arc::clone(&gate) as Arc<dyn Steps>, ..Ambient::real() };
        let files = Arc::new(Files::open(dir.path().join("files")).unwrap());
        let environment = [
            ("SLACK_BOT_TOKEN", BOT_TOKEN),
            ("SLACK_APP_TOKEN", APP_TOKEN),
            ("SLACK_API_URL", fake.api()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = slack::Settings::from_environment(&environment).unwrap();
        let slack = Slack::new(settings, Arc::clone(&files), ambient.clone(), FAST).unwrap();
        let admins = ADMINS.map(|admin| Principal::user(slack::NAME, admin)).to_vec();
        let settings = Settings { admins, ..Settings::default() };
        let commands = Arc::new(Commands::new(store.clone(), ambient.clone(), settings));
        let mut engine = Engine::new(store.clone(), ambient.clone());
        let platform = Arc::clone(&slack).platform();
        engine.add(Arc::new(Outbox::new(store.clone(), ambient, vec![platform])));
        let engine = engine.start().await.unwrap();
        let stop = CancellationToken::new();
        let listening = tokio::spawn(Arc::clone(&slack).listen(commands, stop.clone()));
        Self {
            fake,
            store,
            gate,
            slack,
            files,
            stop,
            listening: Mutex::new(Some(listening)),
            engine: Mutex::new(Some(engine)),
            _dir: dir,
        }
    }

    /// Another server on the same store and the same workspace, after this one is gone.
    pub async fn restarted(self) -> Self {
        let listening = self.listening.lock().unwrap().take().unwrap();
        listening.abort();
        let _ = listening.await;
        let engine = self.engine.lock().unwrap().take().unwrap();
        engine.stop().await;
        self.fake.until("all sockets are closed", |world| world.sockets.open() == 0).await;
        let (fake, store) = (Arc::clone(&self.fake), self.store.clone());
        let rig = Self::over(fake, store, Arc::clone(&self._dir)).await;
        rig.fake.until_connected(2).await;
        rig
    }

    /// An agent that listens in a channel.
    pub async fn agent(&self, channel: &str) -> String {
        self.fake.commands("UADA", channel, "/od-start bot --agent claude");
        self.fake
            .until("the agent is told of", |world| {
                super::ours(world, channel).iter().any(|message| message.text.contains("bot"))
            })
            .await;
        let agent = self.store.get(Kind::Agent, "bot").await.unwrap().unwrap();
        agent.metadata().uid.clone()
    }

    /// All that the agent was told.
    pub async fn turns(&self, agent: &str) -> Vec<Turn> {
        self.store.turns(agent, 0, 100).await.unwrap()
    }

    /// Waits until people are heard, or not.
    pub async fn until_hearing(&self, is_so: impl Fn(&Hearing) -> bool) -> Hearing {
        let looking = async {
            loop {
                let hearing = self.slack.hearing();
                if is_so(&hearing) {
                    return hearing;
                }
                Ambient::real().clock.sleep(Duration::from_millis(10)).await;
            }
        };
        let told = tokio::time::timeout(PATIENCE, looking).await;
        told.unwrap_or_else(|_| panic!("it stays {:?}", self.slack.hearing()))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
