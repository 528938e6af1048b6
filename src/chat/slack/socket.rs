//! The sockets: dialled, watched, and dialled again, never faster than Slack bears.
//!
//! `slack-morphism` holds the connections: it asks for an address, dials, pings, and notices a
//! connection that went silent. What it brings comes here as text, and here it is decided what is
//! acknowledged and when a connection is dialled anew; for left to itself it would dial a
//! workspace that has switched Socket Mode off again and again, without a pause.
//!
//! Before the sockets are dialled, and whenever all of them have been down for long, both tokens
//! are tried: what is wrong with them is told in words, with the mend. What a person must mend is
//! looked at again once a minute.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use slack_morphism::{
    SlackClientSocketModeConfig, SlackSocketModeClientListener, SlackSocketModeWssClientId,
    clients_manager::{SlackSocketModeClientsManager, SlackSocketModeClientsManagerFactory as _},
    errors::SlackClientError,
    listener::SlackClientEventsListenerEnvironment,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Slack,
    api::{Failure, With},
    envelope::{Frame, Heard, Me, read},
    health::{Verdict, trouble, verdict},
    lanes::{Hold, Lanes},
    lock,
    pace::Pace,
};
use crate::{ambient::Clock, chat::Commands};

/// How fast connections are tried and given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tempo {
    /// How many connections are held.
    pub connections: u32,
    /// How often a connection is pinged, in whole seconds.
    pub ping: Duration,
    /// After how many pings without an answer a connection is dead.
    pub pings: u32,
    /// How long to wait after a connection could not be made, in whole seconds.
    pub retry: Duration,
    /// What each renewed connection costs; a few may be renewed at once.
    pub dial: Duration,
    /// How long no connection may stand before the tokens are tried again.
    pub give_up: Duration,
    /// How long to wait before looking again whether a person has mended what they must.
    pub look_again: Duration,
}

impl Default for Tempo {
    fn default() -> Self {
        Self {
            connections: 2,
            ping: Duration::from_secs(10),
            pings: 3,
            // Slack counts dials by the minute, and does not tell the client how long to wait.
            retry: Duration::from_secs(30),
            dial: Duration::from_secs(10),
            give_up: Duration::from_secs(60),
            look_again: Duration::from_secs(60),
        }
    }
}

/// How many connections may be renewed at once.
const BURST: u32 = 4;

/// What happened to a connection.
#[derive(Debug)]
enum Event {
    /// It stands.
    Up(SlackSocketModeWssClientId),
    /// It is down or about to be: why, where Slack said.
    Down(SlackSocketModeWssClientId, Option<String>),
}

