//! HTTP: the doors of the house.
//!
//! Observers come in through [`webhooks`](ingest): what sprites report becomes output, status
//! and ledger rows, and what they are to do goes out to them as a stream. Editors come in through
//! the [`api`], which has the shape of the Kubernetes API: they read and write desired state.
//! Nobody acts here. A request ends in a transaction of the store, and that wakes whoever acts.
//!
//! Two kinds of callers are told apart before anything of a request is read. Sprites show the
//! [token](crate::token) that was derived for them, and can speak only for themselves. Everybody
//! else shows the access token of the data directory, or a named one that has a role: [`access`] is
//! the door, [`rights`] the table of what each call takes, and [`manner`] that of how it may be
//! asked for. `/health` and `/ready` ask nobody,
//! nor do `/healthz`, `/livez` and `/readyz`, which are other names for the same.
//!
//! All of it is served as plain HTTP and, on the same port, by TLS ([`tls`]).
//!
//! A router of another room gets in by [`router_with`], behind the same door. What a
//! server can do without, such as a registry of metrics, is handed in as [`Extras`].

mod access;
mod api;
mod body;
mod census;
mod claim;
mod directory;
mod files;
mod git_push;
mod health;
mod hub;
mod inbox;
pub mod ingest;
mod late;
mod listen;
mod manner;
pub mod readers;
mod rights;
mod slots;
mod status;
pub mod tls;
mod webhooks;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

pub use api::openapi;
use axum::{Router, middleware, routing};
pub use census::count_turns;
pub use claim::Claims;
pub use health::Readiness;
pub use listen::{Limits, serve};
pub use rights::needs;
use tokio_util::sync::CancellationToken;

use self::{directory::Directory, hub::Hub, ingest::Ingest, tls::Tls};
use crate::{
    ambient::Ambient,
    metrics::Metrics,
    resource::resolve::Defaults,
    secrets::Secrets,
    store::{Principal, Store, files::Files},
    token::SpriteTokens,
};

/// What other rooms lend a server; each part may be missing.
#[derive(Clone, Default)]
pub struct Extras {
    /// What holds where a new object's spec is silent. Without it, nothing is filled in.
    pub defaults: Option<Arc<Defaults>>,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// The installation's secrets.
    pub secrets: Option<Secrets>,
    /// Who is an admin without being let in.
    pub admins: Vec<Principal>,
    /// Who says what a machine's run is to do. Without it, claims are answered with 503.
    pub claims: Option<Arc<dyn Claims>>,
}

/// What all requests share; cheap to clone.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    ambient: Ambient,
    hub: Arc<Hub>,
    directory: Directory,
    ingest: Arc<Ingest>,
    access_token: String,
    readiness: Readiness,
    files: OnceLock<files::Shelf>,
    tls: OnceLock<Tls>,
    closing: CancellationToken,
    started: Duration,
    extras: Extras,
    snapshots: api::Snapshots,
    recent: api::Recent,
}

impl State {
    /// The state of a server over a store. `access_token` opens the API.
    ///
    /// # Panics
    /// Outside of a tokio runtime: a task follows the store's bell.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        ambient: Ambient,
        tokens: SpriteTokens,
        access_token: String,
    ) -> Self {
        Self::with(store, ambient, tokens, access_token, Extras::default())
    }

    /// As [`State::new`], with what other rooms lend.
    ///
    /// # Panics
    /// Outside of a tokio runtime: a task follows the store's bell.
    #[must_use]
    pub fn with(
        store: Arc<dyn Store>,
        ambient: Ambient,
        tokens: SpriteTokens,
        access_token: String,
        extras: Extras,
    ) -> Self {
        let hub = Hub::listen(&store);
        let directory = Directory::new(store.clone(), hub.clone(), tokens);
        let ingest = Arc::new(Ingest::new(store.clone(), ambient.clone(), extras.metrics.clone()));
        Self(Arc::new(Shared {
            started: ambient.clock.elapsed(),
            store,
            ambient,
            hub,
            directory,
            ingest,
            access_token,
            readiness: Readiness::default(),
            files: OnceLock::new(),
            tls: OnceLock::new(),
            closing: CancellationToken::new(),
            extras,
            snapshots: api::Snapshots::default(),
            recent: api::Recent::default(),
        }))
    }

    /// What `/ready` reports; other rooms tell it how they are.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.0.readiness
    }

    /// Lets this server keep files. Once; later calls change nothing.
    pub fn keep_files(&self, files: Arc<Files>) {
        let _ = self.0.files.set(files::Shelf::new(files));
    }

    /// Lets this server speak TLS beside plain HTTP. Once; later calls change nothing.
    pub fn keep_tls(&self, tls: Tls) {
        let _ = self.0.tls.set(tls);
    }

    /// Ends all open streams (watches, logs, inboxes), as a shutdown does.
    pub fn close_streams(&self) {
        self.0.closing.cancel();
    }

    /// Is cancelled when open streams must end; routers of other rooms watch it too.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }
}

/// All routes of this room.
pub fn router(state: State) -> Router {
    router_with(state, Router::new())
}

/// What may stand on a listener that the internet reaches: pushes to Git sources, and nothing else.
pub fn public_router(state: State) -> Router {
    Router::new()
        .route("/webhooks/git/{source}", routing::post(git_push::push))
        .method_not_allowed_fallback(webhooks::not_found)
        .with_state(state)
}

/// All routes of this room, and those of other rooms behind the same door.
pub fn router_with(state: State, others: Router) -> Router {
    let guarded = api::router()
        .route("/files", routing::post(files::put))
        .route("/files/{id}", routing::get(files::get))
        .with_state(state.clone())
        .merge(others)
        .fallback(status::unknown_path)
        .method_not_allowed_fallback(status::unknown_method)
        .layer(middleware::from_fn_with_state(state.clone(), manner::minded))
        .layer(middleware::from_fn_with_state(state.clone(), access::require));
    Router::new()
        .route("/health", routing::get(health::health))
        .route("/healthz", routing::get(health::health))
        .route("/livez", routing::get(health::health))
        .route("/ready", routing::get(health::ready))
        .route("/readyz", routing::get(health::ready))
        .route("/webhooks/claim", routing::post(claim::claim))
        .route("/webhooks/events", routing::post(webhooks::events))
        .route("/webhooks/inbox", routing::get(inbox::inbox))
        .route("/webhooks/logs", routing::post(webhooks::logs))
        .route("/webhooks/status", routing::post(webhooks::status))
        .route("/webhooks/artifacts", routing::post(webhooks::artifacts))
        .route("/webhooks/files", routing::post(files::put_by_sprite))
        .route("/webhooks/files/{id}", routing::get(files::get_by_sprite))
        .route("/webhooks/git/{source}", routing::post(git_push::push))
        .route("/webhooks/{*rest}", routing::any(webhooks::not_found))
        .method_not_allowed_fallback(webhooks::not_found)
        .with_state(state)
        .merge(guarded)
}
