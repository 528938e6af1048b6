//! A Discord of our own on loopback: the gateway on a WebSocket, the API over HTTP, the CDN's
//! files, and the people. It speaks as Discord documents it, with switches for what goes wrong;
//! `discord.js` holds against it in tests/chat_discord_peer.rs.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

mod gateway;
pub mod life;
mod rest;
pub mod stage;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;
use open_dispatch::ambient::Ambient;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};

/// The bot's token.
pub const TOKEN: &str = "a-token.for-tests.only";
/// The application's id, and the bot's user.
pub const APP: &str = "900";
/// The one guild.
pub const GUILD: &str = "800";
/// The bot's user.
pub const ME: &str = "900";

/// What the ids of channels of direct messages with a person begin with, the person's behind it.
pub const WHISPERED: &str = "77";

/// A message that stands in a channel.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    pub channel: String,
    pub author: String,
    pub text: String,
    pub components: Value,
    pub files: Vec<(String, Vec<u8>)>,
    pub nonce: Option<String>,
    pub only_for: Option<String>,
    pub reply_to: Option<String>,
    pub edits: usize,
    /// When it was said.
    pub at: Timestamp,
    /// 0: said, 19: a reply, 18: a thread was begun, 21: what a thread began with.
    pub kind: u8,
}

/// An interaction that somebody began.
#[derive(Debug, Clone)]
pub struct Interaction {
    pub id: String,
    pub channel: String,
    pub who: String,
    /// 2: a command, 3: a component, 4: a name that is being filled in.
    pub kind: u8,
    /// The kind of its first answer.
    pub answered: Option<u8>,
    pub ephemeral: bool,
    /// The message that shows that we think, or the answer.
    pub original: Option<String>,
    pub expired: bool,
    pub choices: Vec<String>,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub struct Faults {
    /// How many shards the bot should have.
    pub shards: u64,
    /// How many calls to channels and webhooks are answered 429, and the wait in seconds.
    pub too_many: (usize, f64),
    /// From the next call on the bot may ask nothing for so many seconds, which is told by headers;
    /// what goes by an interaction's token is nothing that the bot asks.
    pub shut: Option<f64>,
    /// The same for our address and for all that comes from there, as what stands in front of
    /// Discord does it: without JSON.
    pub closed: Option<f64>,
    /// A channel takes five posts and edits in a second, and says so; and a bot makes fifty calls
    /// in a second and no more, but for answers to interactions.
    pub buckets: bool,
    /// What stands in channels cannot be read: the status.
    pub no_history: Option<u16>,
    /// How many sessions may be begun.
    pub starts: u64,
    /// Posts with files are answered 504, and not done.
    pub no_uploads: bool,
    /// What stands in channels cannot be changed, nor anything be put there: the code.
    pub shut_out: Option<u64>,
    /// Files are begun to be sent, and come no further.
    pub hang_files: bool,
    /// Replies come without what they reply to.
    pub bare_replies: bool,
    /// How many posts are done and answered 504.
    pub lost_answers: usize,
    /// Identifying closes the socket with this.
    pub close: Option<u16>,
    /// Sockets up to this number say nothing and acknowledge nothing.
    pub mute: usize,
    /// GET /gateway/bot fails.
    pub no_gateway: bool,
    /// Events come compressed.
    pub zlib: bool,
    /// Resuming is refused.
    pub forget_sessions: bool,
    /// A post with a nonce that was there before is made once more.
    pub forget_nonces: bool,
    /// Channels that are there no more.
    pub gone: HashSet<String>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            shards: 1,
            too_many: (0, 0.0),
            shut: None,
            closed: None,
            buckets: false,
            no_history: None,
            starts: 1_000,
            no_uploads: false,
            shut_out: None,
            hang_files: false,
            bare_replies: false,
            lost_answers: 0,
            close: None,
            mute: 0,
            no_gateway: false,
            zlib: false,
            forget_sessions: false,
            forget_nonces: false,
            gone: HashSet::new(),
        }
    }
}

