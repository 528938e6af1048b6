//! A server's part for Discord, in this process: the ear, the mouth and the outbox over a store.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
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

/// A store that can stand still, fail, or end the task that asks it.
#[derive(Default)]
pub struct Gate {
    /// While it is shut, nothing is taken, and nothing goes out of the outbox.
    shut: watch::Sender<bool>,
    /// Whether no line is taken, and how many were not.
    fails: AtomicBool,
    failed: AtomicUsize,
    /// How many lines end in a panic.
    panics: AtomicUsize,
}

impl Gate {
    /// Shuts it, or opens it again.
    pub fn shut(&self, shut: bool) {
        self.shut.send_replace(shut);
    }

    /// Takes no line, or takes them again.
    pub fn fails(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    /// How many were not taken.
    pub fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }

    /// The next line ends in a panic.
    pub fn panics(&self) {
        self.panics.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Steps for Gate {
    async fn before(&self, step: &'static str) -> Result<(), Fault> {
        let _ = self.shut.subscribe().wait_for(|shut| !shut).await;
        if step == "chat.take" {
            let less = |panics: usize| panics.checked_sub(1);
            let panics = self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
            assert!(panics.is_err(), "a fault that a test wants");
            if self.fails.load(Ordering::SeqCst) {
                self.failed.fetch_add(1, Ordering::SeqCst);
                return Err(Fault::Error(step));
            }
        }
        Ok(())
    }

    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
}

/// The longest sleep of whoever hurries.
const HURRY: Duration = Duration::from_millis(50);

/// The system's clock, put forward.
#[derive(Default)]
pub struct Skew {
    forward: Mutex<Duration>,
    hurry: AtomicBool,
}

impl Skew {
    /// Puts it forward. Nobody who sleeps wakes by that.
    pub fn forward(&self, length: Duration) {
        *self.forward.lock().unwrap() += length;
    }

    /// Nobody sleeps long from now on.
    pub fn hurry(&self) {
        self.hurry.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Skew {
    fn now(&self) -> Timestamp {
        later(SystemClock.now(), *self.forward.lock().unwrap())
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed() + *self.forward.lock().unwrap()
    }

    async fn sleep(&self, length: Duration) {
        let hurry = self.hurry.load(Ordering::SeqCst);
        SystemClock.sleep(if hurry { length.min(HURRY) } else { length }).await;
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
        // What was received ends here; only then may what goes out end, too.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.gate.shut(false);
        self.engine.stop().await;
    }

    /// Is told to stop; gives back what ends when it has.
    pub fn stops(&mut self) -> JoinHandle<()> {
        self.stop.cancel();
        std::mem::replace(&mut self.listening, tokio::spawn(async {}))
    }

    /// How many open deliveries there are, and wakes nothing.
    pub async fn open(&self) -> usize {
        let _ = outbox::NAME;
        self.store.open_deliveries().await.unwrap().len()
    }
}
