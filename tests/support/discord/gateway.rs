//! The gateway: HELLO, IDENTIFY, READY, RESUME, heartbeats, and what closes a socket.

use std::io::Write as _;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{APP, Discord, GUILD, ME, TOKEN, bot};

/// What a client may send at most, in bytes.
const LONGEST: usize = 4_096;

pub(super) async fn serve(fake: Discord, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let fake = fake.clone();
        tokio::spawn(async move {
            if let Ok(socket) = accept_async(stream).await {
                Socket::open(fake, socket).await.run().await;
            }
        });
    }
}

struct Socket {
    fake: Discord,
    socket: WebSocketStream<TcpStream>,
    number: usize,
    /// The session, and how many of its events were sent.
    session: Option<(usize, usize)>,
    order: u64,
}

impl Socket {
    async fn open(fake: Discord, socket: WebSocketStream<TcpStream>) -> Self {
        let (number, order) = {
            let mut state = fake.state();
            state.sockets += 1;
            (state.sockets, state.order.0)
        };
        Self { fake, socket, number, session: None, order }
    }

    async fn run(mut self) {
        let interval = self.fake.state().heartbeat;
        self.send(&json!({"op": 10, "d": {"heartbeat_interval": interval}, "s": null, "t": null}))
            .await;
        let mut bell = self.fake.bell.subscribe();
        loop {
            self.pass_on().await;
            tokio::select! {
                changed = bell.changed() => if changed.is_err() { return },
                message = self.socket.next() => match message {
                    Some(Ok(Message::Text(text))) => if !self.hear(&text).await { return },
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
            }
        }
    }

    fn is_mute(&self) -> bool {
        self.number <= self.fake.state().faults.mute
    }

    /// Sends what the session has and this socket has not sent.
    async fn pass_on(&mut self) {
        if self.is_mute() {
            return;
        }
        let order = self.fake.state().order.clone();
        if order.0 > self.order {
            self.order = order.0;
            if let Some(payload) = order.1 {
                match payload["close"].as_u64() {
                    Some(code) => self.close(u16::try_from(code).unwrap()).await,
                    None => self.send(&payload).await,
                }
            }
        }
        let Some((session, sent)) = self.session else { return };
        let events: Vec<Value> = self.fake.state().sessions[session][sent..].to_vec();
        self.session = Some((session, sent + events.len()));
        for event in events {
            self.send(&event).await;
        }
    }

    /// Hears the client; whether the socket stays open.
    async fn hear(&mut self, text: &str) -> bool {
        if self.is_mute() {
            return true;
        }
        if text.len() > LONGEST {
            self.close(4_002).await;
            return false;
        }
        let payload: Value = serde_json::from_str(text).unwrap();
        match payload["op"].as_u64() {
            Some(1) => self.send(&json!({"op": 11})).await,
            Some(2) => return self.identify(&payload["d"]).await,
            Some(6) => self.resume(&payload["d"]).await,
            _ => {}
        }
        true
    }

    async fn identify(&mut self, data: &Value) -> bool {
        let refuse = self.fake.state().faults.close;
        let token = data["token"].as_str().unwrap_or_default();
        let code = match refuse {
            Some(code) => Some(code),
            None if token.trim_start_matches("Bot ") != TOKEN => Some(4_004),
            None if self.session.is_some() => Some(4_005),
            None => None,
        };
        if let Some(code) = code {
            self.fake.state().refused += 1;
            self.fake.ring();
            self.close(code).await;
            return false;
        }
        let session = {
            let mut state = self.fake.state();
            state.sessions.push(Vec::new());
            state.identified += 1;
            state.sessions.len() - 1
        };
        self.session = Some((session, 0));
        self.fake.dispatch(
            "READY",
            &json!({
                "v": 10, "user": bot(), "guilds": [{"id": GUILD, "unavailable": true}],
                "session_id": format!("session-{session}"), "resume_gateway_url": self.fake.ws,
                "application": {"id": APP, "flags": 0}, "private_channels": [], "shard": [0, 1],
            }),
        );
        self.fake.dispatch("GUILD_CREATE", &guild());
        true
    }

    async fn resume(&mut self, data: &Value) {
        let session = data["session_id"].as_str().and_then(|it| it.strip_prefix("session-"));
        let session: Option<usize> = session.and_then(|it| it.parse().ok());
        let (known, forgets) = {
            let state = self.fake.state();
            (session.filter(|it| *it < state.sessions.len()), state.faults.forget_sessions)
        };
        let Some(session) = known.filter(|_| !forgets) else {
            self.send(&json!({"op": 9, "d": false})).await;
            return;
        };
        let seq = usize::try_from(data["seq"].as_u64().unwrap_or_default()).unwrap();
        self.session = Some((session, seq));
        self.pass_on().await;
        self.fake.state().resumed += 1;
        self.fake.dispatch("RESUMED", &json!({}));
    }

    async fn send(&mut self, payload: &Value) {
        let text = payload.to_string();
        let message = match self.fake.state().faults.zlib {
            true => {
                let mut encoder =
                    flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(text.as_bytes()).unwrap();
                Message::Binary(encoder.finish().unwrap().into())
            }
            false => Message::Text(text.into()),
        };
        let _ = self.socket.send(message).await;
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "told so".into() };
        let _ = self.socket.close(Some(frame)).await;
    }
}

/// The guild, as GUILD_CREATE shows it.
const GUILD_CREATE: &str = r#"{
        "id": "GUILD", "name": "a guild", "icon": null, "splash": null, "discovery_splash": null,
        "owner_id": "1", "afk_channel_id": null, "afk_timeout": 300, "verification_level": 0,
        "default_message_notifications": 0, "explicit_content_filter": 0, "roles": [], "emojis": [],
        "features": [], "mfa_level": 0, "application_id": null, "system_channel_id": null,
        "system_channel_flags": 0, "rules_channel_id": null, "vanity_url_code": null,
        "description": null, "banner": null, "premium_tier": 0, "preferred_locale": "en-US",
        "public_updates_channel_id": null, "nsfw_level": 0, "stickers": [],
        "premium_progress_bar_enabled": false, "joined_at": "2026-01-01T00:00:00Z", "large": false,
        "unavailable": false, "member_count": 2, "voice_states": [],
        "members": [{"user": {"id": "ME", "username": "open-dispatch", "discriminator": "0001",
            "global_name": null, "avatar": null, "bot": true}, "roles": [],
            "joined_at": "2026-01-01T00:00:00Z", "deaf": false, "mute": false, "flags": 0}],
        "channels": [{"id": "CHANNEL", "type": 0, "name": "general", "position": 0,
            "permission_overwrites": [], "guild_id": "GUILD", "nsfw": false}],
        "threads": [], "presences": [], "stage_instances": [], "guild_scheduled_events": []
    }"#;

fn guild() -> Value {
    let text = GUILD_CREATE.replace("\"GUILD\"", &format!("{GUILD:?}"));
    let text = text.replace("\"ME\"", &format!("{ME:?}"));
    serde_json::from_str(&text.replace("CHANNEL", &Discord::id("general"))).unwrap()
}
