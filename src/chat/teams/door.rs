//! The door: `POST /api/messages`, on a socket of its own that the internet may reach.
//!
//! What is cheap comes first. A request without a token of the channel's is answered with 401
//! before its body is read; the body is bounded in size and time; and there are only so many
//! connections at once. A token that is right and an activity that is not for us (another tenant)
//! get 403.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde_json::json;
use sprite_reporter::wire::Attachment;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    NAME, Teams,
    activity::Activity,
    bearer, card,
    hear::{FileAt, Heard, hear, reads},
    signature,
    tally::Tally,
    token::{self, Expected, Refusal},
};
use crate::chat::{Commands, Incoming, Via, ear::Hearing};

/// The most bytes of an activity.
const MAX_BODY: usize = 1 << 20;
/// How long a request's head may take, and a connection may stay without one.
const HEAD: Duration = Duration::from_secs(15);
/// How long a body may take.
const BODY: Duration = Duration::from_secs(15);
/// The most connections at once; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 512;
/// How long until the port is tried again.
const AGAIN: Duration = Duration::from_secs(3);
/// How long until the access token is asked for again, and then looked at again.
const TOKEN_AGAIN: Duration = Duration::from_secs(15);
const TOKEN_LOOK: Duration = Duration::from_secs(600);
/// How long files may take from when their line came, and at least from when its turn came: Teams
/// waits 15 s for its answer, which says that the line is durable.
const FILES: Duration = Duration::from_secs(10);
const LATE_FILES: Duration = Duration::from_secs(3);
/// How long requests under way may go on at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// What the door's requests need.
#[derive(Clone)]
struct Room {
    teams: Arc<Teams>,
    commands: Arc<Commands>,
    /// Files on their way.
    sending: TaskTracker,
    /// Who was refused, and what of it was told.
    told: Arc<Mutex<Tally>>,
}

/// Listens until `stop`. A port that is in use is tried again.
pub(super) async fn open(teams: Arc<Teams>, commands: Arc<Commands>, stop: CancellationToken) {
    let clock = Arc::clone(&teams.ambient.clock);
    let address = teams.settings.listen;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                let why = format!(
                    "Teams cannot reach us: {address} cannot be listened on ({error}); stop who \
                     uses it, or set PORT to another"
                );
                tracing::warn!("{why}");
                teams.door_is(Hearing::NotNow(why));
            }
        }
        tokio::select! {
            () = clock.sleep(AGAIN) => {}
            () = stop.cancelled() => return,
        }
    };
    tracing::info!(%address, "Teams is listened to at /api/messages");
    teams.door_is(Hearing::Yes);
    let connections = TaskTracker::new();
    let sending = connections.clone();
    let room = Room { teams: Arc::clone(&teams), commands, sending, told: Arc::default() };
    let router = Router::new()
        .route("/api/messages", post(messages))
        // For whoever sets up a tunnel and wants to see that it ends here.
        .route("/", get(|| async { "Open Dispatch listens to Microsoft Teams at /api/messages\n" }))
        .with_state(room)
        .merge(teams.beside.get().cloned().unwrap_or_default());
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = serve(stream, router.clone(), stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!("no connection could be taken from Teams: {error}");
                clock.sleep(Duration::from_millis(100)).await;
            }
        }
    }
    teams.door_is(Hearing::NotNow("the server stops".to_owned()));
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = clock.sleep(DRAIN) => {}
    }
}

async fn serve(stream: TcpStream, router: Router, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of Teams' ended early");
    }
}

