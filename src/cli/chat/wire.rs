//! The few calls of the API that a chat makes.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};
use tokio_util::io::StreamReader;
use url::Url;

use super::{
    address::{AgentLine, JobLine},
    asks::Ask,
};
use crate::{
    ambient::Clock,
    chat::frames::{Frame, Heard, Printed, Said},
};

/// How long an answer that is no stream may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the stream of frames may be silent; it shows that it lives every 15 s.
const SILENCE: Duration = Duration::from_secs(40);
/// How long a watch may be silent; it says every minute how far it is.
const QUIET: Duration = Duration::from_secs(150);
/// How many objects are asked for at once.
const PAGE: &str = "500";

/// Says where the server is and with which token, anew for each call: a server that restarts
/// may listen elsewhere. An error is a server that is not there (yet).
pub type Find = Arc<dyn Fn() -> Result<(Url, String), String> + Send + Sync>;

/// How to reach the server.
#[derive(Clone)]
pub struct Server {
    http: reqwest::Client,
    find: Find,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Problem {
    /// The server is not there, or cannot now; the same call may work later.
    Away(String),
    /// The server said no; the same call will never work.
    Refused(String),
}

/// A list, and the revision at which it was one.
pub(super) struct List {
    pub revision: String,
    pub items: Vec<Value>,
}

/// Objects, as they change.
pub(super) struct Changes(Pin<Box<dyn AsyncBufRead + Send>>);

impl Changes {
    /// Waits until something has changed: whether it is there, and how.
    pub(super) async fn next(&mut self, clock: &dyn Clock) -> Result<(bool, Value), Problem> {
        loop {
            let mut event: Value = next_line(&mut self.0, clock, QUIET).await?;
            let object = event["object"].take();
            match event["type"].as_str() {
                Some("ADDED" | "MODIFIED") => return Ok((true, object)),
                Some("DELETED") => return Ok((false, object)),
                Some("ERROR") => return Err(Problem::Away("the watch must begin anew".into())),
                _ => {}
            }
        }
    }
}

async fn next_line<T: DeserializeOwned>(
    stream: &mut Pin<Box<dyn AsyncBufRead + Send>>,
    clock: &dyn Clock,
    silence: Duration,
) -> Result<T, Problem> {
    let mut line = Vec::new();
    let read = tokio::select! {
        read = stream.read_until(b'\n', &mut line) => read,
        () = clock.sleep(silence) => return Err(Problem::Away("the stream is silent".into())),
    };
    match read {
        Ok(0) => Err(Problem::Away("the stream ended".into())),
        Ok(_) => serde_json::from_slice(&line)
            .map_err(|error| Problem::Away(format!("a line cannot be read: {error}"))),
        Err(error) => Err(Problem::Away(error.to_string())),
    }
}

/// Frames, as they come.
pub(super) struct Frames(Pin<Box<dyn AsyncBufRead + Send>>);

impl Frames {
    pub(super) async fn next(&mut self, clock: &dyn Clock) -> Result<Frame, Problem> {
        next_line(&mut self.0, clock, SILENCE).await
    }
}

impl Server {
    /// A server that is looked up for each call.
    #[must_use]
    pub fn new(http: reqwest::Client, find: Find) -> Self {
        Self { http, find }
    }