/// Hears people until `stop`.
pub(super) async fn listen(slack: Arc<Slack>, commands: Arc<Commands>, stop: CancellationToken) {
    let clock = Arc::clone(&slack.ambient.clock);
    let mut dials = Pace::new(slack.tempo.dial, BURST);
    let lanes = Lanes::new(&slack, &commands);
    while !stop.is_cancelled() {
        let wait = match introduce(&slack).await {
            Ok(me) => {
                slack.health.we_are(me);
                let mended = tokio::select! {
                    mended = hear(&slack, &lanes, &mut dials) => mended,
                    () = stop.cancelled() => return,
                };
                if mended { dials.reserve(&(), clock.elapsed()) } else { slack.tempo.look_again }
            }
            Err(wait) => wait,
        };
        tokio::select! {
            () = clock.sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Tries both tokens, and learns who we are; or says how long to wait.
async fn introduce(slack: &Slack) -> Result<Me, Duration> {
    let told = |variable: &str, failure: Failure| match trouble(variable, &failure) {
        Ok((why, wait)) => {
            tracing::warn!("{why}");
            slack.health.not_now(why);
            wait.max(slack.tempo.dial)
        }
        Err(mend) => {
            slack.health.never(mend);
            slack.tempo.look_again
        }
    };
    let who = slack.api.post(With::Bot, "auth.test", &json!({})).await;
    let who = who.map_err(|failure| told("SLACK_BOT_TOKEN", failure))?;
    let open = slack.api.post(With::App, "apps.connections.open", &json!({})).await;
    open.map_err(|failure| told("SLACK_APP_TOKEN", failure))?;
    let word = |name: &str| who.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    slack.health.not_now("Slack is being dialled");
    Ok(Me { team: word("team_id"), user: word("user_id"), bot: word("bot_id") })
}

/// Holds connections until none has stood for long; or until a person must mend something, which
/// is then told: false.
async fn hear(slack: &Arc<Slack>, lanes: &Arc<Lanes>, dials: &mut Pace<()>) -> bool {
    let (events, mut happened) = mpsc::unbounded_channel();
    let listener = Arc::new(Listener {
        slack: Arc::downgrade(slack),
        lanes: Arc::downgrade(lanes),
        holds: Mutex::default(),
        events,
        closed: AtomicBool::new(false),
    });
    let held = match Held::open(slack, Arc::clone(&listener)).await {
        Ok(held) => held,
        Err(error) => {
            slack.health.not_now(format!("the sockets to Slack cannot be opened: {error}"));
            return true;
        }
    };
    let clock = Arc::clone(&slack.ambient.clock);
    let mut later: HashMap<SlackSocketModeWssClientId, Duration> = HashMap::new();
    let mut lonely = clock.elapsed();
    // Those that were told to dial, since when; the first ones begin at zero.
    let mut dialling: HashMap<SlackSocketModeWssClientId, Duration> = (0..slack.tempo.connections)
        .map(|n| (SlackSocketModeWssClientId::new(n, n, 0), lonely))
        .collect();
    loop {
        let now = clock.elapsed();
        let due = later.values().min().map_or(slack.tempo.give_up, |at| at.saturating_sub(now));
        let event = tokio::select! {
            event = happened.recv() => event,
            () = clock.sleep(due.min(slack.tempo.give_up)) => None,
        };
        let now = clock.elapsed();
        match event {
            Some(Event::Up(id)) => {
                dialling.remove(&id);
                slack.health.up(id);
            }
            Some(Event::Down(id, reason)) => {
                slack.health.down(&id);
                dialling.remove(&id);
                let reason = reason.as_deref();
                tracing::debug!(reason, "a socket to Slack is down");
                let mut wait = dials.reserve(&(), now);
                match verdict(reason) {
                    Verdict::Again => {
                        slack.health.not_now("the sockets to Slack are down and dialled again");
                    }
                    Verdict::Later(why) => {
                        tracing::warn!("{why}");
                        slack.health.not_now(why);
                        wait = wait.max(slack.tempo.dial * BURST);
                    }
                    Verdict::Never(mend) => {
                        slack.health.never(mend);
                        return false;
                    }
                }
                later.entry(id).or_insert(now + wait);
            }
            None => {}
        }
        // A dial can hang for ever. Where no socket stands, all are dialled anew below.
        if slack.health.is_heard() {
            for (id, _) in dialling.extract_if(|_, since| now >= *since + slack.tempo.give_up) {
                tracing::debug!("a socket to Slack does not come about, and is dialled again");
                later.insert(id, now + dials.reserve(&(), now));
            }
        }
        let due: Vec<_> =
            later.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            later.remove(&id);
            dialling.insert(id.new_reconnected_id(), now);
            held.manager.restart_client(&id).await;
        }
        if slack.health.is_heard() {
            lonely = now;
        } else if now.saturating_sub(lonely) >= slack.tempo.give_up && later.is_empty() {
            return true;
        }
    }
}

/// Connections, which go when this goes.
struct Held {
    manager: Arc<dyn SlackSocketModeClientsManager + Send + Sync>,
    listener: Arc<Listener>,
    slack: Arc<Slack>,
}

impl Held {
    async fn open(slack: &Arc<Slack>, listener: Arc<Listener>) -> Result<Self, SlackClientError> {
        let (client, connector, token) = slack.api.client();
        let tempo = slack.tempo;
        let config = SlackClientSocketModeConfig {
            max_connections_count: tempo.connections,
            debug_connections: false,
            initial_backoff_in_seconds: 1,
            reconnect_timeout_in_seconds: tempo.retry.as_secs().max(1),
            ping_interval_in_seconds: tempo.ping.as_secs().max(1),
            ping_failure_threshold_times: u64::from(tempo.pings),
        };
        let environment = Arc::new(SlackClientEventsListenerEnvironment::new(client));
        let manager = connector.new_clients_manager(environment);
        let held = Self { manager, listener, slack: Arc::clone(slack) };
        let ear: Arc<dyn SlackSocketModeClientListener + Send + Sync> = held.listener.clone();
        held.manager.register_new_token(&config, token, ear).await?;
        held.manager.start().await;
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // From here on nothing is acknowledged: it comes again to whoever listens next.
        self.listener.closed.store(true, Ordering::SeqCst);
        self.slack.health.all_down();
        let manager = Arc::clone(&self.manager);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { manager.shutdown().await });
        }
    }
}

