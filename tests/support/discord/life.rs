//! A server's part for Discord, in this process: the ear, the mouth and the outbox over a store.

use std::sync::Arc;

use open_dispatch::{
    ambient::Ambient,
    chat::{
        Commands, Outbox, Settings,
        discord::{Discord, settings::Settings as DiscordSettings},
        ear::{Ear, Hearing},
        outbox,
        platform::Platform,
    },
    reconcile::{Engine, EngineHandle},
    store::{Store, files::Files, memory::MemoryStore},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Discord as Fake;
use crate::stage_of_chat::Stage as _;

/// One life of it; another one may follow on the same store.
pub struct Life {
    pub store: Arc<MemoryStore>,
    pub discord: Arc<Discord>,
    pub files: Arc<Files>,
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
        assert_eq!(fake.calls()[..1].len(), 1, "the fake saw the first call");
        life
    }

    /// Begins, whoever is heard.
    pub async fn begin_unheard(fake: &Fake, store: &Arc<MemoryStore>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let ambient = Ambient::real();
        let files = Arc::new(Files::open(dir.path().join("files")).unwrap());
        let settings = DiscordSettings::read(&fake.env()).unwrap();
        let clock = Arc::clone(&ambient.clock);
        let discord = Discord::new(settings, Arc::clone(&files), clock).unwrap();
        let shop = Arc::clone(store) as Arc<dyn Store>;
        let mut engine = Engine::new(Arc::clone(&shop), ambient.clone());
        let platforms = vec![Arc::clone(&discord) as Arc<dyn Platform>];
        engine.add(Arc::new(Outbox::new(Arc::clone(&shop), ambient.clone(), platforms)));
        let engine = engine.start().await.unwrap();
        let commands = Arc::new(Commands::new(shop, ambient, Settings::default()));
        let stop = CancellationToken::new();
        let listening = tokio::spawn(Arc::clone(&discord).listen(commands, stop.clone()));
        let store = Arc::clone(store);
        Self { store, discord, files, engine, listening, stop, _dir: dir }
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
        match tokio::time::timeout(std::time::Duration::from_secs(50), look).await {
            Ok(hearing) => hearing,
            Err(_) => panic!("it stays {:?}", self.discord.hearing()),
        }
    }

    /// Ends at once.
    pub async fn end(self) {
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
