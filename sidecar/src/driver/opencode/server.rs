//! The server process, and the talk with it.
//!
//! One task talks: it waits until the server listens, hears its events, opens the session, and
//! then does what the machine decides ([`Call`]s), one after the other, so that an interrupt never
//! overtakes its prompt. All that comes of it goes to the hands as [`News`].

use std::{collections::BTreeSet, time::Duration};

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{process::Child, sync::mpsc, task::JoinSet, time::timeout};

use super::{
    http::{self, Client, Events},
    protocol::Event,
    rules::{self, Rule},
    session::Call,
};
use crate::{
    ambient,
    driver::pipes,
    process::{self, Launch},
};

/// How long the server may take until it listens, on a machine that is busy.
const LISTENS_WITHIN: Duration = Duration::from_secs(90);
/// How long an answer may take. The first one loads the project's plug-ins.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// How long until a session that seems idle is looked at.
const CHECK_AFTER: Duration = Duration::from_millis(250);
/// How long until a stream of events that broke is begun anew.
const HEAR_AGAIN: Duration = Duration::from_millis(200);
/// How many pieces of news may wait for the hands.
const NEWS_DEPTH: usize = 256;
/// How many messages are read anew after a gap in the events.
const MESSAGES: u32 = 100;
/// How the server says where it listens.
const LISTENING: &str = "listening on http://";

/// What the server is to be for this run.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// The password that it was started with.
    pub password: String,
    /// The session to go on with.
    pub session: Option<String>,
    /// A new session's title. With one, no model is asked for it.
    pub title: String,
    /// The model, as its provider and its name.
    pub model: Option<(String, String)>,
    /// OpenCode's agent.
    pub agent: Option<&'static str>,
    /// Appended to the system prompt.
    pub instructions: Option<String>,
    /// The rules of the run's mode.
    pub rules: Vec<Rule>,
    /// Whether the mode allows whatever the person's own rules do not deny.
    pub is_bypass: bool,
}

/// What comes of the server.
#[derive(Debug)]
pub(super) enum News {
    /// A session is open; where one was to be gone on with and is not there, it is a new one.
    Opened {
        /// Its id.
        session: String,
        /// The one that is not there any more.
        gone: Option<String>,
    },
    /// It cannot be spoken with.
    Unusable(String),
    /// It has loaded what a turn needs.
    Warm,
    /// It says something.
    Event(Event),
    /// Some events were missed.
    Missed,
    /// Only these requests wait.
    Waiting(BTreeSet<String>),
    /// It did not do this.
    Refused(Call, String),
    /// Whether the session works at this turn.
    Checked(String, bool),
    /// It has ended all that it had begun.
    Disposed,
}

/// What the hands ask of the talk.
#[derive(Debug)]
enum Wish {
    Call(Call),
    Dispose,
}

/// A server that was started.
pub(super) struct Server {
    pub child: Child,
    pub news: mpsc::Receiver<News>,
    pub errors: pipes::Lines,
    wishes: mpsc::UnboundedSender<Wish>,
    /// Ends with the server.
    _talk: JoinSet<()>,
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// What kept it from starting.
    pub(super) fn start(launch: &Launch, terms: Terms) -> std::io::Result<Self> {
        let mut child = process::start(launch)?;
        drop(child.stdin.take());
        // Of neither is more told than the last words.
        let lines = pipes::lines(child.stdout.take(), None);
        let errors = pipes::lines(child.stderr.take(), None);
        let (sender, news) = mpsc::channel(NEWS_DEPTH);
        let (wishes, wanted) = mpsc::unbounded_channel();
        let mut talk = JoinSet::new();
        talk.spawn(converse(lines, terms, wanted, sender));
        Ok(Self { child, news, errors, wishes, _talk: talk })
    }

    /// Asks for something, once all before it is done.
    pub(super) fn call(&self, call: Call) {
        // A talk that is over has told why.
        let _ = self.wishes.send(Wish::Call(call));
    }

    /// Asks it to end all that it has begun, tools among it.
    pub(super) fn dispose(&self) {
        let _ = self.wishes.send(Wish::Dispose);
    }

    /// The bytes of memory that it takes, where the kernel tells.
    pub(super) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib.saturating_mul(1024))
    }
}

impl Drop for Server {
    /// A driver that is given up leaves no server behind.
    fn drop(&mut self) {
        if let Some(leader) = self.child.id() {
            process::signal_group(leader, Signal::KILL);
        }
    }
}

