//! The console: a chat platform over HTTP, for terminals.
//!
//! A terminal attaches to a channel with `GET /console/stream?channel=C` and hears frames, one
//! JSON object a line; it says something with `POST /console/messages`. Messages have ids that
//! follow from their deliveries, and an edit carries the whole text; so a terminal that hears
//! a frame twice prints nothing twice.
//!
//! **Nothing is lost between.** A terminal that names itself (`&client=ID`) acknowledges what it
//! has printed with `POST /console/acks`, and a frame counts as shown only then. So a frame that
//! was on its way when the server or the connection died is sent again. For a listener without a
//! name, such as `curl`, a frame counts as shown once it was handed over.
//!
//! **Several terminals in a channel.** What one of them has printed counts as shown. So a terminal
//! that was away meanwhile attaches with `&again=true`, and first hears how the last messages of
//! its channel stand; or it would wait for ever for an answer that another one got.
//!
//! Where nobody is attached, the channel is unreachable and its deliveries are parked; attaching
//! wakes them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::{Stream, stream};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    commands::{Commands, Incoming},
    frames::{Frame, FrameOp, Heard, Printed, Said, default_channel},
    platform::{Capabilities, Content, Dialect, Error, Markup, Nonce, Platform, Post},
    replies::NAMELESS,
    split::Unit,
};
use crate::{
    ambient::Clock,
    store::{
        self, Access, Conversation, Store,
        attached::{NotAttached, attachments},
        files::Files,
    },
};

/// The platform's name in conversations.
pub const NAME: &str = "console";
/// How often a quiet stream shows that it lives.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// The most characters of one message.
const MAX_MESSAGE: usize = 16 * 1024;
/// The shortest time between two frames of one message.
const PACE: Duration = Duration::from_millis(40);
/// How long a terminal may take to print a frame.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many frames may be on their way to one terminal.
const FRAMES: usize = 64;
/// How many messages are kept as they stand, for terminals that come back.
const KEPT: usize = 64;

/// Called with a delivery's id when it can go on.
type Waker = Box<dyn Fn(&str) + Send + Sync>;

/// The console's terminals, by channel.
pub struct ConsoleHub {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// The terminals that are attached; none any more once the console was closed.
    terminals: Mutex<Vec<Terminal>>,
    /// The messages that were shown last, as they stand, with their channels.
    standing: Mutex<VecDeque<(String, FrameOp)>>,
    closed: AtomicBool,
    next: AtomicU64,
    waker: OnceLock<Waker>,
}

/// One terminal that is attached.
#[derive(Clone)]
struct Terminal {
    id: u64,
    channel: String,
    /// The name by which it acknowledges, if it does.
    client: Option<String>,
    frames: mpsc::Sender<Frame>,
    /// The number of the last frame; held while a frame is numbered and handed over, so that
    /// numbers are handed over in order.
    sent: Arc<Mutex<u64>>,
    printed: Arc<watch::Sender<u64>>,
    /// Cancelled once the terminal is let go; ends its stream and whoever waits for it.
    gone: CancellationToken,
}

impl Terminal {
    /// Numbers a frame and hands it over; 0 where nobody acknowledges.
    fn hand_over(&self, place: mpsc::Permit<'_, Frame>, op: &FrameOp) -> u64 {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let n = match self.client {
            Some(_) => {
                *sent += 1;
                *sent
            }
            None => 0,
        };
        place.send(Frame { op: op.clone(), n });
        n
    }
}

