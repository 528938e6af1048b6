//! The console as a stage: a terminal that is attached to the channel, over HTTP as every terminal,
//! and comes back when the server does.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use open_dispatch::chat::frames::{Frame, FrameOp};
use serde_json::{Value, json};

use crate::stage_of_chat::{Nature, Shown, Stage};

/// A terminal for each channel of a server.
pub struct ConsoleStage {
    data: PathBuf,
    client: reqwest::Client,
    said: AtomicU64,
    attached: Mutex<BTreeSet<String>>,
    messages: Arc<Mutex<Vec<(String, Shown)>>>,
}

impl ConsoleStage {
    /// Terminals for the server whose data directory this is.
    pub fn new(data: &Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            data: data.to_owned(),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
            said: AtomicU64::new(0),
            attached: Mutex::default(),
            messages: Arc::default(),
        }
    }

    /// Sees to it that a terminal shows the channel.
    fn attach(&self, channel: &str) {
        if !self.attached.lock().unwrap().insert(channel.to_owned()) {
            return;
        }
        let (data, client) = (self.data.clone(), self.client.clone());
        let (messages, channel) = (Arc::clone(&self.messages), channel.to_owned());
        tokio::spawn(async move {
            let mut again = false;
            loop {
                listen(&data, &client, &channel, again, &messages).await;
                again = true;
                // The server is away; its terminal looks for it again.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }

    async fn send(&self, path: &str, body: Value) -> Value {
        loop {
            if let Some((base, token)) = door(&self.data) {
                let request = self.client.post(format!("{base}{path}")).bearer_auth(token);
                if let Ok(answer) = request.json(&body).send().await
                    && !answer.status().is_server_error()
                {
                    assert!(answer.status().is_success(), "{path}: {:?}", answer.text().await);
                    return answer.json().await.unwrap_or_default();
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn line(&self, who: &str, channel: &str, text: &str, files: Value) -> String {
        self.attach(channel);
        let id = format!("line-{}", self.said.fetch_add(1, Ordering::SeqCst));
        let body = json!({
            "requestId": id, "channel": channel, "text": text, "author": who, "attachments": files,
        });
        self.send("/console/messages", body).await;
        id
    }
}

/// Where the server is, and what opens it.
fn door(data: &Path) -> Option<(String, String)> {
    let read = |name: &str| std::fs::read_to_string(data.join(name)).ok();
    let base = read("endpoint")?.trim().trim_end_matches('/').to_owned();
    Some((base, read("token")?.trim().to_owned()))
}

/// Keeps what the server says, until it goes away.
async fn listen(
    data: &Path,
    client: &reqwest::Client,
    channel: &str,
    again: bool,
    messages: &Mutex<Vec<(String, Shown)>>,
) {
    let Some((base, token)) = door(data) else { return };
    let name = format!("stage-{channel}");
    let query = format!("channel={channel}&client={name}&again={again}");
    let stream = client.get(format!("{base}/console/stream?{query}")).bearer_auth(&token);
    let Ok(answer) = stream.send().await else { return };
    let mut bytes = answer.bytes_stream();
    let mut pending = Vec::new();
    while let Some(Ok(chunk)) = bytes.next().await {
        pending.extend_from_slice(&chunk);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let frame: Frame = serde_json::from_slice(&line).expect("a frame");
            show(&frame.op, channel, messages);
            if frame.n > 0 {
                let body = json!({"client": name, "channel": channel, "n": frame.n});
                let ack = client.post(format!("{base}/console/acks")).bearer_auth(&token);
                let _ = ack.json(&body).send().await;
            }
        }
    }
}

fn show(op: &FrameOp, channel: &str, messages: &Mutex<Vec<(String, Shown)>>) {
    let (id, text) = match op {
        FrameOp::Post { id, text } | FrameOp::Edit { id, text, .. } => (id, text),
        FrameOp::Heartbeat => return,
    };
    let mut messages = messages.lock().unwrap();
    match messages.iter_mut().find(|(_, shown)| shown.id == *id) {
        Some((_, shown)) => shown.text.clone_from(text),
        None => {
            let shown = Shown { id: id.clone(), text: text.clone(), ..Shown::default() };
            messages.push((channel.to_owned(), shown));
        }
    }
}

#[async_trait]
impl Stage for ConsoleStage {
    fn name(&self) -> &'static str {
        "console"
    }

    fn env(&self) -> Vec<(String, String)> {
        vec![("CHAT_PROVIDER".to_owned(), "console".to_owned())]
    }

    fn nature(&self) -> Nature {
        Nature { has_strangers: false, has_buttons: false, whispers: false, sends_files: false }
    }

    /// What the server said to its terminals.
    fn calls(&self) -> usize {
        self.messages.lock().unwrap().len()
    }

    async fn say(&self, who: &str, channel: &str, text: &str) -> String {
        self.line(who, channel, text, json!([])).await
    }

    async fn say_with_file(&self, who: &str, channel: &str, text: &str, name: &str, bytes: &[u8]) {
        let (base, token) = door(&self.data).expect("the server is there");
        let upload = self.client.post(format!("{base}/files?name={name}")).bearer_auth(token);
        let answer = upload.body(bytes.to_vec()).send().await.expect("an answer");
        let file: Value = answer.json().await.expect("JSON");
        self.line(who, channel, text, json!([{"id": file["id"], "name": name}])).await;
    }

    async fn shown(&self, channel: &str) -> Vec<Shown> {
        self.attach(channel);
        let messages = self.messages.lock().unwrap();
        let here = messages.iter().filter(|(of, shown)| of == channel && !shown.text.is_empty());
        here.map(|(_, shown)| shown.clone()).collect()
    }

    /// There are no buttons; what they say can be typed.
    async fn press(&self, who: &str, channel: &str, _message: &str, label: &str) {
        let line = match label {
            "Once" => "/od-approve bot yes",
            "No" => "/od-approve bot no",
            "Interrupt" | "Cancel" => "/od-cancel bot",
            "Retry" => "/od-retry bot",
            other => panic!("no line stands for {other}"),
        };
        self.line(who, channel, line, json!([])).await;
    }
}
