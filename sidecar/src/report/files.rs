//! Files between here and the server, whole: what comes with a turn, what the agent made.
//!
//! One call is one try. Who calls decides whether it is worth another, by [`FileError::is_final`].

use std::{fs, io, io::Write as _, path::Path, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::http::{Address, Connection, Trouble};

/// The largest file that is sent or taken, in bytes.
pub const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// How long the server may take to begin its answer, and to take a file.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// How long a file may stand still on its way.
const SILENCE: Duration = Duration::from_secs(30);

/// Why a file did not pass.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The server cannot be reached, or not now.
    #[error("{0}")]
    Away(String),
    /// The server does not want it, and will not by trying again.
    #[error("the server answered {status}{}", said(.why))]
    Refused {
        /// Its answer.
        status: StatusCode,
        /// What it said, as far as it can be read.
        why: String,
    },
    /// What came is not what was meant.
    #[error("what came is another file")]
    Other,
    /// The disk does not take it.
    #[error("{0}")]
    Disk(io::Error),
}

fn said(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

impl FileError {
    /// Whether another try is of no use.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Disk(_))
    }
}

impl From<Trouble> for FileError {
    fn from(trouble: Trouble) -> Self {
        Self::Away(trouble.to_string())
    }
}

/// What the server says to a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Kept {
    url: String,
}

/// The server's own words in an answer that is no yes.
#[derive(Deserialize)]
struct Said {
    error: String,
}

/// An answer that is no yes.
fn refusal(status: StatusCode, body: &[u8]) -> FileError {
    let why = serde_json::from_slice::<Said>(body).map(|said| said.error).unwrap_or_default();
    let later = status.is_server_error()
        // Another's server at our server's old address.
        || status == StatusCode::UNAUTHORIZED
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS;
    if later {
        FileError::Away(format!("the server answered {status}"))
    } else {
        FileError::Refused { status, why }
    }
}

/// Takes a file from the server to a place where nothing is, and proves that it is the one: `id`
/// is the SHA-256 of its bytes in lower-case hex.
///
/// # Errors
/// Why it is not there; then nothing is left at the place.
pub async fn download(address: &Address, id: &str, place: &Path) -> Result<(), FileError> {
    let taken = take(address, id, place).await;
    if taken.is_err() {
        let _ = fs::remove_file(place);
    }
    taken
}

async fn take(address: &Address, id: &str, place: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut connection = Connection::open(address).await?;
    let path = format!("/webhooks/files/{id}?jobId={}", address.job_id);
    let response = connection.get(&path, ANSWERS_WITHIN).await?;
    let status = response.status();
    let mut body = response.into_body();
    let away = |error: hyper::Error| FileError::Away(error.to_string());
    let late = |_| FileError::Away("the server fell silent".into());
    if status != StatusCode::OK {
        let said = timeout(SILENCE, body.frame()).await.map_err(late)?;
        let said = said.transpose().map_err(away)?.and_then(|frame| frame.into_data().ok());
        return Err(refusal(status, &said.unwrap_or_default()));
    }
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(place);
    let mut file = opened.map_err(FileError::Disk)?;
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(late)? {
        let Ok(data) = frame.map_err(away)?.into_data() else { continue };
        size += data.len() as u64;
        if size > MAX_FILE_BYTES {
            return Err(FileError::Other);
        }
        hash.update(&data);
        file.write_all(&data).map_err(FileError::Disk)?;
    }
    file.sync_all().map_err(FileError::Disk)?;
    if hex(&hash.finalize()) == id { Ok(()) } else { Err(FileError::Other) }
}

/// Brings a file to the server; answers where it can be had there.
///
/// # Errors
/// Why the server does not have it.
pub async fn upload(address: &Address, name: &str, bytes: Bytes) -> Result<String, FileError> {
    let mut connection = Connection::open(address).await?;
    let path = format!("/webhooks/files?name={}&jobId={}", percent_encoded(name), address.job_id);
    let kind = "application/octet-stream";
    let (status, _, body) = connection.send(&path, kind, bytes, ANSWERS_WITHIN).await?;
    if !status.is_success() {
        return Err(refusal(status, &body));
    }
    serde_json::from_slice::<Kept>(&body)
        .map(|kept| kept.url)
        .map_err(|error| FileError::Away(format!("the server's answer cannot be read: {error}")))
}

/// Bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text as it can stand in a query.
pub(crate) fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
