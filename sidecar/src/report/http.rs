//! HTTP: where the server is, and one keep-alive connection to it.

use std::{fs, io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where the server is: a file that says it, or a fixed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The sprite's uid.
    pub job_id: String,
    /// Which run speaks.
    pub run: u32,
    /// The sprite's token.
    pub token: String,
    /// The file that holds the server's address; it comes before `server`.
    pub endpoint_file: Option<PathBuf>,
    /// The server's address.
    pub server: Option<String>,
}

/// Why there is no address to speak to.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The file that names it cannot be read.
    #[error("cannot read the server's address in {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Nothing names it.
    #[error("no server is named; set OPEN_DISPATCH_URL")]
    None,
    /// It speaks TLS.
    #[error("{0} needs TLS, which this reporter does not speak yet; give an http:// address")]
    Tls(String),
    /// It is no address.
    #[error("{0:?} is no address of a server; give one such as http://127.0.0.1:8080")]
    Malformed(String),
}

impl Address {
    /// The server's address, as it stands now.
    ///
    /// # Errors
    /// Why there is none.
    pub fn authority(&self) -> Result<String, AddressError> {
        let url = match (&self.endpoint_file, &self.server) {
            (Some(path), _) => fs::read_to_string(path)
                .map_err(|error| AddressError::File { path: path.clone(), error })?,
            (None, Some(server)) => server.clone(),
            (None, None) => return Err(AddressError::None),
        };
        authority(url.trim())
    }
}

/// Host and port of an `http://` URL without a path.
fn authority(url: &str) -> Result<String, AddressError> {
    if url.starts_with("https://") {
        return Err(AddressError::Tls(url.to_owned()));
    }
    let malformed = || AddressError::Malformed(url.to_owned());
    let rest = url.strip_prefix("http://").ok_or_else(malformed)?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let valid = authority.parse::<hyper::http::uri::Authority>().ok().filter(|parsed| {
        !parsed.host().is_empty() && !authority.contains('@') && parsed.as_str() == authority
    });
    let valid = valid.ok_or_else(malformed)?;
    Ok(match valid.port_u16() {
        Some(_) => authority.to_owned(),
        None => format!("{authority}:80"),
    })
}

/// What went wrong between here and an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// There is nowhere to go.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nobody is there.
    #[error("cannot reach the server at {0}: {1}")]
    Connect(String, io::Error),
    /// The connection broke.
    #[error("the connection to the server broke: {0}")]
    Broken(String),
    /// It took too long.
    #[error("the server did not answer in time")]
    Late,
}

/// One connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    token: String,
}

impl Connection {
    /// Connects to where the server is now.
    pub(super) async fn open(address: &Address) -> Result<Self, Trouble> {
        let authority = address.authority()?;
        let stream = timeout(CONNECT_WITHIN, TcpStream::connect(&authority))
            .await
            .map_err(|_| Trouble::Late)?
            .map_err(|error| Trouble::Connect(authority.clone(), error))?;
        // Without it a small batch would wait for the kernel's own batching.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        Ok(Self { sender, authority, token: address.token.clone() })
    }

    /// Whether it can take another request.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Posts JSON and reads the answer.
    pub(super) async fn post(
        &mut self,
        path: &str,
        json: Vec<u8>,
        within: Duration,
    ) -> Result<(StatusCode, Option<Duration>, Bytes), Trouble> {
        self.send(path, "application/json", Bytes::from(json), within).await
    }

    /// Posts a body and reads the answer.
    pub(super) async fn send(
        &mut self,
        path: &str,
        kind: &'static str,
        body: Bytes,
        within: Duration,
    ) -> Result<(StatusCode, Option<Duration>, Bytes), Trouble> {
        self.ask(path, kind, body, within, MAX_ANSWER_BYTES).await
    }

    /// Posts a body and reads an answer of at most `most` bytes.
    pub(super) async fn ask(
        &mut self,
        path: &str,
        kind: &'static str,
        body: Bytes,
        within: Duration,
        most: usize,
    ) -> Result<(StatusCode, Option<Duration>, Bytes), Trouble> {
        let request = self
            .request("POST", path)
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|error| Trouble::Broken(error.to_string()))?;
        let answer = async {
            self.sender.ready().await.map_err(broken)?;
            let response = self.sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let after = retry_after(&response);
            let body = Limited::new(response.into_body(), most);
            let body = body.collect().await.map_err(|error| Trouble::Broken(error.to_string()))?;
            Ok((status, after, body.to_bytes()))
        };
        timeout(within, answer).await.map_err(|_| Trouble::Late)?
    }

    /// Gets a stream.
    pub(super) async fn get(
        &mut self,
        path: &str,
        within: Duration,
    ) -> Result<Response<Incoming>, Trouble> {
        let request = self
            .request("GET", path)
            .body(Full::default())
            .map_err(|error| Trouble::Broken(error.to_string()))?;
        timeout(within, self.sender.send_request(request))
            .await
            .map_err(|_| Trouble::Late)?
            .map_err(broken)
    }

    fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::USER_AGENT, concat!("sprite-reporter/", env!("CARGO_PKG_VERSION")))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn broken(error: hyper::Error) -> Trouble {
    Trouble::Broken(error.to_string())
}

fn retry_after(response: &Response<Incoming>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        assert_eq!(authority("http://127.0.0.1:8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(authority("http://[::1]:8080/").unwrap(), "[::1]:8080");
        assert_eq!(authority("http://host").unwrap(), "host:80");
    }

    #[test]
    fn what_is_no_address_says_so_and_names_the_mend() {
        for (url, part) in [
            ("https://host", "give an http:// address"),
            ("", "such as http://127.0.0.1:8080"),
            ("host:1", "such as http://"),
            ("http://user@host", "such as http://"),
            ("http://host/path", "such as http://"),
        ] {
            let error = authority(url).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