#[derive(Default)]
struct State {
    next: u64,
    messages: Vec<Message>,
    interactions: HashMap<String, Interaction>,
    /// Threads and their parents.
    threads: HashMap<String, String>,
    direct: HashSet<String>,
    /// What people are called, by their ids.
    names: HashMap<String, String>,
    commands: Option<Value>,
    calls: Vec<String>,
    cdn: HashMap<String, Vec<u8>>,
    /// Each session's events.
    sessions: Vec<Vec<Value>>,
    identified: usize,
    resumed: usize,
    refused: usize,
    sockets: usize,
    /// Told to all sockets that are open.
    order: (u64, Option<Value>),
    heartbeat: u64,
    faults: Faults,
    /// Until when the bot, and until when our address, may ask nothing.
    shut_until: Duration,
    closed_until: Duration,
    /// The calls in a second of each channel, and when it began.
    buckets: HashMap<String, (Duration, u32)>,
    /// How many calls were too many.
    too_many: usize,
}

/// The fake.
#[derive(Clone)]
pub struct Discord {
    state: Arc<Mutex<State>>,
    /// Rung at each change.
    bell: Arc<watch::Sender<u64>>,
    http: String,
    ws: String,
}

impl Discord {
    /// Opens it on free ports.
    pub async fn open() -> Self {
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ws = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State { next: 10_000, heartbeat: 41_250, ..State::default() };
        let fake = Self {
            state: Arc::new(Mutex::new(state)),
            bell: Arc::new(watch::Sender::new(0)),
            http: format!("http://{}", http.local_addr().unwrap()),
            ws: format!("ws://{}", ws.local_addr().unwrap()),
        };
        tokio::spawn(rest::serve(fake.clone(), http));
        tokio::spawn(gateway::serve(fake.clone(), ws));
        fake
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn ring(&self) {
        self.bell.send_modify(|n| *n += 1);
    }

    /// The API's address, as DISCORD_API_URL has it.
    pub fn api(&self) -> String {
        format!("{}/api", self.http)
    }

    /// Changes what goes wrong.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
        self.ring();
    }

    /// Lets hearts beat this often, in milliseconds; for sockets that open from now on.
    pub fn heartbeat(&self, interval: u64) {
        self.state().heartbeat = interval;
    }

    /// All sockets that are open by now fall silent.
    pub fn mute(&self) {
        let mut state = self.state();
        state.faults.mute = state.sockets;
    }

    /// Tells all sockets this, such as `{"op": 7}`.
    pub fn order(&self, payload: Value) {
        {
            let mut state = self.state();
            state.order = (state.order.0 + 1, Some(payload));
        }
        self.ring();
    }

    /// Every interaction's token is good no more.
    pub fn expire(&self) {
        self.state().interactions.values_mut().for_each(|it| it.expired = true);
    }

    /// The calls that were made so far, such as `GET gateway/bot`.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// How many calls came though Discord had said to wait.
    pub fn too_many(&self) -> usize {
        self.state().too_many
    }

    /// How often somebody who identified was closed.
    pub fn refused(&self) -> usize {
        self.state().refused
    }

    /// How often a session began, and how often one was resumed.
    pub fn sessions(&self) -> (usize, usize) {
        let state = self.state();
        (state.identified, state.resumed)
    }

    /// The commands that are registered.
    pub fn commands(&self) -> Option<Value> {
        self.state().commands.clone()
    }

