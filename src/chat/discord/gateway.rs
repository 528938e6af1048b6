//! The socket to Discord, held by serenity.
//!
//! **A thread of its own.** serenity hands over each event in a task of its own. On a runtime of
//! one thread those tasks run in the order in which they were made, which is the order in which
//! Discord sent them; on many threads they would overtake each other, and so would the lines of a
//! conversation. When the thread ends, so does all that serenity has spawned.
//!
//! **The address is ours.** serenity's own client asks for the gateway's address and, where it
//! gets none, goes to Discord's. Here the address is handed in by whoever asked for it, and
//! serenity makes no call besides.
//!
//! serenity resumes after a lost connection, heartbeats, and notices a socket that fell silent.
//! What it cannot mend (no session for a while, or a token or intents that are refused) ends here,
//! and the ear decides.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use serenity::{
    all::{
        ConnectionStage, Context, Event, GatewayError, GatewayIntents, HttpBuilder,
        RawEventHandler, ShardId, ShardManager, ShardManagerOptions,
    },
    prelude::TypeMap,
};
use tokio::sync::{Mutex, RwLock, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::ambient::Clock;

/// How long there may be no session before the address is asked for anew.
const LOST: Duration = Duration::from_secs(45);
/// How often it is looked whether there is a session.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why the socket is held no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// We were told to stop.
    Stopped,
    /// Discord refuses us until a person mends something.
    Refused(Refusal),
    /// Hardly any session may be begun for so long.
    Spent(Duration),
    /// There was no session for long, or not even a socket.
    Lost(String),
}

/// Why Discord refuses us until a person mends something, by its page on gateway close events.
///
/// serenity tells three of those codes (4004, 4013, 4014). The others (4010 to 4012: a shard that
/// is none, too many servers, a version that is gone) it takes for a loss, and dials again; then
/// there is no session for long, and what Discord says of shards tells the second of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is no bot's (4004).
    Token,
    /// The bot is in more servers than one connection may hear (4011).
    TooManyServers,
    /// The intents that we ask for are none (4013).
    UnknownIntents,
    /// The application may not have the intents that we ask for (4014).
    Intents,
}

impl Refusal {
    fn of(error: &GatewayError) -> Option<Self> {
        match error {
            GatewayError::InvalidAuthentication => Some(Self::Token),
            GatewayError::OverloadedShard => Some(Self::TooManyServers),
            GatewayError::InvalidGatewayIntents => Some(Self::UnknownIntents),
            GatewayError::DisallowedGatewayIntents => Some(Self::Intents),
            _ => None,
        }
    }

    /// What is wrong and the mend, for people.
    pub(super) fn mend(self) -> &'static str {
        match self {
            Self::Token => {
                "Discord refuses the bot's token (4004); reset it on the application's page Bot at \
                 https://discord.com/developers and set DISCORD_BOT_TOKEN anew"
            }
            Self::TooManyServers => {
                "the bot is in more Discord servers than one connection may hear (4011, 2,500 of \
                 them); make an application of its own for Open Dispatch at \
                 https://discord.com/developers, and invite it where it is needed"
            }
            Self::UnknownIntents => {
                "Discord does not know the intents that we ask for (4013); this version is too old \
                 for Discord: update open-dispatch"
            }
            Self::Intents => {
                "Discord refuses our intents (4014); switch on Message Content Intent on the \
                 application's page Bot at https://discord.com/developers"
            }
        }
    }
}

/// What we want to hear of.
fn intents() -> GatewayIntents {
    GatewayIntents::GUILDS
        | GatewayIntents::GUILD_MESSAGES
        | GatewayIntents::DIRECT_MESSAGES
        | GatewayIntents::MESSAGE_CONTENT
}

/// Where to connect, and as whom.
pub(super) struct Gateway {
    /// The gateway's address, as the API gave it.
    pub(super) url: String,
    /// The bot's token.
    pub(super) token: SecretString,
    /// The time.
    pub(super) clock: Arc<dyn Clock>,
}

struct HandOver(mpsc::UnboundedSender<Event>);

#[async_trait]
impl RawEventHandler for HandOver {
    async fn raw_event(&self, _: Context, event: Event) {
        let _ = self.0.send(event);
    }
}

impl Gateway {
    /// Holds the socket until it is lost for good, or until `stop`. `up` says whether there is a
    /// session.
    pub(super) async fn hold(
        self,
        events: mpsc::UnboundedSender<Event>,
        up: watch::Sender<bool>,
        stop: CancellationToken,
    ) -> Ended {
        let (ended, answer) = oneshot::channel();
        // Dropped with this future, too: then nobody listens any more.
        let stop = stop.child_token();
        let guard = stop.clone().drop_guard();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let how = match runtime {
                Ok(runtime) => {
                    let how = runtime.block_on(self.run(events, up, stop));
                    runtime.shutdown_background();
                    how
                }
                Err(error) => Ended::Lost(error.to_string()),
            };
            let _ = ended.send(how);
        };
        let how = match std::thread::Builder::new().name("discord".into()).spawn(run) {
            Ok(_) => answer.await.unwrap_or_else(|_| Ended::Lost("serenity panicked".to_owned())),
            Err(error) => Ended::Lost(error.to_string()),
        };
        drop(guard);
        how
    }

    async fn run(
        self,
        events: mpsc::UnboundedSender<Event>,
        up: watch::Sender<bool>,
        stop: CancellationToken,
    ) -> Ended {
        // It makes no call; were it to, this is no place that answers.
        let http = HttpBuilder::new(self.token.expose_secret())
            .proxy("http://127.0.0.1:1")
            .ratelimiter_disabled(true)
            .build();
        let (manager, mut fatal) = ShardManager::new(ShardManagerOptions {
            data: Arc::new(RwLock::new(TypeMap::new())),
            event_handlers: Vec::new(),
            raw_event_handlers: vec![Arc::new(HandOver(events))],
            shard_index: 0,
            shard_init: 1,
            shard_total: 1,
            ws_url: Arc::new(Mutex::new(self.url.clone())),
            http: Arc::new(http),
            intents: intents(),
            presence: None,
        });
        if let Err(error) = manager.initialize() {
            return Ended::Lost(error.to_string());
        }
        let mut seen = self.clock.elapsed();
        let ended = loop {
            tokio::select! {
                () = stop.cancelled() => break Ended::Stopped,
                error = fatal.next() => break match error {
                    Some(Err(error)) => match Refusal::of(&error) {
                        Some(refusal) => Ended::Refused(refusal),
                        None => Ended::Lost(error.to_string()),
                    },
                    Some(Ok(())) | None => Ended::Lost("serenity stopped".to_owned()),
                },
                () = self.clock.sleep(LOOK_EVERY) => {}
            }
            let stage = manager.runners.lock().await.get(&ShardId(0)).map(|runner| runner.stage);
            let is_up = stage == Some(ConnectionStage::Connected);
            let now = self.clock.elapsed();
            if is_up {
                seen = now;
            } else if now.saturating_sub(seen) > LOST {
                break Ended::Lost(format!(
                    "Discord gave no session for {} s; should that last, leave DISCORD_API_URL out \
                     if it is set, else update open-dispatch",
                    LOST.as_secs()
                ));
            }
            up.send_if_modified(|old| std::mem::replace(old, is_up) != is_up);
        };
        up.send_replace(false);
        ended
    }
}
