//! Discord: commands, mentions, buttons and files in, messages out.
//!
//! **Two connections.** [`gateway`] holds the socket on which people are heard; [`rest`] makes all
//! calls, and knows the pace. Neither goes anywhere but where [`settings`] says.
//!
//! **The life of a command.** An interaction comes over the socket. Its first answer ("thinking")
//! goes out at once, since Discord waits 3 s for it; then the line it means ([`options`]) is taken
//! under the interaction's id, so that one that comes three times has one effect. The outbox posts
//! its placeholder, which fills the place that Discord keeps ([`mouth`]), and edits it from there
//! on. The interaction's token is kept in memory for a quarter of an hour ([`interactions`]);
//! after that, or after a restart, messages are posted and edited as the bot, like any others.
//!
//! **Order.** Lines of a channel are taken one after the other, in the order in which Discord sent
//! them ([`lanes`], [`taking`]); a slow file ([`fetch`]) holds up its own channel, and there nothing
//! that stops an agent or answers it. Discord sends no line again, so one that the store does not
//! take is tried for a while, and then looked up.
//!
//! **What was missed.** Where a session cannot be resumed, or the server was not running, what was
//! said since is looked up, and taken in front of what comes next ([`missed`]).
//!
//! **What was said before.** A message that replies to another, or mentions us in a thread, brings
//! along what the agent did not hear ([`context`]).
//!
//! **Threads.** A thread is a channel of its own to Discord; to us it is a thread of its parent,
//! so that an agent of the channel can be told from one of the thread.

mod context;
mod fetch;
mod form;
mod gateway;
mod heard;
mod interactions;
mod lanes;
mod missed;
mod mouth;
mod options;
mod pace;
mod register;
mod rest;
pub mod settings;
mod taking;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use serenity::all::Event;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::{
    gateway::{Ended, Gateway, Refusal},
    heard::{Filling, Heard},
    interactions::{Interactions, Opened},
    lanes::{Lanes, Work},
    missed::Last,
    rest::{Failure, Rest},
    settings::Settings,
};
use super::{
    Commands,
    ear::{Ear, Hearing},
    grammar::Verb,
    platform::{self, Platform},
};
use crate::{
    ambient::Clock,
    store::{Store, files::Files},
};

/// The platform's name in conversations.
pub const NAME: &str = "discord";
/// How many of our own messages are remembered by their nonces.
const OWN: usize = 1_000;
/// How many channels are known as threads, or as none.
const PARENTS: usize = 4_096;
/// How many names Discord shows of those that may be meant.
const CHOICES: usize = 25;
/// The wait before the first new try, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// So many sessions are left alone, of the 1,000 in a day: who needs more gets a new token.
const STARTS: u64 = 20;
/// How long lines that were received may take at a stop.
const DRAIN: Duration = Duration::from_secs(4);
/// The wait after Discord refused us. A session costs one of 1,000 in a day.
const REFUSED: Duration = Duration::from_secs(300);

/// Discord, as ear and mouth.
pub struct Discord {
    settings: Settings,
    rest: Rest,
    files: Arc<Files>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    hearing: Mutex<Hearing>,
    interactions: Mutex<Interactions>,
    own: Mutex<Own>,
    /// The parents of channels that are threads, and none for those that are not.
    parents: Mutex<HashMap<String, Option<String>>>,
    /// Where something was said, and the last of it that was taken.
    last: Mutex<HashMap<String, Last>>,
    /// Rung when a channel is heard for the first time.
    is_new: Notify,
    /// How many channels may be looked up at once.
    looks: Semaphore,
    /// How many files may be fetched at once.
    fetches: Semaphore,
    /// How often it was not known whether a file had come to Discord, by nonces.
    unclear: Mutex<HashMap<String, u32>>,
}

/// Where the gateway is.
struct Found {
    url: String,
    /// Whether one connection may not do.
    is_large: bool,
    /// How long hardly any session may be begun.
    spent: Option<Duration>,
}

/// What the gateway told us of ourselves.
#[derive(Default)]
struct Own {
    me: Option<String>,
    /// The ids of our messages, by their nonces.
    nonces: HashMap<String, String>,
}

