//! A workspace of Slack on loopback: the Web API and Socket Mode, as their documentation and the
//! official clients have them, with faults on demand, and people whom a test plays.
//!
//! [`http`] answers calls, [`socket`] delivers envelopes and brings again what nobody
//! acknowledged, [`stage`] is the workspace as the conformance suite sees it. Certified by
//! `@slack/bolt` in `tests/chat_slack.rs`.

mod http;
#[path = "rig.rs"]
pub mod rig;
mod socket;
mod stage;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use open_dispatch::ambient::{Ambient, Clock};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// The bot's token.
pub const BOT_TOKEN: &str = "xoxb-of-the-fake";
/// The app-level token.
pub const APP_TOKEN: &str = "xapp-of-the-fake";
/// The bot's user id.
pub const BOT: &str = "UBOT";
/// What fetching a file is called among the calls.
pub const DOWNLOAD: &str = "(a file is fetched)";
/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A call of the Web API.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    pub body: Value,
    pub at: Duration,
    /// The HTTP status of its answer.
    pub status: u16,
}

/// A message, as a person would see it.
#[derive(Debug, Clone)]
pub struct Message {
    pub ts: String,
    pub thread: Option<String>,
    pub user: String,
    pub text: String,
    pub blocks: Value,
    pub metadata: Value,
    pub edits: usize,
    pub files: Vec<String>,
    /// Who alone sees it.
    pub only_for: Option<String>,
}

/// A file.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// What it is saved as.
    pub name: String,
    /// What people see in a channel.
    pub title: String,
    pub bytes: Vec<u8>,
}

/// An envelope that nobody has acknowledged.
#[derive(Debug, Clone)]
pub struct Envelope {
    pub kind: &'static str,
    pub payload: Value,
    pub attempt: u32,
    pub sent: Option<Duration>,
    /// What happened and is to be acknowledged.
    pub happening: String,
}

/// What goes wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// Answers of `apps.connections.open`, one for each call: an error's word.
    pub open: VecDeque<String>,
    /// For a method, how many calls are answered with 429, and the `Retry-After`.
    pub limited: HashMap<String, (u32, u64)>,
    /// For a method, how many calls a minute are answered in the workspace; more get 429.
    pub per_minute: HashMap<String, usize>,
    /// For a method, how many calls are done and answered with 504.
    pub ambiguous: HashMap<String, u32>,
    /// For a channel, the word that refuses every call.
    pub refused: HashMap<String, &'static str>,
    /// Whether commands and presses are brought once, as Slack does it, acknowledged or not.
    pub brought_once: bool,
    /// How often it is not told yet in which messages a file is shown.
    pub untold_shares: u32,
    /// What the next answers at addresses of commands and presses get instead of being shown.
    pub unanswered: VecDeque<u16>,
    /// Methods that never answer; files come late.
    pub stuck: HashSet<String>,
    /// The word that refuses the bot's token.
    pub bot_refused: Option<&'static str>,
    /// Sockets that are opened get this as their first frame behind `hello`.
    pub disconnect_at_once: Option<&'static str>,
    /// How many of the next sockets are taken and never opened.
    pub hanging: u32,
    /// Sockets take frames and answer nothing, not even pings.
    pub mute: bool,
}

/// The workspace.
#[derive(Debug, Default)]
pub struct World {
    pub calls: Vec<Call>,
    pub channels: BTreeMap<String, Vec<Message>>,
    pub files: BTreeMap<String, File>,
    pub faults: Faults,
    pub envelopes: BTreeMap<String, Envelope>,
    /// What was acknowledged, by what had happened; how often.
    pub acknowledged: HashMap<String, u32>,
    /// What was acknowledged with a payload.
    pub payloads: Vec<Value>,
    /// When each socket was opened.
    pub dials: Vec<Duration>,
    pub sockets: socket::Sockets,
    next: u64,
    /// The address of HTTP.
    http: String,
}

impl World {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The fake.
pub struct FakeSlack {
    shared: Arc<Shared>,
    api: String,
    tasks: Vec<JoinHandle<()>>,
}

/// What the fake's parts share.
pub struct Shared {
    world: Mutex<World>,
    changed: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
    /// The addresses of HTTP and of the sockets.
    http: String,
    ws: String,
    /// After how long without an acknowledgement an envelope comes again.
    again: Duration,
}

impl Shared {
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// A time of Slack's, which is a message's name.
    pub fn ts(&self) -> String {
        let n = self.world().number();
        format!("{}.{n:06}", self.clock.now().as_second())
    }
}

impl Drop for FakeSlack {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl FakeSlack {
    /// A workspace in which what is not acknowledged comes again after half a second.
    pub async fn start() -> Self {
        Self::with_redelivery(Duration::from_millis(500)).await
    }

