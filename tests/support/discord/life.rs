//! A server's part for Discord, in this process: the ear, the mouth and the outbox over a store.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use open_dispatch::{
    ambient::{Ambient, Clock, Fault, Steps, SystemClock, later},
    chat::{
        Commands, Outbox, Settings,
        discord::{Discord, settings::Settings as DiscordSettings},
        ear::{Ear, Hearing},
        outbox,
        platform::Platform,
    },
    reconcile::{Engine, EngineHandle},
    store::{Principal, Store, files::Files, memory::MemoryStore},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::Discord as Fake;
use crate::stage_of_chat::Stage as _;

/// Who may everything.
pub const ADMINS: [&str; 2] = ["ann", "bob"];

/// A store that can stand still.
#[derive(Default)]
pub struct Gate {
    /// While it is shut, nothing is taken, and nothing goes out of the outbox.
    shut: watch::Sender<bool>,
}

impl Gate {
    /// Shuts it, or opens it again.
    pub fn shut(&self, shut: bool) {
        self.shut.send_replace(shut);
    }
}

#[async_trait]
impl Steps for Gate {
    async fn before(&self, _: &'static str) -> Result<(), Fault> {
        let _ = self.shut.subscribe().wait_for(|shut| !shut).await;
        Ok(())
    }

    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
}

/// The system's clock, put forward.
#[derive(Default)]
pub struct Skew(Mutex<Duration>);

impl Skew {
    /// Puts it forward. Nobody who sleeps wakes by that.
    pub fn forward(&self, length: Duration) {
        *self.0.lock().unwrap() += length;
    }
}

#[async_trait]
impl Clock for Skew {
    fn now(&self) -> Timestamp {
        later(SystemClock.now(), *self.0.lock().unwrap())
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed() + *self.0.lock().unwrap()
    }

    async fn sleep(&self, length: Duration) {
        SystemClock.sleep(length).await;
    }
}

/// One life of it; another one may follow on the same store.
pub struct Life {
    fake: Fake,
    pub store: Arc<MemoryStore>,
    pub discord: Arc<Discord>,
    pub files: Arc<Files>,
    pub gate: Arc<Gate>,
    pub skew: Arc<Skew>,
    engine: EngineHandle,
    listening: JoinHandle<()>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Life {
    /// Begins, and waits until people are heard.
    pub async fn begin(fake: &Fake, store: &Arc<MemoryStore>) -> Self {
        let life = Self::begin_unheard(fake, store).await;
        life.until(|hearing| *hearing == Hearing::Yes).await;
        life
    }

    /// Begins, whoever is heard.
    pub async fn begin_unheard(fake: &Fake, store: &Arc<MemoryStore>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let gate = Arc::new(Gate::default());
        let skew = Arc::new(Skew::default());
        let ambient = Ambient {
            clock: Arc::clone(&skew) as Arc<dyn Clock>,
            steps: Arc::clone(&gate) as Arc<dyn Steps>,
            ..Ambient::real()
        };
        let files = Arc::new(Files::open(dir.path().join("files")).unwrap());
        let settings = DiscordSettings::read(&fake.env()).unwrap();
        let clock = Arc::clone(&ambient.clock);
        let discord =
            Discord::new(settings, Arc::clone(&files), Arc::clone(store) as Arc<dyn Store>, clock)
                .unwrap();
        let shop = Arc::clone(store) as Arc<dyn Store>;
        let mut engine = Engine::new(Arc::clone(&shop), ambient.clone());
        let platforms = vec![Arc::clone(&discord) as Arc<dyn Platform>];
        engine.add(Arc::new(Outbox::new(Arc::clone(&shop), ambient.clone(), platforms)));
        let engine = engine.start().await.unwrap();
        let admins = ADMINS.map(|who| Principal::user("discord", Fake::id(who))).to_vec();
        let settings = Settings { admins, ..Settings::default() };
        let commands = Arc::new(Commands::new(shop, ambient, settings));
        let stop = CancellationToken::new();
        let listening = tokio::spawn(Arc::clone(&discord).listen(commands, stop.clone()));
        let store = Arc::clone(store);
        Self {
            fake: fake.clone(),
            store,
            discord,
            files,
            gate,
            skew,
            engine,
            listening,
            stop,
            _dir: dir,
        }
    }

    /// Waits until it is heard, or not, like this.
    pub async fn until(&self, so: impl Fn(&Hearing) -> bool) -> Hearing {
        let look = async {
            loop {
                let hearing = self.discord.hearing();
                if so(&hearing) {
                    return hearing;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(50), look).await {
            Ok(hearing) => hearing,
            Err(_) => panic!("it stays {:?}", self.discord.hearing()),
        }
    }

    /// Ends at once. Whatever was tested: it was this fake that was asked, and nobody else.
    pub async fn end(self) {
        let calls = self.fake.calls();
        assert!(calls.contains(&"GET gateway/bot".to_owned()), "the first call: {calls:?}");
        self.stop.cancel();
        self.listening.abort();
        let _ = self.listening.await;
        self.engine.stop().await;
    }

    /// How many open deliveries there are, and wakes nothing.
    pub async fn open(&self) -> usize {
        let _ = outbox::NAME;
        self.store.open_deliveries().await.unwrap().len()
    }
}