impl Discord {
    /// Discord as the settings say; nothing is asked yet.
    ///
    /// # Errors
    /// A system without what HTTPS needs.
    pub fn new(
        settings: Settings,
        files: Arc<Files>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, String> {
        let (api, token) = (settings.api.clone(), settings.token.clone());
        let rest = Rest::new(api, settings.is_discords, token, Arc::clone(&clock))?;
        Ok(Arc::new(Self {
            settings,
            rest,
            files,
            store,
            clock,
            hearing: Mutex::new(Hearing::NotNow("not connected to Discord yet".to_owned())),
            interactions: Mutex::default(),
            own: Mutex::default(),
            parents: Mutex::default(),
            last: Mutex::default(),
            is_new: Notify::new(),
            looks: Semaphore::new(missed::LOOKS),
            fetches: Semaphore::new(fetch::FETCHES),
            unclear: Mutex::default(),
        }))
    }

    fn interactions(&self) -> MutexGuard<'_, Interactions> {
        self.interactions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> MutexGuard<'_, HashMap<String, Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which channel another is a thread of, or that it is none.
    fn is_below(&self, channel: String, parent: Option<String>) {
        let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        if parents.len() >= PARENTS {
            parents.clear();
        }
        parents.insert(channel, parent);
    }

    /// What is known of it.
    fn known_parent(&self, channel: &str) -> Option<Option<String>> {
        let parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        parents.get(channel).cloned()
    }

    fn hear(&self, hearing: Hearing) {
        let mut now = self.hearing.lock().unwrap_or_else(PoisonError::into_inner);
        if *now != hearing {
            match &hearing {
                Hearing::Yes => tracing::info!("people are heard on Discord"),
                Hearing::NotNow(why) => tracing::warn!("nobody is heard on Discord: {why}"),
                Hearing::Never(why) => tracing::error!("nobody is heard on Discord: {why}"),
            }
            *now = hearing;
        }
    }

    /// The gateway's address, and whether one connection may not do. It is asked for here, and
    /// nowhere else: whoever gets none must not go to Discord's own when another was named.
    async fn gateway(&self) -> Result<Found, Failure> {
        let answer =
            self.rest.call(&rest::get("GET gateway/bot", "", "gateway/bot".to_owned())).await?;
        let url = answer["url"].as_str().filter(|url| url.starts_with("ws")).map(ToOwned::to_owned);
        let is_large = answer["shards"].as_u64().is_some_and(|shards| shards > 1);
        let limit = &answer["session_start_limit"];
        let is_spent = limit["remaining"].as_u64().is_some_and(|left| left < STARTS);
        let wait = limit["reset_after"].as_u64().map(Duration::from_millis);
        let spent = wait.filter(|_| is_spent);
        url.map(|url| Found { url, is_large, spent }).ok_or_else(|| {
            let why = "it named no gateway; look at what DISCORD_API_URL leads to".to_owned();
            Failure::Other(platform::Error::Unreachable(why))
        })
    }

    /// Holds one connection until it is lost for good.
    async fn connect(
        self: &Arc<Self>,
        lanes: &Lanes,
        commands: &Arc<Commands>,
        stop: &CancellationToken,
    ) -> Ended {
        let Found { url, is_large, .. } = match self.gateway().await {
            Ok(Found { spent: Some(wait), .. }) => return Ended::Spent(wait),
            Ok(found) => found,
            Err(Failure::Token) => return Ended::Refused(Refusal::Token),
            Err(failure) => return Ended::Lost(platform::Error::from(failure).to_string()),
        };
        let gateway =
            Gateway { url, token: self.settings.token.clone(), clock: Arc::clone(&self.clock) };
        let (events, mut coming) = mpsc::unbounded_channel();
        let (up, mut is_up) = watch::channel(false);
        let holding = gateway.hold(events, up, stop.clone());
        tokio::pin!(holding);
        let mut was_up = false;
        loop {
            tokio::select! {
                // What came is taken before it is looked whether more will come.
                biased;
                Some(event) = coming.recv() => self.take(event, lanes, commands),
                Ok(()) = is_up.changed() => self.hear(match *is_up.borrow_and_update() {
                    true => {
                        was_up = true;
                        Hearing::Yes
                    }
                    false => Hearing::NotNow("the connection to Discord is being mended".to_owned()),
                }),
                ended = &mut holding => {
                    while let Ok(event) = coming.try_recv() {
                        self.take(event, lanes, commands);
                    }
                    return match ended {
                        Ended::Lost(_) if is_large && !was_up => {
                            Ended::Refused(Refusal::TooManyServers)
                        }
                        ended => ended,
                    };
                }
            }
        }
    }

    /// Takes an event: quickly, since others wait behind it.
    fn take(self: &Arc<Self>, event: Event, lanes: &Lanes, commands: &Arc<Commands>) {
        match heard::heard(event) {
            None => {}
            Some(Heard::Ready(me)) => {
                self.own().me = Some(me);
                // A session that begins anew does not bring what was said since the last one.
                self.look_back(lanes);
            }
            Some(Heard::Places(places)) => {
                for (channel, parent) in places {
                    self.is_below(channel, parent);
                }
            }
            Some(Heard::Ours { author, nonce, message }) => {
                let mut own = self.own();
                if own.me.as_ref() == Some(&author) {
                    if own.nonces.len() >= OWN {
                        own.nonces.clear();
                    }
                    own.nonces.insert(nonce, message);
                }
            }
            Some(Heard::Said(said)) => {
                let channel = said.channel.clone();
                self.is_heard(&said);
                lanes.put(&channel, Work::Said(said));
            }
            Some(Heard::Used(used)) => {
                // Their answers are about whoever asks.
                let alone = matches!(used.verb, Some(Verb::Help | Verb::Whoami));
                let (how, kind) = match alone {
                    true => (Opened::ThinkingAlone, 5),
                    false => (Opened::Thinking, 5),
                };
                let data = alone.then(|| json!({"flags": 64}));
                let opened = self.open(&used.id, &used.token, kind, data, how);
                let channel = used.place.thread.clone().unwrap_or(used.place.channel.clone());
                lanes.put(&channel, Work::Used(used, opened));
            }
            Some(Heard::Pressed(pressed)) => {
                let opened = self.open(&pressed.id, &pressed.token, 6, None, Opened::Pressed);
                let channel = pressed.place.thread.clone().unwrap_or(pressed.place.channel.clone());
                lanes.put(&channel, Work::Pressed(pressed, opened));
            }
            Some(Heard::Filling(filling)) => {
                tokio::spawn(Arc::clone(self).complete(filling, Arc::clone(commands)));
            }
        }
    }

    /// Gives the first answer to an interaction, at once, beside all else.
    fn open(
        self: &Arc<Self>,
        id: &str,
        token: &SecretString,
        kind: u8,
        data: Option<Value>,
        how: Opened,
    ) -> tokio::task::JoinHandle<()> {
        let this = Arc::clone(self);
        let (id, token) = (id.to_owned(), token.expose_secret().to_owned());
        tokio::spawn(async move {
            match this.rest.call(&rest::callback(&id, &token, kind, data)).await {
                Ok(_) => this.interactions().keep(&id, &token, how, this.clock.elapsed()),
                // It came to us again, or its answer was lost: it is open.
                Err(Failure::Answered) => {
                    let mut interactions = this.interactions();
                    if interactions.get(&id, this.clock.elapsed()).is_none() {
                        interactions.keep(&id, &token, how, this.clock.elapsed());
                    }
                }
                Err(Failure::Other(platform::Error::Ambiguous(why))) => {
                    tracing::warn!("whether Discord knows that we think is not known: {why}");
                    this.interactions().keep(&id, &token, how, this.clock.elapsed());
                }
                // The line is taken all the same, and answered by a message of its own.
                Err(failure) => {
                    let error = platform::Error::from(failure);
                    tracing::warn!("an interaction could not be answered in time: {error}");
                }
            }
        })
    }

    /// Offers the names that begin like this, or have it in them.
    async fn complete(self: Arc<Self>, filling: Filling, commands: Arc<Commands>) {
        let names = match commands
            .names_like(&filling.who.id, &filling.place, &filling.begun, CHOICES)
            .await
        {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!("names could not be offered: {error}");
                return;
            }
        };
        let choices: Vec<Value> =
            names.into_iter().map(|name| json!({"name": name, "value": name})).collect();
        let data = Some(json!({"choices": choices}));
        // A person types on; an answer that comes too late is for nobody.
        let _ = self
            .rest
            .call(&rest::callback(&filling.id, filling.token.expose_secret(), 8, data))
            .await;
    }
}

