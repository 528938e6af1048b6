//! The server's HTTP API, as the command line uses it: a thin client that knows where the
//! server is, how it refuses, and how its streams are cut into lines.
//!
//! The address and the token are read anew for each request, so that a client outlives a
//! restart of the server on another port.

use std::{
    io,
    path::PathBuf,
    pin::{Pin, pin},
    time::Duration,
};

use futures::TryStreamExt as _;
use reqwest::{
    Method, RequestBuilder, Response,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};
use tokio_util::io::StreamReader;
use url::Url;

use super::{args::ServerArgs, error::Error, out, patience::Patience};
use crate::{
    ambient::{Clock as _, SystemClock},
    config,
    resource::{GROUP, Kind},
};

/// The API's version, as it stands in paths.
const VERSION: &str = "v1alpha1";
/// The file that names the server's address.
pub const ENDPOINT_FILE: &str = "endpoint";
/// The file that holds the server's token.
pub const TOKEN_FILE: &str = "token";
/// What to accept for objects.
pub const AS_JSON: &str = "application/json";
/// What a JSON Merge Patch is sent as.
pub const MERGE_PATCH: &str = "application/merge-patch+json";
/// What a JSON Patch is sent as.
pub const JSON_PATCH: &str = "application/json-patch+json";
/// What to accept for a table made by the server.
pub const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
/// The header that says who types.
const BY: &str = "open-dispatch-by";
/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for an answer that is no stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// After how long a server that says nothing is told of.
const SILENCE: Duration = Duration::from_secs(5);

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Whatever server runs on this data directory.
    Data(PathBuf),
    /// A server at an address, with its token.
    Server(Url, String),
}

/// An address and a token, good for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server's address.
    pub url: Url,
    /// The server's token.
    pub token: String,
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    place: Place,
}

/// Lines of a stream, without their ends.
pub struct Lines(Pin<Box<dyn AsyncBufRead + Send>>);

impl Lines {
    /// The next line; nothing at the stream's proper end.
    ///
    /// # Errors
    /// [`Error::Broken`] when the connection broke, or ended within a line.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut line = Vec::new();
        self.0
            .read_until(b'\n', &mut line)
            .await
            .map_err(|error| Error::Broken(root_cause(&error)))?;
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(line)),
            Some(_) => Err(Error::Broken("it ended within a line".to_owned())),
        }
    }

    /// The next line that is not empty, as JSON; nothing at the stream's proper end.
    ///
    /// # Errors
    /// [`Error::Broken`] when the connection broke, or the line is no JSON.
    pub async fn next_json(&mut self) -> Result<Option<Value>, Error> {
        while let Some(line) = self.next().await? {
            if !line.is_empty() {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| Error::Broken(format!("a line is no JSON: {error}")));
            }
        }
        Ok(None)
    }
}

impl Place {
    /// Finds the place from flags and environment.
    ///
    /// # Errors
    /// What is missing or cannot be read.
    pub fn find(
        args: &ServerArgs,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let Some(text) = &args.server else {
            return Ok(Self::Data(config::data_dir(args.data.clone(), environment)?.value));
        };
        let url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::BadServer(text.clone()))?;
        let token = environment("OPEN_DISPATCH_TOKEN").filter(|token| !token.is_empty());
        Ok(Self::Server(url, token.ok_or(Error::NoToken)?))
    }

    /// The address and the token as they are now.
    ///
    /// # Errors
    /// [`Error::NotRunning`] where the data directory names no address.
    pub fn target(&self) -> Result<Target, Error> {
        match self {
            Self::Server(url, token) => Ok(Target { url: url.clone(), token: token.clone() }),
            Self::Data(data) => {
                let read = |name: &str| {
                    let path = data.join(name);
                    match std::fs::read_to_string(&path) {
                        Ok(text) => Ok(text.trim().to_owned()),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {
                            Err(Error::NotRunning { data: data.clone() })
                        }
                        Err(source) => Err(Error::File { path, source }),
                    }
                };
                let url = Url::parse(&read(ENDPOINT_FILE)?)
                    .map_err(|_| Error::NotRunning { data: data.clone() })?;
                Ok(Target { url, token: read(TOKEN_FILE)? })
            }
        }
    }

    /// Whether the server is on this machine, so that paths mean the same to both.
    #[must_use]
    pub fn is_here(&self) -> bool {
        match self {
            Self::Data(_) => true,
            Self::Server(url, _) => match url.host() {
                Some(url::Host::Domain(name)) => name == "localhost",
                Some(url::Host::Ipv4(address)) => address.is_loopback(),
                Some(url::Host::Ipv6(address)) => address.is_loopback(),
                None => false,
            },
        }
    }

    /// How to mend that nobody answers.
    fn mend(&self) -> String {
        match self {
            Self::Data(data) => {
                let line = Error::NotRunning { data: data.clone() }.to_string();
                line.split_once("; ").map(|(_, mend)| mend.to_owned()).unwrap_or_default()
            }
            Self::Server(..) => "check the address, and that the server runs".to_owned(),
        }
    }
}

