//! A fake of Microsoft Teams on loopback: it makes access tokens, names its signing keys, keeps
//! what stands in conversations, and says activities to the bot as the channel does.
//!
//! It speaks the Bot Framework's own wire, and is held against Microsoft's client from npm by
//! `tests/chat_teams_certified.rs`. Faults are switched on one by one and strike the next call.

#![expect(clippy::unwrap_used, reason = "a fake that cannot go on has failed its test")]

pub mod jwt;
pub mod limits;
pub mod rest;
pub mod stage;

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// The bot's app.
pub const APP_ID: &str = "0aa00000-0000-4000-8000-000000000001";
/// Its secret.
pub const PASSWORD: &str = "the-secret-of-the-fake-app";
/// The tenant.
pub const TENANT: &str = "0bb00000-0000-4000-8000-000000000002";
/// How long a test waits for a state before it calls the promise broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What goes wrong at the next call of the connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 429, with so many seconds in `Retry-After`.
    RateLimit(u64),
    /// The call is done, and answered with 504.
    DoneBut504,
    /// The call is not done, and answered with this status.
    Status(u16),
    /// The access token is not taken any more.
    TokenRevoked,
}

/// Whether a message still grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stream {
    #[default]
    None,
    Live,
    /// It took too long.
    Expired,
    Over,
}

/// A message of the bot's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    pub id: String,
    pub conversation: String,
    pub text: String,
    pub card: Option<Value>,
    /// A file that is offered.
    pub offer: Option<Value>,
    /// A file that was taken.
    pub file: Option<Value>,
    pub reply_to: Option<String>,
    pub stream: Stream,
    /// The text that must stay, and the number of its last part.
    pub streamed: String,
    pub sequence: u64,
    pub edits: usize,
}

impl Message {
    /// Its buttons: label and data.
    pub fn buttons(&self) -> Vec<(String, Value)> {
        let actions = self.card.as_ref().and_then(|card| card["actions"].as_array());
        let button =
            |action: &Value| (action["title"].as_str().unwrap().to_owned(), action["data"].clone());
        actions.into_iter().flatten().map(button).collect()
    }

    /// Its file, with its name, where it has one that is in a drive.
    pub fn files(&self, drive: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
        let Some(file) = &self.file else { return Vec::new() };
        let here = |(room, _): &&(String, Vec<u8>)| file["content"]["uniqueId"] == room.as_str();
        let found = drive.iter().find(here);
        found
            .map(|(_, bytes)| (file["name"].as_str().unwrap().to_owned(), bytes.clone()))
            .into_iter()
            .collect()
    }
}

/// What the fake knows.
#[derive(Default)]
pub struct State {
    pub messages: Vec<Message>,
    /// Faults of the next posts, and of the next edits.
    pub post_faults: VecDeque<Fault>,
    pub edit_faults: VecDeque<Fault>,
    /// Whether the app was taken out: all calls of the connector get 403.
    pub removed: bool,
    /// Whether the published limits hold, and the calls that count for them.
    pub limits: Option<limits::Limits>,
    /// How many calls were answered with 429 for that.
    pub too_many: usize,
    /// How often each thing was asked for.
    pub tokens: usize,
    pub metadata: usize,
    pub keys: usize,
    pub posts: usize,
    pub edits: usize,
    pub streams: usize,
    /// Whether a stream's end is taken for a message of its own where there was no such stream:
    /// what Teams does then is written nowhere.
    pub lenient: bool,
    /// Whether there are streams at all.
    pub streaming: bool,
    /// What people's drives hold, by the name of the room; and how they refuse.
    pub drive: Vec<(String, Vec<u8>)>,
    pub drive_faults: VecDeque<u16>,
    /// Whether our token was shown, for each file that was asked for.
    pub fetched: Vec<bool>,
    /// How often a file was asked for.
    pub asked_for: usize,
    /// How long files take, where they take long.
    pub slow: Option<Duration>,
    /// Whether the keys cannot be had.
    pub no_keys: bool,
    /// Where requests for files are sent on to.
    pub redirect: Option<String>,
    /// The name of the key that signs, where it is another than at first.
    pub kid: Option<String>,
    /// The token that is taken.
    pub token: String,
    /// Which keys are named; all of them are endorsed for these channels.
    pub endorsements: Vec<String>,
    /// Files that people sent.
    pub files: Vec<(String, Vec<u8>)>,
    /// Messages whose files somebody took.
    pub taken: HashSet<String>,
    next: u64,
}

