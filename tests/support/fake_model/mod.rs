//! A model API on loopback that does what it is told in the prompt (see [`script`]).
//!
//! Each API has a file of its own for its wire: it reads who said what from a request's body,
//! asks [`Shared::reply`] what to do, and tells that in its own events. [`answer`] sends a
//! request to its API by the path.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    serve::ListenerExt as _,
};
use script::{Act, Spoken};
use serde_json::Value;

mod anthropic;
mod gemini;
mod openai_chat;
mod openai_responses;
mod script;

/// The API, until it is dropped.
pub struct FakeModel {
    url: String,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

/// What is remembered between requests.
#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Recorded>>,
    /// How often each error with a number was given, by prompt.
    given: Mutex<HashMap<String, u32>>,
}

/// A request for an answer.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The key or token that came with it.
    pub key: String,
    /// The person's words that it goes back to.
    pub prompt: String,
    /// The whole body.
    pub body: Value,
}

/// What the model does now.
enum Reply {
    /// It fails with this HTTP status.
    Error(u16),
    /// It answers.
    Acts {
        /// What it says and uses, in order; never empty.
        acts: Vec<Act>,
        /// Whether it breaks off in the middle of the last act.
        is_cut: bool,
    },
}

impl FakeModel {
    /// Listens on a free port of loopback.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        // A model's small pieces go out at once.
        let listener = listener.tap_io(|connection| {
            let _ = connection.set_nodelay(true);
        });
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("the fake model serves");
        });
        Self { url, shared, server }
    }

    /// Where it listens: the base of every API's paths, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.shared.requests).clone()
    }
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let key = ["x-api-key", "x-goog-api-key", "authorization"]
        .iter()
        .find_map(|name| parts.headers.get(*name)?.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match parts.uri.path() {
        anthropic::PATH => anthropic::answer(&shared, key, body),
        openai_chat::PATH => openai_chat::answer(&shared, key, body),
        openai_responses::PATH => openai_responses::answer(&shared, key, body),
        path => match gemini::Call::of(path) {
            Some(call) => gemini::answer(&shared, call, key, body),
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

impl Shared {
    /// What the model does upon a request whose conversation is `spoken`.
    fn reply(&self, key: String, body: Value, spoken: Vec<Spoken<'_>>) -> Reply {
        let (prompt, step) = script::conversation(spoken);
        lock(&self.requests).push(Recorded { key, prompt: prompt.clone(), body });
        let due = format!("{step} {prompt}");
        let acts = script::acts(&prompt, step);
        for act in &acts {
            if let Act::Status(code, times) = act
                && self.is_due(&due, *times)
            {
                return Reply::Error(*code);
            }
        }
        let is_cut = acts.iter().any(|act| match act {
            Act::Cut(times) => self.is_due(&due, *times),
            _ => false,
        });
        let acts = if is_cut { acts } else { acts.into_iter().map(Act::uncut).collect() };
        Reply::Acts { acts, is_cut }
    }

    /// Whether an error that is given `times` times has to be given once more.
    fn is_due(&self, key: &str, times: Option<u32>) -> bool {
        let Some(times) = times else { return true };
        let mut given = lock(&self.given);
        let count = given.entry(key.to_owned()).or_default();
        *count += 1;
        *count <= times
    }
}

#[tokio::test]
async fn the_api_listens_and_remembers() {
    let model = FakeModel::start().await;
    assert!(model.url().starts_with("http://127.0.0.1:"));
    let seen: Vec<(String, String, Value)> =
        model.requests().into_iter().map(|seen| (seen.key, seen.prompt, seen.body)).collect();
    assert!(seen.is_empty());
}