impl Client {
    /// A client of the server at a place.
    ///
    /// # Errors
    /// The HTTP client's, where it cannot be made.
    pub fn new(place: Place) -> Result<Self, Error> {
        Ok(Self { http: http()?, place })
    }

    /// A client of the server that flags and environment name.
    ///
    /// # Errors
    /// What is missing or cannot be read.
    pub fn find(args: &ServerArgs) -> Result<Self, Error> {
        Self::new(Place::find(args, |name| std::env::var(name).ok())?)
    }

    /// Where the server is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Gets JSON.
    ///
    /// # Errors
    /// The server's refusal, or why it cannot be reached.
    pub async fn get(
        &self,
        path: &str,
        query: &[(&str, &str)],
        accept: &str,
    ) -> Result<Value, Error> {
        let build = |request: RequestBuilder| {
            request.query(query).header("accept", accept).timeout(ANSWER_TIMEOUT)
        };
        json(self.send_for(Method::GET, path, silence(query), build).await?).await
    }

    /// Sends a body and gets JSON.
    ///
    /// # Errors
    /// The server's refusal, or why it cannot be reached.
    pub async fn write(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, Error> {
        let content = match method {
            Method::PATCH => MERGE_PATCH,
            _ => AS_JSON,
        };
        self.write_as(method, path, query, content, body).await
    }

    /// Sends a body of a type and gets JSON.
    ///
    /// # Errors
    /// The server's refusal, or why it cannot be reached.
    pub async fn write_as(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        content: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let build = |request: RequestBuilder| {
            request
                .query(query)
                .header("content-type", content)
                .body(body.to_string())
                .timeout(ANSWER_TIMEOUT)
        };
        let response = self.send(method, path, build).await?;
        for warning in warnings(response.headers()) {
            out::note(format!("Warning: {warning}"));
        }
        json(response).await
    }

    /// Sends a body that can be sent any number of times, as one with a request id can, and gets
    /// JSON; goes on over restarts of the server once the first try has reached one.
    ///
    /// # Errors
    /// The server's refusal, or that it is away, once patience is over.
    pub async fn persist(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: &Value,
        patience: &mut Patience,
    ) -> Result<Value, Error> {
        loop {
            match self.write(method.clone(), path, query, body).await {
                Ok(answer) => {
                    patience.answered();
                    return Ok(answer);
                }
                Err(error) => patience.wait_to_repeat(error).await?,
            }
        }
    }

    /// Sends bytes as they are and gets JSON.
    ///
    /// # Errors
    /// The server's refusal, or why it cannot be reached.
    pub async fn send_bytes(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        bytes: Vec<u8>,
    ) -> Result<Value, Error> {
        let build = |request: RequestBuilder| {
            request
                .query(query)
                .header("content-type", "application/octet-stream")
                .body(bytes)
                .timeout(ANSWER_TIMEOUT)
        };
        json(self.send(method, path, build).await?).await
    }

    /// Opens a stream of lines.
    ///
    /// # Errors
    /// The server's refusal, or why it cannot be reached.
    pub async fn lines(
        &self,
        path: &str,
        query: &[(&str, &str)],
        accept: &str,
    ) -> Result<Lines, Error> {
        let build = |request: RequestBuilder| request.query(query).header("accept", accept);
        let response = self.send(Method::GET, path, build).await?;
        let bytes = response.bytes_stream().map_err(io::Error::other);
        Ok(Lines(Box::pin(StreamReader::new(bytes))))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        self.send_for(method, path, SILENCE, build).await
    }

    /// Sends; after `quiet` without an answer, the silence is told.
    async fn send_for(
        &self,
        method: Method,
        path: &str,
        quiet: Duration,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let target = self.place.target()?;
        let base = target.url.as_str().trim_end_matches('/');
        let request = self.http.request(method, format!("{base}{path}")).bearer_auth(&target.token);
        let asking = async { build(request).send().await };
        let response = patiently(base, quiet, asking).await.map_err(|error| {
            if error.is_timeout() && !error.is_connect() {
                Error::Silent { url: base.to_owned(), seconds: ANSWER_TIMEOUT.as_secs() }
            } else if error.is_connect() {
                Error::Unreachable {
                    url: base.to_owned(),
                    why: root_cause(&error),
                    mend: self.place.mend(),
                }
            } else {
                Error::Broken(root_cause(&error))
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = response.text().await.unwrap_or_default();
        Err(refusal(code, &body))
    }
}

/// After how long without an answer a request is told of: one that asks the server to wait for
/// something has all that time before its silence means anything.
fn silence(query: &[(&str, &str)]) -> Duration {
    let wait = query.iter().find(|(name, _)| *name == "wait");
    let seconds = wait.and_then(|(_, seconds)| seconds.parse().ok()).unwrap_or_default();
    SILENCE + Duration::from_secs(seconds)
}

/// Waits for an answer, and says so where it takes longer than `quiet`.
async fn patiently<T>(url: &str, quiet: Duration, asking: impl Future<Output = T>) -> T {
    let mut asking = pin!(asking);
    tokio::select! {
        answer = &mut asking => return answer,
        () = SystemClock.sleep(quiet) => {}
    }
    out::note(format!(
        "the server at {url} has not answered for {} s; still waiting, Ctrl-C stops that",
        quiet.as_secs()
    ));
    asking.await
}

/// The variable that names the certificate of the authority to trust with an https server.
const AUTHORITY: &str = "OPEN_DISPATCH_CA";

/// What speaks HTTP, and with a server whose authority [`AUTHORITY`] names also HTTPS.
///
/// # Errors
/// [`Error::Terminal`] where it cannot be made, [`Error::File`] or [`Error::Usage`] for an authority
/// that cannot be read.
pub fn http() -> Result<reqwest::Client, Error> {
    let named = std::env::var_os(AUTHORITY).filter(|path| !path.is_empty()).map(PathBuf::from);
    let builder = match named {
        None => reqwest::Client::builder(),
        Some(path) => {
            let none = |why: String| {
                Error::Usage(format!(
                    "{AUTHORITY} names {}, which holds no certificate ({why}); name the file \
                     tls/ca.crt of the server's data directory",
                    path.display()
                ))
            };
            let pem = std::fs::read(&path)
                .map_err(|source| Error::File { path: path.clone(), source })?;
            let found = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| none(root_cause(&error)))?;
            if found.is_empty() {
                return Err(none("it has none".to_owned()));
            }
            reqwest::Client::builder().tls_certs_only(found)
        }
    };
    builder
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("open-dispatch/", env!("CARGO_PKG_VERSION")))
        .default_headers(by(&std::env::var("USER").unwrap_or_default()))
        // A token must not leave through a proxy that was meant for the world outside.
        .no_proxy()
        .build()
        .map_err(|error| Error::Terminal(format!("no HTTP client can be made: {error}")))
}

/// Who types, for the server's audit; nothing for a name that fits into no header.
fn by(user: &str) -> HeaderMap {
    let value = HeaderValue::from_str(user).ok().filter(|value| !value.is_empty());
    value.into_iter().map(|value| (HeaderName::from_static(BY), value)).collect()
}

/// The path of a kind's collection.
#[must_use]
pub fn collection(kind: Kind) -> String {
    api(kind.plural())
}

/// A path below the API's version.
#[must_use]
pub fn api(rest: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/{rest}")
}

/// The path of an object. The name is escaped, so that no name leads elsewhere, save for dots
/// alone, which [`super::target`] refuses.
#[must_use]
pub fn member(kind: Kind, name: &str) -> String {
    format!("{}/{}", collection(kind), escaped(name))
}

/// A word as one part of a path.
#[must_use]
pub fn escaped(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(byte.into()),
            b'.' => escaped.push('.'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

async fn json(response: Response) -> Result<Value, Error> {
    let body = response.bytes().await.map_err(|error| Error::Broken(root_cause(&error)))?;
    serde_json::from_slice(&body)
        .map_err(|error| Error::Broken(format!("its answer is no JSON: {error}")))
}

/// What a server warns of, in the form that Kubernetes gives it: `299 - "text"`.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all(reqwest::header::WARNING).into_iter();
    let text = |value: &HeaderValue| {
        let text = value.to_str().ok()?.strip_prefix("299 ")?.split_once('"')?.1;
        let text = text.strip_suffix('"')?;
        Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
    };
    all.filter_map(text).map(|text| out::harmless(&text)).collect()
}

/// Reads a refusal: a Kubernetes `Status`, or whatever else stood in the way.
fn refusal(code: u16, body: &str) -> Error {
    let status: Value = serde_json::from_str(body).unwrap_or_default();
    if status["kind"] != "Status" {
        let line = body.lines().next().unwrap_or_default().chars().take(200).collect::<String>();
        let message =
            if line.is_empty() { "it is no Open Dispatch server".to_owned() } else { line };
        return Error::Api { code, reason: format!("HTTP {code}"), message };
    }
    let mut message = status["message"].as_str().unwrap_or_default().to_owned();
    let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if causes.len() > 1 {
        message = message.split(": ").next().unwrap_or_default().to_owned();
    }
    for cause in causes.iter().filter(|_| causes.len() > 1) {
        let text = |member: &str| cause[member].as_str().unwrap_or_default();
        // Those without a field are ways out.
        let field = Some(text("field")).filter(|field| !field.is_empty());
        let field = field.map(|field| format!("{field}: ")).unwrap_or_default();
        message.push_str(&format!("\n* {field}{}", text("message")));
    }
    let reason = status["reason"].as_str().unwrap_or("Unknown").to_owned();
    Error::Api { code, reason, message }
}

/// The innermost cause, which is the one that people understand.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    // "Connection refused (os error 111)": the number tells nobody anything.
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(server: Option<&str>, token: Option<&str>) -> Result<Place, Error> {
        let args = ServerArgs { data: None, server: server.map(str::to_owned) };
        Place::find(&args, |name| match name {
            "OPEN_DISPATCH_TOKEN" => token.map(str::to_owned),
            "HOME" => Some("/home/a".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn a_server_needs_an_address_and_a_token() {
        let line = |place: Result<Place, Error>| place.unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                line(place(Some("example.org"), Some("t"))),
                line(place(Some("ftp://example.org"), Some("t"))),
                line(place(Some("http://example.org"), None)),
                line(place(Some("http://example.org"), Some(""))),
            ]
            .join("\n")
        );
        assert!(!place(Some("http://example.org"), Some("t")).unwrap().is_here());
        assert!(place(Some("http://[::1]:8080"), Some("t")).unwrap().is_here());
        assert!(place(None, None).unwrap().is_here());
    }

    #[test]
    fn a_server_that_was_asked_to_wait_is_not_silent_meanwhile() {
        assert_eq!(silence(&[]), SILENCE);
        assert_eq!(silence(&[("wait", "20")]), SILENCE + Duration::from_secs(20));
    }

    /// Serves one connection: reads the request to the end of its body, and answers, or not.
    async fn serve(listener: tokio::net::TcpListener, answer: Option<&str>) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        // Whoever comes next finds nobody.
        drop(listener);
        let mut request = String::new();
        while !request.ends_with('}') {
            let mut some = [0; 4096];
            let n = stream.read(&mut some).await.unwrap();
            assert!(n > 0, "the request ends early: {request}");
            request.push_str(std::str::from_utf8(&some[..n]).unwrap());
        }
        if let Some(answer) = answer {
            let head = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
        }
        request.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// A clock that counts the pauses; the second one lasts until the server is back.
    #[derive(Default)]
    struct Pauses {
        begun: tokio::sync::watch::Sender<usize>,
        back: tokio::sync::watch::Sender<bool>,
    }

    #[async_trait::async_trait]
    impl crate::ambient::Clock for Pauses {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        async fn sleep(&self, _: Duration) {
            self.begun.send_modify(|begun| *begun += 1);
            if *self.begun.borrow() > 1 {
                let _ = self.back.subscribe().wait_for(|back| *back).await;
            }
        }
    }

    #[tokio::test]
    async fn a_request_is_repeated_until_a_server_that_was_killed_is_back() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = tempfile::tempdir().unwrap();
        let listen = async || {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            std::fs::write(data.path().join(ENDPOINT_FILE), url).unwrap();
            listener
        };
        std::fs::write(data.path().join(TOKEN_FILE), "token").unwrap();
        let first = listen().await;
        let client = Client::new(Place::Data(data.path().to_path_buf())).unwrap();
        let pauses = std::sync::Arc::new(Pauses::default());
        let mut patience = Patience::by(pauses.clone());
        let body = serde_json::json!({"requestId": "r", "text": "hello"});
        let saying = client.persist(Method::POST, "/turns", &[], &body, &mut patience);
        let server = async {
            let said = serve(first, None).await;
            // The second pause follows a try that nobody took.
            let _ = pauses.begun.subscribe().wait_for(|begun| *begun > 1).await;
            let second = listen().await;
            pauses.back.send_replace(true);
            assert_eq!(said, serve(second, Some(r#"{"n": 1}"#)).await, "the same request");
        };
        let both = async { tokio::join!(saying, server) };
        let (turn, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        assert_eq!(turn.unwrap()["n"], 1);
    }

    #[test]
    fn no_name_leads_out_of_its_collection() {
        assert_eq!(member(Kind::Job, "a-b.c"), "/apis/opendispatch.dev/v1alpha1/jobs/a-b.c");
        for name in ["../x", "a/b", "a?b", "a#b", "a%2fb", "é"] {
            let path = member(Kind::Job, name);
            let url = Url::parse("http://h/").unwrap().join(&path).unwrap();
            assert!(url.path().starts_with("/apis/opendispatch.dev/v1alpha1/jobs/"), "{url}");
            assert_eq!((url.query(), url.fragment()), (None, None), "{url}");
        }
    }

    #[test]
    fn a_warning_reads_as_it_was_meant() {
        let mut headers = HeaderMap::new();
        for text in ["299 - \"agents \\\"a\\\" is a\\\\b\"", "199 - \"old\"", "299 - nothing"] {
            headers.append(reqwest::header::WARNING, HeaderValue::from_str(text).unwrap());
        }
        assert_eq!(warnings(&headers), ["agents \"a\" is a\\b"]);
    }

    #[test]
    fn a_refusal_shows_every_cause_on_a_line_of_its_own() {
        let one = serde_json::json!({
            "kind": "Status", "reason": "Invalid", "message": "Job is invalid: spec.task: empty",
            "details": {"causes": [{"field": "spec.task", "message": "empty"}]},
        });
        let two = serde_json::json!({
            "kind": "Status", "reason": "Invalid", "message": "Job is invalid: spec.task: empty",
            "details": {"causes": [
                {"field": "spec.task", "message": "empty"},
                {"field": "spec.timeout", "message": "no duration"},
            ]},
        });
        let ways = serde_json::json!({
            "kind": "Status", "reason": "Conflict",
            "message": "agents \"a\" is declared by source s (a.yaml:1): for a time: one; or: two",
            "details": {"causes": [
                {"reason": "DeclaredBySource", "message": "for a time: one"},
                {"reason": "DeclaredBySource", "message": "or: two"},
            ]},
        });
        insta::assert_snapshot!(
            [
                refusal(422, &one.to_string()).to_string(),
                refusal(422, &two.to_string()).to_string(),
                refusal(409, &ways.to_string()).to_string(),
                refusal(404, "<html>\nnot here").to_string(),
                refusal(500, "").to_string(),
            ]
            .join("\n")
        );
    }
}