#[async_trait]
impl Ear for Discord {
    fn platform(self: Arc<Self>) -> Arc<dyn Platform> {
        self
    }

    fn hearing(&self) -> Hearing {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn listen(self: Arc<Self>, commands: Arc<Commands>, stop: CancellationToken) {
        self.remember().await;
        let lanes = Lanes::new(&self, &commands);
        // It goes on until all that was received is taken.
        let kept = CancellationToken::new();
        let keeping = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self).keep(kept.clone())));
        let registering =
            AbortOnDropHandle::new(tokio::spawn(Arc::clone(&self).register_at_last()));
        let mut wait = AGAIN.0;
        while !stop.is_cancelled() {
            let began = self.clock.elapsed();
            let ended = self.connect(&lanes, &commands, &stop).await;
            if self.clock.elapsed().saturating_sub(began) > AGAIN.1 {
                wait = AGAIN.0;
            }
            let pause = match ended {
                Ended::Stopped => break,
                Ended::Refused(refusal) => {
                    self.hear(Hearing::Never(refusal.mend().to_owned()));
                    REFUSED
                }
                Ended::Spent(left) => {
                    let minutes = left.as_secs() / 60 + 1;
                    self.hear(Hearing::NotNow(format!(
                        "Discord lets a bot begin 1,000 sessions in a day, and nearly all of them \
                         are used; people are heard again within {minutes} minutes. Look whether \
                         the server is restarted in a loop, or the token is used twice"
                    )));
                    left.clamp(AGAIN.1, REFUSED)
                }
                Ended::Lost(why) => {
                    self.hear(Hearing::NotNow(why));
                    wait = (wait * 2).min(AGAIN.1);
                    wait / 2
                }
            };
            tokio::select! {
                () = self.clock.sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
        drop(registering);
        self.hear(Hearing::NotNow("the server stops".to_owned()));
        lanes.drain(DRAIN).await;
        kept.cancel();
        let _ = keeping.await;
    }
}
