//! Socket Mode: envelopes go to one socket each, and come again until they are acknowledged.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::{Envelope, Shared};

/// The sockets that are open.
#[derive(Debug, Default)]
pub struct Sockets {
    open: Vec<Socket>,
    next: usize,
}

#[derive(Debug)]
struct Socket {
    id: u64,
    frames: mpsc::UnboundedSender<Option<String>>,
    muted: watch::Sender<bool>,
}

impl Sockets {
    /// How many of them.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Says why, and closes all.
    pub fn disconnect(&mut self, reason: &str) {
        for socket in self.open.drain(..) {
            let _ = socket.frames.send(Some(disconnect(reason)));
            let _ = socket.frames.send(None);
        }
    }

    /// Lets all of them go silent.
    pub fn mute(&mut self) {
        for socket in &self.open {
            socket.muted.send_replace(true);
        }
    }

    /// Lets one of them go silent.
    pub fn mute_one(&mut self) {
        if let Some(socket) = self.open.first() {
            socket.muted.send_replace(true);
        }
    }

    /// The next socket's turn: which one gets an envelope is Slack's choice.
    fn pick(&mut self) -> Option<mpsc::UnboundedSender<Option<String>>> {
        self.next += 1;
        let at = self.next % self.open.len().max(1);
        self.open.get(at).map(|socket| socket.frames.clone())
    }
}

fn disconnect(reason: &str) -> String {
    let info = json!({ "host": "fake" });
    json!({ "type": "disconnect", "reason": reason, "debug_info": info }).to_string()
}

/// Takes sockets.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(hold(stream, Arc::clone(&shared)));
    }
}

/// Holds one socket to its end.
async fn hold(stream: TcpStream, shared: Arc<Shared>) {
    let hangs = shared.world().faults.hanging.checked_sub(1);
    if let Some(left) = hangs {
        shared.world().faults.hanging = left;
        std::future::pending::<()>().await;
    }
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (mut writer, mut reader) = socket.split();
    let (frames, mut queue) = mpsc::unbounded_channel();
    let (id, count, at_once, mut muted) = {
        let now = shared.clock.elapsed();
        let mut world = shared.world();
        let id = world.number();
        let (muted, hears) = watch::channel(world.faults.mute);
        world.dials.push(now);
        let at_once = world.faults.disconnect_at_once;
        if at_once.is_none() {
            world.sockets.open.push(Socket { id, frames: frames.clone(), muted });
        }
        (id, world.sockets.open(), at_once, hears)
    };
    shared.tell();
    let hello = json!({
        "type": "hello", "num_connections": count.max(1),
        "debug_info": { "host": "fake", "build_number": 1, "approximate_connection_time": 18060 },
        "connection_info": { "app_id": "A1" },
    });
    let mut open = writer.send(Frame::text(hello.to_string())).await.is_ok();
    if let Some(reason) = at_once {
        let _ = frames.send(Some(disconnect(reason)));
        let _ = frames.send(None);
    }
    while open {
        if *muted.borrow() {
            // No frame, no pong, no FIN.
            std::future::pending::<()>().await;
        }
        tokio::select! {
            _ = muted.changed(), if at_once.is_none() => {}
            frame = queue.recv() => match frame {
                Some(Some(text)) => open = writer.send(Frame::text(text)).await.is_ok(),
                _ => {
                    let _ = writer.close().await;
                    open = false;
                }
            },
            frame = reader.next() => match frame {
                Some(Ok(Frame::Text(text))) => acknowledge(&shared, text.as_str()),
                Some(Ok(Frame::Close(_)) | Err(_)) | None => open = false,
                // Pings are answered below us.
                Some(Ok(_)) => {}
            },
        }
    }
    shared.world().sockets.open.retain(|socket| socket.id != id);
    // What it was sent and did not acknowledge comes again at once.
    for envelope in shared.world().envelopes.values_mut() {
        envelope.sent = envelope.sent.map(|_| Duration::ZERO);
    }
    shared.tell();
}

fn acknowledge(shared: &Shared, text: &str) {
    let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
    let id = frame["envelope_id"].as_str().unwrap_or_default();
    let mut world = shared.world();
    if let Some(payload) = frame.get("payload") {
        world.payloads.push(payload.clone());
    }
    if let Some(envelope) = world.envelopes.remove(id) {
        *world.acknowledged.entry(envelope.happening).or_default() += 1;
    }
    drop(world);
    shared.tell();
}

/// Delivers what is to be delivered, until the end of the test.
pub async fn deliver(shared: Arc<Shared>) {
    let mut changed = shared.changed.subscribe();
    loop {
        send_due(&shared);
        tokio::select! {
            _ = changed.changed() => {}
            () = shared.clock.sleep(Duration::from_millis(20)) => {}
        }
    }
}

fn send_due(shared: &Shared) {
    let now = shared.clock.elapsed();
    let mut world = shared.world();
    let once = world.faults.brought_once;
    let due = |envelope: &Envelope| match envelope.sent {
        None => true,
        Some(_) if once && envelope.kind != "events_api" => false,
        Some(sent) => now.saturating_sub(sent) >= shared.again,
    };
    let mut ids: Vec<String> = world
        .envelopes
        .iter()
        .filter(|(_, envelope)| due(envelope))
        .map(|(id, _)| id.clone())
        .collect();
    if ids.is_empty() {
        return;
    }
    shared.tell();
    // In the order in which it happened.
    ids.sort_by_key(|id| (id.len(), id.clone()));
    for id in ids {
        let Some(socket) = world.sockets.pick() else { return };
        let Some(mut envelope) = world.envelopes.remove(&id) else { continue };
        // A redelivery has an envelope of its own.
        let id = match envelope.sent {
            None => id,
            Some(_) => {
                envelope.attempt += 1;
                format!("envelope-{}", world.number())
            }
        };
        envelope.sent = Some(now);
        let mut frame = json!({
            "envelope_id": id, "type": envelope.kind, "payload": envelope.payload,
            "accepts_response_payload": envelope.kind != "events_api",
        });
        if envelope.kind == "events_api" {
            frame["retry_attempt"] = json!(envelope.attempt);
            frame["retry_reason"] = json!(if envelope.attempt > 0 { "timeout" } else { "" });
        }
        let _ = socket.send(Some(frame.to_string()));
        world.envelopes.insert(id, envelope);
    }
}
