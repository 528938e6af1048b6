//! Files, in and out: what people attach, and what agents make.
//!
//! Whoever holds the access token may bring and take any file. A sprite may take only what a turn
//! that its Agent is at names, and bring a bounded number of files of its own. A file goes out
//! as a download of bytes, whatever it holds, so that no browser runs it in our name.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Path, Request, State as Shared},
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use serde_json::json;
use tokio_util::io::ReaderStream;

use super::{
    State,
    directory::Standing,
    status::Problem,
    webhooks::{answer, caller, error, gone, query},
};
use crate::store::{
    attached::plain_name,
    files::{Error, Files, MAX_FILE_BYTES, Stored},
};

/// How many files one sprite may bring.
const MAX_FILES_OF_SPRITE: usize = 100;
/// How long a file may take to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5 * 60);
/// How much of a file that is too large is still read, so that its sender hears our answer
/// instead of a broken pipe.
const DRAINED: usize = 8 * 1024 * 1024;

/// The files, and how many each sprite has brought since the server started.
pub(super) struct Shelf {
    files: Arc<Files>,
    brought: Mutex<HashMap<String, usize>>,
}

impl Shelf {
    pub(super) fn new(files: Arc<Files>) -> Self {
        Self { files, brought: Mutex::default() }
    }

    /// A file's size in bytes, if it is here.
    pub(super) fn size(&self, id: &str) -> Option<u64> {
        self.files.size(id)
    }

    /// Counts one more file of a sprite, unless it has brought as many as it may.
    fn count(&self, uid: &str) -> bool {
        let mut brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        let count = brought.entry(uid.to_owned()).or_default();
        *count += 1;
        *count <= MAX_FILES_OF_SPRITE
    }
}

/// Why nothing came of a request for a file.
enum Refusal {
    NoShelf,
    TooSlow,
    Files(Error),
}