/// What the connections talk to.
struct Listener {
    /// Weak, for the connections outlive a server by a little.
    slack: Weak<Slack>,
    /// Weak, for what is on its way goes when nobody listens any more.
    lanes: Weak<Lanes>,
    /// What held up the reader of each socket.
    holds: Mutex<HashMap<SlackSocketModeWssClientId, Hold>>,
    events: mpsc::UnboundedSender<Event>,
    closed: AtomicBool,
}

impl Listener {
    /// Lets a line be taken, and waits as long as its neighbours can bear. Whether it is durable
    /// by then.
    async fn take(
        &self,
        socket: &SlackSocketModeWssClientId,
        heard: Heard,
        clock: &dyn Clock,
    ) -> bool {
        let Some(lanes) = self.lanes.upgrade() else { return false };
        let from = clock.elapsed();
        let most = match heard.is_message() {
            true => lock(&self.holds).get(socket).map_or(Hold::MESSAGES, |hold| hold.left(from)),
            false => Hold::COMMAND,
        };
        let taken = lanes.put(heard);
        drop(lanes);
        let is_durable = tokio::select! {
            taken = taken => taken.unwrap_or_default(),
            () = clock.sleep(most) => false,
        };
        let until = clock.elapsed();
        lock(&self.holds).entry(socket.clone()).or_default().spend(from, until);
        is_durable
    }
}

#[async_trait]
impl SlackSocketModeClientListener for Listener {
    async fn on_message(
        &self,
        socket: &SlackSocketModeWssClientId,
        frame: String,
    ) -> Option<String> {
        let slack = self.slack.upgrade()?;
        if self.closed.load(Ordering::SeqCst) {
            return None;
        }
        slack.health.frame(slack.ambient.clock.elapsed());
        match read(&frame, &slack.me()) {
            Frame::Hello => {
                let _ = self.events.send(Event::Up(socket.clone()));
                None
            }
            Frame::Disconnect(reason) => {
                let _ = self.events.send(Event::Down(socket.clone(), Some(reason)));
                None
            }
            Frame::Envelope { id, heard } => {
                let durable = match heard {
                    Some(heard) => self.take(socket, *heard, &*slack.ambient.clock).await,
                    None => true,
                };
                let held = durable && !self.closed.load(Ordering::SeqCst);
                held.then(|| json!({ "envelope_id": id }).to_string())
            }
            Frame::Other => None,
        }
    }

    async fn on_error(&self, _error: Box<dyn std::error::Error + Send + Sync>) {
        // The error may hold the address, which is a secret. What follows from it comes to
        // `on_disconnect`.
        tracing::debug!("a socket to Slack failed");
    }

    async fn on_disconnect(&self, id: &SlackSocketModeWssClientId) {
        lock(&self.holds).remove(id);
        let _ = self.events.send(Event::Down(id.clone(), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_goes_silent_is_given_up_within_the_time_that_the_documentation_says() {
        let tempo = Tempo::default();
        assert!(tempo.ping * (tempo.pings + 1) <= Duration::from_secs(40));
        assert_eq!(tempo.connections, 2);
    }
}