impl State {
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The fake.
pub struct Fake {
    pub address: SocketAddr,
    pub bot: SocketAddr,
    state: Arc<Mutex<State>>,
    http: reqwest::Client,
    serving: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Fake {
    /// A fake, and a port for the bot that nobody uses.
    pub async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bot = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let state = State {
            endorsements: vec!["msteams".to_owned()],
            token: "first-token".to_owned(),
            streaming: true,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let router = rest::router(Arc::clone(&state), address);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { address, bot, state, http, serving }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Where the connector is: what activities call `serviceUrl`.
    pub fn service_url(&self) -> String {
        format!("http://{}/connector/", self.address)
    }

    /// The environment in which a server asks this fake, and nobody else.
    pub fn environment(&self) -> Vec<(String, String)> {
        let base = format!("http://{}", self.address);
        [
            ("CHAT_PROVIDER", "teams".to_owned()),
            ("MICROSOFT_APP_ID", APP_ID.to_owned()),
            ("MICROSOFT_APP_PASSWORD", PASSWORD.to_owned()),
            ("MICROSOFT_APP_TENANT_ID", TENANT.to_owned()),
            ("PORT", self.bot.to_string()),
            ("TEAMS_LOGIN_URL", format!("{base}/login")),
            ("TEAMS_OPENID_URL", format!("{base}/openid")),
            ("TEAMS_SERVICE_HOSTS", base),
            ("OPEN_DISPATCH_ADMINS", "teams:aad-Ada".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// An activity as Teams makes it: somebody says something. A conversation that begins with
    /// `a:` is with them alone; elsewhere the bot is mentioned.
    pub fn said(&self, who: &str, conversation: &str, text: &str) -> Value {
        let id = format!("17000000{:05}", self.state().number());
        let kind = match conversation {
            it if it.starts_with("a:") => "personal",
            it if it.contains("@thread.tacv2") => "channel",
            _ => "groupChat",
        };
        let mention = kind != "personal";
        json!({
            "type": "message",
            "id": id,
            "timestamp": "2026-01-01T00:00:00.000Z",
            "serviceUrl": self.service_url(),
            "channelId": "msteams",
            "from": {"id": format!("29:{who}"), "name": who, "aadObjectId": format!("aad-{who}")},
            "recipient": {"id": format!("28:{APP_ID}"), "name": "Dispatch"},
            "conversation": {
                "id": conversation,
                "conversationType": kind,
                "tenantId": TENANT,
                "isGroup": mention,
            },
            "textFormat": "plain",
            "text": if mention { format!("<at>Dispatch</at>&nbsp;{}", escape(text)) } else { escape(text) },
            "entities": if mention {
                json!([{
                    "type": "mention",
                    "text": "<at>Dispatch</at>",
                    "mentioned": {"id": format!("28:{APP_ID}"), "name": "Dispatch"},
                }])
            } else {
                json!([{"type": "clientInfo", "locale": "en-US", "platform": "Windows"}])
            },
            "channelData": {"tenant": {"id": TENANT}},
            "locale": "en-US",
        })
    }

    /// Delivers an activity once, with this token: the status and the body.
    pub async fn deliver_with(&self, activity: &Value, token: Option<&str>) -> (u16, Value) {
        let ask = self.http.post(format!("http://{}/api/messages", self.bot)).json(activity);
        let ask = match token {
            Some(token) => ask.header("authorization", format!("Bearer {token}")),
            None => ask,
        };
        match ask.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                (status, answer.json().await.unwrap_or_default())
            }
            Err(_) => (0, Value::Null),
        }
    }

    /// Delivers an activity once, with a token that is right.
    pub async fn deliver(&self, activity: &Value) -> (u16, Value) {
        let token = jwt::Token::good(&self.service_url()).sign();
        self.deliver_with(activity, Some(&token)).await
    }

    /// Delivers an activity as the channel does: again until it is taken.
    #[expect(clippy::disallowed_methods, reason = "a fake of a server lives in real time")]
    pub async fn deliver_surely(&self, activity: &Value) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.deliver(activity).await;
            if matches!(status, 200..=299) {
                return body;
            }
            assert!(tokio::time::Instant::now() < deadline, "not taken: {status} {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Somebody says something: the activity's id, once the bot has taken it.
    pub async fn say(&self, who: &str, conversation: &str, text: &str) -> String {
        let activity = self.said(who, conversation, text);
        self.deliver_surely(&activity).await;
        activity["id"].as_str().unwrap().to_owned()
    }

    /// Somebody presses a button: what the bot answered.
    pub async fn press(&self, who: &str, message: &Message, label: &str) -> Value {
        let buttons = message.buttons();
        let button = buttons.iter().find(|(title, _)| title == label);
        let (_, data) = button.unwrap_or_else(|| panic!("no button {label} in {message:?}"));
        let mut activity = self.said(who, &message.conversation, "");
        let number = self.state().number();
        activity["type"] = "invoke".into();
        activity["id"] = format!("f:{number}").into();
        activity["name"] = "adaptiveCard/action".into();
        activity["replyToId"] = message.id.clone().into();
        activity["value"] = json!({
            "action": {"type": "Action.Execute", "title": label, "verb": "od", "data": data},
            "trigger": "manual",
        });
        for member in ["text", "entities", "textFormat"] {
            activity.as_object_mut().unwrap().remove(member);
        }
        self.deliver_surely(&activity).await
    }

    /// Somebody says whether they want a file that was offered: what the bot answered.
    pub async fn consent(&self, who: &str, message: &Message, wanted: bool) -> (u16, Value) {
        let offer = message.offer.clone().unwrap();
        let number = self.state().number();
        let room = format!("http://{}/drive/{number}", self.address);
        self.consent_into(who, message, wanted.then_some(&offer), &room).await
    }

    /// The same, with room for the file at an address.
    pub async fn consent_into(
        &self,
        who: &str,
        message: &Message,
        accepted: Option<&Value>,
        room: &str,
    ) -> (u16, Value) {
        let offer = message.offer.clone().unwrap();
        let mut activity = self.said(who, &message.conversation, "");
        let number = self.state().number();
        activity["type"] = "invoke".into();
        activity["id"] = format!("f:{number}").into();
        activity["name"] = "fileConsent/invoke".into();
        activity["replyToId"] = message.id.clone().into();
        activity["value"] = match accepted {
            Some(_) => json!({
                "type": "fileUpload",
                "action": "accept",
                "context": offer["content"]["acceptContext"],
                "uploadInfo": {
                    "contentUrl": "https://contoso-my.sharepoint.example/bot.md",
                    "name": offer["name"],
                    "uploadUrl": room,
                    "uniqueId": room.rsplit('/').next().unwrap(),
                    "fileType": "md",
                },
            }),
            None => json!({
                "type": "fileUpload",
                "action": "decline",
                "context": offer["content"]["declineContext"],
            }),
        };
        self.deliver(&activity).await
    }

    /// The streams that are under way took too long.
    pub fn expire_streams(&self) {
        for message in &mut self.state().messages {
            if message.stream == Stream::Live {
                message.stream = Stream::Expired;
            }
        }
    }

    /// What stands in a conversation, its threads included.
    pub fn shown(&self, conversation: &str) -> Vec<Message> {
        let here = |message: &&Message| {
            message.conversation == conversation
                || message.conversation.starts_with(&format!("{conversation};messageid="))
        };
        self.state().messages.iter().filter(here).cloned().collect()
    }

    /// Waits until a conversation shows a text; answers with its message.
    pub async fn shows(&self, conversation: &str, text: &str) -> Message {
        let find = || self.shown(conversation).into_iter().find(|it| it.text.contains(text));
        self.until(&format!("{conversation} shows {text:?}"), async || find().is_some()).await;
        find().unwrap()
    }

    /// Waits until something holds.
    #[expect(clippy::disallowed_methods, reason = "a fake of a server lives in real time")]
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !holds().await {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never came: {what}; there stand {:#?}",
                self.state().messages
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