impl Refusal {
    fn words(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::NoShelf => {
                let why = "this server keeps no files".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", why)
            }
            Self::TooSlow => {
                let why = format!("the file did not arrive within {} s", ARRIVES_WITHIN.as_secs());
                (StatusCode::REQUEST_TIMEOUT, "Timeout", why)
            }
            Self::Files(error) => {
                let (code, reason) = match error {
                    Error::TooLarge { .. } => {
                        (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge")
                    }
                    Error::Broken(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
                    Error::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
                    Error::Disk { .. } => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
                };
                (code, reason, error.to_string())
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (code, reason, why) = refusal.words();
        Self::new(code, reason, why)
    }
}

fn shelf(state: &State) -> Result<&Shelf, Refusal> {
    state.0.files.get().ok_or(Refusal::NoShelf)
}

async fn keep(state: &State, body: Body) -> Result<Stored, Refusal> {
    let shelf = shelf(state)?;
    let mut pieces = body.into_data_stream();
    let take = async {
        let kept = shelf.files.put(&mut pieces, MAX_FILE_BYTES).await;
        if matches!(kept, Err(Error::TooLarge { .. })) {
            let mut read = 0;
            while let Some(Ok(piece)) = pieces.next().await {
                read += piece.len();
                if read > DRAINED {
                    break;
                }
            }
        }
        kept
    };
    tokio::select! {
        kept = take => kept.map_err(Refusal::Files),
        () = state.0.ambient.clock.sleep(ARRIVES_WITHIN) => Err(Refusal::TooSlow),
    }
}

async fn give(state: &State, id: &str, name: Option<&str>) -> Result<Response, Refusal> {
    let (file, size) = shelf(state)?.files.open_file(id).await.map_err(Refusal::Files)?;
    let disposition = HeaderValue::from_str(&disposition(name.unwrap_or(id)));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_LENGTH, HeaderValue::from(size)),
        (
            header::CONTENT_DISPOSITION,
            disposition.unwrap_or_else(|_| HeaderValue::from_static("attachment")),
        ),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (
            HeaderName::from_static("content-security-policy"),
            HeaderValue::from_static("default-src 'none'; sandbox"),
        ),
        // What stands under a hash never changes.
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400, immutable")),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}

/// Where a file can be had, below the server's address.
fn address(id: &str, name: &str) -> String {
    let mut name_of = url::form_urlencoded::Serializer::new(String::new());
    name_of.append_pair("name", &plain_name(name));
    format!("/files/{id}?{}", name_of.finish())
}

/// `POST /files?name=N`
pub(super) async fn put(
    Shared(state): Shared<State>,
    request: Request,
) -> Result<Response, Problem> {
    let name = query(request.uri(), "name");
    let stored = keep(&state, request.into_body()).await?;
    let url = address(&stored.id, name.as_deref().unwrap_or("file"));
    let body = json!({"id": stored.id, "size": stored.size, "url": url});
    Ok(answer(StatusCode::CREATED, &body))
}

/// `GET /files/{id}?name=N`
pub(super) async fn get(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    Ok(give(&state, &id, query(&uri, "name").as_deref()).await?)
}

/// `POST /webhooks/files?name=N`
pub(super) async fn put_by_sprite(Shared(state): Shared<State>, request: Request) -> Response {
    let lane = match caller(&state, request.headers(), request.uri()).await {
        Ok(lane) if lane.standing() == Standing::Live => lane,
        Ok(_) => return gone(),
        Err(refused) => return refused,
    };
    match shelf(&state) {
        Ok(shelf) if !shelf.count(lane.uid()) => {
            let why = format!("a sprite may bring {MAX_FILES_OF_SPRITE} files, and this one has");
            return error(StatusCode::FORBIDDEN, why);
        }
        _ => {}
    }
    let name = query(request.uri(), "name");
    match keep(&state, request.into_body()).await {
        Ok(stored) => {
            let url = address(&stored.id, name.as_deref().unwrap_or("file"));
            answer(StatusCode::CREATED, &json!({"id": stored.id, "size": stored.size, "url": url}))
        }
        Err(refusal) => refuse(&refusal),
    }
}

/// `GET /webhooks/files/{id}`
pub(super) async fn get_by_sprite(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let lane = match caller(&state, request.headers(), request.uri()).await {
        Ok(lane) if lane.standing() == Standing::Live => lane,
        Ok(_) => return gone(),
        Err(refused) => return refused,
    };
    let named = match lane.agent_uid() {
        None => false,
        Some(agent) => match state.0.store.open_turns(agent).await {
            Ok(turns) => turns.iter().flat_map(|turn| &turn.attachments).any(|file| file.id == id),
            Err(why) => return error(StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
        },
    };
    if !named {
        return refuse(&Refusal::Files(Error::NotFound(id)));
    }
    give(&state, &id, None).await.unwrap_or_else(|refusal| refuse(&refusal))
}

fn refuse(refusal: &Refusal) -> Response {
    let (code, _, why) = refusal.words();
    error(code, why)
}

/// Says that what follows is to be saved, under this name (RFC 6266).
fn disposition(name: &str) -> String {
    let name = plain_name(name);
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ');
    let ascii: String = name.chars().map(|c| if safe(c) { c } else { '_' }).collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_told_in_both_ways_and_steers_nothing() {
        insta::assert_snapshot!(disposition("r\u{e9}sum\u{e9} 1.pdf"), @"attachment; filename=\"r_sum_ 1.pdf\"; filename*=UTF-8''r%C3%A9sum%C3%A9%201.pdf");
        insta::assert_snapshot!(disposition("../../etc/pass\r\nwd\";x"), @"attachment; filename=\"passwd__x\"; filename*=UTF-8''passwd%22%3Bx");
        insta::assert_snapshot!(disposition(".."), @"attachment; filename=\"file\"; filename*=UTF-8''file");
        insta::assert_snapshot!(address("ID", "a b&c.txt"), @"/files/ID?name=a+b%26c.txt");
    }

    proptest! {
        #[test]
        fn every_name_makes_a_header(name in "\\PC{0,300}|[\\x00-\\x7f]{0,40}") {
            let value = disposition(&name);
            prop_assert!(HeaderValue::from_str(&value).is_ok(), "{value:?}");
            prop_assert_eq!(value.matches('"').count(), 2);
        }
    }
}
