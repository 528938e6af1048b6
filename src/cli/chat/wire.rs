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
/// How long a stream may be silent; it shows that it lives every 15 s.
const SILENCE: Duration = Duration::from_secs(40);

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
            let mut event: Value = next_line(&mut self.0, clock).await?;
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
) -> Result<T, Problem> {
    let mut line = Vec::new();
    let read = tokio::select! {
        read = stream.read_until(b'\n', &mut line) => read,
        () = clock.sleep(SILENCE) => return Err(Problem::Away("the stream is silent".into())),
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
        next_line(&mut self.0, clock).await
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

    /// All of some kind, as the API names them.
    pub(super) async fn list(&self, plural: &str) -> Result<List, Problem> {
        let path = collection(plural);
        let build = |request: RequestBuilder| request.timeout(ANSWER).query(&[("limit", "500")]);
        let response = self.send(Method::GET, &path, build).await?;
        let mut list: Value =
            response.json().await.map_err(|error| Problem::Away(error.to_string()))?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let Value::Array(items) = list["items"].take() else {
            return Err(Problem::Away(format!("the list of {plural} has no items")));
        };
        Ok(List { revision, items })
    }

    /// What changes behind a revision of a list.
    pub(super) async fn watch(&self, plural: &str, revision: &str) -> Result<Changes, Problem> {
        let query = [("watch", "1"), ("resourceVersion", revision)];
        let build = |request: RequestBuilder| request.query(&query);
        let response = self.send(Method::GET, &collection(plural), build).await?;
        let bytes = response.bytes_stream().map_err(std::io::Error::other);
        Ok(Changes(Box::pin(StreamReader::new(bytes))))
    }

    /// The agents that there are, some hundreds of them at most.
    pub(super) async fn agents(&self, channel: &str) -> Result<Vec<AgentLine>, Problem> {
        let list = self.list("agents").await?;
        Ok(list.items.iter().filter_map(|agent| agent_line(agent, channel)).collect())
    }

    /// The jobs that there are, some hundreds of them at most.
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