    /// A server that stays where it is.
    #[must_use]
    pub fn at(http: reqwest::Client, url: Url, token: String) -> Self {
        Self::new(http, Arc::new(move || Ok((url.clone(), token.clone()))))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        build: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Problem> {
        let (url, token) = (self.find)().map_err(Problem::Away)?;
        let base = url.as_str().trim_end_matches('/');
        let request = self.http.request(method, format!("{base}{path}")).bearer_auth(token);
        let response = build(request).send().await.map_err(|error| {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            Problem::Away(cause.to_string())
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body: Value = response.json().await.unwrap_or_default();
        let why = match body["message"].as_str() {
            Some(message) => message.to_owned(),
            None => status.to_string(),
        };
        let later = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        Err(if later { Problem::Away(why) } else { Problem::Refused(why) })
    }

    /// Attaches; with `again`, what was shown while this terminal was away comes first.
    pub(super) async fn attach(
        &self,
        channel: &str,
        client: &str,
        again: bool,
    ) -> Result<Frames, Problem> {
        let again = if again { "true" } else { "false" };
        let query = [("channel", channel), ("client", client), ("again", again)];
        let build = |request: RequestBuilder| request.query(&query);
        let response = self.send(Method::GET, "/console/stream", build).await?;
        let bytes = response.bytes_stream().map_err(std::io::Error::other);
        Ok(Frames(Box::pin(StreamReader::new(bytes))))
    }

    pub(super) async fn say(&self, said: &Said) -> Result<Heard, Problem> {
        let build = |request: RequestBuilder| request.timeout(ANSWER).json(said);
        let response = self.send(Method::POST, "/console/messages", build).await?;
        response.json().await.map_err(|error| Problem::Away(error.to_string()))
    }

    pub(super) async fn acknowledge(
        &self,
        channel: &str,
        client: &str,
        n: u64,
    ) -> Result<(), Problem> {
        let printed = Printed { client: client.to_owned(), channel: channel.to_owned(), n };
        let build = |request: RequestBuilder| request.timeout(ANSWER).json(&printed);
        self.send(Method::POST, "/console/acks", build).await.map(|_| ())
    }

    /// All of some kind, as the API names them, page by page.
    pub(super) async fn list(&self, plural: &str) -> Result<List, Problem> {
        let path = collection(plural);
        let mut all: Option<List> = None;
        let mut token = String::new();
        loop {
            let query = [("limit", PAGE), ("continue", &token)];
            let query = if token.is_empty() { &query[..1] } else { &query[..] };
            let build = |request: RequestBuilder| request.timeout(ANSWER).query(query);
            let response = self.send(Method::GET, &path, build).await?;
            let mut list: Value =
                response.json().await.map_err(|error| Problem::Away(error.to_string()))?;
            let Value::Array(items) = list["items"].take() else {
                return Err(Problem::Away(format!("the list of {plural} has no items")));
            };
            match &mut all {
                Some(all) => all.items.extend(items),
                None => {
                    // A watch from the first page on sees what changed in front of the others.
                    let revision = &list["metadata"]["resourceVersion"];
                    let revision = revision.as_str().unwrap_or_default().to_owned();
                    all = Some(List { revision, items });
                }
            }
            match (list["metadata"]["continue"].as_str(), all.take()) {
                (Some(next), seen) if !next.is_empty() => {
                    next.clone_into(&mut token);
                    all = seen;
                }
                (_, Some(all)) => return Ok(all),
                (_, None) => return Err(Problem::Away(format!("there is no list of {plural}"))),
            }
        }
    }

    /// What changes behind a revision of a list.
    pub(super) async fn watch(&self, plural: &str, revision: &str) -> Result<Changes, Problem> {
        // Without bookmarks, one that is quiet and one that is dead look alike.
        let query =
            [("watch", "1"), ("resourceVersion", revision), ("allowWatchBookmarks", "true")];
        let build = |request: RequestBuilder| request.query(&query);
        let response = self.send(Method::GET, &collection(plural), build).await?;
        let bytes = response.bytes_stream().map_err(std::io::Error::other);
        Ok(Changes(Box::pin(StreamReader::new(bytes))))
    }

    /// The agents that there are.
    pub(super) async fn agents(&self, channel: &str) -> Result<Vec<AgentLine>, Problem> {
        let list = self.list("agents").await?;
        Ok(list.items.iter().filter_map(|agent| agent_line(agent, channel)).collect())
    }

    /// The jobs that there are.
    pub(super) async fn jobs(&self, channel: &str) -> Result<Vec<JobLine>, Problem> {
        let list = self.list("jobs").await?;
        Ok(list.items.iter().filter_map(|job| job_line(job, channel)).collect())
    }

    /// What an agent or a job asks for and nobody has answered, the oldest first.
    pub(super) async fn asks(&self, plural: &str, name: &str) -> Result<Vec<Ask>, Problem> {
        let path = format!("{}/{name}/approvals", collection(plural));
        let build = |request: RequestBuilder| request.timeout(ANSWER);
        let response = self.send(Method::GET, &path, build).await?;
        let list: Value =
            response.json().await.map_err(|error| Problem::Away(error.to_string()))?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(items.iter().filter_map(|row| Ask::read(name, row)).collect())
    }
}

fn collection(plural: &str) -> String {
    format!("/apis/opendispatch.dev/v1alpha1/{plural}")
}

pub(super) fn agent_line(agent: &Value, channel: &str) -> Option<AgentLine> {
    let status = &agent["status"];
    let turns = |member: &str| status["turns"][member].as_u64().unwrap_or_default();
    Some(AgentLine {
        name: agent["metadata"]["name"].as_str()?.to_owned(),
        phase: status["phase"].as_str().unwrap_or("Pending").to_owned(),
        queued: turns("queued"),
        busy: turns("running") > 0,
        waits: is_true(agent, "WaitingForApproval"),
        listens: is_here(&agent["spec"]["channels"], channel),
    })
}

pub(super) fn job_line(job: &Value, channel: &str) -> Option<JobLine> {
    Some(JobLine {
        name: job["metadata"]["name"].as_str()?.to_owned(),
        ended: is_true(job, "Complete") || is_true(job, "Failed"),
        waits: is_true(job, "WaitingForApproval"),
        reports: is_here(&job["spec"]["report"]["to"], channel),
    })
}

fn is_true(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice);
    conditions.unwrap_or_default().iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// Whether one of some places in chats is this terminal's channel.
fn is_here(places: &Value, channel: &str) -> bool {
    let places = places.as_array().map(Vec::as_slice).unwrap_or_default();
    places.iter().any(|place| place["console"]["channel"] == channel)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use axum::{Json, Router, extract::Query, routing};
    use futures::FutureExt as _;
    use serde_json::json;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::ambient::ManualClock;

    type Asked = Query<HashMap<String, String>>;

    /// A server that answers to questions about jobs.
    async fn server(jobs: routing::MethodRouter) -> Server {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a door");
        let address = door.local_addr().expect("an address");
        let router = Router::new().route(&collection("jobs"), jobs);
        tokio::spawn(async move { axum::serve(door, router).await });
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let url = format!("http://{address}").parse().expect("an address");
        Server::at(http, url, "token".to_owned())
    }

    fn page(Query(asked): Asked) -> Json<Value> {
        let limit: usize = asked["limit"].parse().expect("a number");
        let from = asked.get("continue").map_or(0, |token| token.parse().expect("a number"));
        let until = (from + limit).min(1_200);
        let job = |n: usize| json!({"metadata": {"name": format!("job-{n}")}});
        let mut metadata = json!({"resourceVersion": (7 + from).to_string()});
        if until < 1_200 {
            metadata["continue"] = json!(until.to_string());
        }
        Json(json!({"metadata": metadata, "items": (from..until).map(job).collect::<Vec<_>>()}))
    }

    #[tokio::test]
    async fn all_are_known_however_many_pages_they_fill() {
        let server = server(routing::get(async |asked: Asked| page(asked))).await;
        let list = server.list("jobs").await.unwrap_or_else(|why| panic!("{why:?}"));
        assert_eq!(list.items.len(), 1_200);
        assert_eq!(list.items[1_199]["metadata"]["name"], "job-1199");
        assert_eq!(list.revision, "7", "nothing that changed meanwhile is missed");
    }

    #[tokio::test]
    async fn a_watch_asks_to_be_told_how_far_it_is() {
        let jobs = routing::get(async |Query(asked): Asked| {
            let object = json!({"asked": asked.get("allowWatchBookmarks")});
            json!({"type": "ADDED", "object": object}).to_string() + "\n"
        });
        let server = server(jobs).await;
        let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let mut changes = server.watch("jobs", "7").await.unwrap_or_else(|why| panic!("{why:?}"));
        let (_, object) = changes.next(&clock).await.unwrap_or_else(|why| panic!("{why:?}"));
        assert_eq!(object["asked"], "true");
    }

    #[tokio::test]
    async fn a_watch_that_says_how_far_it_is_each_minute_lives_on() {
        let (here, mut there) = tokio::io::duplex(1024);
        let mut changes = Changes(Box::pin(tokio::io::BufReader::new(here)));
        let clock = ManualClock::at(jiff::Timestamp::UNIX_EPOCH);
        let mut next = std::pin::pin!(changes.next(&clock));
        for _ in 0..5 {
            assert!(next.as_mut().now_or_never().is_none());
            clock.advance(Duration::from_secs(60));
            assert!(next.as_mut().now_or_never().is_none(), "its bookmark is on its way");
            let bookmark = "{\"type\": \"BOOKMARK\", \"object\": {}}\n";
            there.write_all(bookmark.as_bytes()).await.expect("it is written");
        }
        assert!(next.as_mut().now_or_never().is_none());
        clock.advance(QUIET);
        assert!(next.await.is_err(), "one that says nothing at all is dead");
    }
}