    pub async fn with_redelivery(again: Duration) -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ws = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let at = format!("http://{}", address(&http));
        let shared = Arc::new(Shared {
            world: Mutex::new(World { http: at.clone(), ..World::default() }),
            changed: watch::Sender::new(0),
            clock: Ambient::real().clock,
            http: at,
            ws: format!("ws://{}", address(&ws)),
            again,
        });
        let api = format!("{}/api", shared.http);
        let tasks = vec![
            tokio::spawn(http::serve(http, Arc::clone(&shared))),
            tokio::spawn(socket::accept(ws, Arc::clone(&shared))),
            tokio::spawn(socket::deliver(Arc::clone(&shared))),
        ];
        Self { shared, api, tasks }
    }

    /// The root of the Web API.
    pub fn api(&self) -> &str {
        &self.api
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared.world()
    }

    /// Waits until the workspace is so.
    pub async fn until(&self, what: &str, is_so: impl Fn(&World) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let waiting = async {
            while !is_so(&self.world()) {
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            // Not under the lock, which would take the fake down with it.
            let told = {
                let world = self.world();
                let call = |call: &Call| format!("{} {}", call.method, call.status);
                let calls: Vec<_> = world.calls.iter().map(call).collect();
                format!("{:#?}\n{calls:?}", world.channels)
            };
            panic!("it never came that {what}: {told}");
        }
    }

    /// Waits until this many sockets are open.
    pub async fn until_connected(&self, sockets: usize) {
        self.until("sockets are open", |world| world.sockets.open() >= sockets).await;
    }

    /// The calls of a method.
    pub fn calls_of(&self, method: &str) -> Vec<Call> {
        self.world().calls.iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Our messages in a channel.
    pub fn ours(&self, channel: &str) -> Vec<Message> {
        ours(&self.world(), channel)
    }

    /// Something happens `times` times over, as envelopes of their own.
    pub fn happen(&self, kind: &'static str, happening: &str, payload: Value, times: u32) {
        for _ in 0..times {
            let mut world = self.world();
            let id = format!("envelope-{}", world.number());
            let envelope = Envelope {
                kind,
                payload: payload.clone(),
                attempt: 0,
                sent: None,
                happening: happening.to_owned(),
            };
            world.envelopes.insert(id, envelope);
        }
        self.shared.tell();
    }

    /// Waits until what happened is acknowledged, this often.
    pub async fn until_taken(&self, happening: &str, times: u32) {
        let what = format!("{happening} is acknowledged");
        self.until(&what, |world| {
            world.acknowledged.get(happening).copied().unwrap_or_default() >= times
        })
        .await;
    }

    /// An event of the Events API about a message; its happening is the message's time.
    pub fn event(&self, event: Value, times: u32) -> String {
        let ts = event["ts"].as_str().unwrap().to_owned();
        let id = format!("Ev{}", self.world().number());
        let payload = json!({
            "token": "t", "team_id": "T1", "api_app_id": "A1", "type": "event_callback",
            "event_id": id, "event_time": 1, "event": event,
            "authorizations": [{ "team_id": "T1", "user_id": BOT, "is_bot": true }],
        });
        self.happen("events_api", &ts, payload, times);
        ts
    }

    /// What a person writes: it stands in the channel, and this is the event about it.
    pub fn write(&self, who: &str, channel: &str, thread: Option<&str>, text: &str) -> Value {
        let ts = self.shared.ts();
        let message = Message {
            ts: ts.clone(),
            thread: thread.map(str::to_owned),
            user: who.to_owned(),
            text: text.to_owned(),
            blocks: json!([]),
            metadata: Value::Null,
            edits: 0,
            files: Vec::new(),
            only_for: None,
        };
        self.world().channels.entry(channel.to_owned()).or_default().push(message);
        let kind = if channel.starts_with('D') { "im" } else { "channel" };
        let mut event = json!({
            "type": "message", "channel": channel, "channel_type": kind, "user": who, "team": "T1",
            "text": text, "ts": ts, "event_ts": ts, "client_msg_id": format!("msg-{ts}"),
        });
        if let Some(thread) = thread {
            event["thread_ts"] = json!(thread);
        }
        event
    }

    /// A person says something in a channel, which we overhear.
    pub fn says(&self, who: &str, channel: &str, text: &str) -> String {
        self.event(self.write(who, channel, None, text), 1)
    }

    /// A person mentions the bot: Slack tells of it twice, in events of their own.
    pub fn mentions(&self, who: &str, channel: &str, text: &str) -> String {
        let message = self.write(who, channel, None, &format!("<@{BOT}> {text}"));
        self.event(mention(&message), 1);
        self.event(message, 1)
    }

    /// A person types a slash command.
    pub fn commands(&self, who: &str, channel: &str, line: &str) -> String {
        let (command, text) = line.split_once(' ').unwrap_or((line, ""));
        let trigger = format!("{}.trigger", self.world().number());
        let payload = json!({
            "token": "t", "team_id": "T1", "team_domain": "fake", "channel_id": channel,
            "channel_name": "a-channel", "user_id": who, "user_name": who.to_lowercase(),
            "command": command, "text": text, "api_app_id": "A1", "trigger_id": trigger,
            "is_enterprise_install": "false",
            "response_url": format!("{}/response/{channel}/{who}", self.shared.http),
        });
        self.happen("slash_commands", &trigger, payload, 1);
        trigger
    }

    /// A person presses a button of a message, `times` times over in Slack's delivery.
    pub fn presses(&self, who: &str, channel: &str, ts: &str, label: &str, times: u32) -> String {
        let message = self.message(channel, ts).expect("there is no such message");
        let buttons = buttons(&message);
        let (_, button) = buttons.iter().find(|(it, _)| it == label).expect("no such button");
        self.presses_as_seen(who, channel, ts, button, times)
    }

    /// The same with a button that their screen shows, whatever stands there by now.
    pub fn presses_as_seen(
        &self,
        who: &str,
        channel: &str,
        ts: &str,
        button: &Value,
        times: u32,
    ) -> String {
        let message = self.message(channel, ts).expect("there is no such message");
        let at = self.shared.ts();
        let payload = json!({
            "type": "block_actions", "team": { "id": "T1", "domain": "fake" },
            "user": { "id": who, "username": who.to_lowercase(), "team_id": "T1" },
            "api_app_id": "A1", "token": "t", "trigger_id": format!("{at}.press"),
            "container": { "type": "message", "message_ts": ts, "channel_id": channel,
                           "is_ephemeral": false },
            "channel": { "id": channel, "name": "a-channel" },
            "message": { "type": "message", "ts": ts, "text": message.text, "user": BOT,
                         "bot_id": "BBOT", "thread_ts": message.thread },
            "response_url": format!("{}/response/{channel}/{who}", self.shared.http),
            "actions": [{ "type": "button", "block_id": "b", "action_id": button["action_id"],
                          "text": button["text"], "value": button["value"], "action_ts": at }],
        });
        self.happen("interactive", &at, payload, times);
        at
    }

    /// A person says something with a file, which we overhear.
    pub fn shares(&self, who: &str, channel: &str, text: &str, name: &str, bytes: &[u8]) -> String {
        self.event(self.write_with_file(who, channel, None, text, name, bytes), 1)
    }

    /// A person mentions the bot with a file; the event about the mention comes first, and does
    /// not say that there is one.
    pub fn mentions_with_file(
        &self,
        who: &str,
        channel: &str,
        text: &str,
        name: &str,
        bytes: &[u8],
    ) -> String {
        let text = format!("<@{BOT}> {text}");
        let message = self.write_with_file(who, channel, None, &text, name, bytes);
        self.event(mention(&message), 1);
        self.event(message, 1)
    }

    /// What a person writes with a file: it stands in the channel, and this is the event about it.
    pub fn write_with_file(
        &self,
        who: &str,
        channel: &str,
        thread: Option<&str>,
        text: &str,
        name: &str,
        bytes: &[u8],
    ) -> Value {
        let mut event = self.write(who, channel, thread, text);
        let mut world = self.world();
        let id = format!("F{}", world.number());
        let (name, title) = (name.to_owned(), name.to_owned());
        world.files.insert(id.clone(), File { name, title, bytes: bytes.to_vec() });
        let message = world.channels.get_mut(channel).and_then(|messages| messages.last_mut());
        message.unwrap().files.push(id.clone());
        event["subtype"] = json!("file_share");
        event["files"] = json!([http::file(&world, &id)]);
        event
    }

    /// A message that stands in a channel.
    pub fn message(&self, channel: &str, ts: &str) -> Option<Message> {
        let world = self.world();
        world.channels.get(channel)?.iter().find(|message| message.ts == ts).cloned()
    }

    /// Slack says why it is about to close every socket, and closes them.
    pub fn disconnect(&self, reason: &str) {
        self.world().sockets.disconnect(reason);
    }

    /// Every socket goes silent, without a word.
    pub fn mute(&self, mute: bool) {
        let mut world = self.world();
        world.faults.mute = mute;
        if mute {
            world.sockets.mute();
        }
        drop(world);
        self.shared.tell();
    }
}

/// The event about the mention in a message: nothing but the message's own identity makes them one.
pub fn mention(message: &Value) -> Value {
    let mut mention = message.clone();
    mention["type"] = json!("app_mention");
    for only_there in ["channel_type", "client_msg_id", "files", "subtype"] {
        mention.as_object_mut().unwrap().remove(only_there);
    }
    mention
}

/// Our messages in a channel.
pub fn ours(world: &World, channel: &str) -> Vec<Message> {
    let messages = world.channels.get(channel).cloned().unwrap_or_default();
    messages.into_iter().filter(|message| message.user == BOT).collect()
}

/// The buttons of a message, by label.
pub fn buttons(message: &Message) -> Vec<(String, Value)> {
    let blocks = message.blocks.as_array().cloned().unwrap_or_default();
    let rows = blocks.iter().filter(|block| block["type"] == "actions");
    rows.flat_map(|row| row["elements"].as_array().cloned().unwrap_or_default())
        .map(|button| (button["text"]["text"].as_str().unwrap_or_default().to_owned(), button))
        .collect()
}