impl ConsoleHub {
    /// A console without terminals.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            terminals: Mutex::default(),
            standing: Mutex::default(),
            closed: AtomicBool::new(false),
            next: AtomicU64::new(1),
            waker: OnceLock::new(),
        })
    }

    /// Says how to wake a delivery. Set once, when the engine has started.
    pub fn on_attach(&self, wake: impl Fn(&str) + Send + Sync + 'static) {
        // A second engine in one process would be a fault of the caller's; the first stays.
        let _ = self.waker.set(Box::new(wake));
    }

    /// Ends all streams, now and from now on, so that the server can shut down.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.let_go(|_| true);
    }

    fn terminals(&self) -> MutexGuard<'_, Vec<Terminal>> {
        self.terminals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_channel(&self, channel: &str) -> Vec<Terminal> {
        self.terminals().iter().filter(|terminal| terminal.channel == channel).cloned().collect()
    }

    fn detach(&self, id: u64) {
        self.let_go(|terminal| terminal.id == id);
    }

    /// Lets terminals go, and ends what they hear.
    fn let_go(&self, which: impl Fn(&Terminal) -> bool) {
        self.terminals().retain(|terminal| {
            let goes = which(terminal);
            if goes {
                terminal.gone.cancel();
            }
            !goes
        });
    }

    /// Attaches a terminal: what it hears, until it is dropped. A terminal that attaches again
    /// under its name takes its own place; one that was there before hears what it missed.
    fn attach(self: &Arc<Self>, channel: &str, client: Option<String>, again: bool) -> Attached {
        let (frames, receiver) = mpsc::channel(FRAMES);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let terminal = Terminal {
            id,
            channel: channel.to_owned(),
            client,
            frames,
            sent: Arc::default(),
            printed: Arc::new(watch::Sender::new(0)),
            gone: CancellationToken::new(),
        };
        let gone = terminal.gone.clone();
        if terminal.client.is_some() {
            self.let_go(|old| old.client == terminal.client);
        }
        self.terminals().push(terminal);
        // Behind the line above: what is shown from here on, it hears itself. A message is kept
        // once all terminals have printed it, so none of these is newer than what it hears.
        let missed = if again { self.standing(channel) } else { Vec::new() };
        // Looked at last: a console that is closed meanwhile lets this one go, too.
        if self.closed.load(Ordering::SeqCst) {
            self.detach(id);
        }
        Attached { hub: Arc::clone(self), id, frames: receiver, gone, missed }
    }

    /// How the last messages of a channel stand, in the order in which they were shown.
    fn standing(&self, channel: &str) -> Vec<FrameOp> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.iter().filter(|(place, _)| place == channel).map(|(_, op)| op.clone()).collect()
    }

    fn keep(&self, channel: &str, op: &FrameOp) {
        let Some(id) = op.message() else { return };
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.retain(|(_, old)| old.message() != Some(id));
        standing.push_back((channel.to_owned(), op.clone()));
        if standing.len() > KEPT {
            standing.pop_front();
        }
    }

    /// Wakes what is open for a channel.
    async fn wake(&self, channel: &str) {
        let Some(wake) = self.waker.get() else { return };
        match self.store.open_deliveries().await {
            Ok(open) => open
                .iter()
                .filter(|delivery| {
                    let place = &delivery.conversation;
                    place.platform == NAME && place.channel == channel
                })
                .for_each(|delivery| wake(&delivery.id)),
            Err(error) => tracing::warn!("cannot wake the deliveries of {channel}: {error}"),
        }
    }

    /// Shows something to every terminal of a channel, and waits until they printed it. A
    /// terminal that takes too long is let go; it may attach again.
    async fn show(&self, channel: &str, op: &FrameOp) -> Result<(), Error> {
        let terminals = self.in_channel(channel);
        let shown = terminals.iter().map(|terminal| self.show_one(terminal, op));
        let shown = futures::future::join_all(shown).await;
        if shown.contains(&true) {
            self.keep(channel, op);
            return Ok(());
        }
        Err(Error::Unreachable(format!("nobody is attached to channel {channel}")))
    }

    async fn show_one(&self, terminal: &Terminal, op: &FrameOp) -> bool {
        let showing = async {
            let permit = terminal.frames.reserve().await.ok()?;
            let n = terminal.hand_over(permit, op);
            if n > 0 {
                let mut printed = terminal.printed.subscribe();
                let closed = terminal.frames.closed();
                tokio::select! {
                    answer = printed.wait_for(|printed| *printed >= n) => answer.is_ok().then_some(())?,
                    () = closed => return None,
                }
            }
            Some(())
        };
        let shown = tokio::select! {
            shown = showing => shown.is_some(),
            () = terminal.gone.cancelled() => false,
            () = self.clock.sleep(PATIENCE) => false,
        };
        if !shown {
            self.detach(terminal.id);
        }
        shown
    }

    fn acknowledge(&self, printed: &Printed) -> bool {
        let terminals = self.in_channel(&printed.channel);
        let Some(terminal) =
            terminals.iter().find(|terminal| terminal.client.as_ref() == Some(&printed.client))
        else {
            return false;
        };
        terminal.printed.send_if_modified(|n| {
            let newer = printed.n > *n;
            *n = printed.n.max(*n);
            newer
        });
        true
    }
}