async fn converse(
    lines: pipes::Lines,
    terms: Terms,
    mut wishes: mpsc::UnboundedReceiver<Wish>,
    news: mpsc::Sender<News>,
) {
    // What listens, warms up and looks ends with the talk.
    let mut beside = JoinSet::new();
    let (client, session) = match open(lines, &terms, &news, &mut beside).await {
        Ok(opened) => opened,
        Err(why) => {
            let _ = news.send(News::Unusable(why)).await;
            return;
        }
    };
    while let Some(wish) = wishes.recv().await {
        match wish {
            Wish::Call(Call::Check { turn }) => {
                beside.spawn(check(client.clone(), session.clone(), turn, news.clone()));
            }
            Wish::Call(call) => {
                if let Err(why) = perform(&client, &session, &terms, &call).await {
                    let _ = news.send(News::Refused(call, why)).await;
                }
            }
            Wish::Dispose => {
                let _ = client.demand("POST", "/global/dispose", None, ANSWERS_WITHIN).await;
                let _ = news.send(News::Disposed).await;
            }
        }
    }
}

/// Waits until the server listens, and opens the session.
async fn open(
    mut lines: pipes::Lines,
    terms: &Terms,
    news: &mpsc::Sender<News>,
    beside: &mut JoinSet<()>,
) -> Result<(Client, String), String> {
    let address = timeout(LISTENS_WITHIN, async {
        while let Some(line) = lines.recv().await {
            let line = String::from_utf8_lossy(&line);
            if let Some((_, address)) = line.split_once(LISTENING) {
                return Some(address.trim().trim_end_matches('/').to_owned());
            }
        }
        None
    })
    .await
    .map_err(|_| format!("it did not listen within {} s", LISTENS_WITHIN.as_secs()))?
    .ok_or("it ended before it listened")?;
    // What else it prints says nothing, and must not fill the pipe.
    beside.spawn(async move { while lines.recv().await.is_some() {} });

    let client = Client::new(&address, &terms.password);
    let events = client.stream("/event").await?;
    let (session, gone) = find_session(&client, terms).await?;
    beside.spawn(hear(client.clone(), session.clone(), events, news.clone()));
    let _ = news.send(News::Opened { session: session.clone(), gone }).await;
    let (warming, told) = (client.clone(), news.clone());
    beside.spawn(async move {
        // A harmless question, for which it loads all that a turn needs.
        let _ = warming.ask("GET", "/config/providers", None, ANSWERS_WITHIN).await;
        let _ = told.send(News::Warm).await;
    });
    Ok((client, session))
}

/// The session to go on with, or a new one; and the one that is not there any more.
async fn find_session(client: &Client, terms: &Terms) -> Result<(String, Option<String>), String> {
    if let Some(id) = terms.session.as_ref().filter(|id| is_session_id(id)) {
        let path = format!("/session/{id}");
        match client.ask("GET", &path, None, ANSWERS_WITHIN).await? {
            (StatusCode::NOT_FOUND, _) => {}
            (status, answer) if status.is_success() => {
                renew_rules(client, terms, id, &answer).await?;
                return Ok((id.clone(), None));
            }
            (status, answer) => return Err(http::refusal(status, &answer)),
        }
    }
    let mut body = json!({"title": terms.title});
    if !terms.is_bypass {
        body["permission"] = Rule::write(&session_rules(client, terms).await?);
    }
    let made = client.demand("POST", "/session", Some(&body), ANSWERS_WITHIN).await?;
    match made["id"].as_str() {
        Some(id) => Ok((id.to_owned(), terms.session.clone())),
        None => Err("it made a session without an id".to_owned()),
    }
}

/// Lays the rules of this run behind those that the session has of the last one. In a session
/// that never had any, the person's own are all there is where the mode says nothing but yes.
async fn renew_rules(
    client: &Client,
    terms: &Terms,
    id: &str,
    session: &Value,
) -> Result<(), String> {
    let held = Rule::read(&session["permission"]).unwrap_or_default();
    if held.is_empty() && terms.is_bypass {
        return Ok(());
    }
    let rules = session_rules(client, terms).await?;
    if held.ends_with(&rules) {
        return Ok(());
    }
    let body = json!({"permission": Rule::write(&rules)});
    client.demand("PATCH", &format!("/session/{id}"), Some(&body), ANSWERS_WITHIN).await.map(drop)
}

/// The rules that the session is to decide by.
async fn session_rules(client: &Client, terms: &Terms) -> Result<Vec<Rule>, String> {
    let agents = client.demand("GET", "/agent", None, ANSWERS_WITHIN).await?;
    Ok(rules::kept(&terms.rules, &rules::of_agent(&agents, terms.agent)?))
}