/// Asks for the access token at once, so that a wrong secret is told before somebody speaks.
pub(super) async fn look_for_token(teams: Arc<Teams>, stop: CancellationToken) {
    loop {
        let wait = match teams.bearer.token().await {
            Ok(_) => {
                teams.refused_because(None);
                TOKEN_LOOK
            }
            Err(error @ bearer::Error::Refused { .. }) => {
                tracing::error!("{error}");
                teams.refused_because(Some(error.to_string()));
                TOKEN_AGAIN
            }
            Err(error) => {
                tracing::warn!("{error}");
                TOKEN_AGAIN
            }
        };
        tokio::select! {
            () = teams.ambient.clock.sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn messages(State(room): State<Room>, request: Request) -> Response {
    match room.take(request).await {
        Ok(response) => response,
        Err(No::Refused(refusal)) => {
            room.tell(refusal);
            let status = match refusal.is_forbidden() {
                true => StatusCode::FORBIDDEN,
                false => StatusCode::UNAUTHORIZED,
            };
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (status, challenge, Json(json!({"error": refusal.to_string()}))).into_response()
        }
        Err(No::Bad(status, why)) => (status, Json(json!({"error": why}))).into_response(),
    }
}

/// Why a request is not taken.
enum No {
    Refused(Refusal),
    Bad(StatusCode, String),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Not taken, but would be later: it may be sent again.
fn later(error: &impl std::fmt::Display) -> No {
    tracing::warn!("an activity of Teams' was not taken: {error}");
    No::Bad(StatusCode::SERVICE_UNAVAILABLE, "not now; send it again".to_owned())
}

impl Room {
    async fn take(&self, request: Request) -> Result<Response, No> {
        let teams = &self.teams;
        let settings = &teams.settings;
        let expected = Expected {
            issuer: settings.issuer,
            app_id: &settings.app_id,
            tenant: &settings.tenant,
        };
        let head = request.headers().get(header::AUTHORIZATION);
        let token = token::bearer(head.and_then(|value| value.to_str().ok()))?;
        let kid = signature::key_of(token)?;
        let key = teams.keys.find(&kid).await.map_err(|error| later(&error))?;
        let key = key.ok_or(Refusal::NoKey)?;
        let claims = signature::claims(token, &key.decoding)?;
        token::judge(&claims, expected, teams.ambient.clock.now())?;

        let activity = self.read(request.into_body()).await?;
        token::covers(&claims, &key.endorsements, &activity, expected)?;
        self.learn(&activity).await?;
        match hear(&activity) {
            Heard::Line(line, _) if line.via == Via::Pressed => {
                self.say(&line).await?;
                Ok(StatusCode::OK.into_response())
            }
            Heard::Line(mut line, files) => {
                let until = teams.ambient.clock.elapsed() + FILES;
                let queue = teams.turns.queue(&activity.conversation.id);
                let fetching = self.files(&line, &files, until);
                let (_turn, mut fetched) = queue.turn_and(fetching).await;
                if let Ok(None) = fetched {
                    // What was said before it may have made it worth something.
                    let until = until.max(teams.ambient.clock.elapsed() + LATE_FILES);
                    fetched = self.files(&line, &files, until).await;
                }
                if let Some((attachments, lacking)) = fetched? {
                    line.attachments = attachments;
                    for why in lacking {
                        line.text.push_str(&format!("\n[a file did not arrive: {why}]"));
                    }
                }
                self.say(&line).await?;
                Ok(StatusCode::OK.into_response())
            }
            // What a button means does not hang on what was said before it.
            Heard::Press(line) => {
                let is_taken = self.say(&line).await?;
                Ok(Json(card::pressed(is_taken)).into_response())
            }
            Heard::Consent(consent, reads) => {
                // A file is output: whoever may read no more is not given it. The question stays.
                let may = self.commands.may_lead_to_something(&reads).await;
                if !may.map_err(|error| later(&error))? {
                    tracing::info!(user = reads.user, "a file was asked for by who may not read");
                    return Ok(StatusCode::OK.into_response());
                }
                let teams = Arc::clone(&self.teams);
                // The question stands there until it is done; who is told so need not wait.
                self.sending.spawn(async move { teams.consented(*consent).await });
                Ok(StatusCode::OK.into_response())
            }
            Heard::Unknown => Err(No::Bad(
                StatusCode::NOT_IMPLEMENTED,
                format!("{NAME} has nothing for {}", activity.name.unwrap_or_default()),
            )),
            Heard::Nothing => Ok(StatusCode::OK.into_response()),
        }
    }

    async fn read(&self, body: Body) -> Result<Activity, No> {
        let bytes = tokio::select! {
            bytes = to_bytes(body, MAX_BODY) => bytes,
            () = self.teams.ambient.clock.sleep(BODY) => {
                return Err(No::Bad(StatusCode::REQUEST_TIMEOUT, "the body did not come".to_owned()));
            }
        };
        let bytes = bytes.map_err(|_| {
            let why = format!("an activity holds {MAX_BODY} bytes at most");
            No::Bad(StatusCode::PAYLOAD_TOO_LARGE, why)
        })?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            No::Bad(StatusCode::BAD_REQUEST, format!("the activity cannot be read: {error}"))
        })
    }

    /// A line's files, as far as they come until then, and why the others did not; none where
    /// nothing is fetched for it.
    async fn files(
        &self,
        line: &Incoming,
        files: &[FileAt],
        until: Duration,
    ) -> Result<Option<(Vec<Attachment>, Vec<String>)>, No> {
        if files.is_empty() || !self.is_worth_it(line).await? {
            return Ok(None);
        }
        let patience = until.saturating_sub(self.teams.ambient.clock.elapsed());
        Ok(Some(self.teams.fetch(files, patience).await))
    }

    /// Whether files are fetched for this line: it was not taken before, and whoever said it may
    /// say it. Others shall not fill our disk.
    async fn is_worth_it(&self, line: &Incoming) -> Result<bool, No> {
        let receipt = self.teams.store.receipt(&line.key).await.map_err(|error| later(&error))?;
        let may = self.commands.may_lead_to_something(line);
        Ok(receipt.is_none() && may.await.map_err(|error| later(&error))?)
    }

    /// Hands a line over; answers once it is durable, with whether anything came of it.
    async fn say(&self, line: &Incoming) -> Result<bool, No> {
        let taken = self.commands.handle(line).await.map_err(|error| later(&error))?;
        Ok(!taken.delivery.is_empty())
    }

    /// Learns how an activity's conversation is reached; strangers leave nothing in the store.
    async fn learn(&self, activity: &Activity) -> Result<(), No> {
        let places = &self.teams.places;
        if !places.is_news(activity) {
            return Ok(());
        }
        let may = self.commands.may_lead_to_something(&reads(activity)).await;
        match may.map_err(|error| later(&error))? {
            true => places.learn(activity).await.map_err(|error| later(&error)),
            false => {
                places.remember(activity);
                Ok(())
            }
        }
    }

    /// Says now and then that somebody was refused, and why: it may be a wrong setting, and it may
    /// be anybody on the internet.
    fn tell(&self, refusal: Refusal) {
        let now = self.teams.ambient.clock.elapsed();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.count(refusal, now) {
            None => {}
            Some(0) => tracing::warn!("a request to /api/messages was refused: {refusal}"),
            Some(more) => tracing::warn!(
                "a request to /api/messages was refused: {refusal} (and {more} more like it since \
                 that was told last)"
            ),
        }
    }
}