/// A terminal's end of its stream; dropping it detaches the terminal.
struct Attached {
    hub: Arc<ConsoleHub>,
    id: u64,
    frames: mpsc::Receiver<Frame>,
    gone: CancellationToken,
    missed: Vec<FrameOp>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.hub.detach(self.id);
    }
}

impl Attached {
    /// The next line of the stream; none once the terminal was let go.
    async fn line(&mut self) -> Option<Bytes> {
        let clock = Arc::clone(&self.hub.clock);
        let frame = tokio::select! {
            frame = self.frames.recv() => frame?,
            () = self.gone.cancelled() => return None,
            () = clock.sleep(HEARTBEAT) => Frame { op: FrameOp::Heartbeat, n: 0 },
        };
        Some(line(&frame))
    }

    fn lines(mut self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        // The first line comes at once, so that a terminal knows that it is attached.
        let first: Vec<_> = std::iter::once(FrameOp::Heartbeat)
            .chain(std::mem::take(&mut self.missed))
            .map(|op| Ok(line(&Frame { op, n: 0 })))
            .collect();
        let rest = stream::unfold(self, |mut attached| async move {
            attached.line().await.map(|line| (Ok(line), attached))
        });
        futures::StreamExt::chain(stream::iter(first), rest)
    }
}

fn line(frame: &Frame) -> Bytes {
    // Serialising a frame cannot fail: it is made of strings and numbers.
    let mut line = serde_json::to_vec(frame).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

#[async_trait]
impl Platform for ConsoleHub {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_message: MAX_MESSAGE,
            unit: Unit::CodePoints,
            markup: Markup::Plain,
            pace: PACE,
            // A message's id follows from its nonce, so posting again is finding.
            lookup: false,
            placeholder: "",
            dialect: Dialect::Plain,
            buttons: 0,
            whispers: false,
            max_file: 0,
            max_messages: 0,
        }
    }

    fn reachable(&self, conversation: &Conversation) -> bool {
        self.terminals().iter().any(|terminal| terminal.channel == conversation.channel)
    }

    async fn post(&self, post: &Post<'_>) -> Result<String, Error> {
        let id = post.nonce.to_string();
        let op = FrameOp::Post { id: id.clone(), text: post.text.to_owned() };
        self.show(&post.conversation.channel, &op).await?;
        Ok(id)
    }

    async fn edit(
        &self,
        conversation: &Conversation,
        message: &str,
        content: &Content,
        last: bool,
    ) -> Result<(), Error> {
        let op = FrameOp::Edit { id: message.to_owned(), text: content.text.clone(), last };
        self.show(&conversation.channel, &op).await
    }

    async fn find(&self, _: &Conversation, nonce: &Nonce) -> Result<Option<String>, Error> {
        Ok(Some(nonce.to_string()))
    }
}

#[derive(Clone)]
struct Rooms {
    hub: Arc<ConsoleHub>,
    commands: Arc<Commands>,
    files: Option<Arc<Files>>,
}

/// The console's routes: `POST /console/messages`, `POST /console/acks` and
/// `GET /console/stream`. They carry no authentication of their own.
///
/// `files` are those that a line can name as attached; without them, it can name none.
pub fn router(hub: Arc<ConsoleHub>, commands: Arc<Commands>, files: Option<Arc<Files>>) -> Router {
    Router::new()
        .route("/console/messages", post(messages))
        .route("/console/acks", post(acks))
        .route("/console/stream", get(stream_frames))
        .with_state(Rooms { hub, commands, files })
}