/// Whether it is an id of OpenCode's, and not another CLI's. OpenCode fails on those.
fn is_session_id(id: &str) -> bool {
    let rest = id.strip_prefix("ses_").unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Does what the machine decided.
async fn perform(client: &Client, session: &str, terms: &Terms, call: &Call) -> Result<(), String> {
    let (path, body) = match call {
        Call::Prompt { message, text } => {
            let mut body = json!({"messageID": message, "parts": [{"type": "text", "text": text}]});
            if let Some((provider, model)) = &terms.model {
                body["model"] = json!({"providerID": provider, "modelID": model});
            }
            if let Some(agent) = terms.agent {
                body["agent"] = json!(agent);
            }
            if let Some(instructions) = &terms.instructions {
                body["system"] = json!(instructions);
            }
            (format!("/session/{session}/prompt_async"), body)
        }
        Call::Abort => (format!("/session/{session}/abort"), json!({})),
        Call::Permit { request, refusal } => {
            let body = match refusal {
                None => json!({"reply": "once"}),
                Some(words) => json!({"reply": "reject", "message": words}),
            };
            (format!("/permission/{request}/reply"), body)
        }
        Call::Reply { request, answers } => {
            (format!("/question/{request}/reply"), json!({"answers": answers}))
        }
        Call::Check { .. } => return Ok(()),
    };
    client.demand("POST", &path, Some(&body), ANSWERS_WITHIN).await.map(drop)
}

/// Looks whether the session works, after a short while.
async fn check(client: Client, session: String, turn: String, news: mpsc::Sender<News>) {
    ambient::sleep(CHECK_AFTER).await;
    let answer = match works(&client, &session).await {
        Ok(works) => News::Checked(turn, works),
        Err(why) => News::Refused(Call::Check { turn }, why),
    };
    let _ = news.send(answer).await;
}

async fn works(client: &Client, session: &str) -> Result<bool, String> {
    let states = client.demand("GET", "/session/status", None, ANSWERS_WITHIN).await?;
    Ok(states.get(session).is_some_and(|state| state["type"] != "idle"))
}

/// Hears the server's events, for as long as somebody listens. They are not told again after a
/// break, so that then what stands is read instead.
async fn hear(
    client: Client,
    session: String,
    mut body: hyper::body::Incoming,
    news: mpsc::Sender<News>,
) {
    loop {
        let mut events = Events::default();
        while let Some(Ok(frame)) = body.frame().await {
            let Some(bytes) = frame.data_ref() else { continue };
            for data in events.take(bytes) {
                let event = Event::read(&data);
                if event != Event::Other && news.send(News::Event(event)).await.is_err() {
                    return;
                }
            }
        }
        body = loop {
            ambient::sleep(HEAR_AGAIN).await;
            if news.is_closed() {
                return;
            }
            if let Ok(body) = client.stream("/event").await {
                break body;
            }
        };
        // What cannot be read is heard with the events that follow.
        let _ = catch_up(&client, &session, &news).await;
    }
}

/// Tells what stands, as events.
async fn catch_up(client: &Client, session: &str, news: &mpsc::Sender<News>) -> Result<(), String> {
    let get = async |path: &str| client.demand("GET", path, None, ANSWERS_WITHIN).await;
    let messages = get(&format!("/session/{session}/message?limit={MESSAGES}")).await?;
    let (permissions, questions) = (get("/permission").await?, get("/question").await?);
    let works = works(client, session).await?;

    let (mut told, mut waiting) = (Vec::new(), BTreeSet::new());
    for message in list(&messages) {
        told.push(Event::message(&message["info"]));
        told.extend(list(&message["parts"]).iter().map(Event::part));
    }
    for event in list(&permissions).iter().map(Event::permission) {
        if let Event::Asked(request) = &event {
            waiting.insert(request.id.clone());
        }
        told.push(event);
    }
    for event in list(&questions).iter().map(Event::question) {
        if let Event::Questioned { request, .. } = &event {
            waiting.insert(request.clone());
        }
        told.push(event);
    }
    let status = if works { super::protocol::Status::Busy } else { super::protocol::Status::Idle };
    told.push(Event::Status { session: session.to_owned(), status });
    let told = told.into_iter().map(News::Event);
    for news_of in told.chain([News::Waiting(waiting), News::Missed]) {
        let _ = news.send(news_of).await;
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_other_clis_are_none_of_opencodes() {
        assert!(is_session_id("ses_e02211e1fferAm4sR3fV1XQvt"));
        for id in ["", "ses_", "0b6cbd1c-7f5e-4b6e-9d3c-2f1f9a3f9d10", "ses_a/../b", "ses_ü"] {
            assert!(!is_session_id(id), "{id}");
        }
    }
}
