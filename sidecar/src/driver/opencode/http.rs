//! HTTP with a server on loopback: a connection for each request, and one that streams.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode, body::Incoming, client::conn::http1::handshake, header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

/// The most bytes of an answer. The messages of a turn may hold what many tools have printed.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// How long a stream may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// Where the server is, and what it asks of who speaks to it.
#[derive(Clone)]
pub(super) struct Client {
    authority: String,
    authorization: String,
}

impl Client {
    /// A client of the server at this host and port.
    pub(super) fn new(authority: &str, password: &str) -> Self {
        let basic = format!("opencode:{password}");
        let basic = base64::engine::general_purpose::STANDARD.encode(basic);
        Self { authority: authority.to_owned(), authorization: format!("Basic {basic}") }
    }

    /// Asks, and reads the answer. One that is no JSON is null.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<(StatusCode, Value), String> {
        let answer = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
            let bytes = body.collect().await.map_err(broken)?.to_bytes();
            Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
        };
        timeout(within, answer)
            .await
            .map_err(|_| format!("it did not answer {path} within {} s", within.as_secs()))?
    }

    /// Asks, and takes anything but success for a failure.
    pub(super) async fn demand(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<Value, String> {
        match self.ask(method, path, body, within).await? {
            (status, answer) if status.is_success() => Ok(answer),
            (status, answer) => Err(refusal(status, &answer)),
        }
    }

    /// Gets a stream.
    pub(super) async fn stream(&self, path: &str) -> Result<Incoming, String> {
        let response = timeout(BEGINS_WITHIN, self.send("GET", path, None))
            .await
            .map_err(|_| format!("it did not answer {path}"))??;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(refusal(status, &Value::Null)),
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, String> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(broken)?;
        let stream = TcpStream::connect(&self.authority).await.map_err(broken)?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(broken)
    }
}

/// What the server says when it does not do what it was asked for.
pub(super) fn refusal(status: StatusCode, answer: &Value) -> String {
    let said = [&answer["data"]["message"], &answer["message"], &answer["name"]];
    match said.iter().find_map(|said| said.as_str()) {
        Some(said) => format!("it answered {}: {said}", status.as_u16()),
        None => format!("it answered {}", status.as_u16()),
    }
}

fn broken(error: impl std::fmt::Display) -> String {
    format!("the connection to it broke: {error}")
}

/// The data of server-sent events, from bytes that are cut anywhere.
#[derive(Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// Whether the line is too long and is left out.
    is_skipped: bool,
}

impl Events {
    /// The most bytes of an event.
    const MOST: usize = 64 * 1024 * 1024;

    /// Takes bytes, and answers the data of the events that are whole with them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut data = Vec::new();
        // The server writes each event's data as one line.
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > Self::MOST {
                self.is_skipped = true;
                self.line.clear();
            }
            if !self.is_skipped {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                if let Some(line) = self.line.strip_prefix(b"data:").filter(|_| !self.is_skipped) {
                    data.push(line.trim_ascii().to_vec());
                }
                self.line.clear();
                self.is_skipped = false;
            }
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_whole_whatever_the_cuts(
            cuts in prop::collection::vec(1..20_usize, 1..30),
            end in prop::sample::select(vec!["\n", "\r\n"]),
        ) {
            let text = ["data: {\"a\":1}", "", ": a comment", "event: x", "data:two", "", ""];
            let text = text.join(end);
            let (mut events, mut heard, mut rest) = (Events::default(), vec![], text.as_bytes());
            for cut in cuts.into_iter().cycle() {
                let (now, behind) = rest.split_at(cut.min(rest.len()));
                heard.extend(events.take(now));
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(heard, [b"{\"a\":1}".to_vec(), b"two".to_vec()]);
        }
    }

    #[test]
    fn a_refusal_says_what_the_server_said() {
        let told = |answer| refusal(StatusCode::BAD_REQUEST, &answer);
        let answer = serde_json::json!({"name": "ConfigInvalidError", "data": {}});
        assert_eq!(told(answer), "it answered 400: ConfigInvalidError");
        assert_eq!(told(Value::Null), "it answered 400");
    }
}