/// An error as the API gives them: a Kubernetes `Status`.
fn failure(code: StatusCode, reason: &str, message: impl Into<String>) -> Response {
    let body = serde_json::json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message.into(),
        "reason": reason,
        "code": code.as_u16(),
    });
    (code, Json(body)).into_response()
}

fn read<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Box<Response>> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let message = format!("the body cannot be read: {error}");
        Box::new(failure(StatusCode::BAD_REQUEST, "BadRequest", message))
    })
}

/// A name that may stand in keys and logs.
fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
}

async fn messages(
    State(rooms): State<Rooms>,
    // The door's, where it let in whoever asks by a named token.
    token: Option<Extension<Access>>,
    body: Bytes,
) -> Response {
    let said: Said = match read(&body) {
        Ok(said) => said,
        Err(response) => return *response,
    };
    for (field, value) in [("requestId", &said.request_id), ("channel", &said.channel)] {
        if !is_token(value) {
            let message = format!("{field} must be 1 to 128 of a-z, A-Z, 0-9, -, _, . and @");
            return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        }
    }
    if said.text.trim().is_empty() && said.attachments.is_empty() {
        let message = "text is empty; say something";
        return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
    }
    let size = |id: &str| rooms.files.as_ref().and_then(|files| files.size(id));
    let attachments = match attachments(said.attachments, size) {
        Ok(attachments) => attachments,
        Err(error @ NotAttached::NotFound(_)) => {
            let message = format!("{error}; upload it first with POST /files");
            return failure(StatusCode::NOT_FOUND, "NotFound", message);
        }
        Err(error) => {
            return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", error.to_string());
        }
    };
    let key = format!("{NAME}/{}", said.request_id);
    let place = Conversation { platform: NAME.to_owned(), channel: said.channel, thread: None };
    let author = said.author.filter(|author| is_token(author));
    let author = author.unwrap_or_else(|| NAMELESS.to_owned());
    let line = Incoming { attachments, ..Incoming::typed(key, place, author, said.text) };
    let token = token.as_ref().map(|Extension(row)| row);
    match rooms.commands.handle_by(&line, token).await {
        Ok(taken) => {
            let heard = Heard { deliveries: vec![taken.delivery], again: taken.again };
            (StatusCode::ACCEPTED, Json(heard)).into_response()
        }
        Err(error @ store::Error::Revoked { .. }) => {
            failure(StatusCode::UNAUTHORIZED, "Unauthorized", error.to_string())
        }
        Err(error) => {
            failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
        }
    }
}

async fn acks(State(rooms): State<Rooms>, body: Bytes) -> Response {
    match read::<Printed>(&body) {
        Ok(printed) if rooms.hub.acknowledge(&printed) => StatusCode::NO_CONTENT.into_response(),
        Ok(printed) => failure(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("no terminal {} is attached; attach again", printed.client),
        ),
        Err(response) => *response,
    }
}

#[derive(Deserialize)]
struct StreamQuery {
    channel: Option<String>,
    client: Option<String>,
    #[serde(default)]
    again: bool,
}

async fn stream_frames(
    State(rooms): State<Rooms>,
    query: Result<Query<StreamQuery>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(error) => return failure(StatusCode::BAD_REQUEST, "BadRequest", error.to_string()),
    };
    let channel = query.channel.unwrap_or_else(default_channel);
    for (field, value) in [("channel", Some(&channel)), ("client", query.client.as_ref())] {
        if value.is_some_and(|value| !is_token(value)) {
            let message = format!("{field} must be 1 to 128 of a-z, A-Z, 0-9, -, _, . and @");
            return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        }
    }
    let attached = rooms.hub.attach(&channel, query.client, query.again);
    rooms.hub.wake(&channel).await;
    let lines = attached.lines();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