    /// The number of a channel or a person; a name gets one that is always the same.
    pub fn id(name: &str) -> String {
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.to_owned();
        }
        let hash = name.bytes().fold(7_u64, |id, byte| id.wrapping_mul(31) + u64::from(byte));
        (1_000_000 + hash % 1_000_000_000).to_string()
    }

    /// Opens a thread in a channel.
    pub fn thread(&self, channel: &str, thread: &str) {
        self.state().threads.insert(Self::id(thread), Self::id(channel));
    }

    /// Makes a channel one of direct messages.
    pub fn direct(&self, channel: &str) {
        self.state().direct.insert(Self::id(channel));
    }

    fn fresh(&self) -> String {
        let mut state = self.state();
        state.next += 1;
        state.next.to_string()
    }

    /// Waits until it is so.
    pub async fn until<T>(&self, what: &str, so: impl Fn(&Self) -> Option<T>) -> T {
        let mut bell = self.bell.subscribe();
        let look = async {
            loop {
                bell.borrow_and_update();
                if let Some(found) = so(self) {
                    return found;
                }
                bell.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(50), look).await {
            Ok(found) => found,
            Err(_) => {
                panic!("it never came to be that {what}: {:#?}\n{:?}", self.all(), self.calls())
            }
        }
    }

    /// All messages.
    pub fn all(&self) -> Vec<Message> {
        self.state().messages.clone()
    }

    /// Our messages in a channel.
    pub fn ours(&self, channel: &str) -> Vec<Message> {
        let channel = Self::id(channel);
        let ours = |message: &&Message| message.author == ME && message.channel == channel;
        self.state().messages.iter().filter(ours).cloned().collect()
    }

    /// Waits for a message of ours that reads so.
    pub async fn reads(&self, channel: &str, text: &str) -> Message {
        let what = format!("`{text}` stands in {channel}");
        self.until(&what, |fake| fake.ours(channel).into_iter().find(|it| it.text.contains(text)))
            .await
    }

    /// Waits until somebody listens.
    pub async fn connected(&self) {
        self.until("a session began", |fake| (fake.sessions().0 > 0).then_some(())).await;
    }

    /// Sends an event to the session.
    fn dispatch(&self, name: &str, data: &Value) {
        if let Some(session) = self.state().sessions.last_mut() {
            let seq = session.len() + 1;
            session.push(json!({"op": 0, "t": name, "s": seq, "d": data}));
        }
        self.ring();
    }

    /// Somebody says something; answers with the message's id.
    pub async fn say(&self, who: &str, channel: &str, text: &str) -> String {
        self.say_with(who, channel, text, &[]).await
    }

    /// Somebody says something, with files.
    pub async fn say_with(
        &self,
        who: &str,
        channel: &str,
        text: &str,
        files: &[(&str, &[u8])],
    ) -> String {
        self.says(who, channel, text, files, 0, None).await
    }

    /// Somebody replies to a message; answers with the id of the reply.
    pub async fn replies(&self, who: &str, channel: &str, to: &str, text: &str) -> String {
        self.says(who, channel, text, &[], 19, Some(to)).await
    }

    /// What Discord itself says in the name of somebody, such as that a thread was begun (18).
    pub async fn tells(&self, who: &str, channel: &str, text: &str, kind: u8) -> String {
        self.says(who, channel, text, &[], kind, None).await
    }

    /// What a thread begins with: a message of the channel.
    pub async fn begins(&self, thread: &str, with: &str) -> String {
        self.says("ann", thread, "", &[], 21, Some(with)).await
    }

    async fn says(
        &self,
        who: &str,
        channel: &str,
        text: &str,
        files: &[(&str, &[u8])],
        kind: u8,
        reply_to: Option<&str>,
    ) -> String {
        self.connected().await;
        let id = self.fresh();
        let attachments: Vec<Value> =
            files.iter().map(|(name, bytes)| self.attach(name, bytes)).collect();
        let message = Message {
            id: id.clone(),
            channel: Self::id(channel),
            author: Self::id(who),
            text: text.to_owned(),
            components: json!([]),
            files: files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect(),
            nonce: None,
            only_for: None,
            reply_to: reply_to.map(ToOwned::to_owned),
            edits: 0,
            at: Ambient::real().clock.now(),
            kind,
        };
        self.state().names.insert(Self::id(who), who.to_owned());
        let mut event = self.shown(&message);
        if self.state().faults.bare_replies
            && let Some(event) = event.as_object_mut()
        {
            event.remove("referenced_message");
        }

        event["attachments"] = attachments.into();
        if !self.state().direct.contains(&message.channel) {
            event["guild_id"] = GUILD.into();
            event["member"] = json!({"roles": [], "joined_at": "2026-01-01T00:00:00Z", "deaf": false, "mute": false, "flags": 0});
        }
        self.state().messages.push(message);
        self.dispatch("MESSAGE_CREATE", &event);
        id
    }

    fn attach(&self, name: &str, bytes: &[u8]) -> Value {
        let id = self.fresh();
        let path = format!("{id}/{name}");
        self.state().cdn.insert(path.clone(), bytes.to_vec());
        json!({
            "id": id, "filename": name, "size": bytes.len(),
            "url": format!("{}/cdn/{path}", self.http),
            "proxy_url": format!("{}/cdn/{path}", self.http),
        })
    }

    /// A message as the API shows it.
    fn shown(&self, message: &Message) -> Value {
        let files: Vec<Value> = message.files.iter().enumerate().map(|(n, (name, bytes))| {
            json!({"id": (n + 1).to_string(), "filename": name, "size": bytes.len(), "url": "", "proxy_url": ""})
        }).collect();
        let name = self.state().names.get(&message.author).cloned();
        let author = match message.author == ME {
            true => bot(),
            false => user(&name.unwrap_or_else(|| message.author.clone())),
        };
        let mentions: Vec<Value> =
            message.text.contains(&format!("<@{ME}>")).then(bot).into_iter().collect();
        let mut shown = json!({
            "id": message.id, "channel_id": message.channel, "author": author,
            "content": message.text, "timestamp": message.at.to_string(),
            "edited_timestamp": null, "tts": false, "mention_everyone": false, "mentions": mentions,
            "mention_roles": [], "attachments": files, "embeds": [], "pinned": false,
            "type": message.kind, "components": message.components, "flags": 0,
        });
        if let Some(to) = message.reply_to.as_ref().filter(|_| message.author != ME) {
            let there = self.all().into_iter().find(|it| it.id == *to);
            shown["message_reference"] = json!({"type": 0, "message_id": to, "channel_id": message.channel, "guild_id": GUILD});
            shown["referenced_message"] = there.map_or(Value::Null, |there| self.shown(&there));
        }
        shown
    }

    /// Somebody uses a command; answers with the interaction's token.
    pub async fn uses(
        &self,
        who: &str,
        channel: &str,
        name: &str,
        options: &[(&str, Value)],
    ) -> String {
        let event = self.command(who, channel, 2, name, options, &[]);
        self.sends(&event).await
    }

    /// The event of a command, for sending it more than once.
    pub fn command(
        &self,
        who: &str,
        channel: &str,
        kind: u8,
        name: &str,
        options: &[(&str, Value)],
        files: &[(&str, &str, &[u8])],
    ) -> Value {
        let mut filled: Vec<Value> = options
            .iter()
            .map(|(name, value)| {
                let is = if value.is_boolean() { 5 } else { 3 };
                json!({"name": name, "type": is, "value": value, "focused": kind == 4})
            })
            .collect();
        let mut attachments = serde_json::Map::new();
        for (option, name, bytes) in files {
            let attachment = self.attach(name, bytes);
            let id = attachment["id"].as_str().unwrap().to_owned();
            filled.push(json!({"name": option, "type": 11, "value": id}));
            attachments.insert(id, attachment);
        }
        let mut event = self.interaction(who, channel, kind);
        event["data"] = json!({
            "id": "501", "name": name, "type": 1, "options": filled,
            "resolved": {"attachments": attachments},
        });
        event
    }

    fn interaction(&self, who: &str, channel: &str, kind: u8) -> Value {
        let (id, channel) = (self.fresh(), Self::id(channel));
        let token = format!("token-of-{id}");
        let interaction = Interaction {
            id: id.clone(),
            channel: channel.clone(),
            who: Self::id(who),
            kind,
            answered: None,
            ephemeral: false,
            original: None,
            expired: false,
            choices: Vec::new(),
        };
        let mut state = self.state();
        state.interactions.insert(token.clone(), interaction);
        let about = about(&state, &channel);
        json!({
            "id": id, "application_id": APP, "type": kind, "token": token, "version": 1,
            "guild_id": GUILD, "channel_id": channel, "channel": about,
            "member": {"user": user(who), "roles": [], "joined_at": "2026-01-01T00:00:00Z",
                       "deaf": false, "mute": false, "flags": 0, "permissions": "8"},
            "app_permissions": "8", "locale": "en-US", "guild_locale": "en-US",
            "entitlements": [], "authorizing_integration_owners": {"0": GUILD}, "context": 0,
            "attachment_size_limit": 10_485_760,
        })
    }

    /// Sends the event of an interaction; answers with its token.
    pub async fn sends(&self, event: &Value) -> String {
        self.connected().await;
        self.dispatch("INTERACTION_CREATE", event);
        event["token"].as_str().unwrap().to_owned()
    }

    /// Sends the event of a message once more.
    pub async fn again(&self, message: &str) {
        let is_it = |event: &Value| event["t"] == "MESSAGE_CREATE" && event["d"]["id"] == message;
        let event = {
            let state = self.state();
            let mut all = state.sessions.iter().flatten();
            all.find(|event| is_it(event)).cloned().unwrap()
        };
        self.dispatch("MESSAGE_CREATE", &event["d"]);
    }

    /// A message was said that long ago.
    pub fn age(&self, message: &str, age: Duration) {
        let mut state = self.state();
        let message = state.messages.iter_mut().find(|it| it.id == message).unwrap();
        message.at = message.at.checked_sub(age).unwrap();
    }

    /// Waits until a message has buttons.
    pub async fn with_buttons(&self, message: &str) -> Message {
        self.until("there are buttons", |fake| {
            let is_it = |it: &Message| it.id == message && !buttons(it).is_empty();
            fake.all().into_iter().find(is_it)
        })
        .await
    }

    /// Somebody presses a button of a message of ours; answers with the interaction's token.
    pub async fn press(&self, who: &str, channel: &str, message: &str, label: &str) -> String {
        let event = self.pressed(who, channel, message, label);
        self.sends(&event).await
    }

    /// The event of a press, for sending it later, or more than once.
    pub fn pressed(&self, who: &str, channel: &str, message: &str, label: &str) -> Value {
        let message = self.all().into_iter().find(|it| it.id == message).unwrap();
        let line = buttons(&message).into_iter().find(|(name, _)| name == label);
        let (_, line) = line.unwrap_or_else(|| panic!("no button {label} at {message:?}"));
        let mut event = self.interaction(who, channel, 3);
        event["data"] = json!({"custom_id": line, "component_type": 2});
        event["message"] = self.shown(&message);
        event
    }

    /// What became of an interaction.
    pub fn of(&self, token: &str) -> Interaction {
        self.state().interactions[token].clone()
    }
}

