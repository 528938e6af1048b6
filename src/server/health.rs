//! Whether the server lives, and whether it can work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::State;

/// How the rooms are, as they tell it themselves.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    parts: Arc<Mutex<BTreeMap<String, Option<String>>>>,
    /// What a person should see to although the part works.
    warnings: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Readiness {
    /// Notes that a part can work.
    pub fn up(&self, part: &str) {
        self.note(part, None);
    }

    /// Notes that a part cannot work, and why.
    pub fn down(&self, part: &str, why: impl Into<String>) {
        self.note(part, Some(why.into()));
    }

    /// Notes what a person should see to although the part works; nothing where there is none any
    /// more.
    pub fn warn(&self, part: &str, what: Option<String>) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => drop(warnings.insert(part.to_owned(), what)),
            None => drop(warnings.remove(part)),
        }
    }

    fn note(&self, part: &str, why: Option<String>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part.to_owned(), why);
    }
}

/// `GET /health`: the process lives.
pub(super) async fn health(Shared(state): Shared<State>) -> Response {
    let shared = &state.0;
    // A store in trouble is told by /ready; it is no reason to be restarted.
    let jobs = shared.directory.live().await.unwrap_or_default();
    let uptime = shared.ambient.clock.elapsed().saturating_sub(shared.started).as_secs_f64();
    Json(json!({"status": "healthy", "jobs": jobs, "uptime": uptime})).into_response()
}

/// `GET /ready`: the store answers and can be written to, and no part has said that it is down.
pub(super) async fn ready(Shared(state): Shared<State>) -> Response {
    let mut parts: BTreeMap<String, Option<String>> =
        state.0.readiness.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let store = match state.0.store.revision().await {
        Ok(_) => state.0.store.trouble().await,
        Err(error) => Some(error.to_string()),
    };
    parts.insert("store".to_owned(), store);
    let ready = parts.values().all(Option::is_none);
    let parts: BTreeMap<String, String> = parts
        .into_iter()
        .map(|(part, why)| {
            (part, why.map_or_else(|| "up".to_owned(), |why| format!("down: {why}")))
        })
        .collect();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let warnings =
        state.0.readiness.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut body = json!({"ready": ready, "parts": parts});
    if !warnings.is_empty() {
        body["warnings"] = json!(warnings);
    }
    (code, Json(body)).into_response()
}