/// A message's buttons: what stands on them, and the lines that they say.
pub fn buttons(message: &Message) -> Vec<(String, String)> {
    let rows = message.components.as_array().into_iter().flatten();
    let all = rows.flat_map(|row| row["components"].as_array().cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|button| (text(&button["label"]), text(&button["custom_id"]))).collect()
}

/// A channel as the API describes it.
fn about(state: &State, channel: &str) -> Value {
    let parent = state.threads.get(channel);
    let kind = match parent {
        Some(_) => 11,
        None if state.direct.contains(channel) => 1,
        None => 0,
    };
    let mut about = json!({"id": channel, "type": kind, "name": "a-channel", "permissions": "8"});
    if let Some(parent) = parent {
        about["parent_id"] = parent.as_str().into();
        about["thread_metadata"] = json!({"archived": false, "auto_archive_duration": 1440,
            "archive_timestamp": "2026-01-01T00:00:00Z", "locked": false});
    }
    about
}

fn user(who: &str) -> Value {
    json!({"id": Discord::id(who), "username": who, "discriminator": "0", "global_name": who, "avatar": null})
}

fn bot() -> Value {
    json!({"id": ME, "username": "open-dispatch", "discriminator": "0001", "global_name": null,
           "avatar": null, "bot": true, "mfa_enabled": false, "verified": true, "email": null, "flags": 0})
}
